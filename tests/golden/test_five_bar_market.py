"""A market of five bars whose every number is worked out by hand, for the engine and for the reference loop."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from qtrade.backtest.costs import BacktestConfig, CostConfig
from qtrade.backtest.engine import simulate
from qtrade.backtest.reference import simulate_by_hand
from qtrade.types import BacktestResult, Bars

Simulator = Callable[[Bars, pd.DataFrame, BacktestConfig], BacktestResult]

INDEX = pd.date_range("2024-01-01", periods=5, tz="UTC")
CONFIG = BacktestConfig(cash=1000, costs=CostConfig(fees_bps=100, slippage_bps=1000))

both = pytest.mark.parametrize("run", [simulate, simulate_by_hand], ids=["engine", "reference"])


def market(opens: dict[str, list[float]], closes: dict[str, list[float]]) -> Bars:
    first, last = pd.DataFrame(opens, index=INDEX), pd.DataFrame(closes, index=INDEX)
    return Bars(
        open=first,
        high=first.where(first > last, last),
        low=first.where(first < last, last),
        close=last,
        volume=first * 0,
        interval="1d",
        calendar="24/7",
        periods_per_year=365,
    )


@both
def test_long_then_flat_then_short(run: Simulator) -> None:
    bars = market({"A": [10, 10, 20, 25, 20]}, {"A": [10, 20, 20, 20, 40]})
    weights = pd.DataFrame({"A": [0.55, 0.55, 0.0, -0.5, 1.0]}, index=INDEX)

    result = run(bars, weights, CONFIG)

    # Bar 1: 55 % of 1000 at the open of 10 is 55 units, bought at 11: 605 and a fee of 6.05 leave 388.95.
    # Bar 2: the weight did not change, so nothing is traded, although the share held has drifted.
    # Bar 3: 55 units sold at 25 - 10 % = 22.50: 1237.50 less a fee of 12.375.
    # Bar 4: -50 % of 1614.075 at 20 is -40.351875 units, sold at 18: 726.33375 less a fee of 7.2633375.
    # The weight of bar 4 would be filled in bar 5, which does not exist.
    assert result.trades["bar"].tolist() == [INDEX[1], INDEX[3], INDEX[4]]
    assert result.trades["symbol"].tolist() == ["A", "A", "A"]
    assert result.trades["size"].tolist() == pytest.approx([55, -55, -40.351875], rel=1e-12)
    assert result.trades["price"].tolist() == pytest.approx([11, 22.5, 18], rel=1e-12)
    assert result.trades["fees"].tolist() == pytest.approx([6.05, 12.375, 7.2633375], rel=1e-12)
    assert result.trades["slippage"].tolist() == pytest.approx([55, 137.5, 80.70375], rel=1e-12)

    assert result.equity.tolist() == pytest.approx([1000, 1488.95, 1488.95, 1614.075, 719.0704125], rel=1e-12)
    gross = [0, 550 / 1000, 0, 275 / 1488.95, -0.5]
    cost = [0, 61.05 / 1000, 0, 149.875 / 1488.95, 87.9670875 / 1614.075]
    assert result.gross.tolist() == pytest.approx(gross, rel=1e-12, abs=1e-14)
    assert result.cost.tolist() == pytest.approx(cost, rel=1e-12)
    held = [0, 1100 / 1488.95, 1100 / 1488.95, 0, -1614.075 / 719.0704125]
    assert result.held["A"].tolist() == pytest.approx(held, rel=1e-12)


@both
def test_a_full_position_buys_what_cash_covers_and_a_sell_pays_for_a_buy(run: Simulator) -> None:
    # The buy stands in the first column, so it fails unless the sell in the second goes first.
    flat = {"B": [20.0] * 5, "A": [10.0] * 5}
    bars = market(flat, flat)
    weights = pd.DataFrame({"B": [0.0, 1, 1, 1, 1], "A": [1.0, 0, 0, 0, 0]}, index=INDEX)

    result = run(bars, weights, BacktestConfig(cash=1010, costs=CostConfig(fees_bps=100, slippage_bps=0)))

    # Bar 1: 101 units are wanted, but 1010 in cash pays for 100 and their fee of 10.
    # Bar 2: 100 units sold bring 990; 50 units are wanted, but 990 pays for 990 / 1.01 / 20.
    assert result.trades["symbol"].tolist() == ["A", "A", "B"]
    assert result.trades["size"].tolist() == pytest.approx([100, -100, 990 / 1.01 / 20], rel=1e-12)
    assert result.trades["fees"].tolist() == pytest.approx([10, 10, 990 - 990 / 1.01], rel=1e-12)
    equity = [1010, 1000, 990 / 1.01, 990 / 1.01, 990 / 1.01]
    assert result.equity.tolist() == pytest.approx(equity, rel=1e-12)
    assert result.gross.tolist() == pytest.approx([0] * 5, abs=1e-12)


@both
def test_a_longer_delay_fills_later(run: Simulator) -> None:
    bars = market({"A": [10, 10, 20, 25, 20]}, {"A": [10, 20, 20, 20, 40]})
    weights = pd.DataFrame({"A": [0.5, 0.5, 0.0, 0.0, 0.0]}, index=INDEX)

    result = run(bars, weights, BacktestConfig(cash=1000, delay=2, costs=CostConfig(fees_bps=0, slippage_bps=0)))

    # Bar 2: 25 units at 20; bar 4: sold at its open of 20, before the close of 40.
    assert result.trades["bar"].tolist() == [INDEX[2], INDEX[4]]
    assert result.trades["size"].tolist() == pytest.approx([25, -25], rel=1e-12)
    assert result.equity.tolist() == pytest.approx([1000] * 5, rel=1e-12)
    assert result.gross.tolist() == pytest.approx([0, 0, 0, 0, 0], abs=1e-14)

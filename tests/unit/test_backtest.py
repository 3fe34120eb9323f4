"""What the engine refuses, and the rules of `qtrade.backtest.engine` one at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from qtrade.backtest import engine
from qtrade.backtest.costs import BacktestConfig, CostConfig
from qtrade.backtest.engine import simulate
from qtrade.backtest.reference import simulate_by_hand
from qtrade.errors import IntegrityError, UsageError
from qtrade.types import Bars


def make_bars(closes: list[list[float]], gap: float = 1.0) -> Bars:
    """Bars of symbols A, B, ...; each opens at `gap` times the close before."""
    close = pd.DataFrame(
        closes, index=pd.date_range("2024-01-01", periods=len(closes), tz="UTC"), columns=list("ABC")[: len(closes[0])]
    )
    opens = (close.shift() * gap).fillna(close)
    return Bars(
        open=opens,
        high=opens.where(opens > close, close),
        low=opens.where(opens < close, close),
        close=close,
        volume=close * 0,
        interval="1d",
        calendar="24/7",
        periods_per_year=365,
    )


def frame(bars: Bars, weights: list[list[float]]) -> pd.DataFrame:
    return pd.DataFrame(weights, index=bars.index, columns=bars.close.columns)


def test_a_delay_below_one_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        BacktestConfig(delay=0)


@pytest.mark.parametrize("field", ["fees_bps", "slippage_bps"])
def test_negative_costs_are_refused(field: str) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        CostConfig(**{field: -1})


def test_an_unchanged_weight_is_not_traded_again() -> None:
    bars = make_bars([[10], [12], [8], [16], [10]])
    result = simulate(bars, frame(bars, [[0.5]] * 5), BacktestConfig())
    assert len(result.trades) == 1
    assert result.trades["bar"][0] == bars.index[1]


def test_no_weight_means_no_trade_and_an_untouched_account() -> None:
    bars = make_bars([[10, 5], [12, 4], [8, 3]])
    result = simulate(bars, frame(bars, [[0, 0]] * 3), BacktestConfig(cash=5000))
    assert len(result.trades) == 0
    assert list(result.trades.columns) == ["bar", "symbol", "size", "price", "fees", "slippage"]
    assert result.equity.tolist() == [5000, 5000, 5000]


@pytest.mark.parametrize("cash", [0.0, 0.99, math.inf])
def test_an_account_that_could_not_trade_is_refused(cash: float) -> None:
    with pytest.raises(ValidationError, match="cash"):
        BacktestConfig(cash=cash)


def test_decisions_that_the_data_end_before_are_not_filled() -> None:
    bars = make_bars([[10], [12], [8]])
    trades = simulate(bars, frame(bars, [[1], [0], [-1]]), BacktestConfig(delay=2)).trades
    assert trades["bar"].tolist() == [bars.index[2]]


@pytest.mark.parametrize("run", [simulate, simulate_by_hand], ids=["engine", "reference"])
@pytest.mark.parametrize("length", [1, 3])
def test_a_delay_that_leaves_no_bar_to_fill_in_is_refused(run: Any, length: int) -> None:
    bars = make_bars([[10]] * length)
    with pytest.raises(UsageError, match=f"backtest.delay is {length}") as caught:
        run(bars, frame(bars, [[1]] * length), BacktestConfig(delay=length))
    assert f"{length} bar" in str(caught.value)


def test_free_trading_has_no_cost() -> None:
    bars = make_bars([[10], [12], [8]])
    free = BacktestConfig(costs=CostConfig(fees_bps=0, slippage_bps=0))
    result = simulate(bars, frame(bars, [[1], [-1], [0]]), free)
    assert (result.cost == 0).all()
    assert result.gross.equals(result.net.rename("gross"))


def test_weights_are_not_changed() -> None:
    bars = make_bars([[10], [12], [8]])
    weights = frame(bars, [[1], [-1], [0]])
    before = weights.copy()
    simulate(bars, weights, BacktestConfig())
    pd.testing.assert_frame_equal(weights, before)


@pytest.mark.parametrize("run", [simulate, simulate_by_hand])
def test_a_ruined_account_is_an_error_that_names_the_bar(run: Any) -> None:
    bars = make_bars([[10], [10], [25], [25]])
    with pytest.raises(UsageError, match=r"ruined: it is worth -.* at 2024-01-03") as caught:
        run(bars, frame(bars, [[-1], [-1], [-1], [-1]]), BacktestConfig())
    assert caught.value.exit_code == 2


def test_weights_of_other_bars_are_a_programming_error() -> None:
    bars = make_bars([[10], [12], [8]])
    weights = frame(bars, [[1], [1], [1]])
    with pytest.raises(ValueError, match="do not share"):
        simulate(bars, weights[:2], BacktestConfig())
    with pytest.raises(ValueError, match="finite"):
        simulate(bars, frame(bars, [[1], [np.nan], [1]]), BacktestConfig())


def test_equity_is_what_vectorbt_says_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    portfolios = []
    original = engine._portfolio

    def spy(*arguments: Any) -> Any:
        portfolios.append(original(*arguments))
        return portfolios[-1]

    monkeypatch.setattr(engine, "_portfolio", spy)
    generator = np.random.default_rng(1)
    bars = make_bars((10 * np.exp(generator.normal(0, 0.1, (60, 2)).cumsum(axis=0))).tolist())
    result = simulate(bars, frame(bars, generator.uniform(-0.5, 0.5, (60, 2)).tolist()), BacktestConfig())
    assert result.equity.tolist() == pytest.approx(portfolios[0].value().tolist(), rel=1e-12)
    assert np.prod(result.net.to_numpy() + 1) * 100_000 == pytest.approx(result.equity.iloc[-1], rel=1e-12)


def test_gate_stops_a_fill_in_the_bar_of_its_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_orders", lambda decided, delay: np.where(engine._changes(decided), decided, np.nan))
    bars = make_bars([[10], [12], [8], [9]])
    with pytest.raises(IntegrityError, match=r"A at the open of 2024-01-02.* does not follow a decision") as caught:
        simulate(bars, frame(bars, [[0], [1], [1], [0]]), BacktestConfig())
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("slip", [-1, 1])
def test_gate_stops_a_fill_of_another_decision_though_every_bar_decides(
    monkeypatch: pytest.MonkeyPatch, slip: int
) -> None:
    on_time = engine._orders
    monkeypatch.setattr(engine, "_orders", lambda decided, delay: on_time(decided, delay + slip))
    bars = make_bars([[10], [12], [8], [9], [10]])
    with pytest.raises(IntegrityError, match="does not follow a decision made 2 bars earlier"):
        simulate(bars, frame(bars, [[0.1], [0.2], [0.3], [0.4], [0.5]]), BacktestConfig(delay=2))


def test_gate_stops_a_fill_that_is_not_at_the_open(monkeypatch: pytest.MonkeyPatch) -> None:
    original = engine._portfolio
    monkeypatch.setattr(
        engine,
        "_portfolio",
        lambda bars, orders, config: original(replace(bars, open=bars.close), orders, config),
    )
    bars = make_bars([[10], [12], [8], [9]])
    with pytest.raises(IntegrityError, match=r"the fill of A at the open of 2024-01-02.* missed it"):
        simulate(bars, frame(bars, [[1], [1], [1], [0]]), BacktestConfig())

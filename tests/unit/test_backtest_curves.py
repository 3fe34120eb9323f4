"""What costs and delays leave of a strategy: against markets in which that is known."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from qtrade.backtest.costs import BacktestConfig, CostConfig
from qtrade.backtest.curves import COST_BPS, DELAYS, cost_curve, delay_curve
from qtrade.backtest.engine import simulate
from qtrade.backtest.exits import Exits
from qtrade.backtest.metrics import metrics
from qtrade.types import Bars


def make_market(bars: int = 400, seed: int = 2) -> Bars:
    """One symbol that opens where it closed, so that fills at an open and at the close before it are the same."""
    close = 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, bars)))
    opens = np.concatenate([[100.0], close[:-1]])
    index = pd.date_range("2022-01-01", periods=bars, tz="UTC")

    def frame(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> pd.DataFrame:
        return pd.DataFrame(values[:, None], index=index, columns=["A"])

    return Bars(
        open=frame(opens),
        high=frame(np.maximum(opens, close)),
        low=frame(np.minimum(opens, close)),
        close=frame(close),
        volume=frame(0 * close),
        interval="1d",
        calendar="24/7",
        periods_per_year=365,
    )


def foresight(bars: Bars) -> pd.DataFrame:
    """Hold what rises in the very next bar, and nothing else."""
    return (bars.close.shift(-1) > bars.close).astype(float)


def account(**changes: object) -> BacktestConfig:
    return BacktestConfig.model_validate({"costs": {"fees_bps": 1, "slippage_bps": 1}} | changes)


def test_costs_of_fills_take_what_they_should() -> None:
    bars = make_market()
    weights = foresight(bars)
    free, dear = cost_curve(bars, weights, account(), bps=(0, 10))
    assert free.net_annual_return > dear.net_annual_return
    turnover = metrics(simulate(bars, weights, account()), bars.periods_per_year).turnover_per_year
    # Fees are taken from the account before the price moves on, which is worth second-order terms.
    assert free.net_annual_return - dear.net_annual_return == pytest.approx(turnover * 0.001, rel=0.02)


def test_the_curve_falls_and_crosses_zero_at_the_break_even() -> None:
    bars = make_market()
    weights = foresight(bars).rolling(5).mean().round(1).fillna(0.0)
    points = cost_curve(bars, weights, account())
    assert [point.bps for point in points] == list(COST_BPS)
    assert all(later.net_annual_return < earlier.net_annual_return for earlier, later in pairwise(points))
    assert all(later.sharpe < earlier.sharpe for earlier, later in pairwise(points))
    even = metrics(simulate(bars, weights, account()), 365).breakeven_cost_bps
    assert abs(cost_curve(bars, weights, account(), bps=[even])[0].net_annual_return) < 0.02 * abs(
        points[0].net_annual_return
    )


def test_a_point_at_the_assumed_fee_is_the_backtest_itself() -> None:
    bars = make_market()
    config = account(costs={"fees_bps": 5, "slippage_bps": 0, "fixed_fee": 2.0, "borrow_bps": 300})
    weights = foresight(bars) * 2 - 1
    (point,) = cost_curve(bars, weights, config, bps=[5])
    found = metrics(simulate(bars, weights, config), 365)
    assert (point.sharpe, point.sharpe_se) == (found.sharpe, found.sharpe_se)
    assert point.net_annual_return == found.net_annual_return
    # Fixed fees and borrowing are still paid where fills are otherwise free.
    bare = account(costs=CostConfig(fees_bps=0, slippage_bps=0))
    assert cost_curve(bars, weights, config, bps=[0])[0].sharpe < cost_curve(bars, weights, bare, bps=[0])[0].sharpe


def test_foresight_of_one_bar_is_gone_a_bar_later() -> None:
    bars = make_market()
    at_once, next_open, second, third = delay_curve(bars, foresight(bars), account(), draws=199, seed=1)
    assert [point.delay for point in (at_once, next_open, second, third)] == list(DELAYS)
    assert [point.fill for point in (at_once, next_open, second, third)] == ["close", "open", "open", "open"]
    # Here the next open is the close that decides: the same fills, though their costs fall into the bar before.
    assert at_once.sharpe == pytest.approx(next_open.sharpe, rel=0.01)
    assert next_open.difference is None
    assert second.difference is not None
    assert second.difference.difference == pytest.approx(second.sharpe - next_open.sharpe)
    assert second.difference.high < 0
    assert second.difference.p < 0.05


def test_the_configured_delay_is_the_backtest_itself_and_the_others_keep_its_fill() -> None:
    bars = make_market()
    config = account(delay=2, fill="close")
    points = delay_curve(bars, foresight(bars), config, draws=50, seed=1)
    assert [point.fill for point in points] == ["close"] * 4
    assert [point.difference is None for point in points] == [False, False, True, False]
    found = metrics(simulate(bars, foresight(bars), config), 365)
    assert (points[2].sharpe, points[2].net_annual_return) == (found.sharpe, found.net_annual_return)


def test_exits_are_traded_in_every_point() -> None:
    bars = make_market()
    weights = pd.DataFrame(np.arange(400)[:, None] // 10 % 2 * 1.0, index=bars.index, columns=["A"])
    nowhere = bars.close * math.nan
    stop_at_once = Exits(bars.close * 0.999, nowhere, nowhere, nowhere)
    config = account()
    for without, stopped in (
        (cost_curve(bars, weights, config, bps=[1]), cost_curve(bars, weights, config, stop_at_once, bps=[1])),
        (
            delay_curve(bars, weights, config, delays=[2], draws=20, seed=1),
            delay_curve(bars, weights, config, stop_at_once, delays=[2], draws=20, seed=1),
        ),
    ):
        assert without[0].net_annual_return != stopped[0].net_annual_return


def test_delays_that_leave_no_bar_to_fill_in_are_left_out() -> None:
    bars = make_market(3)
    points = delay_curve(bars, foresight(bars), account(), draws=20, seed=1)
    assert [point.delay for point in points] == [0, 1, 2]


def test_a_strategy_that_never_trades_has_points_without_ratios() -> None:
    bars = make_market(100)
    idle = bars.close * 0.0
    point = cost_curve(bars, idle, account(), bps=[5])[0].to_dict()
    assert point == {"bps": 5.0, "sharpe": None, "sharpe_se": None, "net_annual_return": 0.0}
    late = delay_curve(bars, idle, account(), delays=[2], draws=20, seed=1)[0].to_dict()
    assert late["sharpe_difference"] is None
    assert json.dumps([point, late], allow_nan=False)

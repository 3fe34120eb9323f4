"""Metrics against numbers worked out apart from them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from qtrade.backtest.metrics import metrics, sharpe_ratio
from qtrade.types import BacktestResult


def make_result(
    gross: list[float],
    cost: list[float] | None = None,
    fills: list[tuple[int, float, float]] | None = None,
    held: float = 0.0,
    start: float = 1000.0,
) -> BacktestResult:
    """A result with the given returns; fills are (bar, units, price)."""
    index = pd.date_range("2024-01-01", periods=len(gross), tz="UTC")
    first = pd.Series(gross, index=index, dtype=float)
    second = pd.Series(cost or [0.0] * len(gross), index=index, dtype=float)
    net = first - second
    trades = pd.DataFrame(
        [(index[bar], "A", size, price, 0.0, 0.0) for bar, size, price in fills or []],
        columns=["bar", "symbol", "size", "price", "fees", "slippage"],
    )
    weights = pd.DataFrame(held, index=index, columns=["A"])
    return BacktestResult(
        decided=weights,
        held=weights,
        gross=first,
        cost=second,
        net=net,
        equity=start * (1 + net).cumprod(),
        trades=trades,
    )


def test_a_year_of_four_bars_by_hand() -> None:
    # Net returns 0, 0.5, -0.5, 0.4: the account goes 1000, 1500, 750, 1050.
    result = make_result([0.0, 0.6, -0.5, 0.4], [0.0, 0.1, 0.0, 0.0], fills=[(1, 50, 20.0), (3, -15, 50.0)], held=-0.5)
    found = metrics(result, periods_per_year=2)
    assert (found.bars, found.years, found.trades) == (4, 2, 2)
    assert found.total_return == pytest.approx(0.05)
    assert found.cagr == pytest.approx(math.sqrt(1.05) - 1)
    assert found.gross_annual_return == pytest.approx(0.5 / 4 * 2)
    assert found.cost_annual == pytest.approx(0.1 / 4 * 2)
    assert found.net_annual_return == pytest.approx(0.4 / 4 * 2)
    # Mean 0.1; deviations -0.1, 0.4, -0.6, 0.3 have squares that sum to 0.62.
    assert found.annual_volatility == pytest.approx(math.sqrt(0.62 / 3 * 2))
    assert found.sharpe == pytest.approx(0.1 / math.sqrt(0.62 / 3) * math.sqrt(2))
    # From 1500 down to 750, and never back: bars 1 to 3.
    assert found.max_drawdown == pytest.approx(0.5)
    assert found.max_drawdown_bars == 2
    # 1000 of 1000 in bar 1, 750 of 750 in bar 3: 2 in two years.
    assert found.turnover_per_year == pytest.approx(1)
    assert found.exposure == pytest.approx(0.5)
    # Gross 0.5 and costs 0.1 in all, on a turnover of 2.
    assert found.breakeven_cost_bps == pytest.approx(0.5 / 2 * 1e4)
    assert found.paid_cost_bps == pytest.approx(0.1 / 2 * 1e4)
    assert found.hit_rate == pytest.approx(2 / 3)


def test_sharpe_is_mean_over_deviation_and_its_interval_is_95_percent() -> None:
    returns = np.random.default_rng(2).standard_t(4, 1500) * 0.01 + 0.0005
    found = metrics(make_result(returns.tolist()), 252)
    series = pd.Series(returns)
    assert found.sharpe == pytest.approx(series.mean() / series.std() * math.sqrt(252), rel=1e-12)
    ratio = series.mean() / series.std()
    skew, kurtosis = stats.skew(returns), stats.kurtosis(returns, fisher=False)
    per_bar = math.sqrt((1 + ratio**2 / 2 - skew * ratio + (kurtosis - 3) / 4 * ratio**2) / 1500)
    assert found.sharpe_se == pytest.approx(per_bar * math.sqrt(252), rel=1e-12)
    assert (found.sharpe_high - found.sharpe_low) / 2 == pytest.approx(stats.norm.ppf(0.975) * found.sharpe_se)


def test_standard_error_of_sharpe_is_the_spread_over_repeated_samples() -> None:
    # Losses are rarer and larger than gains: with the terms for skew and tails left out, the error would be half.
    draws = 1.8 - np.random.default_rng(3).lognormal(0, 0.6, (4000, 500))
    found = np.array([sharpe_ratio(sample, 1) for sample in draws])
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.1)


@pytest.mark.parametrize("value", [0.0, 0.001])
def test_returns_that_do_not_vary_have_no_sharpe(value: float) -> None:
    found = metrics(make_result([value] * 10), 252)
    assert math.isnan(found.sharpe)
    assert math.isnan(found.sharpe_se)
    assert math.isnan(found.sharpe_low)


def test_growth_too_large_for_a_number_is_undefined() -> None:
    # 900 one-minute bars that rise 0.4 % each make e^3.6; over a year of 525,600 that is e^2098.
    found = metrics(make_result([0.004] * 900), 525_600)
    assert math.isnan(found.cagr)
    assert found.to_dict()["cagr"] is None
    assert found.total_return == pytest.approx(1.004**900 - 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_never_gets_a_number_it_cannot_hold(value: float) -> None:
    found = replace(metrics(make_result([0.1, 0.2]), 2), sharpe=value).to_dict()
    assert found["sharpe"] is None
    assert found["bars"] == 2


@pytest.mark.parametrize("value", [0.1, 1e-6])
def test_returns_that_vary_by_rounding_alone_have_no_sharpe(value: float) -> None:
    returns = np.full(50, value)
    returns[7] += max(1e-17, np.spacing(value))
    assert np.ptp(returns) > 0
    assert all(map(math.isnan, sharpe_ratio(returns, 252)))
    # An account that compounds a constant return never gives it back exactly.
    equity = 1000 * (1 + value) ** np.arange(51)
    assert all(map(math.isnan, sharpe_ratio(np.diff(equity) / equity[:-1], 252)))


def test_small_returns_that_do_vary_have_a_sharpe() -> None:
    returns = np.random.default_rng(6).normal(1e-9, 1e-8, 500)
    assert sharpe_ratio(returns, 252)[0] == pytest.approx(returns.mean() / returns.std(ddof=1) * math.sqrt(252))


def test_what_is_undefined_is_null_in_json() -> None:
    found = metrics(make_result([0.0]), 252).to_dict()
    undefined = {name for name, value in found.items() if value is None}
    assert undefined == {
        "annual_volatility",
        "sharpe",
        "sharpe_se",
        "sharpe_low",
        "sharpe_high",
        "breakeven_cost_bps",
        "paid_cost_bps",
        "hit_rate",
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize(
    ("gross", "depth", "bars"),
    [
        ([0.1, 0.1, 0.1], 0.0, 0),
        ([-0.5, 1.0, 0.1], 0.5, 2),  # from the start, and back
        ([1.0, -0.5, 0.5, 0.5, -0.1], 0.5, 3),  # back above the peak at the fourth bar
        ([1.0, 0.0, -0.5], 0.5, 1),  # from the last bar at the peak
    ],
)
def test_drawdown_is_counted_from_its_peak_to_recovery(gross: list[float], depth: float, bars: int) -> None:
    found = metrics(make_result(gross), 252)
    assert found.max_drawdown == pytest.approx(depth)
    assert found.max_drawdown_bars == bars


def test_several_fills_of_a_bar_add_up() -> None:
    found = metrics(make_result([0.0, 0.1], fills=[(1, 10, 10.0), (1, -20, 5.0)]), 2)
    assert found.turnover_per_year == pytest.approx(0.2)
    assert found.breakeven_cost_bps == pytest.approx(100 / 200 * 1e4)


def test_a_gain_that_its_cost_ate_is_no_hit() -> None:
    assert metrics(make_result([0.0, 0.01, 0.02], [0.0, 0.02, 0.01]), 2).hit_rate == 0.5

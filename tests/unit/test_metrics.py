"""Metrics against numbers worked out apart from them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from qtrade.backtest.metrics import drawdowns, metrics, relative, sharpe_ratio, turnover
from qtrade.backtest.statistics import probabilistic_sharpe
from qtrade.types import BacktestResult


def make_result(
    gross: list[float],
    cost: list[float] | None = None,
    fills: list[tuple[int, float, float]] | None = None,
    held: float = 0.0,
    start: float = 1000.0,
    financing: list[float] | None = None,
    paid: float = 0.0,
) -> BacktestResult:
    """A result with the given returns; fills are (bar, units, price), and each pays `paid` in fees and in slippage."""
    index = pd.date_range("2024-01-01", periods=len(gross), tz="UTC")
    first = pd.Series(gross, index=index, dtype=float)
    second = pd.Series(cost or [0.0] * len(gross), index=index, dtype=float)
    net = first - second
    trades = pd.DataFrame(
        [(index[bar], "A", size, price, paid, paid, index[bar - 1], "decision") for bar, size, price in fills or []],
        columns=["bar", "symbol", "size", "price", "fees", "slippage", "decided", "reason"],
    )
    weights = pd.DataFrame(held, index=index, columns=["A"])
    return BacktestResult(
        decided=weights,
        held=weights,
        gross=first,
        cost=second,
        net=net,
        financing=pd.Series(financing or [0.0] * len(gross), index=index, dtype=float),
        equity=start * (1 + net).cumprod(),
        trades=trades,
        engine="reference",
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
    assert np.isfinite(found[:, 1]).mean() > 0.99  # a wild draw hangs on a handful of values, and says so
    assert np.nanmean(found[:, 1]) == pytest.approx(found[:, 0].std(), rel=0.1)


def test_a_handful_of_bars_has_a_sharpe_ratio_without_an_interval() -> None:
    returns = np.zeros(3000)
    returns[[100, 700, 1900, 2500]] = [0.01, 0.02, 0.015, 0.012]
    ratio, error = sharpe_ratio(returns, 252)
    assert ratio > 0
    assert math.isnan(error)
    assert math.isnan(probabilistic_sharpe(returns))
    returns[::100] += 0.01
    assert math.isfinite(sharpe_ratio(returns, 252)[1])


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
        "sortino",
        "calmar",
        "profit_factor",
        "skew",
        "kurtosis",
        "value_at_risk_5",
        "expected_shortfall_5",
        "average_holding_bars",
        "cost_per_fill",
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


def test_downside_numbers_by_hand() -> None:
    # Net returns 0.1, -0.2, 0.1, -0.1: losses -0.2 and -0.1, gains of 0.2 in all.
    found = metrics(make_result([0.1, -0.2, 0.1, -0.1]), periods_per_year=4)
    assert found.sortino == pytest.approx(-0.1 / 4 / math.sqrt((0.04 + 0.01) / 4) * math.sqrt(4))
    assert found.profit_factor == pytest.approx(0.2 / 0.3)
    assert found.worst_bar == pytest.approx(-0.2)
    # 1.1, 0.88, 0.968, 0.8712: one year, from 1.1 down to 0.8712.
    assert found.cagr == pytest.approx(-0.1288)
    assert found.max_drawdown == pytest.approx(1 - 0.8712 / 1.1)
    assert found.calmar == pytest.approx(-0.1288 / (1 - 0.8712 / 1.1))


def test_skew_and_kurtosis_are_the_moments() -> None:
    returns = -np.random.default_rng(4).lognormal(0, 0.5, 400) * 0.01
    found = metrics(make_result(returns.tolist()), 252)
    assert found.skew == pytest.approx(stats.skew(returns), rel=1e-9)
    assert found.kurtosis == pytest.approx(stats.kurtosis(returns, fisher=False), rel=1e-9)


def test_the_tail_is_the_worst_bar_in_twenty() -> None:
    # Of 50 bars the worst two and a half: losses 0.50, 0.49, and half of 0.48.
    returns = [-share / 100 for share in range(1, 51)]
    found = metrics(make_result(returns), 252)
    assert found.value_at_risk_5 == pytest.approx(0.48)
    assert found.expected_shortfall_5 == pytest.approx((0.50 + 0.49 + 0.48 / 2) / 2.5)
    # Of 20 the worst one, and of 19 none.
    assert metrics(make_result(returns[:20]), 252).value_at_risk_5 == pytest.approx(0.20)
    assert metrics(make_result(returns[:20]), 252).expected_shortfall_5 == pytest.approx(0.20)
    assert math.isnan(metrics(make_result(returns[:19]), 252).value_at_risk_5)
    # Bars that gained, even the worst of them, are negative losses.
    assert metrics(make_result([0.01 * bar for bar in range(1, 41)]), 252).value_at_risk_5 == pytest.approx(-0.02)


def test_financing_is_no_cost_of_fills() -> None:
    # Gross 0.05 in all, of which holding takes 0.01 and fills 0.02, on a turnover of 1.
    result = make_result(
        [0.0, 0.03, 0.02], [0.02, 0.0, 0.01], fills=[(0, 10, 100.0)], financing=[0.0, 0.0, 0.01], paid=10.0
    )
    found = metrics(result, 3)
    assert found.cost_annual == pytest.approx(0.03)
    assert found.financing_annual == pytest.approx(0.01)
    assert found.breakeven_cost_bps == pytest.approx(0.04 * 1e4)
    assert found.paid_cost_bps == pytest.approx(0.02 * 1e4)
    assert found.cost_per_fill == pytest.approx(20)


def test_a_fill_that_costs_the_break_even_leaves_nothing() -> None:
    result = make_result([0.0, 0.03, -0.01], fills=[(0, 10, 100.0)], financing=[0.0, 0.005, 0.005])
    fills = metrics(result, 3).breakeven_cost_bps * 1e-4 * turnover(result).sum()
    assert (result.gross - result.financing).sum() - fills == pytest.approx(0, abs=1e-15)


def test_positions_are_counted_by_symbol_and_side() -> None:
    result = make_result([0.0] * 6)
    held = pd.DataFrame(
        {"A": [0.0, 0.5, 0.4, 0.0, 0.3, 0.0], "B": [0.0, 0.2, -0.2, -0.1, 0.0, 0.0]}, index=result.held.index
    )
    found = metrics(replace(result, held=held), 2)
    # A: two bars, then one. B: one long, two short.
    assert found.average_holding_bars == pytest.approx((2 + 1 + 1 + 2) / 4)
    assert found.time_in_market == pytest.approx(4 / 6)


def test_the_longest_drawdown_need_not_be_the_deepest() -> None:
    # Down by half and back in two bars; then a tenth below for four.
    found = metrics(make_result([1.0, -0.5, 1.0, -0.1, 0.0, 0.0, 0.2, -0.05]), 252)
    assert (found.max_drawdown, found.max_drawdown_bars, found.longest_drawdown_bars) == pytest.approx((0.5, 2, 4))


@given(st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=60))
def test_drawdowns_agree_with_a_loop(returns: list[float]) -> None:
    value = np.concatenate([[1.0], np.cumprod(1 + np.array(returns))])
    falls = drawdowns(value)
    under = np.zeros(len(value), dtype=bool)
    for fall in falls:
        inside = value[fall.peak + 1 : fall.end + (not fall.recovered)]
        assert (inside < value[fall.peak]).all()
        assert fall.depth == pytest.approx(1 - inside.min() / value[: fall.peak + 1].max())
        assert value[fall.trough] == inside.min()
        assert fall.recovered == bool(value[fall.end] >= value[fall.peak] * (1 - 1e-12))
        under[fall.peak + 1 : fall.end + (not fall.recovered)] = True
    highest = 0.0
    for row, worth in enumerate(value):
        highest = max(highest, worth)
        assert under[row] == (worth < highest * (1 - 1e-13))


def test_a_ruined_account_has_no_yearly_growth() -> None:
    result = make_result([0.5, -1.2, 0.0], fills=[(0, 10, 50.0)], start=1000)
    ruined = replace(
        result, equity=pd.Series([1500.0, -300.0, -300.0], index=result.net.index), ruined=result.net.index[1]
    )
    found = metrics(ruined, 252)
    assert found.total_return == pytest.approx(-1.3)
    assert math.isnan(found.cagr)
    assert math.isnan(found.calmar)
    assert found.max_drawdown == pytest.approx(1.2)
    assert found.turnover_per_year == pytest.approx(0.5 / 3 * 252)
    assert json.dumps(found.to_dict(), allow_nan=False)


def test_regression_on_the_benchmark_is_that_of_statsmodels() -> None:
    generator = np.random.default_rng(8)
    benchmark = generator.normal(0.0004, 0.01, 600)
    noise = generator.normal(0, 0.004, 601)
    net = 0.0002 + 0.6 * benchmark + noise[1:] + 0.5 * noise[:-1]
    found = relative(net, benchmark, 252)
    fit = sm.OLS(net, sm.add_constant(benchmark)).fit(cov_type="HAC", cov_kwds={"maxlags": 5})
    low, high = fit.conf_int(0.05).T
    assert (found.alpha_annual, found.beta) == pytest.approx((fit.params[0] * 252, fit.params[1]))
    assert (found.alpha_annual_low, found.beta_low) == pytest.approx((low[0] * 252, low[1]))
    assert (found.alpha_annual_high, found.beta_high) == pytest.approx((high[0] * 252, high[1]))
    assert found.correlation == pytest.approx(stats.pearsonr(net, benchmark).statistic)
    assert found.tracking_error == pytest.approx((net - benchmark).std(ddof=1) * math.sqrt(252))
    assert (found.information_ratio, found.information_ratio_se) == sharpe_ratio(net - benchmark, 252)


def test_capture_by_hand() -> None:
    # Up bars of the benchmark: 0.02 and 0.04; down bars: -0.01 and -0.03.
    benchmark = np.array([0.02, -0.01, 0.04, -0.03, 0.0])
    found = relative(np.array([0.03, -0.002, 0.0, 0.0, 0.05]), benchmark, 252)
    assert found.up_capture == pytest.approx(0.03 / 0.06)
    assert found.down_capture == pytest.approx(0.002 / 0.04)


def test_the_benchmark_beside_itself() -> None:
    benchmark = np.random.default_rng(1).normal(0, 0.01, 100)
    found = relative(benchmark, benchmark, 252)
    assert (found.beta, found.correlation, found.up_capture) == pytest.approx((1, 1, 1))
    assert (found.alpha_annual, found.tracking_error) == pytest.approx((0, 0), abs=1e-12)
    assert found.to_dict()["information_ratio"] is None


@pytest.mark.parametrize("bars", [1, 2, 50])
def test_nothing_is_said_beside_a_benchmark_that_stands_still(bars: int) -> None:
    found = relative(np.random.default_rng(2).normal(0, 0.01, bars), np.zeros(bars), 252).to_dict()
    undefined = {name for name, value in found.items() if value is None}
    assert undefined >= {"beta", "beta_low", "alpha_annual", "alpha_annual_high", "correlation", "up_capture"}

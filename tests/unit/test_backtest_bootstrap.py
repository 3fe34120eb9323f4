"""Bootstrap intervals of Sharpe ratios: how often they cover the truth, and when nothing is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from arch.bootstrap import optimal_block_length

from qtrade.backtest.bootstrap import MIN_BARS, block_length, sharpe_difference, sharpe_interval
from qtrade.backtest.metrics import sharpe_ratio
from qtrade.types import Float64Array


def autoregressive(series: int, bars: int, share: float, seed: int) -> Float64Array:
    """Series of unit variance, each value of which keeps a share of the one before."""
    values = np.random.default_rng(seed).standard_normal((series, bars + 50))
    for bar in range(1, bars + 50):
        values[:, bar] += share * values[:, bar - 1]
    scaled: Float64Array = values[:, 50:] * math.sqrt(1 - share**2)
    return scaled


def test_interval_covers_the_truth_where_returns_depend_on_one_another() -> None:
    returns = 0.05 + autoregressive(150, 250, 0.3, seed=1)
    missed, missed_if_independent = 0, 0
    for seed, one in enumerate(returns):
        low, high = sharpe_interval(one, 1, draws=199, seed=seed)
        missed += not low <= 0.05 <= high
        ratio, error = sharpe_ratio(one, 1)
        missed_if_independent += abs(ratio - 0.05) > 1.96 * error
    # 5 % would be 7 or 8; the interval that takes returns to be independent misses twice as often as this one.
    assert missed <= 18
    assert missed_if_independent >= 1.5 * missed


def test_interval_is_as_wide_as_strong_dependence_asks_for() -> None:
    # With so much carried over, the mean of 600 bars is as uncertain as that of (1 - 0.8) / (1 + 0.8) times as many.
    width = 2 * 1.96 * math.sqrt((1 + 0.8) / (1 - 0.8) / 600)
    intervals = [
        sharpe_interval(one, 1, draws=199, seed=seed) for seed, one in enumerate(autoregressive(60, 600, 0.8, seed=1))
    ]
    assert np.diff(intervals).mean() == pytest.approx(width, rel=0.06)


def test_interval_of_independent_returns_is_about_that_of_the_formula() -> None:
    returns = np.random.default_rng(3).standard_t(6, 4000) * 0.01 + 0.0004
    low, high = sharpe_interval(returns, 252, seed=1)
    ratio, error = sharpe_ratio(returns, 252)
    assert (low + high) / 2 == pytest.approx(ratio)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)


def test_a_higher_level_is_wider_and_a_seed_gives_one_answer() -> None:
    returns = np.random.default_rng(4).normal(0.001, 0.01, 300)
    low, high = sharpe_interval(returns, 252, level=0.95, draws=200, seed=5)
    wide_low, wide_high = sharpe_interval(returns, 252, level=0.99, draws=200, seed=5)
    assert wide_low < low < high < wide_high
    assert (low, high) == sharpe_interval(returns, 252, level=0.95, draws=200, seed=5)
    assert (low, high) != sharpe_interval(returns, 252, level=0.95, draws=200, seed=6)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e6])
def test_the_size_of_returns_does_not_matter(unit: float) -> None:
    returns = np.random.default_rng(4).normal(0.1, 1, 200)
    assert sharpe_interval(unit * returns, 1, draws=50, seed=5) == pytest.approx(
        sharpe_interval(returns, 1, draws=50, seed=5)
    )


def test_equal_ratios_are_told_apart_as_often_as_promised() -> None:
    common, first, second = (autoregressive(100, 250, 0.2, seed) for seed in (1, 2, 3))
    rejected = [
        sharpe_difference(0.05 + 0.9 * c + 0.4 * f, 0.05 + 0.9 * c + 0.4 * s, 1, draws=199, seed=seed).p < 0.05
        for seed, (c, f, s) in enumerate(zip(common, first, second, strict=True))
    ]
    assert sum(rejected) <= 13


def test_what_moves_both_series_cancels() -> None:
    generator = np.random.default_rng(7)
    common = generator.normal(0, 0.01, 1500)
    better, worse = common + generator.normal(0.0006, 0.001, 1500), common + generator.normal(0, 0.001, 1500)
    found = sharpe_difference(better, worse, 252, seed=1)
    assert found.difference == pytest.approx(sharpe_ratio(better, 252)[0] - sharpe_ratio(worse, 252)[0])
    # Each ratio alone is not known to within 1.5, but the sign of their difference is.
    low, high = sharpe_interval(better, 252, seed=1)
    assert high - low > 1.5
    assert found.low > 0
    assert found.p < 0.01
    turned = sharpe_difference(worse, better, 252, seed=1)
    assert (turned.difference, turned.low, turned.high, turned.p) == pytest.approx(
        (-found.difference, -found.high, -found.low, found.p)
    )


@pytest.mark.parametrize("seed", range(6))
def test_p_is_small_exactly_where_the_interval_leaves_zero_out(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = generator.normal(0.13, 1, 500), generator.normal(0, 1, 500)
    found = sharpe_difference(first, second, 1, draws=199, seed=seed)
    assert (found.p <= 0.05) == (found.low > 0 or found.high < 0)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_the_same_positions_at_any_size_differ_by_nothing(share: float) -> None:
    returns = np.random.default_rng(9).normal(0.001, 0.01, 400)
    found = sharpe_difference(share * returns, returns, 252, seed=1)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    "returns",
    [
        np.zeros(500),
        np.full(500, 0.001),
        np.random.default_rng(1).normal(0, 0.01, MIN_BARS - 1),
        np.concatenate([np.zeros(499), [0.1]]),  # one bar in the market, which many draws leave out
    ],
)
def test_what_cannot_be_known_is_not_said(returns: Float64Array) -> None:
    assert np.isnan(sharpe_interval(returns, 252, draws=100, seed=1)).all()
    other = np.random.default_rng(2).normal(0, 0.01, len(returns))
    found = sharpe_difference(other, returns, 252, draws=100, seed=1).to_dict()
    assert found["low"] is None
    assert found["high"] is None
    assert found["p"] is None


def test_blocks_are_as_long_as_the_dependence() -> None:
    weak, strong = autoregressive(2, 2000, 0.0, 4)[0], autoregressive(2, 2000, 0.9, 4)[0]
    assert block_length(weak) < block_length(strong)
    assert block_length(strong) == round(float(optimal_block_length(strong)["stationary"].iloc[0]))
    # Ten blocks must fit, however strong the dependence.
    assert block_length(np.cumsum(weak)[:100]) == 10


def test_series_of_other_bars_are_refused() -> None:
    with pytest.raises(ValueError, match="not of the same bars"):
        sharpe_difference(np.zeros(100), np.zeros(99), 252, seed=1)

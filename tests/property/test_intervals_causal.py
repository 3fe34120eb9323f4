"""Intervals use an error once its label has ended and not before, and follow a market whose volatility doubles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtrade.evaluation.coverage import coverage
from qtrade.evaluation.intervals import aci_radius, nexcp_radius, online_intervals
from qtrade.types import Float64Array

HORIZON, SIZE, BANK, PATHS = 24, 4_000, 2_000, 8


def market(rows: int, symbols: int, seed: int) -> Float64Array:
    generator = np.random.default_rng(seed)
    values = generator.standard_t(4, (rows, symbols))
    values[generator.random((rows, symbols)) < 0.05] = np.nan
    return values


@given(
    seed=st.integers(0, 10_000),
    delay=st.integers(1, 30),
    rho=st.sampled_from([0.6, 0.97, 0.99, 1.0]),
    row=st.integers(0, 119),
    poison=st.sampled_from([0.0, 1e-9, 1e9, np.nan]),
)
def test_an_error_not_known_yet_moves_no_radius(seed: int, delay: int, rho: float, row: int, poison: float) -> None:
    error, bank = market(120, 2, seed), market(40, 2, seed + 1)
    fold = np.arange(120) // 50
    banks = {number: bank + number for number in range(3)}
    poisoned = error.copy()
    poisoned[max(0, row - delay + 1) :] = poison
    honest, told = (
        online_intervals(values, fold, banks, delay=delay, level=0.8, gamma=0.05, window=60, rho=rho)
        for values in (error, poisoned)
    )
    for method in honest:
        np.testing.assert_array_equal(honest[method].radius[: row + 1], told[method].radius[: row + 1], err_msg=method)


@given(seed=st.integers(0, 10_000), delay=st.integers(1, 30), row=st.integers(30, 119))
def test_the_future_can_be_cut_off(seed: int, delay: int, row: int) -> None:
    error, bank = market(120, 2, seed), market(40, 2, seed + 1)
    for radius in (aci_radius, nexcp_radius):
        whole = radius(error, bank, delay=delay)
        np.testing.assert_array_equal(whole[: row + 1], radius(error[: row + 1], bank, delay=delay))


@pytest.mark.parametrize("delay", [1, 7, 24])
def test_an_error_counts_from_the_bar_that_makes_it_known(delay: int) -> None:
    bank = market(40, 1, 1)
    calm = np.random.default_rng(2).uniform(0, 1, (80, 1))
    wild = calm.copy()
    wild[20] = 9.0
    aci = [aci_radius(error, bank, delay=delay, gamma=0.2) for error in (calm, wild)]
    nexcp = [nexcp_radius(error, bank, delay=delay, level=0.5, rho=0.95) for error in (calm, wild)]
    assert np.nonzero(aci[0] != aci[1])[0][0] == 20 + delay
    assert np.nonzero(nexcp[0] != nexcp[1])[0][0] == 20 + delay


@given(seed=st.integers(0, 1_000), scale=st.sampled_from([2.0**-20, 0.5, 1024.0]))
def test_intervals_do_not_depend_on_the_unit(seed: int, scale: float) -> None:
    error, bank = market(60, 1, seed), market(40, 1, seed + 1)
    for radius in (aci_radius, nexcp_radius):
        np.testing.assert_array_equal(
            radius(error * scale, bank * scale, delay=5), radius(error, bank, delay=5) * scale
        )


def doubled(horizon: int) -> tuple[Float64Array, Float64Array]:
    """Test errors and bank of GARCH random walks whose volatility doubles where the test begins; a path is a symbol."""
    generator = np.random.default_rng(21)
    last = BANK + SIZE + 2 * (horizon - 1)
    shocks = generator.standard_t(6, (last + 300, PATHS)) * np.sqrt(4 / 6)
    returns = np.empty_like(shocks)
    variance = np.ones(PATHS)
    for bar, shock in enumerate(shocks):
        returns[bar] = np.sqrt(variance) * shock
        variance = 0.02 + 0.08 * returns[bar] ** 2 + 0.90 * variance
    returns = returns[300:]
    change = BANK + horizon - 1
    returns[change:] *= 2
    total = np.concatenate([np.zeros((1, PATHS)), np.cumsum(returns, axis=0)])
    label = total[horizon:] - total[:-horizon]
    error, bank = label[change:], label[:BANK]
    assert len(error) == SIZE
    return error, bank


@pytest.mark.parametrize("horizon", [1, HORIZON])
def test_adaptive_intervals_hold_when_volatility_doubles_and_frozen_ones_do_not(horizon: int) -> None:
    error, bank = doubled(horizon)
    found = online_intervals(error, np.zeros(SIZE, dtype=np.int64), {0: bank}, delay=horizon)
    share = {method: one.hits.mean(axis=0) for method, one in found.items()}
    assert share["split"].mean() < 0.75
    assert np.abs(share["aci"] - 0.9).max() < 0.02
    assert np.abs(share["nexcp"].mean() - 0.9) < 0.025
    assert found["aci"].infinite_share < 0.03
    assert found["aci"].worst > found["split"].worst
    # What came right on average was wrong at first, and the rolling coverage shows it.
    assert found["aci"].rolling[249] < found["aci"].rolling[-1]


def test_average_coverage_does_not_reveal_that_feedback_came_too_early() -> None:
    error, bank = doubled(HORIZON)
    leaky = coverage("leaky", error, aci_radius(error, bank, delay=1), delay=HORIZON, level=0.9)
    assert abs(leaky.share - 0.9) < 0.02

"""No regime knows anything of the bars after its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrade.evaluation.regimes import Regimes, _earlier_below, drawdown, grid, markov, trend, volatility_terciles
from qtrade.types import Float64Array

LENGTH = 700
FIT = range(400)


def close_of(returns: Float64Array) -> Float64Array:
    return np.asarray(np.exp(np.nancumsum(returns, axis=0)), dtype=np.float64)


METHODS: dict[str, Callable[[Float64Array], Regimes]] = {
    "volatility": lambda returns: volatility_terciles(returns, window=10, history=60),
    "trend": lambda returns: trend(close_of(returns), window=50),
    "drawdown": lambda returns: drawdown(close_of(returns)),
    "grid": lambda returns: grid(
        volatility_terciles(returns, window=10, history=60), trend(close_of(returns), window=50)
    ),
}


def market(seed: int) -> Float64Array:
    """(LENGTH, 2) returns with changing volatility on a grid that makes equal values, with flat bars and gaps."""
    generator = np.random.default_rng(seed)
    turbulent = np.cumsum(generator.random((LENGTH, 2)) > 0.985, axis=0) % 2
    returns = np.round(0.01 * (1 + 2 * turbulent) * generator.standard_normal((LENGTH, 2)), 3)
    returns[generator.random((LENGTH, 2)) < 0.03] = 0
    returns[0] = np.nan
    start = int(generator.integers(LENGTH - 40))
    returns[start : start + 30, 1] = 0
    return returns


def poisoned(returns: Float64Array, known: int, seed: int) -> Float64Array:
    """Return the same first `known` returns, and after them those of a world fifty times as wild."""
    changed = returns.copy()
    changed[known:] = np.random.default_rng(seed).standard_normal((LENGTH - known, 2)) / 2
    return changed


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), known=st.integers(1, LENGTH - 1))
def test_the_future_changes_no_regime(method: str, seed: int, known: int) -> None:
    returns = market(seed)
    codes = METHODS[method](returns).codes
    np.testing.assert_array_equal(METHODS[method](returns[:known]).codes, codes[:known])
    np.testing.assert_array_equal(METHODS[method](poisoned(returns, known, seed)).codes[:known], codes[:known])


def test_the_future_after_the_fit_changes_no_markov_state() -> None:
    seed = 0
    returns = market(seed)
    codes = markov(returns, FIT).codes
    assert (codes[2:] >= 0).all()
    for known in (FIT.stop, 555):
        np.testing.assert_array_equal(markov(returns[:known], FIT).codes, codes[:known])
        np.testing.assert_array_equal(markov(poisoned(returns, known, seed), FIT).codes[:known], codes[:known])


@given(st.lists(st.integers(0, 12), max_size=70))
def test_earlier_smaller_and_equal_values_are_counted_exactly(values: list[int]) -> None:
    below, equal = _earlier_below(np.array(values, dtype=np.float64))
    for place, value in enumerate(values):
        assert below[place] == sum(one < value for one in values[:place])
        assert equal[place] == values[:place].count(value)

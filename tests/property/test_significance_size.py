"""Every p-value keeps its promise under its own null, with labels that overlap by 24 bars."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal, stats

from qtrade.evaluation.significance import ewc_test, holm, mean_interval, mean_test
from qtrade.types import Float64Array

HORIZON, SIZE, SERIES = 24, 1_000, 1_000


def useless_forecasts(persistence: float) -> tuple[Float64Array, Float64Array]:
    """(SERIES, SIZE) forecasts, and 24-bar labels of random walks they know nothing about."""
    generator = np.random.default_rng(11)
    total = np.cumsum(generator.standard_normal((SERIES, SIZE + HORIZON)), axis=1)
    label = (total[:, HORIZON:] - total[:, :-HORIZON]) / np.sqrt(HORIZON)
    shocks = generator.standard_normal((SERIES, SIZE + 300)) * np.sqrt(1 - persistence**2)
    forecast = signal.lfilter([1.0], [1.0, -persistence], shocks, axis=1)[:, 300:]
    return np.asarray(forecast, dtype=np.float64), label


def standardise(values: Float64Array) -> Float64Array:
    return np.asarray(stats.zscore(values, axis=1), dtype=np.float64)


@pytest.mark.parametrize("persistence", [0.0, 0.9, 0.98])
def test_equal_losses_are_rejected_at_about_the_nominal_rate(persistence: float) -> None:
    forecast, label = useless_forecasts(persistence)
    # A useless forecast and its mirror image lose equally much on average.
    difference = (label + forecast) ** 2 - (label - forecast) ** 2
    rejected = np.mean([mean_test(row, HORIZON).p < 0.05 for row in difference])
    assert 0.03 <= rejected <= 0.10


@pytest.mark.parametrize("persistence", [0.0, 0.9, 0.98])
def test_no_correlation_is_rejected_at_about_the_nominal_rate(persistence: float) -> None:
    forecast, label = useless_forecasts(persistence)
    products = standardise(forecast) * standardise(label)
    rejected = np.mean([ewc_test(row).p < 0.05 for row in products])
    assert 0.03 <= rejected <= 0.10


def test_a_textbook_test_would_reject_far_too_often() -> None:
    forecast, label = useless_forecasts(0.9)
    rejected = np.mean([mean_test(row, 1).p < 0.05 for row in forecast * label])
    assert rejected > 0.4


def test_interval_of_a_mean_covers_it_about_as_often_as_promised() -> None:
    _, label = useless_forecasts(0.0)
    bounds = np.array([mean_interval(3 + row, level=0.8) for row in label])
    covered = np.mean((bounds[:, 0] <= 3) & (bounds[:, 1] >= 3))
    assert 0.72 <= covered <= 0.85


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value_nor_changes_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
    assert min(adjusted) == pytest.approx(min(1.0, len(p_values) * min(p_values)))

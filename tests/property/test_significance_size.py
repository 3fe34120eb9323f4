"""Every p-value keeps its promise under its own null, with labels that overlap by 24 bars."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal, stats

from qtrade.evaluation.significance import ewc_test, holm, mean_interval, mean_test
from qtrade.evaluation.skill import skill
from qtrade.forecasts import Forecasts
from qtrade.types import Float64Array

HORIZON, SIZE, SERIES = 24, 1_000, 1_000
DRIFT = 0.0001


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


def garch_labels(series: int) -> tuple[Float64Array, Float64Array]:
    """(series, SIZE) 24-bar labels of GARCH random walks, and the volatility per bar known at each origin."""
    generator, burn = np.random.default_rng(21), 200
    shocks = generator.standard_t(6, (burn + SIZE + HORIZON, series)) / np.sqrt(1.5)
    returns, variance = np.empty_like(shocks), np.full(series, 1e-4)
    for step, shock in enumerate(shocks):
        returns[step] = np.sqrt(variance) * shock
        variance = 2e-6 + 0.08 * returns[step] ** 2 + 0.9 * variance
    total = np.cumsum(returns.T, axis=1)
    volatility = np.sqrt(signal.lfilter(np.full(20, 1 / 20), [1.0], returns.T**2, axis=1))
    known = slice(burn, burn + SIZE)
    return total[:, burn + HORIZON :] - total[:, known], np.asarray(volatility[:, known], dtype=np.float64)


def p_values(predicted: Float64Array, label: Float64Array, volatility: Float64Array) -> dict[str, float]:
    """Every p-value that `skill` prints of one series."""
    days = pd.date_range("2000-01-01", periods=SIZE, tz="UTC")
    code = np.zeros(SIZE, dtype=np.int64)
    last = np.arange(HORIZON) == HORIZON - 1
    forecasts = Forecasts(
        path=predicted[:, None] * last,
        symbol=np.full(SIZE, "A", dtype=object),
        origin=days,
        fold=code,
        seed=code - 1,
        train_end=pd.DatetimeIndex([days[0]] * SIZE),
    )
    (found,) = skill(forecasts, label[:, None] * last, np.full(SIZE, DRIFT), (HORIZON,), scale=volatility)
    return {name: float(value) for name, value in found.to_dict().items() if name.endswith("_p") and value is not None}


def test_every_p_value_of_skill_rejects_at_about_the_nominal_rate() -> None:
    series, persistence = 300, 0.95
    label, volatility = garch_labels(series)
    shocks = np.random.default_rng(22).standard_normal((series, SIZE + 300)) * np.sqrt(1 - persistence**2)
    wander = signal.lfilter([1.0], [1.0, -persistence], shocks, axis=1)[:, 300:]
    predicted = HORIZON * DRIFT + 0.01 * np.asarray(wander, dtype=np.float64)
    # Useless: the forecast knows nothing, in a market that rises by more than the drift known.
    useless = pd.DataFrame(map(p_values, predicted, label + 0.004, volatility))
    # Equal losses: half of the forecast comes true, which pays exactly for the error that the forecast adds. As its
    # mean is that of the drift forecast, it loses as much as that one too.
    equal = pd.DataFrame(map(p_values, predicted, label + predicted / 2, volatility))
    of_errors = [name for name in useless if "r2_vs" in str(name)]
    rejected = pd.concat([equal[of_errors], useless.drop(columns=of_errors)], axis=1).lt(0.05).mean()
    assert sorted(rejected.index) == sorted(
        f"{prefix}{name}_p"
        for prefix in ("", "scaled_")
        for name in ("r2_vs_zero", "r2_vs_drift", "ic", "rank_ic", "direction")
        if (prefix, name) != ("scaled_", "direction")
    )
    # The true rates of the tests of errors are near 5 %; so few series can draw one below 3 %.
    luck = 2 * np.sqrt(0.03 * 0.97 / series)
    assert rejected.between(0.03 - luck, 0.10).all(), rejected.to_dict()


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

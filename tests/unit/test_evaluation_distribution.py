from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from qtrade.errors import DataError
from qtrade.evaluation.distribution import (
    QUANTILES,
    HorizonDistribution,
    crps_empirical,
    distribution_skill,
    pinball_loss,
)
from qtrade.forecasts import Forecasts
from qtrade.types import Float64Array

HORIZON = 6


def market(symbols: tuple[str, ...] = ("A", "B"), size: int = 300, edge: float = 0.5) -> tuple[Forecasts, Float64Array]:
    """Forecasts that know the share `edge` of the coming returns, in two folds, and those returns."""
    generator = np.random.default_rng(9)
    rows = size * len(symbols)
    days = pd.date_range("2015-01-01", periods=size, tz="UTC")
    actual = 0.01 * generator.standard_normal((rows, HORIZON))
    fold = np.tile(np.arange(size) // (size // 2), len(symbols))
    forecasts = Forecasts(
        path=edge * actual + 0.003 * generator.standard_normal(actual.shape),
        symbol=np.repeat(np.array(symbols, dtype=object), size),
        origin=pd.DatetimeIndex(np.tile(days, len(symbols))),
        fold=fold,
        seed=np.full(rows, -1, dtype=np.int64),
        train_end=pd.DatetimeIndex([days[0]] * rows),
        residuals={
            (number, -1, symbol): 0.006 * (1 + number) * generator.standard_normal((40 + 7 * number, HORIZON))
            for symbol in symbols
            for number in (0, 1)
        },
    )
    actual[-1, 2:] = np.nan
    return forecasts, actual


def measure(forecasts: Forecasts, actual: Float64Array) -> tuple[HorizonDistribution, ...]:
    return distribution_skill(forecasts, actual, horizons=(1, 3, 6))


def slow_crps(bank: Float64Array, y: float) -> float:
    return float(np.abs(bank - y).mean() - np.abs(bank[:, None] - bank).mean() / 2)


@given(
    st.lists(st.floats(-10, 10), min_size=1, max_size=30),
    st.lists(st.floats(-20, 20), min_size=1, max_size=10),
)
def test_crps_agrees_with_every_pair(bank: list[float], outcomes: list[float]) -> None:
    values = np.array(bank)
    found = crps_empirical(values, np.array(outcomes))
    np.testing.assert_allclose(found, [slow_crps(values, y) for y in outcomes], atol=1e-12)


def test_crps_is_the_squared_distance_of_the_distribution_function_from_the_outcome() -> None:
    bank = np.array([0.0, 1.0, 1.0, 4.0])
    # At 2 the function is 1/4 on (0, 1), 3/4 on (1, 2), and 1/4 short of 1 on (2, 4).
    assert crps_empirical(bank, np.array([2.0])) == pytest.approx([1 / 16 + 9 / 16 + 2 / 16])


def test_crps_of_one_value_is_the_absolute_error() -> None:
    np.testing.assert_allclose(crps_empirical(np.array([3.0]), np.array([1.0, 3.0, 4.5])), [2, 0, 1.5])


def test_crps_of_an_unknown_outcome_is_unknown() -> None:
    assert np.isnan(crps_empirical(np.array([1.0, 2.0]), np.array([np.nan, 1.0]))).tolist() == [True, False]


def test_crps_of_many_normal_values_is_that_of_the_normal_distribution() -> None:
    bank = np.random.default_rng(0).standard_normal(200_000)
    expected = (np.sqrt(2) - 1) / np.sqrt(np.pi)  # at its centre
    assert crps_empirical(bank, np.zeros(1))[0] == pytest.approx(expected, abs=0.003)


def test_crps_is_exact_far_from_zero() -> None:
    bank = np.random.default_rng(1).standard_normal(50)
    near = crps_empirical(bank, np.array([0.3]))
    np.testing.assert_allclose(crps_empirical(bank + 2**20, np.array([0.3 + 2**20])), near, rtol=1e-8)


def test_pinball_loss_is_least_at_the_quantile() -> None:
    y = np.random.default_rng(2).standard_normal(999)
    grid = np.linspace(-2, 2, 401)
    for q in QUANTILES:
        losses = [float(pinball_loss(y, np.full_like(y, at), q).mean()) for at in grid]
        assert grid[np.argmin(losses)] == pytest.approx(np.quantile(y, q), abs=0.02)


def test_every_number_agrees_with_a_loop_over_rows() -> None:
    forecasts, actual = market()
    found = measure(forecasts, actual)
    assert [one.horizon for one in found] == [1, 3, 6]
    for one in found:
        own: dict[pd.Timestamp, list[list[float]]] = {}
        for row in range(len(forecasts)):
            y = float(actual[row, : one.horizon].sum())
            if np.isnan(y):
                continue
            bank = forecasts.residuals[int(forecasts.fold[row]), -1, forecasts.symbol[row]][:, : one.horizon].sum(
                axis=1
            )
            centre = float(forecasts.path[row, : one.horizon].sum())
            losses = [slow_crps(bank + centre, y), slow_crps(bank, y)]
            for values in (bank + centre, bank):
                for q in QUANTILES:
                    error = y - float(np.quantile(values, q))
                    losses.append(q * error if error > 0 else (q - 1) * error)
            own.setdefault(forecasts.origin[row], []).append(losses)
        mean = np.mean([np.mean(rows, axis=0) for rows in own.values()], axis=0)
        assert one.origins == len(own) == 300
        assert (one.crps, one.naive_crps) == pytest.approx(tuple(mean[:2]))
        assert one.crps_skill == pytest.approx(1 - mean[0] / mean[1])
        assert one.pinball == pytest.approx(tuple(mean[2:5]))
        assert one.naive_pinball == pytest.approx(tuple(mean[5:]))


def test_a_planted_edge_shows_and_its_mirror_image_costs() -> None:
    forecasts, actual = market()
    for one in measure(forecasts, actual):
        assert 0 < one.crps_skill_low < one.crps_skill < one.crps_skill_high < 1
    for one in measure(replace(forecasts, path=-forecasts.path), actual):
        assert one.crps_skill_high < 0


def test_no_change_has_no_skill_over_itself() -> None:
    forecasts, actual = market()
    for one in measure(replace(forecasts, path=np.zeros_like(forecasts.path)), actual):
        assert one.crps_skill == one.crps_skill_low == one.crps_skill_high == 0
        assert one.pinball == one.naive_pinball


def test_the_interval_of_the_skill_of_useless_forecasts_misses_zero_about_as_often_as_it_may() -> None:
    horizon, size, markets = 24, 720, 120
    generator = np.random.default_rng(12)
    days = pd.date_range("2010-01-01", periods=size, tz="UTC")
    shocks = generator.standard_normal((markets, size + 300)) * np.sqrt(1 - 0.9**2)
    useless = np.asarray(signal.lfilter([1.0], [1.0, -0.9], shocks, axis=1), dtype=np.float64)[:, 300:]
    wrong = 0
    for row in range(markets):
        returns = generator.standard_normal(size + horizon)
        # Small forecasts: the loss that noise of size e adds falls with e squared, its standard error with e.
        path = np.repeat(0.005 * useless[row, :, None], horizon, axis=1)
        forecasts = Forecasts(
            path=path,
            symbol=np.full(size, "A", dtype=object),
            origin=days,
            fold=np.zeros(size, dtype=np.int64),
            seed=np.full(size, -1, dtype=np.int64),
            train_end=pd.DatetimeIndex([days[0]] * size),
            residuals={(0, -1, "A"): generator.standard_normal((100, horizon))},
        )
        actual = np.lib.stride_tricks.sliding_window_view(returns[1:], horizon)
        (found,) = distribution_skill(forecasts, actual, horizons=(horizon,))
        wrong += not found.crps_skill_low <= 0 <= found.crps_skill_high
    assert 0.01 <= wrong / markets <= 0.13


def test_horizons_beyond_the_path_or_with_too_few_labels_are_left_out() -> None:
    forecasts, actual = market(size=100)
    assert [one.horizon for one in distribution_skill(forecasts, actual, horizons=(1, 3, 6, 24))] == [1, 3]


def test_numbers_go_into_json_with_their_units() -> None:
    told = json.loads(json.dumps(measure(*market())[0].to_dict(), allow_nan=False))
    assert told["horizon_bars"] == 1
    assert {"crps_log_return", "naive_crps_log_return", "crps_skill", "crps_skill_low95"} <= set(told)
    assert {f"{name}pinball{q}_log_return" for name in ("", "naive_") for q in (10, 50, 90)} <= set(told)


def test_unusable_input_is_refused() -> None:
    forecasts, actual = market()
    with pytest.raises(ValueError, match="does not fit"):
        measure(forecasts, actual[:, :3])
    with pytest.raises(DataError, match="no validation residuals"):
        measure(replace(forecasts, residuals={}), actual)
    with pytest.raises(ValueError, match="seed_mean"):
        measure(replace(forecasts, symbol=np.full(len(forecasts), "A", dtype=object)), actual)


def test_a_market_that_stands_still_is_refused() -> None:
    forecasts, actual = market()
    still = {key: np.zeros_like(bank) for key, bank in forecasts.residuals.items()}
    with pytest.raises(DataError, match="never wrong 1 bars ahead"):
        measure(replace(forecasts, residuals=still), np.zeros_like(actual))

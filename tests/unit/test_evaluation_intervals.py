from __future__ import annotations

import json
import math

import numpy as np
import pytest

from qtrade.evaluation.coverage import coverage, coverage_interval
from qtrade.evaluation.intervals import aci_radius, nexcp_radius, online_intervals, refit_radius, split_radius
from qtrade.types import Float64Array


def errors(rows: int, symbols: int = 2, seed: int = 3) -> Float64Array:
    """Heavy-tailed errors whose size grows, with some unknown and some alike."""
    generator = np.random.default_rng(seed)
    values = generator.standard_t(4, (rows, symbols)) * np.linspace(1, 3, rows)[:, None]
    values[generator.random((rows, symbols)) < 0.1] = np.nan
    return np.round(values, 1)


def slow_quantile(scores: Float64Array, weights: Float64Array, level: float) -> float:
    """Smallest score at which the weight reaches the level, beside a weight of 1 at infinity."""
    wanted = level * (weights.sum() + 1)
    for score in np.sort(scores):
        if weights[scores <= score].sum() >= wanted - 1e-9:
            return float(score)
    return math.inf


def slow_nexcp(error: Float64Array, bank: Float64Array, delay: int, level: float, rho: float) -> Float64Array:
    everything = np.abs(np.concatenate([bank, error]))
    bars = np.concatenate([np.arange(len(bank)) - len(bank) + 1 - delay, np.arange(len(error))])
    radius = np.empty_like(error)
    for row, symbol in np.ndindex(error.shape):
        known = (bars <= row - delay) & np.isfinite(everything[:, symbol])
        radius[row, symbol] = slow_quantile(everything[known, symbol], rho ** (row - bars[known]), level)
    return radius


def slow_aci(
    error: Float64Array, bank: Float64Array, delay: int, level: float, window: int, gamma: float
) -> Float64Array:
    radius = np.empty_like(error)
    for symbol in range(error.shape[1]):
        alpha = 1 - level
        for row in range(len(error)):
            told = error[row - delay, symbol] if row >= delay else math.nan
            if not math.isnan(told):
                missed = not abs(told) <= radius[row - delay, symbol]
                alpha = alpha + gamma * (1 - level - missed)
            known = np.abs(np.concatenate([bank[:, symbol], error[: max(0, row - delay + 1), symbol]]))
            known = known[np.isfinite(known)][-window:]
            if (1 - alpha) * (len(known) + 1) <= 1e-9:
                radius[row, symbol] = -math.inf
            else:
                radius[row, symbol] = slow_quantile(known, np.ones(len(known)), 1 - alpha)
    return radius


@pytest.mark.parametrize(("count", "expected"), [(9, 9.0), (8, math.inf), (10, 10.0), (19, 18.0)])
def test_split_radius_is_the_conformal_rank_of_absolute_errors(count: int, expected: float) -> None:
    bank = np.arange(1.0, count + 1)[::-1, None] * -1
    assert split_radius(bank, 0.9).tolist() == [expected]


def test_split_radius_leaves_unknown_errors_out() -> None:
    bank = np.array([[1.0, np.nan], [np.nan, np.nan], [-3.0, np.nan], [2.0, np.nan]])
    assert split_radius(bank, 0.5).tolist() == [2.0, math.inf]


def test_refit_uses_the_errors_of_each_rows_own_fold() -> None:
    banks = {4: np.full((20, 1), 1.0), 7: np.full((20, 1), -5.0)}
    assert refit_radius(np.array([7, 4, 7]), banks, 0.9).ravel().tolist() == [5.0, 1.0, 5.0]


@pytest.mark.parametrize(("delay", "window", "gamma"), [(1, 1000, 0.05), (5, 30, 0.02), (24, 10, 0.2)])
def test_aci_agrees_with_its_definition(delay: int, window: int, gamma: float) -> None:
    error, bank = errors(150), errors(25, seed=4)
    fast = aci_radius(error, bank, delay=delay, level=0.8, window=window, gamma=gamma)
    np.testing.assert_array_equal(fast, slow_aci(error, bank, delay, 0.8, window, gamma))


@pytest.mark.parametrize(("delay", "rho"), [(1, 0.99), (6, 1.0), (24, 0.97), (3, 0.1)])
def test_nexcp_agrees_with_its_definition(delay: int, rho: float) -> None:
    error, bank = errors(150), errors(25, seed=4)
    fast = nexcp_radius(error, bank, delay=delay, level=0.8, rho=rho)
    np.testing.assert_array_equal(fast, slow_nexcp(error, bank, delay, 0.8, rho))


def test_nexcp_stays_finite_when_weights_differ_by_more_than_a_float_can_hold() -> None:
    error, bank = errors(380, symbols=1), errors(20, symbols=1)
    fast = nexcp_radius(error, bank, delay=1, level=0.3, rho=0.5)
    np.testing.assert_array_equal(fast, slow_nexcp(error, bank, 1, 0.3, 0.5))
    assert np.isfinite(fast).any()


def test_nexcp_without_forgetting_is_split_on_everything_known() -> None:
    error, bank = errors(60), errors(25, seed=4)
    radius = nexcp_radius(error, bank, delay=5, rho=1.0)
    for row in range(60):
        known = np.concatenate([bank, error[: max(0, row - 4)]])
        np.testing.assert_array_equal(radius[row], split_radius(known, 0.9))


def test_nexcp_promises_nothing_finite_when_it_forgets_too_fast() -> None:
    radius = nexcp_radius(errors(50), errors(50), delay=24, level=0.9, rho=0.8)
    assert np.isinf(radius).all()


def test_aci_gives_up_on_finite_intervals_while_everything_misses() -> None:
    error = np.cumprod(np.full((60, 1), 10.0), axis=0)
    radius = aci_radius(error, np.ones((100, 1)), delay=1, gamma=0.04)
    # Three misses take alpha from 0.1 below zero, by 0.036 each; a hit gives 0.004 back.
    assert np.isfinite(radius[:3]).all()
    assert np.isinf(radius[3:5]).all()
    found = coverage("aci", error, radius, delay=1, level=0.9)
    np.testing.assert_array_equal(found.hits == 1, np.isinf(radius))
    assert 0.8 < found.share < 0.95


def test_an_empty_interval_misses_even_a_perfect_forecast() -> None:
    error = np.zeros((40, 1))
    radius = aci_radius(error, np.zeros((20, 1)), delay=1, level=0.5, gamma=0.2)
    found = coverage("aci", error, radius, delay=1, level=0.5)
    assert (radius == -np.inf).any()
    assert (found.radius == 0).all()
    assert found.empty_share == np.mean(radius < 0)
    assert found.share == 1 - found.empty_share
    assert found.median_width == 0


def test_aci_steps_are_small_enough_for_a_run_of_overlapping_misses() -> None:
    error = np.concatenate([np.full((24, 1), 50.0), np.ones((60, 1))])
    bank = np.random.default_rng(0).standard_normal((480, 1))
    assert np.isfinite(aci_radius(error, bank, delay=24)).all()
    assert not np.isfinite(aci_radius(error, bank, delay=24, gamma=0.01)).all()


def test_unknown_errors_teach_nothing() -> None:
    error = np.full((50, 2), np.nan)
    bank = errors(30, seed=4)
    aci = aci_radius(error, bank, delay=3)
    assert (aci == aci[0]).all()
    np.testing.assert_array_equal(aci[0], split_radius(bank, 0.9))


def test_symbols_do_not_touch_one_another() -> None:
    error, bank, fold = errors(80, symbols=3), errors(30, symbols=3, seed=4), np.zeros(80, dtype=np.int64)
    together = online_intervals(error, fold, {0: bank}, delay=4)
    alone = online_intervals(error[:, 1:2], fold, {0: bank[:, 1:2]}, delay=4)
    assert list(together) == ["split", "refit", "aci", "nexcp"]
    for method, found in alone.items():
        np.testing.assert_array_equal(together[method].radius[:, 1:2], found.radius)
        np.testing.assert_array_equal(together[method].hits[:, 1:2], found.hits)


def test_coverage_counts_symbols_within_an_origin_and_then_origins() -> None:
    error = np.array([[0.5, 3.0], [0.5, np.nan], [np.nan, np.nan], [2.0, 2.0], [0.1, 0.1]])
    found = coverage("split", error, np.ones((5, 2)), delay=1, level=0.9, stretch=2)
    np.testing.assert_array_equal(found.hits, [[1, 0], [1, np.nan], [np.nan, np.nan], [0, 0], [1, 1]])
    assert found.origins == 4
    assert found.share == pytest.approx((0.5 + 1 + 0 + 1) / 4)
    assert found.median_width == 2
    np.testing.assert_allclose(found.rolling, [np.nan, 0.75, np.nan, 0.5, 0.5])
    assert (found.worst, found.worst_start, found.worst_end) == (0.5, 1, 3)


def test_coverage_without_outcomes_knows_nothing_and_says_so_in_json() -> None:
    found = coverage("split", np.full((3, 1), np.nan), np.ones((3, 1)), delay=1, level=0.9)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["origins"] == 0
    assert told["coverage_share"] is None
    assert told["worst_stretch_share"] is None
    assert told["worst_stretch_start_row"] is None


def test_infinite_widths_become_null_in_json() -> None:
    found = coverage("nexcp", np.ones((300, 1)), np.full((300, 1), np.inf), delay=1, level=0.9)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["median_width_log_return"] is None
    assert told["infinite_share"] == 1
    assert told["worst_stretch_share"] == 1
    assert told["worst_stretch_end_row"] == 249


def test_hits_without_a_miss_do_not_prove_full_coverage() -> None:
    share, low, high = coverage_interval(np.ones((240, 1)), delay=24)
    assert (share, high) == (1, 1)
    # Ten labels side by side without a miss say hardly more than this.
    assert 0.6 < low < 0.75
    np.testing.assert_allclose(coverage_interval(np.zeros((240, 1)), delay=24), (0, 0, 1 - low))


def test_one_origin_says_hardly_anything() -> None:
    share, low, high = coverage_interval(np.ones((1, 1)), delay=24)
    assert (share, high) == (1, 1)
    assert 0 < low < 0.05


@pytest.mark.parametrize("size", [250, 1_000])
def test_interval_of_coverage_holds_about_as_often_as_promised_with_overlap(size: int) -> None:
    generator = np.random.default_rng(8)
    total = np.cumsum(generator.standard_normal((size + 24, 600)), axis=0)
    label = (total[24:] - total[:-24]) / np.sqrt(24)
    hits = (np.abs(label) <= 1.6448536).astype(np.float64)
    bounds = np.array([coverage_interval(hits[:, [path]], delay=24)[1:] for path in range(600)])
    outside = np.mean((bounds[:, 0] > 0.9) | (bounds[:, 1] < 0.9))
    assert 0.02 <= outside <= 0.10


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"delay": 0}, "delay"),
        ({"level": 1.0}, "level"),
        ({"gamma": 0.0}, "gamma"),
        ({"window": 0}, "window"),
        ({"rho": 1.5}, "rho"),
    ],
)
def test_settings_out_of_range_are_refused(changed: dict[str, float], message: str) -> None:
    settings = {"delay": 2, **changed}
    with pytest.raises(ValueError, match=message):
        online_intervals(np.ones((5, 1)), np.zeros(5, dtype=np.int64), {0: np.ones((5, 1))}, **settings)  # type: ignore[arg-type]


def test_shapes_that_do_not_fit_are_refused() -> None:
    one = np.zeros(5, dtype=np.int64)
    with pytest.raises(ValueError, match="fold numbers"):
        online_intervals(np.ones((4, 1)), one, {0: np.ones((5, 1))}, delay=1)
    with pytest.raises(ValueError, match="validation errors of fold 1"):
        online_intervals(np.ones((5, 1)), one + 1, {0: np.ones((5, 1))}, delay=1)
    with pytest.raises(ValueError, match="bank"):
        aci_radius(np.ones((5, 1)), np.ones((5, 2)), delay=1)

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import signal

from qtrade.evaluation.unit_roots import UnitRoot, unit_roots
from qtrade.types import Float64Array

ROWS = 1500


def autoregressive(seed: int, columns: int, phi: float, rows: int = ROWS) -> Float64Array:
    noise = np.random.default_rng(seed).normal(size=(rows + 500, 1, columns))
    return np.asarray(signal.lfilter([1], [1, -phi], noise, axis=0)[500:], dtype=np.float64)


def random_walk(seed: int, columns: int, rows: int = ROWS) -> Float64Array:
    return np.cumsum(np.random.default_rng(seed).normal(size=(rows, 1, columns)), axis=0)


def results(values: Float64Array) -> tuple[UnitRoot, ...]:
    return unit_roots(values, [f"f{column}" for column in range(values.shape[2])], range(len(values)))


def share(found: tuple[UnitRoot, ...]) -> float:
    return float(np.mean([one.level for one in found]))


def test_a_persistent_but_stationary_feature_is_rarely_a_level() -> None:
    assert share(results(autoregressive(0, 60, 0.95))) <= 0.05


def test_prices_are_mostly_levels() -> None:
    walk = random_walk(1, 60)
    assert share(results(walk)) >= 0.8
    assert share(results(np.exp(0.01 * walk))) >= 0.8


def test_each_test_has_its_size_with_bars_that_overlap() -> None:
    # Means over 24 bars are stationary: KPSS may reject in 3 to 10 %, 2 to 14 % leaves room for 200 features.
    walk = random_walk(2, 200)
    kpss = [one.kpss_p < 0.05 for one in results(walk[24:] - walk[:-24])]
    assert 0.02 <= np.mean(kpss) <= 0.14
    adf = [one.adf_p < 0.05 for one in results(random_walk(3, 150))]
    assert 0.01 <= np.mean(adf) <= 0.12


def test_a_level_is_named_with_the_fix() -> None:
    (found,) = unit_roots(random_walk(4, 1), ["obv"], range(ROWS))
    assert found.level
    assert "'obv'" in found.reason
    assert "features.exclude" in found.reason


def test_calendar_and_flags_are_never_levels() -> None:
    bar = np.arange(ROWS)
    columns = [bar % 2, bar >= 700, np.full(ROWS, 0.1), bar % 5, bar // 21 % 12, np.sin(2 * np.pi * bar / 252)]
    found = results(np.stack(columns, axis=-1)[:, None, :].astype(np.float64))
    assert not any(one.level for one in found)
    assert [one.reason for one in found[:3]] == ["not tested: constant or binary"] * 3
    assert all(np.isnan(one.adf_p) and one.symbol == -1 for one in found[:3])


def test_a_bar_counter_is_a_level_though_adf_cannot_be_computed() -> None:
    (found,) = results(np.arange(ROWS, dtype=np.float64)[:, None, None])
    assert found.level
    assert np.isnan(found.adf_p)
    assert found.to_dict()["adf_p"] is None


def test_the_worst_symbol_is_reported() -> None:
    values = np.concatenate([autoregressive(5, 1, 0.5), random_walk(4, 1), np.ones((ROWS, 1, 1))], axis=1)
    (found,) = results(values)
    (alone,) = results(values[:, 1:2])
    assert (found.symbol, found.level) == (1, True)
    assert (found.adf_p, found.kpss_p) == (alone.adf_p, alone.kpss_p)


def test_units_do_not_matter() -> None:
    walk = random_walk(6, 3)
    for one, other in zip(results(walk), results(1e3 + 0.1 * walk), strict=True):
        assert (one.adf_p, one.kpss_p) == pytest.approx((other.adf_p, other.kpss_p), rel=1e-3)


def test_only_the_rows_asked_for_are_read() -> None:
    values = random_walk(7, 2)
    clean = unit_roots(values, ["a", "b"], range(200, 1000))
    values[:200], values[1000:] = np.nan, 1e9
    assert unit_roots(values, ["a", "b"], range(200, 1000)) == clean
    assert unit_roots(values, ["a", "b"], range(150, 1000)) == clean


def test_a_gap_after_the_warm_up_is_refused() -> None:
    values = random_walk(8, 1)
    values[700] = np.nan
    with pytest.raises(ValueError, match="finite after the warm-up"):
        results(values)


def test_few_rows_are_not_results() -> None:
    (found,) = results(random_walk(9, 1, rows=60))
    assert not found.level
    assert found.reason == "not tested: 60 rows are fewer than 100"


def test_results_are_plain_json() -> None:
    values = np.concatenate([random_walk(10, 1), np.zeros((ROWS, 1, 1))], axis=2)
    walk, constant = json.loads(json.dumps([one.to_dict() for one in results(values)], allow_nan=False))
    assert walk["symbol_position"] == 0
    assert 0 <= walk["adf_p"] <= 1
    assert constant["adf_p"] is None

"""Scaling: what is measured, what is inverted, what is saved."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qtrade.errors import DataError
from qtrade.features.scaler import CLIP, Scaler
from qtrade.types import Features, Float64Array

ROWS = range(10, 60)


@pytest.fixture
def features() -> Features:
    generator = np.random.default_rng(5)
    values = (generator.normal(size=(80, 2, 3)) * [0.01, 1, 5] + [0, 2, -7]).astype(np.float32)
    values[:4] = np.nan
    index = pd.date_range("2021-01-01", periods=80, freq="D", tz="UTC")
    return Features(values, ("rsi", "range", "log_return"), index, ("AAA", "BBB"), warmup=4)


@pytest.fixture
def target() -> Float64Array:
    return np.random.default_rng(6).normal(0.002, [0.01, 0.03], size=(80, 2))


@pytest.fixture
def scaler(features: Features, target: Float64Array) -> Scaler:
    return Scaler.fit(features, target, ROWS)


def test_fit_rows_become_mean_zero_and_deviation_one(scaler: Scaler, features: Features) -> None:
    scaled = scaler.transform(features.values)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled[10:60].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled[10:60].std(axis=0), 1, atol=1e-5)
    assert np.isnan(scaled[:4]).all()
    assert scaler.last_row == 59
    assert scaler.constant == ()


def test_by_hand() -> None:
    values = np.array([[[1.0]], [[3.0]], [[9.0]]], dtype=np.float32)
    index = pd.date_range("2021-01-01", periods=3, freq="D", tz="UTC")
    features = Features(values, ("log_return",), index, ("AAA",), warmup=0)
    scaler = Scaler.fit(features, np.array([[0.5], [-0.5], [7.0]]), range(2))
    assert (scaler.mean.item(), scaler.std.item(), scaler.target_scale.item()) == (2.0, 1.0, 0.5)
    np.testing.assert_array_equal(scaler.transform(values).ravel(), [-1, 1, 7])
    np.testing.assert_array_equal(scaler.transform_target(np.array([[0.25]])), [[0.5]])


def test_an_outlier_after_the_fit_is_clipped(scaler: Scaler, features: Features) -> None:
    values = features.values.copy()
    values[70, 0, 1], values[71, 1, 2] = 1e30, -1e30
    scaled = scaler.transform(values)
    assert scaled[70, 0, 1] == CLIP
    assert scaled[71, 1, 2] == -CLIP


def test_the_target_is_divided_and_not_centred(scaler: Scaler, target: Float64Array) -> None:
    np.testing.assert_allclose(scaler.target_scale, target[10:60].std(axis=0))
    scaled = scaler.transform_target(target)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, target / scaler.target_scale, rtol=1e-6)
    assert (scaler.transform_target(np.zeros((3, 2))) == 0).all()


def test_inverse_of_a_scaled_path_is_the_path(scaler: Scaler, target: Float64Array) -> None:
    symbol = np.array([1, 0, 1])
    path = np.stack([target[20:24, s] for s in symbol])
    scaled = np.stack([scaler.transform_target(target)[20:24, s] for s in symbol])
    restored = scaler.inverse_target(scaled, symbol)
    assert restored.dtype == np.float64
    np.testing.assert_allclose(restored, path, rtol=1e-6)


def test_a_constant_column_is_listed_and_becomes_zero(features: Features, target: Float64Array) -> None:
    values = features.values.copy()
    values[10:60, 1, 0] = 0.1
    scaler = Scaler.fit(Features(values, features.names, features.index, features.symbols, 4), target, ROWS)
    assert scaler.constant == (("BBB", "rsi"),)
    assert scaler.std[1, 0] == 1
    np.testing.assert_allclose(scaler.transform(values)[10:60, 1, 0], 0, atol=1e-7)


def test_a_constant_target_names_the_symbol(features: Features, target: Float64Array) -> None:
    target[10:60, 1] = 0.25
    with pytest.raises(DataError, match="the target of BBB does not vary") as caught:
        Scaler.fit(features, target, ROWS)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("rows", [range(3, 60), range(10, 81), range(10, 10), range(10, 60, 2)])
def test_rows_outside_the_known_features_are_refused(features: Features, target: Float64Array, rows: range) -> None:
    with pytest.raises(ValueError, match=r"rows must be a range within 4\.\.80"):
        Scaler.fit(features, target, rows)


def test_fitting_and_scaling_leave_their_inputs_alone(features: Features, target: Float64Array) -> None:
    values, outcome = features.values.copy(), target.copy()
    Scaler.fit(features, target, ROWS).transform(features.values)
    assert np.array_equal(features.values, values, equal_nan=True)
    assert np.array_equal(target, outcome)


def test_saved_and_loaded_scalers_are_the_same_to_the_last_bit(scaler: Scaler, tmp_path: Path) -> None:
    scaler.save(tmp_path / "scaler.json")
    loaded = Scaler.load(tmp_path / "scaler.json")
    for name in ("mean", "std", "target_scale"):
        assert getattr(loaded, name).tobytes() == getattr(scaler, name).tobytes()
    assert loaded.names == scaler.names
    assert loaded.symbols == scaler.symbols
    assert loaded.constant == scaler.constant
    assert loaded.last_row == scaler.last_row


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [[1.0]]},
        {"std": [[0.0] * 3] * 2},
        {"target_scale": [-1.0, 1.0]},
        {"target_scale": None},
        {"last_row": "late"},
        {"constant": ["rsi"]},
    ],
)
def test_a_damaged_file_is_a_data_error(scaler: Scaler, tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "scaler.json"
    scaler.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match="is not a scaler") as caught:
        Scaler.load(path)
    assert caught.value.fix == "train this fold again"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"mean": ['])
def test_half_a_file_is_a_data_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scaler.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"scaler\.json"):
        Scaler.load(path)


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is missing"):
        Scaler.load(tmp_path / "scaler.json")


def test_levels_are_centred_and_returns_are_not(features: Features, target: Float64Array) -> None:
    levels = target + 7.0
    scaler = Scaler.fit(features, levels, ROWS, centred=True)
    inside = slice(ROWS.start, ROWS.stop)
    np.testing.assert_allclose(scaler.target_mean, levels[inside].mean(axis=0))
    scaled = scaler.transform_target(levels)
    np.testing.assert_allclose(scaled[inside].mean(axis=0), 0, atol=1e-5)
    symbol = np.array([0, 1])
    np.testing.assert_allclose(scaler.inverse_target(scaled[30:33].T, symbol), levels[30:33].T, rtol=1e-6)
    assert (Scaler.fit(features, target, ROWS).target_mean == 0).all()


def test_many_rows_are_scaled_a_part_at_a_time(features: Features, target: Float64Array) -> None:
    repeated = np.tile(features.values[10:], (600, 1, 1))
    long = Features(
        repeated,
        features.names,
        pd.date_range("2000-01-01", periods=len(repeated), freq="h", tz="UTC"),
        features.symbols,
        warmup=0,
    )
    scaler = Scaler.fit(long, np.tile(target[10:], (600, 1)), range(len(repeated)))
    np.testing.assert_allclose(scaler.mean, repeated.mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(scaler.std, repeated.std(axis=0, dtype=np.float64), rtol=1e-12)
    whole = np.clip((repeated - scaler.mean) / scaler.std, -CLIP, CLIP).astype(np.float32)
    np.testing.assert_array_equal(scaler.transform(repeated), whole)

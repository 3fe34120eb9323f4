"""What a user's file of features or of a target may give, and what is said when it gives something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qtrade.errors import DataError, UsageError
from qtrade.features.build import FeatureConfig, build
from qtrade.features.own import FEATURES_EXAMPLE, TARGET_EXAMPLE, own_features, own_returns, own_target
from qtrade.types import Bars
from qtrade.user_code import UserFile


@pytest.fixture(scope="module")
def bars() -> Bars:
    generator = np.random.default_rng(3)
    index = pd.date_range("2020-01-01", periods=60, tz="UTC")
    close = pd.DataFrame(100 * np.exp(0.01 * generator.normal(size=(60, 2)).cumsum(axis=0)), index, ["AAA", "BBB"])
    return Bars(close, close, close, close, close * 9, interval="1d", calendar="24/7", periods_per_year=365.0)


def file_of(folder: Path, text: str) -> UserFile:
    path = folder / "mine.py"
    path.write_text(text, encoding="utf-8")
    return UserFile.read(path)


def features_of(folder: Path, result: str) -> UserFile:
    """Write a file whose features are an expression of the bars."""
    return file_of(folder, f"import numpy as np\nimport pandas as pd\n\n\ndef features(bars):\n    return {result}\n")


def test_the_examples_in_the_messages_work(tmp_path: Path, bars: Bars) -> None:
    columns, warmup = own_features(bars, file_of(tmp_path, FEATURES_EXAMPLE))
    close = bars.close.to_numpy()
    np.testing.assert_allclose(columns["five_bar_move"][5:], np.log(close[5:] / close[:-5]))
    assert warmup == 5
    file = file_of(tmp_path, TARGET_EXAMPLE)
    values, warmup = own_target(bars, file)
    np.testing.assert_allclose(values, np.log(close))
    assert warmup == 0
    np.testing.assert_allclose(own_returns(file, np.array([[3.0, 7.0]]), np.array([1.0])), [[2.0, 4.0]])


def test_columns_stand_between_the_set_and_the_past_of_the_target(tmp_path: Path, bars: Bars) -> None:
    file = features_of(tmp_path, "{'b': bars.close.rolling(30).mean(), 'a': bars.volume > 900}")
    config = FeatureConfig(set="minimal", cross=("AAA",), module=str(file.path))
    built = build(bars, config)
    features = built.features
    assert features.names == (*config.names, "return_of_AAA", "b", "a", "log_return")
    assert features.warmup == 29
    close = bars.close.to_numpy()
    np.testing.assert_allclose(features.values[29, :, -3], close[:30].mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(features.values[29:, :, -2], (9 * close[29:] > 900).astype(np.float32))
    assert built.files == {"features.module": file.sha256}


def test_warmup_is_declared_or_the_longest_run_of_missing_values(tmp_path: Path, bars: Bars) -> None:
    missing = features_of(tmp_path, "{'x': bars.close.shift(3), 'y': bars.close.rolling(9).mean()}")
    assert own_features(bars, missing)[1] == 8
    declared = file_of(
        tmp_path, "WARMUP = 12\n\n\ndef features(bars):\n    return {'x': 1 / (bars.close.shift(9) * 0 + 1)}\n"
    )
    assert own_features(bars, declared)[1] == 12
    body = "    late = (bars.index > bars.index[11])[:, None]\n    return {'x': 1 / (bars.close * 0 + late)}\n"
    infinite = file_of(tmp_path, f"WARMUP = 12\n\n\ndef features(bars):\n{body}")
    assert own_features(bars, infinite)[1] == 12
    assert np.isnan(build(bars, FeatureConfig(set="none", module=str(infinite.path))).features.values[:12]).all()


@pytest.mark.parametrize("declared", ["-1", "2.5", "True", "'ten'"])
def test_a_warmup_that_is_no_number_of_bars(tmp_path: Path, bars: Bars, declared: str) -> None:
    file = file_of(tmp_path, f"WARMUP = {declared}\n\n\ndef features(bars):\n    return {{'x': bars.close}}\n")
    with pytest.raises(UsageError, match=r"WARMUP in .*mine\.py must be a number of bars, not "):
        own_features(bars, file)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("bars.close", "must return DataFrames by name, not DataFrame"),
        ("None", "must return DataFrames by name, not NoneType"),
        ("{}", r"must return DataFrames by name, not dict with the keys \[\]"),
        ("{3: bars.close}", r"must return DataFrames by name, not dict with the keys \[3\]"),
        ("{'x': bars.close['AAA']}", "feature 'x' of .*: a DataFrame is wanted, not Series"),
        ("{'x': bars.close.to_numpy()}", "feature 'x' of .*: a DataFrame is wanted, not ndarray"),
        ("{'x': bars.close.iloc[1:]}", "feature 'x' of .*: index and symbols are not those of the bars"),
        ("{'x': bars.close[['AAA']]}", "feature 'x' of .*: index and symbols are not those of the bars"),
        ("{'x': bars.close[['BBB', 'AAA']]}", "feature 'x' of .*: index and symbols are not those of the bars"),
        ("{'x': bars.close.astype(str)}", "feature 'x' of .* holds str for AAA, not numbers"),
        ("{'x': bars.close + 1j}", "feature 'x' of .* holds complex128 for AAA, not numbers"),
        ("{'x': bars.close * np.nan}", "feature 'x' of .* has no value for AAA on any of 60 bars"),
        (
            "{'ok': bars.close, 'x': bars.close.where(bars.close != bars.close.iloc[9, 1])}",
            "feature 'x' of .* is nan for BBB at 2020-01-10 00:00:00",
        ),
        ("{'x': bars.close / (bars.close * 0)}", "feature 'x' of .* is inf for AAA at 2020-01-01 00:00:00"),
        ("{'x': bars.close * 1e300}", r"feature 'x' of .* is 1\.\d*e\+302 for AAA at 2020-01-01 00:00:00"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_no_feature_is_told_with_its_place(tmp_path: Path, bars: Bars, result: str, message: str) -> None:
    file = features_of(tmp_path, result)
    with pytest.raises(UsageError, match=message) as caught:
        own_features(bars, file)
    assert f"correct {file.path}, line 5: def features(bars):" in caught.value.fix
    assert caught.value.exit_code == 2


def test_an_exception_in_the_file_shows_its_line(tmp_path: Path, bars: Bars) -> None:
    file = features_of(tmp_path, "{'x': bars.closes}")
    with pytest.raises(UsageError, match=r"the features of .*mine\.py failed") as caught:
        build(bars, FeatureConfig(module=str(file.path), set="minimal"))
    assert caught.value.why.startswith("AttributeError: 'Bars' object has no attribute 'closes'")
    assert caught.value.fix == f"see {file.path}, line 6: return {{'x': bars.closes}}"


def test_a_file_cannot_change_the_bars(tmp_path: Path, bars: Bars) -> None:
    before = bars.fingerprint()
    file = file_of(tmp_path, "def features(bars):\n    bars.close.iloc[:] = 1.0\n    return {'x': bars.close}\n")
    columns, _ = own_features(bars, file)
    assert (columns["x"] == 1).all()
    assert bars.fingerprint() == before


@pytest.mark.parametrize("name", ["rsi", "log_return", "return_of_BBB", "range"])
def test_a_name_that_is_taken_is_refused(tmp_path: Path, bars: Bars, name: str) -> None:
    file = features_of(tmp_path, f"{{'{name}': bars.close}}")
    with pytest.raises(UsageError, match=f"feature '{name}' of .* has the name of another one"):
        build(bars, FeatureConfig(set="minimal", cross=("BBB",), module=str(file.path)))


def test_a_long_warmup_of_the_users_names_his_feature(tmp_path: Path, bars: Bars) -> None:
    file = file_of(tmp_path, "WARMUP = 60\n\n\ndef features(bars):\n    return {'slow': bars.close}\n")
    with pytest.raises(DataError, match="60 bars are too few: these features need at least 61") as caught:
        build(bars, FeatureConfig(set="minimal", module=str(file.path)))
    assert "'slow' has no value for the first 60 bars" in caught.value.why


def test_a_target_without_its_way_back_is_refused_with_an_example(tmp_path: Path, bars: Bars) -> None:
    file = file_of(tmp_path, "def target(bars):\n    return bars.close\n")
    with pytest.raises(UsageError, match=r"must define target and log_returns, and lacks log_returns") as caught:
        build(bars, FeatureConfig(set="minimal", target=str(file.path)))
    assert "def log_returns(path, known):" in caught.value.fix
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("path[:, :1]", r"must return an array of shape \(2, 3\), not \(2, 1\)"),
        ("np.log(path - path)", r"makes -inf of a forecast of 2 at step 1"),
        ("path / no", r"'log_returns' in .*mine\.py failed"),
        ("'abc'", r"'log_returns' in .*mine\.py failed"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_way_back_that_leads_nowhere_is_told(tmp_path: Path, result: str, message: str) -> None:
    text = "import numpy as np\n\n\ndef target(bars):\n    return bars.close\n\n\ndef log_returns(path, known):\n"
    file = file_of(tmp_path, f"{text}    return {result}\n")
    with pytest.raises(UsageError, match=message):
        own_returns(file, np.full((2, 3), 2.0), np.ones(2))


def test_missing_files_are_told(bars: Bars) -> None:
    for setting in ("module", "target"):
        with pytest.raises(UsageError, match=r"cannot read nowhere/mine\.py"):
            build(bars, FeatureConfig.model_validate({"set": "minimal", setting: "nowhere/mine.py"}))

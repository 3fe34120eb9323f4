"""Selecting features, and building them from good bars and bad."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from arch.data import nasdaq, sp500

from qtrade.errors import DataError, UsageError
from qtrade.features.build import FeatureConfig, build
from qtrade.features.indicators import FEATURE_SETS, FEATURES
from qtrade.types import BAR_FIELDS, Bars

EVERYTHING = FeatureConfig(set="all")


@pytest.fixture(scope="module")
def sample() -> Bars:
    """S&P 500 and NASDAQ Composite, daily, 1999-2018; the latter has two bars without volume."""
    loaded = {"^GSPC": sp500.load(), "^IXIC": nasdaq.load()}
    frames = {
        name: pd.DataFrame({symbol: data[name.title()].astype(float) for symbol, data in loaded.items()})
        for name in BAR_FIELDS
    }
    for frame in frames.values():
        frame.index = pd.DatetimeIndex(frame.index).tz_localize("UTC")
    return Bars(**frames, interval="1d", calendar="XNYS", periods_per_year=252)


def without_volume(bars: Bars, symbol: str, rows: slice = slice(None)) -> Bars:
    volume = bars.volume.copy()
    volume.loc[volume.index[rows], symbol] = 0.0
    return replace(bars, volume=volume)


def test_default_features_of_the_sample(sample: Bars) -> None:
    built = build(sample, FeatureConfig())
    features = built.features
    assert features.names == FEATURE_SETS["default"]
    assert features.values.shape == (len(sample), 2, len(features.names))
    assert features.values.dtype == np.float32
    assert features.warmup == max(FEATURES[name].warmup for name in features.names)
    assert np.isnan(features.values[: features.warmup]).all()
    assert np.isfinite(features.values[features.warmup :]).all()
    assert built.dropped == ()
    assert built.note == ""


def test_each_symbol_is_built_on_its_own(sample: Bars) -> None:
    together = build(sample, EVERYTHING).features.values
    for column, symbol in enumerate(sample.symbols):
        alone = build(sample.select([symbol]), EVERYTHING).features.values
        assert alone[:, 0].tobytes() == together[:, column].tobytes()


def test_the_bars_are_left_as_they_were(sample: Bars) -> None:
    before = sample.fingerprint()
    build(sample, EVERYTHING)
    assert sample.fingerprint() == before


def test_minimal_set_has_a_short_warmup(sample: Bars) -> None:
    assert build(sample.rows(0, 21), FeatureConfig(set="minimal")).features.warmup == 20


def test_selection_keeps_the_order_of_the_set_then_of_the_additions_with_the_log_return_last() -> None:
    config = FeatureConfig(set="minimal", include=("tsi", "range", "log_return", "adx"), exclude=("return_5", "trix"))
    assert config.names == ("return_20", "range", "realised_20", "relative_volume", "tsi", "adx", "log_return")


def test_selection_down_to_the_log_return(sample: Bars) -> None:
    config = FeatureConfig(set="minimal", exclude=FEATURE_SETS["minimal"][:-1])
    features = build(sample.rows(0, 2), config).features
    assert features.names == ("log_return",)
    assert features.warmup == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"set": "defualt"}, "unknown feature set 'defualt'\n  fix: did you mean 'default'?"),
        ({"include": ("adxx",)}, "unknown feature 'adxx'\n  fix: did you mean 'adx'?"),
        ({"exclude": ("retrun_5",)}, "unknown feature 'retrun_5'\n  fix: did you mean 'return_5'?"),
        ({"exclude": ("log_return",)}, "'log_return' cannot be left out"),
        ({"include": ("tsi",), "exclude": ("tsi",)}, "feature 'tsi' is both included and excluded"),
    ],
)
def test_wrong_selection_is_a_usage_error(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        FeatureConfig.model_validate(wrong)
    assert str(caught.value).startswith(message)
    assert caught.value.exit_code == 2


def test_too_few_bars_says_how_many_are_needed(sample: Bars) -> None:
    config = FeatureConfig()
    needed = build(sample, config).features.warmup + 1
    assert len(build(sample.rows(0, needed), config).features.index) == needed
    with pytest.raises(DataError) as caught:
        build(sample.rows(0, needed - 1), config)
    assert str(caught.value).startswith(f"{needed - 1} bars are too few: these features need at least {needed}")
    assert "'adx'" in caught.value.why
    assert caught.value.exit_code == 3


def test_a_single_bar_is_too_few(sample: Bars) -> None:
    with pytest.raises(DataError, match="1 bars are too few"):
        build(sample.rows(0, 1), EVERYTHING)


def test_volume_features_are_dropped_from_a_set_when_a_symbol_has_no_volume(sample: Bars) -> None:
    built = build(without_volume(sample, "^IXIC"), FeatureConfig())
    assert built.dropped == ("relative_volume", "volume_balance", "money_flow", "vwap")
    assert built.note == "left out relative_volume, volume_balance, money_flow, vwap: ^IXIC reports no volume"
    assert built.features.names == tuple(name for name in FEATURE_SETS["default"] if name not in built.dropped)
    rest = [FEATURE_SETS["default"].index(name) for name in built.features.names]
    whole = build(sample, FeatureConfig()).features.values
    assert np.array_equal(built.features.values, whole[..., rest], equal_nan=True)


def test_an_included_volume_feature_is_refused_when_a_symbol_has_no_volume(sample: Bars) -> None:
    with pytest.raises(DataError, match="feature 'pvo' needs volume, and \\^IXIC reports none") as caught:
        build(without_volume(sample, "^IXIC"), FeatureConfig(include=("pvo",)))
    assert caught.value.exit_code == 3


def test_some_bars_without_volume_do_no_harm(sample: Bars) -> None:
    features = build(without_volume(sample, "^GSPC", slice(400, 412)), EVERYTHING).features
    assert np.isfinite(features.values[features.warmup :]).all()


def test_a_long_spell_without_volume_names_feature_symbol_bar_and_remedy(sample: Bars) -> None:
    bars = without_volume(sample, "^IXIC", slice(1000, 1100))
    with pytest.raises(DataError) as caught:
        build(bars, FeatureConfig())
    volume_features = ["relative_volume", "volume_balance", "money_flow", "vwap"]
    assert f"feature 'vwap' of ^IXIC is nan at {sample.index[1013]}" in str(caught.value)
    assert "undefined on 87 bars, as where volume is zero" in caught.value.why
    assert f"features.exclude = {volume_features}" in caught.value.fix
    assert caught.value.exit_code == 3
    config = FeatureConfig(exclude=tuple(volume_features))
    assert build(bars, config).dropped == ()


def test_a_symbol_with_one_price_per_bar_is_fit_for_use(sample: Bars) -> None:
    flat = replace(sample, open=sample.close, high=sample.close, low=sample.close)
    features = build(flat, EVERYTHING).features
    assert np.isfinite(features.values[features.warmup :]).all()


def test_a_suspended_symbol_is_fit_for_use(sample: Bars) -> None:
    frames = {name: getattr(sample, name).copy() for name in ("open", "high", "low", "close")}
    for frame in frames.values():
        frame.iloc[600:900, 0] = sample.close.iloc[599, 0]
    features = build(replace(sample, **frames), EVERYTHING).features
    assert np.isfinite(features.values[features.warmup :]).all()
    assert np.abs(features.values[features.warmup :]).max() < 10

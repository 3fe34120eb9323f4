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


def test_selection_keeps_the_order_of_the_set_then_of_the_additions_with_the_log_return_last(sample: Bars) -> None:
    config = FeatureConfig(set="minimal", include=("tsi", "range", "log_return", "adx"), exclude=("return_5", "trix"))
    names = ("return_20", "range", "realised_20", "relative_volume", "tsi", "adx")
    assert config.names == names
    assert build(sample, config).features.names == (*names, "log_return")


@pytest.mark.parametrize(
    "config",
    [
        FeatureConfig(set="minimal", exclude=FEATURE_SETS["minimal"][:-1]),
        FeatureConfig(set="none"),
        FeatureConfig(mode="S"),
    ],
)
def test_selection_down_to_the_log_return(sample: Bars, config: FeatureConfig) -> None:
    features = build(sample.rows(0, 2), config).features
    assert features.names == ("log_return",)
    assert features.warmup == 1


def test_the_past_of_the_target_is_the_last_column_and_the_log_return_stays_in_its_set(sample: Bars) -> None:
    for target, warmup in (("scaled_return", 21), ("log_close", 20)):
        built = build(sample, FeatureConfig(set="minimal", target=target))
        assert built.features.names == (*FEATURE_SETS["minimal"], target)
        assert built.features.warmup == warmup
        np.testing.assert_array_equal(
            built.features.values[warmup:, :, -1], built.target.past[warmup:].astype(np.float32)
        )


def test_the_return_of_another_symbol_is_read_by_all(sample: Bars) -> None:
    features = build(sample, FeatureConfig(set="none", include=("gap",), cross=("^IXIC", "^GSPC"))).features
    assert features.names == ("gap", "return_of_^IXIC", "return_of_^GSPC", "log_return")
    own = features.values[1:, :, -1]
    for place, symbol in ((1, 1), (2, 0)):
        for reader in (0, 1):
            assert (features.values[1:, reader, place] == own[:, symbol]).all()


def test_an_unknown_symbol_to_cross_names_the_nearest(sample: Bars) -> None:
    with pytest.raises(UsageError, match=r"features\.cross names '\^IXC', which is not among the symbols") as caught:
        build(sample, FeatureConfig(cross=("^IXC",)))
    assert caught.value.why == "did you mean '^IXIC'?"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"set": "defualt"}, "unknown feature set 'defualt'\n  fix: did you mean 'default'?"),
        ({"include": ("adxx",)}, "unknown feature 'adxx'\n  fix: did you mean 'adx'?"),
        ({"exclude": ("retrun_5",)}, "unknown feature 'retrun_5'\n  fix: did you mean 'return_5'?"),
        ({"exclude": ("log_return",)}, "'log_return' cannot be left out"),
        ({"include": ("tsi",), "exclude": ("tsi",)}, "feature 'tsi' is both included and excluded"),
        ({"target": "log_retrun"}, "unknown target 'log_retrun'\n  why: did you mean 'log_return'?"),
        ({"module": "mine"}, "'mine' is not a file of features"),
        ({"cross": ("A", "A")}, "a symbol is named twice in features.cross"),
        ({"mode": "S", "cross": ("A",)}, "mode S reads the target's own past and nothing else"),
        ({"mode": "S", "module": "mine.py"}, "mode S reads the target's own past and nothing else"),
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


@pytest.mark.parametrize("target", ["log_return", "scaled_return", "log_close"])
def test_a_hundred_flat_bars_give_no_infinities(sample: Bars, target: str) -> None:
    frames = {name: getattr(sample, name).copy() for name in BAR_FIELDS}
    for name in ("open", "high", "low", "close"):
        frames[name].iloc[1000:1100, 1] = sample.close.iloc[999, 1]
    frames["volume"].iloc[1000:1010, 1] = 0.0
    built = build(replace(sample, **frames), FeatureConfig(set="all", target=target))
    assert np.isfinite(built.features.values[built.features.warmup :]).all()
    assert np.isfinite(built.target.values[built.features.warmup :]).all()
    assert np.abs(built.features.values[1030:1100, 1, :-1]).max() < 10
    if built.target.unit is not None:
        # The move after the spell is large in units of the last bars, which did not move, but not out of this world.
        labels = built.target.values[1100] / built.target.unit[1099]
        assert 0 < np.abs(labels).max() < 40


@pytest.mark.parametrize("target", ["log_return", "scaled_return", "log_close"])
def test_a_pegged_market_gives_no_infinities(target: str) -> None:
    generator = np.random.default_rng(7)
    index = pd.date_range("2020-01-01", periods=600, freq="h", tz="UTC")
    tick = np.where(generator.random((600, 1)) < 0.02, 0.0001, 0.0)  # at the peg, but for a tick now and then
    price = pd.DataFrame(7.75 + tick, index=index, columns=["USDHKD"])
    bars = Bars(price, price, price, price, price * 0, interval="1h", calendar="24/5", periods_per_year=6240)
    built = build(bars, FeatureConfig(set="all", target=target))
    assert len(built.dropped) == sum(feature.needs_volume for feature in FEATURES.values())
    values = built.features.values[built.features.warmup :]
    assert np.isfinite(values).all()
    assert np.abs(values).max() < 50


def test_thirty_bars_are_enough_for_the_minimal_set_and_too_few_for_the_default(sample: Bars) -> None:
    for target, warmup in (("log_return", 20), ("scaled_return", 21), ("log_close", 20)):
        features = build(sample.rows(0, 30), FeatureConfig(set="minimal", target=target)).features
        assert features.warmup == warmup
        assert np.isfinite(features.values[warmup:]).all()
    with pytest.raises(DataError, match="30 bars are too few: these features need at least 251") as caught:
        build(sample.rows(0, 30), FeatureConfig())
    assert "fetch a longer history, or leave out 'adx'" in caught.value.fix
    with pytest.raises(DataError, match="21 bars are too few: these features need at least 22") as caught:
        build(sample.rows(0, 21), FeatureConfig(set="none", target="scaled_return"))
    assert "'scaled_return' has no value for the first 21 bars" in caught.value.why

"""No feature, scaler or mark knows anything of the bars after its own."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ta.trend import KSTIndicator

from qtrade.features.build import FeatureConfig, build
from qtrade.features.indicators import FEATURES, Feature
from qtrade.features.market import Market
from qtrade.features.marks import mark_names, marks
from qtrade.features.scaler import Scaler
from qtrade.features.series import Series
from qtrade.features.targets import log_returns
from qtrade.types import Bars, Features

LENGTH = 420
EVERYTHING = FeatureConfig(set="all")


def random_bars(seed: int, length: int = LENGTH) -> Bars:
    """Two symbols on a tick grid, with changing volatility, flat bars, a dead spell and bars without volume."""
    generator = np.random.default_rng(seed)
    shape = (length, 2)
    spread = 0.01 * np.exp(generator.normal(0, 1, size=(length // 60 + 1, 2))).repeat(60, axis=0)[:length]
    move = spread * generator.standard_t(4, size=shape)
    move[generator.random(shape) < 0.05] = 0
    start = int(generator.integers(300, length - 60))
    move[start : start + 40, 0] = 0
    close = np.maximum(np.round(100 * np.exp(np.clip(move, -0.3, 0.3).cumsum(axis=0)), 2), 0.01)
    opened = np.vstack([close[:1], close[:-1]])
    reach = np.where(move == 0, 0, np.round(close * spread * generator.random(shape), 2))
    volume = np.round(generator.lognormal(10, 1, shape))
    volume[start - 100, :] = 0
    return make_bars(opened, np.maximum(opened, close) + reach, np.minimum(opened, close), close, volume)


def make_bars(opened: np.ndarray, high: np.ndarray, low: np.ndarray, close: np.ndarray, volume: np.ndarray) -> Bars:
    index = pd.date_range("2015-01-01", periods=len(close), freq="D", tz="UTC")
    opened_, high_, low_, close_, volume_ = (
        pd.DataFrame(values, index=index, columns=["AAA", "BBB"]) for values in (opened, high, low, close, volume)
    )
    return Bars(opened_, high_, low_, close_, volume_, interval="1d", calendar="NYSE", periods_per_year=252)


def poisoned(bars: Bars, known: int, seed: int) -> Bars:
    """Return the same first `known` bars, and after them prices and volumes of another world."""
    generator = np.random.default_rng(seed)
    later = (len(bars) - known, 2)
    prices = np.sort(np.exp(generator.normal(0, 6, size=(4, *later))), axis=0)
    frames = dict(zip(("low", "open", "close", "high"), prices, strict=True))
    frames["volume"] = np.exp(generator.normal(5, 6, size=later)) * (generator.random(later) < 0.8)
    changed = {}
    for name, values in frames.items():
        frame = getattr(bars, name).copy()
        frame.iloc[known:] = values
        changed[name] = frame
    return replace(bars, **changed)


def computed(features: Iterable[Feature], bars: Bars) -> dict[str, np.ndarray]:
    """(T, S) values of each feature, in double precision; rows of its warm-up are zero."""
    markets = [Market.of(bars, column) for column in range(len(bars.symbols))]
    values = {}
    for feature in features:
        values[feature.name] = np.stack([feature.compute(market).to_numpy() for market in markets], axis=1)
        values[feature.name][: feature.warmup] = 0
    return values


def seeing_ahead(features: Collection[Feature], bars: Bars, known: int, seed: int) -> list[str]:
    """Names of the features that move by a bit before `known` if the bars from there on are cut off or replaced."""
    original = computed(features, bars)
    variants = (computed(features, bars.rows(0, known)), computed(features, poisoned(bars, known, seed)))
    return [
        feature.name
        for feature in features
        for variant in variants
        if variant[feature.name][:known].tobytes() != original[feature.name][:known].tobytes()
    ]


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), known=st.integers(30, LENGTH - 1))
def test_no_feature_moves_by_a_bit_when_its_future_is_cut_or_poisoned(seed: int, known: int) -> None:
    assert seeing_ahead(FEATURES.values(), random_bars(seed), known, seed) == []


@pytest.mark.parametrize(
    "compute",
    [
        lambda market: market.close.shift(-1) / market.close,
        lambda market: market.close / market.close.mean(),
        lambda market: market.range().rolling(5, center=True).mean(),
        lambda market: KSTIndicator(market.close).kst(),
    ],
    ids=["next close", "mean of all closes", "centred mean", "KST of ta"],
)
def test_the_gate_catches_a_feature_that_sees_ahead(compute: Callable[[Market], Series]) -> None:
    leak = Feature("leak", "trend", 20, compute, "")
    assert "leak" in seeing_ahead([leak, FEATURES["range"]], random_bars(1), known=300, seed=1)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6), known=st.integers(260, LENGTH - 1))
def test_built_features_are_the_same_bits_with_and_without_a_future(seed: int, known: int) -> None:
    bars = random_bars(seed)
    config = FeatureConfig(set="all", target="scaled_return", cross=("BBB",))
    whole = build(bars, config).features.values[:known].tobytes()
    assert build(bars.rows(0, known), config).features.values.tobytes() == whole
    assert build(poisoned(bars, known, seed), config).features.values[:known].tobytes() == whole


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6), skipped=st.integers(1, 150))
def test_a_longer_history_changes_no_feature_after_its_warmup(seed: int, skipped: int) -> None:
    bars = random_bars(seed, 480)
    short, long = (computed(FEATURES.values(), part) for part in (bars.rows(skipped, len(bars)), bars))
    for name, feature in FEATURES.items():
        known, again = (values[name][-len(short[name]) :][feature.warmup :] for values in (long, short))
        np.testing.assert_allclose(again, known, rtol=0, atol=1e-5, err_msg=name)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6), price=st.floats(1e-3, 1e3), volume=st.floats(1e-3, 1e3))
def test_features_do_not_depend_on_the_unit_of_price_or_volume(seed: int, price: float, volume: float) -> None:
    bars = random_bars(seed)
    scaled = Bars(
        bars.open * price, bars.high * price, bars.low * price, bars.close * price, bars.volume * volume,
        interval="1d", calendar="NYSE", periods_per_year=252,
    )  # fmt: skip
    changed = computed(FEATURES.values(), scaled)
    for name, values in computed(FEATURES.values(), bars).items():
        # A deviation of prices that hardly move is left with the rounding of their squares.
        np.testing.assert_allclose(changed[name], values, rtol=0, atol=1e-5, err_msg=name)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), first=st.integers(0, 50), count=st.integers(2, 100))
def test_a_scaler_knows_only_its_own_rows(seed: int, first: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    index = pd.date_range("2020-01-01", periods=200, freq="h", tz="UTC")
    values = generator.normal(size=(200, 2, 3)).astype(np.float32)
    target = generator.normal(size=(200, 2))
    rows = range(first, first + count)
    outside = np.ones(200, dtype=bool)
    outside[rows.start : rows.stop] = False
    changed, changed_target = values.copy(), target.copy()
    changed[outside] = np.nan
    changed_target[outside] = np.inf

    fitted, again = (
        Scaler.fit(Features(inputs, ("a", "b", "log_return"), index, ("AAA", "BBB"), 0), outcome, rows)
        for inputs, outcome in ((values, target), (changed, changed_target))
    )

    assert fitted.last_row == rows[-1]
    for name in ("mean", "std", "target_scale"):
        assert getattr(fitted, name).tobytes() == getattr(again, name).tobytes()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    interval=st.sampled_from(["1m", "90m", "1h", "1d", "1wk", "1mo"]),
    tz=st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata"]),
)
def test_marks_depend_on_their_own_stamp_only(seed: int, interval: str, tz: str) -> None:
    minutes = np.random.default_rng(seed).integers(0, 60 * 365 * 24 * 60, size=20)
    stamps = pd.Timestamp("1980-01-01", tz="UTC") + pd.to_timedelta(minutes, unit="min")
    together = marks(stamps, interval, tz)
    alone = np.concatenate([marks(stamps[row : row + 1], interval, tz) for row in range(len(stamps))])
    assert together.shape == (20, len(mark_names(interval)))
    assert together.tobytes() == alone.tobytes()
    assert np.abs(together).max() <= 0.5


def test_log_returns_are_the_last_feature() -> None:
    bars = random_bars(3)
    features = build(bars, EVERYTHING).features
    np.testing.assert_array_equal(
        features.values[features.warmup :, :, -1], log_returns(bars)[features.warmup :].astype(np.float32)
    )

"""A label knows its origin's past and its own bars; the unit it is divided by knows the past alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrade.features.build import FeatureConfig, build
from qtrade.features.targets import Target, make_target
from qtrade.types import Bars
from qtrade.windows import Samples, WindowConfig

LENGTH, HORIZON, DELAY = 120, 5, 1
WINDOW = WindowConfig(seq_len=3, label_len=1, horizon=HORIZON)


def random_bars(seed: int) -> Bars:
    """Two symbols, one of which stands still for a while."""
    generator = np.random.default_rng(seed)
    move = 0.02 * generator.standard_t(4, size=(LENGTH, 2)) * np.exp(generator.normal(size=(LENGTH, 2)))
    start = int(generator.integers(0, LENGTH - 40))
    move[start : start + 40, 0] = 0
    return bars_of(100 * np.exp(np.clip(move, -0.5, 0.5).cumsum(axis=0)))


def bars_of(close: np.ndarray) -> Bars:
    index = pd.date_range("2015-01-01", periods=len(close), freq="D", tz="UTC")
    frame = pd.DataFrame(close, index=index, columns=["AAA", "BBB"])
    return Bars(frame, frame, frame, frame, frame * 0 + 1, interval="1d", calendar="24/7", periods_per_year=365)


def changed(bars: Bars, first: int, stop: int, seed: int) -> Bars:
    """Replace the bars at ``first <= t < stop`` by those of another world."""
    close = bars.close.to_numpy(copy=True)
    close[first:stop] *= np.exp(np.random.default_rng(seed).normal(0, 1, (len(close[first:stop]), 2)))
    return bars_of(close)


def samples(target: Target) -> Samples:
    assert target.unit is not None
    return Samples(
        values=np.zeros((*target.values.shape, 1), dtype=np.float32),
        marks=np.zeros((len(target.values), 1), dtype=np.float32),
        future_marks=np.zeros((len(target.values) + 20, 1), dtype=np.float32),
        future_start=np.arange(len(target.values), dtype=np.int64) + 1,
        target=target.values.astype(np.float32),
        window=WINDOW,
        delay=DELAY,
        unit=target.unit.astype(np.float32),
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), cut=st.integers(25, LENGTH - 1))
def test_past_and_unit_do_not_move_by_a_bit_when_their_future_does(seed: int, cut: int) -> None:
    bars = random_bars(seed)
    told = make_target(bars, "scaled_return")
    assert told.unit is not None
    assert np.isfinite(told.unit[20:]).all()
    assert (told.unit[20:] > 0).all()
    for other in (bars.rows(0, cut), changed(bars, cut, LENGTH, seed)):
        again = make_target(other, "scaled_return")
        assert again.unit is not None
        assert again.unit[:cut].tobytes() == told.unit[:cut].tobytes()
        assert again.past[:cut].tobytes() == told.past[:cut].tobytes()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), origin=st.integers(25, LENGTH - HORIZON - DELAY - 2))
def test_a_label_moves_with_nothing_after_its_last_bar(seed: int, origin: int) -> None:
    bars = random_bars(seed)
    end = origin + HORIZON + DELAY + 1
    told = samples(make_target(bars, "scaled_return"))
    rows = told.rows(range(origin, origin + 1))
    for other in (bars.rows(0, end), changed(bars, end, LENGTH, seed)):
        again = samples(make_target(other, "scaled_return"))
        assert again.labels(rows).tobytes() == told.labels(rows).tobytes()
    # The gate must be able to fail: the label's own bars do move it.
    moved = samples(make_target(changed(bars, end - 1, end, seed), "scaled_return"))
    assert (moved.labels(rows)[:, -1] != told.labels(rows)[:, -1]).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), origin=st.integers(25, LENGTH - HORIZON - DELAY - 2))
def test_what_lies_before_an_origin_moves_its_label_through_the_unit_alone(seed: int, origin: int) -> None:
    bars = random_bars(seed)
    told, again = (make_target(one, "scaled_return") for one in (bars, changed(bars, 0, origin, seed)))
    assert told.unit is not None
    assert again.unit is not None
    rows = samples(told).rows(range(origin, origin + 1))
    back = samples(told).labels(rows) * told.unit[origin][:, None]
    back_again = samples(again).labels(rows) * again.unit[origin][:, None]
    np.testing.assert_allclose(back, back_again, rtol=1e-5, atol=1e-9)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> str:
    """File of a feature that sees all symbols."""
    path = tmp_path_factory.mktemp("own") / "own.py"
    path.write_text("def features(bars):\n    return {'rank': bars.close.pct_change(5).rank(axis=1)}\n")
    return str(path)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), cut=st.integers(40, LENGTH - 1))
def test_cross_returns_and_own_features_are_the_same_bits_with_and_without_a_future(
    own: str, seed: int, cut: int
) -> None:
    config = FeatureConfig(set="none", target="scaled_return", cross=("BBB",), module=own)
    bars = random_bars(seed)
    whole = build(bars, config).features
    assert whole.names == ("return_of_BBB", "rank", "scaled_return")
    for other in (bars.rows(0, cut), changed(bars, cut, LENGTH, seed)):
        assert build(other, config).features.values[:cut].tobytes() == whole.values[:cut].tobytes()

"""From configuration and cache to everything about a market that no fold changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from qtrade.calendars import future_positions, time_zone
from qtrade.config import RunConfig
from qtrade.data.cache import Cache
from qtrade.data.load import load_bars
from qtrade.features.build import build
from qtrade.features.marks import marks, whole_marks
from qtrade.features.scaler import Scaler
from qtrade.features.targets import log_returns, target_series
from qtrade.types import Bars, Features, Float32Array, Float64Array, IntArray
from qtrade.windows import Samples, WindowConfig


@dataclass(frozen=True, eq=False)
class Market:
    """The bars of a run with everything derived from them that no fold changes."""

    bars: Bars
    features: Features
    returns: Float64Array
    """(T, S) log returns: what forecasts are judged by, and what every baseline learns."""
    target: Float64Array
    """(T, S) what the model learns."""
    marks: Float32Array
    future_marks: Float32Array
    future_start: IntArray
    expected: pd.DatetimeIndex
    """(G,) stamps that the calendar expects; the bars after row t are ``expected[future_start[t] :]``."""
    dropped: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def data_hash(self) -> str:
        """Fingerprint of the bars."""
        return self.bars.fingerprint()


def prepare(config: RunConfig, cache: Cache) -> Market:
    """Load bars from the cache and `derive` the rest."""
    loaded = load_bars(config.data, cache)
    return derive(config, loaded.bars, loaded.notes)


def derive(config: RunConfig, bars: Bars, notes: Sequence[str] = ()) -> Market:
    """Derive features, target and calendar marks from bars; `notes` tell how those came about."""
    built = build(bars, config.features)
    zone = time_zone(bars.calendar)
    # Tables are looked up by whole numbers; a linear layer wants them scaled.
    mark = marks if config.informer.embedding == "timeF" else whole_marks
    ahead = config.window.horizon + config.split.delay
    grid, start = future_positions(bars.index, ahead, bars.interval, bars.calendar)
    return Market(
        bars=bars,
        features=built.features,
        returns=log_returns(bars),
        target=target_series(bars, config.features.target),
        marks=mark(bars.index, bars.interval, zone),
        future_marks=mark(grid, bars.interval, zone),
        future_start=start,
        expected=grid,
        dropped=built.dropped,
        notes=tuple(note for note in (*notes, built.note) if note),
    )


def scaled(market: Market, scaler: Scaler, target: Float64Array | None, window: WindowConfig, delay: int) -> Samples:
    """Cut a market into windows as a fold's scaler sees it, with what is learned or, to predict, without."""
    return Samples(
        values=scaler.transform(market.features.values),
        marks=market.marks,
        future_marks=market.future_marks,
        future_start=market.future_start,
        target=None if target is None else scaler.transform_target(target),
        window=window,
        delay=delay,
    )

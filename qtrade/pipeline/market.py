"""From configuration and cache to everything about a market that no fold changes."""

from __future__ import annotations

from dataclasses import dataclass

from qtrade.calendars import future_positions, time_zone
from qtrade.config import RunConfig
from qtrade.data.cache import Cache
from qtrade.data.load import load_bars
from qtrade.errors import DataError
from qtrade.features.build import build
from qtrade.features.marks import marks
from qtrade.features.targets import log_returns
from qtrade.runs import Run
from qtrade.types import Bars, Features, Float32Array, Float64Array, IntArray


@dataclass(frozen=True, eq=False)
class Market:
    """The bars of a run with everything derived from them that no fold changes."""

    bars: Bars
    features: Features
    returns: Float64Array
    """(T, S) log returns, the target."""
    marks: Float32Array
    future_marks: Float32Array
    future_start: IntArray
    dropped: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def data_hash(self) -> str:
        """Fingerprint of the bars."""
        return self.bars.fingerprint()


def prepare(config: RunConfig, cache: Cache) -> Market:
    """Load bars from the cache and derive features, target and calendar marks."""
    loaded = load_bars(config.data, cache)
    bars = loaded.bars
    built = build(bars, config.features)
    zone = time_zone(bars.calendar)
    ahead = config.window.horizon + config.split.delay
    grid, start = future_positions(bars.index, ahead, bars.interval, bars.calendar)
    return Market(
        bars=bars,
        features=built.features,
        returns=log_returns(bars),
        marks=marks(bars.index, bars.interval, zone),
        future_marks=marks(grid, bars.interval, zone),
        future_start=start,
        dropped=built.dropped,
        notes=tuple(note for note in (*loaded.notes, built.note) if note),
    )


def run_bars(run: Run, cache: Cache) -> Bars:
    """Load the bars that a run was made from.

    Raises
    ------
    DataError
        If the cache now holds other bars.
    """
    bars = load_bars(run.config.data, cache).bars
    recorded, found = run.manifest["facts"]["data"], bars.fingerprint()
    if recorded != found:
        raise DataError(
            f"the cached bars are not those that {run.name} was made from",
            why=f"their hash is {found[:16]}, the run's is {recorded[:16]}: the history was fetched again and changed",
            fix=f"train on the new bars: `qtrade train --config {run.folder / 'config.toml'}`",
        )
    return bars

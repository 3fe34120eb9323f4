"""From configuration and cache to everything about a market that no fold changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from qtrade.calendars import future_positions, time_zone
from qtrade.config import RunConfig
from qtrade.data.cache import Cache
from qtrade.data.load import load_bars
from qtrade.errors import UsageError
from qtrade.features.audit import audit_features
from qtrade.features.build import build
from qtrade.features.marks import marks, whole_marks
from qtrade.features.scaler import Scaler
from qtrade.features.targets import Target, log_returns
from qtrade.progress import Progress
from qtrade.runs import Run
from qtrade.splits import walk_forward
from qtrade.types import Bars, Features, Float32Array, Float64Array, Fold, IntArray
from qtrade.user_code import UserFile
from qtrade.windows import Samples, WindowConfig


@dataclass(frozen=True, eq=False)
class Market:
    """The bars of a run with everything derived from them that no fold changes."""

    bars: Bars
    features: Features
    returns: Float64Array
    """(T, S) log returns: what forecasts are judged by, and what every baseline learns."""
    target: Target
    """What the network learns."""
    marks: Float32Array
    future_marks: Float32Array
    future_start: IntArray
    expected: pd.DatetimeIndex
    """(G,) stamps that the calendar expects; the bars after row t are ``expected[future_start[t] :]``."""
    dropped: tuple[str, ...]
    notes: tuple[str, ...]
    files: Mapping[str, str]
    """SHA-256 of the user's files behind features and target, by the setting that names them."""
    versions: Mapping[str, str]
    """Fingerprint of each symbol's raw bars in the cache, by which they can be had again; empty for bars of a run."""

    @property
    def data_hash(self) -> str:
        """Fingerprint of the bars."""
        return self.bars.fingerprint()

    def target_of(self, model: str) -> Target:
        """Return what a model learns; baselines tell of the price without being asked for its level, or in units."""
        return self.target if model == "informer" else Target.plain(self.returns)


def prepare(config: RunConfig, cache: Cache, progress: Progress | None = None) -> Market:
    """Load bars from the cache, audit what is made of them for look-ahead, and `derive` it."""
    loaded = load_bars(config.data, cache, progress)
    audit_features(loaded.bars, config.features, seed=config.seed)
    return derive(config, loaded.bars, loaded.notes, loaded.fingerprints, progress)


def derive(
    config: RunConfig,
    bars: Bars,
    notes: Sequence[str] = (),
    versions: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Market:
    """Derive features, target and calendar marks from bars; `notes` and `versions` tell how those came about."""
    built = build(bars, config.features, progress)
    zone = time_zone(bars.calendar)
    # Tables are looked up by whole numbers; a linear layer wants them scaled.
    mark = marks if config.informer.embedding == "timeF" else whole_marks
    ahead = config.window.horizon + config.split.delay
    grid, start = future_positions(bars.index, ahead, bars.interval, bars.calendar)
    return Market(
        bars=bars,
        features=built.features,
        returns=log_returns(bars),
        target=built.target,
        marks=mark(bars.index, bars.interval, zone),
        future_marks=mark(grid, bars.interval, zone),
        future_start=start,
        expected=grid,
        dropped=built.dropped,
        notes=tuple(note for note in (*notes, built.note, *built.target.notes) if note),
        files=built.files,
        versions=versions or {},
    )


def folds_of(market: Market, config: RunConfig) -> tuple[Fold, ...]:
    """Return the walk-forward folds of a run."""
    return walk_forward(
        len(market.bars), market.features.warmup, config.window.seq_len, config.window.horizon, config.split
    )


def check_files(run: Run, config: RunConfig) -> None:
    """Raise `UsageError` unless the user's files behind features and target are those that the models learned from."""
    recorded = run.manifest["facts"]
    for setting, path in config.features.files.items():
        if UserFile.read(path).sha256 != recorded.get(setting):
            raise UsageError(
                f"{path} is not what it was when {run.name} was trained",
                why=f"{setting} names it, and the models know its numbers as they were",
                fix=f"undo the change, or train a new run: `{run.train_command()}`",
            )


def scaled(market: Market, scaler: Scaler, target: Target | None, window: WindowConfig, delay: int) -> Samples:
    """Cut a market into windows as a fold's scaler sees it, with what is learned or, to predict, without."""
    return Samples(
        values=scaler.transform(market.features.values),
        marks=market.marks,
        future_marks=market.future_marks,
        future_start=market.future_start,
        target=None if target is None else scaler.transform_target(target.values),
        window=window,
        delay=delay,
        unit=None if target is None or target.unit is None else target.unit.astype(np.float32),
    )

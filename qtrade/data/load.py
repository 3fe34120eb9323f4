"""Loading bars from the cache as one checked table on one index."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import pandas as pd

from qtrade.calendars import periods_per_year
from qtrade.data.cache import Cache
from qtrade.data.checks import CHECKS, count_bars
from qtrade.data.config import DataConfig
from qtrade.data.mend import mend
from qtrade.data.quality import examine
from qtrade.data.raw import Finding, RawBars, adjust, between
from qtrade.errors import DataError, UsageError
from qtrade.progress import Progress, Silent
from qtrade.types import BAR_FIELDS, PRICE_FIELDS, Bars


@dataclass(frozen=True, eq=False)
class Loaded:
    """Bars from the cache, with what a reader of the results should know of how they came together.

    Attributes
    ----------
    notes
        Sentences on accepted errors, and on bars that were left out or filled in.
    fingerprints
        Of each symbol's raw bars, so that they can be had again (`data.versions`).
    """

    bars: Bars
    notes: tuple[str, ...]
    fingerprints: Mapping[str, str]


def load_bars(config: DataConfig, cache: Cache, progress: Progress | None = None) -> Loaded:
    """Load cached bars, adjusted for dividends and aligned on one index.

    The index begins with the symbol that was listed last and ends with the one that was delisted first. A bar that some
    symbols lack in between is left out for all of them, or filled in if `config.missing` says so; the notes count them.
    Dividends after `config.end` are not adjusted for, so that fetching again later changes nothing before it.

    Raises
    ------
    DataError
        If an entry is missing or damaged, or the bars have errors that `config.accept` does not name.
    UsageError
        If the symbols trade on different calendars.
    """
    raws = [
        cache.read(config.source, config.interval, symbol, config.versions.get(symbol)) for symbol in config.symbols
    ]
    calendars = {raw.calendar for raw in raws}
    if len(calendars) > 1:
        raise UsageError(
            "the symbols trade on different calendars",
            why=", ".join(f"{raw.symbol}: {raw.calendar}" for raw in raws),
            fix="run them apart from each other",
        )
    notes: list[str] = []
    tables: dict[str, pd.DataFrame] = {}
    progress = progress or Silent()
    progress.start("load", len(raws))
    for raw in raws:
        tables[raw.symbol], accepted = usable(raw, config)
        notes += [*accepted, *_warnings(raw, config), *_missing_years(raw, config)]
        progress.advance(1, raw.symbol)
    shared, told = _align(tables, config)
    for note in told:
        progress.message(note)  # it explains what may go wrong next, as too few bars
    columns = {name: pd.DataFrame({symbol: table[name] for symbol, table in shared.items()}) for name in BAR_FIELDS}
    calendar = calendars.pop()
    bars = Bars(
        **columns,
        interval=config.interval,
        calendar=calendar,
        periods_per_year=periods_per_year(config.interval, calendar),
    )
    return Loaded(bars, (*notes, *told), {raw.symbol: raw.fingerprint() for raw in raws})


def usable(raw: RawBars, config: DataConfig) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Bars of one symbol between the configured dates, mended and adjusted as configured; notes on what was accepted.

    Raises
    ------
    DataError
        If there are none, or they have errors that are not accepted.
    """
    frame = between(raw.frame, *config.span)
    if len(frame) == 0:
        raise DataError(
            f"{raw.symbol}: there are no bars from {config.start or 'the beginning'} to {config.end or 'the end'}",
            why=f"'{raw.source}' gave {raw.frame.index[0]} to {raw.frame.index[-1]}",
            fix="choose other dates, or fetch these: "
            f"`qtrade fetch {shlex.quote(raw.symbol)} --source {raw.source} --interval {raw.interval}"
            + (" --path FILE`" if raw.source == "file" else "`"),
        )
    sound, accepted = mend(_within(raw, frame), config.accept)
    notes = tuple(
        f"{_told(raw, one, 'accepted ')}. " + next(check.accepting for check in CHECKS if check.name == one.check)
        for one in accepted
    )
    return (adjust(sound.frame) if config.adjust else sound.frame[list(BAR_FIELDS)]), notes


def _within(raw: RawBars, frame: pd.DataFrame) -> RawBars:
    """Cut bars down to some rows, with what the source said of those."""
    first, last = frame.index[0], frame.index[-1]
    seen = tuple(one for one in raw.findings if pd.Timestamp(one.first) <= last and pd.Timestamp(one.last) >= first)
    return replace(raw, frame=frame, findings=seen)


def _warnings(raw: RawBars, config: DataConfig) -> list[str]:
    """Say what in the bars deserves a look."""
    found = examine(_within(raw, between(raw.frame, *config.span)))
    return [_told(raw, one) for one in found if one.severity == "warning"]


def _told(raw: RawBars, one: Finding, how: str = "") -> str:
    return f"{raw.symbol}: {how}'{one.check}' on {count_bars(one.count)} from {one.first} to {one.last}: {one.example}"


def _missing_years(raw: RawBars, config: DataConfig) -> list[str]:
    """Say that the cache begins later than the bars asked for, because less was asked for when they were fetched."""
    since = raw.facts.get("since")
    if since is None or (config.start is not None and pd.Timestamp(config.start, tz="UTC") >= pd.Timestamp(since)):
        return []
    return [f"{raw.symbol}: the cache has bars since {pd.Timestamp(since):%Y-%m-%d} only, as they were fetched"]


def _align(tables: Mapping[str, pd.DataFrame], config: DataConfig) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Bring tables to one index; notes on what that took."""
    start = max(table.index[0] for table in tables.values())
    stop = min(table.index[-1] for table in tables.values())
    inside = {symbol: table[(table.index >= start) & (table.index <= stop)] for symbol, table in tables.items()}
    join = pd.Index.union if config.missing == "fill" else pd.Index.intersection
    index = pd.DatetimeIndex(reduce(join, (table.index for table in inside.values())))
    if len(index) and all(len(table) for table in inside.values()):
        # Before its first bar there is nothing that could be filled in.
        index = index[index >= max(table.index[0] for table in inside.values())]
    if len(index) == 0 or not all(len(table) for table in inside.values()):
        raise DataError(
            "the symbols share no bar",
            why=", ".join(f"{symbol}: {table.index[0]} to {table.index[-1]}" for symbol, table in tables.items()),
            fix="choose other dates, or run them apart from each other",
        )
    notes = [*_cut_notes(tables, start, stop)]
    aligned = {}
    for symbol, table in inside.items():
        lacking, spare = len(index.difference(table.index)), len(table.index.difference(index))
        if lacking:
            notes.append(f"{symbol}: {lacking} of {len(index)} bars filled in with the close before, without volume")
        if spare:
            extra = table.index.difference(index)
            guilty = [other for other in inside if len(extra.difference(inside[other].index))]
            notes.append(f"{symbol}: {spare} of {len(table)} bars left out because {', '.join(guilty[:5])} lacks them")
        aligned[symbol] = _filled(table, index) if lacking else table.loc[index]
    return aligned, notes


def _cut_notes(tables: Mapping[str, pd.DataFrame], start: pd.Timestamp, stop: pd.Timestamp) -> Sequence[str]:
    """Say which symbol's listing or delisting shortens the others, and by how much."""
    notes = []
    early = max(int((table.index < start).sum()) for table in tables.values())
    late = max(int((table.index > stop).sum()) for table in tables.values())
    if early:
        name = next(symbol for symbol, table in tables.items() if table.index[0] == start)
        notes.append(f"{name} begins at {start:%Y-%m-%d}; up to {early} earlier bars of the others are left out")
    if late:
        name = next(symbol for symbol, table in tables.items() if table.index[-1] == stop)
        notes.append(f"{name} ends at {stop:%Y-%m-%d}; up to {late} later bars of the others are left out")
    return notes


def _filled(table: pd.DataFrame, index: pd.DatetimeIndex) -> pd.DataFrame:
    """Repeat the last close, with no volume, where a bar of `index` is missing."""
    close = table["close"].reindex(index, method="ffill")
    filled = table.reindex(index)
    hole = filled["close"].isna()
    for name in PRICE_FIELDS:
        filled[name] = filled[name].where(~hole, close)
    filled["volume"] = filled["volume"].where(~hole, 0.0)
    return filled

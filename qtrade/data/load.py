"""Fetching bars into the cache, and loading them from it as one checked table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from qtrade.calendars import check_interval, periods_per_year
from qtrade.data.cache import Cache
from qtrade.data.raw import RawBars, Source, adjust, between
from qtrade.data.sample import Sample
from qtrade.data.yahoo import Yahoo
from qtrade.errors import DataError, PartialError, QtradeError, UsageError
from qtrade.progress import Progress
from qtrade.settings import Settings
from qtrade.types import BAR_FIELDS, PRICE_FIELDS, Bars

SOURCES: dict[str, type[Source]] = {"sample": Sample, "yahoo": Yahoo}


class DataConfig(Settings):
    """Which bars a run is about."""

    source: Literal["sample", "yahoo"] = "sample"
    """Where bars come from."""
    symbols: tuple[str, ...] = Field(default=("^GSPC",), min_length=1)
    """Symbols in the source's spelling; several are pooled in one model."""
    interval: str = "1d"
    """Bar length in Yahoo's spelling, such as 1d, 1h or 15m."""
    start: date | None = None
    """First date; without one, all there is."""
    end: date | None = None
    """Date after the last one."""
    adjust: bool = True
    """Take dividends out of the prices."""

    @field_validator("interval")
    @classmethod
    def _known_interval(cls, interval: str) -> str:
        return check_interval(interval)

    @field_validator("symbols")
    @classmethod
    def _symbols_are_names(cls, symbols: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(symbols)) < len(symbols):
            raise ValueError("a symbol is named twice")
        if not all(re.fullmatch(r"[!-~]{1,50}", symbol) for symbol in symbols):
            raise ValueError("a symbol is 1 to 50 printable ASCII characters without spaces")
        return symbols

    @field_validator("start", "end", mode="before")
    @classmethod
    def _dates_are_written_out(cls, day: object) -> object:
        if isinstance(day, str) and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", day.strip()):
            raise ValueError("write the date as 2012-01-31")
        if isinstance(day, int | float):
            raise ValueError("write the date as 2012-01-31")
        return day.strip() if isinstance(day, str) else day

    @model_validator(mode="after")
    def _dates_are_in_order(self) -> Self:
        if self.start and self.end and self.start >= self.end:
            raise ValueError(f"start {self.start} is not before end {self.end}")
        return self

    @property
    def span(self) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
        """`start` and `end` as UTC stamps."""
        first, stop = (pd.Timestamp(day, tz="UTC") if day else None for day in (self.start, self.end))
        return first, stop


@dataclass(frozen=True)
class FetchReport:
    """What a fetch saved, and what failed and why."""

    saved: tuple[Path, ...]
    failed: Mapping[str, QtradeError]

    def require_all(self) -> None:
        """Raise the failure if there is one: the error itself if nothing was saved, else `PartialError`."""
        if not self.failed:
            return
        errors = list(self.failed.values())
        if not self.saved and len(errors) == 1:
            raise errors[0]
        why = "\n       ".join(f"{symbol}: {error.what}" for symbol, error in self.failed.items())
        if not self.saved:
            raise DataError("no symbol could be fetched", why=why, fix=errors[0].fix)
        raise PartialError(
            f"{len(self.failed)} of {len(self.failed) + len(self.saved)} symbols could not be fetched",
            why=why,
            fix="the others are saved; run the same command again for these: " + " ".join(self.failed),
        )


@dataclass(frozen=True, eq=False)
class Loaded:
    """Bars from the cache, with what a reader of the results should know of how they came together."""

    bars: Bars
    notes: tuple[str, ...] = ()


def fetch(config: DataConfig, *, cache: Cache, progress: Progress) -> FetchReport:
    """Get every symbol from the source and store it; one symbol's failure leaves the others saved.

    An answer takes the place of what the cache held, dates included: vendors rewrite history after each dividend and
    split, so old and new bars do not join. An answer that `load_bars` would refuse is a failure and replaces nothing.

    Raises
    ------
    UsageError
        If the source has no bars of this interval, or the cache cannot be written to.
    """
    source = SOURCES[config.source]()
    start, end = config.span
    progress.start("fetch", len(config.symbols))
    saved: list[Path] = []
    failed: dict[str, QtradeError] = {}
    for symbol in config.symbols:
        try:
            raw = source.fetch(symbol, interval=config.interval, start=start, end=end)
            _assemble((raw,), config)
            saved.append(cache.write(raw))
            progress.advance(1, f"{symbol}  {len(raw.frame)} bars")
        except UsageError:
            raise  # a wrong interval or an unwritable folder is the same for every symbol
        except QtradeError as error:
            failed[symbol] = error
            progress.advance(1, f"{symbol}  failed")
    return FetchReport(tuple(saved), failed)


def load_bars(config: DataConfig, cache: Cache) -> Loaded:
    """Load cached bars, adjusted for dividends and aligned on the stamps that all symbols share.

    A bar that one symbol lacks is left out for all of them, never filled; the notes count how many. Dividends after
    `config.end` are not adjusted for, so that fetching again later changes nothing before it.

    Raises
    ------
    DataError
        If an entry is missing or damaged, or the bars are not fit for use.
    UsageError
        If the symbols trade on different calendars.
    """
    return _assemble([cache.read(config.source, config.interval, symbol) for symbol in config.symbols], config)


def _assemble(raws: Sequence[RawBars], config: DataConfig) -> Loaded:
    """Turn raw bars into one checked table."""
    calendars = {raw.calendar for raw in raws}
    if len(calendars) > 1:
        raise UsageError(
            "the symbols trade on different calendars",
            why=", ".join(f"{raw.symbol}: {raw.calendar}" for raw in raws),
            fix="run them apart from each other",
        )
    tables = {raw.symbol: _table(raw, config) for raw in raws}
    shared = pd.DatetimeIndex(reduce(pd.Index.intersection, (table.index for table in tables.values())))
    if len(shared) == 0:
        raise DataError(
            "the symbols share no bar",
            why=", ".join(f"{symbol}: {table.index[0]} to {table.index[-1]}" for symbol, table in tables.items()),
            fix="choose other dates, or run them apart from each other",
        )
    columns = {
        name: pd.DataFrame({symbol: table.loc[shared, name] for symbol, table in tables.items()}) for name in BAR_FIELDS
    }
    calendar = calendars.pop()
    bars = Bars(
        **columns,
        interval=config.interval,
        calendar=calendar,
        periods_per_year=periods_per_year(config.interval, calendar),
    )
    for symbol in bars.symbols:
        if len(bars) > 1 and bars.close[symbol].nunique() == 1:
            raise DataError(
                f"{symbol}: the close never changes",
                why=f"all {len(bars)} bars close at {bars.close[symbol].iloc[0]}",
                fix="leave the symbol out, or choose other dates",
            )
    notes = tuple(
        f"{symbol}: {len(table) - len(shared)} of {len(table)} bars left out because another symbol lacks them"
        for symbol, table in tables.items()
        if len(table) > len(shared)
    )
    return Loaded(bars, notes)


def _table(raw: RawBars, config: DataConfig) -> pd.DataFrame:
    """Bars of one symbol between the configured dates, adjusted if configured."""
    frame = between(raw.frame, *config.span)
    if len(frame) == 0:
        raise DataError(
            f"{raw.symbol}: there are no bars from {config.start or 'the beginning'} to {config.end or 'the end'}",
            why=f"'{raw.source}' gave {raw.frame.index[0]} to {raw.frame.index[-1]}",
            fix="choose other dates, or fetch these: "
            f"`qtrade fetch '{raw.symbol}' --source {raw.source} --interval {raw.interval}`",
        )
    _check_prices(raw.symbol, frame)
    if not config.adjust:
        return frame[list(BAR_FIELDS)]
    try:
        return adjust(frame)
    except DataError as error:
        raise DataError(f"{raw.symbol}: {error.what}", fix=error.fix) from error


def _check_prices(symbol: str, frame: pd.DataFrame) -> None:
    """Refuse missing and zero prices, which vendors give for the early years of some indices, and say until when."""
    prices = frame[list(PRICE_FIELDS)]
    bad = ~((prices > 0) & np.isfinite(prices))
    rows = frame.index[bad.any(axis=1)]
    if len(rows) == 0:
        return
    field = str(bad.columns[bad.loc[rows[0]]][0])
    start = (rows[-1] + pd.Timedelta(days=1)).date()
    raise DataError(
        f"{symbol}: '{field}' is {prices.loc[rows[0], field]} at {rows[0]}",
        why=f"{len(rows)} of {len(frame)} bars lack a price, the last one at {rows[-1]}",
        fix="fetch the bars again" + (f", or leave those out: --start {start}" if rows[-1] < frame.index[-1] else ""),
    )

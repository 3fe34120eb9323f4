"""Bars from the user's own CSV and Parquet files."""

from __future__ import annotations

import difflib
import re
import zoneinfo
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.parse import unquote

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from qtrade.calendars import (
    ALWAYS,
    CURRENCIES,
    LONGER_THAN_A_DAY,
    check_interval,
    intraday_length,
    known_stamps,
    time_zone,
)
from qtrade.data.adjusted import implied_dividends
from qtrade.data.columns import SPELLINGS
from qtrade.data.defects import without
from qtrade.data.names import safe_name
from qtrade.data.raw import RAW_FIELDS, Finding, RawBars, Severity, between
from qtrade.data.stamps import Times, check_steps, localised, read_times
from qtrade.data.tables import Place, Table, absent, no_rows, numbers, read_table, text_of
from qtrade.errors import DataError, UsageError, nearest
from qtrade.settings import Settings
from qtrade.types import PRICE_FIELDS, IntArray

_SUFFIXES = (".csv", ".csv.gz", ".parquet")


class FileConfig(Settings):
    """How to read files. Prices are taken for what was traded; for adjusted ones set `data.adjust` to false."""

    path: Path | None = None
    """A CSV or Parquet file; or a folder with a file for each symbol, named as the symbol is, or as the cache would
    name it, with .csv, .csv.gz or .parquet after it."""
    columns: dict[str, str] = Field(default={})
    """The file's names for columns that are not recognised, as open=o,close=c. With nothing after its = a column is not
    read."""
    tz: str | None = None
    """Time zone of stamps without an offset, as Europe/Berlin; dates need none."""
    calendar: str | None = None
    """When the market trades: 24/7, 24/5, or the code of an exchange as XNYS. Without it, it is found out where the
    bars leave no doubt."""
    delimiter: str | None = None
    """The sign between cells; without it, the one among `, ; tab |` that is most frequent in the first line."""
    decimal: Literal[".", ","] = "."
    """The decimal sign."""
    offset: float = 0.0
    """Added to the four prices of series that may be negative, such as temperatures or spreads; all returns are then
    those of the shifted series."""
    stamps: Literal["open", "close"] = "open"
    """Whether the stamp of an intraday bar is the moment it opens or closes."""

    @field_validator("columns", mode="before")
    @classmethod
    def _columns_may_be_one_text(cls, columns: Any) -> Any:
        if not isinstance(columns, str):
            return columns
        pairs = [part.partition("=") for part in columns.split(",") if part.strip()]
        if any(not sign for _, sign, _ in pairs):
            raise ValueError("write them as open=o,close=c")
        return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}

    @field_validator("columns")
    @classmethod
    def _columns_are_known(cls, columns: dict[str, str]) -> dict[str, str]:
        for ours in columns:
            if ours not in SPELLINGS:
                raise UsageError(f"there is no column '{ours}' to name", fix=nearest(ours, SPELLINGS))
        return columns

    @field_validator("tz")
    @classmethod
    def _zone_is_known(cls, tz: str | None) -> str | None:
        try:
            return tz if tz is None else zoneinfo.ZoneInfo(tz).key
        except (KeyError, ValueError, OSError) as error:
            close = difflib.get_close_matches(str(tz), zoneinfo.available_timezones(), n=1)
            fix = f"did you mean '{close[0]}'?" if close else "write it as Europe/Berlin, America/New_York or UTC"
            raise UsageError(f"unknown time zone '{tz}'", fix=fix) from error

    @field_validator("delimiter")
    @classmethod
    def _delimiter_is_a_sign(cls, delimiter: str | None) -> str | None:
        delimiter = "\t" if delimiter in ("\\t", "tab") else delimiter
        if delimiter is not None and not re.fullmatch(r"[,;\t| :^~!&*/]", delimiter):
            raise ValueError("a delimiter is one sign, as , ; | or tab")
        return delimiter

    @model_validator(mode="after")
    def _signs_differ(self) -> Self:
        if self.delimiter == self.decimal:
            raise ValueError(f"'{self.decimal}' cannot be both the delimiter and the decimal sign")
        return self


class File:
    """CSV and Parquet files: one for each symbol in a folder, or one for all with a column of symbols, or just one.

    Columns are recognised by their usual names in any case. Without open, high or low, the close stands for all four.
    With an adjusted close beside the close, and no column of dividends, dividends are what explains their ratio; a step
    that no dividend explains is refused. An adjusted close alone is taken for the close.

    Intraday stamps are moved to UTC, and those without an offset are refused unless their time zone is known. Bars of
    a day or longer are stamped at 00:00 UTC of their local date: the one written down, or, where that has an offset and
    a time of day, the date at that moment in the file's time zone or the calendar's. Weeks are moved to their Monday,
    months and quarters to their first day.

    Parameters
    ----------
    config
        Where the files are and how to read them.
    """

    name: ClassVar[str] = "file"

    def __init__(self, config: FileConfig) -> None:
        self._config = config
        self._last: tuple[Path, Table] | None = None
        self._told: dict[Path, str] = {}

    def fetch(self, symbol: str, *, interval: str, start: pd.Timestamp | None, end: pd.Timestamp | None) -> RawBars:
        """Read the bars of one symbol.

        Raises
        ------
        UsageError
            If no file is named, or the interval or the calendar is unknown.
        DataError
            If the file is missing, or what it holds cannot be read without guessing.
        """
        config = self._config
        check_interval(interval)
        if config.calendar is not None:
            time_zone(config.calendar)
        path = _path(config.path, symbol)
        table = self._table(path)
        file = table.place.file
        if "symbol" not in table.cells and self._told.setdefault(path, symbol) != symbol:
            raise UsageError(
                f"{file} holds one series, and would be {self._told[path]} and {symbol}",
                why="no column of it names symbols",
                fix="name one symbol; or the column, as --columns symbol=NAME; or a folder with a file for each",
            )
        table = _rows(table, symbol)
        stamps = _stamps(table, interval, config)
        frame, ordered = _in_order(_values(table, stamps, config.decimal), table)
        frame, priced = _priced(frame, file)
        if "adj_close" in frame:
            frame["dividends"] = implied_dividends(frame, file)
        frame = frame[list(RAW_FIELDS)].copy()
        findings = [*ordered, *priced, *_told(frame, table.theirs)]
        frame["volume"] = frame["volume"].fillna(0.0)
        for name in PRICE_FIELDS:
            frame[name] += config.offset
        if not np.isfinite(frame.to_numpy()).all():
            raise DataError(f"{file}: its numbers are too large to compute with", fix="write them in millions")
        calendar = config.calendar
        if calendar is None:
            calendar, why = _calendar(pd.DatetimeIndex(frame.index), interval, file)
            findings.append(_finding("calendar", "info", frame.index, f"{calendar}, as {why}"))
        facts = {"file": file, "columns": dict(table.theirs)}
        zone = time_zone(calendar)
        return RawBars(symbol, self.name, interval, calendar, zone, between(frame, start, end), tuple(findings), facts)

    def _table(self, path: Path) -> Table:
        """Read a file, or return what was read of it for the symbol before."""
        if self._last is None or self._last[0] != path:
            config = self._config
            self._last = path, read_table(path, config.columns, config.delimiter, config.decimal)
        return self._last[1]


def symbols_at(path: Path) -> tuple[str, ...]:
    """Symbols that a path holds by its names: all of a folder's files, or the file's own."""
    names = sorted(one.name for one in path.iterdir() if one.name.endswith(_SUFFIXES)) if path.is_dir() else []
    return tuple(unquote(_stem(name)) for name in names or [path.name])


def _stem(name: str) -> str:
    """Name of a file without what tells its kind."""
    return re.sub(r"\.(csv|csv\.gz|parquet|pq|txt|tsv)$", "", name)


def _path(path: Path | None, symbol: str) -> Path:
    """File that holds a symbol."""
    if path is None:
        raise UsageError("no file is named", fix="add --path prices.csv")
    try:
        if not path.is_dir():
            return path
        there = sorted(one.name for one in path.iterdir() if one.name.endswith(_SUFFIXES))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read", why=str(error), fix="check --path") from error
    found = [name for name in there if symbol in (_stem(name), unquote(_stem(name)))]
    if len(found) > 1:
        raise DataError(f"{symbol}: the folder {path} has {' and '.join(found)}", fix="name one of them with --path")
    if not found:
        stems = {unquote(_stem(name)) for name in there}
        fix = nearest(symbol, stems) if 0 < len(stems) <= 50 else f"put {safe_name(symbol)}.csv there, or check --path"
        raise DataError(f"{symbol}: the folder {path} has no file of this symbol", fix=fix)
    return path / found[0]


def _rows(table: Table, symbol: str) -> Table:
    """Rows of one symbol, without those that hold nothing."""
    cells, place = table.cells, table.place
    if "symbol" in cells:
        symbols = text_of(cells["symbol"])
        cells = cells[(symbols == symbol).to_numpy(dtype=np.bool_)]
        if len(cells) == 0:
            there = sorted(set(symbols.unique()) - {""})
            close = difflib.get_close_matches(symbol, there, n=1)
            few = f"it has {', '.join(there[:10])}" + (f" and {len(there) - 10} more" if len(there) > 10 else "")
            fix = f"did you mean '{close[0]}'?" if close else few
            raise DataError(f"{place.file} has no symbol '{symbol}' in its column '{table.theirs['symbol']}'", fix=fix)
        cells = cells.drop(columns="symbol")
    untimed = absent(cells["time"])
    if untimed.any():
        some = cells[untimed]
        empty = np.logical_and.reduce([absent(some[name]) for name in some])
        if not empty.all():
            time = some["time"].rename(table.theirs["time"])
            raise place.refusal(time, ~empty, "is no time", fix="write one there, or delete that row")
        cells = cells[~untimed]
    if len(cells) == 0:
        raise no_rows(place.file)
    return Table(place, cells, table.theirs)


def _stamps(table: Table, interval: str, config: FileConfig) -> pd.DatetimeIndex:
    """Stamps of the rows as bars have them."""
    place, cells = table.place, table.column("time")
    read = read_times(cells, table.column("clock") if "clock" in table.cells else None, place)
    check_steps(read.wall if read.utc is None else read.utc, interval, place.file)
    length = intraday_length(interval)
    if length is None:
        return _periods(_dates(read, config, cells, place), interval)
    if read.utc is None and config.tz is None:
        raise DataError(
            f"{place.file}: its stamps have no time zone",
            why=f"{str(cells.iloc[0])[:40]!r} is another moment in every zone",
            fix="say which: --tz UTC, or as --tz Europe/Berlin",
        )
    utc = read.utc if read.utc is not None else localised(read.wall, str(config.tz), cells, place)
    return utc - length if config.stamps == "close" else utc


def _dates(read: Times, config: FileConfig, cells: pd.Series[Any], place: Place) -> pd.DatetimeIndex:
    days = read.wall.normalize()
    timed = np.asarray(read.wall != days)
    if read.utc is not None and timed.any():
        zone = config.tz or (time_zone(config.calendar) if config.calendar is not None else None)
        if zone is None:
            fix = "add the exchange's zone, as --tz America/New_York, or its --calendar"
            raise place.refusal(cells, timed, "is on another date in other time zones", fix=fix)
        days = read.utc.tz_convert(zone).tz_localize(None).normalize()
    return days.tz_localize("UTC")


def _periods(days: pd.DatetimeIndex, interval: str) -> pd.DatetimeIndex:
    """Move weeks to their Monday, months and quarters to their first day, where the calendar has them."""
    if interval == "1wk":
        # A Sunday may be the last day of a week or the first one of the next; it is left for the user to see.
        return days - pd.to_timedelta(np.where(days.day_of_week == 6, 0, days.day_of_week), unit="D")
    if interval in LONGER_THAN_A_DAY:
        naive = days.tz_localize(None)
        return pd.DatetimeIndex(naive.to_period("M" if interval == "1mo" else "Q").start_time).tz_localize("UTC")
    return days


def _values(table: Table, stamps: pd.DatetimeIndex, decimal: str) -> pd.DataFrame:
    """Columns `RAW_FIELDS`, and perhaps the adjusted close, in the order of the file; NaN where nothing is written."""
    read = {
        str(name): numbers(table.column(str(name)), table.place, decimal)
        for name in table.cells
        if name not in ("time", "clock")
    }
    if "close" not in read:
        read["close"] = read.pop("adj_close")
    if not read.keys() >= set(PRICE_FIELDS):
        read |= dict.fromkeys(PRICE_FIELDS, read["close"])
    if "dividends" in read:
        read.pop("adj_close", None)
    zeros = np.zeros(len(stamps))
    splits = np.nan_to_num(read.get("splits", zeros))
    read["splits"] = np.where(splits == 1, 0.0, splits)  # one new share for an old one is no split
    read["dividends"] = np.nan_to_num(read.get("dividends", zeros))
    return pd.DataFrame({"volume": zeros} | read, index=stamps)


def _in_order(frame: pd.DataFrame, table: Table) -> tuple[pd.DataFrame, list[Finding]]:
    """Sort rows by their stamps, and keep the last one of those with the same."""
    findings = []
    index, lines, unit = pd.DatetimeIndex(frame.index), table.cells.index, table.place.unit
    back = np.flatnonzero(np.diff(index.asi8) < 0) + 1
    if len(back):
        example = f"{unit} {lines[back[0]]}: {index[back[0]]} comes after {index[back[0] - 1]}"
        findings.append(_finding("unordered", "warning", index[back].sort_values(), example))
        order = np.argsort(index.asi8, kind="stable")
        frame, lines = frame.iloc[order], lines[order]
        index = pd.DatetimeIndex(frame.index)
    again: IntArray = np.flatnonzero(np.diff(index.asi8) == 0) + 1
    if len(again):
        former, latter = frame.iloc[again - 1].to_numpy(), frame.iloc[again].to_numpy()
        same = ((former == latter) | (np.isnan(former) & np.isnan(latter))).all(axis=1)
        kinds: tuple[tuple[IntArray, Severity, str], ...] = (
            (again[same], "warning", "are the same; one is kept"),
            (again[~same], "error", "differ; the later row is kept if accepted"),
        )
        for rows, severity, what in kinds:
            if len(rows):
                example = f"{unit}s {lines[rows[0] - 1]} and {lines[rows[0]]} {what}"
                findings.append(_finding("duplicates", severity, index[rows], example))
        frame = frame[~index.duplicated(keep="last")]
    return frame, findings


def _priced(frame: pd.DataFrame, file: str) -> tuple[pd.DataFrame, list[Finding]]:
    """Leave out rows that lack a price."""
    keep = frame[list(PRICE_FIELDS)].notna().all(axis=1).to_numpy()
    if keep.all():
        return frame, []
    if not keep.any():
        raise DataError(f"{file} has no row with all its prices", fix="choose other columns: --columns open=,close=...")
    return without(frame, np.flatnonzero(~keep)), [
        _finding("missing_price", "warning", frame.index[~keep], "this row lacks a price; it was left out")
    ]


def _told(frame: pd.DataFrame, theirs: Mapping[str, str]) -> list[Finding]:
    """Say what the file did not hold."""
    findings = []
    lacking = [name for name in ("open", "high", "low") if name not in theirs]
    if lacking:
        example = f"there is no {' and no '.join(lacking)}; the close stands for all four prices"
        findings.append(_finding("close_only", "info", frame.index, example))
    if "close" not in theirs:
        example = f"'{theirs['adj_close']}' is taken for the close; returns have their dividends already"
        findings.append(_finding("adjusted_close", "info", frame.index, example))
    if frame["volume"].isna().any():
        unknown = frame.index[frame["volume"].isna()]
        findings.append(_finding("missing_volume", "warning", unknown, "no volume is written there; it is set to zero"))
    return findings


def _calendar(index: pd.DatetimeIndex, interval: str, file: str) -> tuple[str, str]:
    """Tell a market without weekends, or one of currencies, by its bars, and why; nothing else can be told."""
    length = intraday_length(interval)
    if length is not None or interval == "1d":
        days = pd.DatetimeIndex(index.normalize().unique())
        span = pd.date_range(days[0], days[-1], freq="D")
        held = [((days.day_of_week == day).sum(), (span.day_of_week == day).sum()) for day in (5, 6)]
        if all(2 * there > expected for there, expected in held):
            (saturdays, of_saturdays), (sundays, of_sundays) = held
            return ALWAYS, f"{saturdays} of {of_saturdays} Saturdays and {sundays} of {of_sundays} Sundays have bars"
    if length is not None and index[-1] - index[0] >= pd.Timedelta(days=7):
        hour = pd.Timedelta(hours=1)
        open_hours = known_stamps(index[0].floor("h"), index[-1], "1h", CURRENCIES)
        hours = index.floor("h")
        inside = hours.isin(open_hours)
        share = hours[inside].nunique() * max(length / hour, 1.0) / max(len(open_hours), 1)
        if inside.mean() >= 0.99 and share >= 0.97:
            return CURRENCIES, f"{min(share, 1.0):.1%} of all hours from Sunday to Friday 17:00 in New York have bars"
    raise DataError(
        f"{file} does not show when its market trades",
        why="a wrong calendar would place forecasts where there is no trade",
        fix="name the exchange, as --calendar XNYS; or --calendar 24/7 for crypto, 24/5 for currencies",
    )


def _finding(check: str, severity: Severity, stamps: pd.Index, example: str) -> Finding:
    return Finding(check, severity, len(stamps), str(stamps[0]), str(stamps[-1]), example)

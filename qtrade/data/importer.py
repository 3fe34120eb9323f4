"""Bars from CSV and Parquet files, whatever their columns are called and however they write numbers and times."""

from __future__ import annotations

import gzip
import io
import warnings
import zlib
from pathlib import Path
from typing import Any, ClassVar, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field, field_validator

from qtrade.calendars import ALWAYS, CURRENCIES, intraday_length, time_zone
from qtrade.data.cache import safe_name
from qtrade.data.columns import SPELLINGS, recognise
from qtrade.data.raw import RAW_FIELDS, Finding, RawBars, between
from qtrade.data.stamps import check_spacing, parse_stamps
from qtrade.errors import DataError, UsageError, nearest
from qtrade.settings import Settings
from qtrade.types import PRICE_FIELDS, Float64Array

_DELIMITERS = (",", ";", "\t", "|")
_PARQUET = (".parquet", ".pq")
_SUFFIXES = (".csv", ".csv.gz", ".txt", ".tsv", *_PARQUET)
# A ratio of adjusted to plain close that moves by less is rounding.
_ROUNDING = 1e-5
_LARGEST_DIVIDEND = 0.5


class FileConfig(Settings):
    """How to read files of bars."""

    path: Path | None = None
    """A CSV or Parquet file, or a folder with a file for each symbol, as AAPL.csv."""
    columns: dict[str, str] = Field(default={})
    """Columns that are called otherwise than usual, ours to theirs; as text, open=o,close=c. Ours are time, clock (the
    time of day, where that stands apart from the date), symbol, open, high, low, close, adj_close, volume, dividends,
    splits."""
    tz: str | None = None
    """Time zone of stamps without an offset."""
    calendar: str | None = None
    """When the market trades: 24/7, 24/5, or an exchange such as XNYS. Found out where the bars leave no doubt."""
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    """What stands between columns; found out among comma, semicolon, tab and bar."""
    decimal: Literal[".", ","] = "."
    """What stands before the decimals."""
    offset: float = 0.0
    """Added to all prices, for series that may be negative, such as temperatures or spreads. Returns are then those of
    the shifted series."""
    stamps: Literal["open", "close"] = "open"
    """Whether an intraday stamp is when its bar opens or when it closes."""

    @field_validator("columns", mode="before")
    @classmethod
    def _columns_may_be_text(cls, columns: object) -> object:
        if not isinstance(columns, str):
            return columns
        pairs = [part.partition("=") for part in columns.split(",") if part.strip()]
        if not all(equals and theirs.strip() for _, equals, theirs in pairs):
            raise ValueError("write columns as open=o,close=c")
        return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}

    @field_validator("columns")
    @classmethod
    def _columns_are_ours(cls, columns: dict[str, str]) -> dict[str, str]:
        for name in columns:
            if name not in SPELLINGS:
                raise UsageError(f"there is no column '{name}' to be named", fix=nearest(name, SPELLINGS))
        return columns

    @field_validator("tz")
    @classmethod
    def _known_zone(cls, tz: str | None) -> str | None:
        try:
            return tz if tz is None else ZoneInfo(tz).key
        except (KeyError, ValueError, OSError) as error:
            raise UsageError(f"there is no time zone '{tz}'", fix="write it as UTC or Europe/Berlin") from error

    @field_validator("calendar")
    @classmethod
    def _known_calendar(cls, calendar: str | None) -> str | None:
        if calendar is not None:
            time_zone(calendar)  # an unknown calendar has none, and says so
        return calendar


class File:
    """CSV or Parquet: one file for a symbol, or a long one with a column of symbols."""

    name: ClassVar[str] = "file"

    def __init__(self, config: FileConfig) -> None:
        self._config = config

    def fetch(self, symbol: str, *, interval: str, start: pd.Timestamp | None, end: pd.Timestamp | None) -> RawBars:
        """Read the bars of one symbol.

        Raises
        ------
        DataError
            If there is no such file, or what it holds cannot be read as bars.
        UsageError
            If no path is given.
        """
        config = self._config
        path = _find(config.path, symbol)
        where = path.name
        table = _read(path, config)
        names = [str(name) for name in table.columns]
        columns = recognise(names, config.columns, where)
        if "symbol" in columns:
            table = _of_symbol(table, columns["symbol"], symbol, where)
        if len(table) == 0:
            raise DataError(f"{where} has no rows", fix="choose another file")
        times = table[columns["time"]]
        if "clock" in columns:
            times = times.astype(str) + " " + table[columns["clock"]].astype(str)
        index = parse_stamps(times, interval, config.tz, where)
        if config.stamps == "close" and (length := intraday_length(interval)) is not None:
            index = index - length
        frame, findings = _bars(table, columns, index, where)
        frame[list(PRICE_FIELDS)] += config.offset
        check_spacing(index, interval, where)
        frame, told = _ordered(frame)
        findings += told
        if "adj_close" in columns:
            _recover_dividends(frame, config.offset, where)
        frame, told = _with_prices(frame[list(RAW_FIELDS)], where)
        findings += told
        calendar = config.calendar or _infer_calendar(pd.DatetimeIndex(frame.index), interval, where)
        zone = config.tz or time_zone(calendar)
        facts = {"file": where, "columns": columns}
        return RawBars(symbol, self.name, interval, calendar, zone, between(frame, start, end), tuple(findings), facts)


def _find(path: Path | None, symbol: str) -> Path:
    """File of a symbol: the one given, or the one of its name in a folder."""
    if path is None:
        raise UsageError("which file is to be read?", fix="add --path FILE")
    if not path.is_dir():
        return path
    for stem in dict.fromkeys((symbol, safe_name(symbol))):
        for suffix in _SUFFIXES:
            if (path / f"{stem}{suffix}").is_file():
                return path / f"{stem}{suffix}"
    known = [file.name.partition(".")[0] for file in path.iterdir() if file.name.endswith(_SUFFIXES)]
    raise DataError(
        f"{path} has no file of {symbol}",
        why=f"it would be called {symbol}.csv or {symbol}.parquet",
        fix=nearest(symbol, known) if known else "choose another folder",
    )


def _read(path: Path, config: FileConfig) -> pd.DataFrame:
    """Read a file as a table, its index among the columns."""
    try:
        with warnings.catch_warnings():
            # What pandas warns of, as rows of different lengths, would give other numbers than the file says.
            warnings.simplefilter("error")
            if path.suffix.lower() in _PARQUET:
                table = pd.read_parquet(path, engine="pyarrow")
                if not isinstance(table.index, pd.RangeIndex):
                    table = table.reset_index()
            else:
                table = _read_csv(path, config)
    except DataError:
        raise
    except (OSError, EOFError, zlib.error, ValueError, TypeError, LookupError, OverflowError, MemoryError) as error:
        raise _unreadable(path, error) from error
    except (pa.ArrowException, Warning, RecursionError) as error:
        raise _unreadable(path, error) from error
    table.columns = pd.Index([str(name).strip() for name in table.columns])
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise DataError(f"{path.name} has two columns '{twice}'", fix="rename one of them")
    return table


def _read_csv(path: Path, config: FileConfig) -> pd.DataFrame:
    """Read text, with the delimiter that its header shows unless one is given."""
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as handle:
        content = handle.read()
    if not content.strip():
        raise DataError(f"{path} is empty", fix="choose another file")
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    if encoding == "utf-8-sig" and not _is_utf8(content):
        encoding = "latin-1"
    header = content[: 2**16].decode(encoding, errors="replace").lstrip().partition("\n")[0]
    delimiter = config.delimiter or max(_DELIMITERS, key=header.count)
    if delimiter == config.decimal:
        raise DataError(
            f"{path}: columns and decimals are both told by '{delimiter}'",
            fix="set data.file.delimiter or data.file.decimal",
        )
    return pd.read_csv(
        io.BytesIO(content),
        sep=delimiter,
        decimal=config.decimal,
        encoding=encoding,
        index_col=False,
        low_memory=False,
        skipinitialspace=True,
    )


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _unreadable(path: Path, error: BaseException) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path} is missing", fix="check --path")
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0:1]
    why = reason if isinstance(reason, str) else "".join(reason) or type(error).__name__
    return DataError(f"{path} cannot be read as a table", why=why, fix="check the file, or --path")


def _of_symbol(table: pd.DataFrame, column: str, symbol: str, where: str) -> pd.DataFrame:
    """Rows of one symbol of a long table."""
    symbols = table[column].astype(str).str.strip()
    chosen = table[(symbols == symbol).to_numpy()]
    if len(chosen) == 0:
        known = symbols.drop_duplicates().tolist()
        raise DataError(
            f"{where} has no rows of {symbol}", why=f"column '{column}' names them", fix=nearest(symbol, known)
        )
    return chosen


def _bars(
    table: pd.DataFrame, columns: dict[str, str], index: pd.DatetimeIndex, where: str
) -> tuple[pd.DataFrame, list[Finding]]:
    """Numbers of a table under our names, in the order of its rows; what is not there is filled in and told."""
    numbers = {
        ours: _numbers(table[theirs], theirs, where)
        for ours, theirs in columns.items()
        if ours not in ("time", "clock", "symbol")
    }
    findings = []
    first, last = str(index.min()), str(index.max())
    if "open" not in numbers:
        numbers |= dict.fromkeys(("open", "high", "low"), numbers["close"])
        told = f"the only price is '{columns['close']}'; it stands for open, high and low, too"
        findings.append(Finding("close_only", "info", len(table), first, last, told))
    if "volume" not in numbers:
        numbers["volume"] = np.zeros(len(table))
    # Some write a split of one for one where there is none.
    splits = numbers.get("splits", np.zeros(len(table)))
    numbers["splits"] = np.where((splits == 1) | np.isnan(splits), 0.0, splits)
    dividends = numbers.get("dividends", np.zeros(len(table)))
    numbers["dividends"] = np.where(np.isnan(dividends), 0.0, dividends)
    return pd.DataFrame(numbers, index=index.rename(None)), findings


def _numbers(values: pd.Series, column: str, where: str) -> Float64Array:
    """Read a column of numbers; an empty cell is a missing one."""
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_complex_dtype(values.dtype):
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    texts = values.astype(str).str.strip()
    found = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64)
    empty = values.isna().to_numpy() | texts.isin(["", "-"]).to_numpy()
    wrong = np.flatnonzero(np.isnan(found) & ~empty)
    if len(wrong):
        text = texts.iloc[wrong[0]]
        raise DataError(
            f"{where}: '{text[:40]}' in column '{column}', row {int(wrong[0]) + 1}, is not a number",
            why=f"{len(wrong)} of {len(values)} cells are like this",
            fix="set data.file.decimal to ','"
            if "," in text
            else "correct the file, or name another column: --columns",
        )
    return np.where(empty, np.nan, found)


def _ordered(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """Put rows in order and keep the last of those with one stamp."""
    findings = []
    index = pd.DatetimeIndex(frame.index)
    before = np.flatnonzero(np.diff(index.asi8) < 0) + 1
    if len(before):
        told = f"{index[before[0]]} stood after {index[before[0] - 1]}; rows were sorted"
        findings.append(
            Finding("unordered", "warning", len(before), str(index[before].min()), str(index[before].max()), told)
        )
        frame = frame.sort_index(kind="stable")
        index = pd.DatetimeIndex(frame.index)
    repeated = index.duplicated(keep=False)
    if not repeated.any():
        return frame, findings
    same = frame[repeated].reset_index().drop_duplicates(keep="last")
    differing = pd.DatetimeIndex(same.iloc[:, 0][same.iloc[:, 0].duplicated(keep=False)].unique())
    for stamps, severity, told in (
        (index[index.duplicated()].difference(differing), "warning", "repeated rows are the same; one of them is kept"),
        (differing, "error", "rows of this stamp differ; the last of them is kept if that is accepted"),
    ):
        if len(stamps):
            count = int(index[index.duplicated()].isin(stamps).sum())
            kind: Any = severity
            findings.append(Finding("duplicates", kind, count, str(stamps[0]), str(stamps[-1]), told))
    return frame[~index.duplicated(keep="last")], findings


def _with_prices(frame: pd.DataFrame, where: str) -> tuple[pd.DataFrame, list[Finding]]:
    """Leave out rows that lack a price; their dividends and splits show in the price of the next one, so move there."""
    whole = frame[list(PRICE_FIELDS)].notna().all(axis=1)
    if whole.all():
        return frame, []
    if not whole.any():
        raise DataError(f"{where} has no row with all its prices", fix="choose other columns: --columns close=...")
    owner = pd.Series(frame.index.where(whole), index=frame.index).bfill()
    kept = frame[whole].copy()
    kept["dividends"] = frame["dividends"].groupby(owner).sum()
    kept["splits"] = frame["splits"].replace(0.0, 1.0).groupby(owner).prod().replace(1.0, 0.0)
    lost = frame.index[~whole]
    told = f"{where} has no price for this bar; it was left out"
    return kept, [Finding("missing_price", "warning", len(lost), str(lost[0]), str(lost[-1]), told)]


def _recover_dividends(frame: pd.DataFrame, offset: float, where: str) -> None:
    """Write the dividends that adjusted closes tell of into `frame`, where none are stated.

    Vendors multiply all closes before an ex-date by ``1 - dividend / close of the bar before``, so the ratio of
    adjusted to plain close rises by that factor there.
    """
    if frame["dividends"].any() or offset:
        return
    close, adjusted = frame["close"].to_numpy(), frame["adj_close"].to_numpy()
    known = np.flatnonzero((close > 0) & (adjusted > 0) & np.isfinite(close) & np.isfinite(adjusted))
    ratio = adjusted[known] / close[known]
    share = 1 - ratio[:-1] / ratio[1:]
    share[np.abs(share) < _ROUNDING] = 0.0
    if len(share) and (share.min() < 0 or share.max() > _LARGEST_DIVIDEND):
        row = int(known[1:][(share < 0) | (share > _LARGEST_DIVIDEND)][0])
        raise DataError(
            f"{where}: adjusted and plain close do not tell of a dividend at {frame.index[row]}",
            why=f"their ratio changes as if {share[known[1:] == row][0]:.1%} of the price had been paid; "
            "that is a split, or a mistake",
            fix="correct those rows, or leave the adjusted close out of the file",
        )
    dividends = np.zeros(len(frame))
    dividends[known[1:]] = share * close[known[:-1]]
    frame["dividends"] = dividends


def _infer_calendar(index: pd.DatetimeIndex, interval: str, where: str) -> str:
    """Tell around-the-clock markets by their bars; nothing else can be told without doubt."""
    days = pd.DatetimeIndex(index.normalize().unique())
    weekends = pd.date_range(days[0], days[-1], freq="D", tz="UTC")
    weekends = weekends[weekends.day_of_week >= 5]
    if len(weekends) >= 2 and weekends.isin(days).mean() > 0.5:
        return ALWAYS
    if intraday_length(interval) is not None and len(days) >= 5:
        # On a clock that strikes midnight at 17:00 in New York, currencies trade from Monday to Friday.
        clock = index.tz_convert(time_zone(CURRENCIES)).tz_localize(None) + pd.Timedelta(hours=7)
        open_hours = len(pd.unique(clock.hour))
        if (clock.day_of_week >= 5).mean() < 0.02 and open_hours == 24:
            return CURRENCIES
    raise DataError(
        f"{where} does not show when its market trades",
        why="a wrong calendar would place forecasts on days without trade",
        fix="say which: --calendar XNYS (New York), XLON, XTKS, ..., 24/5 (currencies) or 24/7 (crypto)",
    )

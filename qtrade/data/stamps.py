"""When the rows of a file are, from whatever they say: stamps with or without an offset, dates, or epoch numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from qtrade.calendars import INTRADAY, LONGER_THAN_A_DAY, intraday_length
from qtrade.errors import DataError

_OFFSET = r"(?:[Zz]|[+-]\d{2}:?\d{2})$"
_YEAR_FIRST = r"^(\d{4})[./](\d{2})[./](\d{2})"
_DAY = pd.Timedelta(days=1)
_LENGTHS = {
    **{name: length for name, length in INTRADAY.items() if name != "60m"},
    **{f"{hours}h": pd.Timedelta(hours=hours) for hours in (2, 4, 6, 8, 12)},
    "10m": pd.Timedelta(minutes=10),
    "1d": _DAY,
    "1wk": 7 * _DAY,
    "1mo": 30.4 * _DAY,
    "3mo": 91.3 * _DAY,
}
_PERIODS = {"1wk": "W", "1mo": "M", "3mo": "Q"}
# Epoch numbers by their size: each bound lies between the year 5138 in the smaller unit and 1973 in the larger one.
_EPOCHS = ((1e11, "s"), (1e14, "ms"), (1e17, "us"), (np.inf, "ns"))


def parse_stamps(values: pd.Series, interval: str, tz: str | None, where: str) -> pd.DatetimeIndex:
    """Turn a column into UTC stamps as bars carry them, in the order of the rows.

    Parameters
    ----------
    values
        Text, numbers or stamps. Whole numbers such as 20240131 are dates, others seconds, milli-, micro- or nanoseconds
        since 1970, told apart by their size.
    interval
        Bars of a day or longer are stamped at 00:00 UTC of their local date; weeks on Mondays, months and quarters on
        their first day.
    tz
        Time zone of stamps without an offset. Where clocks go back, an hour is told from its repetition by the order of
        the rows.
    where
        Name of the table, for messages.

    Raises
    ------
    DataError
        If a value is no time, or it cannot be told which one.
    """
    intraday = intraday_length(interval) is not None
    if values.isna().any():
        row = int(np.flatnonzero(values.isna())[0])
        raise DataError(f"{where}: row {row + 1} has no time", fix="write one, or remove the row")
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
        local, aware = _from_numbers(values, where)
    elif isinstance(values.dtype, pd.DatetimeTZDtype):
        local, aware = pd.DatetimeIndex(values), True
    elif pd.api.types.is_datetime64_dtype(values.dtype):
        local, aware = pd.DatetimeIndex(values), False
    else:
        return _from_text(values.astype(str).str.strip(), interval, tz, where)
    if intraday:
        return _as_utc(local, tz, where) if not aware else local.tz_convert("UTC").as_unit("ns")
    if aware:
        local = local.tz_convert(tz or local.tz).tz_localize(None)
    return _dates(local, interval)


def check_spacing(index: pd.DatetimeIndex, interval: str, where: str) -> None:
    """Raise `DataError` if stamps are clearly those of bars of another length."""
    usual = _usual_step(index)
    if usual is None or _fits(usual, interval):
        return
    if usual == pd.Timedelta(0):
        # Stamped with their dates, bars of less than a day are all alike.
        per_stamp = len(index) / index.nunique()
        length = _nearest_length(_LENGTHS[interval] / per_stamp)
        raise DataError(
            f"{where} has no {interval} bars: there are {per_stamp:.3g} rows for each",
            why="bars of a day or longer have one stamp each",
            fix=f"add --interval {length}, or say with --interval how long they are",
        )
    raise DataError(
        f"{where} has no {interval} bars: most are {usual} apart",
        why="that is half of the way between the stamps",
        fix=f"add --interval {_nearest_length(usual)}, or say with --interval how long they are",
    )


def _usual_step(index: pd.DatetimeIndex) -> pd.Timedelta | None:
    """Median time between stamps in order; None for fewer than two."""
    if len(index) < 2:
        return None
    return pd.Timedelta(int(np.median(np.diff(np.sort(index.as_unit("ns").asi8)))), "ns")


def _fits(step: pd.Timedelta, interval: str) -> bool:
    """Whether bars of an interval may be so far apart."""
    length = intraday_length(interval) or _LENGTHS[interval]
    return length / 1.5 <= step <= 1.5 * length


def _nearest_length(step: pd.Timedelta) -> str:
    return min(_LENGTHS, key=lambda name: abs(np.log(step / _LENGTHS[name])))


def _from_numbers(values: pd.Series, where: str) -> tuple[pd.DatetimeIndex, bool]:
    """Read dates such as 20240131, which are naive, or epoch numbers, which are UTC."""
    numbers = values.to_numpy(dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise DataError(f"{where}: a time is not a number", fix="correct that row")
    if ((numbers >= 18000101) & (numbers <= 22001231) & (numbers == np.floor(numbers))).all():
        dates = pd.to_datetime(values.astype("int64").astype(str), format="%Y%m%d", errors="coerce")
        if dates.notna().all():
            return pd.DatetimeIndex(dates), False
    size = float(np.median(np.abs(numbers)))
    unit = next(name for bound, name in _EPOCHS if size < bound)
    scale = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    if (np.abs(numbers) * scale >= 2.0**63 - 2**30).any():
        raise DataError(f"{where}: a time lies outside the years 1678 to 2261", fix="correct that row")
    if pd.api.types.is_integer_dtype(values.dtype):
        exact = values.astype("int64").to_numpy() * scale
    else:
        exact = np.round(numbers * scale).astype(np.int64)
    return pd.DatetimeIndex(exact.astype("datetime64[ns]"), tz="UTC"), True


def _from_text(texts: pd.Series, interval: str, tz: str | None, where: str) -> pd.DatetimeIndex:
    """Read text, all of it with an offset or none of it."""
    aware = texts.str.contains(_OFFSET, regex=True) & texts.str.contains(":", regex=False)
    if aware.any() and not aware.all():
        row = int(np.flatnonzero(aware != aware.iloc[0])[0])
        raise DataError(
            f"{where}: some stamps have an offset and some have none, as '{texts.iloc[row]}' in row {row + 1}",
            fix="write all of them alike",
        )
    intraday = intraday_length(interval) is not None
    if not aware.all():
        local = _parsed(texts, interval, where)
        return _as_utc(local, tz, where) if intraday else _dates(local, interval)
    if intraday or tz is not None:
        moments = _to_datetime(texts, utc=True)
        if moments is None:
            raise _no_time(texts, where, utc=True)
        return moments.as_unit("ns") if intraday else _dates(moments.tz_convert(tz).tz_localize(None), interval)
    # The date that was written, whatever the offset.
    return _dates(_parsed(texts.str.replace(_OFFSET, "", regex=True), interval, where), interval)


def _parsed(texts: pd.Series, interval: str, where: str) -> pd.DatetimeIndex:
    """Read stamps without an offset; where day and month may be either, that fits which makes tidy steps."""
    found = _to_datetime(texts, utc=False)
    if found is None:
        found = _to_datetime(texts.str.replace(_YEAR_FIRST, r"\1-\2-\3", regex=True), utc=False)
    if found is not None:
        return found
    parts = texts.str.extract(r"^(\d{1,2})[/.\-](\d{1,2})[/.\-](\d{4})(.*)$")
    if parts.isna().any(axis=None):
        raise _no_time(texts, where, utc=False)
    one, other, year, rest = (parts[column] for column in parts)
    one, other = one.str.zfill(2), other.str.zfill(2)
    readings = [
        found
        for found in (
            _to_datetime(year + "-" + month + "-" + day + rest, utc=False)
            for day, month in ((one, other), (other, one))
        )
        if found is not None
    ]
    if not readings:
        raise _no_time(texts, where, utc=False)
    if len(readings) == 2 and not readings[0].equals(readings[1]):
        # Read the wrong way round, days jump from month to month.
        steps = [_usual_step(found) for found in readings]
        tidy = [
            found for found, step in zip(readings, steps, strict=True) if step is not None and _fits(step, interval)
        ]
        if len(tidy) != 1:
            raise DataError(
                f"{where}: '{texts.iloc[0]}' may be day and month or month and day", fix="write dates as 2024-01-31"
            )
        readings = tidy
    return readings[0]


def _to_datetime(texts: pd.Series, *, utc: bool) -> pd.DatetimeIndex | None:
    try:
        found = pd.DatetimeIndex(pd.to_datetime(texts, format="ISO8601", utc=utc))
        return None if found.hasnans else found.as_unit("ns")
    except (ValueError, OverflowError, TypeError):
        return None


def _no_time(texts: pd.Series, where: str, *, utc: bool) -> DataError:
    """Name the first text that is no time."""
    read = pd.to_datetime(texts, format="ISO8601", utc=utc, errors="coerce")
    row = int(np.flatnonzero(read.isna())[0]) if read.isna().any() else 0
    return DataError(
        f"{where}: '{texts.iloc[row]}' in row {row + 1} is no time that is understood",
        why="times are written as 2024-01-31, 2024-01-31 15:30, with an offset behind or not, or as epoch numbers, "
        "between 1678 and 2261",
        fix="write them so, or name another column: --columns time=...",
    )


def _as_utc(local: pd.DatetimeIndex, tz: str | None, where: str) -> pd.DatetimeIndex:
    """Place naive stamps in their time zone."""
    if tz is None:
        raise DataError(
            f"{where} has stamps without an offset, as {local[0]}",
            why="which moment that is depends on the clock it was read from",
            fix="say which: --tz UTC, --tz America/New_York or another",
        )
    try:
        return local.tz_localize(tz, ambiguous="infer").tz_convert("UTC").as_unit("ns")
    except ValueError as error:  # times that do not exist in this zone, or exist twice
        raise DataError(
            f"{where}: not all stamps can be times in {tz}",
            why=str(error).splitlines()[0],
            fix="check --tz, or write the stamps with an offset",
        ) from error


def _dates(local: pd.DatetimeIndex, interval: str) -> pd.DatetimeIndex:
    """Stamp bars of a day or longer at 00:00 UTC of their date, or of the first date of their period."""
    days = local.as_unit("ns").normalize()
    if interval in LONGER_THAN_A_DAY:
        days = days.to_period(_PERIODS[interval]).start_time
    return pd.DatetimeIndex(days).as_unit("ns").tz_localize("UTC")

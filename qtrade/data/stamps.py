"""When the bars of a file are: dates and stamps however they are written, with an offset from UTC or without."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtrade.calendars import intraday_length
from qtrade.data.tables import Place, text_of
from qtrade.errors import DataError
from qtrade.types import Float64Array, IntArray

# Stamps that fit into 64 bits of nanoseconds, with months to spare for time zones.
_FIRST, _LAST = pd.Timestamp("1678-01-01").as_unit("ns"), pd.Timestamp("2262-01-01").as_unit("ns")
_UNITS = ((1e8, 1_000_000_000), (1e11, 1_000_000), (1e14, 1_000), (1e17, 1))
"""Nanoseconds of a unit of an epoch, by the number from which on it is taken to be the unit."""
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(E[+-]?\d+)?")
_OFFSET = re.compile(r"\s*(?:Z|UTC|GMT|(?:UTC|GMT)?([+-])(\d{2})(?::?(\d{2}))?)$")
_LONGEST_OFFSET = len(" GMT+02:00")
_DATE_FORMATS = (
    "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y",
    "%d/%m/%y", "%m/%d/%y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%b %d, %Y", "%B %d, %Y", "%d %B %Y",
)  # fmt: skip
_CLOCK_FORMATS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", " %H%M", " %H%M%S")
_DAYS = {"1d": 1.0, "1wk": 7.0, "1mo": 30.4, "3mo": 91.3}
_SHORTEST, _LONGEST = 0.75, 1.34
"""What a step from bar to bar may be of their length: days have 23 to 25 hours, weeks may lack a holiday."""


@dataclass(frozen=True, eq=False)
class Times:
    """Stamps of rows.

    Attributes
    ----------
    wall
        What they say, without a time zone.
    utc
        The moments that are meant, if they say that too.
    """

    wall: pd.DatetimeIndex
    utc: pd.DatetimeIndex | None


def read_times(cells: pd.Series[Any], clock: pd.Series[Any] | None, place: Place) -> Times:
    """Read stamps: dates, dates with a time of day in one column or two, with an offset or not, or an epoch.

    The largest number of an epoch tells its unit: seconds from 1e8 on, milliseconds from 1e11, microseconds from 1e14,
    nanoseconds from 1e17, all of which are days in 1973. Smaller numbers are dates such as 20191231.

    Raises
    ------
    DataError
        If a cell is no stamp, lies outside 1678 to 2261, or might be one of two dates as 1/2/2020 may.
    """
    kind = cells.dtype
    if clock is None:
        if isinstance(kind, pd.DatetimeTZDtype):
            utc = _bounded(cells.dt.tz_convert("UTC").dt.tz_localize(None), cells, place)
            return Times(_bounded(cells.dt.tz_localize(None), cells, place), utc.tz_localize("UTC"))
        if pd.api.types.is_datetime64_dtype(kind):
            return Times(_bounded(cells, cells, place), None)
        if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind):
            return _from_numbers(cells, cells, place)
    text = text_of(cells).str.upper()
    if clock is not None:
        of_day = text_of(clock).str.upper()
        if of_day.str.isdigit().all():  # 93000 stands for 09:30:00
            of_day = of_day.str.zfill(4 if of_day.str.len().max() <= 4 else 6)
        if pd.api.types.is_datetime64_any_dtype(kind):
            text = text.str.slice(stop=len("2020-01-31"))
        text = text + " " + of_day
    elif _NUMBER.fullmatch(text.iloc[0]):
        return _from_numbers(pd.to_numeric(text.astype(object), errors="coerce"), cells, place)
    return _from_text(text, cells, place)


def localised(wall: pd.DatetimeIndex, zone: str, cells: pd.Series[Any], place: Place) -> pd.DatetimeIndex:
    """Find the moments meant by the clocks of a time zone.

    An hour that clocks skip in spring proves the zone wrong. One that they show twice in autumn is told by the rows: up
    to the one that steps back, or repeats, the first time is meant, and the second from there on. Where there is no
    such row, or more than one, or rows are out of order elsewhere too, nobody can tell.

    Raises
    ------
    DataError
        If clocks never showed a stamp, or showed it twice and the rows do not tell which time is meant.
    """
    steps = np.diff(wall.asi8)
    if (steps < 0).sum() > (steps > 0).sum():  # the newest row comes first
        return localised(wall[::-1], zone, cells.iloc[::-1], place)[::-1]
    one, other = (
        wall.tz_localize(zone, ambiguous=np.full(len(wall), dst), nonexistent="NaT").tz_convert("UTC").asi8
        for dst in (True, False)
    )
    skipped = one == pd.NaT.value
    if skipped.any():
        fix = "name the right --tz; stamps that know no daylight saving are in UTC, or in a zone such as Etc/GMT-1"
        raise place.refusal(cells, skipped, f"was skipped by the clocks of {zone}", fix=fix)
    utc, late = np.minimum(one, other), np.maximum(one, other)
    twice = np.flatnonzero(utc < late)
    if len(twice) == 0:
        return pd.DatetimeIndex(utc).tz_localize("UTC")
    back = np.concatenate([[False], steps <= 0])
    told = np.zeros(len(wall), dtype=np.bool_)
    days = wall.asi8[twice] // pd.Timedelta(days=1).as_unit("ns").value
    for day in np.unique(days):
        rows: IntArray = twice[days == day]
        # The first of these rows has not yet stepped back, whatever was before it.
        second = rows[1:][back[rows[1:]]]
        if len(second) != 1 or len(rows) != rows[-1] - rows[0] + 1:
            raise _untold(zone, rows, cells, place)
        told[second] = True
        utc[second[0] : rows[-1] + 1] = late[second[0] : rows[-1] + 1]
    if (np.concatenate([[False], steps < 0]) & ~told).any():
        raise _untold(zone, twice, cells, place)
    return pd.DatetimeIndex(utc).tz_localize("UTC")


def check_steps(stamps: pd.DatetimeIndex, interval: str, file: str) -> None:
    """Refuse bars that are clearly not of an interval.

    They are too short if more than half of the steps from bar to bar are, and too long if hardly any step is as short
    as it should be and another interval fits. Steps that are longer now and then are gaps, and looked at elsewhere.

    Raises
    ------
    DataError
        If they are; the fix names the right interval.
    """
    steps = np.diff(np.sort(stamps.asi8)).astype(np.int64)
    steps = steps[steps > 0]
    if len(steps) == 0:
        return
    length = intraday_length(interval) or pd.Timedelta(days=_DAYS[interval])
    ratio: Float64Array = steps.astype(np.float64) / length.as_unit("ns").value
    usual = pd.Timedelta(int(np.quantile(steps, 0.25, method="lower")), unit="ns")
    actual = _interval_of(usual)
    too_short = np.median(ratio) < _SHORTEST
    too_long = len(steps) >= 5 and np.mean(ratio < _LONGEST) < 0.1 and actual is not None
    if too_short or too_long:
        fix = f"ask for what it has: --interval {actual}" if actual else "make bars of one length of them first"
        raise DataError(f"{file} has no {interval} bars", why=f"most of its stamps are {usual} apart", fix=fix)


def _interval_of(step: pd.Timedelta) -> str | None:
    """Name the interval that a step from bar to bar is usual for."""
    for interval, days in _DAYS.items():
        if _SHORTEST < step / pd.Timedelta(days=days) < _LONGEST:
            return interval
    number, unit = step.total_seconds(), "s"
    for size, longer in ((3600, "h"), (60, "m")):
        if number % size == 0:
            number, unit = number / size, longer
            break
    name = f"{number:g}{unit}"
    return name if intraday_length(name) is not None else None


def _untold(zone: str, rows: IntArray, cells: pd.Series[Any], place: Place) -> DataError:
    bad = np.zeros(len(cells), dtype=np.bool_)
    bad[rows] = True
    return place.refusal(
        cells,
        bad,
        f"was shown twice by the clocks of {zone}, and the rows do not tell which time is meant",
        fix="write stamps in UTC or with their offset, as 02:00:00+01:00; or sort the rows and complete that hour",
    )


def _unreadable(cells: pd.Series[Any], bad: NDArray[np.bool_], place: Place) -> DataError:
    fix = "write it like 2020-01-31 15:00:00, or as seconds since 1970; or name the right column: --columns time=..."
    return place.refusal(cells, bad, "is no time that can be read", fix=fix)


def _bounded(stamps: pd.Series[Any], cells: pd.Series[Any], place: Place) -> pd.DatetimeIndex:
    """Stamps in nanoseconds, none missing."""
    lost = stamps.isna().to_numpy(dtype=np.bool_)
    if lost.any():
        raise _unreadable(cells, lost, place)
    _within_bounds(((stamps < _FIRST) | (stamps >= _LAST)).to_numpy(dtype=np.bool_), cells, place)
    return pd.DatetimeIndex(stamps).as_unit("ns").rename(None)


def _within_bounds(outside: NDArray[np.bool_], cells: pd.Series[Any], place: Place) -> None:
    if outside.any():
        raise place.refusal(cells, outside, "lies outside the years 1678 to 2261", fix="correct or delete that row")


def _from_numbers(values: pd.Series[Any], cells: pd.Series[Any], place: Place) -> Times:
    rough: Float64Array = values.to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~np.isfinite(rough)
    if bad.any():
        raise _unreadable(cells, bad, place)
    largest = np.abs(rough).max()
    if largest < _UNITS[0][0]:
        whole = (rough == np.floor(rough)) & (rough >= 1e7)
        days = pd.Series(np.where(whole, rough, 0).astype(np.int64), cells.index).astype("str")
        return Times(_bounded(pd.to_datetime(days, format="%Y%m%d", errors="coerce"), cells, place), None)
    unit = next(length for least, length in reversed(_UNITS) if largest >= least)
    # Divided, as the product may be too large.
    _within_bounds((rough < _FIRST.value / unit) | (rough >= _LAST.value / unit), cells, place)
    if pd.api.types.is_integer_dtype(values.dtype):
        stamps = values.to_numpy(dtype=np.int64) * unit
    else:  # a float is good for microseconds
        stamps = np.rint(rough * (unit / 1000)).astype(np.int64) * 1000
    wall = pd.DatetimeIndex(stamps)
    return Times(wall, wall.tz_localize("UTC"))


def _from_text(text: pd.Series[Any], cells: pd.Series[Any], place: Place) -> Times:
    # pandas would take "now" and "today" for stamps.
    wordy = ~text.str.contains(r"[0-9]").to_numpy(dtype=np.bool_)
    if wordy.any():
        raise _unreadable(cells, wordy, place)
    if ":" not in text.iloc[0]:
        return Times(_wall(text, cells, place), None)
    codes, endings = pd.factorize(text.str.slice(start=-_LONGEST_OFFSET))
    offsets = [_OFFSET.search(ending) for ending in endings]
    lengths = np.array([len(offset[0]) if offset else 0 for offset in offsets])[codes]
    if not lengths.any():
        return Times(_wall(text, cells, place), None)
    if not lengths.all():
        fix = "give every stamp its offset, or none of them and say --tz"
        raise place.refusal(cells, lengths == 0, "has no offset from UTC, and others have one", fix=fix)
    minutes = np.array([_minutes(offset) for offset in offsets])[codes]
    if (np.abs(minutes) > 24 * 60).any():
        raise _unreadable(cells, np.abs(minutes) > 24 * 60, place)
    bare = text.copy()
    for length in np.unique(lengths):
        bare[lengths == length] = text[lengths == length].str.slice(stop=-int(length))
    wall = _wall(bare, cells, place)
    return Times(wall, (wall - pd.to_timedelta(minutes, unit="min")).tz_localize("UTC").as_unit("ns"))


def _minutes(offset: re.Match[str] | None) -> int:
    if offset is None or offset[1] is None:
        return 0
    minutes = 60 * int(offset[2]) + int(offset[3] or 0)
    return -minutes if offset[1] == "-" else minutes


def _wall(text: pd.Series[Any], cells: pd.Series[Any], place: Place) -> pd.DatetimeIndex:
    """Read text without an offset in the one format that fits all of it."""
    stamps = _parsed(text, "ISO8601")
    if stamps.notna().all():
        return _bounded(stamps, cells, place)
    formats = [
        date + clock
        for date, clock in product(_DATE_FORMATS, _CLOCK_FORMATS)
        if _parsed(text.iloc[:1], date + clock).notna().all()
    ]
    readings = [_parsed(text, format) for format in formats]
    whole = [one for one in readings if one.notna().all()]
    differing = [one for one in whole if not one.equals(whole[0])]
    if differing:
        unlike = (whole[0] != differing[0]).to_numpy(dtype=np.bool_)
        first, second = (f"{one[unlike].iloc[0]:%d %B %Y}" for one in (whole[0], differing[0]))
        raise place.refusal(cells, unlike, f"may be {first} or {second}", fix="write dates as 2020-01-31")
    return _bounded(min([stamps, *readings], key=lambda one: int(one.isna().sum())), cells, place)


def _parsed(text: pd.Series[Any], format: str) -> pd.Series[Any]:
    """Stamps without an offset, and NaT for what is none."""
    nothing = pd.Series(pd.NaT, text.index, dtype="datetime64[ns]")
    try:
        stamps = pd.to_datetime(text, format=format, errors="coerce")
    except (ValueError, OverflowError):  # several offsets, or years that no stamp can have
        return nothing
    return stamps if pd.api.types.is_datetime64_dtype(stamps.dtype) else nothing

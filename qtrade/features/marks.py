"""Calendar marks: where a bar lies in its hour, day, week, month or year, as a share of the cycle or a whole number.

Shares, scaled to [-0.5, 0.5], are the `timeF` encoding of the Informer (Zhou et al. 2021); whole numbers are what its
`fixed` and `learned` embeddings look up. Both come from the stamps with tables of our own: the reference derives them
from pandas offset names, which newer pandas no longer accepts.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from qtrade.errors import UsageError, nearest
from qtrade.types import Float32Array

MARKS: dict[str, Callable[[pd.DatetimeIndex], pd.Index]] = {
    "second": lambda stamp: stamp.second / 59,
    "minute": lambda stamp: stamp.minute / 59,
    "hour": lambda stamp: stamp.hour / 23,
    "day_of_week": lambda stamp: stamp.day_of_week / 6,
    "day_of_month": lambda stamp: (stamp.day - 1) / 30,
    "day_of_year": lambda stamp: (stamp.day_of_year - 1) / 365,
    "week_of_year": lambda stamp: (pd.Index(stamp.isocalendar().week) - 1) / 52,
    "month": lambda stamp: (stamp.month - 1) / 11,
}
"""How far through its cycle a local stamp is, from 0 to 1."""

WHOLE_MARKS: dict[str, Callable[[pd.DatetimeIndex], pd.Index]] = {
    "month": lambda stamp: stamp.month,
    "day": lambda stamp: stamp.day,
    "weekday": lambda stamp: stamp.day_of_week,
    "hour": lambda stamp: stamp.hour,
    "quarter": lambda stamp: stamp.minute // 15,
}
"""The number a local stamp carries: month 1-12, day 1-31, weekday 0-6, hour 0-23, quarter of the hour 0-3."""

_DAY = ("day_of_week", "day_of_month", "day_of_year")
_HOUR = ("hour", *_DAY)
_MINUTE = ("minute", *_HOUR)
_SECOND = ("second", *_MINUTE)
_WEEK = ("day_of_month", "week_of_year")
_MONTH = ("month",)

# A unit's marks, and in how many of it the next larger unit begins anew, whose marks then do.
_BY_UNIT = {
    **dict.fromkeys(("s", "sec"), (_SECOND, 60, "min")),
    **dict.fromkeys(("m", "t", "min"), (_MINUTE, 60, "h")),
    "h": (_HOUR, 24, "d"),
    **dict.fromkeys(("d", "b"), (_DAY, None, "")),
    **dict.fromkeys(("w", "wk"), (_WEEK, None, "")),
    **dict.fromkeys(("mo", "q"), (_MONTH, None, "")),
}
_EXAMPLES = ("1s", "1min", "15min", "1h", "1d", "1wk", "1mo")
# One letter alone is a frequency of the authors' code, where m is a month; "1m" is a minute, as everywhere else.
_ALONE = {"m": "mo", "M": "mo"}

# How many of WHOLE_MARKS vary from bar to bar; a longer bar has the first ones only.
_WHOLE_COUNT = {_SECOND: 5, _MINUTE: 5, _HOUR: 4, _DAY: 3, _WEEK: 1, _MONTH: 1}


def mark_names(interval: str) -> tuple[str, ...]:
    """Return the names of the M marks of bars of this length, in column order.

    Parameters
    ----------
    interval
        A number and a unit: s, m or min, h, d, wk, mo, as in ``15min``; or a frequency of the Informer's authors: s, t,
        h, d, b, w, m, alone or after a number.

    Raises
    ------
    UsageError
        If the interval is unknown.
    """
    match = re.fullmatch(r"([1-9]\d*)?([A-Za-z]+)", interval)
    number, unit = (int(match[1] or 1), match[2]) if match else (1, "")
    unit = (_ALONE.get(unit, unit) if match and not match[1] else unit).lower()
    if unit not in _BY_UNIT:
        raise UsageError(f"unknown interval '{interval}'", fix=nearest(interval, _EXAMPLES))
    names, size, larger = _BY_UNIT[unit]
    while size is not None and number % size == 0:
        number //= size
        names, size, larger = _BY_UNIT[larger]
    return names


def marks(index: pd.DatetimeIndex, interval: str, tz: str = "UTC") -> Float32Array:
    """Return the calendar marks of UTC stamps, (T, M) in [-0.5, 0.5].

    A row depends on its own stamp only, so future stamps from a calendar get theirs in the same way.

    Parameters
    ----------
    index
        T stamps in UTC, past or expected.
    interval
        Bar length, as in `Bars`.
    tz
        The exchange's time zone, in which an intraday stamp is read. A longer bar carries its session date at
        00:00 UTC, so it is read in UTC whatever `tz` says.

    Raises
    ------
    UsageError
        If the interval is unknown.
    """
    names = mark_names(interval)
    local = index.tz_convert(tz if "hour" in names else "UTC")
    return np.stack([MARKS[name](local).to_numpy(dtype=np.float64) - 0.5 for name in names], axis=1).astype(np.float32)


def whole_marks(index: pd.DatetimeIndex, interval: str, tz: str = "UTC") -> Float32Array:
    """Return the calendar marks of UTC stamps as whole numbers, (T, M): the first M of `WHOLE_MARKS`.

    M is 5 for bars of seconds or minutes, 4 for hours, 3 for days and 1 for longer ones. Parameters, clock and errors
    are those of `marks`.
    """
    names = mark_names(interval)
    local = index.tz_convert(tz if "hour" in names else "UTC")
    numbers = list(WHOLE_MARKS.values())[: _WHOLE_COUNT[names]]
    return np.stack([number(local).to_numpy(dtype=np.float32) for number in numbers], axis=1)

"""Calendar marks: where a bar lies in its hour, day, week, month or year, each scaled to [-0.5, 0.5].

They are the `timeF` encoding of the Informer (Zhou et al. 2021), computed from the stamps with a table of our own: the
reference derives it from pandas offset names, which newer pandas no longer accepts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from qtrade.errors import UsageError, nearest
from qtrade.types import Float32Array

MARKS: dict[str, Callable[[pd.DatetimeIndex], pd.Index]] = {
    "minute": lambda stamp: stamp.minute / 59,
    "hour": lambda stamp: stamp.hour / 23,
    "day_of_week": lambda stamp: stamp.day_of_week / 6,
    "day_of_month": lambda stamp: (stamp.day - 1) / 30,
    "day_of_year": lambda stamp: (stamp.day_of_year - 1) / 365,
    "week_of_year": lambda stamp: (pd.Index(stamp.isocalendar().week) - 1) / 52,
    "month": lambda stamp: (stamp.month - 1) / 11,
}
"""How far through its cycle a local stamp is, from 0 to 1."""

_DAY = ("day_of_week", "day_of_month", "day_of_year")
_HOUR = ("hour", *_DAY)
_MINUTE = ("minute", *_HOUR)
_WEEK = ("day_of_month", "week_of_year")
_MONTH = ("month",)

_BY_INTERVAL = {
    **dict.fromkeys(("1m", "2m", "5m", "15m", "30m", "90m"), _MINUTE),
    **dict.fromkeys(("60m", "1h"), _HOUR),
    **dict.fromkeys(("1d", "5d"), _DAY),
    "1wk": _WEEK,
    **dict.fromkeys(("1mo", "3mo"), _MONTH),
}


def mark_names(interval: str) -> tuple[str, ...]:
    """Return the names of the M marks of bars of this length, in column order.

    Raises
    ------
    UsageError
        If the interval is unknown.
    """
    if interval not in _BY_INTERVAL:
        raise UsageError(f"unknown interval '{interval}'", fix=nearest(interval, _BY_INTERVAL))
    return _BY_INTERVAL[interval]


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

"""Whether bars are as new as they could be: when each bar is complete, and how many that are complete are missing."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from qtrade.calendars import (
    ALWAYS,
    CURRENCIES,
    LONGER_THAN_A_DAY,
    actual_stamps,
    intraday_length,
    known_stamps,
    time_zone,
)
from qtrade.types import Bars

SETTLING = pd.Timedelta(minutes=30)
"""Time after its end that a bar is given to arrive: vendors show many exchanges up to 20 minutes late, and correct the
last bars for a while."""

_LENGTHS = {
    "1d": pd.DateOffset(days=1),
    "1wk": pd.DateOffset(weeks=1),
    "1mo": pd.DateOffset(months=1),
    "3mo": pd.DateOffset(months=3),
}
_MINUTE = pd.Timedelta(minutes=1)


@dataclass(frozen=True)
class Freshness:
    """How new some bars are.

    Attributes
    ----------
    newest
        Stamp of the last bar there is.
    complete
        Moment at which it was complete.
    now
        Moment at which its age was asked for.
    missing
        Later bars that should be there by now: those that the market held and that are complete.
    """

    newest: pd.Timestamp
    complete: pd.Timestamp
    now: pd.Timestamp
    missing: int

    @property
    def age(self) -> pd.Timedelta:
        """Time since the newest bar was complete; zero for one that is not complete yet."""
        return max(self.now - self.complete, pd.Timedelta(0))


def utc_now() -> pd.Timestamp:
    """Return the present moment in UTC."""
    return pd.Timestamp.now("UTC")


def bar_end(stamp: pd.Timestamp, interval: str, calendar: str, zone: str) -> pd.Timestamp:
    """Return the moment after which a bar changes no more; a bit later for one that the session's end cuts short.

    Parameters
    ----------
    zone
        Time zone of the market.
    """
    length = intraday_length(interval)
    if length is not None:
        return stamp + length
    day = stamp.tz_localize(None)
    opened, over = (
        moment.tz_localize(zone, ambiguous=True, nonexistent="shift_forward").tz_convert("UTC")
        for moment in (day, day + _LENGTHS[interval])
    )
    if interval in LONGER_THAN_A_DAY or calendar in (ALWAYS, CURRENCIES):
        return over
    minutes = known_stamps(opened, over, "1m", calendar)
    return minutes[-1] + _MINUTE if len(minutes) else over


def freshness(bars: Bars, now: pd.Timestamp) -> Freshness:
    """Count the bars that should follow the last one by now.

    Closures that nobody foresaw are known by now and not asked for, as far as `qtrade.calendars.actual_stamps` knows
    them. A bar is asked for `SETTLING` after its end.

    Parameters
    ----------
    now
        A UTC moment.
    """
    newest, interval, calendar = bars.index[-1], bars.interval, bars.calendar
    zone = time_zone(calendar)
    held = actual_stamps(newest, now, interval, calendar) if newest < now else bars.index[:0]
    due = held[held > newest]
    # Only the last few can be incomplete: a bar begins no later than the one before it has ended.
    missing = len(due)
    while missing and bar_end(due[missing - 1], interval, calendar, zone) + SETTLING > now:
        missing -= 1
    return Freshness(newest, bar_end(newest, interval, calendar, zone), now, missing)

"""When a market trades, as far as rules known in advance can tell; and when it traded, for checking what happened.

A calendar is ``24/7`` (crypto), ``24/5`` (currencies: Sunday to Friday, 17:00 New York time), or the code of an
exchange in `exchange_calendars` such as ``XNYS``. The bars expected next follow from weekdays, opening hours and
*regular* holidays. Closures nobody could know of beforehand (11 September 2001, hurricane Sandy, state funerals) are
left out on purpose: a forecast made the day before did not know of them either.

What the rules leave out, so that they stay rules: half days count as whole ones, today's hours hold for the past too,
currencies have no holidays, and holidays that a ministry announces year by year (lunar new year in Shanghai, Singapore
and Mumbai) are expected to be trading days.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from datetime import time
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtrade.errors import DataError, UsageError, nearest
from qtrade.types import IntArray

ALWAYS, CURRENCIES = "24/7", "24/5"

INTRADAY = {
    name: pd.Timedelta(minutes=minutes)
    for name, minutes in {
        "1m": 1, "2m": 2, "5m": 5, "15m": 15, "30m": 30, "60m": 60, "90m": 90, "1h": 60,
    }.items()
}  # fmt: skip
LONGER_THAN_A_DAY = {"1wk": 52.0, "1mo": 12.0, "3mo": 4.0}
INTERVALS = (*INTRADAY, "1d", *LONGER_THAN_A_DAY)
"""The usual ones; any number of seconds (``10s``), minutes (``3m`` or ``3min``) or hours (``4h``) that divides a day is
one, too."""

_DAY = pd.Timedelta(days=1)
_INSTANT = pd.Timedelta(1, unit="ns")
_CURRENCY_ZONE = "America/New_York"
_CURRENCY_CLOSE = pd.Timedelta(hours=17)
_DAYS_PER_YEAR = {ALWAYS: 365.0, CURRENCIES: 260.0}
_STOCK_DAYS_PER_YEAR = 252.0


def periods_per_year(interval: str, calendar: str) -> float:
    """Bars in a year of a market, by declaration.

    Stocks trade 252 days a year, currencies 260, crypto 365; an intraday bar that a session or its lunch break cuts
    short counts whole.

    Raises
    ------
    UsageError
        If interval or calendar is unknown.
    """
    check_interval(interval)
    if calendar not in _DAYS_PER_YEAR:
        _exchange(calendar)
    if interval in LONGER_THAN_A_DAY:
        return LONGER_THAN_A_DAY[interval]
    days = _DAYS_PER_YEAR.get(calendar, _STOCK_DAYS_PER_YEAR)
    if interval == "1d":
        return days
    length = intraday_length(interval)
    assert length is not None, "every interval checked is one of the three kinds"
    return days * len(_openings(length, calendar))


def time_zone(calendar: str) -> str:
    """Name the time zone in which a calendar's hours are given."""
    if calendar == ALWAYS:
        return "UTC"
    return _CURRENCY_ZONE if calendar == CURRENCIES else str(_exchange(calendar).tz)


def check_interval(interval: str) -> str:
    """Return `interval`, or raise `UsageError` if bars have no such length."""
    if interval not in INTERVALS and intraday_length(interval) is None:
        raise UsageError(f"unknown interval '{interval}'", fix=nearest(interval, INTERVALS))
    return interval


def intraday_length(interval: str) -> pd.Timedelta | None:
    """Length of an intraday bar; None where a bar lasts a day or longer, or does not divide a day."""
    match = re.fullmatch(r"([1-9]\d{0,4})(s|m|min|h)", interval)
    if match is None:
        return None
    seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2][0]]
    return pd.Timedelta(seconds=seconds) if seconds < 86_400 and 86_400 % seconds == 0 else None


def future_positions(
    index: pd.DatetimeIndex, horizon: int, interval: str, calendar: str
) -> tuple[pd.DatetimeIndex, IntArray]:
    """Find the stamps expected after every bar.

    Parameters
    ----------
    index
        T stamps of bars that happened, UTC.
    horizon
        Bars ahead H.

    Returns
    -------
    grid
        (G,) UTC stamps expected by the calendar's rules.
    start
        (T,) position in `grid` of the first stamp after each row: the H bars expected after row t are
        ``grid[start[t] : start[t] + H]``. They depend on ``index[t]`` alone.
    """
    check_interval(interval)
    grid = known_stamps(index[0], index[-1] + _margin(horizon, interval, calendar), interval, calendar)
    start = grid.searchsorted(index, side="right").astype(np.int64)
    assert start[-1] + horizon <= len(grid), "the margin is too small"
    return grid, start


def known_stamps(first: pd.Timestamp, last: pd.Timestamp, interval: str, calendar: str) -> pd.DatetimeIndex:
    """List the stamps that a calendar's rules expect from `first` to `last`, both UTC and included.

    Intraday bars are stamped at their opening; bars of a day or longer at 00:00 UTC of their session date. Weeks are
    stamped on Mondays; months and quarters on their first day.
    """
    # A day on either side, because a session may lie on another date in UTC than at the exchange.
    days = pd.date_range(first.normalize() - _DAY, last.normalize() + _DAY, freq="D", tz="UTC", unit="ns")
    length = intraday_length(interval)
    if length is not None:
        stamps = _intraday(days, length, calendar)
    elif interval == "1wk":
        stamps = days[days.day_of_week == 0]
    elif interval in LONGER_THAN_A_DAY:
        stamps = days[(days.day == 1) & ((days.month % 3 == 1) | (interval == "1mo"))]
    else:
        stamps = days[_trades(days, calendar)]
    return stamps[(stamps >= first) & (stamps <= last)]


def actual_stamps(first: pd.Timestamp, last: pd.Timestamp, interval: str, calendar: str) -> pd.DatetimeIndex:
    """List the stamps of the bars that a market really held from `first` to `last`, as far as is known afterwards.

    Unlike `known_stamps` it knows half days, the hours of former times, and closures that nobody foresaw. It knows the
    past, so it is for checking bars that happened and never for forecasts. Where an exchange's history is not known,
    the rules stand in for it; crypto, currencies, weeks and months have nothing but rules.
    """
    length = intraday_length(interval)
    ruled = calendar in (ALWAYS, CURRENCIES) or interval in LONGER_THAN_A_DAY
    history = None if ruled else _history(calendar, (first - _DAY).year // 10, (last + _DAY).year // 10)
    if history is None:
        return known_stamps(first, last, interval, calendar)
    sessions, begin, end = history
    # A day on either side, because a session may lie on another date in UTC than at the exchange.
    near = sessions.loc[(first - _DAY).tz_localize(None).normalize() : (last + _DAY).tz_localize(None).normalize()]
    stamps = pd.DatetimeIndex(near.index).tz_localize("UTC").as_unit("ns") if length is None else _held(near, length)
    stamps = stamps[(stamps >= first) & (stamps <= last)]
    for start, stop in ((first, min(last, begin - _INSTANT)), (max(first, end), last)):
        if start <= stop:
            stamps = stamps.union(known_stamps(start, stop, interval, calendar))
    return stamps


def _held(sessions: pd.DataFrame, length: pd.Timedelta) -> pd.DatetimeIndex:
    """Bar openings of sessions, from each one's opening to its close and without its lunch break."""
    opened, paused, resumed, closed = (
        pd.DatetimeIndex(sessions[name]).as_unit("ns").asi8 for name in ("open", "break_start", "break_end", "close")
    )
    step = length.as_unit("ns").value
    counts = -(-(closed - opened) // step)
    session = np.repeat(np.arange(len(sessions)), counts)
    number = np.arange(len(session)) - np.repeat(np.cumsum(counts) - counts, counts)
    stamps = opened[session] + number * step
    # As in `_openings`; a session without a break has NaT here, which is the smallest number.
    in_break = (stamps >= paused[session]) & (stamps + step <= resumed[session])
    return pd.DatetimeIndex(stamps[~in_break]).tz_localize("UTC")


@lru_cache(maxsize=32)
def _history(
    calendar: str, first_decade: int, last_decade: int
) -> tuple[pd.DataFrame, pd.Timestamp, pd.Timestamp] | None:
    """Sessions of some decades with their hours, and from when until when they are known; None if they are not.

    Whole decades, so that many symbols with a history of different lengths share a few answers.
    """
    import exchange_calendars

    exchange = _exchange(calendar)
    start, end = pd.Timestamp(first_decade * 10, 1, 1), pd.Timestamp(last_decade * 10 + 9, 12, 31)
    earliest, latest = exchange.bound_min(), exchange.bound_max()
    start = start if earliest is None else max(start, earliest)
    end = end if latest is None else min(end, latest)
    if start >= end:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.Pandas4Warning)
            sessions = exchange_calendars.get_calendar(calendar, start=start, end=end).schedule
    except (NotImplementedError, ValueError):
        return None
    return sessions, start.tz_localize("UTC"), end.tz_localize("UTC") + _DAY


def _intraday(days: pd.DatetimeIndex, length: pd.Timedelta, calendar: str) -> pd.DatetimeIndex:
    """Bar openings over whole UTC days."""
    if calendar in (ALWAYS, CURRENCIES):
        stamps = pd.date_range(days[0], days[-1] + _DAY, freq=length, inclusive="left", unit="ns")
        if calendar == ALWAYS:
            return stamps
        # On a clock that strikes midnight at the close, "Sunday 17:00 to Friday 17:00" is Monday to Friday.
        clock = stamps.tz_convert(_CURRENCY_ZONE).tz_localize(None) + (_DAY - _CURRENCY_CLOSE)
        return stamps[clock.day_of_week < 5]
    sessions = days[_trades(days, calendar)].tz_localize(None)
    openings = (sessions.to_numpy()[:, None] + _openings(length, calendar)[None, :]).ravel()
    return pd.DatetimeIndex(openings).tz_localize(time_zone(calendar)).tz_convert("UTC")


def _trades(days: pd.DatetimeIndex, calendar: str) -> NDArray[np.bool_]:
    """Whether a market is expected to trade on the dates of `days`."""
    if calendar == ALWAYS:
        return np.ones(len(days), dtype=np.bool_)
    if calendar == CURRENCIES:
        return np.asarray(days.day_of_week < 5)
    exchange = _exchange(calendar)
    open_weekdays = np.array([digit == "1" for digit in exchange.weekmask])
    trades: NDArray[np.bool_] = open_weekdays[days.day_of_week]
    rules = exchange.regular_holidays
    if rules is not None:
        dates = days.tz_localize(None)
        # Korea's substitute holidays are found only if the holiday they stand for is in sight.
        trades &= ~dates.isin(rules.holidays(dates[0] - 8 * _DAY, dates[-1] + 8 * _DAY))
    return trades


def _margin(horizon: int, interval: str, calendar: str) -> pd.Timedelta:
    """Time that holds `horizon` bars whatever the holidays: more than twice the average, and two weeks."""
    # Weeks and months have no holidays, and twice five hundred quarters would pass the year 2262, where stamps end.
    spare = 1.1 if interval in LONGER_THAN_A_DAY else 2.5
    return pd.Timedelta(days=365 * spare * (horizon + 1) / periods_per_year(interval, calendar) + 14)


def _openings(length: pd.Timedelta, calendar: str) -> NDArray[np.timedelta64]:
    """Tell when the bars of a regular session open, as time since local midnight of its date."""
    if calendar in (ALWAYS, CURRENCIES):
        return np.arange(_DAY // length) * length.to_timedelta64()
    exchange = _exchange(calendar)
    opening = pd.Timedelta(days=exchange.open_offset) + _since_midnight(exchange.open_times)
    closing = pd.Timedelta(days=exchange.close_offset) + _since_midnight(exchange.close_times)
    count = int(np.ceil((closing - opening) / length))
    openings = opening.to_timedelta64() + np.arange(count) * length.to_timedelta64()
    if not exchange.break_start_times or exchange.break_start_times[-1][1] is None:
        return openings
    # Only a bar that lies in the lunch break as a whole is never there.
    pause, resume = _since_midnight(exchange.break_start_times), _since_midnight(exchange.break_end_times)
    return openings[(openings < pause) | (openings + length.to_timedelta64() > resume)]


def _since_midnight(times: Sequence[tuple[Any, time]]) -> pd.Timedelta:
    """Latest of an exchange's times of day, which come with the date since when each holds."""
    latest = times[-1][1]
    return pd.Timedelta(hours=latest.hour, minutes=latest.minute)


@lru_cache(maxsize=8)
def _exchange(calendar: str) -> Any:
    # Slow to import, and a run on crypto or currencies never needs it.
    import exchange_calendars

    known = (ALWAYS, CURRENCIES, *exchange_calendars.get_calendar_names(include_aliases=False))
    if calendar not in known:
        raise UsageError(f"unknown calendar '{calendar}'", fix=nearest(calendar, known))
    try:
        with warnings.catch_warnings():
            # exchange_calendars still uses names that pandas 4 will drop.
            warnings.simplefilter("ignore", pd.errors.Pandas4Warning)
            return exchange_calendars.get_calendar(calendar)
    except (NotImplementedError, ValueError) as error:
        raise DataError(
            f"the calendar '{calendar}' cannot be used",
            why=f"exchange_calendars and pandas {pd.__version__} do not agree: {str(error).splitlines()[0][:100]}",
            fix="choose a listing on another exchange",
        ) from error

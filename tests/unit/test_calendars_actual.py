"""Which bars a market really held: half days, summer time, closures nobody foresaw, hours of former times."""

from __future__ import annotations

import warnings
from typing import Any

import exchange_calendars
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrade.calendars import actual_stamps, known_stamps
from qtrade.errors import UsageError


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def days(first: str, last: str, calendar: str = "XNYS") -> list[str]:
    return [str(stamp.date()) for stamp in actual_stamps(utc(first), utc(last), "1d", calendar)]


def hours(first: str, last: str, calendar: str = "XNYS", interval: str = "1h") -> list[str]:
    return list(actual_stamps(utc(first), utc(last), interval, calendar).strftime("%a %H:%M"))


def exchange(calendar: str, start: str, end: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.Pandas4Warning)
        return exchange_calendars.get_calendar(calendar, start=start, end=end)


def test_a_half_day_ends_early() -> None:
    assert hours("2023-11-23", "2023-11-24 23:00") == ["Fri 14:30", "Fri 15:30", "Fri 16:30", "Fri 17:30"]
    assert len(actual_stamps(utc("2023-11-24"), utc("2023-11-24 23:00"), "1m", "XNYS")) == 210


def test_summer_time_moves_the_session_in_utc() -> None:
    assert hours("2024-03-08", "2024-03-11 23:00") == [
        *(f"Fri {hour}:30" for hour in range(14, 21)),
        *(f"Mon {hour}:30" for hour in range(13, 20)),
    ]
    assert hours("2024-11-01", "2024-11-04 23:00")[0::7] == ["Fri 13:30", "Mon 14:30"]


def test_closures_that_nobody_foresaw_are_known() -> None:
    assert days("2001-09-10", "2001-09-18") == ["2001-09-10", "2001-09-17", "2001-09-18"]
    assert days("2012-10-26", "2012-10-31") == ["2012-10-26", "2012-10-31"]
    assert days("2023-12-22", "2023-12-27") == ["2023-12-22", "2023-12-26", "2023-12-27"]
    assert days("1987-10-16", "1987-10-20") == ["1987-10-16", "1987-10-19", "1987-10-20"]


def test_bounds_are_included_and_nothing_beyond_them() -> None:
    assert hours("2024-06-04 14:30", "2024-06-04 15:30") == ["Tue 14:30", "Tue 15:30"]
    assert hours("2024-06-04 14:31", "2024-06-04 15:29") == []
    assert days("2024-06-08", "2024-06-09") == []


def test_lunch_and_the_hours_of_former_times() -> None:
    # Tokyo rests from 11:30 to 12:30, 02:30 to 03:30 UTC, and closes at 15:30, not at 15:00, since 5 November 2024.
    lunch = ["Fri 01:30", "Fri 02:00", "Fri 03:30", "Fri 04:00"]
    assert hours("2024-11-01 01:30", "2024-11-01 04:00", "XTKS", "30m") == lunch
    assert hours("2024-11-01 05:00", "2024-11-05 23:00", "XTKS", "30m")[:2] == ["Fri 05:00", "Fri 05:30"]
    assert hours("2024-11-05 05:00", "2024-11-05 23:00", "XTKS", "30m") == ["Tue 05:00", "Tue 05:30", "Tue 06:00"]
    # Hong Kong has no lunch on the eve of the lunar new year because it closes at noon.
    assert hours("2024-02-08 03:00", "2024-02-09 23:00", "XHKG", "30m") == [
        *("Thu 03:00", "Thu 03:30", "Thu 05:00", "Thu 05:30", "Thu 06:00", "Thu 06:30", "Thu 07:00", "Thu 07:30"),
        *("Fri 01:30", "Fri 02:00", "Fri 02:30", "Fri 03:00", "Fri 03:30"),
    ]


def test_a_session_may_begin_on_the_day_before_in_utc() -> None:
    assert hours("2024-01-24 22:30", "2024-01-24 23:30", "XASX") == ["Wed 23:00"]
    assert hours("2024-01-21", "2024-01-22 01:00", "CMES") == ["Sun 23:00", "Mon 00:00", "Mon 01:00"]


@pytest.mark.parametrize("interval", ["1h", "90m", "5m"])
@pytest.mark.parametrize("calendar", ["XNYS", "XTKS", "XHKG", "XLON", "CMES"])
def test_a_bar_is_there_if_the_market_is_open_in_any_of_its_minutes(calendar: str, interval: str) -> None:
    first, last = "2024-10-31", "2024-11-12"
    whole = exchange(calendar, "2024-10-15", "2024-11-15")
    trading, step = set(whole.minutes), pd.Timedelta(interval)
    expected = []
    for session in whole.sessions_in_range(first, last):
        stamp = whole.session_open(session)
        while stamp < whole.session_close(session):
            if any(minute in trading for minute in pd.date_range(stamp, stamp + step, freq="min", inclusive="left")):
                expected.append(stamp)
            stamp += step
    begin, stop = whole.session_open(whole.sessions_in_range(first, last)[0]), utc(last)
    assert list(actual_stamps(begin, stop, interval, calendar)) == [stamp for stamp in expected if stamp <= stop]


def test_days_are_the_sessions_of_the_exchange() -> None:
    sessions = exchange("XLON", "1995-01-01", "2025-12-31").sessions
    stamps = actual_stamps(utc("1995-01-01"), utc("2025-12-31"), "1d", "XLON")
    assert stamps.tz_localize(None).equals(pd.DatetimeIndex(sessions).as_unit("ns"))
    assert stamps.dtype == "datetime64[ns, UTC]"


@pytest.mark.parametrize(("interval", "calendar"), [("1h", "24/7"), ("1h", "24/5"), ("1d", "24/5"), ("1wk", "XNYS")])
def test_where_there_is_no_history_the_rules_hold(interval: str, calendar: str) -> None:
    first, last = utc("2023-12-15"), utc("2024-04-02")
    assert actual_stamps(first, last, interval, calendar).equals(known_stamps(first, last, interval, calendar))


def test_outside_of_what_is_known_of_an_exchange_the_rules_hold() -> None:
    # Tokyo is known from 1997 on, Shanghai until the government announces the holidays of the next year.
    first, last = utc("1989-03-01"), utc("1989-12-31")
    for interval in ("1d", "1h"):
        assert list(actual_stamps(first, last, interval, "XTKS")) == list(known_stamps(first, last, interval, "XTKS"))
    across = actual_stamps(utc("1996-12-20"), utc("1997-01-10"), "1d", "XTKS")
    assert [stamp.day for stamp in across] == [20, 24, 25, 26, 27, 30, 6, 7, 8, 9, 10]
    # By today's rules the last half hour begins at 06:00 UTC; in 1997 Tokyo closed then.
    last_bars = (
        actual_stamps(utc("1996-12-27"), utc("1997-01-06 23:00"), "30m", "XTKS")
        .to_series()
        .resample("D")
        .max()
        .dropna()
    )
    assert list(last_bars.dt.strftime("%d %H:%M")) == ["27 06:00", "30 06:00", "06 05:30"]
    # The last day that is known of Hong Kong is a half one.
    assert hours("2049-12-31", "2049-12-31 23:00", "XHKG") == ["Fri 01:30", "Fri 02:30", "Fri 03:30"]
    late = actual_stamps(utc("2058-03-04"), utc("2058-03-08"), "1d", "XSHG")
    assert [stamp.day for stamp in late] == [4, 5, 6, 7, 8]


def test_an_unknown_calendar_is_named() -> None:
    with pytest.raises(UsageError, match="unknown calendar 'XNYC'"):
        actual_stamps(utc("2024-01-01"), utc("2024-02-01"), "1d", "XNYC")


@given(
    st.sampled_from(["XNYS", "XTKS", "XLON"]),
    st.sampled_from(["1d", "1h", "15m"]),
    st.integers(0, 34 * 365 * 1440),
    st.integers(0, 20_000),
    st.integers(0, 20_000),
    st.integers(0, 20_000),
)
@settings(deadline=None, max_examples=40)
def test_whether_a_bar_was_held_does_not_depend_on_the_range_asked_for(
    calendar: str, interval: str, start: int, before: int, within: int, after: int
) -> None:
    first = utc("1994-06-01") + pd.Timedelta(minutes=start)
    last = first + pd.Timedelta(minutes=within)
    wide = actual_stamps(first - pd.Timedelta(minutes=before), last + pd.Timedelta(minutes=after), interval, calendar)
    assert list(wide[(wide >= first) & (wide <= last)]) == list(actual_stamps(first, last, interval, calendar))
    assert wide.is_monotonic_increasing
    assert wide.is_unique

from __future__ import annotations

import warnings
from pathlib import Path

import exchange_calendars
import pandas as pd
import pytest

from qtrade import calendars
from qtrade.calendars import INTRADAY, future_positions, known_stamps, periods_per_year, time_zone
from qtrade.errors import DataError, UsageError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def days(first: str, last: str, calendar: str = "XNYS", interval: str = "1d") -> list[str]:
    return [str(stamp.date()) for stamp in known_stamps(utc(first), utc(last), interval, calendar)]


def hours(first: str, last: str, calendar: str = "XNYS", interval: str = "1h") -> list[str]:
    stamps = known_stamps(utc(first), utc(last), interval, calendar)
    return [str(clock) for clock in stamps.strftime("%a %H:%M")]


@pytest.mark.parametrize(
    ("interval", "calendar", "expected"),
    [
        ("1d", "XNYS", 252),
        ("1h", "XNYS", 1764),  # 9:30 to 15:30, the seventh half an hour long
        ("60m", "XNYS", 1764),
        ("30m", "XNYS", 13 * 252),
        ("90m", "XNYS", 5 * 252),
        ("1m", "XNYS", 390 * 252),
        ("1h", "XLON", 9 * 252),
        ("30m", "XTKS", 11 * 252),  # two bars fall into the lunch break from 11:30 to 12:30
        ("1h", "XTKS", 7 * 252),  # the break cuts two bars short and takes none
        ("5m", "XSHG", 48 * 252),
        ("1d", "24/7", 365),
        ("1h", "24/7", 8760),
        ("15m", "24/7", 35040),
        ("1d", "24/5", 260),
        ("1h", "24/5", 6240),
        ("1h", "CMES", 24 * 252),
        ("1wk", "XNYS", 52),
        ("1mo", "24/7", 12),
        ("3mo", "24/5", 4),
    ],
)
def test_bars_in_a_year_are_declared(interval: str, calendar: str, expected: float) -> None:
    assert periods_per_year(interval, calendar) == expected


@pytest.mark.parametrize(
    ("interval", "calendar", "what", "fix"),
    [
        ("1day", "XNYS", "unknown interval '1day'", "did you mean '1d'?"),
        ("1d", "XNYC", "unknown calendar 'XNYC'", "did you mean 'XNYS'?"),
        ("1wk", "NYSE2", "unknown calendar 'NYSE2'", ""),
    ],
)
def test_unknown_names_are_usage_errors(interval: str, calendar: str, what: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        periods_per_year(interval, calendar)
    assert caught.value.what == what
    assert caught.value.fix.startswith(fix)
    assert caught.value.exit_code == 2


def test_a_calendar_the_library_cannot_make_is_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise NotImplementedError("implemented by subclasses")

    monkeypatch.setattr(exchange_calendars, "get_calendar", broken)
    calendars._exchange.cache_clear()
    with pytest.raises(DataError, match="the calendar 'XNYS' cannot be used") as caught:
        periods_per_year("1d", "XNYS")
    assert caught.value.exit_code == 3


def test_time_zones() -> None:
    assert [time_zone(name) for name in ("XNYS", "XTKS", "24/7", "24/5")] == [
        "America/New_York", "Asia/Tokyo", "UTC", "America/New_York",
    ]  # fmt: skip


def test_regular_holidays_are_known() -> None:
    assert days("2024-03-28", "2024-04-01") == ["2024-03-28", "2024-04-01"]  # Good Friday
    assert days("2021-07-02", "2021-07-06") == ["2021-07-02", "2021-07-06"]  # 4 July on a Sunday
    assert days("2021-06-18", "2021-06-21") == ["2021-06-18", "2021-06-21"]  # before Juneteenth was a holiday
    assert days("2022-06-17", "2022-06-21") == ["2022-06-17", "2022-06-21"]  # observed on Monday the 20th
    assert days("2023-12-29", "2024-01-02") == ["2023-12-29", "2024-01-02"]


def test_a_substitute_holiday_is_known_however_short_the_range() -> None:
    # In 2015 the Korean harvest festival reached into a Sunday, and Tuesday the 29th stood in for it.
    assert days("2015-09-29", "2015-09-30", "XKRX") == ["2015-09-30"]


@pytest.fixture(scope="module")
def sessions() -> pd.DatetimeIndex:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.Pandas4Warning)
        exchange = exchange_calendars.get_calendar("XNYS", start="1999-01-04", end="2026-01-30")
    return pd.DatetimeIndex(exchange.sessions)


def test_the_rules_expect_every_session_and_those_that_nobody_could_foresee_to_fall_out(
    sessions: pd.DatetimeIndex,
) -> None:
    expected = known_stamps(utc("1999-01-04"), utc("2026-01-30"), "1d", "XNYS").tz_localize(None)
    assert len(sessions.difference(expected)) == 0
    assert [str(day.date()) for day in expected.difference(sessions)] == [
        *("2001-09-11", "2001-09-12", "2001-09-13", "2001-09-14"),  # the attacks on New York
        *("2004-06-11", "2007-01-02", "2012-10-29", "2012-10-30"),  # Reagan and Ford are mourned; hurricane Sandy
        *("2018-12-05", "2025-01-09"),  # Bush and Carter are mourned
    ]  # fmt: skip


@pytest.mark.parametrize("calendar", ["XNYS", "XLON", "XTKS", "24/7"])
@pytest.mark.parametrize("interval", list(INTRADAY))
def test_a_session_has_as_many_bars_as_the_year_is_declared_by(interval: str, calendar: str) -> None:
    stamps = known_stamps(utc("2024-06-04"), utc("2024-06-04 23:59"), interval, calendar)
    assert periods_per_year(interval, calendar) == len(stamps) * periods_per_year("1d", calendar)


def test_summer_time_moves_the_session_in_utc() -> None:
    assert hours("2024-03-08", "2024-03-11 23:00") == [
        *(f"Fri {hour}:30" for hour in range(14, 21)),
        *(f"Mon {hour}:30" for hour in range(13, 20)),
    ]
    assert hours("2024-11-01", "2024-11-04 23:00")[0::7] == ["Fri 13:30", "Mon 14:30"]


def test_a_half_day_counts_as_a_whole_one() -> None:
    assert hours("2023-11-23", "2023-11-24 23:00") == [f"Fri {hour}:30" for hour in range(14, 21)]


def test_nothing_is_expected_during_lunch() -> None:
    # 11:30 to 12:30 in Tokyo is 02:30 to 03:30 UTC.
    assert hours("2024-06-04 01:30", "2024-06-04 04:00", "XTKS", "30m") == [
        "Tue 01:30", "Tue 02:00", "Tue 03:30", "Tue 04:00",
    ]  # fmt: skip


@pytest.mark.parametrize("horizon", [1, 500])
@pytest.mark.parametrize(
    ("interval", "calendar"),
    [
        *((interval, calendar) for interval in ("1h", "1d") for calendar in ("XNYS", "XTKS", "24/5", "24/7")),
        *((interval, "XNYS") for interval in ("1m", "30m", "1wk", "1mo", "3mo")),
    ],
)
def test_the_grid_reaches_the_horizon(horizon: int, interval: str, calendar: str) -> None:
    # Before Easter, before the week around new year when Tokyo rests, and in the middle of a weekend.
    for eve in ("2024-03-28 23:00", "2019-12-30 23:00", "2020-02-29 12:00"):
        grid, start = future_positions(pd.DatetimeIndex([eve], tz="UTC"), horizon, interval, calendar)
        assert len(grid[start[0] :]) >= horizon


def test_a_session_may_begin_on_the_evening_before() -> None:
    # The Monday session of Chicago futures opens on Sunday 17:00, which is 23:00 UTC in winter.
    assert hours("2024-01-21", "2024-01-22 01:00", "CMES") == ["Sun 23:00", "Mon 00:00", "Mon 01:00"]


def test_a_session_may_lie_on_the_day_before_in_utc() -> None:
    # Sydney opens at 10:00, which is 23:00 UTC of the day before in its summer; 26 January is a holiday.
    assert hours("2024-01-24 22:30", "2024-01-24 23:30", "XASX") == ["Wed 23:00"]
    assert hours("2024-01-25 22:30", "2024-01-25 23:30", "XASX") == []
    assert hours("2024-01-25", "2024-01-25 06:00", "XASX") == [f"Thu 0{hour}:00" for hour in range(5)]


def test_currencies_rest_from_friday_to_sunday_evening_in_new_york() -> None:
    winter = hours("2024-01-19 20:00", "2024-01-21 23:00", "24/5")
    summer = hours("2024-07-19 19:00", "2024-07-21 22:00", "24/5")
    assert winter == ["Fri 20:00", "Fri 21:00", "Sun 22:00", "Sun 23:00"]
    assert summer == ["Fri 19:00", "Fri 20:00", "Sun 21:00", "Sun 22:00"]
    assert days("2024-01-19", "2024-01-22", "24/5") == ["2024-01-19", "2024-01-22"]


def test_crypto_never_rests() -> None:
    assert len(known_stamps(utc("2024-03-09"), utc("2024-03-11"), "1h", "24/7")) == 49
    assert days("2024-12-31", "2025-01-02", "24/7") == ["2024-12-31", "2025-01-01", "2025-01-02"]


def test_weeks_months_and_quarters_are_stamped_on_their_first_day() -> None:
    assert days("2024-01-01", "2024-01-15", interval="1wk") == ["2024-01-01", "2024-01-08", "2024-01-15"]
    assert days("2023-12-15", "2024-02-15", interval="1mo") == ["2024-01-01", "2024-02-01"]
    assert days("2023-12-15", "2024-07-01", interval="3mo") == ["2024-01-01", "2024-04-01", "2024-07-01"]


def test_the_next_bar_skips_weekend_and_new_year() -> None:
    index = pd.DatetimeIndex(["2024-12-27 20:30", "2024-12-31 20:30"], tz="UTC")  # a Friday, a Tuesday
    grid, start = future_positions(index, 3, "1h", "XNYS")
    assert [str(stamp) for stamp in grid[start[0] : start[0] + 2]] == [
        "2024-12-30 14:30:00+00:00",
        "2024-12-30 15:30:00+00:00",
    ]
    assert str(grid[start[1]]) == "2025-01-02 14:30:00+00:00"


def test_a_bar_that_should_not_be_there_has_a_future_too() -> None:
    # Until 1952 New York traded on Saturdays; today's rules do not know them.
    index = pd.DatetimeIndex(["1951-03-03"], tz="UTC")
    grid, start = future_positions(index, 1, "1d", "XNYS")
    assert str(grid[start[0]].date()) == "1951-03-05"


def test_hourly_currencies_trade_when_the_rules_say() -> None:
    path = SHARED / "EURUSD_1h_2017.csv"
    if not path.exists():
        pytest.skip("the shared market data are not here")
    happened = pd.DatetimeIndex(pd.read_csv(path, index_col=0).index).tz_localize("UTC")
    expected = known_stamps(happened[0], happened[-1], "1h", "24/5")
    assert happened.isin(expected).mean() > 0.999
    assert expected.isin(happened).mean() > 0.98  # the rest is Christmas and new year


def test_hourly_crypto_trades_when_the_rules_say() -> None:
    path = SHARED / "BTC-USD_1h_2025.csv"
    if not path.exists():
        pytest.skip("the shared market data are not here")
    happened = pd.DatetimeIndex(pd.read_csv(path, index_col=0).index)
    expected = known_stamps(happened[0], happened[-1], "1h", "24/7")
    assert happened.isin(expected).all()
    assert expected.isin(happened).mean() > 0.99

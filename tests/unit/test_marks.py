"""Calendar marks against values worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from qtrade.calendars import INTERVALS
from qtrade.errors import UsageError
from qtrade.features.marks import mark_names, marks, whole_marks


def at(*stamps: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(stamps, tz="UTC")


def test_the_reference_value_of_the_informer() -> None:
    row = marks(at("2016-07-01 00:00"), "1h")
    assert row.dtype == np.float32
    np.testing.assert_allclose(row, [[-0.5, 1 / 6, -0.5, -0.00137]], atol=5e-6)


@pytest.mark.parametrize(
    ("interval", "names"),
    [
        ("1s", ("second", "minute", "hour", "day_of_week", "day_of_month", "day_of_year")),
        ("s", ("second", "minute", "hour", "day_of_week", "day_of_month", "day_of_year")),
        ("90s", ("second", "minute", "hour", "day_of_week", "day_of_month", "day_of_year")),
        ("300s", ("minute", "hour", "day_of_week", "day_of_month", "day_of_year")),
        ("15min", ("minute", "hour", "day_of_week", "day_of_month", "day_of_year")),
        ("15t", ("minute", "hour", "day_of_week", "day_of_month", "day_of_year")),
        ("t", ("minute", "hour", "day_of_week", "day_of_month", "day_of_year")),
        ("h", ("hour", "day_of_week", "day_of_month", "day_of_year")),
        ("240min", ("hour", "day_of_week", "day_of_month", "day_of_year")),
        ("3h", ("hour", "day_of_week", "day_of_month", "day_of_year")),
        ("24h", ("day_of_week", "day_of_month", "day_of_year")),
        ("d", ("day_of_week", "day_of_month", "day_of_year")),
        ("b", ("day_of_week", "day_of_month", "day_of_year")),
        ("5d", ("day_of_week", "day_of_month", "day_of_year")),
        ("w", ("day_of_month", "week_of_year")),
        ("m", ("month",)),
        ("1m", ("minute", "hour", "day_of_week", "day_of_month", "day_of_year")),
        ("30m", ("minute", "hour", "day_of_week", "day_of_month", "day_of_year")),
        ("90m", ("minute", "hour", "day_of_week", "day_of_month", "day_of_year")),
        ("1h", ("hour", "day_of_week", "day_of_month", "day_of_year")),
        ("60m", ("hour", "day_of_week", "day_of_month", "day_of_year")),
        ("1d", ("day_of_week", "day_of_month", "day_of_year")),
        ("1wk", ("day_of_month", "week_of_year")),
        ("1mo", ("month",)),
        ("3mo", ("month",)),
    ],
)
def test_names_by_interval(interval: str, names: tuple[str, ...]) -> None:
    assert mark_names(interval) == names
    assert marks(at("2020-02-29", "2020-03-01"), interval).shape == (2, len(names))


@pytest.mark.parametrize("interval", INTERVALS)
def test_every_interval_has_both_kinds_of_marks(interval: str) -> None:
    stamps = pd.date_range("2023-12-30", "2025-01-02", freq="95min", tz="UTC")
    share, whole = marks(stamps, interval), whole_marks(stamps, interval)
    assert share.dtype == whole.dtype == np.float32
    assert len(share) == len(whole) == len(stamps)
    assert (abs(share) <= 0.5).all()
    lowest, highest = (1, 1, 0, 0, 0), (12, 31, 6, 23, 3)
    np.testing.assert_array_equal(whole.min(axis=0), lowest[: whole.shape[1]])
    np.testing.assert_array_equal(whole.max(axis=0), highest[: whole.shape[1]])


def test_what_is_no_length_of_time_has_no_marks() -> None:
    for interval in ("1y", "0h", "", "h1", "1.5h", "-1h"):
        with pytest.raises(UsageError, match=f"unknown interval '{interval}'"):
            mark_names(interval)
    with pytest.raises(UsageError, match="unknown interval '1y'"):
        whole_marks(at("2024-01-01"), "1y")


def test_seconds_come_first() -> None:
    np.testing.assert_allclose(marks(at("2016-07-01 00:00:59"), "10s")[0, :3], [0.5, -0.5, -0.5])


@pytest.mark.parametrize(
    ("stamp", "interval", "expected"),
    [
        ("2021-03-04 13:59", "1m", [3, 4, 3, 13, 3]),  # a Thursday
        ("2021-03-07 00:15", "5m", [3, 7, 6, 0, 1]),
        ("2021-03-08 23:30", "90m", [3, 8, 0, 23, 2]),
        ("2020-12-31 13:30", "60m", [12, 31, 3, 13]),
        ("2020-12-31 13:30", "1h", [12, 31, 3, 13]),
        ("2020-02-29", "1d", [2, 29, 5]),
        ("2020-12-28", "1wk", [12]),
        ("2021-01-01", "1mo", [1]),
        ("2021-10-01", "3mo", [10]),
    ],
)
def test_whole_marks_by_hand(stamp: str, interval: str, expected: list[int]) -> None:
    np.testing.assert_array_equal(whole_marks(at(stamp), interval), [expected])


def test_whole_marks_are_read_on_the_exchange_clock_within_a_day_and_from_the_session_date_otherwise() -> None:
    opening = at("2024-01-05 14:30", "2024-07-05 13:30")
    new_york = whole_marks(opening, "30m", "America/New_York")
    np.testing.assert_array_equal(new_york, [[1, 5, 4, 9, 2], [7, 5, 4, 9, 2]])
    session = whole_marks(at("2024-03-01"), "1d", "America/New_York")
    np.testing.assert_array_equal(session, [[3, 1, 4]])


@pytest.mark.parametrize(
    ("stamp", "interval", "expected"),
    [
        ("2021-03-04 13:59", "1m", [0.5, 13 / 23 - 0.5, 0.0, 3 / 30 - 0.5, 62 / 365 - 0.5]),
        ("2020-12-31", "1d", [0.0, 0.5, 0.5]),  # a Thursday, the 366th day
        ("2023-01-02", "1d", [-0.5, 1 / 30 - 0.5, 1 / 365 - 0.5]),  # a Monday
        ("2020-12-28", "1wk", [27 / 30 - 0.5, 0.5]),  # the 53rd week
        ("2021-01-04", "1wk", [3 / 30 - 0.5, -0.5]),
        ("2021-01-01", "1mo", [-0.5]),
        ("2021-12-01", "3mo", [0.5]),
    ],
)
def test_values_by_hand(stamp: str, interval: str, expected: list[float]) -> None:
    np.testing.assert_allclose(marks(at(stamp), interval), [expected], atol=1e-7)


def test_an_intraday_bar_is_read_on_the_exchange_clock_in_summer_and_winter() -> None:
    opening = at("2024-01-05 14:30", "2024-07-05 13:30")
    hours = marks(opening, "1h", "America/New_York")[:, 0]
    np.testing.assert_allclose(hours, [9 / 23 - 0.5] * 2, atol=1e-7)


def test_a_daily_bar_is_read_from_its_session_date_in_any_zone() -> None:
    stamps = at("2024-01-01", "2024-01-02")
    np.testing.assert_array_equal(marks(stamps, "1d", "America/New_York"), marks(stamps, "1d", "Asia/Tokyo"))
    assert marks(stamps, "1d", "America/New_York")[0, 0] == -0.5


def test_an_unknown_interval_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown interval '1hr'") as caught:
        marks(at("2024-01-01"), "1hr")
    assert caught.value.fix == "did you mean '1h'?"


def test_no_stamps_give_no_rows() -> None:
    assert marks(at(), "1d").shape == (0, 3)
    assert whole_marks(at(), "1d").shape == (0, 3)

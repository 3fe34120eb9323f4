"""How new bars are: when each is complete, and which should be there by now."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from qtrade.data.freshness import bar_end, freshness, utc_now
from qtrade.types import Bars


def ending(last: str, interval: str, calendar: str) -> Bars:
    index = pd.date_range(end=pd.Timestamp(last, tz="UTC"), periods=3, freq="D")
    close = pd.DataFrame(np.ones((3, 1)), index=index, columns=["A"])
    return Bars(close, close, close, close, close, interval, calendar, 252.0)


@pytest.mark.parametrize(
    ("last", "interval", "calendar", "now", "missing"),
    [
        ("2024-03-01", "1d", "24/7", "2024-03-02 00:00", 0),
        ("2024-03-01", "1d", "24/7", "2024-03-03 00:29", 0),
        ("2024-03-01", "1d", "24/7", "2024-03-03 00:30", 1),
        ("2024-03-01", "1d", "24/7", "2024-03-11 12:00", 9),
        # A Friday; New York closes at 20:00 UTC from 10 March on, and at 21:00 before.
        ("2024-03-08", "1d", "XNYS", "2024-03-11 20:29", 0),
        ("2024-03-08", "1d", "XNYS", "2024-03-11 20:30", 1),
        ("2024-03-08", "1d", "XNYS", "2024-03-10 23:00", 0),
        # Closed on 9 January 2025 for a state funeral that no rule foresees.
        ("2025-01-08", "1d", "XNYS", "2025-01-10 12:00", 0),
        ("2025-01-08", "1d", "XNYS", "2025-01-10 21:30", 1),
        ("2024-03-08 20:30", "1h", "XNYS", "2024-03-11 14:59", 0),
        ("2024-03-08 20:30", "1h", "XNYS", "2024-03-11 15:00", 1),
        ("2024-03-01 10:00", "4h", "24/7", "2024-03-01 16:29", 0),
        # Currencies rest from Friday to Sunday, 17:00 in New York.
        ("2024-03-08", "1d", "24/5", "2024-03-11 12:00", 0),
        ("2024-03-04", "1wk", "XNYS", "2024-03-18 05:00", 1),
        ("2024-03-04", "1wk", "XNYS", "2024-03-17 12:00", 0),
        ("2024-02-01", "1mo", "24/7", "2024-04-01 00:30", 1),
    ],
)
def test_bars_are_missed_once_they_are_complete_and_have_had_time_to_arrive(
    last: str, interval: str, calendar: str, now: str, missing: int
) -> None:
    found = freshness(ending(last, interval, calendar), pd.Timestamp(now, tz="UTC"))
    assert found.missing == missing
    assert found.newest == pd.Timestamp(last, tz="UTC")


def test_the_age_of_a_bar_counts_from_its_end() -> None:
    found = freshness(ending("2024-03-01", "1d", "XNYS"), pd.Timestamp("2024-03-02 03:00", tz="UTC"))
    assert found.complete == pd.Timestamp("2024-03-01 21:00", tz="UTC")
    assert found.age == pd.Timedelta(hours=6)
    early = freshness(ending("2024-03-01", "1d", "XNYS"), pd.Timestamp("2024-03-01 15:00", tz="UTC"))
    assert early.age == pd.Timedelta(0)
    assert early.missing == 0


def test_bars_from_the_future_miss_nothing() -> None:
    found = freshness(ending("2200-01-01", "1d", "24/7"), utc_now())
    assert (found.missing, found.age) == (0, pd.Timedelta(0))


def test_a_bar_of_seconds_ends_with_them() -> None:
    stamp = pd.Timestamp("2024-03-01 10:00", tz="UTC")
    assert bar_end(stamp, "10s", "24/7", "UTC") == stamp + pd.Timedelta(seconds=10)

"""What is known of the future depends on the present alone: nothing after a bar changes which bars are expected."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrade.calendars import INTERVALS, INTRADAY, future_positions, known_stamps

CALENDARS = ["XNYS", "XLON", "XTKS", "24/7", "24/5"]
H = 7


def step(interval: str) -> pd.Timedelta:
    longer = {"1d": 1, "1wk": 7, "1mo": 30, "3mo": 91}
    return INTRADAY[interval] if interval in INTRADAY else pd.Timedelta(days=longer[interval])


@st.composite
def markets(draw: st.DrawFn) -> tuple[pd.DatetimeIndex, str, str]:
    """Stamps that happened, on the rules' grid or off it; interval; calendar."""
    interval, calendar = draw(st.sampled_from(INTERVALS)), draw(st.sampled_from(CALENDARS))
    minutes = draw(st.integers(0, 32 * 365 * 1440))
    first = pd.Timestamp("1998-01-01", tz="UTC") + pd.Timedelta(minutes=minutes)
    gaps = draw(st.lists(st.integers(1, 40), min_size=2, max_size=6))
    index = pd.DatetimeIndex([first, *(first + np.cumsum(gaps) * step(interval))])
    if interval not in INTRADAY:
        index = index.normalize()
    return index, interval, calendar


def futures(index: pd.DatetimeIndex, interval: str, calendar: str) -> list[pd.DatetimeIndex]:
    grid, start = future_positions(index, H, interval, calendar)
    return [grid[at : at + H] for at in start]


@given(markets(), st.integers(1, 6))
@settings(deadline=None, max_examples=40)
def test_truncating_the_bars_leaves_every_future_as_it_was(market: tuple[pd.DatetimeIndex, str, str], cut: int) -> None:
    index, interval, calendar = market
    whole, kept = futures(index, interval, calendar), futures(index[:cut], interval, calendar)
    assert [list(row) for row in whole[: len(kept)]] == [list(row) for row in kept]


@given(markets(), st.integers(1, 6), st.integers(1, 10**6))
@settings(deadline=None, max_examples=40)
def test_bars_that_come_later_than_expected_change_nothing_before_them(
    market: tuple[pd.DatetimeIndex, str, str], cut: int, minutes: int
) -> None:
    index, interval, calendar = market
    moved = pd.DatetimeIndex([*index[:cut], *(index[cut:] + pd.Timedelta(minutes=minutes))])
    whole, other = futures(index, interval, calendar), futures(moved, interval, calendar)
    assert [list(row) for row in whole[:cut]] == [list(row) for row in other[:cut]]


@given(markets())
@settings(deadline=None, max_examples=40)
def test_the_future_of_a_bar_is_what_the_rules_say_from_its_stamp_alone(
    market: tuple[pd.DatetimeIndex, str, str],
) -> None:
    index, interval, calendar = market
    for stamp, ahead in zip(index, futures(index, interval, calendar), strict=True):
        assert len(ahead) == H
        alone = known_stamps(stamp + pd.Timedelta("1ns"), ahead[-1], interval, calendar)
        assert list(ahead) == list(alone)
        assert ahead[0] > stamp
        assert ahead.is_monotonic_increasing
        assert ahead.is_unique


@given(markets(), st.integers(0, 400), st.integers(0, 400))
@settings(deadline=None, max_examples=40)
def test_whether_a_bar_is_expected_does_not_depend_on_the_range_asked_for(
    market: tuple[pd.DatetimeIndex, str, str], before: int, after: int
) -> None:
    index, interval, calendar = market
    first, last = index[0], index[-1]
    wide = known_stamps(first - before * step(interval), last + after * step(interval), interval, calendar)
    narrow = known_stamps(first, last, interval, calendar)
    assert list(wide[(wide >= first) & (wide <= last)]) == list(narrow)


@given(markets(), st.integers(1, 60))
@settings(deadline=None, max_examples=30)
def test_looking_further_ahead_extends_the_grid_and_moves_nothing(
    market: tuple[pd.DatetimeIndex, str, str], horizon: int
) -> None:
    index, interval, calendar = market
    near, start = future_positions(index, 1, interval, calendar)
    far, far_start = future_positions(index, horizon, interval, calendar)
    assert np.array_equal(start, far_start)
    assert far[: len(near)].equals(near)
    assert far_start[-1] + horizon <= len(far)

"""A planted defect is found, alone and where it was planted; what a bar is accused of depends on nothing after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrade.calendars import actual_stamps
from qtrade.data.checks import ERRORS
from qtrade.data.mend import mend
from qtrade.data.quality import errors, examine
from qtrade.data.raw import RawBars, adjust
from qtrade.data.unadjusted import SPLIT_RATIOS
from qtrade.types import BAR_FIELDS, Bars

NOW = pd.Timestamp("2030-01-01", tz="UTC")
PER_BAR = ("dividends", "future", "ohlc", "price", "volume")
OPEN, HIGH, LOW, CLOSE, VOLUME, DIVIDENDS, SPLITS = range(7)

Grid = np.ndarray[tuple[int, int], np.dtype[np.float64]]


def raw_bars(values: Grid, stamps: pd.DatetimeIndex, interval: str = "1d", calendar: str = "24/7") -> RawBars:
    columns = ["open", "high", "low", "close", "volume", "dividends", "splits"]
    return RawBars("ACME", "file", interval, calendar, "UTC", pd.DataFrame(values, stamps, columns))


@st.composite
def markets(draw: st.DrawFn) -> RawBars:
    """Clean bars whose moves are spread evenly, none larger than one percent."""
    interval, calendar = draw(st.sampled_from([("1d", "XNYS"), ("1h", "XNYS"), ("1h", "24/5"), ("5m", "24/7")]))
    first = pd.Timestamp("2001-08-01", tz="UTC") + pd.Timedelta(days=draw(st.integers(0, 8000)))
    rows = draw(st.integers(40, 120))
    days = 4 * rows if interval == "1d" else rows + 10
    stamps = actual_stamps(first, first + pd.Timedelta(days=days), interval, calendar)[:rows]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    close = 100 * np.exp(np.cumsum(rng.uniform(-0.01, 0.01, rows)))
    opened = close * np.exp(rng.uniform(-0.003, 0.003, rows))
    values = np.zeros((rows, 7))
    values[:, OPEN], values[:, CLOSE] = opened, close
    values[:, HIGH], values[:, LOW] = np.maximum(opened, close) * 1.001, np.minimum(opened, close) * 0.999
    values[:, VOLUME] = rng.uniform(1000, 1500, rows)
    values[:, DIVIDENDS] = np.where(rng.random(rows) < 0.05, 0.5, 0.0)
    return raw_bars(values, stamps, interval, calendar)


def planted(raw: RawBars, change: Callable[[Grid], None]) -> RawBars:
    values: Grid = raw.frame.to_numpy(copy=True)
    change(values)
    frame = pd.DataFrame(values, raw.frame.index, raw.frame.columns)
    return replace(raw, frame=frame)


@given(markets())
@settings(deadline=None, max_examples=20)
def test_a_clean_market_has_nothing_to_tell(raw: RawBars) -> None:
    assert examine(raw, now=NOW) == ()
    assert mend(raw, (), now=NOW) == (raw, ())


@given(markets(), st.sampled_from([*PER_BAR, "split", "stated", "outliers", "stale", "gaps", "zero_volume"]), st.data())
@settings(deadline=None, max_examples=100)
def test_a_planted_defect_is_found_alone_and_where_it_is(raw: RawBars, kind: str, data: st.DataObject) -> None:
    index = raw.frame.index
    row = data.draw(st.integers(1, len(index) - 2))
    rows, now = [row], NOW

    def change(values: Grid) -> None:
        nonlocal rows
        if kind == "price":
            values[row, data.draw(st.integers(OPEN, CLOSE))] = data.draw(st.sampled_from([np.nan, 0.0, -1.0, np.inf]))
        elif kind == "ohlc":
            side, edge = data.draw(st.sampled_from([(HIGH, values[row, LOW]), (LOW, values[row, HIGH])]))
            values[row, side] = edge
        elif kind == "volume":
            values[row, VOLUME] = data.draw(st.sampled_from([np.nan, -1.0, np.inf]))
        elif kind == "dividends":
            values[row, DIVIDENDS] = data.draw(st.sampled_from([np.nan, -1.0, np.inf, values[row - 1, CLOSE]]))
        elif kind in ("split", "stated"):
            ratio = data.draw(st.sampled_from(SPLIT_RATIOS))
            ratio = 1 / ratio if ratio >= 2 and data.draw(st.booleans()) else ratio
            values[row:, : CLOSE + 1] /= ratio
            if kind == "stated":
                values[row, SPLITS] = ratio
        elif kind == "outliers":
            values[row, : CLOSE + 1] *= data.draw(st.sampled_from([0.5, 0.7, 1.4, 3.0]))
        elif kind == "stale":
            stop = data.draw(st.integers(row + 15, row + 30))
            rows = list(range(row, min(stop, len(index))))
            values[row:stop, : CLOSE + 1] = values[row - 1, : CLOSE + 1]
        elif kind == "zero_volume":
            values[row, VOLUME] = 0.0

    if kind == "stale":
        row = min(row, len(index) - 20)
    broken = planted(raw, change)
    if kind == "gaps":
        broken = replace(raw, frame=raw.frame.drop(index[row]))
    if kind == "future":
        now, rows = index[row] - pd.Timedelta("1ns"), list(range(row, len(index)))
    (finding,) = examine(broken, now=now)
    assert finding.check == ("split" if kind == "stated" else kind)
    assert (finding.count, finding.first, finding.last) == (len(rows), str(index[rows[0]]), str(index[rows[-1]]))
    assert errors(broken, now=now) == ((finding,) if finding.severity == "error" else ())


def test_every_error_that_bars_can_show_is_planted_somewhere() -> None:
    assert set(ERRORS) == {*PER_BAR, "split", "constant", "duplicates"}


@st.composite
def dirty(draw: st.DrawFn) -> tuple[RawBars, pd.Timestamp]:
    """Bars with defects everywhere, and a time after which they lie in the future."""
    rows = draw(st.integers(3, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.3, rows)))
    values = np.zeros((rows, 7))
    values[:, OPEN : CLOSE + 1] = close[:, None] * np.exp(rng.normal(0, 0.1, (rows, 4)))
    values[:, VOLUME] = rng.uniform(-100, 1000, rows)
    values[:, DIVIDENDS] = np.where(rng.random(rows) < 0.4, rng.uniform(-20, 120, rows), 0.0)
    values[:, SPLITS] = np.where(rng.random(rows) < 0.3, rng.uniform(-1, 4, rows), 0.0)
    values[rng.random((rows, 7)) < 0.05] = np.nan
    values[rng.random((rows, 7)) < 0.02] = np.inf
    values[0, :VOLUME] = 100.0  # one bar is sound
    stamps = pd.date_range("2024-01-01", periods=rows, freq="D", tz="UTC", unit="ns")
    return raw_bars(values, stamps), stamps[draw(st.integers(1, rows - 1))]


def accused(raw: RawBars, now: pd.Timestamp) -> dict[str, list[pd.Timestamp]]:
    """The checks of single bars, one bar after the other."""
    found: dict[str, list[pd.Timestamp]] = {name: [] for name in PER_BAR}
    before, owed = np.inf, 0.0
    for stamp, row in zip(raw.frame.index, raw.frame.to_numpy(), strict=True):
        prices = row[: CLOSE + 1]
        if stamp > now:
            found["future"].append(stamp)
            continue
        owed += row[DIVIDENDS]
        if not (np.isfinite(prices).all() and (prices > 0).all()):
            found["price"].append(stamp)
            continue
        top, bottom = max(row[OPEN], row[CLOSE]), min(row[OPEN], row[CLOSE])
        if row[HIGH] < top * (1 - 1e-6) or row[LOW] > bottom * (1 + 1e-6):
            found["ohlc"].append(stamp)
        if not np.isfinite(row[VOLUME]) or row[VOLUME] < 0:
            found["volume"].append(stamp)
        if not 0 <= owed < before:
            found["dividends"].append(stamp)
        before, owed = row[CLOSE], 0.0
    return found


def told(raw: RawBars, now: pd.Timestamp) -> dict[str, tuple[int, str, str]]:
    found = errors(raw, now=now)
    return {one.check: (one.count, one.first, one.last) for one in found if one.check in PER_BAR}


@given(dirty())
@settings(deadline=None, max_examples=30)
def test_checks_of_single_bars_agree_with_a_look_at_one_after_the_other(market: tuple[RawBars, pd.Timestamp]) -> None:
    raw, now = market
    slow = {name: (len(at), str(at[0]), str(at[-1])) for name, at in accused(raw, now).items() if at}
    assert told(raw, now) == slow


@given(dirty(), st.data())
@settings(deadline=None, max_examples=30)
def test_nothing_later_changes_what_a_bar_is_accused_of(
    market: tuple[RawBars, pd.Timestamp], data: st.DataObject
) -> None:
    raw, now = market
    cut = data.draw(st.integers(1, len(raw.frame)))
    prefix = replace(raw, frame=raw.frame.iloc[:cut])
    early = {
        name: [stamp for stamp in at if stamp <= raw.frame.index[cut - 1]] for name, at in accused(raw, now).items()
    }
    assert told(prefix, now) == {name: (len(at), str(at[0]), str(at[-1])) for name, at in early.items() if at}


@given(dirty(), st.data())
@settings(deadline=None, max_examples=30)
def test_mending_depends_on_nothing_after_a_bar(market: tuple[RawBars, pd.Timestamp], data: st.DataObject) -> None:
    raw, now = market
    cut = data.draw(st.integers(1, len(raw.frame)))
    noise = np.random.default_rng(cut).normal(0, 100, (len(raw.frame) - cut, 7))

    def poison(values: Grid) -> None:
        values[cut:] = noise

    whole = mend(raw, ERRORS, now=now)[0].frame
    known = whole[whole.index <= raw.frame.index[cut - 1]]
    for other in (replace(raw, frame=raw.frame.iloc[:cut]), planted(raw, poison)):
        frame = mend(other, ERRORS, now=now)[0].frame
        frame = frame[frame.index <= raw.frame.index[cut - 1]]
        pd.testing.assert_frame_equal(frame, known, check_exact=True, check_freq=False)


@given(dirty())
@settings(deadline=None, max_examples=30)
def test_mended_bars_are_fit_for_use_and_the_raw_ones_stay_as_they_were(
    market: tuple[RawBars, pd.Timestamp],
) -> None:
    raw, now = market
    values = raw.frame.to_numpy(copy=True)
    mended, accepted = mend(raw, ERRORS, now=now)
    np.testing.assert_array_equal(raw.frame.to_numpy(), values)
    assert accepted == errors(raw, now=now)
    assert told(mended, now) == {}
    adjusted = adjust(mended.frame)
    columns = {name: adjusted[[name]].set_axis(["ACME"], axis=1) for name in BAR_FIELDS}
    assert len(Bars(**columns, interval="1d", calendar="24/7", periods_per_year=365.0)) == len(mended.frame)


@given(st.lists(st.lists(st.floats(), min_size=7, max_size=7), min_size=1, max_size=30), st.sampled_from(["1d", "1wk"]))
@settings(deadline=None, max_examples=30)
def test_any_numbers_are_examined_without_a_complaint_from_numpy(table: list[list[float]], interval: str) -> None:
    stamps = pd.date_range("2024-01-01", periods=len(table), freq="D", tz="UTC", unit="ns")
    raw = raw_bars(np.array(table), stamps, interval)
    found = [finding for finding in examine(raw, now=NOW) if finding.severity == "error"]
    assert tuple(found) == errors(raw, now=NOW)
    if "price" not in [finding.check for finding in found if finding.count == len(table)]:
        assert told(mend(raw, ERRORS, now=NOW)[0], NOW) == {}

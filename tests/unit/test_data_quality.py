"""What the quality checks find, what they let pass, and what accepting an error does."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qtrade.calendars import actual_stamps, known_stamps
from qtrade.data.checks import CHECKS, check_names
from qtrade.data.mend import mend
from qtrade.data.quality import errors, examine
from qtrade.data.raw import RAW_FIELDS, Finding, RawBars, adjust
from qtrade.data.sample import Sample
from qtrade.errors import DataError, UsageError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
NOW = pd.Timestamp("2026-01-01", tz="UTC")


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def market(
    stamps: pd.DatetimeIndex, *, interval: str = "1d", calendar: str = "XNYS", seed: int = 0, move: float = 0.01
) -> RawBars:
    """Bars with moves spread evenly, none larger than `move`."""
    rng, rows = np.random.default_rng(seed), len(stamps)
    close = 100 * np.exp(np.cumsum(rng.uniform(-move, move, rows)))
    opened = close * np.exp(rng.uniform(-move, move, rows) / 4)
    frame = pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close) * 1.001,
            "low": np.minimum(opened, close) * 0.999,
            "close": close,
            "volume": rng.uniform(1000, 1500, rows),
            "dividends": 0.0,
            "splits": 0.0,
        },
        index=stamps,
    )
    return RawBars("ACME", "file", interval, calendar, "America/New_York", frame)


def daily(rows: int = 100, *, move: float = 0.01) -> RawBars:
    return market(actual_stamps(utc("2022-01-03"), utc("2024-12-31"), "1d", "XNYS")[:rows], move=move)


def changed(raw: RawBars, change: Callable[[pd.DataFrame], None]) -> RawBars:
    frame = raw.frame.copy()
    change(frame)
    return replace(raw, frame=frame)


def cell(frame: pd.DataFrame, row: int, name: str) -> float:
    return float(frame[name].to_numpy()[row])


def without(raw: RawBars, rows: Collection[int]) -> RawBars:
    return replace(raw, frame=raw.frame.drop(raw.frame.index[list(rows)]))


def rescaled(raw: RawBars, row: int, ratio: float) -> RawBars:
    """Prices from a row on divided as by a split, so that the close of that row differs by just the ratio."""

    def change(frame: pd.DataFrame) -> None:
        close = frame["close"].to_numpy()
        factor = close[row - 1] / close[row] / ratio
        frame.iloc[row:, :4] = frame.iloc[row:, :4] * factor

    return changed(raw, change)


def names(findings: Collection[Finding]) -> list[str]:
    return [finding.check for finding in findings]


def only(raw: RawBars) -> Finding:
    (finding,) = examine(raw, now=NOW)
    return finding


# Calendar


@pytest.mark.parametrize(
    ("first", "last", "interval", "calendar"),
    [
        ("2023-11-20", "2023-11-28", "1h", "XNYS"),  # a half day after Thanksgiving
        ("2023-11-20", "2023-11-28", "5m", "XNYS"),
        ("2024-03-04", "2024-03-15", "1h", "XNYS"),  # summer time begins
        ("2024-10-28", "2024-11-08", "30m", "XNYS"),  # summer time ends
        ("2001-09-04", "2001-09-21", "1d", "XNYS"),
        ("2012-10-22", "2012-11-05", "1h", "XNYS"),  # hurricane Sandy
        ("2023-12-18", "2024-01-05", "1d", "XNYS"),
        ("2024-10-28", "2024-11-12", "30m", "XTKS"),  # lunch, a holiday, and later closing from 5 November on
        ("2024-02-05", "2024-02-20", "30m", "XHKG"),  # lunch, and a half day before the lunar new year
        ("2024-03-08", "2024-03-12", "1h", "24/7"),
        ("2024-03-04", "2024-03-15", "1h", "24/5"),
        ("2023-12-01", "2024-06-01", "1wk", "XNYS"),
        ("2023-01-01", "2024-06-01", "1mo", "24/7"),
    ],
)
def test_a_market_that_held_its_hours_has_no_gap(first: str, last: str, interval: str, calendar: str) -> None:
    stamps = actual_stamps(utc(first), utc(last), interval, calendar)
    assert len(stamps) > 5
    assert examine(market(stamps, interval=interval, calendar=calendar), now=NOW) == ()


@pytest.mark.parametrize(
    "closed",
    ["2001-09-11", "2012-10-29", "2018-12-05", "2023-12-25", "2023-11-23"],
)
def test_a_closed_day_is_no_gap_and_a_bar_on_it_is_off_the_calendar(closed: str) -> None:
    near = pd.date_range(utc(closed) - pd.Timedelta(days=21), utc(closed) + pd.Timedelta(days=21), freq="B", unit="ns")
    finding = next(one for one in examine(market(near), now=NOW) if one.check == "off_calendar")
    assert finding.severity == "warning"
    assert utc(closed) in pd.date_range(finding.first, finding.last)
    held = actual_stamps(near[0], near[-1], "1d", "XNYS")
    assert utc(closed) not in held
    assert examine(market(held), now=NOW) == ()


def test_missing_days_are_a_gap() -> None:
    finding = only(without(daily(), [10, 11, 12, 40]))
    index = daily().frame.index
    assert (finding.check, finding.severity, finding.count) == ("gaps", "warning", 4)
    assert (finding.first, finding.last) == (str(index[10]), str(index[40]))
    assert finding.example == (
        f"4.000% of 100 expected by XNYS; the longest gap begins at {index[10]} and lacks 3 bars"
    )


def test_the_afternoon_of_a_half_day_is_off_the_calendar() -> None:
    stamps = known_stamps(utc("2023-11-20"), utc("2023-11-28"), "1h", "XNYS")  # half days count as whole ones there
    finding = only(market(stamps, interval="1h"))
    assert (finding.check, finding.severity, finding.count) == ("off_calendar", "warning", 3)
    assert (finding.first, finding.last) == ("2023-11-24 18:30:00+00:00", "2023-11-24 20:30:00+00:00")


def test_currencies_on_a_saturday_are_off_the_calendar() -> None:
    stamps = pd.date_range("2024-01-15", "2024-01-22", freq="h", tz="UTC", unit="ns")
    finding = only(market(stamps, interval="1h", calendar="24/5"))
    # From Friday 22:00 to Sunday 22:00 UTC, which is 17:00 in New York.
    assert (finding.check, finding.count, finding.first) == ("off_calendar", 48, "2024-01-19 22:00:00+00:00")


def test_hours_of_another_time_zone_are_told_to_be_looked_at() -> None:
    stamps = actual_stamps(utc("2024-06-03"), utc("2024-06-28"), "1h", "XNYS")
    local = stamps.tz_convert("America/New_York").tz_localize(None).tz_localize("UTC")
    found = {finding.check: finding for finding in examine(market(local, interval="1h"), now=NOW)}
    assert set(found) == {"gaps", "off_calendar"}
    assert "check the time zone, and that these are 1h bars of XNYS" in found["off_calendar"].example


# Errors


def test_prices_that_are_none() -> None:
    def change(frame: pd.DataFrame) -> None:
        frame.iloc[5, 0], frame.iloc[9, 3], frame.iloc[20, 2], frame.iloc[20, 1] = np.nan, 0.0, -1.0, np.inf

    finding = only(changed(daily(), change))
    assert (finding.check, finding.severity, finding.count, finding.example) == ("price", "error", 3, "open is nan")
    assert (finding.first, finding.last) == (str(daily().frame.index[5]), str(daily().frame.index[20]))


@pytest.mark.parametrize(("offset", "count"), [(0.9e-6, 0), (1.1e-6, 1)])
@pytest.mark.parametrize("field", ["high", "low"])
def test_high_and_low_enclose_to_within_what_bars_allow(field: str, offset: float, count: int) -> None:
    def change(frame: pd.DataFrame) -> None:
        row = frame.iloc[7]
        outer = max(row["open"], row["close"]) if field == "high" else min(row["open"], row["close"])
        frame.loc[frame.index[7], field] = outer * (1 - offset if field == "high" else 1 + offset)

    assert [one.count for one in errors(changed(daily(), change), now=NOW) if one.check == "ohlc"] == [1] * count


@pytest.mark.parametrize("value", [np.nan, -1.0, np.inf])
def test_volume_that_is_none(value: float) -> None:
    finding = only(changed(daily(), lambda frame: frame.__setitem__("volume", [*frame["volume"][:-1], value])))
    assert (finding.check, finding.severity, finding.count) == ("volume", "error", 1)
    assert finding.first == finding.last == str(daily().frame.index[-1])
    assert finding.example == f"volume is {value}"


def test_a_dividend_is_below_the_close_before() -> None:
    def change(frame: pd.DataFrame) -> None:
        frame.iloc[10, 5] = frame["close"].iloc[9]
        frame.iloc[30, 5] = frame["close"].iloc[29] * 0.01
        frame.iloc[50, 5] = np.nan
        frame.iloc[0, 5] = 1e6  # there is no close before it

    finding = only(changed(daily(), change))
    assert (finding.check, finding.severity, finding.count) == ("dividends", "error", 2)
    assert (finding.first, finding.last) == (str(daily().frame.index[10]), str(daily().frame.index[50]))
    with pytest.raises(DataError):
        adjust(changed(daily(), change).frame)
    assert len(adjust(mend(changed(daily(), change), ["dividends"], now=NOW)[0].frame)) == 100


def test_a_close_that_never_changes() -> None:
    def change(frame: pd.DataFrame) -> None:
        frame["close"] = frame["open"].iloc[0]
        frame["high"], frame["low"] = frame["open"] * 2, frame["open"] / 2

    assert (only(changed(daily(), change)).check, only(changed(daily(), change)).count) == ("constant", 100)
    assert examine(daily(1), now=NOW) == ()


def test_the_future_begins_after_now() -> None:
    index = daily().frame.index
    assert errors(daily(), now=index[-1]) == ()
    (finding,) = errors(daily(), now=index[-3] - pd.Timedelta("1ns"))
    assert (finding.check, finding.count, finding.first, finding.last) == ("future", 3, str(index[-3]), str(index[-1]))
    tomorrow = pd.Timestamp.now("UTC").normalize() + pd.Timedelta(days=1)
    stamps = pd.date_range(tomorrow - pd.Timedelta(days=50), tomorrow, freq="D", unit="ns")
    assert names(errors(market(stamps, calendar="24/7"))) == ["future"]


# Splits


@pytest.mark.parametrize("ratio", [1.5, 2, 3, 4, 5, 7, 10, 20, 50, 100, 1 / 2, 1 / 3, 1 / 10, 1 / 25, 1 / 100])
@pytest.mark.parametrize("noise", [-0.025, 0.025])
def test_prices_that_are_not_adjusted_for_a_split(ratio: float, noise: float) -> None:
    finding = only(rescaled(daily(), 60, ratio * np.exp(noise)))
    assert (finding.check, finding.severity, finding.count) == ("split", "error", 1)
    assert finding.first == finding.last == str(daily().frame.index[60])


@pytest.mark.parametrize("row", [1, 2, 97, 98, 99])
def test_a_split_is_found_near_the_ends(row: int) -> None:
    finding = only(rescaled(daily(), row, 2))
    assert (finding.check, finding.first) == ("split", str(daily().frame.index[row]))
    assert finding.example.endswith("and no split is stated")


def test_several_splits_are_all_found() -> None:
    assert only(rescaled(rescaled(rescaled(daily(), 20, 2), 50, 3), 80, 0.1)).count == 3


def test_shares_are_as_many_more_as_prices_are_lower() -> None:
    def change(frame: pd.DataFrame) -> None:
        frame.iloc[60:, 4] *= 10

    assert names(examine(changed(rescaled(daily(), 60, 10), change), now=NOW)) == ["split"]


@pytest.mark.parametrize("ratio", [2.5, 1.25, 1 / 1.5, 1.7, 12, 0.7])
def test_other_jumps_are_no_splits(ratio: float) -> None:
    assert errors(rescaled(daily(), 60, ratio), now=NOW) == ()


@pytest.mark.parametrize("stated", [2.0, 1.25, 0.1, 2.5])
def test_a_stated_split_is_in_the_prices_already(stated: float) -> None:
    raw = changed(daily(), lambda frame: frame.__setitem__("splits", np.where(np.arange(100) == 60, stated, 0.0)))
    assert examine(raw, now=NOW) == ()
    for ratio in (stated, 1 / stated):  # not adjusted, or twice
        finding = only(rescaled(raw, 60, ratio))
        assert (finding.check, finding.first) == ("split", str(raw.frame.index[60]))
        assert finding.example.endswith(f"and a split of {stated:g} is stated")


def test_a_stock_dividend_is_too_small_to_be_told_from_a_usual_move() -> None:
    raw = changed(daily(), lambda frame: frame.__setitem__("splits", np.where(np.arange(100) == 60, 1.02, 0.0)))
    assert examine(rescaled(raw, 60, 1.02), now=NOW) == ()


@pytest.mark.parametrize("stated", [np.nan, -2.0, np.inf])
def test_a_stated_ratio_is_a_positive_number(stated: float) -> None:
    raw = changed(daily(), lambda frame: frame.__setitem__("splits", np.where(np.arange(100) == 60, stated, 0.0)))
    finding = only(raw)
    assert (finding.check, finding.count, finding.example) == ("split", 1, f"a split of {stated}")


def test_a_dividend_of_half_the_price_explains_the_jump() -> None:
    raw = rescaled(daily(), 60, 2)

    def change(frame: pd.DataFrame) -> None:
        frame.iloc[60, 5] = frame["close"].iloc[59] / 2

    assert names(errors(raw, now=NOW)) == ["split"]
    assert examine(changed(raw, change), now=NOW) == ()


def test_a_crash_within_a_bar_is_no_split() -> None:
    # Bitcoin on a very bad day: the bar opens where the one before closed.
    def change(frame: pd.DataFrame) -> None:
        frame.iloc[60, 0] = frame.iloc[60, 1] = frame["close"].iloc[59]

    assert examine(changed(rescaled(daily(), 60, 2), change), now=NOW) == ()


def test_a_crash_on_news_is_no_split() -> None:
    def change(frame: pd.DataFrame) -> None:
        frame.iloc[60, 4] = 8 * cell(frame, 60, "volume")

    assert examine(changed(rescaled(daily(), 60, 1.5), change), now=NOW) == ()


def test_a_jump_that_is_not_alone_or_does_not_last_is_no_split() -> None:
    assert errors(rescaled(rescaled(daily(), 60, 1 / 4), 61, 2.3), now=NOW) == ()  # up fourfold, most of it lost
    slow = rescaled(daily(), 60, 1 / 2)
    for row in (61, 62, 63, 64):
        slow = rescaled(slow, row, 1.18)
    assert errors(slow, now=NOW) == ()


def test_a_jump_that_is_not_far_outside_is_no_split() -> None:
    assert errors(rescaled(daily(move=0.15), 60, 2), now=NOW) == ()
    assert names(errors(rescaled(daily(move=0.05), 60, 2), now=NOW)) == ["split"]


@pytest.mark.parametrize("fall", [0.2, 0.12, 0.6, 0.4])
def test_famous_crashes_are_no_errors(fall: float) -> None:
    # 19 October 1987, 16 March 2020, a trial that failed, bitcoin in March 2020.
    assert errors(rescaled(daily(), 60, 1 / (1 - fall)), now=NOW) == ()


def test_a_vendor_that_states_prices_in_pence_for_a_day_is_an_outlier() -> None:
    raw = changed(daily(), lambda frame: frame.iloc.__setitem__((60, slice(0, 4)), frame.iloc[60, :4] * 100))
    assert names(examine(raw, now=NOW)) == ["outliers"]


# Warnings


def test_a_tick_that_the_next_bar_undoes_is_an_outlier() -> None:
    def change(frame: pd.DataFrame) -> None:
        frame.iloc[60, 1] = frame.iloc[60, 3] = 1.3 * cell(frame, 60, "close")

    finding = only(changed(daily(), change))
    assert (finding.check, finding.severity, finding.count) == ("outliers", "warning", 1)
    assert finding.first == str(daily().frame.index[60])
    assert examine(rescaled(daily(), 60, 1 / 1.3), now=NOW) == ()  # it stayed there
    assert examine(rescaled(rescaled(daily(), 60, 1 / 1.3), 61, 1.15), now=NOW) == ()  # half of it stayed


def test_the_same_tick_is_usual_in_a_wild_market() -> None:
    def change(frame: pd.DataFrame) -> None:
        frame.iloc[60, 1] = frame.iloc[60, 3] = 1.3 * cell(frame, 60, "close")

    assert examine(changed(daily(move=0.1), change), now=NOW) == ()


@pytest.mark.parametrize(
    ("interval", "repeats", "volume", "found"),
    [
        ("1d", 2, 1000.0, False),
        ("1d", 3, 1000.0, True),
        ("1d", 11, 0.0, False),  # nobody traded
        ("1d", 12, 0.0, True),
        ("1h", 4, 1000.0, False),
        ("1h", 5, 1000.0, True),
        ("5m", 11, 1000.0, False),
        ("5m", 12, 1000.0, True),
    ],
)
def test_bars_that_repeat_for_long_are_stale(interval: str, repeats: int, volume: float, found: bool) -> None:
    freq = {"1d": "D", "1h": "h", "5m": "5min"}[interval]
    stamps = pd.date_range("2024-01-01", periods=100, freq=freq, tz="UTC", unit="ns")

    def change(frame: pd.DataFrame) -> None:
        frame.iloc[51 : 51 + repeats, :4] = frame.iloc[50, :4].to_numpy()
        frame.iloc[51 : 51 + repeats, 4] = volume

    findings = examine(changed(market(stamps, interval=interval, calendar="24/7"), change), now=NOW)
    stale = [(one.count, one.first, one.last) for one in findings if one.check == "stale"]
    assert stale == ([(repeats, str(stamps[51]), str(stamps[50 + repeats]))] if found else [])


@pytest.mark.parametrize(
    ("zeros", "check", "severity"),
    [
        (1, "zero_volume", "info"),
        (20, "zero_volume", "info"),
        (21, "zero_volume", "warning"),
        (100, "no_volume", "info"),
    ],
)
def test_zero_volume_is_told(zeros: int, check: str, severity: str) -> None:
    finding = only(changed(daily(), lambda frame: frame.iloc.__setitem__((slice(0, zeros), 4), 0.0)))
    assert (finding.check, finding.severity, finding.count) == (check, severity, zeros)


# Order


def test_the_source_comes_first_then_severity_then_name() -> None:
    def change(frame: pd.DataFrame) -> None:
        frame.iloc[3, 4], frame.iloc[4, 4], frame.iloc[5, 1] = 0.0, -1.0, 1.0

    told = (
        Finding("unordered", "warning", 1, "a", "b", ""),
        Finding("missing_price", "warning", 1, "a", "b", ""),
        Finding("duplicates", "error", 1, "a", "b", ""),
    )
    raw = replace(without(changed(daily(), change), [50]), findings=told)
    assert names(examine(raw, now=NOW)) == [
        *("duplicates", "missing_price", "unordered"),
        *("ohlc", "volume", "gaps", "zero_volume"),
    ]
    assert names(errors(raw, now=NOW)) == ["duplicates", "ohlc", "volume"]


def test_the_table_is_in_order_and_says_what_accepting_means() -> None:
    rank = {"error": 0, "warning": 1, "info": 2}
    assert [check.name for check in CHECKS] == [
        check.name for check in sorted(CHECKS, key=lambda check: (rank[check.severity], check.name))
    ]
    for check in CHECKS:
        assert bool(check.accepting) == (check.severity == "error")
        assert check.looks_for.endswith(".")


# Accepting


def broken() -> RawBars:
    def change(frame: pd.DataFrame) -> None:
        frame.iloc[5, 1] = cell(frame, 5, "low") / 2  # a high below everything
        frame.iloc[9, 4] = -3.0
        frame.iloc[20, 3] = np.nan
        frame.iloc[20, 5], frame.iloc[20, 6] = 1.0, 2.0
        frame.iloc[21, 5], frame.iloc[21, 6] = 0.5, 3.0
        frame.iloc[40, 5] = -2.0

    return changed(daily(), change)


def test_errors_that_are_not_accepted_are_named_together() -> None:
    with pytest.raises(DataError) as caught:
        mend(broken(), ["price", "volume"], now=NOW)
    index = broken().frame.index
    assert caught.value.exit_code == 3
    assert caught.value.what.startswith("ACME: ")
    assert f"dividends (1 bar, the first at {index[40]}: a dividend of -2 after a close of" in caught.value.what
    assert f"ohlc (1 bar, the first at {index[5]}: open " in caught.value.what
    assert "volume (" not in caught.value.what
    assert "`qtrade data verify ACME --source file --interval 1d`" in caught.value.fix
    assert "--accept dividends --accept ohlc" in caught.value.fix


def test_accepted_errors_are_mended_and_told() -> None:
    raw = broken()
    untouched = raw.frame.copy()
    mended, accepted = mend(raw, ["price", "ohlc", "volume", "dividends"], now=NOW)
    assert names(accepted) == ["dividends", "ohlc", "price", "volume"]
    pd.testing.assert_frame_equal(raw.frame, untouched)

    expected = untouched.drop(untouched.index[20])
    expected.iloc[5, 1] = max(cell(expected, 5, "open"), cell(expected, 5, "close"))
    expected.iloc[9, 4] = 0.0
    expected.iloc[20, 5], expected.iloc[20, 6] = 1.5, 6.0  # what the bar left out had, and its own
    expected.iloc[39, 5] = 0.0
    pd.testing.assert_frame_equal(mended.frame, expected, check_freq=False)
    assert errors(mended, now=NOW) == ()
    assert tuple(mended.frame.columns) == RAW_FIELDS


def test_the_future_is_left_out() -> None:
    index = daily().frame.index
    mended, accepted = mend(daily(), ["future"], now=index[49])
    assert list(mended.frame.index) == list(index[:50])
    assert [finding.count for finding in accepted] == [50]


def test_what_is_accepted_as_it_is_stays() -> None:
    raw = replace(rescaled(daily(), 60, 2), findings=(Finding("duplicates", "error", 1, "a", "b", ""),))
    mended, accepted = mend(raw, ["duplicates", "split"], now=NOW)
    assert mended is raw
    assert names(accepted) == ["duplicates", "split"]


def test_sound_bars_are_not_copied() -> None:
    raw = without(daily(), [50])
    assert mend(raw, ["ohlc"], now=NOW) == (raw, ())


def test_bars_that_are_all_without_a_price_are_none() -> None:
    raw = changed(daily(), lambda frame: frame.__setitem__("close", np.nan))
    with pytest.raises(DataError, match="ACME: all bars lack a price"):
        mend(raw, ["price"], now=NOW)


@pytest.mark.parametrize(
    ("name", "what", "fix"),
    [
        ("ohcl", "no check finds errors named 'ohcl'", "did you mean 'ohlc'?"),
        ("gaps", "'gaps' stops no run and need not be accepted", "leave out 'gaps'"),
    ],
)
def test_only_errors_can_be_accepted(name: str, what: str, fix: str) -> None:
    for call in (lambda: check_names([name]), lambda: mend(daily(), ["price", name], now=NOW)):
        with pytest.raises(UsageError) as caught:
            call()
        assert (caught.value.what, caught.value.fix) == (what, fix)
    assert check_names(("ohlc", "price")) == ("ohlc", "price")


# Markets that are as they should be


@pytest.mark.parametrize("symbol", ["^GSPC", "^IXIC"])
def test_the_sample_has_no_errors_and_no_warnings(symbol: str) -> None:
    raw = Sample().fetch(symbol, interval="1d", start=None, end=None)
    assert {finding.severity for finding in examine(raw, now=NOW)} <= {"info"}


@pytest.mark.parametrize(
    ("name", "calendar", "gaps"),
    [
        ("BTC-USD_1h_2025", "24/7", 5),
        ("ETH-USD_1h_2025", "24/7", 5),
        ("SOL-USD_1h_2025", "24/7", 5),
        ("EURUSD_1h_2017", "24/5", 48),  # Christmas and new year
    ],
)
def test_real_hourly_bars_have_gaps_and_no_errors(name: str, calendar: str, gaps: int) -> None:
    path = SHARED / f"{name}.csv"
    if not path.exists():
        pytest.skip("the shared market data are not here")
    table = pd.read_csv(path, index_col=0)
    frame = table.rename(columns=str.lower).astype(float).assign(dividends=0.0, splits=0.0)
    frame.index = pd.DatetimeIndex(pd.to_datetime(table.index, utc=True)).as_unit("ns").rename(None)
    findings = examine(RawBars(name, "file", "1h", calendar, "UTC", frame), now=NOW)
    assert {finding.check: finding.count for finding in findings if finding.check != "off_calendar"} == {"gaps": gaps}
    assert all(finding.count <= 2 for finding in findings if finding.check == "off_calendar")


@pytest.mark.parametrize(("degrees", "jumps_at_open"), [(6, True), (4, True), (4, False)])
def test_simulated_markets_have_errors_in_one_of_a_hundred_at_most(degrees: int, jumps_at_open: bool) -> None:
    # GARCH(0.08, 0.90) with Student shocks and 2 % a day; 5,000 days of 200 markets.
    rows, count, daily_move = 5000, 200, 0.02
    rng = np.random.default_rng(degrees)
    shocks = rng.standard_t(degrees, (rows, count)) / np.sqrt(degrees / (degrees - 2))
    variance, moves = np.ones(count), np.empty((rows, count))
    for row in range(rows):
        moves[row] = daily_move * np.sqrt(variance) * shocks[row]
        variance = 0.02 + 0.08 * variance * shocks[row] ** 2 + 0.90 * variance
    close = 100 * np.exp(np.cumsum(moves, axis=0))
    opened = (close if jumps_at_open else np.vstack([close[:1], close[:-1]])) * np.exp(
        rng.normal(0, 0.005, close.shape)
    )
    stamps = pd.date_range("2005-01-01", periods=rows, freq="D", tz="UTC", unit="ns")
    alarms, warned = 0, 0
    for number in range(count):
        prices = {"open": opened[:, number], "close": close[:, number]}
        high, low = np.maximum(*prices.values()) * 1.001, np.minimum(*prices.values()) * 0.999
        columns = {**prices, "high": high, "low": low, "volume": rng.lognormal(12, 0.5, rows)}
        frame = pd.DataFrame(columns, index=stamps).assign(dividends=0.0, splits=0.0)[list(RAW_FIELDS)]
        findings = examine(RawBars("SIM", "file", "1d", "24/7", "UTC", frame), now=NOW)
        alarms += any(finding.severity == "error" for finding in findings)
        warned += len(findings) > 0
    assert alarms <= count / 100
    assert warned <= count / 100

"""The real yfinance client against a stand-in for Yahoo on this machine, which speaks its chart format.

Every session that yfinance opens is redirected: ``https://host/path`` becomes ``http://127.0.0.1:port/host/path``, so
cookies, crumbs, charts and whatever else it may ask for reach the stand-in, and nothing leaves the machine.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import exchange_calendars
import numpy as np
import pandas as pd
import pytest
import yfinance
import yfinance.base
import yfinance.cache
import yfinance.data
import yfinance.scrapers.history

from qtrade.data import fetch as fetching
from qtrade.data import sources, yahoo
from qtrade.data.cache import Cache
from qtrade.data.config import DataConfig
from qtrade.data.exchanges import EXCHANGES
from qtrade.data.fetch import FetchReport
from qtrade.data.raw import RAW_FIELDS, RawBars, SourceBusyError
from qtrade.data.yahoo import Yahoo, YahooConfig
from qtrade.errors import DataError, PartialError, UsageError
from qtrade.progress import Silent

NEW_YORK = {"instrumentType": "EQUITY", "exchangeName": "NMS", "exchangeTimezoneName": "America/New_York"}
LATER = "2024-06-01"
DAYS = ("2024-03-04", "2024-03-05", "2024-03-06", "2024-03-07", "2024-03-08")


@dataclass(frozen=True)
class Reply:
    """One answer of the stand-in; a cut one promises more bytes than it sends."""

    body: bytes
    status: int = 200
    cut: bool = False


TOO_MANY = Reply(b"Too Many Requests", status=429)
CUT = Reply(b'{"chart": {"resu', cut=True)


@dataclass
class StandIn:
    """What the stand-in will answer to chart requests, and what it was asked."""

    answer: Reply = field(default_factory=lambda: Reply(b""))
    first: list[Reply] = field(default_factory=list)
    crumb: Reply = field(default_factory=lambda: Reply(b"crumb"))
    asked: list[str] = field(default_factory=list)

    def reply(self, target: str) -> Reply:
        self.asked.append(target)
        if "/v8/finance/chart/" in target:
            return self.first.pop(0) if self.first else self.answer
        if target.endswith("/getcrumb"):
            return self.crumb
        if "/quoteSummary/" in target:
            return Reply(b"{}", status=404)
        return Reply(b"")

    @property
    def charts(self) -> list[dict[str, list[str]]]:
        """Arguments of every chart request."""
        return [parse_qs(urlsplit(target).query) for target in self.asked if "/v8/finance/chart/" in target]


@dataclass
class Desk:
    """A source, the stand-in it asks, and the seconds it would have slept."""

    server: StandIn
    slept: list[float] = field(default_factory=list)

    def fetch(
        self,
        symbol: str = "ACME",
        interval: str = "1d",
        *,
        now: str = LATER,
        start: str | None = None,
        end: str | None = None,
    ) -> RawBars:
        first, stop = (None if text is None else pd.Timestamp(text, tz="UTC") for text in (start, end))
        return self.source(now).fetch(symbol, interval=interval, start=first, end=stop)

    def source(self, now: str = LATER) -> Yahoo:
        """Yahoo at a time of day, with a clock that moves by sleeping only."""
        return Yahoo(sleep=self.slept.append, clock=lambda: sum(self.slept), now=lambda: pd.Timestamp(now, tz="UTC"))

    def error(self, symbol: str = "ACME", interval: str = "1d", **when: str) -> DataError:
        with pytest.raises(DataError) as caught:
            self.fetch(symbol, interval, **when)
        assert caught.value.exit_code == 3
        assert caught.value.fix
        return caught.value


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    standin = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply = standin.reply(self.path)
            self.send_response(reply.status)
            self.send_header("Content-Length", str(len(reply.body) + (1000 if reply.cut else 0)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        sessions = redirect(monkeypatch, server.server_port)
        yield Desk(standin)
        for session in sessions:
            session.close()
        server.shutdown()
        thread.join()


def redirect(monkeypatch: pytest.MonkeyPatch, port: int) -> list[Any]:
    """Send all that yfinance asks to a local port, and make it forget what it learned before; its sessions."""
    create = yfinance.data.new_session
    sessions: list[Any] = []

    def new_session() -> Any:
        session = create()
        send = session.request

        def request(method: str, url: str, **options: Any) -> Any:
            parts = urlsplit(url)
            local = parts._replace(scheme="http", netloc=f"127.0.0.1:{port}", path=f"/{parts.netloc}{parts.path}")
            return send(method=method, url=local.geturl(), **options)

        session.request = request
        sessions.append(session)
        return session

    for module in (yfinance.base, yfinance.data, yfinance.scrapers.history):
        monkeypatch.setattr(module, "new_session", new_session)
    monkeypatch.setattr(yfinance.data.SingletonMeta, "_instances", {})
    monkeypatch.setattr(yfinance.base, "_tz_info_fetch_ctr", 0)
    monkeypatch.setattr(yfinance.cache._TzCacheManager, "_tz_cache", None)
    monkeypatch.setattr(yfinance.cache._CookieCacheManager, "_Cookie_cache", None)
    yahoo._use_private_cache.cache_clear()
    return sessions


def chart(
    stamps: pd.Index[pd.Timestamp],
    *,
    meta: dict[str, Any] | None = None,
    events: dict[str, Any] | None = None,
    close: Sequence[float | None] | None = None,
    volume: Sequence[int | None] | None = None,
) -> Reply:
    """Make Yahoo's answer: bars at UTC `stamps`, with lows one below and highs one above the closes."""
    seconds = [int(stamp.timestamp()) for stamp in stamps]
    closes = list(close) if close is not None else [100.0 + row for row in range(len(seconds))]
    quote = {
        "open": closes,
        "high": [None if price is None else price + 1 for price in closes],
        "low": [None if price is None else price - 1 for price in closes],
        "close": closes,
        "volume": list(volume) if volume is not None else [1000 + row for row in range(len(seconds))],
    }
    result = {
        "meta": {"currency": "USD", "symbol": "ACME", "validRanges": ["1d", "5d", "max"]} | (meta or NEW_YORK),
        "timestamp": seconds,
        "events": events or {},
        "indicators": {"quote": [quote], "adjclose": [{"adjclose": closes}]},
    }
    return Reply(json.dumps({"chart": {"result": [result], "error": None}}).encode())


def refusal(reason: str, status: int) -> Reply:
    error = {"code": "Error", "description": reason}
    return Reply(json.dumps({"chart": {"result": None, "error": error}}).encode(), status=status)


def openings(days: Sequence[str]) -> pd.DatetimeIndex:
    """Openings of New York, which is where Yahoo stamps daily bars."""
    return (pd.DatetimeIndex(list(days)) + pd.Timedelta("9h30min")).tz_localize("America/New_York").tz_convert("UTC")


def seconds(day: str) -> int:
    return int(openings([day])[0].timestamp())


def trading_periods(stamps: pd.DatetimeIndex) -> list[list[dict[str, Any]]]:
    """Sessions of 6.5 hours from the first stamp of every day on."""
    firsts = pd.Series(stamps, index=stamps.date).groupby(level=0).min()
    opened = [int(stamp.timestamp()) for stamp in firsts]
    return [[{"timezone": "EST", "gmtoffset": 0, "start": first, "end": first + 23400}] for first in opened]


def utc(*days: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(days, tz="UTC").as_unit("ns")


def assert_stamps(raw: RawBars, expected: pd.DatetimeIndex) -> None:
    assert list(raw.frame.index) == list(expected)
    assert raw.frame.index.dtype == "datetime64[ns, UTC]"


def test_daily_bars_come_with_dividend_and_split(desk: Desk) -> None:
    desk.server.answer = chart(
        openings(DAYS),
        volume=[1, 2, None, 4, 5],
        events={
            "dividends": {"a": {"amount": 0.5, "date": seconds(DAYS[2])}},
            "splits": {"b": {"date": seconds(DAYS[3]), "numerator": 3, "denominator": 2, "splitRatio": "3:2"}},
        },
    )
    raw = desk.fetch()
    assert (raw.symbol, raw.source, raw.interval, raw.calendar) == ("ACME", "yahoo", "1d", "XNYS")
    assert raw.exchange_zone == "America/New_York"
    expected = pd.DataFrame(
        {
            "open": [100.0, 101, 102, 103, 104],
            "high": [101.0, 102, 103, 104, 105],
            "low": [99.0, 100, 101, 102, 103],
            "close": [100.0, 101, 102, 103, 104],
            "volume": [1.0, 2, 0, 4, 5],
            "dividends": [0.0, 0, 0.5, 0, 0],
            "splits": [0.0, 0, 0, 1.5, 0],
        },
        index=utc(*DAYS),
    )
    assert tuple(expected.columns) == RAW_FIELDS
    pd.testing.assert_frame_equal(raw.frame, expected, check_freq=False)
    zone, bars = desk.server.charts
    assert zone["range"] == ["1d"]
    assert bars["events"] == ["div,splits,capitalGains"]
    assert desk.slept == []


def test_dates_are_a_half_open_range_on_the_exchange_clock(desk: Desk) -> None:
    desk.server.answer = chart(openings(DAYS))
    raw = desk.fetch(start=DAYS[1], end=DAYS[3])
    assert_stamps(raw, utc(*DAYS[1:3]))
    bars = desk.server.charts[-1]
    midnights = pd.DatetimeIndex([DAYS[1], DAYS[3]]).tz_localize("America/New_York")
    assert [int(bars[name][0]) for name in ("period1", "period2")] == [int(at.timestamp()) for at in midnights]


def test_a_range_that_ends_within_a_day_covers_that_day(desk: Desk) -> None:
    desk.server.answer = chart(openings(DAYS))
    assert_stamps(desk.fetch(start=DAYS[1], end=f"{DAYS[3]} 12:00"), utc(*DAYS[1:4]))
    following = pd.Timestamp(DAYS[4], tz="America/New_York")
    assert int(desk.server.charts[-1]["period2"][0]) == following.timestamp()


@pytest.mark.parametrize(("interval", "aligned"), [("1wk", "2024-03-04"), ("1mo", "2024-03-01"), ("3mo", "2024-01-01")])
def test_longer_bars_are_asked_for_from_the_start_of_their_period(desk: Desk, interval: str, aligned: str) -> None:
    desk.server.answer = chart(openings([aligned, "2024-04-01"]))
    raw = desk.fetch(interval=interval, start="2024-03-06", now="2025-01-01")
    assert int(desk.server.charts[-1]["period1"][0]) == pd.Timestamp(aligned, tz="America/New_York").timestamp()
    assert_stamps(raw, utc("2024-04-01"))


def test_intraday_bars_keep_their_local_hours_when_clocks_change(desk: Desk) -> None:
    friday, monday = (
        pd.date_range(f"{day} 09:30", periods=7, freq="1h", tz="America/New_York").tz_convert("UTC")
        for day in ("2024-03-08", "2024-03-11")
    )
    assert (friday[0].hour, monday[0].hour) == (14, 13)
    stamps = pd.DatetimeIndex(friday.append(monday))
    desk.server.answer = chart(stamps, meta=NEW_YORK | {"tradingPeriods": trading_periods(stamps)})
    raw = desk.fetch(interval="1h", start="2024-03-08", end="2024-03-11 15:30")
    assert_stamps(raw, stamps[:9])
    assert list(raw.frame["close"]) == list(np.arange(100.0, 109.0))


@pytest.mark.parametrize(
    ("interval", "now", "kept"),
    [
        ("1d", "2024-03-08 20:00", 4),
        ("1d", "2024-03-08 21:29", 4),
        ("1d", "2024-03-08 21:30", 5),
        ("1wk", "2024-04-08 04:29", 4),
        ("1wk", "2024-04-08 04:30", 5),
        ("1mo", "2024-06-01 04:29", 4),
        ("1mo", "2024-06-01 04:30", 5),
    ],
)
def test_an_unfinished_last_bar_is_left_out(desk: Desk, interval: str, now: str, kept: int) -> None:
    weeks = ("2024-03-04", "2024-03-11", "2024-03-18", "2024-03-25", "2024-04-01")
    months = ("2024-01-01", "2024-02-01", "2024-03-01", "2024-04-01", "2024-05-01")
    days = {"1d": DAYS, "1wk": weeks, "1mo": months}[interval]
    desk.server.answer = chart(openings(days))
    assert_stamps(desk.fetch(interval=interval, now=now), utc(*days[:kept]))


def test_every_unfinished_intraday_bar_is_left_out(desk: Desk) -> None:
    stamps = pd.date_range("2024-03-08 14:30", periods=8, freq="15min", tz="UTC")
    desk.server.answer = chart(stamps, meta=NEW_YORK | {"tradingPeriods": trading_periods(stamps)})
    raw = desk.fetch(interval="15m", now="2024-03-08 16:20")
    assert raw.frame.index[-1] == pd.Timestamp("2024-03-08 15:30", tz="UTC")
    assert len(raw.frame) == 5


def test_bars_without_a_price_are_left_out_but_not_their_dividend(desk: Desk) -> None:
    desk.server.answer = chart(
        openings(DAYS),
        close=[100.0, None, 102.0, 103.0, None],
        events={"dividends": {"a": {"amount": 0.5, "date": seconds(DAYS[1])}}},
    )
    raw = desk.fetch()
    assert_stamps(raw, utc(DAYS[0], DAYS[2], DAYS[3]))
    assert list(raw.frame["dividends"]) == [0.0, 0.5, 0.0]
    assert raw.frame.notna().all(axis=None)


def test_a_live_bar_beside_its_own_day_counts_once(desk: Desk) -> None:
    live = openings(DAYS).append(pd.DatetimeIndex(["2024-03-08 21:00"], tz="UTC"))
    desk.server.answer = chart(live)
    raw = desk.fetch()
    assert_stamps(raw, utc(*DAYS))
    assert raw.frame["close"].iloc[-1] == 105.0


def test_repeated_and_shuffled_bars_are_put_in_order(desk: Desk) -> None:
    stamps = openings(DAYS)[[2, 0, 1, 1, 3]]
    desk.server.answer = chart(stamps)
    raw = desk.fetch()
    assert_stamps(raw, utc(*DAYS[:4]))
    assert list(raw.frame["close"].iloc[[0, 2, 3]]) == [101.0, 100.0, 104.0]


def test_a_limit_on_crumbs_alone_is_no_fault(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.server.answer, desk.server.crumb = chart(openings(DAYS)), TOO_MANY
    assert len(desk.fetch().frame) == 5
    assert len(desk.server.charts) == 2
    assert caplog.records == []


@pytest.mark.parametrize(
    ("kind", "zone", "calendar", "over"),
    [
        ("CRYPTOCURRENCY", "UTC", "24/7", "2024-04-06 00:00"),
        ("CURRENCY", "Europe/London", "24/5", "2024-04-05 23:00"),
    ],
)
def test_crypto_and_currencies_have_their_own_calendars(
    desk: Desk, kind: str, zone: str, calendar: str, over: str
) -> None:
    days = pd.DatetimeIndex(["2024-03-28", "2024-04-01", "2024-04-05"])
    meta = {"instrumentType": kind, "exchangeName": "CCC", "exchangeTimezoneName": zone}
    desk.server.answer = chart(days.tz_localize(zone).tz_convert("UTC"), meta=meta)
    done = pd.Timestamp(over) + pd.Timedelta("30min")
    raw = desk.fetch(now=str(done))
    assert (raw.calendar, raw.exchange_zone) == (calendar, zone)
    assert_stamps(raw, utc(*map(str, days)))
    assert len(desk.fetch(now=str(done - pd.Timedelta("1s"))).frame) == 2


def test_an_exchange_without_a_calendar_is_named(desk: Desk) -> None:
    desk.server.answer = chart(openings(DAYS), meta=NEW_YORK | {"exchangeName": "XYZ", "fullExchangeName": "Xyzzy"})
    error = desk.error()
    assert error.what == "ACME: Yahoo's exchange 'XYZ' (Xyzzy) has no calendar here"
    assert "_CODES in qtrade/data/exchanges.py" in error.fix
    assert len(desk.server.charts) == 2


def test_every_calendar_named_exists() -> None:
    assert set(EXCHANGES.values()) <= set(exchange_calendars.get_calendar_names(include_aliases=False))


@pytest.mark.parametrize("asked_details_before", [0, 2])
@pytest.mark.parametrize("status", [200, 404])
def test_an_unknown_symbol_is_told_at_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, status: int, asked_details_before: int
) -> None:
    # yfinance asks for a symbol's details, too, the first two times it finds no time zone.
    monkeypatch.setattr(yfinance.base, "_tz_info_fetch_ctr", asked_details_before)
    desk.server.answer = refusal("No data found, symbol may be delisted", status)
    error = desk.error("NOSUCH")
    assert error.what == "Yahoo has no symbol 'NOSUCH'"
    assert "finance.yahoo.com/lookup" in error.fix
    # On an error status yfinance asks a second time with other cookies.
    assert len(desk.server.charts) == (1 if status == 200 else 2)
    assert desk.slept == []


def test_an_empty_answer_is_no_bars(desk: Desk) -> None:
    meta = {"meta": {"currency": "USD", "validRanges": ["max"]} | NEW_YORK, "indicators": {"quote": [{}]}}
    desk.server.answer = Reply(json.dumps({"chart": {"result": [meta], "error": None}}).encode())
    error = desk.error(start="2024-03-04", end="2024-03-05")
    assert error.what == "ACME: Yahoo gives no 1d bars for these dates"
    assert "no price data found" in error.why
    assert error.fix == "choose other dates"
    assert len(desk.server.charts) == 2


def test_bars_outside_the_dates_are_no_bars(desk: Desk) -> None:
    desk.server.answer = chart(openings(DAYS))
    error = desk.error(start="2024-05-01")
    assert error.what == "ACME: 'yahoo' has no 1d bars for these dates"
    assert len(desk.server.charts) == 2


@pytest.mark.parametrize(
    ("interval", "days"), [("1m", 30), ("2m", 60), ("15m", 60), ("90m", 60), ("60m", 730), ("1h", 730)]
)
def test_bars_that_yahoo_no_longer_keeps_are_refused_before_asking(desk: Desk, interval: str, days: int) -> None:
    now = pd.Timestamp(LATER)
    kept, gone = (f"{now - pd.Timedelta(days=days, hours=hours):%Y-%m-%d %H:%M}" for hours in (0, 1))
    error = desk.error(interval=interval, start=gone)
    assert error.what.startswith(f"ACME: Yahoo keeps {interval} bars for {days} days, and {gone[:10]} is longer ago")
    assert f"--start {now - pd.Timedelta(days=days - 1):%Y-%m-%d}" in error.fix
    assert desk.server.asked == []
    recent = pd.date_range("2024-05-31 14:30", periods=3, freq=interval.replace("m", "min"), tz="UTC")
    desk.server.answer = chart(recent, meta=NEW_YORK | {"tradingPeriods": trading_periods(recent)})
    assert len(desk.fetch(interval=interval, start=kept).frame) == 3


def test_all_intraday_bars_are_those_that_yahoo_keeps(desk: Desk) -> None:
    recent = pd.date_range("2024-05-31 14:30", periods=3, freq="15min", tz="UTC")
    desk.server.answer = chart(recent, meta=NEW_YORK | {"tradingPeriods": trading_periods(recent)})
    desk.fetch(interval="15m")
    since = pd.Timestamp(int(desk.server.charts[-1]["period1"][0]), unit="s")
    assert since == pd.Timestamp(LATER) - pd.Timedelta(days=60) + pd.Timedelta(hours=1)


def test_minutes_are_asked_for_a_week_at_a_time(desk: Desk) -> None:
    first = pd.date_range("2024-05-20 13:30", periods=3, freq="1min", tz="UTC")
    last = pd.date_range("2024-05-28 13:30", periods=3, freq="1min", tz="UTC")
    parts = [chart(stamps, meta=NEW_YORK | {"tradingPeriods": trading_periods(stamps)}) for stamps in (first, last)]
    zone, nothing = chart(openings(DAYS)), refusal("Data doesn't exist for startDate", 422)
    # On an error status yfinance asks a second time with other cookies. The first week was before the first trade.
    desk.server.first = [zone, nothing, nothing, parts[0], parts[1]]
    raw = desk.fetch(interval="1m", start="2024-05-11")
    assert list(raw.frame.index) == [*first, *last]
    asked = [[int(bars[name][0]) for name in ("period1", "period2")] for bars in desk.server.charts[1:]]
    spans = list(dict.fromkeys(map(tuple, asked)))
    cuts = [pd.Timestamp(day).timestamp() for day in ("2024-05-11", "2024-05-18", "2024-05-25", LATER)]
    assert spans == list(pairwise(cuts))


def test_a_week_that_is_missing_between_others_is_no_answer(desk: Desk) -> None:
    first = pd.date_range("2024-05-13 13:30", periods=3, freq="1min", tz="UTC")
    last = pd.date_range("2024-05-28 13:30", periods=3, freq="1min", tz="UTC")
    parts = [chart(stamps, meta=NEW_YORK | {"tradingPeriods": trading_periods(stamps)}) for stamps in (first, last)]
    zone, nothing = chart(openings(DAYS)), refusal("Data doesn't exist for startDate", 422)
    desk.server.first = [zone, parts[0], nothing, nothing, parts[1]]
    assert "gives no 1m bars" in desk.error(interval="1m", start="2024-05-11").what


def test_a_live_bar_without_a_price_is_no_missing_one(desk: Desk) -> None:
    desk.server.answer = chart(openings(DAYS), close=[100.0, 101.0, 102.0, 103.0, None])
    raw = desk.fetch(now="2024-03-08 20:00")
    assert (len(raw.frame), raw.findings) == (4, ())


def test_longer_bars_are_asked_for_to_the_end_of_their_period(desk: Desk) -> None:
    desk.server.answer = chart(openings(["2024-03-04", "2024-03-11"]))
    desk.fetch(interval="1wk", start="2024-03-04", end="2024-03-13")
    last = pd.Timestamp(int(desk.server.charts[-1]["period2"][0]), unit="s", tz="UTC").tz_convert("America/New_York")
    assert last == pd.Timestamp("2024-03-18", tz="America/New_York")


def test_a_month_without_a_single_bar_is_told(desk: Desk) -> None:
    desk.server.first = [chart(openings(DAYS))]
    desk.server.answer = refusal("Data doesn't exist for startDate", 422)
    assert desk.error(interval="1m").what == "ACME: Yahoo gives no 1m bars for these dates"


def test_limits_on_intraday_bars_are_passed_on(desk: Desk) -> None:
    reason = "1m data not available: The requested range must be within the last 30 days."
    desk.server.first = [chart(openings(DAYS))]
    desk.server.answer = refusal(reason, 422)
    error = desk.error(interval="1m", start="2024-05-30")
    assert error.what == "ACME: Yahoo gives no 1m bars for these dates"
    assert error.why == reason
    assert "--interval" in error.fix
    assert len(desk.server.charts) == 3


def test_a_symbol_without_the_longest_range_is_told(desk: Desk) -> None:
    meta = NEW_YORK | {"validRanges": ["1d", "5d"]}
    desk.server.answer = chart(openings(DAYS), meta=meta)
    error = desk.error()
    assert error.why == "ACME: Period 'max' is invalid, must be one of: 1d, 5d"
    assert len(desk.server.charts) == 2


@pytest.mark.parametrize(
    ("faults", "asked", "slept"),
    [
        ([TOO_MANY] * 2, 4, [15.0]),
        ([TOO_MANY] * 6, 8, [15.0, 30.0, 60.0]),
        ([CUT], 3, [2.0]),
        ([CUT, CUT, CUT], 5, [2.0, 4.0, 8.0]),
        ([Reply(b"<html>", status=500)] * 2, 4, [2.0]),
        ([Reply(b"Will be right back")], 3, [2.0]),
    ],
)
def test_a_passing_fault_is_outlasted(desk: Desk, faults: list[Reply], asked: int, slept: list[float]) -> None:
    desk.server.first, desk.server.answer = list(faults), chart(openings(DAYS))
    assert len(desk.fetch().frame) == 5
    assert len(desk.server.charts) == asked
    assert desk.slept == slept


def test_a_faulty_answer_about_the_past_is_not_remembered(desk: Desk) -> None:
    good = chart(openings(DAYS))
    desk.server.first, desk.server.answer = [good, Reply(b"{}")], good
    with pytest.raises(DataError):
        desk.fetch(start=DAYS[0], end=DAYS[4])
    assert len(desk.fetch(start=DAYS[0], end=DAYS[4]).frame) == 4


def test_a_cut_in_the_middle_of_the_bars_is_outlasted(desk: Desk) -> None:
    good = chart(openings(DAYS))
    desk.server.first, desk.server.answer = [good, Reply(good.body[:200], cut=True)], good
    assert len(desk.fetch().frame) == 5
    assert len(desk.server.charts) == 3  # the time zone is known by then
    assert desk.slept == [2.0]


@pytest.mark.parametrize(
    ("fault", "what", "why", "asked"),
    [
        (TOO_MANY, "limits how often it is asked", "Too Many Requests", 8),
        (CUT, "cannot be reached", "(18)", 4),
        (Reply(b"<html>Internal Server Error</html>", status=500), "sends an answer that cannot be read", "JSON", 8),
        (Reply(b'{"chart": '), "sends an answer that cannot be read", "JSON", 4),
        (Reply(b'{"chart": {"result": [{"meta": 5}]}}'), "sends an answer that cannot be read", "TypeError", 4),
        (Reply(b"[1, 2]"), "sends an answer that cannot be read", "AttributeError", 4),
    ],
)
def test_a_lasting_fault_is_told(desk: Desk, fault: Reply, what: str, why: str, asked: int) -> None:
    desk.server.answer = fault
    error = desk.error()
    assert error.what == f"ACME: Yahoo {what}, 4 attempts failed"
    assert why in error.why
    assert "curl.se" not in error.why
    assert "again" in error.fix
    assert len(desk.server.charts) == asked
    assert desk.slept == ([15.0, 30.0, 60.0] if fault is TOO_MANY else [2.0, 4.0, 8.0])
    assert isinstance(error, SourceBusyError) == (fault is TOO_MANY)


def test_no_network_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        redirect(monkeypatch, unused.getsockname()[1])
        slept: list[float] = []
        source = Yahoo(YahooConfig(attempts=2, delay=5.0), sleep=slept.append)
        with pytest.raises(DataError, match="cannot be reached, 2 attempts failed") as caught:
            source.fetch("ACME", interval="1d", start=None, end=None)
    assert "connect" in caught.value.why
    assert slept == [5.0]


def test_many_questions_are_spread_over_time(desk: Desk) -> None:
    desk.server.answer = chart(openings(DAYS))
    source = desk.source()
    for _ in range(8):
        source.fetch("ACME", interval="1d", start=None, end=None)
    assert desk.slept == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("now", "due"),
    [
        ("2024-03-08 21:29", False),  # Friday's bar is not complete
        ("2024-03-08 21:30", True),
        ("2024-03-10 12:00", True),
    ],
)
def test_a_new_bar_is_due_once_it_is_complete(desk: Desk, now: str, due: bool) -> None:
    desk.server.answer = chart(openings(DAYS[:4]))
    stored = desk.fetch()
    assert desk.source(now).due(stored, None) is due
    assert desk.source(now).due(stored, pd.Timestamp("2024-03-08", tz="UTC")) is False


def test_nothing_is_due_on_a_weekend_or_a_holiday(desk: Desk) -> None:
    days = ("2024-03-27", "2024-03-28")  # Good Friday follows
    desk.server.answer = chart(openings(days))
    stored = desk.fetch()
    assert not desk.source("2024-04-01 20:00").due(stored, None)
    assert desk.source("2024-04-01 20:30").due(stored, None)


def test_bars_without_a_price_are_told(desk: Desk) -> None:
    desk.server.answer = chart(openings(DAYS), close=[100.0, None, None, 103.0, 104.0])
    (finding,) = desk.fetch().findings
    assert (finding.check, finding.severity, finding.count) == ("missing_price", "warning", 2)
    assert (finding.first, finding.last) == (f"{DAYS[1]} 00:00:00+00:00", f"{DAYS[2]} 00:00:00+00:00")


def test_an_unknown_interval_is_refused_before_asking(desk: Desk) -> None:
    with pytest.raises(UsageError, match="Yahoo has no bars of '1day'") as caught:
        desk.fetch(interval="1day")
    assert caught.value.exit_code == 2
    assert desk.server.asked == []


def test_settings_of_yfinance_are_put_back(desk: Desk) -> None:
    desk.server.answer = chart(openings(DAYS))
    desk.fetch()
    desk.server.answer = refusal("No data found", 404)
    desk.error("NOSUCH")
    assert yfinance.config.debug.hide_exceptions is True
    assert logging.getLogger("yfinance").level == logging.NOTSET


@dataclass
class Shop:
    """The cache, filled by the real client from the stand-in."""

    desk: Desk
    cache: Cache
    monkeypatch: pytest.MonkeyPatch

    def fetch(self, *symbols: str, now: str = LATER) -> FetchReport:
        source = self.desk.source(now)
        self.monkeypatch.setattr(sources, "SOURCES", {"yahoo": lambda config, progress: source})
        config = DataConfig(source="yahoo", symbols=symbols or ("ACME",))
        return fetching.fetch(config, cache=self.cache, progress=Silent())

    @property
    def held(self) -> RawBars:
        return self.cache.read("yahoo", "1d", "ACME")

    def versions(self) -> list[int]:
        return [version.rows for version in self.cache.entry("yahoo", "1d", "ACME").versions]


@pytest.fixture
def shop(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    return Shop(desk, Cache(tmp_path / "data_cache"), monkeypatch)


# Good Friday is no day of trade, so that none of these is missing.
WEEKS = tuple(str(day.date()) for day in pd.bdate_range("2024-01-02", "2024-03-28").drop(["2024-01-15", "2024-02-19"]))


def test_an_update_asks_for_the_last_weeks_and_keeps_what_is_stored(shop: Shop) -> None:
    shop.desk.server.answer = chart(openings(WEEKS[:50]))
    shop.fetch().require_all()
    before = shop.held.frame
    shop.desk.server.answer = chart(openings(WEEKS))
    shop.fetch().require_all()
    assert int(shop.desk.server.charts[-1]["period1"][0]) == pd.Timestamp(WEEKS[20], tz="America/New_York").timestamp()
    assert shop.held.frame.iloc[:50].equals(before)
    assert shop.versions() == [50, len(WEEKS)]
    asked = len(shop.desk.server.asked)
    shop.fetch(now="2024-04-01 20:00").require_all()
    assert len(shop.desk.server.asked) == asked


def test_a_split_between_two_fetches_rewrites_and_keeps_the_former(shop: Shop) -> None:
    closes = [200.0 + row for row in range(len(WEEKS))]
    shop.desk.server.answer = chart(openings(WEEKS[:50]), close=closes[:50])
    shop.fetch().require_all()
    events = {"splits": {"b": {"date": seconds(WEEKS[50]), "numerator": 2, "denominator": 1, "splitRatio": "2:1"}}}
    volume = [2 * (1000 + row) if row < 50 else 1000 + row for row in range(len(WEEKS))]
    halves = [price / 2 for price in closes]
    shop.desk.server.answer = chart(openings(WEEKS), close=halves, volume=volume, events=events)
    shop.fetch().require_all()
    assert list(shop.held.frame["close"]) == halves
    assert shop.held.frame["splits"].iloc[50] == 2.0
    assert shop.versions() == [50, len(WEEKS)]
    former = shop.cache.entry("yahoo", "1d", "ACME").versions[0]
    assert list(shop.cache.read("yahoo", "1d", "ACME", former.id).frame["close"]) == closes[:50]


def test_a_dividend_between_two_fetches_rewrites_nothing(shop: Shop) -> None:
    shop.desk.server.answer = chart(openings(WEEKS[:50]))
    shop.fetch().require_all()
    events = {"dividends": {"a": {"amount": 0.5, "date": seconds(WEEKS[50])}}}
    shop.desk.server.answer = chart(openings(WEEKS), events=events)
    shop.fetch().require_all()
    assert shop.held.frame["dividends"].iloc[50] == 0.5
    assert len(list(shop.cache.root.rglob("*.parquet"))) == 1


def test_a_shifted_time_zone_is_a_rewrite(shop: Shop) -> None:
    shop.desk.server.answer = chart(openings(WEEKS[:50]))
    shop.fetch().require_all()
    # Tokyo's clock puts an opening in New York on the next day.
    meta = {"instrumentType": "EQUITY", "exchangeName": "JPX", "exchangeTimezoneName": "Asia/Tokyo"}
    shop.desk.server.answer = chart(openings(WEEKS), meta=meta)
    shop.fetch().require_all()
    assert (shop.held.calendar, shop.held.exchange_zone) == ("XTKS", "Asia/Tokyo")
    former = shop.cache.entry("yahoo", "1d", "ACME").versions[0]
    old = shop.cache.read("yahoo", "1d", "ACME", former.id)
    assert (old.calendar, old.exchange_zone, len(old.frame)) == ("XNYS", "America/New_York", 50)


def test_a_lasting_limit_leaves_the_others_saved_and_is_not_tried_again(shop: Shop) -> None:
    shop.desk.server.answer = chart(openings(WEEKS))
    shop.fetch("ONE").require_all()
    shop.desk.server.answer = TOO_MANY
    report = shop.fetch("ONE", "TWO", "THREE", now="2024-04-01 20:00")
    assert [path.stem for path in report.saved] == ["ONE"]
    assert "limits how often it is asked" in report.failed["TWO"].what
    assert "not asked for" in report.failed["THREE"].what
    assert sum("/THREE" in target for target in shop.desk.server.asked) == 0
    with pytest.raises(PartialError, match="2 of 3") as caught:
        report.require_all()
    assert caught.value.exit_code == 5
    shop.desk.server.answer = chart(openings(WEEKS))
    before = len(shop.desk.server.charts)
    shop.fetch("ONE", "TWO", "THREE", now="2024-04-01 20:00").require_all()
    assert len(shop.desk.server.charts) == before + 4  # a time zone and bars for each of two


def test_bars_that_yahoo_takes_back_are_a_rewrite(shop: Shop) -> None:
    shop.desk.server.answer = chart(openings(WEEKS[:50]))
    shop.fetch().require_all()
    shop.desk.server.answer = chart(openings([day for day in WEEKS if day != WEEKS[45]]))
    shop.fetch().require_all()
    assert len(shop.held.frame) == len(WEEKS) - 1
    assert shop.versions() == [50, len(WEEKS) - 1]

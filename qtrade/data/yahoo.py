"""Bars from Yahoo Finance through `yfinance`, asked politely: every failure is told in words, faults are retried."""

from __future__ import annotations

import atexit
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from qtrade.calendars import ALWAYS, CURRENCIES, INTERVALS, INTRADAY, known_stamps
from qtrade.data.defects import without
from qtrade.data.exchanges import EXCHANGES
from qtrade.data.freshness import SETTLING, bar_end, utc_now
from qtrade.data.raw import RAW_FIELDS, Finding, RawBars, SourceBusyError, between
from qtrade.data.throttle import TokenBucket
from qtrade.errors import DataError, UsageError, nearest
from qtrade.progress import Progress, Silent
from qtrade.settings import Settings
from qtrade.types import PRICE_FIELDS

_ALIGNED = {"1wk": "W", "1mo": "M", "3mo": "Q"}


# How far back Yahoo keeps intraday bars, and what it gives at once where that is less. An hour is left for the answer.
_DAY = pd.Timedelta(days=1)
_SLACK = pd.Timedelta(hours=1)
_KEPT = {"1m": 30 * _DAY, "60m": 730 * _DAY, "1h": 730 * _DAY}
_KEPT_OTHERWISE = 60 * _DAY
_AT_ONCE = {"1m": 7 * _DAY}


class YahooConfig(Settings):
    """How Yahoo is asked; it publishes no limits, and these keep what users report to be safe."""

    rate: float = Field(default=1.0, gt=0)
    """Questions a second in the long run."""
    burst: int = Field(default=5, ge=1)
    """Questions that may follow one another at once."""
    attempts: int = Field(default=4, ge=1)
    """Times a question is asked before giving up."""
    delay: float = Field(default=2.0, ge=0)
    """Seconds before the second attempt; doubled before every further one."""
    limited_delay: float = Field(default=15.0, ge=0)
    """The same after Yahoo said that it was asked too often."""


class Yahoo:
    """Stocks, funds, indices, currencies and crypto, as far back as Yahoo has them.

    Prices are split-adjusted by Yahoo, and not adjusted for dividends. A bar counts as complete half an hour after its
    end. Bars of a day or longer are stamped at 00:00 UTC of the exchange's local date, shorter ones at their opening.

    Parameters
    ----------
    config
        How often to ask, and when to give up on an answer that is late, cut off, unreadable or refused because of too
        many questions.
    progress
        Told when a symbol takes several questions, or an answer takes several attempts.
    sleep, clock, now
        How to wait some seconds, to tell the time in seconds since whenever, and to tell the time of day.
    """

    name: ClassVar[str] = "yahoo"

    def __init__(
        self,
        config: YahooConfig | None = None,
        *,
        progress: Progress | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], pd.Timestamp] = utc_now,
    ) -> None:
        self._config = config or YahooConfig()
        self._progress = progress or Silent()
        self._sleep = sleep
        self._now = now
        self._bucket = TokenBucket(self._config.rate, self._config.burst, sleep=sleep, clock=clock)

    def fetch(self, symbol: str, *, interval: str, start: pd.Timestamp | None, end: pd.Timestamp | None) -> RawBars:
        """Ask Yahoo for the bars of one symbol.

        Raises
        ------
        UsageError
            If the interval is unknown.
        DataError
            If Yahoo has no such symbol or no such bars, does not answer, or trades it on an exchange unknown here.
        """
        if interval not in INTERVALS:
            raise UsageError(f"Yahoo has no bars of '{interval}'", fix=nearest(interval, INTERVALS))
        spans = self._spans(symbol, interval, start, end)
        tables: list[pd.DataFrame] = []
        facts: Mapping[str, Any] = {}
        empty: list[tuple[Mapping[str, Any], _NoBarsError]] = []
        for number, span in enumerate(spans, start=1):
            try:
                table, facts = self._ask(symbol, interval, span)
            except _NoBarsError as error:
                if len(spans) == 1 or (number == len(spans) and not tables):
                    raise
                if tables:
                    empty.append((span, error))
                continue  # before the first trade, or a part without trade
            tables.append(_stamped(table, interval))
            if len(spans) > 1:
                self._progress.advance(0, f"{symbol}  {number} of {len(spans)} parts")
        calendar, zone = _calendar(symbol, facts), str(facts["exchangeTimezoneName"])
        for part, missing in empty:
            # Kept, such a hole would never be asked for again.
            if len(known_stamps(part["start"], min(part["end"], self._now() - _DAY), interval, calendar)):
                raise missing
        frame = pd.concat(tables) if len(tables) > 1 else tables[0]
        frame = frame[~frame.index.duplicated(keep="last")]
        while len(frame) and bar_end(frame.index[-1], interval, calendar, zone) + SETTLING > self._now():
            frame = frame.iloc[:-1]
        frame, findings = _without_gaps(frame)
        return RawBars(symbol, self.name, interval, calendar, zone, between(frame, start, end), findings)

    def due(self, stored: RawBars, end: pd.Timestamp | None) -> bool:
        """Tell whether a bar after those in `stored` is complete by now, by the rules of its calendar."""
        last, now = stored.frame.index[-1], self._now()
        until = now if end is None else min(now, end - pd.Timedelta(1, "ns"))
        if until <= last:
            return False
        expected = known_stamps(last + pd.Timedelta(1, "ns"), until, stored.interval, stored.calendar)
        if len(expected) == 0:
            return False
        return bar_end(expected[0], stored.interval, stored.calendar, stored.exchange_zone) + SETTLING <= now

    def earliest(self, interval: str) -> pd.Timestamp | None:
        """Tell since when Yahoo still has bars of an interval."""
        if interval not in INTRADAY:
            return None
        return self._now() - _KEPT.get(interval, _KEPT_OTHERWISE) + _SLACK

    def _spans(
        self, symbol: str, interval: str, start: pd.Timestamp | None, end: pd.Timestamp | None
    ) -> list[dict[str, Any]]:
        """Arguments of ``history`` for each question that it takes to cover `start` to `end`."""
        earliest = self.earliest(interval)
        if earliest is None:
            return [_span(interval, start, end)]
        now = self._now()
        if start is not None and start < earliest - _SLACK:
            kept = (now - earliest).ceil("D").days
            raise DataError(
                f"{symbol}: Yahoo keeps {interval} bars for {kept} days, and {start:%Y-%m-%d} is longer ago",
                why="nobody can ask it for older ones; bars in the cache stay there, so fetch often to have a long "
                "history one day",
                fix=f"choose --start {(earliest + _DAY):%Y-%m-%d} or later, or a longer --interval",
            )
        first = earliest if start is None else max(start, earliest)
        stop = now if end is None else min(end, now)
        at_once = _AT_ONCE.get(interval)
        if at_once is None or stop - first <= at_once:
            return [{"start": first, "end": end}]
        cuts = pd.date_range(first, stop, freq=at_once)
        return [{"start": one, "end": other} for one, other in zip(cuts, [*cuts[1:], stop], strict=True) if one < other]

    def _ask(self, symbol: str, interval: str, span: Mapping[str, Any]) -> tuple[pd.DataFrame, Mapping[str, Any]]:
        """Put the question until there is an answer that another attempt would not change."""
        from yfinance.exceptions import (
            YFInvalidPeriodError,
            YFPricesMissingError,
            YFRateLimitError,
            YFTzMissingError,
        )

        config, wait = self._config, 0.0
        for attempt in range(config.attempts):
            if attempt:
                self._progress.advance(0, f"{symbol}  asking again in {wait:.0f} s")
                self._sleep(wait)
            self._bucket.take()
            try:
                return _history(symbol, interval, span)
            except YFTzMissingError as error:
                raise _unknown(symbol) from error
            except (YFPricesMissingError, YFInvalidPeriodError) as error:
                raise _no_bars(symbol, interval, error) from error
            except YFRateLimitError as error:
                self._bucket.drain()
                fault: Exception = error
                delay = config.limited_delay
            # yfinance reads what the server sends without checking it: a strange answer can end in any exception.
            except Exception as error:
                if getattr(getattr(error, "response", None), "status_code", None) == 404:
                    raise _unknown(symbol) from error
                fault = error
                delay = config.delay
            wait = delay * 2**attempt
        raise _gave_up(symbol, config.attempts, fault) from fault


def _history(symbol: str, interval: str, span: Mapping[str, Any]) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    """Ask once: bars as yfinance names them on the exchange's clock, and Yahoo's facts about the symbol."""
    import yfinance
    from yfinance.data import YfData

    _use_private_cache()
    # yfinance remembers every answer about the past, the faulty ones too.
    YfData.cache_get.cache_clear()
    with _raising_and_silent():
        ticker = yfinance.Ticker(symbol)
        table = ticker.history(
            interval=interval, auto_adjust=False, actions=True, prepost=False, keepna=False, repair=False, **span
        )
        return table, ticker.history_metadata


@contextmanager
def _raising_and_silent() -> Iterator[None]:
    """Have yfinance raise its errors instead of logging them, and say nothing of how it uses pandas."""
    import yfinance

    debug, logger = yfinance.config.debug, logging.getLogger("yfinance")
    hides, level = debug.hide_exceptions, logger.level
    debug.hide_exceptions = False
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The inplace keyword in", DeprecationWarning)
            yield
    finally:
        debug.hide_exceptions = hides
        logger.setLevel(level)


@cache
def _use_private_cache() -> None:
    """Give yfinance a folder of this process's own for its databases.

    The one it shares between processes can be locked by another of them, and holds pickles that anyone may have left.
    """
    import yfinance

    folder = TemporaryDirectory(prefix="qtrade-yfinance-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    yfinance.set_tz_cache_location(folder.name)


def _span(interval: str, start: pd.Timestamp | None, end: pd.Timestamp | None) -> dict[str, Any]:
    """Arguments of ``history`` that cover `start` to `end` in bars of a day or longer, and possibly more."""
    if start is None:
        return {"period": "max"}
    day = start.tz_localize(None)
    last = None if end is None else end.ceil("D").tz_localize(None)
    if interval in _ALIGNED:
        # Otherwise the first week or month would hold only its later days, and the last one its earlier ones.
        day = day.to_period(_ALIGNED[interval]).start_time
        last = None if last is None else (last - _DAY).to_period(_ALIGNED[interval]).end_time.ceil("D")
    return {"start": day.date(), "end": None if last is None else last.date()}


def _calendar(symbol: str, facts: Mapping[str, Any]) -> str:
    """Calendar of a symbol, told by its kind and its exchange."""
    kinds = {"CRYPTOCURRENCY": ALWAYS, "CURRENCY": CURRENCIES}
    kind, code = facts["instrumentType"], str(facts.get("exchangeName"))
    if kind in kinds:
        return kinds[kind]
    if code not in EXCHANGES:
        raise DataError(
            f"{symbol}: Yahoo's exchange '{code}' ({facts.get('fullExchangeName', 'no name')}) has no calendar here",
            why="without one nobody can tell which bars come next",
            fix="choose a listing on another exchange, or add the code to _CODES in qtrade/data/exchanges.py",
        )
    return EXCHANGES[code]


def _stamped(table: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Columns `RAW_FIELDS` on a UTC index; yfinance has put them in order and taken repetitions out."""
    frame = table.rename(columns=str.lower).rename(columns={"stock splits": "splits"})[list(RAW_FIELDS)].astype(float)
    clock = pd.DatetimeIndex(table.index)
    if interval in INTRADAY:
        frame.index = clock.tz_convert("UTC").as_unit("ns").rename(None)
    else:
        frame.index = clock.tz_localize(None).normalize().tz_localize("UTC").as_unit("ns").rename(None)
    return frame


def _without_gaps(frame: pd.DataFrame) -> tuple[pd.DataFrame, tuple[Finding, ...]]:
    """Leave out bars that lack a price."""
    rows = np.flatnonzero(frame[list(PRICE_FIELDS)].isna().any(axis=1))
    if len(rows) == 0:
        return frame, ()
    lost = frame.index[rows]
    example = "Yahoo gave no price for this bar; it was left out"
    return without(frame, rows), (Finding("missing_price", "warning", len(lost), str(lost[0]), str(lost[-1]), example),)


def _unknown(symbol: str) -> DataError:
    return DataError(
        f"Yahoo has no symbol '{symbol}'",
        why="it is misspelt, delisted, or lacks the suffix of its exchange",
        fix="look it up on https://finance.yahoo.com/lookup; it reads like AAPL, ^GSPC, SAP.DE, BTC-USD or EURUSD=X",
    )


class _NoBarsError(DataError):
    """Yahoo has nothing for these dates."""


def _no_bars(symbol: str, interval: str, error: Exception) -> DataError:
    """Pass on why Yahoo has nothing, which it says best itself when its limits on intraday bars are exceeded."""
    fix = "choose other dates"
    if interval in INTRADAY:
        fix = "choose a later --start or a longer --interval: Yahoo keeps intraday bars for a short while only"
    reason = getattr(error, "yahoo_reason", None) or str(error)
    return _NoBarsError(f"{symbol}: Yahoo gives no {interval} bars for these dates", why=reason, fix=fix)


def _gave_up(symbol: str, attempts: int, fault: Exception) -> DataError:
    from yfinance.exceptions import YFRateLimitError

    # curl ends every message with a link to its manual.
    said = str(fault).split(" See https://curl", maxsplit=1)[0]
    if isinstance(fault, YFRateLimitError):
        return SourceBusyError(
            f"{symbol}: Yahoo limits how often it is asked, {attempts} attempts failed",
            why=said,
            fix="wait some minutes, then run the same command again; set a lower data.yahoo.rate if that happens often",
        )
    if isinstance(fault, OSError):
        what, why, fix = "cannot be reached", said, "check the network, then run the same command again"
    else:
        what, why = "sends an answer that cannot be read", f"{type(fault).__name__}: {said}"
        fix = "run the same command again later; if it stays so, update yfinance"
    return DataError(f"{symbol}: Yahoo {what}, {attempts} attempts failed", why=why, fix=fix)

"""Bars from Yahoo Finance through `yfinance`, asked politely: every failure is told in words, faults are retried."""

from __future__ import annotations

import atexit
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pandas as pd

from qtrade.calendars import ALWAYS, CURRENCIES, INTERVALS, INTRADAY, LONGER_THAN_A_DAY, known_stamps
from qtrade.data.raw import RAW_FIELDS, RawBars
from qtrade.errors import DataError, UsageError, nearest
from qtrade.types import PRICE_FIELDS

# What an exchange is called in Yahoo's metadata, by the calendar it trades on. A wrong calendar would place forecasts
# on days without trade and nobody would notice, so what is not listed is refused, not guessed.
_CODES = {
    "ASEX": "ATH",
    "BVMF": "SAO",
    "XAMS": "AMS",
    "XASX": "ASX",
    "XBKK": "SET",
    "XBOM": "BSE NSI",
    "XBRU": "BRU",
    "XBUD": "BUD",
    "XCSE": "CPH",
    "XDUB": "ISE",
    "XETR": "GER",
    "XFRA": "FRA",
    "XHEL": "HEL",
    "XHKG": "HKG",
    "XIDX": "JKT",
    "XIST": "IST",
    "XJSE": "JNB",
    "XKLS": "KLS",
    "XKRX": "KSC KOE",
    "XLIS": "LIS",
    "XLON": "LSE IOB FGI",
    "XMAD": "MCE",
    "XMEX": "MEX",
    "XMIL": "MIL",
    "XNYS": "NMS NGM NCM NAS NIM NYQ PCX ASE BTS PNK OQB OQX SNP DJI CXI WCB",
    "XNZE": "NZE",
    "XOSL": "OSL",
    "XPAR": "PAR",
    "XPRA": "PRA",
    "XSES": "SES",
    "XSHG": "SHH SHZ",
    "XSTO": "STO",
    "XSWX": "EBS",
    "XTAE": "TLV",
    "XTAI": "TAI TWO",
    "XTKS": "JPX OSA",
    "XTSE": "TOR VAN NEO CNQ",
    "XWAR": "WSE",
    "XWBO": "VIE",
}
EXCHANGES: Mapping[str, str] = {code: calendar for calendar, codes in _CODES.items() for code in codes.split()}
"""Calendar of every exchange code of Yahoo's that is known here."""

# Yahoo shows many exchanges up to 20 minutes late and corrects the last bars for a while.
_SETTLING = pd.Timedelta(minutes=30)

_PERIODS = {
    "1d": pd.DateOffset(days=1),
    "1wk": pd.DateOffset(weeks=1),
    "1mo": pd.DateOffset(months=1),
    "3mo": pd.DateOffset(months=3),
}
_ALIGNED = {"1wk": "W", "1mo": "M", "3mo": "Q"}


@dataclass(frozen=True)
class Retry:
    """How often to ask, and how long to wait in between."""

    attempts: int = 4
    """Times a question is asked before giving up."""
    delay: float = 2.0
    """Seconds before the second attempt; doubled before every further one."""


def _utc_now() -> pd.Timestamp:
    return pd.Timestamp.now("UTC")


class Yahoo:
    """Stocks, funds, indices, currencies and crypto, as far back as Yahoo has them.

    Prices are split-adjusted by Yahoo, and not adjusted for dividends. A bar counts as complete half an hour after its
    end. Bars of a day or longer are stamped at 00:00 UTC of the exchange's local date, shorter ones at their opening.

    Parameters
    ----------
    retry
        When to give up on an answer that is late, cut off, unreadable or refused because of too many questions.
    sleep, now
        How to wait some seconds, and how to tell the time.
    """

    name: ClassVar[str] = "yahoo"

    def __init__(
        self,
        retry: Retry | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], pd.Timestamp] = _utc_now,
    ) -> None:
        self._retry = retry or Retry()
        self._sleep = sleep
        self._now = now

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
        table, facts = self._ask(symbol, interval, _span(interval, start, end))
        calendar, zone = _calendar(symbol, facts), str(facts["exchangeTimezoneName"])
        frame = _without_gaps(_stamped(table, interval))
        while len(frame) and _end(frame.index[-1], interval, calendar, zone) + _SETTLING > self._now():
            frame = frame.iloc[:-1]
        if start is not None:
            frame = frame[frame.index >= start]
        if end is not None:
            frame = frame[frame.index < end]
        return RawBars(symbol, self.name, interval, calendar, zone, frame)

    def _ask(self, symbol: str, interval: str, span: Mapping[str, Any]) -> tuple[pd.DataFrame, Mapping[str, Any]]:
        """Put the question until there is an answer that another attempt would not change."""
        from yfinance.exceptions import YFInvalidPeriodError, YFPricesMissingError, YFTzMissingError

        for attempt in range(self._retry.attempts):
            if attempt:
                self._sleep(self._retry.delay * 2 ** (attempt - 1))
            try:
                return _history(symbol, interval, span)
            except YFTzMissingError as error:
                raise _unknown(symbol) from error
            except (YFPricesMissingError, YFInvalidPeriodError) as error:
                raise _no_bars(symbol, interval, error) from error
            # yfinance reads what the server sends without checking it: a strange answer can end in any exception.
            except Exception as error:
                if getattr(getattr(error, "response", None), "status_code", None) == 404:
                    raise _unknown(symbol) from error
                fault = error
        raise _gave_up(symbol, self._retry.attempts, fault) from fault


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
    """Arguments of ``history`` that cover `start` to `end`, and possibly more."""
    if start is None:
        # Yahoo counts its limits back from today, so an earlier `end` must not move the beginning.
        return {"period": "max"}
    if interval in INTRADAY:
        return {"start": start, "end": end}
    day = start.tz_localize(None)
    if interval in _ALIGNED:
        # Otherwise the first week or month would hold only its later days.
        day = day.to_period(_ALIGNED[interval]).start_time
    return {"start": day.date(), "end": None if end is None else end.ceil("D").date()}


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
            fix="choose a listing on another exchange, or add the code to _CODES in qtrade/data/yahoo.py",
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


def _without_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out bars that lack a price; their dividends and splits show in the price of the next one, so move there."""
    whole = frame[list(PRICE_FIELDS)].notna().all(axis=1)
    owner = pd.Series(frame.index.where(whole), index=frame.index).bfill()
    kept = frame[whole].copy()
    kept["dividends"] = frame["dividends"].groupby(owner).sum()
    kept["splits"] = frame["splits"].replace(0.0, 1.0).groupby(owner).prod().replace(1.0, 0.0)
    return kept


def _end(stamp: pd.Timestamp, interval: str, calendar: str, zone: str) -> pd.Timestamp:
    """Moment after which a bar changes no more; a bit later for one that the session's end cuts short."""
    if interval in INTRADAY:
        return stamp + INTRADAY[interval]
    day = stamp.tz_localize(None)
    opened, over = (
        moment.tz_localize(zone, ambiguous=True, nonexistent="shift_forward").tz_convert("UTC")
        for moment in (day, day + _PERIODS[interval])
    )
    if interval in LONGER_THAN_A_DAY or calendar in (ALWAYS, CURRENCIES):
        return over
    minutes = known_stamps(opened, over, "1m", calendar)
    return minutes[-1] + INTRADAY["1m"] if len(minutes) else over


def _unknown(symbol: str) -> DataError:
    return DataError(
        f"Yahoo has no symbol '{symbol}'",
        why="it is misspelt, delisted, or lacks the suffix of its exchange",
        fix="look it up on https://finance.yahoo.com/lookup; it reads like AAPL, ^GSPC, SAP.DE, BTC-USD or EURUSD=X",
    )


def _no_bars(symbol: str, interval: str, error: Exception) -> DataError:
    """Pass on why Yahoo has nothing, which it says best itself when its limits on intraday bars are exceeded."""
    fix = "choose other dates"
    if interval in INTRADAY:
        fix = "choose a later --start or a longer --interval: Yahoo keeps intraday bars for a short while only"
    reason = getattr(error, "yahoo_reason", None) or str(error)
    return DataError(f"{symbol}: Yahoo gives no {interval} bars for these dates", why=reason, fix=fix)


def _gave_up(symbol: str, attempts: int, fault: Exception) -> DataError:
    from yfinance.exceptions import YFRateLimitError

    # curl ends every message with a link to its manual.
    said = str(fault).split(" See https://curl", maxsplit=1)[0]
    if isinstance(fault, YFRateLimitError):
        what, why, fix = "limits how often it is asked", said, "wait some minutes, then run the same command again"
    elif isinstance(fault, OSError):
        what, why, fix = "cannot be reached", said, "check the network, then run the same command again"
    else:
        what, why = "sends an answer that cannot be read", f"{type(fault).__name__}: {said}"
        fix = "run the same command again later; if it stays so, update yfinance"
    return DataError(f"{symbol}: Yahoo {what}, {attempts} attempts failed", why=why, fix=fix)

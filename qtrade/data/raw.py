"""What a source delivers: the raw bars of one symbol, with the dividends and splits that explain their jumps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from qtrade.errors import DataError
from qtrade.types import BAR_FIELDS, PRICE_FIELDS

ACTION_FIELDS = ("dividends", "splits")
RAW_FIELDS = (*BAR_FIELDS, *ACTION_FIELDS)


Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Finding:
    """Something about bars that whoever relies on them should know.

    Attributes
    ----------
    check
        Short name, as ``duplicates`` or ``ohlc``; `data.accept` names errors by it.
    severity
        An ``error`` stops a run unless it is accepted; a ``warning`` deserves a look; an ``info`` is told.
    count
        How many bars are concerned.
    first, last
        Stamps of the first and the last of them.
    example
        What the first one looks like, in words.
    """

    check: str
    severity: Severity
    count: int
    first: str
    last: str
    example: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a manifest."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class RawBars:
    """Bars of one symbol as they were traded, split-adjusted but not dividend-adjusted.

    Attributes
    ----------
    symbol, source, interval, calendar
        Where and what they are.
    exchange_zone
        Time zone of the exchange.
    frame
        Columns `RAW_FIELDS` in float64 on a UTC index: ``dividends`` in money per share on their ex-date, ``splits`` as
        the ratio of new shares to old, both 0 where nothing happened.
    findings
        What the source saw, mended or left out on the way here: `qtrade.data.quality` cannot see it any more.
    facts
        What else is known about these bars, as plain values for the manifest.

    Raises
    ------
    DataError
        If there are no bars, or their stamps do not increase strictly.
    """

    symbol: str
    source: str
    interval: str
    calendar: str
    exchange_zone: str
    frame: pd.DataFrame
    findings: tuple[Finding, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        index = self.frame.index
        if tuple(self.frame.columns) != RAW_FIELDS or not isinstance(index, pd.DatetimeIndex) or str(index.tz) != "UTC":
            raise ValueError(f"raw bars need the columns {RAW_FIELDS} on a UTC index")
        if len(index) == 0:
            raise DataError(
                f"{self.symbol}: '{self.source}' has no {self.interval} bars for these dates",
                fix="widen --start and --end, or choose another --interval",
            )
        if not (index.is_monotonic_increasing and index.is_unique):
            raise DataError(f"{self.symbol}: the stamps from '{self.source}' are not in order, or repeat")

    def fingerprint(self) -> str:
        """SHA-256 of what the bars are and of every number in them, in hexadecimal."""
        named = (self.symbol, self.source, self.interval, self.calendar, self.exchange_zone)
        digest = hashlib.sha256(json.dumps(named).encode())
        index = self.frame.index
        assert isinstance(index, pd.DatetimeIndex)
        digest.update(index.as_unit("ns").asi8.tobytes())
        for name in RAW_FIELDS:
            digest.update(self.frame[name].to_numpy(dtype=np.float64).tobytes())
        return digest.hexdigest()


class SourceBusyError(DataError):
    """The source asks to be left alone for a while; asking it for further symbols would only make that longer."""


class Source(Protocol):
    """A place to get bars from. A new one is one class with one method, named in `qtrade.data.sources.SOURCES`.

    Each answer is all there is, and takes the place of the one before.
    """

    name: ClassVar[str]

    def fetch(self, symbol: str, *, interval: str, start: pd.Timestamp | None, end: pd.Timestamp | None) -> RawBars:
        """Get the bars of one symbol from `start` (included) to `end` (excluded), both UTC; None means "all there is".

        Only complete bars are returned, and none with a missing price.

        Raises
        ------
        DataError
            If the source does not know the symbol, has no bars for it, or does not answer.
        """


@runtime_checkable
class Feed(Source, Protocol):
    """A source whose history grows, and is rewritten: answers are joined to what is stored (`qtrade.data.join`)."""

    def due(self, stored: RawBars, end: pd.Timestamp | None) -> bool:
        """Tell whether the source must have a complete bar after those in `stored`, before `end`."""

    def earliest(self, interval: str) -> pd.Timestamp | None:
        """Tell since when it still has bars of an interval; None means that it has all."""


def between(frame: pd.DataFrame, start: pd.Timestamp | None, end: pd.Timestamp | None) -> pd.DataFrame:
    """Rows with ``start <= stamp < end``; None means no bound."""
    keep = np.ones(len(frame), dtype=np.bool_)
    if start is not None:
        keep &= frame.index >= start
    if end is not None:
        keep &= frame.index < end
    return frame[keep]


def adjust(frame: pd.DataFrame) -> pd.DataFrame:
    """Take dividends out of the prices, so that a return is what a holder earned.

    Every price from an ex-date on is divided by ``1 - dividend / close of the bar before``, the factor of CRSP and
    Yahoo: the first bar keeps its price, and later ones are what a holder who reinvests has. Vendors multiply the past
    instead, so that each new dividend rewrites all of it; here the future changes no earlier number, not by a bit.
    Returns are the same. Volume stays. Within a bar longer than a day the ex-date is taken to be its beginning.

    Parameters
    ----------
    frame
        Columns `RAW_FIELDS`, every close positive.

    Returns
    -------
    pandas.DataFrame
        Columns open, high, low, close, volume.

    Raises
    ------
    DataError
        If a dividend is missing, negative, or not below the price before it.
    """
    close, dividends = frame["close"].to_numpy(), frame["dividends"].to_numpy()
    before = np.concatenate([[np.nan], close[:-1]])
    step = np.where(dividends == 0, 1.0, 1 - dividends / before)
    step[0] = 1.0  # A dividend on the first bar has no earlier price to adjust.
    sound = (dividends >= 0) & (step > 0)
    if not sound.all():
        bad = int(np.argmin(sound))
        raise DataError(
            f"the dividend {dividends[bad]} on {frame.index[bad]} is missing or negative, or not below "
            f"the close of {before[bad]} before it",
            fix="fetch the bars again, or set data.adjust=false",
        )
    factor = np.cumprod(1 / step)
    adjusted = frame[list(BAR_FIELDS)].copy()
    for name in PRICE_FIELDS:
        adjusted[name] = adjusted[name].to_numpy() * factor
    return adjusted

"""What a fetch would do, found out without writing anything and without asking anybody.

Sources that lie on this machine are read, so that their bars are known; of others it is known what they would be asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qtrade.data.cache import Cache
from qtrade.data.config import DataConfig
from qtrade.data.fetch import ask_for
from qtrade.data.join import compare
from qtrade.data.load import usable
from qtrade.data.raw import Feed, RawBars, Source
from qtrade.data.sources import make_source
from qtrade.errors import DataError, QtradeError, UsageError
from qtrade.progress import Silent

_FAILS = "fails: "


@dataclass(frozen=True)
class Unwritten(Cache):
    """A cache that is only looked at, with bars laid over it that a fetch would store."""

    fetched: Mapping[str, RawBars] = field(default_factory=dict)
    """By symbol."""

    def read(self, source: str, interval: str, symbol: str, version: str | None = None) -> RawBars:
        """Read an entry as it would be; see `Cache.read`."""
        ahead = self.fetched.get(symbol)
        if ahead is not None and (version is None or ahead.fingerprint().startswith(version)):
            return ahead
        return super().read(source, interval, symbol, version)

    @contextmanager
    def _locked(self, path: Path, *, only_reading: bool = False) -> Iterator[None]:
        """Leave not even a lock behind; a checksum tells if a writer was half-way."""
        yield


@dataclass(frozen=True)
class SymbolPlan:
    """What would be done about one symbol."""

    symbol: str
    stored: int
    """Bars in the cache."""
    first: str | None
    last: str | None
    action: str
    """In words."""
    asked: bool
    """Whether somebody far away is asked, so that it is not known what comes."""


@dataclass(frozen=True, eq=False)
class FetchPlan:
    """What would be done about each symbol.

    Attributes
    ----------
    failed
        Symbols whose bars would be refused, and why.
    cache
        The cache as it would be, as far as that is known.
    """

    source: str
    interval: str
    symbols: tuple[SymbolPlan, ...]
    failed: Mapping[str, QtradeError]
    cache: Unwritten

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "source": self.source,
            "interval": self.interval,
            "symbols": [asdict(one) for one in self.symbols],
            "failed": {symbol: error.what for symbol, error in self.failed.items()},
        }

    def lines(self) -> list[str]:
        """Return a line for each symbol."""
        width = max(len(one.symbol) for one in self.symbols)
        told = []
        for one in self.symbols:
            span = f"; stored {one.stored:,}, {str(one.first)[:10]} to {str(one.last)[:10]}" if one.stored else ""
            told.append(f"{one.symbol:<{width}}  {one.action}{span}")
            if one.symbol in self.failed and not one.action.startswith(_FAILS):
                told.append(f"{'':<{width}}  but they would be refused: {self.failed[one.symbol].what}")
        return told


def plan_fetch(config: DataConfig, *, cache: Cache) -> FetchPlan:
    """Find out what `qtrade.data.fetch.fetch` would do.

    Raises
    ------
    UsageError
        If there is no such source, or it has no bars of this interval.
    """
    source = make_source(config, Silent())
    store = Unwritten(cache.root)
    plans: list[SymbolPlan] = []
    failed: dict[str, QtradeError] = {}
    fetched: dict[str, RawBars] = {}
    for symbol in config.symbols:
        try:
            plan, bars = _plan(source, symbol, config, store)
            plans.append(plan)
            if bars is not None:
                fetched[symbol] = bars
                usable(bars, config)
        except UsageError:
            raise
        except QtradeError as error:
            failed[symbol] = error
            if len(plans) == 0 or plans[-1].symbol != symbol:
                plans.append(SymbolPlan(symbol, 0, None, None, f"{_FAILS}{error.what}", asked=False))
    return FetchPlan(config.source, config.interval, tuple(plans), failed, Unwritten(cache.root, fetched))


def _plan(source: Source, symbol: str, config: DataConfig, cache: Cache) -> tuple[SymbolPlan, RawBars | None]:
    """Decide about one symbol, and return the bars that it would have, if they are known."""
    pinned = config.versions.get(symbol)
    if pinned is not None:
        try:
            former = cache.read(config.source, config.interval, symbol, pinned)
        except QtradeError:
            pass  # as in a fetch: what the source gives may well be that version
        else:
            return _told(symbol, former, f"version {pinned} is kept"), former
    stored, note = _stored(symbol, config, cache)
    if isinstance(source, Feed):
        question = ask_for(source, stored, config)
        if question is None:
            return _told(symbol, stored, "up to date"), stored
        since = "all there is" if question.first is None else f"bars from {question.first:%Y-%m-%d} on"
        until = "" if question.last is None else f" until {question.last:%Y-%m-%d}"
        return _told(symbol, stored, f"{note}{source.name} is asked for {since}{until}", asked=True), stored
    whole = source.fetch(symbol, interval=config.interval, start=None, end=None)
    count = f"{len(whole.frame):,} bars from {source.name}"
    if stored is None:
        return _told(symbol, None, f"{note}{count}"), whole
    if stored.fingerprint() == whole.fingerprint():
        return _told(symbol, stored, f"{count}, as before"), whole
    moved = compare(stored, whole)
    changes = {"new": moved.added, "changed": moved.changed, "gone": moved.removed}
    told = ", ".join(f"{number:,} {what}" for what, number in changes.items() if number)
    return _told(symbol, stored, f"{count}, {told or 'otherwise described'}"), whole


def _stored(symbol: str, config: DataConfig, cache: Cache) -> tuple[RawBars | None, str]:
    """Read what the cache holds, and say if it cannot be trusted."""
    if not cache.find(symbol, config.source, config.interval):
        return None, ""
    try:
        return cache.read(config.source, config.interval, symbol), ""
    except DataError as error:
        return None, f"{error.what}; it is put aside, and "


def _told(symbol: str, stored: RawBars | None, action: str, *, asked: bool = False) -> SymbolPlan:
    if stored is None:
        return SymbolPlan(symbol, 0, None, None, action, asked)
    index = stored.frame.index
    return SymbolPlan(symbol, len(index), str(index[0]), str(index[-1]), action, asked)

"""Getting bars from a source into the cache: what is missing, no more, and nothing that makes sound bars unsound."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

import qtrade.notebook_html as html
from qtrade.data.cache import Cache
from qtrade.data.config import DataConfig
from qtrade.data.join import RewrittenError, compare, extend, rebuild
from qtrade.data.load import usable
from qtrade.data.quality import errors
from qtrade.data.raw import Feed, RawBars, Source, SourceBusyError
from qtrade.data.sources import make_source
from qtrade.data.verify import write_report
from qtrade.errors import DataError, PartialError, QtradeError, UsageError
from qtrade.progress import Progress

# Stored bars asked for again with every update, to see whether the vendor has rewritten them.
OVERLAP = 30


@dataclass(frozen=True)
class FetchReport:
    """What a fetch saved, and what failed and why."""

    saved: tuple[Path, ...]
    failed: Mapping[str, QtradeError]

    def _repr_html_(self) -> str:
        rows = [
            *((str(path), "saved") for path in self.saved),
            *((name, why.what) for name, why in self.failed.items()),
        ]
        return html.piece(html.table(("bars", ""), rows))

    def require_all(self) -> None:
        """Raise the failure if there is one: the error itself if nothing was saved, else `PartialError`."""
        if not self.failed:
            return
        failures = list(self.failed.values())
        if not self.saved and len(failures) == 1:
            raise failures[0]
        told = {symbol: error.what.removeprefix(f"{symbol}: ") for symbol, error in self.failed.items()}
        why = "\n       ".join(f"{symbol}: {what}" for symbol, what in told.items())
        if not self.saved:
            raise DataError("no symbol could be fetched", why=why, fix="; ".join(self._fixes()))
        raise PartialError(
            f"{len(self.failed)} of {len(self.failed) + len(self.saved)} symbols could not be fetched",
            why=why,
            fix=f"the others are saved; {'; '.join(self._fixes())}",
        )

    def _fixes(self) -> list[str]:
        """Say what to do about the failures, and for which symbols where that differs."""
        symbols: dict[str, list[str]] = {}
        for symbol, error in self.failed.items():
            symbols.setdefault(error.fix or f"leave {symbol} out", []).append(symbol)
        return [fix if len(symbols) == 1 else f"{', '.join(names)}: {fix}" for fix, names in symbols.items()]


def fetch(config: DataConfig, *, cache: Cache, progress: Progress) -> FetchReport:
    """Bring every symbol in the cache up to date; one symbol's failure leaves the others saved.

    Of a vendor's growing history only what is missing is asked for, with some stored bars before it; if those are no
    longer what they were, all of it is asked for again and the former version is kept. Other sources are read whole.

    An answer with errors that are not accepted takes the place of nothing. Where there is nothing, it is stored all
    the same, to be looked at, but it counts as a failure.

    Raises
    ------
    UsageError
        If the source has no bars of this interval, or the cache cannot be written to.
    """
    source = make_source(config, progress)
    saved: list[Path] = []
    failed: dict[str, QtradeError] = {}
    busy: SourceBusyError | None = None
    for symbol in config.symbols:
        progress.start(f"fetch {symbol}", 1)
        if busy is not None:
            failed[symbol] = DataError(f"{symbol}: not asked for, as the source wants to be left alone", fix=busy.fix)
            progress.advance(1, "not asked for")
            continue
        try:
            path, note = _update(source, symbol, config, cache, progress)
        except UsageError:
            raise  # a wrong interval or an unwritable folder is the same for every symbol
        except QtradeError as error:
            failed[symbol] = error
            busy = error if isinstance(error, SourceBusyError) else None
            progress.advance(1, "failed")
        else:
            saved.append(path)
            progress.advance(1, note)
    return FetchReport(tuple(saved), failed)


def _update(source: Source, symbol: str, config: DataConfig, cache: Cache, progress: Progress) -> tuple[Path, str]:
    """Bring one entry up to date; where it is, and a note on what was done."""
    pinned = config.versions.get(symbol)
    if pinned is not None:
        try:
            former = cache.read(config.source, config.interval, symbol, pinned)
        except QtradeError:
            pass  # not here; what the source gives may well be that version
        else:
            return _unchanged(former, config, cache, f"version {pinned}")
    stored = _stored(symbol, config, cache, progress)
    if isinstance(source, Feed):
        return _prolong(source, symbol, stored, config, cache, progress)
    whole = source.fetch(symbol, interval=config.interval, start=None, end=None)
    if stored is not None and stored.fingerprint() == whole.fingerprint():
        return _unchanged(stored, config, cache, "as before")
    path, note = _commit(whole, config, cache, lambda _: whole)
    if stored is not None:
        moved = compare(stored, whole)
        if moved.changed or moved.removed:
            told = f"{moved.changed} bars changed and {moved.removed} gone"
            note += f"; {told}, see `qtrade data vintages {shlex.quote(symbol)}`"
    return path, note


@dataclass(frozen=True)
class Question:
    """What a source is asked for.

    Attributes
    ----------
    first, last
        From when (included) to when (excluded); None for all there is.
    since
        When the stored history will then begin, as it was asked for; None for all there is.
    """

    first: pd.Timestamp | None
    last: pd.Timestamp | None
    since: str | None


def ask_for(source: Feed, stored: RawBars | None, config: DataConfig) -> Question | None:
    """Decide what is missing of a stored history; None if nothing is."""
    start, end = config.span
    since = None if start is None else str(start)
    if stored is None:
        return Question(start, end, since)
    known = stored.facts.get("since")
    if known is not None and (start is None or start < pd.Timestamp(known)):
        # A longer history ends where the stored one does, or later: nothing stored must be cut off.
        return Question(start, None, since)
    if not source.due(stored, end):
        return None
    earliest = source.earliest(config.interval)
    first = stored.frame.index[-min(OVERLAP, len(stored.frame))]
    return Question(first if earliest is None else max(first, earliest), end, known)


def _prolong(
    source: Feed, symbol: str, stored: RawBars | None, config: DataConfig, cache: Cache, progress: Progress
) -> tuple[Path, str]:
    """Add to a stored history what its source has by now."""
    question = ask_for(source, stored, config)
    if question is None:
        assert stored is not None, "where nothing is stored, something is missing"
        return _unchanged(stored, config, cache, "up to date")
    first, last, since = question.first, question.last, question.since

    def ask(start: pd.Timestamp | None, end: pd.Timestamp | None) -> RawBars:
        bars = source.fetch(symbol, interval=config.interval, start=start, end=end)
        return replace(bars, facts={**bars.facts, "since": since})

    fresh = ask(first, last)
    try:
        return _commit(fresh, config, cache, lambda now: fresh if now is None else extend(now, fresh))
    except RewrittenError as error:
        progress.message(f"{symbol}: {error.bars} stored bars were rewritten by '{source.name}'; asking for all of it")
    whole = None if since is None else pd.Timestamp(since)
    if first != whole or last is not None:
        earliest = source.earliest(config.interval)
        fresh = ask(whole if whole is None or earliest is None else max(whole, earliest), None)
    path, note = _commit(fresh, config, cache, lambda now: fresh if now is None else rebuild(now, fresh))
    return path, f"{note}; the former version is kept"


def _unchanged(stored: RawBars, config: DataConfig, cache: Cache, note: str) -> tuple[Path, str]:
    """Leave an entry as it is; its errors stay errors."""
    problem = _problem(stored, config)
    if problem is not None:
        raise problem
    return cache.path(stored.source, stored.interval, stored.symbol), f"{len(stored.frame):,} bars, {note}"


def _stored(symbol: str, config: DataConfig, cache: Cache, progress: Progress) -> RawBars | None:
    """Read what the cache holds of a symbol; None if that is nothing, or nothing that can be trusted."""
    if not cache.find(symbol, config.source, config.interval):
        return None
    try:
        return cache.read(config.source, config.interval, symbol)
    except DataError as error:
        progress.message(f"{error.what}; it is put aside and fetched anew")
        return None


def _commit(
    fresh: RawBars, config: DataConfig, cache: Cache, change: Callable[[RawBars | None], RawBars]
) -> tuple[Path, str]:
    """Write what `change` makes of the stored bars, with a quality report; where, and a note."""
    problems: list[DataError] = []
    parts: list[str] = []
    quoted = shlex.quote(fresh.symbol)
    before = 0

    def checked(stored: RawBars | None) -> RawBars:
        nonlocal before
        before = 0 if stored is None else len(stored.frame)
        bars = change(stored)
        problem = _problem(bars, config)
        if stored is not None:
            _raise_if_worse(stored, bars, config)
        if problem is not None:
            problems.append(problem)
        return bars

    def examined(path: Path, bars: RawBars) -> None:
        warnings = sum(one.severity == "warning" for one in write_report(path, bars))
        parts.append(f"{len(bars.frame):,} bars")
        if 0 < before < len(bars.frame):
            parts.append(f"{len(bars.frame) - before:,} new")
        if warnings:
            parts.append(f"{warnings} warning{'s' if warnings > 1 else ''}: `qtrade data verify {quoted}`")

    path = cache.update(fresh.source, fresh.interval, fresh.symbol, checked, examined)
    if problems:
        raise problems[0]
    return path, ", ".join(parts)


def _raise_if_worse(stored: RawBars, bars: RawBars, config: DataConfig) -> None:
    """Raise `DataError` if new bars have errors of a kind that the stored ones do not have and nobody accepts."""
    known = {one.check for one in errors(stored)}
    new = [one for one in errors(bars) if one.check not in known and one.check not in config.accept]
    if new:
        listed = "; ".join(f"{one.check} on {one.count} bars from {one.first} on: {one.example}" for one in new)
        accept = " ".join(f"--accept {one.check}" for one in new)
        raise DataError(
            f"{bars.symbol}: what '{bars.source}' gives now has errors: {listed}",
            why="what is stored has none of them, and stays as it is",
            fix=f"mend the source; or, if it is right, add {accept}",
        )


def _problem(raw: RawBars, config: DataConfig) -> DataError | None:
    """Say why `load_bars` would refuse these bars of one symbol; None if it would not."""
    try:
        usable(raw, config)
    except DataError as error:
        return error
    return None

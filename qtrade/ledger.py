"""The trial ledger: every strategy and model ever tried on a market, so that the luck of the best can be told.

The best of many useless trials looks good. How good follows from how many there were and how far apart their Sharpe
ratios lie (the deflated Sharpe ratio, Bailey & López de Prado 2014), and neither is known afterwards unless each trial
was written down when it was made: those that failed above all.

The ledger is one SQLite file, by default ``runs/trials.sqlite``, of two tables: ``trials``, one row each, and
``returns``, net returns per bar of those that were backtested one at a time. Rows are only ever added: triggers of the
database see to that, whatever program opens it. Stamps are text in UTC, down to the nanosecond, so that they sort.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from qtrade.errors import DataError
from qtrade.types import Bars, Float64Array

Kind = Literal["backtest", "sweep", "evaluation"]

FILE_NAME = "trials.sqlite"

# In the file's header: whose database it is ("qtrd"), and which layout its tables have.
_APPLICATION = 0x71747264
_LAYOUT = 2
_BUSY_SECONDS = 30.0

_SCHEMA = (
    """CREATE TABLE trials (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
        symbols TEXT NOT NULL, interval TEXT NOT NULL, first TEXT NOT NULL, last TEXT NOT NULL, bars INTEGER NOT NULL,
        snapshot TEXT NOT NULL, run TEXT NOT NULL, forecasts TEXT NOT NULL, kind TEXT NOT NULL, strategy TEXT NOT NULL,
        source TEXT NOT NULL, account TEXT NOT NULL, sharpe REAL, at TEXT NOT NULL,
        periods_per_year REAL, effective_bars REAL, ruined INTEGER)""",
    "CREATE TABLE returns (trial INTEGER PRIMARY KEY REFERENCES trials, stamps BLOB NOT NULL, net BLOB NOT NULL)",
    *(
        f"CREATE TRIGGER {table}_no_{change} BEFORE {change} ON {table} "
        "BEGIN SELECT RAISE(ABORT, 'the trial ledger is append-only'); END"
        for table in ("trials", "returns")
        for change in ("UPDATE", "DELETE")
    ),
    # A row that is there already is passed over. Left to the keys alone, INSERT OR REPLACE would take the older row
    # out, and SQLite does not call that a DELETE.
    "CREATE TRIGGER trials_once BEFORE INSERT ON trials WHEN EXISTS (SELECT 1 FROM trials WHERE id = NEW.id "
    "OR number = NEW.number) BEGIN SELECT RAISE(IGNORE); END",
    "CREATE TRIGGER returns_once BEFORE INSERT ON returns WHEN EXISTS (SELECT 1 FROM returns WHERE trial = NEW.trial) "
    "BEGIN SELECT RAISE(IGNORE); END",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_LAYOUT}",
)
# What layout 2 added; unknown of trials that were recorded before.
_ADDED = {"periods_per_year": "REAL", "effective_bars": "REAL", "ruined": "INTEGER"}
_BROUGHT_UP_TO_DATE = (
    *(f"ALTER TABLE trials ADD COLUMN {name} {kind}" for name, kind in _ADDED.items()),
    f"PRAGMA user_version = {_LAYOUT}",
)
# Columns that are a trial's attributes as they stand, and all that are written.
_AS_THEY_STAND = ("bars", "snapshot", "run", "forecasts", "kind", "strategy", "source", "account", "sharpe", *_ADDED)
_COLUMNS = ("id", "symbols", "interval", "first", "last", *_AS_THEY_STAND, "at")
_ADD_TRIAL = f"INSERT INTO trials ({', '.join(_COLUMNS)}) VALUES (:{', :'.join(_COLUMNS)})"
_ADD_RETURNS = "INSERT INTO returns SELECT number, :stamps, :net FROM trials WHERE id = :id"
_SAME_MARKET = """WITH same AS (
    SELECT * FROM trials WHERE interval = :interval AND first <= :last AND last >= :first AND EXISTS (
        SELECT 1 FROM json_each(trials.symbols) WHERE value IN (SELECT value FROM json_each(:symbols))))"""

_PERMISSION = "make the file and its folder readable and writable"
_DAMAGED = "restore a copy of it; or move it away to start a new one, which knows nothing of what was tried before"
_FIXES = {
    sqlite3.SQLITE_BUSY: "another process is writing to it: wait until that is done, and try again",
    sqlite3.SQLITE_FULL: "free some space on that disk",
    sqlite3.SQLITE_CANTOPEN: _PERMISSION,
    sqlite3.SQLITE_PERM: _PERMISSION,
    sqlite3.SQLITE_READONLY: _PERMISSION,
}


@dataclass(frozen=True)
class Market:
    """Symbols of one interval over a test period; `first` and `last` are UTC stamps of its first and last bar."""

    symbols: tuple[str, ...]
    interval: str
    first: pd.Timestamp
    last: pd.Timestamp

    def __post_init__(self) -> None:
        if not self.symbols:
            raise ValueError("a market needs at least one symbol")
        if str(self.first.tz) != "UTC" or str(self.last.tz) != "UTC" or self.first > self.last:
            raise ValueError(f"expected two UTC stamps in order, got {self.first} and {self.last}")

    @classmethod
    def of(cls, bars: Bars) -> Market:
        """Return the market of the bars of a test period."""
        return cls(bars.symbols, bars.interval, bars.index[0], bars.index[-1])

    @cached_property
    def row(self) -> dict[str, str]:
        """The columns of the ledger that it fills, made once for the thousands of trials of a sweep."""
        symbols = json.dumps(self.symbols)
        return {"symbols": symbols, "interval": self.interval, "first": _text(self.first), "last": _text(self.last)}


@dataclass(frozen=True)
class Trial:
    """One thing that was tried, and what came of it.

    Attributes
    ----------
    market, bars, snapshot
        What it was tested on: the market, the number T of bars, and their SHA-256 (see `Bars.fingerprint`).
    run
        Name of the run that made it.
    forecasts
        Hash of all that decided the forecasts.
    kind
        ``backtest``, one strategy; ``sweep``, one of many settings tried together; ``evaluation``, a model whose
        forecasts were scored and not traded.
    strategy, source, account
        Canonical text of the strategy with its settings, a hash of the files it is written in and of what it decided,
        and JSON text of the account's settings. Empty for an evaluation. Decisions are in it because a file may read
        its numbers from elsewhere.
    sharpe
        Sharpe ratio of the net returns *per bar*, not annualised; None where undefined, as for an evaluation.
    periods_per_year
        Bars in a year, the root of which annualises the ratio.
    effective_bars, ruined
        Number of bars that make up the variance of the net returns, T over their kurtosis, and whether the account was
        ruined: by these a ratio may be too lucky to be called the best (`qtrade.pipeline.sweep.best_of`). All three
        are None where unknown.
    returns
        (T,) finite net returns per bar on their UTC stamps, or None. Trials that are read back come without.
    at
        UTC time at which it was made: now, unless said otherwise.
    """

    market: Market
    bars: int
    snapshot: str
    run: str
    forecasts: str
    kind: Kind
    strategy: str = ""
    source: str = ""
    account: str = ""
    sharpe: float | None = None
    periods_per_year: float | None = None
    effective_bars: float | None = None
    ruined: bool | None = None
    returns: pd.Series | None = field(default=None, compare=False, repr=False)
    at: pd.Timestamp = field(default_factory=lambda: pd.Timestamp.now("UTC"))

    def __post_init__(self) -> None:
        if (self.kind == "evaluation") != (self.strategy == ""):
            raise ValueError(f"an evaluation alone has no strategy, got {self.strategy!r} for {self.kind}")
        if self.sharpe is not None and not np.isfinite(self.sharpe):
            raise ValueError(f"an undefined Sharpe ratio is None, got {self.sharpe}")
        if self.returns is not None and (
            len(self.returns) != self.bars
            or (self.returns.index[0], self.returns.index[-1]) != (self.market.first, self.market.last)
            or not np.isfinite(self.returns.to_numpy(dtype=np.float64)).all()
        ):
            raise ValueError("returns must be finite, one for each bar of the test period")

    @property
    def id(self) -> str:
        """SHA-256 of all that makes it another trial: forecasts, strategy, source, account, snapshot and market.

        The same again, in another run or by itself instead of in a sweep, is no other trial.
        """
        tested = {**self.market.row, "symbols": sorted(self.market.symbols)}
        parts = [self.forecasts, self.strategy, self.source, self.account, self.snapshot, tested]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Tried:
    """Number of trials on a market, and the variance of their Sharpe ratios per bar (None where fewer than two).

    Trials that resemble one another all count, but they also pull the variance down, and more so: many copies of one
    would lower the bar for all. Hold the variance against that of luck alone, 1 / (T - 1), and use the larger.
    """

    trials: int
    variance: float | None


@dataclass(frozen=True)
class Ledger:
    """The ledger in the file `path`; where there is none it is empty, and the first trial makes the file.

    Any number of processes may use it at once. Every method raises `DataError` if the file is damaged, is something
    else, was written by a newer qtrade, stays locked, or may not be read or written.
    """

    path: Path

    def add(self, trials: Iterable[Trial]) -> int:
        """Record trials, all or none of them, and return how many were new.

        A trial that is there already stays as it was first recorded; only returns that it lacks are added to it.
        """
        # Hashing and compressing come first, so that other processes wait for the writing alone.
        rows, returns = [], []
        for trial in trials:
            rows.append(_row(trial))
            if trial.returns is not None:
                returns.append({"id": rows[-1]["id"], **_packed(trial.returns)})
        if not rows:
            return 0
        with self._connected(make=True) as connection:
            # The write lock comes before the first look, so that a second process waits here; had both looked first,
            # neither could write. The journal is SQLite's default: a write-ahead log needs memory that all processes
            # share, which network drives do not have, and whoever copies the file could leave the log behind.
            connection.execute("BEGIN IMMEDIATE")
            if not self._is_made(connection):
                for statement in _SCHEMA:
                    connection.execute(statement)
            elif connection.execute("PRAGMA user_version").fetchone()[0] < _LAYOUT:
                for statement in _BROUGHT_UP_TO_DATE:
                    connection.execute(statement)
            before = connection.total_changes
            connection.executemany(_ADD_TRIAL, rows)
            new = connection.total_changes - before
            connection.executemany(_ADD_RETURNS, returns)
            connection.execute("COMMIT")
        return new

    def trials(self, market: Market | None = None) -> list[Trial]:
        """Return all trials, or those on the same market (see `tried`), without returns, in the order recorded."""
        if market is None:
            return [_trial(row) for row in self._select("SELECT * FROM trials ORDER BY number", {})]
        return [_trial(row) for row in self._select(f"{_SAME_MARKET} SELECT * FROM same ORDER BY number", market.row)]

    def tried(self, market: Market, account: str = "") -> Tried:
        """Count what was ever tried on a market, in whichever run.

        A trial was on the same market if its interval is the same, at least one symbol is in common, and the test
        periods overlap. The snapshots may differ: one more bar makes another, and whoever has looked at the bars
        before it cannot unsee them.

        An evaluation is a trial too, because whoever reads its scores may choose by them. Once its forecasts are
        traded on this market the trade stands for both, or one choice would count twice. Record a trial before asking:
        it is one of those tried.

        Parameters
        ----------
        market
            Where.
        account
            Account, as in `Trial`, whose trials alone tell how far Sharpe ratios lie apart: what would happen at ten
            times the costs says nothing about that. All accounts without it. All trials count in any case.
        """
        rows = self._select(
            f"""{_SAME_MARKET} SELECT sharpe, account FROM same
            WHERE kind != 'evaluation' OR forecasts NOT IN (SELECT forecasts FROM same WHERE kind != 'evaluation')""",
            market.row,
        )
        alike = [row["sharpe"] for row in rows if not account or row["account"] == account]
        known = [sharpe for sharpe in alike if sharpe is not None]
        return Tried(len(rows), float(np.var(known, ddof=1)) if len(known) > 1 else None)

    def variants(self, market: Market, index: pd.DatetimeIndex) -> Float64Array:
        """Return the net returns of what was tried on a market (see `tried`), to estimate overfitting from (PBO).

        Parameters
        ----------
        market, index
            The market, and the UTC stamps of the T bars of the test period. Returns on other stamps cannot be set
            beside them and are left out.

        Returns
        -------
        (T, N) float64, in no particular order. A column that repeats another is left out.
        """
        rows = self._select(f"{_SAME_MARKET} SELECT stamps, net FROM same JOIN returns ON trial = number", market.row)
        ticks = _ticks(index)
        try:
            nets = [zlib.decompress(row["net"]) for row in rows if zlib.decompress(row["stamps"]) == ticks]
            columns = [np.frombuffer(net, dtype="<f8", count=len(index)) for net in nets]
        except (zlib.error, ValueError) as error:
            raise self._error(str(error)) from error
        return np.unique(np.reshape(columns, (-1, len(index))).T, axis=1)

    def _select(self, query: str, values: Mapping[str, str]) -> list[sqlite3.Row]:
        """Return the rows of a query; none before the first trial."""
        with self._connected() as connection:
            return connection.execute(query, values).fetchall() if self._is_made(connection) else []

    @contextmanager
    def _connected(self, *, make: bool = False) -> Iterator[sqlite3.Connection]:
        """Open the file, or nothing in its place unless it is to be made, and say what is wrong where that fails."""
        try:
            if make:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            place = self.path if make or self.path.exists() else ":memory:"
            # Not read-only even to read: whoever comes after a process that was killed undoes what it half wrote.
            # Without an isolation level, transactions begin and end where this module says so.
            opened = sqlite3.connect(place, timeout=_BUSY_SECONDS, isolation_level=None)
            with closing(opened) as connection:
                connection.row_factory = sqlite3.Row
                yield connection
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            raise self._error(str(error), _FIXES.get(code, _DAMAGED)) from error
        except OSError as error:
            raise self._error(error.strerror or str(error), _PERMISSION) from error

    def _is_made(self, connection: sqlite3.Connection) -> bool:
        """Return whether the tables are there: they are not in an empty file. Refuse the files of others."""
        application, layout = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if application != _APPLICATION:
            if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise self._error("it is the database of another program", "move it away, or use another folder")
            return False
        if layout > _LAYOUT:
            raise self._error(f"it has layout {layout}, this qtrade knows up to {_LAYOUT}", "install a newer qtrade")
        return True

    def _error(self, why: str, fix: str = _DAMAGED) -> DataError:
        return DataError(f"the trial ledger {self.path} cannot be used", why=why, fix=fix)


def _text(stamp: pd.Timestamp) -> str:
    """Return a UTC stamp as text that sorts like it, whatever its resolution."""
    return stamp.isoformat(timespec="nanoseconds")


def _ticks(index: pd.DatetimeIndex) -> bytes:
    """Return nanoseconds from each stamp to the next: where they are even they are compressed to almost nothing."""
    return np.diff(index.as_unit("ns").asi8, prepend=0).astype("<i8").tobytes()


def _packed(returns: pd.Series) -> dict[str, bytes]:
    net = returns.to_numpy(dtype="<f8").tobytes()
    return {"stamps": zlib.compress(_ticks(pd.DatetimeIndex(returns.index))), "net": zlib.compress(net)}


def _row(trial: Trial) -> dict[str, Any]:
    plain = {name: getattr(trial, name) for name in _AS_THEY_STAND}
    return plain | trial.market.row | {"id": trial.id, "at": _text(trial.at)}


def _trial(row: sqlite3.Row) -> Trial:
    market = _market(row["symbols"], row["interval"], row["first"], row["last"])
    known = {name: row[name] for name in _AS_THEY_STAND if name in row.keys()}  # noqa: SIM118 - a row is no mapping
    ruined = known.get("ruined")
    return Trial(market, **{**known, "ruined": None if ruined is None else bool(ruined)}, at=pd.Timestamp(row["at"]))


@lru_cache
def _market(symbols: str, interval: str, first: str, last: str) -> Market:
    return Market(tuple(json.loads(symbols)), interval, pd.Timestamp(first), pd.Timestamp(last))

"""The values that the stages hand to one another. Frozen, and checked when they are made.

Axes are named the same everywhere: T bars, S symbols, F features, M calendar marks, L past bars (``seq_len``),
H future bars (``horizon``), W windows, N forecast rows, V validation residuals.

Words with one meaning: an *origin* is the last bar known to a forecast; a *label* is what is learned; a *weight* is
decided at a close and *held* once it is filled; *purged* origins are those taken out of the end of a training
range because their labels end too late; the *age* of a model is the number of bars from ``train_end`` to the origin.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import qtrade.notebook_html as html
from qtrade.errors import DataError, IntegrityError

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

PRICE_FIELDS = ("open", "high", "low", "close")
BAR_FIELDS = (*PRICE_FIELDS, "volume")
_NAMED = 4


@dataclass(frozen=True, eq=False)
class Bars:
    """OHLCV bars of S symbols on one index.

    Attributes
    ----------
    open, high, low, close, volume
        (T, S) float64 frames that share index and columns. Prices are finite and positive; volume is finite and not
        negative (zero throughout where a market reports none, as in FX).
    interval
        Bar length in Yahoo's spelling: ``1m 2m 5m 15m 30m 60m 90m 1h 1d 1wk 1mo 3mo``.
    calendar
        Name of the trading calendar (see `qtrade.calendars`).
    periods_per_year
        Bars in a year of this market. Declared by interval and calendar, never guessed from the stamps.

    Notes
    -----
    The index is UTC and strictly increasing. An intraday stamp is the moment at which the bar *opens*; a bar of a day
    or longer carries its session date at 00:00 UTC. A row is known once its bar has closed, so a decision made "at t"
    is made at the close of row t.

    Raises
    ------
    DataError
        If any of this does not hold; the message names field, symbol and stamp.
    """

    open: pd.DataFrame
    high: pd.DataFrame
    low: pd.DataFrame
    close: pd.DataFrame
    volume: pd.DataFrame
    interval: str
    calendar: str
    periods_per_year: float

    def __post_init__(self) -> None:
        index, columns = self.close.index, self.close.columns
        if not isinstance(index, pd.DatetimeIndex) or str(index.tz) != "UTC":
            raise DataError("bars need a UTC index", why=f"got {index.dtype}")
        if len(index) == 0 or len(columns) == 0:
            raise DataError("there are no bars", fix="widen the dates, or check the symbol")
        if not index.is_monotonic_increasing or not index.is_unique:
            late = index[1:][np.diff(index.asi8) <= 0][0]
            raise DataError(f"bar stamps must increase strictly; {late} does not follow its predecessor")
        if not columns.is_unique:
            raise DataError(f"a symbol appears twice: {', '.join(map(str, columns[columns.duplicated()]))}")
        for name in BAR_FIELDS:
            frame: pd.DataFrame = getattr(self, name)
            if not (frame.index.equals(index) and frame.columns.equals(columns)):
                raise DataError(f"'{name}' does not share the index and symbols of 'close'")
            values = frame.to_numpy(dtype=np.float64)
            bad = ~np.isfinite(values) | ((values < 0) if name == "volume" else (values <= 0))
            if bad.any():
                row, column = (int(axis[0]) for axis in np.nonzero(bad))
                raise DataError(
                    f"{columns[column]}: '{name}' is {values[row, column]} at {index[row]}",
                    why=f"{int(bad.sum())} values of '{name}' are missing, infinite or out of range",
                    fix="fetch the bars again, or remove those rows from the file",
                )
        first, last = self.open.to_numpy(), self.close.to_numpy()
        top, bottom = np.maximum(first, last), np.minimum(first, last)
        # Vendors round the four prices apart from one another; 1e-6 is far below a tick and above that rounding.
        crossed = (self.high.to_numpy() < top * (1 - 1e-6)) | (self.low.to_numpy() > bottom * (1 + 1e-6))
        if crossed.any():
            row, column = (int(axis[0]) for axis in np.nonzero(crossed))
            raise DataError(
                f"{columns[column]}: high and low do not enclose open and close at {index[row]}",
                why=f"{int(crossed.sum())} bars are inconsistent",
                fix="fetch the bars again, or correct those rows in the file",
            )
        if not (np.isfinite(self.periods_per_year) and self.periods_per_year > 0):
            raise DataError(f"periods_per_year must be positive, got {self.periods_per_year}")

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"Bars({len(self):,} of {self.interval}, {_named(self.symbols)}, {_span(self.index)}, {self.calendar})"

    def _repr_html_(self) -> str:
        rows = [
            (symbol, close.iloc[0], close.iloc[-1], close.min(), close.max(), self.volume[symbol].mean())
            for symbol, close in ((symbol, self.close[symbol]) for symbol in self.symbols[: html.MOST_ROWS])
        ]
        titles = ("symbol", "first close", "last close", "lowest close", "highest close", "mean volume")
        return html.piece(html.heading(repr(self)), html.table(titles, rows, of=len(self.symbols)))

    @property
    def index(self) -> pd.DatetimeIndex:
        """UTC stamps of the T bars."""
        index = self.close.index
        assert isinstance(index, pd.DatetimeIndex)
        return index

    @property
    def symbols(self) -> tuple[str, ...]:
        """Names of the S symbols, in column order."""
        return tuple(map(str, self.close.columns))

    def rows(self, start: int, stop: int) -> Bars:
        """Return the bars at positions ``start <= t < stop``."""
        return replace(self, **{name: getattr(self, name).iloc[start:stop] for name in BAR_FIELDS})

    def select(self, symbols: Sequence[str]) -> Bars:
        """Return the bars of some symbols, in the order asked for."""
        return replace(self, **{name: getattr(self, name)[list(symbols)] for name in BAR_FIELDS})

    def fingerprint(self) -> str:
        """Return the SHA-256 of everything these bars say: stamps, symbols, values, interval, calendar."""
        digest = hashlib.sha256()
        digest.update(f"{self.interval}|{self.calendar}|{self.periods_per_year}|{self.symbols}".encode())
        digest.update(self.index.as_unit("ns").asi8.tobytes())
        for name in BAR_FIELDS:
            digest.update(np.ascontiguousarray(getattr(self, name).to_numpy(dtype=np.float64)).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Features:
    """Model inputs; row t uses bars <= t only.

    Attributes
    ----------
    values
        (T, S, F) float32. Rows before `warmup` are NaN, so that using one cannot go unnoticed; the rest is finite.
    names
        F feature names, in column order.
    index, symbols
        As in the `Bars` they were built from.
    warmup
        Number of leading rows in which some indicator has not seen enough bars.
    """

    values: Float32Array
    names: tuple[str, ...]
    index: pd.DatetimeIndex
    symbols: tuple[str, ...]
    warmup: int

    def __post_init__(self) -> None:
        shape = (len(self.index), len(self.symbols), len(self.names))
        if self.values.shape != shape or self.values.dtype != np.float32:
            raise ValueError(f"features must be float32 of shape {shape}, got {self.values.dtype} {self.values.shape}")
        if not 0 <= self.warmup <= len(self.index):
            raise ValueError(f"warmup must lie in 0..{len(self.index)}, got {self.warmup}")

    def __repr__(self) -> str:
        size = f"{len(self.index):,} bars, {len(self.names)} features, {_named(self.symbols)}"
        return f"Features({size}, the first {self.warmup:,} bars warm up)"

    def _repr_html_(self) -> str:
        known = self.values[self.warmup :].astype(np.float64)
        rows = [
            (name, *(float(pick(known[:, :, place])) for pick in (np.mean, np.std, np.min, np.max)))
            if len(known)
            else (name, None, None, None, None)
            for place, name in enumerate(self.names[: html.MOST_ROWS])
        ]
        titles = ("feature", "mean", "standard deviation", "lowest", "highest")
        return html.piece(html.heading(repr(self)), html.table(titles, rows, of=len(self.names)))


@dataclass(frozen=True)
class Fold:
    """One walk-forward step: half-open ranges of origins (bar positions) for fitting, validation and test.

    A label of origin t covers bars ``t + 1 + delay .. t + horizon + delay``. Both gaps are checked here, at run time,
    whoever made the fold (evaluation protocol: López de Prado 2018, ch. 7, one-sided).

    Raises
    ------
    IntegrityError
        If a label used for fitting ends after the first validation origin, or a validation label after the first
        test origin.
    """

    number: int
    fit: range
    valid: range
    test: range
    horizon: int
    delay: int = 0

    def __post_init__(self) -> None:
        for name in ("fit", "valid", "test"):
            span: range = getattr(self, name)
            if len(span) == 0 or span.step != 1:
                raise IntegrityError(f"fold {self.number}: '{name}' must be a non-empty range of step 1, got {span}")
        for earlier, later in (("fit", "valid"), ("valid", "test")):
            label_end = getattr(self, earlier).stop - 1 + self.horizon + self.delay
            first = getattr(self, later).start
            if label_end > first:
                raise IntegrityError(
                    f"fold {self.number}: a label of '{earlier}' ends at bar {label_end}, "
                    f"after the first origin of '{later}' at bar {first}",
                    why="the model would be fitted on what it is judged by",
                    fix=f"leave {self.horizon + self.delay - 1} origins between them",
                )

    @property
    def train_end(self) -> int:
        """Last bar that the fold's model may have seen in any way: its as-of bar, the first test origin."""
        return self.test.start


@dataclass(frozen=True, eq=False)
class Windows:
    """A batch of W windows, ready for a model. Positional: a window counts bars, not hours.

    Attributes
    ----------
    past
        (W, L, F) scaled features of the L bars that end at the origin.
    marks_past
        (W, L, M) calendar marks of those bars.
    marks_future
        (W, H, M) calendar marks of the H bars expected next, from a calendar known in advance.
    label
        (W, H) scaled target of the H bars after the origin, or None when predicting.
    origin, symbol
        (W,) positions of the origin on the bar axis and of the symbol on the symbol axis.
    """

    past: Float32Array
    marks_past: Float32Array
    marks_future: Float32Array
    label: Float32Array | None
    origin: IntArray
    symbol: IntArray


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """What a strategy decided, what it held, and what that earned.

    Attributes
    ----------
    decided
        (T, S) weights decided at the close of each bar.
    held
        (T, S) share of equity in each symbol at the close of each bar; zero once the account is ruined.
    gross, cost, net
        (T,) returns per bar as a share of the equity before it; ``net == gross - cost`` holds exactly.
    financing
        (T,) part of `cost` that no fill caused: borrowing shares, borrowing money, and funding, which may be negative.
    equity
        (T,) account value at each close.
    trades
        One row per fill, in the order of execution: ``bar`` (stamp), ``symbol``, ``size`` (signed units), ``price``
        (after slippage), ``fees``, ``slippage`` (both in money), ``decided`` (stamp of the close at which it was
        decided) and ``reason``: ``decision`` (the weight changed), ``band`` (the share had drifted), ``stop`` or
        ``target`` (the price got there).
    engine
        What simulated it: ``rust`` or ``numba`` of vectorbt, or ``reference``.
    ruined
        Bar at whose close the account was worth nothing or less, after which it stands still; None if it never was.
    """

    decided: pd.DataFrame
    held: pd.DataFrame
    gross: pd.Series
    cost: pd.Series
    net: pd.Series
    financing: pd.Series
    equity: pd.Series
    trades: pd.DataFrame
    engine: str
    ruined: pd.Timestamp | None = None

    def __post_init__(self) -> None:
        if not np.array_equal(self.net.to_numpy(), (self.gross - self.cost).to_numpy()):
            raise IntegrityError("net return is not gross minus cost")

    def __repr__(self) -> str:
        grown = self.equity.iloc[-1] / self.equity.iloc[0] - 1
        end = "" if self.ruined is None else f", ruined at {self.ruined}"
        return f"BacktestResult({len(self.net):,} bars, {len(self.trades):,} fills, equity {grown:+.2%}{end})"

    def _repr_html_(self) -> str:
        sums = {name: f"{getattr(self, name).sum():+.2%}" for name in ("gross", "cost", "net")}
        titles = {"gross": "gross return, summed", "cost": "cost, summed", "net": "net return, summed"}
        return html.piece(html.heading(repr(self)), html.facts({titles[name]: value for name, value in sums.items()}))


def _named(symbols: Sequence[str]) -> str:
    """Name a few symbols, and count more."""
    return ", ".join(symbols) if len(symbols) <= _NAMED else f"{len(symbols)} symbols"


def _span(index: pd.DatetimeIndex) -> str:
    return f"{index[0]:%Y-%m-%d} to {index[-1]:%Y-%m-%d}"

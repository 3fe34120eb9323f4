"""The values that the stages hand to one another. Frozen, and checked when they are made.

Axes are named the same everywhere: T bars, S symbols, F features, M calendar marks, L past bars (``seq_len``),
H future bars (``horizon``), W windows, N forecast rows, V validation residuals.

Words with one meaning: an *origin* is the last bar known to a forecast; a *label* is what is learned; a *weight* is
decided at a close and *held* once it is filled; *purged* origins are those taken out of the end of a training
range because their labels end too late; the *age* of a model is the number of bars from ``train_end`` to the origin.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtrade.errors import DataError, IntegrityError, UsageError

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

PRICE_FIELDS = ("open", "high", "low", "close")
BAR_FIELDS = (*PRICE_FIELDS, "volume")


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
class Forecasts:
    """Predicted paths of log returns, one row per (symbol, origin, fold, seed).

    Attributes
    ----------
    path
        (N, H) float64 log returns of bars t+1 .. t+H, where t is the origin.
    symbol
        (N,) symbol names.
    origin, train_end
        (N,) UTC stamps of the last bar known to the forecast, and of the last bar known to its model.
    fold, seed
        (N,) number of the fold and of the seed replicate.
    residuals
        For each (fold, seed, symbol) the (V, H) validation errors, actual minus predicted, in origin order. They are
        the only source of the spread that `sample` and `quantile` draw from.

    Raises
    ------
    IntegrityError
        If an origin lies before the end of its model's training data.
    """

    path: Float64Array
    symbol: NDArray[np.object_]
    origin: pd.DatetimeIndex
    fold: IntArray
    seed: IntArray
    train_end: pd.DatetimeIndex
    residuals: Mapping[tuple[int, int, str], Float64Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.ndim != 2:
            raise ValueError(f"path must be (N, H), got shape {self.path.shape}")
        rows = len(self.path)
        for name in ("symbol", "origin", "fold", "seed", "train_end"):
            if len(getattr(self, name)) != rows:
                raise ValueError(f"'{name}' has {len(getattr(self, name))} rows, path has {rows}")
        if not np.isfinite(self.path).all():
            bad = int(np.nonzero(~np.isfinite(self.path).all(axis=1))[0][0])
            raise DataError(
                f"the forecast for {self.symbol[bad]} at {self.origin[bad]} is not finite (fold {self.fold[bad]})"
            )
        if (self.origin < self.train_end).any():
            bad = int(np.nonzero(np.asarray(self.origin < self.train_end))[0][0])
            raise IntegrityError(
                f"the forecast for {self.symbol[bad]} at {self.origin[bad]} comes from a model "
                f"trained until {self.train_end[bad]}"
            )
        for key, bank in self.residuals.items():
            if bank.ndim != 2 or bank.shape[1] != self.horizon or len(bank) == 0:
                raise ValueError(f"residuals of {key} must be (V, {self.horizon}) with V > 0, got {bank.shape}")

    def __len__(self) -> int:
        return len(self.path)

    @property
    def horizon(self) -> int:
        """Number of steps H."""
        return int(self.path.shape[1])

    def where(self, keep: NDArray[np.bool_]) -> Forecasts:
        """Return the rows for which `keep` (N,) is true; the residual bank stays whole."""
        return replace(
            self,
            path=self.path[keep],
            symbol=self.symbol[keep],
            origin=self.origin[keep],
            fold=self.fold[keep],
            seed=self.seed[keep],
            train_end=self.train_end[keep],
        )

    def cumulative(self) -> Float64Array:
        """(N, H) cumulative log return from the origin's close to each step."""
        return np.cumsum(self.path, axis=1)

    def expected(self, step: int) -> pd.DataFrame:
        """Cumulative log return expected `step` bars ahead, as an (origins, symbols) frame averaged over seeds.

        Parameters
        ----------
        step
            1 .. H.

        Raises
        ------
        UsageError
            If `step` lies outside 1 .. H.
        """
        if not 1 <= step <= self.horizon:
            raise UsageError(
                f"step {step} lies outside the forecast path",
                why=f"these forecasts have {self.horizon} steps",
                fix=f"choose a step from 1 to {self.horizon}",
            )
        values = pd.Series(self.path[:, :step].sum(axis=1), index=pd.MultiIndex.from_arrays([self.origin, self.symbol]))
        return values.groupby(level=[0, 1], sort=True).mean().unstack()

    def seed_mean(self) -> Forecasts:
        """Average path and residual bank over seed replicates; rows ordered by origin, then symbol; seed is -1."""
        frame = pd.DataFrame(self.path)
        keys = [
            pd.Series(self.origin, name="origin"),
            pd.Series(self.symbol, name="symbol"),
            pd.Series(self.fold, name="fold"),
            pd.Series(self.train_end, name="train_end"),
        ]
        mean = frame.groupby(keys, sort=True).mean()
        banks: dict[tuple[int, int, str], list[Float64Array]] = {}
        for (fold, _, symbol), bank in self.residuals.items():
            banks.setdefault((fold, -1, symbol), []).append(bank)
        rows = mean.index
        return Forecasts(
            path=mean.to_numpy(dtype=np.float64),
            symbol=rows.get_level_values("symbol").to_numpy(dtype=object),
            origin=pd.DatetimeIndex(rows.get_level_values("origin")),
            fold=rows.get_level_values("fold").to_numpy(dtype=np.int64),
            seed=np.full(len(mean), -1, dtype=np.int64),
            train_end=pd.DatetimeIndex(rows.get_level_values("train_end")),
            residuals={key: np.mean(parts, axis=0) for key, parts in banks.items()},
        )

    def sample(self, n: int, *, seed: int) -> Float64Array:
        """Draw `n` joint paths per row: the path plus whole validation residual rows, so steps stay dependent.

        What is drawn for a row follows from `seed`, its symbol and its origin alone: rows beside it change nothing.

        Returns
        -------
        (N, n, H) float64 log returns.
        """
        symbol = pd.util.hash_array(self.symbol, categorize=True)
        row = pd.util.hash_array(self.origin.as_unit("ns").asi8.view(np.uint64) ^ symbol)
        draw = np.random.default_rng(seed).integers(2**64, size=n, dtype=np.uint64)
        random = pd.util.hash_array((row[:, None] ^ draw).ravel()).reshape(-1, n)
        paths = np.empty((len(self), n, self.horizon))
        for rows, bank in self._banks():
            drawn = random[rows] % np.uint64(len(bank))
            paths[rows] = self.path[rows, None, :] + bank[drawn]
        return paths

    def quantile(self, q: float) -> Float64Array:
        """(N, H) quantile `q` of the *cumulative* return at each step, exactly, from the residual bank."""
        values = self.cumulative()
        for rows, bank in self._banks():
            values[rows] += np.quantile(np.cumsum(bank, axis=1), q, axis=0)
        return values

    def to_long(self) -> pd.DataFrame:
        """One row per (symbol, origin, fold, seed, step) with ``y_hat``, the log return of that bar."""
        steps = self.horizon
        return pd.DataFrame(
            {
                "symbol": np.repeat(self.symbol, steps),
                "origin": self.origin.repeat(steps),
                "fold": np.repeat(self.fold, steps),
                "seed": np.repeat(self.seed, steps),
                "train_end": self.train_end.repeat(steps),
                "step": np.tile(np.arange(1, steps + 1), len(self)),
                "y_hat": self.path.ravel(),
            }
        )

    def _banks(self) -> list[tuple[IntArray, Float64Array]]:
        """Row positions that share a residual bank, with that bank."""
        keys = pd.MultiIndex.from_arrays([self.fold, self.seed, self.symbol])
        codes, unique = keys.factorize()
        missing = [key for key in unique if key not in self.residuals]
        if missing:
            raise DataError(
                f"there are no validation residuals for (fold, seed, symbol) {missing[0]}",
                why="the spread of a path comes from its fold's validation errors",
                fix="train again, so that residuals.parquet is written",
            )
        return [
            (np.nonzero(codes == number)[0].astype(np.int64), self.residuals[key]) for number, key in enumerate(unique)
        ]


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """What a strategy decided, what it held, and what that earned.

    Attributes
    ----------
    decided
        (T, S) weights decided at the close of each bar.
    held
        (T, S) share of equity in each symbol at the close of each bar.
    gross, cost, net
        (T,) returns per bar as a share of the equity before it; ``net == gross - cost`` holds exactly.
    equity
        (T,) account value at each close.
    trades
        One row per fill: ``bar`` (stamp), ``symbol``, ``size`` (signed units), ``price`` (after slippage),
        ``fees``, ``slippage`` (both in money).
    """

    decided: pd.DataFrame
    held: pd.DataFrame
    gross: pd.Series
    cost: pd.Series
    net: pd.Series
    equity: pd.Series
    trades: pd.DataFrame

    def __post_init__(self) -> None:
        if not np.array_equal(self.net.to_numpy(), (self.gross - self.cost).to_numpy()):
            raise IntegrityError("net return is not gross minus cost")

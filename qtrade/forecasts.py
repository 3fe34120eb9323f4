"""Predicted paths of log returns, and what is known of their spread: what a model says, kept apart from any use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import qtrade.notebook_html as html
from qtrade.errors import DataError, IntegrityError, UsageError
from qtrade.paths import Paths, missing_residuals
from qtrade.types import Bars, Float64Array, IntArray


@dataclass
class _Memory:
    """Answers that are asked for again and again, as by every strategy of a sweep."""

    paths: Paths | None = None
    expected: dict[int, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Forecasts:
    """Predicted paths of log returns, one row per (symbol, origin, fold, seed).

    Attributes
    ----------
    path
        (N, H) float64 log returns of bars t+1+delay .. t+H+delay, where t is the origin.
    symbol
        (N,) symbol names.
    origin, train_end
        (N,) UTC stamps of the last bar known to the forecast, and of the last bar known to its model.
    fold, seed
        (N,) number of the fold and of the seed replicate.
    residuals
        For each (fold, seed, symbol) the (V, H) validation errors, actual minus predicted, in origin order. They are
        the only source of the spread that `sample` and `quantile` draw from.
    delay
        Bars between the origin's close and the close at which the path starts.
    validated
        For each key of `residuals` the (V,) origins of its rows; may be empty, or hold other keys.

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
    delay: int = 0
    validated: Mapping[tuple[int, int, str], pd.DatetimeIndex] = field(default_factory=dict)

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
            if key in self.validated and len(self.validated[key]) != len(bank):
                raise ValueError(
                    f"residuals of {key} have {len(bank)} rows, but {len(self.validated[key])} validation origins"
                )
        if self.delay < 0:
            raise ValueError(f"delay must not be negative, got {self.delay}")

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what can be worked out again."""
        return {name: value for name, value in vars(self).items() if name not in ("_memory", "_axes")}

    def __len__(self) -> int:
        return len(self.path)

    def __repr__(self) -> str:
        names = len(set(self.symbol))
        size = f"{len(self):,} paths of {self.horizon} steps, {names} symbol{'s' if names != 1 else ''}"
        span = f", {self.origin.min():%Y-%m-%d} to {self.origin.max():%Y-%m-%d}" if len(self) else ""
        return f"Forecasts({size}, {len(np.unique(self.fold))} folds, {len(np.unique(self.seed))} seeds{span})"

    def _repr_html_(self) -> str:
        end = self.path.sum(axis=1)
        rows = []
        for symbol in dict.fromkeys(self.symbol):
            mine = self.symbol == symbol
            origins, moves = self.origin[mine], np.expm1(end[mine])
            spread = tuple(f"{one:+.2%}" for one in (moves.min(), np.median(moves), moves.max()))
            rows.append((symbol, len(origins), f"{origins.min():%Y-%m-%d}", f"{origins.max():%Y-%m-%d}", *spread))
        last = f"after {self.horizon} bars"
        titles = ("symbol", "forecasts", "first origin", "last origin", f"lowest {last}", "median", "highest")
        return html.piece(html.heading(repr(self)), html.table(titles, rows[: html.MOST_ROWS], of=len(rows)))

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
        if step not in self._memory.expected:
            self._memory.expected[step] = self._average(self.path[:, :step].sum(axis=1))
        # A shallow copy: what is written into it stays there (copy-on-write).
        return self._memory.expected[step].copy(deep=False)

    def on(self, bars: Bars) -> Paths:
        """Lay the paths out on the bars of a market, averaged over seeds.

        Forecasts of other symbols or stamps are left out. The answer for the same bars is remembered.

        Raises
        ------
        ValueError
            If two folds forecast one symbol at one origin.
        """
        index, columns = bars.index, bars.close.columns
        last = self._memory.paths
        if last is None or not (last.index.is_(index) and last.columns.is_(columns)):  # the same, or views of it
            # Seed -1 says that it is done. Whether rows repeat must not decide: they may do so in the future only.
            mean = self if (self.seed == -1).all() else self.seed_mean()
            last = self._memory.paths = mean._laid_out(index, columns)
        return last

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
        validated = {(fold, -1, symbol): origins for (fold, _, symbol), origins in self.validated.items()}
        rows = mean.index
        return Forecasts(
            path=mean.to_numpy(dtype=np.float64),
            symbol=rows.get_level_values("symbol").to_numpy(dtype=object),
            origin=pd.DatetimeIndex(rows.get_level_values("origin")),
            fold=rows.get_level_values("fold").to_numpy(dtype=np.int64),
            seed=np.full(len(mean), -1, dtype=np.int64),
            train_end=pd.DatetimeIndex(rows.get_level_values("train_end")),
            residuals={key: np.mean(parts, axis=0) for key, parts in banks.items()},
            delay=self.delay,
            validated=validated,
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
            raise missing_residuals(missing[0])
        return [
            (np.nonzero(codes == number)[0].astype(np.int64), self.residuals[key]) for number, key in enumerate(unique)
        ]

    def _laid_out(self, index: pd.DatetimeIndex, columns: pd.Index) -> Paths:
        """Put every row in its place on the axes of a market; there is one row per symbol and origin."""
        row = index.get_indexer(self.origin)
        column = pd.Index(list(map(str, columns)), dtype=object).get_indexer(pd.Index(self.symbol, dtype=object))
        here = (row >= 0) & (column >= 0)
        cell = row[here] * len(columns) + column[here]
        size = len(index) * len(columns)
        if len(cell) and np.bincount(cell).max() > 1:
            raise ValueError("there are several forecasts of one symbol at one origin, from different folds")
        returns = np.full((size, self.horizon), np.nan)
        returns[cell] = self.path[here]
        folds, ends = np.full(size, -1, dtype=np.int64), np.full(size, -1, dtype=np.int64)
        folds[cell] = self.fold[here]
        ends[cell] = index.searchsorted(self.train_end[here], side="right") - 1
        shape = (len(index), len(columns))
        return Paths(
            index=index,
            columns=columns,
            returns=returns.reshape(*shape, self.horizon),
            folds=folds.reshape(shape),
            train_ends=ends.reshape(shape),
            banks={(fold, symbol): bank for (fold, seed, symbol), bank in self.residuals.items() if seed == -1},
            delay=self.delay,
        )

    def _average(self, values: Float64Array) -> pd.DataFrame:
        """Lay the mean over rows of the same origin and symbol out as an (origins, symbols) frame; NaN without any."""
        row, origins, column, symbols = self._axes
        cell, shape = row * len(symbols) + column, (len(origins), len(symbols))
        count = np.bincount(cell, minlength=shape[0] * shape[1])
        total = np.bincount(cell, weights=values, minlength=len(count))
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return pd.DataFrame(mean.reshape(shape), index=origins, columns=symbols)

    @cached_property
    def _axes(self) -> tuple[IntArray, pd.Index, IntArray, pd.Index]:
        """Position of each row among the sorted origins, those origins, and the same of symbols."""
        row, origins = pd.factorize(self.origin, sort=True)
        column, symbols = pd.factorize(self.symbol, sort=True)
        return row, origins.rename(self.origin.name), column, pd.Index(symbols)

    @cached_property
    def _memory(self) -> _Memory:
        return _Memory()

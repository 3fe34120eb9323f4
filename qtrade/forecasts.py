"""Predicted paths of log returns, and what is known of their spread: what a model says, kept apart from any use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtrade.errors import DataError, IntegrityError, UsageError
from qtrade.types import Float64Array, IntArray


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

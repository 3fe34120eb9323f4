"""Every fold's model on every fold's test period: what it remembers, what it foretells, what it has forgotten.

A model that is asked about a period before its own training ended has seen the answers; one that is asked about its
own test period is what a trader would have had; one that is asked later is stale. The same origins are put to all of
them, so what differs between two cells of a column is the model and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from qtrade.evaluation.plain import plain
from qtrade.evaluation.significance import ewc_test, mean_interval
from qtrade.types import Float64Array, IntArray

# An error of a mean is not estimated from fewer origins than this.
LEAST_ORIGINS = 20


@dataclass(frozen=True, eq=False)
class Transfer:
    """What K models said at O test origins of S symbols about Q horizons, and what happened.

    Not `Forecasts`: most of these were made by models that know what comes, and nothing may trade them.

    Attributes
    ----------
    horizons
        Q horizons in bars, ascending.
    train_end
        (K,) position of the last bar each model knows, ascending.
    origin
        (O,) positions of the test origins of all folds, consecutive.
    fold
        (O,) the fold whose test period holds each origin: an index into `train_end`.
    predicted
        (K, O, S, Q) cumulative log return; NaN where a model was not asked.
    actual
        (O, S, Q) what happened; NaN where it is not known yet.
    """

    horizons: tuple[int, ...]
    train_end: IntArray
    origin: IntArray
    fold: IntArray
    predicted: Float64Array
    actual: Float64Array

    def __post_init__(self) -> None:
        shape = (len(self.train_end), len(self.origin), self.predicted.shape[2], len(self.horizons))
        if self.predicted.shape != shape or self.actual.shape != shape[1:] or len(self.fold) != len(self.origin):
            raise ValueError(f"predicted {self.predicted.shape} and actual {self.actual.shape} are not {shape}")
        if (np.diff(self.origin) != 1).any() or (np.diff(self.train_end) <= 0).any():
            raise ValueError("origins must be consecutive bars, and models ordered by what they know")
        if (self.origin < self.train_end[self.fold]).any():
            raise ValueError("a fold's test period begins before its training ends")

    @property
    def models(self) -> int:
        """Number of models K."""
        return len(self.train_end)

    @cached_property
    def size(self) -> Float64Array:
        """(S, Q) mean squared outcome of each symbol and horizon, which makes errors of several comparable.

        Zero moves have no size; such a symbol counts for nothing.
        """
        size = np.nanmean(np.where(self.known[:, None, None], self.actual, np.nan) ** 2, axis=0)
        return np.where(size > 0, size, np.inf)

    @cached_property
    def known(self) -> Any:
        """(O,) whether what happened is known at every horizon and of every symbol."""
        return np.isfinite(self.actual).all(axis=(1, 2))

    @cached_property
    def loss(self) -> Float64Array:
        """(K, O) squared error of a model at an origin, over that of no change: the mean over symbols and horizons.

        NaN where the model was not asked or the outcome is not known. The mean of ``1 - loss`` over origins is R2
        against no change, taken over the whole path.
        """
        errors = (self.predicted - self.actual) ** 2 / self.size
        return np.where(self.known, errors.mean(axis=(2, 3)), np.nan)

    @cached_property
    def naive_loss(self) -> Float64Array:
        """(O,) the same of no change; its mean is one."""
        return np.where(self.known, (self.actual**2 / self.size).mean(axis=(1, 2)), np.nan)


@dataclass(frozen=True)
class Skill:
    """R2 against no change over the whole path, with its standard error and the number of origins behind it."""

    r2: float
    error: float
    origins: int

    def to_dict(self) -> dict[str, float | int | None]:
        """Return plain values."""
        return {"r2": plain(self.r2), "r2_standard_error": plain(self.error), "origins": self.origins}


@dataclass(frozen=True)
class Difference:
    """How much more of the squared outcome one kind of model explains than another, on the same origins."""

    r2_points: float
    low: float
    high: float
    p: float

    def to_dict(self) -> dict[str, float | None]:
        """Return plain values; differences of R2 are shares of the squared outcome."""
        return {"r2_points": self.r2_points, "low95": self.low, "high95": self.high, "p": self.p}


@dataclass(frozen=True, eq=False)
class Matrix:
    """The transfer matrix.

    Attributes
    ----------
    r2, error
        (K, K) R2 against no change over the whole path of model (row) on test period (column), and its standard
        error; NaN where fewer than `LEAST_ORIGINS` origins are shared by all models.
    origins
        (K,) origins behind each cell of a column.
    seen, honest, stale
        Averages over the cells below the diagonal (the model has seen what it is asked), on it, and above it (the
        model is older than it need be). None where there is no such cell.
    optimism, decay
        How much better models are at what they have seen than walking forward, and how much walking forward is better
        than stale models; each on the origins where both exist.
    """

    r2: Float64Array
    error: Float64Array
    origins: IntArray
    seen: Skill | None
    honest: Skill | None
    stale: Skill | None
    optimism: Difference | None
    decay: Difference | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        parts = {name: getattr(self, name) for name in ("seen", "honest", "stale", "optimism", "decay")}
        return {
            "r2_model_by_period": [[plain(value) for value in row] for row in self.r2],
            "r2_standard_error": [[plain(value) for value in row] for row in self.error],
            "origins_per_period": self.origins.tolist(),
            **{name: None if part is None else part.to_dict() for name, part in parts.items()},
        }


def transfer_matrix(transfer: Transfer) -> Matrix:
    """Score every model on every test period, at the origins that were put to all of them."""
    count = transfer.models
    shared = np.isfinite(transfer.loss).all(axis=0)
    r2, error = np.full((count, count), np.nan), np.full((count, count), np.nan)
    origins = np.bincount(transfer.fold[shared], minlength=count).astype(np.int64)
    for period in range(count):
        rows = shared & (transfer.fold == period)
        if origins[period] >= LEAST_ORIGINS:
            for model in range(count):
                one = _skill(transfer.loss[model, rows], transfer.naive_loss[rows])
                r2[model, period], error[model, period] = one.r2, one.error
    loss, naive, fold = transfer.loss[:, shared], transfer.naive_loss[shared], transfer.fold[shared]
    place = np.arange(count)[:, None] - fold  # above zero: the model was made after the period began
    kinds = {"seen": place > 0, "honest": place == 0, "stale": place < 0}
    series = {name: _mean_of(loss, cells) for name, cells in kinds.items()}
    return Matrix(
        r2=r2,
        error=error,
        origins=origins,
        **{name: _averaged(values, naive) for name, values in series.items()},
        optimism=_difference(series["honest"], series["seen"], naive),
        decay=_difference(series["stale"], series["honest"], naive),
    )


def compare(worse: Float64Array, better: Float64Array, naive: Float64Array) -> Difference:
    """Test whether one loss is larger than another on the same origins, in R2 points.

    Parameters
    ----------
    worse, better, naive
        (O,) losses in time order.
    """
    series = (worse - better) / naive.mean()
    low, high = mean_interval(series)
    test = ewc_test(series)
    return Difference(test.mean, low, high, test.p)


def _skill(loss: Float64Array, naive: Float64Array) -> Skill:
    """R2 with the error of a ratio of means, to first order."""
    scale = naive.mean()
    r2 = float(1 - loss.mean() / scale)
    influence = (naive - loss - r2 * naive) / scale
    low, high = mean_interval(influence, level=0.6826894921370859)
    return Skill(r2, (high - low) / 2, len(loss))


def _mean_of(loss: Float64Array, cells: Any) -> Float64Array:
    """(O,) mean loss of some models at each origin; NaN where there is none."""
    counts = cells.sum(axis=0)
    sums = np.where(cells, loss, 0.0).sum(axis=0)
    mean: Float64Array = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return mean


def _averaged(loss: Float64Array, naive: Float64Array) -> Skill | None:
    there = np.isfinite(loss)
    return _skill(loss[there], naive[there]) if there.sum() >= LEAST_ORIGINS else None


def _difference(worse: Float64Array, better: Float64Array, naive: Float64Array) -> Difference | None:
    both = np.isfinite(worse) & np.isfinite(better)
    return compare(worse[both], better[both], naive[both]) if both.sum() >= LEAST_ORIGINS else None

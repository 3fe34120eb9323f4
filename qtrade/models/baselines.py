"""Forecasts that a deep model has to beat: no change, the average change, and a linear model."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from qtrade.errors import DataError
from qtrade.files import atomic_path
from qtrade.models.base import History, Shape, make_header, read_header
from qtrade.models.settings import NoSettings, RidgeConfig
from qtrade.progress import Progress
from qtrade.settings import Settings
from qtrade.types import Float64Array
from qtrade.windows import Rows, Samples, label_offsets


class Naive:
    """The random walk: every future return is zero."""

    name: ClassVar[str] = "naive"

    def __init__(self, shape: Shape, settings: NoSettings) -> None:
        self.shape, self.settings = shape, settings

    def fit(self, samples: Samples, fit: Rows, valid: Rows, *, seed: int, progress: Progress) -> History:
        """Learn nothing; measure the validation loss."""
        return _history(self.predict(samples, valid), samples, valid)

    def predict(self, samples: Samples, rows: Rows) -> Float64Array:
        """Return zeros."""
        return np.zeros((len(rows), self.shape.window.horizon))

    def save(self, path: Path) -> None:
        """Write the header alone."""
        _save(path, self.name, self.shape, self.settings, {})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        shape, settings = read_header(path, cls.name)
        return cls(shape, NoSettings(**settings))


class Drift:
    """The random walk with drift: every future return of a symbol is its mean over the fitting labels."""

    name: ClassVar[str] = "drift"

    def __init__(self, shape: Shape, settings: NoSettings) -> None:
        self.shape, self.settings = shape, settings
        self.mean: Float64Array = np.zeros(0)

    def fit(self, samples: Samples, fit: Rows, valid: Rows, *, seed: int, progress: Progress) -> History:
        """Average the target of each symbol over the bars that the fitting labels cover."""
        assert samples.target is not None, "fitting needs labels"
        ahead = label_offsets(samples.window.horizon, samples.delay)
        first, last = fit.origin.min() + ahead[0], fit.origin.max() + ahead[-1]
        self.mean = samples.target[first : last + 1].mean(axis=0, dtype=np.float64)
        return _history(self.predict(samples, valid), samples, valid)

    def predict(self, samples: Samples, rows: Rows) -> Float64Array:
        """Return each symbol's mean at every step."""
        return np.repeat(self.mean[rows.symbol][:, None], self.shape.window.horizon, axis=1)

    def save(self, path: Path) -> None:
        """Write the means."""
        _save(path, self.name, self.shape, self.settings, {"mean": self.mean})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        shape, settings = read_header(path, cls.name)
        model = cls(shape, NoSettings(**settings))
        model.mean = load_file(path)["mean"]
        return model


class Ridge:
    """Direct multi-step ridge regression of the path on the features at the origin.

    One linear map from the (F,) scaled features of the origin to the (H,) path, all symbols pooled, with an intercept
    that is not penalised. The penalty with the smallest validation error is kept.
    """

    name: ClassVar[str] = "ridge"

    def __init__(self, shape: Shape, settings: RidgeConfig) -> None:
        self.shape, self.settings = shape, settings
        self.weight: Float64Array = np.zeros((0, 0))
        self.intercept: Float64Array = np.zeros(0)

    def fit(self, samples: Samples, fit: Rows, valid: Rows, *, seed: int, progress: Progress) -> History:
        """Solve the normal equations once for every penalty, through one eigendecomposition."""
        label = samples.labels(fit).astype(np.float64)
        inputs = _at_origin(samples, fit)
        centre, mean = inputs.mean(axis=0), label.mean(axis=0)
        # Clipping and constant columns leave the Gram matrix symmetric and positive semi-definite, so eigh is exact.
        roots, basis = np.linalg.eigh((inputs - centre).T @ (inputs - centre))
        moment = basis.T @ ((inputs - centre).T @ (label - mean))
        best: History | None = None
        kept = (self.weight, self.intercept)
        for penalty in self.settings.penalties:
            curvature = np.maximum(roots, 0.0) + penalty
            # Without a penalty, a direction in which the inputs do not vary says nothing, and gets no weight.
            varies = curvature > np.finfo(np.float64).eps * len(inputs) * curvature.max()
            inverse = np.divide(1.0, curvature, out=np.zeros_like(curvature), where=varies)
            self.weight = basis @ (moment * inverse[:, None])
            self.intercept = mean - centre @ self.weight
            history = _history(self.predict(samples, valid), samples, valid)
            if best is None or history.valid_loss < best.valid_loss:
                best, kept = history, (self.weight, self.intercept)
        assert best is not None, "there is at least one penalty"
        self.weight, self.intercept = kept
        return best

    def predict(self, samples: Samples, rows: Rows) -> Float64Array:
        """Apply the linear map."""
        # einsum without BLAS adds up each row on its own, so that a row does not depend on how many there are.
        path: Float64Array = np.einsum("wf,fh->wh", _at_origin(samples, rows), self.weight, optimize=False)
        return path + self.intercept

    def save(self, path: Path) -> None:
        """Write weight and intercept."""
        _save(path, self.name, self.shape, self.settings, {"weight": self.weight, "intercept": self.intercept})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        shape, settings = read_header(path, cls.name)
        model = cls(shape, RidgeConfig(**settings))
        tensors = load_file(path)
        model.weight, model.intercept = tensors["weight"], tensors["intercept"]
        return model


def _at_origin(samples: Samples, rows: Rows) -> Float64Array:
    """(W, F) features of the origin's own bar."""
    return samples.values[rows.origin, rows.symbol].astype(np.float64)


def _history(path: Float64Array, samples: Samples, valid: Rows) -> History:
    loss = float(np.mean((path - samples.labels(valid)) ** 2))
    return History(epochs=(), best_epoch=0, valid_loss=loss)


def _save(path: Path, name: str, shape: Shape, settings: Settings, tensors: dict[str, Float64Array]) -> None:
    header = make_header(name, shape, settings)
    if not all(np.isfinite(values).all() for values in tensors.values()):
        raise DataError(
            f"the {name} model has weights that are not finite", fix="look at the features it was fitted on"
        )
    with atomic_path(path) as temporary:
        save_file({key: np.ascontiguousarray(values) for key, values in tensors.items()}, temporary, metadata=header)

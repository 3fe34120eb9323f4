"""Scaling features and target to unit size, with what the fit bars say and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from qtrade.errors import DataError
from qtrade.files import read_json, write_json
from qtrade.types import Features, Float32Array, Float64Array, IntArray

CLIP = 10.0
"""Bound on a scaled feature, in standard deviations of the fit bars.

Ten is beyond what ordinary markets reach and below what one bad print or one crash would otherwise feed a network.
The target is never clipped.
"""

_CONSTANT = 1e-8
"""Standard deviation below which a column says nothing; features are ratios, whose usual size is 1e-4 to 1."""


@dataclass(frozen=True, eq=False)
class Scaler:
    """Location and scale of S symbols, each on its own.

    A target of returns is divided but not centred: zero stays zero, so a forecast of no change means the same in both
    units. A target of levels is centred, too.

    Attributes
    ----------
    symbols, names
        The S symbols and F features it was fitted on, in order.
    mean, std
        (S, F) mean and population standard deviation of each feature; the deviation of a constant column is 1.
    target_mean
        (S,) mean of a target of levels; zero for one of returns.
    target_scale
        (S,) population standard deviation of the target.
    constant
        (symbol, feature) pairs that did not vary over the fit bars.
    last_row
        Position of the last bar it was fitted on.
    """

    symbols: tuple[str, ...]
    names: tuple[str, ...]
    mean: Float64Array
    std: Float64Array
    target_mean: Float64Array
    target_scale: Float64Array
    constant: tuple[tuple[str, str], ...]
    last_row: int

    def __post_init__(self) -> None:
        shape = (len(self.symbols), len(self.names))
        if not (self.mean.shape == self.std.shape == shape):
            raise ValueError(f"scaler needs mean and std of shape {shape}")
        if not (self.target_mean.shape == self.target_scale.shape == shape[:1]):
            raise ValueError(f"scaler needs target_mean and target_scale of shape {shape[:1]}")
        if not all(np.isfinite(part).all() for part in (self.mean, self.std, self.target_mean, self.target_scale)):
            raise ValueError("scaler values must be finite")
        if not ((self.std > 0).all() and (self.target_scale > 0).all()):
            raise ValueError("scales must be positive")

    @classmethod
    def fit(cls, features: Features, target: Float64Array, rows: range, *, centred: bool = False) -> Self:
        """Measure the bars at positions `rows`.

        Parameters
        ----------
        features
            Unscaled features.
        target
            (T, S) unscaled target, each row known at its bar.
        rows
            From the first bar of the fit origins' inputs to the last fit origin, after the warm-up.
        centred
            Whether the target is one of levels, whose mean is taken off.

        Raises
        ------
        DataError
            If the target of a symbol does not vary over these bars.
        """
        if len(rows) == 0 or rows.step != 1 or rows.start < features.warmup or rows.stop > len(features.index):
            raise ValueError(f"rows must be a range within {features.warmup}..{len(features.index)}, got {rows}")
        inside = slice(rows.start, rows.stop)
        mean, std = _mean_and_std(features.values[inside])
        constant = std < _CONSTANT
        target_scale = target[inside].std(axis=0)
        if (target_scale < _CONSTANT).any():
            symbol = features.symbols[int(np.argmax(target_scale < _CONSTANT))]
            raise DataError(
                f"the target of {symbol} does not vary",
                why=f"it is the same on every bar from {features.index[rows[0]]} to {features.index[rows[-1]]}",
                fix=f"leave out {symbol}, or choose dates on which it was traded",
            )
        return cls(
            symbols=features.symbols,
            names=features.names,
            mean=mean,
            std=np.where(constant, 1.0, std),
            target_mean=target[inside].mean(axis=0) if centred else np.zeros(len(features.symbols)),
            target_scale=target_scale,
            constant=tuple(
                (features.symbols[symbol], features.names[name]) for symbol, name in np.argwhere(constant).tolist()
            ),
            last_row=rows[-1],
        )

    def transform(self, values: Float32Array) -> Float32Array:
        """Scale features (T, S, F) and clip them to ± `CLIP`; rows of the warm-up stay NaN."""
        scaled = np.empty_like(values, dtype=np.float32)
        for part in _parts(values):
            scaled[part] = np.clip((values[part] - self.mean) / self.std, -CLIP, CLIP)
        return scaled

    def transform_target(self, target: Float64Array) -> Float32Array:
        """Scale a target (T, S)."""
        return ((target - self.target_mean) / self.target_scale).astype(np.float32)

    def inverse_target(self, path: Float32Array | Float64Array, symbol: IntArray) -> Float64Array:
        """Turn scaled paths (W, H) of the symbols at positions `symbol` (W,) back into the target's own unit."""
        scaled = path.astype(np.float64)
        unscaled: Float64Array = scaled * self.target_scale[symbol, None] + self.target_mean[symbol, None]
        return unscaled

    def save(self, path: Path) -> None:
        """Write JSON from which `load` gives the same numbers to the last bit."""
        write_json(
            path,
            {
                "symbols": self.symbols,
                "names": self.names,
                "mean": self.mean.tolist(),
                "std": self.std.tolist(),
                "target_mean": self.target_mean.tolist(),
                "target_scale": self.target_scale.tolist(),
                "constant": self.constant,
                "last_row": self.last_row,
            },
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        DataError
            If the file is missing, unreadable or not a scaler.
        """
        fix = "train this fold again"
        content: Any = read_json(path, fix=fix)
        try:
            return cls(
                symbols=tuple(content["symbols"]),
                names=tuple(content["names"]),
                mean=np.array(content["mean"], dtype=np.float64),
                std=np.array(content["std"], dtype=np.float64),
                target_mean=np.array(content["target_mean"], dtype=np.float64),
                target_scale=np.array(content["target_scale"], dtype=np.float64),
                constant=tuple((symbol, name) for symbol, name in content["constant"]),
                last_row=int(content["last_row"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} is not a scaler", why=f"{type(error).__name__}: {error}", fix=fix) from error


_ROWS = 16_384


def _parts(values: Float32Array) -> Iterator[slice]:
    """Rows a part at a time, so that double precision never holds them all."""
    return (slice(start, start + _ROWS) for start in range(0, len(values), _ROWS))


def _mean_and_std(values: Float32Array) -> tuple[Float64Array, Float64Array]:
    """Mean and population standard deviation over the first axis, in double precision, in two passes."""
    mean = sum(values[part].sum(axis=0, dtype=np.float64) for part in _parts(values)) / len(values)
    squares = sum(np.square(values[part] - mean).sum(axis=0) for part in _parts(values))
    return np.asarray(mean), np.sqrt(np.asarray(squares) / len(values))

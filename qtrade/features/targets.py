"""What is learned: returns, returns in units of volatility, a price level, or what a file of the user's says.

Whatever is learned, what is stored, scored and traded is log returns, so every target knows the way back to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from qtrade.errors import UsageError, nearest
from qtrade.features.own import own_returns, own_target
from qtrade.types import Bars, Float64Array, IntArray
from qtrade.user_code import UserFile

TARGETS = {
    "log_return": "log return of each bar",
    "scaled_return": "log return over the volatility of the 20 bars up to the origin",
    "log_close": "log of the close: a price level",
}
"""Targets by name; a path that ends in ``.py`` is a target of the user's own."""

VOLATILITY_BARS = 20
"""Returns whose root mean square is the unit of `scaled_return`."""

FLOOR = 0.25
"""Least unit of `scaled_return`, as a share of the root mean square of all returns so far.

Without it a market that stood still for 20 bars would have no unit, and its next move would be learned as an infinity.
"""

_STILL = 1e-4
"""Unit where no price has moved yet: one basis point."""

_LEVEL_NOTE = (
    "The target is a price level (log_close). A level is nearly its own last value, so a high R2 on levels says "
    "nothing. What is scored and traded here is the returns between levels, and every score is taken against the "
    "random walk, under which a level persists."
)


@dataclass(frozen=True, eq=False)
class Target:
    """What a model learns of a market, and the way back to log returns.

    Attributes
    ----------
    column
        Name of the input that holds its own past.
    values
        (T, S) what labels are cut from.
    past
        (T, S) its own past, known at each bar: what a model reads last, and what a scaler measures.
    unit
        (T, S) what a label is divided by, taken at its origin; None for 1.
    centred
        Whether its mean over the fitting bars is taken off, as for levels. Never with a `unit`.
    warmup
        Leading bars without a value.
    file
        The file it comes from, if that is the user's.
    """

    column: str
    values: Float64Array
    past: Float64Array
    unit: Float64Array | None
    centred: bool
    warmup: int
    file: UserFile | None = None

    def __post_init__(self) -> None:
        assert not (self.centred and self.unit is not None), "a mean and a unit of each origin do not go together"

    @classmethod
    def plain(cls, returns: Float64Array) -> Self:
        """Make log returns (T, S) the target."""
        return cls("log_return", returns, returns, unit=None, centred=False, warmup=1)

    def as_returns(self, path: Float64Array, origin: IntArray, symbol: IntArray) -> Float64Array:
        """Turn paths (W, H) of this target after (W,) origins of (W,) symbols into log returns.

        Raises
        ------
        UsageError
            If a target of the user's cannot do it.
        """
        if self.unit is not None:
            return path * self.unit[origin, symbol][:, None]
        if self.file is not None:
            return own_returns(self.file, path, self.values[origin, symbol])
        if self.column == "log_close":
            return np.diff(path, axis=1, prepend=self.values[origin, symbol][:, None])
        return path

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the scores should know of this target."""
        if self.file is not None:
            return (
                f"The target comes from {self.file.path.name} (SHA-256 {self.file.sha256[:16]}); "
                "what is scored and traded is the log returns it turns its forecasts into.",
            )
        return (_LEVEL_NOTE,) if self.column == "log_close" else ()


def check_target(name: str) -> str:
    """Return the name of a target, or raise `UsageError` if there is no such target."""
    if name not in TARGETS and not name.endswith(".py"):
        raise UsageError(
            f"unknown target '{name}'",
            why=nearest(name, TARGETS),
            fix="a target of your own is given by its file, as in my/target.py",
        )
    return name


def target_column(name: str) -> str:
    """Name the column that holds a target's own past; a file's has its ending, so that it is nobody else's."""
    return Path(name).name if name.endswith(".py") else name


def make_target(bars: Bars, name: str, file: UserFile | None = None) -> Target:
    """Compute a target.

    Parameters
    ----------
    name
        One of `TARGETS`, or the path of a file.
    file
        That file, if it is one.

    Raises
    ------
    UsageError
        If the file fails, or what it gives is not a target.
    """
    returns = log_returns(bars)
    if file is not None:
        values, warmup = own_target(bars, file)
        # A level is there from the first bar, but the baselines learn returns.
        return Target(target_column(name), values, values, None, centred=True, warmup=max(warmup, 1), file=file)
    if name == "scaled_return":
        unit = volatility(returns)
        past = np.full_like(returns, np.nan)
        past[1:] = returns[1:] / unit[:-1]
        return Target(name, returns, past, unit, centred=False, warmup=VOLATILITY_BARS + 1)
    if name == "log_close":
        levels = np.log(bars.close.to_numpy(dtype=np.float64))
        return Target(name, levels, levels, None, centred=True, warmup=1)
    return Target.plain(returns)


def log_returns(bars: Bars) -> Float64Array:
    """Return the log of each close over the close before it, (T, S); row 0 is NaN.

    The label of origin t is rows ``t + 1 .. t + horizon`` of this array.
    """
    close = bars.close.to_numpy(dtype=np.float64)
    returns = np.full_like(close, np.nan)
    returns[1:] = np.log(close[1:] / close[:-1])
    return returns


def volatility(returns: Float64Array) -> Float64Array:
    """Return the unit of `scaled_return`, (T, S): the root mean square of the last 20 returns, and never 0.

    It is at least `FLOOR` times the root mean square of all returns so far. The first 20 rows are NaN.
    """
    squares = returns**2
    recent = pd.DataFrame(squares).rolling(VOLATILITY_BARS).mean().to_numpy()
    counts = np.arange(len(squares))[:, None]
    so_far = np.cumsum(np.nan_to_num(squares), axis=0) / np.maximum(counts, 1)
    unit: Float64Array = np.sqrt(np.maximum(recent, FLOOR**2 * so_far))
    return np.where(unit == 0, _STILL, unit)

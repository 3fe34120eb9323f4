"""What is learned: the log return of each bar, or the log of its close."""

from __future__ import annotations

from typing import Literal

import numpy as np

from qtrade.types import Bars, Float64Array

TargetName = Literal["log_return", "log_close"]


def log_returns(bars: Bars) -> Float64Array:
    """Return the log of each close over the close before it, (T, S); row 0 is NaN.

    The label of origin t is rows ``t + 1 .. t + horizon`` of this array.
    """
    close = bars.close.to_numpy(dtype=np.float64)
    returns = np.full_like(close, np.nan)
    returns[1:] = np.log(close[1:] / close[:-1])
    return returns


def target_series(bars: Bars, name: TargetName) -> Float64Array:
    """Return what a model is asked for, (T, S): log returns, or the logs of the closes themselves."""
    return log_returns(bars) if name == "log_return" else np.log(bars.close.to_numpy(dtype=np.float64))


def as_returns(path: Float64Array, name: TargetName, known: Float64Array) -> Float64Array:
    """Turn paths (W, H) of a target into log returns.

    Parameters
    ----------
    known
        (W,) values of the target at the bar before each path.
    """
    if name == "log_return":
        return path
    return np.diff(path, axis=1, prepend=known[:, None])

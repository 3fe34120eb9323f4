"""What is learned: the log return of each bar."""

from __future__ import annotations

import numpy as np

from qtrade.types import Bars, Float64Array


def log_returns(bars: Bars) -> Float64Array:
    """Return the log of each close over the close before it, (T, S); row 0 is NaN.

    The label of origin t is rows ``t + 1 .. t + horizon`` of this array.
    """
    close = bars.close.to_numpy(dtype=np.float64)
    returns = np.full_like(close, np.nan)
    returns[1:] = np.log(close[1:] / close[:-1])
    return returns

"""Dividends that a column of adjusted closes implies."""

from __future__ import annotations

import numpy as np
import pandas as pd

from qtrade.errors import DataError
from qtrade.types import Float64Array

_RATIO_NOISE = 1e-6
_SPLIT = 0.49
"""Share of the price from which on a step of the adjusted close is taken for a split; two for one is a half."""


def implied_dividends(frame: pd.DataFrame, file: str) -> Float64Array:
    """Recover dividends from the ratio of adjusted close and close.

    At an ex-date Yahoo and CRSP multiply every earlier adjusted close by ``1 - dividend / close before``, so a step of
    the ratio from one bar to the next tells the dividend. Steps that rounding may have made are none. One backwards, or
    by half or more, is a split or a mistake; smaller splits look like dividends, and give the same returns.

    Raises
    ------
    DataError
        If no dividend explains a step.
    """
    close, adjusted = frame["close"].to_numpy(), frame["adj_close"].to_numpy()
    with np.errstate(all="ignore"):
        ratio = pd.Series(np.where(close > 0, adjusted / close, np.nan)).ffill().bfill().fillna(1.0).to_numpy()
        step = 1 - ratio[:-1] / ratio[1:]
        rounding = _half_a_unit(adjusted, 2) / np.abs(adjusted) + _half_a_unit(close, 2) / np.abs(close)
        noise = np.fmax(_RATIO_NOISE, 1.01 * (rounding[:-1] + rounding[1:]))
    bad = ~((ratio[:-1] > 0) & (ratio[1:] > 0) & (step >= -noise) & (step < _SPLIT))
    if bad.any():
        at = int(np.argmax(bad))
        raise DataError(
            f"{file}: no dividend explains the adjusted close at {frame.index[at + 1]}",
            why=f"it is {ratio[at]:.6g} times the close before that, and {ratio[at + 1]:.6g} times the close there; a "
            "split that the close is not adjusted for would look like this",
            fix="adjust the prices for splits; or do without: --columns adj_close=",
        )
    return np.concatenate([[0.0], np.where(step > noise, close[:-1] * step, 0.0)])


def _half_a_unit(values: Float64Array, fewest: int) -> float:
    """Half a unit of the last decimal of rounded values; 0 where these are too few, or more than eight."""
    known = values[np.isfinite(values)]
    for decimals in range(9):
        if (np.round(known, decimals) == known).all():
            return 0.5 * 10.0**-decimals if decimals >= fewest else 0.0
    return 0.0

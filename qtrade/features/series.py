"""Arithmetic that the indicators share, on (T,) series with NaN where they are not yet defined."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pandas as pd

Series: TypeAlias = "pd.Series[float]"


def log(values: Series) -> Series:
    """Return the natural logarithm."""
    return pd.Series(np.log(values.to_numpy(dtype=np.float64)), index=values.index)


def larger(first: Series, second: Series) -> Series:
    """Return the larger of two at each bar; NaN where `second` is."""
    return first.where(first > second, second)


def smaller(first: Series, second: Series) -> Series:
    """Return the smaller of two at each bar; NaN where `second` is."""
    return first.where(first < second, second)


def ratio(numerator: Series, denominator: Series, *, neutral: float) -> Series:
    """Divide, with `neutral` where the denominator is exactly zero, as in a window whose prices are all equal."""
    return (numerator / denominator).where(denominator != 0, neutral)

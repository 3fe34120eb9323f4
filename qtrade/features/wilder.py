"""Wilder's smoothing and the indicators he built on it (Wilder 1978), with NaN until each is defined.

`ta` starts these with zeros that look like values, or loops over bars; here one `ewm` does each recursion.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qtrade.features.series import Series, larger, ratio, smaller

# A move up equal to the move down counts as neither. Differences of prices carry rounding errors of about 1e-16 of the
# price; a tie, common where prices sit on a tick grid, must not be decided by them.
_TIE = 1e-12


class Directional(NamedTuple):
    """Directional movement, each a (T,) series in [0, 1]: +DI, -DI and their averaged imbalance, ADX."""

    plus: Series
    minus: Series
    adx: Series


def smooth(values: Series, window: int) -> Series:
    """Return Wilder's moving average: the mean of the first `window` values, then ``s += (value - s) / window``.

    Leading NaN are skipped; the first ``window - 1`` results after them are NaN.
    """
    start = int(values.notna().to_numpy().argmax()) if len(values) else 0
    seeded = values.astype(np.float64).copy()
    first = start + window - 1
    seeded.iloc[:first] = np.nan
    seeded.iloc[first : first + 1] = values.iloc[start : first + 1].mean()
    return seeded.ewm(alpha=1 / window, adjust=False).mean()


def true_range(high: Series, low: Series, close: Series) -> Series:
    """Return the range of each bar widened to the close before it; NaN at the first bar, which has none."""
    before = close.shift(1)
    return larger(high, before) - smaller(low, before)


def directional(high: Series, low: Series, close: Series, window: int) -> Directional:
    """Return the directional movement system of `window` bars; all zero where prices do not move at all."""
    up, down = high.diff(), -low.diff()
    tie = _TIE * close
    plus_move = up.where((up > down + tie) & (up > 0), 0.0).where(up.notna())
    minus_move = down.where((down > up + tie) & (down > 0), 0.0).where(down.notna())
    average_range = smooth(true_range(high, low, close), window)
    plus = ratio(smooth(plus_move, window), average_range, neutral=0.0)
    minus = ratio(smooth(minus_move, window), average_range, neutral=0.0)
    imbalance = ratio((plus - minus).abs(), plus + minus, neutral=0.0)
    return Directional(plus, minus, smooth(imbalance, window))


def relative_strength(close: Series, window: int) -> Series:
    """Return the relative strength index as a number in [-1, 1] (RSI 0 to 100); 0 where the price does not move."""
    move = close.diff()
    rises = smooth(move.clip(lower=0), window)
    return 2 * ratio(rises, smooth(move.abs(), window), neutral=0.5) - 1

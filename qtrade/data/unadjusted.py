"""Jumps that look like splits which prices are not adjusted for."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtrade.data.defects import bad_dividends
from qtrade.types import Float64Array, IntArray

SPLIT_RATIOS = (1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 15.0, 20.0, 25.0, 30.0, 50.0, 100.0)
"""New shares for an old one, or old ones for a new one, in splits that happen. Nobody gives two shares for three, and a
jump by half is rather news, so the first one is looked for in falls only."""

# A multiple of usual moves beyond which a jump is far outside them.
_JUMPING = 15.0
_FEWEST = 10
_RATIO_NOISE = np.log(1.03)
_NEWS = pd.Timedelta(days=30)


def unadjusted_splits(frame: pd.DataFrame, *, at_open: bool) -> IntArray:
    """Find the rows at which prices seem not to be adjusted for a split.

    Crashes are no errors. Most miss the usual ratios by more than 3 %; the others are told by what a split does not do:
    it is there when a bar of a day or less opens, the bars around it move by less than half of it, prices do not come
    back, and trade is what it was. Trade counts as news where both shares and money exceed twice the month's maximum.
    """
    stated = frame["splits"].to_numpy()
    wrong = np.flatnonzero(~((stated >= 0) & (stated < np.inf)))
    close = frame["close"].to_numpy()
    moves = np.concatenate([[0.0], np.diff(np.log(close))])
    suspects = np.flatnonzero(np.abs(moves) > np.log(min(SPLIT_RATIOS)) - _RATIO_NOISE)
    named = np.flatnonzero((stated > 0) & (stated < np.inf) & (stated != 1))
    # Prices not adjusted jump by about as much as the ratio; adjusted once too often, the other way.
    size = np.abs(np.log(stated[named]))
    inside = np.abs(np.abs(moves[named]) - size) < size / 2
    named, size = named[inside], size[inside]
    if len(suspects) + len(named) == 0:
        return wrong
    far = _JUMPING * usual_move(moves)
    named = named[size > far]
    sizes = np.log(SPLIT_RATIOS)
    distance = np.abs(moves[suspects][:, None] - np.concatenate([-sizes, sizes[1:]]))
    suspects = suspects[(distance.min(axis=1) < _RATIO_NOISE) & (np.abs(moves[suspects]) > far)]
    suspects = suspects[_is_level_shift(frame, moves, suspects, at_open=at_open)]
    unexplained = [row for row in suspects if not _is_news(frame, row)]
    return np.unique(np.concatenate([wrong, named, np.array(unexplained, dtype=np.int64)]))


def _is_level_shift(frame: pd.DataFrame, moves: Float64Array, rows: IntArray, *, at_open: bool) -> NDArray[np.bool_]:
    """Whether jumps stand alone, last, are there at the open, and are left when dividends are added."""
    if len(rows) == 0:
        return np.empty(0, dtype=np.bool_)
    close = frame["close"].to_numpy()
    level = np.log(close)
    jump = moves[rows]
    direction, half = np.sign(jump), np.abs(jump) / 2
    before = level[rows - 1]

    around = rows[:, None] + np.concatenate([np.arange(-10, 0), np.arange(1, 11)])
    others = np.where((around > 0) & (around < len(level)), np.abs(moves[around.clip(0, len(level) - 1)]), 0.0)
    alone = others.max(axis=1) < half
    after = rows[:, None] + np.arange(11)
    levels = np.where(after < len(level), level[after.clip(max=len(level) - 1)], np.nan)
    lasting = direction * (np.nanmedian(levels, axis=1) - before) > half
    shift = alone & lasting
    if at_open:
        shift &= direction * (np.log(frame["open"].to_numpy()[rows]) - before) > half
    paid = np.where(bad_dividends(frame), 0.0, frame["dividends"].to_numpy())[rows]
    return np.asarray(shift & (np.abs(level[rows] - np.log(close[rows - 1] - paid)) > half))


def _is_news(frame: pd.DataFrame, row: int) -> bool:
    """Whether far more is traded than at any time in the month before, and in ten bars at least."""
    start = min(int(frame.index.searchsorted(frame.index[row] - _NEWS)), row - _FEWEST)
    if start < 0:
        return False
    volume = frame["volume"].to_numpy()[start : row + 1]
    volume = np.where((volume > 0) & (volume < np.inf), volume, 0.0)
    with np.errstate(over="ignore"):
        money = volume * frame["close"].to_numpy()[start : row + 1]
    busiest = volume[:-1].max()
    return bool(0 < 2 * busiest < volume[-1] and 2 * money[:-1].max() < money[-1])


def split_example(frame: pd.DataFrame, row: int) -> str:
    """Say what the jump at `row` looks like."""
    stated, close = frame["splits"].iloc[row], frame["close"].to_numpy()
    if not 0 <= stated < np.inf:
        return f"a split of {stated}"
    told = f"and a split of {stated:g} is stated" if stated else "and no split is stated"
    return f"close {close[row]:g} after {close[row - 1]:g}, {told}"


def usual_move(moves: Float64Array) -> float:
    """Estimate the spread of moves by their median; infinite where there are too few of them to tell."""
    sizes = np.abs(moves[moves != 0])
    return 1.4826 * float(np.median(sizes)) if len(sizes) >= _FEWEST else np.inf

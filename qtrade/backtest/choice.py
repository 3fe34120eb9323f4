"""Choosing among many variants: which one the past prefers, and what that choice is worth afterwards.

The best of many variants was chosen with the very returns that make it look good. What choosing is worth shows when it
is done again and again on the past alone: on each block of bars the variant with the best Sharpe ratio in all blocks
before it is traded. A ratio that a handful of bars make, or that of an account that is ruined by then, does not count,
as long as there are others.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from qtrade.backtest.metrics import FEW
from qtrade.backtest.statistics import sharpe_of_sums
from qtrade.types import Float64Array, IntArray

# A return that leaves nothing of an account, apart from rounding.
_RUIN = -1 + 1e-9


@dataclass(frozen=True, eq=False)
class Choices:
    """What was chosen before each block but the first.

    Attributes
    ----------
    starts
        (K + 1,) first bar of each block, and T. The first block only serves to choose.
    chosen
        (K - 1,) variant chosen before block 1, 2, .. K - 1.
    before, inside
        (K - 1,) its Sharpe ratio per bar in all bars before the block, and in the block.
    best
        (K - 1,) best Sharpe ratio per bar of any variant in the block.
    rank
        (K - 1,) share of the other variants that did worse in the block, ties counting half: 0.5 is what choosing
        blindly gives.
    """

    starts: IntArray
    chosen: IntArray
    before: Float64Array
    inside: Float64Array
    best: Float64Array
    rank: Float64Array


def choose_ahead(net: Float64Array, blocks: int = 8) -> Choices | None:
    """Choose among variants before each block, from the bars before it alone.

    Parameters
    ----------
    net
        (T, V) net returns per bar.
    blocks
        Number K of blocks, as equal as can be.

    Returns
    -------
    Choices or None
        None for fewer than two variants, or blocks of fewer than twenty bars.
    """
    bars, variants = net.shape
    if variants < 2 or bars // blocks < 20:
        return None
    starts = np.linspace(0, bars, blocks + 1).astype(np.int64)
    cuts = [net[first:last] for first, last in pairwise(starts.tolist())]
    sums, squares, cubes, fourths = (np.stack(one) for one in zip(*map(_powers, cuts), strict=True))
    length = np.diff(starts)[:, None]
    inside = sharpe_of_sums(sums, squares, length)[1:]
    past = sharpe_of_sums(sums.cumsum(axis=0), squares.cumsum(axis=0), length.cumsum(axis=0))[:-1]
    first, second, third, fourth = (power.cumsum(axis=0)[:-1] for power in (sums, squares, cubes, fourths))
    effective = effective_bars(first, second, third, fourth, length.cumsum(axis=0)[:-1])
    enough = (effective > FEW) | (effective == 0)  # standing still is a choice, too
    lost = np.minimum.accumulate([cut.min(axis=0) for cut in cuts])[:-1]
    eligible = enough & (lost > _RUIN)
    chosen = np.where(eligible.any(axis=1), np.where(eligible, past, -np.inf).argmax(axis=1), past.argmax(axis=1))
    own = np.take_along_axis(inside, chosen[:, None], axis=1)
    worse, same = (inside < own).sum(axis=1), (inside == own).sum(axis=1) - 1
    return Choices(
        starts=starts,
        chosen=chosen.astype(np.int64),
        before=np.take_along_axis(past, chosen[:, None], axis=1)[:, 0],
        inside=own[:, 0],
        best=inside.max(axis=1),
        rank=(worse + same / 2) / (variants - 1),
    )


def effective_bars(
    sums: Float64Array, squares: Float64Array, cubes: Float64Array, fourths: Float64Array, count: IntArray | int
) -> Float64Array:
    """Bars that make up the variance: T over the kurtosis, from the sums of the powers of `count` returns each.

    0 where returns do not vary.
    """
    mean = sums / count
    spread = squares - sums * mean
    fourth = fourths - 4 * mean * cubes + 6 * mean**2 * squares - 3 * count * mean**4
    varies = (spread > 1e-12 * squares) & (fourth > 0)
    found = np.zeros_like(sums)
    np.divide(spread**2, fourth, out=found, where=varies)
    return found


def _powers(net: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array]:
    """(V,) sums of the first four powers of (T, V) returns."""
    square = net * net
    return net.sum(axis=0), square.sum(axis=0), (square * net).sum(axis=0), (square * square).sum(axis=0)

"""Intervals around forecasts as they would have been drawn bar by bar, and how often they held.

An interval is the forecast plus and minus a radius, and the radius is a quantile of absolute errors made before. Four
ways to choose it, from the one that trusts the past most to those that follow the market: the first validation errors
for ever (split conformal); those of the model in use (refit); adaptive conformal inference (ACI; Gibbs & Candès 2021);
and errors weighted by their age (NexCP; Barber, Candès, Ramdas & Tibshirani 2023).

All quantiles are conformal: of n scores, the one of rank ceil(level (n + 1)), and infinity where that exceeds n. The
error of a forecast is known `delay` bars after its origin, and no radius uses it earlier. Average coverage would not
give such a leak away; the tests poison what is not known yet.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping

import numpy as np

from qtrade.evaluation.coverage import Coverage, coverage
from qtrade.types import Float64Array, IntArray

# Ranks and weights are compared with a little slack, so that 0.9 x 10 is rank 9 however it was rounded.
_SLACK = 1e-9
# Growing weights are scaled back from here, far below the largest float.
_LARGE = 1e100


def online_intervals(
    error: Float64Array,
    fold: IntArray,
    banks: Mapping[int, Float64Array],
    *,
    delay: int,
    level: float = 0.9,
    window: int = 500,
    gamma: float | None = None,
    rho: float = 0.99,
    stretch: int = 250,
) -> dict[str, Coverage]:
    """Measure the four kinds of intervals at one horizon.

    Parameters
    ----------
    error
        (T, S) actual minus predicted cumulative log return, one row per test bar in time order without gaps; NaN where
        the outcome is unknown or no forecast was made.
    fold
        (T,) fold whose model made the forecasts of each row.
    banks
        For each fold, its (V, S) validation errors in origin order; NaN where a symbol has none. All but ``refit``
        use only the one of the first row.
    delay
        Bars from an origin until its error is known: the horizon plus the delay of the split.
    level
        Coverage asked for.
    window, gamma
        Of `aci_radius`.
    rho
        Of `nexcp_radius`.
    stretch
        Origins in a stretch of rolling coverage.

    Returns
    -------
    dict of str to Coverage
        ``split``, ``refit``, ``aci`` and ``nexcp``, in this order.

    Raises
    ------
    ValueError
        If shapes do not fit, a fold has no bank, or a setting is out of range.
    """
    if len(fold) != len(error) or len(error) == 0:
        raise ValueError(f"{len(error)} rows of errors need as many fold numbers, and at least one; got {len(fold)}")
    missing = set(fold.tolist()) - set(banks)
    if missing:
        raise ValueError(f"there are no validation errors of fold {min(missing)}")
    first = banks[int(fold[0])]
    radii = {
        "split": np.broadcast_to(split_radius(first, level), error.shape),
        "refit": refit_radius(fold, banks, level),
        "aci": aci_radius(error, first, delay=delay, level=level, window=window, gamma=gamma),
        "nexcp": nexcp_radius(error, first, delay=delay, level=level, rho=rho),
    }
    return {
        method: coverage(method, error, radius, delay=delay, level=level, stretch=stretch)
        for method, radius in radii.items()
    }


def split_radius(bank: Float64Array, level: float) -> Float64Array:
    """Radius of split conformal intervals: a quantile of absolute errors (Lei et al. 2018).

    Parameters
    ----------
    bank
        (V, S) errors in any order; NaN is left out.
    level
        Coverage asked for.

    Returns
    -------
    (S,) radii, infinite where there are too few errors for the level.
    """
    _check_level(level)
    scores = np.sort(np.abs(bank), axis=0)
    counts = np.isfinite(scores).sum(axis=0)
    ranks = np.ceil(level * (counts + 1) - _SLACK).astype(np.int64)
    found = scores[np.minimum(ranks, len(scores)) - 1, np.arange(scores.shape[1])]
    return np.where(ranks <= counts, found, np.inf)


def refit_radius(fold: IntArray, banks: Mapping[int, Float64Array], level: float) -> Float64Array:
    """Radius of split conformal intervals that start anew from the validation errors of every fold.

    Parameters
    ----------
    fold
        (T,) fold of each row.
    banks
        (V, S) validation errors of each of them.
    level
        Coverage asked for.

    Returns
    -------
    (T, S) radii.
    """
    numbers, code = np.unique(fold, return_inverse=True)
    return np.stack([split_radius(banks[int(number)], level) for number in numbers])[code]


def aci_radius(
    error: Float64Array,
    bank: Float64Array,
    *,
    delay: int,
    level: float = 0.9,
    window: int = 500,
    gamma: float | None = None,
) -> Float64Array:
    """Radius of adaptive conformal inference, each symbol on its own.

    After each miss the quantile asked for goes up and after each hit it goes down a little, so that the share of
    misses comes out right in the long run whatever the market does::

        alpha[t] = alpha[t - 1] + gamma ((1 - level) - miss[t - delay])

    Parameters
    ----------
    error
        (T, S) errors of the test rows in time order; NaN teaches nothing.
    bank
        (V, S) errors known before the first row, in time order.
    delay
        Bars until an error is known: that of row t is used from row t + delay on.
    level
        Coverage asked for.
    window
        The quantile is taken over so many of the scores known last, of `bank` and test together.
    gamma
        Step size. Too small follows shifts slowly; too large makes the width jump. By default 0.01, or
        ``(1 - level) / (2 delay)`` if that is less: overlapping labels miss in runs of up to `delay`, and the answer
        comes another `delay` later, so that larger steps make the interval infinite before it can be seen to hold.

    Returns
    -------
    (T, S) radii; infinite where alpha calls for more than the largest score, -inf (an empty interval) where alpha has
    reached 1.

    References
    ----------
    Gibbs & Candès, "Adaptive conformal inference under distribution shift", NeurIPS 2021, eq. 2. There feedback comes
    at once; here it comes when the label is known.
    """
    _check(error, bank, delay, level)
    if gamma is None:
        gamma = min(0.01, (1 - level) / (2 * delay))
    if window < 1 or not gamma > 0:
        raise ValueError(f"window and gamma must be positive, got {window} and {gamma}")
    columns = [
        _aci(np.abs(error[:, column]).tolist(), np.abs(bank[:, column]).tolist(), delay, level, window, gamma)
        for column in range(error.shape[1])
    ]
    return np.array(columns, dtype=np.float64).reshape(error.shape[::-1]).T


def nexcp_radius(
    error: Float64Array,
    bank: Float64Array,
    *,
    delay: int,
    level: float = 0.9,
    rho: float = 0.99,
) -> Float64Array:
    """Radius of nonexchangeable conformal prediction: a quantile of scores weighted by ``rho ** age``.

    The age of a score is the number of bars from its origin to the origin of the interval, never less than `delay`.
    The interval's own score, unknown, weighs 1 at infinity. The last row of `bank` is taken to lie `delay` bars before
    the first test row: it is the last one whose error was known there.

    Parameters
    ----------
    error, bank, delay, level
        As for `aci_radius`.
    rho
        Weight that a score keeps per bar, above 0 and at most 1. At 0.99 it halves every 69 bars.

    Returns
    -------
    (T, S) radii; infinite where the weight at infinity alone exceeds 1 - level.

    References
    ----------
    Barber, Candès, Ramdas & Tibshirani, "Conformal prediction beyond exchangeability", Annals of Statistics 51, 2023.
    """
    _check(error, bank, delay, level)
    if not 0 < rho <= 1:
        raise ValueError(f"rho must lie above 0 and at most at 1, got {rho}")
    columns = [
        _nexcp(np.abs(np.concatenate([bank[:, column], error[:, column]])), len(bank), delay, level, rho)
        for column in range(error.shape[1])
    ]
    return np.array(columns, dtype=np.float64).reshape(error.shape[::-1]).T


def _aci(test: list[float], bank: list[float], delay: int, level: float, window: int, gamma: float) -> list[float]:
    """Radii of one symbol from absolute errors. Plain Python: a step costs less than one call of numpy would."""
    recent = deque([score for score in bank if math.isfinite(score)][-window:])
    ranked = sorted(recent)
    alpha = 1 - level
    radius: list[float] = []
    for row in range(len(test)):
        if row >= delay and math.isfinite(score := test[row - delay]):
            alpha += gamma * ((1 - level) - (score > radius[row - delay]))
            recent.append(score)
            insort(ranked, score)
            if len(recent) > window:
                del ranked[bisect_left(ranked, recent.popleft())]
        rank = math.ceil((1 - alpha) * (len(ranked) + 1) - _SLACK)
        radius.append(-math.inf if rank < 1 else ranked[rank - 1] if rank <= len(ranked) else math.inf)
    return radius


def _nexcp(scores: Float64Array, past: int, delay: int, level: float, rho: float) -> list[float]:
    """Radii of one symbol from its absolute errors, `past` of them from the bank.

    A Fenwick tree (1994) over the ranks of all scores holds the weights of the known ones, so that a step costs the
    logarithm of their number. A score that is not known yet weighs nothing, and its place among the others moves none.
    """
    order = np.argsort(scores, kind="stable")
    values = scores[order][: np.count_nonzero(np.isfinite(scores))].tolist()
    size = len(values)
    rank = np.empty(len(scores), dtype=np.int64)
    rank[order] = np.arange(1, len(scores) + 1)
    place = np.where(rank <= size, rank, 0).tolist()  # 0: unknown for ever
    tree = [0.0] * (size + 1)
    highest = 1 << size.bit_length()

    def add(node: int, weight: float) -> float:
        if node == 0:
            return 0.0
        while node <= size:
            tree[node] += weight
            node += node & -node
        return weight

    # Weights grow with their bar instead of shrinking with their age, so that those in the tree can stay as they are.
    now = 1.0
    newest = rho**delay
    total = 0.0
    for position in range(past):
        total += add(place[position], newest * rho ** (past - 1 - position))
    radius: list[float] = []
    for row in range(len(scores) - past):
        if row > 0:
            now /= rho
        if now > _LARGE:
            tree = [weight / now for weight in tree]
            total /= now
            now = 1.0
        if row >= delay:
            total += add(place[past + row - delay], now * newest)
        wanted = level * (total + now) * (1 - _SLACK)
        if wanted > total:
            radius.append(math.inf)
            continue
        below, step = 0, highest
        while step:
            node = below + step
            if node <= size and tree[node] < wanted:
                below = node
                wanted -= tree[node]
            step >>= 1
        radius.append(values[below])
    return radius


def _check(error: Float64Array, bank: Float64Array, delay: int, level: float) -> None:
    _check_level(level)
    if error.ndim != 2 or bank.ndim != 2 or error.shape[1] != bank.shape[1]:
        raise ValueError(f"errors {error.shape} and bank {bank.shape} must be (T, S) and (V, S)")
    if delay < 1:
        raise ValueError(f"an error cannot be known before its label has ended: delay must be at least 1, got {delay}")


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")

"""Two-sample statistics: every block of a training period against its rest, a test period against all of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from qtrade.types import Float64Array, IntArray

STATISTICS = ("ks", "wasserstein_sd", "psi", "auc")

MIN_BLOCKS, MIN_DISJOINT, MIN_LENGTH = 20, 5, 10

# Ranking among overlapping blocks is worth this many independent ones per disjoint block: by simulation the chance
# of a further, independent block to lie above all those of K disjoint lengths is close to 1 / (1 + 2.3 K).
_WORTH = 2.3
_BINS, _DECILE = 200, 20
_MAX_BLOCKS, _PER_LENGTH = 64, 12
# Shrinks the covariance of the discriminant towards the identity; technical features are nearly collinear.
_RIDGE = 0.1


@dataclass(frozen=True, eq=False)
class Blocks:
    """Where blocks of `length` bars lie: R reference blocks in training, B test blocks in the test.

    Attributes
    ----------
    starts, tests
        (R,) and (B,) first bars of the blocks.
    low, high
        (R,) first bar, and one past the last, of each reference block with its gaps.
    edges, places
        The distinct bars at which any of these begins or ends, in order; and where start, end, low and high of each
        reference block stand among them, (4, R).
    disjoint
        (R, R) whether two reference blocks share no bar.
    """

    train_rows: int
    length: int
    starts: IntArray
    tests: IntArray
    low: IntArray
    high: IntArray
    edges: IntArray
    places: IntArray
    disjoint: NDArray[np.bool_]

    @classmethod
    def cut(cls, train_rows: int, test_rows: int, gap: int) -> Blocks | None:
        """Lay out the blocks; None where there would be too few."""
        longest = train_rows // MIN_DISJOINT
        if min(longest, test_rows) < MIN_LENGTH:
            return None
        parts = -(-test_rows // longest)
        length = test_rows // parts
        last = train_rows - length
        stride = max(length // _PER_LENGTH, last // _MAX_BLOCKS, 1)
        starts = np.arange(last % stride, last + 1, stride, dtype=np.int64)
        if len(starts) < MIN_BLOCKS or last - 2 * gap < length:
            return None
        low, high = np.maximum(starts - gap, 0), np.minimum(starts + length + gap, train_rows)
        edges, places = np.unique(np.stack([starts, starts + length, low, high]), return_inverse=True)
        return cls(
            train_rows=train_rows,
            length=length,
            starts=starts,
            tests=test_rows - length * np.arange(parts, 0, -1, dtype=np.int64),
            low=low,
            high=high,
            edges=edges,
            places=places.astype(np.int64),
            disjoint=np.asarray(np.abs(starts[:, None] - starts) >= length),
        )

    @property
    def worth(self) -> float:
        """Number of independent blocks that the reference blocks are worth."""
        return worth_of(self.train_rows, self.length, len(self.starts))


def worth_of(train_rows: int, block_rows: int, blocks: int) -> float:
    """Count the independent blocks that overlapping ones are worth."""
    return min(_WORTH * train_rows / block_rows, blocks)


def statistics(past: Float64Array, now: Float64Array, blocks: Blocks) -> tuple[Float64Array, Float64Array]:
    """Compute the four statistics of every reference block (R, 4) and of every test block (B, 4).

    All come from counts in 200 training-quantile bins; counts of a block are the difference of two cumulative rows.
    """
    ordered = np.sort(past, axis=None)
    nodes = np.interp(np.linspace(0, len(ordered) - 1, _BINS + 1), np.arange(len(ordered)), ordered)
    counts = _counts(past, nodes, np.append(blocks.edges, len(past)))
    start, end, low, high = blocks.places
    reference = _compare(counts[end] - counts[start], counts[-1] - (counts[high] - counts[low]), nodes)
    test_counts = np.diff(_counts(now, nodes, np.append(blocks.tests, len(now))), axis=0)
    observed = _compare(test_counts, counts[-1], nodes)
    # The grid ends where training does; the way beyond it is known exactly.
    beyond = np.maximum(now - nodes[-1], 0) + np.maximum(nodes[0] - now, 0)
    observed[:, 1] += beyond[blocks.tests[0] :].reshape(len(blocks.tests), -1).mean(axis=1)
    return reference, observed


def _counts(values: Float64Array, nodes: Float64Array, edges: IntArray) -> Float64Array:
    """Count values per bin before each of the increasing row `edges`: (E, bins); bin j ends at node j, inclusive."""
    bins = np.searchsorted(nodes[:-1], values)
    size, width = len(edges), len(nodes)
    segment = np.repeat(np.arange(size + 1), np.diff(edges, prepend=0, append=len(values)))
    flat = np.bincount((segment[:, None] * width + bins).ravel(), minlength=(size + 1) * width)
    return np.cumsum(flat.reshape(size + 1, width)[:-1], axis=0, dtype=np.float64)


def _compare(block: Float64Array, rest: Float64Array, nodes: Float64Array) -> Float64Array:
    """Hold the counts of blocks (R, bins) against those of the rest, (R, bins) or (bins,): (R, 4) `STATISTICS`."""
    size = block.sum(axis=1, keepdims=True)
    share, other = block / size, rest / rest.sum(axis=-1, keepdims=True)
    below, other_below = np.cumsum(share, axis=-1), np.cumsum(other, axis=-1)
    distance = np.abs(below - other_below)[:, :-1]
    ks = distance.max(axis=1)
    wasserstein = distance @ np.diff(nodes)
    # Half a value stands for none, on both sides: bins that are empty in both then add nothing.
    least = 0.5 / size
    mine, theirs = np.maximum(_deciles(below), least), np.maximum(_deciles(other_below), least)
    psi = ((mine - theirs) * np.log(mine / theirs)).sum(axis=1)
    auc = (share * (other_below - other / 2)).sum(axis=1)
    return np.stack([ks, wasserstein, psi, np.maximum(auc, 1 - auc)], axis=1)


def _deciles(below: Float64Array) -> Float64Array:
    return np.diff(below[..., _DECILE:_BINS:_DECILE], axis=-1, prepend=0.0, append=1.0)


def discriminant(past: Float64Array, now: Float64Array, blocks: Blocks) -> tuple[Float64Array, Float64Array]:
    """Tell blocks from the rest by all features: AUC of a linear discriminant in the last column of (R, 4) and (B, 4).

    Block and rest are both cut in two halves of time. The discriminant learned from one pair of halves, with the
    covariance of training, is judged on the other pair, and the two AUCs are averaged.
    """
    symbols, size = past.shape[1:]
    covariance = np.atleast_2d(np.cov(past.reshape(-1, size), rowvar=False, bias=True))
    factor = linalg.cholesky((1 - _RIDGE) * covariance + _RIDGE * np.eye(size), lower=True)
    # Rows of (bar, symbol), so that one product of two plain matrices gives the scores.
    train, test = (
        np.ascontiguousarray(linalg.solve_triangular(factor, rows.reshape(-1, size).T, lower=True).T)
        for rows in (past, now)
    )
    sums = np.cumsum(np.pad(train, ((1, 0), (0, 0))), axis=0)

    def auc(block: Float64Array, low: int, high: int) -> float:
        def first(kept: int) -> Float64Array:
            """Sum of the first `kept` rows of training outside low .. high."""
            total: Float64Array = sums[kept] if kept <= low else sums[low] + sums[high + kept - low] - sums[high]
            return total

        middle, rest = len(block) // 2, len(train) - (high - low)
        half = rest // 2
        weights = np.stack(
            [
                block[:middle].mean(axis=0) - first(half) / half,
                block[middle:].mean(axis=0) - (first(rest) - first(half)) / (rest - half),
            ]
        )
        mine, scores = weights @ block.T, weights @ train.T
        others = np.concatenate([scores[:, :low], scores[:, high:]], axis=1)
        return (_above(mine[0, middle:], others[0, half:]) + _above(mine[1, :middle], others[1, :half])) / 2

    reference, observed = (np.full((len(starts), 4), np.nan) for starts in (blocks.starts, blocks.tests))
    rows = blocks.length * symbols
    for number, (start, low, high) in enumerate(symbols * np.stack([blocks.starts, blocks.low, blocks.high], axis=1)):
        reference[number, -1] = auc(train[start : start + rows], int(low), int(high))
    for number, start in enumerate(symbols * blocks.tests):
        observed[number, -1] = auc(test[start : start + rows], 0, 0)
    return reference, observed


def _above(mine: Float64Array, others: Float64Array) -> float:
    """Share of pairs in which mine is larger, ties by half: the AUC (Mann & Whitney 1947)."""
    ordered = np.sort(others)
    places = np.searchsorted(ordered, mine, "left") + np.searchsorted(ordered, mine, "right")
    return float(places.mean()) / (2 * len(ordered))

"""Covariate shift: whether the features of a test period look like those the model was trained on.

Textbook thresholds answer "no" nearly always, because neighbouring bars are alike: two stretches of one stationary
series differ far more than two samples of independent values. So each statistic of the test period is ranked among
the same statistic of equally long blocks *inside* training, each held against the rest of training (block reference).
The answer is PASS, WARN or "cannot tell", never FAIL: features may move without harm to what was learned from them.

Symbols are pooled: each is standardised by its own training mean and deviation first, and a block takes all symbols at
once, so that their common moves are in the reference as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qtrade.evaluation.blocks import STATISTICS, Blocks, discriminant, statistics, worth_of
from qtrade.evaluation.plain import plain
from qtrade.types import Float32Array, Float64Array

LEVEL = 0.05
PERSISTENT = 0.97
JOINT = "joint"
Answer = Literal["PASS", "WARN", "cannot tell"]


@dataclass(frozen=True, eq=False)
class FeatureShift:
    """How unusual the test period is in one feature, or in all of them together (`JOINT`).

    Attributes
    ----------
    name
        Feature name, or ``joint`` for the discriminant over all features that can be judged.
    answer, reason
        PASS, WARN or "cannot tell", and why.
    phi
        Lag-1 autocorrelation in training, mean over symbols; NaN for `JOINT` and for a constant feature.
    train_rows, block_rows
        Training bars used, and the length of a block in bars.
    values
        (B, 4) statistics of the B consecutive test blocks, in the order of `STATISTICS`: Kolmogorov-Smirnov distance,
        Wasserstein distance in training standard deviations, population stability index over ten training-quantile
        bins, and AUC, the chance to tell a test row from a training row (folded to 0.5..1; of `JOINT` out of sample
        and not folded). NaN where a statistic does not apply; B is 0 where nothing was computed.
    ranks
        (B, 4) share of the reference blocks whose statistic is smaller.
    p
        (B,) chance of a block as unusual as this by the worst of the four, given how few blocks training holds.
    reference_flagged
        (R,) whether each reference block would itself be flagged, judged by the blocks that it does not overlap;
        the same blocks for every feature of one call.
    """

    name: str
    answer: Answer
    reason: str
    phi: float
    train_rows: int
    block_rows: int
    values: Float64Array
    ranks: Float64Array
    p: Float64Array
    reference_flagged: NDArray[np.bool_]

    @property
    def worth(self) -> float:
        """Independent blocks that would tell as much as the overlapping reference blocks."""
        return worth_of(self.train_rows, self.block_rows, len(self.reference_flagged))

    def to_dict(self) -> dict[str, str | int | float | list[float] | None]:
        """Return plain values that JSON can hold: medians over the test blocks, and p of each."""
        summary: dict[str, str | int | float | list[float] | None] = {
            "name": self.name,
            "answer": self.answer,
            "reason": self.reason,
            "phi": plain(self.phi),
            "train_rows_bars": self.train_rows,
            "block_rows_bars": self.block_rows,
            "reference_blocks": len(self.reference_flagged),
        }
        for kind, table in (("", self.values), ("_rank_share", self.ranks)):
            for column, statistic in enumerate(STATISTICS):
                summary[f"{statistic}{kind}"] = plain(np.median(table[:, column])) if len(table) else None
        summary["p"] = plain(np.median(self.p)) if len(self.p) else None
        summary["p_last_block"] = plain(self.p[-1]) if len(self.p) else None
        summary["p_blocks"] = [float(one) for one in self.p]
        return summary


@dataclass(frozen=True)
class ShiftSummary:
    """All features over all folds.

    Attributes
    ----------
    answer, reason
        WARN only if more (feature, fold) pairs were flagged than chance explains.
    flagged, judged
        (feature, fold) pairs that were flagged, and that could be judged; without `JOINT`.
    expected
        Pairs that chance would flag, on average.
    p
        Chance of at least so many; NaN where nothing could be judged.
    flagged_share
        For each feature, and `JOINT`, the share of its judged folds that were flagged; NaN where none could be judged.
    """

    answer: Answer
    reason: str
    flagged: int
    judged: int
    expected: float
    p: float
    flagged_share: dict[str, float]

    def to_dict(self) -> dict[str, str | int | float | dict[str, float | None] | None]:
        """Return plain values that JSON can hold."""
        return {
            "answer": self.answer,
            "reason": self.reason,
            "flagged_pairs": self.flagged,
            "judged_pairs": self.judged,
            "expected_pairs": self.expected,
            "p": plain(self.p),
            "flagged_folds_share": {name: plain(share) for name, share in self.flagged_share.items()},
        }


def feature_shift(
    values: Float32Array | Float64Array, names: Sequence[str], train: range, test: range, *, gap: int
) -> tuple[FeatureShift, ...]:
    """Rank the test period among blocks of training, feature by feature and jointly.

    Parameters
    ----------
    values
        (T, S, F) features. Leading training rows that hold a NaN are left out (warm-up); the others must be finite.
    names
        F feature names.
    train, test
        Bars that the model was fitted and validated on, and those it is judged on: ranges of step 1, test later.
    gap
        Bars left out on both sides of a reference block, so that its neighbours do not make the rest look alike.

    Returns
    -------
    tuple of FeatureShift
        One per feature in the order of `names`, then `JOINT`. A test longer than a fifth of training is cut into
        equal blocks of at most that length (the first few bars may be left over), so that training always holds five
        disjoint blocks, and is judged by its median p, which is cautious: it takes a shift that lasts.

    Notes
    -----
    "Worst of the four" is made fair by asking the reference blocks the same question: each statistic is measured in
    standard deviations of its reference, the largest of the four is the score, and the score is ranked. Overlapping
    blocks share bars, so R of them are worth W <= R independent ones, and p = (1 + W * share at or above) / (1 + W).
    A feature is flagged at p <= 0.05; where training is too short for that, p <= 1 / (1 + W): above every block. That
    a disjoint block is worth 2.3 was found by simulation; it holds false alarms of stationary AR(1) features to p.

    Raises
    ------
    ValueError
        If shapes or ranges do not fit, or a value in use is not finite.
    """
    past, now = _rows(values, names, train, test, gap)
    blocks = Blocks.cut(len(past), len(now), gap)
    if blocks is None:
        reason = "too few bars: it takes 10 in the test, and 20 reference blocks in training, five of them disjoint"
        return tuple(_untold(name, reason, len(past)) for name in (*names, JOINT))
    centre, scale = past.mean(axis=0), past.std(axis=0)
    floor = 1e-6 * np.maximum(np.abs(past).max(axis=0), np.finfo(np.float64).tiny)
    varies = (scale > floor).all(axis=0)
    scale = np.where(scale > floor, scale, 1.0)
    past, now = (past - centre) / scale, (now - centre) / scale
    phi = (past[1:] * past[:-1]).mean(axis=(0, 1))
    found = []
    for column, name in enumerate(names):
        if not varies[column]:
            found.append(_untold(name, "does not vary in training", len(past)))
            continue
        reference, observed = statistics(past[:, :, column], now[:, :, column], blocks)
        found.append(_judge(name, float(phi[column]), reference, observed, blocks))
    usable = varies & (phi <= PERSISTENT)
    if usable.any():
        reference, observed = discriminant(past[:, :, usable], now[:, :, usable], blocks)
        found.append(_judge(JOINT, np.nan, reference, observed, blocks))
    else:
        found.append(_untold(JOINT, "no feature can be judged", len(past)))
    return tuple(found)


def combine(per_fold: Sequence[tuple[FeatureShift, ...]]) -> ShiftSummary:
    """Ask whether more features in more folds were flagged than chance explains.

    Features move together, so their flags do as well. The count of features flagged at once in each reference block
    is therefore the null distribution of a fold's count, and, folds being judged by different bars, the sum over folds
    has the convolution of these. The fold's own count enters its null as one more block.

    Parameters
    ----------
    per_fold
        What `feature_shift` gave for each fold.
    """
    flags: Counter[str] = Counter()
    told: Counter[str] = Counter()
    order = dict.fromkeys(one.name for fold in per_fold for one in fold)
    null, smallest = np.ones(1), 1.0
    flagged = judged = 0
    expected = 0.0
    for fold in per_fold:
        usable = [one for one in fold if one.answer != "cannot tell"]
        told.update(one.name for one in usable)
        flags.update(one.name for one in usable if one.answer == "WARN")
        features = [one for one in usable if one.name != JOINT]
        if not features:
            continue
        count = sum(one.answer == "WARN" for one in features)
        reference = np.sum([one.reference_flagged for one in features], axis=0)
        weight = features[0].worth
        chance = np.bincount(reference, minlength=len(features) + 1) * (weight / len(reference))
        chance[count] += 1
        null = np.convolve(null, chance / (weight + 1))
        smallest /= weight + 1
        flagged, judged, expected = flagged + count, judged + len(features), expected + float(reference.mean())
    share = {name: flags[name] / told[name] if told[name] else float("nan") for name in order}
    if judged == 0:
        reason = "no feature could be judged in any fold"
        return ShiftSummary("cannot tell", reason, 0, 0, 0.0, float("nan"), share)
    p = min(1.0, float(null[flagged:].sum()))
    warn = flagged > 0 and p <= max(LEVEL, smallest * (1 + 1e-9))
    return ShiftSummary(
        answer="WARN" if warn else "PASS",
        reason=f"{flagged} of {judged} (feature, fold) pairs are unusual, chance alone explains about {expected:.1f}",
        flagged=flagged,
        judged=judged,
        expected=expected,
        p=p,
        flagged_share=share,
    )


def _rows(
    values: Float32Array | Float64Array, names: Sequence[str], train: range, test: range, gap: int
) -> tuple[Float64Array, Float64Array]:
    """Check the arguments and take the (rows, S, F) values of training and test."""
    if values.ndim != 3 or values.shape[2] != len(names):
        raise ValueError(f"values {values.shape} must be (T, S, F) with F = {len(names)} names")
    for span, what in ((train, "train"), (test, "test")):
        if len(span) == 0 or span.step != 1 or span.start < 0 or span.stop > len(values):
            raise ValueError(f"{what} must be a non-empty range of step 1 within {len(values)} bars, got {span}")
    if test.start < train.stop:
        raise ValueError(f"test {test} must follow train {train}")
    if gap < 0:
        raise ValueError(f"gap must not be negative, got {gap}")
    past = values[train.start : train.stop].astype(np.float64)
    now = values[test.start : test.stop].astype(np.float64)
    missing: NDArray[np.bool_] = np.asarray(~np.isfinite(past).all(axis=(1, 2)))
    warmup = len(past) if missing.all() else int(np.argmin(missing))
    if missing[warmup:].any() or not np.isfinite(now).all():
        raise ValueError("features must be finite after the warm-up")
    return past[warmup:], now


def _judge(name: str, phi: float, reference: Float64Array, observed: Float64Array, blocks: Blocks) -> FeatureShift:
    """Rank the test blocks among the reference blocks, and those among one another."""
    ranks = np.where(np.isnan(observed), np.nan, (reference < observed[:, None]).mean(axis=1))
    applies = ~np.isnan(observed[0])
    # PSI is a squared distance, the others are distances.
    power = np.array([1.0, 1.0, 0.5, 1.0])
    reference_units, units = (reference**power)[:, applies], (observed**power)[:, applies]
    score, reference_score = _scores(reference_units, units)
    share = (reference_score >= score[:, None]).mean(axis=1)
    worth = blocks.worth
    p = (1 + worth * share) / (1 + worth)
    # The largest share at or above that still counts as unusual: none, where training is short.
    most = max(0.0, (LEVEL * (1 + worth) - 1) / worth)
    answer: Answer
    if phi > PERSISTENT:
        answer, reason = "cannot tell", f"too persistent: lag-1 autocorrelation {phi:.3f} is above {PERSISTENT}"
    elif np.median(share) <= most:
        answer, reason = "WARN", f"more unusual than blocks of training are: p = {np.median(p):.3f}"
    else:
        answer, reason = "PASS", f"no more unusual than blocks of training: p = {np.median(p):.3f}"
    return FeatureShift(
        name=name,
        answer=answer,
        reason=reason,
        phi=phi,
        train_rows=blocks.train_rows,
        block_rows=blocks.length,
        values=observed,
        ranks=ranks,
        p=p,
        reference_flagged=_cross_flagged(reference_units, blocks.disjoint, most),
    )


def _scores(reference: Float64Array, observed: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Worst statistic of each block, in standard deviations of the reference: (B,) and (R,)."""
    centre, scale = reference.mean(axis=0), reference.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    return ((observed - centre) / scale).max(axis=1), ((reference - centre) / scale).max(axis=1)


def _cross_flagged(reference: Float64Array, disjoint: NDArray[np.bool_], most: float) -> NDArray[np.bool_]:
    """Judge each reference block by those that it shares no bar with, as if it were the test: (R,)."""
    apart = disjoint / disjoint.sum(axis=1, keepdims=True)
    centre = apart @ reference
    scale = np.sqrt(np.maximum(apart @ reference**2 - centre**2, 0))
    scale = np.where(scale > 0, scale, 1.0)
    # Score of block j in the units of those disjoint from block i, (R, R): the largest over the statistics.
    scores = np.max(
        [(row[None] - c[:, None]) / s[:, None] for row, c, s in zip(reference.T, centre.T, scale.T, strict=True)],
        axis=0,
    )
    own = np.diagonal(scores)[:, None]
    return np.asarray((apart * (scores >= own)).sum(axis=1) <= most + 1e-12)


def _untold(name: str, reason: str, train_rows: int) -> FeatureShift:
    return FeatureShift(
        name=name,
        answer="cannot tell",
        reason=reason,
        phi=float("nan"),
        train_rows=train_rows,
        block_rows=0,
        values=np.empty((0, 4)),
        ranks=np.empty((0, 4)),
        p=np.empty(0),
        reference_flagged=np.empty(0, dtype=np.bool_),
    )

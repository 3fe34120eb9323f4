"""What a model loses by growing old, at the same moments as a fresh one.

Plotting errors against age confounds age with the calendar: old models are asked about later markets. Here the model
made j retrainings earlier and the newest one answer at the same origins, and only their difference counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtrade.evaluation.significance import ewc_test, mean_interval
from qtrade.evaluation.skill import MIN_LABELS
from qtrade.evaluation.transfer import LEAST_ORIGINS, Transfer

TESTED_AGE = 6
"""Retrainings after which a model is tested for staleness, or as many as there are if they are fewer."""


@dataclass(frozen=True)
class Age:
    """A model aged `retrainings` against the fresh one on the same origins.

    Attributes
    ----------
    retrainings, bars
        How many newer models there are, and the mean age in bars by which it exceeds the fresh one's.
    origins
        Origins at which both were asked.
    r2_lost, low, high
        R2 points that the older one explains less of the squared outcome, with the 95 % interval by EWC.
    fresh_r2
        R2 against no change of the fresh models on these origins.
    p
        Two-sided p-value of "no difference", by EWC.
    """

    retrainings: int
    bars: float
    origins: int
    r2_lost: float
    low: float
    high: float
    fresh_r2: float
    p: float

    def to_dict(self) -> dict[str, float | int]:
        """Return plain values; differences of R2 are shares of the squared outcome."""
        return {
            "age_retrainings": self.retrainings,
            "age_bars": self.bars,
            "origins": self.origins,
            "r2_points_lost": self.r2_lost,
            "low95": self.low,
            "high95": self.high,
            "fresh_r2": self.fresh_r2,
            "p": self.p,
        }


@dataclass(frozen=True)
class Staleness:
    """The staleness curve.

    Attributes
    ----------
    ages
        One for each number of retrainings; empty with a single fold.
    tested
        The age whose p-value counts: `TESTED_AGE` retrainings, fixed beforehand; None where there is none.
    half_life_bars
        Age in bars at which half of a fresh model's edge is gone, interpolated; None if it never is, or if there is
        no edge to lose, which `edge` tells.
    edge
        Whether fresh models beat no change beyond chance (5 %), without which a half-life means nothing.
    """

    ages: tuple[Age, ...]
    tested: Age | None
    half_life_bars: float | None
    edge: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "ages": [age.to_dict() for age in self.ages],
            "tested_age_retrainings": self.tested.retrainings if self.tested else None,
            "p": self.tested.p if self.tested else None,
            "half_life_bars": self.half_life_bars,
            "fresh_edge_significant": self.edge,
        }


def staleness(transfer: Transfer) -> Staleness:
    """Measure the staleness of every age, on origins that were put alike to all models that were asked."""
    alike = _asked_alike(transfer)
    ages = tuple(age for j in range(1, transfer.models) if (age := _age(transfer, j, alike)) is not None)
    tested = next((age for age in reversed(ages) if age.retrainings <= TESTED_AGE), None)
    own = transfer.loss[transfer.fold, np.arange(len(transfer.fold))]
    gain = (transfer.naive_loss - own)[np.isfinite(own)]
    test = ewc_test(gain) if len(gain) >= LEAST_ORIGINS else None
    edge = test is not None and test.mean > 0 and test.p < 0.05
    return Staleness(ages, tested, _half_life(ages) if edge else None, edge)


def _age(transfer: Transfer, retrainings: int, alike: NDArray[np.bool_]) -> Age | None:
    """Compare models aged some retrainings at some origins; None where too few have both."""
    rows = np.nonzero((transfer.fold >= retrainings) & alike)[0]
    fresh = transfer.loss[transfer.fold[rows], rows]
    old = transfer.loss[transfer.fold[rows] - retrainings, rows]
    both = np.isfinite(fresh) & np.isfinite(old)
    rows, fresh, old = rows[both], fresh[both], old[both]
    # However densely they were asked, it is labels side by side that tell something.
    if len(rows) < LEAST_ORIGINS or np.ptp(transfer.origin[rows]) + 1 < MIN_LABELS * transfer.horizons[-1]:
        return None
    naive = transfer.naive_loss[rows]
    lost = (old - fresh) / naive.mean()
    low, high = mean_interval(lost)
    ends = transfer.train_end
    return Age(
        retrainings=retrainings,
        bars=float(np.mean(ends[transfer.fold[rows]] - ends[transfer.fold[rows] - retrainings])),
        origins=len(rows),
        r2_lost=float(lost.mean()),
        low=low,
        high=high,
        fresh_r2=float(1 - fresh.mean() / naive.mean()),
        p=ewc_test(lost).p,
    )


def _asked_alike(transfer: Transfer) -> NDArray[np.bool_]:
    """(O,) whether every model that was asked about an origin's period was asked about this origin.

    Some models are asked at all origins, others at some: a period in which a pair was asked more often would count
    for more.
    """
    asked = np.isfinite(transfer.loss)
    alike = np.ones(len(transfer.fold), dtype=np.bool_)
    for period in range(transfer.models):
        rows = transfer.fold == period
        here = asked[:, rows]
        alike[rows] = here[here.any(axis=1)].all(axis=0)
    return alike


def _half_life(ages: tuple[Age, ...]) -> float | None:
    """Interpolate the age at which half of the edge on the same origins is lost."""
    bars, share = 0.0, 0.0
    for age in ages:
        if age.fresh_r2 <= 0:
            continue  # on these origins there is no edge to lose
        lost = age.r2_lost / age.fresh_r2
        if lost >= 0.5:
            return bars + (age.bars - bars) * (0.5 - share) / (lost - share)
        bars, share = age.bars, lost
    return None

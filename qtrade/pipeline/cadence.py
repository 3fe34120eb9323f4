"""How often to train anew, chosen on bars before the test period, so that the test remains a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qtrade.config import RunConfig
from qtrade.errors import DataError, UsageError
from qtrade.evaluation.significance import long_run_variance
from qtrade.evaluation.transfer import LEAST_ORIGINS
from qtrade.pipeline.fitting import fit_fold
from qtrade.pipeline.market import Market
from qtrade.progress import Silent
from qtrade.splits import SplitConfig, walk_forward
from qtrade.types import Float64Array, Fold
from qtrade.windows import realised

CADENCES = (21, 63, 126, 252)
"""Bars between two trainings that are compared: a month, a quarter, half a year and a year of trading days."""
MODEL = "ridge"
"""The cheap model that stands in."""

_TOO_FEW = "There are too few bars before the test period to compare cadences."

_MOST_BARS = 4_000


@dataclass(frozen=True)
class Cadence:
    """What retraining every so many bars would have been worth before the test period.

    Attributes
    ----------
    model
        The model that stood in.
    origins
        Origins, the same ones for every cadence, all before the test period.
    r2
        R2 against no change at the longest horizon, by bars between two trainings.
    suggested
        The rarest training whose error is within one standard error of the best; None where nothing can be told.
    why
        One sentence.
    """

    model: str
    origins: int
    r2: dict[int, float]
    suggested: int | None
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "model": self.model,
            "origins_before_test": self.origins,
            "r2_by_retraining_bars": {str(step): value for step, value in self.r2.items()},
            "suggested_retraining_bars": self.suggested,
            "why": self.why,
        }


def suggest_cadence(market: Market, config: RunConfig, first: Fold) -> Cadence:
    """Walk a cheap model forward through the first fold's training bars, at several cadences.

    Half of the admissible origins train the first model; the others are forecast. The last bar used is the first
    fold's as-of bar: nothing of the test period enters.

    Parameters
    ----------
    first
        The run's first fold.
    """
    end = first.train_end + 1
    start = max(market.features.warmup, end - _MOST_BARS)
    horizon = config.window.horizon
    admissible = end - start - config.window.seq_len + 1 - horizon - config.split.delay
    losses: dict[int, Float64Array] = {}
    naive = np.zeros(0)
    for step in CADENCES:
        split = SplitConfig(
            mode=config.split.mode,
            train_size=max(2, admissible // 2),
            valid_size=max(1, min(config.split.valid_size, admissible // 4)),
            step=step,
            delay=config.split.delay,
        )
        try:
            folds = walk_forward(end, start, config.window.seq_len, horizon, split)
        except (UsageError, DataError):
            return Cadence(MODEL, 0, {}, None, _TOO_FEW)
        if len(folds) < 2:
            continue
        parts, sizes = [], []
        for fold in folds:
            fitted, _ = fit_fold(market, config, fold, MODEL, seed=config.seed, progress=Silent())
            path, rows = fitted.paths(market, config, fold.test)
            happened = realised(market.returns[:end], rows, horizon, config.split.delay).sum(axis=1)
            parts.append(((path.sum(axis=1) - happened) ** 2).reshape(len(fold.test), -1).mean(axis=1))
            sizes.append((happened**2).reshape(len(fold.test), -1).mean(axis=1))
        losses[step], naive = np.concatenate(parts), np.concatenate(sizes)
    if len(losses) < 2 or len(naive) < LEAST_ORIGINS:
        return Cadence(MODEL, len(naive), {}, None, _TOO_FEW)
    scale = float(naive.mean()) or 1.0
    r2 = {step: float(1 - loss.mean() / scale) for step, loss in losses.items()}
    best = max(r2, key=lambda step: r2[step])
    suggested = max(step for step, loss in losses.items() if _within_one_error(loss - losses[best]))
    if r2[best] <= 0:
        why = f"Before the test period, a {MODEL} model beat no change at no cadence, so there is nothing to suggest."
        return Cadence(MODEL, len(naive), r2, None, why)
    why = f"Before the test period, a {MODEL} model trained anew every {best} bars explained most"
    if suggested != best:
        why += f"; every {suggested} bars is the rarest training that does about as well (within one standard error)"
    why += "."
    return Cadence(MODEL, len(naive), r2, suggested, why)


def _within_one_error(worse_by: Float64Array) -> bool:
    variance, _ = long_run_variance(worse_by)
    return bool(worse_by.mean() <= np.sqrt(variance / len(worse_by)))

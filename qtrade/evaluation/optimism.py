"""How much of a score is self-deception: one model, the same test origins, ever more honest ways of fitting.

The *waterfall* goes down from a model that has seen its own test to one that was fitted once and kept for ever; what
is lost at each step has a name. The *ladder* compares what a model knows of its regime: nothing new since the first
fold, the past up to its last fit, or both sides of the test block. Every rung is scored on the same origins, so a
difference between two rungs is a mean of matched differences of loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from qtrade.errors import DataError, IntegrityError
from qtrade.evaluation.significance import effective_size, long_run_variance
from qtrade.evaluation.skill import MIN_LABELS
from qtrade.types import Float64Array, IntArray

WATERMARK = "NOT EVIDENCE"
"""What the rung of shuffled windows carries wherever it is shown: its model has seen its own test."""

RungName = Literal["in-sample", "shuffled", "purged CV", "walk-forward", "frozen", "oracle", "naive"]
Grade = Literal["PASS", "WARN", "FAIL", "INCONCLUSIVE"]

_WATERFALL: tuple[RungName, ...] = ("in-sample", "shuffled", "purged CV", "walk-forward", "frozen")
_LADDER: tuple[RungName, ...] = ("frozen", "walk-forward", "oracle", "naive")
# Name of a difference: the rung that is expected to score higher, and the other one.
_WATERFALL_STEPS: dict[str, tuple[RungName, RungName]] = {
    "leakage": ("shuffled", "purged CV"),
    "overfit": ("in-sample", "purged CV"),
    "shift": ("purged CV", "walk-forward"),
    "staleness": ("walk-forward", "frozen"),
}
_LADDER_STEPS: dict[str, tuple[RungName, RungName]] = {
    "price of not knowing the regime": ("oracle", "walk-forward"),
    "value of updating": ("walk-forward", "frozen"),
}


@dataclass(frozen=True, eq=False)
class Predictions:
    """What every rung predicted at the same N test origins.

    Attributes
    ----------
    origin
        (N,) bar positions of the test origins, increasing.
    horizons
        K horizons in bars, increasing.
    actual
        (N, S, K) cumulative log returns that followed, finite.
    rungs
        (N, S, K) predictions of each rung but ``naive``. Those of ``oracle`` may be NaN at origins of blocks that it
        cannot be fitted for.
    fit_rows
        Windows that each rung's models were fitted on, on average.
    model
        What was fitted, in words.
    blocks, oracle_blocks
        Test blocks in all, and those that the oracle could be fitted for.
    thinned
        Whether fitting used a random part of the windows, because there are many.
    seed
        Seed of the fits.

    Raises
    ------
    IntegrityError
        If a rung lacks a prediction at an origin, so that scores would be of different origins.
    """

    origin: IntArray
    horizons: tuple[int, ...]
    actual: Float64Array
    rungs: Mapping[RungName, Float64Array]
    fit_rows: Mapping[RungName, float]
    model: str
    blocks: int
    oracle_blocks: int
    thinned: bool
    seed: int

    def __post_init__(self) -> None:
        if self.actual.ndim != 3 or self.actual.shape[::2] != (len(self.origin), len(self.horizons)):
            raise ValueError(f"actual {self.actual.shape} does not fit {len(self.origin)} origins and {self.horizons}")
        wanted = {*_WATERFALL, *_LADDER} - {"naive"}
        if set(self.rungs) != wanted:
            raise ValueError(f"there must be predictions of {sorted(wanted)}, got {sorted(self.rungs)}")
        for name, predicted in self.rungs.items():
            known = np.isfinite(predicted)
            whole = known.all(axis=(1, 2)) | (~known.any(axis=(1, 2)) & (name == "oracle"))
            if predicted.shape != self.actual.shape or not whole.all():
                raise IntegrityError(
                    f"the rung '{name}' does not predict at every test origin",
                    why="rungs are compared on equal origins only",
                )


@dataclass(frozen=True)
class Rung:
    """The score of one way of fitting.

    Attributes
    ----------
    name
        Which.
    r2
        1 - (squared error) / (squared error of no change).
    low, high
        95 % interval by EWC.
    watermark
        ``NOT EVIDENCE`` on the rung of shuffled windows, else None.
    """

    name: RungName
    r2: float
    low: float
    high: float
    watermark: str | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "watermark", WATERMARK if self.name == "shuffled" else None)

    def __str__(self) -> str:
        mark = f" ({self.watermark})" if self.watermark else ""
        return f"{self.name}{mark} {self.r2:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; the watermark is there where the rung has one."""
        mark = {"watermark": self.watermark} if self.watermark else {}
        return {"name": self.name, **mark, "r2": self.r2, "r2_low95": self.low, "r2_high95": self.high}


@dataclass(frozen=True)
class Step:
    """What one rung scores above another, on the same origins.

    Attributes
    ----------
    name
        What the difference is called.
    upper, lower
        The two rungs.
    r2
        R2 of `upper` minus that of `lower`.
    low, high
        95 % interval by EWC, from the matched differences of loss. In the ladder, with at most as many cosines as there
        are blocks: with few blocks it is wide.
    p
        Two-sided p-value of no difference; below 0.05 exactly where the interval excludes zero.
    """

    name: str
    upper: RungName
    lower: RungName
    r2: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        marks = [f" ({WATERMARK})" if rung == "shuffled" else "" for rung in (self.upper, self.lower)]
        between = f"{self.upper}{marks[0]} - {self.lower}{marks[1]}"
        return f"{self.name} ({between}) {self.r2:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; a difference from the shuffled rung carries its watermark."""
        mark = {"watermark": WATERMARK} if "shuffled" in (self.upper, self.lower) else {}
        between = {"upper": self.upper, "lower": self.lower}
        return {
            "name": self.name,
            **mark,
            **between,
            "r2_difference": self.r2,
            "low95": self.low,
            "high95": self.high,
            "p": self.p,
        }


@dataclass(frozen=True)
class Scores:
    """Rungs and the steps between them at one horizon.

    Attributes
    ----------
    horizon
        Bars ahead.
    origins
        Test origins on which every rung is scored.
    n_eff
        Independent values that would say as much about the mean loss of no change.
    rungs, steps
        Scores and differences, in the order to show.
    """

    horizon: int
    origins: int
    n_eff: float
    rungs: tuple[Rung, ...]
    steps: tuple[Step, ...]

    def rung(self, name: RungName) -> Rung:
        """Find a rung by its name."""
        return next(rung for rung in self.rungs if rung.name == name)

    def step(self, name: str) -> Step:
        """Find a difference by its name."""
        return next(step for step in self.steps if step.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "horizon_bars": self.horizon,
            "origins": self.origins,
            "n_eff": self.n_eff,
            "rungs": [rung.to_dict() for rung in self.rungs],
            "steps": [step.to_dict() for step in self.steps],
        }


@dataclass(frozen=True)
class Optimism:
    """The waterfall and the ladder of one model.

    Attributes
    ----------
    model
        What was fitted, in words: a cheap model that stands in for the run's own.
    waterfall, ladder
        Scores per horizon, shortest first. Horizons with too few test origins are left out of either; the ladder is
        of the blocks that the oracle could be fitted for.
    fit_rows
        Windows that each rung's models were fitted on, on average.
    blocks, oracle_blocks, thinned, seed
        As in `Predictions`.
    """

    model: str
    waterfall: tuple[Scores, ...]
    ladder: tuple[Scores, ...]
    fit_rows: Mapping[RungName, float]
    blocks: int
    oracle_blocks: int
    thinned: bool
    seed: int

    @property
    def main(self) -> Scores | None:
        """The waterfall at the longest horizon, by which the gate judges; None where no horizon has enough origins."""
        return self.waterfall[-1] if self.waterfall else None

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> tuple[str, ...]:
        """Tell the main horizon's waterfall and ladder in words, the shuffled rung watermarked."""
        if self.main is None:
            return (f"There are fewer than {MIN_LABELS} test labels that do not overlap, so no rung is scored.",)
        part = " on a random part of the windows" if self.thinned else ""
        told = [
            f"Fitted{part}: {self.model}. R2 against no change {_bars(self.main.horizon)} ahead, 95% intervals, "
            f"on the same {self.main.origins} test origins for every rung:",
            " | ".join(map(str, self.main.rungs)),
            " | ".join(map(str, self.main.steps)),
        ]
        if self.ladder:
            last = self.ladder[-1]
            told += [
                f"Ladder {_bars(last.horizon)} ahead, on the {last.origins} test origins of the {self.oracle_blocks} "
                f"of {self.blocks} blocks with enough bars on both sides:",
                " | ".join(map(str, last.rungs)),
                " | ".join(map(str, last.steps)),
            ]
        else:
            told.append("Ladder: too few test blocks have enough bars on both sides for the oracle.")
        return tuple(told)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold, with units in the names, and the gate's answer."""
        grade, sentence = gate(self)
        return {
            "model": self.model,
            "main_horizon_bars": None if self.main is None else self.main.horizon,
            "gate": {"grade": grade, "sentence": sentence},
            "waterfall": [scores.to_dict() for scores in self.waterfall],
            "ladder": [scores.to_dict() for scores in self.ladder],
            "fit_rows": dict(self.fit_rows),
            "blocks": self.blocks,
            "oracle_blocks": self.oracle_blocks,
            "thinned": self.thinned,
            "seed": self.seed,
        }


def measure(predictions: Predictions) -> Optimism:
    """Score every rung on equal origins, and the steps between them.

    Parameters
    ----------
    predictions
        Of all rungs. Horizons with fewer than ``MIN_LABELS * h`` origins are left out.

    Raises
    ------
    DataError
        If the prices of the test period do not vary.
    """
    naive = np.zeros_like(predictions.actual)
    rungs: dict[RungName, Float64Array] = {**predictions.rungs, "naive": naive}
    seen = np.asarray(np.isfinite(predictions.rungs["oracle"]).all(axis=(1, 2)))
    everywhere = np.ones(len(seen), dtype=np.bool_)

    def scores(
        names: Sequence[RungName],
        steps: Mapping[str, tuple[RungName, RungName]],
        keep: NDArray[np.bool_],
        slowest: int | None,
    ) -> tuple[Scores, ...]:
        return tuple(
            _scores(
                horizon,
                predictions.actual[keep, :, k],
                {name: rungs[name][keep, :, k] for name in names},
                steps,
                slowest,
            )
            for k, horizon in enumerate(predictions.horizons)
            if keep.sum() >= MIN_LABELS * horizon
        )

    return Optimism(
        model=predictions.model,
        # Both models of a step are new in every block, and so is what one has over the other by chance.
        waterfall=scores(_WATERFALL, _WATERFALL_STEPS, everywhere, predictions.blocks),
        ladder=scores(_LADDER, _LADDER_STEPS, seen, predictions.oracle_blocks),
        fit_rows=predictions.fit_rows,
        blocks=predictions.blocks,
        oracle_blocks=predictions.oracle_blocks,
        thinned=predictions.thinned,
        seed=predictions.seed,
    )


def gate(optimism: Optimism) -> tuple[Grade, str]:
    """Judge whether cross-validation promised more than walk-forward delivered (gate G4), at the main horizon.

    PASS
        The 95 % interval of R2(purged CV) - R2(walk-forward) does not lie above zero, or purged cross-validation is no
        better than no change itself, and so promises nothing.
    WARN
        It lies above zero.
    FAIL
        It lies above zero, and walk-forward is no better than no change.
    INCONCLUSIVE
        There are too few test origins for an interval.
    """
    if optimism.main is None:
        return "INCONCLUSIVE", optimism.lines()[0]
    shift = optimism.main.step("shift")
    promised, delivered = optimism.main.rung("purged CV").r2, optimism.main.rung("walk-forward").r2
    numbers = (
        f"R2 {promised:+.3f} against {delivered:+.3f}, difference {shift.r2:+.3f} "
        f"(95% interval {shift.low:+.3f} to {shift.high:+.3f}), with {optimism.model}"
    )
    if promised <= 0:
        return "PASS", f"Purged cross-validation promises nothing that walk-forward could fail to deliver: {numbers}."
    if shift.low <= 0:
        return "PASS", f"Purged cross-validation promises no more than walk-forward delivers: {numbers}."
    if delivered > 0:
        return "WARN", f"Purged cross-validation promises more than walk-forward delivers: {numbers}."
    return "FAIL", f"Whatever purged cross-validation promises, walk-forward does not beat no change: {numbers}."


def _scores(
    horizon: int,
    actual: Float64Array,
    predicted: Mapping[RungName, Float64Array],
    steps: Mapping[str, tuple[RungName, RungName]],
    slowest: int | None,
) -> Scores:
    """Score (N, S) predictions; the symbols of an origin are averaged before anything is tested."""
    naive = np.mean(actual**2, axis=1)
    scale = float(naive.mean())
    if scale == 0:
        raise DataError(
            f"the prices of the test period do not vary over {_bars(horizon)}, so there is nothing to predict",
            fix="check the data, or choose a period in which the symbols were traded",
        )
    loss = {name: np.mean((actual - values) ** 2, axis=1) for name, values in predicted.items()}
    rungs = []
    for name, own in loss.items():
        r2, low, high, _ = _gain(naive - own, naive, scale)
        rungs.append(Rung(name, r2, low, high))
    return Scores(
        horizon=horizon,
        origins=len(actual),
        n_eff=effective_size(naive),
        rungs=tuple(rungs),
        steps=tuple(
            Step(name, upper, lower, *_gain(loss[lower] - loss[upper], naive, scale, slowest))
            for name, (upper, lower) in steps.items()
        ),
    )


def _gain(
    gain: Float64Array, naive: Float64Array, scale: float, slowest: int | None = None
) -> tuple[float, float, float, float]:
    """Return (mean gain) / (mean naive loss), its 95 % interval, and the p-value of none.

    With `slowest`, EWC uses at most so many cosines: those that vary more slowly than a test block.
    """
    r2 = float(gain.mean()) / scale
    # R2 is a ratio of two means; these are the contributions of the origins to it, to first order.
    parts = r2 + (gain - r2 * naive) / scale
    variance, dof = long_run_variance(parts, slowest)
    error = math.sqrt(variance / len(parts))
    reach = float(special.stdtrit(dof, 0.975)) * error
    p = 2 * float(special.stdtr(dof, -abs(r2) / error)) if error > 0 else 1.0
    return r2, r2 - reach, r2 + reach, p


def _bars(horizon: int) -> str:
    return "1 bar" if horizon == 1 else f"{horizon} bars"

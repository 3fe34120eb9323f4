"""Whether one model forecasts better than another, where both forecast the same symbols at the same moments.

Two models that are scored on different origins differ in luck: one of them may have been asked in calmer times. Here
only origins that every model has count, and each model is held against the first, the baseline, origin by origin: what
moves both losses cancels, so that a difference shows which the intervals of the two scores could not tell apart.

Losses are divided by that of the forecast that nothing moves, which is the same for all. A gain is therefore a
difference of two R2, or of two CRPS skills, and that of A over B is exactly minus that of B over A.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from qtrade.errors import DataError
from qtrade.evaluation.direction import at_each_origin
from qtrade.evaluation.distribution import crps_empirical
from qtrade.evaluation.scores import SAME, Comparison, Correlation, Labels, compare, correlate
from qtrade.evaluation.significance import holm, mean_interval, mean_test
from qtrade.evaluation.skill import LEVEL, MIN_LABELS
from qtrade.forecasts import Forecasts
from qtrade.paths import missing_residuals
from qtrade.types import Float64Array, IntArray

_Banks = list[tuple[IntArray, Float64Array]]
# Ends of the interval whose coverage is counted.
_INTERVAL = (0.1, 0.9)

POWER = 0.8
"""Probability with which a difference of the size called visible would be found."""

Answer = Literal["better", "worse", "cannot tell", "identical"]


@dataclass(frozen=True)
class Gain:
    """What a model gains over the baseline; all values but the p-values as a share of the loss of no change.

    Attributes
    ----------
    gain, low, high
        (loss of the baseline - loss of the model) / (loss of no change), positive where the model is better, with its
        95 % interval by EWC.
    visible
        Smallest gain that the test behind `p` would have found at 5 % with probability `POWER`, were it the only one.
    p
        Two-sided p-value of equal losses: Diebold-Mariano with the HLN correction (see `mean_test`).
    p_holm
        The same, adjusted for all models and horizons that are compared by this loss.
    identical
        Whether the two models forecast the same, apart from rounding; then the gain is 0 and p is 1.
    """

    gain: float
    low: float
    high: float
    visible: float
    p: float
    p_holm: float
    identical: bool = False

    @property
    def answer(self) -> Answer:
        """Say whether the model is better than the baseline beyond chance, at 5 % over all that is compared."""
        if self.identical:
            return "identical"
        if self.p_holm >= LEVEL:
            return "cannot tell"
        return "better" if self.gain > 0 else "worse"

    def to_dict(self, name: str) -> dict[str, float | str]:
        """Return plain values under names that begin with `name`."""
        return {
            f"{name}_gain": self.gain,
            f"{name}_gain_low95": self.low,
            f"{name}_gain_high95": self.high,
            f"{name}_visible_gain": self.visible,
            f"{name}_p": self.p,
            f"{name}_p_holm": self.p_holm,
            f"{name}_answer": self.answer,
        }


_IDENTICAL = Gain(gain=0.0, low=0.0, high=0.0, visible=0.0, p=1.0, p_holm=1.0, identical=True)


@dataclass(frozen=True)
class PairedScore:
    """One model at one horizon, on the origins that all have.

    Attributes
    ----------
    rmse
        Root mean squared error, in log return.
    vs_zero
        R2 against no change.
    correlation
        IC with its interval; None where the forecasts never vary.
    crps
        Mean CRPS of the predicted distribution, in log return.
    coverage80
        Share of outcomes inside the 80 % interval of the validation residuals.
    error_gain, crps_gain
        Gain over the baseline by squared error and by CRPS; None for the baseline itself.
    """

    rmse: float
    vs_zero: Comparison
    correlation: Correlation | None
    crps: float
    coverage80: float
    error_gain: Gain | None = None
    crps_gain: Gain | None = None

    def to_dict(self) -> dict[str, float | str | None]:
        """Return plain values that JSON can hold, with the unit in each name that has one."""
        ic = self.correlation
        values: dict[str, float | str | None] = {
            "rmse_log_return": self.rmse,
            "r2_vs_zero": self.vs_zero.r2,
            "r2_vs_zero_low95": self.vs_zero.r2_low,
            "r2_vs_zero_high95": self.vs_zero.r2_high,
            "ic": None if ic is None else ic.ic,
            "ic_low95": None if ic is None else ic.low,
            "ic_high95": None if ic is None else ic.high,
            "crps_log_return": self.crps,
            "coverage80_share": self.coverage80,
        }
        for name, gain in (("r2", self.error_gain), ("crps", self.crps_gain)):
            if gain is not None:
                values |= gain.to_dict(name)
        return values


@dataclass(frozen=True)
class PairedHorizon:
    """All models at one horizon, the baseline first; `rows` counts outcomes, `origins` the moments they belong to."""

    horizon: int
    origins: int
    rows: int
    scores: tuple[PairedScore, ...]


def on_equal_origins(models: Sequence[Forecasts]) -> tuple[Forecasts, ...]:
    """Keep of each model the rows whose symbol and origin all models have, in one order: by origin, then by symbol.

    Parameters
    ----------
    models
        Forecasts of each model, one row per (symbol, origin): see `Forecasts.seed_mean`.
    """
    keys = [pd.MultiIndex.from_arrays([one.origin, one.symbol]) for one in models]
    if any(one.has_duplicates for one in keys):
        raise ValueError("there are several forecasts of one symbol at one origin; average them with seed_mean()")
    shared = keys[0]
    for one in keys[1:]:
        shared = shared[one.get_indexer(shared) >= 0]
    shared = shared.sort_values()
    return tuple(_rows(one, key.get_indexer(shared)) for one, key in zip(models, keys, strict=True))


def compare_forecasts(
    models: Sequence[Forecasts], actual: Float64Array, horizons: Sequence[int]
) -> tuple[PairedHorizon, ...]:
    """Score several models on the same outcomes, and test each against the first.

    Parameters
    ----------
    models
        Forecasts on equal origins (see `on_equal_origins`), with residuals, the baseline first.
    actual
        (N, H) log returns of the bars after each origin, H at least the largest horizon; NaN where not known yet.
    horizons
        Bars ahead. Those with fewer than `MIN_LABELS` labels that do not overlap are left out.

    Raises
    ------
    DataError
        If the forecasts lack residuals, or no price moves.
    """
    first = models[0]
    if any(len(one) != len(actual) or not one.origin.equals(first.origin) for one in models):
        raise ValueError("the models do not share their origins; see on_equal_origins")
    happened = np.cumsum(actual, axis=1)
    banks = [_banks(one) for one in models]
    found = []
    for horizon in horizons:
        outcome = happened[:, horizon - 1]
        known = np.isfinite(outcome)
        origins = first.origin[known].nunique()
        if origins < MIN_LABELS * horizon:
            continue
        scored = [_Scored.of(one, bank, outcome, known, horizon) for one, bank in zip(models, banks, strict=True)]
        time = np.unique(first.origin[known].asi8, return_inverse=True)[1].astype(np.int64)
        symbol = pd.factorize(first.symbol[known])[0].astype(np.int64)
        scores = _scores(scored, outcome[known], time, symbol, horizon)
        found.append(PairedHorizon(horizon, origins, int(known.sum()), tuple(scores)))
    return _adjusted(found)


@dataclass(frozen=True, eq=False)
class _Scored:
    """The (N,) outcomes of one horizon as one model saw them: predicted, their CRPS, and whether its interval held."""

    predicted: Float64Array
    crps: Float64Array
    inside: NDArray[np.bool_]

    @classmethod
    def of(
        cls, forecasts: Forecasts, banks: _Banks, outcome: Float64Array, known: NDArray[np.bool_], horizon: int
    ) -> _Scored:
        """Score the rows whose outcome is known."""
        predicted = forecasts.path[:, :horizon].sum(axis=1)
        error = outcome - predicted
        crps, inside = np.full(len(error), np.nan), np.zeros(len(error), dtype=np.bool_)
        for rows, bank in banks:
            mine = rows[known[rows]]
            spread = bank[:, :horizon].sum(axis=1)
            low, high = np.quantile(spread, _INTERVAL)
            crps[mine] = crps_empirical(spread, error[mine])
            inside[mine] = (low <= error[mine]) & (error[mine] <= high)
        return cls(predicted[known], crps[known], inside[known])


def _scores(
    scored: Sequence[_Scored], outcome: Float64Array, time: IntArray, symbol: IntArray, horizon: int
) -> list[PairedScore]:
    """Score every model at one horizon, and test each but the first against the first."""
    still = np.zeros_like(outcome)
    square, move = at_each_origin(outcome**2, time), at_each_origin(np.abs(outcome), time)
    if not square.any():
        raise DataError(
            f"no price moves {horizon} bars ahead, so there is nothing to compare",
            fix="check the data, or choose a period in which the symbols were traded",
        )
    base = scored[0]
    base_error, base_crps = at_each_origin((outcome - base.predicted) ** 2, time), at_each_origin(base.crps, time)
    found: list[PairedScore] = []
    for one in scored:
        labels = Labels(horizon=horizon, time=time, symbol=symbol, predicted=one.predicted, actual=outcome, drift=still)
        square_error = (outcome - one.predicted) ** 2
        error, crps = at_each_origin(square_error, time), at_each_origin(one.crps, time)
        score = PairedScore(
            rmse=math.sqrt(float(square_error.mean())),
            vs_zero=compare(labels, still, "no change"),
            correlation=correlate(labels, labels.products(one.predicted, outcome)),
            crps=float(crps.mean()),
            coverage80=float(one.inside.mean()),
        )
        if one is not base:
            same = np.abs(one.predicted - base.predicted).max() <= SAME * math.sqrt(float(square.mean()))
            alike = np.abs(one.crps - base.crps).max() <= SAME * float(move.mean())
            score = replace(
                score,
                error_gain=_IDENTICAL if same else _gain(error, base_error, square, horizon),
                crps_gain=_IDENTICAL if alike else _gain(crps, base_crps, move, horizon),
            )
        found.append(score)
    return found


def _gain(loss: Float64Array, baseline: Float64Array, still: Float64Array, overlap: int) -> Gain:
    """Test the (T,) losses of a model against those of the baseline, in units of those of no change."""
    gained, unit = baseline - loss, float(still.mean())
    gain = float(gained.mean()) / unit
    # A ratio of two means: these are the contributions of the origins to its error, to first order.
    contributions = (gained - gain * still) / unit
    low, high = mean_interval(contributions)
    test = mean_test(gained, overlap)
    error = abs(test.mean / test.statistic) if test.statistic else 0.0
    reach = float(special.stdtrit(test.dof, 1 - LEVEL / 2) + special.stdtrit(test.dof, POWER))
    return Gain(gain=gain, low=gain + low, high=gain + high, visible=reach * error / unit, p=test.p, p_holm=test.p)


def _banks(forecasts: Forecasts) -> _Banks:
    """Positions of the rows that share validation errors, with these."""
    code, keys = pd.MultiIndex.from_arrays([forecasts.fold, forecasts.seed, forecasts.symbol]).factorize()
    missing = [key for key in keys if key not in forecasts.residuals]
    if missing:
        raise missing_residuals(missing[0])
    return [
        (np.nonzero(code == number)[0].astype(np.int64), forecasts.residuals[key]) for number, key in enumerate(keys)
    ]


def _adjusted(found: Sequence[PairedHorizon]) -> tuple[PairedHorizon, ...]:
    """Adjust each family of p-values, one by squared error and one by CRPS, for all models and horizons in it."""
    places = [(row, column) for row, one in enumerate(found) for column in range(1, len(one.scores))]
    scores = [list(one.scores) for one in found]
    errors = holm([_p(scores[row][column].error_gain) for row, column in places])
    crps = holm([_p(scores[row][column].crps_gain) for row, column in places])
    for (row, column), error, spread in zip(places, errors, crps, strict=True):
        one = scores[row][column]
        scores[row][column] = replace(
            one,
            error_gain=one.error_gain and replace(one.error_gain, p_holm=error),
            crps_gain=one.crps_gain and replace(one.crps_gain, p_holm=spread),
        )
    return tuple(replace(one, scores=tuple(mine)) for one, mine in zip(found, scores, strict=True))


def _p(gain: Gain | None) -> float:
    return 1.0 if gain is None else gain.p


def _rows(forecasts: Forecasts, at: IntArray) -> Forecasts:
    """Return the rows at some positions, in that order."""
    return replace(
        forecasts,
        path=forecasts.path[at],
        symbol=forecasts.symbol[at],
        origin=forecasts.origin[at],
        fold=forecasts.fold[at],
        seed=forecasts.seed[at],
        train_end=forecasts.train_end[at],
    )

"""Quality of the distribution of cumulative returns that the sampled paths come from.

At each horizon that distribution is the prediction plus the cumulative validation errors of its fold, each equally
likely. It is compared with *no change with the same spread*: the same errors around zero. Both have the same shape, so
the skill says what the predicted centre adds, and the size of the loss whether centre and spread fit the market.

All losses are in log return and lower is better. The continuous ranked probability score (CRPS) is the absolute error
of a whole distribution; the pinball loss is that of one of its quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from qtrade.errors import DataError
from qtrade.evaluation.direction import at_each_origin
from qtrade.evaluation.significance import mean_interval
from qtrade.evaluation.skill import MIN_LABELS
from qtrade.forecasts import Forecasts
from qtrade.types import Float64Array, IntArray

QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class HorizonDistribution:
    """How good the predicted distribution of the cumulative log return over one horizon was.

    Attributes
    ----------
    horizon
        Bars ahead.
    origins
        Moments at which a forecast was made and its outcome is known.
    crps, naive_crps
        Mean CRPS of the forecasts, and of no change with the same spread, in log return.
    crps_skill, crps_skill_low, crps_skill_high
        1 - crps / naive_crps with its 95 % interval by EWC; positive where the forecasts are better.
    pinball, naive_pinball
        Mean pinball loss of both at the quantiles of `QUANTILES`, in log return. At 0.5 it is half the absolute error.
    """

    horizon: int
    origins: int
    crps: float
    naive_crps: float
    crps_skill: float
    crps_skill_low: float
    crps_skill_high: float
    pinball: tuple[float, ...]
    naive_pinball: tuple[float, ...]

    def to_dict(self) -> dict[str, int | float]:
        """Return plain values that JSON can hold, with the unit in each name that has one."""
        losses = zip(QUANTILES, self.pinball, self.naive_pinball, strict=True)
        return {
            "horizon_bars": self.horizon,
            "origins": self.origins,
            "crps_log_return": self.crps,
            "naive_crps_log_return": self.naive_crps,
            "crps_skill": self.crps_skill,
            "crps_skill_low95": self.crps_skill_low,
            "crps_skill_high95": self.crps_skill_high,
            **{
                f"{name}pinball{100 * q:.0f}_log_return": loss
                for q, own, naive in losses
                for name, loss in (("", own), ("naive_", naive))
            },
        }


def distribution_skill(
    forecasts: Forecasts, actual: Float64Array, horizons: Sequence[int] = (1, 6, 12, 24)
) -> tuple[HorizonDistribution, ...]:
    """Measure the predicted distributions against what happened.

    Parameters
    ----------
    forecasts
        One row per (symbol, origin), with residuals: see `Forecasts.seed_mean`.
    actual
        (N, H) log returns of the bars after each origin, aligned to the rows; NaN where not known yet.
    horizons
        Bars ahead, in the order to report. Those beyond the path, and those with fewer than `MIN_LABELS` labels that
        do not overlap (``MIN_LABELS * h`` origins), are left out.

    Raises
    ------
    DataError
        If the forecasts have no residuals, or a distribution of no change is never wrong.
    """
    if actual.shape != forecasts.path.shape:
        raise ValueError(f"actual {actual.shape} does not fit paths {forecasts.path.shape}")
    if pd.MultiIndex.from_arrays([forecasts.origin, forecasts.symbol]).has_duplicates:
        raise ValueError("there are several forecasts of one symbol at one origin; average them with seed_mean()")
    predicted, happened = forecasts.cumulative(), np.cumsum(actual, axis=1)
    # Also checks that every row has its residuals. Without the prediction they are the quantiles of no change.
    quantiles = np.stack([forecasts.quantile(q) for q in QUANTILES])
    steps = [
        horizon - 1
        for horizon in horizons
        if horizon <= forecasts.horizon
        and forecasts.origin[np.isfinite(happened[:, horizon - 1])].nunique() >= MIN_LABELS * horizon
    ]
    own, naive = _crps_of_rows(forecasts, predicted, happened, steps)
    found = []
    for column, step in enumerate(steps):
        known = np.isfinite(happened[:, step])
        y = happened[known, step]
        time = np.unique(forecasts.origin[known].asi8, return_inverse=True)[1]
        loss, naive_loss = (at_each_origin(crps[known, column], time) for crps in (own, naive))
        scale = float(naive_loss.mean())
        if scale == 0:
            raise DataError(
                f"no change is never wrong {step + 1} bars ahead, nor was any validation forecast",
                why="the prices do not vary, so there is nothing to forecast",
                fix="check the data, or choose a period in which the symbol was traded",
            )
        gain = naive_loss - loss
        skill = float(gain.mean()) / scale
        # A ratio of two means: these are the contributions of the origins to its error, to first order.
        low, high = mean_interval((gain - skill * naive_loss) / scale)
        found.append(
            HorizonDistribution(
                horizon=step + 1,
                origins=len(loss),
                crps=float(loss.mean()),
                naive_crps=scale,
                crps_skill=skill,
                crps_skill_low=skill + low,
                crps_skill_high=skill + high,
                pinball=_pinball(y, quantiles[:, known, step], time),
                naive_pinball=_pinball(y, quantiles[:, known, step] - predicted[known, step], time),
            )
        )
    return tuple(found)


def crps_empirical(bank: Float64Array, y: Float64Array) -> Float64Array:
    """CRPS of the distribution of equally likely values `bank`, exactly, at each outcome.

    It is ``E|X - y| - E|X - X'| / 2`` with X and X' drawn independently from the bank (Gneiting & Raftery 2007,
    eq. 21). Sorted once, the bank gives every expectation from partial sums: O((V + N) log V) in all.

    Parameters
    ----------
    bank
        (V,) finite values, V >= 1, in any order.
    y
        (N,) outcomes; NaN gives NaN.

    Returns
    -------
    (N,) scores in the unit of `y`, never negative apart from rounding.
    """
    # Centred first: the terms cancel, and would do so badly for a bank far from zero.
    shift = float(bank.mean())
    values, outcome = np.sort(bank - shift), y - shift
    size = len(values)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    below = np.searchsorted(values, outcome)
    to_outcome = (outcome * (2 * below - size) + sums[-1] - 2 * sums[below]) / size
    half_spread = float((2 * np.arange(1, size + 1) - size - 1) @ values) / size**2
    return np.asarray(to_outcome - half_spread, dtype=np.float64)


def pinball_loss(y: Float64Array, quantile: Float64Array, q: float) -> Float64Array:
    """Loss of a predicted quantile `q`, least on average at the true one (Koenker & Bassett 1978)."""
    error = y - quantile
    return np.maximum(q * error, (q - 1) * error)


def _crps_of_rows(
    forecasts: Forecasts, predicted: Float64Array, happened: Float64Array, steps: Sequence[int]
) -> tuple[Float64Array, Float64Array]:
    """CRPS of every row (N,) at each step, around its prediction and around zero."""
    own, naive = np.empty((len(forecasts), len(steps))), np.empty((len(forecasts), len(steps)))
    code, keys = pd.MultiIndex.from_arrays([forecasts.fold, forecasts.seed, forecasts.symbol]).factorize()
    for number, key in enumerate(keys):
        rows = np.nonzero(code == number)[0]
        bank = np.cumsum(forecasts.residuals[key], axis=1)
        for column, step in enumerate(steps):
            y = happened[rows, step]
            own[rows, column] = crps_empirical(bank[:, step], y - predicted[rows, step])
            naive[rows, column] = crps_empirical(bank[:, step], y)
    return own, naive


def _pinball(y: Float64Array, quantiles: Float64Array, time: IntArray) -> tuple[float, ...]:
    """Mean loss at each of `QUANTILES`."""
    return tuple(
        float(at_each_origin(pinball_loss(y, at, q), time).mean()) for q, at in zip(QUANTILES, quantiles, strict=True)
    )

"""Skill of forecast paths per horizon, against the two forecasts that cost nothing: no change, and drift.

Everything is measured on cumulative log returns, never on price levels, where copying the last price already explains
over 90 % of the variance. Several symbols move together, so they are averaged at each origin before a test sees them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtrade.errors import DataError
from qtrade.evaluation.direction import Direction, direction
from qtrade.evaluation.scores import (
    Comparison,
    Correlation,
    Labels,
    compare,
    comparison_dict,
    correlate,
    correlation_dict,
)
from qtrade.evaluation.significance import detectable_ic, effective_size, holm
from qtrade.forecasts import Forecasts
from qtrade.types import Float64Array

# With twenty labels that share no bar the tests hold their size; with ten they reject a true null in up to 14 %.
MIN_LABELS = 20
# A p-value below this decides.
LEVEL = 0.05

Answer = Literal["PASS", "FAIL", "INCONCLUSIVE"]


@dataclass(frozen=True)
class ScaledSkill:
    """Skill where every return counts in units of the volatility known at its origin, so that calm times count too.

    Attributes
    ----------
    vs_zero, vs_drift, correlation
        As in `HorizonSkill`, of forecast, outcome and drift divided by s sqrt(h), where s is the volatility per bar.
    """

    vs_zero: Comparison
    vs_drift: Comparison
    correlation: Correlation | None


@dataclass(frozen=True)
class NaiveError:
    """Error of "no change" over one horizon within a fit segment, in log return: mean absolute, root mean square.

    Raises
    ------
    ValueError
        If one of them is not positive and finite.
    """

    mae: float
    rmse: float

    def __post_init__(self) -> None:
        if not (0 < self.mae < math.inf and 0 < self.rmse < math.inf):
            raise ValueError(f"in-sample naive errors must be positive and finite, got {self.mae} and {self.rmse}")


@dataclass(frozen=True)
class HorizonSkill:
    """What the forecasts of the cumulative log return over one horizon were worth.

    Attributes
    ----------
    horizon
        Bars ahead.
    origins
        Moments at which a forecast was made and its outcome is known.
    n_eff
        Independent forecasts that would say as much about the IC as these overlapping ones.
    vs_zero, vs_drift
        Comparison with no change (the random walk), and with the mean return known at each origin.
    correlation
        IC with its test; None where the forecasts never vary.
    right_direction, up_share
        Share of forecasts with the right sign; share of labels above zero, which always guessing "up" would reach.
        Labels and forecasts of exactly zero are left out; None where nothing remains.
    mae, rmse, naive_mae, naive_rmse
        Errors of the model and of no change, in log return.
    coverage80
        Share of outcomes inside the 80 % interval of the validation residuals; None without residuals.
    detectable_ic
        Smallest IC that so many independent forecasts would reveal (5 %, 80 % power).
    direction
        Right direction against luck, with its test; None where too few forecasts and labels have a sign.
    scaled
        The same skill in units of volatility; None where no volatility was given.
    mase, rmsse
        MAE and RMSE over the error of "no change" on this horizon in the fit segment (Hyndman & Koehler 2006): above
        1, the model errs more than no change did there. None where no such error was given.
    answer
        What `answers` says about this horizon.
    """

    horizon: int
    origins: int
    n_eff: float
    vs_zero: Comparison
    vs_drift: Comparison
    correlation: Correlation | None
    right_direction: float | None
    up_share: float | None
    mae: float
    rmse: float
    naive_mae: float
    naive_rmse: float
    coverage80: float | None
    detectable_ic: float
    direction: Direction | None = None
    scaled: ScaledSkill | None = None
    mase: float | None = None
    rmsse: float | None = None
    answer: Answer = "INCONCLUSIVE"

    @property
    def vs_best(self) -> Comparison:
        """Comparison with the naive forecast of the smaller error. Skill is more: a gain over both beyond chance."""
        return min(self.vs_zero, self.vs_drift, key=lambda comparison: comparison.r2)

    def to_dict(self) -> dict[str, int | float | str | None]:
        """Return plain values that JSON can hold, with the unit in each name that has one; the names never vary."""
        scaled = self.scaled or ScaledSkill(_NO_COMPARISON, _NO_COMPARISON, None)
        values: dict[str, int | float | str | None] = {
            "horizon_bars": self.horizon,
            "answer": self.answer,
            "origins": self.origins,
            "n_eff": self.n_eff,
            **comparison_dict("r2_vs_zero", self.vs_zero),
            **comparison_dict("r2_vs_drift", self.vs_drift),
            **correlation_dict("", self.correlation),
            "right_direction_share": self.right_direction,
            "up_share": self.up_share,
            **(self.direction or _NO_DIRECTION).to_dict(),
            "mae_log_return": self.mae,
            "rmse_log_return": self.rmse,
            "naive_mae_log_return": self.naive_mae,
            "naive_rmse_log_return": self.naive_rmse,
            "mase_ratio": self.mase,
            "rmsse_ratio": self.rmsse,
            "coverage80_share": self.coverage80,
            "detectable_ic": self.detectable_ic,
            **comparison_dict("scaled_r2_vs_zero", scaled.vs_zero),
            **comparison_dict("scaled_r2_vs_drift", scaled.vs_drift),
            **correlation_dict("scaled_", scaled.correlation),
        }
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()
        }


_NO_COMPARISON = Comparison(*[math.nan] * 5)
_NO_DIRECTION = Direction(*[math.nan] * 9)


def skill(
    forecasts: Forecasts,
    actual: Float64Array,
    drift: Float64Array,
    horizons: Sequence[int] = (1, 6, 12, 24),
    *,
    scale: Float64Array | None = None,
    naive_scale: Mapping[int, NaiveError] | None = None,
) -> tuple[HorizonSkill, ...]:
    """Measure forecasts against what happened.

    Parameters
    ----------
    forecasts
        One row per (symbol, origin): see `Forecasts.seed_mean`.
    actual
        (N, H) log returns of the bars after each origin, aligned to the rows; NaN where not known yet.
    drift
        (N,) mean log return per bar known at each origin.
    horizons
        Bars ahead, in the order to report. Those beyond the path, and those with fewer than `MIN_LABELS` labels that
        do not overlap (``MIN_LABELS * h`` origins), are left out.
    scale
        (N,) volatility per bar known at each origin, positive, in log return; None leaves out the scaled scores.
    naive_scale
        Errors of "no change" in a fit segment by horizon, from `naive_errors`; horizons without one get no MASE.

    Raises
    ------
    DataError
        If a naive forecast is never wrong, so that nothing can be compared with it.
    """
    rows = len(forecasts)
    if actual.shape != forecasts.path.shape or drift.shape != (rows,):
        raise ValueError(f"actual {actual.shape} and drift {drift.shape} do not fit paths {forecasts.path.shape}")
    if not np.isfinite(drift).all():
        raise ValueError("drift must be finite at every origin")
    if scale is not None and (scale.shape != (rows,) or not (np.isfinite(scale) & (scale > 0)).all()):
        raise ValueError(f"scale must be positive and finite, one for each of the {rows} rows")
    if pd.MultiIndex.from_arrays([forecasts.origin, forecasts.symbol]).has_duplicates:
        raise ValueError("there are several forecasts of one symbol at one origin; average them with seed_mean()")
    predicted, happened = forecasts.cumulative(), np.cumsum(actual, axis=1)
    known = np.isfinite(happened)
    low, high = (forecasts.quantile(0.1), forecasts.quantile(0.9)) if forecasts.residuals else (None, None)
    found = []
    for horizon in horizons:
        step = horizon - 1
        if horizon > forecasts.horizon or forecasts.origin[known[:, step]].nunique() < MIN_LABELS * horizon:
            continue
        keep = known[:, step]
        labels = Labels(
            horizon=horizon,
            time=np.unique(forecasts.origin[keep].asi8, return_inverse=True)[1].astype(np.int64),
            symbol=pd.factorize(forecasts.symbol[keep])[0].astype(np.int64),
            predicted=predicted[keep, step],
            actual=happened[keep, step],
            drift=horizon * drift[keep],
        )
        one = _horizon_skill(labels)
        if low is not None and high is not None:
            inside = (low[keep, step] <= labels.actual) & (labels.actual <= high[keep, step])
            one = replace(one, coverage80=float(inside.mean()))
        if scale is not None:
            one = replace(one, scaled=_scaled_skill(labels, scale[keep] * math.sqrt(horizon)))
        if naive_scale is not None and horizon in naive_scale:
            in_sample = naive_scale[horizon]
            one = replace(one, mase=one.mae / in_sample.mae, rmsse=one.rmse / in_sample.rmse)
        found.append(one)
    return _judged(found)


def naive_errors(returns: Float64Array, horizons: Sequence[int] = (1, 6, 12, 24)) -> dict[int, NaiveError]:
    """Measure how far prices moved within a fit segment: the error there of forecasting no change.

    Parameters
    ----------
    returns
        (T, S) log returns of the bars of one fit segment, and of none after it; NaN where not known. Symbols are
        pooled, as they are in the MAE and RMSE that these errors scale.
    horizons
        Bars ahead; those longer than the segment are left out.

    Raises
    ------
    DataError
        If no price of the segment moved.
    """
    found = {}
    for horizon in horizons:
        if horizon > len(returns):
            continue
        moves = np.lib.stride_tricks.sliding_window_view(returns, horizon, axis=0).sum(axis=-1)
        moves = moves[np.isfinite(moves)]
        if not moves.any():
            raise DataError(
                f"no price moved over {horizon} bars in the fit segment, so nothing can be measured in its moves",
                why=f"{len(moves)} returns of this length are known there, and all are zero",
                fix="check the data, or start the training period later",
            )
        found[horizon] = NaiveError(mae=float(np.abs(moves).mean()), rmse=float(np.sqrt(np.mean(moves**2))))
    return found


def better_than_both(skills: Sequence[HorizonSkill]) -> tuple[float, ...]:
    """P-values of beating "no change" and "drift" alike: the larger of the two, adjusted for the horizons by Holm."""
    return holm([max(one.vs_zero.p, one.vs_drift.p) for one in skills])


def answers(skills: Sequence[HorizonSkill]) -> tuple[Answer, ...]:
    """Judge each horizon, given all horizons looked at.

    ``PASS`` where the model beats both naive forecasts (`better_than_both`) at 5 % and the 95 % interval of its IC
    lies above zero; ``FAIL`` where it is worse than one of them at 5 %, adjusted for the horizons; else
    ``INCONCLUSIVE``.
    """
    found: list[Answer] = []
    for one, p in zip(skills, better_than_both(skills), strict=True):
        if p < LEVEL and one.vs_best.r2 > 0 and one.correlation is not None and one.correlation.low > 0:
            found.append("PASS")
        elif any(naive.p_holm < LEVEL and naive.r2 < 0 for naive in (one.vs_zero, one.vs_drift)):
            found.append("FAIL")
        else:
            found.append("INCONCLUSIVE")
    return tuple(found)


def to_frame(skills: Sequence[HorizonSkill]) -> pd.DataFrame:
    """One row per horizon, with the columns of `HorizonSkill.to_dict`."""
    return pd.DataFrame([one.to_dict() for one in skills])


def _horizon_skill(labels: Labels) -> HorizonSkill:
    predicted, actual = labels.predicted, labels.actual
    origins = int(labels.time.max()) + 1
    error = actual - predicted
    directed = (actual != 0) & (predicted != 0)
    products = labels.products(predicted, actual)
    # Without a correlation the labels alone say how much could be learned: as many as fit side by side.
    n_eff = min(effective_size(products, variance=1.0), len(actual)) if len(products) else origins / labels.horizon
    return HorizonSkill(
        horizon=labels.horizon,
        origins=origins,
        n_eff=n_eff,
        vs_zero=compare(labels, np.zeros_like(actual), "no change"),
        vs_drift=compare(labels, labels.drift, "drift"),
        correlation=correlate(labels, products),
        right_direction=_share((np.sign(actual) == np.sign(predicted))[directed]),
        up_share=_share((actual > 0)[actual != 0]),
        mae=float(np.abs(error).mean()),
        rmse=float(np.sqrt(np.mean(error**2))),
        naive_mae=float(np.abs(actual).mean()),
        naive_rmse=float(np.sqrt(np.mean(actual**2))),
        coverage80=None,
        detectable_ic=detectable_ic(n_eff),
        direction=direction(predicted, actual, labels.time, labels.symbol, least_origins=MIN_LABELS * labels.horizon),
    )


def _scaled_skill(labels: Labels, unit: Float64Array) -> ScaledSkill:
    """Measure skill in units of the volatility (N,) of each row's label."""
    scaled = replace(labels, predicted=labels.predicted / unit, actual=labels.actual / unit, drift=labels.drift / unit)
    return ScaledSkill(
        vs_zero=compare(scaled, np.zeros_like(unit), "no change"),
        vs_drift=compare(scaled, scaled.drift, "drift"),
        correlation=correlate(scaled, scaled.products(scaled.predicted, scaled.actual)),
    )


_Scored = TypeVar("_Scored", HorizonSkill, ScaledSkill)


def _judged(skills: Sequence[HorizonSkill]) -> tuple[HorizonSkill, ...]:
    """Adjust every family of tests for the number of horizons, and answer per horizon."""
    judged = _adjusted(skills)
    called = holm([1.0 if one.direction is None else one.direction.p for one in judged])
    judged = [
        replace(one, direction=one.direction and replace(one.direction, p_holm=p))
        for one, p in zip(judged, called, strict=True)
    ]
    scaled = _adjusted([one.scaled for one in judged if one.scaled is not None])
    if scaled:
        judged = [replace(one, scaled=other) for one, other in zip(judged, scaled, strict=True)]
    return tuple(replace(one, answer=answer) for one, answer in zip(judged, answers(judged), strict=True))


def _adjusted(skills: Sequence[_Scored]) -> list[_Scored]:
    """Adjust the tests of R2 and of both correlations; where there was nothing to test, p counts as 1."""
    zero = holm([one.vs_zero.p for one in skills])
    drift = holm([one.vs_drift.p for one in skills])
    ic = holm([1.0 if one.correlation is None else one.correlation.p for one in skills])
    rank = holm([1.0 if one.correlation is None else one.correlation.rank_p for one in skills])
    return [
        replace(
            one,
            vs_zero=replace(one.vs_zero, p_holm=zero[position]),
            vs_drift=replace(one.vs_drift, p_holm=drift[position]),
            correlation=one.correlation and replace(one.correlation, p_holm=ic[position], rank_p_holm=rank[position]),
        )
        for position, one in enumerate(skills)
    ]


def _share(hits: NDArray[np.bool_]) -> float | None:
    return float(hits.mean()) if len(hits) else None

"""Skill of forecast paths per horizon, against the two forecasts that cost nothing: no change, and drift.

Everything is measured on cumulative log returns, never on price levels, where copying the last price already explains
over 90 % of the variance. Several symbols move together, so they are averaged at each origin before a test sees them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from qtrade.errors import DataError
from qtrade.evaluation.significance import (
    detectable_ic,
    effective_size,
    ewc_test,
    holm,
    mean_interval,
    mean_test,
)
from qtrade.types import Float64Array, Forecasts, IntArray

# Below ten labels that share no bar, the tests reject a true null in more than a tenth of all cases.
MIN_LABELS = 10
# Forecasts closer together than this share of the label's size are one forecast, apart from rounding.
SAME = 1e-8


@dataclass(frozen=True)
class Comparison:
    """The model's squared error against that of one naive forecast.

    Attributes
    ----------
    r2
        1 - (squared error of the model) / (squared error of the naive forecast); positive where the model is better
        (Campbell & Thompson 2008). Never centred on the mean of the test period, which nobody knew.
    r2_low, r2_high
        95 % interval by EWC.
    p
        Two-sided p-value of equal errors, by Diebold-Mariano with the HLN correction.
    p_holm
        The same, adjusted for the number of horizons looked at.
    """

    r2: float
    r2_low: float
    r2_high: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class Correlation:
    """Information coefficient (IC): how forecasts and outcomes move together over time.

    Attributes
    ----------
    ic
        Pearson correlation; with several symbols, each is standardised first and they are pooled.
    low, high
        95 % interval by EWC.
    p
        Two-sided p-value of no correlation, by EWC.
    rank
        Spearman correlation, pooled in the same way.
    """

    ic: float
    low: float
    high: float
    p: float
    rank: float


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

    @property
    def vs_best(self) -> Comparison:
        """Comparison with the naive forecast of the smaller error. Skill is more: a gain over both beyond chance."""
        return min(self.vs_zero, self.vs_drift, key=lambda comparison: comparison.r2)

    def to_dict(self) -> dict[str, int | float | None]:
        """Return plain values that JSON can hold, with the unit in each name that has one."""
        ic = self.correlation
        return {
            "horizon_bars": self.horizon,
            "origins": self.origins,
            "n_eff": self.n_eff,
            **_comparison_dict("zero", self.vs_zero),
            **_comparison_dict("drift", self.vs_drift),
            "ic": ic.ic if ic else None,
            "ic_low95": ic.low if ic else None,
            "ic_high95": ic.high if ic else None,
            "ic_p": ic.p if ic else None,
            "rank_ic": ic.rank if ic else None,
            "right_direction_share": self.right_direction,
            "up_share": self.up_share,
            "mae_log_return": self.mae,
            "rmse_log_return": self.rmse,
            "naive_mae_log_return": self.naive_mae,
            "naive_rmse_log_return": self.naive_rmse,
            "coverage80_share": self.coverage80,
            "detectable_ic": self.detectable_ic,
        }


def skill(
    forecasts: Forecasts,
    actual: Float64Array,
    drift: Float64Array,
    horizons: Sequence[int] = (1, 6, 12, 24),
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
        labels = _Labels(
            horizon=horizon,
            time=np.unique(forecasts.origin[keep].asi8, return_inverse=True)[1].astype(np.int64),
            symbol=pd.factorize(forecasts.symbol[keep])[0].astype(np.int64),
            actual=happened[keep, step],
            drift=horizon * drift[keep],
        )
        inside = None
        if low is not None and high is not None:
            inside = (low[keep, step] <= labels.actual) & (labels.actual <= high[keep, step])
        found.append(_horizon_skill(labels, predicted[keep, step], inside))
    return _adjusted(found)


def to_frame(skills: Sequence[HorizonSkill]) -> pd.DataFrame:
    """One row per horizon, with the columns of `HorizonSkill.to_dict`."""
    return pd.DataFrame([one.to_dict() for one in skills])


@dataclass(frozen=True, eq=False)
class _Labels:
    """Known outcomes at one horizon, one row per (symbol, origin); `time` and `symbol` are consecutive codes."""

    horizon: int
    time: IntArray
    symbol: IntArray
    actual: Float64Array
    drift: Float64Array

    def per_origin(self, values: Float64Array) -> Float64Array:
        """Average over the symbols of each origin, in time order; NaN rows are left out, and origins of only such."""
        usable = np.isfinite(values)
        counts = np.bincount(self.time[usable], minlength=self.time.max() + 1)
        sums = np.bincount(self.time[usable], weights=values[usable], minlength=self.time.max() + 1)
        return np.asarray(sums[counts > 0] / counts[counts > 0], dtype=np.float64)

    def products(self, one: Float64Array, other: Float64Array) -> Float64Array:
        """Products of standardised values per origin; their mean is the correlation. Empty where one never varies."""
        return self.per_origin(self._standardised(one) * self._standardised(other))

    def ranks(self, values: Float64Array) -> Float64Array:
        """Rank each symbol's values over time, ties sharing their mean rank."""
        ranks = np.empty(len(values))
        for mine in self._symbols():
            ranks[mine] = stats.rankdata(values[mine])
        return ranks

    def _standardised(self, values: Float64Array) -> Float64Array:
        """Give each symbol mean zero and variance one over time; NaN for a symbol whose values do not vary."""
        result = np.full(len(values), np.nan)
        floor = SAME * float(np.abs(values).max())
        for mine in self._symbols():
            if np.ptp(values[mine]) > floor:
                result[mine] = (values[mine] - values[mine].mean()) / values[mine].std()
        return result

    def _symbols(self) -> Iterator[NDArray[np.bool_]]:
        """Rows of each symbol in turn."""
        for symbol in range(int(self.symbol.max()) + 1):
            yield self.symbol == symbol


def _horizon_skill(labels: _Labels, predicted: Float64Array, inside: NDArray[np.bool_] | None) -> HorizonSkill:
    actual = labels.actual
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
        vs_zero=_compare(labels, predicted, np.zeros_like(actual), "no change"),
        vs_drift=_compare(labels, predicted, labels.drift, "drift"),
        correlation=_correlate(labels, predicted) if len(products) else None,
        right_direction=_share((np.sign(actual) == np.sign(predicted))[directed]),
        up_share=_share((actual > 0)[actual != 0]),
        mae=float(np.abs(error).mean()),
        rmse=float(np.sqrt(np.mean(error**2))),
        naive_mae=float(np.abs(actual).mean()),
        naive_rmse=float(np.sqrt(np.mean(actual**2))),
        coverage80=None if inside is None else float(inside.mean()),
        detectable_ic=detectable_ic(n_eff),
    )


def _correlate(labels: _Labels, predicted: Float64Array) -> Correlation:
    products = labels.products(predicted, labels.actual)
    test = ewc_test(products)
    low, high = mean_interval(products)
    rank = labels.products(labels.ranks(predicted), labels.ranks(labels.actual)).mean()
    return Correlation(ic=test.mean, low=low, high=high, p=test.p, rank=float(rank))


def _compare(labels: _Labels, predicted: Float64Array, naive: Float64Array, name: str) -> Comparison:
    """Compare with one naive forecast; `p_holm` is p until every horizon is known."""
    naive_loss = labels.per_origin((labels.actual - naive) ** 2)
    scale = float(naive_loss.mean())
    if scale == 0:
        raise DataError(
            f"the naive forecast '{name}' is never wrong {labels.horizon} bars ahead",
            why="the prices of the test period do not vary, so there is nothing to forecast",
            fix="check the data, or choose a period in which the symbol was traded",
        )
    if np.abs(predicted - naive).max() <= SAME * np.sqrt(scale):
        return Comparison(r2=0.0, r2_low=0.0, r2_high=0.0, p=1.0, p_holm=1.0)
    gain = naive_loss - labels.per_origin((labels.actual - predicted) ** 2)
    r2 = float(gain.mean()) / scale
    # R2 is a ratio of two means; these are the contributions of the origins to its error, to first order.
    low, high = mean_interval((gain - r2 * naive_loss) / scale)
    p = mean_test(gain, labels.horizon).p
    return Comparison(r2=r2, r2_low=r2 + low, r2_high=r2 + high, p=p, p_holm=p)


def _adjusted(skills: Sequence[HorizonSkill]) -> tuple[HorizonSkill, ...]:
    """Adjust the p-values of each comparison for the number of horizons."""
    zero = holm([one.vs_zero.p for one in skills])
    drift = holm([one.vs_drift.p for one in skills])
    return tuple(
        replace(
            one,
            vs_zero=replace(one.vs_zero, p_holm=zero[position]),
            vs_drift=replace(one.vs_drift, p_holm=drift[position]),
        )
        for position, one in enumerate(skills)
    )


def _comparison_dict(name: str, comparison: Comparison) -> dict[str, float]:
    return {
        f"r2_vs_{name}": comparison.r2,
        f"r2_vs_{name}_low95": comparison.r2_low,
        f"r2_vs_{name}_high95": comparison.r2_high,
        f"r2_vs_{name}_p": comparison.p,
        f"r2_vs_{name}_p_holm": comparison.p_holm,
    }


def _share(hits: NDArray[np.bool_]) -> float | None:
    return float(hits.mean()) if len(hits) else None

"""Tests and intervals of a mean whose neighbouring values overlap.

A forecast of the next h bars is judged by labels that share h - 1 bars with their neighbours, so its losses are
autocorrelated by construction and a textbook t-test rejects a true null most of the time. Everything here estimates
the *long-run* variance instead: by h - 1 autocovariances (Diebold & Mariano 1995, corrected by Harvey, Leybourne &
Newbold 1997), or by equal-weighted cosines (EWC; Lazarus, Lewis, Stock & Watson 2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import fft, special

from qtrade.types import Float64Array

# Values closer together than this share of the largest are one value, apart from rounding.
_SAME = 1e-12


@dataclass(frozen=True)
class MeanTest:
    """A two-sided test of "the mean is zero".

    Attributes
    ----------
    mean
        Sample mean, in the unit of the series.
    statistic, dof
        t statistic and its degrees of freedom.
    p
        Two-sided p-value; 1 where the series does not vary, because then there is nothing to test.
    method
        ``HLN``, its fallback ``EWC``, or ``none`` for a series without variation.
    """

    mean: float
    statistic: float
    dof: float
    p: float
    method: Literal["HLN", "EWC", "none"]


def mean_test(series: Float64Array, overlap: int) -> MeanTest:
    """Test whether an autocorrelated series has mean zero.

    Parameters
    ----------
    series
        (T,) finite values in time order, T >= 2, such as the loss of one forecast minus that of another.
    overlap
        Steps h that one value spans: values h or more apart share nothing. 1 means no overlap.

    Returns
    -------
    MeanTest
        The Diebold-Mariano statistic with the small-sample correction of Harvey, Leybourne & Newbold (1997), against
        t with T - 1 degrees of freedom. Its variance, a sum of autocovariances, can come out at or below zero; then,
        and where the series is not longer than the overlap, EWC takes its place.
    """
    size = len(series)
    centred = series - series.mean()
    covariance = [float(centred[lag:] @ centred[: size - lag]) / size for lag in range(min(overlap, size))]
    variance = covariance[0] + 2 * sum(covariance[1:])
    if variance <= 0 or size <= overlap:
        return ewc_test(series)
    correction = (size + 1 - 2 * overlap + overlap * (overlap - 1) / size) / size
    return _student(series, variance / correction, size - 1, "HLN")


def ewc_test(series: Float64Array) -> MeanTest:
    """Test whether an autocorrelated series has mean zero, by EWC alone.

    This is the test of an information coefficient: `series` then holds products of standardised forecasts and
    outcomes, whose memory is that of the forecasts as much as that of the labels and so is not known beforehand.
    It agrees with `mean_interval`: p < 0.05 exactly where the 95 % interval excludes zero.
    """
    variance, dof = long_run_variance(series)
    return _student(series, variance, dof, "EWC")


def mean_interval(series: Float64Array, level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of the mean of an autocorrelated series, by EWC.

    Parameters
    ----------
    series
        (T,) finite values in time order, T >= 2.
    level
        Coverage asked for, between 0 and 1.
    """
    variance, dof = long_run_variance(series)
    reach = float(special.stdtrit(dof, 0.5 + level / 2)) * math.sqrt(variance / len(series))
    mean = float(series.mean())
    return mean - reach, mean + reach


def long_run_variance(series: Float64Array, most: int | None = None) -> tuple[float, int]:
    """Variance of sqrt(T) times the mean of an autocorrelated series, by equal-weighted cosines.

    The mean of the squared weights of the series on the nu slowest cosines, nu = 0.4 T^(2/3); a cosine has no mean, so
    the series needs no centring. A t statistic made from it has nu degrees of freedom.

    Parameters
    ----------
    series
        (T,) finite values in time order.
    most
        Largest nu, for a series whose memory is known to be longer than that of most; None for no bound.

    Returns
    -------
    variance, dof
        In the squared unit of the series, never negative; and nu.
    """
    size = len(series)
    dof = max(1, min(int(0.4 * size ** (2 / 3)), size if most is None else most))
    weights = fft.dct(series - series.mean(), type=2, norm="ortho")[1 : dof + 1]
    return float(np.mean(weights**2)), dof


def effective_size(series: Float64Array, variance: float | None = None) -> float:
    """Count the independent values whose mean would be as uncertain as the mean of `series`.

    Parameters
    ----------
    series
        (T,) finite values in time order.
    variance
        Variance of one such independent value; that of the series unless given. Give it where `series` holds averages
        over symbols, so that the symbols count for what they add.

    Returns
    -------
    float
        At least 1. Negative autocorrelation is not rewarded: the mean of T values never counts as more certain than
        that of T independent ones.
    """
    own = float(series.var())
    if own == 0:
        return float(len(series))
    long_run, _ = long_run_variance(series)
    one = own if variance is None else variance
    return max(1.0, len(series) * one / max(long_run, own))


def detectable_ic(n_eff: float, *, level: float = 0.05, power: float = 0.8) -> float:
    """Smallest correlation that a two-sided test at `level` finds with probability `power`; at most 1.

    With the usual 5 % and 80 % it is 2.8 / sqrt(n_eff): 208 independent labels cannot show an IC below 0.19.
    """
    reach = float(special.ndtri(1 - level / 2) + special.ndtri(power))
    return min(1.0, reach / math.sqrt(n_eff))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjust p-values for being several (Holm 1979), in the order given; each stays at or below 1."""
    order = np.argsort(np.asarray(p_values, dtype=np.float64), kind="stable")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, position in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = largest
    return tuple(adjusted)


def _student(series: Float64Array, variance: float, dof: int, method: Literal["HLN", "EWC"]) -> MeanTest:
    """Hold the mean against t, given the long-run variance."""
    mean = float(series.mean())
    if np.ptp(series) <= _SAME * np.abs(series).max() or variance == 0:
        return MeanTest(mean=mean, statistic=0.0, dof=float(dof), p=1.0, method="none")
    statistic = mean / math.sqrt(variance / len(series))
    p = 2 * float(special.stdtr(dof, -abs(statistic)))
    return MeanTest(mean=mean, statistic=statistic, dof=float(dof), p=p, method=method)

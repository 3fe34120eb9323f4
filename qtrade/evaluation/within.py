"""Tests and intervals of a mean over a part of the time line, such as the origins of one regime."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import fft, special

from qtrade.evaluation.scores import SAME
from qtrade.evaluation.significance import long_run_variance
from qtrade.types import Float64Array


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; both ends are None where too little is known to say."""

    value: float
    low: float | None
    high: float | None


def judge_within(value: float, influence: Float64Array, weight: Float64Array) -> tuple[Interval, float | None]:
    """Test a statistic of a part of the time line by EWC, allowing for the cosines that the part does not fill.

    Parameters
    ----------
    value
        The statistic, a mean over the part.
    influence, weight
        (T,) what each moment adds to its error, zero outside of the part; and the weight of the moment in it.

    Returns
    -------
    Interval, float or None
        Its 95 % interval and two-sided p-value of "it is zero"; no bounds and None where too little is known.
    """
    variance, count = long_run_variance(influence)
    expected, dof = _cosines_within(weight, count)
    if expected <= SAME or variance <= 0:
        return Interval(value, None, None), None
    error = math.sqrt(variance / expected / len(influence))
    reach = error * float(special.stdtrit(dof, 0.975))
    return Interval(value, value - reach, value + reach), 2 * float(special.stdtr(dof, -abs(value) / error))


def _cosines_within(weight: Float64Array, count: int) -> tuple[float, float]:
    """How much of the variance `count` cosines find in a regime, and with how many degrees of freedom.

    Independent values, demeaned in the regime, have weights on the cosines with covariance G, known from where the
    regime lies. A sum of their squares is like a chi-square with (tr G)^2 / tr(G^2) degrees of freedom. For the whole
    time line G is the identity.
    """
    size, total = len(weight), float(weight.sum())
    moment = np.zeros(2 * count + 1)
    spectrum = fft.dct(weight, type=2)[: len(moment)] / 2
    moment[: len(spectrum)] = spectrum
    own = moment[1 : count + 1]
    place = np.arange(1, count + 1)
    trace = float((total + moment[2 * place] - 2 * own**2 / total).sum()) / total
    squares = 0.0
    for row in place:
        # A product of two cosines is a cosine of the difference and one of the sum of their numbers.
        covariance = moment[np.abs(place - row)] + moment[place + row] - 2 * own * (own[row - 1] / total)
        squares += float(covariance @ covariance)
    return max(trace, 0.0) / count, trace**2 * total**2 / squares if squares > 0 else float(size)


def interval_dict(name: str, interval: Interval | None) -> dict[str, float | None]:
    """Return plain values under names that begin with `name`; None where there is no interval."""
    return {
        name: interval.value if interval else None,
        f"{name}_low95": interval.low if interval else None,
        f"{name}_high95": interval.high if interval else None,
    }

"""Intervals of Sharpe ratios that allow for returns that depend on one another, by the stationary bootstrap.

Bars are drawn in blocks of random length (Politis & Romano 1994), so that what follows what survives inside a block. A
draw is not read off directly: it is studentised, divided by its own standard error, and the error of the data is then
stretched by how far such draws lie from the data (Ledoit & Wolf 2008, for the difference of two ratios). The interval
is symmetric, so that it excludes 0 where the p-value is small, and the other way round.

To first order a Sharpe ratio is a mean: that of ``z - s / 2 (z^2 - 1)``, with z the standardised returns and s the
ratio per bar. The dependence within this series, squares included, sets the length of the blocks (Politis & White 2004)
and gives the standard error, from its sums over stretches at least as long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from arch.bootstrap import StationaryBootstrap, optimal_block_length

from qtrade.backtest.metrics import sharpe_ratio
from qtrade.types import Float64Array

MIN_BARS = 60
"""With fewer bars nothing is said: draws of so few would all be of the same handful."""

# Blocks that the bars must hold at least, because the error is the spread of sums over as many stretches.
_MIN_BLOCKS = 10
# Most stretches whose sums give the error: more would cost time and add nothing.
_MAX_STRETCHES = 500
# Drawn returns held at once: a few megabytes are several times faster than all of them.
_AT_ONCE = 200_000
# Standardised values closer together than this are one, apart from rounding.
_SAME = 1e-9


@dataclass(frozen=True)
class SharpeDifference:
    """The Sharpe ratio of one series minus that of another over the same bars, annualised.

    Attributes
    ----------
    difference, low, high
        The difference and its interval; NaN where a ratio or the interval is undefined.
    p
        Two-sided p-value of "both have the same Sharpe ratio"; NaN where the interval is undefined.
    """

    difference: float
    low: float
    high: float
    p: float

    def to_dict(self) -> dict[str, float | None]:
        """Return the numbers for JSON, in which an undefined one is None."""
        values = {"difference": self.difference, "low": self.low, "high": self.high, "p": self.p}
        return {name: value if math.isfinite(value) else None for name, value in values.items()}


def sharpe_interval(
    returns: Float64Array, periods_per_year: float, *, level: float = 0.95, draws: int = 1000, seed: int
) -> tuple[float, float]:
    """Interval of the annualised Sharpe ratio of (T,) net returns per bar.

    Parameters
    ----------
    returns
        Net returns per bar.
    periods_per_year
        Bars in a year.
    level
        Probability that such an interval covers the true ratio.
    draws
        Bootstrap draws.
    seed
        Of the draws.

    Returns
    -------
    low, high
        NaN twice with fewer than `MIN_BARS` bars, for returns that do not vary, and where so few of them are not zero
        that the draws say nothing.
    """
    ratio, _ = sharpe_ratio(returns, periods_per_year)
    if len(returns) < MIN_BARS or math.isnan(ratio):
        return math.nan, math.nan
    error, distances = _studentised(returns[None], draws, seed)
    reach = _quantile(distances, level) * error * math.sqrt(periods_per_year)
    return (ratio - reach, ratio + reach) if math.isfinite(reach) else (math.nan, math.nan)


def sharpe_difference(
    first: Float64Array,
    second: Float64Array,
    periods_per_year: float,
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int,
) -> SharpeDifference:
    """Difference of the annualised Sharpe ratios of two series of (T,) net returns, drawn together bar by bar.

    Parameters
    ----------
    first, second
        Net returns of the same T bars; what moves both cancels.
    periods_per_year, level, draws, seed
        As in `sharpe_interval`.

    Returns
    -------
    SharpeDifference
        Exactly 0 with p = 1 where one series is a positive multiple of the other, as the same positions at another
        size would be without costs.
    """
    if first.shape != second.shape:
        raise ValueError(f"returns {first.shape} and {second.shape} are not of the same bars")
    difference = sharpe_ratio(first, periods_per_year)[0] - sharpe_ratio(second, periods_per_year)[0]
    if len(first) < MIN_BARS or math.isnan(difference):
        return SharpeDifference(difference, math.nan, math.nan, math.nan)
    both = np.stack([first, second])
    if np.ptp(np.diff(_influence(both), axis=0)) <= _SAME:
        return SharpeDifference(0.0, 0.0, 0.0, 1.0)
    error, distances = _studentised(both, draws, seed)
    error *= math.sqrt(periods_per_year)
    reach = _quantile(distances, level) * error
    if not math.isfinite(reach):
        return SharpeDifference(difference, math.nan, math.nan, math.nan)
    p = (1 + int((distances >= abs(difference) / error).sum())) / (1 + draws)
    return SharpeDifference(difference, difference - reach, difference + reach, p)


def block_length(values: Float64Array) -> int:
    """Return the mean length of blocks that suits the dependence in (T,) values (Politis & White 2004).

    At least 1, and at most so long that the values hold ten blocks.
    """
    # Autocorrelations of a stretch without any variation are 0 / 0.
    with np.errstate(divide="ignore", invalid="ignore"):
        found = float(optimal_block_length(values)["stationary"].iloc[0])
    if not math.isfinite(found):
        found = len(values) ** (1 / 3)
    return max(1, min(round(found), len(values) // _MIN_BLOCKS))


def _studentised(series: Float64Array, draws: int, seed: int) -> tuple[float, Float64Array]:
    """Error of the ratio of (1, T) returns, or the difference of the ratios of (2, T), and the draws' distances.

    Both per bar. A distance is that of a draw from the data, in errors of the draw; infinite where the draw has none.
    """
    standard = (series - series.mean(axis=1, keepdims=True)) / series.std(axis=1, keepdims=True)
    # Returns whose mean is their ratio and whose spread is 1: the ratio is the same, and squares lose no digits.
    standard += (series.mean(axis=1) / series.std(axis=1))[:, None]
    bars = series.shape[1]
    block = block_length(_contrast(_influence(series)))
    stretch = max(block, bars // _MAX_STRETCHES)
    own, error = _estimate(standard[:, None], stretch)
    bootstrap = StationaryBootstrap(block, standard[0], seed=np.random.default_rng(seed))
    distances = np.empty(draws)
    step = max(1, _AT_ONCE // bars)
    for start in range(0, draws, step):
        rows = np.stack([bootstrap.update_indices() for _ in range(min(step, draws - start))])
        ratio, spread = _estimate(standard.take(rows, axis=1), stretch)
        apart = np.full(len(rows), np.inf)
        np.divide(np.abs(ratio - own[0]), spread, out=apart, where=spread > _SAME)
        distances[start : start + step] = apart
    return float(error[0]), distances


def _estimate(drawn: Float64Array, stretch: int) -> tuple[Float64Array, Float64Array]:
    """(D,) ratio or difference of ratios of (A, D, T) returns, and (D,) error of it from its sums over stretches.

    Both are 0 where returns do not vary.
    """
    bars = drawn.shape[2]
    edges = np.arange(0, bars, stretch)
    size = np.diff(edges, append=bars)
    first, second = np.add.reduceat(drawn, edges, axis=2), np.add.reduceat(drawn**2, edges, axis=2)
    mean = first.sum(axis=2, keepdims=True) / bars
    variance = second.sum(axis=2, keepdims=True) / bars - mean**2
    varies = (variance > _SAME).all(axis=0)
    variance = np.where(varies, variance, 1.0)
    ratio = mean / np.sqrt(variance * bars / (bars - 1))
    squares = second - 2 * mean * first + size * mean**2
    sums = _contrast((first - size * mean) / np.sqrt(variance) - ratio / 2 * (squares / variance - size))
    error = np.sqrt((sums**2).sum(axis=1) * len(edges) / (len(edges) - 1)) / bars
    kept = varies[:, 0]
    return np.where(kept, _contrast(ratio)[:, 0], 0.0), np.where(kept, error, 0.0)


def _influence(series: Float64Array) -> Float64Array:
    """Return the (A, T) series whose means are, to first order, the errors of the Sharpe ratios of (A, T) returns."""
    mean, spread = series.mean(axis=1, keepdims=True), series.std(axis=1, keepdims=True)
    standard = (series - mean) / spread
    influence: Float64Array = standard - mean / spread / 2 * (standard**2 - 1)
    return influence


def _contrast(values: Float64Array) -> Float64Array:
    """Return the first of one, or the first minus the second of two, along the first axis."""
    contrast: Float64Array = values[0] if len(values) == 1 else values[0] - values[1]
    return contrast


def _quantile(distances: Float64Array, level: float) -> float:
    """Distance that a share `level` of the draws stays within; infinite where too many draws have none."""
    return float(np.quantile(distances, level, method="higher"))

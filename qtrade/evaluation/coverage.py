"""How often intervals held: overall, over time, and in the rows of one regime."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from qtrade.evaluation.plain import plain
from qtrade.evaluation.significance import long_run_variance
from qtrade.types import Float64Array


@dataclass(frozen=True, eq=False)
class Coverage:
    """How the intervals of one method did.

    Attributes
    ----------
    method
        ``split``, ``refit``, ``aci`` or ``nexcp``.
    level
        Coverage asked for.
    radius
        (T, S) half width used at each origin, in log return; infinite where no finite interval keeps the promise, 0
        where the interval is empty.
    hits
        (T, S) 1 where the outcome lay inside, 0 where it did not, NaN where it is unknown. An infinite interval always
        counts as a hit and an empty one never, as in Gibbs & Candès.
    origins
        Origins with a known outcome.
    share, low, high
        Share of hits, symbols averaged at each origin first, and its 95 % interval; NaN without outcomes.
    median_width
        Median full width in log return, over the known outcomes; it may be infinite.
    infinite_share, empty_share
        Share of the known outcomes that met an infinite interval, and an empty one.
    rolling
        (T,) share of hits among the last `stretch` known origins, at the last of them; NaN before there are so many.
        It belongs to that origin, and was known `delay` bars after it.
    stretch
        Length of these stretches in origins.
    worst, worst_start, worst_end
        Lowest value of `rolling`, and the rows of the first and the last origin of that stretch; NaN, -1 and -1 where
        fewer than `stretch` origins are known.
    """

    method: str
    level: float
    radius: Float64Array
    hits: Float64Array
    origins: int
    share: float
    low: float
    high: float
    median_width: float
    infinite_share: float
    empty_share: float
    rolling: Float64Array
    stretch: int
    worst: float
    worst_start: int
    worst_end: int

    def to_dict(self) -> dict[str, str | int | float | None]:
        """Return plain values that JSON can hold; None for what is unknown or infinite. The series are left out."""
        found = self.worst_start >= 0
        return {
            "method": self.method,
            "level_share": self.level,
            "origins": self.origins,
            "coverage_share": plain(self.share),
            "coverage_low95_share": plain(self.low),
            "coverage_high95_share": plain(self.high),
            "median_width_log_return": plain(self.median_width),
            "infinite_share": plain(self.infinite_share),
            "empty_share": plain(self.empty_share),
            "stretch_origins": self.stretch,
            "worst_stretch_share": plain(self.worst),
            "worst_stretch_start_row": self.worst_start if found else None,
            "worst_stretch_end_row": self.worst_end if found else None,
        }


def coverage(
    method: str, error: Float64Array, radius: Float64Array, *, delay: int, level: float, stretch: int = 250
) -> Coverage:
    """Measure how often intervals of given radius held.

    Parameters
    ----------
    method
        Its name.
    error, radius
        (T, S) errors, NaN where unknown, and radii; a negative radius is an empty interval.
    delay
        Bars that neighbouring labels share, and one more.
    level
        Coverage asked for.
    stretch
        Origins in a stretch of rolling coverage.
    """
    known = np.isfinite(error)
    hits = np.where(known, np.abs(error) <= radius, np.nan)
    rows = np.nonzero(known.any(axis=1))[0]
    share, low, high = coverage_interval(hits, delay)
    rolling = np.full(len(error), np.nan)
    worst, start, end = math.nan, -1, -1
    if len(rows) >= stretch:
        stretches = np.lib.stride_tricks.sliding_window_view(_per_origin(hits), stretch).mean(axis=1)
        rolling[rows[stretch - 1 :]] = stretches
        lowest = int(np.argmin(stretches))
        worst, start, end = float(stretches[lowest]), int(rows[lowest]), int(rows[lowest + stretch - 1])
    used = radius[known]
    return Coverage(
        method=method,
        level=level,
        radius=np.maximum(radius, 0.0),
        hits=hits,
        origins=len(rows),
        share=share,
        low=low,
        high=high,
        median_width=float(2 * np.median(np.maximum(used, 0.0))) if len(used) else math.nan,
        infinite_share=float(np.mean(used == np.inf)) if len(used) else math.nan,
        empty_share=float(np.mean(used < 0)) if len(used) else math.nan,
        rolling=rolling,
        stretch=stretch,
        worst=worst,
        worst_start=start,
        worst_end=end,
    )


def coverage_interval(hits: Float64Array, delay: int) -> tuple[float, float, float]:
    """Return the share of hits and its 95 % interval.

    Parameters
    ----------
    hits
        (T, S) 1, 0, or NaN for unknown, in time order; the rows of one regime will do.
    delay
        Bars that neighbouring labels share, and one more.

    Returns
    -------
    share, low, high
        Symbols are averaged at each origin first. EWC says how many independent labels these are worth, at most three
        times as many as fit side by side, and just as many where hits never vary. The interval is Wilson's (1927) for
        so many, with EWC's t: one symmetric around a share near 1 misses on one side far too often. NaN without a
        known outcome.
    """
    series = _per_origin(hits)
    if len(series) == 0:
        return math.nan, math.nan, math.nan
    share = float(series.mean())
    labels, dof = len(series) / delay, math.inf
    if np.ptp(series) > 0:
        # Volatility comes in long spells, and so do misses of an interval that does not follow it.
        variance, dof = long_run_variance(series, max(10, len(series) // (4 * delay)))
        # Symmetric 90 % hits of a random walk with labels of h bars are worth about 2 T / h; a short series may by
        # chance look like far more.
        most = float(np.isfinite(hits).sum()) * min(1.0, 3 / delay)
        labels = min(share * (1 - share) * len(series) / variance, most) if variance > 0 else most
    squared = float(special.stdtrit(dof, 0.975)) ** 2 / labels
    middle = (share + squared / 2) / (1 + squared)
    reach = math.sqrt(squared * (share * (1 - share) + squared / 4)) / (1 + squared)
    return share, max(0.0, middle - reach), min(1.0, middle + reach)


def _per_origin(hits: Float64Array) -> Float64Array:
    """Average over the known symbols of each origin; origins without any are left out."""
    known = np.isfinite(hits)
    counts = known.sum(axis=1)
    sums = np.where(known, hits, 0.0).sum(axis=1)
    return np.asarray(sums[counts > 0] / counts[counts > 0], dtype=np.float64)

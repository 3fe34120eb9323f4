"""Scores of forecasts at one horizon against what happened, with tests that allow for overlapping labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from qtrade.errors import DataError
from qtrade.evaluation.direction import at_each_origin
from qtrade.evaluation.significance import ewc_test, mean_interval, mean_test
from qtrade.types import Float64Array, IntArray

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
        The same, adjusted for the number of horizons looked at; p until they are known.
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
    p_holm
        p, adjusted for the number of horizons looked at; NaN until they are known.
    rank_low, rank_high, rank_p, rank_p_holm
        Interval and p-values of the rank correlation, from products of standardised ranks; NaN where not computed.
    """

    ic: float
    low: float
    high: float
    p: float
    rank: float
    p_holm: float = math.nan
    rank_low: float = math.nan
    rank_high: float = math.nan
    rank_p: float = math.nan
    rank_p_holm: float = math.nan


@dataclass(frozen=True, eq=False)
class Labels:
    """Forecasts and outcomes at one horizon, one row per (symbol, origin); `time`, `symbol` are consecutive codes."""

    horizon: int
    time: IntArray
    symbol: IntArray
    predicted: Float64Array
    actual: Float64Array
    drift: Float64Array

    def products(self, one: Float64Array, other: Float64Array) -> Float64Array:
        """Products of standardised values per origin; their mean is the correlation. Empty where one never varies."""
        return at_each_origin(self._standardised(one) * self._standardised(other), self.time)

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

    def _symbols(self) -> list[IntArray]:
        """Rows of each symbol, in their order."""
        return np.split(np.argsort(self.symbol, kind="stable"), np.cumsum(np.bincount(self.symbol))[:-1])


def correlate(labels: Labels, products: Float64Array) -> Correlation | None:
    """Test the correlation whose products are given, and that of the ranks; None where there are no products."""
    if len(products) == 0:
        return None
    test = ewc_test(products)
    low, high = mean_interval(products)
    ranks = labels.products(labels.ranks(labels.predicted), labels.ranks(labels.actual))
    rank_test = ewc_test(ranks)
    rank_low, rank_high = mean_interval(ranks)
    return Correlation(
        ic=test.mean,
        low=low,
        high=high,
        p=test.p,
        rank=rank_test.mean,
        rank_low=rank_low,
        rank_high=rank_high,
        rank_p=rank_test.p,
    )


def compare(labels: Labels, naive: Float64Array, name: str) -> Comparison:
    """Compare with one naive forecast (N,)."""
    naive_loss = at_each_origin((labels.actual - naive) ** 2, labels.time)
    size = float(naive_loss.mean())
    if size == 0:
        raise DataError(
            f"the naive forecast '{name}' is never wrong {labels.horizon} bars ahead",
            why="the prices of the test period do not vary, so there is nothing to forecast",
            fix="check the data, or choose a period in which the symbol was traded",
        )
    if np.abs(labels.predicted - naive).max() <= SAME * np.sqrt(size):
        return Comparison(r2=0.0, r2_low=0.0, r2_high=0.0, p=1.0, p_holm=1.0)
    gain = naive_loss - at_each_origin((labels.actual - labels.predicted) ** 2, labels.time)
    r2 = float(gain.mean()) / size
    # R2 is a ratio of two means; these are the contributions of the origins to its error, to first order.
    low, high = mean_interval((gain - r2 * naive_loss) / size)
    p = mean_test(gain, labels.horizon).p
    return Comparison(r2=r2, r2_low=r2 + low, r2_high=r2 + high, p=p, p_holm=p)


def comparison_dict(name: str, comparison: Comparison) -> dict[str, float]:
    """Return plain values under names that begin with `name`."""
    return {
        name: comparison.r2,
        f"{name}_low95": comparison.r2_low,
        f"{name}_high95": comparison.r2_high,
        f"{name}_p": comparison.p,
        f"{name}_p_holm": comparison.p_holm,
    }


_UNKNOWN = Correlation(*[math.nan] * 5)


def correlation_dict(prefix: str, correlation: Correlation | None) -> dict[str, float]:
    """Return plain values under names that begin with `prefix`; NaN where there is no correlation."""
    one = correlation or _UNKNOWN
    return {
        f"{prefix}ic": one.ic,
        f"{prefix}ic_low95": one.low,
        f"{prefix}ic_high95": one.high,
        f"{prefix}ic_p": one.p,
        f"{prefix}ic_p_holm": one.p_holm,
        f"{prefix}rank_ic": one.rank,
        f"{prefix}rank_ic_low95": one.rank_low,
        f"{prefix}rank_ic_high95": one.rank_high,
        f"{prefix}rank_ic_p": one.rank_p,
        f"{prefix}rank_ic_p_holm": one.rank_p_holm,
    }

"""What forecasts and trades were worth in each regime.

A regime is a scattered part of the time line. Its mean is tested by the series, over the *whole* test period, of what
each origin adds to that mean, zero outside the regime: cutting the regime out and gluing its pieces together would
make neighbours of labels that are years apart, or independent labels of some that overlap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtrade.evaluation.plain import plain
from qtrade.evaluation.regimes import UNKNOWN, Regimes
from qtrade.evaluation.scores import SAME
from qtrade.evaluation.significance import effective_size, holm
from qtrade.evaluation.within import Interval, interval_dict, judge_within
from qtrade.types import Float64Array, IntArray

# A regime with fewer independent forecasts, or bars of trading, says nothing for sure.
ENOUGH = 30


@dataclass(frozen=True, eq=False)
class HorizonForecasts:
    """Forecasts of the cumulative return over one horizon, with what happened: N rows, one per (symbol, origin).

    Attributes
    ----------
    horizon
        Bars ahead.
    time, symbol
        (N,) position of the origin on the bar axis, and of the symbol on the symbol axis, of the regimes.
    actual, predicted
        (N,) cumulative log returns, finite.
    scale
        (N,) what both are divided by before anything is measured: the volatility known at the origin, or ones.
    inside
        (N,) whether the outcome lay in its 80 % interval, or None.
    """

    horizon: int
    time: IntArray
    symbol: IntArray
    actual: Float64Array
    predicted: Float64Array
    scale: Float64Array
    inside: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        for name in ("symbol", "actual", "predicted", "scale", "inside"):
            values = getattr(self, name)
            if values is not None and values.shape != self.time.shape:
                raise ValueError(f"'{name}' has shape {values.shape}, time has {self.time.shape}")
        for name in ("actual", "predicted", "scale"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"'{name}' must be finite in every row")
        if not (self.scale > 0).all():
            raise ValueError("'scale' must be positive in every row")
        pairs = np.stack([self.time, self.symbol])
        if np.unique(pairs, axis=1).shape != pairs.shape:
            raise ValueError("there are several forecasts of one symbol at one origin; average them first")
        if len(np.unique(self.time)) < 2:
            raise ValueError("at least two origins are needed")


@dataclass(frozen=True)
class RegimeSkill:
    """What forecasts, and the strategy if there is one, were worth in one regime.

    Attributes
    ----------
    label
        The regime.
    bars
        (bar, symbol) pairs of the whole series in it.
    train_share, test_share
        Its share of the training bars, and of the test forecasts, whose regime is known.
    forecasts
        Test forecasts in it.
    n_eff
        Independent forecasts that would say as much about the IC: its part of those of the whole test period.
    enough
        Whether `n_eff` is at least `ENOUGH`; without it, nothing here is worth a conclusion.
    r2
        R2 against no change; None where the outcome never differs from it.
    ic
        Information coefficient; None where forecasts or outcomes do not vary.
    p, p_holm
        Two-sided p-value of no correlation, and the same adjusted for the regimes with enough data (None for others).
    right_direction
        Share of forecasts with the right sign; those where either is zero are left out.
    coverage80
        Share of outcomes inside their 80 % interval.
    gain_share
        Part of the total reduction of squared error against no change that comes from this regime. Below zero where
        the forecasts did harm, so another can exceed 1; None unless the total is positive.
    trading_bars
        Bars of trading in it; with several symbols, each counts for a bar by the share of them that were in it.
    sharpe
        Annual Sharpe ratio of the net returns, as if the regime lasted the year; None below `ENOUGH` bars.
    exposure
        Mean share of equity at risk.
    """

    label: str
    bars: int
    train_share: float | None
    test_share: float | None
    forecasts: int
    n_eff: float
    enough: bool
    r2: Interval | None
    ic: Interval | None
    p: float | None
    p_holm: float | None
    right_direction: float | None
    coverage80: float | None
    gain_share: float | None
    trading_bars: float | None
    sharpe: Interval | None
    exposure: float | None

    @property
    def negative(self) -> bool:
        """Whether the forecasts pointed the wrong way beyond chance, all regimes considered (5 %, Holm)."""
        return self.ic is not None and self.ic.value < 0 and self.p_holm is not None and self.p_holm < 0.05

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold, with the unit in each name that has one."""
        return {
            "regime": self.label,
            "bars": self.bars,
            "train_share": self.train_share,
            "test_share": self.test_share,
            "forecasts": self.forecasts,
            "n_eff": self.n_eff,
            "enough": self.enough,
            **interval_dict("r2_vs_zero", self.r2),
            **interval_dict("ic", self.ic),
            "ic_p": self.p,
            "ic_p_holm": self.p_holm,
            "negative": self.negative,
            "right_direction_share": self.right_direction,
            "coverage80_share": self.coverage80,
            "gain_share": self.gain_share,
            "trading_bars": self.trading_bars,
            **interval_dict("sharpe_annual", self.sharpe),
            "exposure_share": self.exposure,
        }


@dataclass(frozen=True, eq=False)
class FoldHeatmap:
    """R2 against no change of each of K folds in each of R regimes.

    Attributes
    ----------
    folds, labels
        Numbers of the folds, and the regimes.
    r2
        (K, R); NaN where there are too few origins.
    origins
        (K, R) origins at which at least one symbol was in the regime.
    """

    folds: tuple[int, ...]
    labels: tuple[str, ...]
    r2: Float64Array
    origins: IntArray

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; None for NaN."""
        return {
            "folds": list(self.folds),
            "regimes": list(self.labels),
            "r2_vs_zero": [[plain(value) for value in row] for row in self.r2],
            "origins": self.origins.tolist(),
        }


def by_regime(
    regimes: Regimes,
    forecasts: HorizonForecasts,
    train: range,
    *,
    net: Float64Array | None = None,
    exposure: Float64Array | None = None,
    periods_per_year: float | None = None,
) -> tuple[RegimeSkill, ...]:
    """Measure forecasts, and the returns of a strategy, in each regime.

    Parameters
    ----------
    regimes
        The regime of each bar; a forecast belongs to the one known at its origin.
    forecasts
        One horizon of the test period.
    train
        Bars that the (first) model was trained on.
    net
        (T,) net return of the strategy in each bar, on the bar axis of `regimes`; NaN where it did not trade. A bar's
        return belongs to the regime at the close *before* it: its own close would sort returns by their outcome.
    exposure
        (T,) share of equity at risk during the same bars.
    periods_per_year
        Bars in a year of this market; needed with `net`.

    Returns
    -------
    tuple of RegimeSkill
        One for each regime, in the order of its code.

    Notes
    -----
    Symbols are averaged at each origin first. R2 is a ratio of means. The IC is the mean product of forecasts and
    outcomes, each less its symbol's mean over the whole test period, and divided by its root mean square in the
    regime: a mean of the regime alone would hide that the forecasts were too low throughout it.

    Tests and intervals use equal-weighted cosines (Lazarus, Lewis, Stock & Watson 2018). A regime of few pieces fills
    few of them: their expected sum, and the degrees of freedom that are left, follow from where the regime lies
    (Satterthwaite 1946), by the moments that independent values would give.
    """
    if net is not None and periods_per_year is None:
        raise ValueError("net returns need periods_per_year")
    code = _codes_of(forecasts, regimes)
    train_share = regimes.shares(regimes.codes[train.start : train.stop])
    test_share = regimes.shares(code)
    origins = _Origins.of(forecasts.time)
    actual, predicted = forecasts.actual / forecasts.scale, forecasts.predicted / forecasts.scale
    naive, gain = actual**2, actual**2 - (actual - predicted) ** 2
    total_gain = float(origins.average(gain).sum())
    directed, right = (actual != 0) & (predicted != 0), np.sign(actual) == np.sign(predicted)
    products = _products(predicted, actual, forecasts.symbol, code)
    usable = np.isfinite(products)
    products[~usable] = 0
    per_origin = _independent_share(origins, products, usable, code)
    found = []
    for number, label in enumerate(regimes.labels):
        mine = code == number
        ic, p = _ratio_within(origins, products, usable, mine & usable)
        r2, _ = _ratio_within(origins, gain, naive, mine)
        weight = float(origins.average(mine).sum())
        # Without a correlation the labels alone say how much could be learned: as many as fit side by side.
        n_eff = weight / forecasts.horizon if per_origin is None else min(per_origin * weight, float(mine.sum()))
        trading_bars, sharpe, mean_exposure = _trading(regimes.codes, number, net, exposure, periods_per_year)
        found.append(
            RegimeSkill(
                label=label,
                bars=int((regimes.codes == number).sum()),
                train_share=plain(train_share[number]),
                test_share=plain(test_share[number]),
                forecasts=int(mine.sum()),
                n_eff=n_eff,
                enough=n_eff >= ENOUGH,
                r2=r2,
                ic=ic,
                p=p,
                p_holm=None,
                right_direction=_share(right[mine & directed]),
                coverage80=None if forecasts.inside is None else _share(forecasts.inside[mine]),
                gain_share=float(origins.average(gain * mine).sum()) / total_gain if total_gain > 0 else None,
                trading_bars=trading_bars,
                sharpe=sharpe,
                exposure=mean_exposure,
            )
        )
    return _adjusted(found)


def fold_heatmap(
    regimes: Regimes, forecasts: HorizonForecasts, fold: IntArray, *, minimum: int = ENOUGH
) -> FoldHeatmap:
    """Measure R2 against no change of each fold in each regime.

    Parameters
    ----------
    regimes
        The regime of each bar; a forecast belongs to the one known at its origin.
    forecasts
        One horizon of all folds.
    fold
        (N,) number of the fold that made each forecast.
    minimum
        Origins below which a cell stays empty.
    """
    if fold.shape != forecasts.time.shape:
        raise ValueError(f"'fold' has shape {fold.shape}, time has {forecasts.time.shape}")
    code = _codes_of(forecasts, regimes)
    origins = _Origins.of(forecasts.time)
    actual, predicted = forecasts.actual / forecasts.scale, forecasts.predicted / forecasts.scale
    numbers, row = np.unique(fold, return_inverse=True)
    shape = len(numbers), len(regimes.labels)
    known = code != UNKNOWN
    cell = (row * shape[1] + code)[known]
    error, naive = (
        np.bincount(cell, weights=(values * origins.share)[known], minlength=math.prod(shape))
        for values in ((actual - predicted) ** 2, actual**2)
    )
    # Each origin counts once in a cell, however many symbols are in it.
    counts = np.bincount(np.unique(cell * origins.size + origins.code[known]) // origins.size, minlength=len(naive))
    r2 = np.full(len(naive), np.nan)
    filled = (counts >= minimum) & (naive > 0)
    r2[filled] = 1 - error[filled] / naive[filled]
    return FoldHeatmap(
        folds=tuple(map(int, numbers)), labels=regimes.labels, r2=r2.reshape(shape), origins=counts.reshape(shape)
    )


@dataclass(frozen=True, eq=False)
class _Origins:
    """The T moments at which forecasts were made: `code` (N,) says which, `share` (N,) is one over its symbols."""

    code: IntArray
    share: Float64Array
    size: int

    @classmethod
    def of(cls, time: IntArray) -> _Origins:
        _, code, counts = np.unique(time, return_inverse=True, return_counts=True)
        return cls(code=code, share=1 / counts[code], size=len(counts))

    def average(self, values: Float64Array | NDArray[np.bool_]) -> Float64Array:
        """(T,) mean over the symbols of each origin; rows outside a regime are zero, and so count for nothing."""
        sums = np.bincount(self.code, weights=values * self.share, minlength=self.size)
        return np.asarray(sums, dtype=np.float64)


def _codes_of(forecasts: HorizonForecasts, regimes: Regimes) -> IntArray:
    """(N,) regime known at the origin of each forecast."""
    bars, symbols = regimes.codes.shape
    for name, values, size in (("time", forecasts.time, bars), ("symbol", forecasts.symbol, symbols)):
        if values.min() < 0 or values.max() >= size:
            raise ValueError(f"'{name}' leaves the {size} positions that the regimes cover")
    return regimes.codes[forecasts.time, forecasts.symbol]


def _products(one: Float64Array, other: Float64Array, symbol: IntArray, code: IntArray) -> Float64Array:
    """(N,) products whose mean in a regime is the IC there; NaN where a symbol's values do not vary."""
    result = np.full(len(one), np.nan)
    floors = [SAME * float(np.abs(values).max()) for values in (one, other)]
    for number in np.unique(symbol):
        rows = np.nonzero(symbol == number)[0]
        pair = one[rows], other[rows]
        if all(np.ptp(values) > floor for values, floor in zip(pair, floors, strict=True)):
            groups = code[rows] - UNKNOWN
            result[rows] = np.prod([_scaled(values - values.mean(), groups) for values in pair], axis=0)
    result[code == UNKNOWN] = np.nan
    return result


def _scaled(values: Float64Array, groups: IntArray) -> Float64Array:
    """Divide values by their root mean square in each group; NaN where that is zero."""
    square = np.bincount(groups, weights=values**2)[groups] / np.bincount(groups)[groups]
    scaled: Float64Array = np.divide(values, np.sqrt(square), out=np.full(len(values), np.nan), where=square > 0)
    return scaled


def _independent_share(
    origins: _Origins, products: Float64Array, usable: NDArray[np.bool_], code: IntArray
) -> float | None:
    """Independent forecasts per origin of the test period, from products of variance one; None without any.

    Taken from the whole period, because a regime's own estimate is noisy: where it comes out too small, the regime
    would be said to hold enough data and the test to reject, both for the same wrong reason.
    """
    weight = origins.average(usable)
    held = weight > 0
    if not held.any():
        return None
    # Less the IC of their regime: that it differs between regimes makes none of them less certain.
    groups = code - UNKNOWN
    level = np.bincount(groups, weights=products * usable) / np.maximum(np.bincount(groups, weights=usable), 1)
    residual = origins.average((products - level[groups]) * usable)
    return effective_size(residual[held] / weight[held], variance=1.0) / float(weight.sum())


def _ratio_within(
    origins: _Origins, above: Float64Array, below: Float64Array | NDArray[np.bool_], mine: NDArray[np.bool_]
) -> tuple[Interval | None, float | None]:
    """Ratio of two sums over the rows of a regime, with its interval and the p-value of zero."""
    numerator, denominator = origins.average(above * mine), origins.average(below * mine)
    if denominator.sum() <= 0:
        return None, None
    ratio = float(numerator.sum() / denominator.sum())
    influence = (numerator - ratio * denominator) / denominator.mean()
    return judge_within(ratio, influence, origins.average(mine))


def _trading(
    codes: IntArray,
    number: int,
    net: Float64Array | None,
    exposure: Float64Array | None,
    periods_per_year: float | None,
) -> tuple[float | None, Interval | None, float | None]:
    """Bars of trading, annual Sharpe ratio and mean exposure in one regime."""
    if net is None or periods_per_year is None:
        return None, None, None
    weight = np.zeros(len(codes))
    weight[1:] = (codes[:-1] == number).mean(axis=1)
    traded = np.isfinite(net)
    weight, earned = weight[traded], net[traded]
    bars = float(weight.sum())
    if bars == 0:
        return 0.0, None, None
    held = None if exposure is None else float(weight @ exposure[traded]) / bars
    centred = earned - weight @ earned / bars
    deviation = math.sqrt(float(weight @ centred**2) / bars)
    if bars < ENOUGH or deviation <= SAME * float(np.abs(earned).max()):
        return bars, None, held
    standard = centred / deviation
    ratio = float(weight @ earned) / bars / deviation
    influence = weight * (standard - ratio / 2 * (standard**2 - 1)) * (len(weight) / bars)
    sharpe, _ = judge_within(ratio, influence, weight)
    annual = math.sqrt(periods_per_year)
    ends = [None if end is None else end * annual for end in (sharpe.low, sharpe.high)]
    return bars, Interval(ratio * annual, *ends), held


def _adjusted(found: Sequence[RegimeSkill]) -> tuple[RegimeSkill, ...]:
    """Adjust the p-values for the number of regimes that hold enough data to be judged."""
    judged = [number for number, one in enumerate(found) if one.enough and one.p is not None]
    adjusted = dict(zip(judged, holm([one.p for one in found if one.enough and one.p is not None]), strict=True))
    return tuple(replace(one, p_holm=adjusted.get(number)) for number, one in enumerate(found))


def _share(hits: NDArray[np.bool_]) -> float | None:
    return float(hits.mean()) if len(hits) else None

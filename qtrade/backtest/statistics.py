"""How much of a Sharpe ratio is luck: its own error, the trials behind it, the best of many variants, and its timing.

Every ratio is per bar, never annualised: the formulas count bars, and a wrong unit would go unseen in a probability.
The standard error takes net returns to be uncorrelated over time. Overlapping positions do not break that, because
the returns of neighbouring bars share nothing; it is forecasts of *cumulative* returns that overlap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import special

from qtrade.backtest.costs import BacktestConfig
from qtrade.backtest.metrics import sharpe_ratio
from qtrade.types import Bars, Float64Array, IntArray

# Shares of the shifted accounts below each line of the fan.
FAN = (0.05, 0.25, 0.5, 0.75, 0.95)
# Smallest shifts that must fit side by side into the period: with fewer, so few shifts are independent of one another
# that the p-value rejects useless timing too often.
MIN_SHIFTS = 20
# Values held at once while accounts or splits are compared: 32 MB, whatever the number of bars.
_AT_ONCE = 4_000_000
# Sharpe ratios closer together than this are one, apart from rounding.
_SAME = 1e-10


def probabilistic_sharpe(returns: Float64Array, benchmark: float = 0.0) -> float:
    """Return the probability that the true Sharpe ratio exceeds `benchmark` (PSR; Bailey & López de Prado 2012).

    Parameters
    ----------
    returns
        (T,) net returns per bar.
    benchmark
        Sharpe ratio per bar to beat. One minus the result is the one-sided p-value of "not above it".

    Returns
    -------
    float
        NaN if there are fewer than two returns, or they vary by no more than rounding.
    """
    ratio, error = _sharpe(returns)
    # An error of exactly zero needs returns of only two values; no probability follows from it.
    return float(special.ndtr((ratio - benchmark) / error)) if error > 0 else math.nan


def expected_best_sharpe(variance: float, trials: int) -> float:
    """Return the Sharpe ratio expected of the luckiest of several useless trials (Bailey & López de Prado 2014).

    Parameters
    ----------
    variance
        Variance of the Sharpe ratios of the trials, per bar.
    trials
        Independent trials N >= 1. Trials that resemble one another count for fewer, so that counting all errs towards
        caution.

    Returns
    -------
    float
        Sharpe ratio per bar; 0 for one trial, which was not chosen among any.
    """
    if trials < 1 or not variance >= 0:
        raise ValueError(f"expected at least one trial and a variance of at least 0, got {trials} and {variance}")
    if trials == 1:
        return 0.0
    first, second = special.ndtri(1 - 1 / trials), special.ndtri(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * float((1 - np.euler_gamma) * first + np.euler_gamma * second)


def deflated_sharpe(returns: Float64Array, *, trials: int, variance: float | None = None) -> float:
    """Return the probability that the true Sharpe ratio exceeds what the luckiest useless trial would show (DSR).

    Parameters
    ----------
    returns
        (T,) net returns per bar of the strategy that was chosen.
    trials
        Everything that was tried until it was chosen, itself included. For one it is the PSR against 0.
    variance
        Variance of the Sharpe ratios of these trials, per bar. None where it is unknown: then 1 / (T - 1), the
        variance of the Sharpe ratio of independent returns whose true ratio is 0, as if luck alone set them apart.

    Returns
    -------
    float
        NaN where the PSR is (Bailey & López de Prado 2014).
    """
    if len(returns) < 2:
        return math.nan
    spread = 1 / (len(returns) - 1) if variance is None else variance
    return probabilistic_sharpe(returns, expected_best_sharpe(spread, trials))


def min_track_record(returns: Float64Array, benchmark: float = 0.0, level: float = 0.95) -> float:
    """Return the bars needed before such returns show a Sharpe ratio above `benchmark` (MinTRL).

    Parameters
    ----------
    returns
        (T,) net returns per bar.
    benchmark
        Sharpe ratio per bar to beat.
    level
        Probability asked for: the PSR reaches it with so many bars of the same mean, variance, skew and kurtosis.

    Returns
    -------
    float
        Infinite where the Sharpe ratio is not above `benchmark`; NaN where it is undefined (Bailey & López de Prado
        2012).
    """
    ratio, error = _sharpe(returns)
    if math.isnan(ratio):
        return math.nan
    if ratio <= benchmark:
        return math.inf
    spread = error**2 * (len(returns) - 1)
    return 1 + spread * float(special.ndtri(level) / (ratio - benchmark)) ** 2


def backtest_overfitting(returns: Float64Array, blocks: int = 16) -> float:
    """Return the probability of backtest overfitting (PBO): that the best variant so far is below the median later.

    The bars are cut into blocks, and each choice of half of the blocks is the past of one split and the rest its
    future: combinatorially symmetric cross-validation (Bailey, Borwein, López de Prado & Zhu 2017), 12,870 splits for
    16 blocks. The variant with the best Sharpe ratio in the past is ranked among all in the future; the PBO is the
    share of splits in which it does not rank above the middle. Even for useless variants it scatters widely around a
    half, so it is no verdict on its own.

    Parameters
    ----------
    returns
        (T, N) finite net returns per bar of N variants; up to ``blocks - 1`` of the first bars are left out, so that
        blocks are of one length. A variant that never trades has a Sharpe ratio of 0.
    blocks
        Even number of blocks, 2 to 20.

    Returns
    -------
    float
        NaN for fewer than two variants, none that ever trades, or blocks of fewer than two bars.
    """
    if blocks % 2 or not 2 <= blocks <= 20:
        raise ValueError(f"blocks must be an even number from 2 to 20, got {blocks}")
    bars, variants = returns.shape
    length = bars // blocks
    if variants < 2 or length < 2 or not np.ptp(returns, axis=0).any():
        return math.nan
    cuts = np.array_split(returns[bars - length * blocks :], blocks)
    sums, squares = (np.stack([(cut**power).sum(axis=0) for cut in cuts]) for power in (1, 2))
    chosen = np.array(list(combinations(range(blocks), blocks // 2)))
    past = np.zeros((len(chosen), blocks))
    np.put_along_axis(past, chosen, 1.0, axis=1)
    step = max(1, _AT_ONCE // variants)
    below = 0
    for start in range(0, len(past), step):
        inside = past[start : start + step]
        best = sharpe_of_sums(inside @ sums, inside @ squares, length * blocks // 2).argmax(axis=1)
        later = sharpe_of_sums((1 - inside) @ sums, (1 - inside) @ squares, length * blocks // 2)
        own = np.take_along_axis(later, best[:, None], axis=1)
        # A rank r of N has logit ln(r / (N + 1 - r)), at most 0 where r <= (N + 1) / 2; ties share their mean rank.
        worse, better = (later < own - _SAME).sum(axis=1), (later > own + _SAME).sum(axis=1)
        below += int((worse <= better).sum())
    return below / len(past)


@dataclass(frozen=True, eq=False)
class ShiftNull:
    """What the positions of a strategy earn when they are held at the wrong times.

    Attributes
    ----------
    sharpe
        Net Sharpe ratio per bar at the right times, by the same formula.
    null
        (D,) net Sharpe ratios per bar of D shifts.
    p
        One-sided p-value of "the timing is worth nothing": (1 + shifts that do at least as well) / (1 + D). NaN where
        nothing was held, or the period is shorter than `MIN_SHIFTS` smallest shifts.
    fan
        (T, 5) quantiles over the shifts of the account after each bar, as a multiple of its start: 5, 25, 50, 75 and
        95 %. NaN without shifts.
    """

    sharpe: float
    null: Float64Array
    p: float
    fan: Float64Array

    def to_dict(self) -> dict[str, int | float | None]:
        """Return plain values for JSON, with the null as its quantiles; the fan belongs into a table."""
        levels = np.quantile(self.null, FAN).tolist() if len(self.null) else [math.nan] * len(FAN)
        values = {
            "sharpe_per_bar": self.sharpe,
            "p": self.p,
            **{f"null_sharpe_per_bar_q{share * 100:02.0f}": level for share, level in zip(FAN, levels, strict=True)},
        }
        return {
            "shifts": len(self.null),
            **{name: value if math.isfinite(value) else None for name, value in values.items()},
        }


def circular_shift_null(
    held: Float64Array,
    asset_returns: Float64Array,
    cost_per_turnover: float,
    *,
    min_shift: int = 24,
    draws: int = 500,
    seed: int,
) -> ShiftNull:
    """Hold the positions of a strategy against themselves at other times.

    All positions are moved by k bars in a circle, every symbol by the same k. Exposure, turnover, holding times and
    the ties between symbols stay, and so do the returns; only the match of the two is lost. A strategy that is always
    in the market is therefore no better than its shifts, however much the market rose, and one that is in the market
    when volatility is low is better, because that is timing too.

    Parameters
    ----------
    held
        (T, S) weight in each symbol while row t of `asset_returns` is earned; see `fill_to_fill`. Never the share at
        the close of the bar whose return is earned: that share has grown by this very return.
    asset_returns
        (T, S) simple returns.
    cost_per_turnover
        Cost of a fill as a share of the money traded (2 basis points: 0.0002). The first weight is paid for as a
        change from the last one, in a circle, so that every shift trades the same amount.
    min_shift
        Bars of the smallest shift, in both directions: the horizon of the forecasts, since smaller ones would keep
        part of the timing. In short periods the p-value is a little too small for forecasts that fade past returns and
        too large for those that follow them, because such positions also know the returns that they are moved to.
    draws
        Shifts drawn without repetition; all shifts, where there are no more.
    seed
        Of the draw.

    Returns
    -------
    ShiftNull
        With hindsight throughout: an account of the fan holds positions that were decided later.
    """
    if held.shape != asset_returns.shape or held.ndim != 2:
        raise ValueError(f"held {held.shape} and returns {asset_returns.shape} must be the same (T, S)")
    if not (np.isfinite(held).all() and np.isfinite(asset_returns).all()):
        raise ValueError("weights and returns must be finite")
    if min_shift < 1 or draws < 1:
        raise ValueError(f"min_shift and draws must be at least 1, got {min_shift} and {draws}")
    bars = len(held)
    drawn = _shifts(bars, min_shift, draws, seed)
    shifts = [0, *drawn.tolist()]
    cost = cost_per_turnover * np.abs(held - np.roll(held, 1, axis=0)).sum(axis=1)
    twice, cost_twice = np.concatenate([held, held]), np.concatenate([cost, cost])

    sums, squares, account = np.zeros(len(shifts)), np.zeros(len(shifts)), np.ones(len(shifts))
    fan = np.full((bars, len(FAN)), np.nan)
    step = max(1, _AT_ONCE // len(shifts))
    for start in range(0, bars, step):
        stop = min(start + step, bars)
        earned = asset_returns[start:stop]
        net = np.empty((len(shifts), stop - start))
        for row, shift in enumerate(shifts):
            moved = slice(bars - shift + start, bars - shift + stop)
            net[row] = np.einsum("ts,ts->t", twice[moved], earned) - cost_twice[moved]
        sums += net.sum(axis=1)
        squares += (net**2).sum(axis=1)
        # A short position can lose more than there is; its account stays at nothing.
        path = account[:, None] * np.cumprod(np.maximum(1 + net, 0), axis=1)
        account = path[:, -1]
        if len(drawn):
            fan[start:stop] = _columns_quantiles(path[1:])
    ratios = sharpe_of_sums(sums, squares, bars)
    own, null = float(ratios[0]), ratios[1:]
    if not held.any():
        own = math.nan
    judged = bars >= MIN_SHIFTS * min_shift and math.isfinite(own)
    p = (1 + int((null >= own - _SAME).sum())) / (1 + len(null)) if judged else math.nan
    return ShiftNull(sharpe=own, null=null, p=p, fan=fan)


def fill_to_fill(bars: Bars, decided: pd.DataFrame, account: BacktestConfig) -> tuple[Float64Array, Float64Array]:
    """Pair the weights that fills bring about with the returns that they earn.

    Parameters
    ----------
    bars
        Market of T bars and S symbols.
    decided
        (T, S) weights decided at each close, on the index of `bars`.
    account
        Delay, and the price of a bar that fills.

    Returns
    -------
    held, asset_returns
        (T, S) each: the weight from the open (or close) of bar t, decided at the close of bar t - delay and 0 before
        the first fill; and the return from that price to the next of its kind, in the last bar to its close. Between
        fills the weight stays as decided, where in a real account it drifts with the price.
    """
    if not decided.index.equals(bars.index) or decided.shape != bars.open.shape:
        raise ValueError("weights do not share the index and symbols of the bars")
    close = bars.close.to_numpy(dtype=np.float64)
    at = bars.open.to_numpy(dtype=np.float64) if account.fill == "open" else close
    held = np.zeros_like(at)
    held[account.delay :] = decided.to_numpy(dtype=np.float64)[: len(at) - account.delay]
    return held, np.concatenate([at[1:], close[-1:]]) / at - 1


def _sharpe(returns: Float64Array) -> tuple[float, float]:
    """Sharpe ratio per bar and its error, with the T - 1 of Bailey & López de Prado in place of T."""
    ratio, error = sharpe_ratio(returns, 1.0)
    return ratio, error * math.sqrt(len(returns) / (len(returns) - 1)) if len(returns) > 1 else math.nan


def sharpe_of_sums(sums: Float64Array, squares: Float64Array, count: IntArray | int) -> Float64Array:
    """Sharpe ratios per bar from the sums of `count` returns and of their squares; 0 where returns do not vary."""
    spread = (squares - sums**2 / count) / np.maximum(1, np.asarray(count) - 1)
    varies = spread * count > 1e-12 * squares
    ratios = np.zeros_like(sums)
    np.divide(sums / count, np.sqrt(spread, where=varies, out=np.ones_like(sums)), out=ratios, where=varies)
    return ratios


def _shifts(bars: int, min_shift: int, draws: int, seed: int) -> IntArray:
    """Draw shifts from min_shift .. bars - min_shift, in order; none where the period is too short."""
    possible = np.arange(min_shift, bars - min_shift + 1, dtype=np.int64)
    if len(possible) <= draws:
        return possible
    return np.sort(np.random.default_rng(seed).choice(possible, size=draws, replace=False))


def _columns_quantiles(values: Float64Array) -> Float64Array:
    """(columns, 5) quantiles of each column. Sorting along memory is several times faster than `numpy.quantile`."""
    ordered = np.sort(np.ascontiguousarray(values.T), axis=1)
    position = np.array(FAN) * (len(values) - 1)
    low = position.astype(np.int64)
    weight = position - low
    return ordered[:, low] * (1 - weight) + ordered[:, np.minimum(low + 1, len(values) - 1)] * weight

"""When did a relationship stop holding? Known only afterwards.

One model is watched for the whole test period: the oldest, which learns nothing more. For each bar, the *vote* is the
sum of all its forecasts that cover the bar, and the *contribution* is the vote times what the bar did, in units of
the volatility known before it. Each bar's return enters once, so contributions of neighbouring bars share nothing,
however far the forecasts reach (Hodrick 1992); their mean is what an information coefficient measures, and a change
of the mean is a change of the relationship.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from qtrade.evaluation.significance import long_run_variance
from qtrade.evaluation.transfer import Transfer
from qtrade.types import Float64Array, IntArray

# A break is dated from contributions on both sides of it.
LEAST_BARS = 60
# Bai (1997), table of the argmax of Brownian motion minus |x| / 2: its 95 % two-sided quantile.
_BAI95 = 11.0
BLOCK_BARS = 63
"""Bars of a block: long enough that a persistent forecast is forgotten by the next but one."""
_LAGS = 6
_LEAST_BLOCKS = 20


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each bar contributed to the correlation of one model's forecasts with what happened.

    Attributes
    ----------
    bar
        (B,) positions of the bars, consecutive.
    value
        (B,) mean over symbols of vote times return; votes are centred and of unit variance over the test period, since
        it is the correlation that is watched; returns are in units of volatility.
    """

    bar: IntArray
    value: Float64Array


@dataclass(frozen=True, eq=False)
class Break:
    """A test for a change of the mean contribution.

    Attributes
    ----------
    p
        p-value of "no change", by OLS-CUSUM (Ploberger & Kraemer 1992), scaled by the long-run deviation.
    bar, first, last
        Position of the most likely first bar of the new mean, and its 95 % range (Bai 1997).
    before, after
        Mean contribution on either side: how strongly forecasts and outcomes moved together.
    path
        (B,) the CUSUM; beyond 1.36 in size it speaks against "no change" at 5 %.
    """

    p: float
    bar: int
    first: int
    last: int
    before: float
    after: float
    path: Float64Array

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; the path is left to the figure."""
        return {
            "p": self.p,
            "bar": self.bar,
            "first_bar95": self.first,
            "last_bar95": self.last,
            "mean_contribution_before": self.before,
            "mean_contribution_after": self.after,
            "largest_cusum": float(np.abs(self.path).max()),
        }


@dataclass(frozen=True)
class Recurrence:
    """A test for a relationship that comes and goes, each time for longer than `BLOCK_BARS` bars."""

    statistic: float
    p: float
    blocks: int

    def to_dict(self) -> dict[str, float | int]:
        """Return plain values."""
        return {"statistic": self.statistic, "p": self.p, "blocks": self.blocks, "block_bars": BLOCK_BARS}


def contributions(
    transfer: Transfer, model: int, returns: Float64Array, volatility: Float64Array, delay: int
) -> Contributions | None:
    """Contributions of a model from its first test origin on, to the last bar that a forecast covers.

    Parameters
    ----------
    model
        Index of a model that was asked at every test origin from its own first one on.
    returns, volatility
        (T, S) log return of each bar, and its volatility by what was known at the bar's close; the return of bar b
        is divided by the volatility of bar b - 1.
    delay
        Bars between an origin's close and the start of its label.

    Returns
    -------
    Contributions or None
        None where the forecasts never vary or there are fewer than `LEAST_BARS` bars.
    """
    start = int(np.searchsorted(transfer.origin, transfer.train_end[model]))
    said = transfer.predicted[model, start:]
    if not np.isfinite(said).all():
        raise ValueError(f"model {model} was not asked at every origin since its own first one")
    # The vote of origin t is the first of all votes to count the forecast of t; it is about bar t + 1 + delay.
    bar = transfer.origin[start:] + 1 + delay
    keep = bar < len(returns)
    if keep.sum() < LEAST_BARS:
        return None
    total = np.cumsum(said, axis=0)
    vote = np.zeros(said.shape[:2])
    for place, horizon in enumerate(transfer.horizons):
        covering = total[:, :, place].copy()
        covering[horizon:] -= total[:-horizon, :, place]
        vote += _standardised(covering)
    vote, bar = _standardised(vote)[keep], bar[keep]
    voting = (vote != 0).any(axis=0)
    if not voting.any():
        return None
    moved = np.divide(returns[bar], volatility[bar - 1], out=np.zeros(vote.shape), where=volatility[bar - 1] > 0)
    return Contributions(bar=bar, value=(vote * moved)[:, voting].mean(axis=1))


def find_break(found: Contributions) -> Break | None:
    """Test for one change of the mean contribution, and date it; None where contributions do not vary."""
    value = found.value
    size = len(value)
    variance, _ = long_run_variance(value)
    if variance <= 0:
        return None
    path = np.cumsum(value - value.mean()) / math.sqrt(variance * size)
    # Neither side may be too short to have a mean.
    inner = slice(LEAST_BARS // 3, size - LEAST_BARS // 3)
    split = int(np.abs(path[inner]).argmax()) + inner.start + 1
    before, after = float(value[:split].mean()), float(value[split:].mean())
    step = after - before
    around = np.where(np.arange(size) < split, before, after)
    remaining, _ = long_run_variance(value - around)
    reach = math.ceil(_BAI95 * remaining / step**2) if step else size
    return Break(
        p=float(special.kolmogorov(np.abs(path).max())),
        bar=int(found.bar[split]),
        first=int(found.bar[max(0, split - reach)]),
        last=int(found.bar[min(size - 1, split + reach)]),
        before=before,
        after=after,
        path=path,
    )


def find_recurrence(found: Contributions) -> Recurrence | None:
    """Test for a relationship that comes and goes, by whether blocks of contributions resemble their neighbours.

    While one relationship holds, the means of blocks differ by chance alone, and products of the deviations of
    neighbouring blocks are as often negative as positive. Where it switches, they are positive for as long as a state
    lasts. The statistic adds up the products at 1 to 6 blocks apart, with falling weights, over their own root sum of
    squares, so that wild times count for no more than calm ones; it is standard normal where nothing comes and goes. A
    lasting change raises it, too.

    Returns
    -------
    Recurrence or None
        One-sided p-value; None with fewer than 20 blocks of `BLOCK_BARS` bars.
    """
    count = len(found.value) // BLOCK_BARS
    if count < _LEAST_BLOCKS:
        return None
    blocks = found.value[len(found.value) - count * BLOCK_BARS :].reshape(count, BLOCK_BARS).sum(axis=1)
    apart = blocks - blocks.mean()
    products = [(1 - (lag - 1) / _LAGS) * apart[lag:] * apart[:-lag] for lag in range(1, _LAGS + 1)]
    scale = math.sqrt(sum(float(part @ part) for part in products))
    if scale == 0:
        return None
    statistic = float(sum(part.sum() for part in products)) / scale
    return Recurrence(statistic=statistic, p=float(special.ndtr(-statistic)), blocks=count)


def _standardised(values: Float64Array) -> Float64Array:
    """Centre columns and give them unit variance; a column that does not vary becomes zero."""
    centred = values - values.mean(axis=0)
    spread = centred.std(axis=0)
    varies = spread > 1e-12 * np.abs(values).max(axis=0, initial=0.0)
    scaled: Float64Array = np.divide(centred, spread, out=np.zeros_like(centred), where=varies)
    return scaled

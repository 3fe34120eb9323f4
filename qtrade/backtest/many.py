"""Thousands of accounts on one market: what every variant of a strategy would have earned.

vectorbt fills one order after the other into records, from which an account has to be put together again. The loop of
`qtrade.backtest.planner` knows the worth of the account at every close anyway, and keeps nothing else: it is many times
faster, and tests hold it to the same numbers. `benchmarks/sweep_speed.py` measures both.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtrade.backtest.compiled import compiled
from qtrade.backtest.costs import NOTHING_LEFT, BacktestConfig, require_bar_to_fill
from qtrade.backtest.engine import market_prices
from qtrade.backtest.exits import Exits
from qtrade.backtest.planner import plan
from qtrade.types import Bars, Float64Array, IntArray

# Returns closer together than this are one return, apart from rounding.
_SAME = 1e-13
# Weights that are kept until they are simulated together: 64 MB.
_AT_ONCE = 8_000_000


@dataclass(frozen=True, eq=False)
class Variants:
    """What V accounts earned over T bars.

    Attributes
    ----------
    net
        (T, V) net returns per bar, side by side in memory for one account.
    gross, cost
        (V,) means per bar.
    turnover
        (V,) mean money traded per bar, as a share of equity.
    exposure
        (V,) mean share of equity in the market at the closes, long plus short.
    drawdown
        (V,) deepest fall of the account below an earlier peak, as a positive share of that peak.
    mean, deviation
        (V,) mean and standard deviation of the net returns per bar; the latter 0 where they differ by rounding alone.
    effective_bars
        (V,) bars that make up their variance: T over the kurtosis, and 0 where they do not vary.
    fills
        (V,) number of fills.
    ruined
        (V,) whether the account was.
    """

    net: Float64Array
    gross: Float64Array
    cost: Float64Array
    turnover: Float64Array
    exposure: Float64Array
    drawdown: Float64Array
    mean: Float64Array
    deviation: Float64Array
    effective_bars: Float64Array
    fills: IntArray
    ruined: NDArray[np.bool_]

    @classmethod
    def empty(cls, bars: int, variants: int) -> Variants:
        """Make room for what is filled in later."""
        gross, cost, turnover, exposure, drawdown, mean, deviation, effective = np.empty((8, variants))
        fills, ruined = np.zeros(variants, dtype=np.int64), np.zeros(variants, dtype=np.bool_)
        net = np.empty((bars, variants), order="F")
        return cls(net, gross, cost, turnover, exposure, drawdown, mean, deviation, effective, fills, ruined)


def simulate_many(
    bars: Bars,
    decided: Callable[[int], Float64Array],
    count: int,
    config: BacktestConfig,
    exits: Exits | None = None,
) -> Variants:
    """Trade many variants, each with an account of its own, as `qtrade.backtest.engine.simulate` would trade each.

    Parameters
    ----------
    decided
        Returns the (T, S) finite weights of variant 0, 1, .. `count` - 1. It is called in order, and no more weights
        are kept than are simulated together.
    count
        Number V of variants.

    Raises
    ------
    UsageError
        If the delay leaves no bar to fill the first decision in.
    """
    require_bar_to_fill(bars, config)
    prices = market_prices(bars)
    levels = None if exits is None else exits.prices(bars)
    variants = Variants.empty(len(bars), count)

    def trade(number: int, weights: Float64Array) -> None:
        made = plan(prices, weights, levels, config, bars.periods_per_year, orders=False)
        net = variants.net[:, number]
        earned = _earned_compiled(config.cash, made.value, made.paid, made.financing, made.traded, made.exposure, net)
        for column, value in zip(summary, (*earned, *_moments_compiled(net)), strict=True):
            column[number] = value
        variants.fills[number], variants.ruined[number] = made.fills, made.ruined < len(bars)

    summary = (
        variants.gross,
        variants.cost,
        variants.turnover,
        variants.exposure,
        variants.drawdown,
        variants.mean,
        variants.deviation,
        variants.effective_bars,
    )
    # Deciding holds Python's lock, and simulating does not: side by side they would wait for one another.
    together = max(1, _AT_ONCE // bars.close.size)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, count, together):
            numbers = range(start, min(start + together, count))
            batch = [decided(number) for number in numbers]
            if not all(one.shape == bars.close.shape and np.isfinite(one).all() for one in batch):
                raise ValueError("weights must be finite, one for each bar and symbol")
            for _ in pool.map(trade, numbers, batch):
                pass  # raises what a simulation raised
    return variants


def _earned(
    cash: float,
    value: Float64Array,
    paid: Float64Array,
    financing: Float64Array,
    traded: Float64Array,
    exposure: Float64Array,
    net: Float64Array,
) -> tuple[float, float, float, float, float]:
    """Write the (T,) net returns of an account into `net`, and return what else is told of it.

    Returns
    -------
    gross, cost, turnover, exposure, drawdown
        Means per bar, and the deepest fall.
    """
    bars = len(value)
    gross = cost = turnover = held = deepest = 0.0
    before, peak = cash, cash
    for t in range(bars):
        # A ruined account stands still: nothing is divided by what it is no longer worth.
        alive = before > NOTHING_LEFT * cash
        charged = (paid[t] + financing[t]) / before if alive else 0.0
        net[t] = (value[t] - before) / before if alive else 0.0
        gross += net[t] + charged
        cost += charged
        turnover += traded[t] / before if alive else 0.0
        held += exposure[t]
        peak = max(peak, value[t])
        deepest = max(deepest, 1 - value[t] / peak)
        before = value[t]
    return gross / bars, cost / bars, turnover / bars, held / bars, deepest


_earned_compiled = compiled(_earned)


def _moments(net: Float64Array) -> tuple[float, float, float]:
    """Mean and standard deviation of (T,) returns, and the bars that make up their variance."""
    bars = len(net)
    mean = largest = 0.0
    for one in net:
        mean += one / bars
        largest = max(largest, abs(one))
    second = fourth = 0.0
    for one in net:
        square = (one - mean) ** 2
        second += square
        fourth += square**2
    deviation = math.sqrt(second / max(1, bars - 1))
    if deviation <= _SAME * (1 + largest):
        return mean, 0.0, 0.0
    return mean, deviation, second**2 / fourth


_moments_compiled = compiled(_moments)

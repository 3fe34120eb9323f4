"""Thousands of accounts on one market: what every variant of a strategy would have earned.

vectorbt fills one order after the other into records, from which an account has to be put together again. The loop of
`qtrade.backtest.planner` knows the worth of the account at every close anyway, and keeps nothing else: it is many times
faster, and tests hold it to the same numbers. `benchmarks/sweep_speed.py` measures both.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtrade.backtest.costs import BacktestConfig, require_bar_to_fill
from qtrade.backtest.engine import market_prices
from qtrade.backtest.exits import Exits
from qtrade.backtest.planner import plan
from qtrade.types import Bars, Float64Array, IntArray


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
    fills: IntArray
    ruined: NDArray[np.bool_]

    @classmethod
    def empty(cls, bars: int, variants: int) -> Variants:
        """Make room for what is filled in later."""
        gross, cost, turnover, exposure = np.empty((4, variants))
        fills, ruined = np.zeros(variants, dtype=np.int64), np.zeros(variants, dtype=np.bool_)
        return cls(np.empty((bars, variants), order="F"), gross, cost, turnover, exposure, fills, ruined)


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
        Returns the (T, S) finite weights of variant 0, 1, .. `count` - 1. It is called from this thread, in order;
        simulations run beside it in others, and no more than a few weights are kept.
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
        before = np.concatenate([[config.cash], made.value[:-1]])
        # A ruined account stands still: nothing is divided by what it is no longer worth.
        before[made.ruined + 1 :] = np.inf
        cost = (made.paid + made.financing) / before
        net = np.diff(made.value, prepend=config.cash) / before
        variants.net[:, number] = net
        variants.cost[number], variants.gross[number] = cost.mean(), (net + cost).mean()
        variants.turnover[number], variants.exposure[number] = (made.traded / before).mean(), made.exposure.mean()
        variants.fills[number], variants.ruined[number] = made.fills, made.ruined < len(bars)

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting = []
        for number in range(count):
            weights = decided(number)
            if weights.shape != bars.close.shape or not np.isfinite(weights).all():
                raise ValueError("weights must be finite, one for each bar and symbol")
            waiting.append(pool.submit(trade, number, weights))
            if len(waiting) > 4 * workers:
                waiting.pop(0).result()
        for one in waiting:
            one.result()
    return variants

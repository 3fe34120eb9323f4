"""What is left of a strategy when fills cost more, and when they come later.

The same weights are traded on the same bars each time; only the assumption changes. A strategy that lives on cheap or
early fills shows it here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd

from qtrade.backtest.bootstrap import SharpeDifference, sharpe_difference
from qtrade.backtest.costs import BacktestConfig
from qtrade.backtest.engine import simulate
from qtrade.backtest.exits import Exits
from qtrade.backtest.metrics import sharpe_ratio
from qtrade.types import Bars, Float64Array

COST_BPS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
DELAYS = (0, 1, 2, 3)


@dataclass(frozen=True)
class CostPoint:
    """A backtest whose every fill costs `bps` basis points of the money traded, on top of its fixed and holding costs.

    Attributes
    ----------
    sharpe, sharpe_se
        Annualised Sharpe ratio of net returns and its standard error; NaN where they do not vary.
    net_annual_return
        Mean net return per bar times bars per year.
    """

    bps: float
    sharpe: float
    sharpe_se: float
    net_annual_return: float

    def to_dict(self) -> dict[str, float | None]:
        """Return the numbers for JSON, in which an undefined one is None."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


@dataclass(frozen=True)
class DelayPoint:
    """A backtest whose orders are filled `delay` bars after their decision, at the `fill` of that bar.

    Attributes
    ----------
    sharpe, sharpe_se, net_annual_return
        As in `CostPoint`.
    difference
        This Sharpe ratio minus that of the configured delay, bar by bar on the same bars; None for that one itself.
    """

    delay: int
    fill: Literal["open", "close"]
    sharpe: float
    sharpe_se: float
    net_annual_return: float
    difference: SharpeDifference | None

    def to_dict(self) -> dict[str, int | float | str | None]:
        """Return the numbers for JSON, in which an undefined one is None."""
        against = {} if self.difference is None else self.difference.to_dict()
        return {
            "delay": self.delay,
            "fill": self.fill,
            "sharpe": self.sharpe if math.isfinite(self.sharpe) else None,
            "sharpe_se": self.sharpe_se if math.isfinite(self.sharpe_se) else None,
            "net_annual_return": self.net_annual_return,
            "sharpe_difference": against.get("difference"),
            "sharpe_difference_low95": against.get("low"),
            "sharpe_difference_high95": against.get("high"),
            "sharpe_difference_p": against.get("p"),
        }


def cost_curve(
    bars: Bars,
    weights: pd.DataFrame,
    config: BacktestConfig,
    exits: Exits | None = None,
    bps: Sequence[float] = COST_BPS,
) -> tuple[CostPoint, ...]:
    """Trade the same weights at several costs per fill.

    Parameters
    ----------
    bars, weights, config, exits
        As in `qtrade.backtest.engine.simulate`. Fees and slippage are replaced, fixed and least fees and the costs of
        holding stay.
    bps
        Costs of a fill, in basis points of the money traded. All of it is charged as a fee, none as slippage, which
        would cost the same to first order but move prices, too.
    """
    points = []
    for cost in bps:
        costs = config.costs.model_copy(update={"fees_bps": float(cost), "slippage_bps": 0.0})
        net = _net(bars, weights, config.model_copy(update={"costs": costs}), exits)
        sharpe, error = sharpe_ratio(net, bars.periods_per_year)
        points.append(CostPoint(float(cost), sharpe, error, float(net.mean() * bars.periods_per_year)))
    return tuple(points)


def delay_curve(
    bars: Bars,
    weights: pd.DataFrame,
    config: BacktestConfig,
    exits: Exits | None = None,
    delays: Sequence[int] = DELAYS,
    *,
    draws: int = 1000,
    seed: int,
) -> tuple[DelayPoint, ...]:
    """Trade the same weights with several delays from the decision to the fill.

    Parameters
    ----------
    bars, weights, config, exits
        As in `qtrade.backtest.engine.simulate`.
    delays
        Bars from the decision to the fill. 0 fills at the very close that decides, which nobody can do: it says how
        much of the result hangs on the moments in between. The others fill as configured. Those that leave no bar to
        fill the first decision in are left out.
    draws, seed
        Of the bootstrap behind the differences.
    """
    periods = bars.periods_per_year
    configured = _net(bars, weights, config, exits)
    points = []
    for delay in delays:
        if delay >= len(bars):
            continue
        fill: Literal["open", "close"] = "close" if delay == 0 else config.fill
        same = (delay, fill) == (config.delay, config.fill)
        changed = config.model_copy(update={"delay": delay, "fill": fill})
        net = configured if same else _net(bars, weights, changed, exits)
        sharpe, error = sharpe_ratio(net, periods)
        difference = None if same else sharpe_difference(net, configured, periods, draws=draws, seed=seed)
        points.append(DelayPoint(delay, fill, sharpe, error, float(net.mean() * periods), difference))
    return tuple(points)


def _net(bars: Bars, weights: pd.DataFrame, config: BacktestConfig, exits: Exits | None) -> Float64Array:
    """(T,) net returns of one account."""
    return simulate(bars, weights, config, exits).net.to_numpy(dtype=np.float64)

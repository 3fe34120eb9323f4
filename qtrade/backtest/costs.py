"""The account that trades: what it starts with, when its orders are filled, and what a fill costs."""

from __future__ import annotations

import pandas as pd
from pydantic import Field

from qtrade.errors import UsageError
from qtrade.settings import Settings
from qtrade.types import Bars

BASIS_POINT = 1e-4


class CostConfig(Settings):
    """Cost of one fill, in basis points of the money traded. A round trip pays it twice."""

    fees_bps: float = Field(default=1.0, ge=0, lt=10_000)
    """Commission and exchange fees."""
    slippage_bps: float = Field(default=1.0, ge=0, lt=10_000)
    """How much worse than the open a fill is: half the spread plus the move that the order causes."""

    @property
    def fees(self) -> float:
        """Fees as a share of the money traded."""
        return self.fees_bps * BASIS_POINT

    @property
    def slippage(self) -> float:
        """Slippage as a share of the price."""
        return self.slippage_bps * BASIS_POINT


class BacktestConfig(Settings):
    """How decided weights become fills."""

    cash: float = Field(default=100_000.0, ge=1)
    """Money in the account before the first bar, in the currency of the prices."""
    delay: int = Field(default=1, ge=1)
    """Bars from the decision to the fill: a weight decided at the close of bar t is filled at the open of t + delay."""
    costs: CostConfig = CostConfig()
    """Cost of a fill."""


def require_bar_to_fill(bars: Bars, config: BacktestConfig) -> None:
    """Refuse a backtest in which not even the first decision can be filled: it would report an idle account.

    Raises
    ------
    UsageError
        If the delay is not smaller than the number of bars.
    """
    if config.delay >= len(bars):
        raise UsageError(
            f"backtest.delay is {config.delay}, and there are only {len(bars)} bars to trade on",
            why="no decision would ever be filled",
            fix="set a smaller delay, or test over a longer period",
        )


class RuinError(UsageError):
    """A strategy lost more than the account held."""


def require_solvent(equity: pd.Series) -> None:
    """Refuse an account that lost everything, because a return on nothing has no meaning.

    Only a short position can do this: its loss has no limit.

    Raises
    ------
    RuinError
        Naming the first close at which the account is worth nothing or less.
    """
    ruined = equity.index[equity.to_numpy() <= 0]
    if len(ruined):
        raise RuinError(
            f"the account is ruined: it is worth {equity[ruined[0]]:,.2f} at {ruined[0]}",
            why="a short position lost more than there was",
            fix="use smaller weights, or a long-only strategy",
        )

"""The account that trades: what it starts with, when its orders are filled, and what a fill costs."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from qtrade.errors import UsageError
from qtrade.settings import Settings
from qtrade.types import Bars

BASIS_POINT = 1e-4
NOTHING_LEFT = 1e-12
"""Share of its first money below which an account is ruined: what is left may be rounding."""


class CostConfig(Settings):
    """What trading and holding cost. A basis point is a hundredth of a percent; a round trip pays for two fills."""

    fees_bps: float = Field(default=1.0, ge=0, lt=10_000)
    """Commission and exchange fees of a fill, in basis points of the money traded."""
    slippage_bps: float = Field(default=1.0, ge=0, lt=10_000)
    """How much worse than the open (or close) a fill is: half the spread plus the move that the order causes."""
    fixed_fee: float = Field(default=0.0, ge=0, lt=1e12)
    """Money that every fill costs on top of that."""
    min_fee: float = Field(default=0.0, ge=0, lt=1e12)
    """Least money that a fill costs in fees, the fixed fee included."""
    borrow_bps: float = Field(default=0.0, ge=0, lt=1_000_000)
    """Basis points per year of the value sold short, for borrowing it."""
    margin_bps: float = Field(default=0.0, ge=0, lt=1_000_000)
    """Basis points per year of borrowed money, where `backtest.leverage` lets the account hold more than it has."""
    funding_bps: float = Field(default=0.0, gt=-10_000, lt=10_000)
    """Basis points *per bar* of the value held, which a long position pays and a short one receives, as in perpetual
    futures."""

    @property
    def fees(self) -> float:
        """Fees as a share of the money traded."""
        return self.fees_bps * BASIS_POINT

    @property
    def slippage(self) -> float:
        """Slippage as a share of the price."""
        return self.slippage_bps * BASIS_POINT


class ExitConfig(Settings):
    """Prices, read off the forecast a position was decided on, at which it is closed within a bar."""

    target: bool = False
    """Close at the best price that the path expects: its highest for a long position, its lowest for a short one."""
    stop_quantile: float | None = Field(default=None, gt=0, lt=0.5)
    """Close where the path's spread reaches on the wrong side: 0.1 stops a long position at the lowest price that the
    forecast undercuts with a probability of 10 % at some step. Without it there is no stop."""

    @property
    def any(self) -> bool:
        """Whether a position can be closed by its price."""
        return self.target or self.stop_quantile is not None


class BacktestConfig(Settings):
    """How decided weights become fills."""

    cash: float = Field(default=100_000.0, ge=1)
    """Money in the account before the first bar, in the currency of the prices."""
    fill: Literal["open", "close"] = "open"
    """Price of a bar at which orders are filled."""
    delay: int = Field(default=1, ge=0)
    """Bars from the decision to the fill: a weight decided at the close of bar t is filled in bar t + delay. 0 fills at
    the very close that decides, which nobody can do, and needs `fill` to be close."""
    leverage: float = Field(default=1.0, ge=1, le=100)
    """Most that the weights of a bar may sum to, long plus short, as a share of the account; beyond 1 it borrows."""
    band: float | None = Field(default=None, ge=0, lt=10)
    """Drift that is let be: each bar, a symbol is traded to its decided weight if its share of the account is farther
    off than this. Without it a symbol is traded only when its decided weight changes."""
    exits: ExitConfig = ExitConfig()
    """Stops and targets."""
    costs: CostConfig = CostConfig()
    """What trading and holding cost."""

    @model_validator(mode="after")
    def _an_open_comes_before_its_close(self) -> Self:
        if self.delay == 0 and self.fill == "open":
            raise ValueError(
                "a delay of 0 would fill at an open that is over when the decision is made; set fill to close, "
                "as with --fill close"
            )
        return self


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

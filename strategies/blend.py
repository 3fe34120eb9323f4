"""The mean of several strategies: where they disagree, it holds less."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from qtrade.forecasts import Forecasts
from qtrade.strategy_file import Strategy, nested
from qtrade.types import Bars


@dataclass(frozen=True)
class Blend:
    """Gives every strategy the same share of the account."""

    of: tuple[Strategy, ...] = (nested("forecast_sign"), nested("path_momentum"))
    """The strategies, at least one."""

    def __post_init__(self) -> None:
        if not self.of:
            raise ValueError("there is nothing to blend")

    def weights(self, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
        """Return the mean of their weights."""
        first, *others = (strategy.weights(bars, forecasts) for strategy in self.of)
        return sum(others, first) / len(self.of)

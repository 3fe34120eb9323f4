"""Scale another strategy to a steady yearly volatility: smaller in wild markets, larger in calm ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from qtrade.forecasts import Forecasts
from qtrade.strategy_file import Strategy, nested
from qtrade.types import Bars, Float64Array


@dataclass(frozen=True)
class VolTarget:
    """Multiplies weights by the target over the volatility that they would have had in the last bars."""

    base: Strategy = nested("forecast_sign")
    """The strategy that is scaled."""
    target: float = 0.10
    """Yearly volatility aimed at: 0.10 is ten per cent."""
    window: int = 60
    """Bars over which volatility is measured, at least 2; until there are so many, nothing is held."""
    measure: Literal["portfolio", "market"] = "portfolio"
    """Whose volatility: that of all present weights together, with what their markets have in common, or that of each
    market by itself."""
    cap: float = 1.0
    """Largest absolute sum of the weights; more than 1 needs as much backtest.leverage."""

    def __post_init__(self) -> None:
        if self.window < 2 or not self.target > 0 or not self.cap > 0:
            raise ValueError("window must be at least 2, target and cap must be positive")

    def weights(self, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
        """Return the scaled weights; bars whose `window` returns are not known, or all the same, are flat."""
        wanted = self.base.weights(bars, forecasts)
        volatility = self._volatility(bars, wanted.to_numpy()) * np.sqrt(bars.periods_per_year)
        scale = np.divide(self.target, volatility, out=np.zeros_like(volatility), where=volatility > 1e-12)
        scaled = wanted.to_numpy() * scale
        scaled /= np.maximum(np.abs(scaled).sum(axis=1, keepdims=True) / self.cap, 1.0)
        return pd.DataFrame(scaled, index=bars.index, columns=bars.symbols)

    def _volatility(self, bars: Bars, weights: Float64Array) -> Float64Array:
        """(T, 1) or (T, S) standard deviation per bar of the last `window` simple returns; zero where unknown."""
        change = bars.close.to_numpy()[1:] / bars.close.to_numpy()[:-1] - 1
        volatility = np.zeros(weights.shape if self.measure == "market" else (len(weights), 1))
        if len(change) >= self.window:
            last = np.lib.stride_tricks.sliding_window_view(change, self.window, axis=0)  # (T - window, S, window)
            if self.measure == "portfolio":
                # What the weights of now would have earned; what was held then says little when positions come and go.
                last = np.einsum("ts,tsw->tw", weights[self.window :], last)[:, None]
            volatility[self.window :] = last.std(axis=2)
        return volatility

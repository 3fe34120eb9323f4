"""Open a small position at every bar, hold each for the length of its forecast, and carry them side by side."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from qtrade.forecasts import Forecasts
from qtrade.types import Bars


@dataclass(frozen=True)
class Tranches:
    """Overlapping positions (Jegadeesh & Titman 1993): a single forecast moves the whole by one part of `step` only."""

    step: int = 0
    """Bars that each position is held, and how far ahead its forecast is read; 0 takes the whole path."""
    full_move: float = 0.0
    """Expected log return at which a position has its full size, in proportion below it; 0 makes all of full size."""

    def __post_init__(self) -> None:
        if self.full_move < 0:
            raise ValueError(f"full_move must not be negative, got {self.full_move}")

    def weights(self, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
        """Return the mean of the last `step` positions, over S; a bar without a forecast is flat."""
        expected = forecasts.on(bars).expected(self.step)
        sign = (expected > 0).astype(float) - (expected < 0).astype(float)
        opened = (expected / self.full_move).clip(-1.0, 1.0).fillna(0.0) if self.full_move else sign
        step = self.step or forecasts.horizon
        held = opened.rolling(step, min_periods=1).sum() / step
        return held.where(expected.notna(), 0.0) / len(bars.symbols)

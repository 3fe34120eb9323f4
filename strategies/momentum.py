"""Hold each symbol the way its price has gone of late: a benchmark that needs no forecast."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from qtrade.forecasts import Forecasts
from qtrade.types import Bars


@dataclass(frozen=True)
class Momentum:
    """Long after a rise, short after a fall (Moskowitz, Ooi & Pedersen 2012); ignores the forecasts."""

    window: int = 24
    """Bars over which the past return is taken."""
    long_only: bool = False
    """Stay flat instead of going short."""

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"window must be at least 1, got {self.window}")

    def weights(self, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
        """Return 1/S, 0 or -1/S for each symbol; the first `window` bars are flat."""
        before = bars.close.shift(self.window)
        direction = (bars.close > before).astype(float)
        if not self.long_only:
            direction -= (bars.close < before).astype(float)
        return direction / len(bars.symbols)

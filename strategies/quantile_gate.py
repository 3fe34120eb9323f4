"""Act only where most of what could happen lies on one side: a quantile of the return must have the right sign."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from qtrade.forecasts import Forecasts
from qtrade.types import Bars


@dataclass(frozen=True)
class QuantileGate:
    """Long where the low quantile of the cumulative return is above zero, short where the high one is below."""

    q: float = 0.35
    """Share of the outcomes that may lie on the wrong side, above 0 and up to 0.5: the less, the fewer positions."""
    step: int = 0
    """Bars ahead at which the return is read; 0 takes the end of the path."""
    long_only: bool = False
    """Stay flat instead of going short."""

    def __post_init__(self) -> None:
        if not 0 < self.q <= 0.5:
            raise ValueError(f"q must lie above 0 and be at most 0.5, got {self.q}")

    def weights(self, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
        """Return 1/S, 0 or -1/S for each symbol; a bar without a forecast is flat."""
        paths = forecasts.on(bars)
        direction = (paths.quantile(self.q, self.step) > 0).astype(float)
        if not self.long_only:
            direction -= (paths.quantile(1 - self.q, self.step) < 0).astype(float)
        return direction / len(bars.symbols)

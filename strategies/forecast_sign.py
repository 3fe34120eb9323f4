"""Hold each symbol in the direction of its forecast, while the forecast says so."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from qtrade.forecasts import Forecasts
from qtrade.types import Bars


@dataclass(frozen=True)
class ForecastSign:
    """Long where the expected return is above the threshold, short where it is below its negative, otherwise flat."""

    step: int = 0
    """Bars ahead at which the expected return is read; 0 takes the end of the path."""
    threshold: float = 0.0
    """Cumulative log return over `step` bars that is too small to act on."""
    long_only: bool = False
    """Stay flat instead of going short."""

    def weights(self, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
        """Return 1/S, 0 or -1/S for each symbol; a bar without a forecast is flat."""
        # Plain arrays, in which no forecast (NaN) is neither above nor below: a sweep asks this thousands of times.
        expected = forecasts.on(bars).expected(self.step).to_numpy()
        direction = (expected > self.threshold).astype(float)
        if not self.long_only:
            direction -= expected < -self.threshold
        return pd.DataFrame(direction / len(bars.symbols), index=bars.index, columns=bars.close.columns)

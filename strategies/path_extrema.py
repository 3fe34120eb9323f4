"""Ride to the predicted peak or trough, and be out when it is due."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from qtrade.forecasts import Forecasts
from qtrade.types import Bars


@dataclass(frozen=True)
class PathExtrema:
    """Enters towards the farther one of a path's peak and trough, and leaves at its bar, or once a path turns."""

    threshold: float = 0.002
    """Log return from the origin's close to the extreme that is large enough to enter."""
    long_only: bool = False
    """Ride to peaks only, and be out on the way to a trough."""

    def weights(self, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
        """Return 1/S, 0 or -1/S for each symbol; a bar without a forecast is flat."""
        paths = forecasts.on(bars)
        rise, fall = paths.peak().to_numpy(), -paths.trough().to_numpy()
        side = np.sign(rise - fall)
        strong = np.maximum(rise, fall) > self.threshold
        step = np.where(side > 0, paths.peak_step(), paths.trough_step()) + paths.delay
        row = np.arange(len(bars))[:, None]
        # Each strong path opens the position anew; the latest one is what a bar goes by.
        entry = np.maximum.accumulate(np.where(strong & (side != 0), row, -1), axis=0)
        entered = np.take_along_axis(side, np.maximum(entry, 0), axis=0)
        due = entry + np.take_along_axis(step, np.maximum(entry, 0), axis=0)
        turned = np.maximum.accumulate(np.where(side == entered, -1, row), axis=0)
        held = np.where((entry > turned) & (row < due), entered, 0.0)
        if self.long_only:
            held = np.maximum(held, 0.0)
        return pd.DataFrame(held / len(bars.symbols), index=bars.index, columns=bars.symbols)

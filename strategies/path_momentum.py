"""Follow a forecast move that is large enough to pay for itself, until it reverses or has run its length."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from qtrade.forecasts import Forecasts
from qtrade.types import Bars


@dataclass(frozen=True)
class PathMomentum:
    """Trades less than `forecast_sign`: enters on strong forecasts only, and holds through weak ones that agree."""

    step: int = 0
    """Length of the move, in bars: how far ahead it is read, and how long it is held without a new strong forecast.
    0 takes the whole path."""
    cost_bps: float = 4.0
    """Assumed cost of entering and leaving, in basis points."""
    multiple: float = 5.0
    """How many times its cost a move must promise before it is acted on."""

    def weights(self, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
        """Return 1/S, 0 or -1/S for each symbol; a bar without a forecast is flat."""
        expected, step = forecasts.on(bars).expected(self.step), self.step or forecasts.horizon
        hurdle = self.cost_bps * 1e-4 * self.multiple
        strong = expected.where(expected.abs() > hurdle)
        # The forecast must still point the way of the last strong one; once it does not, the position ends for good.
        agrees = expected * strong.ffill() > 0
        recent = strong.notna().rolling(step, min_periods=1).max() > 0
        held = strong.mask(~agrees, 0.0).ffill().where(recent, 0.0)
        direction = (held > 0).astype(float) - (held < 0).astype(float)
        return direction / len(bars.symbols)

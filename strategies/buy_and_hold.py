"""Hold every symbol, in equal parts, from the first bar on: what any other strategy has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from qtrade.forecasts import Forecasts
from qtrade.types import Bars


@dataclass(frozen=True)
class BuyAndHold:
    """Ignores the forecasts."""

    def weights(self, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
        """Return 1/S everywhere, so that each symbol is bought once and then left alone."""
        return pd.DataFrame(1 / len(bars.symbols), index=bars.index, columns=bars.symbols)

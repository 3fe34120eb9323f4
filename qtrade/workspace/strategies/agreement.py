"""Hold a symbol while the last few forecasts agree about where it goes."""

# A strategy is one file in `strategies/`, which holds one frozen dataclass. Try this one with
#
#     qtrade backtest RUN -s agreement --set vintages=12
#
# and change it into yours. `qtrade strategies agreement` shows its parameters.

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from qtrade.forecasts import Forecasts
from qtrade.types import Bars


@dataclass(frozen=True)
class Agreement:
    """Long where most of the last forecasts of the same bars are up, short where most are down."""

    # Each field is a parameter: it needs a type and a default. The text below it is what `qtrade strategies` shows.
    step: int = 6
    """Bars ahead at which forecasts are compared."""
    vintages: int = 6
    """How many of the last forecasts are asked. Together with `step`, at most one more than a path is long."""
    majority: float = 0.5
    """Mean of their signs (-1 to 1) beyond which a position is taken."""

    def weights(self, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
        """Return 1/S, 0 or -1/S for each of the S symbols."""
        # Forecasts laid over the bars: every method gives a table with a row per bar and a column per symbol, NaN
        # where there is no forecast. A forecast made earlier says something about the coming bars, too: its own later
        # steps. `agreement` is the mean of the signs of all of them.
        signs = forecasts.on(bars).agreement(self.step, self.vintages)
        # Row t is decided at the close of bar t and may use everything up to there, and nothing after it: before each
        # backtest the future is taken away, and then changed, and no earlier weight may move. NaN compares as False,
        # so that a bar without a forecast is flat.
        direction = (signs > self.majority).astype(float) - (signs < -self.majority).astype(float)
        # The share of the account to hold. The absolute sum over the symbols of a bar is at most 1.
        return direction / len(bars.symbols)

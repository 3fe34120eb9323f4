"""Long the symbols that are expected to do best, short those expected to do worst, in equal parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from qtrade.forecasts import Forecasts
from qtrade.types import Bars


@dataclass(frozen=True)
class CrossSection:
    """Bets on the order of the symbols, and not on where they go together: what is long and short is worth the same."""

    k: int = 1
    """Symbols on each side; at most half of all there are."""
    step: int = 0
    """Bars ahead at which the expected return is read; 0 takes the end of the path."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")

    def weights(self, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
        """Return 1/2k, 0 or -1/2k; bars are flat with fewer than 2k forecasts, or if the two sides do not differ."""
        expected = forecasts.on(bars).expected(self.step)
        k = min(self.k, len(bars.symbols) // 2)
        values, count = expected.to_numpy(), expected.notna().to_numpy().sum(axis=1)
        order = np.argsort(values, axis=1, kind="stable")  # missing ones come last, equal ones in the order of columns
        rank = np.argsort(order, axis=1, kind="stable")
        best, worst = (rank >= count[:, None] - k) & (rank < count[:, None]), rank < k
        direction = best.astype(float) - worst.astype(float)
        lowest_long = np.where(best, values, np.inf).min(axis=1)
        highest_short = np.where(worst, values, -np.inf).max(axis=1)
        traded = (count >= 2 * k) & (lowest_long > highest_short)
        return pd.DataFrame(
            np.where(traded[:, None], direction / max(2 * k, 1), 0.0), index=bars.index, columns=bars.symbols
        )

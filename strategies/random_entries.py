"""Enter and leave at random: what a strategy that knows nothing makes with the same time in the market."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from qtrade.forecasts import Forecasts
from qtrade.types import Bars


@dataclass(frozen=True)
class RandomEntries:
    """Draws a position anew at random bars, and keeps it between them; ignores the forecasts.

    What is drawn for a bar follows from the seed, the bar's stamp and the symbol alone, so that neither other symbols
    nor a longer history change it.
    """

    seed: int = 0
    """Another seed, another luck; not negative."""
    holding: float = 12.0
    """Mean number of bars that a position is held."""
    exposure: float = 0.5
    """Share of the time in the market, above 0 and below 1."""
    long_only: bool = False
    """Never go short; otherwise one position in two is short."""

    def __post_init__(self) -> None:
        if self.seed < 0 or self.holding < 1 or not 0 < self.exposure < 1:
            raise ValueError("seed must not be negative, holding at least 1, and exposure between 0 and 1")
        if self._drawing > 1:
            raise ValueError(f"holding must be at least {self.holding * self._drawing:.3g} bars with this exposure")

    @property
    def _drawing(self) -> float:
        """Share of the bars at which a position is drawn; a draw may repeat the position, which then goes on."""
        again = self.exposure if self.long_only else self.exposure / 2
        return 1 / (self.holding * (1 - again))

    def weights(self, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
        """Return 1/S, 0 or -1/S for each symbol; bars before the first draw are flat."""
        stamp = pd.util.hash_array(bars.index.as_unit("ns").asi8.view(np.uint64))
        symbol = pd.util.hash_array(np.array(bars.symbols, dtype=object))
        salts = np.random.default_rng(self.seed).integers(2**64, size=2, dtype=np.uint64)
        bits = (stamp[:, None] ^ symbol)[:, :, None] ^ salts
        drawn, side = np.moveaxis(pd.util.hash_array(bits.ravel()).reshape(bits.shape) / 2.0**64, 2, 0)
        short = 0.0 if self.long_only else self.exposure / 2
        position = (side < self.exposure).astype(float) - 2.0 * (side < short)
        held = pd.DataFrame(position, index=bars.index, columns=bars.symbols).where(drawn < self._drawing)
        return held.ffill().fillna(0.0) / len(bars.symbols)

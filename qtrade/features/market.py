"""The bars of one symbol, and the series that features are made of.

`ta` supplies the common indicators (vectorised, never filled). Those it starts with a value borrowed from the whole
series, or cannot compute on flat bars, are computed here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qtrade.features import wilder
from qtrade.features.series import Series, larger, log, ratio, smaller
from qtrade.features.vendor import INDICATORS
from qtrade.types import Bars


@dataclass(frozen=True, eq=False)
class Market:
    """One symbol's bars as (T,) series. What several features share is computed once, when first asked for."""

    open: Series
    high: Series
    low: Series
    close: Series
    volume: Series

    @classmethod
    def of(cls, bars: Bars, column: int) -> Market:
        """Take one symbol out of `bars`, with high and low widened to enclose open and close.

        Bars may miss that by a vendor's rounding, which a bounded oscillator would blow up on a flat bar.
        """
        frames = (bars.open, bars.high, bars.low, bars.close, bars.volume)
        opened, high, low, close, volume = (frame.iloc[:, column].astype(np.float64) for frame in frames)
        return cls(
            open=opened,
            high=larger(high, larger(opened, close)),
            low=smaller(low, smaller(opened, close)),
            close=close,
            volume=volume,
        )

    @cached_property
    def _indicators(self) -> dict[str, Series]:
        return {}

    def ta(self, column: str) -> Series:
        """Return an indicator of `ta` by the name of its column, with NaN until it is defined."""
        if column not in self._indicators:
            self._indicators[column] = INDICATORS[column](self)
        return self._indicators[column]

    @cached_property
    def log_return(self) -> Series:
        """Log of each close over the close before it."""
        return self.change(1)

    @cached_property
    def true_range(self) -> Series:
        """Range of each bar, widened to the close before it, in price units."""
        return wilder.true_range(self.high, self.low, self.close)

    @cached_property
    def directional(self) -> wilder.Directional:
        """+DI, -DI and ADX over 14 bars."""
        return wilder.directional(self.high, self.low, self.close, 14)

    @cached_property
    def usual_volume(self) -> Series:
        """Mean volume of the last 20 bars."""
        return self.volume.rolling(20).mean()

    def change(self, bars: int) -> Series:
        """Log of each close over the close `bars` earlier."""
        return log(self.close / self.close.shift(bars))

    def share(self, column: str) -> Series:
        """Return a `ta` column in price units as a share of the close."""
        return self.ta(column) / self.close

    def above(self, column: str) -> Series:
        """Return how far the close lies above a `ta` column that is a price, as a share of that price."""
        return self.close / self.ta(column) - 1

    def gap(self) -> Series:
        """Log of each open over the close before it."""
        return log(self.open / self.close.shift(1))

    def body(self) -> Series:
        """Log of each close over its open."""
        return log(self.close / self.open)

    def range(self) -> Series:
        """Log of each high over its low."""
        return log(self.high / self.low)

    def realised(self, bars: int) -> Series:
        """Root mean square of the last `bars` log returns."""
        return (self.log_return**2).rolling(bars).mean() ** 0.5

    def parkinson(self, bars: int) -> Series:
        """Volatility per bar from the last `bars` high-low ranges (Parkinson 1980)."""
        return ((self.range() ** 2).rolling(bars).mean() / (4 * math.log(2))) ** 0.5

    def realised_ratio(self) -> Series:
        """Realised volatility of 5 bars over that of 60, less 1; 0 where nothing moved in 60 bars."""
        return ratio(self.realised(5), self.realised(60), neutral=1.0) - 1

    def average_true_range(self) -> Series:
        """Average true range of 14 bars, as a share of the close."""
        return wilder.smooth(self.true_range, 14) / self.close

    def band_position(self) -> Series:
        """Where the close lies between the Bollinger bands (20 bars, 2 deviations): 1 at the upper, -1 at the lower."""
        middle, upper = self.ta("volatility_bbm"), self.ta("volatility_bbh")
        return ratio(self.close - middle, upper - middle, neutral=0.0)

    def relative_strength(self) -> Series:
        """Relative strength index of 14 bars, in [-1, 1]."""
        return wilder.relative_strength(self.close, 14)

    def close_location(self) -> Series:
        """Where the close lies in its own bar: 1 at the high, -1 at the low, 0 in a flat bar."""
        return ratio((self.close - self.low) - (self.high - self.close), self.high - self.low, neutral=0.0)

    def stochastic(self) -> Series:
        """Where the close lies in the range of the last 14 bars: 1 at the top, -1 at the bottom."""
        # ta divides zero by zero in a flat window; the close is at neither end there.
        return self.ta("momentum_stoch").fillna(50.0) / 50 - 1

    def stochastic_mean(self) -> Series:
        """Mean of the stochastic over 3 bars."""
        return self.stochastic().rolling(3).mean()

    def true_strength(self) -> Series:
        """Twice-smoothed price change over the twice-smoothed size of it (Blau 1991), in [-1, 1]."""
        move = self.close.diff()
        size = move.abs()
        smoothed, smoothed_size = (
            series.ewm(span=25, adjust=False).mean().ewm(span=13, adjust=False).mean() for series in (move, size)
        )
        return ratio(smoothed, smoothed_size, neutral=0.0)

    def vortex(self) -> Series:
        """Upward minus downward vortex movement of 14 bars, over their true range."""
        # ta starts its true range with the mean of all closes. The value itself is masked, but a rolling sum keeps the
        # rounding error of what passed through it, and so a trace of the future.
        rising = (self.high - self.low.shift(1)).abs().rolling(14).sum()
        falling = (self.low - self.high.shift(1)).abs().rolling(14).sum()
        return ratio(rising - falling, self.true_range.rolling(14).sum(), neutral=0.0)

    def drawdown(self, bars: int) -> Series:
        """Log of the close over the highest close of the last `bars`."""
        return log(self.close / self.close.rolling(bars).max())

    def relative_volume(self) -> Series:
        """Volume against its usual size, 0 where they are equal; bounded below, and slow to grow above."""
        return log(1 + self.volume / self.usual_volume) - math.log(2)

    def volume_score(self) -> Series:
        """Volume minus its mean over 20 bars, in standard deviations; 0 where it is constant."""
        return ratio(self.volume - self.usual_volume, self.volume.rolling(20).std(ddof=0), neutral=0.0)

    def volume_balance(self) -> Series:
        """Volume of rising minus falling bars among the last 20, as a share of all (a bounded OBV), in [-1, 1]."""
        move = self.close.diff()
        signed = self.volume.where(move > 0, 0.0) - self.volume.where(move < 0, 0.0)
        return signed.rolling(20).mean() / self.usual_volume

    def force(self) -> Series:
        """Force index (exponential mean of 13 bars), over the close and the usual volume."""
        return self.share("volume_fi") / self.usual_volume

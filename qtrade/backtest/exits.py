"""Prices at which a position is closed within a bar, read off the forecast that it was decided on.

A path of log returns says how far a price is expected to get, and the spread of the model's validation errors how far
it may get on the wrong side. Both become prices at the close that decides: a *target*, the best price the path expects,
and a *stop*, the price that the forecast's worst quantile reaches at some step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from qtrade.backtest.costs import ExitConfig
from qtrade.errors import UsageError
from qtrade.paths import Paths
from qtrade.types import Bars, Float64Array


@dataclass(frozen=True, eq=False)
class Exits:
    """Four (T, S) frames of prices, on the index and symbols of the bars and decided at each close; NaN for none.

    Attributes
    ----------
    long_stop, long_target
        A long position decided at bar t is closed below the one and above the other.
    short_stop, short_target
        A short position is closed above the one and below the other.
    """

    long_stop: pd.DataFrame
    long_target: pd.DataFrame
    short_stop: pd.DataFrame
    short_target: pd.DataFrame

    def rows(self, start: int, stop: int) -> Exits:
        """Return the prices decided at bars ``start <= t < stop``."""
        return Exits(*(frame.iloc[start:stop] for frame in self.frames))

    @property
    def frames(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """The four, in the order of the attributes."""
        return self.long_stop, self.long_target, self.short_stop, self.short_target

    def prices(self, bars: Bars) -> Float64Array:
        """Return the four as a (4, T, S) array.

        Raises
        ------
        ValueError
            If one of them is not on the index and symbols of the bars.
        """
        for frame in self.frames:
            if not (frame.index.equals(bars.index) and frame.columns.equals(bars.close.columns)):
                raise ValueError("exits do not share the index and symbols of the bars")
        return np.stack([frame.to_numpy(dtype=np.float64) for frame in self.frames])


def exits_from(paths: Paths, bars: Bars, config: ExitConfig) -> Exits | None:
    """Turn forecast paths into stops and targets.

    Parameters
    ----------
    paths
        Of the same T bars and S symbols.

    Returns
    -------
    Exits or None
        None if the configuration asks for neither. Row t follows from the close and the forecast of bar t alone.

    Raises
    ------
    UsageError
        If the paths start later than at the close that decides, so that a price cannot be read off them.
    """
    if not config.any:
        return None
    if paths.delay:
        raise UsageError(
            "backtest.exits needs forecasts that start at the close they are made at",
            why=f"these start {paths.delay} bars later (split.delay), from a price that is not known yet",
            fix="train with split.delay=0, or leave backtest.exits out",
        )
    nowhere = pd.DataFrame(np.nan, index=bars.index, columns=bars.close.columns)
    long_stop = long_target = short_stop = short_target = nowhere
    if config.target:
        # A path that only falls has no price to take a long position's profit at, other than at once; nor the reverse.
        peak, trough = paths.peak(), paths.trough()
        long_target = bars.close * np.exp(peak.where(peak > 0))
        short_target = bars.close * np.exp(trough.where(trough < 0))
    if config.stop_quantile is not None:
        long_stop = bars.close * np.exp(paths.extreme_quantile(config.stop_quantile, lowest=True))
        short_stop = bars.close * np.exp(paths.extreme_quantile(config.stop_quantile, lowest=False))
    return Exits(long_stop, long_target, short_stop, short_target)

"""What a model expects of one symbol: the closes so far, the path ahead, and the intervals around it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

LEVELS = (50, 80, 95)
"""Percent of the outcomes that each interval around a forecast should hold, the narrowest first."""


@dataclass(frozen=True, eq=False)
class Outlook:
    """The past and the expected future of one symbol's price.

    Attributes
    ----------
    symbol
        Its name.
    recent
        Adjusted closes up to the origin, which is the last of them.
    ahead
        (H,) rows on the stamps expected next: ``price``, and ``low50``, ``high50`` and so on for each of `LEVELS`.
    """

    symbol: str
    recent: pd.Series
    ahead: pd.DataFrame

    @property
    def origin(self) -> pd.Timestamp:
        """Stamp of the last bar known."""
        stamp = self.recent.index[-1]
        assert isinstance(stamp, pd.Timestamp)
        return stamp

    @property
    def stamps(self) -> pd.DatetimeIndex:
        """Stamps of the past and then of the path."""
        return pd.DatetimeIndex([*self.recent.index, *self.ahead.index])

    @property
    def decimals(self) -> int:
        """Decimals that tell the prices ahead apart: two, and more where they lie close together.

        Where all of them are one price, as many as show four digits of it.
        """
        low, high = band(LEVELS[-1])
        top = float(self.ahead[high].max())
        width = top - float(self.ahead[low].min())
        size = width or abs(top) / 10
        return max(2, 2 - math.floor(math.log10(size))) if size and math.isfinite(size) else 2

    def fan(self, column: str) -> pd.Series:
        """Return a column of `ahead` with the origin's close before it, from which every path starts."""
        start = pd.Series([self.recent.iloc[-1]], index=self.recent.index[-1:])
        return pd.concat([start, self.ahead[column]])


def band(level: int) -> tuple[str, str]:
    """Columns of the lower and upper end of an interval."""
    return f"low{level}", f"high{level}"


def short_format(stamps: pd.DatetimeIndex) -> str:
    """Return how to write stamps: as dates, or as moments within a day where they are."""
    return "%Y-%m-%d" if bool((stamps == stamps.normalize()).all()) else "%m-%d %H:%M"

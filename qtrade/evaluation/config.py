"""What an evaluation looks at."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from qtrade.settings import Settings

Horizon = Annotated[int, Field(ge=1)]


class EvaluationConfig(Settings):
    """What is measured of a run's forecasts; nothing here changes a forecast."""

    horizons: tuple[Horizon, ...] = Field(default=(1, 6, 12, 24), min_length=1)
    """Bars ahead at which forecasts are scored; those beyond window.horizon are left out."""
    regime_horizon: int = Field(default=6, ge=1)
    """Bars ahead at which regimes are compared: short ones leave more independent outcomes to each. The nearest of
    `horizons` is taken."""
    level: float = Field(default=0.9, gt=0.5, lt=1)
    """Share of outcomes that the online intervals are asked to hold."""
    windows: int = Field(default=12_000, ge=1_000)
    """Windows, about, that models other than the first are asked about outside of their own test period; of more, an
    even part is taken. `qtrade evaluate --full` takes ten times as many."""
    shifts: int = Field(default=500, ge=100)
    """Circular shifts that a strategy's timing is compared with."""

    def upto(self, steps: int) -> tuple[int, ...]:
        """Return the horizons that a path of so many steps reaches, ascending; the whole path if it reaches none."""
        return tuple(sorted({one for one in self.horizons if one <= steps})) or (steps,)

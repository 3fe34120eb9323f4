"""What a run was asked for and answered: forecasts, with everything that has to be said beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

import qtrade.notebook_html as html
from qtrade.data.freshness import Freshness
from qtrade.forecasts import Forecasts
from qtrade.pipeline.latest import written
from qtrade.pipeline.standing import Standing
from qtrade.report.forecast_outlook import Outlook, band, short_format

Origin = Literal["the run", "the cache", "the caller"]
"""Whose bars a forecast starts from."""
_BARS: dict[Origin, str] = {
    "the run": "bars that the run was made from",
    "the cache": "newest bars in the cache",
    "the caller": "bars given",
}


@dataclass(frozen=True, eq=False)
class Prediction:
    """Forecasts of a trained run.

    Attributes
    ----------
    run
        Name of the run.
    standing
        The verdict of the run, and what makes this forecast worth less than that.
    origin, freshness
        Whose bars it starts from, and how new they are.
    forecasts
        One row per (symbol, origin, seed), each of the newest model that was there at its origin.
    path
        (S * H) rows: what is expected after the last origin, per symbol and step. `return` is simple, since the origin;
        ``low80`` to ``high80`` is the 80 % interval of the price, and so for each of `LEVELS`.
    outlooks
        The same with the closes before it, one per symbol.
    files
        What was written, the picture first.
    seconds
        Time the models took to predict, with loading them and scaling what they read.
    """

    run: str
    standing: Standing
    origin: Origin
    freshness: Freshness
    forecasts: Forecasts
    path: pd.DataFrame
    outlooks: tuple[Outlook, ...]
    files: tuple[Path, ...]
    seconds: float

    @property
    def whence(self) -> str:
        """Say in a sentence whose bars it starts from, and how old they are."""
        end = f"end at {written(self.freshness.newest)}, {_ago(self.freshness.age)}"
        return f"After the {_BARS[self.origin]}, which {end}."

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what makes it worth less than the verdict says."""
        late, found = self.freshness, []
        if late.complete > late.now:
            found.append(f"The last bar is not complete before {written(late.complete)}, and its close may still move.")
        return (*found, *self.standing.warnings)

    def __repr__(self) -> str:
        symbols = ", ".join(one.symbol for one in self.outlooks)
        return f"Prediction({symbols} after {self.freshness.newest}, {self.standing.headline})"

    def _repr_html_(self) -> str:
        parts = [html.verdict(self.standing.headline, self.standing.line), html.paragraph(self.whence)]
        parts += map(html.paragraph, self.warnings)
        drawn = [path for path in self.files if path.suffix == ".png" and path.is_file()][:1]
        parts += [html.picture(path.read_bytes(), f"forecast by {self.run}") for path in drawn]
        for outlook in self.outlooks:
            rows = [
                (
                    step,
                    f"{stamp:{short_format(outlook.stamps)}}",
                    *(f"{row[name]:,.{outlook.decimals}f}" for name in ends),
                )
                for step, (stamp, row) in enumerate(outlook.ahead.iterrows(), start=1)
                for ends in [("price", *band(80), *band(95))]
            ]
            titles = ("step", "time", "adjusted price", "80% from", "to", "95% from", "to")
            parts += [html.heading(outlook.symbol), html.table(titles, rows)]
        return html.piece(*parts)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        stand, fresh = self.standing, self.freshness
        return {
            "run": self.run,
            "verdict": {"headline": stand.headline, "line": stand.line},
            "warnings": list(self.warnings),
            "bars": {
                "of": self.origin,
                "newest": str(fresh.newest),
                "asked_at": str(fresh.now),
                "age_hours": fresh.age / pd.Timedelta(hours=1),
                "missing_since": fresh.missing,
            },
            "model": {"train_end": str(stand.train_end), "age_bars": stand.age_bars},
            "path": json.loads(self.path.to_json(orient="records", date_format="iso", double_precision=15)),
            "files": [str(path) for path in self.files],
        }


def _ago(age: pd.Timedelta) -> str:
    """Say how long ago something was, in the unit that suits."""
    days = age / pd.Timedelta(days=1)
    for name, length in (("year", 365.25), ("day", 1.0), ("hour", 1 / 24)):
        if days >= 2 * length:
            return f"{days / length:,.1f} {name}s ago" if name == "year" else f"{days / length:,.0f} {name}s ago"
    return f"{days * 1440:,.0f} minutes ago"

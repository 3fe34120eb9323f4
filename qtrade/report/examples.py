"""Predicted paths beside what happened: good, typical and bad ones as small figures, and many over time as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from qtrade.forecasts import Forecasts
from qtrade.report import figures
from qtrade.report.text import stamp
from qtrade.types import Bars, Float64Array

RANKS = (
    ("Good", "came closer than most", (0.05, 0.10, 0.15)),
    ("Typical", "half of all came closer", (0.45, 0.50, 0.55)),
    ("Bad", "most came closer", (0.85, 0.90, 0.95)),
)
"""Kinds of examples: a name, what it means, and the shares of all forecasts that came closer."""
MOST_ORIGINS = 200
"""Origins on the time line; of more, so many are picked evenly."""
MOST_NUMBERS = 30_000
"""Numbers that the time line takes along: with long paths it holds fewer origins."""
_UNIT = 1e-4  # of log return


@dataclass(frozen=True)
class Example:
    """One forecast as a figure: when and of what, in words, and the drawing."""

    where: str
    figure: Markup


def examples(
    forecasts: Forecasts, actual: Float64Array, bars: Bars, delay: int
) -> list[tuple[str, str, list[Example]]]:
    """Draw the forecasts that stand at `RANKS` by the root mean squared error of their cumulative path.

    Parameters
    ----------
    actual
        (N, H) log returns that happened; rows with NaN are left out.
    delay
        Bars between an origin's close and the close that its path starts from.

    Returns
    -------
    list
        Name, meaning and figures of each kind; empty where no outcome is known.
    """
    error = np.sqrt(np.mean((np.cumsum(actual, axis=1) - forecasts.cumulative()) ** 2, axis=1))
    known = np.nonzero(np.isfinite(error))[0]
    if len(known) == 0:
        return []
    # A stable sort gives ties, which a market that stands still has, one order.
    ranked = known[np.argsort(error[known], kind="stable")]
    kinds = []
    taken: set[int] = set()
    for kind, (name, meaning, shares) in enumerate(RANKS):
        drawn: list[Example] = []
        for share in shares:
            row = int(ranked[round(share * (len(ranked) - 1))])
            # Of a handful of forecasts, one stands at several ranks.
            if row in taken:
                continue
            taken.add(row)
            chosen = forecasts.where(np.arange(len(forecasts)) == row)
            symbol, origin = str(forecasts.symbol[row]), forecasts.origin[row]
            closes = _closes(bars, symbol, origin, forecasts.horizon, delay)
            picture = figures.fan(chosen, actual[row], closes, f"fan{kind}{len(drawn)}", delay=delay)
            where = f"{symbol}, {stamp(origin)}: {share:.0%} of all forecasts came closer"
            drawn.append(Example(where, Markup(picture)))
        if drawn:
            kinds.append((name, meaning, drawn))
    return kinds


def over_time(forecasts: Forecasts, actual: Float64Array, bars: Bars, delay: int) -> dict[str, Any] | None:
    """Collect the paths of the first symbol at origins picked evenly, as numbers for the time line of the page.

    Returns
    -------
    dict or None
        ``symbol``, ``horizon``, ``delay`` and ``rows``, each with ``at`` (date), ``close`` (price at which the path
        starts), ``past``, ``path``, ``real`` and, where errors are known, ``low`` and ``high`` of the 80% band: whole
        numbers of 1e-4 of log return since that close, None where the price is not known. None with fewer than two
        rows.
    """
    symbol = bars.symbols[0]
    starts = bars.index.searchsorted(forecasts.origin) + delay
    mine = np.nonzero((forecasts.symbol == symbol) & (starts < len(bars)))[0]
    if len(mine) == 0:
        return None
    mine = mine[np.argsort(forecasts.origin[mine], kind="stable")]
    most = max(2, min(MOST_ORIGINS, MOST_NUMBERS // (6 * forecasts.horizon)))
    chosen = mine[np.unique(np.linspace(0, len(mine) - 1, min(most, len(mine))).round().astype(np.int64))]
    keep = np.isin(np.arange(len(forecasts)), chosen)
    picked = forecasts.where(keep)
    band = (picked.quantile(0.1), picked.quantile(0.9)) if picked.residuals else None
    paths, real = picked.cumulative(), np.cumsum(actual[keep], axis=1)
    rows = []
    for row in np.argsort(picked.origin, kind="stable").tolist():
        closes = _closes(bars, symbol, picked.origin[row], forecasts.horizon, delay)
        if not np.isfinite(closes[-1]):
            continue
        told = {
            "at": stamp(picked.origin[row]),
            "close": float(f"{closes[-1]:.6g}"),
            "past": _whole(np.log(closes / closes[-1])),
            "path": _whole(paths[row]),
            "real": _whole(real[row]),
        }
        if band is not None:
            told |= {"low": _whole(band[0][row]), "high": _whole(band[1][row])}
        rows.append(told)
    if len(rows) < 2:
        return None
    return {"symbol": symbol, "horizon": forecasts.horizon, "delay": delay, "rows": rows}


def _closes(bars: Bars, symbol: str, origin: pd.Timestamp, horizon: int, delay: int) -> Float64Array:
    """(C,) closes of two horizons before an origin, up to the one that its path starts from."""
    bar = int(bars.index.searchsorted(origin))
    return bars.close[symbol].to_numpy(dtype=np.float64)[max(0, bar + 1 - 2 * horizon) : bar + delay + 1]


def _whole(values: Float64Array) -> list[int | None]:
    return [round(value / _UNIT) if np.isfinite(value) else None for value in values.tolist()]

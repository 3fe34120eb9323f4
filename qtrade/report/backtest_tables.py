"""When a backtest earned and when it lost: its years, months, regimes and drawdowns, as tables of the report.

They take the records of the frames of `qtrade.backtest.tables`, as JSON holds them: an undefined number is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from qtrade.report.text import Cell, HeatCell, HeatMap, Table, metric_cell, number, reach, shade, stamp

Records = Sequence[Mapping[str, Any]]

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Columns of a stretch: the number, and its name.
_STRETCH = {
    "gross_annual_return": "Gross per year",
    "cost_annual": "Costs per year",
    "net_annual_return": "Net per year",
    "annual_volatility": "Volatility",
    "sharpe": "Sharpe ratio, net",
    "max_drawdown": "Deepest drawdown",
    "exposure": "Invested",
    "turnover_per_year": "Turnover per year",
}


def years(records: Records) -> Table | None:
    """Tabulate the records of `by_year`; None where there are none."""
    return _stretches(
        records,
        "year",
        "Year",
        "Year by year: mean returns times bars per year, not compounded; the first and the last may be incomplete",
    )


def regimes(records: Records) -> Table | None:
    """Tabulate the records of `by_regime`; None where there are none."""
    return _stretches(
        records,
        "regime",
        "Regime",
        "By the volatility regime that was known when the bar began: mean returns times bars per year, not compounded",
    )


def months(records: Records) -> HeatMap | None:
    """Shade the records of `by_month`, and beside them the whole years that they compound to; None without any."""
    if not records:
        return None
    monthly = np.array([[one[str(month)] for month in range(1, 13)] for one in records], dtype=np.float64)
    yearly = np.nanprod(1 + monthly, axis=1, keepdims=True) - 1
    rows = tuple(
        (str(one["year"]), (*cells, *whole))
        for one, cells, whole in zip(records, _shaded(monthly), _shaded(yearly), strict=True)
    )
    return HeatMap("Net return of each month, compounded, in %", "Year", (*_MONTHS, "Whole year"), rows)


def drawdowns(records: Records) -> Table | None:
    """Tabulate the records of `deepest_drawdowns`; None where there are none."""
    rows = tuple(
        (
            Cell(number(one["depth"], "percent", 1)),
            *(Cell(stamp(pd.Timestamp(one[name]))) for name in ("peak", "trough")),
            Cell("not yet" if one["recovery"] is None else stamp(pd.Timestamp(one["recovery"]))),
            *(Cell(number(one[name], "count")) for name in ("bars_down", "bars_up", "bars")),
        )
        for one in records
    )
    columns = ("Depth", "From", "Lowest", "Recovered", "Bars down", "Bars up", "Bars in all")
    return Table("Deepest drawdowns", columns, rows) if rows else None


def _stretches(records: Records, key: str, first: str, caption: str) -> Table | None:
    rows = tuple(
        (
            Cell(str(one[key])),
            *(metric_cell(one, name) for name in _STRETCH),
            *(Cell(number(one[name], "count")) for name in ("fills", "bars")),
        )
        for one in records
    )
    return Table(caption, (first, *_STRETCH.values(), "Fills", "Bars"), rows) if rows else None


def _shaded(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[tuple[HeatCell, ...]]:
    """Write shares in percent, shaded up to a size that nine of ten stay below: a wild one must not pale the rest."""
    most = reach(values)

    def cell(value: float) -> HeatCell:
        text = "" if math.isnan(value) else number(100 * value, "signed", 1 if abs(value) < 1 else 0)
        return HeatCell(text, level=shade(value, most))

    return [tuple(cell(value) for value in row) for row in values.tolist()]

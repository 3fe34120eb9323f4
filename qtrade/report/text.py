"""How numbers are written in the report: one spelling for each kind, an en dash for what is not known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

UNKNOWN = "\N{EN DASH}"

Kind = Literal["percent", "signed_percent", "ratio", "signed", "count", "plain"]
Tone = Literal["", "good", "bad", "open", "faint"]


@dataclass(frozen=True)
class Cell:
    """One table cell: a value, a smaller note below it, and whether it is good or bad news, open, or worth little."""

    text: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class HeatCell:
    """One cell of a heat map: the number in words, a smaller one, the shade, and whether it is outlined.

    `level` runs from -4 to 4, from the deepest shade below zero to the deepest above it.
    """

    text: str
    note: str = ""
    level: int = 0
    outlined: bool = False


@dataclass(frozen=True)
class HeatMap:
    """A table whose cells are shaded by what they say; `rows` pairs the name of each with its cells."""

    caption: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[HeatCell, ...]], ...]


def shade(value: float, reach: float) -> int:
    """Return the shade -4 .. 4 of a value, the deepest from `reach` on; 0 for NaN and for less than an eighth of it."""
    if math.isnan(value) or reach <= 0:
        return 0
    return max(-4, min(4, round(4 * value / reach)))


def points(value: float, digits: int = 1) -> str:
    """Write a difference of two R² values, given as a share, in points of a hundredth."""
    return f"{number(100 * value, 'signed', digits)}\N{NO-BREAK SPACE}points"


def number(value: float | None, kind: Kind, digits: int = 2) -> str:
    """Write a number with a true minus sign; None and NaN as an en dash, infinity as its symbol.

    Parameters
    ----------
    value
        A share of one for the percent kinds.
    kind
        ``count`` groups thousands and has no decimals; ``plain`` keeps four significant digits; ``signed`` shows a
        plus, too.
    digits
        Decimals of the percent, ratio and signed kinds.
    """
    if value is None or math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else "\N{MINUS SIGN}\N{INFINITY}"
    if kind == "count":
        text = f"{value:,.0f}"
    elif kind == "plain":
        text = f"{value:.4g}"
    elif kind == "ratio":
        text = f"{value:.{digits}f}"
    elif kind == "signed":
        text = f"{value:+.{digits}f}"
    elif kind == "percent":
        text = f"{100 * value:.{digits}f}%"
    else:
        text = f"{100 * value:+.{digits}f}%"
    return text.replace("-", "\N{MINUS SIGN}")


def interval(low: float | None, high: float | None, kind: Kind, digits: int = 2) -> str:
    """Write a 95% interval as ``[low, high]``."""
    return f"[{number(low, kind, digits)},\N{NO-BREAK SPACE}{number(high, kind, digits)}]"


def p_value(p: float) -> str:
    """Write a p-value, without pretending to know the tiny ones."""
    return f"p\N{NO-BREAK SPACE}{p:.3f}" if p >= 0.001 else "p\N{NO-BREAK SPACE}<\N{NO-BREAK SPACE}0.001"


# Order, names and units of the numbers of a backtest. What is not listed is shown under its own name.
METRICS: Mapping[str, tuple[str, Kind]] = {
    "gross_annual_return": ("Gross return per year", "signed_percent"),
    "cost_annual": ("Costs per year", "percent"),
    "net_annual_return": ("Net return per year", "signed_percent"),
    "sharpe": ("Sharpe ratio, net", "ratio"),
    "annual_volatility": ("Volatility per year", "percent"),
    "max_drawdown": ("Deepest drawdown", "percent"),
    "max_drawdown_bars": ("Its length, bars", "count"),
    "total_return": ("Net return, whole period", "signed_percent"),
    "cagr": ("Net growth per year, compounded", "signed_percent"),
    "exposure": ("Average share of equity invested", "percent"),
    "turnover_per_year": ("Turnover per year, times equity", "ratio"),
    "trades": ("Fills", "count"),
    "paid_cost_bps": ("Cost paid per trade, bp", "ratio"),
    "breakeven_cost_bps": ("Cost per trade that would eat the profit, bp", "ratio"),
    "hit_rate": ("Bars that gained, of those that moved", "percent"),
    "bars": ("Bars", "count"),
    "years": ("Years", "ratio"),
}
# Shown inside the cell of the number they belong to, never apart from it.
_INTERVALS = {name: (f"{name}_low", f"{name}_high") for name in ("sharpe", "beta", "alpha_annual")}
_WITHIN = ("sharpe_se", "information_ratio_se", *(bound for bounds in _INTERVALS.values() for bound in bounds))


def metric_cell(metrics: Mapping[str, float | None], key: str) -> Cell:
    """Write one number of a backtest.

    A Sharpe ratio, a beta and an alpha carry their 95% interval with them. A strategy that turns over less than once a
    year has no break-even cost.
    """
    _, kind = METRICS.get(key, (key, "plain"))
    if key == "breakeven_cost_bps" and (turnover := metrics.get("turnover_per_year")) is not None and turnover < 1:
        # Years of gains divided by next to no trades: a huge number that says nothing about costs.
        return Cell(UNKNOWN, "hardly trades")
    digits = 1 if kind in ("percent", "signed_percent") else 2
    text = number(metrics.get(key), kind, digits)
    if key in _INTERVALS and text != UNKNOWN:
        low, high = _INTERVALS[key]
        return Cell(text, interval(metrics.get(low), metrics.get(high), kind, digits))
    return Cell(text)


def metric_table(caption: str, columns: Mapping[str, Mapping[str, float | None]]) -> Table:
    """Put backtests side by side, one column each, in the order of `METRICS`; unknown numbers come last."""
    present = {key for metrics in columns.values() for key in metrics} - set(_WITHIN)
    keys = [key for key in METRICS if key in present] + sorted(present - set(METRICS))
    return Table(
        caption=caption,
        columns=("", *columns),
        rows=tuple(
            (Cell(METRICS[key][0] if key in METRICS else key), *(metric_cell(one, key) for one in columns.values()))
            for key in keys
        ),
    )

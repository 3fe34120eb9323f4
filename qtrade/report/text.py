"""How numbers are written in the report: one spelling for each kind, an en dash for what is not known."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from qtrade.backtest.metrics import Z95
from qtrade.types import Float64Array

UNKNOWN = "\N{EN DASH}"

Kind = Literal["percent", "signed_percent", "ratio", "signed", "count", "plain", "money"]
Tone = Literal["", "good", "bad", "open", "faint"]


@dataclass(frozen=True)
class Cell:
    """One table cell: a value, a smaller note below it, and whether it is good or bad news, open, or worth little."""

    text: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row names the row.

    `row_terms` and `column_terms` say whether these names are words of the report, which the glossary explains, or come
    from outside.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    row_terms: bool = False
    column_terms: bool = True


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


def reach(values: Float64Array) -> float:
    """Return the value of the deepest shade: nine cells of ten stay below it, and a wild one does not pale the rest."""
    known = np.abs(values[np.isfinite(values)])
    return float(np.quantile(known, 0.9)) if len(known) else 0.0


def decimals(most: float) -> int:
    """Return the decimals of a heat map in %: one, or more where all of it would look like nothing."""
    return 1 if 100 * most >= 0.5 or most == 0 else 2 if 100 * most >= 0.05 else 3


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
        plus, too; ``money`` shows a plus and groups thousands, with two decimals.
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
    elif kind == "money":
        text = f"{value:+,.2f}"
    elif kind == "ratio":
        text = f"{value:.{digits}f}"
    elif kind == "signed":
        text = f"{value:+.{digits}f}"
    elif kind == "percent":
        text = f"{100 * value:.{digits}f}%"
    else:
        text = f"{100 * value:+.{digits}f}%"
    # What rounds to nothing has no sign.
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("+-")
    return text.replace("-", "\N{MINUS SIGN}")


def stamp(moment: pd.Timestamp) -> str:
    """Write a session as its date, and a moment within a day with its time."""
    return f"{moment:%Y-%m-%d}" if moment == moment.normalize() else f"{moment:%Y-%m-%d %H:%M}"


def period(index: pd.DatetimeIndex) -> str:
    """Write the first and the last day of some stamps."""
    return f"{index.min():%Y-%m-%d} to {index.max():%Y-%m-%d}"


def ahead(horizon: int) -> str:
    """Write a forecast's horizon."""
    return f"{horizon} {'bar' if horizon == 1 else 'bars'} ahead"


def typeset(text: str) -> str:
    """Write a sentence of the evaluation as the report writes: R2 as R², a hyphen before a number as a minus."""
    return re.sub(r"(?<![\w.\-])-(?=\d)", "\N{MINUS SIGN}", re.sub(r"\bR2\b", "R²", text))


def several(names: Sequence[str], most: int = 8) -> str:
    """Write names one after the other; of more than `most`, the first three and how many are left."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:3])} and {len(names) - 3} more"


def interval(low: float | None, high: float | None, kind: Kind, digits: int = 2) -> str:
    """Write a 95% interval as ``[low, high]``, and one that is not known as an en dash."""
    if any(bound is None or math.isnan(bound) for bound in (low, high)):
        return UNKNOWN
    return f"[{number(low, kind, digits)},\N{NO-BREAK SPACE}{number(high, kind, digits)}]"


def p_value(p: float) -> str:
    """Write a p-value, without pretending to know the tiny ones."""
    return f"p\N{NO-BREAK SPACE}{p:.3f}" if p >= 0.001 else "p\N{NO-BREAK SPACE}<\N{NO-BREAK SPACE}0.001"


# Groups of the numbers of a backtest, in order: name, unit and decimals of each. What is not listed is shown under its
# own name.
GROUPS: Mapping[str, Mapping[str, tuple[str, Kind, int]]] = {
    "Return": {
        "gross_annual_return": ("Gross return per year", "signed_percent", 1),
        "cost_annual": ("Costs per year", "percent", 1),
        "net_annual_return": ("Net return per year", "signed_percent", 1),
        "total_return": ("Net return, whole period", "signed_percent", 1),
        "cagr": ("Net growth per year, compounded", "signed_percent", 1),
        "sharpe": ("Sharpe ratio, net", "ratio", 2),
        "sortino": ("Sortino ratio", "ratio", 2),
        "calmar": ("Calmar ratio", "ratio", 2),
        "profit_factor": ("Gains of bars over losses", "ratio", 2),
        "hit_rate": ("Bars that gained, of those that moved", "percent", 1),
        "bars": ("Bars", "count", 0),
        "years": ("Years", "ratio", 2),
    },
    "Risk": {
        "annual_volatility": ("Volatility per year", "percent", 1),
        "max_drawdown": ("Deepest drawdown", "percent", 1),
        "max_drawdown_bars": ("Its length, bars", "count", 0),
        "longest_drawdown_bars": ("Longest drawdown, bars", "count", 0),
        "value_at_risk_5": ("Loss that 5% of the bars reach (VaR 5%)", "percent", 2),
        "expected_shortfall_5": ("Mean loss of those bars (ES 5%)", "percent", 2),
        "worst_bar": ("Worst bar", "signed_percent", 2),
        "skew": ("Skew of the bars", "ratio", 2),
        "kurtosis": ("Kurtosis of the bars (normal: 3)", "ratio", 1),
    },
    "Trading": {
        "trades": ("Fills", "count", 0),
        "turnover_per_year": ("Turnover per year, times equity", "ratio", 2),
        "exposure": ("Average share of equity invested", "percent", 1),
        "time_in_market": ("Bars with a position", "percent", 1),
        "average_holding_bars": ("Average holding time, bars", "ratio", 1),
        "fill_cost_annual": ("Fees and slippage per year", "percent", 2),
        "financing_annual": ("Borrowing and funding per year", "percent", 2),
        "cost_per_fill": ("Cost per fill, money", "ratio", 2),
        "paid_cost_bps": ("Cost per fill, bp", "ratio", 2),
        "breakeven_cost_bps": ("Cost per fill that would eat the profit, bp", "ratio", 2),
    },
    "Against buy and hold": {
        "beta": ("Beta", "ratio", 2),
        "alpha_annual": ("Alpha per year", "signed_percent", 1),
        "correlation": ("Correlation", "ratio", 2),
        "up_capture": ("Share taken of its rises", "percent", 0),
        "down_capture": ("Share taken of its falls", "percent", 0),
        "tracking_error": ("Volatility of the difference, per year", "percent", 1),
        "information_ratio": ("Information ratio", "ratio", 2),
    },
}
METRICS = {name: told for group in GROUPS.values() for name, told in group.items()}
# Shown inside the cell of the number they belong to, never apart from it.
_INTERVALS = {name: (f"{name}_low", f"{name}_high") for name in ("sharpe", "beta", "alpha_annual")}
_WITHIN = ("sharpe_se", "information_ratio_se", *(bound for bounds in _INTERVALS.values() for bound in bounds))


def metric_cell(metrics: Mapping[str, float | None], key: str) -> Cell:
    """Write one number of a backtest.

    A Sharpe ratio, a beta, an alpha and an information ratio carry their 95% interval with them. A strategy that turns
    over less than once a year has no break-even cost.
    """
    _, kind, digits = METRICS.get(key, (key, "plain", 2))
    if key == "breakeven_cost_bps" and (turnover := metrics.get("turnover_per_year")) is not None and turnover < 1:
        # Years of gains divided by next to no trades: a huge number that says nothing about costs.
        return Cell(UNKNOWN, "hardly trades")
    value = metrics.get(key)
    text = number(value, kind, digits)
    if key in _INTERVALS and text != UNKNOWN:
        low, high = _INTERVALS[key]
        return Cell(text, interval(metrics.get(low), metrics.get(high), kind, digits))
    error = metrics.get("information_ratio_se")
    if key == "information_ratio" and value is not None and error is not None:
        return Cell(text, interval(value - Z95 * error, value + Z95 * error, kind, digits))
    return Cell(text)


def metric_tables(columns: Mapping[str, Mapping[str, float | None]]) -> list[Table]:
    """Put backtests side by side, one column each: a table per group of `GROUPS`, and one for the numbers unknown."""
    present = {key for metrics in columns.values() for key in metrics} - set(_WITHIN)
    groups = {caption: [key for key in group if key in present] for caption, group in GROUPS.items()}
    groups["Other numbers"] = sorted(present - set(METRICS))
    return [
        Table(
            caption=caption,
            columns=("Measure", *columns),
            rows=tuple(
                (Cell(METRICS[key][0] if key in METRICS else key), *(metric_cell(one, key) for one in columns.values()))
                for key in keys
            ),
            row_terms=True,
            column_terms=False,
        )
        for caption, keys in groups.items()
        if keys
    ]

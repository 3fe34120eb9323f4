"""Figures of the report, as SVG that follows the page's colours, fonts and dark mode.

Matplotlib draws through its object interface, and its settings are put back after each figure. Colours are written as
placeholders and replaced by CSS variables; text stays text. No name from outside ever enters a figure: the page
captions them.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, MultipleLocator, NullLocator
from matplotlib.typing import RcKeyType

from qtrade.evaluation.skill import HorizonSkill
from qtrade.forecasts import Forecasts
from qtrade.report.text import number
from qtrade.types import Float64Array

# Placeholder colours and the CSS variables that take their place.
INK, LINE, MODEL, OTHER, EVENT, PAPER = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06"
BESIDE = ("#0a0b07", "#0a0b08", "#0a0b09", "#0a0b0a", "#0a0b0b")
"""Of the accounts that are drawn beside the first."""
_VARIABLES = {
    INK: "--muted",
    LINE: "--line",
    MODEL: "--model",
    OTHER: "--other",
    EVENT: "--ink",
    PAPER: "--paper",
    **{colour: f"--account{place}" for place, colour in enumerate(BESIDE, start=2)},
}

STYLE: dict[RcKeyType, Any] = {
    "date.converter": "concise",
    "svg.fonttype": "none",
    "svg.hashsalt": "qtrade",
    "font.size": 10.5,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}

PERCENT = FuncFormatter(lambda share, _: f"{number(100 * share, 'plain')}%")


def skill_r2(skill: Sequence[HorizonSkill]) -> str:
    """R² out of sample per horizon with 95% intervals, against no change and against drift."""
    with mpl.rc_context(STYLE):
        figure, axes = single(4.8, 3.1)
        place = np.arange(len(skill), dtype=np.float64)
        for shift, colour, marker, rows in (
            (-0.09, MODEL, "o", [one.vs_zero for one in skill]),
            (0.09, OTHER, "s", [one.vs_drift for one in skill]),
        ):
            value = np.array([row.r2 for row in rows])
            reach = np.array([[row.r2 - row.r2_low, row.r2_high - row.r2] for row in rows]).T
            axes.errorbar(
                place + shift, value, yerr=reach, color=colour, fmt=marker, markersize=5.5, elinewidth=1.8, capsize=0
            )
        axes.yaxis.set_major_formatter(PERCENT)
        _horizon_axis(axes, skill)
        spoken = "; ".join(f"{one.horizon} bars {one.vs_zero.r2:+.1%} and {one.vs_drift.r2:+.1%}" for one in skill)
        return to_svg(figure, "r2", f"R squared against no change and against drift, per horizon: {spoken}.")


def skill_ic(skill: Sequence[HorizonSkill]) -> str:
    """IC per horizon with 95% intervals, over the band in which an IC would be invisible."""
    with mpl.rc_context(STYLE):
        figure, axes = single(4.8, 3.1)
        for place, one in enumerate(skill):
            blind = one.detectable_ic
            axes.fill_between([place - 0.32, place + 0.32], -blind, blind, color=INK, alpha=0.13, linewidth=0)
            if one.correlation is not None:
                ic = one.correlation
                reach = [[ic.ic - ic.low], [ic.high - ic.ic]]
                axes.errorbar(
                    [place], [ic.ic], yerr=reach, color=MODEL, fmt="o", markersize=5.5, elinewidth=1.8, capsize=0
                )
        _horizon_axis(axes, skill)
        spoken = "; ".join(
            f"{one.horizon} bars {f'{one.correlation.ic:+.2f}' if one.correlation else 'undefined'}, "
            f"smallest visible {one.detectable_ic:.2f}"
            for one in skill
        )
        return to_svg(figure, "ic", f"Information coefficient per horizon: {spoken}.")


def fan(forecast: Forecasts, actual: Float64Array, closes: Float64Array, key: str, *, delay: int = 0) -> str:
    """One forecast path in prices: the bars before it, the predicted path, its bands, and what happened.

    Parameters
    ----------
    forecast
        A single row.
    actual
        (H,) log returns that happened.
    closes
        (C,) closing prices up to and including the one the path starts from, `delay` bars after the origin.
    key
        Prefix of the SVG's ids, unique within the page.
    delay
        Bars between the origin and the first bar that is forecast.
    """
    start = float(closes[-1])
    before, skipped = closes[: len(closes) - delay], closes[len(closes) - delay - 1 :]
    ahead = delay + np.arange(forecast.horizon + 1)

    def price(cumulative: Float64Array) -> Float64Array:
        return np.asarray(start * np.exp(np.concatenate([[0.0], cumulative])), dtype=np.float64)

    predicted, happened = price(forecast.cumulative()[0]), price(np.cumsum(actual))
    with mpl.rc_context(STYLE):
        figure, axes = single(3.3, 2.5)
        for tail, alpha in ((0.025, 0.14), (0.1, 0.18), (0.25, 0.24)) if forecast.residuals else ():
            low, high = (price(forecast.quantile(q)[0]) for q in (tail, 1 - tail))
            axes.fill_between(ahead, low, high, color=MODEL, alpha=alpha, linewidth=0)
        axes.axvline(0, color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
        axes.plot(np.arange(1 - len(before), 1), before, color=INK, linewidth=1.2)
        axes.plot(np.arange(ahead[-1] + 1), np.concatenate([skipped[:-1], happened]), color=EVENT, linewidth=1.8)
        axes.plot(ahead, predicted, color=MODEL, linewidth=2)
        axes.margins(x=0.01)
        axes.xaxis.set_major_locator(MultipleLocator(max(1, forecast.horizon // 2)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda bar, _: number(bar, "signed", 0) if bar else "origin"))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("bars from the forecast")
        late = f", starting {delay} bars after the forecast" if delay else ""
        text = (
            f"Forecast path of {forecast.horizon} bars from a price of {start:.6g}{late}: "
            f"predicted to end at {predicted[-1]:.6g}, ended at {happened[-1]:.6g}."
        )
        return to_svg(figure, key, text)


def equity(
    strategy: pd.Series,
    benchmark: pd.Series,
    boundaries: pd.DatetimeIndex,
    key: str,
    *,
    beside: Sequence[pd.Series] = (),
    null: Float64Array | None = None,
    narrow: bool = False,
) -> str:
    """Growth of 1 in strategies and in buy-and-hold, their drawdowns below, and the fold boundaries.

    Parameters
    ----------
    strategy, benchmark
        Account value at each close, on a UTC index.
    boundaries
        First bar of each fold's test range.
    key
        Prefix of the SVG's ids, unique within the page.
    beside
        Account values of other strategies, at most as many as there are colours in `BESIDE`.
    null
        (T, 5) quantiles of the growth of 1 with the same positions at other times, drawn behind both.
    narrow
        Draw for a phone instead of a desktop.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.9, 3.9) if narrow else (9.2, 4.4), layout="constrained", facecolor="none")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.2])
        points = 350 if narrow else 900
        accounts = {OTHER: benchmark, **dict(zip(BESIDE, beside, strict=False)), MODEL: strategy}
        growth = {colour: series / series.iloc[0] for colour, series in accounts.items()}
        if null is not None:
            rows = np.unique(np.linspace(0, len(null) - 1, min(points, len(null))).astype(np.int64))
            stamps = naive(pd.DatetimeIndex(strategy.index[rows]))
            for low, high in ((0, 4), (1, 3)):
                top.fill_between(stamps, null[rows, low], null[rows, high], color=INK, alpha=0.16, linewidth=0)
            top.plot(stamps, null[rows, 2], color=INK, linewidth=1, linestyle=(0, (4, 2)))
        for colour, series in growth.items():
            width = 1.6 if colour == MODEL else 1.1
            top.plot(*thinned(series, points), color=colour, linewidth=width)
            fall = series / series.cummax() - 1
            bottom.plot(*thinned(fall, points), color=colour, linewidth=width * 0.75)
        fall = growth[MODEL] / growth[MODEL].cummax() - 1
        stamps, depth = thinned(fall, points)
        bottom.fill_between(stamps, depth, 0, color=MODEL, alpha=0.15, linewidth=0)
        for axes in (top, bottom):
            axes.margins(x=0.005)
            for boundary in naive(boundaries):
                axes.axvline(boundary, color=LINE, linewidth=0.9, linestyle=(0, (1, 2)), zorder=0.5)
        drawn = [series.to_numpy() for series in growth.values()] + ([] if null is None else [null.ravel()])
        values = np.concatenate(drawn)
        if values.min() > 0 and values.max() / values.min() > 5:
            top.set_yscale("log", base=2)
            # Powers of two alone are too few to read a small range by.
            halfway = values.max() / values.min() < 2**4
            top.yaxis.set_major_locator(LogLocator(base=2, subs=(1, 1.5) if halfway else (1,)))
            top.yaxis.set_minor_locator(NullLocator())
        top.yaxis.set_major_formatter(
            FuncFormatter(
                lambda value, _: (
                    f"{value:,.0f}\N{MULTIPLICATION SIGN}" if value >= 1e3 else f"{value:.4g}\N{MULTIPLICATION SIGN}"
                )
            )
        )
        bottom.yaxis.set_major_formatter(PERCENT)
        bottom.yaxis.set_major_locator(MaxNLocator(3))
        few_dates(bottom, 5 if narrow else 12)
        last = {colour: float(series.iloc[-1]) for colour, series in growth.items()}
        text = (
            f"Growth of 1 from {strategy.index[0]:%Y-%m-%d} to {strategy.index[-1]:%Y-%m-%d}: "
            f"{last[MODEL]:.2f} in the strategy, with a deepest fall of {-fall.min():.0%}; "
            f"{last[OTHER]:.2f} in buy and hold."
        )
        others = [f"{value:.2f}" for colour, value in last.items() if colour in BESIDE]
        if others:
            text += f" Other strategies, in their order: {', '.join(others)}."
        if null is not None:
            text += f" The same positions at other times: {null[-1, 0]:.2f} to {null[-1, 4]:.2f} in nine cases of ten."
        return to_svg(figure, key, text)


def single(width: float, height: float) -> tuple[Figure, Axes]:
    """Make a figure of one panel, in inches; call inside the style context."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    return figure, figure.subplots()


def _horizon_axis(axes: Axes, skill: Sequence[HorizonSkill]) -> None:
    axes.axhline(0, color=INK, linewidth=1)
    axes.set_xticks(range(len(skill)), [str(one.horizon) for one in skill])
    axes.set_xlim(-0.6, len(skill) - 0.4)
    axes.set_xlabel("bars ahead")


def few_dates(axes: Axes, most: int) -> None:
    """Set about so many ticks on the time axis at most, at full years, quarters or months, so that the year is told."""
    # Months and hours go by 6 and 12 at most; so few ticks at least leave no span for which that is too many.
    locator = AutoDateLocator(minticks=(most - 1) // 2, maxticks=most)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def naive(index: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Drop the time zone, which is UTC throughout, because Matplotlib would convert it stamp by stamp."""
    return index.tz_localize(None)


def thinned(series: pd.Series, bins: int) -> tuple[pd.DatetimeIndex, Float64Array]:
    """Keep the first, lowest, highest and last value of each of `bins` stretches: the drawn line is the same."""
    values = series.to_numpy(dtype=np.float64)
    keep: set[int] = set()
    for stretch in np.array_split(np.arange(len(values)), min(bins, len(values))):
        part = values[stretch]
        keep |= {int(stretch[0]), int(stretch[part.argmin()]), int(stretch[part.argmax()]), int(stretch[-1])}
    rows = sorted(keep)
    return naive(pd.DatetimeIndex(series.index[rows])), values[rows]


def to_svg(figure: Figure, key: str, text: str) -> str:
    """Render as an `<svg>` element with `text` as its alternative; call inside the style context."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn = buffer.getvalue()
    # Inline SVGs share the page's id space, and Matplotlib numbers every figure's parts from one.
    drawn = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{key}-", drawn[drawn.index("<svg") :])
    drawn = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", drawn, count=1, flags=re.DOTALL)
    drawn = re.sub(r"\s*<!--.*?-->", "", drawn, flags=re.DOTALL)
    # A hundredth of a point cannot be seen, and what lies behind it is half of the file.
    drawn = re.sub(r' d="[^"]+"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path.group()), drawn)
    for colour, variable in _VARIABLES.items():
        drawn = drawn.replace(colour, f"var({variable})")
    box = re.search(r'viewBox="[^"]+"', drawn)
    assert box is not None
    opening = (
        f'<svg {box.group()} role="img" aria-label="{html.escape(text)}" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return opening + drawn[drawn.index(">") + 1 :]

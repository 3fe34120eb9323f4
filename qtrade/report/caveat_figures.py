"""Figures of the caveat: folds on the time axis, optimism, staleness, breaks, coverage. See `qtrade.report.figures`.

No name from outside enters a figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from qtrade.evaluation.breaks import Break
from qtrade.evaluation.coverage import Coverage
from qtrade.evaluation.skill import LEVEL
from qtrade.evaluation.staleness import Staleness
from qtrade.forecasts import Forecasts
from qtrade.report.figures import (
    EVENT,
    INK,
    LINE,
    MODEL,
    OTHER,
    PAPER,
    PERCENT,
    STYLE,
    few_dates,
    naive,
    single,
    thinned,
    to_svg,
)
from qtrade.report.text import number, p_value, points

CUSUM_LINE = 1.36
"""Size of the CUSUM beyond which it speaks against "no change" at 5 %."""
MOST_CELLS = 30
"""Rows and columns of a heat map; of more, so many are picked evenly."""
MOST_FOLDS = 24
"""Folds that are drawn; of more, so many are picked evenly."""

Part = Literal["fit", "purge", "validation", "test"]
_PART_COLOURS: dict[Part, tuple[str, float]] = {
    "fit": (MODEL, 0.85),
    "purge": (EVENT, 1.0),
    "validation": (MODEL, 0.4),
    "test": (OTHER, 1.0),
}
_METHOD_LINES: dict[str, tuple[str, Any]] = {
    "split": (OTHER, "-"),
    "refit": (INK, (0, (1, 1.2))),
    "aci": (MODEL, "-"),
    "nexcp": (EVENT, (0, (5, 2))),
}


@dataclass(frozen=True)
class FoldSpan:
    """Where the parts of one fold lie: its number, and (part, first stamp, last stamp) in time order."""

    number: int
    parts: tuple[tuple[Part, pd.Timestamp, pd.Timestamp], ...]


def evenly(count: int, most: int) -> list[int]:
    """Pick at most so many positions of `count`, evenly, the first and the last among them."""
    picked: list[int] = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)).tolist()
    return picked


def fold_spans(index: pd.DatetimeIndex, folds: pd.DataFrame, forecasts: Forecasts, delay: int) -> list[FoldSpan]:
    """Lay out each fold from the dates of its row and the number of its validation errors.

    The last label that a fold learned or validated on ends at its first test bar; a second such gap lies between
    fitting and validation. Where no validation errors are kept, both are drawn as one.
    """
    reach = forecasts.horizon + delay
    banks: dict[int, int] = {}
    for (owner, _, _), bank in forecasts.residuals.items():
        banks[owner] = max(banks.get(owner, 0), len(bank))
    spans = []
    each = folds.drop_duplicates("number")
    numbers = each["number"].astype(int).tolist()
    dates = (index.searchsorted(pd.DatetimeIndex(each[name])) for name in ("train_start", "test_start", "test_end"))
    for fold, begin, test, end in zip(numbers, *(place.tolist() for place in dates), strict=True):
        known, valid = test - reach, banks.get(fold, 0)
        fit = known - valid + 1 - reach
        parts: list[tuple[Part, int, int]] = [("fit", begin, known), ("purge", known, test)]
        if valid and fit > begin:
            parts = [("fit", begin, fit), ("purge", fit, fit + reach), ("validation", fit + reach, known)]
            parts.append(("purge", known, test))
        parts.append(("test", test, end))
        last = len(index) - 1
        drawn = [(part, index[max(0, low)], index[min(last, high)]) for part, low, high in parts if high > low]
        spans.append(FoldSpan(fold, tuple(drawn)))
    return spans


def protocol(spans: Sequence[FoldSpan], key: str, *, narrow: bool = False) -> str:
    """Draw the folds on the time axis, one line each: fit, purge, validation, purge, test."""
    shown = [spans[place] for place in evenly(len(spans), 12 if narrow else MOST_FOLDS)]
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        height = 0.7 + (0.17 if narrow else 0.19) * len(shown)
        figure, axes = single(3.9 if narrow else 9.2, height)
        for row, span in enumerate(shown):
            for part, first, last in span.parts:
                colour, alpha = _PART_COLOURS[part]
                ends = naive(pd.DatetimeIndex([first, last]))
                axes.plot(ends, [row, row], color=colour, alpha=alpha, linewidth=8, solid_capstyle="butt")
        # Equal steps, from the first on: a reader counts the lines between two names.
        places = range(0, len(shown), -(-len(shown) // 6))
        axes.set_yticks(places, [f"fold {shown[place].number + 1}" for place in places])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.margins(x=0.005)
        few_dates(axes, 5 if narrow else 12)
        kinds = [part for part, _, _ in shown[0].parts]
        first_test = next(stamp for part, stamp, _ in spans[0].parts if part == "test")
        last_test = next(stamp for part, _, stamp in spans[-1].parts if part == "test")
        text = (
            f"{len(spans)} folds, each in this order of time: {', '.join(kinds)}. "
            f"Tests run from {first_test:%Y-%m-%d} to {last_test:%Y-%m-%d}."
        )
        return to_svg(figure, key, text)


def rungs(scores: Mapping[str, Any], key: str, title: str, between: Sequence[str] = ()) -> str:
    """Draw R² of each rung of the waterfall or the ladder with its 95 % interval.

    Parameters
    ----------
    scores
        Plain values of `qtrade.evaluation.optimism.Scores`.
    title
        What the rungs are, for the alternative text.
    between
        Names of the steps to write between the two rungs that they compare, where these are neighbours.
    """
    found = scores["rungs"]
    with mpl.rc_context({**STYLE, "axes.grid.axis": "x", "axes.spines.bottom": False, "hatch.linewidth": 0.8}):
        figure, axes = single(4.8, 0.5 + 0.56 * len(found))
        for row, rung in enumerate(found):
            if rung.get("watermark"):
                axes.barh(row, rung["r2"], height=0.6, color="none", edgecolor=INK, hatch="////", linewidth=0.8)
            else:
                strength = 1.0 if rung["name"] == "walk-forward" else 0.45
                axes.barh(row, rung["r2"], height=0.52, color=MODEL, alpha=strength, linewidth=0)
            low, high = rung["r2_low95"], rung["r2_high95"]
            if np.isfinite([low, high]).all():
                axes.plot([low, high], [row, row], color=EVENT, linewidth=1.6, solid_capstyle="butt")
        axes.axvline(0, color=INK, linewidth=1)
        # Room for the words even where all bars are short.
        axes.margins(x=0.08)
        low, high = axes.get_xlim()
        for row, rung in enumerate(found):
            if rung.get("watermark"):
                # Left of the interval, which must not be covered, and never beyond the figure.
                middle = np.clip(
                    min(rung["r2"], rung["r2_low95"]) / 2, low + 0.2 * (high - low), high - 0.2 * (high - low)
                )
                box = {"boxstyle": "square,pad=0.1", "facecolor": PAPER, "edgecolor": "none"}
                axes.text(
                    middle,
                    row,
                    rung["watermark"],
                    ha="center",
                    va="center",
                    color=EVENT,
                    weight="bold",
                    size=8.5,
                    bbox=box,
                )
        for row, (upper, lower) in enumerate(pairwise(found)):
            for step in scores["steps"]:
                if step["name"] in between and {step["upper"], step["lower"]} == {upper["name"], lower["name"]}:
                    told = f"{step['name']} {points(step['r2_difference'])}"
                    axes.text(high, row + 0.5, told, ha="right", va="center", fontsize=9, style="italic")
        axes.set_xlim(low, high)
        names = [f"{rung['name']}\n{number(rung['r2'], 'signed_percent', 1)}" for rung in found]
        axes.set_yticks(range(len(found)), names, linespacing=1.05)
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(PERCENT)
        marks = {rung["name"]: f" ({rung['watermark']})" if rung.get("watermark") else "" for rung in found}
        spoken = "; ".join(f"{rung['name']}{marks[rung['name']]} {rung['r2']:+.1%}" for rung in found)
        return to_svg(figure, key, f"{title}, R squared against no change: {spoken}.")


def staleness(found: Staleness, key: str) -> str:
    """Draw what a model loses to a fresh one by its age, with the 95 % band, the tested age and the half-life."""
    ages = found.ages
    with mpl.rc_context(STYLE):
        figure, axes = single(4.8, 3.1)
        bars = np.array([0.0, *(age.bars for age in ages)])
        lost, low, high = (
            np.array([0.0, *(getattr(age, name) for age in ages)]) for name in ("r2_lost", "low", "high")
        )
        axes.axhline(0, color=INK, linewidth=1)
        axes.fill_between(bars, low, high, color=MODEL, alpha=0.18, linewidth=0)
        axes.plot(bars, lost, color=MODEL, linewidth=1.8, marker="o", markersize=4)
        if found.tested is not None:
            ring = axes.plot([found.tested.bars], [found.tested.r2_lost], marker="o", markersize=10, color=EVENT)[0]
            ring.set(markerfacecolor="none", markeredgewidth=1.8)
        if found.half_life_bars is not None:
            axes.axvline(found.half_life_bars, color=OTHER, linewidth=1.6, linestyle=(0, (5, 2)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: number(100 * share, "plain")))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: number(count, "count")))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.margins(x=0.03)
        axes.set_xlabel("age beyond the fresh model, bars")
        axes.set_ylabel("R² points lost")
        spoken = "; ".join(f"{age.bars:,.0f} bars {100 * age.r2_lost:+.1f}" for age in ages)
        half = "" if found.half_life_bars is None else f" Half of the edge is gone at {found.half_life_bars:,.0f} bars."
        return to_svg(figure, key, f"R squared points lost to a fresh model on the same bars, by age: {spoken}.{half}")


def cusum(change: Break, index: pd.DatetimeIndex, start: int, when: str, key: str) -> str:
    """Draw the CUSUM of the link between forecasts and outcomes; the break is marked where p < 0.05.

    Parameters
    ----------
    index
        (T,) stamps of all bars.
    start
        Position of the first bar of the path.
    when
        Date and range of the break in words.
    """
    clock = naive(index)
    with mpl.rc_context(STYLE):
        figure, axes = single(4.8, 3.1)
        for level in (-CUSUM_LINE, CUSUM_LINE):
            axes.axhline(level, color=OTHER, linewidth=1.3, linestyle=(0, (5, 2)))
        axes.axhline(0, color=INK, linewidth=1)
        path = pd.Series(change.path, index=index[start : start + len(change.path)])
        axes.plot(*thinned(path, 350), color=MODEL, linewidth=1.5)
        chance = p_value(change.p).replace("\N{NO-BREAK SPACE}", " ")
        told = f"no break beyond chance, {chance}"
        if change.p < LEVEL:
            bottom, top = axes.get_ylim()
            axes.fill_between(clock[[change.first, change.last]], bottom, top, color=INK, alpha=0.16, linewidth=0)
            axes.plot(clock[[change.bar] * 2], [bottom, top], color=EVENT, linewidth=1.4)
            axes.set_ylim(bottom, top)
            told = f"a break {when}, {chance}"
        axes.margins(x=0.01)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        few_dates(axes, 7)
        largest = float(np.abs(change.path).max())
        return to_svg(figure, key, f"CUSUM, largest {largest:.2f} against a line at {CUSUM_LINE}: {told}.")


def coverage(methods: Mapping[str, Coverage], stamps: pd.DatetimeIndex, key: str, *, narrow: bool = False) -> str:
    """Draw the share of outcomes that each kind of interval held over the last stretch of origins.

    Parameters
    ----------
    stamps
        (T,) stamps of the test origins, the rows of each `Coverage`.
    """
    level = next(iter(methods.values())).level
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.9, 3.0) if narrow else (9.2, 3.2), layout="constrained", facecolor="none")
        axes = figure.subplots()
        axes.axhline(level, color=INK, linewidth=1.2)
        lowest = []
        for method, found in methods.items():
            colour, style = _METHOD_LINES.get(method, (INK, "-"))
            known = np.isfinite(found.rolling)
            if known.any():
                series = pd.Series(found.rolling[known], index=stamps[: len(known)][known])
                axes.plot(*thinned(series, 150 if narrow else 350), color=colour, linestyle=style, linewidth=1.6)
                lowest.append(f"{method} {series.min():.0%}")
        axes.yaxis.set_major_formatter(PERCENT)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.grid(color=LINE)
        axes.margins(x=0.005)
        few_dates(axes, 5 if narrow else 12)
        spoken = ", ".join(lowest)
        return to_svg(figure, key, f"Rolling coverage of intervals that promise {level:.0%}; the lowest: {spoken}.")

"""Figures of a parameter sweep: how the Sharpe ratio is spread over the variants, and how it depends on parameters.

The heat map is written as SVG by hand, because a map may have ten thousand cells: neighbours of one shade become one
stroke of one path. Its shades are classes of the page (`n8` .. `n1`, `z`, `p1` .. `p8`, and `u` where nothing is
known), so that they follow dark mode. Parameter values are the only text from outside, and are escaped.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qtrade.report.figures import EVENT, INK, MODEL, OTHER, STYLE, single, to_svg
from qtrade.report.text import number
from qtrade.types import Float64Array

SHADES = 8
"""Shades on either side of zero."""
DEEPEST = 2.0
"""Sharpe ratio from which on the shade no longer deepens, so that a few ruinous corners do not bleach all others."""
MOST_NUMBERED = 12
"""Rows and columns up to which a heat map writes the numbers into its cells."""

Mark = Literal["best", "median", "luckiest useless trial", "buy and hold"]
# Colour, width and dashes, in the order of drawing: the best lies on top.
_MARKS: Mapping[Mark, tuple[str, float, Any]] = {
    "buy and hold": (OTHER, 2.0, "-"),
    "median": (INK, 2.0, (0, (1, 1.2))),
    "luckiest useless trial": (EVENT, 1.8, (0, (5, 2))),
    "best": (MODEL, 2.4, "-"),
}

# Units of the drawing, which is scaled to the column it stands in.
_WIDTH, _ROW, _TALLEST, _LETTER, _LINE = 440.0, 27.0, 300.0, 7.0, 18.0
_MOST_LETTERS = 14
_LEAST = 11.0


@dataclass(frozen=True, eq=False)
class Surface:
    """A number per pair of parameter values.

    Attributes
    ----------
    values
        (R, C) numbers; NaN where none is known.
    rows, columns
        R and C parameter values, in words.
    marked
        Row and column of the cell to outline.
    """

    values: Float64Array
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    marked: tuple[int, int]


def heat_map(surface: Surface, reach: float, text: str) -> str:
    """Draw a surface, shaded by distance from zero: blue above it, orange below.

    Parameters
    ----------
    reach
        Distance from zero of the deepest shade; the same for all maps of a page, so that they can be compared.
    text
        What the picture shows, for those who do not see it.
    """
    height, width = surface.values.shape
    numbered = max(height, width) <= MOST_NUMBERED
    left = 10 + _LETTER * max(len(_short(name)) for name in surface.rows)
    across = (_WIDTH - left) / width
    down = _ROW if height <= MOST_NUMBERED else _TALLEST / height
    bottom = height * down
    drawn = [
        _opening("map", _WIDTH, bottom + _LINE + 6, text),
        f'<g transform="translate({left:.4g} 2) scale({across:.6g} {down:.6g})">',
        *_cells(_levels(surface.values, reach)),
        _grid(height, width) if numbered else "",
        "</g>",
        _outline(left + (surface.marked[1] + 0.5) * across, 2 + (surface.marked[0] + 0.5) * down, across, down),
    ]
    if numbered:
        digits = 2 if width <= 8 else 1
        for row, column in np.argwhere(np.isfinite(surface.values)):
            x, y = left + (column + 0.5) * across, 6 + (row + 0.5) * down
            drawn.append(_word(x, y, _plain(surface.values[row, column], digits), "value"))
    for row in _ticks(height, _LINE / down):
        drawn.append(_word(left - 6, 6 + (row + 0.5) * down, _short(surface.rows[row]), "down"))
    # A name may be as wide as its cell, but names of numbers are left out rather than cut.
    longest = max(len(_short(name)) for name in surface.columns)
    for column in _ticks(width, (longest + 1) * _LETTER / across):
        drawn.append(_word(left + (column + 0.5) * across, bottom + _LINE, _short(surface.columns[column]), "across"))
    return "".join((*drawn, "</svg>"))


def scale(reach: float) -> str:
    """Draw the shades from the deepest below zero to the deepest above it."""
    count = 2 * SHADES + 1
    cells = _cells(np.arange(-SHADES, SHADES + 1, dtype=np.float64)[None, :])
    words = ((14, number(-reach, "signed", 1)), (122, "0"), (230, number(reach, "signed", 1)))
    return "".join(
        (
            _opening("map scale", 244, 30, f"Shades from {-reach:.1f} to {reach:.1f}"),
            f'<g transform="translate(14 2) scale({216 / count:.6g} 10)">',
            *cells,
            "</g>",
            *(_word(x, 26, word, "across") for x, word in words),
            "</svg>",
        )
    )


def profile(
    names: Sequence[str],
    sharpe: Float64Array,
    marked: int,
    luck: float | None,
    key: str,
    *,
    joined: bool = True,
    narrow: bool = False,
) -> str:
    """Draw the Sharpe ratio of each value of a single parameter, at even distances.

    Parameters
    ----------
    names, sharpe
        The V values in words, and (V,) annualised Sharpe ratios; NaN where undefined.
    marked
        Position of the best variant.
    luck
        Sharpe ratio that the luckiest of as many useless trials would show; None leaves the line out.
    key
        Prefix of the SVG's ids, unique within the page.
    joined
        Join the points by a line, as befits numbers, but not words.
    narrow
        Draw for a phone instead of a desktop.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _panel(narrow)
        place = np.arange(len(names))
        axes.axhline(0, color=INK, linewidth=1)
        if luck is not None:
            axes.axhline(luck, color=EVENT, linewidth=1.4, linestyle=(0, (5, 2)))
        size = 4 if len(names) <= 60 or not joined else 0
        axes.plot(place, sharpe, color=MODEL, linewidth=1.6 if joined else 0, marker="o", markersize=size)
        axes.plot(place[marked], sharpe[marked], color=EVENT, marker="s", markersize=11, markerfacecolor="none")
        room = (6 if narrow else 12) * _MOST_LETTERS / 2 / max(len(_short(name)) + 1 for name in names)
        shown = _ticks(len(names), len(names) / room)
        axes.set_xticks(shown, [_short(names[position]) for position in shown])
        axes.margins(x=0.02)
        text = f"Sharpe ratio of each of {len(names)} values of the parameter."
        return to_svg(figure, key, text)


def spread(sharpe: Float64Array, marks: Mapping[Mark, float | None], key: str, *, narrow: bool = False) -> str:
    """Draw how many variants have which Sharpe ratio, with marks to hold the best of them against.

    Parameters
    ----------
    sharpe
        (V,) annualised Sharpe ratios, all finite.
    marks
        Sharpe ratios of the best and the median variant, of the luckiest of as many useless trials, and of
        buy-and-hold; None is left out.
    key, narrow
        See `profile`.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _panel(narrow)
        bins = int(np.clip(2 * math.sqrt(len(sharpe)), 5, 30 if narrow else 60))
        axes.hist(sharpe, bins=bins, color=INK, alpha=0.4)
        for mark, (colour, width, dashes) in _MARKS.items():
            value = marks[mark]
            if value is not None:
                axes.axvline(value, color=colour, linewidth=width, linestyle=dashes)
        axes.set_xlabel("Sharpe ratio per year, net of costs")
        axes.set_ylabel("variants")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        spoken = "; ".join(f"{mark} {number(value, 'ratio')}" for mark, value in marks.items())
        text = f"Sharpe ratios of {len(sharpe)} variants, from {sharpe.min():.2f} to {sharpe.max():.2f}: {spoken}."
        return to_svg(figure, key, text)


def _panel(narrow: bool) -> tuple[Figure, Axes]:
    return single(3.9, 2.6) if narrow else single(9.2, 2.9)


def _opening(kind: str, width: float, height: float, text: str) -> str:
    label = html.escape(text)
    return f'<svg class="{kind}" viewBox="0 0 {width:g} {height:.4g}" role="img" aria-label="{label}">'


def _levels(values: Float64Array, reach: float) -> Float64Array:
    """Return the (R, C) shades -8 .. 8; NaN where there is no value."""
    return np.clip(np.round(SHADES * values / reach), -SHADES, SHADES)


def _cells(levels: Float64Array) -> list[str]:
    """Draw unit cells, one path per shade, in which neighbours of a row are one stretch."""
    paths: dict[str, list[str]] = {}
    for row, line in enumerate(levels):
        column = 0
        for shade, stretch in groupby(_shade(level) for level in line):
            length = len(list(stretch))
            paths.setdefault(shade, []).append(f"M{column} {row}h{length}v1h-{length}z")
            column += length
    return [f'<path class="{shade}" d="{"".join(parts)}"/>' for shade, parts in paths.items()]


def _shade(level: float) -> str:
    if math.isnan(level):
        return "u"
    return f"p{level:.0f}" if level > 0 else f"n{-level:.0f}" if level < 0 else "z"


def _grid(height: int, width: int) -> str:
    lines = [f"M{column} 0v{height}" for column in range(1, width)] + [f"M0 {row}h{width}" for row in range(1, height)]
    return f'<path class="gap" d="{"".join(lines)}"/>'


def _outline(x: float, y: float, width: float, height: float) -> str:
    """Outline a cell around its middle, or the place of one that is too small to be seen."""
    width, height = max(width, _LEAST), max(height, _LEAST)
    box = f'x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="best" {box}/>'


def _ticks(count: int, cells: float) -> range:
    """Return every so many-th position, in round steps, so that a label has as many cells to itself."""
    step = next(tens * step for tens in (10**power for power in range(9)) for step in (1, 2, 5) if tens * step >= cells)
    return range(0, count, step)


def _plain(value: float, digits: int) -> str:
    """Write a number without a minus sign where it rounds to zero."""
    return number(round(float(value), digits) + 0.0, "ratio", digits)


def _short(name: str) -> str:
    return name if len(name) <= _MOST_LETTERS else name[: _MOST_LETTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _word(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{html.escape(text)}</text>'

"""A forecast drawn in letters for the terminal: the price so far, the path ahead, and its intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

import numpy as np
from rich.text import Text

from qtrade.report.forecast_outlook import Outlook, band, short_format
from qtrade.types import Float64Array, IntArray

LEAST_WIDTH = 40
"""Columns below which there is nothing to be seen."""
_MOST_WIDTH = 110
_HEIGHT = 14
_LEGEND = 33
_LABEL = 16
# Dots of a braille cell: bit of each by column and row; without braille a cell is one dot.
_BRAILLE = np.array([[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]])
_BANDS = ((95, "░", "."), (80, "▒", ":"))
_PAST, _AHEAD, _FAINT = "", "bold cyan", "dim"


def chart(outlook: Outlook, *, width: int, ascii_only: bool = False) -> list[Text]:
    """Draw the price up to the origin and what is expected after it.

    Parameters
    ----------
    width
        Columns of the terminal; above 110 the picture grows no more.
    ascii_only
        Use no letter beyond ASCII.

    Returns
    -------
    list of Text
        One per line, none longer than `width`. Empty where `width` is below `LEAST_WIDTH`, or a price is not finite.
    """
    if width < LEAST_WIDTH:
        return []
    past = outlook.recent.to_numpy(dtype=np.float64)
    ahead = outlook.fan("price").to_numpy(dtype=np.float64)
    bands = {
        level: np.stack([outlook.fan(name).to_numpy(dtype=np.float64) for name in band(level)]) for level, *_ in _BANDS
    }
    values = np.concatenate([past, ahead, *(one.ravel() for one in bands.values())])
    if not np.isfinite(values).all():
        return []
    low, high = float(values.min()), float(values.max())
    span = high - low or abs(high) or 1.0
    labels = _labels([high - span * (row / (_HEIGHT - 1)) for row in range(_HEIGHT)], outlook.decimals)
    margin = max(map(len, labels)) + 2
    columns = min(width, _MOST_WIDTH) - margin
    canvas = _Canvas(columns, low, span, len(past) + len(ahead) - 1, ascii_only)
    for level, shade, plain in _BANDS:
        canvas.fill(len(past) - 1, bands[level], plain if ascii_only else shade)
    canvas.line(0, past, _PAST, "*")
    canvas.line(len(past) - 1, ahead, _AHEAD, "o")
    origin = canvas.cell(len(past) - 1)
    lines = []
    for row, label in enumerate(labels):
        shown = label if row in (0, _HEIGHT // 2, _HEIGHT - 1) else ""
        edge = "|" if ascii_only else "│"
        lines.append(Text.assemble((f"{shown:>{margin - 2}} {edge}", _FAINT), canvas.row(row, origin)))
    return [*lines, _dates(outlook, margin, columns, origin), _legend(min(margin, width - _LEGEND), ascii_only)]


def _labels(prices: Sequence[float], decimals: int) -> list[str]:
    """Write prices with some decimals; where that takes too many letters, with as many digits and an exponent."""
    labels = [f"{price:,.{decimals}f}" for price in prices]
    if max(map(len, labels)) <= _LABEL:
        return labels
    largest = max(map(abs, prices))
    digits = decimals + 1 + math.floor(math.log10(largest)) if decimals > 2 else 4
    return [f"{price:.{min(max(digits, 4), 17)}g}" for price in prices]


class _Canvas:
    """Cells of letters, some of which are made of dots."""

    def __init__(self, columns: int, low: float, span: float, bars: int, ascii_only: bool) -> None:
        self._columns, self._low, self._span, self._bars = columns, low, span, bars
        self._wide, self._tall = (1, 1) if ascii_only else (2, 4)
        self._ascii = ascii_only
        self._dots = np.zeros((_HEIGHT, columns), dtype=np.int64)
        self._letters = np.full((_HEIGHT, columns), " ", dtype="<U1")
        self._styles = np.full((_HEIGHT, columns), _FAINT, dtype=object)

    def cell(self, bar: int) -> int:
        """Column of a bar."""
        return round(bar / (self._bars - 1) * (self._columns * self._wide - 1)) // self._wide

    def _heights(self, values: Float64Array, tall: int) -> IntArray:
        """Rows of some values, counted in dots from the top."""
        places = (1 - (values - self._low) / self._span) * (_HEIGHT * tall - 1)
        return np.clip(np.round(places), 0, _HEIGHT * tall - 1).astype(np.int64)

    def fill(self, first: int, ends: Float64Array, letter: str) -> None:
        """Shade the cells between two curves, (2, N) from bar `first` on."""
        for column in range(self.cell(first) + 1, self._columns):
            bar = column / (self._columns - 1) * (self._bars - 1) - first
            low, high = (float(np.interp(bar, np.arange(ends.shape[1]), one)) for one in ends)
            bottom, top = self._heights(np.array([low, high]), 1)
            self._letters[top : bottom + 1, column] = letter

    def line(self, first: int, values: Float64Array, style: str, letter: str) -> None:
        """Draw a curve through values from bar `first` on."""
        dots = self._columns * self._wide
        bars = np.arange(dots) / (dots - 1) * (self._bars - 1) - first
        inside = np.nonzero((bars >= 0) & (bars <= len(values) - 1))[0]
        rows = self._heights(np.interp(bars[inside], np.arange(len(values)), values), self._tall)
        for number, dot in enumerate(inside.tolist()):
            # Down or up to where the dot before is, so that a steep curve has no holes.
            start = int(rows[max(0, number - 1)])
            begin, end = sorted((int(rows[number]), start))
            for row in range(begin, end + 1):
                self._mark(row, dot, style, letter)

    def _mark(self, row: int, dot: int, style: str, letter: str) -> None:
        place = row // self._tall, dot // self._wide
        self._styles[place] = style
        if self._ascii:
            self._letters[place] = letter
            return
        self._dots[place] |= _BRAILLE[dot % self._wide, row % self._tall]
        self._letters[place] = chr(0x2800 + int(self._dots[place]))

    def row(self, number: int, origin: int) -> Text:
        """Return one line, with the origin marked where nothing else is."""
        letters, styles = self._letters[number].tolist(), self._styles[number].tolist()
        if letters[origin] == " ":
            letters[origin] = ":" if self._ascii else "┊"
        text = Text()
        for style, run in groupby(zip(styles, letters, strict=True), key=itemgetter(0)):
            text.append("".join(letter for _, letter in run), style=style)
        text.rstrip()
        return text


def _dates(outlook: Outlook, margin: int, columns: int, origin: int) -> Text:
    """Write the first stamp, the origin's and the last one below the picture, those that there is room for."""
    stamps = outlook.stamps
    short = short_format(stamps)
    first, middle, last = (f"{one:{short}}" for one in (stamps[0], outlook.origin, stamps[-1]))
    line = [" "] * columns
    centred = max(0, min(origin - len(middle) // 2, columns - len(middle)))
    taken = 0
    for start, text in ((0, first), (centred, middle), (columns - len(last), last)):
        if start >= taken:
            line[start : start + len(text)] = text
            taken = start + len(text) + 1
    return Text(" " * margin + "".join(line).rstrip(), style=_FAINT)


def _legend(margin: int, ascii_only: bool) -> Text:
    shades = {level: plain if ascii_only else shade for level, shade, plain in _BANDS}
    text = Text(" " * margin)
    text.append("forecast", style=_AHEAD)
    text.append(f"  {shades[80] * 2} 80%  {shades[95] * 2} 95% interval", style=_FAINT)
    return text

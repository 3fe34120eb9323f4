"""Forecasts as a picture: for each symbol the recent price, the path ahead, and a fan of intervals."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from qtrade.errors import UsageError
from qtrade.files import atomic_path
from qtrade.report.forecast_outlook import LEVELS, Outlook, band, short_format

FORMATS = (".png", ".svg")
_INK, _PATH = "#333333", "#1f5fa8"
_TICKS = 6
_DPI = 130


def check_picture(path: Path) -> None:
    """Raise `UsageError` unless a picture can have such a name."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"cannot draw '{path.name}'", fix=f"choose a name that ends in {' or '.join(FORMATS)}")


def draw_forecast(outlooks: Sequence[Outlook], path: Path, *, headline: str, line: str) -> None:
    """Draw forecasts of one origin as a PNG or an SVG, as the name of the file ends; a panel for each symbol.

    Bars stand side by side, whatever time lies between.

    Parameters
    ----------
    headline, line
        The verdict of the run, which stands above the picture.

    Raises
    ------
    UsageError
        If the file's name ends otherwise.
    """
    check_picture(path)
    columns = 1 if len(outlooks) == 1 else 2 if len(outlooks) <= 4 else 3
    lines = math.ceil(len(outlooks) / columns)
    wide, tall = (9.6, 4.6) if columns == 1 else (4.8 * columns, 3.1 * lines + 0.9)
    figure = Figure(figsize=(wide, tall), layout="constrained", facecolor="white")
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for number, (panel, outlook) in enumerate(zip(panels, outlooks, strict=False)):
        _draw(panel, outlook)
        if number == 0:
            panel.legend(loc="best", fontsize=8, framealpha=0.85)
    for panel in panels[len(outlooks) :]:
        panel.set_visible(False)
    told = textwrap.fill(f"{headline}: {line}", round(wide * 12.5))
    figure.suptitle(told, x=0.01, ha="left", fontsize=9, color=_INK, parse_math=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lower().removeprefix("."), dpi=_DPI)


def _draw(axes: Axes, outlook: Outlook) -> None:
    """Draw one symbol."""
    start = len(outlook.recent) - 1
    x = start + np.arange(len(outlook.ahead) + 1)
    for number, level in enumerate(reversed(LEVELS)):
        low, high = (outlook.fan(name) for name in band(level))
        axes.fill_between(
            x, low, high, color=_PATH, alpha=0.12 + 0.08 * number, linewidth=0, label=f"{level}% interval"
        )
    axes.plot(np.arange(start + 1), outlook.recent, color=_INK, linewidth=1.2, label="close")
    axes.plot(x, outlook.fan("price"), color=_PATH, linewidth=1.6, label="forecast")
    axes.axvline(start, color=_INK, linewidth=0.8, linestyle=":")
    stamps = outlook.stamps
    short = short_format(stamps)
    places = np.unique(np.linspace(0, len(stamps) - 1, min(_TICKS, len(stamps))).round().astype(int)).tolist()
    axes.set_xticks(places, [f"{stamps[place]:{short}}" for place in places], fontsize=8, rotation=20, ha="right")
    axes.tick_params(axis="y", labelsize=8)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.set_ylabel("adjusted price", fontsize=8)
    axes.set_title(f"{outlook.symbol} after {outlook.origin:{short}} UTC", loc="left", fontsize=10, parse_math=False)
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)

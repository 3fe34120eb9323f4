"""Bars as candlesticks above their volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from qtrade.files import atomic_path

RISE, FALL = "#2a7f62", "#b3423a"
_BODY = 0.36
_TICKS = 8


def candlesticks(path: Path, frame: pd.DataFrame, *, title: str) -> None:
    """Draw bars as a PNG.

    Parameters
    ----------
    frame
        Columns open, high, low, close and volume on a UTC index. Bars stand side by side, whatever time lies between.
    """
    place = np.arange(len(frame), dtype=np.float64)
    first, top, bottom, last, volume = (
        frame[name].to_numpy(dtype=np.float64) for name in ("open", "high", "low", "close", "volume")
    )
    colours = [RISE if end >= begin else FALL for begin, end in zip(first, last, strict=True)]
    figure = Figure(figsize=(10, 5.6), dpi=120, layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=[4, 1], hspace=0.04)
    prices = figure.add_subplot(grid[0])
    volumes = figure.add_subplot(grid[1], sharex=prices)
    wicks = [[(x, low), (x, high)] for x, low, high in zip(place, bottom, top, strict=True)]
    prices.add_collection(LineCollection(wicks, colors=colours, linewidths=0.9))
    # A bar that closes where it opened is still a stroke to be seen.
    least = 0.0015 * (np.nanmax(top) - np.nanmin(bottom))
    low, high = np.minimum(first, last), np.maximum(np.maximum(first, last), np.minimum(first, last) + least)
    bodies = [
        [(x - _BODY, begin), (x - _BODY, end), (x + _BODY, end), (x + _BODY, begin)]
        for x, begin, end in zip(place, low, high, strict=True)
    ]
    prices.add_collection(PolyCollection(bodies, facecolors=colours, edgecolors=colours, linewidths=0.5))
    prices.set_xlim(-1, len(frame))
    prices.autoscale_view(scalex=False)
    prices.set_title(title, loc="left", parse_math=False)
    prices.set_ylabel("price")
    prices.grid(axis="y", alpha=0.25)
    prices.tick_params(labelbottom=False)
    if volume.any():
        volumes.bar(place, volume, width=2 * _BODY, color=colours)
        volumes.yaxis.set_major_formatter(EngFormatter(sep=""))
    else:
        volumes.text(0.5, 0.5, "no volume reported", transform=volumes.transAxes, ha="center", va="center", alpha=0.6)
        volumes.set_yticks([])
    volumes.set_ylabel("volume")
    chosen = np.unique(np.linspace(0, len(frame) - 1, min(_TICKS, len(frame))).round().astype(int))
    stamps = pd.DatetimeIndex(frame.index)[chosen]
    daily = bool((pd.DatetimeIndex(frame.index).normalize() == frame.index).all())
    volumes.set_xticks(place[chosen], [f"{stamp:%Y-%m-%d}" if daily else f"{stamp:%m-%d %H:%M}" for stamp in stamps])
    volumes.set_xlabel("UTC")
    for axes in (prices, volumes):
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")

"""One trade of a backtest as a picture: the bars, what was forecast of them, the fills, and the levels in force."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure

from qtrade.errors import UsageError
from qtrade.files import atomic_path
from qtrade.report.explanation import Explanation, Forecast
from qtrade.report.explanation_lines import price, when
from qtrade.types import Float64Array

_PATH, _STOP, _TARGET, _INK = "#1f5fa8", "#b3423a", "#2a7f62", "#333333"
_RISE, _FALL = "#b9c9c3", "#a8a8a8"
_BODY = 0.34
_TICKS = 8
_TITLE_WIDTH = 110
_FORMATS = (".png", ".svg")


def draw_trade(explanation: Explanation, path: Path) -> None:
    """Draw a trade as a PNG or an SVG, as the name of the file ends.

    Bars stand side by side, whatever time lies between. A forecast that reaches beyond the last bar is drawn there.

    Raises
    ------
    UsageError
        If the file is to be something else, or its folder cannot be written to.
    """
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"{path.name} is neither a PNG nor an SVG", fix="let its name end in .png or .svg")
    figure = Figure(figsize=(10, 5.6), dpi=120, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    bars = explanation.bars
    _draw_bars(axes, bars)
    end = float(len(bars))
    if explanation.forecast is not None:
        end = max(end, _draw_forecast(axes, explanation.forecast, bars) + 1.0)
    _draw_decision(axes, explanation)
    _draw_levels(axes, explanation)
    _draw_fills(axes, explanation)
    axes.set_xlim(-1, end)
    axes.margins(y=0.06)
    _label(axes, explanation)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower())


def _draw_bars(axes: Axes, bars: pd.DataFrame) -> None:
    """Draw candles that are pale enough to leave the forecast in front."""
    first, top, bottom, last = (bars[name].to_numpy(dtype=np.float64) for name in ("open", "high", "low", "close"))
    colours = [_RISE if rises else _FALL for rises in last >= first]
    wicks = [[(x, low), (x, high)] for x, (low, high) in enumerate(zip(bottom, top, strict=True))]
    axes.add_collection(LineCollection(wicks, colors=colours, linewidths=1.0))
    # A bar that closes where it opened is still a stroke to be seen.
    least = 0.002 * (top.max() - bottom.min())
    low, high = np.minimum(first, last), np.maximum(np.maximum(first, last), np.minimum(first, last) + least)
    bodies = [
        [(x - _BODY, begin), (x - _BODY, end), (x + _BODY, end), (x + _BODY, begin)]
        for x, (begin, end) in enumerate(zip(low, high, strict=True))
    ]
    axes.add_collection(PolyCollection(bodies, facecolors=colours, edgecolors=colours, linewidths=0.5))


def _draw_forecast(axes: Axes, forecast: Forecast, bars: pd.DataFrame) -> float:
    """Draw the traded path, its interval and the seeds' paths; return where they end."""
    start = _place(bars, forecast.start)
    x = start + np.arange(len(forecast.mean.price) + 1.0)

    def from_start(prices: tuple[float, ...]) -> Float64Array:
        return np.array([forecast.start_price, *prices])

    if forecast.low_price is not None and forecast.high_price is not None:
        low, high = from_start(forecast.low_price), from_start(forecast.high_price)
        axes.fill_between(x, low, high, color=_PATH, alpha=0.12, linewidth=0, label="80% interval")
    if len(forecast.seeds) > 1:
        for number, seed in enumerate(forecast.seeds):
            label = "" if number else "path of each seed"
            axes.plot(x, from_start(seed.price), color=_PATH, alpha=0.45, linewidth=0.8, label=label)
    axes.plot(x, from_start(forecast.mean.price), color=_PATH, linewidth=2.0, label="forecast path")
    return float(x[-1])


def _draw_decision(axes: Axes, explanation: Explanation) -> None:
    """Mark the close at which the decision was made: everything to its right was not known."""
    decision = explanation.decision
    x = _place(explanation.bars, decision.stamp)
    axes.axvline(x, color=_INK, linewidth=0.8, linestyle=":", zorder=1)
    axes.plot([x], [decision.close_price], "o", color=_INK, markersize=5, label="close that decided", zorder=4)


def _draw_levels(axes: Axes, explanation: Explanation) -> None:
    """Draw stop and target for as long as the position was held."""
    levels, episode, bars = explanation.levels, explanation.episode, explanation.bars
    begin = explanation.decision.stamp if explanation.fill.units_after or _exits(explanation) else episode.opened
    x = [max(0, _place(bars, begin)), min(len(bars) - 1, _place(bars, episode.last))]
    for name, level, colour in (("stop", levels.stop_price, _STOP), ("target", levels.target_price, _TARGET)):
        if level is not None:
            axes.plot(x, [level, level], "--", color=colour, linewidth=1.2, label=f"{name} {price(level)}")


def _draw_fills(axes: Axes, explanation: Explanation) -> None:
    """Mark the fill, and where its position was opened and closed, if that is elsewhere in sight."""
    fill, episode, bars = explanation.fill, explanation.episode, explanation.bars
    shape, colour = ("^", _TARGET) if fill.units > 0 else ("v", _STOP)
    ends = [("position opened", episode.opened, episode.entry_price, "s")]
    if episode.closed is not None:
        ends.append(("position closed", episode.closed, episode.last_price, "X"))
    for label, stamp, at, marker in ends:
        if stamp != fill.stamp and stamp in bars.index:
            x = _place(bars, stamp)
            axes.plot([x], [at], marker, color=_INK, markersize=8, linestyle="", label=label, zorder=5)
    axes.plot(
        [_place(bars, fill.stamp)],
        [fill.price],
        shape,
        color=colour,
        markeredgecolor="white",
        markersize=12,
        label=f"{explanation.trade.side} at {price(fill.price)}",
        zorder=6,
    )


def _label(axes: Axes, explanation: Explanation) -> None:
    trade, fill, bars = explanation.trade, explanation.fill, explanation.bars
    title = f"Trade {trade.number}: {trade.side} {abs(fill.units):,.4g} {trade.symbol} on {when(fill.stamp)}"
    strategy = textwrap.fill(explanation.strategy, _TITLE_WIDTH)
    axes.set_title(f"{title} ({trade.reason})\n{strategy}", loc="left", fontsize=11, parse_math=False)
    axes.set_ylabel("price")
    axes.set_xlabel("UTC")
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    chosen = np.unique(np.linspace(0, len(bars) - 1, min(_TICKS, len(bars))).round().astype(int)).tolist()
    stamps = pd.DatetimeIndex(bars.index)
    short = "%Y-%m-%d" if (stamps == stamps.normalize()).all() else "%m-%d %H:%M"
    axes.set_xticks(chosen, [f"{stamps[place]:{short}}" for place in chosen])
    axes.legend(loc="best", fontsize=8, framealpha=0.85)


def _exits(explanation: Explanation) -> bool:
    return explanation.trade.reason in ("stop", "target")


def _place(bars: pd.DataFrame, stamp: pd.Timestamp) -> int:
    """Position of a bar in the picture; that of the end it lies beyond, if it is not in sight."""
    return int(bars.index.searchsorted(stamp))

"""Figures of a backtest: what costs and late fills leave of its Sharpe ratio. See `qtrade.report.figures`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import MaxNLocator

from qtrade.backtest.metrics import Z95
from qtrade.report.figures import EVENT, INK, MODEL, OTHER, PAPER, STYLE, single, to_svg
from qtrade.report.text import number
from qtrade.types import Float64Array


def cost(points: Sequence[Mapping[str, Any]], assumed: float, key: str) -> str | None:
    """Net Sharpe ratio by cost per fill, with its 95% interval and the assumed cost marked.

    Parameters
    ----------
    points
        Dicts of `qtrade.backtest.curves.CostPoint`; those without a Sharpe ratio are left out.
    assumed
        Fees and slippage of the account, in basis points; not marked beyond the last point.
    key
        Prefix of the SVG's ids, unique within the page.

    Returns
    -------
    str or None
        None with fewer than two points: there is no curve.
    """
    known = [one for one in points if one["sharpe"] is not None and one["sharpe_se"] is not None]
    if len(known) < 2:
        return None
    bps, sharpe, error = (_column(known, name) for name in ("bps", "sharpe", "sharpe_se"))
    with mpl.rc_context(STYLE):
        figure, axes = single(4.8, 3.1)
        axes.fill_between(bps, sharpe - Z95 * error, sharpe + Z95 * error, color=MODEL, alpha=0.18, linewidth=0)
        axes.axhline(0, color=INK, linewidth=1)
        axes.plot(bps, sharpe, color=MODEL, linewidth=1.8, marker="o", markersize=4.5)
        if assumed <= bps.max():
            axes.axvline(assumed, color=EVENT, linewidth=1.3, linestyle=(0, (4, 2)))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel("cost per fill, basis points of the money traded")
        spoken = "; ".join(f"{one['bps']:g} bp {_said(one['sharpe'])}" for one in known)
        return to_svg(figure, key, f"Net Sharpe ratio by cost per fill: {spoken}. {assumed:g} bp are assumed.")


def delay(points: Sequence[Mapping[str, Any]], configured: int, sharpe: float | None, key: str) -> str | None:
    """Net Sharpe ratio by delay of the fill, with the 95% interval of its difference to that of the configured delay.

    Parameters
    ----------
    points
        Dicts of `qtrade.backtest.curves.DelayPoint`; those without a Sharpe ratio are left out. A delay of 0, which
        nobody can trade, is drawn hollow.
    configured, sharpe
        The delay of the account and its Sharpe ratio, drawn as a line; None where undefined.
    key
        Prefix of the SVG's ids, unique within the page.

    Returns
    -------
    str or None
        None with fewer than two points: there is nothing to compare.
    """
    known = [one for one in points if one["sharpe"] is not None]
    if len(known) < 2:
        return None
    with mpl.rc_context(STYLE):
        figure, axes = single(4.8, 3.1)
        axes.axhline(0, color=INK, linewidth=1)
        if sharpe is not None:
            axes.axhline(sharpe, color=EVENT, linewidth=1.3, linestyle=(0, (4, 2)))
        for place, one in enumerate(known):
            colour = EVENT if one["delay"] == configured else OTHER if one["delay"] == 0 else MODEL
            inside = PAPER if one["delay"] == 0 else colour
            axes.errorbar(
                [place], [one["sharpe"]], yerr=_reach(one), color=colour, fmt="o", markersize=6.5,
                markerfacecolor=inside, markeredgewidth=1.6, elinewidth=1.8, capsize=0,
            )  # fmt: skip
        names = [f"{one['delay']}{chr(10) + 'not tradable' if one['delay'] == 0 else ''}" for one in known]
        axes.set_xticks(range(len(known)), names)
        axes.set_xlim(-0.6, len(known) - 0.4)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel("bars from the decision to the fill")
        spoken = "; ".join(
            f"{one['delay']} bars {_said(one['sharpe'])}{', which cannot be traded' if one['delay'] == 0 else ''}"
            for one in known
        )
        return to_svg(figure, key, f"Net Sharpe ratio by delay of the fill: {spoken}. Configured: {configured}.")


def _column(points: Sequence[Mapping[str, Any]], name: str) -> Float64Array:
    return np.array([one[name] for one in points], dtype=np.float64)


def _reach(point: Mapping[str, Any]) -> list[list[float]] | None:
    """Lengths of the interval below and above the point; None where it has none, as the configured delay."""
    bounds = [point[f"sharpe_difference{end}"] for end in ("_low95", "", "_high95")]
    if any(bound is None or not math.isfinite(bound) for bound in bounds):
        return None
    low, difference, high = bounds
    return [[difference - low], [high - difference]]


def _said(sharpe: float) -> str:
    return number(sharpe, "ratio")

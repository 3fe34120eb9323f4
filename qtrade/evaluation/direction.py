"""Calls of direction against luck, given how often the forecasts say "up" and how often prices rise.

A hit share alone says little: where 61 % of all labels are positive, always saying "up" is right 61 % of the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qtrade.evaluation.significance import ewc_test, mean_interval
from qtrade.types import Float64Array, IntArray


@dataclass(frozen=True)
class Direction:
    """Calls of direction against what luck would reach. Labels and forecasts of exactly zero are left out.

    Attributes
    ----------
    hits
        Share of calls with the right sign.
    called_up
        Share of calls that say "up".
    luck
        Share of hits to expect of calls that know nothing but are "up" equally often:
        p_y p_x + (1 - p_y)(1 - p_x), with p_y the share of rises and p_x that of "up" calls, of each symbol.
    common
        Share of hits of always calling each symbol's more common side, which was known only afterwards.
    edge, low, high
        Hits less luck, averaged over origins, with its 95 % interval by EWC. Equal to ``hits - luck`` where every
        origin has the same symbols.
    p
        Two-sided p-value of no edge, by EWC; 1 where the calls, or the moves, are all on one side.
    p_holm
        The same, adjusted for the number of horizons looked at; p until they are known.
    """

    hits: float
    called_up: float
    luck: float
    common: float
    edge: float
    low: float
    high: float
    p: float
    p_holm: float

    def to_dict(self) -> dict[str, float]:
        """Return plain values that JSON can hold; shares lie between 0 and 1, the edge between -0.5 and 0.5."""
        return {
            "direction_hit_share": self.hits,
            "direction_called_up_share": self.called_up,
            "direction_luck_share": self.luck,
            "direction_common_side_share": self.common,
            "direction_edge_share": self.edge,
            "direction_edge_low95_share": self.low,
            "direction_edge_high95_share": self.high,
            "direction_p": self.p,
            "direction_p_holm": self.p_holm,
        }


def direction(
    predicted: Float64Array, actual: Float64Array, time: IntArray, symbol: IntArray, *, least_origins: int = 2
) -> Direction | None:
    """Test whether the signs of forecasts and outcomes go together.

    The statistic is that of Pesaran & Timmermann (1992), twice the hits less luck, written as the mean of products of
    centred signs. Theirs takes outcomes for independent; here EWC tests the mean, because labels that overlap, and
    forecasts that persist, would make theirs reject far too often (compare Pesaran & Timmermann 2009).

    Parameters
    ----------
    predicted, actual
        (N,) finite forecasts and outcomes, one row per (symbol, origin).
    time, symbol
        (N,) codes of the origins, from 0 in time order, and of the symbols, from 0. Symbols are centred one by one and
        averaged at each origin, because they move together.
    least_origins
        Origins needed for a test, at least 2.

    Returns
    -------
    Direction or None
        None where fewer than `least_origins` origins have a call and a move.
    """
    directed = (predicted != 0) & (actual != 0)
    time, symbol = time[directed], symbol[directed]
    calls, moves = np.sign(predicted[directed]), np.sign(actual[directed])
    if len(np.unique(time)) < least_origins:
        return None
    rows = np.bincount(symbol)
    present = np.maximum(rows, 1)
    call_mean = np.bincount(symbol, weights=calls) / present
    move_mean = np.bincount(symbol, weights=moves) / present
    # Signs are +1 and -1, so half their covariance is a share of hits.
    products = at_each_origin((calls - call_mean[symbol]) * (moves - move_mean[symbol]) / 2, time)
    low, high = mean_interval(products)
    test = ewc_test(products)
    weights = rows / rows.sum()
    return Direction(
        hits=float(np.mean(calls == moves)),
        called_up=float(np.mean(calls > 0)),
        luck=float(weights @ (1 + call_mean * move_mean)) / 2,
        common=float(weights @ (1 + np.abs(move_mean))) / 2,
        edge=test.mean,
        low=low,
        high=high,
        p=test.p,
        p_holm=test.p,
    )


def at_each_origin(values: Float64Array, time: IntArray) -> Float64Array:
    """Average over the rows of each origin, in time order; NaN rows are left out, and origins of only such."""
    usable = np.isfinite(values)
    counts = np.bincount(time[usable])
    sums = np.bincount(time[usable], weights=values[usable])
    return np.asarray(sums[counts > 0] / counts[counts > 0], dtype=np.float64)

"""Which rows of a table of bars are defective: the arithmetic that finding and mending share."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtrade.data.raw import RawBars
from qtrade.types import PRICE_FIELDS, IntArray

ENCLOSING = 1e-6
"""Relative tolerance of `qtrade.types.Bars` for high and low to enclose open and close."""


def past(raw: RawBars, now: pd.Timestamp) -> pd.DataFrame:
    """Return the bars that are not in the future; a market that was made up has no present."""
    if raw.source == "synthetic":
        return raw.frame
    count = int(raw.frame.index.searchsorted(now, side="right"))
    return raw.frame if count == len(raw.frame) else raw.frame.iloc[:count]


def sound(raw: RawBars, now: pd.Timestamp) -> pd.DataFrame:
    """Return the bars that have their prices and are not in the future."""
    known = past(raw, now)
    return without(known, np.flatnonzero(unpriced(known)))


def unpriced(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell rows with a price that is missing, zero, negative or infinite."""
    bad = np.zeros(len(frame), dtype=np.bool_)
    for name in PRICE_FIELDS:
        price = frame[name].to_numpy()
        bad |= ~((price > 0) & (price < np.inf))
    return bad


def without(frame: pd.DataFrame, rows: IntArray) -> pd.DataFrame:
    """Leave out rows; their dividends and splits show in the price of the next one, so move there."""
    if len(rows) == 0:
        return frame
    keep = np.ones(len(frame), dtype=np.bool_)
    keep[rows] = False
    kept = frame[keep].copy()
    owner: IntArray = np.cumsum(keep) - keep  # position among the kept of the next one, or of the row itself
    splits = frame["splits"].to_numpy()
    ratio = np.ones(len(kept) + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply.at(ratio, owner, np.where(splits == 0, 1.0, splits))
    kept["dividends"] = np.bincount(owner, weights=frame["dividends"], minlength=len(kept) + 1)[: len(kept)]
    kept["splits"] = np.where(ratio == 1, 0.0, ratio)[: len(kept)]
    return kept


def crossed(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell rows whose high and low fail to enclose open and close, as in `Bars`."""
    opened, high, low, close = (frame[name].to_numpy() for name in PRICE_FIELDS)
    with np.errstate(over="ignore"):
        too_low = high < np.maximum(opened, close) * (1 - ENCLOSING)
        too_high = low > np.minimum(opened, close) * (1 + ENCLOSING)
    return np.asarray(too_low | too_high)


def bad_volume(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell rows whose volume is missing, negative or infinite."""
    volume = frame["volume"].to_numpy()
    return np.asarray(~((volume >= 0) & (volume < np.inf)))


def bad_dividends(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell rows with a dividend that `adjust` refuses; the first bar has no close before it."""
    dividends, close = frame["dividends"].to_numpy(), frame["close"].to_numpy()
    before = np.concatenate([[np.inf], close[:-1]])
    return np.asarray(~((dividends >= 0) & (dividends < before)))

"""Bars made up in place of those that are still to be fetched: as many, and of the same shape, worth nothing else."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from qtrade.calendars import ALWAYS, CURRENCIES, known_stamps, periods_per_year
from qtrade.config import RunConfig
from qtrade.data.plan import FetchPlan
from qtrade.data.raw import Feed
from qtrade.data.sources import make_source
from qtrade.errors import DataError
from qtrade.progress import Silent
from qtrade.types import BAR_FIELDS, Bars

STOCKS = "XNYS"
"""Calendar of a symbol that does not look like a currency or a crypto asset."""
YEARS = 20
"""History of a symbol that nobody was asked about."""


def made_up_bars(config: RunConfig, fetched: FetchPlan) -> tuple[Bars, list[str]]:
    """Make up the bars that a fetch may bring, and say what was assumed of them.

    Raises
    ------
    DataError
        If the calendar has no bar between the dates.
    """
    data = config.data
    source = make_source(data, Silent())
    earliest = source.earliest(data.interval) if isinstance(source, Feed) else None
    now = pd.Timestamp.now("UTC")
    first, stop = data.span
    notes = [f"no bars of {', '.join(one.symbol for one in fetched.symbols if not one.stored)} are stored"]
    if first is None:
        first = earliest if earliest is not None else now - pd.DateOffset(years=YEARS)
        notes.append(f"assumed: bars from {first:%Y-%m-%d} on")
    if earliest is not None:
        first = max(first, earliest)
    stored = [pd.Timestamp(one.first) for one in fetched.symbols if one.first is not None]
    first, last = max([first, *stored]), now if stop is None else min(now, stop - pd.Timedelta(1, "ns"))
    calendar = guess_calendar(data.symbols[0])
    notes.append(f"assumed: bars at the times of {calendar}")
    index = known_stamps(first, last, data.interval, calendar) if first < last else pd.DatetimeIndex([])
    if len(index) < 2:
        raise DataError(
            f"there are no {data.interval} bars from {first:%Y-%m-%d} to {last:%Y-%m-%d}",
            why=f"by the calendar {calendar}",
            fix="widen --start and --end",
        )
    yearly = periods_per_year(data.interval, calendar)
    generator = np.random.default_rng(0)
    shape = len(index), len(data.symbols)
    close = 100 * np.exp(generator.normal(0, 0.01, shape).cumsum(axis=0))
    spread = np.exp(np.abs(generator.normal(0, 0.005, shape)))
    volume = np.exp(generator.normal(13, 0.5, shape))
    before = np.vstack([close[:1], close[:-1]])
    high, low = np.maximum(before, close) * spread, np.minimum(before, close) / spread
    tables = {
        name: pd.DataFrame(values, index, columns=list(data.symbols))
        for name, values in zip(BAR_FIELDS, (before, high, low, close, volume), strict=True)
    }
    return Bars(**tables, interval=data.interval, calendar=calendar, periods_per_year=yearly), notes


def guess_calendar(symbol: str) -> str:
    """Guess when a symbol trades, by how it is spelled."""
    if symbol.endswith("=X"):
        return CURRENCIES
    return ALWAYS if re.search(r"-[A-Z]{3,4}$", symbol) else STOCKS

"""The embedded sample: two decades of daily index bars that come with the `arch` package, for use with no network."""

from __future__ import annotations

from importlib import import_module
from typing import ClassVar

import pandas as pd

from qtrade.data.raw import RAW_FIELDS, RawBars, between
from qtrade.errors import DataError, UsageError, nearest

DATASETS = {"^GSPC": "sp500", "^IXIC": "nasdaq"}


class Sample:
    """S&P 500 (``^GSPC``) and Nasdaq Composite (``^IXIC``), daily, 1999 to 2018."""

    name: ClassVar[str] = "sample"

    def fetch(self, symbol: str, *, interval: str, start: pd.Timestamp | None, end: pd.Timestamp | None) -> RawBars:
        """Read the bars from the installed package.

        Raises
        ------
        UsageError
            If `interval` is not ``1d``.
        DataError
            If the sample does not hold `symbol`, or no bar between the dates.
        """
        if symbol not in DATASETS:
            close = nearest(symbol, DATASETS)
            raise DataError(
                f"the sample has no symbol '{symbol}'",
                why=f"it holds {' and '.join(DATASETS)} alone",
                fix=f"{close} Others come with --source yahoo"
                if close.endswith("?")
                else "ask for one of these; others come with --source yahoo",
            )
        if interval != "1d":
            raise UsageError(f"the sample has daily bars, not '{interval}'", fix="leave out --interval")
        table: pd.DataFrame = import_module(f"arch.data.{DATASETS[symbol]}").load()
        frame = table.rename(columns=str.lower).assign(dividends=0.0, splits=0.0)[list(RAW_FIELDS)].astype(float)
        frame.index = pd.DatetimeIndex(frame.index).tz_localize("UTC").as_unit("ns").rename(None)
        return RawBars(symbol, self.name, interval, "XNYS", "America/New_York", between(frame, start, end))

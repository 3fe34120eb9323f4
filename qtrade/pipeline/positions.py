"""Positions of a saved backtest, each from the fill that opened it to the fill that closed it, as rows of a table."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd

from qtrade.errors import DataError
from qtrade.files import read_parquet
from qtrade.pipeline.episode import legs_of
from qtrade.types import Bars


def read_positions(folder: Path, bars: Bars, last: pd.Timestamp) -> pd.DataFrame | None:
    """Pair the fills in a backtest's folder; None where they cannot be read, or are none of these bars.

    See `positions_of`.
    """
    try:
        return positions_of(read_parquet(folder / "trades.parquet", fix=""), bars, last)
    except (DataError, KeyError, TypeError, ValueError, ArithmeticError):
        return None


def positions_of(trades: pd.DataFrame, bars: Bars, last: pd.Timestamp) -> pd.DataFrame:
    """Pair the fills of each symbol to positions; a fill that turns one over closes it and opens the next.

    Parameters
    ----------
    trades
        As `qtrade.types.BacktestResult.trades`.
    bars
        That were traded.
    last
        Bar at whose close the account ends. What is still held then is worth that close.

    Returns
    -------
    DataFrame
        One row per position, in the order of opening: ``symbol``, ``side`` (``long`` or ``short``), ``opened``,
        ``closed`` (NaT if it is still held), ``reason`` of the fill that closed it (empty if none did), ``held_bars``,
        ``fills``, ``net_money`` after fees and slippage but without the costs of holding, and ``net_return``, the same
        over the most money that the position held.
    """
    rows = []
    for symbol in dict.fromkeys(trades["symbol"].tolist()):
        for _, several in groupby(legs_of(trades, symbol), key=lambda leg: leg.position):
            own = list(several)
            first, final = own[0], own[-1]
            held = final.after != 0
            worth = final.after * float(bars.close[symbol].loc[last]) if held else 0.0
            net = worth - sum(leg.units * leg.unslipped + leg.slippage + leg.fees for leg in own)
            most = max(abs(leg.after * leg.unslipped) for leg in own)
            ends = bars.index.get_indexer(pd.DatetimeIndex([first.bar, last if held else final.bar]))
            rows.append(
                {
                    "symbol": symbol,
                    "side": "long" if first.after > 0 else "short",
                    "opened": first.bar,
                    "closed": pd.NaT if held else final.bar,
                    "reason": "" if held else final.reason,
                    "held_bars": int(np.diff(ends)[0]),
                    "fills": len(own),
                    "net_money": net,
                    "net_return": net / most,
                }
            )
    table = pd.DataFrame(rows, columns=[*COLUMNS])
    return table.sort_values(["opened", "symbol"], kind="stable", ignore_index=True)


COLUMNS = ("symbol", "side", "opened", "closed", "reason", "held_bars", "fills", "net_money", "net_return")
"""Columns of `positions_of`."""

"""What the columns of a table of bars are called, in any case and in common spellings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from qtrade.errors import DataError, nearest

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "time": (
        *("timestamp", "datetime", "opentime", "date", "time", "ts", "dt", "day", "index", "unnamed0"),
        *("startdate", "starttime", "tradedate", "tradingday", "period", "month", "week"),
    ),
    "clock": (),
    "symbol": ("symbol", "ticker", "asset", "instrument", "pair", "code", "name"),
    "open": ("open", "o", "openprice", "first", "px_open"),
    "high": ("high", "h", "highprice", "max", "px_high"),
    "low": ("low", "l", "lowprice", "min", "px_low"),
    "close": ("close", "c", "closeprice", "last", "lastprice", "price", "value", "settle", "px_last"),
    "volume": ("volume", "v", "vol", "totalvolume", "basevolume", "tickvolume", "tickvol", "quantity"),
    "adj_close": ("adjclose", "adjustedclose", "closeadj", "closeadjusted", "adjcloseprice"),
    "dividends": ("dividends", "dividend", "div", "divcash", "dividendamount"),
    "splits": ("stocksplits", "stocksplit", "splits", "split", "splitfactor", "splitcoefficient"),
}
"""Ours, and what others say: without case, blanks and signs; what stands earlier is taken first. The clock is the time
of day where the time is only a date."""


def recognise(names: Sequence[str], given: Mapping[str, str], where: str) -> dict[str, str]:
    """Find each of our columns among the names of a table.

    Parameters
    ----------
    given
        What the user says: ours to theirs. It wins, and is taken to the letter.
    where
        Name of the table, for messages.

    Raises
    ------
    DataError
        If a column that was given is not there, or no column of times or closes can be found.
    """
    for ours, theirs in given.items():
        if theirs not in names:
            raise DataError(
                f"{where} has no column '{theirs}', which is to be '{ours}'",
                why=f"its columns are {_listed(names)}",
                fix=f"{nearest(theirs, names)}; --columns takes ours=theirs,..." if names else "choose another file",
            )
    plain = {_plain(name): name for name in reversed(names) if name not in given.values()}
    found = dict(given)
    for ours, spellings in SPELLINGS.items():
        if ours not in found:
            free = [plain[word] for word in map(_plain, spellings) if word in plain]
            if free:
                found[ours] = free[0]
    if _plain(found.get("time", "")) == "date" and "time" in plain and "clock" not in found:
        found["clock"] = plain["time"]
    if "close" not in found and "adj_close" in found:
        found["close"] = found.pop("adj_close")
    for ours, what in (("time", "times"), ("close", "closes")):
        if ours not in found:
            raise DataError(
                f"{where} has no column of {what} that is recognised",
                why=f"its columns are {_listed(names)}",
                fix=f"name it: --columns {ours}=...",
            )
    some = [name for name in ("open", "high", "low") if name in found]
    if some and len(some) < 3:
        missing = next(name for name in ("open", "high", "low") if name not in found)
        raise DataError(
            f"{where} has no column '{missing}', but it has {' and '.join(some)}",
            why=f"its columns are {_listed(names)}",
            fix=f"name it: --columns {missing}=...",
        )
    return found


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown or "none"

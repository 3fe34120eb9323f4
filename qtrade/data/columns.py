"""What the columns of a table of bars are called, in any case and in common spellings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from qtrade.errors import DataError, nearest

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "time": (
        "unix", "unixtime", "epoch", "datetime", "timestamp", "opentime", "date", "time", "gmttime", "localtime",
        "tradedate", "datum", "day", "ts", "dt", "t", "", "unnamed0", "index",
    ),
    "symbol": (
        "symbol", "ticker", "asset", "sym", "tic", "instrument", "security", "pair", "uniqueid", "isin", "code", "name",
    ),
    "open": ("open", "o", "openprice", "openingprice", "first"),
    "high": ("high", "h", "highprice", "highest", "max"),
    "low": ("low", "l", "lowprice", "lowest", "min"),
    "close": ("close", "c", "closeprice", "closingprice", "last", "lastprice", "settle", "price"),
    "volume": ("volume", "vol", "v", "tickvolume", "tickvol"),
    "dividends": ("dividends", "dividend", "div", "divcash", "exdividend", "dividendamount", "cashdividend"),
    "splits": ("stocksplits", "stocksplit", "splits", "split", "splitratio", "splitfactor", "splitcoefficient"),
    "adj_close": ("adjclose", "adjustedclose", "adjcloseprice", "adjustedcloseprice", "closeadj", "closeadjusted"),
}  # fmt: skip
"""What each column may be called, the likeliest first: in small letters, without blanks, signs and a leading number."""

_DATES, _CLOCKS = ("date", "day", "datum"), ("time", "clock", "uhrzeit")


def recognise(names: Sequence[str], wanted: Mapping[str, str], file: str) -> dict[str, int]:
    """Find the columns of a table.

    Parameters
    ----------
    names
        Its names for them.
    wanted
        Names for some of ours, as said by the user; an empty one means that the column is not to be read.
    file
        What the table is called in messages.

    Returns
    -------
    dict
        Positions by our names; ``clock`` is a second column of the time, beside one of dates.

    Raises
    ------
    DataError
        If there is no time or no close, or two columns may be the same.
    """
    found = {ours: _named(ours, theirs, names, file) for ours, theirs in wanted.items() if theirs}
    keys = [_key(name) for name in names]
    # Only the first column may do without a name.
    free = [
        key if position not in found.values() and (key or position == 0) else None for position, key in enumerate(keys)
    ]
    for ours, spellings in SPELLINGS.items():
        spelling = next((one for one in spellings if one in free), None)
        if ours not in wanted and spelling is not None:
            found[ours] = _only(ours, [position for position, key in enumerate(free) if key == spelling], names, file)
    if "time" in found and "time" not in wanted and keys[found["time"]] in _DATES:
        clocks = [position for position, key in enumerate(free) if key in _CLOCKS]
        if clocks:
            found["clock"] = _only("time", clocks, names, file)
    if "time" not in found:
        raise _no_column("time", "times", names, file)
    if "close" not in found and "adj_close" not in found:
        raise _no_column("close", "closing prices", names, file)
    return found


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", re.sub(r"^\s*\d+\W", "", name.casefold()))


def _named(ours: str, theirs: str, names: Sequence[str], file: str) -> int:
    same = [position for position, name in enumerate(names) if name.strip() == theirs.strip()]
    same = same or [position for position, name in enumerate(names) if name.strip().casefold() == theirs.casefold()]
    if not same:
        raise DataError(f"{file} has no column '{theirs}' for '{ours}'", fix=nearest(theirs, names))
    return _only(ours, same, names, file)


def _only(ours: str, positions: Sequence[int], names: Sequence[str], file: str) -> int:
    if len(positions) == 1:
        return positions[0]
    several = [names[position] for position in positions]
    fix = f"name the right one, as --columns {ours}='{several[0]}'" if len(set(several)) > 1 else "rename one of them"
    raise DataError(
        f"{file} has several columns that may be '{ours}': {', '.join(f'{name[:40]!r}' for name in several[:5])}",
        fix=f"{fix}; or do without: --columns {ours}=" if ours not in ("time", "close") else fix,
    )


def _no_column(ours: str, meaning: str, names: Sequence[str], file: str) -> DataError:
    listed = ", ".join(f"{name[:40]!r}" for name in names[:15]) + (", ..." if len(names) > 15 else "")
    if any(re.fullmatch(r"\s*-?\d+([.,]\d+)?\s*", name) for name in names):
        return DataError(
            f"{file} has no column of {meaning}",
            why=f"its first line should name the columns, and reads {listed}",
            fix="write a line such as time,open,high,low,close,volume above it",
        )
    return DataError(
        f"{file} has no column of {meaning} that could be recognised",
        why=f"its columns are {listed}",
        fix=f"name it: --columns {ours}=...; if these are several columns in one, --set data.file.delimiter=...",
    )

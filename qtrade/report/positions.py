"""Positions in the report: how many a strategy held, what they gained, and the best, the worst and the last of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from qtrade.report.text import Cell, Table, Tone, number, stamp

SHOWN = 5
"""Positions of each kind that are listed."""


def positions(table: pd.DataFrame) -> dict[str, Any] | None:
    """Summarise the rows of `qtrade.pipeline.positions.positions_of`; None without any.

    Returns
    -------
    dict or None
        ``summary``, a table, and ``listed``, tables of the best, the worst and the last positions; all of them in one
        table where there are no more than would be shown anyway.
    """
    if table.empty:
        return None
    closed = table[table["closed"].notna()]
    gained = closed["net_return"] > 0
    sides = table["side"].value_counts()
    split = ", ".join(f"{number(sides[side], 'count')} {side}" for side in ("long", "short") if side in sides)
    still = len(table) - len(closed)
    summary = (
        ("Positions", number(len(table), "count"), f"{split}; {still} still held" if still else split),
        ("Positions that gained", number(_mean(gained), "percent", 1), f"of {number(len(closed), 'count')} closed"),
        ("Typical gain", number(_median(closed["net_return"]), "signed_percent", 2), "after fees and slippage"),
        ("Typical holding time", number(_median(closed["held_bars"]), "count"), "bars from opening to closing"),
    )
    ranked = closed.sort_values("net_return", kind="stable")
    kinds = [
        ("The best positions", ranked[::-1][:SHOWN]),
        ("The worst positions", ranked[:SHOWN]),
        ("The last positions", table[-SHOWN:][::-1]),
    ]
    if len(table) <= 3 * SHOWN:
        kinds = [("All positions", table)]
    return {
        "summary": Table(
            "Positions, from the fill that opens to the fill that closes",
            ("Measure", "Found"),
            tuple((Cell(name), Cell(value, note)) for name, value, note in summary),
            row_terms=True,
        ),
        "listed": [_listed(caption, rows) for caption, rows in kinds if len(rows)],
    }


def _listed(caption: str, rows: pd.DataFrame) -> Table:
    return Table(
        f"{caption}, after fees and slippage",
        ("Position", "Opened", "Closed", "Held for", "Net gain", "Money", "Fills", "Closed by"),
        tuple(map(_row, rows.to_dict("records"))),
    )


def _row(one: dict[Any, Any]) -> tuple[Cell, ...]:
    held = pd.isna(one["closed"])
    gain = one["net_return"]
    tone: Tone = "good" if gain > 0 else "bad" if gain < 0 else ""
    return (
        Cell(str(one["symbol"]), str(one["side"])),
        Cell(stamp(one["opened"])),
        Cell("still held" if held else stamp(one["closed"])),
        Cell(f"{number(one['held_bars'], 'count')} {'bar' if one['held_bars'] == 1 else 'bars'}"),
        Cell(number(gain, "signed_percent", 2), "", tone),
        Cell(number(one["net_money"], "money")),
        Cell(number(one["fills"], "count")),
        Cell("nothing yet" if held else str(one["reason"])),
    )


def _mean(values: pd.Series) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _median(values: pd.Series) -> float:
    return float(np.median(values.to_numpy(dtype=np.float64))) if len(values) else float("nan")

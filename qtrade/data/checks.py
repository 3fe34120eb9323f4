"""What may be wrong with bars: the table of checks, and what accepting an error does."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from qtrade.data.raw import Finding, Severity
from qtrade.errors import UsageError, nearest
from qtrade.types import IntArray


@dataclass(frozen=True)
class Check:
    """One thing that may be wrong with bars.

    Attributes
    ----------
    name, severity
        How findings call it, and how bad it is as a rule.
    looks_for
        What it finds, in a sentence.
    accepting
        What accepting it does, in a sentence; empty unless it is an error.
    """

    name: str
    severity: Severity
    looks_for: str
    accepting: str = ""


CHECKS: tuple[Check, ...] = (
    Check("constant", "error", "The close never changes.", "The bars stay as they are."),
    Check(
        "dividends", "error",
        "A dividend is missing, negative, or not below the close of the bar before.",
        "That dividend is ignored.",
    ),
    Check(
        "duplicates", "error",
        "A stamp comes more than once; told by the source, as a warning where the rows agree.",
        "The later row is kept.",
    ),
    Check("future", "error", "A stamp lies in the future.", "Those bars are left out."),
    Check("ohlc", "error", "High and low do not enclose open and close.", "High and low are widened to enclose them."),
    Check(
        "price", "error",
        "A price is missing, zero, negative or infinite.",
        "Those bars are left out; their dividends and splits move to the next bar.",
    ),
    Check(
        "split", "error",
        "A jump looks like a split that the prices are not adjusted for: it is close to a usual ratio and far outside "
        "usual moves, there at the open, alone and lasting, nobody traded far more than before, and no dividend "
        "explains it; or a split is stated there, and the jump is of its size; or a stated ratio is not positive.",
        "The prices stay as they are.",
    ),
    Check("volume", "error", "The volume is missing, negative or infinite.", "It is set to zero."),
    Check("gaps", "warning", "Bars are missing that the calendar has between the first and the last one."),
    Check("history_dropped", "warning", "Older bars do not fit what the vendor rewrote; told by an update."),
    Check("leak", "warning", "A synthetic market shows its future on purpose; told by the source."),
    Check("missing_price", "warning", "Bars without a price were left out; told by the source."),
    Check("missing_volume", "warning", "Bars without a volume were given none; told by the source."),
    Check("off_calendar", "warning", "There are bars where the calendar has none."),
    Check("outliers", "warning", "A move of ten times the usual ones around it is undone by the next bar."),
    Check("stale", "warning", "Bars repeat the prices of the one before, three or more (intraday: five, and an hour)."),
    Check("unordered", "warning", "Rows were not in order and were sorted; told by the source."),
    Check("unverified_join", "warning", "Stored and new bars share none to compare; told by an update."),
    Check("adjusted_close", "info", "The only close is an adjusted one; told by the source."),
    Check("calendar", "info", "The calendar was found out from the bars; told by the source."),
    Check("close_only", "info", "There are no open, high and low, and the close stands for them; told by the source."),
    Check("no_volume", "info", "The volume is zero throughout."),
    Check("zero_volume", "info", "The volume is zero on some bars; a warning on more than a fifth of them."),
)  # fmt: skip
"""All checks, ordered by severity, then name. Those of the source cannot be repeated on what it delivered."""

ERRORS = tuple(check.name for check in CHECKS if check.severity == "error")


def check_names(names: Collection[str]) -> tuple[str, ...]:
    """Return names of errors to accept.

    Raises
    ------
    UsageError
        If one is unknown, or no error.
    """
    for name in names:
        if any(check.name == name for check in CHECKS if check.severity != "error"):
            raise UsageError(f"'{name}' stops no run and need not be accepted", fix=f"leave out '{name}'")
        if name not in ERRORS:
            raise UsageError(f"no check finds errors named '{name}'", fix=nearest(name, ERRORS))
    return tuple(names)


def make_finding(name: str, index: pd.Index, rows: IntArray, example: str) -> Finding:
    """Tell of rows of `index` what the check of that name found; `example` is about the first of them."""
    severity = next(check.severity for check in CHECKS if check.name == name)
    return Finding(name, severity, len(rows), str(index[rows[0]]), str(index[rows[-1]]), example)


def count_bars(count: int) -> str:
    """Write a number of bars in words."""
    return f"{count} bar{'' if count == 1 else 's'}"

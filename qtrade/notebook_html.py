"""Values as small pieces of HTML for notebooks: escaped, in the colours of the page, and with nothing from outside."""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape

UNKNOWN = "\N{EN DASH}"
MOST_ROWS = 40
"""Rows of a table that are worth showing where there may be hundreds."""
# Text and lines have the colour of the notebook's text, and headlines one that shows on white and on black.
_TABLE = "border-collapse:collapse;margin:0.3em 0;font-variant-numeric:tabular-nums"
_CELL = "padding:0.15em 0.7em;border-bottom:1px solid color-mix(in srgb,currentColor 25%,transparent)"
_SIDES = {False: "left", True: "right"}
_TONES = {
    "PASS": "#2f9168",
    "WARN": "#b07a00",
    "INCONCLUSIVE": "#75879a",
    "FAIL": "#cf4a40",
    "INVALID": "#cf4a40",
}


def piece(*parts: str) -> str:
    """Put pieces of HTML below one another."""
    return f"<div>{''.join(parts)}</div>"


def heading(text: str) -> str:
    """Write a bold line."""
    return f'<p style="margin:0.3em 0"><strong>{escape(text)}</strong></p>'


def paragraph(text: str) -> str:
    """Write a line of text."""
    return f'<p style="margin:0.3em 0">{escape(text)}</p>'


def verdict(headline: str, line: str) -> str:
    """Write a headline such as FAIL in its colour, and the sentence that explains it below."""
    colour = _TONES.get(headline, "currentColor")
    shown = f'<strong style="color:{colour};font-size:1.2em">{escape(headline)}</strong>'
    return f'<p style="margin:0.3em 0">{shown}<br>{escape(line)}</p>'


def verbatim(text: str) -> str:
    """Keep lines and spaces as they are."""
    return f'<pre style="margin:0.3em 0;white-space:pre-wrap">{escape(text)}</pre>'


def picture(png: bytes, alt: str) -> str:
    """Show a PNG, which becomes part of the page."""
    source = f"data:image/png;base64,{b64encode(png).decode()}"
    return f'<img src="{source}" alt="{escape(alt)}" style="max-width:100%;height:auto">'


def facts(values: Mapping[str, object]) -> str:
    """Write names and values in two columns."""
    return _table("", [(name, value) for name, value in values.items()], (False, False))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, of: int = 0) -> str:
    """Write a table. Numbers stand on the right; None and NaN are unknown.

    Parameters
    ----------
    columns
        Titles.
    rows
        One value per column each.
    of
        How many rows there would be; where they are more than are given, a line says so.
    """
    rows = [tuple(row) for row in rows]
    right = [bool(rows) and all(_is_number(row[place]) for row in rows) for place in range(len(columns))]
    head = "".join(
        f'<th scope="col" style="{_CELL};text-align:{_SIDES[side]}">{escape(title)}</th>'
        for title, side in zip(columns, right, strict=True)
    )
    more = paragraph(f"and {of - len(rows):,} more") if of > len(rows) else ""
    return _table(f"<thead><tr>{head}</tr></thead>", rows, right) + more


def as_text(value: object) -> str:
    """Write a value: whole numbers with separators, others with four digits, and what is unknown as a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(str, value))
    return str(value)


def ratio(value: float | None) -> str:
    """Write a ratio or a probability with two decimals."""
    return UNKNOWN if value is None or math.isnan(value) else f"{value:.2f}"


def share(value: float | None) -> str:
    """Write a share of one as a percentage."""
    return UNKNOWN if value is None or math.isnan(value) else f"{value:.2%}"


def _table(head: str, rows: Iterable[Sequence[object]], right: Sequence[bool]) -> str:
    body = "".join(
        "<tr>"
        + "".join(
            f'<td style="{_CELL};text-align:{_SIDES[side]}">{escape(as_text(value))}</td>'
            for value, side in zip(row, right, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return f'<table style="{_TABLE}">{head}<tbody>{body}</tbody></table>'


def _is_number(value: object) -> bool:
    """Whether a value is a number, perhaps written out, or an unknown one."""
    if isinstance(value, str):
        return value == UNKNOWN or re.fullmatch(r"[+-]?[\d,]+(\.\d+)?%?", value) is not None
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))

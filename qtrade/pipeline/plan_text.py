"""How a plan is written: rows of a title and a text, and rough numbers with their units."""

from __future__ import annotations

from collections.abc import Sequence

LOADED = "that is with nothing else to do: other work on the machine makes it longer, twice as long or more"
"""What every estimate of time must say."""


def row(title: str, text: str) -> str:
    """Write one row."""
    return f"{title:<10}  {text}"


def rows(title: str, texts: Sequence[str]) -> list[str]:
    """Write several texts below one title; none if there are none."""
    return [row("" if number else title, text) for number, text in enumerate(texts)]


def duration(seconds: float) -> str:
    """Write a time with at most two digits that count, which is more than an estimate knows."""
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            number = seconds / length
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: int) -> str:
    """Write a number of bytes."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"

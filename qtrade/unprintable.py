"""Characters that a terminal obeys and nobody sees, in names and texts from outside: made visible, and so harmless."""

from __future__ import annotations

import re

# Controls but for tab and line feed, and the marks that turn the direction of what follows.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Put a replacement character in the place of each character that is an order and not a letter."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)

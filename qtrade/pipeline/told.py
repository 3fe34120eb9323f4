"""What a saved backtest says of itself, read with the suspicion that a file deserves which anybody can edit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qtrade.errors import DataError
from qtrade.files import read_json

_KINDS: Mapping[str, type] = {
    "strategy": str,
    "spec": str,
    "params": dict,
    "source": str,
    "account": dict,
    "metrics": dict,
    "buy_and_hold": dict,
}


def read_told(path: Path) -> dict[str, Any]:
    """Read the ``metrics.json`` of a backtest.

    Raises
    ------
    DataError
        If it cannot be read, or what identifies and measures the backtest is missing or of the wrong type.
    """
    fix = "make the backtest again"
    told = read_json(path, fix=fix)
    known = told if isinstance(told, dict) else {}
    wrong = [name for name, kind in _KINDS.items() if not isinstance(known.get(name), kind)]
    if not wrong:
        wrong = [name for name in ("metrics", "buy_and_hold") if not all(map(_is_number, known[name].values()))]
    if wrong:
        raise DataError(f"{path} does not hold {', '.join(wrong)} as a backtest writes them", fix=fix)
    return known


def _is_number(value: object) -> bool:
    """Whether a measured value is one: a finite number, or None where it is undefined."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))

"""Numbers as JSON holds them: plain floats, and None for what is not known, or beyond all bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def plain(value: float | None) -> float | None:
    """Return a plain float; None for NaN, infinity and None."""
    return float(value) if value is not None and math.isfinite(value) else None


def plain_nested(values: Any) -> Any:
    """Do the same to every number of an array, as nested lists."""
    return [plain_nested(one) for one in values] if np.ndim(values) else plain(values)

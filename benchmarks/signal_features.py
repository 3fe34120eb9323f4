"""What shows the signal of a synthetic market, and what shows its nuisance."""

from typing import Any

import numpy as np

from qtrade.types import Bars


def features(bars: Bars) -> dict[str, Any]:
    """Log volume, which is the signal; and the log of the log range, which the nuisance moves."""
    return {"log_volume": np.log(bars.volume / 1e6), "log_range": np.log(np.log(bars.high / bars.low))}

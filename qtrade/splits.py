"""Walk-forward folds, and the only place that purges.

Bars are positions 0 .. N-1. An origin t reads bars ``t-L+1 .. t`` and its label covers bars ``t+1+d .. t+H+d``, so the
label is known at bar ``t+H+d``. Fold k is made at its as-of bar ``tau_k``: everything that builds its model is known at
that bar's close, and its test origins start there. See López de Prado, *Advances in Financial Machine Learning*
(2018), ch. 7, for purging; here it is one-sided, because nothing is ever trained on what follows a test block.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qtrade.errors import DataError, UsageError
from qtrade.settings import Settings
from qtrade.types import Fold


class SplitConfig(Settings):
    """How origins are divided into training, validation and test."""

    mode: Literal["expanding", "rolling"] = "expanding"
    """`expanding` trains on all history before the as-of bar, `rolling` on the last `train_size` origins."""
    train_size: int = Field(default=1500, ge=2)
    """Origins in the first training window (rolling: in every one), its validation tail included."""
    valid_size: int = Field(default=240, ge=1)
    """Origins in the validation tail; ten horizons give early stopping ten independent labels to judge by."""
    step: int = Field(default=252, ge=1)
    """Test origins per fold: the model is trained anew every `step` bars."""
    delay: int = Field(default=0, ge=0)
    """Bars between the origin's close and the start of its label: 0 forecasts from the close of t."""


def walk_forward(
    bars: int, warmup: int, seq_len: int, horizon: int, config: SplitConfig | None = None
) -> tuple[Fold, ...]:
    """Divide the origins of a series into walk-forward folds.

    Every admissible origin from the first as-of bar on is tested exactly once, in order.

    Parameters
    ----------
    bars
        Number of bars N.
    warmup
        Leading rows whose features are not usable.
    seq_len, horizon
        Bars read (L) and bars predicted (H).
    config
        Sizes and mode; defaults to `SplitConfig()`.

    Returns
    -------
    tuple of Fold
        At least one fold.

    Raises
    ------
    UsageError
        If the training window has no room for fitting origins beside validation and purge.
    DataError
        If there are too few bars for one test origin.
    """
    config = config or SplitConfig()
    reach = horizon + config.delay  # bars from an origin to the end of its label
    if config.train_size <= config.valid_size + reach - 1:
        raise UsageError(
            f"train_size {config.train_size} leaves no origin to fit on",
            why=f"validation takes {config.valid_size} origins and the purge between them {reach - 1}",
            fix=f"set split.train_size above {config.valid_size + reach - 1}, or a smaller split.valid_size",
        )
    first = warmup + seq_len - 1
    last = bars - 1 - reach
    as_of = first + config.train_size - 1 + reach
    if as_of > last:
        raise DataError(
            f"{bars} bars are too few: the first forecast needs {as_of + reach + 1}",
            why=f"{warmup} bars of feature warm-up, {seq_len} of input, {config.train_size} training origins "
            f"and {reach} bars of label, twice",
            fix="fetch more history, or set a smaller split.train_size or window.seq_len",
        )
    folds = []
    for number, tau in enumerate(range(as_of, last + 1, config.step)):
        train_stop = tau - reach + 1
        train_start = first if config.mode == "expanding" else train_stop - config.train_size
        valid_start = train_stop - config.valid_size
        folds.append(
            Fold(
                number=number,
                fit=range(train_start, valid_start - reach + 1),
                valid=range(valid_start, train_stop),
                test=range(tau, min(tau + config.step, last + 1)),
                horizon=horizon,
                delay=config.delay,
            )
        )
    return tuple(folds)

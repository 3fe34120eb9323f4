"""How fast this machine fits a model, and what memory it takes: a few real steps on the real windows, timed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qtrade.config import RunConfig
from qtrade.models.device import choose_device, set_threads
from qtrade.models.neural import InformerModel
from qtrade.pipeline.fitting import begin_fold
from qtrade.pipeline.market import Market
from qtrade.progress import Silent
from qtrade.types import Fold
from qtrade.windows import Rows

TIMED_SECONDS = 1.0
"""How long optimiser steps are timed, about; a single one may take longer."""

_FEW_STEPS, _MOST_STEPS = 3, 200
_FIT_WINDOWS, _VALID_WINDOWS = 4_000, 1_000
"""Windows that a baseline is timed on at most."""


@dataclass(frozen=True)
class Speed:
    """What a model takes on this machine, as measured on one fold.

    Attributes
    ----------
    scaling_seconds
        Scaling the market's features, once for each fit.
    batch, step_seconds
        Windows fitted at once, and how long that takes; for a baseline, which is fitted in one step, one window.
    predict_seconds
        One window's prediction.
    steps
        Optimiser steps that were timed; 0 for a baseline.
    weight_bytes
        Size of a network's weights in memory and on disk.
    """

    model: str
    scaling_seconds: float
    batch: int
    step_seconds: float
    predict_seconds: float
    steps: int
    weight_bytes: int

    def seconds(self, fold: Fold, symbols: int, epochs: int) -> float:
        """Time to fit on a fold, validating after every epoch, and to forecast from its validation and test origins."""
        fit, valid, test = (len(part) * symbols for part in (fold.fit, fold.valid, fold.test))
        passes = epochs if self.steps else 1
        epoch = -(-fit // self.batch) * self.step_seconds + valid * self.predict_seconds
        return self.scaling_seconds + passes * epoch + (valid + test) * self.predict_seconds


def measure(market: Market, config: RunConfig, name: str, fold: Fold) -> Speed:
    """Fit a model on a little of a fold, and ask it; nothing is kept.

    Threads and device are those of training. The time of an optimiser step is the difference between many steps and
    one, over the number of steps between, so that what is done once for a fit does not count. One thread on a CPU is
    timed by what it computes, so that other work on the machine does not count, either.
    """
    timed = _clock(config)
    once = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1})})
    before = set_threads(config.train.threads)
    try:
        started = timed()
        begun, known = begin_fold(market, once, fold, name)
        scaling = timed() - started
        fit, valid = known.rows(fold.fit), known.rows(fold.valid)
        model = begun.model

        def fitting(rows: Rows, checked: Rows) -> float:
            started = timed()
            model.fit(known, rows, checked, seed=0, progress=Silent())
            return timed() - started

        if isinstance(model, InformerModel):
            batch = min(config.train.batch_size, len(fit))
            step, steps = _step_seconds(lambda many: fitting(_first(fit, many * batch), _first(valid, 1)))
            at_once = model.network.predicted_at_once
            weights = sum(value.numel() * value.element_size() for value in model.network.state_dict().values())
        else:
            rows = _first(fit, min(len(fit), _FIT_WINDOWS))
            batch, steps, at_once, weights = 1, 0, min(len(valid), _VALID_WINDOWS), 0
            step = fitting(rows, _first(valid, at_once)) / len(rows)
        asked = _first(valid, at_once)
        model.predict(known, asked)
        started = timed()
        model.predict(known, asked)
        predicting = timed() - started
    finally:
        set_threads(before)
    return Speed(name, scaling, batch, step, predicting / at_once, steps, weights)


def peak_bytes() -> int:
    """Most memory that this process has held so far; 0 where the system does not say."""
    try:
        import resource  # not on Windows
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _step_seconds(train: Callable[[int], float]) -> tuple[float, int]:
    """Time one step, from a function that does so many and returns how long that took; also how many were timed."""
    train(1)  # whatever is set up once
    one = train(1)
    some = max(train(1 + _FEW_STEPS) - one, 1e-9) / _FEW_STEPS
    steps = min(int(TIMED_SECONDS / some), _MOST_STEPS)
    if steps <= _FEW_STEPS:
        return some, _FEW_STEPS
    return max(train(1 + steps) - one, 1e-9) / steps, steps


def _first(rows: Rows, count: int) -> Rows:
    """Take the first windows, again from the beginning where there are not so many."""
    return Rows(np.resize(rows.origin, count), np.resize(rows.symbol, count))


def _clock(config: RunConfig) -> Callable[[], float]:
    """Return what tells the time that training takes on a machine with nothing else to do, in seconds."""
    alone = choose_device(config.train.device).type == "cpu" and config.train.threads == 1
    return time.process_time if alone else time.perf_counter

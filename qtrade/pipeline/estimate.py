"""Estimates of what a run takes: seconds, bytes written, and memory, from counts of windows and measured speeds."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qtrade.config import RunConfig
from qtrade.pipeline.probe import Speed
from qtrade.pipeline.train import count_processes
from qtrade.pipeline.transfer import Question, make_question
from qtrade.types import Fold

LIBRARIES_SECONDS = 6.0
"""Starting the program, and importing PyTorch, vectorbt and Matplotlib."""

START_SECONDS = 6.0
"""Starting a process that fits networks, and importing PyTorch in it."""

MARGIN = 1.25
"""Time of a step among thousands, where it is slow, over that of one among the few that are timed."""
SAVE_SECONDS = 0.06
"""Writing the files of one fit."""

# What the later stages take whatever the run, for each strategy or fold, and for every thousand bars of a symbol in the
# test period: rounded up from runs of 1,000 to 18,000 such bars and 5 to 72 folds.
_BACKTEST, _BACKTEST_STRATEGY, _BACKTEST_BARS = 3.0, 1.0, 0.12
_EVALUATE, _EVALUATE_FOLD, _EVALUATE_BARS = 3.0, 0.2, 0.25
_REPORT, _REPORT_BARS = 5.0, 0.3

GROWTH = 2.5
"""Memory of a process that has fitted many folds, over that of one that has done a few steps."""
_STAGES_BYTES = 200_000_000
"""Libraries that backtest, evaluation and report load."""

# A Parquet file has this much for every column, beside the numbers, which are too random to become smaller.
_COLUMN_BYTES = 850
_NUMBER_BYTES = 8
_EVALUATION_BYTES, _PAGE_BYTES = 500_000, 2_000_000
_BACKTEST_COLUMNS = 6
_LEARNING = ("informer", "ridge")
"""Models whose forecasts are not one number again and again, which takes no space."""


@dataclass(frozen=True, eq=False)
class Work:
    """What is to be done.

    Attributes
    ----------
    missing
        Folds to fit, by model; one that is fitted from several seeds is there several times.
    speeds
        Of the models that have some.
    preparing
        Seconds that loading bars and making features of them took.
    held, taken
        Bytes that this process held before models were tried out on a few steps, and how many more it took for that.
    trading
        Whether there are backtests and a report.
    """

    config: RunConfig
    bars: int
    symbols: int
    folds: Sequence[Fold]
    missing: Mapping[str, Sequence[Fold]]
    speeds: Mapping[str, Speed]
    preparing: float
    held: int
    taken: int
    trading: bool

    @property
    def processes(self) -> int:
        """Processes that fit networks side by side."""
        fits = self.missing.get("informer", ())
        windows = self.symbols * sum(len(fold.fit) for fold in fits)
        return max(1, min(count_processes(self.config, "informer", windows), len(fits)))

    @property
    def tested(self) -> int:
        """Bars of the test period."""
        return self.folds[-1].test.stop - self.folds[0].test.start

    @property
    def strategies(self) -> int:
        """Strategies that are traded."""
        return len(self.config.strategies) if self.trading else 0

    def question(self) -> Question:
        """Return what an evaluation asks every model about every period."""
        return make_question(
            [fold.train_end for fold in self.folds],
            np.arange(self.folds[0].test.start, self.folds[-1].test.stop),
            self.symbols,
            self.config.evaluation.upto(self.config.window.horizon),
            windows=self.config.evaluation.windows,
        )

    def asked(self) -> int:
        """Windows that these are."""
        question = self.question()
        origins = sum(len(question.origins_for(model)) for model in range(len(self.folds)))
        return origins * len(question.symbols) * self.config.replicates_of(self.config.model)


def estimate_seconds(work: Work) -> dict[str, float]:
    """Return about how long each stage takes, rather too long, on a machine that has nothing else to do.

    Training is what was measured, times the steps of all epochs; it ends sooner where validation stops it. Of the other
    stages, what models are asked is measured, and the rest is what such stages took elsewhere.
    """
    thousands = work.tested * work.symbols / 1000
    told = {"start": LIBRARIES_SECONDS, "prepare": work.preparing, "train": _training(work)}
    if work.trading:
        told["backtest"] = _BACKTEST + work.strategies * (_BACKTEST_STRATEGY + _BACKTEST_BARS * thousands)
    speed = work.speeds.get(work.config.model)
    asking = 0.0 if speed is None else MARGIN * work.asked() * speed.predict_seconds
    told["evaluate"] = (
        _EVALUATE + work.preparing + _EVALUATE_FOLD * len(work.folds) + _EVALUATE_BARS * thousands + asking
    )
    if work.trading:
        told["report"] = _REPORT + _REPORT_BARS * thousands
    return told


def estimate_bytes(work: Work) -> int:
    """Return how much a run writes: less than that where repeated numbers take no space."""
    horizon, symbols = work.config.window.horizon, work.symbols
    total = _table(work.bars, 5 * symbols)
    for model, folds in work.missing.items():
        numbers = 2 * horizon if model in _LEARNING else horizon
        weights = work.speeds[model].weight_bytes if folds else 0
        tests = sum(len(fold.test) for fold in folds) * symbols
        valids = sum(len(fold.valid) for fold in folds) * symbols
        # Once in the folder of the fold, once all together.
        total += 2 * (_table(tests, numbers) + _table(valids, horizon))
        total += len(folds) * (weights + _COLUMN_BYTES * 3 * horizon)
    total += _table(work.asked(), len(work.question().horizons)) + _EVALUATION_BYTES
    total += _PAGE_BYTES if work.trading else 0
    return total + work.strategies * _table(work.tested, _BACKTEST_COLUMNS + 2 * symbols)


def estimate_memory(work: Work) -> int:
    """Return about how many bytes all processes hold at once.

    A process that fits takes more than a few steps show: it keeps what it frees, and does not find room for all of it.
    """
    process = work.held + round(GROWTH * work.taken)
    training = process if work.processes == 1 else work.held + work.processes * process
    question = work.question()
    answers = len(work.folds) * work.tested * len(question.symbols) * len(question.horizons)
    return max(training, process + _STAGES_BYTES + 2 * _NUMBER_BYTES * answers)


def _training(work: Work) -> float:
    """Fit all that is missing, networks side by side: each fit begins when a process is free."""
    total = 0.0
    for model, folds in work.missing.items():
        if not folds:
            continue
        speed = work.speeds[model]
        times = [SAVE_SECONDS + MARGIN * speed.seconds(fold, work.symbols, work.config.train.epochs) for fold in folds]
        if model != "informer" or work.processes == 1:
            total += sum(times)
            continue
        free = [START_SECONDS] * work.processes
        for seconds in times:
            heapq.heapreplace(free, free[0] + seconds)
        total += max(free)
    return total


def _table(rows: int, numbers: int) -> int:
    return rows * numbers * _NUMBER_BYTES + numbers * _COLUMN_BYTES

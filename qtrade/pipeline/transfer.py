"""Ask every fold's model about every fold's test period; the answers are kept with the run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from qtrade.config import RunConfig
from qtrade.errors import DataError
from qtrade.evaluation.transfer import LEAST_ORIGINS, Transfer
from qtrade.files import read_json, read_parquet, write_parquet
from qtrade.forecasts import Forecasts
from qtrade.pipeline.fitting import ROUNDING, Fitted, has_a_card_to_itself, load_fitted
from qtrade.pipeline.market import Market
from qtrade.pipeline.parallel import count_workers, run_jobs
from qtrade.progress import Progress
from qtrade.runs import Run, rows_of
from qtrade.types import Float64Array, IntArray
from qtrade.windows import Rows, realised

MAX_SYMBOLS = 10
"""Symbols that models are asked about; of more, so many are drawn evenly."""

# Origins of each period about which every model is asked, whatever it costs: fewer would not make a cell of the matrix.
_LEAST_ORIGINS = LEAST_ORIGINS + 4
_SPOT_CHECKS = 3
# Windows below which starting other processes costs more than it saves.
_WORTH_A_PROCESS = 100_000


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of the models of a run.

    Attributes
    ----------
    horizons
        Q horizons in bars, ascending.
    train_end
        (K,) bar each model is as of.
    origin, fold
        (O,) test origins of all folds, and the fold each belongs to.
    symbols
        Positions of the symbols.
    stride
        Every how many origins models other than the first are asked about periods that are not their own.
    """

    horizons: tuple[int, ...]
    train_end: IntArray
    origin: IntArray
    fold: IntArray
    symbols: IntArray
    stride: int

    def origins_for(self, model: int) -> IntArray:
        """Origins outside of its own test period that a model is asked about.

        The first one is asked about all, since breaks are looked for in what it says.
        """
        stride = 1 if model == 0 else self.stride
        asked: IntArray = self.origin[::stride][self.fold[::stride] != model]
        return asked


def make_question(
    train_end: Sequence[int], origin: IntArray, symbols: int, horizons: Sequence[int], *, windows: int
) -> Question:
    """Choose symbols and stride so that models after the first are asked about at most so many windows in all.

    There are more where that would leave too few origins of a period.
    """
    ends = np.asarray(train_end, dtype=np.int64)
    chosen = np.unique(np.linspace(0, symbols - 1, min(symbols, MAX_SYMBOLS)).round().astype(np.int64))
    everything = (len(ends) - 1) * len(origin) * len(chosen)
    return Question(
        horizons=tuple(sorted(horizons)),
        train_end=ends,
        origin=origin,
        fold=(np.searchsorted(ends, origin, side="right") - 1).astype(np.int64),
        symbols=chosen,
        stride=max(1, min(-(-everything // windows), _shortest(ends) // _LEAST_ORIGINS)),
    )


def _shortest(ends: IntArray) -> int:
    """Bars of the shortest time between two retrainings."""
    return int(np.diff(ends).min()) if len(ends) > 1 else 1


def answer(
    question: Question,
    market: Market,
    config: RunConfig,
    own: Float64Array,
    ask: Callable[[int, IntArray], Float64Array],
) -> Transfer:
    """Put a question to all models.

    Parameters
    ----------
    own
        (O, S, H) paths of log returns that each model forecast in its own test period.
    ask
        From a model's number and (A,) origins to its (A, S, Q) cumulative log returns.
    """
    shape = (len(question.train_end), len(question.origin), len(question.symbols), len(question.horizons))
    predicted = np.full(shape, np.nan)
    predicted[question.fold, np.arange(shape[1])] = at_horizons(np.cumsum(own, axis=2), question)
    for model in range(shape[0]):
        if len(origins := question.origins_for(model)):
            predicted[model, np.searchsorted(question.origin, origins)] = ask(model, origins)
    rows = _rows(question.origin, question.symbols)
    actual = np.cumsum(realised(market.returns, rows, question.horizons[-1], config.split.delay), axis=1)
    return Transfer(
        horizons=question.horizons,
        train_end=question.train_end,
        origin=question.origin,
        fold=question.fold,
        predicted=predicted,
        actual=at_horizons(actual, question),
    )


def ask_fitted(
    question: Question, market: Market, config: RunConfig, fitted: Fitted, origins: IntArray
) -> Float64Array:
    """Return what a fitted model says, as (A, S, Q)."""
    path = fitted.paths_at(market, config, _rows(origins, question.symbols))
    return at_horizons(np.cumsum(path, axis=1), question)


def transfer_run(
    run: Run, config: RunConfig, market: Market, question: Question, forecasts: Forecasts, progress: Progress
) -> Transfer:
    """Put a question to the models that a run has saved, averaging over seeds; what was asked before is not repeated.

    Parameters
    ----------
    forecasts
        What each model forecast in its own test period, averaged over seeds.

    Raises
    ------
    DataError
        If a fold is not complete.
    """
    replicates = config.replicates_of(config.model)
    jobs = [
        _Job(run, fold, replicate, question, _part(run, config, fold, replicate, question))
        for fold in range(len(question.train_end))
        for replicate in range(replicates)
        if len(question.origins_for(fold))
    ]
    missing = [job for job in jobs if not (job.path.exists() and _still_said(job, config, market))]
    asked = sum(len(question.origins_for(job.fold)) for job in missing) * len(question.symbols)
    alone = asked <= _WORTH_A_PROCESS or has_a_card_to_itself(config, config.model)
    progress.start("evaluate: ask every model about every period", len(missing))
    run_jobs(
        _ask_and_save,
        (config, market),
        missing,
        workers=1 if alone else count_workers(config.train.workers, config.train.threads),
        threads=config.train.threads,
        progress=progress,
    )
    answers = {(job.fold, job.replicate): _read(job) for job in jobs}

    def ask(model: int, origins: IntArray) -> Float64Array:
        mean: Float64Array = np.mean([answers[model, replicate] for replicate in range(replicates)], axis=0)
        return mean

    rows = rows_of(forecasts, market.bars)
    chosen = np.isin(rows.symbol, question.symbols)
    own = np.full((len(question.origin), len(question.symbols), forecasts.horizon), np.nan)
    column = np.searchsorted(question.symbols, rows.symbol[chosen])
    own[rows.origin[chosen] - question.origin[0], column] = forecasts.path[chosen]
    return answer(question, market, config, own, ask)


@dataclass(frozen=True, eq=False)
class _Job:
    """One saved model to ask, and where its answer goes."""

    run: Run
    fold: int
    replicate: int
    question: Question
    path: Path

    @property
    def origins(self) -> IntArray:
        return self.question.origins_for(self.fold)


def _ask_and_save(context: tuple[RunConfig, Market], job: _Job, progress: Progress) -> None:
    config, market = context
    fitted = load_fitted(job.run, config, market, config.model, job.fold, job.replicate)
    said = ask_fitted(job.question, market, config, fitted, job.origins)
    columns = [f"h{horizon}" for horizon in job.question.horizons]
    write_parquet(job.path, pd.DataFrame(said.reshape(-1, len(columns)), columns=columns))
    progress.advance(1, f"model {job.fold + 1}/{len(job.question.train_end)}")


def _still_said(job: _Job, config: RunConfig, market: Market) -> bool:
    """Whether a saved answer is what the model says when it is asked again about a few origins, drawn anew."""
    fitted = load_fitted(job.run, config, market, config.model, job.fold, job.replicate)
    try:
        saved = _read(job)
    except DataError:
        return False
    places = np.sort(np.random.default_rng().choice(len(saved), size=min(_SPOT_CHECKS, len(saved)), replace=False))
    again = ask_fitted(job.question, market, config, fitted, job.origins[places])
    return bool((np.abs(saved[places] - again) <= ROUNDING * np.abs(saved).max()).all())


def _read(job: _Job) -> Float64Array:
    fix = f"delete {job.path.parent}, and evaluate the run again"
    table = read_parquet(job.path, fix=fix)
    shape = len(job.origins), len(job.question.symbols), len(job.question.horizons)
    if table.shape != (shape[0] * shape[1], shape[2]):
        raise DataError(f"{job.path} does not hold what was asked", why="it was altered or cut off", fix=fix)
    return table.to_numpy(dtype=np.float64).reshape(shape)


def _part(run: Run, config: RunConfig, fold: int, replicate: int, question: Question) -> Path:
    """File of one answer; its name follows from the model and from all that it is asked."""
    folder = run.fold_folder(config.model, fold, replicate)
    model = read_json(folder / "history.json", fix=run.train_command())["sha256"]
    asked = [
        model,
        question.horizons,
        question.origin[[0, -1]].tolist(),
        question.train_end.tolist(),
        question.symbols.tolist(),
        question.stride,
    ]
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
    return run.folder / "transfer" / f"{fold}-{replicate}-{digest}.parquet"


def _rows(origins: IntArray, symbols: IntArray) -> Rows:
    """Return windows ordered by origin, then symbol."""
    return Rows(np.repeat(origins, len(symbols)), np.tile(symbols, len(origins)))


def at_horizons(cumulative: Float64Array, question: Question) -> Float64Array:
    """From cumulative returns (..., H) of every window to those at the horizons asked for, (A, S, Q)."""
    picked = cumulative[..., np.asarray(question.horizons) - 1]
    return picked.reshape(-1, len(question.symbols), len(question.horizons))

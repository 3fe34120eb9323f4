"""What a run would do, found out without doing it: windows, fits, files, and an estimate of time and memory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qtrade.config import RunConfig
from qtrade.data.cache import Cache
from qtrade.data.load import load_bars
from qtrade.data.plan import FetchPlan, Unwritten, plan_fetch
from qtrade.features.audit import audit_features
from qtrade.pipeline.backtest import load_strategies
from qtrade.pipeline.estimate import Work, estimate_bytes, estimate_memory, estimate_seconds
from qtrade.pipeline.made_up import made_up_bars
from qtrade.pipeline.market import Market, derive, folds_of
from qtrade.pipeline.plan_text import LOADED, duration, row, rows, size
from qtrade.pipeline.probe import measure, peak_bytes
from qtrade.pipeline.train import facts_of, models_of
from qtrade.runs import Run, fold_is_complete, place_of
from qtrade.types import Fold

_SHOWN = 6
"""Folds and symbols that are told one by one; of more folds, the first and the last few are."""


@dataclass(frozen=True)
class FoldPlan:
    """One fold, counted in windows: an origin of one symbol each."""

    number: int
    fit: int
    valid: int
    test: int
    first: str
    """Stamp of its first test origin."""
    last: str


@dataclass(frozen=True)
class ModelPlan:
    """One model's fits."""

    model: str
    fits: int
    """Folds times replicates."""
    complete: int
    """Of these, what an earlier run left, and is kept."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What a run would do.

    Attributes
    ----------
    folder
        Where it would be; None where the bars are not known yet, from which its hash follows.
    exists
        Whether the folder is there.
    fetched
        What would be done about each symbol's bars; None if the run does not fetch.
    guessed
        Whether the number of bars is a guess, as they are still to be fetched.
    trading
        Whether backtests and a report are part of it.
    seconds
        About, by stage, on a machine with nothing else to do.
    processes
        That fit networks side by side.
    """

    folder: Path | None
    exists: bool
    fetched: FetchPlan | None
    source: str
    symbols: tuple[str, ...]
    interval: str
    bars: int
    first: str
    last: str
    guessed: bool
    features: tuple[str, ...]
    target: str
    warmup: int
    window: Mapping[str, int]
    folds: tuple[FoldPlan, ...]
    models: tuple[ModelPlan, ...]
    trading: bool
    strategies: tuple[str, ...]
    seconds: Mapping[str, float]
    processes: int
    timed_steps: int
    bytes_written: int
    memory_bytes: int
    notes: tuple[str, ...]

    @property
    def total_seconds(self) -> float:
        """Time of all stages, about."""
        return sum(self.seconds.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        own = {key: value for key, value in vars(self).items() if key not in ("fetched", "folder", "folds", "models")}
        return {
            **own,
            "folder": None if self.folder is None else str(self.folder),
            "fetched": None if self.fetched is None else self.fetched.to_dict(),
            "folds": [asdict(fold) for fold in self.folds],
            "models": [asdict(model) for model in self.models],
            "seconds": dict(self.seconds),
            "window": dict(self.window),
            **{key: list(value) for key, value in own.items() if isinstance(value, tuple)},
            "total_seconds": self.total_seconds,
        }

    def lines(self) -> list[str]:
        """Tell all of it, a line for each part."""
        where = "known once the bars are, from which its name follows" if self.folder is None else str(self.folder)
        kept = sum(model.complete for model in self.models)
        state = f"there, {kept:,} fits complete" if self.exists else "new"
        about = "about " if self.guessed else ""
        return [
            row("folder", where if self.folder is None else f"{where} ({state})"),
            *([] if self.fetched is None else rows("fetch", self.fetched.lines())),
            row("bars", f"{about}{self.bars:,} of {self.interval}, {self.first[:10]} to {self.last[:10]}"),
            row("symbols", ", ".join(self.symbols) if len(self.symbols) <= _SHOWN else f"{len(self.symbols):,}"),
            row("features", f"{len(self.features)}, learning {self.target}; {self.warmup} bars only warm them up"),
            row("window", f"{self.window['seq_len']} bars read, {self.window['horizon']} predicted"),
            *rows("folds", self._fold_lines()),
            *rows("models", [_model_line(model) for model in self.models]),
            *([row("strategies", ", ".join(self.strategies) or "none")] if self.trading else []),
            row("writes", f"about {size(self.bytes_written)}"),
            *rows("time", self._time_lines()),
            row("memory", f"about {size(self.memory_bytes)}"),
            *rows("note", self.notes),
        ]

    def _fold_lines(self) -> list[str]:
        told = [
            f"{fold.number + 1}: {fold.fit:,} windows to fit, {fold.valid:,} to validate, {fold.test:,} to test, "
            f"{fold.first[:10]} to {fold.last[:10]}"
            for fold in self.folds
        ]
        if len(told) <= _SHOWN:
            return told
        half = _SHOWN // 2
        return [*told[:half], f"... {len(told) - _SHOWN} more ...", *told[-half:]]

    def _time_lines(self) -> list[str]:
        parts = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in self.seconds.items())
        how = f"; {self.processes} folds at once" if self.processes > 1 else ""
        told = [f"about {duration(self.total_seconds)}: {parts}{how}", LOADED]
        if self.timed_steps:
            told.append(f"{self.timed_steps} steps of the network were timed here; its training may stop early")
        if self.trading:
            again = sum(self.seconds[stage] for stage in ("start", "evaluate", "report"))
            told.append(f"`qtrade report` by itself takes about {duration(again)}: it measures again")
        return told


def plan_run(config: RunConfig, *, runs: Path, cache: Cache, fetching: bool = True, trading: bool = True) -> Plan:
    """Find out what a run would do, and time a few steps of its models; nothing is written, and nobody asked.

    Parameters
    ----------
    fetching
        Whether the run begins with a fetch, as `qtrade run` does and `qtrade train` does not.
    trading
        Whether it ends with backtests and a report.

    Raises
    ------
    QtradeError
        As the run itself would, where that is known beforehand: wrong strategies, bars that are missing or refused,
        features that look ahead, too few bars.
    """
    if trading:
        load_strategies(config.strategies)
    fetched = plan_fetch(config.data, cache=cache) if fetching else None
    if fetched is not None and fetched.failed:
        raise next(iter(fetched.failed.values()))
    asked = [] if fetched is None else [one for one in fetched.symbols if one.asked]
    guessed = any(not one.stored for one in asked)
    started = time.process_time()
    market, notes = _market(config, fetched, cache, guessed=guessed)
    preparing = time.process_time() - started
    folds = folds_of(market, config)
    run, exists = (None, False) if guessed else place_of(runs, config, facts_of(config, market))
    if asked:
        notes.append(
            "the estimate is of made-up bars, as many as there may be, since nobody is asked in a dry run"
            if guessed
            else "what the source adds makes another folder of it: the hash covers the bars"
        )
    missing = {model: _missing(run if exists else None, config, model, folds) for model in models_of(config)}
    held = peak_bytes()
    speeds = {model: measure(market, config, model, folds[-1]) for model, fits in missing.items() if fits}
    work = Work(
        config,
        len(market.bars),
        len(market.bars.symbols),
        folds,
        missing,
        speeds,
        preparing,
        held,
        peak_bytes() - held,
        trading,
    )
    replicates = {model: config.replicates_of(model) for model in missing}
    return Plan(
        folder=None if run is None else run.folder,
        exists=exists,
        fetched=fetched,
        source=config.data.source,
        symbols=market.bars.symbols,
        interval=config.data.interval,
        bars=len(market.bars),
        first=str(market.bars.index[0]),
        last=str(market.bars.index[-1]),
        guessed=guessed,
        features=market.features.names,
        target=config.features.target,
        warmup=market.features.warmup,
        window=config.window.model_dump(),
        folds=tuple(_fold_plan(fold, market) for fold in folds),
        models=tuple(
            ModelPlan(model, len(folds) * replicates[model], len(folds) * replicates[model] - len(fits))
            for model, fits in missing.items()
        ),
        trading=trading,
        strategies=tuple(config.strategies) if trading else (),
        seconds=estimate_seconds(work),
        processes=work.processes,
        timed_steps=sum(speed.steps for speed in speeds.values()),
        bytes_written=estimate_bytes(work),
        memory_bytes=estimate_memory(work),
        notes=tuple(notes),
    )


def _market(config: RunConfig, fetched: FetchPlan | None, cache: Cache, *, guessed: bool) -> tuple[Market, list[str]]:
    """Make everything of the bars that no fold changes; of bars made up where they are still to be fetched."""
    if guessed:
        assert fetched is not None, "only a fetch leaves bars unknown"
        bars, notes = made_up_bars(config, fetched)
        return derive(config, bars), notes
    loaded = load_bars(config.data, Unwritten(cache.root) if fetched is None else fetched.cache)
    audit_features(loaded.bars, config.features, seed=config.seed)
    market = derive(config, loaded.bars, loaded.notes, loaded.fingerprints)
    return market, list(market.notes)


def _missing(run: Run | None, config: RunConfig, model: str, folds: Sequence[Fold]) -> tuple[Fold, ...]:
    """Folds that are still to be fitted, once for each replicate."""
    return tuple(
        fold
        for fold in folds
        for replicate in range(config.replicates_of(model))
        if run is None or not fold_is_complete(run.fold_folder(model, fold.number, replicate))
    )


def _fold_plan(fold: Fold, market: Market) -> FoldPlan:
    symbols, index = len(market.bars.symbols), market.bars.index
    fit, valid, test = (len(part) * symbols for part in (fold.fit, fold.valid, fold.test))
    return FoldPlan(fold.number, fit, valid, test, str(index[fold.test[0]]), str(index[fold.test[-1]]))


def _model_line(model: ModelPlan) -> str:
    kept = f", {model.complete:,} of them complete and kept" if model.complete else ""
    return f"{model.model}: {model.fits:,} {'fits' if model.fits > 1 else 'fit'}{kept}"

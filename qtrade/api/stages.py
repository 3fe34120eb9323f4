"""The functions of `qtrade.api` that make a run: fetch, load_bars, train, run, evaluate, report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from qtrade.api.common import (
    CACHE,
    RUNS,
    DataOptions,
    Place,
    RunLike,
    RunOptions,
    Settings,
    Watch,
    assignments,
    configuration,
    find_run,
    spelled_out,
    watched,
)
from qtrade.errors import UsageError, nearest

if TYPE_CHECKING:
    from qtrade.data.fetch import FetchReport
    from qtrade.evaluation.result import Evaluation
    from qtrade.runs import Run
    from qtrade.types import Bars


@spelled_out(DataOptions)
def fetch(
    symbols: str | Sequence[str] = (), *, cache: Place = CACHE, progress: Watch = False, **options: Unpack[DataOptions]
) -> FetchReport:
    """Bring bars in the cache up to date: download, import or make them.

    Parameters
    ----------
    symbols
        One, or several.
    cache
        Folder of bars.
    progress
        True shows progress on stderr; or something that is told of it.
    options
        See `DataOptions`. `settings` are ``["a.b=value"]``, or tables such as ``{"data": {"adjust": False}}``.

    Raises
    ------
    DataError
        If nothing could be fetched.
    PartialError
        If some symbols could not; the others are saved.
    """
    from qtrade.data.cache import Cache
    from qtrade.data.fetch import fetch as fetch_bars

    with watched(progress) as watcher:
        report = fetch_bars(configuration(symbols, options).data, cache=Cache(Path(cache)), progress=watcher)
    report.require_all()
    return report


@spelled_out(DataOptions)
def load_bars(
    symbols: str | Sequence[str] = (), *, cache: Place = CACHE, progress: Watch = False, **options: Unpack[DataOptions]
) -> Bars:
    """Load cached bars as a run would see them: checked, adjusted, on one index. Parameters are those of `fetch`.

    Raises
    ------
    DataError
        If an entry is missing or damaged, or has errors that are not accepted.
    """
    from qtrade.data.cache import Cache
    from qtrade.data.load import load_bars as load

    with watched(progress) as watcher:
        return load(configuration(symbols, options).data, Cache(Path(cache)), watcher).bars


@spelled_out(RunOptions)
def train(
    symbols: str | Sequence[str] = (),
    *,
    runs: Place = RUNS,
    cache: Place = CACHE,
    progress: Watch = False,
    **options: Unpack[RunOptions],
) -> Run:
    """Train on cached bars, walk-forward, store the forecasts, and evaluate them. What is complete is kept.

    Parameters
    ----------
    symbols
        One, or several that are pooled in one model.
    runs, cache
        Folders of runs and of bars.
    progress
        True shows progress on stderr; or something that is told of it.
    options
        See `RunOptions`.
    """
    from qtrade.data.cache import Cache
    from qtrade.pipeline.evaluate import evaluate_run
    from qtrade.pipeline.train import train_run
    from qtrade.runs import save_config

    resolved = configuration(symbols, options)
    with watched(progress) as watcher:
        finished = train_run(resolved, runs=Path(runs), cache=Cache(Path(cache)), progress=watcher)
        save_config(finished, resolved)
        evaluate_run(finished, progress=watcher)
    return finished


@spelled_out(RunOptions)
def run(
    symbols: str | Sequence[str] = (),
    *,
    runs: Place = RUNS,
    cache: Place = CACHE,
    progress: Watch = False,
    **options: Unpack[RunOptions],
) -> Run:
    """Fetch, train, backtest, evaluate and report; without options on the embedded sample, with no network.

    Parameters are those of `train`.

    Raises
    ------
    RuinedError
        If a strategy ruined its account; everything is written before that.
    """
    from qtrade.data.cache import Cache
    from qtrade.data.fetch import fetch as fetch_bars
    from qtrade.pipeline.backtest import RuinedError, backtest_run, load_strategies
    from qtrade.pipeline.report import report_run
    from qtrade.pipeline.train import train_run
    from qtrade.runs import save_config

    resolved, store, ruined = configuration(symbols, options), Cache(Path(cache)), None
    load_strategies(resolved.strategies)  # a wrong one would be met only after training
    with watched(progress) as watcher:
        fetch_bars(resolved.data, cache=store, progress=watcher).require_all()
        finished = train_run(resolved, runs=Path(runs), cache=store, progress=watcher)
        try:
            backtest_run(finished, progress=watcher, config=resolved)
        except RuinedError as error:
            ruined = error
        save_config(finished, resolved)
        report_run(finished, progress=watcher)
    if ruined:
        raise ruined
    return finished


def evaluate(
    run: RunLike,
    *,
    full: bool = False,
    probe: str = "trees",
    settings: Settings = (),
    runs: Place = RUNS,
    progress: Watch = False,
) -> Evaluation:
    """Measure whether what a run learned still holds, and write evaluation.json and report.html.

    Parameters
    ----------
    full, probe
        Fit cheap models (trees or ridge) for the optimism waterfall, and ask models more.
    settings
        What to measure, as ``["evaluation.horizons=[1,5]"]``.
    run, runs, progress
        As for `backtest`.

    Raises
    ------
    IntegrityError
        If something in the run used the future.
    """
    from qtrade.pipeline.evaluate import evaluate_run
    from qtrade.pipeline.ladder import PROBES
    from qtrade.pipeline.report import report_run
    from qtrade.runs import evaluated_otherwise

    if probe not in PROBES:
        raise UsageError(f"there is no probe '{probe}'", fix=nearest(probe, PROBES))
    found = find_run(run, runs)
    config = evaluated_otherwise(found, assignments(settings))
    with watched(progress) as watcher:
        evaluation = evaluate_run(found, progress=watcher, config=config, full=full, probe=PROBES[probe])
        report_run(found, progress=watcher, evaluation=evaluation, config=config)
    return evaluation


def report(run: RunLike, *, runs: Place = RUNS, progress: Watch = False) -> Path:
    """Write report.html and metrics.json of a run, and return where the report is."""
    from qtrade.pipeline.report import report_run

    found = find_run(run, runs)
    with watched(progress) as watcher:
        return report_run(found, progress=watcher)

"""The third story: tell what happened."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qtrade.backtest.comparison import compare
from qtrade.config import RunConfig
from qtrade.errors import DataError
from qtrade.evaluation.result import Evaluation
from qtrade.files import read_parquet, write_json
from qtrade.forecasts import Forecasts
from qtrade.ledger import Market
from qtrade.pipeline.backtest import luck_of
from qtrade.pipeline.evaluate import evaluate_run
from qtrade.pipeline.lock import keeping
from qtrade.pipeline.measures import seed_mean_with_actual
from qtrade.pipeline.positions import read_positions
from qtrade.pipeline.replay import backtest_name
from qtrade.pipeline.told import read_told
from qtrade.pipeline.venue import tried_on
from qtrade.progress import Progress
from qtrade.report.account import costs_assumed
from qtrade.report.backtests import StrategyReport, check_told
from qtrade.report.markdown import render_markdown
from qtrade.report.page import ReportInput, write_report
from qtrade.report.text import several
from qtrade.runs import Run, read_history


@keeping
def report_run(
    run: Run, *, progress: Progress, evaluation: Evaluation | None = None, config: RunConfig | None = None
) -> Path:
    """Write ``report.html`` and ``metrics.json`` of a trained run and return the report's path.

    Parameters
    ----------
    evaluation
        Of this run as it is; by default it is evaluated.
    config
        What it was evaluated with, if not with the run's own configuration.

    Raises
    ------
    IntegrityError
        If something in the run used the future; the report then says so and nothing else.
    """
    told = _gathered(run, evaluation or evaluate_run(run, progress=progress), config or run.config)
    path = run.folder / "report.html"
    write_report(told, path)
    write_json(
        run.folder / "metrics.json",
        {
            "verdict": told.verdict.to_dict(),
            "gates": [gate.to_dict() for gate in told.evaluation.gates],
            "skill": {model: [one.to_dict() for one in values] for model, values in told.skill.items()},
            "backtests": [
                {"name": one.name, "params": dict(one.params), **dict(one.metrics)} for one in told.backtests
            ],
            "buy_and_hold": dict(told.backtests[0].benchmark_metrics) if told.backtests else None,
            "comparison": told.comparison,
        },
    )
    return path


@keeping
def markdown_of(run: Run, *, progress: Progress) -> str:
    """Return the report of a trained run in short, as Markdown.

    Raises
    ------
    IntegrityError
        If something in the run used the future.
    """
    return render_markdown(_gathered(run, evaluate_run(run, progress=progress), run.config))


def _gathered(run: Run, evaluation: Evaluation, config: RunConfig) -> ReportInput:
    """Put together what a report tells."""
    bars, manifest = run.bars, run.manifest
    forecasts, actual = seed_mean_with_actual(*run.forecasts(config.model))
    read, damaged = _read(run)
    return ReportInput(
        title=f"{several(bars.symbols)} · {config.model}",
        run_name=run.name,
        generated=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        source=config.data.source,
        bars=bars,
        data_hash=manifest["facts"]["data"],
        model=config.model,
        verdict=evaluation.verdict,
        evaluation=evaluation,
        skill=evaluation.skill,
        forecasts=forecasts,
        actual=actual,
        delay=config.split.delay,
        size=_size(config),
        trials=_trials(run, config, forecasts),
        costs=costs_assumed(config.backtest),
        backtests=tuple(replace(_strategy_report(run, *one), positions=_positions(run, *one)) for one in read),
        comparison=_compared(run, read),
        folds=_fold_table(run),
        config_toml=config.to_toml(),
        commands=_commands(run, config),
        notes=(*manifest["notes"], *damaged),
    )


def _size(config: RunConfig) -> str:
    """Describe the size of a run's model; one that is no network has none worth telling."""
    if config.model != "informer":
        return ""
    network, window = config.informer, config.window
    encoder = "+".join(map(str, network.stack)) or str(network.e_layers)
    return (
        f"preset {config.preset}: width {network.d_model}, heads {network.n_heads}, encoder layers {encoder}, "
        f"decoder layers {network.d_layers}; it reads {window.seq_len} bars"
    )


def _trials(run: Run, config: RunConfig, forecasts: Forecasts) -> int:
    """Count what was tried on the bars that the run is tested on."""
    bars = run.bars
    tested = Market(bars.symbols, bars.interval, forecasts.origin.min(), bars.index[-1])
    return tried_on(run, tested, config.backtest).trials


def _commands(run: Run, config: RunConfig) -> tuple[str, ...]:
    """Return what to type to make the run and its evaluation again."""
    folder = ["--runs", str(run.folder.parent)]
    again = [shlex.join(["qtrade", "run", "--config", str(run.folder / "config.toml"), *folder])]
    others = [
        f"evaluation.{name}={json.dumps(value)}"
        for name, value in config.evaluation.model_dump(mode="json").items()
        if value != run.config.evaluation.model_dump(mode="json")[name]
    ]
    if others:
        settings = [part for text in others for part in ("--set", text)]
        again.append(shlex.join(["qtrade", "evaluate", run.name, *settings, *folder]))
    return tuple(again)


def read_backtests(run: Run) -> list[StrategyReport]:
    """Read the backtests made with the run's account that can be read, each with its luck after all trials up to now.

    The configured strategies come first, in their order. Of several versions of a strategy's file, the last one run
    counts.

    Raises
    ------
    DataError
        If the trial ledger cannot be used.
    """
    return [_strategy_report(run, *one) for one in _read(run)[0]]


def _read(run: Run) -> tuple[list[tuple[dict[str, Any], pd.DataFrame]], list[str]]:
    """Return what is told of each backtest and its series, in the order of `read_backtests`; a note on each unread."""
    config = run.config
    account = config.backtest.model_dump(mode="json")
    order = {Path(name).stem: position for position, name in enumerate(config.strategies)}
    found: dict[str, tuple[dict[str, Any], pd.DataFrame]] = {}
    damaged = []
    for path in sorted(run.folder.glob("backtests/*/metrics.json"), key=lambda path: path.stat().st_mtime_ns):
        try:
            told = read_told(path)
            if told["account"] != account:
                continue
            check_told(told)
            series = read_parquet(path.parent / "equity.parquet", fix="")[
                ["net", "equity", "buy_and_hold", "buy_and_hold_net"]
            ]
            found[f"{told['strategy']} {sorted(told['params'].items())}"] = (told, series)
        except (DataError, KeyError, TypeError) as error:
            damaged.append(f"The backtest in {path.parent.name} cannot be read and is left out: {error}")
    names = sorted(found, key=lambda name: (order.get(found[name][0]["strategy"], len(order)), name))
    return [found[name] for name in names], damaged


def _strategy_report(run: Run, told: dict[str, Any], series: pd.DataFrame) -> StrategyReport:
    first, last = series.index[0], series.index[-1]
    bars = run.bars
    market = Market(bars.symbols, bars.interval, first, last)
    luck = luck_of(series["net"], bars.periods_per_year, tried_on(run, market, run.config.backtest))
    return StrategyReport(told, luck, series["equity"], series["buy_and_hold"])


def _positions(run: Run, told: dict[str, Any], series: pd.DataFrame) -> pd.DataFrame | None:
    """Pair the fills of a backtest to positions; None where they cannot be read."""
    name = backtest_name(told["strategy"], told["params"], told["source"], told["account"])
    return read_positions(run.folder / "backtests" / name, run.bars, series.index[-1])


def _compared(run: Run, backtests: Sequence[tuple[dict[str, Any], pd.DataFrame]]) -> dict[str, Any] | None:
    """Compare the backtests on the bars of the first with buy-and-hold; None if there are fewer than two."""
    alike = [(told["spec"], series) for told, series in backtests if series.index.equals(backtests[0][1].index)]
    if len(alike) < 2:
        return None
    nets = {spec: series["net"].to_numpy(dtype=np.float64) for spec, series in alike}
    hold = alike[0][1]["buy_and_hold_net"].to_numpy(dtype=np.float64)
    return compare(nets, hold, run.bars.periods_per_year, seed=run.config.seed).to_dict()


def _fold_table(run: Run) -> pd.DataFrame:
    """One row per fold and seed of the run's model, for the report."""
    manifest, config = run.manifest, run.config
    rows = []
    for fold in manifest["folds"]:
        for replicate in range(config.replicates_of(config.model)):
            history, constant = read_history(run.fold_folder(config.model, fold["number"], replicate))
            rows.append(
                {
                    "number": fold["number"],
                    "train_start": pd.Timestamp(fold["fit"][0]),
                    "train_end": pd.Timestamp(fold["train_end"]),
                    "test_start": pd.Timestamp(fold["test"][0]),
                    "test_end": pd.Timestamp(fold["test"][1]),
                    "origins": fold["test_origins"],
                    "epochs": f"{history.best_epoch} of {len(history.epochs)}" if history.epochs else "-",
                    "best_validation_loss": history.valid_loss,
                    "seconds": sum(epoch.seconds for epoch in history.epochs),
                    "constant_columns": ", ".join(constant) or "none",
                }
            )
    return pd.DataFrame(rows)

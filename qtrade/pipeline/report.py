"""The third story: tell what happened."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from qtrade.config import RunConfig
from qtrade.errors import DataError
from qtrade.evaluation.result import Evaluation
from qtrade.files import read_json, read_parquet, write_json
from qtrade.pipeline.evaluate import evaluate_run
from qtrade.pipeline.measures import seed_mean_with_actual
from qtrade.progress import Progress
from qtrade.report.page import ReportInput, StrategyReport, write_report
from qtrade.runs import Run, read_history


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
    evaluation = evaluation or evaluate_run(run, progress=progress)
    config = config or run.config
    bars = run.bars
    manifest = run.manifest
    forecasts, actual = seed_mean_with_actual(*run.forecasts(config.model))
    skills, conclusion = evaluation.skill, evaluation.verdict
    backtests, damaged = _read_backtests(run)
    account = config.backtest
    costs = (
        f"{account.costs.fees_bps:g} bp fees and {account.costs.slippage_bps:g} bp slippage per fill; "
        f"decided at a close, filled at the open {account.delay} bar{'s' if account.delay > 1 else ''} later"
    )
    path = run.folder / "report.html"
    write_report(
        ReportInput(
            title=f"{', '.join(bars.symbols)} · {config.model}",
            run_name=run.name,
            generated=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            source=config.data.source,
            bars=bars,
            data_hash=manifest["facts"]["data"],
            model=config.model,
            verdict=conclusion,
            evaluation=evaluation,
            skill=skills,
            forecasts=forecasts,
            actual=actual,
            delay=config.split.delay,
            costs=costs,
            backtests=tuple(backtests),
            folds=_fold_table(run),
            config_toml=config.to_toml(),
            commands=_commands(run, config),
            notes=(*manifest["notes"], *damaged),
        ),
        path,
    )
    write_json(
        run.folder / "metrics.json",
        {
            "verdict": conclusion.to_dict(),
            "gates": [gate.to_dict() for gate in evaluation.gates],
            "skill": {model: [one.to_dict() for one in values] for model, values in skills.items()},
            "backtests": [{"name": one.name, "params": dict(one.params), **dict(one.metrics)} for one in backtests],
            "buy_and_hold": dict(backtests[0].benchmark_metrics) if backtests else None,
        },
    )
    return path


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


def _read_backtests(run: Run) -> tuple[list[StrategyReport], list[str]]:
    """Read the backtests made with the run's account, and a note on each that cannot be read.

    The configured strategies come first, in their order. Of several versions of a strategy's file, the last one run
    counts.
    """
    config = run.config
    account = config.backtest.model_dump(mode="json")
    order = {Path(name).stem: position for position, name in enumerate(config.strategies)}
    found: dict[str, StrategyReport] = {}
    damaged = []
    for path in sorted(run.folder.glob("backtests/*/metrics.json"), key=lambda path: path.stat().st_mtime_ns):
        try:
            described = read_json(path, fix="")
            if described["account"] != account:
                continue
            equity = read_parquet(path.parent / "equity.parquet", fix="")
            found[f"{described['strategy']} {sorted(described['params'].items())}"] = StrategyReport(
                name=described["strategy"],
                params=described["params"],
                equity=equity["equity"],
                benchmark=equity["buy_and_hold"],
                metrics=described["metrics"],
                benchmark_metrics=described["buy_and_hold"],
            )
        except (DataError, KeyError, TypeError) as error:
            damaged.append(f"The backtest in {path.parent.name} cannot be read and is left out: {error}")
    ordered = sorted(found.items(), key=lambda item: (order.get(item[1].name, len(order)), item[0]))
    return [backtest for _, backtest in ordered], damaged


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

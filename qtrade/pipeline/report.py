"""The third story: tell what happened."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from qtrade.backtest.engine import simulate
from qtrade.backtest.metrics import metrics
from qtrade.data.cache import Cache
from qtrade.evaluation.verdict import verdict
from qtrade.files import write_json
from qtrade.pipeline.backtest import tested_bars
from qtrade.pipeline.evaluate import model_skills, seed_mean_with_actual
from qtrade.pipeline.market import run_bars
from qtrade.report.page import ReportInput, StrategyReport, write_report
from qtrade.runs import Run, check_run, read_history
from qtrade.strategy import decide, load_strategy, strategy_folders
from qtrade.types import Bars, Forecasts


def report_run(run: Run, *, cache: Cache) -> Path:
    """Write ``report.html`` and ``metrics.json`` of a trained run and return the report's path."""
    check_run(run)
    config = run.config
    bars = run_bars(run, cache)
    manifest = run.manifest
    forecasts, actual = seed_mean_with_actual(*run.forecasts(config.model))
    skills = model_skills(run, bars)
    conclusion = verdict(skills[config.model])
    backtests = _read_backtests(run, bars, forecasts)
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
            skill=skills,
            forecasts=forecasts,
            actual=actual,
            costs=costs,
            backtests=tuple(backtests),
            folds=_fold_table(run),
            config_toml=(run.folder / "config.toml").read_text(encoding="utf-8"),
            commands=(f"qtrade run --config {run.folder / 'config.toml'}",),
            notes=tuple(manifest["notes"]),
        ),
        path,
    )
    write_json(
        run.folder / "metrics.json",
        {
            "verdict": asdict(conclusion),
            "skill": {model: [one.to_dict() for one in values] for model, values in skills.items()},
            "backtests": [{"name": one.name, "params": dict(one.params), **dict(one.metrics)} for one in backtests],
            "buy_and_hold": dict(backtests[0].benchmark_metrics) if backtests else None,
        },
    )
    return path


def _read_backtests(run: Run, bars: Bars, forecasts: Forecasts) -> list[StrategyReport]:
    """Read the backtests of a run, with buy-and-hold over the same bars beside each."""
    config = run.config
    span = tested_bars(bars, forecasts, config.backtest.delay)
    hold = load_strategy("buy_and_hold", {}, strategy_folders())
    benchmark = simulate(span, decide(hold, span, forecasts), config.backtest)
    benchmark_metrics = metrics(benchmark, bars.periods_per_year).to_dict()
    found = []
    for path in sorted(run.folder.glob("backtests/*/metrics.json")):
        described = json.loads(path.read_text(encoding="utf-8"))
        found.append(
            StrategyReport(
                name=described["strategy"],
                params=described["params"],
                equity=pd.read_parquet(path.parent / "equity.parquet")["equity"],
                benchmark=benchmark.equity,
                metrics=described["metrics"],
                benchmark_metrics=benchmark_metrics,
            )
        )
    return found


def _fold_table(run: Run) -> pd.DataFrame:
    """One row per fold and seed of the run's model, for the report."""
    manifest, config = run.manifest, run.config
    rows = []
    for fold in manifest["folds"]:
        for replicate in range(config.replicates if config.model == "informer" else 1):
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

"""The report: plain values in, one HTML file out, which needs nothing else: no network, no folder beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from qtrade.evaluation.by_regime import ENOUGH
from qtrade.evaluation.result import Evaluation
from qtrade.evaluation.skill import MIN_LABELS, HorizonSkill
from qtrade.evaluation.verdict import Verdict
from qtrade.files import write_text
from qtrade.forecasts import Forecasts
from qtrade.report import backtests, caveat, caveat_market, figures
from qtrade.report.backtests import StrategyReport
from qtrade.report.environment import environment
from qtrade.report.examples import examples, over_time
from qtrade.report.glossary import Glossary
from qtrade.report.skill_tables import correlation_cell, error_table, model_table, r2_cell, sign_table
from qtrade.report.text import Cell, Table, ahead, number, period, several, stamp
from qtrade.types import Bars, Float64Array

# Names of the columns of the fold table that the pipeline fills; any other column keeps its own.
FOLD_COLUMNS: Mapping[str, str] = {
    "number": "Fold",
    "train_start": "Trained from",
    "train_end": "until",
    "test_start": "Tested from",
    "test_end": "until",
    "origins": "Test origins",
    "epochs": "Epochs",
    "best_validation_loss": "Best validation loss",
    "seconds": "Seconds",
    "constant_columns": "Constant features",
}


@dataclass(frozen=True, eq=False)
class ReportInput:
    """Everything a report tells, as plain values.

    Attributes
    ----------
    title, run_name
        Heading, and the name of the run folder.
    generated
        UTC stamp to print; passed in, so that the same input gives the same file.
    source
        Where the bars came from.
    bars
        All bars of the run.
    data_hash
        Fingerprint of the bars.
    model
        Name of the main model, a key of `skill`.
    verdict
        Of the run.
    evaluation
        Everything that was found.
    skill
        Skill per horizon of each model that forecast the same origins.
    forecasts, actual
        Seed-mean forecasts of the main model, and the (N, H) log returns that happened; NaN where not known yet.
    costs
        What a trade was assumed to cost and when it was filled, in words.
    backtests
        Strategies on these forecasts, the most important first.
    folds
        One row per fold, with the columns of `FOLD_COLUMNS` and any others.
    config_toml
        Resolved configuration.
    commands
        What to type to get this report again.
    notes
        What happened to the data on the way, such as features dropped.
    delay
        Bars between an origin's close and the close its path starts from: the forecast of origin t is of the returns
        of bars t + 1 + delay to t + H + delay.
    size
        Of the main model, in words.
    trials
        Strategies and variants tried on this market so far, by the ledger; None where there is no ledger.
    comparison
        What `qtrade.backtest.comparison.Comparison.to_dict` says of the backtests, by their `spec`; None if they were
        not compared.
    """

    title: str
    run_name: str
    generated: str
    source: str
    bars: Bars
    data_hash: str
    model: str
    verdict: Verdict
    evaluation: Evaluation
    skill: Mapping[str, tuple[HorizonSkill, ...]]
    forecasts: Forecasts
    actual: Float64Array
    costs: str
    backtests: tuple[StrategyReport, ...]
    folds: pd.DataFrame
    config_toml: str
    commands: tuple[str, ...]
    notes: tuple[str, ...] = ()
    delay: int = 0
    size: str = ""
    trials: int | None = None
    comparison: Mapping[str, Any] | None = None


def write_invalid(path: Path, run_name: str, evaluation: Mapping[str, Any]) -> None:
    """Write the report of a run that used the future: that it did, where, and nothing else."""
    page = environment().get_template("invalid.html")
    write_text(path, page.render(run_name=run_name, violations=evaluation["gates"][0]["reasons"]))


def write_report(report: ReportInput, path: Path) -> None:
    """Render a report and write it atomically."""
    write_text(path, render(report))


def render(report: ReportInput) -> str:
    """Render a report as one HTML document. Names and texts from outside are escaped; only figures are markup."""
    skill = report.skill[report.model]
    found = report.evaluation
    starts = pd.DatetimeIndex(report.folds.drop_duplicates("number")["test_start"])
    shown = (report.forecasts, report.actual, report.bars, report.delay)
    return (
        environment()
        .get_template("template.html")
        .render(
            report=report,
            terms=Glossary(),
            symbols=several(report.bars.symbols),
            period=period(report.bars.index),
            test_period=period(report.forecasts.origin),
            card=caveat.card(found),
            tiles=_tiles(report),
            protocol=caveat.protocol(found, report.folds, report.forecasts, report.delay),
            optimism=caveat.optimism(found),
            skill_figures=[Markup(figures.skill_r2(skill)), Markup(figures.skill_ic(skill))] if skill else [],
            error_table=error_table(report.model, skill),
            sign_table=sign_table(report.model, skill, found.distribution),
            model_table=model_table(report.model, report.skill) if len(report.skill) > 1 else None,
            min_labels=MIN_LABELS,
            examples=examples(*shown),
            paths=over_time(*shown),
            has_bands=bool(report.forecasts.residuals),
            transfer=caveat.transfer(found, list(starts)),
            lasting=caveat.lasting(found),
            regimes=caveat_market.regimes(found),
            enough=ENOUGH,
            shift=caveat_market.shift(found),
            intervals=caveat_market.intervals(found, report.forecasts.origin.min()),
            trading=backtests.trading(report.backtests, starts, found, report.comparison),
            fold_table=_fold_table(report.folds),
            limits=caveat.limits(skill, f"{report.bars.index[-1]:%Y-%m-%d}"),
        )
    )


def _tiles(report: ReportInput) -> list[tuple[str, Cell]]:
    """Key numbers: skill at the horizon that decided, or else the longest; then the first strategy and buy-and-hold."""
    tiles: list[tuple[str, Cell]] = []
    skill = {one.horizon: one for one in report.skill[report.model]}
    if skill:
        shown = skill[report.verdict.horizon or max(skill)]
        horizon = ahead(shown.horizon)
        tiles.append((f"R² vs best naive, {horizon}", r2_cell(shown.vs_best)))
        tiles.append((f"Correlation (IC), {horizon}", correlation_cell(shown.correlation)))
        visible = Cell(
            number(shown.detectable_ic, "ratio"), f"as good as {number(shown.n_eff, 'count')} independent forecasts"
        )
        tiles.append((f"Smallest visible IC, {horizon}", visible))
    return tiles + backtests.tiles(report.backtests)


def _fold_table(folds: pd.DataFrame) -> Table:
    """Tabulate the folds; files count them from 0, readers from 1."""
    if "number" in folds:
        folds = folds.assign(number=folds["number"] + 1)
    return Table(
        caption="Walk-forward folds",
        columns=tuple(FOLD_COLUMNS.get(str(name), str(name)) for name in folds.columns),
        rows=tuple(tuple(_value_cell(value) for value in row) for row in folds.itertuples(index=False, name=None)),
    )


def _value_cell(value: object) -> Cell:
    if isinstance(value, pd.Timestamp):
        return Cell(stamp(value))
    if isinstance(value, float | np.floating):
        return Cell(number(float(value), "plain"))
    return Cell(str(value))

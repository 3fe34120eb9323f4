"""The report: plain values in, one HTML file out, which needs no network and runs no script."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from qtrade.evaluation.by_regime import ENOUGH
from qtrade.evaluation.distribution import QUANTILES, HorizonDistribution
from qtrade.evaluation.result import Evaluation
from qtrade.evaluation.scores import Comparison, Correlation
from qtrade.evaluation.skill import LEVEL, MIN_LABELS, HorizonSkill
from qtrade.evaluation.verdict import Verdict
from qtrade.files import write_text
from qtrade.forecasts import Forecasts
from qtrade.report import backtests, caveat, figures
from qtrade.report.backtests import StrategyReport
from qtrade.report.text import UNKNOWN, Cell, Table, Tone, ahead, interval, number, p_value, period, points, stamp
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

# Ranks of the forecasts shown, as the share of all forecasts that came closer.
_EXAMPLES = (("A good one", 0.1), ("A typical one", 0.5), ("A bad one", 0.9))


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
    comparison: Mapping[str, Any] | None = None


def write_invalid(path: Path, run_name: str, evaluation: Mapping[str, Any]) -> None:
    """Write the report of a run that used the future: that it did, where, and nothing else."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.files(__package__).joinpath("invalid.html").read_text("utf-8"))
    write_text(path, template.render(run_name=run_name, violations=evaluation["gates"][0]["reasons"]))


def write_report(report: ReportInput, path: Path) -> None:
    """Render a report and write it atomically."""
    write_text(path, render(report))


def render(report: ReportInput) -> str:
    """Render a report as one HTML document. Names and texts from outside are escaped; only figures are markup."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.files(__package__).joinpath("template.html").read_text("utf-8"))
    skill = report.skill[report.model]
    found = report.evaluation
    starts = pd.DatetimeIndex(report.folds.drop_duplicates("number")["test_start"])
    return template.render(
        report=report,
        period=period(report.bars.index),
        test_period=period(report.forecasts.origin),
        last_bar=f"{report.bars.index[-1]:%Y-%m-%d}",
        card=caveat.card(found),
        tiles=_tiles(report),
        protocol=caveat.protocol(found, report.folds, report.forecasts, report.delay),
        optimism=caveat.optimism(found),
        skill_figures=[Markup(figures.skill_r2(skill)), Markup(figures.skill_ic(skill))] if skill else [],
        error_table=_error_table(report.model, skill),
        sign_table=_sign_table(report.model, skill, found.distribution),
        model_table=_model_table(report) if len(report.skill) > 1 else None,
        min_labels=MIN_LABELS,
        fans=_fans(report),
        has_bands=bool(report.forecasts.residuals),
        transfer=caveat.transfer(found, list(starts)),
        lasting=caveat.lasting(found),
        regimes=caveat.regimes(found),
        enough=ENOUGH,
        shift=caveat.shift(found),
        intervals=caveat.intervals(found, report.forecasts.origin.min()),
        trading=backtests.trading(report.backtests, starts, found, report.comparison),
        fold_table=_fold_table(report.folds),
        power=caveat.power(skill),
    )


def _tiles(report: ReportInput) -> list[tuple[str, Cell]]:
    """Key numbers: skill at the horizon that decided, or else the longest; then the first strategy and buy-and-hold."""
    tiles: list[tuple[str, Cell]] = []
    skill = {one.horizon: one for one in report.skill[report.model]}
    if skill:
        shown = skill[report.verdict.horizon or max(skill)]
        horizon = ahead(shown.horizon)
        tiles.append((f"R² vs best naive, {horizon}", _r2_cell(shown.vs_best)))
        tiles.append((f"Correlation (IC), {horizon}", _correlation_cell(shown.correlation)))
        visible = Cell(number(shown.detectable_ic, "ratio"), f"{number(shown.n_eff, 'count')} independent forecasts")
        tiles.append((f"Smallest visible IC, {horizon}", visible))
    return tiles + backtests.tiles(report.backtests)


def _error_table(model: str, skill: tuple[HorizonSkill, ...]) -> Table:
    return Table(
        caption=f"Errors of {model} on cumulative log returns, out of sample",
        columns=(
            "Bars ahead, answer",
            "Test origins",
            "R² vs no change",
            "R² vs drift",
            "R² vs no change, scaled",
            "R² vs drift, scaled",
            "MAE",
            "RMSE",
        ),
        rows=tuple(
            (
                Cell(str(one.horizon), one.answer),
                Cell(number(one.origins, "count"), f"worth {number(one.n_eff, 'count')}"),
                _r2_cell(one.vs_zero),
                _r2_cell(one.vs_drift),
                _r2_cell(one.scaled.vs_zero) if one.scaled else Cell(UNKNOWN),
                _r2_cell(one.scaled.vs_drift) if one.scaled else Cell(UNKNOWN),
                _error_cell(one.mae, one.naive_mae, "MASE", one.mase),
                _error_cell(one.rmse, one.naive_rmse, "RMSSE", one.rmsse),
            )
            for one in skill
        ),
    )


def _sign_table(model: str, skill: tuple[HorizonSkill, ...], distribution: tuple[HorizonDistribution, ...]) -> Table:
    spread = {one.horizon: one for one in distribution}
    levels = ", ".join(f"{100 * q:.0f}%" for q in QUANTILES)
    return Table(
        caption=f"Direction and distribution of {model}, out of sample",
        columns=(
            "Bars ahead",
            "IC",
            "Rank IC",
            "IC, scaled",
            "Smallest visible IC",
            "Right direction",
            "Better than luck by",
            "CRPS skill",
            f"Pinball loss in %, at {levels}",
            "In 80% interval",
        ),
        rows=tuple(
            (
                Cell(str(one.horizon)),
                _correlation_cell(one.correlation),
                _rank_cell(one.correlation),
                _correlation_cell(one.scaled.correlation) if one.scaled else Cell(UNKNOWN),
                Cell(number(one.detectable_ic, "ratio")),
                _hits_cell(one),
                _luck_cell(one),
                *_spread_cells(spread.get(one.horizon)),
                Cell(number(one.coverage80, "percent", 1)),
            )
            for one in skill
        ),
    )


def _error_cell(error: float, naive: float, name: str, ratio: float | None) -> Cell:
    note = f"naive {number(naive, 'percent', 3)}"
    return Cell(number(error, "percent", 3), note if ratio is None else f"{note}\n{name} {number(ratio, 'ratio')}")


def _rank_cell(found: Correlation | None) -> Cell:
    if found is None:
        return Cell(UNKNOWN)
    bounds = interval(found.rank_low, found.rank_high, "signed")
    known = not math.isnan(found.rank_p)
    return Cell(number(found.rank, "signed", 3), f"{bounds}\n{p_value(found.rank_p)}" if known else "")


def _hits_cell(one: HorizonSkill) -> Cell:
    always = f"always up {number(one.up_share, 'percent', 1)}"
    luck = f"luck {number(one.direction.luck, 'percent', 1)}\n" if one.direction else ""
    return Cell(number(one.right_direction, "percent", 1), luck + always)


def _luck_cell(one: HorizonSkill) -> Cell:
    found = one.direction
    if found is None:
        return Cell(UNKNOWN)
    tone: Tone = "" if found.p_holm >= LEVEL else "good" if found.edge > 0 else "bad"
    bounds = interval(100 * found.low, 100 * found.high, "signed", 1)
    return Cell(points(found.edge), f"{bounds}\n{p_value(found.p_holm)}", tone)


def _spread_cells(one: HorizonDistribution | None) -> tuple[Cell, Cell]:
    if one is None:
        return Cell(UNKNOWN), Cell(UNKNOWN)
    low, high = one.crps_skill_low, one.crps_skill_high
    tone: Tone = "good" if low > 0 else "bad" if high < 0 else ""
    own, naive = (
        ", ".join(number(100 * loss, "ratio") for loss in losses) for losses in (one.pinball, one.naive_pinball)
    )
    crps = Cell(number(one.crps_skill, "signed_percent", 2), interval(low, high, "signed_percent", 1), tone)
    return crps, Cell(own, f"naive\n{naive}")


def _model_table(report: ReportInput) -> Table:
    """R² of every model against no change, and its IC, per horizon; the main model first."""
    names = [report.model, *sorted(set(report.skill) - {report.model})]
    horizons = [one.horizon for one in report.skill[report.model]]
    rows = []
    for name in names:
        mine = {one.horizon: one for one in report.skill[name]}
        rows.append((Cell(name), *(_brief_cell(mine[one]) if one in mine else Cell(UNKNOWN) for one in horizons)))
    return Table(
        caption="All models of this run on the same origins: R² vs no change, with the IC below it",
        columns=("Model", *map(ahead, horizons)),
        rows=tuple(rows),
    )


def _fold_table(folds: pd.DataFrame) -> Table:
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


def _r2_cell(comparison: Comparison) -> Cell:
    tone: Tone = "" if comparison.p_holm >= LEVEL else "good" if comparison.r2 > 0 else "bad"
    bounds = interval(comparison.r2_low, comparison.r2_high, "signed_percent", 1)
    return Cell(number(comparison.r2, "signed_percent", 2), f"{bounds}\n{p_value(comparison.p_holm)}", tone)


def _correlation_cell(ic: Correlation | None) -> Cell:
    if ic is None:
        return Cell(UNKNOWN, "forecasts never vary")
    tone: Tone = "" if ic.p >= LEVEL else "good" if ic.ic > 0 else "bad"
    return Cell(number(ic.ic, "signed", 3), f"{interval(ic.low, ic.high, 'signed')}\n{p_value(ic.p)}", tone)


def _brief_cell(one: HorizonSkill) -> Cell:
    ic = number(one.correlation.ic if one.correlation else None, "signed", 3)
    r2 = _r2_cell(one.vs_zero)
    return Cell(r2.text, f"IC {ic}", r2.tone)


def _fans(report: ReportInput) -> list[dict[str, object]]:
    """Draw the forecasts that rank at `_EXAMPLES` by the root mean squared error of their cumulative path."""
    forecasts, bars = report.forecasts, report.bars
    error = np.sqrt(np.mean((np.cumsum(report.actual, axis=1) - forecasts.cumulative()) ** 2, axis=1))
    known = np.nonzero(np.isfinite(error))[0]
    if len(known) == 0:
        return []
    # A stable sort gives ties, which a market that stands still has, one order.
    ranked = known[np.argsort(error[known], kind="stable")]
    fans: list[dict[str, object]] = []
    for position, (label, share) in enumerate(_EXAMPLES):
        row = int(ranked[round(share * (len(ranked) - 1))])
        symbol, origin = str(forecasts.symbol[row]), forecasts.origin[row]
        chosen = np.arange(len(forecasts)) == row
        bar = bars.index.searchsorted(origin)
        first, last = max(0, bar + 1 - 2 * forecasts.horizon), bar + report.delay
        closes = bars.close[symbol].to_numpy(dtype=np.float64)[first : last + 1]
        drawn = figures.fan(forecasts.where(chosen), report.actual[row], closes, f"fan{position}", delay=report.delay)
        closer = f"{share:.0%} of all forecasts came closer"
        fans.append({"label": label, "where": f"{symbol}, {stamp(origin)}: {closer}", "figure": Markup(drawn)})
    return fans

"""Skill in the report: errors, direction and distribution of the forecasts per horizon, and all models side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping

from qtrade.evaluation.distribution import QUANTILES, HorizonDistribution
from qtrade.evaluation.scores import Comparison, Correlation
from qtrade.evaluation.skill import LEVEL, HorizonSkill
from qtrade.report.text import UNKNOWN, Cell, Table, Tone, ahead, interval, number, p_value


def error_table(model: str, skill: tuple[HorizonSkill, ...]) -> Table:
    """Tabulate R² and errors per horizon."""
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
                Cell(number(one.origins, "count"), f"as good as {number(one.n_eff, 'count')}"),
                r2_cell(one.vs_zero),
                r2_cell(one.vs_drift),
                r2_cell(one.scaled.vs_zero) if one.scaled else Cell(UNKNOWN),
                r2_cell(one.scaled.vs_drift) if one.scaled else Cell(UNKNOWN),
                _error_cell(one.mae, one.naive_mae, "MASE", one.mase),
                _error_cell(one.rmse, one.naive_rmse, "RMSSE", one.rmsse),
            )
            for one in skill
        ),
    )


def sign_table(model: str, skill: tuple[HorizonSkill, ...], distribution: tuple[HorizonDistribution, ...]) -> Table:
    """Tabulate correlation, direction and distribution per horizon."""
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
            "Better than luck by, points",
            "CRPS skill",
            f"Pinball loss in %, at {levels}",
            "In 80% interval",
        ),
        rows=tuple(
            (
                Cell(str(one.horizon)),
                correlation_cell(one.correlation),
                _rank_cell(one.correlation),
                correlation_cell(one.scaled.correlation) if one.scaled else Cell(UNKNOWN),
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
    return Cell(number(100 * found.edge, "signed", 1), f"{bounds}\n{p_value(found.p_holm)}", tone)


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


def model_table(main: str, skill: Mapping[str, tuple[HorizonSkill, ...]]) -> Table:
    """R² of every model against no change, and its IC, per horizon; the main model first."""
    names = [main, *sorted(set(skill) - {main})]
    horizons = [one.horizon for one in skill[main]]
    rows = []
    for name in names:
        mine = {one.horizon: one for one in skill[name]}
        rows.append((Cell(name), *(_brief_cell(mine[one]) if one in mine else Cell(UNKNOWN) for one in horizons)))
    return Table(
        caption="All models of this run on the same origins: R² vs no change, with the IC below it",
        columns=("Model", *map(ahead, horizons)),
        rows=tuple(rows),
    )


def r2_cell(comparison: Comparison) -> Cell:
    """Write an R² in % with its 95% interval, with more decimals where both would look like nothing."""
    tone: Tone = "" if comparison.p_holm >= LEVEL else "good" if comparison.r2 > 0 else "bad"
    reach = max(abs(comparison.r2_low), abs(comparison.r2_high))
    digits = 1 if not reach < 0.005 else 2 if reach >= 0.0005 else 3
    bounds = interval(comparison.r2_low, comparison.r2_high, "signed_percent", digits)
    return Cell(number(comparison.r2, "signed_percent", digits + 1), f"{bounds}\n{p_value(comparison.p_holm)}", tone)


def correlation_cell(ic: Correlation | None) -> Cell:
    """Write an IC with its 95% interval."""
    if ic is None:
        return Cell(UNKNOWN, "forecasts never vary")
    tone: Tone = "" if ic.p >= LEVEL else "good" if ic.ic > 0 else "bad"
    return Cell(number(ic.ic, "signed", 3), f"{interval(ic.low, ic.high, 'signed')}\n{p_value(ic.p)}", tone)


def _brief_cell(one: HorizonSkill) -> Cell:
    ic = number(one.correlation.ic if one.correlation else None, "signed", 3)
    r2 = r2_cell(one.vs_zero)
    return Cell(r2.text, f"IC {ic}", r2.tone)

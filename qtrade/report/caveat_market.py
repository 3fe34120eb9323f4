"""The market in the report: in which regimes forecasts were worth something, and whether features and errors moved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from qtrade.evaluation.blocks import STATISTICS
from qtrade.evaluation.by_regime import RegimeSkill
from qtrade.evaluation.coverage import Coverage
from qtrade.evaluation.result import Evaluation, RegimeStudy
from qtrade.evaluation.shift import JOINT, FeatureShift
from qtrade.evaluation.transfer import LEAST_ORIGINS
from qtrade.evaluation.within import Interval
from qtrade.report import caveat_figures as figures
from qtrade.report.caveat import TONES
from qtrade.report.text import (
    UNKNOWN,
    Cell,
    HeatCell,
    HeatMap,
    Table,
    Tone,
    ahead,
    decimals,
    interval,
    number,
    p_value,
    reach,
    shade,
)

# Change of a share of bars that gets the deepest shade.
_CHANGED = 0.3
_ANSWERS: Mapping[str, tuple[str, Tone]] = {
    "PASS": ("as in training", ""),
    "WARN": ("flagged", "open"),
    "cannot tell": ("cannot tell", "faint"),
}
_STATISTICS: Mapping[str, str] = {
    "ks": "Largest gap (KS)",
    "wasserstein_sd": "Way to move (Wasserstein)",
    "psi": "PSI",
    "auc": "Told apart (AUC)",
}
# Ways to tell regimes apart, by their names in files.
_STUDIES: Mapping[str, str] = {
    "volatility x trend": "volatility \N{MULTIPLICATION SIGN} trend",
    "markov": "state of a Markov model",
}
_METHODS: Mapping[str, tuple[str, str]] = {
    "split": ("split", "the first validation errors, for ever"),
    "refit": ("refit", "the validation errors of the model in use"),
    "aci": ("ACI", "wider after a miss, narrower after a hit"),
    "nexcp": ("NexCP", "recent errors count more"),
}


def regimes(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Tell what forecasts and trades were worth in each regime, study by study."""
    return [_study(study) for study in evaluation.regimes]


def shift(evaluation: Evaluation) -> dict[str, Any]:
    """Tell which features no longer look as they did in training."""
    found = evaluation.shift
    names = [one.name for one in found.per_fold[-1]] if found.per_fold else []
    folds = [{one.name: one for one in fold} for fold in found.per_fold]
    levels = {one.name for one in found.unit_roots if one.level}
    rows = {name: _feature_row(name, [fold[name] for fold in folds if name in fold], levels) for name in names}
    shares = {name: share for name, share in found.summary.flagged_share.items() if share > 0}
    picked = [name for name in names if name in shares or name in levels]
    often = sorted(picked, key=lambda name: (name not in levels, -shares.get(name, 0.0)))
    often = often[: max(8, len(levels))]
    gate = next(gate for gate in evaluation.gates if gate.code == "G6")
    columns = (
        "Feature",
        "Periods flagged",
        "In the last one",
        *(f"{_STATISTICS[name]}, rank" for name in STATISTICS),
        "Memory, bar to bar",
        "Price level?",
    )
    return {
        "grade": gate.grade,
        "tone": TONES[gate.grade],
        "answer": {"PASS": "No", "WARN": "Yes"}.get(found.summary.answer, "That cannot be told"),
        "tested": bool(found.unit_roots),
        "reason": found.summary.reason,
        "p": None if math.isnan(found.summary.p) else p_value(found.summary.p),
        "levels": [one.reason for one in found.unit_roots if one.level],
        "often": Table("Price levels, and what was flagged most often", columns, tuple(rows[name] for name in often))
        if often
        else None,
        "all": Table("All features", columns, tuple(rows[name] for name in names)) if names else None,
    }


def intervals(evaluation: Evaluation, first_origin: pd.Timestamp) -> dict[str, Any] | None:
    """Draw coverage over time; tell it per horizon and per regime. None where no interval was measured."""
    found = evaluation.intervals
    if not found:
        return None
    wanted = evaluation.regimes[0].horizon if evaluation.regimes else min(found)
    horizon = wanted if wanted in found else min(found)
    methods = found[horizon]
    rows = len(next(iter(methods.values())).rolling)
    start = int(evaluation.index.searchsorted(first_origin))
    stamps = evaluation.index[start : start + rows]
    level = next(iter(methods.values())).level
    covered = {(one.method, one.regime): one for one in evaluation.interval_coverage}
    labels = list(dict.fromkeys(one.regime for one in evaluation.interval_coverage))
    drawn = any(np.isfinite(one.rolling).any() for one in methods.values())
    by_regime = []
    for label in labels:
        cells = [covered.get((method, label)) for method in methods]
        enough = any(one is not None and one.enough for one in cells)
        by_regime.append(
            (
                Cell(label, tone="" if enough else "faint"),
                *(
                    Cell(UNKNOWN, tone="faint")
                    if one is None
                    else _coverage_cell(one.share, one.low, one.high, level, enough=one.enough)
                    for one in cells
                ),
            )
        )
    return {
        "horizon": ahead(horizon),
        "level": number(level, "percent", 0),
        "stretch": next(iter(methods.values())).stretch,
        "wide": Markup(figures.coverage(methods, stamps, "coveragewide")) if drawn else None,
        "narrow": Markup(figures.coverage(methods, stamps, "coveragenarrow", narrow=True)) if drawn else None,
        "methods": [_METHODS[method] for method in methods],
        "table": Table(
            f"Intervals that promise {number(level, 'percent', 0)}, per horizon and method",
            ("Bars ahead, method", "Held", "Median width", "Infinite", "Worst stretch"),
            tuple(_coverage_row(bars, one, stamps) for bars, kinds in found.items() for one in kinds.values()),
        ),
        "regimes": Table(
            f"Share held in each regime, {ahead(horizon)}",
            ("Regime", *(_METHODS[method][0] for method in methods)),
            tuple(by_regime),
        )
        if by_regime
        else None,
    }


def _study(study: RegimeStudy) -> dict[str, Any]:
    traded = any(one.trading_bars is not None for one in study.skill)
    columns = ["Regime", "Share of training", "Share of test", "Independent forecasts", "R² vs no change", "IC"]
    columns += ["Right direction", "In 80% interval", *(("Sharpe ratio, net", "Exposure") if traded else ())]
    most = reach(study.heatmap.r2)
    folds = figures.evenly(len(study.heatmap.folds), figures.MOST_CELLS)
    name = _STUDIES.get(study.name, study.name)
    return {
        "name": name,
        "horizon": ahead(study.horizon),
        "novelty": None if study.novelty is None else number(study.novelty, "percent", 1),
        "table": Table(
            f"{name[:1].upper()}{name[1:]}: forecasts {ahead(study.horizon)}{' and trades' if traded else ''}, "
            "regime by regime",
            tuple(columns),
            tuple(_regime_row(one, traded) for one in study.skill),
        ),
        "mix": _mix(study, name),
        "map": HeatMap(
            caption=f"R² in % against no change, {ahead(study.horizon)}: folds down, {name} across",
            corner="Fold",
            columns=study.heatmap.labels,
            rows=tuple(
                (
                    str(study.heatmap.folds[fold] + 1),
                    tuple(
                        HeatCell(
                            number(100 * float(value), "signed", decimals(most)),
                            f"{number(origins, 'count')} origins" if np.isfinite(value) else "",
                            shade(float(value), most),
                        )
                        for value, origins in zip(study.heatmap.r2[fold], study.heatmap.origins[fold], strict=True)
                    ),
                )
                for fold in folds
            ),
        ),
        "refused": sorted(set(study.regimes.refused.values())),
    }


def _regime_row(one: RegimeSkill, traded: bool) -> tuple[Cell, ...]:
    faint: Tone = "" if one.enough else "faint"
    cells = [
        Cell(one.label, "" if one.enough else "too few to say"),
        Cell(number(one.train_share, "percent", 1)),
        Cell(number(one.test_share, "percent", 1), f"{number(one.forecasts, 'count')} forecasts"),
        Cell(number(one.n_eff, "count")),
        *(
            [
                _interval_cell(one.r2, "signed_percent", 1),
                _interval_cell(one.ic, "signed", 2),
                Cell(number(one.right_direction, "percent", 1)),
                Cell(number(one.coverage80, "percent", 1)),
            ]
            if one.forecasts >= LEAST_ORIGINS
            # A handful of forecasts may well have an IC of one, or of minus one.
            else [Cell(UNKNOWN)] * 4
        ),
    ]
    if traded:
        cells += [_interval_cell(one.sharpe, "ratio", 2), Cell(number(one.exposure, "percent", 0))]
    return tuple(Cell(cell.text, cell.note, faint or cell.tone) for cell in cells)


def _interval_cell(found: Interval | None, kind: Any, digits: int) -> Cell:
    if found is None:
        return Cell(UNKNOWN)
    if found.low is None or found.high is None:
        return Cell(number(found.value, kind, digits), "no interval")
    tone: Tone = "good" if found.low > 0 else "bad" if found.high < 0 else ""
    return Cell(number(found.value, kind, digits), interval(found.low, found.high, kind, digits), tone)


def _mix(study: RegimeStudy, name: str) -> HeatMap:
    """Put training and test side by side in each cell, shaded by what became of it."""
    mix = study.mix
    before = np.column_stack([mix.train_share, mix.train_transitions])
    after = np.column_stack([mix.test_share, mix.test_transitions])
    return HeatMap(
        caption=f"Share of bars, and of the {name} one bar later, in %: first training \N{RIGHTWARDS ARROW} test",
        corner="Regime",
        columns=("share of bars", *(f"then {label}" for label in mix.labels)),
        rows=tuple(
            (
                label,
                tuple(
                    HeatCell(
                        f"{number(100 * was, 'ratio', 1)} \N{RIGHTWARDS ARROW} {number(100 * became, 'ratio', 1)}",
                        level=shade(became - was, _CHANGED),
                        outlined=column == row + 1,
                    )
                    for column, (was, became) in enumerate(zip(before[row].tolist(), after[row].tolist(), strict=True))
                ),
            )
            for row, label in enumerate(mix.labels)
        ),
    )


def _feature_row(name: str, folds: Sequence[FeatureShift], levels: set[str]) -> tuple[Cell, ...]:
    judged = [one for one in folds if one.answer != "cannot tell"]
    flagged = sum(one.answer == "WARN" for one in judged)
    last = folds[-1]
    answer, tone = _ANSWERS[last.answer]
    share = f"{flagged} of {len(judged)}" if judged else "cannot tell"
    p = p_value(float(np.median(last.p))) if len(last.p) and last.answer != "cannot tell" else ""
    return (
        Cell("all together" if name == JOINT else name),
        Cell(share, number(flagged / len(judged), "percent", 0) if judged else "", "" if judged else "faint"),
        Cell(answer, p, tone),
        *(Cell(_rank(last, column)) for column in range(len(STATISTICS))),
        Cell(number(last.phi, "ratio", 2)),
        Cell("yes", "refused", "open") if name in levels else Cell("no" if name != JOINT else UNKNOWN),
    )


def _rank(one: FeatureShift, column: int) -> str:
    """Share of training's blocks that differ less from the rest of training than the last test period does."""
    ranks = one.ranks[:, column] if len(one.ranks) else np.zeros(0)
    return number(float(np.median(ranks)), "percent", 0) if np.isfinite(ranks).any() else UNKNOWN


def _coverage_row(horizon: int, one: Coverage, stamps: pd.DatetimeIndex) -> tuple[Cell, ...]:
    worst = ""
    if one.worst_start >= 0:
        worst = f"{stamps[one.worst_start]:%Y-%m} to {stamps[one.worst_end]:%Y-%m}"
    return (
        Cell(f"{horizon}, {_METHODS[one.method][0]}"),
        _coverage_cell(one.share, one.low, one.high, one.level),
        Cell(number(one.median_width, "percent", 1)),
        Cell(number(one.infinite_share, "percent", 1)),
        Cell(number(one.worst, "percent", 0), worst),
    )


def _coverage_cell(share: float, low: float, high: float, level: float, *, enough: bool = True) -> Cell:
    tone: Tone = "faint" if not enough else "bad" if high < level else "good" if low <= level else ""
    return Cell(number(share, "percent", 1), interval(low, high, "percent", 0), tone)

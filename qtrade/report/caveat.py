"""The caveat in the report: texts, tables and figures of each section, from an `Evaluation`."""

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
from qtrade.evaluation.gates import Gate
from qtrade.evaluation.regimes import RegimeMix
from qtrade.evaluation.result import Evaluation, RegimeStudy
from qtrade.evaluation.shift import JOINT, FeatureShift
from qtrade.evaluation.skill import LEVEL, HorizonSkill
from qtrade.evaluation.trading import MIN_VARIANTS
from qtrade.evaluation.transfer import LEAST_ORIGINS, Difference, Skill
from qtrade.evaluation.within import Interval
from qtrade.forecasts import Forecasts
from qtrade.report import caveat_figures as figures
from qtrade.report.text import (
    UNKNOWN,
    Cell,
    HeatCell,
    HeatMap,
    Table,
    Tone,
    interval,
    number,
    p_value,
    points,
    shade,
)

TONES: Mapping[str, Tone] = {
    "PASS": "good",
    "FAIL": "bad",
    "INVALID": "bad",
    "WARN": "open",
    "INCONCLUSIVE": "open",
    "NOT MEASURED": "faint",
    "cannot tell": "faint",
}
# Told, but never part of the headline.
_ONLY_TOLD = ("G6", "G7")
# Which of two gates of the same grade says more.
_WEIGHT = ("G2", "G3", "G8", "G4", "G5", "G1", "G7", "G6", "G0")
_SEVERITY = ("INVALID", "FAIL", "INCONCLUSIVE", "WARN", "NOT MEASURED", "PASS")
_BULLETS = 3
# Rows and columns of a heat map; of more, so many are picked evenly.
_MOST_CELLS = 30
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
_METHODS: Mapping[str, tuple[str, str]] = {
    "split": ("split", "the first validation errors, for ever"),
    "refit": ("refit", "the validation errors of the model in use"),
    "aci": ("ACI", "wider after a miss, narrower after a hit"),
    "nexcp": ("NexCP", "recent errors count more"),
}


def card(evaluation: Evaluation) -> dict[str, Any]:
    """Pick the strongest reasons for the headline, and fold the others.

    Gates that decided come first, then the others by what they found. A reason that the sentence of the verdict
    already tells is not repeated.
    """
    verdict = evaluation.verdict

    def order(gate: Gate) -> tuple[bool, int, int]:
        decided = gate.grade == verdict.headline and gate.code not in _ONLY_TOLD
        return not decided, _SEVERITY.index(gate.grade), _WEIGHT.index(gate.code)

    told = verdict.line.lower()
    # Only the first reason of a gate is sure to be as grave as its grade.
    weighty = [gate for gate in sorted(evaluation.gates, key=order) if gate.grade != "NOT MEASURED"]
    bullets = [f"{gate.title}: {gate.reasons[0]}" for gate in weighty if gate.reasons[0].lower() not in told]
    shown = bullets[:_BULLETS]
    return {
        "tone": TONES[verdict.headline],
        "shown": shown,
        "folded": [reason for reason in verdict.reasons if reason not in shown and reason.lower() not in told],
        "gates": [
            {
                "code": gate.code,
                "title": gate.title,
                "grade": gate.grade,
                "tone": TONES[gate.grade],
                "first": gate.reasons[0],
                "others": gate.reasons[1:],
            }
            for gate in evaluation.gates
        ],
    }


def protocol(evaluation: Evaluation, folds: pd.DataFrame, forecasts: Forecasts, delay: int) -> dict[str, Any]:
    """Draw where each fold fitted, validated and was tested; the bars between are purged."""
    spans = figures.fold_spans(evaluation.index, folds, forecasts, delay)
    integrity = next(gate for gate in evaluation.gates if gate.code == "G0")
    return {
        "wide": Markup(figures.protocol(spans, "protocolwide")),
        "narrow": Markup(figures.protocol(spans, "protocolnarrow", narrow=True)),
        "picked": len(spans) > figures.MOST_FOLDS,
        "purged": forecasts.horizon + delay - 1,
        "sentence": integrity.reasons[0],
    }


def optimism(evaluation: Evaluation) -> dict[str, Any] | None:
    """Draw the waterfall and the ladder at their longest horizon; None where they were not measured."""
    found = evaluation.optimism
    if found is None:
        return None
    parts = []
    for name, title, between in (
        ("waterfall", "From flattering to honest", ("leakage", "shift", "staleness")),
        ("ladder", "What knowing the regime would be worth", ()),
    ):
        if not found[name]:
            continue
        scores = found[name][-1]
        rows = []
        for step in scores["steps"]:
            marks = [
                f"{rung} ({step['watermark']})" if rung == "shuffled" else str(rung)
                for rung in (step["upper"], step["lower"])
            ]
            bounds = interval(step["low95"] * 100, step["high95"] * 100, "signed", 1)
            rows.append(
                (
                    Cell(step["name"], " minus ".join(marks)),
                    Cell(points(step["r2_difference"]), f"{bounds}\n{p_value(step['p'])}"),
                )
            )
        horizon = scores["horizon_bars"]
        parts.append(
            {
                "title": f"{title}, {_ahead(horizon)}",
                "figure": Markup(figures.rungs(scores, name, f"{title}, {_ahead(horizon)}", between)),
                "table": Table(
                    caption=f"Differences on the same {number(scores['origins'], 'count')} test origins",
                    columns=("Difference", "R²"),
                    rows=tuple(rows),
                ),
            }
        )
    return {
        "model": found["model"],
        "sentence": found["gate"]["sentence"],
        "grade": found["gate"]["grade"],
        "tone": TONES[found["gate"]["grade"]],
        "parts": parts,
        "thinned": found["thinned"],
        "blocks": found["blocks"],
        "oracle_blocks": found["oracle_blocks"],
    }


def transfer(evaluation: Evaluation, starts: Sequence[pd.Timestamp]) -> dict[str, Any]:
    """Put the score of every model on every test period into a heat map, with the averages of its three parts."""
    matrix = evaluation.stability.matrix
    count = len(matrix.r2)
    names = [_month(start) for start in starts] if len(starts) == count else [f"fold {place}" for place in range(count)]
    shown = figures.evenly(count, _MOST_CELLS)
    reach = _reach(matrix.r2)
    rows = []
    for model in shown:
        cells = []
        for period in shown:
            value, error = float(matrix.r2[model, period]), float(matrix.error[model, period])
            note = "" if math.isnan(value) else f"±{number(100 * error, 'ratio', 1)}"
            text = number(100 * value, "signed", 1)
            cells.append(HeatCell(text, note, shade(value, reach), outlined=model == period))
        rows.append((names[model], tuple(cells)))
    parts = (
        ("Below: has seen the period", matrix.seen),
        ("Outlined: walking forward", matrix.honest),
        ("Above: stale", matrix.stale),
    )
    differences = (
        ("Optimism: has seen it, minus walking forward", matrix.optimism),
        ("Decay: walking forward, minus stale", matrix.decay),
    )
    return {
        "map": HeatMap(
            caption="R² in % against no change, with its standard error: models down, test periods across",
            corner="Trained until",
            columns=tuple(names[period] for period in shown),
            rows=tuple(rows),
        ),
        "picked": count > len(shown),
        "averages": Table(
            "Averages of the three parts, with standard errors",
            ("Model", "R²", "Origins"),
            tuple(_average_row(*part) for part in parts),
        ),
        "differences": Table(
            "Differences on equal origins", ("Difference", "R²"), tuple(map(_difference_row, differences))
        ),
        "stride": evaluation.stride,
        "symbols": evaluation.symbols,
        "horizons": evaluation.stability.horizons,
    }


def lasting(evaluation: Evaluation) -> dict[str, Any]:
    """Draw the staleness curve and the CUSUM; tell of the break, of recurrence, and of how often to retrain."""
    stability = evaluation.stability
    aged, change, recurrence = stability.staleness, stability.change, stability.recurrence
    found = stability.contributions
    drawn = None
    if change is not None and found is not None:
        drawn = Markup(figures.cusum(change, evaluation.index, int(found.bar[0]), evaluation.break_when, "cusum"))
    told = None
    if change is not None:
        turned = f"from {number(change.before, 'signed', 3)} to {number(change.after, 'signed', 3)}"
        told = (
            f"The link between the first model's forecasts and outcomes changed {turned}, {evaluation.break_when}: "
            f"{p_value(change.p)}."
            if change.p < LEVEL
            else f"No lasting change of the link between the first model's forecasts and outcomes is visible: "
            f"{p_value(change.p)}."
        )
    again = None
    if recurrence is not None:
        verb = "comes and goes" if recurrence.p < LEVEL else "does not visibly come and go"
        again = f"The link between forecasts and outcomes {verb}: {p_value(recurrence.p)}."
    return {
        "staleness": Markup(figures.staleness(aged, "staleness")) if aged.ages else None,
        "tested": _tested(evaluation),
        "half_life": _half_life(evaluation),
        "halved": aged.half_life_bars is not None,
        "cusum": drawn,
        "dated": change is not None and change.p < LEVEL,
        "break": told,
        "recurrence": again,
        "cadence": _cadence(evaluation.cadence),
        "why": evaluation.cadence["why"],
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
    often = sorted((name for name in names if name in shares), key=lambda name: -shares[name])[:8]
    columns = (
        "Feature",
        "Periods flagged",
        "In the last one",
        *(f"{_STATISTICS[name]}, rank" for name in STATISTICS),
        "Memory, bar to bar",
        "Price level?",
    )
    return {
        "answer": found.summary.answer,
        "tone": TONES[found.summary.answer],
        "reason": found.summary.reason,
        "p": None if math.isnan(found.summary.p) else p_value(found.summary.p),
        "levels": [one.reason for one in found.unit_roots if one.level],
        "often": Table("Flagged most often", columns, tuple(rows[name] for name in often)) if often else None,
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
        "horizon": _ahead(horizon),
        "level": number(level, "percent", 0),
        "stretch": next(iter(methods.values())).stretch,
        "wide": Markup(figures.coverage(methods, stamps, "coveragewide")),
        "narrow": Markup(figures.coverage(methods, stamps, "coveragenarrow", narrow=True)),
        "methods": [_METHODS[method] for method in methods],
        "table": Table(
            f"Intervals that promise {number(level, 'percent', 0)}, per horizon and method",
            ("Bars ahead, method", "Held", "Median width", "Infinite", "Worst stretch"),
            tuple(_coverage_row(ahead, one, stamps) for ahead, several in found.items() for one in several.values()),
        ),
        "regimes": Table(
            f"Share held in each regime, {_ahead(horizon)}",
            ("Regime", *(_METHODS[method][0] for method in methods)),
            tuple(by_regime),
        )
        if by_regime
        else None,
    }


def evidence(evaluation: Evaluation) -> dict[str, Any] | None:
    """Put the evidence about the main strategy into a table; None where nothing was traded."""
    if evaluation.trading is None:
        return None
    found = evaluation.trading.evidence
    gate = next(gate for gate in evaluation.gates if gate.code == "G8")
    trials = f"{found.trials} {'trial' if found.trials == 1 else 'trials'} on record"
    pbo = f"of {found.variants} variants" if found.pbo is not None else f"{found.variants} of {MIN_VARIANTS} variants"
    years = found.min_track_record_years
    rows = (
        ("Sharpe ratio, net", _number(found.sharpe), interval(found.sharpe_low, found.sharpe_high, "ratio")),
        ("Chance that it is above zero (PSR)", _number(found.psr), f"{number(found.years, 'ratio', 1)} years"),
        ("Chance that it beats the luckiest useless trial (DSR)", _number(found.dsr), trials),
        ("Same positions at other times do as well", _number(found.shift_p, 3), "p of useless timing"),
        ("Cost that eats the gross profit", _number(found.breakeven_over_cost), "times the assumed cost"),
        ("Sharpe ratio kept one bar later", _number(found.delay_retention), "times"),
        ("Chance of overfitting (PBO)", _number(found.pbo), pbo),
        ("Years that would show a gain", number(years, "ratio", 1), "at 95%"),
    )
    return {
        "strategy": evaluation.trading.strategy,
        "grade": gate.grade,
        "tone": TONES[gate.grade],
        "reasons": gate.reasons,
        "table": Table(
            "Evidence about the timing and its luck",
            ("", "Found"),
            tuple((Cell(name), Cell(value, note)) for name, value, note in rows),
        ),
    }


def power(skill: Sequence[HorizonSkill]) -> list[str]:
    """Say how small an effect these data could have shown, at the shortest and at the longest horizon."""
    ends = sorted(skill, key=lambda one: one.horizon)
    return [
        f"{_ahead(one.horizon)}, {number(one.n_eff, 'count')} independent labels: "
        f"an IC below {number(one.detectable_ic, 'ratio')} is invisible"
        for one in (ends if len(ends) < 2 else (ends[0], ends[-1]))
    ]


def _average_row(name: str, one: Skill | None) -> tuple[Cell, ...]:
    if one is None:
        return Cell(name), Cell(UNKNOWN), Cell(UNKNOWN)
    error = f"±{number(100 * one.error, 'ratio')}%"
    return Cell(name), Cell(number(one.r2, "signed_percent"), error), Cell(number(one.origins, "count"))


def _difference_row(named: tuple[str, Difference | None]) -> tuple[Cell, ...]:
    name, one = named
    if one is None:
        return Cell(name), Cell(UNKNOWN)
    tone: Tone = "bad" if one.p < LEVEL and one.r2_points > 0 else ""
    bounds = interval(100 * one.low, 100 * one.high, "signed", 1)
    return Cell(name), Cell(points(one.r2_points), f"{bounds}\n{p_value(one.p)}", tone)


def _tested(evaluation: Evaluation) -> str:
    one = evaluation.stability.staleness.tested
    if one is None:
        return "There are too few retrainings to see what age does."
    more = "less" if one.r2_lost > 0 else "more"
    age = f"{one.retrainings} {'retraining' if one.retrainings == 1 else 'retrainings'}"
    return (
        f"A model {age} old ({number(one.bars, 'count')} bars, ringed) explains "
        f"{number(abs(one.r2_lost), 'percent', 1)} of squared returns {more} than a fresh one on the same "
        f"{number(one.origins, 'count')} origins: {p_value(one.p)}."
    )


def _half_life(evaluation: Evaluation) -> str:
    found = evaluation.stability.staleness
    if not found.edge:
        return "Fresh models have no edge beyond chance here, so there is nothing whose half-life could be told."
    if found.half_life_bars is None:
        return "At no age seen here is half of a fresh model's edge gone."
    return f"Half of a fresh model's edge is gone after {number(found.half_life_bars, 'count')} bars."


def _cadence(found: Mapping[str, Any]) -> Table | None:
    r2: Mapping[str, float] = found["r2_by_retraining_bars"]
    if not r2:
        return None
    suggested = found["suggested_retraining_bars"]
    return Table(
        caption=f"Training anew every so many bars: {found['model']} on "
        f"{number(found['origins_before_test'], 'count')} origins before the test period",
        columns=("Bars between trainings", "R² vs no change"),
        rows=tuple(
            (Cell(step, "suggested" if int(step) == suggested else ""), Cell(number(value, "signed_percent", 1)))
            for step, value in r2.items()
        ),
    )


def _study(study: RegimeStudy) -> dict[str, Any]:
    traded = any(one.trading_bars is not None for one in study.skill)
    columns = ["Regime", "Share of training", "Share of test", "Independent forecasts", "R² vs no change", "IC"]
    columns += ["Right direction", "In 80% interval", *(("Sharpe ratio, net", "Exposure") if traded else ())]
    reach = _reach(study.heatmap.r2)
    folds = figures.evenly(len(study.heatmap.folds), _MOST_CELLS)
    return {
        "name": study.name,
        "horizon": _ahead(study.horizon),
        "novelty": None if study.novelty is None else number(study.novelty, "percent", 1),
        "table": Table(
            f"{study.name}: forecasts {_ahead(study.horizon)}{' and trades' if traded else ''}, regime by regime",
            tuple(columns),
            tuple(_regime_row(one, traded) for one in study.skill),
        ),
        "mix": _mix(study.mix),
        "map": HeatMap(
            caption=f"R² in % against no change, {_ahead(study.horizon)}: folds down, regimes across",
            corner="Fold",
            columns=study.heatmap.labels,
            rows=tuple(
                (
                    str(study.heatmap.folds[fold]),
                    tuple(
                        HeatCell(
                            number(100 * float(value), "signed", 1),
                            f"{number(origins, 'count')} origins" if np.isfinite(value) else "",
                            shade(float(value), reach),
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


def _mix(mix: RegimeMix) -> HeatMap:
    """Put training and test side by side in each cell, shaded by what became of it."""
    before = np.column_stack([mix.train_share, mix.train_transitions])
    after = np.column_stack([mix.test_share, mix.test_transitions])
    return HeatMap(
        caption="Share of bars, and of the regime one bar later, in %: first training \N{RIGHTWARDS ARROW} test",
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


def _number(value: float | None, digits: int = 2) -> str:
    return "not measured" if value is None or math.isnan(value) else number(value, "ratio", digits)


def _reach(values: Any) -> float:
    """Value of the deepest shade: one that nine cells of ten stay below, so that a wild one does not pale the rest."""
    known = np.abs(values[np.isfinite(values)])
    return float(np.quantile(known, 0.9)) if len(known) else 0.0


def _month(stamp: pd.Timestamp) -> str:
    return f"{stamp:%Y-%m-%d}"


def _ahead(horizon: int) -> str:
    return f"{horizon} {'bar' if horizon == 1 else 'bars'} ahead"

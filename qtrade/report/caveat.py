"""The caveat in the report: texts, tables and figures of each section, from an `Evaluation`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from qtrade.evaluation.gates import Gate
from qtrade.evaluation.result import Evaluation
from qtrade.evaluation.skill import LEVEL, HorizonSkill
from qtrade.evaluation.trading import MIN_VARIANTS
from qtrade.evaluation.transfer import Difference, Skill
from qtrade.forecasts import Forecasts
from qtrade.report import caveat_figures as figures
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
    several,
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
# Without these no PASS is possible.
_NEEDED = ("G2", "G3")
# Which of two gates of the same grade says more.
_WEIGHT = ("G2", "G3", "G8", "G4", "G5", "G1", "G7", "G6", "G0")
_SEVERITY = ("INVALID", "FAIL", "INCONCLUSIVE", "WARN", "NOT MEASURED", "PASS")
_BULLETS = 3


def card(evaluation: Evaluation) -> dict[str, Any]:
    """Pick the strongest reasons for the headline, and fold the others.

    Gates that decided come first, then the others by what they found; those that never decide come after those that
    could have. What passed is a reason for a PASS alone, and what was not measured for leaving open what a PASS needs.
    A reason that the sentence of the verdict already tells is not repeated.
    """
    verdict = evaluation.verdict

    def counts(gate: Gate) -> bool:
        if gate.grade == "NOT MEASURED":
            return verdict.headline == "INCONCLUSIVE" and gate.code in _NEEDED
        return gate.grade != "PASS" or verdict.headline == "PASS"

    def order(gate: Gate) -> tuple[bool, bool, bool, int, int]:
        only_told = gate.code in _ONLY_TOLD
        decided = gate.grade in (verdict.headline, "NOT MEASURED") and not only_told
        return not decided, gate.grade == "PASS", only_told, _SEVERITY.index(gate.grade), _WEIGHT.index(gate.code)

    told = verdict.line.lower()
    # Only the first reason of a gate is sure to be as grave as its grade.
    weighty = [gate for gate in sorted(evaluation.gates, key=order) if counts(gate)]
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
                    Cell(number(100 * step["r2_difference"], "signed", 1), f"{bounds}\n{p_value(step['p'])}"),
                )
            )
        horizon = scores["horizon_bars"]
        parts.append(
            {
                "title": f"{title}, {ahead(horizon)}",
                "figure": Markup(figures.rungs(scores, name, f"{title}, {ahead(horizon)}", between)),
                "table": Table(
                    caption=f"Differences on the same {number(scores['origins'], 'count')} test origins",
                    columns=("Difference", "R², points"),
                    rows=tuple(rows),
                    row_terms=True,
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
    names = (
        [_month(start) for start in starts] if len(starts) == count else [f"fold {place + 1}" for place in range(count)]
    )
    shown = figures.evenly(count, figures.MOST_CELLS)
    most = reach(matrix.r2)
    digits = decimals(most)
    rows = []
    for model in shown:
        cells = []
        for period in shown:
            value, error = float(matrix.r2[model, period]), float(matrix.error[model, period])
            note = "" if math.isnan(value) else f"±{number(100 * error, 'ratio', digits)}"
            text = number(100 * value, "signed", digits)
            cells.append(HeatCell(text, note, shade(value, most), outlined=model == period))
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
            row_terms=True,
        ),
        "differences": Table(
            "Differences on equal origins",
            ("Difference", "R², points"),
            tuple(map(_difference_row, differences)),
            row_terms=True,
        ),
        "stride": evaluation.stride,
        "symbols": several(evaluation.symbols),
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
        ("Chance that it is above zero (PSR)", _chance(found.psr), f"{number(found.years, 'ratio', 1)} years"),
        ("Chance that it beats the luckiest useless trial (DSR)", _chance(found.dsr), trials),
        ("Same positions at other times do as well", _number(found.shift_p, 3), "p of useless timing"),
        ("Cost that eats the gross profit", _number(found.breakeven_over_cost), "times the assumed cost"),
        ("Sharpe ratio kept one bar later", _number(found.delay_retention), "times"),
        ("Chance of overfitting (PBO)", _chance(found.pbo), pbo),
        ("Years that would show a gain", "never" if years == math.inf else number(years, "ratio", 1), "at 95%"),
    )
    return {
        "strategy": evaluation.trading.strategy,
        "grade": gate.grade,
        "tone": TONES[gate.grade],
        "reasons": gate.reasons,
        "table": Table(
            "Evidence about the timing and its luck",
            ("Measure", "Found"),
            tuple((Cell(name), Cell(value, note)) for name, value, note in rows),
            row_terms=True,
        ),
    }


def power(skill: Sequence[HorizonSkill]) -> list[str]:
    """Say how small an effect these data could have shown, at the shortest and at the longest horizon."""
    ends = sorted(skill, key=lambda one: one.horizon)
    return [
        f"{ahead(one.horizon)}, {number(one.n_eff, 'count')} independent labels: "
        f"an IC below {number(one.detectable_ic, 'ratio')} is invisible"
        for one in (ends if len(ends) < 2 else (ends[0], ends[-1]))
    ]


def limits(skill: Sequence[HorizonSkill], last_bar: str) -> list[str]:
    """Say what no number of the report can tell."""
    said = "; ".join(power(skill))
    invisible = f"{said}. " if said else ""
    return [
        f"Anything after {last_bar}. Rules, policies and events since then are in none of these numbers.",
        "What another history would have shown. The intervals measure luck within this one, as if its future resembled "
        "its past.",
        "How many settings were tried where the ledger of trials does not see them. Every try makes the best one look "
        "better than it is.",
        f'That there is no effect. {invisible}"No effect found" is not "no effect".',
        "Trading costs beyond those assumed: the market's reaction to your orders, taxes, outages.",
        "What the data source left out: symbols that vanished, and prices corrected later.",
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
    return Cell(name), Cell(number(100 * one.r2_points, "signed", 1), f"{bounds}\n{p_value(one.p)}", tone)


def _tested(evaluation: Evaluation) -> str:
    one = evaluation.stability.staleness.tested
    if one is None:
        return "There are too few retrainings to see what age does."
    side = "below" if one.r2_lost > 0 else "above"
    age = f"{one.retrainings} {'retraining' if one.retrainings == 1 else 'retrainings'}"
    return (
        f"On the same {number(one.origins, 'count')} origins, the R² of a model {age} old ({number(one.bars, 'count')} "
        f"bars, ringed) is {number(100 * abs(one.r2_lost), 'ratio', 1)} points {side} that of a fresh one: "
        f"{p_value(one.p)}."
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


def _number(value: float | None, digits: int = 2) -> str:
    return "not measured" if value is None or math.isnan(value) else number(value, "ratio", digits)


def _chance(value: float | None) -> str:
    return "not measured" if value is None or math.isnan(value) else number(value, "percent", 1)


def _month(stamp: pd.Timestamp) -> str:
    return f"{stamp:%Y-%m-%d}"

"""The gates G0 to G8, and the headline they make: the worst of those that count, never their average."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qtrade.evaluation.breaks import Break, Recurrence
from qtrade.evaluation.by_regime import RegimeSkill
from qtrade.evaluation.skill import HorizonSkill
from qtrade.evaluation.staleness import Staleness
from qtrade.evaluation.verdict import Headline, Verdict

Grade = Literal["PASS", "WARN", "INCONCLUSIVE", "FAIL", "INVALID", "NOT MEASURED"]
_WORST_FIRST: tuple[Headline, ...] = ("INVALID", "FAIL", "INCONCLUSIVE", "WARN", "PASS")
TITLES = {
    "G0": "Integrity",
    "G1": "Plausibility",
    "G2": "Skill",
    "G3": "Stability",
    "G4": "Optimism",
    "G5": "Regimes",
    "G6": "Feature shift",
    "G7": "Interval coverage",
    "G8": "Trading",
}
ONLY_TOLD = ("G6", "G7")
"""Gates that do not count for the headline: features may move without harm, and wide intervals are no skill."""
# What a gate that decides the headline means, when it fails and when it warns.
_MEANS = {
    "G1": ("This is too good to be true.", "This is too good to be true."),
    "G3": ("What was learned did not last.", "What was learned may not have lasted."),
    "G4": ("Cross-validation promised what time did not keep.", "Cross-validation promised more than time kept."),
    "G5": (
        "The test period was unlike training, or one corner of it made all the gain.",
        "Part of the test period was unlike training, or forecasts pointed the wrong way in a part of it.",
    ),
    "G8": (
        "Trading on these forecasts does not hold up.",
        "Trading on these forecasts proves little.",
    ),
}
_ALONE = {
    "PASS": "The forecasts themselves beat both naive ones.",
    "FAIL": "The forecasts themselves are worse than a naive one.",
    "INCONCLUSIVE": "Whether the forecasts themselves know anything, these data cannot tell.",
}
_IN_HEADLINE = ("G0", "G1", "G2", "G3", "G4", "G5", "G8")
# Without these nothing is known of what a PASS would claim: that there is skill, and that it lasts.
_NEEDED = ("G2", "G3")


@dataclass(frozen=True)
class Gate:
    """What one gate found: a grade, and the findings behind it, the one that decided first."""

    code: str
    grade: Grade
    reasons: tuple[str, ...]

    @property
    def title(self) -> str:
        """What the gate is about."""
        return TITLES[self.code]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"gate": self.code, "title": self.title, "grade": self.grade, "reasons": list(self.reasons)}


@dataclass(frozen=True)
class Limits:
    """Skill above which a forecast is too good to be true.

    Attributes
    ----------
    ic, direction
        Correlation with the next bar's return, and share of its directions.
    r2
        R2 against no change over the whole path.
    why
        Where the limits come from.
    """

    ic: float = 0.10
    direction: float = 0.58
    r2: float = 0.03
    why: str = "no published forecast of liquid markets is that good"

    @classmethod
    def of_known_truth(cls, ic: float, r2: float) -> Limits:
        """Limits in a market whose truth is known: what its oracle reaches, and room for luck."""
        high = min(0.99, ic + 0.10)
        # Of two normal variables of this correlation, so many pairs have the same sign.
        direction = 0.5 + math.asin(high) / math.pi + 0.02
        return cls(high, direction, r2 + 0.10, "it exceeds what the market's own rule allows")


def integrity_gate(problems: Sequence[str]) -> Gate:
    """G0: nothing the run did may have used the future."""
    if problems:
        return Gate("G0", "INVALID", tuple(problems))
    return Gate("G0", "PASS", ("Features, folds, scalers, forecasts and fills were made again, and used no future.",))


def plausibility_gate(
    skill: Sequence[HorizonSkill], path_r2: float | None, limits: Limits, suspects: Sequence[str]
) -> Gate:
    """G1: skill that is too good means a leak until someone has looked.

    Parameters
    ----------
    skill
        Per horizon; that of one bar is judged.
    path_r2
        R2 against no change over the whole path; None where it is not known.
    limits
        What is too good.
    suspects
        Features that foretell the next return on their own, to look at first, each with its correlation.
    """
    found = []
    for one in skill:
        if one.horizon == 1 and one.correlation is not None and one.correlation.ic > limits.ic:
            found.append(f"the IC of the next bar is {one.correlation.ic:.3f}, above {limits.ic:.2f}")
        if one.horizon == 1 and one.right_direction is not None and one.right_direction > limits.direction:
            found.append(f"{one.right_direction:.1%} of next directions are right, above {limits.direction:.0%}")
    if path_r2 is not None and path_r2 > limits.r2:
        found.append(f"R² over the whole path is {path_r2:.1%}, above {limits.r2:.0%}")
    if not found:
        if path_r2 is None and not any(one.horizon == 1 for one in skill):
            return Gate("G1", "NOT MEASURED", ("Neither the next bar nor the whole path was scored.",))
        return Gate("G1", "PASS", ("The skill is not too good to be true.",))
    look = f" Look first at {', '.join(suspects)}." if suspects else ""
    told = f"Assume a leak until audited, since {limits.why}: {'; '.join(found)}.{look}"
    return Gate("G1", "WARN", (told,))


def skill_gate(conclusion: Verdict) -> Gate:
    """G2: forecasts against the best naive one, as `qtrade.evaluation.verdict.verdict` judges."""
    return Gate("G2", conclusion.headline, (conclusion.line, *conclusion.reasons))


def stability_gate(
    aged: Staleness, found: Break | None, recurrence: Recurrence | None, *, when: str = "", step_bars: int = 0
) -> Gate:
    """G3: what was learned still holds.

    PASS where no test has p < 0.05, FAIL where one has p < 0.01, WARN between.

    Parameters
    ----------
    when
        Date and range of the break, in words.
    step_bars
        Bars between two retrainings.
    """
    judged: list[tuple[float, str]] = []
    if found is not None:
        turned = f"from {found.before:+.3f} to {found.after:+.3f}"
        judged.append(
            (
                found.p,
                f"The link between the first model's forecasts and outcomes changed {turned}, most likely {when}; "
                f"known only afterwards ({_p(found.p)})."
                if found.p < 0.05
                else f"No lasting change of the link between the first model's forecasts and outcomes is visible "
                f"({_p(found.p)}).",
            )
        )
    if aged.tested is not None:
        one = aged.tested
        # A model that got better with age is no reason for worry.
        p = one.p if one.r2_lost > 0 else 1.0
        judged.append(
            (
                p,
                f"A model {_retrainings(one.retrainings)} old ({one.retrainings * step_bars:,} bars) explains "
                f"{abs(one.r2_lost):.1%} of squared returns {'less' if one.r2_lost > 0 else 'more'} than a fresh one "
                f"on the same {one.origins:,} origins ({_p(one.p)})"
                f"{'' if aged.edge else ', though fresh ones have no visible edge'}.",
            )
        )
    if recurrence is not None:
        verb = "comes and goes" if recurrence.p < 0.05 else "does not visibly come and go"
        judged.append((recurrence.p, f"The link between forecasts and outcomes {verb} ({_p(recurrence.p)})."))
    lowest = min((p for p, _ in judged), default=1.0)
    if (aged.tested is None or found is None) and lowest >= 0.05:
        # What was measured can speak against it; only a PASS takes all of it.
        why = "Too few retrainings, or too short a test period, to see whether what was learned still holds."
        return Gate("G3", "NOT MEASURED", (why, *(text for _, text in judged)))
    # What spoke loudest comes first; of several that did, the dated break says most, then what age costs.
    judged.sort(key=lambda item: (item[0] >= 0.01, item[0] >= 0.05))
    grade: Grade = "FAIL" if lowest < 0.01 else "WARN" if lowest < 0.05 else "PASS"
    reasons = tuple(text for _, text in judged)
    if grade == "PASS":
        reasons = ("Nothing shows that what was learned stopped holding.", *reasons)
    return Gate("G3", grade, reasons)


def regime_gate(novelty: float | None, regimes: Sequence[RegimeSkill], *, skilled: bool) -> Gate:
    """G5: the test period is like training, and the skill is spread over it.

    Parameters
    ----------
    novelty
        Share of test bars in regimes that hold under 5 % of the training bars.
    regimes
        What the forecasts were worth in each.
    skilled
        Whether G2 passed; the gain of forecasts that have none cannot be concentrated anywhere.
    """
    if novelty is None or not regimes:
        return Gate("G5", "NOT MEASURED", ("The regimes of training or test are not known.",))
    notes: list[tuple[Headline, str]] = []
    text = f"{novelty:.0%} of the test bars lie in regimes that training hardly knew (under 5% of its bars)."
    notes.append(("FAIL" if novelty > 0.20 else "WARN" if novelty >= 0.10 else "PASS", text))
    for one in regimes:
        if one.negative and one.enough and one.ic is not None:
            told = f"In the regime '{one.label}' the forecasts point the wrong way: IC {one.ic.value:+.3f}."
            notes.append(("WARN", told))
        if skilled and one.gain_share is not None and one.gain_share > 0.80:
            notes.append(("FAIL", f"{one.gain_share:.0%} of the gain comes from the regime '{one.label}' alone."))
    return _worst("G5", notes)


def coverage_gate(asked: float, covered: Sequence[tuple[str, float, bool]]) -> Gate:
    """G7: intervals hold what they promise in every regime.

    Parameters
    ----------
    asked
        Share of outcomes that the interval promises to hold.
    covered
        Name of each regime, the share it held there, and whether there is enough data to say so.
    """
    known = [(label, share) for label, share, enough in covered if enough]
    if not known:
        return Gate("G7", "NOT MEASURED", ("No regime has enough independent outcomes.",))
    label, share = max(known, key=lambda one: abs(one[1] - asked))
    error = round(abs(share - asked), 9)  # 0.80 - 0.75 is no more than five points
    text = f"The {asked:.0%} interval held {share:.0%} of outcomes in the regime '{label}', its worst."
    return Gate("G7", "FAIL" if error > 0.10 else "WARN" if error > 0.05 else "PASS", (text,))


def headline(gates: Sequence[Gate]) -> Headline:
    """Worst of G0 to G5 and G8; no PASS unless skill and stability were measured and passed.

    G6 and G7 are told, but do not decide: a feature may move without harm, and an interval be wrong beside a forecast
    that is right. Gates that were not measured say nothing, except that there is no PASS without G2 and G3.
    """
    counted = {gate.code: gate.grade for gate in gates if gate.code in _IN_HEADLINE}
    grades: list[Headline] = [grade for grade in counted.values() if grade != "NOT MEASURED"]
    if any(counted.get(code, "NOT MEASURED") == "NOT MEASURED" for code in _NEEDED):
        grades.append("INCONCLUSIVE")
    return min(grades, key=_WORST_FIRST.index)


def conclude(gates: Sequence[Gate], skill: Verdict) -> Verdict:
    """Make the verdict of a run from its gates: headline, the sentence that explains it, and the evidence.

    Parameters
    ----------
    gates
        All that were opened, in order.
    skill
        The verdict on the forecasts alone, whose sentence and horizon are kept.
    """
    outcome = headline(gates)
    deciding = [gate for gate in gates if gate.code in _IN_HEADLINE and gate.grade == outcome]
    if outcome == "INVALID":
        # Whatever else was computed from such a run means nothing.
        return Verdict("INVALID", deciding[0].reasons[0], deciding[0].reasons[1:])
    others = [gate for gate in deciding if gate.code != "G2"]
    line, first = skill.line, skill.reasons
    leak = next((gate for gate in gates if gate.code == "G1" and gate.grade == "WARN"), None)
    if leak is not None and outcome in ("FAIL", "WARN"):
        line = f"{_MEANS['G1'][1]} {leak.reasons[0]}"
        others = [leak, *(gate for gate in others if gate is not leak)]
        first = (skill.line, *skill.reasons)
    elif others and outcome in ("FAIL", "WARN") and skill.headline != outcome:
        line = f"{_MEANS[others[0].code][0 if outcome == 'FAIL' else 1]} {_ALONE[skill.headline]}"
        first = (skill.line, *skill.reasons)
    elif not deciding:
        line = f"{skill.line} Whether it lasts could not be measured."
    return Verdict(outcome, line, (*(f"{gate.title}: {gate.reasons[0]}" for gate in others), *first), skill.horizon)


def _worst(code: str, notes: Sequence[tuple[Headline, str]]) -> Gate:
    """Gate of several findings, the worst first."""
    ordered = sorted(notes, key=lambda note: _WORST_FIRST.index(note[0]))
    return Gate(code, ordered[0][0], tuple(text for _, text in ordered))


def _retrainings(count: int) -> str:
    return "1 retraining" if count == 1 else f"{count} retrainings"


def _p(p: float) -> str:
    return f"p = {p:.3f}" if p >= 0.001 else "p below 0.001"

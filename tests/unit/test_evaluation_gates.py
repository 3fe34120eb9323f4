"""Every threshold of the gates on both of its sides, and the headline that gates make together."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qtrade.evaluation.breaks import Break, Recurrence
from qtrade.evaluation.by_regime import RegimeSkill
from qtrade.evaluation.gates import (
    TITLES,
    Gate,
    Grade,
    Limits,
    conclude,
    coverage_gate,
    headline,
    integrity_gate,
    plausibility_gate,
    regime_gate,
    skill_gate,
    stability_gate,
)
from qtrade.evaluation.scores import Comparison, Correlation
from qtrade.evaluation.skill import HorizonSkill
from qtrade.evaluation.staleness import Age, Staleness
from qtrade.evaluation.verdict import Verdict
from qtrade.evaluation.within import Interval

SKILLED = Verdict("PASS", "The forecasts beat both naive forecasts.", ("1 bar ahead: R² +1%",), 1)
UNKNOWN = Verdict("INCONCLUSIVE", "These data cannot tell.", ())


def at(horizon: int, ic: float | None = 0.02, right: float | None = 0.51) -> HorizonSkill:
    comparison = Comparison(r2=0.0, r2_low=-0.01, r2_high=0.01, p=0.5, p_holm=1.0)
    return HorizonSkill(
        horizon=horizon,
        origins=1_000,
        n_eff=1_000.0,
        vs_zero=comparison,
        vs_drift=comparison,
        correlation=None if ic is None else Correlation(ic=ic, low=ic - 0.05, high=ic + 0.05, p=0.5, rank=ic),
        right_direction=right,
        up_share=0.55,
        mae=0.01,
        rmse=0.013,
        naive_mae=0.01,
        naive_rmse=0.013,
        coverage80=0.79,
        detectable_ic=0.1,
    )


def aged(p: float, lost: float = 0.03, retrainings: int = 6) -> Staleness:
    age = Age(retrainings, 252.0 * retrainings, 900, lost, lost - 0.01, lost + 0.01, 0.02, p)
    return Staleness((age,), age, None, edge=True)


def broken(p: float) -> Break:
    return Break(p=p, bar=700, first=650, last=800, before=0.1, after=-0.1, path=np.zeros(3))


def recurring(p: float) -> Recurrence:
    return Recurrence(statistic=1.0, p=p, blocks=40)


def regime(
    label: str = "calm", *, ic: float = 0.1, p_holm: float | None = 0.5, enough: bool = True, gain: float | None = 0.3
) -> RegimeSkill:
    nothing = dict.fromkeys(("train_share", "test_share", "right_direction", "coverage80"))
    return RegimeSkill(
        label=label,
        bars=500,
        forecasts=300,
        n_eff=60.0,
        enough=enough,
        r2=None,
        ic=Interval(ic, None, None),
        p=p_holm,
        p_holm=p_holm,
        gain_share=gain,
        trading_bars=None,
        sharpe=None,
        exposure=None,
        **nothing,
    )


# --- G0 ---


def test_any_violation_makes_a_run_invalid_and_every_one_is_told() -> None:
    assert integrity_gate(()).grade == "PASS"
    found = integrity_gate(("first", "second"))
    assert (found.grade, found.reasons) == ("INVALID", ("first", "second"))


# --- G1 ---


@pytest.mark.parametrize(
    ("skill", "path_r2", "grade", "told"),
    [
        (at(1, ic=0.10), None, "PASS", "not too good"),
        (at(1, ic=0.1001), None, "WARN", "the IC of the next bar is 0.100, above 0.10"),
        (at(1, ic=-0.5), None, "PASS", "not too good"),
        (at(1, right=0.58), None, "PASS", "not too good"),
        (at(1, right=0.5801), None, "WARN", "58.0% of next directions are right, above 58%"),
        (at(1), 0.03, "PASS", "not too good"),
        (at(1), 0.0301, "WARN", "R² over the whole path is 3.0%, above 3%"),
        (at(6, ic=0.4, right=0.7), None, "NOT MEASURED", "Neither"),
        (at(1, ic=None, right=None), None, "PASS", "not too good"),
    ],
)
def test_skill_beyond_what_was_ever_published_is_a_leak_until_audited(
    skill: HorizonSkill, path_r2: float | None, grade: Grade, told: str
) -> None:
    found = plausibility_gate([skill], path_r2, Limits(), ["'volume' (correlation +0.70 with the next return)"])
    assert found.grade == grade
    assert told in found.reasons[0]
    assert ("Look first at 'volume' (correlation +0.70" in found.reasons[0]) == (grade == "WARN")


def test_too_good_a_path_names_no_suspect_where_there_is_none() -> None:
    found = plausibility_gate([], 0.5, Limits(), [])
    assert found.grade == "WARN"
    assert "Look first" not in found.reasons[0]


def test_limits_in_a_known_market_leave_room_above_its_oracle() -> None:
    limits = Limits.of_known_truth(0.196, 0.122)
    assert (limits.ic, limits.r2) == pytest.approx((0.296, 0.222))
    # Two normal variables of correlation r have the same sign in 1/2 + asin(r) / pi of all cases.
    generator = np.random.default_rng(0)
    one, noise = generator.standard_normal((2, 400_000))
    other = 0.296 * one + math.sqrt(1 - 0.296**2) * noise
    assert limits.direction - 0.02 == pytest.approx(np.mean(one * other > 0), abs=0.003)
    assert Limits.of_known_truth(0.97, 0.9).ic < 1


# --- G2 ---


def test_the_skill_gate_repeats_the_verdict_on_the_forecasts() -> None:
    found = skill_gate(SKILLED)
    assert (found.grade, found.reasons) == ("PASS", (SKILLED.line, *SKILLED.reasons))


# --- G3 ---

CALM = 0.5
LEVELS: list[tuple[float, Grade]] = [(0.05, "PASS"), (0.0499, "WARN"), (0.01, "WARN"), (0.0099, "FAIL"), (0.0, "FAIL")]


@pytest.mark.parametrize("test", ["staleness", "change", "recurrence"])
@pytest.mark.parametrize(("p", "grade"), LEVELS)
def test_each_test_of_stability_warns_and_fails_at_its_level(test: str, p: float, grade: Grade) -> None:
    values = {"staleness": CALM, "change": CALM, "recurrence": CALM} | {test: p}
    found = stability_gate(
        aged(values["staleness"]),
        broken(values["change"]),
        recurring(values["recurrence"]),
        when="about 2020-03-01",
        step_bars=252,
    )
    assert found.grade == grade
    words = {
        "staleness": "A model 6 retrainings old (1,512 bars) explains 3.0% of squared returns less than a fresh one",
        "change": "changed from +0.100 to -0.100, most likely about 2020-03-01; known only afterwards",
        "recurrence": "The link between forecasts and outcomes comes and goes",
    }
    if grade == "PASS":
        assert found.reasons[0] == "Nothing shows that what was learned stopped holding."
        assert len(found.reasons) == 4
    else:
        assert found.reasons[0].startswith(words[test]) or words[test] in found.reasons[0]
        assert len(found.reasons) == 3


def test_a_model_that_improves_with_age_is_no_reason_for_worry() -> None:
    found = stability_gate(aged(0.0001, lost=-0.05), broken(CALM), recurring(CALM), step_bars=10)
    assert found.grade == "PASS"
    assert any("explains 5.0% of squared returns more than a fresh one" in reason for reason in found.reasons)


def test_stability_is_not_measured_without_an_older_model_or_a_period_to_watch() -> None:
    alone = Staleness((), None, None, edge=False)
    for found in (
        stability_gate(alone, broken(CALM), None),
        stability_gate(aged(CALM), None, None),
        stability_gate(alone, None, None),
    ):
        assert found.grade == "NOT MEASURED"
        assert "Too few retrainings" in found.reasons[0]
    assert stability_gate(alone, broken(0.0001), None).grade == "FAIL", "what was measured can speak against it"
    assert stability_gate(aged(0.0001), None, None).grade == "FAIL"
    assert stability_gate(aged(CALM), broken(CALM), None).grade == "PASS", "recurrence needs a long period"


# --- G5 ---


@pytest.mark.parametrize(
    ("novelty", "grade"), [(0.0, "PASS"), (0.0999, "PASS"), (0.10, "WARN"), (0.20, "WARN"), (0.2001, "FAIL")]
)
def test_test_bars_unlike_training_warn_and_fail(novelty: float, grade: Grade) -> None:
    assert regime_gate(novelty, [regime()], skilled=True).grade == grade


@pytest.mark.parametrize(
    ("one", "skilled", "grade"),
    [
        (regime(ic=-0.2, p_holm=0.049), True, "WARN"),
        (regime(ic=-0.2, p_holm=0.05), True, "PASS"),
        (regime(ic=-0.2, p_holm=0.001, enough=False), True, "PASS"),
        (regime(ic=0.2, p_holm=0.001), True, "PASS"),
        (regime(gain=0.80), True, "PASS"),
        (regime(gain=0.81), True, "FAIL"),
        (regime(gain=0.81), False, "PASS"),
        (regime(gain=None), True, "PASS"),
    ],
)
def test_a_regime_that_is_wrong_or_carries_all_of_the_gain_is_told(
    one: RegimeSkill, skilled: bool, grade: Grade
) -> None:
    found = regime_gate(0.02, [regime("wild"), one], skilled=skilled)
    assert found.grade == grade
    assert grade == "PASS" or "'calm'" in found.reasons[0]


def test_unknown_regimes_are_not_measured() -> None:
    assert regime_gate(None, [regime()], skilled=True).grade == "NOT MEASURED"
    assert regime_gate(0.5, [], skilled=True).grade == "NOT MEASURED"


# --- G7 ---


@pytest.mark.parametrize(
    ("share", "grade"),
    [
        (0.80, "PASS"),
        (0.75, "PASS"),
        (0.85, "PASS"),
        (0.7499, "WARN"),
        (0.8501, "WARN"),
        (0.70, "WARN"),
        (0.90, "WARN"),
        (0.6999, "FAIL"),
        (0.9001, "FAIL"),
    ],
)
def test_coverage_may_err_by_five_points_and_fails_beyond_ten(share: float, grade: Grade) -> None:
    found = coverage_gate(0.8, [("calm", 0.8, True), ("wild", share, True), ("rare", 0.1, False)])
    assert found.grade == grade
    assert share == 0.8 or "'wild', its worst" in found.reasons[0]


def test_coverage_of_too_few_outcomes_is_not_measured() -> None:
    assert coverage_gate(0.8, [("rare", 0.1, False)]).grade == "NOT MEASURED"
    assert coverage_gate(0.8, []).grade == "NOT MEASURED"


# --- the headline ---

ORDER: tuple[Grade, ...] = ("INVALID", "FAIL", "INCONCLUSIVE", "WARN", "PASS", "NOT MEASURED")


def gates(**grades: Any) -> list[Gate]:
    """All nine gates; those not named pass."""
    return [Gate(code, grades.get(code, "PASS"), (f"{code} says so.",)) for code in TITLES]


def test_the_headline_is_the_worst_grade_and_never_a_pass_without_skill_and_stability() -> None:
    for one, two, three, eight in itertools.product(ORDER, repeat=4):
        found = headline(gates(G1=one, G2=two, G3=three, G8=eight))
        given = {one, two, three, eight}
        worst = next((grade for grade in ORDER[:-1] if grade in given), "PASS")
        if "NOT MEASURED" in (two, three) and worst in ("WARN", "PASS"):
            worst = "INCONCLUSIVE"
        assert found == worst, (one, two, three, eight)
        assert found != "PASS" or (two, three) == ("PASS", "PASS")


@pytest.mark.parametrize("code", ["G0", "G1", "G2", "G3", "G4", "G5", "G8"])
def test_any_gate_that_counts_can_fail_a_run_alone(code: str) -> None:
    assert headline(gates(**{code: "FAIL"})) == "FAIL"
    assert headline(gates(**{code: "WARN"})) == "WARN"


@pytest.mark.parametrize("code", ["G6", "G7"])
@pytest.mark.parametrize("grade", ORDER)
def test_feature_shift_and_coverage_never_decide(code: str, grade: Grade) -> None:
    assert headline(gates(**{code: grade})) == "PASS"
    assert headline(gates(**{code: grade}, G2="INCONCLUSIVE")) == "INCONCLUSIVE"


@pytest.mark.parametrize("code", ["G0", "G1", "G4", "G5", "G8"])
def test_gates_that_were_not_measured_say_nothing(code: str) -> None:
    assert headline(gates(**{code: "NOT MEASURED"})) == "PASS"


def test_missing_gates_are_as_good_as_not_measured() -> None:
    assert headline([]) == "INCONCLUSIVE"
    assert headline([gate for gate in gates() if gate.code != "G3"]) == "INCONCLUSIVE"


# --- the verdict ---


def test_an_invalid_run_tells_its_violations_and_nothing_of_its_skill() -> None:
    found = conclude([integrity_gate(("The scaler knew.", "A fill was early.")), *gates()[1:]], SKILLED)
    assert (found.headline, found.line, found.reasons) == ("INVALID", "The scaler knew.", ("A fill was early.",))
    assert found.horizon is None
    assert "naive" not in json.dumps(found.to_dict())


def test_a_pass_repeats_the_line_of_the_skill() -> None:
    found = conclude(gates(), SKILLED)
    assert (found.headline, found.line, found.horizon) == ("PASS", SKILLED.line, 1)


def test_the_gate_that_decided_explains_the_headline_before_the_skill() -> None:
    found = conclude(gates(G3="FAIL", G8="FAIL", G5="WARN"), SKILLED)
    assert found.headline == "FAIL"
    assert found.line == "What was learned did not last. The forecasts themselves beat both naive ones."
    warned = conclude(gates(G1="WARN"), SKILLED)
    assert warned.headline == "WARN"
    assert warned.line == "This is too good to be true. G1 says so."
    leaking = conclude(gates(G1="WARN", G8="FAIL"), SKILLED)
    assert (leaking.headline, leaking.line) == ("FAIL", warned.line), "what may be a leak explains all the rest"
    assert found.reasons == ("Stability: G3 says so.", "Trading: G8 says so.", SKILLED.line, *SKILLED.reasons)


def test_where_the_skill_decides_its_line_stands_alone() -> None:
    found = conclude(gates(G2="INCONCLUSIVE", G1="WARN"), UNKNOWN)
    assert (found.headline, found.line) == ("INCONCLUSIVE", UNKNOWN.line)


def test_skill_of_which_nobody_knows_whether_it_lasts_is_inconclusive_and_says_why() -> None:
    found = conclude(gates(G3="NOT MEASURED"), SKILLED)
    assert found.headline == "INCONCLUSIVE"
    assert found.line == f"{SKILLED.line} Whether it lasts could not be measured."


def test_a_gate_is_plain_values() -> None:
    gate = replace(gates()[7], reasons=("a", "b"))
    assert gate.to_dict() == {"gate": "G7", "title": "Interval coverage", "grade": "PASS", "reasons": ["a", "b"]}

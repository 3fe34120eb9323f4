from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from qtrade.evaluation.gates import Gate
from qtrade.evaluation.intervals import online_intervals
from qtrade.evaluation.result import Evaluation
from qtrade.evaluation.skill import skill
from qtrade.evaluation.staleness import Age, Staleness
from qtrade.evaluation.transfer import Matrix
from qtrade.forecasts import Forecasts
from qtrade.report import caveat, caveat_figures, caveat_market
from qtrade.report.text import UNKNOWN, Cell, HeatMap, Table, number, p_value
from qtrade.types import Bars, Float64Array

FOLDS, BARS, BEFORE, HORIZON = 5, 300, 100, 6


@pytest.fixture(name="market", scope="module")
def small_market(
    forecast_market: Callable[..., tuple[Bars, Forecasts, Float64Array]],
) -> tuple[Bars, Forecasts, Float64Array]:
    return forecast_market(("A",), bars=BARS, before=BEFORE, folds=FOLDS, horizon=HORIZON)


@pytest.fixture(name="found", scope="module")
def small_evaluation(market: tuple[Bars, Forecasts, Float64Array], evaluated: Callable[..., Evaluation]) -> Evaluation:
    bars, forecasts, actual = market
    skills = {"ridge": skill(forecasts, actual, np.zeros(len(forecasts)), (1, HORIZON))}
    return evaluated(bars, forecasts, actual, skills)


def fold_table(bars: Bars) -> pd.DataFrame:
    starts = bars.index[BEFORE :: BARS // FOLDS]
    return pd.DataFrame(
        {
            "number": range(FOLDS),
            "train_start": bars.index[:1].repeat(FOLDS),
            "test_start": starts,
            "test_end": starts + pd.Timedelta(days=BARS // FOLDS - 1),
        }
    )


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def spoken(drawn: str) -> str:
    label = re.search(r'aria-label="([^"]+)"', drawn)
    assert label is not None
    return label.group(1)


def test_gates_that_decided_speak_first_and_nothing_is_told_twice(found: Evaluation) -> None:
    card = caveat.card(found)
    deciding = [gate for gate in found.gates if gate.grade == found.verdict.headline and gate.code not in ("G6", "G7")]
    assert deciding
    assert any(card["shown"][0].startswith(f"{gate.title}: ") for gate in deciding)
    assert len(card["shown"]) == 3
    line = found.verdict.line.lower()
    assert all(shown.split(": ", 1)[1].lower() not in line for shown in card["shown"])
    assert {*card["shown"], *card["folded"]} >= set(found.verdict.reasons)
    assert not set(card["shown"]) & set(card["folded"])


def test_what_passed_is_a_reason_for_a_pass_alone(found: Evaluation) -> None:
    gates = tuple(replace(gate, grade="PASS", reasons=(f"fine {gate.code}",)) for gate in found.gates)
    passed = replace(found, gates=gates, verdict=replace(found.verdict, headline="PASS"))
    assert [shown.rpartition(" ")[2] for shown in caveat.card(passed)["shown"]] == ["G2", "G3", "G8"]
    failed = replace(gates[7], grade="FAIL")
    opened = replace(passed, gates=(*gates[:7], failed, gates[8]), verdict=replace(found.verdict, headline="FAIL"))
    assert caveat.card(opened)["shown"] == ["Interval coverage: fine G7"]


def test_what_was_not_measured_is_a_reason_to_leave_it_open(found: Evaluation) -> None:
    gates = tuple(replace(gate, grade="NOT MEASURED", reasons=(f"unknown {gate.code}",)) for gate in found.gates)
    opened = replace(found, gates=gates, verdict=replace(found.verdict, headline="INCONCLUSIVE"))
    assert caveat.card(opened)["shown"] == ["Skill: unknown G2", "Stability: unknown G3"]


def test_every_gate_is_listed_with_its_grade_and_all_of_its_reasons(found: Evaluation) -> None:
    listed = caveat.card(found)["gates"]
    assert [one["code"] for one in listed] == [f"G{number}" for number in range(9)]
    for one, gate in zip(listed, found.gates, strict=True):
        assert (one["grade"], one["first"], *one["others"]) == (gate.grade, *gate.reasons)


@pytest.mark.parametrize(
    ("grade", "tone"),
    [("PASS", "good"), ("WARN", "open"), ("INCONCLUSIVE", "open"), ("FAIL", "bad"), ("NOT MEASURED", "faint")],
)
def test_what_is_open_is_neither_good_nor_bad(found: Evaluation, grade: str, tone: str) -> None:
    gates = (*found.gates[:8], Gate("G8", grade, ("so",)))  # type: ignore[arg-type]
    assert caveat.card(replace(found, gates=gates))["gates"][-1]["tone"] == tone


def test_folds_are_drawn_with_both_gaps_where_validation_is_known(
    market: tuple[Bars, Forecasts, Float64Array],
) -> None:
    bars, forecasts, _ = market
    spans = caveat_figures.fold_spans(bars.index, fold_table(bars), forecasts, 0)
    assert [span.number for span in spans] == list(range(FOLDS))
    where = {stamp: place for place, stamp in enumerate(bars.index)}
    for place, span in enumerate(spans):
        assert [part for part, _, _ in span.parts] == ["fit", "purge", "validation", "purge", "test"]
        lengths = [where[last] - where[first] for _, first, last in span.parts]
        assert lengths[1] == lengths[3] == HORIZON
        assert lengths[2] == 11  # from the first to the last of twelve validation origins
        assert span.parts[-1][1] == bars.index[BEFORE + place * BARS // FOLDS]
        assert all(one[2] == other[1] for one, other in zip(span.parts, span.parts[1:], strict=False))


def test_without_validation_errors_training_is_drawn_as_one(market: tuple[Bars, Forecasts, Float64Array]) -> None:
    bars, forecasts, _ = market
    spans = caveat_figures.fold_spans(bars.index, fold_table(bars), replace(forecasts, residuals={}), 0)
    assert [part for part, _, _ in spans[0].parts] == ["fit", "purge", "test"]


def test_the_protocol_says_what_the_integrity_gate_found(
    found: Evaluation, market: tuple[Bars, Forecasts, Float64Array]
) -> None:
    bars, forecasts, _ = market
    told = caveat.protocol(found, fold_table(bars), forecasts, 2)
    assert told["sentence"] == found.gates[0].reasons[0]
    assert told["purged"] == HORIZON + 1
    assert "5 folds" in spoken(told["wide"])


def test_the_shuffled_rung_is_watermarked_in_figure_and_table(found: Evaluation) -> None:
    told = caveat.optimism(found)
    assert told is not None
    waterfall, ladder = told["parts"]
    drawn = waterfall["figure"]
    assert "shuffled (NOT EVIDENCE) +" in spoken(drawn)
    assert re.search(r"<text[^>]*>NOT EVIDENCE</text>", drawn)
    assert "pattern" in drawn  # the hatch
    for step in ("leakage", "shift", "staleness"):
        assert f"{step} " in drawn
    rows = {row[0].text: row for row in waterfall["table"].rows}
    assert rows["leakage"][0].note == "shuffled (NOT EVIDENCE) minus purged CV"
    assert found.optimism is not None
    measured = {step["name"]: step for step in found.optimism["waterfall"][0]["steps"]}
    assert {name: row[1].text for name, row in rows.items()} == {
        name: number(100 * step["r2_difference"], "signed", 1) for name, step in measured.items()
    }
    assert "NOT EVIDENCE" not in ladder["figure"]
    assert told["model"] == "a cheap stand-in"


def test_optimism_that_was_not_measured_is_left_to_the_page(found: Evaluation) -> None:
    assert caveat.optimism(replace(found, optimism=None)) is None


def test_optimism_without_a_ladder_shows_the_waterfall_alone(found: Evaluation) -> None:
    assert found.optimism is not None
    told = caveat.optimism(replace(found, optimism={**found.optimism, "ladder": []}))
    assert told is not None
    assert len(told["parts"]) == 1


def test_the_heat_map_holds_every_score_and_outlines_what_a_trader_would_have_had(found: Evaluation) -> None:
    starts = list(pd.date_range("2020-01-01", periods=FOLDS, tz="UTC"))
    told = caveat.transfer(found, starts)
    heat: HeatMap = told["map"]
    matrix = found.stability.matrix
    assert heat.columns == tuple(f"2020-01-0{day}" for day in range(1, 6))
    for model, (name, cells) in enumerate(heat.rows):
        assert name == heat.columns[model]
        for period, cell in enumerate(cells):
            assert cell.outlined == (model == period)
            assert cell.text == number(100 * matrix.r2[model, period], "signed", 1)
            assert cell.note == f"±{number(100 * matrix.error[model, period], 'ratio', 1)}"
            if cell.level:
                assert math.copysign(1, cell.level) == math.copysign(1, matrix.r2[model, period])
    assert heat.rows[4][1][0].level > 0  # it remembers what it has seen
    assert matrix.seen is not None
    assert matrix.optimism is not None
    assert told["averages"].rows[0][1].text == number(matrix.seen.r2, "signed_percent")
    assert told["differences"].rows[0][1].text == number(100 * matrix.optimism.r2_points, "signed", 1)
    assert told["differences"].rows[0][1].tone == "bad"


def test_a_single_fold_has_a_matrix_of_one_and_nothing_to_compare(found: Evaluation) -> None:
    one = Matrix(
        np.array([[np.nan]]), np.array([[np.nan]]), np.array([5], dtype=np.int64), None, None, None, None, None
    )
    told = caveat.transfer(replace(found, stability=replace(found.stability, matrix=one)), [])
    assert [(name, [cell.text for cell in cells]) for name, cells in told["map"].rows] == [("fold 1", [UNKNOWN])]
    assert {row[1].text for row in (*told["averages"].rows, *told["differences"].rows)} == {UNKNOWN}


def test_of_many_folds_an_even_part_is_shown(found: Evaluation) -> None:
    r2 = np.random.default_rng(0).standard_normal((100, 100))
    many = replace(found.stability.matrix, r2=r2, error=np.abs(r2))
    told = caveat.transfer(replace(found, stability=replace(found.stability, matrix=many)), [])
    names = [name for name, _ in told["map"].rows]
    assert told["picked"]
    assert len(names) == len(told["map"].columns) == 30
    assert (names[0], names[-1]) == ("fold 1", "fold 100")
    assert all(sum(cell.outlined for cell in cells) == 1 for _, cells in told["map"].rows)


def aged(half_life: float | None, *, edge: bool) -> Staleness:
    ages = tuple(
        Age(count, 60.0 * count, 100, 0.01 * count, 0.005 * count, 0.02 * count, 0.04, 0.02) for count in (1, 2, 3)
    )
    return Staleness(ages, ages[-1], half_life, edge)


@pytest.mark.parametrize(
    ("half_life", "edge", "words"),
    [
        (120.0, True, "gone after 120 bars"),
        (None, True, "At no age"),
        (None, False, "no edge beyond chance"),
    ],
)
def test_the_half_life_is_told_only_where_there_is_an_edge(
    found: Evaluation, half_life: float | None, edge: bool, words: str
) -> None:
    stability = replace(found.stability, staleness=aged(half_life, edge=edge), change=None)
    told = caveat.lasting(replace(found, stability=stability))
    assert words in told["half_life"]
    assert (
        "the R² of a model 3 retrainings old (180 bars, ringed) is 3.0 points below that of a fresh" in told["tested"]
    )
    drawn = spoken(told["staleness"])
    assert "60 bars +1.0; 120 bars +2.0; 180 bars +3.0" in drawn
    assert ("Half of the edge is gone at 120 bars" in drawn) == (half_life is not None)


@pytest.mark.parametrize("p", [0.049, 0.051])
def test_a_break_is_dated_only_where_it_is_more_than_chance(found: Evaluation, p: float) -> None:
    assert found.stability.change is not None
    change = replace(found.stability.change, p=p)
    told = caveat.lasting(replace(found, stability=replace(found.stability, change=change)))
    assert told["dated"] == (p < 0.05)
    assert ("a break about then" in spoken(told["cusum"])) == (p < 0.05)
    assert ("about then" in told["break"]) == (p < 0.05)
    assert p_value(p) in told["break"]
    # The range and the day of the break.
    assert ("PolyCollection" in told["cusum"]) == (p < 0.05)


def test_nothing_is_drawn_where_nothing_is_known_of_lasting(found: Evaluation) -> None:
    stability = replace(
        found.stability,
        staleness=Staleness((), None, None, edge=False),
        contributions=None,
        change=None,
        recurrence=None,
    )
    told = caveat.lasting(replace(found, stability=stability))
    assert (told["staleness"], told["cusum"], told["break"], told["recurrence"]) == (None,) * 4
    assert "too few retrainings" in told["tested"]


def test_the_suggested_retraining_is_marked_among_those_compared(found: Evaluation) -> None:
    table = caveat.lasting(found)["cadence"]
    assert [(row[0].text, row[0].note, row[1].text) for row in table.rows] == [
        ("21", "", "\N{MINUS SIGN}52.2%"),
        ("63", "suggested", "\N{MINUS SIGN}3.3%"),
    ]
    assert "727 origins before the test period" in table.caption


def test_regimes_with_too_little_data_are_grey_in_every_cell(found: Evaluation) -> None:
    study = found.regimes[0]
    skills = (replace(study.skill[0], enough=True), replace(study.skill[1], enough=False, n_eff=12.0))
    table = caveat_market.regimes(replace(found, regimes=(replace(study, skill=skills),)))[0]["table"]
    assert [{cell.tone for cell in row} == {"faint"} for row in table.rows] == [False, True]
    assert texts(table)[1][3] == "12"
    assert "Sharpe ratio, net" in table.columns


def test_regimes_without_trades_have_no_columns_for_them(found: Evaluation) -> None:
    study = found.regimes[0]
    skills = tuple(replace(one, trading_bars=None, sharpe=None, exposure=None) for one in study.skill)
    table = caveat_market.regimes(replace(found, regimes=(replace(study, skill=skills),)))[0]["table"]
    assert "Sharpe ratio, net" not in table.columns
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_training_and_test_mixes_stand_side_by_side(found: Evaluation) -> None:
    told = caveat_market.regimes(found)[0]
    mix = found.regimes[0].mix
    assert told["novelty"] == "12.5%"
    for place, (label, cells) in enumerate(told["mix"].rows):
        assert label == mix.labels[place]
        before = [mix.train_share[place], *mix.train_transitions[place]]
        after = [mix.test_share[place], *mix.test_transitions[place]]
        for was, became, cell in zip(before, after, cells, strict=True):
            assert cell.text == f"{number(100 * was, 'ratio', 1)} → {number(100 * became, 'ratio', 1)}"
        assert [cell.outlined for cell in cells].index(True) == place + 1
    heat = told["map"]
    assert [name for name, _ in heat.rows] == [str(fold + 1) for fold in found.regimes[0].heatmap.folds]
    assert [[cell.text for cell in cells] for _, cells in heat.rows] == [
        [number(100 * value, "signed", 1) for value in row] for row in found.regimes[0].heatmap.r2
    ]


def test_features_are_told_as_flagged_as_in_training_or_unknown(found: Evaluation) -> None:
    told = caveat_market.shift(found)
    rows = {row[0].text: row for row in told["all"].rows}
    assert list(rows) == ["momentum", "price", "volume_z", "all together"]
    assert rows["price"][1] == Cell("cannot tell", "", "faint")
    assert rows["price"][-1] == Cell("yes", "refused", "open")
    assert all(cell.text.endswith("%") for cell in rows["momentum"][3:7]), "ranks of the four statistics"
    shares = found.shift.summary.flagged_share
    assert rows["momentum"][1].text == f"{round(3 * shares['momentum'])} of 3"
    assert any("'price' wanders like a price level" in reason for reason in told["levels"])
    assert told["reason"] == found.shift.summary.reason
    gate = next(gate for gate in found.gates if gate.code == "G6")
    assert (told["grade"], gate.grade) == ("WARN", "WARN")
    assert told["often"].rows[0] == rows["price"]


def test_the_lines_of_the_protocol_are_named_in_equal_steps_from_one(found: Evaluation) -> None:
    first, last = found.index[0], found.index[-1]
    spans = [caveat_figures.FoldSpan(number, (("fit", first, last), ("test", first, last))) for number in range(13)]
    drawn = caveat_figures.protocol(spans, "p")
    assert re.findall(r">fold (\d+)<", drawn) == ["1", "4", "7", "10", "13"]


def test_coverage_is_told_per_method_horizon_and_regime(found: Evaluation) -> None:
    told = caveat_market.intervals(found, found.index[BEFORE])
    assert told is not None
    measured = found.intervals[HORIZON]
    assert [row[0].text for row in told["table"].rows] == [f"6, {name}" for name in ("split", "refit", "ACI", "NexCP")]
    assert [row[1].text for row in told["table"].rows] == [number(one.share, "percent", 1) for one in measured.values()]
    worst = measured["split"]
    first = found.index[BEFORE + worst.worst_start]
    assert told["table"].rows[0][4].note.startswith(f"{first:%Y-%m} to ")
    regimes = told["regimes"]
    assert [row[0].text for row in regimes.rows] == ["calm", "wild"]
    assert {cell.tone for cell in regimes.rows[1]} == {"faint"}
    lowest = spoken(told["wide"])
    assert all(f"{method} " in lowest for method in measured)


def test_an_interval_without_bounds_has_a_width_all_the_same(found: Evaluation) -> None:
    error = 0.01 * np.random.default_rng(0).standard_normal((60, 1))
    few = {0: error[:3]}
    covered = online_intervals(error, np.zeros(60, dtype=np.int64), few, delay=1, stretch=100)
    told = caveat_market.intervals(replace(found, intervals={HORIZON: covered}), found.index[BEFORE])
    assert told is not None
    assert told["table"].rows[0][2].text == "\N{INFINITY}"
    assert told["table"].rows[0][4] == Cell(UNKNOWN, "")
    # Nothing is drawn where no stretch is long enough.
    assert (told["wide"], told["narrow"]) == (None, None)


def test_the_evidence_about_trading_holds_every_number_or_says_why_not(found: Evaluation) -> None:
    told = caveat.evidence(found)
    assert told is not None
    rows = {row[0].text: row[1] for row in told["table"].rows}
    assert rows["Chance that it beats the luckiest useless trial (DSR)"] == Cell("52.0%", "17 trials on record")
    assert rows["Same positions at other times do as well"].text == "0.234"
    assert rows["Cost that eats the gross profit"].text == "1.75"
    assert rows["Sharpe ratio kept one bar later"].text == "0.66"
    assert rows["Chance of overfitting (PBO)"] == Cell("not measured", "2 of 10 variants")
    assert rows["Sharpe ratio, net"].note == "[\N{MINUS SIGN}0.43,\N{NO-BREAK SPACE}1.23]"
    assert told["reasons"] == found.gates[8].reasons
    assert caveat.evidence(replace(found, trading=None)) is None


def test_the_power_of_the_data_is_told_at_the_shortest_and_the_longest_horizon(found: Evaluation) -> None:
    skills = found.skill["ridge"]
    short, long = caveat.power(skills)
    assert short == (
        f"1 bar ahead, {number(skills[0].n_eff, 'count')} independent labels: "
        f"an IC below {number(skills[0].detectable_ic, 'ratio')} is invisible"
    )
    assert long.startswith("6 bars ahead, ")
    assert len(caveat.power(skills[:1])) == 1
    assert caveat.power(()) == []


def test_evenly_keeps_both_ends_and_no_more_than_asked() -> None:
    assert caveat_figures.evenly(3, 30) == [0, 1, 2]
    picked = caveat_figures.evenly(1000, 24)
    assert (len(picked), picked[0], picked[-1]) == (24, 0, 999)

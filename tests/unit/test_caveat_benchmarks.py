"""The benchmarks of the evaluation run, and notice what they are there to notice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import caveat_power
import caveat_size
import pytest
from caveat_size import REQUIRED, STUDIES, Decisions, Row, Task

from qtrade.files import write_json

# ------------------------------------------------------------------------------------------------ power


@pytest.fixture(scope="module")
def power() -> dict[str, caveat_power.Row]:
    """One market of each of four scenarios."""
    return {name: caveat_power.summarise([caveat_power.judge((name, 0))]) for name in ("control", "rw", "flip", "leak")}


def test_one_market_of_each_kind_is_judged_rightly(power: dict[str, caveat_power.Row]) -> None:
    assert caveat_power.missed(power) == []
    assert power["flip"].headline_fail == 1
    assert power["control"].skill_pass == 1
    assert power["control"].split_coverage == pytest.approx(0.9, abs=0.06)
    assert all(row.markets == 1 for row in power.values())


@pytest.mark.parametrize(
    ("scenario", "what", "value"),
    [
        ("control", "stability_fail", 0.11),
        ("rw", "stability_fail", 0.11),
        ("flip", "stability_fail", 0.89),
        ("flip", "break_error_bars", 101.0),
        ("rw", "skill_pass", 0.03),
        ("control", "skill_pass", 0.89),
        ("control", "headline_fail", 0.11),
        ("leak", "leak_named", 0.99),
        ("flip", "leak_named", 0.01),
    ],
)
def test_a_rate_beyond_what_is_required_is_a_miss(
    power: dict[str, caveat_power.Row], scenario: str, what: str, value: float
) -> None:
    changed: dict[str, Any] = {what: value}
    (problem,) = caveat_power.missed({**power, scenario: replace(power[scenario], **changed)})
    assert problem.startswith(f"{scenario}: {what} is {value:.3g}")


def test_coverage_of_the_wild_market_is_held_to_both_sides(power: dict[str, caveat_power.Row]) -> None:
    as_required = replace(
        power["control"],
        scenario="vol",
        stability_fail=0.4,
        split_coverage=0.7,
        aci_coverage=caveat_power.LEVEL,
    )
    assert caveat_power.missed({"vol": as_required}) == []
    for doctored in (
        replace(as_required, split_coverage=0.8),
        replace(as_required, aci_coverage=0.87),
        replace(as_required, aci_coverage=0.93),
    ):
        assert len(caveat_power.missed({"vol": doctored})) == 1


# ------------------------------------------------------------------------------------------------ size


@pytest.fixture(scope="module")
def sizes() -> list[Row]:
    """Two series of every study, as short as it is required of them, and some more for what takes longer ones."""
    tasks = [task for task in caveat_size.tasks_of(tuple(STUDIES), 2) if REQUIRED <= task.n < 2_000]
    assert {task.study for task in tasks} == set(STUDIES)
    return caveat_size.rows_of(tasks, [caveat_size.simulate(task) for task in tasks])


def test_every_p_value_that_is_promised_is_simulated(sizes: Sequence[Row]) -> None:
    promised = {(study, p_value) for study in STUDIES for p_value in STUDIES[study].promises}
    assert {(row.study, row.p_value) for row in sizes} == promised
    # With 1,000 origins only some regimes have enough data, and few series may hold none.
    tested = {(row.study, row.p_value) for row in sizes if row.decisions}
    assert promised - tested <= {("regimes", "regime ic_p, enough data")}
    assert all(row.rejected_share is None or 0 <= row.rejected_share <= 1 for row in sizes)


def test_the_same_task_gives_the_same_decisions_whatever_ran_before() -> None:
    task = Task("breaks", 250, 3, number=4)
    first = caveat_size.simulate(task)
    caveat_size.simulate(Task("breaks", 250, 3, number=5))
    assert caveat_size.simulate(task) == first


def test_series_are_cut_into_tasks_without_loss() -> None:
    tasks = caveat_size.tasks_of(("shift",), 50)
    assert [(task.n, task.series, task.number) for task in tasks] == [
        (n, series, number) for n in (4_000, REQUIRED, caveat_size.FEWEST) for number, series in enumerate((20, 20, 10))
    ]


def line(p_value: str, rejected: int, series: int = 1_000, n: int = REQUIRED) -> Row:
    """A line of the table for so many rejections, one decision in each series."""
    study = next(name for name in STUDIES if p_value in STUDIES[name].promises)
    found: list[Decisions] = [{p_value: [number < rejected]} for number in range(series)]
    return caveat_size.summarise(study, p_value, n, found)


@pytest.mark.parametrize(("p_value", "rejected"), [("ic_p", 50), ("ic_p", 20), ("ic_p", 118), ("ic_p_holm", 0)])
def test_a_share_within_two_errors_of_what_is_required_is_no_miss(p_value: str, rejected: int) -> None:
    assert caveat_size.missed([line(p_value, rejected)]) == []


@pytest.mark.parametrize(
    ("p_value", "rejected", "required"),
    [("ic_p", 15, "3-10 %"), ("ic_p", 0, "3-10 %"), ("ic_p", 130, "3-10 %"), ("ic_p_holm", 130, "to 10 %")],
)
def test_a_test_that_rejects_too_often_or_too_rarely_is_a_miss(p_value: str, rejected: int, required: str) -> None:
    (problem,) = caveat_size.missed([line(p_value, rejected)])
    assert problem.startswith(f"{p_value}, ")
    assert f"rejects {rejected / 1_000:.1%}" in problem
    assert problem.endswith(f"required is {required}")


def test_twenty_labels_are_told_and_not_required() -> None:
    assert caveat_size.missed([line("ic_p", 300, n=caveat_size.FEWEST)]) == []
    assert "told" in caveat_size.table([line("ic_p", 300, n=caveat_size.FEWEST)])


def test_what_no_test_can_tell_apart_is_told_with_the_reason() -> None:
    row = line("staleness p, weights of noise, six blocks", 300)
    assert caveat_size.missed([row]) == []
    assert f"told: {row.why}" in caveat_size.table([row])


def test_a_p_value_that_no_series_is_long_enough_for_is_a_miss() -> None:
    none: list[Decisions] = [{"circular shift p": []}]
    row = caveat_size.summarise("trading", "circular shift p", REQUIRED, none)
    assert (row.rejected_share, row.error) == (None, None)
    assert caveat_size.missed([row]) == ["circular shift p: no series is long enough to be tested"]
    assert caveat_size.missed([row, line("circular shift p", 50)]) == []


def test_tests_of_one_series_that_move_together_count_as_one() -> None:
    # Four features of 100 series reject together in five: that is no more certain than one feature of each.
    together: list[Decisions] = [{"feature shift p": [number < 5] * 4} for number in range(100)]
    alone: list[Decisions] = [{"feature shift p": [number < 5]} for number in range(100)]
    many, few = (caveat_size.summarise("shift", "feature shift p", REQUIRED, found) for found in (together, alone))
    assert (many.decisions, few.decisions) == (400, 100)
    assert many.rejected_share == few.rejected_share == 0.05
    assert many.error == pytest.approx(few.error)
    assert many.error == pytest.approx((0.05 * 0.95 / 100) ** 0.5)


def test_the_table_tells_the_reason_of_a_one_sided_requirement(sizes: Sequence[Row], tmp_path: Path) -> None:
    text = caveat_size.table(sizes)
    assert len(text.splitlines()) == 1 + len(sizes)
    cautious = [row for row in sizes if row.bound == "to 10 %"]
    assert cautious
    assert all(row.why and f"to 10 %: {row.why}" in text for row in cautious)
    assert all(bool(row.why) == (row.bound != "3-10 %") for row in sizes)
    write_json(tmp_path / "size.json", [asdict(row) for row in sizes])
    assert json.loads((tmp_path / "size.json").read_text())[0]["p_value"] == "r2_vs_zero_p"

"""What docs/reading-the-caveat.md says is so: thresholds, tables, commands, keys, pictures and links."""

from __future__ import annotations

import inspect
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import caveat_pictures
import numpy as np
import pytest
import typer

from qtrade.cli import app
from qtrade.config import load_config
from qtrade.data.synthetic import SCENARIOS, SyntheticConfig
from qtrade.errors import IntegrityError
from qtrade.evaluation import by_regime, gates, intervals, regimes, shift, staleness, trading
from qtrade.evaluation.breaks import BLOCK_BARS, Break, Recurrence
from qtrade.evaluation.config import EvaluationConfig
from qtrade.evaluation.gates import Gate, Limits
from qtrade.evaluation.result import Evaluation
from qtrade.evaluation.significance import detectable_ic
from qtrade.evaluation.skill import LEVEL, HorizonSkill, skill
from qtrade.forecasts import Forecasts
from qtrade.pipeline.cadence import CADENCES
from qtrade.pipeline.evaluate import SUSPICIOUS
from qtrade.pipeline.integrity import CUTS
from qtrade.pipeline.ladder import PROBES
from qtrade.pipeline.transfer import MAX_SYMBOLS
from qtrade.types import Bars, Float64Array

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDE = (DOCS / "reading-the-caveat.md").read_text(encoding="utf-8")
# Sections of a report that say what was done and made, and nothing of whether it holds.
NO_CAVEAT = {"about", "equity", "paths", "costs", "reproduce", "words"}
PROSE = " ".join(GUIDE.split())
Grader = Callable[[float], str]


def rows(header: str) -> list[list[str]]:
    """Cells of the table under a header line."""
    _, found, rest = GUIDE.partition(f"{header}\n")
    assert found, f"there is no table {header}"
    lines = rest.partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def commands() -> list[list[str]]:
    """Words of every command of the page."""
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE, flags=re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words for words in lines if words]


# --- the gates ---


def skill_of(ic: float = 0.0, direction: float = 0.5) -> list[HorizonSkill]:
    return [
        cast(HorizonSkill, SimpleNamespace(horizon=1, correlation=SimpleNamespace(ic=ic), right_direction=direction))
    ]


def plausible(**found: float) -> str:
    r2 = found.pop("r2", 0.0)
    return gates.plausibility_gate(skill_of(**found), r2, Limits(), ()).grade


def stable(staleness_p: float = 1.0, break_p: float = 1.0, recurrence_p: float = 1.0) -> str:
    age = staleness.Age(6, 600.0, 1_000, r2_lost=0.02, low=0.0, high=0.04, fresh_r2=0.05, p=staleness_p)
    change = Break(break_p, bar=5, first=4, last=6, before=0.2, after=0.0, path=np.zeros(9))
    aged = staleness.Staleness((age,), age, None, edge=True)
    return gates.stability_gate(aged, change, Recurrence(0.0, recurrence_p, 30)).grade


def regime(**found: float) -> by_regime.RegimeSkill:
    known: dict[str, Any] = dict.fromkeys(by_regime.RegimeSkill.__dataclass_fields__)
    return by_regime.RegimeSkill(**{**known, "label": "calm", "enough": True, "n_eff": 99.0, **found})


def traded(**found: float) -> str:
    good = trading.TradingEvidence(
        trades=9,
        years=5.0,
        sharpe=1.0,
        sharpe_low=0.5,
        sharpe_high=1.5,
        psr=0.99,
        dsr=0.99,
        trials=2,
        min_track_record_years=2.0,
        shift_p=0.01,
        breakeven_over_cost=5.0,
        delay_retention=0.9,
        pbo=0.1,
        variants=20,
    )
    return trading.gate(replace(good, **cast(Any, found)))[0]


GRADERS: dict[tuple[str, str], list[Grader]] = {
    ("G1", "IC of the next bar"): [lambda value: plausible(ic=value)],
    ("G1", "next directions that are right"): [lambda value: plausible(direction=value)],
    ("G1", "R² over the whole path"): [lambda value: plausible(r2=value)],
    ("G3", "lowest p-value of staleness, break and recurrence"): [
        lambda value: stable(staleness_p=value),
        lambda value: stable(break_p=value),
        lambda value: stable(recurrence_p=value),
    ],
    ("G5", "test bars in regimes that held under 5% of training"): [
        lambda value: gates.regime_gate(value, [regime()], skilled=True).grade
    ],
    ("G5", "part of the gain from one regime, if G2 passes"): [
        lambda value: gates.regime_gate(0.0, [regime(gain_share=value)], skilled=True).grade
    ],
    ("G7", "distance from 80%, in the worst regime with enough data"): [
        lambda value: gates.coverage_gate(0.8, [("calm", 0.8 - value, True)]).grade,
        lambda value: gates.coverage_gate(0.8, [("calm", 0.8 + value, True), ("wild", 0.0, False)]).grade,
    ],
    ("G8", "deflated Sharpe ratio (DSR)"): [lambda value: traded(dsr=value)],
    ("G8", "p-value of the shifted positions"): [lambda value: traded(shift_p=value)],
    ("G8", "break-even cost over assumed cost"): [lambda value: traded(breakeven_over_cost=value)],
    ("G8", "Sharpe ratio kept one bar later"): [lambda value: traded(delay_retention=value)],
    ("G8", "probability of backtest overfitting (PBO)"): [lambda value: traded(pbo=value)],
}
HOLDS: dict[str, Callable[[float, float], bool]] = {
    "at most": lambda value, bound: value <= bound,
    "above": lambda value, bound: value > bound,
    "at least": lambda value, bound: value >= bound,
    "below": lambda value, bound: value < bound,
}


def bound(text: str) -> tuple[str, float] | None:
    """Read ``at most 58%``; None for an empty cell."""
    if not text:
        return None
    found = re.fullmatch(r"(at most|above|at least|below) ([\d.]+)(%?)", text)
    assert found, f"'{text}' is not a threshold"
    return found[1], float(found[2]) / (100 if found[3] else 1)


THRESHOLDS = rows("| gate | number | PASS | WARN | FAIL |")


def test_every_number_that_decides_has_its_line() -> None:
    assert [(row[0], row[1]) for row in THRESHOLDS] == list(GRADERS)


@pytest.mark.parametrize("row", THRESHOLDS, ids=lambda row: f"{row[0]}: {row[1]}")
def test_the_gates_grade_as_the_table_says_on_both_sides_of_each_threshold(row: list[str]) -> None:
    code, name, *cells = row
    told = {grade: bound(cell) for grade, cell in zip(("PASS", "WARN", "FAIL"), cells, strict=True)}
    limits = [one[1] for one in told.values() if one is not None]
    near = [limit + step for limit, step in product(limits, (-1e-4, 0.0, 1e-4))]
    for value in (*near, 0.001, 0.25, 0.6, 1.5, 3.0):
        for grader in GRADERS[code, name]:
            grade = grader(value)
            # What fails is beyond what warns, too.
            right = {"PASS": grade == "PASS", "WARN": grade != "PASS", "FAIL": grade == "FAIL"}
            for said, one in told.items():
                if one is not None:
                    assert HOLDS[one[0]](value, one[1]) == right[said], f"{grade} at {value}"
            assert told[grade] is not None, f"{grade} at {value}, and nothing says so"


def test_the_gates_of_the_table_are_those_of_the_code() -> None:
    assert [row[0] for row in rows("| gate | question | PASS | WARN | FAIL |")] == [
        f"{code} {title}" for code, title in gates.TITLES.items()
    ]


def opened(**grades: str) -> list[Gate]:
    return [Gate(code, cast(Any, grades.get(code, "PASS")), ("",)) for code in gates.TITLES]


def test_the_headline_is_made_by_the_rule_that_is_told() -> None:
    order = re.search(r"From worst to best: ([A-Z, ]+)\.", PROSE)
    assert order
    ranked = order[1].split(", ")
    assert len(ranked) == 5
    counted = ("G0", "G1", "G2", "G3", "G4", "G5", "G8")
    for (worse, one), (better, other) in product(product(ranked, counted), repeat=2):
        if one != other and ranked.index(worse) <= ranked.index(better):
            assert gates.headline(opened(**{one: worse, other: better})) == worse
    assert "G6 and G7 are told but do not count" in PROSE
    assert gates.headline(opened(G6="WARN", G7="FAIL")) == "PASS"
    assert "without G2 (skill) and G3 (stability) there is no PASS" in PROSE
    for code in gates.TITLES:
        missing = gates.headline(opened(**{code: "NOT MEASURED"}))
        assert missing == ("INCONCLUSIVE" if code in ("G2", "G3") else "PASS")


def test_every_headline_is_explained() -> None:
    told = [row[0] for row in rows("| headline | what it means | what to do |")]
    assert set(told) == set(gates._WORST_FIRST)


def test_a_random_walk_that_is_traded_fails_and_is_inconclusive_until_then() -> None:
    assert gates.headline(opened(G2="INCONCLUSIVE", G8="NOT MEASURED")) == "INCONCLUSIVE"
    assert gates.headline(opened(G2="INCONCLUSIVE", G8="FAIL")) == "FAIL"


# --- numbers ---


def default_of(function: Callable[..., object], name: str) -> object:
    return inspect.signature(function).parameters[name].default


def test_the_table_of_power_is_computed() -> None:
    table = rows("| independent forecasts | bars, if each reaches 24 ahead | smallest IC that is seen |")
    assert len(table) >= 5
    for count, bars, ic in table:
        size = int(count.replace(",", ""))
        assert int(bars.replace(",", "")) == 24 * size
        assert ic == f"{detectable_ic(size):.2f}"


@pytest.mark.parametrize(
    "words",
    [
        f"{staleness.TESTED_AGE} retrainings, fixed beforehand",
        f"blocks of {BLOCK_BARS} bars",
        f"from {', '.join(map(str, CADENCES[:-1]))} and {CADENCES[-1]} bars",
        f"fewer than {by_regime.ENOUGH} independent forecasts",
        f"more than {shift.PERSISTENT} from bar to bar",
        f"about {MAX_SYMBOLS} symbols at most",
        f"PBO needs {trading.MIN_VARIANTS} variants",
        f"at {CUTS} origins from bars that end there",
        f"correlation with the next return exceeds {SUSPICIOUS:.2f}",
        f"promise {EvaluationConfig().level:.0%}",
        f"under {regimes.NOVEL:.0%} of training",
        f"beyond chance at {LEVEL:.0%}",
        f"exit code is {IntegrityError.exit_code}",
        f"over the last {default_of(intervals.online_intervals, 'stretch')} origins",
        f"above its {default_of(regimes.trend, 'window')}-bar mean",
    ],
)
def test_numbers_in_the_text_are_those_of_the_code(words: str) -> None:
    assert words in PROSE


def test_markets_of_the_pictures_are_explained_and_exist() -> None:
    told = [re.sub("`", "", row[0]) for row in rows("| market | its rule |")]
    assert set(told) <= set(SCENARIOS)
    assert set(told) == {piece.market.partition(" ")[0] for one in caveat_pictures.PICTURES for piece in one.pieces}
    assert "after two thirds of the bars" in PROSE
    assert SyntheticConfig().change * 3 == SyntheticConfig().bars * 2


# --- commands and keys ---


def test_commands_of_qtrade_take_these_options() -> None:
    group = typer.main.get_group(app)
    ran = [words for words in commands() if words[0] == "qtrade"]
    assert len(ran) >= 5
    for _, name, *words in ran:
        # Parses, and complains of an option that does not exist, but runs nothing.
        parsed = group.commands[name].make_context(name, list(words)).params
        assert parsed["run_name"] == "RUN"
        assert parsed["probe"] in PROBES
        for text in parsed["settings"] or ():
            assert text.startswith("evaluation.")
            load_config(None, [text])


def test_commands_of_the_benchmarks_take_these_options() -> None:
    ran = [words for words in commands() if words[0] == "python"]
    assert len(ran) == 4
    for _, script, *words in ran:
        code = (ROOT / script).read_text(encoding="utf-8")
        for option in words:
            if option.startswith("--"):
                assert f'"{option}"' in code, f"{script} has no {option}"


@pytest.fixture(scope="module")
def told(
    forecast_market: Callable[..., tuple[Bars, Forecasts, Float64Array]], evaluated: Callable[..., Evaluation]
) -> dict[str, Any]:
    """What evaluation.json holds of a run in which everything was measured."""
    bars, forecasts, actual = forecast_market(("A",), bars=240, before=120, folds=4, horizon=6)
    skills = {"ridge": skill(forecasts, actual, np.zeros(len(forecasts)), (1, 6))}
    return evaluated(bars, forecasts, actual, skills).to_dict()


def test_every_key_of_the_table_is_in_evaluation_json_and_every_key_is_in_the_table(told: dict[str, Any]) -> None:
    table = rows("| section of the report | where its numbers are |")
    named = [key for row in table for key in re.findall(r"`([\w.]+)`", row[1])]
    for key in named:
        place = told
        for part in key.split("."):
            assert part in place, key
            place = place[part]
    assert {key.partition(".")[0] for key in named} == set(told)
    inside = {key.partition(".")[2] for key in named if key.startswith("stability.")}
    assert inside == set(told["stability"])


def test_sections_are_called_what_they_are_called_in_the_report() -> None:
    sections = (ROOT / "qtrade" / "report" / "sections").glob("*.html")
    found = re.findall(r'<h2 id="(\w+)">([^<>]+)</h2>', "".join(path.read_text(encoding="utf-8") for path in sections))
    titles = [title for name, title in found if name not in NO_CAVEAT]
    assert len(titles) >= 10
    assert len(found) == len(titles) + len(NO_CAVEAT)
    headings = re.findall(r"^## (.+)$", GUIDE, flags=re.MULTILINE)
    assert [title for title in titles if title not in headings] == []
    for row in rows("| section of the report | where its numbers are |"):
        assert row[0] in (*titles, "Verdict")


# --- pictures and links ---


def links() -> Iterator[tuple[str, str]]:
    for target in re.findall(r"\]\(([^)\s]+)\)", GUIDE):
        path, _, anchor = target.partition("#")
        yield path, anchor


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_within_the_repository_resolve() -> None:
    found = list(links())
    assert len(found) > 10
    for path, anchor in found:
        target = DOCS / path if path else DOCS / "reading-the-caveat.md"
        assert target.is_file(), path
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), anchor


def test_every_picture_is_shown_described_and_made_by_the_command() -> None:
    shown = dict(re.findall(r"!\[([^\]]+)\]\(caveat/(\w+)\.png\)", GUIDE))
    names = list(shown.values())
    assert sorted(names) == sorted(path.stem for path in (DOCS / "caveat").iterdir())
    assert sorted(names) == sorted(one.name for one in caveat_pictures.PICTURES)
    assert all(len(text) > 20 for text in shown)


def test_pictures_are_few_small_and_of_256_colours() -> None:
    pictures = sorted((DOCS / "caveat").glob("*.png"))
    assert 0 < len(pictures) <= 12
    for path in pictures:
        content = path.read_bytes()
        assert len(content) <= 60 * 1024, path.name
        palette = 3
        assert content[25] == palette, path.name


def test_the_command_says_what_is_missing_without_a_browser(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["caveat_pictures.py", "--chromium", "/nowhere/chromium"])
    assert caveat_pictures.main() == 2
    said = capsys.readouterr()
    assert "/nowhere/chromium" in said.err
    assert "--chromium" in said.err
    monkeypatch.setattr(sys, "argv", ["caveat_pictures.py"])
    monkeypatch.setenv("PATH", "")
    assert caveat_pictures.main() == 2
    assert "apt-get install chromium" in capsys.readouterr().err


def test_pieces_are_cut_out_of_their_own_section() -> None:
    page = (
        '<style>p {}</style><section class="verdict bad">FAIL<details>more</details></section>'
        '<h2 id="skill">Skill</h2><figure>one</figure><p></p><figure>two</figure>'
        '<h2 id="transfer">Transfer</h2><table class="heat">map</table>'
    )
    assert caveat_pictures.figure("skill", 1)(page) == "<figure>two</figure>"
    assert caveat_pictures.heat_map("transfer")(page) == '<table class="heat">map</table>'
    assert caveat_pictures.verdict_card(page) == '<section class="verdict bad">FAIL</section>'
    for cut in (caveat_pictures.figure("transfer"), caveat_pictures.heat_map("skill"), caveat_pictures.figure("lost")):
        with pytest.raises(LookupError, match="the report has"):
            cut(page)

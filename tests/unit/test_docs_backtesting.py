"""What docs/backtesting.md says is so: its tables are those of the code, and its commands print what it shows."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pandas as pd
import pytest
import typer
from pydantic import BaseModel

from qtrade.backtest.costs import BacktestConfig, CostConfig, ExitConfig
from qtrade.backtest.curves import COST_BPS, DELAYS
from qtrade.backtest.metrics import FEW
from qtrade.cli import app
from qtrade.config import load_config
from qtrade.pipeline.axes import parse_axis
from qtrade.report.text import GROUPS
from qtrade.strategy import load_strategy, strategy_folders
from qtrade.terminal import out

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDE = (DOCS / "backtesting.md").read_text(encoding="utf-8")
PROSE = " ".join(GUIDE.split())
Program = Callable[..., CompletedProcess[str]]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)


def commands() -> list[list[str]]:
    """Words of every command of the page."""
    lines = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]
    return [words for words in lines if words]


def section(title: str) -> str:
    """Text below a heading of any level, up to the next one."""
    _, found, rest = GUIDE.partition(f"# {title}\n")
    assert found, f"there is no section {title}"
    return re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Cells of the rows of all tables in a text, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {place - 1 for place, line in enumerate(lines) if line.startswith("|--")}
    kept = [line for place, line in enumerate(lines) if place not in heads and not line.startswith("|--")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in kept]


def told_default(value: object) -> str:
    """Write a default as the page does."""
    if isinstance(value, float):
        value = f"{value:g}" if value < 1e5 else f"{value:.0f}"
    return "none" if value is None else f"`{str(value).lower()}`"


# --- tables ---


@pytest.mark.parametrize(
    ("table", "settings"),
    [("backtest", BacktestConfig), ("backtest.costs", CostConfig), ("backtest.exits", ExitConfig)],
)
def test_every_key_of_the_account_stands_in_its_table_with_its_default(table: str, settings: type[BaseModel]) -> None:
    _, found, rest = GUIDE.partition(f"\n`[{table}]`\n\n")
    assert found
    told = {cells[0].strip("`"): cells[2] for cells in rows(rest.partition("\n\n")[0])}
    assert told == {
        name: told_default(field.default)
        for name, field in settings.model_fields.items()
        if not isinstance(field.default, BaseModel)
    }


def test_every_number_of_a_report_is_defined_under_its_name() -> None:
    shown = [label for group in GROUPS.values() for label, _, _ in group.values()]
    titles = ("Return and risk", "Trading, and beside buy-and-hold")
    defined = [cells[0] for title in titles for cells in rows(section(title))]
    assert defined == shown


def test_every_number_about_luck_is_defined_under_its_name() -> None:
    defined = [cells[0] for cells in rows(section("Luck"))]
    code = (ROOT / "qtrade" / "report" / "backtests.py").read_text(encoding="utf-8")
    table = code.partition("def _luck_table")[2].partition("return Table")[0]
    ratio, *others = re.findall(r'^        \("(.+?)", ', table, flags=re.MULTILINE)
    assert defined == [ratio, "its 95% interval", *others]


def test_the_points_of_both_curves_are_those_that_are_traded() -> None:
    costs = ", ".join(f"{one:g}" for one in COST_BPS[:-1])
    delays = ", ".join(map(str, DELAYS[:-1]))
    assert f"trades the same weights at {costs} and {COST_BPS[-1]:g} bp" in PROSE
    assert f"fills {delays} and {DELAYS[-1]} bars after the decision" in PROSE


# --- commands and code ---


def test_every_command_is_one() -> None:
    group = typer.main.get_group(app)
    assert len(commands()) == 13
    for program, name, *words in commands():
        assert program == "qtrade"
        # Parses, and complains of an option that does not exist, but runs nothing.
        given = group.commands[name].make_context(name, list(words)).params
        for text in given.get("account") or ():
            load_config(None, [f"backtest.{text}"])
        for text in given.get("param") or ():
            assert parse_axis(text).values
        if name in ("backtest", "sweep", "explain"):
            assert given["run_name"] == "tour"
            named = given["strategy"] if isinstance(given["strategy"], list | tuple) else [given["strategy"]]
            for spec in named:
                load_strategy(spec, {}, strategy_folders())


def test_the_python_prints_what_stands_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    exec(code, {})
    _, _, rest = GUIDE.partition(code)
    printed = rest.partition("```text\n")[2].partition("```")[0]
    assert capsys.readouterr().out == printed


def test_links_and_pictures_are_there() -> None:
    links = re.findall(r"\]\(([^)]+)\)", GUIDE)
    assert len(links) > 5
    for link in links:
        name, _, anchor = link.partition("#")
        text = (DOCS / name).read_text(encoding="utf-8") if name.endswith(".md") else GUIDE
        assert (DOCS / name).exists(), link
        titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors, link
    pictures = list((DOCS / "backtesting").iterdir())
    assert {f"backtesting/{path.name}" for path in pictures} <= set(links)
    assert all(path.stat().st_size < 150_000 for path in pictures)


# --- the tour ---


@pytest.fixture
def tour(tmp_path: Path, qtrade: Program, unevaluated: None, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Run a command of the page in a folder in which its first ones have been run."""
    monkeypatch.setattr(out, "width", 80)

    def run(*words: str) -> CompletedProcess[str]:
        done = qtrade(tmp_path, *words)
        assert done.returncode == 0, done.stderr
        return done

    for _, *words in commands()[:2]:
        run(*words)
    return run


def shown_below(words: list[str]) -> str:
    """Return what the page shows below a block of commands that ends with this one; nothing for others."""
    for block, _, shown in re.findall(r"```sh\n([^`]*?)```\n\n(```text\n(.*?)```)?", GUIDE, flags=re.DOTALL):
        if shlex.split(block.splitlines()[-1], comments=True) == words:
            return str(shown)
    return ""


def plain(text: str) -> str:
    """Leave out what another machine may round or name otherwise: hashes and the engine; and how a line is broken."""
    return " ".join(re.sub(r"SHA-256 \w+|\((numba|rust)\)|tour-\w{8}", "", text).split())


def test_the_tour_prints_what_the_page_shows(tour: Program, tmp_path: Path) -> None:
    asked = [words for words in commands()[2:] if shown_below(words)]
    assert [words[1] for words in asked] == ["backtest", "sweep", "trials", "explain"]
    for _, *words in asked:
        shown = shown_below(["qtrade", *words])
        if words[0] == "trials":  # without the evaluation, which would take longer than all the rest
            shown = shown.replace("47 on record", "46 on record").replace("1 evaluation, ", "")
        assert plain(shown) in plain(tour(*words).stdout)

    (table,) = tmp_path.glob("runs/*/sweeps/*/variants.csv")
    ranked = pd.read_csv(table).sort_values("sharpe", na_position="first").iloc[::-1]
    first = ranked.iloc[0]
    assert f"{first['fills']:.0f} fills and is invested in {first['exposure']:.2%} of the bars" in PROSE
    assert (ranked["effective_bars"].iloc[:3] <= FEW).all()
    assert ranked["effective_bars"].iloc[3] > FEW
    assert f"Its Sharpe ratio of {first['sharpe']:.2f} comes without an interval" in PROSE
    (alone,) = (words for words in commands() if "step=1, threshold=0.002" in words[-1])
    folder = tmp_path / tour(*alone[1:]).stdout.splitlines()[-1]
    told = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    found = told["metrics"]
    assert f"the skew of the bars is {found['skew']:.0f}, the kurtosis is {found['kurtosis']:,.0f}, and the" in PROSE
    assert told["sharpe_bootstrap_low95"] is None
    assert found["sharpe_low"] is None
    one, other = pd.read_parquet(folder / "equity.parquet")["net"].nlargest(2)
    assert f"Two days of October 2008, with {one:.1%} and {other:.1%}" in PROSE

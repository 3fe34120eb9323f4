"""Guides say what is so: their Python prints what stands below it, and their commands and links are ones."""

from __future__ import annotations

import ast
import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import typer

from qtrade.cli import app
from qtrade.config import RunConfig, load_config
from qtrade.pipeline.transfer import MAX_SYMBOLS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDES = {name: (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("gpu", "limits", "paper")}
# A command that the tests leave out says so, and why.
NOT_RUN = "not run by the tests: "
Program = Callable[..., CompletedProcess[str]]


def lines_of(guide: str) -> list[str]:
    """Every line of the blocks of commands."""
    return [line for block in re.findall(r"```sh\n(.*?)```", guide, flags=re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("name", GUIDES)
def test_the_python_prints_what_stands_below_it(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])
    blocks = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", GUIDES[name], flags=re.DOTALL)
    assert len(blocks) >= 3
    namespace: dict[str, Any] = {}
    for code, printed in blocks:
        exec(code, namespace)
        assert capsys.readouterr().out == printed, code


@pytest.mark.parametrize("name", GUIDES)
def test_every_command_is_one(name: str, tmp_path: Path, qtrade: Program) -> None:
    group = typer.main.get_group(app)
    for line in lines_of(GUIDES[name]):
        program, *words = shlex.split(line, comments=True)
        if program == "qtrade":
            # Parses, and complains of an option that does not exist, but runs nothing.
            given = group.commands[words[0]].make_context(words[0], words[1:]).params
            load_config(None, given.get("settings") or ())
            if NOT_RUN not in line:
                assert qtrade(tmp_path, *words).returncode == 0
        else:
            assert NOT_RUN in line
            assert program == "python"
            assert_options_exist(words)


def assert_options_exist(words: list[str]) -> None:
    """Check that a script is there and knows the options; of pytest, that the file is there."""
    if words[:2] == ["-m", "pytest"]:
        assert (ROOT / words[2]).exists()
        return
    tree = ast.parse((ROOT / words[0]).read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    known = {
        arg.value
        for one in calls
        if ast.unparse(one.func).endswith("add_argument")
        for arg in one.args[:1]
        if isinstance(arg, ast.Constant)
    }
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("name", GUIDES)
def test_links_and_modules_are_there(name: str) -> None:
    guide = GUIDES[name]
    for link in re.findall(r"\]\(([^)]+)\)", guide):
        file, _, anchor = link.partition("#")
        text = (DOCS / file).read_text(encoding="utf-8") if file else guide
        titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors, link
    for path in re.findall(r"`((?:qtrade|tests|benchmarks)/[\w/.]+)`", guide):
        assert (ROOT / path).exists(), path


def test_settings_of_the_guide_to_gpus_have_the_defaults_it_names() -> None:
    rows = re.findall(r"^\| `(train\.\w+)` \| `(\w+)` \|", GUIDES["gpu"], flags=re.MULTILINE)
    assert len(rows) == 6
    train = RunConfig().train
    told = {key: json.loads(value) for key, value in rows}
    assert told == {key: getattr(train, key.partition(".")[2]) for key in told}


def test_results_that_are_said_not_to_exist_do_not() -> None:
    results = [json.loads(path.read_text()) for path in (ROOT / "benchmarks" / "results").glob("*.json")]
    settings = [one.get("settings") for one in results]
    devices = {one.get("device", "cpu") for one in results} | {
        one["device"] for one in settings if isinstance(one, dict)
    }
    sizes = {one for one in settings if isinstance(one, str)}
    # Once a card has been measured, or the published settings run, these sentences have to go.
    assert ("None of it has been measured on a card yet" in GUIDES["gpu"]) == (devices == {"cpu"})
    assert ("The published settings have not been run here yet" in GUIDES["paper"]) == (sizes == {"reduced"})


def test_numbers_of_the_limits_are_those_of_the_code() -> None:
    assert MAX_SYMBOLS == 10
    assert "about ten symbols at most" in GUIDES["limits"]

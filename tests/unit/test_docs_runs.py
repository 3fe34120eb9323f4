"""What docs/runs.md says is so: its commands exist, and print what it shows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import typer

from qtrade.cli import app
from qtrade.config import load_config
from qtrade.evaluation.skill import MIN_LABELS
from qtrade.files import write_json
from qtrade.terminal import out

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
PROSE = " ".join(GUIDE.split())
Program = Callable[..., CompletedProcess[str]]


def blocks() -> list[tuple[str, str]]:
    """Pair each block of commands with what the page shows below it."""
    found = re.findall(r"```sh\n([^`]*?)```\n\n(?:```text\n(.*?)```)?", GUIDE, flags=re.DOTALL)
    return [(str(commands), str(shown)) for commands, shown in found]


def commands() -> list[list[str]]:
    return [shlex.split(line)[1:] for block, _ in blocks() for line in block.splitlines()]


def plain(text: str) -> str:
    """Leave out what is another one at another time or place, or without an evaluation: hashes, dates, files, sizes."""
    text = re.sub(r"((?:long|short)-)\w{8}|data hash \w+|\d[\d.]* [kM]B|\d+ files|─+", r"\1", text)
    return " ".join(re.sub(r"(INCONCLUSIVE +)\d{4}-\d\d-\d\d", r"\1", text).split())


def test_every_command_is_one() -> None:
    group = typer.main.get_group(app)
    inline = [shlex.split(one)[1:] for one in re.findall(r"`(qtrade (?:runs|compare|train) [^`]+)`", GUIDE)]
    for words in [*commands(), *(one for one in inline if one)]:
        command, left = group.commands[words[0]], words[1:]
        if isinstance(command, typer.core.TyperGroup):
            command, left = command.commands[left[0]], left[1:]
        given = command.make_context(words[0], list(left)).params
        load_config(None, given.get("settings") or ())
    assert len(commands()) == 8


def test_the_tour_prints_what_the_page_shows(
    tmp_path: Path, qtrade: Program, unevaluated: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out, "width", 80)
    shown = 0
    for block, text in blocks():
        for line in block.splitlines():
            done = qtrade(tmp_path, *shlex.split(line)[1:])
            assert done.returncode == 0, done.stderr
        if not text:
            # What both evaluations find, and take longer to find than everything else here takes.
            for manifest in tmp_path.glob("runs/*/manifest.json"):
                told = {"verdict": {"headline": "INCONCLUSIVE", "line": ""}, "gates": []}
                write_json(manifest.parent / "evaluation.json", told)
            continue
        assert plain(done.stdout) == plain(text)
        shown += 1
    assert shown == 3


def test_numbers_in_the_prose_are_those_of_the_tables() -> None:
    assert f"at least {MIN_LABELS} outcomes" in PROSE
    assert "would remove runs/short-" in GUIDE
    assert "`short` could forecast 72 origins earlier" in PROSE
    assert 1_955 - 1_883 == 72
    assert "its p-value is 0.24" in PROSE
    assert "0.240" in GUIDE


def test_links_are_there() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", GUIDE):
        name, _, anchor = link.partition("#")
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        titles = [re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in re.findall(r"^#+ (.+)$", text, re.M)]
        assert not anchor or anchor in titles, link

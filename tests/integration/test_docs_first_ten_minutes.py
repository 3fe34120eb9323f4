"""What docs/first-ten-minutes.md promises a newcomer happens: each command is typed, and prints what the page shows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from qtrade.terminal import out

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "first-ten-minutes.md").read_text(encoding="utf-8")
STEPS = re.findall(r"```(sh|python|text)\n(.*?)```", GUIDE, flags=re.DOTALL)


def plain(text: str) -> str:
    """Leave out what another machine may round or name otherwise, and how a line is broken."""
    return " ".join(re.sub(r"SHA-256 \w+|\((numba|rust)\)|-[0-9a-f]{8}\b|trade-1\.png", "", text).split())


@pytest.mark.usefixtures("undrawn")
def test_each_step_prints_what_the_page_shows(
    tmp_path: Path, qtrade: Callable[..., CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out, "width", 80)
    place, printed, shown = tmp_path, "", 0
    for language, block in STEPS:
        if language == "python":
            (place / "strategies" / "rebound.py").write_text(block, encoding="utf-8")
        elif language == "text":
            assert plain(block) in plain(printed)
            shown += 1
        else:
            for program, *words in (shlex.split(line) for line in block.splitlines()):
                if program == "cd":
                    place /= words[0]
                elif program == "qtrade":
                    done = qtrade(place, *words)
                    assert done.returncode == 0, done.stderr
                    printed = done.stdout
                else:
                    assert (program, words) in (("make", ["demo"]), ("source", [".venv/bin/activate"]))
    assert shown == 5


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", GUIDE)
    assert len(links) > 8
    for link in links:
        assert (ROOT / "docs" / link).is_file(), link

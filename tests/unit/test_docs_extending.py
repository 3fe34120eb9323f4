"""What docs/extending.md says is so: its model, edited into a copy of qtrade, passes every test and is trained."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from qtrade.cli import app
from qtrade.config import load_config

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDE = (DOCS / "extending.md").read_text(encoding="utf-8")
MODEL, ATTEMPT = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
NOT_RUN = "not run by the tests"

# Runs in the copy: the attempt, every command, and the conformance tests, with a line between them.
SCRIPT = """
import sys
import pytest
import qtrade.pipeline.evaluate
from qtrade.cli import main

qtrade.pipeline.evaluate.evaluate_run = lambda run, *, progress: None  # measuring takes longer than all the rest
exec(sys.argv[1], {})
for command in sys.argv[2].splitlines():
    print("$", command)
    sys.argv = command.split("\\x1f")
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, command
print("$ tests", flush=True)
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "tests/unit/test_models.py", "-k", "ewma"]))
"""


def commands() -> list[tuple[list[str], bool]]:
    """Words of every command of the page, and whether the tests run it."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, flags=re.DOTALL) for line in block.splitlines()]
    return [(shlex.split(line, comments=True), NOT_RUN not in line) for line in lines]


def edited(text: str, edit: str) -> str:
    """Make an edit, whose lines must stand in the text once."""
    lines = edit.splitlines()
    before, after = ("".join(f"{line[1:]}\n" for line in lines if line[:1] in (" ", "", sign)) for sign in "-+")
    assert text.count(before) == 1, f"this does not stand there, or more than once:\n{before}"
    return text.replace(before, after)


@pytest.fixture(name="printed", scope="module")
def printed_by_the_copy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Edit a copy of qtrade as the page says; return what the attempt, its commands and its tests print."""
    copy = tmp_path_factory.mktemp("copy")
    for part in ("qtrade", "strategies"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("tests/conftest.py", "tests/unit/test_models.py", "pyproject.toml"):
        (copy / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, copy / part)
    edits = re.findall(r"```diff\n--- (.+?)\n(.*?)```", GUIDE, flags=re.DOTALL)
    assert len(edits) == 10
    for name, edit in edits:
        path = copy / name
        path.write_text(edited(path.read_text(encoding="utf-8"), edit), encoding="utf-8")
    (copy / "qtrade" / "models" / "ewma.py").write_text(MODEL, encoding="utf-8")
    small = ["--set", "split.step=1500", "--set", "features.set=minimal"]
    asked = [words + small * (words[1] == "train") for words, run in commands() if run and words[0] == "qtrade"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, ATTEMPT, "\n".join("\x1f".join(words) for words in asked)],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "COLUMNS": "80", "PYTHONWARNINGS": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, *parts = re.split(r"^\$ ", done.stdout, flags=re.MULTILINE)
    heads = (part.partition("\n") for part in parts)
    return {"": first, **{head.replace("\x1f", " "): rest for head, _, rest in heads}}


def test_the_attempt_prints_what_the_page_shows(printed: dict[str, str]) -> None:
    _, _, rest = GUIDE.partition(ATTEMPT)
    assert printed[""] == rest.partition("```text\n")[2].partition("```")[0]


def test_the_model_passes_the_tests_of_every_model(printed: dict[str, str]) -> None:
    tests = (ROOT / "tests" / "unit" / "test_models.py").read_text(encoding="utf-8")
    (shared,) = (one for one in ast.parse(tests).body if isinstance(one, ast.ClassDef) and one.name == "TestEveryModel")
    assert f"{len([one for one in shared.body if isinstance(one, ast.FunctionDef)])} passed" in printed["tests"]


def test_the_model_is_listed_and_trained(printed: dict[str, str]) -> None:
    assert "A fading trend" in printed["qtrade models"]
    (trained,) = (text for name, text in printed.items() if name.startswith("qtrade train"))
    assert "fading-" in trained


def test_every_command_is_one() -> None:
    group = typer.main.get_group(app)
    known = 0
    for (program, name, *words), _ in commands():
        if program == "qtrade":
            known += 1
            given = group.commands[name].make_context(name, list(words)).params
            for text in given.get("settings") or ():
                if "ewma" not in text:
                    load_config(None, [text])
    assert known == 4


def test_places_that_are_named_are_there() -> None:
    for words, path in re.findall(r"\| ([^|]*`[^|]*), `(qtrade/[\w/]+\.py)`", GUIDE):
        text = (ROOT / path).read_text(encoding="utf-8")
        for word in re.findall(r"`(\w+)`", words):
            assert re.search(rf"\b{word}\b", text), f"{path} has no {word}"
    for path in re.findall(r"`((?:qtrade|tests)/[\w/]+\.py)`", GUIDE):
        assert (ROOT / path).exists() or path == "qtrade/models/ewma.py", path
    for link in re.findall(r"\]\(([^)]+)\)", GUIDE):
        name, _, anchor = link.partition("#")
        text = (DOCS / name).read_text(encoding="utf-8") if name else GUIDE
        titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors, link

"""What the program says of itself: a first page that fits a screen, and examples that run as they stand."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import typer

from qtrade.cli import Commands, app
from qtrade.report import page

Program = Callable[..., CompletedProcess[str]]
Options = tuple[str, ...]

SLOW = ("run", "train")
"""Commands that fit networks: what is too slow of their examples here is the size of the network."""


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command, by the words that call it."""
    for name, command in (group or typer.main.get_group(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())
ALIASES: dict[tuple[str, ...], tuple[str, ...]] = {("runs", "compare"): ("compare",)}


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    qtrade: Program,
    tiny: Options,
    without_evaluation: Callable[[], AbstractContextManager[None]],
) -> Path:
    """A folder with a small run of the Informer, and one of the linear model; only to be read."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "render", lambda report: report.verdict.headline)
        outcome = qtrade(folder, "run", "^GSPC", "--name", "quick", *tiny)
        assert outcome.returncode == 0, outcome.stderr
        with without_evaluation():
            other = ("--name", "slow", "--set", "model=ridge", "--set", "baselines=[]")
            assert qtrade(folder, "train", "^GSPC", *tiny, *other).returncode == 0
        assert qtrade(folder, "fetch", "^IXIC", *tiny).returncode == 0
    return folder


def test_help_names_every_command_in_a_group_and_fits_a_screen_of_24_lines(
    tmp_path: Path, qtrade: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = qtrade(tmp_path, "--help")
    assert shown.returncode == 0
    lines = shown.stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "..." not in shown.stdout.replace("qtrade COMMAND", "")
    grouped = [name for names in Commands.groups.values() for name in names]
    assert sorted(grouped) == sorted(typer.main.get_group(app).commands)
    for name in grouped:
        assert sum(f" {name} " in line for line in lines) >= 1


def test_the_program_alone_prints_its_help(tmp_path: Path, qtrade: Program) -> None:
    alone, asked = qtrade(tmp_path), qtrade(tmp_path, "--help")
    assert alone.returncode == 0
    assert alone.stdout == asked.stdout


def test_names_give_no_orders_to_the_terminal(tmp_path: Path, qtrade: Program) -> None:
    outcome = qtrade(tmp_path, "report", "a\x1b[31mb\x1b]0;c\x07")
    assert outcome.returncode == 2
    assert "a\N{REPLACEMENT CHARACTER}[31mb" in outcome.stderr
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", outcome.stderr)


def shell(folder: Path, *words: str, **environment: str) -> CompletedProcess[bytes]:
    command = [sys.executable, "-m", "qtrade", *words]
    return subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, check=False)


def test_an_encoding_that_lacks_letters_gets_others(tmp_path: Path) -> None:
    strange = shell(tmp_path, "config", "\N{EN DASH}1 \N{GREEK SMALL LETTER ALPHA}", PYTHONIOENCODING="ascii")
    assert strange.returncode == 2
    assert b"'-1 ?'" in strange.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_told_in_words(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "qtrade", "models"]
        outcome = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert outcome.returncode == 1
    assert outcome.stderr.startswith("error: the output cannot be written")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_of_a_command_has_an_example_and_the_shared_options(words: tuple[str, ...]) -> None:
    command = COMMANDS[words]
    called = " ".join(ALIASES.get(words, words))
    assert re.search(rf"^Example: qtrade {called}\b", command.help, flags=re.MULTILINE)
    named = {option for parameter in command.params for option in parameter.opts}
    assert {"--quiet", "--debug"} <= named


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_prints_json_when_asked(words: tuple[str, ...]) -> None:
    assert "--json" in {option for parameter in COMMANDS[words].params for option in parameter.opts}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_example_runs_as_it_stands(
    words: tuple[str, ...], tmp_path: Path, finished: Path, qtrade: Program, tiny: Options
) -> None:
    (example,) = re.findall(r"^Example: qtrade (.+)$", COMMANDS[words].help, flags=re.MULTILINE)
    place = tmp_path / "place"
    shutil.copytree(finished, place)
    outcome = qtrade(place, *shlex.split(example), *(tiny if words[0] in SLOW else ()))
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.strip()


@pytest.mark.usefixtures("unevaluated")
def test_quiet_prints_the_result_alone(finished: Path, qtrade: Program) -> None:
    loud, quiet = (qtrade(finished, "train", "--config", config(finished), *more) for more in ((), ("--quiet",)))
    assert (loud.returncode, quiet.returncode) == (0, 0)
    assert loud.stderr
    assert quiet.stderr == ""
    assert quiet.stdout == loud.stdout
    assert qtrade(finished, "doctor").stdout
    before = qtrade(finished, "--quiet", "train", "--config", config(finished))
    assert (before.stdout, before.stderr) == (quiet.stdout, "")
    assert qtrade(finished, "train", "--config", config(finished)).stderr  # quiet for one command only


def test_quiet_leaves_errors(finished: Path, qtrade: Program) -> None:
    outcome = qtrade(finished, "report", "nothing", "-q")
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("error: there is no run 'nothing'")


def config(folder: Path) -> str:
    (path,) = folder.glob("runs/quick-*/config.toml")
    return str(path)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("command", ["run", "train", "fetch"])
def test_stages_print_json_and_nothing_else(command: str, finished: Path, qtrade: Program) -> None:
    told = json.loads(qtrade(finished, command, "--config", config(finished), "--json").stdout)
    if command == "fetch":
        assert told["failed"] == {}
    else:
        assert (finished / told["folder"] / "manifest.json").is_file()
        assert told["verdict"]["headline"]


# --- the report, in three forms ---


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the report that is there: what is done with it is tested here, and making it elsewhere."""
    monkeypatch.setattr("qtrade.pipeline.report.report_run", lambda run, *, progress: run.folder / "report.html")


@pytest.mark.usefixtures("reported")
def test_report_is_written_printed_or_opened(finished: Path, qtrade: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def browser(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr("webbrowser.open", browser)
    path = qtrade(finished, "report", "quick", "--open").stdout.splitlines()[-1]
    assert opened == [(finished / path).resolve().as_uri()]
    told = json.loads(qtrade(finished, "report", "quick", "--format", "json").stdout)
    assert told == json.loads(qtrade(finished, "report", "quick", "--json").stdout)
    assert told["report"] == path
    markdown = qtrade(finished, "report", "quick", "--format", "md").stdout
    assert markdown.startswith("# ")
    assert told["verdict"]["headline"] in markdown
    assert len(opened) == 1


@pytest.mark.usefixtures("reported")
def test_browser_that_does_not_start_is_told_once_the_report_is_there(
    finished: Path, qtrade: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    outcome = qtrade(finished, "report", "quick", "--open")
    assert outcome.returncode == 1
    assert outcome.stderr.splitlines()[-2:][0].startswith("error: no browser could be started")
    assert (finished / outcome.stdout.splitlines()[-1]).is_file()


def test_an_unknown_format_is_named_with_those_there_are(finished: Path, qtrade: Program) -> None:
    outcome = qtrade(finished, "report", "run", "--format", "pdf")
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr == "error: there is no report in the format 'pdf'\n  fix: known: html, json, md\n"


def test_only_the_page_is_opened(finished: Path, qtrade: Program) -> None:
    outcome = qtrade(finished, "report", "quick", "--format", "md", "--open")
    assert outcome.returncode == 2


def test_shell_completes_commands_runs_and_strategies(finished: Path) -> None:
    def complete(*words: str) -> list[str]:
        environment = {
            **os.environ,
            "_QTRADE_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(("qtrade", *words)),
            "COMP_CWORD": str(len(words)),
        }
        program = str(Path(sys.executable).with_name("qtrade"))
        return subprocess.run(
            [program], cwd=finished, env=environment, capture_output=True, text=True, check=False
        ).stdout.split()

    (run,) = (path.name for path in (finished / "runs").glob("quick-*"))
    assert complete("back") == ["backtest"]
    assert complete("backtest", "qui") == [run]
    assert complete("backtest", run, "-s", "path_m") == ["path_momentum"]
    assert complete("report", "/ru") == []  # a folder, which the shell completes itself

"""Runs on the command line: listed, shown, compared and removed, in words and as JSON."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from io import StringIO
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from qtrade.files import write_json
from qtrade.pipeline.lock import being_trained
from qtrade.runs import Run
from qtrade.terminal import out

Program = Callable[..., CompletedProcess[str]]

SETTINGS = (
    "window.seq_len=16",
    "window.label_len=8",
    "window.horizon=4",
    "split.train_size=300",
    "split.valid_size=60",
    "split.step=1000",
    "baselines=[]",
)


def said(text: str) -> str:
    """What was printed, wherever its lines were broken."""
    return " ".join(text.split())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, qtrade: Program, without_evaluation: Callable[..., Any]) -> Path:
    """A folder with two runs of one market and one of two; a strategy was backtested on the first two. To be read."""
    folder = tmp_path_factory.mktemp("trained")
    options = [part for one in SETTINGS for part in ("--set", one)]
    with without_evaluation():
        for name, *asked in (
            ("linear", "^GSPC", "--set", "model=ridge"),
            ("plain", "^GSPC", "--set", "model=drift"),
            ("both", "^GSPC", "^IXIC", "--set", "model=drift"),
        ):
            symbols = [one for one in asked if one.startswith("^")]
            assert qtrade(folder, "fetch", *symbols).returncode == 0
            done = qtrade(folder, "train", *asked, *options, "--start", "2012-01-01", "--name", name)
            assert done.returncode == 0, done.stderr
        for name in ("linear", "plain"):
            assert qtrade(folder, "backtest", name, "-s", "forecast_sign").returncode == 0
    return folder


@pytest.fixture
def place(tmp_path: Path, trained: Path) -> Path:
    """A copy of `trained`, to be spoilt."""
    return Path(shutil.copytree(trained, tmp_path / "place"))


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out, "width", 120)


def names(folder: Path) -> list[str]:
    return sorted(path.parent.name.partition("-")[0] for path in folder.glob("runs/*/manifest.json"))


# --- list and show ---


def test_runs_are_listed(trained: Path, qtrade: Program) -> None:
    done = qtrade(trained, "runs", "list")
    assert done.returncode == 0
    assert done.stderr == ""
    rows = done.stdout.splitlines()
    assert rows[0].split() == ["run", "model", "data", "verdict", "trained", "size", "tests"]
    assert len(rows) == 5
    for one in ("^GSPC 1d 2012-2018", "^GSPC, ^IXIC 1d 2012-2018", "not evaluated", "ridge"):
        assert one in done.stdout
    listed = json.loads(qtrade(trained, "runs", "list", "--json").stdout)
    assert sorted(one["model"] for one in listed) == ["drift", "drift", "ridge"]
    assert sorted(one["backtests"] for one in listed) == [0, 1, 1]
    assert all(one["note"] == "" and one["size_bytes"] > 100_000 for one in listed)


def test_a_list_fits_a_terminal_of_eighty_letters(
    trained: Path, qtrade: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out, "width", 80)
    for words in (("runs", "list"), ("runs", "show", "linear"), ("compare", "linear", "plain", "--quiet")):
        text = qtrade(trained, *words).stdout
        tables = [line for line in text.splitlines() if not line.startswith(("again: ", "runs/"))]
        assert max(map(len, tables)) <= 80
        assert "\N{HORIZONTAL ELLIPSIS}" not in text


def test_an_empty_folder_says_what_to_do(tmp_path: Path, qtrade: Program) -> None:
    done = qtrade(tmp_path, "runs", "list")
    assert (done.returncode, done.stdout) == (0, "there are no runs in runs; make one with `qtrade run`\n")
    assert qtrade(tmp_path, "runs", "list", "--json").stdout == "[]\n"


def test_a_damaged_run_is_listed_with_a_note(place: Path, qtrade: Program) -> None:
    (damaged,) = place.glob("runs/plain-*")
    (damaged / "manifest.json").write_text("{", encoding="utf-8")
    done = qtrade(place, "runs", "list")
    assert done.returncode == 0
    assert "damaged" in done.stdout
    assert f"{damaged.name}: runs/{damaged.name}/manifest.json cannot be read" in done.stderr
    shown = qtrade(place, "runs", "show", "plain")
    assert shown.returncode == 3
    assert "manifest.json cannot be read" in shown.stderr


def test_a_run_is_shown(trained: Path, qtrade: Program) -> None:
    done = qtrade(trained, "runs", "show", "linear")
    assert done.returncode == 0
    (folder,) = trained.glob("runs/linear-*")
    for one in (
        "not evaluated",
        "ridge, 104 parameters, seed 0",
        "^GSPC from 'sample': 1,760 bars of 1d (XNYS), 2012-01-03 to 2018-12-31",
        "log_return 4 bars ahead, from 16 bars of 25 features",
        "1,188 origins in 2 folds (expanding)",
        "2 of 2 fits, in one step",
        "forecast_sign(long_only=False, step=0, threshold=0.0)",
        f"again: qtrade run --config runs/{folder.name}/config.toml --runs runs",
    ):
        assert one in said(done.stdout), one
    told = json.loads(qtrade(trained, "runs", "show", "linear", "--json").stdout)
    assert told["data"]["hash"] == Run(folder).bars.fingerprint()


def test_a_run_that_is_not_there_names_the_nearest(trained: Path, qtrade: Program) -> None:
    done = qtrade(trained, "runs", "show", "lineal")
    assert done.returncode == 2
    assert "there is no run 'lineal'" in done.stderr


# --- compare ---


@pytest.mark.parametrize("words", [("compare",), ("runs", "compare")])
def test_runs_are_compared(trained: Path, qtrade: Program, words: tuple[str, ...]) -> None:
    done = qtrade(trained, *words, "linear", "plain", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    linear, plain = (path.name for name in ("linear", "plain") for path in trained.glob(f"runs/{name}-*"))
    for one in (
        "100% of 1,188",
        "compared on 1,188 forecasts, 2014-04-08 to 2018-12-24",
        "1, 1,188 origins",
        f"Gains are over {linear}",
        "forecast_sign",
        "buy and hold",
        'model "ridge" "drift"',
        f"{plain} has not been evaluated, so nobody has checked that it used no future.",
    ):
        assert one in said(done.stdout), one


def test_a_comparison_is_json_and_a_page(trained: Path, tmp_path: Path, qtrade: Program) -> None:
    page = tmp_path / "compare.html"
    done = qtrade(trained, "compare", "linear", "plain", "--json", "--out", str(page))
    told = json.loads(done.stdout)
    assert [one["model"] for one in told["runs"]] == ["ridge", "drift"]
    assert told["settings"] == [{"key": "model", "values": ['"ridge"', '"drift"']}]
    assert told["lines"][0][:40] in page.read_text(encoding="utf-8").replace("&#39;", "'")
    assert qtrade(trained, "compare", "linear", "plain", "-q", "--out", str(page)).stdout.endswith(f"{page}\n")


def test_a_run_is_not_compared_with_itself(trained: Path, qtrade: Program) -> None:
    (folder,) = trained.glob("runs/linear-*")
    done = qtrade(trained, "compare", "linear", "plain", str(folder.relative_to(trained)))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {folder.name} is given twice" in done.stderr
    assert "fix: name another one; `qtrade runs list`" in done.stderr


def test_a_copy_of_a_run_is_the_same_in_all(place: Path, qtrade: Program) -> None:
    (folder,) = place.glob("runs/linear-*")
    shutil.copytree(folder, folder.with_name("copy-00000000"))
    done = qtrade(place, "compare", "linear", "copy", "--quiet")
    assert done.returncode == 0, done.stderr
    assert "make identical forecasts." in said(done.stdout)
    assert "All settings are the same." in done.stdout


def test_other_data_are_refused_and_named(trained: Path, qtrade: Program) -> None:
    done = qtrade(trained, "compare", "linear", "both")
    assert (done.returncode, done.stdout) == (2, "")
    assert "are of different data: data hash " in done.stderr
    assert "why: symbols: ^GSPC and ^GSPC, ^IXIC" in done.stderr
    assert qtrade(trained, "compare", "linear").returncode == 2


def test_an_invalid_run_is_refused_with_its_exit_code(place: Path, qtrade: Program) -> None:
    (folder,) = place.glob("runs/plain-*")
    write_json(folder / "evaluation.json", {"verdict": {"headline": "INVALID", "line": "It saw."}, "gates": []})
    done = qtrade(place, "compare", "linear", "plain")
    assert (done.returncode, done.stdout) == (4, "")
    assert "is INVALID, so nothing of it is compared" in done.stderr


# --- remove ---


AT_A_TERMINAL = """
import fcntl, termios
from qtrade.cli import main

fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C typed there is a signal here
main()
"""


class Terminal(StringIO):
    """Somebody who answers."""

    def isatty(self) -> bool:
        return True


def test_a_dry_run_touches_nothing(trained: Path, qtrade: Program) -> None:
    before = sorted(trained.rglob("*"))
    done = qtrade(trained, "runs", "remove", "linear", "plain", "--dry-run")
    assert done.returncode == 0
    assert [line.split(": ")[0].partition("-")[0] for line in done.stdout.splitlines()] == [
        "would remove runs/linear",
        "would remove runs/plain",
    ]
    assert "the trials that were made on them would stay on record" in done.stderr
    assert sorted(trained.rglob("*")) == before


def test_runs_are_removed_and_their_trials_stay(place: Path, qtrade: Program) -> None:
    before = len(json.loads(qtrade(place, "trials", "--json").stdout))
    done = qtrade(place, "runs", "remove", "linear", "both", "--yes", "--json")
    assert done.returncode == 0
    assert [one["name"].partition("-")[0] for one in json.loads(done.stdout)] == ["linear", "both"]
    assert names(place) == ["plain"]
    assert not list(place.glob("runs/.*"))
    assert len(json.loads(qtrade(place, "trials", "--json").stdout)) == before > 0


def test_nobody_to_ask_is_no_consent(place: Path, qtrade: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO("y\n"))
    done = qtrade(place, "runs", "remove", "linear")
    assert (done.returncode, done.stdout) == (2, "")
    assert "add --yes" in done.stderr
    assert names(place) == ["both", "linear", "plain"]


@pytest.mark.parametrize(("answer", "left"), [("n", ["both", "linear", "plain"]), ("y", ["both", "plain"])])
def test_it_asks_first(
    place: Path, qtrade: Program, monkeypatch: pytest.MonkeyPatch, answer: str, left: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    done = qtrade(place, "runs", "remove", "linear")
    assert done.returncode == (0 if answer == "y" else 1)
    assert "runs/linear-" in done.stderr
    assert ("nothing was removed" in done.stderr) == (answer == "n")
    assert names(place) == left


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize(
    ("typed", "code", "word"), [(b"\x03", 130, b"interrupted"), (b"\x04", 1, b"nothing was removed")]
)
def test_ctrl_c_at_the_question_interrupts_and_ctrl_d_is_a_no(
    place: Path, typed: bytes, code: int, word: bytes
) -> None:
    import pty

    terminal, other_side = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL, "runs", "remove", "linear"],
        stdin=other_side,
        stdout=other_side,
        stderr=other_side,
        cwd=place,
        start_new_session=True,
    ) as process:
        os.close(other_side)
        seen = b""
        while b"[y/N]" not in seen:
            seen += os.read(terminal, 1024)
        os.write(terminal, typed)
        with suppress(OSError):  # the end of a terminal whose other side is closed
            while more := os.read(terminal, 1024):
                seen += more
    os.close(terminal)
    assert process.returncode == code
    assert word in seen
    assert b"Traceback" not in seen
    assert names(place) == ["both", "linear", "plain"]


def test_without_a_question_a_name_is_wanted_in_full(place: Path, qtrade: Program) -> None:
    (folder,) = place.glob("runs/linear-*")
    done = qtrade(place, "runs", "remove", "lin", "--yes")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"'lin' is only the beginning of {folder.name}" in done.stderr
    assert f"name it in full: qtrade runs remove {folder.name} --yes" in done.stderr
    assert qtrade(place, "runs", "remove", "lin", "--dry-run").returncode == 0
    elsewhere = folder.parent.rename(place / "mine")
    done = qtrade(place, "runs", "remove", "lin", "--yes", "--runs", "mine")
    assert f"qtrade runs remove {folder.name} --yes --runs mine" in done.stderr
    assert (elsewhere / folder.name).exists()
    assert qtrade(place, "runs", "remove", f"mine/{folder.name}", "--yes").returncode == 0
    assert qtrade(place, "runs", "remove", "plain", "--yes", "--runs", "mine").returncode == 0
    assert [path.parent.name.partition("-")[0] for path in elsewhere.glob("*/manifest.json")] == ["both"]


def test_what_must_not_go_stays(place: Path, qtrade: Program) -> None:
    (folder,) = place.glob("runs/plain-*")
    with being_trained(Run(folder)):
        done = qtrade(place, "runs", "remove", "linear", "plain", "--yes")
    assert done.returncode == 2
    assert "is being trained" in done.stderr
    (place / "notes").mkdir()
    (place / "runs" / "plain-copy").symlink_to(folder, target_is_directory=True)
    for name in ("notes", "p", "plain-copy"):
        assert qtrade(place, "runs", "remove", name, "--yes").returncode == 2, name
    assert names(place) == ["both", "linear", "plain", "plain"]


def test_an_empty_name_is_not_the_only_run_there_is(place: Path, qtrade: Program) -> None:
    assert qtrade(place, "runs", "remove", "both", "plain", "--yes").returncode == 0
    done = qtrade(place, "runs", "remove", "", "--yes")
    assert done.returncode == 2
    assert "a name is empty" in done.stderr
    assert names(place) == ["linear"]

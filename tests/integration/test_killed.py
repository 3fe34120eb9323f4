"""Training that is killed outright, at any moment and again, ends with the files of training that was left alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

Options = tuple[str, ...]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs process groups and SIGKILL")

# Some folds that are soon fitted, and so many that the first of them leaves work for two processes.
SETTINGS = (
    "data.end='2015-06-01'",
    "features.set=minimal",
    "split.step=80",
    "train.epochs=2",
    "train.workers=2",
    'baselines=["ridge"]',
)
LONGEST = 200.0
"""Seconds after which a run that should end is taken for stuck."""


class Whole(NamedTuple):
    """A run that nobody disturbed."""

    command: Options
    run: Path
    seconds: float
    fit: float
    """Seconds from one fit of the network to the next."""


class Kill(NamedTuple):
    """What a kill met: fits complete before it, and whether there were processes beside the main one."""

    complete: int
    workers: bool


def be_qtrade(folder: Path, log: Path, arguments: Options, alone: bool) -> None:
    """Become ``qtrade ARGUMENTS`` in a session of its own, which fits folds in it alone or in two more processes."""
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    sys.argv = ["qtrade", *arguments]
    from qtrade.cli import main
    from qtrade.pipeline import train

    train._WORTH_A_PROCESS = sys.maxsize if alone else 0
    main()


@contextmanager
def started(folder: Path, arguments: Options, *, alone: bool) -> Iterator[BaseProcess]:
    """Run the program; whatever is left of it in the end is killed."""
    # Forked from a server that imported what takes long: most kills would otherwise only meet imports.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["qtrade.pipeline.train", "qtrade.pipeline.evaluate", "torch._dynamo"])
    log = folder / "log.txt"
    log.unlink(missing_ok=True)
    process = context.Process(target=be_qtrade, args=(folder, log, arguments, alone))
    process.start()
    try:
        while process.is_alive() and not log.exists():
            time.sleep(0.001)
        yield process
    finally:
        kill(process)


def kill(process: BaseProcess) -> bool:
    """Kill a process and its group; tell whether the group had other members."""
    process.kill()
    process.join()
    assert process.pid is not None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def finish(folder: Path, arguments: Options, *, alone: bool) -> float:
    """Let the program come to its end; tell how many seconds it took."""
    with started(folder, arguments, alone=alone) as process:
        begin = time.perf_counter()
        process.join(LONGEST)
        seconds = time.perf_counter() - begin
        assert process.exitcode == 0, (folder / "log.txt").read_text(encoding="utf-8")
    return seconds


def proofs(folder: Path) -> dict[str, int]:
    """Fits that say they are complete, and when they said so."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("history.json")}


def results(run: Path) -> dict[str, Any]:
    """Content of every file; how many seconds an epoch took is no result."""
    found: dict[str, Any] = {}
    for path in run.rglob("*"):
        if path.is_file():
            found[str(path.relative_to(run))] = content = path.read_bytes()
            if path.name == "history.json":
                history = json.loads(content)
                for epoch in history["epochs"]:
                    del epoch["seconds"]
                found[str(path.relative_to(run))] = history
    return found


def is_temporary(name: str) -> bool:
    """Whether a file is one that a kill left half-written: hidden, and under no name that anything looks for."""
    return Path(name).name.startswith(".") and name.endswith(".tmp")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny: Options) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    finish(folder, ("fetch", "^GSPC"), alone=True)
    settings = tuple(part for text in SETTINGS for part in ("--set", text))
    command = ("train", "^GSPC", "--cache", str(folder / "data_cache"), *tiny, *settings)
    seconds = finish(folder, command, alone=True)
    (run,) = (folder / "runs").glob("*/")
    fits = sorted(path.stat().st_mtime for path in (run / "folds").rglob("history.json"))
    assert len(fits) >= 6, "too few folds for what is to be killed"
    return Whole(command, run, seconds, fit=float(np.median(np.diff(fits))))


@pytest.mark.parametrize("alone", [True, False], ids=["one process", "folds side by side"])
def test_training_killed_at_any_moment_ends_as_if_it_had_been_left_alone(
    tmp_path: Path, whole: Whole, alone: bool
) -> None:
    expected = results(whole.run)
    run = tmp_path / "runs" / whole.run.name
    rng = np.random.default_rng(7)
    kills: list[Kill] = []

    def attempt(seconds: float, *, after: str = "") -> None:
        """Train, and kill it some time after the start, or after a file of this name was added."""
        before, there = proofs(run), set(run.rglob(after)) if after else None
        with started(tmp_path, whole.command, alone=alone) as process:
            while after and process.is_alive() and set(run.rglob(after)) == there:
                time.sleep(0.001)
            process.join(seconds)
            workers = kill(process)
        assert process.exitcode in (0, -signal.SIGKILL), (tmp_path / "log.txt").read_text(encoding="utf-8")
        if process.exitcode:
            kills.append(Kill(len(proofs(run)), workers))
        assert before.items() <= proofs(run).items(), "a complete fit was made again"
        for name, content in results(run).items():
            assert is_temporary(name) or content == expected.get(name), f"{name} differs"

    # In turn: before there is any result, between two fits, while a fit is being saved, and anywhere.
    attempt(rng.uniform(0, whole.seconds / 4))
    attempt(rng.uniform(0, whole.fit / 2), after="history.json")
    attempt(rng.uniform(0, 0.01), after="model.safetensors")
    attempt(rng.uniform(0, whole.seconds))
    finish(tmp_path, whole.command, alone=True)

    fits = len(proofs(whole.run))
    halfway = [one for one in kills if 0 < one.complete < fits]
    assert any(one.workers != alone for one in halfway), f"no kill met what this is about: {kills}"
    ended = {name: content for name, content in results(run).items() if not is_temporary(name)}
    assert ended == expected

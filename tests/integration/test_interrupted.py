"""Ctrl-C as a terminal sends it: to every process of the program at once, in the midst of training."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs the signals of POSIX")

PROGRAM = str(Path(sys.executable).with_name("qtrade"))
PATIENCE = 120.0


@pytest.mark.usefixtures("unevaluated")
def test_ctrl_c_leaves_a_run_that_the_printed_command_completes(
    tmp_path: Path, qtrade: Callable[..., CompletedProcess[str]], tiny: tuple[str, ...]
) -> None:
    settings = ("baselines=[]", "split.step=500", "train.epochs=5", "train.patience=5", "train.workers=2")
    command = ["train", *tiny, *(part for one in settings for part in ("--set", one))]
    assert qtrade(tmp_path, "fetch", *tiny).returncode == 0

    training = subprocess.Popen(
        [PROGRAM, *command], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + PATIENCE
    while not list(tmp_path.glob("runs/*/folds/*/seed-0/history.json")):
        assert training.poll() is None, "it ended before it could be interrupted"
        assert time.monotonic() < deadline, "no fold was ever complete"
        time.sleep(0.01)
    os.killpg(training.pid, signal.SIGINT)
    _, told = training.communicate(timeout=PATIENCE)

    assert training.returncode == 130, told
    assert "Traceback" not in told
    printed = told.splitlines()[-1].strip()
    assert shlex.split(printed) == ["qtrade", *command]
    complete = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/folds/*/seed-0/history.json")}
    (run,) = (tmp_path / "runs").glob("run-*")
    assert not (run / "forecasts.parquet").exists()
    again = qtrade(tmp_path, *shlex.split(printed)[1:])
    assert again.returncode == 0, again.stderr
    assert (run / "forecasts.parquet").is_file()
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in complete.items()), "complete folds were made again"

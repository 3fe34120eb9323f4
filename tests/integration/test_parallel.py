"""Jobs side by side: the same results, and nothing lost when one of them fails."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qtrade.errors import DataError, QtradeError
from qtrade.pipeline import parallel
from qtrade.pipeline.parallel import count_workers, run_jobs
from qtrade.progress import Progress, Silent


class Recorder:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def start(self, title: str, total: int) -> None:
        self.notes.append(f"{title} {total}")

    def advance(self, steps: int, note: str) -> None:
        self.notes.append(note)

    def message(self, text: str) -> None:
        self.notes.append(text)


def multiply(context: tuple[Path, int], job: int, progress: Progress) -> None:
    """Work whose last bits depend on the number of threads."""
    folder, size = context
    generator = torch.Generator().manual_seed(job)
    left, right = torch.randn(size, size, generator=generator), torch.randn(size, size, generator=generator)
    np.save(folder / f"{job}.npy", (left @ right).numpy())
    (folder / f"{job}.pid").write_text(f"{os.getpid()} {torch.get_num_threads()}")
    progress.advance(1, f"job {job}")


def fail_at_one(context: Path, job: int, progress: Progress) -> None:
    if job == 1:
        raise DataError("job 1 has no data", why="it is made so", fix="leave it out")
    (context / f"{job}").touch()


def die(context: Path, job: int, progress: Progress) -> None:
    os._exit(1)


def test_processes_and_threads_change_no_bit(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    results, notes = [], []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        recorder = Recorder()
        run_jobs(multiply, (folder, 64), range(4), workers=workers, threads=1, progress=recorder)
        results.append([np.load(folder / f"{job}.npy") for job in range(4)])
        notes.append(sorted(recorder.notes))
        assert {(folder / f"{job}.pid").read_text().split()[1] for job in range(4)} == {"1"}
        pids = {(folder / f"{job}.pid").read_text().split()[0] for job in range(4)}
        assert (str(os.getpid()) in pids) == (workers == 1)
    np.testing.assert_array_equal(results[0], results[1])
    assert notes[0] == notes[1] == [f"job {job}" for job in range(4)]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_keeps_its_words_and_what_was_done(tmp_path: Path, workers: int) -> None:
    with pytest.raises(DataError) as caught:
        run_jobs(fail_at_one, tmp_path, range(3), workers=workers, threads=1, progress=Recorder())
    assert str(caught.value) == "job 1 has no data\n  why: it is made so\n  fix: leave it out"
    assert (tmp_path / "0").exists()


def test_a_process_that_dies_is_reported(tmp_path: Path) -> None:
    with pytest.raises(QtradeError, match="a worker process was stopped from outside"):
        run_jobs(die, tmp_path, range(2), workers=2, threads=1, progress=Recorder())


def test_workers_follow_cores_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_cores", lambda: 8)
    assert count_workers(0, 1) == 8
    assert count_workers(0, 3) == 2
    assert count_workers(0, 16) == 1
    assert count_workers(5, 16) == 5


def wait_for_ever(context: Path, job: int, progress: Progress) -> None:
    (context / f"{job}.pid").write_text(str(os.getpid()))
    time.sleep(600)


def start_waiting(folder: Path) -> None:
    run_jobs(wait_for_ever, folder, range(2), workers=2, threads=1, progress=Recorder())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    parent = multiprocessing.get_context("spawn").Process(target=start_waiting, args=(tmp_path,))
    parent.start()
    files = [tmp_path / f"{job}.pid" for job in range(2)]
    until(lambda: all(file.exists() and file.read_text() for file in files))
    workers = [int(file.read_text()) for file in files]
    assert all(is_running(worker) for worker in workers)
    parent.kill()
    parent.join()
    until(lambda: not any(is_running(worker) for worker in workers))


def until(condition: Callable[[], bool]) -> None:
    """Wait, for a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited a minute"
        time.sleep(0.05)


def is_running(process: int) -> bool:
    """Whether a process is there and not merely waiting for somebody to ask how it ended."""
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs signals that can be held back")
def test_ctrl_c_while_workers_start_is_heard_once_they_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    original, held = ProcessPoolExecutor.submit, list[bool]()

    def submit(self: ProcessPoolExecutor, *arguments: Any, **named: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        held.append(signal.SIGINT in signal.sigpending())
        return original(self, *arguments, **named)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", submit)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(multiply, (tmp_path, 8), [1, 2], workers=2, threads=1, progress=Silent())
    assert held == [True, True]
    until(lambda: not multiprocessing.active_children())
    assert "Traceback" not in capfd.readouterr().err

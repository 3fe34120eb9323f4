"""Who is at work in a run's folder: training holds a lock, so that no other process trains or removes the same run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from qtrade.errors import UsageError
from qtrade.runs import Run

FILE_NAME = "training.lock"
"""Stays in the folder; whether somebody holds it is what counts, and a process that ends in any way lets go of it."""

# Seconds to wait for a lock that somebody may only be looking at: `is_busy` holds it for a moment.
_PATIENCE = 1.0


@contextmanager
def being_trained(run: Run) -> Iterator[None]:
    """Hold a run's lock while it is trained.

    Raises
    ------
    UsageError
        If another process trains the run, or has just removed it.
    """
    lock = _lock(run, _PATIENCE)
    try:
        lock.acquire()
    except Timeout as error:
        raise UsageError(
            f"the run {run.name} is being trained by another process",
            fix="wait until that is done: the same command then finds what it has made",
        ) from error
    except OSError as error:
        raise UsageError(
            f"cannot write to {run.folder}", why=error.strerror or str(error), fix="change its permissions"
        ) from error
    try:
        if not (run.folder / "manifest.json").exists():
            raise UsageError(f"the run {run.name} was removed while it was about to be trained", fix="try again")
        yield
    finally:
        lock.release()


def is_busy(run: Run) -> bool:
    """Whether a process is training a run right now."""
    if not _path(run).exists():
        return False
    lock = _lock(run, 0)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:
        return False  # who may not write here cannot ask; what they see is a run that is not finished
    lock.release()
    return False


def _path(run: Run) -> Path:
    return run.folder / FILE_NAME


def _lock(run: Run, seconds: float) -> FileLock:
    # Not a singleton: two in one process, as of two threads, exclude one another like two processes.
    return FileLock(_path(run), timeout=seconds)

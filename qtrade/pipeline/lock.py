"""Who is at work in a run's folder: one process trains it, many may use it, and none does while it is removed.

Training holds a lock that excludes every other training. Whoever reads and writes beside it (backtests, evaluations,
sweeps, reports, forecasts) shares a second lock, so that any number of them run side by side. A removal takes both for
itself, and holds them until the folder has its hidden name. A process that ends in any way lets go of its locks; the
files of both stay in the folder.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from filelock import FileLock, Timeout

from qtrade.errors import UsageError
from qtrade.runs import Run

if sys.platform != "win32":
    import fcntl

FILE_NAME = "training.lock"
"""Held by the one process that trains the run."""
USE_FILE = "in-use.lock"
"""Shared by all that use the run."""

# Seconds to wait for a lock that somebody may only be looking at: `is_busy` and `refuse_busy` hold one for a moment.
_PATIENCE = 1.0

_P = ParamSpec("_P")
_R = TypeVar("_R")


@contextmanager
def being_trained(run: Run) -> Iterator[None]:
    """Hold a run's lock while it is trained.

    Raises
    ------
    UsageError
        If another process trains the run, or has just removed it.
    """
    removed = UsageError(f"the run {run.name} was removed while it was about to be trained", fix="try again")
    if not _is_there(run):
        raise removed
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
        if not _is_there(run):
            raise removed
        yield
    finally:
        lock.release()
        if not _is_there(run):
            _clear_ghost(run)


@contextmanager
def in_use(run: Run) -> Iterator[None]:
    """Keep a run from being removed while it is used; others may use it, too, and train it.

    Where the lock cannot be had, because the folder may only be read, the run is used without.

    Raises
    ------
    UsageError
        If the run is being removed.
    """
    try:
        handle = _open(run)
    except OSError:
        yield
        return
    try:
        if not _share(handle) or not _is_the_file(handle, run):
            raise UsageError(f"the run {run.name} is being removed", fix="see what is left: qtrade runs list")
        yield
    finally:
        os.close(handle)


def keeping(function: Callable[Concatenate[Run, _P], _R]) -> Callable[Concatenate[Run, _P], _R]:
    """Hold the lock of `in_use` while a function works on the run that is its first argument."""

    @functools.wraps(function)
    def kept(run: Run, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with in_use(run):
            return function(run, *args, **kwargs)

    return kept


@contextmanager
def being_removed(run: Run) -> Iterator[Callable[[], None]]:
    """Hold both locks of a run for oneself; what is yielded lets go of them early, where the system asks for that.

    Raises
    ------
    UsageError
        If a process trains or uses the run.
    """
    lock, handle = _lock(run, 0), -1

    def release() -> None:
        nonlocal handle
        lock.release()
        if handle >= 0:
            os.close(handle)
            handle = -1

    try:
        try:
            lock.acquire()
        except Timeout as error:
            raise _busy(run, "trained") from error
        except OSError:
            pass  # who may not write here cannot rename the folder either, and is told so then
        with suppress(OSError):
            handle = _open(run)
        if handle >= 0 and not _take(handle):
            raise _busy(run, "used")
        yield release
    finally:
        release()


def refuse_busy(run: Run) -> None:
    """Raise `UsageError` if a process trains or uses a run right now; nothing is written to find out."""
    if is_busy(run):
        raise _busy(run, "trained")
    if not (run.folder / USE_FILE).exists():
        return
    try:
        handle = _open(run)
    except OSError:
        return
    try:
        if not _take(handle):
            raise _busy(run, "used")
    finally:
        os.close(handle)


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


def _busy(run: Run, how: str) -> UsageError:
    ends = "stop its training, or wait until it is done" if how == "trained" else "wait until that is done"
    by = "" if how == "trained" else " by another command"
    return UsageError(f"the run {run.name} is being {how}{by}", fix=f"{ends}, and try again")


def _path(run: Run) -> Path:
    return run.folder / FILE_NAME


def _is_there(run: Run) -> bool:
    return (run.folder / "manifest.json").exists()


def _lock(run: Run, seconds: float) -> FileLock:
    # Not a singleton: two in one process, as of two threads, exclude one another like two processes.
    return FileLock(_path(run), timeout=seconds)


def _clear_ghost(run: Run) -> None:
    """Take away the folder that waiting for the lock of a removed run has made again; only if it holds nothing else."""
    with suppress(OSError):
        if [path.name for path in run.folder.iterdir()] == [FILE_NAME]:
            _path(run).unlink()
            run.folder.rmdir()


def _open(run: Run) -> int:
    """Open the file that is shared; a folder that is not there is not made."""
    return os.open(run.folder / USE_FILE, os.O_RDWR | os.O_CREAT, 0o666)


def _share(handle: int) -> bool:
    """Share a lock; false while a removal has it, and goes on having it."""
    deadline = time.monotonic() + _PATIENCE
    while not _flock(handle, alone=False):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _take(handle: int) -> bool:
    """Take a lock for oneself; false while somebody shares it."""
    return _flock(handle, alone=True)


def _flock(handle: int, *, alone: bool) -> bool:
    if sys.platform == "win32":
        return True  # no folder is renamed there while a file in it is open: to hold the file open is enough
    else:  # noqa: RET505  (mypy knows by this form which branch is of which system)
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # a file system without locks, on which nobody can be kept out
        return True


def _is_the_file(handle: int, run: Run) -> bool:
    """Whether the file that was opened is still the run's: a removal may have renamed the folder in between."""
    try:
        return os.path.samestat(os.fstat(handle), (run.folder / USE_FILE).stat())
    except OSError:
        return False

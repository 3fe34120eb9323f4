"""Doing independent jobs in several processes, with one progress bar and no half-done work hidden."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from typing import Any, TypeVar

from qtrade.errors import QtradeError
from qtrade.models.device import set_threads
from qtrade.progress import Progress

Context = TypeVar("Context")
Job = TypeVar("Job")
Work = Callable[[Context, Job, Progress], None]

_POLL_SECONDS = 0.2

# What a worker process is given once, when it starts.
_worker: tuple[Work[Any, Any], Any, Progress] | None = None


def run_jobs(
    work: Work[Context, Job],
    context: Context,
    jobs: Sequence[Job],
    *,
    workers: int,
    threads: int,
    progress: Progress,
) -> None:
    """Call ``work(context, job, progress)`` for every job, in order where one process does them all.

    Each call has `threads` threads for arithmetic, however many processes there are: numbers then round alike on
    machines with few cores and with many.

    Raises
    ------
    Exception
        The first that a job raises. Jobs not started by then are not started; those under way are stopped.
    """
    if workers == 1 or len(jobs) < 2:
        before = set_threads(threads)
        try:
            for job in jobs:
                work(context, job, progress)
        finally:
            set_threads(before)
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of PyTorch's threads in any state
    messages: SimpleQueue[tuple[str, tuple[Any, ...]]] = spawn.SimpleQueue()
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(
        min(workers, len(jobs)), spawn, initializer=_start_worker, initargs=(work, context, messages, threads)
    )
    pending: set[Future[None]] = set()
    try:
        with _interrupts_held_back():
            pending = {executor.submit(_work_on, job) for job in jobs}
        while pending:
            done, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION)
            while not messages.empty():
                name, arguments = messages.get()
                getattr(progress, name)(*arguments)
            for future in done:
                future.result()
    except BrokenProcessPool as error:
        raise QtradeError(
            "a worker process was stopped from outside",
            why="often because memory ran out",
            fix="run the same command again with --set train.workers=1; what is complete is kept",
        ) from error
    finally:
        executor.shutdown(wait=not pending, cancel_futures=True)
        if pending:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let Ctrl-C wait until worker processes are made.

    They inherit that they do not hear it, and so get through importing PyTorch to the point where they ignore it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # not on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def count_workers(wanted: int, threads: int) -> int:
    """Return how many processes to use: as many as asked for or, for 0, as there are cores for their threads."""
    return wanted or max(1, _cores() // threads)


def _cores() -> int:
    """Count the cores this process may run on, which in a container can be fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Relay:
    """`Progress` of a worker process: every call becomes a message to the process that shows it."""

    def __init__(self, messages: SimpleQueue[tuple[str, tuple[Any, ...]]]) -> None:
        self.messages = messages

    def start(self, title: str, total: int) -> None:
        self.messages.put(("start", (title, total)))

    def advance(self, steps: int, note: str) -> None:
        self.messages.put(("advance", (steps, note)))

    def message(self, text: str) -> None:
        self.messages.put(("message", (text,)))


def _start_worker(
    work: Work[Any, Any], context: Any, messages: SimpleQueue[tuple[str, tuple[Any, ...]]], threads: int
) -> None:
    global _worker
    # Ctrl-C reaches every process of a terminal; the parent alone decides what to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    set_threads(threads)
    _worker = work, context, _Relay(messages)


def _end_with_the_parent() -> None:
    """End this process when its parent is gone, however that came about: nobody else would."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)


def _work_on(job: Any) -> None:
    assert _worker is not None, "the initializer runs first"
    work, context, progress = _worker
    work(context, job, progress)

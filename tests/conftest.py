"""What tests share: one thread each, and the program as a user would run it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, chdir, contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from subprocess import CompletedProcess

import pytest

# Set before PyTorch is imported: tests run side by side, and sums must not depend on how many cores are idle.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def unsynced() -> Iterator[None]:
    """Leave files to the memory of the system: those of tests need not survive a power cut, and waiting takes long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def qtrade() -> Callable[..., CompletedProcess[str]]:
    """Run ``qtrade ARGUMENTS`` inside a folder, in this process."""

    def run(folder: Path, *arguments: str) -> CompletedProcess[str]:
        from qtrade.cli import main

        out, err = StringIO(), StringIO()
        code: object = 0
        with pytest.MonkeyPatch.context() as patch, chdir(folder), redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["qtrade", *arguments])
            try:
                main()
            except SystemExit as stop:
                code = stop.code or 0
        assert isinstance(code, int)
        return CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report no more than the headline: drawing figures takes longer than everything that is measured."""
    from qtrade.report import page

    monkeypatch.setattr(page, "render", lambda report: report.verdict.headline)


@pytest.fixture
def undrawn_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put empty pictures into pages: drawing takes longer than all else that a page is made of."""
    from matplotlib.figure import Figure

    def write(figure: Figure, buffer: StringIO, **how: object) -> None:
        buffer.write('<svg viewBox="0 0 1 1">\n</svg>')

    monkeypatch.setattr(Figure, "savefig", write)


@pytest.fixture(scope="session")
def without_evaluation() -> Callable[[], AbstractContextManager[None]]:
    """End ``qtrade train`` with its last fit for a while: measuring forecasts takes longer than making them."""

    @contextmanager
    def unevaluating() -> Iterator[None]:
        import_module("qtrade.pipeline.report")  # so that reports are still made of evaluations
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("qtrade.pipeline.evaluate.evaluate_run", lambda run, *, progress: None)
            yield

    return unevaluating


@pytest.fixture
def unevaluated(without_evaluation: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Do so for a whole test."""
    with without_evaluation():
        yield


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Options of a run that takes about a second: two folds of a network that can hardly learn."""
    settings = {
        "window.seq_len": 16,
        "window.label_len": 8,
        "window.horizon": 4,
        "split.train_size": 300,
        "split.valid_size": 60,
        "split.step": 1000,
        "train.epochs": 1,
        "informer.d_model": 8,
        "informer.n_heads": 2,
        "informer.d_ff": 16,
        "informer.e_layers": 1,
        "strategies.forecast_sign.step": 4,
        "strategies.path_momentum.step": 2,
    }
    return ("--start", "2012-01-01", *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")))

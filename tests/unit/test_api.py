"""The functions for notebooks: their names and options are those of the commands, and their mistakes are explained."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import typer

from qtrade import api as qt
from qtrade.api.common import configuration, watched
from qtrade.cli import app
from qtrade.errors import UsageError
from qtrade.options import assignments
from qtrade.progress import Silent

# What only a terminal needs.
_OF_THE_TERMINAL = {"arguments", "as_json", "quiet", "debug", "dry_run", "help"}
_CALLED = {"run_name": "run", "picture": "out"}


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys; from qtrade import api; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "pandas", "numpy", "pydantic", "rich", "typer", "matplotlib", "vectorbt", "yfinance"}
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize("name", ["fetch", "train", "run", "backtest", "sweep", "explain", "evaluate", "forecast"])
def test_every_option_of_a_command_is_one_of_its_function(name: str) -> None:
    command = typer.main.get_group(app).commands[name]
    options = {_CALLED.get(str(one.name), str(one.name)) for one in command.params} - _OF_THE_TERMINAL
    function: Callable[..., Any] = getattr(qt, name)
    parameters = inspect.signature(function).parameters
    assert options <= set(parameters), options - set(parameters)
    assert function.__doc__


def test_everything_is_told_in_the_guide() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    functions = {name for name in qt.__all__ if inspect.isfunction(getattr(qt, name))}
    assert {name for name in functions if f"`qt.{name}(" in guide} == functions


def test_options_become_a_configuration() -> None:
    resolved = configuration(
        "^GSPC",
        {"preset": "tiny", "settings": {"train": {"epochs": 3}}, "start": date(2013, 1, 1), "name": "mine"},
    )
    assert resolved.data.symbols == ("^GSPC",)
    assert (resolved.train.epochs, resolved.name, resolved.data.start) == (3, "mine", date(2013, 1, 1))
    file = configuration(["A"], {"path": "bars.csv", "columns": {"open": "o"}, "settings": ["data.adjust=false"]})
    assert (file.data.source, file.data.file.columns, file.data.adjust) == ("file", {"open": "o"}, False)
    assert configuration((), {}).data.source == "sample"


def test_a_file_of_settings_gives_way_to_options(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text("[train]\nepochs = 9\n", encoding="utf-8")
    assert configuration("A", {"config": path}).train.epochs == 9
    assert configuration("A", {"config": str(path), "settings": ["train.epochs=2"]}).train.epochs == 2


@pytest.mark.parametrize(
    ("settings", "written"),
    [
        (["a.b=1"], ["a.b=1"]),
        ({"a": {"b": 1, "c": {"d": "x y"}}}, ["a.b=1", 'a.c.d="x y"']),
        ({"a.b": True, "c": [1, 2], "d": (0.5,)}, ["a.b=true", "c=[\n    1,\n    2,\n]", "d=[\n    0.5,\n]"]),
        ({}, []),
    ],
)
def test_settings_are_assignments(settings: Any, written: list[str]) -> None:
    assert assignments(settings) == written


def test_settings_of_every_kind_reach_the_configuration() -> None:
    resolved = configuration(
        "A", {"settings": {"evaluation.horizons": (1, 5), "baselines": [], "informer": {"attention": "full"}}}
    )
    assert resolved.evaluation.horizons == (1, 5)
    assert resolved.baselines == ()
    assert resolved.informer.attention == "full"


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(UsageError) as caught:
        call()
    return str(caught.value)


def test_mistakes_are_explained(tmp_path: Path) -> None:
    assert "did you mean 'preset'?" in refused(lambda: qt.train("A", prest="tiny"))  # type: ignore[call-arg]
    assert "did you mean 'source'?" in refused(lambda: qt.fetch("A", sorce="file"))  # type: ignore[call-arg]
    assert "['train.epochs=2']" in refused(lambda: qt.train("A", settings="train.epochs=2"))
    assert "cannot be set to None" in refused(lambda: qt.train("A", settings={"train": {"epochs": None}}))
    assert "exactly one strategy" in refused(lambda: qt.backtest("r", ["a", "b"], settings=["x=1"]))
    assert "['step=1,2']" in refused(lambda: qt.sweep("r", "s", "step=1,2"))
    assert "both set and varied" in refused(lambda: qt.sweep("r", "s", {"step": [1]}, settings=["step=2"]))
    assert "there is no run 'nothing'" in refused(lambda: qt.backtest("nothing", runs=tmp_path))
    assert "there is no run 'nothing'" in refused(lambda: qt.open_run("nothing", runs=tmp_path))
    assert "there is no probe 'tree'" in refused(lambda: qt.evaluate("r", probe="tree"))
    assert "it takes two runs" in refused(lambda: qt.compare(runs=tmp_path))
    nothing: Any = object()
    assert "either from the latest bars" in refused(lambda: qt.forecast("r", latest=True, bars=nothing))
    assert qt.list_runs(runs=tmp_path) == []


def test_progress_is_told_to_whom_the_caller_names(capsys: pytest.CaptureFixture[str]) -> None:
    mine = Silent()
    with watched(mine) as watcher:
        assert watcher is mine
    with watched(False) as watcher:
        assert isinstance(watcher, Silent)
    with watched(True) as watcher:
        watcher.start("train", 1)
        watcher.advance(1, "fold 1/1")
    assert "fold 1/1" in capsys.readouterr().err

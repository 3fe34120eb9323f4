"""What the guide to strategies says is so: its code runs, its commands load, its tables are complete."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import qtrade.strategy
from qtrade.forecasts import Forecasts
from qtrade.paths import Paths
from qtrade.strategy import decide, list_strategies, load_strategy, strategy_folders
from qtrade.strategy_audit import audit
from qtrade.types import Bars

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
SHIPPED = Path(qtrade.strategy.__file__).parents[1] / "strategies"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)


def rows_between(start: str, end: str) -> list[list[str]]:
    """Cells of the table rows between two headings."""
    section = GUIDE.split(f"## {start}")[1].split(f"## {end}")[0]
    return [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]


def market() -> tuple[Bars, Forecasts]:
    index = pd.date_range("2024-01-01", periods=80, tz="UTC")
    generator = np.random.default_rng(3)
    close = pd.DataFrame(np.exp(generator.normal(0, 0.02, (80, 2)).cumsum(axis=0)), index=index, columns=["A", "B"])
    bars = Bars(close, close, close, close, close, "1d", "24/7", 365.0)
    rows = 2 * 50
    return bars, Forecasts(
        path=generator.normal(0, 0.002, (rows, 24)),
        symbol=np.tile(np.array(["A", "B"], dtype=object), 50),
        origin=index[30:].repeat(2),
        fold=np.zeros(rows, dtype=np.int64),
        seed=np.full(rows, -1, dtype=np.int64),
        train_end=index[[30] * rows],
        residuals={(0, -1, symbol): generator.normal(0, 0.002, (20, 24)) for symbol in "AB"},
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the strategies that the guide names."""
    monkeypatch.chdir(tmp_path)
    for path, code in (("strategies/calm_rise.py", 0), ("strategies/while_young.py", 2), ("my/file.py", 0)):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(blocks("python")[code], encoding="utf-8")
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("spec", ["calm_rise", "while_young", "while_young(oldest=20)"])
def test_strategies_of_the_guide_run_and_see_no_future(spec: str) -> None:
    bars, forecasts = market()
    strategy = load_strategy(spec, {}, strategy_folders())
    audit(strategy, bars, forecasts, seed=0)
    weights = decide(strategy, bars, forecasts)
    last = 50 if "oldest" in spec else 79
    assert (weights[:30] == 0).all(axis=None)
    assert (weights[30:last] != 0).any(axis=None)
    assert (weights[last + 1 :] == 0).all(axis=None)


def test_the_lines_on_paths_make_weights() -> None:
    bars, forecasts = market()
    found: dict[str, Any] = {"bars": bars, "forecasts": forecasts}
    exec(blocks("python")[1], found)
    assert set(np.unique(found["weights"])) == {0.0, 0.5}


@pytest.mark.usefixtures("folder")
def test_every_command_of_the_guide_loads_its_strategy() -> None:
    bars, forecasts = market()
    commands = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]
    asked = [words[3:] for words in commands if words[:3] == ["qtrade", "backtest", "RUN"]]
    assert len(asked) == 7
    for words in asked:
        assert words[0] == "-s"
        assert set(words[2::2]) <= {"--set"}
        params = dict(word.split("=", 1) for word in words[3::2])
        strategy = load_strategy(words[1], params, strategy_folders())
        for name, value in params.items():
            assert f"{name.rpartition('.')[2]}={value}" in strategy.spec
        decide(strategy, bars, forecasts)


def test_every_strategy_stands_in_the_table_with_its_parameters() -> None:
    table = rows_between("Strategies that come with qtrade", "The audit")
    told = {cells[0].strip("`"): re.findall(r"`(\w+)`", cells[3]) if len(cells) > 3 else [] for cells in table}
    assert told == {info.name: [parameter.name for parameter in info.parameters] for info in list_strategies([SHIPPED])}


def test_every_method_of_paths_stands_in_the_table_as_it_is_called() -> None:
    told = {}
    for cells in rows_between("What is known of a path", "Strategies made of"):
        for name, arguments in re.findall(r"`(\w+)\((.*?)\)`", cells[0]):
            told[name] = [argument.strip() for argument in arguments.split(",") if argument]
    methods = {name: value for name, value in vars(Paths).items() if inspect.isfunction(value) and name[0] != "_"}
    assert set(told) == set(methods) - {"vintages"}
    for name, arguments in told.items():
        parameters = list(inspect.signature(methods[name]).parameters.values())[1:]
        assert arguments == [
            one.name if one.default is one.empty else f"{one.name}={one.default}" for one in parameters
        ]

"""The workspace that `qtrade init` writes: complete, usable as it is, and never over the work of anyone."""

from __future__ import annotations

import ast
import re
import tomllib
from contextlib import chdir
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qtrade import workspace
from qtrade.config import RunConfig, load_config
from qtrade.config_reference import Key, find
from qtrade.errors import UsageError
from qtrade.forecasts import Forecasts
from qtrade.strategy import decide, load_strategy, strategy_folders, strategy_parameters
from qtrade.strategy_audit import audit
from qtrade.types import Bars
from qtrade.workspace import FILES, write_workspace


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def settings_in(tree: dict[str, object], values: object, above: str = "") -> list[str]:
    """Names in a tree of settings whose value is not the same in another."""
    assert isinstance(values, dict)
    found = []
    for name, value in tree.items():
        if isinstance(value, dict):
            found += settings_in(value, values[name], f"{above}{name}.")
        elif values[name] != value:
            found.append(f"{above}{name}")
    return found


def names_in(tree: dict[str, Any], above: str = "") -> list[str]:
    """Full names of the values in nested tables."""
    found = []
    for name, value in tree.items():
        found += names_in(value, f"{above}{name}.") if isinstance(value, dict) else [f"{above}{name}"]
    return found


def value_at(tree: Any, name: str) -> Any:
    return reduce(lambda table, part: table[part], name.split("."), tree)


def make_market() -> tuple[Bars, Forecasts]:
    """40 bars of two symbols, with random forecasts of eleven steps from bar 10 on."""
    generator = np.random.default_rng(0)
    index = pd.date_range("2024-01-01", periods=40, tz="UTC")
    close = pd.DataFrame(100 * np.exp(generator.normal(0, 0.01, (40, 2)).cumsum(axis=0)), index, columns=["A", "B"])
    rows = np.repeat(np.arange(10, 40), 2)
    zeros = np.zeros(len(rows), dtype=np.int64)
    forecasts = Forecasts(
        path=generator.normal(0, 0.01, (len(rows), 11)),
        symbol=np.array(["A", "B"] * 30, dtype=object),
        origin=index[rows],
        fold=zeros,
        seed=zeros - 1,
        train_end=index[zeros],
    )
    return Bars(close, close, close, close, close * 0, "1d", "24/7", 365), forecasts


def test_a_folder_is_made_with_everything_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "down"
    assert write_workspace(folder) == [folder / name for name in FILES]
    assert sorted(files(folder)) == sorted(FILES)


def test_an_existing_folder_keeps_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "mine.py").write_text("mine", encoding="utf-8")
    write_workspace(tmp_path)
    assert files(tmp_path)["strategies/mine.py"] == "mine"
    assert set(files(tmp_path)) == {*FILES, "strategies/mine.py"}


@pytest.mark.parametrize("taken", FILES)
def test_nothing_is_written_over_anything(tmp_path: Path, taken: str) -> None:
    path = tmp_path / taken
    path.parent.mkdir(exist_ok=True)
    path.write_text("years of work", encoding="utf-8")
    with pytest.raises(UsageError, match="would be overwritten") as caught:
        write_workspace(tmp_path)
    assert str(path) in caught.value.what
    assert files(tmp_path) == {taken: "years of work"}


def test_every_file_in_the_way_is_named(tmp_path: Path) -> None:
    write_workspace(tmp_path)
    with pytest.raises(UsageError, match=r"qtrade\.toml, .*agreement\.py would be overwritten"):
        write_workspace(tmp_path)


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot write") as caught:
        write_workspace(tmp_path / "taken")
    assert caught.value.fix == "choose another folder"
    assert files(tmp_path) == {"taken": "a file"}


def test_a_file_that_is_in_the_way_of_a_folder_leaves_no_half(tmp_path: Path) -> None:
    (tmp_path / "strategies").write_text("a file", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot write a workspace") as caught:
        write_workspace(tmp_path)
    assert "exists" in caught.value.why
    assert files(tmp_path) == {"strategies": "a file"}


def test_the_configuration_is_accepted_and_its_strategies_load_and_decide(tmp_path: Path) -> None:
    write_workspace(tmp_path)
    bars, forecasts = make_market()
    with chdir(tmp_path):
        config = load_config(Path("qtrade.toml"))
        loaded = {name: load_strategy(name, params, strategy_folders()) for name, params in config.strategies.items()}
        for strategy in loaded.values():
            audit(strategy, bars, forecasts, seed=0)
    assert "agreement" in loaded
    assert loaded["agreement"].path == Path("strategies/agreement.py")
    assert config.data.source == "sample"
    # What it shows as an example of a setting is the default, apart from what it is there to change.
    default = RunConfig(strategies=config.strategies)
    changed = settings_in(config.model_dump(mode="json"), default.model_dump(mode="json"))
    assert changed == ["name", "backtest.costs.borrow_bps"]


def test_what_is_commented_out_is_the_default(tmp_path: Path) -> None:
    (path, _) = write_workspace(tmp_path)
    as_written = load_config(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    shown = [number for number, line in enumerate(lines) if re.match(r"#\S", line)]
    opened = [line[1:] if number in shown else line for number, line in enumerate(lines)]
    path.write_text("\n".join(opened), encoding="utf-8")
    assert load_config(path) == as_written
    # Each of them is a key on its own: spelled wrong, or with another value, it would be noticed.
    tree, before = (tomllib.loads("\n".join(text)) for text in (opened, lines))
    keys = [name for name in names_in(tree) if name not in names_in(before)]
    assert len(keys) == len([number for number in shown if "=" in lines[number]]) > 20
    for name in keys:
        key = find(name)
        assert isinstance(key, Key)
        assert tomllib.loads(f"x = {key.default}")["x"] == value_at(tree, name)


def test_what_the_comments_offer_can_be_set(tmp_path: Path) -> None:
    (path, _) = write_workspace(tmp_path)
    text = path.read_text(encoding="utf-8")
    offered = re.findall(r"(?:# |and )(\w+ = \S+)(?= and| would| lays)", text)
    assert [one.partition(" ")[0] for one in offered] == [
        *("extends", "start", "end", "module", "band", "stop_quantile"),
    ]
    base = tmp_path / "base.toml"
    base.write_text("seed = 3\n", encoding="utf-8")
    path.write_text(f"{offered[0]}\n{text}", encoding="utf-8")
    tables = ("data", "data", "features", "backtest", "backtest.exits")
    sets = [f"{table}.{one}" for table, one in zip(tables, offered[1:], strict=True)]
    config = load_config(path, sets)
    assert (config.seed, config.backtest.band, config.backtest.exits.stop_quantile) == (3, 0.02, 0.1)
    assert (str(config.data.start), str(config.data.end)) == ("2005-01-01", "2020-01-01")
    assert config.features.module == "my/features.py"


def test_the_example_strategy_is_explained_and_acts(tmp_path: Path) -> None:
    write_workspace(tmp_path)
    path = tmp_path / "strategies" / "agreement.py"
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert all(one.doc for one in strategy_parameters(str(path), []))
    bars, forecasts = make_market()
    loose = decide(load_strategy(str(path), {"step": 2, "vintages": 3, "majority": 0.2}, []), bars, forecasts)
    strict = decide(load_strategy(str(path), {"step": 2, "vintages": 3, "majority": 1.0}, []), bars, forecasts)
    assert set(np.unique(loose)) == {-0.5, 0.0, 0.5}
    assert (loose.iloc[:10] == 0).all(axis=None)
    assert not strict.any(axis=None)
    # By hand: where the last three forecasts of the next two bars all rise, or all fall.
    agree = forecasts.on(bars).vintages(2, 3)
    assert (loose.to_numpy()[np.all(agree > 0, axis=2)] == 0.5).all()
    assert (loose.to_numpy()[np.all(agree < 0, axis=2)] == -0.5).all()


def test_what_is_installed_holds_every_file() -> None:
    assert set(FILES) <= set(files(Path(workspace.__file__).parent))

"""What the README says is so: its strategy runs, its commands exist, its map is complete."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from obvious_informer import ObviousInformer

from qtrade.cli import app
from qtrade.config import load_config
from qtrade.forecasts import Forecasts
from qtrade.models.settings import InformerConfig
from qtrade.presets import PRESETS
from qtrade.strategy import decide, load_strategy
from qtrade.strategy_audit import audit
from qtrade.types import Bars

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def market() -> tuple[Bars, Forecasts]:
    index = pd.date_range("2020-01-01", periods=60, tz="UTC")
    close = pd.DataFrame({"A": np.linspace(10, 12, 60), "B": np.linspace(9, 8, 60)}, index=index)
    bars = Bars(close, close, close, close, close * 0 + 1, interval="1d", calendar="24/7", periods_per_year=365.0)
    origins = index[20:50].repeat(2)
    generator = np.random.default_rng(0)
    rows = len(origins)
    return bars, Forecasts(
        path=generator.normal(size=(rows, 24)),
        symbol=np.array(["A", "B"] * 30, dtype=object),
        origin=origins,
        fold=np.zeros(rows, dtype=np.int64),
        seed=np.zeros(rows, dtype=np.int64),
        train_end=index[[20] * rows],
    )


def test_strategy_of_the_readme_runs_and_sees_no_future(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    path = tmp_path / "up_only.py"
    path.write_text(code, encoding="utf-8")
    strategy = load_strategy(str(path), {}, ())
    bars, forecasts = market()
    weights = decide(strategy, bars, forecasts)
    assert set(np.unique(weights)) == {0.0, 0.5}
    assert (weights[:20] == 0).all(axis=None)
    audit(strategy, bars, forecasts, seed=0)


def test_commands_of_the_readme_exist() -> None:
    known = set(typer.main.get_group(app).commands)
    named = set(re.findall(r"qtrade ([a-z]+)\b(?! is)", README)) & set(re.findall(r"`qtrade ([a-z]+)", README))
    assert named
    assert named <= known
    for assignment in re.findall(r"--set ([a-z_]+\.[a-z_]+=\w+)", README):
        load_config(None, [assignment])


def test_map_of_the_readme_has_every_module_with_its_own_words() -> None:
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", README, flags=re.MULTILINE))
    for folder in ("qtrade", "strategies", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name == "__init__.py":
                continue
            name = path.relative_to(ROOT).as_posix()
            summary = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
            assert rows.get(name) == summary.replace("\n", " "), f"{name} is not in the map with its own first line"
    for name in rows:
        if "/" in name:
            assert (ROOT / name).exists(), f"{name} is in the map but not in the tree"


@pytest.mark.parametrize("name", ["demo", "test"])
def test_commands_of_make_exist(name: str) -> None:
    assert f"make {name}" in README
    assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_the_checkpoint_example_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (ROOT / "docs" / "informer.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    theirs = ObviousInformer(7, 4, 7, label_len=48, horizon=24, width=512, heads=8, inner=2048)
    torch.save(theirs.state_dict(), "checkpoint.pth")
    found: dict[str, Any] = {}
    exec(code, found)
    with torch.no_grad():
        path = found["network"](torch.zeros(2, 96, 7), torch.zeros(2, 96, 4), torch.zeros(2, 24, 4))
    assert path.shape == (2, 24, 7)


def test_keys_and_presets_of_the_guide_exist() -> None:
    guide = (ROOT / "docs" / "informer.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+) \|", guide, flags=re.MULTILINE)
    names = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert set(PRESETS) <= names
    assert set(InformerConfig.model_fields) - {"key_seed"} == names - set(PRESETS)

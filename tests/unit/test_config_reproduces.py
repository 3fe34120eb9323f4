"""The configuration that a run keeps is the one that makes it, however it came about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qtrade.config import RunConfig, load_config
from qtrade.runs import Run, save_config, start_run
from qtrade.types import Bars
from qtrade.workspace import write_workspace

FEATURES = "def features(bars):\n    return {'size': bars.close}\n"
PRICES = "date,close\n2020-01-01,1\n2020-01-02,2\n"
BASE = 'preset = "tiny"\nseed = 3\n[strategies."my/own.py"]\nstep = 4\n'
MINE = """
extends = ["shared/base.toml"]
name = "mine"
[data]
start = 2001-02-03
accept = ["ohlc"]
[features]
module = "my/features.py"
[strategies."vol_target(base=forecast_sign(step=3))"]
target = 0.1
"""

CASES: dict[str, tuple[str | None, list[str], dict[str, Any]]] = {
    "default": (None, [], {}),
    "preset": (None, [], {"preset": "paper"}),
    "assignments": (None, ["train.learning_rate=3e-5", "informer.stack=[2,1]", "backtest.band=0.02"], {}),
    "strategies": (None, ['strategies={"a b/own.py" = {step = 3}, "blend(parts=[momentum, buy_and_hold])" = {}}'], {}),
    "nothing traded": (None, ["strategies={}", "baselines=[]"], {}),
    "extends": ("mine.toml", ["train.epochs=2"], {"data": {"end": "2019-01-01"}}),
    "workspace": ("qtrade.toml", [], {}),
    "features": (None, ["features.module=my/features.py", "features.set=none"], {}),
    "target": (None, ["features.target=my/target.py"], {}),
    "file": (None, ["data.file.columns=close=Last", "data.file.delimiter=tab"], {"data": {"source": "file"}}),
    "synthetic": (None, ["data.synthetic.bars=300"], {"data": {"source": "synthetic", "symbols": ["flip-7"]}}),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the cases name."""
    write_workspace(tmp_path)
    for name, text in {
        "mine.toml": MINE,
        "shared/base.toml": BASE,
        "my/features.py": FEATURES,
        "prices/ACME.csv": PRICES,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def started(config: RunConfig, runs: Path) -> Run:
    index = pd.date_range("2020-01-01", periods=9, tz="UTC")
    close = pd.DataFrame({name: np.arange(1.0, 10.0) for name in config.data.symbols}, index=index)
    bars = Bars(close, close, close, close, close * 0, "1d", "24/7", 365.0)
    versions = dict.fromkeys(config.data.symbols, "1f" * 32)
    told: dict[str, Any] = {"data": {"versions": versions}, "folds": [], "notes": []}
    return start_run(runs, config, bars, {"data": bars.fingerprint()}, told)


@pytest.mark.parametrize("case", CASES)
def test_the_configuration_of_a_run_makes_the_same_run(folder: Path, case: str) -> None:
    name, assignments, values = CASES[case]
    if case == "file":
        values = {"data": {**values["data"], "file": {"path": "prices"}}}
    config = load_config(Path(name) if name else None, assignments, **values)
    if case == "file":
        assert config.data.symbols == ("ACME",)
    run = started(config, Path("runs"))
    again = load_config(run.folder / "config.toml")
    assert "extends" not in (run.folder / "config.toml").read_text(encoding="utf-8")
    # The versions of the bars are added: with them the same bars are had again.
    assert again.data.versions == dict.fromkeys(config.data.symbols, ("1f" * 32)[:12])
    assert again.model_copy(update={"data": again.data.model_copy(update={"versions": {}})}) == config.model_copy(
        update={"data": config.data.model_copy(update={"versions": {}})}
    )
    assert again.forecast_hash(x="y") == config.forecast_hash(x="y")
    assert started(again, Path("runs")).folder == run.folder
    save_config(run, again)
    assert load_config(run.folder / "config.toml") == again
    assert started(load_config(run.folder / "config.toml"), Path("elsewhere")).name == run.name

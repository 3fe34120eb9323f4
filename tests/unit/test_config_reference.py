"""Every key is explained as it is, and the page that explains them is the one in docs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from qtrade.config import RunConfig, load_config
from qtrade.config_page import key_lines, page
from qtrade.config_reference import UNSET, Key, find, tables, toml_value
from qtrade.errors import UsageError
from qtrade.presets import PRESETS

Program = Callable[..., CompletedProcess[str]]
PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
KEYS = [key for table in tables() for key in table.keys]


def at(config: RunConfig, name: str) -> Any:
    value: Any = config.model_dump(mode="json")
    for part in name.split("."):
        value = value[part]
    return value


def test_the_page_in_docs_is_what_is_printed() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "docs/configuration.md is out of date; write it anew: qtrade config --markdown > docs/configuration.md"
    )


def test_every_key_is_there_once() -> None:
    def names(tree: dict[str, Any], above: str = "") -> list[str]:
        found = []
        for key, value in tree.items():
            inner = isinstance(value, dict) and f"{above}{key}" in {table.name for table in tables()}
            found += names(value, f"{above}{key}.") if inner else [f"{above}{key}"]
        return found

    assert sorted(key.name for key in KEYS) == sorted(names(RunConfig().model_dump(mode="json")))


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_every_key_is_explained_and_has_the_default_that_is_told(key: Key) -> None:
    assert re.match("[A-Z`]", key.what)
    assert key.what.endswith((".", ")"))
    for preset in PRESETS:
        told = key.presets.get(preset, key.default)
        value = at(load_config(preset=preset), key.name)
        if key.name != "preset":
            assert told == (UNSET if value is None else toml_value(value))
    if key.default != UNSET:
        assert at(load_config(None, [f"{key.name}={key.default}"]), key.name) == at(RunConfig(), key.name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train.epochs", "whole number, at least 1"),
        ("train.device", 'one of "auto", "cpu", "cuda", "mps"'),
        ("informer.dropout", "number, at least 0, less than 1"),
        ("backtest.band", "number, at least 0, less than 10"),
        ("data.adjust", "true or false"),
        ("data.start", "date"),
        ("data.file.path", "path"),
        ("data.symbols", "list, 1 or more of them; each text"),
        ("data.versions", "table; each text"),
        ("informer.stack", "list; each whole number, at least 1"),
        ("strategies", "table of tables"),
        ("name", "text, matching `^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`"),
    ],
)
def test_types_and_limits_are_told(name: str, kind: str) -> None:
    found = {key.name: key.kind for key in KEYS}
    assert found.get(name) == kind


def bounds() -> list[tuple[str, float, bool]]:
    """Every limit of a number that is told, and whether the value itself is allowed."""
    found = []
    for key in KEYS:
        for words, number in re.findall(r"(at least|at most|more than|less than) (-?[\d.,]*\d(?:e\+\d+)?)", key.kind):
            if "list" not in key.kind and "e+" not in number:
                found.append((key.name, float(number.replace(",", "")), words.startswith("at ")))
    return found


@pytest.mark.parametrize(("name", "limit", "allowed"), bounds())
def test_limits_hold(name: str, limit: float, allowed: bool) -> None:
    value = int(limit) if limit == int(limit) else limit
    told = ""
    try:
        load_config(None, [f"{name}={value}"])
    except UsageError as error:
        told = error.what
    # What is allowed may still not go with the other defaults, as three heads with a width of 32.
    assert told.startswith(f"'{name}' is not valid: input should be") is not allowed


@pytest.mark.parametrize(
    ("wrong", "fix"),
    [
        ("train.epoch", "did you mean 'train.epochs'?"),
        ("trian", "did you mean 'train'?"),
        ("epocs", "did you mean 'train.epochs'?"),
        ("band", "did you mean 'backtest.band'?"),
        ("delay", "did you mean 'data.yahoo.delay' or 'split.delay' or 'backtest.delay'?"),
        ("zzzz", "`qtrade config` lists them all"),
        ("extends", "`qtrade config --markdown` explains it"),
    ],
)
def test_an_unknown_key_names_the_nearest(wrong: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        find(wrong)
    assert caught.value.fix == fix


def test_what_stands_in_a_table_of_the_users_own_names_is_that_table() -> None:
    assert find("strategies.forecast_sign.step") == find("strategies")
    assert find("data.versions.^GSPC") == find("data.versions")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (1e-4, "0.0001"),
        ('a"b', '"a\\"b"'),
        ([1, 2], "[1, 2]"),
        ([], "[]"),
        ({}, "{}"),
        ({"a b": {"c": 1}}, '{ "a b" = { c = 1 } }'),
    ],
)
def test_values_are_written_as_toml(value: Any, text: str) -> None:
    assert toml_value(value) == text


def test_examples_of_the_page_are_configurations(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", page(), flags=re.DOTALL)
    assert len(blocks) == 2
    with chdir(tmp_path):
        for name, text in zip(("research.toml", "cheap.toml"), blocks, strict=True):
            Path(name).write_text(text, encoding="utf-8")
        first, second = load_config(Path("research.toml")), load_config(Path("cheap.toml"))
    assert (first.backtest.costs.fees_bps, second.backtest.costs.fees_bps) == (2.0, 0.5)
    assert (second.name, second.preset) == ("cheap", "base")
    assert list(first.strategies) == list(second.strategies) == ["path_momentum", "vol_target(base=forecast_sign)"]
    for assignment in re.findall(r"--set ([\w.]+=[^\s`]+)", page()):
        load_config(None, [assignment])


ASSIGNMENTS = [
    *("name=another", "preset=base", "train.workers=3", "evaluation.shifts=100", "backtest.cash=5", "strategies={}"),
    *(
        "data.file.tz=UTC",
        "data.synthetic.sigma=0.02",
        "data.yahoo.rate=2",
        "data.accept=ohlc",
        "data.versions.^GSPC=1a",
    ),
    *("seed=1", "replicates=2", "model=ridge", "baselines=naive", "features.set=minimal", "window.horizon=12"),
    *("split.step=100", "informer.factor=3", "train.epochs=2", "train.threads=2", "train.device=cpu"),
    *("ridge.penalties=[1.0]", "data.source=yahoo", "data.symbols=^IXIC", "data.interval=1h", "data.start=2001-01-01"),
    *("data.adjust=false", "data.missing=fill"),
]
"""Changes of every kind."""


def test_what_the_page_says_of_the_hash_is_so() -> None:
    (told,) = re.findall(r"Not among them are (.*?)came about\.", page(), flags=re.DOTALL)
    idle = set(re.findall(r"`([a-z.]+)`", told))
    base = RunConfig()
    everything = base.model_dump(mode="json", exclude_none=True, exclude={"preset"})
    left = set()
    for text in ASSIGNMENTS:
        key = text.partition("=")[0]
        # A preset decides through the settings that start from it; where all are given, its name decides nothing.
        changed = load_config(None, [text], **everything if key == "preset" else {})
        assert changed != base
        if changed.forecast_hash() == base.forecast_hash():
            left.add(next((one for one in idle if key == one or key.startswith(f"{one}.")), key))
    assert left == idle


def test_the_command_explains_and_resolves(tmp_path: Path, qtrade: Program) -> None:
    assert qtrade(tmp_path, "config", "--markdown").stdout == page()
    one = qtrade(tmp_path, "config", "train.epochs")
    assert one.stdout.splitlines() == key_lines(next(key for key in KEYS if key.name == "train.epochs"))
    assert "--set train.epochs=6" in one.stdout
    assert "base preset   10" in one.stdout
    assert json.loads(qtrade(tmp_path, "config", "train.epochs", "--json").stdout)["default"] == "6"
    assert [row["name"] for row in json.loads(qtrade(tmp_path, "config", "--json").stdout)] == [
        table.name for table in tables()
    ]
    table = qtrade(tmp_path, "config", "ridge")
    assert "penalties" in table.stdout
    everything = qtrade(tmp_path, "config")
    assert all(table.name in everything.stdout for table in tables())
    assert not list(tmp_path.iterdir())


def test_the_command_prints_what_a_configuration_comes_to(tmp_path: Path, qtrade: Program) -> None:
    (tmp_path / "base.toml").write_text('preset = "tiny"\n[train]\nepochs = 3\n', encoding="utf-8")
    (tmp_path / "mine.toml").write_text('extends = "base.toml"\nseed = 4\n', encoding="utf-8")
    told = qtrade(tmp_path, "config", "--resolved", "--config", "mine.toml", "--set", "train.patience=5")
    expected = load_config(tmp_path / "mine.toml", ["train.patience=5"])
    (tmp_path / "whole.toml").write_text(told.stdout, encoding="utf-8")
    assert load_config(tmp_path / "whole.toml") == expected
    assert "extends" not in told.stdout
    as_json = qtrade(tmp_path, "config", "--resolved", "--preset", "tiny", "--json")
    assert json.loads(as_json.stdout) == load_config(preset="tiny").model_dump(mode="json")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("train.epoch",), "did you mean 'train.epochs'?"),
        (("train", "--markdown"), "different questions"),
        (("--set", "seed=1"), "are for --resolved"),
        (("--resolved", "--set", "sed=1"), "did you mean 'seed'?"),
    ],
)
def test_a_wrong_question_is_told(tmp_path: Path, qtrade: Program, arguments: tuple[str, ...], told: str) -> None:
    outcome = qtrade(tmp_path, "config", *arguments)
    assert outcome.returncode == 2
    assert told in outcome.stderr

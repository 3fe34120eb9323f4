"""A configuration says what is wrong with it, and reads back as it was written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from qtrade.config import RunConfig, load_config, parse_assignment
from qtrade.config_reference import find
from qtrade.errors import UsageError
from qtrade.presets import PRESETS


def test_defaults_written_as_toml_read_back_equal(tmp_path: Path) -> None:
    config = load_config(
        None,
        ["train.epochs=3", 'strategies={path_momentum = {step = 12}, "my/own.py" = {}}', "data.start='2001-02-03'"],
        name="other",
        data={"symbols": ["^IXIC"], "source": None},
    )
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    again = load_config(path)
    assert again == config
    assert again.train.epochs == 3
    assert again.strategies == {"path_momentum": {"step": 12}, "my/own.py": {}}
    assert again.data.symbols == ("^IXIC",)
    assert again.data.source == "sample"


def test_options_win_over_assignments_and_those_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('name = "file"\nseed = 1\n[train]\nepochs = 2\npatience = 9\n', encoding="utf-8")
    config = load_config(path, ["train.epochs=3", "seed=2"], name="option")
    assert (config.name, config.seed, config.train.epochs, config.train.patience) == ("option", 2, 3, 9)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.epoch=3", r"unknown key 'train.epoch'\n  fix: did you mean 'epochs'\?"),
        ("trian.epochs=3", r"unknown key 'trian'\n  fix: did you mean 'train'\?"),
        ("backtest.costs.fee_bps=1", r"unknown key 'backtest.costs.fee_bps'\n  fix: did you mean 'fees_bps'\?"),
        ("train.zzz=3", r"fix: known: batch_size, .*weight_decay"),
        ("train.epochs=0", r"'train.epochs' is not valid: input should be greater than or equal to 1, got 0"),
        ("train.epochs=many", r"'train.epochs' is not valid: .* got 'many'"),
        ("train.learning_rate=nan", r"'train.learning_rate' is not valid: input should be a finite number"),
        ("model=informr", r"'model' is not valid: input should be 'informer', .* got 'informr'"),
        ("window.label_len=97", r"'window' is not valid: label_len 97 exceeds seq_len 96"),
        ("name=../up", r"'name' is not valid"),
        ("seed.a=1", r"'seed' is not valid"),
        ("epochs", r"'epochs' is not an assignment"),
        ("=3", r"'=3' is not an assignment"),
    ],
)
def test_wrong_keys_and_values_are_named(assignment: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(None, [assignment])
    assert caught.value.exit_code == 2
    assert caught.match(message)


@pytest.mark.parametrize(
    ("assignment", "fix"),
    [
        ("model=rigde", "did you mean 'ridge'?"),
        ('baselines=["drif"]', "did you mean 'drift'?"),
        ("preset=huge", "write tiny or small or base or paper"),
        ("backtest.fill=middle", "write open or close"),
        ("train.epochs=-1", "`qtrade config train.epochs` explains it"),
        ("data.symbols=[1]", "`qtrade config data.symbols` explains it"),
        ("strategies.forecast_sign.step=[1]", "`qtrade config strategies` explains it"),
    ],
)
def test_what_to_do_about_a_wrong_value_is_told(assignment: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(overrides=[assignment])
    assert caught.value.fix == fix
    if fix.startswith("`"):
        find(fix.split("`")[1].removeprefix("qtrade config "))  # and it is


def test_wrong_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    with pytest.raises(UsageError, match="cannot read the configuration"):
        load_config(path)
    path.write_text("[train\n", encoding="utf-8")
    with pytest.raises(UsageError, match="is not valid TOML"):
        load_config(path)
    path.write_text("[train]\nepoch = 1\n", encoding="utf-8")
    with pytest.raises(UsageError, match=f"unknown key 'train.epoch' in {path}"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('preset = ["a"]', r"'preset' in {} is not valid: input should be 'tiny'"),
        ("data = 5", r"'data' in {} is not valid: .* got 5"),
        ('[data]\nversions = "abc"', r"'data.versions' in {} is not valid: .* got 'abc'"),
        ("[data]\nfile = 5", r"'data.file' in {} is not valid: .* got 5"),
        (
            "[strategies.momentum]\nstep = nan",
            r"'strategies.momentum.step' in {} is not valid: .* finite number, got nan",
        ),
        (
            "[strategies.momentum]\nstep = [1]",
            r"'strategies.momentum.step' in {} .* be bool or int or float or str, got",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_named_whatever_is_asked_for_besides(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message.format(path)):
        load_config(path, data={"symbols": ["SPY"], "file": {"path": "bars.csv"}})


def test_assignment_values_are_toml_or_text() -> None:
    assert parse_assignment("a.b=3") == ("a.b", 3)
    assert parse_assignment("a = 1.5") == ("a", 1.5)
    assert parse_assignment("a=true") == ("a", True)
    assert parse_assignment("a=[1, 2]") == ("a", [1, 2])
    assert parse_assignment("a=^GSPC") == ("a", "^GSPC")
    assert parse_assignment("a=b=c") == ("a", "b=c")
    for strange in ("[" * 5000 + "]" * 5000, "9" * 5000):
        assert parse_assignment(f"a={strange}") == ("a", strange)


def test_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError):
        RunConfig().seed = 3  # type: ignore[misc]


def test_hash_covers_what_decides_forecasts_and_nothing_else() -> None:
    base = RunConfig().forecast_hash(data="x")
    assert base == RunConfig(name="another", strategies={}).forecast_hash(data="x")
    changed = [
        RunConfig(seed=1).forecast_hash(data="x"),
        RunConfig().forecast_hash(data="y"),
        load_config(None, ["split.step=100"]).forecast_hash(data="x"),
        load_config(None, ["features.set=minimal"]).forecast_hash(data="x"),
        load_config(None, ["informer.dropout=0.2"]).forecast_hash(data="x"),
    ]
    assert len({base, *changed}) == 6


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_is_where_settings_start_from(name: str, tmp_path: Path) -> None:
    config = load_config(None, [], preset=name)
    for table, values in PRESETS[name].items():
        assert values.items() <= getattr(config, table).model_dump().items()
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    assert load_config(path) == config


def test_what_is_given_wins_over_the_preset(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('preset = "paper"\n[informer]\nd_model = 256\n', encoding="utf-8")
    config = load_config(path, ["train.epochs=3"])
    assert (config.informer.d_model, config.train.epochs) == (256, 3)
    assert (config.informer.n_heads, config.train.batch_size, config.train.schedule) == (8, 32, "type1")


def test_a_preset_decides_nothing_beyond_its_settings() -> None:
    small, named = load_config(), load_config(None, [], preset="tiny")
    spelled = load_config(None, [], **{table: dict(values) for table, values in PRESETS["tiny"].items()})
    assert spelled.forecast_hash() == named.forecast_hash() != small.forecast_hash()


def test_a_file_of_another_preset_is_not_relabelled(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(load_config(preset="tiny").to_toml(), encoding="utf-8")
    assert load_config(path, ["preset=tiny"], preset="tiny") == load_config(path)
    for overrides, preset in (([], "paper"), (["preset=paper"], None)):
        with pytest.raises(UsageError, match=r"config\.toml is of preset 'tiny'; asking for 'paper'"):
            load_config(path, overrides, preset=preset)


def test_other_symbols_than_those_of_a_file_leave_its_versions_behind(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    text = '[data]\nsymbols = ["A", "B"]\nversions = { A = "1a", B = "2b" }\n'
    path.write_text(text, encoding="utf-8")
    assert load_config(path).data.versions == {"A": "1a", "B": "2b"}
    assert load_config(path, data={"symbols": ["B", "C"]}).data.versions == {"B": "2b"}
    with pytest.raises(UsageError, match="versions names 'C'"):
        load_config(path, ["data.versions.C=3c"])


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(UsageError, match=r"'preset' is not valid.*'tiny', 'small', 'base' or 'paper'.*'huge'"):
        load_config(None, [], preset="huge")


def test_levels_and_a_delay_do_not_go_together() -> None:
    with pytest.raises(UsageError, match=r"log_close needs split\.delay 0"):
        load_config(None, ["features.target=log_close", "split.delay=1"])


def test_a_stack_deeper_than_the_past_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(UsageError, match=r"do not go together: window\.seq_len 3 is too short for 3 encoders"):
        load_config(None, ["informer.stack=[3,2,1]", "window.seq_len=3", "window.label_len=1"])


@pytest.mark.parametrize("module", ["qtrade.config", "qtrade.cli", "qtrade.runs"])
def test_what_takes_seconds_to_import_is_not_needed_to_read_a_configuration(module: str) -> None:
    slow = ("torch", "vectorbt", "matplotlib", "numba", "scipy", "sklearn", "statsmodels", "arch", "yfinance")
    code = f"import sys, {module}; print([name for name in {slow!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

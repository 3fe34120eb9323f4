"""A configuration says what is wrong with it, and reads back as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from qtrade.config import RunConfig, load_config, parse_assignment
from qtrade.errors import UsageError


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


def test_assignment_values_are_toml_or_text() -> None:
    assert parse_assignment("a.b=3") == ("a.b", 3)
    assert parse_assignment("a = 1.5") == ("a", 1.5)
    assert parse_assignment("a=true") == ("a", True)
    assert parse_assignment("a=[1, 2]") == ("a", [1, 2])
    assert parse_assignment("a=^GSPC") == ("a", "^GSPC")
    assert parse_assignment("a=b=c") == ("a", "b=c")


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

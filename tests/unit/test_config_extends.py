"""A configuration in several files is the one they add up to, and each file answers for what it says itself."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrade.config import load_config
from qtrade.config_file import merged, read_layers
from qtrade.errors import UsageError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_laid_over_what_it_extends(tmp_path: Path) -> None:
    write(
        tmp_path / "base.toml", 'name = "base"\nseed = 3\n[train]\nepochs = 2\n[strategies.forecast_sign]\nstep = 4\n'
    )
    path = write(tmp_path / "mine.toml", 'extends = "base.toml"\nname = "mine"\n[strategies.path_momentum]\n')
    config = load_config(path, ["train.patience=9"])
    assert (config.name, config.seed, config.train.epochs, config.train.patience) == ("mine", 3, 2, 9)
    assert config.strategies == {"forecast_sign": {"step": 4}, "path_momentum": {}}
    assert "extends" not in config.to_toml()


def test_of_several_files_the_later_wins_with_all_it_extends(tmp_path: Path) -> None:
    write(tmp_path / "root.toml", "seed = 1\nreplicates = 1\n[train]\nepochs = 1\npatience = 1\n")
    write(tmp_path / "a.toml", 'extends = "root.toml"\nseed = 2\nreplicates = 2\n')
    write(tmp_path / "b.toml", 'extends = "root.toml"\nreplicates = 3\n[train]\nepochs = 3\n')
    config = load_config(write(tmp_path / "mine.toml", 'extends = ["a.toml", "b.toml"]\n[train]\npatience = 4\n'))
    # b comes with the seed of its root, which is laid over that of a.
    assert (config.seed, config.replicates, config.train.epochs, config.train.patience) == (1, 3, 3, 4)


def test_what_is_extended_starts_from_the_folder_of_the_file_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "shared" / "deep" / "root.toml", "seed = 5\n")
    write(tmp_path / "shared" / "base.toml", 'extends = "deep/root.toml"\nreplicates = 2\n')
    absolute = write(tmp_path / "elsewhere" / "absolute.toml", "[train]\nepochs = 7\n")
    write(tmp_path / "home" / "mine.toml", "[train]\npatience = 8\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    text = f'extends = ["../shared/base.toml", {str(absolute)!r}, "~/mine.toml"]\n[features]\nmodule = "my/own.py"\n'
    path = write(tmp_path / "work" / "mine.toml", text)
    write(tmp_path / "cwd" / "unused.toml", "")
    monkeypatch.chdir(tmp_path / "cwd")
    config = load_config(path)
    assert (config.seed, config.replicates, config.train.epochs, config.train.patience) == (5, 2, 7, 8)
    assert config.features.module == "my/own.py"  # other paths start from where qtrade is run, whichever file has them


def test_a_preset_may_stand_in_what_is_extended(tmp_path: Path) -> None:
    write(tmp_path / "base.toml", 'preset = "paper"\n')
    path = write(tmp_path / "mine.toml", 'extends = "base.toml"\n[informer]\nd_model = 256\n')
    config = load_config(path)
    assert (config.preset, config.informer.d_model, config.informer.n_heads) == ("paper", 256, 8)
    with pytest.raises(UsageError, match=r"mine\.toml is of preset 'paper'; asking for 'tiny'"):
        load_config(path, preset="tiny")


def test_a_file_does_not_relabel_what_it_extends(tmp_path: Path) -> None:
    run = write(tmp_path / "run.toml", load_config(preset="tiny").to_toml())
    mine = write(tmp_path / "mine.toml", 'extends = "run.toml"\npreset = "paper"\n')
    with pytest.raises(UsageError) as caught:
        load_config(mine)
    assert caught.value.what == f"{run} is of preset 'tiny'; asking for 'paper' in {mine} would only relabel it"
    write(tmp_path / "paper.toml", 'preset = "paper"\n')
    listed = write(tmp_path / "listed.toml", 'extends = ["run.toml", "paper.toml"]\n')
    with pytest.raises(UsageError, match=r"run\.toml is of preset 'tiny'; asking for 'paper' in .*paper\.toml"):
        load_config(listed)
    write(mine, 'extends = "run.toml"\npreset = "tiny"\nseed = 7\n')
    assert load_config(mine) == load_config(run, ["seed=7"])


@pytest.mark.parametrize("symbols", ['["B", "C"]', '"B, C"'])
def test_other_symbols_leave_the_versions_of_what_is_extended_behind(tmp_path: Path, symbols: str) -> None:
    write(tmp_path / "run.toml", '[data]\nsymbols = ["A", "B"]\nversions = { A = "1a", B = "2b" }\n')
    mine = write(tmp_path / "mine.toml", f'extends = "run.toml"\n[data]\nsymbols = {symbols}\n')
    assert load_config(mine).data.versions == {"B": "2b"}
    assert load_config(tmp_path / "run.toml", [f"data.symbols={symbols}"]).data.versions == {"B": "2b"}
    with mine.open("a", encoding="utf-8") as file:
        file.write('versions = { C = "3c", D = "4d" }\n')
    with pytest.raises(UsageError, match="versions names 'D'"):
        load_config(mine)


def test_a_table_does_not_hide_a_wrong_value_beneath_it(tmp_path: Path) -> None:
    base = write(tmp_path / "base.toml", "train = 5\n")
    mine = write(tmp_path / "mine.toml", 'extends = "base.toml"\n[train]\nepochs = 1\n')
    with pytest.raises(UsageError, match=f"'train' in {base} is not valid: .* got 5"):
        load_config(mine)


def test_a_circle_is_named(tmp_path: Path) -> None:
    a = write(tmp_path / "a.toml", 'extends = "b.toml"\n')
    b = write(tmp_path / "b.toml", 'extends = "./a.toml"\n')
    with pytest.raises(UsageError, match="extends itself") as caught:
        load_config(a)
    assert caught.value.exit_code == 2
    assert caught.value.why == f"{a} extends {b} extends {a}"
    alone = write(tmp_path / "alone.toml", 'extends = "alone.toml"\n')
    with pytest.raises(UsageError, match=r"alone\.toml extends itself"):
        load_config(alone)


def test_two_ways_to_one_file_are_no_circle(tmp_path: Path) -> None:
    write(tmp_path / "root.toml", "seed = 1\n")
    write(tmp_path / "a.toml", 'extends = "root.toml"\n')
    assert load_config(write(tmp_path / "mine.toml", 'extends = ["a.toml", "root.toml", "a.toml"]\n')).seed == 1


def test_a_missing_file_is_named_with_the_chain_that_leads_to_it(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.toml", 'extends = "base.toml"\n')
    base = write(tmp_path / "base.toml", 'extends = "gone.toml"\n')
    with pytest.raises(UsageError, match="cannot read the configuration") as caught:
        load_config(mine)
    assert str(tmp_path / "gone.toml") in caught.value.what
    assert f"{mine} extends {base} extends {tmp_path / 'gone.toml'}" in caught.value.why
    assert caught.value.fix == f"correct `extends` in {base}: it starts from that file's folder"
    with pytest.raises(UsageError) as alone:
        load_config(tmp_path / "nope.toml")
    assert alone.value.fix.startswith("correct the path after --config")
    for text in ("[train\n", f"extends = {'[' * 5000}{']' * 5000}", f"{'a.' * 500}a = 1", f"seed = {'9' * 5000}"):
        base.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=f"{base} is not valid TOML") as caught:
            load_config(mine)
        assert caught.value.why.endswith(f"; {mine} extends {base}")


@pytest.mark.parametrize("name", ["~nosuchuser/x.toml", "a\\u0000b", "loop.toml"])
def test_a_name_that_leads_nowhere_is_a_mistake_of_the_file_that_says_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop.toml").symlink_to("pool.toml")
    (tmp_path / "pool.toml").symlink_to("loop.toml")
    mine = write(tmp_path / "mine.toml", f'extends = "{name}"\n')
    with pytest.raises(UsageError, match="cannot read the configuration") as caught:
        load_config(mine)
    assert f"; {mine} extends " in caught.value.why
    assert str(mine) in caught.value.fix


@pytest.mark.parametrize("wrong", ["3", '["base.toml", 3]', '""', "[[]]", '{ file = "base.toml" }'])
def test_only_files_can_be_extended(tmp_path: Path, wrong: str) -> None:
    path = write(tmp_path / "mine.toml", f"extends = {wrong}\n")
    with pytest.raises(UsageError, match=f"'extends' in {path} is not a file or a list of files"):
        load_config(path)


def test_extends_is_a_key_of_files_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'extends' cannot be set"):
        load_config(None, ["extends=base.toml"])
    path = write(tmp_path / "mine.toml", 'extend = "base.toml"\n')
    with pytest.raises(UsageError, match=r"unknown key 'extend' in .*mine") as caught:
        load_config(path)
    assert caught.value.fix == "did you mean 'extends'?"
    write(tmp_path / "mine.toml", '[train]\nextends = "base.toml"\n')
    with pytest.raises(UsageError, match=r"unknown key 'train\.extends'"):
        load_config(path)


@pytest.mark.parametrize(
    ("base", "mine", "overrides", "blamed", "told"),
    [
        ("[train]\nepochs = 0", "[train]\npatience = 1", [], "base", "'train.epochs' in {} is not valid"),
        ("[train]\npatience = 1", "[train]\nepochs = 0", [], "mine", "'train.epochs' in {} is not valid"),
        ("[train]\nepochs = 0", "[train]\nepochs = -1", [], "mine", "'train.epochs' in {} is not valid"),
        ("[train]\nepochs = 0", "", ["train.epochs=-1"], "", "'train.epochs' is not valid"),
        ("[trian]\nepochs = 1", "seed = 1", [], "base", "unknown key 'trian' in {}"),
        ("[train]\nepoch = 1", "[train]\nepochs = 1", [], "base", "unknown key 'train.epoch' in {}"),
        ("evaluation.horizons = [0]", "", [], "base", "'evaluation.horizons.0' in {} is not valid"),
        ("evaluation.horizons = [1]", "", ["evaluation.horizons=[0]"], "", "'evaluation.horizons.0' is not valid"),
        ("window.seq_len = 40", "window.label_len = 41", [], "both", "'window' in {} is not valid: label_len 41"),
        ("window.seq_len = 40", "", ["window.label_len=41"], "", "'window' is not valid: label_len 41"),
        ('features.set = "defualt"', "seed = 1", [], "base", "features.set in {}: unknown feature set 'defualt'"),
        ('features.set = "default"', 'features.include = ["rsj"]', [], "mine", "features.include in {}: unknown "),
        ("seed = 1", "", ["features.set=defualt"], "", "unknown feature set 'defualt'"),
        ('data.accept = ["holes"]', "", [], "base", "data.accept in {}: "),
    ],
)
def test_the_file_that_holds_a_wrong_value_is_blamed(
    tmp_path: Path, base: str, mine: str, overrides: list[str], blamed: str, told: str
) -> None:
    files = {
        "base": write(tmp_path / "base.toml", base),
        "mine": write(tmp_path / "mine.toml", f'extends = "base.toml"\n{mine}'),
    }
    with pytest.raises(UsageError) as caught:
        load_config(files["mine"], overrides)
    named = f"{files['base']} and {files['mine']}" if blamed == "both" else str(files.get(blamed, ""))
    assert caught.value.what.startswith(told.format(named))
    for name, path in files.items():
        assert (str(path) in str(caught.value)) == (blamed in (name, "both"))


def test_two_files_that_do_not_go_together_are_both_named(tmp_path: Path) -> None:
    base = write(tmp_path / "base.toml", 'name = "x"\n[features]\ninclude = ["rsi"]\n')
    mine = write(tmp_path / "mine.toml", 'extends = "base.toml"\n[features]\nexclude = ["rsi"]\n')
    with pytest.raises(UsageError) as caught:
        load_config(mine)
    assert caught.value.what.startswith(f"features.include in {base}, features.exclude in {mine}: feature 'rsi' is")


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "seed": st.integers(0, 9),
    "name": st.sampled_from(["a", "b", "c"]),
    "train": st.fixed_dictionaries({}, optional={"epochs": st.integers(1, 9), "patience": st.integers(1, 9)}),
    "backtest": st.fixed_dictionaries(
        {},
        optional={
            "cash": st.floats(1, 1e6),
            "costs": st.fixed_dictionaries({}, optional={"fees_bps": st.floats(0, 10), "min_fee": st.floats(0, 10)}),
        },
    ),
    "evaluation": st.fixed_dictionaries({}, optional={"horizons": st.lists(st.integers(1, 24), min_size=1)}),
    "strategies": st.dictionaries(
        st.sampled_from(["forecast_sign", "my/own.py", "vol_target(base=momentum)"]),
        st.dictionaries(st.sampled_from(["step", "target"]), st.integers(1, 9)),
    ),
}


PRESET = st.sampled_from(["tiny", "small", "base", "paper"])


def trees_of(preset: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Files that may name a preset, all of them the same: another is refused."""
    return st.lists(st.fixed_dictionaries({}, optional=VALUES | {"preset": st.just(preset)}), min_size=1, max_size=4)


@given(trees=PRESET.flatmap(trees_of), chain=st.booleans())
@settings(max_examples=60, deadline=None)
def test_files_add_up_to_the_one_that_says_it_all(trees: list[dict[str, Any]], chain: bool) -> None:
    """One after the other, or listed by the last: either way the last wins."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for number, tree in enumerate(trees):
            before = [f"{one}.toml" for one in range(number)]
            extended = before[-1:] if chain else before if number == len(trees) - 1 else []
            said = {"extends": extended[0] if chain else extended} if extended else {}
            write(folder / f"{number}.toml", tomli_w.dumps(said | tree))
        whole = write(folder / "whole.toml", tomli_w.dumps(reduce(merged, trees, {})))
        layered = load_config(folder / f"{len(trees) - 1}.toml")
        assert layered == load_config(whole)
        again = write(folder / "again.toml", layered.to_toml())
        assert load_config(again) == layered
        assert [layer.tree for layer in read_layers(folder / f"{len(trees) - 1}.toml")] == trees

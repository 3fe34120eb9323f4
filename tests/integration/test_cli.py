"""The program as a user meets it: what each command prints, and what it says when it cannot do what was asked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from qtrade.data.cache import Cache
from qtrade.report import page

Program = Callable[..., CompletedProcess[str]]
Options = tuple[str, ...]

LOOKS_AHEAD = '''
"""Buys what will rise."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Crystal:
    """Sees tomorrow."""

    def weights(self, bars, forecasts):
        return (bars.close.shift(-1) > bars.close).astype(float) / len(bars.symbols)
'''


def contents(folder: Path) -> dict[str, str]:
    """Checksum of every file but locks, which come and go."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, qtrade: Program, tiny: Options) -> Path:
    """A folder in which the linear model was run to the end; only to be read."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "render", lambda report: report.verdict.headline)
        assert qtrade(folder, "run", *tiny, "--set", "model=ridge", "--set", "baselines=[]").returncode == 0
    return folder


@pytest.fixture
def place(tmp_path: Path, finished: Path) -> Path:
    """A copy of `finished`, to be spoilt."""
    folder = tmp_path / "place"
    shutil.copytree(finished, folder)
    return folder


def only_run(folder: Path) -> Path:
    (run,) = (folder / "runs").glob("*/")
    return run


def refused(qtrade: Program, folder: Path, *arguments: str) -> tuple[int, str]:
    """Run a command that has to fail in words and leave every file as it was; give its exit code and message."""
    before = contents(folder)
    outcome = qtrade(folder, *arguments)
    assert contents(folder) == before
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr
    return outcome.returncode, outcome.stderr


# --- what is printed ---


@pytest.mark.usefixtures("undrawn")
def test_run_prints_verdict_table_and_path_on_stdout_and_progress_on_stderr(
    tmp_path: Path, qtrade: Program, tiny: Options
) -> None:
    outcome = qtrade(tmp_path, "run", *tiny)
    assert outcome.returncode == 0, outcome.stderr
    lines = outcome.stdout.splitlines()
    assert lines[0] in ("PASS", "FAIL", "INCONCLUSIVE")
    for name in ("forecast_sign", "path_momentum", "buy and hold"):
        assert sum(line.startswith(name) for line in lines) == 1
    report = tmp_path / lines[-1]
    assert report.is_file()
    assert report.name == "report.html"

    assert "epoch" not in outcome.stdout
    assert "fetch ^GSPC" in outcome.stderr
    assert "train informer  fold 2/2  epoch 1/1  loss " in outcome.stderr
    assert "backtest  path_momentum" in outcome.stderr


@pytest.mark.parametrize("command", ["doctor", "features", "models", "strategies"])
def test_lists_are_tables_or_json(tmp_path: Path, qtrade: Program, command: str) -> None:
    table = qtrade(tmp_path, command)
    rows = json.loads(qtrade(tmp_path, command, "--json").stdout)
    assert table.returncode == 0
    assert rows
    first = next(iter(rows[0]))
    for row in rows:
        assert row[first] in table.stdout


def test_doctor_names_what_is_missing(tmp_path: Path, qtrade: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qtrade.doctor.PACKAGES", ("numpy", "not-there"))
    outcome = qtrade(tmp_path, "doctor", "--json")
    assert outcome.returncode == 1
    problems = {row["what"]: row["problem"] for row in json.loads(outcome.stdout) if row["problem"]}
    assert problems == {"not-there": "install it: python -m pip install not-there"}


def test_version_and_help(tmp_path: Path, qtrade: Program) -> None:
    assert qtrade(tmp_path, "--version").stdout.startswith("qtrade 0.")
    outcome = qtrade(tmp_path, "--help")
    assert outcome.returncode == 0
    for command in ("run", "fetch", "train", "backtest", "report", "doctor"):
        assert f" {command} " in outcome.stdout
        assert "Example: qtrade" in qtrade(tmp_path, command, "--help").stdout


def test_installed_program_keeps_stdout_clean_and_exit_codes(tmp_path: Path) -> None:
    def shell(*arguments: str) -> CompletedProcess[str]:
        command = [sys.executable, "-m", "qtrade.cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    fetched = shell("fetch", "^GSPC")
    assert (fetched.returncode, fetched.stdout) == (0, f"{Path('data_cache/sample/1d/^GSPC.parquet')}\n")
    assert fetched.stderr.startswith("fetch ^GSPC")
    unknown = shell("fetch", "^GSCP")
    assert (unknown.returncode, unknown.stdout) == (3, "")
    assert "Traceback" not in unknown.stderr


def test_one_unknown_symbol_leaves_the_others_saved(tmp_path: Path, qtrade: Program) -> None:
    outcome = qtrade(tmp_path, "fetch", "^GSPC", "^GSCP", "^IXIC")
    assert outcome.returncode == 5
    assert [(tmp_path / line).is_file() for line in outcome.stdout.splitlines()] == [True, True]
    assert "1 of 3 symbols could not be fetched\n  why: ^GSCP: the sample has no symbol '^GSCP'" in outcome.stderr


# --- bad input ---


@pytest.mark.parametrize(
    ("arguments", "code", "messages"),
    [
        ("fetch ^GSCP", 3, ["the sample has no symbol '^GSCP'", "did you mean '^GSPC'?"]),
        ("run ^GSCP", 3, ["the sample has no symbol '^GSCP'", "did you mean '^GSPC'?"]),
        ("train ^IXIC", 3, ["has no 1d bars from 'sample'", "qtrade fetch '^IXIC' --source sample --interval 1d"]),
        ("train --start 2018-12-01", 3, ["bars are too few", "fix: fetch a longer history"]),
        ("train --start 2017-06-01", 3, ["bars are too few: the first forecast needs", "split.train_size"]),
        ("train --start 2030-01-01", 3, ["no bars from 2030-01-01 to the end", "qtrade fetch"]),
        ("train --set split.valid_size=300", 2, ["train_size 300 leaves no origin to fit on", "split.valid_size"]),
        ("train --epoch 3", 2, ["No such option: --epoch"]),
        ("trian", 2, ["No such command 'trian'"]),
        ("train --set train.epoch=3", 2, ["unknown key 'train.epoch'", "did you mean 'epochs'?"]),
        ("train --config nowhere.toml", 2, ["cannot read the configuration nowhere.toml", "No such file"]),
        ("train --interval 7m", 2, ["'7m'"]),
        ("train --start 2015 --end 2014-01-01", 2, ["'data.start' is not valid"]),
        ("train --set features.include=['rsj']", 2, ["unknown feature 'rsj'", "did you mean 'rsi'?"]),
        ("train --set train.device=mps", 2, ["device 'mps' is not available", "qtrade doctor"]),
        ("run --set strategies.forecast_sing={}", 2, ["there is no strategy 'forecast_sing'", "'forecast_sign'?"]),
        ("backtest walk", 2, ["there is no run 'walk' in runs", "known: run-"]),
        ("report walk --runs nowhere", 2, ["there is no run 'walk' in nowhere", "qtrade run"]),
        ("backtest run -s forecast_sing", 2, ["there is no strategy 'forecast_sing'", "'forecast_sign'?"]),
        ("backtest run -s forecast_sign --set stepp=2", 2, ["has no parameter 'stepp'", "did you mean 'step'?"]),
        ("backtest run -s forecast_sign --set step=2.5", 2, ["parameter 'step' must be of type int, not '2.5'"]),
        ("backtest run -s forecast_sign --set step=9", 2, ["step 9 lies outside the forecast path", "from 1 to 4"]),
        ("backtest run -s forecast_sign --set step", 2, ["'step' is not an assignment"]),
        ("backtest run --set step=2", 2, ["--set needs exactly one --strategy"]),
        ("backtest run -s nowhere.py", 2, ["cannot read nowhere.py"]),
    ],
)
def test_wrong_input_is_explained_and_harms_nothing(
    finished: Path, qtrade: Program, tiny: Options, arguments: str, code: int, messages: list[str]
) -> None:
    command, *rest = arguments.split()
    options = (*tiny, "--set", "model=ridge") if command in ("run", "train") else ()
    exit_code, message = refused(qtrade, finished, command, *options, *rest)
    for part in messages:
        assert part in " ".join(message.split()), message
    assert exit_code == code, message


def test_unknown_toml_key_names_the_nearest(place: Path, qtrade: Program) -> None:
    (place / "my.toml").write_text("[split]\ntrain_sise = 300\n", encoding="utf-8")
    code, message = refused(qtrade, place, "train", "--config", "my.toml")
    assert code == 2
    assert "unknown key 'split.train_sise' in my.toml\n  fix: did you mean 'train_size'?" in message


def test_broken_toml_names_the_line(place: Path, qtrade: Program) -> None:
    (place / "my.toml").write_text("[split]\ntrain_size = \n", encoding="utf-8")
    code, message = refused(qtrade, place, "train", "--config", "my.toml")
    assert code == 2
    assert "my.toml is not valid TOML" in message
    assert "line 2" in message


@pytest.mark.parametrize("half", ["^GSPC.parquet", "^GSPC.json"])
def test_half_written_cache_is_recognised(place: Path, qtrade: Program, tiny: Options, half: str) -> None:
    path = place / "data_cache" / "sample" / "1d" / half
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, message = refused(qtrade, place, "train", *tiny)
    assert code == 3
    assert str(Path("data_cache/sample/1d") / half.replace(".parquet", "")) in message
    assert "fix: fetch it again: `qtrade fetch '^GSPC' --source sample" in message


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("command", ["backtest", "report"])
def test_fetching_other_bars_changes_no_finished_run(place: Path, qtrade: Program, command: str) -> None:
    cache = Cache(place / "data_cache")
    raw = cache.read("sample", "1d", "^GSPC")
    cache.write(dataclasses.replace(raw, frame=raw.frame.iloc[:-1]))
    assert qtrade(place, command, "run").returncode == 0
    (only_run(place) / "bars.parquet").write_bytes(b"PAR1")
    code, message = refused(qtrade, place, command, "run")
    assert code == 3
    assert "bars.parquet cannot be read" in message


RUINOUS = ("--set", "model=ridge", "--set", "baselines=[]", "--set", "backtest.costs.fees_bps=9999")


@pytest.mark.usefixtures("undrawn_figures")
def test_a_ruined_account_is_told_in_the_report_and_takes_nothing_away(
    place: Path, qtrade: Program, tiny: Options
) -> None:
    before = contents(only_run(place))
    outcome = qtrade(place, "run", *tiny, *RUINOUS)
    assert outcome.returncode == 5, outcome.stderr
    assert "the account is ruined" in outcome.stderr
    assert "ruined" in (only_run(place) / "report.html").read_text(encoding="utf-8")
    # The report and what it stands on are of the new account; forecasts and earlier backtests are as they were.
    retold = {"config.toml", "report.html", "metrics.json", "evaluation.json"}
    after = contents(only_run(place))
    assert {name: after[name] for name in before if name not in retold} == {
        name: digest for name, digest in before.items() if name not in retold
    }
    assert len(after) > len(before)


@pytest.mark.usefixtures("undrawn_figures")
def test_a_damaged_backtest_does_not_stop_the_report(place: Path, qtrade: Program) -> None:
    victim = sorted((only_run(place) / "backtests").iterdir())[0]
    (victim / "equity.parquet").unlink()
    assert qtrade(place, "report", "run").returncode == 0
    text = (only_run(place) / "report.html").read_text(encoding="utf-8")
    assert f"The backtest in {victim.name} cannot be read and is left out" in text


def test_price_that_never_changes_is_refused(place: Path, qtrade: Program, tiny: Options) -> None:
    cache = Cache(place / "data_cache")
    raw = cache.read("sample", "1d", "^GSPC")
    flat = raw.frame.assign(open=7.0, high=7.0, low=7.0, close=7.0)
    cache.write(dataclasses.replace(raw, frame=flat))
    code, message = refused(qtrade, place, "train", *tiny)
    assert code == 3
    assert "^GSPC: the bars have errors: constant (1760 bars" in message


def test_missing_price_is_refused_by_name_and_stamp(place: Path, qtrade: Program, tiny: Options) -> None:
    cache = Cache(place / "data_cache")
    raw = cache.read("sample", "1d", "^GSPC")
    stamp = raw.frame.index[-5]
    cache.write(dataclasses.replace(raw, frame=raw.frame.assign(close=raw.frame["close"].drop(stamp))))
    code, message = refused(qtrade, place, "train", *tiny)
    assert code == 3
    assert f"^GSPC: the bars have errors: price (1 bar, the first at {stamp}: close is nan)" in message


@pytest.mark.parametrize("command", ["train", "backtest", "report"])
def test_edited_configuration_of_a_run_is_refused(place: Path, qtrade: Program, tiny: Options, command: str) -> None:
    path = only_run(place) / "config.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("train_size = 300", "train_size = 301"), encoding="utf-8")
    options = (*tiny, "--set", "model=ridge", "--set", "baselines=[]") if command == "train" else ("run",)
    code, message = refused(qtrade, place, command, *options)
    assert code == 2
    assert "holds another configuration than its forecasts were made with" in message
    assert "fix: undo the change to config.toml" in message


@pytest.mark.usefixtures("unevaluated")
def test_folder_of_another_run_is_refused(place: Path, qtrade: Program, tiny: Options) -> None:
    options = ("train", *tiny, "--set", "model=drift", "--set", "baselines=[]")
    assert qtrade(place, *options).returncode == 0
    ridge, drift = sorted(
        (place / "runs").glob("*/"), key=lambda run: 'model = "ridge"' not in (run / "config.toml").read_text()
    )
    shutil.rmtree(drift)
    ridge.rename(drift)
    code, message = refused(qtrade, place, *options)
    assert code == 2
    assert f"{Path('runs') / drift.name} belongs to another run" in message
    assert "fix: choose another --name" in message


@pytest.mark.parametrize("command", ["backtest", "report"])
def test_run_that_is_not_finished_is_refused(place: Path, qtrade: Program, command: str) -> None:
    (only_run(place) / "forecasts.parquet").unlink()
    code, message = refused(qtrade, place, command, "run")
    assert code == 3
    assert "holds no forecasts of 'ridge'\n  why: its training is not finished" in message
    assert "`qtrade train --config " in message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("forecasts.parquet", b"PAR1 and no more", "forecasts.parquet cannot be read"),
        ("manifest.json", b'{"facts": ', "manifest.json cannot be read"),
        ("manifest.json", b"{}", "manifest.json lacks forecast_hash, facts"),
        ("manifest.json", b"[]", "manifest.json lacks"),
    ],
)
@pytest.mark.parametrize("command", ["backtest", "report"])
def test_damaged_run_is_refused(
    place: Path, qtrade: Program, command: str, name: str, content: bytes, message: str
) -> None:
    (only_run(place) / name).write_bytes(content)
    code, said = refused(qtrade, place, command, "run")
    assert code == 3
    assert message in said
    assert "fix: " in said


def test_ambiguous_name_lists_the_runs(place: Path, qtrade: Program) -> None:
    run = only_run(place)
    shutil.copytree(run, run.with_name("run-2"))
    code, message = refused(qtrade, place, "report", "run")
    assert code == 2
    assert "'run' is the beginning of several runs" in message
    assert run.name in message


@pytest.mark.parametrize("command", ["fetch --cache", "train --runs"])
def test_folder_that_cannot_be_written_is_named(place: Path, qtrade: Program, tiny: Options, command: str) -> None:
    (place / "occupied").write_text("a file", encoding="utf-8")
    code, message = refused(qtrade, place, *command.split(), "occupied", *tiny)
    assert code == 2
    assert "cannot write to occupied" in message
    assert "fix: choose another folder" in message


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_run_in_a_folder_without_permission_is_refused(place: Path, qtrade: Program, tiny: Options) -> None:
    (place / "runs").chmod(0o500)
    try:
        code, message = refused(qtrade, place, "train", *tiny, "--set", "model=drift")
    finally:
        (place / "runs").chmod(0o700)
    assert code == 2
    assert "Permission denied" in message


@pytest.mark.parametrize(
    ("source", "code", "messages"),
    [
        ("def weights(:\n", 2, ["mine.py cannot be loaded", "SyntaxError", "mine.py, line 1"]),
        ("X = 1\n", 2, ["mine.py must define one class, and defines none"]),
        (LOOKS_AHEAD, 4, ["strategy 'mine': the weight of ^GSPC at", "it looks ahead"]),
        (LOOKS_AHEAD.replace(".shift(-1)", ".loc['never']"), 2, ["strategy 'mine' failed while deciding", "KeyError"]),
    ],
)
def test_broken_strategy_file_is_explained(
    place: Path, qtrade: Program, source: str, code: int, messages: list[str]
) -> None:
    (place / "mine.py").write_text(source, encoding="utf-8")
    exit_code, message = refused(qtrade, place, "backtest", "run", "-s", "mine.py")
    for part in messages:
        assert part in message
    assert exit_code == code


def test_broken_strategy_is_found_before_training(tmp_path: Path, qtrade: Program, tiny: Options) -> None:
    code, message = refused(qtrade, tmp_path, "run", *tiny, "--set", "strategies.path_momentum.stepp=2")
    assert code == 2
    assert "did you mean 'step'?" in message


@pytest.mark.usefixtures("unevaluated", "undrawn_figures")
def test_market_without_volume_is_run_with_a_note(place: Path, qtrade: Program, tiny: Options) -> None:
    cache = Cache(place / "data_cache")
    raw = cache.read("sample", "1d", "^GSPC")
    cache.write(dataclasses.replace(raw, frame=raw.frame.assign(volume=0.0)))
    shutil.rmtree(place / "runs")
    assert qtrade(place, "train", *tiny, "--set", "model=ridge", "--set", "baselines=[]").returncode == 0
    outcome = qtrade(place, "report", "run")
    assert outcome.returncode == 0, outcome.stderr
    assert "^GSPC reports no volume" in (only_run(place) / "report.html").read_text(encoding="utf-8")


def test_traceback_is_shown_on_demand_only(finished: Path, qtrade: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" in qtrade(finished, "--debug", "report", "walk").stderr

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("qtrade.pipeline.report.report_run", fail)
    code, message = refused(qtrade, finished, "report", "run")
    assert (code, message.splitlines()[0]) == (1, "unexpected error: RuntimeError: a bug")
    assert "`qtrade report run --debug`" in message
    assert "Traceback" in qtrade(finished, "--debug", "report", "run").stderr

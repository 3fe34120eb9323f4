"""The stages hand over what they should, repeat themselves exactly, and survive being stopped."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qtrade.config import load_config
from qtrade.data.cache import Cache
from qtrade.data.fetch import fetch
from qtrade.models.base import TrainingError
from qtrade.pipeline.market import prepare
from qtrade.progress import Silent
from qtrade.runs import open_run

Program = Callable[..., CompletedProcess[str]]
Options = tuple[str, ...]

MODELS = ("informer", "naive", "drift", "ridge")


def only_run(folder: Path) -> Path:
    (run,) = (folder / "runs").glob("*/")
    return run


def frames(run: Path, name: str = "forecasts.parquet") -> dict[str, pd.DataFrame]:
    """Read a file of every model of a run."""
    return {str(path.relative_to(run)): pd.read_parquet(path) for path in run.rglob(name) if "folds" not in path.parts}


def assert_identical(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        pd.testing.assert_frame_equal(left[name], right[name], check_exact=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, qtrade: Program, tiny: Options) -> Path:
    """A run of everything in one command; only to be read."""
    folder = tmp_path_factory.mktemp("whole")
    outcome = qtrade(folder, "run", *tiny)
    assert outcome.returncode == 0, outcome.stderr
    return folder


# --- stages ---


@pytest.mark.usefixtures("undrawn")
def test_stages_read_what_the_former_wrote_and_equal_the_whole_run(
    tmp_path: Path, whole: Path, qtrade: Program, tiny: Options
) -> None:
    fetched = qtrade(tmp_path, "fetch", *tiny)
    assert (tmp_path / fetched.stdout.strip()).is_file()

    trained = qtrade(tmp_path, "train", *tiny)
    run = tmp_path / trained.stdout.strip()
    assert (run / "forecasts.parquet").is_file()
    assert (run / "evaluation.json").is_file()
    assert not (run / "backtests").exists()

    tested = qtrade(tmp_path, "backtest", run.name)
    *table, first, second = tested.stdout.splitlines()
    assert any("buy and hold" in line for line in table)
    for folder in (tmp_path / first, tmp_path / second):
        written = {path.name for path in folder.iterdir()}
        assert written == {"weights.parquet", "trades.parquet", "equity.parquet", "metrics.json"}
    assert not (run / "report.html").exists()

    reported = qtrade(tmp_path, "report", str(run.relative_to(tmp_path)))
    assert reported.stdout.splitlines()[-1] == str(run.relative_to(tmp_path) / "report.html")

    assert run.name == only_run(whole).name
    for name in ("forecasts.parquet", "residuals.parquet", "weights.parquet", "trades.parquet", "equity.parquet"):
        assert_identical(frames(run, name), frames(only_run(whole), name))
    for name in ("evaluation.json", "metrics.json", "config.toml", "manifest.json"):
        assert (run / name).read_bytes() == (only_run(whole) / name).read_bytes()


@pytest.mark.usefixtures("unevaluated")
def test_two_identical_runs_are_equal_to_the_last_bit(
    tmp_path: Path, whole: Path, qtrade: Program, tiny: Options
) -> None:
    assert qtrade(tmp_path, "fetch", *tiny).returncode == 0
    assert qtrade(tmp_path, "train", *tiny, "--name", "other").returncode == 0
    assert_identical(frames(only_run(tmp_path)), frames(only_run(whole)))


def test_every_origin_is_forecast_once_by_a_model_that_came_before_it(whole: Path) -> None:
    tables = frames(only_run(whole))
    assert set(tables) == {
        "forecasts.parquet",
        *(str(Path("baselines", name, "forecasts.parquet")) for name in MODELS[1:]),
    }
    first = tables["forecasts.parquet"]
    for table in tables.values():
        assert not table.duplicated(["symbol", "origin", "seed"]).any()
        assert (table["origin"] >= table["train_end"]).all()
        truth = [f"y_{step:02d}" for step in range(1, 5)]
        pd.testing.assert_frame_equal(table[["origin", *truth]], first[["origin", *truth]])
    assert first["fold"].nunique() == 2
    assert (tables[str(Path("baselines/naive/forecasts.parquet"))].filter(like="y_hat") == 0).all(axis=None)


def test_actual_returns_are_those_of_the_cached_bars(whole: Path) -> None:
    close = pd.read_parquet(whole / "data_cache" / "sample" / "1d" / "^GSPC.parquet")["close"]
    table = frames(only_run(whole))["forecasts.parquet"]
    origin = close.index.get_indexer(pd.DatetimeIndex(table["origin"]))
    for step in range(1, 5):
        expected = np.log(close.to_numpy()[origin + step] / close.to_numpy()[origin + step - 1])
        np.testing.assert_allclose(table[f"y_{step:02d}"], expected, rtol=0, atol=1e-15)


def test_report_is_self_contained_and_opens_with_the_verdict(whole: Path) -> None:
    run = only_run(whole)
    page = (run / "report.html").read_text(encoding="utf-8")
    # Names of XML namespaces look like addresses; nothing is loaded from them.
    addresses = set(re.findall(r"""https?://[^\s"'<>)]+""", page))
    assert {address for address in addresses if not address.startswith("http://www.w3.org/")} == set()
    assert not re.search(r"""\b(?:src|href)\s*=\s*["'](?!#|data:)""", page)
    assert not re.search(r"@import|url\((?!#|[\"']?data:)", page)
    # Scripts are within the page, and only those that its policy names by their hash may run.
    assert all("src" not in tag for tag in re.findall(r"<script[^>]*>", page))
    assert re.search(r"script-src( &#39;sha256-| 'sha256-)", page)
    assert "script-src 'unsafe-inline'" not in html.unescape(page)

    numbers: dict[str, Any] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert numbers["verdict"]["headline"] in page
    assert numbers["verdict"] == json.loads((run / "evaluation.json").read_text(encoding="utf-8"))["verdict"]
    assert {one["name"] for one in numbers["backtests"]} == {"forecast_sign", "path_momentum"}
    for one in numbers["backtests"]:
        assert one["gross_annual_return"] - one["cost_annual"] == pytest.approx(one["net_annual_return"], abs=1e-12)
    assert load_config(run / "config.toml") == open_run(whole / "runs", run.name).config


@pytest.mark.usefixtures("undrawn")
def test_new_account_gets_its_own_backtests_and_the_report_shows_no_others(
    tmp_path: Path, qtrade: Program, tiny: Options
) -> None:
    options = (*tiny, "--set", "model=ridge", "--set", "baselines=[]", "--set", "features.set=minimal")
    assert qtrade(tmp_path, "fetch", *options).returncode == 0
    assert qtrade(tmp_path, "train", *options).returncode == 0
    assert qtrade(tmp_path, "backtest", "run").returncode == 0
    assert qtrade(tmp_path, "run", *options, "--set", "backtest.costs.fees_bps=50").returncode == 0
    run = only_run(tmp_path)
    assert len(list((run / "backtests").iterdir())) == 4
    numbers = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert len(numbers["backtests"]) == 2
    assert numbers["backtests"][0]["paid_cost_bps"] == pytest.approx(51, rel=0.01)

    assert qtrade(tmp_path, "backtest", run.name, "-s", "forecast_sign", "--set", "step=1").returncode == 0
    outcome = qtrade(tmp_path, "report", run.name)
    assert [line for line in outcome.stdout.splitlines() if line.strip() in ("step=1", "step=4")] != []
    assert len(json.loads((run / "metrics.json").read_text(encoding="utf-8"))["backtests"]) == 3


# --- variants ---


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("model", ["naive", "drift"])
def test_any_model_can_be_the_main_one(tmp_path: Path, qtrade: Program, tiny: Options, model: str) -> None:
    settings = (f"model={model}", "split.mode=rolling", "features.set=minimal")
    outcome = qtrade(tmp_path, "run", *tiny, *(part for one in settings for part in ("--set", one)))
    assert outcome.returncode == 0, outcome.stderr
    run = only_run(tmp_path)
    assert not (run / "baselines" / model).exists()
    folds = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["folds"]
    assert folds[1]["fit"][0] > folds[0]["fit"][0], "rolling drops the oldest origins"


@pytest.mark.usefixtures("unevaluated")
def test_symbols_are_pooled_and_replicates_differ(tmp_path: Path, qtrade: Program, tiny: Options) -> None:
    options = ("--symbols", "^GSPC", "^IXIC", *tiny, "--set", "replicates=2", "--set", "baselines=[]")
    assert qtrade(tmp_path, "fetch", *options).returncode == 0
    outcome = qtrade(tmp_path, "train", *options)
    assert outcome.returncode == 0, outcome.stderr
    run = only_run(tmp_path)
    assert qtrade(tmp_path, "backtest", run.name).returncode == 0
    table = pd.read_parquet(run / "forecasts.parquet")
    sizes = table.groupby(["symbol", "fold", "seed"]).size().unstack("fold")
    assert list(sizes.index) == [("^GSPC", 0), ("^GSPC", 1), ("^IXIC", 0), ("^IXIC", 1)]
    assert (sizes.nunique() == 1).all()
    one, two = (part.reset_index(drop=True) for _, part in table.groupby("seed"))
    pd.testing.assert_frame_equal(one[["symbol", "origin", "y_01"]], two[["symbol", "origin", "y_01"]])
    assert (one["y_hat_01"] != two["y_hat_01"]).all()
    weights = next(pd.read_parquet(path) for path in run.glob("backtests/forecast_sign-*/weights.parquet"))
    assert list(weights["decided"].columns) == ["^GSPC", "^IXIC"]


@pytest.mark.usefixtures("unevaluated")
def test_folds_fitted_side_by_side_give_the_same_forecasts(
    tmp_path: Path, whole: Path, qtrade: Program, tiny: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qtrade.pipeline.train._WORTH_A_PROCESS", 0)
    assert qtrade(tmp_path, "fetch", *tiny).returncode == 0
    outcome = qtrade(tmp_path, "train", *tiny, "--set", "train.workers=2")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stderr.count("train informer  fold ") == 2
    assert_identical(frames(only_run(tmp_path)), frames(only_run(whole)))


# --- stopping and going on ---


def stamps(run: Path) -> dict[str, int]:
    """Time of the last change of every file of the finished fits."""
    return {
        str(path.relative_to(run)): path.stat().st_mtime_ns
        for proof in run.rglob("history.json")
        for path in proof.parent.iterdir()
    }


def interrupt_at(patch: pytest.MonkeyPatch, where: str, call: int, error: BaseException) -> None:
    """Let a function fail at its n-th call."""
    module, name = where.rsplit(".", 1)
    original = getattr(import_module(module), name)
    calls = 0

    def failing(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        return original(*arguments, **named)

    patch.setattr(where, failing)


@pytest.mark.usefixtures("unevaluated")
@pytest.mark.parametrize(
    ("where", "call", "complete"),
    [
        ("qtrade.models.neural.fit_network", 2, 1),
        ("qtrade.runs.write_parquet", 4, 1),  # the second fit's residuals: model, scaler and forecasts are written
        ("qtrade.runs.write_json", 3, 1),  # the second fit's proof of completeness, after the manifest
        ("qtrade.pipeline.train.write_parquet", 2, 2),  # between the two files of all folds
    ],
)
def test_interrupted_training_goes_on_where_it_stopped(
    tmp_path: Path, whole: Path, qtrade: Program, tiny: Options, where: str, call: int, complete: int
) -> None:
    assert qtrade(tmp_path, "fetch", *tiny).returncode == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, where, call, KeyboardInterrupt())
        stopped = qtrade(tmp_path, "train", *tiny)
    assert stopped.returncode == 130
    again = shlex.join(["qtrade", "train", *tiny])
    assert stopped.stderr.endswith(f"interrupted; what is complete is kept, and this goes on from there:\n  {again}\n")
    assert "Traceback" not in stopped.stderr
    run = only_run(tmp_path)
    kept = stamps(run)
    assert len({Path(name).parent for name in kept}) == complete
    assert not (run / "forecasts.parquet").exists()

    resumed = qtrade(tmp_path, "train", *tiny)
    assert resumed.returncode == 0, resumed.stderr
    assert f"informer: {complete} of 2 fits are complete and kept" in resumed.stderr
    assert kept.items() <= stamps(run).items()
    assert_identical(frames(run), frames(only_run(whole)))
    assert not list(run.rglob("*.tmp"))


@pytest.mark.usefixtures("unevaluated")
@pytest.mark.parametrize("name", ["model.safetensors", "scaler.json", "forecasts.parquet", "history.json"])
def test_damaged_fold_is_trained_anew_and_no_other(tmp_path: Path, qtrade: Program, tiny: Options, name: str) -> None:
    options = ("train", *tiny, "--set", "model=ridge", "--set", "baselines=[]")
    assert qtrade(tmp_path, "fetch", *tiny).returncode == 0
    assert qtrade(tmp_path, *options).returncode == 0
    run = only_run(tmp_path)
    tables, before = frames(run), stamps(run)
    damaged = run / "folds" / "1" / "seed-0" / name
    damaged.write_bytes(damaged.read_bytes()[:-40])

    again = qtrade(tmp_path, *options)
    assert again.returncode == 0, again.stderr
    assert "ridge: 1 of 2 fits are complete and kept" in again.stderr
    assert "naive: 2 of 2 fits are complete and kept" in again.stderr
    after = stamps(run)
    changed = {file for file in before if before[file] != after[file]}
    assert {Path(file).parent for file in changed} == {Path("folds/1/seed-0")}
    assert_identical(frames(run), tables)


def test_weights_that_run_away_are_an_error_that_names_the_fold(tmp_path: Path, qtrade: Program, tiny: Options) -> None:
    assert qtrade(tmp_path, "fetch", *tiny).returncode == 0
    outcome = qtrade(tmp_path, "train", *tiny, "--set", "train.learning_rate=1e30", "--set", "train.epochs=2")
    assert outcome.returncode == 1
    assert "error: informer, fold 1, seed 0: the loss became nan in epoch 1" in outcome.stderr
    assert "fix: set a smaller train.learning_rate" in outcome.stderr
    run = only_run(tmp_path)
    assert not list(run.rglob("history.json"))
    assert qtrade(tmp_path, "report", run.name).returncode == 3


def test_failure_of_a_later_fold_leaves_the_earlier_ones(tmp_path: Path, qtrade: Program, tiny: Options) -> None:
    assert qtrade(tmp_path, "fetch", *tiny).returncode == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, "qtrade.models.neural.fit_network", 2, TrainingError("the loss became nan in epoch 1"))
        outcome = qtrade(tmp_path, "train", *tiny)
    assert outcome.returncode == 1
    assert "informer, fold 2, seed 0: the loss became nan" in outcome.stderr
    assert [path.parts[-3] for path in only_run(tmp_path).rglob("history.json")] == ["0"]


def test_tables_of_the_calendar_get_whole_numbers(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for kind, whole in (("timeF", False), ("learned", True)):
        config = load_config(None, [f"informer.embedding={kind}"])
        fetch(config.data, cache=cache, progress=Silent())
        market = prepare(config, cache)
        for marks in (market.marks, market.future_marks):
            assert bool((marks == np.round(marks)).all()) == whole
            assert (np.abs(marks).max() <= 0.5) != whole


def test_the_report_tells_the_size_of_the_model_the_trials_and_the_positions(whole: Path) -> None:
    page = (only_run(whole) / "report.html").read_text(encoding="utf-8")
    words = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "informer (preset small: width 8, heads 2, encoder layers 1, decoder layers 1; it reads 16 bars)" in words
    assert "Trials 2 on this market so far" in words
    assert "Positions that gained" in words

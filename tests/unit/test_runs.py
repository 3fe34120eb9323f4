"""A run's folder is found, checked and written so that a half-written part is never taken for a whole one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qtrade.config import RunConfig, load_config
from qtrade.errors import DataError, UsageError
from qtrade.features.scaler import Scaler
from qtrade.files import write_json
from qtrade.forecasts import Forecasts
from qtrade.models.base import Epoch, History, Shape
from qtrade.models.baselines import Naive
from qtrade.models.settings import NoSettings
from qtrade.runs import (
    FOLD_FILES,
    Run,
    check_run,
    fold_is_complete,
    forecast_frame,
    list_runs,
    open_run,
    read_forecasts,
    read_history,
    residual_frame,
    save_config,
    save_fold,
    start_run,
)
from qtrade.types import BAR_FIELDS, Bars, Float64Array
from qtrade.windows import WindowConfig

CLOSE = pd.DataFrame({"^A": [10.0, 10.1, 9.3]}, index=pd.date_range("2024-01-01", periods=3, tz="UTC"))
BARS = Bars(CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, interval="1d", calendar="24/7", periods_per_year=365.0)
FACTS = {"data": BARS.fingerprint(), "device": "cpu", "qtrade": "0"}
DESCRIPTION = {
    "data": {"interval": "1d", "calendar": "24/7", "periods_per_year": 365.0},
    "folds": [],
    "notes": [],
}
HISTORY = History((Epoch(1, 1.0, 2.0, 1e-4, 0.5), Epoch(2, 0.9, 2.5, 5e-5, 0.5)), 1, 2.0)


VALIDATED = pd.date_range("2019-12-20", periods=5, tz="UTC")


def example() -> tuple[Forecasts, Float64Array]:
    """Two origins of two symbols with two seeds, three steps ahead; the last outcome is not known yet."""
    generator = np.random.default_rng(0)
    origin = pd.DatetimeIndex(["2020-01-02", "2020-01-03"], tz="UTC").repeat(4)
    symbol = np.tile(np.array(["A", "B"], dtype=object), 4)
    seed = np.tile(np.array([0, 0, 1, 1]), 2)
    banks = {(7, one, name): generator.normal(size=(5, 3)) for one in (0, 1) for name in ("A", "B")}
    forecasts = Forecasts(
        path=generator.normal(size=(8, 3)),
        symbol=symbol,
        origin=origin,
        fold=np.full(8, 7),
        seed=seed,
        train_end=pd.DatetimeIndex(["2020-01-02"], tz="UTC").repeat(8),
        residuals=banks,
    )
    actual = generator.normal(size=(8, 3))
    actual[-1, -1] = np.nan
    return forecasts, actual


def save_example_fold(folder: Path) -> None:
    scaler = Scaler(("A",), ("x",), np.zeros((1, 1)), np.ones((1, 1)), np.zeros(1), np.ones(1), (("A", "x"),), 3)
    model = Naive(Shape(1, 1, WindowConfig(seq_len=2, label_len=1, horizon=3)), NoSettings())
    forecasts, actual = example()
    save_fold(folder, model, scaler, HISTORY, forecast_frame(forecasts, actual), pd.DataFrame({"r_01": [0.0]}))


def make_run(runs: Path, *overrides: str) -> Run:
    return start_run(runs, load_config(None, overrides), BARS, FACTS, DESCRIPTION)


# --- finding and starting ---


def test_a_run_is_found_by_path_name_and_beginning(tmp_path: Path) -> None:
    run, other = make_run(tmp_path), make_run(tmp_path, "name=walk")
    assert [one.name for one in list_runs(tmp_path)] == sorted([run.name, other.name])
    for name in (str(run.folder), run.name, "run", "r"):
        assert open_run(tmp_path, name) == run


def test_what_is_not_a_run_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no run 'run' in .*\n  fix: make one with `qtrade run`"):
        open_run(tmp_path, "run")
    run = make_run(tmp_path)
    make_run(tmp_path, "seed=1")
    (tmp_path / "notes").mkdir()
    assert len(list_runs(tmp_path)) == 2
    with pytest.raises(UsageError, match="'run' is the beginning of several runs"):
        open_run(tmp_path, "run")
    with pytest.raises(UsageError, match=f"did you mean '{run.name}'"):
        open_run(tmp_path, run.name[:-1] + "_")


def test_same_configuration_returns_to_its_folder_and_another_does_not(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert make_run(tmp_path) == run
    assert make_run(tmp_path, "backtest.cash=5", "strategies={}") == run, "forecasts do not depend on the account"
    assert run.config == RunConfig(), "returning to a run changes nothing in it"
    save_config(run, load_config(None, ["backtest.cash=5"]))
    assert run.config.backtest.cash == 5
    check_run(run)
    for override in ("seed=1", "train.epochs=1", "data.symbols=['^IXIC']", "features.set=minimal", "split.step=9"):
        assert make_run(tmp_path, override) != run
    assert start_run(tmp_path, RunConfig(), BARS, {**FACTS, "data": "abd"}, DESCRIPTION) != run


def test_folder_of_another_run_is_left_alone(tmp_path: Path) -> None:
    run, other = make_run(tmp_path), make_run(tmp_path, "seed=1")
    (other.folder / "config.toml").replace(run.folder / "config.toml")
    (other.folder / "manifest.json").replace(run.folder / "manifest.json")
    before = (run.folder / "manifest.json").read_bytes()
    with pytest.raises(UsageError, match="belongs to another run"):
        make_run(tmp_path)
    assert (run.folder / "manifest.json").read_bytes() == before


def test_edit_of_what_decides_the_forecasts_is_noticed(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    check_run(run)
    path = run.folder / "config.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("cash = 100000.0", "cash = 1.0"), encoding="utf-8")
    check_run(run)
    path.write_text(text.replace("seed = 0", "seed = 3"), encoding="utf-8")
    with pytest.raises(UsageError, match="holds another configuration"):
        check_run(run)


# --- folds ---


def test_a_saved_fold_is_complete_and_tells_its_history(tmp_path: Path) -> None:
    save_example_fold(tmp_path)
    assert fold_is_complete(tmp_path)
    assert read_history(tmp_path) == (HISTORY, ["A x"])


@pytest.mark.parametrize("name", [*FOLD_FILES, "history.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "altered"])
def test_a_fold_with_a_damaged_file_is_not_complete(tmp_path: Path, name: str, damage: str) -> None:
    save_example_fold(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "altered":
        path.write_bytes(b"[]" if name == "history.json" else content[:-1] + b"?")
    assert not fold_is_complete(tmp_path)


def test_a_fold_written_over_is_incomplete_until_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_example_fold(tmp_path)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Scaler, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        save_example_fold(tmp_path)
    assert not (tmp_path / "history.json").exists()
    assert not fold_is_complete(tmp_path)


# --- forecasts ---


def test_forecasts_read_back_to_the_last_bit(tmp_path: Path) -> None:
    forecasts, actual = example()
    residuals = [
        residual_frame(fold, seed, np.array([symbol] * 5, dtype=object), VALIDATED, bank)
        for (fold, seed, symbol), bank in forecasts.residuals.items()
    ]
    run = make_run(tmp_path)
    forecast_frame(forecasts, actual).to_parquet(run.folder / "forecasts.parquet")
    pd.concat(residuals).to_parquet(run.folder / "residuals.parquet")
    read, read_actual = run.forecasts("informer")
    for name in ("path", "symbol", "fold", "seed"):
        np.testing.assert_array_equal(getattr(read, name), getattr(forecasts, name))
    assert read.origin.equals(forecasts.origin)
    assert read.train_end.equals(forecasts.train_end)
    assert read.residuals.keys() == forecasts.residuals.keys()
    for key, bank in forecasts.residuals.items():
        np.testing.assert_array_equal(read.residuals[key], bank)
        assert read.validated[key].equals(VALIDATED)
    assert read.delay == 0
    np.testing.assert_array_equal(read_actual, actual)


def test_forecasts_of_a_run_start_as_late_as_its_labels(tmp_path: Path) -> None:
    forecasts, actual = example()
    run = make_run(tmp_path, "split.delay=2")
    forecast_frame(forecasts, actual).to_parquet(run.folder / "forecasts.parquet")
    residual_frame(7, 0, "A", VALIDATED, np.zeros((5, 3))).to_parquet(run.folder / "residuals.parquet")
    assert run.forecasts("informer")[0].delay == 2


def test_columns_are_named_by_step() -> None:
    forecasts, actual = example()
    table = forecast_frame(forecasts, actual)
    keys = ["symbol", "origin", "fold", "seed", "train_end"]
    assert list(table) == [*keys, "y_hat_01", "y_hat_02", "y_hat_03", "y_01", "y_02", "y_03"]
    read_forecasts(table, pd.DataFrame({"fold": [], "seed": [], "symbol": [], "r_01": [], "r_02": [], "r_03": []}))


def test_forecasts_that_are_not_there_or_lack_a_column_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(DataError, match="holds no forecasts of 'ridge'"):
        run.forecasts("ridge")
    forecasts, actual = example()
    forecast_frame(forecasts, actual).drop(columns="train_end").to_parquet(run.folder / "forecasts.parquet")
    pd.DataFrame({"fold": [0], "seed": [0], "symbol": ["A"], "r_01": 0.0, "r_02": 0.0, "r_03": 0.0}).to_parquet(
        run.folder / "residuals.parquet"
    )
    with pytest.raises(DataError, match="not what training writes\n  why: 'train_end'"):
        run.forecasts("informer")
    whole = forecast_frame(forecasts, actual)
    for wrong, why in (
        (whole.iloc[:0], "no rows"),
        (pd.concat([whole, whole]), "rows repeat"),
        (whole.assign(y_hat_01="text"), "could not convert"),
    ):
        wrong.to_parquet(run.folder / "forecasts.parquet")
        with pytest.raises(DataError, match=why) as caught:
            run.forecasts("informer")
        assert caught.value.exit_code == 3


def test_bars_stay_with_the_run_and_an_altered_file_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert run.bars.fingerprint() == BARS.fingerprint()
    assert run.bars.symbols == ("^A",)
    path = run.folder / "bars.parquet"
    other = CLOSE * 1.1
    pd.concat(dict.fromkeys(BAR_FIELDS, other), axis=1).to_parquet(path)
    with pytest.raises(DataError, match="does not hold the bars of this run"):
        _ = run.bars
    CLOSE.to_parquet(path)
    with pytest.raises(DataError, match="cannot be used"):
        _ = run.bars
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read"):
        _ = run.bars


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"epochs": [{"a": 1}], "best_epoch": 1, "valid_loss": 1, "constant": []}']
)
def test_a_history_that_no_fit_wrote_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "history.json").write_text(text)
    with pytest.raises(DataError, match="is not what a fit writes"):
        read_history(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"facts": 3}', '{"notes": []}'])
def test_a_manifest_that_no_run_wrote_is_refused(tmp_path: Path, text: str) -> None:
    run = make_run(tmp_path)
    (run.folder / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json lacks"):
        check_run(run)


def test_a_manifest_of_a_later_schema_is_refused_with_the_version_that_wrote_it(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_json(run.folder / "manifest.json", {**run.manifest, "schema": 2, "versions": {"qtrade": "9.9"}})
    with pytest.raises(DataError, match="has schema 2, which this qtrade does not know") as caught:
        _ = run.manifest
    assert caught.value.why.startswith("it was written by qtrade 9.9; this is ")
    assert "update qtrade" in caught.value.fix


@pytest.mark.parametrize("schema", [None, True, "1", 0, 1.0])
def test_a_schema_that_there_never_was_is_refused(tmp_path: Path, schema: object) -> None:
    run = make_run(tmp_path)
    write_json(run.folder / "manifest.json", {**run.manifest, "schema": schema})
    with pytest.raises(DataError, match="lacks a schema of 1"):
        _ = run.manifest


def test_a_command_about_a_run_finds_it_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    usual, other = make_run(Path("runs")), make_run(Path("my runs"))
    assert usual.command("evaluate") == f"qtrade evaluate {usual.name}"
    assert Run(usual.folder.resolve()).command("evaluate") == f"qtrade evaluate {usual.name}"
    assert other.command("backtest", "-s", "a b") == f"qtrade backtest {other.name} -s 'a b' --runs 'my runs'"
    assert other.train_command() == f"qtrade train --config 'my runs/{other.name}/config.toml' --runs 'my runs'"
    (other.folder / "bars.parquet").unlink()
    with pytest.raises(DataError) as caught:
        _ = other.bars
    assert other.train_command() in caught.value.fix


def test_baselines_have_folders_of_their_own(tmp_path: Path) -> None:
    run = make_run(tmp_path, "model=ridge")
    assert run.model_folder("ridge") == run.folder
    assert run.fold_folder("drift", 3, 1) == run.folder / "baselines" / "drift" / "folds" / "3" / "seed-1"

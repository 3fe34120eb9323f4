"""Asking a trained run what comes next."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from qtrade.data.cache import Cache
from qtrade.errors import DataError, UsageError
from qtrade.pipeline import evaluate
from qtrade.pipeline.forecast import forecast_run
from qtrade.progress import Silent
from qtrade.runs import Run, open_run

Program = Callable[..., CompletedProcess[str]]
Options = tuple[str, ...]

KEYS = ["symbol", "origin", "fold", "seed"]


def train(folder: Path, qtrade: Program, *options: str) -> Run:
    assert qtrade(folder, "fetch", "^GSPC", "^IXIC").returncode == 0
    outcome = qtrade(folder, "train", "^GSPC", "^IXIC", *options)
    assert outcome.returncode == 0, outcome.stderr
    return open_run(folder / "runs", "run")


def copied(trained: SimpleNamespace, folder: Path) -> Run:
    """The same run in another folder, to be changed."""
    shutil.copytree(trained.run.folder, folder / "runs" / trained.run.name)
    return open_run(folder / "runs", "run")


def judge(run: Run, headline: str, line: str, half_life: float | None = None) -> None:
    told = {
        "verdict": {"headline": headline, "line": line},
        "stability": {"staleness": {"half_life_bars": half_life}},
    }
    (run.folder / "evaluation.json").write_text(json.dumps(told), encoding="utf-8")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, qtrade: Program, tiny: Options) -> SimpleNamespace:
    """Two symbols, several folds, two replicates; only to be asked."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "evaluate_run", lambda run, *, progress: None)
        run = train(folder, qtrade, *tiny, "--set", "replicates=2", "--set", "split.step=400")
    return SimpleNamespace(folder=folder, run=run)


def test_the_latest_path_starts_at_the_next_session(trained: SimpleNamespace, qtrade: Program) -> None:
    outcome = qtrade(trained.folder, "forecast", "run", "--json")
    assert outcome.returncode == 0, outcome.stderr
    rows = pd.DataFrame(json.loads(outcome.stdout)["path"])
    assert list(rows["symbol"].unique()) == ["^GSPC", "^IXIC"]
    assert list(rows["step"]) == [1, 2, 3, 4] * 2
    assert rows["time"].iloc[0].startswith("2019-01-02"), "the bars end on 31 December, and New Year is a holiday"
    assert ((rows["low80"] < rows["price"]) & (rows["price"] < rows["high80"])).all()
    nested = rows[["low95", "low80", "low50", "high50", "high80", "high95"]].to_numpy()
    assert (np.diff(nested, axis=1) >= 0).all()
    close = trained.run.bars.close.iloc[-1]
    np.testing.assert_allclose(rows["price"], close.repeat(4).to_numpy() * (1 + rows["return"]), rtol=1e-6)


def test_since_a_date_it_repeats_what_the_run_has_forecast(trained: SimpleNamespace) -> None:
    made = forecast_run(trained.run, progress=Silent(), since="2012-01-01")
    (path,) = (file for file in made.files if file.suffix == ".parquet")
    again = pd.read_parquet(path).set_index(KEYS)
    known = pd.read_parquet(trained.run.model_folder("informer") / "forecasts.parquet").set_index(KEYS)
    shared = known.index.intersection(again.index)
    assert len(shared) > 0.9 * len(known)
    assert known.index.get_level_values("fold").nunique() == again.index.get_level_values("fold").nunique() > 1
    pd.testing.assert_frame_equal(known.loc[shared], again.loc[shared], check_exact=True)
    origins = again.reset_index()
    assert (origins["train_end"] <= origins["origin"]).all()


def test_what_comes_after_an_origin_does_not_change_its_forecast(trained: SimpleNamespace) -> None:
    whole = forecast_run(trained.run, progress=Silent(), since="2018-01-01").forecasts
    cut = trained.run.bars.rows(0, len(trained.run.bars) - 37)
    short = forecast_run(trained.run, progress=Silent(), since="2018-01-01", bars=cut).forecasts
    kept = np.asarray(whole.origin <= cut.index[-1])
    np.testing.assert_array_equal(whole.path[kept], short.path)


def test_attention_is_drawn_per_symbol_and_layer(trained: SimpleNamespace, qtrade: Program) -> None:
    outcome = qtrade(trained.folder, "forecast", "run", "--attention")
    assert outcome.returncode == 0, outcome.stderr
    pictures = [Path(line) for line in outcome.stdout.splitlines() if line.endswith(".png")]
    assert [path.name for path in pictures] == [
        "path-2018-12-31.png",
        "attention-2018-12-31-1-GSPC-encoder-layer-1.png",
        "attention-2018-12-31-2-IXIC-encoder-layer-1.png",
    ]
    assert all((trained.folder / path).read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_intervals_hold_as_many_validation_errors_as_they_say(trained: SimpleNamespace) -> None:
    made = forecast_run(trained.run, progress=Silent())
    last = made.forecasts.seed_mean()
    (bank,) = (bank for key, bank in last.residuals.items() if key == (int(last.fold[0]), -1, "^GSPC"))
    errors = np.cumsum(bank, axis=1)
    rows = made.path[made.path["symbol"] == "^GSPC"]
    start = trained.run.bars.close["^GSPC"].iloc[-1]
    for level in (50, 80, 95):
        low, high = (np.log(rows[f"{end}{level}"].to_numpy() / start) for end in ("low", "high"))
        moves = np.log(rows["price"].to_numpy() / start) + errors
        held = ((low <= moves) & (moves <= high)).mean()
        assert held == pytest.approx(level / 100, abs=0.02)


def test_every_forecast_stands_below_the_verdict_of_its_run(
    trained: SimpleNamespace, qtrade: Program, tmp_path: Path
) -> None:
    told = qtrade(trained.folder, "forecast", "run")
    assert told.stdout.startswith("NOT EVALUATED\n")
    assert f"qtrade evaluate {trained.run.name}" in " ".join(told.stdout.split())
    assert "which end at 2018-12-31" in " ".join(told.stdout.split())
    assert "2019-01-02" in told.stdout
    assert "│" not in told.stdout, "what is piped holds no picture"
    run = copied(trained, tmp_path)
    judge(run, "FAIL", "These forecasts <b>lose</b> to a naive one.")
    answer = json.loads(qtrade(tmp_path, "forecast", "run", "--json").stdout)
    assert answer["verdict"] == {"headline": "FAIL", "line": "These forecasts <b>lose</b> to a naive one."}
    assert answer["run"] == run.name
    assert answer["bars"]["of"] == "the run"
    assert answer["files"][0].endswith("path-2018-12-31.png")
    assert qtrade(tmp_path, "forecast", "run").stdout.startswith("FAIL\nThese forecasts <b>lose</b>")
    judge(run, "INVALID", "A feature used the future.")
    outcome = qtrade(tmp_path, "forecast", "run")
    assert outcome.returncode == 4
    assert "is INVALID" in outcome.stderr
    assert not outcome.stdout
    (run.folder / "evaluation.json").write_text("[1, 2", encoding="utf-8")
    outcome = qtrade(tmp_path, "forecast", "run")
    assert outcome.returncode == 3
    assert "evaluate it again" in outcome.stderr


def test_a_terminal_gets_a_picture_that_fits(
    trained: SimpleNamespace, qtrade: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setattr("qtrade.cli_forecast.out", Console(force_terminal=True, no_color=True, width=70))
    outcome = qtrade(trained.folder, "forecast", "run")
    assert outcome.returncode == 0, outcome.stderr
    drawn = [line for line in outcome.stdout.splitlines() if "│" in line]
    assert len(drawn) == 2 * 14
    assert max(map(len, (re.sub(r"\x1b\[[0-9;]*m", "", line) for line in drawn))) <= 70
    assert any("░" in line for line in drawn)


def test_old_models_strange_bars_and_other_markets_are_warned_of(trained: SimpleNamespace, tmp_path: Path) -> None:
    run = copied(trained, tmp_path)
    judge(run, "PASS", "Fine.")
    made = forecast_run(run, progress=Silent())
    assert not any("knows nothing after" in one for one in made.warnings)
    assert any("^IXIC moves" in one and "too narrow" in one for one in made.warnings), "2018 ended wilder than it was"
    judge(run, "PASS", "Fine.", half_life=30.0)
    (warning,) = (one for one in forecast_run(run, progress=Silent()).warnings if "knows nothing after" in one)
    assert f"it is {made.standing.age_bars} bars old, and half of the edge was gone after 30" in warning
    manifest = json.loads((run.folder / "manifest.json").read_text(encoding="utf-8"))
    for fold in manifest["folds"]:
        fold["test_origins"] = 20
    (run.folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    judge(run, "PASS", "Fine.")
    (warning,) = (one for one in forecast_run(run, progress=Silent()).warnings if "knows nothing after" in one)
    assert "the verdict is about models of up to 20" in warning
    bars = run.bars
    jump = {name: getattr(bars, name).copy() for name in ("open", "high", "low", "close")}
    for frame in jump.values():
        frame.iloc[-1] *= 3.0
    strange = forecast_run(run, progress=Silent(), bars=replace(bars, **jump))
    (warning,) = (one for one in strange.warnings if "beyond any that it learned from" in one)
    assert "^GSPC " in warning
    assert strange.origin == "the caller"
    assert "After the bars given" in strange.whence


def test_the_latest_forecast_refuses_bars_that_newer_ones_should_follow(
    trained: SimpleNamespace, qtrade: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 1 January is a holiday, and the session of the 2nd ends at 21:00 UTC; half an hour later its bar is asked for.
    cache = Cache(trained.folder / "data_cache")
    evening = pd.Timestamp("2019-01-02 21:29", tz="UTC")
    made = forecast_run(trained.run, progress=Silent(), latest=cache, now=evening)
    assert made.freshness.missing == 0
    assert made.whence == "After the newest bars in the cache, which end at 2018-12-31, 2 days ago."
    own = forecast_run(trained.run, progress=Silent(), now=evening)
    pd.testing.assert_frame_equal(made.path, own.path)
    with pytest.raises(DataError) as caught:
        forecast_run(trained.run, progress=Silent(), latest=cache, now=evening + pd.Timedelta(minutes=1))
    told = str(caught.value)
    for part in ("newest bar in the cache is of 2018-12-31", "it is 2019-01-02 21:30 UTC now", "and 1 bar of 1d has"):
        assert part in told
    assert "the embedded sample ends in 2018" in told
    monkeypatch.setattr("qtrade.pipeline.forecast.utc_now", lambda: evening)
    outcome = qtrade(trained.folder, "forecast", "run", "--latest", "--json")
    assert outcome.returncode == 0, outcome.stderr
    assert json.loads(outcome.stdout)["bars"]["of"] == "the cache"
    monkeypatch.undo()
    outcome = qtrade(trained.folder, "forecast", "run", "--latest")
    assert outcome.returncode == 3
    assert "too old to forecast from" in outcome.stderr
    assert not outcome.stdout
    outcome = qtrade(trained.folder, "forecast", "run", "--latest", "--cache", "elsewhere")
    assert outcome.returncode == 3
    assert "has no 1d bars" in outcome.stderr


def test_a_bar_that_is_not_complete_is_told(trained: SimpleNamespace) -> None:
    noon = pd.Timestamp("2018-12-31 12:00", tz="UTC")
    made = forecast_run(trained.run, progress=Silent(), now=noon)
    assert any("not complete before 2018-12-31 21:00 UTC" in one for one in made.warnings)


def test_the_picture_goes_where_it_is_asked_for(trained: SimpleNamespace, qtrade: Program, tmp_path: Path) -> None:
    outcome = qtrade(trained.folder, "forecast", "run", "--out", str(tmp_path / "next.svg"))
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.splitlines()[-2] == str(tmp_path / "next.svg")
    assert "<svg" in (tmp_path / "next.svg").read_text(encoding="utf-8")
    outcome = qtrade(trained.folder, "forecast", "run", "--out", str(tmp_path / "next.gif"))
    assert outcome.returncode == 2
    assert "cannot draw 'next.gif'" in outcome.stderr


def test_what_cannot_be_forecast_is_told(trained: SimpleNamespace, qtrade: Program) -> None:
    for since, told in (
        ("2030-01-01", "there is no bar to forecast from"),
        ("soon", "'soon' is not a date"),
        ("", "'' is not a date"),
    ):
        outcome = qtrade(trained.folder, "forecast", "run", "--since", since)
        assert outcome.returncode == 2
        assert told in outcome.stderr
    one = trained.run.bars
    alone = type(one)(
        **{name: getattr(one, name)[["^GSPC"]] for name in ("open", "high", "low", "close", "volume")},
        interval=one.interval,
        calendar=one.calendar,
        periods_per_year=one.periods_per_year,
    )
    with pytest.raises(DataError, match="other symbols or features"):
        forecast_run(trained.run, progress=Silent(), bars=alone)


@pytest.mark.parametrize(
    "options",
    [
        ("--features", "S"),
        ("--features", "M"),
        ("--target", "log_close"),
        ("--features", "S", "--target", "log_close"),
        ("--target", "scaled_return", "--set", "features.cross=['^IXIC']"),
        ("--features", "M", "--target", "scaled_return"),
        ("--attention-keys", "all", "--set", "informer.stack=[2,1]", "--set", "informer.attention=full"),
    ],
    ids=" ".join,
)
def test_every_mode_and_target_trains_and_forecasts(
    tmp_path: Path, qtrade: Program, tiny: Options, options: Options
) -> None:
    settings = ("features.set=minimal", "split.step=300", "baselines=[]")
    small = ("--start", "2015-06-01", *(part for one in settings for part in ("--set", one)))
    run = train(tmp_path, qtrade, *tiny, *small, *options)
    assert len(run.manifest["folds"]) == 2
    forecasts, actual = run.forecasts("informer")
    assert np.isfinite(forecasts.path).all()
    # Levels are told apart from returns: a path of returns is of the size of what happened.
    assert np.abs(forecasts.path).max() < 1.0
    np.testing.assert_allclose(
        actual[np.isfinite(actual)].std(), 0.01, rtol=0.5, err_msg="what happened is in log returns whatever the target"
    )
    outcome = qtrade(tmp_path, "forecast", "run", "--attention", "--json")
    assert outcome.returncode == 0, outcome.stderr
    price = pd.DataFrame(json.loads(outcome.stdout)["path"])["price"]
    assert (price > 0).all()


@pytest.mark.usefixtures("unevaluated")
def test_a_model_without_attention_says_so(tmp_path: Path, qtrade: Program, tiny: Options) -> None:
    run = train(tmp_path, qtrade, *tiny, "--set", "model='ridge'", "--set", "baselines=[]")
    assert len(forecast_run(run, progress=Silent()).path) == 8
    with pytest.raises(UsageError, match="'ridge' has no attention"):
        forecast_run(run, progress=Silent(), attention=True)

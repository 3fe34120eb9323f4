"""Asking a trained run what comes next."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

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
    rows = pd.DataFrame(json.loads(outcome.stdout))
    assert list(rows["symbol"].unique()) == ["^GSPC", "^IXIC"]
    assert list(rows["step"]) == [1, 2, 3, 4] * 2
    assert rows["time"].iloc[0].startswith("2019-01-02"), "the bars end on 31 December, and New Year is a holiday"
    assert ((rows["low"] < rows["price"]) & (rows["price"] < rows["high"])).all()
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
        "attention-2018-12-31-1-GSPC-encoder-layer-1.png",
        "attention-2018-12-31-2-IXIC-encoder-layer-1.png",
    ]
    assert all((trained.folder / path).read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_fresh_bars_are_those_of_the_cache(trained: SimpleNamespace, qtrade: Program) -> None:
    own, fresh = (qtrade(trained.folder, "forecast", "run", "--json", *more) for more in ((), ("--fresh",)))
    assert fresh.returncode == 0, fresh.stderr
    assert own.stdout == fresh.stdout
    outcome = qtrade(trained.folder, "forecast", "run", "--fresh", "--cache", "elsewhere")
    assert outcome.returncode == 3
    assert "has no 1d bars" in outcome.stderr


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
    price = pd.DataFrame(json.loads(outcome.stdout))["price"]
    assert (price > 0).all()


@pytest.mark.usefixtures("unevaluated")
def test_a_model_without_attention_says_so(tmp_path: Path, qtrade: Program, tiny: Options) -> None:
    run = train(tmp_path, qtrade, *tiny, "--set", "model='ridge'", "--set", "baselines=[]")
    assert len(forecast_run(run, progress=Silent()).path) == 8
    with pytest.raises(UsageError, match="'ridge' has no attention"):
        forecast_run(run, progress=Silent(), attention=True)

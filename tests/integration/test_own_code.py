"""Runs whose features and target come from files of the user's."""

from __future__ import annotations

import json
import pickle
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qtrade.config import load_config
from qtrade.data.cache import Cache
from qtrade.data.sample import Sample
from qtrade.errors import IntegrityError, UsageError
from qtrade.pipeline.forecast import forecast_run
from qtrade.pipeline.market import Market, prepare
from qtrade.pipeline.train import train_run
from qtrade.progress import Silent
from qtrade.runs import Run

FEATURES = """\
WARMUP = 10


def features(bars):
    spread = bars.close.iloc[:, 0] / bars.close.iloc[:, 1]
    score = (spread - spread.rolling(10).mean()) / spread
    return {"spread": bars.close * 0 + score.to_numpy()[:, None]}
"""
TARGET = """\
import numpy as np


def target(bars):
    return np.log(bars.close / bars.close.shift(1)).rolling(2).sum()


def log_returns(path, known):
    return path / 2
"""
SETTINGS = (
    "data.symbols=['^GSPC', '^IXIC']",
    "data.start='2014-01-01'",
    "data.end='2016-01-01'",
    "features.set=minimal",
    "features.module='mine/features.py'",
    "window.seq_len=16",
    "window.label_len=8",
    "window.horizon=4",
    "split.train_size=200",
    "split.valid_size=60",
    "split.step=120",
    "train.epochs=1",
    "train.batch_size=100",
    "informer.d_model=8",
    "informer.n_heads=2",
    "informer.d_ff=16",
    "informer.e_layers=1",
    "baselines=[]",
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a cache and the two files, in which everything happens."""
    cache = Cache(tmp_path / "data_cache")
    for symbol in ("^GSPC", "^IXIC"):
        cache.write(Sample().fetch(symbol, interval="1d", start=None, end=None))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "features.py").write_text(FEATURES)
    (tmp_path / "mine" / "target.py").write_text(TARGET)
    return tmp_path


def train(place: Path, *settings: str) -> Run:
    config = load_config(None, [*SETTINGS, *settings])
    with chdir(place):
        return train_run(config, runs=place / "runs", cache=Cache(place / "data_cache"), progress=Silent())


def test_a_run_on_own_features_and_target_forecasts_what_it_stored(place: Path) -> None:
    run = train(place, "features.target='mine/target.py'")
    names = run.manifest["features"]["names"]
    assert names[-2:] == ["spread", "target.py"]
    assert run.manifest["features"]["target"] == "mine/target.py"
    assert any("The target comes from target.py" in note for note in run.manifest["notes"])
    with chdir(place):
        again = forecast_run(run, progress=Silent(), since="2015-01-01").forecasts
    stored, actual = run.forecasts("informer")
    keys = [pd.MultiIndex.from_arrays([one.symbol, one.origin, one.fold]) for one in (stored, again)]
    shared = keys[1].get_indexer(keys[0])
    assert (shared >= 0).mean() > 0.9
    np.testing.assert_array_equal(again.path[shared[shared >= 0]], stored.path[shared >= 0])
    # What happened is in log returns whatever the target: their own standard deviation, not that of two bars.
    assert 0.005 < np.nanstd(actual) < 0.015


def test_another_content_is_another_run(place: Path) -> None:
    first = train(place)
    assert train(place).folder == first.folder
    facts = first.manifest["facts"]
    path = place / "mine" / "features.py"
    path.write_text(FEATURES.replace("/ spread\n", "/ spread * 2\n"))
    second = train(place)
    assert second.folder != first.folder
    assert second.manifest["facts"] | {"features.module": ""} == facts | {"features.module": ""}
    with chdir(place):
        assert len(forecast_run(second, progress=Silent()).path) == 8
        with pytest.raises(UsageError, match=r"mine/features\.py is not what it was when run-.* was trained") as caught:
            forecast_run(first, progress=Silent())
        assert caught.value.exit_code == 2
        path.unlink()
        with pytest.raises(UsageError, match=r"cannot read mine/features\.py"):
            forecast_run(second, progress=Silent())
    with pytest.raises(UsageError, match=r"cannot read mine/features\.py"):
        train(place)


def test_a_file_that_sees_ahead_is_not_trained(place: Path) -> None:
    path = place / "mine" / "features.py"
    path.write_text("def features(bars):\n    return {'tomorrow': bars.close.shift(-1) / bars.close}\n")
    with pytest.raises(IntegrityError, match=r"feature 'tomorrow' of mine/features\.py: its value for \^") as caught:
        train(place)
    assert caught.value.exit_code == 4
    assert not (place / "runs").exists()


def test_a_market_with_the_users_target_can_be_sent_to_a_worker(place: Path) -> None:
    config = load_config(None, [*SETTINGS, "features.target='mine/target.py'"])
    with chdir(place):
        market = prepare(config, Cache(place / "data_cache"))
    sent: Market = pickle.loads(pickle.dumps(market))  # noqa: S301
    (place / "mine" / "target.py").unlink()
    path = np.array([[0.5, 0.25]])
    back = sent.target_of("informer").as_returns(path, np.array([30]), np.array([1]))
    np.testing.assert_array_equal(back, path / 2)
    np.testing.assert_array_equal(sent.target_of("ridge").as_returns(path, np.array([30]), np.array([1])), path)


def test_levels_come_with_a_warning_and_returns_without(place: Path) -> None:
    cache = Cache(place / "data_cache")
    with chdir(place):
        for target, warned in (("log_close", True), ("scaled_return", False)):
            market = prepare(load_config(None, [*SETTINGS, f"features.target={target}"]), cache)
            assert any("a high R2 on levels says nothing" in note for note in market.notes) == warned


def test_forecasts_in_units_of_volatility_are_stored_as_log_returns(place: Path) -> None:
    run = train(place, "features.target=scaled_return", "train.learning_rate=0.01")
    forecasts, actual = run.forecasts("informer")
    assert np.abs(forecasts.path).max() < 0.2, "log returns of daily bars, not multiples of their volatility"
    assert np.abs(forecasts.path).max() > 1e-5
    residuals = np.concatenate(list(forecasts.residuals.values()))
    assert residuals.std() == pytest.approx(np.nanstd(actual), rel=0.5)
    history = json.loads((run.fold_folder("informer", 0, 0) / "history.json").read_text())
    assert 0.3 < history["valid_loss"] < 5, "labels of unit size"

"""Whatever happens after a bar, nothing that was forecast, fitted or decided up to it moves by a bit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from qtrade.config import RunConfig, load_config
from qtrade.data.cache import Cache
from qtrade.data.fetch import fetch
from qtrade.data.raw import RawBars
from qtrade.pipeline.backtest import backtest_run
from qtrade.pipeline.train import train_run
from qtrade.progress import Silent
from qtrade.runs import Run
from qtrade.types import PRICE_FIELDS

HORIZON = 4
SYMBOLS = ("^GSPC", "^IXIC")
SETTINGS = (
    "data.symbols=['^GSPC', '^IXIC']",
    "data.start='2014-01-01'",
    "data.end='2017-01-01'",
    "window.seq_len=16",
    "window.label_len=8",
    f"window.horizon={HORIZON}",
    "split.train_size=200",
    "split.valid_size=60",
    "split.step=120",
    "train.epochs=1",
    "train.batch_size=100",
    "train.learning_rate=0.01",
    "informer.d_model=8",
    "informer.n_heads=2",
    "informer.d_ff=16",
    "informer.e_layers=1",
    "strategies={forecast_sign={step=4}, path_momentum={step=2, multiple=0.1}}",
)


@dataclass(frozen=True)
class World:
    """One history of the market, with what was made of it."""

    raws: tuple[RawBars, ...]
    run: Run

    @property
    def index(self) -> pd.DatetimeIndex:
        return pd.DatetimeIndex(self.raws[0].frame.index)

    def forecasts(self, model: str) -> pd.DataFrame:
        table = pd.read_parquet(self.run.model_folder(model) / "forecasts.parquet")
        return table.set_index(["symbol", "origin"])

    def decided(self, strategy: str) -> pd.DataFrame:
        (path,) = self.run.folder.glob(f"backtests/{strategy}-*/weights.parquet")
        return pd.DataFrame(pd.read_parquet(path)["decided"])


def live_through(folder: Path, config: RunConfig, raws: tuple[RawBars, ...]) -> World:
    """Train and backtest on a history."""
    cache = Cache(folder / "data_cache")
    for raw in raws:
        cache.write(raw)
    run = train_run(config, runs=folder / "runs", cache=cache, progress=Silent())
    backtest_run(run, progress=Silent())
    return World(raws, run)


def with_dividends(raw: RawBars) -> RawBars:
    """Pay half a per cent every 63 bars: an index has no dividends, but what it stands for does."""
    frame = raw.frame.copy()
    paid = frame.index[63::63]
    frame.loc[paid, "dividends"] = 0.005 * frame["close"].iloc[62:-1:63].to_numpy()
    return dataclasses.replace(raw, frame=frame)


def poisoned(raw: RawBars, cut: int, generator: np.random.Generator) -> RawBars:
    """Make up what follows bar `cut`: as valid as the truth, and far from it."""
    frame = raw.frame.copy()
    later = np.arange(len(frame)) > cut
    frame.loc[later, list(PRICE_FIELDS)] *= np.exp(generator.normal(0.0, 0.1, (later.sum(), 1)))
    frame.loc[later, "dividends"] *= 0.3
    frame.loc[later, "volume"] *= generator.uniform(0.1, 10.0, later.sum())
    return dataclasses.replace(raw, frame=frame)


def truncated(raw: RawBars, cut: int) -> RawBars:
    """Forget what follows bar `cut`."""
    return dataclasses.replace(raw, frame=raw.frame.iloc[: cut + 1])


KINDS = {
    "informer": ("baselines=['drift']",),
    "ridge": ("model=ridge", "baselines=['naive']"),
    # Levels are centred by what the scaler saw, and in mode M the features' own future is learned.
    "levels": ("baselines=[]", "features.mode=M", "features.target=log_close"),
    # What is read and learned is in units that change from bar to bar, and every symbol reads the other one.
    "units": (
        "baselines=[]",
        "features.set=minimal",
        "features.target=scaled_return",
        "features.cross=['^IXIC']",
        "split.step=200",
    ),
}


@pytest.fixture(scope="module", params=list(KINDS))
def truth(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Live through the history that happened."""
    folder = tmp_path_factory.mktemp(request.param)
    config = load_config(None, [*SETTINGS, *KINDS[request.param]])
    fetch(config.data, cache=Cache(folder / "fetched"), progress=Silent())
    cache = Cache(folder / "fetched")
    return live_through(folder, config, tuple(with_dividends(cache.read("sample", "1d", symbol)) for symbol in SYMBOLS))


def cuts(truth: World) -> dict[str, int]:
    """Bars at which the future begins: around the start of a fold, and anywhere among the forecasts."""
    table = truth.forecasts(truth.run.config.model)
    first, start = truth.index.get_indexer(pd.DatetimeIndex(table["train_end"].unique()[:2]))
    anywhere = int(np.random.default_rng(len(table)).integers(first + HORIZON + 1, len(truth.index) - HORIZON))
    return {"at the start of a fold": int(start), "a bar before it": int(start) - 1, "anywhere": anywhere}


@pytest.mark.parametrize("where", ["at the start of a fold", "a bar before it", "anywhere"])
@pytest.mark.parametrize("fate", ["poisoned", "truncated"])
def test_the_future_changes_nothing_before_it(truth: World, tmp_path: Path, where: str, fate: str) -> None:
    cut = cuts(truth)[where]
    stamp = truth.index[cut]
    generator = np.random.default_rng(cut)
    raws = tuple(poisoned(raw, cut, generator) if fate == "poisoned" else truncated(raw, cut) for raw in truth.raws)
    # The configuration of a run names its bars; in another world there are others.
    config = truth.run.config
    config = config.model_copy(update={"data": config.data.model_copy(update={"versions": {}})})
    other = live_through(tmp_path, config, raws)
    # An origin is forecast once its label can be complete, so the last ones before the end have none yet.
    known = stamp if fate == "poisoned" else truth.index[cut - HORIZON]

    for model in (truth.run.config.model, *truth.run.config.baselines):
        told, again = truth.forecasts(model), other.forecasts(model)
        before, same = (table[table.index.get_level_values("origin") <= known] for table in (told, again))
        assert len(before)
        happened = [f"y_{step:02d}" for step in range(1, HORIZON + 1)]
        pd.testing.assert_frame_equal(same.drop(columns=happened), before.drop(columns=happened), check_exact=True)
        for step, column in enumerate(happened, start=1):
            ended = before.index.get_level_values("origin") <= truth.index[cut - step]
            pd.testing.assert_series_equal(same[column][ended], before[column][ended], check_exact=True)

        for fold in before["fold"].unique():
            left, right = truth.run.fold_folder(model, fold, 0), other.run.fold_folder(model, fold, 0)
            assert (left / "scaler.json").read_bytes() == (right / "scaler.json").read_bytes()
            weights, same_weights = (load_file(folder / "model.safetensors") for folder in (left, right))
            assert weights.keys() == same_weights.keys()
            for name, weight in weights.items():
                np.testing.assert_array_equal(same_weights[name], weight, strict=True)
            residuals = pd.read_parquet(left / "residuals.parquet")
            same_residuals = pd.read_parquet(right / "residuals.parquet")
            pd.testing.assert_frame_equal(same_residuals, residuals, check_exact=True)

    for strategy in truth.run.config.strategies:
        decided = truth.decided(strategy)
        assert decided.loc[:known].ne(0).any(axis=None), "a strategy that never trades proves nothing"
        pd.testing.assert_frame_equal(other.decided(strategy).loc[:known], decided.loc[:known], check_exact=True)

    if fate == "poisoned":
        main = truth.run.config.model
        later, moved = (
            world.forecasts(main).filter(like="y_hat").loc[lambda table: table.index.get_level_values("origin") > stamp]
            for world in (truth, other)
        )
        assert (later != moved).all(axis=None), "what was made up must reach the forecasts after it"

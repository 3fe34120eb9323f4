"""Estimates add up what was counted and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from qtrade.config import RunConfig, load_config
from qtrade.data.config import DataConfig
from qtrade.data.plan import FetchPlan, SymbolPlan, Unwritten
from qtrade.errors import DataError
from qtrade.pipeline import probe
from qtrade.pipeline.estimate import (
    GROWTH,
    MARGIN,
    SAVE_SECONDS,
    START_SECONDS,
    Work,
    estimate_bytes,
    estimate_memory,
    estimate_seconds,
)
from qtrade.pipeline.made_up import guess_calendar, made_up_bars
from qtrade.pipeline.market import derive, folds_of
from qtrade.pipeline.plan_text import duration, row, rows, size
from qtrade.pipeline.probe import Speed, measure
from qtrade.types import Bars, Fold

FOLDS = tuple(
    Fold(number, range(100, 200 + 50 * number), range(210 + 50 * number, 240 + 50 * number), test, 4, 0)
    for number, test in enumerate((range(250, 300), range(300, 350), range(350, 380)))
)
SPEED = Speed(
    "informer", scaling_seconds=1, batch=32, step_seconds=0.5, predict_seconds=0.01, steps=7, weight_bytes=10**6
)
RIDGE = replace(SPEED, model="ridge", batch=1, step_seconds=0.001, steps=0, weight_bytes=0)


def work(missing: Mapping[str, Sequence[Fold]], *, config: RunConfig | None = None, trading: bool = True) -> Work:
    return Work(
        config or load_config(None, ["train.workers=1", "window.horizon=4", "evaluation.horizons=[1,4]"]),
        bars=400,
        symbols=2,
        folds=FOLDS,
        missing=missing,
        speeds={"informer": SPEED, "ridge": RIDGE},
        preparing=3.0,
        held=1000,
        taken=100,
        trading=trading,
    )


def test_a_fit_takes_its_steps_its_checks_and_its_forecasts() -> None:
    # 200 windows are 7 steps of 32; 60 are validated on after each epoch and at the end; 100 are tested.
    assert SPEED.seconds(FOLDS[0], 2, epochs=3) == pytest.approx(1 + 3 * (7 * 0.5 + 60 * 0.01) + (60 + 100) * 0.01)
    # A baseline knows no epochs.
    assert RIDGE.seconds(FOLDS[0], 2, epochs=3) == pytest.approx(1 + 200 * 0.001 + 60 * 0.01 + (60 + 100) * 0.01)


def test_fits_that_are_missing_are_added_up() -> None:
    each = [SAVE_SECONDS + MARGIN * SPEED.seconds(fold, 2, 6) for fold in FOLDS]
    assert estimate_seconds(work({"informer": FOLDS}))["train"] == pytest.approx(sum(each))
    assert estimate_seconds(work({"informer": FOLDS[1:]}))["train"] == pytest.approx(sum(each[1:]))
    both = estimate_seconds(work({"informer": FOLDS, "ridge": FOLDS}))["train"]
    assert both == pytest.approx(sum(each) + sum(SAVE_SECONDS + MARGIN * RIDGE.seconds(fold, 2, 6) for fold in FOLDS))
    assert estimate_seconds(work({"informer": (), "ridge": ()}))["train"] == 0


def test_fits_side_by_side_end_with_the_last_of_them() -> None:
    config = load_config(None, ["train.workers=2", "train.epochs=2000", "train.device=cpu"])
    together = work({"informer": FOLDS}, config=config)
    assert together.processes == 2
    first, second, third = (SAVE_SECONDS + MARGIN * SPEED.seconds(fold, 2, 2000) for fold in FOLDS)
    assert estimate_seconds(together)["train"] == pytest.approx(START_SECONDS + max(first + third, second))
    assert work({"informer": FOLDS[:1]}, config=config).processes == 1
    # As many as there are fits, however many are asked for.
    many = load_config(None, ["train.workers=9", "train.epochs=2000", "train.device=cpu"])
    assert work({"informer": FOLDS}, config=many).processes == 3


def test_stages_are_those_of_the_command() -> None:
    assert list(estimate_seconds(work({}))) == ["start", "prepare", "train", "backtest", "evaluate", "report"]
    assert list(estimate_seconds(work({}, trading=False))) == ["start", "prepare", "train", "evaluate"]


def test_memory_grows_with_processes() -> None:
    alone = estimate_memory(work({"informer": FOLDS}))
    process = 1000 + GROWTH * 100
    config = load_config(None, ["train.workers=3", "train.epochs=2000", "train.device=cpu"])
    large = replace(work({"informer": FOLDS}, config=config), held=10**9, taken=10**8)
    assert estimate_memory(large) == pytest.approx(10**9 + 3 * (10**9 + GROWTH * 10**8))
    assert alone > process  # evaluation takes more than these few bytes


def test_bytes_grow_with_weights_windows_and_strategies() -> None:
    none = estimate_bytes(work({}))
    one = estimate_bytes(work({"informer": FOLDS[:1]}))
    all_of_them = estimate_bytes(work({"informer": FOLDS}))
    assert none + 10**6 < one < all_of_them
    # Forecasts and outcomes of 130 test origins and forecasts' errors of 90, of 2 symbols and 4 steps, twice each.
    assert all_of_them - none > 3 * 10**6 + 2 * 8 * 2 * (130 * 2 * 4 + 90 * 4)
    assert estimate_bytes(work({}, trading=False)) < none


def test_some_real_steps_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "TIMED_SECONDS", 0.01)
    settings = {"window": {"seq_len": 16, "label_len": 8, "horizon": 4}, "features": {"set": "minimal"}}
    split = {"train_size": 120, "valid_size": 40, "step": 60}
    config = load_config(None, ["train.device=cpu"], preset="tiny", split=split, **settings)
    bars, _ = made_up_bars(config.model_copy(update={"data": yahoo("2024-01-01", "2025-01-01")}), unknown("AAPL"))
    market = derive(config, bars)
    folds = folds_of(market, config)
    network = measure(market, config, "informer", folds[-1])
    assert network.steps >= 3
    assert network.batch == 64
    assert network.weight_bytes > 1000
    assert min(network.step_seconds, network.predict_seconds, network.scaling_seconds) > 0
    ridge = measure(market, config, "ridge", folds[-1])
    assert (ridge.steps, ridge.weight_bytes, ridge.batch) == (0, 0, 1)
    assert 0 < ridge.step_seconds < network.step_seconds


def test_memory_is_known_where_the_system_tells() -> None:
    assert probe.peak_bytes() > 10**8  # this process has pandas and PyTorch in it


# --- bars that are made up ---


def yahoo(start: str | None, end: str | None, interval: str = "1d", symbols: tuple[str, ...] = ("AAPL",)) -> DataConfig:
    return DataConfig.model_validate(
        {"source": "yahoo", "symbols": symbols, "interval": interval, "start": start, "end": end}
    )


def unknown(*symbols: str) -> FetchPlan:
    plans = tuple(SymbolPlan(symbol, 0, None, None, "", asked=True) for symbol in symbols)
    return FetchPlan("yahoo", "1d", plans, {}, Unwritten(Path("nowhere")))


def made(data: DataConfig, fetched: FetchPlan | None = None) -> tuple[Bars, str]:
    config = RunConfig().model_copy(update={"data": data})
    bars, notes = made_up_bars(config, fetched or unknown(*data.symbols))
    return bars, "; ".join(notes)


def test_made_up_bars_are_as_many_as_the_calendar_has() -> None:
    bars, notes = made(yahoo("2023-01-01", "2024-01-01", symbols=("AAPL", "MSFT")))
    assert len(bars) == 250  # of 365 days in 2023, the exchange was open on so many
    assert bars.symbols == ("AAPL", "MSFT")
    assert "no bars of AAPL, MSFT are stored" in notes
    assert "XNYS" in notes
    crypto, notes = made(yahoo("2023-01-01", "2024-01-01", symbols=("BTC-USD",)))
    assert len(crypto) == 365
    assert "24/7" in notes
    assert bars.fingerprint() == made(yahoo("2023-01-01", "2024-01-01", symbols=("AAPL", "MSFT")))[0].fingerprint()


def test_history_that_nobody_was_asked_about_is_assumed() -> None:
    bars, notes = made(yahoo(None, None))
    assert 20 * 250 < len(bars) < 20 * 254
    assert f"assumed: bars from {bars.index[0].year}" in notes
    minutes, _ = made(yahoo(None, None, interval="15m"))
    assert minutes.index[-1] - minutes.index[0] < pd.Timedelta(60, "D")  # as far back as Yahoo goes
    known = replace(unknown("AAPL"), symbols=(SymbolPlan("MSFT", 9, "2024-01-01 00:00:00+00:00", "", "", asked=True),))
    assert made(yahoo("2020-01-01", "2025-01-01"), known)[0].index[0] == pd.Timestamp("2024-01-02", tz="UTC")


def test_dates_without_a_bar_are_refused() -> None:
    with pytest.raises(DataError, match="there are no 1d bars from 2199-01-01"):
        made(yahoo("2199-01-01", None))
    with pytest.raises(DataError, match="there are no 1d bars from 2024-01-06"):
        made(yahoo("2024-01-06", "2024-01-07"))


@pytest.mark.parametrize(
    ("symbol", "calendar"),
    [
        ("AAPL", "XNYS"),
        ("^GSPC", "XNYS"),
        ("BTC-USD", "24/7"),
        ("ETH-USDT", "24/7"),
        ("EURUSD=X", "24/5"),
        ("BRK-B", "XNYS"),
    ],
)
def test_calendars_are_guessed_by_spelling(symbol: str, calendar: str) -> None:
    assert guess_calendar(symbol) == calendar


# --- how it is written ---


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59, "59 s"),
        (60, "1.0 min"),
        (599, "10.0 min"),
        (600, "10 min"),
        (3600, "1.0 h"),
        (360_000, "100 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 MB"), (2_600_000, "3 MB"), (999e6, "999 MB"), (1.25e9, "1.2 GB")])
def test_sizes(count: float, text: str) -> None:
    assert size(int(count)) == text


def test_rows_stand_below_one_title() -> None:
    assert rows("a", []) == []
    assert rows("a", ["x", "y"]) == [row("a", "x"), row("", "y")]

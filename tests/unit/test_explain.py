"""A trade is explained with numbers that can be worked out by hand, and only if its backtest is what it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qtrade.backtest.costs import BacktestConfig
from qtrade.backtest.engine import simulate
from qtrade.backtest.exits import Exits
from qtrade.config import RunConfig, load_config
from qtrade.errors import DataError, UsageError
from qtrade.features.scaler import Scaler
from qtrade.files import sha256, write_parquet
from qtrade.forecasts import Forecasts
from qtrade.models.base import History, Shape
from qtrade.models.baselines import Naive
from qtrade.models.settings import NoSettings
from qtrade.pipeline.backtest import backtest_run
from qtrade.pipeline.episode import charges, episode_of, fill_of
from qtrade.pipeline.explain import explain_trade
from qtrade.progress import Silent
from qtrade.report.explain import draw_trade
from qtrade.report.explanation_lines import lines
from qtrade.runs import Run, forecast_frame, residual_frame, save_fold, start_run
from qtrade.strategy import load_strategy, strategy_folders
from qtrade.types import BacktestResult, Bars, Float64Array

DAYS = pd.date_range("2024-01-01", periods=20, tz="UTC")
ACCOUNT = ("backtest.cash=10000", "backtest.costs.fees_bps=10", "backtest.costs.slippage_bps=10")
EXITS = "backtest.exits.target=true"


def market() -> Bars:
    """Flat at 100 until the first origin, bar 10; every bar but the 11th opens where the one before it closed."""
    close = np.array([100.0] * 11 + [102, 104, 103, 101, 99, 98, 98, 98, 98])
    opened = np.concatenate([[100.0], close[:-1]])
    opened[11] = 101.0
    top, bottom = np.maximum(opened, close) + 0.5, np.minimum(opened, close) - 0.5

    def frame(values: Float64Array) -> pd.DataFrame:
        return pd.DataFrame({"A": values}, index=DAYS)

    return Bars(
        frame(opened), frame(top), frame(bottom), frame(close), frame(np.zeros(20)),
        interval="1d", calendar="24/7", periods_per_year=365.0,
    )  # fmt: skip


def forecasts() -> Forecasts:
    """Six origins, three steps, two seeds: up, up, none at bar 12, down, down, nowhere, nowhere."""
    origins, seeds = np.array([10, 11, 13, 14, 15, 16]), 2
    sign = np.array([1, 1, -1, -1, 0, 0])
    path = sign[:, None, None] * np.array([[0.01, 0.01, 0.01], [0.03, 0.01, 0.01]])
    bank = np.array([[-0.02], [-0.01], [0.0], [0.01], [0.02]]) * np.array([[1.0, 0.0, 0.0]])
    rows = len(origins) * seeds
    return Forecasts(
        path=path.reshape(rows, 3),
        symbol=np.full(rows, "A", dtype=object),
        origin=DAYS[np.repeat(origins, seeds)],
        fold=np.zeros(rows, dtype=np.int64),
        seed=np.tile(np.arange(seeds), len(origins)),
        train_end=DAYS[np.full(rows, 8)],
        residuals={(0, seed, "A"): bank for seed in range(seeds)},
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run written by hand, with backtests of two strategies and of another account; only to be copied."""
    bars, said = market(), forecasts()
    facts = {"data": bars.fingerprint(), "device": "cpu", "qtrade": "0"}
    description = {
        "data": {"interval": "1d", "calendar": "24/7", "periods_per_year": 365.0},
        "folds": [],
        "notes": [],
    }
    config = load_config(None, [*ACCOUNT, "window.horizon=3", "window.seq_len=2", "window.label_len=1", "replicates=2"])
    run = start_run(tmp_path_factory.mktemp("runs"), config, bars, facts, description)
    frame = forecast_frame(said, np.zeros((len(said), 3)))
    errors = [residual_frame(0, seed, "A", DAYS[2:7], said.residuals[0, seed, "A"]) for seed in (0, 1)]
    for seed in (0, 1):
        scaler = Scaler(("A",), ("x",), np.zeros((1, 1)), np.ones((1, 1)), np.zeros(1), np.ones(1), (), 3)
        model = Naive(Shape(1, 1, config.window), NoSettings())
        save_fold(run.fold_folder("informer", 0, seed), model, scaler, History((), 0, 0.0), frame, errors[seed])
    write_parquet(run.folder / "forecasts.parquet", frame)
    write_parquet(run.folder / "residuals.parquet", pd.concat(errors, ignore_index=True))
    for specs, options in (
        (("forecast_sign(step=3)", "forecast_sign(step=2)", "buy_and_hold"), ()),
        (("forecast_sign(step=3)", "buy_and_hold"), (EXITS,)),
    ):
        chosen = load_config(run.folder / "config.toml", options)
        loaded = [load_strategy(spec, {}, strategy_folders()) for spec in specs]
        backtest_run(run, progress=Silent(), config=chosen, strategies=loaded)
    return run.folder


@pytest.fixture
def run(tmp_path: Path, made: Path) -> Run:
    """A copy, to be altered."""
    return Run(shutil.copytree(made, tmp_path / made.name))


def with_exits(run: Run) -> RunConfig:
    return load_config(run.folder / "config.toml", [EXITS])


UNITS = 10_000 / (101 * 1.001 * 1.001)
"""What 10,000 buys at the open of bar 11, which is 101, with slippage and fees of a thousandth each."""


# --- the numbers ---


def test_an_entry_is_explained_from_forecast_to_outcome(made: Path) -> None:
    told = explain_trade(Run(made), "forecast_sign(step=3)", 1)
    assert (told.trade.number, told.trade.trades, told.trade.symbol) == (1, 4, "A")
    assert (told.trade.side, told.trade.reason) == ("buy", "decision")
    assert (told.decision.stamp, told.decision.close_price) == (DAYS[10], 100.0)
    assert (told.decision.weight_before, told.decision.weight_after, told.decision.held_share) == (0.0, 1.0, 0.0)

    assert told.used_forecast is True
    said = told.forecast
    assert said is not None
    assert (said.fold, said.train_end, said.age_bars) == (0, DAYS[8], 2)
    assert (said.start, said.start_price) == (DAYS[10], 100.0)
    assert [one.seed for one in said.seeds] == [0, 1]
    moves = [one.cumulative_log_return for one in (*said.seeds, said.mean)]
    np.testing.assert_allclose(moves, [[0.01, 0.02, 0.03], [0.03, 0.04, 0.05], [0.02, 0.03, 0.04]])
    np.testing.assert_allclose(said.mean.price, 100 * np.exp([0.02, 0.03, 0.04]))
    assert said.end_return == said.peak_return == pytest.approx(np.exp(0.04) - 1)
    assert (said.peak_step, said.trough_step) == (3, 1)
    # The 10 % quantile of -0.02, -0.01 .. 0.02 is -0.016.
    np.testing.assert_allclose(said.low_price or (), 100 * np.exp([0.004, 0.014, 0.024]))
    np.testing.assert_allclose(said.high_price or (), 100 * np.exp([0.036, 0.046, 0.056]))

    fill = told.fill
    assert (fill.stamp, fill.at) == (DAYS[11], "open")
    assert (fill.unslipped_price, fill.price) == pytest.approx((101.0, 101.101))
    assert (fill.units_before, fill.worth_money) == (0.0, 10_000.0)
    assert fill.units == fill.units_after == pytest.approx(UNITS)
    assert fill.units_wanted == pytest.approx(10_000 / 101)
    assert fill.slippage_bp == pytest.approx(10)
    assert fill.slippage_money == pytest.approx(UNITS * 0.101)
    assert fill.fees_money == pytest.approx(UNITS * 0.101101)
    assert fill.notional_money + fill.fees_money == pytest.approx(10_000)

    held = told.episode
    assert (held.side, held.opened, held.closed, held.held_bars) == ("long", DAYS[11], DAYS[13], 2)
    assert (held.ended, held.fills) == ("decision", 2)
    assert held.gross_money == pytest.approx(UNITS * 3)
    assert held.net_money == pytest.approx(UNITS * (104 * 0.999 * 0.999 - 101 * 1.001 * 1.001))
    assert held.most_money == pytest.approx(UNITS * 101)
    assert held.net_return == pytest.approx(held.net_money / (UNITS * 101))

    # Bought at the open of bar 11 and sold at that of bar 13, it saw two closes.
    assert [(one.what, one.steps) for one in told.outcomes] == [("the bars held", 2), ("the whole path", 3)]
    assert [one.expected_return for one in told.outcomes] == pytest.approx(np.expm1([0.03, 0.04]))
    assert [one.actual_return for one in told.outcomes] == pytest.approx([0.04, 0.03])


def test_a_short_position_is_sized_by_what_the_account_is_worth_by_then(made: Path) -> None:
    told = explain_trade(Run(made), "forecast_sign(step=3)", 3)
    worth = UNITS * 104 * 0.999 * 0.999
    assert told.fill.worth_money == pytest.approx(worth)
    assert told.fill.units == told.fill.units_wanted == pytest.approx(-worth / 103)
    assert told.fill.price == pytest.approx(103 * 0.999)
    assert (told.episode.side, told.episode.closed) == ("short", DAYS[16])
    assert told.episode.gross_money == pytest.approx(worth / 103 * (103 - 99))


def test_a_decision_without_a_forecast_says_so(made: Path) -> None:
    run = Run(made)
    flat = explain_trade(run, "forecast_sign(step=3)", 2)
    assert (flat.used_forecast, flat.forecast, flat.outcomes) == (True, None, ())
    assert "does not come from a forecast: there is none of A at this close" in "\n".join(lines(flat))
    hold = explain_trade(run, "buy_and_hold", 1)
    assert (hold.used_forecast, hold.forecast, hold.kind, hold.files) == (False, None, None, ())
    assert "does not come from a forecast: the strategy decides the same without any" in "\n".join(lines(hold))
    assert (hold.episode.closed, hold.episode.last, hold.episode.ended) == (None, DAYS[17], "still held")
    assert hold.episode.last_price == 98.0


def test_an_exit_is_explained_by_the_decision_of_its_position(made: Path) -> None:
    run = Run(made)
    told = explain_trade(run, "forecast_sign", 2, config=with_exits(run))
    assert (told.trade.side, told.trade.reason) == ("sell", "target")
    assert told.decision.stamp == DAYS[10]
    assert told.levels.stop_price is None
    assert told.levels.target_price == told.fill.unslipped_price == pytest.approx(100 * np.exp(0.04))
    assert (told.fill.stamp, told.fill.at, told.fill.units_after) == (DAYS[12], "target", 0.0)
    assert told.episode.ended == "target"
    assert told.outcomes[0].steps == 2
    assert told.outcomes[0].actual_return == pytest.approx(0.04)
    entry = explain_trade(run, "forecast_sign", 1, config=with_exits(run))
    assert entry.levels == told.levels
    short = explain_trade(run, "forecast_sign", 4, config=with_exits(run))
    assert short.levels.target_price == short.fill.unslipped_price == pytest.approx(103 * np.exp(-0.04))
    hold = explain_trade(run, "buy_and_hold", 1, config=with_exits(run))
    assert hold.forecast is not None, "its target comes from it"
    assert "decides the same without any; its stop and target do" in "\n".join(lines(hold))


def test_models_are_named_with_their_files(run: Run) -> None:
    told = explain_trade(run, "forecast_sign(step=3)", 1)
    assert told.kind == "informer"
    first, second = (run.folder / file.path for file in told.files)
    assert [file.sha256 for file in told.files] == [sha256(first), sha256(second)]
    assert all(file.unaltered for file in told.files)
    first.write_bytes(b"another model")
    second.unlink()
    altered, gone = explain_trade(run, "forecast_sign(step=3)", 1).files
    assert (altered.sha256, altered.unaltered) == (sha256(first), False)
    assert (gone.sha256, gone.unaltered) == (None, False)


def test_a_strategy_whose_file_is_gone_may_have_used_the_forecast(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qtrade.pipeline.explain.strategy_folders", lambda: (made,))
    told = explain_trade(Run(made), "buy_and_hold", 1)
    assert told.used_forecast is None
    assert told.forecast is not None
    assert "is not known: its file is gone" in "\n".join(lines(told))


# --- telling and drawing it ---


def test_lines_add_up_and_json_is_plain(made: Path) -> None:
    told = explain_trade(Run(made), "forecast_sign(step=3)", 1)
    text = lines(told)
    assert len(text) <= 25
    assert max(map(len, text)) <= 120
    for part in (
        "weight 0 -> 1, with 0.00% of the account held",
        "100.0000 x exp(+0.040000) = 104.0811, +4.08%",
        "wanted: weight 1 x account 10,000.00 / 101.0000 = 99.0099 units",
        "units: 0.0000 +98.8122 = 98.8122 (money did not reach for more)",
        "notional: 98.8122 x 101.1010 = 9,990.01, 99.90% of the account",
        "cost: slippage 9.98 (10.00 bp) + fees 9.99 = 19.97",
        "Forecast of the bars held (2 bars): expected +3.05%, came +4.00%, off by +0.95%",
    ):
        assert sum(part in line for line in text) == 1, part
    value = json.loads(json.dumps(told.to_dict(), allow_nan=False))
    assert value["fill"]["cost_money"] == pytest.approx(told.fill.slippage_money + told.fill.fees_money)
    assert value["outcomes"][0]["error_return"] == pytest.approx(0.04 - (np.exp(0.03) - 1))
    assert (value["decision"]["stamp"], value["episode"]["closed"]) == (DAYS[10].isoformat(), DAYS[13].isoformat())
    assert [bar["stamp"] for bar in value["bars"]] == [day.isoformat() for day in DAYS[:15]]
    assert value["bars"][11]["open"] == 101.0


@pytest.mark.parametrize(("strategy", "number", "ending"), [("forecast_sign", 2, "svg"), ("buy_and_hold", 1, "png")])
def test_a_trade_is_drawn(made: Path, tmp_path: Path, strategy: str, number: int, ending: str) -> None:
    run = Run(made)
    told = explain_trade(run, strategy, number, config=with_exits(run))
    picture = tmp_path / f"trade.{ending}"
    draw_trade(told, picture)
    assert {"svg": b"<svg", "png": b"\x89PNG"}[ending] in picture.read_bytes()
    with pytest.raises(UsageError, match="neither a PNG nor an SVG"):
        draw_trade(told, tmp_path / "trade.pdf")


# --- which trade is meant ---


@pytest.mark.parametrize("number", [0, 5])
def test_a_number_without_a_trade_is_refused(made: Path, number: int) -> None:
    with pytest.raises(UsageError, match=rf"no trade {number} of .*\n  why: it made 4 trades\n  fix: .* from 1 to 4"):
        explain_trade(Run(made), "forecast_sign(step=3)", number)


def test_a_strategy_that_was_not_backtested_is_refused(made: Path) -> None:
    run = Run(made)
    with pytest.raises(UsageError, match=rf"fix: backtest it first: qtrade backtest {run.name} -s momentum"):
        explain_trade(run, "momentum", 1)
    with pytest.raises(UsageError, match=r"there is no backtest of 'forecast_sign\(step=9\)'.*\n.*step=2.*step=3"):
        explain_trade(run, "forecast_sign(step=9)", 1)
    richer = load_config(run.folder / "config.toml", ["backtest.cash=5"])
    with pytest.raises(UsageError, match="with this account\n  why: it was tested with other costs"):
        explain_trade(run, "buy_and_hold", 1, config=richer)


def test_several_backtests_of_a_name_are_listed(made: Path) -> None:
    run = Run(made)
    with pytest.raises(UsageError, match="'forecast_sign' is several backtests") as refused:
        explain_trade(run, "forecast_sign", 1)
    folders = [part.rpartition(" in ")[2] for part in refused.value.why.split("; ")]
    assert [explain_trade(run, folder, 1).strategy for folder in folders] == [
        part.rpartition(" in ")[0] for part in refused.value.why.split("; ")
    ]


# --- what was altered ---


def folder_of(run: Run) -> Path:
    """Folder of the backtest that the tests below alter."""
    for path in run.folder.glob("backtests/buy_and_hold-*/metrics.json"):
        if '"target": false' in path.read_text(encoding="utf-8"):
            return path.parent
    raise AssertionError("there is no backtest without exits")


def test_altered_trades_are_refused(run: Run) -> None:
    path = folder_of(run) / "trades.parquet"
    trades = pd.read_parquet(path)
    for altered in (
        trades.assign(price=trades["price"] * 1.0001),
        trades.assign(reason="stop"),
        trades.assign(decided=DAYS[9]),
        pd.concat([trades, trades]),
        trades.iloc[:0],
    ):
        write_parquet(path, altered)
        with pytest.raises(DataError, match="is not what its decisions make\n  why: its trades differ from number"):
            explain_trade(run, "buy_and_hold", 1)
    write_parquet(path, trades.drop(columns="fees"))
    with pytest.raises(DataError, match="the columns of the trades are others"):
        explain_trade(run, "buy_and_hold", 1)
    path.unlink()
    with pytest.raises(DataError, match=r"is missing\n  fix: backtest it again: qtrade backtest"):
        explain_trade(run, "buy_and_hold", 1)


def test_altered_decisions_and_descriptions_are_refused(run: Run) -> None:
    folder = folder_of(run)
    weights = pd.read_parquet(folder / "weights.parquet")
    for altered, why in (
        (weights * 0.5, "trades differ"),
        (weights.iloc[1:], "other bars"),
        (weights * np.nan, "no num"),
    ):
        write_parquet(folder / "weights.parquet", altered)
        with pytest.raises(DataError, match=why):
            explain_trade(run, "buy_and_hold", 1)
    write_parquet(folder / "weights.parquet", weights)
    told = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    (folder / "metrics.json").write_text(json.dumps({**told, "source": "0"}), encoding="utf-8")
    with pytest.raises(DataError, match="account, parameters or file are others"):
        explain_trade(run, "buy_and_hold", 1)


# --- positions and the account ---


def busy(fill: str) -> tuple[Bars, BacktestConfig, BacktestResult]:
    """An account that borrows, drifts, is stopped and turned over, on two random walks."""
    generator = np.random.default_rng(4)
    days = pd.date_range("2024-01-01", periods=80, tz="UTC")

    def frame(values: Float64Array) -> pd.DataFrame:
        return pd.DataFrame(values, index=days, columns=["A", "B"])

    close = 100 * np.exp(np.cumsum(0.02 * generator.standard_normal((80, 2)), axis=0))
    opened = close * np.exp(0.005 * generator.standard_normal((80, 2)))
    top, bottom = np.maximum(opened, close) * 1.01, np.minimum(opened, close) * 0.99
    bars = Bars(
        frame(opened), frame(top), frame(bottom), frame(close), frame(np.zeros((80, 2))),
        interval="1d", calendar="24/7", periods_per_year=365.0,
    )  # fmt: skip
    weights = frame(np.repeat(generator.choice([-0.9, -0.3, 0.0, 0.4, 0.9], size=(20, 2)), 4, axis=0))
    exits = Exits(frame(close * 0.95), frame(close * 1.06), frame(close * 1.05), frame(close * 0.94))
    account = BacktestConfig.model_validate(
        {
            "fill": fill,
            "leverage": 2.0,
            "band": 0.05,
            "costs": {"borrow_bps": 300, "margin_bps": 500, "funding_bps": 1.5, "min_fee": 2.0},
        }
    )
    return bars, account, simulate(bars, weights, account, exits)


@pytest.mark.parametrize("fill", ["open", "close"])
def test_an_order_is_the_weight_times_the_worth_of_the_account(fill: str) -> None:
    bars, account, result = busy(fill)
    fills = [fill_of(bars, account, result, trade) for trade in range(len(result.trades))]
    filled = np.array([one.units_after for one in fills])
    wanted = np.array([one.units_wanted for one in fills])
    assert [one.units_before + one.units for one in fills] == pytest.approx(filled.tolist(), abs=1e-9)
    short = ~np.isclose(filled, wanted)
    assert short.sum() < len(fills) / 10
    assert (filled < wanted)[short].all(), "money did not reach"
    exits = np.array([one.at in ("stop", "target") for one in fills])
    assert exits.sum() > 5
    assert (filled[exits] == 0).all()


@pytest.mark.parametrize("fill", ["open", "close"])
def test_positions_together_make_the_account(fill: str) -> None:
    bars, account, result = busy(fill)
    assert {"decision", "band", "stop", "target"} == set(result.trades["reason"])
    every = {
        (str(result.trades["symbol"].iloc[trade]), one.side, one.opened, one.last): one
        for trade in range(len(result.trades))
        for one in [episode_of(bars, account, result, trade)]
    }
    positions = list(every.values())
    assert "turned over" in {one.ended for one in positions}
    assert sum(one.fees_money for one in positions) == pytest.approx(result.trades["fees"].sum())
    assert sum(one.slippage_money for one in positions) == pytest.approx(result.trades["slippage"].sum())
    before = np.concatenate([[account.cash], result.equity.to_numpy()[:-1]])
    paid = float((result.financing.to_numpy() * before).sum())
    charged, margin = charges(account, result, 365.0)
    assert sum(one.financing_money for one in positions) == pytest.approx(charged.sum())
    assert charged.sum() + margin.sum() == pytest.approx(paid)
    assert margin.min() > -1e-9
    assert margin.max() > 0
    earned = sum(one.net_money for one in positions) - margin.sum()
    assert earned == pytest.approx(result.equity.iloc[-1] - account.cash)


def test_a_ruined_account_ends_its_position() -> None:
    days = pd.date_range("2024-01-01", periods=4, tz="UTC")
    close = pd.DataFrame({"A": [100.0, 100.0, 210.0, 50.0]}, index=days)
    bars = Bars(close, close, close, close, close * 0, interval="1d", calendar="24/7", periods_per_year=365.0)
    account = BacktestConfig.model_validate({"costs": {"fees_bps": 0, "slippage_bps": 0}})
    result = simulate(bars, close * 0 - 1, account)
    one = episode_of(bars, account, result, 0)
    assert (one.ended, one.closed, one.last, one.last_price) == ("ruined", None, days[2], 210.0)
    assert one.net_money == pytest.approx(-1.1 * account.cash)

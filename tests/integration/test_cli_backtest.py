"""Strategies on the command line: what backtests, lists and explanations say, and what bad input leaves whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, chdir
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qtrade.config import load_config
from qtrade.ledger import Ledger
from qtrade.strategy import load_strategy, strategy_folders

Program = Callable[..., CompletedProcess[str]]

SYMBOLS = ("^GSPC", "^IXIC")
SETTINGS = (
    "window.seq_len=16",
    "window.label_len=8",
    "window.horizon=4",
    "split.train_size=300",
    "split.valid_size=60",
    "split.step=1000",
    "model=ridge",
    "baselines=[]",
)
NESTED = "vol_target(base=tranches(step=4), window=20)"
FILE = '''"""A strategy."""
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mine:
    """Decides."""

    size: float = 0.5
    """Share of the account in each symbol."""

    def weights(self, bars, forecasts):
        flat = bars.close * 0
        return {}
'''


def contents(folder: Path) -> dict[str, str]:
    """Checksum of every file but locks, which come and go."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def only_run(folder: Path) -> Path:
    (manifest,) = folder.glob("runs/*/manifest.json")
    return manifest.parent


def said(text: str) -> str:
    """What was printed, wherever its lines were broken."""
    return " ".join(text.split())


def metrics_of(folder: Path, name: str) -> dict[str, Any]:
    (path,) = only_run(folder).glob(f"backtests/{name}-*/metrics.json")
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return told


@pytest.fixture(scope="module")
def first(
    tmp_path_factory: pytest.TempPathFactory,
    qtrade: Program,
    without_evaluation: Callable[[], AbstractContextManager[None]],
) -> tuple[Path, CompletedProcess[str]]:
    """A folder with a linear model of two symbols and three backtests of it, and what the backtests said."""
    folder = tmp_path_factory.mktemp("backtested")
    with without_evaluation():
        assert qtrade(folder, "fetch", *SYMBOLS).returncode == 0
        settings = [part for one in SETTINGS for part in ("--set", one)]
        assert qtrade(folder, "train", *SYMBOLS, "--start", "2015-06-01", *settings).returncode == 0
    outcome = qtrade(folder, "backtest", "run", "-s", "forecast_sign", "-s", NESTED, "-s", "buy_and_hold")
    assert outcome.returncode == 0, outcome.stderr
    return folder, outcome


@pytest.fixture
def finished(first: tuple[Path, CompletedProcess[str]]) -> Path:
    """The folder; only to be read."""
    return first[0]


@pytest.fixture
def place(tmp_path: Path, finished: Path) -> Path:
    """A copy of it, to be spoilt."""
    folder = tmp_path / "place"
    shutil.copytree(finished, folder)
    return folder


@pytest.fixture
def mine(tmp_path: Path) -> Callable[[str], str]:
    """Write a strategy that ends in these lines, and give its path."""

    def write(body: str) -> str:
        path = tmp_path / "mine.py"
        path.write_text(FILE.format(body), encoding="utf-8")
        return str(path)

    return write


def refused(qtrade: Program, folder: Path, *arguments: str) -> tuple[int, str]:
    """Run a command that has to fail in words and leave every file as it was; give its exit code and message."""
    before = contents(folder)
    outcome = qtrade(folder, *arguments)
    assert contents(folder) == before
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr
    return outcome.returncode, said(outcome.stderr)


# --- several strategies on equal data ---


def test_one_table_tells_trials_beside_the_sharpe_ratio_and_compares_with_buy_and_hold(
    first: tuple[Path, CompletedProcess[str]],
) -> None:
    folder, outcome = first
    lines = outcome.stdout.splitlines()
    for name in ("forecast_sign", "vol_target", "buy_and_hold", "buy and hold"):
        (row,) = [line for line in lines if line.startswith(f"{name} ")]
        assert "[" in row, "a Sharpe ratio without its interval"
    assert "of 3 trials" in outcome.stdout
    assert lines[0].split()[-2:] == ["Sharpe", "ratio"]
    assert "Simulated by vectorbt (" in outcome.stdout
    words = said(outcome.stdout)
    assert "earns more than buy and hold: p = " in words
    assert "(SPA). Better by more than luck at 5% (StepM): " in words
    assert [(folder / line / "metrics.json").is_file() for line in lines[-3:]] == [True] * 3
    assert "backtest  vol_target" in outcome.stderr


def test_metrics_hold_every_table(finished: Path) -> None:
    told = metrics_of(finished, "forecast_sign")
    numbers = told["metrics"]
    assert {
        "strategy", "spec", "params", "source", "account", "engine", "forecast_covered_share", "ruined", "metrics",
        "buy_and_hold", "sharpe_bootstrap_low95", "sharpe_bootstrap_high95", "against_buy_and_hold", "years", "months",
        "regimes", "drawdowns", "cost_curve", "delay_curve",
    } == set(told)  # fmt: skip
    assert told["engine"] in ("numba", "rust")
    assert (told["forecast_covered_share"], told["ruined"]) == (1.0, None)
    assert numbers.keys() == told["buy_and_hold"].keys()
    assert told["sharpe_bootstrap_low95"] < numbers["sharpe"] < told["sharpe_bootstrap_high95"]
    # Every table adds up to the whole.
    assert sum(row["bars"] for row in told["years"]) == numbers["bars"]
    growth = [row[str(month)] for row in told["months"] for month in range(1, 13)]
    assert np.prod([1 + one for one in growth if one is not None]) == pytest.approx(
        1 + numbers["total_return"], rel=1e-6
    )
    assert {row["regime"] for row in told["regimes"]} == {f"{name} volatility" for name in ("low", "middle", "high")}
    assert sum(row["bars"] for row in told["regimes"]) == numbers["bars"]
    assert told["drawdowns"][0]["depth"] == pytest.approx(numbers["max_drawdown"], rel=1e-6)
    curve = {point["bps"]: point["net_annual_return"] for point in told["cost_curve"]}
    assert (min(curve), max(curve)) == (0, 50)
    assert curve[0] > numbers["net_annual_return"] > curve[50]
    assert [point["delay"] for point in told["delay_curve"]] == [0, 1, 2, 3]
    assert told["delay_curve"][1]["sharpe"] == pytest.approx(numbers["sharpe"])
    assert {"beta", "up_capture", "down_capture"} <= told["against_buy_and_hold"].keys()
    assert metrics_of(finished, "buy_and_hold")["against_buy_and_hold"]["beta"] == pytest.approx(1)


def test_json_says_the_same_and_a_repetition_is_no_further_trial(place: Path, qtrade: Program) -> None:
    before = contents(place)
    outcome = qtrade(place, "backtest", "run", "-s", "forecast_sign", "--json")
    assert outcome.returncode == 0, outcome.stderr
    told = json.loads(outcome.stdout)
    (one,) = told["backtests"]
    assert one["luck"]["trials"] == 3
    assert 0 < one["luck"]["dsr_probability"] < one["luck"]["psr_probability"] < 1
    assert {name: one[name] for name in one.keys() - {"luck", "folder"}} == metrics_of(place, "forecast_sign")
    assert (place / one["folder"]).is_dir()
    assert 0 <= told["comparison"]["spa_p"] <= 1
    assert list(told["comparison"]["sharpe_difference"]) == [one["spec"]]
    after = contents(place)
    assert after == before, [name for name in after if after[name] != before.get(name)]


def test_another_account_is_another_backtest_beside_the_first(place: Path, qtrade: Program) -> None:
    before = contents(place)
    given = ("--delay", "2", "--fill", "close", "--account", "costs.borrow_bps=50", "--account", "band=0.02")
    outcome = qtrade(place, "backtest", "run", "-s", "forecast_sign", *given, "--json")
    assert outcome.returncode == 0, outcome.stderr
    (one,) = json.loads(outcome.stdout)["backtests"]
    account = one["account"]
    assert (account["delay"], account["fill"], account["band"]) == (2, "close", 0.02)
    assert account["costs"]["borrow_bps"] == 50
    assert one["metrics"]["financing_annual"] > 0
    assert one["luck"]["trials"] == 4
    after = contents(place)
    assert {name: after[name] for name in before if not name.endswith("trials.sqlite")} == {
        name: before[name] for name in before if not name.endswith("trials.sqlite")
    }
    trades = pd.read_parquet(place / one["folder"] / "trades.parquet")
    bars = pd.read_parquet(only_run(place) / "bars.parquet").index
    filled, decided = (bars.get_indexer(pd.DatetimeIndex(trades[name])) for name in ("bar", "decided"))
    assert (filled - decided == 2).all()

    # Which of the two backtests of one strategy is meant is told by the account.
    stamps = []
    for options in ((), given):
        explained = qtrade(place, "explain", "run", "-s", "forecast_sign", "--trade", "2", *options, "--json")
        stamps.append(json.loads(explained.stdout)["fill"]["stamp"])
    assert stamps[1] == trades["bar"][1].isoformat() != stamps[0]


def test_what_nobody_can_do_is_said(place: Path, qtrade: Program) -> None:
    outcome = qtrade(place, "backtest", "run", "-s", "forecast_sign", "--delay", "0", "--fill", "close")
    assert outcome.returncode == 0, outcome.stderr
    assert "Filled at the very close that decides: nobody can do that." in outcome.stdout
    assert "the report leaves these out" in said(outcome.stderr)


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (("--delay", "0", "--fill", "open"), ["a delay of 0 would fill at an open", "set fill to close"]),
        (("--delay", "0"), ["a delay of 0 would fill at an open"]),
        (("--delay", "-1"), ["delay", "greater than or equal to 0"]),
        (("--delay", "5000"), ["backtest.delay is 5000", "no decision would ever be filled"]),
        (("--fill", "noon"), ["fill", "'open' or 'close'"]),
        (("--account", "costs.borow_bps=50"), ["costs.borow_bps", "did you mean 'borrow_bps'?"]),
        (("--account", "leverag=2"), ["leverag", "did you mean 'leverage'?"]),
        (("--account", "leverage"), ["is not an assignment"]),
        (("--account", "leverage=0"), ["leverage", "should be greater than"]),
        (("--set", "stepp=2"), ["has no parameter 'stepp'", "did you mean 'step'?"]),
    ],
)
def test_a_wrong_account_or_parameter_is_explained(
    finished: Path, qtrade: Program, arguments: tuple[str, ...], messages: list[str]
) -> None:
    code, message = refused(qtrade, finished, "backtest", "run", "-s", "forecast_sign", *arguments)
    for part in messages:
        assert part in message
    assert code == 2


@pytest.mark.parametrize(
    ("spec", "messages"),
    [
        ("vol_target(base=forecast_sign(stepp=2))", ["'forecast_sign' has no parameter 'stepp'", "mean 'step'?"]),
        ("vol_target(target_vol=0.1)", ["'vol_target' has no parameter 'target_vol'", "mean 'target'?"]),
        ("vol_target(base=forecast_sing)", ["no strategy 'forecast_sing'", "mean 'forecast_sign'?"]),
        ("blend(of=[forecast_sign, tranches(stp=2)])", ["'tranches' has no parameter 'stp'", "mean 'step'?"]),
        ("vol_target(base=forecast_sign", ["cannot be read"]),
        ("vol_target(measure=portfolo)", ["cannot be 'portfolo'", "mean 'portfolio'?"]),
    ],
)
def test_a_mistake_within_a_combination_names_the_nearest(
    finished: Path, qtrade: Program, spec: str, messages: list[str]
) -> None:
    code, message = refused(qtrade, finished, "backtest", "run", "-s", spec)
    for part in messages:
        assert part in message
    assert code == 2


def test_a_parameter_of_a_nested_strategy_is_set_through_a_dot(finished: Path, qtrade: Program) -> None:
    code, message = refused(qtrade, finished, "backtest", "run", "-s", "vol_target", "--set", "base.stepp=2")
    assert code == 2
    assert "'forecast_sign' has no parameter 'stepp'" in message
    assert "did you mean 'step'?" in message


# --- bad weights ---


@pytest.mark.parametrize(
    ("body", "code", "messages"),
    [
        (
            "flat + np.where(flat.index < '2018', 0, np.nan)[:, None]",
            2,
            ["the weight nan of ^GSPC at 2018-01-02", "is not a number: write 0 for no position"],
        ),
        ("flat + np.inf", 2, ["the weight inf of ^GSPC at", "is not a number", "904 of 904 bars are like this"]),
        ("flat.iloc[1:]", 2, ["index and symbols are not those of the bars", "got 903 rows"]),
        ("flat.to_numpy()", 2, ["a DataFrame is wanted, not ndarray"]),
        ("None", 2, ["a DataFrame is wanted, not NoneType"]),
        ("flat.shift(1, freq='1D')", 2, ["index and symbols are not those", "end with .reindex(index=bars.index"]),
        ("flat.rename(columns={'^GSPC': 'SPY'})", 2, ["wanted 904 rows of ^GSPC, ^IXIC", "got 904 rows of SPY, ^IXIC"]),
        ("flat.assign(SPY=0.1)", 2, ["index and symbols are not those of the bars", "^GSPC, ^IXIC, SPY"]),
        ("flat.astype(str) + 'long'", 2, ["the weights of strategy 'mine' are not numbers"]),
        ("flat + [1.5, 0.0]", 2, ["the weight 1.5 of ^GSPC at", "lies outside [-1, 1]", "backtest.leverage"]),
        ("flat + [0.6, -0.6]", 2, ["makes the bar's absolute sum exceed 1", "allow more in backtest.leverage"]),
        ("flat / len(forecasts.paths)", 2, ["failed while deciding", "AttributeError", "line 16: return flat / len("]),
        (
            "(bars.close.shift(-1) > bars.close).astype(float) / 2",
            4,
            ["strategy 'mine': the weight of ^", " at 201", "moves from", "it looks ahead, so a backtest of it means"],
        ),
        (
            "flat + np.random.default_rng().uniform(0, 0.5, flat.shape)",
            4,
            ["strategy 'mine': the weight of ^GSPC", "when it is asked twice", "it is not deterministic"],
        ),
    ],
)  # fmt: skip
def test_bad_weights_are_explained_and_nothing_is_lost(
    finished: Path, qtrade: Program, mine: Callable[[str], str], body: str, code: int, messages: list[str]
) -> None:
    path = mine(body)
    exit_code, message = refused(qtrade, finished, "backtest", "run", "-s", path)
    for part in messages:
        assert part in message
    assert exit_code == code
    assert path in message


def test_a_good_strategy_before_a_bad_one_is_kept_whole(
    place: Path, qtrade: Program, mine: Callable[[str], str]
) -> None:
    before = contents(only_run(place))
    outcome = qtrade(place, "backtest", "run", "-s", "momentum", "-s", mine("flat + np.nan"))
    assert (outcome.returncode, outcome.stdout) == (2, "")
    after = contents(only_run(place))
    assert {name: after[name] for name in before} == before
    assert sorted(Path(name).name for name in after.keys() - before.keys()) == [
        "equity.parquet", "metrics.json", "trades.parquet", "weights.parquet",
    ]  # fmt: skip
    names = [trial.strategy.partition("(")[0] for trial in Ledger(place / "runs" / "trials.sqlite").trials()]
    assert names == ["forecast_sign", "vol_target", "buy_and_hold", "momentum"]


def test_what_is_above_the_cap_passes_where_the_account_may_borrow(
    place: Path, qtrade: Program, mine: Callable[[str], str]
) -> None:
    path = mine("flat + [1.5, 0.0]")
    outcome = qtrade(place, "backtest", "run", "-s", path, "--account", "leverage=2", "--json")
    assert outcome.returncode == 0, outcome.stderr
    (one,) = json.loads(outcome.stdout)["backtests"]
    assert (one["strategy"], one["params"]) == ("mine", {"size": 0.5})
    assert one["metrics"]["exposure"] > 1.4


# --- bad forecasts, accounts, ledgers and bars ---


@pytest.mark.parametrize(
    ("spoil", "messages"),
    [
        (lambda table: table.iloc[:0], ["are not what training writes", "there are no rows", "qtrade train --config"]),
        (lambda table: table.drop(columns="y_hat_02"), ["are not what training writes", "y_hat_02"]),
        (lambda table: table.assign(y_hat_02=np.nan), ["the forecast for ^GSPC at 2017-", "is not finite"]),
        (lambda table: pd.concat([table, table]), ["are not what training writes", "rows repeat"]),
        (
            lambda table: table.assign(origin=table["origin"] + pd.Timedelta("12h")),
            ["the forecasts have origins or symbols that the bars lack", "train the run again"],
        ),
        (lambda table: table.assign(symbol="SPY").drop_duplicates("origin"), ["symbols that the bars lack"]),
    ],
    ids=["empty", "a column missing", "no numbers", "repeated", "other bars", "other symbols"],
)
def test_forecasts_that_cannot_be_traded_are_refused(
    place: Path, qtrade: Program, spoil: Callable[[pd.DataFrame], pd.DataFrame], messages: list[str]
) -> None:
    path = only_run(place) / "forecasts.parquet"
    spoil(pd.read_parquet(path)).to_parquet(path)
    for command in (
        ("backtest", "run", "-s", "forecast_sign"),
        ("sweep", "run", "-s", "forecast_sign", "-p", "step=1,2"),
    ):
        code, message = refused(qtrade, place, *command)
        assert code == 3
        for part in messages:
            assert part in message


def test_forecasts_of_half_the_bars_leave_the_rest_flat_and_are_told(place: Path, qtrade: Program) -> None:
    path = only_run(place) / "forecasts.parquet"
    frame = pd.read_parquet(path)
    origins = frame["origin"].drop_duplicates().sort_values()
    quarter = len(origins) // 4
    gone = origins.iloc[quarter : quarter + len(origins) // 2]
    frame[~frame["origin"].isin(gone)].to_parquet(path)
    outcome = qtrade(place, "backtest", "run", "-s", "forecast_sign")
    assert outcome.returncode == 0, outcome.stderr
    assert "Forecasts cover 50% of the decisions; a strategy that needs one is flat elsewhere." in said(outcome.stdout)
    told = metrics_of(place, "forecast_sign")
    assert told["forecast_covered_share"] == pytest.approx(1 - len(gone) / len(origins))
    (weights,) = only_run(place).glob("backtests/forecast_sign-*/weights.parquet")
    decided = pd.DataFrame(pd.read_parquet(weights)["decided"])
    assert (decided.loc[pd.DatetimeIndex(gone)] == 0).all(axis=None)
    assert (decided.drop(pd.DatetimeIndex(gone)).iloc[:-1] != 0).all(axis=None)


def test_a_bankrupt_account_stops_is_told_and_loses_no_other(
    place: Path, qtrade: Program, mine: Callable[[str], str]
) -> None:
    before = contents(only_run(place))
    short = mine("flat - self.size")
    given = ("-s", f"{short}(size=20.0)", "-s", "momentum", "--account", "leverage=50")
    outcome = qtrade(place, "backtest", "run", *given)
    assert outcome.returncode == 5
    assert "Traceback" not in outcome.stderr
    told = metrics_of(place, "mine")
    (folder,) = only_run(place).glob("backtests/mine-*")
    equity = pd.read_parquet(folder / "equity.parquet")["equity"]
    message = said(outcome.stderr)
    assert (
        f"mine.py'(size=20.0): the account is ruined, it is worth {equity.iloc[-1]:,.2f} at {told['ruined']}" in message
    )
    assert "the backtests are saved" in message
    # Both are in the table and in the ledger, and saved.
    assert [name for name in ("mine", "momentum") if f"\n{name}" in outcome.stdout] == ["mine", "momentum"]
    assert metrics_of(place, "momentum")["ruined"] is None
    kept = Ledger(place / "runs" / "trials.sqlite").trials()
    assert [trial.sharpe is not None and trial.bars == told["metrics"]["bars"] for trial in kept[3:]] == [True, True]
    # From the ruin on the account stands still, at what a short position of a rising market lost.
    ruin = pd.Timestamp(told["ruined"])
    assert (equity.loc[ruin:] == equity.loc[ruin]).all()
    assert equity.loc[ruin] <= 0 < equity.loc[:ruin].iloc[:-1].min()
    assert pd.read_parquet(folder / "trades.parquet")["bar"].max() <= ruin
    after = contents(only_run(place))
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("command", [("backtest", "run", "-s", "forecast_sign"), ("trials",)])
def test_a_broken_ledger_is_refused_before_anything_is_written(
    place: Path, qtrade: Program, command: tuple[str, ...]
) -> None:
    (place / "runs" / "trials.sqlite").write_bytes(b"no database at all, but long enough to be one" * 50)
    code, message = refused(qtrade, place, *command)
    assert code == 3
    assert "the trial ledger runs/trials.sqlite cannot be used" in message
    assert "restore a copy of it" in message


@pytest.mark.parametrize("price", ["0", "-5"])
def test_a_price_of_nothing_is_refused_where_it_is_fetched(tmp_path: Path, qtrade: Program, price: str) -> None:
    rows = [f"2024-01-{day:02d},10,12,9,{10 + day / 100},5" for day in range(1, 29)]
    rows[9] = f"2024-01-10,10,12,{price},10,5"
    (tmp_path / "coin.csv").write_text("\n".join(["date,open,high,low,close,volume", *rows]), encoding="utf-8")
    outcome = qtrade(tmp_path, "fetch", "--source", "file", "--path", "coin.csv", "--calendar", "24/7")
    assert outcome.returncode == 3
    assert outcome.stdout == ""
    message = said(outcome.stderr)
    assert "coin: the bars have errors: " in message
    assert "2024-01-10" in message
    assert "qtrade data verify coin" in message


# --- what was tried ---


def test_trials_are_listed_newest_first_and_counted_by_market(finished: Path, qtrade: Program) -> None:
    everything, here = (qtrade(finished, "trials", *run, "--json") for run in ((), ("run",)))
    assert everything.returncode == here.returncode == 0
    rows = json.loads(everything.stdout)
    assert json.loads(here.stdout) == rows
    assert [row["strategy"].partition("(")[0] for row in rows] == ["buy_and_hold", "vol_target", "forecast_sign"]
    assert {row["kind"] for row in rows} == {"backtest"}
    assert {tuple(row["symbols"]) for row in rows} == {SYMBOLS}
    told = metrics_of(finished, "forecast_sign")["metrics"]
    assert rows[-1]["sharpe_per_bar"] * 252**0.5 == pytest.approx(told["sharpe"])
    assert rows[-1]["bars"] == told["bars"]


def test_trials_of_a_run_say_what_luck_alone_would_show(finished: Path, qtrade: Program) -> None:
    outcome = qtrade(finished, "trials", "run", "--last", "1")
    words = said(outcome.stdout)
    assert [name for name in ("buy_and_hold", "vol_target", "forecast_sign") if name in words] == ["buy_and_hold"]
    assert "3 on record in runs/trials.sqlite: 3 backtests" in words
    assert "judged against the luckiest of 3 useless trials" in words


def test_no_trial_is_no_error(tmp_path: Path, qtrade: Program) -> None:
    outcome = qtrade(tmp_path, "trials")
    assert outcome.returncode == 0
    assert "0 on record" in outcome.stdout
    assert list(tmp_path.iterdir()) == []


# --- one trade ---


def test_a_trade_is_explained_in_words_numbers_and_a_picture(place: Path, qtrade: Program) -> None:
    outcome = qtrade(place, "explain", "run", "-s", "forecast_sign", "--trade", "5")
    assert outcome.returncode == 0, outcome.stderr
    lines = outcome.stdout.splitlines()
    (folder,) = only_run(place).glob("backtests/forecast_sign-*")
    trades = pd.read_parquet(folder / "trades.parquet")
    row = trades.iloc[4]
    assert lines[0].startswith(f"Trade 5 of {len(trades)} of forecast_sign(")
    for part in ("Forecast by ridge, fold 1", "seed 0", f"Decided at the close of {row['decided']:%Y-%m-%d}", "cost: "):
        assert part in outcome.stdout
    assert f"at the open of {row['bar']:%Y-%m-%d}" in outcome.stdout
    picture = place / lines[-1]
    assert picture.read_bytes().startswith(b"\x89PNG")

    told = json.loads(qtrade(place, "explain", "run", "-s", "forecast_sign", "--trade", "5", "--json").stdout)
    assert told["trade"]["number"] == 5
    assert told["trade"]["symbol"] == row["symbol"]
    assert told["fill"]["price"] == pytest.approx(row["price"])


@pytest.mark.parametrize(
    ("strategy", "trade", "message"),
    [
        ("forecast_sign", "0", "there is no trade 0"),
        ("forecast_sign", "100000", "there is no trade 100000"),
        ("forecast_sign", "-1", "there is no trade -1"),
        ("momentum", "1", "there is no backtest of 'momentum'"),
        ("forecast_sign(step=3)", "1", "there is no backtest of 'forecast_sign(step=3)'"),
    ],
)
def test_a_trade_that_is_not_there_is_refused(
    finished: Path, qtrade: Program, strategy: str, trade: str, message: str
) -> None:
    code, words = refused(qtrade, finished, "explain", "run", "-s", strategy, "--trade", trade)
    assert code == 2
    assert message in words
    assert "choose one from 1 to " in words or "backtest it first: qtrade backtest run-" in words


# --- lists, and a workspace ---


def test_strategies_are_listed_and_one_is_explained(tmp_path: Path, qtrade: Program) -> None:
    rows = {row["name"]: row for row in json.loads(qtrade(tmp_path, "strategies", "--json").stdout)}
    assert {
        "forecast_sign", "path_momentum", "path_extrema", "tranches", "quantile_gate", "vol_target", "regime_gate",
        "cross_section", "buy_and_hold", "momentum", "random_entries",
    } <= rows.keys()  # fmt: skip
    assert all(row["what"] for row in rows.values())
    assert "threshold=0.0" in rows["forecast_sign"]["parameters"]
    one = qtrade(tmp_path, "strategies", "path_momentum", "--json")
    assert [row["parameter"] for row in json.loads(one.stdout)] == ["step", "cost_bps", "multiple"]
    assert all(row["what"] and row["type"] for row in json.loads(one.stdout))
    table = qtrade(tmp_path, "strategies", "vol_target").stdout
    assert "Yearly volatility aimed" in table
    code, message = refused(qtrade, tmp_path, "strategies", "vol_taget")
    assert (code, "did you mean 'vol_target'?" in message) == (2, True)


def test_a_broken_file_is_listed_with_the_line_that_breaks_it(tmp_path: Path, qtrade: Program) -> None:
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "broken.py").write_text("import numpy\n\nnumpy.nothing\n", encoding="utf-8")
    listed = {row["name"]: row["what"] for row in json.loads(qtrade(tmp_path, "strategies", "--json").stdout)}
    assert "broken.py, line 3: numpy.nothing" in listed["broken"]
    assert len(listed) > 10
    code, message = refused(qtrade, tmp_path, "strategies", "broken")
    assert code == 2
    assert "broken.py, line 3: numpy.nothing" in message


def test_init_writes_what_can_be_used_and_overwrites_nothing(tmp_path: Path, qtrade: Program) -> None:
    outcome = qtrade(tmp_path, "init", "research")
    assert outcome.returncode == 0, outcome.stderr
    assert all((tmp_path / line).is_file() for line in outcome.stdout.splitlines())
    assert "next: cd research && qtrade run --config qtrade.toml" in outcome.stderr
    folder = tmp_path / "research"
    with chdir(folder):
        config = load_config(Path("qtrade.toml"))
        loaded = [load_strategy(name, params, strategy_folders()) for name, params in config.strategies.items()]
    assert "agreement" in [one.name for one in loaded]
    listed = {row["name"]: row["file"] for row in json.loads(qtrade(folder, "strategies", "--json").stdout)}
    assert listed["agreement"] == str(Path("strategies/agreement.py"))
    for place, argument in ((tmp_path, ("research",)), (folder, ())):
        code, message = refused(qtrade, place, "init", *argument)
        assert code == 2
        assert "would be overwritten" in message


def test_the_strategy_of_a_workspace_runs_where_it_lies(tmp_path: Path, finished: Path, qtrade: Program) -> None:
    assert qtrade(tmp_path, "init").returncode == 0
    shutil.copytree(finished / "runs", tmp_path / "runs")
    outcome = qtrade(tmp_path, "backtest", "run", "-s", "agreement", "--set", "step=2", "--set", "vintages=3")
    assert outcome.returncode == 0, outcome.stderr
    assert metrics_of(tmp_path, "agreement")["spec"] == "agreement(majority=0.5, step=2, vintages=3)"

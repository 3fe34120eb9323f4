"""Runs are compared on what they share and nothing else, and those of other data are refused with the reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qtrade.errors import DataError, IntegrityError, UsageError
from qtrade.files import write_json, write_parquet
from qtrade.pipeline.compare import compare_runs
from qtrade.runs import Run

Made = Callable[..., Run]
HORIZONS = "evaluation.horizons=[1,6]"
TESTED = pd.date_range("2020-04-10", periods=500, tz="UTC")


class Watcher:
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def start(self, title: str, total: int) -> None:
        self.notes.append(title)

    def advance(self, steps: int, note: str) -> None:
        self.notes.append(note)

    def message(self, text: str) -> None:
        raise AssertionError(text)


def compared(*runs: Run) -> dict[str, Any]:
    told = compare_runs(runs, progress=Watcher())
    json.dumps(told, allow_nan=False)  # plain values throughout
    return told


def evaluated(run: Run, headline: str) -> Run:
    gates = [{"gate": "G2", "title": "Skill", "grade": headline, "reasons": ["because"]}]
    write_json(run.folder / "evaluation.json", {"verdict": {"headline": headline, "line": "So."}, "gates": gates})
    return run


def net(seed: int, drift: float = 0.0) -> pd.Series:
    """Net returns of the tested bars; what moves the market moves every strategy."""
    market = np.random.default_rng(0).standard_normal(500)
    own = np.random.default_rng([1, seed]).standard_normal(500)
    return pd.Series(drift + 0.01 * market + 0.003 * own, index=TESTED)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, made_run: Made) -> tuple[Run, Run]:
    """A run that knows nothing, and one that knows a third of what will happen; only to be read."""
    runs = tmp_path_factory.mktemp("pair")
    first = evaluated(made_run(runs, HORIZONS, "name=blind", luck=1), "INCONCLUSIVE")
    second = made_run(runs, HORIZONS, "name=seeing", "seed=4", luck=2, skill=1 / 3, tested=(100, 600))
    return first, second


# --- what is refused ---


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"symbols": ("A", "C")}, "symbols: A, B and A, C"),
        ({"tested": (100, 500)}, "period: 2020-01-01 00:00 to 2021-09-11 00:00, 620 bars; and 2020-01-01 00:00 to"),
        ({"market": 5}, "version of the bars: A 00000000 and 50000000, B 00000000 and 50000000"),
    ],
)
def test_runs_of_other_bars_are_refused_by_hash_and_in_words(
    tmp_path: Path, made_run: Made, other: dict[str, Any], words: str
) -> None:
    one, two = made_run(tmp_path, "name=one"), made_run(tmp_path, "name=two", **other)
    hashes = [run.manifest["facts"]["data"][:12] for run in (one, two)]
    with pytest.raises(UsageError) as caught:
        compared(one, two)
    assert caught.value.what == (
        f"{one.name} and {two.name} are of different data: data hash {hashes[0]} of {one.name}, "
        f"{hashes[1]} of {two.name}"
    )
    assert words in caught.value.why
    assert f"qtrade train --config {one.folder / 'config.toml'} --name NEW" in caught.value.fix


def test_one_of_many_with_other_bars_is_named(tmp_path: Path, made_run: Made, pair: tuple[Run, Run]) -> None:
    stranger = made_run(tmp_path, "name=stranger", market=1)
    with pytest.raises(UsageError, match=f"{pair[0].name} and {stranger.name} are of different data"):
        compared(*pair, stranger)


def test_paths_that_start_at_other_bars_are_refused(tmp_path: Path, made_run: Made, pair: tuple[Run, Run]) -> None:
    late = made_run(tmp_path, "name=late", "split.delay=1")
    with pytest.raises(UsageError, match="do not forecast the same returns") as caught:
        compared(pair[0], late)
    assert f"split.delay is 0 in {pair[0].name} and 1 in {late.name}" in caught.value.why


def test_a_run_that_used_the_future_is_not_compared(tmp_path: Path, made_run: Made, pair: tuple[Run, Run]) -> None:
    invalid = evaluated(made_run(tmp_path, "name=cheat"), "INVALID")
    with pytest.raises(IntegrityError, match=f"{invalid.name} is INVALID, so nothing of it is compared"):
        compared(pair[0], invalid)


def test_one_run_is_not_enough(pair: tuple[Run, Run]) -> None:
    with pytest.raises(UsageError, match="it takes two runs to compare"):
        compared(pair[0])


def test_an_edited_configuration_is_refused(tmp_path: Path, made_run: Made, pair: tuple[Run, Run]) -> None:
    edited = made_run(tmp_path, "name=edited")
    path = edited.folder / "config.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("seed = 0", "seed = 3"), encoding="utf-8")
    with pytest.raises(UsageError, match="another configuration than its forecasts"):
        compared(pair[0], edited)


def test_forecasts_without_a_common_origin_are_refused(tmp_path: Path, made_run: Made) -> None:
    early, late = made_run(tmp_path, "name=early"), made_run(tmp_path, "name=late")
    for run, half in ((early, slice(0, 500)), (late, slice(500, 1000))):
        path = run.folder / "forecasts.parquet"
        write_parquet(path, pd.read_parquet(path).iloc[half])
    with pytest.raises(UsageError, match="share no origin") as caught:
        compared(early, late)
    assert f"{early.name} from 2020-04-10 to 2020-12-15" in caught.value.why


def test_missing_forecasts_are_told(tmp_path: Path, made_run: Made, pair: tuple[Run, Run]) -> None:
    unfinished = made_run(tmp_path, "name=unfinished")
    (unfinished.folder / "forecasts.parquet").unlink()
    with pytest.raises(DataError, match="its training is not finished"):
        compared(pair[0], unfinished)


# --- forecasts ---


def test_the_better_forecasts_are_found_and_told(pair: tuple[Run, Run]) -> None:
    blind, seeing = pair
    told = compared(blind, seeing)
    assert [one["label"] for one in told["runs"]] == [blind.name, seeing.name]
    assert [one["headline"] for one in told["runs"]] == ["INCONCLUSIVE", None]
    assert [one["fit_seconds"] for one in told["runs"]] == [4.0, 4.0]
    assert told["shared"] == {
        "forecasts": 1000,
        "origins": 500,
        "first": "2020-04-10 00:00:00+00:00",
        "last": "2021-08-22 00:00:00+00:00",
    }
    assert [one["horizon_bars"] for one in told["forecasts"]] == [1, 6]
    for one in told["forecasts"]:
        base, other = one["runs"]
        assert "r2_gain" not in base
        assert other["r2_gain"] == pytest.approx(other["r2_vs_zero"] - base["r2_vs_zero"])
        assert other["r2_gain"] == pytest.approx(5 / 9, abs=0.1)  # of which two thirds remain, squared: 4 / 9
        assert (other["r2_answer"], other["crps_answer"]) == ("better", "better")
    assert told["lines"][0].startswith(f"The forecasts of {seeing.name} are better 1 and 6 bars ahead (R² +5")
    assert told["lines"][0].endswith(f"adjusted p below 0.001) than those of {blind.name}.")
    assert told["notes"] == [f"{seeing.name} has not been evaluated, so nobody has checked that it used no future."]


def test_the_other_way_round_the_same_is_worse(pair: tuple[Run, Run]) -> None:
    forth, back = compared(*pair), compared(*reversed(pair))
    for here, there in zip(forth["forecasts"], back["forecasts"], strict=True):
        for loss in ("r2", "crps"):
            assert here["runs"][1][f"{loss}_gain"] == pytest.approx(-there["runs"][1][f"{loss}_gain"])
            assert here["runs"][1][f"{loss}_p_holm"] == pytest.approx(there["runs"][1][f"{loss}_p_holm"])
    assert f"The forecasts of {pair[0].name} are worse 1 and 6 bars ahead" in back["lines"][0]


def test_a_run_held_against_itself_is_refused(pair: tuple[Run, Run]) -> None:
    with pytest.raises(UsageError, match=f"{pair[0].name} is given twice") as caught:
        compared(*pair, Run(pair[0].folder / "folds" / ".."))
    assert caught.value.fix


def test_a_run_held_against_a_copy_is_identical(tmp_path: Path, pair: tuple[Run, Run]) -> None:
    name = pair[0].name
    copy = tmp_path / name
    shutil.copytree(pair[0].folder, copy)
    told = compared(pair[0], Run(copy))
    assert [one["label"] for one in told["runs"]] == [f"{name} (1)", f"{name} (2)"]
    assert told["lines"][0] == f"{name} (2) and {name} (1) make identical forecasts."
    assert told["settings"] == []
    for one in told["forecasts"]:
        assert one["runs"][1]["r2_gain"] == 0
        assert one["runs"][1]["r2_p_holm"] == 1
        assert one["runs"][1]["r2_answer"] == "identical"


def test_only_common_origins_count_and_outcomes_come_from_the_bars(
    tmp_path: Path, made_run: Made, pair: tuple[Run, Run]
) -> None:
    poisoned = made_run(tmp_path, HORIZONS, "name=poisoned", luck=1)
    short = made_run(tmp_path, HORIZONS, "name=short", "seed=4", luck=2)
    path = short.folder / "forecasts.parquet"
    kept = pd.read_parquet(path).iloc[100:900]
    write_parquet(path, kept)
    before = compared(poisoned, short)
    table = pd.read_parquet(poisoned.folder / "forecasts.parquet")
    columns = [name for name in table.columns if name.startswith("y_hat")]
    table.loc[[*range(100), *range(900, 1000)], columns] = 1e6
    table[[name for name in table.columns if name.startswith("y_0")]] = 7.0  # what the file says happened
    write_parquet(poisoned.folder / "forecasts.parquet", table)
    after = compared(poisoned, short)
    assert after["forecasts"] == before["forecasts"]
    assert [one["shared_share"] for one in after["runs"]] == [0.8, 1.0]
    assert after["shared"]["forecasts"] == 800
    assert after["lines"][0].startswith(f"Nothing tells the forecasts of {short.name} from those of {poisoned.name}")


def test_horizons_that_a_path_does_not_reach_are_left_out_and_named(
    tmp_path: Path, made_run: Made, pair: tuple[Run, Run]
) -> None:
    short = made_run(tmp_path, "name=short", "window.horizon=3", "evaluation.horizons=[2]")
    told = compared(pair[0], short)
    assert [one["horizon_bars"] for one in told["forecasts"]] == [1, 2]
    assert f"Not compared 6 bars ahead: the paths of {short.name} end after 3 bars." in told["notes"]


def test_too_few_outcomes_are_not_judged(tmp_path: Path, made_run: Made) -> None:
    runs = [made_run(tmp_path, HORIZONS, f"name={name}", tested=(100, 115)) for name in ("one", "two")]
    told = compared(*runs)
    assert told["forecasts"] == []
    assert told["lines"][0].startswith("Too few origins are shared")
    assert any("fewer than 20 outcomes" in note for note in told["notes"])


def test_the_more_runs_the_harder_and_that_is_said(tmp_path: Path, made_run: Made, pair: tuple[Run, Run]) -> None:
    others = [made_run(tmp_path, HORIZONS, f"name=other{luck}", f"seed={luck}", luck=luck) for luck in (5, 6, 7)]
    alone = compared(pair[0], others[0])["forecasts"][0]["runs"][1]
    together = compared(pair[0], *others)
    among = together["forecasts"][0]["runs"][1]
    assert among["r2_p"] == pytest.approx(alone["r2_p"])
    assert among["r2_p_holm"] >= alone["r2_p_holm"]
    assert f"adjusted for all 3 runs that are held against {pair[0].name}" in together["lines"][-1]


# --- trading ---


def test_strategies_of_one_file_and_account_are_compared_on_the_bars_both_traded(
    tmp_path: Path, made_run: Made, made_backtest: Callable[..., Path]
) -> None:
    one, two = (made_run(tmp_path, f"name={name}", f"seed={luck}", luck=luck) for luck, name in enumerate("ab"))
    made_backtest(one, net(1))
    made_backtest(two, net(2, 0.002).iloc[20:])  # its test began later
    told = compared(one, two)
    (found,) = told["trading"]
    assert found["strategy"] == "path_momentum()"
    assert (found["bars"], found["first"]) == (480, str(TESTED[20]))
    base, other = found["runs"]
    assert base["net_annual_return"] == pytest.approx(net(1).iloc[20:].mean() * 365)
    assert other["sharpe_difference"] == pytest.approx(other["sharpe"] - base["sharpe"])
    assert other["sharpe_low"] > 0
    assert other["sharpe_p_holm"] == other["sharpe_p"] < 0.05
    assert found["superior"] == [two.name]
    assert told["lines"][1].startswith(f"The Sharpe ratio on {two.name} differs from that on {one.name} beyond chance")
    (note,) = (one for one in told["notes"] if "began at other bars" in one)
    assert f"2020-04-10 on {one.name} (20 of its bars are left out)" in note
    assert f"2020-04-30 on {two.name} (0 of its bars are left out)" in note
    assert (base["first"], other["first"]) == (str(TESTED[0]), str(TESTED[20]))
    (back,) = compared(two, one)["trading"]
    assert back["runs"][1]["sharpe_difference"] == pytest.approx(-other["sharpe_difference"])
    assert back["runs"][1]["sharpe_high"] == pytest.approx(-other["sharpe_low"])
    assert back["superior"] == []


def test_backtests_that_differ_in_more_than_the_forecasts_are_left_out_and_named(
    tmp_path: Path, made_run: Made, made_backtest: Callable[..., Path]
) -> None:
    one, two = (made_run(tmp_path, f"name={name}", f"seed={luck}", luck=luck) for luck, name in enumerate("ab"))
    made_backtest(one, net(1), strategy="same")
    made_backtest(two, net(1), strategy="same")
    made_backtest(one, net(1), strategy="paid")
    made_backtest(two, net(2), strategy="paid", cash=1.0)
    made_backtest(one, net(1), strategy="edited", source="old")
    made_backtest(two, net(2), strategy="edited", source="new")
    made_backtest(one, net(1), strategy="alone")
    altered = made_backtest(two, net(2), strategy="altered")
    altered.rename(altered.with_name("altered-00000000"))
    cut = made_backtest(two, net(2), strategy="cut")
    (cut / "equity.parquet").unlink()
    told = compared(one, two)
    assert [found["strategy"] for found in told["trading"]] == ["same()"]
    assert told["trading"][0]["runs"][1]["sharpe_difference"] == 0
    assert told["trading"][0]["runs"][1]["sharpe_p"] == 1
    assert f"Every strategy earns the same on {two.name} and {one.name}." in told["lines"]
    notes = "\n".join(told["notes"])
    assert f"paid() on {one.name} is not compared: it was tested with another account there." in notes
    assert f"paid(), cash=1.0, on {two.name} is not compared with that on {one.name}: it was tested with" in notes
    assert f"edited() on {two.name} is not compared with that on {one.name}: its file was another one there." in notes
    assert f"alone() on {one.name} is not compared: it was tested with no other run." in notes
    assert f"A backtest of {two.name} is left out: {altered.with_name('altered-00000000')} was altered" in notes
    assert f"A backtest of {two.name} is left out: {cut / 'equity.parquet'} is missing." in notes


def test_accounts_that_began_at_one_bar_need_no_note(
    tmp_path: Path, made_run: Made, made_backtest: Callable[..., Path]
) -> None:
    one, two = (made_run(tmp_path, f"name={name}", f"seed={luck}", luck=luck) for luck, name in enumerate("ab"))
    made_backtest(one, net(1))
    made_backtest(two, net(2).iloc[:480])  # its test ended earlier, which changes no holding
    told = compared(one, two)
    assert [cell["bars_left_out"] for cell in told["trading"][0]["runs"]] == [20, 0]
    assert not [note for note in told["notes"] if "began at other bars" in note]


def test_buy_and_hold_is_that_of_the_account_which_began_last_whichever_run_is_first(
    tmp_path: Path, made_run: Made, made_backtest: Callable[..., Path]
) -> None:
    early, late = (made_run(tmp_path, f"name={name}", f"seed={luck}", luck=luck) for luck, name in enumerate("ab"))
    made_backtest(early, net(1))
    path = made_backtest(late, net(2).iloc[20:]) / "equity.parquet"
    series = pd.read_parquet(path)
    series["buy_and_hold_net"] = 0.5 * series["buy_and_hold_net"] + 0.001  # as drifted weights and costs make it
    write_parquet(path, series)
    forth, back = (compared(*runs)["trading"][0] for runs in ((early, late), (late, early)))
    assert forth["buy_and_hold"] == back["buy_and_hold"]
    expected = series["buy_and_hold_net"].mean() * 365
    assert forth["buy_and_hold"]["net_annual_return"] == pytest.approx(expected)


def test_a_test_that_was_not_made_is_not_claimed(
    tmp_path: Path, made_run: Made, made_backtest: Callable[..., Path]
) -> None:
    one, two = (made_run(tmp_path, f"name={name}", f"seed={luck}", luck=luck) for luck, name in enumerate("ab"))
    made_backtest(one, 0 * net(1), strategy="idle")
    made_backtest(two, net(2), strategy="idle")
    told = compared(one, two)
    assert told["trading"][0]["runs"][1]["sharpe_p_holm"] is None
    untested = (
        f"Not tested is whether the Sharpe ratio on {two.name} differs from that on {one.name} with idle(): "
        "the shared bars are too few, or returns on them do not vary."
    )
    assert told["lines"][1:] == [untested]
    made_backtest(one, net(1), strategy="busy")
    made_backtest(two, net(3), strategy="busy")
    claimed, left = compared(one, two)["lines"][1:]
    assert claimed.startswith(f"No strategy has another Sharpe ratio on {two.name}")
    assert left == untested


@pytest.mark.parametrize("gone", ["equity.parquet", "metrics.json"])
def test_a_backtest_whose_file_is_gone_was_not_untested(
    tmp_path: Path, made_run: Made, made_backtest: Callable[..., Path], gone: str
) -> None:
    one, two = (made_run(tmp_path, f"name={name}", f"seed={luck}", luck=luck) for luck, name in enumerate("ab"))
    (made_backtest(one, net(1)) / gone).unlink()
    made_backtest(two, net(2))
    notes = "\n".join(compared(one, two)["notes"])
    assert f"{gone} is missing." in notes
    assert f"path_momentum() on {two.name} is not compared with that on {one.name}: that one cannot be read." in notes
    assert "it was not tested there" not in notes
    notes = "\n".join(compared(two, one)["notes"])
    assert f"path_momentum() on {two.name} is not compared: the other one cannot be read." in notes


@pytest.mark.parametrize("damage", ["column", "nan", "twice"])
def test_series_that_no_backtest_writes_are_left_out(
    tmp_path: Path, made_run: Made, made_backtest: Callable[..., Path], damage: str
) -> None:
    one, two = (made_run(tmp_path, f"name={name}", f"seed={luck}", luck=luck) for luck, name in enumerate("ab"))
    made_backtest(one, net(1))
    path = made_backtest(two, net(2)) / "equity.parquet"
    series = pd.read_parquet(path)
    if damage == "column":
        series = series.drop(columns="net")
    elif damage == "nan":
        series.iloc[3, 0] = np.nan
    else:
        series = pd.concat([series, series.iloc[:1]])
    write_parquet(path, series)
    told = compared(one, two)
    assert told["trading"] == []
    assert f"No strategy was backtested with the same account on both {two.name} and {one.name}." in told["lines"]
    assert any(note.startswith(f"A backtest of {two.name} is left out: {path} ") for note in told["notes"])


# --- settings ---


def test_every_setting_that_differs_is_listed_and_no_other(tmp_path: Path, made_run: Made) -> None:
    one = made_run(tmp_path, "name=one", "strategies={}", "backtest.costs.fees_bps=3")
    two = made_run(tmp_path, "name=two", "window.seq_len=9", facts={"device": "cuda"})
    rows = {row["key"]: row["values"] for row in compared(one, two)["settings"]}
    assert rows == {
        "window.seq_len": ["8", "9"],
        "backtest.costs.fees_bps": ["3.0", "1.0"],
        "strategies": ["{}", ""],
        "strategies.forecast_sign": ["", "{}"],
        "strategies.path_momentum": ["", "{}"],
        "made with device": ['"cpu"', '"cuda"'],
    }

"""Sweeps on the command line: each variant is what a backtest of it alone is, and the best is doubted."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qtrade.backtest.engine import simulate
from qtrade.backtest.metrics import FEW
from qtrade.config import RunConfig
from qtrade.ledger import Ledger
from qtrade.pipeline.axes import parse_axis
from qtrade.pipeline.sweep import Sweep, best_of, not_judged, sweep_run
from qtrade.pipeline.venue import Venue, make_venue, open_venue
from qtrade.progress import Silent
from qtrade.runs import Run
from qtrade.strategy import load_strategy, strategy_folders
from qtrade.types import BAR_FIELDS, Bars

Program = Callable[..., CompletedProcess[str]]

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
AXES = ("-p", "step=1,2,4", "-p", "threshold=0:0.0002:0.0001", "-p", "long_only=true,false")
VARIANTS = 18
FILE = '''"""A strategy."""
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mine:
    """Decides."""

    seed: int = 0
    peek: int = 0
    size: float = 0.5

    def weights(self, bars, forecasts):
        noise = np.random.default_rng(self.seed).choice([-0.5, 0.5], bars.close.shape)
        return {}
'''


def contents(folder: Path) -> dict[str, str]:
    """Checksum of every file but locks, which come and go."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def only_run(folder: Path) -> Run:
    (manifest,) = folder.glob("runs/*/manifest.json")
    return Run(manifest.parent)


def only_sweep(folder: Path) -> Path:
    (told,) = folder.glob("runs/*/sweeps/*/sweep.json")
    return told.parent


def told_in(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    return told


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    qtrade: Program,
    without_evaluation: Callable[[], AbstractContextManager[None]],
) -> Path:
    """A folder with a linear model of one symbol; only to be read."""
    folder = tmp_path_factory.mktemp("trained")
    with without_evaluation():
        assert qtrade(folder, "fetch", "^GSPC").returncode == 0
        settings = [part for one in SETTINGS for part in ("--set", one)]
        assert qtrade(folder, "train", "^GSPC", "--start", "2014-06-01", *settings).returncode == 0
    return folder


@pytest.fixture(scope="module")
def first(
    tmp_path_factory: pytest.TempPathFactory, trained: Path, qtrade: Program
) -> tuple[Path, CompletedProcess[str]]:
    """A copy of it with a sweep, and what the sweep said; only to be read."""
    folder = tmp_path_factory.mktemp("swept") / "place"
    shutil.copytree(trained, folder)
    outcome = qtrade(folder, "sweep", "run", "-s", "forecast_sign", *AXES)
    assert outcome.returncode == 0, outcome.stderr
    return folder, outcome


@pytest.fixture
def swept(first: tuple[Path, CompletedProcess[str]]) -> Path:
    return first[0]


@pytest.fixture
def place(tmp_path: Path, trained: Path) -> Path:
    """A copy of the trained run, to be written to."""
    folder = tmp_path / "place"
    shutil.copytree(trained, folder)
    return folder


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures of the page out: drawing them takes longer than everything else."""
    monkeypatch.setattr("qtrade.report.sweep.render", lambda told, table: "a page")


@pytest.fixture
def mine(tmp_path: Path) -> Callable[[str], str]:
    """Write a strategy that returns this, and give its path."""

    def write(body: str) -> str:
        path = tmp_path / "mine.py"
        path.write_text(FILE.format(body), encoding="utf-8")
        return str(path)

    return write


def refused(qtrade: Program, folder: Path, *arguments: str, recorded: int = 0) -> tuple[int, str]:
    """Run a sweep that has to fail in words and leave every file as it was; give its exit code and message.

    What was simulated before it failed is in the ledger, and nowhere else.
    """
    ledger = Ledger(folder / "runs" / "trials.sqlite")
    before, known = contents(folder), len(ledger.trials()) if recorded else 0
    outcome = qtrade(folder, "sweep", "run", *arguments)
    after = contents(folder)
    if recorded:
        assert len(ledger.trials()) == known + recorded
        before, after = ({name: one[name] for name in one if "trials.sqlite" not in name} for one in (before, after))
    assert after == before
    assert not list(folder.glob("runs/*/sweeps"))
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr
    return outcome.returncode, " ".join(outcome.stderr.split())


# --- what is made ---


def test_the_best_is_told_with_what_is_left_of_it(first: tuple[Path, CompletedProcess[str]]) -> None:
    folder, outcome = first
    lines = outcome.stdout.splitlines()
    assert lines[0].startswith(f"{VARIANTS} variants of forecast_sign on ")
    assert lines[1].startswith("best: step=")
    assert "buy and hold" in lines[1]
    words = " ".join(outcome.stdout.split())
    assert f"the luckiest of {VARIANTS} useless trials would show " in words
    for part in ("(DSR)", "(PBO)", "chosen afresh for each of 7 blocks", "(50% is blind choice)"):
        assert part in words
    assert "variants, the best included, passed the look-ahead audit and came out the same in vectorbt (" in words
    assert [(folder / line).name for line in lines[-2:]] == ["sweep.html", "variants.csv"]
    assert all((folder / line).is_file() for line in lines[-2:])


def test_a_sweep_is_saved_as_a_page_a_table_and_numbers(swept: Path) -> None:
    folder = only_sweep(swept)
    assert sorted(path.name for path in folder.iterdir()) == [
        "sweep.html", "sweep.json", "variants.csv", "variants.parquet",
    ]  # fmt: skip
    told = told_in(folder)
    assert {
        "run", "strategy", "spec", "axes", "variants", "bars", "first", "last", "engine",
        "forecast_covered_share", "audited", "account", "best",
        "buy_and_hold", "median_sharpe", "luck", "pbo_share", "pbo_blocks", "walk_forward",
    } <= set(told)  # fmt: skip
    table = pd.read_csv(folder / "variants.csv")
    pd.testing.assert_frame_equal(table, pd.read_parquet(folder / "variants.parquet"))
    assert len(table) == told["variants"] == VARIANTS
    assert not table.duplicated(["step", "threshold", "long_only"]).any()
    assert table["threshold"].drop_duplicates().tolist() == [0.0, 0.0001, 0.0002]
    assert [axis["name"] for axis in told["axes"]] == ["step", "threshold", "long_only"]
    best = table.iloc[int(table["sharpe"].argmax())]
    assert told["best"]["sharpe"] == pytest.approx(best["sharpe"], rel=1e-12)
    assert told["best"]["params"] == {name: best[name] for name in ("step", "threshold", "long_only")}
    assert told["best"]["sharpe_low"] < told["best"]["sharpe"] < told["best"]["sharpe_high"]
    assert told["median_sharpe"] == pytest.approx(table["sharpe"].median())
    assert told["luck"]["trials"] == VARIANTS
    assert told["luck"]["expected_best_sharpe"] > 0
    assert told["luck"]["dsr_probability"] < told["luck"]["psr_probability"]
    assert 0 <= told["pbo_share"] <= 1
    page = (folder / "sweep.html").read_text(encoding="utf-8")
    assert "<svg" in page or "data:image/png" in page


def test_a_variant_is_what_a_backtest_of_it_alone_is(swept: Path, tmp_path: Path, qtrade: Program) -> None:
    folder = tmp_path / "place"
    shutil.copytree(swept, folder)
    table = pd.read_csv(only_sweep(folder) / "variants.csv")
    rows = [int(table["sharpe"].argmax()), int(table["sharpe"].argmin()), 7]
    specs = [f"forecast_sign(step={row.step}, threshold={row.threshold}, long_only={str(row.long_only).lower()})"
             for row in table.iloc[rows].itertuples()]  # fmt: skip
    outcome = qtrade(folder, "backtest", "run", "--json", *(part for spec in specs for part in ("-s", spec)))
    assert outcome.returncode == 0, outcome.stderr
    told = json.loads(outcome.stdout)["backtests"]
    same = ("sharpe", "gross_annual_return", "cost_annual", "net_annual_return", "annual_volatility", "max_drawdown",
            "turnover_per_year", "exposure")  # fmt: skip
    for (_, row), one in zip(table.iloc[rows].iterrows(), told, strict=True):
        for name in same:
            assert row[name] == pytest.approx(one["metrics"][name], rel=1e-9, abs=1e-12), name
        assert row["fills"] == one["metrics"]["trades"]
        assert bool(row["ruined"]) == (one["ruined"] is not None)
    # What was tried in the sweep is tried no second time.
    assert {one["luck"]["trials"] for one in told} == {VARIANTS}


def test_the_ledger_holds_every_variant_once(swept: Path, tmp_path: Path, qtrade: Program) -> None:
    folder = tmp_path / "place"
    shutil.copytree(swept, folder)
    before = contents(folder)
    kept = Ledger(folder / "runs" / "trials.sqlite").trials()
    assert [trial.kind for trial in kept] == ["sweep"] * VARIANTS
    assert len({trial.strategy for trial in kept}) == VARIANTS
    again = qtrade(folder, "sweep", "run", "-s", "forecast_sign", *AXES, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == told_in(only_sweep(folder))
    assert contents(folder) == before
    table = pd.read_csv(only_sweep(folder) / "variants.csv")
    per_bar = np.sort(table["sharpe"].to_numpy()) / math.sqrt(252)
    assert sorted(trial.sharpe or 0.0 for trial in kept) == pytest.approx(per_bar.tolist())


def test_trials_fold_a_sweep_into_a_line(swept: Path, qtrade: Program) -> None:
    listed = qtrade(swept, "trials", "run")
    assert f"forecast_sign, {VARIANTS} variants" in " ".join(listed.stdout.split())
    assert f"{VARIANTS} on record in runs/trials.sqlite: {VARIANTS} swept variants" in " ".join(listed.stdout.split())
    assert len(json.loads(qtrade(swept, "trials", "--json").stdout)) == VARIANTS


# --- what is chosen from the past ---


def in_process(folder: Path, *axes: str) -> Sweep:
    strategy = load_strategy("forecast_sign", {}, strategy_folders())
    return sweep_run(only_run(folder), strategy, [parse_axis(one) for one in axes], progress=Silent())


@pytest.mark.usefixtures("unpainted")
def test_the_walk_forward_is_one_account_that_chooses_before_each_block(place: Path) -> None:
    ahead = in_process(place, "step=1,2,4", "threshold=0,0.0001").told["walk_forward"]
    run = only_run(place)
    venue = open_venue(run, run.config)
    index, length = venue.span.index, len(venue.span)
    starts = [length * block // 8 for block in range(9)]
    specs = [(step, threshold) for step in (1, 2, 4) for threshold in (0, 0.0001)]
    loaded = [load_strategy(f"forecast_sign(step={s}, threshold={t})", {}, strategy_folders()) for s, t in specs]
    decided = [venue.decide(one) for one in loaded]
    nets = [venue.trade(weights).net.to_numpy() for weights in decided]

    def ratio(net: Any) -> float:
        return float(net.mean() / net.std(ddof=1) * math.sqrt(252)) if np.ptp(net) else 0.0

    stitched = decided[0] * 0
    for block, row in enumerate(ahead["blocks"], start=1):
        first, stop = starts[block], starts[block + 1]
        assert (row["first"], row["last"]) == (str(index[first]), str(index[stop - 1]))
        past = [ratio(net[:first]) for net in nets]
        inside = [ratio(net[first:stop]) for net in nets]
        best = int(np.argmax(past))
        assert row["chosen"] == {"step": specs[best][0], "threshold": specs[best][1]}
        assert row["sharpe_before"] == pytest.approx(past[best])
        assert row["sharpe_in"] == pytest.approx(inside[best])
        assert row["best_sharpe_in"] == pytest.approx(max(inside))
        # Chosen at the close before the block, so that it is filled at its first open.
        stitched.iloc[first - 1 : stop - 1] = decided[best].iloc[first - 1 : stop - 1]
    net = simulate(venue.span, stitched, venue.account).net.to_numpy()[starts[1] :]
    assert ahead["sharpe"] == pytest.approx(ratio(net))
    assert ahead["mean_rank_share"] == pytest.approx(np.mean([row["rank_share"] for row in ahead["blocks"]]))


@pytest.mark.usefixtures("unpainted")
def test_later_bars_change_no_earlier_choice(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = ("step=1,2,4", "threshold=0,0.0001")
    before = in_process(place, *axes).told["walk_forward"]["blocks"]
    block = 4
    first = pd.Timestamp(before[block]["first"])

    def poisoned(bars: Bars) -> Bars:
        generator = np.random.default_rng(0)
        later = np.asarray(bars.index >= first)[:, None]
        factor = np.where(later, np.exp(generator.normal(0, 0.1, bars.close.shape)), 1.0)
        return replace(bars, **{name: getattr(bars, name) * factor for name in BAR_FIELDS})

    def open_poisoned(run: Run, config: RunConfig) -> Venue:
        return make_venue(poisoned(run.bars), run.forecasts(config.model)[0].seed_mean(), config)

    monkeypatch.setattr("qtrade.pipeline.sweep.open_venue", open_poisoned)
    after = in_process(place, *axes).told["walk_forward"]["blocks"]
    assert after[:block] == before[:block]
    # The choice for the poisoned block is made before it, and only what comes of it is another.
    for name in ("first", "chosen", "sharpe_before"):
        assert after[block][name] == before[block][name]
    assert after[block]["sharpe_in"] != before[block]["sharpe_in"]


# --- axes of every kind ---


@pytest.mark.usefixtures("unpainted")
def test_axes_may_be_nested_text_or_true_and_false(place: Path, qtrade: Program) -> None:
    axes = ("-p", "base.step=1,3", "-p", "measure=portfolio,market", "-p", "base.long_only=true,false")
    outcome = qtrade(place, "sweep", "run", "-s", "vol_target(base=forecast_sign, window=20)", *axes, "--json")
    assert outcome.returncode == 0, outcome.stderr
    told = json.loads(outcome.stdout)
    assert told["variants"] == 8
    table = pd.read_csv(only_sweep(place) / "variants.csv")
    assert sorted(table["measure"].unique()) == ["market", "portfolio"]
    assert table["base.step"].tolist() == [1] * 4 + [3] * 4
    assert table["base.long_only"].dtype == bool
    assert table["sharpe"].nunique() == 4
    best = told["best"]
    step, only = best["params"]["base.step"], best["params"]["base.long_only"]
    assert f"base=forecast_sign(long_only={only}, step={step}, threshold=0.0)" in best["spec"]
    again = qtrade(place, "backtest", "run", "-s", best["spec"], "--json")
    (one,) = json.loads(again.stdout)["backtests"]
    assert one["metrics"]["sharpe"] == pytest.approx(best["sharpe"], rel=1e-9)
    assert one["luck"]["trials"] == 8


@pytest.mark.usefixtures("unpainted")
def test_a_sweep_uses_the_account_it_is_given(place: Path, qtrade: Program) -> None:
    short = ("sweep", "run", "-s", "forecast_sign", "-p", "step=1,2")
    given = (
        ("--delay", "2", "--fill", "close"),
        ("--account", "costs.fees_bps=50"),
        ("--set", "threshold=0.001"),
    )
    told = [json.loads(qtrade(place, *short, *one, "--json").stdout) for one in ((), *given)]
    assert told[1]["best"]["sharpe"] != told[0]["best"]["sharpe"]
    accounts = [json.loads(trial.account) for trial in Ledger(place / "runs" / "trials.sqlite").trials()]
    assert [(one["delay"], one["fill"], one["costs"]["fees_bps"]) for one in accounts[::2]] == [
        (1, "open", 1), (2, "close", 1), (1, "open", 50), (1, "open", 1),
    ]  # fmt: skip
    assert told[2]["best"]["cost_annual"] > 10 * told[0]["best"]["cost_annual"]
    assert "threshold=0.001" in told[3]["spec"]
    assert [one["luck"]["trials"] for one in told] == [2, 4, 6, 8]
    assert len(list(place.glob("runs/*/sweeps/*/sweep.json"))) == 4


@pytest.mark.usefixtures("unpainted")
def test_a_ruined_variant_is_marked_and_not_the_best(place: Path, qtrade: Program, mine: Callable[[str], str]) -> None:
    path = mine("bars.close * 0 - self.size")
    given = ("-s", path, "-p", "size=0.1,20.0", "--account", "leverage=50", "--json")
    outcome = qtrade(place, "sweep", "run", *given)
    assert outcome.returncode == 0, outcome.stderr
    assert json.loads(outcome.stdout)["best"]["params"] == {"size": 0.1}
    table = pd.read_csv(only_sweep(place) / "variants.csv")
    assert table["ruined"].tolist() == [False, True]
    assert table["max_drawdown"][0] < 0.1 < 1 <= table["max_drawdown"][1]


def test_variants_that_cannot_be_judged_are_counted_and_passed_over() -> None:
    table = pd.DataFrame(
        {
            "sharpe": [0.3, 0.9, np.nan, 2.0, 0.1],
            "effective_bars": [50.0, FEW, 0.0, 80.0, 60.0],
            "ruined": [False, False, False, True, False],
            "fills": [20, 2, 0, 9, 30],
        }
    )
    assert best_of(table) == 0
    told = not_judged(table, 0)
    assert told == {"never_traded": 1, "too_few_bars": 1, "ruined": 1, "highest_sharpe_passed_over": 2.0}
    few = table[table["effective_bars"] <= FEW].reset_index(drop=True)
    assert best_of(few) == 0  # where all are like that, one of them is
    assert not_judged(few, 0)["highest_sharpe_passed_over"] is None
    clean = not_judged(table.iloc[[0, 4]].reset_index(drop=True), 0)
    assert list(clean.values()) == [0, 0, 0, None]


def test_the_summary_and_the_trials_agree_about_the_best(
    place: Path, qtrade: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qtrade.pipeline.sweep.FEW", 700)  # of these bars, so that some variants rest on too few
    monkeypatch.setattr("qtrade.backtest.metrics.FEW", 700)
    outcome = qtrade(place, "sweep", "run", "-s", "forecast_sign", "-p", "threshold=0,0.001,0.002,0.5")
    assert outcome.returncode == 0, outcome.stderr
    told = told_in(only_sweep(place))
    table = pd.read_csv(only_sweep(place) / "variants.csv")
    counts = [told[name] for name in ("never_traded", "too_few_bars", "ruined")]
    assert counts == [1, ((table["effective_bars"] <= 700) & (table["fills"] > 0)).sum(), 0]
    assert "of these, 1 never traded" in outcome.stdout
    everywhere, here = (" ".join(qtrade(place, "trials", *run).stdout.split()) for run in ((), ("run",)))
    fit = table[table["effective_bars"] > 700]["sharpe"]
    title, best = ("highest", table["sharpe"].max()) if fit.empty else ("best", fit.max())
    assert f"{title} {best:+.2f}" in everywhere
    assert everywhere.partition(" on record")[0] == here.partition(" on record")[0]


def test_variants_that_never_trade_have_no_best(place: Path, qtrade: Program) -> None:
    outcome = qtrade(place, "sweep", "run", "-s", "forecast_sign", "-p", "threshold=0.5,0.6")
    assert outcome.returncode == 0, outcome.stderr
    assert "None of the 2 variants of forecast_sign ever traded." in outcome.stdout
    told = told_in(only_sweep(place))
    assert (told["best"]["sharpe"], told["best"]["fills"], told["luck"]["dsr_probability"]) == (None, 0, None)
    assert pd.read_csv(only_sweep(place) / "variants.csv")["sharpe"].isna().all()
    assert [trial.sharpe for trial in Ledger(place / "runs" / "trials.sqlite").trials()] == [None, None]


@pytest.mark.usefixtures("unpainted")
def test_forecasts_of_half_the_bars_are_told(place: Path, qtrade: Program) -> None:
    path = only_run(place).folder / "forecasts.parquet"
    table = pd.read_parquet(path)
    last = np.asarray(table["origin"] == table["origin"].max())
    table[(np.arange(len(table)) % 2 == 0) | last].to_parquet(path)
    outcome = qtrade(place, "sweep", "run", "-s", "forecast_sign", "-p", "step=1,2")
    assert outcome.returncode == 0, outcome.stderr
    assert "Forecasts cover 50% of the decisions; a strategy that needs one is flat" in " ".join(outcome.stdout.split())
    assert told_in(only_sweep(place))["forecast_covered_share"] == pytest.approx(0.5, abs=0.01)


# --- bad input ---


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (("-p", "stepp=1,2"), ["has no parameter 'stepp'", "did you mean 'step'?"]),
        (("-p", "step=1,2.5"), ["parameter 'step' must be of type int, not '2.5'"]),
        (("-p", "step=0:1:0.5"), ["parameter 'step' must be of type int, not '0.0'"]),
        (("-p", "long_only=1,2"), ["parameter 'long_only' must be of type bool, not '1'"]),
        (("-p", "threshold=0,nan"), ["parameter 'threshold' must be of type float, not 'nan'"]),
        (("-p", "step=1,99"), ["step 99 lies outside the forecast path", "from 1 to 4"]),
        (("-p", "step.more=1,2"), ["parameter 'step' is no strategy, so there is no 'step.more'"]),
        (("-p", "step"), ["'step' does not name a parameter and its values"]),
        (("-p", "threshold=0:1:0"), ["is not a span of numbers with a step"]),
        (("-p", "step=1,2", "-p", "step=3"), ["--param step is given twice"]),
        (("-p", "step=0:99999:1", "-p", "threshold=0,1"), ["these are 200,000 combinations, more than 100,000"]),
        (("-p", "step=1,2", "--set", "thresold=1"), ["has no parameter 'thresold'", "did you mean 'threshold'?"]),
        (("-p", "step=1,2", "--delay", "0"), ["a delay of 0 would fill at an open", "set fill to close"]),
        (("-p", "step=1,2", "--account", "costs.fee_bps=1"), ["costs.fee_bps", "did you mean 'fees_bps'?"]),
    ],
)
def test_a_wrong_axis_is_explained(
    trained: Path, qtrade: Program, arguments: tuple[str, ...], messages: list[str]
) -> None:
    code, message = refused(qtrade, trained, "-s", "forecast_sign", *arguments)
    for part in messages:
        assert part in message
    assert code == 2


@pytest.mark.parametrize(
    ("param", "messages"),
    [
        ("base=tranches,momentum", ["'base' is a strategy: vary its parameters, as in base.NAME"]),
        ("base.stepp=1,2", ["'forecast_sign' has no parameter 'stepp'", "did you mean 'step'?"]),
        ("bas.step=1,2", ["'vol_target' has no parameter 'bas'", "did you mean 'base'?"]),
        ("measure=portfolio,markt", ["cannot be 'markt'", "did you mean 'market'?"]),
    ],
)
def test_a_wrong_axis_of_a_combination_is_explained(
    trained: Path, qtrade: Program, param: str, messages: list[str]
) -> None:
    code, message = refused(qtrade, trained, "-s", "vol_target", "-p", param)
    for part in messages:
        assert part in message
    assert code == 2


def test_a_sweep_without_an_axis_is_refused(trained: Path, qtrade: Program) -> None:
    code, message = refused(qtrade, trained, "-s", "forecast_sign")
    assert code == 2
    assert "--param" in message


@pytest.mark.usefixtures("unpainted")
def test_a_variant_above_the_cap_is_refused_unless_the_account_may_borrow(
    place: Path, qtrade: Program, mine: Callable[[str], str]
) -> None:
    given = ("-s", mine("bars.close * 0 + noise * 2 * self.size"), "-p", "size=0.5,1.0,1.5")
    code, message = refused(qtrade, place, *given)
    assert code == 2
    assert "1.5 of ^GSPC at" in message
    assert "lies outside [-1, 1]" in message
    assert "backtest.leverage" in message
    outcome = qtrade(place, "sweep", "run", *given, "--account", "leverage=2", "--json")
    assert outcome.returncode == 0, outcome.stderr
    assert json.loads(outcome.stdout)["variants"] == 3


@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_a_variant_that_is_no_number_is_refused(
    trained: Path, qtrade: Program, mine: Callable[[str], str], bad: str
) -> None:
    body = f"bars.close * 0 + (np.{bad} if self.seed == 3 else 0)"
    code, message = refused(qtrade, trained, "-s", mine(body), "-p", "seed=0:5:1")
    assert code == 2
    assert f"the weight {bad} of ^GSPC at" in message


def test_a_variant_that_raises_shows_its_line(trained: Path, qtrade: Program, mine: Callable[[str], str]) -> None:
    code, message = refused(qtrade, trained, "-s", mine("bars.close * (0 // self.seed)"), "-p", "seed=2,1,0")
    assert code == 2
    assert "ZeroDivisionError" in message
    assert "mine.py, line 17: return bars.close * (0 // self.seed)" in message


def test_a_leak_that_pays_in_one_variant_of_many_is_found(
    place: Path, qtrade: Program, mine: Callable[[str], str]
) -> None:
    body = "bars.close * 0 + (noise if self.seed != 77 else np.sign(bars.close.shift(-1) / bars.close - 1).fillna(0))"
    code, message = refused(qtrade, place, "-s", mine(body), "-p", "seed=0:99:1", recorded=100)
    assert code == 4
    assert "strategy 'mine': the weight of ^GSPC at 201" in message
    assert "it looks ahead" in message


def test_a_strategy_that_is_not_deterministic_is_found(
    place: Path, qtrade: Program, mine: Callable[[str], str]
) -> None:
    body = "bars.close * 0 + np.random.default_rng().uniform(0, 1, bars.close.shape)"
    code, message = refused(qtrade, place, "-s", mine(body), "-p", "seed=0:3:1", recorded=4)
    assert code == 4
    assert "it is not deterministic" in message


def test_a_broken_ledger_is_met_before_anything_is_computed(
    place: Path, qtrade: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("computed in vain")

    monkeypatch.setattr("qtrade.pipeline.sweep.simulate_many", never)
    (place / "runs" / "trials.sqlite").write_bytes(b"no database at all, but long enough to be one" * 50)
    code, message = refused(qtrade, place, "-s", "forecast_sign", "-p", "step=1,2")
    assert code == 3
    assert "the trial ledger runs/trials.sqlite cannot be used" in message


@pytest.mark.parametrize("where", ["qtrade.pipeline.sweep.simulate_many", "qtrade.report.sweep.render"])
def test_an_interrupted_sweep_leaves_no_half(
    place: Path, qtrade: Program, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupt)
    outcome = qtrade(place, "sweep", "run", "-s", "forecast_sign", "-p", "step=1,2")
    assert outcome.returncode == 130
    assert outcome.stdout == ""
    assert not list(place.glob("runs/*/sweeps"))
    monkeypatch.undo()
    assert qtrade(place, "sweep", "run", "-s", "forecast_sign", "-p", "step=1,2").returncode == 0
    assert len(Ledger(place / "runs" / "trials.sqlite").trials()) == 2

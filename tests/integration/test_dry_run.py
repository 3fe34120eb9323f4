"""A dry run says what the run then does, and leaves no trace; a run's own configuration makes the run again."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, chdir
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from qtrade.config import load_config
from qtrade.data.cache import Cache
from qtrade.pipeline import probe
from qtrade.pipeline.axes import parse_axis
from qtrade.pipeline.plan import Plan, plan_run
from qtrade.pipeline.plan_sweep import plan_sweep
from qtrade.pipeline.plan_text import duration
from qtrade.pipeline.sweep import sweep_run
from qtrade.progress import Silent
from qtrade.runs import Run
from qtrade.strategy import load_strategy, strategy_folders

Program = Callable[..., CompletedProcess[str]]

SETTINGS = """
extends = "base.toml"
name = "mine"
replicates = 2
[data]
start = 2012-01-01
[window]
seq_len = 16
label_len = 8
horizon = 4
[split]
train_size = 300
valid_size = 60
step = 1000
[strategies.forecast_sign]
step = 4
"""


def trace(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file and folder, with its time and its content."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module", autouse=True)
def _briefly() -> Any:
    """Time a few steps only: here it does not matter how long they take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "TIMED_SECONDS", 0.01)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration in two files, and nothing else yet."""
    folder = tmp_path_factory.mktemp("dry")
    (folder / "base.toml").write_text('preset = "tiny"\nbaselines = ["ridge"]\n', encoding="utf-8")
    (folder / "mine.toml").write_text(SETTINGS, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def before(place: Path, qtrade: Program) -> dict[str, Any]:
    """What is said of the whole run before anything is there."""
    traced = trace(place)
    outcome = qtrade(place, "run", "--config", "mine.toml", "--dry-run", "--json")
    assert outcome.returncode == 0, outcome.stderr
    assert trace(place) == traced
    told: dict[str, Any] = json.loads(outcome.stdout)
    return told


@pytest.fixture(scope="module")
def trained(
    place: Path, before: dict[str, Any], qtrade: Program, without_evaluation: Callable[[], AbstractContextManager[None]]
) -> Path:
    """The run itself, as far as training."""
    assert qtrade(place, "fetch", "--config", "mine.toml").returncode == 0
    with without_evaluation():
        outcome = qtrade(place, "train", "--config", "mine.toml")
    assert outcome.returncode == 0, outcome.stderr
    return place / outcome.stdout.strip()


def planned(place: Path, *assignments: str, **how: bool) -> Plan:
    with chdir(place):
        traced = trace(place)
        config = load_config(Path("mine.toml"), assignments)
        plan = plan_run(config, runs=Path("runs"), cache=Cache(Path("data_cache")), **how)
        assert trace(place) == traced
    return plan


def test_what_is_told_is_what_happens(place: Path, before: dict[str, Any], trained: Path) -> None:
    manifest = Run(trained).manifest
    assert before["folder"] == str(trained.relative_to(place))
    assert before["exists"] is False
    data = manifest["data"]
    assert [before[key] for key in ("bars", "first", "last")] == [data[key] for key in ("bars", "first", "last")]
    assert before["features"] == manifest["features"]["names"]
    assert before["warmup"] == manifest["features"]["warmup_bars"]
    told = [(fold["first"], fold["last"], fold["test"]) for fold in before["folds"]]
    assert told == [(*fold["test"], fold["test_origins"]) for fold in manifest["folds"]]
    for model, folder in (
        ("informer", trained),
        ("naive", trained / "baselines/naive"),
        ("ridge", trained / "baselines/ridge"),
    ):
        (plan,) = [one for one in before["models"] if one["model"] == model]
        assert (plan["fits"], plan["complete"]) == (len(list(folder.glob("folds/*/seed-*"))), 0)
    assert [one["fits"] for one in before["models"]] == [4, 2, 2]
    assert before["strategies"] == ["forecast_sign"]
    assert list(before["seconds"]) == ["start", "prepare", "train", "backtest", "evaluate", "report"]
    assert before["total_seconds"] == pytest.approx(sum(before["seconds"].values()))
    assert before["timed_steps"] >= 3


def test_the_space_that_is_told_is_about_what_is_taken(place: Path, trained: Path) -> None:
    new = planned(place, "seed=1", fetching=False, trading=False)
    assert not new.exists
    taken = sum(path.stat().st_size for path in trained.rglob("*") if path.is_file())
    evaluated = 500_000
    assert 0.6 < taken / (new.bytes_written - evaluated) < 1.4


def test_what_is_complete_is_not_done_again(place: Path, trained: Path) -> None:
    plan = planned(place)
    assert plan.exists
    assert plan.folder == trained.relative_to(place)
    assert [(one.model, one.fits, one.complete) for one in plan.models] == [
        ("informer", 4, 4),
        ("naive", 2, 2),
        ("ridge", 2, 2),
    ]
    assert (plan.seconds["train"], plan.timed_steps) == (0, 0)
    lines = "\n".join(plan.lines())
    assert f"{trained.relative_to(place)} (there, 8 fits complete)" in lines
    assert "informer: 4 fits, 4 of them complete and kept" in lines
    assert "other work on the machine makes it longer" in lines  # with no network to time, too
    alone = sum(plan.seconds[stage] for stage in ("start", "evaluate", "report"))
    assert f"`qtrade report` by itself takes about {duration(alone)}: it measures again" in lines

    history = trained / "folds" / "1" / "seed-0" / "history.json"
    kept = history.read_bytes()
    history.unlink()
    try:
        assert [one.complete for one in planned(place).models] == [3, 2, 2]
    finally:
        history.write_bytes(kept)


@pytest.mark.usefixtures("unevaluated")
def test_a_runs_own_configuration_makes_the_same_run(place: Path, trained: Path, qtrade: Program) -> None:
    own = str(trained.relative_to(place) / "config.toml")
    assert "extends" not in (place / own).read_text(encoding="utf-8")
    kept = {name: content for name, (_, content) in trace(trained).items()}
    for command in (("run", "--dry-run", "--json"), ("train", "--dry-run", "--json")):
        told = json.loads(qtrade(place, *command, "--config", own).stdout)
        assert (told["folder"], told["exists"]) == (str(trained.relative_to(place)), True)
    again = qtrade(place, "train", "--config", own)
    assert again.stdout.strip() == str(trained.relative_to(place)), again.stderr
    assert {name: content for name, (_, content) in trace(trained).items()} == kept
    assert len(list((place / "runs").glob("*/manifest.json"))) == 1


def test_the_table_tells_it_all(place: Path, trained: Path, qtrade: Program) -> None:
    told = qtrade(place, "train", "--config", "mine.toml", "--set", "seed=1", "--dry-run")
    assert told.returncode == 0
    for text in (
        "(new)",
        "16 bars read, 4 predicted",
        "windows to fit",
        "informer: 4 fits",
        "about ",
        "were timed here",
        "other work on the machine makes it longer",
    ):
        assert text in told.stdout
    assert "at most" not in told.stdout
    assert "it measures again" not in told.stdout  # a report is no part of it
    assert "strategies" not in told.stdout
    assert not told.stderr
    fetched = qtrade(place, "fetch", "--config", "mine.toml", "--dry-run")
    assert fetched.stdout.startswith("^GSPC  5,031 bars from sample, as before; stored 5,031")


def test_bars_that_are_still_to_be_asked_for_are_made_up(place: Path, trained: Path) -> None:
    plan = planned(place, "data.source=yahoo", 'data.symbols=["AAPL", "MSFT"]', "data.start=2015-01-01")
    assert (plan.folder, plan.exists, plan.guessed) == (None, False, True)
    assert plan.bars > 252 * 10
    text = "\n".join(plan.lines())
    assert "AAPL  yahoo is asked for bars from 2015-01-01 on" in text
    assert "nobody is asked in a dry run" in text
    assert plan.to_dict()["fetched"]["symbols"][0]["asked"] is True
    assert len(plan.folds) > 1


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("train", "--source", "synthetic"), 3, "has no 1d bars from 'synthetic'"),
        (("run", "--source", "file", "--path", "gone.csv"), 3, "there is no file gone.csv"),
        (("fetch", "--source", "file", "--path", "gone.csv"), 3, "there is no file gone.csv"),
        (("run", "--set", "strategies.gone={}"), 2, "gone"),
        (("run", "--set", "split.train_size=9000"), 3, "bars are too few"),
        (("run", "--set", "split.valid_size=300"), 2, "leaves no origin to fit on"),
    ],
)
def test_what_the_run_would_stumble_over_is_told(
    place: Path, trained: Path, qtrade: Program, arguments: tuple[str, ...], code: int, told: str
) -> None:
    command, *options = arguments
    traced = trace(place)
    outcome = qtrade(place, command, "--config", "mine.toml", *options, "--dry-run")
    assert outcome.returncode == code
    assert told in outcome.stderr
    assert trace(place) == traced


def test_a_sweep_is_told_before_it_is_made(place: Path, trained: Path, qtrade: Program) -> None:
    run = Run(trained)
    strategy = load_strategy("forecast_sign", {}, strategy_folders())
    axes = [parse_axis("step=1:4:1"), parse_axis("long_only=true,false")]
    traced = trace(place)
    plan = plan_sweep(run, strategy, axes)
    assert trace(place) == traced
    assert (plan.variants, plan.exists, plan.timed) == (8, False, 4)
    assert plan.seconds > 0
    assert "other work on the machine makes it longer" in "\n".join(plan.lines())
    assert plan_sweep(run, strategy, [parse_axis("threshold=0:0.039:0.001")]).timed == 5  # not all of them
    words = ("sweep", "mine", "-s", "forecast_sign", "-p", "step=1:4:1", "-p", "long_only=true,false", "--dry-run")
    told = qtrade(place, *words, "--json")
    assert told.returncode == 0, told.stderr
    assert trace(place) == traced
    assert json.loads(told.stdout)["variants"] == 8
    assert "8, each of which is a trial" in qtrade(place, *words).stdout
    made = sweep_run(run, strategy, axes, progress=Silent())
    assert (made.folder, made.told["variants"], made.told["bars"]) == (plan.folder, plan.variants, plan.bars)
    assert (made.told["first"], made.told["last"]) == (plan.first, plan.last)
    assert plan_sweep(run, strategy, axes).exists

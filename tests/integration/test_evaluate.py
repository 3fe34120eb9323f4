"""A whole evaluation: complete, repeatable, resumable, and speaking of what it could not measure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qtrade.evaluation.transfer import Transfer
from qtrade.files import sha256
from qtrade.pipeline import ladder, transfer
from qtrade.pipeline.market import derive, folds_of
from qtrade.pipeline.transfer import Question, make_question, transfer_run
from qtrade.progress import Silent
from qtrade.report import page
from qtrade.runs import Run, check_run, rows_of

Program = Callable[..., CompletedProcess[str]]
Options = tuple[str, ...]

GATES = [f"G{number}" for number in range(9)]
PARTS = {
    "backtests",
    "verdict",
    "gates",
    "skill",
    "distribution",
    "stability",
    "asked",
    "retraining",
    "regimes",
    "feature_shift",
    "intervals",
    "interval_coverage_by_regime",
    "optimism",
    "trading",
}


@pytest.fixture
def drawn() -> None:
    """Draw the report's figures, too: they take longer than everything that is measured."""


@pytest.fixture(autouse=True)
def mostly_undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(page, "render", lambda report: report.verdict.headline)


@pytest.fixture(scope="module")
def options(tiny: Options) -> Options:
    """A ridge in place of the network: training takes no time."""
    return (*tiny, "--set", "model=ridge", "--set", "baselines=[]", "--set", "features.set=minimal")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, qtrade: Program, options: Options) -> Path:
    """A folder with a reported run of three folds; only to be copied."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "render", lambda report: report.verdict.headline)
        outcome = qtrade(folder, "run", *options, "--end", "2015-01-01", "--set", "split.step=150")
    assert outcome.returncode == 0, outcome.stderr
    return folder


@pytest.fixture
def run(tmp_path: Path, made: Path) -> Run:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    (folder,) = (tmp_path / "runs").glob("*/")
    return Run(folder)


def evaluate(qtrade: Program, run: Run, *arguments: str) -> CompletedProcess[str]:
    outcome = qtrade(run.folder.parents[1], "evaluate", run.name, *arguments)
    assert "Traceback" not in outcome.stderr
    return outcome


def evaluation(run: Run) -> dict[str, Any]:
    """Read ``evaluation.json`` as a strict reader does, to whom NaN is no number."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    text = (run.folder / "evaluation.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return content


def grades(content: dict[str, Any]) -> dict[str, str]:
    return {gate["gate"]: gate["grade"] for gate in content["gates"]}


def named_numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number with the nearest name above it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from named_numbers(inner, f"{name}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from named_numbers(inner, name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def asked(run: Run) -> tuple[Question, Transfer]:
    """What the quick evaluation asks of a run's models, and their answers as they are kept."""
    config = run.config
    market = derive(config, run.bars)
    folds = folds_of(market, config)
    question = make_question(
        [fold.train_end for fold in folds],
        np.arange(folds[0].test.start, folds[-1].test.stop),
        len(market.bars.symbols),
        config.evaluation.upto(config.window.horizon),
        windows=config.evaluation.windows,
    )
    return question, transfer_run(run, config, market, question, run.forecasts(config.model)[0].seed_mean(), Silent())


# --- what is told ---


def test_evaluation_json_holds_every_part_with_finite_numbers(run: Run) -> None:
    content = evaluation(run)
    assert content.keys() == PARTS
    assert [gate["gate"] for gate in content["gates"]] == GATES
    assert all(gate["reasons"] and all(gate["reasons"]) for gate in content["gates"])
    assert content["verdict"]["headline"] in ("PASS", "WARN", "INCONCLUSIVE", "FAIL")
    assert content["skill"]["ridge"][0]["horizon_bars"] == 1
    assert content["stability"]["staleness"]["ages"][0]["age_bars"] == 150
    assert len(content["stability"]["transfer"]["r2_model_by_period"]) == 3
    numbers = list(named_numbers(content))
    assert len(numbers) > 500
    assert all(np.isfinite(value) for _, value in numbers)


@pytest.mark.usefixtures("drawn")
def test_the_report_shows_the_headline_of_the_evaluation(run: Run, qtrade: Program) -> None:
    assert qtrade(run.folder.parents[1], "report", run.name).returncode == 0
    told = evaluation(run)["verdict"]
    assert told == json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))["verdict"]
    assert told["headline"] in (run.folder / "report.html").read_text(encoding="utf-8")


def test_the_command_prints_every_gate_or_the_whole_json(run: Run, qtrade: Program) -> None:
    table = evaluate(qtrade, run).stdout
    assert [gate for gate in GATES if gate in table] == GATES
    assert json.loads(evaluate(qtrade, run, "--json").stdout) == evaluation(run)


def test_evaluating_twice_gives_the_same_bytes_and_leaves_the_run_as_it_was(run: Run, qtrade: Program) -> None:
    kept = [run.folder / name for name in ("forecasts.parquet", "residuals.parquet", "manifest.json", "config.toml")]
    kept += sorted((run.folder / "folds").rglob("*.*"))
    before = {path: sha256(path) for path in kept}
    first = (run.folder / "evaluation.json").read_bytes()
    shutil.rmtree(run.folder / "transfer")
    assert evaluate(qtrade, run).returncode == 0
    assert (run.folder / "evaluation.json").read_bytes() == first
    assert evaluate(qtrade, run, "--set", "evaluation.horizons=[2]").returncode == 0
    assert {path: sha256(path) for path in kept} == before
    check_run(run)


def test_other_horizons_are_measured_and_other_settings_refused(run: Run, qtrade: Program) -> None:
    assert evaluate(qtrade, run, "--set", "evaluation.horizons=[1,3]").returncode == 0
    content = evaluation(run)
    assert [one["horizon_bars"] for one in content["skill"]["ridge"]] == [1, 3]
    assert content["stability"]["path_horizons_bars"] == [1, 3]
    assert set(content["intervals"]) == {"1", "3"}
    before = (run.folder / "evaluation.json").read_bytes()
    for wrong, told in (
        ("window.horizon=2", "'window.horizon=2' is not about the evaluation"),
        ("evaluation.horizon=[1]", "horizons"),
        ("evaluation.horizons=[0]", "evaluation.horizons"),
    ):
        outcome = evaluate(qtrade, run, "--set", wrong)
        assert outcome.returncode == 2
        assert told in " ".join(outcome.stderr.split())
    assert (run.folder / "evaluation.json").read_bytes() == before
    outcome = evaluate(qtrade, run, "--probe", "forest")
    assert outcome.returncode == 2
    assert "there is no probe 'forest'" in outcome.stderr


def test_what_full_adds_is_still_told_by_a_later_quick_evaluation(
    run: Run, qtrade: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "TREES", 3)
    assert evaluation(run)["optimism"] is None
    assert grades(evaluation(run))["G4"] == "NOT MEASURED"
    full = evaluate(qtrade, run, "--full")
    assert full.returncode == 0, full.stderr
    assert "NOT EVIDENCE" in full.stdout
    climbed = evaluation(run)["optimism"]
    assert grades(evaluation(run))["G4"] != "NOT MEASURED"
    assert evaluate(qtrade, run).returncode == 0
    assert evaluation(run)["optimism"] == climbed
    # Of other forecasts it says nothing.
    told = json.loads((run.folder / "optimism.json").read_text(encoding="utf-8"))
    (run.folder / "optimism.json").write_text(json.dumps({**told, "forecast_hash": "another"}), encoding="utf-8")
    assert evaluate(qtrade, run).returncode == 0
    assert evaluation(run)["optimism"] is None


# --- the transfer of models over time ---


def test_on_the_diagonal_models_say_what_the_run_has_stored(run: Run) -> None:
    question, answers = asked(run)
    forecasts = run.forecasts("ridge")[0].seed_mean()
    rows = rows_of(forecasts, run.bars)
    stored = forecasts.cumulative()[:, np.asarray(question.horizons) - 1]
    place = rows.origin - answers.origin[0]
    assert np.array_equal(np.sort(place), np.arange(len(answers.origin)))
    own = answers.predicted[forecasts.fold, place, rows.symbol]
    np.testing.assert_allclose(own, stored, rtol=0, atol=1e-6 * np.abs(stored).max())
    assert (forecasts.fold == answers.fold[place]).all()


def test_models_are_asked_again_only_for_what_is_missing(run: Run, qtrade: Program) -> None:
    parts = sorted((run.folder / "transfer").iterdir())
    before = {path: path.stat().st_mtime_ns for path in parts}
    content = (run.folder / "evaluation.json").read_bytes()
    assert len(parts) == 3
    parts[1].unlink()
    assert evaluate(qtrade, run).returncode == 0
    after = {path: path.stat().st_mtime_ns for path in sorted((run.folder / "transfer").iterdir())}
    assert [path for path in parts if after[path] != before[path]] == [parts[1]]
    assert (run.folder / "evaluation.json").read_bytes() == content


def test_an_interrupted_evaluation_keeps_what_was_answered(
    run: Run, qtrade: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (run.folder / "evaluation.json").read_bytes()
    shutil.rmtree(run.folder / "transfer")
    original, calls = transfer.ask_fitted, []

    def failing(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(transfer, "ask_fitted", failing)
    assert evaluate(qtrade, run).returncode == 130
    assert len(list((run.folder / "transfer").iterdir())) == 1
    assert (run.folder / "evaluation.json").read_bytes() == content
    assert evaluate(qtrade, run).returncode == 0
    assert len(calls) == 5, "of the first model only a few answers were looked at again"
    assert (run.folder / "evaluation.json").read_bytes() == content


@pytest.mark.parametrize("how", ["cut off", "of another question"])
def test_a_damaged_answer_is_asked_for_again(run: Run, qtrade: Program, how: str) -> None:
    content = (run.folder / "evaluation.json").read_bytes()
    first, second, *_ = sorted((run.folder / "transfer").iterdir())
    if how == "cut off":
        second.write_bytes(second.read_bytes()[:-40])
    else:
        pd.read_parquet(first).iloc[:-1].to_parquet(second)
    assert evaluate(qtrade, run).returncode == 0
    assert (run.folder / "evaluation.json").read_bytes() == content


@pytest.mark.parametrize(
    ("windows", "stride"),
    # Two models after the first, asked about 400 origins of one symbol: 800 windows.
    # However few are allowed, every period keeps 25.
    [(20_000, 1), (800, 1), (799, 2), (100, 4), (1, 4)],
)
def test_models_after_the_first_are_asked_about_an_even_part_of_the_origins(windows: int, stride: int) -> None:
    question = make_question([10, 110, 310], np.arange(10, 410), 1, (4, 1), windows=windows)
    assert question.stride == stride
    assert question.horizons == (1, 4)
    np.testing.assert_array_equal(question.origins_for(0), np.arange(110, 410))
    np.testing.assert_array_equal(question.origins_for(2), np.arange(10, 310, stride))
    assert np.bincount(question.fold).tolist() == [100, 200, 100]
    assert question.fold[[0, 99, 100, 299, 300, 399]].tolist() == [0, 0, 1, 1, 2, 2]


def test_of_many_symbols_some_are_asked_evenly() -> None:
    question = make_question([10], np.arange(10, 20), 100, (1,), windows=10)
    assert len(question.symbols) == transfer.MAX_SYMBOLS
    assert question.symbols[[0, -1]].tolist() == [0, 99]
    assert set(np.diff(question.symbols).tolist()) == {11}


# --- runs of every shape ---

ONE_FOLD = ("--end", "2014-06-01", "--set", "split.step=5000")
FOLDS = ("--end", "2014-06-01", "--set", "split.step=150", "--set", "train.batch_size=128")
DELAYS = ("--set", "split.delay=1", "--set", "backtest.delay=2")


def shaped(folder: Path, qtrade: Program, options: Options, unknown: set[str]) -> tuple[dict[str, Any], str]:
    """Make and report a run that cannot tell what these gates are about; return its evaluation and its report."""
    outcome = qtrade(folder, "run", *options)
    assert outcome.returncode == 0, outcome.stderr
    (run,) = (folder / "runs").glob("*/")
    content = evaluation(Run(run))
    graded = grades(content)
    assert list(graded) == GATES
    assert graded["G0"] == "PASS"
    assert graded["G4"] == "NOT MEASURED"
    assert {gate for gate in ("G3", "G8") if graded[gate] == "NOT MEASURED"} == unknown
    if "G3" in unknown:
        assert content["verdict"]["headline"] not in ("PASS", "WARN")
    return content, (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("settings", "horizons"),
    [
        pytest.param((*FOLDS, "--set", "window.horizon=5"), [1], id="a path that ends before the second horizon"),
        pytest.param(
            (*FOLDS, *DELAYS, "--set", "evaluation.horizons=[6]"), [4], id="delays, and no horizon within the path"
        ),
        pytest.param(
            ("--symbols", "^GSPC", "--symbols", "^IXIC", *FOLDS, "--set", "model=informer", "--set", "replicates=2"),
            [1],
            id="several symbols, and two seeds",
        ),
    ],
)
def test_a_run_of_any_shape_is_evaluated(
    tmp_path: Path, qtrade: Program, options: Options, settings: Options, horizons: list[int]
) -> None:
    content, _ = shaped(tmp_path, qtrade, (*options, *settings), set())
    (skills,) = content["skill"].values()
    assert [one["horizon_bars"] for one in skills] == horizons
    assert content["stability"]["path_horizons_bars"] == horizons
    assert len(content["stability"]["staleness"]["ages"]) >= 1


def test_a_single_fold_cannot_tell_whether_anything_lasts(tmp_path: Path, qtrade: Program, options: Options) -> None:
    content, _ = shaped(tmp_path, qtrade, (*options, *ONE_FOLD), {"G3"})
    assert content["stability"]["staleness"]["p"] is None
    assert content["stability"]["transfer"]["stale"] is None


@pytest.mark.usefixtures("drawn")
def test_a_test_period_of_some_bars_without_strategies_is_reported_with_what_is_missing(
    tmp_path: Path, qtrade: Program, options: Options
) -> None:
    few = ("--end", "2013-05-20", "--set", "strategies={}")
    content, page = shaped(tmp_path, qtrade, (*options, *few), {"G3", "G8"})
    assert content["trading"] is None
    assert content["skill"]["ridge"] == []
    assert "too short to judge any horizon" in content["verdict"]["line"]
    assert content["verdict"]["headline"] in page


def test_forecasts_that_never_vary_have_nothing_that_could_last(
    tmp_path: Path, qtrade: Program, options: Options
) -> None:
    content, _ = shaped(tmp_path, qtrade, (*options, *FOLDS, "--set", "model=naive"), {"G3", "G8"})
    assert content["stability"]["break_known_only_afterwards"] is None
    assert content["trading"]["trades"] == 0
    assert content["verdict"]["headline"] == "INCONCLUSIVE"

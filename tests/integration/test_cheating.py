"""Deliberate cheating is caught: each way of it is planted, ends in exit code 4, and names the culprit, alone."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qtrade.backtest.engine import simulate
from qtrade.backtest.metrics import metrics
from qtrade.errors import IntegrityError
from qtrade.features.scaler import Scaler
from qtrade.files import sha256
from qtrade.pipeline import fitting, train
from qtrade.pipeline.market import derive, folds_of
from qtrade.pipeline.venue import open_venue
from qtrade.report import page
from qtrade.runs import Run, step_columns
from qtrade.types import Bars, Fold

Program = Callable[..., CompletedProcess[str]]
Options = tuple[str, ...]

LEAKING_FEATURE = """\
def features(bars):
    return {"tomorrow": (bars.close.shift(-1) / bars.close - 1).fillna(0.0)}
"""
SEES_TOMORROW = """\
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tomorrow:
    def weights(self, bars, forecasts):
        return np.sign(bars.close.shift(-1) - bars.close).fillna(0.0)
"""
REGIME = """\
from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression


@dataclass(frozen=True)
class Calm:
    def weights(self, bars, forecasts):
        moved = 100 * np.log(bars.close.iloc[:, 0]).diff().fillna(0.0).clip(-0.04, 0.04).to_numpy()
        model = MarkovRegression(moved, k_regimes=2, trend="n", switching_variance=True)
        calm = model.{what}(np.array([0.97, 0.03, 0.3, 2.0])).{what}ed_marginal_probabilities[:, 0]
        return pd.DataFrame((calm > 0.5)[:, None] * 1.0, index=bars.index, columns=bars.close.columns)
"""
PUBLISHED = """\
import numpy as np


def features(bars):
    return {"log_volume": np.log(bars.volume / 1e6)}
"""


@pytest.fixture(scope="module")
def options(tiny: Options) -> Options:
    """A ridge in place of the network: training takes no time."""
    return (*tiny, "--set", "model=ridge", "--set", "baselines=[]", "--set", "features.set=minimal")


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> Iterator[None]:
    """Spare the figures of honest reports, which take longer than everything that is looked at here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "render", lambda report: f"<svg> {report.verdict.headline}, Sharpe, R²")
        yield


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory, qtrade: Program, options: Options) -> Path:
    """A folder with an honest, reported run of two folds; only to be copied."""
    folder = tmp_path_factory.mktemp("honest")
    outcome = qtrade(folder, "run", *options)
    assert outcome.returncode == 0, outcome.stderr
    return folder


@pytest.fixture
def run(tmp_path: Path, honest: Path) -> Run:
    """A copy of the honest run, to cheat with."""
    shutil.copytree(honest, tmp_path, dirs_exist_ok=True)
    (folder,) = (tmp_path / "runs").glob("*/")
    return Run(folder)


def refused(outcome: CompletedProcess[str], *culprits: str) -> None:
    """Nothing but an error that names the culprits."""
    told = " ".join(outcome.stderr.split())
    assert outcome.returncode == 4, told
    assert outcome.stdout == ""
    assert "Traceback" not in told
    for culprit in culprits:
        assert culprit in told


def refused_and_written(outcome: CompletedProcess[str], run: Run, *culprits: str) -> None:
    """The same, and nothing else is left of the run's results."""
    refused(outcome, "INVALID", *culprits)
    evaluation: dict[str, Any] = json.loads((run.folder / "evaluation.json").read_text(encoding="utf-8"))
    assert evaluation.keys() == {"verdict", "gates"}
    assert evaluation["verdict"]["headline"] == "INVALID"
    (gate,) = evaluation["gates"]
    assert (gate["gate"], gate["grade"]) == ("G0", "INVALID")
    report = html.unescape((run.folder / "report.html").read_text(encoding="utf-8"))
    assert "<strong>INVALID</strong>" in report
    for telling in ("<svg", "<table", "Sharpe", "R²"):
        assert telling not in report
    for culprit in culprits:
        assert any(culprit in reason for reason in gate["reasons"])
        assert culprit in report
    assert not (run.folder / "metrics.json").exists()


def evaluate(qtrade: Program, run: Run) -> CompletedProcess[str]:
    return qtrade(run.folder.parents[1], "evaluate", run.name)


def rewrite(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    """Change a Parquet file by hand."""
    table = pd.read_parquet(path)
    changed = change(table)
    (table if changed is None else changed).to_parquet(path, engine="pyarrow")


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a JSON file by hand."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_an_honest_run_is_not_refused(run: Run, qtrade: Program) -> None:
    outcome = evaluate(qtrade, run)
    assert outcome.returncode == 0, outcome.stderr
    gates = json.loads((run.folder / "evaluation.json").read_text(encoding="utf-8"))["gates"]
    assert (gates[0]["gate"], gates[0]["grade"]) == ("G0", "PASS")


# --- features ---


def test_a_feature_with_tomorrows_return_stops_training(tmp_path: Path, qtrade: Program, options: Options) -> None:
    (tmp_path / "mine.py").write_text(LEAKING_FEATURE)
    assert qtrade(tmp_path, "fetch", *options).returncode == 0
    outcome = qtrade(tmp_path, "train", *options, "--features", "mine.py")
    refused(outcome, "feature 'tomorrow' of mine.py", "its value for ^GSPC at 201", "it looks ahead")
    assert not (tmp_path / "runs").exists()


def trained_on_volume(
    folder: Path, qtrade: Program, options: Options, market: str
) -> tuple[CompletedProcess[str], dict[str, Any]]:
    """Train on a synthetic market, from the file that publishes the volume's logarithm; and evaluate."""
    (folder / "published.py").write_text(PUBLISHED)
    settings = ("data.synthetic.bars=1500", "split.step=400", "features.module=published.py")
    chosen = ("--source", "synthetic", *options, *(part for one in settings for part in ("--set", one)))
    assert qtrade(folder, "fetch", market, *chosen).returncode == 0
    outcome = qtrade(folder, "train", market, *chosen)
    (run,) = (folder / "runs").glob("*/")
    return outcome, json.loads((run / "evaluation.json").read_text(encoding="utf-8"))


def test_a_leak_that_no_audit_of_code_can_see_is_too_good_to_be_true(
    tmp_path: Path, qtrade: Program, options: Options
) -> None:
    # The volume itself, as delivered, knows the next return: every feature computed from it is causal.
    since = ("--start", "2000-01-03")
    outcome, found = trained_on_volume(tmp_path, qtrade, (*options, *since), "leak-3")
    assert outcome.returncode == 0, outcome.stderr
    plausible = found["gates"][1]
    assert (plausible["gate"], plausible["grade"]) == ("G1", "WARN")
    assert "Assume a leak until audited" in plausible["reasons"][0]
    assert "Look first at 'log_volume' (correlation +0." in plausible["reasons"][0]
    assert found["verdict"]["headline"] != "PASS"


def test_the_same_market_without_the_leak_is_plausible(tmp_path: Path, qtrade: Program, options: Options) -> None:
    outcome, found = trained_on_volume(tmp_path, qtrade, (*options, "--start", "2000-01-03"), "control-3")
    assert outcome.returncode == 0, outcome.stderr
    assert (found["gates"][1]["gate"], found["gates"][1]["grade"]) == ("G1", "PASS")


# --- scalers ---


def test_a_scaler_fitted_on_everything_is_named_with_its_fold(run: Run, qtrade: Program) -> None:
    market = derive(run.config, run.bars)
    folder = run.fold_folder("ridge", 1, 0)
    everything = range(market.features.warmup, len(market.bars))
    Scaler.fit(market.features, market.returns, everything).save(folder / "scaler.json")
    edit(folder / "history.json", lambda proof: proof["sha256"].update({"scaler.json": sha256(folder / "scaler.json")}))
    refused_and_written(evaluate(qtrade, run), run, "The scaler of fold 2 was not fitted on its fitting bars")


def test_a_scaler_that_lies_about_its_last_bar_is_caught_by_its_numbers(run: Run, qtrade: Program) -> None:
    market = derive(run.config, run.bars)
    folder = run.fold_folder("ridge", 0, 0)
    honest = Scaler.load(folder / "scaler.json").last_row
    known_too_well = Scaler.fit(market.features, market.returns, range(market.features.warmup, len(market.bars)))
    replace(known_too_well, last_row=honest).save(folder / "scaler.json")
    edit(folder / "history.json", lambda proof: proof["sha256"].update({"scaler.json": sha256(folder / "scaler.json")}))
    refused_and_written(evaluate(qtrade, run), run, "The scaler of fold 1 was not fitted on its fitting bars")


def test_training_refuses_a_scaler_that_sees_the_test_period(
    tmp_path: Path, qtrade: Program, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert qtrade(tmp_path, "fetch", *options).returncode == 0
    monkeypatch.setattr(fitting, "scaler_rows", lambda fold, seq_len: range(fold.fit.start, fold.test.stop))
    outcome = qtrade(tmp_path, "train", *options)
    refused(outcome, "ridge, fold 1, seed 0: the scaler saw bar", "after the last fit origin")


# --- the purge ---


@pytest.mark.parametrize("part", ["fit", "valid"])
def test_a_fold_without_its_purge_cannot_be_made(part: str) -> None:
    fold = Fold(3, fit=range(100), valid=range(123, 200), test=range(223, 300), horizon=24)
    longer = range(getattr(fold, part).start, getattr(fold, part).stop + 1)
    with pytest.raises(IntegrityError, match=f"fold 3: a label of '{part}' ends at bar"):
        replace(fold, fit=longer) if part == "fit" else replace(fold, valid=longer)


def unpurged(part: str) -> Callable[..., tuple[Fold, ...]]:
    """Return a `folds_of` whose folds skip one of the gaps, and the check of them."""

    def widened(*arguments: Any) -> tuple[Fold, ...]:
        folds = folds_of(*arguments)
        for fold in folds:
            following = fold.valid if part == "fit" else fold.test
            object.__setattr__(fold, part, range(getattr(fold, part).start, following.start))
        return folds

    return widened


def test_a_run_that_was_fitted_up_to_its_validation_is_named_with_its_folds(
    tmp_path: Path, qtrade: Program, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert qtrade(tmp_path, "fetch", *options).returncode == 0
    monkeypatch.setattr(train, "folds_of", unpurged("fit"))
    outcome = qtrade(tmp_path, "train", *options)
    (folder,) = (tmp_path / "runs").glob("*/")
    refused_and_written(outcome, Run(folder), "Fold 1 is not purged: the last label of 'fit' ends 3 bars after")
    assert "Fold 2 is not purged" in (folder / "evaluation.json").read_text(encoding="utf-8")


def test_training_refuses_to_validate_on_labels_that_end_after_the_fold_may_know(
    tmp_path: Path, qtrade: Program, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert qtrade(tmp_path, "fetch", *options).returncode == 0
    monkeypatch.setattr(train, "folds_of", unpurged("valid"))
    refused(
        qtrade(tmp_path, "train", *options), "ridge, fold 1, seed 0: a window reaches", "only bars 0 to 338 are known"
    )


def test_a_manifest_that_admits_a_missing_purge_is_enough(run: Run, qtrade: Program) -> None:
    def admit(manifest: dict[str, Any]) -> None:
        manifest["folds"][1]["valid"][1] = manifest["folds"][1]["test"][0]

    edit(run.folder / "manifest.json", admit)
    refused_and_written(evaluate(qtrade, run), run, "Fold 2 is not purged: the last label of 'valid' ends 4 bars after")


# --- forecasts ---


def foreknowing(run: Run, rows: Callable[[pd.DataFrame], pd.Series]) -> None:
    """Put what happened in the place of what was forecast."""
    horizon = run.config.window.horizon

    def change(table: pd.DataFrame) -> None:
        chosen = rows(table)
        happened = table.loc[chosen, step_columns("y", horizon)].to_numpy()
        table.loc[chosen, step_columns("y_hat", horizon)] = happened

    rewrite(run.folder / "forecasts.parquet", change)


def test_a_fold_of_forecasts_that_knew_is_named_with_symbol_and_origin(run: Run, qtrade: Program) -> None:
    foreknowing(run, lambda table: table["fold"] == 1)
    outcome = evaluate(qtrade, run)
    refused_and_written(outcome, run, "The forecast of ^GSPC at 201", "fold 2) is not what its model says")


def test_a_single_forecast_that_knew_is_found_among_all_others(run: Run, qtrade: Program) -> None:
    forecasts, actual = run.forecasts("ridge")
    largest = forecasts.origin[int(np.abs(actual).sum(axis=1).argmax())]
    foreknowing(run, lambda table: table["origin"] == largest)
    refused_and_written(evaluate(qtrade, run), run, f"The forecast of ^GSPC at {largest}")


def test_outcomes_that_the_bars_do_not_show_are_named(run: Run, qtrade: Program) -> None:
    columns = step_columns("y", run.config.window.horizon)

    def flatter(table: pd.DataFrame) -> None:
        table.loc[table.index[700], columns] = table.loc[table.index[700], step_columns("y_hat", len(columns))].array

    origin = run.forecasts("ridge")[0].origin[700]
    rewrite(run.folder / "forecasts.parquet", flatter)
    refused_and_written(evaluate(qtrade, run), run, f"'ridge' for ^GSPC at {origin} is not what the bars did")


def test_leaving_out_the_forecasts_that_failed_is_cheating(run: Run, qtrade: Program) -> None:
    said, happened = "y_hat_01", "y_01"
    rewrite(run.folder / "forecasts.parquet", lambda table: table[table[said] * table[happened] > 0])
    refused_and_written(evaluate(qtrade, run), run, "Fold 1 was tested at 1000", "forecasts were chosen")


def test_forecasts_of_a_fold_that_was_never_fitted_are_named(run: Run, qtrade: Program) -> None:
    rewrite(run.folder / "forecasts.parquet", lambda table: table.assign(fold=table["fold"].replace({1: 7})))
    refused_and_written(evaluate(qtrade, run), run, "There are forecasts of a fold 8, which the run does not have")


def test_forecasts_from_before_their_models_training_ended_are_refused_by_name(run: Run, qtrade: Program) -> None:
    def predate(table: pd.DataFrame) -> None:
        table.loc[:, "train_end"] = table["origin"].max()

    rewrite(run.folder / "forecasts.parquet", predate)
    refused_and_written(evaluate(qtrade, run), run, "the forecast for ^GSPC at ", "comes from a model trained until")


# --- strategies and backtests ---


def filled_at_the_close(bars: Bars) -> Bars:
    """Bars that open where the one before closed: an order filled there is filled at its signal's own close."""
    opened = bars.close.shift(1).fillna(bars.open)
    return replace(
        bars,
        open=opened,
        high=bars.high.where(bars.high > opened, opened),
        low=bars.low.where(bars.low < opened, opened),
    )


def test_a_backtest_filled_at_the_signals_close_is_named(run: Run, qtrade: Program) -> None:
    (folder,) = run.folder.glob("backtests/forecast_sign-*")
    config = run.config.backtest
    bars = open_venue(run, run.config).span
    weights = pd.DataFrame(pd.read_parquet(folder / "weights.parquet")["decided"])
    cheated = simulate(filled_at_the_close(bars), weights, config)
    honest = simulate(bars, weights, config)
    assert not np.allclose(cheated.equity, honest.equity)

    def overwrite(table: pd.DataFrame) -> None:
        for name in ("gross", "cost", "net", "equity"):
            table[name] = getattr(cheated, name)

    rewrite(folder / "equity.parquet", overwrite)
    edit(
        folder / "metrics.json",
        lambda told: told.update(metrics=metrics(cheated, bars.periods_per_year).to_dict()),
    )
    refused_and_written(
        evaluate(qtrade, run), run, "The account of 'forecast_sign' is not what its decisions make when they are filled"
    )


def test_a_backtest_that_claims_more_than_its_account_shows_is_named(run: Run, qtrade: Program) -> None:
    (folder,) = run.folder.glob("backtests/path_momentum-*")
    edit(folder / "metrics.json", lambda told: told["metrics"].update(sharpe=2.5))
    refused_and_written(evaluate(qtrade, run), run, "The backtest of 'path_momentum' claims another sharpe")


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        (lambda table: table.iloc[:-5], "is of other bars"),
        (lambda table: table * np.nan, "holds decisions that are no numbers"),
        (lambda table: table * 0 - 1e6, "holds other decisions than its strategy makes"),
    ],
)
def test_decisions_that_nobody_could_have_traded_are_named(
    run: Run, qtrade: Program, change: Callable[[pd.DataFrame], pd.DataFrame], culprit: str
) -> None:
    (folder,) = run.folder.glob("backtests/path_momentum-*")
    rewrite(folder / "weights.parquet", change)
    refused_and_written(evaluate(qtrade, run), run, "'path_momentum'", culprit)


def test_decisions_that_knew_are_named_though_their_account_is_right(run: Run, qtrade: Program) -> None:
    (folder,) = run.folder.glob("backtests/path_momentum-*")
    bars = open_venue(run, run.config).span
    ahead = (bars.open.shift(-2) > bars.open.shift(-1)).astype(float)
    knowing = simulate(bars, ahead, run.config.backtest)
    told = pd.read_parquet(folder / "weights.parquet")
    told["decided"] = ahead.to_numpy()
    told.to_parquet(folder / "weights.parquet")

    def overwrite(table: pd.DataFrame) -> None:
        for name in ("gross", "cost", "net", "equity"):
            table[name] = getattr(knowing, name)

    rewrite(folder / "equity.parquet", overwrite)
    edit(
        folder / "metrics.json",
        lambda told: told.update(metrics=metrics(knowing, bars.periods_per_year).to_dict()),
    )
    refused_and_written(evaluate(qtrade, run), run, "'path_momentum' holds other decisions than its strategy makes")


def test_an_account_that_was_edited_is_named(run: Run, qtrade: Program) -> None:
    (folder,) = run.folder.glob("backtests/path_momentum-*")
    edit(folder / "metrics.json", lambda told: told["account"].update(delay=2))
    refused_and_written(evaluate(qtrade, run), run, f"The backtest in {folder.name} was altered")


def test_validation_errors_that_were_widened_are_named(run: Run, qtrade: Program) -> None:
    def widen(table: pd.DataFrame) -> None:
        table[step_columns("r", run.config.window.horizon)] *= 1.8

    rewrite(run.folder / "residuals.parquet", widen)
    refused_and_written(evaluate(qtrade, run), run, "The validation errors of ridge for ^GSPC in fold 1")


def test_a_model_that_was_put_into_the_place_of_an_older_one_is_named(run: Run, qtrade: Program) -> None:
    first, last = (run.fold_folder("ridge", fold, 0) for fold in (0, 1))
    shutil.copy(last / "model.safetensors", first / "model.safetensors")
    edit(
        first / "history.json",
        lambda told: told["sha256"].update({"model.safetensors": sha256(first / "model.safetensors")}),
    )
    refused_and_written(evaluate(qtrade, run), run, "(ridge, fold 1) is not what its model says")
    assert "models were swapped" in (run.folder / "evaluation.json").read_text(encoding="utf-8")


def test_answers_that_were_altered_are_asked_for_again(run: Run, qtrade: Program) -> None:
    assert evaluate(qtrade, run).returncode == 0
    content = (run.folder / "evaluation.json").read_bytes()
    for path in (run.folder / "transfer").iterdir():
        rewrite(path, lambda table: table * -3)
    assert evaluate(qtrade, run).returncode == 0
    assert (run.folder / "evaluation.json").read_bytes() == content


def test_a_strategy_that_reads_the_next_bar_is_refused(run: Run, qtrade: Program) -> None:
    place = run.folder.parents[1]
    (place / "tomorrow.py").write_text(SEES_TOMORROW)
    outcome = qtrade(place, "backtest", run.name, "-s", "tomorrow.py")
    refused(outcome, "strategy 'tomorrow': the weight of ^GSPC at 201", "it looks ahead")
    assert not list(run.folder.glob("backtests/tomorrow-*"))


def test_a_smoothed_regime_is_no_signal_but_a_filtered_one_is(run: Run, qtrade: Program) -> None:
    place = run.folder.parents[1]
    for what in ("smooth", "filter"):
        (place / f"{what}.py").write_text(REGIME.replace("{what}", what))
    outcome = qtrade(place, "backtest", run.name, "-s", "smooth.py")
    refused(outcome, "strategy 'smooth': the weight of ^GSPC at 201", "it looks ahead")
    assert not list(run.folder.glob("backtests/smooth-*"))
    honest = qtrade(place, "backtest", run.name, "-s", "filter.py")
    assert honest.returncode == 0, honest.stderr

"""How good a run's forecasts were, and whether what they know still holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from qtrade.config import RunConfig
from qtrade.data.synthetic import SCENARIOS, oracle
from qtrade.errors import DataError, IntegrityError, UsageError
from qtrade.evaluation import gates, trading
from qtrade.evaluation.distribution import distribution_skill
from qtrade.evaluation.gates import Gate, Limits, conclude
from qtrade.evaluation.result import Evaluation, ShiftStudy, Trading
from qtrade.evaluation.stability import Stability, study
from qtrade.evaluation.trading import trading_evidence
from qtrade.evaluation.verdict import Verdict, verdict
from qtrade.features.targets import volatility
from qtrade.files import read_json, write_json
from qtrade.ledger import Market as LedgerMarket
from qtrade.ledger import Trial
from qtrade.pipeline.backtest import luck_variance
from qtrade.pipeline.cadence import suggest_cadence
from qtrade.pipeline.integrity import find_violations
from qtrade.pipeline.ladder import Probe, climb
from qtrade.pipeline.lock import keeping
from qtrade.pipeline.market import Market, check_files, derive, folds_of
from qtrade.pipeline.measures import (
    interval_studies,
    model_skills,
    regime_studies,
    seed_mean_with_actual,
    shift_study,
)
from qtrade.pipeline.replay import Replayed, replay
from qtrade.pipeline.transfer import make_question, transfer_run
from qtrade.pipeline.venue import ledger_of, tried_on
from qtrade.progress import Progress
from qtrade.runs import Run, check_run
from qtrade.strategy import load_strategy, strategy_folders
from qtrade.types import Bars, Fold

OPTIMISM = "optimism.json"
"""What `--full` adds to a run; later evaluations tell it, too."""
SUSPICIOUS = 0.10
"""Correlation with the next return above which a feature is named as a suspect."""


@keeping
def evaluate_run(
    run: Run,
    *,
    progress: Progress,
    config: RunConfig | None = None,
    full: bool = False,
    probe: Probe = "trees",
) -> Evaluation:
    """Evaluate a trained run and write ``evaluation.json``.

    Parameters
    ----------
    config
        Where account and what to measure are taken from, unless the run's own configuration will do.
    full
        Ask the models about more of each other's periods, and fit cheap models for the optimism waterfall.
    probe
        The cheap model of the waterfall.

    Raises
    ------
    IntegrityError
        If something in the run used the future; ``evaluation.json`` and ``report.html`` then say so and nothing else.
    """
    check_run(run)
    try:
        return _evaluate(run, progress, config, full=full, probe=probe)
    except _ViolationError as error:
        _refuse(run, error.violations)
    except IntegrityError as error:
        _refuse(run, [error.what])


def _evaluate(run: Run, progress: Progress, config: RunConfig | None, *, full: bool, probe: Probe) -> Evaluation:
    """Measure everything; see `evaluate_run`."""
    config = config or run.config
    check_files(run, config)
    bars = run.bars
    raw, outcomes = run.forecasts(config.model)
    forecasts, actual = seed_mean_with_actual(raw, outcomes)
    progress.start("evaluate: make it again", 1)
    market = derive(config, bars)
    backtests = replay(run, bars, forecasts, config)
    if violations := find_violations(run, config, market, raw, backtests):
        raise _ViolationError(violations)
    folds = folds_of(market, config)
    question = make_question(
        [fold.train_end for fold in folds],
        np.arange(folds[0].test.start, folds[-1].test.stop),
        len(bars.symbols),
        config.evaluation.upto(config.window.horizon),
        windows=config.evaluation.windows * (10 if full else 1),
    )
    transfer = transfer_run(run, config, market, question, forecasts, progress)
    progress.start("evaluate: measure", 6)
    skills = model_skills(run, config, bars, folds[0])
    progress.advance(1, "skill")
    mine = skills[config.model]
    scale = volatility(market.returns)
    stability = study(transfer, market.returns[:, question.symbols], scale[:, question.symbols], config.split.delay)
    progress.advance(1, "stability")
    chosen = _main_backtest(backtests, config)
    regimes = regime_studies(market, config, folds, forecasts, actual, chosen, scale)
    progress.advance(1, "regimes")
    shift = shift_study(market, config, folds, question)
    progress.advance(1, "features")
    intervals, by_regimes = interval_studies(market, config, forecasts, actual, question, regimes)
    progress.advance(1, "intervals")
    optimism = _optimism(run, config, market, folds, progress, full=full, probe=probe)
    traded = None if chosen is None or chosen.result is None else _trading(chosen, backtests, run, bars, config)
    judged = verdict(mine)
    opened = [
        gates.integrity_gate(()),
        gates.plausibility_gate(mine, _path_r2(stability), limits_of(config), suspects_among(market, folds)),
        gates.skill_gate(judged),
        gates.stability_gate(
            stability.staleness,
            stability.change,
            stability.recurrence,
            when=_when(stability, bars.index),
            step_bars=config.split.step,
        ),
        _optimism_gate(optimism),
        gates.regime_gate(
            regimes[0].novelty if regimes else None,
            regimes[0].skill if regimes else (),
            skilled=judged.headline == "PASS",
        ),
        _shift_gate(shift),
        gates.coverage_gate(
            0.8, [(one.label, one.coverage80, one.enough) for one in regimes[0].skill if one.coverage80 is not None]
        )
        if regimes
        else Gate("G7", "NOT MEASURED", ("No regime is known.",)),
        _trading_gate(traded, decided_again=chosen is not None and chosen.decided_again),
    ]
    evaluation = Evaluation(
        verdict=conclude(opened, judged),
        gates=tuple(opened),
        skill=skills,
        distribution=distribution_skill(forecasts, actual, question.horizons),
        stability=stability,
        break_when=_when(stability, bars.index),
        stride=question.stride,
        symbols=tuple(bars.symbols[symbol] for symbol in question.symbols),
        cadence=suggest_cadence(market, config, folds[0]).to_dict(),
        regimes=regimes,
        shift=shift,
        intervals=intervals,
        interval_coverage=by_regimes,
        optimism=optimism,
        trading=traded,
        train_ends=tuple(str(bars.index[fold.train_end]) for fold in folds),
        backtests=tuple({"strategy": one.name, "params": dict(one.params), **one.told} for one in backtests),
        index=bars.index,
    )
    _record(run, bars, folds)
    progress.advance(1, f"done, the verdict is {evaluation.verdict.headline}")
    write_json(run.folder / "evaluation.json", evaluation.to_dict())
    return evaluation


def _record(run: Run, bars: Bars, folds: Sequence[Fold]) -> None:
    """Enter the model into the ledger: whoever reads its scores may choose by them."""
    span = bars.rows(folds[0].test.start, folds[-1].test.stop)
    manifest = run.manifest
    trial = Trial(
        market=LedgerMarket.of(span),
        bars=len(span),
        snapshot=manifest["facts"]["data"],
        run=run.name,
        forecasts=manifest["forecast_hash"],
        kind="evaluation",
    )
    ledger_of(run).add([trial])


class _ViolationError(IntegrityError):
    """Everything in a run that used the future."""

    def __init__(self, violations: Sequence[str]) -> None:
        super().__init__(violations[0])
        self.violations = violations


def _refuse(run: Run, violations: Sequence[str]) -> NoReturn:
    """Leave nothing but the violations, and stop."""
    from qtrade.report.page import write_invalid  # draws figures, which a run that is valid does not need here

    gate = gates.integrity_gate(violations)
    conclusion = conclude([gate], Verdict("INVALID", "", ()))
    told = {"verdict": conclusion.to_dict(), "gates": [gate.to_dict()]}
    write_json(run.folder / "evaluation.json", told)
    write_invalid(run.folder / "report.html", run.name, told)
    (run.folder / "metrics.json").unlink(missing_ok=True)  # an earlier report's
    others = f" And {len(violations) - 1} more: see evaluation.json." if len(violations) > 1 else ""
    raise IntegrityError(
        f"INVALID: {violations[0]}{others}",
        why="a run that used the future, or was altered, says nothing, so nothing else of it is told",
        fix="mend what it names, and train the run anew under another name",
    )


def _when(stability: Stability, index: pd.DatetimeIndex) -> str:
    """Say when a break was, and how sure that is; nothing where there was none beyond chance."""
    if stability.change is None or stability.change.p >= 0.05:
        return ""
    bar, first, last = (index[place] for place in (stability.change.bar, stability.change.first, stability.change.last))
    return f"about {bar:%Y-%m-%d} (between {first:%Y-%m-%d} and {last:%Y-%m-%d})"


def _path_r2(stability: Stability) -> float | None:
    return stability.matrix.honest.r2 if stability.matrix.honest else None


def limits_of(config: RunConfig) -> Limits:
    """How good a forecast may be: published ones are no better, and no better one can be made of a known rule."""
    if config.data.source != "synthetic":
        return Limits()
    known = config.data.synthetic
    scenarios = [SCENARIOS[symbol.partition("-")[0]] for symbol in config.data.symbols]
    factors = [abs(factor) for scenario in scenarios for factor, _ in scenario.rules.values()]
    best = [oracle(known.phi, known.beta * max(factors), horizon) for horizon in range(1, config.window.horizon + 1)]
    return Limits.of_known_truth(best[0][1], max(r2 for r2, _ in best))


def suspects_among(market: Market, folds: Sequence[Fold]) -> list[str]:
    """Features whose value at a bar moves with the return of the next one, the strongest first."""
    tested = np.arange(folds[0].test.start, min(folds[-1].test.stop, len(market.bars) - 1))
    following = market.returns[tested + 1]
    following = following - following.mean(axis=0)
    found = []
    for column, name in enumerate(market.features.names):
        values = market.features.values[tested, :, column].astype(np.float64)
        values = values - values.mean(axis=0)
        size = np.sqrt((values**2).sum() * (following**2).sum())
        correlation = float((values * following).sum() / size) if size > 0 else 0.0
        if abs(correlation) > SUSPICIOUS:
            found.append((abs(correlation), f"'{name}' (correlation {correlation:+.2f} with the next return)"))
    return [text for _, text in sorted(found, reverse=True)[:3]]


def _main_backtest(backtests: Sequence[Replayed], config: RunConfig) -> Replayed | None:
    """Return the backtest of the strategy that is configured first, as it is configured; or else the first by name."""
    for name, params in config.strategies.items():
        try:
            wanted = load_strategy(name, params, strategy_folders())
        except UsageError:
            break  # its file is gone or is another one by now
        same = [one for one in backtests if one.name == wanted.name and one.params == dict(wanted.params)]
        same.sort(key=lambda one: one.source == wanted.sha256)
        if same:
            return same[-1]
    return backtests[0] if backtests else None


def _optimism(
    run: Run,
    config: RunConfig,
    market: Market,
    folds: Sequence[Fold],
    progress: Progress,
    *,
    full: bool,
    probe: Probe,
) -> dict[str, Any] | None:
    """Climb the ladder, or return what an earlier full evaluation of the same run found."""
    path = run.folder / OPTIMISM
    horizons = list(config.evaluation.upto(config.window.horizon))
    identity = run.manifest["forecast_hash"]
    if full:
        climbed = climb(
            market,
            config,
            folds,
            probe=probe,
            horizons=horizons,
            seed=config.seed,
            progress=progress,
        )
        told = {
            **climbed.to_dict(),
            "lines": list(climbed.lines()),
            "forecast_hash": identity,
            "horizons_bars": horizons,
        }
        write_json(path, told)
        return told
    try:
        saved: dict[str, Any] = read_json(path, fix="")
        known = saved["gate"]["grade"] in ("PASS", "WARN", "FAIL", "INCONCLUSIVE") and saved["gate"]["sentence"]
        return saved if known and (saved["forecast_hash"], saved["horizons_bars"]) == (identity, horizons) else None
    except (DataError, KeyError, TypeError):
        return None  # there is none, or none of these forecasts


def _optimism_gate(optimism: Mapping[str, Any] | None) -> Gate:
    if optimism is None:
        return Gate("G4", "NOT MEASURED", ("Not measured: `qtrade evaluate RUN --full` fits the models it takes.",))
    return Gate("G4", optimism["gate"]["grade"], (optimism["gate"]["sentence"],))


def _shift_gate(shift: ShiftStudy) -> Gate:
    """G6: never worse than WARN, since a feature may move without harm."""
    levels = [one.name for one in shift.unit_roots if one.level]
    reasons = []
    if levels:
        reasons.append(
            f"{', '.join(levels)}: a level, which need never come back; make it relative, or leave it out with "
            "features.exclude."
        )
    if shift.summary.answer == "WARN" or not levels:
        reasons.append(f"Features of the test periods against training: {shift.summary.reason}.")
    if levels or shift.summary.answer == "WARN":
        return Gate("G6", "WARN", tuple(reasons))
    return Gate("G6", "NOT MEASURED" if shift.summary.answer == "cannot tell" else "PASS", tuple(reasons))


def _trading(chosen: Replayed, backtests: Sequence[Replayed], run: Run, bars: Bars, config: RunConfig) -> Trading:
    """Weigh the main strategy's backtest against luck, trials, costs and delay."""
    assert chosen.result is not None, "only a backtest that could be traded again is weighed"
    index = pd.DatetimeIndex(chosen.result.net.index)
    first = int(bars.index.get_indexer(index[:1])[0])
    span = bars.rows(first, first + len(index))
    market = LedgerMarket.of(span)
    tried = tried_on(run, market, config.backtest)
    mine = [one.result.net.to_numpy(dtype=np.float64) for one in backtests if one.result is not None]
    evidence, null = trading_evidence(
        chosen.result,
        span,
        config.backtest,
        delayed=chosen.delayed,
        trials=max(1, tried.trials),
        trial_variance=luck_variance(tried, len(index)),
        variants=np.column_stack([*mine, ledger_of(run).variants(market, index)]),
        min_shift=config.window.horizon,
        draws=config.evaluation.shifts,
        seed=config.seed,
    )
    return Trading(chosen.name, evidence, null)


def _trading_gate(traded: Trading | None, *, decided_again: bool) -> Gate:
    if traded is None:
        return Gate("G8", "NOT MEASURED", ("No strategy has been backtested on these forecasts.",))
    grade, reasons = trading.gate(traded.evidence)
    if grade == "PASS" and not decided_again:
        gone = "its file is gone or another one by now, so nobody can tell whether it decided this."
        grade, reasons = "WARN", (gone, *reasons)
    return Gate("G8", grade, tuple(f"{traded.strategy}: {reason[0].lower()}{reason[1:]}" for reason in reasons))

"""How good a run's forecasts were."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd

from qtrade.evaluation.skill import HorizonSkill, skill
from qtrade.evaluation.verdict import verdict
from qtrade.features.targets import log_returns
from qtrade.files import write_json
from qtrade.progress import Progress
from qtrade.runs import Run, rows_of
from qtrade.types import Bars, Float64Array, Forecasts


def evaluate_run(run: Run, bars: Bars, progress: Progress) -> None:
    """Measure every model of the run and write ``evaluation.json``."""
    progress.start("evaluate", 1)
    skills = model_skills(run, bars)
    conclusion = verdict(skills[run.config.model])
    write_json(
        run.folder / "evaluation.json",
        {
            "verdict": asdict(conclusion),
            "skill": {model: [one.to_dict() for one in values] for model, values in skills.items()},
        },
    )
    progress.advance(1, conclusion.headline)


def model_skills(run: Run, bars: Bars) -> dict[str, tuple[HorizonSkill, ...]]:
    """Skill per horizon of every model of a run that makes a forecast; the random walk makes none."""
    config = run.config
    drift = expanding_drift(log_returns(bars))
    found: dict[str, tuple[HorizonSkill, ...]] = {}
    for model in dict.fromkeys((config.model, *config.baselines)):
        forecasts, actual = seed_mean_with_actual(*run.forecasts(model))
        rows = rows_of(forecasts, bars)
        found[model] = skill(forecasts, actual, drift[rows.origin, rows.symbol])
    return found


def seed_mean_with_actual(forecasts: Forecasts, actual: Float64Array) -> tuple[Forecasts, Float64Array]:
    """Average forecasts over seeds, and bring what happened into the order of the result."""
    mean = forecasts.seed_mean()
    keys = pd.MultiIndex.from_arrays([forecasts.origin, forecasts.symbol])
    first = ~keys.duplicated()
    wanted = pd.MultiIndex.from_arrays([mean.origin, mean.symbol])
    return mean, actual[first][keys[first].get_indexer(wanted)]


def expanding_drift(returns: Float64Array) -> Float64Array:
    """(T, S) mean log return per bar over all bars up to and including each one."""
    known = np.nan_to_num(returns[1:], nan=0.0)
    mean = np.cumsum(known, axis=0) / np.arange(1, len(returns))[:, None]
    return np.vstack([np.zeros((1, returns.shape[1])), mean])

"""What has to be said beside every forecast: the verdict of its run, and what makes it worth less than that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from qtrade.errors import DataError, IntegrityError
from qtrade.features.targets import volatility
from qtrade.files import read_json
from qtrade.pipeline.market import Market
from qtrade.pipeline.overview import read_verdict
from qtrade.runs import Run

NOT_EVALUATED = "NOT EVALUATED"
_NAMED = 5
"""Features that are named; more are counted."""
UNLIKE = 1.5
"""Volatility over that of the validation bars from which on the intervals are of another market."""


@dataclass(frozen=True)
class Standing:
    """How a run and its newest model stand.

    Attributes
    ----------
    headline, line
        The verdict of the run's evaluation; `NOT_EVALUATED` where there is none.
    train_end
        Stamp of the last bar that the model knows.
    age_bars
        Bars from there to the origin of the forecast.
    warnings
        Sentences on what the verdict does not cover.
    """

    headline: str
    line: str
    train_end: pd.Timestamp
    age_bars: int
    warnings: tuple[str, ...]


def standing(run: Run, market: Market, train_end: pd.Timestamp) -> Standing:
    """Say how a run stands whose newest model forecasts from the last bar of a market.

    Raises
    ------
    IntegrityError
        If the run is INVALID: then nothing else is told of it.
    DataError
        If its evaluation cannot be read.
    """
    headline, line = _verdict(run)
    told = _evaluation(run)
    age = len(market.bars) - 1 - int(market.bars.index.searchsorted(train_end))
    fold = next(fold for fold in run.manifest["folds"] if pd.Timestamp(fold["train_end"]) == train_end)
    warnings = (*_of_age(run, told, train_end, age), *_of_features(run, market, fold), *_of_intervals(market, fold))
    return Standing(headline, line, train_end, age, warnings)


def _evaluation(run: Run) -> Mapping[str, Any]:
    """Read ``evaluation.json``; empty where there is none that can be read."""
    try:
        told = read_json(run.folder / "evaluation.json", fix="")
    except DataError:
        return {}
    return told if isinstance(told, dict) else {}


def _verdict(run: Run) -> tuple[str, str]:
    told = read_verdict(run)
    if told is None:
        return NOT_EVALUATED, f"Whether these forecasts are worth anything is not known: {run.command('evaluate')}"
    if told["headline"] == "INVALID":
        raise IntegrityError(
            f"{run.name} is INVALID, so it forecasts nothing",
            why=told["line"],
            fix=f"mend what `{run.command('evaluate')}` names, or train a new run",
        )
    return told["headline"], told["line"]


def _of_age(run: Run, told: Mapping[str, Any], train_end: pd.Timestamp, age: int) -> Iterator[str]:
    """Warn of a model that is older than half of its edge lasts, or than any that was judged."""
    known = f"The model knows nothing after {train_end:%Y-%m-%d}: it is {age:,} bars old"
    half = _half_life(told)
    if half is not None and age > half:
        yield f"{known}, and half of the edge was gone after {half:,.0f}. Train a new run on newer bars."
        return
    # The last label of a test period ends a horizon after its last origin.
    config = run.config
    judged = max(int(fold["test_origins"]) for fold in run.manifest["folds"])
    if age >= judged + config.window.horizon + config.split.delay:
        yield f"{known}, and the verdict is about models of up to {judged:,}. Train a new run on newer bars."


def _half_life(told: Mapping[str, Any]) -> float | None:
    """Read the age in bars at which half of a fresh model's edge is gone, where it was measured."""
    try:
        half = told["stability"]["staleness"]["half_life_bars"]
    except (KeyError, TypeError):
        return None
    return float(half) if isinstance(half, int | float) else None


def _of_features(run: Run, market: Market, fold: Mapping[str, Any]) -> Iterator[str]:
    """Warn of features that lie where none of the bars lay that the model learned from."""
    values = market.features.values
    first, last = _positions(market, fold["fit"])
    learned = values[max(market.features.warmup, first - run.config.window.seq_len + 1) : last + 1]
    if len(learned) == 0:
        return
    now = values[-1]
    beyond = (now < learned.min(axis=0)) | (now > learned.max(axis=0))
    found = [
        f"{symbol} {market.features.names[column]}"
        for place, symbol in enumerate(market.bars.symbols)
        for column in np.nonzero(beyond[place])[0].tolist()
    ]
    if found:
        listed = ", ".join(found[:_NAMED]) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")
        yield f"At this bar the model reads values beyond any that it learned from: {listed}."


def _of_intervals(market: Market, fold: Mapping[str, Any]) -> Iterator[str]:
    """Warn of intervals that were measured in a market that moved far more, or far less, than it does now."""
    first, last = _positions(market, fold["valid"])
    measured = volatility(market.returns[: last + 1])[first:]
    now = volatility(market.returns)[-1]
    for place, symbol in enumerate(market.bars.symbols):
        known = measured[np.isfinite(measured[:, place]), place]
        ratio = float(now[place] / np.median(known)) if len(known) else np.nan
        if ratio > UNLIKE:
            yield f"{symbol} moves {ratio:.1f} times as much as when its intervals were measured: they are too narrow."
        elif ratio < 1 / UNLIKE:
            yield f"{symbol} moves {1 / ratio:.1f} times less than when its intervals were measured: they are too wide."


def _positions(market: Market, span: Sequence[str]) -> tuple[int, int]:
    """Positions of the first and the last bar of a span of the manifest."""
    first, last = market.bars.index.searchsorted(pd.DatetimeIndex(list(span))).tolist()
    return int(first), int(last)

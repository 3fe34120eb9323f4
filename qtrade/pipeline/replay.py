"""Trade a saved backtest's decisions again: what it holds must be what its decisions make."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qtrade.backtest.costs import BacktestConfig, RuinError
from qtrade.backtest.engine import simulate
from qtrade.backtest.metrics import metrics
from qtrade.errors import DataError
from qtrade.files import read_json, read_parquet
from qtrade.runs import Run
from qtrade.types import BacktestResult, Bars, Forecasts


@dataclass(frozen=True, eq=False)
class Replayed:
    """A saved backtest, traded again.

    Attributes
    ----------
    name, params
        The strategy and its parameters.
    result
        What its decisions make; None where `problem` says why there is nothing.
    delayed
        The same decisions filled one bar later; None where that ruins the account or leaves no bar.
    problem
        Why the saved backtest is not what its decisions make; empty if it is.
    told
        Its numbers and those of buy-and-hold over the same bars, as plain values with units in their names.
    """

    name: str
    params: Mapping[str, Any]
    result: BacktestResult | None
    delayed: BacktestResult | None
    problem: str
    told: Mapping[str, Any]


def replay(run: Run, bars: Bars, account: BacktestConfig) -> list[Replayed]:
    """Trade every backtest of a run that was made with an account again; unreadable ones are left out.

    Parameters
    ----------
    bars
        The bars that were traded.
    """
    described = account.model_dump(mode="json")
    found = []
    for path in sorted(run.folder.glob("backtests/*/metrics.json"), key=lambda path: path.stat().st_mtime_ns):
        try:
            told = read_json(path, fix="")
            if told["account"] == described:
                found.append(_replay(told, path.parent, bars, account))
        except (DataError, KeyError, TypeError):
            continue  # the report names it
    return found


def _replay(told: Mapping[str, Any], folder: Path, bars: Bars, account: BacktestConfig) -> Replayed:
    name = told["strategy"]
    decided = pd.DataFrame(read_parquet(folder / "weights.parquet", fix="")["decided"])
    saved = read_parquet(folder / "equity.parquet", fix="")["equity"]

    def refused(problem: str) -> Replayed:
        return Replayed(name, told["params"], None, None, problem, {})

    same_bars = decided.index.equals(bars.index) and saved.index.equals(bars.index)
    if not same_bars or tuple(map(str, decided.columns)) != bars.symbols:
        return refused(f"The backtest of '{name}' is of other bars than the run's.")
    if not np.isfinite(decided.to_numpy(dtype=np.float64)).all():
        return refused(f"The backtest of '{name}' holds decisions that are no numbers.")
    try:
        result = simulate(bars, decided, account)
    except RuinError as error:
        return refused(f"The account of '{name}' is not what its decisions make: {error.what}.")
    if not np.allclose(saved.to_numpy(), result.equity.to_numpy(), rtol=1e-9):
        first = int(np.argmax(~np.isclose(saved.to_numpy(), result.equity.to_numpy(), rtol=1e-9)))
        return refused(
            f"The account of '{name}' is not what its decisions make when they are filled {account.delay} "
            f"bar{'s' if account.delay > 1 else ''} later at the open: it differs from {bars.index[first]} on."
        )
    measured = metrics(result, bars.periods_per_year).to_dict()
    for figure, value in measured.items():
        if figure in told["metrics"] and not _same(value, told["metrics"][figure]):
            return refused(f"The backtest of '{name}' claims another {figure} than its account shows.")
    later = account.model_copy(update={"delay": account.delay + 1})
    try:
        delayed = simulate(bars, decided, later) if later.delay < len(bars) else None
    except RuinError:
        delayed = None
    return Replayed(
        name, told["params"], result, delayed, "", {"metrics": measured, "buy_and_hold": told["buy_and_hold"]}
    )


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)


def tested_bars(bars: Bars, forecasts: Forecasts, delay: int) -> Bars:
    """From the first origin to the bar on which the last decision is filled."""
    first, last = bars.index.get_indexer(pd.DatetimeIndex([forecasts.origin.min(), forecasts.origin.max()]))
    return bars.rows(int(first), min(int(last) + delay + 1, len(bars)))

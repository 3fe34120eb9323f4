"""Trade a saved backtest's decisions again: what it holds must be what its decisions make."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qtrade.backtest.engine import simulate
from qtrade.backtest.metrics import metrics
from qtrade.config import RunConfig
from qtrade.errors import DataError, UsageError
from qtrade.files import read_parquet
from qtrade.forecasts import Forecasts
from qtrade.pipeline.told import read_told
from qtrade.pipeline.venue import Venue, make_venue
from qtrade.runs import Run
from qtrade.strategy import load_strategy, strategy_folders
from qtrade.types import BacktestResult, Bars

# Numbers whose definition does not change from one version to the next.
_CLAIMS = ("total_return", "net_annual_return", "cost_annual", "sharpe", "max_drawdown", "trades")
# Weights are rounded to 1e-8 when they are decided; one step apart may be a rounding error.
_SAME_WEIGHT = 2e-8


@dataclass(frozen=True, eq=False)
class Replayed:
    """A saved backtest, traded again.

    Attributes
    ----------
    name, params, source
        The strategy, its parameters, and the SHA-256 of its file.
    result
        What its decisions make; None where `problem` says why there is nothing.
    delayed
        The same decisions filled one bar later; None where that ruins the account or leaves no bar.
    problem
        Why the saved backtest is not what its decisions make; empty if it is.
    decided_again
        Whether its strategy's file was still there, unaltered, and decided the same once more.
    told
        Its numbers and those of buy-and-hold over the same bars, as plain values with units in their names.
    """

    name: str
    params: Mapping[str, Any]
    source: str
    result: BacktestResult | None
    delayed: BacktestResult | None
    problem: str
    decided_again: bool
    told: Mapping[str, Any]


def replay(run: Run, bars: Bars, forecasts: Forecasts, config: RunConfig) -> list[Replayed]:
    """Decide and trade every backtest of a run again that was made with the configured account.

    Those that cannot be read are left out; the report names them.

    Parameters
    ----------
    bars, forecasts
        All bars of the run, and the seed-mean forecasts that were traded.
    """
    described = config.backtest.model_dump(mode="json")
    venue = make_venue(bars, forecasts, config)
    found = []
    # In the order of their names: a copy of the folder, with other times, must be judged alike.
    for path in sorted(run.folder.glob("backtests/*/metrics.json")):
        try:
            told = read_told(path)
            name, params, source = told["strategy"], told["params"], told["source"]
            if path.parent.name != backtest_name(name, params, source, told["account"]):
                problem = f"The backtest in {path.parent.name} was altered: its account, parameters or file are others."
                found.append(Replayed(name, params, source, None, None, problem, False, {}))
            elif told["account"] == described:
                decisions = _decide_again(told["spec"], source, venue)
                found.append(_replay(told, path.parent, venue, decisions))
        except (DataError, KeyError, TypeError):
            continue
    return found


def backtest_name(name: str, params: Mapping[str, Any], source: str, account: Mapping[str, Any]) -> str:
    """Name the folder of a backtest, which tells strategy, parameters, file and account apart."""
    described = {"params": dict(params), "source": source, "account": dict(account)}
    return f"{name}-{hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:8]}"


def _decide_again(spec: str, source: str, venue: Venue) -> pd.DataFrame | None:
    """Ask a strategy again, after its audit; None where its file is gone or is another one by now.

    Raises
    ------
    IntegrityError
        If the strategy looks ahead.
    """
    try:
        strategy = load_strategy(spec, {}, strategy_folders())
        return venue.decide(strategy) if strategy.sha256 == source else None
    except UsageError:
        return None


def _replay(told: Mapping[str, Any], folder: Path, venue: Venue, decisions: pd.DataFrame | None) -> Replayed:
    name, bars, account = told["strategy"], venue.span, venue.account
    decided = pd.DataFrame(read_parquet(folder / "weights.parquet", fix="")["decided"])
    saved = read_parquet(folder / "equity.parquet", fix="")

    def refused(problem: str) -> Replayed:
        return Replayed(name, told["params"], told["source"], None, None, problem, False, {})

    same_bars = decided.index.equals(bars.index) and saved.index.equals(bars.index)
    if not same_bars or tuple(map(str, decided.columns)) != bars.symbols:
        return refused(f"The backtest of '{name}' is of other bars than the run's.")
    if not np.isfinite(decided.to_numpy(dtype=np.float64)).all():
        return refused(f"The backtest of '{name}' holds decisions that are no numbers.")
    if decisions is not None:
        again = decisions.to_numpy(dtype=np.float64)
        moved = np.abs(again - decided.to_numpy(dtype=np.float64)).max(axis=1) > _SAME_WEIGHT
        if moved.any():
            stamp = bars.index[int(moved.argmax())]
            return refused(f"The backtest of '{name}' holds other decisions than its strategy makes, from {stamp} on.")
    result = venue.trade(decided)
    series = {name: getattr(result, name) for name in ("gross", "cost", "net", "financing")}
    series |= {"equity": result.equity, "buy_and_hold": venue.hold.equity, "buy_and_hold_net": venue.hold.net}
    same = np.stack([np.isclose(saved[name], one, rtol=1e-9, atol=1e-9) for name, one in series.items()]).all(axis=0)
    if not same.all():
        first = int(np.argmin(same))
        return refused(
            f"The account of '{name}' is not what its decisions make when they are filled {account.delay} "
            f"bar{'s' if account.delay != 1 else ''} later at the {account.fill}: it differs from "
            f"{bars.index[first]} on."
        )
    measured = metrics(result, bars.periods_per_year).to_dict()
    hold = metrics(venue.hold, bars.periods_per_year).to_dict()
    for figure in _CLAIMS:
        for whose, shown, claimed in (("its account", measured, "metrics"), ("buy and hold", hold, "buy_and_hold")):
            if not _same(shown[figure], told[claimed].get(figure)):
                return refused(f"The backtest of '{name}' claims another {figure} than {whose} shows.")
    later = account.model_copy(update={"delay": account.delay + 1})
    delayed = simulate(bars, decided, later, venue.exits) if later.delay < len(bars) else None
    if delayed is not None and delayed.ruined is not None:
        delayed = None
    numbers = {"metrics": measured, "buy_and_hold": hold}
    return Replayed(name, told["params"], told["source"], result, delayed, "", decisions is not None, numbers)


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)

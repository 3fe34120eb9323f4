"""The second story: what a strategy would have made of the forecasts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from qtrade.backtest.engine import simulate
from qtrade.backtest.metrics import Metrics, metrics
from qtrade.config import RunConfig, Scalar
from qtrade.data.cache import Cache
from qtrade.files import write_json, write_parquet
from qtrade.pipeline.market import run_bars
from qtrade.progress import Progress
from qtrade.runs import Run, check_run
from qtrade.strategy import LoadedStrategy, audit, decide, load_strategy, strategy_folders
from qtrade.types import BacktestResult, Bars, Forecasts


def backtest_run(
    run: Run,
    *,
    cache: Cache,
    progress: Progress,
    strategies: Mapping[str, Mapping[str, Scalar]] | None = None,
) -> list[Path]:
    """Backtest strategies on the forecasts of a run; the run's configured ones unless told otherwise.

    Every strategy passes the look-ahead audit before it is simulated.

    Returns
    -------
    list of Path
        The folder of each backtest.
    """
    check_run(run)
    config = run.config
    bars = run_bars(run, cache)
    forecasts = run.forecasts(config.model)[0].seed_mean()
    chosen = config.strategies if strategies is None else strategies
    loaded = [load_strategy(name, params, strategy_folders()) for name, params in chosen.items()]
    progress.start("backtest", len(loaded))
    folders = []
    for strategy in loaded:
        audit(strategy, bars, forecasts, seed=config.seed)
        span = tested_bars(bars, forecasts, config.backtest.delay)
        weights = decide(strategy, bars, forecasts).loc[span.index]
        result = simulate(span, weights, config.backtest)
        folders.append(_save_backtest(run, strategy, config, result, metrics(result, bars.periods_per_year)))
        progress.advance(1, strategy.name)
    return folders


def tested_bars(bars: Bars, forecasts: Forecasts, delay: int) -> Bars:
    """From the first origin to the bar on which the last decision is filled."""
    first, last = bars.index.get_indexer(pd.DatetimeIndex([forecasts.origin.min(), forecasts.origin.max()]))
    return bars.rows(int(first), min(int(last) + delay + 1, len(bars)))


def _save_backtest(
    run: Run, strategy: LoadedStrategy, config: RunConfig, result: BacktestResult, numbers: Metrics
) -> Path:
    """Write one backtest; its folder's name tells strategy, parameters and account apart."""
    identity = {"params": dict(strategy.params), "source": strategy.sha256, "account": config.backtest.model_dump()}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    folder = run.folder / "backtests" / f"{strategy.name}-{digest}"
    write_parquet(folder / "weights.parquet", pd.concat({"decided": result.decided, "held": result.held}, axis=1))
    write_parquet(folder / "trades.parquet", result.trades)
    write_parquet(
        folder / "equity.parquet",
        pd.DataFrame({"gross": result.gross, "cost": result.cost, "net": result.net, "equity": result.equity}),
    )
    described = {"strategy": strategy.name, "params": dict(strategy.params), "metrics": numbers.to_dict()}
    write_json(folder / "metrics.json", described)
    return folder

"""The second story: what a strategy would have made of the forecasts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from qtrade.backtest.costs import BacktestConfig, RuinError
from qtrade.backtest.engine import simulate
from qtrade.backtest.metrics import metrics
from qtrade.config import RunConfig, Scalar
from qtrade.errors import PartialError
from qtrade.files import write_json, write_parquet
from qtrade.pipeline.replay import backtest_name, tested_bars
from qtrade.progress import Progress
from qtrade.runs import Run, check_run
from qtrade.strategy import LoadedStrategy, audit, decide, load_strategy, strategy_folders
from qtrade.types import BacktestResult


def backtest_run(
    run: Run,
    *,
    progress: Progress,
    config: RunConfig | None = None,
    strategies: Mapping[str, Mapping[str, Scalar]] | None = None,
) -> list[Path]:
    """Backtest strategies on the forecasts of a run, with buy-and-hold over the same bars beside each.

    Every strategy passes the look-ahead audit before it is simulated.

    Parameters
    ----------
    config
        Where account and strategies are taken from, unless the run's own configuration will do.
    strategies
        Names or paths, each with its parameters, in place of the configured ones.

    Returns
    -------
    list of Path
        The folder of each backtest.

    Raises
    ------
    PartialError
        If a strategy ruined its account; the others are simulated and saved.
    """
    check_run(run)
    config = config or run.config
    loaded = load_strategies(config.strategies if strategies is None else strategies)
    bars = run.bars
    forecasts = run.forecasts(config.model)[0].seed_mean()
    span = tested_bars(bars, forecasts, config.backtest.delay)
    hold = load_strategy("buy_and_hold", {}, strategy_folders())
    benchmark = simulate(span, decide(hold, span, forecasts), config.backtest)
    progress.start("backtest", len(loaded))
    folders, ruined = [], dict[str, RuinError]()
    for strategy in loaded:
        audit(strategy, bars, forecasts, seed=config.seed)
        weights = decide(strategy, bars, forecasts).loc[span.index]
        try:
            result = simulate(span, weights, config.backtest)
        except RuinError as error:
            ruined[strategy.name] = error
            progress.advance(1, f"{strategy.name}: ruined")
            continue
        folders.append(_save_backtest(run, strategy, config.backtest, result, benchmark, bars.periods_per_year))
        progress.advance(1, strategy.name)
    if ruined:
        first = next(iter(ruined.values()))
        raise PartialError(
            "; ".join(f"{name}: {error.what}" for name, error in ruined.items()), why=first.why, fix=first.fix
        )
    return folders


def load_strategies(chosen: Mapping[str, Mapping[str, Scalar]]) -> list[LoadedStrategy]:
    """Load strategies by name or path; a wrong one is found here, before anything is computed for it."""
    return [load_strategy(name, params, strategy_folders()) for name, params in chosen.items()]


def _save_backtest(
    run: Run,
    strategy: LoadedStrategy,
    account: BacktestConfig,
    result: BacktestResult,
    benchmark: BacktestResult,
    periods_per_year: float,
) -> Path:
    """Write one backtest; its folder's name tells strategy, parameters and account apart."""
    params, told = dict(strategy.params), account.model_dump(mode="json")
    described = {"params": params, "source": strategy.sha256, "account": told}
    folder = run.folder / "backtests" / backtest_name(strategy.name, params, strategy.sha256, told)
    write_parquet(folder / "weights.parquet", pd.concat({"decided": result.decided, "held": result.held}, axis=1))
    write_parquet(folder / "trades.parquet", result.trades)
    series = {"gross": result.gross, "cost": result.cost, "net": result.net, "equity": result.equity}
    write_parquet(folder / "equity.parquet", pd.DataFrame({**series, "buy_and_hold": benchmark.equity}))
    measured = {
        "metrics": metrics(result, periods_per_year).to_dict(),
        "buy_and_hold": metrics(benchmark, periods_per_year).to_dict(),
    }
    write_json(folder / "metrics.json", {"strategy": strategy.name, **described, **measured})
    return folder

"""The second story: what a strategy would have made of the forecasts."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import qtrade.notebook_html as html
from qtrade.backtest.bootstrap import sharpe_interval
from qtrade.backtest.comparison import Comparison, compare
from qtrade.backtest.costs import BacktestConfig
from qtrade.backtest.curves import cost_curve, delay_curve
from qtrade.backtest.metrics import metrics, relative, sharpe_ratio
from qtrade.backtest.statistics import deflated_sharpe, min_track_record, probabilistic_sharpe
from qtrade.backtest.tables import by_month, by_regime, by_year, deepest_drawdowns
from qtrade.config import RunConfig, Scalar
from qtrade.errors import PartialError
from qtrade.evaluation.plain import plain
from qtrade.files import write_json, write_parquet
from qtrade.ledger import Trial, Tried
from qtrade.pipeline.lock import keeping
from qtrade.pipeline.replay import backtest_name
from qtrade.pipeline.venue import Venue, account_text, ledger_of, open_venue, tried_on
from qtrade.progress import Progress
from qtrade.runs import Run, check_run
from qtrade.strategy import LoadedStrategy, load_strategy, strategy_folders
from qtrade.types import BacktestResult, Float64Array

KNOWN_REGIMES = 2
"""Regimes that must have been seen before a table of them says anything."""


@dataclass(frozen=True, eq=False)
class Tested:
    """One strategy's backtest.

    Attributes
    ----------
    folder
        Where it is saved.
    told
        What ``metrics.json`` in it says.
    luck
        What the trials so far leave of its Sharpe ratio; see `luck_of`.
    net
        (T,) net returns per bar.
    """

    folder: Path
    told: Mapping[str, Any]
    luck: Mapping[str, Any]
    net: Float64Array

    @property
    def name(self) -> str:
        """The strategy as it can be typed again."""
        return str(self.told["spec"])

    def __repr__(self) -> str:
        sharpe = html.ratio(self.told["metrics"]["sharpe"])
        return f"Tested({self.name}, Sharpe ratio {sharpe}, {len(self.net):,} bars)"

    def _repr_html_(self) -> str:
        rows = [_row(self.name, {**self.told["metrics"], **self.luck}), _row(_HOLD, self.told["buy_and_hold"])]
        return html.piece(html.table(_TITLES, rows), html.paragraph(f"Saved in {self.folder}."))


@dataclass(frozen=True, eq=False)
class Backtests:
    """Backtests of several strategies on equal data.

    Attributes
    ----------
    tested
        In the order in which they were asked for.
    hold
        (T,) net returns per bar of buy-and-hold with the same account.
    tried
        Everything that was tried on this market so far, these included.
    account, periods_per_year, seed
        The account, the bars in a year, and the seed of bootstraps.
    """

    tested: tuple[Tested, ...]
    hold: Float64Array
    tried: Tried
    account: BacktestConfig
    periods_per_year: float
    seed: int

    def __repr__(self) -> str:
        return f"Backtests({', '.join(one.name for one in self.tested)}; {self.tried.trials:,} trials so far)"

    def _repr_html_(self) -> str:
        rows = [_row(one.name, {**one.told["metrics"], **one.luck}) for one in self.tested]
        hold = [_row(_HOLD, self.tested[0].told["buy_and_hold"])] if self.tested else []
        told = f"{self.tried.trials:,} trials on this market so far; DSR is the probability of skill after all of them."
        return html.piece(html.table(_TITLES, [*rows, *hold]), html.paragraph(told))

    def compare(self) -> Comparison:
        """Hold them against buy-and-hold: SPA and StepM (see `qtrade.backtest.comparison`)."""
        return compare({one.name: one.net for one in self.tested}, self.hold, self.periods_per_year, seed=self.seed)


@keeping
def backtest_run(
    run: Run,
    *,
    progress: Progress,
    config: RunConfig | None = None,
    strategies: Sequence[LoadedStrategy] | None = None,
) -> Backtests:
    """Backtest strategies on the forecasts of a run, with buy-and-hold over the same bars beside each.

    Every strategy passes the look-ahead audit before it is simulated, and enters the ledger.

    Parameters
    ----------
    config
        Where account and strategies are taken from, unless the run's own configuration will do.
    strategies
        In place of the configured ones.

    Raises
    ------
    PartialError
        If a strategy ruined its account; all are simulated, recorded and saved before that.
    """
    check_run(run)
    config = config or run.config
    loaded = load_strategies(config.strategies) if strategies is None else list(strategies)
    venue, ledger = open_venue(run, config), ledger_of(run)
    ledger.tried(venue.market)  # one that cannot be used is met before anything is computed
    progress.start("backtest", len(loaded))
    saved: list[tuple[Path, dict[str, Any], BacktestResult]] = []
    for strategy in loaded:
        weights = venue.decide(strategy)
        result = venue.trade(weights)
        told = describe(strategy, venue, weights, result)
        ledger.add([_trial(run, strategy, venue, weights, result)])  # before anybody can read what came of it
        saved.append((_save(run, strategy, venue, result, told), told, result))
        progress.advance(1, f"{strategy.name}: ruined" if result.ruined is not None else strategy.name)
    tried = tried_on(run, venue.market, venue.account)
    periods = venue.span.periods_per_year
    tested = tuple(
        Tested(folder, told, luck_of(result.net, periods, tried), result.net.to_numpy(dtype=np.float64))
        for folder, told, result in saved
    )
    hold = venue.hold.net.to_numpy(dtype=np.float64)
    backtests = Backtests(tested, hold, tried, venue.account, periods, venue.seed)
    ruined = [(told["spec"], result) for _, told, result in saved if result.ruined is not None]
    if ruined:
        raise RuinedError(ruined, backtests)
    return backtests


class RuinedError(PartialError):
    """Some strategies lost all there was. `backtests` holds every backtest, theirs included."""

    def __init__(self, ruined: Sequence[tuple[str, BacktestResult]], backtests: Backtests) -> None:
        names = "; ".join(
            f"{name}: the account is ruined, it is worth {result.equity.iloc[-1]:,.2f} at {result.ruined}"
            for name, result in ruined
        )
        super().__init__(
            names,
            why="a position lost more than there was; from then on the account stands still",
            fix="use smaller weights or less leverage, or a strategy that is never short; the backtests are saved",
        )
        self.backtests = backtests


def load_strategies(chosen: Mapping[str, Mapping[str, Scalar]]) -> list[LoadedStrategy]:
    """Load strategies by name, path or spec; a wrong one is found here, before anything is computed for it."""
    return [load_strategy(name, params, strategy_folders()) for name, params in chosen.items()]


def describe(strategy: LoadedStrategy, venue: Venue, weights: pd.DataFrame, result: BacktestResult) -> dict[str, Any]:
    """Say everything about a backtest that follows from it alone, as plain values with units in their names."""
    bars, account, periods = venue.span, venue.account, venue.span.periods_per_year
    net, hold = (one.net.to_numpy(dtype=np.float64) for one in (result, venue.hold))
    low, high = sharpe_interval(net, periods, seed=venue.seed)
    told: dict[str, Any] = {
        "strategy": strategy.name,
        "spec": strategy.spec,
        **identity(strategy, account),
        "engine": result.engine,
        "forecast_covered_share": venue.covered,
        "ruined": None if result.ruined is None else str(result.ruined),
        "metrics": metrics(result, periods).to_dict(),
        "buy_and_hold": metrics(venue.hold, periods).to_dict(),
        "sharpe_bootstrap_low95": plain(low),
        "sharpe_bootstrap_high95": plain(high),
        "against_buy_and_hold": relative(net, hold, periods).to_dict(),
        "years": _records(by_year(result, periods)),
        "months": _records(by_month(result)),
        "regimes": [],
        "drawdowns": _records(deepest_drawdowns(result)),
        "cost_curve": [point.to_dict() for point in cost_curve(bars, weights, account, venue.exits)],
        "delay_curve": [point.to_dict() for point in delay_curve(bars, weights, account, venue.exits, seed=venue.seed)],
    }
    if venue.regimes.nunique() >= KNOWN_REGIMES:
        told["regimes"] = _records(by_regime(result, venue.regimes, periods))
    return told


def luck_of(net: pd.Series, periods_per_year: float, tried: Tried) -> dict[str, float | int | None]:
    """Judge a Sharpe ratio by how many were tried until it was found.

    Parameters
    ----------
    net
        (T,) net returns per bar.
    tried
        Trials on the same market; see `Ledger.tried`.
    """
    returns = net.to_numpy(dtype=np.float64)
    dsr = deflated_sharpe(returns, trials=max(1, tried.trials), variance=luck_variance(tried, len(returns)))
    record = min_track_record(returns) / periods_per_year
    return {
        "trials": tried.trials,
        "psr_probability": plain(probabilistic_sharpe(returns)),
        "dsr_probability": plain(dsr),
        "min_track_record_years": plain(record),
    }


def luck_variance(tried: Tried, bars: int) -> float:
    """Variance of the Sharpe ratios per bar of useless trials.

    Trials that resemble one another lie close together, and many of them would make the luckiest look ordinary. So it
    is never less than what chance alone scatters a Sharpe ratio of zero by.
    """
    return max(tried.variance or 0.0, 1 / max(1, bars - 1))


def identity(strategy: LoadedStrategy, account: BacktestConfig) -> dict[str, Any]:
    """Tell one backtest of a run from others: by its parameters, the hash of its files, and the account."""
    return {"params": dict(strategy.params), "source": strategy.sha256, "account": account.model_dump(mode="json")}


def digest_of(decided: Float64Array) -> str:
    """Hash of (T, S) decided weights, which are rounded and so the same wherever they are decided."""
    return hashlib.blake2b(np.ascontiguousarray(decided).tobytes(), digest_size=16).hexdigest()


def _trial(run: Run, strategy: LoadedStrategy, venue: Venue, weights: pd.DataFrame, result: BacktestResult) -> Trial:
    ratio = sharpe_ratio(result.net.to_numpy(dtype=np.float64), 1.0)[0]
    return Trial(
        market=venue.market,
        bars=len(venue.span),
        snapshot=run.manifest["facts"]["data"],
        run=run.name,
        forecasts=run.manifest["forecast_hash"],
        kind="backtest",
        strategy=strategy.title,
        source=f"{strategy.sha256} {digest_of(weights.to_numpy(dtype=np.float64))}",
        account=account_text(venue.account),
        sharpe=ratio if math.isfinite(ratio) else None,
        periods_per_year=venue.span.periods_per_year,
        returns=result.net,
    )


def _save(run: Run, strategy: LoadedStrategy, venue: Venue, result: BacktestResult, told: Mapping[str, Any]) -> Path:
    """Write one backtest; its folder's name tells strategy, parameters and account apart."""
    folder = run.folder / "backtests" / backtest_name(strategy.name, **identity(strategy, venue.account))
    write_parquet(folder / "weights.parquet", pd.concat({"decided": result.decided, "held": result.held}, axis=1))
    write_parquet(folder / "trades.parquet", result.trades)
    series = {"gross": result.gross, "cost": result.cost, "net": result.net, "financing": result.financing}
    hold = {"buy_and_hold": venue.hold.equity, "buy_and_hold_net": venue.hold.net}
    write_parquet(folder / "equity.parquet", pd.DataFrame({**series, "equity": result.equity, **hold}))
    write_json(folder / "metrics.json", dict(told))
    return folder


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Lay a table out as JSON: a dict per row, its label included, with None for what is undefined."""
    rows: list[dict[str, Any]] = json.loads(table.reset_index().to_json(orient="records", date_format="iso"))
    return rows


_HOLD = "buy and hold"
_TITLES = (
    "strategy",
    "gross a year",
    "cost a year",
    "net a year",
    "Sharpe ratio",
    "95% interval",
    "DSR",
    "fall",
    "fills",
)


def _row(name: str, numbers: Mapping[str, Any]) -> tuple[object, ...]:
    """Lay the numbers of one backtest out as a notebook shows them."""
    shares = (html.share(numbers[key]) for key in ("gross_annual_return", "cost_annual", "net_annual_return"))
    low, high = (html.ratio(numbers[key]) for key in ("sharpe_low", "sharpe_high"))
    luck, fall = html.ratio(numbers.get("dsr_probability")), html.share(numbers["max_drawdown"])
    return name, *shares, html.ratio(numbers["sharpe"]), f"{low} to {high}", luck, fall, int(numbers["trades"])

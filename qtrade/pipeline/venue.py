"""Where strategies are tried: the forecasts of a run, the bars they are tested on, the account, and buy-and-hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from qtrade.backtest.costs import BacktestConfig
from qtrade.backtest.engine import simulate
from qtrade.backtest.exits import Exits, exits_from
from qtrade.config import RunConfig
from qtrade.errors import DataError, IntegrityError
from qtrade.evaluation.regimes import UNKNOWN, volatility_terciles
from qtrade.features.targets import log_returns
from qtrade.files import read_json
from qtrade.forecasts import Forecasts
from qtrade.ledger import FILE_NAME, Ledger, Market, Tried
from qtrade.runs import Run, rows_of
from qtrade.strategy import LoadedStrategy
from qtrade.strategy_audit import audit
from qtrade.types import BacktestResult, Bars


@dataclass(frozen=True, eq=False)
class Venue:
    """What a strategy of a run is given, and how it is traded.

    Attributes
    ----------
    bars, forecasts
        All bars of the run, and the seed-mean forecasts of its model.
    span
        Bars that are traded: from the first origin to the bar that fills the last decision.
    account
        Cash, costs and limits.
    exits
        Stops and targets on the bars of `span`, or None.
    hold
        Buy-and-hold on the same bars with the same account.
    regimes
        Name of the volatility regime that was known when each bar of `span` began; missing where unknown.
    covered
        Share of the decisions in `span` for which there was a forecast; strategies that need one are flat elsewhere.
    seed
        Of audits and bootstraps.
    """

    bars: Bars
    forecasts: Forecasts
    span: Bars
    account: BacktestConfig
    exits: Exits | None
    hold: BacktestResult
    regimes: pd.Series
    covered: float
    seed: int

    @property
    def market(self) -> Market:
        """The market of the tested bars, as the ledger knows it."""
        return Market.of(self.span)

    def decide(self, strategy: LoadedStrategy) -> pd.DataFrame:
        """Audit a strategy for look-ahead and return its weights on `span`.

        Raises
        ------
        IntegrityError
            If it looks ahead or is not deterministic.
        UsageError
            If it fails, or its weights are not weights.
        """
        with self.unaltered(strategy.name):
            weights = audit(strategy, self.bars, self.forecasts, seed=self.seed, leverage=self.account.leverage)
        return weights.loc[self.span.index]

    @contextmanager
    def unaltered(self, name: str) -> Iterator[None]:
        """See that a strategy leaves the prices alone by which it is judged; it was lent them, not given.

        Raises
        ------
        IntegrityError
            If it wrote into them.
        """
        before = self.bars.fingerprint()
        try:
            yield
        finally:  # whatever went wrong, altered prices explain it
            if self.bars.fingerprint() != before:
                raise IntegrityError(
                    f"strategy '{name}' changes the prices that it is judged by",
                    why="its file forces its way into arrays that are not meant to be written to",
                    fix="work on copies: bars.close.copy()",
                )

    def trade(self, weights: pd.DataFrame) -> BacktestResult:
        """Simulate weights on `span`."""
        return simulate(self.span, weights, self.account, self.exits)


def open_venue(run: Run, config: RunConfig) -> Venue:
    """Open the venue of a trained run, with the account of `config`."""
    return make_venue(run.bars, run.forecasts(config.model)[0].seed_mean(), config)


def make_venue(bars: Bars, forecasts: Forecasts, config: RunConfig) -> Venue:
    """Open a venue on forecasts that are at hand.

    Parameters
    ----------
    bars, forecasts
        All bars of a run, and the seed-mean forecasts of its model.

    Raises
    ------
    UsageError
        If the account cannot be traded on these bars.
    DataError
        If the bars lack an origin or a symbol of the forecasts.
    """
    account = config.backtest
    origin = rows_of(forecasts, bars).origin
    first, last = int(origin.min()), int(origin.max())
    rows = slice(first, min(last + account.delay + 1, len(bars)))
    span = bars.rows(rows.start, rows.stop)
    paths = forecasts.on(bars)
    exits = exits_from(paths, bars, account.exits)
    # Not the shipped strategy of that name: a file in the workspace may stand in front of it.
    weights = pd.DataFrame(1 / len(span.symbols), index=span.index, columns=span.close.columns)
    # The same market for all symbols: what one account holds has one regime.
    regimes = volatility_terciles(np.nan_to_num(log_returns(bars)).mean(axis=1, keepdims=True))
    codes = np.roll(regimes.codes[:, 0], 1)
    codes[0] = UNKNOWN
    names = [None if code == UNKNOWN else regimes.labels[code] for code in codes.tolist()]
    return Venue(
        bars=bars,
        forecasts=forecasts,
        span=span,
        account=account,
        exits=exits.rows(rows.start, rows.stop) if exits else None,
        # Buy-and-hold has no forecast to take a stop from.
        hold=simulate(span, weights, account),
        regimes=pd.Series(names, index=bars.index, dtype="str").loc[span.index],
        covered=float(paths.has_forecast().iloc[first : last + 1].to_numpy().mean()),
        seed=config.seed,
    )


def ledger_of(run: Run) -> Ledger:
    """Return the ledger of the folder that a run is in."""
    return Ledger(run.folder.parent / FILE_NAME)


def account_text(account: BacktestConfig) -> str:
    """Return an account as the ledger knows it."""
    return json.dumps(account.model_dump(mode="json"), sort_keys=True)


def tried_on(run: Run, market: Market, account: BacktestConfig) -> Tried:
    """Count what was tried on a market, as far as the ledger and the run's own folder know.

    A ledger can be moved away; what lies in the folder was tried for all that. A backtest there may be of a variant
    that was swept there, so that the two are not added.
    """
    tried = ledger_of(run).tried(market, account_text(account))
    backtests = sum(1 for _ in run.folder.glob("backtests/*/metrics.json"))
    swept = 0
    for path in run.folder.glob("sweeps/*/sweep.json"):
        try:
            swept += int(read_json(path, fix="")["variants"])
        except (DataError, KeyError, TypeError, ValueError):
            swept += 1
    return replace(tried, trials=max(tried.trials, backtests, swept))

"""Where strategies are tried: the forecasts of a run, the bars they are tested on, the account, and buy-and-hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from qtrade.backtest.costs import BacktestConfig
from qtrade.backtest.engine import simulate
from qtrade.backtest.exits import Exits, exits_from
from qtrade.config import RunConfig
from qtrade.evaluation.regimes import UNKNOWN, volatility_terciles
from qtrade.features.targets import log_returns
from qtrade.forecasts import Forecasts
from qtrade.ledger import FILE_NAME, Ledger, Market
from qtrade.runs import Run, rows_of
from qtrade.strategy import LoadedStrategy, decide, load_strategy, strategy_folders
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
        leverage = self.account.leverage
        audit(strategy, self.bars, self.forecasts, seed=self.seed, leverage=leverage)
        return decide(strategy, self.bars, self.forecasts, leverage=leverage).loc[self.span.index]

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
    hold = load_strategy("buy_and_hold", {}, strategy_folders())
    weights = decide(hold, span, forecasts, leverage=account.leverage)
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

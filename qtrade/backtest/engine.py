"""Decided weights to fills and money, in vectorbt. The only place that shifts a weight from its decision to its fill.

A weight decided at the close of bar t is filled at the open of bar t + delay. A symbol is traded only where its own
decided weight changes: between changes the number of units stays, and its share of equity drifts with the price. The
target is a share of the account's value at that open. Sells come first, so that they pay for buys. Where cash does not
cover an order and its fees, the order is filled in part and never completed later: a weight of 1 buys slightly less.

`qtrade.backtest.reference` does the same as a plain loop, and tests hold the two together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtrade.backtest.costs import BacktestConfig, require_bar_to_fill, require_solvent
from qtrade.errors import IntegrityError
from qtrade.types import BacktestResult, Bars, Float64Array, IntArray


def simulate(bars: Bars, weights: pd.DataFrame, config: BacktestConfig) -> BacktestResult:
    """Trade `weights` on `bars`.

    Parameters
    ----------
    bars
        Market of T bars and S symbols.
    weights
        (T, S) finite weights decided at each close, on the index and symbols of `bars`.
    config
        Account, delay and costs.

    Returns
    -------
    BacktestResult
        `gross` is what the fills would have earned at the unslipped opens; `cost` is fees and slippage.

    Raises
    ------
    RuinError
        If the account is ruined.
    UsageError
        If the delay leaves no bar to fill the first decision in.
    IntegrityError
        If a fill does not follow its decision by `config.delay` bars, or is not at the open.
    """
    decided = weights.to_numpy(dtype=np.float64)
    if not (weights.index.equals(bars.index) and tuple(map(str, weights.columns)) == bars.symbols):
        raise ValueError("weights do not share the index and symbols of the bars")
    if not np.isfinite(decided).all():
        raise ValueError("weights must be finite")
    require_bar_to_fill(bars, config)

    orders = _orders(decided, config.delay)
    portfolio = _portfolio(bars, orders, config)
    trades, row, column = _trades(bars, portfolio.orders.values)
    _check_fills(bars, decided, orders, trades, row, column, config)

    # vectorbt's own `value()` says the same (a test compares), but compiles for six seconds the first time.
    units = portfolio.assets()
    spent = np.bincount(row, weights=trades["size"] * trades["price"] + trades["fees"], minlength=len(bars))
    equity = (config.cash - spent.cumsum() + (units * bars.close).sum(axis=1)).rename("equity")
    require_solvent(equity)
    before = np.concatenate([[config.cash], equity.to_numpy()[:-1]])
    paid = np.bincount(row, weights=trades["fees"] + trades["slippage"], minlength=len(bars))
    gross = pd.Series((equity - before + paid) / before, index=bars.index, name="gross")
    cost = pd.Series(paid / before, index=bars.index, name="cost")
    held = (units * bars.close).div(equity, axis=0)
    return BacktestResult(
        decided=weights,
        held=held,
        gross=gross,
        cost=cost,
        net=(gross - cost).rename("net"),
        equity=equity,
        trades=trades,
    )


def _changes(decided: Float64Array) -> NDArray[np.bool_]:
    """(T, S) whether the weight differs from the one before it; before the first bar every weight is zero."""
    before = np.vstack([np.zeros((1, decided.shape[1])), decided[:-1]])
    changed: NDArray[np.bool_] = decided != before
    return changed


def _orders(decided: Float64Array, delay: int) -> Float64Array:
    """(T, S) target share of equity at the bar that fills it; NaN where nothing is ordered."""
    orders = np.full_like(decided, np.nan)
    orders[delay:] = np.where(_changes(decided), decided, np.nan)[:-delay]
    return orders


def _portfolio(bars: Bars, orders: Float64Array, config: BacktestConfig) -> Any:
    """Run vectorbt with every argument that moves money spelled out: its own defaults trade free, at the same close.

    Its statistics are not used, so `freq`, which only scales those, is left out.
    """
    import vectorbt  # takes seconds, which only a backtest should pay

    opens = bars.open.to_numpy(dtype=np.float64)
    return vectorbt.Portfolio.from_orders(
        bars.close,
        size=orders,
        size_type="targetpercent",
        direction="both",
        price=opens,
        val_price=opens,  # a target is a share of the account's value at the open that fills it
        fees=config.costs.fees,
        fixed_fees=0.0,
        slippage=config.costs.slippage,
        min_size=0.0,
        max_size=np.inf,
        size_granularity=np.nan,
        reject_prob=0.0,
        lock_cash=False,
        allow_partial=True,
        raise_reject=False,
        log=False,
        init_cash=config.cash,
        cash_sharing=True,
        group_by=True,
        call_seq="auto",  # sells first
        ffill_val_price=True,
        update_value=False,  # all targets of a bar are shares of one value
        engine="auto",
    )


def _trades(bars: Bars, records: NDArray[np.void]) -> tuple[pd.DataFrame, IntArray, IntArray]:
    """One row per fill, in the order of execution, with the positions of bar and symbol of each."""
    row, column = records["idx"].astype(np.int64), records["col"].astype(np.int64)
    sign = np.where(records["side"] == 0, 1.0, -1.0)
    opens = bars.open.to_numpy(dtype=np.float64)[row, column]
    trades = pd.DataFrame(
        {
            "bar": bars.index[row],
            "symbol": pd.Series(np.array(bars.symbols, dtype=object)[column], dtype="str"),
            "size": sign * records["size"],
            "price": records["price"],
            "fees": records["fees"],
            "slippage": records["size"] * np.abs(records["price"] - opens),
        }
    )
    return trades, row, column


def _check_fills(
    bars: Bars,
    decided: Float64Array,
    orders: Float64Array,
    trades: pd.DataFrame,
    row: IntArray,
    column: IntArray,
    config: BacktestConfig,
) -> None:
    """Gate: each fill follows a decision by exactly `delay` bars, asks for its weight, and is at the slipped open."""
    decision = row - config.delay
    timely = (decision >= 0) & _changes(decided)[decision, column]
    timely &= orders[row, column] == decided[decision, column]
    opens = bars.open.to_numpy(dtype=np.float64)[row, column]
    expected = opens * (1 + np.sign(trades["size"].to_numpy()) * config.costs.slippage)
    at_open = np.isclose(trades["price"].to_numpy(), expected, rtol=1e-9, atol=0)
    for ok, what in ((timely, f"does not follow a decision made {config.delay} bars earlier"), (at_open, "missed it")):
        if not ok.all():
            bad = int(np.nonzero(~ok)[0][0])
            raise IntegrityError(
                f"the fill of {trades['symbol'][bad]} at the open of {trades['bar'][bad]} {what}",
                why="a backtest that trades before it decides, or at another price, reports money nobody could make",
                fix="this is a defect of qtrade or of vectorbt: please report it with your configuration",
            )

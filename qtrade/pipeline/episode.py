"""A fill, and the position it belongs to from the one that opened it to the one that closed it: units and money."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from qtrade.backtest.costs import BASIS_POINT, BacktestConfig
from qtrade.report.explanation import Episode, Fill
from qtrade.types import BacktestResult, Bars, Float64Array

EXITS = ("stop", "target")
"""Reasons of fills that are made within a bar."""

# Units that are left of a closed position by rounding, as a share of the units traded.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Leg:
    """A fill, or the part of one that belongs to one position: a fill that turns a position over has two."""

    trade: int
    position: int
    bar: pd.Timestamp
    units: float
    after: float
    price: float
    unslipped: float
    slippage: float
    fees: float
    reason: str


def fill_of(bars: Bars, account: BacktestConfig, result: BacktestResult, trade: int) -> Fill:
    """Follow the account up to a fill, as `qtrade.backtest.planner` does.

    Parameters
    ----------
    bars
        That were traded.
    trade
        Row of ``result.trades``.
    """
    trades = result.trades
    row = trades.iloc[trade]
    symbol, size, paid = str(row["symbol"]), float(row["size"]), float(row["price"])
    exits, exit_ = trades["reason"].isin(EXITS), row["reason"] in EXITS
    # Exits within a bar come after fills at its open, and before fills at its close.
    before = (trades["bar"] == row["bar"]) & (exits != exit_) & (exit_ == (account.fill == "open"))
    done = trades[(trades["bar"] < row["bar"]) | before]
    charged = _financing_money(account, result)[: bars.index.get_indexer(pd.DatetimeIndex([row["bar"]]))[0] + 1].sum()
    cash = account.cash - float((done["size"] * done["price"] + done["fees"]).sum()) - float(charged)
    units = {name: _units(done.loc[done["symbol"] == name, "size"]) for name in bars.symbols}
    frame = bars.close if account.fill == "close" and not exit_ else bars.open
    worth = cash + sum(units[name] * float(frame[name].loc[row["bar"]]) for name in bars.symbols)
    unslipped = paid - float(row["slippage"]) / size
    weight = 0.0 if exit_ else float(result.decided[symbol].loc[row["decided"]])
    notional = abs(size) * paid
    return Fill(
        stamp=row["bar"],
        at=str(row["reason"]) if exit_ else account.fill,
        unslipped_price=unslipped,
        price=paid,
        units_before=units[symbol],
        units=size,
        units_after=_added(units[symbol], size),
        units_wanted=weight * worth / unslipped,
        worth_money=worth,
        notional_money=notional,
        share=notional / worth,
        slippage_bp=abs(paid / unslipped - 1) / BASIS_POINT,
        slippage_money=float(row["slippage"]),
        fees_money=float(row["fees"]),
    )


def episode_of(bars: Bars, account: BacktestConfig, result: BacktestResult, trade: int) -> Episode:
    """Follow the position that a fill opened, changed or closed; one that turned a position over opened the next.

    Parameters
    ----------
    bars
        That were traded.
    trade
        Row of ``result.trades``.
    """
    symbol = str(result.trades["symbol"].iloc[trade])
    every = list(legs_of(result.trades, symbol))
    chosen = [leg for leg in every if leg.trade == trade][-1].position
    legs = [leg for leg in every if leg.position == chosen]
    first, final = legs[0], legs[-1]
    open_at_last = final.after != 0
    if open_at_last:
        last = bars.index[-1] if result.ruined is None else result.ruined
        last_price = float(bars.close[symbol].loc[last])
        ended = "still held" if result.ruined is None else "ruined"
    else:
        last, last_price = final.bar, final.price
        turned = any(leg.trade == final.trade and leg.position != chosen for leg in every)
        ended = "turned over" if turned else final.reason
    opened_at, last_at = (int(place) for place in bars.index.get_indexer(pd.DatetimeIndex([first.bar, last])))
    charged, margin = charges(account, result, bars.periods_per_year)
    column, meanwhile = bars.symbols.index(symbol), slice(opened_at + 1, last_at + 1)
    gross = final.after * last_price - sum(leg.units * leg.unslipped for leg in legs)
    slippage, fees = sum(leg.slippage for leg in legs), sum(leg.fees for leg in legs)
    financing = float(charged[meanwhile, column].sum())
    net = gross - slippage - fees - financing
    most = max(abs(leg.after * leg.unslipped) for leg in legs)
    return Episode(
        side="long" if first.after > 0 else "short",
        opened=first.bar,
        entry_price=first.price,
        closed=None if open_at_last else last,
        last=last,
        last_price=last_price,
        ended=ended,
        held_bars=last_at - opened_at,
        fills=len(legs),
        most_money=most,
        gross_money=gross,
        slippage_money=slippage,
        fees_money=fees,
        financing_money=financing,
        margin_money=float(margin[meanwhile].sum()),
        net_money=net,
        gross_return=gross / most,
        net_return=net / most,
    )


def charges(
    account: BacktestConfig, result: BacktestResult, periods_per_year: float
) -> tuple[Float64Array, Float64Array]:
    """Split what holding cost.

    Returns
    -------
    tuple of arrays
        (T, S) money that each bar was charged for each symbol: for borrowed shares, and funding. And (T,) interest on
        the money that the whole account borrowed.
    """
    costs = account.costs
    value = result.held.to_numpy(dtype=np.float64) * result.equity.to_numpy(dtype=np.float64)[:, None]
    borrowed = np.maximum(-value, 0.0) * (costs.borrow_bps * BASIS_POINT / periods_per_year)
    charged = np.zeros_like(value)
    charged[1:] = (borrowed + value * (costs.funding_bps * BASIS_POINT))[:-1]
    paid = _financing_money(account, result)
    return charged, paid - charged.sum(axis=1) if costs.margin_bps > 0 else np.zeros_like(paid)


def _financing_money(account: BacktestConfig, result: BacktestResult) -> Float64Array:
    """(T,) money that each bar was charged for holding."""
    before = np.concatenate([[account.cash], result.equity.to_numpy(dtype=np.float64)[:-1]])
    paid: Float64Array = result.financing.to_numpy(dtype=np.float64) * before
    return paid


def _units(sizes: pd.Series) -> float:
    """Units that fills add up to."""
    units = 0.0
    for size in sizes.tolist():
        units = _added(units, size)
    return units


def _added(units: float, size: float) -> float:
    """Units after a fill; what rounding leaves of a closed position is none."""
    after = units + size
    return 0.0 if abs(after) <= _ROUNDING * max(abs(units), abs(size)) else after


def legs_of(trades: pd.DataFrame, symbol: str) -> Iterator[Leg]:
    """Walk through the fills of a symbol, numbering its positions."""
    units, position = 0.0, -1
    own = trades["symbol"] == symbol
    for trade, row in zip(np.flatnonzero(own).tolist(), trades[own].to_dict("records"), strict=True):
        size = float(row["size"])
        after = _added(units, size)
        turned = units * after < 0
        for part, left in ((-units, 0.0), (after, after)) if turned else ((size, after),):
            position += units == 0
            share = abs(part / size)
            slippage = float(row["slippage"]) * share
            yield Leg(
                trade=trade,
                position=position,
                bar=row["bar"],
                units=part,
                after=left,
                price=float(row["price"]),
                unslipped=float(row["price"]) - slippage / part,
                slippage=slippage,
                fees=float(row["fees"]) * share,
                reason=str(row["reason"]),
            )
            units = left

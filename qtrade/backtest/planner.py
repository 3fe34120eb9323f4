"""How many units to trade, bar by bar: a compiled loop over one account.

vectorbt turns weights into units as long as an account pays for its fills and nothing else. Interest, funding, least
fees, borrowed money, drift that is let be, and stops within a bar all change what the account is worth when the next
order is sized. This loop follows that worth and says which units to trade; `qtrade.backtest.engine` lets vectorbt fill
exactly those. `qtrade.backtest.many` takes the worth itself, for the thousands of variants of a sweep.

Rules, in the order in which they act on bar t:

1. What was held since the close of bar t - 1 is charged: borrowed shares, borrowed money, funding.
2. Orders decided at the close of bar t - delay are filled at the open: the most negative order first, so that sells pay
   for buys. A target is a share of the account's worth at that open. Where money does not reach, a buy is filled in
   part and never completed later; a sell that would not even pay for its own fee is not made.
3. A position whose stop or target lies within the range of the bar is closed there; at the open, if the bar opens
   beyond it. If both lie within, the stop counts. Its symbol stays flat until a weight of another sign is decided, or
   0 was in between: a strategy that only changes its mind about the size does not enter again.
4. Where the account is worth nothing or less at the close, it stands still from then on.

With fills at the close, 3 comes before 2, and orders are sized at the close.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtrade.backtest.compiled import compiled
from qtrade.backtest.costs import BASIS_POINT, NOTHING_LEFT, BacktestConfig
from qtrade.types import Float64Array, IntArray

DECISION, BAND, STOP, TARGET = 1, 2, 3, 4
"""Why a fill was made; 0 is no fill."""

# The order of symbols in which one alone is traded.
_ALONE = np.zeros(1, dtype=np.int64)
# Units below which vectorbt takes an order for nothing, and the share of a position that it takes for rounding.
_NOTHING, _ROUNDING = 1e-12, 1e-9


@dataclass(frozen=True, eq=False)
class Plan:
    """What to trade.

    Attributes
    ----------
    size
        (2, T, S) signed units, NaN where nothing is traded: ordinary fills, then exits within the bar.
    price
        (2, T, S) price of each before slippage, NaN where nothing is traded.
    fee
        (2, T, S) money that each costs in fees.
    reason
        (2, T, S) `DECISION`, `BAND`, `STOP`, `TARGET` or 0.
    decided
        (2, T, S) bar at whose close each was decided, -1 where nothing is traded.
    financing
        (T,) money charged for holding, which may be negative.
    paid, traded
        (T,) money paid for fills, in fees and by slippage, and money that changed hands in them.
    value
        (T,) worth of the account at each close.
    exposure
        (T,) share of the worth in the market at each close, long plus short.
    fills
        Number of fills.
    ruined
        Bar at whose close the account was worth nothing or less; T if it never was.
    """

    size: Float64Array
    price: Float64Array
    fee: Float64Array
    reason: IntArray
    decided: IntArray
    financing: Float64Array
    paid: Float64Array
    traded: Float64Array
    value: Float64Array
    exposure: Float64Array
    fills: int
    ruined: int


def plan(
    prices: Float64Array,
    decided: Float64Array,
    exits: Float64Array | None,
    config: BacktestConfig,
    per_year: float,
    *,
    orders: bool = True,
) -> Plan:
    """Size the orders of one account.

    Parameters
    ----------
    prices
        (4, T, S) open, high, low, close.
    decided
        (T, S) weights decided at each close.
    exits
        (4, T, S) prices as in `qtrade.backtest.exits.Exits`, or None.
    per_year
        Bars in a year.
    orders
        Whether the single orders are wanted. Without them the first five fields are empty, which saves most of the
        time. The call lets other threads run.
    """
    costs = config.costs
    rates = np.array(
        [
            costs.fees,
            costs.slippage,
            costs.fixed_fee,
            costs.min_fee,
            costs.borrow_bps * BASIS_POINT / per_year,
            costs.margin_bps * BASIS_POINT / per_year,
            costs.funding_bps * BASIS_POINT,
        ]
    )
    found = _plan_compiled(
        np.ascontiguousarray(prices),
        np.ascontiguousarray(decided),
        np.empty((4, 0, 0)) if exits is None else np.ascontiguousarray(exits),
        rates,
        config.cash,
        config.delay,
        config.leverage,
        -1.0 if config.band is None else config.band,
        config.fill == "open",
        orders,
    )
    return Plan(*found)


def _trade(wanted: float, money: float, price: float, rates: Float64Array) -> tuple[float, float]:
    """Units that are traded of those `wanted`, and the fee; (0, 0) where the order cannot be filled."""
    if abs(wanted) <= _NOTHING:
        return 0.0, 0.0
    if wanted > 0:
        paid = price * (1 + rates[1])
        total = wanted * paid + max(rates[3], rates[2] + rates[0] * wanted * paid)
        if total > money + _ROUNDING * abs(money):
            # What a least fee leaves, and what a fixed and a proportional one do: the lesser can be paid for.
            wanted = min(money - rates[3], (money - rates[2]) / (1 + rates[0])) / paid
            if wanted <= _NOTHING:
                return 0.0, 0.0
    else:
        paid = price * (1 - rates[1])
    fee = max(rates[3], rates[2] + rates[0] * abs(wanted) * paid)
    if wanted < 0 and -wanted * paid < fee:
        return 0.0, 0.0
    return wanted, fee


_trade_compiled = compiled(_trade)


def _plan(
    prices: Float64Array,
    decided: Float64Array,
    exits: Float64Array,
    rates: Float64Array,
    cash: float,
    delay: int,
    leverage: float,
    band: float,
    at_open: bool,
    record: bool,
) -> tuple[
    Float64Array,
    Float64Array,
    Float64Array,
    NDArray[np.int64],
    NDArray[np.int64],
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
    int,
    int,
]:
    """Follow the rules of this module; see `plan` for shapes."""
    bars, symbols = decided.shape
    kept = bars if record else 0
    size, filled_at = np.full((2, kept, symbols), np.nan), np.full((2, kept, symbols), np.nan)
    fees = np.zeros((2, kept, symbols))
    reason = np.zeros((2, kept, symbols), dtype=np.int64)
    source = np.full((2, kept, symbols), -1, dtype=np.int64)
    financing, costs, traded = np.zeros(bars), np.zeros(bars), np.zeros(bars)
    value, exposure = np.zeros(bars), np.zeros(bars)
    units, wanted, at, money = np.zeros(symbols), np.zeros(symbols), np.zeros(symbols), np.zeros(symbols)
    why = np.zeros(symbols, dtype=np.int64)
    held_since = np.full(symbols, -1, dtype=np.int64)
    out = np.zeros(symbols, dtype=np.bool_)
    fills = 0
    nothing = NOTHING_LEFT * cash

    for t in range(bars):
        if t > 0:
            for s in range(symbols):
                worth = units[s] * prices[3, t - 1, s]
                financing[t] += max(-worth, 0.0) * rates[4] + worth * rates[6]
            financing[t] += max(-cash, 0.0) * rates[5]
            cash -= financing[t]

        row = t - delay
        for turn in range(2):
            exiting = (turn == 1) == at_open
            if exits.shape[1] == 0 if exiting else row < 0:
                continue
            worth = cash
            for s in range(symbols):
                at[s] = prices[0, t, s] if at_open or exiting else prices[3, t, s]
                worth += units[s] * at[s]
            if worth <= 0 and not exiting:
                continue
            orders = 0
            for s in range(symbols):
                wanted[s] = 0.0
                why[s] = 0
                if exiting:
                    if units[s] == 0:
                        continue
                    long = units[s] > 0
                    stop = exits[0 if long else 2, held_since[s], s]
                    target = exits[1 if long else 3, held_since[s], s]
                    opened, high, low = prices[0, t, s], prices[1, t, s], prices[2, t, s]
                    if (long and low <= stop) or (not long and high >= stop):
                        at[s] = min(opened, stop) if long else max(opened, stop)
                        why[s] = STOP
                    elif (long and high >= target) or (not long and low <= target):
                        at[s] = max(opened, target) if long else min(opened, target)
                        why[s] = TARGET
                    if why[s] != 0:
                        wanted[s] = -units[s]
                        money[s] = wanted[s] * at[s]
                        orders += 1
                else:
                    weight = decided[row, s]
                    last = decided[row - 1, s] if row > 0 else 0.0
                    changed = weight != last
                    if np.sign(weight) != np.sign(last):
                        out[s] = False
                    drifted = band >= 0 and abs(units[s] * at[s] / worth - weight) > band
                    if not out[s] and (drifted if band >= 0 else changed):
                        why[s] = DECISION if changed else BAND
                        wanted[s] = weight * worth / at[s] - units[s]
                        # Not wanted * at: equal weights must tie to the last bit, as they do in vectorbt.
                        money[s] = weight * worth - units[s] * at[s]
                        orders += 1
            if orders == 0:
                continue

            credit = max(leverage - 1, 0.0) * max(worth, 0.0)
            kind = 1 if exiting else 0
            for s in np.argsort(money, kind="mergesort") if symbols > 1 else _ALONE:
                if why[s] == 0:
                    continue
                bought, fee = _trade_compiled(wanted[s], cash + credit, at[s], rates)
                if bought == 0:
                    continue
                price = at[s] * (1 + rates[1] if bought > 0 else 1 - rates[1])
                cash -= bought * price + fee
                before = units[s]
                units[s] += bought
                if abs(units[s]) <= _ROUNDING * max(abs(before), abs(bought)):
                    units[s] = 0.0
                fills += 1
                costs[t] += fee + abs(bought) * abs(price - at[s])
                traded[t] += abs(bought) * price
                if record:
                    size[kind, t, s], filled_at[kind, t, s], fees[kind, t, s] = bought, at[s], fee
                    reason[kind, t, s] = why[s]
                    source[kind, t, s] = held_since[s] if exiting else row
                if exiting:
                    out[s] = True
                elif why[s] == DECISION or before == 0:
                    held_since[s] = row  # trading back a drift leaves the stops where they were decided

        held = 0.0
        value[t] = cash
        for s in range(symbols):
            value[t] += units[s] * prices[3, t, s]
            held += abs(units[s]) * prices[3, t, s]
        if value[t] <= nothing:
            value[t:] = value[t]
            return size, filled_at, fees, reason, source, financing, costs, traded, value, exposure, fills, t
        exposure[t] = held / value[t]
    return size, filled_at, fees, reason, source, financing, costs, traded, value, exposure, fills, bars


_plan_compiled = compiled(_plan)

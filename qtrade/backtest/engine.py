"""Decided weights to fills and money, in vectorbt. The only place that shifts a weight from its decision to its fill.

A weight decided at the close of bar t is filled at the open of bar t + delay, or at its close. Without a band a symbol
is traded only where its own decided weight changes: between changes the number of units stays, and its share of equity
drifts with the price. The target is a share of the account's worth at that open. Sells come first, so that they pay for
buys. Where cash does not cover an order and its fees, the order is filled in part and never completed later: a weight
of 1 buys slightly less.

vectorbt sizes and fills the orders, in Rust where its extra is installed. What it cannot size, because the worth of
the account follows from more than its fills, is sized by `qtrade.backtest.planner` first and filled by vectorbt all the
same. Only rows with an order are handed to vectorbt, since nothing happens in the others: many accounts fit into one
call.

`qtrade.backtest.reference` does the same as a plain loop, and tests hold the two together.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtrade.backtest.costs import BacktestConfig, require_bar_to_fill
from qtrade.backtest.exits import Exits
from qtrade.backtest.planner import BAND, DECISION, STOP, TARGET, Plan, plan
from qtrade.errors import IntegrityError
from qtrade.types import BacktestResult, Bars, Float64Array, IntArray

REASONS = {DECISION: "decision", BAND: "band", STOP: "stop", TARGET: "target"}
"""What the column `reason` of the trades says."""

# Values of one array (bars, accounts, symbols) that are worked on at once: 16 MB.
_AT_ONCE = 2_000_000
# Units that are left of a closed position by rounding, as a share of the largest one before.
_ROUNDING = 1e-11


def simulate(bars: Bars, weights: pd.DataFrame, config: BacktestConfig, exits: Exits | None = None) -> BacktestResult:
    """Trade `weights` on `bars`.

    Parameters
    ----------
    bars
        Market of T bars and S symbols.
    weights
        (T, S) finite weights decided at each close, on the index and symbols of `bars`.
    config
        Account, delay and costs.
    exits
        Stops and targets decided at each close; None for none, whatever the configuration says.

    Returns
    -------
    BacktestResult
        `gross` is what the fills would have earned at the unslipped prices; `cost` is fees, slippage and financing. A
        ruined account stands still from its ruin on.

    Raises
    ------
    UsageError
        If the delay leaves no bar to fill the first decision in.
    IntegrityError
        If a fill does not follow its decision by `config.delay` bars, or is not at the price it should be.
    """
    if not (weights.index.equals(bars.index) and tuple(map(str, weights.columns)) == bars.symbols):
        raise ValueError("weights do not share the index and symbols of the bars")
    decided = weights.to_numpy(dtype=np.float64)
    accounts = _simulated(bars, decided[None], config, exits)
    fills, value = accounts.fills, accounts.value
    ruined = int(accounts.ruined[0])
    equity = pd.Series(value[:, 0], index=bars.index, name="equity")
    net, cost, financing = (pd.Series(one[:, 0], index=bars.index) for one in accounts.returns(config.cash))
    gross = net + cost
    held = accounts.units * bars.close.to_numpy(dtype=np.float64)
    # A ruined account is divided by nothing.
    share = np.divide(held, value, out=np.zeros_like(held), where=(np.arange(len(bars)) < ruined)[:, None])
    return BacktestResult(
        decided=weights,
        held=pd.DataFrame(share, index=bars.index, columns=bars.close.columns),
        gross=gross.rename("gross"),
        cost=cost.rename("cost"),
        net=(gross - cost).rename("net"),
        financing=financing.rename("financing"),
        equity=equity,
        trades=_trades(bars, fills),
        engine=accounts.engine,
        ruined=None if ruined == len(bars) else bars.index[ruined],
    )


@dataclass(frozen=True, eq=False)
class Variants:
    """What many accounts earned on one market.

    Attributes
    ----------
    net
        (T, V) net returns per bar.
    gross, cost
        (V,) means per bar.
    turnover
        (V,) mean money traded per bar, as a share of equity.
    exposure
        (V,) mean share of equity in the market at the closes, long plus short.
    fills
        (V,) number of fills.
    ruined
        (V,) whether the account was.
    engine
        What simulated them.
    """

    net: Float64Array
    gross: Float64Array
    cost: Float64Array
    turnover: Float64Array
    exposure: Float64Array
    fills: IntArray
    ruined: NDArray[np.bool_]
    engine: str


def simulate_many(bars: Bars, decided: Float64Array, config: BacktestConfig, exits: Exits | None = None) -> Variants:
    """Trade many variants of a strategy, each with an account of its own, exactly as `simulate` would trade each.

    Parameters
    ----------
    decided
        (V, T, S) weights.

    Raises
    ------
    UsageError, IntegrityError
        As `simulate`.
    """
    count, length = len(decided), len(bars)
    net = np.empty((length, count))
    summary = np.empty((4, count))
    fills, ruined = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.bool_)
    close = bars.close.to_numpy(dtype=np.float64)
    engine = ""
    # Accounts that trade equally often side by side leave few rows of a call empty.
    order = np.argsort([_changes(one).any(axis=1).sum() for one in decided], kind="stable")
    step = max(1, _AT_ONCE // (length * len(bars.symbols)))
    for start in range(0, count, step):
        chosen = order[start : start + step]
        accounts = _simulated(bars, decided[chosen], config, exits)
        earned, cost, _ = accounts.returns(config.cash)
        net[:, chosen] = earned
        solvent = np.arange(length)[:, None] < accounts.ruined
        market = np.abs(accounts.units).reshape(length, -1, len(bars.symbols)) * close[:, None, :]
        share = np.divide(market.sum(axis=2), accounts.value, out=np.zeros_like(earned), where=solvent)
        traded = accounts.sum_fills(np.abs(accounts.fills.size) * accounts.fills.price)
        turnover = np.divide(traded, accounts.before(config.cash), out=np.zeros_like(traded), where=traded > 0)
        averages = ((earned + cost).mean(0), cost.mean(0), turnover.mean(0), share.mean(0))
        for row, values in zip(summary, averages, strict=True):
            row[chosen] = values
        fills[chosen] = np.bincount(accounts.fills.account, minlength=len(chosen))
        ruined[chosen] = accounts.ruined < length
        engine = accounts.engine
    gross, cost_, turnover_, exposure = summary
    return Variants(net, gross, cost_, turnover_, exposure, fills, ruined, engine)


@dataclass(frozen=True, eq=False)
class _Fills:
    """What was bought and sold, in the order of execution within an account: arrays of one length.

    `size` is signed; `unslipped` is the price before slippage; `decided` is the bar whose close decided.
    """

    account: IntArray
    bar: IntArray
    symbol: IntArray
    size: Float64Array
    price: Float64Array
    unslipped: Float64Array
    fees: Float64Array
    reason: IntArray
    decided: IntArray

    @property
    def slippage(self) -> Float64Array:
        """Money that each lost to slippage."""
        return np.abs(self.size) * np.abs(self.price - self.unslipped)


@dataclass(frozen=True, eq=False)
class _Accounts:
    """Some accounts side by side: their fills, and what they follow from.

    `units` is (T, G * S) at each close, `value` (T, G), `financing` (T, G) in money, `ruined` (G,) the bar of the ruin
    or T.
    """

    fills: _Fills
    units: Float64Array
    value: Float64Array
    financing: Float64Array
    ruined: IntArray
    engine: str

    def sum_fills(self, money: Float64Array) -> Float64Array:
        """(T, G) sum of some money per fill."""
        return _summed(self.fills, money, *self.value.shape)

    def before(self, cash: float) -> Float64Array:
        """(T, G) worth before each bar."""
        return np.concatenate([np.full((1, self.value.shape[1]), cash), self.value[:-1]])

    def returns(self, cash: float) -> tuple[Float64Array, Float64Array, Float64Array]:
        """(T, G) net return, cost, and financing, as shares of the worth before each bar; 0 after a ruin."""
        before = self.before(cash)
        alive = np.arange(len(before))[:, None] <= self.ruined
        paid = self.sum_fills(self.fills.fees + self.fills.slippage) + self.financing

        def share(money: Float64Array) -> Float64Array:
            return np.divide(money, before, out=np.zeros_like(money), where=alive)

        return share(self.value - before), share(paid), share(self.financing)


def _simulated(bars: Bars, decided: Float64Array, config: BacktestConfig, exits: Exits | None) -> _Accounts:
    """Simulate G accounts that decide (G, T, S) weights."""
    if not np.isfinite(decided).all():
        raise ValueError("weights must be finite")
    require_bar_to_fill(bars, config)
    if exits is not None or _needs_plan(config):
        return _planned(bars, decided, config, exits)
    accounts = _sized_by_vectorbt(bars, decided, config)
    broken = np.nonzero((accounts.value <= 0).any(axis=0))[0]
    if len(broken) == 0:
        return accounts
    # vectorbt lets a ruined account hold on and recover. Nobody's broker does.
    return _replaced(accounts, broken, _planned(bars, decided[broken], config, exits))


def _needs_plan(config: BacktestConfig) -> bool:
    """Whether the worth of the account follows from more than what it pays for its fills."""
    costs = config.costs
    holding = costs.borrow_bps > 0 or costs.funding_bps != 0 or (costs.margin_bps > 0 and config.leverage > 1)
    return holding or costs.fixed_fee > 0 or costs.min_fee > 0 or config.leverage > 1 or config.band is not None


def _sized_by_vectorbt(bars: Bars, decided: Float64Array, config: BacktestConfig) -> _Accounts:
    """Let vectorbt turn weights into units and fill them."""
    count, length, symbols = decided.shape
    at = _fill_prices(bars, config)
    orders = _due(decided, config.delay)
    ordered = np.isfinite(orders)

    rows = _Rows.of(np.asarray(ordered.any(axis=2)))
    account, row, bar = rows.account, rows.row, rows.bar
    size, price = np.full((rows.most, count, symbols), np.nan), np.ones((rows.most, count, symbols))
    size[row, account] = orders[account, bar]
    price[row, account] = at[bar]
    # A target is a share of the account's worth at the price that fills it.
    records, engine = _vectorbt(
        size, price, np.zeros_like(size), config, size_type="targetpercent", cash=config.cash, sells_first=True
    )
    fills = _fills_of(records, rows, price, symbols)
    decision = fills.bar - config.delay
    fills = replace(fills, reason=np.full_like(fills.bar, DECISION), decided=decision)
    changed = np.stack([_changes(one) for one in decided])
    weight = decided[fills.account, decision, fills.symbol]
    timely = (decision >= 0) & changed[fills.account, decision, fills.symbol]
    timely &= weight == orders[fills.account, fills.bar, fills.symbol]
    _check_fills(bars, fills, timely, at[fills.bar, fills.symbol], config)
    return _account(bars, fills, np.zeros((length, count)), np.full(count, length), config, engine)


def _planned(bars: Bars, decided: Float64Array, config: BacktestConfig, exits: Exits | None) -> _Accounts:
    """Size the orders of each account on their own, and let vectorbt fill them."""
    count, length, symbols = decided.shape
    prices = np.stack([frame.to_numpy(dtype=np.float64) for frame in (bars.open, bars.high, bars.low, bars.close)])
    levels = None if exits is None else exits.prices(bars)
    plans = [plan(prices, one, levels, config, bars.periods_per_year) for one in decided]

    # Two rows a bar: exits within it come after fills at its open, and before fills at its close.
    turns = (0, 1) if config.fill == "open" else (1, 0)

    def side_by_side(name: str) -> NDArray[Any]:
        """(G, 2 T, S) of one field of the plans."""
        both = np.stack([getattr(one, name)[list(turns)] for one in plans])
        return both.transpose(0, 2, 1, 3).reshape(count, 2 * length, symbols)

    wanted = side_by_side("size")
    rows = _Rows.of(np.asarray(np.isfinite(wanted).any(axis=2)))
    account, row, place = rows.account, rows.row, rows.bar
    size, price = np.full((rows.most, count, symbols), np.nan), np.ones((rows.most, count, symbols))
    size[row, account] = wanted[account, place]
    at = side_by_side("price")
    price[row, account] = np.where(np.isfinite(at[account, place]), at[account, place], 1.0)
    fee = np.zeros_like(size)
    paid = price * (1 + np.where(size > 0, 1.0, -1.0) * config.costs.slippage)
    fee[row, account] = side_by_side("fee")[account, place]
    fee -= np.where(np.isfinite(size), np.abs(size) * paid * config.costs.fees, 0.0)
    # The plan has seen to it that there is money for every order, so that vectorbt need not.
    records, engine = _vectorbt(size, price, fee, config, size_type="amount", cash=np.inf, sells_first=False)
    fills = _fills_of(records, rows, price, symbols)
    where = fills.account, fills.bar, fills.symbol
    expected, missed = wanted[where], np.isfinite(wanted).sum() - len(fills.bar)
    if missed or not np.allclose(fills.size, expected, rtol=1e-9, atol=0):
        raise IntegrityError(
            f"vectorbt did not fill {missed or 'exactly'} of the orders that were sized for it",
            why="the account would not be what its orders make it",
            fix="this is a defect of qtrade or of vectorbt: please report it with your configuration",
        )
    fills = replace(fills, reason=side_by_side("reason")[where], decided=side_by_side("decided")[where])
    fills = replace(fills, bar=fills.bar // 2)
    _check_plan(bars, fills, decided, plans, config)
    financing = np.stack([one.financing for one in plans], axis=1)
    return _account(bars, fills, financing, np.array([one.ruined for one in plans]), config, engine)


@dataclass(frozen=True, eq=False)
class _Rows:
    """The bars in which accounts order, one below the other: arrays of one length, by account and then by bar.

    `row` counts the orders of an account; `most` is the number of rows of the busiest, at least 1. `bars_of` is
    (most, G): the bar of each row, or -1.
    """

    account: IntArray
    row: IntArray
    bar: IntArray
    bars_of: IntArray
    most: int

    @classmethod
    def of(cls, orders: NDArray[np.bool_]) -> _Rows:
        """Lay out the bars for which `orders` (G, T) is true."""
        account, bar = np.nonzero(orders)
        row = (np.cumsum(orders, axis=1) - 1)[account, bar]
        most = max(1, int(orders.sum(axis=1).max(initial=0)))
        bars_of = np.full((most, len(orders)), -1, dtype=np.int64)
        bars_of[row, account] = bar
        return cls(account, row, bar, bars_of, most)


def _vectorbt(
    size: Float64Array,
    price: Float64Array,
    fixed_fees: Float64Array,
    config: BacktestConfig,
    *,
    size_type: str,
    cash: float,
    sells_first: bool,
) -> tuple[NDArray[np.void], str]:
    """Fill (R, G, S) orders and return the records and the engine that made them.

    Every argument that moves money is spelled out: vectorbt's own defaults trade free, at the same close. Its
    statistics are not used, so `freq`, which only scales those, is left out.
    """
    import vectorbt  # takes seconds, which only a backtest should pay

    rows, count, symbols = size.shape
    flat = (rows, count * symbols)
    orders = np.isfinite(size)
    arguments: dict[str, Any] = {
        "close": price.reshape(flat),
        "size": size.reshape(flat),
        "size_type": size_type,
        "direction": "both",
        "price": price.reshape(flat),
        "val_price": price.reshape(flat),
        "fees": config.costs.fees,
        "fixed_fees": fixed_fees.reshape(flat),
        "slippage": config.costs.slippage,
        "min_size": 0.0,
        "max_size": np.inf,
        "size_granularity": np.nan,
        "reject_prob": 0.0,
        "lock_cash": False,
        "allow_partial": True,
        "raise_reject": False,
        "log": False,
        "init_cash": cash,
        "cash_sharing": True,
        "group_by": np.repeat(np.arange(count), symbols),
        "call_seq": "auto" if sells_first else "default",
        "ffill_val_price": True,
        "update_value": False,  # all targets of a bar are shares of one value
        "max_orders": max(1, int(orders.sum())),
    }
    if find_spec("vectorbt_rust") is not None:
        try:
            return vectorbt.Portfolio.from_orders(engine="rust", **arguments).orders.values, "rust"
        except ImportError:
            pass  # of another version than vectorbt, which then takes Numba
    return vectorbt.Portfolio.from_orders(engine="numba", **arguments).orders.values, "numba"


def _fills_of(records: NDArray[np.void], rows: _Rows, price: Float64Array, symbols: int) -> _Fills:
    """Read vectorbt's records; `reason` and `decided` are filled in later."""
    row, column = records["idx"].astype(np.int64), records["col"].astype(np.int64)
    account, symbol = np.divmod(column, symbols)
    unknown = np.zeros(len(row), dtype=np.int64)
    return _Fills(
        account=account,
        bar=rows.bars_of[row, account],
        symbol=symbol,
        size=np.where(records["side"] == 0, 1.0, -1.0) * records["size"],
        price=records["price"].astype(np.float64),
        unslipped=price[row, account, symbol],
        fees=records["fees"].astype(np.float64),
        reason=unknown,
        decided=unknown,
    )


def _account(
    bars: Bars,
    fills: _Fills,
    financing: Float64Array,
    ruined: IntArray,
    config: BacktestConfig,
    engine: str,
) -> _Accounts:
    """Follow units and worth from fills; vectorbt's own accessors say the same, and compile for seconds."""
    length, count = financing.shape
    symbols = len(bars.symbols)
    column = fills.account * symbols + fills.symbol
    flows = np.bincount(
        fills.bar * (count * symbols) + column, weights=fills.size, minlength=length * count * symbols
    ).reshape(length, count * symbols)
    units = flows.cumsum(axis=0)
    units[np.abs(units) <= _ROUNDING * np.maximum.accumulate(np.abs(units), axis=0)] = 0.0
    spent = _summed(fills, fills.size * fills.price + fills.fees, length, count) + financing
    cash = config.cash - spent.cumsum(axis=0)
    close = bars.close.to_numpy(dtype=np.float64)
    held = np.einsum("tgs,ts->tg", units.reshape(length, count, symbols), close)
    value = cash + held
    for one in np.nonzero(ruined < length)[0]:
        value[ruined[one] :, one] = value[ruined[one], one]
        units[ruined[one] :, one * symbols : (one + 1) * symbols] = 0.0
    return _Accounts(fills, units, value, financing, ruined, engine)


def _replaced(accounts: _Accounts, place: IntArray, others: _Accounts) -> _Accounts:
    """Put other accounts into the places of some."""
    length, count = accounts.value.shape
    units = accounts.units.reshape(length, count, -1).copy()
    units[:, place] = others.units.reshape(length, len(place), -1)
    value, financing, ruined = accounts.value.copy(), accounts.financing.copy(), accounts.ruined.copy()
    value[:, place], financing[:, place], ruined[place] = others.value, others.financing, others.ruined
    kept = ~np.isin(accounts.fills.account, place)
    moved = replace(others.fills, account=place[others.fills.account])
    fills = _Fills(
        *(
            np.concatenate([getattr(accounts.fills, field.name)[kept], getattr(moved, field.name)])
            for field in fields(_Fills)
        )
    )
    return _Accounts(fills, units.reshape(length, -1), value, financing, ruined, accounts.engine)


def _summed(fills: _Fills, money: Float64Array, length: int, count: int) -> Float64Array:
    """(T, G) sum of some money per fill."""
    flat = np.bincount(fills.bar * count + fills.account, weights=money, minlength=length * count)
    return flat.astype(np.float64, copy=False).reshape(length, count)


def _changes(decided: Float64Array) -> NDArray[np.bool_]:
    """(T, S) whether the weight differs from the one before it; before the first bar every weight is zero."""
    before = np.vstack([np.zeros((1, decided.shape[1])), decided[:-1]])
    changed: NDArray[np.bool_] = decided != before
    return changed


def _due(decided: Float64Array, delay: int) -> Float64Array:
    """(G, T, S) target share of equity at the bar that fills it; NaN where nothing is ordered."""
    orders = np.full_like(decided, np.nan)
    length = decided.shape[1]
    for late, one in zip(orders, decided, strict=True):
        late[delay:] = np.where(_changes(one), one, np.nan)[: length - delay]
    return orders


def _fill_prices(bars: Bars, config: BacktestConfig) -> Float64Array:
    """(T, S) prices at which ordinary orders are filled, before slippage."""
    return (bars.open if config.fill == "open" else bars.close).to_numpy(dtype=np.float64)


def _trades(bars: Bars, fills: _Fills) -> pd.DataFrame:
    """One row per fill of one account, in the order of execution."""
    order = np.argsort(fills.bar, kind="stable")
    return pd.DataFrame(
        {
            "bar": bars.index[fills.bar[order]],
            "symbol": pd.Series(np.array(bars.symbols, dtype=object)[fills.symbol[order]], dtype="str"),
            "size": fills.size[order],
            "price": fills.price[order],
            "fees": fills.fees[order],
            "slippage": fills.slippage[order],
            "decided": bars.index[fills.decided[order]],
            "reason": pd.Series([REASONS[one] for one in fills.reason[order].tolist()], dtype="str"),
        }
    )


def _check_plan(bars: Bars, fills: _Fills, decided: Float64Array, plans: list[Plan], config: BacktestConfig) -> None:
    """Gate: as `_check_fills`; and an exit follows the position's decision and lies within the range of its bar."""
    exit_ = np.isin(fills.reason, (STOP, TARGET))
    at = np.where(exit_, fills.unslipped, _fill_prices(bars, config)[fills.bar, fills.symbol])
    changed = np.stack([_changes(one) for one in decided])
    ordered = fills.decided == fills.bar - config.delay
    ordered &= (fills.reason == BAND) | changed[fills.account, np.maximum(fills.decided, 0), fills.symbol]
    low, high = (frame.to_numpy(dtype=np.float64)[fills.bar, fills.symbol] for frame in (bars.low, bars.high))
    # Bars may round their range by 1e-6 against their open and close; an exit may be at that open.
    inside = (fills.unslipped >= low * (1 - 1e-6)) & (fills.unslipped <= high * (1 + 1e-6))
    followed = fills.decided + config.delay <= fills.bar
    _check_fills(bars, fills, (fills.decided >= 0) & np.where(exit_, followed & inside, ordered), at, config)


def _check_fills(
    bars: Bars, fills: _Fills, ordered: NDArray[np.bool_], at: Float64Array, config: BacktestConfig
) -> None:
    """Gate: each fill follows a decision by exactly `delay` bars, and is at its price, slipped."""
    expected = at * (1 + np.sign(fills.size) * config.costs.slippage)
    priced = np.isclose(fills.price, expected, rtol=1e-9, atol=0)
    for ok, what in (
        (ordered, f"does not follow a decision made {config.delay} bars earlier"),
        (priced, "missed its price"),
    ):
        if not ok.all():
            bad = int(np.nonzero(~ok)[0][0])
            raise IntegrityError(
                f"the fill of {bars.symbols[fills.symbol[bad]]} at the {config.fill} of {bars.index[fills.bar[bad]]} "
                f"{what}",
                why="a backtest that trades before it decides, or at another price, reports money nobody could make",
                fix="this is a defect of qtrade or of vectorbt: please report it with your configuration",
            )

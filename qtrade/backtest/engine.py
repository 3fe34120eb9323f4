"""Decided weights to fills and money, in vectorbt. The only place that shifts a weight from its decision to its fill.

A weight decided at the close of bar t is filled at the open of bar t + delay, or at its close. Without a band a symbol
is traded only where its own decided weight changes: between changes the number of units stays, and its share of equity
drifts with the price. The target is a share of the account's worth at that open. Sells come first, so that they pay for
buys. Where cash does not cover an order and its fees, the order is filled in part and never completed later: a weight
of 1 buys slightly less.

vectorbt sizes and fills the orders, in Rust where its extra is installed. What it cannot size, because the worth of
the account follows from more than its fills, is sized by `qtrade.backtest.planner` first and filled by vectorbt all the
same. Only bars with an order are handed to vectorbt, since nothing happens in the others.

`qtrade.backtest.reference` does the same as a plain loop, and tests hold the two together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtrade.backtest.costs import NOTHING_LEFT, BacktestConfig, require_bar_to_fill
from qtrade.backtest.exits import Exits
from qtrade.backtest.planner import BAND, DECISION, STOP, TARGET, plan
from qtrade.errors import IntegrityError
from qtrade.types import BacktestResult, Bars, Float64Array, IntArray

REASONS = {DECISION: "decision", BAND: "band", STOP: "stop", TARGET: "target"}
"""What the column `reason` of the trades says."""

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
    decided = weights.to_numpy(dtype=np.float64)
    if not (weights.index.equals(bars.index) and tuple(map(str, weights.columns)) == bars.symbols):
        raise ValueError("weights do not share the index and symbols of the bars")
    if not np.isfinite(decided).all():
        raise ValueError("weights must be finite")
    require_bar_to_fill(bars, config)

    planned = exits is not None or _needs_plan(config)
    account = _planned(bars, decided, config, exits) if planned else _sized_by_vectorbt(bars, decided, config)
    if not planned and (account.value <= NOTHING_LEFT * config.cash).any():
        # vectorbt lets a ruined account hold on and recover. Nobody's broker does.
        account = _planned(bars, decided, config, exits)
    fills, value, alive = account.fills, account.value, np.arange(len(bars)) <= account.ruined
    before = np.concatenate([[config.cash], value[:-1]])
    paid = _summed(fills.bar, fills.fees + fills.slippage, len(bars)) + account.financing

    def share(money: Float64Array, name: str) -> pd.Series:
        """Return money of each bar as a share of the worth before it; of nothing, after a ruin."""
        values = np.divide(money, before, out=np.zeros_like(money), where=alive)
        return pd.Series(values, index=bars.index, name=name)

    gross, cost = share(value - before + paid, "gross"), share(paid, "cost")
    held = account.units * bars.close.to_numpy(dtype=np.float64)
    held = np.divide(
        held, value[:, None], out=np.zeros_like(held), where=(np.arange(len(bars)) < account.ruined)[:, None]
    )
    return BacktestResult(
        decided=weights,
        held=pd.DataFrame(held, index=bars.index, columns=bars.close.columns),
        gross=gross,
        cost=cost,
        net=(gross - cost).rename("net"),
        financing=share(account.financing, "financing"),
        equity=pd.Series(value, index=bars.index, name="equity"),
        trades=_trades(bars, fills),
        engine=account.engine,
        ruined=None if account.ruined == len(bars) else bars.index[account.ruined],
    )


@dataclass(frozen=True, eq=False)
class _Fills:
    """What was bought and sold, in the order of execution: arrays of one length.

    `size` is signed; `unslipped` is the price before slippage; `decided` is the bar whose close decided.
    """

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
class _Account:
    """An account's fills, and what they follow from and lead to.

    `units` is (T, S) at each close, `value` (T,), `financing` (T,) in money, `ruined` the bar of the ruin or T.
    """

    fills: _Fills
    units: Float64Array
    value: Float64Array
    financing: Float64Array
    ruined: int
    engine: str


def _needs_plan(config: BacktestConfig) -> bool:
    """Whether the worth of the account follows from more than what it pays for its fills."""
    costs = config.costs
    holding = costs.borrow_bps > 0 or costs.funding_bps != 0 or (costs.margin_bps > 0 and config.leverage > 1)
    return holding or costs.fixed_fee > 0 or costs.min_fee > 0 or config.leverage > 1 or config.band is not None


def _sized_by_vectorbt(bars: Bars, decided: Float64Array, config: BacktestConfig) -> _Account:
    """Let vectorbt turn weights into units and fill them."""
    at = _fill_prices(bars, config)
    orders = _due(decided, config.delay)
    rows = np.nonzero(np.isfinite(orders).any(axis=1))[0]
    # A target is a share of the account's worth at the prices that fill it.
    records, engine = _vectorbt(
        orders[rows], at[rows], 0.0, config, size_type="targetpercent", cash=config.cash, sells_first=True
    )
    fills = _fills_of(records, rows, at[rows])
    fills = replace(fills, reason=np.full_like(fills.bar, DECISION), decided=fills.bar - config.delay)
    timely = (fills.decided >= 0) & _changes(decided)[fills.decided, fills.symbol]
    timely &= decided[fills.decided, fills.symbol] == orders[fills.bar, fills.symbol]
    _check_fills(bars, fills, timely, at[fills.bar, fills.symbol], config)
    return _account(bars, fills, np.zeros(len(bars)), len(bars), config, engine)


def _planned(bars: Bars, decided: Float64Array, config: BacktestConfig, exits: Exits | None) -> _Account:
    """Size the orders first, and let vectorbt fill them."""
    levels = None if exits is None else exits.prices(bars)
    made = plan(market_prices(bars), decided, levels, config, bars.periods_per_year)

    # Two rows a bar: exits within it come after fills at its open, and before fills at its close.
    turns = [0, 1] if config.fill == "open" else [1, 0]

    def in_turn(values: NDArray[Any]) -> NDArray[Any]:
        """(2 T, S) of a (2, T, S) field of the plan."""
        return values[turns].transpose(1, 0, 2).reshape(2 * len(bars), -1)

    size, price, fee = in_turn(made.size), in_turn(made.price), in_turn(made.fee)
    rows = np.nonzero(np.isfinite(size).any(axis=1))[0]
    slipped = price * (1 + np.sign(size) * config.costs.slippage)
    # vectorbt adds the proportional part of the fee. The plan has seen to it that there is money for every order.
    beyond = np.nan_to_num(fee - np.abs(size) * slipped * config.costs.fees)
    records, engine = _vectorbt(
        size[rows],
        np.where(np.isfinite(price), price, 1.0)[rows],
        beyond[rows],
        config,
        size_type="amount",
        cash=np.inf,
        sells_first=False,
    )
    fills = _fills_of(records, rows, price[rows])
    missed = int(np.isfinite(size).sum()) - len(fills.bar)
    if missed or not np.allclose(fills.size, size[fills.bar, fills.symbol], rtol=1e-9, atol=0):
        raise IntegrityError(
            f"vectorbt did not fill {missed or 'exactly'} of the orders that were sized for it",
            why="the account would not be what its orders make it",
            fix="this is a defect of qtrade or of vectorbt: please report it with your configuration",
        )
    where = fills.bar, fills.symbol
    fills = replace(fills, bar=fills.bar // 2, reason=in_turn(made.reason)[where], decided=in_turn(made.decided)[where])
    _check_plan(bars, fills, decided, config)
    return _account(bars, fills, made.financing, made.ruined, config, engine)


def _vectorbt(
    size: Float64Array,
    price: Float64Array,
    fixed_fees: Float64Array | float,
    config: BacktestConfig,
    *,
    size_type: str,
    cash: float,
    sells_first: bool,
) -> tuple[NDArray[np.void], str]:
    """Fill (R, S) orders of one account and return the records and the engine that made them.

    Every argument that moves money is spelled out: vectorbt's own defaults trade free, at the same close. Its
    statistics are not used, so `freq`, which only scales those, is left out.
    """
    if len(size) == 0:  # vectorbt wants a row
        size, price, fixed_fees = np.full((1, size.shape[1]), np.nan), np.ones((1, size.shape[1])), 0.0
    import vectorbt  # takes seconds, which only a backtest should pay

    arguments: dict[str, Any] = {
        "close": price,
        "size": size,
        "size_type": size_type,
        "direction": "both",
        "price": price,
        "val_price": price,
        "fees": config.costs.fees,
        "fixed_fees": fixed_fees,
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
        "group_by": True,
        "call_seq": "auto" if sells_first else "default",
        "ffill_val_price": True,
        "update_value": False,  # all targets of a bar are shares of one value
    }
    if find_spec("vectorbt_rust") is not None:
        try:
            return vectorbt.Portfolio.from_orders(engine="rust", **arguments).orders.values, "rust"
        except ImportError:
            pass  # of another version than vectorbt, which then takes Numba
    return vectorbt.Portfolio.from_orders(engine="numba", **arguments).orders.values, "numba"


def _fills_of(records: NDArray[np.void], rows: IntArray, price: Float64Array) -> _Fills:
    """Read vectorbt's records of the bars `rows`; `reason` and `decided` are filled in later."""
    row, symbol = records["idx"].astype(np.int64), records["col"].astype(np.int64)
    unknown = np.zeros(len(row), dtype=np.int64)
    return _Fills(
        bar=rows[row],
        symbol=symbol,
        size=np.where(records["side"] == 0, 1.0, -1.0) * records["size"],
        price=records["price"].astype(np.float64),
        unslipped=price[row, symbol],
        fees=records["fees"].astype(np.float64),
        reason=unknown,
        decided=unknown,
    )


def _account(
    bars: Bars, fills: _Fills, financing: Float64Array, ruined: int, config: BacktestConfig, engine: str
) -> _Account:
    """Follow units and worth from fills; vectorbt's own accessors say the same, and compile for seconds."""
    length, symbols = bars.close.shape
    flows = _summed(fills.bar * symbols + fills.symbol, fills.size, length * symbols).reshape(length, symbols)
    units = flows.cumsum(axis=0)
    units[np.abs(units) <= _ROUNDING * np.maximum.accumulate(np.abs(units), axis=0)] = 0.0
    spent = _summed(fills.bar, fills.size * fills.price + fills.fees, length) + financing
    value = config.cash - spent.cumsum() + (units * bars.close.to_numpy(dtype=np.float64)).sum(axis=1)
    if ruined < length:
        value[ruined:], units[ruined:] = value[ruined], 0.0
    return _Account(fills, units, value, financing, ruined, engine)


def _summed(place: IntArray, money: Float64Array, length: int) -> Float64Array:
    """(length,) sum of some money per fill."""
    return np.bincount(place, weights=money, minlength=length).astype(np.float64, copy=False)


def _changes(decided: Float64Array) -> NDArray[np.bool_]:
    """(T, S) whether the weight differs from the one before it; before the first bar every weight is zero."""
    before = np.vstack([np.zeros((1, decided.shape[1])), decided[:-1]])
    changed: NDArray[np.bool_] = decided != before
    return changed


def _due(decided: Float64Array, delay: int) -> Float64Array:
    """(T, S) target share of equity at the bar that fills it; NaN where nothing is ordered."""
    orders = np.full_like(decided, np.nan)
    orders[delay:] = np.where(_changes(decided), decided, np.nan)[: len(decided) - delay]
    return orders


def market_prices(bars: Bars) -> Float64Array:
    """(4, T, S) open, high, low, close."""
    return np.stack([frame.to_numpy(dtype=np.float64) for frame in (bars.open, bars.high, bars.low, bars.close)])


def _fill_prices(bars: Bars, config: BacktestConfig) -> Float64Array:
    """(T, S) prices at which ordinary orders are filled, before slippage."""
    return (bars.open if config.fill == "open" else bars.close).to_numpy(dtype=np.float64)


def _trades(bars: Bars, fills: _Fills) -> pd.DataFrame:
    """One row per fill, in the order of execution."""
    return pd.DataFrame(
        {
            "bar": bars.index[fills.bar],
            "symbol": pd.Series(np.array(bars.symbols, dtype=object)[fills.symbol], dtype="str"),
            "size": fills.size,
            "price": fills.price,
            "fees": fills.fees,
            "slippage": fills.slippage,
            "decided": bars.index[fills.decided],
            "reason": pd.Series([REASONS[one] for one in fills.reason.tolist()], dtype="str"),
        }
    )


def _check_plan(bars: Bars, fills: _Fills, decided: Float64Array, config: BacktestConfig) -> None:
    """Gate: as `_check_fills`; and an exit follows the position's decision and lies within the range of its bar."""
    exit_ = np.isin(fills.reason, (STOP, TARGET))
    at = np.where(exit_, fills.unslipped, _fill_prices(bars, config)[fills.bar, fills.symbol])
    ordered = fills.decided == fills.bar - config.delay
    ordered &= (fills.reason == BAND) | _changes(decided)[np.maximum(fills.decided, 0), fills.symbol]
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

"""The accounting of `qtrade.backtest.engine`, as a loop that can be read and checked by hand. Slow; tests compare."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pandas as pd

from qtrade.backtest.costs import BASIS_POINT, NOTHING_LEFT, BacktestConfig, require_bar_to_fill
from qtrade.backtest.exits import Exits
from qtrade.types import BacktestResult, Bars

# Units below which vectorbt takes an order for nothing.
_NOTHING = 1e-12

COLUMNS = ["bar", "symbol", "size", "price", "fees", "slippage", "decided", "reason"]


@dataclass
class _Account:
    """Money, units of each symbol, and what was paid since the bar began."""

    config: BacktestConfig
    cash: float
    units: list[float]
    fills: list[tuple[object, ...]] = field(default_factory=list)
    paid: float = 0.0

    def worth(self, prices: list[float]) -> float:
        return self.cash + sum(unit * price for unit, price in zip(self.units, prices, strict=True))

    def fee(self, notional: float) -> float:
        costs = self.config.costs
        return max(costs.min_fee, costs.fixed_fee + costs.fees * notional)

    def trade(self, s: int, size: float, at: float, credit: float, told: tuple[object, ...]) -> bool:
        """Buy or sell what can be paid for; tell whether anything was."""
        costs = self.config.costs
        price = at * (1 + costs.slippage if size > 0 else 1 - costs.slippage)
        money = self.cash + credit
        all_in = size > 0 and size * price + self.fee(size * price) > money
        if all_in:
            size = min(money - costs.min_fee, (money - costs.fixed_fee) / (1 + costs.fees)) / price
        fee = self.fee(abs(size) * price)
        if (all_in and size <= 0) or abs(size) <= _NOTHING or (size < 0 and -size * price < fee):
            return False
        slipped = abs(size) * abs(price - at)
        self.cash = -credit if all_in else self.cash - size * price - fee
        left = self.units[s] + size
        self.units[s] = 0.0 if math.isclose(self.units[s], -size, rel_tol=1e-9) else left
        self.paid += fee + slipped
        bar, symbol, decided, reason = told
        self.fills.append((bar, symbol, size, price, fee, slipped, decided, reason))
        return True


def simulate_by_hand(
    bars: Bars, weights: pd.DataFrame, config: BacktestConfig, exits: Exits | None = None
) -> BacktestResult:
    """Trade `weights` (T, S) on `bars`, bar by bar and symbol by symbol; see `qtrade.backtest.engine.simulate`.

    Gross is built from units and prices alone, and not from equity, so that it checks the engine's.
    """
    require_bar_to_fill(bars, config)
    opens, highs, lows, closes = (frame.to_numpy().tolist() for frame in (bars.open, bars.high, bars.low, bars.close))
    decided = weights.to_numpy().tolist()
    levels = [frame.to_numpy().tolist() for frame in exits.frames] if exits else []
    costs, symbols = config.costs, range(len(bars.symbols))
    account = _Account(config, config.cash, [0.0 for _ in symbols])
    before, ruined = config.cash, None
    decided_at = [-1 for _ in symbols]
    out = [False for _ in symbols]
    rows: list[tuple[float, float, float, float]] = []
    held: list[list[float]] = []

    def change(row: int, s: int) -> bool:
        return bool(decided[row][s] != (decided[row - 1][s] if row else 0.0))

    def fill(t: int, prices: list[float]) -> None:
        """Fill what was decided `delay` bars ago."""
        row, worth = t - config.delay, account.worth(prices)
        if row < 0 or worth <= 0:
            return
        orders: list[tuple[float, int, str]] = []
        for s in symbols:
            changed = change(row, s)
            sides = [math.copysign(1, w) if w else 0 for w in (decided[row][s], decided[row - 1][s] if row else 0.0)]
            out[s] = out[s] and sides[0] == sides[1]
            drift = account.units[s] * prices[s] / worth - decided[row][s]
            wanted = changed if config.band is None else abs(drift) > config.band
            if wanted and not out[s]:
                orders.append((-drift * worth, s, "decision" if changed else "band"))
        # The most negative order, the largest sell, comes first: its money pays for the buys.
        for _, s, reason in sorted(orders, key=lambda order: order[0]):
            size = decided[row][s] * worth / prices[s] - account.units[s]
            credit = max(config.leverage - 1, 0) * worth
            flat = account.units[s] == 0
            told = (bars.index[t], bars.symbols[s], bars.index[row], reason)
            if account.trade(s, size, prices[s], credit, told) and (flat or reason == "decision"):
                decided_at[s] = row

    def leave(t: int) -> None:
        """Close what reached its stop or target."""
        worth = account.worth(opens[t])
        leaving: list[tuple[float, int, float, str]] = []
        for s in symbols:
            unit, since = account.units[s], decided_at[s]
            if unit == 0 or not levels:
                continue
            stop, target = (levels[k if unit > 0 else k + 2][since][s] for k in (0, 1))
            if unit > 0 and lows[t][s] <= stop:
                leaving.append((-unit, s, min(opens[t][s], stop), "stop"))
            elif unit < 0 and highs[t][s] >= stop:
                leaving.append((-unit, s, max(opens[t][s], stop), "stop"))
            elif unit > 0 and highs[t][s] >= target:
                leaving.append((-unit, s, max(opens[t][s], target), "target"))
            elif unit < 0 and lows[t][s] <= target:
                leaving.append((-unit, s, min(opens[t][s], target), "target"))
        credit = max(config.leverage - 1, 0) * max(worth, 0)
        for size, s, price, reason in sorted(leaving, key=lambda order: order[0] * order[2]):
            told = (bars.index[t], bars.symbols[s], bars.index[decided_at[s]], reason)
            if account.trade(s, size, price, credit, told):
                out[s] = True

    for t, _ in enumerate(bars.index):
        if ruined is not None:
            rows.append((0.0, 0.0, 0.0, before))
            held.append([0.0 for _ in symbols])
            continue
        charged, account.paid = 0.0, 0.0
        last = closes[t - 1] if t else opens[t]
        units = list(account.units)
        if t:
            short = sum(max(-units[s], 0) * last[s] for s in symbols)
            charged += short * costs.borrow_bps * BASIS_POINT / bars.periods_per_year
            charged += max(-account.cash, 0) * costs.margin_bps * BASIS_POINT / bars.periods_per_year
            charged += sum(units[s] * last[s] for s in symbols) * costs.funding_bps * BASIS_POINT
            account.cash -= charged
        count = len(account.fills)
        if config.fill == "open":
            fill(t, opens[t])
            leave(t)
        else:
            leave(t)
            fill(t, closes[t])
        # What was held all bar long, and what each fill made until the close from its unslipped price on.
        earned = sum(units[s] * (closes[t][s] - last[s]) for s in symbols)
        for one in account.fills[count:]:
            s = bars.symbols.index(str(one[1]))
            size, price = float(str(one[2])), float(str(one[3]))
            unslipped = price / (1 + costs.slippage if size > 0 else 1 - costs.slippage)
            earned += size * (closes[t][s] - unslipped)
        equity = account.worth(closes[t])
        rows.append((earned / before, (account.paid + charged) / before, charged / before, equity))
        if equity <= NOTHING_LEFT * config.cash:
            ruined = bars.index[t]
        held.append([0.0 if ruined is not None else account.units[s] * closes[t][s] / equity for s in symbols])
        before = equity

    table = pd.DataFrame(rows, index=bars.index, columns=["gross", "cost", "financing", "equity"])
    return BacktestResult(
        decided=weights,
        held=pd.DataFrame(held, index=bars.index, columns=bars.close.columns),
        gross=table["gross"],
        cost=table["cost"],
        net=(table["gross"] - table["cost"]).rename("net"),
        financing=table["financing"],
        equity=table["equity"],
        trades=pd.DataFrame(account.fills, columns=COLUMNS),
        engine="reference",
        ruined=ruined,
    )

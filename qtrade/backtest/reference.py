"""The accounting of `qtrade.backtest.engine`, as a loop that can be read and checked by hand. Slow; tests compare."""

from __future__ import annotations

import pandas as pd

from qtrade.backtest.costs import BacktestConfig, require_bar_to_fill, require_solvent
from qtrade.types import BacktestResult, Bars

# Units below which vectorbt takes an order for nothing.
_NOTHING = 1e-12


def simulate_by_hand(bars: Bars, weights: pd.DataFrame, config: BacktestConfig) -> BacktestResult:
    """Trade `weights` (T, S) on `bars`, bar by bar and symbol by symbol; see `qtrade.backtest.engine.simulate`.

    Gross is built from units and prices alone, and not from equity, so that it checks the engine's.
    """
    require_bar_to_fill(bars, config)
    opens, closes, decided = (frame.to_numpy().tolist() for frame in (bars.open, bars.close, weights))
    fees, slippage = config.costs.fees, config.costs.slippage
    symbols = range(len(bars.symbols))
    cash, units = config.cash, [0.0 for _ in symbols]
    before = config.cash
    fills: list[tuple[pd.Timestamp, str, float, float, float, float]] = []
    rows: list[tuple[float, float, float]] = []
    held: list[list[float]] = []
    for t, stamp in enumerate(bars.index):
        earned, paid = 0.0, 0.0
        if t > 0:
            earned += sum(units[s] * (opens[t][s] - closes[t - 1][s]) for s in symbols)

        value = cash + sum(units[s] * opens[t][s] for s in symbols)
        changed: list[tuple[float, int]] = []
        if t >= config.delay:
            now = decided[t - config.delay]
            earlier = decided[t - config.delay - 1] if t > config.delay else [0.0 for _ in symbols]
            changed = [(now[s] * value - units[s] * opens[t][s], s) for s in symbols if now[s] != earlier[s]]
        if value <= 0:
            changed = []  # an account worth nothing cannot trade

        # The most negative order, the largest sell, comes first: its money pays for the buys.
        for _, s in sorted(changed, key=lambda order: order[0]):
            size = now[s] * value / opens[t][s] - units[s]
            price = opens[t][s] * (1 + slippage if size > 0 else 1 - slippage)
            all_cash = size > 0 and size * price * (1 + fees) > cash
            if all_cash:
                size = cash / (1 + fees) / price
            if abs(size) <= _NOTHING:
                continue
            fee, slipped = abs(size) * price * fees, abs(size) * abs(price - opens[t][s])
            cash = 0.0 if all_cash else cash - size * price - fee
            units[s] += size
            paid += fee + slipped
            fills.append((stamp, bars.symbols[s], size, price, fee, slipped))

        earned += sum(units[s] * (closes[t][s] - opens[t][s]) for s in symbols)
        equity = cash + sum(units[s] * closes[t][s] for s in symbols)
        rows.append((earned / before, paid / before, equity))
        held.append([units[s] * closes[t][s] / equity for s in symbols])
        before = equity

    table = pd.DataFrame(rows, index=bars.index, columns=["gross", "cost", "equity"])
    require_solvent(table["equity"])
    return BacktestResult(
        decided=weights,
        held=pd.DataFrame(held, index=bars.index, columns=bars.close.columns),
        gross=table["gross"],
        cost=table["cost"],
        net=(table["gross"] - table["cost"]).rename("net"),
        equity=table["equity"],
        trades=pd.DataFrame(fills, columns=["bar", "symbol", "size", "price", "fees", "slippage"]),
    )

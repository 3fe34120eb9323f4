"""The engine and the reference loop agree, and neither lets the future touch the past."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrade.backtest.costs import BacktestConfig, CostConfig
from qtrade.backtest.engine import simulate
from qtrade.backtest.exits import Exits
from qtrade.backtest.many import simulate_many
from qtrade.backtest.planner import plan
from qtrade.backtest.reference import simulate_by_hand
from qtrade.types import BAR_FIELDS, Bars, Float64Array

Case = tuple[Bars, pd.DataFrame, BacktestConfig, Exits | None]

SERIES = ("gross", "cost", "net", "financing")


def random_bars(generator: np.random.Generator, length: int, symbols: int, volatility: float) -> Bars:
    index = pd.date_range("2024-01-01", periods=length, tz="UTC")
    start = np.exp(generator.uniform(-3, 8, symbols))
    moves = np.exp(generator.normal(0, volatility, (2 * length, symbols)).cumsum(axis=0))
    columns = [f"S{number}" for number in range(symbols)]
    opens, close = (pd.DataFrame(start * moves[k::2], index=index, columns=columns) for k in (0, 1))
    beyond = np.exp(np.abs(generator.normal(0, volatility / 2, (2, length, symbols))))
    return Bars(
        open=opens,
        high=opens.where(opens > close, close) * beyond[0],
        low=opens.where(opens < close, close) / beyond[1],
        close=close,
        volume=close * 0,
        interval="1d",
        calendar="24/7",
        periods_per_year=365,
    )


def random_weights(generator: np.random.Generator, length: int, symbols: int, kind: str) -> Float64Array:
    """Weights of at most 1 in absolute sum that stay the same for some bars, as real ones do."""
    low = {"long": 0, "short": -1, "both": -1}[kind]
    high = {"long": 1, "short": 0, "both": 1}[kind]
    raw = generator.uniform(low, high, (length, symbols)) * generator.integers(0, 2, (length, symbols))
    raw /= np.maximum(np.abs(raw).sum(axis=1, keepdims=True), generator.choice([0.01, 1.0]))
    stay = generator.random((length, symbols)) < 0.4
    for t in range(1, length):
        raw[t] = np.where(stay[t], raw[t - 1], raw[t])
    weights: Float64Array = raw / np.maximum(np.abs(raw).sum(axis=1, keepdims=True), 1.0)
    return weights


def random_exits(generator: np.random.Generator, bars: Bars) -> Exits:
    """Stops and targets near the close, some of them missing, some crossed by the very next open."""
    frames = []
    for side in (-1, 1, 1, -1):
        away = np.exp(side * generator.normal(0.03, 0.02, bars.close.shape))
        frames.append((bars.close * away).where(generator.random(bars.close.shape) < 0.8))
    return Exits(*frames)


@st.composite
def plain_cases(draw: st.DrawFn) -> Case:
    """Accounts that pay for fills alone, which vectorbt sizes itself."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    length, symbols = draw(st.integers(3, 40)), draw(st.integers(1, 3))
    bars = random_bars(generator, length, symbols, draw(st.sampled_from([0.0, 0.01, 0.05])))
    weights = random_weights(generator, length, symbols, draw(st.sampled_from(["long", "short", "both"])))
    costs = CostConfig(
        fees_bps=draw(st.sampled_from([0, 1, 30, 500])), slippage_bps=draw(st.sampled_from([0, 2, 50, 300]))
    )
    fill = draw(st.sampled_from(["open", "open", "close"]))
    delay = draw(st.integers(1 if fill == "open" else 0, min(3, length - 2)))
    config = BacktestConfig(cash=draw(st.sampled_from([1.0, 1e5, 1e9])), fill=fill, delay=delay, costs=costs)
    return bars, pd.DataFrame(weights, index=bars.index, columns=bars.close.columns), config, None


@st.composite
def rich_cases(draw: st.DrawFn) -> Case:
    """Accounts with any of the costs, limits and exits there are, or all of them."""
    bars, weights, config, _ = draw(plain_cases())
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    leverage = draw(st.sampled_from([1.0, 1.5, 4.0]))
    costs = config.costs.model_copy(
        update={
            # Fees that divide the account leave the last order to the last bit.
            "fixed_fee": draw(st.sampled_from([0.0, 0.00117, 0.0471])) * config.cash,
            "min_fee": draw(st.sampled_from([0.0, 0.00213, 0.0193])) * config.cash,
            "borrow_bps": draw(st.sampled_from([0.0, 500.0, 50_000.0])),
            "margin_bps": draw(st.sampled_from([0.0, 700.0, 70_000.0])),
            "funding_bps": draw(st.sampled_from([0.0, 1.0, -20.0])),
        }
    )
    band = draw(st.sampled_from([None, 0.0, 0.02, 0.3]))
    exits = random_exits(generator, bars) if draw(st.booleans()) else None
    config = config.model_copy(update={"costs": costs, "leverage": leverage, "band": band})
    return bars, weights * leverage, config, exits


def check_parity(bars: Bars, weights: pd.DataFrame, config: BacktestConfig, exits: Exits | None = None) -> None:
    fast, slow = (run(bars, weights, config, exits) for run in (simulate, simulate_by_hand))
    assert fast.ruined == slow.ruined
    # Shares of what is nearly nothing magnify rounding; money does not.
    np.testing.assert_allclose(fast.equity, slow.equity, rtol=1e-9, atol=1e-9 * config.cash)
    small = np.minimum.accumulate(np.concatenate([[config.cash], slow.equity.abs()]))[:-1] / config.cash
    for name in SERIES:
        difference = np.abs(getattr(fast, name).to_numpy() - getattr(slow, name).to_numpy())
        assert (difference <= 1e-9 / np.minimum(small, 1)).all(), name
    np.testing.assert_allclose(fast.held, slow.held, rtol=1e-7, atol=1e-9 / max(small.min(), 1e-6))
    # Two sells of one size are a tie that the last bit decides; their order moves no money.
    fills, others = (result.trades.sort_values(["bar", "symbol", "reason"]) for result in (fast, slow))
    for name in ("bar", "symbol", "decided", "reason"):
        assert fills[name].tolist() == others[name].tolist()
    for name, tolerance in (("size", 0.0), ("price", 0.0), ("fees", 1e-9), ("slippage", 1e-9)):
        pair = fills[name].to_numpy(dtype=float), others[name].to_numpy(dtype=float)
        np.testing.assert_allclose(*pair, rtol=1e-7, atol=tolerance * config.cash)


@settings(max_examples=100, deadline=None)
@given(plain_cases())
def test_engine_and_reference_agree(case: Case) -> None:
    check_parity(*case)


@settings(max_examples=150, deadline=None)
@given(rich_cases())
def test_engine_and_reference_agree_with_every_cost_limit_and_exit(case: Case) -> None:
    check_parity(*case)


@settings(max_examples=50, deadline=None)
@given(plain_cases())
def test_the_plan_sizes_as_vectorbt_does_where_vectorbt_can(case: Case) -> None:
    bars, weights, config, _ = case
    result = simulate(bars, weights, config)
    prices = np.stack([frame.to_numpy() for frame in (bars.open, bars.high, bars.low, bars.close)])
    planned = plan(prices, weights.to_numpy(), None, config, bars.periods_per_year)
    row, column = np.nonzero(np.isfinite(planned.size[0]))
    by_place = result.trades.assign(column=[bars.symbols.index(name) for name in result.trades["symbol"]])
    by_place = by_place.assign(row=bars.index.get_indexer(pd.DatetimeIndex(by_place["bar"]))).sort_values(
        ["row", "column"]
    )
    assert by_place["row"].tolist() == row.tolist()
    assert by_place["column"].tolist() == column.tolist()
    np.testing.assert_allclose(by_place["size"], planned.size[0][row, column], rtol=1e-7)


@settings(max_examples=40, deadline=None)
@given(st.one_of(plain_cases(), rich_cases()), st.integers(0, 2**32))
def test_many_accounts_at_once_are_the_same_accounts(case: Case, seed: int) -> None:
    bars, weights, config, exits = case
    generator = np.random.default_rng(seed)
    kinds = ["long", "short", "both"]
    variants = np.stack(
        [weights.to_numpy()] + [random_weights(generator, len(bars), len(bars.symbols), kind) for kind in kinds]
    )
    many = simulate_many(bars, variants.__getitem__, len(variants), config, exits)
    for column, one in enumerate(variants):
        alone = simulate(bars, pd.DataFrame(one, index=bars.index, columns=bars.close.columns), config, exits)
        np.testing.assert_allclose(many.net[:, column], alone.net, rtol=1e-9, atol=1e-12)
        assert many.fills[column] == len(alone.trades)
        assert many.ruined[column] == (alone.ruined is not None)
        assert many.gross[column] == pytest.approx(alone.gross.mean(), rel=1e-9, abs=1e-12)
        assert many.cost[column] == pytest.approx(alone.cost.mean(), rel=1e-9, abs=1e-12)
        traded = (alone.trades["size"] * alone.trades["price"]).abs().groupby(alone.trades["bar"]).sum()
        before = alone.equity.shift(fill_value=config.cash)
        turnover = (traded.reindex(bars.index, fill_value=0.0) / before).mean()
        assert many.turnover[column] == pytest.approx(turnover, rel=1e-9, abs=1e-12)
        exposure = alone.held.abs().sum(axis=1).mean()
        assert many.exposure[column] == pytest.approx(exposure, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("symbols", [["sp500"], ["sp500", "nasdaq"]])
def test_engine_and_reference_agree_on_twenty_years_of_real_prices(symbols: list[str]) -> None:
    tables = {name: importlib.import_module(f"arch.data.{name}").load() for name in symbols}
    frames = {
        field: pd.DataFrame({name: table[field.capitalize()].astype(float) for name, table in tables.items()}).dropna()
        for field in BAR_FIELDS
    }
    frames = {field: frame.tz_localize("UTC") for field, frame in frames.items()}
    bars = Bars(**frames, interval="1d", calendar="XNYS", periods_per_year=252)
    weights = random_weights(np.random.default_rng(5), len(bars), len(symbols), "both")
    check_parity(bars, pd.DataFrame(weights, index=bars.index, columns=bars.close.columns), BacktestConfig())


@settings(max_examples=60, deadline=None)
@given(st.one_of(plain_cases(), rich_cases()), st.data())
def test_no_future_bar_weight_or_exit_moves_the_past(case: Case, data: st.DataObject) -> None:
    bars, weights, config, exits = case
    cut = data.draw(st.integers(config.delay + 1, len(bars) - 1), label="cut")
    later = (np.arange(len(bars)) >= cut)[:, None]
    generator = np.random.default_rng(cut)
    factor = np.where(later, np.exp(generator.normal(0, 0.01, weights.shape)), 1.0)
    others = replace(bars, **{name: getattr(bars, name) * factor for name in BAR_FIELDS})
    poisoned = weights.copy()
    poisoned[cut:] = generator.uniform(0, 1 / weights.shape[1], weights[cut:].shape)
    whole = simulate(bars, weights, config, exits)
    runs = [
        simulate(bars.rows(0, cut), weights[:cut], config, exits and exits.rows(0, cut)),
        simulate(others, poisoned, config, exits and Exits(*(frame * factor for frame in exits.frames))),
    ]
    for run in runs:
        for name in (*SERIES, "equity", "held"):
            np.testing.assert_array_equal(getattr(run, name)[:cut], getattr(whole, name)[:cut])
        known = run.trades[run.trades["bar"] < bars.index[cut]]
        pd.testing.assert_frame_equal(known, whole.trades[whole.trades["bar"] < bars.index[cut]])

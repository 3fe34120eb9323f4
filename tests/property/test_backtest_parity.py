"""The engine and the reference loop agree, and neither lets the future touch the past."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrade.backtest.costs import BacktestConfig, CostConfig
from qtrade.backtest.engine import simulate
from qtrade.backtest.reference import simulate_by_hand
from qtrade.errors import UsageError
from qtrade.types import BAR_FIELDS, BacktestResult, Bars, Float64Array

Simulator = Callable[[Bars, pd.DataFrame, BacktestConfig], BacktestResult]

SERIES = ("gross", "cost", "net")


def random_bars(generator: np.random.Generator, length: int, symbols: int, volatility: float) -> Bars:
    index = pd.date_range("2024-01-01", periods=length, tz="UTC")
    start = np.exp(generator.uniform(-3, 8, symbols))
    moves = np.exp(generator.normal(0, volatility, (2 * length, symbols)).cumsum(axis=0))
    columns = [f"S{number}" for number in range(symbols)]
    opens, close = (pd.DataFrame(start * moves[k::2], index=index, columns=columns) for k in (0, 1))
    return Bars(
        open=opens,
        high=opens.where(opens > close, close),
        low=opens.where(opens < close, close),
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


@st.composite
def cases(draw: st.DrawFn) -> tuple[Bars, pd.DataFrame, BacktestConfig]:
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    length, symbols = draw(st.integers(3, 40)), draw(st.integers(1, 3))
    bars = random_bars(generator, length, symbols, draw(st.sampled_from([0.0, 0.01, 0.05])))
    weights = random_weights(generator, length, symbols, draw(st.sampled_from(["long", "short", "both"])))
    costs = CostConfig(
        fees_bps=draw(st.sampled_from([0, 1, 30, 500])), slippage_bps=draw(st.sampled_from([0, 2, 50, 300]))
    )
    config = BacktestConfig(
        cash=draw(st.sampled_from([1.0, 1e5, 1e9])), delay=draw(st.integers(1, min(3, length - 2))), costs=costs
    )
    return bars, pd.DataFrame(weights, index=bars.index, columns=bars.close.columns), config


def outcome(run: Simulator, *case: Any) -> BacktestResult | str:
    """The result, or why there is none."""
    try:
        return run(*case)
    except UsageError as error:
        return error.what.split(" worth ")[0] + error.what.split(" at ")[-1]


def check_parity(bars: Bars, weights: pd.DataFrame, config: BacktestConfig) -> None:
    fast, slow = (outcome(run, bars, weights, config) for run in (simulate, simulate_by_hand))
    if isinstance(fast, str) or isinstance(slow, str):
        assert fast == slow
        return
    np.testing.assert_allclose(fast.equity, slow.equity, rtol=1e-9)
    np.testing.assert_allclose(fast.held, slow.held, rtol=1e-9, atol=1e-9)
    for name in SERIES:
        np.testing.assert_allclose(getattr(fast, name), getattr(slow, name), rtol=0, atol=1e-9)
    # Two sells of one size are a tie that the last bit decides; their order moves no money.
    fills, others = (result.trades.sort_values(["bar", "symbol"]) for result in (fast, slow))
    assert fills[["bar", "symbol"]].to_numpy().tolist() == others[["bar", "symbol"]].to_numpy().tolist()
    for name, tolerance in (("size", 0), ("price", 0), ("fees", 1e-9), ("slippage", 1e-9)):
        pair = fills[name].to_numpy(dtype=float), others[name].to_numpy(dtype=float)
        np.testing.assert_allclose(*pair, rtol=1e-7, atol=tolerance * config.cash)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_engine_and_reference_agree(case: tuple[Bars, pd.DataFrame, BacktestConfig]) -> None:
    check_parity(*case)


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


@settings(max_examples=40, deadline=None)
@given(cases(), st.data())
def test_no_future_bar_or_weight_moves_the_past(
    case: tuple[Bars, pd.DataFrame, BacktestConfig], data: st.DataObject
) -> None:
    bars, weights, config = case
    cut = data.draw(st.integers(config.delay + 1, len(bars) - 1), label="cut")
    later = (np.arange(len(bars)) >= cut)[:, None]
    generator = np.random.default_rng(cut)
    factor = np.where(later, np.exp(generator.normal(0, 0.01, weights.shape)), 1.0)
    others = replace(bars, **{name: getattr(bars, name) * factor for name in BAR_FIELDS})
    poisoned = weights.copy()
    poisoned[cut:] = generator.uniform(0, 1 / weights.shape[1], weights[cut:].shape)
    try:
        whole = simulate(bars, weights, config)
        runs = [simulate(bars.rows(0, cut), weights[:cut], config), simulate(others, poisoned, config)]
    except UsageError:
        return  # a ruined account has no result to compare
    for run in runs:
        for name in (*SERIES, "equity", "held"):
            np.testing.assert_array_equal(getattr(run, name)[:cut], getattr(whole, name)[:cut])
        known = run.trades[run.trades["bar"] < bars.index[cut]]
        pd.testing.assert_frame_equal(known, whole.trades[whole.trades["bar"] < bars.index[cut]])

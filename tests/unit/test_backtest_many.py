"""Thousands of accounts on one market: what is told of each, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from qtrade.backtest import many
from qtrade.backtest.costs import BacktestConfig, CostConfig
from qtrade.backtest.engine import simulate
from qtrade.backtest.many import simulate_many
from qtrade.errors import UsageError
from qtrade.types import Bars, Float64Array

FREE = BacktestConfig(cash=1000, costs=CostConfig(fees_bps=0, slippage_bps=0))


def make_bars(close: list[float] | Float64Array) -> Bars:
    """Bars of one symbol, or of several; each opens at the close before."""
    values = np.asarray(close, dtype=np.float64).reshape(len(close), -1)
    index = pd.date_range("2024-01-01", periods=len(values), tz="UTC")
    closes = pd.DataFrame(values, index=index, columns=[f"S{number}" for number in range(values.shape[1])])
    opens = closes.shift().fillna(closes)
    high, low = opens.where(opens > closes, closes), opens.where(opens < closes, closes)
    return Bars(opens, high, low, closes, closes * 0, "1d", "24/7", 365)


def walk(seed: int, bars: int, symbols: int) -> Bars:
    moves = np.random.default_rng(seed).normal(0, 0.02, (bars, symbols))
    return make_bars(100 * np.exp(moves.cumsum(axis=0)))


def constant(bars: Bars, *weights: float) -> Callable[[int], Float64Array]:
    """Variant v holds weight number v of the only symbol, from the first bar on."""
    return lambda number: np.full(bars.close.shape, weights[number])


def test_what_is_told_of_an_account_by_hand() -> None:
    bars = make_bars([10, 10, 20, 5, 10])
    found = simulate_many(bars, constant(bars, 0.0, 0.5, 1.0), 3, FREE)
    # 50 units of 10 beside 500 in cash: worth 1000, 1000, 1500, 750, 1000.
    assert found.net[:, 1].tolist() == pytest.approx([0, 0, 0.5, -0.5, 1 / 3])
    assert found.drawdown.tolist() == pytest.approx([0.0, 0.5, 0.75])
    assert found.gross.tolist() == pytest.approx([0.0, 1 / 15, (1 - 0.75 + 1) / 5])
    assert found.cost.tolist() == [0.0, 0.0, 0.0]
    assert found.turnover.tolist() == pytest.approx([0.0, 0.1, 0.2])
    assert found.exposure.tolist() == pytest.approx([0.0, (1 / 2 + 2 / 3 + 1 / 3 + 1 / 2) / 5, 4 / 5])
    assert found.fills.tolist() == [0, 1, 1]
    assert not found.ruined.any()
    assert found.net.flags.f_contiguous


def test_costs_lie_between_gross_and_net() -> None:
    bars = walk(1, 60, 1)
    weights = np.random.default_rng(2).uniform(-1, 1, (4, 60, 1))
    account = BacktestConfig(costs=CostConfig(fees_bps=10, borrow_bps=500, funding_bps=1, min_fee=2))
    found = simulate_many(bars, weights.__getitem__, 4, account)
    assert (found.cost > 0).all()
    assert (found.gross - found.cost).tolist() == pytest.approx(found.net.mean(axis=0).tolist(), rel=1e-9)


def test_a_ruined_account_is_told_and_stands_still_beside_others() -> None:
    bars = make_bars([10, 10, 25, 5, 5, 30])
    found = simulate_many(bars, constant(bars, -1.0, 1.0), 2, FREE)
    assert found.ruined.tolist() == [True, False]
    assert found.net[:, 0].tolist() == pytest.approx([0, 0, -1.5, 0, 0, 0])
    assert found.drawdown.tolist() == pytest.approx([1.5, 0.8])
    assert found.net[:, 1].tolist() == pytest.approx([0, 0, 1.5, -0.8, 0, 5])


def test_equal_buys_that_money_does_not_reach_for_are_filled_as_vectorbt_fills_them() -> None:
    # From nothing to halves of two symbols, fees on top: the second of two equal orders is filled in part.
    for seed in range(20):
        bars = walk(seed, 30, 2)
        weights = np.where(np.arange(30)[:, None] % 3 == 0, 0.0, 0.5) * np.ones((1, 2))
        alone = simulate(bars, pd.DataFrame(weights, index=bars.index, columns=bars.close.columns), BacktestConfig())
        found = simulate_many(bars, weights[None].__getitem__, 1, BacktestConfig())
        np.testing.assert_allclose(found.net[:, 0], alone.net, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_refused(bad: float) -> None:
    bars = walk(0, 20, 2)
    weights = np.zeros((3, 20, 2))
    weights[2, 7, 1] = bad
    with pytest.raises(ValueError, match="weights must be finite"):
        simulate_many(bars, weights.__getitem__, 3, FREE)
    assert simulate_many(bars, weights.__getitem__, 2, FREE).net.shape == (20, 2)


@pytest.mark.parametrize("shape", [(19, 2), (20, 1), (20,), (2, 20)])
def test_weights_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    bars = walk(0, 20, 2)
    with pytest.raises(ValueError, match="one for each bar and symbol"):
        simulate_many(bars, lambda number: np.zeros(shape), 1, FREE)


def test_a_delay_beyond_the_bars_is_refused_before_anything_is_decided() -> None:
    bars = walk(0, 5, 1)

    def decided(number: int) -> Float64Array:
        raise AssertionError("asked in vain")

    with pytest.raises(UsageError, match=r"backtest\.delay is 5"):
        simulate_many(bars, decided, 3, FREE.model_copy(update={"delay": 5}))


@pytest.mark.parametrize("at_once", [1, 3, 7, 100])
def test_batches_change_nothing_and_variants_are_asked_in_order(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    bars = walk(4, 40, 2)
    weights = np.random.default_rng(4).uniform(-0.5, 0.5, (10, 40, 2))
    whole = simulate_many(bars, weights.__getitem__, 10, BacktestConfig())
    monkeypatch.setattr(many, "_AT_ONCE", at_once * bars.close.size)
    asked = []

    def decided(number: int) -> Float64Array:
        asked.append(number)
        one: Float64Array = weights[number]
        return one

    found = simulate_many(bars, decided, 10, BacktestConfig())
    assert asked == list(range(10))
    for name in ("net", "gross", "cost", "turnover", "exposure", "drawdown", "fills", "ruined"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


def test_what_a_decision_raises_is_raised() -> None:
    bars = walk(0, 20, 1)

    def decided(number: int) -> Float64Array:
        if number == 2:
            raise UsageError("variant 2 fails")
        return np.zeros((20, 1))

    with pytest.raises(UsageError, match="variant 2 fails"):
        simulate_many(bars, decided, 5, FREE)

"""Stops and targets read off forecast paths: by hand, from the past alone, and only where a price is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from qtrade.backtest.costs import BacktestConfig, CostConfig, ExitConfig
from qtrade.backtest.engine import simulate
from qtrade.backtest.exits import Exits, exits_from
from qtrade.errors import DataError, UsageError
from qtrade.forecasts import Forecasts
from qtrade.types import Bars, Float64Array

BOTH = ExitConfig(target=True, stop_quantile=0.1)


def make_bars(closes: Float64Array) -> Bars:
    index = pd.date_range("2024-01-01", periods=len(closes), tz="UTC")
    close = pd.DataFrame(closes, index=index, columns=["A", "B"][: closes.shape[1]])
    return Bars(close, close * 1.05, close * 0.95, close, close * 0, "1d", "24/7", 365)


def forecasts_of(bars: Bars, paths: Float64Array, bank: Float64Array, rows: list[int]) -> Forecasts:
    """Forecasts (n, S, H) of log returns, made at the closes of some bars; the same errors (V, H) behind all."""
    symbols = len(bars.symbols)
    zeros = np.zeros(len(rows) * symbols, dtype=np.int64)
    return Forecasts(
        path=paths.reshape(len(zeros), -1),
        symbol=np.tile(np.array(bars.symbols, dtype=object), len(rows)),
        origin=bars.index[np.repeat(rows, symbols)],
        fold=zeros,
        seed=zeros - 1,
        train_end=bars.index[zeros],
        residuals={(0, -1, symbol): bank for symbol in bars.symbols},
    )


def random_market(seed: int, symbols: int = 2) -> tuple[Bars, Forecasts]:
    generator = np.random.default_rng(seed)
    bars = make_bars(100 * np.exp(generator.normal(0, 0.02, (25, symbols)).cumsum(axis=0)))
    rows = list(range(4, 25))
    paths = generator.normal(0, 0.02, (len(rows), symbols, 5))
    return bars, forecasts_of(bars, paths, generator.normal(0, 0.01, (30, 5)), rows)


def test_prices_by_hand() -> None:
    bars = make_bars(np.array([[100.0], [100.0], [200.0], [50.0]]))
    moves = np.log(np.array([[1.1, 1.3, 1.2], [0.9, 0.7, 0.8], [1.1, 0.8, 0.9]]))
    paths = np.diff(moves, axis=1, prepend=0.0)[:, None, :]
    # Eleven errors at the first step, none after it: cumulative, they are the same at every step.
    bank = np.zeros((11, 3))
    bank[:, 0] = np.log(np.linspace(0.9, 1.1, 11))
    exits = exits_from(forecasts_of(bars, paths, bank, [1, 2, 3]).on(bars), bars, BOTH)
    assert exits is not None
    nan = np.nan
    # The path rises to 1.3, falls to 0.7, or both: up to 1.1 and down to 0.8.
    assert exits.long_target["A"].tolist() == pytest.approx([nan, 130.0, nan, 55.0], nan_ok=True)
    assert exits.short_target["A"].tolist() == pytest.approx([nan, nan, 140.0, 40.0], nan_ok=True)
    # A tenth of eleven sorted errors is the second, 0.92, and nine tenths the last but one, 1.08.
    assert exits.long_stop["A"].tolist() == pytest.approx([nan, 110.0 * 0.92, 140.0 * 0.92, 40.0 * 0.92], nan_ok=True)
    assert exits.short_stop["A"].tolist() == pytest.approx([nan, 130.0 * 1.08, 180.0 * 1.08, 55.0 * 1.08], nan_ok=True)


@pytest.mark.parametrize(
    ("config", "given"),
    [
        (ExitConfig(), None),
        (ExitConfig(target=True), [False, True, False, True]),
        (ExitConfig(stop_quantile=0.2), [True, False, True, False]),
        (BOTH, [True, True, True, True]),
    ],
)
def test_only_what_is_asked_for_is_given(config: ExitConfig, given: list[bool] | None) -> None:
    bars, forecasts = random_market(0)
    exits = exits_from(forecasts.on(bars), bars, config)
    assert (exits is None) == (given is None)
    if exits is not None:
        assert [bool(frame.notna().any(axis=None)) for frame in exits.frames] == given


def test_targets_lie_ahead_of_the_close_and_stops_widen_with_the_quantile() -> None:
    bars, forecasts = random_market(1)
    near, far = (exits_from(forecasts.on(bars), bars, ExitConfig(target=True, stop_quantile=q)) for q in (0.4, 0.05))
    assert near is not None
    assert far is not None
    known = near.long_stop.notna()
    assert (near.long_target > bars.close).where(near.long_target.notna(), True).all(axis=None)
    assert (near.short_target < bars.close).where(near.short_target.notna(), True).all(axis=None)
    assert near.long_target.isna().to_numpy()[4:].any()
    assert (far.long_stop < near.long_stop).where(known, True).all(axis=None)
    assert (far.short_stop > near.short_stop).where(known, True).all(axis=None)
    assert known.to_numpy().sum() == 21 * 2


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(4, 23))
def test_the_future_moves_no_stop_and_no_target(seed: int, cut: int) -> None:
    bars, forecasts = random_market(seed)
    whole = exits_from(forecasts.on(bars), bars, BOTH)
    past = np.asarray(forecasts.origin <= bars.index[cut])
    short = bars.rows(0, cut + 1)
    truncated = exits_from(forecasts.where(past).on(short), short, BOTH)
    generator = np.random.default_rng(seed)
    later = (np.arange(len(bars)) > cut)[:, None]
    other = make_bars(np.where(later, bars.close * generator.uniform(0.2, 5), bars.close))
    path = np.where(past[:, None], forecasts.path, generator.normal(0, 1, forecasts.path.shape))
    poisoned = exits_from(replace(forecasts, path=path).on(other), other, BOTH)
    assert whole is not None
    assert truncated is not None
    assert poisoned is not None
    for frame, cut_off, made_up in zip(whole.frames, truncated.frames, poisoned.frames, strict=True):
        pd.testing.assert_frame_equal(frame.iloc[: cut + 1], cut_off, check_freq=False)
        pd.testing.assert_frame_equal(frame.iloc[: cut + 1], made_up.iloc[: cut + 1])


def test_paths_that_start_later_are_refused() -> None:
    bars, forecasts = random_market(2)
    late = replace(forecasts, delay=1).on(bars)
    assert exits_from(late, bars, ExitConfig()) is None
    with pytest.raises(UsageError, match=r"backtest\.exits needs forecasts that start at the close") as caught:
        exits_from(late, bars, BOTH)
    assert "split.delay=0" in caught.value.fix


def test_a_stop_without_validation_errors_is_refused_and_a_target_needs_none() -> None:
    bars, forecasts = random_market(3)
    bare = replace(forecasts, residuals={}).on(bars)
    assert exits_from(bare, bars, ExitConfig(target=True)) is not None
    with pytest.raises(DataError, match="no validation residuals"):
        exits_from(bare, bars, BOTH)


@pytest.mark.parametrize("q", [0.0, 0.5, -0.1, 1.0])
def test_a_stop_on_the_wrong_side_is_refused(q: float) -> None:
    with pytest.raises(ValidationError, match="stop_quantile"):
        ExitConfig(stop_quantile=q)


def test_rows_and_prices_keep_the_market() -> None:
    bars, forecasts = random_market(4)
    exits = exits_from(forecasts.on(bars), bars, BOTH)
    assert exits is not None
    part = exits.rows(5, 9)
    prices = part.prices(bars.rows(5, 9))
    assert prices.shape == (4, 4, 2)
    for frame, array in zip(exits.frames, prices, strict=True):
        np.testing.assert_array_equal(frame.to_numpy()[5:9], array)
    with pytest.raises(ValueError, match="do not share"):
        exits.prices(bars.rows(5, 9))
    renamed = Exits(*(frame.rename(columns={"A": "C"}) for frame in exits.frames))
    with pytest.raises(ValueError, match="do not share"):
        renamed.prices(bars)


def test_a_position_is_closed_at_the_target_of_the_forecast_it_was_decided_on() -> None:
    bars = make_bars(np.array([[100.0], [100.0], [100.0], [100.0], [100.0]]))
    moves = np.log(np.array([1.03, 1.01, 1.01, 1.01, 1.01]))
    forecasts = forecasts_of(bars, moves[:, None, None], np.zeros((2, 1)), [0, 1, 2, 3, 4])
    exits = exits_from(forecasts.on(bars), bars, ExitConfig(target=True))
    weights = pd.DataFrame(1.0, index=bars.index, columns=bars.close.columns)
    free = BacktestConfig(costs=CostConfig(fees_bps=0, slippage_bps=0))
    trades = simulate(bars, weights, free, exits).trades
    # Decided at the first close, which expects 103; what later closes expect is not what was bought for.
    assert trades["reason"].tolist() == ["decision", "target"]
    assert trades["price"].tolist() == pytest.approx([100.0, 103.0])
    assert trades["decided"].tolist() == [bars.index[0]] * 2

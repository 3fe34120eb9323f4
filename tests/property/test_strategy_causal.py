"""The strategies that come with qtrade: what each decides, and that no future bar or forecast moves it by a bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qtrade.strategy
from qtrade.errors import UsageError
from qtrade.forecasts import Forecasts
from qtrade.strategy import LoadedStrategy, ParamValue, audit, decide, load_strategy
from qtrade.types import BAR_FIELDS, Bars, Float64Array

SHIPPED = Path(qtrade.strategy.__file__).parents[1] / "strategies"
NAMES = sorted(path.stem for path in SHIPPED.glob("*.py"))
STEPS = 4


def load(name: str, **params: ParamValue) -> LoadedStrategy:
    return load_strategy(name, params, [SHIPPED])


def settings_of(name: str) -> dict[str, ParamValue]:
    return {} if name == "buy_and_hold" else {"step": 3}


def make_bars(close: Float64Array) -> Bars:
    index = pd.date_range("2024-01-01", periods=len(close), tz="UTC")
    frame = pd.DataFrame(close, index=index, columns=[f"S{number}" for number in range(close.shape[1])])
    return Bars(
        open=frame,
        high=frame,
        low=frame,
        close=frame,
        volume=frame,
        interval="1d",
        calendar="24/7",
        periods_per_year=365,
    )


def make_forecasts(bars: Bars, expected: Float64Array) -> Forecasts:
    """Forecasts whose cumulative return is `expected` (T, S) at every step; NaN where there is none."""
    row, column = np.nonzero(~np.isnan(expected))
    path = np.zeros((len(row), STEPS))
    path[:, 0] = expected[row, column]
    return Forecasts(
        path=path,
        symbol=np.array(bars.symbols, dtype=object)[column],
        origin=bars.index[row],
        fold=np.zeros(len(row), dtype=np.int64),
        seed=np.zeros(len(row), dtype=np.int64),
        train_end=bars.index[np.zeros(len(row), dtype=np.int64)],
    )


def decided(name: str, expected: list[float], **params: ParamValue) -> list[float]:
    """Weights of one symbol, given what is expected of it at each bar."""
    bars = make_bars(np.ones((len(expected), 1)))
    forecasts = make_forecasts(bars, np.array(expected)[:, None])
    weights: list[float] = decide(load(name, **params), bars, forecasts).iloc[:, 0].tolist()
    return weights


@st.composite
def markets(draw: st.DrawFn) -> tuple[Bars, Forecasts, int]:
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    length, symbols = draw(st.integers(4, 40)), draw(st.integers(1, 3))
    bars = make_bars(np.exp(generator.normal(0, 0.05, (length, symbols)).cumsum(axis=0)))
    expected = generator.normal(0, 0.003, (length, symbols))
    expected[generator.random((length, symbols)) < draw(st.sampled_from([0.0, 0.2, 0.6]))] = np.nan
    expected[0] = 0.001  # at least one row
    return bars, make_forecasts(bars, expected), draw(st.integers(0, length - 2))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(case=markets())
def test_no_future_bar_or_forecast_moves_a_weight(name: str, case: tuple[Bars, Forecasts, int]) -> None:
    bars, forecasts, cut = case
    strategy = load(name, **settings_of(name))
    whole = decide(strategy, bars, forecasts)
    assert (whole.abs() <= 1 / len(bars.symbols)).all(axis=None)

    past = np.asarray(forecasts.origin <= bars.index[cut])
    truncated = decide(strategy, bars.rows(0, cut + 1), forecasts.where(past))
    factor = np.where(np.arange(len(bars)) <= cut, 1.0, 3.0)[:, None]
    others = replace(bars, **{field: getattr(bars, field) * factor for field in BAR_FIELDS})
    poisoned = decide(strategy, others, replace(forecasts, path=np.where(past[:, None], forecasts.path, 9.0)))
    for again in (truncated, poisoned):
        np.testing.assert_array_equal(again[: cut + 1], whole[: cut + 1])


@pytest.mark.parametrize("name", NAMES)
def test_the_audit_passes(name: str) -> None:
    generator = np.random.default_rng(4)
    bars = make_bars(np.exp(generator.normal(0, 0.05, (80, 2)).cumsum(axis=0)))
    forecasts = make_forecasts(bars, generator.normal(0, 0.003, (80, 2)))
    audit(load(name, **settings_of(name)), bars, forecasts, seed=0, cuts=10)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "buy_and_hold"])
def test_a_strategy_is_flat_without_a_forecast(name: str) -> None:
    weights = decided(name, [np.nan, 0.5, np.nan, 0.5, np.nan, -0.5, np.nan], step=3)
    assert weights == [0, 1, 0, 1, 0, -1, 0]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "buy_and_hold"])
def test_a_step_beyond_the_forecast_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="step 5 lies outside"):
        decided(name, [0.1], step=5)


def test_buy_and_hold_holds_equal_parts_from_the_first_bar() -> None:
    bars = make_bars(np.ones((5, 4)))
    weights = decide(load("buy_and_hold"), bars, make_forecasts(bars, np.full((5, 4), np.nan)))
    assert (weights == 0.25).all(axis=None)


def test_forecast_sign_acts_beyond_its_threshold() -> None:
    expected = [0.02, 0.01, 0.005, 0.0, -0.01, -0.02]
    assert decided("forecast_sign", expected, step=1, threshold=0.01) == [1, 0, 0, 0, 0, -1]
    assert decided("forecast_sign", expected, step=1) == [1, 1, 1, 0, -1, -1]
    assert decided("forecast_sign", expected, step=1, long_only=True) == [1, 1, 1, 0, 0, 0]


def test_forecast_sign_reads_the_cumulative_return_at_its_step() -> None:
    bars = make_bars(np.ones((1, 1)))
    forecasts = replace(make_forecasts(bars, np.zeros((1, 1))), path=np.array([[0.01, -0.03, 0.01, 0.02]]))
    found = [decide(load("forecast_sign", step=step), bars, forecasts).iloc[0, 0] for step in (1, 2, 3, 4)]
    assert found == [1, -1, -1, 1]


def test_path_momentum_enters_on_a_strong_forecast_only() -> None:
    # A hurdle of 4 bps times 5 is 0.002.
    assert decided("path_momentum", [0.001, 0.0019, 0.0021, -0.0019, -0.0021], step=4) == [0, 0, 1, 0, -1]


def test_path_momentum_holds_through_weak_agreement_until_the_move_has_run_its_length() -> None:
    assert decided("path_momentum", [0.01, 0.001, 0.001, 0.001, 0.001], step=3) == [1, 1, 1, 0, 0]
    assert decided("path_momentum", [0.01, 0.001, 0.01, 0.001, 0.001, 0.001], step=3) == [1, 1, 1, 1, 1, 0]
    assert decided("path_momentum", [0.01, 0.001], step=1) == [1, 0]


def test_path_momentum_does_not_come_back_after_a_weak_reversal() -> None:
    assert decided("path_momentum", [0.01, -0.001, 0.001, 0.01], step=4) == [1, 0, 0, 1]
    assert decided("path_momentum", [0.01, 0.0, 0.001, 0.01], step=4) == [1, 0, 0, 1]


def test_path_momentum_trades_symbols_apart() -> None:
    bars = make_bars(np.ones((2, 2)))
    forecasts = make_forecasts(bars, np.array([[0.01, np.nan], [0.001, -0.01]]))
    weights = decide(load("path_momentum", step=2), bars, forecasts)
    assert weights.to_numpy().tolist() == [[0.5, 0.0], [0.5, -0.5]]

"""No future bar, forecast or validation error moves a weight of the strategies that come with qtrade by a bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

import qtrade.strategy
from qtrade.forecasts import Forecasts
from qtrade.strategy import decide, load_strategy
from qtrade.types import BAR_FIELDS, Bars

SHIPPED = Path(qtrade.strategy.__file__).parents[1] / "strategies"
STEPS, DELAY = 4, 1
# Every strategy with parameters by which it acts in a market of a few dozen bars.
SPECS = {
    "blend": "blend(of=[forecast_sign(step=2), cross_section(step=1), vol_target(base=tranches, window=3)])",
    "buy_and_hold": "buy_and_hold",
    "cross_section": "cross_section(step=2)",
    "forecast_sign": "forecast_sign(step=3, threshold=0.001)",
    "momentum": "momentum(window=2)",
    "path_extrema": "path_extrema(threshold=0.001)",
    "path_momentum": "path_momentum(step=3)",
    "quantile_gate": "quantile_gate(q=0.45)",
    "random_entries": "random_entries(holding=2)",
    "regime_gate": "regime_gate(base=path_momentum, window=2, history=2, minimum=1, step=1)",
    "tranches": "tranches(full_move=0.002)",
    "vol_target": "vol_target(base=forecast_sign, window=4, measure=market)",
}
STRATEGIES = {name: load_strategy(spec, {}, [SHIPPED]) for name, spec in SPECS.items()}


def test_every_strategy_that_comes_with_qtrade_is_examined() -> None:
    assert set(SPECS) == {path.stem for path in SHIPPED.glob("*.py")}


@st.composite
def markets(draw: st.DrawFn) -> tuple[Bars, Forecasts, int]:
    """Bars, forecasts of two folds with gaps, and a bar that has a future."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    length, symbols = draw(st.integers(16, 48)), draw(st.integers(1, 3))
    index = pd.date_range("2024-01-01", periods=length, tz="UTC")
    names = [f"S{number}" for number in range(symbols)]
    prices = np.exp(generator.normal(0, 0.05, (length, symbols)).cumsum(axis=0))
    close = pd.DataFrame(prices, index=index, columns=names)
    bars = Bars(close, close, close, close, close, interval="1d", calendar="24/7", periods_per_year=365)
    starts = np.array([length // 3, 2 * length // 3])
    known = generator.random((length, symbols)) >= draw(st.sampled_from([0.0, 0.2, 0.6]))
    known[: starts[0]], known[starts[0], 0] = False, True  # at least one row
    row, column = np.nonzero(known)
    fold = (row >= starts[1]).astype(np.int64)
    keys = [(number, -1, name) for number in (0, 1) for name in names]
    forecasts = Forecasts(
        path=generator.normal(0, 0.003, (len(row), STEPS)),
        symbol=np.array(names, dtype=object)[column],
        origin=index[row],
        fold=fold,
        seed=np.full(len(row), -1, dtype=np.int64),
        train_end=index[starts[fold]],
        residuals={key: generator.normal(0, 0.03, (starts[key[0]], STEPS)) for key in keys},
        delay=DELAY,
        validated={key: index[: starts[key[0]]] for key in keys},
    )
    return bars, forecasts, draw(st.integers(starts[0], length - 2))


@settings(max_examples=15, deadline=None)
@given(case=markets())
def test_no_future_moves_a_weight(case: tuple[Bars, Forecasts, int]) -> None:
    bars, forecasts, cut = case
    past = np.asarray(forecasts.origin <= bars.index[cut])
    folds = set(forecasts.fold[past].tolist())
    truncated = bars.rows(0, cut + 1), forecasts.where(past)
    factor = np.where(np.arange(len(bars)) <= cut, 1.0, 3.0)[:, None]
    others = replace(bars, **{field: getattr(bars, field) * factor for field in BAR_FIELDS})
    banks = {key: bank if key[0] in folds else bank + 9.0 for key, bank in forecasts.residuals.items()}
    path = np.where(past[:, None], forecasts.path, 9.0)
    poisoned = others, replace(forecasts, path=path, residuals=banks)
    for name, strategy in STRATEGIES.items():
        whole = decide(strategy, bars, forecasts)
        for market in (truncated, poisoned):
            again = decide(strategy, *market)
            np.testing.assert_array_equal(again[: cut + 1], whole[: cut + 1], err_msg=name)

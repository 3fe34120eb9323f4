"""No number read off predicted paths moves, by a bit, when the bars and forecasts after it are removed or changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrade.forecasts import Forecasts
from qtrade.paths import Paths
from qtrade.types import BAR_FIELDS, Bars

STEPS = 4

QUESTIONS: dict[str, Callable[[Paths], object]] = {
    "returns": lambda paths: paths.returns,
    "cumulative": lambda paths: paths.cumulative,
    "has_forecast": lambda paths: paths.has_forecast(),
    "expected": lambda paths: paths.expected(2),
    "peak": lambda paths: paths.peak(),
    "trough": lambda paths: paths.trough(),
    "peak_step": lambda paths: paths.peak_step(),
    "trough_step": lambda paths: paths.trough_step(),
    "slope": lambda paths: paths.slope(2),
    "drawdown": lambda paths: paths.drawdown(),
    "quantile": lambda paths: paths.quantile(0.2, 3),
    "extreme_quantile": lambda paths: np.stack([paths.extreme_quantile(0.1, lowest) for lowest in (True, False)], 1),
    "probability": lambda paths: paths.probability(2, above=0.01),
    "samples": lambda paths: paths.samples(3, seed=5),
    "age": lambda paths: paths.age(),
    "fold": lambda paths: paths.fold(),
    "vintages": lambda paths: paths.vintages(2, 3),
    "consensus": lambda paths: paths.consensus(2, 3),
    "agreement": lambda paths: paths.agreement(2, 3),
}
NOT_ASKED = {"index", "columns", "folds", "train_ends", "banks", "delay", "horizon"}  # what paths are made of


def make_bars(length: int, symbols: int, rng: np.random.Generator) -> Bars:
    index = pd.date_range("2024-01-01", periods=length, freq="D", tz="UTC")
    values = np.exp(rng.normal(0, 0.05, (length, symbols)).cumsum(axis=0))
    close = pd.DataFrame(values, index=index, columns=[f"S{number}" for number in range(symbols)])
    return Bars(close, close, close, close, close, interval="1d", calendar="24/7", periods_per_year=365.0)


def make_forecasts(bars: Bars, folds: int, seeds: int, missing: float, rng: np.random.Generator) -> Forecasts:
    """Forecasts of folds that follow one another, from the first bar on, with replicates of which some are missing."""
    shape = (len(bars), len(bars.symbols), seeds)
    bar, symbol, seed = (axis.ravel() for axis in np.indices(shape)[:, rng.random(shape) >= missing])
    first = np.sort(rng.choice(len(bars), size=min(folds, len(bars)), replace=False))
    first[0] = 0
    fold = np.searchsorted(first, bar, side="right") - 1
    return Forecasts(
        path=rng.normal(0, 0.02, (len(bar), STEPS)),
        symbol=np.array(bars.symbols, dtype=object)[symbol],
        origin=bars.index[bar],
        fold=fold,
        seed=seed,
        train_end=bars.index[first[fold]],
        residuals={
            (number, one, name): rng.normal(0, 0.02, (3 + number, STEPS))
            for number in range(len(first))
            for one in range(seeds)
            for name in bars.symbols
        },
    )


def without_future(bars: Bars, forecasts: Forecasts, cut: int) -> tuple[Bars, Forecasts]:
    """Keep what is known at the close of bar `cut`: with a fold that begins later its residuals go, too."""
    known = forecasts.where(np.asarray(forecasts.origin <= bars.index[cut]))
    folds = set(known.fold.tolist())
    banks = {key: bank for key, bank in known.residuals.items() if key[0] in folds}
    return bars.rows(0, cut + 1), replace(known, residuals=banks)


def with_another_future(bars: Bars, forecasts: Forecasts, cut: int) -> tuple[Bars, Forecasts]:
    """Change all that is not known at the close of bar `cut`: prices, paths, which of them there are, and spread."""
    prices = np.where(np.arange(len(bars)) <= cut, 1.0, 3.0)[:, None]
    future = np.asarray(forecasts.origin > bars.index[cut])
    known = set(forecasts.fold[~future].tolist())
    banks = {key: bank if key[0] in known else bank + 9.0 for key, bank in forecasts.residuals.items()}
    changed = replace(forecasts, path=np.where(future[:, None], 9.0, forecasts.path), residuals=banks)
    half = ~future | (np.arange(len(forecasts)) % 2 == 0)
    return replace(bars, **{name: getattr(bars, name) * prices for name in BAR_FIELDS}), changed.where(half)


def test_every_number_is_asked_for() -> None:
    public = {name for name in (*vars(Paths), *Paths.__dataclass_fields__) if not name.startswith("_")}
    assert public == set(QUESTIONS) | NOT_ASKED


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 24),
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from([(1, 0.0), (1, 0.4), (2, 0.0), (2, 0.4)]),
    st.data(),
)
def test_no_later_bar_or_forecast_moves_a_number(
    seed: int, length: int, symbols: int, folds: int, replicates: tuple[int, float], data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    bars = make_bars(length, symbols, rng)
    forecasts = make_forecasts(bars, folds, *replicates, rng)
    cut = data.draw(st.integers(0, length - 1))
    whole = forecasts.on(bars)
    for market, known in (without_future(bars, forecasts, cut), with_another_future(bars, forecasts, cut)):
        paths = known.on(market)
        for name, ask in QUESTIONS.items():
            before, after = np.asarray(ask(whole))[: cut + 1], np.asarray(ask(paths))[: cut + 1]
            np.testing.assert_array_equal(after, before, err_msg=name)

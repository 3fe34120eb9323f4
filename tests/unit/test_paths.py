"""What is read off predicted paths is what an obvious computation finds, cell by cell; and it is found once."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from qtrade.errors import DataError, UsageError
from qtrade.forecasts import Forecasts
from qtrade.paths import Paths
from qtrade.types import Bars

STEPS = 5
SYMBOLS = ("C", "A", "B")  # C has no forecast; the forecasts name A and B in the other order
TRAIN_ENDS = (4, 11, 17)  # positions of the bar that the model of each fold knew last
INDEX = pd.date_range("2024-01-01", periods=26, freq="h", tz="UTC")


def market(index: pd.DatetimeIndex = INDEX, symbols: tuple[str, ...] = SYMBOLS) -> Bars:
    prices = pd.DataFrame(1.0, index=index, columns=list(symbols))
    return Bars(prices, prices, prices, prices, prices, interval="1h", calendar="24/7", periods_per_year=8760.0)


def forecasts(seeds: tuple[int, ...] = (0, 1)) -> Forecasts:
    """Three folds of two symbols; a third of the origins has no forecast, and some lie after the market's end."""
    rng = np.random.default_rng(3)
    bar = np.tile(np.repeat(np.arange(6, 30), 2), len(seeds))
    symbol = np.tile(np.array(["B", "A"], dtype=object), len(bar) // 2)
    seed = np.repeat(np.array(seeds), len(bar) // len(seeds))
    fold = np.searchsorted(TRAIN_ENDS, bar, side="right") - 1
    index = pd.date_range(INDEX[0], periods=30, freq="h")
    made = Forecasts(
        path=rng.normal(0, 0.01, (len(bar), STEPS)),
        symbol=symbol,
        origin=index[bar],
        fold=fold,
        seed=seed,
        train_end=index[np.array(TRAIN_ENDS)[fold]],
        residuals={
            (number, one, name): rng.normal(0, 0.01, (7 + number, STEPS))
            for number in range(3)
            for one in seeds
            for name in ("A", "B")
        },
    )
    absent = rng.random(len(bar) // len(seeds)) < 1 / 3
    return made.where(~np.tile(absent, len(seeds)))


def of(*paths: list[float], bank: list[list[float]] | None = None) -> Paths:
    """Paths of one symbol at the first bars of a market, one per bar."""
    rows = len(paths)
    stamps, number = INDEX[:rows], np.zeros(rows, dtype=np.int64)
    made = Forecasts(
        path=np.array(paths),
        symbol=np.full(rows, "A", dtype=object),
        origin=stamps,
        fold=number,
        seed=number - 1,
        train_end=stamps[number],
        residuals={} if bank is None else {(0, -1, "A"): np.array(bank)},
    )
    return made.on(market(stamps, ("A",)))


@dataclass(frozen=True)
class Cell:
    """A forecast as it was made, with plain numbers; `levels[0]` is the start of the path."""

    bar: int
    levels: list[float]
    errors: list[list[float]]
    fold: int


def cells(made: Forecasts, symbol: str) -> dict[int, Cell]:
    """The forecasts of a symbol by the position of their origin, averaged over seeds one by one."""
    found = {}
    origins = made.origin.tolist()
    for bar, stamp in enumerate(INDEX.tolist()):
        rows = [row for row, origin in enumerate(origins) if origin == stamp and made.symbol[row] == symbol]
        if rows:
            fold = int(made.fold[rows[0]])
            path = [sum(made.path[row, step] for row in rows) / len(rows) for step in range(STEPS)]
            banks = [made.residuals[(fold, int(made.seed[row]), symbol)] for row in rows]
            errors = np.stack(banks).mean(axis=0).tolist()
            levels = [sum(path[:step]) for step in range(STEPS + 1)]
            found[bar] = Cell(bar, levels, [[sum(row[: step + 1]) for step in range(STEPS)] for row in errors], fold)
    return found


def fall(levels: list[float]) -> float:
    return 1 - min(math.exp(levels[b] - levels[a]) for a in range(STEPS + 1) for b in range(a, STEPS + 1))


def quantile_of(cell: Cell, q: float, step: int) -> float:
    return float(np.quantile([cell.levels[step] + row[step - 1] for row in cell.errors], q))


CASES: dict[str, tuple[Callable[[Paths], pd.DataFrame], Callable[[Cell], float]]] = {
    "expected": (lambda paths: paths.expected(3), lambda cell: cell.levels[3]),
    "expected at the end": (lambda paths: paths.expected(), lambda cell: cell.levels[STEPS]),
    "peak": (lambda paths: paths.peak(), lambda cell: max(cell.levels[1:])),
    "trough": (lambda paths: paths.trough(), lambda cell: min(cell.levels[1:])),
    "peak_step": (lambda paths: paths.peak_step(), lambda cell: cell.levels[1:].index(max(cell.levels[1:])) + 1),
    "trough_step": (lambda paths: paths.trough_step(), lambda cell: cell.levels[1:].index(min(cell.levels[1:])) + 1),
    "slope": (lambda paths: paths.slope(), lambda cell: np.polyfit(range(STEPS), cell.levels[1:], 1)[0]),
    "slope of a part": (lambda paths: paths.slope(2, 4), lambda cell: np.polyfit(range(3), cell.levels[2:5], 1)[0]),
    "drawdown": (lambda paths: paths.drawdown(), lambda cell: fall(cell.levels)),
    "quantile": (lambda paths: paths.quantile(0.2, 2), lambda cell: quantile_of(cell, 0.2, 2)),
    "quantile at the end": (lambda paths: paths.quantile(0.9), lambda cell: quantile_of(cell, 0.9, STEPS)),
    "lowest quantile": (
        lambda paths: paths.extreme_quantile(0.1, lowest=True),
        lambda cell: min(quantile_of(cell, 0.1, step) for step in range(1, STEPS + 1)),
    ),
    "highest quantile": (
        lambda paths: paths.extreme_quantile(0.1, lowest=False),
        lambda cell: max(quantile_of(cell, 0.9, step) for step in range(1, STEPS + 1)),
    ),
    "probability": (
        lambda paths: paths.probability(4, above=0.005),
        lambda cell: float(np.mean([cell.levels[4] + row[3] > 0.005 for row in cell.errors])),
    ),
    "age": (lambda paths: paths.age(), lambda cell: cell.bar - TRAIN_ENDS[cell.fold]),
    "fold": (lambda paths: paths.fold(), lambda cell: cell.fold),
    "has_forecast": (lambda paths: paths.has_forecast().astype(float).replace(0.0, np.nan), lambda _: 1.0),
}


@pytest.mark.parametrize("seeds", [(0, 1), (-1,)])
@pytest.mark.parametrize("name", CASES)
def test_a_number_is_what_an_obvious_computation_finds(name: str, seeds: tuple[int, ...]) -> None:
    made, bars = forecasts(seeds), market()
    fast, slow = CASES[name]
    found = fast(made.on(bars))
    assert found.index.equals(bars.index)
    assert found.columns.equals(bars.close.columns)
    wanted = np.full((len(INDEX), len(SYMBOLS)), np.nan)
    for column, symbol in enumerate(SYMBOLS):
        for bar, cell in cells(made, symbol).items():
            wanted[bar, column] = slow(cell)
    assert 20 < np.isfinite(wanted).sum() < 2 * 20, "some bars have a forecast, and some have none"
    np.testing.assert_allclose(found.to_numpy(), wanted, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(("step", "k"), [(1, 1), (2, 3), (1, STEPS), (STEPS, 1), (3, 2)])
def test_vintages_are_what_the_last_forecasts_said_of_the_same_bars(step: int, k: int) -> None:
    made = forecasts()
    paths = made.on(market())
    wanted = np.full((len(INDEX), len(SYMBOLS), k), np.nan)
    for column, symbol in enumerate(SYMBOLS):
        known = cells(made, symbol)
        for bar in range(len(INDEX)):
            for back in range(k):
                if bar - back in known:
                    levels = known[bar - back].levels
                    wanted[bar, column, back] = levels[back + step] - levels[back]
    np.testing.assert_allclose(paths.vintages(step, k), wanted, rtol=1e-9, atol=1e-15)

    frames = paths.consensus(step, k), paths.agreement(step, k)
    for bar in range(len(INDEX)):
        for column in range(len(SYMBOLS)):
            told = [value for value in wanted[bar, column] if not math.isnan(value)]
            mean = sum(told) / len(told) if told else math.nan
            signs = sum(math.copysign(1, value) for value in told) / len(told) if told else math.nan
            found = [frame.to_numpy()[bar, column] for frame in frames]
            assert found == pytest.approx([mean, signs], rel=1e-9, abs=1e-15, nan_ok=True)
    assert np.isnan(frames[0]["C"]).all()


def test_numbers_by_hand() -> None:
    paths = of([0.01, -0.03, 0.05, -0.01])  # 0.01, -0.02, 0.03, 0.02
    np.testing.assert_allclose(paths.cumulative, [[[0.01, -0.02, 0.03, 0.02]]], atol=1e-15)
    found = [
        frame.iat[0, 0]
        for frame in (paths.peak(), paths.trough(), paths.peak_step(), paths.trough_step(), paths.slope(), paths.age())
    ]
    # Slope: (-1.5 * 1 - 0.5 * -2 + 0.5 * 3 + 1.5 * 2) / 5 = 0.8 percent per bar.
    assert found == pytest.approx([0.03, -0.02, 3, 2, 0.008, 0])
    assert paths.drawdown().iat[0, 0] == pytest.approx(1 - math.exp(-0.03))
    assert paths.slope(3).iat[0, 0] == pytest.approx(-0.01)


def test_the_first_of_equal_steps_counts() -> None:
    paths = of([0.25, -0.5, 0.5, -0.5, 0.5])
    assert (paths.peak_step().iat[0, 0], paths.trough_step().iat[0, 0]) == (1, 2)


def test_a_path_that_only_falls_has_a_negative_peak_and_falls_from_its_start() -> None:
    paths = of([-0.1, -0.1])
    assert paths.peak().iat[0, 0] == pytest.approx(-0.1)
    assert paths.drawdown().iat[0, 0] == pytest.approx(1 - math.exp(-0.2))
    assert of([0.1, 0.1]).drawdown().iat[0, 0] == 0


def test_spread_by_hand() -> None:
    # Cumulative errors are -0.1, 0.1, 0.3 after one step and -0.3, 0.0, 0.3 after two.
    paths = of([0.0, 0.5], bank=[[-0.1, -0.2], [0.1, -0.1], [0.3, 0.0]])
    assert paths.quantile(0.5, 1).iat[0, 0] == pytest.approx(0.1)
    assert paths.quantile(0.5).iat[0, 0] == pytest.approx(0.5)
    assert paths.extreme_quantile(0.0, lowest=True).iat[0, 0] == pytest.approx(-0.1)
    assert paths.extreme_quantile(0.0, lowest=False).iat[0, 0] == pytest.approx(0.8)
    assert paths.probability(1).iat[0, 0] == pytest.approx(2 / 3)
    assert paths.probability(2).iat[0, 0] == 1
    assert paths.probability(1, above=0.3).iat[0, 0] == 0, "what only reaches the level does not exceed it"


def test_a_quantile_is_that_of_the_forecasts_themselves() -> None:
    made = forecasts((-1,))
    here = np.asarray(made.origin <= INDEX[-1])
    frame, wanted = made.on(market()).quantile(0.15, 4), made.quantile(0.15)[here, 3]
    part = made.where(here)
    found = [frame.at[stamp, symbol] for stamp, symbol in zip(part.origin, part.symbol, strict=True)]
    np.testing.assert_array_equal(found, wanted)


def test_agreement_of_forecasts_that_contradict_one_another() -> None:
    paths = of([0.1, 0.2, 0.3], [0.1, -0.5, 0.1], [-0.1, 0.0, 0.0])
    # Of the bar after the third: 0.3 says the first forecast, -0.5 the second, -0.1 the third.
    np.testing.assert_allclose(paths.vintages(1, 3)[2, 0], [-0.1, -0.5, 0.3], atol=1e-15)
    assert paths.agreement(1, 3).iat[2, 0] == pytest.approx(-1 / 3)
    assert paths.consensus(1, 3).iat[2, 0] == pytest.approx(-0.1)
    assert paths.agreement(1, 3).iat[0, 0] == 1


@pytest.mark.parametrize("step", [-1, STEPS + 1])
def test_a_step_outside_the_path_is_a_usage_error(step: int) -> None:
    paths = forecasts().on(market())
    asked: tuple[Callable[[], object], ...] = (
        lambda: paths.expected(step),
        lambda: paths.quantile(0.1, step),
        lambda: paths.probability(step),
        lambda: paths.slope(1, step),
        lambda: paths.slope(step),
    )
    for ask in asked:
        with pytest.raises(UsageError, match=f"step {step} lies outside") as caught:
            ask()
        assert caught.value.fix == "choose a step from 1 to 5, or 0 for the last"


@pytest.mark.parametrize(("first", "last"), [(3, 3), (4, 2), (STEPS, 0), (0, 3)])
def test_a_slope_needs_two_steps(first: int, last: int) -> None:
    with pytest.raises(UsageError, match="there is no slope from step"):
        forecasts().on(market()).slope(first, last)


@pytest.mark.parametrize(("step", "k"), [(0, 1), (1, 0), (3, 4), (STEPS + 1, 1)])
def test_vintages_that_do_not_reach_are_a_usage_error(step: int, k: int) -> None:
    paths = forecasts().on(market())
    for ask in (paths.vintages, paths.consensus, paths.agreement):
        with pytest.raises(UsageError, match=rf"{k} forecasts in a row do not all tell the next {step} bars") as caught:
            ask(step, k)
        assert "sum of at most 6" in caught.value.fix


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_quantile_is_a_share(q: float) -> None:
    paths = forecasts().on(market())
    with pytest.raises(UsageError, match="there is no quantile"):
        paths.quantile(q)
    with pytest.raises(UsageError, match="there is no quantile"):
        paths.extreme_quantile(q, lowest=True)


def test_missing_residuals_are_named_where_the_spread_is_asked_for() -> None:
    made = forecasts()
    left = {key: bank for key, bank in made.residuals.items() if key[0] != 1 or key[2] != "B"}
    paths = replace(made, residuals=left).on(market())
    assert paths.expected().notna().any(axis=None)
    asked: tuple[Callable[[], object], ...] = (
        lambda: paths.quantile(0.5),
        lambda: paths.extreme_quantile(0.5, lowest=True),
        lambda: paths.probability(),
    )
    for ask in asked:
        with pytest.raises(DataError, match=r"no validation residuals for \(fold, symbol\) \(1, 'B'\)"):
            ask()


# --- laying forecasts out ---


def test_paths_tell_their_shape_and_delay() -> None:
    paths = replace(forecasts(), delay=2).on(market())
    assert (paths.horizon, paths.delay) == (STEPS, 2)
    assert paths.returns.shape == paths.cumulative.shape == (len(INDEX), len(SYMBOLS), STEPS)
    assert np.array_equal(np.isnan(paths.returns).any(axis=2), ~paths.has_forecast().to_numpy())


def test_a_model_older_than_the_market_has_no_age() -> None:
    made = forecasts()
    age = made.on(market(INDEX[8:])).age()
    first = made.on(market()).fold().loc[age.index] == 0
    assert age.where(first).isna().all(axis=None)
    assert first.any(axis=None)
    later = made.on(market()).age().loc[age.index].mask(first)
    assert age.equals(later)


def test_a_model_that_ends_between_two_bars_ends_at_the_earlier() -> None:
    made = forecasts()
    moved = replace(made, train_end=made.train_end - pd.Timedelta("1min"))
    assert moved.on(market()).age().equals(made.on(market()).age() + 1)


@pytest.mark.parametrize("unit", ["s", "ns"])
def test_stamps_of_another_resolution_are_the_same_stamps(unit: Literal["s", "ns"]) -> None:
    made = forecasts()
    finer = replace(made, origin=made.origin.as_unit(unit), train_end=made.train_end.as_unit(unit))
    for name in ("peak", "age"):
        assert getattr(finer.on(market()), name)().equals(getattr(made.on(market()), name)())


def test_no_forecast_at_all_leaves_every_number_missing() -> None:
    made = forecasts((-1,))
    nothing = made.where(np.zeros(len(made), dtype=np.bool_))
    for name, (ask, _) in CASES.items():
        assert ask(nothing.on(market())).isna().all(axis=None), name
    assert np.isnan(nothing.on(market()).vintages(2, 2)).all()


def test_two_folds_at_one_origin_are_refused() -> None:
    made = forecasts()
    names = ("path", "symbol", "origin", "seed", "train_end")
    twice: Any = {name: np.concatenate([getattr(made, name)] * 2) for name in names}
    for name in ("origin", "train_end"):
        twice[name] = getattr(made, name).append(getattr(made, name))
    both = replace(made, **twice, fold=np.repeat([0, 1], len(made)))
    with pytest.raises(ValueError, match="several forecasts of one symbol at one origin"):
        both.on(market())


def test_arrays_fit_the_market() -> None:
    whole, numbers = np.zeros((3, 1, 2)), np.zeros((3, 1), dtype=np.int64)
    fitting = Paths(INDEX[:3], pd.Index(["A"]), whole, numbers, numbers, banks={})
    with pytest.raises(ValueError, match=r"returns must be \(3, 1, H\), got \(3, 2\)"):
        replace(fitting, returns=whole[:, 0])
    for name in ("folds", "train_ends"):
        short: Any = {name: numbers[:2]}
        with pytest.raises(ValueError, match=rf"'{name}' must be \(3, 1\), got \(2, 1\)"):
            replace(fitting, **short)


# --- remembering ---


def test_the_paths_of_the_same_bars_are_laid_out_once() -> None:
    made, bars = forecasts(), market()
    first = made.on(bars)
    assert made.on(replace(bars, interval="1d")) is first, "the same frames lie on the same axes"
    other = made.on(market(INDEX[3:]))
    assert len(other.index) == len(INDEX) - 3
    assert made.on(market(symbols=("B",))).columns.tolist() == ["B"]
    again = made.on(bars)
    assert again is not first, "only the last answer is kept"
    assert again.expected().equals(first.expected())


def test_an_answer_is_worked_out_once_per_question() -> None:
    paths = forecasts().on(market())
    for name, (ask, _) in CASES.items():
        if name != "has_forecast":  # the case turns the answer into numbers
            assert np.shares_memory(ask(paths).to_numpy(), ask(paths).to_numpy())
    assert np.shares_memory(paths.has_forecast().to_numpy(), paths.has_forecast().to_numpy())
    assert paths.vintages(2, 2) is paths.vintages(2, 2)
    assert not paths.expected(1).equals(paths.expected(2))
    assert not paths.extreme_quantile(0.1, True).equals(paths.extreme_quantile(0.1, False))


def test_what_a_caller_writes_stays_with_that_caller() -> None:
    made, bars = forecasts(), market()
    asked: tuple[Callable[[], pd.DataFrame], ...] = (lambda: made.on(bars).expected(2), lambda: made.expected(2))
    for ask in asked:
        untouched = ask().copy()
        mine = ask()
        mine.iloc[:] = 7.0
        mine.index.name, mine.columns = "mine", list(range(mine.shape[1]))
        pd.testing.assert_frame_equal(ask(), untouched)
    paths = made.on(bars)
    for values in (paths.returns, paths.cumulative, paths.vintages(1, 2), paths.peak().to_numpy()):
        with pytest.raises(ValueError, match="read-only"):
            values[:] = 0.0


def test_what_is_remembered_stays_behind_when_forecasts_are_sent_elsewhere() -> None:
    made, bars = forecasts(), market()
    size = len(pickle.dumps(made))
    wanted = made.on(bars).quantile(0.1), made.expected(3)
    sent = pickle.dumps(made)
    assert len(sent) < size + 100
    for other in (pickle.loads(sent), copy.copy(made), replace(made)):  # noqa: S301
        assert other.on(bars) is not made.on(bars)
        assert other.on(bars).quantile(0.1).equals(wanted[0])
        assert other.expected(3).equals(wanted[1])


def test_other_forecasts_do_not_inherit_answers() -> None:
    made, bars = forecasts(), market()
    made.on(bars).expected()
    made.expected(2)
    half = made.where(made.symbol == "A")
    assert half.on(bars).expected()["B"].isna().all()
    assert half.expected(2).columns.tolist() == ["A"]


def test_samples_are_those_of_the_forecasts_in_their_places() -> None:
    made = forecasts().seed_mean()
    paths = made.on(market())
    drawn = paths.samples(4, seed=9)
    assert drawn.shape == (len(INDEX), len(SYMBOLS), 4, STEPS)
    theirs = made.sample(4, seed=9).cumsum(axis=2)
    for row, (stamp, name) in enumerate(zip(made.origin, made.symbol, strict=True)):
        if stamp in INDEX:
            place = INDEX.get_loc(stamp), SYMBOLS.index(str(name))
            np.testing.assert_allclose(drawn[place], theirs[row], rtol=1e-12)
    assert np.isnan(drawn[:, SYMBOLS.index("C")]).all()
    assert np.isfinite(drawn).all(axis=(2, 3)).sum() == paths.has_forecast().to_numpy().sum()

"""Models are compared on equal origins, in either order alike, and equally bad ones are told apart no more than 5 %."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import signal

from qtrade.evaluation.paired import POWER, Gain, PairedHorizon, compare_forecasts, on_equal_origins
from qtrade.forecasts import Forecasts
from qtrade.types import Float64Array

HORIZON, SIZE = 12, 600
DAYS = pd.date_range("2000-01-03", periods=SIZE, tz="UTC")
BANK = np.random.default_rng(5).standard_normal((80, HORIZON))


def outcomes(seed: int) -> Float64Array:
    """(SIZE, HORIZON) returns after each day of a random walk; neighbours share all but one."""
    shocks = np.random.default_rng(seed).standard_normal(SIZE + HORIZON)
    return np.lib.stride_tricks.sliding_window_view(shocks[1:], HORIZON)[:SIZE]


def persistent(seed: int, size: float = 0.3) -> Float64Array:
    """(SIZE, HORIZON) paths that know nothing and change slowly, as those of a model do."""
    shocks = np.random.default_rng([1, seed]).standard_normal(SIZE + 200)
    wander = signal.lfilter([1.0], [1.0, -0.95], shocks)[200:] * np.sqrt(1 - 0.95**2)
    return np.repeat(size * np.asarray(wander)[:, None] / HORIZON, HORIZON, axis=1)


def model(path: Float64Array, symbol: str = "A", days: pd.DatetimeIndex = DAYS) -> Forecasts:
    rows = len(path)
    code = np.zeros(rows, dtype=np.int64)
    return Forecasts(
        path=path,
        symbol=np.full(rows, symbol, dtype=object),
        origin=days,
        fold=code,
        seed=code - 1,
        train_end=pd.DatetimeIndex([days.min()] * rows),
        residuals={(0, -1, name): BANK for name in ("A", "B")},
    )


def pooled(*parts: Forecasts) -> Forecasts:
    first, second = parts
    return replace(
        first,
        path=np.concatenate([first.path, second.path]),
        symbol=np.concatenate([first.symbol, second.symbol]),
        origin=pd.DatetimeIndex(first.origin.append(second.origin)),
        fold=np.concatenate([first.fold, second.fold]),
        seed=np.concatenate([first.seed, second.seed]),
        train_end=pd.DatetimeIndex(first.train_end.append(second.train_end)),
    )


def gains(found: PairedHorizon) -> tuple[Gain, Gain]:
    score = found.scores[1]
    assert score.error_gain is not None
    assert score.crps_gain is not None
    return score.error_gain, score.crps_gain


def test_equally_bad_models_are_told_apart_at_about_the_nominal_rate() -> None:
    series = 300
    p: list[tuple[float, float]] = []
    for seed in range(series):
        pair = model(persistent(2 * seed)), model(persistent(2 * seed + 1))
        (found,) = compare_forecasts(pair, outcomes(seed), (HORIZON,))
        error, crps = gains(found)
        p.append((error.p, crps.p))
    rejected = np.mean(np.array(p) < 0.05, axis=0)
    # Of 300 series at a true rate of 5 %, two standard deviations are 2.5 %.
    assert ((rejected >= 0.02) & (rejected <= 0.10)).all(), rejected


def test_a_gain_of_the_visible_size_is_found_as_often_as_is_said() -> None:
    found = []
    for seed in range(150):
        # No change against a model that adds noise to it, and loses by as much on average.
        pair = model(np.zeros((SIZE, HORIZON))), model(persistent(seed, 2.7))
        found.append(gains(compare_forecasts(pair, outcomes(seed), (HORIZON,))[0])[0])
    lost = -np.mean([one.gain for one in found])
    assert lost / np.mean([one.visible for one in found]) == pytest.approx(1.0, abs=0.15)
    assert np.mean([one.p < 0.05 for one in found]) == pytest.approx(POWER, abs=0.12)
    # Losses of this size are skewed, so the interval covers less than in the null.
    assert 0.82 <= np.mean([one.low <= -lost <= one.high for one in found]) <= 0.99


def test_swapping_two_models_changes_the_sign_and_nothing_else() -> None:
    one, other, actual = model(persistent(1)), model(persistent(2, 0.5)), outcomes(3)
    forth = compare_forecasts([one, other], actual, (1, 6, HORIZON))
    back = compare_forecasts([other, one], actual, (1, 6, HORIZON))
    assert len(forth) == 3
    for left, right in zip(forth, back, strict=True):
        for here, there in zip(gains(left), gains(right), strict=True):
            assert here.gain != 0
            assert (here.gain, here.low, here.high) == pytest.approx((-there.gain, -there.high, -there.low))
            assert (here.p, here.p_holm, here.visible) == pytest.approx((there.p, there.p_holm, there.visible))
        assert left.scores[0].rmse == right.scores[1].rmse
        assert left.scores[0].vs_zero == right.scores[1].vs_zero
        # The gain is the difference of the two R2 that stand beside it.
        assert gains(left)[0].gain == pytest.approx(left.scores[1].vs_zero.r2 - left.scores[0].vs_zero.r2)


def test_origins_that_not_all_models_have_are_never_used() -> None:
    one, other, third = (persistent(seed) for seed in (1, 2, 3))
    actual = outcomes(4)
    kept = np.ones(SIZE, dtype=np.bool_)
    kept[[0, 7, 8, 200, 599]] = False
    whole, cut = model(one), model(other[kept], days=DAYS[kept])
    poisoned = np.where(kept[:, None], one, 1e9)
    clean = on_equal_origins([whole, cut, model(third)])
    dirty = on_equal_origins([model(poisoned), cut, model(np.where(kept[:, None], third, -1e9))])
    assert [len(part) for part in clean] == [SIZE - 5] * 3
    assert compare_forecasts(clean, actual[kept], (1, HORIZON)) == compare_forecasts(dirty, actual[kept], (1, HORIZON))
    assert compare_forecasts(clean, actual[kept], (1,))[0].rows == SIZE - 5


def test_outcomes_not_known_yet_are_never_used() -> None:
    actual = outcomes(4)
    actual = np.where(np.add.outer(np.arange(SIZE), np.arange(HORIZON)) < SIZE - 1, actual, np.nan)
    paths = [persistent(seed) for seed in (1, 2)]
    known = np.isfinite(actual.sum(axis=1))
    (found,) = compare_forecasts([model(path) for path in paths], actual, (HORIZON,))
    (alone,) = compare_forecasts([model(path[known], days=DAYS[known]) for path in paths], actual[known], (HORIZON,))
    assert found == alone
    assert found.rows == int(known.sum()) == SIZE - HORIZON


def test_neither_the_order_of_rows_nor_that_of_symbols_matters() -> None:
    first, second = (pooled(model(persistent(seed)), model(persistent(seed + 10), "B")) for seed in (1, 2))
    actual = np.concatenate([outcomes(1), outcomes(2)])
    shuffled = np.random.default_rng(0).permutation(2 * SIZE)

    def compared(order: np.typing.NDArray[np.int64]) -> tuple[PairedHorizon, ...]:
        there = first.where(order)  # type: ignore[arg-type]  # positions, which arrays take as well
        aligned = on_equal_origins([there, second])
        keys = pd.MultiIndex.from_arrays([first.origin, first.symbol])
        wanted = pd.MultiIndex.from_arrays([aligned[0].origin, aligned[0].symbol])
        return compare_forecasts(aligned, actual[keys.get_indexer(wanted)], (1, HORIZON))

    straight = compared(np.arange(2 * SIZE))
    assert straight == compared(shuffled)
    assert straight[0].origins == SIZE
    assert straight[0].rows == 2 * SIZE


def test_a_model_held_against_itself_is_identical() -> None:
    one = model(persistent(1))
    for found in compare_forecasts([one, model(persistent(1))], outcomes(1), (1, HORIZON)):
        for gain in gains(found):
            assert (gain.gain, gain.p, gain.p_holm, gain.answer) == (0.0, 1.0, 1.0, "identical")


def test_a_better_model_is_found_and_all_comparisons_count() -> None:
    actual = outcomes(1)
    knowing = model(0.5 * actual)
    useless = [model(persistent(seed)) for seed in (1, 2, 3)]
    found = compare_forecasts([useless[0], knowing, *useless[1:]], actual, (1, HORIZON))
    for one in found:
        error, crps = gains(one)
        assert error.answer == crps.answer == "better"
        assert error.low > 0
        assert error.gain == pytest.approx(0.75, abs=0.1)  # half of the move known: a quarter of the squared error left
    tested = [gain for one in found for gain in (score.error_gain for score in one.scores) if gain is not None]
    assert len(tested) == 6
    best = min(tested, key=lambda gain: gain.p)
    assert best.p_holm == pytest.approx(min(1.0, 6 * best.p))


def test_too_few_outcomes_are_not_compared() -> None:
    pair = [model(persistent(seed)[:239], days=DAYS[:239]) for seed in (1, 2)]
    assert [one.horizon for one in compare_forecasts(pair, outcomes(1)[:239], (1, 11, HORIZON))] == [1, 11]

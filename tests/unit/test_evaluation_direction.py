from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtrade.evaluation.direction import Direction, at_each_origin, direction
from qtrade.evaluation.significance import ewc_test
from qtrade.types import Float64Array, IntArray

SIZE = 400


def called(predicted: Float64Array, actual: Float64Array, symbol: IntArray | None = None) -> Direction:
    """Measure forecasts of one symbol, or of several that lie one after another over the same origins."""
    codes = np.zeros(len(actual), dtype=np.int64) if symbol is None else symbol
    found = direction(
        predicted, actual, np.arange(len(actual), dtype=np.int64) % (len(actual) // (codes[-1] + 1)), codes
    )
    assert found is not None
    return found


def rising_market(edge: float = 0.0) -> tuple[Float64Array, Float64Array]:
    """Forecasts that know a little about moves of which most are up."""
    generator = np.random.default_rng(3)
    actual = 0.4 + generator.standard_normal(SIZE)
    return edge * (actual - 0.4) + 0.3 + generator.standard_normal(SIZE), actual


def test_shares_of_a_small_example() -> None:
    found = called(np.array([2.0, 1, 0.1, -3]), np.array([1.0, 1, -1, -2]))
    assert found.hits == 3 / 4
    assert found.called_up == 3 / 4
    assert found.luck == 1 / 2 * 3 / 4 + 1 / 2 * 1 / 4
    assert found.common == 1 / 2
    assert found.edge == 3 / 4 - 1 / 2
    # Calls less 1/2 times moves less 0, halved: these products have the mean of the edge.
    assert found.p == ewc_test(np.array([1 / 4, 1 / 4, -1 / 4, 3 / 4])).p


@given(st.integers(0, 2**32 - 1))
def test_the_edge_is_hits_less_luck(seed: int) -> None:
    generator = np.random.default_rng(seed)
    predicted, actual = 0.5 + generator.standard_normal((2, 60))
    found = called(predicted, actual)
    calls, moves = predicted > 0, actual > 0
    luck = calls.mean() * moves.mean() + (1 - calls.mean()) * (1 - moves.mean())
    assert found.luck == pytest.approx(luck)
    assert found.edge == pytest.approx(np.mean(calls == moves) - luck)
    assert found.common == pytest.approx(max(moves.mean(), 1 - moves.mean()))
    assert found.low <= found.edge <= found.high
    assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_always_saying_up_in_a_rising_market_is_luck() -> None:
    _, actual = rising_market()
    found = called(np.ones(SIZE), actual)
    assert found.hits > 0.6
    assert (found.luck, found.common) == pytest.approx((found.hits, found.hits))
    assert (found.edge, found.p) == (0, 1)


def test_saying_up_for_the_symbol_that_rises_and_down_for_the_one_that_falls_is_luck_too() -> None:
    falling = np.repeat(np.array([0, 1], dtype=np.int64), SIZE)
    moves = np.where(falling == 0, 1.0, -1.0)
    found = called(moves, moves, falling)
    assert (found.hits, found.luck, found.common, found.edge, found.p) == (1, 1, 1, 0, 1)


def test_a_planted_edge_is_found_and_its_mirror_image_is_as_sure_and_negative() -> None:
    predicted, actual = rising_market(edge=0.5)
    found, mirrored = called(predicted, actual), called(-predicted, actual)
    assert found.p < 0.001
    assert found.low > 0
    assert mirrored.edge == pytest.approx(-found.edge)
    assert mirrored.p == pytest.approx(found.p)


def test_calls_of_luck_alone_show_no_edge_however_often_they_are_right() -> None:
    found = called(*rising_market())
    assert found.hits > 0.52
    assert found.p > 0.05


def test_only_signs_count() -> None:
    predicted, actual = rising_market(edge=0.5)
    assert called(predicted**3, 7 * actual) == called(predicted, actual)


def test_forecasts_and_moves_of_zero_are_left_out() -> None:
    predicted, actual = rising_market(edge=0.5)
    idle = np.zeros(SIZE)
    apart = np.concatenate([predicted, idle, actual]), np.concatenate([actual, predicted, idle])
    assert called(*apart) == called(predicted, actual)


def test_copies_of_one_symbol_do_not_add_evidence() -> None:
    predicted, actual = rising_market(edge=0.2)
    twice = called(np.tile(predicted, 2), np.tile(actual, 2), np.repeat(np.array([0, 1], dtype=np.int64), SIZE))
    assert twice.to_dict() == pytest.approx(called(predicted, actual).to_dict())


def test_the_order_of_rows_does_not_matter() -> None:
    generator = np.random.default_rng(4)
    predicted, actual = generator.standard_normal((2, 2 * SIZE))
    time = np.tile(np.arange(SIZE, dtype=np.int64), 2)
    symbol = np.repeat(np.array([0, 1], dtype=np.int64), SIZE)
    order = generator.permutation(2 * SIZE)
    one = direction(predicted, actual, time, symbol)
    other = direction(predicted[order], actual[order], time[order], symbol[order])
    assert one is not None
    assert other is not None
    assert other.to_dict() == pytest.approx(one.to_dict())


@pytest.mark.parametrize(("least", "measured"), [(30, True), (31, False)])
def test_too_few_origins_with_a_direction_have_no_test(least: int, measured: bool) -> None:
    predicted, actual = rising_market()
    predicted[30:] = 0
    time, symbol = np.arange(SIZE, dtype=np.int64), np.zeros(SIZE, dtype=np.int64)
    assert (direction(predicted, actual, time, symbol, least_origins=least) is not None) == measured
    assert direction(0 * predicted, actual, time, symbol) is None


def test_rows_without_a_value_do_not_count_in_the_average_of_an_origin() -> None:
    values, time = np.array([4.0, np.nan, 1, 3, np.nan]), np.array([2, 0, 0, 0, 1], dtype=np.int64)
    assert at_each_origin(values, time).tolist() == [2, 4]


def test_it_survives_json() -> None:
    values = called(*rising_market()).to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values

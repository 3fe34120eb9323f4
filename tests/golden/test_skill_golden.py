"""Ten one-bar forecasts whose every score is worked out by hand (in hundredths of a log return)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from qtrade.evaluation.skill import HorizonSkill, skill
from qtrade.forecasts import Forecasts
from qtrade.types import Float64Array

ACTUAL = np.array([2.0, 1, -1, -2, 1, -1, 2, -2, 1, -1])
FORECAST = np.array([2.0, 1, 1, 0, 1, -1, 0, -2, -1, -1])
# Ranks less their mean, ties sharing theirs.
ACTUAL_RANKS = np.array([9.5, 7, 4, 1.5, 7, 4, 9.5, 1.5, 7, 4]) - 5.5
FORECAST_RANKS = np.array([10.0, 8, 8, 5.5, 8, 3, 5.5, 1, 3, 3]) - 5.5


def forecasts_of(paths: dict[str, Float64Array]) -> Forecasts:
    rows = len(next(iter(paths.values())))
    days = pd.date_range("2020-01-01", periods=rows, tz="UTC")
    return Forecasts(
        path=np.concatenate(list(paths.values()))[:, None] / 100,
        symbol=np.repeat(np.array(list(paths), dtype=object), rows),
        origin=pd.DatetimeIndex(np.tile(days, len(paths))),
        fold=np.zeros(rows * len(paths), dtype=np.int64),
        seed=np.full(rows * len(paths), -1, dtype=np.int64),
        train_end=pd.DatetimeIndex([days[0]] * rows * len(paths)),
        residuals={(0, -1, symbol): np.array([[-0.03], [0.0], [0.02]]) for symbol in paths},
    )


@pytest.fixture(scope="module", autouse=True)
def _ten_labels_will_do() -> Iterator[None]:
    """No test of significance holds its size with so few, but sums over them can be checked by hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qtrade.evaluation.skill.MIN_LABELS", 10)
        yield


@pytest.fixture(name="one")
def one_symbol() -> HorizonSkill:
    (found,) = skill(forecasts_of({"A": FORECAST}), ACTUAL[:, None] / 100, np.full(10, 0.005))
    return found


def test_r2_compares_squared_errors_with_those_of_no_change_and_of_drift(one: HorizonSkill) -> None:
    # Squared errors: model 16, no change 22, drift of one half 22 + 10 / 4.
    assert one.vs_zero.r2 == pytest.approx(1 - 16 / 22)
    assert one.vs_drift.r2 == pytest.approx(1 - 16 / 24.5)
    assert one.vs_best is one.vs_zero


def test_p_value_is_that_of_the_loss_differences(one: HorizonSkill) -> None:
    differences = [4, 1, -3, 0, 1, 1, 0, 4, -3, 1]
    assert one.vs_zero.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert one.vs_zero.p_holm == one.vs_zero.p
    assert one.vs_zero.r2_low < one.vs_zero.r2 < one.vs_zero.r2_high


def test_correlations(one: HorizonSkill) -> None:
    assert one.correlation is not None
    assert one.correlation.ic == pytest.approx(10 / math.sqrt(22 * 14))
    assert one.correlation.rank == pytest.approx(43.5 / math.sqrt(77.5 * 78))
    assert one.correlation.low < one.correlation.ic < one.correlation.high
    assert one.correlation.rank_low < one.correlation.rank < one.correlation.rank_high


def test_correlations_are_tested_by_their_products(one: HorizonSkill) -> None:
    # EWC of ten values has one degree of freedom: the weight of the slowest cosine.
    cosine = np.cos(np.pi * (np.arange(10) + 0.5) / 10) / math.sqrt(5)
    assert one.correlation is not None
    for left, right, scale, p in (
        (ACTUAL, FORECAST, math.sqrt(22 * 14), one.correlation.p),
        (ACTUAL_RANKS, FORECAST_RANKS, math.sqrt(77.5 * 78), one.correlation.rank_p),
    ):
        products = left * (right - right.mean()) * 10 / scale
        assert p == pytest.approx(
            2 * stats.t.sf(abs(products.sum() / 10) / (abs(products @ cosine) / math.sqrt(10)), 1)
        )


def test_skill_in_units_of_volatility() -> None:
    # The last five origins are four times as volatile, so their squared errors weigh one sixteenth.
    scale = np.repeat([0.01, 0.04], 5)
    (found,) = skill(forecasts_of({"A": FORECAST}), ACTUAL[:, None] / 100, np.full(10, 0.005), scale=scale)
    assert found.scaled is not None
    assert found.scaled.vs_zero.r2 == pytest.approx(1 - (8 + 8 / 16) / (11 + 11 / 16))
    gains = np.array([4, 1, -3, 0, 1, 1 / 16, 0, 4 / 16, -3 / 16, 1 / 16])
    assert found.scaled.vs_zero.p == pytest.approx(stats.ttest_1samp(gains, 0).pvalue)
    # Of drift at one half: squared errors 2.25, 0.25, 2.25, 6.25, 0.25, then 2.25, 2.25, 6.25, 0.25, 2.25.
    assert found.scaled.vs_drift.r2 == pytest.approx(1 - (8 + 8 / 16) / (11.25 + 13.25 / 16))
    assert found.scaled.correlation is not None
    left, right = ACTUAL / (100 * scale), FORECAST / (100 * scale)
    assert found.scaled.correlation.ic == pytest.approx(stats.pearsonr(left, right).statistic)
    assert found.scaled.correlation.rank == pytest.approx(stats.spearmanr(left, right).statistic)


def test_direction_errors_and_coverage(one: HorizonSkill) -> None:
    assert (one.horizon, one.origins) == (1, 10)
    assert one.right_direction == pytest.approx(6 / 8)
    # Eight origins have both a call and a move, which is too few to test; see the test of directions.
    assert one.direction is None
    assert one.up_share == pytest.approx(5 / 10)
    assert one.mae == pytest.approx(0.008)
    assert one.naive_mae == pytest.approx(0.014)
    assert one.rmse == pytest.approx(math.sqrt(1.6) / 100)
    assert one.naive_rmse == pytest.approx(math.sqrt(2.2) / 100)
    # The 80 % interval reaches from -2.4 to 1.6; two errors are 2, two are -2, the rest 0.
    assert one.coverage80 == pytest.approx(0.8)


def test_symbols_are_averaged_at_each_origin_before_the_test() -> None:
    actual = np.concatenate([ACTUAL, ACTUAL[::-1]])[:, None] / 100
    (both,) = skill(forecasts_of({"A": FORECAST, "B": 0.5 * ACTUAL[::-1]}), actual, np.full(20, 0.005))
    first = np.array([4, 1, -3, 0, 1, 1, 0, 4, -3, 1])
    second = 0.75 * ACTUAL[::-1] ** 2
    assert both.origins == 10
    assert both.vs_zero.r2 == pytest.approx(1 - (16 + 5.5) / 44)
    assert both.vs_zero.p == pytest.approx(stats.ttest_1samp((first + second) / 2, 0).pvalue)
    assert both.correlation is not None
    assert both.correlation.ic == pytest.approx((10 / math.sqrt(22 * 14) + 1) / 2)

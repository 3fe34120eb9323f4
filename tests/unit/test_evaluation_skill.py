from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from qtrade.errors import DataError
from qtrade.evaluation.scores import Comparison, Correlation
from qtrade.evaluation.significance import ewc_test, holm, mean_interval, mean_test
from qtrade.evaluation.skill import (
    Answer,
    HorizonSkill,
    NaiveError,
    answers,
    naive_errors,
    skill,
    to_frame,
)
from qtrade.evaluation.verdict import verdict
from qtrade.forecasts import Forecasts
from qtrade.types import Float64Array

HORIZON = 6
DRIFT = 0.0002


def market(symbols: tuple[str, ...] = ("A",), size: int = 400, edge: float = 0.3) -> tuple[Forecasts, Float64Array]:
    """Forecasts that know the share `edge` of the coming returns, and those returns; the last labels are unknown."""
    generator = np.random.default_rng(5)
    days = pd.date_range("2015-01-01", periods=size, tz="UTC")
    paths, actual = [], []
    for _ in symbols:
        returns = 0.01 * generator.standard_normal(size + HORIZON)
        ahead = np.lib.stride_tricks.sliding_window_view(returns[1:], HORIZON)[:size].copy()
        paths.append(edge * ahead + 0.005 * generator.standard_normal(ahead.shape))
        for step in range(1, HORIZON + 1):
            ahead[size - step :, step - 1] = np.nan
        actual.append(ahead)
    rows = size * len(symbols)
    forecasts = Forecasts(
        path=np.concatenate(paths),
        symbol=np.repeat(np.array(symbols, dtype=object), size),
        origin=pd.DatetimeIndex(np.tile(days, len(symbols))),
        fold=np.zeros(rows, dtype=np.int64),
        seed=np.full(rows, -1, dtype=np.int64),
        train_end=pd.DatetimeIndex([days[0]] * rows),
        residuals={(0, -1, symbol): 0.01 * generator.standard_normal((200, HORIZON)) for symbol in symbols},
    )
    return forecasts, np.concatenate(actual)


def measure(forecasts: Forecasts, actual: Float64Array) -> tuple[HorizonSkill, ...]:
    return skill(forecasts, actual, np.full(len(forecasts), DRIFT), horizons=(1, 3, 6))


def test_a_planted_edge_is_found_at_every_horizon() -> None:
    found = measure(*market())
    assert [one.horizon for one in found] == [1, 3, 6]
    assert [one.origins for one in found] == [399, 397, 394]
    for one in found:
        assert one.vs_best.r2 > 0.1
        assert one.vs_zero.p_holm < 0.05
        assert one.correlation is not None
        assert one.correlation.low > 0
        assert one.right_direction is not None
        assert one.up_share is not None
        assert one.right_direction > one.up_share
        assert one.direction is not None
        assert one.direction.p_holm < 0.05
        assert one.direction.hits == one.right_direction
        assert one.answer == "PASS"
        assert one.n_eff <= one.origins


def test_the_naive_forecast_has_no_test_and_no_correlation() -> None:
    forecasts, actual = market()
    for one in measure(replace(forecasts, path=np.zeros_like(forecasts.path)), actual):
        assert (one.vs_zero.r2, one.vs_zero.r2_low, one.vs_zero.r2_high, one.vs_zero.p) == (0, 0, 0, 1)
        assert one.correlation is None
        assert one.right_direction is None
        assert one.direction is None
        assert one.answer == "INCONCLUSIVE"
        assert one.n_eff == one.origins / one.horizon
        assert one.mae == one.naive_mae


def test_the_drift_forecast_equals_its_benchmark_up_to_rounding() -> None:
    forecasts, actual = market()
    path = np.full_like(forecasts.path, DRIFT) * (1 + 1e-12 * np.arange(HORIZON))
    for one in measure(replace(forecasts, path=path), actual):
        assert (one.vs_drift.r2, one.vs_drift.p) == (0, 1)
        assert one.correlation is None


def test_a_symbol_whose_forecasts_never_vary_leaves_the_correlation_to_the_others() -> None:
    forecasts, actual = market(("A", "B"))
    alone, actual_alone = forecasts.where(forecasts.symbol == "A"), actual[forecasts.symbol == "A"]
    path = np.where((forecasts.symbol == "B")[:, None], 0.001, forecasts.path)
    both = measure(replace(forecasts, path=path), actual)
    expected = measure(alone, actual_alone)
    for one, other in zip(both, expected, strict=True):
        assert one.correlation is not None
        assert other.correlation is not None
        assert one.correlation.ic == pytest.approx(other.correlation.ic)


def test_copies_of_one_symbol_do_not_add_evidence() -> None:
    forecasts, actual = market()
    twin = replace(
        forecasts,
        path=np.concatenate([forecasts.path] * 2),
        symbol=np.repeat(np.array(["A", "A2"], dtype=object), len(forecasts)),
        origin=pd.DatetimeIndex([*forecasts.origin, *forecasts.origin]),
        fold=np.tile(forecasts.fold, 2),
        seed=np.tile(forecasts.seed, 2),
        train_end=pd.DatetimeIndex([*forecasts.train_end, *forecasts.train_end]),
        residuals={(0, -1, name): forecasts.residuals[(0, -1, "A")] for name in ("A", "A2")},
    )
    assert to_frame(measure(twin, np.concatenate([actual] * 2))).to_numpy() == pytest.approx(
        to_frame(measure(forecasts, actual)).to_numpy()
    )


def test_rows_may_come_in_any_order() -> None:
    forecasts, actual = market(("A", "B"))
    order = np.random.default_rng(0).permutation(len(forecasts))
    shuffled = replace(
        forecasts,
        path=forecasts.path[order],
        symbol=forecasts.symbol[order],
        origin=forecasts.origin[order],
    )
    pd.testing.assert_frame_equal(
        to_frame(measure(shuffled, actual[order])), to_frame(measure(forecasts, actual)), rtol=1e-9
    )


def test_forecasts_without_a_known_outcome_do_not_count() -> None:
    forecasts, actual = market()
    path = forecasts.path.copy()
    path[-1] = 1e6
    assert measure(replace(forecasts, path=path), actual) == measure(forecasts, actual)
    path[-2] = 1e6
    assert measure(replace(forecasts, path=path), actual) != measure(forecasts, actual)


def test_the_volatility_of_origins_without_a_known_outcome_does_not_count() -> None:
    forecasts, actual = market()
    drift, scale = np.full(len(forecasts), DRIFT), np.linspace(0.01, 0.02, len(forecasts))
    poisoned = scale.copy()
    poisoned[-1] = 1e6
    found = skill(forecasts, actual, drift, (1, 3, 6), scale=scale)
    assert skill(forecasts, actual, drift, (1, 3, 6), scale=poisoned) == found


def test_the_unit_of_returns_changes_no_test() -> None:
    forecasts, actual = market()
    scaled = replace(forecasts, path=100 * forecasts.path)
    found = skill(scaled, 100 * actual, np.full(len(forecasts), 100 * DRIFT), horizons=(1, 3, 6))
    for one, other in zip(found, measure(forecasts, actual), strict=True):
        assert one.vs_drift.r2 == pytest.approx(other.vs_drift.r2)
        assert one.vs_drift.r2_low == pytest.approx(other.vs_drift.r2_low)
        assert one.vs_drift.p_holm == pytest.approx(other.vs_drift.p_holm)
        assert one.mae == pytest.approx(100 * other.mae)


def test_p_values_are_adjusted_for_the_number_of_horizons() -> None:
    forecasts, actual = market(edge=0.1)
    scale = np.random.default_rng(1).uniform(0.5, 2, len(forecasts))
    values = to_frame(skill(forecasts, actual, np.full(len(forecasts), DRIFT), (1, 3, 6), scale=scale))
    families = [name.removesuffix("_holm") for name in map(str, values) if name.endswith("_p_holm")]
    assert families == [
        "r2_vs_zero_p",
        "r2_vs_drift_p",
        "ic_p",
        "rank_ic_p",
        "direction_p",
        "scaled_r2_vs_zero_p",
        "scaled_r2_vs_drift_p",
        "scaled_ic_p",
        "scaled_rank_ic_p",
    ]
    for family in families:
        assert tuple(values[f"{family}_holm"]) == holm(list(values[family]))
        assert (values[f"{family}_holm"] > values[family]).any()


def test_a_family_counts_horizons_without_a_test() -> None:
    forecasts, actual = market(edge=0.1)
    # The first bar is forecast to be zero, so it has no correlation and no direction.
    path = forecasts.path * (np.arange(HORIZON) > 0)
    first, *others = measure(replace(forecasts, path=path), actual)
    assert first.correlation is None
    assert first.direction is None
    calls = [one.direction for one in others if one.direction is not None]
    assert [one.p_holm for one in calls] == list(holm([1.0, *(one.p for one in calls)])[1:])
    ranks = [one.correlation for one in others if one.correlation is not None]
    assert [one.rank_p_holm for one in ranks] == list(holm([1.0, *(one.rank_p for one in ranks)])[1:])


def test_the_p_value_allows_for_the_overlap_of_the_labels() -> None:
    forecasts, actual = market(edge=0.1)
    known = np.isfinite(actual).all(axis=1)
    label, predicted = actual[known].sum(axis=1), forecasts.path[known].sum(axis=1)
    *_, found = measure(forecasts, actual)
    assert found.vs_zero.p == pytest.approx(mean_test(label**2 - (label - predicted) ** 2, HORIZON).p)


def test_the_rank_correlation_is_tested_by_its_products() -> None:
    forecasts, actual = market(edge=0.1)
    known = np.isfinite(actual).all(axis=1)
    label, predicted = actual[known].sum(axis=1), forecasts.path[known].sum(axis=1)
    products = stats.zscore(stats.rankdata(predicted)) * stats.zscore(stats.rankdata(label))
    *_, found = measure(forecasts, actual)
    assert found.correlation is not None
    assert found.correlation.rank == pytest.approx(stats.spearmanr(predicted, label).statistic)
    assert found.correlation.rank_p == pytest.approx(ewc_test(products).p)
    assert (found.correlation.rank_low, found.correlation.rank_high) == pytest.approx(mean_interval(products))


def test_direction_is_tested_by_its_products() -> None:
    forecasts, actual = market(edge=0.1)
    known = np.isfinite(actual).all(axis=1)
    moves, calls = (np.sign(values[known].sum(axis=1)) for values in (actual, forecasts.path))
    *_, found = measure(forecasts, actual)
    assert found.direction is not None
    assert found.direction.p == pytest.approx(ewc_test((moves - moves.mean()) * (calls - calls.mean())).p)


def test_scaled_skill_is_the_skill_of_returns_in_units_of_volatility() -> None:
    forecasts, actual = market(("A", "B"))
    scale = np.random.default_rng(1).uniform(0.005, 0.03, len(forecasts))
    drift = np.full(len(forecasts), DRIFT)
    found = skill(forecasts, actual, drift, (1, 3, 6), scale=scale)
    inputs = replace(forecasts, path=forecasts.path / scale[:, None]), actual / scale[:, None], drift / scale
    for one, other in zip(found, skill(*inputs, (1, 3, 6)), strict=True):
        assert one.scaled is not None
        assert one.scaled.vs_zero.r2 == pytest.approx(other.vs_zero.r2)
        assert one.scaled.vs_drift.p_holm == pytest.approx(other.vs_drift.p_holm)
        assert one.scaled.correlation is not None
        assert other.correlation is not None
        assert one.scaled.correlation.low == pytest.approx(other.correlation.low)
        assert one.scaled.correlation.rank_p_holm == pytest.approx(other.correlation.rank_p_holm)
        assert one.vs_zero != one.scaled.vs_zero


def test_one_volatility_throughout_scales_nothing() -> None:
    forecasts, actual = market()
    drift = np.full(len(forecasts), DRIFT)
    for one in skill(forecasts, actual, drift, (1, 3, 6), scale=np.full(len(forecasts), 0.02)):
        assert one.scaled is not None
        assert one.scaled.vs_zero.r2 == pytest.approx(one.vs_zero.r2)
        assert one.scaled.vs_drift.p == pytest.approx(one.vs_drift.p)
        assert one.scaled.correlation is not None
        assert one.correlation is not None
        assert one.scaled.correlation.rank_low == pytest.approx(one.correlation.rank_low)


def test_scaling_changes_no_other_score() -> None:
    forecasts, actual = market()
    drift = np.full(len(forecasts), DRIFT)
    found = skill(forecasts, actual, drift, (1, 3, 6), scale=np.linspace(0.01, 0.02, len(forecasts)))
    assert tuple(replace(one, scaled=None) for one in found) == measure(forecasts, actual)
    assert all(one.scaled is None for one in measure(forecasts, actual))


def test_forecasts_that_never_vary_may_vary_in_units_of_volatility() -> None:
    forecasts, actual = market()
    path = np.full_like(forecasts.path, 0.001)
    scale = np.linspace(0.01, 0.02, len(forecasts))
    for one in skill(replace(forecasts, path=path), actual, np.full(len(forecasts), DRIFT), (1, 3, 6), scale=scale):
        assert one.correlation is None
        assert one.scaled is not None
        assert one.scaled.correlation is not None


def test_errors_are_compared_with_those_of_no_change_in_the_fit_segment() -> None:
    forecasts, actual = market()
    in_sample = {1: NaiveError(mae=0.004, rmse=0.005), 6: NaiveError(mae=0.01, rmse=0.02)}
    one, three, six = skill(forecasts, actual, np.full(len(forecasts), DRIFT), (1, 3, 6), naive_scale=in_sample)
    assert (one.mase, one.rmsse) == (one.mae / 0.004, one.rmse / 0.005)
    assert (three.mase, three.rmsse) == (None, None)
    assert (six.mase, six.rmsse) == (six.mae / 0.01, six.rmse / 0.02)
    assert all(other.mase is None for other in measure(forecasts, actual))


def test_in_sample_errors_of_a_small_example() -> None:
    returns = np.array([[np.nan, 0.0], [0.01, 0.0], [0.02, 0.0], [-0.02, 0.04]])
    found = naive_errors(returns, (1, 2, 4, 5))
    assert found[1].mae == pytest.approx(0.09 / 7)
    assert found[1].rmse == pytest.approx(np.sqrt(0.0025 / 7))
    # Two bars: 3 and 0 of the first symbol, 0, 0 and 4 of the second. Four bars: 4 of the second.
    assert found[2].mae == pytest.approx(0.07 / 5)
    assert found[2].rmse == pytest.approx(np.sqrt(0.0025 / 5))
    assert (found[4].mae, found[4].rmse) == pytest.approx((0.04, 0.04))
    assert list(found) == [1, 2, 4]


def test_a_fit_segment_without_moves_is_an_error_that_says_so() -> None:
    with pytest.raises(DataError, match="no price moved over 6 bars") as caught:
        naive_errors(np.zeros((50, 2)), (6,))
    assert caught.value.fix
    with pytest.raises(DataError, match="no price moved"):
        naive_errors(np.full((50, 1), np.nan), (1,))
    with pytest.raises(ValueError, match="positive and finite"):
        NaiveError(mae=0.01, rmse=0.0)


@pytest.mark.parametrize(("edge", "expected"), [(0.3, "PASS"), (-0.3, "FAIL"), (0.0, "FAIL")])
def test_the_answer_of_each_horizon_tells_skill_from_harm(edge: float, expected: Answer) -> None:
    # Without an edge the forecasts are pure noise, which costs squared error.
    assert [one.answer for one in measure(*market(edge=edge))] == [expected] * 3


def test_forecasts_close_to_no_change_are_inconclusive() -> None:
    forecasts, actual = market(edge=0.0)
    found = measure(replace(forecasts, path=0.01 * forecasts.path), actual)
    assert [one.answer for one in found] == ["INCONCLUSIVE"] * 3


@pytest.fixture(name="measured", scope="module")
def some_skill() -> HorizonSkill:
    return measure(*market())[0]


COMPARISONS = st.builds(
    Comparison,
    r2=st.floats(-0.1, 0.1),
    r2_low=st.just(-0.1),
    r2_high=st.just(0.1),
    p=st.sampled_from([0.001, 0.02, 0.2]),
    p_holm=st.sampled_from([0.003, 0.06, 0.4]),
)
CORRELATIONS = st.one_of(
    st.none(), st.builds(Correlation, *[st.just(0.1), st.sampled_from([-0.1, 0.05]), *[st.just(0.2)] * 3])
)


@given(st.lists(st.tuples(COMPARISONS, COMPARISONS, CORRELATIONS), min_size=1, max_size=4))
def test_the_verdict_follows_from_the_answers(
    measured: HorizonSkill, scores: list[tuple[Comparison, Comparison, Correlation | None]]
) -> None:
    skills = [replace(measured, vs_zero=zero, vs_drift=drift, correlation=ic) for zero, drift, ic in scores]
    found = answers(skills)
    headline = next((answer for answer in ("PASS", "FAIL") if answer in found), "INCONCLUSIVE")
    assert verdict(skills).headline == headline


def test_horizons_beyond_the_path_or_the_data_are_left_out() -> None:
    forecasts, actual = market(size=100)
    found = skill(forecasts, actual, np.full(100, DRIFT), horizons=(1, 3, 6, 12))
    assert [one.horizon for one in found] == [1, 3]


def test_without_residuals_there_is_no_coverage() -> None:
    forecasts, actual = market()
    assert all(one.coverage80 is None for one in measure(replace(forecasts, residuals={}), actual))
    assert all(one.coverage80 is not None for one in measure(forecasts, actual))


def test_everything_survives_json() -> None:
    forecasts, actual = market()
    naive = replace(forecasts, path=np.zeros_like(forecasts.path))
    drift, scale = np.full(len(forecasts), DRIFT), np.full(len(forecasts), 0.01)
    in_sample = {1: NaiveError(mae=0.01, rmse=0.01)}
    full = skill(forecasts, actual, drift, (1,), scale=scale, naive_scale=in_sample)
    dicts = [one.to_dict() for one in (*full, *measure(forecasts, actual), *measure(naive, actual))]
    for values in dicts:
        assert json.loads(json.dumps(values, allow_nan=False)) == values
        assert list(values) == list(dicts[0])
    assert None not in dicts[0].values()
    assert dicts[-1]["ic"] is None
    assert dicts[-1]["scaled_r2_vs_zero"] is None
    assert dicts[-1]["direction_edge_share"] is None


def test_prices_that_stand_still_are_an_error_that_says_so() -> None:
    forecasts, actual = market()
    with pytest.raises(DataError, match="never wrong") as caught:
        measure(forecasts, np.where(np.isnan(actual), np.nan, 0.0))
    assert caught.value.fix


def test_misuse_is_refused() -> None:
    forecasts, actual = market()
    drift = np.full(len(forecasts), DRIFT)
    with pytest.raises(ValueError, match="do not fit"):
        skill(forecasts, actual[:-1], drift)
    with pytest.raises(ValueError, match="drift must be finite"):
        skill(forecasts, actual, drift * np.nan)
    for scale in (drift[:-1], 0 * drift, drift * np.inf):
        with pytest.raises(ValueError, match="scale must be positive"):
            skill(forecasts, actual, drift, scale=scale)
    twice = replace(forecasts, origin=pd.DatetimeIndex([forecasts.origin[0], *forecasts.origin[:-1]]))
    with pytest.raises(ValueError, match="seed_mean"):
        skill(twice, actual, drift)

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from qtrade.errors import DataError
from qtrade.evaluation.significance import holm, mean_test
from qtrade.evaluation.skill import HorizonSkill, skill, to_frame
from qtrade.types import Float64Array, Forecasts

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
        assert one.n_eff <= one.origins


def test_the_naive_forecast_has_no_test_and_no_correlation() -> None:
    forecasts, actual = market()
    for one in measure(replace(forecasts, path=np.zeros_like(forecasts.path)), actual):
        assert (one.vs_zero.r2, one.vs_zero.r2_low, one.vs_zero.r2_high, one.vs_zero.p) == (0, 0, 0, 1)
        assert one.correlation is None
        assert one.right_direction is None
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
    found = measure(*market(edge=0.1))
    for pairs in ([one.vs_zero for one in found], [one.vs_drift for one in found]):
        assert tuple(pair.p_holm for pair in pairs) == holm([pair.p for pair in pairs])
        assert any(pair.p_holm > pair.p for pair in pairs)


def test_the_p_value_allows_for_the_overlap_of_the_labels() -> None:
    forecasts, actual = market(edge=0.1)
    known = np.isfinite(actual).all(axis=1)
    label, predicted = actual[known].sum(axis=1), forecasts.path[known].sum(axis=1)
    *_, found = measure(forecasts, actual)
    assert found.vs_zero.p == pytest.approx(mean_test(label**2 - (label - predicted) ** 2, HORIZON).p)


def test_horizons_beyond_the_path_or_the_data_are_left_out() -> None:
    forecasts, actual = market(size=50)
    found = skill(forecasts, actual, np.full(50, DRIFT), horizons=(1, 3, 6, 12))
    assert [one.horizon for one in found] == [1, 3]


def test_without_residuals_there_is_no_coverage() -> None:
    forecasts, actual = market()
    assert all(one.coverage80 is None for one in measure(replace(forecasts, residuals={}), actual))
    assert all(one.coverage80 is not None for one in measure(forecasts, actual))


def test_everything_survives_json() -> None:
    forecasts, actual = market()
    naive = replace(forecasts, path=np.zeros_like(forecasts.path))
    for one in (*measure(forecasts, actual), *measure(naive, actual)):
        values = one.to_dict()
        assert json.loads(json.dumps(values, allow_nan=False)) == values


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
    twice = replace(forecasts, origin=pd.DatetimeIndex([forecasts.origin[0], *forecasts.origin[:-1]]))
    with pytest.raises(ValueError, match="seed_mean"):
        skill(twice, actual, drift)

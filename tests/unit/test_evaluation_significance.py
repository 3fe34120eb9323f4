from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from qtrade.evaluation.significance import (
    detectable_ic,
    effective_size,
    ewc_test,
    holm,
    long_run_variance,
    mean_interval,
    mean_test,
)


def test_hln_matches_four_values_worked_by_hand() -> None:
    # Centred -2 0 -1 3: autocovariances 3.5 and -0.75, long-run variance 2, HLN factor 1.5 / 4.
    test = mean_test(np.array([1.0, 3.0, 2.0, 6.0]), overlap=2)
    assert test.method == "HLN"
    assert test.statistic == pytest.approx(1.5 * math.sqrt(3))
    assert test.dof == 3
    # Closed form of the t distribution with three degrees of freedom, at tan(angle) = 1.5.
    assert test.p == pytest.approx(1 - 2 / math.pi * (math.atan(1.5) + 1.5 / 3.25))


def test_without_overlap_hln_is_the_t_test() -> None:
    series = np.random.default_rng(0).normal(0.2, 1, size=50)
    expected = stats.ttest_1samp(series, 0)
    test = mean_test(series, overlap=1)
    assert (test.statistic, test.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_ewc_matches_one_cosine_worked_by_hand() -> None:
    # Eight values leave one cosine; the squared weight of a cosine on itself, normed, is 8 / 2.
    series = 1 + np.cos(np.pi * (np.arange(8) + 0.5) / 8)
    assert long_run_variance(series) == pytest.approx((4.0, 1))
    test = ewc_test(series)
    assert test.statistic == pytest.approx(math.sqrt(2))
    assert test.p == pytest.approx(1 - 2 / math.pi * math.atan(math.sqrt(2)))


def test_ewc_stands_in_where_the_hln_variance_is_negative() -> None:
    series = np.tile([1.0, -1.0], 20) + 0.01 * np.arange(40)
    test = mean_test(series, overlap=2)
    assert test.method == "EWC"
    assert test == ewc_test(series)


def test_ewc_stands_in_where_the_series_is_shorter_than_the_overlap() -> None:
    assert mean_test(np.array([1.0, 3.0, 2.0, 6.0]), overlap=24).method == "EWC"


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_series_without_variation_is_not_tested(value: float) -> None:
    series = np.full(30, value)
    for test in (mean_test(series, overlap=5), ewc_test(series)):
        assert (test.p, test.method, test.mean) == (1.0, "none", value)
    assert mean_interval(series) == (value, value)
    assert effective_size(series) == 30


def test_rounding_is_no_variation() -> None:
    series = np.full(50, 0.1)
    series[7] = np.nextafter(0.1, 1)
    for test in (mean_test(series, overlap=1), mean_test(series, overlap=5), ewc_test(series)):
        assert (test.p, test.method) == (1.0, "none")


def test_interval_excludes_zero_exactly_where_the_test_rejects() -> None:
    generator = np.random.default_rng(1)
    rejected = []
    for _ in range(200):
        series = generator.normal(0.25, 1, size=60)
        low, high = mean_interval(series)
        rejected.append(ewc_test(series).p < 0.05)
        assert rejected[-1] == (low > 0 or high < 0)
    assert 0 < sum(rejected) < 200


def test_effective_size_counts_labels_that_do_not_overlap() -> None:
    steps = np.random.default_rng(2).standard_normal(24_000)
    overlapping = np.convolve(steps, np.ones(24), mode="valid")
    assert effective_size(overlapping) == pytest.approx(1_000, rel=0.25)
    assert effective_size(steps) == pytest.approx(24_000, rel=0.15)


def test_effective_size_credits_averages_over_symbols_that_move_apart() -> None:
    products = np.random.default_rng(3).standard_normal((5_000, 4)).mean(axis=1)
    assert effective_size(products, variance=1.0) == pytest.approx(20_000, rel=0.2)


def test_negative_autocorrelation_is_not_rewarded() -> None:
    series = np.diff(np.random.default_rng(4).standard_normal(1_001))
    assert effective_size(series) == pytest.approx(1_000)


def test_a_series_that_no_cosine_sees_is_not_tested() -> None:
    symmetric = np.array([1.0, 2, 3, 4, 4, 3, 2, 1])
    assert ewc_test(symmetric).method == "none"


@pytest.mark.parametrize(("n_eff", "expected"), [(208, 0.194), (52, 0.3885), (1, 1.0)])
def test_smallest_detectable_ic(n_eff: float, expected: float) -> None:
    assert detectable_ic(n_eff) == pytest.approx(expected, abs=5e-4)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()

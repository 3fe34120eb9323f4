from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import signal, stats

from qtrade.evaluation import shift
from qtrade.evaluation.blocks import STATISTICS, Blocks, statistics
from qtrade.evaluation.shift import JOINT, FeatureShift, combine, feature_shift
from qtrade.types import Float64Array

ROWS, TEST, GAP = 1500, 250, 24


def autoregressive(seed: int, rows: int, columns: int, phi: float) -> Float64Array:
    """Stationary AR(1) of variance one, (rows, 1, columns)."""
    noise = np.random.default_rng(seed).normal(size=(rows + 500, 1, columns))
    return np.asarray(signal.lfilter([np.sqrt(1 - phi**2)], [1, -phi], noise, axis=0)[500:], dtype=np.float64)


def sums_over_24(seed: int, rows: int, columns: int) -> Float64Array:
    total = np.cumsum(np.random.default_rng(seed).normal(size=(rows + 24, 1, columns)), axis=0)
    return np.asarray(total[24:] - total[:-24], dtype=np.float64)


def names(values: Float64Array) -> list[str]:
    return [f"f{column}" for column in range(values.shape[2])]


def judged(values: Float64Array, rows: int = ROWS) -> tuple[FeatureShift, ...]:
    return feature_shift(values, names(values), range(rows), range(rows, len(values)), gap=GAP)


def warned(found: tuple[FeatureShift, ...]) -> float:
    return float(np.mean([one.answer == "WARN" for one in found if one.name != JOINT]))


def test_statistics_agree_with_exact_ones_within_the_grid() -> None:
    values = autoregressive(0, ROWS + TEST, 3, 0.5)
    values[ROWS:, 0, 1] += 4  # far beyond training
    values[ROWS:, 0, 2] *= 2
    for column, found in enumerate(judged(values)[:-1]):
        past, now = values[:ROWS, 0, column], values[ROWS:, 0, column]
        past, now = (past - past.mean()) / past.std(), (now - past.mean()) / past.std()
        ks, wasserstein, _, auc = found.values[0]
        exact_auc = stats.mannwhitneyu(now, past).statistic / (TEST * ROWS)
        assert ks == pytest.approx(stats.ks_2samp(past, now).statistic, abs=0.01)
        assert wasserstein == pytest.approx(stats.wasserstein_distance(past, now), rel=0.02, abs=0.02)
        assert auc == pytest.approx(max(exact_auc, 1 - exact_auc), abs=0.005)


def test_reference_statistics_are_those_of_each_block_against_the_rest_without_gaps() -> None:
    values = autoregressive(1, ROWS + TEST, 1, 0.9)[:, :, 0]
    past, now = values[:ROWS], values[ROWS:]
    blocks = Blocks.cut(ROWS, TEST, GAP)
    assert blocks is not None
    reference, _ = statistics(past, now, blocks)
    for start, (ks, wasserstein, _, auc) in list(zip(blocks.starts, reference, strict=True))[::7]:
        block = past[start : start + TEST, 0]
        rest = np.concatenate([past[: max(0, start - GAP), 0], past[start + TEST + GAP :, 0]])
        exact_auc = stats.mannwhitneyu(block, rest).statistic / (len(block) * len(rest))
        assert ks == pytest.approx(stats.ks_2samp(block, rest).statistic, abs=0.01)
        assert wasserstein == pytest.approx(stats.wasserstein_distance(block, rest), abs=0.02)
        assert auc == pytest.approx(max(exact_auc, 1 - exact_auc), abs=0.002)


def test_binary_columns_are_measured_exactly() -> None:
    values = (np.random.default_rng(2).random((ROWS + TEST, 1, 1)) < 0.3).astype(np.float64)
    values[ROWS:] = (np.random.default_rng(3).random((TEST, 1, 1)) < 0.6).astype(np.float64)
    found = judged(values)[0]
    difference = values[ROWS:].mean() - values[:ROWS].mean()
    ks, wasserstein, psi, auc = found.values[0]
    assert (ks, auc) == pytest.approx((difference, 0.5 + difference / 2))
    assert wasserstein == pytest.approx(difference / values[:ROWS].std())
    first, second = values[ROWS:].mean(), values[:ROWS].mean()
    odds = np.log(first * (1 - second) / (second * (1 - first)))
    assert psi == pytest.approx(difference * odds)
    assert found.answer == "WARN"


@pytest.mark.parametrize("phi", [0.0, 0.9, 0.95])
def test_stationary_features_are_rarely_flagged(phi: float) -> None:
    # 240 features: 1.5 to 12 % is more than three standard errors either side of 3 to 10 %, or below 3 %.
    found = [judged(autoregressive(seed, ROWS + TEST, 40, phi)) for seed in range(6)]
    assert 0.015 <= np.mean([warned(one) for one in found]) <= 0.12


def test_p_is_never_smaller_than_the_number_of_reference_blocks_allows() -> None:
    values = autoregressive(23, 4000 + 21, 40, 0.5)
    found = judged(values, rows=4000)
    blocks = len(found[0].reference_flagged)
    assert blocks >= 20
    assert min(one.p[0] for one in found) >= 1 / (1 + blocks)
    assert warned(found) <= 0.2


def test_sums_over_24_bars_are_rarely_flagged() -> None:
    found = [judged(sums_over_24(seed, ROWS + TEST, 40)) for seed in range(6)]
    assert 0.015 <= np.mean([warned(one) for one in found]) <= 0.12


def test_features_together_are_rarely_flagged() -> None:
    found = [judged(autoregressive(seed, ROWS + TEST, 6, 0.9))[-1] for seed in range(40)]
    assert sum(one.answer == "WARN" for one in found) <= 7


def test_a_doubled_scale_and_a_moved_mean_are_found() -> None:
    values = autoregressive(7, ROWS + TEST, 60, 0.9)
    scaled, moved = values.copy(), values.copy()
    scaled[ROWS:] *= 2
    moved[ROWS:] += 1
    assert warned(judged(scaled)) >= 0.6
    assert warned(judged(moved)) >= 0.75


def test_small_moves_in_many_features_show_in_the_joint_answer() -> None:
    values = autoregressive(8, ROWS + TEST, 20, 0.5)
    values[ROWS:] += 0.5
    joint = judged(values)[-1]
    assert (joint.name, joint.answer) == (JOINT, "WARN")
    assert joint.values[0, -1] > 0.7
    assert np.isnan(joint.values[0, :-1]).all()


def test_a_persistent_feature_cannot_be_judged() -> None:
    found, joint = judged(autoregressive(9, ROWS + TEST, 1, 0.995))
    assert found.answer == joint.answer == "cannot tell"
    assert "persistent" in found.reason
    assert len(found.p) == 1


def test_a_constant_feature_cannot_be_judged_and_harms_no_other() -> None:
    values = autoregressive(10, ROWS + TEST, 2, 0.5)
    alone = judged(values[:, :, 1:])
    values[:, :, 0] = 0.1
    constant, other, joint = judged(values)
    assert (constant.answer, constant.reason) == ("cannot tell", "does not vary in training")
    np.testing.assert_array_equal(other.p, alone[0].p)
    np.testing.assert_array_equal(joint.p, alone[1].p)


def test_short_training_cannot_tell() -> None:
    found = judged(autoregressive(11, 60, 1, 0.5), rows=40)
    assert [one.answer for one in found] == ["cannot tell", "cannot tell"]
    assert combine([found]).answer == "cannot tell"


def test_a_long_test_is_cut_into_blocks() -> None:
    values = autoregressive(12, ROWS + 1000, 1, 0.5)
    found = judged(values)[0]
    assert found.block_rows == 250
    assert found.values.shape == found.ranks.shape == (4, 4)
    values[ROWS + 750 :] += 2
    late = judged(values)[0]
    np.testing.assert_array_equal(late.p[:3], found.p[:3])
    np.testing.assert_array_equal(late.ranks[3], 1.0)
    values[ROWS:] += 2
    assert judged(values)[0].answer == "WARN"


def test_nothing_outside_training_and_test_is_read() -> None:
    values = autoregressive(13, ROWS + TEST + 200, 3, 0.9)
    train, test = range(100, ROWS), range(ROWS + 23, ROWS + 23 + TEST)
    clean = feature_shift(values, names(values), train, test, gap=GAP)
    poisoned = values.copy()
    poisoned[:100] = poisoned[ROWS : ROWS + 23] = poisoned[test.stop :] = 1e9
    for one, other in zip(clean, feature_shift(poisoned, names(values), train, test, gap=GAP), strict=True):
        assert one.to_dict() == other.to_dict()
        np.testing.assert_array_equal(one.reference_flagged, other.reference_flagged)


def test_the_reference_of_training_does_not_know_the_test() -> None:
    values = autoregressive(14, ROWS + TEST, 3, 0.9)
    moved = values.copy()
    moved[ROWS:] = 1e6
    for one, other in zip(judged(values), judged(moved), strict=True):
        np.testing.assert_array_equal(one.reference_flagged, other.reference_flagged)
        assert one.phi == pytest.approx(other.phi, nan_ok=True)


def test_warm_up_rows_are_left_out_and_later_gaps_refused() -> None:
    values = autoregressive(15, ROWS + TEST, 2, 0.5)
    values[:300] = np.nan
    assert [one.train_rows for one in judged(values)] == [1200, 1200, 1200]
    values[700, 0, 1] = np.nan
    with pytest.raises(ValueError, match="finite after the warm-up"):
        judged(values)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [(range(100), range(99, 200), "must follow"), (range(100), range(100, 300), "test must be")],
)
def test_ranges_that_do_not_fit_are_refused(train: range, test: range, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        feature_shift(np.zeros((200, 1, 1)), ["f"], train, test, gap=0)


def test_symbols_count_in_their_own_units() -> None:
    values = np.concatenate([autoregressive(16 + symbol, ROWS + TEST, 2, 0.9) for symbol in range(3)], axis=1)
    plain = judged(values)
    rescaled = judged(values * np.array([1.0, 100.0, 0.01])[:, None] + np.array([0.0, 50.0, -3.0])[:, None])
    for one, other in zip(plain, rescaled, strict=True):
        assert one.answer == other.answer
        np.testing.assert_allclose(one.values, other.values, rtol=0.02, atol=0.002)


def folds(values: Float64Array, count: int) -> list[tuple[FeatureShift, ...]]:
    tests = [range(ROWS + TEST * fold, ROWS + TEST * (fold + 1)) for fold in range(count)]
    return [feature_shift(values, names(values), range(test.start), test, gap=GAP) for test in tests]


def test_chance_flags_over_folds_are_no_warning() -> None:
    # Features that move together, so that flags come in clusters: six of 24 are 4.5 standard errors above 5 %.
    warnings = flagged = 0
    for seed in range(24):
        values = autoregressive(seed, ROWS + 3 * TEST, 6, 0.9)
        summary = combine(folds(0.7 * values[:, :, 1:] + 0.7 * values[:, :, :1], 3))
        warnings += summary.answer == "WARN"
        flagged += summary.flagged
    assert warnings <= 5
    assert flagged > 0


def test_a_lasting_shift_over_folds_is_a_warning() -> None:
    values = autoregressive(20, ROWS + 4 * TEST, 8, 0.9)
    values[ROWS:, :, :4] += 1.5
    summary = combine(folds(values, 4))
    assert summary.answer == "WARN"
    assert summary.p < 0.01
    assert summary.flagged > 2 * summary.expected
    assert max(summary.flagged_share, key=lambda name: summary.flagged_share[name]) in {"f0", "f1", "f2", "f3", JOINT}


def test_the_null_of_one_fold_is_the_count_of_flags_per_block() -> None:
    feature = judged(autoregressive(21, ROWS + TEST, 1, 0.5))[0]
    flags = np.array([[True, True, False, False], [True, False, False, False]])
    answers: tuple[shift.Answer, shift.Answer] = ("WARN", "PASS")
    pair = tuple(
        replace(
            feature, name=f"f{number}", answer=answer, reference_flagged=flags[number], train_rows=40, block_rows=23
        )
        for number, answer in enumerate(answers)
    )
    summary = combine([pair])
    # Worth 2.3 * 40 / 23 = 4 blocks with counts 2, 1, 0, 0, and the fold's own 1.
    assert (summary.flagged, summary.judged, summary.expected) == (1, 2, 0.75)
    assert summary.p == pytest.approx(3 / 5)
    assert summary.flagged_share == {"f0": 1.0, "f1": 0.0}


def test_results_are_plain_json() -> None:
    values = autoregressive(22, ROWS + TEST, 2, 0.9)
    values[:, :, 0] = 1.0
    found = judged(values)
    text = json.dumps([one.to_dict() for one in found] + [combine([found]).to_dict()], allow_nan=False)
    constant, feature, joint, summary = json.loads(text)
    assert constant["ks"] is None
    assert all(0 <= feature[f"{name}_rank_share"] <= 1 for name in STATISTICS)
    assert joint["psi"] is None
    assert 0 <= joint["auc"] <= 1
    assert summary["flagged_folds_share"]["f0"] is None

"""What must hold for every walk-forward division, over a grid of settings far wider than the defaults."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtrade.errors import DataError, IntegrityError, UsageError
from qtrade.splits import SplitConfig, walk_forward
from qtrade.types import Fold


@st.composite
def settings(draw: st.DrawFn) -> tuple[int, int, int, int, SplitConfig]:
    horizon = draw(st.integers(1, 30))
    delay = draw(st.integers(0, 3))
    valid = draw(st.integers(1, 60))
    train = valid + horizon + delay - 1 + draw(st.integers(1, 80))
    config = SplitConfig(
        mode=draw(st.sampled_from(["expanding", "rolling"])),
        train_size=train,
        valid_size=valid,
        step=draw(st.integers(1, 70)),
        delay=delay,
    )
    warmup, seq_len = draw(st.integers(0, 40)), draw(st.integers(1, 50))
    needed = warmup + seq_len - 1 + train - 1 + 2 * (horizon + delay) + 1
    return needed + draw(st.integers(0, 300)), warmup, seq_len, horizon, config


@given(settings())
def test_labels_known_when_used_and_every_origin_tested_once(case: tuple[int, int, int, int, SplitConfig]) -> None:
    bars, warmup, seq_len, horizon, config = case
    reach = horizon + config.delay
    folds = walk_forward(bars, warmup, seq_len, horizon, config)
    for fold in folds:
        fit_label_end = max(fold.fit) + reach
        valid_label_end = max(fold.valid) + reach
        assert fit_label_end <= min(fold.valid)
        assert valid_label_end <= min(fold.test) == fold.train_end
        # Exactly the purge, no origin wasted.
        assert min(fold.valid) - max(fold.fit) - 1 == reach - 1
        assert min(fold.test) - max(fold.valid) - 1 == reach - 1
        assert min(fold.fit) - seq_len + 1 >= warmup, "a window reads warm-up rows"
        assert max(fold.test) + reach <= bars - 1, "a test label ends after the data"
        assert len(fold.valid) == config.valid_size
        if config.mode == "rolling":
            assert max(fold.valid) - min(fold.fit) + 1 == config.train_size
        else:
            assert min(fold.fit) == warmup + seq_len - 1
    tested = [origin for fold in folds for origin in fold.test]
    first_as_of = warmup + seq_len - 1 + config.train_size - 1 + reach
    assert tested == list(range(first_as_of, bars - reach)), "an admissible origin was dropped or tested twice"


@given(settings(), st.integers(1, 200))
def test_more_history_changes_no_fold_that_was_complete(
    case: tuple[int, int, int, int, SplitConfig], extra: int
) -> None:
    bars, warmup, seq_len, horizon, config = case
    before = walk_forward(bars, warmup, seq_len, horizon, config)
    after = walk_forward(bars + extra, warmup, seq_len, horizon, config)
    assert after[: len(before) - 1] == before[:-1]
    assert (after[len(before) - 1].fit, after[len(before) - 1].valid) == (before[-1].fit, before[-1].valid)


@given(settings())
def test_one_bar_fewer_than_the_smallest_series_is_refused(case: tuple[int, int, int, int, SplitConfig]) -> None:
    _, warmup, seq_len, horizon, config = case
    smallest = warmup + seq_len + config.train_size - 1 + 2 * (horizon + config.delay)
    assert len(walk_forward(smallest, warmup, seq_len, horizon, config)) == 1
    with pytest.raises(DataError, match=f"{smallest - 1} bars are too few: the first forecast needs {smallest}"):
        walk_forward(smallest - 1, warmup, seq_len, horizon, config)


def test_training_window_without_room_for_the_purge_is_refused() -> None:
    with pytest.raises(UsageError, match="train_size 263 leaves no origin to fit on") as caught:
        walk_forward(5000, 0, 96, 24, SplitConfig(train_size=263, valid_size=240))
    assert caught.value.exit_code == 2
    assert walk_forward(5000, 0, 96, 24, SplitConfig(train_size=264, valid_size=240))[0].fit == range(95, 96)


@pytest.mark.parametrize(
    ("fit", "valid", "test", "culprit"),
    [
        (range(0, 78), range(100, 150), range(173, 180), "'fit'"),
        (range(0, 77), range(100, 151), range(173, 180), "'valid'"),
    ],
)
def test_fold_with_one_origin_too_many_fails_the_integrity_gate(
    fit: range, valid: range, test: range, culprit: str
) -> None:
    with pytest.raises(IntegrityError, match=f"a label of {culprit} ends") as caught:
        Fold(0, fit, valid, test, horizon=24)
    assert caught.value.exit_code == 4
    Fold(0, range(0, 77), range(100, 150), range(173, 180), horizon=24)

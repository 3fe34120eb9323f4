"""Windows are positional, end at their origin, and cannot reach past what is known."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from qtrade.errors import IntegrityError
from qtrade.windows import Rows, Samples, WindowConfig, realised

WINDOW = WindowConfig(seq_len=4, label_len=2, horizon=3)


def make(bars: int = 20, symbols: int = 2, delay: int = 0) -> Samples:
    """Every number tells where it comes from: 100 * bar + 10 * symbol + feature."""
    bar = np.arange(bars, dtype=np.float32)
    grid = np.arange(bars + 10, dtype=np.float32)
    values = 100 * bar[:, None, None] + 10 * np.arange(symbols)[None, :, None] + np.arange(3)[None, None, :]
    return Samples(
        values=values.astype(np.float32),
        marks=bar[:, None],
        future_marks=grid[:, None],
        future_start=np.arange(bars, dtype=np.int64) + 1,
        target=(bar[:, None] + 1000 * np.arange(symbols)[None, :]).astype(np.float32),
        window=WINDOW,
        delay=delay,
    )


def test_window_holds_the_bars_up_to_its_origin_and_the_label_the_bars_after_it() -> None:
    windows = make().cut(Rows(np.array([5, 9]), np.array([1, 0])))
    assert windows.past[0, :, 0].tolist() == [210, 310, 410, 510]
    assert windows.past[1, :, 2].tolist() == [602, 702, 802, 902]
    assert windows.marks_past[0, :, 0].tolist() == [2, 3, 4, 5]
    assert windows.marks_future[0, :, 0].tolist() == [6, 7, 8]
    assert windows.label is not None
    assert windows.label.tolist() == [[1006, 1007, 1008], [10, 11, 12]]


def test_delay_shifts_label_and_marks_alike() -> None:
    windows = make(delay=2).cut(Rows(np.array([5]), np.array([0])))
    assert windows.label is not None
    assert windows.label.tolist() == [[8, 9, 10]]
    assert windows.marks_future[0, :, 0].tolist() == [8, 9, 10]


def test_rows_run_by_origin_then_symbol() -> None:
    rows = make().rows(range(4, 6))
    assert rows.origin.tolist() == [4, 4, 5, 5]
    assert rows.symbol.tolist() == [0, 1, 0, 1]


def test_what_is_forgotten_cannot_be_cut() -> None:
    samples = make().until(8)
    assert samples.cut(samples.rows(range(5, 6))).label is not None
    with pytest.raises(IntegrityError, match="reaches from bar 3 to bar 9, but only bars 0 to 8 are known"):
        samples.cut(samples.rows(range(6, 7)))
    predicting = samples.without_target()
    assert predicting.cut(predicting.rows(range(8, 9))).label is None
    with pytest.raises(IntegrityError, match="no target"):
        predicting.labels(predicting.rows(range(5, 6)))


@pytest.mark.parametrize("origin", [2, 17])
def test_window_outside_the_data_is_refused(origin: int) -> None:
    samples = make()
    with pytest.raises(IntegrityError):
        samples.cut(samples.rows(range(origin, origin + 1)))


def test_realised_path_is_unknown_beyond_the_last_bar() -> None:
    returns = np.arange(10, dtype=np.float64)[:, None]
    path = realised(returns, Rows(np.array([3, 8]), np.array([0, 0])), horizon=3)
    assert path[0].tolist() == [4, 5, 6]
    assert path[1, 0] == 9
    assert np.isnan(path[1, 1:]).all()


def test_label_part_longer_than_the_past_is_refused() -> None:
    with pytest.raises(ValidationError, match="label_len 97 exceeds seq_len 96"):
        WindowConfig(seq_len=96, label_len=97)


def test_origins_with_a_step_have_a_window_of_every_symbol_each() -> None:
    samples = Samples(
        values=np.zeros((20, 2, 1), dtype=np.float32),
        marks=np.zeros((20, 1), dtype=np.float32),
        future_marks=np.zeros((24, 1), dtype=np.float32),
        future_start=np.arange(20, dtype=np.int64) + 1,
        target=None,
        window=WindowConfig(seq_len=4, label_len=2, horizon=2),
    )
    rows = samples.rows(range(4, 11, 3))
    assert rows.origin.tolist() == [4, 4, 7, 7, 10, 10]
    assert rows.symbol.tolist() == [0, 1] * 3

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from qtrade.data.raw import RAW_FIELDS, RawBars, adjust, between
from qtrade.errors import DataError
from qtrade.types import BAR_FIELDS, PRICE_FIELDS


def table(close: list[float], dividends: list[float]) -> pd.DataFrame:
    index = pd.date_range("2024-01-01", periods=len(close), freq="D", tz="UTC")
    prices = {name: np.asarray(close) for name in PRICE_FIELDS}
    return pd.DataFrame({**prices, "volume": 100.0, "dividends": dividends, "splits": 0.0}, index=index)


def test_two_dividends_by_hand() -> None:
    # 2 paid out of 50 leaves 0.96 of it, then 1 out of 40 leaves 0.975.
    adjusted = adjust(table([40.0, 50.0, 48.0, 40.0, 39.0], [0, 0, 2.0, 0, 1.0]))
    expected = [40.0, 50.0, 48 / 0.96, 40 / 0.96, 39 / 0.96 / 0.975]
    for name in PRICE_FIELDS:
        np.testing.assert_allclose(adjusted[name], expected, rtol=1e-15)
    assert list(adjusted.columns) == list(BAR_FIELDS)
    assert (adjusted["volume"] == 100.0).all()


def test_a_price_that_falls_by_its_dividend_returns_nothing() -> None:
    adjusted = adjust(table([50.0, 48.0, 48.0], [0, 2.0, 0]))
    np.testing.assert_allclose(adjusted["close"], 50.0, rtol=1e-15)


def test_a_dividend_on_the_first_bar_has_nothing_to_adjust() -> None:
    assert adjust(table([50.0, 51.0], [2.0, 0]))["close"].tolist() == [50.0, 51.0]


def test_bars_without_dividends_stay_as_they_are() -> None:
    frame = table([50.0, 51.0, 49.0], [0, 0, 0])
    pd.testing.assert_frame_equal(adjust(frame), frame[list(BAR_FIELDS)])


def test_what_is_adjusted_is_a_copy() -> None:
    frame = table([50.0, 48.0], [0, 2.0])
    before = frame.copy()
    adjust(frame)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("dividend", [50.0, 60.0])
def test_a_dividend_as_large_as_the_price_is_refused(dividend: float) -> None:
    with pytest.raises(DataError, match=r"not below the close of 50\.0") as caught:
        adjust(table([50.0, 48.0], [0, dividend]))
    assert caught.value.exit_code == 3
    assert "2024-01-02" in caught.value.what


def test_between_includes_the_start_and_excludes_the_end() -> None:
    frame = table([1.0, 2.0, 3.0, 4.0], [0] * 4)
    start, end = pd.Timestamp("2024-01-02", tz="UTC"), pd.Timestamp("2024-01-04", tz="UTC")
    assert between(frame, start, end)["close"].tolist() == [2.0, 3.0]
    assert between(frame, None, end)["close"].tolist() == [1.0, 2.0, 3.0]
    assert between(frame, start, None)["close"].tolist() == [2.0, 3.0, 4.0]
    assert between(frame, None, None)["close"].tolist() == [1.0, 2.0, 3.0, 4.0]


def raw(frame: pd.DataFrame) -> RawBars:
    return RawBars("ACME", "yahoo", "1d", "XNYS", "America/New_York", frame)


def test_raw_bars_are_not_empty() -> None:
    with pytest.raises(DataError, match="ACME: 'yahoo' has no 1d bars for these dates"):
        raw(table([], []))


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 1, 1]])
def test_raw_bars_come_in_order_and_once(order: list[int]) -> None:
    with pytest.raises(DataError, match="not in order, or repeat"):
        raw(table([1.0, 2.0, 3.0], [0] * 3).iloc[order])


def test_raw_bars_need_utc_and_their_columns() -> None:
    frame = table([1.0, 2.0], [0, 0])
    for wrong in (frame.tz_localize(None), frame.tz_convert("Asia/Tokyo"), frame[list(RAW_FIELDS)[:-1]]):
        with pytest.raises(ValueError, match="UTC index"):
            raw(wrong)

"""Dividends change the level of the past and never a return; what lies after the end changes nothing at all."""

from __future__ import annotations

import tempfile
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrade.data.cache import Cache
from qtrade.data.config import DataConfig
from qtrade.data.load import load_bars
from qtrade.data.names import safe_name
from qtrade.data.raw import RawBars, adjust


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Raw bars of a market with dividends of up to half the price."""
    rows = draw(st.integers(4, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.03, rows)))
    opened = close * np.exp(rng.normal(0, 0.01, rows))
    top, bottom = np.maximum(opened, close) * 1.01, np.minimum(opened, close) * 0.99
    before = np.concatenate([[100.0], close[:-1]])
    dividends = np.where(rng.random(rows) < 0.3, before * rng.uniform(0, 0.5, rows), 0.0)
    index = pd.date_range("2024-01-01", periods=rows, freq="D", tz="UTC", unit="ns")
    columns = {"open": opened, "high": top, "low": bottom, "close": close, "volume": rng.uniform(0, 9, rows)}
    return pd.DataFrame({**columns, "dividends": dividends, "splits": 0.0}, index=index)


@given(tables())
@settings(deadline=None)
def test_adjusting_agrees_with_buying_more_from_every_dividend(frame: pd.DataFrame) -> None:
    shares = 1.0
    expected = []
    for row in range(len(frame)):
        if row and frame["dividends"].iloc[row] > 0:
            shares /= 1 - frame["dividends"].iloc[row] / frame["close"].iloc[row - 1]
        expected.append(frame["close"].iloc[row] * shares)
    np.testing.assert_allclose(adjust(frame)["close"], expected, rtol=1e-12)


@given(tables(), st.data())
@settings(deadline=None)
def test_what_is_not_known_yet_changes_no_bit(frame: pd.DataFrame, data: st.DataObject) -> None:
    cut = data.draw(st.integers(2, len(frame)))
    poisoned = frame.copy()
    poisoned.loc[poisoned.index[cut:], "dividends"] = 0.3 * poisoned["close"].min()
    for other in (frame.iloc[:cut], poisoned):
        pd.testing.assert_frame_equal(
            adjust(frame).iloc[:cut], adjust(other).iloc[:cut], check_freq=False, check_exact=True
        )


@given(tables())
@settings(deadline=None)
def test_an_adjusted_return_is_the_price_over_the_former_one_less_the_dividend(frame: pd.DataFrame) -> None:
    close, dividends = frame["close"].to_numpy(), frame["dividends"].to_numpy()
    adjusted = adjust(frame)["close"].to_numpy()
    np.testing.assert_allclose(adjusted[1:] / adjusted[:-1], close[1:] / (close[:-1] - dividends[1:]), rtol=1e-12)


@given(tables(), st.data())
@settings(deadline=None, max_examples=25)
def test_poison_after_the_end_moves_no_bit_of_the_bars(frame: pd.DataFrame, data: st.DataObject) -> None:
    kept = data.draw(st.integers(2, len(frame) - 1))
    config = DataConfig(source="yahoo", symbols=("A",), end=date(2024, 1, 1) + timedelta(days=kept))
    poisoned = frame.copy()
    poisoned.iloc[kept:] = data.draw(st.sampled_from([np.nan, 0.0, -1.0, 1e300]))
    prints = []
    with tempfile.TemporaryDirectory() as folder:
        for table in (frame, poisoned, frame.iloc[:kept]):
            cache = Cache(Path(folder))
            cache.write(RawBars("A", "yahoo", "1d", "24/7", "UTC", table))
            prints.append(load_bars(config, cache).bars.fingerprint())
    assert prints[0] == prints[1] == prints[2]


@given(st.text(min_size=1, max_size=50))
def test_names_are_reversible_and_safe_on_every_file_system(symbol: str) -> None:
    name = safe_name(symbol)
    assert unquote(name) == symbol
    assert name == name.upper()
    assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=^%")


@given(st.text(alphabet="conCON1pPrRnN.%4", min_size=1, max_size=5), st.text(alphabet="conCON1pPrRnN.%4", max_size=5))
def test_two_symbols_never_share_a_name(one: str, other: str) -> None:
    assert other == "" or (safe_name(one) == safe_name(other)) == (one == other)

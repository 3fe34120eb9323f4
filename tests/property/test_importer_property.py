"""Whatever a file holds, it gives bars or a clear error, never a traceback or a warning."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrade.data.importer import File, FileConfig
from qtrade.data.raw import RAW_FIELDS, RawBars
from qtrade.errors import QtradeError
from qtrade.types import PRICE_FIELDS

INTERVALS = ("1h", "1d", "1wk")
HEADER = "time,open,high,low,close,volume"


def outcome(content: bytes, suffix: str = ".csv", interval: str = "1h", **values: object) -> RawBars | QtradeError:
    """Bars that hold what bars promise, or an error of exit code 3; anything else is raised."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"A{suffix}"
        path.write_bytes(content)
        source = File(FileConfig.model_validate({"path": path, "tz": "UTC", "calendar": "24/7", **values}))
        try:
            raw = source.fetch("A", interval=interval, start=None, end=None)
        except QtradeError as error:
            told = error
            raw = None
    if raw is None:
        assert (told.exit_code, bool(told.fix)) == (3, True), told
        return told
    index = raw.frame.index
    assert isinstance(index, pd.DatetimeIndex)
    assert (str(index.tz), index.is_monotonic_increasing, index.is_unique) == ("UTC", True, True)
    assert tuple(raw.frame.columns) == RAW_FIELDS
    assert all(kind == np.float64 for kind in raw.frame.dtypes)
    assert raw.frame[list(PRICE_FIELDS)].notna().all(axis=None)
    assert raw.fingerprint()
    return raw


@given(st.binary(max_size=300), st.sampled_from([".csv", ".csv.gz", ".parquet"]), st.sampled_from(INTERVALS))
@settings(deadline=None, max_examples=150)
def test_any_bytes_give_bars_or_an_error(content: bytes, suffix: str, interval: str) -> None:
    outcome(content, suffix, interval)


@given(st.text(alphabet="time,openhighlowcs0123456789.-+:TZ \n\t;\"'eE\r\0|", max_size=200), st.sampled_from(INTERVALS))
@settings(deadline=None, max_examples=150)
def test_any_text_below_a_header_gives_bars_or_an_error(text: str, interval: str) -> None:
    outcome(f"{HEADER}\n{text}".encode(), ".csv", interval)


cells = st.one_of(
    st.floats(width=32).map(repr),
    st.integers(-(10**22), 10**22).map(str),
    st.sampled_from(["", "nan", "null", "-", "inf", "1,5", "1e999", "True", "2024-01-01", "2024-01-01 00:00Z", "0"]),
    st.datetimes().map(str),
    st.datetimes(timezones=st.timezones()).map(str),
    st.text(max_size=5),
)


@given(st.lists(st.lists(cells, min_size=6, max_size=6), max_size=6), st.sampled_from(INTERVALS), st.booleans())
@settings(deadline=None, max_examples=200)
def test_any_cells_give_bars_or_an_error(rows: list[list[str]], interval: str, own: bool) -> None:
    table = pd.DataFrame(rows, columns=HEADER.split(","))
    if own:  # times that are fine, so that the numbers are looked at
        table["time"] = pd.date_range("2024-01-01", periods=len(rows), freq="h", tz="UTC").astype(str)
    outcome(table.to_csv(index=False).encode(errors="surrogatepass"), ".csv", interval)


def whole() -> pd.DataFrame:
    close = 100 + np.arange(48) % 13 / 4
    columns = {"open": close - 0.25, "high": close + 1, "low": close - 1, "close": close, "volume": 1.0}
    return pd.DataFrame(columns, index=pd.date_range("2024-01-01", periods=48, freq="h", tz="UTC", name="time"))


@given(st.randoms(use_true_random=False), st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_shuffled_and_repeated_rows_give_the_same_bars(random: object, repeats: int) -> None:
    frame = whole()
    rows = list(range(48)) + [random.randrange(48) for _ in range(repeats)]  # type: ignore[attr-defined]
    random.shuffle(rows)  # type: ignore[attr-defined]
    raw = outcome(frame.iloc[rows].to_csv().encode())
    assert isinstance(raw, RawBars)
    assert raw.frame["close"].tolist() == frame["close"].tolist()


@given(st.integers(0, 10**6), st.integers(0, 255), st.sampled_from(["cut", "set", "insert"]), st.booleans())
@settings(deadline=None, max_examples=120)
def test_a_damaged_file_gives_bars_or_an_error(place: int, byte: int, kind: str, parquet: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        whole().to_parquet(path) if parquet else whole().to_csv(path)
        content = bytearray(path.read_bytes())
    at = place % len(content)
    if kind == "cut":
        del content[at:]
    elif kind == "set":
        content[at] = byte
    else:
        content.insert(at, byte)
    outcome(bytes(content), ".parquet" if parquet else ".csv")

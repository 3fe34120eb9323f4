"""Any bytes give valid bars or a clear refusal; and what a file says later changes nothing it said before."""

from __future__ import annotations

import random
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qtrade.data.importer import File, FileConfig
from qtrade.data.raw import RAW_FIELDS, RawBars
from qtrade.errors import DataError

FUZZ = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])

HEADERS = ["time", "date", "open", "high", "low", "close", "volume", "adj close", "dividends", "splits", "symbol", ""]
CELLS = [
    "", "0", "-1", "1e308", "-1e308", "1e-308", "1e400", "nan", "inf", "NA", "x", "1,5", "1.234,5", "$1", "True", "é",
    '"', "99999999999999999999", "2020-01-01", "2020-10-25 02:30", "2020-03-29 02:30", "2020-01-01T00:00:00Z",
    "2020-01-01 00:00-99:59", "31.12.2020", "12/31/2020 11:59 PM", "0001-01-01", "9999-12-31", "2020-01-01 24:00",
    "1677-09-21 00:12:44", "2262-04-11 23:47:16", "now", "today", "20200101", "1577836800", "1577836800000",
    "-9223372036854775808", "9223372036854775807", "00:00", "2020-01-01 00:00:00.123456789+05:30",
]  # fmt: skip
CONFIGS: list[dict[str, Any]] = [
    {},
    {"tz": "Europe/Berlin"},
    {"tz": "America/New_York", "calendar": "24/7"},
    {"calendar": "24/7", "decimal": ","},
    {"calendar": "24/5", "offset": 1e308, "stamps": "close"},
    {"calendar": "XNYS", "delimiter": ";"},
    {"calendar": "24/7", "columns": {"close": "volume", "volume": ""}},
]


def sample(interval: str, rows: int = 40) -> pd.DataFrame:
    """A valid table with everything in it."""
    first, freq = ("2020-10-24 20:00", "h") if interval == "1h" else ("2020-01-01", "D")
    close = 100 + np.arange(rows) % 7
    return pd.DataFrame(
        {
            "time": pd.date_range(first, periods=rows, freq=freq, tz="UTC").strftime("%Y-%m-%d %H:%M:%S"),
            "open": close - 0.5, "high": close + 1.0, "low": close - 1.0, "close": close.astype(float),
            "volume": 10.0, "adj close": close * np.where(np.arange(rows) < 20, 0.99, 1.0), "splits": 0.0,
        }
    )  # fmt: skip


def outcome(path: Path, interval: str, config: dict[str, Any]) -> RawBars | DataError:
    """Fetch with warnings as errors: valid bars, or a clear refusal and nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            raw = File(FileConfig(path=path, **config)).fetch("A", interval=interval, start=None, end=None)
        except DataError as error:
            refused = error
        else:
            return valid(raw)
    assert refused.exit_code == 3
    assert refused.what
    assert refused.fix
    return refused


def valid(raw: RawBars) -> RawBars:
    index = raw.frame.index
    assert isinstance(index, pd.DatetimeIndex)
    assert str(index.dtype) == "datetime64[ns, UTC]"
    assert index.is_monotonic_increasing
    assert index.is_unique
    assert not index.hasnans
    assert tuple(raw.frame.columns) == RAW_FIELDS
    assert all(dtype == np.float64 for dtype in raw.frame.dtypes)
    assert np.isfinite(raw.frame.to_numpy()).all()
    assert len(raw.fingerprint()) == 64
    assert all(one.count > 0 for one in raw.findings)
    return raw


def mutated(table: pd.DataFrame, rng: random.Random) -> pd.DataFrame:
    """Repeat, shuffle, swap, rename and overwrite parts of a table."""
    table = table.astype(object)
    for _ in range(rng.randint(0, 3)):
        kind, rows = rng.randrange(6), len(table)
        if kind == 0:
            table = table.iloc[[rng.randrange(rows) for _ in range(rng.randint(1, rows))]].reset_index(drop=True)
        elif kind == 1:
            table = table.sample(frac=1, random_state=rng.randrange(2**32)).reset_index(drop=True)
        elif kind == 2:
            table.columns = pd.Index(rng.sample(list(table.columns), table.shape[1]))
        elif kind == 3:
            names = list(table.columns)
            names[rng.randrange(len(names))] = rng.choice(HEADERS)
            table.columns = pd.Index(names)
        elif kind == 4:
            table.iloc[:, rng.randrange(table.shape[1])] = rng.choice(CELLS)
        else:
            for _ in range(rng.randint(1, 4)):
                table.iat[rng.randrange(rows), rng.randrange(table.shape[1])] = rng.choice(CELLS)
    return table


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Cut bytes off or change some."""
    kind = rng.randrange(4)
    if kind == 0:
        return content[: rng.randrange(len(content) + 1)]
    if kind == 1:
        changed = bytearray(content)
        for _ in range(rng.randint(1, 5)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)
    return content


@FUZZ
@given(content=st.binary(max_size=300), suffix=st.sampled_from([".csv", ".parquet", ".csv.gz"]))
def test_any_bytes(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    outcome(path, "1d", {"calendar": "24/7"})


@FUZZ
@given(
    header=st.lists(st.sampled_from(HEADERS), min_size=1, max_size=6),
    rows=st.lists(st.lists(st.sampled_from(CELLS), max_size=6), max_size=8),
    delimiter=st.sampled_from([",", ";", "\t"]),
    interval=st.sampled_from(["1m", "1h", "1d", "1mo"]),
    config=st.sampled_from(CONFIGS),
)
def test_any_cells(
    tmp_path: Path, header: list[str], rows: list[list[str]], delimiter: str, interval: str, config: dict[str, Any]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(delimiter.join(row) for row in [header, *rows]), encoding="utf-8")
    outcome(path, interval, config)


@FUZZ
@given(
    seed=st.integers(0, 2**32 - 1),
    suffix=st.sampled_from([".csv", ".parquet"]),
    interval=st.sampled_from(["1h", "1d"]),
    config=st.sampled_from(CONFIGS),
)
def test_any_damage_to_a_valid_file(
    tmp_path: Path, seed: int, suffix: str, interval: str, config: dict[str, Any]
) -> None:
    rng = random.Random(seed)
    table = mutated(sample(interval), rng)
    buffer = BytesIO()
    if suffix == ".csv":
        table.to_csv(buffer, index=False, sep=rng.choice([",", ";"]))
    else:
        table.columns = pd.Index([f"{name}{'' if rng.random() < 0.9 else number}" for number, name in enumerate(table)])
        table = table.loc[:, ~table.columns.duplicated()]
        if rng.random() < 0.5:
            for name in rng.sample(list(table.columns), rng.randint(1, table.shape[1])):
                table[name] = pd.to_numeric(table[name], errors="coerce")
        for text in table.select_dtypes(object):
            table[text] = table[text].astype("str")
        table.to_parquet(buffer)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(damaged(buffer.getvalue(), rng))
    outcome(path, interval, config)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("interval", ["1h", "1d"])
def test_the_file_before_any_damage_is_valid(tmp_path: Path, suffix: str, interval: str) -> None:
    path = tmp_path / f"a{suffix}"
    table = sample(interval)
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    raw = outcome(path, interval, {"calendar": "24/7", "tz": "UTC"})
    assert isinstance(raw, RawBars)
    assert len(raw.frame) == 40
    assert raw.frame["dividends"].ne(0).tolist() == [row == 20 for row in range(40)]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 200), interval=st.sampled_from(["1h", "1d"]))
def test_later_rows_change_nothing_before_them(tmp_path: Path, seed: int, cut: int, interval: str) -> None:
    """A file cut off, and one with other prices, gaps and dividends after the cut, begin with the same bars."""
    rng = np.random.default_rng(seed)
    rows = 201
    clock = pd.date_range("2021-10-25", periods=rows, freq="h" if interval == "1h" else "D", tz="Europe/Berlin")
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, rows)))
    factor = np.cumprod(np.where(rng.random(rows) < 0.05, 1.01, 1.0))
    table = pd.DataFrame({"time": clock.strftime("%Y-%m-%d %H:%M"), "close": close, "adj close": close * factor})
    table.loc[(rng.random(rows) < 0.05) & (np.arange(rows) > 0), "close"] = np.nan
    other = table.copy()
    other.loc[cut:, "close"] *= 3
    other.loc[cut:, "adj close"] *= 2.9
    other.loc[rng.random(rows) < np.where(np.arange(rows) < cut, 0.0, 0.3), "close"] = np.nan
    paths = [tmp_path / f"{name}.csv" for name in ("whole", "cut", "other")]
    for part, path in zip((table, table.iloc[:cut], other), paths, strict=True):
        part.to_csv(path, index=False)
    config = {"tz": "Europe/Berlin", "calendar": "24/7"}
    whole, short, changed = (outcome(path, interval, config) for path in paths)
    assert isinstance(whole, RawBars)
    moment = clock[cut - 1] if interval == "1h" else clock[cut - 1].tz_localize(None).tz_localize("UTC")
    before = whole.frame.loc[:moment]
    if isinstance(short, RawBars):
        pd.testing.assert_frame_equal(short.frame, before, check_exact=True, check_freq=False)
    else:  # in the middle of the hour that clocks show twice, nobody can tell yet which time is meant
        assert str(clock[cut - 1])[:16] == "2021-10-31 02:00"
    if isinstance(changed, RawBars):
        pd.testing.assert_frame_equal(changed.frame.loc[:moment], before, check_exact=True, check_freq=False)

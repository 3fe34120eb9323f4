"""Whatever bytes an entry's files hold, reading gives whole bars or a clear error, and changes nothing."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrade.data.cache import Cache
from qtrade.data.manifest import Entry, checksum
from qtrade.data.raw import RAW_FIELDS, RawBars
from qtrade.errors import QtradeError

KEY = ("yahoo", "1d", "ACME")


def bars(seed: int, start: int, rows: int) -> RawBars:
    rng = np.random.default_rng(seed)
    index = pd.date_range("2024-01-01", periods=start + rows, freq="D", tz="UTC", unit="ns")[start:]
    values = rng.uniform(1, 2, (start + rows, len(RAW_FIELDS)))[start:]
    return RawBars("ACME", "yahoo", "1d", "24/7", "UTC", pd.DataFrame(values, index=index, columns=list(RAW_FIELDS)))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.suffix in (".json", ".parquet")}


def outcome(read: Callable[[], RawBars | Entry]) -> RawBars | Entry | QtradeError:
    """What was read, or the error that a user would see; anything else is raised."""
    try:
        return read()
    except QtradeError as error:
        return error


def assert_clear(cache: Cache) -> None:
    """Reading gives the bars that were written, or an error of exit code 3; either way the files stay as they are."""
    before = content(cache.root)
    for found in (outcome(lambda: cache.read(*KEY)), outcome(lambda: cache.entry(*KEY))):
        if isinstance(found, QtradeError):
            assert found.exit_code == 3
            assert found.fix
        assert not isinstance(found, RawBars) or found.fingerprint() == bars(0, 0, 9).fingerprint()
    assert content(cache.root) == before


@given(st.sampled_from([".json", ".parquet"]), st.binary(max_size=400))
@settings(deadline=None, max_examples=25)
def test_any_bytes_in_a_file_are_told(suffix: str, junk: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder))
        cache.write(bars(0, 0, 9)).with_suffix(suffix).write_bytes(junk)
        assert_clear(cache)


@given(st.sampled_from([".json", ".parquet"]), st.integers(0, 10**6), st.integers(0, 255), st.booleans())
@settings(deadline=None, max_examples=40)
def test_any_changed_byte_and_any_cut_is_told(suffix: str, place: int, byte: int, cut: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder))
        path = cache.write(bars(0, 0, 9)).with_suffix(suffix)
        data = bytearray(path.read_bytes())
        if cut:
            del data[place % len(data) :]
        else:
            data[place % len(data)] = byte
        path.write_bytes(bytes(data))
        assert_clear(cache)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from(["symbol", "source", "interval", "versions", "findings", "facts", "sha256", "qtrade"]),
    json_values,
)
@settings(deadline=None, max_examples=40)
def test_a_manifest_with_anything_in_it_is_told(key: str, value: Any) -> None:
    """Even one whose checksum is right, as another program might write it."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder))
        path = cache.write(bars(0, 0, 9)).with_suffix(".json")
        facts = json.loads(path.read_text(encoding="utf-8"))
        del facts["checksum"]
        facts[key] = value
        path.write_text(json.dumps(facts | {"checksum": checksum(facts)}), encoding="utf-8")
        assert_clear(cache)


@given(
    st.sampled_from(["fingerprint", "calendar", "exchange_zone", "rows", "first", "last", "fetched", "file"]),
    json_values,
)
@settings(deadline=None, max_examples=25)
def test_a_version_with_anything_in_it_is_told(key: str, value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder))
        cache.write(bars(1, 0, 9))
        path = cache.write(bars(0, 0, 9)).with_suffix(".json")
        facts = json.loads(path.read_text(encoding="utf-8"))
        del facts["checksum"]
        facts["versions"][0][key] = value
        path.write_text(json.dumps(facts | {"checksum": checksum(facts)}), encoding="utf-8")
        assert_clear(cache)
        found = outcome(lambda: cache.read(*KEY, bars(1, 0, 9).fingerprint()))
        assert isinstance(found, QtradeError | Entry) or found.fingerprint() == bars(1, 0, 9).fingerprint()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6), st.integers(1, 9)), min_size=1, max_size=6))
@settings(deadline=None, max_examples=15)
def test_whatever_is_written_can_be_had_again(history: list[tuple[int, int, int]]) -> None:
    """Longer, shorter, earlier, later, rewritten, and back: no version is lost."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder))
        written = [bars(seed, start, rows) for seed, start, rows in history]
        for one in written:
            cache.write(one)
        assert cache.read(*KEY).fingerprint() == written[-1].fingerprint()
        for one in written:
            assert cache.read(*KEY, one.fingerprint()).fingerprint() == one.fingerprint()

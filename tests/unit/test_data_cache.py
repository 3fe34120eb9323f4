from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

import qtrade.data.cache
from qtrade.data.cache import Cache
from qtrade.data.manifest import checksum
from qtrade.data.names import key_of, safe_name
from qtrade.data.raw import Finding, RawBars
from qtrade.errors import DataError, UsageError
from qtrade.files import sha256
from qtrade.types import PRICE_FIELDS


def raw(symbol: str = "ACME", close: float = 10.0, rows: int = 5) -> RawBars:
    index = pd.date_range("2024-01-01", periods=rows, freq="D", tz="UTC", unit="ns")
    values = {name: close + np.arange(rows, dtype=np.float64) for name in PRICE_FIELDS}
    frame = pd.DataFrame({**values, "volume": 1.0, "dividends": 0.25, "splits": 0.0}, index=index)
    return RawBars(symbol, "yahoo", "1d", "XNYS", "America/New_York", frame)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "data_cache")


def test_what_is_written_is_read_back(cache: Cache) -> None:
    written = raw()
    path = cache.write(written)
    assert path == cache.root / "yahoo" / "1d" / "ACME.parquet"
    read = cache.read("yahoo", "1d", "ACME")
    for name in ("symbol", "source", "interval", "calendar", "exchange_zone"):
        assert getattr(read, name) == getattr(written, name)
    pd.testing.assert_frame_equal(read.frame, written.frame, check_exact=True, check_freq=False)


def test_the_manifest_says_what_the_file_holds(cache: Cache) -> None:
    path = cache.write(raw())
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    (version,) = facts["versions"]
    assert version["rows"] == 5
    assert (version["first"], version["last"]) == ("2024-01-01 00:00:00+00:00", "2024-01-05 00:00:00+00:00")
    assert (version["calendar"], version["exchange_zone"]) == ("XNYS", "America/New_York")
    assert facts["sha256"] == sha256(path)


def files(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir()} - {f"{path.stem}.lock"}


def test_longer_bars_leave_nothing_else_behind(cache: Cache) -> None:
    path = cache.write(raw())
    cache.write(raw(rows=8))
    cache.write(raw(rows=8))
    assert files(path) == {"ACME.parquet", "ACME.json"}
    assert [version.rows for version in cache.entry("yahoo", "1d", "ACME").versions] == [5, 8]


def test_rewritten_bars_leave_a_vintage_behind(cache: Cache) -> None:
    first = raw()
    path = cache.write(first)
    cache.write(raw(close=20.0))
    assert files(path) == {"ACME.parquet", "ACME.json", f"ACME.{first.fingerprint()[:12]}.parquet"}


def test_every_version_can_be_had_again(cache: Cache) -> None:
    history = [raw(rows=4), raw(rows=6), raw(close=20.0, rows=6), raw(close=20.0, rows=9), raw(rows=3), raw(rows=7)]
    for one in history:
        cache.write(one)
    entry = cache.entry("yahoo", "1d", "ACME")
    assert [version.fingerprint for version in entry.versions] == [one.fingerprint() for one in history]
    for one in history:
        again = cache.read("yahoo", "1d", "ACME", one.fingerprint()[:8])
        pd.testing.assert_frame_equal(again.frame, one.frame, check_exact=True, check_freq=False)
    # Three lines of history: each is kept once, in its longest form.
    assert len(list(entry_files(cache))) == 3


def entry_files(cache: Cache) -> list[Path]:
    return sorted((cache.root / "yahoo" / "1d").glob("ACME*.parquet"))


def test_a_version_that_comes_back_is_the_newest_again(cache: Cache) -> None:
    for one in (raw(), raw(close=20.0), raw()):
        cache.write(one)
    assert [version.id for version in cache.entry("yahoo", "1d", "ACME").versions] == [
        raw(close=20.0).fingerprint()[:12],
        raw().fingerprint()[:12],
    ]
    assert cache.read("yahoo", "1d", "ACME", raw(close=20.0).fingerprint()).frame["close"].iloc[0] == 20.0


def test_a_rewrite_that_is_taken_back_loses_no_version(cache: Cache) -> None:
    history = [raw(rows=4), raw(rows=6), raw(close=20.0, rows=6), raw(rows=6), raw(rows=8)]
    for one in history:
        cache.write(one)
    for one in history:
        assert cache.read("yahoo", "1d", "ACME", one.fingerprint()).fingerprint() == one.fingerprint()


def test_every_version_has_its_own_findings_and_facts(cache: Cache) -> None:
    seen = Finding("duplicates", "error", 1, "2024-01-02 00:00:00+00:00", "2024-01-02 00:00:00+00:00", "two rows")
    bad = replace(raw(), findings=(seen,), facts={"since": None})
    cache.write(bad)
    cache.write(raw(close=20.0))
    assert cache.read("yahoo", "1d", "ACME").findings == ()
    former = cache.read("yahoo", "1d", "ACME", bad.fingerprint())
    assert (former.findings, former.facts) == ((seen,), {"since": None})


def test_damaged_bars_cost_no_version_that_has_a_file_of_its_own(cache: Cache) -> None:
    first = raw()
    path = cache.write(first)
    cache.write(raw(close=20.0))
    path.write_bytes(b"half")
    cache.write(raw(close=30.0))
    assert cache.read("yahoo", "1d", "ACME").frame["close"].iloc[0] == 30.0
    assert cache.read("yahoo", "1d", "ACME", first.fingerprint()).fingerprint() == first.fingerprint()


def test_versions_can_be_read_after_a_crash(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    history = [raw(rows=4), raw(rows=6)]
    for one in history:
        cache.write(one)

    def crash(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(qtrade.data.cache, "write_manifest", crash)
        with pytest.raises(KeyboardInterrupt):
            cache.write(raw(close=20.0))
    for one in history:
        assert cache.read("yahoo", "1d", "ACME", one.fingerprint()).fingerprint() == one.fingerprint()


def test_a_version_that_is_not_there_is_a_usage_error(cache: Cache) -> None:
    cache.write(raw())
    with pytest.raises(UsageError, match="ACME has no versions that begin with 'zz'") as caught:
        cache.read("yahoo", "1d", "ACME", "zz")
    assert "qtrade data vintages ACME" in caught.value.fix


def test_an_altered_vintage_is_named(cache: Cache) -> None:
    first = raw()
    path = cache.write(first)
    cache.write(raw(close=20.0))
    vintage = path.with_name(f"ACME.{first.fingerprint()[:12]}.parquet")
    first.frame.assign(close=11.0).to_parquet(vintage)
    with pytest.raises(DataError, match=f"{vintage.name} no longer holds version"):
        cache.read("yahoo", "1d", "ACME", first.fingerprint())
    assert cache.read("yahoo", "1d", "ACME").frame["close"].iloc[0] == 20.0


def test_what_a_killed_writer_left_is_cleared_away(cache: Cache) -> None:
    path = cache.write(raw())
    left, other = path.with_name(".ACME.parquet.x1.tmp"), path.with_name(".OTHER.parquet.x1.tmp")
    for file in (left, other):
        file.write_bytes(b"half")
    cache.write(raw(rows=6))
    assert not left.exists()
    assert other.exists()


def test_damaged_files_are_put_aside_and_not_written_over(cache: Cache) -> None:
    path = cache.write(raw())
    manifest = path.with_suffix(".json")
    manifest.write_text(manifest.read_text(encoding="utf-8").replace("XNYS", "XLON"), encoding="utf-8")
    with pytest.raises(DataError, match="is not as it was written"):
        cache.read("yahoo", "1d", "ACME")
    cache.write(raw(close=20.0))
    assert pd.read_parquet(path.with_name("ACME.damaged.parquet"))["close"].iloc[0] == 10.0
    assert cache.read("yahoo", "1d", "ACME").frame["close"].iloc[0] == 20.0
    assert len(cache.find()) == 1


def test_entries_are_found_by_symbol_source_and_interval(cache: Cache) -> None:
    paths = [cache.write(raw(symbol)) for symbol in ("A", "b.c", "^D")]
    assert sorted(key_of(path)[2] for path in cache.find()) == ["A", "^D", "b.c"]
    assert cache.find("b.c") == [paths[1]]
    assert cache.find("A", "sample") == []
    assert cache.find(None, "yahoo", "1d") == sorted(paths)


def test_a_removed_entry_is_gone_with_its_versions(cache: Cache) -> None:
    path = cache.write(raw())
    cache.write(raw(close=20.0))
    kept = cache.write(raw("ACME2"))
    cache.remove("yahoo", "1d", "ACME")
    assert files(path) - {"ACME2.lock"} == {"ACME2.parquet", "ACME2.json"}
    assert cache.find() == [kept]


def test_two_writers_that_add_lose_nothing(cache: Cache) -> None:
    """What `update` is given is what is there at that moment, whatever was read before."""
    cache.write(raw(rows=3))
    seen: list[int] = []

    def add(stored: RawBars | None) -> RawBars:
        assert stored is not None
        seen.append(len(stored.frame))
        return raw(rows=len(stored.frame) + 1)

    for _ in range(3):
        cache.update("yahoo", "1d", "ACME", add)
    assert seen == [3, 4, 5]


@pytest.mark.parametrize(
    "symbol",
    ["^GSPC", "BTC-USD", "EURUSD=X", "BRK.B", "../../x", "CON", "con", "COM1.L", "a/b\\c:d*?", "..", "%41", "É"],
)
def test_any_symbol_is_stored_inside_the_folder_and_found_again(cache: Cache, symbol: str) -> None:
    path = cache.write(raw(symbol))
    assert path.parent == cache.root / "yahoo" / "1d"
    assert path.is_file()
    assert cache.read("yahoo", "1d", symbol).symbol == symbol


def test_a_missing_entry_names_the_command_that_makes_it(cache: Cache) -> None:
    with pytest.raises(DataError, match="has no 1d bars from 'yahoo'") as caught:
        cache.read("yahoo", "1d", "^GSPC")
    assert f"`qtrade fetch '^GSPC' --source yahoo --interval 1d --cache {cache.root}`" in caught.value.fix
    assert caught.value.exit_code == 3


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def take_away(path: Path) -> None:
    path.unlink()


def block(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "suffix"),
    [
        *((damage, ".parquet") for damage in (cut_off, alter, empty, take_away, block)),
        *((damage, ".json") for damage in (cut_off, empty, take_away, block)),
    ],
)
def test_a_damaged_entry_is_named_with_the_way_to_mend_it(
    cache: Cache, damage: Callable[[Path], None], suffix: str
) -> None:
    path = cache.write(raw()).with_suffix(suffix)
    damage(path)
    with pytest.raises(DataError) as caught:
        cache.read("yahoo", "1d", "ACME")
    assert caught.value.exit_code == 3
    assert str(path.with_suffix("")) in caught.value.what or "has no 1d bars" in caught.value.what
    assert f"`qtrade fetch ACME --source yahoo --interval 1d --cache {cache.root}`" in caught.value.fix


@pytest.mark.parametrize(
    "content", ["[]", "{}", "not json", '{"sha256": 1}', "\ud83d".encode("utf-16", "surrogatepass").decode("latin-1")]
)
def test_a_manifest_of_another_kind_is_refused(cache: Cache, content: str) -> None:
    path = cache.write(raw()).with_suffix(".json")
    path.write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match="ACME"):
        cache.read("yahoo", "1d", "ACME")


def test_a_manifest_that_lacks_a_fact_is_refused(cache: Cache) -> None:
    path = cache.write(raw()).with_suffix(".json")
    facts = json.loads(path.read_text(encoding="utf-8"))
    del facts["versions"], facts["checksum"]
    path.write_text(json.dumps(facts | {"checksum": checksum(facts)}), encoding="utf-8")
    with pytest.raises(DataError, match="lacks what this version needs"):
        cache.read("yahoo", "1d", "ACME")


def test_an_entry_copied_under_another_name_is_refused(cache: Cache) -> None:
    path = cache.write(raw())
    for suffix in (".parquet", ".json"):
        shutil.copy(path.with_suffix(suffix), path.with_name(f"OTHER{suffix}"))
    with pytest.raises(DataError, match="describes other bars"):
        cache.read("yahoo", "1d", "OTHER")


@pytest.mark.parametrize("step", ["parquet", "manifest", "rename"])
def test_a_failed_write_leaves_the_former_entry_whole(cache: Cache, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    cache.write(raw())

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    target = {"parquet": (pd.DataFrame, "to_parquet"), "manifest": (Path, "write_text"), "rename": (Path, "replace")}
    with monkeypatch.context() as patch:
        patch.setattr(*target[step], full)
        with pytest.raises(UsageError, match="cannot write to") as caught:
            cache.write(raw(close=20.0))
    assert caught.value.why == "No space left on device"
    assert cache.read("yahoo", "1d", "ACME").frame["close"].iloc[0] == 10.0
    leftovers = [file.name for file in (cache.root / "yahoo" / "1d").iterdir() if file.suffix == ".tmp"]
    assert not leftovers


def test_a_crash_between_the_two_renamings_loses_nothing(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write(raw())
    rename = Path.replace

    def crash(self: Path, target: Path) -> Path:
        if target.suffix == ".json":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            cache.write(raw(close=20.0))
    assert cache.read("yahoo", "1d", "ACME").frame["close"].iloc[0] == 10.0
    cache.write(raw(close=30.0))
    assert cache.read("yahoo", "1d", "ACME").frame["close"].iloc[0] == 30.0
    assert cache.read("yahoo", "1d", "ACME", raw().fingerprint()).frame["close"].iloc[0] == 10.0


def test_a_folder_that_cannot_be_made_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "data_cache").write_text("a file", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot write to") as caught:
        Cache(tmp_path / "data_cache").write(raw())
    assert caught.value.exit_code == 2
    assert "--cache" in caught.value.fix
    assert (tmp_path / "data_cache").read_text(encoding="utf-8") == "a file"


def test_an_entry_in_use_is_not_waited_for_without_end(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cache.write(raw())
    monkeypatch.setattr(qtrade.data.cache, "_LOCK_SECONDS", 0.05)
    with FileLock(path.with_suffix(".lock")), pytest.raises(DataError, match="is in use"):
        cache.write(raw(close=20.0))
    assert cache.read("yahoo", "1d", "ACME").frame["close"].iloc[0] == 10.0


def test_reading_needs_no_permission_to_write(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cache.write(raw())
    path.with_suffix(".lock").unlink(missing_ok=True)
    monkeypatch.setattr(os, "access", lambda where, mode: False)
    assert cache.read("yahoo", "1d", "ACME").symbol == "ACME"
    assert not path.with_suffix(".lock").exists()


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("AAPL", "AAPL"),
        ("^GSPC", "^GSPC"),
        ("EURUSD=X", "EURUSD=X"),
        ("BRK.B", "BRK%2EB"),
        ("../x", "%2E%2E%2F%78"),
        ("CON", "%43ON"),
        ("LPT9", "%4CPT9"),
        ("aapl", "%61%61%70%6C"),
        ("%", "%25"),
    ],
)
def test_names_are_readable_where_that_is_safe(symbol: str, name: str) -> None:
    assert safe_name(symbol) == name
    assert unquote(name) == symbol

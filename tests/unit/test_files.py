"""A file that is being written is the old one or the new one, whatever happens meanwhile."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from qtrade.errors import DataError, UsageError
from qtrade.files import atomic_path, read_json, read_parquet, sha256, write_json, write_parquet, write_text


@pytest.mark.parametrize("error", [RuntimeError("disk full"), KeyboardInterrupt()])
def test_failure_while_writing_leaves_the_old_file_and_no_other(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "notes.txt"
    write_text(target, "old")

    def fail() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half of the ne")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert target.read_text() == "old"


def test_new_content_appears_at_once_with_the_users_permissions(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "notes.txt"
    before = os.umask(0o027)
    try:
        with atomic_path(target) as temporary:
            temporary.write_text("new")
            assert temporary.parent == target.parent, "only within a file system is a renaming atomic"
            assert not target.exists()
    finally:
        os.umask(before)
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file")
    with pytest.raises(UsageError, match=r"cannot write to .*occupied.*\n  why: .*\n  fix: choose another folder"):
        write_text(tmp_path / "occupied" / "run" / "notes.txt", "text")
    assert (tmp_path / "occupied").read_text() == "a file"


def test_json_and_parquet_read_back_equal(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None, "ü"], "a": {"x": True}}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json", fix="") == value
    index = pd.date_range("2020-01-01", periods=3, tz="UTC", name="bar")
    frame = pd.DataFrame({"x": [0.1, float("nan"), 1e300]}, index=index)
    write_parquet(tmp_path / "frame.parquet", frame)
    read = read_parquet(tmp_path / "frame.parquet", fix="")
    pd.testing.assert_frame_equal(read, frame, check_exact=True, check_freq=False)


def test_json_refuses_what_it_cannot_say_and_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "value.json"
    write_json(target, {"loss": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(target, {"loss": float("nan")})
    assert read_json(target, fix="") == {"loss": 1.0}


@pytest.mark.parametrize("read", [read_json, read_parquet])
@pytest.mark.parametrize(("content", "what"), [(None, "is missing"), (b"{", "cannot be read"), (b"\xff\xfe", "cannot")])
def test_unreadable_file_is_named_with_its_remedy(
    tmp_path: Path, read: Callable[..., object], content: bytes | None, what: str
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"file {what}(.|\n)*fix: do this"):
        read(path, fix="do this")


def test_checksum_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"bars")
    assert sha256(path) == hashlib.sha256(b"bars").hexdigest()

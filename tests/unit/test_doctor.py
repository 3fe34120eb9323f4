"""The doctor tells what is there and what is missing, and gets well itself from nothing."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from qtrade import __version__
from qtrade.doctor import PACKAGES, Finding, examine


def findings(cache: Path) -> dict[str, Finding]:
    return {one.what: one for one in examine(cache)}


def test_a_healthy_machine_has_no_problem(tmp_path: Path) -> None:
    found = findings(tmp_path / "cache")
    assert found["qtrade"].found == __version__
    assert {*PACKAGES, "python", "backtest engine", "device", "threads", "CPU cores", "cache"} < set(found)
    assert int(found["threads"].found) >= 1
    assert found["cache"].found.endswith("(not there yet)")
    assert [one.what for one in found.values() if one.problem] == []
    assert not (tmp_path / "cache").exists(), "looking must not change anything"


@pytest.mark.parametrize(("entries", "told"), [(0, "0 entries"), (1, "1 entry"), (2, "2 entries")])
def test_cached_entries_are_counted(tmp_path: Path, entries: int, told: str) -> None:
    (tmp_path / "sample" / "1d").mkdir(parents=True)
    for number in range(entries):
        (tmp_path / "sample" / "1d" / f"{number}.json").touch()
        (tmp_path / "sample" / "1d" / f"{number}.parquet").touch()
    assert findings(tmp_path)["cache"].found == f"{tmp_path}, {told}"


def test_missing_torch_is_told_and_not_tripped_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qtrade.doctor.PACKAGES", ("torch-that-is-not-there",))
    monkeypatch.setattr("qtrade.doctor.find_spec", lambda name: None if name == "torch" else find_spec(name))
    monkeypatch.setitem(sys.modules, "qtrade.models.device", None)
    found = findings(tmp_path)
    assert found["torch-that-is-not-there"].problem == "install it: python -m pip install torch-that-is-not-there"
    assert "device" not in found


def test_cache_that_cannot_be_written_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qtrade.doctor.os.access", lambda path, mode: False)
    assert findings(tmp_path)["cache"].problem == "the folder cannot be written to"

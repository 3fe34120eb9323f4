"""Compiled code finds a place where no other can be written to."""

from __future__ import annotations

import os
from pathlib import Path

import numba
import pytest

from qtrade.backtest.compiled import provide_cache


def place() -> str:
    """Where Numba keeps what it compiles, if it was told."""
    return str(vars(numba.config)["CACHE_DIR"])


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", place())
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)


def test_a_place_that_can_be_written_to_is_left_to_numba() -> None:
    before = place()
    provide_cache()
    assert "NUMBA_CACHE_DIR" not in os.environ
    assert place() == before


def test_read_only_files_get_a_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    provide_cache()
    (made,) = tmp_path.iterdir()
    assert os.environ["NUMBA_CACHE_DIR"] == str(made) == place()
    provide_cache()
    assert [made] == list(tmp_path.iterdir()), "one is enough"


def test_the_users_own_choice_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/of/my/own")
    provide_cache()
    assert os.environ["NUMBA_CACHE_DIR"] == "/of/my/own"

"""A saved backtest's own account of itself is checked before anything of it is believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qtrade.errors import DataError
from qtrade.files import write_json, write_text
from qtrade.pipeline.told import read_told

GOOD: dict[str, Any] = {
    "strategy": "a",
    "spec": "a()",
    "params": {},
    "source": "0",
    "account": {},
    "metrics": {"sharpe": 1.0, "calmar": None, "trades": 3},
    "buy_and_hold": {"sharpe": 0.5},
    "years": [],
}


def test_what_a_backtest_writes_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "metrics.json", GOOD)
    assert read_told(tmp_path / "metrics.json") == GOOD


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"account": "nonsense"}, "account"),
        ({"spec": 7}, "spec"),
        ({"params": [1]}, "params"),
        ({"buy_and_hold": None}, "buy_and_hold"),
        ({"metrics": {"sharpe": "x"}}, "metrics"),
        ({"metrics": {"trades": True}}, "metrics"),
    ],
)
def test_what_is_of_the_wrong_kind_is_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    write_json(tmp_path / "metrics.json", {**GOOD, **change})
    with pytest.raises(DataError, match=named):
        read_told(tmp_path / "metrics.json")


@pytest.mark.parametrize("text", ["[]", "null", "{", ""])
def test_what_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    write_text(tmp_path / "metrics.json", text)
    with pytest.raises(DataError):
        read_told(tmp_path / "metrics.json")

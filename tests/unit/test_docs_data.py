"""What the guide to data says is so: its tables are those of the code, and its commands and its source run."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qtrade.calendars import INTRADAY
from qtrade.cli import main
from qtrade.config import load_config
from qtrade.data.cache import Cache
from qtrade.data.checks import CHECKS
from qtrade.data.sources import SOURCES
from qtrade.data.yahoo import Yahoo

GUIDE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)


def test_every_check_has_its_line() -> None:
    lines = [line for line in GUIDE.splitlines() if line.startswith("| `") and line.count("|") == 5]
    assert lines == [
        f"| `{check.name}` | {check.severity} | {check.looks_for} | {check.accepting or '-'} |" for check in CHECKS
    ]


def test_the_limits_of_yahoo_are_those_that_hold() -> None:
    told = {
        name: int(days)
        for names, days in re.findall(r"^\| ([`0-9a-z ]+) \| (\d+) days \|$", GUIDE, flags=re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    now = pd.Timestamp("2024-06-01", tz="UTC")
    source = Yahoo(now=lambda: now)
    kept = {name: source.earliest(name) for name in INTRADAY}
    assert told == {name: (now - since).ceil("D").days for name, since in kept.items() if since is not None}
    assert source.earliest("1d") is None


def test_the_source_of_ones_own_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks("python")
    found: dict[str, Any] = {}
    exec(code, found)
    raw = found["Flat"]().fetch("A", interval="1d", start=pd.Timestamp("2021-01-01", tz="UTC"), end=None)
    assert (raw.source, raw.frame.index[0]) == ("flat", pd.Timestamp("2021-01-01", tz="UTC"))
    (line,) = re.findall(r'`"flat": (.*),` is its line', GUIDE)
    monkeypatch.setitem(SOURCES, "flat", eval(line, found))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["qtrade", "fetch", "A", "--source", "flat"])
    with pytest.raises(SystemExit):
        main()
    assert len(Cache(Path("data_cache")).read("flat", "1d", "A").frame) == 1000


def test_the_configuration_is_one(tmp_path: Path) -> None:
    (text,) = blocks("toml")
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    assert load_config(path).data.versions == {"^GSPC": "1a2b3c4d5e6f"}


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that need no network, in the order of the page."""
    monkeypatch.chdir(tmp_path)
    days = pd.bdate_range("2024-01-02", periods=40)
    close = 100.0 + np.arange(40) % 5
    table = pd.DataFrame({"Date": days, "Open": close, "High": close + 1, "Low": close - 1, "Close": close})
    table.to_csv("prices.csv", index=False)
    Path("folder").mkdir()
    table.to_csv("folder/CCC.csv", index=False)
    pd.concat([table.assign(Symbol=name) for name in ("AAA", "BBB")]).to_csv("long.csv", index=False)
    hours = pd.date_range("2024-01-01", periods=24 * 21, freq="h")
    prices = 50 + np.arange(len(hours)) % 3 / 10
    names = {"Eröffnung": prices, "Hoch": prices + 1, "Tief": prices - 1, "Schluss": prices}
    pd.DataFrame({"Zeit": hours, **names}).to_csv("hours.csv", sep=";", decimal=",", index=False)
    ran = 0
    for line in "\n".join(blocks("sh")).splitlines():
        words = shlex.split(line, comments=True)
        if not words or "yahoo" in words:
            continue
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code, line
        ran += 1
    assert ran == 12
    left = {path.name for path in Cache(Path("data_cache")).find()}
    assert {"^GSPC.parquet", "%70%72%69%63%65%73.parquet"} <= left
    assert "^IXIC.parquet" not in left

"""The newest bars of the cache, and what is said where they are too old."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qtrade.data.cache import Cache
from qtrade.data.config import DataConfig
from qtrade.data.importer import FileConfig
from qtrade.data.raw import RawBars
from qtrade.errors import DataError
from qtrade.pipeline.latest import newest_bars

NOW = pd.Timestamp("2024-02-10 12:00", tz="UTC")
Stored = Callable[..., Cache]


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    def store(source: str, **ends: str) -> Cache:
        cache = Cache(tmp_path / "bars & more")
        for number, (symbol, end) in enumerate(ends.items()):
            index = pd.date_range("2024-01-01", end, tz="UTC", unit="ns")
            walk = 100 * np.exp(np.random.default_rng(number).normal(0, 0.01, len(index)).cumsum())
            frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), walk), index=index)
            frame = frame.assign(volume=1.0, dividends=0.0, splits=0.0)
            cache.write(RawBars(symbol.replace("_", " ").strip(), source, "1d", "24/7", "UTC", frame))
        return cache

    return store


def refusal(cache: Cache, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        newest_bars(DataConfig(**settings), cache, NOW)
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_bars_up_to_yesterday_are_the_newest_there_can_be(stored: Stored) -> None:
    data = DataConfig(source="yahoo", symbols=("BTC-USD",), end="2024-01-20", versions={"BTC-USD": "0000"})
    bars = newest_bars(data, stored("yahoo", **{"BTC-USD": "2024-02-09"}), NOW)
    assert bars.index[-1] == pd.Timestamp("2024-02-09", tz="UTC"), "end and versions are those of the run"


def test_one_missing_bar_is_enough_and_the_command_that_brings_it_is_named(stored: Stored) -> None:
    cache = stored("yahoo", **{"BTC-USD": "2024-02-08", "ETH-USD": "2024-02-09"})
    told = refusal(cache, source="yahoo", symbols=("BTC-USD", "ETH-USD"))
    assert "the newest bar in the cache is of 2024-02-08, it is 2024-02-10 12:00 UTC now" in told
    assert "1 bar of 1d has been completed since" in told
    assert "BTC-USD ends at 2024-02-08" in told, "who holds the others up"
    assert f"qtrade fetch BTC-USD ETH-USD --source yahoo --interval 1d --cache '{cache.root}'" in told


def test_files_have_to_be_continued_first(stored: Stored, tmp_path: Path) -> None:
    file = FileConfig(path=tmp_path / "my bars.csv", columns={"open": "o"}, calendar="24/7")
    told = refusal(stored("file", X="2024-02-01"), source="file", symbols=("X",), file=file, accept=("split",))
    assert "8 bars of 1d have been completed since" in told
    assert f"put newer bars into {tmp_path / 'my bars.csv'}, then `qtrade fetch X --source file" in told
    assert f"--path '{tmp_path / 'my bars.csv'}' --calendar 24/7 --columns open=o --accept split" in told


@pytest.mark.parametrize(("source", "why"), [("sample", "ends in 2018"), ("synthetic", "made to end")])
def test_markets_that_have_ended_cannot_be_fetched_anew(stored: Stored, source: str, why: str) -> None:
    told = refusal(stored(source, X="2024-02-01"), source=source, symbols=("X",))
    assert why in told
    assert "qtrade fetch" not in told
    assert "leave out --latest" in told

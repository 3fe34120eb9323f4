"""What a fetch would do is what it does, and finding out leaves no trace."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from qtrade.data.cache import Cache
from qtrade.data.config import DataConfig
from qtrade.data.fetch import fetch
from qtrade.data.load import load_bars
from qtrade.data.plan import FetchPlan, Unwritten, plan_fetch
from qtrade.data.raw import RAW_FIELDS, RawBars
from qtrade.data.sources import SOURCES
from qtrade.errors import DataError, QtradeError, UsageError
from qtrade.progress import Silent

SYNTHETIC = {"source": "synthetic", "symbols": ("flip-1", "flip-2"), "synthetic": {"bars": 40}}


def trace(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file and folder, with its time and its content."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }


def planned(folder: Path, config: DataConfig) -> FetchPlan:
    """Plan, and see that nothing was written."""
    before = trace(folder)
    plan = plan_fetch(config, cache=Cache(folder / "cache"))
    plan.lines()
    assert trace(folder) == before
    return plan


def test_a_local_source_is_read_and_nothing_is_stored(tmp_path: Path) -> None:
    config = DataConfig(**SYNTHETIC)
    plan = planned(tmp_path, config)
    assert [(one.symbol, one.stored, one.action, one.asked) for one in plan.symbols] == [
        ("flip-1", 0, "40 bars from synthetic", False),
        ("flip-2", 0, "40 bars from synthetic", False),
    ]
    cache = Cache(tmp_path / "cache")
    fetch(config, cache=cache, progress=Silent())
    again = planned(tmp_path, config)
    assert [one.action for one in again.symbols] == ["40 bars from synthetic, as before"] * 2
    assert [one.stored for one in again.symbols] == [40, 40]
    # The bars that a run would read are those that it reads once they are stored.
    for one in (plan, again):
        assert load_bars(config, one.cache).bars.fingerprint() == load_bars(config, cache).bars.fingerprint()


def test_bars_that_changed_are_counted(tmp_path: Path) -> None:
    fetch(DataConfig(**SYNTHETIC), cache=Cache(tmp_path / "cache"), progress=Silent())
    plan = planned(tmp_path, DataConfig(**{**SYNTHETIC, "synthetic": {"bars": 50, "change": 26}}))
    assert [one.action for one in plan.symbols] == ["50 bars from synthetic, 10 new"] * 2
    plan = planned(tmp_path, DataConfig(**{**SYNTHETIC, "synthetic": {"bars": 30, "change": 26, "sigma": 0.02}}))
    assert [one.action for one in plan.symbols] == ["30 bars from synthetic, 30 changed, 10 gone"] * 2


def test_a_lock_is_not_even_made_where_there_was_none(tmp_path: Path) -> None:
    config = DataConfig(**SYNTHETIC)
    fetch(config, cache=Cache(tmp_path / "cache"), progress=Silent())
    for lock in tmp_path.rglob("*.lock"):
        lock.unlink()
    planned(tmp_path, config)
    before = trace(tmp_path)
    load_bars(config, Unwritten(tmp_path / "cache"))
    assert trace(tmp_path) == before


def test_a_failing_symbol_leaves_the_others_planned(tmp_path: Path) -> None:
    config = DataConfig(**{**SYNTHETIC, "symbols": ("flip-1", "flap", "flip-2")})
    plan = planned(tmp_path, config)
    assert list(plan.failed) == ["flap"]
    assert [one.symbol for one in plan.symbols] == ["flip-1", "flap", "flip-2"]
    assert plan.symbols[1].action.startswith("fails: ")
    assert plan.to_dict()["failed"] == {"flap": plan.failed["flap"].what}
    assert len(plan.lines()) == 3


def test_bars_that_would_be_refused_are_told(tmp_path: Path) -> None:
    path = tmp_path / "A.csv"
    path.write_text("date,open,high,low,close\n2020-01-01,1,1,1,1\n2020-01-02,1,2,3,2\n", encoding="utf-8")
    config = DataConfig.model_validate({"source": "file", "file": {"path": path, "calendar": "24/7"}})
    plan = planned(tmp_path, config)
    assert isinstance(plan.failed["A"], DataError)
    assert "ohlc" in plan.failed["A"].what
    assert plan.lines()[0].startswith("A  2 bars from file")
    assert plan.lines()[1].strip().startswith("but they would be refused: A: ")
    accepted = planned(tmp_path, config.model_copy(update={"accept": ("ohlc",)}))
    assert not accepted.failed


def test_an_unknown_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no source 'yaho'"):
        plan_fetch(DataConfig(source="yaho"), cache=Cache(tmp_path))


# --- sources that are far away ---


def bars(symbol: str, count: int) -> RawBars:
    index = pd.date_range("2020-01-01", periods=count, tz="UTC")
    values = {name: 10 + np.arange(count) / 100 for name in RAW_FIELDS}
    frame = pd.DataFrame({**values, "dividends": 0.0, "splits": 0.0}, index)[list(RAW_FIELDS)]
    return RawBars(symbol, "far", "1d", "24/7", "UTC", frame, (), {})


@dataclass
class Far:
    """A vendor that counts how often it is asked."""

    name: ClassVar[str] = "far"
    has: int = 30
    first: pd.Timestamp | None = None
    asked: list[Any] = field(default_factory=list)

    def fetch(self, symbol: str, *, interval: str, start: pd.Timestamp | None, end: pd.Timestamp | None) -> RawBars:
        self.asked.append((symbol, start, end))
        whole = bars(symbol, self.has)
        kept = whole.frame[(whole.frame.index >= start) if start is not None else slice(None)]
        return replace(whole, frame=kept)

    def due(self, stored: RawBars, end: pd.Timestamp | None) -> bool:
        return len(stored.frame) < self.has

    def earliest(self, interval: str) -> pd.Timestamp | None:
        return self.first


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Far:
    source = Far()
    monkeypatch.setitem(SOURCES, "far", lambda config, progress: source)
    return source


def test_nobody_far_away_is_asked_but_the_question_is_told(tmp_path: Path, far: Far) -> None:
    config = DataConfig(source="far", symbols=("A",))
    plan = planned(tmp_path, config)
    assert (plan.symbols[0].action, plan.symbols[0].asked) == ("far is asked for all there is", True)
    bounded = config.model_validate({**config.model_dump(), "start": "2020-01-05", "end": "2020-02-01"})
    assert planned(tmp_path, bounded).symbols[0].action == "far is asked for bars from 2020-01-05 on until 2020-02-01"
    assert far.asked == []
    with pytest.raises(QtradeError, match=r"the cache .* has no 1d bars"):
        load_bars(config, plan.cache)

    fetch(config, cache=Cache(tmp_path / "cache"), progress=Silent())
    assert far.asked == [("A", None, None)]
    current = planned(tmp_path, config)
    assert (current.symbols[0].action, current.symbols[0].stored) == ("up to date", 30)
    assert "stored 30, 2020-01-01 to 2020-01-30" in current.lines()[0]

    far.has = 60
    due = planned(tmp_path, config)
    assert far.asked == [("A", None, None)]
    fetch(config, cache=Cache(tmp_path / "cache"), progress=Silent())
    ((_, start, _),) = far.asked[1:]
    assert due.symbols[0].action == f"far is asked for bars from {start:%Y-%m-%d} on"
    assert due.symbols[0].asked


def test_a_version_that_is_stored_is_kept(tmp_path: Path, far: Far) -> None:
    config = DataConfig(source="far", symbols=("A",))
    cache = Cache(tmp_path / "cache")
    fetch(config, cache=cache, progress=Silent())
    begins = cache.read("far", "1d", "A").fingerprint()[:12]
    far.has = 60
    pinned = config.model_copy(update={"versions": {"A": begins}})
    plan = planned(tmp_path, pinned)
    assert (plan.symbols[0].action, plan.symbols[0].asked) == (f"version {begins} is kept", False)
    assert len(load_bars(pinned, plan.cache).bars) == 30
    other = planned(tmp_path, config.model_copy(update={"versions": {"A": "0000"}}))
    assert other.symbols[0].asked


def test_bars_that_cannot_be_trusted_are_told(tmp_path: Path, far: Far) -> None:
    config = DataConfig(source="far", symbols=("A",))
    (path,) = fetch(config, cache=Cache(tmp_path / "cache"), progress=Silent()).saved
    path.write_bytes(b"PAR1")
    told = planned(tmp_path, config).symbols[0]
    assert "is not what its manifest says; it is put aside, and far is asked for all there is" in told.action
    assert told.stored == 0

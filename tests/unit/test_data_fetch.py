"""A fetch asks for what is missing, keeps what is sound, and loses nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from qtrade.data import sources
from qtrade.data.cache import Cache
from qtrade.data.config import DataConfig
from qtrade.data.fetch import OVERLAP, fetch
from qtrade.data.load import load_bars
from qtrade.data.raw import RawBars, SourceBusyError
from qtrade.errors import DataError, PartialError, QtradeError, UsageError
from qtrade.progress import Silent
from qtrade.types import PRICE_FIELDS

Change = Callable[[pd.DataFrame], None]


def raw(symbol: str = "A", *, rows: int = 60, change: Change | None = None) -> RawBars:
    index = pd.date_range("2024-01-01", periods=rows, freq="D", tz="UTC", unit="ns")
    close = 100.0 + np.arange(rows)
    columns = {"open": close - 0.5, "high": close + 1, "low": close - 1, "close": close, "volume": 5.0}
    frame = pd.DataFrame({**columns, "dividends": 0.0, "splits": 0.0}, index=index)
    if change is not None:
        change(frame)
    return RawBars(symbol, "yahoo", "1d", "24/7", "UTC", frame)


def put(row: int, column: str, value: float) -> Change:
    def change(frame: pd.DataFrame) -> None:
        frame.loc[frame.index[row], column] = value

    return change


@dataclass
class Vendor:
    """A stand-in for Yahoo: a whole history per symbol, of which it gives what it is asked for and still keeps."""

    name: ClassVar[str] = "yahoo"
    history: dict[str, RawBars | QtradeError] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    keeps: pd.Timestamp | None = None

    def fetch(self, symbol: str, *, interval: str, start: pd.Timestamp | None, end: pd.Timestamp | None) -> RawBars:
        self.asked.append((symbol, None if start is None else f"{start:%Y-%m-%d}"))
        answer = self.history[symbol]
        if isinstance(answer, QtradeError):
            raise answer
        index = answer.frame.index
        since = max((stamp for stamp in (start, self.keeps) if stamp is not None), default=index[0])
        return replace(answer, frame=answer.frame[(index >= since) & (True if end is None else index < end)])

    def due(self, stored: RawBars, end: pd.Timestamp | None) -> bool:
        answer = self.history[stored.symbol]
        if isinstance(answer, QtradeError):
            return True
        last = answer.frame.index[-1] if end is None else min(answer.frame.index[-1], end - pd.Timedelta(1, "ns"))
        return bool(stored.frame.index[-1] < last.normalize())

    def earliest(self, interval: str) -> pd.Timestamp | None:
        return self.keeps


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Vendor:
    vendor = Vendor()
    monkeypatch.setattr(sources, "SOURCES", {"yahoo": lambda config, progress: vendor})
    return vendor


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "data_cache")


def config(*symbols: str, **values: Any) -> DataConfig:
    return DataConfig(source="yahoo", symbols=symbols or ("A",), **values)


def get(cache: Cache, chosen: DataConfig) -> None:
    fetch(chosen, cache=cache, progress=Silent()).require_all()


def held(cache: Cache) -> pd.DataFrame:
    return cache.read("yahoo", "1d", "A").frame


def test_a_second_fetch_asks_for_the_end_only(cache: Cache, vendor: Vendor) -> None:
    vendor.history = {"A": raw(rows=50)}
    get(cache, config())
    vendor.history = {"A": raw(rows=60)}
    get(cache, config())
    since = raw().frame.index[50 - OVERLAP]
    assert vendor.asked == [("A", None), ("A", f"{since:%Y-%m-%d}")]
    pd.testing.assert_frame_equal(held(cache), raw(rows=60).frame, check_freq=False)


def test_what_is_up_to_date_is_not_asked_for(cache: Cache, vendor: Vendor) -> None:
    vendor.history = {"A": raw()}
    for _ in range(3):
        get(cache, config())
    assert len(vendor.asked) == 1


def test_a_second_run_asks_for_what_failed_only(cache: Cache, vendor: Vendor) -> None:
    vendor.history = {"A": raw("A"), "B": DataError("no answer"), "C": raw("C")}
    with pytest.raises(PartialError, match="1 of 3 symbols could not be fetched"):
        get(cache, config("A", "B", "C"))
    vendor.asked.clear()
    vendor.history["B"] = raw("B")
    get(cache, config("A", "B", "C"))
    assert vendor.asked == [("B", None)]


def test_an_earlier_start_is_asked_for_and_joined(cache: Cache, vendor: Vendor) -> None:
    vendor.history = {"A": raw()}
    get(cache, config(start=date(2024, 2, 1)))
    assert held(cache).index[0] == pd.Timestamp("2024-02-01", tz="UTC")
    get(cache, config(start=date(2024, 1, 10)))
    assert held(cache).index[0] == pd.Timestamp("2024-01-10", tz="UTC")
    get(cache, config())
    assert len(held(cache)) == 60
    assert [start for _, start in vendor.asked] == ["2024-02-01", "2024-01-10", None]
    get(cache, config(start=date(2024, 2, 20)))
    assert len(vendor.asked) == 3
    assert len(held(cache)) == 60


def test_an_end_cuts_off_nothing_that_is_stored(cache: Cache, vendor: Vendor) -> None:
    vendor.history = {"A": raw()}
    get(cache, config(end=date(2024, 1, 11)))
    assert len(held(cache)) == 10
    get(cache, config())
    get(cache, config(end=date(2024, 1, 11)))
    get(cache, config(start=date(2024, 1, 5), end=date(2024, 1, 11)))
    assert len(held(cache)) == 60


def split(frame: pd.DataFrame) -> None:
    """What a vendor makes of its history after a split of two for one on 25 February."""
    before = frame.index < pd.Timestamp("2024-02-25", tz="UTC")
    frame[[*PRICE_FIELDS]] /= 2.0
    frame.loc[before, "volume"] *= 2.0
    frame.loc[pd.Timestamp("2024-02-25", tz="UTC"), "splits"] = 2.0


def test_a_split_between_two_fetches_rebuilds_the_history_and_keeps_the_former(cache: Cache, vendor: Vendor) -> None:
    before = raw(rows=50)
    vendor.history = {"A": before}
    get(cache, config())
    bars = load_bars(config(), cache)
    vendor.history = {"A": raw(rows=60, change=split)}
    get(cache, config())
    assert [start for _, start in vendor.asked[1:]] == [f"{before.frame.index[50 - OVERLAP]:%Y-%m-%d}", None]
    pd.testing.assert_frame_equal(held(cache), raw(rows=60, change=split).frame, check_freq=False)
    former = load_bars(config(versions={"A": bars.fingerprints["A"]}), cache)
    assert former.bars.fingerprint() == bars.bars.fingerprint()


def test_bars_that_the_vendor_no_longer_keeps_outlive_a_split(cache: Cache, vendor: Vendor) -> None:
    vendor.history = {"A": raw(rows=50)}
    get(cache, config())
    vendor.keeps = raw().frame.index[40]
    vendor.history = {"A": raw(rows=60, change=split)}
    get(cache, config())
    expected = raw(rows=60, change=split).frame
    pd.testing.assert_frame_equal(held(cache), expected, check_freq=False, rtol=1e-12)


def test_bars_accumulate_past_what_the_vendor_keeps(cache: Cache, vendor: Vendor) -> None:
    for rows in (20, 35, 50, 60):
        vendor.history = {"A": raw(rows=rows)}
        vendor.keeps = raw().frame.index[max(rows - 20, 0)]
        get(cache, config())
    pd.testing.assert_frame_equal(held(cache), raw(rows=60).frame, check_freq=False)
    assert cache.read("yahoo", "1d", "A").findings == ()


def test_a_long_pause_leaves_a_hole_and_a_warning(cache: Cache, vendor: Vendor) -> None:
    vendor.history = {"A": raw(rows=10)}
    get(cache, config())
    vendor.keeps = raw().frame.index[40]
    vendor.history = {"A": raw(rows=60)}
    get(cache, config())
    assert len(held(cache)) == 30
    report = json.loads(cache.path("yahoo", "1d", "A").with_suffix(".quality.json").read_text(encoding="utf-8"))
    checks = {finding["check"]: finding["count"] for finding in report["findings"]}
    assert checks == {"gaps": 30, "unverified_join": 1}


def test_a_damaged_entry_is_fetched_anew(cache: Cache, vendor: Vendor) -> None:
    vendor.history = {"A": raw()}
    get(cache, config())
    cache.path("yahoo", "1d", "A").write_bytes(b"half")
    get(cache, config())
    assert vendor.asked == [("A", None)] * 2
    assert len(held(cache)) == 60


def test_a_source_that_wants_to_be_left_alone_is(cache: Cache, vendor: Vendor) -> None:
    vendor.history = {"A": raw("A"), "B": SourceBusyError("B: too often", fix="wait"), "C": raw("C"), "D": raw("D")}
    report = fetch(config("A", "B", "C", "D"), cache=cache, progress=Silent())
    assert [symbol for symbol, _ in vendor.asked] == ["A", "B"]
    assert [path.stem for path in report.saved] == ["A"]
    assert list(report.failed) == ["B", "C", "D"]
    assert "not asked for" in report.failed["C"].what
    assert report.failed["C"].fix == "wait"


def test_sources_other_than_feeds_are_read_whole_and_replace(cache: Cache) -> None:
    chosen = DataConfig(symbols=("^GSPC",), start=date(2008, 1, 1), end=date(2009, 1, 1))
    get(cache, chosen)
    assert len(cache.read("sample", "1d", "^GSPC").frame) == 5031
    path = cache.path("sample", "1d", "^GSPC")
    before = path.stat().st_mtime_ns
    get(cache, chosen)
    assert path.stat().st_mtime_ns == before


def test_every_fetch_writes_a_quality_report(cache: Cache, vendor: Vendor) -> None:
    full = raw()
    vendor.history = {"A": replace(full, frame=full.frame.drop(full.frame.index[[10, 11, 30]]))}
    get(cache, config())
    report = json.loads(cache.path("yahoo", "1d", "A").with_suffix(".quality.json").read_text(encoding="utf-8"))
    (gaps,) = report["findings"]
    assert (gaps["check"], gaps["severity"], gaps["count"]) == ("gaps", "warning", 3)
    assert (gaps["first"][:10], gaps["last"][:10]) == ("2024-01-11", "2024-01-31")
    assert report["fingerprint"] == cache.read("yahoo", "1d", "A").fingerprint()


def test_only_what_a_repeat_can_mend_is_to_be_repeated(cache: Cache, vendor: Vendor) -> None:
    again = "check the network, then run the same command again"
    unknown, unreachable = DataError("no symbol 'B'", fix="check its spelling"), DataError("no answer", fix=again)
    vendor.history = {"A": raw("A"), "B": unknown, "C": unreachable, "D": unreachable}
    with pytest.raises(PartialError) as caught:
        get(cache, config("A", "B", "C", "D"))
    assert caught.value.fix == f"the others are saved; B: check its spelling; C, D: {again}"
    with pytest.raises(DataError) as none:
        get(cache, config("B", "C"))
    assert none.value.fix == f"B: check its spelling; C: {again}"


def test_one_failing_symbol_leaves_the_others_saved(cache: Cache, vendor: Vendor) -> None:
    vendor.history = {"A": raw("A"), "B": DataError("Yahoo has no symbol 'B'"), "C": raw("C")}
    report = fetch(config("A", "B", "C"), cache=cache, progress=Silent())
    assert [path.stem for path in report.saved] == ["A", "C"]
    assert list(report.failed) == ["B"]
    with pytest.raises(PartialError, match="1 of 3 symbols could not be fetched") as caught:
        report.require_all()
    assert caught.value.exit_code == 5
    assert "B: Yahoo has no symbol 'B'" in caught.value.why
    assert caught.value.fix == "the others are saved; leave B out"
    assert load_bars(config("A", "C"), cache).bars.symbols == ("A", "C")


def test_one_symbol_that_fails_alone_raises_its_own_error(cache: Cache, vendor: Vendor) -> None:
    vendor.history = {"A": DataError("Yahoo has no symbol 'A'", fix="look it up")}
    with pytest.raises(DataError, match="Yahoo has no symbol 'A'") as caught:
        get(cache, config())
    assert caught.value.fix == "look it up"


def test_when_all_fail_the_error_is_about_data(cache: Cache, vendor: Vendor) -> None:
    vendor.history = {"A": DataError("no A"), "B": DataError("no B")}
    with pytest.raises(DataError, match="no symbol could be fetched") as caught:
        get(cache, config("A", "B"))
    assert caught.value.exit_code == 3
    assert "no A" in caught.value.why
    assert "no B" in caught.value.why


def nothing_moves(frame: pd.DataFrame) -> None:
    frame[["open", "high", "low", "close"]] = 1.0


BAD: Mapping[str, tuple[Change, str]] = {
    "a hole": (put(3, "low", np.nan), "price"),
    "a zero": (put(3, "open", 0.0), "price"),
    "an infinity": (put(9, "close", np.inf), "price"),
    "a negative price": (put(0, "close", -1.0), "price"),
    "a negative volume": (put(2, "volume", -5.0), "volume"),
    "a high below the close": (put(2, "high", 100.0), "ohlc"),
    "a dividend beyond the price": (put(2, "dividends", 200.0), "dividends"),
    "a missing dividend": (put(2, "dividends", np.nan), "dividends"),
    "a negative dividend": (put(0, "dividends", -1.0), "dividends"),
    "a price that never moves": (nothing_moves, "constant"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_answer_replaces_nothing_that_is_sound(cache: Cache, vendor: Vendor, kind: str) -> None:
    change, check = BAD[kind]
    vendor.history = {"A": raw()}
    get(cache, config())
    before = load_bars(config(), cache).bars.fingerprint()
    vendor.history = {"A": raw(rows=61, change=change)}
    vendor.keeps = None
    # The whole history is asked for again, since an overlap of thirty bars does not reach the change.
    cached = cache.read("yahoo", "1d", "A")
    cache.write(replace(cached, facts={"since": "2024-01-05 00:00:00+00:00"}))
    with pytest.raises(DataError, match=check) as caught:
        get(cache, config())
    assert caught.value.exit_code == 3
    assert f"--accept {check}" in caught.value.fix
    assert load_bars(config(), cache).bars.fingerprint() == before


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_first_answer_is_there_to_be_looked_at(cache: Cache, vendor: Vendor, kind: str) -> None:
    change, check = BAD[kind]
    vendor.history = {"A": raw(change=change)}
    with pytest.raises(DataError, match=check):
        get(cache, config())
    assert len(held(cache)) == 60
    with pytest.raises(DataError, match=check):
        load_bars(config(), cache)
    get(cache, config(accept=(check,)))
    assert len(load_bars(config(accept=(check,)), cache).bars) >= 58 if check != "constant" else True


def test_an_error_outside_the_dates_replaces_nothing_either(cache: Cache, vendor: Vendor) -> None:
    vendor.history = {"A": raw()}
    get(cache, config())

    def split_and_spoilt(frame: pd.DataFrame) -> None:
        split(frame)
        put(5, "close", -5.0)(frame)

    vendor.history = {"A": raw(rows=61, change=split_and_spoilt)}
    with pytest.raises(DataError, match="gives now has errors: price"):
        get(cache, config(start=date(2024, 2, 10)))
    assert held(cache)["close"].min() == 100.0


def test_a_source_that_fails_replaces_nothing(cache: Cache, vendor: Vendor) -> None:
    vendor.history = {"A": raw()}
    get(cache, config())
    vendor.history = {"A": DataError("Yahoo cannot be reached")}
    with pytest.raises(DataError, match="cannot be reached"):
        get(cache, config())
    assert len(held(cache)) == 60


def test_early_years_without_prices_can_be_left_out(cache: Cache, vendor: Vendor) -> None:
    def no_early_opens(frame: pd.DataFrame) -> None:
        frame.loc[:"2024-01-04", "open"] = 0.0

    vendor.history = {"A": raw(change=no_early_opens)}
    with pytest.raises(DataError, match="price") as caught:
        get(cache, config())
    assert "2024-01-01" in str(caught.value)
    late = config(start=date(2024, 1, 5))
    get(cache, late)
    assert len(load_bars(late, cache).bars) == 56


def test_a_cache_that_cannot_be_written_stops_the_fetch(tmp_path: Path, vendor: Vendor) -> None:
    (tmp_path / "data_cache").write_text("a file", encoding="utf-8")
    vendor.history = {"A": raw()}
    with pytest.raises(UsageError, match="cannot write to"):
        fetch(config(), cache=Cache(tmp_path / "data_cache"), progress=Silent())


def test_a_source_that_is_not_there_names_the_nearest(cache: Cache) -> None:
    with pytest.raises(UsageError, match="there is no source 'yaho'") as caught:
        fetch(DataConfig(source="yaho"), cache=cache, progress=Silent())
    assert "did you mean 'yahoo'?" in caught.value.fix


def test_an_interval_the_source_lacks_stops_the_fetch(cache: Cache) -> None:
    with pytest.raises(UsageError, match="daily bars"):
        fetch(DataConfig(interval="1h"), cache=cache, progress=Silent())

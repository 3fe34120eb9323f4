from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import pandas as pd
import pytest

from qtrade.data import load
from qtrade.data.cache import Cache
from qtrade.data.load import SOURCES, DataConfig, fetch, load_bars
from qtrade.data.raw import RawBars
from qtrade.errors import DataError, PartialError, QtradeError, UsageError
from qtrade.progress import Silent
from qtrade.settings import validated

Change = Callable[[pd.DataFrame], None]


def raw(
    symbol: str = "A",
    *,
    first: str = "2024-01-01",
    rows: int = 10,
    calendar: str = "24/7",
    change: Change | None = None,
) -> RawBars:
    index = pd.date_range(first, periods=rows, freq="D", tz="UTC", unit="ns")
    close = 100.0 + np.arange(rows)
    columns = {"open": close - 0.5, "high": close + 1, "low": close - 1, "close": close, "volume": 5.0}
    frame = pd.DataFrame({**columns, "dividends": 0.0, "splits": 0.0}, index=index)
    if change is not None:
        change(frame)
    return RawBars(symbol, "yahoo", "1d", calendar, "UTC", frame)


def put(row: int, column: str, value: float) -> Change:
    def change(frame: pd.DataFrame) -> None:
        frame.loc[frame.index[row], column] = value

    return change


@dataclass
class Vendor:
    """A stand-in for Yahoo with answers prepared for each symbol."""

    name: ClassVar[str] = "yahoo"
    answers: dict[str, RawBars | QtradeError] = field(default_factory=dict)

    def fetch(self, symbol: str, *, interval: str, start: pd.Timestamp | None, end: pd.Timestamp | None) -> RawBars:
        answer = self.answers[symbol]
        if isinstance(answer, QtradeError):
            raise answer
        return answer


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Vendor:
    vendor = Vendor()
    monkeypatch.setattr(load, "SOURCES", {"yahoo": lambda: vendor})
    return vendor


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "data_cache")


def config(*symbols: str, **values: Any) -> DataConfig:
    return DataConfig(source="yahoo", symbols=symbols or ("A",), **values)


def get(cache: Cache, chosen: DataConfig) -> None:
    fetch(chosen, cache=cache, progress=Silent()).require_all()


def test_the_sample_goes_from_fetch_to_bars_with_no_network(cache: Cache) -> None:
    chosen = DataConfig(symbols=("^GSPC", "^IXIC"), start=date(2008, 1, 1), end=date(2009, 1, 1))
    report = fetch(chosen, cache=cache, progress=Silent())
    report.require_all()
    assert [path.name for path in report.saved] == ["^GSPC.parquet", "^IXIC.parquet"]
    loaded = load_bars(chosen, cache)
    assert loaded.bars.symbols == ("^GSPC", "^IXIC")
    assert len(loaded.bars) == 253
    assert loaded.bars.periods_per_year == 252
    assert loaded.bars.calendar == "XNYS"
    assert loaded.notes == ()


def test_every_source_can_be_chosen() -> None:
    assert get_args(DataConfig.model_fields["source"].annotation) == tuple(SOURCES)
    assert all(kind.name == name for name, kind in SOURCES.items())


def test_bars_that_one_symbol_lacks_are_left_out_for_all_and_counted(cache: Cache, vendor: Vendor) -> None:
    holed = raw("B", first="2024-01-03", rows=12)
    holed = RawBars("B", "yahoo", "1d", "24/7", "UTC", holed.frame.drop(holed.frame.index[2]))
    vendor.answers = {"A": raw("A"), "B": holed}
    get(cache, config("A", "B"))
    loaded = load_bars(config("A", "B"), cache)
    assert [stamp.day for stamp in loaded.bars.index] == [3, 4, 6, 7, 8, 9, 10]
    assert loaded.notes == (
        "A: 3 of 10 bars left out because another symbol lacks them",
        "B: 4 of 11 bars left out because another symbol lacks them",
    )
    assert loaded.bars.close.to_numpy()[2].tolist() == [105.0, 103.0]


def test_symbols_keep_the_order_asked_for(cache: Cache, vendor: Vendor) -> None:
    vendor.answers = {"B": raw("B"), "A": raw("A")}
    get(cache, config("B", "A"))
    assert load_bars(config("B", "A"), cache).bars.symbols == ("B", "A")


def test_symbols_that_share_no_bar_are_a_data_error(cache: Cache, vendor: Vendor) -> None:
    vendor.answers = {"A": raw("A"), "B": raw("B", first="2025-01-01")}
    get(cache, config("A", "B"))
    with pytest.raises(DataError, match="the symbols share no bar") as caught:
        load_bars(config("A", "B"), cache)
    assert "B: 2025-01-01" in caught.value.why


def test_symbols_of_different_calendars_are_a_usage_error(cache: Cache, vendor: Vendor) -> None:
    vendor.answers = {"A": raw("A"), "B": raw("B", calendar="XNYS")}
    get(cache, config("A", "B"))
    with pytest.raises(UsageError, match="trade on different calendars") as caught:
        load_bars(config("A", "B"), cache)
    assert caught.value.why == "A: 24/7, B: XNYS"
    assert caught.value.exit_code == 2


def test_dates_cut_out_a_half_open_range(cache: Cache, vendor: Vendor) -> None:
    vendor.answers = {"A": raw()}
    get(cache, config())
    bars = load_bars(config(start=date(2024, 1, 4), end=date(2024, 1, 7)), cache).bars
    assert [stamp.day for stamp in bars.index] == [4, 5, 6]


def test_dates_without_bars_say_what_there_is(cache: Cache, vendor: Vendor) -> None:
    vendor.answers = {"A": raw()}
    get(cache, config())
    with pytest.raises(DataError, match="no bars from 2030-01-01 to the end") as caught:
        load_bars(config(start=date(2030, 1, 1)), cache)
    assert "2024-01-01" in caught.value.why
    assert "2024-01-10" in caught.value.why


def test_dividends_are_taken_out_unless_told_otherwise(cache: Cache, vendor: Vendor) -> None:
    vendor.answers = {"A": raw(change=put(5, "dividends", 10.4))}
    get(cache, config())
    raw_close = load_bars(config(adjust=False), cache).bars.close["A"]
    adjusted = load_bars(config(), cache).bars.close["A"]
    assert raw_close.iloc[4] == adjusted.iloc[4] == 104
    assert adjusted.iloc[5] == pytest.approx(raw_close.iloc[5] / 0.9)


@pytest.mark.parametrize("text", ["20120101", "2012-1-1", "01.02.2012", "1325376000", ""])
def test_a_date_is_written_out(text: str) -> None:
    with pytest.raises(UsageError, match="write the date as 2012-01-31"):
        validated(DataConfig, {"start": text})
    with pytest.raises(UsageError, match="write the date as 2012-01-31"):
        validated(DataConfig, {"end": 20120101})


def test_a_dividend_after_the_end_changes_nothing_before_it(cache: Cache, vendor: Vendor) -> None:
    until = config(end=date(2024, 1, 6))
    vendor.answers = {"A": raw()}
    get(cache, config())
    before = load_bars(until, cache).bars.fingerprint()
    vendor.answers = {"A": raw(change=put(7, "dividends", 10.0))}
    get(cache, config())
    assert load_bars(until, cache).bars.fingerprint() == before


def test_one_failing_symbol_leaves_the_others_saved(cache: Cache, vendor: Vendor) -> None:
    vendor.answers = {"A": raw("A"), "B": DataError("Yahoo has no symbol 'B'"), "C": raw("C")}
    report = fetch(config("A", "B", "C"), cache=cache, progress=Silent())
    assert [path.stem for path in report.saved] == ["A", "C"]
    assert list(report.failed) == ["B"]
    with pytest.raises(PartialError, match="1 of 3 symbols could not be fetched") as caught:
        report.require_all()
    assert caught.value.exit_code == 5
    assert "B: Yahoo has no symbol 'B'" in caught.value.why
    assert load_bars(config("A", "C"), cache).bars.symbols == ("A", "C")


def test_one_symbol_that_fails_alone_raises_its_own_error(cache: Cache, vendor: Vendor) -> None:
    vendor.answers = {"A": DataError("Yahoo has no symbol 'A'", fix="look it up")}
    with pytest.raises(DataError, match="Yahoo has no symbol 'A'") as caught:
        get(cache, config())
    assert caught.value.fix == "look it up"


def test_when_all_fail_the_error_is_about_data(cache: Cache, vendor: Vendor) -> None:
    vendor.answers = {"A": DataError("no A"), "B": DataError("no B")}
    with pytest.raises(DataError, match="no symbol could be fetched") as caught:
        get(cache, config("A", "B"))
    assert caught.value.exit_code == 3
    assert "no A" in caught.value.why
    assert "no B" in caught.value.why


def nothing_moves(frame: pd.DataFrame) -> None:
    frame[["open", "high", "low", "close"]] = 1.0


BAD_ANSWERS: Mapping[str, tuple[RawBars | QtradeError, str]] = {
    "the vendor's own error": (DataError("Yahoo cannot be reached"), "Yahoo cannot be reached"),
    "a hole": (raw(change=put(3, "low", np.nan)), "A: 'low' is nan at 2024-01-04"),
    "a zero": (raw(change=put(3, "open", 0.0)), "A: 'open' is 0.0 at 2024-01-04"),
    "an infinity": (raw(change=put(9, "close", np.inf)), "A: 'close' is inf at 2024-01-10"),
    "a negative price": (raw(change=put(0, "close", -1.0)), "A: 'close' is -1.0 at 2024-01-01"),
    "a negative volume": (raw(change=put(2, "volume", -5.0)), "A: 'volume' is -5.0 at 2024-01-03"),
    "a high below the close": (raw(change=put(2, "high", 100.0)), "A: high and low do not enclose"),
    "a dividend beyond the price": (raw(change=put(2, "dividends", 200.0)), r"A: the dividend 200\.0 on 2024-01-03"),
    "a missing dividend": (raw(change=put(2, "dividends", np.nan)), "A: the dividend nan on 2024-01-03"),
    "a negative dividend": (raw(change=put(0, "dividends", -1.0)), r"A: the dividend -1\.0 on 2024-01-01"),
    "a price that never moves": (raw(change=nothing_moves), "A: the close never changes"),
}


@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_a_bad_answer_is_refused_and_replaces_nothing(cache: Cache, vendor: Vendor, kind: str) -> None:
    vendor.answers = {"A": raw()}
    get(cache, config())
    before = load_bars(config(), cache).bars.fingerprint()
    answer, message = BAD_ANSWERS[kind]
    vendor.answers = {"A": answer}
    with pytest.raises(DataError, match=message) as caught:
        get(cache, config())
    assert caught.value.exit_code == 3
    assert load_bars(config(), cache).bars.fingerprint() == before


def test_early_years_without_prices_can_be_left_out(cache: Cache, vendor: Vendor) -> None:
    def no_early_opens(frame: pd.DataFrame) -> None:
        frame.loc[:"2024-01-04", "open"] = 0.0

    vendor.answers = {"A": raw(change=no_early_opens)}
    with pytest.raises(DataError, match="4 of 10 bars lack a price, the last one at 2024-01-04") as caught:
        get(cache, config())
    assert caught.value.fix.endswith("--start 2024-01-05")
    late = config(start=date(2024, 1, 5))
    get(cache, late)
    assert len(load_bars(late, cache).bars) == 6


def test_what_the_cache_holds_is_checked_again_when_loaded(cache: Cache) -> None:
    cache.write(raw(change=put(3, "low", np.nan)))
    with pytest.raises(DataError, match="A: 'low' is nan at 2024-01-04"):
        load_bars(config(), cache)


def test_a_symbol_never_fetched_names_the_command(cache: Cache) -> None:
    with pytest.raises(DataError) as caught:
        load_bars(config("^GSPC"), cache)
    assert f"`qtrade fetch '^GSPC' --source yahoo --interval 1d --cache {cache.root}`" in caught.value.fix


def test_a_cache_that_cannot_be_written_stops_the_fetch(tmp_path: Path, vendor: Vendor) -> None:
    (tmp_path / "data_cache").write_text("a file", encoding="utf-8")
    vendor.answers = {"A": raw()}
    with pytest.raises(UsageError, match="cannot write to"):
        fetch(config(), cache=Cache(tmp_path / "data_cache"), progress=Silent())


def test_an_interval_the_source_lacks_stops_the_fetch(cache: Cache) -> None:
    with pytest.raises(UsageError, match="daily bars"):
        fetch(DataConfig(interval="1h"), cache=cache, progress=Silent())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"interval": "1hour"}, "unknown interval '1hour'"),
        ({"source": "yaho"}, "'source' is not valid"),
        ({"symbols": ()}, "'symbols' is not valid"),
        ({"symbols": ("A", "A")}, "a symbol is named twice"),
        ({"symbols": ("",)}, "a symbol is 1 to 50 printable ASCII characters without spaces"),
        ({"symbols": (" ",)}, "a symbol is 1 to 50 printable ASCII characters without spaces"),
        ({"symbols": ("A\n",)}, "a symbol is 1 to 50 printable ASCII characters without spaces"),
        ({"symbols": ("A" * 51,)}, "a symbol is 1 to 50 printable ASCII characters without spaces"),
        ({"start": "2024-02-01", "end": "2024-02-01"}, "start 2024-02-01 is not before end 2024-02-01"),
        ({"start": "soon"}, "'start' is not valid"),
        ({"symbol": ("A",)}, "unknown key 'symbol'"),
    ],
)
def test_wrong_settings_are_usage_errors(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        validated(DataConfig, values)
    assert caught.value.exit_code == 2

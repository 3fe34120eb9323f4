from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qtrade.data.cache import Cache
from qtrade.data.config import DataConfig
from qtrade.data.fetch import fetch
from qtrade.data.load import load_bars
from qtrade.data.raw import Finding, RawBars
from qtrade.data.sources import SOURCES
from qtrade.errors import DataError, UsageError
from qtrade.progress import Silent
from qtrade.settings import validated
from qtrade.types import BAR_FIELDS

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


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "data_cache")


def config(*symbols: str, **values: Any) -> DataConfig:
    return DataConfig(source="yahoo", symbols=symbols or ("A",), **values)


def put_in(cache: Cache, *bars: RawBars) -> None:
    for one in bars:
        cache.write(one)


def test_the_sample_goes_from_fetch_to_bars_with_no_network(cache: Cache) -> None:
    chosen = DataConfig(symbols=("^GSPC", "^IXIC"), start=date(2008, 1, 1), end=date(2009, 1, 1))
    fetch(chosen, cache=cache, progress=Silent()).require_all()
    loaded = load_bars(chosen, cache)
    assert loaded.bars.symbols == ("^GSPC", "^IXIC")
    assert len(loaded.bars) == 253
    assert loaded.bars.periods_per_year == 252
    assert loaded.bars.calendar == "XNYS"
    assert loaded.notes == ()
    assert loaded.fingerprints["^IXIC"] == cache.read("sample", "1d", "^IXIC").fingerprint()


def test_every_source_can_be_chosen() -> None:
    assert [DataConfig(source=name).source for name in SOURCES] == list(SOURCES)
    assert all(make(DataConfig(), Silent()).name == name for name, make in SOURCES.items())


def holed() -> RawBars:
    """Later than A, longer than A, and without 5 January."""
    bars = raw("B", first="2024-01-03", rows=12)
    return replace(bars, frame=bars.frame.drop(bars.frame.index[2]))


def test_bars_that_one_symbol_lacks_are_left_out_for_all_and_counted(cache: Cache) -> None:
    put_in(cache, raw("A"), holed())
    loaded = load_bars(config("A", "B"), cache)
    assert [stamp.day for stamp in loaded.bars.index] == [3, 4, 6, 7, 8, 9, 10]
    assert loaded.notes[1:] == (
        "B begins at 2024-01-03; up to 2 earlier bars of the others are left out",
        "A ends at 2024-01-10; up to 4 later bars of the others are left out",
        "A: 1 of 8 bars left out because B lacks them",
    )
    assert loaded.notes[0].startswith("B: 'gaps' on 1 bar from 2024-01-05")
    assert loaded.bars.close.to_numpy()[2].tolist() == [105.0, 103.0]


def test_missing_bars_are_filled_in_when_asked_for(cache: Cache) -> None:
    put_in(cache, raw("A"), holed())
    loaded = load_bars(config("A", "B", missing="fill"), cache)
    assert [stamp.day for stamp in loaded.bars.index] == [3, 4, 5, 6, 7, 8, 9, 10]
    assert loaded.notes[3:] == ("B: 1 of 8 bars filled in with the close before, without volume",)
    row = {name: getattr(loaded.bars, name)["B"].iloc[2] for name in BAR_FIELDS}
    assert row == {"open": 101.0, "high": 101.0, "low": 101.0, "close": 101.0, "volume": 0.0}
    assert loaded.bars.close["A"].tolist() == [102.0, 103.0, 104.0, 105.0, 106.0, 107.0, 108.0, 109.0]


def test_nothing_is_filled_in_before_a_first_bar(cache: Cache) -> None:
    late = raw("B", first="2024-01-05", rows=6)
    gap = raw("A", rows=12)
    gap = replace(gap, frame=gap.frame.drop(gap.frame.index[[4, 5]]))  # no bar where B begins
    put_in(cache, gap, late)
    loaded = load_bars(config("A", "B", missing="fill"), cache)
    assert [stamp.day for stamp in loaded.bars.index] == [7, 8, 9, 10]


@pytest.mark.parametrize("missing", ["drop", "fill"])
def test_a_bar_is_filled_from_the_past_alone(cache: Cache, missing: str) -> None:
    """What comes after a date changes no bit before it, however the symbols are aligned."""
    put_in(cache, raw("A"), holed())
    until = config("A", "B", missing=missing, end=date(2024, 1, 7))
    before = load_bars(until, cache).bars.fingerprint()
    put_in(cache, raw("A", change=put(8, "close", 108.5)), replace(holed(), frame=holed().frame.iloc[:5]))
    assert load_bars(until, cache).bars.fingerprint() == before


def test_symbols_keep_the_order_asked_for(cache: Cache) -> None:
    put_in(cache, raw("B"), raw("A"))
    assert load_bars(config("B", "A"), cache).bars.symbols == ("B", "A")


def test_symbols_that_share_no_bar_are_a_data_error(cache: Cache) -> None:
    put_in(cache, raw("A"), raw("B", first="2025-01-01"))
    with pytest.raises(DataError, match="the symbols share no bar") as caught:
        load_bars(config("A", "B"), cache)
    assert "B: 2025-01-01" in caught.value.why


def test_symbols_of_different_calendars_are_a_usage_error(cache: Cache) -> None:
    put_in(cache, raw("A"), raw("B", calendar="XNYS"))
    with pytest.raises(UsageError, match="trade on different calendars") as caught:
        load_bars(config("A", "B"), cache)
    assert caught.value.why == "A: 24/7, B: XNYS"
    assert caught.value.exit_code == 2


def test_dates_cut_out_a_half_open_range(cache: Cache) -> None:
    put_in(cache, raw())
    bars = load_bars(config(start=date(2024, 1, 4), end=date(2024, 1, 7)), cache).bars
    assert [stamp.day for stamp in bars.index] == [4, 5, 6]


def test_dates_without_bars_say_what_there_is(cache: Cache) -> None:
    put_in(cache, raw())
    with pytest.raises(DataError, match="no bars from 2030-01-01 to the end") as caught:
        load_bars(config(start=date(2030, 1, 1)), cache)
    assert "2024-01-01" in caught.value.why
    assert "2024-01-10" in caught.value.why


def test_dividends_are_taken_out_unless_told_otherwise(cache: Cache) -> None:
    put_in(cache, raw(change=put(5, "dividends", 10.4)))
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


def test_a_dividend_after_the_end_changes_nothing_before_it(cache: Cache) -> None:
    until = config(end=date(2024, 1, 6))
    put_in(cache, raw())
    before = load_bars(until, cache).bars.fingerprint()
    put_in(cache, raw(change=put(7, "dividends", 10.0)))
    assert load_bars(until, cache).bars.fingerprint() == before


def test_what_the_cache_holds_is_checked_again_when_loaded(cache: Cache) -> None:
    cache.write(raw(change=put(3, "low", np.nan)))
    with pytest.raises(DataError, match=r"A: .*price") as caught:
        load_bars(config(), cache)
    assert "2024-01-04" in str(caught.value)
    assert "--accept price" in caught.value.fix


def test_an_accepted_error_is_mended_and_told(cache: Cache) -> None:
    cache.write(raw(change=put(3, "low", np.nan)))
    loaded = load_bars(config(accept=("price",)), cache)
    assert [stamp.day for stamp in loaded.bars.index] == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    (note,) = loaded.notes
    assert note.startswith("A: accepted 'price' on 1 bar from 2024-01-04")
    assert note.endswith("Those bars are left out; their dividends and splits move to the next bar.")


def test_an_error_outside_the_dates_is_none_of_our_business(cache: Cache) -> None:
    seen = Finding("duplicates", "error", 1, "2024-01-02 00:00:00+00:00", "2024-01-02 00:00:00+00:00", "two rows")
    cache.write(replace(raw(change=put(3, "low", np.nan)), findings=(seen,)))
    assert len(load_bars(config(start=date(2024, 1, 5)), cache).bars) == 6
    with pytest.raises(DataError, match="duplicates"):
        load_bars(config(end=date(2024, 1, 4)), cache)


def test_a_former_version_can_be_loaded_again(cache: Cache) -> None:
    first, second = raw(), raw(change=put(5, "close", 105.5))
    put_in(cache, first, second)
    assert load_bars(config(), cache).bars.close["A"].iloc[5] == 105.5
    former = load_bars(config(versions={"A": first.fingerprint()[:12]}), cache)
    assert former.bars.close["A"].iloc[5] == 105.0
    assert former.fingerprints == {"A": first.fingerprint()}


def test_a_cache_that_begins_later_than_asked_is_told(cache: Cache) -> None:
    cache.write(replace(raw(), facts={"since": "2024-01-01 00:00:00+00:00"}))
    assert load_bars(config(start=date(2024, 1, 1)), cache).notes == ()
    (note,) = load_bars(config(), cache).notes
    assert note == "A: the cache has bars since 2024-01-01 only, as they were fetched"


def test_a_symbol_never_fetched_names_the_command(cache: Cache) -> None:
    with pytest.raises(DataError) as caught:
        load_bars(config("^GSPC"), cache)
    assert f"`qtrade fetch '^GSPC' --source yahoo --interval 1d --cache {cache.root}`" in caught.value.fix


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"interval": "1hour"}, "unknown interval '1hour'"),
        ({"source": "../x"}, "'source' is not valid"),
        ({"symbols": ()}, "'symbols' is not valid"),
        ({"symbols": ("A", "A")}, "a symbol is named twice"),
        ({"symbols": ("",)}, "a symbol is 1 to 50 printable ASCII characters without spaces"),
        ({"symbols": (" ",)}, "a symbol is 1 to 50 printable ASCII characters without spaces"),
        ({"symbols": ("A\n",)}, "a symbol is 1 to 50 printable ASCII characters without spaces"),
        ({"symbols": ("A" * 51,)}, "a symbol is 1 to 50 printable ASCII characters without spaces"),
        ({"start": "2024-02-01", "end": "2024-02-01"}, "start 2024-02-01 is not before end 2024-02-01"),
        ({"start": "soon"}, "'start' is not valid"),
        ({"symbol": ("A",)}, "unknown key 'symbol'"),
        ({"accept": ("ohcl",)}, "did you mean 'ohlc'"),
        ({"versions": {"B": "12"}}, "versions names 'B', which is not among the symbols"),
        ({"missing": "ffill"}, "'missing' is not valid"),
    ],
)
def test_wrong_settings_are_usage_errors(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        validated(DataConfig, values)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("values", "symbols"),
    [
        ({"source": "file", "file": {"path": "bars/BTC-USD_1h.csv.gz"}}, ("BTC-USD_1h",)),
        ({"source": "file", "file": {"path": "bars/x.csv"}, "symbols": ("A",)}, ("A",)),
        ({"source": "synthetic"}, ("control",)),
        ({}, ("^GSPC",)),
    ],
)
def test_the_obvious_symbol_need_not_be_named(values: dict[str, Any], symbols: tuple[str, ...]) -> None:
    assert validated(DataConfig, values).symbols == symbols

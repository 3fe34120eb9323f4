"""Files of bars as people have them: names, numbers, times and order of every kind, and what is refused."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qtrade.data.importer import File, FileConfig
from qtrade.data.mend import mend
from qtrade.data.raw import RawBars
from qtrade.errors import DataError, QtradeError, UsageError
from qtrade.settings import validated
from qtrade.types import PRICE_FIELDS

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def hours(rows: int = 200, first: str = "2024-01-01", tz: str | None = "UTC") -> pd.DataFrame:
    """Two decimals an hour, always open; numbers that text keeps exactly."""
    close = 100 + np.arange(rows) % 13 / 4
    index = pd.date_range(first, periods=rows, freq="h", tz=tz, unit="ns", name="time")
    columns = {
        "open": close - 0.25,
        "high": close + 1,
        "low": close - 1,
        "close": close,
        "volume": np.arange(rows) * 1.0,
    }
    return pd.DataFrame(columns, index=index)


def days(rows: int = 40) -> pd.DataFrame:
    frame = hours(rows)
    return frame.set_axis(pd.date_range("2024-01-01", periods=rows, freq="B", tz="UTC", unit="ns", name="time"))


def stamps(frame: pd.DataFrame) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(frame.index)


def write(frame: pd.DataFrame, name: str = "A.csv", **options: Any) -> Path:
    path = Path(name)
    frame.to_csv(path, **options)
    return path


def read(
    path: Path | str = "A.csv",
    symbol: str = "A",
    interval: str = "1h",
    *,
    start: str | None = None,
    end: str | None = None,
    **values: Any,
) -> RawBars:
    config = validated(FileConfig, {"path": str(path), **values})
    first, stop = (None if text is None else pd.Timestamp(text, tz="UTC") for text in (start, end))
    return File(config).fetch(symbol, interval=interval, start=first, end=stop)


def refused(*words: str, code: int = 3, **options: Any) -> QtradeError:
    with pytest.raises(QtradeError) as caught:
        read(**options)
    assert caught.value.exit_code == code, str(caught.value)
    assert caught.value.fix or code == 2
    for word in words:
        assert word in str(caught.value)
    return caught.value


def assert_same(raw: RawBars, expected: pd.DataFrame) -> None:
    frame = raw.frame[list(expected.columns)]
    pd.testing.assert_frame_equal(frame, expected, check_freq=False, check_names=False, check_exact=True)


def checks(raw: RawBars) -> dict[str, tuple[str, int]]:
    return {one.check: (one.severity, one.count) for one in raw.findings}


def test_a_plain_file_is_read(tmp_path: Path) -> None:
    write(hours())
    raw = read()
    assert_same(raw, hours())
    assert (raw.symbol, raw.source, raw.calendar, raw.exchange_zone) == ("A", "file", "24/7", "UTC")
    assert raw.facts["file"] == "A.csv"
    assert raw.findings == ()


def test_dates_cut_out_a_half_open_range() -> None:
    write(hours())
    assert_same(read(start="2024-01-02", end="2024-01-03"), hours().iloc[24:48])


@pytest.mark.parametrize("time", ["Date", "DATETIME", "timestamp", "Open time", "", "Gmt time", "<DATE>"])
@pytest.mark.parametrize("style", [str.upper, str.title, lambda name: f"<{name.upper()}>", lambda name: name[0]])
def test_columns_are_found_in_any_spelling(time: str, style: Callable[[str], str]) -> None:
    frame = hours().rename(columns=style)
    if time == "Gmt time":
        write(frame.rename_axis("Local time"))
        refused("no column of times", "--columns time=")
        assert_same(read(columns={"time": "Local time"}), hours())
        return
    write(frame.rename_axis(time))
    assert_same(read(), hours())


def test_columns_can_be_named() -> None:
    frame = hours().rename(columns={"open": "a", "high": "b", "low": "c", "close": "d", "volume": "e"})
    write(frame.rename_axis("when"))
    named = "time=when, open=a,high=b,low=c,close=d,volume=e"
    assert_same(read(columns=named), hours())
    refused("no column 'dd'", "which is to be 'close'", "did you mean 'd'?", columns=named.replace("=d", "=dd"))


def test_a_wrong_name_of_a_column_is_a_usage_error() -> None:
    refused("there is no column 'closse'", "did you mean 'close'?", code=2, columns="closse=d")
    refused("write columns as open=o,close=c", code=2, columns="close")


def test_a_named_column_beats_a_recognised_one() -> None:
    frame = hours()
    frame["mid"] = frame["close"] + 0.5
    write(frame)
    assert read(columns={"close": "mid"}).frame["close"].iloc[0] == 100.5


@pytest.mark.parametrize("lost", ["open", "high", "low"])
def test_a_price_that_is_missing_beside_others_is_named(lost: str) -> None:
    write(hours().drop(columns=lost))
    refused(f"no column '{lost}'", f"--columns {lost}=")


def test_a_close_alone_stands_for_all_prices() -> None:
    write(hours()[["close"]])
    raw = read()
    assert checks(raw) == {"close_only": ("info", 200)}
    for name in PRICE_FIELDS:
        assert list(raw.frame[name]) == list(hours()["close"])
    assert not raw.frame["volume"].any()


def test_prices_that_may_be_negative_are_shifted() -> None:
    frame = hours()
    frame[list(PRICE_FIELDS)] -= 101
    write(frame)
    assert_same(read(offset=101.0), hours())


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_found(delimiter: str) -> None:
    write(hours(), sep=delimiter)
    assert_same(read(), hours())


def test_a_decimal_comma_is_read_when_told() -> None:
    write(hours(), sep=";", decimal=",")
    assert_same(read(decimal=","), hours())
    refused("is not a number", "data.file.decimal")
    write(hours())
    refused("columns and decimals are both told by ','", decimal=",")


def test_text_among_numbers_is_named_with_its_place() -> None:
    frame = hours().astype({"close": object})
    frame.iloc[3, 3] = "about 100"
    write(frame)
    refused("'about 100' in column 'close', row 4")


@pytest.mark.parametrize("text", ["1,000.5", "$100", "1e400e", "0x10"])
def test_numbers_that_are_not_plain_are_not_guessed(text: str) -> None:
    frame = hours().astype({"high": object})
    frame.iloc[0, 1] = text
    write(frame)
    refused(f"'{text}'")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("kind", ["int64", "float64"])
def test_epoch_numbers_are_told_apart_by_size(unit: str, kind: str) -> None:
    frame = hours()
    scale = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    numbers = stamps(frame).asi8 // scale
    write(frame.set_axis(pd.Index(numbers.astype(kind), name="ts")))
    assert_same(read(), hours())


def test_whole_numbers_of_eight_digits_are_dates() -> None:
    frame = days()
    write(frame.set_axis(pd.Index([int(f"{day:%Y%m%d}") for day in frame.index], name="date")))
    assert_same(read(interval="1d", calendar="XNYS"), days())


@pytest.mark.parametrize("written", ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y/%m/%d %H:%M", "%Y%m%dT%H%M%S"])
def test_naive_stamps_need_a_time_zone(written: str) -> None:
    frame = hours(tz=None)
    write(frame.set_axis(pd.Index(stamps(frame).strftime(written), name="date")))
    refused("without an offset", "--tz")
    raw = read(tz="Asia/Tokyo", calendar="24/7")
    assert raw.frame.index[0] == pd.Timestamp("2023-12-31 15:00", tz="UTC")
    assert raw.exchange_zone == "Asia/Tokyo"


def test_offsets_are_heeded_and_must_be_everywhere() -> None:
    frame = hours()
    local = stamps(frame).tz_convert("Europe/Berlin")
    write(frame.set_axis(local.rename("time")))
    assert_same(read(), hours())
    texts = [str(stamp) for stamp in local]
    texts[7] = texts[7].removesuffix("+01:00")
    write(frame.set_axis(pd.Index(texts, name="time")))
    refused("some stamps have an offset and some have none", "row 8")


@pytest.mark.parametrize(("tz", "first"), [("Europe/Berlin", "2024-10-26"), ("America/New_York", "2024-11-02")])
def test_an_hour_that_comes_twice_is_told_by_its_order(tz: str, first: str) -> None:
    frame = hours(72, first)
    naive = stamps(frame).tz_convert(tz).tz_localize(None)
    assert naive.has_duplicates
    write(frame.set_axis(naive.rename("time")))
    assert_same(read(tz=tz, calendar="24/7"), frame)


@pytest.mark.parametrize(("tz", "first"), [("Europe/Berlin", "2024-03-30"), ("America/New_York", "2024-03-09")])
def test_an_hour_that_is_left_out_is_no_gap(tz: str, first: str) -> None:
    frame = hours(72, first)
    naive = stamps(frame).tz_convert(tz).tz_localize(None)
    write(frame.set_axis(naive.rename("time")))
    assert_same(read(tz=tz, calendar="24/7"), frame)
    whole = pd.date_range(first, periods=72, freq="h", name="time")
    write(frame.set_axis(whole))
    refused(f"not all stamps can be times in {tz}", tz=tz, calendar="24/7")


def test_an_hour_that_may_be_either_is_refused() -> None:
    frame = hours(72, "2024-10-26", tz=None)  # a clock that never changes
    write(frame)
    refused("not all stamps can be times in Europe/Berlin", "with an offset", tz="Europe/Berlin", calendar="24/7")


@pytest.mark.parametrize("written", ["%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y"])
def test_day_and_month_are_told_by_the_order_of_rows(written: str) -> None:
    frame = days()
    write(frame.set_axis(pd.Index(stamps(frame).strftime(written), name="date")))
    assert_same(read(interval="1d", calendar="XNYS"), days())


def test_day_and_month_that_may_be_either_are_refused() -> None:
    frame = hours(3).set_axis(pd.Index(["03/04/2024", "04/04/2024", "05/04/2024"], name="date"))
    write(frame)
    assert read(interval="1d", calendar="24/7").frame.index[0] == pd.Timestamp("2024-04-03", tz="UTC")
    write(hours(2).set_axis(pd.Index(["03/04/2024", "04/05/2024"], name="date")))
    refused("may be day and month or month and day", "2024-01-31", interval="1d", calendar="24/7")


@pytest.mark.parametrize("time", ["00:00:00", "16:00:00", "00:00:00-05:00", "16:00:00-05:00"])
def test_daily_bars_carry_the_date_that_was_written(time: str) -> None:
    frame = days()
    write(frame.set_axis(pd.Index([f"{day:%Y-%m-%d} {time}" for day in frame.index], name="date")))
    assert_same(read(interval="1d", calendar="XNYS"), days())


def test_daily_bars_in_another_zone_carry_its_date() -> None:
    frame = days()
    evenings = (stamps(frame) - pd.Timedelta(hours=9)).strftime("%Y-%m-%d %H:%M+00:00")
    write(frame.set_axis(pd.Index(evenings, name="date")))
    assert_same(read(interval="1d", calendar="XTKS", tz="Asia/Tokyo"), days())


@pytest.mark.parametrize(
    ("interval", "freq", "first"),
    [("1wk", "W-FRI", "2024-01-01"), ("1mo", "ME", "2024-01-01"), ("3mo", "QE", "2024-01-01")],
)
def test_longer_bars_carry_the_beginning_of_their_period(interval: str, freq: str, first: str) -> None:
    frame = days(12)
    write(frame.set_axis(pd.date_range(first, periods=12, freq=freq, name="date")))
    index = read(interval=interval, calendar="XNYS").frame.index
    assert index[0] == pd.Timestamp(first, tz="UTC")
    assert len(index) == 12


def test_stamps_at_the_close_are_moved_to_the_opening() -> None:
    frame = hours()
    write(frame.set_axis((stamps(frame) + pd.Timedelta(hours=1)).rename("time")))
    assert_same(read(stamps="close"), hours())


def test_a_date_and_a_time_of_day_may_be_two_columns() -> None:
    frame = hours(tz=None)
    table = frame.reset_index(drop=True)
    table.insert(0, "Date", stamps(frame).strftime("%Y.%m.%d"))
    table.insert(1, "Time", stamps(frame).strftime("%H:%M"))
    write(table, index=False)
    assert_same(read(tz="UTC"), hours())


@pytest.mark.parametrize(("interval", "right"), [("1d", "1h"), ("15m", "1h"), ("30m", "1h")])
def test_bars_of_another_length_are_told(interval: str, right: str) -> None:
    write(hours())
    refused(f"has no {interval} bars", f"--interval {right},", interval=interval, tz="UTC", calendar="24/7")


def test_rows_out_of_order_are_sorted_and_told() -> None:
    frame = hours()
    write(frame.iloc[[*range(10), 12, 11, 10, *range(13, 200)]])
    raw = read()
    assert_same(raw, hours())
    assert checks(raw) == {"unordered": ("warning", 2)}


def test_newest_first_is_an_order_too() -> None:
    write(hours().iloc[::-1])
    assert_same(read(), hours())


def test_rows_that_repeat_are_dropped_and_those_that_differ_are_an_error() -> None:
    frame = hours()
    write(frame.iloc[[0, 1, 1, 2, 2, 2, *range(3, 200)]])
    raw = read()
    assert_same(raw, hours())
    assert checks(raw) == {"duplicates": ("warning", 3)}
    other = frame.iloc[[5]] * 1.5
    write(pd.concat([frame.iloc[:6], other, frame.iloc[6:]]))
    raw = read()
    assert checks(raw) == {"duplicates": ("error", 1)}
    assert raw.frame["close"].iloc[5] == 1.5 * frame["close"].iloc[5]
    with pytest.raises(DataError, match="duplicates"):
        mend(raw, ())


def test_rows_without_a_price_are_left_out_but_not_their_dividend() -> None:
    frame = hours().assign(dividends=0.0)
    frame.iloc[5, 3] = np.nan
    frame.iloc[5, 5] = 0.5
    write(frame)
    raw = read()
    assert checks(raw) == {"missing_price": ("warning", 1)}
    assert raw.frame["dividends"].iloc[5] == 0.5
    assert len(raw.frame) == 199


def test_dividends_are_recovered_from_adjusted_closes() -> None:
    frame = days()
    paid = {10: 0.75, 25: 1.5}
    factor = np.ones(40)
    for row, dividend in paid.items():
        factor[:row] *= 1 - dividend / frame["close"].iloc[row - 1]
    write(frame.assign(**{"Adj Close": (frame["close"] * factor).round(6)}))
    raw = read(interval="1d", calendar="XNYS")
    expected = np.zeros(40)
    for row, dividend in paid.items():
        expected[row] = dividend
    np.testing.assert_allclose(raw.frame["dividends"], expected, atol=1e-4)
    assert_same(raw, days())


def test_adjusted_closes_that_tell_of_a_split_are_refused() -> None:
    frame = days()
    write(frame.assign(**{"Adj Close": frame["close"] * np.where(np.arange(40) < 20, 0.25, 1.0)}))
    refused("do not tell of a dividend", "2024-01-29", interval="1d", calendar="XNYS")


def test_only_an_adjusted_close_is_the_close() -> None:
    write(days()[["close"]].rename(columns={"close": "Adj. Close"}))
    assert list(read(interval="1d", calendar="XNYS").frame["close"]) == list(days()["close"])


def test_one_long_file_holds_many_symbols() -> None:
    parts = [hours().assign(Ticker=name, close=hours()["close"] + 0.25 * number) for number, name in enumerate("AB")]
    write(pd.concat(parts))
    assert list(read(symbol="B").frame["close"]) == list(hours()["close"] + 0.25)
    refused("has no rows of C", "column 'Ticker' names them", symbol="C")


def test_a_folder_holds_a_file_for_each_symbol() -> None:
    Path("bars").mkdir()
    write(hours(), "bars/BTC-USD.csv")
    hours().to_parquet("bars/%5EX.parquet")
    assert_same(read("bars", "BTC-USD"), hours())
    assert_same(read("bars", "%5EX"), hours())
    Path("bars/%5EX.parquet").rename("bars/^X.parquet")
    assert_same(read("bars", "^X"), hours())
    refused("bars has no file of BTC-USB", "did you mean 'BTC-USD'?", path="bars", symbol="BTC-USB")


@pytest.mark.parametrize("index", ["stamps", "column", "naive"])
def test_parquet_is_read(index: str) -> None:
    frame = hours(tz=None if index == "naive" else "UTC")
    (frame.reset_index() if index == "column" else frame).to_parquet("A.parquet")
    assert_same(read("A.parquet", **({"tz": "UTC"} if index == "naive" else {})), hours())


def test_compressed_text_is_read() -> None:
    write(hours())
    Path("A.csv.gz").write_bytes(gzip.compress(Path("A.csv").read_bytes()))
    assert_same(read("A.csv.gz"), hours())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_encodings_are_found(encoding: str) -> None:
    frame = hours().rename(columns={"close": "Schluß"})
    write(frame, encoding=encoding)
    assert_same(read(columns={"close": "Schluß"}), hours())


def test_a_market_that_is_always_open_shows_it() -> None:
    write(days())
    refused("does not show when its market trades", "--calendar XNYS", interval="1d")
    frame = hours(500)
    clock = stamps(frame).tz_convert("America/New_York").tz_localize(None) + pd.Timedelta(hours=7)
    write(frame[clock.day_of_week < 5])
    assert read().calendar == "24/5"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tz": "Mars/Olympus"}, ["no time zone 'Mars/Olympus'"]),
        ({"calendar": "XNIS"}, ["unknown calendar 'XNIS'", "did you mean"]),
        ({"delimiter": ";;"}, ["'delimiter' is not valid"]),
        ({"stamps": "middle"}, ["'stamps' is not valid"]),
    ],
)
def test_wrong_options_are_usage_errors(values: dict[str, Any], words: list[str]) -> None:
    write(hours())
    refused(*words, code=2, **values)


def test_a_path_is_needed() -> None:
    with pytest.raises(UsageError, match="which file"):
        File(FileConfig()).fetch("A", interval="1h", start=None, end=None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is empty"]),
        (b" \n ", ["is empty"]),
        (b"time,open,high,low,close\n", ["has no rows"]),
        (b"\x00\xff\x00", ["A.csv"]),
        (b"just words", ["no column of times"]),
        (b"time,close\n2024-01-01 00:00Z,1\n2024-01-01 01:00Z,2,3,4\n", ["cannot be read as a table"]),
        (b"time,close\nyesterday,1\n", ["'yesterday' in row 1 is no time"]),
        (b"time,close\n,1\n", ["row 1 has no time"]),
        (b"time,close\n0001-01-01 00:00Z,1\n", ["between 1678 and 2261"]),
        (b"time,close\n99999999999999999999,1\n", ["A.csv"]),
        (b"time,close,close\n2024-01-01 00:00Z,1,2\n", ["A.csv"]),
        (b"time,close\n2024-01-01 00:00Z,\n", ["no row with all its prices"]),
    ],
)
def test_files_that_hold_no_bars_are_told(content: bytes, words: list[str]) -> None:
    Path("A.csv").write_bytes(content)
    if b"close,close" in content:
        assert list(read(calendar="24/7").frame["close"]) == [1.0]  # pandas calls the second one close.1
        return
    refused(*words)


@pytest.mark.parametrize("name", ["absent.csv", "absent.parquet"])
def test_a_missing_file_is_told(name: str) -> None:
    refused(f"{name} is missing", path=name)


def test_a_single_row_is_bars() -> None:
    write(hours(1))
    assert_same(read(calendar="24/7"), hours(1))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not here")
class TestRealFiles:
    @pytest.mark.parametrize("name", ["BTC-USD_1h_2025", "ETH-USD_1h_2025", "SOL-USD_1h_2025"])
    def test_crypto(self, name: str) -> None:
        raw = read(SHARED / f"{name}.csv", name)
        table = pd.read_csv(SHARED / f"{name}.csv")
        assert (raw.calendar, len(raw.frame), raw.findings) == ("24/7", len(table), ())
        assert list(raw.frame["close"]) == list(table["close"])
        assert str(raw.frame.index[0]) == table["datetime"].iloc[0]

    def test_currencies(self) -> None:
        path = SHARED / "EURUSD_1h_2017.csv"
        refused("--tz", path=path)
        raw = read(path, tz="UTC")
        assert (raw.calendar, len(raw.frame)) == ("24/5", 5000)
        assert raw.frame.index[0] == pd.Timestamp("2017-04-19 09:00", tz="UTC")

    def test_temperatures(self) -> None:
        raw = read(SHARED / "ETTh1.csv", tz="UTC", columns="close=OT", offset=100)
        assert (raw.calendar, len(raw.frame)) == ("24/7", 17_420)
        assert raw.frame["close"].iloc[0] == pytest.approx(130.531, abs=1e-3)

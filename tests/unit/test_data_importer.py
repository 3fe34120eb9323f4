from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qtrade.data.importer import File, FileConfig
from qtrade.data.raw import RAW_FIELDS, Finding, RawBars, adjust
from qtrade.errors import DataError, QtradeError, UsageError
from qtrade.settings import validated

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
DAILY = """Date,Open,High,Low,Close,Volume
2020-01-02,10,12,9,11,100
2020-01-03,11,13,10,12,200
2020-01-06,12,14,11,13,300
"""


def written(folder: Path, content: str | bytes, name: str = "acme.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def fetched(path: Path, interval: str = "1d", symbol: str = "ACME", **settings: Any) -> RawBars:
    settings = {"path": path, "calendar": "XNYS"} | settings
    return File(validated(FileConfig, settings)).fetch(symbol, interval=interval, start=None, end=None)


def refusal(path: Path, interval: str = "1d", **settings: Any) -> QtradeError:
    with pytest.raises(DataError) as caught:
        fetched(path, interval, **settings)
    assert caught.value.exit_code == 3
    assert caught.value.fix
    return caught.value


def stamps(raw: RawBars) -> list[str]:
    return [str(stamp) for stamp in raw.frame.index]


def days(*dates: str) -> list[str]:
    return [f"{date} 00:00:00+00:00" for date in dates]


def finding(raw: RawBars, check: str) -> Finding:
    (found,) = [one for one in raw.findings if one.check == check]
    return found


def hourly(clocks: list[str], **columns: list[float]) -> str:
    """A file with a close that counts the rows, under the stamps given."""
    names = ["time", "close", *columns]
    rows = [",".join(map(str, row)) for row in zip(clocks, range(1, len(clocks) + 1), *columns.values(), strict=True)]
    return "\n".join([",".join(names), *rows]) + "\n"


# --- the five real files, one configuration each ---------------------------------------------------------------------


def real(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"needs {name} of the shared data")
    return SHARED / name


@pytest.mark.parametrize(("name", "last"), [("BTC-USD", 113963.99), ("ETH-USD", 4115.83), ("SOL-USD", 199.68)])
def test_crypto_in_utc_loads_without_a_word_on_times(name: str, last: float) -> None:
    raw = fetched(real(f"{name}_1h_2025.csv"), "1h", name, calendar=None)
    assert (raw.calendar, raw.exchange_zone, raw.source, raw.symbol) == ("24/7", "UTC", "file", name)
    assert len(raw.frame) == 7196
    assert raw.frame["close"].iloc[-1] == last
    assert stamps(raw)[0] == "2025-01-01 00:00:00+00:00"
    assert stamps(raw)[-1] == "2025-10-28 00:00:00+00:00"
    assert [one.check for one in raw.findings] == ["calendar"]
    assert raw.facts["file"] == f"{name}_1h_2025.csv"


def test_euro_needs_a_time_zone_and_its_weekends_fit_utc() -> None:
    path = real("EURUSD_1h_2017.csv")
    assert "--tz" in refusal(path, "1h", calendar=None).fix
    raw = fetched(path, "1h", "EURUSD=X", tz="UTC", calendar=None)
    assert raw.calendar == "24/5"
    assert len(raw.frame) == 5000
    assert raw.facts["columns"]["time"] == ""
    # Currencies open on Sundays at 17:00 in New York; the hour in UTC moves with New York's clocks and not Europe's.
    index = pd.DatetimeIndex(raw.frame.index)
    opened = index[1:][np.diff(index.asi8) > 30 * 3_600_000_000_000].tz_convert("America/New_York")
    sundays = opened[opened.day_of_week == 6]
    assert len(sundays) == 40
    assert set(sundays.hour) == {17}
    for wrong in ("Europe/Berlin", "America/New_York"):
        assert "--calendar" in refusal(path, "1h", tz=wrong, calendar=None).fix


def test_a_temperature_is_one_price_that_an_offset_makes_positive() -> None:
    raw = fetched(real("ETTh1.csv"), "1h", columns="close=OT", offset=100, tz="UTC", calendar=None)
    assert (raw.calendar, len(raw.frame)) == ("24/7", 17420)
    assert raw.frame["close"].iloc[0] == 30.5310001373291 + 100
    assert raw.frame["low"].min() == pytest.approx(100 - 4.08, abs=1e-3)
    assert (raw.frame["open"] == raw.frame["close"]).all()
    assert {one.check for one in raw.findings} == {"close_only", "calendar"}
    assert raw.facts["columns"] == {"time": "date", "close": "OT"}


# --- columns ---------------------------------------------------------------------------------------------------------


def test_plain_daily_file(tmp_path: Path) -> None:
    raw = fetched(written(tmp_path, DAILY))
    assert tuple(raw.frame.columns) == RAW_FIELDS
    assert raw.frame.to_numpy().tolist() == [
        [10, 12, 9, 11, 100, 0, 0],
        [11, 13, 10, 12, 200, 0, 0],
        [12, 14, 11, 13, 300, 0, 0],
    ]
    assert stamps(raw) == days("2020-01-02", "2020-01-03", "2020-01-06")
    assert (raw.calendar, raw.exchange_zone, raw.findings) == ("XNYS", "America/New_York", ())
    assert all(dtype == np.float64 for dtype in raw.frame.dtypes)


@pytest.mark.parametrize(
    "header",
    [
        "DATETIME,OPEN,HIGH,LOW,CLOSE,VOLUME",
        "timestamp, open , high,low,close,volume",
        ",Open,High,Low,Close,Volume",
        "Unnamed: 0,open,high,low,close,volume",
        "<DATE>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>",
        "Open time,Open,High,Low,Close,Volume",
        "timestamp,1. open,2. high,3. low,4. close,5. volume",
        "t,o,h,l,c,v",
        '"Date","Open","High","Low","Last","Tick Volume"',
        "Date,Open Price,High Price,Low Price,Close Price,Vol.",
    ],
)
def test_common_spellings_are_recognised(tmp_path: Path, header: str) -> None:
    raw = fetched(written(tmp_path, DAILY.replace(DAILY.partition("\n")[0], header)))
    assert raw.frame.iloc[1].tolist() == [11, 13, 10, 12, 200, 0, 0]
    assert raw.findings == ()


def test_columns_may_be_named(tmp_path: Path) -> None:
    path = written(tmp_path, DAILY.replace("Date,Open,High,Low,Close,Volume", "Zeit,A,B,C,D,E"))
    error = refusal(path)
    assert "'Zeit', 'A'" in error.why
    assert "--columns time=" in error.fix
    raw = fetched(path, columns="time=Zeit,open=A,high=B,low=C,close=d,volume=E")
    assert raw.frame.iloc[0].tolist() == [10, 12, 9, 11, 100, 0, 0]
    assert raw.facts["columns"] == {"time": "Zeit", "open": "A", "high": "B", "low": "C", "close": "D", "volume": "E"}
    assert "did you mean 'Zeit'?" in refusal(path, columns={"time": "Zeitt", "close": "D"}).fix


def test_a_column_may_be_left_unread(tmp_path: Path) -> None:
    path = written(tmp_path, "Date,Price,Vol.\n01/15/2020,5,1.2M\n01/16/2020,6,3.4K\n")
    assert "line 2, column 'Vol.': '1.2M' is not a number" in refusal(path).what
    raw = fetched(path, columns="volume=")
    assert raw.frame["close"].tolist() == [5, 6]
    assert raw.frame["volume"].tolist() == [0, 0]


def test_two_columns_for_one_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "date,close,Close\n2020-01-02,1,2\n")
    assert "several columns that may be 'close'" in refusal(path).what
    assert fetched(path, columns="close=Close").frame["close"].tolist() == [2]
    twice = refusal(written(tmp_path, "date,close,close\n2020-01-02,1,2\n"))
    assert "rename" in twice.fix


def test_a_file_without_a_header_says_so(tmp_path: Path) -> None:
    assert "above it" in refusal(written(tmp_path, "2020-01-02,1.5,2\n2020-01-03,1,2\n")).fix


@pytest.mark.parametrize("lacking", ["open", "high", "low"])
def test_without_all_four_prices_the_close_stands_for_them(tmp_path: Path, lacking: str) -> None:
    raw = fetched(written(tmp_path, DAILY.replace(lacking.capitalize(), "other")))
    assert raw.frame["close"].tolist() == [11, 12, 13]
    assert (raw.frame[["open", "high", "low"]].to_numpy() == raw.frame[["close"]].to_numpy()).all()
    assert finding(raw, "close_only").severity == "info"
    assert f"no {lacking};" in finding(raw, "close_only").example


# --- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_found(tmp_path: Path, delimiter: str) -> None:
    assert fetched(written(tmp_path, DAILY.replace(",", delimiter))).frame["high"].tolist() == [12, 13, 14]


def test_other_delimiters_are_named(tmp_path: Path) -> None:
    assert fetched(written(tmp_path, DAILY.replace(",", "^")), delimiter="^").frame["high"].tolist() == [12, 13, 14]
    assert fetched(written(tmp_path, DAILY.replace(",", "\t")), delimiter="\\t").frame["high"].tolist() == [12, 13, 14]


def test_decimal_comma(tmp_path: Path) -> None:
    path = written(tmp_path, "Datum;Close\n31.01.2020;1,5\n03.02.2020;-0,25\n04.02.2020;1,25e2\n")
    assert "data.file.decimal=," in refusal(path).fix
    raw = fetched(path, decimal=",")
    assert raw.frame["close"].tolist() == [1.5, -0.25, 125]
    assert stamps(raw) == days("2020-01-31", "2020-02-03", "2020-02-04")


@pytest.mark.parametrize("cell", ["1.234,5", "1.5"])
def test_points_are_no_decimals_beside_a_decimal_comma(tmp_path: Path, cell: str) -> None:
    path = written(tmp_path, f"Datum;Close\n31.01.2020;1,5\n03.02.2020;{cell}\n")
    assert f"line 3, column 'Close': '{cell}' is not a number" in refusal(path, decimal=",").what


@pytest.mark.parametrize("cell", ['"1,234.5"', "$12", "12 USD", "12%", "True", "1.2.3", "0x10", "n.v.", "(5)", "1_000"])
def test_what_is_no_number_is_named_by_its_line(tmp_path: Path, cell: str) -> None:
    error = refusal(written(tmp_path, f"\n\ndate,close\n2020-01-02,1\n\n2020-01-03,{cell}\n2020-01-06,3\n"))
    assert error.what.startswith(f"acme.csv, line 6, column 'close': {cell.strip(chr(34))!r} is not a number")


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e400"])
def test_infinite_numbers_are_refused(tmp_path: Path, cell: str) -> None:
    assert "line 3" in refusal(written(tmp_path, f"date,close\n2020-01-02,1\n2020-01-03,{cell}\n")).what


def test_numbers_too_large_to_add_to_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "date,close\n2020-01-02,1.7e308\n")
    assert fetched(path).frame["close"].tolist() == [1.7e308]
    assert "too large" in refusal(path, offset=1e308).what


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("2020-01-02,1,2,3\n2020-01-03,1,2,3\n", "line 2 has more cells than the 3 columns"),
        ("2020-01-02,1,2\n2020-01-03,1,2,3\n", "line 3 has 4 cells, and the first line names 3 columns"),
        ('2020-01-02,1,2\n2020-01-03,"1,2\n', "line 3 has a quotation mark without its pair"),
    ],
)
def test_lines_unlike_the_others_are_named(tmp_path: Path, body: str, told: str) -> None:
    assert told in refusal(written(tmp_path, f"date,close,volume\n{body}")).what


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, "Date;Schlußkurs\n2020-01-02;5\n".encode(encoding))
    assert fetched(path, columns="close=Schlußkurs").frame["close"].tolist() == [5]


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", DAILY.encode("utf-16-le"), b"\x00" * 50, b"", b" \n\n", b"Date,Close\n"]
)
def test_what_is_no_text_or_has_no_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    refusal(written(tmp_path, content))


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_endings(tmp_path: Path, ending: str) -> None:
    path = written(tmp_path, DAILY.replace("\n", ending) + f",,,,,{ending}{ending}")
    assert fetched(path).frame["close"].tolist() == [11, 12, 13]
    bad = written(tmp_path, DAILY.replace("12,14", "12,x").replace("\n", ending))
    assert "line 4, column 'High'" in refusal(bad).what


def test_gzip(tmp_path: Path) -> None:
    assert len(fetched(written(tmp_path, gzip.compress(DAILY.encode()), "acme.csv.gz")).frame) == 3
    refusal(written(tmp_path, gzip.compress(DAILY.encode())[:40], "cut.csv.gz"))
    refusal(written(tmp_path, DAILY, "plain.csv.gz"))


# --- files, folders, symbols -----------------------------------------------------------------------------------------


def test_a_missing_path_or_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file is named") as caught:
        File(FileConfig()).fetch("ACME", interval="1d", start=None, end=None)
    assert "--path" in caught.value.fix
    assert "there is no file" in refusal(tmp_path / "none.csv").what
    assert refusal(Path("nul\0byte.csv")).exit_code == 3


def test_a_folder_has_a_file_for_each_symbol(tmp_path: Path) -> None:
    written(tmp_path, DAILY, "AAPL.csv")
    written(tmp_path, DAILY.replace("2020", "2021"), "%2E%2E%2F%78.csv")
    written(tmp_path, DAILY.replace("2020", "2019"), "BRK.B.csv")
    pd.DataFrame({"date": ["2018-01-02"], "close": [1.0]}).to_parquet(tmp_path / "^GSPC.parquet")
    assert stamps(fetched(tmp_path, symbol="AAPL"))[0].startswith("2020")
    assert stamps(fetched(tmp_path, symbol="../x"))[0].startswith("2021")
    assert stamps(fetched(tmp_path, symbol="BRK.B"))[0].startswith("2019")
    assert stamps(fetched(tmp_path, symbol="^GSPC"))[0].startswith("2018")
    assert "'AAPL'" in refusal(tmp_path, symbol="AAPLE").fix
    written(tmp_path, DAILY, "AAPL.parquet")
    assert "AAPL.csv and AAPL.parquet" in refusal(tmp_path, symbol="AAPL").what


def test_a_folder_is_never_left(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    written(tmp_path, DAILY, "secret.csv")
    refusal(tmp_path / "inner", symbol="../secret")


def test_a_long_file_holds_many_symbols(tmp_path: Path) -> None:
    path = written(
        tmp_path, "date,ticker,close\n2020-01-02,NA,1\n2020-01-02,007,2\n2020-01-03,NA,3\n2020-01-03,007,x\n"
    )
    assert fetched(path, symbol="NA").frame["close"].tolist() == [1, 3]
    assert "line 5" in refusal(path, symbol="007").what
    error = refusal(path, symbol="N")
    assert "column 'ticker'" in error.what
    assert "NA" in error.fix


def test_a_long_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "date,symbol,close\n2020-01-02,A,1\n2020-01-02,B,2\n")
    source = File(FileConfig(path=path, calendar="XNYS"))
    assert source.fetch("A", interval="1d", start=None, end=None).frame["close"].tolist() == [1]
    path.unlink()
    assert source.fetch("B", interval="1d", start=None, end=None).frame["close"].tolist() == [2]


def test_start_is_included_and_end_is_not(tmp_path: Path) -> None:
    source = File(FileConfig(path=written(tmp_path, DAILY), calendar="XNYS"))
    start, end = pd.Timestamp("2020-01-03", tz="UTC"), pd.Timestamp("2020-01-06", tz="UTC")
    assert stamps(source.fetch("A", interval="1d", start=start, end=end)) == days("2020-01-03")
    with pytest.raises(DataError, match="no 1d bars"):
        source.fetch("A", interval="1d", start=end + pd.Timedelta(days=1), end=None)


# --- Parquet ---------------------------------------------------------------------------------------------------------


def table(rows: int = 48, freq: str = "h") -> pd.DataFrame:
    close = 100 + np.arange(rows, dtype=float)
    index = pd.date_range("2020-01-02", periods=rows, freq=freq, tz="America/New_York")
    return pd.DataFrame({"open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 5}, index=index)


@pytest.mark.parametrize("shape", ["index", "named index", "column", "naive", "epoch", "text", "long"])
def test_parquet(tmp_path: Path, shape: str) -> None:
    frame = table()
    index = pd.DatetimeIndex(frame.index)
    utc = index.tz_convert("UTC")
    settings: dict[str, Any] = {}
    if shape == "named index":
        frame.index.name = "Datetime"
    elif shape == "column":
        frame = frame.reset_index(names="Timestamp")
    elif shape == "naive":
        frame.index = index.tz_localize(None)
        settings["tz"] = "America/New_York"
    elif shape == "epoch":
        frame = frame.reset_index(drop=True).assign(unix=utc.asi8 // 10**9 if utc.unit == "ns" else utc.asi8 // 10**6)
    elif shape == "text":
        frame = frame.reset_index(drop=True).astype("str").assign(date=[stamp.isoformat() for stamp in index])
    elif shape == "long":
        frame = pd.concat({"ACME": frame, "OTHER": frame + 1}, names=["symbol", "time"])
    frame.to_parquet(tmp_path / "acme.parquet")
    raw = fetched(tmp_path / "acme.parquet", "1h", calendar="24/7", **settings)
    assert list(raw.frame.index) == list(utc)
    assert raw.frame["close"].tolist() == list(np.arange(100.0, 148.0))
    assert raw.frame["volume"].tolist() == [5.0] * 48


@pytest.mark.parametrize("content", [b"", b"PAR1", DAILY.encode(), b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_what_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    refusal(written(tmp_path, content, "acme.parquet"))


def test_damaged_text_in_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"date": ["2020-01-02", "2020-01-03"], "close": [1.0, 2.0]})
    frame.to_parquet(path, compression=None, index=False)
    content = path.read_bytes()
    assert b"2020-01-03" in content
    path.write_bytes(content.replace(b"2020-01-03", b"\xff020-01-03"))
    assert "cannot be read as Parquet" in refusal(path).what


def test_a_bad_cell_of_parquet_is_named_by_its_row(tmp_path: Path) -> None:
    pd.DataFrame({"date": ["2020-01-02", "2020-01-03"], "close": ["1", "x"]}).to_parquet(tmp_path / "a.parquet")
    assert "a.parquet, row 2, column 'close': 'x'" in refusal(tmp_path / "a.parquet").what


def test_parquet_and_text_give_the_same_bars(tmp_path: Path) -> None:
    frame = table(30, "D")
    frame["close"] *= np.pi
    frame.to_csv(tmp_path / "a.csv")
    frame.to_parquet(tmp_path / "a.parquet")
    one, other = (fetched(tmp_path / f"a.{kind}") for kind in ("csv", "parquet"))
    assert one.fingerprint() == other.fingerprint()


# --- stamps ----------------------------------------------------------------------------------------------------------

MOMENTS = [datetime(2020, 1, 2, 14, 30, tzinfo=UTC) + timedelta(hours=number) for number in range(3)]


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000, 1_000_000_000])
@pytest.mark.parametrize("suffix", ["", ".0"])
def test_epochs_are_told_apart_by_magnitude(tmp_path: Path, unit: int, suffix: str) -> None:
    path = written(tmp_path, hourly([f"{int(moment.timestamp()) * unit}{suffix}" for moment in MOMENTS]))
    assert list(fetched(path, "1h").frame.index) == MOMENTS


def test_an_epoch_is_better_than_a_date_without_a_zone(tmp_path: Path) -> None:
    path = written(tmp_path, "unix,date,close\n1577975400,2020-01-02 14:30,1\n1577979000,2020-01-02 15:30,2\n")
    assert list(fetched(path, "1h").frame.index) == MOMENTS[:2]


def test_epoch_before_1973_goes_by_the_largest_of_the_file(tmp_path: Path) -> None:
    first = datetime(1962, 1, 2, tzinfo=UTC)
    moments = [first + timedelta(days=number) for number in range(6000)]
    path = written(tmp_path, hourly([str(int(moment.timestamp())) for moment in moments]))
    assert list(fetched(path, "1d").frame.index) == moments


def test_fractions_of_epoch_seconds(tmp_path: Path) -> None:
    path = written(tmp_path, hourly(["1577975400.25", "1577979000.25"]))
    assert stamps(fetched(path, "1h")) == ["2020-01-02 14:30:00.250000+00:00", "2020-01-02 15:30:00.250000+00:00"]


@pytest.mark.parametrize(
    "clocks",
    [
        ["2020-01-02 09:30:00-05:00", "2020-01-02 10:30:00-05:00"],
        ["2020-01-02T14:30:00Z", "2020-01-02T15:30:00Z"],
        ["2020-01-02 14:30:00 UTC", "2020-01-02 15:30:00 UTC"],
        ["02.01.2020 15:30:00.000 GMT+0100", "02.01.2020 16:30:00.000 GMT+0100"],
        ["2020-01-02 14:30+00:00", "2020-01-02T20:30:00.000+05"],
        ["20:00 2020", "x"],
    ],
)
def test_offsets_are_obeyed(tmp_path: Path, clocks: list[str]) -> None:
    path = written(tmp_path, hourly(clocks))
    if "x" in clocks:
        refusal(path, "1h")
    else:
        assert list(fetched(path, "1h").frame.index) == MOMENTS[:2]


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("time,close", ["2020-01-02 09:30,1", "2020-01-02 10:30,2"]),
        ("time,close", ["01/02/2020 09:30 AM,1", "01/02/2020 10:30 AM,2"]),
        ("time,close", ["20200102 093000,1", "20200102 103000,2"]),
        ("Date,Time,close", ["2020-01-02,09:30,1", "2020-01-02,10:30,2"]),
        ("<DATE>,<TIME>,<CLOSE>", ["2020.01.02,09:30:00,1", "2020.01.02,10:30:00,2"]),
        ("Date,Time,close", ["20200102,93000,1", "20200102,103000,2"]),
        ("Date,Time,close", ["20200102,0930,1", "20200102,1030,2"]),
    ],
)
def test_naive_stamps_are_localised(tmp_path: Path, header: str, rows: list[str]) -> None:
    settings: dict[str, Any] = {"tz": "America/New_York"}
    if "/" in rows[0]:
        rows = [*rows, "01/13/2020 09:30 AM,3"]  # without it, 2 January might be 1 February
    path = written(tmp_path, "\n".join([header, *rows]))
    assert list(fetched(path, "1h", **settings).frame.index)[:2] == MOMENTS[:2]
    assert "--tz" in refusal(path, "1h").fix


def test_close_stamps_move_intraday_bars_to_their_opening(tmp_path: Path) -> None:
    path = written(tmp_path, hourly(["2020-01-02 15:30Z", "2020-01-02 16:30Z"]))
    assert list(fetched(path, "1h", stamps="close").frame.index) == MOMENTS[:2]
    assert stamps(fetched(written(tmp_path, DAILY), stamps="close"))[0] == days("2020-01-02")[0]


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (["20191231", "20200101"], ["2019-12-31", "2020-01-01"]),
        (["12/31/2019", "01/01/2020"], ["2019-12-31", "2020-01-01"]),
        (["31/12/2019", "01/01/2020"], ["2019-12-31", "2020-01-01"]),
        (["31-Dec-2019", "01-Jan-2020"], ["2019-12-31", "2020-01-01"]),
        (["2019/12/31", "2020/01/01"], ["2019-12-31", "2020-01-01"]),
        (["1677-12-31", "1678-01-01"], None),
        (["2261-12-30", "2261-12-31"], ["2261-12-30", "2261-12-31"]),
        (["2261-12-31", "2262-01-01"], None),
        (["2019-12-31", "9999-12-31"], None),
        (["2019-12-31", "2020-02-30"], None),
        (["2019-12-31", "today"], None),
        (["now", "now"], None),
        (["1", "2"], None),
        (["20191331", "20200101"], None),
        (["99999999999999999999", "20200101"], None),
    ],
)
def test_dates(tmp_path: Path, dates: list[str], expected: list[str] | None) -> None:
    path = written(tmp_path, hourly(dates))
    if expected is None:
        refusal(path)
    else:
        assert stamps(fetched(path)) == days(*expected)


def test_a_date_that_may_be_two_is_refused(tmp_path: Path) -> None:
    months = [f"01/{month:02}/2020" for month in range(1, 13)]
    told = refusal(written(tmp_path, hourly(months)), "1mo").what
    assert "line 3" in told
    assert "'01/02/2020' may be 01 February 2020 or 02 January 2020" in told
    assert "2020-01-31" in refusal(written(tmp_path, hourly(months)), "1mo").fix


@pytest.mark.parametrize(
    ("clocks", "settings", "expected"),
    [
        # As yfinance writes days: midnight in New York, in winter and in summer.
        (["2020-03-06 00:00:00-05:00", "2020-03-09 00:00:00-04:00"], {}, ["2020-03-06", "2020-03-09"]),
        (["2020-03-06 00:00:00+09:00", "2020-03-07 00:00:00+09:00"], {}, ["2020-03-06", "2020-03-07"]),
        # The same in UTC: only a zone tells the date.
        (["2020-03-05 15:00:00Z", "2020-03-08 15:00:00Z"], {"tz": "Asia/Tokyo"}, ["2020-03-06", "2020-03-09"]),
        (["2020-03-05 15:00:00Z", "2020-03-08 15:00:00Z"], {"calendar": "XTKS"}, ["2020-03-06", "2020-03-09"]),
        (["2020-03-06 00:00:00Z", "2020-03-09 00:00:00Z"], {"tz": "America/New_York"}, ["2020-03-06", "2020-03-09"]),
        (["1583505000", "1583760600"], {"calendar": "XNYS"}, ["2020-03-06", "2020-03-09"]),
        (["2020-03-06 16:00:00", "2020-03-09 16:00:00"], {}, ["2020-03-06", "2020-03-09"]),
    ],
)
def test_days_have_their_local_date(
    tmp_path: Path, clocks: list[str], settings: dict[str, Any], expected: list[str]
) -> None:
    assert stamps(fetched(written(tmp_path, hourly(clocks)), **settings)) == days(*expected)


def test_a_day_that_is_on_two_dates_is_refused(tmp_path: Path) -> None:
    clocks = [f"2020-03-{day:02}T15:00:00Z" for day in range(1, 20)]
    assert "--tz" in refusal(written(tmp_path, hourly(clocks)), calendar=None).fix


def test_offsets_on_some_rows_only_are_refused(tmp_path: Path) -> None:
    error = refusal(written(tmp_path, hourly(["2020-01-02 10:00Z", "2020-01-02 11:00"])), "1h", tz="UTC")
    assert "line 3" in error.what


def test_a_row_without_a_time_is_refused_and_an_empty_one_left_out(tmp_path: Path) -> None:
    assert fetched(written(tmp_path, DAILY + "\n,,,,,\n2020-01-07,1,1,1,1,1\n")).frame["close"].tolist() == [
        11,
        12,
        13,
        1,
    ]
    assert "line 5, column 'Date'" in refusal(written(tmp_path, DAILY + ",1,1,1,1,1\n")).what


# --- daylight saving -------------------------------------------------------------------------------------------------

# When clocks change, in UTC: (zone, moment, offset before, offset after).
CHANGES = [
    ("Europe/Berlin", datetime(2021, 3, 28, 1, tzinfo=UTC), 1, 2),
    ("Europe/Berlin", datetime(2021, 10, 31, 1, tzinfo=UTC), 2, 1),
    ("America/New_York", datetime(2021, 3, 14, 7, tzinfo=UTC), -5, -4),
    ("America/New_York", datetime(2021, 11, 7, 6, tzinfo=UTC), -4, -5),
    # Ireland's winter time is the exception in its law, and flagged as such.
    ("Europe/Dublin", datetime(2021, 10, 31, 1, tzinfo=UTC), 1, 0),
]


@pytest.mark.parametrize(("zone", "change", "before", "after"), CHANGES)
@pytest.mark.parametrize("minutes", [15, 30, 60])
@pytest.mark.parametrize("newest_first", [False, True])
def test_clocks_changed_by_hand_come_back(
    tmp_path: Path, zone: str, change: datetime, before: int, after: int, minutes: int, newest_first: bool
) -> None:
    step = timedelta(minutes=minutes)
    moments = [change + step * number for number in range(-300, 300)]
    clocks = [f"{moment + timedelta(hours=before if moment < change else after):%Y-%m-%d %H:%M}" for moment in moments]
    if newest_first:
        clocks = clocks[::-1]
    raw = fetched(written(tmp_path, hourly(clocks)), f"{minutes}m", tz=zone, calendar="24/7")
    assert list(raw.frame.index) == moments
    numbers = list(range(1, 601))
    assert raw.frame["close"].tolist() == (numbers[::-1] if newest_first else numbers)


@pytest.mark.parametrize(
    ("zone", "clocks"),
    [
        ("Europe/Berlin", ["2021-03-28 01:00", "2021-03-28 02:00", "2021-03-28 03:00"]),
        ("America/New_York", ["2021-03-14 01:00", "2021-03-14 02:00", "2021-03-14 03:00"]),
    ],
)
def test_an_hour_that_never_was_is_refused(tmp_path: Path, zone: str, clocks: list[str]) -> None:
    error = refusal(written(tmp_path, hourly(clocks)), "1h", tz=zone, calendar="24/7")
    assert f"line 3, column 'time': '{clocks[1]}' was skipped by the clocks of {zone}" in error.what
    assert "--tz" in error.fix


@pytest.mark.parametrize(
    "clocks",
    [
        # Once only: the first time or the second?
        ["01:00", "02:00", "03:00", "04:00"],
        # The half hours are there once each, and in order.
        ["01:30", "02:00", "02:30", "03:00"],
        # Thrice is once too often.
        ["01:00", "02:00", "02:00", "02:00", "03:00"],
        # Out of order elsewhere, so that order tells nothing.
        ["01:00", "04:00", "03:00", "02:00", "02:00", "05:00", "06:00", "07:00"],
        # Torn apart.
        ["02:00", "05:00", "02:00", "06:00", "07:00"],
    ],
)
def test_an_hour_that_may_be_either_is_refused(tmp_path: Path, clocks: list[str]) -> None:
    path = written(tmp_path, hourly([f"2021-10-31 {clock}" for clock in clocks]))
    error = refusal(path, "30m" if "02:30" in clocks else "1h", tz="Europe/Berlin", calendar="24/7")
    assert "'2021-10-31 02:00' was shown twice by the clocks of Europe/Berlin" in error.what
    assert "UTC" in error.fix


def test_an_hour_with_gaps_is_told_by_the_step_back(tmp_path: Path) -> None:
    clocks = [f"2021-10-31 {clock}" for clock in ("01:45", "02:15", "02:45", "02:30", "03:00")]
    raw = fetched(written(tmp_path, hourly(clocks)), "15m", tz="Europe/Berlin", calendar="24/7")
    assert [stamp[11:16] for stamp in stamps(raw)] == ["23:45", "00:15", "00:45", "01:30", "02:00"]


# --- intervals -------------------------------------------------------------------------------------------------------


def stamped(first: str, count: int, **step: float) -> list[str]:
    return [
        f"{datetime.fromisoformat(first) + timedelta(**step) * number:%Y-%m-%d %H:%M:%S}" for number in range(count)
    ]


def month_ends(count: int, freq: str) -> list[str]:
    return [f"{day:%Y-%m-%d}" for day in pd.date_range("2020-01-31", periods=count, freq=freq)]


@pytest.mark.parametrize(
    ("interval", "freq", "first"),
    [
        ("1wk", "W-MON", "2020-02-03"),
        ("1wk", "W-FRI", "2020-01-27"),
        ("1wk", "W-SAT", "2020-01-27"),
        ("1wk", "W-SUN", "2020-02-02"),
        ("1mo", "ME", "2020-01-01"),
        ("1mo", "MS", "2020-02-01"),
        ("3mo", "QE", "2020-01-01"),
    ],
)
def test_longer_bars_are_stamped_where_the_calendar_has_them(
    tmp_path: Path, interval: str, freq: str, first: str
) -> None:
    raw = fetched(written(tmp_path, hourly(month_ends(12, freq))), interval)
    assert len(raw.frame) == 12
    assert str(raw.frame.index[0].date()) == first


@pytest.mark.parametrize(
    ("clocks", "asked", "right"),
    [
        (stamped("2020-01-01", 100, hours=1), "1d", "1h"),
        (stamped("2020-01-01", 100, hours=1), "30m", "1h"),
        (stamped("2020-01-01", 100, minutes=1), "5m", "1m"),
        (stamped("2020-01-01", 100, hours=4), "1h", "4h"),
        (stamped("2020-01-01", 100, days=1), "1h", "1d"),
        (stamped("2020-01-01", 100, days=1), "1wk", "1d"),
        (stamped("2020-01-06", 100, days=7), "1d", "1wk"),
        (month_ends(48, "ME"), "1d", "1mo"),
        (month_ends(48, "ME"), "3mo", "1mo"),
        (month_ends(20, "QE"), "1mo", "3mo"),
        (stamped("2020-01-01", 2, hours=1), "1d", "1h"),
    ],
)
def test_another_interval_is_named(tmp_path: Path, clocks: list[str], asked: str, right: str) -> None:
    path = written(tmp_path, hourly(clocks))
    error = refusal(path, asked, tz="UTC", calendar="24/7")
    assert f"no {asked} bars" in error.what
    assert error.fix.endswith(f"--interval {right}")
    assert len(fetched(path, right, tz="UTC", calendar="24/7").frame) == len(clocks)


def test_gaps_are_no_other_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    traded = np.sort(rng.choice(2000, 600, replace=False))  # most steps are longer than a minute
    clocks = [f"{datetime(2020, 1, 1) + timedelta(minutes=int(minute)):%Y-%m-%d %H:%M}" for minute in traded]
    assert len(fetched(written(tmp_path, hourly(clocks)), "1m", tz="UTC", calendar="24/7").frame) == 600
    sessions = [day + clock for day in ("2020-01-02 ", "2020-01-03 ", "2020-01-06 ") for clock in ("09:30", "13:30")]
    assert len(fetched(written(tmp_path, hourly(sessions)), "4h", tz="America/New_York").frame) == 6
    assert len(fetched(written(tmp_path, "date,close\n2020-01-02,5\n")).frame) == 1


# --- order, repetitions, gaps ----------------------------------------------------------------------------------------


def test_unordered_rows_are_sorted_and_told(tmp_path: Path) -> None:
    dates = ["2020-01-06", "2020-01-02", "2020-01-07", "2020-01-03"]
    raw = fetched(written(tmp_path, hourly(dates)))
    assert raw.frame["close"].tolist() == [2, 4, 1, 3]
    found = finding(raw, "unordered")
    assert (found.severity, found.count) == ("warning", 2)
    assert (found.first, found.last) == tuple(days("2020-01-02", "2020-01-03"))
    assert "line 3" in found.example


def test_repeated_rows(tmp_path: Path) -> None:
    rows = ["2020-01-02,1", "2020-01-03,2", "2020-01-03,2", "2020-01-06,3", "2020-01-06,4", "2020-01-02,1"]
    raw = fetched(written(tmp_path, "\n".join(["date,close", *rows])))
    assert raw.frame["close"].tolist() == [1, 2, 4]
    same, differing = (one for one in raw.findings if one.check == "duplicates")
    assert (same.severity, same.count, same.first, same.last) == ("warning", 2, *days("2020-01-02", "2020-01-03"))
    assert (differing.severity, differing.count, differing.first) == ("error", 1, *days("2020-01-06"))
    assert "lines 5 and 6" in differing.example
    assert "the later row is kept if accepted" in differing.example


def test_rows_without_a_price_are_left_out_and_their_actions_move_on(tmp_path: Path) -> None:
    text = """date,open,high,low,close,volume,dividends,stock splits
2020-01-02,10,10,10,10,5,0,0
2020-01-03,10,10,10,,5,0.5,2
2020-01-06,,,,,5,0.25,3
2020-01-07,10,10,10,10,,,
2020-01-08,10,10,10,10,7,0.125,1
2020-01-09,null,nan,NA,-,7,1,1
"""
    raw = fetched(written(tmp_path, text))
    assert stamps(raw) == days("2020-01-02", "2020-01-07", "2020-01-08")
    assert raw.frame["dividends"].tolist() == [0, 0.75, 0.125]
    assert raw.frame["splits"].tolist() == [0, 6, 0]
    assert raw.frame["volume"].tolist() == [5, 0, 7]
    found = finding(raw, "missing_price")
    assert (found.severity, found.count, found.first, found.last) == ("warning", 3, *days("2020-01-03", "2020-01-09"))
    assert finding(raw, "missing_volume").count == 1
    assert "no row with all its prices" in refusal(written(tmp_path, "date,close\n2020-01-02,\n")).what


# --- adjusted closes -------------------------------------------------------------------------------------------------


def vendor(close: list[float], dividends: dict[int, float]) -> list[float]:
    """Adjust as vendors do: from the last bar back, each dividend lowers all that was before."""
    adjusted, factor = [0.0] * len(close), 1.0
    for row in reversed(range(len(close))):
        adjusted[row] = close[row] * factor
        if row in dividends:
            factor *= 1 - dividends[row] / close[row - 1]
    return adjusted


def with_adjusted(close: list[float], adjusted: list[float], decimals: int | None) -> str:
    dates = pd.bdate_range("2010-01-04", periods=len(close)).strftime("%Y-%m-%d")
    rows = [
        f"{date},{one!r},{other if decimals is None else format(other, f'.{decimals}f')}"
        for date, one, other in zip(dates, close, adjusted, strict=True)
    ]
    return "\n".join(["Date,Close,Adj Close", *rows])


@pytest.mark.parametrize(("decimals", "tolerance"), [(None, 1e-9), (6, 1e-5), (2, 2e-2)])
def test_dividends_are_recovered_from_adjusted_closes(tmp_path: Path, decimals: int | None, tolerance: float) -> None:
    rng = np.random.default_rng(3)
    close = [round(float(price), 2) for price in 40 * np.exp(np.cumsum(rng.normal(0, 0.02, 800)))]
    dividends = {63: 0.4, 126: 0.45, 500: 8.0, 799: 0.5}
    raw = fetched(written(tmp_path, with_adjusted(close, vendor(close, dividends), decimals)))
    assert raw.frame["close"].tolist() == close
    found = raw.frame["dividends"].to_numpy()
    assert np.flatnonzero(found).tolist() == sorted(dividends)
    assert found[sorted(dividends)] == pytest.approx([dividends[row] for row in sorted(dividends)], abs=tolerance)
    if decimals is None:
        returns = adjust(raw.frame)["close"].pct_change().to_numpy()[1:]
        expected = [after / before - 1 for before, after in pairwise(vendor(close, dividends))]
        assert returns == pytest.approx(expected, abs=1e-12)


def test_rounding_of_small_prices_makes_no_dividends(tmp_path: Path) -> None:
    """Closes of long ago were divided by later splits and rounded to six decimals, and so were the adjusted ones."""
    rng = np.random.default_rng(4)
    exact = 0.1 * np.exp(np.cumsum(rng.normal(0, 0.03, 500)))
    adjusted = vendor(exact.tolist(), {250: 0.001})
    raw = fetched(written(tmp_path, with_adjusted([round(price, 6) for price in exact.tolist()], adjusted, 6)))
    assert np.flatnonzero(raw.frame["dividends"].to_numpy()).tolist() == [250]
    assert raw.frame["dividends"].iloc[250] == pytest.approx(0.001, rel=0.02)


@pytest.mark.parametrize("ratio", [2.0, 7.0, 0.1, 0.5])
def test_a_split_of_the_adjusted_close_is_refused(tmp_path: Path, ratio: float) -> None:
    close = [100.0] * 10 + [100.0 / ratio] * 10
    adjusted = [price / ratio for price in close[:10]] + close[10:]
    path = written(tmp_path, with_adjusted(close, adjusted, None))
    error = refusal(path)
    assert "2010-01-18" in error.what
    assert "--columns adj_close=" in error.fix
    assert not fetched(path, columns="adj_close=").frame["dividends"].any()


@pytest.mark.parametrize("adjusted", [[1.0, -1.0], [1.0, 0.0], [0.0, 1.0]])
def test_senseless_adjusted_closes_are_refused(tmp_path: Path, adjusted: list[float]) -> None:
    refusal(written(tmp_path, with_adjusted([1.0, 1.0], adjusted, None)))


def test_stated_dividends_win_over_adjusted_closes(tmp_path: Path) -> None:
    raw = fetched(written(tmp_path, "Date,Close,Adj Close,Dividends\n2020-01-02,100,98,0\n2020-01-03,100,100,1.5\n"))
    assert raw.frame["dividends"].tolist() == [0, 1.5]


def test_an_adjusted_close_alone_is_the_close(tmp_path: Path) -> None:
    raw = fetched(written(tmp_path, DAILY.replace("Close", "Adj Close")))
    assert raw.frame["close"].tolist() == [11, 12, 13]
    assert raw.frame["open"].tolist() == [10, 11, 12]
    assert finding(raw, "adjusted_close").severity == "info"


# --- calendars -------------------------------------------------------------------------------------------------------


def test_days_with_weekends_are_around_the_clock(tmp_path: Path) -> None:
    clocks = [stamp[:10] for stamp in stamped("2020-01-01", 60, days=1)]
    raw = fetched(written(tmp_path, hourly(clocks)), calendar=None)
    assert (raw.calendar, raw.exchange_zone) == ("24/7", "UTC")
    assert "9 of 9 Saturdays" in finding(raw, "calendar").example  # 2020-01-04 to 2020-02-29


def weekly_hours(weeks: int, skip: set[int], zone: str = "America/New_York") -> list[str]:
    """Hours from Sunday 17:00 to Friday 17:00 on New York's clock, without some hours of the day, in UTC."""
    hours = pd.date_range("2020-02-16 17:00", periods=weeks * 168, freq="h", tz=zone)
    clock = hours.tz_localize(None) + pd.Timedelta(hours=7)
    kept = hours[(clock.day_of_week < 5) & ~hours.hour.isin(list(skip))]
    return [f"{stamp:%Y-%m-%d %H:%M}Z" for stamp in kept.tz_convert("UTC")]


def test_currencies_are_told_by_their_hours_across_a_clock_change(tmp_path: Path) -> None:
    raw = fetched(written(tmp_path, hourly(weekly_hours(6, set()))), "1h", calendar=None)
    assert (raw.calendar, raw.exchange_zone) == ("24/5", "America/New_York")


@pytest.mark.parametrize(
    "clocks",
    [
        weekly_hours(6, {17}),  # futures rest for an hour a day
        weekly_hours(6, set(range(17)) | set(range(20, 24))),
        weekly_hours(1, set())[:80],  # no weekend to be seen
    ],
)
def test_other_markets_have_to_be_named(tmp_path: Path, clocks: list[str]) -> None:
    assert "--calendar XNYS" in refusal(written(tmp_path, hourly(clocks)), "1h", calendar=None).fix


def test_weekdays_alone_tell_no_calendar(tmp_path: Path) -> None:
    weekdays = pd.bdate_range("2020-01-01", periods=300).strftime("%Y-%m-%d").tolist()
    assert "--calendar" in refusal(written(tmp_path, hourly(weekdays)), calendar=None).fix
    mondays = pd.date_range("2020-01-06", periods=50, freq="7D").strftime("%Y-%m-%d").tolist()
    assert "--calendar" in refusal(written(tmp_path, hourly(mondays)), "1wk", calendar=None).fix


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"columns": {"opn": "o"}}, "did you mean 'open'?"),
        ({"columns": "opn=o"}, "did you mean 'open'?"),
        ({"columns": "open"}, "open=o,close=c"),
        ({"tz": "Europe/Berlim"}, "did you mean 'Europe/Berlin'?"),
        ({"tz": "../etc/passwd"}, "unknown time zone"),
        ({"tz": "America"}, "unknown time zone"),
        ({"tz": ""}, "unknown time zone"),
        ({"delimiter": ",,"}, "one sign"),
        ({"delimiter": "a"}, "one sign"),
        ({"delimiter": ",", "decimal": ","}, "both the delimiter and the decimal sign"),
        ({"decimal": "'"}, "decimal"),
        ({"offset": float("nan")}, "offset"),
        ({"stamps": "middle"}, "stamps"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        validated(FileConfig, settings)
    assert told in str(caught.value)


def test_unknown_intervals_and_calendars_are_wrong_usage(tmp_path: Path) -> None:
    path = written(tmp_path, DAILY)
    for settings in ({"interval": "1x"}, {"calendar": "XNYX"}):
        with pytest.raises(UsageError):
            fetched(path, **settings)


def test_columns_as_text_and_as_a_table_are_the_same() -> None:
    text = FileConfig.model_validate({"columns": "open = o, close=c,volume="})
    assert text == FileConfig(columns={"open": "o", "close": "c", "volume": ""})

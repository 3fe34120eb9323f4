"""The commands about data, as a user types them."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from qtrade.cli import main
from qtrade.data.cache import Cache
from qtrade.data.raw import RawBars


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Program = Callable[..., Answer]


@pytest.fixture
def qtrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Program:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["qtrade", *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        printed = capsys.readouterr()
        return Answer(int(stopped.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
def store() -> Cache:
    return Cache(Path("data_cache"))


def bars(symbol: str = "ACME", rows: int = 60, **columns: Any) -> RawBars:
    index = pd.date_range("2024-01-01", periods=rows, freq="D", tz="UTC", unit="ns")
    close = 100.0 + np.arange(rows) % 7
    plain = {"open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 5.0}
    frame = pd.DataFrame({**plain, "dividends": 0.0, "splits": 0.0, **columns}, index=index)
    return RawBars(symbol, "yahoo", "1d", "24/7", "UTC", frame)


def test_entries_are_listed(qtrade: Program, store: Cache) -> None:
    assert qtrade("data", "list").out == "nothing found\n"
    assert qtrade("fetch", "^GSPC").code == 0
    store.write(bars("<b>[red]x"))
    found = qtrade("data", "list", "--json")
    assert [(row["symbol"], row["source"], row["bars"], row["versions"]) for row in found.json] == [
        ("^GSPC", "sample", 5031, 1),
        ("<b>[red]x", "yahoo", 60, 1),
    ]
    table = qtrade("data", "list", "--source", "yahoo").out
    assert "<b>[red]x" in table
    assert "^GSPC" not in table


def test_a_damaged_entry_is_listed_with_what_is_wrong(qtrade: Program, store: Cache) -> None:
    path = store.write(bars())
    path.with_suffix(".json").write_text("{", encoding="utf-8")
    (row,) = qtrade("data", "list", "--json").json
    assert (row["symbol"], row["bars"]) == ("ACME", 0)
    assert "cannot be read" in row["note"]


def test_bars_are_summarised_and_drawn(qtrade: Program, store: Cache) -> None:
    store.write(bars(dividends=np.r_[np.zeros(59), 0.5]))
    answer = qtrade("data", "show", "ACME", "--bars", "30", "--out", "acme.png")
    assert answer.code == 0
    assert answer.out.splitlines()[-1] == "acme.png"
    with Image.open("acme.png") as picture:
        assert picture.size == (1200, 672)
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 10
    facts = qtrade("data", "show", "ACME", "--json").json
    assert (facts["bars"], facts["dividends"], facts["lowest"], facts["highest"]) == (60, 1, 99.0, 107.0)
    assert facts["picture"] == "ACME.png"


def test_a_symbol_that_is_not_there_names_the_nearest(qtrade: Program, store: Cache) -> None:
    store.write(bars())
    for command in ("show", "vintages", "verify", "remove"):
        answer = qtrade("data", command, "ACNE")
        assert answer.code == 3
        assert "has no bars" in answer.err
        assert "did you mean 'ACME'?" in answer.err


def test_a_symbol_with_two_entries_must_be_told_apart(qtrade: Program, store: Cache) -> None:
    store.write(bars())
    store.write(replace(bars(), interval="1wk", frame=bars().frame.iloc[::7]))
    answer = qtrade("data", "show", "ACME")
    assert answer.code == 2
    assert "1d from 'yahoo', 1wk from 'yahoo'" in answer.err.replace("bars ", "")
    assert qtrade("data", "show", "ACME", "--interval", "1wk").code == 0


def test_sound_bars_pass(qtrade: Program) -> None:
    qtrade("fetch", "^GSPC")
    answer = qtrade("data", "verify")
    assert answer.code == 0
    assert "data_cache/sample/1d/^GSPC.quality.json" in answer.out.replace("\\", "/")


def test_errors_end_a_verification_and_a_run_unless_accepted(qtrade: Program, store: Cache) -> None:
    high = 101.0 + np.arange(60) % 7
    high[10] = 50.0
    store.write(bars("BAD", high=high))
    store.write(bars())
    answer = qtrade("data", "verify")
    assert answer.code == 3
    assert "1 of 2 have errors: BAD" in answer.err
    assert "ohlc" in answer.out
    (row,) = [row for row in qtrade("data", "verify", "BAD", "--json").json if row["severity"] == "error"]
    assert (row["check"], row["count"], row["first"][:10]) == ("ohlc", 1, "2024-01-11")
    report = json.loads(store.path("yahoo", "1d", "BAD").with_suffix(".quality.json").read_text(encoding="utf-8"))
    assert row.items() >= report["findings"][0].items()


def test_a_file_that_was_altered_is_an_error_of_its_own(qtrade: Program, store: Cache) -> None:
    store.write(bars()).write_bytes(b"half")
    answer = qtrade("data", "verify", "--json")
    assert answer.code == 3
    assert [(row["check"], row["severity"]) for row in answer.json] == [("file", "error")]


def test_vintages_tell_how_far_returns_moved(qtrade: Program, store: Cache) -> None:
    store.write(bars(rows=50))
    store.write(bars())
    close = 100.0 + np.arange(60) % 7
    close[-1] *= 1.005
    store.write(bars(close=close))
    rows = qtrade("data", "vintages", "ACME", "--json").json
    assert [row["bars"] for row in rows] == [50, 60, 60]
    assert [(row["added"], row["changed"], row["moved"]) for row in rows] == [(0, 0, 0), (10, 0, 0), (0, 1, 1)]
    assert rows[2]["max bp"] == pytest.approx(1e4 * np.log(1.005), abs=0.01)
    assert rows[2]["at"] == "2024-02-29"


def test_a_vintage_that_cannot_be_read_is_listed_with_what_is_wrong(qtrade: Program, store: Cache) -> None:
    first = bars()
    path = store.write(first)
    store.write(bars(close=200.0 + np.arange(60)))
    path.with_name(f"ACME.{first.fingerprint()[:12]}.parquet").unlink()
    answer = qtrade("data", "vintages", "ACME", "--json")
    assert (answer.code, [row["bars"] for row in answer.json]) == (0, [60, 60])
    assert "is missing" in answer.json[0]["at"]
    assert qtrade("data", "vintages", "ACME").code == 0


def test_removing_asks_first(qtrade: Program, store: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(bars())
    monkeypatch.setattr("typer.confirm", lambda *words, **options: (_ for _ in ()).throw(SystemExit(1)))
    assert qtrade("data", "remove", "ACME").code == 1
    assert store.find("ACME")
    assert qtrade("data", "remove", "ACME", "--yes").code == 0
    assert not store.find("ACME")


def test_what_failed_is_a_table(qtrade: Program) -> None:
    answer = qtrade("fetch", "^GSPC", "^GSPD", "XXX")
    assert answer.code == 5
    assert answer.out == f"{Path('data_cache/sample/1d/^GSPC.parquet')}\n"
    assert "did you mean '^GSPC'?" in answer.err
    assert "2 of 3 symbols could not be fetched" in answer.err


def test_synthetic_markets_are_fetched_by_name(qtrade: Program, store: Cache) -> None:
    assert qtrade("fetch", "flip-7", "rw", "--source", "synthetic", "--set", "data.synthetic.bars=9000").code == 0
    entry = store.entry("synthetic", "1d", "flip-7")
    assert entry.current.rows == 9000
    assert {"scenario": "flip", "seed": 7}.items() <= entry.facts.items()
    assert entry.facts["oracle"]
    (row,) = [row for row in qtrade("data", "verify", "rw", "--json").json if row["severity"] == "error"] or [None]
    assert row is None


def test_files_are_fetched_with_one_command(qtrade: Program, store: Cache) -> None:
    frame = bars().frame[["open", "high", "low", "close", "volume"]]
    frame.rename_axis("Date").rename(columns=str.title).to_csv("prices.csv")
    assert qtrade("fetch", "--source", "file", "--path", "prices.csv").code == 0
    pd.testing.assert_frame_equal(
        store.read("file", "1d", "prices").frame[list(frame.columns)], frame, check_freq=False
    )
    frame.rename(columns={"close": "c", "open": "o"}).rename_axis("when").to_csv("odd.csv", sep=";")
    columns = "time=when,open=o,close=c"
    assert qtrade("fetch", "--source", "file", "--path", "odd.csv", "--columns", columns).code == 0
    assert store.read("file", "1d", "odd").frame["close"].equals(store.read("file", "1d", "prices").frame["close"])


def test_a_path_means_a_file(qtrade: Program, store: Cache) -> None:
    bars().frame[["open", "high", "low", "close"]].rename_axis("Date").to_csv("mine.csv")
    assert qtrade("fetch", "--path", "mine.csv").code == 0
    assert [path.parent.parent.name for path in store.find()] == ["file"]
    answer = qtrade("fetch", "--path", "mine.csv", "--source", "yahoo")
    assert (answer.code, "are about files" in answer.err) == (2, True)


def test_one_series_is_not_two_symbols(qtrade: Program, store: Cache) -> None:
    bars().frame[["close"]].rename_axis("Date").to_csv("mine.csv")
    answer = qtrade("fetch", "A", "B", "--path", "mine.csv")
    assert answer.code == 2
    assert "holds one series, and would be A and B" in answer.err


def test_a_folder_is_all_of_its_files(qtrade: Program, store: Cache) -> None:
    Path("many").mkdir()
    for name in ("A", "B.C", "%5EX"):
        bars().frame[["close"]].rename_axis("Date").to_csv(f"many/{name}.csv")
    assert qtrade("fetch", "--path", "many").code == 0
    assert sorted(row["symbol"] for row in qtrade("data", "list", "--json").json) == ["A", "B.C", "^X"]


def test_a_rewritten_file_is_told(qtrade: Program, store: Cache) -> None:
    frame = bars().frame[["close"]].rename_axis("Date")
    frame.to_csv("A.csv")
    qtrade("fetch", "--path", "A.csv")
    frame.mul(np.where(np.arange(60) < 20, 1.01, 1.0), axis=0).to_csv("A.csv")
    assert "20 bars changed and 0 gone, see `qtrade data vintages A`" in qtrade("fetch", "--path", "A.csv").err


def test_lists_may_be_typed_as_text(qtrade: Program) -> None:
    answer = qtrade("fetch", "^GSPC", "--set", "data.accept=ohlc,price")
    assert answer.code == 0
    assert qtrade("fetch", "^GSPC", "--set", "data.accept=ohcl").code == 2


def test_features_that_are_not_there_name_the_nearest(qtrade: Program) -> None:
    answer = qtrade("train", "--features", "defualt")
    assert (answer.code, "did you mean 'default'?" in answer.err) == (2, True)


def test_a_file_without_names_is_refused(qtrade: Program) -> None:
    Path("klines.csv").write_text(
        "1577836800000,100.0,101.0,99.0,100.5\n1577923200000,100,101,99,100\n", encoding="utf-8"
    )
    answer = qtrade("fetch", "--path", "klines.csv", "--columns", "time=1577836800000,close=100.5")
    assert (answer.code, "begins with numbers" in answer.err) == (3, True)


def test_the_warnings_of_the_data_are_in_the_report(qtrade: Program, store: Cache) -> None:
    raw = bars(rows=400)
    store.write(replace(raw, frame=raw.frame.drop(raw.frame.index[[50, 51]])))
    small = ["window.seq_len=16", "window.label_len=8", "split.train_size=160", "split.valid_size=40"]
    settings = [
        word for text in (*small, "split.step=100", "model=ridge", "features.set=minimal") for word in ("--set", text)
    ]
    answer = qtrade("train", "ACME", "--source", "yahoo", "--preset", "tiny", *settings)
    assert answer.code == 0, answer.err
    folder = Path(answer.out.strip().splitlines()[-1])
    notes = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["notes"]
    assert any(note.startswith("ACME: 'gaps' on 2 bars from 2024-02-20") for note in notes), notes
    versions = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))["data"]["versions"]
    assert versions == {"ACME": store.entry("yahoo", "1d", "ACME").current.id}

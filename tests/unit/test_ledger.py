"""The trial ledger: what is one trial and what is another, what counts on a market, and what cannot be undone."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qtrade.ledger
from qtrade.errors import DataError
from qtrade.ledger import Ledger, Market, Trial, Tried
from qtrade.types import Bars

DAYS = pd.date_range("2020-01-01", periods=30, freq="D", tz="UTC")
MARKET = Market(("AAA", "BBB"), "1d", DAYS[0], DAYS[9])
NOON = pd.Timestamp("2024-05-01 12:00", tz="UTC")


def make(**changes: Any) -> Trial:
    """A backtest of ten bars, apart from what is asked for."""
    values: dict[str, Any] = {
        "market": MARKET, "bars": 10, "snapshot": "s", "run": "r", "forecasts": "f", "kind": "backtest",
        "strategy": "sign(step=4)", "source": "code", "account": '{"delay": 1}', "sharpe": 0.1, "at": NOON,
    }  # fmt: skip
    return Trial(**(values | changes))


def scored(forecasts: str, at: pd.Timestamp = NOON) -> Trial:
    """An evaluation of forecasts, by itself no trade."""
    return make(forecasts=forecasts, kind="evaluation", strategy="", source="", account="", sharpe=None, at=at)


def net(*values: float, index: pd.DatetimeIndex = DAYS[:10]) -> pd.Series:
    """Ten returns, which begin with `values` and go on with zeros."""
    return pd.Series([*values, *[0.0] * (10 - len(values))], index=index)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "runs" / "trials.sqlite")


@pytest.mark.parametrize(
    "change",
    [
        {"forecasts": "g"},
        {"strategy": "sign(step=5)"},
        {"source": "other code"},
        {"account": '{"delay": 2}'},
        {"snapshot": "t"},
        {"market": replace(MARKET, symbols=("AAA",))},
        {"market": replace(MARKET, interval="1h")},
        {"market": replace(MARKET, first=DAYS[1])},
        {"market": replace(MARKET, last=DAYS[10])},
        {"forecasts": "fsign(step=4)", "strategy": "code", "source": ""},  # the same text, cut elsewhere
    ],
)
def test_what_makes_another_trial(change: dict[str, Any]) -> None:
    assert make(**change).id != make().id


@pytest.mark.parametrize(
    "change",
    [
        {"run": "another"},
        {"at": NOON + pd.Timedelta("1D")},
        {"kind": "sweep"},
        {"sharpe": 0.2},
        {"returns": net(0.1)},
        {"market": replace(MARKET, symbols=("BBB", "AAA"))},
        {"market": replace(MARKET, first=DAYS[0].as_unit("s"), last=DAYS[9].as_unit("ns"))},
    ],
)
def test_what_leaves_it_the_same_trial(change: dict[str, Any]) -> None:
    assert make(**change).id == make().id


@pytest.mark.parametrize(
    "change",
    [
        {"strategy": ""},
        {"kind": "evaluation"},
        {"sharpe": float("nan")},
        {"returns": net(float("inf"))},
        {"returns": net()[1:]},
        {"returns": net(index=DAYS[1:11])},
    ],
)
def test_a_trial_that_contradicts_itself_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"evaluation|undefined|finite"):
        make(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"symbols": ()},
        {"first": DAYS[10]},
        {"first": pd.Timestamp("2019-01-01")},
        {"last": DAYS[5].tz_convert("Asia/Tokyo")},
    ],
)
def test_a_market_needs_symbols_and_a_period_in_utc(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"symbol|UTC"):
        replace(MARKET, **change)


def test_market_of_bars() -> None:
    prices = pd.DataFrame(1.0, index=DAYS[:10], columns=["AAA", "BBB"])
    assert Market.of(Bars(prices, prices, prices, prices, prices, "1d", "24/7", 365.0)) == MARKET


def test_trials_come_back_as_they_were_in_the_order_recorded(ledger: Ledger) -> None:
    made = [make(strategy=f"s{number}", sharpe=number / 7, at=NOON - pd.Timedelta(number, "h")) for number in range(4)]
    made.append(scored("g", at=pd.Timestamp("2024-05-01 12:00:00.123456789", tz="UTC")))
    assert ledger.add(made) == 5
    assert ledger.trials() == made


def test_the_same_trial_again_is_not_new_and_changes_nothing(ledger: Ledger) -> None:
    assert ledger.add([make(), make()]) == 1
    assert ledger.add(iter([make(run="later", at=NOON + pd.Timedelta("1D"), sharpe=9.0), make(strategy="other")])) == 1
    assert ledger.trials() == [make(), make(strategy="other")]


def test_a_trial_of_a_sweep_is_given_its_returns_later_but_only_once(ledger: Ledger) -> None:
    ledger.add([make(kind="sweep"), make(kind="sweep", strategy="never backtested")])
    assert ledger.add([make(returns=net(0.1))]) == 0
    assert ledger.add([make(returns=net(0.2))]) == 0
    np.testing.assert_array_equal(ledger.variants(MARKET, DAYS[:10])[:, 0], net(0.1))
    assert ledger.trials()[0].kind == "sweep"


def test_a_batch_that_breaks_off_leaves_nothing(ledger: Ledger) -> None:
    ledger.add([make()])
    with closing(sqlite3.connect(ledger.path)) as raw:
        raw.execute(
            "CREATE TRIGGER full BEFORE INSERT ON trials WHEN NEW.strategy = 'b' "
            "BEGIN SELECT RAISE(ABORT, 'no space'); END"
        )
    with pytest.raises(DataError, match="no space"):
        ledger.add([make(strategy="a"), make(strategy="b")])
    assert ledger.trials() == [make()]


def test_reading_what_is_not_there_makes_nothing(ledger: Ledger) -> None:
    assert ledger.trials() == []
    assert ledger.tried(MARKET) == Tried(0, None)
    assert ledger.variants(MARKET, DAYS[:10]).shape == (10, 0)
    assert ledger.add([]) == 0
    assert not ledger.path.parent.exists()


@pytest.mark.parametrize(
    ("market", "same"),
    [
        (MARKET, True),
        (Market(("BBB", "CCC"), "1d", DAYS[9], DAYS[20]), True),  # one symbol, one bar
        (Market(("AAA",), "1d", DAYS[2], DAYS[3]), True),  # inside
        (Market(("AAA",), "1d", DAYS[10], DAYS[20]), False),  # the day after
        (Market(("AA", "A"), "1d", DAYS[0], DAYS[9]), False),  # a part of the name is another name
        (Market(("AAA",), "1h", DAYS[0], DAYS[9]), False),
    ],
)
def test_the_same_market_is_an_interval_a_symbol_and_some_time(ledger: Ledger, market: Market, same: bool) -> None:
    ledger.add([make()])
    assert ledger.trials(market) == ([make()] if same else [])
    assert ledger.tried(market).trials == same


def test_one_more_bar_does_not_wipe_the_memory(ledger: Ledger) -> None:
    ledger.add([make(strategy=str(number)) for number in range(5)])
    longer = replace(MARKET, last=DAYS[10])
    ledger.add([make(market=longer, bars=11, snapshot="t", forecasts="g")])
    assert ledger.tried(longer).trials == 6


def test_variance_is_of_the_known_sharpe_ratios(ledger: Ledger) -> None:
    ledger.add([make(strategy="undefined", sharpe=None), make(sharpe=0.1), scored("untraded")])
    assert ledger.tried(MARKET) == Tried(3, None)
    ledger.add([make(strategy="b", sharpe=0.4), make(strategy="c", sharpe=-0.2)])
    tried = ledger.tried(MARKET)
    assert tried.trials == 5
    assert tried.variance == pytest.approx(0.09)  # of 0.1, 0.4 and -0.2, over n - 1


def test_an_evaluation_counts_until_its_forecasts_are_traded_on_that_market(ledger: Ledger) -> None:
    ledger.add([scored("f"), scored("g")])
    assert ledger.tried(MARKET).trials == 2
    elsewhere = replace(MARKET, symbols=("CCC",))
    ledger.add([make(forecasts="g", market=elsewhere)])
    assert ledger.tried(MARKET).trials == 2, "a trade elsewhere does not stand for it"
    ledger.add([make(), make(strategy="b")])
    assert ledger.tried(MARKET).trials == 3, "two trades of f, and g"
    assert ledger.tried(elsewhere).trials == 1


@st.composite
def drawn_trials(draw: st.DrawFn) -> Trial:
    symbols = draw(st.sets(st.sampled_from("ABCD"), min_size=1))
    first, length = draw(st.integers(0, 20)), draw(st.integers(0, 9))
    market = Market(
        tuple(sorted(symbols)), draw(st.sampled_from(["1d", "1h"])), *map(pd.Timestamp, DAYS[[first, first + length]])
    )
    kind = draw(st.sampled_from(["backtest", "sweep", "evaluation"]))
    number = draw(st.integers(0, 5))
    return make(
        market=market,
        bars=length + 1,
        forecasts=draw(st.sampled_from("fgh")),
        kind=kind,
        strategy="" if kind == "evaluation" else f"s{number}",
        sharpe=None if kind == "evaluation" or number == 0 else number / 10,
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(drawn_trials(), min_size=1, max_size=20))
def test_counts_are_those_of_the_definition(made: list[Trial]) -> None:
    here = made[0].market
    same = [
        trial
        for trial in {trial.id: trial for trial in reversed(made)}.values()
        if trial.market.interval == here.interval
        if set(trial.market.symbols) & set(here.symbols)
        if trial.market.first <= here.last and here.first <= trial.market.last
    ]
    traded = [trial for trial in same if trial.kind != "evaluation"]
    untraded = {trial.id for trial in same} - {trial.id for trial in traded}
    untraded -= {trial.id for trial in same if trial.forecasts in {other.forecasts for other in traded}}
    known = [trial.sharpe for trial in traded if trial.sharpe is not None]
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "trials.sqlite")
        ledger.add(made)
        tried = ledger.tried(here)
    assert tried.trials == len(traded) + len(untraded)
    assert tried.variance == (pytest.approx(np.var(known, ddof=1)) if len(known) > 1 else None)


def test_variants_are_the_different_returns_on_exactly_these_stamps(ledger: Ledger) -> None:
    next_day = replace(MARKET, first=DAYS[1], last=DAYS[10])
    moved = pd.DatetimeIndex([*DAYS[:4], DAYS[4] + pd.Timedelta("1h"), *DAYS[5:10]])
    ledger.add(
        [
            make(returns=net(0.1, -0.2)),
            make(strategy="another snapshot", snapshot="t", returns=net(0.3, 1e-17)),
            make(strategy="twin", returns=net(0.1, -0.2)),
            make(strategy="one stamp moved", returns=net(0.7, index=moved)),
            make(strategy="a bar later", market=next_day, returns=net(0.8, index=DAYS[1:11])),
            make(strategy="elsewhere", market=replace(MARKET, symbols=("CCC",)), returns=net(0.9)),
            make(strategy="without"),
        ]
    )
    found = ledger.variants(MARKET, DAYS[:10].as_unit("s"))
    assert found.shape == (10, 2)
    np.testing.assert_array_equal(found[:, np.argsort(found[0])], np.c_[net(0.1, -0.2), net(0.3, 1e-17)])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trials SET sharpe = 9",
        "UPDATE OR REPLACE trials SET id = 'x'",
        "UPDATE returns SET net = x'00'",
        "DELETE FROM trials",
        "DELETE FROM returns",
    ],
)
def test_the_database_refuses_changes(ledger: Ledger, statement: str) -> None:
    ledger.add([make(returns=net(0.1))])
    with closing(sqlite3.connect(ledger.path)) as raw, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT OR REPLACE INTO trials SELECT 1, 'x', symbols, interval, first, last, bars, snapshot, run, forecasts, "
        "kind, strategy, source, account, 9, at, 252, 9, 0 FROM trials",
        "INSERT OR REPLACE INTO trials SELECT 7, id, symbols, interval, first, last, bars, snapshot, run, forecasts, "
        "kind, strategy, source, account, 9, at, 252, 9, 0 FROM trials",
        "INSERT OR REPLACE INTO returns SELECT trial, stamps, x'00' FROM returns",
    ],
)
def test_the_database_does_not_replace_what_is_there(ledger: Ledger, statement: str) -> None:
    ledger.add([make(returns=net(0.1))])
    with closing(sqlite3.connect(ledger.path)) as raw, raw:
        raw.execute(statement)
    assert ledger.trials() == [make()]
    assert ledger.variants(MARKET, DAYS[:10])[0, 0] == 0.1


def refused(ledger: Ledger) -> set[str]:
    """What reading and adding say to do; both refuse."""
    fixes = []
    for attempt in (ledger.trials, lambda: ledger.add([make(strategy="new")])):
        with pytest.raises(DataError, match="the trial ledger") as caught:
            attempt()
        assert caught.value.why
        fixes.append(caught.value.fix)
    return set(fixes)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "trials.sqlite")
    ledger.path.write_text("symbols,sharpe\n" * 100)
    (fix,) = refused(ledger)
    assert "move it away" in fix
    assert ledger.path.read_text() == "symbols,sharpe\n" * 100


def test_a_ledger_cut_off_is_refused(ledger: Ledger) -> None:
    ledger.add(make(strategy=str(number)) for number in range(100))
    with ledger.path.open("r+b") as file:
        file.truncate(ledger.path.stat().st_size // 2)
    (fix,) = refused(ledger)
    assert "restore" in fix


def test_returns_that_were_damaged_are_refused(ledger: Ledger) -> None:
    ledger.add([make(returns=net(0.1))])
    with closing(sqlite3.connect(ledger.path)) as raw, raw:
        raw.execute("DROP TRIGGER returns_no_UPDATE")
        raw.execute("UPDATE returns SET net = substr(net, 1, 9)")
    with pytest.raises(DataError, match="cannot be used"):
        ledger.variants(MARKET, DAYS[:10])


def test_a_ledger_of_a_newer_program_is_refused(ledger: Ledger) -> None:
    ledger.add([make()])
    with closing(sqlite3.connect(ledger.path)) as raw:
        raw.execute("PRAGMA user_version = 3")
    assert refused(ledger) == {"install a newer qtrade"}


def test_a_ledger_of_the_first_layout_is_read_and_goes_on(ledger: Ledger) -> None:
    ledger.add([make()])
    with closing(sqlite3.connect(ledger.path)) as raw:  # as it was before it knew bars in a year
        for column in ("periods_per_year", "effective_bars", "ruined"):
            raw.execute(f"ALTER TABLE trials DROP COLUMN {column}")
        raw.execute("PRAGMA user_version = 1")
    assert ledger.trials() == [make()]
    swept = make(kind="sweep", strategy="sign(step=5)", periods_per_year=252.0, effective_bars=4.5, ruined=False)
    assert ledger.add([swept, make(periods_per_year=252.0)]) == 1  # what is on record is not touched
    assert ledger.trials() == [make(), swept]
    assert ledger.tried(MARKET).trials == 2
    with closing(sqlite3.connect(ledger.path)) as raw, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw.execute("UPDATE trials SET effective_bars = 100")


def test_the_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "trials.sqlite")
    with closing(sqlite3.connect(ledger.path)) as raw:
        raw.execute("CREATE TABLE songs (title)")
    before = ledger.path.read_bytes()
    (fix,) = refused(ledger)
    assert "another folder" in fix
    assert ledger.path.read_bytes() == before


def test_a_file_left_empty_is_an_empty_ledger(ledger: Ledger) -> None:
    ledger.path.parent.mkdir()
    ledger.path.touch()
    assert ledger.trials() == []
    assert ledger.add([make()]) == 1


@pytest.mark.parametrize("taken", ["file in place of the folder", "folder in place of the file"])
def test_a_place_that_is_taken_is_refused(ledger: Ledger, taken: str) -> None:
    if taken.startswith("file"):
        ledger.path.parent.touch()
    else:
        ledger.path.mkdir(parents=True)
    with pytest.raises(DataError, match="the trial ledger") as caught:
        ledger.add([make()])
    assert "writable" in caught.value.fix


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_ledger_that_may_not_be_written_can_be_read(ledger: Ledger) -> None:
    ledger.add([make()])
    ledger.path.chmod(0o400)
    ledger.path.parent.chmod(0o500)
    try:
        assert ledger.trials() == [make()]
        with pytest.raises(DataError) as caught:
            ledger.add([make(strategy="new")])
        assert "writable" in caught.value.fix
    finally:
        ledger.path.parent.chmod(0o700)


def test_a_ledger_that_stays_locked_is_refused(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.add([make()])
    monkeypatch.setattr(qtrade.ledger, "_BUSY_SECONDS", 0.01)
    with closing(sqlite3.connect(ledger.path)) as raw:
        raw.execute("BEGIN EXCLUSIVE")
        (fix,) = refused(ledger)
    assert "another process" in fix


def test_a_sweep_of_thousands_is_one_short_transaction(ledger: Ledger) -> None:
    made = [make(kind="sweep", strategy=f"sign(step={number})", sharpe=number / 1e5) for number in range(3000)]
    assert ledger.add(made) == 3000
    assert ledger.add(made) == 0
    assert ledger.tried(MARKET).trials == 3000


def test_what_was_tried_with_other_accounts_counts_without_spreading_the_ratios(ledger: Ledger) -> None:
    market = make().market
    dear = [make(strategy=f"dear({one})", account="dear", sharpe=-one) for one in (1.0, 5.0)]
    mine = [make(strategy=f"mine({one})", account="mine", sharpe=one / 100) for one in (1.0, 2.0, 3.0)]
    ledger.add([*dear, *mine])
    found = ledger.tried(market, "mine")
    assert found.trials == 5
    assert found.variance == pytest.approx(1e-4)
    assert (ledger.tried(market).variance or 0) > 1
    assert ledger.tried(market, "unknown") == Tried(5, None)

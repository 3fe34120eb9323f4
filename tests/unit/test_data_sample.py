from __future__ import annotations

import pandas as pd
import pytest

from qtrade.calendars import known_stamps
from qtrade.data.sample import DATASETS, Sample
from qtrade.errors import DataError, UsageError


@pytest.mark.parametrize("symbol", list(DATASETS))
def test_the_sample_is_two_decades_of_daily_bars(symbol: str) -> None:
    raw = Sample().fetch(symbol, interval="1d", start=None, end=None)
    assert (raw.symbol, raw.source, raw.interval, raw.calendar) == (symbol, "sample", "1d", "XNYS")
    assert len(raw.frame) == 5031
    assert str(raw.frame.index[0]) == "1999-01-04 00:00:00+00:00"
    assert str(raw.frame.index[-1]) == "2018-12-31 00:00:00+00:00"
    assert raw.frame.index.dtype == "datetime64[ns, UTC]"
    assert raw.frame.notna().all().all()


def test_the_sample_lacks_only_days_that_no_rule_foretold() -> None:
    index = pd.DatetimeIndex(Sample().fetch("^GSPC", interval="1d", start=None, end=None).frame.index)
    expected = known_stamps(index[0], index[-1], "1d", "XNYS")
    assert len(index.difference(expected)) == 0
    assert len(expected.difference(index)) == 9


def test_dates_are_a_half_open_range() -> None:
    start, end = pd.Timestamp("2008-09-15", tz="UTC"), pd.Timestamp("2008-09-19", tz="UTC")
    frame = Sample().fetch("^GSPC", interval="1d", start=start, end=end).frame
    assert [stamp.day for stamp in frame.index] == [15, 16, 17, 18]
    assert frame["close"].tolist()[0] == pytest.approx(1192.70)  # the day Lehman Brothers failed


def test_an_unknown_symbol_names_those_there_are() -> None:
    with pytest.raises(DataError) as caught:
        Sample().fetch("^GSPX", interval="1d", start=None, end=None)
    assert caught.value.fix == "did you mean '^GSPC'? Others come with --source yahoo"
    assert caught.value.what == "the sample has no symbol '^GSPX'"
    with pytest.raises(DataError, match=r"it holds \^GSPC and \^IXIC alone") as caught:
        Sample().fetch("AAPL", interval="1d", start=None, end=None)
    assert caught.value.fix == "ask for one of these; others come with --source yahoo"
    assert caught.value.exit_code == 3


def test_dates_outside_the_sample_are_a_data_error() -> None:
    with pytest.raises(DataError, match="no 1d bars for these dates"):
        Sample().fetch("^GSPC", interval="1d", start=pd.Timestamp("2019-01-01", tz="UTC"), end=None)


def test_other_intervals_are_a_usage_error() -> None:
    with pytest.raises(UsageError, match="the sample has daily bars, not '1h'"):
        Sample().fetch("^GSPC", interval="1h", start=None, end=None)

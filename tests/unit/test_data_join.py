"""Two answers about one history: added to where they agree, asked for anew where they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrade.data.join import RewrittenError, compare, extend, rebuild
from qtrade.data.raw import Finding, RawBars
from qtrade.types import PRICE_FIELDS


def market(rows: int = 40, seed: int = 0) -> RawBars:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, rows)))
    index = pd.date_range("2024-01-01", periods=rows, freq="D", tz="UTC", unit="ns")
    columns = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": 1000.0}
    frame = pd.DataFrame({**columns, "dividends": 0.0, "splits": 0.0}, index=index)
    return RawBars("A", "yahoo", "1d", "24/7", "UTC", frame)


def part(raw: RawBars, start: int | None, stop: int | None) -> RawBars:
    return replace(raw, frame=raw.frame.iloc[start:stop])


def changed(raw: RawBars, row: int, column: str, value: float) -> RawBars:
    """The same history with another number in one place."""
    values = raw.frame[column].to_numpy().copy()
    values[row] = value
    return replace(raw, frame=raw.frame.assign(**{column: values}))


def halved(raw: RawBars, share: float = 0.5) -> RawBars:
    """What a vendor makes of its history after a split."""
    frame = raw.frame.copy()
    frame[[*PRICE_FIELDS, "dividends"]] *= share
    frame["volume"] /= share
    return replace(raw, frame=frame)


@given(st.integers(0, 2**32 - 1), st.data())
@settings(deadline=None, max_examples=50)
def test_overlapping_parts_of_one_history_make_the_whole(seed: int, data: st.DataObject) -> None:
    whole = market(seed=seed)
    start = data.draw(st.integers(0, 20))
    stop = data.draw(st.integers(start + 1, 40))
    first = data.draw(st.integers(0, stop - 1))
    last = data.draw(st.integers(max(start, first) + 1, 40))
    joined = extend(part(whole, start, stop), part(whole, first, last))
    pd.testing.assert_frame_equal(
        joined.frame, whole.frame.iloc[min(start, first) : max(stop, last)], check_freq=False, check_exact=True
    )


@given(st.integers(0, 29), st.sampled_from(["open", "high", "low", "close", "volume", "dividends", "splits"]))
@settings(deadline=None, max_examples=50)
def test_any_number_that_changed_in_the_overlap_is_seen(row: int, column: str) -> None:
    whole = market()
    fresh = part(whole, 10, 40)
    before = float(fresh.frame[column].to_numpy()[row])
    stored, other = part(whole, 0, 30), changed(fresh, row, column, before + 0.5 * (1 + before))
    if row < 20:
        with pytest.raises(RewrittenError, match="1 bars are no longer what they were"):
            extend(stored, other)
    else:
        assert extend(stored, other).frame.index.equals(whole.frame.index)


def test_what_is_stored_keeps_every_bit_within_the_noise_of_an_answer() -> None:
    whole = market()
    noisy = replace(whole, frame=whole.frame.astype(np.float32).astype(np.float64))
    assert not noisy.frame.equals(whole.frame)
    joined = extend(part(whole, 0, 30), part(noisy, 10, 40))
    assert joined.frame.iloc[:30].equals(whole.frame.iloc[:30])
    assert joined.frame.iloc[30:].equals(noisy.frame.iloc[30:])


@pytest.mark.parametrize("side", ["stored", "fresh"])
def test_a_bar_that_only_one_has_is_a_rewrite(side: str) -> None:
    whole = market()
    one, other = part(whole, 0, 30), part(whole, 10, 40)
    holed = {"stored": one, "fresh": other}[side]
    holed = replace(holed, frame=holed.frame.drop(whole.frame.index[20]))
    pair = (holed, other) if side == "stored" else (one, holed)
    with pytest.raises(RewrittenError):
        extend(*pair)


def test_another_calendar_is_a_rewrite() -> None:
    whole = market()
    with pytest.raises(RewrittenError):
        extend(part(whole, 0, 30), replace(part(whole, 10, 40), calendar="XNYS"))


def test_parts_that_share_no_bar_are_joined_with_a_warning() -> None:
    whole = market()
    joined = extend(part(whole, 0, 10), part(whole, 20, 40))
    assert len(joined.frame) == 30
    (finding,) = joined.findings
    assert (finding.check, finding.severity) == ("unverified_join", "warning")
    assert finding.first == str(whole.frame.index[20])


def test_all_that_there_is_takes_the_place_of_what_was_rewritten() -> None:
    whole = halved(market())
    assert rebuild(part(market(), 5, 30), whole) is whole


def test_bars_older_than_the_vendor_keeps_are_divided_as_it_divided_the_others() -> None:
    before, after = market(), halved(market())
    made = rebuild(part(before, 0, 30), part(after, 10, 40))
    np.testing.assert_allclose(made.frame.to_numpy(), after.frame.to_numpy(), rtol=1e-12)
    assert made.findings == ()


def test_older_bars_stay_as_they_are_beside_single_corrections() -> None:
    before = market()
    after = changed(before, 20, "close", 1.3)
    made = rebuild(part(before, 0, 30), part(after, 10, 40))
    assert made.frame.equals(after.frame)


def test_older_bars_that_fit_nothing_are_left_behind_and_named() -> None:
    before, other = market(), market(seed=1)
    made = rebuild(part(before, 0, 30), part(other, 10, 40))
    assert made.frame.equals(other.frame.iloc[10:])
    (finding,) = made.findings
    assert (finding.check, finding.count) == ("history_dropped", 10)
    assert finding.first == str(before.frame.index[0])


def test_findings_of_both_are_kept_and_counted_once() -> None:
    whole = market()

    def lacking(count: int, first: int, last: int) -> Finding:
        stamps = whole.frame.index
        return Finding("missing_price", "warning", count, str(stamps[first]), str(stamps[last]), "none")

    stored = replace(part(whole, 0, 30), findings=(lacking(2, 3, 12),))
    old = replace(part(whole, 10, 40), findings=(lacking(1, 12, 12),))
    assert extend(stored, old).findings == stored.findings
    new = replace(old, findings=(lacking(3, 33, 35),))
    assert extend(stored, new).findings == (lacking(5, 3, 35),)
    both = replace(old, findings=(lacking(2, 12, 35),))
    assert extend(stored, both).findings == (lacking(3, 3, 35),)


def test_bars_that_are_taken_back_are_named() -> None:
    whole = market()
    shorter = replace(whole, frame=whole.frame.drop(whole.frame.index[20:25]))
    (finding,) = rebuild(whole, shorter).findings
    assert (finding.check, finding.count) == ("history_dropped", 5)


def test_a_longer_past_moves_no_return() -> None:
    whole = market()
    moved = compare(part(whole, 10, 40), whole)
    assert (moved.added, moved.changed, moved.returns, moved.largest) == (10, 0, 0, 0.0)


def test_how_far_returns_moved_is_told() -> None:
    before = market()
    split = compare(before, halved(before))
    assert (split.shared, split.changed, split.returns) == (40, 40, 0)
    assert split.largest < 1e-8
    after = changed(before, 10, "close", 1.02 * float(before.frame["close"].to_numpy()[10]))
    moved = compare(part(before, 0, 30), after)
    assert (moved.shared, moved.added, moved.removed, moved.changed, moved.returns) == (30, 10, 0, 1, 2)
    assert moved.largest == pytest.approx(np.log(1.02) * 1e4)
    # Up on its own bar and down on the next one by as much: either may be named.
    assert moved.at in {str(stamp) for stamp in before.frame.index[10:12]}


def test_a_dividend_that_came_late_moves_a_return() -> None:
    before = market()
    moved = compare(before, changed(before, 10, "dividends", 1.0))
    price = float(before.frame["close"].to_numpy()[9])
    assert (moved.changed, moved.returns) == (1, 1)
    assert moved.largest == pytest.approx(-np.log(1 - 1 / price) * 1e4)

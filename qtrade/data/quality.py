"""What is wrong with bars, as far as they show it themselves.

A source reports what it saw on the way (`RawBars.findings`); the checks here look at the bars. Each looks at what the
ones before it would leave: a bar without a price has no dividend and makes no jump. Checks of the calendar look at
every stamp.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pandas as pd

from qtrade.calendars import LONGER_THAN_A_DAY, actual_stamps, intraday_length
from qtrade.data.checks import count_bars, make_finding
from qtrade.data.defects import bad_dividends, bad_volume, crossed, past, sound, unpriced, without
from qtrade.data.raw import Finding, RawBars, Severity
from qtrade.data.unadjusted import split_example, unadjusted_splits, usual_move
from qtrade.types import PRICE_FIELDS, Float64Array, IntArray

_ORDER = {"error": 0, "warning": 1, "info": 2}
# A multiple of usual moves beyond which a bar is an outlier.
_OUTLYING = 10.0


def examine(raw: RawBars, *, now: pd.Timestamp | None = None) -> tuple[Finding, ...]:
    """List all there is to know: the source's findings, then those of the checks, by severity and name.

    Parameters
    ----------
    now
        The time; later stamps are in the future.
    """
    now = now if now is not None else pd.Timestamp.now("UTC")
    return _sorted(raw.findings) + _sorted([*_errors(raw, now), *_on_calendar(raw, now), *_oddities(raw, now)])


def errors(raw: RawBars, *, now: pd.Timestamp | None = None) -> tuple[Finding, ...]:
    """List what stops a run unless it is accepted: the source's errors, then those of the checks."""
    now = now if now is not None else pd.Timestamp.now("UTC")
    return _sorted([one for one in raw.findings if one.severity == "error"]) + _sorted(_errors(raw, now))


def _errors(raw: RawBars, now: pd.Timestamp) -> list[Finding]:
    """Look for every error, each in what the ones before it would leave."""
    found = []
    index = raw.frame.index
    known = past(raw, now)
    if len(known) < len(index):
        rows = np.arange(len(known), len(index))
        found.append(make_finding("future", index, rows, f"it is {now:%Y-%m-%d %H:%M} UTC now"))
    empty = np.flatnonzero(unpriced(known))
    if len(empty):
        row = known.iloc[empty[0]]
        field = next(name for name in PRICE_FIELDS if not 0 < row[name] < np.inf)
        found.append(make_finding("price", known.index, empty, f"{field} is {row[field]}"))
    frame = without(known, empty)
    if len(frame) == 0:
        return found

    open_ended = np.flatnonzero(crossed(frame))
    if len(open_ended):
        row = frame.iloc[open_ended[0]]
        example = ", ".join(f"{name} {row[name]:.10g}" for name in PRICE_FIELDS)
        found.append(make_finding("ohlc", frame.index, open_ended, example))
    volume = np.flatnonzero(bad_volume(frame))
    if len(volume):
        found.append(make_finding("volume", frame.index, volume, f"volume is {frame['volume'].iloc[volume[0]]}"))
    dividends = np.flatnonzero(bad_dividends(frame))
    close = frame["close"].to_numpy()
    if len(dividends):
        at = dividends[0]
        example = f"a dividend of {frame['dividends'].iloc[at]:.10g}"
        if at:
            example += f" after a close of {close[at - 1]:.10g}"
        found.append(make_finding("dividends", frame.index, dividends, example))
    if len(close) > 1 and bool((close == close[0]).all()):
        found.append(make_finding("constant", frame.index, np.arange(len(close)), f"all of them close at {close[0]}"))
    splits = unadjusted_splits(frame, at_open=raw.interval not in LONGER_THAN_A_DAY)
    if len(splits):
        found.append(make_finding("split", frame.index, splits, split_example(frame, splits[0])))
    return found


def _on_calendar(raw: RawBars, now: pd.Timestamp) -> list[Finding]:
    """Compare the stamps with those of the calendar."""
    index = pd.DatetimeIndex(past(raw, now).index)
    if len(index) == 0:
        return []
    expected = actual_stamps(index[0], index[-1], raw.interval, raw.calendar)
    found = []
    missing = np.flatnonzero(~expected.isin(index))
    if len(missing):
        runs = _runs(missing)
        start, stop = max(runs, key=lambda run: run[1] - run[0])
        share = f"{len(missing) / len(expected):.3%} of {len(expected)} expected by {raw.calendar}"
        example = f"{share}; the longest gap begins at {expected[start]} and lacks {count_bars(stop - start)}"
        found.append(make_finding("gaps", expected, missing, example))
    surplus = np.flatnonzero(~index.isin(expected))
    if len(surplus):
        example = f"{len(surplus) / len(index):.3%} of {len(index)}"
        if len(surplus) > len(index) / 2:
            example += f"; check the time zone, and that these are {raw.interval} bars of {raw.calendar}"
        found.append(make_finding("off_calendar", index, surplus, example))
    return found


def _oddities(raw: RawBars, now: pd.Timestamp) -> list[Finding]:
    """Prices and volumes that are possible but odd."""
    frame = sound(raw, now)
    if len(frame) == 0:
        return []
    found = []
    close = frame["close"].to_numpy()
    outliers = _outliers(close)
    if len(outliers):
        at = outliers[0]
        example = f"close {close[at]:g} between {close[at - 1]:g} and {close[at + 1]:g}"
        found.append(make_finding("outliers", frame.index, outliers, example))
    stale = _stale(frame, raw.interval)
    if len(stale):
        start, stop = max(_runs(stale), key=lambda run: run[1] - run[0])
        example = f"{count_bars(stop - start)} from {frame.index[start]} on close at {close[start]:g}, as before"
        found.append(make_finding("stale", frame.index, stale, example))
    idle = np.flatnonzero(frame["volume"].to_numpy() == 0)
    if len(idle) == len(frame):
        found.append(make_finding("no_volume", frame.index, idle, "no bar has a volume"))
    elif len(idle):
        severity: Severity = "warning" if len(idle) > len(frame) / 5 else "info"
        example = f"{len(idle) / len(frame):.3%} of {len(frame)}"
        found.append(replace(make_finding("zero_volume", frame.index, idle, example), severity=severity))
    return found


def _outliers(close: Float64Array) -> IntArray:
    """Rows whose move is far outside those of the 25 bars on either side, and undone by the next one."""
    moves = np.diff(np.log(close))
    usual = usual_move(moves)
    there, back = moves[:-1], moves[1:]
    smaller = np.minimum(np.abs(there), np.abs(back))
    # Three times what is usual overall, so that the neighbours of few rows need to be looked at.
    undone = (there * back < 0) & (np.abs(there + back) < smaller / 4) & (smaller > 3 * usual)
    rows = np.flatnonzero(undone)
    if len(rows) == 0:
        return rows
    around = rows[:, None] + np.arange(-25, 27)
    near = np.where((around >= 0) & (around < len(moves)), np.abs(moves[around.clip(0, len(moves) - 1)]), np.nan)
    near[near == 0] = np.nan
    return rows[smaller[rows] > _OUTLYING * 1.4826 * np.nanmedian(near, axis=1)] + 1


def _stale(frame: pd.DataFrame, interval: str) -> IntArray:
    """Rows that repeat the prices of the one before for long; four times as long where nobody traded but others did."""
    repeats = np.ones(len(frame) - 1, dtype=np.bool_)
    for name in PRICE_FIELDS:
        repeats &= np.diff(frame[name].to_numpy()) == 0
    rows = np.flatnonzero(repeats) + 1
    length = intraday_length(interval)
    long = 3 if length is None else max(5, -(-pd.Timedelta(hours=1) // length))
    idle = frame["volume"].to_numpy() == 0
    explained = not idle.all()
    runs = [
        np.arange(start, stop)
        for start, stop in _runs(rows)
        if stop - start >= (4 * long if explained and idle[start:stop].all() else long)
    ]
    return np.concatenate(runs) if runs else np.empty(0, dtype=np.int64)


def _runs(rows: IntArray) -> list[tuple[int, int]]:
    """Split increasing positions into stretches without a gap, each from its start to the position after its end."""
    if len(rows) == 0:
        return []
    ends = np.flatnonzero(np.diff(rows) > 1)
    starts = rows[np.concatenate([[0], ends + 1])]
    stops = rows[np.concatenate([ends, [len(rows) - 1]])] + 1
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def _sorted(found: Collection[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(found, key=lambda one: (_ORDER[one.severity], one.check)))

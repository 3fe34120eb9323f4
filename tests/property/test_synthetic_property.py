"""Synthetic markets are sound for every seed and setting, and no bar depends on one after it, unless it says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrade.calendars import ALWAYS, periods_per_year
from qtrade.data.synthetic import SCENARIOS, Synthetic, SyntheticConfig
from qtrade.types import BAR_FIELDS, Bars

NAMES = st.sampled_from(sorted(SCENARIOS))
INTERVALS = st.sampled_from(["1m", "90m", "4h", "1d", "1wk", "1mo"])


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    bars = draw(st.integers(2, 600))
    return {
        "bars": bars,
        "change": draw(st.integers(1, bars - 1)),
        "phi": draw(st.floats(0, 0.999)),
        "beta": draw(st.floats(0, 2)),
        "sigma": draw(st.floats(1e-6, 0.05)),
        "seed": draw(st.integers(0, 2**63 - 1)),
        "horizon": 2,
    }


def frame(name: str, config: dict[str, Any], interval: str = "1d", **dates: pd.Timestamp) -> pd.DataFrame:
    source = Synthetic(SyntheticConfig(**config))
    return source.fetch(name, interval=interval, start=dates.get("start"), end=dates.get("end")).frame


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, other, check_exact=True, check_freq=False)


@given(NAMES, configs(), INTERVALS)
@settings(deadline=None, max_examples=40)
def test_bars_are_sound(name: str, config: dict[str, Any], interval: str) -> None:
    table = frame(name, config, interval)
    prices = table[["open", "high", "low", "close"]]
    assert len(table) == config["bars"]
    assert np.isfinite(table.to_numpy()).all()
    assert (table[list(BAR_FIELDS)] > 0).all(axis=None)
    assert (table["high"] == prices.max(axis=1)).all()
    assert (table["low"] == prices.min(axis=1)).all()
    assert (table[["dividends", "splits"]] == 0).all(axis=None)
    columns = {field: table[[field]].set_axis([name], axis=1) for field in BAR_FIELDS}
    Bars(**columns, interval=interval, calendar=ALWAYS, periods_per_year=periods_per_year(interval, ALWAYS))


@given(NAMES, configs(), st.data())
@settings(deadline=None, max_examples=40)
def test_dates_cut_and_change_nothing(name: str, config: dict[str, Any], data: st.DataObject) -> None:
    whole = frame(name, config, "4h")
    first = data.draw(st.integers(0, len(whole) - 1))
    stop = data.draw(st.integers(first + 1, len(whole)))
    dates = {"start": whole.index[first]} | ({"end": whole.index[stop]} if stop < len(whole) else {})
    same(frame(name, config, "4h", **dates), whole.iloc[first:stop])


@given(NAMES, configs(), st.integers(1, 500))
@settings(deadline=None, max_examples=40)
def test_a_longer_market_begins_with_the_same_bars(name: str, config: dict[str, Any], more: int) -> None:
    short, long = frame(name, config), frame(name, config | {"bars": config["bars"] + more})
    if name == "drift":  # Its turn is stretched over all bars; what the turn does not touch is the same.
        short, long = short[["volume"]], long[["volume"]]
    same(short, long.iloc[: len(short)])


@given(NAMES, configs())
@settings(deadline=None, max_examples=40)
def test_scenarios_are_control_before_their_change(name: str, config: dict[str, Any]) -> None:
    table, control = frame(name, config), frame("control", config)
    until = config["change"] if SCENARIOS[name].changes else {"control": config["bars"], "drift": 1}.get(name, 0)
    same(table.iloc[:until], control.iloc[:until])
    if SCENARIOS[name].changes and config["beta"] > 0.01:
        assert not table.iloc[until].equals(control.iloc[until])


@given(st.sampled_from([name for name in SCENARIOS if SCENARIOS[name].changes]), configs(), st.data())
@settings(deadline=None, max_examples=40)
def test_a_change_touches_no_earlier_bar(name: str, config: dict[str, Any], data: st.DataObject) -> None:
    later = data.draw(st.integers(config["change"], config["bars"] - 1))
    same(
        frame(name, config).iloc[: config["change"]],
        frame(name, config | {"change": later}).iloc[: config["change"]],
    )


@given(NAMES, configs(), st.integers(0, 10**18 - 1))
@settings(deadline=None, max_examples=40)
def test_seeds_repeat_and_differ(name: str, config: dict[str, Any], seed: int) -> None:
    table = frame(name, config)
    same(table, frame(name, config))
    named = frame(f"{name}-{seed}", config)
    same(named, frame(name, config | {"seed": seed}))
    if seed != config["seed"]:
        assert not np.isclose(named["volume"], table["volume"], rtol=1e-9).any()


@given(NAMES, configs())
@settings(deadline=None, max_examples=40)
def test_the_length_of_a_bar_is_only_a_stamp(name: str, config: dict[str, Any]) -> None:
    daily, weekly = frame(name, config, "1d"), frame(name, config, "1wk")
    same(daily, weekly.set_index(daily.index))

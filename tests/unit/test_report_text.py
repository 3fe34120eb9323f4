from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

from qtrade.backtest.metrics import Metrics, Relative
from qtrade.report.text import (
    METRICS,
    Cell,
    Kind,
    ahead,
    decimals,
    interval,
    metric_cell,
    metric_tables,
    number,
    p_value,
    period,
    points,
    reach,
    several,
    shade,
    stamp,
)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0.1234, "percent", "12.34%"),
        (0.1234, "signed_percent", "+12.34%"),
        (-0.5, "ratio", "\N{MINUS SIGN}0.50"),
        (0.5, "signed", "+0.50"),
        (1234567.0, "count", "1,234,567"),
        (0.000123456, "plain", "0.0001235"),
        (None, "percent", "\N{EN DASH}"),
        (math.nan, "count", "\N{EN DASH}"),
    ],
)
def test_numbers_have_one_spelling_each(value: float | None, kind: Kind, text: str) -> None:
    assert number(value, kind) == text


def test_intervals_do_not_break_across_lines() -> None:
    assert interval(-0.1, 0.25, "signed") == "[\N{MINUS SIGN}0.10,\N{NO-BREAK SPACE}+0.25]"


@pytest.mark.parametrize("bounds", [(None, None), (None, 0.1), (math.nan, math.nan)])
def test_an_interval_that_is_not_known_has_no_brackets(bounds: tuple[float | None, float | None]) -> None:
    assert interval(*bounds, "ratio") == "\N{EN DASH}"


@pytest.mark.parametrize("kind", ["percent", "signed_percent", "ratio", "signed", "count", "money"])
def test_what_rounds_to_nothing_has_no_sign(kind: Kind) -> None:
    assert number(-1e-9, kind) == number(1e-9, kind)
    assert number(1e-9, kind).startswith("0")


def test_money_is_grouped_and_signed() -> None:
    assert number(-12345.678, "money") == "\N{MINUS SIGN}12,345.68"


def test_of_many_names_a_few_are_told() -> None:
    assert several(["a", "b"]) == "a, b"
    assert several([str(place) for place in range(8)]) == "0, 1, 2, 3, 4, 5, 6, 7"
    assert several([str(place) for place in range(50)]) == "0, 1, 2 and 47 more"


def test_tiny_p_values_are_not_spelled_out() -> None:
    assert p_value(0.0312).endswith("0.031")
    assert "<" in p_value(1e-9)


def test_a_sharpe_ratio_never_comes_without_its_interval() -> None:
    cell = metric_cell({"sharpe": 0.4, "sharpe_low": -0.4, "sharpe_high": 1.2}, "sharpe")
    assert cell == Cell("0.40", interval(-0.4, 1.2, "ratio"))
    assert metric_cell({"sharpe": 0.4}, "sharpe").note == interval(None, None, "ratio")
    assert metric_cell({"sharpe": None}, "sharpe") == Cell("\N{EN DASH}")


def test_a_breakeven_cost_is_told_of_those_who_trade() -> None:
    key = "breakeven_cost_bps"
    assert metric_cell({key: 11251.65, "turnover_per_year": 0.1}, key) == Cell("\N{EN DASH}", "hardly trades")
    assert metric_cell({key: 11.25, "turnover_per_year": 1.0}, key) == Cell("11.25")
    assert metric_cell({key: 11.25}, key) == Cell("11.25")
    assert metric_cell({key: 11.25, "turnover_per_year": None}, key) == Cell("11.25")
    assert metric_cell({key: None, "turnover_per_year": 0.0}, key) == Cell("\N{EN DASH}", "hardly trades")


def test_an_information_ratio_carries_the_interval_of_its_error() -> None:
    told = {"information_ratio": -0.4, "information_ratio_se": 0.1}
    assert metric_cell(told, "information_ratio") == Cell("\N{MINUS SIGN}0.40", interval(-0.596, -0.204, "ratio"))
    assert metric_cell({"information_ratio": None, "information_ratio_se": None}, "information_ratio").note == ""


def test_gross_costs_and_net_stand_together_and_unknown_numbers_come_last() -> None:
    own = {"zeta": 1.5, "trades": 3.0, "net_annual_return": 0.06, "cost_annual": 0.02, "gross_annual_return": 0.08}
    tables = metric_tables({"mine": own | {"sharpe_se": 0.4}, "Buy and hold": {"trades": 1.0}})
    assert [table.caption for table in tables] == ["Return", "Trading", "Other numbers"]
    assert {table.columns for table in tables} == {("Measure", "mine", "Buy and hold")}
    assert [row[0].text for row in tables[0].rows] == [
        "Gross return per year",
        "Costs per year",
        "Net return per year",
    ]
    assert [[cell.text for cell in row] for row in tables[1].rows] == [["Fills", "3", "1"]]
    assert [[cell.text for cell in row] for row in tables[2].rows] == [["zeta", "1.5", "\N{EN DASH}"]]


def test_every_number_of_a_backtest_has_a_name() -> None:
    measured = {field.name for kind in (Metrics, Relative) for field in fields(kind)}
    within = {name for name in measured if name.endswith(("_se", "_low", "_high"))}
    assert measured - within <= set(METRICS)


def test_stamps_of_days_have_no_time() -> None:
    assert stamp(pd.Timestamp("2020-03-04", tz="UTC")) == "2020-03-04"
    assert stamp(pd.Timestamp("2020-03-04 05:00", tz="UTC")) == "2020-03-04 05:00"
    assert period(pd.date_range("2020-01-01", periods=3, freq="12h", tz="UTC")) == "2020-01-01 to 2020-01-02"


def test_one_bar_is_singular() -> None:
    assert [ahead(1), ahead(24)] == ["1 bar ahead", "24 bars ahead"]


def test_infinity_has_a_symbol() -> None:
    assert number(math.inf, "percent") == "\N{INFINITY}"
    assert number(-math.inf, "count") == "\N{MINUS SIGN}\N{INFINITY}"


def test_differences_of_r2_are_told_in_points() -> None:
    assert points(-0.0123) == "\N{MINUS SIGN}1.2\N{NO-BREAK SPACE}points"


@pytest.mark.parametrize(
    ("value", "level"), [(0.0, 0), (0.4, 2), (-0.4, -2), (5.0, 4), (-5.0, -4), (0.05, 0), (math.nan, 0)]
)
def test_shades_grow_with_the_value_up_to_the_deepest(value: float, level: int) -> None:
    assert shade(value, 0.8) == level


def test_a_wild_cell_does_not_pale_the_rest() -> None:
    assert reach(np.array([[np.nan, 0.1], [-0.1, 50.0]] + [[0.1, 0.1]] * 20)) == pytest.approx(0.1)
    assert reach(np.array([np.nan])) == 0.0


@pytest.mark.parametrize(("most", "digits"), [(0.2, 1), (0.004, 2), (0.0004, 3), (0.0, 1)])
def test_small_shares_get_decimals_enough_to_tell_them_apart(most: float, digits: int) -> None:
    assert decimals(most) == digits


def test_nothing_is_shaded_where_nothing_reaches_anywhere() -> None:
    assert shade(1.0, 0.0) == 0

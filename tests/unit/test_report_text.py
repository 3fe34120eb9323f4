from __future__ import annotations

import math

import pytest

from qtrade.report.text import Cell, Kind, interval, metric_cell, metric_table, number, p_value, points, shade


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


def test_gross_costs_and_net_stand_together_and_unknown_numbers_come_last() -> None:
    own = {"zeta": 1.5, "trades": 3.0, "net_annual_return": 0.06, "cost_annual": 0.02, "gross_annual_return": 0.08}
    table = metric_table("caption", {"mine": own | {"sharpe_se": 0.4}, "Buy and hold": {"trades": 1.0}})
    assert table.columns == ("", "mine", "Buy and hold")
    assert [row[0].text for row in table.rows] == [
        "Gross return per year",
        "Costs per year",
        "Net return per year",
        "Fills",
        "zeta",
    ]
    assert [cell.text for cell in table.rows[3]] == ["Fills", "3", "1"]
    assert [cell.text for cell in table.rows[4]] == ["zeta", "1.5", "\N{EN DASH}"]


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


def test_nothing_is_shaded_where_nothing_reaches_anywhere() -> None:
    assert shade(1.0, 0.0) == 0

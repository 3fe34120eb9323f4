from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from qtrade.evaluation.result import Evaluation
from qtrade.evaluation.skill import skill
from qtrade.forecasts import Forecasts
from qtrade.report.backtests import StrategyReport
from qtrade.report.markdown import WIDTH, escaped, render_markdown
from qtrade.report.page import ReportInput
from qtrade.types import Bars, Float64Array

EVIL = "<script>alert(1)</script> | [x](javascript:alert(1)) `code` **bold** # - _all_"


@pytest.fixture(name="report", scope="module")
def small_report(
    forecast_market: Callable[..., tuple[Bars, Forecasts, Float64Array]], evaluated: Callable[..., Evaluation]
) -> ReportInput:
    bars, forecasts, actual = forecast_market(("^GSPC",), bars=300, before=40, folds=5, horizon=6)
    found = {"informer": skill(forecasts, actual, np.zeros(len(forecasts)), (1, 6))}
    evaluation = evaluated(bars, forecasts, actual, found)
    metrics = {"net_annual_return": 0.06, "sharpe": 0.4, "sharpe_low": -0.43, "sharpe_high": 1.23, "max_drawdown": 0.1}
    luck = {"trials": 3, "psr_probability": 0.8, "dsr_probability": 0.6, "min_track_record_years": 17.5}
    equity = pd.Series(np.linspace(100.0, 120.0, 300), index=bars.index[40:])
    told = {"strategy": "forecast_sign", "spec": "x", "params": {"step": 6}, "metrics": metrics, "buy_and_hold": {}}
    return ReportInput(
        title="^GSPC · informer",
        run_name="run-1",
        generated="2025-01-01 00:00 UTC",
        source="synthetic",
        bars=bars,
        data_hash="ab" * 32,
        model="informer",
        verdict=evaluation.verdict,
        evaluation=evaluation,
        skill=found,
        forecasts=forecasts,
        actual=actual,
        costs="1 bp fees per fill",
        backtests=(StrategyReport(told, luck, equity, equity),),
        folds=pd.DataFrame(),
        config_toml="",
        commands=("qtrade run --config x.toml", "qtrade evaluate run-1"),
        notes=("2 rows left out",),
        size="preset tiny",
        trials=17,
    )


def tables(text: str) -> list[list[list[str]]]:
    """Cells of each table, with what is escaped put back."""
    found = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    split = [[re.split(r"(?<!\\)\|", line)[1:-1] for line in one.splitlines()] for one in found]
    return [[[re.sub(r"\\(.)", r"\1", cell.strip()) for cell in row] for row in one] for one in split]


def test_the_short_report_tells_the_same_story_in_the_same_order(report: ReportInput) -> None:
    text = render_markdown(report)
    assert text.startswith(f"# {report.verdict.headline}: ^GSPC · informer\n")
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert headings == [
        "What this is", "Gates", "Skill", "Trading", "What this report cannot tell", "How to reproduce it",
    ]  # fmt: skip
    flat = " ".join(text.split())
    for needed in (
        report.data_hash,
        "17 on this market so far",
        "informer (preset tiny), 6 bars ahead",
        "1 bp fees per fill",
        "2 rows left out",
        "    qtrade run --config x.toml\n    qtrade evaluate run-1\n",
    ):
        assert needed in flat or needed in text


def test_gates_skill_and_strategies_are_tables_with_every_row(report: ReportInput) -> None:
    gates, horizons, strategies = tables(render_markdown(report))
    assert [row[::2] for row in gates[2:]] == [[gate.code, gate.grade] for gate in report.evaluation.gates]
    assert [row[0] for row in horizons[2:]] == [str(one.horizon) for one in report.skill["informer"]]
    assert [row[0] for row in strategies[2:]] == ["forecast_sign", "Buy and hold"]
    assert strategies[2][2] == "0.40 [\N{MINUS SIGN}0.43,\N{NO-BREAK SPACE}1.23]".replace("\N{NO-BREAK SPACE}", " ")
    assert "60.0% of 3 trials" in strategies[2]
    for table in (gates, horizons, strategies):
        assert len({len(row) for row in table}) == 1


def test_running_text_fits_a_terminal(report: ReportInput) -> None:
    for line in render_markdown(report).splitlines():
        assert len(line) <= WIDTH or line.startswith("|") or " " not in line.strip("- ")


def test_names_from_outside_carry_no_markup(report: ReportInput) -> None:
    one = report.backtests[0]
    evil = replace(one, told={**one.told, "strategy": EVIL})
    changed = replace(
        report, title=EVIL, run_name=EVIL, source=EVIL, notes=(EVIL,), backtests=(evil,), model="informer"
    )
    text = render_markdown(changed)
    assert not re.search(r"(?<!\\)<", text)
    assert "](" not in text.replace("\\](", "")
    assert not re.search(r"(?<!\\)(\*\*|`)", text)
    assert len(re.findall(r"^#", text, flags=re.MULTILINE)) == len(re.findall(r"^#", render_markdown(report), re.M))
    *_, strategies = tables(text)
    assert strategies[2][0] == EVIL
    assert len({len(row) for row in strategies}) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("forecast_sign of a_b_c", "forecast_sign of a_b_c"),
        ("_emphasis_", r"\_emphasis\_"),
        ("# heading", r"\# heading"),
        ("so - it goes", r"so \- it goes"),
        ("-0.35 to 1", "\N{MINUS SIGN}0.35 to 1"),
        ("1. first", r"1\. first"),
        ("in 2018. Then", "in 2018. Then"),
        ("[-0.1, 0.2]", "[\N{MINUS SIGN}0.1, 0.2]"),
        ("two\nlines", "two lines"),
    ],
)
def test_only_what_would_be_markup_is_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_a_run_with_little_to_show_still_has_a_short_report(report: ReportInput) -> None:
    text = render_markdown(replace(report, skill={"informer": ()}, backtests=(), trials=None, size=""))
    assert "too short to judge" in text
    assert "Nothing was traded." in text
    assert "Trials: not known" in text
    undefined = dict.fromkeys(report.backtests[0].metrics)
    one = replace(report.backtests[0], told={**report.backtests[0].told, "metrics": undefined})
    assert not re.search(r"\b(nan|None)\b", render_markdown(replace(report, backtests=(one,))))

"""The page of a comparison shows what was found, needs nothing from outside, and takes no name for markup."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qtrade.errors import UsageError
from qtrade.files import write_json
from qtrade.pipeline.compare import compare_runs
from qtrade.progress import Silent
from qtrade.report.compare import render, write_comparison

HOSTILE = '<script>alert(1)</script>&"[bold]`x`'


@pytest.fixture(scope="module")
def told(
    tmp_path_factory: pytest.TempPathFactory, made_run: Callable[..., Any], made_backtest: Callable[..., Path]
) -> dict[str, Any]:
    """Two runs, the second of which knows a third of what will happen; one strategy on both."""
    runs = tmp_path_factory.mktemp("page")
    days = pd.date_range("2020-04-10", periods=500, tz="UTC")
    made = []
    for luck, name in enumerate(("first", "second")):
        run = made_run(runs, "evaluation.horizons=[1,6]", f"name={name}", f"seed={luck}", luck=luck, skill=luck / 3)
        made_backtest(run, pd.Series(0.01 * np.random.default_rng(luck).standard_normal(500), index=days))
        gates = [{"gate": "G2", "title": "Skill", "grade": ("FAIL", "PASS")[luck]}]
        write_json(run.folder / "evaluation.json", {"verdict": {"headline": "WARN", "line": "So so."}, "gates": gates})
        made.append(run)
    return compare_runs(made, progress=Silent())


class Page(HTMLParser):
    """Tags, attributes and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())


def test_the_page_shows_what_was_found(told: dict[str, Any]) -> None:
    page = Page(render(told))
    first, second = (one["label"] for one in told["runs"])
    gain = told["forecasts"][0]["runs"][1]
    for text in (
        told["lines"][0],
        f"Gain in R² of {second}, points",
        f"{100 * gain['r2_gain']:+.2f}\N{NO-BREAK SPACE}points".replace("\N{NO-BREAK SPACE}", " "),
        "1 bar ahead, 500 origins",
        "6 bars ahead, 500 origins",
        f"{told['trading'][0]['runs'][1]['sharpe']:.2f}".replace("-", "\N{MINUS SIGN}"),
        told["data"]["hash"],
        "G2 Skill",
        "buy and hold",
        "So so.",
        f"qtrade compare {told['runs'][0]['folder']} {told['runs'][1]['folder']}",
    ):
        assert text in page.text, text
    assert ("section", {"class": "verdict good", "aria-label": "Answer"}) in page.tags
    assert sum(tag == "svg" for tag, _ in page.tags) == 1
    assert page.text.count(first) > 5


def test_the_page_needs_nothing_from_outside(told: dict[str, Any]) -> None:
    text = render(told)
    page = Page(text)
    assert len(text) < 200_000
    assert not [name for _, values in page.tags for name in values if name in ("src", "srcset", "onclick", "onload")]
    links = [values["href"] for tag, values in page.tags if tag == "a"]
    assert links == ["#comparison"]
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)
    (policy,) = (values["content"] for _, values in page.tags if values.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")


def test_headings_name_their_sections_and_every_figure_speaks(told: dict[str, Any]) -> None:
    page = Page(render(told))
    headings = {values["id"] for tag, values in page.tags if tag == "h2"}
    assert headings == {values["aria-labelledby"] for tag, values in page.tags if "aria-labelledby" in values}
    for tag, values in page.tags:
        if tag == "svg":
            assert values["role"] == "img"
            assert str(values["aria-label"]).startswith("Gain in R squared over the first run, per horizon: 1 bars +")


def test_names_from_outside_are_text(told: dict[str, Any]) -> None:
    hostile = deepcopy(told)
    for one in hostile["runs"]:
        one |= {"label": HOSTILE, "name": HOSTILE, "folder": HOSTILE, "line": HOSTILE, "model": HOSTILE}
        one["headline"] = HOSTILE
        one["gates"] = [{"gate": HOSTILE, "title": HOSTILE, "grade": HOSTILE}]
    hostile["data"]["symbols"] = [HOSTILE]
    hostile["lines"] = hostile["notes"] = [HOSTILE]
    hostile["trading"][0] |= {"strategy": HOSTILE, "account": HOSTILE}
    hostile["settings"] = [{"key": HOSTILE, "values": [HOSTILE, ""]}]
    text = render(hostile)
    scripts = [values for tag, values in Page(text).tags if tag == "script"]
    assert scripts == [{}]
    assert "<script>alert" not in text
    assert Page(text).text.count("<script>alert(1)</script>") > 20


def test_what_is_missing_is_said(told: dict[str, Any]) -> None:
    bare = deepcopy(told)
    bare |= {"forecasts": [], "trading": [], "settings": [], "notes": []}
    for one in bare["runs"]:
        one |= {"headline": None, "line": None, "gates": [], "trained_at": None, "fit_seconds": None}
        one["parameters"] = None
    page = Page(render(bare))
    for text in (
        "The runs share too few outcomes to judge any horizon.",
        "No strategy was backtested with the same account",
        "All settings are the same.",
        "not evaluated",
    ):
        assert text in page.text
    assert "What is left out" not in page.text
    assert ("section", {"class": "verdict open", "aria-label": "Answer"}) in page.tags


def test_undefined_and_identical_values_are_shown_as_such(told: dict[str, Any]) -> None:
    odd = deepcopy(told)
    score = odd["forecasts"][0]["runs"][1]
    score |= {"r2_answer": "identical", "ic": None, "ic_low95": None, "ic_high95": None}
    cell = odd["trading"][0]["runs"][1]
    cell |= dict.fromkeys(("sharpe", "sharpe_low", "sharpe_high", "sharpe_p", "sharpe_p_holm"))
    odd["trading"][0]["spa_p"] = None
    text = Page(render(odd)).text
    assert "identical" in text
    assert "not tested" in text
    assert "superior predictive ability" not in text
    assert "nan" not in text
    assert "None" not in text


def test_accounts_that_began_at_other_bars_are_not_said_to_differ_in_forecasts_only(told: dict[str, Any]) -> None:
    assert "All began at the same bar; only the forecasts differ." in Page(render(told)).text
    apart = deepcopy(told)
    apart["trading"][0]["runs"][0]["first"] = "2019-01-01 00:00:00+00:00"
    text = Page(render(apart)).text
    assert "only the forecasts differ" not in text
    assert "Some accounts began at other bars" in text


def test_one_horizon_worse_is_told_by_its_colour(told: dict[str, Any]) -> None:
    worse = deepcopy(told)
    for one in worse["forecasts"]:
        one["runs"][1]["r2_answer"] = "worse"
    page = Page(render(worse))
    assert ("section", {"class": "verdict bad", "aria-label": "Answer"}) in page.tags


def test_a_page_that_cannot_be_written_is_told(told: dict[str, Any], tmp_path: Path) -> None:
    write_comparison(tmp_path / "new" / "compare.html", told)
    assert (tmp_path / "new" / "compare.html").read_text(encoding="utf-8").lstrip().startswith("<!doctype html>")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot write to"):
        write_comparison(tmp_path / "file" / "compare.html", told)

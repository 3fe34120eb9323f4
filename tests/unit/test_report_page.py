from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qtrade.backtest.costs import BacktestConfig
from qtrade.evaluation.gates import TITLES
from qtrade.evaluation.result import Evaluation
from qtrade.evaluation.skill import skill
from qtrade.evaluation.staleness import Staleness
from qtrade.evaluation.verdict import Headline, verdict
from qtrade.forecasts import Forecasts
from qtrade.report.backtests import StrategyReport
from qtrade.report.environment import prose, script
from qtrade.report.page import FOLD_COLUMNS, ReportInput, render, write_invalid, write_report
from qtrade.types import Bars, Float64Array

HORIZON, SIZE, START, FOLDS = 6, 300, 40, 5
EVIL = "<script>alert('x')</script>"
VOID = {"meta", "br", "path", "use", "rect", "input"}


class Page(HTMLParser):
    """Collects tags, ids, attributes that could load something, and checks that elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.labels: list[str] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("src", "href", "xlink:href", "action", "data"):
                self.links.append(value or "")
            elif name == "aria-label" and tag == "svg":
                self.labels.append(value or "")
            assert not name.startswith("on")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self._open and self._open[-1] == "script" else self.words).append(data)


def told_of(strategy: str, params: Mapping[str, object], metrics: Mapping[str, float]) -> dict[str, Any]:
    """What ``metrics.json`` says of a backtest that is not cut into stretches."""
    return {
        "strategy": strategy,
        "spec": f"{strategy}(step=6)",
        "params": params,
        "account": BacktestConfig().model_dump(mode="json"),
        "engine": "numba",
        "forecast_covered_share": 1.0,
        "ruined": None,
        "metrics": metrics,
        "buy_and_hold": metrics,
        "sharpe_bootstrap_low95": -0.5,
        "sharpe_bootstrap_high95": 1.5,
        "against_buy_and_hold": {"beta": 0.9, "beta_low": 0.8, "beta_high": 1.1},
        **dict.fromkeys(("years", "months", "regimes", "drawdowns", "cost_curve", "delay_curve"), ()),
    }


def made(
    forecast_market: Callable[..., tuple[Bars, Forecasts, Float64Array]],
    evaluated: Callable[..., Evaluation],
    symbols: tuple[str, ...] = ("^GSPC",),
    strategy: str = "forecast_sign",
    delay: int = 0,
    **names: str,
) -> ReportInput:
    bars, forecasts, actual = forecast_market(symbols, delay, bars=SIZE, before=START, folds=FOLDS, horizon=HORIZON)
    days, rows = bars.index, len(forecasts)
    drift = np.zeros(rows) + 1e-4
    naive = replace(forecasts, path=np.zeros_like(forecasts.path))
    found = {name: skill(one, actual, drift, (1, 6)) for name, one in (("informer", forecasts), ("naive", naive))}
    equity = pd.Series(np.linspace(100.0, 120.0, SIZE), index=days[START:])
    metrics = {"net_annual_return": 0.06, "sharpe": 0.4, "sharpe_low": -0.43, "sharpe_high": 1.23, "max_drawdown": 0.1}
    params = {"step": 6, "short": False, "cash": True}
    luck = {"trials": 3, "psr_probability": 0.8, "dsr_probability": 0.6, "min_track_record_years": 17.5}
    evaluation = evaluated(bars, forecasts, actual, found, strategy=strategy, **names)
    starts = days[START :: SIZE // FOLDS]
    return ReportInput(
        title="A test & its report",
        run_name="run-12345678",
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
        costs="5 bp per fill at the next open",
        backtests=(StrategyReport(told_of(strategy, params, metrics), luck, equity, equity / 2),),
        folds=pd.DataFrame(
            {
                "number": range(FOLDS),
                "train_start": days[:1].repeat(FOLDS),
                "train_end": starts,
                "test_start": starts,
                "test_end": starts + pd.Timedelta(days=SIZE // FOLDS - 1),
                "origins": SIZE // FOLDS,
                "epochs": 4,
                "best_validation_loss": 0.98765,
                "seconds": 1.25,
                "constant_columns": "volume_z",
                "extra": "kept",
            }
        ),
        config_toml='[model]\nname = "informer"\n',
        commands=("qtrade run --symbols ^GSPC",),
        notes=("2 rows left out",),
        delay=delay,
    )


@pytest.fixture(name="report_of", scope="module")
def report_maker(
    forecast_market: Callable[..., tuple[Bars, Forecasts, Float64Array]], evaluated: Callable[..., Evaluation]
) -> Callable[..., ReportInput]:
    return partial(made, forecast_market, evaluated)


@pytest.fixture(name="report", scope="module")
def plain_report(report_of: Callable[..., ReportInput]) -> ReportInput:
    return report_of()


@pytest.fixture(name="text", scope="module")
def plain_text(report: ReportInput) -> str:
    return render(report)


@pytest.fixture(name="late_report", scope="module")
def report_with_a_delay(report_of: Callable[..., ReportInput]) -> ReportInput:
    return report_of(delay=3)


@pytest.fixture(name="late_text", scope="module")
def text_with_a_delay(late_report: ReportInput) -> str:
    return render(late_report)


@pytest.fixture(name="bare", scope="module")
def report_of_little(report: ReportInput) -> ReportInput:
    return replace(
        report,
        skill={"informer": ()},
        verdict=verdict(()),
        evaluation=replace(
            report.evaluation,
            verdict=verdict(()),
            distribution=(),
            stability=replace(
                report.evaluation.stability,
                staleness=Staleness((), None, None, edge=False),
                contributions=None,
                change=None,
                recurrence=None,
            ),
            cadence={"r2_by_retraining_bars": {}, "why": "There are too few bars."},
            regimes=(),
            intervals={},
            interval_coverage=(),
            optimism=None,
            trading=None,
        ),
        actual=np.full_like(report.actual, np.nan),
        forecasts=replace(report.forecasts, residuals={}),
        backtests=(),
        notes=(),
    )


def read(markup: str) -> str:
    return " ".join(Page(str(markup)).words)


def words_of(text: str) -> str:
    return " ".join(" ".join(Page(text).words).split())


def test_the_page_is_well_formed_and_needs_nothing_from_outside(text: str) -> None:
    page = Page(text)
    assert "link" not in page.tags
    assert "iframe" not in page.tags
    assert all(link.startswith("#") for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert "default-src 'none'" in text


def test_the_verdict_comes_first(report: ReportInput, text: str) -> None:
    words = words_of(text)
    body = words[words.index("qtrade report, run") :]
    assert body.index(report.verdict.headline) < body.index(report.verdict.line) < body.index("What this is")
    for reason in report.verdict.reasons:
        assert read(prose(reason)) in words


def test_everything_a_reader_needs_is_there(report: ReportInput, text: str) -> None:
    words = words_of(text)
    for needed in (
        "A test & its report",
        "2012-01-02",
        report.data_hash,
        "5 bp per fill at the next open",
        "2 rows left out",
        'name = "informer"',
        "qtrade run --symbols ^GSPC",
        "What this report cannot tell",
        "forecast_sign",
        "step = 6, short = no, cash = yes",
        "0.9877",
        "volume_z",
        "extra",
        "kept",
        *(name for name in FOLD_COLUMNS.values()),
    ):
        assert needed in words


def test_every_sharpe_ratio_has_its_interval(text: str) -> None:
    notes = re.findall(r"<(?:td[^>]*|dd)>\s*0\.40\b(.*?)</t?d", text, flags=re.DOTALL)
    assert len(notes) == 5  # the tile, its luck, the evidence, the strategy, and buy and hold
    assert all("[\N{MINUS SIGN}0.43,\N{NO-BREAK SPACE}1.23]" in note for note in notes)


def test_the_same_input_gives_the_same_file(report_of: Callable[..., ReportInput], text: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(report_of(), path)
    assert len(path.read_bytes()) < 5_000_000
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.usefixtures("undrawn_figures")
def test_markup_in_names_is_shown_as_text(report_of: Callable[..., ReportInput]) -> None:
    report = replace(
        report_of(symbols=(EVIL, "A"), strategy=EVIL, feature=EVIL, regime=EVIL),
        title=EVIL,
        run_name=EVIL,
        source=EVIL,
        costs=EVIL,
        config_toml=EVIL,
        commands=(EVIL,),
        notes=(EVIL,),
        folds=report_of().folds.assign(**{EVIL: EVIL}),
    )
    text = render(report)
    page = Page(text)
    assert page.scripts[0] == script("page.js")
    assert page.scripts[2] == script("paths.js")
    assert json.loads(page.scripts[1])["symbol"] == EVIL
    assert len(page.scripts) == page.tags.count("script") == 3
    assert "".join(page.words).count(EVIL) > 10


def test_figures_have_alternatives_and_follow_the_colours_of_the_page(text: str) -> None:
    page = Page(text)
    # R2 and IC, nine fans; waterfall and ladder, staleness and CUSUM; folds, coverage and the equity curve, each for
    # wide and for narrow screens.
    assert len(page.labels) == page.tags.count("svg") == 21
    assert all(len(label) > 20 for label in page.labels)
    assert "prefers-color-scheme: dark" in text
    assert "var(--model)" in text
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert not re.search(r"#[0-9a-f]{6}", drawn)


@pytest.mark.usefixtures("undrawn_figures")
@pytest.mark.parametrize(("headline", "horizon", "shown"), [("PASS", 1, "1 bar"), ("INCONCLUSIVE", None, "6 bars")])
def test_the_verdict_colours_what_follows(
    report: ReportInput, bare: ReportInput, headline: Headline, horizon: int | None, shown: str
) -> None:
    changed = replace(report.verdict, headline=headline, horizon=horizon)
    told = replace(bare.evaluation, verdict=changed)
    text = render(replace(bare, verdict=changed, evaluation=told, skill=report.skill, backtests=report.backtests))
    assert f'<section class="verdict {"good" if headline == "PASS" else "open"}"' in text
    assert ("A gain below is not evidence" in text) == (headline != "PASS")
    assert f"R² vs best naive, {shown} ahead" in text


def test_a_run_with_little_to_show_still_has_a_page(bare: ReportInput) -> None:
    bare_text = render(replace(bare, delay=1))
    words = words_of(bare_text)
    assert "too short to judge" in words
    assert "qtrade evaluate run-12345678 --full" in words
    assert "There are too few bars." in words
    assert "leaving out the first bar after the forecast" in words
    assert [label.split(",")[0] for label in Page(bare_text).labels] == [f"{FOLDS} folds"] * 2


def test_examples_are_ranked_by_their_error(report: ReportInput, text: str) -> None:
    error = np.sqrt(np.mean((np.cumsum(report.actual, axis=1) - report.forecasts.cumulative()) ** 2, axis=1))
    known = np.nonzero(np.isfinite(error))[0]
    ranked = known[np.argsort(error[known])]
    for share in (0.05, 0.1, 0.15, 0.45, 0.5, 0.55, 0.85, 0.9, 0.95):
        row = ranked[round(share * (len(ranked) - 1))]
        assert f"^GSPC, {report.forecasts.origin[row]:%Y-%m-%d}: {share:.0%} of all forecasts came closer" in text


@pytest.mark.parametrize("delay", [0, 3])
def test_a_forecast_is_drawn_from_the_close_its_first_bar_starts_at(
    report: ReportInput, text: str, late_report: ReportInput, late_text: str, delay: int
) -> None:
    drawn = late_text if delay else text
    close = (late_report if delay else report).bars.close["^GSPC"]
    fans = [label for label in Page(drawn).labels if label.startswith("Forecast path")]
    origins = re.findall(r"\^GSPC, (\d{4}-\d\d-\d\d): \d+% of all", drawn)
    assert len(fans) == len(origins) == 9
    for label, origin in zip(fans, origins, strict=True):
        row = int(close.index.searchsorted(pd.Timestamp(origin, tz="UTC")))
        start, end = close.iloc[row + delay], close.iloc[row + delay + HORIZON]
        assert f"from a price of {start:.6g}" in label
        assert label.endswith(f", ended at {end:.6g}.")
        assert (f"starting {delay} bars after the forecast" in label) == (delay > 0)


def test_a_delay_is_told(text: str, late_text: str) -> None:
    told = "leaving out the first 3 bars after the forecast"
    assert told in words_of(late_text)
    assert told not in words_of(text)


def test_the_page_of_an_invalid_run_shows_what_is_wrong_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    told = {"gates": [{"reasons": [f"Fold 3 is not purged {EVIL}.", "The scaler knows of others."]}]}
    write_invalid(path, EVIL, told)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "svg", "table", "figure"} & set(page.tags)
    assert page.tags.count("main") == page.tags.count("h1") == 1
    assert "default-src 'none'; style-src" in text
    words = words_of(text)
    assert f"Fold 3 is not purged {EVIL}." in words
    assert "The scaler knows of others." in words
    for number in ("R²", "Sharpe", "PASS", "FAIL"):
        assert number not in words


# Labels that are names: dates, numbers, and what this market, its models, features and regimes are called.
NAMES = re.compile(
    r"\d{4}-\d\d-\d\d|\d+(, (split|refit|ACI|NexCP))?|0|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|informer|naive|"
    r"(then )?(calm|wild)|momentum|price|volume_z|all together|Measure|forecast_sign|Buy and hold|\^GSPC|extra|G\d|"
    + "|".join(gate for gate in TITLES.values())
)


def labels_of(text: str) -> list[str]:
    """Names of rows, columns, tiles and facts that have no line of explanation, without what stands small below."""
    found = re.findall(r"<(th|dt)\b[^>]*>(.*?)</\1>", text.partition('<dl class="facts words">')[0], flags=re.DOTALL)
    bare = [re.sub(r"<small>.*", "", inside, flags=re.DOTALL).strip() for _, inside in found]
    return [label for label in bare if not label.startswith('<button type="button" class="tip"')]


def test_every_label_is_explained_unless_it_is_a_name(text: str) -> None:
    labels = labels_of(text)
    assert len(labels) > 20
    assert [label for label in labels if not NAMES.fullmatch(html.unescape(label))] == []
    page = Page(text)
    # Each explained word has one line on the page, for those who point at it and for those who look it up.
    opened = set(re.findall(r'popovertarget="([^"]+)"', text))
    assert opened == {one for one in page.ids if one.startswith("tip-")}
    listed = text.partition('<dl class="facts words">')[2].partition("</dl>")[0]
    assert listed.count("<dt>") == len(opened) > 60
    assert re.findall(r'aria-describedby="([^"]+)"', text) == re.findall(r'popovertarget="([^"]+)"', text)


def test_figures_that_show_numbers_explain_them(text: str) -> None:
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text, flags=re.DOTALL)
    bare = [one for one in captions if 'class="tip"' not in one]
    # Folds are dates, and a forecast is a price.
    shown = ("of all forecasts came closer", "<b>Folds over time</b>", "<b>^GSPC over time</b>")
    assert [one for one in bare if not any(words in one for words in shown)] == []


def test_headings_skip_no_level(text: str) -> None:
    levels = [int(tag[1]) for tag in Page(text).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_sections_tell_a_story(text: str) -> None:
    assert re.findall(r'<section aria-labelledby="([a-z]+)">', text) == [
        "about", "gates", "equity", "protocol", "transfer", "lasting", "skill", "optimism", "regimes", "paths",
        "intervals", "trading", "costs", "shift", "limits", "reproduce", "words",
    ]  # fmt: skip


def test_scripts_are_those_that_the_policy_allows(text: str) -> None:
    allowed = re.findall(r"'sha256-([^']+)'", text.partition("<style>")[0])
    run = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    assert [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in run] == allowed
    data = json.loads(re.findall(r'<script type="application/json" id="paths-data">(.*?)</script>', text)[0])
    assert data["symbol"] == "^GSPC"
    assert re.findall(r'id="paths-origin" min="0" max="(\d+)"', text) == [str(len(data["rows"]) - 1)]


@pytest.mark.usefixtures("undrawn_figures")
def test_the_trials_on_record_are_told(bare: ReportInput, text: str) -> None:
    assert "Trials not known" in words_of(text)
    for trials, told in ((0, "none on this market so far"), (1234, "1,234 on this market so far")):
        assert told in words_of(render(replace(bare, trials=trials, size="preset small")))


@pytest.mark.usefixtures("undrawn_figures")
def test_a_page_of_fifty_symbols_folds_their_names(report_of: Callable[..., ReportInput]) -> None:
    symbols = tuple(f"S{place:02d}" for place in range(50))
    text = render(replace(report_of(symbols=symbols), notes=()))
    assert "<summary>S00, S01, S02 and 47 more</summary>S00, S01, " in text
    assert "S49" in text
    data = json.loads(re.findall(r'id="paths-data">(.*?)</script>', text)[0])
    assert data["symbol"] == "S00"
    assert len(text.encode()) < 1_000_000


def test_links_within_the_page_lead_to_its_sections(text: str) -> None:
    page = Page(text)
    named = [f"#{one}" for one in re.findall(r'<section aria-labelledby="([a-z]+)">\n<h2 id="\1">', text)]
    assert named == [link for link in page.links if link in named][: len(named)]
    assert len(named) == 17


def test_a_long_table_goes_on_in_a_fold_and_counts_folds_from_one(report_of: Callable[..., ReportInput]) -> None:
    report = report_of()
    many = pd.concat([report.folds.iloc[:1]] * 43, ignore_index=True).assign(number=range(43))
    page = render(replace(report, folds=many))
    captions = re.findall(r'<table aria-label="(Walk-forward folds[^"]*)"', page)
    assert captions == ["Walk-forward folds", "Walk-forward folds, from row 41 on"]
    assert "<summary>The other 3 rows</summary>" in page
    first, rest = (page[page.index(f'<table aria-label="{one}"') :].partition("</table>")[0] for one in captions)
    numbers = [re.findall(r'<th scope="row" class="">(\d+)</th>', part) for part in (first, rest)]
    assert numbers == [[str(place) for place in range(1, 41)], ["41", "42", "43"]]

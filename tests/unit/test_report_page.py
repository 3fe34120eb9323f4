from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qtrade.evaluation.skill import skill
from qtrade.evaluation.verdict import Headline, verdict
from qtrade.report.page import FOLD_COLUMNS, ReportInput, StrategyReport, render, write_report
from qtrade.types import Bars, Forecasts

HORIZON, SIZE, START = 6, 300, 40
EVIL = "<script>alert('x')</script>"
VOID = {"meta", "br", "path", "use", "rect"}


class Page(HTMLParser):
    """Collects tags, ids, attributes that could load something, and checks that elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.labels: list[str] = []
        self.words: list[str] = []
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
        self.words.append(data)


def report_of(symbols: tuple[str, ...] = ("^GSPC",), strategy: str = "forecast_sign", delay: int = 0) -> ReportInput:
    generator = np.random.default_rng(7)
    days = pd.date_range("2012-01-02", periods=START + SIZE, tz="UTC")
    close = pd.DataFrame(
        100 * np.exp(np.cumsum(0.01 * generator.standard_normal((len(days), len(symbols))), axis=0)),
        index=days,
        columns=list(symbols),
    )
    bars = Bars(close, close, close, close, close * 0, interval="1d", calendar="XNYS", periods_per_year=252)
    returns = np.diff(np.log(close.to_numpy()), axis=0, append=np.nan)
    padded = np.concatenate([returns, np.full((HORIZON + delay, len(symbols)), np.nan)])
    ahead = np.lib.stride_tricks.sliding_window_view(padded, HORIZON, axis=0)[START + delay :][:SIZE]
    actual = np.concatenate([ahead[:, position] for position in range(len(symbols))])
    rows = SIZE * len(symbols)
    forecasts = Forecasts(
        path=0.003 * generator.standard_normal((rows, HORIZON)),
        symbol=np.repeat(np.array(symbols, dtype=object), SIZE),
        origin=pd.DatetimeIndex([*days[START:]] * len(symbols)),
        fold=np.zeros(rows, dtype=np.int64),
        seed=np.full(rows, -1, dtype=np.int64),
        train_end=pd.DatetimeIndex([days[START]] * rows),
        residuals={(0, -1, symbol): 0.01 * generator.standard_normal((50, HORIZON)) for symbol in symbols},
    )
    drift = np.zeros(rows) + 1e-4
    naive = replace(forecasts, path=np.zeros_like(forecasts.path))
    found = {name: skill(one, actual, drift, (1, 6)) for name, one in (("informer", forecasts), ("naive", naive))}
    equity = pd.Series(np.linspace(100.0, 120.0, SIZE), index=days[START:])
    metrics = {"net_annual_return": 0.06, "sharpe": 0.4, "sharpe_low": -0.43, "sharpe_high": 1.23, "max_drawdown": 0.1}
    return ReportInput(
        title="A test & its report",
        run_name="run-12345678",
        generated="2025-01-01 00:00 UTC",
        source="synthetic",
        bars=bars,
        data_hash="ab" * 32,
        model="informer",
        verdict=verdict(found["informer"]),
        skill=found,
        forecasts=forecasts,
        actual=actual,
        costs="5 bp per fill at the next open",
        backtests=(
            StrategyReport(strategy, {"step": 6, "short": False, "cash": True}, equity, equity / 2, metrics, metrics),
        ),
        folds=pd.DataFrame(
            {
                "number": [1],
                "train_start": days[:1],
                "train_end": days[START : START + 1],
                "test_start": days[START : START + 1],
                "test_end": days[-1:],
                "origins": [SIZE],
                "epochs": [4],
                "best_validation_loss": [0.98765],
                "seconds": [1.25],
                "constant_columns": ["volume_z"],
                "extra": ["kept"],
            }
        ),
        config_toml='[model]\nname = "informer"\n',
        commands=("qtrade run --symbols ^GSPC",),
        notes=("2 rows left out",),
        delay=delay,
    )


@pytest.fixture(name="report", scope="module")
def plain_report() -> ReportInput:
    return report_of()


@pytest.fixture(name="text", scope="module")
def plain_text(report: ReportInput) -> str:
    return render(report)


def words_of(text: str) -> str:
    return " ".join(" ".join(Page(text).words).split())


def test_the_page_is_well_formed_and_needs_nothing_from_outside(text: str) -> None:
    page = Page(text)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(link.startswith("#") for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert "default-src 'none'" in text


def test_the_verdict_comes_first(report: ReportInput, text: str) -> None:
    words = words_of(text)
    body = words[words.index("qtrade report, run") :]
    assert body.index(report.verdict.headline) < body.index(report.verdict.line) < body.index("What this is")
    for reason in report.verdict.reasons:
        assert reason in words


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
    assert text.count("0.40") == text.count("[\N{MINUS SIGN}0.43,\N{NO-BREAK SPACE}1.23]")


def test_the_same_input_gives_the_same_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(report_of(), path)
    assert path.read_text(encoding="utf-8") == text


def test_markup_in_names_is_shown_as_text() -> None:
    report = replace(
        report_of(symbols=("A", EVIL), strategy=EVIL),
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
    assert "<script" not in text
    page = Page(text)
    assert "script" not in page.tags
    assert "".join(page.words).count(EVIL) > 10


def test_figures_have_alternatives_and_follow_the_colours_of_the_page(text: str) -> None:
    page = Page(text)
    # R2 and IC, three fans, and the equity curve for wide and narrow screens.
    assert len(page.labels) == page.tags.count("svg") == 7
    assert all(len(label) > 20 for label in page.labels)
    assert "prefers-color-scheme: dark" in text
    assert "var(--model)" in text
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert not re.search(r"#[0-9a-f]{6}", drawn)


@pytest.mark.parametrize(("headline", "horizon", "shown"), [("PASS", 1, "1 bar"), ("INCONCLUSIVE", None, "6 bars")])
def test_the_verdict_colours_what_follows(
    report: ReportInput, headline: Headline, horizon: int | None, shown: str
) -> None:
    text = render(replace(report, verdict=replace(report.verdict, headline=headline, horizon=horizon)))
    assert ("A gain below is not evidence" in text) == (headline != "PASS")
    assert f"R² vs best naive, {shown} ahead" in text


def test_a_run_with_little_to_show_still_has_a_page(report: ReportInput) -> None:
    bare = replace(
        report,
        skill={"informer": ()},
        verdict=verdict(()),
        actual=np.full_like(report.actual, np.nan),
        forecasts=replace(report.forecasts, residuals={}),
        backtests=(),
        notes=(),
    )
    bare_text = render(bare)
    assert "too short to judge" in words_of(bare_text)
    assert Page(bare_text).labels == []


def test_examples_are_ranked_by_their_error(report: ReportInput, text: str) -> None:
    error = np.sqrt(np.mean((np.cumsum(report.actual, axis=1) - report.forecasts.cumulative()) ** 2, axis=1))
    known = np.nonzero(np.isfinite(error))[0]
    ranked = known[np.argsort(error[known])]
    for share in (0.1, 0.5, 0.9):
        row = ranked[round(share * (len(ranked) - 1))]
        assert f"^GSPC, {report.forecasts.origin[row]:%Y-%m-%d}: {share:.0%} of all forecasts came closer" in text


@pytest.mark.parametrize("delay", [0, 3])
def test_a_forecast_is_drawn_from_the_close_its_first_bar_starts_at(delay: int) -> None:
    report = report_of(delay=delay)
    close = report.bars.close["^GSPC"]
    fans = [label for label in Page(render(report)).labels if label.startswith("Forecast path")]
    origins = re.findall(r"\^GSPC, (\d{4}-\d\d-\d\d): \d+% of all", render(report))
    assert len(fans) == len(origins) == 3
    for label, origin in zip(fans, origins, strict=True):
        row = int(close.index.searchsorted(pd.Timestamp(origin, tz="UTC")))
        start, end = close.iloc[row + delay], close.iloc[row + delay + HORIZON]
        assert f"from a price of {start:.6g}" in label
        assert label.endswith(f", ended at {end:.6g}.")
        assert (f"starting {delay} bars after the forecast" in label) == (delay > 0)


def test_a_delay_is_told_and_marked_on_the_axis() -> None:
    plain, late = words_of(render(report_of())), words_of(render(report_of(delay=3)))
    told = "leaving out the first 3 bars after the forecast"
    assert told in late
    assert told not in plain
    assert "leaving out the first bar after the forecast" in words_of(render(report_of(delay=1)))

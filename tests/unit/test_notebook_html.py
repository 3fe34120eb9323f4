"""What a notebook shows of the core objects: tables of their own colours, with every text escaped."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import qtrade.notebook_html as html
from qtrade.api.questions import Compared, Explained
from qtrade.data.fetch import FetchReport
from qtrade.data.freshness import Freshness
from qtrade.errors import DataError
from qtrade.evaluation.verdict import Verdict
from qtrade.forecasts import Forecasts
from qtrade.pipeline import backtest
from qtrade.pipeline.prediction import Prediction
from qtrade.pipeline.standing import Standing
from qtrade.pipeline.sweep import Sweep
from qtrade.report.forecast_outlook import LEVELS, Outlook, band
from qtrade.runs import Run
from qtrade.types import BacktestResult, Bars, Features

EVIL = "<script>alert('x')</script>"
INDEX = pd.date_range("2024-01-01", periods=60, tz="UTC")


class _Tags(HTMLParser):
    """Every tag, and every address that something would be loaded from."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.open: list[str] = []
        self.sources: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append(tag)
        if tag not in ("br", "img"):
            self.open.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def shown(value: Any) -> str:
    """HTML of a value, which is whole, closed, and brings nothing from outside."""
    text: str = value._repr_html_()
    tags = _Tags(text)
    assert tags.open == []
    assert "script" not in tags.opened
    assert all(source.startswith("data:image/png;base64,") for source in tags.sources)
    assert len(repr(value)) < 300, "a value on one line"
    return text


def bars(*symbols: str) -> Bars:
    walk = np.exp(np.random.default_rng(1).normal(0, 0.01, (60, len(symbols))).cumsum(axis=0))
    close = pd.DataFrame(100 * walk, index=INDEX, columns=list(symbols))
    return Bars(close, close, close, close, close * 0, "1d", "24/7", 365.0)


def forecasts(symbol: str) -> Forecasts:
    return Forecasts(
        path=np.full((20, 3), 0.01),
        symbol=np.full(20, symbol, dtype=object),
        origin=INDEX[30:50],
        fold=np.zeros(20, dtype=np.int64),
        seed=np.full(20, -1, dtype=np.int64),
        train_end=INDEX[[30] * 20],
        residuals={(0, -1, symbol): np.zeros((4, 3))},
    )


METRICS = {
    "gross_annual_return": 0.05,
    "cost_annual": 0.01,
    "net_annual_return": 0.04,
    "sharpe": 0.5,
    "sharpe_low": -0.25,
    "sharpe_high": 1.25,
    "max_drawdown": 0.2,
    "trades": 17,
}


def made_of(name: str, **changes: Any) -> backtest.Tested:
    told = {"spec": name, "metrics": METRICS | changes, "buy_and_hold": METRICS}
    return backtest.Tested(Path("runs") / EVIL, told, {"dsr_probability": 0.5}, np.zeros(3))


def test_bars_are_told_per_symbol() -> None:
    text = shown(bars("A", EVIL))
    assert "&lt;script&gt;" in text
    assert "60 of 1d, A, &lt;script&gt;" in text
    many = bars(*(f"S{number}" for number in range(html.MOST_ROWS + 3)))
    assert "and 3 more" in shown(many)
    assert f"{html.MOST_ROWS + 3} symbols" in repr(many)


def test_features_forecasts_and_paths_are_told() -> None:
    values = np.ones((60, 1, 2), dtype=np.float32)
    values[:5] = np.nan
    text = shown(Features(values, ("rsi", EVIL), INDEX, (EVIL,), 5))
    assert "the first 5 bars warm up" in text
    assert "&lt;script&gt;" in text
    shown(Features(values, ("rsi", "ret"), INDEX, ("A",), 60))  # nothing but warm-up
    made = forecasts(EVIL)
    assert "+3.05%" in shown(made), "three steps of 1 % in logarithms"
    assert "20 paths of 3 steps, 1 symbol," in repr(made)
    shown(made.where(np.zeros(20, dtype=np.bool_)))
    assert "33.3%" in shown(made.on(bars(EVIL, "B"))), "20 of 60 bars"


def test_a_backtest_result_is_told() -> None:
    zero = pd.Series(0.0, index=INDEX)
    weights = pd.DataFrame(1.0, index=INDEX, columns=[EVIL])
    result = BacktestResult(
        weights,
        weights,
        zero + 0.01,
        zero + 0.001,
        zero + 0.01 - (zero + 0.001),
        zero,
        zero + 1,
        pd.DataFrame(),
        "numba",
    )
    assert "+60.00%" in shown(result)


def test_verdicts_are_told_with_their_reasons() -> None:
    text = shown(Verdict("FAIL", f"It loses {EVIL}.", (EVIL, "why")))
    assert text.count("&lt;script&gt;") == 2
    assert "FAIL</strong>" in text


def test_a_run_is_told_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    run = Run(tmp_path / "run & more")
    assert "run &amp; more" in shown(run), "nothing there, no error"
    run.folder.mkdir()
    told = {"verdict": {"headline": "WARN", "line": EVIL}}
    (run.folder / "evaluation.json").write_text(json.dumps(told), encoding="utf-8")
    assert "WARN</strong>" in shown(run)
    (run.folder / "evaluation.json").write_text('{"verdict": 3}', encoding="utf-8")
    assert "WARN" not in shown(run)


def test_backtests_are_told_beside_buy_and_hold() -> None:
    tried = SimpleNamespace(trials=12, variance=None)
    pair: Any = (made_of(EVIL, sharpe=None, sharpe_low=None, sharpe_high=None), made_of("calm"))
    made = backtest.Backtests(pair, np.zeros(3), tried, None, 365.0, 0)  # type: ignore[arg-type]
    text = shown(made)
    assert text.count("-0.25 to 1.25") == 2
    assert f"{html.UNKNOWN} to {html.UNKNOWN}" in text
    assert "buy and hold" in text
    assert "12 trials" in text
    assert "&lt;script&gt;" in shown(made.tested[0])


@pytest.mark.parametrize("ahead", [None, {"sharpe": -0.1}])
def test_a_sweep_tells_what_is_left_of_its_best(ahead: dict[str, float] | None) -> None:
    told = {
        "variants": 1200,
        "strategy": EVIL,
        "best": {"spec": EVIL, "sharpe": 1.5, "sharpe_low": 0.5, "sharpe_high": 2.5},
        "luck": {"expected_best_sharpe": 1.75, "dsr_probability": None},
        "walk_forward": ahead,
        "pbo_share": 0.4,
        "median_sharpe": -0.3,
        "buy_and_hold": {"sharpe": 0.7},
    }
    text = shown(Sweep(Path("sweeps"), told, pd.DataFrame()))
    for part in ("1,200 variants", "0.50 to 2.50", "1.75", "0.40", "-0.30", "0.70"):
        assert part in text
    assert ("-0.10" in text) == bool(ahead)


def test_a_prediction_shows_verdict_warnings_picture_and_numbers(tmp_path: Path) -> None:
    ahead = pd.DataFrame({"price": [101.0, 102.0]}, index=INDEX[-2:])
    for level in LEVELS:
        ahead = ahead.assign(**dict(zip(band(level), (ahead["price"] - level, ahead["price"] + level), strict=True)))
    picture = tmp_path / "path.png"
    picture.write_bytes(b"\x89PNG...")
    made = Prediction(
        run=EVIL,
        standing=Standing("FAIL", EVIL, INDEX[0], 58, (f"Beware of {EVIL}.",)),
        origin="the cache",
        freshness=Freshness(INDEX[-3], INDEX[-3], INDEX[-2], 0),
        forecasts=forecasts(EVIL),
        path=ahead,
        outlooks=(Outlook(EVIL, pd.Series([99.0, 100.0], index=INDEX[-4:-2]), ahead),),
        files=(picture, tmp_path / "path.csv"),
        seconds=0.1,
    )
    text = shown(made)
    assert "Beware of &lt;script&gt;" in text
    assert "data:image/png;base64," in text
    assert "182.00" in text, "the upper end of 80 %"
    picture.unlink()
    assert "data:image" not in shown(made)


def test_fetches_comparisons_and_explanations_are_told(tmp_path: Path) -> None:
    text = shown(FetchReport((Path("A.parquet"),), {EVIL: DataError(f"{EVIL}: nothing")}))
    assert "A.parquet" in text
    assert "&lt;script&gt;" in text
    runs = [{"label": EVIL, "verdict": {"headline": "FAIL", "line": ""}}, {"label": "b", "verdict": None}]
    compared = Compared({"runs": runs, "lines": [f"{EVIL} is no better."]})
    assert "FAIL" in shown(compared)
    assert str(compared) == f"{EVIL} is no better."
    assert compared.to_dict()["runs"] == runs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qtrade.report.explanation_lines.lines", lambda explanation: ["bought", EVIL])
        trade = SimpleNamespace(number=1, trades=2)
        explained = Explained(SimpleNamespace(trade=trade, strategy="s"), tmp_path / "none.png")  # type: ignore[arg-type]
        assert "bought\n&lt;script&gt;" in shown(explained)


def test_numbers_stand_on_the_right_and_text_on_the_left() -> None:
    text = html.table(("name", "value", "share", "mixed"), [("a", 1234, "+1.50%", 1), ("b", None, html.UNKNOWN, "x")])
    assert "1,234" in text
    left, right = (text.count(f"text-align:{side}") for side in ("left", "right"))
    assert (left, right) == (6, 6)
    assert html.as_text(0.123456) == "0.1235"
    assert html.as_text(123456.7) == "123,457"
    assert html.as_text(True) == "yes"
    assert html.as_text(float("nan")) == html.UNKNOWN
    assert html.as_text(("a", "b")) == "a, b"
    assert html.share(float("nan")) == html.ratio(None) == html.UNKNOWN

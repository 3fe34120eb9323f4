"""`qtrade trials` fits a narrow terminal: no number is cut, names break where they are made of parts."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pandas as pd
import pytest

from qtrade.ledger import FILE_NAME, Ledger, Market, Trial
from qtrade.terminal import out

Program = Callable[..., CompletedProcess[str]]

DAYS = pd.date_range("2020-01-01", periods=30, freq="D", tz="UTC")
NOON = pd.Timestamp("2024-05-01 12:00", tz="UTC")
YEAR = 252.0


def trial(minute: int, **changes: Any) -> Trial:
    """A backtest, apart from what is asked for."""
    values: dict[str, Any] = {
        "market": Market(("^GSPC",), "1d", DAYS[0], DAYS[-1]), "bars": 30, "snapshot": "s", "run": "quick-097da715",
        "forecasts": "f", "kind": "backtest", "strategy": "path_momentum(cost_bps=4.0, multiple=5.0, step=0)",
        "source": "code", "account": "{}", "sharpe": 0.0337, "periods_per_year": YEAR,
        "at": NOON + pd.Timedelta(minutes=minute),
    }  # fmt: skip
    return Trial(**(values | changes))


def swept(*ratios: float, **same: Any) -> list[Trial]:
    """The variants of one sweep."""
    return [trial(9, kind="sweep", strategy=f"rebound(rise={one})", sharpe=one, **same) for one in ratios]


@pytest.fixture
def shown(tmp_path: Path, qtrade: Program, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Record some trials and list them, 80 columns wide."""

    def show(*trials: Trial, width: int = 80) -> str:
        monkeypatch.setattr(out, "width", width)
        Ledger(tmp_path / "runs" / FILE_NAME).add(trials)
        done = qtrade(tmp_path, "trials")
        assert done.returncode == 0, done.stderr
        return done.stdout

    return show


def annual(ratio: float) -> str:
    return f"{ratio * math.sqrt(YEAR):+.2f}"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_numbers_are_whole_and_names_break_at_their_parts(shown: Callable[..., str], width: int) -> None:
    text = shown(
        trial(0),
        trial(1, run="a-rather-long-name-of-a-run-1a2b3c4d", strategy="forecast_sign", sharpe=-0.0146),
        trial(2, market=Market(("^IXIC", "^GSPC"), "1d", DAYS[0], DAYS[-1]), strategy="tranches", sharpe=None),
        width=width,
    )
    table = text.partition(" on record")[0].splitlines()[:-1]
    assert max(map(len, table)) <= width
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    names = ("cost_bps=4.0,", "multiple=5.0", "a-rather-long-") if width >= 80 else ()
    for whole in ("Sharpe ratio", annual(0.0337), annual(-0.0146), "2024-05-01 12:02", *names):
        assert any(whole in line for line in table), whole


def test_what_all_have_in_common_is_said_once(shown: Callable[..., str]) -> None:
    text = shown(trial(0), trial(1, strategy="forecast_sign"))
    assert text.startswith("run quick-097da715, symbols ^GSPC\n")
    assert text.count("quick-097da715") == 1


def test_a_ratio_of_unknown_bars_in_a_year_says_that_it_is_per_bar(shown: Callable[..., str]) -> None:
    text = shown(trial(0, periods_per_year=None), trial(1, strategy="forecast_sign"))
    assert "+0.0337 per bar" in text
    assert annual(0.0337) in text


def test_a_variant_that_rests_on_a_few_bars_is_not_the_best(shown: Callable[..., str]) -> None:
    lucky, sound = swept(0.05, effective_bars=2.9, ruined=False), swept(0.01, 0.02, effective_bars=90.0, ruined=False)
    text = shown(*lucky, *sound)
    assert "rebound, 3 variants" in text
    assert f"best {annual(0.02)}" in text
    assert annual(0.05) not in text


@pytest.mark.parametrize(
    "known", [{}, {"effective_bars": 2.9, "ruined": False}, {"effective_bars": 90.0, "ruined": True}]
)
def test_the_highest_is_not_called_the_best_where_none_can_be_judged(
    shown: Callable[..., str], known: dict[str, Any]
) -> None:
    text = shown(*swept(0.01, 0.05, **known))
    assert f"highest {annual(0.05)}" in text
    assert "best" not in text

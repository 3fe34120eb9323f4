from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qtrade.backtest.costs import BacktestConfig, CostConfig
from qtrade.backtest.engine import simulate
from qtrade.pipeline.positions import COLUMNS, positions_of, read_positions
from qtrade.report.positions import SHOWN, positions
from qtrade.types import BacktestResult, Bars

ACCOUNT = BacktestConfig(costs=CostConfig(fees_bps=5, slippage_bps=5))


def market(weights: dict[str, list[float]], closes: dict[str, list[float]]) -> tuple[Bars, BacktestResult]:
    index = pd.date_range("2020-01-01", periods=len(next(iter(closes.values()))), tz="UTC")
    close = pd.DataFrame(closes, index=index)
    bars = Bars(close, close, close, close, close * 0 + 1, interval="1d", calendar="24/7", periods_per_year=365.0)
    return bars, simulate(bars, pd.DataFrame(weights, index=index), ACCOUNT)


def test_positions_pair_the_fill_that_opens_with_the_fill_that_closes() -> None:
    bars, result = market({"A": [1.0, 0.0, 0.0, 0.0]}, {"A": [10.0, 10.0, 11.0, 12.0]})
    table = positions_of(result.trades, bars, bars.index[-1])
    assert tuple(table.columns) == COLUMNS
    (one,) = table.to_dict("records")
    assert (one["symbol"], one["side"], one["held_bars"], one["fills"]) == ("A", "long", 1, 2)
    assert (one["opened"], one["closed"], one["reason"]) == (bars.index[1], bars.index[2], "decision")
    assert one["net_money"] == pytest.approx(float(result.equity.iloc[-1]) - ACCOUNT.cash)
    # Ten percent of gain, less fees and slippage of 10 bp on each of two fills.
    assert one["net_return"] == pytest.approx(0.1 - 0.001 - 0.0011, abs=1e-5)


def test_a_fill_that_turns_a_position_over_ends_one_and_begins_another() -> None:
    bars, result = market({"A": [0.5, -0.5, -0.5, -0.5]}, {"A": [10.0, 10.0, 12.0, 9.0]})
    table = positions_of(result.trades, bars, bars.index[-1])
    assert table["side"].tolist() == ["long", "short"]
    assert table["opened"].tolist() == [bars.index[1], bars.index[2]]
    assert pd.isna(table["closed"].iloc[1])
    assert table["reason"].tolist() == ["decision", ""]
    assert table["held_bars"].tolist() == [1, 1]
    assert table["net_money"].sum() == pytest.approx(float(result.equity.iloc[-1]) - ACCOUNT.cash)


def test_money_of_all_positions_adds_up_to_that_of_the_account() -> None:
    generator = np.random.default_rng(0)
    closes = {name: (50 * np.exp(np.cumsum(0.02 * generator.standard_normal(80)))).tolist() for name in "AB"}
    weights = {name: generator.choice([-0.4, 0.0, 0.4], size=80).tolist() for name in "AB"}
    bars, result = market(weights, closes)
    table = positions_of(result.trades, bars, bars.index[-1])
    assert table["net_money"].sum() == pytest.approx(float(result.equity.iloc[-1]) - ACCOUNT.cash)
    assert table["opened"].is_monotonic_increasing
    assert set(table["symbol"]) == {"A", "B"}


def test_an_account_that_never_traded_has_no_positions() -> None:
    bars, result = market({"A": [0.0, 0.0, 0.0]}, {"A": [10.0, 11.0, 12.0]})
    table = positions_of(result.trades, bars, bars.index[-1])
    assert tuple(table.columns) == COLUMNS
    assert positions(table) is None


def test_fills_that_cannot_be_read_or_are_of_other_bars_make_no_positions(tmp_path: Path) -> None:
    bars, result = market({"A": [1.0, 0.0, 0.0, 0.0]}, {"A": [10.0, 10.0, 11.0, 12.0]})
    last = bars.index[-1]
    assert read_positions(tmp_path, bars, last) is None
    path = tmp_path / "trades.parquet"
    result.trades.to_parquet(path)
    found = read_positions(tmp_path, bars, last)
    assert found is not None
    pd.testing.assert_frame_equal(found, positions_of(result.trades, bars, last))
    result.trades[:1].assign(symbol="B").to_parquet(path)
    assert read_positions(tmp_path, bars, last) is None
    result.trades.drop(columns="price").to_parquet(path)
    assert read_positions(tmp_path, bars, last) is None
    result.trades.assign(size=0.0).to_parquet(path)
    assert read_positions(tmp_path, bars, last) is None
    path.write_bytes(b"no parquet")
    assert read_positions(tmp_path, bars, last) is None


def rows(gains: list[float], still: int = 0) -> pd.DataFrame:
    index = pd.date_range("2020-01-01", periods=len(gains), tz="UTC")
    held = np.arange(len(gains)) >= len(gains) - still
    return pd.DataFrame(
        {
            "symbol": "<A>",
            "side": ["long", "short"] * (len(gains) // 2) + ["long"] * (len(gains) % 2),
            "opened": index,
            "closed": (index + pd.Timedelta(days=3)).where(~held),
            "reason": "decision",
            "held_bars": 3,
            "fills": 2,
            "net_money": [1000 * gain for gain in gains],
            "net_return": gains,
        }
    )


def test_the_best_the_worst_and_the_last_are_listed() -> None:
    gains = np.linspace(-0.2, 0.3, 21).tolist()
    told = positions(rows(gains, still=1))
    assert told is not None
    found = {row[0].text: (row[1].text, row[1].note) for row in told["summary"].rows}
    assert found["Positions"] == ("21", "11 long, 10 short; 1 still held")
    assert found["Positions that gained"] == ("55.0%", "of 20 closed")
    assert found["Typical holding time"] == ("3", "bars from opening to closing")
    best, worst, last = told["listed"]
    assert [row[4].text for row in best.rows] == [f"{100 * gain:+.2f}%" for gain in gains[-2 : -2 - SHOWN : -1]]
    assert [row[4].tone for row in worst.rows] == ["bad"] * SHOWN
    assert (last.rows[0][2].text, last.rows[0][7].text) == ("still held", "nothing yet")
    assert [row[1].text for row in last.rows] == [f"2020-01-{day}" for day in (21, 20, 19, 18, 17)]


def test_a_handful_of_positions_is_listed_whole() -> None:
    told = positions(rows([0.1, -0.1, 0.0], still=3))
    assert told is not None
    (table,) = told["listed"]
    assert table.caption.startswith("All positions")
    assert [row[4].tone for row in table.rows] == ["good", "bad", ""]
    found = {row[0].text: row[1].text for row in told["summary"].rows}
    assert found["Typical gain"] == found["Positions that gained"] == "\N{EN DASH}"

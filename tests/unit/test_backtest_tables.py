"""Years, months, regimes and drawdowns of a backtest: by hand, and adding up to the whole."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from qtrade.backtest.metrics import metrics
from qtrade.backtest.tables import UNKNOWN, by_month, by_regime, by_year, deepest_drawdowns
from qtrade.types import BacktestResult


def make_result(net: list[float] | None = None, start: str = "2020-11-16", bars: int = 500) -> BacktestResult:
    """A result with the given net returns, or random ones with costs and a fill every seventh bar."""
    generator = np.random.default_rng(3)
    length = bars if net is None else len(net)
    index = pd.date_range(start, periods=length, tz="UTC")
    filled = np.arange(length) % 7 == 3 if net is None else np.zeros(length, dtype=bool)
    cost = pd.Series(np.where(filled, 0.001, 0.0), index=index)
    gross = pd.Series(generator.normal(0.0005, 0.01, length) if net is None else net, index=index)
    earned = gross - cost
    held = pd.DataFrame(np.where(np.arange(length) % 3 == 0, 0.5, -0.25)[:, None], index=index, columns=["A"])
    stamps = index[filled]
    trades = pd.DataFrame(
        {"bar": stamps, "symbol": "A", "size": 2.0, "price": 50.0, "fees": 0.5, "slippage": 0.5, "decided": stamps}
    ).assign(reason="decision")
    return BacktestResult(
        decided=held,
        held=held,
        gross=gross,
        cost=cost,
        net=earned,
        financing=cost * 0,
        equity=1000 * (1 + earned).cumprod(),
        trades=trades,
        engine="reference",
    )


def regimes(result: BacktestResult) -> pd.Series:
    names = np.array(["calm", "wild", np.nan], dtype=object)
    return pd.Series(names[np.arange(len(result.net)) // 40 % 3], index=result.net.index)


@pytest.mark.parametrize("cut", ["year", "regime"])
def test_rows_add_up_to_the_whole(cut: str) -> None:
    result = make_result()
    table = by_year(result, 252) if cut == "year" else by_regime(result, regimes(result), 252)
    whole = metrics(result, 252)
    assert len(table) == 3
    assert table["bars"].sum() == whole.bars
    assert table["fills"].sum() == whole.trades
    assert table["log_growth"].sum() == pytest.approx(math.log1p(whole.total_return))
    for name in ("gross_annual_return", "cost_annual", "net_annual_return", "exposure", "turnover_per_year"):
        assert np.average(table[name], weights=table["bars"]) == pytest.approx(getattr(whole, name)), name
    assert (table["gross_annual_return"] - table["cost_annual"]).to_numpy() == pytest.approx(
        table["net_annual_return"].to_numpy()
    )


def test_a_year_is_measured_as_if_it_were_alone() -> None:
    result = make_result()
    inside = (result.net.index >= "2021-01-01") & (result.net.index < "2022-01-01")
    frames = ("decided", "held", "gross", "cost", "net", "financing", "equity")
    year = {name: getattr(result, name)[inside] for name in frames}
    alone = metrics(replace(result, **year, trades=result.trades[result.trades["bar"].dt.year == 2021]), 252)
    row = by_year(result, 252).loc[2021]
    assert by_year(result, 252).index.tolist() == [2020, 2021, 2022]
    for name in (
        "bars", "gross_annual_return", "cost_annual", "net_annual_return", "annual_volatility", "sharpe", "sharpe_se",
        "sharpe_low", "sharpe_high", "max_drawdown", "exposure", "turnover_per_year",
    ):  # fmt: skip
        assert row[name] == pytest.approx(getattr(alone, name)), name
    assert row["fills"] == alone.trades
    assert row["log_growth"] == pytest.approx(math.log1p(alone.total_return))


def test_a_regime_is_the_bars_of_its_name() -> None:
    result = make_result()
    labels = regimes(result)
    table = by_regime(result, labels, 252)
    assert table.index.tolist() == ["calm", "wild", UNKNOWN]
    assert table["bars"].tolist() == [180, 160, 160]
    wild = result.net[labels == "wild"]
    assert table.loc["wild", "sharpe"] == pytest.approx(wild.mean() / wild.std() * math.sqrt(252))
    unknown = result.net[labels.isna()]
    assert table.loc[UNKNOWN, "net_annual_return"] == pytest.approx(unknown.mean() * 252)


def test_labels_of_other_bars_are_refused() -> None:
    result = make_result()
    with pytest.raises(ValueError, match="do not share the index"):
        by_regime(result, regimes(result).iloc[1:], 252)


def test_months_compound_to_the_whole() -> None:
    result = make_result()
    table = by_month(result)
    assert table.index.tolist() == [2020, 2021, 2022]
    assert list(table.columns) == [*range(1, 13)]
    assert table[10].isna().tolist() == [True, False, True]
    assert np.nanprod(1 + table.to_numpy()) - 1 == pytest.approx(metrics(result, 252).total_return)
    february = result.net[(result.net.index >= "2021-02-01") & (result.net.index < "2021-03-01")]
    assert table.loc[2021, 2] == pytest.approx(np.exp(np.log1p(february).sum()) - 1)


def test_what_comes_later_changes_no_earlier_year_month_or_regime() -> None:
    result = make_result()
    known = result.net.index < "2022-01-01"
    net = result.net.where(known, 0.9)
    poisoned = replace(result, net=net, gross=net + result.cost, equity=1000 * (1 + net).cumprod())
    poisoned = replace(poisoned, net=poisoned.gross - poisoned.cost)
    pd.testing.assert_frame_equal(by_year(poisoned, 252).loc[:2021], by_year(result, 252).loc[:2021])
    pd.testing.assert_frame_equal(by_month(poisoned).loc[:2021], by_month(result).loc[:2021])
    names = pd.Series(np.where(known, "before", "after"), index=result.net.index)
    pd.testing.assert_frame_equal(
        by_regime(poisoned, names, 252).loc[["before"]], by_regime(result, names, 252).loc[["before"]]
    )


def test_drawdowns_by_hand() -> None:
    # 1000, 500, 1000, 2000, 1900, 1805, 3610, 3249: halved and back at the third bar, 9.75 % and back, 10 % and not.
    result = make_result([0.0, -0.5, 1.0, 1.0, -0.05, -0.05, 1.0, -0.1], start="2024-01-01")
    table = deepest_drawdowns(result)
    assert table["depth"].tolist() == pytest.approx([0.5, 0.1, 0.0975])
    days = {
        name: [stamp.day if isinstance(stamp, pd.Timestamp) else None for stamp in table[name]]
        for name in ("peak", "trough", "recovery")
    }
    assert days == {"peak": [1, 7, 4], "trough": [2, 8, 6], "recovery": [3, None, 7]}
    assert table["bars_down"].tolist() == [1, 1, 2]
    assert table["bars_up"].tolist() == [1, 0, 1]
    assert table["bars"].tolist() == [2, 1, 3]


def test_only_the_deepest_are_listed_and_the_first_is_that_of_the_metrics() -> None:
    result = make_result()
    table, whole = deepest_drawdowns(result), metrics(result, 252)
    assert len(table) == 5
    assert table["depth"].is_monotonic_decreasing
    assert table["depth"].iloc[0] == pytest.approx(whole.max_drawdown)
    assert table["bars"].iloc[0] == whole.max_drawdown_bars
    assert len(deepest_drawdowns(result, count=2)) == 2


def test_an_account_that_never_falls_has_no_drawdowns() -> None:
    table = deepest_drawdowns(make_result([0.1, 0.0, 0.1]))
    assert table.empty
    assert str(table["peak"].dtype).endswith("UTC]")


def test_a_single_fall_may_not_have_recovered() -> None:
    table = deepest_drawdowns(make_result([0.1, -0.1, 0.0]))
    assert table["recovery"].isna().tolist() == [True]
    assert str(table["recovery"].dtype).endswith("UTC]")


def test_a_fall_from_the_very_start_has_the_first_stamp() -> None:
    result = make_result([-0.1, 0.0, 0.2], start="2024-01-01")
    fall = deepest_drawdowns(result).iloc[0]
    assert fall["peak"] == result.net.index[0]
    assert (fall["bars_down"], fall["bars_up"]) == (1, 2)


def test_a_ruined_year_has_lost_everything_and_the_next_stands_still() -> None:
    result = make_result([0.5, -1.2, 0.0, 0.0], start="2020-12-30")
    equity = pd.Series([1500.0, -300.0, -300.0, -300.0], index=result.net.index)
    table = by_year(replace(result, equity=equity, ruined=result.net.index[1]), 252)
    assert table["log_growth"].tolist() == [-math.inf, 0.0]
    assert table["max_drawdown"].tolist() == pytest.approx([1.2, 0.0])
    assert table["sharpe"].isna().tolist() == [False, True]

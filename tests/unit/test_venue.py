"""Where strategies are tried: which bars, which forecasts, which regimes are known, and buy-and-hold beside them."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrade.backtest.engine import simulate
from qtrade.config import RunConfig, load_config
from qtrade.errors import DataError, IntegrityError, UsageError
from qtrade.files import write_json
from qtrade.forecasts import Forecasts
from qtrade.ledger import Market, Tried
from qtrade.pipeline.venue import Venue, make_venue, tried_on
from qtrade.runs import Run
from qtrade.strategy import LoadedStrategy, load_strategy
from qtrade.types import BAR_FIELDS, Bars

Maker = Callable[..., tuple[Bars, Forecasts, Any]]
BEFORE, TESTED, STEPS = 300, 60, 4


def market(forecast_market: Maker, *symbols: str, delay: int = 0) -> tuple[Bars, Forecasts]:
    """300 bars, then 60 with a forecast of four steps at each close."""
    bars, forecasts, _ = forecast_market(symbols, delay, bars=TESTED, before=BEFORE, folds=2, horizon=STEPS)
    return bars, forecasts


def account(*assignments: str) -> RunConfig:
    return load_config(None, [f"backtest.{one}" for one in assignments])


def longer(bars: Bars, more: int) -> Bars:
    """The same bars and some after them, at the last prices."""
    index = pd.date_range(bars.index[0], periods=len(bars) + more, tz="UTC")
    frames = {name: getattr(bars, name).reindex(index).ffill() for name in BAR_FIELDS}
    return replace(bars, **frames)


@pytest.mark.parametrize(("settings", "extra"), [((), 1), (("delay=3",), 3), (("fill=close", "delay=0"), 0)])
def test_the_span_reaches_from_the_first_origin_to_the_bar_that_fills_the_last(
    forecast_market: Maker, settings: tuple[str, ...], extra: int
) -> None:
    bars, forecasts = market(forecast_market, "A")
    bars = longer(bars, 10)
    venue = make_venue(bars, forecasts, account(*settings))
    assert venue.span.index[0] == bars.index[BEFORE] == forecasts.origin.min()
    assert venue.span.index[-1] == bars.index[BEFORE + TESTED - 1 + extra]
    assert venue.bars is bars
    assert venue.market == Market(("A",), "1d", venue.span.index[0], venue.span.index[-1])


def test_the_span_ends_with_the_bars(forecast_market: Maker) -> None:
    bars, forecasts = market(forecast_market, "A")
    assert make_venue(bars, forecasts, account("delay=3")).span.index[-1] == bars.index[-1]


def test_a_delay_that_leaves_nothing_to_fill_is_refused(forecast_market: Maker) -> None:
    bars, forecasts = market(forecast_market, "A")
    with pytest.raises(UsageError, match=rf"backtest\.delay is {TESTED}"):
        make_venue(bars, forecasts, account(f"delay={TESTED}"))


def test_forecasts_of_other_bars_or_symbols_are_refused(forecast_market: Maker) -> None:
    bars, forecasts = market(forecast_market, "A", "B")
    other = replace(forecasts, origin=forecasts.origin + pd.Timedelta("12h"))
    with pytest.raises(DataError, match="origins or symbols that the bars lack"):
        make_venue(bars, other, account())
    later = bars.rows(BEFORE + 1, len(bars))
    with pytest.raises(DataError, match="origins or symbols that the bars lack"):
        make_venue(later, forecasts, account())
    second, _ = market(forecast_market, "A", "C")
    with pytest.raises(DataError, match="origins or symbols that the bars lack"):
        make_venue(second, forecasts, account())


def test_covered_is_the_share_of_decisions_with_a_forecast(forecast_market: Maker) -> None:
    bars, forecasts = market(forecast_market, "A", "B")
    assert make_venue(bars, forecasts, account()).covered == 1.0
    # The bar that only fills is no decision that lacks a forecast.
    assert make_venue(longer(bars, 5), forecasts, account("delay=5")).covered == 1.0
    second = np.asarray(forecasts.symbol == "B")
    assert make_venue(bars, forecasts.where(~second), account()).covered == 0.5
    place = bars.index.get_indexer(forecasts.origin) - BEFORE
    gap = (place > 10) & (place <= 10 + TESTED // 4)
    assert make_venue(bars, forecasts.where(~gap), account()).covered == 0.75


def test_hold_is_the_market_in_equal_parts_from_the_first_bar_on(forecast_market: Maker) -> None:
    bars, forecasts = market(forecast_market, "A", "B")
    config = account("costs.fees_bps=30", "delay=2", "exits.target=true")
    venue = make_venue(bars, forecasts, config)
    half = pd.DataFrame(0.5, index=venue.span.index, columns=venue.span.close.columns)
    expected = simulate(venue.span, half, config.backtest)
    pd.testing.assert_series_equal(venue.hold.equity, expected.equity)
    assert venue.hold.trades["reason"].tolist() == ["decision"] * 2
    assert venue.hold.trades["bar"].tolist() == [venue.span.index[2]] * 2


def test_trading_uses_the_account_and_its_exits(forecast_market: Maker) -> None:
    bars, forecasts = market(forecast_market, "A")
    plain, with_exits = (make_venue(bars, forecasts, account(*given)) for given in ((), ("exits.target=true",)))
    assert plain.exits is None
    assert with_exits.exits is not None
    assert with_exits.exits.long_target.index.equals(with_exits.span.index)
    weights = pd.DataFrame(1.0, index=plain.span.index, columns=plain.span.close.columns)
    assert set(plain.trade(weights).trades["reason"]) == {"decision"}
    assert "target" in set(with_exits.trade(weights).trades["reason"])


def test_exits_of_paths_that_start_later_are_refused(forecast_market: Maker) -> None:
    bars, forecasts = market(forecast_market, "A")
    late = replace(forecasts, delay=1)
    assert make_venue(bars, late, account()).exits is None
    with pytest.raises(UsageError, match=r"backtest\.exits needs forecasts"):
        make_venue(bars, late, account("exits.target=true"))


# --- regimes ---


def regimes(bars: Bars, forecasts: Forecasts) -> pd.Series:
    venue: Venue = make_venue(bars, forecasts, account())
    return venue.regimes


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_regime_is_known_before_its_bar(forecast_market: Maker, data: st.DataObject) -> None:
    bars, forecasts = market(forecast_market, "A", "B")
    before = regimes(bars, forecasts)
    first = data.draw(st.integers(BEFORE, BEFORE + TESTED - 1), label="first poisoned bar")
    generator = np.random.default_rng(first)
    later = (np.arange(len(bars)) >= first)[:, None]
    factor = np.where(later, np.exp(generator.normal(0, 0.5, bars.close.shape)), 1.0)
    wild = replace(bars, **{name: getattr(bars, name) * factor for name in BAR_FIELDS})
    after = regimes(wild, forecasts)
    known = slice(0, first - BEFORE + 1)
    pd.testing.assert_series_equal(before.iloc[known], after.iloc[known])


def test_a_regime_follows_the_bars_before(forecast_market: Maker) -> None:
    bars, forecasts = market(forecast_market, "A")
    calm = regimes(bars, forecasts)
    place = BEFORE + 20
    factor = np.where(np.arange(len(bars)) >= place, np.exp(0.3 * (-1.0) ** np.arange(len(bars))), 1.0)[:, None]
    wild = regimes(replace(bars, **{name: getattr(bars, name) * factor for name in BAR_FIELDS}), forecasts)
    assert calm.notna().all()
    assert (wild.iloc[21:] == "high volatility").all()
    assert wild.iloc[:21].equals(calm.iloc[:21])
    assert set(calm) > {"high volatility"}


def test_regimes_are_missing_where_too_little_came_before() -> None:
    index = pd.date_range("2024-01-01", periods=120, tz="UTC")
    close = pd.DataFrame(np.random.default_rng(0).uniform(90, 110, (120, 1)), index=index, columns=["A"])
    bars = Bars(close, close, close, close, close * 0, "1d", "24/7", 365)
    zeros = np.zeros(20, dtype=np.int64)
    forecasts = Forecasts(
        path=np.zeros((20, 2)),
        symbol=np.array(["A"] * 20, dtype=object),
        origin=index[90:110],
        fold=zeros,
        seed=zeros - 1,
        train_end=index[zeros],
    )
    assert regimes(bars, forecasts).isna().all()


def strategy(folder: Path, body: str) -> LoadedStrategy:
    lines = "\n        ".join(body.splitlines())
    (folder / "mine.py").write_text(
        "from dataclasses import dataclass\nimport numpy as np\n\n\n@dataclass(frozen=True)\n"
        f"class Mine:\n    def weights(self, bars, forecasts):\n        {lines}\n",
        encoding="utf-8",
    )
    return load_strategy(str(folder / "mine.py"), {}, ())


def test_a_leak_too_small_for_a_weight_is_not_traded(forecast_market: Maker, tmp_path: Path) -> None:
    venue = make_venue(*market(forecast_market, "A"), account())
    leaking = strategy(tmp_path, "return 4e-10 * np.sign(bars.close.shift(-1).ffill() - bars.close)")
    assert (venue.decide(leaking) == 0).all(axis=None)


def test_what_is_traded_is_what_passed_the_audit(forecast_market: Maker, tmp_path: Path) -> None:
    venue = make_venue(*market(forecast_market, "A"), account())
    calls = "import builtins\nbuiltins.qtrade_calls = getattr(builtins, 'qtrade_calls', 0) + 1\n"
    late = "late = builtins.qtrade_calls > 12\nahead = np.sign(bars.close.shift(-1).ffill() - bars.close)\n"
    patient = strategy(tmp_path, f"{calls}{late}return ahead if late else bars.close * 0")
    try:
        assert (venue.decide(patient) == 0).all(axis=None)
    finally:
        delattr(builtins, "qtrade_calls")


def test_a_strategy_that_forges_its_prices_is_named(forecast_market: Maker, tmp_path: Path) -> None:
    bars, forecasts = market(forecast_market, "A")
    venue = make_venue(replace(bars, **{name: getattr(bars, name).copy() for name in BAR_FIELDS}), forecasts, account())
    forger = strategy(
        tmp_path, "prices = bars.open.values\nprices.setflags(write=True)\nprices *= 1.1\nreturn bars.close * 0"
    )
    with pytest.raises(IntegrityError, match="'mine' changes the prices"):
        venue.decide(forger)


def test_a_file_of_that_name_does_not_replace_buy_and_hold(
    forecast_market: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make_venue(*market(forecast_market, "A", "B"), account())
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "buy_and_hold.py").write_text("raise SystemExit", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    again = make_venue(*market(forecast_market, "A", "B"), account())
    pd.testing.assert_series_equal(again.hold.equity, plain.hold.equity)
    assert (again.hold.decided == 0.5).all(axis=None)


def test_trials_are_counted_where_the_ledger_is_gone(forecast_market: Maker, tmp_path: Path) -> None:
    venue = make_venue(*market(forecast_market, "A"), account())
    run = Run(tmp_path / "runs" / "some-run")
    assert tried_on(run, venue.market, venue.account) == Tried(0, None)
    for name in ("one", "two"):
        write_json(run.folder / "backtests" / name / "metrics.json", {})
    write_json(run.folder / "sweeps" / "three" / "sweep.json", {"variants": 40})
    write_json(run.folder / "sweeps" / "four" / "sweep.json", {"variants": "many"})
    assert tried_on(run, venue.market, venue.account).trials == 41

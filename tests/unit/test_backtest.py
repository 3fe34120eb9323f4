"""What the engine refuses, and the rules of `qtrade.backtest.engine` one at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import vectorbt
from pydantic import ValidationError

from qtrade.backtest import engine
from qtrade.backtest.costs import BacktestConfig, CostConfig
from qtrade.backtest.engine import simulate
from qtrade.backtest.exits import Exits
from qtrade.backtest.planner import STOP, plan
from qtrade.backtest.reference import simulate_by_hand
from qtrade.errors import IntegrityError, UsageError
from qtrade.types import Bars


def make_bars(closes: list[list[float]], gap: float = 1.0) -> Bars:
    """Bars of symbols A, B, ...; each opens at `gap` times the close before."""
    close = pd.DataFrame(
        closes, index=pd.date_range("2024-01-01", periods=len(closes), tz="UTC"), columns=list("ABC")[: len(closes[0])]
    )
    opens = (close.shift() * gap).fillna(close)
    return Bars(
        open=opens,
        high=opens.where(opens > close, close),
        low=opens.where(opens < close, close),
        close=close,
        volume=close * 0,
        interval="1d",
        calendar="24/7",
        periods_per_year=365,
    )


def frame(bars: Bars, weights: list[list[float]]) -> pd.DataFrame:
    return pd.DataFrame(weights, index=bars.index, columns=bars.close.columns)


def test_a_fill_at_an_open_before_its_decision_is_refused() -> None:
    with pytest.raises(ValidationError, match="set fill to close"):
        BacktestConfig(delay=0)
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        BacktestConfig(delay=-1, fill="close")
    assert BacktestConfig(delay=0, fill="close").delay == 0


@pytest.mark.parametrize("field", ["fees_bps", "slippage_bps", "fixed_fee", "min_fee", "borrow_bps", "margin_bps"])
def test_negative_costs_are_refused(field: str) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        CostConfig(**{field: -1})


def test_an_unchanged_weight_is_not_traded_again() -> None:
    bars = make_bars([[10], [12], [8], [16], [10]])
    result = simulate(bars, frame(bars, [[0.5]] * 5), BacktestConfig())
    assert len(result.trades) == 1
    assert result.trades["bar"][0] == bars.index[1]


def test_no_weight_means_no_trade_and_an_untouched_account() -> None:
    bars = make_bars([[10, 5], [12, 4], [8, 3]])
    result = simulate(bars, frame(bars, [[0, 0]] * 3), BacktestConfig(cash=5000))
    assert len(result.trades) == 0
    assert list(result.trades.columns) == ["bar", "symbol", "size", "price", "fees", "slippage", "decided", "reason"]
    assert result.equity.tolist() == [5000, 5000, 5000]


@pytest.mark.parametrize("cash", [0.0, 0.99, math.inf])
def test_an_account_that_could_not_trade_is_refused(cash: float) -> None:
    with pytest.raises(ValidationError, match="cash"):
        BacktestConfig(cash=cash)


def test_decisions_that_the_data_end_before_are_not_filled() -> None:
    bars = make_bars([[10], [12], [8]])
    trades = simulate(bars, frame(bars, [[1], [0], [-1]]), BacktestConfig(delay=2)).trades
    assert trades["bar"].tolist() == [bars.index[2]]


@pytest.mark.parametrize("run", [simulate, simulate_by_hand], ids=["engine", "reference"])
@pytest.mark.parametrize("length", [1, 3])
def test_a_delay_that_leaves_no_bar_to_fill_in_is_refused(run: Any, length: int) -> None:
    bars = make_bars([[10]] * length)
    with pytest.raises(UsageError, match=f"backtest.delay is {length}") as caught:
        run(bars, frame(bars, [[1]] * length), BacktestConfig(delay=length))
    assert f"{length} bar" in str(caught.value)


def test_free_trading_has_no_cost() -> None:
    bars = make_bars([[10], [12], [8]])
    free = BacktestConfig(costs=CostConfig(fees_bps=0, slippage_bps=0))
    result = simulate(bars, frame(bars, [[1], [-1], [0]]), free)
    assert (result.cost == 0).all()
    assert result.gross.equals(result.net.rename("gross"))


def test_weights_are_not_changed() -> None:
    bars = make_bars([[10], [12], [8]])
    weights = frame(bars, [[1], [-1], [0]])
    before = weights.copy()
    simulate(bars, weights, BacktestConfig())
    pd.testing.assert_frame_equal(weights, before)


both = pytest.mark.parametrize("run", [simulate, simulate_by_hand], ids=["engine", "reference"])


@both
@pytest.mark.parametrize("extra", [{}, {"borrow_bps": 100.0}], ids=["sized by vectorbt", "planned"])
def test_a_ruined_account_stands_still_though_the_market_comes_back(run: Any, extra: dict[str, float]) -> None:
    bars = make_bars([[10], [10], [25], [5], [5], [5]])
    config = BacktestConfig(costs=CostConfig(fees_bps=0, slippage_bps=0, **extra))
    result = run(bars, frame(bars, [[-1], [-1], [-1], [-1], [1], [1]]), config)
    assert result.ruined == bars.index[2]
    assert result.equity.iloc[2] < 0
    assert (result.equity.iloc[2:] == result.equity.iloc[2]).all()
    assert (result.net.iloc[3:] == 0).all()
    assert (result.held.iloc[2:] == 0).all(axis=None)
    assert result.trades["bar"].tolist() == [bars.index[1]]


@both
def test_a_short_pays_to_borrow_and_receives_funding(run: Any) -> None:
    bars = make_bars([[10], [10], [10], [10]])
    free = {"fees_bps": 0, "slippage_bps": 0}
    sold = frame(bars, [[-0.5]] * 4)
    borrowed = run(bars, sold, BacktestConfig(cash=1000, costs=CostConfig(**free, borrow_bps=365.0)))
    # 500 sold short from bar 1 on, held over two closes: 3.65 % a year is 1 bp a day.
    assert borrowed.equity.tolist() == pytest.approx([1000, 1000, 999.95, 999.90])
    assert (borrowed.financing * [1000, 1000, 1000, 999.95]).tolist() == pytest.approx([0, 0, 0.05, 0.05])
    assert borrowed.cost.equals(borrowed.financing.rename("cost"))
    funded = run(bars, sold, BacktestConfig(cash=1000, costs=CostConfig(**free, funding_bps=2)))
    assert funded.equity.tolist() == pytest.approx([1000, 1000, 1000.1, 1000.2])
    assert funded.financing.sum() < 0


@both
def test_borrowed_money_costs_interest_and_ends_at_the_cap(run: Any) -> None:
    bars = make_bars([[10], [10], [10], [10]])
    costs = CostConfig(fees_bps=0, slippage_bps=0, margin_bps=3650)
    result = run(bars, frame(bars, [[2.0]] * 4), BacktestConfig(cash=1000, leverage=2, costs=costs))
    assert result.trades["size"].tolist() == [200]
    # 1000 borrowed at 36.5 % a year: 1 a day, and interest on interest.
    assert result.equity.tolist() == pytest.approx([1000, 1000, 999, 997.999])
    fees = CostConfig(fees_bps=100, slippage_bps=0)
    dear = run(bars, frame(bars, [[2.0]] * 4), BacktestConfig(cash=1000, leverage=2, costs=fees))
    # Twice the account is 2000, fees included.
    assert dear.trades["size"].tolist() == pytest.approx([2000 / 1.01 / 10])


@both
@pytest.mark.parametrize(
    ("costs", "fee"),
    [({"min_fee": 7}, 7), ({"min_fee": 2}, 5), ({"fixed_fee": 3}, 8), ({"fixed_fee": 3, "min_fee": 9}, 9)],
)
def test_a_fill_pays_the_fixed_fee_and_at_least_the_least(run: Any, costs: dict[str, float], fee: float) -> None:
    bars = make_bars([[10], [10]])
    config = BacktestConfig(cash=1000, costs=CostConfig(fees_bps=100, slippage_bps=0, **costs))
    assert run(bars, frame(bars, [[0.5]] * 2), config).trades["fees"].tolist() == pytest.approx([fee])


@both
def test_a_band_lets_small_drifts_be(run: Any) -> None:
    bars = make_bars([[10], [10], [11], [16], [16]])
    free = CostConfig(fees_bps=0, slippage_bps=0)
    result = run(bars, frame(bars, [[0.5], [0.5], [0.55], [0.55], [0.55]]), BacktestConfig(band=0.06, costs=free))
    # Half at 10; a decision of 0.55 is nearer than 0.06 and let be; the rise to 16 is not.
    assert result.trades["bar"].tolist() == [bars.index[1], bars.index[4]]
    assert result.trades["reason"].tolist() == ["decision", "band"]
    assert result.held.iloc[-1, 0] == pytest.approx(0.55)


def exits_at(bars: Bars, **prices: float) -> Exits:
    names = ("long_stop", "long_target", "short_stop", "short_target")
    return Exits(*(bars.close * 0 + prices.get(name, math.nan) for name in names))


@both
@pytest.mark.parametrize(
    ("weight", "prices", "expected", "reason"),
    [
        (1, {"long_stop": 9.5}, 9.5, "stop"),
        (1, {"long_target": 11}, 11, "target"),
        (1, {"long_stop": 9.5, "long_target": 11}, 9.5, "stop"),
        (-1, {"short_stop": 10.5}, 10.5, "stop"),
        (-1, {"short_target": 9.2}, 9.2, "target"),
        (1, {"long_stop": 10.2}, 10.0, "stop"),
        (-1, {"short_target": 10.2}, 10.0, "target"),
    ],
    ids=["stop", "target", "both: the stop counts", "short stop", "short target", "beyond at once", "short, at once"],
)
def test_a_stop_or_target_closes_within_the_bar(
    run: Any, weight: float, prices: dict[str, float], expected: float, reason: str
) -> None:
    bars = make_bars([[10], [10], [10], [10]])
    bars = replace(bars, high=bars.high * 1.2, low=bars.low * 0.8)
    free = BacktestConfig(cash=1000, costs=CostConfig(fees_bps=0, slippage_bps=0))
    result = run(bars, frame(bars, [[weight]] * 4), free, exits_at(bars, **prices))
    assert result.trades["price"].tolist() == pytest.approx([10, expected])
    assert result.trades["reason"].tolist() == ["decision", reason]
    # Both in bar 1, decided at the close of bar 0; then flat, since no other weight is decided.
    assert result.trades["bar"].tolist() == [bars.index[1]] * 2
    assert result.trades["decided"].tolist() == [bars.index[0]] * 2


@both
@pytest.mark.parametrize(
    ("weights", "reasons"),
    [
        ([1, 1, 0.5, 0.5, 0.4, 0.3], ["decision", "stop"]),
        ([1, 0, 0.5, 0.5, 0.5, 0.5], ["decision", "stop", "decision", "stop"]),
        ([1, 1, -0.5, -0.5, -0.5, -0.5], ["decision", "stop", "decision"]),
    ],
    ids=["another size", "nothing in between", "the other side"],
)
def test_a_stop_lets_another_side_in_again_and_not_another_size(
    run: Any, weights: list[float], reasons: list[str]
) -> None:
    bars = make_bars([[10]] * 6)
    bars = replace(bars, low=bars.low * 0.8)
    result = run(bars, frame(bars, [[one] for one in weights]), BacktestConfig(), exits_at(bars, long_stop=9))
    assert result.trades["reason"].tolist() == reasons


@both
def test_trading_back_a_drift_leaves_the_stop_where_it_was_decided(run: Any) -> None:
    bars = make_bars([[100], [100], [104], [104], [50], [50]])
    exits = exits_at(bars, long_stop=95)
    for frame_ in exits.frames:
        frame_.iloc[1:] = math.nan  # no forecast after the first
    result = run(bars, frame(bars, [[0.5]] * 6), BacktestConfig(band=0.001), exits)
    assert result.trades["reason"].tolist() == ["decision", "band", "stop"]
    assert result.held.iloc[-1, 0] == 0


@both
def test_fills_at_the_close_leave_the_bar_before_its_exits(run: Any) -> None:
    bars = make_bars([[10], [10], [12], [12]])
    bars = replace(bars, low=bars.low * 0.8)
    free = BacktestConfig(fill="close", delay=0, costs=CostConfig(fees_bps=0, slippage_bps=0))
    result = run(bars, frame(bars, [[0], [1], [1], [1]]), free, exits_at(bars, long_stop=9))
    assert result.trades["bar"].tolist() == [bars.index[1], bars.index[2]]
    assert result.trades["price"].tolist() == [10, 9]


def test_weights_of_other_bars_are_a_programming_error() -> None:
    bars = make_bars([[10], [12], [8]])
    weights = frame(bars, [[1], [1], [1]])
    with pytest.raises(ValueError, match="do not share"):
        simulate(bars, weights[:2], BacktestConfig())
    with pytest.raises(ValueError, match="finite"):
        simulate(bars, frame(bars, [[1], [np.nan], [1]]), BacktestConfig())


def test_equity_is_what_vectorbt_says_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    portfolios = []
    original = vectorbt.Portfolio.from_orders

    def spy(*arguments: Any, **named: Any) -> Any:
        portfolios.append(original(*arguments, **named))
        return portfolios[-1]

    monkeypatch.setattr(vectorbt.Portfolio, "from_orders", spy)
    generator = np.random.default_rng(1)
    bars = make_bars((10 * np.exp(generator.normal(0, 0.1, (60, 2)).cumsum(axis=0))).tolist())
    result = simulate(bars, frame(bars, generator.uniform(-0.5, 0.5, (60, 2)).tolist()), BacktestConfig())
    # vectorbt saw the 59 bars that fill something, each valued at the open that fills it.
    at_open = result.equity[1:] + ((bars.open - bars.close) * result.held.mul(result.equity, axis=0) / bars.close).sum(
        axis=1
    )
    assert at_open[1:].tolist() == pytest.approx(portfolios[0].value().tolist(), rel=1e-12)
    assert np.prod(result.net.to_numpy() + 1) * 100_000 == pytest.approx(result.equity.iloc[-1], rel=1e-12)
    assert result.engine in ("numba", "rust")


def test_gate_stops_a_fill_in_the_bar_of_its_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    on_time = engine._due
    monkeypatch.setattr(engine, "_due", lambda decided, delay: on_time(decided, 0))
    bars = make_bars([[10], [12], [8], [9]])
    with pytest.raises(IntegrityError, match=r"A at the open of 2024-01-02.* does not follow a decision") as caught:
        simulate(bars, frame(bars, [[0], [1], [1], [0]]), BacktestConfig())
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("slip", [-1, 1])
def test_gate_stops_a_fill_of_another_decision_though_every_bar_decides(
    monkeypatch: pytest.MonkeyPatch, slip: int
) -> None:
    on_time = engine._due
    monkeypatch.setattr(engine, "_due", lambda decided, delay: on_time(decided, delay + slip))
    bars = make_bars([[10], [12], [8], [9], [10]])
    with pytest.raises(IntegrityError, match="does not follow a decision made 2 bars earlier"):
        simulate(bars, frame(bars, [[0.1], [0.2], [0.3], [0.4], [0.5]]), BacktestConfig(delay=2))


@pytest.mark.parametrize("costs", [{}, {"min_fee": 1.0}], ids=["sized by vectorbt", "planned"])
def test_gate_stops_a_fill_that_is_not_at_its_price(monkeypatch: pytest.MonkeyPatch, costs: dict[str, float]) -> None:
    original = engine._vectorbt
    monkeypatch.setattr(
        engine, "_vectorbt", lambda size, price, *others, **named: original(size, price * 1.01, *others, **named)
    )
    bars = make_bars([[10], [12], [8], [9]])
    with pytest.raises(IntegrityError, match=r"the fill of A at the open of 2024-01-02.* missed its price"):
        simulate(bars, frame(bars, [[1], [1], [1], [0]]), BacktestConfig(costs=CostConfig(**costs)))


def test_gate_stops_a_plan_that_vectorbt_does_not_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    original = engine._vectorbt
    monkeypatch.setattr(
        engine, "_vectorbt", lambda *arguments, **named: original(*arguments, **{**named, "cash": 10.0})
    )
    bars = make_bars([[10], [12], [8], [9]])
    with pytest.raises(IntegrityError, match="did not fill exactly"):
        simulate(bars, frame(bars, [[1], [1], [1], [0]]), BacktestConfig(costs=CostConfig(min_fee=1)))


def test_gate_stops_an_exit_outside_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(*arguments: Any) -> Any:
        made = plan(*arguments)
        return replace(made, price=np.where(made.reason == STOP, made.price * 2, made.price))

    monkeypatch.setattr(engine, "plan", elsewhere)
    bars = make_bars([[10], [10], [10], [8]])
    with pytest.raises(IntegrityError, match="does not follow a decision"):
        simulate(bars, frame(bars, [[1]] * 4), BacktestConfig(), exits_at(bars, long_stop=9))


def test_an_extra_of_another_version_leaves_the_work_to_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = vectorbt.Portfolio.from_orders

    def refuse(*arguments: Any, **named: Any) -> Any:
        asked.append(named["engine"])
        if named["engine"] == "rust":
            raise ImportError("of another version")
        return original(*arguments, **named)

    monkeypatch.setattr(engine, "find_spec", lambda name: name)
    monkeypatch.setattr(vectorbt.Portfolio, "from_orders", refuse)
    bars = make_bars([[10], [12], [8]])
    assert simulate(bars, frame(bars, [[1], [1], [0]]), BacktestConfig()).engine == "numba"
    assert asked == ["rust", "numba"]

"""Gate G8 at each of its thresholds, and the evidence it grades collected from whole backtests."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtrade.backtest.costs import BacktestConfig, CostConfig
from qtrade.backtest.metrics import metrics
from qtrade.backtest.reference import simulate_by_hand
from qtrade.backtest.statistics import backtest_overfitting, deflated_sharpe, min_track_record, probabilistic_sharpe
from qtrade.evaluation.trading import Grade, TradingEvidence, gate, retention, trading_evidence
from qtrade.types import Bars, Float64Array

GOOD = TradingEvidence(
    trades=40,
    years=8.0,
    sharpe=1.4,
    sharpe_low=0.7,
    sharpe_high=2.1,
    psr=0.999,
    dsr=0.97,
    trials=12,
    min_track_record_years=1.5,
    shift_p=0.004,
    breakeven_over_cost=3.5,
    delay_retention=0.8,
    pbo=0.1,
    variants=12,
)
CHECKS = ("dsr", "shift_p", "breakeven_over_cost", "delay_retention", "pbo")


def make_bars(bars: int = 400, *, seed: int = 0) -> Bars:
    """A random walk whose bars open where the last one closed."""
    index = pd.date_range("2020-01-01", periods=bars, tz="UTC")
    steps = np.random.default_rng(seed).standard_normal(bars) * 0.01
    close = pd.DataFrame({"A": 100 * np.exp(steps.cumsum())}, index=index)
    first = close.shift().fillna(100.0)
    return Bars(
        open=first,
        high=first.where(first > close, close),
        low=first.where(first < close, close),
        close=close,
        volume=close * 0,
        interval="1d",
        calendar="XNYS",
        periods_per_year=252.0,
    )


def collect(
    bars: Bars,
    decided: Float64Array,
    *,
    trials: int = 1,
    trial_variance: float | None = None,
    variants: Float64Array | None = None,
    cost_bps: float = 1.0,
) -> TradingEvidence:
    """Backtest weights at delays of one and two bars, and collect the evidence."""
    account = BacktestConfig(costs=CostConfig(fees_bps=cost_bps, slippage_bps=cost_bps))
    weights = pd.DataFrame(decided[:, None], index=bars.index, columns=bars.symbols)
    return trading_evidence(
        simulate_by_hand(bars, weights, account),
        bars,
        account,
        delayed=simulate_by_hand(bars, weights, account.model_copy(update={"delay": 2})),
        trials=trials,
        trial_variance=trial_variance,
        variants=variants,
        seed=0,
    )[0]


def clairvoyant(bars: Bars, lead: int, *, noise: float = 0.01) -> Float64Array:
    """Half of the account in the blurred direction of the next `lead` bars that a fill one bar later can still earn."""
    steps = np.log(bars.close["A"].to_numpy() / bars.open["A"].to_numpy())
    ahead = np.array([steps[t + 1 : t + 1 + lead].sum() for t in range(len(steps))])
    blur = np.random.default_rng(99).standard_normal(len(steps)) * noise * math.sqrt(lead)
    return np.asarray(0.5 * np.sign(ahead + blur))


# ---------------------------------------------------------------------------------------------- the gate


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("dsr", 1.0, "PASS"),
        ("dsr", 0.95, "PASS"),
        ("dsr", 0.9499, "WARN"),
        ("dsr", 0.90, "WARN"),
        ("dsr", 0.8999, "FAIL"),
        ("shift_p", 0.0499, "PASS"),
        ("shift_p", 0.05, "WARN"),
        ("shift_p", 0.10, "WARN"),
        ("shift_p", 0.1001, "FAIL"),
        ("breakeven_over_cost", 2.0, "PASS"),
        ("breakeven_over_cost", 1.999, "WARN"),
        ("breakeven_over_cost", 1.0, "WARN"),
        ("breakeven_over_cost", 0.999, "FAIL"),
        ("breakeven_over_cost", -4.0, "FAIL"),
        ("delay_retention", 0.5, "PASS"),
        ("delay_retention", 0.499, "WARN"),
        ("delay_retention", 0.25, "WARN"),
        ("delay_retention", 0.249, "FAIL"),
        ("delay_retention", -1.0, "FAIL"),
        ("pbo", 0.299, "PASS"),
        ("pbo", 0.3, "WARN"),
        ("pbo", 0.5, "WARN"),
        ("pbo", 0.501, "FAIL"),
    ],
)
def test_each_check_decides_at_its_thresholds(name: str, value: float, expected: Grade) -> None:
    assert gate(GOOD)[0] == "PASS"
    assert gate(replace(GOOD, **{name: value}))[0] == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CHECKS)
def test_one_failure_outweighs_everything_and_is_told_first(name: str) -> None:
    bad = 0.9 if name in ("shift_p", "pbo") else 0.2
    weak = replace(GOOD, **{other: None for other in CHECKS if other != name}, **{name: bad})  # type: ignore[arg-type]
    for evidence in (replace(GOOD, **{name: bad}), weak):  # type: ignore[arg-type]
        grade, reasons = gate(evidence)
        assert grade == "FAIL"
        assert "0.90" in reasons[0] if bad == 0.9 else "0.20" in reasons[0]
        assert len(reasons) == 5


def test_a_pass_needs_everything_measured_but_the_pbo() -> None:
    assert gate(replace(GOOD, pbo=None, variants=3))[0] == "PASS"
    for name in CHECKS[:-1]:
        grade, reasons = gate(replace(GOOD, **{name: None}))  # type: ignore[arg-type]
        assert grade == "WARN"
        assert "not measured" in reasons[0]


def test_nothing_measured_is_no_grade() -> None:
    nothing: dict[str, None] = dict.fromkeys(CHECKS)
    grade, reasons = gate(replace(GOOD, **nothing))  # type: ignore[arg-type]
    assert grade == "NOT MEASURED"
    assert all("not measured" in reason for reason in reasons)


def test_a_strategy_that_never_trades_is_not_judged() -> None:
    assert gate(replace(GOOD, trades=0)) == (
        "NOT MEASURED",
        ("The strategy never traded, so there is nothing to judge.",),
    )


def test_nan_counts_as_not_measured() -> None:
    assert gate(replace(GOOD, dsr=math.nan)) == gate(replace(GOOD, dsr=None))


def test_reasons_are_sentences_with_their_numbers() -> None:
    _, reasons = gate(replace(GOOD, dsr=0.13, trials=100, sharpe=0.62, sharpe_low=-0.25, sharpe_high=1.49))
    assert reasons == (
        "The strategy is better than the luckiest of 100 useless trials with probability 0.13 "
        "(Sharpe ratio 0.62, 95% interval -0.25 to 1.49, over 8.0 years); 0.95 passes, below 0.90 fails.",
        "The same positions at other times do at least as well with probability 0.00; "
        "below 0.05 passes, above 0.10 fails.",
        "Costs of 3.50 times those assumed would eat the whole gross profit; 2 times passes, below 1 fails.",
        "Filled one bar later, the strategy has 0.80 times its Sharpe ratio; 0.5 passes, below 0.25 fails.",
        "The best of 12 variants is below their median in other bars with probability 0.10; "
        "below 0.3 passes, above 0.5 fails.",
    )


def test_reasons_say_what_is_missing_and_why() -> None:
    _, reasons = gate(
        replace(
            GOOD,
            dsr=0.3,
            trials=1,
            sharpe=-0.4,
            shift_p=None,
            breakeven_over_cost=-0.5,
            delay_retention=None,
            pbo=None,
            variants=3,
        )
    )
    text = " ".join(reasons)
    assert "better than a useless strategy with probability 0.30" in text
    assert "earns nothing before costs: it breaks even at -0.50 times" in text
    assert "the period is too short" in text
    assert "a Sharpe ratio of -0.40 leaves nothing to keep" in text
    assert "needs 10 variants, and there are 3" in text
    _, reasons = gate(replace(GOOD, breakeven_over_cost=None, delay_retention=None))
    assert "no cost was assumed" in reasons[0]
    assert "no backtest with orders filled one bar later" in reasons[1]


def test_a_number_is_never_rounded_across_its_threshold() -> None:
    assert "0.8999 " in " ".join(gate(replace(GOOD, dsr=0.8999))[1])
    assert "0.1001;" in " ".join(gate(replace(GOOD, shift_p=0.1001))[1])
    assert "0.50;" in " ".join(gate(replace(GOOD, pbo=0.5))[1])


@given(st.fixed_dictionaries({name: st.none() | st.floats(-2, 4) for name in CHECKS}))
def test_improving_any_number_never_worsens_the_grade(values: dict[str, float | None]) -> None:
    order = ("FAIL", "WARN", "PASS")
    evidence = replace(GOOD, **values)  # type: ignore[arg-type]
    before = gate(evidence)[0]
    for name, value in values.items():
        if value is None or before == "NOT MEASURED":
            continue
        better = value - 0.3 if name in ("shift_p", "pbo") else value + 0.3
        after = gate(replace(evidence, **{name: better}))[0]  # type: ignore[arg-type]
        assert order.index(after) >= order.index(before)


# ---------------------------------------------------------------------------------------------- the evidence


@pytest.mark.parametrize(
    ("sharpe", "delayed", "expected"),
    [(2.0, 1.0, 0.5), (2.0, -1.0, -0.5), (0.0, 1.0, None), (-1.0, -0.5, None), (math.nan, 1.0, None)],
)
def test_retention_needs_something_to_keep(sharpe: float, delayed: float, expected: float | None) -> None:
    assert retention(sharpe, delayed) == expected
    assert retention(2.0, math.nan) is None


def test_the_evidence_holds_what_its_parts_say() -> None:
    bars = make_bars(500)
    decided = clairvoyant(bars, 24)
    account = BacktestConfig(delay=1, costs=CostConfig(fees_bps=2.0, slippage_bps=1.0))
    weights = pd.DataFrame(decided[:, None], index=bars.index, columns=bars.symbols)
    result = simulate_by_hand(bars, weights, account)
    later = simulate_by_hand(bars, weights, account.model_copy(update={"delay": 2}))
    net, measured = result.net.to_numpy(), metrics(result, 252.0)
    noise = np.random.default_rng(1).standard_normal((500, 11)) * 0.01
    variants = np.column_stack([net, noise])
    found, shifts = trading_evidence(
        result, bars, account, delayed=later, trials=30, trial_variance=0.002, variants=variants, seed=3
    )
    assert (found.trades, found.years) == (measured.trades, 500 / 252)
    assert (found.sharpe, found.sharpe_low, found.sharpe_high) == (
        measured.sharpe,
        measured.sharpe_low,
        measured.sharpe_high,
    )
    assert found.psr == probabilistic_sharpe(net)
    assert found.dsr == deflated_sharpe(net, trials=30, variance=0.002)
    assert found.trials == 30
    assert found.min_track_record_years == min_track_record(net) / 252
    assert found.shift_p == shifts.p
    assert found.breakeven_over_cost == pytest.approx(measured.breakeven_cost_bps / 3)
    assert found.delay_retention == metrics(later, 252.0).sharpe / measured.sharpe
    assert found.pbo == pytest.approx(backtest_overfitting(variants))
    assert found.variants == 12


def test_good_timing_passes() -> None:
    bars = make_bars(1_000)
    grade, reasons = gate(collect(bars, clairvoyant(bars, 24, noise=0.002)))
    assert grade == "PASS", reasons


def test_timing_that_is_gone_one_bar_later_fails() -> None:
    bars = make_bars(1_000)
    found = collect(bars, clairvoyant(bars, 1, noise=0.02))
    assert gate(found)[1][0].startswith("Filled one bar later")
    assert gate(found)[0] == "FAIL"
    assert gate(replace(found, delay_retention=0.5))[0] == "PASS"


def test_costs_above_the_breakeven_fail() -> None:
    bars = make_bars(1_000)
    found = collect(bars, clairvoyant(bars, 24), cost_bps=60.0)
    assert found.breakeven_over_cost is not None
    assert found.breakeven_over_cost < 1
    assert gate(found)[0] == "FAIL"


def test_buy_and_hold_in_a_rising_market_is_no_evidence_of_timing() -> None:
    rising = make_bars(1_000, seed=4)
    trend = np.exp(0.002 * np.arange(1_001))
    bars = replace(
        rising,
        **{
            name: getattr(rising, name).mul(trend[shift : 1_000 + shift], axis=0)
            for name, shift in (("open", 0), ("close", 1))
        },
        high=rising.high.mul(trend[1:], axis=0),
        low=rising.low.mul(trend[:-1], axis=0),
    )
    found = collect(bars, np.ones(1_000))
    assert found.dsr is not None
    assert found.dsr > 0.95
    assert found.shift_p is not None
    assert found.shift_p > 0.10
    assert gate(found)[0] == "FAIL"


def test_useless_strategies_almost_never_pass() -> None:
    passed = 0
    for seed in range(40):
        bars = make_bars(480, seed=seed)
        decided = np.sign(np.random.default_rng(1_000 + seed).standard_normal(20)).repeat(24) / 2
        passed += gate(collect(bars, decided))[0] == "PASS"
    assert passed <= 4


def test_an_idle_strategy_has_no_evidence() -> None:
    found = collect(make_bars(), np.zeros(400))
    assert found.trades == 0
    values = found.to_dict()
    assert {name for name, value in values.items() if value is not None} == {"trades", "years", "trials", "variants"}
    assert gate(found)[0] == "NOT MEASURED"


def test_without_a_cost_there_is_no_room_to_measure() -> None:
    bars = make_bars()
    assert collect(bars, clairvoyant(bars, 24), cost_bps=0.0).breakeven_over_cost is None


def test_repeated_variants_count_once() -> None:
    bars = make_bars()
    noise = np.random.default_rng(5).standard_normal((400, 9))
    found = collect(bars, clairvoyant(bars, 24), variants=np.column_stack([noise, noise]))
    assert (found.variants, found.pbo) == (9, None)


def test_the_evidence_is_plain_json() -> None:
    bars = make_bars()
    found = collect(bars, -clairvoyant(bars, 24))
    assert found.min_track_record_years == math.inf
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["min_track_record_years"] is None
    assert values["dsr_probability"] == found.dsr
    assert values["sharpe_annual"] == found.sharpe
    assert values["delay_retention_share"] is None

"""Statistics of a backtest against published numbers, plain loops, and simulations in which nothing is to be found."""

from __future__ import annotations

import json
import math
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from scipy import signal, stats

from qtrade.backtest import statistics
from qtrade.backtest.costs import BacktestConfig, CostConfig
from qtrade.backtest.metrics import sharpe_ratio
from qtrade.backtest.reference import simulate_by_hand
from qtrade.backtest.statistics import (
    backtest_overfitting,
    circular_shift_null,
    deflated_sharpe,
    expected_best_sharpe,
    fill_to_fill,
    min_track_record,
    probabilistic_sharpe,
)
from qtrade.types import Bars, Float64Array


def garch(bars: int, paths: int, drift: float, seed: int) -> Float64Array:
    """(bars, paths) returns of GARCH(.08, .90) with t6 shocks and a standard deviation of 1 %."""
    shocks = np.random.default_rng(seed).standard_t(6, size=(bars + 100, paths)) / math.sqrt(1.5)
    returns, variance = np.empty_like(shocks), np.ones(paths)
    for t, shock in enumerate(shocks):
        returns[t] = np.sqrt(variance) * shock
        variance = 0.02 + 0.08 * returns[t] ** 2 + 0.90 * variance
    return np.asarray(0.01 * returns[100:] + drift)


def tranches(direction: Float64Array, horizon: int = 24) -> Float64Array:
    """Mean of the last `horizon` rows: each row is a tranche that is held for `horizon` bars."""
    return np.asarray(signal.lfilter(np.ones(horizon) / horizon, [1.0], direction, axis=0), dtype=np.float64)


def useless_forecast(bars: int, paths: int, seed: int) -> Float64Array:
    """(bars, paths) persistent AR(.9) with a standard deviation of 1, which knows nothing of any return."""
    steps = np.random.default_rng(seed).standard_normal((bars + 100, paths)) * math.sqrt(1 - 0.9**2)
    return np.asarray(signal.lfilter([1.0], [1.0, -0.9], steps, axis=0)[100:], dtype=np.float64)


def make_bars(opens: list[list[float]], closes: list[list[float]]) -> Bars:
    index = pd.date_range("2024-01-01", periods=len(opens), tz="UTC")
    columns = [f"S{number}" for number in range(len(opens[0]))]
    first, last = (pd.DataFrame(values, index=index, columns=columns) for values in (opens, closes))
    return Bars(
        open=first,
        high=first.where(first > last, last),
        low=first.where(first < last, last),
        close=last,
        volume=first * 0,
        interval="1d",
        calendar="XNYS",
        periods_per_year=252.0,
    )


# ---------------------------------------------------------------------------------------------- Sharpe ratios


def paper_returns() -> Float64Array:
    """1,250 days whose annual Sharpe ratio is 2.5, skew -3 and kurtosis 10: those moments leave only two values."""
    values = np.concatenate([np.full(1145, 1.0), np.full(105, 0.0)])
    return np.asarray((values - values.mean()) / values.std(ddof=1) + 2.5 / math.sqrt(250))


def test_the_worked_example_of_the_deflated_sharpe_paper() -> None:
    # Bailey & López de Prado 2014: 100 trials, annual variance 1/2, five years of days.
    variance = 0.5 / 250
    assert expected_best_sharpe(variance, 100) == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe(paper_returns(), trials=100, variance=variance) == pytest.approx(0.9004, abs=5e-4)


def test_psr_and_track_record_agree_with_their_formulas() -> None:
    returns = np.random.default_rng(1).standard_t(5, size=400) * 0.01 + 0.0008
    ratio = returns.mean() / returns.std(ddof=1)
    skew, kurtosis = stats.skew(returns), stats.kurtosis(returns, fisher=False)
    spread = 1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2
    expected = stats.norm.cdf((ratio - 0.02) * math.sqrt(399) / math.sqrt(spread))
    assert probabilistic_sharpe(returns, 0.02) == pytest.approx(expected)
    assert min_track_record(returns, 0.02) == pytest.approx(1 + spread * (1.6448536 / (ratio - 0.02)) ** 2)


def test_a_record_of_the_minimum_length_reaches_the_level() -> None:
    returns = np.random.default_rng(2).standard_normal(500) + 0.15
    level = probabilistic_sharpe(returns)
    assert 0.9 < level < 0.999
    assert min_track_record(returns, level=level) == pytest.approx(500)
    assert min_track_record(returns, level=0.9) < 500 < min_track_record(returns, level=0.9999)


def test_no_record_is_long_enough_for_a_ratio_that_is_not_above_the_benchmark() -> None:
    returns = np.random.default_rng(3).standard_normal(100)
    ratio, _ = sharpe_ratio(returns, 1.0)
    assert min_track_record(returns, ratio) == math.inf
    assert min_track_record(-np.abs(returns)) == math.inf


@pytest.mark.parametrize("returns", [np.zeros(50), np.full(50, 0.1), np.array([0.1]), np.array([])])
def test_returns_that_do_not_vary_have_no_probability(returns: Float64Array) -> None:
    assert math.isnan(probabilistic_sharpe(returns))
    assert math.isnan(deflated_sharpe(returns, trials=5))
    assert math.isnan(min_track_record(returns))


def test_one_trial_is_deflated_by_nothing_and_more_trials_by_more() -> None:
    returns = np.random.default_rng(4).standard_normal(500) + 0.08
    found = [deflated_sharpe(returns, trials=trials) for trials in (1, 2, 10, 1000)]
    assert found[0] == probabilistic_sharpe(returns)
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.3 < 0.9 < found[0]


def test_the_luckiest_of_a_hundred_useless_trials_has_the_expected_ratio() -> None:
    returns = np.random.default_rng(5).standard_normal((250, 100, 100))
    best = (returns.mean(axis=0) / returns.std(axis=0, ddof=1)).max(axis=1)
    assert best.mean() == pytest.approx(expected_best_sharpe(1 / 249, 100), rel=0.03)


@pytest.mark.parametrize(("variance", "trials"), [(0.1, 0), (-0.1, 5), (math.nan, 5)])
def test_no_trials_and_impossible_variances_are_refused(variance: float, trials: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        expected_best_sharpe(variance, trials)


def test_psr_rejects_useless_tranches_on_garch_returns_at_its_level() -> None:
    net = tranches(np.sign(useless_forecast(1_000, 1_000, seed=6))) * garch(1_000, 1_000, drift=0.0, seed=7)
    p = np.array([1 - probabilistic_sharpe(column) for column in net.T])
    assert 0.03 < (p < 0.05).mean() < 0.08
    assert 0.45 < p.mean() < 0.55


def test_dsr_rarely_believes_the_best_of_twenty_useless_strategies() -> None:
    net = garch(500, 20 * 200, drift=0.0, seed=8)
    ratios = net.mean(axis=0) / net.std(axis=0, ddof=1)
    best = ratios.reshape(200, 20).argmax(axis=1) + 20 * np.arange(200)
    believed = [deflated_sharpe(net[:, column], trials=20) >= 0.95 for column in best]
    deceived = [probabilistic_sharpe(net[:, column]) >= 0.95 for column in best]
    assert np.mean(believed) <= 0.05
    assert np.mean(deceived) > 0.5


# ---------------------------------------------------------------------------------------------- overfitting


def overfitting_by_hand(returns: Float64Array, blocks: int) -> float:
    length = len(returns) // blocks
    pieces = np.split(returns[len(returns) - length * blocks :], blocks)
    below = []
    for chosen in combinations(range(blocks), blocks // 2):
        past = np.concatenate([pieces[number] for number in chosen])
        later = np.concatenate([pieces[number] for number in range(blocks) if number not in chosen])
        first, second = (
            [0.0 if np.ptp(column) == 0 else column.mean() / column.std() for column in half.T]
            for half in (past, later)
        )
        rank = stats.rankdata(np.round(second, 10))[int(np.argmax(first))] / (returns.shape[1] + 1)
        below.append(math.log(rank / (1 - rank)) <= 1e-12)
    return float(np.mean(below))


@pytest.mark.parametrize(("variants", "blocks"), [(2, 2), (5, 4), (6, 8)])
def test_overfitting_matches_a_plain_loop(variants: int, blocks: int) -> None:
    generator = np.random.default_rng(variants)
    for _ in range(5):
        returns = generator.standard_normal((131, variants)) * generator.uniform(0.5, 2, variants)
        assert backtest_overfitting(returns, blocks) == overfitting_by_hand(returns, blocks)
    returns[:, 0] = 0.0  # an idle variant
    returns[:, -1] = returns[:, 1]  # a tie
    assert backtest_overfitting(returns, blocks) == overfitting_by_hand(returns, blocks)


def test_overfitting_does_not_depend_on_how_much_is_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    returns = np.random.default_rng(9).standard_normal((120, 7))
    whole = backtest_overfitting(returns, 8)
    monkeypatch.setattr(statistics, "_AT_ONCE", 50)
    assert backtest_overfitting(returns, 8) == whole


def test_useless_variants_are_overfitted_about_half_of_the_time() -> None:
    generator = np.random.default_rng(10)
    found = [backtest_overfitting(generator.standard_normal((640, 20)), 12) for _ in range(60)]
    assert 0.4 < np.mean(found) < 0.6
    assert np.std(found) > 0.1  # so widely that it is no verdict on its own


def test_a_variant_that_is_truly_better_is_not_overfitted() -> None:
    returns = np.random.default_rng(11).standard_normal((640, 20))
    returns[:, 3] += 0.3
    assert backtest_overfitting(returns) < 0.01


def test_variants_that_each_work_in_one_block_only_are_overfitted() -> None:
    returns = np.random.default_rng(12).standard_normal((640, 16)) - 0.05
    for block in range(16):
        returns[40 * block : 40 * (block + 1), block] += 2
    assert backtest_overfitting(returns) > 0.95


@pytest.mark.parametrize("shape", [(640, 1), (640, 0), (31, 5), (0, 5)])
def test_overfitting_is_undefined_for_one_variant_or_blocks_of_one_bar(shape: tuple[int, int]) -> None:
    assert math.isnan(backtest_overfitting(np.ones(shape)))


@pytest.mark.parametrize("blocks", [0, 3, 22])
def test_an_unusable_number_of_blocks_is_refused(blocks: int) -> None:
    with pytest.raises(ValueError, match="even number"):
        backtest_overfitting(np.ones((640, 5)), blocks)


# ---------------------------------------------------------------------------------------------- shifts


def shifted_by_hand(held: Float64Array, returns: Float64Array, cost: float, shift: int) -> list[float]:
    """Net returns of positions moved by `shift` bars, one number at a time."""
    bars, symbols = held.shape
    net = []
    for t in range(bars):
        now, before = held[(t - shift) % bars], held[(t - shift - 1) % bars]
        earned = sum(now[s] * returns[t, s] for s in range(symbols))
        net.append(earned - cost * sum(abs(now[s] - before[s]) for s in range(symbols)))
    return net


@pytest.mark.parametrize("at_once", [4_000_000, 300])
def test_shifts_match_a_plain_loop(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(statistics, "_AT_ONCE", at_once)
    generator = np.random.default_rng(13)
    held = np.round(generator.standard_normal((60, 3)), 1)
    returns = generator.standard_normal((60, 3)) * 0.02
    null = circular_shift_null(held, returns, 1e-3, min_shift=3, seed=0)
    own, *shifted = (shifted_by_hand(held, returns, 1e-3, shift) for shift in [0, *range(3, 58)])
    expected = [sharpe_ratio(np.array(net), 1.0)[0] for net in shifted]
    assert null.sharpe == pytest.approx(sharpe_ratio(np.array(own), 1.0)[0])
    assert null.null == pytest.approx(expected)
    assert null.p == (1 + sum(one >= null.sharpe for one in expected)) / (1 + len(expected))
    accounts = np.array([np.cumprod(1 + np.array(net)) for net in shifted])
    assert null.fan == pytest.approx(np.quantile(accounts, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0).T)


def test_shifts_are_drawn_without_repetition_from_those_allowed() -> None:
    generator = np.random.default_rng(14)
    held, returns = generator.standard_normal((200, 1)), generator.standard_normal((200, 1)) * 0.01
    every = circular_shift_null(held, returns, 0.0, min_shift=24, draws=10_000, seed=0)
    some = circular_shift_null(held, returns, 0.0, min_shift=24, draws=60, seed=3)
    assert len(every.null) == 200 - 2 * 24 + 1
    assert len(set(some.null)) == 60
    assert set(some.null) <= set(every.null)
    again = circular_shift_null(held, returns, 0.0, min_shift=24, draws=60, seed=3)
    other = circular_shift_null(held, returns, 0.0, min_shift=24, draws=60, seed=4)
    assert np.array_equal(some.null, again.null)
    assert not np.array_equal(some.null, other.null)


def test_every_shift_trades_as_much_as_the_strategy() -> None:
    held = np.random.default_rng(15).standard_normal((480, 2))
    null = circular_shift_null(held, np.zeros((480, 2)), 1e-3, seed=0)
    assert null.null == pytest.approx(np.full(480 - 47, null.sharpe))
    assert null.sharpe < 0
    assert null.p == 1


def test_holding_the_market_is_no_timing_however_much_it_rises() -> None:
    returns = garch(600, 2, drift=0.005, seed=16)
    null = circular_shift_null(np.full((600, 2), 1 / 3), returns, 2e-4, seed=0)
    assert null.sharpe > 0.3
    assert null.p == 1


def test_timing_is_found_and_costs_can_undo_it() -> None:
    returns = garch(600, 1, drift=0.0, seed=17)
    noise = np.random.default_rng(18).standard_normal((600, 1)) * 0.03
    held = np.sign(returns + noise)
    assert circular_shift_null(held, returns, 0.0, seed=0).p == pytest.approx(1 / 501)
    dear = circular_shift_null(held, returns, 0.01, seed=0)
    assert dear.sharpe < 0
    assert dear.p == pytest.approx(1 / 501)  # still timed well, only not well enough to pay


@pytest.mark.parametrize(("bars", "held"), [(47, 1.0), (479, 1.0), (600, 0.0)])
def test_a_short_period_and_an_idle_strategy_have_no_p_value(bars: int, held: float) -> None:
    weights = np.full((bars, 1), held)
    weights[:5] = 0
    null = circular_shift_null(weights, garch(bars, 1, 0.0, seed=19), 2e-4, seed=0)
    assert math.isnan(null.p)
    assert null.to_dict()["p"] is None
    assert np.isnan(null.fan).all() == (bars == 47)


def test_a_ruined_account_stays_at_nothing() -> None:
    returns = np.full((60, 1), 0.01)
    returns[30] = 2.0
    null = circular_shift_null(np.full((60, 1), -1.0), returns, 0.0, seed=0)
    assert (null.fan[:30] > 0).all()
    assert (null.fan[30:] == 0).all()


def test_the_null_is_plain_json() -> None:
    generator = np.random.default_rng(20)
    null = circular_shift_null(generator.random((200, 1)), generator.standard_normal((200, 1)), 0.0, draws=99, seed=0)
    found = json.loads(json.dumps(null.to_dict(), allow_nan=False))
    assert found["shifts"] == 99
    assert found["null_sharpe_per_bar_q05"] < found["null_sharpe_per_bar_q50"] < found["null_sharpe_per_bar_q95"]


@pytest.mark.parametrize(
    ("held", "returns", "min_shift", "draws"),
    [
        (np.ones((60, 1)), np.ones((60, 2)), 24, 10),
        (np.ones(60), np.ones(60), 24, 10),
        (np.full((60, 1), np.nan), np.ones((60, 1)), 24, 10),
        (np.ones((60, 1)), np.full((60, 1), np.inf), 24, 10),
        (np.ones((60, 1)), np.ones((60, 1)), 0, 10),
        (np.ones((60, 1)), np.ones((60, 1)), 24, 0),
    ],
)
def test_unusable_positions_are_refused(held: Float64Array, returns: Float64Array, min_shift: int, draws: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        circular_shift_null(held, returns, 0.0, min_shift=min_shift, draws=draws, seed=0)


@pytest.mark.parametrize("kind", ["long and short", "mostly long", "late buy and hold"])
def test_the_shift_p_value_has_its_size_for_useless_tranches_in_a_rising_market(kind: str) -> None:
    bars, paths = 600, 250
    returns = garch(bars, paths, drift=5e-4, seed=21)
    forecast = useless_forecast(bars, paths, seed=22)
    held = {
        "long and short": lambda: tranches(np.sign(forecast)),
        "mostly long": lambda: tranches((forecast > -0.5).astype(np.float64)),
        "late buy and hold": lambda: np.vstack([np.zeros((5, paths)), np.ones((bars - 5, paths))]),
    }[kind]()
    p = np.array(
        [circular_shift_null(held[:, [path]], returns[:, [path]], 2e-4, draws=59, seed=path).p for path in range(paths)]
    )
    assert 0.02 <= (p <= 0.05).mean() <= 0.09
    assert 0.44 < p.mean() < 0.56


@pytest.mark.parametrize("direction", [1, -1])
def test_the_shift_p_value_has_its_size_for_forecasts_that_follow_or_fade_past_returns(direction: int) -> None:
    # Known but useless: neighbouring returns are independent.
    bars, paths = 2_000, 250
    returns = garch(bars, paths, drift=5e-4, seed=30)
    past = np.vstack([np.zeros((1, paths)), tranches(returns)[:-1]])
    held = direction * tranches(np.sign(past))
    p = [circular_shift_null(held[:, [path]], returns[:, [path]], 2e-4, draws=59, seed=path).p for path in range(paths)]
    assert 0.01 <= np.mean([one <= 0.05 for one in p]) <= 0.11
    assert 0.44 < np.mean(p) < 0.56


def test_the_shift_p_value_has_its_size_for_symbols_that_move_together() -> None:
    bars, runs, symbols = 600, 250, 3
    common = garch(bars, runs, drift=5e-4, seed=23)
    own = garch(bars, runs * symbols, drift=0.0, seed=24).reshape(bars, runs, symbols)
    returns = common[:, :, None] + own
    held = tranches(np.sign(useless_forecast(bars, runs * symbols, seed=25))).reshape(bars, runs, symbols) / symbols
    p = [circular_shift_null(held[:, run], returns[:, run], 2e-4, draws=59, seed=run).p for run in range(runs)]
    assert 0.02 <= np.mean([one <= 0.05 for one in p]) <= 0.09


# ---------------------------------------------------------------------------------------------- pairing


def test_a_weight_earns_from_the_open_that_fills_it_to_the_next() -> None:
    bars = make_bars([[10.0], [11.0], [22.0], [20.0]], [[12.0], [20.0], [21.0], [25.0]])
    decided = pd.DataFrame([[0.5], [1.0], [-1.0], [0.25]], index=bars.index, columns=bars.symbols)
    held, returns = fill_to_fill(bars, decided, BacktestConfig())
    assert held.ravel().tolist() == [0.0, 0.5, 1.0, -1.0]
    assert returns.ravel() == pytest.approx([0.1, 1.0, -1 / 11, 0.25])
    assert fill_to_fill(bars, decided, BacktestConfig(delay=3))[0].ravel().tolist() == [0.0, 0.0, 0.0, 0.5]


def test_a_weight_cannot_be_held_before_it_is_decided() -> None:
    generator = np.random.default_rng(26)
    prices = np.exp(generator.standard_normal((40, 2)) * 0.01).tolist()
    bars = make_bars(prices, prices)
    decided = pd.DataFrame(generator.standard_normal((40, 2)), index=bars.index, columns=bars.symbols)
    poisoned = decided.copy()
    poisoned.iloc[20:] = np.nan
    for delay in (1, 2, 5):
        account = BacktestConfig(delay=delay)
        held, changed = fill_to_fill(bars, decided, account)[0], fill_to_fill(bars, poisoned, account)[0]
        assert np.array_equal(held[: 20 + delay], changed[: 20 + delay])
        assert np.isnan(changed[20 + delay :]).all()


@pytest.mark.parametrize(("fill", "delay"), [("open", 1), ("open", 3), ("close", 0), ("close", 2)])
def test_the_pairing_earns_what_the_engine_earns_where_every_bar_trades(
    fill: Literal["open", "close"], delay: int
) -> None:
    steps = garch(160, 2, drift=0.0, seed=27).cumsum(axis=0)
    bars = make_bars(np.exp(steps[::2]).tolist(), np.exp(steps[1::2]).tolist())
    shares = np.random.default_rng(28).uniform(-0.4, 0.4, size=(80, 2))
    weights = pd.DataFrame(shares, index=bars.index, columns=bars.symbols)
    account = BacktestConfig(fill=fill, delay=delay, costs=CostConfig(fees_bps=0.0, slippage_bps=0.0))
    equity = simulate_by_hand(bars, weights, account).equity.to_numpy(dtype=np.float64)
    held, returns = fill_to_fill(bars, weights, account)
    assert account.cash * np.prod(1 + (held * returns).sum(axis=1)) == pytest.approx(equity[-1], rel=1e-12)


def test_weights_of_another_period_are_refused() -> None:
    bars = make_bars([[10.0], [11.0]], [[12.0], [20.0]])
    with pytest.raises(ValueError, match="index"):
        fill_to_fill(bars, pd.DataFrame(0.0, index=bars.index[:1], columns=bars.symbols), BacktestConfig())

"""Regimes are what they say, and what forecasts and trades were worth in them is measured rightly."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import signal

from qtrade.evaluation.by_regime import (
    ENOUGH,
    HorizonForecasts,
    RegimeSkill,
    by_regime,
    fold_heatmap,
)
from qtrade.evaluation.regimes import (
    UNKNOWN,
    Regimes,
    drawdown,
    grid,
    markov,
    regime_mix,
    trend,
    volatility_terciles,
)
from qtrade.evaluation.significance import ewc_test, mean_interval
from qtrade.evaluation.within import _cosines_within
from qtrade.types import Float64Array, IntArray

HORIZON = 24
START = 700
MARKETS = 120


def garch(length: int, series: int, seed: int) -> Float64Array:
    """(T, series) returns without any memory but that of their volatility, with fat tails."""
    shocks = np.random.default_rng(seed).standard_t(6, (length, series)) / math.sqrt(1.5)
    returns, variance = np.empty_like(shocks), np.ones(series)
    for bar in range(length):
        returns[bar] = np.sqrt(variance) * shocks[bar]
        variance = 0.02 + 0.08 * returns[bar] ** 2 + 0.90 * variance
    return 0.01 * returns


def persistent(shape: tuple[int, ...], memory: float, seed: int) -> Float64Array:
    """(T, series) forecasts that know nothing."""
    shocks = np.random.default_rng(seed).standard_normal(shape)
    return np.asarray(signal.lfilter([0.01], [1.0, -memory], shocks, axis=0), dtype=np.float64)


def outcomes(returns: Float64Array) -> Float64Array:
    """(T - START - HORIZON, S) return of the HORIZON bars after each origin from START on."""
    total = returns.cumsum(axis=0)
    return np.asarray(total[START + HORIZON :] - total[START:-HORIZON], dtype=np.float64)


def forecasts_of(actual: Float64Array, predicted: Float64Array, start: int = START) -> HorizonForecasts:
    """All origins from `start` on, of (N, S) outcomes and forecasts."""
    rows, symbols = actual.shape
    return HorizonForecasts(
        horizon=HORIZON,
        time=np.repeat(np.arange(start, start + rows), symbols),
        symbol=np.tile(np.arange(symbols), rows),
        actual=actual.ravel(),
        predicted=predicted.ravel(),
        scale=np.ones(actual.size),
    )


def column(regimes: Regimes, number: int) -> Regimes:
    return Regimes(regimes.name, regimes.labels, regimes.codes[:, number : number + 1])


def halves(length: int, spell: int, symbols: int = 1) -> Regimes:
    """Two regimes that take turns every `spell` bars."""
    codes = np.repeat((np.arange(length) // spell % 2)[:, None], symbols, axis=1)
    return Regimes("turns", ("even", "odd"), codes)


def switching(length: int, seed: int) -> tuple[Float64Array, IntArray]:
    """Returns of a calm and a three times as volatile state that lasts 100 bars on average."""
    generator = np.random.default_rng(seed)
    state = np.cumsum(generator.random(length) > 0.99) % 2
    return np.where(state == 0, 0.007, 0.021) * generator.standard_normal(length), state


# Regimes of bars


def test_terciles_compare_each_volatility_with_all_before_it() -> None:
    returns = np.round(garch(400, 2, seed=1), 3)
    codes = volatility_terciles(returns, window=5, history=50).codes
    for symbol in range(2):
        volatility = [returns[bar - 4 : bar + 1, symbol].std() for bar in range(4, 400)]
        for bar in range(54, 400):
            before, now = np.array(volatility[: bar - 4]), volatility[bar - 4]
            equal = np.isclose(before, now, rtol=1e-12, atol=0)
            share = ((before < now) & ~equal).mean() + equal.mean() / 2
            if abs(share * 3 - round(share * 3)) > 1e-9:
                assert codes[bar, symbol] == min(int(3 * share), 2)
    assert (codes[:54] == UNKNOWN).all()
    assert (codes[54:] != UNKNOWN).all()


def test_terciles_of_a_stable_market_hold_a_third_each() -> None:
    codes = volatility_terciles(np.random.default_rng(2).standard_normal((30_000, 1))).codes
    shares = np.bincount(codes[codes != UNKNOWN]) / (codes != UNKNOWN).sum()
    np.testing.assert_allclose(shares, 1 / 3, atol=0.02)


def test_a_gap_in_the_returns_hides_only_the_windows_that_touch_it() -> None:
    returns = garch(400, 1, seed=3)
    returns[200] = np.nan
    codes = volatility_terciles(returns, window=10, history=50).codes[:, 0]
    assert (codes[200:210] == UNKNOWN).all()
    assert (codes[210:] != UNKNOWN).all()
    assert (codes[59:200] != UNKNOWN).all()


def test_a_price_that_never_moves_is_of_middle_volatility_and_in_no_uptrend() -> None:
    price = np.full((500, 1), 0.1)
    assert set(volatility_terciles(np.zeros((500, 1))).codes[271:, 0]) == {1}
    assert set(trend(price).codes[199:, 0]) == {0}
    assert set(drawdown(price).codes[:, 0]) == {0}


def test_trend_compares_the_close_with_its_mean() -> None:
    close = np.exp(garch(300, 2, seed=4).cumsum(axis=0))
    found = trend(close, window=30)
    for bar in range(29, 300):
        above = close[bar] > close[bar - 29 : bar + 1].mean(axis=0)
        np.testing.assert_array_equal(found.codes[bar], above)
    assert (found.codes[:29] == UNKNOWN).all()
    assert found.labels == ("below SMA30", "above SMA30")


def test_drawdown_is_counted_from_the_highest_close_so_far() -> None:
    close = np.array([[100.0], [90.1], [89.9], [110.0], [99.5], [98.9], [np.nan], [120.0]])
    assert drawdown(close).codes[:, 0].tolist() == [0, 0, 1, 0, 0, 1, UNKNOWN, 0]


def test_a_history_shorter_than_the_window_has_no_regime() -> None:
    short = np.ones((10, 3))
    assert (trend(short).codes == UNKNOWN).all()
    assert (volatility_terciles(short).codes == UNKNOWN).all()


def test_grid_is_the_product_and_known_where_both_are() -> None:
    first = Regimes("a", ("low", "high"), np.array([[0], [1], [1], [UNKNOWN]]), {0: "why"})
    second = Regimes("b", ("x", "y", "z"), np.array([[2], [0], [UNKNOWN], [1]]))
    both = grid(first, second)
    assert both.labels == ("low, x", "low, y", "low, z", "high, x", "high, y", "high, z")
    assert both.codes[:, 0].tolist() == [2, 3, UNKNOWN, UNKNOWN]
    assert both.name == "a x b"
    assert both.refused == {0: "why"}
    with pytest.raises(ValueError, match="different bars"):
        grid(first, Regimes("b", ("x",), np.zeros((2, 1), dtype=np.int64)))


def test_markov_finds_planted_states_ordered_by_variance() -> None:
    returns, state = switching(4_000, seed=5)
    found = markov(np.column_stack([returns, returns / 50]), range(2_000))
    assert found.labels == ("calm", "turbulent")
    assert not found.refused
    assert (found.codes[0] == UNKNOWN).all()
    # The length of a bar, and so the size of its returns, is no matter.
    assert (found.codes[1:, 0] == found.codes[1:, 1]).mean() > 0.99
    assert (found.codes[2_000:, 0] == state[2_000:]).mean() > 0.9


def test_markov_refuses_a_symbol_and_says_why_but_serves_the_others() -> None:
    generator = np.random.default_rng(6)
    returns = np.zeros((1_500, 4))
    returns[:, 0] = 0.01 * generator.standard_normal(1_500)
    returns[:, 2] = 0.01 * generator.standard_normal(1_500) * (generator.random(1_500) < 0.5)
    returns[:, 3] = switching(1_500, seed=7)[0]
    returns[0, 3] = np.nan
    found = markov(returns, range(1_200))
    assert set(found.refused) == {0, 1, 2}
    assert "do not vary" in found.refused[1]
    assert "exactly zero" in found.refused[2]
    assert (found.codes[:, :3] == UNKNOWN).all()
    assert (found.codes[2:, 3] != UNKNOWN).all()
    assert "bars to fit on" in markov(returns[:, 3:], range(100)).refused[0]


def test_markov_stops_at_a_return_that_no_state_can_explain() -> None:
    returns = switching(1_500, seed=7)[0]
    usual = markov(returns[:, None], range(1_000)).codes
    returns[1_200] = 1e4
    codes = markov(returns[:, None], range(1_000)).codes
    np.testing.assert_array_equal(codes[:1_200], usual[:1_200])
    assert (codes[1_200:] == UNKNOWN).all()


def test_codes_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"-1\.\.1"):
        Regimes("x", ("a", "b"), np.array([[2]]))
    with pytest.raises(ValueError, match=r"\(T, S\)"):
        Regimes("x", ("a", "b"), np.array([0, 1]))


# Training against test


def test_mix_counts_bars_and_what_followed_them() -> None:
    codes = np.array([UNKNOWN, 0, 0, 1, 0, 0, 2, 2, 0, UNKNOWN, 2])[:, None]
    mix = regime_mix(Regimes("x", ("a", "b", "c"), codes), range(6), range(6, 11))
    never = [math.nan] * 3
    np.testing.assert_allclose(mix.train_share, [0.8, 0.2, 0])
    np.testing.assert_allclose(mix.test_share, [0.25, 0, 0.75])
    np.testing.assert_allclose(mix.train_transitions, [[2 / 3, 1 / 3, 0], [1.0, 0, 0], never])
    np.testing.assert_allclose(mix.test_transitions, [never, never, [0.5, 0, 0.5]])
    assert mix.novelty == pytest.approx(0.75)
    plain = mix.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["train_transition_share_per_bar"][2] == [None, None, None]


def test_mix_pools_symbols_and_knows_no_novelty_without_training() -> None:
    codes = np.array([[0, 1], [0, 0], [1, 1]])
    regimes = Regimes("x", ("a", "b"), codes)
    np.testing.assert_allclose(regime_mix(regimes, range(2), range(2, 3)).train_share, [0.75, 0.25])
    assert math.isnan(regime_mix(regimes, range(0), range(3)).novelty)


# What forecasts were worth


def test_a_regime_that_covers_everything_is_judged_like_the_whole() -> None:
    actual = outcomes(garch(1_700, 1, seed=8))
    predicted = persistent(actual.shape, memory=0.9, seed=9) + 0.1 * actual
    always = Regimes("x", ("all",), np.zeros((1_700, 1), dtype=np.int64))
    (found,) = by_regime(always, forecasts_of(actual, predicted), range(START))
    standard = [(values[:, 0] - values.mean()) / values.std() for values in (actual, predicted)]
    products = standard[0] * standard[1]
    assert found.ic is not None
    assert found.p == pytest.approx(ewc_test(products).p)
    assert (found.ic.value, found.ic.low, found.ic.high) == pytest.approx((products.mean(), *mean_interval(products)))
    naive, gain = actual[:, 0] ** 2, actual[:, 0] ** 2 - (actual - predicted)[:, 0] ** 2
    r2 = gain.mean() / naive.mean()
    low, high = mean_interval((gain - r2 * naive) / naive.mean())
    assert found.r2 is not None
    assert (found.r2.value, found.r2.low, found.r2.high) == pytest.approx((r2, r2 + low, r2 + high))
    assert (found.train_share, found.test_share, found.bars) == (1, 1, 1_700)
    assert found.p_holm == found.p


def test_a_forecast_that_is_right_in_one_regime_and_wrong_in_the_other_is_found_out() -> None:
    actual = outcomes(garch(3_700, 1, seed=10))
    regimes = halves(3_700, spell=150)
    turned = np.where(regimes.codes[START : START + len(actual)] == 0, actual, -actual)
    predicted = 0.4 * turned + persistent(actual.shape, memory=0.5, seed=11)
    even, odd = by_regime(regimes, forecasts_of(actual, predicted), range(START))
    assert even.enough
    assert odd.enough
    assert not even.negative
    assert odd.negative
    assert even.ic is not None
    assert even.ic.value > 0.5
    assert even.right_direction is not None
    assert even.right_direction > 0.6
    assert odd.r2 is not None
    assert odd.r2.high is not None
    assert odd.r2.high < 0
    plain = odd.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["negative"] is True


def test_shares_of_the_gain_add_up_and_r2_is_that_of_the_rows() -> None:
    actual = outcomes(garch(1_500, 3, seed=12))
    predicted = 0.3 * actual + persistent(actual.shape, memory=0.5, seed=13) / 5
    regimes = volatility_terciles(garch(1_500, 3, seed=12))
    forecasts = forecasts_of(actual, predicted)
    found = by_regime(regimes, forecasts, range(START))
    assert sum(one.gain_share or 0 for one in found) == pytest.approx(1)
    assert sum(one.test_share or 0 for one in found) == pytest.approx(1)
    code = regimes.codes[forecasts.time, forecasts.symbol]
    for number, one in enumerate(found):
        mine = code == number
        error = (forecasts.actual - forecasts.predicted)[mine]
        assert one.r2 is not None
        assert one.r2.value == pytest.approx(1 - (error**2).sum() / (forecasts.actual[mine] ** 2).sum())
        assert one.forecasts == mine.sum()


def test_gain_has_no_shares_where_there_is_none() -> None:
    actual = outcomes(garch(1_200, 1, seed=14))
    found = by_regime(halves(1_200, 50), forecasts_of(actual, -actual), range(START))
    assert [one.gain_share for one in found] == [None, None]


def test_returns_are_divided_by_their_scale() -> None:
    actual = outcomes(garch(1_200, 1, seed=15))
    forecasts = forecasts_of(actual, persistent(actual.shape, memory=0.9, seed=16))
    scale = np.exp(np.random.default_rng(17).standard_normal(len(actual)))
    plain = by_regime(halves(1_200, 50), forecasts, range(START))
    grown = replace(forecasts, actual=forecasts.actual * scale, predicted=forecasts.predicted * scale, scale=scale)
    for one, other in zip(plain, by_regime(halves(1_200, 50), grown, range(START)), strict=True):
        assert one.r2 is not None
        assert other.r2 is not None
        assert one.r2.value == pytest.approx(other.r2.value)
        assert one.p == pytest.approx(other.p)


def test_direction_and_coverage_are_shares_of_the_rows() -> None:
    actual = np.tile([[1.0], [-1.0], [0.0], [2.0]], (10, 1))
    predicted = np.tile([[1.0], [1.0], [1.0], [0.0]], (10, 1))
    forecasts = replace(forecasts_of(actual, predicted, start=0), inside=np.tile([True, True, True, False], 10))
    first, second = by_regime(halves(100, 20), forecasts, range(0))
    assert first.right_direction == second.right_direction == 0.5
    assert first.coverage80 == second.coverage80 == 0.75
    assert first.train_share is None


def test_few_forecasts_and_constant_ones_are_no_ground_for_a_verdict() -> None:
    actual = outcomes(garch(1_300, 1, seed=18))
    regimes = halves(1_300, spell=1_000_000)
    regimes.codes[START + 100 : START + 150] = 1
    _, rare = by_regime(regimes, forecasts_of(actual, persistent(actual.shape, memory=0.9, seed=19)), range(START))
    assert not rare.enough
    assert rare.p_holm is None
    assert not rare.negative
    constant, _ = by_regime(regimes, forecasts_of(actual, np.full(actual.shape, 0.01)), range(START))
    assert constant.ic is None
    assert constant.p is None
    assert constant.n_eff == pytest.approx((len(actual) - 50) / HORIZON)
    regimes.codes[START + 100 : START + 150] = 0
    _, never = by_regime(regimes, forecasts_of(actual, 0 * actual), range(START))
    assert (never.forecasts, never.n_eff, never.r2, never.right_direction) == (0, 0, None, None)


def test_unknown_bars_count_for_no_regime() -> None:
    actual = outcomes(garch(1_300, 1, seed=20))
    predicted = persistent(actual.shape, memory=0.9, seed=21)
    regimes = halves(1_300, spell=40)
    regimes.codes[START : START + 200] = UNKNOWN
    found = by_regime(regimes, forecasts_of(actual, predicted), range(START))
    assert sum(one.forecasts for one in found) == len(actual) - 200
    assert sum(one.test_share or 0 for one in found) == pytest.approx(1)


def test_cosines_within_a_regime_are_counted_as_their_matrix_says() -> None:
    size, count = 60, 7
    weight = np.random.default_rng(22).random(size) * (np.arange(size) > 30)
    angle = np.pi * np.arange(1, count + 1) * (np.arange(size)[:, None] + 0.5) / size
    cosines = np.sqrt(2) * np.cos(angle)
    demeaned = np.diag(weight) - np.outer(weight, weight) / weight.sum()
    matrix = cosines.T @ demeaned @ cosines / weight.sum()
    expected, dof = _cosines_within(weight, count)
    assert expected == pytest.approx(np.trace(matrix) / count)
    assert dof == pytest.approx(np.trace(matrix) ** 2 / (matrix**2).sum())
    assert _cosines_within(np.ones(size), count) == pytest.approx((1, count))


def useless(memory: float, edge: float = 0.0) -> list[RegimeSkill]:
    """What MARKETS markets without memory give in six regimes; `edge` times the forecast is added to what happens."""
    returns = garch(1_800 + START, MARKETS, seed=23)
    regimes = grid(volatility_terciles(returns), trend(np.exp(returns.cumsum(axis=0))))
    actual = outcomes(returns)
    predicted = persistent(actual.shape, memory=memory, seed=24)
    actual = actual + edge * predicted
    found: list[RegimeSkill] = []
    for number in range(MARKETS):
        one = slice(number, number + 1)
        found += by_regime(column(regimes, number), forecasts_of(actual[:, one], predicted[:, one]), range(START))
    return found


@pytest.mark.parametrize("memory", [0.9, 0.98])
def test_no_correlation_in_a_regime_is_rejected_at_about_the_nominal_rate(memory: float) -> None:
    found = useless(memory)
    p_values = np.array([one.p for one in found if one.p is not None])
    assert len(p_values) > 5 * MARKETS
    assert 0.03 <= (p_values < 0.05).mean() <= 0.10
    enough = np.array([one.p for one in found if one.enough])
    assert len(enough) > 100
    assert 0.02 <= (enough < 0.05).mean() <= 0.10
    # All six regimes of a market together: Holm holds the rate of any false alarm.
    families = [found[start : start + 6] for start in range(0, len(found), 6)]
    assert np.mean([any((one.p_holm or 1) < 0.05 for one in family) for family in families]) <= 0.10


def test_r2_of_a_forecast_as_good_as_none_is_covered_about_as_often_as_promised() -> None:
    # Half the forecast happens: just enough to pay for its own variance.
    intervals = [one.r2 for one in useless(0.9, edge=0.5) if one.r2 is not None]
    covered = np.mean([one.low <= 0 <= one.high for one in intervals if one.low is not None and one.high is not None])
    assert 0.88 <= covered <= 0.97


# What trades were worth


def test_a_return_belongs_to_the_regime_before_its_bar() -> None:
    length = 400
    regimes = halves(length, spell=1)
    net = np.where(np.arange(length) % 2 == 1, 0.02, -0.01) + 0.001 * np.random.default_rng(25).standard_normal(length)
    net[:100] = np.nan
    exposure = np.where(np.arange(length) % 2 == 1, 0.5, 0.25)
    actual = np.random.default_rng(26).standard_normal((200, 1))
    even, odd = by_regime(
        regimes, forecasts_of(actual, actual, start=100), range(100), net=net, exposure=exposure, periods_per_year=252
    )
    assert (even.trading_bars, odd.trading_bars) == (150, 150)
    assert (even.exposure, odd.exposure) == (0.5, 0.25)
    assert even.sharpe is not None
    assert odd.sharpe is not None
    mine = net[101::2]
    assert even.sharpe.value == pytest.approx(mine.mean() / mine.std() * math.sqrt(252))
    assert even.sharpe.low is not None
    assert 0 < even.sharpe.low < even.sharpe.value
    assert odd.sharpe.value < 0


def test_sharpe_of_luck_is_covered_about_as_often_as_promised() -> None:
    generator = np.random.default_rng(27)
    regimes = halves(1_000, spell=60)
    actual = generator.standard_normal((100, 1))
    covered = []
    for _ in range(150):
        net = generator.standard_t(5, 1_000)
        for one in by_regime(regimes, forecasts_of(actual, actual, start=0), range(0), net=net, periods_per_year=252):
            assert one.sharpe is not None
            assert one.sharpe.low is not None
            assert one.sharpe.high is not None
            covered.append(one.sharpe.low <= 0 <= one.sharpe.high)
    assert 0.91 <= np.mean(covered) <= 0.98


def test_too_few_bars_of_trading_have_no_sharpe() -> None:
    net = np.full(200, np.nan)
    net[: 2 * ENOUGH - 2] = np.random.default_rng(28).standard_normal(2 * ENOUGH - 2)
    actual = np.random.default_rng(29).standard_normal((100, 1))
    forecasts = forecasts_of(actual, actual, start=0)
    found = by_regime(halves(200, 1), forecasts, range(0), net=net, periods_per_year=252)
    assert [one.sharpe for one in found] == [None, None]
    idle = by_regime(halves(200, 1), forecasts, range(0), net=np.zeros(200), periods_per_year=252)
    assert [one.sharpe for one in idle] == [None, None]
    with pytest.raises(ValueError, match="periods_per_year"):
        by_regime(halves(200, 1), forecasts, range(0), net=net)


# Folds


def test_heat_map_has_a_cell_per_fold_and_regime_and_leaves_thin_ones_empty() -> None:
    actual = outcomes(garch(1_000, 2, seed=30))
    forecasts = forecasts_of(actual, 0.5 * actual)
    regimes = halves(1_000, spell=50, symbols=2)
    fold = np.where(forecasts.time < START + 110, 3, 4)
    found = fold_heatmap(regimes, forecasts, fold)
    assert found.folds == (3, 4)
    np.testing.assert_array_equal(found.origins, [[60, 50], [90, 76]])
    np.testing.assert_allclose(found.r2, 0.75)
    thin = fold_heatmap(regimes, forecasts, fold, minimum=80)
    np.testing.assert_array_equal(np.isnan(thin.r2), [[True, True], [False, True]])
    plain = thin.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_forecasts_that_do_not_fit_are_refused() -> None:
    forecasts = forecasts_of(np.ones((20, 1)), np.ones((20, 1)), start=0)
    with pytest.raises(ValueError, match="leaves the 10 positions"):
        by_regime(halves(10, 5), forecasts, range(0))
    with pytest.raises(ValueError, match="finite"):
        replace(forecasts, actual=np.full(20, np.nan))
    with pytest.raises(ValueError, match="positive"):
        replace(forecasts, scale=np.zeros(20))
    with pytest.raises(ValueError, match="several forecasts"):
        replace(forecasts, time=np.zeros(20, dtype=np.int64))
    with pytest.raises(ValueError, match="shape"):
        replace(forecasts, predicted=np.ones(19))
    with pytest.raises(ValueError, match="fold"):
        fold_heatmap(halves(20, 5), forecasts, np.zeros(3, dtype=np.int64))

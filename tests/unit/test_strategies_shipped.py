"""The strategies that come with qtrade: what each decides in cases worked out by hand, and what all of them keep to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import qtrade.strategy
from qtrade.errors import DataError, UsageError
from qtrade.evaluation.regimes import volatility_terciles
from qtrade.forecasts import Forecasts
from qtrade.strategy import LoadedStrategy, decide, list_strategies, load_strategy
from qtrade.strategy_audit import audit
from qtrade.strategy_spec import ParamValue
from qtrade.types import Bars, Float64Array

SHIPPED = Path(qtrade.strategy.__file__).parents[1] / "strategies"
NAMES = sorted(path.stem for path in SHIPPED.glob("*.py"))
BENCHMARKS = {"buy_and_hold", "momentum", "random_entries"}
# What a market of a few dozen bars needs for every rule to act.
SMALL: dict[str, dict[str, ParamValue]] = {
    "blend": {"of": "[forecast_sign(step=2), tranches(step=3), regime_gate(window=3, history=5, minimum=2)]"},
    "momentum": {"window": 3},
    "path_extrema": {"threshold": 0.001},
    "quantile_gate": {"q": 0.45},
    "random_entries": {"holding": 3.0},
    "regime_gate": {"window": 3, "history": 5, "minimum": 2},
    "tranches": {"step": 3, "full_move": 0.002},
    "vol_target": {"base": "path_momentum(step=3)", "window": 5},
}
STEPS = 4


def load(spec: str, **params: ParamValue) -> LoadedStrategy:
    return load_strategy(spec, params, [SHIPPED])


def small(name: str) -> LoadedStrategy:
    return load_strategy(name, SMALL.get(name, {}), [SHIPPED])


def make_bars(close: Float64Array, periods_per_year: float = 365.0) -> Bars:
    index = pd.date_range("2024-01-01", periods=len(close), tz="UTC")
    frame = pd.DataFrame(close, index=index, columns=[f"S{number}" for number in range(close.shape[1])])
    return Bars(frame, frame, frame, frame, frame, "1d", "24/7", periods_per_year)


def make_forecasts(bars: Bars, cumulative: Float64Array) -> Forecasts:
    """Forecasts with these cumulative paths, (T, S, H) or (T, S) if they are the same at every step; NaN for none."""
    if cumulative.ndim == 2:
        cumulative = np.repeat(cumulative[:, :, None], STEPS, axis=2)
    row, column = np.nonzero(~np.isnan(cumulative[:, :, 0]))
    zeros = np.zeros(len(row), dtype=np.int64)
    return Forecasts(
        path=np.diff(cumulative[row, column], axis=1, prepend=0.0),
        symbol=np.array(bars.symbols, dtype=object)[column],
        origin=bars.index[row],
        fold=zeros,
        seed=zeros - 1,
        train_end=bars.index[zeros],
    )


def decided(name: str, expected: Sequence[float | Sequence[float]], **params: ParamValue) -> list[float]:
    """Weights of one symbol, given what is expected of it at each bar: at every step, or at each of them."""
    bars = make_bars(np.ones((len(expected), 1)))
    weights: list[float] = (
        decide(load(name, **params), bars, make_forecasts(bars, np.array(expected)[:, None])).iloc[:, 0].tolist()
    )
    return weights


def random_market(symbols: int, seed: int = 0) -> tuple[Bars, Forecasts]:
    """90 bars; forecasts of two folds from bar 40 and bar 65 on, of which every fifth is missing."""
    generator = np.random.default_rng(seed)
    bars = make_bars(np.exp(generator.normal(0, 0.02, (90, symbols)).cumsum(axis=0)))
    cumulative = generator.normal(0, 0.003, (90, symbols, STEPS)).cumsum(axis=2)
    cumulative[:40] = np.nan
    cumulative[generator.random((90, symbols)) < 0.2] = np.nan
    forecasts = make_forecasts(bars, cumulative)
    late = np.asarray(forecasts.origin >= bars.index[65]).astype(np.int64)
    keys = [(fold, -1, symbol) for fold in (0, 1) for symbol in bars.symbols]
    return bars, replace(
        forecasts,
        fold=late,
        train_end=bars.index[np.where(late, 65, 40)],
        residuals={key: generator.normal(0, 0.01, (20, STEPS)) for key in keys},
        validated={key: bars.index[15:35] if key[0] == 0 else bars.index[40:60] for key in keys},
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("symbols", [1, 3])
def test_each_passes_the_audit_and_acts_within_the_limits(name: str, symbols: int) -> None:
    bars, forecasts = random_market(symbols)
    strategy = small(name)
    audit(strategy, bars, forecasts, seed=0, cuts=4)
    weights = decide(strategy, bars, forecasts)
    assert (weights.abs().sum(axis=1) <= 1 + 1e-12).all()
    if symbols > 1 or name != "cross_section":
        assert (weights != 0).any(axis=None)


@pytest.mark.parametrize("name", sorted(set(NAMES) - BENCHMARKS))
@pytest.mark.parametrize("symbols", [1, 3])
def test_each_is_flat_without_a_forecast(name: str, symbols: int) -> None:
    bars, forecasts = random_market(symbols)
    missing = ~forecasts.on(bars).has_forecast()
    assert missing[40:].any(axis=None)
    strategy = small(name)
    assert (decide(strategy, bars, forecasts).where(missing, 0.0) == 0).all(axis=None)
    nothing = forecasts.where(np.zeros(len(forecasts), dtype=np.bool_))
    assert (decide(strategy, bars, nothing) == 0).all(axis=None)


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_a_benchmark_ignores_the_forecasts(name: str) -> None:
    bars, forecasts = random_market(2)
    nothing = forecasts.where(np.zeros(len(forecasts), dtype=np.bool_))
    pd.testing.assert_frame_equal(decide(small(name), bars, forecasts), decide(small(name), bars, nothing))


def test_every_file_and_every_parameter_says_what_it_is_for() -> None:
    for info in list_strategies([SHIPPED]):
        assert not info.problem
        assert info.summary.endswith(".")
        assert all(parameter.doc.endswith(".") for parameter in info.parameters), info.name


WITH_STEP = [one.name for one in list_strategies([SHIPPED]) if "step" in {each.name for each in one.parameters}]


@pytest.mark.parametrize("name", WITH_STEP)
@pytest.mark.parametrize("step", [-1, STEPS + 1])
def test_a_step_beyond_the_forecast_is_refused(name: str, step: int) -> None:
    with pytest.raises(UsageError, match=f"step {step} lies outside"):
        decide(load(name, step=step), *random_market(2))


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("tranches(full_move=-0.1)", "full_move must not be negative"),
        ("quantile_gate(q=0)", "q must lie above 0"),
        ("quantile_gate(q=0.6)", "at most 0.5"),
        ("vol_target(window=1)", "window must be at least 2"),
        ("vol_target(target=0)", "target and cap must be positive"),
        ("vol_target(cap=-1)", "target and cap must be positive"),
        ("regime_gate(window=1)", "window must be at least 2"),
        ("regime_gate(history=0)", "history at least 1"),
        ("cross_section(k=0)", "k must be at least 1"),
        ("blend(of=[])", "nothing to blend"),
        ("momentum(window=0)", "window must be at least 1"),
        ("random_entries(seed=-1)", "seed must not be negative"),
        ("random_entries(exposure=1)", "exposure between 0 and 1"),
        ("random_entries(holding=0)", "holding at least 1"),
        ("random_entries(holding=1.5, long_only=True)", "holding must be at least 2 bars"),
    ],
)
def test_parameters_that_make_no_sense_are_refused_when_it_is_loaded(spec: str, why: str) -> None:
    with pytest.raises(UsageError, match="refused its parameters") as caught:
        load(spec)
    assert why in caught.value.why


def test_buy_and_hold_holds_equal_parts_from_the_first_bar() -> None:
    bars = make_bars(np.ones((5, 4)))
    weights = decide(load("buy_and_hold"), bars, make_forecasts(bars, np.full((5, 4), np.nan)))
    assert (weights == 0.25).all(axis=None)


def test_forecast_sign_acts_beyond_its_threshold() -> None:
    expected = [0.02, 0.01, 0.005, 0.0, -0.01, -0.02]
    assert decided("forecast_sign", expected, step=1, threshold=0.01) == [1, 0, 0, 0, 0, -1]
    assert decided("forecast_sign", expected, step=1) == [1, 1, 1, 0, -1, -1]
    assert decided("forecast_sign", expected, step=1, long_only=True) == [1, 1, 1, 0, 0, 0]


def test_forecast_sign_reads_the_cumulative_return_at_its_step() -> None:
    path = [[0.01, -0.02, -0.01, 0.02]]
    assert [decided("forecast_sign", path, step=step) for step in (1, 2, 3, 4, 0)] == [[1], [-1], [-1], [1], [1]]


def test_path_momentum_enters_on_a_strong_forecast_only() -> None:
    # A hurdle of 4 bps times 5 is 0.002.
    assert decided("path_momentum", [0.001, 0.0019, 0.0021, -0.0019, -0.0021], step=4) == [0, 0, 1, 0, -1]


def test_path_momentum_holds_through_weak_agreement_until_the_move_has_run_its_length() -> None:
    assert decided("path_momentum", [0.01, 0.001, 0.001, 0.001, 0.001], step=3) == [1, 1, 1, 0, 0]
    assert decided("path_momentum", [0.01, 0.001, 0.01, 0.001, 0.001, 0.001], step=3) == [1, 1, 1, 1, 1, 0]
    assert decided("path_momentum", [0.01, 0.001], step=1) == [1, 0]


def test_path_momentum_does_not_come_back_after_a_weak_reversal() -> None:
    assert decided("path_momentum", [0.01, -0.001, 0.001, 0.01], step=4) == [1, 0, 0, 1]
    assert decided("path_momentum", [0.01, 0.0, 0.001, 0.01], step=4) == [1, 0, 0, 1]


def test_path_momentum_trades_symbols_apart() -> None:
    bars = make_bars(np.ones((2, 2)))
    forecasts = make_forecasts(bars, np.array([[0.01, np.nan], [0.001, -0.01]]))
    weights = decide(load("path_momentum", step=2), bars, forecasts)
    assert weights.to_numpy().tolist() == [[0.5, 0.0], [0.5, -0.5]]


PEAK_IN_TWO = [0.01, 0.03, 0.02, 0.0]
TROUGH_IN_THREE = [0.01, -0.01, -0.03, 0.0]
WEAKLY_UP = [0.0, 0.001, 0.0, 0.0]
WEAKLY_DOWN = [0.0, -0.001, 0.0, 0.0]
FLAT = [0.0] * 4
NONE = [np.nan] * 4


def test_path_extrema_leaves_when_the_extreme_is_due() -> None:
    assert decided("path_extrema", [WEAKLY_UP, PEAK_IN_TWO, *[WEAKLY_UP] * 3]) == [0, 1, 1, 0, 0]
    assert decided("path_extrema", [TROUGH_IN_THREE, *[WEAKLY_DOWN] * 4]) == [-1, -1, -1, 0, 0]
    assert decided("path_extrema", [PEAK_IN_TWO, PEAK_IN_TWO, *[WEAKLY_UP] * 2]) == [1, 1, 1, 0]


def test_path_extrema_goes_by_the_farther_extreme_beyond_its_threshold() -> None:
    assert decided("path_extrema", [PEAK_IN_TWO], threshold=0.03) == [0]
    assert decided("path_extrema", [[0.02, -0.03, 0.0, 0.0]]) == [-1]
    assert decided("path_extrema", [[0.03, -0.03, 0.0, 0.0]]) == [0]


@pytest.mark.parametrize("otherwise", [WEAKLY_DOWN, FLAT, NONE])
def test_path_extrema_ends_for_good_when_a_newer_path_says_otherwise(otherwise: list[float]) -> None:
    late_peak = [0.01, 0.02, 0.03, 0.04]
    assert decided("path_extrema", [late_peak, WEAKLY_UP, otherwise, WEAKLY_UP]) == [1, 1, 0, 0]


def test_path_extrema_turns_at_once_or_stays_out_if_it_may_not() -> None:
    paths = [PEAK_IN_TWO, TROUGH_IN_THREE, WEAKLY_DOWN, PEAK_IN_TWO]
    assert decided("path_extrema", paths) == [1, -1, -1, 1]
    assert decided("path_extrema", paths, long_only=True) == [1, 0, 0, 1]


def test_path_extrema_counts_the_bars_before_the_path_starts() -> None:
    bars = make_bars(np.ones((5, 1)))
    forecasts = make_forecasts(bars, np.array([PEAK_IN_TWO, *[WEAKLY_UP] * 4])[:, None])
    weights = decide(load("path_extrema"), bars, replace(forecasts, delay=1))
    assert weights.iloc[:, 0].tolist() == [1, 1, 1, 0, 0]


def test_tranches_open_a_part_at_each_bar_and_hold_it() -> None:
    found = decided("tranches", [0.1, 0.1, -0.1, 0.1, 0.0, 0.0, 0.0], step=3)
    np.testing.assert_allclose(found, np.array([1, 2, 1, 1, 0, 1, 0]) / 3, atol=1e-12)
    assert decided("tranches", [0.1] * 5) == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_tranches_may_go_by_the_size_of_the_forecast_and_none_opens_without_one() -> None:
    found = decided("tranches", [0.01, 0.04, -0.1, np.nan, 0.02], step=2, full_move=0.02)
    np.testing.assert_allclose(found, [0.25, 0.75, 0.0, 0.0, 0.5], atol=1e-12)


def test_quantile_gate_wants_most_of_the_outcomes_on_one_side() -> None:
    expected = [0.015, 0.005, -0.005, -0.015, np.nan]
    bars = make_bars(np.ones((5, 1)))
    errors = np.zeros((5, STEPS))
    errors[:, 0] = [-0.02, -0.01, 0.0, 0.01, 0.02]  # quartiles of -0.01 and 0.01
    forecasts = replace(make_forecasts(bars, np.array(expected)[:, None]), residuals={(0, -1, "S0"): errors})
    for spec, weights in (
        ("quantile_gate(q=0.25)", [1, 0, 0, -1, 0]),
        ("quantile_gate(q=0.25, long_only=True)", [1, 0, 0, 0, 0]),
        ("quantile_gate(q=0.5, step=2)", [1, 1, -1, -1, 0]),
        ("quantile_gate(q=0.01)", [0, 0, 0, 0, 0]),
    ):
        assert decide(load(spec), bars, forecasts).iloc[:, 0].tolist() == weights
    with pytest.raises(DataError, match="no validation residuals"):
        decide(load("quantile_gate"), bars, replace(forecasts, residuals={}))


def swinging(*sizes: float, length: int = 9) -> Bars:
    """Each symbol rises and falls by its size in turn, a negative size falls first; 100 bars make a year."""
    change = np.array(sizes) * np.where(np.arange(length - 1) % 2, -1.0, 1.0)[:, None]
    return make_bars(np.cumprod(1 + np.vstack([np.zeros(len(sizes)), change]), axis=0), periods_per_year=100.0)


def scaled(bars: Bars, spec: str) -> Float64Array:
    nothing = make_forecasts(bars, np.full(bars.close.shape, np.nan))
    return decide(load(spec), bars, nothing, leverage=2.0).to_numpy()


def test_vol_target_scales_to_the_target_once_volatility_is_known() -> None:
    # A standard deviation of 2 % a bar is 20 % a year.
    weights = scaled(swinging(0.02), "vol_target(base=buy_and_hold, target=0.1, window=4)")
    np.testing.assert_allclose(weights[:, 0], [0.0] * 4 + [0.5] * 5)


def test_vol_target_of_a_portfolio_knows_what_its_markets_have_in_common() -> None:
    spec = "vol_target(base=buy_and_hold, target=0.05, window=4, measure={})"
    # Half of 2 % and half of 4 % together are 3 % a bar; the other way round they are 1 %.
    np.testing.assert_allclose(scaled(swinging(0.02, 0.04), spec.format("portfolio"))[4:], 0.5 / 6)
    np.testing.assert_allclose(scaled(swinging(0.02, -0.04), spec.format("portfolio"))[4:], 0.5 / 2)
    for bars in (swinging(0.02, 0.04), swinging(0.02, -0.04)):
        np.testing.assert_allclose(scaled(bars, spec.format("market"))[4:], [[0.5 / 4, 0.5 / 8]] * 5)


def test_vol_target_is_capped_and_flat_where_nothing_moves() -> None:
    spec = "vol_target(base=buy_and_hold, target=10, window=4, cap={})"
    np.testing.assert_allclose(scaled(swinging(0.02), spec.format(1))[4:], 1.0)
    np.testing.assert_allclose(scaled(swinging(0.02), spec.format(1.5))[4:], 1.5)
    np.testing.assert_allclose(scaled(swinging(0.02, 0.04), spec.format(1.5))[4:], 0.75)
    assert (scaled(swinging(0.0), spec.format(1)) == 0).all()
    assert (scaled(swinging(0.02, length=4), spec.format(1)) == 0).all()


def gated(bars: Bars, harm: Float64Array, train_end: int = 80, minimum: int = 1) -> tuple[Float64Array, Float64Array]:
    """Weights of a gate before buy-and-hold, and the regimes of the bars, in a market with one fold.

    The validation errors of regime r are what happened, times ``1 + harm[r]``: with no harm the forecast was zero.
    """
    log = np.log(bars.close.to_numpy())
    returns = np.diff(log, axis=0, prepend=np.nan)
    codes = volatility_terciles(returns, window=3, history=5).codes
    expected = np.full(bars.close.shape, np.nan)
    expected[train_end:] = 0.001
    forecasts = make_forecasts(bars, expected)
    origins = np.arange(20, 76)
    errors = np.stack([returns[origins + step, 0] for step in range(1, STEPS + 1)], axis=1)
    errors *= 1 + np.where(codes[origins] >= 0, harm[codes[origins, 0]][:, None], 0.0)
    forecasts = replace(
        forecasts,
        train_end=bars.index[[train_end] * len(forecasts)],
        residuals={(0, -1, "S0"): errors},
        validated={(0, -1, "S0"): bars.index[origins]},
    )
    params: dict[str, ParamValue] = {"base": "buy_and_hold", "window": 3, "history": 5, "minimum": minimum}
    return decide(load("regime_gate", **params), bars, forecasts).to_numpy()[:, 0], codes[:, 0].astype(np.float64)


def wild(length: int = 140) -> Bars:
    """A market whose volatility changes every few bars."""
    generator = np.random.default_rng(5)
    size = np.repeat(generator.choice([0.002, 0.01, 0.05], length // 7), 7)
    return make_bars(np.exp((size * generator.normal(size=length)).cumsum())[:, None])


@pytest.mark.parametrize("harmful", [0, 1, 2])
def test_regime_gate_stands_aside_where_validation_errors_exceeded_the_returns(harmful: int) -> None:
    harm = np.zeros(3)
    harm[harmful] = 0.5
    weights, codes = gated(wild(), harm)
    closed = (codes == harmful) & (np.arange(140) >= 80)
    assert 0 < closed.sum() < 60
    np.testing.assert_array_equal(weights, np.where(closed, 0.0, 1.0))


def test_regime_gate_stays_open_on_too_little_evidence_or_what_was_not_known_in_time() -> None:
    harm = np.full(3, 0.5)
    assert (gated(wild(), harm)[0][80:] == 0).all()
    assert (gated(wild(), harm, minimum=57)[0] == 1).all()
    # The first validation return is complete at bar 24, so a model made at bar 23 has seen none.
    assert (gated(wild(), harm, train_end=23)[0] == 1).all()
    assert (gated(wild(), harm, train_end=79)[0][79:] == 0).all()


def test_regime_gate_needs_to_know_when_validation_errors_were_made() -> None:
    bars, forecasts = random_market(1)
    with pytest.raises(DataError, match="do not tell when their validation errors were made"):
        decide(load("regime_gate"), bars, replace(forecasts, validated={}))


def test_cross_section_buys_the_best_and_sells_the_worst() -> None:
    bars = make_bars(np.ones((5, 5)))
    nan = np.nan
    expected = np.array(
        [
            [0.1, 0.4, 0.2, 0.5, 0.3],
            [-0.1, nan, -0.2, -0.3, nan],
            [0.1, nan, nan, nan, nan],
            [0.1, 0.1, 0.1, 0.1, 0.1],
            [0.1, 0.1, 0.1, 0.1, 0.2],
        ]
    )
    forecasts = make_forecasts(bars, expected)
    one = decide(load("cross_section"), bars, forecasts).to_numpy() * 2
    assert one.tolist() == [[-1, 0, 0, 1, 0], [1, 0, 0, -1, 0], [0] * 5, [0] * 5, [-1, 0, 0, 0, 1]]
    two = decide(load("cross_section", k=2), bars, forecasts).to_numpy() * 4
    assert two.tolist() == [[-1, 1, -1, 1, 0], [0] * 5, [0] * 5, [0] * 5, [0] * 5]
    np.testing.assert_array_equal(decide(load("cross_section", k=9), bars, forecasts) * 4, two)


def test_blend_is_the_mean_of_its_strategies() -> None:
    spec = "[forecast_sign, buy_and_hold, forecast_sign(threshold=0.02), forecast_sign]"
    assert decided("blend", [0.01, -0.01, np.nan, 0.03], of=spec) == [0.75, -0.25, 0.25, 1.0]


def test_momentum_goes_by_the_return_of_its_window() -> None:
    bars = make_bars(np.array([[1.0, 2.0, 1.0, 2.0, 0.5, 3.0], [1.0] * 6]).T)
    nothing = make_forecasts(bars, np.full((6, 2), np.nan))
    weights = decide(load("momentum", window=2), bars, nothing) * 2
    assert weights.to_numpy().T.tolist() == [[0, 0, 0, 0, -1, 1], [0] * 6]
    long = decide(load("momentum", window=2, long_only=True), bars, nothing) * 2
    assert long.to_numpy().T.tolist() == [[0, 0, 0, 0, 0, 1], [0] * 6]


def entries(symbols: int = 1, start: int = 0, **params: ParamValue) -> Float64Array:
    bars = make_bars(np.ones((20_000, symbols))).rows(start, 20_000)
    nothing = make_forecasts(bars, np.full(bars.close.shape, np.nan))
    return decide(load("random_entries", **params), bars, nothing).to_numpy() * symbols


@pytest.mark.parametrize(
    ("holding", "exposure", "long_only"), [(12.0, 0.5, False), (5.0, 0.3, True), (3.0, 0.8, False)]
)
def test_random_entries_hold_as_long_and_as_often_as_asked(holding: float, exposure: float, long_only: bool) -> None:
    held = entries(holding=holding, exposure=exposure, long_only=long_only)[:, 0]
    assert abs(np.abs(held).mean() - exposure) < 0.05
    assert abs((held > 0).mean() - (held < 0).mean() - (exposure if long_only else 0.0)) < 0.05
    ends = np.flatnonzero(np.diff(held) != 0)
    lengths, sides = np.diff(ends), held[ends[1:]]
    assert abs(lengths[sides != 0].mean() / holding - 1) < 0.1


def test_random_entries_are_the_same_whatever_else_is_in_the_data() -> None:
    alone = entries()[:, 0]
    np.testing.assert_allclose(entries(symbols=3)[:, 0], alone, rtol=0, atol=1e-7)  # decided in hundredths of 1e-6
    later = entries(start=5_000)[:, 0]
    first = int(np.flatnonzero(later)[0])
    assert first < 200
    np.testing.assert_array_equal(later[first:], alone[5_000 + first :])


def test_random_entries_differ_between_seeds_and_symbols() -> None:
    three = entries(symbols=3)
    for one, other in ((three[:, 0], three[:, 1]), (three[:, 0], entries(seed=1)[:, 0])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.1

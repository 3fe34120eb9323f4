from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from qtrade.calendars import known_stamps
from qtrade.data.raw import RawBars
from qtrade.data.synthetic import SCENARIOS, Synthetic, SyntheticConfig, oracle
from qtrade.errors import DataError, UsageError
from qtrade.settings import validated

PHI, BETA, SIGMA = 0.9, 0.2, 0.01
LONG, MIDDLE = 200_000, 100_000

Array = NDArray[np.float64]


def fetch(symbol: str, interval: str = "1h", **settings: Any) -> RawBars:
    return Synthetic(SyntheticConfig(**settings)).fetch(symbol, interval=interval, start=None, end=None)


@lru_cache
def long_market(symbol: str) -> RawBars:
    return fetch(symbol, "1m", bars=LONG, change=MIDDLE)


def signal(raw: RawBars) -> Array:
    """The signal as volume shows it."""
    volume: Array = raw.frame["volume"].to_numpy()
    return 2 * np.log(volume / 1e6)


def returns(raw: RawBars) -> Array:
    """(T,) returns in units of sigma."""
    closes: Array = raw.frame["close"].to_numpy()
    return np.diff(np.log(closes), prepend=np.log(100)) / SIGMA


def nuisance(raw: RawBars) -> Array:
    """The nuisance as it shows in what a bar's range has more than its body."""
    frame = raw.frame
    opened, high, low, close = (frame[name].to_numpy() for name in ("open", "high", "low", "close"))
    outside: Array = np.log(high / low) - np.abs(np.log(close / opened))
    return 4 * np.log(outside / SIGMA)


def coefficient(raw: RawBars, horizon: int, origins: slice) -> float:
    """Correlation of the signal at the origins with the sum of the next returns."""
    path = np.cumsum(returns(raw))
    ahead = path[horizon:] - path[:-horizon]
    return float(np.corrcoef(signal(raw)[:-horizon][origins], ahead[origins])[0, 1])


def noise(raw: RawBars, beta: float = BETA) -> Array:
    """What a return has beyond what the signal of the bar before foretold, from the second bar on."""
    return returns(raw)[1:] - beta * signal(raw)[:-1]


@pytest.mark.parametrize(
    ("phi", "beta", "horizon", "r2", "digits"),
    [
        (0.9, 0.2, 1, 0.0385, 4), (0.9, 0.2, 6, 0.122, 3), (0.9, 0.2, 24, 0.095, 3),
        (0.9, 0.3, 1, 0.083, 3), (0.9, 0.3, 6, 0.228, 3), (0.9, 0.3, 24, 0.152, 3),
        (0.95, 0.1, 1, 0.0099, 4), (0.95, 0.1, 6, 0.044, 3), (0.95, 0.1, 24, 0.072, 3),
        (0.95, 0.05, 1, 0.0025, 4), (0.95, 0.05, 6, 0.012, 3), (0.95, 0.05, 24, 0.020, 3),
    ],
)  # fmt: skip
def test_the_oracle_has_the_known_values(phi: float, beta: float, horizon: int, r2: float, digits: int) -> None:
    assert oracle(phi, beta, horizon)[0] == pytest.approx(r2, abs=0.5001 * 10**-digits)


@pytest.mark.parametrize(
    ("phi", "beta", "horizon", "ic"),
    [(0.9, 0.2, 1, 0.196), (0.9, 0.2, 6, 0.350), (0.9, 0.2, 24, 0.308), (0.9, 0.3, 24, 0.390), (0.95, 0.1, 24, 0.268),
     (0.95, 0.05, 24, 0.142)],
)  # fmt: skip
def test_the_coefficient_is_the_root_with_the_sign_of_beta(phi: float, beta: float, horizon: int, ic: float) -> None:
    r2, known = oracle(phi, beta, horizon)
    assert known == pytest.approx(ic, abs=5e-4)
    assert known**2 == pytest.approx(r2)
    assert oracle(phi, -beta, horizon) == pytest.approx((r2, -known))


def test_the_oracle_is_the_algebra_of_covariances() -> None:
    """Write the h returns as a matrix times independent numbers, and read the correlation from its rows."""
    phi, beta, horizon, spread = 0.7, 0.4, 5, 1.5
    # Columns: x at the origin, h - 1 innovations of x, h noises.
    rows = np.zeros((horizon, 2 * horizon))
    x = np.zeros(2 * horizon)
    x[0] = 1
    for step in range(horizon):
        rows[step] = beta * x
        rows[step, horizon + step] = spread
        x = phi * x
        if step + 1 < horizon:
            x[step + 1] = np.sqrt(1 - phi**2)
    total = rows.sum(axis=0)
    expected = total[0] / np.sqrt(total @ total)
    assert oracle(phi, beta, horizon, spread) == pytest.approx((expected**2, expected))


def test_the_oracle_of_nothing_is_nothing_and_of_no_horizon_an_error() -> None:
    assert oracle(0.9, 0.0, 24) == (0.0, 0.0)
    for horizon, spread in ((0, 1.0), (1, 0.0)):
        with pytest.raises(ValueError, match="must be positive"):
            oracle(0.9, 0.2, horizon, spread)


@pytest.mark.parametrize("horizon", [1, 6, 24])
def test_control_has_the_skill_that_the_oracle_says(horizon: int) -> None:
    # Standard errors are about sqrt(horizon / bars): 0.002, 0.005 and 0.011.
    measured = coefficient(long_market("control"), horizon, slice(None))
    assert measured == pytest.approx(oracle(PHI, BETA, horizon)[1], abs=0.025)


def test_signal_and_nuisance_are_autoregressions_of_unit_variance_that_have_nothing_in_common() -> None:
    raw = long_market("control")
    for series in (signal(raw), nuisance(raw)):
        assert series.mean() == pytest.approx(0, abs=0.03)
        assert series.std() == pytest.approx(1, abs=0.02)
        for lag in (1, 5):
            assert np.corrcoef(series[:-lag], series[lag:])[0, 1] == pytest.approx(0.9**lag, abs=0.02)
    assert abs(np.corrcoef(signal(raw), nuisance(raw))[0, 1]) < 0.03
    assert abs(np.corrcoef(nuisance(raw)[:-1], returns(raw)[1:])[0, 1]) < 0.01


def test_markets_do_not_begin_in_a_special_state() -> None:
    raws = [fetch(f"control-{seed}", bars=2, change=1, horizon=1) for seed in range(400)]
    for series in (signal, nuisance):
        # The standard error is 0.035; a series that begins at zero has 0.4 here.
        assert np.std([series(raw)[0] for raw in raws]) == pytest.approx(1, abs=0.12)
    # Returns have fat tails: the standard error is 0.06.
    assert np.std([returns(raw)[0] for raw in raws]) == pytest.approx(np.sqrt(1 + BETA**2), abs=0.2)


def test_markov_begins_like_control() -> None:
    # With this seed the first of the random numbers that switch is a switch.
    for name in ("markov-1359", "markov-0"):
        raw, control = fetch(name), fetch(name.replace("markov", "control"))
        first = raw.facts["switch_bars"][0]
        assert first > 0
        pd.testing.assert_frame_equal(raw.frame.iloc[:first], control.frame.iloc[:first], check_exact=True)
        assert raw.frame["close"].iloc[first] != control.frame["close"].iloc[first]


def test_noise_has_unit_variance_fat_tails_and_clusters() -> None:
    series = noise(long_market("control"))
    assert np.mean(series) == pytest.approx(0, abs=0.01)
    assert np.mean(series**2) == pytest.approx(1, abs=0.1)
    # A normal number has 3, a Student-t one of 6 degrees of freedom 6, normal GARCH(0.08, 0.90) 4.4.
    assert np.mean(series**4) / np.mean(series**2) ** 2 > 7
    size = np.abs(series)
    assert np.corrcoef(size[:-1], size[1:])[0, 1] > 0.1
    assert abs(np.corrcoef(series[:-1], series[1:])[0, 1]) < 0.02


def test_noise_is_garch_with_student_shocks() -> None:
    series = noise(long_market("control"))
    variance = np.ones(len(series))
    for t in range(1, len(series)):
        variance[t] = 0.02 + 0.08 * series[t - 1] ** 2 + 0.9 * variance[t - 1]
    # Where the noise began is forgotten after 500 bars.
    shocks = (series / np.sqrt(variance))[500:]
    assert abs(np.corrcoef(shocks[:-1] ** 2, shocks[1:] ** 2)[0, 1]) < 0.01
    assert stats.kstest(shocks * np.sqrt(6 / 4), stats.t(6).cdf).pvalue > 0.01
    assert stats.kstest(shocks, stats.norm.cdf).pvalue < 1e-6


def test_a_random_walk_has_no_skill() -> None:
    for horizon in (1, 6, 24):
        assert abs(coefficient(long_market("rw"), horizon, slice(None))) < 0.02


def test_a_flip_turns_the_sign() -> None:
    raw = long_market("flip")
    expected = oracle(PHI, BETA, 6)[1]
    assert coefficient(raw, 6, slice(MIDDLE - 6)) == pytest.approx(expected, abs=0.02)
    assert coefficient(raw, 6, slice(MIDDLE, None)) == pytest.approx(-expected, abs=0.02)


def test_a_death_ends_the_skill() -> None:
    raw = long_market("death")
    assert coefficient(raw, 6, slice(MIDDLE - 6)) == pytest.approx(oracle(PHI, BETA, 6)[1], abs=0.02)
    assert abs(coefficient(raw, 6, slice(MIDDLE, None))) < 0.02


def test_volatility_doubles_the_noise_and_leaves_the_signal() -> None:
    raw = long_market("vol")
    series = noise(raw)
    assert series[: MIDDLE - 1].std() == pytest.approx(1, abs=0.1)
    assert series[MIDDLE - 1 :].std() == pytest.approx(2, abs=0.2)
    calm = noise(long_market("control"))
    np.testing.assert_allclose(series[MIDDLE - 1 :], 2 * calm[MIDDLE - 1 :], atol=1e-8)
    assert coefficient(raw, 6, slice(MIDDLE, None)) == pytest.approx(oracle(PHI, BETA, 6, 2.0)[1], abs=0.02)


def test_a_nuisance_moves_the_range_and_nothing_else() -> None:
    raw, control = long_market("nuis"), long_market("control")
    pd.testing.assert_frame_equal(raw.frame[["open", "close", "volume"]], control.frame[["open", "close", "volume"]])
    after = nuisance(raw)[MIDDLE:]
    np.testing.assert_allclose(after, 2 * nuisance(control)[MIDDLE:] + 1.5, atol=1e-6)
    assert (after.mean(), after.std()) == pytest.approx((1.5, 2.0), abs=0.05)


def test_drift_follows_a_cosine_from_beta_to_minus_beta() -> None:
    raw = long_market("drift")
    foretold = (returns(raw) - returns(long_market("rw")))[1:] / signal(raw)[:-1]
    clear = np.abs(signal(raw)[:-1]) > 0.1
    expected = BETA * np.cos(np.pi * np.arange(1, LONG) / (LONG - 1))
    np.testing.assert_allclose(foretold[clear], expected[clear], atol=1e-7)
    assert expected[-1] == pytest.approx(-BETA)


def test_markov_switches_between_two_states_about_every_400_bars() -> None:
    raw = long_market("markov")
    switches = raw.facts["switch_bars"]
    assert len(switches) == pytest.approx(LONG / 400, abs=4 * np.sqrt(LONG / 400))
    state = np.zeros(LONG, dtype=np.int64)
    for bar in switches:
        state[bar:] = 1 - state[bar:]
    calm = noise(long_market("control"))
    before = signal(raw)[:-1]
    expected = np.where(state[1:] == 0, BETA * before + calm, -BETA * before + 1.5 * calm)
    np.testing.assert_allclose(returns(raw)[1:], expected, atol=1e-8)
    for number, value in ((0, oracle(PHI, BETA, 1)[1]), (1, oracle(PHI, -BETA, 1, 1.5)[1])):
        rows = state[1:] == number
        assert np.corrcoef(before[rows], returns(raw)[1:][rows])[0, 1] == pytest.approx(value, abs=0.02)


def test_only_the_volume_of_leak_knows_more_than_the_oracle() -> None:
    best = oracle(PHI, BETA, 1)[1]
    # It publishes x + r: their covariance with r is beta + beta^2 + 1, their variance 1 + 2 beta + beta^2 + 1.
    known = (BETA + BETA**2 + 1) / np.sqrt((2 + 2 * BETA + BETA**2) * (BETA**2 + 1))
    assert coefficient(long_market("leak"), 1, slice(None)) == pytest.approx(known, abs=0.02)
    assert known > 3 * best
    for name in set(SCENARIOS) - {"leak"}:
        assert coefficient(long_market(name), 1, slice(None)) < best + 0.02
    prices = ["open", "high", "low", "close"]
    pd.testing.assert_frame_equal(long_market("leak").frame[prices], long_market("control").frame[prices])


def test_leak_says_so() -> None:
    raw = fetch("leak")
    (finding,) = raw.findings
    assert (finding.check, finding.severity, finding.count) == ("leak", "warning", 12_000)
    assert (finding.first, finding.last) == (str(raw.frame.index[0]), str(raw.frame.index[-1]))
    assert "return of the next bar, on purpose" in finding.example
    assert raw.facts["about"].startswith("A LEAK ON PURPOSE")
    assert not fetch("control").findings


def test_opens_lie_a_tenth_of_sigma_off_the_close_before() -> None:
    frame = long_market("control").frame
    gap = np.log(frame["open"].to_numpy()[1:] / frame["close"].to_numpy()[:-1]) / SIGMA
    assert (gap.mean(), gap.std()) == pytest.approx((0, 0.1), abs=0.001)
    assert abs(np.corrcoef(gap, noise(long_market("control")))[0, 1]) < 0.01


def test_wicks_are_shared_out_evenly() -> None:
    frame = long_market("control").frame
    top, bottom = frame[["open", "close"]].max(axis=1), frame[["open", "close"]].min(axis=1)
    upper, lower = np.log(frame["high"] / top), np.log(bottom / frame["low"])
    share = upper / (upper + lower)
    assert stats.kstest(share, stats.uniform.cdf).pvalue > 0.01


def table(raw: RawBars) -> Mapping[tuple[str, int], tuple[float | None, float | None]]:
    return {(row["when"], row["horizon"]): (row["r2"], row["ic"]) for row in raw.facts["oracle"]}


def test_facts_tell_the_truth_of_one_rule() -> None:
    facts = fetch("control-3", phi=0.95, beta=0.1, horizon=6).facts
    kept = ("scenario", "seed", "bars", "phi", "beta", "sigma", "change_bar", "change_stamp")
    assert [facts[name] for name in kept] == ["control", 3, 12_000, 0.95, 0.1, 0.01, None, None]
    assert [row["horizon"] for row in facts["oracle"]] == [1, 2, 3, 4, 5, 6]
    assert facts["oracle"][5]["r2"] == pytest.approx(0.044, abs=5e-4)
    assert set(table(fetch("rw")).values()) == {(0.0, 0.0)}
    assert table(fetch("leak")) == table(fetch("control"))


def test_facts_tell_the_truth_before_and_after_a_change() -> None:
    r2, ic = oracle(PHI, BETA, 24)
    after = {
        "nuis": (r2, ic),
        "flip": (r2, -ic),
        "death": (0, 0),
        "vol": oracle(PHI, BETA, 24, 2.0),
    }
    for name, expected in after.items():
        raw = fetch(name)
        assert table(raw)["before", 24] == (r2, ic)
        assert table(raw)["after", 24] == pytest.approx(expected)
        assert len(table(raw)) == 48
        assert raw.facts["change_bar"] == 8_000
        assert raw.facts["change_stamp"] == str(raw.frame.index[8_000])
    states = table(fetch("markov"))
    assert states["state 0", 24] == (r2, ic)
    assert states["state 1", 24] == oracle(PHI, -BETA, 24, 1.5)


def test_drift_has_no_closed_form_and_says_so() -> None:
    raw = fetch("drift")
    assert set(table(raw).values()) == {(None, None)}
    assert "there is no closed form" in raw.facts["oracle_note"]


def test_daily_bars_by_default_and_any_other_length_on_request() -> None:
    raw = fetch("control", "1d")
    assert (raw.symbol, raw.source, raw.calendar, raw.exchange_zone) == ("control", "synthetic", "24/7", "UTC")
    assert len(raw.frame) == 12_000
    assert (str(raw.frame.index[0]), str(raw.frame.index[-1])) == (
        "2000-01-03 00:00:00+00:00",
        "2032-11-09 00:00:00+00:00",
    )
    for interval in ("1m", "90m", "10s", "4h", "1d", "1wk", "1mo", "3mo"):
        index = fetch("control", interval, bars=200, change=100).frame.index
        assert isinstance(index, pd.DatetimeIndex)
        assert index.dtype == "datetime64[ns, UTC]"
        expected = known_stamps(pd.Timestamp("2000-01-03", tz="UTC"), index[-1], interval, "24/7")
        assert index.tolist() == expected.tolist()


def test_markets_that_pass_the_end_of_time_are_refused() -> None:
    with pytest.raises(UsageError, match="12000 bars of 1mo from 2000 on pass the year 2250") as caught:
        fetch("control", "1mo")
    assert "set bars to 3000 or less" in caught.value.fix
    assert len(fetch("control", "1mo", bars=3_000, change=10).frame) == 3_000
    assert len(fetch("control", "1wk").frame) == 12_000
    with pytest.raises(UsageError, match="pass the year 2250") as caught:
        fetch("control", "1wk", bars=13_100)
    assert "set bars to 13045 or less" in caught.value.fix
    with pytest.raises(UsageError, match="10000000 bars of 12h"):
        fetch("control", "12h", bars=10_000_000)


def test_an_unknown_interval_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="unknown interval '7d'"):
        fetch("control", "7d")


@pytest.mark.parametrize(
    ("symbol", "fix"),
    [("flop", "did you mean 'flip'?"), ("flop-7", "did you mean 'flip'?"), ("AAPL", "known: control, death"),
     ("", "known: control"), ("-7", "known: control"), ("flip_7", "did you mean 'flip'?")],
)  # fmt: skip
def test_an_unknown_scenario_names_the_nearest(symbol: str, fix: str) -> None:
    with pytest.raises(DataError, match="there is no synthetic market") as caught:
        fetch(symbol)
    assert caught.value.fix.startswith(fix)


@pytest.mark.parametrize("symbol", ["flip-", "flip-x", "flip--1", "flip-007", "flip-1.5", "flip-٣", "flip-" + "9" * 30])
def test_a_seed_is_a_whole_number(symbol: str) -> None:
    with pytest.raises(DataError, match="is not a seed") as caught:
        fetch(symbol)
    assert caught.value.fix.startswith("write flip-7")


def test_a_symbol_may_carry_a_seed_of_its_own() -> None:
    pd.testing.assert_frame_equal(fetch("flip-7").frame, fetch("flip", seed=7).frame)
    pd.testing.assert_frame_equal(fetch("flip-7", seed=3).frame, fetch("flip-7").frame)
    pd.testing.assert_frame_equal(fetch("flip").frame, fetch("flip-0").frame)


def test_seeds_have_nothing_in_common() -> None:
    one, other = fetch("control-1"), fetch("control-2")
    for series in (signal, nuisance, returns):
        assert abs(np.corrcoef(series(one), series(other))[0, 1]) < 0.12


def test_dates_are_a_half_open_range() -> None:
    start, end = pd.Timestamp("2004-02-28", tz="UTC"), pd.Timestamp("2004-03-02", tz="UTC")
    frame = Synthetic().fetch("flip", interval="1d", start=start, end=end).frame
    assert [str(stamp.date()) for stamp in frame.index] == ["2004-02-28", "2004-02-29", "2004-03-01"]
    for name in ("flip", "leak"):
        with pytest.raises(DataError, match="no 1d bars for these dates"):
            Synthetic().fetch(name, interval="1d", start=None, end=pd.Timestamp("1999-01-01", tz="UTC"))


def test_facts_are_those_of_the_whole_market() -> None:
    end = pd.Timestamp("2004-03-02", tz="UTC")
    cut = Synthetic().fetch("markov", interval="1d", start=None, end=end)
    assert cut.facts == fetch("markov", "1d").facts


def test_a_million_bars_stay_in_range() -> None:
    raw = fetch("vol", "1m", bars=1_000_000)
    values = raw.frame[["open", "high", "low", "close", "volume"]].to_numpy()
    assert np.isfinite(values).all()
    assert (values > 0).all()


def test_a_price_that_leaves_the_range_is_refused() -> None:
    with pytest.raises(DataError, match="control: the price leaves the range of numbers") as caught:
        fetch("control", "1m", bars=200_000, sigma=0.1, beta=10)
    assert "smaller sigma" in caught.value.fix


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bars": 8_000, "change": 8_000}, "change 8000 is not below bars 8000"),
        ({"phi": 1.0}, "'phi' is not valid"),
        ({"sigma": 0.0}, "'sigma' is not valid"),
        ({"seed": -1}, "'seed' is not valid"),
        ({"change": 0}, "'change' is not valid"),
        ({"horizon": 0}, "'horizon' is not valid"),
        ({"bar": 3}, "unknown key 'bar'"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        validated(SyntheticConfig, wrong)


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_facts_are_plain_values(name: str) -> None:
    facts = dict(fetch(name).facts)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts

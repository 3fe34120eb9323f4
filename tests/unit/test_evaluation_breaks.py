"""Breaks are found where they are planted, dated closely, and not found by chance."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import signal, special

from qtrade.evaluation.breaks import (
    BLOCK_BARS,
    LEAST_BARS,
    Break,
    Contributions,
    Recurrence,
    contributions,
    find_break,
    find_recurrence,
)
from qtrade.evaluation.stability import study
from qtrade.evaluation.transfer import Transfer
from qtrade.types import Float64Array

HORIZONS = (1, 6, 12, 24)
PHI, BETA = 0.9, 0.2
REACH = np.array([sum(PHI**step for step in range(horizon)) for horizon in HORIZONS])
BURN = 100


def garch(generator: np.random.Generator, bars: int, worlds: int) -> Float64Array:
    """(bars, worlds) GARCH noise of unit variance with Student-t shocks."""
    shocks = generator.standard_t(6, (bars, worlds)) / np.sqrt(1.5)
    noise: Float64Array = np.empty_like(shocks)
    variance = np.ones(worlds)
    for step, shock in enumerate(shocks):
        noise[step] = np.sqrt(variance) * shock
        variance = 0.02 + 0.08 * noise[step] ** 2 + 0.9 * variance
    return noise


def signals(generator: np.random.Generator, bars: int, worlds: int, persistence: float = PHI) -> Float64Array:
    shocks = generator.standard_normal((bars, worlds)) * np.sqrt(1 - persistence**2)
    return np.asarray(signal.lfilter([1.0], [1.0, -persistence], shocks, axis=0), dtype=np.float64)


def asked(said: Float64Array, first: int) -> Transfer:
    """One model that was asked at every origin from `first` on: said is (O, S, Q)."""
    origins = len(said)
    return Transfer(
        horizons=HORIZONS,
        train_end=np.array([first]),
        origin=first + np.arange(origins),
        fold=np.zeros(origins, dtype=np.int64),
        predicted=said[None],
        actual=np.zeros(said.shape),
    )


def watched(
    rng: np.random.Generator, bars: int, beta: Float64Array | float, persistence: float = PHI
) -> list[Contributions]:
    """Contributions of one model in each world; beta is a scalar, or (BURN + bars + 25, worlds)."""
    worlds = np.shape(beta)[1] if np.ndim(beta) else 1
    foretelling = signals(rng, BURN + bars + 25, worlds, persistence)
    returns = garch(rng, BURN + bars + 25, worlds)
    returns[1:] += (beta * foretelling)[:-1]
    recent = signal.lfilter(np.full(20, 1 / 20), [1.0], returns**2, axis=0)
    volatility = np.sqrt(np.maximum(np.asarray(recent, dtype=np.float64), 1e-6))
    found = []
    for world in range(worlds):
        said = 0.002 * foretelling[BURN : BURN + bars, world, None, None] * REACH
        one = contributions(asked(said, BURN), 0, returns[:, [world]], volatility[:, [world]], 0)
        assert one is not None
        found.append(one)
    return found


def planted(seed: int, worlds: int, bars: int, kind: str) -> list[Contributions]:
    rng = np.random.default_rng(seed)
    beta = np.full((BURN + bars + 25, worlds), BETA)
    if kind == "flip":
        beta[BURN + bars // 2 :] *= -1
    if kind == "markov":
        beta *= 1 - 2 * (np.cumsum(rng.random(beta.shape) < 1 / 400, axis=0) % 2)
    return watched(rng, bars, beta)


def break_of(found: Contributions) -> Break:
    one = find_break(found)
    assert one is not None
    return one


def recurrence_of(found: Contributions) -> Recurrence:
    one = find_recurrence(found)
    assert one is not None
    return one


# --- contributions ---


@pytest.mark.parametrize("delay", [0, 2])
def test_contributions_equal_a_plain_loop_over_bars_and_the_forecasts_that_cover_them(delay: int) -> None:
    generator = np.random.default_rng(0)
    origins, symbols, first = 90, 2, 30
    said = generator.normal(0, 1, (origins, symbols, len(HORIZONS))) * REACH
    returns = generator.normal(0, 0.01, (first + origins + 40, symbols))
    volatility = generator.uniform(0.005, 0.02, returns.shape)
    found = contributions(asked(said, first), 0, returns, volatility, delay)
    assert found is not None

    votes = np.zeros((origins, symbols))
    for symbol in range(symbols):
        for place, horizon in enumerate(HORIZONS):
            covering = np.zeros(origins)
            for bar in range(origins):
                for origin in range(origins):
                    # The label of an origin covers the bars 1 + delay .. horizon + delay after it.
                    if origin + 1 + delay <= bar + 1 + delay <= origin + horizon + delay:
                        covering[bar] += said[origin, symbol, place]
            votes[:, symbol] += (covering - covering.mean()) / covering.std()
        votes[:, symbol] = (votes[:, symbol] - votes[:, symbol].mean()) / votes[:, symbol].std()
    bars = first + np.arange(origins) + 1 + delay
    expected = (votes * returns[bars] / volatility[bars - 1]).mean(axis=1)
    np.testing.assert_array_equal(found.bar, bars)
    np.testing.assert_allclose(found.value, expected, rtol=1e-9, atol=1e-12)


def test_the_last_forecasts_reach_beyond_the_bars_and_are_left_out() -> None:
    generator = np.random.default_rng(1)
    said = generator.normal(0, 1, (100, 1, len(HORIZONS)))
    returns = generator.normal(0, 0.01, (120, 1))
    found = contributions(asked(said, 20), 0, returns, np.ones((120, 1)), 0)
    assert found is not None
    assert found.bar.tolist() == list(range(21, 120))


def test_forecasts_that_never_vary_or_a_short_period_contribute_nothing() -> None:
    returns = np.random.default_rng(2).normal(0, 0.01, (400, 2))
    volatility = np.ones_like(returns)
    still = np.full((200, 2, len(HORIZONS)), 0.01)
    assert contributions(asked(still * 0, 100), 0, returns, volatility, 0) is None
    lively = np.random.default_rng(3).normal(0, 1, still.shape)
    assert contributions(asked(lively[: LEAST_BARS - 1], 100), 0, returns, volatility, 0) is None
    assert contributions(asked(lively[:LEAST_BARS], 100), 0, returns, volatility, 0) is not None
    lively[:, 1] = 0.0
    one, alone = (
        contributions(asked(lively[:, :symbols], 100), 0, returns[:, :symbols], volatility[:, :symbols], 0)
        for symbols in (2, 1)
    )
    assert one is not None
    assert alone is not None
    np.testing.assert_allclose(one.value, alone.value, rtol=1e-9, atol=1e-14)


def test_a_model_that_was_not_asked_everywhere_is_refused() -> None:
    said = np.random.default_rng(4).normal(0, 1, (100, 1, len(HORIZONS)))
    said[50] = np.nan
    with pytest.raises(ValueError, match="model 0 was not asked at every origin"):
        contributions(asked(said, 20), 0, np.ones((200, 1)), np.ones((200, 1)), 0)


def test_bars_whose_volatility_is_not_known_contribute_nothing() -> None:
    generator = np.random.default_rng(5)
    said = generator.normal(0, 1, (100, 1, len(HORIZONS)))
    returns, volatility = generator.normal(0, 0.01, (200, 1)), np.full((200, 1), 0.01)
    volatility[30] = 0.0
    found = contributions(asked(said, 20), 0, returns, volatility, 0)
    assert found is not None
    assert found.value[found.bar == 31] == 0
    assert np.isfinite(found.value).all()


# --- one break ---


def test_a_step_in_plain_noise_is_dated_and_its_sides_are_told() -> None:
    value = np.random.default_rng(6).normal(0, 1, 2_000)
    value[:800] += 0.5
    found = break_of(Contributions(bar=500 + np.arange(2_000), value=value))
    assert found.p < 1e-6
    assert abs(found.bar - 1_300) <= 25
    assert found.first <= 1_300 <= found.last
    split = found.bar - 500
    assert (found.before, found.after) == pytest.approx((value[:split].mean(), value[split:].mean()))
    assert found.p == pytest.approx(float(special.kolmogorov(np.abs(found.path).max())))
    assert found.path[-1] == pytest.approx(0, abs=1e-9)
    json.dumps(found.to_dict(), allow_nan=False)


def test_contributions_that_do_not_vary_have_no_break() -> None:
    assert find_break(Contributions(bar=np.arange(100), value=np.full(100, 0.0))) is None


def test_both_sides_of_a_break_have_bars_enough_for_a_mean() -> None:
    value = np.random.default_rng(7).normal(0, 1, 200)
    value[:3] += 30
    found = break_of(Contributions(bar=np.arange(200), value=value))
    assert LEAST_BARS // 3 <= found.bar <= 200 - LEAST_BARS // 3


def test_a_planted_flip_is_found_and_dated_within_100_bars() -> None:
    bars = 3_000
    found = [break_of(one) for one in planted(11, 40, bars, "flip")]
    change = BURN + bars // 2 + 1  # the bar whose return follows the first signal of the new rule
    assert np.mean([one.p < 0.01 for one in found]) >= 0.95
    errors = np.abs([one.bar - change for one in found])
    assert np.median(errors) <= 40
    assert np.mean(errors <= 100) >= 0.85
    assert np.mean([one.first <= change <= one.last for one in found]) >= 0.85
    assert np.mean([one.before > 0.1 and one.after < -0.1 for one in found]) >= 0.95


def test_a_relationship_that_lasts_shows_no_break() -> None:
    lasting = [break_of(one) for one in planted(12, 40, 3_000, "control")]
    assert np.mean([one.p < 0.01 for one in lasting]) <= 0.1
    assert np.mean([one.before > 0 and one.after > 0 for one in lasting]) >= 0.9


# --- coming and going ---


def test_a_planted_switching_is_found_and_a_lasting_relationship_is_not_taken_for_one() -> None:
    def share(kind: str, level: float) -> float:
        return float(np.mean([recurrence_of(one).p < level for one in planted(13, 40, 4_000, kind)]))

    assert share("markov", 0.01) >= 0.6
    assert share("control", 0.01) <= 0.1


def test_recurrence_equals_its_definition_by_a_plain_loop() -> None:
    value = np.random.default_rng(8).normal(0, 1, 25 * BLOCK_BARS + 7)
    found = find_recurrence(Contributions(bar=np.arange(len(value)), value=value))
    assert found is not None
    # The oldest bars that fill no block are left out.
    sums = [value[7 + BLOCK_BARS * block : 7 + BLOCK_BARS * (block + 1)].sum() for block in range(25)]
    apart = [one - sum(sums) / 25 for one in sums]
    total = squares = 0.0
    for lag in range(1, 7):
        for block in range(lag, 25):
            product = (7 - lag) / 6 * apart[block] * apart[block - lag]
            total += product
            squares += product**2
    assert found.statistic == pytest.approx(total / squares**0.5)
    assert found.p == pytest.approx(float(special.ndtr(-found.statistic)))
    assert found.blocks == 25
    json.dumps(found.to_dict(), allow_nan=False)


def test_too_few_blocks_say_nothing_about_recurrence() -> None:
    value = np.random.default_rng(9).normal(0, 1, 20 * BLOCK_BARS)
    assert find_recurrence(Contributions(bar=np.arange(len(value)), value=value)) is not None
    assert find_recurrence(Contributions(bar=np.arange(len(value) - 1), value=value[1:])) is None
    assert find_recurrence(Contributions(bar=np.arange(len(value)), value=np.zeros(len(value)))) is None


# --- sizes ---


@cache
def useless(persistence: float) -> dict[str, Float64Array]:
    """p-values of 300 worlds in which forecasts of persistent votes know nothing of GARCH returns."""
    found = watched(np.random.default_rng(14), 3_000, np.zeros((BURN + 3_025, 300)), persistence)
    return {
        "change": np.array([break_of(one).p for one in found]),
        "recurrence": np.array([recurrence_of(one).p for one in found]),
    }


@pytest.mark.parametrize("persistence", [0.9, 0.98])
@pytest.mark.parametrize("name", ["change", "recurrence"])
def test_useless_forecasts_show_a_change_at_about_the_nominal_rate(name: str, persistence: float) -> None:
    rejected = float(np.mean(useless(persistence)[name] < 0.05))
    luck = 2 * np.sqrt(0.03 * 0.97 / 300)
    assert 0.03 - luck <= rejected <= 0.10


# --- everything together ---


def test_study_watches_the_first_model_and_says_none_where_there_is_nothing_to_watch() -> None:
    generator = np.random.default_rng(15)
    said = generator.normal(0, 1, (2, 400, 1, len(HORIZONS)))
    transfer = Transfer(
        horizons=HORIZONS,
        train_end=np.array([100, 300]),
        origin=100 + np.arange(400),
        fold=np.repeat([0, 1], 200),
        predicted=said,
        actual=generator.normal(0, 1, (400, 1, len(HORIZONS))),
    )
    returns = generator.normal(0, 0.01, (600, 1))
    found = study(transfer, returns, np.full_like(returns, 0.01), 0)
    alone = contributions(transfer, 0, returns, np.full_like(returns, 0.01), 0)
    assert alone is not None
    assert found.contributions is not None
    np.testing.assert_array_equal(found.contributions.value, alone.value)
    assert found.change is not None
    assert found.recurrence is None, "six blocks are too few"
    silent = study(replace(transfer, predicted=said * 0), returns, np.full_like(returns, 0.01), 0)
    assert (silent.contributions, silent.change, silent.recurrence) == (None, None, None)
    for one in (found, silent):
        assert one.to_dict().keys() == {
            "path_horizons_bars",
            "transfer",
            "staleness",
            "break_known_only_afterwards",
            "recurrence",
        }
        json.dumps(one.to_dict(), allow_nan=False)

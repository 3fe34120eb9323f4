"""Several strategies against a benchmark: luck is not skill, skill is found, and little data says nothing."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from arch.bootstrap import SPA, StationaryBootstrap, StepM

from qtrade.backtest.bootstrap import sharpe_difference
from qtrade.backtest.comparison import MIN_BLOCK, _long_run_deviation, compare
from qtrade.types import Float64Array


def noise(seed: int, bars: int = 500, scale: float = 0.01) -> Float64Array:
    return np.random.default_rng(seed).normal(0, scale, bars)


def test_useless_strategies_are_superior_about_as_often_as_promised() -> None:
    p = []
    for seed in range(60):
        # Independent of the benchmark, and of very different volatility.
        strategies = {str(scale): noise(1000 * seed + row, 400, scale) for row, scale in enumerate((0.002, 0.01, 0.05))}
        found = compare(strategies, np.zeros(400), 252, draws=99, seed=seed)
        assert found.spa_p is not None
        assert found.spa_p_lower is not None
        assert found.spa_p_upper is not None
        assert found.spa_p_lower <= found.spa_p <= found.spa_p_upper
        p.append(found.spa_p)
    # 5 % would be three; four times as many would be absurd. Nor may they all be large.
    assert sum(one <= 0.05 for one in p) <= 9
    assert 0.3 < np.mean(p) < 0.7


def test_the_one_that_is_better_is_named_among_the_useless_and_the_volatile() -> None:
    benchmark = noise(0)
    better = benchmark + 0.0008 + noise(1, scale=0.002)
    wild = noise(3, scale=0.2)
    strategies = {"useless": benchmark + noise(2, scale=0.002), "better": better, "wild": wild - wild.mean()}
    found = compare(strategies, benchmark, 252, seed=1)
    assert found.superior == ("better",)
    assert found.spa_p is not None
    assert found.spa_p < 0.01
    assert found.sharpe["better"] == sharpe_difference(better, benchmark, 252, seed=1)
    # Without division by the standard error, the wild one hides it.
    losses = -np.column_stack([returns - benchmark for returns in strategies.values()])
    plain = SPA(np.zeros(500), losses, block_size=MIN_BLOCK, reps=500, seed=1)
    plain.compute()
    assert plain.pvalues["consistent"] > 0.2


def test_all_can_be_superior_even_in_several_steps() -> None:
    gains = np.random.default_rng(17).normal(0, 1, (300, 5))
    gains += np.array([0.5, 0.155, 0.155, 0.155, 0.155]) - gains.mean(axis=0)
    with pytest.raises(ValueError, match="zero-size array"):
        StepM(np.zeros(300), -gains, block_size=MIN_BLOCK, reps=200, seed=1).compute()
    found = compare({str(row): gains[:, row] for row in range(5)}, np.zeros(300), 252, draws=200, seed=1)
    assert found.superior == ("0", "1", "2", "3", "4")


def test_the_second_step_finds_what_the_first_could_not() -> None:
    gains = np.random.default_rng(67).normal(0, 1, (300, 3))
    gains += np.array([0.5, 0.16, 0.16]) - gains.mean(axis=0)
    scaled = gains / _long_run_deviation(gains, MIN_BLOCK)
    first = SPA(np.zeros(300), -scaled, block_size=MIN_BLOCK, reps=200, nested=True, seed=np.random.default_rng(1))
    first.compute()
    assert first.better_models(0.05).tolist() == [0, 1]
    found = compare({str(row): gains[:, row] for row in range(3)}, np.zeros(300), 252, draws=200, seed=1)
    assert found.superior == ("0", "1", "2")


def test_long_run_deviation_is_that_of_the_bootstrap() -> None:
    gains = np.random.default_rng(1).normal(0, 1, (400, 2))
    gains[1:, 0] += 0.6 * gains[:-1, 0]
    bootstrap = StationaryBootstrap(24, gains, seed=np.random.default_rng(2))
    means = bootstrap.apply(lambda drawn: drawn.mean(axis=0), 4000)
    assert _long_run_deviation(gains, 24) == pytest.approx(means.std(axis=0) * math.sqrt(400), rel=0.04)


def test_a_single_strategy_is_compared() -> None:
    found = compare({"only": noise(1) + 0.003}, noise(2), 252, draws=200, seed=1)
    assert found.superior == ("only",)
    assert found.block == MIN_BLOCK


def test_identical_strategies_count_as_one() -> None:
    benchmark, one = noise(2), noise(4)
    alone = compare({"a": one}, benchmark, 252, draws=200, seed=1)
    twice = compare({"a": one, "b": one.copy()}, benchmark, 252, draws=200, seed=1)
    assert (twice.spa_p_lower, twice.spa_p, twice.spa_p_upper) == (alone.spa_p_lower, alone.spa_p, alone.spa_p_upper)


def test_the_benchmark_cannot_beat_itself() -> None:
    benchmark = noise(2)
    found = compare({"itself": benchmark.copy()}, benchmark, 252, seed=1)
    assert (found.spa_p, found.superior, found.block) == (None, None, None)
    assert found.sharpe["itself"].p == 1
    # Beside a useless one it changes nothing, though it does as well as the benchmark in every draw.
    useless = compare({"useless": noise(3)}, benchmark, 252, draws=200, seed=1)
    both = compare({"itself": benchmark, "useless": noise(3)}, benchmark, 252, draws=200, seed=1)
    assert (both.spa_p, both.superior) == (useless.spa_p, ())


def test_a_strategy_that_never_trades_counts_by_its_return() -> None:
    falling = noise(2) - 0.003
    found = compare({"idle": np.zeros(500)}, falling, 252, draws=200, seed=1)
    assert found.superior == ("idle",)
    # Its Sharpe ratio is unknown all the same.
    assert found.to_dict()["sharpe_difference"]["idle"] == {"difference": None, "low": None, "high": None, "p": None}
    assert compare({"idle": np.zeros(500)}, -falling, 252, draws=200, seed=1).superior == ()


def test_too_few_bars_say_nothing() -> None:
    bars = 10 * MIN_BLOCK - 1
    found = compare({"a": noise(1, bars) + 0.01}, noise(2, bars), 252, draws=50, seed=1)
    assert (found.spa_p, found.spa_p_lower, found.spa_p_upper, found.superior) == (None, None, None, None)
    assert compare({}, noise(2), 252, seed=1).spa_p is None


def test_blocks_are_as_long_as_positions_hang_on() -> None:
    persistent = np.convolve(noise(5, 1500 + 199), np.ones(200) / 200, "valid")
    found = compare({"slow": persistent, "quick": noise(6, 1500)}, np.zeros(1500), 252, draws=20, seed=1)
    assert found.block is not None
    assert MIN_BLOCK < found.block <= 150


def test_result_is_json_and_follows_from_its_seed() -> None:
    strategies, benchmark = {"a": noise(1), "b": noise(2)}, noise(3)
    found = compare(strategies, benchmark, 252, draws=100, seed=1).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found == compare(strategies, benchmark, 252, draws=100, seed=1).to_dict()
    assert found != compare(strategies, benchmark, 252, draws=100, seed=2).to_dict()


def test_returns_of_other_bars_are_refused() -> None:
    with pytest.raises(ValueError, match="short are not of the same bars"):
        compare({"fine": noise(1), "short": noise(1, 499)}, noise(2), 252, seed=1)

"""Staleness from hand-made losses, in models that forget and in models that do not."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import signal

from qtrade.evaluation.staleness import TESTED_AGE, Staleness, staleness
from qtrade.evaluation.transfer import Transfer, transfer_matrix
from qtrade.types import Float64Array

HORIZONS = (1, 6, 12, 24)
PHI = 0.9
# A signal of persistence PHI says this much more about h bars than about one.
REACH = np.array([sum(PHI**step for step in range(horizon)) for horizon in HORIZONS])


def hand_made(loss: Float64Array, size: int) -> Transfer:
    """Return forecasts whose loss is exactly this (K, O), where no change has a loss of one at every origin."""
    models, origins = loss.shape
    actual = np.where(np.arange(origins) % 2, 1.0, -1.0)
    return Transfer(
        horizons=(1,),
        train_end=50 + np.arange(models) * size,
        origin=50 + np.arange(origins),
        fold=np.repeat(np.arange(models), size),
        predicted=(actual * (1 - np.sqrt(loss)))[:, :, None, None],
        actual=actual[:, None, None],
    )


def aging(models: int, size: int, fresh: float, per_retraining: float) -> Float64Array:
    """(K, O) losses that grow with every newer model there is, with luck that all models share."""
    fold = np.repeat(np.arange(models), size)
    luck = 0.05 * np.random.default_rng(0).standard_normal(models * size)
    age = np.maximum(fold - np.arange(models)[:, None], 0)
    return np.asarray(fresh + per_retraining * age + luck, dtype=np.float64)


def signal_and_returns(generator: np.random.Generator, bars: int, beta: Float64Array) -> tuple[Float64Array, ...]:
    """A persistent signal that moves the next return by beta, and (bars, Q) cumulative returns after each bar."""
    shocks = generator.standard_normal(bars + 25) * np.sqrt(1 - PHI**2)
    foretelling = np.asarray(signal.lfilter([1.0], [1.0, -PHI], shocks), dtype=np.float64)
    moved = np.concatenate([[0.0], beta * foretelling[:-1]]) + generator.standard_normal(bars + 25)
    total = np.cumsum(moved)
    return foretelling[:bars], np.stack([total[h : h + bars] - total[:bars] for h in HORIZONS], axis=1)


def retrained(seed: int, flips: bool) -> Staleness:
    """Twelve models that each learn the relationship of the time before their training ended."""
    folds, size = 12, 200
    bars = folds * size
    true = np.full(bars + 24, 0.3)
    if flips:
        true[bars // 2 :] = -0.3
    foretelling, actual = signal_and_returns(np.random.default_rng(seed), bars, true)
    learned = true[np.maximum(np.arange(folds) * size - 1, 0)]
    return staleness(
        Transfer(
            horizons=HORIZONS,
            train_end=np.arange(folds) * size,
            origin=np.arange(bars),
            fold=np.repeat(np.arange(folds), size),
            predicted=(learned[:, None, None] * foretelling[:, None] * REACH)[:, :, None, :],
            actual=actual[:, None, :],
        )
    )


def test_what_an_age_loses_is_the_mean_difference_at_the_same_origins() -> None:
    models, size = 5, 40
    loss = np.random.default_rng(1).uniform(0.5, 1.5, (models, models * size))
    found = staleness(hand_made(loss, size))
    assert [age.retrainings for age in found.ages] == [1, 2, 3, 4]
    for age in found.ages:
        older, fresh = [], []
        for origin in range(models * size):
            fold = origin // size
            if fold >= age.retrainings:
                older.append(loss[fold - age.retrainings, origin])
                fresh.append(loss[fold, origin])
        assert age.r2_lost == pytest.approx(np.mean(older) - np.mean(fresh), rel=1e-9)
        assert age.fresh_r2 == pytest.approx(1 - np.mean(fresh), rel=1e-9)
        assert age.origins == len(fresh) == (models - age.retrainings) * size
        assert age.bars == age.retrainings * size
        assert age.low < age.r2_lost < age.high


def test_the_age_that_counts_is_fixed_beforehand() -> None:
    many = staleness(hand_made(aging(10, 30, 0.8, 0.01), 30))
    assert many.tested is not None
    assert (many.tested.retrainings, TESTED_AGE) == (6, 6)
    few = staleness(hand_made(aging(4, 30, 0.8, 0.01), 30))
    assert few.tested is not None
    assert few.tested.retrainings == 3
    alone = staleness(hand_made(aging(1, 30, 0.8, 0.01), 30))
    assert (alone.ages, alone.tested, alone.half_life_bars) == ((), None, None)
    json.dumps([one.to_dict() for one in (many, few, alone)], allow_nan=False)


def test_half_life_is_interpolated_between_ages() -> None:
    # The fresh edge is 0.2; every retraining costs 0.04, so half of it is gone after 2.5 of them.
    found = staleness(hand_made(aging(6, 200, 0.8, 0.04), 200))
    assert found.edge
    assert found.half_life_bars == pytest.approx(2.5 * 200, rel=0.05)


def test_an_edge_that_is_never_half_gone_has_no_half_life() -> None:
    found = staleness(hand_made(aging(6, 200, 0.8, 0.005), 200))
    assert found.edge
    assert found.half_life_bars is None


def test_without_an_edge_there_is_no_half_life() -> None:
    found = staleness(hand_made(aging(6, 200, 1.0, 0.1), 200))
    assert not found.edge
    assert found.half_life_bars is None


def test_ages_at_whose_origins_fresh_models_are_no_better_than_no_change_date_no_half_life() -> None:
    models, size = 4, 100
    loss = aging(models, size, 0.5, 0.0)
    loss[:, 300:] = 1.1  # in the last period nobody knows anything, and the old know as little as the fresh
    found = staleness(hand_made(loss, size))
    assert found.edge
    assert found.ages[-1].fresh_r2 < 0
    assert found.half_life_bars is None


def test_periods_in_which_a_pair_was_asked_more_often_weigh_no_more() -> None:
    # The first model is asked at every origin, the others only at each fifth of periods that are not their own.
    models, size, stride = 5, 100, 5
    loss = np.random.default_rng(2).uniform(0.5, 1.5, (models, models * size))
    fold = np.repeat(np.arange(models), size)
    grid = np.arange(models * size) % stride == 0
    asked = grid | (fold == np.arange(models)[:, None]) | (np.arange(models)[:, None] == 0)
    transfer = hand_made(loss, size)
    found = staleness(replace(transfer, predicted=np.where(asked[:, :, None, None], transfer.predicted, np.nan)))
    for age in found.ages:
        rows = grid & (fold >= age.retrainings)
        older = loss[fold[rows] - age.retrainings, np.nonzero(rows)[0]]
        assert age.origins == rows.sum()
        assert age.r2_lost == pytest.approx(float(np.mean(older - loss[fold[rows], np.nonzero(rows)[0]])), rel=1e-9)


def test_models_need_not_be_asked_about_what_they_have_seen() -> None:
    loss = aging(5, 60, 0.8, 0.05)
    transfer = hand_made(loss, 60)
    seen = np.arange(5)[:, None] > transfer.fold
    blind = replace(transfer, predicted=np.where(seen[:, :, None, None], np.nan, transfer.predicted))
    assert staleness(blind) == staleness(transfer)


def test_a_model_that_forgets_is_found_and_one_that_does_not_is_not() -> None:
    flipped = [retrained(seed, flips=True) for seed in range(20)]
    lasting = [retrained(seed, flips=False) for seed in range(20)]
    assert all(one.tested is not None and one.tested.p < 0.01 and one.tested.r2_lost > 0.02 for one in flipped)
    # Every model learned the same, so there is nothing to test.
    assert all(one.tested is not None and one.tested.p == 1 and one.tested.r2_lost == 0 for one in lasting)
    assert np.mean([one.edge for one in lasting]) > 0.8


@cache
def useless() -> dict[str, Float64Array]:
    """p-values of 300 worlds in which persistent forecasts of ten models know nothing of a GARCH random walk."""
    worlds, folds, size = 300, 10, 250
    generator, bars, burn = np.random.default_rng(13), folds * size, 200
    shocks = generator.standard_t(6, (burn + bars + HORIZONS[-1], worlds)) / np.sqrt(1.5)
    returns, variance = np.empty_like(shocks), np.full(worlds, 1e-4)
    for step, shock in enumerate(shocks):
        returns[step] = np.sqrt(variance) * shock
        variance = 2e-6 + 0.08 * returns[step] ** 2 + 0.9 * variance
    total = np.cumsum(returns[burn - 1 :], axis=0)
    actual = np.stack([total[h : h + bars] - total[:bars] for h in HORIZONS], axis=-1)
    p = {name: np.empty(worlds) for name in ("staleness", "decay", "optimism")}
    for world in range(worlds):
        steps = generator.standard_normal((bars + 100, folds)) * np.sqrt(1 - PHI**2)
        said = signal.lfilter([1.0], [1.0, -PHI], steps, axis=0)[100:].T
        transfer = Transfer(
            horizons=HORIZONS,
            train_end=np.arange(folds) * size,
            origin=np.arange(bars),
            fold=np.repeat(np.arange(folds), size),
            predicted=0.002 * np.asarray(said)[:, :, None, None] * REACH,
            actual=actual[:, [world]],
        )
        aged, matrix = staleness(transfer), transfer_matrix(transfer)
        for name, one in (("staleness", aged.tested), ("decay", matrix.decay), ("optimism", matrix.optimism)):
            assert one is not None
            p[name][world] = one.p
    return p


@pytest.mark.parametrize("name", ["staleness", "decay", "optimism"])
def test_age_makes_no_difference_at_about_the_nominal_rate_where_nobody_knows_anything(name: str) -> None:
    rejected = float(np.mean(useless()[name] < 0.05))
    luck = 2 * np.sqrt(0.03 * 0.97 / 300)
    assert 0.03 - luck <= rejected <= 0.10

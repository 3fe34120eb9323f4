"""The transfer matrix against plain loops, and what is counted where."""

from __future__ import annotations

import json
import math
import operator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qtrade.evaluation.significance import ewc_test
from qtrade.evaluation.transfer import LEAST_ORIGINS, Transfer, compare, transfer_matrix
from qtrade.types import Float64Array


def random_transfer(folds: int = 4, size: int = 60, symbols: int = 3, seed: int = 0) -> Transfer:
    """Forecasts of some skill, that of later models a bit larger, at three horizons."""
    generator = np.random.default_rng(seed)
    origins = folds * size
    actual = generator.normal(0, 0.02, (origins, symbols, 3)) * np.array([0.5, 1.0, 3.0])
    share = generator.uniform(0.0, 0.4, (folds, 1, 1, 1))
    predicted = share * actual + generator.normal(0, 0.004, (folds, origins, symbols, 3))
    return Transfer(
        horizons=(1, 2, 5),
        train_end=100 + size * np.arange(folds),
        origin=100 + np.arange(origins),
        fold=np.repeat(np.arange(folds), size),
        predicted=predicted,
        actual=actual,
    )


def plain_losses(transfer: Transfer, model: int, origin: int) -> tuple[float, float]:
    """Error of a model and of no change at one origin, each horizon and symbol in units of its mean squared move."""
    symbols, horizons = transfer.actual.shape[1:]
    model_loss = naive_loss = 0.0
    for symbol in range(symbols):
        for place in range(horizons):
            moves = transfer.actual[:, symbol, place]
            size = sum(move**2 for move in moves) / len(moves)
            happened, said = transfer.actual[origin, symbol, place], transfer.predicted[model, origin, symbol, place]
            model_loss += (said - happened) ** 2 / size / symbols / horizons
            naive_loss += happened**2 / size / symbols / horizons
    return model_loss, naive_loss


def plain_r2(transfer: Transfer, cells: list[tuple[int, int]]) -> float:
    """R2 over (model, origin) pairs that all stand for as much."""
    losses = [plain_losses(transfer, model, origin) for model, origin in cells]
    return 1 - sum(loss for loss, _ in losses) / sum(naive for _, naive in losses)


def hand_made(loss: Float64Array, size: int) -> Transfer:
    """Return forecasts whose loss is exactly this (K, O), where no change has a loss of one at every origin."""
    models, origins = loss.shape
    actual = np.where(np.arange(origins) % 2, 1.0, -1.0)
    return Transfer(
        horizons=(1,),
        train_end=np.arange(models) * size,
        origin=np.arange(origins),
        fold=np.repeat(np.arange(models), size),
        predicted=(actual * (1 - np.sqrt(loss)))[:, :, None, None],
        actual=actual[:, None, None],
    )


def test_every_cell_equals_a_plain_double_loop() -> None:
    transfer = random_transfer()
    found = transfer_matrix(transfer)
    for model in range(4):
        for period in range(4):
            cells = [(model, origin) for origin in range(60 * period, 60 * (period + 1))]
            assert found.r2[model, period] == pytest.approx(plain_r2(transfer, cells), rel=1e-10)
    assert found.origins.tolist() == [60] * 4


def test_averages_equal_a_plain_loop_that_weighs_every_origin_alike() -> None:
    transfer = random_transfer()
    found = transfer_matrix(transfer)
    kinds = {"seen": operator.gt, "honest": operator.eq, "stale": operator.lt}
    for name, belongs in kinds.items():
        loss = naive = 0.0
        count = 0
        for origin, fold in enumerate(transfer.fold):
            models = [model for model in range(4) if belongs(model, fold)]
            if models:
                losses = [plain_losses(transfer, model, origin) for model in models]
                loss += sum(one for one, _ in losses) / len(models)
                naive += losses[0][1]
                count += 1
        part = getattr(found, name)
        assert part.r2 == pytest.approx(1 - loss / naive, rel=1e-10)
        assert part.origins == count


def test_models_that_have_seen_the_period_stand_below_the_diagonal() -> None:
    # A model knows the answers of every period that began before it was made, and forgets slowly.
    size, models = 40, 3
    loss = np.ones((models, models * size))
    for model in range(models):
        loss[model, : model * size] = 0.1
        loss[model, (model + 1) * size :] = 1.2
    found = transfer_matrix(hand_made(loss, size))
    np.testing.assert_allclose(found.r2[np.tril_indices(3, -1)], 0.9, atol=1e-12)
    np.testing.assert_allclose(np.diag(found.r2), 0, atol=1e-12)
    np.testing.assert_allclose(found.r2[np.triu_indices(3, 1)], -0.2, atol=1e-12)
    told = found.to_dict()
    assert [told[name]["r2"] for name in ("seen", "honest", "stale")] == pytest.approx([0.9, 0.0, -0.2])
    assert [told[name]["r2_points"] for name in ("optimism", "decay")] == pytest.approx([0.9, 0.2])


def test_all_cells_of_a_column_rest_on_the_same_origins() -> None:
    transfer = random_transfer()
    predicted = transfer.predicted.copy()
    predicted[2, 70:90] = np.nan  # model 2 was not asked at 20 origins of period 1
    found = transfer_matrix(replace(transfer, predicted=predicted))
    assert found.origins.tolist() == [60, 40, 60, 60]
    kept = [origin for origin in range(60, 120) if not 70 <= origin < 90]
    sizes = transfer.size
    for model in range(4):
        errors = ((transfer.predicted[model] - transfer.actual) ** 2 / sizes)[kept].mean()
        naive = (transfer.actual**2 / sizes)[kept].mean()
        assert found.r2[model, 1] == pytest.approx(1 - errors / naive, rel=1e-10)


def test_origins_whose_outcome_is_not_known_yet_count_for_nothing() -> None:
    transfer = random_transfer()
    actual = transfer.actual.copy()
    actual[-10:, 1, 2] = np.nan
    found = transfer_matrix(replace(transfer, actual=actual))
    assert found.origins.tolist() == [60, 60, 60, 50]
    known = transfer_matrix(
        Transfer(
            transfer.horizons,
            transfer.train_end,
            transfer.origin[:-10],
            transfer.fold[:-10],
            transfer.predicted[:, :-10],
            transfer.actual[:-10],
        )
    )
    np.testing.assert_allclose(found.r2, known.r2, rtol=1e-10)


def test_too_few_origins_are_not_scored_and_plain_values_say_none() -> None:
    transfer = random_transfer(folds=2, size=LEAST_ORIGINS)
    predicted = transfer.predicted.copy()
    predicted[0, 0] = np.nan
    found = transfer_matrix(replace(transfer, predicted=predicted))
    assert np.isnan(found.r2[:, 0]).all()
    assert np.isfinite(found.r2[:, 1]).all()
    told = found.to_dict()
    assert told["r2_model_by_period"][0] == [None, pytest.approx(found.r2[0, 1])]
    assert told["seen"] is None
    json.dumps(told, allow_nan=False)


def test_a_single_model_has_only_honest_cells() -> None:
    found = transfer_matrix(random_transfer(folds=1))
    assert found.honest is not None
    assert (found.seen, found.stale, found.optimism, found.decay) == (None, None, None, None)


def test_a_symbol_that_never_moves_counts_for_nothing() -> None:
    transfer = random_transfer(symbols=2)
    actual, predicted = transfer.actual.copy(), transfer.predicted.copy()
    actual[:, 1] = 0.0
    predicted[:, :, 1] = 0.01
    still = replace(transfer, actual=actual, predicted=predicted)
    alone = replace(transfer, actual=actual[:, :1], predicted=predicted[:, :, :1])
    np.testing.assert_allclose(transfer_matrix(still).r2, transfer_matrix(alone).r2, rtol=1e-12)


def test_wild_symbols_and_long_horizons_weigh_no_more_than_others() -> None:
    transfer = random_transfer()
    louder = np.array([1.0, 20.0, 0.1])[:, None] * np.array([1.0, 5.0, 0.2])
    scaled = replace(transfer, actual=transfer.actual * louder, predicted=transfer.predicted * louder)
    np.testing.assert_allclose(transfer_matrix(scaled).r2, transfer_matrix(transfer).r2, rtol=1e-9)


def test_the_error_of_a_cell_is_the_spread_it_has_over_other_worlds() -> None:
    worlds = [transfer_matrix(random_transfer(folds=2, size=300, symbols=1, seed=seed)) for seed in range(200)]
    # The share of the outcome that each model knows differs by world; what is left of R2 without it is luck.
    luck, told = [], []
    for seed, world in enumerate(worlds):
        share = np.random.default_rng(seed)
        share.normal(0, 0.02, (600, 1, 3))
        known = share.uniform(0.0, 0.4, (2, 1, 1, 1))[0, 0, 0, 0]
        noise = (0.004 / 0.02) ** 2 * np.mean([1 / 0.25, 1.0, 1 / 9])
        luck.append(world.r2[0, 0] - (1 - (1 - known) ** 2 - noise))
        told.append(world.error[0, 0])
    assert np.mean(told) == pytest.approx(np.std(luck), rel=0.2)


def test_compare_is_the_ewc_test_of_the_difference_in_r2_points() -> None:
    generator = np.random.default_rng(3)
    worse, better, naive = (generator.chisquare(3, 400) for _ in range(3))
    found = compare(worse, better, naive)
    expected = ewc_test((worse - better) / naive.mean())
    assert (found.r2_points, found.p) == (expected.mean, expected.p)
    assert found.low < found.r2_points < found.high
    assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"origin": np.array([100, 101, 103])}, "consecutive"),
        ({"train_end": np.array([100, 100])}, "ordered by what they know"),
        ({"train_end": np.array([100, 103])}, "before its training ends"),
        ({"fold": np.array([0, 0])}, "are not"),
        ({"horizons": (1, 2)}, "are not"),
    ],
)
def test_what_does_not_fit_together_is_refused(change: dict[str, Any], told: str) -> None:
    good = Transfer(
        horizons=(1,),
        train_end=np.array([100, 102]),
        origin=np.array([100, 101, 102]),
        fold=np.array([0, 0, 1]),
        predicted=np.zeros((2, 3, 1, 1)),
        actual=np.ones((3, 1, 1)),
    )
    with pytest.raises(ValueError, match=told):
        replace(good, **change)


def test_r2_of_no_change_is_nothing() -> None:
    transfer = random_transfer()
    found = transfer_matrix(replace(transfer, predicted=np.zeros_like(transfer.predicted)))
    np.testing.assert_allclose(found.r2, 0, atol=1e-12)
    assert math.isclose(float(np.nanmean(transfer.naive_loss)), 1.0)

"""The models of the waterfall see what they should, and a shuffled split is seen to manufacture skill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qtrade.config import RunConfig, load_config
from qtrade.data.cache import Cache
from qtrade.data.fetch import fetch
from qtrade.errors import IntegrityError
from qtrade.evaluation.optimism import WATERMARK, Predictions, measure
from qtrade.features.scaler import Scaler
from qtrade.models.base import Shape
from qtrade.models.baselines import Ridge
from qtrade.models.settings import RidgeConfig
from qtrade.pipeline import ladder
from qtrade.pipeline.ladder import check_two_sided, climb, predict
from qtrade.pipeline.market import Market, prepare, scaled
from qtrade.progress import Silent
from qtrade.splits import walk_forward
from qtrade.types import Fold, IntArray

World = tuple[Market, RunConfig, tuple[Fold, ...]]
SEQ_LEN, HORIZON, DELAY = 16, 24, 1
REACH = HORIZON + DELAY


@pytest.fixture(autouse=True)
def small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "TREES", 3)


def world(folder: Path, symbols: str, bars: int, **split: int) -> World:
    settings = {"train_size": 1_000, "valid_size": 120, "step": 300, "delay": DELAY} | split
    config = load_config(
        None,
        [
            "data.source=synthetic",
            f"data.symbols={symbols}",
            f"data.synthetic.bars={bars}",
            f"window.seq_len={SEQ_LEN}",
            "window.label_len=8",
            *(f"split.{name}={value}" for name, value in settings.items()),
        ],
    )
    cache = Cache(folder)
    fetch(config.data, cache=cache, progress=Silent())
    market = prepare(config, cache, Silent())
    folds = walk_forward(len(market.bars), market.features.warmup, SEQ_LEN, HORIZON, config.split)
    return market, config, folds


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A random walk: whatever is found in it is self-deception."""
    return world(tmp_path_factory.mktemp("rw"), "['rw']", 3_000)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two symbols that can be foretold a little, and few bars."""
    return world(tmp_path_factory.mktemp("pair"), "['control-1', 'control-2']", 1_400, train_size=400, step=250)


@pytest.fixture(scope="module")
def forests(walk: World) -> Predictions:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ladder, "TREES", 12)
        return predict(*walk, seed=0)


def poisoned(market: Market, values: IntArray, returns: IntArray) -> Market:
    """Make up features and returns at some bars."""
    rng = np.random.default_rng(0)
    features, moved = market.features.values.copy(), market.returns.copy()
    features[values] = rng.normal(0, 5, features[values].shape)
    moved[returns] = rng.normal(0, 0.5, moved[returns].shape)
    return replace(market, features=replace(market.features, values=features), returns=moved)


# --- what it shows ---


def test_a_shuffled_split_manufactures_skill_in_a_random_walk(forests: Predictions) -> None:
    main = measure(forests).main
    assert main is not None
    assert main.horizon == 24
    assert main.rung("shuffled").r2 - main.rung("walk-forward").r2 >= 0.5
    assert main.step("leakage").low > 0.2
    assert main.rung("in-sample").r2 > 0.8
    assert main.rung("purged CV").high < main.rung("shuffled").low


def test_the_shuffled_rung_carries_its_watermark_out_of_a_climb(pair: World) -> None:
    found = climb(*pair, probe="ridge", seed=0)
    marked = [rung for rung in found.to_dict()["waterfall"][-1]["rungs"] if rung.get("watermark") == WATERMARK]
    assert [rung["name"] for rung in marked] == ["shuffled"]
    assert f"shuffled ({WATERMARK})" in str(found)


def test_the_model_that_stands_in_is_named(pair: World, forests: Predictions) -> None:
    assert "extra-trees (12 trees" in str(measure(forests))
    assert climb(*pair, probe="ridge", seed=0).to_dict()["model"].startswith("ridge (penalty ")


# --- equal origins ---


def test_every_rung_predicts_the_same_origins_which_are_the_runs_own(walk: World, forests: Predictions) -> None:
    _, _, folds = walk
    np.testing.assert_array_equal(forests.origin, np.concatenate([fold.test for fold in folds]))
    assert {scores.origins for scores in measure(forests).waterfall} == {len(forests.origin)}
    for name, predicted in forests.rungs.items():
        assert predicted.shape == forests.actual.shape
        assert np.isfinite(predicted).all() or name == "oracle"


def test_the_oracle_has_the_training_size_of_walk_forward_from_both_sides_or_leaves_the_block_out(walk: World) -> None:
    _, _, folds = walk
    jobs = {job.test[0]: job for job in plan(walk) if job.rung == "oracle"}
    assert 0 < len(jobs) < len(folds)
    for fold in folds:
        if (job := jobs.get(fold.test[0])) is None:
            after = folds[-1].test.stop - (fold.test.stop - 1 + REACH + SEQ_LEN)
            assert after < 0.25 * len(fold.fit)
            continue
        before, after_block = job.fit[job.fit < fold.test.start], job.fit[job.fit >= fold.test.stop]
        assert len(job.fit) == len(fold.fit) == len(before) + len(after_block)
        assert before[-1] == fold.test.start - REACH
        assert after_block[0] == fold.test.stop - 1 + REACH + SEQ_LEN
        assert len(after_block) >= 0.25 * len(fold.fit)


def plan(of: World) -> list[ladder._Job]:
    _, _, folds = of
    return ladder._plan(folds, np.arange(folds[0].test[0], folds[-1].test[-1] + 1), SEQ_LEN, seed=0)


def test_actual_is_what_followed_after_the_delay(walk: World, forests: Predictions) -> None:
    market, _, _ = walk
    closes = np.log(market.bars.close.to_numpy())
    for k, horizon in enumerate(forests.horizons):
        moved = closes[forests.origin + DELAY + horizon] - closes[forests.origin + DELAY]
        np.testing.assert_allclose(forests.actual[:, :, k], moved, atol=1e-12)


# --- purge and embargo ---


@pytest.mark.parametrize("offset", [0, -1])
def test_the_purge_is_exact_on_both_sides(offset: int) -> None:
    block = range(500, 600)
    before, after = 500 - REACH - offset, 599 + REACH + SEQ_LEN + offset
    for fit in ([before], [after], [100, before, after, 900]):
        if offset == 0:
            check_two_sided(np.array(fit), block, reach=REACH, seq_len=SEQ_LEN)
        else:
            with pytest.raises(IntegrityError, match="too short"):
                check_two_sided(np.array(fit), block, reach=REACH, seq_len=SEQ_LEN)


def test_an_origin_of_the_block_itself_is_refused() -> None:
    with pytest.raises(IntegrityError):
        check_two_sided(np.array([100, 550, 900]), range(500, 600), reach=REACH, seq_len=SEQ_LEN)


@pytest.mark.parametrize("broken", ["purge", "embargo"])
def test_a_climb_without_purge_or_embargo_stops(pair: World, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    whole = ladder._sides

    def sides(origins: IntArray, block: range, reach: int, seq_len: int) -> tuple[IntArray, IntArray]:
        before, after = whole(origins, block, reach, seq_len)
        wrong = whole(origins, block, reach - 1, seq_len) if broken == "purge" else whole(origins, block, reach, 0)
        return (wrong[0], after) if broken == "purge" else (before, wrong[1])

    monkeypatch.setattr(ladder, "_sides", sides)
    with pytest.raises(IntegrityError, match=broken):
        climb(*pair, probe="ridge", seed=0)


@pytest.mark.parametrize("probe", ["ridge", "trees"])
@pytest.mark.parametrize("rung", ["purged CV", "oracle"])
def test_a_model_fitted_on_both_sides_knows_nothing_of_its_test_labels(
    pair: World, probe: ladder.Probe, rung: str
) -> None:
    market, config, folds = pair
    told = predict(*pair, probe=probe, seed=0)
    number, job = next((number, job) for number, job in enumerate(plan(pair)) if job.rung == rung)
    last = int(job.test[-1])
    assert job.fit[-1] > last, "there is training data on the other side"
    labels = np.arange(job.test[0] + 1 + DELAY, last + REACH + 1)
    other = predict(poisoned(market, labels[labels > last], labels), config, folds, probe=probe, seed=0)
    rows = job.test - told.origin[0]
    left, right = told.rungs[job.rung][rows], other.rungs[job.rung][rows]
    # The ridge's penalty is chosen once, by the first fold, whose labels end before.
    np.testing.assert_array_equal(left, right)
    assert (told.rungs["shuffled"][rows] != other.rungs["shuffled"][rows]).any(), f"job {number} proves nothing"


@pytest.mark.parametrize("probe", ["ridge", "trees"])
def test_the_future_changes_no_walk_forward_prediction_before_it(pair: World, probe: ladder.Probe) -> None:
    market, config, folds = pair
    told = predict(*pair, probe=probe, seed=0)
    for cut in (folds[1].train_end, folds[1].train_end + 50):
        later = np.arange(cut + 1, len(market.returns))
        other = predict(poisoned(market, later, later), config, folds, probe=probe, seed=0)
        before = told.origin <= cut
        for rung in ("walk-forward", "frozen"):
            left, right = told.rungs[rung], other.rungs[rung]
            np.testing.assert_array_equal(left[before], right[before])
            assert (left[~before] != right[~before]).any()


# --- the models ---


def test_the_ridge_of_the_frozen_rung_is_that_of_the_run_with_one_penalty(pair: World) -> None:
    market, config, folds = pair
    first, window = folds[0], config.window
    told = predict(*pair, probe="ridge", seed=0)
    scaler = Scaler.fit(market.features, market.returns, range(first.fit.start - SEQ_LEN + 1, first.fit.stop))
    known = scaled(market, scaler, market.target_of("ridge"), window, first.delay).until(first.train_end)
    model = Ridge(Shape(len(market.features.names), market.marks.shape[1], window), RidgeConfig())
    losses = {}
    for penalty in config.ridge.penalties:
        model.settings = RidgeConfig(penalties=(penalty,))
        history = model.fit(known, known.rows(first.fit), known.rows(first.valid), seed=0, progress=Silent())
        losses[penalty] = history.valid_loss
    best = min(losses, key=lambda penalty: losses[penalty])
    assert f"penalty {best:g}" in told.model
    model.settings = RidgeConfig(penalties=(best,))
    model.fit(known, known.rows(first.fit), known.rows(first.valid), seed=0, progress=Silent())
    everything = scaled(market, scaler, None, window, first.delay)
    rows = everything.rows(range(first.test.start, folds[-1].test.stop))
    expected = np.cumsum(scaler.inverse_target(model.predict(everything, rows), rows.symbol), axis=1)
    steps = [horizon - 1 for horizon in told.horizons]
    np.testing.assert_allclose(told.rungs["frozen"], expected[:, steps].reshape(told.actual.shape), rtol=1e-9)


def test_a_climb_repeats_itself_and_another_seed_gives_another(pair: World) -> None:
    one, same, other = (predict(*pair, seed=seed) for seed in (3, 3, 4))
    for name, predicted in one.rungs.items():
        np.testing.assert_array_equal(predicted, same.rungs[name])
    assert (one.rungs["walk-forward"] != other.rungs["walk-forward"]).any()


def test_horizons_beyond_the_runs_own_are_left_out(pair: World) -> None:
    assert predict(*pair, probe="ridge", horizons=(48, 6, 2), seed=0).horizons == (2, 6)
    assert predict(*pair, horizons=(6,), seed=0).actual.shape[2] == 1
    with pytest.raises(ValueError, match="none of the horizons"):
        predict(*pair, horizons=(25,), seed=0)


def test_many_windows_are_thinned_and_the_result_says_so(pair: World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = climb(*pair, probe="ridge", seed=0)
    assert not whole.thinned
    assert "random part" not in str(whole)
    monkeypatch.setattr(ladder, "MAX_ROWS", 300)
    part = climb(*pair, probe="ridge", seed=0)
    assert part.thinned
    assert set(part.fit_rows.values()) == {300}
    assert "on a random part of the windows" in str(part)

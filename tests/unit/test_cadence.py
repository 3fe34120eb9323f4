"""The suggested cadence comes from before the test period, whatever happens in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qtrade.config import RunConfig, load_config
from qtrade.data.cache import Cache
from qtrade.data.fetch import fetch
from qtrade.pipeline import cadence, fitting
from qtrade.pipeline.cadence import CADENCES, Cadence, suggest_cadence
from qtrade.pipeline.market import Market, derive, prepare
from qtrade.progress import Silent
from qtrade.splits import walk_forward
from qtrade.types import BAR_FIELDS, Bars, Fold

FEATURES = """\
import numpy as np


def features(bars):
    return {"log_volume": np.log(bars.volume / 1e6)}
"""


def world(folder: Path, symbols: str, bars: int, train_size: int) -> tuple[Market, RunConfig, Fold]:
    """A market whose volume foretells returns a little, and the first fold of a run on it."""
    file = folder / "volume.py"
    file.write_text(FEATURES)
    config = load_config(
        None,
        [
            "data.source=synthetic",
            f"data.symbols={symbols}",
            f"data.synthetic.bars={bars}",
            "data.synthetic.beta=0.4",
            "features.set=minimal",
            f"features.module='{file}'",
            "window.seq_len=8",
            "window.label_len=4",
            "window.horizon=4",
            f"split.train_size={train_size}",
            "split.valid_size=60",
            "split.step=200",
        ],
    )
    cache = Cache(folder / "cache")
    fetch(config.data, cache=cache, progress=Silent())
    market = prepare(config, cache, Silent())
    return market, config, walk_forward(len(market.bars), market.features.warmup, 8, 4, config.split)[0]


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> tuple[Market, RunConfig, Fold]:
    return world(tmp_path_factory.mktemp("control"), "['control-1', 'control-2']", 1_500, 900)


def poisoned(bars: Bars, after: int) -> Bars:
    """Make up everything that follows a bar."""
    generator = np.random.default_rng(0)
    later = (np.arange(len(bars)) > after)[:, None]
    factor = np.where(later, np.exp(generator.normal(0, 0.3, (len(bars), len(bars.symbols)))), 1.0)
    return replace(bars, **{name: getattr(bars, name) * factor for name in BAR_FIELDS})


def test_what_happens_in_the_test_period_changes_nothing_to_the_last_bit(
    control: tuple[Market, RunConfig, Fold],
) -> None:
    market, config, first = control
    told = suggest_cadence(market, config, first)
    assert set(told.r2) == set(CADENCES)
    for future in (poisoned(market.bars, first.train_end), market.bars.rows(0, first.train_end + 1)):
        assert suggest_cadence(derive(config, future), config, first) == told
    assert suggest_cadence(derive(config, poisoned(market.bars, first.train_end - 1)), config, first) != told


def test_every_cadence_is_judged_at_the_same_origins_of_the_second_half(
    control: tuple[Market, RunConfig, Fold], monkeypatch: pytest.MonkeyPatch
) -> None:
    market, config, first = control
    fitted: list[Fold] = []
    original = fitting.fit_fold

    def watched(market: Market, config: RunConfig, fold: Fold, *rest: Any, **named: Any) -> Any:
        fitted.append(fold)
        return original(market, config, fold, *rest, **named)

    monkeypatch.setattr(cadence, "fit_fold", watched)
    told = suggest_cadence(market, config, first)
    starts = [number for number, fold in enumerate(fitted) if fold.number == 0]
    walks = [fitted[start:stop] for start, stop in zip(starts, [*starts[1:], len(fitted)], strict=True)]
    assert [walk[1].test.start - walk[0].test.start for walk in walks] == list(CADENCES)
    spans = {(walk[0].test.start, walk[-1].test.stop) for walk in walks}
    assert len(spans) == 1
    ((start, stop),) = spans
    assert stop - start == told.origins
    assert stop - 1 + config.window.horizon == first.train_end, "the last label ends at the last bar that is known"


def test_a_lasting_relationship_needs_no_haste(control: tuple[Market, RunConfig, Fold]) -> None:
    market, config, first = control
    told = suggest_cadence(market, config, first)
    assert min(told.r2.values()) > 0, "volume foretells the returns of this market"
    assert told.suggested is not None
    assert told.suggested >= max(told.r2, key=lambda step: told.r2[step])
    assert "Before the test period" in told.why
    written = told.to_dict()
    assert written["suggested_retraining_bars"] == told.suggested
    json.dumps(written, allow_nan=False)


def test_a_relationship_that_turned_wants_training_often(tmp_path: Path) -> None:
    # The flip lies in the middle of what is walked through before the test period.
    market, config, first = world(tmp_path, "['flip-1']", 1_500, 900)
    turned = pd.Series(np.log(market.bars.volume.iloc[:, 0] / 1e6)).to_numpy()
    following = np.roll(market.returns[:, 0], -1)
    assert np.corrcoef(turned[200:990], following[200:990])[0, 1] > 0.1
    assert np.corrcoef(turned[1_010:1_490], following[1_010:1_490])[0, 1] < -0.1
    late = replace(first, fit=range(1_350, 1_360), valid=range(1_365, 1_375), test=range(1_380, 1_390))
    rolling = config.model_copy(update={"split": config.split.model_copy(update={"mode": "rolling"})})
    told = suggest_cadence(market, rolling, late)
    assert told.r2[21] > told.r2[252]


def test_too_few_bars_are_said_to_be_too_few(control: tuple[Market, RunConfig, Fold]) -> None:
    market, config, first = control
    for train_end in (market.features.warmup + 12, market.features.warmup + 80):
        early = replace(
            first,
            fit=range(train_end - 20, train_end - 14),
            valid=range(train_end - 10, train_end - 4),
            test=range(train_end, train_end + 10),
        )
        told = suggest_cadence(market, config, early)
        assert (told.r2, told.suggested) == ({}, None)
        assert "too few bars" in told.why
        json.dumps(told.to_dict(), allow_nan=False)


def test_a_random_walk_is_told_to_say_little(tmp_path: Path) -> None:
    told: Cadence = suggest_cadence(*world(tmp_path, "['rw-4']", 1_200, 700))
    assert max(told.r2.values()) <= 0
    assert told.suggested is None
    assert "beat no change at no cadence" in told.why

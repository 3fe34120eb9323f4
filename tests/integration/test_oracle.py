"""A small Informer finds what can be found in a market whose truth is known, and nothing where there is nothing.

The market: x follows an AR(1) of coefficient phi and is seen through volume; the next return is beta times x plus
GARCH(0.08, 0.90) noise with Student-t shocks; a second AR(1) is a nuisance. No forecast of the return over h bars can
have a higher information coefficient than beta * a / sqrt(beta^2 S + h), where a = (1 - phi^h) / (1 - phi) and
S = h + 2 * sum over k < h of (h - k) phi^k: x itself has it.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from qtrade.calendars import ALWAYS, future_positions
from qtrade.features.marks import marks
from qtrade.features.scaler import Scaler
from qtrade.models.base import Shape
from qtrade.models.neural import InformerModel
from qtrade.models.settings import InformerConfig, NeuralConfig, TrainConfig
from qtrade.progress import Silent
from qtrade.splits import SplitConfig, walk_forward
from qtrade.types import Features, Float64Array
from qtrade.windows import Samples, WindowConfig, realised

PHI, BETA = 0.9, 0.2
BARS, HORIZON = 22_000, 24
WINDOW = WindowConfig(seq_len=12, label_len=4, horizon=HORIZON)
NETWORK = InformerConfig(d_model=16, n_heads=2, d_ff=32, e_layers=1, dropout=0.2)
TRAIN = TrainConfig(epochs=4, batch_size=256, learning_rate=6e-3, patience=3, device="cpu")


def market(beta: float, seed: int) -> tuple[Float64Array, Float64Array, Float64Array]:
    """(T,) signal, nuisance and log returns."""
    rng = np.random.default_rng(seed)
    innovations, others = rng.standard_normal((2, BARS))
    shocks = rng.standard_t(6, BARS) / math.sqrt(6 / 4)
    signal, nuisance, returns = np.zeros((3, BARS))
    noise, variance = 0.0, 1.0
    for t in range(1, BARS):
        signal[t] = PHI * signal[t - 1] + math.sqrt(1 - PHI**2) * innovations[t]
        nuisance[t] = 0.9 * nuisance[t - 1] + math.sqrt(1 - 0.9**2) * others[t]
        variance = 0.02 + 0.08 * noise**2 + 0.9 * variance
        noise = math.sqrt(variance) * shocks[t]
        returns[t] = 0.01 * (beta * signal[t - 1] + noise)
    return signal, nuisance, returns


def oracle(step: int) -> float:
    """Information coefficient of the signal itself, in closed form."""
    reach = (1 - PHI**step) / (1 - PHI)
    spread = step + 2 * sum((step - k) * PHI**k for k in range(1, step))
    return BETA * reach / math.sqrt(BETA**2 * spread + step)


def coefficients(beta: float, seed: int) -> dict[int, tuple[float, float]]:
    """Information coefficients of the Informer and of the signal on bars after training, at 6 and at 24 steps."""
    torch.set_num_threads(1)
    signal, nuisance, returns = market(beta, seed)
    index = pd.date_range("1960-01-01", periods=BARS, freq="D", tz="UTC", unit="ns")
    seen = np.stack([15 + 0.5 * signal, nuisance, returns], axis=-1)[:, None, :].astype(np.float32)
    features = Features(seen, ("log_volume", "nuisance", "log_return"), index, ("SYNTHETIC",), warmup=0)
    target = returns[:, None]
    split = SplitConfig(train_size=16_000, valid_size=2_000, step=BARS)
    (fold,) = walk_forward(BARS, 0, WINDOW.seq_len, HORIZON, split)
    scaler = Scaler.fit(features, target, range(fold.fit.start - WINDOW.seq_len + 1, fold.fit.stop))
    grid, start = future_positions(index, HORIZON, "1d", ALWAYS)
    stamps = marks(index, "1d")
    samples = Samples(
        scaler.transform(features.values), stamps, marks(grid, "1d"), start, scaler.transform_target(target), WINDOW
    )
    model = InformerModel(Shape(3, stamps.shape[1], WINDOW), NeuralConfig(network=NETWORK, train=TRAIN))
    known = samples.until(fold.train_end)
    model.fit(known, known.rows(fold.fit), known.rows(fold.valid), seed=0, progress=Silent())
    predicting = samples.until(fold.test[-1]).without_target()
    rows = predicting.rows(fold.test)
    assert rows.origin[0] >= fold.train_end, "tested on bars that training has not seen"
    expected = np.cumsum(model.predict(predicting, rows), axis=1)
    happened = np.cumsum(realised(target, rows, HORIZON), axis=1)
    guesses = {step: (expected[:, step - 1], signal[rows.origin]) for step in (6, 24)}
    return {
        step: (_correlation(model_says, happened[:, step - 1]), _correlation(truth, happened[:, step - 1]))
        for step, (model_says, truth) in guesses.items()
    }


def _correlation(x: Float64Array, y: Float64Array) -> float:
    return float(np.corrcoef(x, y)[0, 1])


@pytest.mark.parametrize(("step", "known"), [(1, 0.196), (6, 0.350), (24, 0.308)])
def test_the_closed_form_is_the_known_one(step: int, known: float) -> None:
    assert oracle(step) == pytest.approx(known, abs=5e-4)


def test_a_signal_is_found() -> None:
    found, possible = coefficients(BETA, seed=0)[6]
    # Some 1,000 independent labels of six bars: a standard error of 0.03.
    assert possible == pytest.approx(oracle(6), abs=0.09)
    assert found >= 0.7 * oracle(6)


def test_nothing_is_found_in_a_random_walk() -> None:
    found, _ = coefficients(0.0, seed=1)[24]
    # About 250 independent labels of 24 bars: a standard error of 0.064.
    assert abs(found) <= 0.2

"""What a CUDA card must do like a CPU. Skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from qtrade.models.base import Shape
from qtrade.models.device import choose_device
from qtrade.models.neural import InformerModel
from qtrade.models.settings import InformerConfig, NeuralConfig, TrainConfig
from qtrade.progress import Silent
from qtrade.types import Float64Array
from qtrade.windows import Samples, WindowConfig

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA card")

WINDOW = WindowConfig(seq_len=48, label_len=24, horizon=12)


def market(bars: int = 600) -> Samples:
    generator = np.random.default_rng(0)
    signal = generator.normal(size=(bars, 2))
    target = 0.5 * np.roll(signal, 1, axis=0) + 0.2 * generator.normal(size=(bars, 2))
    return Samples(
        values=np.stack([signal, generator.normal(size=(bars, 2)), target], axis=-1).astype(np.float32),
        marks=generator.uniform(-0.5, 0.5, (bars, 2)).astype(np.float32),
        future_marks=generator.uniform(-0.5, 0.5, (bars + 30, 2)).astype(np.float32),
        future_start=np.arange(bars, dtype=np.int64) + 1,
        target=target.astype(np.float32),
        window=WINDOW,
    )


def fitted(
    device: str, samples: Samples, *, mixed_precision: bool, cuda_graphs: bool = False
) -> tuple[InformerModel, Float64Array]:
    train = TrainConfig(
        epochs=8,
        batch_size=32,
        learning_rate=3e-3,
        device=device,
        mixed_precision=mixed_precision,
        cuda_graphs=cuda_graphs,
        patience=8,
    )
    config = InformerConfig(d_model=16, n_heads=2, d_ff=32, dropout=0.0)
    model = InformerModel(Shape(3, 2, WINDOW), NeuralConfig(network=config, train=train))
    known = samples.until(500)
    model.fit(known, known.rows(range(47, 400)), known.rows(range(412, 488)), seed=1, progress=Silent())
    return model, model.predict(samples, samples.rows(range(500, 580)))


def test_auto_chooses_the_card() -> None:
    assert choose_device("auto").type == "cuda"


@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize("mixed_precision", [False, True])
def test_same_seed_gives_the_same_bits_and_the_signal_is_learned(mixed_precision: bool, cuda_graphs: bool) -> None:
    samples = market()
    _, first = fitted("cuda", samples, mixed_precision=mixed_precision, cuda_graphs=cuda_graphs)
    _, second = fitted("cuda", samples, mixed_precision=mixed_precision, cuda_graphs=cuda_graphs)
    np.testing.assert_array_equal(first, second)
    actual = samples.labels(samples.rows(range(500, 580)))
    assert np.corrcoef(first[:, 0], actual[:, 0])[0, 1] > 0.5


def test_a_model_moves_between_card_and_cpu(tmp_path: Path) -> None:
    samples = market()
    model, path = fitted("cuda", samples, mixed_precision=False)
    model.save(tmp_path / "model.safetensors")
    again = InformerModel.load(tmp_path / "model.safetensors")
    rows = samples.rows(range(500, 580))
    np.testing.assert_array_equal(again.predict(samples, rows), path)
    again.settings = again.settings.model_copy(update={"train": TrainConfig(device="cpu")})
    np.testing.assert_allclose(again.predict(samples, rows), path, atol=2e-3)


def test_a_forecast_does_not_depend_on_what_is_asked_beside_it() -> None:
    samples = market()
    model, path = fitted("cuda", samples, mixed_precision=True)
    np.testing.assert_array_equal(model.predict(samples, samples.rows(range(500, 511))), path[:22])

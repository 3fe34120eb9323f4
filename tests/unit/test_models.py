"""One conformance test for every entry of `MODELS`, and what only networks do."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from qtrade.errors import DataError, UsageError
from qtrade.models import MODEL_TEXTS
from qtrade.models.base import History, Model, Shape, TrainingError
from qtrade.models.baselines import Ridge
from qtrade.models.batches import DeviceSamples
from qtrade.models.catalogue import MODELS
from qtrade.models.device import choose_device
from qtrade.models.neural import InformerModel
from qtrade.models.settings import InformerConfig, NeuralConfig, NoSettings, RidgeConfig, TrainConfig
from qtrade.models.train import learning_rate, predict_network
from qtrade.progress import Silent
from qtrade.types import Float64Array
from qtrade.windows import Rows, Samples, WindowConfig

WINDOW = WindowConfig(seq_len=12, label_len=6, horizon=4)
SHAPE = Shape(features=3, marks=2, window=WINDOW)
NETWORK = InformerConfig(d_model=8, n_heads=2, d_ff=16)
TRAIN = TrainConfig(epochs=2, batch_size=64, device="cpu")
SETTINGS: dict[str, Any] = {
    "informer": NeuralConfig(network=NETWORK, train=TRAIN),
    "naive": NoSettings(),
    "drift": NoSettings(),
    "ridge": RidgeConfig(penalties=(1.0, 100.0)),
}


def market(bars: int = 200, seed: int = 0) -> Samples:
    """Two symbols whose next return follows feature 0, so that there is something to learn."""
    generator = np.random.default_rng(seed)
    signal = generator.normal(size=(bars, 2))
    target = 0.5 * np.roll(signal, 1, axis=0) + 0.2 * generator.normal(size=(bars, 2))
    values = np.stack([signal, generator.normal(size=(bars, 2)), target], axis=-1)
    return Samples(
        values=values.astype(np.float32),
        marks=generator.uniform(-0.5, 0.5, (bars, 2)).astype(np.float32),
        future_marks=generator.uniform(-0.5, 0.5, (bars + 30, 2)).astype(np.float32),
        future_start=np.arange(bars, dtype=np.int64) + 1,
        target=target.astype(np.float32),
        window=WINDOW,
    )


def fitted(name: str, samples: Samples, seed: int = 0) -> tuple[Model, History]:
    torch.set_num_threads(1)
    model = MODELS[name](SHAPE, SETTINGS[name])
    known = samples.until(140)
    history = model.fit(known, known.rows(range(11, 101)), known.rows(range(105, 136)), seed=seed, progress=Silent())
    return model, history


@pytest.mark.parametrize("name", MODELS)
class TestEveryModel:
    def test_predicts_finite_paths_and_reports_its_validation_loss(self, name: str) -> None:
        samples = market()
        model, history = fitted(name, samples)
        assert model.name == name
        valid = samples.rows(range(105, 136))
        path = model.predict(samples.without_target(), valid)
        assert path.shape == (62, 4)
        assert path.dtype == np.float64
        assert np.isfinite(path).all()
        assert history.valid_loss == pytest.approx(np.mean((path - samples.labels(valid)) ** 2), rel=1e-6)

    def test_saved_and_loaded_it_predicts_the_same_bits(self, name: str, tmp_path: Path) -> None:
        samples = market()
        model, _ = fitted(name, samples)
        path = tmp_path / "model.safetensors"
        model.save(path)
        rows = samples.rows(range(140, 190))
        again = MODELS[name].load(path)
        np.testing.assert_array_equal(again.predict(samples, rows), model.predict(samples, rows))

    def test_same_seed_gives_the_same_model(self, name: str) -> None:
        samples = market()
        rows = samples.rows(range(140, 190))
        first, second = (fitted(name, samples)[0].predict(samples, rows) for _ in range(2))
        np.testing.assert_array_equal(first, second)

    def test_a_forecast_does_not_depend_on_what_is_asked_beside_it(self, name: str) -> None:
        samples = market()
        model, _ = fitted(name, samples)
        whole = model.predict(samples, samples.rows(range(140, 190)))
        part = model.predict(samples, samples.rows(range(140, 151)))
        np.testing.assert_array_equal(part, whole[:22])

    def test_what_comes_after_the_origin_changes_no_bit(self, name: str) -> None:
        samples = market()
        model, _ = fitted(name, samples)
        assert samples.target is not None
        for cut in (140, 163, 189):
            poisoned = replace(
                samples, values=samples.values.copy(), target=samples.target.copy(), marks=samples.marks.copy()
            )
            assert poisoned.target is not None
            poisoned.values[cut + 1 :] = np.nan
            poisoned.marks[cut + 1 :] = np.nan
            poisoned.target[cut + 1 :] = np.nan
            rows = samples.rows(range(140, cut + 1))
            other, _ = fitted(name, poisoned)
            np.testing.assert_array_equal(other.predict(poisoned, rows), model.predict(samples, rows))

    def test_a_damaged_or_foreign_file_is_named(self, name: str, tmp_path: Path) -> None:
        model, _ = fitted(name, market())
        path = tmp_path / "model.safetensors"
        model.save(path)
        path.write_bytes(path.read_bytes()[:20])
        with pytest.raises(DataError, match="cannot be read") as caught:
            MODELS[name].load(path)
        assert str(path) in str(caught.value)
        other = next(key for key in MODELS if key != name)
        fitted(other, market())[0].save(path)
        with pytest.raises(DataError, match=f"holds a '{other}' model, not '{name}'"):
            MODELS[name].load(path)
        with pytest.raises(DataError, match="cannot be read"):
            MODELS[name].load(tmp_path / "absent.safetensors")


def test_baselines_say_what_they_promise() -> None:
    samples = market()
    rows = samples.rows(range(140, 160))
    assert (fitted("naive", samples)[0].predict(samples, rows) == 0).all()
    drift = fitted("drift", samples)[0].predict(samples, rows)
    assert samples.target is not None
    np.testing.assert_allclose(drift[0], samples.target[12:105, 0].mean(dtype=np.float64))
    np.testing.assert_allclose(drift[1], samples.target[12:105, 1].mean(dtype=np.float64))


def test_ridge_is_the_textbook_solution_and_finds_the_signal() -> None:
    samples = market()
    model, history = fitted("ridge", samples)
    fit, rows = samples.rows(range(11, 101)), samples.rows(range(140, 190))
    x = samples.values[fit.origin, fit.symbol].astype(np.float64)
    y = samples.labels(fit).astype(np.float64)

    def centred_at(rows: Rows) -> Float64Array:
        values: Float64Array = samples.values[rows.origin, rows.symbol] - x.mean(axis=0)
        return values

    losses = []
    for penalty in (1.0, 100.0):
        centred = x - x.mean(axis=0)
        weight = np.linalg.solve(centred.T @ centred + penalty * np.eye(3), centred.T @ (y - y.mean(axis=0)))
        valid = samples.rows(range(105, 136))
        losses.append((np.mean((centred_at(valid) @ weight + y.mean(axis=0) - samples.labels(valid)) ** 2), weight))
    loss, weight = min(losses, key=lambda pair: pair[0])
    assert history.valid_loss == pytest.approx(loss)
    np.testing.assert_allclose(model.predict(samples, rows), centred_at(rows) @ weight + y.mean(axis=0))
    actual = samples.labels(rows)[:, 0]
    assert np.corrcoef(model.predict(samples, rows)[:, 0], actual)[0, 1] > 0.8


@pytest.mark.parametrize("penalty", [-1e-9, -100.0, math.inf, math.nan])
def test_ridge_refuses_a_penalty_that_is_negative_or_not_finite(penalty: float) -> None:
    with pytest.raises(ValidationError, match="penalties"):
        RidgeConfig(penalties=(1.0, penalty))


def test_ridge_without_a_penalty_is_least_squares_even_with_a_feature_that_adds_nothing() -> None:
    samples = market()
    # Rounded so that the sum is exact; its zero root then comes out as rounding of either sign.
    samples.values[:] = np.round(samples.values * 64) / 64
    samples.values[:, :, 1] = 3 * samples.values[:, :, 0] + 5 * samples.values[:, :, 2]
    fit, valid = samples.rows(range(11, 101)), samples.rows(range(105, 136))
    model = Ridge(SHAPE, RidgeConfig(penalties=(0.0,)))
    model.fit(samples, fit, valid, seed=0, progress=Silent())
    x, y = samples.values[fit.origin, fit.symbol].astype(np.float64), samples.labels(fit).astype(np.float64)
    smallest = np.linalg.lstsq(x - x.mean(axis=0), y - y.mean(axis=0))[0]
    np.testing.assert_allclose(model.weight, smallest, atol=1e-9)


def network_fit(train: TrainConfig, samples: Samples) -> tuple[InformerModel, History]:
    torch.set_num_threads(1)
    model = InformerModel(SHAPE, NeuralConfig(network=NETWORK, train=train))
    return model, model.fit(
        samples, samples.rows(range(11, 101)), samples.rows(range(105, 136)), seed=3, progress=Silent()
    )


def test_informer_learns_a_signal_that_is_there() -> None:
    samples = market(400)
    model = InformerModel(
        SHAPE,
        NeuralConfig(network=NETWORK, train=TrainConfig(epochs=10, batch_size=32, learning_rate=6e-3, device="cpu")),
    )
    model.fit(
        samples.until(320), samples.rows(range(11, 250)), samples.rows(range(254, 310)), seed=0, progress=Silent()
    )
    rows = samples.rows(range(320, 390))
    assert np.corrcoef(model.predict(samples, rows)[:, 0], samples.labels(rows)[:, 0])[0, 1] > 0.5


def test_the_best_epoch_is_kept_and_patience_ends_training() -> None:
    train = TrainConfig(epochs=40, batch_size=16, learning_rate=2e-2, patience=2, schedule="constant", device="cpu")
    samples = market()
    model, history = network_fit(train, samples)
    losses = [epoch.valid_loss for epoch in history.epochs]
    assert len(losses) < 40
    assert history.best_epoch == int(np.argmin(losses)) + 1 == len(losses) - 2
    rows = samples.rows(range(105, 136))
    kept = np.mean((model.predict(samples, rows) - samples.labels(rows)) ** 2)
    assert kept == pytest.approx(min(losses), rel=1e-9)


def test_loss_that_is_not_finite_stops_training_and_nothing_is_saved(tmp_path: Path) -> None:
    samples = market()
    samples.values[50, 0, 1] = np.inf
    with pytest.raises(TrainingError, match="the loss became nan in epoch 1"):
        network_fit(TRAIN, samples)
    model = InformerModel(SHAPE, NeuralConfig(network=NETWORK, train=TRAIN))
    with torch.no_grad():
        model.network.head.bias.fill_(float("nan"))
    with pytest.raises(DataError, match="not finite"):
        model.save(tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    network_fit(TRAIN, market())
    assert torch.equal(before, torch.get_rng_state())


def test_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="device 'cuda' is not available") as caught:
        choose_device("cuda")
    assert caught.value.exit_code == 2
    assert choose_device("cpu") == torch.device("cpu")


def test_rows_count_their_windows() -> None:
    assert len(Rows(np.arange(3), np.zeros(3, dtype=np.int64))) == 3


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("type1", [1e-3, 1e-3, 5e-4, 2.5e-4]),
        ("type2", [1e-3, 1e-3, 5e-5, 5e-5, 1e-5, 1e-5, 5e-6, 5e-6, 1e-6]),
        ("cosine", [1e-3, 1e-3 * (2 + 2**0.5) / 4, 5e-4, 1e-3 * (2 - 2**0.5) / 4]),
        ("constant", [1e-3, 1e-3, 1e-3]),
    ],
)
def test_step_sizes_of_a_schedule(schedule: Any, rates: list[float]) -> None:
    config = TrainConfig(schedule=schedule, learning_rate=1e-3, epochs=4)
    assert [learning_rate(config, epoch) for epoch in range(1, len(rates) + 1)] == pytest.approx(rates)


def test_labels_of_mode_m_are_every_column_with_the_target_last() -> None:
    samples = market()
    columns = samples.values.shape[2]
    rows = samples.rows(range(20, 23))
    data = DeviceSamples(samples, torch.device("cpu"), outputs=columns)
    batch = data.batch(*data.rows(rows), labelled=True)
    assert batch.label is not None
    horizon = samples.window.horizon
    assert batch.label.shape == (len(rows), horizon, columns)
    assert samples.target is not None
    for row, (origin, symbol) in enumerate(zip(rows.origin, rows.symbol, strict=True)):
        ahead = slice(origin + 1 + samples.delay, origin + 1 + samples.delay + horizon)
        np.testing.assert_array_equal(batch.label[row, :, :-1], samples.values[ahead, symbol, :-1])
        np.testing.assert_array_equal(batch.label[row, :, -1], samples.target[ahead, symbol])


def test_mode_m_learns_all_columns_and_forecasts_the_target(tmp_path: Path) -> None:
    samples = market()
    columns = samples.values.shape[2]
    shape = Shape(SHAPE.features, SHAPE.marks, SHAPE.window, outputs=columns)
    model = InformerModel(shape, NeuralConfig(network=NETWORK, train=TrainConfig(epochs=2, device="cpu")))
    history = model.fit(samples, samples.rows(range(11, 101)), samples.rows(range(105, 136)), seed=3, progress=Silent())
    rows = samples.rows(range(105, 136))
    data = DeviceSamples(samples, torch.device("cpu"), outputs=columns)
    paths = predict_network(model.network, data, rows, model.settings.train, key_seed=model.settings.key_seed)
    label = data.batch(*data.rows(rows), labelled=True).label
    assert label is not None
    assert history.valid_loss == pytest.approx(np.mean((paths.astype(np.float64) - label.double().numpy()) ** 2))
    np.testing.assert_array_equal(model.predict(samples, rows), paths[..., -1])
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(InformerModel.load(tmp_path / "m.safetensors").predict(samples, rows), paths[..., -1])


def test_attention_of_every_encoder_layer_is_named_and_sums_to_one() -> None:
    samples = market()
    network = NETWORK.model_copy(update={"stack": (2, 1)})
    model = InformerModel(SHAPE, NeuralConfig(network=network, train=TrainConfig(device="cpu")))
    rows = samples.rows(range(40, 41))
    layers = model.attention(samples, Rows(rows.origin[:1], rows.symbol[:1]))
    seq_len = SHAPE.window.seq_len
    assert [(name, covered) for name, covered, _ in layers] == [
        ("encoder 1, layer 1", seq_len),
        ("encoder 1, layer 2", seq_len),
        ("encoder 2, layer 1", seq_len // 2),
    ]
    assert [weights.shape[-1] for *_, weights in layers] == [seq_len, -(-seq_len // 2), seq_len // 2]
    for *_, weights in layers:
        np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)


def test_what_is_said_of_a_model_opens_its_class() -> None:
    # Said once more where PyTorch is not needed, so that `qtrade models` need not load it.
    assert {name: (kind.__doc__ or "").partition("\n")[0] for name, kind in MODELS.items()} == MODEL_TEXTS
    assert {name: kind.name for name, kind in MODELS.items()} == {name: name for name in MODELS}

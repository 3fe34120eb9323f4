"""Informer as a `Model`: the network, the training loop and a safetensors file, put together."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from qtrade.errors import DataError
from qtrade.files import atomic_path
from qtrade.models.base import History, Shape, make_header, read_header
from qtrade.models.batches import DeviceSamples
from qtrade.models.device import choose_device
from qtrade.models.informer import Informer
from qtrade.models.settings import NeuralConfig
from qtrade.models.train import attention_maps, fit_network, predict_network
from qtrade.progress import Progress
from qtrade.types import Float32Array, Float64Array
from qtrade.windows import Rows, Samples


class InformerModel:
    """The Informer (Zhou et al. 2021): a network that predicts the whole path in one pass."""

    name: ClassVar[str] = "informer"

    def __init__(self, shape: Shape, settings: NeuralConfig) -> None:
        self.shape, self.settings = shape, settings
        self.network = self._fresh(seed=0)

    def fit(self, samples: Samples, fit: Rows, valid: Rows, *, seed: int, progress: Progress) -> History:
        """Start from fresh weights drawn from `seed`, then train until validation stops improving."""
        self.network = self._fresh(seed)
        return fit_network(
            self.network,
            self._on_device(samples),
            fit,
            valid,
            self.settings.train,
            seed=seed,
            key_seed=self.settings.key_seed,
            progress=progress,
        )

    def predict(self, samples: Samples, rows: Rows) -> Float64Array:
        """Run the network on the windows of `rows`."""
        data = self._on_device(samples.without_target())
        paths = predict_network(self.network, data, rows, self.settings.train, key_seed=self.settings.key_seed)
        return paths[..., -1].astype(np.float64)

    def attention(self, samples: Samples, row: Rows) -> list[tuple[str, int, Float32Array]]:
        """Look where the encoders look in the window of `row`.

        Returns
        -------
        list
            Per layer its name, how many of the window's last bars it covers, and (A, L', L') weights, query by key.
        """
        data = self._on_device(samples.without_target())
        maps = attention_maps(self.network, data, row, self.settings.train, key_seed=self.settings.key_seed)
        network = self.settings.network
        depths = network.stack or (network.e_layers,)
        places = [(encoder, layer) for encoder, depth in enumerate(depths, 1) for layer in range(1, depth + 1)]
        return [
            (
                f"encoder {encoder}, layer {layer}" if len(depths) > 1 else f"encoder layer {layer}",
                self.shape.window.seq_len // 2 ** (encoder - 1),
                one,
            )
            for (encoder, layer), one in zip(places, maps, strict=True)
        ]

    def save(self, path: Path) -> None:
        """Write weights, shape and settings, refusing weights that are not finite."""
        weights = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        if not all(torch.isfinite(value).all() for value in weights.values() if value.is_floating_point()):
            raise DataError("the network has weights that are not finite", fix="set a smaller train.learning_rate")
        with atomic_path(path) as temporary:
            save_file(weights, temporary, metadata=make_header(self.name, self.shape, self.settings))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        shape, settings = read_header(path, cls.name)
        model = cls(shape, NeuralConfig(**settings))
        try:
            model.network.load_state_dict(load_file(path))
        except (SafetensorError, RuntimeError) as error:
            raise DataError(f"{path} does not fit its own header", why=str(error), fix="train the run again") from error
        return model

    def _on_device(self, samples: Samples) -> DeviceSamples:
        return DeviceSamples(samples, choose_device(self.settings.train.device), self.shape.outputs)

    def _fresh(self, seed: int) -> Informer:
        """Build a network with weights drawn from `seed`, without touching PyTorch's global generator."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Informer(self.shape, self.settings.network)

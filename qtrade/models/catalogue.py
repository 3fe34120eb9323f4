"""The models, by name: their classes, which need PyTorch. `qtrade.models` says what they are without it."""

from __future__ import annotations

from qtrade.models.base import Model
from qtrade.models.baselines import Drift, Naive, Ridge
from qtrade.models.neural import InformerModel

MODELS: dict[str, type[Model]] = {
    "informer": InformerModel,
    "naive": Naive,
    "drift": Drift,
    "ridge": Ridge,
}

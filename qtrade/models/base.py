"""What every model is: fit on windows, predict paths, saved and loaded without loss."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from qtrade.errors import DataError, QtradeError
from qtrade.progress import Progress
from qtrade.settings import Settings
from qtrade.types import Float64Array
from qtrade.windows import Rows, Samples, WindowConfig


class TrainingError(QtradeError):
    """Training went wrong in a way that no later epoch mends."""


@dataclass(frozen=True)
class Shape:
    """The sizes a model is built for."""

    features: int
    """Input columns F; the last one is the target's own past."""
    marks: int
    """Calendar marks M."""
    window: WindowConfig
    """L, label part, H."""
    outputs: int = 1
    """Series predicted C: one in MS mode."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for the header of a saved model."""
        return {**asdict(self), "window": self.window.model_dump()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Shape:
        """Undo `to_dict`."""
        return cls(**{**fields, "window": WindowConfig(**fields["window"])})


@dataclass(frozen=True)
class Epoch:
    """One pass over the fitting windows."""

    number: int
    train_loss: float
    valid_loss: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class History:
    """How a fit went; `epochs` is empty for models fitted in one step."""

    epochs: tuple[Epoch, ...]
    best_epoch: int
    valid_loss: float
    """Mean squared error on all validation windows, in units of the scaled target, of the weights kept."""


class Model(Protocol):
    """A multi-horizon forecaster of one target from many inputs.

    `fit` and `predict` see scaled values only. A prediction is the scaled target's path of the H bars after each
    origin; zero means "no change", the random walk, whatever the scale.
    """

    name: ClassVar[str]

    def __init__(self, shape: Shape, settings: Any) -> None: ...

    def fit(self, samples: Samples, fit: Rows, valid: Rows, *, seed: int, progress: Progress) -> History:
        """Learn from the windows `fit`, choosing when to stop by the windows `valid`.

        Raises
        ------
        TrainingError
            If the loss stops being a finite number.
        """

    def predict(self, samples: Samples, rows: Rows) -> Float64Array:
        """Return the (W, H) scaled paths after `rows`; row i depends on window i alone."""

    def save(self, path: Path) -> None:
        """Write the model as one safetensors file, atomically."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote: the same predictions, bit for bit.

        Raises
        ------
        DataError
            If the file is missing, altered or of another model.
        """


def read_header(path: Path, model: str) -> tuple[Shape, dict[str, Any]]:
    """Read shape and settings from the header of a saved model, checking that it is a `model`."""
    from safetensors import SafetensorError, safe_open

    fix = "train again; the fold is trained anew where its files are missing"
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["qtrade"])
        if header.get("model") != model:
            raise DataError(f"{path} holds a '{header.get('model')}' model, not '{model}'", fix=fix)
        return Shape.from_dict(header["shape"]), header["settings"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} cannot be read", why=str(error), fix=fix) from error


def make_header(model: str, shape: Shape, settings: Settings) -> dict[str, str]:
    """Return the header that `read_header` reads: one entry, because safetensors writes several in any order."""
    return {
        "qtrade": json.dumps(
            {"model": model, "shape": shape.to_dict(), "settings": settings.model_dump(mode="json")}, sort_keys=True
        )
    }

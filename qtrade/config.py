"""The configuration of a run: the parts' own settings, put together, read from TOML and written back."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import reduce
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import tomli_w
from pydantic import Field, model_validator

from qtrade.backtest.costs import BacktestConfig
from qtrade.config_file import EXTENDS, merged, read_layers
from qtrade.data.config import DataConfig
from qtrade.errors import UsageError
from qtrade.evaluation.config import EvaluationConfig
from qtrade.features.build import FeatureConfig
from qtrade.models.settings import InformerConfig, NeuralConfig, NoSettings, RidgeConfig, TrainConfig
from qtrade.presets import PRESETS, PresetName
from qtrade.settings import Settings, validated
from qtrade.splits import SplitConfig
from qtrade.windows import WindowConfig

ModelName = Literal["informer", "naive", "drift", "ridge"]
Scalar = bool | int | float | str


class RunConfig(Settings):
    """Everything that decides a run."""

    file_keys: ClassVar[tuple[str, ...]] = (EXTENDS,)

    preset: PresetName = "small"
    """Sizes and training to start from; every other setting that is given wins over it."""
    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """First part of the run folder's name."""
    seed: int = Field(default=0, ge=0)
    """Seed from which every fold's and replicate's seed is derived."""
    replicates: int = Field(default=1, ge=1)
    """Times each fold is trained, from different seeds; strategies trade the mean of the forecasts."""
    model: ModelName = "informer"
    """Model that is forecast with and traded."""
    baselines: tuple[ModelName, ...] = ("drift", "ridge")
    """Models sent through the same folds for comparison. The random walk needs no training and is always there."""
    data: DataConfig = DataConfig()
    """Bars."""
    features: FeatureConfig = FeatureConfig()
    """Inputs of the model."""
    window: WindowConfig = WindowConfig()
    """Bars read and predicted."""
    split: SplitConfig = SplitConfig()
    """Walk-forward folds."""
    informer: InformerConfig = InformerConfig()
    """Size and switches of the network."""
    train: TrainConfig = TrainConfig()
    """How the network is fitted."""
    ridge: RidgeConfig = RidgeConfig()
    """The linear baseline."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """What is measured of the forecasts."""
    backtest: BacktestConfig = BacktestConfig()
    """Account and costs."""
    strategies: dict[str, dict[str, Scalar]] = Field(default={"forecast_sign": {}, "path_momentum": {}})
    """Strategies to backtest, by name or path, each with its parameters."""

    @model_validator(mode="before")
    @classmethod
    def _start_from_the_preset(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or tree.get("preset", "small") not in PRESETS:
            return tree  # whatever is wrong is told with its place
        return merged(PRESETS[tree.get("preset", "small")], tree)

    @model_validator(mode="after")
    def _stack_has_something_to_read(self) -> Self:
        if self.window.seq_len // 2 ** max(len(self.informer.stack) - 1, 0) == 0:
            raise ValueError(
                f"window.seq_len {self.window.seq_len} is too short for {len(self.informer.stack)} encoders in "
                "informer.stack, each of which reads half of what the one before it reads"
            )
        return self

    @model_validator(mode="after")
    def _levels_start_at_the_origin(self) -> Self:
        target = self.features.target
        if self.split.delay and (target == "log_close" or target.endswith(".py")):
            raise ValueError(f"a target of {target} needs split.delay 0: its first return starts at the origin")
        return self

    @property
    def models(self) -> tuple[str, ...]:
        """The model that is traded, then those it is compared with."""
        return tuple(dict.fromkeys((self.model, *self.baselines)))

    def replicates_of(self, model: str) -> int:
        """Return how many times a model is fitted on each fold; what needs no seed is fitted once."""
        return self.replicates if model == "informer" else 1

    def settings_of(self, model: str) -> Settings:
        """Return the settings that `MODELS[model]` is built with."""
        if model == "informer":
            return NeuralConfig(network=self.informer, train=self.train)
        return self.ridge if model == "ridge" else NoSettings()

    def forecast_hash(self, **facts: str) -> str:
        """SHA-256 of all that decides the forecasts.

        Parameters
        ----------
        facts
            What the configuration does not know: the data's fingerprint, the device, the version.
        """
        # Where bars come from is told by their fingerprint, which is among the facts.
        origin = {"accept", "versions", "file", "synthetic", "yahoo"}
        idle: Any = dict.fromkeys(("name", "preset", "evaluation", "backtest", "strategies"), True)
        idle |= {"train": {"workers"}, "data": origin}
        decides = self.model_dump(mode="json", exclude=idle)
        return hashlib.sha256(json.dumps([decides, facts], sort_keys=True).encode()).hexdigest()

    def to_toml(self) -> str:
        """Write every setting as TOML; reading it back gives an equal configuration."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def load_config(path: Path | None = None, overrides: Sequence[str] = (), **values: Any) -> RunConfig:
    """Read a configuration.

    Parameters
    ----------
    path
        TOML file, laid over those that it extends; without one everything has its default.
    overrides
        ``a.b=value`` assignments, applied after the file. A value is read as TOML, else taken as text.
    values
        Top-level keys, or tables whose keys are merged, applied last; None means "not given".

    Raises
    ------
    UsageError
        If the file cannot be read, or a key or value is wrong; an unknown key names the nearest.
    """
    layers = read_layers(path) if path else ()
    written: dict[str, Any] = reduce(merged, (layer.tree for layer in layers), {})
    tree = deepcopy(written)
    for text in overrides:
        _assign(tree, text)
    given = _given(values)
    tree = merged(tree, given)
    chosen = given.get("data", {}).get("symbols")
    if chosen and "versions" in written.get("data", {}):
        # A run's file names versions of its own symbols; those of others than were asked for are no mistake.
        tree["data"]["versions"] = {key: value for key, value in tree["data"]["versions"].items() if key in chosen}
    if "preset" in written and tree["preset"] != written["preset"]:
        raise UsageError(
            f"{path} is of preset '{written['preset']}'; asking for '{tree['preset']}' would only relabel it",
            why="every setting in a file wins over a preset, and the file of a run holds them all",
            fix="leave the other preset out, or take preset and its settings out of the file",
        )
    return validated(RunConfig, tree, [(layer.path, layer.tree) for layer in layers])


def _given(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is None, and tables in which everything is."""
    kept = {key: _given(value) if isinstance(value, dict) else value for key, value in tree.items()}
    return {key: value for key, value in kept.items() if value is not None and value != {}}


def parse_assignment(text: str) -> tuple[str, Scalar | list[Any]]:
    """Split ``key=value``, reading the value as TOML, or as text where it is not TOML.

    Raises
    ------
    UsageError
        If there is no ``=`` or no key.
    """
    key, equals, value = text.partition("=")
    if not (key.strip() and equals):
        raise UsageError(f"'{text}' is not an assignment", fix="write it as key=value, for example train.epochs=4")
    try:
        parsed: Scalar | list[Any] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    return key.strip(), parsed


def _assign(tree: dict[str, Any], text: str) -> None:
    key, value = parse_assignment(text)
    if key == EXTENDS:
        raise UsageError(f"'{EXTENDS}' cannot be set", why="it is a key of files", fix="name the file after --config")
    *tables, last = key.split(".")
    for name in tables:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise UsageError(f"'{key}' cannot be set: '{name}' is a value, not a table")
    tree[last] = value

"""The configuration of a run: the parts' own settings, put together, read from TOML and written back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import tomli_w
from pydantic import Field, model_validator

from qtrade.backtest.costs import BacktestConfig
from qtrade.config_file import EXTENDS, Layer, merged, parse_toml, read_layers
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
        preset = tree.get("preset", "small") if isinstance(tree, dict) else None
        if not isinstance(preset, str) or preset not in PRESETS:
            return tree  # whatever is wrong is told with its place
        return merged(PRESETS[preset], tree)

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
    written = _laid(layers)
    tree = deepcopy(written)
    for text in overrides:
        _assign(tree, text)
    tree = _with_versions_of_its_symbols(merged(tree, _given(values)), written)
    if "preset" in written and tree["preset"] != written["preset"]:
        raise _only_relabels(f"{path} is of preset '{written['preset']}'", f"'{tree['preset']}'")
    return validated(RunConfig, tree, [(layer.path, layer.tree) for layer in layers])


def _laid(layers: Sequence[Layer]) -> dict[str, Any]:
    """Lay files over one another, each of which may say what an option may."""
    tree: dict[str, Any] = {}
    holder = None
    for layer in layers:
        if "preset" in layer.tree:
            preset = layer.tree["preset"]
            if holder and preset != tree["preset"]:
                raise _only_relabels(f"{holder} is of preset '{tree['preset']}'", f"'{preset}' in {layer.path}")
            holder = layer.path
        tree = _with_versions_of_its_symbols(merged(tree, layer.tree), tree)
    return tree


def _only_relabels(told: str, asked: str) -> UsageError:
    return UsageError(
        f"{told}; asking for {asked} would only relabel it",
        why="every setting in a file wins over a preset, and the file of a run holds them all",
        fix="leave the other preset out, or take preset and its settings out of the file",
    )


def _with_versions_of_its_symbols(tree: dict[str, Any], beneath: Mapping[str, Any]) -> dict[str, Any]:
    """Leave behind the versions in `beneath` of symbols that what is laid over it does not ask for.

    A run's file names versions of its own symbols; those of others than were asked for are no mistake.
    """
    data, former = tree.get("data"), beneath.get("data")
    if not (isinstance(data, dict) and isinstance(former, dict)) or data.get("symbols") == former.get("symbols"):
        return tree
    symbols, versions, known = data.get("symbols"), data.get("versions"), former.get("versions")
    if isinstance(symbols, str):
        symbols = [part.strip() for part in symbols.split(",")]
    if not (isinstance(symbols, list | tuple) and isinstance(versions, dict) and isinstance(known, dict)):
        return tree  # whatever is wrong is told with its place
    kept = {key: value for key, value in versions.items() if key in symbols or known.get(key) != value}
    return {**tree, "data": {**data, "versions": kept}}


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
        parsed: Scalar | list[Any] = parse_toml(f"value = {value}")["value"]
    except ValueError:
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

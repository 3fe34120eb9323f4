"""From bars to the array of features a model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import field_validator, model_validator

from qtrade.errors import DataError, UsageError, nearest
from qtrade.features.indicators import FEATURE_SETS, FEATURES
from qtrade.features.market import Market
from qtrade.features.targets import TargetName, target_series
from qtrade.settings import Settings
from qtrade.types import Bars, Features, Float32Array


class FeatureConfig(Settings):
    """Which features a model reads, and what it is asked for."""

    mode: Literal["MS", "M", "S"] = "MS"
    """What a network reads and predicts: every feature and the target (MS), every feature and all of them (M; the
    target is what is traded), or the target's own past and the target (S)."""
    target: TargetName = "log_return"
    """What is forecast. A model of log_close, a price level, is scored and traded on the returns between its levels."""
    set: str = "default"
    """The named list to start from: minimal, default or all."""
    include: tuple[str, ...] = ()
    """Features to add to it."""
    exclude: tuple[str, ...] = ()
    """Features to leave out of it."""

    @field_validator("set")
    @classmethod
    def _known_set(cls, name: str) -> str:
        if name not in FEATURE_SETS:
            raise UsageError(f"unknown feature set '{name}'", fix=nearest(name, FEATURE_SETS))
        return name

    @field_validator("include", "exclude")
    @classmethod
    def _known_features(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in FEATURES:
                raise UsageError(f"unknown feature '{name}'", fix=nearest(name, FEATURES))
        return names

    @model_validator(mode="after")
    def _consistent(self) -> FeatureConfig:
        if self.target in self.exclude:
            raise UsageError(
                f"'{self.target}' cannot be left out",
                why="it is the past of what is forecast, which models read as their last column",
                fix="take it out of features.exclude",
            )
        for name in self.include:
            if name in self.exclude:
                raise UsageError(
                    f"feature '{name}' is both included and excluded",
                    fix="take it out of features.include or features.exclude",
                )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The selected features: the set, then what was added to it, and the target's own past last."""
        wanted = dict.fromkeys((*FEATURE_SETS[self.set], *self.include)) if self.mode != "S" else {}
        return (*(name for name in wanted if name not in self.exclude and name != self.target), self.target)


@dataclass(frozen=True, eq=False)
class Built:
    """Features, and those of the chosen set that these bars cannot give.

    Attributes
    ----------
    features
        What a model reads.
    dropped
        Names of the features left out because a symbol reports no volume.
    note
        One sentence for the user about `dropped`; empty if nothing was dropped.
    """

    features: Features
    dropped: tuple[str, ...]
    note: str


def build(bars: Bars, config: FeatureConfig) -> Built:
    """Compute the selected features of every symbol; the bars are left as they are.

    Raises
    ------
    DataError
        If there are too few bars for the warm-up, if a feature asked for by name needs volume and a symbol reports
        none, or if a value after the warm-up is not finite.
    """
    silent = [name for name, total in zip(bars.symbols, bars.volume.sum(), strict=True) if total == 0]
    names, dropped = _without_volume(config, silent) if silent else (config.names, ())
    # A level is there from the first bar, but the baselines learn returns.
    warmups = {name: FEATURES[name].warmup if name in FEATURES else 1 for name in names}
    warmup = max(warmups.values())
    if len(bars) <= warmup:
        slowest = max(names, key=lambda name: warmups[name])
        raise DataError(
            f"{len(bars)} bars are too few: these features need at least {warmup + 1}",
            why=f"'{slowest}' has no value for the first {warmup} bars",
            fix=f"fetch a longer history, or leave out '{slowest}' and those as slow ('qtrade features' lists them)",
        )
    # A price level is not among the features: it is read only by a model that is asked for it.
    own = names if config.target in FEATURES else names[:-1]
    values = np.stack([_columns(Market.of(bars, column), own) for column in range(len(bars.symbols))], axis=1)
    if own != names:
        level = target_series(bars, config.target).astype(np.float32)
        values = np.concatenate((values, level[..., None]), axis=2)
    values[:warmup] = np.nan
    features = Features(values, names, bars.index, bars.symbols, warmup)
    _check_finite(features)
    note = f"left out {', '.join(dropped)}: {', '.join(silent)} reports no volume" if dropped else ""
    return Built(features, dropped, note)


def _without_volume(config: FeatureConfig, silent: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divide the selected names into those that do without volume and those that need it."""
    dropped = tuple(name for name in config.names if name in FEATURES and FEATURES[name].needs_volume)
    insisted = [name for name in dropped if name in config.include]
    if insisted:
        raise DataError(
            f"feature '{insisted[0]}' needs volume, and {', '.join(silent)} reports none",
            fix=f"take {', '.join(insisted)} out of features.include, or leave out {', '.join(silent)}",
        )
    return tuple(name for name in config.names if name not in dropped), dropped


def _columns(market: Market, names: Sequence[str]) -> Float32Array:
    """(T, F) features of one symbol."""
    values = np.empty((len(market.close), len(names)), dtype=np.float32)
    for column, name in enumerate(names):
        values[:, column] = FEATURES[name].compute(market).to_numpy(dtype=np.float64)
    return values


def _check_finite(features: Features) -> None:
    """Refuse values that a model would choke on, naming the first."""
    bad = ~np.isfinite(features.values)
    bad[: features.warmup] = False
    if not bad.any():
        return
    row, column, place = (int(axis[0]) for axis in np.nonzero(bad))
    name = features.names[place]
    undefined = [features.names[number] for number in np.unique(np.nonzero(bad)[2])]
    raise DataError(
        f"feature '{name}' of {features.symbols[column]} is {features.values[row, column, place]} "
        f"at {features.index[row]}",
        why=f"it is {FEATURES[name].formula}, undefined on {int(bad[..., place].sum())} bars"
        + (", as where volume is zero for a long time" if FEATURES[name].needs_volume else ""),
        fix=f"choose other dates, or leave out what is undefined there: features.exclude = {undefined}",
    )

"""From bars to the array of features a model reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import field_validator, model_validator

from qtrade.errors import DataError, UsageError, nearest
from qtrade.features.indicators import FEATURE_SETS, FEATURES
from qtrade.features.market import Market
from qtrade.features.own import own_features
from qtrade.features.targets import Target, check_target, log_returns, make_target, target_column
from qtrade.progress import Progress, Silent
from qtrade.settings import Settings
from qtrade.types import Bars, Features, Float64Array
from qtrade.user_code import UserFile

NO_SET = "none"
"""Name of the empty set, to start from when a file's features are all that is wanted."""


class FeatureConfig(Settings):
    """Which features a model reads, and what it is asked for."""

    mode: Literal["MS", "M", "S"] = "MS"
    """What a network reads and predicts: every feature and the target (MS), every feature and all of them (M; the
    target is what is traded), or the target's own past and the target (S)."""
    target: str = "log_return"
    """What is learned: log_return; scaled_return, the same in units of recent volatility; log_close, a price level; or
    a file of your own, as my/target.py. What is scored and traded is log returns whatever the target."""
    set: str = "default"
    """The named list to start from: minimal, default, all or none."""
    include: tuple[str, ...] = ()
    """Features to add to it."""
    exclude: tuple[str, ...] = ()
    """Features to leave out of it."""
    cross: tuple[str, ...] = ()
    """Symbols of the run whose return at a bar every symbol reads there, too."""
    module: str | None = None
    """A file of your own whose features are added, as my/features.py."""

    @field_validator("target")
    @classmethod
    def _known_target(cls, name: str) -> str:
        return check_target(name)

    @field_validator("set")
    @classmethod
    def _known_set(cls, name: str) -> str:
        known = (*FEATURE_SETS, NO_SET)
        if name not in known:
            raise UsageError(f"unknown feature set '{name}'", fix=nearest(name, known))
        return name

    @field_validator("module")
    @classmethod
    def _module_is_python(cls, path: str | None) -> str | None:
        if path is not None and not path.endswith(".py"):
            raise UsageError(f"'{path}' is not a file of features", fix="give the path of one, as in my/features.py")
        return path

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
        if len(set(self.cross)) < len(self.cross):
            raise UsageError("a symbol is named twice in features.cross")
        if self.mode == "S" and (self.cross or self.module):
            raise UsageError(
                "mode S reads the target's own past and nothing else",
                why="features.cross or features.module asks for more",
                fix="set features.mode to MS",
            )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The selected features of `FEATURES`: the set, then what was added to it."""
        if self.mode == "S":
            return ()
        wanted = dict.fromkeys((*FEATURE_SETS.get(self.set, ()), *self.include))
        return tuple(name for name in wanted if name not in self.exclude and name != self.target)

    @property
    def files(self) -> dict[str, Path]:
        """The user's files that decide features and target, by the setting that names them."""
        found = {} if self.module is None else {"features.module": Path(self.module)}
        return found | ({"features.target": Path(self.target)} if self.target.endswith(".py") else {})


@dataclass(frozen=True, eq=False)
class Built:
    """Features and target, and which features of the chosen set these bars cannot give.

    Attributes
    ----------
    features
        What a model reads: the set and what was added to it, the returns of other symbols, the features of the user's
        file, and last the target's own past.
    target
        What it learns.
    files
        SHA-256 of every file of the user's that was run, by the setting that names it.
    dropped
        Names of the features left out because a symbol reports no volume.
    note
        One sentence for the user about `dropped`; empty if nothing was dropped.
    """

    features: Features
    target: Target
    files: Mapping[str, str]
    dropped: tuple[str, ...]
    note: str


def build(bars: Bars, config: FeatureConfig, progress: Progress | None = None) -> Built:
    """Compute target and selected features of every symbol; the bars are left as they are.

    Parameters
    ----------
    progress
        Told of every symbol that is done.

    Raises
    ------
    UsageError
        If a file of the user's fails or gives no features, or a symbol of `features.cross` is not among the bars.
    DataError
        If there are too few bars for the warm-up, if a feature asked for by name needs volume and a symbol reports
        none, or if a value after the warm-up is not finite.
    """
    silent = [name for name, total in zip(bars.symbols, bars.volume.sum(), strict=True) if total == 0]
    names, dropped = _without_volume(config, silent) if silent else (config.names, ())
    check_cross(bars, config.cross)
    _check_length(bars, {name: FEATURES[name].warmup for name in names})
    files = {setting: UserFile.read(path) for setting, path in config.files.items()}
    target = make_target(bars, config.target, files.get("features.target"))
    crossed = cross_returns(bars, config.cross)
    own, own_warmup = own_features(bars, files["features.module"]) if config.module else ({}, 0)
    past = target_column(config.target)
    _check_names(own, (*names, *crossed, past), files)
    warmups = {past: target.warmup} | dict.fromkeys(crossed, 1) | dict.fromkeys(own, own_warmup)
    warmup = _check_length(bars, {name: FEATURES[name].warmup for name in names} | warmups)

    columns = {**crossed, **own, past: target.past}
    values = np.empty((len(bars), len(bars.symbols), len(names) + len(columns)), dtype=np.float32)
    progress = progress or Silent()
    progress.start("features", len(bars.symbols))
    for symbol, called in enumerate(bars.symbols):
        market = Market.of(bars, symbol)
        for place, name in enumerate(names):
            values[:, symbol, place] = FEATURES[name].compute(market).to_numpy(dtype=np.float64)
        progress.advance(1, called)
    with np.errstate(over="ignore"):  # rows of the warm-up may hold anything
        for place, column in enumerate(columns.values(), start=len(names)):
            values[:, :, place] = column
    values[:warmup] = np.nan
    features = Features(values, (*names, *columns), bars.index, bars.symbols, warmup)
    _check_finite(features)
    note = f"left out {', '.join(dropped)}: {', '.join(silent)} reports no volume" if dropped else ""
    return Built(features, target, {setting: file.sha256 for setting, file in files.items()}, dropped, note)


def cross_returns(bars: Bars, symbols: Iterable[str]) -> dict[str, Float64Array]:
    """Return the (T, S) log returns of some symbols, each the same for every symbol that reads them, by column name."""
    width = len(bars.symbols)
    return {f"return_of_{symbol}": np.repeat(log_returns(bars.select([symbol])), width, axis=1) for symbol in symbols}


def check_cross(bars: Bars, symbols: Iterable[str]) -> None:
    """Raise `UsageError` if a symbol of `features.cross` is not among the bars."""
    for symbol in symbols:
        if symbol not in bars.symbols:
            raise UsageError(
                f"features.cross names '{symbol}', which is not among the symbols of the run",
                why=nearest(symbol, bars.symbols),
                fix="add it to the symbols, or take it out of features.cross",
            )


def _check_length(bars: Bars, warmups: Mapping[str, int]) -> int:
    """Return the longest of some warm-ups, by the name of what needs it, or refuse bars that are all part of it."""
    warmup = max(warmups.values(), default=0)
    if len(bars) <= warmup:
        slowest = max(warmups, key=lambda name: warmups[name])
        raise DataError(
            f"{len(bars)} bars are too few: these features need at least {warmup + 1}",
            why=f"'{slowest}' has no value for the first {warmup} bars",
            fix=f"fetch a longer history, or leave out '{slowest}' and those as slow ('qtrade features' lists them)",
        )
    return warmup


def _check_names(own: Iterable[str], others: Sequence[str], files: Mapping[str, UserFile]) -> None:
    """Refuse a feature of the user's that goes by another one's name."""
    for name in own:
        if name in FEATURES or name in others:
            raise UsageError(
                f"feature '{name}' of {files['features.module'].path} has the name of another one",
                fix="give it a name of its own",
            )


def _without_volume(config: FeatureConfig, silent: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divide the selected names into those that do without volume and those that need it."""
    dropped = tuple(name for name in config.names if FEATURES[name].needs_volume)
    insisted = [name for name in dropped if name in config.include]
    if insisted:
        raise DataError(
            f"feature '{insisted[0]}' needs volume, and {', '.join(silent)} reports none",
            fix=f"take {', '.join(insisted)} out of features.include, or leave out {', '.join(silent)}",
        )
    return tuple(name for name in config.names if name not in dropped), dropped


def _check_finite(features: Features) -> None:
    """Refuse values that a model would choke on, naming the first."""
    bad = ~np.isfinite(features.values)
    bad[: features.warmup] = False
    if not bad.any():
        return
    row, column, place = (int(axis[0]) for axis in np.nonzero(bad))
    name = features.names[place]
    undefined = [features.names[number] for number in np.unique(np.nonzero(bad)[2])]
    what = (
        f"feature '{name}' of {features.symbols[column]} is {features.values[row, column, place]} "
        f"at {features.index[row]}"
    )
    if name not in FEATURES:
        raise DataError(what, why="prices jump beyond what numbers can hold", fix="choose other dates")
    raise DataError(
        what,
        why=f"it is {FEATURES[name].formula}, undefined on {int(bad[..., place].sum())} bars"
        + (", as where volume is zero for a long time" if FEATURES[name].needs_volume else ""),
        fix=f"choose other dates, or leave out what is undefined there: features.exclude = {undefined}",
    )

"""The contract of a strategy file, and everything between that file and a frame of weights that can be trusted.

A strategy file holds one public frozen dataclass: its fields are the parameters, its `weights` method decides.
`strategies/forecast_sign.py` is the example to copy.
"""

from __future__ import annotations

import ast
import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd

from qtrade.errors import IntegrityError, UsageError, nearest
from qtrade.forecasts import Forecasts
from qtrade.types import BAR_FIELDS, Bars, Float64Array
from qtrade.user_code import UserFile, check_table

ParamValue = bool | int | float | str

# Weights are sums and quotients of floats; what differs by less than this is the same.
_TOLERANCE = 1e-9
_COPY = "start from a copy of strategies/forecast_sign.py"


class Strategy(Protocol):
    """Turns forecasts into the share of equity to hold in each symbol."""

    def weights(self, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
        """Decide at the close of every bar, from what is known then.

        Returns
        -------
        pandas.DataFrame
            (T, S) on the index and symbols of `bars`; finite, in [-1, 1], negative for a short position, and at most
            1 in absolute sum over the symbols of a bar: there is no leverage.
        """


@dataclass(frozen=True)
class Parameter:
    """A field of a strategy: its name, its type as a user would write it, and its default."""

    name: str
    kind: str
    default: ParamValue


@dataclass(frozen=True)
class StrategyInfo:
    """A line of the list of strategies. `problem` says why a file cannot be used; empty if it can."""

    name: str
    path: Path
    summary: str
    parameters: tuple[Parameter, ...]
    problem: str


@dataclass(frozen=True)
class LoadedStrategy:
    """A strategy ready to decide, with every parameter's value and its file."""

    name: str
    params: Mapping[str, ParamValue]
    instance: Strategy
    file: UserFile

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self.file.path

    @property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return self.file.sha256

    def afresh(self) -> LoadedStrategy:
        """Run the file again as it was when it was loaded, for a strategy that remembers nothing of this one."""
        return _instantiate(_load_class(self.file), self.name, self.params, self.file)


def strategy_folders() -> tuple[Path, ...]:
    """Return where names are looked up: `strategies` in the current folder, then what comes with qtrade."""
    package = Path(__file__).parent
    installed = package / "shipped_strategies"
    return Path("strategies"), installed if installed.is_dir() else package.parent / "strategies"


def list_strategies(folders: Sequence[Path]) -> list[StrategyInfo]:
    """Describe every strategy in `folders`. A broken file is listed with its problem; the first of a name wins."""
    listed = []
    for name, path in sorted(_files(folders).items()):
        summary, problem = "", ""
        parameters: tuple[Parameter, ...] = ()
        try:
            file = UserFile.read(path)
            parameters = _parameters(_load_class(file), file)
            summary = (ast.get_docstring(ast.parse(file.source)) or "").partition("\n")[0]
        except UsageError as error:
            problem = str(error)
        listed.append(StrategyInfo(name, path, summary, parameters, problem))
    return listed


def load_strategy(name_or_path: str, params: Mapping[str, ParamValue], folders: Sequence[Path]) -> LoadedStrategy:
    """Load a strategy by name from `folders`, or from a path, which is what holds a slash or ends in ``.py``.

    Parameters
    ----------
    name_or_path
        ``forecast_sign`` or ``my/file.py``.
    params
        Values by name: text, as typed after ``--set``, or typed, as read from TOML.
    folders
        Where names are looked up, first match first; see `strategy_folders`.

    Raises
    ------
    UsageError
        If there is no such file, the file is not a strategy, or a parameter is unknown or of the wrong type.
    """
    path = Path(name_or_path)
    if path.name == name_or_path and path.suffix != ".py":
        known = _files(folders)
        if name_or_path not in known:
            raise UsageError(
                f"there is no strategy '{name_or_path}'",
                why=nearest(name_or_path, known),
                fix="qtrade strategies lists them; a file of your own is given by its path, as in my/file.py",
            )
        path = known[name_or_path]
    file = UserFile.read(path)
    kind = _load_class(file)
    fields = {parameter.name: parameter for parameter in _parameters(kind, file)}
    for name in params:
        if name not in fields:
            why = nearest(name, fields) if fields else "it has none"
            raise UsageError(f"strategy '{path.stem}' has no parameter '{name}'", why=why)
    hints = typing.get_type_hints(kind)
    values = {
        name: _convert(params[name], hints[name], f"strategy '{path.stem}', parameter '{name}'")
        if name in params
        else parameter.default
        for name, parameter in fields.items()
    }
    return _instantiate(kind, path.stem, values, file)


def decide(strategy: LoadedStrategy, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
    """Ask a strategy for its weights, and check them.

    Returns
    -------
    pandas.DataFrame
        (T, S) float64 on the index and symbols of `bars`.

    Raises
    ------
    UsageError
        If the strategy fails, or its weights have the wrong shape, are not finite or exceed their limits.
    """
    # Its own copies: a strategy that writes into its arguments must not change what it is judged by.
    given = bars.rows(0, len(bars)), forecasts.where(np.ones(len(forecasts), dtype=np.bool_))
    with strategy.file.blamed(f"strategy '{strategy.name}' failed while deciding"):
        weights = strategy.instance.weights(*given)

    fix = f"correct 'weights' in {strategy.path}"
    weights = check_table(weights, bars, f"the weights of strategy '{strategy.name}'", fix=fix)
    try:
        values = weights.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the weights of strategy '{strategy.name}' are not numbers", why=str(error), fix=fix
        ) from error
    for bad, what in (
        (~np.isfinite(values), "is not a number: write 0 for no position"),
        (np.abs(values) > 1 + _TOLERANCE, "lies outside [-1, 1]"),
        (np.abs(values).sum(axis=1, keepdims=True) > 1 + _TOLERANCE, "makes the bar's absolute sum exceed 1"),
    ):
        if bad.any():
            row, column = (int(axis[0]) for axis in np.nonzero(bad))
            raise UsageError(
                f"strategy '{strategy.name}': the weight {values[row, column]:g} of {bars.symbols[column]} "
                f"at {bars.index[row]} {what}",
                why=f"{int(bad.any(axis=1).sum())} of {len(bars)} bars are like this",
                fix=fix,
            )
    return pd.DataFrame(values, index=bars.index, columns=bars.close.columns)


def audit(strategy: LoadedStrategy, bars: Bars, forecasts: Forecasts, *, seed: int, cuts: int = 5) -> None:
    """Check that a strategy sees no future: it must decide the same with the future removed, and with it made up.

    Cuts are drawn from the bars that have a forecast, as most strategies stand idle elsewhere. Every decision is made
    by a new instance from a new run of the file, and those that may not know the future come before those that see
    it, the shortest past first, so that there is nothing yet to remember. `strategy` itself is not asked.

    Two kinds of leak stay unseen: one that moves no weight at or before these cuts, and knowledge from outside the
    arguments. The file runs with all the rights of the user, so nothing here hides prices that it reads from a file
    or the network, or that an earlier decision of this process left there or in another module.

    Raises
    ------
    IntegrityError
        If such a weight moves, or if two identical calls differ.
    UsageError
        As `decide`.
    """
    candidates = np.nonzero(bars.index.isin(forecasts.origin))[0]
    candidates = candidates[candidates < len(bars) - 1] if len(candidates) else np.arange(len(bars) - 1)
    generator = np.random.default_rng(seed)
    drawn = sorted(map(int, generator.permutation(candidates)[:cuts]))
    blind = []
    for what in ("removed", "changed"):
        for cut in drawn:
            when = f"the future of {bars.index[cut]} is {what}"
            market = (
                _without_future(bars, forecasts, cut)
                if what == "removed"
                else _with_made_up_future(bars, forecasts, cut, generator)
            )
            try:
                blind.append((cut, when, decide(strategy.afresh(), *market)))
            except UsageError as error:
                decide(strategy.afresh(), bars, forecasts)  # fails here too unless it needs the future
                raise UsageError(f"{error.what}, when {when}", why=error.why, fix=error.fix) from error
    weights, again = (decide(strategy.afresh(), bars, forecasts) for _ in range(2))
    _same(strategy, weights, again, "it is asked twice", "it is not deterministic")
    for cut, when, partial in blind:
        _same(strategy, weights[: cut + 1], partial[: cut + 1], when, "it looks ahead")


def _same(strategy: LoadedStrategy, before: pd.DataFrame, after: pd.DataFrame, when: str, why: str) -> None:
    old, new = before.to_numpy(dtype=np.float64), after.to_numpy(dtype=np.float64)
    moved = np.abs(old - new) > _TOLERANCE
    if moved.any():
        row, column = (int(axis[0]) for axis in np.nonzero(moved))
        symbol = list(map(str, before.columns))[column]
        raise IntegrityError(
            f"strategy '{strategy.name}': the weight of {symbol} at {before.index[row]} moves "
            f"from {old[row, column]:g} to {new[row, column]:g} when {when}",
            why=f"{why}, so a backtest of it means nothing",
            fix=f"decide row t of {strategy.path} from rows up to t, and seed anything random",
        )


def _without_future(bars: Bars, forecasts: Forecasts, cut: int) -> tuple[Bars, Forecasts]:
    """Keep what is known at the close of bar `cut`."""
    known = forecasts.where(np.asarray(forecasts.origin <= bars.index[cut]))
    folds = set(known.fold.tolist())
    banks = {key: bank for key, bank in known.residuals.items() if key[0] in folds}
    return bars.rows(0, cut + 1), dataclasses.replace(known, residuals=banks)


def _with_made_up_future(
    bars: Bars, forecasts: Forecasts, cut: int, generator: np.random.Generator
) -> tuple[Bars, Forecasts]:
    """Keep the shape, and replace bars and forecasts after bar `cut` by others that are as valid."""
    later = (np.arange(len(bars)) > cut)[:, None]
    factor = np.where(later, np.exp(generator.normal(0.0, 0.2, (len(bars), len(bars.symbols)))), 1.0)
    path: Float64Array = forecasts.path.copy()
    future = np.asarray(forecasts.origin > bars.index[cut])
    path[future] = generator.normal(0.0, 0.05, path[future].shape)
    made_up = {name: getattr(bars, name) * factor for name in BAR_FIELDS}
    return dataclasses.replace(bars, **made_up), dataclasses.replace(forecasts, path=path)


def _files(folders: Sequence[Path]) -> dict[str, Path]:
    """Strategy files by name; the first folder that has a name wins, and a leading underscore hides a file."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in folder.glob("*.py"):
            if not path.name.startswith("_"):
                found.setdefault(path.stem, path)
    return found


def _load_class(file: UserFile) -> type[Any]:
    """Run a strategy file and return its one public class."""
    module = file.run()
    kinds = [
        value
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__ and name == value.__name__
    ]
    kinds = [kind for kind in kinds if not kind.__name__.startswith("_")]
    if len(kinds) != 1:
        names = ", ".join(kind.__name__ for kind in kinds)
        raise UsageError(
            f"{file.path} must define one class, and defines {names or 'none'}",
            why="the class of a file is its strategy",
            fix="begin the names of other classes with an underscore" if kinds else _COPY,
        )
    kind = kinds[0]
    classes = (node for node in ast.walk(ast.parse(file.source)) if isinstance(node, ast.ClassDef))
    where = f"{file.path}, line {next((node.lineno for node in classes if node.name == kind.__name__), 1)}"
    options = getattr(kind, "__dataclass_params__", None)
    if options is None or not options.frozen:
        raise UsageError(
            f"{where}: '{kind.__name__}' is not a frozen dataclass", fix="put @dataclass(frozen=True) above"
        )
    if not callable(getattr(kind, "weights", None)):
        raise UsageError(f"{where}: '{kind.__name__}' has no method weights(self, bars, forecasts)", fix=_COPY)
    return kind


def _instantiate(kind: type[Any], name: str, values: Mapping[str, ParamValue], file: UserFile) -> LoadedStrategy:
    with file.blamed(f"strategy '{name}' refused its parameters"):
        instance = kind(**values)
    return LoadedStrategy(name, values, instance, file)


def _parameters(kind: type[Any], file: UserFile) -> tuple[Parameter, ...]:
    """Fields of a strategy class, each with a type that can be read from text, and a default of that type."""
    with file.blamed(f"{file.path}: the parameter types cannot be understood"):
        hints = typing.get_type_hints(kind)
    parameters = []
    for field in dataclasses.fields(kind):
        where, annotation = f"{file.path}: parameter '{field.name}'", hints[field.name]
        if typing.get_origin(annotation) is not Literal and annotation not in (bool, int, float, str):
            raise UsageError(f"{where} must be of type bool, int, float, str or Literal, not {field.type}")
        if field.default is dataclasses.MISSING:
            raise UsageError(f"{where} has no default", fix=f"write {field.name}: {field.type} = ...")
        default = _convert(field.default, annotation, where)
        written = annotation.__name__ if isinstance(annotation, type) else str(annotation).removeprefix("typing.")
        parameters.append(Parameter(field.name, written, default))
    return tuple(parameters)


def _convert(value: ParamValue, annotation: Any, where: str) -> ParamValue:
    """Read a value, typed or as text, as the type of its parameter."""
    if typing.get_origin(annotation) is Literal:
        options = {str(option): option for option in typing.get_args(annotation)}
        if str(value) in options:
            chosen: ParamValue = options[str(value)]
            return chosen
        raise UsageError(f"{where} cannot be '{value}'", why=nearest(str(value), options))
    if annotation is str and isinstance(value, str):
        return value
    if annotation is bool and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    # A bool is an int to Python, but not to whoever wrote `step = true`.
    if not isinstance(value, bool):
        try:
            if annotation is int and not isinstance(value, float):
                return int(value)
            if annotation is float and math.isfinite(float(value)):
                return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise UsageError(f"{where} must be of type {annotation.__name__}, not '{value}'")

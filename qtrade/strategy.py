"""From the name of a strategy to a frame of weights that can be trusted: finding, loading, varying, asking."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import typing
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtrade.errors import UsageError, nearest
from qtrade.forecasts import Forecasts
from qtrade.strategy_file import Parameter, Strategy, load_class, parameters_of
from qtrade.strategy_spec import (
    ParamValue,
    SpecValue,
    StrategySpec,
    as_spec,
    as_specs,
    convert,
    parse_spec,
    spec_text,
)
from qtrade.types import BAR_FIELDS, Bars, Float64Array
from qtrade.user_code import UserFile, check_table

# Weights are sums and quotients of floats; what differs by less than this is the same.
SAME_WEIGHT = 1e-9
DECIMALS = 8
"""Decimals of a decided weight: the rest is a millionth of a percent of the account."""


Argument: TypeAlias = "ParamValue | LoadedStrategy | tuple[LoadedStrategy, ...]"


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
    """A strategy ready to decide.

    Attributes
    ----------
    name
        Its name, which is that of its file.
    asked
        The name or the path by which it was found.
    file
        Its file, as it was when it was loaded.
    arguments
        The value of every parameter; strategies among them are loaded, too.
    instance
        What its class made of them.
    """

    name: str
    asked: str
    file: UserFile
    arguments: Mapping[str, Argument]
    instance: Strategy

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self.file.path

    @property
    def params(self) -> dict[str, ParamValue]:
        """Every parameter's value; for strategies their `spec`, so that name and parameters tell strategies apart."""
        said = self._spec.params.items()
        return {name: spec_text(value) if isinstance(value, StrategySpec | tuple) else value for name, value in said}

    @property
    def spec(self) -> str:
        """Text that `load_strategy` makes the same of: every parameter is in it, in alphabetical order."""
        return str(self._spec)

    @property
    def _spec(self) -> StrategySpec:
        return StrategySpec(self.asked, {name: _asked(value) for name, value in self.arguments.items()})

    @property
    def title(self) -> str:
        """Text as `spec`, with the names of files in place of paths: however it was asked for, it is one strategy."""
        return str(self._title)

    @property
    def _title(self) -> StrategySpec:
        return StrategySpec(self.name, {name: _titled(value) for name, value in self.arguments.items()})

    @property
    def nested(self) -> tuple[LoadedStrategy, ...]:
        """The strategies among its parameters."""
        return tuple(part for value in self.arguments.values() for part in _parts(value))

    @property
    def sha256(self) -> str:
        """SHA-256 of the file and of those it imports; with strategies among the parameters, of their hashes, too."""
        own = self.file.with_imports()
        if not self.nested:
            return own
        return hashlib.sha256("".join([own, *(part.sha256 for part in self.nested)]).encode()).hexdigest()

    def afresh(self) -> LoadedStrategy:
        """Run the files again as they were when they were loaded, for a strategy that remembers nothing of this one."""
        again = {name: _afresh(value) for name, value in self.arguments.items()}
        return _instantiate(load_class(self.file), self.asked, self.file, again)

    def varied(self, changes: Mapping[str, ParamValue]) -> LoadedStrategy:
        """Change some parameters, without running the files again: thousands of variants take no time.

        Raises
        ------
        UsageError
            If there is no such parameter, it is a strategy itself, or the value is of the wrong type.
        """
        arguments = dict(self.arguments)
        hints = typing.get_type_hints(type(self.instance))
        inner: dict[str, dict[str, ParamValue]] = {}
        for name, value in changes.items():
            head, dot, rest = name.partition(".")
            where = f"strategy '{self.name}', parameter '{head}'"
            if head not in arguments:
                raise _unknown_parameter(self.name, head, arguments)
            held = arguments[head]
            if dot and not isinstance(held, LoadedStrategy | tuple):
                raise UsageError(f"{where} is no strategy, so there is no '{name}'")
            if not dot and isinstance(held, LoadedStrategy | tuple):
                raise UsageError(f"{where} is a strategy: vary its parameters, as in {head}.NAME")
            if dot:
                inner.setdefault(head, {})[rest] = value
            else:
                # Values of a sweep are read before it is known that this one is a text.
                arguments[head] = convert(str(value) if hints[head] is str else value, hints[head], where)
        for head, rest_changes in inner.items():
            held = arguments[head]
            if isinstance(held, LoadedStrategy):
                arguments[head] = held.varied(rest_changes)
            elif isinstance(held, tuple):
                shares = _shares(rest_changes, len(held), f"strategy '{self.name}', parameter '{head}'")
                arguments[head] = tuple(one.varied(share) for one, share in zip(held, shares, strict=True))
        return _instantiate(type(self.instance), self.asked, self.file, arguments)

    def weights(self, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
        """Ask the strategy, and check that a finite (T, S) frame of `bars` is what it gives; see `decide` for limits.

        A strategy among another one's parameters is asked like this, so that each is blamed for its own mistakes.

        Raises
        ------
        UsageError
            If it fails, or gives something else.
        """
        with self.file.blamed(f"strategy '{self.name}' failed while deciding"):
            given = self.instance.weights(bars, forecasts)
        what, fix = f"the weights of strategy '{self.name}'", f"correct 'weights' in {self.path}"
        table = check_table(given, bars, what, fix=fix)
        try:
            values = table.to_numpy(dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{what} are not numbers", why=str(error), fix=fix) from error
        _refuse(self, ~np.isfinite(values), values, bars, "is not a number: write 0 for no position", fix)
        return pd.DataFrame(values, index=bars.index, columns=bars.close.columns)


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
            parameters = parameters_of(load_class(file), file)
            summary = (ast.get_docstring(ast.parse(file.source)) or "").partition("\n")[0]
        except UsageError as error:
            problem = str(error)
        listed.append(StrategyInfo(name, path, summary, parameters, problem))
    return listed


def strategy_parameters(name_or_path: str, folders: Sequence[Path]) -> tuple[Parameter, ...]:
    """Describe the parameters of one strategy, in the order of its fields.

    Raises
    ------
    UsageError
        If there is no such file, or it is not a strategy.
    """
    file = UserFile.read(_find(name_or_path, folders))
    return parameters_of(load_class(file), file)


def load_strategy(spec: str, params: Mapping[str, ParamValue], folders: Sequence[Path]) -> LoadedStrategy:
    """Load a strategy, and those among its parameters.

    Parameters
    ----------
    spec
        A name to be looked up, or a path, which is what holds a slash or ends in ``.py``; parameters may follow in
        brackets: ``forecast_sign``, ``my/file.py``, ``vol_target(base=path_momentum(step=12), target=0.1)``.
    params
        Values by name that go before those in `spec`: text, as typed after ``--set``, or typed, as read from TOML.
        ``base.step`` is the parameter `step` of the strategy that is the parameter `base`, and ``of.0.step`` that of
        the first of several.
    folders
        Where names are looked up, first match first; see `strategy_folders`.

    Raises
    ------
    UsageError
        If there is no such file, a file is not a strategy, a parameter is unknown or of the wrong type, or a strategy
        contains itself.
    """
    return _load(parse_spec(spec), params, folders, ())


def decide(strategy: LoadedStrategy, bars: Bars, forecasts: Forecasts, *, leverage: float = 1.0) -> pd.DataFrame:
    """Ask a strategy for its weights, and check them.

    Parameters
    ----------
    leverage
        Largest absolute sum of the weights of a bar.

    Returns
    -------
    pandas.DataFrame
        (T, S) float64 on the index and symbols of `bars`, rounded to `DECIMALS`.

    Raises
    ------
    UsageError
        If the strategy fails, or its weights have the wrong shape, are not finite or exceed their limits.
    """
    weights = strategy.weights(_lent_bars(bars), _lent_forecasts(forecasts))
    values = weights.to_numpy()
    size, limit = np.abs(values), leverage + SAME_WEIGHT
    fix = f"correct 'weights' in {strategy.path}, or allow more in backtest.leverage, as with --account leverage=2"
    outside = f"lies outside [-{leverage:g}, {leverage:g}]"
    _refuse(strategy, size > limit, values, bars, outside, fix)
    total = size.sum(axis=1, keepdims=True) > limit
    _refuse(strategy, total & (size > 0), values, bars, f"makes the bar's absolute sum exceed {leverage:g}", fix)
    # On a grid far coarser than rounding errors, so that whatever is traded is there on purpose, and can be audited.
    return pd.DataFrame(np.round(values, DECIMALS) + 0.0, index=weights.index, columns=weights.columns)


def _refuse(
    strategy: LoadedStrategy, bad: NDArray[np.bool_], values: Float64Array, bars: Bars, what: str, fix: str
) -> None:
    """Raise `UsageError` for the first of the weights that are `bad`."""
    if bad.any():
        row, column = (int(axis[0]) for axis in np.nonzero(bad))
        raise UsageError(
            f"strategy '{strategy.name}': the weight {values[row, column]:g} of {bars.symbols[column]} "
            f"at {bars.index[row]} {what}",
            why=f"{int(bad.any(axis=1).sum())} of {len(bars)} bars are like this",
            fix=fix,
        )


# A strategy that writes into its arguments must not change what it is judged by: it is lent bars in frames of its own,
# and forecasts that cannot be written into. The same forecasts are lent as the same object, which remembers what has
# been worked out from them when a strategy is asked many times.
_LENT: WeakKeyDictionary[Forecasts, Forecasts] = WeakKeyDictionary()


def _lent_bars(bars: Bars) -> Bars:
    lent = copy(bars)
    for name in BAR_FIELDS:
        # Not by `replace`: checking these bars once more takes longer than most strategies do.
        object.__setattr__(lent, name, getattr(bars, name).copy(deep=False))
    return lent


def _lent_forecasts(forecasts: Forecasts) -> Forecasts:
    if forecasts not in _LENT:
        lent = forecasts.where(np.ones(len(forecasts), dtype=np.bool_))
        banks = {key: bank.copy() for key, bank in forecasts.residuals.items()}
        origins = MappingProxyType(dict(forecasts.validated))
        lent = dataclasses.replace(lent, residuals=MappingProxyType(banks), validated=origins)
        for array in (lent.path, lent.symbol, lent.fold, lent.seed, *lent.residuals.values()):
            array.setflags(write=False)
        _LENT[forecasts] = lent
    return _LENT[forecasts]


def _files(folders: Sequence[Path]) -> dict[str, Path]:
    """Strategy files by name; the first folder that has a name wins, and a leading underscore hides a file."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in folder.glob("*.py"):
            if not path.name.startswith("_"):
                found.setdefault(path.stem, path)
    return found


def _find(name_or_path: str, folders: Sequence[Path]) -> Path:
    """Return the file of a strategy, which need not exist if it is given by its path."""
    path = Path(name_or_path)
    if path.name != name_or_path or path.suffix == ".py":
        return path
    known = _files(folders)
    if name_or_path not in known:
        raise UsageError(
            f"there is no strategy '{name_or_path}'",
            fix=_then(
                nearest(name_or_path, known),
                "`qtrade strategies` lists them; a file of your own is given by its path, as in my/file.py",
            ),
        )
    return known[name_or_path]


def _load(
    spec: StrategySpec, params: Mapping[str, ParamValue], folders: Sequence[Path], above: tuple[object, ...]
) -> LoadedStrategy:
    """Load a strategy; `above` holds what those around it were asked for with."""
    path = _find(spec.name, folders)
    # Defaults are finite, and every level takes a name off dotted parameters: what never ends comes back to a request.
    request = (path.resolve(), str(spec), dict(params))
    if request in above:
        raise UsageError(f"strategy '{path.stem}' contains itself", fix=f"name another one in {path}")
    file = UserFile.read(path)
    kind = load_class(file)
    fields = {parameter.name: parameter for parameter in parameters_of(kind, file)}
    given: dict[str, SpecValue] = {**spec.params, **{name: params[name] for name in params if "." not in name}}
    deeper: dict[str, dict[str, ParamValue]] = {}
    for name in params:
        head, dot, rest = name.partition(".")
        if dot:
            deeper.setdefault(head, {})[rest] = params[name]
    for name in (*given, *deeper):
        if name not in fields:
            raise _unknown_parameter(path.stem, name, fields)
    hints = typing.get_type_hints(kind)
    arguments: dict[str, Argument] = {}
    for name, parameter in fields.items():
        where = f"strategy '{path.stem}', parameter '{name}'"
        value, inner = given.get(name, parameter.default), deeper.get(name, {})
        if hints[name] is Strategy:
            arguments[name] = _load(as_spec(value, where), inner, folders, (*above, request))
        elif hints[name] == tuple[Strategy, ...]:
            specs = as_specs(value, where)
            shares = _shares(inner, len(specs), where)
            arguments[name] = tuple(
                _load(one, share, folders, (*above, request)) for one, share in zip(specs, shares, strict=True)
            )
        elif inner:
            raise UsageError(f"{where} is no strategy, so there is no '{name}.{next(iter(inner))}'")
        else:
            arguments[name] = convert(value, hints[name], where)
    return _instantiate(kind, spec.name, file, arguments)


def _unknown_parameter(strategy: str, name: str, known: Collection[str]) -> UsageError:
    what = f"strategy '{strategy}' has no parameter '{name}'"
    if not known:
        return UsageError(what, why="it has none", fix="leave the parameter out")
    return UsageError(what, fix=_then(nearest(name, known), f"`qtrade strategies {strategy}` explains them"))


def _then(first: str, second: str) -> str:
    """Put two remedies together, the first of which may be a question."""
    return f"{first} {second}" if first.endswith("?") else f"{first}; {second}"


def _shares(inner: Mapping[str, ParamValue], size: int, where: str) -> list[dict[str, ParamValue]]:
    """Divide parameters such as ``0.step`` among the strategies of a list."""
    shares: list[dict[str, ParamValue]] = [{} for _ in range(size)]
    for name, value in inner.items():
        number, _, rest = name.partition(".")
        if not rest or number not in map(str, range(size)):
            raise UsageError(
                f"{where} is a list of {size} strategies, in which there is no '{name}'",
                fix="count them from 0 and name a parameter, as in of.0.step=6",
            )
        shares[int(number)][rest] = value
    return shares


def _instantiate(kind: type[Any], asked: str, file: UserFile, arguments: Mapping[str, Argument]) -> LoadedStrategy:
    name = file.path.stem
    with file.blamed(f"strategy '{name}' refused its parameters"):
        instance = kind(**arguments)
    return LoadedStrategy(name, asked, file, arguments, instance)


def _parts(value: Argument) -> tuple[LoadedStrategy, ...]:
    if isinstance(value, tuple):
        return value
    return (value,) if isinstance(value, LoadedStrategy) else ()


def _asked(value: Argument) -> SpecValue:
    """Return a parameter's value as it stands in a spec."""
    if isinstance(value, tuple):
        return tuple(part._spec for part in value)
    return value._spec if isinstance(value, LoadedStrategy) else value


def _titled(value: Argument) -> SpecValue:
    if isinstance(value, tuple):
        return tuple(part._title for part in value)
    return value._title if isinstance(value, LoadedStrategy) else value


def _afresh(value: Argument) -> Argument:
    if isinstance(value, tuple):
        return tuple(part.afresh() for part in value)
    return value.afresh() if isinstance(value, LoadedStrategy) else value

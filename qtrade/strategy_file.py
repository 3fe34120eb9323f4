"""The contract of a strategy file: one public frozen dataclass, whose fields are parameters and whose method decides.

`strategies/forecast_sign.py` is the example to copy, and `docs/strategies.md` the guide.
"""

from __future__ import annotations

import ast
import dataclasses
import typing
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from qtrade.errors import UsageError
from qtrade.forecasts import Forecasts
from qtrade.strategy_spec import ParamValue, convert, field_docs, parse_spec, spec_text
from qtrade.types import Bars
from qtrade.user_code import UserFile

_COPY = "start from a copy of strategies/forecast_sign.py"


class Strategy(Protocol):
    """Turns forecasts into the share of equity to hold in each symbol."""

    def weights(self, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
        """Decide at the close of every bar, from what is known then.

        Returns
        -------
        pandas.DataFrame
            (T, S) on the index and symbols of `bars`; finite, negative for a short position, and at most 1 in absolute
            sum over the symbols of a bar, or at most what ``backtest.leverage`` allows.
        """


@dataclass(frozen=True)
class Parameter:
    """A field of a strategy: its name, its type as a user would write it, its default as text or number, and its use.

    `doc` is the text that stands below the field in its class, on one line; empty without one.
    """

    name: str
    kind: str
    default: ParamValue
    doc: str = ""


def nested(spec: str) -> Strategy:
    """Name the default of a parameter that is a strategy: ``base: Strategy = nested("forecast_sign")``.

    It stands for that strategy until `load_strategy` puts the strategy itself in its place.
    """
    return _Unloaded(spec)


@dataclass(frozen=True)
class _Unloaded:
    """A strategy by its name."""

    spec: str

    def weights(self, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
        """Refuse: nothing has looked for the file yet."""
        raise UsageError(f"the strategy '{self.spec}' is not loaded", fix="make the outer one with load_strategy")


def load_class(file: UserFile) -> type[Any]:
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


def parameters_of(kind: type[Any], file: UserFile) -> tuple[Parameter, ...]:
    """Fields of a strategy class, each with a type that can be read from text, and a default of that type."""
    with file.blamed(f"{file.path}: the parameter types cannot be understood"):
        hints = typing.get_type_hints(kind)
    docs = field_docs(file.source, [base.__name__ for base in kind.__mro__])
    parameters = []
    for field in dataclasses.fields(kind):
        where, annotation = f"{file.path}: parameter '{field.name}'", hints[field.name]
        of_text = typing.get_origin(annotation) is typing.Literal or annotation in (bool, int, float, str)
        if not of_text and annotation is not Strategy and annotation != tuple[Strategy, ...]:
            raise UsageError(
                f"{where} must be of type bool, int, float, str, Literal, Strategy or tuple[Strategy, ...], "
                f"not {field.type}"
            )
        if field.default is dataclasses.MISSING:
            raise UsageError(f"{where} has no default", fix=f"write {field.name}: {field.type} = ...")
        default = convert(field.default, annotation, where) if of_text else _named(field.default, where)
        parameters.append(Parameter(field.name, _written(annotation), default, docs.get(field.name, "")))
    return tuple(parameters)


def _written(annotation: Any) -> str:
    """Return the type of a parameter as a user would write it."""
    if annotation == tuple[Strategy, ...]:
        return "tuple[Strategy, ...]"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).removeprefix("typing.")


def _named(default: Any, where: str) -> str:
    """Return the text that names the strategy, or the strategies, which are the default of a parameter."""
    several = isinstance(default, tuple)
    parts = default if several else (default,)
    if not all(isinstance(part, _Unloaded) for part in parts):
        raise UsageError(f"{where}: the default is no strategy", fix='write it as nested("forecast_sign")')
    specs = tuple(parse_spec(part.spec) for part in parts)
    return spec_text(specs if several else specs[0])

"""Strategies asked for in a line of text, and the values of their parameters, read from text.

``vol_target(base=path_momentum(step=12), target=0.1)`` is read as Python reads a call, and never run as one.
"""

from __future__ import annotations

import ast
import keyword
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

from qtrade.errors import UsageError, nearest

ParamValue: TypeAlias = bool | int | float | str
SpecValue: TypeAlias = Union[ParamValue, "StrategySpec", "tuple[StrategySpec, ...]"]

_EXAMPLES = "write it as forecast_sign(step=6), 'my/file.py'(step=6) or vol_target(base=path_momentum(step=6))"
# A quoted text, or a run of characters that mean nothing in a spec.
_WORD = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^\s()\[\],='"]+""")


@dataclass(frozen=True)
class StrategySpec:
    """A strategy as it is asked for: its name or path, and what is said of its parameters."""

    name: str
    params: Mapping[str, SpecValue] = field(default_factory=dict)

    def __str__(self) -> str:
        """Text that `parse_spec` reads as this; parameters are in alphabetical order."""
        bare = self.name.isidentifier() and not keyword.iskeyword(self.name)
        name = self.name if bare else repr(self.name)
        given = ", ".join(f"{key}={spec_text(value)}" for key, value in sorted(self.params.items()))
        return name if bare and not given else f"{name}({given})"  # without brackets, what is quoted is a text


def parse_spec(text: str) -> StrategySpec:
    """Read the text by which a strategy is asked for.

    Parameters
    ----------
    text
        A name or a path, as it stands; or, followed by brackets, with ``name=value`` in them. A value is a number,
        ``True``, ``False``, a text, a strategy, or a list of strategies in square brackets. Quotation marks are needed
        around what holds spaces, brackets, commas or equals signs.

    Raises
    ------
    UsageError
        If it cannot be read.
    """
    text = text.strip()
    if "\0" in text:
        raise UsageError("a strategy's name has a null character in it", fix=_EXAMPLES)
    plain = "(" not in text and not text.startswith(("'", '"'))
    if plain or text.endswith(".py"):
        return StrategySpec(text)
    try:
        return _strategy(_parse(text), text)
    except RecursionError as error:
        raise UsageError("the strategy is nested too deeply to be read", fix=_EXAMPLES) from error


def parse_specs(text: str) -> tuple[StrategySpec, ...]:
    """Read a list of strategies, ``[forecast_sign, path_momentum(step=6)]``, or a single one.

    Raises
    ------
    UsageError
        If it cannot be read.
    """
    if not text.strip().startswith(("[", "(")):
        return (parse_spec(text),)
    node = _parse(text.strip())
    return _strategies(node, text) if isinstance(node, ast.List | ast.Tuple) else (_strategy(node, text),)


def spec_text(value: SpecValue) -> str:
    """Write a parameter's value as it stands in a spec."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value) if isinstance(value, StrategySpec) else repr(value)


def as_spec(value: SpecValue, where: str) -> StrategySpec:
    """Read a value as one strategy; `where` names its parameter in the `UsageError` that is raised if it is none."""
    if isinstance(value, str):
        return parse_spec(value)
    if isinstance(value, StrategySpec):
        return value
    raise UsageError(f"{where} must be one strategy, not '{spec_text(value)}'", fix=_EXAMPLES)


def as_specs(value: SpecValue, where: str) -> tuple[StrategySpec, ...]:
    """Read a value as strategies, as `as_spec` does one."""
    if isinstance(value, str):
        return parse_specs(value)
    return value if isinstance(value, tuple) else (as_spec(value, where),)


def convert(value: SpecValue, annotation: Any, where: str) -> ParamValue:
    """Read a value, typed or as text, as the type of its parameter.

    Parameters
    ----------
    annotation
        bool, int, float, str, or a Literal of them.
    where
        Names the parameter in messages.

    Raises
    ------
    UsageError
        If it is not of that type.
    """
    if isinstance(value, StrategySpec) and not value.params:
        value = value.name  # a text without quotation marks looks like a strategy
    if get_origin(annotation) is Literal:
        options = {str(option): option for option in get_args(annotation)}
        if str(value) in options:
            chosen: ParamValue = options[str(value)]
            return chosen
        raise UsageError(f"{where} cannot be '{value}'", fix=nearest(str(value), options))
    if annotation is str and isinstance(value, str):
        return value
    if annotation is bool and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    # A bool is an int to Python, but not to whoever wrote `step = true`.
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            if annotation is int and not isinstance(value, float):
                return int(value)
            if annotation is float and math.isfinite(float(value)):
                return float(value)
        except (ValueError, OverflowError):
            pass
    raise UsageError(f"{where} must be of type {annotation.__name__}, not '{value}'")


def field_docs(source: bytes, classes: Collection[str]) -> dict[str, str]:
    """Read the texts that stand below the fields of some classes of a file, each on one line."""
    docs = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and node.name in classes:
            for above, below in zip(node.body, node.body[1:], strict=False):
                match above, below:
                    case (
                        ast.AnnAssign(target=ast.Name(id=name)),
                        ast.Expr(value=ast.Constant(value=str(text))),
                    ):
                        docs[name] = " ".join(text.split())
    return docs


def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(_WORD.sub(_quoted, text), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:  # the last two are of too deep nesting
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise UsageError(f"the strategy '{text}' cannot be read", why=reason, fix=_EXAMPLES) from error


def _quoted(word: re.Match[str]) -> str:
    """Put quotation marks around what Python would not take for one name or number, such as a path."""
    found = word[0]
    return found if found[0] in "'\"" or found.isidentifier() or _is_number(found) else repr(found)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _strategy(node: ast.expr, text: str) -> StrategySpec:
    called = node.func if isinstance(node, ast.Call) else node
    if isinstance(called, ast.Name):
        name = called.id
    elif isinstance(called, ast.Constant) and isinstance(called.value, str):
        name = called.value
    else:
        raise _unreadable(text, f"'{ast.unparse(called)}' is not the name or the path of a strategy")
    if not isinstance(node, ast.Call):
        return StrategySpec(name)
    if node.args:
        raise _unreadable(text, f"'{ast.unparse(node.args[0])}' stands in {name}(...) without the name of a parameter")
    params: dict[str, SpecValue] = {}
    for given in node.keywords:
        if given.arg is None or given.arg in params:
            raise _unreadable(text, f"{name}(...) is given '{given.arg or ast.unparse(given)}' twice or unnamed")
        params[given.arg] = _value(given.value, f"{name}(...), parameter '{given.arg}'", text)
    return StrategySpec(name, params)


def _strategies(node: ast.List | ast.Tuple, text: str) -> tuple[StrategySpec, ...]:
    return tuple(_strategy(element, text) for element in node.elts)


def _value(node: ast.expr, where: str, text: str) -> SpecValue:
    if isinstance(node, ast.Call | ast.Name):
        return _strategy(node, text)
    if isinstance(node, ast.List | ast.Tuple):
        return _strategies(node, text)
    try:
        value = ast.literal_eval(node)
    except ValueError:
        value = None
    if isinstance(value, bool | int | float | str):
        return value
    raise _unreadable(text, f"{where}: '{ast.unparse(node)}' is neither a number, True, False, a text nor a strategy")


def _unreadable(text: str, why: str) -> UsageError:
    return UsageError(f"the strategy '{text}' cannot be read", why=why, fix=_EXAMPLES)

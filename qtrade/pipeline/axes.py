"""The parameters of a sweep: which values each takes, and every combination of them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from qtrade.errors import UsageError
from qtrade.strategy_spec import ParamValue

MOST = 100_000
"""Combinations that are tried at most: their returns must fit into memory."""


def _example(name: str = "") -> str:
    name = name or "threshold"
    return f"write {name}=0:0.01:0.001 (from, to, step) or {name}=1,6,12,24"


@dataclass(frozen=True)
class Axis:
    """A parameter, which may be one of a nested strategy (``base.step``), and its values in the order given."""

    name: str
    values: tuple[ParamValue, ...]


def parse_axis(text: str) -> Axis:
    """Read ``name=from:to:step``, both ends included, or ``name=a,b,c``.

    Raises
    ------
    UsageError
        If it is neither, the step leads nowhere, or a value is there twice.
    """
    name, equals, values = text.partition("=")
    name = name.strip()
    if not (name and equals and values.strip()):
        raise UsageError(f"'{text}' does not name a parameter and its values", fix=_example(name))
    first, colon, last = values.partition(":")
    if colon and _is_number(first) and _is_number(last):
        raise UsageError(
            f"'{text}' is a span without a step", fix=f"write {name}={values}:STEP, or {name}=1,6,12,24 for a list"
        )
    found = _span(values, text) if values.count(":") == 2 else tuple(_value(one) for one in values.split(","))
    value, many = Counter(found).most_common(1)[0]
    if many > 1:
        raise UsageError(f"'{text}' has the value {value} more than once", fix="leave one of them out")
    return Axis(name, found)


def combinations(axes: Sequence[Axis]) -> list[dict[str, ParamValue]]:
    """Return every combination, the last axis varying fastest.

    Raises
    ------
    UsageError
        If there are no axes, two of one name, or more than `MOST` combinations.
    """
    if not axes:
        raise UsageError("a sweep needs at least one --param", fix=_example())
    names = [axis.name for axis in axes]
    if len(set(names)) < len(names):
        raise UsageError(
            f"--param {next(n for n in names if names.count(n) > 1)} is given twice", fix="leave out one of the two"
        )
    count = 1
    for axis in axes:
        count *= len(axis.values)
    if count > MOST:
        raise UsageError(
            f"these are {count:,} combinations, more than {MOST:,}",
            why="every one of them is one more chance to be fooled by luck, too",
            fix="take larger steps or fewer parameters",
        )
    return [dict(zip(names, chosen, strict=True)) for chosen in _product(axes)]


def _product(axes: Sequence[Axis]) -> Iterator[tuple[ParamValue, ...]]:
    return itertools.product(*(axis.values for axis in axes))


def _span(values: str, text: str) -> tuple[ParamValue, ...]:
    """Count from the first number to the second in steps, in decimal: no value is 0.30000000000000004."""
    try:
        first, last, step = (Decimal(part.strip()) for part in values.split(":"))
        steps = (last - first) / step
        many = int(steps)
    except (InvalidOperation, ZeroDivisionError, ValueError, OverflowError):
        raise UsageError(
            f"'{text}' is not a span of numbers with a step", fix=_example(text.partition("=")[0].strip())
        ) from None
    if not 0 <= steps <= MOST:
        raise UsageError(
            f"'{text}' leads from {first} to {last} in {float(steps):g} steps of {step}",
            fix=_example(text.partition("=")[0].strip()),
        )
    whole = all(part == part.to_integral_value() for part in (first, step))
    return tuple(int(one) if whole else float(one) for one in (first + step * k for k in range(many + 1)))


def _is_number(text: str) -> bool:
    return not isinstance(_value(text), str | bool)


def _value(text: str) -> ParamValue:
    """Read a number or a truth value, or leave it as text."""
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text

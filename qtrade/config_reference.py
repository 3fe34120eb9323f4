"""What every key of a configuration is: its text, type, limits and defaults, read off the settings themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tomli_w
from pydantic.fields import FieldInfo

from qtrade.config import RunConfig
from qtrade.config_file import EXTENDS
from qtrade.errors import UsageError, nearest
from qtrade.presets import PRESETS
from qtrade.settings import Settings

_PLAIN = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path", date: "date"}
_LIMITS = {
    "ge": "at least {}",
    "gt": "more than {}",
    "le": "at most {}",
    "lt": "less than {}",
    "min_length": "{} or more of them",
    "pattern": "matching {}",
}
UNSET = "not set"
"""What is said of the default of a key that has none."""


@dataclass(frozen=True)
class Key:
    """One key, by its full name."""

    name: str
    what: str
    """One paragraph."""
    kind: str
    """Its type and limits, in words."""
    default: str
    """As TOML, or "not set"."""
    presets: dict[str, str]
    """As TOML, what presets set it to where that is not the default."""

    @property
    def last(self) -> str:
        """Its name within its table."""
        return self.name.rpartition(".")[2]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Table:
    """One table with its keys, by its full name; that of the keys above all tables is empty."""

    name: str
    what: str
    keys: tuple[Key, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def tables() -> tuple[Table, ...]:
    """Every table of a configuration, each before those within it."""
    return tuple(_tables(RunConfig, "", "", PRESETS))


def find(name: str) -> Key | Table:
    """Return the key or the table of a full name.

    Raises
    ------
    UsageError
        If there is none; the nearest is named.
    """
    known: dict[str, Key | Table] = {}
    for table in tables():
        known |= {table.name: table} if table.name else {}
        known |= {key.name: key for key in table.keys}
    if name in known:
        return known[name]
    for full, one in known.items():
        if isinstance(one, Key) and one.kind.startswith("table") and name.startswith(f"{full}."):
            return one  # what it holds has names of the user's own
    if name == EXTENDS:
        raise UsageError(f"'{EXTENDS}' is a key of files", fix="`qtrade config --markdown` explains it")
    # What is remembered of a key is often its last word alone.
    alike = [full for full in known if full.rpartition(".")[2] == name.rpartition(".")[2]]
    fix = f"did you mean {' or '.join(repr(full) for full in alike)}?" if alike else _nearest(name, known)
    raise UsageError(f"there is no key '{name}'", fix=fix)


def _nearest(name: str, known: Iterable[str]) -> str:
    """Suggest a name in full, which is near to one as it was given or to its last word."""
    whole = nearest(name, known)
    if whole.startswith("did you mean"):
        return whole
    ends = {full.rpartition(".")[2]: full for full in known}
    close = nearest(name.rpartition(".")[2], ends)
    for end, full in ends.items():
        if close == f"did you mean '{end}'?":
            return f"did you mean '{full}'?"
    return "`qtrade config` lists them all"


def toml_value(value: Any) -> str:
    """Write a plain value as it stands to the right of an equals sign, on one line."""
    if isinstance(value, dict):
        pairs = (f"{toml_name(key)} = {toml_value(inner)}" for key, inner in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")


def toml_name(key: str) -> str:
    """Write a key as it stands to the left of an equals sign, in quotation marks where it needs them."""
    return tomli_w.dumps({key: 0}).partition(" = ")[0]


def _tables(kind: type[Settings], name: str, what: str, presets: dict[str, dict[str, Any]]) -> Iterator[Table]:
    keys, inner = [], []
    default = kind().model_dump(mode="json")
    for last, field in kind.model_fields.items():
        full = f"{name}.{last}" if name else last
        text = " ".join((field.description or "").split())
        set_to = {preset: tree[last] for preset, tree in presets.items() if last in tree}
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            inner.append(_tables(field.annotation, full, text, set_to))
            continue
        value = default[last]
        keys.append(
            Key(
                full,
                text,
                _kind(field.annotation, field.metadata),
                UNSET if value is None else toml_value(value),
                {preset: toml_value(one) for preset, one in set_to.items() if one != value},
            )
        )
    yield Table(name, what, tuple(keys))
    for one in inner:
        yield from one


def _kind(annotation: Any, limits: Iterable[Any] = ()) -> str:
    """Say in words what a type and its limits allow."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0], [*inner[1:], *limits])
    if origin in (Union, UnionType):
        kinds = [one for one in inner if one is not NoneType]
        return _joined(" or ".join(_kind(one) for one in kinds), limits)
    if origin is Literal:
        return f"one of {', '.join(toml_value(one) for one in inner)}"
    if origin is tuple:
        return f"{_joined('list', limits)}; each {_kind(inner[0])}"
    if origin is dict:
        each = _kind(inner[1])
        return "table of tables" if each.startswith("table") else f"table; each {each}"
    return _joined(_PLAIN[annotation], limits)


def _joined(kind: str, limits: Iterable[Any]) -> str:
    """Add limits, as pydantic keeps them, to the name of a type."""
    flat = [one for given in limits for one in (given.metadata if isinstance(given, FieldInfo) else [given])]
    told = [
        text.format(_limit(getattr(one, name))) for one in flat for name, text in _LIMITS.items() if _has(one, name)
    ]
    return ", ".join((kind, *told))


def _has(limit: Any, name: str) -> bool:
    return getattr(limit, name, None) is not None


def _limit(value: Any) -> str:
    """Write a limit: large ones without a row of zeros to be counted."""
    if isinstance(value, str):
        return f"`{value}`"
    return f"{value:,}" if abs(value) < 1e9 else f"{value:.3g}"

"""The base of every configuration: frozen, closed to unknown keys, and clear about what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from qtrade.errors import QtradeError, UsageError, nearest


class Settings(BaseModel):
    """A frozen group of settings that belongs to one part and lives beside it.

    An unknown key is an error, changing a value after construction is an error, and floats are finite.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, use_attribute_docstrings=True
    )

    file_keys: ClassVar[tuple[str, ...]] = ()
    """Further keys that a file may hold; they are gone by the time settings are made of it."""

    @field_validator("*", mode="before")
    @classmethod
    def _lists_may_be_text(cls, value: object, info: ValidationInfo) -> object:
        """Read ``a,b`` as a list where one is wanted, as it is typed after ``--set``."""
        field = cls.model_fields.get(info.field_name or "")
        if isinstance(value, str) and field is not None and get_origin(field.annotation) is tuple:
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value


Kind = TypeVar("Kind", bound=Settings)
Place = tuple[int | str, ...]


def validated(kind: type[Kind], tree: dict[str, Any], files: Sequence[tuple[Path, Mapping[str, Any]]] = ()) -> Kind:
    """Make settings from a tree of values, turning what is wrong into a `UsageError`.

    Parameters
    ----------
    files
        Files that values came from and what each says, later ones laid over earlier: a file is blamed for a value
        that it holds, and for no other.
    """
    try:
        return kind(**tree)
    except ValidationError as error:
        first = _first(error, tree)
        raise _explain(kind, first, _listed(_holders(tree, first["loc"], files))) from error
    except UsageError as error:
        raise _located(kind, tree, files, error) from error


def _holders(tree: Mapping[str, Any], place: Place, files: Sequence[tuple[Path, Mapping[str, Any]]]) -> list[Path]:
    """Files that what stands at a place came from; none if a part of it came from elsewhere."""
    found: list[Path] = []
    for leaf, value in _leaves(_at(tree, place), place):
        holders = [path for path, said in files if _same(_at(said, leaf), value)]
        if not holders:
            return []
        found.append(holders[-1])
    return list(dict.fromkeys(found))


def _located(
    kind: type[Settings],
    tree: Mapping[str, Any],
    files: Sequence[tuple[Path, Mapping[str, Any]]],
    error: UsageError,
) -> UsageError:
    """Say which values of which files brought an error about: those without which it would not be."""
    guilty = []
    for leaf, _ in _leaves(tree, ()):
        holders = _holders(tree, leaf, files)
        if holders and _complaint(kind, _without(tree, leaf)) != error.what:
            guilty.append(f"{'.'.join(map(str, leaf))} in {holders[0]}")
    return UsageError(f"{', '.join(guilty)}: {error.what}", why=error.why, fix=error.fix) if guilty else error


def _complaint(kind: type[Settings], tree: Mapping[str, Any]) -> str:
    """Say what is wrong with a tree of values."""
    try:
        kind(**tree)
    except QtradeError as error:
        return error.what
    except ValidationError:
        return "something else"
    return ""


_ABSENT = object()


def _at(tree: Any, place: Place) -> Any:
    """Return the value at a place in nested tables; a list is one value, wherever in it the place is."""
    for part in place:
        if not isinstance(tree, dict):
            break
        tree = tree.get(part, _ABSENT)
    return tree


def _same(held: object, value: object) -> bool:
    """Whether a file holds a value: NaN, which equals nothing, is the same where it is the same object."""
    return held is not _ABSENT and (held is value or held == value)


def _leaves(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    """Every value beneath a place that is not a table with something in it, with its own place."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*place, key))
    else:
        yield place, value


def _without(tree: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """Return a copy of nested tables that lacks the value at a place."""
    first, *rest = place
    kept = {key: value for key, value in tree.items() if key != first}
    return {**kept, str(first): _without(tree[str(first)], tuple(rest))} if rest else kept


def _listed(paths: Sequence[Path]) -> str:
    return " and ".join(str(path) for path in paths)


def _first(error: ValidationError, tree: Mapping[str, Any]) -> ErrorDetails:
    """Return the first of pydantic's complaints.

    Where one of several types is wanted there is a complaint for each, at a place that is no key. They become one at
    the place of the value: that of its own type, or what is wanted.
    """
    every = error.errors(include_url=False)
    first = every[0]
    place, branch = first["loc"][:-1], first["loc"][-1:]
    table = _at(tree, place)
    if not place or not isinstance(branch[0], str) or (isinstance(table, dict) and branch[0] in table):
        return first
    alike = [one for one in every if one["loc"][:-1] == place and one["input"] is first["input"]]
    if len(alike) == 1:
        return first
    kinds = {str(one["loc"][-1]): one["msg"] for one in alike}
    wanted = f"input should be {' or '.join(kinds)}"
    return {**first, "type": "union", "loc": place, "msg": kinds.get(type(first["input"]).__name__, wanted)}


def _explain(kind: type[Settings], first: ErrorDetails, files: str) -> UsageError:
    """Turn a complaint of pydantic's into one of ours."""
    where = ".".join(str(part) for part in first["loc"])
    source = f" in {files}" if files else ""
    if first["type"] == "extra_forbidden":
        return UsageError(
            f"unknown key '{where}'{source}", fix=nearest(str(first["loc"][-1]), _keys_beside(kind, first["loc"]))
        )
    message = first["msg"].removeprefix("Value error, ")
    fix = _remedy(kind, first)
    given = f", got {first['input']!r}" if not isinstance(first["input"], dict) else ""
    if not where:
        return UsageError(f"the settings{source} do not go together: {message}")
    return UsageError(f"'{where}'{source} is not valid: {message[:1].lower()}{message[1:]}{given}", fix=fix)


def _remedy(kind: type[Settings], complaint: ErrorDetails) -> str:
    """Name the nearest of the values that a key may have, or where the key is explained."""
    if complaint["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", complaint.get("ctx", {})["expected"])
        close = nearest(str(complaint["input"]), known)
        return close if close.endswith("?") else f"write {' or '.join(known)}"
    key: list[str] = []
    for part in complaint["loc"]:
        if part not in _keys_beside(kind, (*key, part)):
            break  # a place in a list, or a name of the user's own
        key.append(str(part))
    return f"`qtrade config {'.'.join(key)}` explains it" if key else ""


def _keys_beside(kind: type[Settings], location: tuple[int | str, ...]) -> list[str]:
    """Keys known in the table that a wrong key was found in."""
    fields: dict[str, FieldInfo] = kind.model_fields
    if len(location) == 1:
        return [*fields, *kind.file_keys]
    for part in location[:-1]:
        field = fields.get(str(part))
        tables = (
            [inner for inner in (field.annotation, *get_args(field.annotation)) if _is_model(inner)] if field else []
        )
        if not tables or tables[0] is None:
            break
        fields = tables[0].model_fields
    return list(fields)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)

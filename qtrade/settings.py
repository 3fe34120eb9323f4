"""The base of every configuration: frozen, closed to unknown keys, and clear about what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from qtrade.errors import UsageError, nearest


class Settings(BaseModel):
    """A frozen group of settings that belongs to one part and lives beside it.

    An unknown key is an error, changing a value after construction is an error, and floats are finite.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, use_attribute_docstrings=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _lists_may_be_text(cls, value: object, info: ValidationInfo) -> object:
        """Read ``a,b`` as a list where one is wanted, as it is typed after ``--set``."""
        field = cls.model_fields.get(info.field_name or "")
        if isinstance(value, str) and field is not None and get_origin(field.annotation) is tuple:
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value


Kind = TypeVar("Kind", bound=Settings)


def validated(
    kind: type[Kind], tree: dict[str, Any], path: Path | None = None, written: dict[str, Any] | None = None
) -> Kind:
    """Make settings from a tree of values, turning what is wrong into a `UsageError`.

    Parameters
    ----------
    path, written
        File that values came from and what it says, so that it is blamed for those values alone.
    """
    try:
        return kind(**tree)
    except ValidationError as error:
        location = error.errors(include_url=False)[0]["loc"]
        raise _explain(kind, error, path if _at(written, location) == _at(tree, location) else None) from error


def _at(tree: Any, location: tuple[int | str, ...]) -> Any:
    """Return the value at a place in nested tables; None where there is none."""
    for part in location:
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _explain(kind: type[Settings], error: ValidationError, path: Path | None) -> UsageError:
    """Turn the first of pydantic's complaints into one of ours."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    source = f" in {path}" if path else ""
    if first["type"] == "extra_forbidden":
        return UsageError(
            f"unknown key '{where}'{source}", fix=nearest(str(first["loc"][-1]), _keys_beside(kind, first["loc"]))
        )
    message = first["msg"].removeprefix("Value error, ")
    given = f", got {first['input']!r}" if not isinstance(first["input"], dict) else ""
    if not where:
        return UsageError(f"the settings{source} do not go together: {message}")
    return UsageError(f"'{where}'{source} is not valid: {message[:1].lower()}{message[1:]}{given}")


def _keys_beside(kind: type[Settings], location: tuple[int | str, ...]) -> list[str]:
    """Keys known in the table that a wrong key was found in."""
    fields: dict[str, FieldInfo] = kind.model_fields
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

"""The base of every configuration: frozen, closed to unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen group of settings that belongs to one part and lives beside it.

    An unknown key is an error, changing a value after construction is an error, and floats are finite.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, use_attribute_docstrings=True
    )

"""The manifest of cached bars: what they are, every version they ever had, and what is known of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from qtrade import __version__
from qtrade.data.raw import Finding
from qtrade.errors import DataError
from qtrade.files import read_json, write_text

ID_LENGTH = 12
"""Digits of a fingerprint that name a version."""


def _is_stamp(text: str) -> str:
    if pd.isna(pd.Timestamp(text)) or pd.Timestamp(text).tz is None:
        raise ValueError("it is no stamp with a time zone")
    return text


def _is_name(text: str) -> str:
    if Path(text).name != text:
        raise ValueError("it is no name of a file")
    return text


@dataclass(frozen=True)
class Version:
    """What an entry held at some time.

    Attributes
    ----------
    fingerprint
        `RawBars.fingerprint` of it.
    calendar, exchange_zone
        As of then.
    rows, first, last
        How many bars, and the stamps of the first and the last.
    fetched
        When it came, UTC.
    file
        Name of the file that holds it, possibly among other bars.
    findings, facts
        What its source told of it (`RawBars`).
    """

    fingerprint: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    calendar: str
    exchange_zone: str
    rows: int
    first: Annotated[str, AfterValidator(_is_stamp)]
    last: Annotated[str, AfterValidator(_is_stamp)]
    fetched: str
    file: Annotated[str, AfterValidator(_is_name)]
    findings: tuple[Finding, ...]
    facts: dict[str, Any]

    @property
    def id(self) -> str:
        """What the version is called."""
        return self.fingerprint[:ID_LENGTH]


@dataclass(frozen=True)
class Entry:
    """What the manifest says of a symbol's bars."""

    symbol: str
    source: str
    interval: str
    versions: Annotated[tuple[Version, ...], Field(min_length=1)]
    sha256: str

    @property
    def current(self) -> Version:
        """The newest version."""
        return self.versions[-1]

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the newest version."""
        return self.current.facts


_ENTRY = TypeAdapter(Entry)


def read_manifest(path: Path, asked: Mapping[str, str], *, fix: str) -> Entry:
    """Read and check a manifest.

    Parameters
    ----------
    asked
        The symbol, source and interval it must be about.
    fix
        What to do about one that cannot be used.

    Raises
    ------
    DataError
        If it is missing, was altered, or tells of something else.
    """
    facts = read_json(path, fix=fix)
    if not isinstance(facts, dict) or facts.pop("checksum", None) != checksum(facts):
        raise DataError(f"{path} is not as it was written", why="it was altered or cut off", fix=fix)
    found = {key: facts.get(key) for key in asked}
    if found != asked:
        raise DataError(f"{path} describes other bars", why=f"it says {found}, not {dict(asked)}", fix=fix)
    try:
        return _ENTRY.validate_json(json.dumps(facts), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise DataError(f"{path} lacks what this version needs", why=why, fix=fix) from error


def write_manifest(path: Path, entry: Entry) -> None:
    """Write a manifest, atomically, with a checksum over all that it says."""
    facts = asdict(entry) | {"qtrade": __version__}
    text = json.dumps(facts | {"checksum": checksum(facts)}, indent=2, allow_nan=False)
    write_text(path, text + "\n")


def checksum(facts: dict[str, Any]) -> str:
    """SHA-256 of a manifest's content, however it is laid out."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

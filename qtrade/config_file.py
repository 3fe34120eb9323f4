"""Configuration files: TOML that may extend other TOML, and which file says what."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtrade.errors import UsageError

EXTENDS = "extends"
"""Key of a file, not of a configuration: the file or files it starts from."""


@dataclass(frozen=True)
class Layer:
    """What one file says, without what it extends."""

    path: Path
    tree: Mapping[str, Any]


def read_layers(path: Path) -> tuple[Layer, ...]:
    """Read a file and all it extends, in the order in which they are laid over one another; the file itself is last.

    ``extends`` names a file or a list of them, from the folder of the file that says so. Each comes with all that it
    extends in turn. Other paths in the files are left as they are: they start from where qtrade is run.

    Raises
    ------
    UsageError
        If a file cannot be read, is not TOML, or extends itself; the chain that leads to it is named.
    """
    return tuple(_read(path, ()))


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one tree of settings over another: tables key by key, everything else in place of what was there."""
    result = dict(base)
    for key, value in over.items():
        beneath = result.get(key)
        result[key] = merged(beneath, value) if isinstance(beneath, dict) and isinstance(value, dict) else value
    return result


def _read(path: Path, chain: tuple[Path, ...]) -> list[Layer]:
    """Read `path`, to which a chain of files leads, each extending the next."""
    chain = (*chain, path)
    told = " extends ".join(str(one) for one in chain)
    if path.resolve() in [one.resolve() for one in chain[:-1]]:
        raise UsageError(f"{path} extends itself", why=told, fix=f"take one `{EXTENDS}` out")
    tree = _parse(path, told if len(chain) > 1 else "")
    layers: list[Layer] = []
    for name in _extended(tree.pop(EXTENDS, []), path):
        layers += _read(path.parent / Path(name).expanduser(), chain)
    return [*layers, Layer(path, tree)]


def _parse(path: Path, told: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"cannot read the configuration {path}", why=f"{why}; {told}" if told else why) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML", why=str(error), fix="correct that line") from error


def _extended(given: object, path: Path) -> Sequence[str]:
    names = [given] if isinstance(given, str) else given
    if isinstance(names, list) and all(isinstance(name, str) and name for name in names):
        return names
    raise UsageError(
        f"'{EXTENDS}' in {path} is not a file or a list of files, got {given!r}",
        fix=f'write it as {EXTENDS} = "base.toml" or {EXTENDS} = ["base.toml", "costs.toml"]',
    )

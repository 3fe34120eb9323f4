"""Configuration files: TOML that may extend other TOML, and which file says what."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtrade.errors import UsageError

EXTENDS = "extends"
"""Key of a file, not of a configuration: the file or files it starts from."""

_DEEPEST = 16
"""Tables within tables that a file may have: far more than any setting lies beneath."""
_FIND = "correct the path after --config, or write a file to start from with `qtrade init`"


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
    """Lay one tree of settings over another: tables key by key, everything else in place of what was there.

    A value that has a table laid over it stays: it is wrong, and to be told with its place.
    """
    result = dict(base)
    for key, value in over.items():
        beneath = result.get(key, {})
        if not isinstance(value, dict):
            result[key] = value
        elif isinstance(beneath, dict):
            result[key] = merged(beneath, value)
    return result


def parse_toml(text: str) -> dict[str, Any]:
    """Read TOML.

    Raises
    ------
    ValueError
        If it is none, or nests more deeply than anything that can be set.
    """
    try:
        tree = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    level: list[Any] = [tree]
    for _ in range(_DEEPEST):
        level = [inner for one in level for inner in _inside(one)]
    if level:
        raise ValueError(f"it nests more than {_DEEPEST} deep")
    return tree


def _inside(value: object) -> Iterable[object]:
    """Return what is in a table or a list, and nothing for another value."""
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _read(path: Path, chain: tuple[Path, ...]) -> list[Layer]:
    """Read `path`, to which a chain of files leads, each extending the next."""
    chain = (*chain, path)
    try:
        again = path.resolve() in [one.resolve() for one in chain[:-1]]
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, or a name that no file can have
        raise _unreadable(chain, str(error)) from error
    if again:
        raise UsageError(
            f"{path} extends itself", why=" extends ".join(map(str, chain)), fix=f"take one `{EXTENDS}` out"
        )
    tree = _parse(chain)
    layers: list[Layer] = []
    for name in _extended(tree.pop(EXTENDS, []), path):
        try:
            beneath = path.parent / Path(name).expanduser()
        except RuntimeError as error:
            raise _unreadable((*chain, Path(name)), "there is no such home folder") from error
        layers += _read(beneath, chain)
    return [*layers, Layer(path, tree)]


def _parse(chain: Sequence[Path]) -> dict[str, Any]:
    """Read the last file of a chain."""
    path = chain[-1]
    try:
        return parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _unreadable(chain, error.strerror or str(error)) from error
    except ValueError as error:
        raise UsageError(
            f"{path} is not valid TOML", why=_led_to(chain, str(error)), fix="correct that line"
        ) from error


def _unreadable(chain: Sequence[Path], why: str) -> UsageError:
    """Say that the last file of a chain cannot be read."""
    fix = _FIND if len(chain) == 1 else f"correct `{EXTENDS}` in {chain[-2]}: it starts from that file's folder"
    return UsageError(f"cannot read the configuration {chain[-1]}", why=_led_to(chain, why), fix=fix)


def _led_to(chain: Sequence[Path], why: str) -> str:
    """Add to a reason the files that led to the one it is about."""
    return f"{why}; {' extends '.join(map(str, chain))}" if len(chain) > 1 else why


def _extended(given: object, path: Path) -> Sequence[str]:
    names = [given] if isinstance(given, str) else given
    if isinstance(names, list) and all(isinstance(name, str) and name for name in names):
        return names
    raise UsageError(
        f"'{EXTENDS}' in {path} is not a file or a list of files, got {given!r}",
        fix=f'write it as {EXTENDS} = "base.toml" or {EXTENDS} = ["base.toml", "costs.toml"]',
    )

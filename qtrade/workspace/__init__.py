"""A workspace to start research from: a configuration and a strategy of one's own, both explained in their comments."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from qtrade.errors import UsageError
from qtrade.files import write_text

FILES = ("qtrade.toml", "strategies/agreement.py")
"""What a workspace holds."""


def write_workspace(folder: Path) -> list[Path]:
    """Write the files of a workspace, all or none of them, and return where they are.

    Raises
    ------
    UsageError
        If one of them is there already, or the folder cannot be written to.
    """
    paths = [folder / name for name in FILES]
    if there := [str(path) for path in paths if path.exists()]:
        raise UsageError(
            f"{', '.join(there)} would be overwritten", why="it may hold your work", fix="choose another folder"
        )
    source = resources.files(__package__)
    written: list[Path] = []
    try:
        for name, path in zip(FILES, paths, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, source.joinpath(name).read_text(encoding="utf-8"))
            written.append(path)
    except (OSError, UsageError) as error:
        for path in written:
            path.unlink()
        why = error.why if isinstance(error, UsageError) else error.strerror or str(error)
        raise UsageError(f"cannot write a workspace to {folder}", why=why, fix="choose another folder") from error
    return paths

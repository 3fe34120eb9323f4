"""Removing runs: never anything but a run's own folder, never one that is being trained, and never by halves.

A folder is first renamed to a hidden name beside it, in one step, and only then deleted. Whoever is stopped in between
leaves a hidden folder that no command takes for a run, and the next removal clears it away.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtrade.errors import DataError, UsageError
from qtrade.pipeline.lock import is_busy
from qtrade.pipeline.overview import sizes
from qtrade.runs import Run

_PREFIX = ".removed-"


@dataclass(frozen=True)
class Removal:
    """What the removal of a run takes away: its folder, the files in it, and how many bytes they hold."""

    name: str
    folder: Path
    files: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"name": self.name, "folder": str(self.folder), "files": self.files, "size_bytes": self.bytes}


def plan_removal(runs: Sequence[Run]) -> list[Removal]:
    """Say what removing some runs would take away; a run that is named twice counts once.

    Raises
    ------
    UsageError
        If one is no run's own folder, holds other runs, or is being trained.
    DataError
        If its manifest cannot be read, so that nobody can tell whether it is a run.
    """
    plans: dict[Path, Removal] = {}
    for run in runs:
        where = run.folder.resolve()
        if where not in plans:
            _check(run)
            files = sizes(run.folder)
            plans[where] = Removal(run.name, run.folder, len(files), sum(size for _, size in files))
    return list(plans.values())


def remove(plan: Removal) -> None:
    """Remove a run.

    Raises
    ------
    UsageError
        As `plan_removal` does, if things have changed since; or if the folder cannot be renamed or deleted.
    """
    run = Run(plan.folder)
    _check(run)
    folder = plan.folder.resolve()
    hidden = folder.with_name(f"{_PREFIX}{folder.name}-{uuid.uuid4().hex[:8]}")
    try:
        folder.rename(hidden)
    except OSError as error:
        raise UsageError(
            f"{plan.folder} cannot be removed",
            why=error.strerror or str(error),
            fix="close what uses it, or change the permissions of the folder that it is in",
        ) from error
    _delete(hidden)


def clear_leftovers(runs: Path) -> None:
    """Delete what removals that were stopped half-way have left in a folder of runs.

    Raises
    ------
    UsageError
        If something cannot be deleted.
    """
    for path in sorted(runs.glob(f"{_PREFIX}*")):
        if path.is_dir() and not path.is_symlink():
            _delete(path)


def _check(run: Run) -> None:
    """Refuse what is not a run's own folder, and a run that somebody is training."""
    if run.folder.is_symlink():
        raise UsageError(
            f"{run.folder} is a link to {run.folder.resolve()}",
            why="removing a run through a link would leave the link, and take the run from wherever it is",
            fix="name the run where it is, or delete the link itself",
        )
    try:
        _ = run.manifest
    except DataError as error:
        raise DataError(
            f"{run.folder} cannot be told from a folder that is no run",
            why=error.what,
            fix="if it is one, delete the folder by hand",
        ) from error
    others = [path for path, _ in sizes(run.folder) if path.name == "manifest.json" and len(path.parts) > 1]
    if others:
        raise UsageError(
            f"{run.folder} holds another run",
            why=f"there is a manifest in {run.folder / others[0].parent}",
            fix="move the other run out of it first",
        )
    if is_busy(run):
        raise UsageError(
            f"the run {run.name} is being trained", fix="stop its training, or wait until it is done, and try again"
        )


def _delete(folder: Path) -> None:
    """Delete a hidden folder with all that is in it; links in it are deleted, and what they point to is not."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return  # another process clears the same leftovers away
    except OSError as error:
        raise UsageError(
            f"some files of a removed run are left in {folder}",
            why=error.strerror or str(error),
            fix="change their permissions; the next removal tries again",
        ) from error

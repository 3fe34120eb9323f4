"""Removing runs: never anything but a run's own folder, never one that somebody is at work in, and never by halves.

A folder is first renamed to a hidden name beside it, in one step, and only then deleted, its manifest last. Whoever is
stopped in between leaves a hidden folder that no command takes for a run, but that its manifest proves to be the rest
of one; the next removal clears it away.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtrade.errors import DataError, UsageError
from qtrade.pipeline.lock import FILE_NAME, USE_FILE, being_removed, refuse_busy
from qtrade.pipeline.overview import sizes
from qtrade.runs import Run

_PREFIX = ".removed-"
_LEFT = re.compile(re.escape(_PREFIX) + r".+-[0-9a-f]{8}")
_HASH = re.compile(r"[0-9a-f]{64}")
_NAMED = 5
"""Strangers that a refusal names; more are counted."""
_OWN = frozenset(
    {
        *("config.toml", "manifest.json", "bars.parquet", FILE_NAME, USE_FILE),
        *("folds", "forecasts.parquet", "residuals.parquet", "baselines", "transfer"),
        *("evaluation.json", "optimism.json", "metrics.json", "report.html"),
        *("backtests", "sweeps", "predictions"),
    }
)
"""All that a run's folder holds at its top; temporary files of `qtrade.files.atomic_path` come and go beside them."""


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
        If one is no run's own folder, holds other runs or what no run makes, or is being trained or used.
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
    run, folder = Run(plan.folder), plan.folder.resolve()
    hidden = folder.with_name(f"{_PREFIX}{folder.name}-{uuid.uuid4().hex[:8]}")
    _check(run)
    with being_removed(run) as release:
        if os.name == "nt":  # where no folder is renamed while a file in it is open, not even by oneself
            release()
        try:
            folder.rename(hidden)
        except OSError as error:
            raise UsageError(
                f"{plan.folder} cannot be removed",
                why=error.strerror or str(error),
                fix="close what uses it, or change the permissions of the folder that it is in",
            ) from error
    _delete(hidden)


def leftovers(runs: Path) -> list[Path]:
    """Find what removals that were stopped half-way have left in a folder of runs, and nothing that merely looks so."""
    return [path for path in sorted(runs.glob(f"{_PREFIX}*")) if _is_left(path)]


def clear_leftovers(runs: Path) -> None:
    """Delete what removals that were stopped half-way have left in a folder of runs.

    Raises
    ------
    UsageError
        If something cannot be deleted.
    """
    for path in leftovers(runs):
        _delete(path)


def _is_left(path: Path) -> bool:
    """Whether a folder has the name of a removed run, and in it the manifest of one, or nothing any more."""
    if _LEFT.fullmatch(path.name) is None or path.is_symlink() or not path.is_dir():
        return False
    try:
        if not any(path.iterdir()):
            return True
        _check_manifest(Run(path))
        return not _strangers(path)
    except (DataError, OSError):
        return False


def _check(run: Run) -> None:
    """Refuse what is not a run's own folder, and a run that somebody trains or uses."""
    if run.folder.is_symlink():
        raise UsageError(
            f"{run.folder} is a link to {run.folder.resolve()}",
            why="removing a run through a link would leave the link, and take the run from wherever it is",
            fix="name the run where it is, or delete the link itself",
        )
    try:
        _check_manifest(run)
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
    if strangers := _strangers(run.folder):
        more = f" and {len(strangers) - _NAMED} more" if len(strangers) > _NAMED else ""
        raise UsageError(
            f"{run.folder} holds what no run makes: {', '.join(strangers[:_NAMED])}{more}",
            why="removing the run would delete that, too",
            fix="move it elsewhere first",
        )
    refuse_busy(run)


def _check_manifest(run: Run) -> None:
    """Raise `DataError` unless a manifest has what `qtrade.runs.start_run` writes; anybody may have made another."""
    manifest = run.manifest
    data, path = manifest["data"], run.folder / "manifest.json"
    hashes = (manifest["forecast_hash"], manifest["facts"].get("data"))
    whole = (
        all(isinstance(one, str) and _HASH.fullmatch(one) for one in hashes)
        and isinstance(data.get("symbols"), list)
        and all(isinstance(data.get(name), str) for name in ("interval", "first", "last"))
        and isinstance(manifest.get("versions"), dict)
    )
    if not whole:
        raise DataError(f"{path} is not what training writes")


def _strangers(folder: Path) -> list[str]:
    """Name what lies at the top of a run's folder and is not of the run; a folder is marked by a slash."""
    return [
        path.name + ("/" if path.is_dir() else "")
        for path in sorted(folder.iterdir())
        if path.name not in _OWN and not _is_temporary(path.name)
    ]


def _is_temporary(name: str) -> bool:
    return any(name.startswith(f".{own}.") and name.endswith(".tmp") for own in _OWN)


def _delete(folder: Path) -> None:
    """Delete a hidden folder with all that is in it; links in it are deleted, and what they point to is not."""
    try:
        # The manifest goes last: as long as there is anything, it proves what this was.
        for path in sorted(folder.iterdir(), key=lambda one: one.name == "manifest.json"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        folder.rmdir()
    except FileNotFoundError:
        return  # another process clears the same leftovers away
    except OSError as error:
        raise UsageError(
            f"some files of a removed run are left in {folder}",
            why=error.strerror or str(error),
            fix="change their permissions; the next removal tries again",
        ) from error

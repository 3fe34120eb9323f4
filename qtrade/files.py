"""Writing files so that a reader sees the old content or the new, never a part of it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from qtrade.errors import DataError, UsageError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success flush it to disk and rename it over `target`.

    On any error the temporary file is removed and `target` is as it was.

    Raises
    ------
    UsageError
        If the folder cannot be written to.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    except OSError as error:
        raise UsageError(
            f"cannot write to {target.parent}",
            why=error.strerror or str(error),
            fix="choose another folder, or change its permissions",
        ) from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        # mkstemp makes files private; a result is as readable as any other file of the user.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        try:
            temporary.replace(target)
        except OSError as error:
            raise UsageError(
                f"cannot write to {target}", why=error.strerror or str(error), fix="move what is in its place away"
            ) from error
        _sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinities are refused, as JSON has none."""
    write_text(target, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_parquet(target: Path, frame: pd.DataFrame) -> None:
    """Write `frame` as Parquet with its index, atomically."""
    with atomic_path(target) as temporary:
        frame.to_parquet(temporary, engine="pyarrow")


def read_json(path: Path, *, fix: str) -> Any:
    """Read JSON, or say which file is unreadable and how to mend it (`fix`)."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing", fix=fix) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read", why=str(error), fix=fix) from error


def read_parquet(path: Path, *, fix: str) -> pd.DataFrame:
    """Read Parquet, or say which file is unreadable and how to mend it (`fix`)."""
    try:
        return pd.read_parquet(path, engine="pyarrow")
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing", fix=fix) from error
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise DataError(f"{path} cannot be read", why=str(error).splitlines()[0], fix=fix) from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Flush a folder entry, so that a rename survives a power cut (POSIX only)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

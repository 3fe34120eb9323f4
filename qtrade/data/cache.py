"""Bars on disk: one Parquet file and one manifest per symbol, complete or not there.

::

    data_cache/<source>/<interval>/<safe name>.parquet
    data_cache/<source>/<interval>/<safe name>.json      written last; holds the SHA-256 of the Parquet file
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from qtrade import __version__
from qtrade.data.raw import RAW_FIELDS, RawBars
from qtrade.errors import DataError, UsageError
from qtrade.files import atomic_path, read_json, read_parquet, sha256

# Any other byte is written as %XX: small letters too, since some file systems do not tell them from capitals.
_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=^")
# Windows refuses these whatever follows the first dot; a digit at the end stands for the nine ports.
_RESERVED = ("CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10)))
_LOCK_SECONDS = 60.0


@dataclass(frozen=True)
class Cache:
    """A folder of bars."""

    root: Path

    def path(self, source: str, interval: str, symbol: str) -> Path:
        """Parquet file of an entry; its manifest has the suffix ``.json``."""
        return self.root / source / interval / f"{safe_name(symbol)}.parquet"

    def write(self, raw: RawBars) -> Path:
        """Store raw bars in place of the former entry, and return the Parquet file.

        Both files are complete on disk before either takes its name, so a failure leaves the former entry whole. A
        crash between the two renamings leaves a pair that does not match, and `read` says so.

        Raises
        ------
        UsageError
            If the folder cannot be written to.
        """
        path = self.path(raw.source, raw.interval, raw.symbol)
        with self._locked(path):
            try:
                # The inner file is renamed first: the manifest comes last.
                with atomic_path(path.with_suffix(".json")) as manifest, atomic_path(path) as bars:
                    raw.frame.to_parquet(bars, engine="pyarrow")
                    manifest.write_text(json.dumps(_facts(raw, sha256(bars)), indent=2) + "\n", encoding="utf-8")
            except OSError as error:
                raise _not_writable(path.parent, error) from error
        return path

    def read(self, source: str, interval: str, symbol: str) -> RawBars:
        """Read an entry back.

        Raises
        ------
        DataError
            If there is no such entry, or a file was altered, cut off or written by something else.
        """
        path = self.path(source, interval, symbol)
        manifest = path.with_suffix(".json")
        words = ("qtrade", "fetch", symbol, "--source", source, "--interval", interval, "--cache", str(self.root))
        command = f"`{shlex.join(words)}`"
        if not manifest.exists():
            raise DataError(
                f"{symbol}: the cache {self.root} has no {interval} bars from '{source}'", fix=f"fetch them: {command}"
            )
        again = f"fetch it again: {command}"
        with self._locked(path, only_reading=True):
            facts = read_json(manifest, fix=again)
            if not isinstance(facts, dict) or _checksum(path, fix=again) != facts.get("sha256"):
                raise DataError(f"{path} is not what its manifest says", why="it was altered or cut off", fix=again)
            frame = read_parquet(path, fix=again)
        asked = {"symbol": symbol, "source": source, "interval": interval}
        found = {key: facts.get(key) for key in asked}
        if found != asked:
            raise DataError(f"{manifest} describes other bars", why=f"it says {found}, not {asked}", fix=again)
        try:
            return RawBars(
                **asked,
                calendar=facts["calendar"],
                exchange_zone=facts["exchange_zone"],
                frame=frame[list(RAW_FIELDS)].set_axis(pd.DatetimeIndex(frame.index), axis=0),
            )
        except (KeyError, ValueError) as error:
            raise DataError(f"{path} lacks what this version needs", why=str(error), fix=again) from error

    @contextmanager
    def _locked(self, path: Path, *, only_reading: bool = False) -> Iterator[None]:
        """Hold an entry's lock, so that no other process reads or writes it half-way."""
        folder = path.parent
        if only_reading and not os.access(folder, os.W_OK):
            yield  # Who may not write here cannot make a lock file; the checksum tells if a writer was half-way.
            return
        lock = FileLock(path.with_suffix(".lock"), timeout=_LOCK_SECONDS)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise UsageError(
                f"{path} is in use",
                why=f"another process has held its lock for {_LOCK_SECONDS:.0f} seconds",
                fix="wait until that one is done",
            ) from error
        except OSError as error:
            raise _not_writable(folder, error) from error
        try:
            yield
        finally:
            lock.release()


def safe_name(symbol: str) -> str:
    """File name of a symbol: safe on every file system, never that of another symbol; percent-decoding undoes it."""
    name = "".join(
        letter if letter in _SAFE else "".join(f"%{byte:02X}" for byte in letter.encode()) for letter in symbol
    )
    return f"%{ord(name[0]):02X}{name[1:]}" if name in _RESERVED else name


def _facts(raw: RawBars, checksum: str) -> dict[str, Any]:
    """Content of a manifest."""
    return {
        "symbol": raw.symbol,
        "source": raw.source,
        "interval": raw.interval,
        "calendar": raw.calendar,
        "exchange_zone": raw.exchange_zone,
        "rows": len(raw.frame),
        "first": str(raw.frame.index[0]),
        "last": str(raw.frame.index[-1]),
        "fetched": str(pd.Timestamp.now("UTC").floor("s")),
        "sha256": checksum,
        "qtrade": __version__,
    }


def _checksum(path: Path, *, fix: str) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read", why=error.strerror or str(error), fix=fix) from error


def _not_writable(folder: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot write to {folder}",
        why=error.strerror or str(error),
        fix="choose another folder with --cache, change its permissions, or free some space",
    )

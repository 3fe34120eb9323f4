"""Bars on disk: a Parquet file and a manifest per symbol, complete or not there, and every version they ever had.

::

    data_cache/<source>/<interval>/<safe name>.json            manifest, written last
    data_cache/<source>/<interval>/<safe name>.parquet         the bars
    data_cache/<source>/<interval>/<safe name>.<id>.parquet    a vintage: what the bars were before they were rewritten

The manifest lists versions, the newest last. Bars that were only added to are still in the newer file, so their version
is a span of it; what was rewritten keeps a file of its own. An id is the beginning of `RawBars.fingerprint`.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pandas as pd
from filelock import FileLock, Timeout

from qtrade.data.manifest import ID_LENGTH, Entry, Version, read_manifest, write_manifest
from qtrade.data.names import key_of, safe_name
from qtrade.data.raw import RAW_FIELDS, RawBars
from qtrade.errors import DataError, UsageError
from qtrade.files import atomic_path, read_parquet, sha256

_LOCK_SECONDS = 60.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Cache:
    """A folder of bars."""

    root: Path

    def path(self, source: str, interval: str, symbol: str) -> Path:
        """Parquet file of an entry; its manifest has the suffix ``.json``."""
        return self.root / source / interval / f"{safe_name(symbol)}.parquet"

    def write(self, raw: RawBars) -> Path:
        """Store raw bars in place of the former entry, which stays as a version, and return the Parquet file.

        A failure leaves the former entry whole. So does a crash at any moment: until the manifest has its new content,
        the bars that the old one tells of are there under its version's name.

        Raises
        ------
        UsageError
            If the folder cannot be written to.
        """
        return self.update(raw.source, raw.interval, raw.symbol, lambda stored: raw)

    def update(
        self,
        source: str,
        interval: str,
        symbol: str,
        change: Callable[[RawBars | None], RawBars],
        written: Callable[[Path, RawBars], None] = lambda path, raw: None,
    ) -> Path:
        """Write what `change` makes of the stored bars (None if there are none), with nobody else writing meanwhile.

        Parameters
        ----------
        written
            Called with the Parquet file and the bars before anybody else may write.
        """
        path = self.path(source, interval, symbol)
        with self._locked(path):
            for left in path.parent.glob(f".{path.stem}.*.tmp"):
                left.unlink(missing_ok=True)  # by a process that was killed; this one alone writes here now
            entry = stored = None
            with suppress(DataError):  # nothing there, or nothing that could be trusted
                entry = self._entry(path)
                stored = self._bars(path, entry)
            raw = change(stored)
            assert (raw.source, raw.interval, raw.symbol) == (source, interval, symbol), "bars of another entry"
            try:
                self._write(path, raw, entry, stored)
            except OSError as error:
                raise _not_writable(path.parent, error) from error
            written(path, raw)
        return path

    def read(self, source: str, interval: str, symbol: str, version: str | None = None) -> RawBars:
        """Read an entry back, or a former version of it by the beginning of its fingerprint.

        Raises
        ------
        DataError
            If there is no such entry, or a file was altered, cut off or written by something else.
        UsageError
            If no version, or more than one, begins like that.
        """
        path = self.path(source, interval, symbol)
        with self._found(path, symbol):
            entry = self._entry(path)
            return self._bars(path, entry) if version is None else self._vintage(path, entry, version)

    def visit(self, source: str, interval: str, symbol: str, look: Callable[[Path, RawBars], Result]) -> Result:
        """Return what `look` makes of an entry's file and bars, with nobody writing meanwhile."""
        path = self.path(source, interval, symbol)
        with self._found(path, symbol):
            return look(path, self._bars(path, self._entry(path)))

    def entry(self, source: str, interval: str, symbol: str) -> Entry:
        """Read what the manifest says, without the bars."""
        path = self.path(source, interval, symbol)
        with self._found(path, symbol):
            return self._entry(path)

    def find(self, symbol: str | None = None, source: str | None = None, interval: str | None = None) -> list[Path]:
        """List the Parquet files of all entries, or of those that match; their manifests are there, whole or not."""
        places = self.root.glob(f"{source or '*'}/{interval or '*'}/{safe_name(symbol) if symbol else '*'}.json")
        return sorted(place.with_suffix(".parquet") for place in places if "." not in place.stem)

    def remove(self, source: str, interval: str, symbol: str) -> None:
        """Delete an entry with all its versions."""
        path = self.path(source, interval, symbol)
        with self._locked(path):
            try:
                # The manifest first: what it told of is then nothing any more, whatever happens next.
                for file in (path.with_suffix(".json"), path, *path.parent.glob(f"{path.stem}.*")):
                    if file.suffix in (".json", ".parquet"):
                        file.unlink(missing_ok=True)
            except OSError as error:
                raise _not_writable(path.parent, error) from error

    def _entry(self, path: Path) -> Entry:
        """Read and check a manifest."""
        source, interval, symbol = key_of(path)
        manifest = path.with_suffix(".json")
        again = self._again(source, interval, symbol)
        if not manifest.exists():
            raise DataError(
                f"{symbol}: the cache {self.root} has no {interval} bars from '{source}'",
                fix=again.replace("it again", "them"),
            )
        return read_manifest(manifest, {"symbol": symbol, "source": source, "interval": interval}, fix=again)

    def _bars(self, path: Path, entry: Entry) -> RawBars:
        """Read the current bars."""
        again = self._again(entry.source, entry.interval, entry.symbol)
        return _raw(entry, entry.current, read_parquet(self._file(path, entry), fix=again), again)

    def _file(self, path: Path, entry: Entry) -> Path:
        """Find the file with the current bars, which a crash may have left under their version's name."""
        again = self._again(entry.source, entry.interval, entry.symbol)
        for file in (path, _vintage_path(path, entry.current.fingerprint)):
            try:
                if sha256(file) == entry.sha256:
                    return file
            except OSError as error:
                problem = error.strerror or str(error)
            else:
                problem = "it was altered or cut off"
        raise DataError(f"{path} is not what its manifest says", why=problem, fix=again)

    def _vintage(self, path: Path, entry: Entry, begins: str) -> RawBars:
        """Read a version by the beginning of its fingerprint, and check that it is the one."""
        matching = {one.fingerprint: one for one in entry.versions if one.fingerprint.startswith(begins)}
        if len(matching) != 1:
            raise UsageError(
                f"{entry.symbol} has {len(matching) or 'no'} versions that begin with '{begins}'",
                fix=f"`qtrade data vintages {shlex.quote(entry.symbol)}` lists them; without data.versions in the "
                "configuration, the newest is used",
            )
        (version,) = matching.values()
        if version == entry.current:
            return self._bars(path, entry)
        fix = "nothing brings a lost vintage back; run again on the current bars"
        file = self._file(path, entry) if version.file == path.name else path.with_name(version.file)
        frame = read_parquet(file, fix=fix)
        kept = frame[(frame.index >= pd.Timestamp(version.first)) & (frame.index <= pd.Timestamp(version.last))]
        raw = _raw(entry, version, kept, fix)
        if raw.fingerprint() != version.fingerprint:
            raise DataError(f"{version.file} no longer holds version {version.id}", why="it was altered", fix=fix)
        return raw

    def _write(self, path: Path, raw: RawBars, entry: Entry | None, stored: RawBars | None) -> None:
        """Put new files in the place of old ones: the bars, then the manifest."""
        version = Version(
            raw.fingerprint(),
            raw.calendar,
            raw.exchange_zone,
            len(raw.frame),
            str(raw.frame.index[0]),
            str(raw.frame.index[-1]),
            str(pd.Timestamp.now("UTC").floor("s")),
            path.name,
            raw.findings,
            dict(raw.facts),
        )
        former: list[Version] = []
        vintage = None
        if entry is not None and stored is not None:
            former = [one for one in entry.versions if one.fingerprint != version.fingerprint]
            vintage = _vintage_path(path, entry.current.fingerprint)
            _keep(path, vintage, entry.sha256)
            if not _contains(raw, stored):
                former = [replace(one, file=vintage.name) if one.file == path.name else one for one in former]
                vintage = None
        else:
            _set_aside(path)
            if entry is not None:  # its bars are damaged, but not those of versions with files of their own
                former = [one for one in entry.versions if one.file != path.name]
        with atomic_path(path) as bars:
            raw.frame.to_parquet(bars, engine="pyarrow")
            entry = Entry(
                symbol=raw.symbol,
                source=raw.source,
                interval=raw.interval,
                versions=(*former, version),
                sha256=sha256(bars),
            )
        write_manifest(path.with_suffix(".json"), entry)
        if vintage is not None and all(one.file != vintage.name for one in former):
            vintage.unlink(missing_ok=True)

    def _again(self, source: str, interval: str, symbol: str) -> str:
        words = ("qtrade", "fetch", symbol, "--source", source, "--interval", interval, "--cache", str(self.root))
        path = " --path FILE" if source == "file" else ""
        return f"fetch it again: `{shlex.join(words)}{path}`"

    @contextmanager
    def _found(self, path: Path, symbol: str) -> Iterator[None]:
        """Hold the lock of an entry that is there."""
        if not path.with_suffix(".json").exists():
            self._entry(path)  # says so, without making a folder for the lock
        with self._locked(path, only_reading=True):
            yield

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
            raise DataError(
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


def _vintage_path(path: Path, fingerprint: str) -> Path:
    return path.with_name(f"{path.stem}.{fingerprint[:ID_LENGTH]}.parquet")


def _keep(path: Path, vintage: Path, checksum: str) -> None:
    """Give the file at `path` a second name; where that cannot be, copy it."""
    if vintage.exists() and sha256(vintage) == checksum:
        return
    vintage.unlink(missing_ok=True)
    try:
        os.link(path, vintage)
    except OSError:
        with atomic_path(vintage) as copy:
            shutil.copyfile(path, copy)


def _set_aside(path: Path) -> None:
    """Rename files that no manifest vouches for: they may hold bars that nobody has any more."""
    for file in (path.with_suffix(".json"), path):
        if file.is_dir():
            raise IsADirectoryError(21, "a folder is in the place of a file", str(file))
        if file.exists():
            file.replace(file.with_name(f"{path.stem}.damaged{file.suffix}"))


def _contains(raw: RawBars, stored: RawBars) -> bool:
    """Whether all bars of `stored` are a span of `raw`, every number the same."""
    if (raw.calendar, raw.exchange_zone) != (stored.calendar, stored.exchange_zone):
        return False
    index = raw.frame.index
    span = raw.frame[(index >= stored.frame.index[0]) & (index <= stored.frame.index[-1])]
    return replace(raw, frame=span).fingerprint() == stored.fingerprint() if len(span) else False


def _raw(entry: Entry, version: Version, frame: pd.DataFrame, fix: str) -> RawBars:
    """Bars of a version."""
    try:
        return RawBars(
            symbol=entry.symbol,
            source=entry.source,
            interval=entry.interval,
            calendar=version.calendar,
            exchange_zone=version.exchange_zone,
            frame=frame[list(RAW_FIELDS)].set_axis(pd.DatetimeIndex(frame.index), axis=0),
            findings=version.findings,
            facts=version.facts,
        )
    except (KeyError, ValueError) as error:
        raise DataError(f"{version.file} lacks what this version needs", why=str(error), fix=fix) from error


def _not_writable(folder: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot write to {folder}",
        why=error.strerror or str(error),
        fix="choose another folder with --cache, change its permissions, or free some space",
    )

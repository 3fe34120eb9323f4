"""Files of Python from the user: read once, run from what was read, and blamed by line for what goes wrong."""

from __future__ import annotations

import hashlib
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pandas as pd

from qtrade.errors import QtradeError, UsageError
from qtrade.types import Bars


@dataclass(frozen=True)
class UserFile:
    """A file of Python and what it held when it was read, which can be hashed, sent to a process, and run again."""

    path: Path
    source: bytes = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file without running it.

        Raises
        ------
        UsageError
            If it cannot be read.
        """
        try:
            return cls(path, path.read_bytes())
        except OSError as error:
            raise UsageError(f"cannot read {path}", why=error.strerror or str(error)) from error

    @property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.source).hexdigest()

    def run(self) -> types.ModuleType:
        """Run the file and return what it defines. Nothing in it remembers an earlier run.

        Raises
        ------
        UsageError
            If it fails.
        """
        # Compiled here and not imported: an import leaves a cache beside the user's file, and may then use a stale one.
        module = types.ModuleType(f"qtrade_user_{self.sha256[:12]}")
        module.__file__ = str(self.path)
        sys.modules[module.__name__] = module  # dataclasses look up annotations there
        with self.blamed(f"{self.path} cannot be loaded"):
            exec(compile(self.source, str(self.path), "exec"), module.__dict__)
        return module

    def functions(self, *names: str, example: str) -> tuple[types.ModuleType, list[Callable[..., Any]]]:
        """Run the file and return it with functions that it must define.

        Parameters
        ----------
        example
            What a file that defines them looks like.

        Raises
        ------
        UsageError
            If it fails, or lacks one of them.
        """
        module = self.run()
        missing = [name for name in names if not callable(getattr(module, name, None))]
        if missing:
            raise UsageError(
                f"{self.path} must define {' and '.join(names)}, and lacks {' and '.join(missing)}",
                fix=f"write it like this:\n\n{example}",
            )
        return module, [getattr(module, name) for name in names]

    @contextmanager
    def blamed(self, what: str) -> Iterator[None]:
        """Turn any failure of the file's code into a `UsageError` that shows the line it comes from."""
        try:
            yield
        except QtradeError:
            raise
        except (Exception, SystemExit) as error:  # a file that calls sys.exit() must not end qtrade; Ctrl-C must
            frames = reversed(traceback.extract_tb(error.__traceback__))
            number = next((frame.lineno for frame in frames if frame.filename == str(self.path)), 0)
            message = str(error)
            if isinstance(error, SyntaxError) and error.filename == str(self.path):
                number, message = error.lineno or 0, error.msg
            raise UsageError(what, why=f"{type(error).__name__}: {message}", fix=f"see {self.place(number)}") from error

    def place(self, number: int | None) -> str:
        """Name the file and, if it has one of that number, a line of it with what stands there."""
        lines = self.source.decode(errors="replace").splitlines()
        if not number or number > len(lines):
            return str(self.path)
        return f"{self.path}, line {number}: {lines[number - 1].strip()}"


def check_table(given: Any, bars: Bars, what: str, *, fix: str) -> pd.DataFrame:
    """Return what a user's function gave, if it is a DataFrame on the index and symbols of the bars.

    Parameters
    ----------
    what, fix
        What it is, and what to do about it, for messages.

    Raises
    ------
    UsageError
        If it is something else.
    """
    if not isinstance(given, pd.DataFrame):
        raise UsageError(f"{what}: a DataFrame is wanted, not {type(given).__name__}", fix=fix)
    if not (given.index.equals(bars.index) and tuple(map(str, given.columns)) == bars.symbols):
        raise UsageError(
            f"{what}: index and symbols are not those of the bars",
            why=f"wanted {_describe(bars.close)}; got {_describe(given)}",
            fix=f"{fix}: end with .reindex(index=bars.index, columns=bars.symbols)",
        )
    return given


def _describe(frame: pd.DataFrame) -> str:
    start = f" from {frame.index[0]}" if len(frame) else ""
    return f"{len(frame)} rows of {', '.join(map(str, frame.columns))}{start}"

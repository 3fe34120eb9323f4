"""Files of Python from the user: read once, run from what was read, and blamed by line for what goes wrong."""

from __future__ import annotations

import hashlib
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pandas as pd

from qtrade.errors import QtradeError, UsageError
from qtrade.types import Bars

# What each file of the user imported of their other files when it was run, by its hash.
_IMPORTED: dict[str, dict[str, Path]] = {}


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
        _forget_imports()
        # Compiled here and not imported: an import leaves a cache beside the user's file, and may then use a stale one.
        module = types.ModuleType(f"qtrade_user_{self.sha256[:12]}")
        module.__file__ = str(self.path)
        sys.modules[module.__name__] = module  # dataclasses look up annotations there
        before = set(sys.modules)
        with self.blamed(f"{self.path} cannot be loaded"):
            exec(compile(self.source, str(self.path), "exec"), module.__dict__)
        _IMPORTED[self.sha256] = {
            name: Path(place) for name in set(sys.modules) - before if (place := _place_of_users(sys.modules[name]))
        }
        return module

    def with_imports(self) -> str:
        """SHA-256 of the file, and of the user's other files that it imported when it was last run."""
        others = _IMPORTED.get(self.sha256, {})
        if not others:
            return self.sha256
        parts = [hashlib.sha256(others[name].read_bytes()).hexdigest() for name in sorted(others)]
        return hashlib.sha256("".join([self.sha256, *parts]).encode()).hexdigest()

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
        """Turn any failure of the file's code into a `UsageError` that shows the line it comes from.

        What it prints goes where messages go: what it is asked for is data.
        """
        try:
            with redirect_stdout(sys.stderr):
                yield
        except QtradeError as error:
            number = self._line_of(error)
            if isinstance(error, UsageError) and number and ".py, line " not in str(error):
                fix = f"{error.fix}; see {self.place(number)}" if error.fix else f"see {self.place(number)}"
                raise UsageError(error.what, why=error.why, fix=fix) from error
            raise
        except (Exception, SystemExit) as error:  # a file that calls sys.exit() must not end qtrade; Ctrl-C must
            number, message = self._line_of(error), str(error)
            if isinstance(error, SyntaxError) and error.filename == str(self.path):
                number, message = error.lineno or 0, error.msg
            raise UsageError(what, why=f"{type(error).__name__}: {message}", fix=f"see {self.place(number)}") from error

    def _line_of(self, error: BaseException) -> int | None:
        """Line of this file that an error came through last; None if it came through none."""
        frames = reversed(traceback.extract_tb(error.__traceback__))
        return next((frame.lineno for frame in frames if frame.filename == str(self.path)), None)

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
            fix=f"{fix}{_advice(given, bars)}",
        )
    return given


def _advice(given: pd.DataFrame, bars: Bars) -> str:
    """Say what would help: to reindex, where that leaves something, or else what is strange about the labels."""
    unknown = [str(name) for name in given.columns if str(name) not in bars.symbols]
    if unknown:
        return f": there is no symbol {', '.join(unknown[:3])}"
    if not given.index.isin(bars.index).any():
        return ": its rows must be those of bars.index"
    return ": end with .reindex(index=bars.index, columns=bars.symbols)"


def _forget_imports() -> None:
    """Drop the user's own modules, so that nothing they remember reaches the next run of a file."""
    for imported in _IMPORTED.values():
        for name in imported:
            sys.modules.pop(name, None)


def _place_of_users(module: types.ModuleType) -> str:
    """Return the file of a module that is the user's; empty for installed ones, Python's own and qtrade's."""
    place = getattr(module, "__file__", None) or ""
    installed = (sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(__file__).parent))
    return "" if not place.endswith(".py") or "site-packages" in place or place.startswith(installed) else place


def _describe(frame: pd.DataFrame) -> str:
    start = f" from {frame.index[0]}" if len(frame) else ""
    return f"{len(frame)} rows of {', '.join(map(str, frame.columns))}{start}"

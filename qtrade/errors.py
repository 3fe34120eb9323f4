"""Every error a user can meet: what is wrong, why, and the next thing to type; and its exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class QtradeError(Exception):
    """An expected failure, shown to the user without a traceback.

    Parameters
    ----------
    what
        What is wrong, in one sentence without a final full stop.
    why
        The reason, where it is known.
    fix
        The next thing to do or type.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class UsageError(QtradeError):
    """Wrong usage or configuration: an unknown option, key, strategy or run."""

    exit_code = 2


class DataError(QtradeError):
    """Data that are missing, unreadable or not fit for use."""

    exit_code = 3


class IntegrityError(QtradeError):
    """An integrity gate failed: a purge, a scaler, a fill or a look-ahead check."""

    exit_code = 4


class PartialError(QtradeError):
    """Some symbols or strategies failed; what worked is saved."""

    exit_code = 5


def nearest(word: str, known: Iterable[str]) -> str:
    """Suggest the known word closest to `word`, or list what is known.

    Returns
    -------
    str
        ``"did you mean 'x'?"``, or ``"known: a, b, c"`` when nothing is close.
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"

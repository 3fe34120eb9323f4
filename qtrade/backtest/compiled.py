"""Compiling loops, and somewhere to keep what was compiled, also where files are read-only."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import numba

Given = ParamSpec("Given")
Made = TypeVar("Made")

_VARIABLE = "NUMBA_CACHE_DIR"


def compiled(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """Compile a loop over plain arrays; other threads run on while it runs, and the next process need not compile."""
    provide_cache()
    loop: Callable[Given, Made] = numba.njit(cache=True, nogil=True)(function)
    return loop


def provide_cache() -> None:
    """Let Numba keep what it compiles in a temporary folder if it could keep it nowhere else.

    Numba refuses to compile where neither its user's folder nor a home can be written to, as in a container of
    read-only files. vectorbt, which compiles when it is imported, comes after this.
    """
    package = Path(__file__).parent
    places = (package / "__pycache__", package, Path("~/.cache").expanduser(), Path.home())
    if _VARIABLE in os.environ or any(place.is_dir() and os.access(place, os.W_OK) for place in places):
        return
    os.environ[_VARIABLE] = tempfile.mkdtemp(prefix="qtrade-numba-")
    read_again: Callable[[], None] = numba.config.reload_config
    read_again()  # Numba may have been imported long ago

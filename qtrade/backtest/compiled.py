"""Somewhere to keep compiled code, also where neither qtrade's folder nor a home can be written to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def provide_cache() -> None:
    """Let Numba keep what it compiles in a temporary folder if it could keep it nowhere else.

    Numba refuses to compile then, as in a container whose files are read-only. To be called before its import.
    """
    places = (Path(__file__).parent / "__pycache__", Path(__file__).parent, Path("~/.cache").expanduser(), Path.home())
    if "NUMBA_CACHE_DIR" not in os.environ and not any(
        place.is_dir() and os.access(place, os.W_OK) for place in places
    ):
        os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(prefix="qtrade-numba-")

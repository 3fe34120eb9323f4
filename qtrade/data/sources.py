"""The places that bars come from, by name."""

from __future__ import annotations

from collections.abc import Callable

from qtrade.data.config import DataConfig
from qtrade.data.importer import File
from qtrade.data.raw import Source
from qtrade.data.sample import Sample
from qtrade.data.synthetic import Synthetic
from qtrade.data.yahoo import Yahoo
from qtrade.errors import UsageError, nearest
from qtrade.progress import Progress

SOURCES: dict[str, Callable[[DataConfig, Progress], Source]] = {
    "sample": lambda config, progress: Sample(),
    "yahoo": lambda config, progress: Yahoo(config.yahoo, progress=progress),
    "file": lambda config, progress: File(config.file),
    "synthetic": lambda config, progress: Synthetic(config.synthetic),
}
"""How each source is made."""


def make_source(config: DataConfig, progress: Progress) -> Source:
    """Make the source that a configuration names.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if config.source not in SOURCES:
        raise UsageError(f"there is no source '{config.source}'", fix=nearest(config.source, SOURCES))
    return SOURCES[config.source](config, progress)

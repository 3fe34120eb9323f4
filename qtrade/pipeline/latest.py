"""The newest bars that the cache holds for a trained run, unless newer ones should be there by now."""

from __future__ import annotations

import shlex
from pathlib import Path

import pandas as pd

from qtrade.data.cache import Cache
from qtrade.data.config import DataConfig
from qtrade.data.freshness import Freshness, freshness
from qtrade.data.load import load_bars
from qtrade.errors import DataError
from qtrade.types import Bars

LATE = 1
"""Complete bars whose absence makes a forecast from the newest bars a forecast of the past."""
_ENDED = {
    "sample": "the embedded sample ends in 2018 and nothing can bring newer bars",
    "synthetic": "a synthetic market ends where it was made to end",
}


def newest_bars(data: DataConfig, cache: Cache, now: pd.Timestamp) -> Bars:
    """Load the newest bars of a run's symbols, whatever end and versions it was made with.

    Raises
    ------
    DataError
        If the cache has none, or `LATE` or more bars that are complete by `now` are missing.
    """
    loaded = load_bars(data.model_copy(update={"end": None, "versions": {}}), cache)
    found = freshness(loaded.bars, now)
    if found.missing >= LATE:
        raise _late(data, cache, found, [note for note in loaded.notes if " ends at " in note])
    return loaded.bars


def _late(data: DataConfig, cache: Cache, found: Freshness, notes: list[str]) -> DataError:
    """Say which bars are missing, and how to get them."""
    bars = "1 bar" if found.missing == 1 else f"{found.missing:,} bars"
    reasons = [
        f"the newest bar in the cache is of {written(found.newest)}, it is {written(found.now)} now, and {bars} "
        f"of {data.interval} {'has' if found.missing == 1 else 'have'} been completed since",
        *notes,
    ]
    if data.source in _ENDED:
        reasons.append(_ENDED[data.source])
        fix = "leave out --latest to forecast from the run's own bars, or train a run on a market that goes on"
    else:
        fix = f"`{_fetching(data, cache.root)}`, then ask again"
        if data.source == "file":
            fix = f"put newer bars into {data.file.path or 'the file'}, then {fix}"
    return DataError("the newest bars are too old to forecast from", why="; ".join(reasons), fix=fix)


def _fetching(data: DataConfig, cache: Path) -> str:
    """Return the command that brings a run's bars up to date."""
    words = ["qtrade", "fetch", *data.symbols, "--source", data.source, "--interval", data.interval]
    file = data.file
    if data.source == "file":
        named = {"--path": file.path, "--tz": file.tz, "--calendar": file.calendar}
        words += [word for option, value in named.items() if value is not None for word in (option, str(value))]
        if file.columns:
            words += ["--columns", ",".join(f"{ours}={theirs}" for ours, theirs in file.columns.items())]
    for check in data.accept:
        words += ["--accept", check]
    return shlex.join([*words, *(["--cache", str(cache)] if cache != Path("data_cache") else [])])


def written(moment: pd.Timestamp) -> str:
    """Write a session as its date, and a moment within a day with its time."""
    return f"{moment:%Y-%m-%d}" if moment == moment.normalize() else f"{moment:%Y-%m-%d %H:%M} UTC"

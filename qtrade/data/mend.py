"""Doing what accepting the errors in some bars means, bar by bar and with nothing known of later ones."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pandas as pd

from qtrade.data.checks import CHECKS, check_names, count_bars
from qtrade.data.defects import bad_dividends, bad_volume, crossed, sound
from qtrade.data.quality import errors
from qtrade.data.raw import Finding, RawBars
from qtrade.errors import DataError

_MENDED = {"dividends", "future", "ohlc", "price", "volume"}
"""Errors that accepting does something about; the others are kept as they are."""


def mend(
    raw: RawBars, accept: Collection[str], *, now: pd.Timestamp | None = None
) -> tuple[RawBars, tuple[Finding, ...]]:
    """Do what accepting the errors in some bars means.

    Parameters
    ----------
    accept
        Names of the errors that are accepted.

    Returns
    -------
    bars
        The bars as `CHECKS` says they are mended, bar by bar; `raw` itself if there is nothing to do.
    accepted
        The errors that were found, all of them accepted.

    Raises
    ------
    DataError
        If an error is found that is not accepted, or no bar is left.
    UsageError
        If no error has such a name.
    """
    accepted = check_names(accept)
    now = now if now is not None else pd.Timestamp.now("UTC")
    found = errors(raw, now=now)
    refused = [one for one in found if one.check not in accepted]
    if refused:
        raise _refusal(raw, refused)
    if not {one.check for one in found} & _MENDED:
        return raw, found
    frame = sound(raw, now)
    if len(frame) == 0:
        raise DataError(
            f"{raw.symbol}: all bars lack a price or lie in the future", fix="choose other dates, or another source"
        )
    frame = frame.copy()
    frame.loc[bad_dividends(frame), "dividends"] = 0.0
    frame.loc[bad_volume(frame), "volume"] = 0.0
    enclosed = ~crossed(frame)
    for name, widest in (("high", np.maximum), ("low", np.minimum)):
        enclosing = widest(widest(frame["open"], frame["close"]), frame[name])
        frame[name] = frame[name].where(enclosed, enclosing)
    return replace(raw, frame=frame), found


def _refusal(raw: RawBars, found: list[Finding]) -> DataError:
    """Name every error that was not accepted, and what to type about it."""
    listed = "; ".join(
        f"{one.check} ({count_bars(one.count)}, the first at {one.first}: {one.example})" for one in found
    )
    names = [one.check for one in found]
    command = f"qtrade data verify {shlex.quote(raw.symbol)} --source {raw.source} --interval {raw.interval}"
    consequences = {check.name: check.accepting for check in CHECKS}
    means = "".join(f"\n       {name}: {consequences.get(name, '')}" for name in names)
    accept = " ".join(f"--accept {name}" for name in names)
    return DataError(
        f"{raw.symbol}: the bars have errors: {listed}",
        fix=f"look at it: `{command}`; if it is right, add {accept}, which means{means}",
    )

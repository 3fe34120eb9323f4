"""How two answers about one history go together: added to, or rewritten.

Vendors rewrite the past: a split divides every price before it, a correction replaces a bar. So a new answer is asked
to overlap what is stored. Where the two agree, what is stored stays as it is, to the last bit, and only newer and older
bars are added. Where they do not, the stored history cannot be trusted and the vendor is asked for all of it again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from qtrade.data.raw import RAW_FIELDS, Finding, RawBars, adjust
from qtrade.errors import QtradeError
from qtrade.types import PRICE_FIELDS, Float64Array

# Vendors send prices in single precision and divide them by splits; two answers differ by that much without meaning it.
_PRICE_NOISE = 1e-5
_VOLUME_NOISE = 1e-3
# A whole history that was rescaled by a split: all bars by one factor, to within the rounding of cents.
_SCALE_NOISE = 2e-3
# The rest may have been corrected one by one.
_SHARE_THAT_FITS = 0.95


class RewrittenError(QtradeError):
    """The vendor's history is no longer the one that is stored.

    Attributes
    ----------
    bars
        How many bars differ.
    """

    def __init__(self, bars: int) -> None:
        super().__init__(f"{bars} bars are no longer what they were", fix="ask for the whole history")
        self.bars = bars


def extend(stored: RawBars, fresh: RawBars) -> RawBars:
    """Add to `stored` what `fresh` has before and after it; what both have must agree.

    Raises
    ------
    RewrittenError
        If a bar that both should have is missing from one or differs.
    """
    differing = int(_differs(stored, fresh).sum())
    if (stored.calendar, stored.exchange_zone) != (fresh.calendar, fresh.exchange_zone):
        differing = max(differing, 1)
    if differing:
        raise RewrittenError(differing)
    index, old = fresh.frame.index, stored.frame.index
    before, after = fresh.frame[index < old[0]], fresh.frame[index > old[-1]]
    findings = [found for one in fresh.findings if (found := _outside(one, old)) is not None]
    if len(after) and index[0] > old[-1]:
        findings.append(_unverified(stored, fresh))
    return replace(
        stored,
        frame=pd.concat([before, stored.frame, after]) if len(before) or len(after) else stored.frame,
        findings=_merged(stored.findings, tuple(findings)),
        facts={**stored.facts, **fresh.facts, **_since(stored, fresh)},
    )


def rebuild(stored: RawBars, whole: RawBars) -> RawBars:
    """Take `whole`, all that the vendor still gives, and what `stored` has from before, if it can be made to fit.

    Older bars fit if all that both have differ by one factor, as after a split: then they are divided by it, and their
    volume multiplied. Otherwise they are left behind, in the vintage, and a finding says so.
    """
    older = stored.frame[stored.frame.index < whole.frame.index[0]]
    gone = stored.frame.index[stored.frame.index >= whole.frame.index[0]].difference(whole.frame.index)
    if len(gone):
        told = "bars that the vendor took back; the former version holds them"
        finding = Finding("history_dropped", "warning", len(gone), str(gone[0]), str(gone[-1]), told)
        whole = replace(whole, findings=_merged(whole.findings, (finding,)))
    if len(older) == 0:
        return whole
    factor = _factor(stored, whole)
    if factor is None or (stored.calendar, stored.exchange_zone) != (whole.calendar, whole.exchange_zone):
        finding = Finding(
            "history_dropped",
            "warning",
            len(older),
            str(older.index[0]),
            str(older.index[-1]),
            "bars that the vendor rewrote since and no longer gives; the former version holds them",
        )
        return replace(whole, findings=_merged(whole.findings, (finding,)))
    scaled = older.copy()
    for name in (*PRICE_FIELDS, "dividends"):
        scaled[name] *= factor
    scaled["volume"] /= factor
    return replace(
        whole,
        frame=pd.concat([scaled, whole.frame]),
        findings=_merged(
            tuple(one for one in stored.findings if pd.Timestamp(one.last) < whole.frame.index[0]), whole.findings
        ),
        facts={**stored.facts, **whole.facts},
    )


@dataclass(frozen=True)
class Moved:
    """How far a history moved between two versions of it.

    Attributes
    ----------
    shared
        Bars that both have.
    added, removed
        Bars that only the later, or only the earlier one has.
    changed
        Shared bars with another number in them.
    returns
        Shared bars whose adjusted log return moved by more than a hundredth of a basis point.
    largest
        Largest of these moves, in basis points, and ...
    at
        ... the stamp of its bar; empty if there is none.
    """

    shared: int
    added: int
    removed: int
    changed: int
    returns: int
    largest: float
    at: str


def compare(before: RawBars, after: RawBars) -> Moved:
    """Tell how far returns moved from one version of a history to a later one."""
    shared = before.frame.index.intersection(after.frame.index)
    changed = _unequal(before.frame.loc[shared], after.frame.loc[shared], price=0.0, volume=0.0)
    moves = np.abs(_returns(after, shared) - _returns(before, shared)) * 1e4
    moves[shared.isin([before.frame.index[0], after.frame.index[0]])] = 0.0  # a first bar has no return
    worst = int(np.argmax(moves)) if len(moves) else 0
    largest = float(moves[worst]) if len(moves) else 0.0
    return Moved(
        shared=len(shared),
        added=len(after.frame) - len(shared),
        removed=len(before.frame) - len(shared),
        changed=int(changed.sum()),
        returns=int((moves > 0.01).sum()),
        largest=largest,
        at=str(shared[worst]) if largest > 0 else "",
    )


def _outside(finding: Finding, stored: pd.Index) -> Finding | None:
    """Keep of a finding what is not about stored stamps; of one that is about both, that there is one more."""
    first, last = pd.Timestamp(finding.first), pd.Timestamp(finding.last)
    if first > stored[-1] or last < stored[0]:
        return finding
    if last > stored[-1]:
        return replace(finding, count=1, first=finding.last)
    return replace(finding, count=1, last=finding.first) if first < stored[0] else None


def _since(stored: RawBars, fresh: RawBars) -> dict[str, Any]:
    """Since when bars were asked for, in either; None means that all were."""
    both = [raw.facts["since"] for raw in (stored, fresh) if "since" in raw.facts]
    if not both:
        return {}
    return {"since": None if None in both else min(both, key=pd.Timestamp)}


def _differs(stored: RawBars, fresh: RawBars) -> Float64Array:
    """Whether each stamp that both should have is missing from one of them or has other numbers there."""
    old, new = stored.frame, fresh.frame
    first, last = max(old.index[0], new.index[0]), min(old.index[-1], new.index[-1])
    old, new = (frame[(frame.index >= first) & (frame.index <= last)] for frame in (old, new))
    both = old.index.intersection(new.index)
    alone = len(old.index.union(new.index)) - len(both)
    unequal = _unequal(old.loc[both], new.loc[both], price=_PRICE_NOISE, volume=_VOLUME_NOISE)
    return np.concatenate([unequal, np.ones(alone)])


def _unequal(one: pd.DataFrame, other: pd.DataFrame, *, price: float, volume: float) -> Float64Array:
    """Whether rows differ by more than a relative tolerance in any number."""
    unequal = np.zeros(len(one))
    for name in RAW_FIELDS:
        first, second = one[name].to_numpy(dtype=np.float64), other[name].to_numpy(dtype=np.float64)
        close = np.isclose(first, second, rtol=volume if name == "volume" else price, atol=0.0, equal_nan=True)
        unequal = np.maximum(unequal, ~close)
    return unequal


def _factor(stored: RawBars, whole: RawBars) -> float | None:
    """Find the one factor between the prices of the bars that both have; None if there is none."""
    both = stored.frame.index.intersection(whole.frame.index)
    if len(both) == 0:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = whole.frame.loc[both, "close"].to_numpy() / stored.frame.loc[both, "close"].to_numpy()
    ratios = ratios[np.isfinite(ratios) & (ratios > 0)]
    if len(ratios) == 0:
        return None
    factor = float(np.median(ratios))
    if not np.isfinite(factor) or (np.abs(ratios / factor - 1) < _SCALE_NOISE).mean() < _SHARE_THAT_FITS:
        return None
    return 1.0 if abs(factor - 1) < _SCALE_NOISE else factor


def _returns(raw: RawBars, stamps: pd.Index) -> Float64Array:
    """Compute adjusted log returns at `stamps`; 0 where there are none."""
    try:
        close = adjust(raw.frame)["close"]
    except QtradeError:
        close = raw.frame["close"]
    with np.errstate(divide="ignore", invalid="ignore"):
        moves = np.diff(np.log(close.to_numpy()), prepend=np.nan)
    return np.asarray(np.nan_to_num(moves[raw.frame.index.get_indexer(stamps)], posinf=0.0, neginf=0.0))


def _unverified(stored: RawBars, fresh: RawBars) -> Finding:
    """Say that two stretches of bars meet without sharing one."""
    return Finding(
        "unverified_join",
        "warning",
        1,
        str(fresh.frame.index[0]),
        str(fresh.frame.index[0]),
        f"bars until {stored.frame.index[-1]} and from here on came apart and share none: "
        "whether the earlier ones were rewritten in between cannot be told",
    )


def _merged(one: tuple[Finding, ...], other: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Join the findings of two stretches, one of each kind."""
    found = {finding.check: finding for finding in one}
    for finding in other:
        known = found.get(finding.check)
        if known is None or known == finding:
            found[finding.check] = finding
        else:
            early, late = sorted((known, finding), key=lambda each: pd.Timestamp(each.first))
            last = max(known.last, finding.last, key=pd.Timestamp)
            found[finding.check] = replace(early, count=early.count + late.count, last=last)
    return tuple(found.values())

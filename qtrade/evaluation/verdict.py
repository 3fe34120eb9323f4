"""The first line of a report: the forecasts beat a naive one, or lose to it, or the data cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import qtrade.notebook_html as html
from qtrade.evaluation.scores import Comparison
from qtrade.evaluation.significance import holm
from qtrade.evaluation.skill import LEVEL, MIN_LABELS, HorizonSkill, answers, better_than_both

Headline = Literal["PASS", "WARN", "INCONCLUSIVE", "FAIL", "INVALID"]
"""Of a run; that of the forecasts alone is PASS, FAIL or INCONCLUSIVE."""


@dataclass(frozen=True)
class Verdict:
    """A headline, the one sentence that explains it, the evidence, and the horizon that decided, if one did."""

    headline: Headline
    line: str
    reasons: tuple[str, ...]
    horizon: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "headline": self.headline,
            "line": self.line,
            "reasons": list(self.reasons),
            "horizon_bars": self.horizon,
        }

    def _repr_html_(self) -> str:
        return html.piece(html.verdict(self.headline, self.line), *map(html.paragraph, self.reasons))


def verdict(skill: Sequence[HorizonSkill]) -> Verdict:
    """Judge the forecasts of one model (gate G2: skill against both naive forecasts).

    PASS
        At some horizon the model beats "no change" and "drift" alike at 5 %, and the 95 % interval of its IC lies
        above zero. The family is one test per horizon, "better than both", whose p-value is the larger of the two;
        Holm adjusts these.
    FAIL
        No horizon passes, and at some horizon the model is worse than "no change" or worse than "drift" at 5 %. There
        are two families, one per naive forecast, each of one test per horizon; Holm adjusts each on its own. Only one
        tail of these two-sided tests can fail a model, about half of each 5 %, so both families together fail a model
        that is no worse than the naive forecasts in at most about 5 % of all cases.
    INCONCLUSIVE
        Neither; the line then names the smallest IC that these data could have revealed, and says so where the IC is
        positive all the same.
    """
    if not skill:
        return Verdict(
            headline="INCONCLUSIVE",
            line="The test period is too short to judge any horizon: "
            f"it holds fewer than {MIN_LABELS} outcomes that do not overlap.",
            reasons=(),
        )
    judged = list(zip(skill, answers(skill), strict=True))
    better = [one for one, answer in judged if answer == "PASS"]
    worse = [one for one, answer in judged if answer == "FAIL"]
    reasons = tuple(_reason(one, p) for one, p in zip(skill, better_than_both(skill), strict=True))
    if better:
        best = max(better, key=lambda one: one.vs_best.r2)
        line = f"The forecasts beat both naive forecasts {_bars(better)} ahead: {_error(best, best.vs_best, better)}"
        if worse:
            line += f", but {_bars(worse)} ahead they are worse than a naive one"
        return Verdict("PASS", f"{line}.", reasons, best.horizon)
    if worse:
        losses = [
            (one, comparison)
            for one in worse
            for comparison in (one.vs_zero, one.vs_drift)
            if comparison.p_holm < LEVEL and comparison.r2 < 0
        ]
        worst, comparison = min(losses, key=lambda loss: loss[1].r2)
        line = f"The forecasts are worse than a naive one {_bars(worse)} ahead: {_error(worst, comparison, worse)}"
        return Verdict("FAIL", f"{line}.", reasons, worst.horizon)
    if all(one.correlation is None for one in skill):
        line = "These forecasts never vary, so there is nothing to judge: they are a naive forecast themselves."
        return Verdict("INCONCLUSIVE", line, reasons)
    chances = holm([1.0 if one.correlation is None else one.correlation.p for one in skill])
    leaning = [
        one
        for one, p in zip(skill, chances, strict=True)
        if p < LEVEL and one.correlation is not None and one.correlation.ic > 0
    ]
    start = (
        f"The forecasts lean the right way {_bars(leaning)} ahead, but their errors do not clearly beat both naive ones"
        if leaning
        else "These data cannot tell the forecasts from luck, which is neither a yes nor a no"
    )
    line = f"{start}; a correlation of forecast and outcome (IC) below {_range(skill)} would probably go unseen here."
    return Verdict("INCONCLUSIVE", line, reasons)


def _error(one: HorizonSkill, comparison: Comparison, among: Sequence[HorizonSkill]) -> str:
    where = f"at {_bars([one])} " if len(among) > 1 else ""
    size = f"{abs(comparison.r2):.1%} {'smaller' if comparison.r2 > 0 else 'larger'}"
    naive = "no change" if comparison is one.vs_zero else "the average drift"
    return f"{where}their squared error is {size} than when assuming {naive}, more than chance explains"


def _range(skill: Sequence[HorizonSkill]) -> str:
    """Say what could have been seen at the sharpest horizon, and at the bluntest."""
    low, high = (pick(skill, key=lambda one: one.detectable_ic) for pick in (min, max))
    text = f"{low.detectable_ic:.2f} at {_bars([low])}"
    return text if low is high else f"{text}, or {high.detectable_ic:.2f} at {_bars([high])},"


def _reason(one: HorizonSkill, p: float) -> str:
    text = f"{_bars([one])} ahead: R² {_r2(one.vs_zero)} against no change, {_r2(one.vs_drift)} against drift"
    if one.vs_best.r2 > 0:
        text += f"; better than both with adjusted p {_chance(p)}"
    if one.correlation is None:
        return f"{text}; the forecasts never vary, so they have no IC"
    ic = one.correlation
    return f"{text}; IC {ic.ic:+.3f} ({ic.low:+.3f} to {ic.high:+.3f}), smallest visible {one.detectable_ic:.2f}"


def _r2(found: Comparison) -> str:
    interval = f"95% interval {found.r2_low:+.2%} to {found.r2_high:+.2%}"
    return f"{found.r2:+.2%} ({interval}, adjusted p {_chance(found.p_holm)})"


def _chance(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "below 0.001"


def _bars(skill: Sequence[HorizonSkill]) -> str:
    """Name horizons in words: ``1 bar``, ``6 and 24 bars``."""
    *others, last = [str(one.horizon) for one in skill]
    text = f"{', '.join(others)} and {last}" if others else last
    return f"{text} bar" if text == "1" else f"{text} bars"

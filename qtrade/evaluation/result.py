"""Everything an evaluation found, in one value: what the report draws and ``evaluation.json`` keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

import qtrade.notebook_html as html
from qtrade.backtest.statistics import ShiftNull
from qtrade.evaluation.by_regime import FoldHeatmap, RegimeSkill
from qtrade.evaluation.coverage import Coverage
from qtrade.evaluation.distribution import HorizonDistribution
from qtrade.evaluation.gates import Gate
from qtrade.evaluation.regimes import RegimeMix, Regimes
from qtrade.evaluation.shift import FeatureShift, ShiftSummary
from qtrade.evaluation.skill import HorizonSkill
from qtrade.evaluation.stability import Stability
from qtrade.evaluation.trading import TradingEvidence
from qtrade.evaluation.unit_roots import UnitRoot
from qtrade.evaluation.verdict import Verdict


@dataclass(frozen=True, eq=False)
class RegimeStudy:
    """Forecasts and the main strategy, regime by regime.

    Attributes
    ----------
    name, horizon
        Of the regimes, and of the forecasts that are compared.
    skill
        One per regime.
    mix
        Shares and transitions of the first training period and of the whole test period.
    novelty
        Share of test bars in regimes that hold under 5 % of the training bars of the model in use; None if unknown.
    heatmap
        R2 of each fold in each regime.
    regimes
        The regime of every bar.
    """

    name: str
    horizon: int
    skill: tuple[RegimeSkill, ...]
    mix: RegimeMix
    novelty: float | None
    heatmap: FoldHeatmap
    regimes: Regimes

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "name": self.name,
            "horizon_bars": self.horizon,
            "novel_test_bars_share": self.novelty,
            "regimes": [one.to_dict() for one in self.skill],
            "mix_of_first_training_and_test": self.mix.to_dict(),
            "r2_by_fold": self.heatmap.to_dict(),
            "not_told": {str(column): why for column, why in self.regimes.refused.items()},
        }


@dataclass(frozen=True, eq=False)
class ShiftStudy:
    """How the features of the test periods differ from those of training."""

    summary: ShiftSummary
    per_fold: tuple[tuple[FeatureShift, ...], ...]
    unit_roots: tuple[UnitRoot, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "summary": self.summary.to_dict(),
            "by_fold": [[one.to_dict() for one in fold] for fold in self.per_fold],
            "unit_roots": [one.to_dict() for one in self.unit_roots],
        }


@dataclass(frozen=True)
class CoverageByRegime:
    """Share of outcomes that one kind of interval held in one regime, with its 95 % interval."""

    method: str
    regime: str
    share: float
    low: float
    high: float
    enough: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "method": self.method,
            "regime": self.regime,
            "coverage_share": self.share,
            "low95": self.low,
            "high95": self.high,
            "enough_data": self.enough,
        }


@dataclass(frozen=True, eq=False)
class Trading:
    """The evidence about the run's first strategy, and the shifted positions it is compared with."""

    strategy: str
    evidence: TradingEvidence
    null: ShiftNull


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What is known of a run.

    Attributes
    ----------
    verdict, gates
        The headline, and the nine gates behind it in order.
    skill
        Per model and horizon; the run's own model comes first.
    distribution
        CRPS and pinball losses of the run's model per horizon.
    stability, break_when
        Transfer, staleness, breaks; and the date of the break in words.
    stride, symbols
        Every how many origins models were asked about other periods than their own, and about which symbols.
    cadence
        Suggested bars between two trainings, as plain values.
    regimes
        The default grid first; empty where too little is known.
    shift
        Of features.
    intervals
        Per horizon and method.
    interval_coverage
        Of each method in each regime of the default grid, at its horizon.
    optimism
        Plain values of the waterfall, of an earlier full evaluation or this one; None where there was none.
    trading
        None where nothing was backtested.
    backtests
        Every backtest of the run's account, and buy-and-hold beside it, as plain values.
    train_ends
        Stamps of the last bar that each model of the transfer matrix knows, where its test period begins.
    index
        Stamps of the run's bars, for whatever is told by position.
    """

    verdict: Verdict
    gates: tuple[Gate, ...]
    skill: Mapping[str, tuple[HorizonSkill, ...]]
    distribution: tuple[HorizonDistribution, ...]
    stability: Stability
    break_when: str
    stride: int
    symbols: tuple[str, ...]
    cadence: Mapping[str, Any]
    regimes: tuple[RegimeStudy, ...]
    shift: ShiftStudy
    intervals: Mapping[int, Mapping[str, Coverage]]
    interval_coverage: tuple[CoverageByRegime, ...]
    optimism: Mapping[str, Any] | None
    trading: Trading | None
    index: pd.DatetimeIndex
    backtests: tuple[Mapping[str, Any], ...] = ()
    train_ends: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return every number of the report as plain values, with units in the names."""
        traded = self.trading
        return {
            "verdict": self.verdict.to_dict(),
            "gates": [gate.to_dict() for gate in self.gates],
            "skill": {model: [one.to_dict() for one in values] for model, values in self.skill.items()},
            "distribution": [one.to_dict() for one in self.distribution],
            "stability": {
                **self.stability.to_dict(),
                "break_in_words": self.break_when,
                "break_stamps": self._stamps(),
            },
            "asked": {
                "every_origins": self.stride,
                "symbols": list(self.symbols),
                "models_and_periods": list(self.train_ends),
            },
            "retraining": dict(self.cadence),
            "regimes": [one.to_dict() for one in self.regimes],
            "feature_shift": self.shift.to_dict(),
            "intervals": {
                str(horizon): {method: one.to_dict() for method, one in methods.items()}
                for horizon, methods in self.intervals.items()
            },
            "interval_coverage_by_regime": [one.to_dict() for one in self.interval_coverage],
            "optimism": None if self.optimism is None else dict(self.optimism),
            "backtests": [dict(one) for one in self.backtests],
            "trading": None
            if traded is None
            else {"strategy": traded.strategy, **traded.evidence.to_dict(), "shift_null": traded.null.to_dict()},
        }

    def __repr__(self) -> str:
        return f"Evaluation({self.verdict.headline}: {self.verdict.line})"

    def _repr_html_(self) -> str:
        rows = [(f"{gate.code} {gate.title}", gate.grade, gate.reasons[0]) for gate in self.gates]
        return html.piece(
            html.verdict(self.verdict.headline, self.verdict.line),
            html.table(("gate", "grade", "what was found"), rows),
        )

    def _stamps(self) -> dict[str, str] | None:
        """Say when the likeliest break was, and the ends of its 95 % range."""
        change = self.stability.change
        if change is None:
            return None
        places = {"likeliest": change.bar, "first95": change.first, "last95": change.last}
        return {name: str(self.index[place]) for name, place in places.items()}

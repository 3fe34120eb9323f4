"""Gate G8: whether a backtest is evidence, or what luck, many trials, thin costs or one bar of haste would show too."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from qtrade.backtest.costs import BASIS_POINT, BacktestConfig
from qtrade.backtest.metrics import metrics
from qtrade.backtest.statistics import (
    ShiftNull,
    backtest_overfitting,
    circular_shift_null,
    deflated_sharpe,
    fill_to_fill,
    min_track_record,
    probabilistic_sharpe,
)
from qtrade.evaluation.plain import plain
from qtrade.types import BacktestResult, Bars, Float64Array

# With fewer variants the probability of backtest overfitting says nothing.
MIN_VARIANTS = 10

Grade = Literal["PASS", "WARN", "FAIL", "NOT MEASURED"]
_SEVERITY: tuple[Grade, ...] = ("FAIL", "WARN", "NOT MEASURED", "PASS")


@dataclass(frozen=True)
class TradingEvidence:
    """What speaks for and against one backtest. None means not measured, never zero.

    Attributes
    ----------
    trades
        Number of fills; without any, nothing else is measured.
    years
        Length of the backtest.
    sharpe, sharpe_low, sharpe_high
        Annualised net Sharpe ratio and its 95 % interval.
    psr
        Probability that the true Sharpe ratio is above zero (Bailey & López de Prado 2012).
    dsr, trials
        Probability that it is above what the luckiest of so many useless trials would show (Bailey & López de Prado
        2014), and the number of trials.
    min_track_record_years
        Years of such returns that would show a Sharpe ratio above zero at 95 %; infinite where it is not above.
    shift_p
        p-value of "the timing is worth nothing": see `circular_shift_null`.
    breakeven_over_cost
        Cost that would eat the gross profit, as a multiple of the assumed cost; negative after a gross loss. None
        where no cost was assumed.
    delay_retention
        Sharpe ratio when every order is filled one bar later, as a share of the Sharpe ratio. None where the latter
        is not positive.
    pbo, variants
        Probability of backtest overfitting, and the number of different variants it was estimated from; None with
        fewer than `MIN_VARIANTS`.
    """

    trades: int
    years: float
    sharpe: float | None
    sharpe_low: float | None
    sharpe_high: float | None
    psr: float | None
    dsr: float | None
    trials: int
    min_track_record_years: float | None
    shift_p: float | None
    breakeven_over_cost: float | None
    delay_retention: float | None
    pbo: float | None
    variants: int

    def to_dict(self) -> dict[str, int | float | None]:
        """Return plain values for JSON, which has neither NaN nor infinity: such a one is None."""
        names = {
            "sharpe": "sharpe_annual",
            "sharpe_low": "sharpe_annual_low95",
            "sharpe_high": "sharpe_annual_high95",
            "psr": "psr_probability",
            "dsr": "dsr_probability",
            "delay_retention": "delay_retention_share",
            "pbo": "pbo_share",
        }
        return {names.get(name, name): plain(value) for name, value in asdict(self).items()}


def trading_evidence(
    result: BacktestResult,
    bars: Bars,
    account: BacktestConfig,
    *,
    delayed: BacktestResult | None = None,
    trials: int,
    trial_variance: float | None = None,
    variants: Float64Array | None = None,
    min_shift: int = 24,
    draws: int = 500,
    seed: int,
) -> tuple[TradingEvidence, ShiftNull]:
    """Collect the evidence about one backtest.

    Parameters
    ----------
    result
        Backtest of the T bars of the test period.
    bars
        The bars that were traded, T of them.
    account
        Delay and costs behind `result`.
    delayed
        The same weights with a delay one bar longer, on the same bars.
    trials
        Strategies and settings tried until this one was chosen, itself included: the length of the trial ledger.
    trial_variance
        Variance of their Sharpe ratios *per bar* (that of annualised ones divided by the bars in a year); None where
        unknown, see `deflated_sharpe`.
    variants
        (T, N) net returns per bar of the variants tried. Columns that repeat another count once.
    min_shift, draws, seed
        Of `circular_shift_null`; `min_shift` is at least the horizon of the forecasts.

    Returns
    -------
    TradingEvidence, ShiftNull
        The evidence, and the shifts behind its `shift_p`, for a figure.
    """
    periods = bars.periods_per_year
    measured = metrics(result, periods)
    net = result.net.to_numpy(dtype=np.float64)
    held, earned = fill_to_fill(bars, result.decided, account)
    # What was paid on average, fixed and least fees included.
    paid = measured.paid_cost_bps
    cost = paid * BASIS_POINT if paid > 0 else account.costs.fees + account.costs.slippage
    shifts = circular_shift_null(held, earned, cost, min_shift=min_shift, draws=draws, seed=seed)
    different = np.empty((len(net), 0)) if variants is None else np.unique(variants, axis=1)
    enough = different.shape[1] >= MIN_VARIANTS
    evidence = TradingEvidence(
        trades=measured.trades,
        years=measured.years,
        sharpe=plain(measured.sharpe),
        sharpe_low=plain(measured.sharpe_low),
        sharpe_high=plain(measured.sharpe_high),
        psr=plain(probabilistic_sharpe(net)),
        dsr=plain(deflated_sharpe(net, trials=trials, variance=trial_variance)),
        trials=trials,
        min_track_record_years=_not_nan(min_track_record(net) / periods),
        shift_p=plain(shifts.p),
        breakeven_over_cost=plain(measured.breakeven_cost_bps / paid) if paid > 0 else None,
        delay_retention=None if delayed is None else retention(measured.sharpe, metrics(delayed, periods).sharpe),
        pbo=plain(backtest_overfitting(different)) if enough else None,
        variants=int(different.shape[1]),
    )
    return evidence, shifts


def retention(sharpe: float, delayed: float) -> float | None:
    """Return the share of a Sharpe ratio that is left when orders are filled one bar later; negative where it turns.

    None where the Sharpe ratio is not positive, so that there is nothing to keep, or where either is NaN.
    """
    return delayed / sharpe if sharpe > 0 and math.isfinite(delayed) else None


def gate(evidence: TradingEvidence) -> tuple[Grade, tuple[str, ...]]:
    """Grade the evidence about a backtest (gate G8).

    PASS
        DSR >= 0.95, shift p < 0.05, break-even over cost >= 2, retention >= 0.5 and PBO < 0.3. A PBO that was not
        measured does not stand in the way, because most users have one strategy; any other gap does.
    FAIL
        DSR < 0.90, shift p > 0.10, break-even over cost < 1, retention < 0.25 or PBO > 0.5: one is enough.
    NOT MEASURED
        The strategy never traded, or nothing is known.
    WARN
        Otherwise.

    Returns
    -------
    Grade, tuple of str
        The grade, and one sentence for each of the five checks, the worst first.
    """
    if evidence.trades == 0:
        return "NOT MEASURED", ("The strategy never traded, so there is nothing to judge.",)
    checks = (
        (_rising(evidence.dsr, enough=0.95, least=0.90), _dsr_reason(evidence)),
        (_falling(evidence.shift_p, enough=0.05, most=0.10), _shift_reason(evidence.shift_p)),
        (_rising(evidence.breakeven_over_cost, enough=2, least=1), _cost_reason(evidence.breakeven_over_cost)),
        (_rising(evidence.delay_retention, enough=0.5, least=0.25), _delay_reason(evidence)),
        (_falling(evidence.pbo, enough=0.3, most=0.5), _pbo_reason(evidence)),
    )
    grades = [grade for grade, _ in checks]
    reasons = tuple(reason for _, reason in sorted(checks, key=lambda check: _SEVERITY.index(check[0])))
    if all(grade == "NOT MEASURED" for grade in grades):
        return "NOT MEASURED", reasons
    if "FAIL" in grades:
        return "FAIL", reasons
    *needed, pbo = grades
    if all(grade == "PASS" for grade in needed) and pbo in ("PASS", "NOT MEASURED"):
        # What was not measured is not why it passed.
        return "PASS", tuple(reason for _, reason in sorted(checks, key=lambda check: check[0] != "PASS"))
    return "WARN", reasons


def _rising(value: float | None, *, enough: float, least: float) -> Grade:
    """Grade a number that should be high: from `enough` on it passes, below `least` it fails."""
    if value is None or math.isnan(value):
        return "NOT MEASURED"
    return "PASS" if value >= enough else "FAIL" if value < least else "WARN"


def _falling(value: float | None, *, enough: float, most: float) -> Grade:
    """Grade a number that should be low: below `enough` it passes, above `most` it fails."""
    if value is None or math.isnan(value):
        return "NOT MEASURED"
    return "PASS" if value < enough else "FAIL" if value > most else "WARN"


def _dsr_reason(evidence: TradingEvidence) -> str:
    number = plain(evidence.dsr)
    if number is None:
        return "Deflated Sharpe ratio not measured: the net returns do not vary, or hang on a handful of bars."
    trials = "a useless strategy" if evidence.trials == 1 else f"the luckiest of {evidence.trials} useless trials"
    text = f"The strategy is better than {trials} with probability {_exact(number, 0.90, 0.95)}"
    if evidence.sharpe is not None and evidence.sharpe_low is not None and evidence.sharpe_high is not None:
        interval = f"95% interval {evidence.sharpe_low:.2f} to {evidence.sharpe_high:.2f}"
        text += f" (Sharpe ratio {evidence.sharpe:.2f}, {interval}, over {evidence.years:.1f} years)"
    return f"{text}; 0.95 passes, below 0.90 fails."


def _shift_reason(p: float | None) -> str:
    number = plain(p)
    if number is None:
        return "Timing not measured: the period is too short to hold the positions at other times."
    text = f"The same positions at other times do at least as well with probability {_exact(number, 0.05, 0.10)}"
    return f"{text}; below 0.05 passes, above 0.10 fails."


def _cost_reason(ratio: float | None) -> str:
    number = plain(ratio)
    if number is None:
        return "Room for costs not measured: no cost was assumed."
    if number <= 0:
        return f"The strategy earns nothing before costs: it breaks even at {number:.2f} times the assumed cost."
    text = f"Costs of {_exact(number, 1, 2)} times those assumed would eat the whole gross profit"
    return f"{text}; 2 times passes, below 1 fails."


def _delay_reason(evidence: TradingEvidence) -> str:
    number = plain(evidence.delay_retention)
    if number is not None:
        text = f"Filled one bar later, the strategy has {_exact(number, 0.25, 0.5)} times its Sharpe ratio"
        return f"{text}; 0.5 passes, below 0.25 fails."
    if evidence.sharpe is not None and evidence.sharpe <= 0:
        return f"Delay not measured: a Sharpe ratio of {evidence.sharpe:.2f} leaves nothing to keep."
    return "Delay not measured: there is no backtest with orders filled one bar later."


def _pbo_reason(evidence: TradingEvidence) -> str:
    number = plain(evidence.pbo)
    if number is None:
        return f"Overfitting not measured: that needs {MIN_VARIANTS} variants, and there are {evidence.variants}."
    text = f"The best of {evidence.variants} variants is below their median in other bars"
    return f"{text} with probability {_exact(number, 0.3, 0.5)}; below 0.3 passes, above 0.5 fails."


def _exact(value: float, *thresholds: float) -> str:
    """Write a number with two decimals, or as many more as keep it on its side of the thresholds."""
    for decimals in range(2, 8):
        text = f"{value:.{decimals}f}"
        if all((float(text) < one) == (value < one) and (float(text) > one) == (value > one) for one in thresholds):
            break
    return text


def _not_nan(value: float) -> float | None:
    return None if math.isnan(value) else value

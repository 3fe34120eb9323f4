"""Regimes of each bar, told from that bar and those before it.

A regime that knows the future makes any strategy look skilled: a smoothed Markov state, or a volatility tercile of the
whole sample, says today how the story ends. Every label here is what could be written down at the close of its bar.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtrade.evaluation.plain import plain_nested
from qtrade.types import Float64Array, IntArray

UNKNOWN = -1
# Test bars in a regime with less than this share of the training bars are new to the model.
NOVEL = 0.05

_STATES = {2: ("calm", "turbulent"), 3: ("calm", "normal", "turbulent")}
# A Markov model is refused where it has fewer bars to learn from than this,
_FIT_BARS = 250
# where a state holds less than this share of them, so that it describes single bars,
_RARE = 0.01
# or where one state's variance is less than this multiple of the next calmer one's, so that nothing tells them apart.
_DISTINCT = 1.5
# A state of variance zero makes the likelihood infinite, and more unchanged prices than this invite one.
_UNCHANGED = 0.1


@dataclass(frozen=True, eq=False)
class Regimes:
    """The regime of each bar of each symbol.

    Attributes
    ----------
    name
        What was looked at, such as ``volatility``.
    labels
        Name of each of the R regimes, in the order of their codes.
    codes
        (T, S) code 0 .. R - 1 of each bar, known at its close; -1 where it is not known yet.
    refused
        Why a symbol has no regime at any bar, by its column; empty for a method that always gives one.
    """

    name: str
    labels: tuple[str, ...]
    codes: IntArray
    refused: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.codes.ndim != 2:
            raise ValueError(f"codes must be (T, S), got shape {self.codes.shape}")
        if self.codes.size and not UNKNOWN <= self.codes.min() <= self.codes.max() < len(self.labels):
            raise ValueError(f"codes must lie in -1..{len(self.labels) - 1}")

    def shares(self, codes: IntArray) -> Float64Array:
        """(R,) share of each regime among the `codes` that are known; NaN without any."""
        counts = np.bincount(codes[codes != UNKNOWN], minlength=len(self.labels)).astype(np.float64)
        return np.asarray(counts / counts.sum() if counts.any() else np.full(len(counts), np.nan))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold: bars in each regime, all symbols together, and refusals."""
        counts = np.bincount(self.codes.ravel() + 1, minlength=len(self.labels) + 1)
        return {
            "name": self.name,
            "bars": dict(zip(self.labels, map(int, counts[1:]), strict=True)),
            "unknown_bars": int(counts[0]),
            "refused": {str(column): why for column, why in self.refused.items()},
        }


@dataclass(frozen=True, eq=False)
class RegimeMix:
    """How often each of R regimes occurred, and what followed it, in training and in test; all symbols together.

    Attributes
    ----------
    labels
        The regimes.
    train_share, test_share
        (R,) shares of the bars whose regime is known; NaN where there are none.
    train_transitions, test_transitions
        (R, R) share of the bars in regime i that were in j one bar later; NaN for a regime that did not occur.
    novelty
        Share of the test bars in regimes that hold less than 5 % of training; NaN where either has no known bar.
    """

    labels: tuple[str, ...]
    train_share: Float64Array
    test_share: Float64Array
    train_transitions: Float64Array
    test_transitions: Float64Array
    novelty: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; None for NaN."""
        return {
            "regimes": list(self.labels),
            "train_share": plain_nested(self.train_share),
            "test_share": plain_nested(self.test_share),
            "train_transition_share_per_bar": plain_nested(self.train_transitions),
            "test_transition_share_per_bar": plain_nested(self.test_transitions),
            "novelty_share": plain_nested(np.float64(self.novelty)),
        }


def volatility_terciles(returns: Float64Array, *, window: int = 20, history: int = 252) -> Regimes:
    """Rank the volatility of the last bars among all volatilities before, in thirds.

    Parameters
    ----------
    returns
        (T, S) log returns per bar; NaN where there is none.
    window
        Bars over which the standard deviation is taken, the present one included; at least 2.
    history
        Earlier volatilities that must be known before a bar gets a regime; at least 1.

    Returns
    -------
    Regimes
        ``low volatility`` where less than a third of the earlier volatilities lie below the present one, ``high
        volatility`` where at least two thirds do; equal ones count half. Takes O(T log T) time for each symbol.
    """
    if window < 2 or history < 1:
        raise ValueError(f"window must be at least 2 and history at least 1, got {window} and {history}")
    volatility = _rolling_volatility(returns, window)
    codes = np.full(returns.shape, UNKNOWN, dtype=np.int64)
    for column, values in enumerate(volatility.T):
        known = np.nonzero(np.isfinite(values))[0]
        below, equal = _earlier_below(values[known])
        earlier = np.arange(len(known))[history:]
        tercile = 3 * (2 * below + equal)[history:] // (2 * earlier)
        codes[known[history:], column] = np.minimum(tercile, 2)
    return Regimes("volatility", ("low volatility", "middle volatility", "high volatility"), codes)


def trend(close: Float64Array, *, window: int = 200) -> Regimes:
    """Compare each close with the mean of the last `window` closes, its own included.

    Parameters
    ----------
    close
        (T, S) prices; NaN where there is none.
    window
        Bars of the simple moving average (SMA), at least 2.

    Returns
    -------
    Regimes
        ``above`` only where the close is strictly above: a price that does not move is not in an uptrend.
    """
    if window < 2:
        raise ValueError(f"window must be at least 2, got {window}")
    codes = np.full(close.shape, UNKNOWN, dtype=np.int64)
    if len(close) >= window:
        present = close[window - 1 :]
        # Differences first: a price that does not move then is exactly at its mean, and no rounding says otherwise.
        excess = np.zeros_like(present)
        for lag in range(1, window):
            excess += present - close[window - 1 - lag : len(close) - lag]
        codes[window - 1 :] = np.where(np.isfinite(excess), excess > 0, UNKNOWN)
    return Regimes("trend", (f"below SMA{window}", f"above SMA{window}"), codes)


def drawdown(close: Float64Array, *, depth: float = 0.10) -> Regimes:
    """Tell bars that lie deeper than `depth` below the highest close so far from the others.

    Parameters
    ----------
    close
        (T, S) prices; NaN where there is none. The highest close is counted from the first row.
    depth
        Share of the highest close, between 0 and 1.
    """
    if not 0 < depth < 1:
        raise ValueError(f"depth must lie between 0 and 1, got {depth}")
    deep = close < (1 - depth) * np.fmax.accumulate(close, axis=0)
    codes = np.where(np.isfinite(close), deep, UNKNOWN).astype(np.int64)
    return Regimes("drawdown", (f"within {depth:.0%} of the high", f"over {depth:.0%} below the high"), codes)


def grid(first: Regimes, second: Regimes) -> Regimes:
    """Combine two classifications of the same bars into their product, such as volatility x trend.

    A bar is known where both are. The regimes of `second` vary fastest.
    """
    if first.codes.shape != second.codes.shape:
        raise ValueError(f"the two cover different bars: {first.codes.shape} and {second.codes.shape}")
    both = (first.codes != UNKNOWN) & (second.codes != UNKNOWN)
    codes = np.where(both, first.codes * len(second.labels) + second.codes, UNKNOWN)
    labels = tuple(f"{one}, {other}" for one in first.labels for other in second.labels)
    refused = {**second.refused, **first.refused}
    return Regimes(f"{first.name} x {second.name}", labels, codes, refused)


def markov(returns: Float64Array, fit: range, *, states: int = 2) -> Regimes:
    """Find the most probable state of a Markov-switching variance (Hamilton 1989), by filtered probabilities.

    Parameters
    ----------
    returns
        (T, S) log returns per bar; NaN where there is none.
    fit
        Rows on which the variances and the switching probabilities are estimated. A code after them has seen nothing
        later than its own bar; a code before their end is in sample, because these parameters come from all of `fit`.
    states
        2 (``calm``, ``turbulent``) or 3 (with ``normal`` between), ordered by variance.

    Returns
    -------
    Regimes
        A symbol whose fit does not converge, or finds no lasting states of different variance, has -1 throughout and
        its reason in `refused`. The first row is always -1.

    Notes
    -----
    Fitted for each symbol given: about a second each for 5,000 bars with two states, ten with three. A later return so
    large that no state can explain it ends the filter: the codes from there on are -1.
    """
    if states not in _STATES:
        raise ValueError(f"states must be 2 or 3, got {states}")
    codes = np.full(returns.shape, UNKNOWN, dtype=np.int64)
    refused = {}
    for column, values in enumerate(returns.T):
        known = np.nonzero(np.isfinite(values))[0]
        learn = (known >= fit.start) & (known < fit.stop)
        found = _filtered_states(values[known], learn, states)
        if isinstance(found, str):
            refused[column] = found
        else:
            codes[known, column] = found
    codes[:1] = UNKNOWN
    return Regimes("markov", _STATES[states], codes, refused)


def regime_mix(regimes: Regimes, train: range, test: range) -> RegimeMix:
    """Compare how often each regime occurred in training and in test, and what followed it.

    Parameters
    ----------
    regimes
        The regime of each bar.
    train, test
        Bars of the two periods.
    """
    learned, tested = regimes.codes[train.start : train.stop], regimes.codes[test.start : test.stop]
    train_share, test_share = regimes.shares(learned), regimes.shares(tested)
    known = bool(np.isfinite(train_share).all() and np.isfinite(test_share).all())
    return RegimeMix(
        labels=regimes.labels,
        train_share=train_share,
        test_share=test_share,
        train_transitions=_transitions(learned, regimes),
        test_transitions=_transitions(tested, regimes),
        novelty=float(test_share[train_share < NOVEL].sum()) if known else math.nan,
    )


def _rolling_volatility(returns: Float64Array, window: int) -> Float64Array:
    """(T, S) standard deviation of the last `window` returns; NaN until there are so many, and where one is missing.

    Summed afresh for each bar: a running sum would carry the rounding of a violent bar into the calm ones after it.
    """
    volatility = np.full(returns.shape, np.nan)
    length = len(returns)
    if length >= window:
        lagged = [returns[window - 1 - lag : length - lag] for lag in range(window)]
        mean = np.zeros_like(lagged[0])
        for one in lagged:
            mean += one / window
        squares = np.zeros_like(mean)
        for one in lagged:
            squares += (one - mean) ** 2
        volatility[window - 1 :] = np.sqrt(squares / window)
    return volatility


def _earlier_below(values: Float64Array) -> tuple[IntArray, IntArray]:
    """Count for each of T values how many before it are smaller, and how many are equal, in O(T log T).

    The values stay in order of size while their positions in time are split in halves, quarters and so on: each pair
    of an earlier and a later value falls apart exactly once, and there the smaller earlier ones are counted at once.
    """
    size = len(values)
    place = np.arange(size)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.ones(size, dtype=np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    equal = np.empty(size, dtype=np.int64)
    # Equal values stand in order of time, so that those before one in its group are the earlier ones.
    equal[order] = place - np.maximum.accumulate(np.where(first, place, 0))
    not_above = np.zeros(size, dtype=np.int64)
    for bit in reversed(range(max(size - 1, 0).bit_length())):
        half = 1 << bit
        late = (order & half).astype(np.bool_)
        # All groups before this one are complete, and so hold `half` early values each.
        early_so_far = np.cumsum(~late) - (order >> (bit + 1)) * half
        not_above[order[late]] += early_so_far[late]
        start = (order >> (bit + 1)) << (bit + 1)
        split = np.empty_like(order)
        split[np.where(late, place + half - early_so_far, start + early_so_far - 1)] = order
        order = split
    return not_above - equal, equal


def _filtered_states(returns: Float64Array, learn: NDArray[np.bool_], states: int) -> IntArray | str:
    """(T,) most probable state of each return given those up to it, or the reason why there is none."""
    # Takes two seconds to import, and only this regime needs it.
    from statsmodels.tools.sm_exceptions import ConvergenceWarning, EstimationWarning
    from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

    if learn.sum() < _FIT_BARS:
        return f"{learn.sum()} bars to fit on, {_FIT_BARS} are needed"
    scale = float(returns[learn].std())
    if scale <= 1e-12 * float(np.abs(returns[learn]).max()):
        return "the returns of the fit do not vary"
    if (returns[learn] == 0).mean() > _UNCHANGED:
        return f"over {_UNCHANGED:.0%} of the returns of the fit are exactly zero"
    # The optimiser needs values of about one, whatever the length of a bar.
    scaled = returns / scale
    options = {"k_regimes": states, "trend": "c", "switching_trend": False, "switching_variance": True}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        for category in (ConvergenceWarning, EstimationWarning, RuntimeWarning):
            warnings.simplefilter("ignore", category)
        try:
            model = MarkovRegression(scaled[learn], **options)
            result = model.fit(disp=False, cov_type="none")
            converged = bool(result.mle_retvals["converged"])
            params = np.asarray(result.params, dtype=np.float64)
            filtered = MarkovRegression(scaled, **options).filter(params, cov_type="none")
        except (np.linalg.LinAlgError, RuntimeError) as error:
            return f"the fit broke down: {error}"
    if not converged or not np.isfinite(params).all():
        return "the fit did not converge"
    variance = params[[model.param_names.index(f"sigma2[{state}]") for state in range(states)]]
    order = np.argsort(variance, kind="stable")
    probability = np.asarray(filtered.filtered_marginal_probabilities, dtype=np.float64)[:, order]
    codes = np.where(np.isfinite(probability).all(axis=1), probability.argmax(axis=1), UNKNOWN).astype(np.int64)
    transition = np.asarray(filtered.regime_transition)[:, :, 0]
    why = _degenerate(variance[order], np.diag(transition)[order], codes[learn])
    return codes if why is None else why


def _degenerate(variance: Float64Array, staying: Float64Array, codes: IntArray) -> str | None:
    """Say why states, ordered by variance, are no regimes; None where they are."""
    if (variance[1:] < _DISTINCT * variance[:-1]).any():
        return f"the variances of the states differ by less than a factor of {_DISTINCT}"
    if (staying <= 0.5).any():
        return "a state is as likely left as kept at the next bar"
    share = np.bincount(codes[codes != UNKNOWN], minlength=len(variance)) / len(codes)
    if share.min() < _RARE:
        return f"a state holds under {_RARE:.0%} of the bars it was fitted on"
    return None


def _transitions(codes: IntArray, regimes: Regimes) -> Float64Array:
    """(R, R) share of the bars in regime i that were in j one bar later."""
    size = len(regimes.labels)
    known = (codes[:-1] != UNKNOWN) & (codes[1:] != UNKNOWN)
    counts = np.bincount((codes[:-1] * size + codes[1:])[known], minlength=size**2).reshape(size, size)
    left = counts.sum(axis=1, keepdims=True)
    shares: Float64Array = np.divide(counts, left, out=np.full((size, size), np.nan), where=left > 0)
    return shares

"""Whether any of several strategies beats the benchmark, once it is counted how many were compared.

The best of many useless strategies looks good. Two tests ask how good: the test for superior predictive ability (SPA;
Hansen 2005) whether the best of them is better than the benchmark at all, and its stepwise form (StepM; Romano & Wolf
2005) which ones are. Both compare mean net returns per bar, not Sharpe ratios: a strategy that is seldom in the market
may carry less risk than a benchmark and still not beat it. The Sharpe ratios are therefore compared beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from arch.bootstrap import SPA

from qtrade.backtest.bootstrap import SharpeDifference, block_length, sharpe_difference
from qtrade.types import Float64Array

SIZE = 0.05
"""Probability at which StepM names a strategy superior by mistake, over all strategies together."""
MIN_BLOCK = 24
"""Shortest mean block of the bootstrap: positions follow forecasts of so many bars, and hold on to them."""

# Blocks that the bars must hold at least: with fewer, the bootstrap has nothing to draw from.
_MIN_BLOCKS = 10
# Differences to the benchmark no larger than this are rounding.
_SAME = 1e-12


@dataclass(frozen=True)
class Comparison:
    """Strategies against a benchmark over the same bars. None means that the bars do not suffice to say.

    Attributes
    ----------
    spa_p
        p-value of "no strategy has a higher mean net return than the benchmark": the consistent estimate of Hansen.
    spa_p_lower, spa_p_upper
        Its bounds: as if all strategies that did worse than the benchmark were hopeless, and as if each were exactly as
        good, which is the reality check of White (2000).
    superior
        Names of the strategies whose mean net return is above the benchmark's by more than luck, with a chance of
        `SIZE` to name any by mistake.
    sharpe
        Annualised Sharpe ratio of each strategy minus the benchmark's, with its own 95 % interval, which does not count
        how many were compared.
    block
        Mean block length of the SPA's bootstrap, in bars.
    """

    spa_p: float | None
    spa_p_lower: float | None
    spa_p_upper: float | None
    superior: tuple[str, ...] | None
    sharpe: Mapping[str, SharpeDifference]
    block: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "spa_p": self.spa_p,
            "spa_p_lower": self.spa_p_lower,
            "spa_p_upper": self.spa_p_upper,
            "superior": None if self.superior is None else list(self.superior),
            "superior_size": SIZE,
            "block_bars": self.block,
            "sharpe_difference": {name: one.to_dict() for name, one in self.sharpe.items()},
        }


def compare(
    results: Mapping[str, Float64Array],
    benchmark: Float64Array,
    periods_per_year: float,
    *,
    draws: int = 1000,
    seed: int,
) -> Comparison:
    """Compare the net returns of strategies with those of a benchmark.

    Parameters
    ----------
    results
        (T,) net returns per bar by name: everything that was tried, the failures too, or the tests promise too much. A
        strategy that never trades counts; one that *is* the benchmark cannot beat it and is left out of the tests.
    benchmark
        (T,) net returns per bar of the same bars, such as those of buy-and-hold.
    periods_per_year
        Bars in a year.
    draws, seed
        Of the bootstrap.

    Returns
    -------
    Comparison
        With None where no strategy differs from the benchmark, or the bars hold fewer than ten blocks of `MIN_BLOCK`.
        Blocks are as long as the dependence in the difference to the benchmark asks for, and at least that.
    """
    wrong = [name for name, returns in results.items() if returns.shape != benchmark.shape]
    if wrong:
        raise ValueError(f"the returns of {', '.join(wrong)} are not of the same bars as the benchmark's")
    sharpe = {
        name: sharpe_difference(returns, benchmark, periods_per_year, draws=draws, seed=seed)
        for name, returns in results.items()
    }
    gains = {name: returns - benchmark for name, returns in results.items()}
    different = {name: gain for name, gain in gains.items() if np.ptp(gain) > _SAME}
    if not different or len(benchmark) < _MIN_BLOCKS * MIN_BLOCK:
        return Comparison(None, None, None, None, sharpe, None)
    if all(gain.mean() <= 0 for gain in different.values()):
        # Hansen's statistic is never below 0, which it then is, as it is in no draw less. arch lets it be negative.
        return Comparison(1.0, 1.0, 1.0, (), sharpe, None)
    block = max(MIN_BLOCK, *(block_length(gain) for gain in different.values()))
    test = _spa(np.column_stack(list(different.values())), block, draws, seed)
    # A draw or two at the edge decide nothing, and no number of draws shows a p-value of 0.
    lower, consistent, upper = ((draws * float(p) + 1) / (draws + 1) for p in test.pvalues)
    names = tuple(different)
    return Comparison(consistent, lower, upper, tuple(names[row] for row in _superior(test)), sharpe, block)


def _spa(gains: Float64Array, block: int, draws: int, seed: int) -> Any:
    """Run the SPA on (T, N) returns over the benchmark.

    arch divides by no standard error when it looks for the best strategy, so that the most volatile one would set the
    bar for all. Gains in units of their own long-run deviation make it the studentised test that Hansen recommends.
    """
    scaled = gains / _long_run_deviation(gains, block)
    generator = np.random.default_rng(seed)
    # Nested: arch's other estimate of the variances loops over all lags.
    test = SPA(np.zeros(len(gains)), -scaled, block_size=block, reps=draws, nested=True, seed=generator)
    test.compute()
    return test


def _superior(test: Any) -> list[int]:
    """Columns that are superior: those found are taken out, and the rest is asked again, until none is found.

    `arch.bootstrap.StepM` does the same, but fails when the last strategy is taken out in a later step.
    """
    left = np.ones(test.k, dtype=np.bool_)
    while left.any():
        test.subset(left)
        test.compute()
        found = test.better_models(SIZE)
        if len(found) == 0:
            break
        left[found] = False
    return np.nonzero(~left)[0].tolist()


def _long_run_deviation(gains: Float64Array, block: int) -> Float64Array:
    """(N,) deviation per bar that the stationary bootstrap gives the mean of (T, N) gains (Politis & Romano 1994).

    The autocovariance at lag k counts ``(1 - k / T) (1 - p)^k + (k / T) (1 - p)^(T - k)`` times, with p the inverse of
    the mean block length, and comes from a Fourier transform: a loop over the lags takes seconds for years of hours.
    """
    bars = len(gains)
    power = np.abs(np.fft.rfft(gains - gains.mean(axis=0), 2 * bars, axis=0)) ** 2
    covariance = np.fft.irfft(power, axis=0)[:bars] / bars
    lag = np.arange(bars)
    kept = 1 - 1 / block
    weight = (1 - lag / bars) * kept**lag + lag / bars * kept ** (bars - lag)
    weight[0] = 0.5
    deviation: Float64Array = np.sqrt(2 * weight @ covariance)
    return deviation

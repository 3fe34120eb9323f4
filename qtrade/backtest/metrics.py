"""What a backtest earned, at what risk and at what cost. Units are in the names; periodicity comes from the bars."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from qtrade.backtest.costs import BASIS_POINT
from qtrade.types import BacktestResult, Float64Array

Z95 = 1.959963984540054
"""Errors on either side of a normal estimate that hold 95 % of its distribution."""

FEW = 5
"""Bars that make up the variance of returns below which the error of their Sharpe ratio is not known."""

# Returns closer together than this are one return, apart from rounding: a return is a ratio of account values less 1.
_SAME = 1e-13
# The tail measures look at the worst bar of so many; in fewer bars there is no tail.
_TAIL = 20


@dataclass(frozen=True)
class Metrics:
    """Numbers of one backtest of T bars. NaN means undefined or too large for a number, never zero.

    Attributes
    ----------
    bars, years
        T, and T divided by the bars in a year.
    total_return, cagr
        Growth of the account over all bars, and the constant yearly growth that compounds to it, which says little
        about the growth of hours: NaN where it exceeds any float, and for a ruined account.
    gross_annual_return, cost_annual, net_annual_return
        Mean return per bar times bars per year: before costs, the costs, after costs. The first minus the second is
        the third. Unlike `cagr` they do not compound.
    financing_annual
        Part of `cost_annual` that no fill caused: borrowing and funding. Negative where holding was paid for.
    annual_volatility
        Standard deviation of net returns, annualised.
    sharpe, sharpe_se, sharpe_low, sharpe_high
        Annualised mean over standard deviation of net returns (cash is taken to earn nothing), its standard error,
        and the 95 % interval. NaN when returns do not vary.
    sortino
        Annualised mean over downside deviation, the root mean square of net losses with every gain counted as 0
        (Sortino & Price 1994, with a target of 0). NaN without losses.
    calmar
        `cagr` over `max_drawdown`. NaN without a drawdown.
    profit_factor
        Sum of the net gains of bars over the sum of the net losses. NaN without losses.
    skew, kurtosis
        Standardised third and fourth moments of net returns; the kurtosis of a normal distribution is 3.
    value_at_risk_5, expected_shortfall_5
        Loss of a bar as a share of equity that the worst 5 % of the bars reach, and their mean loss, both positive
        for losses (Acerbi & Tasche 2002). NaN with fewer than 20 bars.
    worst_bar
        Lowest net return of a bar.
    max_drawdown, max_drawdown_bars
        Deepest fall below an earlier peak, as a positive share of that peak, and the bars from the peak until it was
        reached again, or until the end.
    longest_drawdown_bars
        Most bars from any peak until it was reached again, or until the end; not always those of the deepest fall.
    turnover_per_year
        Money traded, as a share of equity; selling everything and buying something else counts 2.
    exposure
        Mean over bars of the share of equity in the market, long plus short.
    time_in_market
        Share of the bars at whose close anything is held.
    average_holding_bars
        Mean number of closes in a row at which a symbol is held on one side, over all positions and symbols; positions
        still open at the end count as far as they got. NaN without positions.
    trades
        Number of fills.
    cost_per_fill
        Mean fees and slippage of a fill, in money. NaN without trades.
    breakeven_cost_bps, paid_cost_bps
        Cost per fill that would make the mean net return zero, and the cost of fills paid, in basis points of the
        money traded: gross return less financing, and costs less financing, over turnover. NaN without trades.
    hit_rate
        Share of the bars with a gross gain or loss that ended with a net gain. NaN without such bars.
    """

    bars: int
    years: float
    total_return: float
    cagr: float
    gross_annual_return: float
    cost_annual: float
    net_annual_return: float
    financing_annual: float
    annual_volatility: float
    sharpe: float
    sharpe_se: float
    sharpe_low: float
    sharpe_high: float
    sortino: float
    calmar: float
    profit_factor: float
    skew: float
    kurtosis: float
    value_at_risk_5: float
    expected_shortfall_5: float
    worst_bar: float
    max_drawdown: float
    max_drawdown_bars: int
    longest_drawdown_bars: int
    turnover_per_year: float
    exposure: float
    time_in_market: float
    average_holding_bars: float
    trades: int
    cost_per_fill: float
    breakeven_cost_bps: float
    paid_cost_bps: float
    hit_rate: float

    def to_dict(self) -> dict[str, int | float | None]:
        """Return the numbers for JSON, which has neither NaN nor infinity: such a one is None."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


def metrics(result: BacktestResult, periods_per_year: float) -> Metrics:
    """Measure a backtest over all of its bars.

    Parameters
    ----------
    result
        Backtest of T bars, the idle ones included: pass the test period only, or idle bars dilute every mean.
    periods_per_year
        Bars in a year, as declared by the `Bars` that were traded.
    """
    gross, cost, net, financing, equity = (
        series.to_numpy(dtype=np.float64)
        for series in (result.gross, result.cost, result.net, result.financing, result.equity)
    )
    start = starting_equity(result)
    years = len(net) / periods_per_year
    growth = float(equity[-1] / start)
    cagr = _compounded(growth, 1 / years) if result.ruined is None else math.nan
    sharpe, error = sharpe_ratio(net, periods_per_year)
    skew, kurtosis = _shape(net)
    at_risk, shortfall = _tail_losses(net)
    falls = drawdowns(np.concatenate([[start], equity]))
    deepest = max(falls, key=lambda fall: fall.depth, default=Drawdown(0, 0, 0, 0.0, True))
    held = result.held.to_numpy(dtype=np.float64)
    traded = turnover(result).mean()
    per_fill = (result.trades["fees"] + result.trades["slippage"]).to_numpy(dtype=np.float64)
    moved = gross != 0
    return Metrics(
        bars=len(net),
        years=years,
        total_return=growth - 1,
        cagr=cagr,
        gross_annual_return=float(gross.mean() * periods_per_year),
        cost_annual=float(cost.mean() * periods_per_year),
        net_annual_return=float(net.mean() * periods_per_year),
        financing_annual=float(financing.mean() * periods_per_year),
        annual_volatility=float(net.std(ddof=1) * math.sqrt(periods_per_year)) if len(net) > 1 else math.nan,
        sharpe=sharpe,
        sharpe_se=error,
        sharpe_low=sharpe - Z95 * error,
        sharpe_high=sharpe + Z95 * error,
        sortino=_quotient(net.mean(), math.sqrt((np.minimum(net, 0) ** 2).mean())) * math.sqrt(periods_per_year),
        calmar=_quotient(cagr, deepest.depth),
        profit_factor=_quotient(net[net > 0].sum(), -net[net < 0].sum()),
        skew=skew,
        kurtosis=kurtosis,
        value_at_risk_5=at_risk,
        expected_shortfall_5=shortfall,
        worst_bar=float(net.min()),
        max_drawdown=deepest.depth,
        max_drawdown_bars=deepest.bars,
        longest_drawdown_bars=max((fall.bars for fall in falls), default=0),
        turnover_per_year=float(traded * periods_per_year),
        exposure=float(np.abs(held).sum(axis=1).mean()),
        time_in_market=float(held.any(axis=1).mean()),
        average_holding_bars=_holding_bars(held),
        trades=len(per_fill),
        cost_per_fill=float(per_fill.mean()) if len(per_fill) else math.nan,
        breakeven_cost_bps=_quotient((gross - financing).mean(), traded * BASIS_POINT),
        paid_cost_bps=_quotient((cost - financing).mean(), traded * BASIS_POINT),
        hit_rate=float((net[moved] > 0).mean()) if moved.any() else math.nan,
    )


def sharpe_ratio(returns: Float64Array, periods_per_year: float) -> tuple[float, float]:
    """Annualised Sharpe ratio of T returns per bar, and its standard error.

    The error allows for skew and fat tails (Mertens 2002): per bar, its square is
    ``(1 - skew s + (kurtosis - 1) / 4 s^2) / T``, with s the ratio per bar and kurtosis 3 for a normal distribution,
    where it is the ``(1 + s^2 / 2) / T`` of Lo (2002). Both take returns to be uncorrelated over time.

    Returns
    -------
    tuple of float
        NaN twice if there are fewer than two returns or they vary by no more than rounding. The error alone is NaN
        where `FEW` bars or fewer make up the variance (T over the kurtosis says how many do): skew and kurtosis of a
        handful of bars say nothing, and a lucky few would make the error small.
    """
    if not _varies(returns):
        return math.nan, math.nan
    ratio = returns.mean() / returns.std(ddof=1)
    skew, kurtosis = _shape(returns)
    scale = math.sqrt(periods_per_year)
    if len(returns) / kurtosis <= FEW:
        return float(ratio * scale), math.nan
    variance = (1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2) / len(returns)
    return float(ratio * scale), float(math.sqrt(variance) * scale)


@dataclass(frozen=True)
class Relative:
    """A strategy beside a benchmark over the same T bars. NaN means undefined, never zero.

    Attributes
    ----------
    beta, beta_low, beta_high
        Slope of the strategy's net return per bar on the benchmark's, and its 95 % interval.
    alpha_annual, alpha_annual_low, alpha_annual_high
        Intercept of that regression times bars per year, and its 95 % interval: what the strategy earned that holding
        `beta` of the benchmark does not explain. Errors allow for autocorrelation and changing volatility.
    correlation
        Of the two net returns.
    up_capture, down_capture
        Mean net return over the bars in which the benchmark rose, or fell, as a share of the benchmark's own mean
        there. Better is much of the one and little of the other.
    tracking_error
        Standard deviation of the difference of the two, annualised.
    information_ratio, information_ratio_se
        Annualised mean of the difference over its standard deviation, and its standard error as in `sharpe_ratio`.
    """

    beta: float
    beta_low: float
    beta_high: float
    alpha_annual: float
    alpha_annual_low: float
    alpha_annual_high: float
    correlation: float
    up_capture: float
    down_capture: float
    tracking_error: float
    information_ratio: float
    information_ratio_se: float

    def to_dict(self) -> dict[str, float | None]:
        """Return the numbers for JSON, which has neither NaN nor infinity: such a one is None."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


def relative(net: Float64Array, benchmark: Float64Array, periods_per_year: float) -> Relative:
    """Measure (T,) net returns per bar against those of a benchmark, such as buy-and-hold of the same symbols.

    The regression is ordinary least squares with the errors of Newey & West (1987) over 4 (T / 100)^(2/9) lags.
    """
    if net.shape != benchmark.shape:
        raise ValueError(f"returns {net.shape} and benchmark {benchmark.shape} are not of the same bars")
    (alpha, alpha_error), (beta, beta_error) = _regression(net, benchmark)
    gap = net - benchmark
    ratio, error = sharpe_ratio(gap, periods_per_year)
    return Relative(
        beta=beta,
        beta_low=beta - Z95 * beta_error,
        beta_high=beta + Z95 * beta_error,
        alpha_annual=alpha * periods_per_year,
        alpha_annual_low=(alpha - Z95 * alpha_error) * periods_per_year,
        alpha_annual_high=(alpha + Z95 * alpha_error) * periods_per_year,
        correlation=float(np.corrcoef(net, benchmark)[0, 1]) if _varies(net) and _varies(benchmark) else math.nan,
        up_capture=_quotient(net[benchmark > 0].sum(), benchmark[benchmark > 0].sum()),
        down_capture=_quotient(-net[benchmark < 0].sum(), -benchmark[benchmark < 0].sum()),
        tracking_error=float(gap.std(ddof=1) * math.sqrt(periods_per_year)) if len(gap) > 1 else math.nan,
        information_ratio=ratio,
        information_ratio_se=error,
    )


def _regression(values: Float64Array, on: Float64Array) -> tuple[tuple[float, float], tuple[float, float]]:
    """Intercept and slope, each with its error; NaN where there are too few values or nothing to regress on."""
    if len(on) < 3 or not _varies(on):
        return (math.nan, math.nan), (math.nan, math.nan)
    design = np.column_stack([np.ones_like(on), on])
    inverse = np.linalg.inv(design.T @ design)
    found = inverse @ design.T @ values
    scores = design * (values - design @ found)[:, None]
    lags = min(int(4 * (len(on) / 100) ** (2 / 9)), len(on) - 1)
    spread = scores.T @ scores
    for lag in range(1, lags + 1):
        product = scores[lag:].T @ scores[:-lag]
        spread += (1 - lag / (lags + 1)) * (product + product.T)
    errors = np.sqrt(np.maximum(np.diag(inverse @ spread @ inverse), 0))
    return (float(found[0]), float(errors[0])), (float(found[1]), float(errors[1]))


@dataclass(frozen=True)
class Drawdown:
    """A fall of an account below an earlier peak, in positions on the T values it was found in.

    Attributes
    ----------
    peak, trough, end
        The last value at the peak, the lowest one, and the first that reached the peak again, or else the last of all.
    depth
        Fall from peak to trough, as a positive share of the peak; more than 1 where the account ends in debt.
    recovered
        Whether the peak was reached again.
    """

    peak: int
    trough: int
    end: int
    depth: float
    recovered: bool

    @property
    def bars(self) -> int:
        """Bars from the peak until it was reached again, or until the end."""
        return self.end - self.peak


def drawdowns(value: Float64Array) -> tuple[Drawdown, ...]:
    """Return every drawdown of an account of T values, the first of them positive, in order of time."""
    highest = np.maximum.accumulate(value)
    under = np.concatenate([[False], value < highest * (1 - _SAME), [False]])
    edges = np.nonzero(under[1:] != under[:-1])[0]
    found = []
    for first, after in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        trough = first + int(value[first:after].argmin())
        depth = float(1 - value[trough] / highest[trough])
        found.append(Drawdown(first - 1, trough, min(after, len(value) - 1), depth, after < len(value)))
    return tuple(found)


def starting_equity(result: BacktestResult) -> float:
    """Return what the account was worth before its first bar."""
    return float(result.equity.iloc[0] / (1 + result.net.iloc[0]))


def turnover(result: BacktestResult) -> Float64Array:
    """Return the (T,) money traded in each bar as a share of the equity before it."""
    money = (result.trades["size"] * result.trades["price"]).abs().groupby(result.trades["bar"]).sum()
    traded = money.reindex(result.equity.index, fill_value=0.0).to_numpy(dtype=np.float64)
    before = np.concatenate([[starting_equity(result)], result.equity.to_numpy(dtype=np.float64)[:-1]])
    # A ruined account trades no more, and there is nothing left to divide by.
    share = np.zeros_like(traded)
    np.divide(traded, before, out=share, where=traded > 0)
    return share


def _quotient(value: float, by: float) -> float:
    """Divide; NaN where there is nothing to divide by."""
    return float(value / by) if by > 0 else math.nan


def _compounded(growth: float, times: float) -> float:
    """Growth of `times` such spans; NaN where no float can hold it."""
    try:
        return float(growth**times) - 1
    except OverflowError:
        return math.nan


def _varies(returns: Float64Array) -> bool:
    """Whether returns differ by more than rounding."""
    return len(returns) > 1 and bool(np.ptp(returns) > _SAME * (1 + np.abs(returns).max()))


def _shape(returns: Float64Array) -> tuple[float, float]:
    """Skew and raw kurtosis; NaN twice where returns do not vary."""
    if not _varies(returns):
        return math.nan, math.nan
    standard = (returns - returns.mean()) / returns.std()
    return float((standard**3).mean()), float((standard**4).mean())


def _tail_losses(returns: Float64Array) -> tuple[float, float]:
    """Value at risk and expected shortfall of the worst bars; the last of these counts as far as its share reaches."""
    count = len(returns) / _TAIL
    if count < 1:
        return math.nan, math.nan
    ordered = np.sort(returns)
    whole = int(count)
    # The bar at which the worst 5 % end: with 50 bars these are two and a half, and they end in the third.
    edge = ordered[math.ceil(count) - 1]
    total = ordered[:whole].sum() + (count - whole) * edge
    return float(0 - edge), float(0 - total / count)


def _holding_bars(held: Float64Array) -> float:
    """Mean length of the positions in (T, S) shares held at each close; turning around opens another position."""
    side = np.sign(held)
    before = np.vstack([np.zeros((1, side.shape[1])), side[:-1]])
    opened = int(((side != 0) & (side != before)).sum())
    return float(np.count_nonzero(side) / opened) if opened else math.nan

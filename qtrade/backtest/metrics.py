"""What a backtest earned, at what risk and at what cost. Units are in the names; periodicity comes from the bars."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from qtrade.backtest.costs import BASIS_POINT
from qtrade.types import BacktestResult, Float64Array

# Returns closer together than this are one return, apart from rounding: a return is a ratio of account values less 1.
_SAME = 1e-13
# Two-sided 95 % quantile of the normal distribution.
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Metrics:
    """Numbers of one backtest of T bars. NaN means undefined or too large for a number, never zero.

    Attributes
    ----------
    bars, years
        T, and T divided by the bars in a year.
    total_return, cagr
        Growth of the account over all bars, and the constant yearly growth that compounds to it, which says little
        about the growth of hours: NaN where it exceeds any float.
    gross_annual_return, cost_annual, net_annual_return
        Mean return per bar times bars per year: before costs, the costs, after costs. The first minus the second is
        the third. Unlike `cagr` they do not compound.
    annual_volatility
        Standard deviation of net returns, annualised.
    sharpe, sharpe_se, sharpe_low, sharpe_high
        Annualised mean over standard deviation of net returns (cash is taken to earn nothing), its standard error,
        and the 95 % interval. NaN when returns do not vary.
    max_drawdown, max_drawdown_bars
        Deepest fall below an earlier peak, as a positive share of that peak, and the bars from the peak until it was
        reached again, or until the end.
    turnover_per_year
        Money traded, as a share of equity; selling everything and buying something else counts 2.
    exposure
        Mean over bars of the share of equity in the market, long plus short.
    trades
        Number of fills.
    breakeven_cost_bps, paid_cost_bps
        Cost per fill that would make the mean net return zero, and the cost paid, in basis points of the money
        traded: gross return and costs over turnover. NaN without trades.
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
    annual_volatility: float
    sharpe: float
    sharpe_se: float
    sharpe_low: float
    sharpe_high: float
    max_drawdown: float
    max_drawdown_bars: int
    turnover_per_year: float
    exposure: float
    trades: int
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
    gross, cost, net = (series.to_numpy(dtype=np.float64) for series in (result.gross, result.cost, result.net))
    equity = result.equity.to_numpy(dtype=np.float64)
    start = equity[0] / (1 + net[0])
    before = np.concatenate([[start], equity[:-1]])
    traded = _traded(result)
    turnover = traded / before
    years = len(net) / periods_per_year
    growth = equity[-1] / start
    sharpe, error = sharpe_ratio(net, periods_per_year)
    depth, length = _max_drawdown(np.concatenate([[start], equity]))
    moved = gross != 0
    notional = traded.sum()
    return Metrics(
        bars=len(net),
        years=years,
        total_return=float(growth - 1),
        cagr=_compounded(float(growth), 1 / years),
        gross_annual_return=float(gross.mean() * periods_per_year),
        cost_annual=float(cost.mean() * periods_per_year),
        net_annual_return=float(net.mean() * periods_per_year),
        annual_volatility=float(net.std(ddof=1) * math.sqrt(periods_per_year)) if len(net) > 1 else math.nan,
        sharpe=sharpe,
        sharpe_se=error,
        sharpe_low=sharpe - _Z95 * error,
        sharpe_high=sharpe + _Z95 * error,
        max_drawdown=depth,
        max_drawdown_bars=length,
        turnover_per_year=float(turnover.mean() * periods_per_year),
        exposure=float(result.held.abs().sum(axis=1).mean()),
        trades=len(result.trades),
        breakeven_cost_bps=float(gross.mean() / turnover.mean() / BASIS_POINT) if notional else math.nan,
        paid_cost_bps=float(cost.mean() / turnover.mean() / BASIS_POINT) if notional else math.nan,
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
        NaN twice if there are fewer than two returns or they vary by no more than rounding.
    """
    if len(returns) < 2 or np.ptp(returns) <= _SAME * (1 + np.abs(returns).max()):
        return math.nan, math.nan
    ratio = returns.mean() / returns.std(ddof=1)
    standard = (returns - returns.mean()) / returns.std()
    skew, kurtosis = (standard**3).mean(), (standard**4).mean()
    variance = (1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2) / len(returns)
    scale = math.sqrt(periods_per_year)
    return float(ratio * scale), float(math.sqrt(variance) * scale)


def _compounded(growth: float, times: float) -> float:
    """Growth of `times` such spans; NaN where no float can hold it."""
    try:
        return float(growth**times) - 1
    except OverflowError:
        return math.nan


def _traded(result: BacktestResult) -> Float64Array:
    """(T,) money traded in each bar."""
    money = (result.trades["size"] * result.trades["price"]).abs().groupby(result.trades["bar"]).sum()
    return money.reindex(result.equity.index, fill_value=0.0).to_numpy(dtype=np.float64)


def _max_drawdown(value: Float64Array) -> tuple[float, int]:
    """Depth of the deepest fall and the bars from its peak to recovery, or to the end."""
    peak = np.maximum.accumulate(value)
    fall = 1 - value / peak
    bottom = int(fall.argmax())
    if fall[bottom] == 0:
        return 0.0, 0
    top = int(np.nonzero(value[: bottom + 1] == peak[bottom])[0][-1])
    recovered = np.nonzero(value[bottom:] >= peak[bottom])[0]
    end = bottom + int(recovered[0]) if len(recovered) else len(value) - 1
    return float(fall[bottom]), end - top

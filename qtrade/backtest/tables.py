"""One backtest cut into its years, months, regimes and drawdowns: whether a single stretch made the whole result.

Every row is measured by the same formulas as the whole in `qtrade.backtest.metrics`. Bars and fills of the rows add up
to those of the whole, as do the sums of log growth, and the mean returns do when each is weighted with its bars.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtrade.backtest.metrics import Z95, drawdowns, sharpe_ratio, starting_equity, turnover
from qtrade.types import BacktestResult, Float64Array

UNKNOWN = "unknown"
"""Row of the bars whose regime was not known."""


def by_year(result: BacktestResult, periods_per_year: float) -> pd.DataFrame:
    """Measure each calendar year of UTC stamps; the first and the last may be incomplete.

    Returns
    -------
    DataFrame
        One row per year that has bars, with the columns of `by_regime`.
    """
    return _grouped(result, pd.Series(_stamps(result).year, index=result.net.index, name="year"), periods_per_year)


def by_regime(result: BacktestResult, labels: pd.Series, periods_per_year: float) -> pd.DataFrame:
    """Measure the bars of each regime as if they followed one another.

    Parameters
    ----------
    result
        Backtest of T bars.
    labels
        (T,) names on the index of the result; missing values are unknown. The label of a bar must have been known when
        its return began: a label that looks at the bar itself sorts returns by their outcome, which nobody could have
        traded.
    periods_per_year
        Bars in a year.

    Returns
    -------
    DataFrame
        One row per name, in alphabetical order, and `UNKNOWN` last where there is such a bar. Columns: ``bars``;
        ``gross_annual_return``, ``cost_annual``, ``net_annual_return`` and ``annual_volatility``; ``sharpe`` with its
        error ``sharpe_se`` and 95 % interval ``sharpe_low`` to ``sharpe_high``; ``log_growth``, the sum of the log net
        returns, -inf where the account was ruined; ``max_drawdown`` as a positive share; ``exposure``;
        ``turnover_per_year``; ``fills``. NaN means undefined.
    """
    if not labels.index.equals(result.net.index):
        raise ValueError("labels do not share the index of the result")
    known = labels.dropna().astype(str)
    table = _grouped(result, labels.astype(object).fillna(UNKNOWN).astype(str).rename("regime"), periods_per_year)
    names = sorted(set(known) - {UNKNOWN})
    return table.loc[[*names, *([UNKNOWN] if UNKNOWN in table.index else [])]]


def by_month(result: BacktestResult) -> pd.DataFrame:
    """Compound the net returns of each calendar month of UTC stamps.

    Returns
    -------
    DataFrame
        One row per year and the columns 1 to 12; NaN in months without bars.
    """
    stamps = _stamps(result)
    growth = (1 + result.net).groupby([stamps.year, stamps.month]).prod() - 1
    table = growth.unstack().reindex(columns=range(1, 13))
    return table.rename_axis(index="year", columns="month")


def deepest_drawdowns(result: BacktestResult, count: int = 5) -> pd.DataFrame:
    """List the deepest drawdowns of the account, the deepest first.

    Returns
    -------
    DataFrame
        At most `count` rows: the stamps of ``peak``, ``trough`` and ``recovery`` (NaT if it has not come), ``depth`` as
        a positive share of the peak, and the lengths ``bars_down`` from peak to trough, ``bars_up`` from there to the
        recovery or the end, and ``bars``, the sum of both. A fall from the very start has its peak before the first
        bar, and that bar's stamp.
    """
    value = np.concatenate([[starting_equity(result)], result.equity.to_numpy(dtype=np.float64)])
    falls = sorted(drawdowns(value), key=lambda fall: -fall.depth)[:count]
    stamps = _stamps(result)

    def at(moments: Iterable[object]) -> pd.Series:
        return pd.Series(list(moments), dtype=stamps.dtype)

    return pd.DataFrame(
        {
            "peak": at([stamps[max(fall.peak - 1, 0)] for fall in falls]),
            "trough": at([stamps[fall.trough - 1] for fall in falls]),
            "recovery": at([stamps[fall.end - 1] if fall.recovered else pd.NaT for fall in falls]),
            "depth": [fall.depth for fall in falls],
            "bars_down": [fall.trough - fall.peak for fall in falls],
            "bars_up": [fall.end - fall.trough for fall in falls],
            "bars": [fall.bars for fall in falls],
        }
    )


def _stamps(result: BacktestResult) -> pd.DatetimeIndex:
    index = result.net.index
    assert isinstance(index, pd.DatetimeIndex)
    return index


def _grouped(result: BacktestResult, keys: pd.Series, periods_per_year: float) -> pd.DataFrame:
    """One row for the bars of each key, in the order of the keys."""
    columns = {
        "gross": result.gross.to_numpy(dtype=np.float64),
        "cost": result.cost.to_numpy(dtype=np.float64),
        "net": result.net.to_numpy(dtype=np.float64),
        "exposure": result.held.abs().sum(axis=1).to_numpy(dtype=np.float64),
        "turnover": turnover(result),
        "fills": result.trades["bar"].value_counts().reindex(keys.index, fill_value=0).to_numpy(dtype=np.float64),
    }
    names = np.sort(keys.unique())
    rows = [_row(columns, (keys == name).to_numpy(), periods_per_year) for name in names]
    return pd.DataFrame(rows, index=pd.Index(names, name=keys.name))


def _row(columns: dict[str, Float64Array], chosen: NDArray[np.bool_], periods_per_year: float) -> dict[str, float]:
    """Measure the bars that are `chosen`."""
    gross, cost, net, exposure, traded, fills = (values[chosen] for values in columns.values())
    sharpe, error = sharpe_ratio(net, periods_per_year)
    growth = np.full_like(net, -np.inf)
    np.log1p(net, out=growth, where=net > -1)
    falls = drawdowns(np.concatenate([[1.0], np.cumprod(1 + net)]))
    return {
        "bars": len(net),
        "gross_annual_return": float(gross.mean() * periods_per_year),
        "cost_annual": float(cost.mean() * periods_per_year),
        "net_annual_return": float(net.mean() * periods_per_year),
        "annual_volatility": float(net.std(ddof=1) * math.sqrt(periods_per_year)) if len(net) > 1 else math.nan,
        "sharpe": sharpe,
        "sharpe_se": error,
        "sharpe_low": sharpe - Z95 * error,
        "sharpe_high": sharpe + Z95 * error,
        "log_growth": float(growth.sum()),
        "max_drawdown": max((fall.depth for fall in falls), default=0.0),
        "exposure": float(exposure.mean()),
        "turnover_per_year": float(traded.mean() * periods_per_year),
        "fills": int(fills.sum()),
    }

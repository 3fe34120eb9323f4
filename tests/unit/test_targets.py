"""The target by hand."""

import math

import numpy as np
import pandas as pd

from qtrade.features.targets import as_returns, log_returns, target_series
from qtrade.types import Bars


def test_log_returns_of_three_bars() -> None:
    index = pd.date_range("2020-01-01", periods=3, freq="D", tz="UTC")
    price = pd.DataFrame({"A": [100.0, 110.0, 99.0], "B": [8.0, 4.0, 4.0]}, index=index)
    bars = Bars(price, price, price, price, price, interval="1d", calendar="XNYS", periods_per_year=252)

    returns = log_returns(bars)

    assert returns.dtype == np.float64
    assert np.isnan(returns[0]).all()
    np.testing.assert_allclose(returns[1:], [[math.log(1.1), math.log(0.5)], [math.log(0.9), 0.0]], rtol=1e-15)


def test_returns_between_levels_start_from_the_last_known_one() -> None:
    levels = np.log([[110.0, 99.0], [4.0, 8.0]])
    returns = as_returns(levels, "log_close", np.log([100.0, 8.0]))
    np.testing.assert_allclose(returns, np.log([[1.1, 0.9], [0.5, 2.0]]), rtol=1e-12)
    np.testing.assert_array_equal(as_returns(returns, "log_return", np.full(2, np.nan)), returns)


def test_levels_are_the_logs_of_the_closes() -> None:
    index = pd.date_range("2020-01-01", periods=2, freq="D", tz="UTC")
    price = pd.DataFrame({"A": [100.0, 110.0]}, index=index)
    bars = Bars(price, price, price, price, price, interval="1d", calendar="XNYS", periods_per_year=252)
    np.testing.assert_allclose(target_series(bars, "log_close"), np.log([[100.0], [110.0]]))
    np.testing.assert_array_equal(target_series(bars, "log_return"), log_returns(bars))

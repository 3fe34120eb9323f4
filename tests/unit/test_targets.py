"""The targets by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qtrade.errors import UsageError
from qtrade.features.targets import (
    Target,
    check_target,
    log_returns,
    make_target,
    target_column,
    volatility,
)
from qtrade.types import Bars
from qtrade.user_code import UserFile


def bars_of(**closes: list[float]) -> Bars:
    index = pd.date_range("2020-01-01", periods=len(next(iter(closes.values()))), freq="D", tz="UTC")
    price = pd.DataFrame(closes, index=index, dtype=float)
    return Bars(price, price, price, price, price, interval="1d", calendar="XNYS", periods_per_year=252)


def test_log_returns_of_three_bars() -> None:
    returns = log_returns(bars_of(A=[100.0, 110.0, 99.0], B=[8.0, 4.0, 4.0]))
    assert returns.dtype == np.float64
    assert np.isnan(returns[0]).all()
    np.testing.assert_allclose(returns[1:], [[math.log(1.1), math.log(0.5)], [math.log(0.9), 0.0]], rtol=1e-15)


def test_a_path_of_returns_is_what_it_is() -> None:
    target = make_target(bars_of(A=[1.0, 2.0]), "log_return")
    np.testing.assert_array_equal(target.values[1], [math.log(2)])
    assert target.past is target.values
    assert (target.column, target.centred, target.unit, target.warmup) == ("log_return", False, None, 1)
    path = np.array([[0.5, -0.25]])
    np.testing.assert_array_equal(target.as_returns(path, np.array([1]), np.array([0])), path)


def test_returns_between_levels_start_from_the_last_known_one() -> None:
    target = make_target(bars_of(A=[50.0, 100.0], B=[1.0, 8.0]), "log_close")
    np.testing.assert_allclose(target.values, np.log([[50.0, 1.0], [100.0, 8.0]]))
    assert target.centred
    levels = np.log([[110.0, 99.0], [4.0, 8.0]])
    returns = target.as_returns(levels, np.array([1, 1]), np.array([0, 1]))
    np.testing.assert_allclose(returns, np.log([[1.1, 0.9], [0.5, 2.0]]), rtol=1e-12)


def test_only_levels_come_with_a_warning() -> None:
    bars = bars_of(A=[1.0, 2.0])
    (note,) = make_target(bars, "log_close").notes
    assert "a high R2 on levels says nothing" in note
    assert "random walk" in note
    assert make_target(bars, "log_return").notes == make_target(bars, "scaled_return").notes == ()


def test_unit_is_the_volatility_of_twenty_returns_known_at_the_origin() -> None:
    generator = np.random.default_rng(2)
    returns = np.vstack([np.full((1, 2), np.nan), generator.normal(0, 0.01, (60, 2))])
    unit = volatility(returns)
    assert np.isnan(unit[:20]).all()
    for bar in (20, 21, 45, 60):
        expected = [math.sqrt(sum(move**2 for move in returns[bar - 19 : bar + 1, symbol]) / 20) for symbol in (0, 1)]
        np.testing.assert_allclose(unit[bar], expected, rtol=1e-9)


def test_unit_of_a_market_that_stands_still_is_a_quarter_of_what_it_was() -> None:
    returns = np.zeros((200, 1))
    returns[0] = np.nan
    returns[1:101] = 0.02 * (-1.0) ** np.arange(100)[:, None]
    unit = volatility(returns)[:, 0]
    assert unit[100] == pytest.approx(0.02)
    assert unit[110] == pytest.approx(0.02 * math.sqrt(0.5))
    for bar in (125, 150, 199):
        assert unit[bar] == pytest.approx(0.25 * 0.02 * math.sqrt(100 / bar))


def test_unit_before_the_first_move_is_a_basis_point() -> None:
    returns = np.zeros((60, 1))
    returns[0], returns[40] = np.nan, 0.01
    unit = volatility(returns)[:, 0]
    assert (unit[20:40] == 1e-4).all()
    assert unit[40] == pytest.approx(0.01 / math.sqrt(20))


def test_past_of_a_scaled_return_is_in_units_of_the_bar_before() -> None:
    generator = np.random.default_rng(4)
    bars = bars_of(A=list(np.exp(0.01 * generator.normal(size=40).cumsum())))
    target = make_target(bars, "scaled_return")
    returns = log_returns(bars)
    assert target.unit is not None
    assert target.warmup == 21
    assert np.isnan(target.past[:21]).all()
    for bar in (21, 30, 39):
        before = math.sqrt((returns[bar - 20 : bar] ** 2).mean())
        assert target.past[bar, 0] == pytest.approx(returns[bar, 0] / before)
    path = np.array([[1.0, -2.0], [0.5, 0.0]])
    back = target.as_returns(path, np.array([25, 39]), np.array([0, 0]))
    np.testing.assert_allclose(back, path * target.unit[[25, 39]])


def test_a_target_of_the_users_has_its_own_way_back(tmp_path: Path) -> None:
    path = tmp_path / "halves.py"
    path.write_text(
        "def target(bars):\n    return bars.close.rolling(3).mean() / 2\n\n\n"
        "def log_returns(path, known):\n    return path - known[:, None]\n"
    )
    bars = bars_of(A=[1.0, 2.0, 3.0, 4.0], B=[2.0, 2.0, 2.0, 8.0])
    target = make_target(bars, str(path), UserFile.read(path))
    np.testing.assert_allclose(target.values[2:], [[1.0, 1.0], [1.5, 2.0]])
    assert (target.column, target.centred, target.warmup) == ("halves.py", True, 2)
    back = target.as_returns(np.array([[5.0], [6.0]]), np.array([2, 3]), np.array([1, 0]))
    np.testing.assert_allclose(back, [[4.0], [4.5]])
    assert "halves.py (SHA-256 " in target.notes[0]


def test_names_of_targets() -> None:
    for name in ("log_return", "scaled_return", "log_close", "my/own.py"):
        assert check_target(name) == name
    assert target_column("my/own.py") == "own.py"
    with pytest.raises(UsageError, match="unknown target 'scaled_retrun'") as caught:
        check_target("scaled_retrun")
    assert "did you mean 'scaled_return'?" in caught.value.why
    assert caught.value.exit_code == 2


def test_a_mean_and_units_do_not_go_together() -> None:
    values = np.ones((3, 1))
    with pytest.raises(AssertionError):
        Target("x", values, values, values, centred=True, warmup=1)

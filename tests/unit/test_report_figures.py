from __future__ import annotations

import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from qtrade.report import figures


def curve(values: list[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> pd.Series:
    return pd.Series(np.asarray(values), index=pd.date_range("2020-01-01", periods=len(values), tz="UTC"))


def test_thinning_keeps_the_ends_and_every_extreme() -> None:
    values = np.random.default_rng(0).standard_normal(10_000)
    values[1234], values[8765] = 50.0, -50.0
    stamps, kept = figures._thinned(curve(values), 100)
    assert len(kept) <= 400
    assert (kept.max(), kept.min(), kept[0], kept[-1]) == (50.0, -50.0, values[0], values[-1])
    assert stamps.is_monotonic_increasing
    assert stamps.is_unique


def test_equity_says_in_words_what_it_draws() -> None:
    drawn = figures.equity(curve([100, 150, 120]), curve([10, 10, 11]), pd.DatetimeIndex([], tz="UTC"), "e")
    label = re.search(r'aria-label="([^"]+)"', drawn)
    assert label is not None
    assert "1.20 in the strategy, with a deepest fall of 20%; 1.10 in buy and hold" in label.group(1)


@pytest.mark.parametrize(
    "values",
    [[1.0, 1.0, 1.0], [1.0, 40.0, 900.0], [1.0, 0.2, 0.0], [1.0, 1.1]],
    ids=["flat", "log scale", "ruined", "two bars"],
)
def test_equity_draws_any_account(values: list[float]) -> None:
    for narrow in (False, True):
        drawn = figures.equity(
            curve(values), curve(values), pd.DatetimeIndex(["2020-01-01"], tz="UTC"), "e", narrow=narrow
        )
        assert drawn.startswith("<svg")
        assert drawn.rstrip().endswith("</svg>")
        assert "nan" not in drawn


def test_figures_leave_the_settings_of_matplotlib_alone() -> None:
    before = dict(mpl.rcParams)
    figures.equity(curve([1, 2, 3]), curve([1, 2, 3]), pd.DatetimeIndex([], tz="UTC"), "e")
    assert dict(mpl.rcParams) == before

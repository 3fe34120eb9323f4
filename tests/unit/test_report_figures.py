from __future__ import annotations

import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from qtrade.forecasts import Forecasts
from qtrade.report import figures


def curve(values: list[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> pd.Series:
    return pd.Series(np.asarray(values), index=pd.date_range("2020-01-01", periods=len(values), tz="UTC"))


def test_thinning_keeps_the_ends_and_every_extreme() -> None:
    values = np.random.default_rng(0).standard_normal(10_000)
    values[1234], values[8765] = 50.0, -50.0
    stamps, kept = figures.thinned(curve(values), 100)
    assert len(kept) <= 400
    assert (kept.max(), kept.min(), kept[0], kept[-1]) == (50.0, -50.0, values[0], values[-1])
    assert stamps.is_monotonic_increasing
    assert stamps.is_unique


def test_paths_are_written_to_a_hundredth_of_a_point() -> None:
    values = np.exp(np.cumsum(0.01 * np.random.default_rng(0).standard_normal(3_000)))
    drawn = figures.equity(curve(values), curve(values[::-1]), pd.DatetimeIndex([], tz="UTC"), "e")
    paths = re.findall(r' d="([^"]+)"', drawn)
    assert len(paths) > 5
    assert not any(re.search(r"\.\d{3}", path) for path in paths)
    assert len(drawn) < 250_000


def day_after(days: float) -> pd.DatetimeIndex:
    start = pd.Timestamp("2017-04-03", tz="UTC")
    return pd.DatetimeIndex([start, start + pd.Timedelta(days=days)])


@pytest.mark.parametrize("most", [5, 7, 12])
@pytest.mark.parametrize("days", [0.05, 0.3, 1.9, 5, 20, 59, 61, 200, 364, 700, 900, 1090, 1300, 3000, 9000])
def test_any_span_of_time_has_a_few_dates_that_tell_the_year(most: int, days: float) -> None:
    with mpl.rc_context(figures.STYLE):
        figure, axes = figures.single(4.0, 3.0)
        axes.plot(figures.naive(day_after(days)), [0.0, 1.0])
        figures.few_dates(axes, most)
        figure.canvas.draw()
        left, right = axes.get_xlim()
        shown = [tick for tick in axes.get_xticks() if left <= tick <= right]
        assert 1 <= len(shown) <= most + 1
        told = [label.get_text() for label in axes.get_xticklabels()]
        told.append(axes.xaxis.get_major_formatter().get_offset())
        assert any(re.match(r"20\d\d", words) for words in told)


def test_equity_says_in_words_what_it_draws() -> None:
    drawn = figures.equity(curve([100, 150, 120]), curve([10, 10, 11]), pd.DatetimeIndex([], tz="UTC"), "e")
    label = re.search(r'aria-label="([^"]+)"', drawn)
    assert label is not None
    assert "1.20 in the strategy, with a deepest fall of 20%; 1.10 in buy and hold" in label.group(1)


def test_equity_draws_the_other_accounts_in_colours_of_their_own() -> None:
    none = pd.DatetimeIndex([], tz="UTC")
    beside = [curve([1, 2, 1 + place]) for place in range(len(figures.BESIDE))]
    drawn = figures.equity(curve([1, 2, 3]), curve([1, 1, 1]), none, "e", beside=beside)
    assert "Other strategies, in their order: 1.00, 2.00, 3.00, 4.00, 5.00." in drawn
    colours = set(re.findall(r"var\(--account(\d)\)", drawn))
    assert colours == {"2", "3", "4", "5", "6"}
    assert "Other strategies" not in figures.equity(curve([1, 2]), curve([1, 2]), none, "e")


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


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([1.0, 0.45, 3.2], ["0.5", "0.75", "1", "1.5", "2", "3"]),
        ([1.0, 0.9, 6.5], ["1", "1.5", "2", "3", "4", "6"]),
        ([1.0, 0.9, 30.0], ["1", "2", "4", "8", "16", "32"]),
    ],
)
def test_a_log_axis_has_ticks_enough_to_read_it(values: list[float], ticks: list[str], narrow: bool) -> None:
    drawn = figures.equity(curve(values), curve(values), pd.DatetimeIndex([], tz="UTC"), "e", narrow=narrow)
    assert re.findall(r">([\d.]+)\N{MULTIPLICATION SIGN}<", drawn) == ticks


@pytest.mark.parametrize("delay", [0, 3])
def test_a_path_starts_where_its_first_bar_does(delay: int) -> None:
    stamp = pd.DatetimeIndex(["2020-01-01"], tz="UTC")
    forecast = Forecasts(
        path=np.array([[0.01, 0.02]]),
        symbol=np.array(["A"], dtype=object),
        origin=stamp,
        fold=np.zeros(1, dtype=np.int64),
        seed=np.full(1, -1, dtype=np.int64),
        train_end=stamp,
        residuals={},
    )
    closes = np.array([100.0, 101, 102, 103, 104, 105, 106])
    drawn = figures.fan(forecast, np.array([0.03, 0.04]), closes, "f", delay=delay)

    def line(colour: str) -> tuple[float, float, float]:
        """First x, last x and last y of the last line in a colour."""
        lines = re.findall(rf'<path d="([^"]+)"[^>]*stroke: var\(--{colour}\)', drawn)
        points = [tuple(map(float, pair)) for pair in re.findall(r"([-\d.]+) ([-\d.]+)", lines[-1])]
        return points[0][0], points[-1][0], points[-1][1]

    (_, origin, _), (first, last, _), (from_origin, end, _) = line("muted"), line("model"), line("ink")
    bar = (last - first) / 2
    assert first - origin == pytest.approx(delay * bar, abs=1e-3)
    assert (from_origin, end) == pytest.approx((origin, last), abs=1e-3)


def test_the_same_positions_at_other_times_are_drawn_behind_an_account_and_told() -> None:
    values = np.linspace(100, 120, 50)
    null = np.linspace(1, np.array([0.5, 0.8, 1.1, 1.4, 2.5]), 50)
    plain = figures.equity(curve(values), curve(values), pd.DatetimeIndex([], tz="UTC"), "e")
    drawn = figures.equity(curve(values), curve(values), pd.DatetimeIndex([], tz="UTC"), "e", null=null)
    assert "at other times: 0.50 to 2.50 in nine cases of ten" in drawn
    assert "at other times" not in plain
    # Two bands, beside the drawdown that is always filled.
    bands = [len(re.findall(r'id="e-[^"]*PolyCollection[^"]*"', one)) for one in (plain, drawn)]
    assert bands[1] - bands[0] == 2


def test_figures_leave_the_settings_of_matplotlib_alone() -> None:
    before = dict(mpl.rcParams)
    figures.equity(curve([1, 2, 3]), curve([1, 2, 3]), pd.DatetimeIndex([], tz="UTC"), "e")
    assert dict(mpl.rcParams) == before

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from qtrade.forecasts import Forecasts
from qtrade.report import figures
from qtrade.report.examples import MOST_NUMBERS, MOST_ORIGINS, RANKS, examples, over_time
from qtrade.types import Bars, Float64Array

BARS, BEFORE, HORIZON = 300, 40, 6
Market = tuple[Bars, Forecasts, Float64Array]


@pytest.fixture(name="market", scope="module")
def two_markets(forecast_market: Callable[..., Market]) -> Market:
    return forecast_market(("A", "B"), bars=BARS, before=BEFORE, folds=5, horizon=HORIZON)


@pytest.fixture(autouse=True)
def undrawn_fans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes long, and is tested elsewhere."""
    monkeypatch.setattr(figures, "fan", lambda forecast, actual, closes, key, *, delay: f"{key}: {closes[-1]!r}")


def test_good_typical_and_bad_forecasts_are_three_of_each_in_order_of_their_error(market: Market) -> None:
    bars, forecasts, actual = market
    shown = examples(forecasts, actual, bars, 0)
    assert [name for name, _, _ in shown] == ["Good", "Typical", "Bad"]
    shares = [int(one.where.split(": ")[1].split("%")[0]) for _, _, drawn in shown for one in drawn]
    assert shares == [round(100 * share) for _, _, ranks in RANKS for share in ranks] == sorted(shares)


def test_nothing_is_shown_twice_or_invented(market: Market) -> None:
    bars, forecasts, actual = market
    few = np.arange(len(forecasts)) < 4
    shown = examples(forecasts.where(few), actual[few], bars, 0)
    where = [one.where.partition(":")[0] for _, _, drawn in shown for one in drawn]
    assert len(where) == len(set(where)) <= 4
    assert examples(forecasts, np.full_like(actual, np.nan), bars, 0) == []


@pytest.mark.parametrize("delay", [0, 2])
def test_the_time_line_holds_what_was_forecast_and_what_happened(market: Market, delay: int) -> None:
    bars, forecasts, actual = market
    told = over_time(forecasts, actual, bars, delay)
    assert told is not None
    assert (told["symbol"], told["horizon"], told["delay"]) == ("A", HORIZON, delay)
    rows = told["rows"]
    dates = [row["at"] for row in rows]
    assert dates == sorted(set(dates))
    assert len(rows) == MOST_ORIGINS
    assert dates[0] == f"{forecasts.origin.min():%Y-%m-%d}"
    place = bars.index.get_loc(rows[7]["at"] + " 00:00:00+00:00")
    closes = bars.close["A"].to_numpy()
    assert isinstance(place, int)
    assert rows[7]["close"] == float(f"{closes[place + delay]:.6g}")
    past = np.log(closes[place + 1 - 2 * HORIZON : place + delay + 1] / closes[place + delay])
    assert rows[7]["past"] == [round(value * 1e4) for value in past]
    row = int(np.nonzero((forecasts.symbol == "A") & (forecasts.origin == bars.index[place]))[0][0])
    assert rows[7]["path"] == [round(value * 1e4) for value in np.cumsum(forecasts.path[row])]
    assert rows[7]["real"] == [round(value * 1e4) for value in np.cumsum(actual[row])]
    band = [forecasts.quantile(q)[row] for q in (0.1, 0.9)]
    assert [rows[7]["low"], rows[7]["high"]] == [[round(value * 1e4) for value in one] for one in band]


def test_what_is_not_known_yet_is_no_number(market: Market) -> None:
    bars, forecasts, actual = market
    told = over_time(replace(forecasts, residuals={}), actual, bars, 0)
    assert told is not None
    assert told["rows"][-1]["real"][-1] is None
    assert all(value is not None for value in told["rows"][0]["real"])
    assert all("low" not in row for row in told["rows"])


def test_long_paths_leave_room_for_fewer_origins(forecast_market: Callable[..., Market]) -> None:
    horizon = 120
    bars, forecasts, actual = forecast_market(("A",), bars=BARS, before=300, folds=1, horizon=horizon)
    told = over_time(forecasts, actual, bars, 0)
    assert told is not None
    assert len(told["rows"]) == MOST_NUMBERS // (6 * horizon)
    assert (
        sum(len(row[name]) for row in told["rows"] for name in ("past", "path", "real", "low", "high")) <= MOST_NUMBERS
    )


def test_origins_without_a_price_to_start_from_are_left_out(market: Market) -> None:
    bars, forecasts, actual = market
    # The last origins start their paths beyond the last bar.
    told = over_time(forecasts, actual, bars, 3)
    assert told is not None
    assert told["rows"][-1]["at"] == f"{bars.index[-4]:%Y-%m-%d}"
    nothing = forecasts.where(forecasts.origin == forecasts.origin.max())
    assert over_time(nothing, actual[forecasts.origin == forecasts.origin.max()], bars, 0) is None

"""Each indicator against an obvious slow computation, and the table against what it promises."""

import math

import numpy as np
import pandas as pd
import pytest
import ta

from qtrade.features import wilder
from qtrade.features.indicators import FEATURE_SETS, FEATURES
from qtrade.features.market import Market
from qtrade.features.vendor import INDICATORS
from qtrade.types import Bars


@pytest.fixture(scope="module")
def bars() -> Bars:
    """Four hundred bars whose moves up and down often tie, as on a tick grid."""
    generator = np.random.default_rng(11)
    index = pd.date_range("2020-01-01", periods=400, freq="h", tz="UTC")
    close = np.round(50 + 0.1 * generator.integers(-5, 6, size=400).cumsum(), 1)
    opened = np.concatenate([close[:1], close[:-1]])
    top = np.maximum(opened, close) + 0.1 * generator.integers(0, 4, size=400)
    bottom = np.minimum(opened, close) - 0.1 * generator.integers(0, 4, size=400)
    volume = generator.integers(0, 900, size=400).astype(float)
    columns = {"open": opened, "high": top, "low": bottom, "close": close, "volume": volume}
    frames = {name: pd.DataFrame({"X": values}, index=index) for name, values in columns.items()}
    return Bars(**frames, interval="1h", calendar="XNYS", periods_per_year=1764)


@pytest.fixture(scope="module")
def market(bars: Bars) -> Market:
    return Market.of(bars, 0)


def wilder_loop(values: list[float], window: int) -> list[float]:
    """Wilder's mean of values that start with one NaN, bar by bar."""
    result = [math.nan] * len(values)
    result[window] = sum(values[1 : window + 1]) / window
    for bar in range(window + 1, len(values)):
        result[bar] = (result[bar - 1] * (window - 1) + values[bar]) / window
    return result


def test_wilder_mean_of_five_numbers_by_hand() -> None:
    smoothed = wilder.smooth(pd.Series([math.nan, 1.0, 2.0, 3.0, 4.0, 5.0]), 3)
    np.testing.assert_allclose(smoothed, [math.nan, math.nan, math.nan, 2, 2 + 2 / 3, 2 + 2 / 3 + (5 - 8 / 3) / 3])


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_wilder_mean_of_too_few_numbers_is_undefined(length: int) -> None:
    assert wilder.smooth(pd.Series([1.0] * length, dtype=float), 4).isna().all()


def test_true_range_reaches_to_the_close_before() -> None:
    high, low, close = (pd.Series(values) for values in ([10.0, 20.0, 9.0], [9.0, 19.0, 8.0], [9.5, 19.5, 8.5]))
    np.testing.assert_allclose(wilder.true_range(high, low, close), [math.nan, 20 - 9.5, 19.5 - 8])


def test_directional_movement_agrees_with_a_plain_loop(market: Market) -> None:
    # Prices in whole tenths make ties exact here; the fast version must see the same ties in floating point.
    high, low, close = ([round(10 * price) for price in series] for series in (market.high, market.low, market.close))
    ups, downs, ranges = [math.nan], [math.nan], [math.nan]
    for bar in range(1, len(close)):
        up, down = high[bar] - high[bar - 1], low[bar - 1] - low[bar]
        ups.append(up if up > down and up > 0 else 0)
        downs.append(down if down > up and down > 0 else 0)
        ranges.append(max(high[bar] - low[bar], abs(high[bar] - close[bar - 1]), abs(low[bar] - close[bar - 1])))
    assert sum(up == down for up, down in zip(np.diff(high), -np.diff(low), strict=True) if up > 0) > 5
    smoothed = zip(wilder_loop(ups, 14), wilder_loop(downs, 14), wilder_loop(ranges, 14), strict=True)
    plus, minus = zip(*((up / span, down / span) for up, down, span in smoothed), strict=True)
    imbalance = [abs(a - b) / (a + b) for a, b in zip(plus, minus, strict=True)]
    adx = [math.nan] * 13 + wilder_loop(imbalance[13:], 14)

    np.testing.assert_allclose(market.directional.plus, plus, rtol=1e-10)
    np.testing.assert_allclose(market.directional.minus, minus, rtol=1e-10)
    np.testing.assert_allclose(market.directional.adx, adx, rtol=1e-10)
    assert market.directional.adx.first_valid_index() == market.close.index[27]


def test_relative_strength_and_true_range_agree_with_ta_once_both_have_forgotten_their_start(market: Market) -> None:
    late = slice(300, None)
    rsi = ta.momentum.RSIIndicator(market.close, 14).rsi() / 50 - 1
    atr = ta.volatility.AverageTrueRange(market.high, market.low, market.close, 14).average_true_range()
    tsi = ta.momentum.TSIIndicator(market.close).tsi() / 100
    np.testing.assert_allclose(market.relative_strength()[late], rsi[late], atol=1e-7)
    np.testing.assert_allclose(market.average_true_range()[late], (atr / market.close)[late], atol=1e-7)
    np.testing.assert_allclose(market.true_strength()[late], tsi[late], atol=1e-7)


def test_vortex_agrees_with_ta(market: Market) -> None:
    vortex = ta.trend.VortexIndicator(market.high, market.low, market.close).vortex_indicator_diff()
    np.testing.assert_allclose(market.vortex()[14:], vortex[14:], atol=1e-10)


def test_windowed_features_of_one_bar_agree_with_their_formula(market: Market) -> None:
    now = 200
    opened, high, low, close, volume = (
        series.to_numpy() for series in (market.open, market.high, market.low, market.close, market.volume)
    )
    last = slice(now - 19, now + 1)
    moves = np.diff(close)[now - 20 : now]
    returns = np.diff(np.log(close))[:now]
    location = np.where(high > low, (2 * close - high - low) / np.where(high > low, high - low, 1), 0)
    typical = (high + low + close) / 3
    two_weeks = slice(now - 13, now + 1)
    top, bottom = high[two_weeks].max(), low[two_weeks].min()
    spread = close[last].std()
    expected = {
        "log_return": math.log(close[now] / close[now - 1]),
        "return_5": math.log(close[now] / close[now - 5]),
        "return_60": math.log(close[now] / close[now - 60]),
        "gap": math.log(opened[now] / close[now - 1]),
        "body": math.log(close[now] / opened[now]),
        "range": math.log(high[now] / low[now]),
        "close_location": location[now],
        "drawdown": math.log(close[now] / close[now - 59 : now + 1].max()),
        "ichimoku_26": 2 * close[now] / (high[now - 25 : now + 1].max() + low[now - 25 : now + 1].min()) - 1,
        "ichimoku_52": 2 * close[now] / (high[now - 51 : now + 1].max() + low[now - 51 : now + 1].min()) - 1,
        "stochastic": 2 * (close[now] - bottom) / (top - bottom) - 1,
        "awesome": ((high + low)[now - 4 : now + 1].mean() - (high + low)[now - 33 : now + 1].mean()) / 2 / close[now],
        "realised_20": math.sqrt((returns[-20:] ** 2).mean()),
        "realised_ratio": math.sqrt((returns[-5:] ** 2).mean() / (returns[-60:] ** 2).mean()) - 1,
        "parkinson": math.sqrt((np.log(high / low)[last] ** 2).mean() / (4 * math.log(2))),
        "band_position": (close[now] - close[last].mean()) / (2 * spread),
        "band_width": 4 * spread / close[last].mean(),
        "relative_volume": math.log((1 + volume[now] / volume[last].mean()) / 2),
        "volume_score": (volume[now] - volume[last].mean()) / volume[last].std(),
        "volume_balance": (np.sign(moves) * volume[last]).sum() / volume[last].sum(),
        "money_flow": (location * volume)[last].sum() / volume[last].sum(),
        "vwap": close[now] * volume[two_weeks].sum() / (typical * volume)[two_weeks].sum() - 1,
    }
    for name, value in expected.items():
        assert FEATURES[name].compute(market).iloc[now] == pytest.approx(value, rel=1e-9, abs=1e-12), name


def test_exponential_features_of_the_last_bar_agree_with_a_plain_loop(market: Market) -> None:
    def average(values: list[float], span: int) -> list[float]:
        means = values[:1]
        for value in values[1:]:
            means.append(means[-1] + 2 / (span + 1) * (value - means[-1]))
        return means

    close, volume = market.close.tolist(), market.volume.tolist()
    fast, slow = average(close, 12), average(close, 26)
    macd = [a - b for a, b in zip(fast, slow, strict=True)]
    signal = average(macd[25:], 9)[-1]
    thrice = average(average(average(close, 15)[14:], 15)[14:], 15)
    force = average([(b - a) * v for a, b, v in zip(close[:-1], close[1:], volume[1:], strict=True)], 13)[-1]
    expected = {
        "ema_12": close[-1] / fast[-1] - 1,
        "ema_26": close[-1] / slow[-1] - 1,
        "macd": macd[-1] / close[-1],
        "macd_signal": signal / close[-1],
        "macd_diff": (macd[-1] - signal) / close[-1],
        "trix": thrice[-1] / thrice[-2] - 1,
        "force": force / close[-1] / np.mean(volume[-20:]),
        "pvo": average(volume, 12)[-1] / average(volume, 26)[-1] - 1,
    }
    for name, value in expected.items():
        assert FEATURES[name].compute(market).iloc[-1] == pytest.approx(value, rel=1e-8), name


def test_bounded_features_stay_within_their_bounds(market: Market) -> None:
    for name in ("rsi", "stochastic", "stochastic_3", "tsi", "close_location", "money_flow", "volume_balance"):
        values = FEATURES[name].compute(market)[FEATURES[name].warmup :]
        assert values.abs().max() <= 1 + 1e-12, name
        assert values.min() < 0 < values.max(), name


def test_a_window_without_any_move_is_neutral() -> None:
    index = pd.date_range("2020-01-01", periods=300, freq="h", tz="UTC")
    price = pd.DataFrame({"X": np.full(300, 0.1)}, index=index)
    flat = Market.of(Bars(price, price, price, price, price * 70, "1h", "24/7", 8760), 0)
    for feature in FEATURES.values():
        values = feature.compute(flat)[feature.warmup :]
        np.testing.assert_allclose(values, 0, atol=1e-12, err_msg=feature.name)


def test_high_and_low_that_miss_the_close_by_a_rounding_error_are_widened() -> None:
    index = pd.date_range("2020-01-01", periods=2, freq="h", tz="UTC")
    price = pd.DataFrame({"X": [100.0, 100.0]}, index=index)
    close = price * (1 + 5e-7)
    market = Market.of(Bars(price, price, price, close, price, "1h", "24/7", 8760), 0)
    assert (market.high == market.close).all()
    assert (market.close_location() == 1).all()


def test_the_table_is_complete_and_consistent() -> None:
    assert FEATURE_SETS["all"] == tuple(FEATURES)
    assert 20 <= len(FEATURE_SETS["default"]) <= 25
    for names in FEATURE_SETS.values():
        assert set(names) <= set(FEATURES)
        assert len(set(names)) == len(names)
        assert names[-1] == "log_return"
    for name, feature in FEATURES.items():
        assert feature.name == name
        assert feature.formula
        assert feature.needs_volume == (feature.group == "volume")


def test_a_windowed_feature_declares_the_shortest_warmup_that_is_enough(bars: Bars) -> None:
    whole = Market.of(bars, 0)
    starts = range(60, 100)
    later = [Market.of(bars.rows(start, 400), 0) for start in starts]
    for feature in FEATURES.values():
        # A recursive average fades rather than ends; a feature of one bar has no warm-up.
        if 0 < feature.warmup < 100:
            row, known = feature.warmup - 1, feature.compute(whole)
            early = np.array([feature.compute(market).iloc[row] for market in later])
            differs = ~np.isclose(early, [known.iloc[start + row] for start in starts])
            assert differs.any(), feature.name


@pytest.mark.parametrize("column", INDICATORS)
def test_indicators_of_ta_are_what_ta_gives_all_at_once(market: Market, column: str) -> None:
    """One by one, with windows written out here, they are those of the library's own table, to the bit."""
    names = ("open", "high", "low", "close", "volume")
    frame = pd.DataFrame({name: getattr(market, name) for name in names})
    expected = ta.add_all_ta_features(frame, *names, vectorized=True, fillna=False)[column]
    pd.testing.assert_series_equal(market.ta(column), expected, check_names=False, check_exact=True)
    assert expected.notna().sum() > 300

"""The indicators of `ta` that features are made of, each computed when it is asked for and never filled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ta import momentum, trend, volatility, volume

from qtrade.features.series import Series

# Each takes something with (T,) series high, low, close and volume.
INDICATORS: Mapping[str, Callable[[Any], Series]] = {
    "trend_ema_fast": lambda m: trend.EMAIndicator(m.close, 12).ema_indicator(),
    "trend_ema_slow": lambda m: trend.EMAIndicator(m.close, 26).ema_indicator(),
    "trend_macd": lambda m: trend.MACD(m.close).macd(),
    "trend_macd_signal": lambda m: trend.MACD(m.close).macd_signal(),
    "trend_macd_diff": lambda m: trend.MACD(m.close).macd_diff(),
    "trend_trix": lambda m: trend.TRIXIndicator(m.close, 15).trix(),
    "trend_ichimoku_conv": lambda m: _ichimoku(m).ichimoku_conversion_line(),
    "trend_ichimoku_base": lambda m: _ichimoku(m).ichimoku_base_line(),
    "trend_ichimoku_b": lambda m: _ichimoku(m).ichimoku_b(),
    "momentum_ao": lambda m: momentum.AwesomeOscillatorIndicator(m.high, m.low, 5, 34).awesome_oscillator(),
    "momentum_stoch": lambda m: momentum.StochasticOscillator(m.high, m.low, m.close, 14, 3).stoch(),
    "momentum_pvo": lambda m: momentum.PercentageVolumeOscillator(m.volume).pvo(),
    "volatility_bbm": lambda m: volatility.BollingerBands(m.close, 20, 2).bollinger_mavg(),
    "volatility_bbh": lambda m: volatility.BollingerBands(m.close, 20, 2).bollinger_hband(),
    "volatility_bbw": lambda m: volatility.BollingerBands(m.close, 20, 2).bollinger_wband(),
    "volume_cmf": lambda m: volume.ChaikinMoneyFlowIndicator(m.high, m.low, m.close, m.volume).chaikin_money_flow(),
    "volume_fi": lambda m: volume.ForceIndexIndicator(m.close, m.volume, 13).force_index(),
    "volume_vwap": lambda m: volume.VolumeWeightedAveragePrice(
        m.high, m.low, m.close, m.volume, 14
    ).volume_weighted_average_price(),
}
"""By the name of the column that `ta.add_all_ta_features` would put them in."""


def _ichimoku(market: Any) -> Any:
    return trend.IchimokuIndicator(market.high, market.low, 9, 26, 52, visual=False)

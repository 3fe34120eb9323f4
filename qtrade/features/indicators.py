"""The table of features: what can be asked for, what each one says, and how long it needs.

Every feature is a ratio, a log ratio or a bounded oscillator. None is a price level, none needs a later bar, and none
depends on where the history starts once its warm-up is over.

Left out on purpose: running totals (OBV, ADI, VPT, NVI, cumulative return) and KAMA, which remember the first bar for
too long; KST, visual Ichimoku and DPO, which `ta` starts with the mean of the whole series; the Schaff cycle and the
stochastic RSI, which stretch a small range to a full scale; ease of movement, which divides by the volume of one bar;
Williams %R, ROC, PPO, Donchian and Keltner bands, which repeat the stochastic, the returns, the MACD and the ATR.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from qtrade.features.market import Market
from qtrade.features.series import Series

Group = Literal["return", "trend", "momentum", "volatility", "volume"]


@dataclass(frozen=True)
class Feature:
    """One column of model input.

    Attributes
    ----------
    name, group
        What it is called, and what kind of statement it makes.
    warmup
        Leading bars without a value. For a recursive average: the bars after which its start has faded, so that
        a longer history would change the value by less than 1e-5.
    compute
        From one symbol's bars to its (T,) series. Rows before `warmup` may hold anything.
    formula
        How it is computed. EMA(n) is the exponential mean of span n, WMA(n) Wilder's mean of n bars, a move the
        change of close from the bar before.
    """

    name: str
    group: Group
    warmup: int
    compute: Callable[[Market], Series]
    formula: str

    @property
    def needs_volume(self) -> bool:
        """Whether it says nothing about a market that reports no volume."""
        return self.group == "volume"


# When the start of a recursive average has faded: the slowest exponential one (span 26) keeps (25/27)^200 = 2e-7 of it,
# Wilder's (14 bars) (13/14)^200 = 4e-7. Averaging an average takes longer.
FADED = 200
FADED_TWICE = 250

_TABLE = (
    Feature("return_5", "return", 5, lambda m: m.change(5), "log(close / close 5 bars before)"),
    Feature("return_20", "return", 20, lambda m: m.change(20), "log(close / close 20 bars before)"),
    Feature("return_60", "return", 60, lambda m: m.change(60), "log(close / close 60 bars before)"),
    Feature("gap", "return", 1, Market.gap, "log(open / close before)"),
    Feature("body", "return", 0, Market.body, "log(close / open)"),
    Feature("ema_12", "trend", FADED, lambda m: m.above("trend_ema_fast"), "close / EMA(12) of close - 1"),
    Feature("ema_26", "trend", FADED, lambda m: m.above("trend_ema_slow"), "close / EMA(26) of close - 1"),
    Feature("macd", "trend", FADED, lambda m: m.share("trend_macd"), "(EMA(12) - EMA(26)) of close / close"),
    Feature("macd_signal", "trend", FADED, lambda m: m.share("trend_macd_signal"), "EMA(9) of the MACD line / close"),
    Feature("macd_diff", "trend", FADED, lambda m: m.share("trend_macd_diff"), "(MACD line - its signal) / close"),
    Feature("trix", "trend", FADED, lambda m: m.ta("trend_trix") / 100, "relative change of EMA(15) taken thrice"),
    Feature("adx", "trend", FADED_TWICE, lambda m: m.directional.adx, "WMA(14) of |+DI - -DI| / (+DI + -DI)"),
    Feature("plus_di", "trend", FADED, lambda m: m.directional.plus, "WMA(14) of upward moves / of true range"),
    Feature("minus_di", "trend", FADED, lambda m: m.directional.minus, "WMA(14) of downward moves / of true range"),
    Feature("vortex", "trend", 14, Market.vortex, "(upward - downward vortex of 14 bars) / their true range"),
    Feature("ichimoku_9", "trend", 8, lambda m: m.above("trend_ichimoku_conv"), "close / middle of 9-bar range - 1"),
    Feature("ichimoku_26", "trend", 25, lambda m: m.above("trend_ichimoku_base"), "close / middle of 26-bar range - 1"),
    Feature("ichimoku_52", "trend", 51, lambda m: m.above("trend_ichimoku_b"), "close / middle of 52-bar range - 1"),
    Feature("drawdown", "trend", 59, lambda m: m.drawdown(60), "log(close / highest close of 60 bars)"),
    Feature("rsi", "momentum", FADED, Market.relative_strength, "WMA(14) of rises / that of |moves|, as -1..1"),
    Feature("stochastic", "momentum", 13, Market.stochastic, "place of close in the 14-bar range, in -1..1"),
    Feature("stochastic_3", "momentum", 15, Market.stochastic_mean, "mean of 3 bars of stochastic"),
    Feature("tsi", "momentum", FADED_TWICE, Market.true_strength, "EMA(13) of EMA(25) of moves / that of |moves|"),
    Feature("awesome", "momentum", 33, lambda m: m.share("momentum_ao"), "(5-bar - 34-bar mean middle) / close"),
    Feature("close_location", "momentum", 0, Market.close_location, "place of close in its own bar, in -1..1"),
    Feature("range", "volatility", 0, Market.range, "log(high / low)"),
    Feature("atr", "volatility", FADED, Market.average_true_range, "WMA(14) of true range / close"),
    Feature("realised_5", "volatility", 5, lambda m: m.realised(5), "root mean square of 5 log returns"),
    Feature("realised_20", "volatility", 20, lambda m: m.realised(20), "root mean square of 20 log returns"),
    Feature("realised_60", "volatility", 60, lambda m: m.realised(60), "root mean square of 60 log returns"),
    Feature("realised_ratio", "volatility", 60, Market.realised_ratio, "realised_5 / realised_60 - 1"),
    Feature("parkinson", "volatility", 19, lambda m: m.parkinson(20), "volatility from the high-low ranges of 20 bars"),
    Feature("band_position", "volatility", 19, Market.band_position, "place of close in the Bollinger bands, -1..1"),
    Feature("band_width", "volatility", 19, lambda m: m.ta("volatility_bbw") / 100, "Bollinger band width / middle"),
    Feature("relative_volume", "volume", 19, Market.relative_volume, "log((1 + volume / its 20-bar mean) / 2)"),
    Feature("volume_score", "volume", 19, Market.volume_score, "(volume - its 20-bar mean) / their deviation"),
    Feature("volume_balance", "volume", 20, Market.volume_balance, "volume of (rising - falling) / all of 20 bars"),
    Feature("money_flow", "volume", 19, lambda m: m.ta("volume_cmf"), "close_location weighted by volume, 20 bars"),
    Feature("vwap", "volume", 13, lambda m: m.above("volume_vwap"), "close / volume-weighted price of 14 bars - 1"),
    Feature("force", "volume", FADED, Market.force, "EMA(13) of move x volume / (close x mean volume)"),
    Feature("pvo", "volume", FADED, lambda m: m.ta("momentum_pvo") / 100, "EMA(12) / EMA(26) of volume - 1"),
    Feature("log_return", "return", 1, lambda m: m.log_return, "log(close / close before): the target's own past"),
)

FEATURES = {feature.name: feature for feature in _TABLE}
"""Every feature by name."""

FEATURE_SETS: dict[str, tuple[str, ...]] = {
    "minimal": ("return_5", "return_20", "range", "realised_20", "relative_volume", "log_return"),
    "default": (
        *("return_5", "return_20", "gap"),
        *("ema_26", "macd", "macd_diff", "adx", "plus_di", "minus_di", "vortex", "drawdown"),
        *("rsi", "stochastic", "close_location"),
        *("range", "atr", "realised_5", "realised_20", "band_position", "band_width"),
        *("relative_volume", "volume_balance", "money_flow", "vwap"),
        "log_return",
    ),
    "all": tuple(FEATURES),
}
"""Names to start from; `log_return` is in each, and last, since models find the target's own past there."""

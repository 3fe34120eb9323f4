"""One trade of a backtest, explained: the facts, in the order in which they arose.

Money and prices are in the currency of the prices. A return is simple and a share of one, unless it is called
logarithmic. A stamp is that of a bar, as in `qtrade.types.Bars`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

NO_FORECAST = "this decision does not come from a forecast"


@dataclass(frozen=True)
class Trade:
    """Which fill it is: its number from 1 in the order of execution, of how many, and why it was made.

    `reason` is that of `qtrade.types.BacktestResult.trades`; `side` is ``buy`` or ``sell``.
    """

    number: int
    trades: int
    symbol: str
    side: str
    reason: str


@dataclass(frozen=True)
class Decision:
    """What was decided at the close of a bar; for a stop or a target, the decision that its position was held on.

    Attributes
    ----------
    close_price
        Price at which that bar closed.
    weight_before, weight_after
        Decided at the close before, and at this one.
    held_share
        Share of the account that was held at this close.
    """

    stamp: pd.Timestamp
    close_price: float
    weight_before: float
    weight_after: float
    held_share: float


@dataclass(frozen=True)
class ForecastPath:
    """A predicted path: cumulative log return and price after 1 .. H bars. Seed -1 is the mean that was traded."""

    seed: int
    cumulative_log_return: tuple[float, ...]
    price: tuple[float, ...]


@dataclass(frozen=True)
class Forecast:
    """What the model said when the decision was made.

    Attributes
    ----------
    fold, train_end, age_bars
        Which model it was, the last bar it knew, and the bars from there to the decision.
    start, start_price
        Close from which the path starts: the decision's, or `split.delay` bars later; at most the last one there is.
    mean, seeds
        The path that was traded, and those of the seeds whose mean it is.
    end_return, peak_return, peak_step, trough_return, trough_step
        Expected by the last step; highest and lowest of all steps, and after how many bars.
    low_price, high_price
        80 % interval of the price after each step, from validation errors; None without any.
    """

    fold: int
    train_end: pd.Timestamp
    age_bars: int
    start: pd.Timestamp
    start_price: float
    mean: ForecastPath
    seeds: tuple[ForecastPath, ...]
    end_return: float
    peak_return: float
    peak_step: int
    trough_return: float
    trough_step: int
    low_price: tuple[float, ...] | None
    high_price: tuple[float, ...] | None


@dataclass(frozen=True)
class ModelFile:
    """The weights of one seed: their file below the run's folder, its SHA-256, and whether it is as training left it.

    `sha256` is None where the file is gone.
    """

    seed: int
    path: str
    sha256: str | None
    unaltered: bool


@dataclass(frozen=True)
class Fill:
    """How the order was filled.

    Attributes
    ----------
    at
        ``open`` or ``close`` of the bar; ``stop`` or ``target`` where the price got there within it.
    unslipped_price, price
        Before slippage, and paid or received.
    units
        Signed; `units_before` plus `units` is `units_after`.
    units_wanted
        That the weight asked for; where `units_after` are others, money did not reach for more.
    worth_money
        Of the account at the unslipped prices of that moment, before the fill.
    notional_money
        Units without their sign, times `price`.
    share
        Of `worth_money` that `notional_money` is.
    """

    stamp: pd.Timestamp
    at: str
    unslipped_price: float
    price: float
    units_before: float
    units: float
    units_after: float
    units_wanted: float
    worth_money: float
    notional_money: float
    share: float
    slippage_bp: float
    slippage_money: float
    fees_money: float

    @property
    def cost_money(self) -> float:
        """Slippage and fees."""
        return self.slippage_money + self.fees_money


@dataclass(frozen=True)
class Levels:
    """Prices at which the position was to be closed within a bar; None for none."""

    stop_price: float | None
    target_price: float | None


@dataclass(frozen=True)
class Episode:
    """A position from the fill that opened it to the one that closed it, or turned it over.

    Attributes
    ----------
    closed
        Stamp of the last fill; None for a position that is still held, which is valued at `last`.
    last, last_price
        The last fill and its price; or the last bar and its close.
    ended
        ``decision``, ``band``, ``stop``, ``target``, ``turned over``, ``still held`` or ``ruined``.
    held_bars
        Bars from the opening fill to `last`.
    fills
        How many fills there were.
    most_money
        The largest value that the position had after a fill, at the unslipped price.
    gross_money, net_money
        What it earned at the unslipped prices, and after slippage, fees and financing.
    financing_money
        For the position itself: borrowed shares and funding.
    margin_money
        Interest on money that the whole account borrowed meanwhile; not part of `net_money`.
    gross_return, net_return
        `gross_money` and `net_money` as shares of `most_money`.
    """

    side: str
    opened: pd.Timestamp
    entry_price: float
    closed: pd.Timestamp | None
    last: pd.Timestamp
    last_price: float
    ended: str
    held_bars: int
    fills: int
    most_money: float
    gross_money: float
    slippage_money: float
    fees_money: float
    financing_money: float
    margin_money: float
    net_money: float
    gross_return: float
    net_return: float


@dataclass(frozen=True)
class Outcome:
    """What the traded path expected of the closes of some bars, and what came.

    `what` says which bars: those up to the position's end, or all that the path reaches. `steps` counts them.
    """

    what: str
    steps: int
    expected_return: float
    actual_return: float

    @property
    def error_return(self) -> float:
        """What came minus what was expected."""
        return self.actual_return - self.expected_return


@dataclass(frozen=True, eq=False)
class Explanation:
    """Everything about one trade; see `qtrade.pipeline.explain.explain_trade`.

    Attributes
    ----------
    run, strategy, source_sha256
        Names of the run and the strategy with its parameters, and the hash of the strategy's file.
    used_forecast
        Whether the strategy decides by forecasts at all; None where its file is gone or is another one by now.
    forecast, kind, files
        What the decision or the levels come from, and the model that said it; None and empty where they come from none.
    bars
        Open, high, low, close and volume around the trade.
    """

    run: str
    strategy: str
    source_sha256: str
    trade: Trade
    decision: Decision
    used_forecast: bool | None
    forecast: Forecast | None
    kind: str | None
    files: tuple[ModelFile, ...]
    fill: Fill
    levels: Levels
    episode: Episode
    outcomes: tuple[Outcome, ...]
    bars: pd.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON has it; stamps are ISO texts, and what is not known is None."""
        told = {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}
        told["fill"]["cost_money"] = _plain(self.fill.cost_money)
        for outcome, one in zip(told["outcomes"], self.outcomes, strict=True):
            outcome["error_return"] = _plain(one.error_return)
        told["note"] = "" if self.used_forecast and self.forecast else origin_of(self)
        return told


def origin_of(explanation: Explanation) -> str:
    """Say in a sentence what the decision has to do with a forecast."""
    if explanation.used_forecast is False:
        exits = "; its stop and target do" if explanation.forecast else ""
        return f"{NO_FORECAST}: the strategy decides the same without any{exits}"
    if explanation.forecast is None:
        return f"{NO_FORECAST}: there is none of {explanation.trade.symbol} at this close"
    if explanation.used_forecast is None:
        return "whether the strategy decided by this forecast is not known: its file is gone or is another one by now"
    return "the strategy decides by forecasts, and this is the one of that close"


def _plain(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        rows = value.to_dict("records")
        return [{"stamp": stamp.isoformat(), **row} for stamp, row in zip(value.index, rows, strict=True)]
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value

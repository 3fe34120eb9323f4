"""One trade of a backtest, explained in lines that can be followed with pencil and paper."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from qtrade.report.explanation import Episode, Explanation, origin_of


def lines(explanation: Explanation) -> list[str]:
    """Tell the story in short plain lines whose numbers add up, up to the digits shown."""
    trade, decision, fill = explanation.trade, explanation.decision, explanation.fill
    told = [
        f"Trade {trade.number} of {trade.trades} of {explanation.strategy} in {explanation.run}",
        f"{trade.side} {_units(abs(fill.units))} {trade.symbol}, {_REASONS[trade.reason]}",
        "",
        f"Decided at the close of {when(decision.stamp)}, at {price(decision.close_price)}: "
        f"weight {decision.weight_before:g} -> {decision.weight_after:g}, "
        f"with {decision.held_share:.2%} of the account held",
        *_forecast_lines(explanation),
        "",
        *_fill_lines(explanation),
        "",
        *_episode_lines(explanation.episode),
    ]
    told += [
        f"Forecast of {one.what} ({_bars(one.steps)}): expected {one.expected_return:+.2%}, "
        f"came {one.actual_return:+.2%}, off by {one.error_return:+.2%}"
        for one in explanation.outcomes
    ]
    return told


def price(value: float) -> str:
    """Write a price with the digits that a hundredth of a basis point shows in, but at least two decimals."""
    return f"{value:,.{max(2, 6 - math.floor(math.log10(value)))}f}"


def when(stamp: pd.Timestamp) -> str:
    """Write a stamp, without the time of day where it is midnight."""
    return f"{stamp:%Y-%m-%d}" if stamp == stamp.normalize() else f"{stamp:%Y-%m-%d %H:%M} UTC"


_REASONS = {
    "decision": "because its weight changed",
    "band": "because its share had drifted out of the band",
    "stop": "because the price got to its stop",
    "target": "because the price got to its target",
}


def _forecast_lines(explanation: Explanation) -> Iterator[str]:
    forecast = explanation.forecast
    if forecast is None or not explanation.used_forecast:
        yield f"  {origin_of(explanation)}"
    if forecast is None:
        return
    mean, last = forecast.mean, len(forecast.mean.price)
    seeds = f", mean of {len(forecast.seeds)} seeds" if len(forecast.seeds) > 1 else ""
    yield (
        f"Forecast by {explanation.kind}, fold {forecast.fold + 1}, trained up to {when(forecast.train_end)}, "
        f"{_bars(forecast.age_bars)} before{seeds}"
    )
    yield (
        f"  after {_bars(last)}: {price(forecast.start_price)} x exp({mean.cumulative_log_return[-1]:+.6f}) = "
        f"{price(mean.price[-1])}, {forecast.end_return:+.2%}"
    )
    yield (
        f"  highest {forecast.peak_return:+.2%} after {_bars(forecast.peak_step)}, "
        f"lowest {forecast.trough_return:+.2%} after {_bars(forecast.trough_step)}"
    )
    if forecast.low_price is not None and forecast.high_price is not None:
        yield f"  80% interval after {_bars(last)}: {price(forecast.low_price[-1])} to {price(forecast.high_price[-1])}"
    for path, file in zip(forecast.seeds, explanation.files, strict=True):
        hashed = f"SHA-256 {file.sha256[:16]}" if file.sha256 else "which is gone"
        altered = "" if file.unaltered or not file.sha256 else ", not as training left it"
        yield f"  seed {path.seed}: {path.cumulative_log_return[-1]:+.6f} by {file.path}, {hashed}{altered}"


def _fill_lines(explanation: Explanation) -> Iterator[str]:
    decision, fill, levels = explanation.decision, explanation.fill, explanation.levels
    exit_price = levels.stop_price if fill.at == "stop" else levels.target_price
    yield f"Filled at the {fill.at} of {when(fill.stamp)}, at {price(fill.unslipped_price)} before slippage"
    if fill.at in ("open", "close"):
        yield (
            f"  wanted: weight {decision.weight_after:g} x account {fill.worth_money:,.2f} / "
            f"{price(fill.unslipped_price)} = {_units(fill.units_wanted)} units"
        )
    elif exit_price is not None and not math.isclose(exit_price, fill.unslipped_price, rel_tol=1e-9):
        yield f"  that is where the bar opened, beyond the {fill.at} of {price(exit_price)}"
    short = abs(fill.units_wanted - fill.units_after) > 1e-6 * abs(fill.units)
    yield (
        f"  units: {_units(fill.units_before)} {fill.units:+,.4f} = {_units(fill.units_after)}"
        f"{' (money did not reach for more)' if short else ''}"
    )
    yield (
        f"  notional: {_units(abs(fill.units))} x {price(fill.price)} = {fill.notional_money:,.2f}, "
        f"{fill.share:.2%} of the account"
    )
    yield (
        f"  cost: slippage {fill.slippage_money:,.2f} ({fill.slippage_bp:.2f} bp) + fees {fill.fees_money:,.2f} = "
        f"{fill.cost_money:,.2f}"
    )
    if levels.stop_price is not None or levels.target_price is not None:
        named = (("stop", levels.stop_price), ("target", levels.target_price))
        yield f"  in force: {', '.join(f'{name} {price(at)}' for name, at in named if at is not None)}"


def _episode_lines(episode: Episode) -> Iterator[str]:
    end = f"by {_ENDS[episode.ended]}" if episode.closed else _ENDS[episode.ended]
    yield (
        f"Position: {episode.side} from {when(episode.opened)} at {price(episode.entry_price)} to "
        f"{when(episode.last)} at {price(episode.last_price)}, {_bars(episode.held_bars)}, {end}"
    )
    yield (
        f"  gross {episode.gross_money:+,.2f} - slippage {episode.slippage_money:,.2f} - fees "
        f"{episode.fees_money:,.2f} - financing {episode.financing_money:,.2f} = net {episode.net_money:+,.2f}"
    )
    yield (
        f"  of {episode.most_money:,.2f}, the most it was worth after a fill: gross {episode.gross_return:+.2%}, "
        f"net {episode.net_return:+.2%}"
    )
    if episode.margin_money:
        yield f"  meanwhile the whole account paid {episode.margin_money:,.2f} for borrowed money"


_ENDS = {
    "decision": "a decision",
    "band": "the band",
    "stop": "its stop",
    "target": "its target",
    "turned over": "a fill that turned it over",
    "still held": "still held then",
    "ruined": "when the account was ruined",
}


def _units(value: float) -> str:
    return f"{value:,.4f}"


def _bars(count: int) -> str:
    return f"{count} bar{'s' if count != 1 else ''}"

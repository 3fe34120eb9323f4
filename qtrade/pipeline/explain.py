"""Explain one trade of a saved backtest: what was forecast, decided, filled and paid, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from qtrade.config import RunConfig
from qtrade.errors import UsageError
from qtrade.files import sha256
from qtrade.forecasts import Forecasts
from qtrade.pipeline.episode import EXITS, episode_of, fill_of
from qtrade.pipeline.forecast import HIGH, LOW
from qtrade.pipeline.saved import SavedBacktest, find_backtest, traded_again
from qtrade.pipeline.venue import Venue, make_venue
from qtrade.report.explanation import (
    Decision,
    Episode,
    Explanation,
    Fill,
    Forecast,
    ForecastPath,
    Levels,
    ModelFile,
    Outcome,
    Trade,
)
from qtrade.runs import Run, check_run, fold_is_complete
from qtrade.strategy import SAME_WEIGHT, decide, load_strategy, strategy_folders
from qtrade.types import BAR_FIELDS, BacktestResult, Float64Array

BARS_BEFORE = 24
"""Bars that are shown before the decision."""


def explain_trade(run: Run, strategy: str, number: int, *, config: RunConfig | None = None) -> Explanation:
    """Explain one trade of a saved backtest.

    The backtest is traded again first: what is explained is what its decisions make.

    Parameters
    ----------
    strategy
        Its name, a spec with some or all of its parameters, or the name of the backtest's folder.
    number
        Of the trade, from 1, in the order of ``trades.parquet``.
    config
        Where the account is taken from, unless the run's own configuration will do.

    Raises
    ------
    UsageError
        If there is no such backtest or trade, or several backtests are meant.
    DataError
        If the saved backtest is not what its decisions make, or a file is damaged.
    """
    check_run(run)
    config = config or run.config
    saved = find_backtest(run, strategy, config)
    forecasts = run.forecasts(config.model)[0]
    venue = make_venue(run.bars, forecasts.seed_mean(), config)
    result = traded_again(run, saved, venue)
    trades = result.trades
    if not 1 <= number <= len(trades):
        raise UsageError(
            f"there is no trade {number} of {saved.told['spec']}",
            why=f"it made {len(trades)} trade{'s' if len(trades) != 1 else ''}",
            fix=f"choose one from 1 to {len(trades)}" if len(trades) else "explain a trade of another strategy",
        )
    row = trades.iloc[number - 1]
    symbol, reason, stamp = str(row["symbol"]), str(row["reason"]), row["decided"]
    fill = fill_of(venue.span, venue.account, result, number - 1)
    levels = _levels(venue, trades, number - 1, fill)
    used = _uses_forecast(saved, venue, result.decided)
    # A stop and a target come from a forecast, whatever the strategy decides by.
    exits_do = levels != Levels(None, None) and (fill.units_after != 0 or reason in EXITS)
    forecast = _forecast(venue, forecasts, stamp, symbol) if used is not False or exits_do else None
    episode = episode_of(venue.span, venue.account, result, number - 1)
    return Explanation(
        run=run.name,
        strategy=saved.told["spec"],
        source_sha256=saved.told["source"],
        trade=Trade(number, len(trades), symbol, "buy" if row["size"] > 0 else "sell", reason),
        decision=_decision(venue, result, stamp, symbol),
        used_forecast=used,
        forecast=forecast,
        kind=config.model if forecast else None,
        files=tuple(_files(run, config.model, forecast)) if forecast else (),
        fill=fill,
        levels=levels,
        episode=episode,
        outcomes=tuple(_outcomes(venue, forecast, fill, episode, symbol)) if forecast else (),
        bars=_window(venue, symbol, stamp, row["bar"]),
    )


# --- what was known and decided ---


def _uses_forecast(saved: SavedBacktest, venue: Venue, decided: pd.DataFrame) -> bool | None:
    """Whether a strategy decides otherwise without any forecast; None where its file is gone or another one by now."""
    try:
        strategy = load_strategy(saved.told["spec"], {}, strategy_folders())
    except UsageError:
        return None
    if strategy.sha256 != saved.told["source"]:
        return None
    nothing = venue.forecasts.where(np.zeros(len(venue.forecasts), dtype=np.bool_))
    try:
        without = decide(strategy, venue.bars, nothing, leverage=venue.account.leverage)
    except UsageError:
        return True  # it cannot do without
    return not np.allclose(without.loc[decided.index], decided, rtol=0, atol=SAME_WEIGHT)


def _decision(venue: Venue, result: BacktestResult, stamp: pd.Timestamp, symbol: str) -> Decision:
    weights = result.decided[symbol]
    return Decision(
        stamp=stamp,
        close_price=float(venue.span.close[symbol].loc[stamp]),
        weight_before=float(weights.shift(1, fill_value=0.0).loc[stamp]),
        weight_after=float(weights.loc[stamp]),
        held_share=float(result.held[symbol].loc[stamp]),
    )


def _forecast(venue: Venue, forecasts: Forecasts, stamp: pd.Timestamp, symbol: str) -> Forecast | None:
    """Read off what the seeds and their mean said at a close; None where there is no forecast."""
    seeds = forecasts.where(np.asarray((forecasts.origin == stamp) & (forecasts.symbol == symbol)))
    if len(seeds) == 0:
        return None
    mean = venue.forecasts.where(np.asarray((venue.forecasts.origin == stamp) & (venue.forecasts.symbol == symbol)))
    index, fold, train_end = venue.bars.index, int(mean.fold[0]), mean.train_end[0]
    origin = int(index.searchsorted(stamp))
    start = min(origin + forecasts.delay, len(index) - 1)
    start_price = float(venue.bars.close[symbol].iloc[start])

    def prices(moves: Float64Array) -> tuple[float, ...]:
        return tuple((start_price * np.exp(moves)).tolist())

    def path(moves: Float64Array, seed: int) -> ForecastPath:
        return ForecastPath(seed, tuple(moves.tolist()), prices(moves))

    moves = mean.cumulative()[0]
    spread = (fold, -1, symbol) in mean.residuals
    return Forecast(
        fold=fold,
        train_end=train_end,
        age_bars=origin - int(index.searchsorted(train_end)),
        start=index[start],
        start_price=start_price,
        mean=path(moves, -1),
        seeds=tuple(path(one, int(seed)) for one, seed in zip(seeds.cumulative(), seeds.seed, strict=True)),
        end_return=float(np.expm1(moves[-1])),
        peak_return=float(np.expm1(moves.max())),
        peak_step=int(moves.argmax()) + 1,
        trough_return=float(np.expm1(moves.min())),
        trough_step=int(moves.argmin()) + 1,
        low_price=prices(mean.quantile(LOW)[0]) if spread else None,
        high_price=prices(mean.quantile(HIGH)[0]) if spread else None,
    )


def _files(run: Run, model: str, forecast: Forecast) -> Iterator[ModelFile]:
    """Tell the weights of each seed, as they are now."""
    for path in forecast.seeds:
        folder = run.fold_folder(model, forecast.fold, path.seed)
        file = folder / "model.safetensors"
        digest = sha256(file) if file.is_file() else None
        yield ModelFile(path.seed, file.relative_to(run.folder).as_posix(), digest, fold_is_complete(folder))


# --- what was done, and what came ---


def _levels(venue: Venue, trades: pd.DataFrame, trade: int, fill: Fill) -> Levels:
    """Stop and target of the position that a fill left; of the one it closed, if it left none."""
    if venue.exits is None:
        return Levels(None, None)
    row = trades.iloc[trade]
    held, decided = fill.units_after, row["decided"]
    if held == 0:
        held = fill.units_before
        if row["reason"] not in EXITS:
            earlier = trades.iloc[:trade]
            decided = earlier.loc[earlier["symbol"] == row["symbol"], "decided"].iloc[-1]
    exits = venue.exits
    frames = (exits.long_stop, exits.long_target) if held > 0 else (exits.short_stop, exits.short_target)
    stop, target = (float(frame[str(row["symbol"])].loc[decided]) for frame in frames)
    return Levels(None if np.isnan(stop) else stop, None if np.isnan(target) else target)


def _outcomes(venue: Venue, forecast: Forecast, fill: Fill, episode: Episode, symbol: str) -> Iterator[Outcome]:
    """Compare the traded path with the closes that came."""
    index, close = venue.bars.index, venue.bars.close[symbol].to_numpy(dtype=np.float64)
    moves = forecast.mean.cumulative_log_return
    start, last = (int(place) for place in index.get_indexer(pd.DatetimeIndex([forecast.start, episode.last])))
    # What is closed at an open has not seen the close of that bar.
    at_open = episode.closed is not None and episode.ended not in EXITS and venue.account.fill == "open"
    held, known = min(last - at_open - start, len(moves)), min(len(moves), len(index) - 1 - start)
    spans = [("the whole path" if known == len(moves) else "the part of the path that has come", known)]
    if held < known and (fill.units_after != 0 or fill.at in EXITS):
        spans.insert(0, ("the bars held", held))
    for what, steps in spans:
        if steps > 0:
            actual = float(close[start + steps] / close[start] - 1)
            yield Outcome(what, steps, float(np.expm1(moves[steps - 1])), actual)


def _window(venue: Venue, symbol: str, decided: pd.Timestamp, filled: pd.Timestamp) -> pd.DataFrame:
    """Bars from before the decision to as many after the fill as a forecast reaches."""
    first, last = (int(place) for place in venue.bars.index.get_indexer(pd.DatetimeIndex([decided, filled])))
    rows = venue.bars.rows(max(0, first - BARS_BEFORE), last + venue.forecasts.horizon + 1)
    return pd.DataFrame({name: getattr(rows, name)[symbol] for name in BAR_FIELDS})

"""Asking a trained run: what comes after the last bar, or after any bar since a date."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from qtrade.config import RunConfig
from qtrade.data.cache import Cache
from qtrade.data.freshness import freshness, utc_now
from qtrade.errors import UsageError
from qtrade.files import write_parquet, write_text
from qtrade.forecasts import Forecasts
from qtrade.models.device import set_threads
from qtrade.models.neural import InformerModel
from qtrade.pipeline.fitting import load_fitted
from qtrade.pipeline.latest import newest_bars
from qtrade.pipeline.lock import keeping
from qtrade.pipeline.market import Market, check_files, derive, scaled
from qtrade.pipeline.prediction import Origin, Prediction
from qtrade.pipeline.standing import standing
from qtrade.progress import Progress
from qtrade.report.attention import attention_figure
from qtrade.report.forecast_figure import check_picture, draw_forecast
from qtrade.report.forecast_outlook import LEVELS, Outlook, band
from qtrade.runs import Run, check_run, forecast_frame, rows_of
from qtrade.types import Bars, Float64Array
from qtrade.windows import Rows, realised

LOW, HIGH = 0.1, 0.9
"""Quantiles between which a forecast's interval lies where there is room for one only."""
SHOWN_HORIZONS = 2
"""Horizons of past closes that are drawn before a forecast."""


@keeping
def forecast_run(
    run: Run,
    *,
    progress: Progress,
    since: str | None = None,
    bars: Bars | None = None,
    latest: Cache | None = None,
    now: pd.Timestamp | None = None,
    attention: bool = False,
    out: Path | None = None,
) -> Prediction:
    """Forecast with the models of a run; write what they say, and a picture of it, to its folder ``predictions``.

    Parameters
    ----------
    since
        Date of the first origin; by default the last bar is the only one.
    bars
        Other bars of the same symbols than the run was trained on; by default its own.
    latest
        Cache whose newest bars to start from, in place of `bars`.
    now
        UTC moment by which the age of the bars is told; by default the present.
    attention
        Draw where the encoders look in the last window, too, one picture per symbol and encoder layer.
    out
        Picture to draw in place of the one in ``predictions``: a PNG or an SVG.

    Raises
    ------
    UsageError
        If no model is as old as the origins asked for, attention is asked of a model without, or a file of the user's
        that decides features or target is not what it was.
    DataError
        If the bars are not what the models were trained for, the newest are too old, or a fold is incomplete.
    IntegrityError
        If the run is INVALID.
    """
    check_run(run)
    config = run.config
    if attention and config.model != "informer":
        raise UsageError(f"'{config.model}' has no attention to look at", fix="leave out --attention")
    if out is not None:
        check_picture(out)
    check_files(run, config)
    now = utc_now() if now is None else now
    origin: Origin = "the run"
    if latest is not None:
        origin, bars = "the cache", newest_bars(config.data, latest, now)
    elif bars is not None:
        origin = "the caller"
    market = derive(config, bars or run.bars)
    folds = _folds(run, market, since)
    stand = standing(run, market, folds[-1][1])
    oldest = market.bars.index[folds[0][2][0]]
    if since is not None and oldest > pd.Timestamp(since, tz="UTC"):
        progress.message(f"before {oldest:%Y-%m-%d} there is no model of its time, or too few bars for its inputs")
    progress.start("forecast", sum(len(origins) for _, _, origins in folds))
    parts, seconds = [], 0.0
    for number, train_end, origins in folds:
        for replicate in range(config.replicates):
            started = time.perf_counter()
            # As many threads as trained it: sums are split by thread, and so is their last bit.
            before = set_threads(config.train.threads)
            try:
                fitted = load_fitted(run, config, market, config.model, number, replicate)
                path, rows = fitted.paths(market, config, origins)
            finally:
                set_threads(before)
            seconds += time.perf_counter() - started
            parts.append((path, rows, number, replicate, train_end))
        progress.advance(len(origins), f"fold {number + 1}/{len(run.manifest['folds'])}")
    forecasts = _gather(run, config, market, parts)
    table = _next_path(market, forecasts, config.split.delay)
    outlooks = tuple(_outlooks(market, table, config.window.horizon))
    picture = out or run.folder / "predictions" / f"path-{_slug(str(forecasts.origin.max()))}.png"
    draw_forecast(outlooks, picture, headline=stand.headline, line=stand.line)
    files = [picture, *_write(run, config, market, forecasts, table)]
    if attention:
        files += _draw_attention(run, config, market, folds[-1])
    fresh = freshness(market.bars, now)
    return Prediction(run.name, stand, origin, fresh, forecasts, table, outlooks, tuple(files), seconds)


def _folds(run: Run, market: Market, since: str | None) -> list[tuple[int, pd.Timestamp, range]]:
    """List number, train_end and origins of each fold that is the newest one at some origin asked for."""
    index = market.bars.index
    try:
        wanted = index[-1] if since is None else pd.Timestamp(since, tz="UTC")
    except ValueError:
        wanted = None
    if wanted is None or pd.isna(wanted):
        raise UsageError(f"'{since}' is not a date", fix="write it as 2020-01-31")
    ends = [(int(fold["number"]), pd.Timestamp(fold["train_end"]).as_unit("ns")) for fold in run.manifest["folds"]]
    first = max(int(index.searchsorted(wanted)), market.features.warmup + run.config.window.seq_len - 1)
    starts = [max(first, int(index.searchsorted(end))) for _, end in ends]
    found = [
        (number, end, range(start, stop))
        for (number, end), start, stop in zip(ends, starts, [*starts[1:], len(index)], strict=True)
        if start < stop
    ]
    if not found:
        raise UsageError(
            f"there is no bar to forecast from at {wanted:%Y-%m-%d} or later",
            why=f"the bars end at {index[-1]:%Y-%m-%d}, the oldest model is of {ends[0][1]:%Y-%m-%d}, "
            f"and a forecast needs {market.features.warmup + run.config.window.seq_len} bars before it",
            fix="choose an earlier --since, or fetch more bars and add --latest",
        )
    return found


def _gather(
    run: Run,
    config: RunConfig,
    market: Market,
    parts: list[tuple[Float64Array, Rows, int, int, pd.Timestamp]],
) -> Forecasts:
    """Put the paths of all models together, with the validation errors the run knows of each."""
    index, symbols = market.bars.index, np.array(market.bars.symbols, dtype=object)
    counts = [len(rows) for _, rows, *_ in parts]
    known = run.forecasts(config.model)[0]
    return Forecasts(
        path=np.concatenate([path for path, *_ in parts]),
        symbol=np.concatenate([symbols[rows.symbol] for _, rows, *_ in parts]),
        origin=index[np.concatenate([rows.origin for _, rows, *_ in parts])],
        fold=np.repeat([fold for *_, fold, _, _ in parts], counts),
        seed=np.repeat([seed for *_, seed, _ in parts], counts),
        train_end=pd.DatetimeIndex(np.repeat(pd.DatetimeIndex([end for *_, end in parts]), counts)),
        residuals=known.residuals,
        delay=known.delay,
        validated=known.validated,
    )


def _next_path(market: Market, forecasts: Forecasts, delay: int) -> pd.DataFrame:
    """Tell what is expected after the last origin: stamps, prices, and the intervals that validation errors give."""
    mean = forecasts.seed_mean()
    latest = mean.where(np.asarray(mean.origin == mean.origin.max()))
    position = int(market.bars.index.get_indexer(latest.origin[:1])[0])
    start = int(market.future_start[position]) + delay
    stamps = market.expected[start : start + latest.horizon]
    expected = latest.cumulative()
    # Errors that lean to one side move the interval there; the forecast itself stays what the model says.
    ends = {
        name: latest.quantile(q)
        for level in LEVELS
        for name, q in zip(band(level), (0.5 - level / 200, 0.5 + level / 200), strict=True)
    }
    tables = []
    for row, symbol in enumerate(latest.symbol):
        price = float(market.bars.close[symbol].iloc[position])
        tables.append(
            pd.DataFrame(
                {
                    "symbol": symbol,
                    "origin": latest.origin[row],
                    "step": np.arange(1, latest.horizon + 1),
                    "time": stamps,
                    "return": np.expm1(expected[row]),
                    "price": price * np.exp(expected[row]),
                    **{name: price * np.exp(values[row]) for name, values in ends.items()},
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _outlooks(market: Market, table: pd.DataFrame, horizon: int) -> Iterator[Outlook]:
    """Put the closes before each symbol's path to it."""
    for symbol, rows in table.groupby("symbol", sort=False):
        recent = market.bars.close[symbol].loc[: rows["origin"].iloc[0]].iloc[-(SHOWN_HORIZONS * horizon + 1) :]
        ahead = rows.set_index("time")[["price", *(name for level in LEVELS for name in band(level))]]
        yield Outlook(str(symbol), recent, ahead)


def _write(run: Run, config: RunConfig, market: Market, forecasts: Forecasts, table: pd.DataFrame) -> Iterator[Path]:
    """Write the path after the last bar as a table and, if there are more origins, all of them as run's forecasts."""
    folder = run.folder / "predictions"
    last = _slug(str(forecasts.origin.max()))
    path = folder / f"path-{last}.csv"
    write_text(path, table.to_csv(index=False))
    yield path
    if forecasts.origin.nunique() == 1:
        return
    rows = rows_of(forecasts, market.bars)
    actual = realised(market.returns, rows, config.window.horizon, config.split.delay)
    path = folder / f"forecasts-{_slug(str(forecasts.origin.min()))}-{last}.parquet"
    write_parquet(path, forecast_frame(forecasts, actual))
    yield path


def _draw_attention(run: Run, config: RunConfig, market: Market, fold: tuple[int, pd.Timestamp, range]) -> list[Path]:
    """One picture per symbol and encoder layer, of the first replicate's attention on the last window."""
    number, _, origins = fold
    fitted = load_fitted(run, config, market, config.model, number, 0)
    model = fitted.model
    assert isinstance(model, InformerModel), "no other model has attention"
    samples = scaled(market, fitted.scaler, None, config.window, config.split.delay).until(origins[-1])
    rows = samples.rows(range(origins[-1], origins[-1] + 1))
    seen = market.bars.index[origins[-1] - config.window.seq_len + 1 : origins[-1] + 1]
    files = []
    for symbol, name in enumerate(market.bars.symbols):
        for layer, covered, weights in model.attention(samples, Rows(rows.origin[[symbol]], rows.symbol[[symbol]])):
            place = f"{_slug(str(seen[-1]))}-{symbol + 1}-{_slug(name)}-{_slug(layer)}"
            path = run.folder / "predictions" / f"attention-{place}.png"
            attention_figure(path, weights, seen[-covered:], title=f"{name}, {layer}")
            files.append(path)
    return files


def _slug(text: str) -> str:
    """Make a name for a file: letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text.removesuffix(" 00:00:00+00:00")).strip("-")

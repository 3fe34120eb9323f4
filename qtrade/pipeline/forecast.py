"""Asking a trained run: what comes after the last bar, or after any bar since a date."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from qtrade.config import RunConfig
from qtrade.errors import UsageError
from qtrade.files import write_parquet, write_text
from qtrade.forecasts import Forecasts
from qtrade.models.device import set_threads
from qtrade.models.neural import InformerModel
from qtrade.pipeline.fitting import load_fitted
from qtrade.pipeline.market import Market, check_files, derive, scaled
from qtrade.progress import Progress
from qtrade.report.attention import attention_figure
from qtrade.runs import Run, check_run, forecast_frame, rows_of
from qtrade.types import Bars, Float64Array
from qtrade.windows import Rows, realised

LOW, HIGH = 0.1, 0.9
"""Quantiles between which a forecast's interval lies."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Forecasts of a trained run.

    Attributes
    ----------
    forecasts
        One row per (symbol, origin, seed), each of the newest model that was there at its origin.
    path
        (S * H) rows: what is expected after the last origin, per symbol and step; `return` is simple, since the origin.
    files
        What was written.
    seconds
        Time the models took to predict, with loading them and scaling what they read.
    """

    forecasts: Forecasts
    path: pd.DataFrame
    files: tuple[Path, ...]
    seconds: float


def forecast_run(
    run: Run, *, progress: Progress, since: str | None = None, bars: Bars | None = None, attention: bool = False
) -> Prediction:
    """Forecast with the models of a run, and write what they say to its folder ``predictions``.

    Parameters
    ----------
    since
        Date of the first origin; by default the last bar is the only one.
    bars
        Newer bars of the same symbols than the run was trained on; by default its own.
    attention
        Draw where the encoders look in the last window, too, one picture per symbol and encoder layer.

    Raises
    ------
    UsageError
        If no model is as old as the origins asked for, attention is asked of a model without, or a file of the user's
        that decides features or target is not what it was.
    DataError
        If the bars are not what the models were trained for, or a fold is incomplete.
    """
    check_run(run)
    config = run.config
    if attention and config.model != "informer":
        raise UsageError(f"'{config.model}' has no attention to look at", fix="leave out --attention")
    check_files(run, config)
    market = derive(config, bars or run.bars)
    folds = _folds(run, market, since)
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
        progress.advance(len(origins), f"fold {number + 1}")
    forecasts = _gather(run, config, market, parts)
    table = _next_path(market, forecasts, config.split.delay)
    files = list(_write(run, config, market, forecasts, table))
    if attention:
        files += _draw_attention(run, config, market, folds[-1])
    return Prediction(forecasts, table, tuple(files), seconds)


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
            fix="choose an earlier --since, or fetch more bars and add --fresh",
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
    """Tell what is expected after the last origin: stamps, prices, and the interval that validation errors give."""
    mean = forecasts.seed_mean()
    latest = mean.where(np.asarray(mean.origin == mean.origin.max()))
    position = int(market.bars.index.get_indexer(latest.origin[:1])[0])
    start = int(market.future_start[position]) + delay
    stamps = market.expected[start : start + latest.horizon]
    tables = []
    for row, symbol in enumerate(latest.symbol):
        moves = latest.cumulative()[row]
        errors = np.cumsum(latest.residuals[(int(latest.fold[row]), int(latest.seed[row]), str(symbol))], axis=1)
        # Errors that lean to one side move the interval there; the forecast itself stays what the model says.
        low, high = np.quantile(errors, (LOW, HIGH), axis=0)
        price = float(market.bars.close[symbol].iloc[position])
        prices = {"price": moves, "low": moves + low, "high": moves + high}
        tables.append(
            pd.DataFrame(
                {
                    "symbol": symbol,
                    "origin": latest.origin[row],
                    "step": np.arange(1, latest.horizon + 1),
                    "time": stamps,
                    "return": np.expm1(moves),
                    **{name: price * np.exp(values) for name, values in prices.items()},
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


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

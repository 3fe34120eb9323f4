"""Gate G0: make a run's parts again, and see that none of them used the future.

Each part was checked when it was made. But a run is a folder, which outlives the code that made it: files are edited,
folds fitted by other versions, ideas tried. So what can be made again is made again and compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtrade.config import RunConfig
from qtrade.errors import IntegrityError, QtradeError
from qtrade.features.audit import audit_features
from qtrade.features.scaler import Scaler
from qtrade.files import sha256
from qtrade.forecasts import Forecasts
from qtrade.pipeline.fitting import ROUNDING, Fitted, load_fitted, scaler_rows
from qtrade.pipeline.market import Market, derive, folds_of
from qtrade.pipeline.replay import Replayed
from qtrade.runs import Run, rows_of
from qtrade.types import Float64Array, Fold
from qtrade.windows import Rows, realised

CUTS = 2
"""Origins at which forecasts are made again from bars that end there."""

# Models whose weights follow from their training bars, so that no two folds have the same.
_LEARNING = ("informer", "ridge")


def find_violations(
    run: Run, config: RunConfig, market: Market, forecasts: Forecasts, backtests: Sequence[Replayed]
) -> list[str]:
    """Name everything in a run that used, or may have used, the future; empty where nothing did.

    Parameters
    ----------
    forecasts
        Of the run's model, all seeds.
    backtests
        What is known of each backtest of the run.

    Raises
    ------
    QtradeError
        If a part cannot be made again at all.
    """
    try:
        audit_features(market.bars, config.features, seed=config.seed)
    except IntegrityError as error:
        return [str(error.what)]  # whatever stands on these features is worth no further look
    folds = folds_of(market, config)
    if found := list(_purge(run, config, market, forecasts, folds)):
        return found
    return [
        *_scalers(run, config, market, folds),
        *_outcomes(run, config, market),
        *_models(run, config, market, folds),
        *_forecasts(run, config, market, forecasts),
        *(one.problem for one in backtests if one.problem),
    ]


def _purge(run: Run, config: RunConfig, market: Market, forecasts: Forecasts, folds: Sequence[Fold]) -> Iterator[str]:
    """Whether every label that was learned from or validated on ended before the model was first used."""
    index = market.bars.index
    reach = config.window.horizon + config.split.delay
    recorded = run.manifest["folds"]
    if len(recorded) != len(folds):
        yield f"The run holds {len(recorded)} folds, its configuration makes {len(folds)}."
        return
    for fold, told in zip(folds, recorded, strict=True):
        for part, first in (("fit", told["valid"][0]), ("valid", told["test"][0])):
            last, following = (int(index.searchsorted(pd.Timestamp(stamp))) for stamp in (told[part][1], first))
            if last + reach > following:
                yield (
                    f"Fold {fold.number + 1} is not purged: the last label of '{part}' ends {last + reach - following} "
                    f"bars after {first}, where the next part begins."
                )
        ends = [str(index[fold.fit[-1]]), str(index[fold.valid[-1]]), str(index[fold.train_end])]
        if ends != [told["fit"][1], told["valid"][1], told["train_end"]]:
            yield f"Fold {fold.number + 1} was made of other bars than its configuration says: {told['train_end']}."
    seeds = config.replicates_of(config.model)
    at = index.get_indexer(forecasts.origin)
    for number in np.unique(forecasts.fold).tolist():
        rows = forecasts.fold == number
        if not 0 <= number < len(folds):
            yield f"There are forecasts of a fold {number + 1}, which the run does not have."
            continue
        if forecasts.train_end[rows].nunique() != 1 or forecasts.train_end[rows][0] != index[folds[number].train_end]:
            yield f"The forecasts of fold {number + 1} come from a model of {forecasts.train_end[rows].max()}."
    for fold in folds:
        mine = at[forecasts.fold == fold.number]
        whole = len(fold.test) * len(market.bars.symbols) * seeds
        if len(mine) != whole or not np.isin(mine, fold.test).all():
            yield (
                f"Fold {fold.number + 1} was tested at {whole} (origin, symbol, seed), of which the run holds "
                f"{np.isin(mine, fold.test).sum()}: forecasts were chosen."
            )


def _scalers(run: Run, config: RunConfig, market: Market, folds: Sequence[Fold]) -> Iterator[str]:
    """Whether each scaler is what its fold's fitting bars make it."""
    target = market.target_of(config.model)
    for fold in folds:
        rows = scaler_rows(fold, config.window.seq_len)
        again = Scaler.fit(market.features, target.past, rows, centred=target.centred)
        for replicate in range(config.replicates_of(config.model)):
            saved = load_fitted(run, config, market, config.model, fold.number, replicate).scaler
            parts = ("mean", "std", "target_mean", "target_scale")
            same = all(np.allclose(getattr(saved, part), getattr(again, part), rtol=1e-9, atol=0) for part in parts)
            if saved.last_row > fold.fit[-1] or not same:
                yield (
                    f"The scaler of fold {fold.number + 1} was not fitted on its fitting bars, which end at "
                    f"{market.bars.index[fold.fit[-1]]}: it knows of others."
                )


def _outcomes(run: Run, config: RunConfig, market: Market) -> Iterator[str]:
    """Whether what is said to have happened is what the bars did."""
    for model in config.models:
        forecasts, actual = run.forecasts(model)
        happened = realised(market.returns, rows_of(forecasts, market.bars), forecasts.horizon, config.split.delay)
        same = np.isclose(actual, happened, rtol=1e-9, atol=1e-12, equal_nan=True).all(axis=1)
        if not same.all():
            first = int(np.argmin(same))
            yield (
                f"The outcome stored with the forecast of '{model}' for {forecasts.symbol[first]} at "
                f"{forecasts.origin[first]} is not what the bars did."
            )


def _forecasts(run: Run, config: RunConfig, market: Market, forecasts: Forecasts) -> Iterator[str]:
    """Whether forecasts come out the same from bars that end at their origin."""
    generator = np.random.default_rng(config.seed)
    origins = np.unique(market.bars.index.get_indexer(forecasts.origin))
    spread = float(np.abs(forecasts.path).max()) or 1.0
    for origin in sorted(generator.choice(origins, size=min(CUTS, len(origins)), replace=False).tolist()):
        stamp = market.bars.index[origin]
        rows = np.asarray(forecasts.origin == stamp)
        fold = int(forecasts.fold[rows][0])
        try:
            known = derive(config, market.bars.rows(0, origin + 1))
        except QtradeError as error:
            yield f"The inputs of the forecast at {stamp} cannot be made without its future: {error.what}."
            continue
        for replicate in np.unique(forecasts.seed[rows]):
            fitted = load_fitted(run, config, known, config.model, fold, int(replicate))
            path, made = fitted.paths(known, config, range(origin, origin + 1))
            for symbol, again in zip(made.symbol, path, strict=True):
                name = market.bars.symbols[int(symbol)]
                stored = forecasts.path[rows & (forecasts.symbol == name) & (forecasts.seed == replicate)]
                if len(stored) != 1 or np.abs(stored[0] - again).max() > ROUNDING * spread:
                    yield (
                        f"The forecast of {name} at {stamp} (fold {fold + 1}) is not what its model says when the bars "
                        "end there: it knew of later ones, or was altered."
                    )


def _models(run: Run, config: RunConfig, market: Market, folds: Sequence[Fold]) -> Iterator[str]:
    """Whether every model's saved forecasts and validation errors are what it says when it is asked again."""
    for model in config.models:
        forecasts, _ = run.forecasts(model)
        rows = rows_of(forecasts, market.bars)
        seen: dict[str, int] = {}
        for fold in folds:
            for replicate in range(config.replicates_of(model)):
                weights = sha256(run.fold_folder(model, fold.number, replicate) / "model.safetensors")
                if model in _LEARNING and seen.setdefault(weights, fold.number) != fold.number:
                    first = seen[weights] + 1
                    yield f"The {model} of fold {fold.number + 1} is that of fold {first}: models were swapped."
                fitted = load_fitted(run, config, market, model, fold.number, replicate)
                mine = (forecasts.fold == fold.number) & (forecasts.seed == replicate)
                yield from _said(market, config, fitted, fold, forecasts.path[mine], rows, mine)
                yield from _erred(market, config, fitted, fold, replicate, forecasts)


def _said(
    market: Market,
    config: RunConfig,
    fitted: Fitted,
    fold: Fold,
    stored: Float64Array,
    rows: Rows,
    mine: NDArray[np.bool_],
) -> Iterator[str]:
    """Whether the stored paths of one model are those it predicts."""
    again, asked = fitted.paths(market, config, fold.test)
    order = np.lexsort((rows.symbol[mine], rows.origin[mine]))
    same_rows = len(order) == len(asked) and (rows.origin[mine][order] == asked.origin).all()
    if not same_rows or not (rows.symbol[mine][order] == asked.symbol).all():
        yield f"The forecasts of {fitted.name} in fold {fold.number + 1} are not those of its test period."
        return
    size = float(np.abs(again).max())
    other = ~(np.abs(stored[order] - again).max(axis=1) <= max(ROUNDING * size, 1e-12))
    if other.any():
        first = int(other.argmax())
        name, stamp = market.bars.symbols[int(asked.symbol[first])], market.bars.index[int(asked.origin[first])]
        yield (
            f"The forecast of {name} at {stamp} ({fitted.name}, fold {fold.number + 1}) is not what its model says: it "
            f"was altered. Others of this fold: {int(other.sum()) - 1}."
        )


def _erred(
    market: Market, config: RunConfig, fitted: Fitted, fold: Fold, replicate: int, forecasts: Forecasts
) -> Iterator[str]:
    """Whether the stored validation errors of one model, from which all its intervals come, are those it makes."""
    validated, asked = fitted.paths(market, config, fold.valid)
    errors = realised(market.returns[: fold.train_end + 1], asked, fold.horizon, fold.delay) - validated
    for column, name in enumerate(market.bars.symbols):
        stored = forecasts.residuals.get((fold.number, replicate, name))
        again = errors[asked.symbol == column]
        size = max(ROUNDING * float(np.abs(again).max()), 1e-12)
        if stored is None or stored.shape != again.shape or not (np.abs(stored - again) <= size).all():
            yield f"The validation errors of {fitted.name} for {name} in fold {fold.number + 1} are not those it makes."
            return

"""The look-ahead audit: a strategy must decide the same with the future removed, and with another one made up."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from qtrade.errors import IntegrityError, UsageError
from qtrade.forecasts import Forecasts
from qtrade.strategy import LoadedStrategy, decide
from qtrade.types import BAR_FIELDS, Bars, Float64Array


def audit(
    strategy: LoadedStrategy, bars: Bars, forecasts: Forecasts, *, seed: int, cuts: int = 5, leverage: float = 1.0
) -> pd.DataFrame:
    """Decide, and check that no future was seen: the same must be decided with it removed, and with it made up.

    Cuts are drawn from the bars that have a forecast, as most strategies stand idle elsewhere: one from their first
    tenth, one from their last, the others from all. Every decision is made by a new instance from a new run of the
    file, and those that may not know the future come before those that see it, the shortest past first, so that there
    is nothing yet to remember. `strategy` itself is not asked.

    Two kinds of leak stay unseen: one that moves no weight at or before these cuts, and knowledge from outside the
    arguments. The file runs with all the rights of the user, so nothing here hides prices that it reads from a file
    or the network, or that an earlier decision of this process left there or in an installed package.

    Parameters
    ----------
    seed
        Decides where the cuts are and what the made-up futures hold.
    cuts
        How many bars the future is cut off after.
    leverage
        As in `decide`.

    Returns
    -------
    pandas.DataFrame
        The weights that passed: these are to be traded, and no others that might be decided when it is asked again.

    Raises
    ------
    IntegrityError
        If such a weight moves, or if two identical calls differ.
    UsageError
        As `decide`.
    """
    generator = np.random.default_rng(seed)
    drawn = _cuts(bars, forecasts, cuts, generator)
    blind = []
    for what in ("removed", "changed"):
        for cut in drawn:
            when = f"the future of {bars.index[cut]} is {what}"
            market = (
                _without_future(bars, forecasts, cut)
                if what == "removed"
                else _with_made_up_future(bars, forecasts, cut, generator)
            )
            try:
                blind.append((cut, when, decide(strategy.afresh(), *market, leverage=leverage)))
            except UsageError as error:
                # Fails here too unless it needs the future.
                decide(strategy.afresh(), bars, forecasts, leverage=leverage)
                raise UsageError(f"{error.what}, when {when}", why=error.why, fix=error.fix) from error
    weights, again = (decide(strategy.afresh(), bars, forecasts, leverage=leverage) for _ in range(2))
    _same(strategy, weights, again, "it is asked twice", "it is not deterministic")
    for cut, when, partial in blind:
        _same(strategy, weights[: cut + 1], partial[: cut + 1], when, "it looks ahead")
    return weights


def _cuts(bars: Bars, forecasts: Forecasts, cuts: int, generator: np.random.Generator) -> list[int]:
    """Draw bars that have a future, in order of time."""
    candidates = np.nonzero(bars.index.isin(forecasts.origin))[0]
    candidates = candidates[candidates < len(bars) - 1] if len(candidates) else np.arange(len(bars) - 1)
    if not len(candidates):
        return []
    tenth = max(len(candidates) // 10, 1)
    ends = [generator.choice(candidates[-tenth:]), generator.choice(candidates[:tenth])]
    return sorted(list(dict.fromkeys(map(int, [*ends, *generator.permutation(candidates)])))[:cuts])


def _same(strategy: LoadedStrategy, before: pd.DataFrame, after: pd.DataFrame, when: str, why: str) -> None:
    old, new = before.to_numpy(dtype=np.float64), after.to_numpy(dtype=np.float64)
    moved = old != new  # rounded when they were decided
    if moved.any():
        row, column = (int(axis[0]) for axis in np.nonzero(moved))
        symbol = list(map(str, before.columns))[column]
        raise IntegrityError(
            f"strategy '{strategy.name}': the weight of {symbol} at {before.index[row]} moves "
            f"from {old[row, column]:g} to {new[row, column]:g} when {when}",
            why=f"{why}, so a backtest of it means nothing",
            fix=f"decide row t of {strategy.path} from rows up to t, and seed anything random",
        )


def _without_future(bars: Bars, forecasts: Forecasts, cut: int) -> tuple[Bars, Forecasts]:
    """Keep what is known at the close of bar `cut`."""
    known = forecasts.where(np.asarray(forecasts.origin <= bars.index[cut]))
    folds = set(known.fold.tolist())
    banks = {key: bank for key, bank in known.residuals.items() if key[0] in folds}
    origins = {key: stamps for key, stamps in known.validated.items() if key[0] in folds}
    return bars.rows(0, cut + 1), dataclasses.replace(known, residuals=banks, validated=origins)


def _with_made_up_future(
    bars: Bars, forecasts: Forecasts, cut: int, generator: np.random.Generator
) -> tuple[Bars, Forecasts]:
    """Keep the shape, and replace what is not known at bar `cut` by something as valid: bars, paths, and residuals.

    The residuals of a fold are known with its first forecast.
    """
    later = (np.arange(len(bars)) > cut)[:, None]
    factor = np.where(later, np.exp(generator.normal(0.0, 0.2, (len(bars), len(bars.symbols)))), 1.0)
    made_up = {name: getattr(bars, name) * factor for name in BAR_FIELDS}
    path: Float64Array = forecasts.path.copy()
    future = np.asarray(forecasts.origin > bars.index[cut])
    path[future] = generator.normal(0.0, 0.05, path[future].shape)
    folds = set(forecasts.fold[~future].tolist())
    banks = {
        key: bank if key[0] in folds else generator.normal(0.0, 0.05, bank.shape)
        for key, bank in forecasts.residuals.items()
    }
    return dataclasses.replace(bars, **made_up), dataclasses.replace(forecasts, path=path, residuals=banks)

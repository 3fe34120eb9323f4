"""One saved backtest of a run: found by what it is called, and traded again before anything is said about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qtrade.config import RunConfig
from qtrade.errors import DataError, UsageError
from qtrade.files import read_parquet
from qtrade.pipeline.replay import backtest_name
from qtrade.pipeline.told import read_told
from qtrade.pipeline.venue import Venue
from qtrade.runs import Run
from qtrade.strategy_spec import SpecValue, StrategySpec, parse_spec
from qtrade.types import BacktestResult

_NUMBERS = ("size", "price", "fees", "slippage")


@dataclass(frozen=True)
class SavedBacktest:
    """A saved backtest: its folder, and what its ``metrics.json`` says."""

    folder: Path
    told: dict[str, Any]


def find_backtest(run: Run, strategy: str, config: RunConfig) -> SavedBacktest:
    """Find the one backtest of a run that is meant.

    Parameters
    ----------
    strategy
        Its name, a spec with some or all of its parameters, or the name of the backtest's folder.
    config
        Whose account it was made with.

    Raises
    ------
    UsageError
        If there is none, or more than one.
    """
    known = list(_saved_backtests(run))
    asked = parse_spec(strategy)
    found = [one for one in known if one.folder.name == strategy or _fits(asked, parse_spec(one.told["spec"]))]
    account = config.backtest.model_dump(mode="json")
    same_account = [one for one in found if one.told["account"] == account]
    if len(same_account) == 1:
        return same_account[0]
    if same_account:
        raise UsageError(
            f"'{strategy}' is several backtests of {run.name}",
            why="; ".join(f"{one.told['spec']} in {one.folder.name}" for one in same_account),
            fix="give the parameters that tell them apart, or the name of the folder, as the strategy",
        )
    names = ", ".join(sorted({one.told["spec"] for one in known})) or "nothing"
    raise UsageError(
        f"there is no backtest of '{strategy}' in {run.name}" + (" with this account" if found else ""),
        why="it was tested with other costs, limits or exits" if found else f"what was tested: {names}",
        fix=f"backtest it first: {_command(run, strategy)}",
    )


def _command(run: Run, strategy: str) -> str:
    """Write the command that backtests a strategy."""
    return run.command("backtest", "-s", strategy)


def _saved_backtests(run: Run) -> Iterator[SavedBacktest]:
    """List those that can be read, by the names of their folders."""
    for path in sorted(run.folder.glob("backtests/*/metrics.json")):
        try:
            told = read_told(path)
        except DataError:
            continue
        yield SavedBacktest(path.parent, told)


def _fits(asked: StrategySpec, saved: StrategySpec) -> bool:
    """Whether a saved strategy is the one that is asked for: of its name, with the parameters that are given."""
    if asked.name not in (saved.name, Path(saved.name).stem):
        return False
    return all(name in saved.params and _same(value, saved.params[name]) for name, value in asked.params.items())


def _same(asked: SpecValue, saved: SpecValue) -> bool:
    """Whether two values of a parameter are; a text without quotation marks is read as a strategy."""
    if isinstance(asked, StrategySpec):
        return _fits(asked, saved if isinstance(saved, StrategySpec) else StrategySpec(str(saved)))
    if isinstance(asked, tuple) and isinstance(saved, tuple):
        return len(asked) == len(saved) and all(map(_same, asked, saved))
    return asked == saved


def traded_again(run: Run, saved: SavedBacktest, venue: Venue) -> BacktestResult:
    """Trade the saved decisions on the venue of their run, and compare the fills.

    Raises
    ------
    DataError
        If the fills are others than those saved, or the folder is not what its name says.
    """
    told, folder = saved.told, saved.folder
    fix = f"backtest it again: {_command(run, told['spec'])}"
    what = f"the backtest in {folder.name} is not what its decisions make"
    if folder.name != backtest_name(told["strategy"], told["params"], told["source"], told["account"]):
        raise DataError(what, why="its account, parameters or file are others than its name was made of", fix=fix)
    table, trades = (read_parquet(folder / name, fix=fix) for name in ("weights.parquet", "trades.parquet"))
    try:
        decided = pd.DataFrame(table["decided"]).astype(np.float64)
        same_market = decided.index.equals(venue.span.index) and tuple(decided.columns) == venue.span.symbols
        if not same_market or not np.isfinite(decided.to_numpy()).all():
            raise DataError(what, why="its decisions are of other bars, or no numbers", fix=fix)
        result = venue.trade(decided)
        first = _first_difference(trades, result.trades)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(what, why=f"its files are not what a backtest writes: {error}", fix=fix) from error
    if first is not None:
        counts = f"{len(trades)} saved, {len(result.trades)} made"
        raise DataError(what, why=f"its trades differ from number {first + 1} on ({counts})", fix=fix)
    return result


def _first_difference(saved: pd.DataFrame, made: pd.DataFrame) -> int | None:
    """Position of the first row in which two tables of trades differ; None if they do not."""
    if list(saved.columns) != list(made.columns):
        raise ValueError("the columns of the trades are others")
    shared = min(len(saved), len(made))
    same = np.ones(shared, dtype=np.bool_)
    for name in made.columns:
        one, other = saved[name].iloc[:shared], made[name].iloc[:shared]
        if name in _NUMBERS:
            same &= np.isclose(one.to_numpy(np.float64), other.to_numpy(np.float64), rtol=1e-9, atol=1e-12)
        else:
            same &= np.array([left == right for left, right in zip(one, other, strict=True)], dtype=np.bool_)
    if not same.all():
        return int(np.argmin(same))
    return None if len(saved) == len(made) else shared

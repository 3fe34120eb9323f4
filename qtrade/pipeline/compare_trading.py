"""The backtests of several runs side by side: one strategy, one account, the bars that all traded, other forecasts.

Returns are those of the saved accounts. Where these began at other bars, they come to the shared ones with other
holdings, which a note says. Buy-and-hold is that of the account which began last: it begins with the shared bars, and
is the same whichever run is named first.

A difference of Sharpe ratios is tested on bars drawn together, so that what the market did to both cancels
(`qtrade.backtest.bootstrap`); whether any run earns more than the baseline is the test for superior predictive ability
(`qtrade.backtest.comparison`), which counts how many runs were compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qtrade.backtest.comparison import compare
from qtrade.backtest.costs import BacktestConfig
from qtrade.backtest.metrics import sharpe_ratio
from qtrade.errors import DataError
from qtrade.evaluation.plain import plain
from qtrade.evaluation.significance import holm
from qtrade.files import read_parquet
from qtrade.pipeline.overview import account_changes
from qtrade.pipeline.replay import backtest_name
from qtrade.pipeline.told import read_told
from qtrade.report.account import costs_assumed
from qtrade.runs import Run
from qtrade.types import Float64Array


@dataclass(frozen=True, eq=False)
class _Backtest:
    """A saved backtest: what it says of itself, and its net returns beside those of buy-and-hold."""

    told: dict[str, Any]
    net: pd.DataFrame


def compare_trading(
    runs: Sequence[Run], labels: Sequence[str], periods_per_year: float, *, seed: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """Compare every strategy that was backtested on the first run, and on another with the same file and account.

    Parameters
    ----------
    runs, labels
        The runs, the baseline first, and what they are called.
    periods_per_year
        Bars in a year.
    seed
        Of the bootstraps.

    Returns
    -------
    strategies
        One dict per strategy and account: what it is, the bars that all backtests share, and ``runs``, one dict per
        run with its Sharpe ratio and net return per year on these bars, the first bar of its account and how many of
        its bars are left out, its difference to the baseline with a 95 % interval and p-values; None for a run without
        it. ``spa_p`` and ``superior`` are of all runs together. All
        values are those of the saved backtests: `qtrade evaluate` makes them again.
    notes
        What could not be compared, and why.
    """
    found: list[dict[str, _Backtest]] = []
    damaged: list[set[str]] = []
    notes: list[str] = []
    for run, label in zip(runs, labels, strict=True):
        mine, broken = _saved(run)
        found.append(mine)
        damaged.append(set(broken))
        notes += [f"A backtest of {label} is left out: {what}." for what in broken.values()]
    rows: list[dict[str, Any]] = []
    for name, base in found[0].items():
        alike = [mine.get(name) for mine in found]
        if any(one is not None for one in alike[1:]):
            row = _compare_one(base, alike, labels, periods_per_year, seed)
            if row:
                rows.append(row)
                notes += _began_apart(row, labels)
            else:
                notes.append(f"The backtests of {base.told['spec']} share no bars.")
    _adjust(rows)
    return sorted(rows, key=lambda row: str(row["strategy"])), [
        *notes,
        *_alone(found, damaged, labels, [run.config.backtest.model_dump(mode="json") for run in runs]),
    ]


def _saved(run: Run) -> tuple[dict[str, _Backtest], dict[str, str]]:
    """Read a run's backtests by what tells them apart: strategy, parameters, file and account.

    Those that cannot be read are told by the same names, with what is wrong with them.
    """
    found: dict[str, _Backtest] = {}
    broken: dict[str, str] = {}
    for folder in sorted(path for path in run.folder.glob("backtests/*") if path.is_dir()):
        path = folder / "metrics.json"
        try:
            told = read_told(path)
            found[_identity(path, told)] = _Backtest(told, _net(folder))
        except DataError as error:
            broken[folder.name] = error.what
    return found, broken


def _identity(path: Path, told: dict[str, Any]) -> str:
    """Return the name that follows from what a backtest says of itself, which must be that of its folder."""
    name = backtest_name(told["strategy"], told["params"], told["source"], told["account"])
    if name != path.parent.name:
        raise DataError(f"{path.parent} was altered: its account, parameters or file are others", fix="make it again")
    return name


def _net(folder: Path) -> pd.DataFrame:
    path, fix = folder / "equity.parquet", "make the backtest again"
    try:
        series = read_parquet(path, fix=fix)[["net", "buy_and_hold_net"]].astype(np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not what a backtest writes", why=str(error), fix=fix) from error
    if not series.index.is_unique or not np.isfinite(series.to_numpy()).all():
        raise DataError(f"{path} holds bars twice, or returns that are no numbers", fix=fix)
    return series


def _compare_one(
    base: _Backtest, alike: Sequence[_Backtest | None], labels: Sequence[str], periods: float, seed: int
) -> dict[str, Any] | None:
    """Compare one strategy on the bars that all of its backtests share; None where there are not two such bars."""
    index = base.net.index
    for one in alike:
        index = index if one is None else index.intersection(one.net.index)
    if len(index) < 2:
        return None
    index = index.sort_values()
    nets = [None if one is None else one.net.loc[index, "net"].to_numpy(dtype=np.float64) for one in alike]
    last = max((one for one in alike if one is not None), key=lambda one: one.net.index.min())
    hold = last.net.loc[index, "buy_and_hold_net"].to_numpy(dtype=np.float64)
    own = nets[0]
    assert own is not None, "the first run has every strategy that is compared"
    others = {label: net for label, net in zip(labels[1:], nets[1:], strict=True) if net is not None}
    tested = compare(others, own, periods, seed=seed)
    cells: list[dict[str, Any] | None] = [{**_earned(own, periods), **_span(base, index)}]
    for label, net, one in zip(labels[1:], nets[1:], alike[1:], strict=True):
        if net is None or one is None:
            cells.append(None)
            continue
        difference = {f"sharpe_{name}": value for name, value in tested.sharpe[label].to_dict().items()}
        span = _span(one, index)
        cells.append({**_earned(net, periods), **span, **difference, "sharpe_p_holm": difference["sharpe_p"]})
    return {
        "strategy": base.told["spec"],
        "account": _costs(base.told["account"]),
        "bars": len(index),
        "first": str(index[0]),
        "last": str(index[-1]),
        "runs": cells,
        "buy_and_hold": _earned(hold, periods),
        "spa_p": tested.spa_p,
        "superior": None if tested.superior is None else list(tested.superior),
    }


def _span(one: _Backtest, shared: pd.Index) -> dict[str, str | int]:
    """Say at which bar an account began, and how many of its bars are not compared."""
    return {"first": str(one.net.index.min()), "bars_left_out": len(one.net) - len(shared)}


def _began_apart(row: dict[str, Any], labels: Sequence[str]) -> list[str]:
    """Say where the accounts of one strategy began, unless at the same bar."""
    cells = [(label, one) for label, one in zip(labels, row["runs"], strict=True) if one is not None]
    if len({one["first"] for _, one in cells}) == 1:
        return []
    began = ", ".join(
        f"{one['first'][:16].removesuffix(' 00:00')} on {label} ({one['bars_left_out']:,} of its bars are left out)"
        for label, one in cells
    )
    return [
        f"The accounts of {row['strategy']} began at other bars: {began}. Those that began earlier enter the "
        f"{row['bars']:,} shared bars with what they held by then, so more than the forecasts sets them apart."
    ]


def _costs(account: dict[str, Any]) -> str:
    """Say in words what a trade costs with an account, as saved with a backtest."""
    try:
        return costs_assumed(BacktestConfig.model_validate(account))
    except ValueError:
        return "with an account that this version of qtrade does not know"


def _earned(net: Float64Array, periods: float) -> dict[str, float | None]:
    ratio = sharpe_ratio(net, periods)[0] if len(net) > 1 else math.nan
    return {"sharpe": plain(ratio), "net_annual_return": plain(float(net.mean()) * periods)}


def _adjust(rows: Sequence[dict[str, Any]]) -> None:
    """Adjust the p-values of all Sharpe differences for being several (Holm)."""
    cells = [one for row in rows for one in row["runs"][1:] if one is not None and one["sharpe_p"] is not None]
    for one, p in zip(cells, holm([one["sharpe_p"] for one in cells]), strict=True):
        one["sharpe_p_holm"] = p


def _alone(
    found: Sequence[dict[str, _Backtest]],
    damaged: Sequence[set[str]],
    labels: Sequence[str],
    usual: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Name the backtests without a counterpart, and say what sets those apart that are of one strategy.

    An account is told by what differs from the usual one, which is that of the run.
    """
    base, notes = found[0], []
    for position, (mine, label) in enumerate(zip(found, labels, strict=True)):
        counterparts = found[1:] if position == 0 else [base]
        unread = set().union(*(damaged[1:] if position == 0 else damaged[:1]))
        for name, one in mine.items():
            if any(name in other for other in counterparts):
                continue
            why = "it was not tested there" if position else "it was tested with no other run"
            for other in (each for held in counterparts for each in held.values()):
                if other.told["spec"] == one.told["spec"]:
                    same_file = other.told["source"] == one.told["source"]
                    why = "it was tested with another account there" if same_file else "its file was another one there"
            if name in unread:
                why = "that one cannot be read" if position else "the other one cannot be read"
            there = f" with that on {labels[0]}" if position else ""
            account = (
                f", {', '.join(changed)}," if (changed := account_changes(one.told["account"], usual[position])) else ""
            )
            notes.append(f"{one.told['spec']}{account} on {label} is not compared{there}: {why}.")
    return list(dict.fromkeys(notes))

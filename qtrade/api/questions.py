"""The functions of `qtrade.api` that ask a finished run: backtest, sweep, explain, forecast, compare, open_run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qtrade.notebook_html as html
from qtrade.api.common import (
    CACHE,
    RUNS,
    Place,
    RunLike,
    Settings,
    Watch,
    account_of,
    assignments,
    find_run,
    watched,
)
from qtrade.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from qtrade.pipeline.backtest import Backtests
    from qtrade.pipeline.prediction import Prediction
    from qtrade.pipeline.sweep import Sweep
    from qtrade.report.explanation import Explanation
    from qtrade.runs import Run
    from qtrade.types import Bars


@dataclass(frozen=True, eq=False)
class Explained:
    """One trade of a backtest, explained: the facts, and where they are drawn."""

    explanation: Explanation
    picture: Path

    def __str__(self) -> str:
        from qtrade.report.explanation_lines import lines

        return "\n".join(lines(self.explanation))

    def __repr__(self) -> str:
        trade = self.explanation.trade
        return f"Explained(trade {trade.number} of {trade.trades} of {self.explanation.strategy})"

    def _repr_html_(self) -> str:
        drawn = [html.picture(self.picture.read_bytes(), repr(self))] if self.picture.is_file() else []
        return html.piece(html.verbatim(str(self)), *drawn)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``qtrade explain --json`` prints them."""
        return self.explanation.to_dict()


@dataclass(frozen=True, eq=False)
class Compared:
    """Runs side by side; `told` is what ``qtrade compare --json`` prints."""

    told: Mapping[str, Any]

    def __str__(self) -> str:
        return "\n".join(self.told["lines"])

    def __repr__(self) -> str:
        return f"Compared({', '.join(one['label'] for one in self.told['runs'])})"

    def _repr_html_(self) -> str:
        rows = [(one["label"], (one.get("verdict") or {}).get("headline")) for one in self.told["runs"]]
        return html.piece(html.table(("run", "verdict"), rows), *map(html.paragraph, self.told["lines"]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return dict(self.told)


def backtest(
    run: RunLike,
    strategy: str | Sequence[str] | None = None,
    *,
    settings: Settings = (),
    delay: int | None = None,
    fill: str | None = None,
    account: Settings = (),
    runs: Place = RUNS,
    progress: Watch = False,
) -> Backtests:
    """Backtest strategies on the forecasts of a run, with buy-and-hold beside them. Each enters the ledger of trials.

    Parameters
    ----------
    run
        The run, or its name.
    strategy
        Name, path or spec, or several; by default those of the run.
    settings
        Parameters of the strategy, if it is one.
    delay, fill, account
        Bars from a decision to its fill, the price of a bar that fills, and other settings of the account.
    runs, progress
        As for `train`.

    Raises
    ------
    RuinedError
        If a strategy ruined its account; `backtests` of the error holds all of them, and they are saved.
    """
    from qtrade.config import parse_assignment
    from qtrade.pipeline.backtest import backtest_run, load_strategies

    chosen = [strategy] if isinstance(strategy, str) else list(strategy or ())
    params = dict(parse_assignment(text) for text in assignments(settings))
    if params and len(chosen) != 1:
        raise UsageError("settings need exactly one strategy", why="a parameter belongs to one strategy")
    found = find_run(run, runs)
    config = account_of(found, delay, fill, account)
    asked: Mapping[str, Any] = dict.fromkeys(chosen, params) if chosen else config.strategies
    with watched(progress) as watcher:
        return backtest_run(found, progress=watcher, config=config, strategies=load_strategies(asked))


def sweep(
    run: RunLike,
    strategy: str,
    param: Sequence[str] | Mapping[str, Sequence[Any]],
    *,
    settings: Settings = (),
    delay: int | None = None,
    fill: str | None = None,
    account: Settings = (),
    runs: Place = RUNS,
    progress: Watch = False,
) -> Sweep:
    """Try every combination of some parameters, and say what is left of the best of them.

    Parameters
    ----------
    param
        What varies: ``["threshold=0:0.01:0.001", "step=1,6"]`` or ``{"step": [1, 6]}``.
    settings
        Parameters that all variants share.
    run, strategy, delay, fill, account, runs, progress
        As for `backtest`.
    """
    from qtrade.config import parse_assignment
    from qtrade.pipeline.axes import Axis, parse_axis
    from qtrade.pipeline.sweep import sweep_run
    from qtrade.strategy import load_strategy, strategy_folders

    if isinstance(param, str):
        raise UsageError(f"'{param}' is a text, not a list of parameters", fix=f"write it as ['{param}']")
    if isinstance(param, Mapping):
        axes = [Axis(name, tuple(values)) for name, values in param.items()]
    else:
        axes = [parse_axis(text) for text in param]
    shared: dict[str, Any] = dict(parse_assignment(text) for text in assignments(settings))
    if both := [axis.name for axis in axes if axis.name in shared]:
        raise UsageError(f"'{both[0]}' is both set and varied", fix="leave out either")
    found = find_run(run, runs)
    config = account_of(found, delay, fill, account)
    with watched(progress) as watcher:
        return sweep_run(
            found, load_strategy(strategy, shared, strategy_folders()), axes, progress=watcher, config=config
        )


def explain(
    run: RunLike,
    strategy: str,
    trade: int,
    *,
    delay: int | None = None,
    fill: str | None = None,
    account: Settings = (),
    runs: Place = RUNS,
) -> Explained:
    """Follow one trade of a saved backtest: the forecast, the decision, the fill, its cost, and what came of it.

    Parameters
    ----------
    trade
        Number of the fill, from 1.
    run, strategy, delay, fill, account, runs
        As for `backtest`; the strategy has to have been backtested so.
    """
    from qtrade.pipeline.explain import explain_trade
    from qtrade.pipeline.saved import find_backtest
    from qtrade.report.explain import draw_trade

    found = find_run(run, runs)
    config = account_of(found, delay, fill, account)
    explanation = explain_trade(found, strategy, trade, config=config)
    picture = find_backtest(found, strategy, config).folder / f"trade-{trade}.png"
    draw_trade(explanation, picture)
    return Explained(explanation, picture)


def forecast(
    run: RunLike,
    *,
    latest: bool = False,
    since: str | None = None,
    bars: Bars | None = None,
    attention: bool = False,
    out: Place | None = None,
    now: pd.Timestamp | None = None,
    runs: Place = RUNS,
    cache: Place = CACHE,
    progress: Watch = False,
) -> Prediction:
    """Forecast what comes after the last bar with the newest model of a run.

    Parameters
    ----------
    latest
        Start from the newest bars in the cache, in place of the run's own; refused where newer ones are due.
    since
        Forecast from every bar since this date.
    bars
        Bars of the run's symbols to start from instead.
    attention
        Draw where each encoder layer looks in the last window.
    out
        Picture to draw: a .png or an .svg.
    now
        UTC moment by which bars are new or old; by default the present.
    run, runs, cache, progress
        As for `train`.

    Raises
    ------
    DataError
        If the newest bars are too old.
    IntegrityError
        If the run is INVALID.
    """
    from qtrade.data.cache import Cache
    from qtrade.pipeline.forecast import forecast_run

    if latest and bars is not None:
        raise UsageError("a forecast starts either from the latest bars or from those given", fix="leave out either")
    found = find_run(run, runs)
    with watched(progress) as watcher:
        return forecast_run(
            found,
            progress=watcher,
            since=since,
            bars=bars,
            latest=Cache(Path(cache)) if latest else None,
            now=now,
            attention=attention,
            out=None if out is None else Path(out),
        )


def compare(*compared: RunLike, runs: Place = RUNS, progress: Watch = False) -> Compared:
    """Put runs on the same bars side by side; the first is the baseline of the others.

    Raises
    ------
    UsageError
        If there are fewer than two, or they are of different bars.
    """
    from qtrade.pipeline.compare import compare_runs

    found = [find_run(one, runs) for one in compared]
    with watched(progress) as watcher:
        return Compared(compare_runs(found, progress=watcher))


def open_run(name: Place, *, runs: Place = RUNS) -> Run:
    """Find a run by its name, the beginning of it, or its folder."""
    from qtrade.runs import open_run as find

    return find(Path(runs), str(name))


def list_runs(*, runs: Place = RUNS) -> list[Run]:
    """Return the runs in a folder, by name."""
    from qtrade.runs import list_runs as listed

    return listed(Path(runs))

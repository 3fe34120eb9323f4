"""Commands about strategies there are and were: strategies, init, trials."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from qtrade.cli_app import App
from qtrade.cli_options import RUNS, JsonOption, RunsOption, complete_runs
from qtrade.terminal import count, make_table, note, out, print_json, print_path, print_records

if TYPE_CHECKING:
    from qtrade.ledger import Trial

strategies_app = App()

_KINDS = {"backtest": "backtest", "sweep": "swept variant", "evaluation": "evaluation"}
_NAMES = {"run": 16, "symbols": 16}
"""Columns of names, and how wide each may be before its names are folded."""
_LEAST = 16
"""Letters that a strategy has room for, however narrow the terminal."""


@strategies_app.command()
def trials(
    run_name: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]", help="Only what was tried on the market of this run.", autocompletion=complete_runs
        ),
    ] = None,
    last: Annotated[int, typer.Option("--last", min=1, help="How many to list, the newest first.")] = 20,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """List all that was ever tried; Sharpe ratios count it.

    Example: qtrade trials quick
    """
    from qtrade.ledger import FILE_NAME, Ledger
    from qtrade.pipeline.venue import open_venue
    from qtrade.runs import open_run

    ledger, market, periods = Ledger(runs / FILE_NAME), None, math.nan
    if run_name is not None:
        found = open_run(runs, run_name)
        venue = open_venue(found, found.config)
        market, periods = venue.market, venue.span.periods_per_year
    listed = ledger.trials(market)
    rows = [
        {
            "at": f"{one.at:%Y-%m-%d %H:%M}",
            "run": one.run,
            "kind": one.kind,
            "strategy": one.strategy or "-",
            "symbols": list(one.market.symbols),
            "interval": one.market.interval,
            "tested": f"{one.market.first:%Y-%m-%d} to {one.market.last:%Y-%m-%d}",
            "bars": one.bars,
            "sharpe_per_bar": one.sharpe,
            "sharpe": None
            if one.sharpe is None or not one.periods_per_year
            else one.sharpe * one.periods_per_year**0.5,
            "effective_bars": one.effective_bars,
        }
        for one in reversed(listed)
    ]
    if as_json:
        print_json(rows)
        return
    if listed:
        _print_trials(_folded(listed[::-1], periods)[:last])
    kinds = Counter(one.kind for one in listed)
    told = ", ".join(count(many, _KINDS[kind]) for kind, many in kinds.items()) or "none"
    out.print(Text(f"{len(listed):,} on record in {ledger.path}: {told}"), soft_wrap=True)
    if market is not None:
        from qtrade.backtest.statistics import expected_best_sharpe
        from qtrade.pipeline.backtest import luck_variance

        tried = ledger.tried(market)
        luckiest = expected_best_sharpe(luck_variance(tried, len(venue.span)), max(1, tried.trials))
        out.print(
            Text(
                f"Sharpe ratios on this market are judged against the luckiest of {tried.trials:,} useless trials, "
                f"which would show {luckiest * math.sqrt(periods):.2f}."
            ),
            soft_wrap=True,
        )


@strategies_app.command()
def strategies(
    name: Annotated[str | None, typer.Argument(help="One of them, with its parameters explained.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List your strategies and those that come with qtrade.

    Example: qtrade strategies path_momentum
    """
    from qtrade.strategy import list_strategies, load_strategy, strategy_folders, strategy_parameters

    if name is not None:
        load_strategy(name, {}, strategy_folders())  # says what is wrong with it
        print_records(
            [
                {"parameter": one.name, "type": one.kind, "default": one.default, "what": one.doc}
                for one in strategy_parameters(name, strategy_folders())
            ],
            as_json,
        )
        return
    print_records(
        [
            {
                "name": one.name,
                "what": one.problem or one.summary,
                "parameters": [f"{field.name}={field.default}" for field in one.parameters],
                "file": str(one.path),
            }
            for one in list_strategies(strategy_folders())
        ],
        as_json,
        hidden=("file",),
    )
    if not as_json:
        out.print(Text("qtrade strategies NAME explains the parameters of one."))


@strategies_app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to; made if it is not there.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Write a configuration and a strategy to start from.

    Example: qtrade init my-research
    """
    from qtrade.workspace import write_workspace

    written = write_workspace(folder)
    if as_json:
        print_json({"written": [str(path) for path in written]})
        return
    for path in written:
        print_path(path)
    inside = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    note(f"next: {inside}qtrade run --config qtrade.toml")


def _folded(newest_first: Sequence[Trial], periods: float) -> list[dict[str, str]]:
    """Make one row of the variants that a sweep tried within one minute, with the best of their Sharpe ratios."""
    together: list[list[Trial]] = []
    for one in newest_first:
        before = together[-1][0] if together else None
        if before is not None and one.kind == before.kind == "sweep" and _sweep_of(one) == _sweep_of(before):
            together[-1].append(one)
        else:
            together.append([one])
    return [
        {
            "at": f"{trials[0].at:%Y-%m-%d %H:%M}",
            "run": trials[0].run,
            "strategy": _named(trials),
            "symbols": ", ".join(trials[0].market.symbols),
            "ratio": _best_ratio(trials, periods),
        }
        for trials in together
    ]


def _sweep_of(trial: Trial) -> tuple[object, ...]:
    return f"{trial.at:%Y-%m-%d %H:%M}", trial.run, trial.market, trial.strategy.partition("(")[0], trial.account


def _named(trials: Sequence[Trial]) -> str:
    if trials[0].kind == "evaluation":
        return "evaluation, nothing traded"
    if len(trials) == 1:
        return trials[0].strategy
    return f"{trials[0].strategy.partition('(')[0]}, {len(trials):,} variants"


def _best_ratio(trials: Sequence[Trial], periods: float) -> str:
    """Write the annualised Sharpe ratio of a trial, or of the best by the rule of the sweep that they were made in.

    The highest is not called the best where none of them can be judged, or it is not on record which can. One whose
    bars in a year nobody knows is given per bar.
    """
    known = [one for one in trials if one.sharpe is not None]
    if not known:
        return "-"
    best, title = max(known, key=lambda one: one.sharpe or 0.0), ""
    if len(trials) > 1:
        from qtrade.backtest.metrics import FEW

        # As `qtrade.pipeline.sweep.judged`.
        fit = [one for one in known if (one.effective_bars or 0) > FEW and not one.ruined]
        best, title = (max(fit, key=lambda one: one.sharpe or 0.0), "best ") if fit else (best, "highest ")
    assert best.sharpe is not None, "those without a ratio were left out"
    year = best.periods_per_year or periods
    if math.isnan(year):
        return f"{title}{best.sharpe:+.4f} per bar"
    return f"{title}{best.sharpe * math.sqrt(year):+.2f}"


def _print_trials(rows: Sequence[dict[str, str]]) -> None:
    """Print a row per trial or sweep; what all have in common stands in a line above, and no number is ever cut."""
    shared = {name: rows[0][name] for name in _NAMES if len({row[name] for row in rows}) == 1}
    if shared:
        out.print(Text(", ".join(f"{name} {value}" for name, value in shared.items()) + "\n"), soft_wrap=True)
    names = [name for name in _NAMES if name not in shared]
    widths = {name: min(_NAMES[name], max(len(row[name]) for row in rows)) for name in names}
    fixed = len(rows[0]["at"]) + max(len("Sharpe ratio"), *(len(row["ratio"]) for row in rows))
    gaps = 2 * (len(names) + 2)
    room = max(_LEAST, out.width - fixed - sum(widths.values()) - gaps)
    table: Table = make_table("at")
    for name in ("strategy", *names):
        table.add_column(name, overflow="fold")
    table.add_column("Sharpe ratio", justify="right", no_wrap=True)
    for row in rows:
        cells = [_broken(row["strategy"], room), *(_broken(row[name], widths[name]) for name in names)]
        table.add_row(row["at"], *map(Text, cells), row["ratio"])
    for column, index in ((table.columns[0], 0), (table.columns[-1], -1)):
        column.min_width = max(len(str(column.header)), *(len(list(row.values())[index]) for row in rows))
    out.print(table)


def _broken(name: str, width: int) -> str:
    """Break a name that is too long after its separators: ``, ( - . _``, and the first two of these for choice."""
    if len(name) <= width:
        return name
    lines = [""]
    for part in re.findall(r".+?(?:, |\(|$)", name):
        fine = [part] if len(part.rstrip()) <= width - 2 else re.findall(r".+?(?:[-._/=]|, |\(|$)", part)
        for piece in fine:
            if lines[-1].strip() and len(lines[-1] + piece.rstrip()) > width:
                lines.append("  ")
            lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)

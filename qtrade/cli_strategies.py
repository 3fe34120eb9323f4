"""Commands about strategies there are and were: strategies, init, trials."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from qtrade.cli_app import App
from qtrade.cli_options import RUNS, JsonOption, RunsOption, complete_runs
from qtrade.terminal import count, note, out, print_json, print_path, print_records

strategies_app = App()

_KINDS = {"backtest": "backtest", "sweep": "swept variant", "evaluation": "evaluation"}


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

    Example: qtrade trials run
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
        }
        for one in reversed(listed)
    ]
    if as_json:
        print_json(rows)
        return
    shown = _folded(rows, periods)[:last]
    print_records(shown, False, hidden=("symbols", "interval", "bars", "tested")[0 if market else 1 :])
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


def _folded(rows: list[dict[str, Any]], periods: float) -> list[dict[str, Any]]:
    """Make one row of the variants that a sweep tried within one minute, with the best of their Sharpe ratios.

    Those are annualised where the market, and so the number of bars in a year, is known.
    """
    title = "Sharpe per bar" if math.isnan(periods) else "Sharpe ratio"
    folded: list[dict[str, Any]] = []
    together = ("at", "run", "kind", "tested", "name")
    for row in rows:
        row = {**row, "name": row["strategy"].partition("(")[0], "best": row["sharpe_per_bar"], "many": 1}
        before = folded[-1] if folded else {}
        if row["kind"] == "sweep" and all(before.get(key) == row[key] for key in together):
            before["many"] += 1
            before["best"] = max((one for one in (before["best"], row["best"]) if one is not None), default=None)
        else:
            folded.append(row)
    for row in folded:
        many, best = row.pop("many"), row.pop("best")
        name = row.pop("name")
        del row["sharpe_per_bar"]
        row[title] = "-"
        if best is not None:
            row[title] = f"{best:+.4f}" if math.isnan(periods) else f"{best * math.sqrt(periods):+.2f}"
        if many > 1:
            row["strategy"] = f"{name}, {many:,} variants"
            row[title] = f"best {row[title]}"
    return folded

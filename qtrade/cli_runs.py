"""`qtrade runs`: which runs there are, what is known of one, how they compare, and getting rid of some."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from qtrade.cli_app import App
from qtrade.cli_compare import RunsArgument, compare
from qtrade.cli_options import RUNS, DryRunOption, JsonOption, RunArgument, RunsOption, confirmed
from qtrade.errors import UsageError
from qtrade.terminal import make_table, note, number, out, print_json, print_numbers, print_path

if TYPE_CHECKING:
    from qtrade.pipeline.overview import Glance
    from qtrade.pipeline.removal import Removal
    from qtrade.runs import Run

runs_app = App(help="Manage runs: list, show, compare, remove.", no_args_is_help=True)
runs_app.command()(compare)


@runs_app.command("list")
def list_all(as_json: JsonOption = False, runs: RunsOption = RUNS) -> None:
    """List the runs in a folder, the newest first.

    Example: qtrade runs list
    """
    from qtrade.pipeline.overview import glance_at_all

    found = glance_at_all(runs)
    if as_json:
        print_json([one.to_dict() for one in found])
    elif not found:
        out.print(Text(f"there are no runs in {runs}; make one with `qtrade run`"), soft_wrap=True)
    else:
        _print_list(found)
        for one in found:
            if one.note:
                note(f"{one.name}: {one.note}", style="yellow")


@runs_app.command()
def show(run_name: RunArgument, as_json: JsonOption = False, runs: RunsOption = RUNS) -> None:
    """Show what a run is: its verdict, data, training, backtests and files, and how to make it again.

    Example: qtrade runs show quick
    """
    from qtrade.pipeline.overview import describe_run
    from qtrade.runs import open_run

    found = open_run(runs, run_name)
    told = describe_run(found)
    if as_json:
        print_json(told)
        return
    if told["verdict"] is not None:
        out.print(Text.assemble((told["verdict"]["headline"], "bold"), "\n", told["verdict"]["line"], "\n"))
    table = make_table("run")
    table.add_column(Text(told["name"]), overflow="fold")
    for name, text in _facts(told).items():
        table.add_row(name, Text(text))
    out.print(table)
    if told["tested_strategies"]:
        out.print()
        _print_backtests(told["tested_strategies"])
    out.print()
    out.print(Text(f"again: {told['again'][0]}"), soft_wrap=True)
    if (found.folder / "report.html").is_file():
        print_path(found.folder / "report.html")


@runs_app.command()
def remove(
    names: RunsArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Delete runs with everything in their folders. The trials made on them stay on record, and go on counting.

    Example: qtrade runs remove quick --dry-run
    """
    from qtrade.pipeline.removal import clear_leftovers, leftovers, plan_removal
    from qtrade.pipeline.removal import remove as remove_one
    from qtrade.runs import open_run

    if not all(names):  # the beginning of every name
        raise UsageError("a name is empty", why="it would stand for whichever run there is", fix="name the run in full")
    found = [open_run(runs, name) for name in names]
    if yes:
        _check_named_in_full(names, found)
    plans = plan_removal(found)
    if not dry_run:
        if not yes:
            _ask(plans)
        for plan in plans:
            remove_one(plan)
        for folder in {plan.folder.resolve().parent for plan in plans}:
            clear_leftovers(folder)
    if as_json:
        print_json([plan.to_dict() for plan in plans])
        return
    for plan in plans:
        out.print(Text(f"{'would remove' if dry_run else 'removed'} {_sized(plan)}"), soft_wrap=True)
    if dry_run:
        for folder in sorted({plan.folder.resolve().parent for plan in plans}):
            for path in leftovers(folder):
                note(f"would clear away what an earlier removal left: {path}")
    kept = "would stay on record" if dry_run else "stay on record"
    note(f"the trials that were made on {'it' if len(plans) == 1 else 'them'} {kept}: what was tried cannot be untried")


def _check_named_in_full(names: Sequence[str], found: Sequence[Run]) -> None:
    """Refuse the mere beginning of a name where nobody is asked: a slip of the finger would remove another run."""
    for name, run in zip(names, found, strict=True):
        without_hash = run.name.removesuffix(f"-{run.manifest['forecast_hash'][:8]}")
        if name not in (run.name, without_hash) and not (Path(name) / "manifest.json").is_file():
            raise UsageError(
                f"'{name}' is only the beginning of {run.name}",
                why="with --yes nobody is asked whether that is the run that is meant",
                fix=f"name it in full: {shlex.join(['qtrade', 'runs', 'remove', run.name, '--yes', *run.where])}",
            )


def _ask(plans: Sequence[Removal]) -> None:
    """Ask whether runs shall go; where nobody can answer, stop."""
    if not sys.stdin.isatty():
        raise UsageError(
            "nobody is there to ask whether the runs shall be removed",
            why="standard input is no terminal",
            fix="add --yes to remove them without being asked, or --dry-run to see what would go",
        )
    for plan in plans:
        note(_sized(plan))
    if not confirmed(f"Remove {'this run' if len(plans) == 1 else f'these {len(plans)} runs'}?"):
        note("nothing was removed")
        raise typer.Exit(1)


def _sized(plan: Removal) -> str:
    from qtrade.pipeline.overview import told_bytes

    return f"{plan.folder}: {plan.files:,} files, {told_bytes(plan.bytes)}"


def _print_list(found: Sequence[Glance]) -> None:
    """Print a row per run; in a narrow terminal the column of data and that of verdicts give way."""
    from qtrade.pipeline.overview import told_bytes, told_symbols

    table = make_table("run", "model", "data", "verdict")
    for title in ("trained", "size", "tests"):
        table.add_column(title, no_wrap=True, justify="left" if title == "trained" else "right")
    table.columns[1].no_wrap = True
    for one in found:
        years = "-".join(dict.fromkeys((one.first[:4], one.last[:4])))
        table.add_row(
            Text(one.name),
            Text(one.model),
            Text(f"{told_symbols(one.symbols)} {one.interval} {years}".strip()),
            Text(one.state),
            "" if one.trained is None else f"{one.trained:%Y-%m-%d}",
            told_bytes(one.bytes),
            str(one.backtests),
        )
    out.print(table)


def _facts(told: Mapping[str, Any]) -> dict[str, str]:
    """Say what there is to know of a run, a line for each kind of thing."""
    from qtrade.pipeline.overview import told_bytes, told_seconds, told_symbols

    data, made, training = told["data"], told["forecasts"], told["training"]
    count = training["parameters"]
    size = "" if count is None else f", {count:,} parameters"
    many = "" if training["replicates"] == 1 else f", {training['replicates']} times from different seeds"
    against = f"; beside it: {', '.join(training['baselines'])}" if training["baselines"] else ""
    files = ", ".join(f"{one['name']} {told_bytes(one['size_bytes'])}" for one in told["files"][:4])
    delay = f", {made['delay_bars']} bars late" if made["delay_bars"] else ""
    trained = (told["trained_at"] or "not yet")[:16].replace("T", " ")
    versions = ", ".join(f"{name} {version}" for name, version in training["versions"].items())
    facts = {
        "state": told["state"],
        "model": f"{told['model']}{size}, seed {training['seed']}{many}{against}",
        "data": f"{told_symbols(tuple(told['symbols']))} from '{data['source']}': {data['bars']:,} bars of "
        f"{told['interval']} ({data['calendar']}), {told['first'][:10]} to {told['last'][:10]}",
        "data hash": data["hash"],
        "forecasts": f"{made['target']} {made['predicts_bars']} bars ahead{delay}, from {made['reads_bars']} bars of "
        f"{made['features']} features",
    }
    if made["origins"]:
        facts["tested"] = (
            f"{made['origins']:,} origins in {training['folds']} folds ({training['mode']}), "
            f"{made['tested_first'][:10]} to {made['tested_last'][:10]}"
        )
    facts["trained"] = (
        f"{trained} UTC on {training['device']}, {training['fits_done']} of {training['fits']} fits, "
        f"{told_seconds(training['fit_seconds'])}"
    )
    facts["made with"] = versions
    if told["verdict"] is not None and told["verdict"]["gates"]:
        facts["gates"] = ", ".join(f"{one['gate']} {one['grade']}" for one in told["verdict"]["gates"])
    facts["on disk"] = f"{told_bytes(told['size_bytes'])} in {told['folder']}: {files}"
    return facts


def _print_backtests(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the backtests of a run below one another."""
    table = make_table("backtest")
    for title in ("Sharpe ratio\n95% interval", "net\n%/year", "fall\n%", "fills"):
        table.add_column(title, justify="right", no_wrap=True)
    for one in rows:
        if one["note"]:
            table.add_row(Text(f"{one['folder']}: {one['note']}"), "-", "-", "-", "-")
            continue
        ratio = number(one["sharpe"])
        if one["sharpe_low"] is not None:
            ratio += f" [{number(one['sharpe_low'])}, {number(one['sharpe_high'])}]"
        name = ", ".join((one["strategy"], *one["account_differs"]))
        fall = "-" if one["max_drawdown"] is None else f"{100 * one['max_drawdown']:.1f}"
        fills = "-" if one["trades"] is None else f"{one['trades']:,.0f}"
        table.add_row(Text(name), ratio, number(one["net_annual_return"], percent=True), fall, fills)
    print_numbers(table)

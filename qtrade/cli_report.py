"""Commands that judge a run and tell: evaluate, report."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from qtrade.cli_app import App
from qtrade.cli_backtest import backtest_table
from qtrade.cli_options import RUNS, JsonOption, RunArgument, RunsOption
from qtrade.errors import IntegrityError, QtradeError, UsageError, nearest
from qtrade.terminal import make_table, out, print_json, print_path, print_plain, print_prose, progress_bars

if TYPE_CHECKING:
    from qtrade.runs import Run

report_app = App()

_FORMATS = ("html", "md", "json")


@report_app.command()
def evaluate(
    run_name: RunArgument,
    full: Annotated[
        bool,
        typer.Option("--full", help="Fit cheap models for the optimism waterfall, and ask models more."),
    ] = False,
    probe: Annotated[str, typer.Option("--probe", help="The cheap model of the waterfall: trees or ridge.")] = "trees",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="What to measure, as evaluation.horizons=[1,5]. Repeatable.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Measure whether what a run learned still holds.

    Writes evaluation.json and report.html.

    Example: qtrade evaluate quick
    """
    from qtrade.pipeline.evaluate import evaluate_run
    from qtrade.pipeline.ladder import PROBES
    from qtrade.pipeline.report import report_run
    from qtrade.runs import evaluated_otherwise, open_run

    if probe not in PROBES:
        raise UsageError(f"there is no probe '{probe}'", fix=nearest(probe, PROBES))
    found = open_run(runs, run_name)
    config = evaluated_otherwise(found, settings or [])
    try:
        with progress_bars() as progress:
            evaluation = evaluate_run(found, progress=progress, config=config, full=full, probe=PROBES[probe])
            page = report_run(found, progress=progress, evaluation=evaluation, config=config)
    except IntegrityError:
        if as_json:
            typer.echo((found.folder / "evaluation.json").read_text(encoding="utf-8"))
        raise
    if as_json:
        typer.echo((found.folder / "evaluation.json").read_text(encoding="utf-8"))
        return
    print_prose(Text.assemble((evaluation.verdict.headline, "bold"), "\n", evaluation.verdict.line, "\n"))
    table = make_table("gate", "", "what was found")
    for gate in evaluation.gates:
        table.add_row(Text(f"{gate.code} {gate.title}"), Text(gate.grade), Text(gate.reasons[0]))
    out.print(table)
    for line in (evaluation.optimism or {}).get("lines", ()):
        print_prose(line)
    print_path(page)


@report_app.command()
def report(
    run_name: RunArgument,
    kind: Annotated[
        str,
        typer.Option(
            "--format", metavar="html|md|json", help="html writes a page and prints its path; md and json are printed."
        ),
    ] = "html",
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Write the report of a run: as a page, Markdown or JSON.

    Example: qtrade report quick --format md
    """
    from qtrade.pipeline.report import markdown_of, report_run
    from qtrade.runs import open_run

    if kind not in _FORMATS:
        raise UsageError(f"there is no report in the format '{kind}'", fix=nearest(kind, _FORMATS))
    if show and kind != "html":
        raise UsageError("only a page can be opened in the browser", fix="leave out --format or --open")
    found = open_run(runs, run_name)
    with progress_bars() as progress:
        if kind == "md" and not as_json:
            print_plain(markdown_of(found, progress=progress))
            return
        page = report_run(found, progress=progress)
    tell_run(found, page, as_json or kind == "json")
    if show and not webbrowser.open(page.resolve().as_uri()):
        raise QtradeError("no browser could be started", fix=f"open {page} yourself")


def tell_run(finished: Run, page: Path, as_json: bool) -> None:
    """Print verdict, backtests and page of a reported run."""
    from qtrade.pipeline.report import read_backtests

    numbers = json.loads((finished.folder / "metrics.json").read_text(encoding="utf-8"))
    if as_json:
        print_json({"run": finished.name, "folder": str(finished.folder), "report": str(page), **numbers})
        return
    from qtrade.evaluation.gates import ONLY_TOLD

    conclusion = numbers["verdict"]
    print_prose(Text.assemble((conclusion["headline"], "bold"), "\n", conclusion["line"], "\n"))
    raised = [gate for gate in numbers["gates"] if gate["grade"] not in ("PASS", "NOT MEASURED")]
    for gate in sorted(raised, key=lambda gate: (gate["gate"] in ONLY_TOLD, gate["grade"] != conclusion["headline"])):
        aside = " (does not count)" if gate["gate"] in ONLY_TOLD else ""
        print_prose(f"{gate['gate']} {gate['title']} {gate['grade']}{aside}: {gate['reasons'][0]}")
    out.print()
    # Trials go on after a report, so that what they leave of a Sharpe ratio is not in its numbers.
    backtests = [(one.name, one.params, {**one.metrics, **one.luck}) for one in read_backtests(finished)]
    backtest_table(backtests, numbers["buy_and_hold"])
    print_path(page)

"""The command line: parse, call, print. Progress goes to stderr; paths, tables and JSON to stdout."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeftColumn
from rich.table import Table

from qtrade.errors import QtradeError, UsageError

if TYPE_CHECKING:
    from qtrade.config import RunConfig
    from qtrade.runs import Run

app = typer.Typer(
    help="Informer forecasts for markets, backtested honestly: does what a model learned still hold?",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
out = Console()
err = Console(stderr=True)

Symbols = Annotated[list[str] | None, typer.Argument(help="Symbols, such as ^GSPC ^IXIC.", show_default=False)]
SymbolsOption = Annotated[
    list[str] | None, typer.Option("--symbols", help="The same; for those who like options.", show_default=False)
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file with settings.", show_default=False)
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, as train.epochs=4. Repeatable.", show_default=False)
]
NameOption = Annotated[str | None, typer.Option("--name", help="First part of the run's name.", show_default=False)]
SourceOption = Annotated[str | None, typer.Option("--source", help="sample or yahoo.", show_default=False)]
IntervalOption = Annotated[str | None, typer.Option("--interval", help="Bar length, as 1d or 1h.", show_default=False)]
StartOption = Annotated[str | None, typer.Option("--start", help="First date.", show_default=False)]
EndOption = Annotated[str | None, typer.Option("--end", help="Date after the last.", show_default=False)]
RunsOption = Annotated[Path, typer.Option("--runs", help="Folder of runs.")]
CacheOption = Annotated[Path, typer.Option("--cache", help="Folder of cached bars.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's name, the beginning of it, or its folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

RUNS = Path("runs")
CACHE = Path("data_cache")


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    """Take the options that every command shares."""
    context.obj = {"debug": debug}
    if version:
        from qtrade import __version__

        typer.echo(f"qtrade {__version__}")
        raise typer.Exit


@app.command()
def run(
    arguments: Symbols = None,
    symbols: SymbolsOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    name: NameOption = None,
    source: SourceOption = None,
    interval: IntervalOption = None,
    start: StartOption = None,
    end: EndOption = None,
    runs: RunsOption = RUNS,
    cache: CacheOption = CACHE,
) -> None:
    """Fetch, train, backtest and report. Without options: on an embedded sample, with no network.

    Example: qtrade run ^GSPC ^IXIC --set train.epochs=4
    """
    resolved = _resolve(config, settings, name, [*(symbols or []), *(arguments or [])], source, interval, start, end)
    from qtrade.data.cache import Cache
    from qtrade.data.load import fetch as fetch_bars
    from qtrade.pipeline.backtest import backtest_run
    from qtrade.pipeline.report import report_run
    from qtrade.pipeline.train import train_run

    store = Cache(cache)
    with _bars() as progress:
        fetch_bars(resolved.data, cache=store, progress=progress).require_all()
        finished = train_run(resolved, runs=runs, cache=store, progress=progress)
        backtest_run(finished, cache=store, progress=progress)
        path = report_run(finished, cache=store)
    _summarise(finished)
    typer.echo(path)


@app.command()
def fetch(
    arguments: Symbols = None,
    symbols: SymbolsOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    source: SourceOption = None,
    interval: IntervalOption = None,
    start: StartOption = None,
    end: EndOption = None,
    cache: CacheOption = CACHE,
) -> None:
    """Download bars into the cache.

    Example: qtrade fetch ^GSPC BTC-USD --source yahoo --interval 1d
    """
    from qtrade.data.cache import Cache
    from qtrade.data.load import DataConfig
    from qtrade.data.load import fetch as fetch_bars

    chosen = [*(symbols or []), *(arguments or [])]
    given = {"symbols": chosen or None, "source": source, "interval": interval, "start": start, "end": end}
    data: DataConfig
    if config or settings:
        data = _resolve(config, settings, None, chosen, source, interval, start, end).data
    else:
        from qtrade.settings import validated

        data = validated(DataConfig, {key: value for key, value in given.items() if value is not None})
    with _bars() as progress:
        report = fetch_bars(data, cache=Cache(cache), progress=progress)
    for path in report.saved:
        typer.echo(path)
    report.require_all()


@app.command()
def train(
    arguments: Symbols = None,
    symbols: SymbolsOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    name: NameOption = None,
    source: SourceOption = None,
    interval: IntervalOption = None,
    start: StartOption = None,
    end: EndOption = None,
    runs: RunsOption = RUNS,
    cache: CacheOption = CACHE,
) -> None:
    """Train on cached bars, walk-forward, and store the forecasts. Goes on where it was interrupted.

    Example: qtrade train ^GSPC --set split.mode=rolling
    """
    resolved = _resolve(config, settings, name, [*(symbols or []), *(arguments or [])], source, interval, start, end)
    from qtrade.data.cache import Cache
    from qtrade.pipeline.train import train_run

    with _bars() as progress:
        finished = train_run(resolved, runs=runs, cache=Cache(cache), progress=progress)
    typer.echo(finished.folder)


@app.command()
def backtest(
    run_name: RunArgument,
    strategy: Annotated[
        list[str] | None,
        typer.Option("--strategy", "-s", help="Name or path. Repeatable. Default: those of the run."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter of the strategy, as threshold=0.01. Repeatable.")
    ] = None,
    runs: RunsOption = RUNS,
    cache: CacheOption = CACHE,
) -> None:
    """Backtest strategies on the forecasts of a run.

    Example: qtrade backtest run-1a2b3c4d -s path_momentum --set step=12
    """
    from qtrade.config import parse_assignment
    from qtrade.data.cache import Cache
    from qtrade.pipeline.backtest import backtest_run
    from qtrade.runs import open_run

    params: dict[str, Any] = dict(parse_assignment(text) for text in settings or [])
    if params and len(strategy or []) != 1:
        raise UsageError("--set needs exactly one --strategy", why="a parameter belongs to one strategy")
    chosen = dict.fromkeys(strategy, params) if strategy else None
    found = open_run(runs, run_name)
    with _bars() as progress:
        folders = backtest_run(found, cache=Cache(cache), progress=progress, strategies=chosen)
    _backtest_table([json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in folders])
    for folder in folders:
        typer.echo(folder)


@app.command()
def report(run_name: RunArgument, runs: RunsOption = RUNS, cache: CacheOption = CACHE) -> None:
    """Write report.html and metrics.json of a run.

    Example: qtrade report run-1a2b3c4d
    """
    from qtrade.data.cache import Cache
    from qtrade.pipeline.report import report_run
    from qtrade.runs import open_run

    found = open_run(runs, run_name)
    path = report_run(found, cache=Cache(cache))
    _summarise(found)
    typer.echo(path)


@app.command()
def features(as_json: JsonOption = False) -> None:
    """List the features a model can read.

    Example: qtrade features
    """
    from qtrade.features.indicators import FEATURE_SETS, FEATURES

    rows = [
        {
            "name": name,
            "group": feature.group,
            "formula": feature.formula,
            "warm-up bars": feature.warmup,
            "needs volume": feature.needs_volume,
            "sets": [key for key, names in FEATURE_SETS.items() if name in names],
        }
        for name, feature in FEATURES.items()
    ]
    _rows(rows, as_json)


@app.command()
def models(as_json: JsonOption = False) -> None:
    """List the models.

    Example: qtrade models
    """
    from qtrade.models import MODELS

    _rows([{"name": name, "what": (kind.__doc__ or "").partition("\n")[0]} for name, kind in MODELS.items()], as_json)


@app.command()
def strategies(as_json: JsonOption = False) -> None:
    """List the strategies found in ./strategies and those that come with qtrade.

    Example: qtrade strategies
    """
    from qtrade.strategy import list_strategies, strategy_folders

    _rows(
        [
            {
                "name": one.name,
                "what": one.problem or one.summary,
                "parameters": [f"{field.name}: {field.kind} = {field.default}" for field in one.parameters],
                "file": str(one.path),
            }
            for one in list_strategies(strategy_folders())
        ],
        as_json,
    )


@app.command()
def doctor(as_json: JsonOption = False, cache: CacheOption = CACHE) -> None:
    """Show versions, device, threads and cache, and what is missing.

    Example: qtrade doctor
    """
    from qtrade.doctor import examine

    findings = examine(cache)
    _rows([{"what": one.what, "found": one.found, "problem": one.problem} for one in findings], as_json)
    if any(one.problem for one in findings):
        raise typer.Exit(1)


def main() -> None:
    """Run the program: errors become messages and exit codes, never tracebacks unless asked for."""
    debug = "--debug" in sys.argv
    try:
        app(standalone_mode=True)
    except QtradeError as error:
        if debug:
            traceback.print_exc()
        err.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print("interrupted; the same command goes on with the folds that are not complete", markup=False)
        sys.exit(130)
    except Exception as error:
        if debug:
            traceback.print_exc()
        text = f"unexpected error: {type(error).__name__}: {error}\n  fix: run it again with `qtrade --debug ...`"
        err.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


def _resolve(
    config: Path | None,
    settings: list[str] | None,
    name: str | None,
    symbols: list[str],
    source: str | None,
    interval: str | None,
    start: str | None,
    end: str | None,
) -> RunConfig:
    """Put file, assignments and options together; options win."""
    from qtrade.config import load_config

    data = {"symbols": symbols or None, "source": source, "interval": interval, "start": start, "end": end}
    return load_config(config, settings or [], name=name, data=data)


class _TerminalProgress:
    """`qtrade.progress.Progress` as a bar on stderr."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task: TaskID | None = None

    def start(self, title: str, total: int) -> None:
        """Begin a bar below the finished ones."""
        self.task = self.progress.add_task(title, total=total, note="")

    def advance(self, steps: int, note: str) -> None:
        """Move the bar."""
        assert self.task is not None, "start comes first"
        self.progress.update(self.task, advance=steps, note=note)
        if not err.is_terminal:
            err.print(f"{self.progress.tasks[self.task].description}  {note}", markup=False, highlight=False)

    def message(self, text: str) -> None:
        """Print a line above the bars."""
        self.progress.console.print(text, markup=False, highlight=False)


@contextmanager
def _bars() -> Iterator[_TerminalProgress]:
    """Show progress on stderr: live bars in a terminal, a line per step elsewhere."""
    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeLeftColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        yield _TerminalProgress(progress)


def _summarise(finished: Run) -> None:
    """Print verdict, skill and backtests of a reported run."""
    numbers = json.loads((finished.folder / "metrics.json").read_text(encoding="utf-8"))
    out.print(numbers["verdict"]["line"], markup=False, highlight=False, style="bold", soft_wrap=True)
    _backtest_table(
        [
            *numbers["backtests"],
            *([{"name": "buy and hold", **numbers["buy_and_hold"]}] if numbers["buy_and_hold"] else []),
        ]
    )


def _backtest_table(backtests: list[dict[str, Any]]) -> None:
    """Print the numbers of some backtests side by side."""
    table = Table("strategy", "net / year", "gross / year", "cost / year", "Sharpe [95 %]", "max drawdown", "trades")
    for one in backtests:
        values = one.get("metrics", one)
        table.add_row(
            one.get("strategy", one.get("name")),
            _percent(values["annual_return"]),
            _percent(values["gross_annual_return"]),
            _percent(values["cost_annual"]),
            _interval(values["sharpe"], values["sharpe_low"], values["sharpe_high"]),
            _percent(values["max_drawdown"]),
            f"{values['trades']:.0f}",
        )
    out.print(table)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.2f} %"


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None or low is None or high is None:
        return "-"
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print records as a table or as JSON."""
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        typer.echo("nothing found")
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    out.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


if __name__ == "__main__":
    main()

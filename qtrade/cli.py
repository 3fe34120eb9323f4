"""The command line: parse, call, print. Progress goes to stderr; paths, tables and JSON to stdout."""

from __future__ import annotations

import json
import sys
import traceback
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column, Table
from rich.text import Text

from qtrade.errors import PartialError, QtradeError, UsageError

if TYPE_CHECKING:
    from pandas import DataFrame

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
PresetOption = Annotated[
    str | None, typer.Option("--preset", help="Size to start from: tiny, small, base, paper.", show_default=False)
]
FeaturesOption = Annotated[
    str | None, typer.Option("--features", help="What is read and predicted: MS, M or S.", show_default=False)
]
TargetOption = Annotated[
    str | None, typer.Option("--target", help="What is forecast: log_return or log_close.", show_default=False)
]
KeysOption = Annotated[
    str | None,
    typer.Option("--attention-keys", help="Keys that rank the queries: sampled or all.", show_default=False),
]
RunsOption = Annotated[Path, typer.Option("--runs", help="Folder of runs.")]
CacheOption = Annotated[Path, typer.Option("--cache", help="Folder of cached bars.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's name, the beginning of it, or its folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

RUNS = Path("runs")
CACHE = Path("data_cache")
INTERRUPTED = 130


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    """Take the options that every command shares; `main` looks for --debug itself."""
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
    preset: PresetOption = None,
    features: FeaturesOption = None,
    target: TargetOption = None,
    attention_keys: KeysOption = None,
    runs: RunsOption = RUNS,
    cache: CacheOption = CACHE,
) -> None:
    """Fetch, train, backtest and report. Without options: on an embedded sample, with no network.

    Example: qtrade run ^GSPC ^IXIC --set train.epochs=4
    """
    resolved = _resolve(
        config,
        settings,
        symbols=[*(symbols or []), *(arguments or [])],
        name=name,
        source=source,
        interval=interval,
        start=start,
        end=end,
        preset=preset,
        features=features,
        target=target,
        attention_keys=attention_keys,
    )
    from qtrade.data.cache import Cache
    from qtrade.data.load import fetch as fetch_bars
    from qtrade.pipeline.backtest import backtest_run, load_strategies
    from qtrade.pipeline.report import report_run
    from qtrade.pipeline.train import train_run
    from qtrade.runs import save_config

    load_strategies(resolved.strategies)  # a wrong one would be met only after training
    store = Cache(cache)
    with _bars() as progress:
        fetch_bars(resolved.data, cache=store, progress=progress).require_all()
        finished = train_run(resolved, runs=runs, cache=store, progress=progress)
        ruined = None
        try:
            backtest_run(finished, progress=progress, config=resolved)
        except PartialError as error:
            if (finished.folder / "report.html").exists():
                raise  # the report there is whole, of other accounts or strategies
            ruined = error
        save_config(finished, resolved)
        path = report_run(finished)
    _summarise(finished)
    typer.echo(path)
    if ruined:
        raise ruined


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
    from qtrade.settings import validated

    chosen = [*(symbols or []), *(arguments or [])]
    options = {"source": source, "interval": interval, "start": start, "end": end}
    if config or settings:
        data = _resolve(config, settings, symbols=chosen, **options).data
    else:
        given = {"symbols": chosen or None, **options}
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
    preset: PresetOption = None,
    features: FeaturesOption = None,
    target: TargetOption = None,
    attention_keys: KeysOption = None,
    runs: RunsOption = RUNS,
    cache: CacheOption = CACHE,
) -> None:
    """Train on cached bars, walk-forward, and store the forecasts. Goes on where it was interrupted.

    Example: qtrade train ^GSPC --set split.mode=rolling
    """
    resolved = _resolve(
        config,
        settings,
        symbols=[*(symbols or []), *(arguments or [])],
        name=name,
        source=source,
        interval=interval,
        start=start,
        end=end,
        preset=preset,
        features=features,
        target=target,
        attention_keys=attention_keys,
    )
    from qtrade.data.cache import Cache
    from qtrade.pipeline.train import train_run
    from qtrade.runs import save_config

    with _bars() as progress:
        finished = train_run(resolved, runs=runs, cache=Cache(cache), progress=progress)
        save_config(finished, resolved)
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
) -> None:
    """Backtest strategies on the forecasts of a run.

    Example: qtrade backtest run-1a2b3c4d -s path_momentum --set step=12
    """
    from qtrade.config import parse_assignment
    from qtrade.pipeline.backtest import backtest_run
    from qtrade.runs import open_run

    params: dict[str, Any] = dict(parse_assignment(text) for text in settings or [])
    if params and len(strategy or []) != 1:
        raise UsageError("--set needs exactly one --strategy", why="a parameter belongs to one strategy")
    chosen = dict.fromkeys(strategy, params) if strategy else None
    found = open_run(runs, run_name)
    with _bars() as progress:
        folders = backtest_run(found, progress=progress, strategies=chosen)
    made = [json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in folders]
    _backtest_table([(one["strategy"], one["params"], one["metrics"]) for one in made], made[0]["buy_and_hold"])
    for folder in folders:
        typer.echo(folder)


@app.command()
def forecast(
    run_name: RunArgument,
    since: Annotated[
        str | None, typer.Option("--since", help="Forecast from every bar since this date.", show_default=False)
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Take the bars in the cache, not those of the run.")] = False,
    attention: Annotated[
        bool, typer.Option("--attention", help="Draw where each encoder layer looks in the last window.")
    ] = False,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
    cache: CacheOption = CACHE,
) -> None:
    """Forecast what comes after the last bar with the newest model of a run.

    Prices are adjusted: dividends since the first bar are in them. The interval is what the model's errors on its
    validation bars were like.

    Example: qtrade forecast run-1a2b3c4d --attention
    """
    from qtrade.data.cache import Cache
    from qtrade.data.load import load_bars
    from qtrade.pipeline.forecast import forecast_run
    from qtrade.runs import open_run

    found = open_run(runs, run_name)
    bars = None
    if fresh:
        data = found.config.data
        bars = load_bars(data.model_copy(update={"end": None}), Cache(cache)).bars
    with _bars() as progress:
        made = forecast_run(found, progress=progress, since=since, bars=bars, attention=attention)
    if as_json:
        typer.echo(made.path.to_json(orient="records", date_format="iso", double_precision=15, indent=2))
    else:
        _path_tables(made.path)
    if since:
        count, first = len(made.forecasts), made.forecasts.origin.min()
        speed = f"in {made.seconds:.1f} s, {count / made.seconds:,.0f} a second"
        err.print(f"{count:,} forecasts, the first after {first:%Y-%m-%d}, {speed}", highlight=False)
    for path in made.files:
        typer.echo(path, err=as_json)


@app.command()
def report(run_name: RunArgument, runs: RunsOption = RUNS) -> None:
    """Write report.html and metrics.json of a run.

    Example: qtrade report run-1a2b3c4d
    """
    from qtrade.pipeline.report import report_run
    from qtrade.runs import open_run

    found = open_run(runs, run_name)
    path = report_run(found)
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
            "warmup": feature.warmup,
            "needs_volume": feature.needs_volume,
            "sets": [key for key, names in FEATURE_SETS.items() if name in names],
        }
        for name, feature in FEATURES.items()
    ]
    _rows(rows, as_json, hidden=("group", "needs_volume"))


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
        app()
    except QtradeError as error:
        if debug:
            traceback.print_exc()
        _complain(f"error: {error}")
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # what Typer makes of Ctrl-C, without a word
            _complain("interrupted; the same command goes on with what is not complete")
        raise
    except Exception as error:
        if debug:
            traceback.print_exc()
        _complain(f"unexpected error: {type(error).__name__}: {error}\n  fix: run it again with `qtrade --debug ...`")
        sys.exit(1)


def _complain(text: str) -> None:
    err.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


def _resolve(
    config: Path | None,
    settings: list[str] | None,
    *,
    symbols: list[str],
    name: str | None = None,
    preset: str | None = None,
    features: str | None = None,
    target: str | None = None,
    attention_keys: str | None = None,
    **data: str | None,
) -> RunConfig:
    """Put file, assignments and options together; options win."""
    from qtrade.config import load_config

    return load_config(
        config,
        settings or [],
        name=name,
        preset=preset,
        data={"symbols": symbols or None, **data},
        features={"mode": features, "target": target},
        informer={"attention_keys": attention_keys},
    )


class _TerminalProgress:
    """`qtrade.progress.Progress` as a bar on stderr."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task: TaskID | None = None

    def start(self, title: str, total: int) -> None:
        """Begin a bar below the finished ones."""
        self.task = self.progress.add_task(title, total=total, note="")
        self.progress.update(self.task, advance=0)  # a job without steps is finished at once

    def advance(self, steps: int, note: str) -> None:
        """Move the bar."""
        assert self.task is not None, "start comes first"
        self.progress.update(self.task, advance=steps, note=note)
        if not err.is_terminal:
            err.print(f"{self.progress.tasks[self.task].description}  {note}", markup=False, highlight=False)

    def message(self, text: str) -> None:
        """Print a line above the bars."""
        self.progress.console.print(text, markup=False, highlight=False)


class _TimeColumn(ProgressColumn):
    """How long a job will take from now, or took."""

    def render(self, task: Task) -> Text:
        seconds = task.finished_time if task.finished else task.time_remaining
        shown = "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))
        return Text(f"{shown} {'in all' if task.finished else 'left':<6}", style="progress.remaining")


@contextmanager
def _bars() -> Iterator[_TerminalProgress]:
    """Show progress on stderr: live bars in a terminal, a line per step elsewhere."""
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=10),
        _TimeColumn(),
        TextColumn("{task.fields[note]}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
    )
    # A step can take minutes, and a step that is forgotten by the next one leaves no estimate of the time left.
    with Progress(
        *columns, console=err, disable=not err.is_terminal, expand=True, speed_estimate_period=86_400.0
    ) as progress:
        yield _TerminalProgress(progress)


def _summarise(finished: Run) -> None:
    """Print verdict and backtests of a reported run."""
    numbers = json.loads((finished.folder / "metrics.json").read_text(encoding="utf-8"))
    conclusion = numbers["verdict"]
    out.print(Text.assemble((conclusion["headline"], "bold"), "\n", conclusion["line"], "\n"))
    _backtest_table([(one["name"], one["params"], one) for one in numbers["backtests"]], numbers["buy_and_hold"])


def _backtest_table(
    backtests: Sequence[tuple[str, dict[str, Any], dict[str, Any]]], buy_and_hold: dict[str, Any] | None
) -> None:
    """Print some backtests and buy-and-hold below one another, with parameters where a name alone is ambiguous.

    Parameters
    ----------
    backtests
        Name, parameters and metrics of each.
    """
    table = _table("strategy")
    titles = ("gross\n%/year", "cost\n%/year", "net\n%/year", "Sharpe ratio\n95% interval", "deepest\nfall %", "fills")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    seen = Counter(name for name, _, _ in backtests)
    for name, params, values in [*backtests, *([("buy and hold", {}, buy_and_hold)] if buy_and_hold else [])]:
        told = [f"  {key}={value}" for key, value in params.items()] if seen[name] > 1 else []
        table.add_row(
            Text("\n".join([name, *told])),
            _number(values["gross_annual_return"], percent=True),
            _number(values["cost_annual"], percent=True),
            _number(values["net_annual_return"], percent=True),
            _with_interval(values["sharpe"], values["sharpe_low"], values["sharpe_high"]),
            _number(values["max_drawdown"], percent=True),
            f"{values['trades']:,.0f}",
        )
    out.print(table)


def _path_tables(path: DataFrame) -> None:
    """Print what is expected, a table per symbol."""
    for symbol, rows in path.groupby("symbol", sort=False):
        out.print(Text(f"{symbol} after {rows['origin'].iloc[0]:%Y-%m-%d %H:%M} UTC"), style="bold")
        table = _table("step")
        for title in ("time", "return %", "adjusted price", "80% interval"):
            table.add_column(title, justify="right", no_wrap=True)
        for row in rows.to_dict("records"):
            interval = f"{row['low']:,.2f} to {row['high']:,.2f}"
            moved = f"{100 * row['return']:+.3f}"
            table.add_row(str(row["step"]), f"{row['time']:%Y-%m-%d %H:%M}", moved, f"{row['price']:,.2f}", interval)
        out.print(table)


def _number(value: float | None, *, percent: bool = False) -> str:
    return "-" if value is None else f"{100 * value if percent else value:.2f}"


def _with_interval(value: float | None, low: float | None, high: float | None) -> str:
    return "-" if value is None else f"{_number(value)} [{_number(low)}, {_number(high)}]"


def _rows(rows: list[dict[str, Any]], as_json: bool, hidden: Collection[str] = ()) -> None:
    """Print records as JSON, or as a table without the `hidden` columns."""
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        typer.echo("nothing found")
        return
    titles = [title for title in rows[0] if title not in hidden]
    table = _table(*titles)
    for row in rows:
        table.add_row(*(Text(_cell(row[title])) for title in titles))
    out.print(table)


def _table(first: str, *others: str) -> Table:
    """Lay out a table whose first column is a name to be copied, and so never cut."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    for title in others:
        table.add_column(title, overflow="fold")
    return table


def _cell(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    main()

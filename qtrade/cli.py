"""The command line: parse, call, print. Progress goes to stderr; paths, tables and JSON to stdout."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from qtrade.cli_backtest import RUNS, RunArgument, RunsOption, backtest_app, backtest_table
from qtrade.cli_data import CACHE, CacheOption, JsonOption, data_app
from qtrade.errors import IntegrityError, QtradeError, UsageError, nearest
from qtrade.terminal import err, make_table, out, print_records, progress_bars

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
app.add_typer(data_app, name="data")
app.add_typer(backtest_app)

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
SourceOption = Annotated[
    str | None, typer.Option("--source", help="sample, yahoo, file or synthetic.", show_default=False)
]
IntervalOption = Annotated[str | None, typer.Option("--interval", help="Bar length, as 1d or 1h.", show_default=False)]
StartOption = Annotated[str | None, typer.Option("--start", help="First date.", show_default=False)]
EndOption = Annotated[str | None, typer.Option("--end", help="Date after the last.", show_default=False)]
PathOption = Annotated[
    str | None, typer.Option("--path", help="CSV or Parquet file, or a folder of them.", show_default=False)
]
ColumnsOption = Annotated[
    str | None, typer.Option("--columns", help="The file's columns, as open=o,close=c.", show_default=False)
]
ZoneOption = Annotated[
    str | None, typer.Option("--tz", help="Time zone of a file's stamps, as Europe/Berlin.", show_default=False)
]
CalendarOption = Annotated[
    str | None, typer.Option("--calendar", help="When a file's market trades: 24/7, 24/5, XNYS.", show_default=False)
]
AcceptOption = Annotated[
    list[str] | None, typer.Option("--accept", help="An error in the data to accept. Repeatable.", show_default=False)
]
PresetOption = Annotated[
    str | None, typer.Option("--preset", help="Size to start from: tiny, small, base, paper.", show_default=False)
]
FeaturesOption = Annotated[
    str | None,
    typer.Option("--features", help="MS, M or S; minimal, default or all; or a file of yours.", show_default=False),
]
TargetOption = Annotated[
    str | None,
    typer.Option("--target", help="log_return, scaled_return, log_close; or a file of yours.", show_default=False),
]
KeysOption = Annotated[
    str | None,
    typer.Option("--attention-keys", help="Keys that rank the queries: sampled or all.", show_default=False),
]
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
    path: PathOption = None,
    columns: ColumnsOption = None,
    tz: ZoneOption = None,
    calendar: CalendarOption = None,
    accept: AcceptOption = None,
    preset: PresetOption = None,
    features: FeaturesOption = None,
    target: TargetOption = None,
    attention_keys: KeysOption = None,
    runs: RunsOption = RUNS,
    cache: CacheOption = CACHE,
) -> None:
    """Fetch, train, backtest, evaluate and report. Without options: on an embedded sample, with no network.

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
        file={"path": path, "columns": columns, "tz": tz, "calendar": calendar},
        accept=accept,
        preset=preset,
        features=features,
        target=target,
        attention_keys=attention_keys,
    )
    from qtrade.data.cache import Cache
    from qtrade.data.fetch import fetch as fetch_bars
    from qtrade.pipeline.backtest import RuinedError, backtest_run, load_strategies
    from qtrade.pipeline.report import report_run
    from qtrade.pipeline.train import train_run
    from qtrade.runs import save_config

    load_strategies(resolved.strategies)  # a wrong one would be met only after training
    store = Cache(cache)
    with progress_bars() as progress:
        fetch_bars(resolved.data, cache=store, progress=progress).require_all()
        finished = train_run(resolved, runs=runs, cache=store, progress=progress)
        ruined = None
        try:
            backtest_run(finished, progress=progress, config=resolved)
        except RuinedError as error:
            ruined = error  # told once the report, which says so too, is written
        save_config(finished, resolved)
        page = report_run(finished, progress=progress)
    _summarise(finished)
    typer.echo(page)
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
    path: PathOption = None,
    columns: ColumnsOption = None,
    tz: ZoneOption = None,
    calendar: CalendarOption = None,
    accept: AcceptOption = None,
    cache: CacheOption = CACHE,
) -> None:
    """Bring bars in the cache up to date: download, import or make them.

    Example: qtrade fetch ^GSPC BTC-USD --source yahoo --interval 1d
    """
    from qtrade.data.cache import Cache
    from qtrade.data.fetch import fetch as fetch_bars

    data = _resolve(
        config,
        settings,
        symbols=[*(symbols or []), *(arguments or [])],
        source=source,
        interval=interval,
        start=start,
        end=end,
        file={"path": path, "columns": columns, "tz": tz, "calendar": calendar},
        accept=accept,
    ).data
    with progress_bars() as progress:
        report = fetch_bars(data, cache=Cache(cache), progress=progress)
    for saved in report.saved:
        typer.echo(saved)
    if len(report.failed) + len(report.saved) > 1 and report.failed:
        table = make_table("failed", "why", "what to do")
        for symbol, failure in report.failed.items():
            what = failure.what.removeprefix(f"{symbol}: ")
            told = f"{what}: {failure.why}" if failure.why else what
            table.add_row(Text(symbol), Text(told), Text(failure.fix.partition("\n")[0]))
        err.print(table)
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
    path: PathOption = None,
    columns: ColumnsOption = None,
    tz: ZoneOption = None,
    calendar: CalendarOption = None,
    accept: AcceptOption = None,
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
        file={"path": path, "columns": columns, "tz": tz, "calendar": calendar},
        accept=accept,
        preset=preset,
        features=features,
        target=target,
        attention_keys=attention_keys,
    )
    from qtrade.data.cache import Cache
    from qtrade.pipeline.evaluate import evaluate_run
    from qtrade.pipeline.train import train_run
    from qtrade.runs import save_config

    with progress_bars() as progress:
        finished = train_run(resolved, runs=runs, cache=Cache(cache), progress=progress)
        save_config(finished, resolved)
        evaluate_run(finished, progress=progress)
    typer.echo(finished.folder)


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
        bars = load_bars(data.model_copy(update={"end": None, "versions": {}}), Cache(cache)).bars
    with progress_bars() as progress:
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
    """Measure whether what a run learned still holds, and write evaluation.json and report.html.

    Example: qtrade evaluate run-1a2b3c4d --full
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
    out.print(Text.assemble((evaluation.verdict.headline, "bold"), "\n", evaluation.verdict.line, "\n"))
    table = make_table("gate", "", "what was found")
    for gate in evaluation.gates:
        table.add_row(Text(f"{gate.code} {gate.title}"), Text(gate.grade), Text(gate.reasons[0]))
    out.print(table)
    for line in (evaluation.optimism or {}).get("lines", ()):
        out.print(Text(line))
    typer.echo(page)


@app.command()
def report(run_name: RunArgument, runs: RunsOption = RUNS) -> None:
    """Write report.html and metrics.json of a run.

    Example: qtrade report run-1a2b3c4d
    """
    from qtrade.pipeline.report import report_run
    from qtrade.runs import open_run

    found = open_run(runs, run_name)
    with progress_bars() as progress:
        path = report_run(found, progress=progress)
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
    print_records(rows, as_json, hidden=("group", "needs_volume"))


@app.command()
def models(as_json: JsonOption = False) -> None:
    """List the models.

    Example: qtrade models
    """
    from qtrade.models import MODELS

    print_records(
        [{"name": name, "what": (kind.__doc__ or "").partition("\n")[0]} for name, kind in MODELS.items()], as_json
    )


@app.command()
def doctor(as_json: JsonOption = False, cache: CacheOption = CACHE) -> None:
    """Show versions, device, threads and cache, and what is missing.

    Example: qtrade doctor
    """
    from qtrade.doctor import examine

    findings = examine(cache)
    print_records([{"what": one.what, "found": one.found, "problem": one.problem} for one in findings], as_json)
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


_FEATURES_ARE = dict.fromkeys(("MS", "M", "S"), "mode") | dict.fromkeys(("none", "minimal", "default", "all"), "set")
"""Which setting a value of --features is; anything else is a file."""


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
    file: dict[str, str | None] | None = None,
    accept: list[str] | None = None,
    **data: str | None,
) -> RunConfig:
    """Put file, assignments and options together; options win."""
    from qtrade.config import load_config

    if features is not None and features not in _FEATURES_ARE and not features.endswith(".py"):
        fix = f"{nearest(features, _FEATURES_ARE)}; a file of yours ends in .py"
        raise UsageError(f"there are no features '{features}'", fix=fix)
    if file is not None and any(value is not None for value in file.values()):
        if data.get("source") not in (None, "file"):
            raise UsageError(
                "--path, --columns, --tz and --calendar are about files", fix="leave them out, or add --source file"
            )
        data["source"] = "file"
    return load_config(
        config,
        settings or [],
        name=name,
        preset=preset,
        data={"symbols": symbols or None, "file": file, "accept": accept or None, **data},
        features={_FEATURES_ARE.get(features or "", "module"): features, "target": target},
        informer={"attention_keys": attention_keys},
    )


def _summarise(finished: Run) -> None:
    """Print verdict and backtests of a reported run."""
    from qtrade.pipeline.report import read_backtests

    numbers = json.loads((finished.folder / "metrics.json").read_text(encoding="utf-8"))
    conclusion = numbers["verdict"]
    out.print(Text.assemble((conclusion["headline"], "bold"), "\n", conclusion["line"], "\n"))
    for gate in numbers["gates"]:
        if gate["grade"] not in ("PASS", "NOT MEASURED"):
            out.print(Text(f"{gate['gate']} {gate['title']} {gate['grade']}: {gate['reasons'][0]}"))
    out.print()
    # Trials go on after a report, so that what they leave of a Sharpe ratio is not in its numbers.
    backtests = [(one.name, one.params, {**one.metrics, **one.luck}) for one in read_backtests(finished)]
    backtest_table(backtests, numbers["buy_and_hold"])


def _path_tables(path: DataFrame) -> None:
    """Print what is expected, a table per symbol."""
    for symbol, rows in path.groupby("symbol", sort=False):
        out.print(Text(f"{symbol} after {rows['origin'].iloc[0]:%Y-%m-%d %H:%M} UTC"), style="bold")
        table = make_table("step")
        for title in ("time", "return %", "adjusted price", "80% interval"):
            table.add_column(title, justify="right", no_wrap=True)
        for row in rows.to_dict("records"):
            interval = f"{row['low']:,.2f} to {row['high']:,.2f}"
            moved = f"{100 * row['return']:+.3f}"
            table.add_row(str(row["step"]), f"{row['time']:%Y-%m-%d %H:%M}", moved, f"{row['price']:,.2f}", interval)
        out.print(table)


if __name__ == "__main__":
    main()

"""Options and arguments that several commands share, so that a thing has one name and one explanation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUNS = Path("runs")
CACHE = Path("data_cache")


def complete_runs(incomplete: str) -> list[str]:
    """Complete the name of a run in ./runs; the shell waits for it, so nothing is opened."""
    names = (path.parent.name for path in RUNS.glob("*/manifest.json"))
    return sorted(name for name in names if name.startswith(incomplete) and not name.startswith("."))


def complete_strategies(incomplete: str) -> list[str]:
    """Complete the name of a strategy by the files there are."""
    from qtrade.strategy import strategy_folders

    names = {path.stem for folder in strategy_folders() for path in folder.glob("*.py")}
    return sorted(name for name in names if name.startswith(incomplete) and not name.startswith("_"))


def confirmed(question: str) -> bool:
    """Ask a question that is answered by yes or no; an end of input is no, and Ctrl-C interrupts the command."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort as abort:
        typer.echo(err=True)
        if isinstance(abort.__context__, KeyboardInterrupt):  # Typer makes the same exception of both
            raise KeyboardInterrupt from None
        return False


Symbols = Annotated[
    list[str] | None, typer.Argument(metavar="[SYMBOL]...", help="Symbols, such as ^GSPC ^IXIC.", show_default=False)
]
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
    str | None,
    typer.Option("--source", help="sample, yahoo, file or synthetic.", show_default=False, rich_help_panel="Data"),
]
IntervalOption = Annotated[
    str | None, typer.Option("--interval", help="Bar length, as 1d or 1h.", show_default=False, rich_help_panel="Data")
]
StartOption = Annotated[
    str | None, typer.Option("--start", help="First date.", show_default=False, rich_help_panel="Data")
]
EndOption = Annotated[
    str | None, typer.Option("--end", help="Date after the last.", show_default=False, rich_help_panel="Data")
]
PathOption = Annotated[
    str | None,
    typer.Option(
        "--path", help="CSV or Parquet file, or a folder of them.", show_default=False, rich_help_panel="Data"
    ),
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        "--columns", help="The file's columns, as open=o,close=c.", show_default=False, rich_help_panel="Data"
    ),
]
ZoneOption = Annotated[
    str | None,
    typer.Option(
        "--tz", help="Time zone of a file's stamps, as Europe/Berlin.", show_default=False, rich_help_panel="Data"
    ),
]
CalendarOption = Annotated[
    str | None,
    typer.Option(
        "--calendar", help="When a file's market trades: 24/7, 24/5, XNYS.", show_default=False, rich_help_panel="Data"
    ),
]
AcceptOption = Annotated[
    list[str] | None,
    typer.Option(
        "--accept", help="An error in the data to accept. Repeatable.", show_default=False, rich_help_panel="Data"
    ),
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset", help="Size to start from: tiny, small, base, paper.", show_default=False, rich_help_panel="Model"
    ),
]
FeaturesOption = Annotated[
    str | None,
    typer.Option(
        "--features",
        help="MS, M or S; minimal, default or all; or a file of yours.",
        show_default=False,
        rich_help_panel="Model",
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        help="log_return, scaled_return, log_close; or a file of yours.",
        show_default=False,
        rich_help_panel="Model",
    ),
]
KeysOption = Annotated[
    str | None,
    typer.Option(
        "--attention-keys",
        help="Keys that rank the queries: sampled or all.",
        show_default=False,
        rich_help_panel="Model",
    ),
]
RunsOption = Annotated[Path, typer.Option("--runs", help="Folder of runs.", rich_help_panel="Folders")]
CacheOption = Annotated[Path, typer.Option("--cache", help="Folder of cached bars.", rich_help_panel="Folders")]
RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run's name, the beginning of it, or its folder.", autocompletion=complete_runs
    ),
]
StrategyOption = Annotated[
    str, typer.Option("--strategy", "-s", help="Name, path or spec.", autocompletion=complete_strategies)
]
StrategiesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--strategy",
        "-s",
        help="Name, path or spec. Repeatable. Default: those of the run.",
        autocompletion=complete_strategies,
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do none of it.")]

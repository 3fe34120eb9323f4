"""Commands that make a run: run, fetch, train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from qtrade.cli_app import App
from qtrade.cli_options import (
    CACHE,
    RUNS,
    AcceptOption,
    CacheOption,
    CalendarOption,
    ColumnsOption,
    ConfigOption,
    DryRunOption,
    EndOption,
    FeaturesOption,
    IntervalOption,
    JsonOption,
    KeysOption,
    NameOption,
    PathOption,
    PresetOption,
    RunsOption,
    SetOption,
    SourceOption,
    StartOption,
    Symbols,
    SymbolsOption,
    TargetOption,
    ZoneOption,
)
from qtrade.cli_report import tell_run
from qtrade.terminal import err, make_table, note, print_json, print_path, print_plain, progress_bars

if TYPE_CHECKING:
    from qtrade.config import RunConfig

stages_app = App()


@stages_app.command()
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
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
    cache: CacheOption = CACHE,
) -> None:
    """Do it all: fetch, train, backtest, evaluate, report.

    Without options: on an embedded sample, with no network.

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
    if dry_run:
        _tell_plan(resolved, runs, cache, as_json, all_stages=True)
        return
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
    tell_run(finished, page, as_json)
    if ruined:
        raise ruined


@stages_app.command()
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
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    cache: CacheOption = CACHE,
) -> None:
    """Download, import or make bars, and keep them current.

    They come from the embedded sample, or with --source from Yahoo Finance, files or a synthetic market.

    Example: qtrade fetch ^GSPC ^IXIC
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
    if dry_run:
        from qtrade.data.plan import plan_fetch

        plan = plan_fetch(data, cache=Cache(cache))
        _print_plan(plan.to_dict() if as_json else plan.lines())
        for failure in plan.failed.values():
            raise failure
        return
    with progress_bars() as progress:
        report = fetch_bars(data, cache=Cache(cache), progress=progress)
    if as_json:
        failed = {symbol: {"what": one.what, "why": one.why, "fix": one.fix} for symbol, one in report.failed.items()}
        print_json({"saved": [str(path) for path in report.saved], "failed": failed})
        report.require_all()
        return
    for saved in report.saved:
        print_path(saved)
    if len(report.failed) + len(report.saved) > 1 and report.failed:
        table = make_table("failed", "why", "what to do")
        for symbol, failure in report.failed.items():
            what = failure.what.removeprefix(f"{symbol}: ")
            told = f"{what}: {failure.why}" if failure.why else what
            table.add_row(Text(symbol), Text(told), Text(failure.fix.partition("\n")[0]))
        err.print(table)
    report.require_all()


@stages_app.command()
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
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
    cache: CacheOption = CACHE,
) -> None:
    """Train on cached bars, walk-forward.

    The forecasts are kept in the run. An interrupted run goes on where it was.

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
    if dry_run:
        _tell_plan(resolved, runs, cache, as_json, all_stages=False)
        return
    from qtrade.data.cache import Cache
    from qtrade.pipeline.evaluate import evaluate_run
    from qtrade.pipeline.train import train_run
    from qtrade.runs import save_config

    with progress_bars() as progress:
        finished = train_run(resolved, runs=runs, cache=Cache(cache), progress=progress)
        save_config(finished, resolved)
        evaluate_run(finished, progress=progress)
    if as_json:
        conclusion = json.loads((finished.folder / "evaluation.json").read_text(encoding="utf-8"))["verdict"]
        print_json({"run": finished.name, "folder": str(finished.folder), "verdict": conclusion})
    else:
        print_path(finished.folder)


def _tell_plan(config: RunConfig, runs: Path, cache: Path, as_json: bool, *, all_stages: bool) -> None:
    """Say what a run would do."""
    from qtrade.data.cache import Cache
    from qtrade.pipeline.plan import plan_run

    plan = plan_run(config, runs=runs, cache=Cache(cache), fetching=all_stages, trading=all_stages)
    _print_plan(plan.to_dict() if as_json else plan.lines())


def _print_plan(told: dict[str, Any] | list[str]) -> None:
    """Print a plan as JSON, or line by line."""
    if isinstance(told, dict):
        print_json(told)
    else:
        print_plain("\n".join(told))


WORKSPACE = Path("qtrade.toml")
"""What `qtrade init` writes. It is used where it is named: no file changes a run by lying in the folder."""


def _resolve(config: Path | None, settings: list[str] | None, **options: Any) -> RunConfig:
    """Put file, assignments and options together; options win."""
    from qtrade.options import configuration  # an import of half a second, which `qtrade --help` can do without

    if config is None and WORKSPACE.is_file():
        note(f"{WORKSPACE} is here, but not used; `--config {WORKSPACE}` would use it")
    return configuration(config, settings or [], **options)

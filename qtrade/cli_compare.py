"""`qtrade compare`: runs side by side, as tables in the terminal, as JSON, or as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from qtrade.cli_app import App
from qtrade.cli_options import RUNS, JsonOption, RunsOption, complete_runs
from qtrade.terminal import make_table, out, print_json, print_numbers, print_path, progress_bars

RunsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...", help="Names of runs, their beginnings, or their folders.", autocompletion=complete_runs
    ),
]

compare_app = App()
_GONE = "-"


def compare(
    names: RunsArgument,
    page: Annotated[
        Path | None, typer.Option("--out", help="Write a page, too: compare.html, say.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Put runs side by side, and test what differs.

    The first run is what the others are held against. Forecasts are compared where all runs made one, and strategies
    that were backtested with the same account on the bars that all of them traded. The runs must be of the same bars.

    Example: qtrade compare quick slow --out compare.html
    """
    from qtrade.pipeline.compare import compare_runs
    from qtrade.runs import open_run

    found = [open_run(runs, name) for name in names]
    with progress_bars() as progress:
        told = compare_runs(found, progress=progress)
    if page is not None:
        from qtrade.report.compare import write_comparison

        write_comparison(page, told)
    if as_json:
        print_json(told)
        return
    _print_runs(told)
    _print_forecasts(told)
    _print_trading(told)
    _print_settings(told)
    for line in (*told["lines"], *told["notes"]):
        out.print(Text(line))
    if page is not None:
        print_path(page)


compare_app.command()(compare)


def _print_runs(told: Mapping[str, Any]) -> None:
    from qtrade.pipeline.overview import told_seconds, told_symbols

    table = make_table("run", "model", "verdict", "trained", "fitted")
    table.add_column("forecasts\nshared", justify="right")
    for one in told["runs"]:
        table.add_row(
            Text(one["label"]),
            Text(one["model"]),
            Text(one["headline"] or "not evaluated"),
            (one["trained_at"] or _GONE)[:10],
            told_seconds(one["fit_seconds"]),
            f"{one['shared_share']:.0%} of {one['forecasts']:,}",
        )
    out.print(table)
    data, shared = told["data"], told["shared"]
    out.print(
        Text(
            f"{told_symbols(tuple(data['symbols']))}, {data['interval']} bars, data hash {data['hash'][:12]}; "
            f"compared on {shared['forecasts']:,} forecasts, {shared['first'][:10]} to {shared['last'][:10]}\n"
        )
    )


def _print_forecasts(told: Mapping[str, Any]) -> None:
    if not told["forecasts"]:
        return
    table = make_table("bars ahead, run")
    for title in ("R²\n%", "IC", "gain in R², points\n95% interval", "p", "CRPS\ngain", "p"):
        table.add_column(title, justify="right", no_wrap=True)
    for one in told["forecasts"]:
        table.add_row(Text(f"{one['horizon_bars']}, {one['origins']:,} origins", style="bold"))
        for position, score in enumerate(one["runs"]):
            gain = [_GONE, "", _GONE, ""]
            if position:
                bounds = f"[{_points(score['r2_gain_low95'])}, {_points(score['r2_gain_high95'])}]"
                gain = [
                    f"{_points(score['r2_gain'])} {bounds}",
                    _chance(score["r2_p_holm"]),
                    _points(score["crps_gain"]),
                    _chance(score["crps_p_holm"]),
                ]
            table.add_row(
                Text(f"  {told['runs'][position]['label']}"),
                f"{100 * score['r2_vs_zero']:+.2f}",
                _GONE if score["ic"] is None else f"{score['ic']:+.3f}",
                *gain,
            )
    print_numbers(table)
    base = told["runs"][0]["label"]
    out.print(Text(f"Gains are over {base}; each column of p-values is adjusted for all in it (Holm).\n"))


def _print_trading(told: Mapping[str, Any]) -> None:
    if not told["trading"]:
        return
    table = make_table("strategy, run")
    for title in ("Sharpe\nratio", "net\n%/year", "difference in Sharpe\n95% interval", "p"):
        table.add_column(title, justify="right", no_wrap=True)
    seen = Counter(one["strategy"].partition("(")[0] for one in told["trading"])
    for one in told["trading"]:
        name = one["strategy"].partition("(")[0]
        table.add_row(Text(name if seen[name] == 1 else f"{one['strategy']}: {one['account']}", style="bold"))
        cells = [*zip((run["label"] for run in told["runs"]), one["runs"], strict=True)]
        for label, cell in [*cells, ("buy and hold", one["buy_and_hold"])]:
            if cell is None:
                continue
            difference, p = _GONE, ""
            if cell.get("sharpe_difference") is not None:
                difference = f"{cell['sharpe_difference']:+.2f}"
                if cell["sharpe_low"] is not None:
                    difference += f" [{cell['sharpe_low']:+.2f}, {cell['sharpe_high']:+.2f}]"
                    p = _chance(cell["sharpe_p_holm"])
            table.add_row(
                Text(f"  {label}"),
                _GONE if cell["sharpe"] is None else f"{cell['sharpe']:.2f}",
                _GONE if cell["net_annual_return"] is None else f"{100 * cell['net_annual_return']:+.2f}",
                difference,
                p,
            )
    print_numbers(table)
    out.print()


def _print_settings(told: Mapping[str, Any]) -> None:
    if not told["settings"]:
        out.print(Text("All settings are the same.\n"))
        return
    table = make_table("setting")
    for one in told["runs"]:
        table.add_column(Text(one["label"]), overflow="fold")
    for row in told["settings"]:
        table.add_row(Text(row["key"]), *(Text(value or _GONE) for value in row["values"]))
    out.print(table)
    out.print()


def _points(share: float) -> str:
    return f"{100 * share:+.2f}"


def _chance(p: float | None) -> str:
    if p is None:
        return _GONE
    return f"{p:.3f}" if p >= 0.001 else "<0.001"

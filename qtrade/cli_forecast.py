"""The command that forecasts what comes next: forecast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from qtrade.cli_app import App
from qtrade.cli_options import CACHE, RUNS, CacheOption, JsonOption, RunArgument, RunsOption
from qtrade.terminal import make_table, note, out, print_json, print_path, progress_bars

if TYPE_CHECKING:
    from pandas import DataFrame

    from qtrade.pipeline.prediction import Prediction

forecast_app = App()


@forecast_app.command()
def forecast(
    run_name: RunArgument,
    latest: Annotated[
        bool, typer.Option("--latest", help="Start from the newest bars in the cache; refuse if newer ones are due.")
    ] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="Forecast from every bar since this date.", show_default=False)
    ] = None,
    attention: Annotated[
        bool, typer.Option("--attention", help="Draw where each encoder layer looks in the last window.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option("--out", help="Picture to draw: a .png or an .svg.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
    cache: CacheOption = CACHE,
) -> None:
    """Forecast what comes after the last bar.

    The newest model of the run is asked. It starts from the run's own bars, or with --latest from the newest in the
    cache, and stands below the verdict of the run. Prices are adjusted:
    dividends since the first bar are in them. The intervals are what the
    model's errors on its validation bars were like.

    Example: qtrade forecast quick --attention
    """
    from qtrade.data.cache import Cache
    from qtrade.pipeline.forecast import forecast_run
    from qtrade.runs import open_run

    found = open_run(runs, run_name)
    with progress_bars() as progress:
        made = forecast_run(
            found,
            progress=progress,
            since=since,
            latest=Cache(cache) if latest else None,
            attention=attention,
            out=picture,
        )
    if as_json:
        print_json(made.to_dict())
        return
    _tell(made)
    if since:
        count, first = len(made.forecasts), made.forecasts.origin.min()
        speed = f"in {made.seconds:.1f} s, {count / made.seconds:,.0f} a second"
        note(f"{count:,} forecasts, the first after {first:%Y-%m-%d}, {speed}")
    for path in made.files:
        print_path(path)


def _tell(made: Prediction) -> None:
    """Print the verdict, and below it what is expected: in a terminal a picture per symbol, and always a table."""
    from qtrade.report.forecast_chart import chart
    from qtrade.report.forecast_outlook import short_format

    out.print(Text.assemble((made.standing.headline, "bold"), "\n", made.standing.line, "\n"))
    out.print(Text(made.whence))
    for warning in made.warnings:
        out.print(Text(warning, style="yellow"))
    for outlook in made.outlooks:
        out.print()
        short = short_format(outlook.stamps)
        out.print(Text(f"{outlook.symbol} after {outlook.origin:{short}} UTC", style="bold"))
        if out.is_terminal:
            for line in chart(outlook, width=out.width, ascii_only=out.options.ascii_only):
                out.print(line, no_wrap=True, soft_wrap=True)
        _print_table(made.path[made.path["symbol"] == outlook.symbol], short, outlook.decimals)


def _print_table(path: DataFrame, short: str, decimals: int) -> None:
    """Print what is expected of one symbol, a row per step."""
    table = make_table("step")
    for title in ("time", "return %", "adjusted price", "80% interval"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in path.to_dict("records"):
        price, low, high = (f"{row[name]:,.{decimals}f}" for name in ("price", "low80", "high80"))
        moved = f"{100 * row['return']:+.3f}"
        table.add_row(str(row["step"]), f"{row['time']:{short}}", moved, price, f"{low} to {high}")
    out.print(table)

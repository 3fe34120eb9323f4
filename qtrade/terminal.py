"""What the command line prints: tables to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from qtrade.progress import Progress as ProgressOf
from qtrade.progress import Silent
from qtrade.unprintable import visible


class _SafeConsole(Console):
    """A console that obeys its own orders only, and not those in names and texts from outside."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as `rich.console.Console` does, with what is unprintable made visible."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


out = _SafeConsole()
err = _SafeConsole(stderr=True)

_SHORT = 20
"""Letters up to which a cell is not broken."""


class _TerminalProgress:
    """`qtrade.progress.Progress` as a bar on stderr."""

    SHOWN = 8
    """Finished bars that stay below one another; those of a long list of jobs move up and out of the live display."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task: TaskID | None = None
        self.title = ""

    def start(self, title: str, total: int) -> None:
        """Begin a bar below the finished ones."""
        finished = [task for task in self.progress.tasks if task.finished]
        if err.is_terminal and len(finished) >= self.SHOWN:
            self.message(f"{finished[0].description}  {finished[0].fields['note']}")
            self.progress.remove_task(finished[0].id)
        self.title = title
        self.task = self.progress.add_task(title, total=total, note="")
        self.progress.update(self.task, advance=0)  # a job without steps is finished at once

    def advance(self, steps: int, note: str) -> None:
        """Move the bar."""
        assert self.task is not None, "start comes first"
        self.progress.update(self.task, advance=steps, note=note)
        if not err.is_terminal:
            err.print(f"{self.title}  {note}", markup=False, highlight=False, soft_wrap=True)

    def message(self, text: str) -> None:
        """Print a line above the bars."""
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


class _TimeColumn(ProgressColumn):
    """How long a job will take from now, or took."""

    def render(self, task: Task) -> Text:
        seconds = task.finished_time if task.finished else task.time_remaining
        shown = "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))
        return Text(f"{shown} {'in all' if task.finished else 'left':<6}", style="progress.remaining")


class _RateColumn(ProgressColumn):
    """How fast a job goes: steps a second, or seconds a step where that is the larger number."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:,.1f}/s" if speed >= 1 else f"{1 / speed:,.1f} s each", style="progress.data.speed")


_quiet = False


def be_quiet() -> None:
    """Print neither progress nor notes from now on."""
    global _quiet
    _quiet = True


def be_loud() -> None:
    """Undo `be_quiet`."""
    global _quiet
    _quiet = False


def note(text: str, style: str = "") -> None:
    """Print to stderr what a user should know beside the result."""
    if not _quiet:
        err.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def complain(text: str) -> None:
    """Print to stderr what went wrong, however quiet the rest is."""
    err.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_bars() -> Iterator[ProgressOf]:
    """Show progress on stderr: live bars in a terminal, a line per step elsewhere, nothing if it shall be quiet."""
    if _quiet:
        yield Silent()
        return
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=10),
        _RateColumn(),
        _TimeColumn(),
        TextColumn("{task.fields[note]}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
    )
    # A step can take minutes, and a step that is forgotten by the next one leaves no estimate of the time left.
    with Progress(
        *columns, console=err, disable=not err.is_terminal, expand=True, speed_estimate_period=86_400.0
    ) as progress:
        yield _TerminalProgress(progress)


def number(value: float | None, *, percent: bool = False) -> str:
    """Write a number with two digits, or a dash where there is none."""
    return "-" if value is None else f"{100 * value if percent else value:.2f}"


def count(many: int, what: str) -> str:
    """Write how many of something there are, as ``1 trial`` or ``1,234 trials``."""
    return f"{many:,} {what}{'' if many == 1 else 's'}"


def print_records(rows: list[dict[str, Any]], as_json: bool, hidden: Collection[str] = ()) -> None:
    """Print records as JSON, or as a table without the `hidden` columns."""
    if as_json:
        print_json(rows)
        return
    if not rows:
        out.print("nothing found")
        return
    titles = [title for title in rows[0] if title not in hidden]
    cells = {title: [_cell(row[title]) for row in rows] for title in titles}
    table = make_table(*titles)
    for column, title in zip(table.columns, titles, strict=True):
        # What is short stays in one piece; what is long gives way.
        short = max(map(len, (title, *cells[title]))) <= _SHORT
        column.no_wrap = column.no_wrap or short
        column.min_width = None if short else _SHORT
    for row in zip(*cells.values(), strict=True):
        table.add_row(*map(Text, row))
    out.print(table)


def make_table(first: str, *others: str) -> Table:
    """Lay out a table whose first column is a name to be copied, and so never cut."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    for title in others:
        table.add_column(title, overflow="fold")
    return table


def print_numbers(table: Table) -> None:
    """Print a table of numbers beside names. Where it is too wide, names are broken; a number never is."""
    first, *numbers = table.columns
    first.no_wrap, first.overflow = False, "fold"
    for column in numbers:
        lines = [line for cell in (column.header, *column.cells) for line in str(cell).splitlines()]
        column.min_width = max(map(len, lines), default=0)
    out.print(table)


def _cell(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def print_json(value: Any) -> None:
    """Print JSON, as wide as it is."""
    print_plain(json.dumps(value, indent=2))


def print_prose(text: str | Text) -> None:
    """Print sentences: broken where a terminal ends, and as long as they are where a program reads them."""
    out.print(Text(text) if isinstance(text, str) else text, soft_wrap=not out.is_terminal)


def print_plain(text: str) -> None:
    """Print a text as it is, for programs."""
    out.print(text, soft_wrap=True, markup=False, highlight=False)


def print_path(path: Path) -> None:
    """Print where something is, in one line however long, so that programs can read it."""
    out.print(str(path), soft_wrap=True, markup=False, highlight=False)

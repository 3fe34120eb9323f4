"""The report in short, as Markdown: the verdict, what it is about, the main numbers, their limits, and the commands."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

from qtrade.report import backtests, caveat
from qtrade.report.page import ReportInput
from qtrade.report.text import Cell, ahead, interval, number, p_value, period, several, typeset

WIDTH = 88
"""Columns of running text; tables take what they need."""

# Columns of the table of strategies that the short report does without, and shorter names of others.
_LEFT_OUT = ("Turnover per year", "Costs per year")
_SHORT = {"Net return per year": "Net per year", "Sharpe ratio over buy and hold's": "Over buy and hold's"}


def render_markdown(report: ReportInput) -> str:
    """Render the short report; it reads well in a terminal, too. Names and texts from outside are escaped."""
    card = caveat.card(report.evaluation)
    found = [f"{one['title']}: {one['first']}" for one in card["gates"] if one["grade"] not in ("PASS", "NOT MEASURED")]
    parts = [
        f"# {report.verdict.headline}: {escaped(report.title)}",
        _paragraph(escaped(report.verdict.line)),
        _bullets(card["shown"]),
        "## What this is",
        _bullets(_facts(report)),
        "## Gates",
        _table(("Gate", "About", "Grade"), [(one["code"], one["title"], one["grade"]) for one in card["gates"]]),
        _bullets(reason for reason in found if reason not in card["shown"]),
        "## Skill",
        _skill(report),
        "## Trading",
        _trading(report),
        "## What this report cannot tell",
        _bullets(caveat.limits(report.skill[report.model], f"{report.bars.index[-1]:%Y-%m-%d}")),
        "## How to reproduce it",
        "\n".join(f"    {' '.join(command.split())}" for command in report.commands),
        _paragraph(escaped(f"Generated {report.generated} from run {report.run_name}. Research, not advice.")),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: str) -> str:
    """Typeset a text, and take the meaning of markup from it: no emphasis, code, tag, link, cell or heading is left."""
    flat = " ".join(typeset(text).split())
    flat = re.sub(r"([\\`*<>|~])", r"\\\1", flat)
    # An underscore inside a word is none, and brackets alone are no link.
    flat = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", flat)
    flat = re.sub(r"\](?=[(\[:])", r"\]", flat)
    # Text is wrapped, so that any word may come to stand where a line begins.
    return re.sub(r"(?<!\S)(?=[#+-]+(?:\s|$))|(?<=(?<!\S)1)(?=[.)](?:\s|$))", r"\\", flat)


def _facts(report: ReportInput) -> list[str]:
    trials = "not known" if report.trials is None else f"{number(report.trials, 'count')} on this market so far"
    named = "; ".join(one.name for one in report.backtests) or "none"
    bars = f"{number(len(report.bars), 'count')} bars of {report.bars.interval} from {report.source}"
    size = f" ({report.size})" if report.size else ""
    return [
        f"Symbols: {several(report.bars.symbols)}",
        f"Data: {bars}, {period(report.bars.index)}; tested on {period(report.forecasts.origin)}",
        f"Model: {report.model}{size}, {ahead(report.forecasts.horizon)}",
        f"Strategies: {named}",
        f"Costs: {report.costs}",
        f"Trials: {trials}",
        f"Data hash: {report.data_hash}",
        *(f"On the way: {note}" for note in report.notes),
    ]


def _skill(report: ReportInput) -> str:
    skill = report.skill[report.model]
    if not skill:
        return "The test period is too short to judge any horizon."
    rows = []
    for one in skill:
        best, ic = one.vs_best, one.correlation
        rows.append(
            (
                str(one.horizon),
                one.answer,
                number(best.r2, "signed_percent", 2),
                interval(best.r2_low, best.r2_high, "signed_percent", 1),
                p_value(best.p_holm),
                number(ic.ic if ic else None, "signed", 3),
                interval(ic.low if ic else None, ic.high if ic else None, "signed"),
                number(one.detectable_ic, "ratio"),
            )
        )
    columns = ("Bars ahead", "Answer", "R² vs best naive", "95%", "p", "IC", "95%", "Smallest visible IC")
    return _table(columns, rows)


def _trading(report: ReportInput) -> str:
    laid = backtests.compared(report.backtests, report.comparison)
    if laid is None:
        return "Nothing was traded."
    table, sentences = laid
    kept = [place for place, column in enumerate(table.columns) if column not in _LEFT_OUT]
    columns = [_SHORT.get(table.columns[place], table.columns[place]) for place in kept]
    rows = [[_flat(row[place]) for place in kept] for row in table.rows]
    return "\n\n".join((_table(columns, rows), *(_paragraph(escaped(one)) for one in sentences)))


def _flat(cell: Cell) -> str:
    # What stands in small print below a name are its parameters, which would make the table wide.
    return f"{cell.text} {cell.note}" if cell.note.startswith(("[", "of ")) else cell.text


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table whose columns line up in a terminal."""
    cells = [list(map(escaped, columns)), *(list(map(escaped, row)) for row in rows)]
    widths = [max(3, *(len(row[place]) for row in cells)) for place in range(len(columns))]
    lines = [" | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in cells]
    rule = " | ".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))


def _bullets(texts: Iterable[str]) -> str:
    return "\n".join(
        textwrap.fill(
            f"- {escaped(text)}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        for text in texts
    )


def _paragraph(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)

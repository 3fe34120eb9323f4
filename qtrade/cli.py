"""The command line: parse, call, print. Progress goes to stderr; paths, tables and JSON to stdout."""

from __future__ import annotations

import codecs
import errno
import os
import shlex
import sys
import traceback
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from typing import Annotated, ClassVar
from unicodedata import normalize

import typer

from qtrade.cli_app import DebugOption, FrontPage, QuietOption
from qtrade.cli_backtest import backtest_app
from qtrade.cli_compare import compare_app
from qtrade.cli_config import config_app
from qtrade.cli_data import data_app
from qtrade.cli_forecast import forecast_app
from qtrade.cli_lists import lists_app
from qtrade.cli_report import report_app
from qtrade.cli_runs import runs_app
from qtrade.cli_stages import stages_app
from qtrade.cli_strategies import strategies_app
from qtrade.errors import QtradeError
from qtrade.terminal import be_loud, be_quiet, complain

INTERRUPTED = 130
RESUMED = ("run", "fetch", "train", "evaluate")
"""Commands that go on where they were stopped."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_SPELLINGS = {
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{MIDDLE DOT}": "|",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{PLUS-MINUS SIGN}": "+-",
}


class Commands(FrontPage):
    """Every command of the program, by what one wants to do."""

    groups: ClassVar[Mapping[str, Sequence[str]]] = {
        "make a run": ("run", "fetch", "train", "backtest", "evaluate", "report"),
        "look closer": ("runs", "compare", "forecast", "explain", "trials", "data"),
        "strategies": ("strategies", "sweep"),
        "set up": ("init", "config", "features", "models", "doctor"),
    }


app = typer.Typer(
    cls=Commands,
    help="Informer forecasts for markets: does what a model learned still hold?",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
app.add_typer(runs_app, name="runs")
for part in (stages_app, report_app, config_app, backtest_app, compare_app, forecast_app, strategies_app, lists_app):
    app.add_typer(part)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Take the options that may come before a command, and print the help page where there is none."""
    if version:
        from qtrade import __version__

        typer.echo(f"qtrade {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
    elif quiet:
        be_quiet()


def main() -> None:
    """Run the program: errors become messages and exit codes, never tracebacks unless asked for."""
    debug = "--debug" in sys.argv
    be_loud()  # tests and notebooks call this more than once
    _write_what_the_terminal_can()
    try:
        app()
    except QtradeError as error:
        if debug:
            traceback.print_exc()
        complain(f"error: {error}")
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # what Typer makes of Ctrl-C, without a word
            goes_on = f"; what is complete is kept, and this goes on from there:\n  {shlex.join(_typed())}"
            complain("interrupted" + (goes_on if any(word in RESUMED for word in sys.argv[1:3]) else ""))
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None and error.errno in _FULL:
            complain(
                f"error: the output cannot be written\n  why: {error.strerror}\n  fix: make room, or write elsewhere"
            )
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left of it, Python would try again
            sys.exit(1)
        if debug:
            traceback.print_exc()
        again = shlex.join([*_typed(), "--debug"])
        complain(f"unexpected error: {type(error).__name__}: {error}\n  fix: see where it happened with `{again}`")
        sys.exit(1)


def _write_what_the_terminal_can() -> None:
    """Spell what the encoding of a terminal or a pipe lacks with what it has: a minus is no reason to print nothing."""
    codecs.register_error("qtrade", _spelt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="qtrade")


def _spelt(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    plain = (_SPELLINGS.get(letter) or normalize("NFKD", letter) for letter in letters)
    return "".join(text if text.isascii() else "?" for text in plain), error.end


def _typed() -> list[str]:
    """Return the command as it was typed."""
    return ["qtrade", *sys.argv[1:]]


if __name__ == "__main__":
    main()

"""The shape of the command line: options that every command has, and a first help page that fits one screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import Parameter, getdoc, signature
from typing import Annotated, Any, ClassVar, TypeVar

import typer
from rich.text import Text
from typer.core import TyperGroup

from qtrade.terminal import be_quiet, out

Function = TypeVar("Function", bound=Callable[..., Any])

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Results and errors only: no progress, no notes.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")]
_SHARED = {"quiet": QuietOption, "debug": DebugOption}


class App(typer.Typer):
    """A Typer application whose commands all have ``--quiet`` and ``--debug``, written once."""

    def command(self, *names: Any, **settings: Any) -> Callable[[Function], Function]:
        """Register a function as a command, as `typer.Typer.command` does."""
        register = super().command(*names, **settings)

        def decorate(function: Function) -> Function:
            register(_with_shared_options(function))
            return function

        return decorate


class FrontPage(TyperGroup):
    """The program itself. Its help names every command on one screen, where Typer's own would need two."""

    groups: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Names of the commands by what one wants to do, in the order shown."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help page."""
        with out.capture() as page:
            self._print()
        formatter.write(page.get())

    def _print(self) -> None:
        out.print(Text.assemble("Usage: ", ("qtrade COMMAND", "bold"), ", explained by qtrade COMMAND --help"))
        out.print(Text(self.help or ""))
        out.print()
        titles, names = (max(map(len, words)) + 2 for words in (self.groups, self.commands))
        for title, members in self.groups.items():
            for position, name in enumerate(members):
                line = Text("" if position else title, style="dim")
                line.pad_right(titles - len(line))
                line.append(f"{name:<{names}}", style="bold cyan")
                line.append(self.commands[name].get_short_help_str(limit=out.width - titles - names), style="default")
                out.print(line, no_wrap=True)
        out.print()
        out.print(Text("After any command: --json --quiet --debug. Alone: --version --install-completion"))


def _with_shared_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the shared options to a command's own; `qtrade.cli.main` looks for --debug, which outlives the command."""

    @wraps(function)
    def command(*arguments: Any, quiet: bool = False, debug: bool = False, **options: Any) -> Any:
        if quiet:
            be_quiet()
        return function(*arguments, **options)

    # The lines of a paragraph are one text to whoever reads it in another width.
    paragraphs = (getdoc(function) or "").split("\n\n")
    command.__doc__ = "\n\n".join(" ".join(paragraph.splitlines()) for paragraph in paragraphs)
    shared = [Parameter(name, Parameter.KEYWORD_ONLY, default=False, annotation=kind) for name, kind in _SHARED.items()]
    own = signature(function, eval_str=True)
    command.__signature__ = own.replace(parameters=[*own.parameters.values(), *shared])  # type: ignore[attr-defined]
    command.__annotations__ = {name: one.annotation for name, one in own.parameters.items()} | _SHARED
    return command

"""`qtrade config`: what can be set, and what a configuration comes to."""

from __future__ import annotations

from typing import Annotated

import typer

from qtrade.cli_app import App
from qtrade.cli_options import ConfigOption, JsonOption, PresetOption, SetOption
from qtrade.errors import UsageError
from qtrade.terminal import print_json, print_plain, print_records

config_app = App()


@config_app.command()
def config(
    key: Annotated[
        str | None, typer.Argument(help="A table, as train, or a key, as train.epochs.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page about all of it.")] = False,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print, as TOML, what --config, --set and --preset come to.")
    ] = False,
    file: ConfigOption = None,
    settings: SetOption = None,
    preset: PresetOption = None,
) -> None:
    """Explain all settings, a table of them, or one key.

    Example: qtrade config train.epochs
    """
    if sum((key is not None, markdown, resolved)) > 1:
        raise UsageError("KEY, --markdown and --resolved are different questions", fix="ask one at a time")
    if resolved:
        from qtrade.config import load_config

        found = load_config(file, settings or [], preset=preset)
        if as_json:
            print_json(found.model_dump(mode="json"))
        else:
            print_plain(found.to_toml().rstrip("\n"))
        return
    if file or settings or preset:
        raise UsageError(
            "--config, --set and --preset are for --resolved", fix="add --resolved to see what they come to"
        )
    if markdown:
        from qtrade.config_page import page

        print_plain(page().rstrip("\n"))
        return
    _explain(key, as_json)


def _explain(name: str | None, as_json: bool) -> None:
    """Print one key, the keys of a table, or all tables."""
    from qtrade.config_page import key_lines
    from qtrade.config_reference import Table, find, tables

    if name is None:
        if as_json:
            print_json([table.to_dict() for table in tables()])
            return
        rows = [{"table": one.name or "(top)", "keys": [key.last for key in one.keys]} for one in tables()]
        print_records(rows, False)
        return
    found = find(name)
    if as_json:
        print_json(found.to_dict())
    elif isinstance(found, Table):
        rows = [
            {"key": key.last, "type": key.kind, "default": key.default, "what it is": key.what} for key in found.keys
        ]
        print_records(rows, False)
    else:
        print_plain("\n".join(key_lines(found)))

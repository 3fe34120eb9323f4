"""The page that explains configurations and every key of them: ``docs/configuration.md``, and `qtrade config`."""

from __future__ import annotations

import shlex

from qtrade.config_reference import UNSET, Key, Table, tables
from qtrade.presets import PRESETS

_INTRODUCTION = """\
# Configuration

Everything that decides a run is a setting with a default. This page is what `qtrade config --markdown` prints; on the
command line, `qtrade config train` explains a table, `qtrade config train.epochs` one key, and `qtrade config
--resolved` prints what a file comes to. `qtrade init` writes a file to start from.

## A file

```toml
name = "research"           # everything after # is a comment
preset = "base"             # sizes to start from; what the file says wins over it

[data]
symbols = ["^GSPC", "^IXIC"]

[backtest.costs]
fees_bps = 2.0

[strategies.path_momentum]  # a table for each strategy, its parameters in it
multiple = 5.0

[strategies."vol_target(base=forecast_sign)"]
target = 0.1
```

`qtrade run --config research.toml` uses it. What is left out has its default. An unknown key is an error that names the
nearest one that exists; a wrong value is an error that names the key, the file it stands in, and what is allowed.

`--set train.epochs=4` changes one key for one run, and can be given many times. The value is read as TOML, or taken
for text where it is not TOML; a list may be written `--set evaluation.horizons=1,5,10`. Options such as `--preset`,
`--symbols` and `--start` are short for keys of the same name. Options win over `--set`, `--set` over the file, the
file over the preset, and the preset over the defaults. Two things are special. A table `strategies` takes the place
of the strategies that are the default. And a preset that differs from the one in the file is refused, on the command
line as in a file that extends another, because what the file says would win over most of it.

## A file that extends another

```toml
extends = "research.toml"   # or a list, as ["research.toml", "costs.toml"], of which the last wins
name = "cheap"

[backtest.costs]
fees_bps = 0.5
```

A file is laid over those it extends: tables key by key, so that strategies are added to those of the base, and
everything else, lists included, in place of what was there. What is extended may extend others. Its path starts from
the folder of the file that says `extends`, and may be absolute or begin with `~`. Every other path in every file
starts from the folder that qtrade is run in, wherever the file lies. Where a file asks for other symbols than those
it extends, the versions of bars that are named there for symbols left out are left behind. An error names the file
that holds what is wrong.

## The same run again

Each run keeps all of its settings, resolved, in `runs/NAME-HASH/config.toml`, and with them the versions of the bars
that it was made from. `qtrade run --config runs/NAME-HASH/config.toml` makes the same run: the same hash, the same
folder, and what is complete is kept. The hash covers the bars, the settings that decide forecasts, the device, the
versions of qtrade and PyTorch, and the content of your own files of features and targets. Not among them are `name`,
`preset`, `train.workers`, `evaluation`, `backtest` and `strategies`, so that other strategies are tried on the same
forecasts; nor what `data.file`, `data.synthetic`, `data.yahoo`, `data.accept` and `data.versions` say of how the bars
came about. A path in the file must mean what it did: run it from the same folder.

## Presets

What is not listed is the same in all of them. `small` is the defaults.

"""


def page() -> str:
    """Return the page as Markdown."""
    found = tables()
    return _INTRODUCTION + _presets(found) + "".join(_section(table) for table in found)


def key_lines(key: Key) -> list[str]:
    """Explain a key in a few lines."""
    where = key.name.rpartition(".")[0]
    value = "VALUE" if key.default == UNSET else key.default
    facts = {
        "type": key.kind,
        "default": key.default,
        **{f"{preset} preset": value for preset, value in key.presets.items()},
        "in a file": f"{key.last} = {value}{f'    below [{where}]' if where else ''}",
        "for one run": f"--set {shlex.quote(f'{key.name}={value}')}",
    }
    return [key.what, "", *(f"{title:<12}  {fact}" for title, fact in facts.items())]


def _presets(found: tuple[Table, ...]) -> str:
    keys = [key for table in found for key in table.keys if key.presets]
    rows = [[f"`{key.name}`", *(_code(key.presets.get(name, key.default)) for name in PRESETS)] for key in keys]
    return _rows(["key", *(f"`{name}`" for name in PRESETS)], rows)


def _section(table: Table) -> str:
    title = f"## `[{table.name}]`" if table.name else "## Keys above all tables"
    opening = f"{table.what}\n\n" if table.what else "They stand at the top of a file, before the first table.\n\n"
    rows = [[f"`{key.last}`", _escaped(key.kind), _code(key.default), _escaped(key.what)] for key in table.keys]
    return f"\n{title}\n\n{opening}{_rows(['key', 'type', 'default', 'what it is'], rows)}"


def _rows(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _code(value: str) -> str:
    return value if value == UNSET else f"`{_escaped(value)}`"


def _escaped(text: str) -> str:
    """Keep a text from ending its cell."""
    return text.replace("|", "\\|")

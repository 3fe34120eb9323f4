"""`qtrade data`: what the cache holds, whether it can be trusted, and what it held before."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from qtrade.cli_app import App
from qtrade.cli_options import CACHE, CacheOption, JsonOption, confirmed
from qtrade.errors import DataError, QtradeError, UsageError
from qtrade.terminal import err, make_table, note, out, print_json, print_path, print_records, progress_bars

if TYPE_CHECKING:
    from qtrade.data.cache import Cache

data_app = App(help="Look at cached bars and their former versions.", no_args_is_help=True)

SourceOption = Annotated[str | None, typer.Option("--source", help="Only of this source.", show_default=False)]
IntervalOption = Annotated[str | None, typer.Option("--interval", help="Only of this bar length.", show_default=False)]
SymbolArgument = Annotated[str, typer.Argument(metavar="SYMBOL", help="A symbol, such as ^GSPC.")]

MOVES = ("added", "removed", "changed", "moved", "max bp")


@data_app.command("list")
def list_entries(
    source: SourceOption = None,
    interval: IntervalOption = None,
    as_json: JsonOption = False,
    cache: CacheOption = CACHE,
) -> None:
    """List what the cache holds.

    Example: qtrade data list
    """
    from qtrade.data.cache import Cache
    from qtrade.data.names import key_of

    store = Cache(cache)
    rows: list[dict[str, Any]] = []
    for path in store.find(None, source, interval):
        where, length, symbol = key_of(path)
        row: dict[str, Any] = {"symbol": symbol, "source": where, "interval": length}
        try:
            entry = store.entry(where, length, symbol)
        except QtradeError as error:
            rows.append({**row, "bars": 0, "first": "", "last": "", "fetched": "", "versions": 0, "note": error.what})
            continue
        now = entry.current
        span = {"first": _day(now.first), "last": _day(now.last), "fetched": now.fetched[:10]}
        rows.append({**row, "bars": now.rows, **span, "versions": len(entry.versions), "note": ""})
    print_records(rows, as_json, hidden=() if any(row["note"] for row in rows) else ("note",))


@data_app.command()
def show(
    symbol: SymbolArgument,
    source: SourceOption = None,
    interval: IntervalOption = None,
    bars: Annotated[int, typer.Option("--bars", min=2, max=2000, help="Bars in the picture, the last ones.")] = 120,
    picture: Annotated[
        Path | None,
        typer.Option("--out", help="Where to write the picture. Default: ./<symbol>.png", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    cache: CacheOption = CACHE,
) -> None:
    """Summarise the bars of a symbol and draw the last ones as candlesticks with their volume.

    Example: qtrade data show ^GSPC --bars 60
    """
    from qtrade.data.cache import Cache
    from qtrade.data.summary import summarise
    from qtrade.report.candles import candlesticks

    store = Cache(cache)
    raw = store.read(*_one(store, symbol, source, interval))
    found = summarise(raw)
    path = picture or Path(re.sub(r"[^A-Za-z0-9.^=_-]+", "-", symbol) + ".png")
    candlesticks(path, raw.frame.iloc[-bars:], title=f"{symbol}, {raw.interval} bars from '{raw.source}'")
    if as_json:
        print_json({**found, "picture": str(path)})
        return
    table = make_table(symbol, "")
    for name, value in found.items():
        table.add_row(name, Text(_told(value)))
    out.print(table)
    print_path(path)


@data_app.command()
def verify(
    symbols: Annotated[list[str] | None, typer.Argument(help="Symbols. Default: all.", show_default=False)] = None,
    source: SourceOption = None,
    interval: IntervalOption = None,
    as_json: JsonOption = False,
    cache: CacheOption = CACHE,
) -> None:
    """Examine cached bars and write a quality report beside each; exits with 3 if one has errors.

    Example: qtrade data verify ^GSPC
    """
    from qtrade.data.cache import Cache
    from qtrade.data.names import key_of
    from qtrade.data.raw import Finding
    from qtrade.data.verify import report_path, write_report

    store = Cache(cache)
    keys = [key_of(path) for path in store.find(None, source, interval)]
    if symbols:
        keys = [key for key in keys if key[2] in symbols]
    for one in symbols or []:
        if one not in {key[2] for key in keys}:
            raise _nothing(store, one, source, interval)
    rows: list[dict[str, Any]] = []
    bad: list[str] = []
    with progress_bars() as progress:
        progress.start("verify", len(keys))
        for key in keys:
            row = {"symbol": key[2], "source": key[0], "interval": key[1]}
            try:
                findings = [finding.to_dict() for finding in store.visit(*key, write_report)]
            except DataError as error:
                findings = [Finding("file", "error", 1, "", "", error.what).to_dict()]
            rows += [{**row, **finding} for finding in findings]
            if any(finding["severity"] == "error" for finding in findings):
                bad.append(key[2])
            progress.advance(1, f"{key[2]}  {len(findings)} finding{'' if len(findings) == 1 else 's'}")
    if as_json:
        print_json(rows)
    elif rows:
        shown = [{**row, "first": row["first"][:10]} for row in rows]
        told_apart = len({key[:2] for key in keys}) > 1
        print_records(shown, as_json=False, hidden=("last",) if told_apart else ("source", "interval", "last"))
    else:
        out.print(f"{len(keys)} checked, nothing found" if keys else f"the cache {cache} is empty")
    if not as_json:
        for key in keys:
            if report_path(store.path(*key)).exists():
                print_path(report_path(store.path(*key)))
    if bad:
        raise DataError(
            f"{len(bad)} of {len(keys)} have errors: {', '.join(bad)}",
            why="a run on them stops unless it accepts the errors by name",
            fix="mend the source and fetch again, or add --accept CHECK to the run; a damaged file is fetched again",
        )


@data_app.command()
def vintages(
    symbol: SymbolArgument,
    source: SourceOption = None,
    interval: IntervalOption = None,
    as_json: JsonOption = False,
    cache: CacheOption = CACHE,
) -> None:
    """List every version of a symbol's bars, and how far returns moved from each to the next.

    A run uses a former one with data.versions in its configuration: versions = { "^GSPC" = "1a2b3c4d5e6f" }

    Example: qtrade data vintages ^GSPC
    """
    from qtrade.data.cache import Cache
    from qtrade.data.join import compare

    store = Cache(cache)
    key = _one(store, symbol, source, interval)
    rows: list[dict[str, Any]] = []
    before = None
    for version in store.entry(*key).versions:
        row: dict[str, Any] = {
            "id": version.id,
            "fetched": version.fetched[:10] if not as_json else version.fetched,
            "bars": version.rows,
            "first": _day(version.first),
            "last": _day(version.last),
        }
        try:
            raw = store.read(*key, version.fingerprint)
        except QtradeError as error:
            rows.append({**row, **dict.fromkeys(MOVES, 0), "at": error.what})
            continue
        moved = compare(raw if before is None else before, raw)
        counts = (moved.added, moved.removed, moved.changed, moved.returns, round(moved.largest, 2))
        rows.append({**row, **dict(zip(MOVES, counts, strict=True)), "at": _day(moved.at)})
        before = raw
    print_records(rows, as_json, hidden=("first", "removed", "moved"))


@data_app.command()
def remove(
    symbols: Annotated[list[str], typer.Argument(metavar="SYMBOL...", help="Symbols, such as ^GSPC.")],
    source: SourceOption = None,
    interval: IntervalOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    cache: CacheOption = CACHE,
) -> None:
    """Delete cached bars with all their versions. Runs keep the bars they were made from.

    Example: qtrade data remove ^IXIC --yes
    """
    from qtrade.data.cache import Cache

    store = Cache(cache)
    keys = [_one(store, symbol, source, interval) for symbol in symbols]
    if not yes:
        for key in keys:
            err.print(f"{key[2]}: {key[1]} bars from '{key[0]}'", markup=False, highlight=False)
        if not confirmed("Delete them with all their versions?"):
            note("nothing was deleted")
            raise typer.Exit(1)
    for key in keys:
        store.remove(*key)
        if not as_json:
            print_path(store.path(*key))
    if as_json:
        print_json({"removed": [str(store.path(*key)) for key in keys]})


def _one(store: Cache, symbol: str, source: str | None, interval: str | None) -> tuple[str, str, str]:
    """Find the one entry meant; an error names what there is."""
    from qtrade.data.names import key_of

    keys = [key_of(path) for path in store.find(symbol, source, interval)]
    if not keys:
        raise _nothing(store, symbol, source, interval)
    if len(keys) > 1:
        raise UsageError(
            f"there are {len(keys)} entries of {symbol}",
            why=", ".join(f"{length} from '{where}'" for where, length, _ in keys),
            fix="say which with --source and --interval",
        )
    return keys[0]


def _nothing(store: Cache, symbol: str, source: str | None, interval: str | None) -> DataError:
    """Say that an entry is not there, and what is."""
    from qtrade.data.names import key_of
    from qtrade.errors import nearest

    known = {key_of(path)[2] for path in store.find(None, source, interval)}
    of = "".join((f" {interval} bars" if interval else " bars", f" from '{source}'" if source else ""))
    return DataError(
        f"{symbol}: the cache {store.root} has no{of}",
        fix=f"fetch them with `qtrade fetch`; {nearest(symbol, known)}" if known else "fetch them with `qtrade fetch`",
    )


def _told(value: object) -> str:
    """Write what is known of bars: whole numbers and large ones with commas, others with four digits that count."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100_000 else f"{value:,.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _day(stamp: str) -> str:
    """Write a UTC stamp without what goes without saying."""
    return stamp.removesuffix("+00:00").removesuffix(" 00:00:00")

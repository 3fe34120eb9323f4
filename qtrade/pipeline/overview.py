"""What a run is and how far it got, at a glance: enough to list many of them, and everything to show one.

A list must not break because one folder in it is damaged, so `glance` never raises: what cannot be read is a note.
"""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from qtrade.config import RunConfig
from qtrade.errors import DataError, QtradeError
from qtrade.files import read_json
from qtrade.pipeline.lock import is_busy
from qtrade.pipeline.told import read_told
from qtrade.runs import Run, list_runs, read_history

_SHOWN = 3
"""Symbols that a list names; of more, it says how many there are."""
_HEADLINES = ("PASS", "WARN", "INCONCLUSIVE", "FAIL", "INVALID")


@dataclass(frozen=True)
class Glance:
    """One run in a list.

    Attributes
    ----------
    name, folder
        Of the run.
    model, symbols, interval
        What was forecast, and with what; empty where the run is damaged.
    first, last
        Stamps of the first and the last bar.
    state
        The verdict's headline, or how far the run got.
    trained
        UTC time at which the newest of its fits was finished; None before the first.
    bytes
        Size on disk.
    backtests
        Number of saved backtests.
    note
        What cannot be read; empty if all can.
    """

    name: str
    folder: Path
    model: str
    symbols: tuple[str, ...]
    interval: str
    first: str
    last: str
    state: str
    trained: datetime | None
    bytes: int
    backtests: int
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "model": self.model,
            "symbols": list(self.symbols),
            "interval": self.interval,
            "first": self.first,
            "last": self.last,
            "state": self.state,
            "trained_at": None if self.trained is None else self.trained.isoformat(timespec="seconds"),
            "size_bytes": self.bytes,
            "backtests": self.backtests,
            "note": self.note,
        }


def glance_at_all(runs: Path) -> list[Glance]:
    """Look at every run in a folder, the newest first."""
    found = [glance(run) for run in list_runs(runs)]
    never = datetime.min.replace(tzinfo=UTC)
    return sorted(sorted(found, key=lambda one: one.name), key=lambda one: one.trained or never, reverse=True)


def glance(run: Run) -> Glance:
    """Look at one run; what is wrong with it becomes a note."""
    model, interval, first, last, note = "", "", "", "", ""
    symbols: tuple[str, ...] = ()
    state, trained = "damaged", _trained(run.folder)
    try:
        config, data = run.config, run.manifest["data"]
        model, interval = config.model, str(data["interval"])
        symbols, first, last = tuple(map(str, data["symbols"])), str(data["first"]), str(data["last"])
        state = state_of(run, config)
    except QtradeError as error:
        note = error.what
    except (KeyError, TypeError, ValueError) as error:
        note = f"its manifest is not what training writes: {error}"
    return Glance(
        name=run.name,
        folder=run.folder,
        model=model,
        symbols=symbols,
        interval=interval,
        first=first,
        last=last,
        state=state,
        trained=trained,
        bytes=sum(size for _, size in sizes(run.folder)),
        backtests=sum(1 for _ in run.folder.glob("backtests/*/metrics.json")),
        note=note,
    )


def state_of(run: Run, config: RunConfig) -> str:
    """Return a run's headline, or say how far it got.

    Raises
    ------
    DataError
        If it was evaluated, and what was found cannot be read.
    """
    done, total = fits(run, config)
    noun = "fits" if config.replicates_of(config.model) > 1 else "folds"
    if is_busy(run):
        return f"being trained ({done} of {total} {noun})"
    if done < total or not (run.model_folder(config.model) / "forecasts.parquet").exists():
        return f"training unfinished ({done} of {total} {noun})"
    verdict = read_verdict(run)
    return "not evaluated" if verdict is None else str(verdict["headline"])


def read_verdict(run: Run) -> dict[str, Any] | None:
    """Read the verdict of an evaluated run; None before its evaluation.

    Raises
    ------
    DataError
        If the evaluation cannot be read.
    """
    path, fix = run.folder / "evaluation.json", f"evaluate it again: {run.command('evaluate')}"
    if not path.exists():
        return None
    told = read_json(path, fix=fix)
    verdict = told.get("verdict") if isinstance(told, dict) else None
    known = isinstance(verdict, dict) and verdict.get("headline") in _HEADLINES and isinstance(verdict.get("line"), str)
    if not isinstance(verdict, dict) or not known:
        raise DataError(f"{path} holds no verdict", why="it was altered or cut off", fix=fix)
    gates = told.get("gates")
    grades = [one for one in gates if isinstance(one, dict)] if isinstance(gates, list) else []
    return {
        "headline": verdict["headline"],
        "line": verdict["line"],
        "gates": [{key: str(one.get(key, "")) for key in ("gate", "title", "grade")} for one in grades],
    }


def fits(run: Run, config: RunConfig) -> tuple[int, int]:
    """Count the fits of a run's model that were finished, and those that it takes. Their files are not examined."""
    count = config.replicates_of(config.model)
    numbers = [int(fold["number"]) for fold in run.manifest["folds"]]
    places = [run.fold_folder(config.model, number, replicate) for number in numbers for replicate in range(count)]
    return sum((place / "history.json").is_file() for place in places), len(places)


def fit_seconds(run: Run, config: RunConfig) -> float | None:
    """Seconds of computing that the fits of a run's model took; None for a model that is fitted in one step.

    Fits that ran side by side took less time than that.

    Raises
    ------
    DataError
        If the history of a fit cannot be read.
    """
    histories = sorted(run.model_folder(config.model).glob("folds/*/seed-*/history.json"))
    epochs = [epoch.seconds for path in histories for epoch in read_history(path.parent)[0].epochs]
    return math.fsum(epochs) if epochs else None


def parameters(run: Run, config: RunConfig) -> int | None:
    """Count the numbers that one fitted model holds; None before the first fit, or where its file is damaged."""
    for path in sorted(run.model_folder(config.model).glob("folds/*/seed-*/model.safetensors")):
        try:
            with safe_open(path, framework="numpy") as file:
                return sum(int(math.prod(file.get_slice(name).get_shape())) for name in file.keys())  # noqa: SIM118
        except (SafetensorError, OSError):
            return None
    return None


def describe_run(run: Run) -> dict[str, Any]:
    """Tell everything that one wants to know of a run before opening its report, as plain values.

    Raises
    ------
    QtradeError
        If its manifest, configuration, evaluation or a fit's history cannot be read.
    """
    config, manifest = run.config, run.manifest
    seen, verdict = glance(run), read_verdict(run)
    if seen.note:
        raise DataError(f"the run {run.name} is damaged", why=seen.note, fix="train it again, or remove its folder")
    done, total = fits(run, config)
    files = sizes(run.folder)
    tested = [fold["test"] for fold in manifest["folds"]]
    return {
        **seen.to_dict(),
        "verdict": verdict,
        "data": {
            **{name: manifest["data"].get(name) for name in ("source", "calendar", "bars", "periods_per_year")},
            "hash": manifest["facts"]["data"],
        },
        "forecasts": {
            "hash": manifest["forecast_hash"],
            "reads_bars": config.window.seq_len,
            "predicts_bars": config.window.horizon,
            "delay_bars": config.split.delay,
            "features": len(manifest.get("features", {}).get("names", ())),
            "target": config.features.target,
            "tested_first": tested[0][0] if tested else None,
            "tested_last": tested[-1][1] if tested else None,
            "origins": sum(int(fold["test_origins"]) for fold in manifest["folds"]),
        },
        "training": {
            "folds": len(manifest["folds"]),
            "mode": config.split.mode,
            "fits_done": done,
            "fits": total,
            "seed": config.seed,
            "replicates": config.replicates_of(config.model),
            "baselines": list(config.baselines),
            "parameters": parameters(run, config),
            "fit_seconds": fit_seconds(run, config),
            "device": manifest["facts"].get("device"),
            "versions": manifest.get("versions", {}),
        },
        "tested_strategies": backtests_of(run, config),
        "files": _by_part(files),
        "again": [
            shlex.join(["qtrade", "run", "--config", str(run.folder / "config.toml"), "--runs", str(run.folder.parent)])
        ],
        "notes": list(manifest["notes"]),
    }


def backtests_of(run: Run, config: RunConfig) -> list[dict[str, Any]]:
    """Tell the numbers of every saved backtest of a run, by name; of one that cannot be read, why."""
    account = config.backtest.model_dump(mode="json")
    names = ("sharpe", "sharpe_low", "sharpe_high", "net_annual_return", "cost_annual", "max_drawdown", "trades")
    rows = []
    for path in sorted(run.folder.glob("backtests/*/metrics.json")):
        row: dict[str, Any] = {
            "folder": path.parent.name,
            "strategy": "",
            "account_of_run": None,
            "account_differs": [],
            "note": "",
        }
        try:
            told = read_told(path)
            row |= {"strategy": told["spec"], "account_of_run": told["account"] == account}
            row["account_differs"] = account_changes(told["account"], account)
            row |= {name: told["metrics"].get(name) for name in names}
        except DataError as error:
            row |= {"note": error.what, **dict.fromkeys(names)}
        rows.append(row)
    return rows


def account_changes(account: Mapping[str, Any], usual: Mapping[str, Any], above: str = "") -> list[str]:
    """List the settings in which an account differs from the usual one, as ``costs.fees_bps=0.0``."""
    found = []
    for key, value in account.items():
        own = usual.get(key)
        if isinstance(value, Mapping) and isinstance(own, Mapping):
            found += account_changes(value, own, f"{above}{key}.")
        elif value != own:
            found.append(f"{above}{key}={json.dumps(value)}")
    return found


def sizes(folder: Path) -> list[tuple[Path, int]]:
    """List the files below a folder with their bytes; links are files of their own, and are not followed."""
    found = []
    for where, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(where) / name).is_symlink()]
        for name in sorted([*names, *links]):
            path = Path(where) / name
            try:
                found.append((path.relative_to(folder), path.lstat().st_size))
            except FileNotFoundError:
                continue  # another process has just removed it
    return sorted(found)


def told_symbols(symbols: tuple[str, ...]) -> str:
    """Name a few symbols, and count the rest of many."""
    more = len(symbols) - _SHOWN
    return ", ".join(symbols) if more <= 0 else f"{', '.join(symbols[:_SHOWN])} and {more} more"


def told_bytes(size: float) -> str:
    """Write a size on disk with its unit, a thousand of one being one of the next."""
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if size >= 9.95 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def told_seconds(seconds: float | None) -> str:
    """Write how long the fits of a model took, or that each takes one step."""
    if seconds is None:
        return "in one step"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 100 else f"{hours:.1f} h"


def _trained(folder: Path) -> datetime | None:
    """Return when the newest fit was finished."""
    newest = 0.0
    for path in folder.rglob("folds/*/seed-*/history.json"):
        try:
            newest = max(newest, path.stat().st_mtime)
        except OSError:
            continue
    return datetime.fromtimestamp(newest, UTC) if newest else None


def _by_part(files: list[tuple[Path, int]]) -> list[Mapping[str, Any]]:
    """Add files up by what lies directly in the run's folder, the largest first."""
    parts: dict[str, list[int]] = {}
    for path, size in files:
        name = path.parts[0] + ("/" if len(path.parts) > 1 else "")
        parts.setdefault(name, []).append(size)
    rows = [{"name": name, "files": len(held), "size_bytes": sum(held)} for name, held in parts.items()]
    return sorted(rows, key=lambda row: (-int(str(row["size_bytes"])), str(row["name"])))

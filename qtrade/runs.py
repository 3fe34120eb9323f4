"""A run's folder: what is where, how it is written, and whether it is what it says.

::

    runs/<name>-<hash8>/
      config.toml  manifest.json  bars.parquet  training.lock  in-use.lock
      folds/<k>/seed-<s>/model.safetensors  scaler.json  forecasts.parquet  residuals.parquet  history.json
      forecasts.parquet  residuals.parquet
      baselines/<model>/...                  the same, for each model it is compared with
      evaluation.json  metrics.json  report.html
      backtests/<strategy>-<hash8>/weights.parquet  trades.parquet  equity.parquet  metrics.json
      optimism.json  transfer/...  sweeps/...  predictions/...

``history.json`` is written last in a fold and holds the checksums of its siblings: where it is present and they match,
the fold is complete. ``forecasts.parquet`` of the whole is written after every fold is.
"""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import qtrade.notebook_html as html
from qtrade import __version__
from qtrade.config import RunConfig, load_config
from qtrade.data.manifest import ID_LENGTH
from qtrade.errors import DataError, QtradeError, UsageError, nearest
from qtrade.features.scaler import Scaler
from qtrade.files import read_json, read_parquet, sha256, write_json, write_parquet, write_text
from qtrade.forecasts import Forecasts
from qtrade.models.base import Epoch, History, Model
from qtrade.types import BAR_FIELDS, Bars, Float64Array
from qtrade.windows import Rows

FOLD_FILES = ("model.safetensors", "scaler.json", "forecasts.parquet", "residuals.parquet")
SCHEMA = 1
"""Of the manifest; a later one may mean other things by the same names."""
_MANIFEST = {"forecast_hash": str, "facts": dict, "data": dict, "folds": list, "notes": list}


@dataclass(frozen=True)
class Run:
    """One run's folder; nothing is read before it is asked for."""

    folder: Path

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    def _repr_html_(self) -> str:
        """Show what can be read; nothing about a run that cannot be read is worth an error here."""
        parts, facts = [html.heading(self.name)], {"folder": str(self.folder)}
        with suppress(DataError, KeyError, TypeError):
            told = read_json(self.folder / "evaluation.json", fix="")["verdict"]
            parts.append(html.verdict(str(told["headline"]), str(told["line"])))
        with suppress(QtradeError, KeyError, TypeError):
            manifest = self.manifest
            data = manifest["data"]
            facts |= {
                "model": self.config.model,
                "symbols": html.as_text(data["symbols"]),
                "bars": f"{data['bars']:,} of {data['interval']}, {data['first'][:10]} to {data['last'][:10]}",
                "folds": html.as_text(len(manifest["folds"])),
            }
        return html.piece(*parts, html.facts(facts))

    @property
    def config(self) -> RunConfig:
        """The resolved configuration."""
        return load_config(self.folder / "config.toml")

    @property
    def manifest(self) -> dict[str, Any]:
        """What the run was made from: hashes, data, features, folds, versions, device.

        Raises
        ------
        DataError
            If it cannot be read, or was written by a later version of qtrade than this one.
        """
        path, fix = self.folder / "manifest.json", "start the run anew with `qtrade train`"
        manifest = read_json(path, fix=fix)
        known = manifest if isinstance(manifest, dict) else {}
        schema = known.get("schema")
        if type(schema) is int and schema > SCHEMA:
            raise _too_new(path, known)
        missing = [key for key, kind in _MANIFEST.items() if not isinstance(known.get(key), kind)]
        missing += [] if type(schema) is int and schema == SCHEMA else [f"a schema of {SCHEMA}"]
        if missing:
            raise DataError(f"{path} lacks {', '.join(missing)}", why="it was altered or cut off", fix=fix)
        return known

    @property
    def bars(self) -> Bars:
        """The bars that the run was made from, kept with it: fetching again changes no finished run.

        Raises
        ------
        DataError
            If the file is missing or altered.
        """
        path, manifest = self.folder / "bars.parquet", self.manifest
        fix = _train_again(self)
        table = read_parquet(path, fix=fix)
        facts = manifest["data"]
        try:
            bars = Bars(
                **{name: pd.DataFrame(table[name]) for name in BAR_FIELDS},
                interval=facts["interval"],
                calendar=facts["calendar"],
                periods_per_year=facts["periods_per_year"],
            )
            same = bars.fingerprint() == manifest["facts"]["data"]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} cannot be used", why=str(error), fix=fix) from error
        if not same:
            raise DataError(f"{path} does not hold the bars of this run", why="its hash is another", fix=fix)
        return bars

    def command(self, *words: str) -> str:
        """Write a command about this run as it is typed here: ``run.command("backtest", "-s", "momentum")``."""
        return shlex.join(["qtrade", *words[:1], self.name, *words[1:], *self.where])

    def train_command(self, *words: str) -> str:
        """Write the command that goes on with the run, or with `words` makes another like it."""
        return shlex.join(["qtrade", "train", "--config", str(self.folder / "config.toml"), *words, *self.where])

    @property
    def where(self) -> list[str]:
        """Options by which a command finds the run: the folder it is in, unless that is ./runs."""
        above = self.folder.parent
        return [] if above.resolve() == Path("runs").resolve() else ["--runs", str(above)]

    def model_folder(self, model: str) -> Path:
        """Folder of a model's folds and forecasts: the run's own for the model it trades."""
        return self.folder if model == self.config.model else self.folder / "baselines" / model

    def fold_folder(self, model: str, fold: int, replicate: int) -> Path:
        """Folder of one fitted model."""
        return self.model_folder(model) / "folds" / str(fold) / f"seed-{replicate}"

    def forecasts(self, model: str) -> tuple[Forecasts, Float64Array]:
        """Read a model's forecasts and the (N, H) log returns that followed them.

        Raises
        ------
        DataError
            If the run is not trained, or a file is damaged.
        """
        folder = self.model_folder(model)
        fix = _train_again(self)
        if not (folder / "forecasts.parquet").exists():
            raise DataError(f"{self.name} holds no forecasts of '{model}'", why="its training is not finished", fix=fix)
        try:
            return read_forecasts(
                read_parquet(folder / "forecasts.parquet", fix=fix),
                read_parquet(folder / "residuals.parquet", fix=fix),
                delay=self.config.split.delay,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{folder / 'forecasts.parquet'} or its residuals are not what training writes", why=str(error), fix=fix
            ) from error


def _train_again(run: Run) -> str:
    return f"train the run again with `{run.train_command()}`; complete folds are kept"


def _too_new(path: Path, manifest: Mapping[str, Any]) -> DataError:
    """Refuse a manifest of a later schema, and name the version that wrote it."""
    made_with = manifest.get("versions")
    version = made_with.get("qtrade") if isinstance(made_with, dict) else None
    named = f"qtrade {version}" if isinstance(version, str) else "a later qtrade"
    return DataError(
        f"{path} has schema {manifest['schema']}, which this qtrade does not know",
        why=f"it was written by {named}; this is {__version__}, which knows schema {SCHEMA}",
        fix="update qtrade, or make the run again with this one: `qtrade train`",
    )


def open_run(runs: Path, name: str) -> Run:
    """Find a run by the path of its folder, its name with or without the hash, or its beginning if that is enough.

    Raises
    ------
    UsageError
        If there is none, or more than one.
    """
    for folder in (Path(name), runs / name):
        if (folder / "manifest.json").is_file():
            return Run(folder)
    known = [run.name for run in list_runs(runs)]
    matches = [candidate for candidate in known if candidate.startswith(name)]
    named = [candidate for candidate in matches if candidate.rpartition("-")[0] == name]
    matches = named if len(named) == 1 else matches
    if len(matches) == 1:
        return Run(runs / matches[0])
    if matches:
        raise UsageError(f"'{name}' is the beginning of several runs", why=", ".join(matches), fix="name one in full")
    fix = nearest(name, known) if known else "make one with `qtrade run` or `qtrade train`"
    raise UsageError(f"there is no run '{name}' in {runs}", fix=fix)


def list_runs(runs: Path) -> list[Run]:
    """Return the runs in a folder, by name."""
    found = sorted(runs.glob("*/manifest.json"))
    return [Run(path.parent) for path in found if not path.parent.name.startswith(".")]  # hidden: half removed


def start_run(
    runs: Path, config: RunConfig, bars: Bars, facts: Mapping[str, str], description: Mapping[str, Any]
) -> Run:
    """Make the folder of a run, or return to it as it is.

    Parameters
    ----------
    facts
        What the forecasts follow from beside the configuration; part of the hash.
    description
        What else the manifest tells a reader.

    Raises
    ------
    UsageError
        If the folder holds the run of another configuration.
    """
    run, there = place_of(runs, config, facts)
    if there:
        return run
    write_text(run.folder / "config.toml", _pinned(config, description).to_toml())
    write_parquet(run.folder / "bars.parquet", pd.concat({name: getattr(bars, name) for name in BAR_FIELDS}, axis=1))
    identity = config.forecast_hash(**facts)
    made_of = {"forecast_hash": identity, "facts": dict(facts), "versions": versions()}
    write_json(run.folder / "manifest.json", {"schema": SCHEMA, **made_of, **description})
    return run


def place_of(runs: Path, config: RunConfig, facts: Mapping[str, str]) -> tuple[Run, bool]:
    """Find the folder that a run has, or will have, and whether it is there.

    Raises
    ------
    UsageError
        If the folder holds the run of another configuration.
    """
    identity = config.forecast_hash(**facts)
    run = Run(runs / f"{config.name}-{identity[:8]}")
    if not (run.folder / "manifest.json").exists():
        return run, False
    check_run(run)
    if run.manifest["forecast_hash"] != identity:
        raise UsageError(
            f"{run.folder} belongs to another run",
            why=f"its hash is {run.manifest['forecast_hash'][:16]}, this run's is {identity[:16]}",
            fix="choose another --name, or move the folder away",
        )
    return run, True


def save_config(run: Run, config: RunConfig) -> None:
    """Make `config` the configuration of a run. Account and strategies may differ from before; forecasts may not.

    The versions of the bars that the run was made from are written into it, so that it makes the same run again.
    """
    write_text(run.folder / "config.toml", _pinned(config, run.manifest).to_toml())


def evaluated_otherwise(run: Run, assignments: Sequence[str]) -> RunConfig:
    """Return a run's configuration with other settings of `evaluation`.

    Raises
    ------
    UsageError
        If an assignment is about anything else, which would need other forecasts.
    """
    for text in assignments:
        if not text.strip().startswith("evaluation."):
            raise UsageError(
                f"'{text}' is not about the evaluation",
                why="everything else was settled when the run was made",
                fix="write it as evaluation.horizons=[1,5]",
            )
    config = load_config(run.folder / "config.toml", assignments)
    beyond = [horizon for horizon in config.evaluation.horizons if horizon > config.window.horizon]
    if beyond and any("horizons" in text for text in assignments):
        raise UsageError(
            f"the forecasts do not reach {beyond[0]} bars ahead",
            why=f"this run's window.horizon is {config.window.horizon}",
            fix=f"ask for horizons up to {config.window.horizon}, or train a run that looks further",
        )
    return config


def traded_otherwise(run: Run, assignments: Sequence[str]) -> RunConfig:
    """Return a run's configuration with another account: ``delay=2``, ``costs.borrow_bps=50``.

    Raises
    ------
    UsageError
        If a setting is unknown or its value is not valid.
    """
    return load_config(run.folder / "config.toml", [f"backtest.{text.strip()}" for text in assignments])


def _pinned(config: RunConfig, description: Mapping[str, Any]) -> RunConfig:
    """Name the versions of the bars in a configuration."""
    found = description.get("data", {}).get("versions", {})
    versions = {symbol: fingerprint[:ID_LENGTH] for symbol, fingerprint in found.items()}
    return config.model_copy(update={"data": config.data.model_copy(update={"versions": versions})})


def check_run(run: Run) -> None:
    """Raise `UsageError` unless a run's configuration is the one its forecasts were made with."""
    manifest = run.manifest
    identity, recorded = run.config.forecast_hash(**manifest["facts"]), manifest["forecast_hash"]
    if identity != recorded:
        raise UsageError(
            f"{run.folder} holds another configuration than its forecasts were made with",
            why=f"config.toml now has the hash {identity[:16]}, the run was started with {recorded[:16]}",
            fix=f"undo the change to config.toml, or train it as a new run: `{run.train_command('--name', 'NEW')}`",
        )


def versions() -> dict[str, str]:
    """Versions of what computes."""
    packages = ("torch", "numpy", "pandas", "vectorbt", "ta", "yfinance")
    return {"qtrade": __version__, "python": platform.python_version()} | {name: version(name) for name in packages}


def save_fold(
    folder: Path, model: Model, scaler: Scaler, history: History, forecasts: pd.DataFrame, residuals: pd.DataFrame
) -> None:
    """Write everything a fitted fold leaves behind, the proof of completeness last."""
    (folder / "history.json").unlink(missing_ok=True)
    model.save(folder / "model.safetensors")
    scaler.save(folder / "scaler.json")
    write_parquet(folder / "forecasts.parquet", forecasts)
    write_parquet(folder / "residuals.parquet", residuals)
    checksums = {name: sha256(folder / name) for name in FOLD_FILES}
    constant = [f"{symbol} {name}" for symbol, name in scaler.constant]
    write_json(folder / "history.json", {**asdict(history), "constant": constant, "sha256": checksums})


def fold_is_complete(folder: Path) -> bool:
    """Whether a fold was written to its end and is unaltered since."""
    if not (folder / "history.json").exists():
        return False
    try:
        checksums = read_json(folder / "history.json", fix="")["sha256"]
        return all(sha256(folder / name) == checksums[name] for name in FOLD_FILES)
    except (DataError, OSError, KeyError, TypeError):
        return False


def read_history(folder: Path) -> tuple[History, list[str]]:
    """Read how a fold's fit went, and which of its inputs were constant."""
    fix = "train the run again: the fold is fitted anew"
    values = read_json(folder / "history.json", fix=fix)
    try:
        epochs = tuple(Epoch(**epoch) for epoch in values["epochs"])
        return History(epochs, values["best_epoch"], values["valid_loss"]), values["constant"]
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / 'history.json'} is not what a fit writes", why=str(error), fix=fix) from error


def step_columns(prefix: str, horizon: int) -> list[str]:
    """Column names ``<prefix>_01 .. <prefix>_HH``."""
    return [f"{prefix}_{step:02d}" for step in range(1, horizon + 1)]


def forecast_frame(forecasts: Forecasts, actual: Float64Array) -> pd.DataFrame:
    """Lay forecasts out as the rows of ``forecasts.parquet``."""
    keys = pd.DataFrame(
        {
            "symbol": forecasts.symbol,
            "origin": forecasts.origin,
            "fold": forecasts.fold,
            "seed": forecasts.seed,
            "train_end": forecasts.train_end,
        }
    )
    predicted = pd.DataFrame(forecasts.path, columns=step_columns("y_hat", forecasts.horizon))
    happened = pd.DataFrame(actual, columns=step_columns("y", forecasts.horizon))
    return pd.concat([keys, predicted, happened], axis=1)


def residual_frame(fold: int, replicate: int, symbols: Any, origins: pd.Index, residuals: Float64Array) -> pd.DataFrame:
    """Lay the (V, H) validation errors of a fold out as the rows of ``residuals.parquet``."""
    keys = pd.DataFrame({"fold": fold, "seed": replicate, "symbol": symbols, "origin": origins})
    return pd.concat([keys, pd.DataFrame(residuals, columns=step_columns("r", residuals.shape[1]))], axis=1)


def read_forecasts(frame: pd.DataFrame, residuals: pd.DataFrame, *, delay: int = 0) -> tuple[Forecasts, Float64Array]:
    """Undo `forecast_frame` and `residual_frame`; their paths start `delay` bars after the close of their origins."""
    if len(frame) == 0:
        raise ValueError("there are no rows")
    if frame.duplicated(["symbol", "origin", "fold", "seed"]).any():
        raise ValueError("rows repeat")
    horizon = sum(column.startswith("y_hat_") for column in frame.columns)
    errors = step_columns("r", horizon)
    banks = {_bank_key(key): bank for key, bank in residuals.groupby(["fold", "seed", "symbol"], sort=True)}
    forecasts = Forecasts(
        path=frame[step_columns("y_hat", horizon)].to_numpy(dtype=np.float64),
        symbol=frame["symbol"].to_numpy(dtype=object),
        origin=pd.DatetimeIndex(frame["origin"]),
        fold=frame["fold"].to_numpy(dtype=np.int64),
        seed=frame["seed"].to_numpy(dtype=np.int64),
        train_end=pd.DatetimeIndex(frame["train_end"]),
        residuals={key: bank[errors].to_numpy(dtype=np.float64) for key, bank in banks.items()},
        delay=delay,
        validated={key: pd.DatetimeIndex(bank["origin"]) for key, bank in banks.items()},
    )
    return forecasts, frame[step_columns("y", horizon)].to_numpy(dtype=np.float64)


def rows_of(forecasts: Forecasts, bars: Bars) -> Rows:
    """Positions of the forecasts' origins and symbols on the axes of `bars`.

    Raises
    ------
    DataError
        If the bars lack one of them.
    """
    origin = bars.index.get_indexer(forecasts.origin).astype(np.int64)
    symbol = pd.Index(bars.symbols).get_indexer(pd.Index(forecasts.symbol)).astype(np.int64)
    if (origin < 0).any() or (symbol < 0).any():
        raise DataError("the forecasts have origins or symbols that the bars lack", fix="train the run again")
    return Rows(origin, symbol)


def _bank_key(key: Any) -> tuple[int, int, str]:
    fold, seed, symbol = key
    return int(fold), int(seed), str(symbol)

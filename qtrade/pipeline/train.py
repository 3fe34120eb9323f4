"""The first story: fit every fold of a model and its baselines, and store what they forecast."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qtrade import __version__
from qtrade.config import RunConfig
from qtrade.data.cache import Cache
from qtrade.errors import IntegrityError, QtradeError
from qtrade.files import write_parquet
from qtrade.forecasts import Forecasts
from qtrade.models.device import choose_device, torch_version
from qtrade.pipeline.fitting import fit_fold, has_a_card_to_itself
from qtrade.pipeline.lock import being_trained
from qtrade.pipeline.market import Market, folds_of, prepare
from qtrade.pipeline.parallel import count_workers, run_jobs
from qtrade.progress import Progress
from qtrade.runs import Run, fold_is_complete, forecast_frame, residual_frame, save_fold, start_run
from qtrade.types import Fold
from qtrade.windows import realised

# Windows times epochs below which starting another process costs more than it saves.
_WORTH_A_PROCESS = 20_000


def train_run(config: RunConfig, *, runs: Path, cache: Cache, progress: Progress) -> Run:
    """Fit every fold of the model and its baselines, and store their forecasts.

    Features and target pass the look-ahead audit first. Folds that an earlier, interrupted call completed are kept.

    Raises
    ------
    QtradeError
        As the parts do; a failure inside a fold names the fold. What was complete before stays.
    """
    market = prepare(config, cache, progress)
    folds = folds_of(market, config)
    run = start_run(runs, config, market.bars, facts_of(config, market), _describe(config, market, folds))
    with being_trained(run):
        for model in models_of(config):
            _train_model(model, config, market, folds, run, progress)
    return run


def facts_of(config: RunConfig, market: Market) -> dict[str, str]:
    """Say what forecasts follow from beside the configuration; it enters the hash."""
    return {
        "data": market.data_hash,
        "device": choose_device(config.train.device).type,
        "qtrade": __version__,
        "torch": torch_version(),
        **market.files,
    }


def models_of(config: RunConfig) -> tuple[str, ...]:
    """Every model that is fitted: the one that is traded, the random walk, and the baselines."""
    return tuple(dict.fromkeys((config.model, "naive", *config.baselines)))


def fold_seed(seed: int, fold: int, replicate: int) -> int:
    """Seed of one fit: a function of its place alone, so that no fold depends on how many there are."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{fold}/{replicate}".encode()).digest()[:4], "big")


def _train_model(
    model: str, config: RunConfig, market: Market, folds: Sequence[Fold], run: Run, progress: Progress
) -> None:
    """Fit one model on every fold and gather its forecasts into one file."""
    neural = model == "informer"
    replicates, epochs = (config.replicates, config.train.epochs) if neural else (1, 1)
    fits = [
        _Fit(model, fold, len(folds), replicate, replicates, run.fold_folder(model, fold.number, replicate))
        for fold in folds
        for replicate in range(replicates)
    ]
    missing = [fit for fit in fits if not fold_is_complete(fit.folder)]
    if len(missing) < len(fits):
        progress.message(f"{model}: {len(fits) - len(missing)} of {len(fits)} fits are complete and kept")
    progress.start(f"train {model}", len(missing) * epochs)
    windows = len(market.bars.symbols) * sum(len(fit.fold.fit) for fit in missing)
    run_jobs(
        _train_fold,
        (config, market),
        missing,
        workers=count_processes(config, model, windows),
        threads=config.train.threads,
        progress=progress,
    )
    target = run.model_folder(model)
    for name in ("residuals.parquet", "forecasts.parquet"):
        parts = [pd.read_parquet(fit.folder / name) for fit in fits]
        write_parquet(target / name, pd.concat(parts, ignore_index=True))


def count_processes(config: RunConfig, model: str, windows: int) -> int:
    """Return how many processes fit a model side by side, where its fits have so many fitting windows together."""
    on_cpu = choose_device(config.train.device).type == "cpu"
    small = on_cpu and config.train.epochs * windows < _WORTH_A_PROCESS
    if model != "informer" or small or has_a_card_to_itself(config, model):
        return 1
    return count_workers(config.train.workers, config.train.threads)


@dataclass(frozen=True)
class _Fit:
    """One model to fit on one fold."""

    model: str
    fold: Fold
    folds: int
    replicate: int
    replicates: int
    folder: Path

    @property
    def place(self) -> str:
        """Where in the whole this is."""
        seed = f"  seed {self.replicate + 1}/{self.replicates}" if self.replicates > 1 else ""
        return f"fold {self.fold.number + 1}/{self.folds}{seed}"


def _train_fold(context: tuple[RunConfig, Market], fit: _Fit, progress: Progress) -> None:
    """Fit one model on one fold; an error tells which."""
    try:
        _fit_and_save(*context, fit, _Placed(progress, fit.place))
    except QtradeError as error:
        error.what = f"{fit.model}, fold {fit.fold.number + 1}, seed {fit.replicate}: {error.what}"
        raise
    if fit.model != "informer":
        progress.advance(1, fit.place)


def _fit_and_save(config: RunConfig, market: Market, fit: _Fit, progress: Progress) -> None:
    """Fit, forecast the fold's test origins, and save."""
    fold = fit.fold
    seed = fold_seed(config.seed, fold.number, fit.replicate)
    fitted, history = fit_fold(market, config, fold, fit.model, seed=seed, progress=progress)
    path, test = fitted.paths(market, config, fold.test)
    validated, valid = fitted.paths(market, config, fold.valid)
    # Cut off where the model is as of: a label that reached further would be missing.
    errors = realised(market.returns[: fold.train_end + 1], valid, fold.horizon, fold.delay) - validated
    if not np.isfinite(errors).all():
        raise IntegrityError(f"a validation label ends after bar {fold.train_end}, the last that the model may know")
    index, symbols = market.bars.index, np.array(market.bars.symbols, dtype=object)
    forecasts = Forecasts(
        path=path,
        symbol=symbols[test.symbol],
        origin=index[test.origin],
        fold=np.full(len(test), fold.number, dtype=np.int64),
        seed=np.full(len(test), fit.replicate, dtype=np.int64),
        train_end=index[np.full(len(test), fold.train_end)],
    )
    save_fold(
        fit.folder,
        fitted.model,
        fitted.scaler,
        history,
        forecast_frame(forecasts, realised(market.returns, test, fold.horizon, fold.delay)),
        residual_frame(
            fold.number,
            fit.replicate,
            symbols[valid.symbol],
            index[valid.origin],
            errors,
        ),
    )


def _describe(config: RunConfig, market: Market, folds: Sequence[Fold]) -> dict[str, Any]:
    """Describe data, features and folds for a reader of the manifest."""
    index = market.bars.index

    def span(origins: range) -> list[str]:
        return [str(index[origins[0]]), str(index[origins[-1]])]

    return {
        "data": {
            "source": config.data.source,
            "symbols": list(market.bars.symbols),
            "versions": dict(market.versions),
            "interval": market.bars.interval,
            "calendar": market.bars.calendar,
            "periods_per_year": market.bars.periods_per_year,
            "bars": len(index),
            "first": str(index[0]),
            "last": str(index[-1]),
        },
        "features": {
            "names": list(market.features.names),
            "warmup_bars": market.features.warmup,
            "dropped": list(market.dropped),
            "target": config.features.target,
        },
        "notes": [
            *market.notes,
            f"{market.features.warmup} bars at the start only warm the features up; no forecast uses them.",
        ],
        "folds": [
            {
                "number": fold.number,
                "fit": span(fold.fit),
                "valid": span(fold.valid),
                "test": span(fold.test),
                "train_end": str(index[fold.train_end]),
                "test_origins": len(fold.test),
            }
            for fold in folds
        ],
    }


@dataclass(frozen=True)
class _Placed:
    """Progress that says where in the whole it is."""

    progress: Progress
    place: str

    def start(self, title: str, total: int) -> None:
        """Leave the whole job's title and length as they are."""

    def advance(self, steps: int, note: str) -> None:
        """Report with the place in front."""
        self.progress.advance(steps, f"{self.place}  {note}")

    def message(self, text: str) -> None:
        """Print with the place in front."""
        self.progress.message(f"{self.place}: {text}")

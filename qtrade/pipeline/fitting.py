"""One model on one fold: fitted, or loaded, and asked."""

from __future__ import annotations

from dataclasses import dataclass

from qtrade.config import RunConfig
from qtrade.errors import DataError, IntegrityError
from qtrade.features.scaler import Scaler
from qtrade.models.base import History, Model, Shape
from qtrade.models.catalogue import MODELS
from qtrade.models.device import choose_device
from qtrade.pipeline.market import Market, scaled
from qtrade.progress import Progress
from qtrade.runs import Run, fold_is_complete
from qtrade.types import Float64Array, Fold
from qtrade.windows import Rows, Samples, every_symbol

ROUNDING = 1e-3
"""Share of the largest value within which numbers of a network are the same: sums of single precision over other
batches, or on another device, round differently, and whatever knows of the future moves them by far more."""


def has_a_card_to_itself(config: RunConfig, model: str) -> bool:
    """Whether a model runs on an accelerator, and no number of processes to share it was asked for."""
    return model == "informer" and config.train.workers == 0 and choose_device(config.train.device).type != "cpu"


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted model with the scaler that is part of it."""

    name: str
    scaler: Scaler
    model: Model

    def paths(self, market: Market, config: RunConfig, origins: range) -> tuple[Float64Array, Rows]:
        """Forecast from some origins.

        Returns
        -------
        path, rows
            (W, H) log returns of the bars after each origin and symbol, and which these are.
        """
        rows = every_symbol(origins, len(market.bars.symbols))
        return self.paths_at(market, config, rows), rows

    def paths_at(self, market: Market, config: RunConfig, rows: Rows) -> Float64Array:
        """Forecast from some windows, ordered by origin: (W, H) log returns."""
        # Whatever a model does, it cannot see past the last origin, nor any target.
        last = int(rows.origin[-1])
        samples = scaled(market, self.scaler, None, config.window, config.split.delay).until(last)
        predicted = self.scaler.inverse_target(self.model.predict(samples, rows), rows.symbol)
        return market.target_of(self.name).as_returns(predicted, rows.origin, rows.symbol)


def scaler_rows(fold: Fold, seq_len: int) -> range:
    """Return the bars that a fold's scaler is fitted on: those that its fitting windows read."""
    return range(fold.fit.start - seq_len + 1, fold.fit.stop)


def fit_fold(
    market: Market, config: RunConfig, fold: Fold, name: str, *, seed: int, progress: Progress
) -> tuple[Fitted, History]:
    """Fit a model on a fold's training origins, with nothing after the fold's as-of bar within reach.

    Raises
    ------
    IntegrityError
        If the scaler saw a bar after the last fit origin.
    TrainingError
        As the model does.
    """
    begun, known = begin_fold(market, config, fold, name)
    history = begun.model.fit(known, known.rows(fold.fit), known.rows(fold.valid), seed=seed, progress=progress)
    return begun, history


def begin_fold(market: Market, config: RunConfig, fold: Fold, name: str) -> tuple[Fitted, Samples]:
    """Return a model that is still to be fitted on a fold, and what it may learn from: nothing after the as-of bar.

    Raises
    ------
    IntegrityError
        If the scaler saw a bar after the last fit origin.
    """
    target = market.target_of(name)
    rows = scaler_rows(fold, config.window.seq_len)
    scaler = Scaler.fit(market.features, target.past, rows, centred=target.centred)
    if scaler.last_row > fold.fit[-1]:
        raise IntegrityError(f"the scaler saw bar {scaler.last_row}, after the last fit origin {fold.fit[-1]}")
    known = scaled(market, scaler, target, config.window, fold.delay).until(fold.train_end)
    columns = len(market.features.names)
    outputs = columns if name == "informer" and config.features.mode == "M" else 1
    shape = Shape(columns, market.marks.shape[1], config.window, outputs)
    return Fitted(name, scaler, MODELS[name](shape, config.settings_of(name))), known


def load_fitted(run: Run, config: RunConfig, market: Market, name: str, fold: int, replicate: int) -> Fitted:
    """Load what training saved of a fold, if it fits the market.

    Raises
    ------
    DataError
        If it is not complete, or was made for other symbols or features.
    """
    folder = run.fold_folder(name, fold, replicate)
    if not fold_is_complete(folder):
        raise DataError(f"{folder} is not complete", fix=run.train_command())
    scaler = Scaler.load(folder / "scaler.json")
    if (scaler.symbols, scaler.names) != (market.bars.symbols, market.features.names):
        raise DataError(
            "the bars give other symbols or features than the models were trained on",
            why=f"trained on {', '.join(scaler.symbols)} with {len(scaler.names)} features; "
            f"here are {', '.join(market.bars.symbols)} with {len(market.features.names)}",
            fix="train a new run on these bars",
        )
    return Fitted(name, scaler, MODELS[name].load(folder / "model.safetensors"))

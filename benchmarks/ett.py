"""What Informer reaches on ETTh1 by the paper's protocol, beside the published figures and three simple forecasts.

    python benchmarks/ett.py --data ETTh1.csv                # published settings on a GPU, reduced ones on a CPU
    python benchmarks/ett.py --data ETTh1.csv --mode M --seeds 5 --out ett.json
    python benchmarks/ett.py --data ETTh1.csv --settings reduced --epochs 1

Prints a Markdown table; `--out` keeps it as JSON, with every setting, seed and epoch. The file is ETTh1.csv of
github.com/zhouhaoyi/ETDataset. Mode S reads and predicts the target column alone, mode M all columns.

Protocol: 8,640 rows for training, 2,880 for validation, 2,880 for the test; later rows are not used. Each column is
scaled by mean and population standard deviation of its training rows. Errors are in scaled units, over every window
whose label lies in the test rows; its past may reach back into the rows before them.

Simple forecasts: the last value repeated; the last 24 values repeated; and a ridge regression of the path on the past
of the same column, one map for all columns, its penalty chosen on validation.

The published figures are averages over several runs; the authors' code has changed since they were taken. Reduced
settings are not the published experiment, and the output lists all that differs. Their learning rates were chosen on
validation, from 1e-4, 3e-4, 1e-3 and 2e-3. Where even the published settings do not do what the authors' code does:

- No window is left out; the code drops the last, incomplete batch of training, validation and test.
- Validation and test sample the keys of ProbSparse attention from one seed; the code draws new keys in every pass.
- On a CPU, the dropout rate is rounded to a multiple of 1/256: 0.05 becomes 13/256.
- Adam is run as AdamW with a weight decay of zero and a limit to the gradient that none reaches: the same in effect.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import qtrade
from qtrade.errors import DataError, QtradeError, UsageError, nearest
from qtrade.features.marks import marks
from qtrade.files import sha256, write_json
from qtrade.models.base import Shape
from qtrade.models.baselines import Ridge
from qtrade.models.batches import DeviceSamples
from qtrade.models.device import choose_device, set_threads
from qtrade.models.informer import Informer
from qtrade.models.settings import InformerConfig, RidgeConfig, TrainConfig
from qtrade.models.train import fit_network, predict_network
from qtrade.progress import Silent
from qtrade.types import Float32Array, Float64Array, IntArray
from qtrade.windows import Samples, WindowConfig, label_offsets

DEVIATIONS = tuple(" ".join(item.split()) for item in (__doc__ or "").split("\n- ")[1:])
PENALTIES = (0.0, 1.0, 10.0, 100.0, 1e3, 1e4)
KEY_SEED = 2021


@dataclass(frozen=True)
class Borders:
    """Rows of the three parts, one after the other."""

    train: int = 8640
    valid: int = 2880
    test: int = 2880

    def origins(self, window: WindowConfig) -> dict[str, range]:
        """Origins of each part's windows: all those whose label lies in the part, and whose past in the data."""
        starts = {"train": 0, "valid": self.train, "test": self.train + self.valid}
        return {
            part: range(max(start, window.seq_len) - 1, start + rows - window.horizon)
            for (part, start), rows in zip(starts.items(), (self.train, self.valid, self.test), strict=True)
        }


@dataclass(frozen=True)
class Plan:
    """All that makes one experiment."""

    window: WindowConfig
    network: InformerConfig
    train: TrainConfig

    def settings(self) -> dict[str, Any]:
        """Every setting that bears on the result, by its dotted name."""
        groups = {name: getattr(self, name).model_dump(mode="json") for name in ("window", "network", "train")}
        named = {f"{group}.{key}": value for group, fields in groups.items() for key, value in fields.items()}
        return {key: value for key, value in named.items() if key not in ("train.device", "train.threads")}


def published(seq_len: int, label_len: int, factor: int) -> Plan:
    """Return the settings of the authors' script for 24 hours ahead."""
    network = InformerConfig(
        d_model=512, n_heads=8, e_layers=2, d_ff=2048, factor=factor, dropout=0.05, mix=True, zero_head=False
    )
    train = TrainConfig(
        epochs=6,
        batch_size=32,
        learning_rate=1e-4,
        schedule="type1",
        weight_decay=0.0,
        clip_norm=1e9,
        patience=3,
        mixed_precision=False,
    )
    return Plan(WindowConfig(seq_len=seq_len, label_len=label_len, horizon=24), network, train)


def reduced(plan: Plan, seq_len: int, label_len: int, learning_rate: float) -> Plan:
    """Shrink an experiment to what one CPU core does in minutes; a small network needs a larger learning rate."""
    return Plan(
        plan.window.model_copy(update={"seq_len": seq_len, "label_len": label_len}),
        plan.network.model_copy(update={"d_model": 64, "n_heads": 4, "d_ff": 256}),
        plan.train.model_copy(update={"learning_rate": learning_rate, "mixed_precision": True}),
    )


ETTH1 = Borders()
PUBLISHED = {"S": published(720, 168, factor=5), "M": published(48, 48, factor=3)}
REDUCED = {
    "S": reduced(PUBLISHED["S"], 168, 48, learning_rate=3e-4),
    "M": reduced(PUBLISHED["M"], 48, 48, learning_rate=2e-3),
}
PLANS: Mapping[str, Mapping[str, Plan]] = {"paper": PUBLISHED, "reduced": REDUCED}
SEEDS = {"paper": 3, "reduced": 1}
PUBLISHED_TARGET = "OT"
PUBLISHED_ERRORS = {"S": {"mse": 0.098, "mae": 0.247}, "M": {"mse": 0.577, "mae": 0.549}}


@dataclass(frozen=True)
class Line:
    """One line of the table: who forecast, from how many past hours, and how far off; the spread is over seeds."""

    mode: str
    forecast: str
    past_hours: int
    mse: float
    mae: float
    mse_spread: float | None = None
    mae_spread: float | None = None


@dataclass(frozen=True)
class Series:
    """The rows in use: (T,) stamps, and (T, C) scaled columns, the target last."""

    index: pd.DatetimeIndex
    scaled: Float64Array
    columns: tuple[str, ...]


def main(
    arguments: Sequence[str] | None = None,
    borders: Borders = ETTH1,
    plans: Mapping[str, Mapping[str, Plan]] = PLANS,
) -> None:
    """Run what the command line asks for; on an expected failure, say what is wrong and exit with its code."""
    options = parse(arguments)
    try:
        document = run(options, borders, plans)
        print(markdown(document))
        if options.out is not None:
            write_json(options.out, document)
    except QtradeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="ETTh1.csv")
    parser.add_argument("--mode", nargs="+", choices=("S", "M"), default=["S", "M"])
    parser.add_argument("--target", default=PUBLISHED_TARGET, help="column of mode S, the last one of mode M")
    parser.add_argument("--settings", choices=("auto", "paper", "reduced"), default="auto")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--seeds", type=positive, help="default: 3 with the published settings, 1 with reduced ones")
    parser.add_argument("--epochs", type=positive, help="at most this many")
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    """Read a number of at least one."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def run(options: argparse.Namespace, borders: Borders, plans: Mapping[str, Mapping[str, Plan]]) -> dict[str, Any]:
    """Run the experiments and return everything about them, as plain values."""
    if options.out is not None and not options.out.absolute().parent.is_dir():
        raise UsageError(f"the folder of {options.out} does not exist", fix="make it, or choose another --out")
    device = choose_device(options.device)
    chosen = options.settings
    if chosen == "auto":
        chosen = "paper" if device.type == "cuda" else "reduced"
    set_threads(options.threads)
    seeds = range(options.seeds or SEEDS[chosen])
    loaded = {mode: load(options.data, options.target, mode, borders) for mode in options.mode}
    modes: dict[str, Any] = {}
    table: list[Line] = []
    for mode, series in loaded.items():
        plan = plans[chosen][mode]
        epochs = min(plan.train.epochs, options.epochs or plan.train.epochs)
        plan = replace(plan, train=plan.train.model_copy(update={"epochs": epochs, "device": device.type}))
        modes[mode], lines = experiment(mode, series, borders, plan, seeds, device)
        table += lines
    return {
        "benchmark": "ETTh1",
        "settings": chosen,
        "data": {"file": options.data.name, "sha256": sha256(options.data), "target": options.target},
        "rows": asdict(borders),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": options.threads,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "pandas": pd.__version__,
            "qtrade": qtrade.__version__,
        },
        "deviations": DEVIATIONS,
        "modes": modes,
        "table": [asdict(line) for line in table],
    }


def load(path: Path, target: str, mode: str, borders: Borders) -> Series:
    """Read and scale the rows in use, refusing a file that the protocol does not fit.

    Raises
    ------
    DataError
        If the file cannot be read, is too short, or has gaps, values that are no numbers, or a constant column.
    UsageError
        If there is no such target.
    """
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read",
            why=str(error).strip(),
            fix="give --data the path of ETTh1.csv (a comma-separated file)",
        ) from error
    if "date" not in frame:
        raise DataError(f"{path} has no column 'date'", why=f"its columns are {', '.join(map(str, frame))}")
    names = [str(name) for name in frame if name != "date"]
    if target not in names:
        raise UsageError(f"{path} has no column '{target}' to predict", fix=nearest(target, names))
    needed = borders.train + borders.valid + borders.test
    if len(frame) < needed:
        raise DataError(
            f"{path} has {len(frame)} rows, but {needed} are needed",
            why=f"{borders.train} are for training, {borders.valid} for validation and {borders.test} for the test",
        )
    frame = frame.iloc[:needed]
    index = pd.DatetimeIndex(pd.to_datetime(frame["date"], format="ISO8601", utc=True, errors="coerce"))
    late = np.flatnonzero(np.diff(index.tz_localize(None).to_numpy()) != np.timedelta64(1, "h"))
    if len(late):
        row = int(late[0]) + 1
        raise DataError(
            f"data row {row + 1} of {path} is not one hour after the row before it",
            why=f"it says '{frame['date'].iloc[row]}' after '{frame['date'].iloc[row - 1]}'",
        )
    columns = (target,) if mode == "S" else (*(name for name in names if name != target), target)
    values = frame[list(columns)].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = map(int, bad[0])
        raise DataError(f"'{columns[column]}' in data row {row + 1} of {path} is not a finite number")
    constant = np.flatnonzero(np.ptp(values[: borders.train], axis=0) == 0)
    if len(constant):
        raise DataError(f"'{columns[constant[0]]}' of {path} never changes in the training rows: it has no scale")
    return Series(index, scale(values, borders.train), columns)


def scale(values: Float64Array, train: int) -> Float64Array:
    """Give each (T, C) column mean 0 and population standard deviation 1 over its first `train` rows."""
    scaled: Float64Array = (values - values[:train].mean(axis=0)) / values[:train].std(axis=0)
    return scaled


def experiment(
    mode: str, series: Series, borders: Borders, plan: Plan, seeds: Sequence[int], device: torch.device
) -> tuple[dict[str, Any], list[Line]]:
    """Measure one mode: what is to be told about it, and its lines of the table."""
    parts = borders.origins(plan.window)
    test, horizon = np.array(parts["test"]), plan.window.horizon
    actual = labels(series.scaled, test, horizon)
    runs = [measure_seed(mode, series, parts, plan, seed, device) for seed in seeds]
    changes = {
        name: {"published": value, "here": plan.settings()[name]}
        for name, value in PUBLISHED[mode].settings().items()
        if plan.settings()[name] != value
    }
    word = "reduced settings" if changes else "published settings"
    name = f"Informer, {word}, {len(runs)} seed{'s' if len(runs) > 1 else ''}"
    past = plan.window.seq_len
    lines = [Line(mode, name, past, *mean_and_spread(runs))]
    if mode == "M" or series.columns == (PUBLISHED_TARGET,):
        figures = PUBLISHED_ERRORS[mode]
        lines.append(Line(mode, "Informer, as published", PUBLISHED[mode].window.seq_len, **figures))
    lines += [
        Line(mode, "linear", past, **errors(linear(series.scaled, parts, plan.window), actual)),
        Line(mode, "last value repeated", 1, **errors(repeat_last(series.scaled, test, horizon, 1), actual)),
        Line(mode, "last 24 values repeated", 24, **errors(repeat_last(series.scaled, test, horizon, 24), actual)),
    ]
    return {
        "columns": series.columns,
        "windows": {part: len(origins) for part, origins in parts.items()},
        "settings": plan.settings(),
        "differs_from_published": changes,
        "seeds": runs,
    }, lines


def mean_and_spread(runs: Sequence[Mapping[str, float]]) -> tuple[float, float, float | None, float | None]:
    """MSE and MAE averaged over seeds, and their sample standard deviations, which one seed does not have."""
    mse, mae = ([run[key] for run in runs] for key in ("mse", "mae"))
    spreads = (statistics.stdev(mse), statistics.stdev(mae)) if len(runs) > 1 else (None, None)
    return statistics.mean(mse), statistics.mean(mae), *spreads


def measure_seed(
    mode: str, series: Series, parts: Mapping[str, range], plan: Plan, seed: int, device: torch.device
) -> dict[str, Any]:
    """Fit a fresh network and measure it on the test windows."""
    started = time.perf_counter()
    values = series.scaled.astype(np.float32)[:, None, :]
    samples = make_samples(values, values[:, :, -1], marks(series.index, "1h"), plan.window)
    data = DeviceSamples(samples, device, outputs=values.shape[2])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = Shape(values.shape[2], samples.marks.shape[1], plan.window, outputs=values.shape[2])
        network = Informer(shape, plan.network)
    rows = {part: samples.rows(origins) for part, origins in parts.items()}
    history = fit_network(
        network,
        data,
        rows["train"],
        rows["valid"],
        plan.train,
        seed=seed,
        key_seed=KEY_SEED,
        progress=Spoken(f"{mode} seed {seed}"),
    )
    path = predict_network(network, data, rows["test"], plan.train, key_seed=KEY_SEED)
    actual = labels(series.scaled, rows["test"].origin, plan.window.horizon)
    return {
        "seed": seed,
        **errors(path.astype(np.float64), actual),
        "valid_mse": history.valid_loss,
        "best_epoch": history.best_epoch,
        "epochs": [asdict(epoch) for epoch in history.epochs],
        "seconds": time.perf_counter() - started,
    }


class Spoken(Silent):
    """Progress as lines on stderr."""

    def __init__(self, title: str) -> None:
        self.title = title

    def advance(self, steps: int, note: str) -> None:
        print(f"{self.title}  {note}", file=sys.stderr, flush=True)


def make_samples(values: Float32Array, target: Float32Array, stamps: Float32Array, window: WindowConfig) -> Samples:
    """Hold (T, S, F) values and (T, S) targets; every next row is the stamp expected next."""
    return Samples(
        values=values,
        marks=stamps,
        future_marks=stamps,
        future_start=np.arange(1, len(values) + 1, dtype=np.int64),
        target=target,
        window=window,
    )


def labels(scaled: Float64Array, origins: IntArray, horizon: int) -> Float64Array:
    """(W, H, C) values that followed each origin."""
    following: Float64Array = scaled[origins[:, None] + label_offsets(horizon)]
    return following


def errors(path: Float64Array, actual: Float64Array) -> dict[str, float]:
    """Mean squared and mean absolute error over all windows, steps and columns."""
    if path.shape != actual.shape:
        raise ValueError(f"forecast {path.shape} and label {actual.shape} differ")
    error = path - actual
    return {"mse": float(np.mean(error**2)), "mae": float(np.mean(np.abs(error)))}


def repeat_last(scaled: Float64Array, origins: IntArray, horizon: int, count: int) -> Float64Array:
    """(W, H, C) paths that repeat the last `count` values before and at each origin."""
    step = np.arange(horizon) % count - count + 1
    path: Float64Array = scaled[origins[:, None] + step]
    return path


def linear(
    scaled: Float64Array,
    parts: Mapping[str, range],
    window: WindowConfig,
    penalties: tuple[float, ...] = PENALTIES,
) -> Float64Array:
    """(W, H, C) test paths of a ridge regression on the past of the same column, one map for all columns."""
    rows, columns = scaled.shape
    # The product's ridge reads one bar of many features and pools symbols: here a column is a symbol, its past the
    # features. Rows before the first whole past stay zero and are no origin.
    lags = np.zeros((rows, columns, window.seq_len), dtype=np.float32)
    lags[window.seq_len - 1 :] = np.lib.stride_tricks.sliding_window_view(scaled, window.seq_len, axis=0)
    samples = make_samples(lags, scaled.astype(np.float32), np.zeros((rows, 0), dtype=np.float32), window)
    model = Ridge(Shape(window.seq_len, 0, window), RidgeConfig(penalties=penalties))
    model.fit(samples, samples.rows(parts["train"]), samples.rows(parts["valid"]), seed=0, progress=Silent())
    path = model.predict(samples, samples.rows(parts["test"]))
    return path.reshape(-1, columns, window.horizon).transpose(0, 2, 1)


def markdown(document: Mapping[str, Any]) -> str:
    """Return the table, and what is to be known beside it."""
    modes = document["modes"]
    (horizon,) = {told["settings"]["window.horizon"] for told in modes.values()}
    tested = ", ".join(f"{mode} {told['windows']['test']}" for mode, told in modes.items())
    lines = [
        f"{document['benchmark']}, {horizon} hours ahead, errors in scaled units over every test window ({tested}).",
        "",
        "| mode | forecast | past hours | MSE | MAE |",
        "|---|---|---:|---:|---:|",
    ]
    for line in document["table"]:
        figures = [_figure(line[key], line[f"{key}_spread"]) for key in ("mse", "mae")]
        lines.append(f"| {line['mode']} | {line['forecast']} | {line['past_hours']} | {' | '.join(figures)} |")
    for mode, told in modes.items():
        changes = told["differs_from_published"]
        if changes:
            listed = "; ".join(f"{name} {pair['here']}, not {pair['published']}" for name, pair in changes.items())
            lines += ["", f"{mode} is reduced, so it is not the published experiment: {listed}."]
    return "\n".join(lines)


def _figure(mean: float, spread: float | None) -> str:
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"


if __name__ == "__main__":
    main()

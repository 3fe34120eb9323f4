"""What large inputs need: memory to train on a million bars or on long windows, time to predict 100,000 paths.

    python benchmarks/scale.py                # all three, one after another, each in a process of its own
    python benchmarks/scale.py --only predict

Prints JSON. Every part ends with exit code 1 if it needs more memory than its bound.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from qtrade.features.scaler import Scaler
from qtrade.models.base import Shape
from qtrade.models.device import set_threads
from qtrade.models.neural import InformerModel
from qtrade.models.settings import InformerConfig, NeuralConfig, TrainConfig
from qtrade.progress import Silent
from qtrade.types import Features
from qtrade.windows import Rows, Samples, WindowConfig

MARKS = 5


def main() -> None:
    """Measure each part apart and print them together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(PARTS))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    set_threads(options.threads)
    if options.only:
        measured = PARTS[options.only]()
        measured["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        print(json.dumps(measured, indent=2))
        sys.exit(measured["peak_memory_mib"] > measured["bound_mib"])
    found, failed = {}, 0
    for part in PARTS:
        command = [sys.executable, __file__, "--only", part, "--threads", str(options.threads)]
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)
        failed |= outcome.returncode
        found[part] = json.loads(outcome.stdout) if outcome.stdout else outcome.stderr
    print(json.dumps({"torch": torch.__version__, "threads": options.threads, **found}, indent=2))
    sys.exit(failed)


def train_on_many_bars() -> dict[str, Any]:
    """From unscaled features to a fitted network on 1,000,000 bars of 60 features, windows from all over them."""
    bars, features, learned = 1_000_000, 60, 4096
    window = WindowConfig(seq_len=96, label_len=48, horizon=24)
    samples = _market(bars, features, window)
    model = _model(features, window, InformerConfig(), batch_size=64)
    origins = np.linspace(window.seq_len, bars - window.horizon - 1000, learned).astype(np.int64)
    fit = Rows(origins, np.zeros_like(origins))
    valid = samples.rows(range(bars - window.horizon - 300, bars - window.horizon - 44))
    started = time.perf_counter()
    model.fit(samples, fit, valid, seed=0, progress=Silent())
    return {
        "bars": bars,
        "features": features,
        "windows_per_second": learned / (time.perf_counter() - started),
        "bound_mib": 2000,
    }


def train_on_long_windows() -> dict[str, Any]:
    """Windows of 1440 bars at the published size, a batch of 8: sampled keys laid out would be 0.9 GB a layer."""
    window = WindowConfig(seq_len=1440, label_len=48, horizon=24)
    samples = _market(3000, 24, window)
    network = InformerConfig(d_model=512, n_heads=8, d_ff=2048)
    model = _model(24, window, network, batch_size=8)
    started = time.perf_counter()
    rows = samples.rows(range(1500, 1516))
    model.fit(samples, rows, samples.rows(range(1600, 1601)), seed=0, progress=Silent())
    return {
        "seq_len": 1440,
        "d_model": 512,
        "seconds_for_16_windows_and_validation": time.perf_counter() - started,
        "bound_mib": 4000,
    }


def predict_many_paths() -> dict[str, Any]:
    """Paths of 24 steps from 100,000 origins."""
    origins, features = 100_000, 24
    window = WindowConfig(seq_len=96, label_len=48, horizon=24)
    samples = _market(origins + 200, features, window)
    model = _model(features, window, InformerConfig(), batch_size=64)
    rows = samples.rows(range(100, 100 + origins))
    started = time.perf_counter()
    paths = model.predict(samples.without_target(), rows)
    seconds = time.perf_counter() - started
    assert paths.shape == (origins, 24)
    return {
        "origins": origins,
        "steps": 24,
        "seconds": seconds,
        "origins_per_second": origins / seconds,
        "rows_per_second": origins * 24 / seconds,
        "bound_mib": 2000,
    }


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "train_on_many_bars": train_on_many_bars,
    "train_on_long_windows": train_on_long_windows,
    "predict_many_paths": predict_many_paths,
}


def _market(bars: int, columns: int, window: WindowConfig) -> Samples:
    """Random features, scaled as a run scales them."""
    generator = np.random.default_rng(0)
    features = Features(
        values=generator.standard_normal((bars, 1, columns), dtype=np.float32),
        names=tuple(f"feature_{number}" for number in range(columns)),
        index=pd.date_range("2000-01-01", periods=bars, freq="min", tz="UTC"),
        symbols=("RANDOM",),
        warmup=0,
    )
    target = generator.normal(0, 0.001, (bars, 1))
    scaler = Scaler.fit(features, target, range(bars))
    return Samples(
        values=scaler.transform(features.values),
        marks=generator.uniform(-0.5, 0.5, (bars, MARKS)).astype(np.float32),
        future_marks=generator.uniform(-0.5, 0.5, (bars + window.horizon, MARKS)).astype(np.float32),
        future_start=np.arange(bars, dtype=np.int64) + 1,
        target=scaler.transform_target(target),
        window=window,
    )


def _model(features: int, window: WindowConfig, network: InformerConfig, batch_size: int) -> InformerModel:
    train = TrainConfig(epochs=1, batch_size=batch_size, device="cpu")
    return InformerModel(Shape(features, MARKS, window), NeuralConfig(network=network, train=train))


if __name__ == "__main__":
    main()

"""Train the Informer on markets of a known rule, and see whether the headline is the right one.

A small Informer walks forward through markets in which the volume foretells returns for ever (``control``), until the
relationship turns round (``flip``), or never (``rw``). The whole pipeline runs, as `qtrade train` does.

    python benchmarks/caveat_informer.py --seeds 5 --out benchmarks/results/caveat_informer.json
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from qtrade.config import RunConfig, load_config
from qtrade.data.cache import Cache
from qtrade.data.fetch import fetch
from qtrade.files import write_json
from qtrade.pipeline.evaluate import evaluate_run
from qtrade.pipeline.train import train_run
from qtrade.progress import Silent

RIGHT = {"control": "PASS", "flip": "FAIL", "rw": "INCONCLUSIVE"}
ENOUGH = 0.8
FEATURES = Path(__file__).with_name("signal_features.py")


def configured(symbol: str) -> RunConfig:
    """Return the configuration: a network of some 5,000 weights that reads twelve bars."""
    return load_config(
        None,
        [
            "preset=tiny",
            "baselines=[]",
            "data.source=synthetic",
            f"data.symbols=['{symbol}']",
            "features.set=none",
            f"features.module={FEATURES}",
            "window.seq_len=12",
            "window.label_len=4",
            "window.horizon=24",
            "split.mode=rolling",
            "split.train_size=4000",
            "split.valid_size=800",
            "split.step=1000",
            "informer.d_model=16",
            "informer.n_heads=2",
            "informer.d_ff=32",
            "informer.e_layers=1",
            "informer.dropout=0.2",
            "train.epochs=6",
            "train.patience=3",
            "train.batch_size=128",
            "train.learning_rate=3e-3",
        ],
    )


def main() -> int:
    """Print a line per market, and how many headlines were right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scenario", choices=tuple(RIGHT), action="append", help="one of them; repeatable")
    parser.add_argument("--out", type=Path, help="JSON file for what was found")
    options = parser.parse_args()
    told, poor = [], []
    for scenario in options.scenario or RIGHT:
        hits = 0
        for seed in range(options.seeds):
            started = time.perf_counter()
            symbol = f"{scenario}-{seed}"
            config = configured(symbol)
            with tempfile.TemporaryDirectory() as folder:
                cache = Cache(Path(folder) / "data_cache")
                fetch(config.data, cache=cache, progress=Silent()).require_all()
                run = train_run(config, runs=Path(folder) / "runs", cache=cache, progress=Silent())
                found = evaluate_run(run, progress=Silent())
            grades = {gate.code: gate.grade for gate in found.gates}
            ics = {one.horizon: one.correlation.ic for one in found.skill["informer"] if one.correlation}
            hits += found.verdict.headline == RIGHT[scenario]
            told.append({"market": symbol, "headline": found.verdict.headline, "gates": grades, "ic": ics})
            numbers = " ".join(f"IC{horizon} {ic:+.3f}" for horizon, ic in ics.items())
            marked = " ".join(
                f"{code} {grade}" for code, grade in grades.items() if grade not in ("PASS", "NOT MEASURED")
            )
            print(
                f"{symbol:10} {found.verdict.headline:13} {numbers}  {marked}  {time.perf_counter() - started:.0f} s",
                flush=True,
            )
        print(f"{scenario}: {hits} of {options.seeds} headlines are {RIGHT[scenario]}", flush=True)
        if hits < ENOUGH * options.seeds:
            poor.append(scenario)
    if options.out:
        write_json(options.out, {"markets": told, "missed": poor})
    return 1 if poor else 0


if __name__ == "__main__":
    sys.exit(main())

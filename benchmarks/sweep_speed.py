"""Time and memory of a sweep: 10,000 variants of a strategy on 5,000 bars, beside vectorbt doing the same.

    python benchmarks/sweep_speed.py                # all parts, one after another, each in a process of its own
    python benchmarks/sweep_speed.py --only sweep

Prints JSON. Parity comes first: accounts of the compiled loop must be those of vectorbt, with `Portfolio.from_orders`
called once for many columns, to 1e-9. Then both are timed on the same variants in the same run. `sweep` is the whole of
`qtrade sweep`, from opening the run to its page, table and ledger, in a process of its own. Ends with exit code 1 if it
needs more than 20 s or 4 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import vectorbt

from qtrade.backtest.costs import BacktestConfig
from qtrade.backtest.engine import simulate
from qtrade.backtest.many import simulate_many
from qtrade.config import load_config
from qtrade.data.cache import Cache
from qtrade.data.fetch import fetch
from qtrade.pipeline.axes import parse_axis
from qtrade.pipeline.sweep import sweep_run
from qtrade.pipeline.train import train_run
from qtrade.progress import Silent
from qtrade.strategy import load_strategy, strategy_folders
from qtrade.types import Bars, Float64Array

BARS, VARIANTS, COMPARED = 5_000, 10_000, 400
AXES = ("step=1:20:1", "threshold=0:0.00998:0.00002")
BOUNDS = {"seconds": 20.0, "peak_memory_mib": 4096}


def main() -> None:
    """Measure each part apart and print them together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(PARTS))
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        found = PARTS[options.only]()
        found["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found))
        return
    results: dict[str, Any] = {}
    for name in [options.only] if options.only else PARTS:
        command = [sys.executable, __file__, "--only", name, "--inside"]
        results[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    whole = results.get("sweep", {})
    if whole:
        whole["bounds"] = BOUNDS
    print(json.dumps(results, indent=2))
    if late := [key for key, most in BOUNDS.items() if whole.get(key, 0) > most]:
        sys.exit(f"over the bound: {', '.join(late)}")


def accounts() -> dict[str, Any]:
    """Trade the same variants in the compiled loop, in one call of vectorbt, and one at a time."""
    bars, config = market(), BacktestConfig()
    weights = variants(bars)
    simulate_many(bars, weights.__getitem__, 2, config)  # compiles
    columns(bars, weights[:2], config)
    frame = pd.DataFrame(weights[0], index=bars.index, columns=bars.close.columns)
    simulate(bars, frame, config)

    mine, loop = timed(lambda: simulate_many(bars, weights.__getitem__, COMPARED, config).net)
    theirs, at_once = timed(lambda: columns(bars, weights, config))
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-9)
    some = range(0, COMPARED, 20)
    alone, each = timed(
        lambda: [
            simulate(bars, pd.DataFrame(weights[one], index=bars.index, columns=bars.close.columns), config).net
            for one in some
        ]
    )
    np.testing.assert_allclose(mine[:, list(some)], np.column_stack(alone), rtol=0, atol=1e-9)
    return {
        "bars": BARS,
        "variants": COMPARED,
        "vectorbt_from_orders_over_ours": at_once / loop,
        "one_at_a_time_over_ours": each / len(some) * COMPARED / loop,
        "seconds_per_variant": loop / COMPARED,
    }


def sweep() -> dict[str, Any]:
    """Time the whole of a sweep of a trained run."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        config = load_config(
            None,
            [
                "data.source=synthetic",
                "data.symbols=control",
                "model=ridge",
                "baselines=[]",
                "data.synthetic.bars=7000",
            ],
        )
        cache = Cache(place / "cache")
        fetch(config.data, cache=cache, progress=Silent()).require_all()
        run = train_run(config, runs=place / "runs", cache=cache, progress=Silent())
        axes = [parse_axis(text) for text in AXES]
        strategy = load_strategy("forecast_sign", {}, strategy_folders())
        made, seconds = timed(lambda: sweep_run(run, strategy, axes, progress=Silent()))
    return {"bars": made.told["bars"], "variants": made.told["variants"], "seconds": seconds}


def market() -> Bars:
    """Make 5,000 daily bars of one symbol."""
    generator = np.random.default_rng(0)
    index = pd.date_range("2000-01-01", periods=BARS, tz="UTC")
    moves = np.exp(generator.normal(0, 0.01, (2 * BARS, 1)).cumsum(axis=0))
    opens, close = (pd.DataFrame(100 * moves[side::2], index=index, columns=["A"]) for side in (0, 1))
    return Bars(
        open=opens,
        high=opens.where(opens > close, close),
        low=opens.where(opens < close, close),
        close=close,
        volume=close * 0,
        interval="1d",
        calendar="24/7",
        periods_per_year=365,
    )


def variants(bars: Bars) -> Float64Array:
    """(V, T, 1) long, short or flat by a persistent signal and a threshold that grows from variant to variant."""
    generator = np.random.default_rng(1)
    signal = pd.Series(generator.normal(size=len(bars))).ewm(halflife=5).mean().to_numpy()
    thresholds = np.linspace(0, 2 * signal.std(), COMPARED)[:, None]
    direction = (signal > thresholds).astype(float) - (signal < -thresholds)
    return np.asarray(direction[:, :, None])


def columns(bars: Bars, weights: Float64Array, config: BacktestConfig) -> Float64Array:
    """(T, V) net returns as vectorbt makes them, each variant a column of one portfolio."""
    delayed = np.zeros(weights.shape[:2]).T
    delayed[config.delay :] = weights[:, : -config.delay, 0].T
    changed = np.diff(delayed, axis=0, prepend=0.0) != 0
    close, opens = (np.repeat(frame.to_numpy(), len(weights), axis=1) for frame in (bars.close, bars.open))
    portfolio = vectorbt.Portfolio.from_orders(
        pd.DataFrame(close, index=bars.index),
        size=np.where(changed, delayed, np.nan),
        size_type="targetpercent",
        price=opens,
        val_price=opens,
        fees=config.costs.fees,
        slippage=config.costs.slippage,
        init_cash=config.cash,
        freq="1D",
    )
    value = portfolio.value().to_numpy()
    return np.asarray(value / np.vstack([np.full(value.shape[1], config.cash), value[:-1]]) - 1)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what the work returns, and the seconds it took."""
    start = time.perf_counter()
    found = work()
    return found, time.perf_counter() - start


PARTS: dict[str, Callable[[], dict[str, Any]]] = {"accounts": accounts, "sweep": sweep}


if __name__ == "__main__":
    main()

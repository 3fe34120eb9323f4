"""Time and memory of data at size: a million one-minute bars, and five hundred symbols.

    python benchmarks/data_speed.py                 # all parts, one after another, each in a process of its own
    python benchmarks/data_speed.py --only minutes

Prints JSON. Every number is beside what it is compared with in the same run: loading beside reading the same Parquet
file with pandas, features beside the same ones of a tenth of the bars, indicators beside `ta`'s own loops. Results are
compared before anything is timed. Ends with exit code 1 if a part needs more time or memory than its bound.
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
import ta

from qtrade.data.cache import Cache
from qtrade.data.config import DataConfig
from qtrade.data.load import load_bars
from qtrade.data.quality import examine
from qtrade.data.raw import RawBars
from qtrade.features.build import FeatureConfig, build
from qtrade.types import Bars

MINUTES = 1_000_000
SYMBOLS, DAYS = 500, 5_000


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
    print(json.dumps(results, indent=2))
    late = [f"{name}: {key}" for name, found in results.items() for key in exceeded(found)]
    if late:
        sys.exit(f"over the bound: {', '.join(late)}")


def exceeded(found: dict[str, Any]) -> list[str]:
    """Name what is larger than its bound."""
    return [key for key, bound in found["bounds"].items() if found[key] > bound]


def minutes() -> dict[str, Any]:
    """Load a million one-minute bars from the cache, examine them, and compute the default features."""
    with TemporaryDirectory() as folder:
        cache = Cache(Path(folder))
        raw = market("A", MINUTES, "1min", "1m", seed=0)
        path = cache.write(raw)
        config = DataConfig(source="yahoo", symbols=("A",), interval="1m")
        plain, frame = timed(lambda: pd.read_parquet(path))
        loading, loaded = timed(lambda: load_bars(config, cache))
        assert np.array_equal(loaded.bars.close["A"].to_numpy(), frame["close"].to_numpy()), "loaded bars differ"
    examining, findings = timed(lambda: examine(raw))
    assert findings == (), "a clean market has findings"
    bars = loaded.bars
    tenth = first_rows(bars, MINUTES // 10)
    short, part = timed(lambda: build(tenth, FeatureConfig()))
    building, whole = timed(lambda: build(bars, FeatureConfig()))
    settled = slice(part.features.warmup, len(tenth))
    same = np.allclose(whole.features.values[settled], part.features.values[settled], rtol=1e-5, atol=1e-6)
    assert same, "features of the first bars depend on later ones"
    return {
        "bars": MINUTES,
        "features": len(whole.features.names),
        "read_parquet_seconds": plain,
        "load_seconds": loading,
        "load_over_read_parquet": loading / plain,
        "examine_seconds": examining,
        "features_seconds": building,
        "features_of_a_tenth_seconds": short,
        "features_over_ten_tenths": building / (10 * short),
        "bounds": {"load_seconds": 1.0, "features_seconds": 5.0, "peak_memory_mib": 3072},
    }


def symbols() -> dict[str, Any]:
    """Load five hundred symbols of daily bars and compute the default features."""
    with TemporaryDirectory() as folder:
        cache = Cache(Path(folder))
        names = tuple(f"S{number:03d}" for number in range(SYMBOLS))
        for number, name in enumerate(names):
            cache.write(market(name, DAYS, "1D", "1d", seed=number))
        config = DataConfig(source="yahoo", symbols=names)
        loading, loaded = timed(lambda: load_bars(config, cache))
    building, built = timed(lambda: build(loaded.bars, FeatureConfig()))
    one = build(Bars(**columns(loaded.bars, names[7])), FeatureConfig())
    same = np.array_equal(built.features.values[:, 7], one.features.values[:, 0], equal_nan=True)
    assert same, "features of a symbol depend on those beside it"
    return {
        "symbols": SYMBOLS,
        "bars": DAYS,
        "load_seconds": loading,
        "features_seconds": building,
        "seconds": loading + building,
        "bounds": {"seconds": 60.0, "peak_memory_mib": 6144},
    }


def indicators() -> dict[str, Any]:
    """Compare Wilder's indicators, which `ta` loops over, with ours."""
    from qtrade.features.market import Market

    bars = load_one(market("A", 20_000, "1h", "1h", seed=1))
    high, low, close = (getattr(bars, name)["A"] for name in ("high", "low", "close"))
    found: dict[str, Any] = {"bars": len(bars), "bounds": {}}

    theirs, expected = timed(lambda: ta.trend.ADXIndicator(high, low, close, window=14).adx())
    ours, adx = timed(lambda: Market.of(bars, 0).directional.adx)
    # `ta` starts the average elsewhere; what it starts with has faded after 300 bars.
    assert np.allclose(100 * adx.iloc[300:], expected.iloc[300:], rtol=1e-6), "ADX differs"
    found["adx_over_ta"] = ours / theirs
    theirs, expected = timed(lambda: ta.volatility.AverageTrueRange(high, low, close, window=14).average_true_range())
    ours, atr = timed(lambda: Market.of(bars, 0).average_true_range())
    assert np.allclose((atr * close).iloc[300:], expected.iloc[300:], rtol=1e-6), "ATR differs"
    found["atr_over_ta"] = ours / theirs
    return found


def market(symbol: str, rows: int, freq: str, interval: str, *, seed: int) -> RawBars:
    """Make a random walk that is always open."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.0005, rows)))
    opened = np.concatenate([[100.0], close[:-1]])
    top, bottom = np.maximum(opened, close), np.minimum(opened, close)
    spread = np.exp(np.abs(rng.normal(0, 0.0002, (2, rows))))
    frame = pd.DataFrame(
        {
            "open": opened,
            "high": top * spread[0],
            "low": bottom / spread[1],
            "close": close,
            "volume": rng.lognormal(3, 1, rows),
            "dividends": 0.0,
            "splits": 0.0,
        },
        index=pd.date_range("2001-01-01", periods=rows, freq=freq, tz="UTC", unit="ns"),
    )
    return RawBars(symbol, "yahoo", interval, "24/7", "UTC", frame)


def load_one(raw: RawBars) -> Bars:
    """Send bars through the cache."""
    with TemporaryDirectory() as folder:
        cache = Cache(Path(folder))
        cache.write(raw)
        return load_bars(DataConfig(source="yahoo", symbols=(raw.symbol,), interval=raw.interval), cache).bars


def columns(bars: Bars, symbol: str) -> dict[str, Any]:
    """Fields of `Bars` for one of the symbols."""
    frames = {name: getattr(bars, name)[[symbol]] for name in ("open", "high", "low", "close", "volume")}
    same = {name: getattr(bars, name) for name in ("interval", "calendar", "periods_per_year")}
    return {**frames, **same}


def first_rows(bars: Bars, rows: int) -> Bars:
    """Cut bars off."""
    fields = columns(bars, bars.symbols[0])
    return Bars(**{name: value.iloc[:rows] if hasattr(value, "iloc") else value for name, value in fields.items()})


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Do it twice; seconds of the faster turn, and what came of it."""
    best = float("inf")
    for _ in range(2):
        started = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - started)
    return best, result


PARTS: dict[str, Callable[[], dict[str, Any]]] = {"minutes": minutes, "symbols": symbols, "indicators": indicators}

if __name__ == "__main__":
    main()

"""What this machine offers qtrade, and what is missing."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from qtrade import __version__

PACKAGES = ("torch", "numpy", "pandas", "vectorbt", "ta", "yfinance", "matplotlib", "pyarrow", "arch")


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what is there, and what is wrong with it ("" if nothing)."""

    what: str
    found: str
    problem: str = ""


def examine(cache: Path) -> list[Finding]:
    """Look at the versions, the device, the threads and the cache."""
    return [
        Finding("qtrade", __version__),
        Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", _python()),
        *(_package(name) for name in PACKAGES),
        Finding("backtest engine", "Rust" if find_spec("vectorbt_rust") else "numba (extra `rust` not installed)"),
        *_device(),
        Finding("CPU cores", str(os.cpu_count())),
        _cache(cache),
    ]


def _python() -> str:
    return "" if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed"


def _package(name: str) -> Finding:
    try:
        return Finding(name, version(name))
    except PackageNotFoundError:
        return Finding(name, "not installed", f"install it: python -m pip install {name}")


def _device() -> list[Finding]:
    if not find_spec("torch"):
        return []
    from qtrade.models.device import describe_device

    device, threads = describe_device()
    return [Finding("device", device), Finding("threads", str(threads))]


def _cache(cache: Path) -> Finding:
    if not cache.exists():
        return Finding("cache", f"{cache} (not there yet)")
    entries = sum(1 for _ in cache.glob("*/*/*.json"))
    problem = "" if os.access(cache, os.W_OK) else "the folder cannot be written to"
    return Finding("cache", f"{cache}, {entries} entr{'y' if entries == 1 else 'ies'}", problem)

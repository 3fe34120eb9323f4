"""The device networks run on: which one, with how many threads, at what precision."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from qtrade.errors import UsageError


def choose_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `mps` into a device that is there.

    Raises
    ------
    UsageError
        If the device asked for is not available.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if not available[name]:
        raise UsageError(
            f"device '{name}' is not available",
            why=f"this PyTorch ({torch.__version__}) finds no such device",
            fix="set train.device to 'auto' or 'cpu'; `qtrade doctor` shows what there is",
        )
    return torch.device(name)


def set_threads(count: int) -> int:
    """Let PyTorch use `count` CPU threads, and return how many it used before.

    Sums are split by thread, so a result depends on their number in its last bit.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    return before


def torch_version() -> str:
    """Version of PyTorch, without the name of its build: another version may round otherwise."""
    return torch.__version__.partition("+")[0]


def describe_device() -> tuple[str, int]:
    """Name the device that `auto` chooses, and count the CPU threads PyTorch uses."""
    device = choose_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return name, torch.get_num_threads()


@contextmanager
def fast_products(device: torch.device, *, mixed: bool) -> Iterator[None]:
    """On a CPU, multiply matrices with oneDNN in place of MKL, which takes twice as long on other makers' processors.

    oneDNN is what PyTorch uses where bfloat16 is allowed. It makes use of that where there are matrix units (AMX);
    elsewhere its products are in single precision.
    """
    settings: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = settings.fp32_precision
    if mixed and device.type == "cpu":
        settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


def half_precision(device: torch.device, *, mixed: bool) -> torch.autocast:
    """On a CUDA card that has bfloat16, multiply matrices in it; elsewhere nothing."""
    enabled = mixed and device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next step, which asks for as much again, in place of the kernel.

    Handing it back and asking anew made the kernel clear every page of every activation, a tenth of the time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # another C library, or Windows
    trim_threshold, mmap_threshold = -1, -3  # <malloc.h>
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(mmap_threshold, 2**25)

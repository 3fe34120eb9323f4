"""What PyTorch leaves untyped, typed: what modules, functions of autograd and operators return."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def tensor(x: Any) -> Tensor:
    """Name the type of what a module returns."""
    assert isinstance(x, Tensor)
    return x


def apply(function: Any, *args: object) -> Tensor:
    """Call a `torch.autograd.Function` that returns one tensor."""
    return tensor(function.apply(*args))

"""Dropout whose random numbers do not dominate training on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from qtrade.models.typed import apply, tensor


class Dropout(nn.Module):
    """Set a share `p` of the inputs to zero and scale the rest up, while training.

    On a CPU, PyTorch draws one Bernoulli variate per element, which took a fifth of Informer's training time. Here one
    64-bit draw of a fast generator serves eight elements, so that `p` is rounded to a multiple of 1/256; the scale uses
    the rounded value and the expectation is exact. The generator is seeded from PyTorch's own, so `torch.manual_seed`
    decides everything. On other devices this is PyTorch's dropout.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.threshold = min(max(round(p * 256), 1), 255) if p > 0 else 0

    @property
    def active(self) -> bool:
        """Whether anything is dropped now."""
        return self.training and self.threshold > 0

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with elements dropped in training, `x` itself otherwise."""
        if not self.active:
            return x
        if x.device.type != "cpu":
            return functional.dropout(x, self.p)
        return apply(_Drop, x, self.threshold)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Return ``x + dropout(y)``, in one pass over the two on a CPU."""
        if not self.active or x.device.type != "cpu":
            return x + tensor(self(y))
        return apply(_AddDropped, x, y, self.threshold)

    def extra_repr(self) -> str:
        """Show the share in the module's representation."""
        return f"p={self.p}"


class Mask:
    """What a dropout keeps: a random byte per element, and how to turn some of them into factors.

    Bytes are kept for the way back in place of factors, at a quarter of their size.
    """

    PIECE = 2**18
    """Factors made at a time, few enough to stay in a processor's cache until they are used."""

    def __init__(self, count: int, threshold: int) -> None:
        seed = int(torch.randint(2**62, ()).item())
        draws = np.random.Generator(np.random.SFC64(seed)).integers(2**64, size=-(-count // 8), dtype=np.uint64)
        self.bytes = torch.from_numpy(draws.view(np.uint8))[:count]
        self.threshold = threshold
        self.scale = 256 / (256 - threshold)

    def kept(self, part: slice, out: Tensor) -> Tensor:
        """Write 1 where an element of `part` is kept and 0 where it is dropped into `out`, flat or not."""
        # Comparing straight into floats is one vectorised pass; by way of a boolean tensor it takes ten times as long.
        torch.ge(self.bytes[part].view(out.shape), self.threshold, out=out)
        return out

    def pieces(self, like: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Every part of a flat tensor, with the `kept` of its elements, which the next one overwrites."""
        scratch = torch.empty(self.PIECE, dtype=like.dtype)
        for start in range(0, len(self.bytes), self.PIECE):
            part = slice(start, min(start + self.PIECE, len(self.bytes)))
            yield part, self.kept(part, scratch[: part.stop - part.start])


class _Drop(torch.autograd.Function):
    """Dropout of bytes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: int) -> Tensor:
        ctx.mask = Mask(x.numel(), threshold)
        return _masked(x, ctx.mask)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _masked(grads[0], ctx.mask), None


class _AddDropped(torch.autograd.Function):
    """Sum of one tensor and the dropout of another."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, threshold: int) -> Tensor:
        ctx.mask = mask = Mask(y.numel(), threshold)
        total = torch.empty_like(y, memory_format=torch.contiguous_format)
        one, other, out = x.reshape(-1), y.reshape(-1), total.view(-1)
        for part, kept in mask.pieces(one):
            torch.addcmul(one[part], other[part], kept, value=mask.scale, out=out[part])
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        return grads[0], _masked(grads[0], ctx.mask), None


def _masked(x: Tensor, mask: Mask) -> Tensor:
    """Multiply by 0 where `mask` drops and by its scale where it keeps."""
    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    flat, out = x.reshape(-1), result.view(-1)
    for part, kept in mask.pieces(flat):
        torch.mul(flat[part], kept.mul_(mask.scale), out=out[part])
    return result

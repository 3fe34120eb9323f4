"""Dropout whose random numbers do not dominate training on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


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

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with elements dropped in training, `x` itself otherwise."""
        if not self.training or self.threshold == 0:
            return x
        if x.device.type != "cpu":
            return functional.dropout(x, self.p)
        dropped: Tensor = _ByteDropout.apply(x, self.threshold)  # type: ignore[no-untyped-call]
        return dropped

    def extra_repr(self) -> str:
        """Show the share in the module's representation."""
        return f"p={self.p}"


class _ByteDropout(torch.autograd.Function):
    """Multiply by a mask that is kept for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: int) -> Tensor:
        # Comparing straight into floats is one vectorised pass; by way of a boolean tensor it takes ten times as long.
        mask = torch.empty_like(x)
        torch.ge(_random_bytes(x.numel()).view(x.shape), threshold, out=mask)
        mask.mul_(256 / (256 - threshold))
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return grads[0] * mask, None


def _random_bytes(count: int) -> Tensor:
    """(count,) uniform uint8; eight from each draw of a counter-seeded SFC64."""
    seed = int(torch.randint(2**62, ()).item())
    draws = np.random.Generator(np.random.SFC64(seed)).integers(2**64, size=-(-count // 8), dtype=np.uint64)
    return torch.from_numpy(draws.view(np.uint8))[:count]

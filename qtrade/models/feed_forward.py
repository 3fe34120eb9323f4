"""The feed-forward block, a few positions at a time.

Its inner width is the largest thing in the network: four times that of its input and output by custom. On a CPU, one
pass over it for every operation costs more than the arithmetic; a few positions at a time never leave the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from qtrade.models.dropout import Dropout, Mask
from qtrade.models.typed import apply, tensor


class FeedForward(nn.Module):
    """Two linear layers at every position (kernel-1 convolutions in the paper), added to their input.

    Parameters
    ----------
    width, inner
        Numbers per position outside and between the layers.
    activation
        "gelu" or "relu".
    dropout
        Share dropped after each layer, in training.
    """

    def __init__(self, width: int, inner: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.widen = nn.Linear(width, inner)
        self.narrow = nn.Linear(inner, width)
        self.activation = activation
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            inner = self.dropout(_activate(self.widen(x), self.activation))
            return self.dropout.add(x, self.narrow(inner))
        weights = (self.widen.weight, self.widen.bias, self.narrow.weight, self.narrow.bias)
        threshold = self.dropout.threshold if self.dropout.active else 0
        return apply(_FeedForward, x.flatten(0, 1), *weights, self.activation, threshold).view(x.shape)


class _FeedForward(torch.autograd.Function):
    """`FeedForward` on (N, D) positions with its gradient written out."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, wide: Tensor, wide_bias: Tensor, narrow: Tensor, narrow_bias: Tensor, name: str, drop: int
    ) -> Tensor:
        width = len(wide)
        inner = []
        y = torch.empty_like(x)
        masks = (Mask(len(x) * width, drop), Mask(x.numel(), drop)) if drop else None
        # Scaling the weights is scaling what is kept, and they are few.
        scaled = narrow * masks[0].scale if masks else narrow
        for part in _parts(x, width):
            before = functional.linear(x[part], wide, wide_bias)
            after = _activate(before, name)
            if masks is None:
                torch.add(x[part], functional.linear(after, scaled, narrow_bias), out=y[part])
            else:
                after.mul_(_kept(masks[0], part, after))
                result = functional.linear(after, scaled, narrow_bias)
                torch.addcmul(x[part], result, _kept(masks[1], part, result), value=masks[1].scale, out=y[part])
            if any(ctx.needs_input_grad):
                inner.append((before, after))
        ctx.save_for_backward(x, wide, narrow)
        ctx.inner, ctx.masks, ctx.name = inner, masks, name
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, wide, narrow = ctx.saved_tensors
        masks, name = ctx.masks, ctx.name
        scale = masks[0].scale if masks else 1.0
        scaled = narrow * scale
        above = grads[0].contiguous()
        by_x = torch.empty_like(x)
        by_wide, by_narrow = torch.zeros_like(wide), torch.zeros_like(narrow)
        by_wide_bias, by_narrow_bias = wide.new_zeros(len(wide)), wide.new_zeros(len(narrow))
        for (before, after), part in zip(ctx.inner, _parts(x, len(wide)), strict=True):
            grad = above[part]
            if masks:
                grad = _kept(masks[1], part, grad).mul_(masks[1].scale).mul_(grad)
            by_narrow.addmm_(grad.t(), after, alpha=scale)
            by_narrow_bias += grad.sum(dim=0)
            by_after = grad @ scaled
            if masks:
                by_after.mul_(_kept(masks[0], part, by_after))
            by_before = _activation_gradient(by_after, before, name)
            by_wide.addmm_(by_before.t(), x[part])
            by_wide_bias += by_before.sum(dim=0)
            torch.addmm(above[part], by_before, wide, out=by_x[part])
        return by_x, by_wide, by_wide_bias, by_narrow, by_narrow_bias, None, None


def _parts(x: Tensor, width: int) -> Iterator[slice]:
    """Positions whose inner activations fit the cache, but enough of them for the matrices to be worth reading."""
    step = max(2**19 // width, 1024)
    return (slice(start, min(start + step, len(x))) for start in range(0, len(x), step))


def _kept(mask: Mask, part: slice, like: Tensor) -> Tensor:
    """Factors 0 and 1 of the rows `part` of a matrix."""
    columns = like.shape[1]
    return mask.kept(slice(part.start * columns, part.stop * columns), torch.empty_like(like))


def _activate(x: Tensor, name: str) -> Tensor:
    return functional.gelu(x) if name == "gelu" else functional.relu(x)


def _activation_gradient(above: Tensor, x: Tensor, name: str) -> Tensor:
    if name == "gelu":
        return tensor(torch.ops.aten.gelu_backward(above, x))
    return tensor(torch.ops.aten.threshold_backward(above, x, 0))

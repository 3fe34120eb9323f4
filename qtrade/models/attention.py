"""Attention of the Informer: ProbSparse and full, a few windows at a time.

What attention computes on the way is far larger than what goes in or comes out. Taken a few windows at a time it stays
in a processor's cache and within bounds of memory; the numbers do not depend on how many are taken.

Shapes: B windows, L positions, A heads of width E, P = pairs of window and head, U active queries.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from qtrade.models.dropout import Dropout, Mask
from qtrade.models.typed import apply, tensor


def sparse_count(length: int, factor: int) -> int:
    """Count the queries kept, and keys sampled, of `length`: ``min(factor * ceil(ln length), length)``, at least 1."""
    return max(1, min(factor * math.ceil(math.log(length)), length))


def sample_keys(queries: int, keys: int, factor: int, generator: torch.Generator | None) -> Tensor:
    """Draw (queries, U) key positions uniformly with replacement, a row for every query."""
    device = generator.device if generator is not None else None
    return torch.randint(keys, (queries, sparse_count(keys, factor)), generator=generator, device=device)


def prob_sparse_attention(projected: Tensor, sample: Tensor | None, factor: int, *, causal: bool) -> Tensor:
    """Attend fully from the queries that stand out; give every other one the mean value (causal: the running sum).

    Zhou et al. (2021), section 3.1, with the details of the authors' code: a query's sparsity is the maximum minus the
    mean of its unscaled scores with the sampled keys, the sum being divided by the number of *all* keys; the running
    sum is not divided. Ranking needs no gradient.

    Parameters
    ----------
    projected
        (B, L, 3, A, E) queries, keys and values.
    sample
        (L, U) key positions per query, or None to rank by all keys.
    factor
        ProbSparse factor c.
    causal
        Whether query i may only see keys up to i.

    Returns
    -------
    (B, L, A, E).
    """
    return apply(_ProbSparse, projected, sample, factor, causal)


def prob_sparse_map(projected: Tensor, sample: Tensor | None, factor: int) -> Tensor:
    """Weights of `prob_sparse_attention`, not causal: (B, A, L, L), query by key; 1 / L from the idle queries."""
    batch, length, _, heads, _ = projected.shape
    query, key, _ = _apart(projected)
    top, weights = _attend(query, key, sample, factor, causal=False)
    everything = weights.new_full((batch * heads, length, length), 1 / length)
    everything.scatter_(1, top[..., None].expand(-1, -1, length), weights)
    return everything.view(batch, heads, length, length)


def full_map(projected: Tensor) -> Tensor:
    """Weights of full attention, not causal: (B, A, L, L), query by key."""
    batch, length, _, heads, width = projected.shape
    query, key, _ = _apart(projected)
    weights = (query / math.sqrt(width) @ key.transpose(1, 2)).softmax(dim=-1)
    return weights.view(batch, heads, length, length)


def full_attention(query: Tensor, memory: Tensor, dropout: Dropout, *, causal: bool) -> Tensor:
    """Attend from every position to every key, dropping some of the weights in training.

    Parameters
    ----------
    query
        (B, L, A, E).
    memory
        (B, L', 2, A, E) keys and values.
    dropout
        Of the weights.
    causal
        Whether query i may only see keys up to i.

    Returns
    -------
    (B, L, A, E).
    """
    if query.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        key, value = memory.permute(2, 0, 3, 1, 4)
        share = dropout.p if dropout.training else 0.0
        fused = functional.scaled_dot_product_attention
        return fused(query.transpose(1, 2), key, value, dropout_p=share, is_causal=causal).transpose(1, 2)
    threshold = dropout.threshold if dropout.active else 0
    return apply(_Full, query, memory, threshold, causal)


def sparsity(query: Tensor, key: Tensor, sample: Tensor | None) -> Tensor:
    """How far each query's largest score stands out from the rest, (P, L), of (P, L, E) queries and keys.

    Where all scores are fewer numbers than the sampled keys would be, they are computed and the sample is taken from
    them, which multiplies matrices instead of vectors; otherwise the sampled keys are laid out beside their queries.
    """
    pairs, length, width = query.shape
    measure = query.new_empty(pairs, length)
    all_scores = sample is None or length <= sample.shape[1] * width
    per_query = length if sample is None or all_scores else sample.shape[1] * width
    for part in pieces(pairs, length * per_query, query.device):
        for rows in pieces(length, (part.stop - part.start) * per_query, query.device):
            some = query[part, rows]
            if sample is None:
                scores = some @ key[part].transpose(1, 2)
                measure[part, rows] = scores.amax(dim=-1) - scores.sum(dim=-1) / length
                continue
            drawn = sample[rows]
            if all_scores:
                index = _widened(drawn).expand(len(some), -1, -1)
                scores = (some @ key[part].transpose(1, 2)).gather(-1, index)
            else:
                beside = key[part].index_select(1, drawn.flatten()).view(*some.shape[:2], -1, width)
                scores = (beside @ some[..., None]).squeeze(-1)
            measure[part, rows] = scores.amax(dim=-1) - scores[..., : drawn.shape[1]].sum(dim=-1) / length
    return measure


def pieces(count: int, size: int, device: torch.device) -> Iterator[slice]:
    """Cut `count` things of `size` numbers each into slices that fit a processor's cache, or a good part of a GPU."""
    budget = 2**21 if device.type == "cpu" else 2**27
    step = max(1, budget // max(size, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


class _ProbSparse(torch.autograd.Function):
    """`prob_sparse_attention` with its gradient written out, which keeps the active rows only."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, sample: Tensor | None, factor: int, causal: bool) -> Tensor:
        batch, length, _, heads, width = projected.shape
        context = projected.new_empty(batch, length, heads, width)
        chosen = []
        with torch.autocast(projected.device.type, enabled=False):
            for part in pieces(batch, heads * length * length, projected.device):
                query, key, value = _apart(projected[part])
                top, weights = _attend(query, key, sample, factor, causal=causal)
                idle = projected[part, :, 2]
                context[part] = _running_sum(idle) if causal else idle.mean(dim=1, keepdim=True)
                where = _places(top, heads, width)
                context[part].scatter_(1, where, _by_position(weights @ value, heads))
                chosen.append((top, weights))
        ctx.save_for_backward(projected)
        ctx.chosen, ctx.causal = chosen, causal
        return context

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (projected,) = ctx.saved_tensors
        batch, length, _, heads, width = projected.shape
        whole = torch.empty_like(projected)
        parts = pieces(batch, heads * length * length, projected.device)
        for part, (top, weights) in zip(parts, ctx.chosen, strict=True):
            query, key, value = _apart(projected[part])
            where, above = _places(top, heads, width), grads[0][part]
            gathered = above.gather(1, where)
            active = gathered.transpose(1, 2).reshape(-1, top.shape[1], width)
            by_query, by_key, by_value = whole[part].unbind(2)
            if ctx.causal:
                # Value j went into every idle position from j on.
                idle = above.scatter(1, where, 0.0)
                torch.sub(idle.sum(dim=1, keepdim=True) + idle, _running_sum(idle), out=by_value)
            else:
                by_value.copy_((above.sum(dim=1, keepdim=True) - gathered.sum(dim=1, keepdim=True)) / length)
            by_value += _by_position(weights.transpose(1, 2) @ active, heads)
            by_score = _softmax_gradient(active @ value.transpose(1, 2), weights).div_(math.sqrt(width))
            by_query.zero_().scatter_(1, where, _by_position(by_score @ key, heads))
            asking = query.gather(1, top[..., None].expand(-1, -1, width))
            by_key.copy_(_by_position(by_score.transpose(1, 2) @ asking, heads))
        return whole, None, None, None


def _places(top: Tensor, heads: int, width: int) -> Tensor:
    """Positions (P, U) as an index (B, U, A, E) along the second axis."""
    return top.view(-1, heads, top.shape[1]).transpose(1, 2)[..., None].expand(-1, -1, -1, width)


def _by_position(x: Tensor, heads: int) -> Tensor:
    """(P, L, E) to a view (B, L, A, E)."""
    return x.view(-1, heads, *x.shape[1:]).transpose(1, 2)


class _Full(torch.autograd.Function):
    """`full_attention` on a CPU: PyTorch's fused one multiplies matrices too small for oneDNN there, one by one."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, memory: Tensor, threshold: int, causal: bool) -> Tensor:
        batch, length, heads, width = query.shape
        keys = memory.shape[1]
        context = torch.empty_like(query, memory_format=torch.contiguous_format)
        kept = []
        for part in pieces(batch, heads * length * keys, query.device):
            some = query[part].transpose(1, 2).reshape(-1, length, width)
            key, value = memory[part].permute(2, 0, 3, 1, 4).reshape(2, -1, keys, width)
            scores = (some / math.sqrt(width)) @ key.transpose(1, 2)
            if causal:
                scores = scores.masked_fill(torch.ones(scores.shape[1:], dtype=torch.bool).triu(1), -math.inf)
            weights = scores.softmax(dim=-1)
            mask = Mask(weights.numel(), threshold) if threshold else None
            context[part] = _by_position(_dropped(weights, mask) @ value, heads)
            kept.append((weights, mask))
        ctx.save_for_backward(query, memory)
        ctx.kept = kept
        return context

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        query, memory = ctx.saved_tensors
        batch, length, heads, width = query.shape
        keys = memory.shape[1]
        by_query = torch.empty_like(query, memory_format=torch.contiguous_format)
        by_memory = torch.empty_like(memory, memory_format=torch.contiguous_format)
        parts = pieces(batch, heads * length * keys, query.device)
        for part, (weights, mask) in zip(parts, ctx.kept, strict=True):
            some = query[part].transpose(1, 2).reshape(-1, length, width)
            key, value = memory[part].permute(2, 0, 3, 1, 4).reshape(2, -1, keys, width)
            above = grads[0][part].transpose(1, 2).reshape(-1, length, width)
            by_value = _dropped(weights, mask).transpose(1, 2) @ above
            by_weight = _dropped(above @ value.transpose(1, 2), mask)
            by_score = _softmax_gradient(by_weight, weights) / math.sqrt(width)
            by_query[part] = _by_position(by_score @ key, heads)
            for number, grad in enumerate((by_score.transpose(1, 2) @ some, by_value)):
                by_memory[part, :, number] = _by_position(grad, heads)
        return by_query, by_memory, None, None


def _dropped(x: Tensor, mask: Mask | None) -> Tensor:
    if mask is None:
        return x
    return mask.kept(slice(0, x.numel()), torch.empty_like(x)).mul_(mask.scale).mul_(x)


def _softmax_gradient(above: Tensor, weights: Tensor) -> Tensor:
    """Gradient by the scores of which `weights` are the softmax."""
    return tensor(torch.ops.aten._softmax_backward_data(above, weights, -1, weights.dtype))


def _apart(projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, L, 3, A, E) to three of (P, L, E)."""
    _, length, _, _, width = projected.shape
    query, key, value = projected.permute(2, 0, 3, 1, 4).reshape(3, -1, length, width)
    return query, key, value


def _attend(query: Tensor, key: Tensor, sample: Tensor | None, factor: int, *, causal: bool) -> tuple[Tensor, Tensor]:
    """Positions of the active queries, (P, U), and their weights on all keys, (P, U, L)."""
    length, width = query.shape[1:]
    top = sparsity(query, key, sample).topk(sparse_count(length, factor), dim=-1, sorted=False).indices
    active = query.gather(1, top[..., None].expand(-1, -1, width)) / math.sqrt(width)
    scores = active @ key.transpose(1, 2)
    if causal:
        scores = scores.masked_fill(torch.arange(length, device=query.device) > top[..., None], -math.inf)
    return top, scores.softmax(dim=-1)


def _running_sum(x: Tensor) -> Tensor:
    """Sum over positions up to each, of half-precision numbers in single precision."""
    return x.cumsum(dim=1, dtype=torch.promote_types(x.dtype, torch.float32)).to(x.dtype)


def _widened(sample: Tensor) -> Tensor:
    """Repeat drawn keys until their number is a multiple of 16, over which a CPU finds maxima ten times as fast.

    A repeated key leaves the maximum as it is; the sum is taken over the keys drawn.
    """
    spare = -sample.shape[1] % 16
    repeats = sample.repeat(1, -(-spare // sample.shape[1]))[:, :spare]
    return torch.cat((sample, repeats), dim=1)

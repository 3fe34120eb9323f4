"""Attention against slow, obvious versions of it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from qtrade.models import attention
from qtrade.models.attention import (
    full_attention,
    full_map,
    prob_sparse_attention,
    prob_sparse_map,
    sample_keys,
    sparse_count,
    sparsity,
)
from qtrade.models.dropout import Dropout


def obvious_prob_sparse(q: Tensor, k: Tensor, v: Tensor, sample: Tensor, factor: int, *, causal: bool) -> Tensor:
    """ProbSparse attention one query at a time, straight from the paper's algorithm 1 and the authors' code."""
    batch, heads, length, width = q.shape
    out = torch.empty_like(v)
    for b in range(batch):
        for h in range(heads):
            measure = []
            for i in range(length):
                products = [(q[b, h, i] @ k[b, h, j]).item() for j in sample[i]]
                measure.append(max(products) - sum(products) / length)
            active = sorted(range(length), key=lambda i: -measure[i])[: sparse_count(length, factor)]
            for i in range(length):
                seen = v[b, h, : i + 1] if causal else v[b, h]
                out[b, h, i] = seen.sum(dim=0) if causal else seen.mean(dim=0)
                if i in active:
                    stop = i + 1 if causal else length
                    share = torch.softmax(k[b, h, :stop] @ q[b, h, i] / math.sqrt(width), dim=0)
                    out[b, h, i] = share @ v[b, h, :stop]
    return out


def project(length: int, seed: int = 0, batch: int = 2, heads: int = 2, parts: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, parts, heads, 8, generator=generator, dtype=torch.float64)


def apart(projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = projected.permute(2, 0, 3, 1, 4)
    return q, k, v


@pytest.fixture(params=["whole", "pieces"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything at once, and as few windows, pairs and queries at a time as there can be."""
    if request.param == "pieces":
        monkeypatch.setattr(
            attention, "pieces", lambda count, size, device: [slice(n, min(n + 3, count)) for n in range(0, count, 3)]
        )


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("length", "factor"), [(1, 5), (7, 1), (24, 3), (33, 2), (60, 5)])
def test_prob_sparse_attention_matches_the_obvious_version(length: int, factor: int, causal: bool) -> None:
    projected = project(length, seed=length)
    sample = sample_keys(length, length, factor, torch.Generator().manual_seed(1))
    fast = prob_sparse_attention(projected, sample, factor, causal=causal)
    slow = obvious_prob_sparse(*apart(projected), sample, factor, causal=causal)
    torch.testing.assert_close(fast.transpose(1, 2), slow, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("causal", [False, True])
def test_gradients_match_those_of_the_obvious_version(causal: bool) -> None:
    projected = project(12, batch=5).requires_grad_()
    sample = sample_keys(12, 12, 2, torch.Generator().manual_seed(3))
    above = torch.randn(5, 12, 2, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    fast = prob_sparse_attention(projected, sample, 2, causal=causal)
    slow = obvious_prob_sparse(*apart(projected), sample, 2, causal=causal).transpose(1, 2)
    torch.testing.assert_close(*(torch.autograd.grad(y, projected, above)[0] for y in (fast, slow)))


@pytest.mark.parametrize("causal", [False, True])
def test_with_every_query_active_it_is_full_attention(causal: bool) -> None:
    projected = project(20)
    assert sparse_count(20, factor=7) == 20
    sparse = prob_sparse_attention(projected, sample_keys(20, 20, 7, None), 7, causal=causal)
    full = functional.scaled_dot_product_attention(*apart(projected), is_causal=causal)
    torch.testing.assert_close(sparse.transpose(1, 2), full)


@pytest.mark.parametrize(("length", "count"), [(24, 20), (48, 20), (72, 25), (96, 25), (168, 30), (720, 35), (1, 1)])
def test_count_of_active_queries_at_factor_five(length: int, count: int) -> None:
    assert sparse_count(length, 5) == count


@pytest.mark.usefixtures("size")
def test_sampled_keys_beside_their_queries_measure_what_all_scores_do() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 4, 50, 3, generator=generator, dtype=torch.float64)
    sample = sample_keys(50, 50, 2, generator)
    assert sample.shape[1] * query.shape[2] < 50, "the sampled keys are the fewer numbers"
    scores = (query @ key.transpose(1, 2)).gather(-1, sample.expand(4, -1, -1))
    torch.testing.assert_close(sparsity(query, key, sample), scores.amax(dim=-1) - scores.sum(dim=-1) / 50)
    wide = torch.cat((query, torch.zeros(4, 50, 3)), dim=-1), torch.cat((key, torch.zeros(4, 50, 3)), dim=-1)
    torch.testing.assert_close(sparsity(*wide, sample), sparsity(query, key, sample))


def test_a_long_window_needs_no_more_memory_than_all_its_scores() -> None:
    # Sampled keys laid out beside every query would be 8 * 1440 * 40 * 64 numbers, 118 MB, and as much on the way back.
    projected = torch.randn(1, 1440, 3, 8, 64, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        context = prob_sparse_attention(projected, sample_keys(1440, 1440, 5, None), 5, causal=False)
        torch.autograd.grad(context, projected, torch.ones_like(context))
    largest = max(event.self_device_memory_usage + event.self_cpu_memory_usage for event in profiler.events())
    assert 0 < largest <= 1440 * 1440 * 4 * 8 / 4, "an eighth of the heads at a time, with room for what stands beside"


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("causal", [False, True])
def test_full_attention_and_its_gradients_are_those_of_pytorch(causal: bool) -> None:
    query, memory = project(9, batch=4, parts=1)[:, :, 0].requires_grad_(), project(9, 1, 4, parts=2).requires_grad_()
    ours = full_attention(query, memory, Dropout(0.0), causal=causal)
    key, value = memory.permute(2, 0, 3, 1, 4)
    theirs = functional.scaled_dot_product_attention(query.transpose(1, 2), key, value, is_causal=causal)
    theirs = theirs.transpose(1, 2)
    torch.testing.assert_close(ours, theirs)
    above = torch.randn_like(theirs)
    for one, other in zip(*(torch.autograd.grad(y, (query, memory), above) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.usefixtures("size")
def test_full_attention_drops_the_same_weights_on_the_way_back() -> None:
    query, memory = project(3, batch=2, parts=1)[:, :, 0].requires_grad_(), project(5, 1, 2, parts=2).requires_grad_()
    dropout = Dropout(0.4)

    def attend(query: Tensor, memory: Tensor) -> Tensor:
        torch.manual_seed(0)
        return full_attention(query, memory, dropout, causal=False)

    assert not torch.equal(attend(query, memory), full_attention(query, memory, dropout.eval(), causal=False))
    dropout.train()
    assert torch.autograd.gradcheck(attend, (query, memory))


def test_maps_are_the_weights_that_make_the_context() -> None:
    projected = project(30)
    _, _, value = apart(projected)
    sample = sample_keys(30, 30, 2, torch.Generator().manual_seed(0))
    sparse = prob_sparse_map(projected, sample, 2)
    torch.testing.assert_close(
        (sparse @ value).transpose(1, 2), prob_sparse_attention(projected, sample, 2, causal=False)
    )
    uniform = (sparse == 1 / 30).all(dim=-1).sum(dim=-1)
    assert (uniform == 30 - sparse_count(30, 2)).all(), "idle queries weigh every key alike"
    full = full_attention(projected[:, :, 0], projected[:, :, 1:], Dropout(0.0), causal=False)
    torch.testing.assert_close((full_map(projected) @ value).transpose(1, 2), full)

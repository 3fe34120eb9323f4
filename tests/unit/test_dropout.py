"""Dropout and the feed-forward block: what is dropped, and the gradients written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from qtrade.models import dropout as module
from qtrade.models import feed_forward
from qtrade.models.dropout import Dropout
from qtrade.models.feed_forward import FeedForward


def test_dropout_drops_its_share_keeps_the_mean_and_uses_one_mask_both_ways() -> None:
    dropout = Dropout(0.25)
    x = torch.ones(200_001, requires_grad=True)
    torch.manual_seed(5)
    y = dropout(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())
    assert (y == 0).float().mean().item() == pytest.approx(0.25, abs=0.005)
    assert y.mean().item() == pytest.approx(1.0, abs=0.01)
    torch.manual_seed(5)
    assert torch.equal(dropout(x), y)
    assert not torch.equal(dropout(x), y)
    assert dropout.eval()(x) is x


@pytest.mark.parametrize("p", [0.001, 0.05, 0.999])
def test_dropout_scale_makes_up_for_the_rounded_share(p: float) -> None:
    torch.manual_seed(0)
    y = Dropout(p)(torch.ones(500_000))
    kept = y[y > 0]
    assert (kept == kept[0]).all()
    assert kept[0].item() == pytest.approx(256 / (256 - max(1, min(255, round(p * 256)))))


def test_pieces_of_a_mask_are_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(1000)
    torch.manual_seed(1)
    whole = Dropout(0.5)(x)
    monkeypatch.setattr(module.Mask, "PIECE", 7)
    torch.manual_seed(1)
    assert torch.equal(Dropout(0.5)(x), whole)


@pytest.mark.parametrize("training", [False, True])
def test_adding_what_dropout_leaves_is_the_sum(training: bool) -> None:
    dropout = Dropout(0.3).train(training)
    x, y = torch.randn(2, 4, 6, 5, dtype=torch.float64, requires_grad=True).unbind()
    part = x[:, -3:]  # not contiguous, as where a decoder keeps its last positions
    above = torch.randn(4, 3, 5, dtype=torch.float64)
    results = []
    for total in (dropout.add, lambda one, other: one + dropout(other)):
        torch.manual_seed(2)
        z = total(part, y[:, :3])
        results.append((z, *torch.autograd.grad(z, (x, y), above)))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain)


def plain(block: FeedForward, x: Tensor) -> Tensor:
    act = functional.gelu if block.activation == "gelu" else functional.relu
    y: Tensor = x + block.narrow(act(block.widen(x)))
    return y


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_feed_forward_and_its_gradients_are_those_of_two_layers(
    activation: str, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pieces > 1:
        monkeypatch.setattr(feed_forward, "_parts", lambda x, width: [slice(0, 5), slice(5, 6), slice(6, 12)])
    torch.manual_seed(0)
    block = FeedForward(4, 9, activation, 0.2).double().eval()
    x = torch.randn(3, 4, 4, dtype=torch.float64, requires_grad=True)
    inputs = (x, *block.parameters())
    torch.testing.assert_close(block(x), plain(block, x))
    above = torch.randn(3, 4, 4, dtype=torch.float64)
    for ours, theirs in zip(*(torch.autograd.grad(y, inputs, above) for y in (block(x), plain(block, x))), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_feed_forward_drops_the_same_on_the_way_back(activation: str) -> None:
    torch.manual_seed(0)
    block = FeedForward(3, 5, activation, 0.4).double()
    x = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, *_: Tensor) -> Tensor:
        torch.manual_seed(1)
        y: Tensor = block(x)
        return y

    assert not torch.equal(run(x), plain(block, x))
    assert torch.autograd.gradcheck(run, (x, *block.parameters()))


def test_feed_forward_keeps_the_mean_of_what_it_drops() -> None:
    torch.manual_seed(0)
    block = FeedForward(4, 8, "gelu", 0.3).double()
    x = torch.randn(1, 1, 4, dtype=torch.float64)
    with torch.no_grad():
        mean = block(x.expand(20_000, 1, 4)).mean(dim=0)
        expected = plain(block, x)[0]
    torch.testing.assert_close(mean, expected, rtol=0, atol=0.02)

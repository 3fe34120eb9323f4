"""Weights of the authors' layout give the authors' outputs, for every switch.

The other side is `benchmarks/obvious_informer.py`: their layout, names and order of random draws, written plainly.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from obvious_informer import ObviousInformer
from torch import Tensor, nn

from qtrade.errors import DataError, UsageError
from qtrade.models.base import Shape
from qtrade.models.informer import Informer
from qtrade.models.settings import InformerConfig
from qtrade.windows import WindowConfig

WINDOW = WindowConfig(seq_len=23, label_len=9, horizon=5)
FEATURES, OUTPUTS, MARKS = 4, 3, 4


def pair(dtype: torch.dtype, config: InformerConfig) -> tuple[nn.Module, tuple[Tensor, Tensor, Tensor]]:
    torch.manual_seed(0)
    theirs = ObviousInformer(
        FEATURES,
        MARKS,
        OUTPUTS,
        label_len=WINDOW.label_len,
        horizon=WINDOW.horizon,
        width=config.d_model,
        heads=config.n_heads,
        inner=config.d_ff,
        e_layers=config.e_layers,
        stack=config.stack,
        d_layers=config.d_layers,
        factor=config.factor,
        attention=config.attention,
        embedding=config.embedding,
        activation=config.activation,
        distil=config.distil,
        mix=config.mix,
    )
    for name, statistic in theirs.named_buffers():
        # Fresh batch norms hide how their statistics are read.
        if name.endswith("running_mean"):
            statistic.normal_()
        if name.endswith("running_var"):
            statistic.uniform_(0.5, 2.0)
    inputs = (torch.randn(3, 23, FEATURES), *(marks(config, length) for length in (23, 5)))
    return theirs.to(dtype).eval(), tuple(x.to(dtype) for x in inputs)  # type: ignore[return-value]


def marks(config: InformerConfig, length: int) -> Tensor:
    if config.embedding == "timeF":
        return torch.rand(3, length, MARKS) - 0.5
    return torch.stack([torch.randint(1, 7, (3, length)) for _ in range(MARKS)], dim=-1)


SWITCHES: dict[str, list[Any]] = {
    "stack": [(), (3, 2, 1)],
    "attention": ["prob", "full"],
    "mix": [True, False],
    "distil": [True, False],
    "embedding": ["timeF", "fixed", "learned"],
    "activation": ["gelu", "relu"],
}


@pytest.mark.parametrize("values", list(itertools.product(*SWITCHES.values())), ids=str)
def test_same_weights_and_seed_give_the_same_output(values: tuple[Any, ...]) -> None:
    switches = dict(zip(SWITCHES, values, strict=True))
    config = InformerConfig(d_model=8, n_heads=2, d_ff=12, factor=1, e_layers=3, d_layers=2, **switches)
    theirs, inputs = pair(torch.float64, config)
    ours = Informer.from_official(theirs.state_dict(), config, WINDOW).eval()
    torch.manual_seed(7)
    expected = theirs(*inputs)
    torch.manual_seed(7)
    torch.testing.assert_close(ours(*inputs), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("stack", [(), (3, 2, 1)])
def test_float32_agrees_to_five_digits_at_the_published_size(stack: tuple[int, ...]) -> None:
    config = InformerConfig(d_model=512, n_heads=8, d_ff=2048, factor=5, stack=stack, mix=True)
    theirs, inputs = pair(torch.float32, config)
    ours = Informer.from_official(
        {f"module.{name}": value for name, value in theirs.state_dict().items()}, config, WINDOW
    ).eval()
    torch.manual_seed(7)
    expected = theirs(*inputs)
    torch.manual_seed(7)
    torch.testing.assert_close(ours(*inputs), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("stack", "entries", "parameters"), [((), 81, 11_330_055), ((3, 2, 1), 163, 25_517_575)])
def test_the_plain_network_has_the_published_size(stack: tuple[int, ...], entries: int, parameters: int) -> None:
    network = ObviousInformer(7, 4, 7, label_len=48, horizon=24, width=512, heads=8, inner=2048, stack=stack)
    assert len(network.state_dict()) == entries
    assert sum(value.numel() for value in network.parameters()) == parameters
    ours = Informer(
        Shape(7, 4, WindowConfig(), outputs=7), InformerConfig(d_model=512, n_heads=8, d_ff=2048, stack=stack)
    )
    assert sum(value.numel() for value in ours.parameters()) == parameters


def test_a_checkpoint_that_does_not_fit_is_refused() -> None:
    config = InformerConfig(d_model=8, n_heads=2, d_ff=12)
    state = pair(torch.float32, config)[0].state_dict()
    with pytest.raises(DataError, match=r"the checkpoint lacks 'encoder\.attn_layers\.2"):
        Informer.from_official(state, config.model_copy(update={"e_layers": 3}), WINDOW)
    with pytest.raises(DataError, match=r"no place for: encoder\.attn_layers\.1"):
        Informer.from_official(state, config.model_copy(update={"e_layers": 1}), WINDOW)
    with pytest.raises(DataError, match="other shapes"):
        Informer.from_official(state, config.model_copy(update={"d_ff": 16}), WINDOW)


def test_a_stack_deeper_than_the_past_is_long_is_refused() -> None:
    with pytest.raises(UsageError, match="seq_len 3 is too short for 3 stacked encoders"):
        Informer(Shape(2, 2, WindowConfig(seq_len=3, label_len=1)), InformerConfig(stack=(3, 2, 1)))

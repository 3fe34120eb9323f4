"""The network against slow, obvious versions of its parts."""

from __future__ import annotations

import math
from functools import partial

import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from qtrade.calendars import INTERVALS
from qtrade.features.marks import whole_marks
from qtrade.models.base import Shape
from qtrade.models.informer import CalendarTables, Distil, Informer, neighbours, pool, position_code
from qtrade.models.settings import InformerConfig
from qtrade.windows import WindowConfig

# A head of zeros would hide everything behind it.
Config = partial(InformerConfig, zero_head=False)


@pytest.mark.parametrize("length", [1, 2, 7, 96])
def test_linear_on_neighbours_is_a_circular_convolution(length: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(5, 4, 3, padding=1, padding_mode="circular")
    x = torch.randn(2, length, 5)
    weight = conv.weight.permute(0, 2, 1).reshape(4, 15)
    ours = functional.linear(neighbours(x), weight, conv.bias)
    torch.testing.assert_close(ours, conv(x.transpose(1, 2)).transpose(1, 2))


@pytest.mark.parametrize("length", [1, 2, 3, 48, 49, 97])
def test_pooling_and_elu_commute_and_halve_the_length(length: int) -> None:
    x = torch.randn(2, length, 3, generator=torch.Generator().manual_seed(length))
    theirs = functional.max_pool1d(functional.elu(x).transpose(1, 2), 3, stride=2, padding=1).transpose(1, 2)
    assert theirs.shape[1] == math.ceil(length / 2)
    torch.testing.assert_close(functional.elu(pool(x)), theirs)


@pytest.mark.parametrize("length", [1, 2, 3, 48, 49])
def test_pooling_hands_gradients_to_the_first_of_the_largest(length: int) -> None:
    x = torch.randn(2, length, 3, generator=torch.Generator().manual_seed(length)).round().requires_grad_()
    theirs = functional.max_pool1d(x.transpose(1, 2), 3, stride=2, padding=1).transpose(1, 2)
    above = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(*(torch.autograd.grad(y, x, above)[0] for y in (pool(x), theirs)))


def test_position_code_interleaves_sine_and_cosine() -> None:
    code = position_code(10, 6)
    for t in range(10):
        for i in range(3):
            rate = 10000 ** (-2 * i / 6)
            assert code[t, 2 * i].item() == pytest.approx(math.sin(t * rate), abs=1e-5)
            assert code[t, 2 * i + 1].item() == pytest.approx(math.cos(t * rate), abs=1e-5)


def build(
    config: InformerConfig, window: WindowConfig, seed: int = 0
) -> tuple[Informer, tuple[Tensor, Tensor, Tensor]]:
    torch.manual_seed(seed)
    network = Informer(Shape(features=5, marks=3, window=window), config).eval()
    inputs = (
        torch.randn(6, window.seq_len, 5),
        torch.rand(6, window.seq_len, 3) - 0.5,
        torch.rand(6, window.horizon, 3) - 0.5,
    )
    return network, inputs


SMALL = Config(d_model=16, n_heads=2, d_ff=32)


@pytest.mark.parametrize(
    ("config", "window"),
    [
        (SMALL, WindowConfig(seq_len=96, label_len=48, horizon=24)),
        (SMALL, WindowConfig(seq_len=1, label_len=0, horizon=1)),
        (SMALL, WindowConfig(seq_len=31, label_len=31, horizon=7)),
        (Config(d_model=16, n_heads=1, e_layers=3, d_layers=2), WindowConfig(seq_len=33, label_len=5)),
        (Config(d_model=16, n_heads=4, distil=False, attention="full"), WindowConfig(seq_len=20, label_len=10)),
        (Config(d_model=16, attention_keys="all", activation="relu"), WindowConfig(seq_len=20, label_len=0)),
    ],
)
def test_shapes_odd_lengths_and_a_window_s_independence_of_its_batch(
    config: InformerConfig, window: WindowConfig
) -> None:
    network, inputs = build(config, window)
    keys = torch.Generator().manual_seed(9)
    whole = network(*inputs, keys=keys)
    assert whole.shape == (6, window.horizon, 1)
    keys.manual_seed(9)
    alone = network(*(x[3:4] for x in inputs), keys=keys)
    torch.testing.assert_close(whole[3:4], alone)


@pytest.mark.parametrize(
    ("config", "seq_len"),
    [(SMALL, 1), (SMALL, 2), (Config(d_model=16, e_layers=3), 2), (Config(d_model=16, stack=(2, 2)), 2)],
)
def test_a_window_of_hardly_any_bars_trains_alone(config: InformerConfig, seq_len: int) -> None:
    network, inputs = build(config, WindowConfig(seq_len=seq_len, label_len=0, horizon=2))
    loss = network.train()(*(x[:1] for x in inputs)).square().sum()
    loss.backward()
    grads = [parameter.grad for parameter in network.parameters()]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)


def test_distilling_one_position_uses_and_keeps_the_running_statistics() -> None:
    torch.manual_seed(0)
    distil = Distil(4)
    distil(torch.randn(8, 6, 4))
    running = {name: value.clone() for name, value in distil.state_dict().items()}
    lone = torch.randn(1, 1, 4)
    trained = distil(lone)
    assert all(torch.equal(value, running[name]) for name, value in distil.state_dict().items())
    torch.testing.assert_close(trained, distil.eval()(lone))
    distil.train()(torch.randn(1, 2, 4))
    assert not torch.equal(distil.state_dict()["norm.running_mean"], running["norm.running_mean"])


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("interval", INTERVALS)
def test_whole_marks_fit_the_calendar_tables(interval: str, learned: bool) -> None:
    marks = torch.from_numpy(whole_marks(pd.date_range("2024-01-01", "2025-01-01", freq="95min", tz="UTC"), interval))
    tables = CalendarTables(marks.shape[1], 8, learned=learned)
    expected = [table(marks[:, number].long()) for number, table in enumerate(tables.tables)]
    torch.testing.assert_close(tables(marks[None])[0], torch.stack(expected).sum(dim=0))


def test_same_key_seed_gives_the_same_output_and_another_one_another() -> None:
    network, inputs = build(SMALL, WindowConfig())
    first, again, other = (network(*inputs, keys=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_all_keys_draws_nothing() -> None:
    network, inputs = build(Config(d_model=16, n_heads=2, attention_keys="all"), WindowConfig())
    state = torch.get_rng_state()
    assert torch.equal(network(*inputs), network(*inputs))
    assert torch.equal(state, torch.get_rng_state())


def test_decoder_reads_only_the_label_part_and_the_encoder_everything() -> None:
    window = WindowConfig(seq_len=16, label_len=4, horizon=3)
    network, (past, marks_past, marks_future) = build(SMALL, window)
    for number in range(16):
        moved = past.clone()
        moved[:, number] += 1
        keys = torch.Generator().manual_seed(0)
        before = network(past, marks_past, marks_future, keys=keys)
        after = network(moved, marks_past, marks_future, keys=keys.manual_seed(0))
        assert not torch.equal(before, after), f"bar {number} of the past is ignored"


def test_settings_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValidationError, match="not a multiple of n_heads"):
        Config(d_model=30, n_heads=4)
    with pytest.raises(ValidationError, match="is odd"):
        Config(d_model=15, n_heads=3)


def test_inputs_of_another_length_are_refused() -> None:
    network, (past, marks_past, marks_future) = build(SMALL, WindowConfig(seq_len=16, label_len=4, horizon=3))
    for wrong in (
        (past[:, 1:], marks_past[:, 1:], marks_future),
        (past, marks_past[:, 1:], marks_future),
        (past, marks_past, marks_future[:, 1:]),
    ):
        with pytest.raises(ValueError, match="this network was built for"):
            network(*wrong)

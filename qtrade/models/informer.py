"""Informer, the whole network in one file.

H. Zhou et al., "Informer: Beyond Efficient Transformer for Long Sequence Time-Series Forecasting", AAAI 2021. Three
ideas: ProbSparse self-attention gives full attention only to the queries that stand out; distilling halves the
sequence between encoder layers; a generative decoder predicts the whole path in one pass.

Shapes: B batch, L positions, D = d_model, A attention heads of width E = D / A, F inputs, M calendar marks, H horizon.
Convolutions along time are written as linear layers on (B, L, channels) tensors: a kernel of one position is a linear
layer, a kernel of three is a linear layer on three neighbours side by side. Same numbers, no transposes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from qtrade.errors import DataError, UsageError
from qtrade.models.attention import full_attention, full_map, prob_sparse_attention, prob_sparse_map, sample_keys
from qtrade.models.base import Shape
from qtrade.models.dropout import Dropout
from qtrade.models.feed_forward import FeedForward
from qtrade.models.official import translate
from qtrade.models.settings import InformerConfig
from qtrade.models.typed import apply, tensor
from qtrade.windows import WindowConfig


class Informer(nn.Module):
    """Encoder on the past, decoder on its last `label_len` bars and H empty ones, one value per future bar.

    Parameters
    ----------
    shape
        Input columns F, marks M and window lengths.
    config
        Size and switches.
    """

    def __init__(self, shape: Shape, config: InformerConfig) -> None:
        super().__init__()
        shortest = shape.window.seq_len // 2 ** max(len(config.stack) - 1, 0)
        if shortest == 0:
            raise UsageError(
                f"seq_len {shape.window.seq_len} is too short for {len(config.stack)} stacked encoders",
                why="each reads half of what the one before it reads, and the last would read nothing",
                fix="set a larger window.seq_len, or fewer depths in informer.stack",
            )
        self.window = shape.window
        self.predicted_at_once = max(1, min(256, 2**22 // (shape.window.seq_len * config.d_model)))
        """Windows in a batch of predictions, few enough that long ones need no more memory than short ones."""
        self.encoder_embedding = Embedding(shape, config)
        self.decoder_embedding = Embedding(shape, config)
        self.encoders = nn.ModuleList(Encoder(config, depth) for depth in config.stack or (config.e_layers,))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.d_layers))
        self.decoder_norm = nn.LayerNorm(config.d_model)
        self.head = nn.Linear(config.d_model, shape.outputs)
        if config.zero_head:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    @classmethod
    def from_official(
        cls, state: Mapping[str, Tensor], config: InformerConfig, window: WindowConfig | None = None
    ) -> Informer:
        """Build the network from a checkpoint of the authors' project (Informer2020).

        Inputs, marks and outputs are read off the weights. In evaluation, with the same weights and the CPU's global
        generator in the same state, it gives what the original gives: one draw of keys per ProbSparse module, in order.

        Parameters
        ----------
        state
            The original's ``state_dict``; a ``module.`` in front of every name, which DataParallel leaves, is dropped.
        config
            Switches as the checkpoint was trained with. Mind `mix`, which is on by default there and off here.
        window
            seq_len, label_len and horizon it was trained with; 96, 48 and 24 by default, here as there.

        Raises
        ------
        DataError
            If a weight is missing, left over, or of another shape.
        """
        window = window or WindowConfig()
        shape, weights = translate(state, config, window)
        network = cls(shape, config).to(weights["head.weight"].dtype)
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise DataError(
                "the checkpoint's weights have other shapes", why=str(error), fix="set d_model and d_ff"
            ) from error
        return network

    def forward(
        self,
        past: Tensor,
        marks_past: Tensor,
        marks_future: Tensor,
        *,
        keys: torch.Generator | None = None,
        maps: list[Tensor] | None = None,
    ) -> Tensor:
        """Predict the paths that follow a batch of windows.

        Parameters
        ----------
        past
            (B, L, F) scaled features.
        marks_past, marks_future
            (B, L, M) and (B, H, M) calendar marks.
        keys
            Generator that samples the keys of ProbSparse attention, on any device; by default the CPU's global one.
            One draw per attention module, encoder first. The same generator state gives the same output.
        maps
            Takes the attention of every encoder layer, in order: (B, A, L', L') weights, query by key. The idle queries
            of ProbSparse attention weigh all keys alike.

        Returns
        -------
        (B, H, C) predictions of the C outputs; in MS mode C is 1, the scaled target.

        Raises
        ------
        ValueError
            If an input has another length than the network was built for.
        """
        lengths = (past.shape[1], marks_past.shape[1], marks_future.shape[1])
        expected = (self.window.seq_len, self.window.seq_len, self.window.horizon)
        if lengths != expected:
            raise ValueError(
                f"past, its marks and future marks are {lengths} bars long; this network was built for {expected}: "
                "give Informer the WindowConfig of these data"
            )
        start = self.window.seq_len - self.window.label_len
        embedded = self.encoder_embedding(past, marks_past)
        # InformerStack's n-th encoder reads the last L / 2^n positions; a single encoder reads them all.
        memory = torch.cat(
            [
                encoder(embedded[:, -(self.window.seq_len // 2**number) :], keys, maps)
                for number, encoder in enumerate(self.encoders)
            ],
            dim=1,
        )
        empty = past.new_zeros(len(past), self.window.horizon, past.shape[2])
        known = torch.cat((past[:, start:], empty), dim=1)
        marks = torch.cat((marks_past[:, start:], marks_future), dim=1)
        x = self.decoder_embedding(known, marks)
        for number, layer in enumerate(self.decoder, start=1):
            # Of the last layer's output only the future is read, so the rest of it is not computed.
            x = layer(x, memory, keys, last=self.window.horizon if number == len(self.decoder) else x.shape[1])
        return tensor(self.head(self.decoder_norm(x)))


class Embedding(nn.Module):
    """Value (three neighbouring bars, circular) + position (sinusoid) + calendar marks."""

    def __init__(self, shape: Shape, config: InformerConfig) -> None:
        super().__init__()
        self.value = nn.Linear(3 * shape.features, config.d_model)
        nn.init.kaiming_normal_(self.value.weight, nonlinearity="leaky_relu", a=0)
        self.calendar: nn.Linear | CalendarTables
        if config.embedding == "timeF":
            self.calendar = nn.Linear(shape.marks, config.d_model)
        else:
            self.calendar = CalendarTables(shape.marks, config.d_model, learned=config.embedding == "learned")
        length = shape.window.seq_len + shape.window.horizon
        self.register_buffer("position", position_code(length, config.d_model), persistent=False)
        self.position: Tensor
        self.dropout = Dropout(config.dropout)

    def forward(self, values: Tensor, marks: Tensor) -> Tensor:
        """(B, L, F) and (B, L, M) to (B, L, D)."""
        position = self.position[: values.shape[1]]
        if isinstance(self.calendar, CalendarTables):
            return tensor(self.dropout(self.value(neighbours(values)) + position + self.calendar(marks)))
        # One product for both linear maps; joining the two small weights costs less than a pass over the activations.
        weight = torch.cat((self.value.weight, self.calendar.weight), dim=1)
        inputs = torch.cat((neighbours(values), marks), dim=-1)
        x = functional.linear(inputs, weight, self.value.bias + self.calendar.bias)
        return tensor(self.dropout(x + position))


class CalendarTables(nn.Module):
    """Sum of one row per mark, looked up in a table of its own.

    Marks are whole numbers in the order month, day, weekday, hour, quarter of the hour; the first `marks` of them.
    """

    SIZES = (13, 32, 7, 24, 4)

    def __init__(self, marks: int, width: int, *, learned: bool) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, width) for size in self.SIZES[:marks])
        if not learned:
            for table, size in zip(self.tables, self.SIZES, strict=False):
                table.weight = nn.Parameter(position_code(size, width), requires_grad=False)

    def forward(self, marks: Tensor) -> Tensor:
        """(B, L, M) whole numbers, of any type, to (B, L, D)."""
        rows = marks.long()
        return tensor(sum(table(rows[..., number]) for number, table in enumerate(self.tables)))


class Encoder(nn.Module):
    """Layers of self-attention, each but the last followed by distilling."""

    def __init__(self, config: InformerConfig, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(depth))
        self.distils = nn.ModuleList(
            Distil(config.d_model) if config.distil else nn.Identity() for _ in range(depth - 1)
        )
        self.norm = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor, keys: torch.Generator | None, maps: list[Tensor] | None = None) -> Tensor:
        """(B, L, D) to (B, L', D), where each distilling step takes L to ceil(L / 2)."""
        for number, layer in enumerate(self.layers):
            x = layer(x, keys, maps)
            if number < len(self.distils):
                x = self.distils[number](x)
        return tensor(self.norm(x))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each added to its input and normalised afterwards."""

    def __init__(self, config: InformerConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config, causal=False)
        self.feed_forward = FeedForward(config.d_model, config.d_ff, config.activation, config.dropout)
        self.norm_attention = nn.LayerNorm(config.d_model)
        self.norm_feed_forward = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, keys: torch.Generator | None, maps: list[Tensor] | None = None) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        x = self.norm_attention(self.dropout.add(x, self.attention(x, keys, last=x.shape[1], maps=maps)))
        return tensor(self.norm_feed_forward(self.feed_forward(x)))


class DecoderLayer(nn.Module):
    """Causal self-attention, full cross-attention on the encoder's output, feed-forward."""

    def __init__(self, config: InformerConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config, causal=True)
        self.cross = CrossAttention(config)
        self.feed_forward = FeedForward(config.d_model, config.d_ff, config.activation, config.dropout)
        self.norm_attention = nn.LayerNorm(config.d_model)
        self.norm_cross = nn.LayerNorm(config.d_model)
        self.norm_feed_forward = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, memory: Tensor, keys: torch.Generator | None, *, last: int) -> Tensor:
        """(B, L, D) and (B, L', D) to (B, last, D), the last positions."""
        x = self.norm_attention(self.dropout.add(x[:, -last:], self.attention(x, keys, last=last)))
        x = self.norm_cross(self.dropout.add(x, self.cross(x, memory)))
        return tensor(self.norm_feed_forward(self.feed_forward(x)))


class SelfAttention(nn.Module):
    """Multi-head self-attention, ProbSparse or full."""

    def __init__(self, config: InformerConfig, *, causal: bool) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        self.project = nn.Linear(config.d_model, 3 * config.d_model)
        self.out = nn.Linear(config.d_model, config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Tensor, keys: torch.Generator | None, *, last: int, maps: list[Tensor] | None = None
    ) -> Tensor:
        """(B, L, D) to (B, last, D), the last positions."""
        batch, length, width = x.shape
        heads = self.config.n_heads
        projected = self.project(x).view(batch, length, 3, heads, width // heads)
        if self.config.attention == "full":
            context = full_attention(projected[:, :, 0], projected[:, :, 1:], self.dropout, causal=self.causal)
            if maps is not None:
                maps.append(full_map(projected))
        else:
            sample = None
            if self.config.attention_keys == "sampled":
                sample = sample_keys(length, length, self.config.factor, keys).to(x.device, non_blocking=True)
            context = prob_sparse_attention(projected, sample, self.config.factor, causal=self.causal)
            if maps is not None:
                maps.append(prob_sparse_map(projected, sample, self.config.factor))
        if self.causal and self.config.mix:
            context = context.transpose(1, 2)
        return tensor(self.out(context.reshape(batch, length, width)[:, -last:]))


class CrossAttention(nn.Module):
    """Multi-head full attention of the decoder on the encoder's output."""

    def __init__(self, config: InformerConfig) -> None:
        super().__init__()
        self.config = config
        self.project_query = nn.Linear(config.d_model, config.d_model)
        self.project_memory = nn.Linear(config.d_model, 2 * config.d_model)
        self.out = nn.Linear(config.d_model, config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """(B, L, D) and (B, L', D) to (B, L, D)."""
        batch, length, width = x.shape
        heads = self.config.n_heads
        query = self.project_query(x).view(batch, length, heads, width // heads)
        both = self.project_memory(memory).view(batch, memory.shape[1], 2, heads, width // heads)
        context = full_attention(query, both, self.dropout, causal=False)
        return tensor(self.out(context.reshape(batch, length, width)))


class Distil(nn.Module):
    """Convolution over three neighbours, batch norm, ELU, max-pool of three with stride two: L to ceil(L / 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolve = nn.Linear(3 * width, width)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) to (B, ceil(L / 2), D)."""
        x = self._normalised(self.convolve(neighbours(x)).flatten(0, 1)).view(x.shape)
        # ELU never falls, so it commutes with the maximum; after pooling there is half as much of it to do.
        return functional.elu(pool(x))

    def _normalised(self, rows: Tensor) -> Tensor:
        """(N, D) to (N, D). A single row has no spread, so even in training it takes the running statistics."""
        if len(rows) > 1:
            return tensor(self.norm(rows))
        norm = self.norm
        return functional.batch_norm(
            rows, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
        )


def neighbours(x: Tensor) -> Tensor:
    """(B, L, C) to (B, L, 3C): the position before, itself, the position after; the ends are joined (circular)."""
    return torch.cat((x.roll(1, dims=1), x, x.roll(-1, dims=1)), dim=-1)


def pool(x: Tensor) -> Tensor:
    """Max-pool (B, L, C) along time: kernel 3, stride 2, one position of padding at each end."""
    return apply(_Pool, x)


class _Pool(torch.autograd.Function):
    """`pool` with its gradient written out: PyTorch's own works on boolean masks, which costs as much as a layer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        even, odd = x[:, 0::2], x[:, 1::2]
        y = even.clone(memory_format=torch.contiguous_format)
        torch.maximum(y[:, : odd.shape[1]], odd, out=y[:, : odd.shape[1]])
        torch.maximum(y[:, 1:], odd[:, : even.shape[1] - 1], out=y[:, 1:])
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        odd, before = x.shape[1] // 2, y.shape[1] - 1
        # The first of equal values takes the gradient: the position before, itself, the position after.
        left, middle = torch.zeros_like(y), torch.empty_like(y)
        torch.eq(x[:, 1::2][:, :before], y[:, 1:], out=left[:, 1:])
        torch.eq(x[:, 0::2], y, out=middle)
        middle.mul_(1 - left)
        right = (1 - left).sub_(middle)[:, :odd]
        by_x = torch.empty_like(x)
        torch.mul(grads[0], middle, out=by_x[:, 0::2])
        torch.mul(grads[0][:, :odd], right, out=by_x[:, 1::2])
        by_x[:, 1::2][:, :before].addcmul_(grads[0][:, 1:], left[:, 1:])
        return by_x


def position_code(length: int, width: int) -> Tensor:
    """(length, width) sinusoids: even columns sin(t w_i), odd columns cos(t w_i), w_i = 10000^(-2i / width)."""
    time = torch.arange(length, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))
    return torch.stack((torch.sin(time * rate), torch.cos(time * rate)), dim=-1).view(length, width)

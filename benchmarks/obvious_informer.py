"""Informer written for the eye: what the fast network is compared with, in numbers and in time.

Layout, parameter names and random draws are those of the authors' code, as its published checkpoints have them, so
that a state dict of this network is one of theirs. Convolutions are convolutions, attention gathers the sampled keys,
dropout is PyTorch's: nothing is done for speed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SIZES = {"month": 13, "day": 32, "weekday": 7, "hour": 24, "minute": 4}


def sinusoids(length: int, width: int) -> Tensor:
    """(length, width) position code, one number at a time."""
    rate = (torch.arange(0, width, 2).float() * -(math.log(10000.0) / width)).exp()
    angle = torch.arange(length).float()[:, None] * rate
    code = torch.zeros(length, width)
    code[:, 0::2] = angle.sin()
    code[:, 1::2] = angle.cos()
    return code


class TokenEmbedding(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.tokenConv = nn.Conv1d(inputs, width, kernel_size=3, padding=1, padding_mode="circular")
        nn.init.kaiming_normal_(self.tokenConv.weight, mode="fan_in", nonlinearity="leaky_relu")

    def forward(self, x: Tensor) -> Tensor:
        convolved: Tensor = self.tokenConv(x.permute(0, 2, 1))
        return convolved.transpose(1, 2)


class PositionEmbedding(nn.Module):
    pe: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("pe", sinusoids(5000, width)[None])


class FixedTable(nn.Module):
    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.emb = nn.Embedding(size, width)
        self.emb.weight = nn.Parameter(sinusoids(size, width), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = self.emb(x)
        return rows


class TableEmbedding(nn.Module):
    def __init__(self, marks: int, width: int, kind: str) -> None:
        super().__init__()
        self.names = list(SIZES)[:marks]
        for name in self.names:
            table = FixedTable(SIZES[name], width) if kind == "fixed" else nn.Embedding(SIZES[name], width)
            setattr(self, f"{name}_embed", table)

    def forward(self, marks: Tensor) -> Tensor:
        whole = marks.long()
        total = torch.zeros(())
        for column, name in enumerate(self.names):
            total = total + getattr(self, f"{name}_embed")(whole[..., column])
        return total


class LinearEmbedding(nn.Module):
    def __init__(self, marks: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(marks, width)

    def forward(self, marks: Tensor) -> Tensor:
        values: Tensor = self.embed(marks)
        return values


class DataEmbedding(nn.Module):
    def __init__(self, inputs: int, marks: int, width: int, kind: str, dropout: float) -> None:
        super().__init__()
        self.value_embedding = TokenEmbedding(inputs, width)
        self.position_embedding = PositionEmbedding(width)
        self.temporal_embedding = (
            LinearEmbedding(marks, width) if kind == "timeF" else TableEmbedding(marks, width, kind)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, marks: Tensor) -> Tensor:
        position = self.position_embedding.pe[:, : x.shape[1]]
        total: Tensor = self.dropout(self.value_embedding(x) + position + self.temporal_embedding(marks))
        return total


def full(query: Tensor, key: Tensor, value: Tensor, *, causal: bool, dropout: nn.Module) -> Tensor:
    """Full attention of (B, A, L, E) queries."""
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(future, -torch.inf)
    mixed: Tensor = dropout(torch.softmax(scores, dim=-1)) @ value
    return mixed


def prob(query: Tensor, key: Tensor, value: Tensor, factor: int, *, causal: bool) -> Tensor:
    """ProbSparse attention of (B, A, L, E) queries, with the sampled keys laid out beside every query."""
    length = query.shape[2]
    count = min(factor * math.ceil(math.log(length)), length)
    index = torch.randint(length, (length, count))
    sampled = key[:, :, index]  # (B, A, L, U, E)
    products = (query[:, :, :, None] * sampled).sum(dim=-1)
    measure = products.max(dim=-1).values - products.sum(dim=-1) / length
    top = measure.topk(count, dim=-1).indices
    batch = torch.arange(query.shape[0], device=query.device)[:, None, None]
    head = torch.arange(query.shape[1], device=query.device)[None, :, None]
    scores = query[batch, head, top] @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if causal:
        later = torch.arange(length, device=query.device) > top[..., None]
        scores = scores.masked_fill(later, -torch.inf)
    context = value.cumsum(dim=2) if causal else value.mean(dim=2, keepdim=True).expand_as(value).clone()
    context[batch, head, top] = torch.softmax(scores, dim=-1) @ value
    return context


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, factor: int, dropout: float, kind: str, *, causal: bool, mix: bool):
        super().__init__()
        self.query_projection = nn.Linear(width, width)
        self.key_projection = nn.Linear(width, width)
        self.value_projection = nn.Linear(width, width)
        self.out_projection = nn.Linear(width, width)
        self.heads, self.factor, self.kind, self.causal, self.mix = heads, factor, kind, causal, mix
        self.inner_dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        batch, length, width = x.shape

        def split(values: Tensor) -> Tensor:
            return values.view(batch, values.shape[1], self.heads, -1).transpose(1, 2)

        query = split(self.query_projection(x))
        key, value = split(self.key_projection(memory)), split(self.value_projection(memory))
        if self.kind == "prob":
            context = prob(query, key, value, self.factor, causal=self.causal)
        else:
            context = full(query, key, value, causal=self.causal, dropout=self.inner_dropout)
        if not self.mix:
            context = context.transpose(1, 2)
        joined: Tensor = self.out_projection(context.reshape(batch, length, width))
        return joined


class Block(nn.Module):
    """What encoder and decoder layers share: two kernel-1 convolutions."""

    def __init__(self, width: int, inner: int, dropout: float, activation: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(width, inner, kernel_size=1)
        self.conv2 = nn.Conv1d(inner, width, kernel_size=1)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.activation = torch.relu if activation == "relu" else nn.functional.gelu

    def feed_forward(self, x: Tensor) -> Tensor:
        inner = self.dropout(self.activation(self.conv1(x.transpose(-1, 1))))
        narrowed: Tensor = self.dropout(self.conv2(inner).transpose(-1, 1))
        return narrowed


class EncoderLayer(Block):
    def __init__(self, attention: Attention, width: int, inner: int, dropout: float, activation: str) -> None:
        super().__init__(width, inner, dropout, activation)
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.attention(x, x)))
        normed: Tensor = self.norm2(x + self.feed_forward(x))
        return normed


class ConvLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.downConv = nn.Conv1d(width, width, kernel_size=3, padding=1, padding_mode="circular")
        self.norm = nn.BatchNorm1d(width)
        self.activation = nn.ELU()
        self.maxPool = nn.MaxPool1d(kernel_size=3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.maxPool(self.activation(self.norm(self.downConv(x.permute(0, 2, 1)))))
        return pooled.transpose(1, 2)


class Encoder(nn.Module):
    def __init__(self, layers: list[EncoderLayer], convolutions: list[ConvLayer], width: int) -> None:
        super().__init__()
        self.attn_layers = nn.ModuleList(layers)
        if convolutions:
            self.conv_layers = nn.ModuleList(convolutions)
        self.distil = bool(convolutions)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.attn_layers):
            x = layer(x)
            if self.distil and number < len(self.conv_layers):
                x = self.conv_layers[number](x)
        normed: Tensor = self.norm(x)
        return normed


class EncoderStack(nn.Module):
    def __init__(self, encoders: list[Encoder]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([one(x[:, -(x.shape[1] // 2**n) :]) for n, one in enumerate(self.encoders)], dim=1)


class DecoderLayer(Block):
    def __init__(
        self, self_attention: Attention, cross: Attention, width: int, inner: int, dropout: float, activation: str
    ) -> None:
        super().__init__(width, inner, dropout, activation)
        self.self_attention, self.cross_attention = self_attention, cross
        self.norm3 = nn.LayerNorm(width)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.self_attention(x, x)))
        x = self.norm2(x + self.dropout(self.cross_attention(x, memory)))
        normed: Tensor = self.norm3(x + self.feed_forward(x))
        return normed


class Decoder(nn.Module):
    def __init__(self, layers: list[DecoderLayer], width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, memory)
        normed: Tensor = self.norm(x)
        return normed


class ObviousInformer(nn.Module):
    """Informer, or InformerStack where `stack` names the depths of its encoders."""

    def __init__(
        self,
        inputs: int,
        marks: int,
        outputs: int,
        *,
        label_len: int,
        horizon: int,
        width: int,
        heads: int,
        inner: int,
        e_layers: int = 2,
        stack: tuple[int, ...] = (),
        d_layers: int = 1,
        factor: int = 5,
        dropout: float = 0.05,
        attention: str = "prob",
        embedding: str = "timeF",
        activation: str = "gelu",
        distil: bool = True,
        mix: bool = True,
    ) -> None:
        super().__init__()
        self.label_len, self.horizon = label_len, horizon
        self.enc_embedding = DataEmbedding(inputs, marks, width, embedding, dropout)
        self.dec_embedding = DataEmbedding(inputs, marks, width, embedding, dropout)

        def attend(kind: str, *, causal: bool = False, mix: bool = False) -> Attention:
            return Attention(width, heads, factor, dropout, kind, causal=causal, mix=mix)

        def encoder(depth: int) -> Encoder:
            layers = [EncoderLayer(attend(attention), width, inner, dropout, activation) for _ in range(depth)]
            return Encoder(layers, [ConvLayer(width) for _ in range(depth - 1)] if distil else [], width)

        self.encoder = EncoderStack([encoder(depth) for depth in stack]) if stack else encoder(e_layers)
        self.decoder = Decoder(
            [
                DecoderLayer(attend(attention, causal=True, mix=mix), attend("full"), width, inner, dropout, activation)
                for _ in range(d_layers)
            ],
            width,
        )
        self.projection = nn.Linear(width, outputs)

    def forward(self, past: Tensor, marks_past: Tensor, marks_future: Tensor) -> Tensor:
        """(B, L, F), (B, L, M) and (B, H, M) to (B, H, C)."""
        memory = self.encoder(self.enc_embedding(past, marks_past))
        start = past.shape[1] - self.label_len
        known = torch.cat([past[:, start:], torch.zeros_like(past[:, :1]).repeat(1, self.horizon, 1)], dim=1)
        marks = torch.cat([marks_past[:, start:], marks_future], dim=1)
        path: Tensor = self.projection(self.decoder(self.dec_embedding(known, marks), memory))
        return path[:, -self.horizon :]

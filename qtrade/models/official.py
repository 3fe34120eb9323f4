"""Weights of the Informer authors' project, under our names and in our layout."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from qtrade.errors import DataError
from qtrade.models.base import Shape
from qtrade.models.settings import InformerConfig
from qtrade.windows import WindowConfig

_MARKS = ("month", "day", "weekday", "hour", "minute")


def translate(
    state: Mapping[str, Tensor], config: InformerConfig, window: WindowConfig
) -> tuple[Shape, dict[str, Tensor]]:
    """Read the shape off a checkpoint of the authors' project and give its weights our names; `Informer.from_official`.

    Raises
    ------
    DataError
        If a weight is missing or left over.
    """
    weights = {name.removeprefix("module."): value for name, value in state.items()}
    taken = _Taken(weights)
    fix = "set e_layers, stack, d_layers, distil and embedding as it was trained with"
    try:
        shape = Shape(
            features=weights["enc_embedding.value_embedding.tokenConv.weight"].shape[1],
            marks=_count_marks(weights),
            window=window,
            outputs=weights["projection.weight"].shape[0],
        )
        ours = _translate(taken, shape, config)
    except (KeyError, IndexError) as error:
        raise DataError(
            f"the checkpoint lacks {error}",
            why="it is of another model, or was trained with other switches",
            fix=fix,
        ) from error
    left = [name for name in weights if name not in taken.names and not name.endswith(".pe")]
    if left:
        raise DataError(
            f"the checkpoint has weights that this configuration has no place for: {left[0]} and {len(left) - 1} more",
            fix=fix,
        )
    return shape, ours


class _Taken:
    """Weights by name, remembering which were asked for."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights
        self.names: set[str] = set()

    def __call__(self, name: str) -> Tensor:
        self.names.add(name)
        return self.weights[name]

    def pair(self, ours: str, theirs: str) -> dict[str, Tensor]:
        """Rename weight and bias of a linear layer, a norm, or a convolution of kernel 1 (whose last axis goes)."""
        weight = self(f"{theirs}.weight")
        return {
            f"{ours}.weight": weight.squeeze(-1) if weight.ndim == 3 else weight,
            f"{ours}.bias": self(f"{theirs}.bias"),
        }

    def joined(self, ours: str, theirs: str, parts: tuple[str, ...]) -> dict[str, Tensor]:
        """Join several projections of one input into one linear layer."""
        return {
            f"{ours}.{kind}": torch.cat([self(f"{theirs}.{part}_projection.{kind}") for part in parts])
            for kind in ("weight", "bias")
        }

    def convolution(self, ours: str, theirs: str) -> dict[str, Tensor]:
        """Turn a circular convolution of kernel 3 into a linear layer on (before, itself, after)."""
        weight = self(f"{theirs}.weight")
        return {
            f"{ours}.weight": weight.permute(0, 2, 1).reshape(len(weight), -1),
            f"{ours}.bias": self(f"{theirs}.bias"),
        }


def _count_marks(weights: Mapping[str, Tensor]) -> int:
    linear = weights.get("enc_embedding.temporal_embedding.embed.weight")
    if linear is not None:
        return linear.shape[1]
    return sum(name.startswith("enc_embedding.temporal_embedding.") for name in weights)


def _translate(take: _Taken, shape: Shape, config: InformerConfig) -> dict[str, Tensor]:
    ours: dict[str, Tensor] = {}
    for name in ("encoder", "decoder"):
        theirs = f"{name[:3]}_embedding"
        ours |= take.convolution(f"{name}_embedding.value", f"{theirs}.value_embedding.tokenConv")
        temporal = f"{theirs}.temporal_embedding"
        if config.embedding != "timeF":
            inner = ".emb" if config.embedding == "fixed" else ""
            for number, mark in enumerate(_MARKS[: shape.marks]):
                table = take(f"{temporal}.{mark}_embed{inner}.weight")
                ours[f"{name}_embedding.calendar.tables.{number}.weight"] = table
        else:
            ours |= take.pair(f"{name}_embedding.calendar", f"{temporal}.embed")
    for number, depth in enumerate(config.stack or (config.e_layers,)):
        theirs = f"encoder.encoders.{number}" if config.stack else "encoder"
        for layer in range(depth):
            ours |= _layer(take, f"encoders.{number}.layers.{layer}", f"{theirs}.attn_layers.{layer}", "attention", 2)
        for layer in range(depth - 1 if config.distil else 0):
            mine, other = f"encoders.{number}.distils.{layer}", f"{theirs}.conv_layers.{layer}"
            ours |= take.convolution(f"{mine}.convolve", f"{other}.downConv") | take.pair(
                f"{mine}.norm", f"{other}.norm"
            )
            for statistic in ("running_mean", "running_var", "num_batches_tracked"):
                ours[f"{mine}.norm.{statistic}"] = take(f"{other}.norm.{statistic}")
        ours |= take.pair(f"encoders.{number}.norm", f"{theirs}.norm")
    for layer in range(config.d_layers):
        mine, other = f"decoder.{layer}", f"decoder.layers.{layer}"
        ours |= _layer(take, mine, other, "self_attention", 3)
        ours |= take.pair(f"{mine}.cross.project_query", f"{other}.cross_attention.query_projection")
        ours |= take.joined(f"{mine}.cross.project_memory", f"{other}.cross_attention", ("key", "value"))
        ours |= take.pair(f"{mine}.cross.out", f"{other}.cross_attention.out_projection")
        ours |= take.pair(f"{mine}.norm_cross", f"{other}.norm2")
    return ours | take.pair("decoder_norm", "decoder.norm") | take.pair("head", "projection")


def _layer(take: _Taken, ours: str, theirs: str, attention: str, last_norm: int) -> dict[str, Tensor]:
    """Translate self-attention and feed-forward, which encoder and decoder layers share."""
    return (
        take.joined(f"{ours}.attention.project", f"{theirs}.{attention}", ("query", "key", "value"))
        | take.pair(f"{ours}.attention.out", f"{theirs}.{attention}.out_projection")
        | take.pair(f"{ours}.feed_forward.widen", f"{theirs}.conv1")
        | take.pair(f"{ours}.feed_forward.narrow", f"{theirs}.conv2")
        | take.pair(f"{ours}.norm_attention", f"{theirs}.norm1")
        | take.pair(f"{ours}.norm_feed_forward", f"{theirs}.norm{last_norm}")
    )

"""Settings of the models: size and switches of the Informer, how it is fitted, and those of the linear model.

Nothing here needs PyTorch, so that a configuration is read, explained and checked without loading it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from qtrade.settings import Settings


class InformerConfig(Settings):
    """The network's size and switches."""

    d_model: int = Field(default=32, ge=2)
    """Width D of the embedding; even, and a multiple of n_heads."""
    n_heads: int = Field(default=2, ge=1)
    """Attention heads A."""
    e_layers: int = Field(default=2, ge=1)
    """Encoder layers."""
    stack: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Depths of InformerStack's encoders, as 3, 2, 1, in place of e_layers; each reads half of what the last did."""
    d_layers: int = Field(default=1, ge=1)
    """Decoder layers."""
    d_ff: int = Field(default=128, ge=1)
    """Inner width of the feed-forward blocks."""
    factor: int = Field(default=5, ge=1)
    """ProbSparse factor c: `c * ceil(ln L)` queries stay active and as many keys are sampled."""
    attention: Literal["prob", "full"] = "prob"
    """Self-attention of encoder and decoder; cross-attention is always full."""
    attention_keys: Literal["sampled", "all"] = "sampled"
    """Keys that rank the queries: a random sample as in the paper, or all of them."""
    distil: bool = True
    """Halve the sequence between encoder layers."""
    mix: bool = False
    """In the decoder, hand time steps of one head on as if they were heads of one time step: the authors' default, off
    here because it lets a position see later ones. (They are placeholders, so nothing of the future leaks.)"""
    embedding: Literal["timeF", "fixed", "learned"] = "timeF"
    """Calendar marks as numbers through a linear layer, or as integers through frozen sinusoids or learned tables."""
    activation: Literal["gelu", "relu"] = "gelu"
    """Activation of the feed-forward blocks."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of activations dropped in training."""
    zero_head: bool = True
    """Start training from a last layer of zeros, that is from the random walk; the paper starts from random numbers."""

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}")
        if self.d_model % 2:
            raise ValueError(f"d_model {self.d_model} is odd: the position code needs pairs of columns")
        return self


class TrainConfig(Settings):
    """How a network is fitted."""

    epochs: int = Field(default=6, ge=1)
    """Passes over the fitting windows at most."""
    batch_size: int = Field(default=64, ge=1)
    """Windows per optimiser step."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Step size of the first epoch."""
    schedule: Literal["type1", "type2", "cosine", "constant"] = "cosine"
    """Step size over the epochs: `type1` halves it after each but the first, as the authors' code does; `type2` sets
    the authors' fixed steps, whatever learning_rate is; `cosine` lets it fall to zero."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Decoupled weight decay of AdamW."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest gradient norm; a longer gradient is scaled down to it."""
    patience: int = Field(default=2, ge=1)
    """Epochs without a better validation loss after which training stops."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """`auto` takes a CUDA GPU, else Apple's, else the CPU."""
    mixed_precision: bool = True
    """Multiply matrices in bfloat16 where the hardware is made for it: on CUDA cards, and on CPUs with matrix units."""
    cuda_graphs: bool = False
    """On CUDA, record one step and replay it, which spares small networks the launching of every operation anew."""
    threads: int = Field(default=1, ge=1)
    """CPU threads per fit. One is fastest for small networks, as folds are fitted side by side; raise it for large."""
    workers: int = Field(default=0, ge=0)
    """Folds fitted side by side. 0 takes as many as there are cores for their threads, and one on a GPU, where several
    pay once one network leaves the card idle. Changes no result."""


class NeuralConfig(Settings):
    """A network and how it is fitted."""

    network: InformerConfig = InformerConfig()
    train: TrainConfig = TrainConfig()
    key_seed: int = Field(default=2021, ge=0)
    """Seed of the keys that ProbSparse attention samples at prediction, so that asking twice gives one answer."""


class RidgeConfig(Settings):
    """Settings of the linear model."""

    penalties: tuple[Annotated[float, Field(ge=0)], ...] = Field(default=(1e2, 1e3, 1e4, 1e5, 1e6), min_length=1)
    """Candidates for the L2 penalty, none negative; validation chooses. 0 is least squares."""


class NoSettings(Settings):
    """A model without settings."""

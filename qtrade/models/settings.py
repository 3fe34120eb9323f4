"""Size and switches of the Informer."""

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

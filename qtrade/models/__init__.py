"""The models there are, by name, and what each is; the classes are in `qtrade.models.catalogue`."""

from __future__ import annotations

MODEL_TEXTS: dict[str, str] = {
    "informer": "The Informer (Zhou et al. 2021): a network that predicts the whole path in one pass.",
    "naive": "The random walk: every future return is zero.",
    "drift": "The random walk with drift: every future return of a symbol is its mean over the fitting labels.",
    "ridge": "Direct multi-step ridge regression of the path on the features at the origin.",
}
"""What is said of each model; the same sentence opens its class."""

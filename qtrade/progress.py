"""What a long job tells whoever watches it. The terminal's bars live in the command line; tests watch in silence."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the steps of a job of known length."""

    def start(self, title: str, total: int) -> None:
        """Begin a job of `total` steps, which replaces the one before."""

    def advance(self, steps: int, note: str) -> None:
        """Report `steps` done and a short note, such as ``fold 3/11 epoch 2/8 loss 0.98``."""

    def message(self, text: str) -> None:
        """Print one line that stays."""


class Silent:
    """A `Progress` that says nothing."""

    def start(self, title: str, total: int) -> None:
        """Do nothing."""

    def advance(self, steps: int, note: str) -> None:
        """Do nothing."""

    def message(self, text: str) -> None:
        """Do nothing."""

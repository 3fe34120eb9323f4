"""Named sizes of the Informer with the training that suits them."""

from __future__ import annotations

from typing import Any, Literal

PresetName = Literal["tiny", "small", "base", "paper"]

PRESETS: dict[str, dict[str, Any]] = {
    # Whether everything works, in seconds; it can hardly learn.
    "tiny": {
        "window": {"seq_len": 32, "label_len": 16},
        "informer": {"d_model": 8, "n_heads": 2, "d_ff": 16, "e_layers": 1},
        "train": {"epochs": 1},
    },
    # Markets on a CPU: the defaults.
    "small": {},
    "base": {
        "informer": {"d_model": 128, "n_heads": 4, "d_ff": 512},
        "train": {"epochs": 10, "patience": 3, "batch_size": 128, "learning_rate": 2e-4},
    },
    # The published settings: Zhou et al. (2021) and the defaults of the authors' code. Their optimiser is Adam, without
    # weight decay and with no bound on the gradient, and their network starts from random numbers everywhere.
    "paper": {
        "window": {"seq_len": 96, "label_len": 48},
        "informer": {
            "d_model": 512,
            "n_heads": 8,
            "e_layers": 2,
            "d_layers": 1,
            "d_ff": 2048,
            "factor": 5,
            "dropout": 0.05,
            "mix": True,
            "zero_head": False,
        },
        "train": {
            "epochs": 6,
            "patience": 3,
            "batch_size": 32,
            "learning_rate": 1e-4,
            "schedule": "type1",
            "weight_decay": 0.0,
            "clip_norm": 1e9,
        },
    },
}
"""Settings that a preset changes from their defaults."""

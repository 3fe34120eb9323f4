"""How many processes a model gets: one per core on a CPU, and one where there is a card, unless more are asked for."""

from __future__ import annotations

import pytest
import torch

from qtrade.config import load_config
from qtrade.pipeline.fitting import has_a_card_to_itself
from qtrade.pipeline.train import count_processes

CORES = 6
MANY = 10_000_000


@pytest.mark.parametrize(
    ("device", "model", "workers", "alone", "processes"),
    [
        ("cuda", "informer", 0, True, 1),
        ("cuda", "informer", 3, False, 3),
        ("cuda", "ridge", 0, False, 1),
        ("mps", "informer", 0, True, 1),
        ("cpu", "informer", 0, False, CORES),
    ],
)
def test_a_card_is_shared_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, device: str, model: str, workers: int, alone: bool, processes: int
) -> None:
    for module in ("fitting", "train"):
        monkeypatch.setattr(f"qtrade.pipeline.{module}.choose_device", lambda name: torch.device(device))
    monkeypatch.setattr("qtrade.pipeline.parallel._cores", lambda: CORES)
    config = load_config(None, [f"train.workers={workers}", "train.threads=1"])
    assert has_a_card_to_itself(config, model) == alone
    assert count_processes(config, model, MANY) == processes

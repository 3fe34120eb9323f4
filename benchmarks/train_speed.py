"""How fast Informer trains: ours against the plainly written network, in one run, after checking that they agree.

    python benchmarks/train_speed.py                       # small network on the CPU
    python benchmarks/train_speed.py --d-model 512 --heads 8 --d-ff 2048 --windows 512
    python benchmarks/train_speed.py --device cuda

Prints JSON: windows per second of the median epoch, peak memory and losses, each measured in processes of its own that
take turns, and their ratio. Both start from the same weights, with the same optimiser and the same share
dropped, so that the losses may differ by the draws of dropout, keys and order alone. Figures of different machines, or
of different runs, do not compare; the ratio does.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
from obvious_informer import ObviousInformer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from qtrade.models.batches import DeviceSamples
from qtrade.models.device import set_threads
from qtrade.models.informer import Informer
from qtrade.models.settings import InformerConfig, TrainConfig
from qtrade.models.train import fit_network
from qtrade.progress import Silent
from qtrade.windows import Samples, WindowConfig

FEATURES, MARKS, LEARNING_RATE = 24, 4, 1e-3
BF16_PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
WINDOW = WindowConfig(seq_len=96, label_len=48, horizon=24)


def main() -> None:
    """Check, measure both, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--d-model", type=int, default=64)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--d-ff", type=int, default=256)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--windows", type=int, default=4096)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="times the two take turns")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cuda-graphs", action="store_true", help="record one step of ours and replay it")
    parser.add_argument("--only", choices=("ours", "obvious"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    set_threads(options.threads)
    if options.only:
        print(json.dumps(measure(options.only, options)))
        return
    error = check_parity(options)
    rounds = [{name: measure_apart(name) for name in ("obvious", "ours")} for _ in range(options.rounds)]
    results = {name: summary([one[name] for one in rounds], options) for name in ("obvious", "ours")}
    print(
        json.dumps(
            {
                "torch": torch.__version__,
                "settings": {key: value for key, value in vars(options).items() if key != "only"},
                "largest_parity_error": error,
                **results,
                "speed_ratio": results["ours"]["windows_per_second"] / results["obvious"]["windows_per_second"],
                "memory_ratio": results["ours"]["peak_memory_mib"] / results["obvious"]["peak_memory_mib"],
            },
            indent=2,
        )
    )


def check_parity(options: argparse.Namespace) -> float:
    """Largest difference of outputs and of gradients, same weights and same draws, dropout off; float64."""
    theirs = obvious(options, dropout=0.0).double()
    ours = Informer.from_official(theirs.state_dict(), config(options, dropout=0.0), WINDOW)
    batch = [torch.from_numpy(values[:8]).double() for values in windows(8)]
    outputs: list[Tensor] = []
    gradients: list[Tensor] = []
    for network in (theirs, ours):
        torch.manual_seed(1)
        path = network(*batch[:3])
        (path**2).sum().backward()
        outputs.append(path.detach())
        weight = network.projection.weight if isinstance(network, ObviousInformer) else network.head.weight
        assert weight.grad is not None
        gradients.append(weight.grad)
    error = max(float((pair[0] - pair[1]).abs().max()) for pair in (outputs, gradients))
    if error > 1e-8:
        raise SystemExit(f"the two networks differ by {error}: nothing is timed")
    return error


def measure_apart(name: str) -> dict[str, Any]:
    """Measure in a process of its own, so that one's memory is not the other's."""
    command = [sys.executable, *sys.argv, "--only", name]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train for some epochs: seconds and loss of each, and the peak of memory."""
    epochs = train_ours(options) if name == "ours" else train_obvious(options)
    if options.device == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**20
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {
        "seconds": [seconds for seconds, _ in epochs],
        "loss": [loss for _, loss in epochs],
        "peak_memory_mib": memory,
    }


def summary(rounds: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Put the rounds of one of the two together."""
    speed = options.windows / statistics.median(second for one in rounds for second in one["seconds"])
    flop = step_flop(options)
    return {
        "windows_per_second": speed,
        "tflop_per_second": speed * flop / 1e12,
        "share_of_bf16_peak": share_of_peak(speed * flop, options),
        "peak_memory_mib": max(one["peak_memory_mib"] for one in rounds),
        "loss_per_epoch": rounds[0]["loss"],
    }


def step_flop(options: argparse.Namespace) -> float:
    """Floating-point operations of matrix products that the plain network needs to learn from one window."""
    network = obvious(options)
    with FlopCounterMode(display=False) as counter:
        network(*(torch.from_numpy(values) for values in windows(8))).sum().backward()
    return float(counter.get_total_flops()) / 8


def share_of_peak(flop_per_second: float, options: argparse.Namespace) -> float | None:
    """Share of what the card's maker says it multiplies in bfloat16 without sparsity; None for other hardware."""
    name = torch.cuda.get_device_name() if options.device == "cuda" else ""
    return next((flop_per_second / peak for card, peak in BF16_PEAK.items() if card in name), None)


def train_ours(options: argparse.Namespace) -> list[tuple[float, float]]:
    """Seconds and loss per epoch of the product's loop, validated on one window."""
    samples = market(options.windows)
    train = TrainConfig(
        epochs=options.epochs,
        batch_size=options.batch,
        learning_rate=LEARNING_RATE,
        schedule="constant",
        weight_decay=0.0,
        clip_norm=1e9,
        device=options.device,
        patience=options.epochs,
        cuda_graphs=options.cuda_graphs,
    )
    network = Informer.from_official(obvious(options).state_dict(), config(options), WINDOW)
    first = WINDOW.seq_len - 1
    fit, valid = samples.rows(range(first, first + options.windows)), samples.rows(range(first, first + 1))
    data = DeviceSamples(samples, torch.device(options.device))
    history = fit_network(network, data, fit, valid, train, seed=0, key_seed=0, progress=Silent())
    return [(epoch.seconds, epoch.train_loss) for epoch in history.epochs]


def train_obvious(options: argparse.Namespace) -> list[tuple[float, float]]:
    """Seconds and loss per epoch of the loop everyone writes first: a data set of windows, a loader, Adam."""
    network = obvious(options).to(options.device)
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    loader = DataLoader(PlainWindows(market(options.windows), options.windows), options.batch, shuffle=True)
    epochs = []
    for _ in range(options.epochs):
        started = time.perf_counter()
        losses = []
        for parts in loader:
            past, marks_past, marks_future, label = (part.float().to(options.device) for part in parts)
            optimiser.zero_grad()
            loss = nn.functional.mse_loss(network(past, marks_past, marks_future), label)
            losses.append(loss.item())
            torch.autograd.backward(loss)
            optimiser.step()
        epochs.append((time.perf_counter() - started, statistics.fmean(losses)))
    return epochs


class PlainWindows(Dataset[Any]):
    """One window per item, sliced on the host."""

    def __init__(self, samples: Samples, count: int) -> None:
        self.samples, self.count = samples, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        samples, stop = self.samples, number + WINDOW.seq_len
        assert samples.target is not None
        ahead = slice(samples.future_start[stop - 1], samples.future_start[stop - 1] + WINDOW.horizon)
        label = samples.target[stop : stop + WINDOW.horizon]
        return samples.values[number:stop, 0], samples.marks[number:stop], samples.future_marks[ahead], label


def obvious(options: argparse.Namespace, dropout: float = 0.05) -> ObviousInformer:
    """Build the plain network, seeded."""
    torch.manual_seed(0)
    return ObviousInformer(
        FEATURES,
        MARKS,
        1,
        label_len=WINDOW.label_len,
        horizon=WINDOW.horizon,
        width=options.d_model,
        heads=options.heads,
        inner=options.d_ff,
        dropout=dropout,
        mix=False,
    )


def config(options: argparse.Namespace, dropout: float = 0.05) -> InformerConfig:
    """Return the same network's settings."""
    return InformerConfig(d_model=options.d_model, n_heads=options.heads, d_ff=options.d_ff, dropout=dropout)


def market(count: int) -> Samples:
    """Random bars that hold `count` windows."""
    bars = count + WINDOW.seq_len + WINDOW.horizon
    generator = np.random.default_rng(0)
    values = generator.normal(size=(bars, 1, FEATURES)).astype(np.float32)
    # Something to learn: every bar follows the first feature of the bar before it, halfway.
    target = 0.7 * np.roll(values[:, :, 0], 1, axis=0) + 0.7 * generator.normal(size=(bars, 1)).astype(np.float32)
    return Samples(
        values=values,
        marks=generator.uniform(-0.5, 0.5, (bars, MARKS)).astype(np.float32),
        future_marks=generator.uniform(-0.5, 0.5, (bars + WINDOW.horizon, MARKS)).astype(np.float32),
        future_start=np.arange(bars, dtype=np.int64) + 1,
        target=target.astype(np.float32),
        window=WINDOW,
    )


def windows(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Past, past marks and future marks of the first windows."""
    samples = market(count)
    cut = samples.cut(samples.rows(range(WINDOW.seq_len - 1, WINDOW.seq_len - 1 + count)))
    return cut.past, cut.marks_past, cut.marks_future


if __name__ == "__main__":
    main()

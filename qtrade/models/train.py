"""The one training loop: every network is fitted, stopped and asked for predictions here."""

from __future__ import annotations

import math
import time
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from qtrade.errors import UsageError
from qtrade.models.base import Epoch, History, TrainingError
from qtrade.progress import Progress
from qtrade.settings import Settings
from qtrade.types import Float64Array
from qtrade.windows import Rows, Samples, label_offsets, past_offsets


class TrainConfig(Settings):
    """How a network is fitted."""

    epochs: int = Field(default=6, ge=1)
    """Passes over the fitting windows at most."""
    batch_size: int = Field(default=64, ge=1)
    """Windows per optimiser step."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Step size of the first epoch."""
    schedule: Literal["type1", "cosine", "constant"] = "cosine"
    """Step size over the epochs: `type1` halves it after each (the paper's), `cosine` lets it fall to zero."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Decoupled weight decay of AdamW."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest gradient norm; a longer gradient is scaled down to it."""
    patience: int = Field(default=2, ge=1)
    """Epochs without a better validation loss after which training stops."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """`auto` takes a CUDA GPU, else Apple's, else the CPU."""
    mixed_precision: bool = True
    """On CUDA, multiply matrices in bfloat16 where the card can."""
    threads: int = Field(default=1, ge=1)
    """CPU threads per fit. One is fastest for small networks, as folds are fitted side by side; raise it for large."""
    workers: int = Field(default=0, ge=0)
    """Folds fitted side by side on a CPU; 0 takes as many as there are cores for their threads. Changes no result."""


def choose_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `mps` into a device that is there.

    Raises
    ------
    UsageError
        If the device asked for is not available.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if not available[name]:
        raise UsageError(
            f"device '{name}' is not available",
            why=f"this PyTorch ({torch.__version__}) finds no such device",
            fix="set train.device to 'auto' or 'cpu'; `qtrade doctor` shows what there is",
        )
    return torch.device(name)


def set_threads(count: int) -> int:
    """Let PyTorch use `count` CPU threads, and return how many it used before.

    Sums are split by thread, so a result depends on their number in its last bit.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    return before


def torch_version() -> str:
    """Version of PyTorch, without the name of its build: another version may round otherwise."""
    return torch.__version__.partition("+")[0]


def describe_device() -> tuple[str, int]:
    """Name the device that `auto` chooses, and count the CPU threads PyTorch uses."""
    device = choose_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return name, torch.get_num_threads()


class Batch(NamedTuple):
    """Windows on the device: what `Informer.forward` takes, and the label."""

    past: Tensor
    marks_past: Tensor
    marks_future: Tensor
    label: Tensor | None


class DeviceSamples:
    """`Samples` held on a device, where windows are gathered without visiting the host."""

    def __init__(self, samples: Samples, device: torch.device) -> None:
        self.samples, self.device = samples, device
        symbols = samples.values.shape[1]
        # Bars and symbols share one axis, so that a window is one gather of rows of F numbers.
        self.values = torch.from_numpy(samples.values.reshape(-1, samples.values.shape[2])).to(device)
        self.marks = torch.from_numpy(samples.marks).to(device)
        self.future_marks = torch.from_numpy(samples.future_marks).to(device)
        self.future_start = torch.from_numpy(samples.future_start).to(device)
        self.target = None if samples.target is None else torch.from_numpy(samples.target.reshape(-1)).to(device)
        self.symbols = symbols
        window = samples.window
        self.past = torch.from_numpy(past_offsets(window.seq_len)).to(device)
        self.label = torch.from_numpy(label_offsets(window.horizon, samples.delay)).to(device)
        self.ahead = self.label - 1

    def rows(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Check `rows` and copy them to the device."""
        self.samples.check(rows)
        return torch.from_numpy(rows.origin).to(self.device), torch.from_numpy(rows.symbol).to(self.device)

    def batch(self, origin: Tensor, symbol: Tensor, *, labelled: bool) -> Batch:
        """Gather the windows at (B,) origins and symbols, which come from `rows`."""
        past = origin[:, None] + self.past
        label = None
        if labelled:
            assert self.target is not None, "fitting needs labels"
            label = self.target[(origin[:, None] + self.label) * self.symbols + symbol[:, None]]
        return Batch(
            past=functional.embedding(past * self.symbols + symbol[:, None], self.values),
            marks_past=functional.embedding(past, self.marks),
            marks_future=functional.embedding(self.future_start[origin][:, None] + self.ahead, self.future_marks),
            label=label,
        )


def fit_network(
    network: nn.Module,
    samples: Samples,
    fit: Rows,
    valid: Rows,
    config: TrainConfig,
    *,
    seed: int,
    key_seed: int,
    progress: Progress,
) -> History:
    """Fit `network` in place and leave it with the weights of its best epoch.

    The order of windows, dropout and sampled keys all follow from `seed`. The validation loss is the mean over all
    windows of `valid`, with the keys that prediction will use.

    Raises
    ------
    TrainingError
        If a loss is not finite.
    """
    device = choose_device(config.device)
    network.to(device)
    data = DeviceSamples(samples, device)
    origin, symbol = data.rows(fit)
    forked = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=forked):
        torch.manual_seed(seed)
        order = torch.Generator(device).manual_seed(seed)
        optimiser = torch.optim.AdamW(
            network.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=device.type in ("cpu", "cuda"),
        )
        epochs: list[Epoch] = []
        best_loss, best_epoch, best_weights = math.inf, 0, dict[str, Tensor]()
        for number in range(1, config.epochs + 1):
            started = time.perf_counter()
            rate = learning_rate(config, number)
            for group in optimiser.param_groups:
                group["lr"] = rate
            train_loss = _epoch(network, data, origin, symbol, optimiser, config, order)
            valid_loss = _mean_squared_error(network, data, valid, config, key_seed)
            if not (math.isfinite(train_loss) and math.isfinite(valid_loss)):
                raise TrainingError(
                    f"the loss became {train_loss if not math.isfinite(train_loss) else valid_loss} in epoch {number}",
                    why="the weights ran away, or an input is not finite",
                    fix="set a smaller train.learning_rate or train.clip_norm",
                )
            epochs.append(Epoch(number, train_loss, valid_loss, rate, time.perf_counter() - started))
            if valid_loss < best_loss:
                best_loss, best_epoch = valid_loss, number
                best_weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
            note = f"epoch {number}/{config.epochs}  loss {train_loss:.4f}  valid {valid_loss:.4f}"
            if number - best_epoch >= config.patience:
                progress.advance(config.epochs - number + 1, note)
                break
            progress.advance(1, note)
        network.load_state_dict(best_weights)
    return History(tuple(epochs), best_epoch, best_loss)


def predict_network(
    network: nn.Module, data: DeviceSamples, rows: Rows, config: TrainConfig, *, key_seed: int, batch_size: int = 256
) -> Float64Array:
    """Predict the (W, H) scaled paths after `rows`.

    Every batch has `batch_size` windows, the last one filled up with copies of its last window, and draws the same
    keys: matrix products round differently for different shapes, and a forecast must not change, not even in its last
    bit, because more or fewer windows were asked for beside it.
    """
    device = data.device
    network.to(device).eval()
    origin, symbol = data.rows(rows)
    full = -(-len(rows) // batch_size) * batch_size
    spare = torch.full((full - len(rows),), len(rows) - 1, device=device)
    order = torch.cat((torch.arange(len(rows), device=device), spare))
    parts = []
    with torch.inference_mode(), _precision(config, device):
        for chosen in torch.split(order, batch_size):
            keys = torch.Generator().manual_seed(key_seed)
            batch = data.batch(origin[chosen], symbol[chosen], labelled=False)
            parts.append(network(batch.past, batch.marks_past, batch.marks_future, keys=keys).squeeze(-1).float())
    paths: Float64Array = torch.cat(parts)[: len(rows)].cpu().numpy().astype(np.float64)
    return paths


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """Step size of an epoch, counted from 1."""
    if config.schedule == "type1":
        return config.learning_rate * 0.5 ** (epoch - 1)
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / config.epochs))
    return config.learning_rate


def _epoch(
    network: nn.Module,
    data: DeviceSamples,
    origin: Tensor,
    symbol: Tensor,
    optimiser: torch.optim.Optimizer,
    config: TrainConfig,
    order: torch.Generator,
) -> float:
    """One pass over the fitting windows; the mean loss. Nothing waits for the device before the end."""
    network.train()
    total = torch.zeros((), device=data.device)
    shuffled = torch.randperm(len(origin), generator=order, device=data.device)
    for chosen in torch.split(shuffled, config.batch_size):
        batch = data.batch(origin[chosen], symbol[chosen], labelled=True)
        assert batch.label is not None
        with _precision(config, data.device):
            path = network(batch.past, batch.marks_past, batch.marks_future, keys=order).squeeze(-1)
        assert path.shape == batch.label.shape, f"prediction {path.shape} and label {batch.label.shape} differ"
        loss = functional.mse_loss(path.float(), batch.label)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm, foreach=True)
        optimiser.step()
        total += loss.detach() * len(chosen)
    return float(total) / len(origin)


def _mean_squared_error(
    network: nn.Module, data: DeviceSamples, rows: Rows, config: TrainConfig, key_seed: int
) -> float:
    """Mean squared error over all windows of `rows`."""
    path = predict_network(network, data, rows, config, key_seed=key_seed)
    return float(np.mean((path - data.samples.labels(rows)) ** 2))


def _precision(config: TrainConfig, device: torch.device) -> torch.autocast:
    """Mixed precision on a CUDA card that has bfloat16; elsewhere nothing."""
    enabled = config.mixed_precision and device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)

"""The one training loop: every network is fitted, stopped and asked for predictions here."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from qtrade.models.base import Epoch, History, TrainingError
from qtrade.models.batches import Batch, DeviceSamples
from qtrade.models.device import fast_products, half_precision, keep_freed_memory
from qtrade.models.informer import Informer
from qtrade.models.settings import TrainConfig
from qtrade.progress import Progress
from qtrade.types import Float32Array
from qtrade.windows import Rows


def fit_network(
    network: Informer,
    data: DeviceSamples,
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
    device = data.device
    keep_freed_memory()
    network.to(device)
    origin, symbol = data.rows(fit)
    forked = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=forked):
        torch.manual_seed(seed)
        order = torch.Generator(device).manual_seed(seed)
        step = _Step(network, data, config, order)
        epochs: list[Epoch] = []
        best_loss, best_epoch, best_weights = math.inf, 0, dict[str, Tensor]()
        for number in range(1, config.epochs + 1):
            started = time.perf_counter()
            rate = learning_rate(config, number)
            train_loss = step.epoch(origin, symbol, rate)
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
    network: Informer, data: DeviceSamples, rows: Rows, config: TrainConfig, *, key_seed: int
) -> Float32Array:
    """Predict the (W, H, C) scaled paths after `rows`."""
    parts = [path for _, path in _predicted(network, data, rows, config, key_seed, labelled=False)]
    return torch.cat(parts).cpu().numpy()


def attention_maps(
    network: Informer, data: DeviceSamples, row: Rows, config: TrainConfig, *, key_seed: int
) -> list[Float32Array]:
    """Attention of every encoder layer on one window, (A, L', L') query by key, with the keys that prediction draws."""
    origin, symbol = data.rows(row)
    mixed = config.mixed_precision
    maps: list[Tensor] = []
    network.to(data.device).eval()
    with torch.inference_mode(), fast_products(data.device, mixed=mixed), half_precision(data.device, mixed=mixed):
        batch = data.batch(origin[:1], symbol[:1], labelled=False)
        keys = torch.Generator().manual_seed(key_seed)
        network(batch.past, batch.marks_past, batch.marks_future, keys=keys, maps=maps)
    return [one[0].float().cpu().numpy() for one in maps]


def _predicted(
    network: Informer, data: DeviceSamples, rows: Rows, config: TrainConfig, key_seed: int, *, labelled: bool
) -> Iterator[tuple[Batch, Tensor]]:
    """Batches of windows and their paths, in order; of the last batch only the windows asked for have a path.

    Every batch has the same size, the last one filled up with copies of its last window, and draws the same keys:
    matrix products round differently for different shapes, and a forecast must not change, not even in its last bit,
    because more or fewer windows were asked for beside it.
    """
    device, mixed = data.device, config.mixed_precision
    network.to(device).eval()
    origin, symbol = data.rows(rows)
    size = network.predicted_at_once
    full = -(-len(rows) // size) * size
    order = torch.arange(full, device=device).clamp_(max=len(rows) - 1)
    for start in range(0, full, size):
        chosen = order[start : start + size]
        keys = torch.Generator().manual_seed(key_seed)
        with torch.inference_mode(), fast_products(device, mixed=mixed), half_precision(device, mixed=mixed):
            batch = data.batch(origin[chosen], symbol[chosen], labelled=labelled)
            path = network(batch.past, batch.marks_past, batch.marks_future, keys=keys)
        yield batch, path[: len(rows) - start].float()


_TYPE2 = {2: 5e-5, 4: 1e-5, 6: 5e-6, 8: 1e-6, 10: 5e-7, 15: 1e-7, 20: 5e-8}
"""Step sizes that take hold after an epoch, from the authors' code."""


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """Step size of an epoch, counted from 1."""
    if config.schedule == "type1":
        return config.learning_rate * 0.5 ** max(epoch - 2, 0)
    if config.schedule == "type2":
        passed = [rate for after, rate in _TYPE2.items() if epoch > after]
        return passed[-1] if passed else config.learning_rate
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / config.epochs))
    return config.learning_rate


def flatten(network: nn.Module) -> nn.Parameter:
    """Lay all trainable weights of `network` out in one vector, of which they become views, and so their gradients.

    Clipping and stepping are then a few operations in place of some for every layer.
    """
    trainable = [weight for weight in network.parameters() if weight.requires_grad]
    flat = nn.Parameter(torch.cat([weight.detach().reshape(-1) for weight in trainable]))
    flat.grad = torch.zeros_like(flat)
    start = 0
    for weight in trainable:
        stop = start + weight.numel()
        weight.data = flat.data[start:stop].view(weight.shape)
        weight.grad = flat.grad[start:stop].view(weight.shape)
        start = stop
    return flat


class _Step:
    """One optimiser step after another: what is updated, with what, and the loss added up on the device."""

    WARM_UP = 3
    """Steps done before one is recorded, as CUDA wants it: libraries set themselves up in the first ones."""

    def __init__(self, network: Informer, data: DeviceSamples, config: TrainConfig, order: torch.Generator) -> None:
        self.network, self.data, self.config, self.order = network, data, config, order
        device = data.device
        self.weights = flatten(network)
        self.optimiser = torch.optim.AdamW(
            [self.weights],
            lr=torch.tensor(config.learning_rate, device=device),
            weight_decay=config.weight_decay,
            fused=device.type in ("cpu", "cuda"),
            capturable=device.type == "cuda",
        )
        self.total = torch.zeros((), device=device)
        self.recorded = config.cuda_graphs and device.type == "cuda"
        self.graph: torch.cuda.CUDAGraph | None = None
        self.origin = torch.zeros(config.batch_size, dtype=torch.int64, device=device)
        self.symbol = torch.zeros_like(self.origin)
        self.done = 0

    def epoch(self, origin: Tensor, symbol: Tensor, rate: float) -> float:
        """Pass over the fitting windows once, in an order of its own; the mean loss. Only its end awaits the device."""
        self.network.train()
        self.optimiser.param_groups[0]["lr"].fill_(rate)
        self.total.zero_()
        shuffled = torch.randperm(len(origin), generator=self.order, device=origin.device)
        for chosen in torch.split(shuffled, self.config.batch_size):
            self(origin[chosen], symbol[chosen])
        return float(self.total) / len(origin)

    def __call__(self, origin: Tensor, symbol: Tensor) -> None:
        """Learn from a batch of windows; a recorded step takes full batches only."""
        if not self.recorded or len(origin) < len(self.origin):
            self._learn(origin, symbol)
            return
        self.origin.copy_(origin)
        self.symbol.copy_(symbol)
        self.done += 1
        if self.done <= self.WARM_UP:
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._learn(self.origin, self.symbol)
            torch.cuda.current_stream().wait_stream(stream)
            return
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            self.graph.register_generator_state(self.order)
            with torch.cuda.graph(self.graph):
                self._learn(self.origin, self.symbol)
        self.graph.replay()

    def _learn(self, origin: Tensor, symbol: Tensor) -> None:
        """Forward, backward, clip, step."""
        batch = self.data.batch(origin, symbol, labelled=True)
        assert batch.label is not None
        self.optimiser.zero_grad(set_to_none=False)
        mixed, device = self.config.mixed_precision, self.data.device
        with fast_products(device, mixed=mixed):
            with half_precision(device, mixed=mixed):
                path = self.network(batch.past, batch.marks_past, batch.marks_future, keys=self.order)
            assert path.shape == batch.label.shape, f"prediction {path.shape} and label {batch.label.shape} differ"
            loss = functional.mse_loss(path.float(), batch.label)
            torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_([self.weights], self.config.clip_norm)
        self.optimiser.step()
        self.total += loss.detach() * len(origin)


def _mean_squared_error(
    network: Informer, data: DeviceSamples, rows: Rows, config: TrainConfig, key_seed: int
) -> float:
    """Mean squared error over all windows of `rows`."""
    # Apple's GPUs know no double precision.
    exact = torch.float32 if data.device.type == "mps" else torch.float64
    total = torch.zeros((), dtype=exact, device=data.device)
    for batch, path in _predicted(network, data, rows, config, key_seed, labelled=True):
        assert batch.label is not None
        error = path.to(exact) - batch.label[: len(path)].to(exact)
        total += error.square().mean(dim=(1, 2)).sum()
    return float(total) / len(rows)

"""Windows in batches, gathered on the device that learns from them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from qtrade.windows import Rows, Samples, label_offsets, past_offsets


class Batch(NamedTuple):
    """Windows on the device: what `Informer.forward` takes, and the (B, H, C) label."""

    past: Tensor
    marks_past: Tensor
    marks_future: Tensor
    label: Tensor | None


class DeviceSamples:
    """`Samples` held on a device, where windows are gathered without visiting the host.

    Parameters
    ----------
    outputs
        Series C in a label: 1, the target; or all F columns (mode M), the target in place of its own past, the last.
    """

    def __init__(self, samples: Samples, device: torch.device, outputs: int = 1) -> None:
        assert outputs in (1, samples.values.shape[2]), "a label is the target, or all columns"
        self.samples, self.device, self.outputs = samples, device, outputs
        symbols = samples.values.shape[1]
        # Bars and symbols share one axis, so that a window is one gather of rows of F numbers.
        self.values = torch.from_numpy(samples.values.reshape(-1, samples.values.shape[2])).to(device)
        self.marks = torch.from_numpy(samples.marks).to(device)
        self.future_marks = torch.from_numpy(samples.future_marks).to(device)
        self.future_start = torch.from_numpy(samples.future_start).to(device)
        self.target = None if samples.target is None else torch.from_numpy(samples.target.reshape(-1)).to(device)
        self.unit = None if samples.unit is None else torch.from_numpy(samples.unit.reshape(-1)).to(device)
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
            ahead = (origin[:, None] + self.label) * self.symbols + symbol[:, None]
            label = self.target[ahead][..., None]
            if self.unit is not None:
                label = label / self.unit[origin * self.symbols + symbol][:, None, None]
            if self.outputs > 1:
                label = torch.cat((functional.embedding(ahead, self.values)[..., :-1], label), dim=-1)
        return Batch(
            past=functional.embedding(past * self.symbols + symbol[:, None], self.values),
            marks_past=functional.embedding(past, self.marks),
            marks_future=functional.embedding(self.future_start[origin][:, None] + self.ahead, self.future_marks),
            label=label,
        )

"""Labels in units of their origin: the same on the host, on the device, and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from qtrade.models.batches import DeviceSamples
from qtrade.windows import Rows, Samples, WindowConfig

WINDOW = WindowConfig(seq_len=4, label_len=2, horizon=3)


def make(delay: int = 0) -> Samples:
    """Targets 100 * bar + symbol, units 1, 2, 3 ... by bar, doubled for the second symbol."""
    bars, symbols = 20, 2
    generator = np.random.default_rng(0)
    bar = np.arange(bars, dtype=np.float32)[:, None]
    return Samples(
        values=generator.normal(size=(bars, symbols, 3)).astype(np.float32),
        marks=bar,
        future_marks=np.arange(bars + 10, dtype=np.float32)[:, None],
        future_start=np.arange(bars, dtype=np.int64) + 1,
        target=(100 * bar + np.arange(symbols, dtype=np.float32)).astype(np.float32),
        window=WINDOW,
        delay=delay,
        unit=(bar + 1) * np.array([1.0, 2.0], dtype=np.float32),
    )


@pytest.mark.parametrize("delay", [0, 2])
def test_a_label_is_divided_by_the_unit_of_its_origin(delay: int) -> None:
    samples = make(delay)
    rows = Rows(np.array([4, 9]), np.array([1, 0]))
    first = np.array([5 + delay, 10 + delay])
    expected = [
        [(100 * (first[0] + step) + 1) / 10 for step in range(3)],
        [(100 * (first[1] + step)) / 10 for step in range(3)],
    ]
    np.testing.assert_allclose(samples.labels(rows), expected, rtol=1e-6)
    label = samples.cut(rows).label
    assert label is not None
    assert label.dtype == np.float32
    np.testing.assert_array_equal(label, samples.labels(rows))


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_device_gathers_the_labels_of_the_host(outputs: int) -> None:
    samples = make()
    rows = samples.rows(range(4, 15))
    data = DeviceSamples(samples, torch.device("cpu"), outputs=outputs)
    label = data.batch(*data.rows(rows), labelled=True).label
    assert label is not None
    np.testing.assert_array_equal(label[..., -1].numpy(), samples.labels(rows))
    if outputs == 3:
        ahead = rows.origin[:, None] + np.arange(1, 4)
        np.testing.assert_array_equal(label[..., :-1].numpy(), samples.values[ahead, rows.symbol[:, None], :-1])


def test_units_of_one_change_nothing() -> None:
    samples = replace(make(), unit=None)
    ones = replace(samples, unit=np.ones((20, 2), dtype=np.float32))
    rows = samples.rows(range(4, 15))
    np.testing.assert_array_equal(samples.labels(rows), ones.labels(rows))
    plain, divided = (DeviceSamples(one, torch.device("cpu")) for one in (samples, ones))
    labels = [data.batch(*data.rows(rows), labelled=True).label for data in (plain, divided)]
    assert labels[0] is not None
    assert labels[1] is not None
    assert labels[0].numpy().tobytes() == labels[1].numpy().tobytes()


def test_units_are_forgotten_with_bars_and_target() -> None:
    samples = make()
    known = samples.until(8)
    assert known.unit is not None
    assert known.unit.shape == (9, 2)
    assert known.without_target().unit is None
    with pytest.raises(ValueError, match="unit must be"):
        replace(samples, unit=np.ones((19, 2), dtype=np.float32))

"""Where a window lies in time: the one place that says which bars an origin may read and which it is judged by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from qtrade.errors import IntegrityError
from qtrade.settings import Settings
from qtrade.types import Float32Array, Float64Array, IntArray, Windows


class WindowConfig(Settings):
    """How many bars a model reads and predicts."""

    seq_len: int = Field(default=96, ge=1, le=100_000)
    """Past bars read by the encoder (L)."""
    label_len: int = Field(default=48, ge=0)
    """Known bars at the end of the past that start the decoder's input."""
    horizon: int = Field(default=24, ge=1, le=10_000)
    """Future bars predicted in one pass (H)."""

    @model_validator(mode="after")
    def _label_lies_in_the_past(self) -> Self:
        if self.label_len > self.seq_len:
            raise ValueError(
                f"label_len {self.label_len} exceeds seq_len {self.seq_len}: the label part is known history"
            )
        return self


@dataclass(frozen=True)
class Rows:
    """Which windows: (W,) origins and (W,) symbol positions, ordered by origin, then symbol."""

    origin: IntArray
    symbol: IntArray

    def __len__(self) -> int:
        return len(self.origin)


def every_symbol(origins: range, symbols: int) -> Rows:
    """Return the windows of all of so many symbols at a range of origins."""
    return Rows(
        origin=np.repeat(np.arange(origins.start, origins.stop, origins.step, dtype=np.int64), symbols),
        symbol=np.tile(np.arange(symbols, dtype=np.int64), len(origins)),
    )


def past_offsets(seq_len: int) -> IntArray:
    """(L,) bar offsets from an origin to what it may read; the last is 0, the origin itself."""
    return np.arange(-seq_len + 1, 1, dtype=np.int64)


def label_offsets(horizon: int, delay: int = 0) -> IntArray:
    """(H,) bar offsets from an origin to its label; the first is ``1 + delay``."""
    return np.arange(1 + delay, horizon + delay + 1, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Samples:
    """All windows of a market, cut on demand from arrays that are held once.

    Attributes
    ----------
    values
        (T, S, F) float32 scaled features.
    marks
        (T, M) float32 calendar marks of the bars.
    future_marks, future_start
        (G, M) float32 marks on a grid of stamps known in advance, and (T,) its position of the first stamp after each
        bar: the bars expected after row t are ``future_marks[future_start[t] :]``.
    target
        (T, S) float32 scaled target, or None where only predictions are made.
    window
        Lengths L, label part and H.
    delay
        Bars between the origin and the start of its label.
    unit
        (T, S) float32 what a label is divided by, taken at its origin; None for 1.
    """

    values: Float32Array
    marks: Float32Array
    future_marks: Float32Array
    future_start: IntArray
    target: Float32Array | None
    window: WindowConfig
    delay: int = 0
    unit: Float32Array | None = None

    def __post_init__(self) -> None:
        bars = len(self.values)
        if len(self.marks) != bars or len(self.future_start) != bars:
            raise ValueError("values, marks and future_start must have one row per bar")
        if self.target is not None and self.target.shape != self.values.shape[:2]:
            raise ValueError(f"target must be {self.values.shape[:2]}, got {self.target.shape}")
        if self.unit is not None and self.unit.shape != self.values.shape[:2]:
            raise ValueError(f"unit must be {self.values.shape[:2]}, got {self.unit.shape}")

    def rows(self, origins: range) -> Rows:
        """Return the windows of every symbol at a range of origins."""
        return every_symbol(origins, self.values.shape[1])

    def until(self, bar: int) -> Samples:
        """Forget everything after position `bar`: what a model fitted as of that bar is given, and no more."""
        stop = bar + 1
        return replace(
            self,
            values=self.values[:stop],
            marks=self.marks[:stop],
            future_start=self.future_start[:stop],
            target=None if self.target is None else self.target[:stop],
            unit=None if self.unit is None else self.unit[:stop],
        )

    def without_target(self) -> Samples:
        """Forget the target: what a model that predicts is given."""
        return replace(self, target=None, unit=None)

    def cut(self, rows: Rows) -> Windows:
        """Cut the windows of `rows`; their label is None if the target was forgotten.

        Raises
        ------
        IntegrityError
            If a window would begin before the first bar or a label end after the last one.
        """
        self.check(rows)
        past = rows.origin[:, None] + past_offsets(self.window.seq_len)
        ahead = self.future_start[rows.origin][:, None] + np.arange(self.window.horizon) + self.delay
        return Windows(
            past=self.values[past, rows.symbol[:, None]],
            marks_past=self.marks[past],
            marks_future=self.future_marks[ahead],
            label=None if self.target is None else self.labels(rows),
            origin=rows.origin,
            symbol=rows.symbol,
        )

    def labels(self, rows: Rows) -> Float32Array:
        """Cut the (W, H) labels of `rows` alone."""
        if self.target is None:
            raise IntegrityError("these samples hold no target: they are for predicting")
        self.check(rows)
        bar = rows.origin[:, None] + label_offsets(self.window.horizon, self.delay)
        label: Float32Array = self.target[bar, rows.symbol[:, None]]
        return label if self.unit is None else label / self.unit[rows.origin, rows.symbol][:, None]

    def check(self, rows: Rows) -> None:
        """Raise `IntegrityError` unless every window of `rows` lies in the data, and its label if there is a target."""
        if len(rows) == 0:
            return
        first = int(rows.origin.min()) - self.window.seq_len + 1
        last = int(rows.origin.max())
        if self.target is not None:
            last += self.window.horizon + self.delay
        if first < 0 or last >= len(self.values):
            raise IntegrityError(
                f"a window reaches from bar {first} to bar {last}, but only bars 0 to {len(self.values) - 1} are known"
            )


def realised(returns: Float64Array, rows: Rows, horizon: int, delay: int = 0) -> Float64Array:
    """(W, H) returns that followed each origin; NaN beyond the last bar.

    Parameters
    ----------
    returns
        (T, S) log returns.
    """
    bar = rows.origin[:, None] + label_offsets(horizon, delay)
    known = bar < len(returns)
    values = returns[np.where(known, bar, 0), rows.symbol[:, None]]
    return np.where(known, values, np.nan)

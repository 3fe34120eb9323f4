"""What a sweep would do, found out without doing it: variants, and an estimate of time and memory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qtrade.config import RunConfig
from qtrade.pipeline.axes import Axis, combinations
from qtrade.pipeline.estimate import LIBRARIES_SECONDS
from qtrade.pipeline.plan_text import LOADED, duration, row, rows, size
from qtrade.pipeline.probe import peak_bytes
from qtrade.pipeline.sweep import folder_of, require_memory, trade_variants, vary
from qtrade.pipeline.venue import open_venue
from qtrade.progress import Silent
from qtrade.runs import Run, check_run
from qtrade.strategy import LoadedStrategy
from qtrade.strategy_spec import ParamValue

TIMED = 5
"""Variants that are traded at most, to see how long one takes; of few, half of them."""
_REST_SECONDS = LIBRARIES_SECONDS + 4.0
"""Starting, audits, judging and drawing, however many variants there are."""
_HELD = 3
"""Times that the returns of all variants are held at once, in 8 bytes each."""


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep would do.

    Attributes
    ----------
    folder, exists
        Where it would be, and whether it is there and would be written anew.
    seconds
        About, on a machine with nothing else to do.
    timed
        Variants that were traded to say so.
    """

    folder: Path
    exists: bool
    strategy: str
    axes: Mapping[str, Sequence[ParamValue]]
    variants: int
    bars: int
    symbols: int
    first: str
    last: str
    seconds: float
    timed: int
    memory_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        axes = {name: list(values) for name, values in self.axes.items()}
        return {**asdict(self), "folder": str(self.folder), "axes": axes}

    def lines(self) -> list[str]:
        """Tell all of it, a line for each part."""
        axes = [f"{name}: {len(values):,} values, {values[0]} to {values[-1]}" for name, values in self.axes.items()]
        return [
            row("folder", f"{self.folder} ({'there, and written anew' if self.exists else 'new'})"),
            row("strategy", self.strategy),
            *rows("parameters", axes),
            row("variants", f"{self.variants:,}, each of which is a trial that counts against the best"),
            row("bars", f"{self.bars:,} of {_symbols(self.symbols)}, {self.first[:10]} to {self.last[:10]}"),
            *rows("time", (f"about {duration(self.seconds)}, as {_variants(self.timed)} traded here took", LOADED)),
            row("memory", f"about {size(self.memory_bytes)}"),
        ]


def plan_sweep(
    run: Run, strategy: LoadedStrategy, axes: Sequence[Axis], *, config: RunConfig | None = None
) -> SweepPlan:
    """Find out what a sweep would do, and time some of its variants; nothing is written, and no trial counted.

    What they earned is not told: it would be a trial.

    Parameters
    ----------
    strategy, axes, config
        As for `qtrade.pipeline.sweep.sweep_run`.

    Raises
    ------
    QtradeError
        As the sweep itself would, where that is known beforehand.
    """
    check_run(run)
    config = config or run.config
    variants = [vary(strategy, one) for one in combinations(axes)]
    venue = open_venue(run, config)
    require_memory(len(variants), len(venue.span))
    many = min(TIMED, max(1, len(variants) // 2))
    some = variants[:: len(variants) // many][:many]
    trade_variants(some[:1], venue, Silent())  # whatever is compiled is compiled now
    started = time.process_time()
    trade_variants(some, venue, Silent())
    each = (time.process_time() - started) / len(some)
    folder = folder_of(run, strategy, axes, venue)
    return SweepPlan(
        folder=folder,
        exists=(folder / "sweep.json").exists(),
        strategy=strategy.spec,
        axes={axis.name: axis.values for axis in axes},
        variants=len(variants),
        bars=len(venue.span),
        symbols=len(venue.span.symbols),
        first=str(venue.span.index[0]),
        last=str(venue.span.index[-1]),
        seconds=_REST_SECONDS + len(variants) * each,
        timed=len(some),
        memory_bytes=peak_bytes() + _HELD * 8 * len(variants) * len(venue.span),
    )


def _variants(count: int) -> str:
    return "1 variant" if count == 1 else f"{count:,} variants"


def _symbols(count: int) -> str:
    return "1 symbol" if count == 1 else f"{count:,} symbols"

"""Where an encoder layer looks: its attention weights as a picture."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from qtrade.files import atomic_path
from qtrade.types import Float32Array

_TICKS = 4


def attention_figure(path: Path, weights: Float32Array, seen: pd.DatetimeIndex, title: str) -> None:
    """Draw one panel per head: queries downwards, keys to the right, both in the order of time.

    Parameters
    ----------
    weights
        (A, L', L') shares of a layer's heads, query by key; rows sum to one.
    seen
        (L,) stamps of the bars covered. A layer behind distilling steps has fewer positions than there are bars; each
        is labelled with the last bar it stands for.
    """
    heads, length, _ = weights.shape
    columns = min(heads, 4)
    lines = math.ceil(heads / columns)
    figure = Figure(figsize=(1.2 + 3.1 * columns, 1.2 + 2.9 * lines), layout="constrained", facecolor="white")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    # Most weights are close to 1 / L; a square root keeps them apart from the few that are not.
    norm = PowerNorm(0.5, vmin=0.0, vmax=float(weights.max()))
    places = np.unique(np.linspace(0, length - 1, _TICKS).round().astype(int))
    span = len(seen) / length
    stamps = [seen[min(len(seen) - 1, math.ceil((place + 1) * span) - 1)] for place in places]
    short = "%Y-%m-%d" if (seen.hour == 0).all() and (seen.minute == 0).all() else "%m-%d %H:%M"
    labels = [f"{stamp:{short}}" for stamp in stamps]
    for number, panel in enumerate(panels.flat):
        if number >= heads:
            panel.set_visible(False)
            continue
        image = panel.imshow(weights[number], norm=norm, cmap="viridis", interpolation="nearest", aspect="equal")
        panel.set_title(f"head {number + 1}", fontsize=10)
        panel.set_xticks(places, labels, rotation=30, ha="right", fontsize=8)
        panel.set_yticks(places, labels, fontsize=8)
    figure.colorbar(image, ax=panels, label="share of attention", shrink=0.8)
    idle = bool((np.ptp(weights, axis=-1) == 0).any()) and length > 1
    note = "\nA row of one colour is a query that ProbSparse attention left idle." if idle else ""
    figure.supxlabel(f"bar looked at{note}", fontsize=10)
    figure.supylabel("bar that asks", fontsize=10)
    figure.suptitle(f"{title}: attention up to {seen[-1]:{short}}", fontsize=11, parse_math=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)

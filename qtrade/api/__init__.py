"""The stages as functions for notebooks and scripts, with the names and the options of the command line.

::

    from qtrade import api as qt

    run = qt.run(["^GSPC"], preset="tiny")
    qt.backtest(run, "forecast_sign")

Importing this module loads nothing heavy; the first call of a stage does. Functions return what the stages make of it,
write the same files as the commands do, and raise `qtrade.errors.QtradeError`. A run is given as what `train` or
`open_run` returned, or by its name.
"""

from qtrade.api.common import DataOptions, RunOptions
from qtrade.api.questions import (
    Compared,
    Explained,
    backtest,
    compare,
    explain,
    forecast,
    list_runs,
    open_run,
    sweep,
)
from qtrade.api.stages import evaluate, fetch, load_bars, report, run, train
from qtrade.errors import QtradeError

__all__ = [
    "Compared",
    "DataOptions",
    "Explained",
    "QtradeError",
    "RunOptions",
    "backtest",
    "compare",
    "evaluate",
    "explain",
    "fetch",
    "forecast",
    "list_runs",
    "load_bars",
    "open_run",
    "report",
    "run",
    "sweep",
    "train",
]

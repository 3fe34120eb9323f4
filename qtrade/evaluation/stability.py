"""Does what was learned still hold: everything that the transfer of models over time can say about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qtrade.evaluation.breaks import Break, Contributions, Recurrence, contributions, find_break, find_recurrence
from qtrade.evaluation.staleness import Staleness, staleness
from qtrade.evaluation.transfer import Matrix, Transfer, transfer_matrix
from qtrade.types import Float64Array


@dataclass(frozen=True, eq=False)
class Stability:
    """The transfer matrix, the staleness curve, and tests for breaks and for a link that comes and goes.

    Attributes
    ----------
    horizons
        Horizons in bars over which the path was averaged.
    contributions, change, recurrence
        Of the first model over the whole test period; None where its forecasts never vary, or the period is too short.
    """

    horizons: tuple[int, ...]
    matrix: Matrix
    staleness: Staleness
    contributions: Contributions | None
    change: Break | None
    recurrence: Recurrence | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; series are left to the figures."""
        return {
            "path_horizons_bars": list(self.horizons),
            "transfer": self.matrix.to_dict(),
            "staleness": self.staleness.to_dict(),
            "break_known_only_afterwards": self.change.to_dict() if self.change else None,
            "recurrence": self.recurrence.to_dict() if self.recurrence else None,
        }


def study(transfer: Transfer, returns: Float64Array, volatility: Float64Array, delay: int) -> Stability:
    """Measure what K models did on O origins.

    Parameters
    ----------
    returns, volatility
        (T, S) log returns of the symbols of `transfer`, and volatility known at each close.
    delay
        Bars between an origin's close and the start of its label.
    """
    found = contributions(transfer, 0, returns, volatility, delay)
    return Stability(
        horizons=transfer.horizons,
        matrix=transfer_matrix(transfer),
        staleness=staleness(transfer),
        contributions=found,
        change=None if found is None else find_break(found),
        recurrence=None if found is None else find_recurrence(found),
    )

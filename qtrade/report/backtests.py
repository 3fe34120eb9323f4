"""The backtests in the report: every Sharpe ratio with its luck, then the numbers, stretches and assumptions of each.

What is told of one comes from its ``metrics.json``, in which an undefined number is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from qtrade.errors import DataError
from qtrade.evaluation.result import Evaluation
from qtrade.report import backtest_figures, backtest_tables, caveat, figures
from qtrade.report.positions import positions
from qtrade.report.text import (
    METRICS,
    UNKNOWN,
    Cell,
    Table,
    interval,
    metric_cell,
    metric_tables,
    number,
    p_value,
    stamp,
)

COVERED = 0.99
"""Share of the decisions with a forecast below which the report warns."""

DRAWN = 1 + len(figures.BESIDE)
"""Accounts in the first figure; the others are named."""

# What a metrics.json must hold to be told.
_KEYS = (
    "strategy", "spec", "params", "account", "engine", "forecast_covered_share", "ruined", "metrics", "buy_and_hold",
    "sharpe_bootstrap_low95", "sharpe_bootstrap_high95", "against_buy_and_hold", "years", "months", "regimes",
    "drawdowns", "cost_curve", "delay_curve",
)  # fmt: skip
_HOLD = "Buy and hold"


@dataclass(frozen=True, eq=False)
class StrategyReport:
    """One backtest and buy-and-hold over the same bars.

    Attributes
    ----------
    told
        Its ``metrics.json`` (see `check_told`).
    luck
        What the trials so far leave of its Sharpe ratio (see `qtrade.pipeline.backtest.luck_of`).
    equity, benchmark
        Account value at each close of the test period, of the strategy and of buy-and-hold, on one UTC index.
    positions
        Rows of `qtrade.pipeline.positions.positions_of`; None where the fills could not be read.
    """

    told: Mapping[str, Any]
    luck: Mapping[str, float | None]
    equity: pd.Series
    benchmark: pd.Series
    positions: pd.DataFrame | None = None

    @property
    def name(self) -> str:
        """Name of the strategy."""
        return str(self.told["strategy"])

    @property
    def params(self) -> Mapping[str, object]:
        """Parameters of the strategy."""
        params: Mapping[str, object] = self.told["params"]
        return params

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Numbers of the strategy, by the names of `qtrade.backtest.metrics.Metrics`."""
        metrics: Mapping[str, float | None] = self.told["metrics"]
        return metrics

    @property
    def benchmark_metrics(self) -> Mapping[str, float | None]:
        """Numbers of buy-and-hold, by the same names."""
        metrics: Mapping[str, float | None] = self.told["buy_and_hold"]
        return metrics


def check_told(told: Mapping[str, Any]) -> None:
    """Refuse a ``metrics.json`` that lacks what a report tells, as those of older versions do.

    Raises
    ------
    DataError
        Naming what is missing.
    """
    missing = [key for key in _KEYS if key not in told]
    if missing:
        raise DataError(
            f"it says nothing of {', '.join(missing)}",
            why="an older version made it",
            fix="make the backtest again",
        )


def trading(
    backtests: Sequence[StrategyReport],
    starts: pd.DatetimeIndex,
    evaluation: Evaluation,
    comparison: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Lay out everything that the template tells of the backtests.

    Parameters
    ----------
    backtests
        The most important first; may be empty.
    starts
        First bar of each fold's test range.
    evaluation
        Of the run: gate G8 judged one of the backtests.
    comparison
        What SPA and StepM say of them, or None.
    """
    judged = _judged(backtests, evaluation)
    return {
        "impossible": any(one.told["account"]["delay"] == 0 for one in backtests),
        "table": _comparison_table(backtests, comparison) if len(backtests) > 1 else None,
        "costs": _cost_table(backtests) if backtests else None,
        "judged": backtests[judged].name if judged is not None else None,
        "compared": [] if comparison is None else _compared(comparison),
        "strategies": [
            _strategy(backtests, position, starts, evaluation if position == judged else None)
            for position, one in enumerate(backtests)
        ],
    }


def compared(
    backtests: Sequence[StrategyReport], comparison: Mapping[str, Any] | None
) -> tuple[Table, list[str]] | None:
    """Put all strategies into one table, with what SPA and StepM say of them; None where nothing was traded."""
    if not backtests:
        return None
    return _comparison_table(backtests, comparison), [] if comparison is None else _compared(comparison)


def tiles(backtests: Sequence[StrategyReport]) -> list[tuple[str, Cell]]:
    """Key numbers of the first strategy, with those of buy-and-hold below; none where nothing was traded."""
    if not backtests:
        return []
    first = backtests[0]
    told = []
    for key, label in (
        ("net_annual_return", "Net return per year"),
        ("sharpe", "Sharpe ratio, net"),
        ("max_drawdown", "Deepest drawdown"),
    ):
        own, hold = metric_cell(first.metrics, key), metric_cell(first.benchmark_metrics, key)
        notes = [own.note, f"buy and hold {hold.text} {hold.note}".strip()]
        if key == "sharpe":
            notes.append(f"{_trials(first)}, DSR {number(first.luck['dsr_probability'], 'percent', 0)}")
        told.append((f"{label}, {first.name}", Cell(own.text, "\n".join(filter(None, notes)))))
    return told


def _judged(backtests: Sequence[StrategyReport], evaluation: Evaluation) -> int | None:
    """Position of the backtest that gate G8 judged: of those with its name, the one with its Sharpe ratio."""
    traded = evaluation.trading
    named = [position for position, one in enumerate(backtests) if traded and one.name == traded.strategy]
    if traded is None or not named:
        return None
    sharpe = traded.evidence.sharpe or 0.0
    return min(named, key=lambda position: abs((backtests[position].metrics.get("sharpe") or 0.0) - sharpe))


def _strategy(
    backtests: Sequence[StrategyReport], position: int, starts: pd.DatetimeIndex, evaluation: Evaluation | None
) -> dict[str, Any]:
    """Lay out one backtest; `evaluation` is given for the one that gate G8 judged.

    The figure of the first draws the next ones, too.
    """
    one = backtests[position]
    beside = [other.equity for other in backtests[1:DRAWN]] if position == 0 else []
    told, account = one.told, one.told["account"]
    traded = evaluation.trading if evaluation is not None else None
    null = traded.null.fan if traded is not None else None
    if null is not None and (len(null) != len(one.equity) or not np.isfinite(null).all()):
        null = None

    def drawn(key: str, *, narrow: bool) -> Markup:
        accounts = (one.equity, one.benchmark, starts, f"{key}{position}")
        return Markup(figures.equity(*accounts, beside=beside, null=null, narrow=narrow))

    assumed = account["costs"]["fees_bps"] + account["costs"]["slippage_bps"]
    sharpe = one.metrics.get("sharpe")
    curves = (
        backtest_figures.cost(told["cost_curve"], assumed, f"cost{position}"),
        backtest_figures.delay(told["delay_curve"], account["delay"], sharpe, f"delay{position}"),
    )
    net, ratio = metric_cell(one.metrics, "net_annual_return"), metric_cell(one.metrics, "sharpe")
    return {
        "name": one.name,
        "params": _params(one),
        "anchor": f"strategy-{position + 1}",
        "colour": f"account{position + 1}" if 0 < position < DRAWN else None if position else "model",
        "beside": bool(beside),
        "swollen": _swollen(one),
        "brief": f"{net.text} net per year, Sharpe ratio {ratio.text} {ratio.note}".strip(),
        "ruined": None if told["ruined"] is None else stamp(pd.Timestamp(told["ruined"])),
        "covered": number(told["forecast_covered_share"], "percent", 1),
        "uncovered": (told["forecast_covered_share"] or 0.0) < COVERED,
        "engine": told["engine"],
        "wide": drawn("wide", narrow=False),
        "narrow": drawn("narrow", narrow=True),
        "null": null is not None,
        "luck": _luck_table(one),
        "evidence": caveat.evidence(evaluation) if evaluation is not None else None,
        "tables": _tables(one),
        "cost_figure": Markup(curves[0]) if curves[0] else None,
        "delay_figure": Markup(curves[1]) if curves[1] else None,
        "assumed": f"{assumed:g}",
        "delay": account["delay"],
        "positions": None if one.positions is None else positions(one.positions),
        "idle": one.positions is not None and one.positions.empty,
        "years": backtest_tables.years(told["years"]),
        "months": backtest_tables.months(told["months"]),
        "regimes": backtest_tables.regimes(told["regimes"]),
        "drawdowns": backtest_tables.drawdowns(told["drawdowns"]),
    }


def _swollen(one: StrategyReport) -> str | None:
    """Say why more was invested than the account may decide, where it was; None elsewhere."""
    exposure, leverage = one.metrics.get("exposure"), one.told["account"]["leverage"]
    if exposure is None or exposure <= leverage:
        return None
    return (
        f"On average {number(exposure, 'percent', 1)} of the account was invested, though decisions may add up to "
        f"{number(leverage, 'percent', 0)} only: a position is traded when its decided weight changes"
        f"{' or leaves the band' if one.told['account']['band'] is not None else ', not when its share does'}, and a "
        "short position that loses grows while the account shrinks."
    )


def _params(one: StrategyReport) -> str:
    spoken = {True: "yes", False: "no"}
    return ", ".join(
        f"{name} = {spoken[value] if isinstance(value, bool) else value}" for name, value in one.params.items()
    )


def _tables(one: StrategyReport) -> tuple[list[Table], list[Table]]:
    """Two columns of tables: return and risk; trading, and the strategy against buy-and-hold."""
    columns = {one.name: one.metrics, _HOLD: one.benchmark_metrics}
    tables = metric_tables({name: _with_cost_of_fills(metrics) for name, metrics in columns.items()})
    return tables[:2], [*tables[2:], *metric_tables({one.name: one.told["against_buy_and_hold"]})]


def _with_cost_of_fills(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """Tell what fills cost apart from what holding costs: the costs per year are the sum of both."""
    cost, financing = metrics.get("cost_annual"), metrics.get("financing_annual")
    if cost is None or financing is None:
        return dict(metrics)
    return {**metrics, "fill_cost_annual": cost - financing}


def _luck_table(one: StrategyReport) -> Table:
    told, luck = one.told, one.luck
    needed, there = _record(one)
    ratio = metric_cell(one.metrics, "sharpe")
    bounds = interval(told["sharpe_bootstrap_low95"], told["sharpe_bootstrap_high95"], "ratio")
    unknown = "" if luck["trials"] else "the ledger has none; counted as 1"
    rows = (
        ("Sharpe ratio, net", ratio.text, ratio.note),
        ("Its interval by the bootstrap", bounds, ""),
        ("Tried on this market so far", _trials(one), unknown),
        ("Chance that it is above zero (PSR)", number(luck["psr_probability"], "percent", 1), ""),
        ("Chance that it beats the luckiest useless trial (DSR)", number(luck["dsr_probability"], "percent", 1), ""),
        ("Record that would show a gain at 95% (MinTRL)", needed, f"there are {there} years"),
    )
    return Table(
        caption="The Sharpe ratio, and how much of it may be luck",
        columns=("Measure", "Found"),
        rows=tuple((Cell(name), Cell(value, note)) for name, value, note in rows),
        row_terms=True,
    )


def _trials(one: StrategyReport) -> str:
    trials = one.luck["trials"]
    return f"{number(trials, 'count')} {'trial' if trials == 1 else 'trials'}"


def _record(one: StrategyReport) -> tuple[str, str]:
    """Years that would show a gain, in words, and the years there are."""
    years, sharpe = one.luck["min_track_record_years"], one.metrics.get("sharpe")
    there = number(one.metrics.get("years"), "ratio", 1)
    if years is None:
        return ("never" if sharpe is not None and sharpe <= 0 else UNKNOWN), there
    return f"{number(years, 'ratio', 1)} years", there


def _comparison_table(backtests: Sequence[StrategyReport], comparison: Mapping[str, Any] | None) -> Table:
    """All strategies below one another, and buy-and-hold last."""
    keys = ("max_drawdown", "turnover_per_year", "cost_annual")
    leads = None if comparison is None else comparison["sharpe_difference"]

    def row(name: Cell, metrics: Mapping[str, float | None], lead: Cell, luck: Cell) -> tuple[Cell, ...]:
        head = (name, metric_cell(metrics, "net_annual_return"), metric_cell(metrics, "sharpe"))
        return (*head, *([] if leads is None else [lead]), luck, *(metric_cell(metrics, key) for key in keys))

    rows = [
        row(
            Cell(one.name, _params(one)),
            one.metrics,
            _lead((leads or {}).get(one.told["spec"])),
            Cell(number(one.luck["dsr_probability"], "percent", 1), f"of {_trials(one)}"),
        )
        for one in backtests
    ]
    rows.append(row(Cell(_HOLD), backtests[0].benchmark_metrics, Cell(UNKNOWN), Cell(UNKNOWN)))
    columns = ["Strategy", "Net return per year", "Sharpe ratio, net", "Sharpe ratio over buy and hold's", "DSR"]
    if leads is None:
        columns.remove("Sharpe ratio over buy and hold's")
    columns += ["Deepest drawdown", "Turnover per year", "Costs per year"]
    return Table("All strategies over the same bars", tuple(columns), tuple(rows))


def _cost_table(backtests: Sequence[StrategyReport]) -> Table:
    """Tabulate what costs leave of every strategy, and of buy-and-hold."""
    keys = (
        "gross_annual_return", "cost_annual", "net_annual_return", "turnover_per_year", "paid_cost_bps",
        "breakeven_cost_bps",
    )  # fmt: skip
    named = [(one.name, _params(one), one.metrics) for one in backtests]
    named.append((_HOLD, "", backtests[0].benchmark_metrics))
    return Table(
        "What costs leave of the return",
        ("Strategy", *(METRICS[key][0] for key in keys)),
        tuple((Cell(name, params), *(metric_cell(metrics, key) for key in keys)) for name, params, metrics in named),
    )


def _lead(found: Mapping[str, float | None] | None) -> Cell:
    if found is None or found["difference"] is None:
        return Cell(UNKNOWN)
    return Cell(number(found["difference"], "signed"), interval(found["low"], found["high"], "signed"))


def _compared(comparison: Mapping[str, Any]) -> list[str]:
    """Say in sentences whether any strategy is better than buy-and-hold, all of them counted."""
    if comparison["spa_p"] is None:
        return ["There are too few bars, or differences, to test the strategies together against buy and hold."]
    bounds = " to ".join(p_value(comparison[key]) for key in ("spa_p_lower", "spa_p_upper"))
    chance = f"{comparison['superior_size']:.0%}"
    better = "; ".join(comparison["superior"]) or "none"
    return [
        f"If no strategy had a higher mean net return than buy and hold, the best would still look this good with "
        f"{p_value(comparison['spa_p'])} (test for superior predictive ability, SPA; bounds {bounds}).",
        f"Higher than buy and hold's by more than luck, with a chance of {chance} to name any by mistake (StepM): "
        f"{better}.",
    ]

"""The page of a comparison: runs side by side, and what tells them apart beyond chance."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter

from qtrade.evaluation.skill import LEVEL
from qtrade.files import write_text
from qtrade.report.environment import environment
from qtrade.report.figures import INK, MODEL, STYLE, single, to_svg
from qtrade.report.glossary import Glossary
from qtrade.report.text import UNKNOWN, Cell, Table, Tone, ahead, interval, number, p_value, points, several

_TONES: Mapping[str, Tone] = {
    "PASS": "good",
    "WARN": "open",
    "INCONCLUSIVE": "open",
    "FAIL": "bad",
    "NOT MEASURED": "faint",
}
_MOST_DRAWN = 4


def write_comparison(path: Path, told: Mapping[str, Any]) -> None:
    """Write the page of a comparison: one HTML file, which needs no network.

    Parameters
    ----------
    path
        Where to; written atomically.
    told
        What `qtrade.pipeline.compare.compare_runs` returns.

    Raises
    ------
    UsageError
        If the file cannot be written.
    """
    write_text(path, render(told))


def render(told: Mapping[str, Any]) -> str:
    """Render the page; see `write_comparison`. Texts from outside are escaped; only figures are markup."""
    labels = [str(one["label"]) for one in told["runs"]]
    data, shared = told["data"], told["shared"]
    return (
        environment()
        .get_template("compare.html")
        .render(
            terms=Glossary(),
            labels=labels,
            several=several(labels),
            tone=_tone(told),
            told=told,
            facts=[
                ("Symbols", several([str(one) for one in data["symbols"]])),
                ("Bars", f"{number(data['bars'], 'count')} of {data['interval']}, {_span(data)}"),
                (
                    "Compared on",
                    f"{number(shared['forecasts'], 'count')} forecasts that all runs made, {_span(shared)}",
                ),
            ],
            runs=_runs(told["runs"]),
            gates=_gates(told["runs"]),
            figures=[
                (label, Markup(gains(told["forecasts"], column, f"gain{column}")))
                for column, label in enumerate(labels[1 : _MOST_DRAWN + 1], 1)
                if told["forecasts"]
            ],
            forecasts=[_forecasts(one, labels) for one in told["forecasts"]],
            began_apart=any(_began_apart(one) for one in told["trading"]),
            trading=[(one, _trading(one, labels)) for one in told["trading"]],
            settings=_settings(told["settings"], labels),
            command=shlex.join(["qtrade", "compare", *(str(one["folder"]) for one in told["runs"])]),
        )
    )


def gains(found: Sequence[Mapping[str, Any]], column: int, key: str) -> str:
    """Draw what one run gains over the baseline per horizon, over the band in which a gain would go unseen."""
    with mpl.rc_context(STYLE):
        figure, axes = single(4.8, 3.1)
        scores = [one["runs"][column] for one in found]
        for place, one in enumerate(scores):
            blind, gain = one["r2_visible_gain"], one["r2_gain"]
            axes.fill_between([place - 0.32, place + 0.32], -blind, blind, color=INK, alpha=0.13, linewidth=0)
            reach = np.array([[gain - one["r2_gain_low95"]], [one["r2_gain_high95"] - gain]])
            axes.errorbar([place], [gain], yerr=reach, color=MODEL, fmt="o", markersize=5.5, elinewidth=1.8, capsize=0)
        axes.axhline(0, color=INK, linewidth=1)
        axes.set_xticks(range(len(found)), [str(one["horizon_bars"]) for one in found])
        axes.set_xlim(-0.6, len(found) - 0.4)
        axes.set_xlabel("bars ahead")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: number(100 * share, "plain")))
        spoken = "; ".join(
            f"{one['horizon_bars']} bars {score['r2_gain']:+.2%}" for one, score in zip(found, scores, strict=True)
        )
        return to_svg(figure, key, f"Gain in R squared over the first run, per horizon: {spoken}.")


def _tone(told: Mapping[str, Any]) -> Tone:
    """Colour the answer: good where a run is better than the first, bad where one is worse, open where none differs."""
    answers = {score["r2_answer"] for one in told["forecasts"] for score in one["runs"][1:]}
    if "better" in answers:
        return "good"
    return "bad" if "worse" in answers else "open"


def _runs(runs: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        caption="The runs; the first is what the others are held against",
        columns=("Run", "Verdict", "Model", "Parameters", "Folds", "Trained on", "Seconds", "Forecasts shared"),
        rows=tuple(
            (
                Cell(one["label"]),
                Cell(one["headline"] or "not evaluated", tone=_TONES.get(one["headline"] or "", "faint")),
                Cell(one["model"]),
                Cell(number(one["parameters"], "count")),
                Cell(number(one["folds"], "count"), f"{one['replicates']} seeds each" if one["replicates"] > 1 else ""),
                Cell((one["trained_at"] or UNKNOWN)[:10]),
                Cell(number(one["fit_seconds"], "ratio", 1)),
                Cell(number(one["shared_share"], "percent", 0), f"of {number(one['forecasts'], 'count')}"),
            )
            for one in runs
        ),
        column_terms=False,
    )


def _gates(runs: Sequence[Mapping[str, Any]]) -> Table | None:
    """List the grades of each gate; None where no run was evaluated."""
    titles = {gate["gate"]: gate["title"] for one in runs for gate in one["gates"]}
    if not titles:
        return None
    grades = [{gate["gate"]: gate["grade"] for gate in one["gates"]} for one in runs]
    return Table(
        caption="Grades of the gates",
        columns=("Gate", *(str(one["label"]) for one in runs)),
        rows=tuple(
            (
                Cell(f"{code} {titles[code]}"),
                *(Cell(mine.get(code, UNKNOWN), tone=_TONES.get(mine.get(code, ""), "faint")) for mine in grades),
            )
            for code in sorted(titles)
        ),
        column_terms=False,
    )


def _forecasts(found: Mapping[str, Any], labels: Sequence[str]) -> Table:
    count = f"{number(found['origins'], 'count')} origins"
    return Table(
        caption=f"{ahead(found['horizon_bars'])}, {count}",
        columns=("Run", "R² vs no change", "IC", "In 80% interval", "Gain in R²", "Gain in CRPS"),
        rows=tuple(
            (
                Cell(label),
                Cell(
                    number(one["r2_vs_zero"], "signed_percent"),
                    interval(one["r2_vs_zero_low95"], one["r2_vs_zero_high95"], "signed_percent", 1),
                ),
                Cell(number(one["ic"], "signed", 3), interval(one["ic_low95"], one["ic_high95"], "signed")),
                Cell(number(one["coverage80_share"], "percent", 1)),
                _gain(one, "r2"),
                _gain(one, "crps"),
            )
            for label, one in zip(labels, found["runs"], strict=True)
        ),
    )


def _gain(one: Mapping[str, Any], name: str) -> Cell:
    if f"{name}_gain" not in one:
        return Cell(UNKNOWN)
    answer = one[f"{name}_answer"]
    if answer == "identical":
        return Cell("identical", tone="faint")
    tones: Mapping[str, Tone] = {"better": "good", "worse": "bad"}
    bounds = interval(100 * one[f"{name}_gain_low95"], 100 * one[f"{name}_gain_high95"], "signed")
    note = f"{bounds}\n{p_value(one[f'{name}_p_holm'])}"
    return Cell(points(one[f"{name}_gain"], 2), note, tones.get(answer, ""))


def _trading(found: Mapping[str, Any], labels: Sequence[str]) -> Table:
    cells = [(label, one) for label, one in zip(labels, found["runs"], strict=True) if one is not None]
    return Table(
        caption=f"{found['strategy']}: {number(found['bars'], 'count')} bars, {_span(found)}",
        columns=("Run", "Sharpe ratio", "Net return per year", "Difference in Sharpe ratio"),
        rows=tuple(
            (
                Cell(label),
                Cell(number(one["sharpe"], "ratio")),
                Cell(number(one["net_annual_return"], "signed_percent", 1)),
                _difference(one),
            )
            for label, one in [*cells, ("buy and hold", found["buy_and_hold"])]
        ),
    )


def _began_apart(found: Mapping[str, Any]) -> bool:
    """Whether the accounts of one strategy did not begin at the same bar."""
    return len({one["first"] for one in found["runs"] if one is not None}) > 1


def _difference(one: Mapping[str, Any]) -> Cell:
    difference = one.get("sharpe_difference")
    p = one.get("sharpe_p_holm")
    if p is None or difference is None:
        return Cell(number(difference, "signed"), "not tested" if "sharpe_p_holm" in one else "")
    tone: Tone = "" if p >= LEVEL else "good" if difference > 0 else "bad"
    bounds = interval(one["sharpe_low"], one["sharpe_high"], "signed")
    return Cell(number(difference, "signed"), f"{bounds}\n{p_value(p)}", tone)


def _settings(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Table | None:
    if not rows:
        return None
    return Table(
        caption="Settings that differ",
        columns=("Setting", *labels),
        rows=tuple((Cell(row["key"]), *(Cell(value or UNKNOWN) for value in row["values"])) for row in rows),
        column_terms=False,
    )


def _span(told: Mapping[str, Any]) -> str:
    return f"{told['first'][:10]} to {told['last'][:10]}"

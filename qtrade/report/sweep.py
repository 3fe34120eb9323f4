"""The page of a parameter sweep: what the best of many variants is worth, and what it only looks like."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from qtrade.files import write_text
from qtrade.report import heatmap
from qtrade.report.environment import environment
from qtrade.report.glossary import Glossary
from qtrade.report.text import METRICS, Cell, Table, Tone, interval, metric_cell, number

ENOUGH = 0.95
"""Deflated Sharpe ratio from which on the best variant may be more than luck."""
MOST_MAPPED = 4
"""Parameters between which heat maps are drawn: six pairs."""
_TOP = 15
_MOST_NAMED = 8


@dataclass(frozen=True)
class Verdict:
    """The answer of a sweep: in a few words, in a sentence, and what speaks for it."""

    headline: str
    tone: Tone
    line: str
    reasons: tuple[str, ...]


def write_sweep(path: Path, told: Mapping[str, Any], table: pd.DataFrame) -> None:
    """Write the page of a sweep: one HTML file, which needs no network.

    Parameters
    ----------
    path
        Where to; written atomically.
    told
        What was found, as JSON values, None where undefined. ``run``, ``strategy``, ``spec``, ``engine`` and
        ``account`` (a sentence) are texts, ``first`` and ``last`` the ends of the period; ``axes`` is a list of
        ``name`` and ``values``; ``variants``, ``bars`` and ``audited`` are counts. ``best`` holds the ``spec``, the
        ``params`` and the numbers of the best variant, ``buy_and_hold`` a ``sharpe`` and a
        ``net_annual_return``. ``luck`` holds ``trials``, ``psr_probability``, ``dsr_probability``,
        ``min_track_record_years`` and ``expected_best_sharpe`` (per year). ``walk_forward`` holds ``sharpe``,
        ``sharpe_low``, ``sharpe_high``, ``mean_rank_share`` and ``blocks``, each with ``first``, ``last``, ``chosen``,
        ``sharpe_before``, ``sharpe_in``, ``rank_share`` (of the variants that did worse) and ``best_sharpe_in``.
        Beside them stand ``median_sharpe``, ``pbo_share`` and ``pbo_blocks``.
    table
        One row per variant: a column per axis (numbers, bools or texts), then ``sharpe``, ``gross_annual_return``,
        ``cost_annual``, ``net_annual_return``, ``annual_volatility``, ``max_drawdown``, ``turnover_per_year``,
        ``exposure``, ``fills`` and ``ruined``.

    Raises
    ------
    UsageError
        If the file cannot be written.
    """
    write_text(path, render(told, table))


def render(told: Mapping[str, Any], table: pd.DataFrame) -> str:
    """Render the page; see `write_sweep`. Texts from outside are escaped; only figures are markup."""
    names = [axis["name"] for axis in told["axes"]]
    many = [name for name in names if table[name].nunique() > 1]
    template = environment().get_template("sweep.html")
    return template.render(
        terms=Glossary(),
        told=told,
        title=f"{told['strategy']}: {_many(told['variants'], 'variant')}",
        verdict=judge(told),
        axes=[(axis["name"], _range(axis["values"])) for axis in told["axes"]],
        variants=_variants(told["variants"], told["luck"]["trials"]),
        period=f"{number(told['bars'], 'count')} bars, {_stamp(told['first'])} to {_stamp(told['last'])}",
        spread=_spread(told, table),
        marks=_marks(told),
        earned=_earned(told),
        profile=_profile(told, table, many[0]) if len(many) == 1 else None,
        maps=_maps(told, table, many) if len(many) > 1 else None,
        walk_forward=_walk_forward(told["walk_forward"], names) if told["walk_forward"] else None,
        top=_top(table, names),
        ruined=_ruined(int(table["ruined"].sum())),
        assumed=_assumed(told),
        shades=heatmap.SHADES,
    )


def judge(told: Mapping[str, Any]) -> Verdict:
    """Answer whether the best variant may be more than luck.

    It may be where the deflated Sharpe ratio (Bailey & López de Prado 2014) reaches `ENOUGH` and what was chosen on
    the past alone has earned a Sharpe ratio whose 95% interval lies above zero. It is not where both fail. Where they
    disagree, or one is unknown, nothing can be told.
    """
    chance, ahead = told["luck"]["dsr_probability"], told["walk_forward"]
    low = ahead["sharpe_low"] if ahead else None
    best, luck = told["best"], told["luck"]
    headline, tone = _headline(chance, low)
    line = f"The best of {_many(told['variants'], 'variant')} has a Sharpe ratio of {_sharpe(best)}"
    if luck["expected_best_sharpe"] is not None:
        line += (
            f"; the luckiest of {_trials(luck['trials'])} would show {number(luck['expected_best_sharpe'], 'ratio')}"
        )
    return Verdict(headline, tone, f"{line}.", (*_about_luck(luck), *_about_search(told)))


def _headline(chance: float | None, low: float | None) -> tuple[str, Tone]:
    if chance is None or low is None:
        return "Cannot tell", "open"
    if chance >= ENOUGH and low > 0:
        return "The best may be more than luck", "good"
    if chance < ENOUGH and low <= 0:
        return "Nothing here is better than luck", "bad"
    return "Cannot tell", "open"


def _about_luck(luck: Mapping[str, Any]) -> list[str]:
    told = []
    if luck["dsr_probability"] is not None:
        told.append(
            f"The chance that it is better than that is {_chance(luck['dsr_probability'])} (deflated Sharpe ratio, "
            f"DSR); {ENOUGH:.0%} is asked for."
        )
    else:
        told.append("The chance that it is better than luck could not be measured.")
    if luck["psr_probability"] is not None:
        told.append(
            f"Had it been the only one ever tried, the chance that it is better than nothing would be "
            f"{_chance(luck['psr_probability'])} (probabilistic Sharpe ratio, PSR)."
        )
    years = luck["min_track_record_years"]
    if years is not None and math.isfinite(years):
        told.append(f"Even then, it would take {number(years, 'ratio', 1)} years of such returns to be sure at 95%.")
    return told


def _about_search(told: Mapping[str, Any]) -> list[str]:
    found = []
    ahead = told["walk_forward"]
    if ahead:
        found.append(
            f"Chosen afresh for each of {_many(len(ahead['blocks']), 'block')} on the past alone, the variants in use "
            f"earned a Sharpe ratio of {_sharpe(ahead)}. On average they ranked above "
            f"{number(ahead['mean_rank_share'], 'percent', 0)} of all; picking at random ranks above 50%."
        )
    else:
        found.append("What choosing on the past alone would have earned is unknown: the period is too short for it.")
    if told["pbo_share"] is not None:
        found.append(
            f"In {number(told['pbo_share'], 'percent', 0)} of the ways to cut the period into two halves of "
            f"{told['pbo_blocks'] // 2} blocks each, the best of one half was no better than the middle in the other "
            "(probability of backtest overfitting, PBO); useless variants come to about 50%."
        )
    return found


def _spread(told: Mapping[str, Any], table: pd.DataFrame) -> dict[str, Markup] | None:
    """Draw the histogram for desktop and phone; None where no variant has a Sharpe ratio."""
    sharpe = table["sharpe"].to_numpy(dtype=np.float64, na_value=np.nan)
    sharpe = sharpe[np.isfinite(sharpe)]
    if not len(sharpe):
        return None
    marks = {name: value for name, (_, value) in _compared(told).items()}
    return {
        form: Markup(heatmap.spread(sharpe, marks, f"spread{form}", narrow=form == "narrow"))
        for form in ("wide", "narrow")
    }


def _compared(told: Mapping[str, Any]) -> dict[heatmap.Mark, tuple[str, float | None]]:
    """Return what the histogram marks: the class of its key, and its Sharpe ratio."""
    return {
        "best": ("model", told["best"]["sharpe"]),
        "median": ("dots", told["median_sharpe"]),
        "luckiest useless trial": ("dashes", told["luck"]["expected_best_sharpe"]),
        "buy and hold": ("other", told["buy_and_hold"]["sharpe"]),
    }


def _marks(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pair the class of each key with its words."""
    return [
        (kind, f"{name} {number(value, 'ratio')}")
        for name, (kind, value) in _compared(told).items()
        if value is not None
    ]


def _earned(told: Mapping[str, Any]) -> str:
    best, held = told["best"], told["buy_and_hold"]
    return (
        f"The best variant earned {number(best['net_annual_return'], 'signed_percent', 1)} a year, after costs of "
        f"{number(best['cost_annual'], 'percent', 1)} a year, with {_many(best['fills'], 'fill')} and a deepest "
        f"drawdown of {number(best['max_drawdown'], 'percent', 1)}. Buy and hold earned "
        f"{number(held['net_annual_return'], 'signed_percent', 1)} a year."
    )


def _profile(told: Mapping[str, Any], table: pd.DataFrame, axis: str) -> dict[str, Any]:
    values = _values(table[axis])
    sharpe = table.groupby(axis)["sharpe"].mean().reindex(values).to_numpy(dtype=np.float64)
    words, marked = [setting(value) for value in values], values.index(told["best"]["params"][axis])
    luck = told["luck"]["expected_best_sharpe"]
    joined = _is_number(table[axis])

    def drawn(key: str, *, narrow: bool) -> Markup:
        return Markup(heatmap.profile(words, sharpe, marked, luck, key, joined=joined, narrow=narrow))

    return {
        "name": axis,
        "luck": luck is not None,
        "wide": drawn("profilewide", narrow=False),
        "narrow": drawn("profilenarrow", narrow=True),
    }


def _maps(told: Mapping[str, Any], table: pd.DataFrame, many: Sequence[str]) -> dict[str, Any]:
    """Draw the Sharpe ratio over each pair of parameters, averaged over all others, in shades of one scale."""
    chosen = _telling(table, many)
    pairs = [_oriented(table, *pair) for pair in combinations(chosen, 2)]
    surfaces = [_surface(table, pair, told["best"]["params"]) for pair in pairs]
    known = np.concatenate([np.abs(surface.values[np.isfinite(surface.values)]) for surface in surfaces])
    reach = min(float(known.max()), heatmap.DEEPEST) if known.any() else heatmap.DEEPEST
    drawn = [
        {
            "down": down,
            "across": across,
            "figure": Markup(heatmap.heat_map(surface, reach, f"Sharpe ratio by {down} and {across}.")),
        }
        for (down, across), surface in zip(pairs, surfaces, strict=True)
    ]
    averaged = "Each cell is the Sharpe ratio of one variant."
    if len(many) > 2:
        averaged = "Each cell is the mean Sharpe ratio over all values of the other parameters."
    if len(many) > len(chosen):
        averaged += f" Of {len(many)} parameters, the {len(chosen)} that move it most are shown: {', '.join(chosen)}."
    if known.max(initial=0) > reach:
        averaged += f" Beyond {reach:g} on either side of zero the shade no longer deepens."
    holes = any(np.isnan(surface.values).any() for surface in surfaces)
    return {"drawn": drawn, "averaged": averaged, "scale": Markup(heatmap.scale(reach)), "holes": holes}


def _telling(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Keep the parameters whose values differ most in their mean Sharpe ratio, in their given order."""
    means = {name: table.groupby(name)["sharpe"].mean() for name in names}
    moved = sorted(names, key=lambda name: means[name].max() - means[name].min(), reverse=True)
    return [name for name in names if name in moved[:MOST_MAPPED]]


def _oriented(table: pd.DataFrame, one: str, other: str) -> tuple[str, str]:
    """Return what goes down and what goes across: words down, where there is room, and else the fewer values."""
    down, across = sorted((one, other), key=lambda name: (_is_number(table.loc[:, name]), table[name].nunique()))
    return down, across


def _surface(table: pd.DataFrame, pair: tuple[str, str], best: Mapping[str, Any]) -> heatmap.Surface:
    rows, columns = (_values(table[name]) for name in pair)
    means = table.groupby(list(pair))["sharpe"].mean().unstack().reindex(index=rows, columns=columns)
    return heatmap.Surface(
        values=means.to_numpy(dtype=np.float64),
        rows=tuple(setting(value) for value in rows),
        columns=tuple(setting(value) for value in columns),
        marked=(rows.index(best[pair[0]]), columns.index(best[pair[1]])),
    )


def _values(column: pd.Series) -> list[Any]:
    """Return the different values of a parameter: numbers from the least up, others as they first appear."""
    values = list(column.unique())
    return sorted(values) if _is_number(column) else values


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _walk_forward(found: Mapping[str, Any], names: Sequence[str]) -> Table:
    return Table(
        caption="Each block, the variant that was the best before it, and how it did within",
        columns=("Block", *names, "Sharpe ratio before", "Within", "Best of all within", "Ranked above"),
        rows=tuple(
            (
                Cell(_stamp(block["first"]), f"to {_stamp(block['last'])}"),
                *(Cell(setting(block["chosen"][name])) for name in names),
                Cell(number(block["sharpe_before"], "ratio")),
                Cell(number(block["sharpe_in"], "ratio")),
                Cell(number(block["best_sharpe_in"], "ratio")),
                Cell(number(block["rank_share"], "percent", 0)),
            )
            for block in found["blocks"]
        ),
    )


def _top(table: pd.DataFrame, names: Sequence[str]) -> Table:
    """List the variants with the highest Sharpe ratios; those without one come last."""
    measured = {
        "sharpe": "Sharpe ratio",
        "net_annual_return": "Net return",
        "cost_annual": "Costs",
        "annual_volatility": "Volatility",
        "max_drawdown": "Deepest drawdown",
        "turnover_per_year": "Turnover",
        "exposure": "Invested",
        "trades": "Fills",
    }
    first = table.sort_values("sharpe", ascending=False, kind="stable", na_position="last").head(_TOP)
    rows = []
    for rank, variant in enumerate(first.to_dict("records"), 1):
        metrics = {name: float(variant[name]) for name in METRICS if name in variant} | {"trades": variant["fills"]}
        own = Cell(str(rank), "ruined", "bad") if variant["ruined"] else Cell(str(rank))
        # The interval is known of the best variant only, and stands above.
        cells = (Cell(metric_cell(metrics, name).text) for name in measured)
        rows.append((own, *(Cell(setting(variant[name])) for name in names), *cells))
    return Table(
        caption="Rates per year; turnover in times the equity",
        columns=("Rank", *names, *measured.values()),
        rows=tuple(rows),
    )


def _ruined(count: int) -> str:
    if not count:
        return ""
    return f"{_many(count, 'variant')} lost the whole account on the way."


def _assumed(told: Mapping[str, Any]) -> list[str]:
    return [
        told["account"],
        *audit(told["audited"], told["variants"], told["engine"]),
        "Sharpe ratios are per year and net of costs. Intervals are 95%, and take each variant as if it were alone.",
        "The search has seen all of these bars. Only what was chosen on the past alone was tested on bars unseen.",
    ]


def audit(audited: int, variants: int, engine: str) -> list[str]:
    """Say how many of the variants were checked for looking ahead and traded a second time, and by what."""
    if not audited:
        return ["No variant was checked for looking ahead."]
    checked = f"{number(audited, 'count')} of the {_many(variants, 'variant')}, the best among them,"
    if audited == variants:
        checked = "Every variant" if variants > 1 else "The variant"
    verb = "were" if 1 < audited < variants else "was"
    return [
        f"{checked} {verb} checked for looking ahead: cutting off the future changed no decision.",
        f"What was checked was also traded again in vectorbt ({engine} engine), and earned the same.",
    ]


def setting(value: object) -> str:
    """Write the value of a parameter: yes and no, numbers with up to six digits, texts as they are."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")
    return str(value)


def _range(values: Sequence[object]) -> str:
    """Write out a few values of an axis, and the number and the ends of many."""
    if len(values) <= _MOST_NAMED:
        return ", ".join(setting(value) for value in values)
    return f"{number(len(values), 'count')} values, {setting(values[0])} to {setting(values[-1])}"


def _variants(count: int, trials: int) -> str:
    if trials <= count:
        return number(count, "count")
    return f"{number(count, 'count')}; with all else that was tried on this market, {number(trials, 'count')} trials"


def _stamp(text: str) -> str:
    """Write a session as its date, and a moment within a day with its time."""
    moment = pd.Timestamp(text)
    return f"{moment:%Y-%m-%d}" if moment == moment.normalize() else f"{moment:%Y-%m-%d %H:%M}"


def _many(count: int, noun: str) -> str:
    return f"{number(count, 'count')} {noun}" + ("" if count == 1 else "s")


def _trials(count: int) -> str:
    return f"{number(count, 'count')} useless trials" if count > 1 else "a single useless trial"


def _sharpe(found: Mapping[str, Any]) -> str:
    return f"{number(found['sharpe'], 'ratio')} {_bounds(found)}"


def _bounds(found: Mapping[str, Any]) -> str:
    return interval(found["sharpe_low"], found["sharpe_high"], "ratio")


def _chance(probability: float | None) -> str:
    """Write a probability, rounded down, so that it reaches no threshold that it misses, nor certainty."""
    if probability is not None and probability < 0.001:
        return "below\N{NO-BREAK SPACE}0.1%"
    return number(None if probability is None else math.floor(1000 * probability) / 1000, "percent", 1)

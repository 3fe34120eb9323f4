"""Runs side by side: what each forecasts and earns on the same bars, what tells them apart, and what set them apart.

Only runs of the same bars can be compared, and of those only what they share: symbols and origins that all of them
forecast, horizons that all of their paths reach, and backtests of one strategy with one account. The first run is the
baseline that each of the others is held against.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from qtrade.config import RunConfig
from qtrade.errors import IntegrityError, UsageError
from qtrade.evaluation.paired import PairedHorizon, compare_forecasts, on_equal_origins
from qtrade.evaluation.skill import LEVEL, MIN_LABELS
from qtrade.features.targets import log_returns
from qtrade.forecasts import Forecasts
from qtrade.pipeline.compare_trading import compare_trading
from qtrade.pipeline.overview import fit_seconds, glance, parameters, read_verdict, told_symbols
from qtrade.progress import Progress
from qtrade.runs import Run, check_run, rows_of
from qtrade.windows import realised

_SHOWN_HASH = 12
# What says nothing about a run but its name, or follows from the bars, which are the same.
_IDLE = ("name", "data.versions")


def compare_runs(runs: Sequence[Run], *, progress: Progress) -> dict[str, Any]:
    """Compare runs of the same bars, the first being the baseline.

    Returns
    -------
    dict
        Plain values with units in their names. ``runs`` describes each run by its ``label``; ``forecasts`` holds a
        dict per horizon, and in it one per run, in the order of ``runs``, as `PairedScore.to_dict` has it;
        ``trading`` is told by `compare_trading`; ``settings`` lists every key in which the configurations differ;
        ``lines`` say what all that means, and ``notes`` what was left out.

    Raises
    ------
    UsageError
        If there are fewer than two runs, one is there twice, or they are of different bars, delays or test periods.
    IntegrityError
        If one of them is INVALID.
    DataError
        If a file of a run is missing or damaged.
    """
    if len(runs) < 2:
        raise UsageError("it takes two runs to compare", fix="name another one: qtrade compare RUN RUN")
    twice = [run for run, many in Counter(run.folder.resolve() for run in runs).items() if many > 1]
    if twice:
        raise UsageError(
            f"{twice[0].name} is given twice",
            why="a run does not differ from itself",
            fix="name another one; `qtrade runs list` lists them",
        )
    progress.start("compare", 3)
    labels = _labels(runs)
    told = [_describe(run, label) for run, label in zip(runs, labels, strict=True)]
    configs = [run.config for run in runs]
    _check_same_bars(runs, labels)
    _check_same_delay(configs, labels)
    notes = [f"{one['label']} has not been evaluated, so nobody has checked that it used no future."
             for one in told if one["headline"] is None]  # fmt: skip
    progress.advance(1, "read")

    models = [run.forecasts(config.model)[0].seed_mean() for run, config in zip(runs, configs, strict=True)]
    shared = on_equal_origins(models)
    _check_some_shared(models, shared, labels)
    horizons = _horizons(configs)
    bars = runs[0].bars
    reach = max(horizons)
    actual = realised(log_returns(bars), rows_of(shared[0], bars), reach, configs[0].split.delay)
    found = compare_forecasts(shared, actual, horizons)
    notes += _left_out(configs, labels, horizons, found)
    progress.advance(1, "forecasts")

    trading, untold = compare_trading(runs, labels, bars.periods_per_year, seed=min(config.seed for config in configs))
    progress.advance(1, "trading")
    data = runs[0].manifest["data"]
    result: dict[str, Any] = {
        "runs": [
            {**one, "forecasts": len(model), "shared_share": len(shared[0]) / len(model)}
            for one, model in zip(told, models, strict=True)
        ],
        "data": {
            **{name: data[name] for name in ("symbols", "interval", "first", "last", "bars")},
            "hash": runs[0].manifest["facts"]["data"],
        },
        "shared": {
            "forecasts": len(shared[0]),
            "origins": int(shared[0].origin.nunique()),
            "first": str(shared[0].origin.min()),
            "last": str(shared[0].origin.max()),
        },
        "forecasts": [
            {
                "horizon_bars": one.horizon,
                "origins": one.origins,
                "outcomes": one.rows,
                "runs": [score.to_dict() for score in one.scores],
            }
            for one in found
        ],
        "trading": trading,
        "settings": differing_settings(runs, configs),
        "notes": [*notes, *untold],
    }
    return {**result, "lines": _conclude(labels, found, trading)}


def differing_settings(runs: Sequence[Run], configs: Sequence[RunConfig]) -> list[dict[str, Any]]:
    """List every setting, and every version or device, in which runs differ: its key, and its value in each as text.

    A value is written as in TOML, and is empty where a run has no such key.
    """
    flat = [_flat(config.model_dump(mode="json", exclude_none=True)) for config in configs]
    for one, run in zip(flat, runs, strict=True):
        facts = {name: value for name, value in run.manifest["facts"].items() if name != "data"}
        one.update({f"made with {name}": json.dumps(value) for name, value in facts.items()})
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = [{"key": key, "values": [one.get(key, "") for one in flat]} for key in keys if not _is_idle(key)]
    return [row for row in rows if len(set(row["values"])) > 1]


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = json.dumps(value, ensure_ascii=False)
    return found


def _is_idle(key: str) -> bool:
    return any(key == idle or key.startswith(f"{idle}.") for idle in _IDLE)


def _labels(runs: Sequence[Run]) -> list[str]:
    """Call each run by its name, and number those that share one."""
    names, seen = Counter(run.name for run in runs), Counter[str]()
    labels = []
    for run in runs:
        seen[run.name] += 1
        labels.append(f"{run.name} ({seen[run.name]})" if names[run.name] > 1 else run.name)
    return labels


def _describe(run: Run, label: str) -> dict[str, Any]:
    """Say what a run is and what came of it; one that used the future is not compared."""
    check_run(run)
    config, verdict = run.config, read_verdict(run)
    if verdict is not None and verdict["headline"] == "INVALID":
        raise IntegrityError(
            f"{label} is INVALID, so nothing of it is compared",
            why=verdict["line"],
            fix=f"see what it names in {run.folder / 'report.html'}, mend that, and train the run anew",
        )
    seen = glance(run)
    return {
        "label": label,
        "name": run.name,
        "folder": str(run.folder),
        "model": config.model,
        "headline": None if verdict is None else verdict["headline"],
        "line": None if verdict is None else verdict["line"],
        "gates": [] if verdict is None else verdict["gates"],
        "trained_at": seen.to_dict()["trained_at"],
        "fit_seconds": fit_seconds(run, config),
        "folds": len(run.manifest["folds"]),
        "replicates": config.replicates_of(config.model),
        "parameters": parameters(run, config),
        "forecast_hash": run.manifest["forecast_hash"],
    }


def _check_same_bars(runs: Sequence[Run], labels: Sequence[str]) -> None:
    """Refuse runs of different bars, and say which hash differs and what that means in words."""
    first, label = runs[0], labels[0]
    for run, other in zip(runs[1:], labels[1:], strict=True):
        one, another = (each.manifest["facts"]["data"] for each in (first, run))
        if one != another:
            words = "; ".join(_differences(first.manifest["data"], run.manifest["data"]))
            raise UsageError(
                f"{label} and {other} are of different data: data hash {one[:_SHOWN_HASH]} of {label}, "
                f"{another[:_SHOWN_HASH]} of {other}",
                why=words,
                fix="make the other run on the same bars: "
                f"`{first.train_command('--name', 'NEW', '--set', '...')}` keeps those of {label}",
            )


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Say in words how the bars of two runs differ."""
    found = []
    if one["symbols"] != other["symbols"]:
        found.append(f"symbols: {told_symbols(tuple(one['symbols']))} and {told_symbols(tuple(other['symbols']))}")
    if one["interval"] != other["interval"]:
        found.append(f"interval: {one['interval']} and {other['interval']}")
    spans = [f"{each['first'][:16]} to {each['last'][:16]}, {each['bars']:,} bars" for each in (one, other)]
    if spans[0] != spans[1]:
        found.append(f"period: {spans[0]}; and {spans[1]}")
    for name in ("calendar", "source"):
        if one.get(name) != other.get(name):
            found.append(f"{name}: {one.get(name)} and {other.get(name)}")
    before, after = one.get("versions", {}), other.get("versions", {})
    changed = [symbol for symbol in before if symbol in after and before[symbol] != after[symbol]]
    if changed:
        pairs = [f"{symbol} {before[symbol][:8]} and {after[symbol][:8]}" for symbol in changed[:3]]
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        found.append(f"version of the bars: {', '.join(pairs)}{more}")
    return found or ["the same symbols and period, but other prices"]


def _check_same_delay(configs: Sequence[RunConfig], labels: Sequence[str]) -> None:
    delays = [config.split.delay for config in configs]
    for (one, first), (other, second) in pairwise(zip(delays, labels, strict=True)):
        if one != other:
            raise UsageError(
                f"{first} and {second} do not forecast the same returns",
                why=f"split.delay is {one} in {first} and {other} in {second}, so their paths start at other bars",
                fix=f"train one of them again: `qtrade train --config ... --set split.delay={one} --name NEW`",
            )


def _check_some_shared(models: Sequence[Forecasts], shared: Sequence[Forecasts], labels: Sequence[str]) -> None:
    if len(shared[0]):
        return
    spans = [
        f"{label} from {one.origin.min():%Y-%m-%d} to {one.origin.max():%Y-%m-%d}"
        for label, one in zip(labels, models, strict=True)
    ]
    raise UsageError(
        "these runs share no origin, so there is nothing to compare",
        why=f"tested were {', '.join(spans)}",
        fix="compare runs whose test periods overlap",
    )


def _horizons(configs: Sequence[RunConfig]) -> list[int]:
    """Horizons at which one of the runs is evaluated and all of their paths reach."""
    reach = min(config.window.horizon for config in configs)
    return sorted({horizon for config in configs for horizon in config.evaluation.upto(reach)})


def _left_out(
    configs: Sequence[RunConfig], labels: Sequence[str], horizons: Sequence[int], found: Sequence[PairedHorizon]
) -> list[str]:
    """Say which horizons are not compared, and why."""
    notes = []
    reaches = [config.window.horizon for config in configs]
    asked = {horizon for config in configs for horizon in config.evaluation.upto(config.window.horizon)}
    if beyond := sorted(asked - set(horizons)):
        shortest = labels[reaches.index(min(reaches))]
        notes.append(f"Not compared {_bars(beyond)} ahead: the paths of {shortest} end after {_bars([min(reaches)])}.")
    if short := sorted(set(horizons) - {one.horizon for one in found}):
        notes.append(
            f"Not compared {_bars(short)} ahead: the shared origins hold fewer than {MIN_LABELS} outcomes of that "
            "length that do not overlap."
        )
    return notes


def _conclude(labels: Sequence[str], found: Sequence[PairedHorizon], trading: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what the tests say of each run against the first, and what they do not."""
    base = labels[0]
    lines = []
    for column, label in enumerate(labels[1:], 1):
        lines.append(_about_forecasts(label, base, column, found))
        lines += _about_trading(label, base, column, trading)
    if len(labels) > 2:
        lines.append(
            f"The p-values are adjusted for all {len(labels) - 1} runs that are held against {base} (Holm). The scores "
            "of whichever comes out best are not: they flatter it, because it was chosen by them."
        )
    return lines


def _about_forecasts(label: str, base: str, column: int, found: Sequence[PairedHorizon]) -> str:
    gains = {one.horizon: gain for one in found if (gain := one.scores[column].error_gain) is not None}
    if not gains:
        return f"Too few origins are shared to tell the forecasts of {label} from those of {base}."
    if all(gain.identical for gain in gains.values()):
        return f"{label} and {base} make identical forecasts."
    told = {word: [at for at, gain in gains.items() if gain.answer == word] for word in ("better", "worse")}
    parts = []
    for word, at in told.items():
        if at:
            best = min(at, key=lambda horizon: gains[horizon].p_holm)
            one = gains[best]
            parts.append(
                f"{word} {_bars(at)} ahead (R² {100 * one.gain:+.2f} points at {_bars([best])}, adjusted p "
                f"{_chance(one.p_holm)})"
            )
    if parts:
        return f"The forecasts of {label} are {', and '.join(parts)} than those of {base}."
    sharpest = min(gains, key=lambda horizon: gains[horizon].visible)
    return (
        f"Nothing tells the forecasts of {label} from those of {base}: a difference in R² below "
        f"{100 * gains[sharpest].visible:.2f} points at {_bars([sharpest])} would probably go unseen."
    )


def _about_trading(label: str, base: str, column: int, trading: Sequence[Mapping[str, Any]]) -> list[str]:
    both = [(one["strategy"], one["runs"][column]) for one in trading if one["runs"][column] is not None]
    if not both:
        return [f"No strategy was backtested with the same account on both {label} and {base}."]
    tested = [(strategy, one) for strategy, one in both if one["sharpe_p_holm"] is not None]
    lines = _tested(label, base, tested) if tested else []
    if untested := [strategy for strategy, one in both if one["sharpe_p_holm"] is None]:
        lines.append(
            f"Not tested is whether the Sharpe ratio on {label} differs from that on {base} with "
            f"{', '.join(untested)}: the shared bars are too few, or returns on them do not vary."
        )
    return lines


def _tested(label: str, base: str, tested: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Say what the tests of Sharpe ratios found, of which there is one at least."""
    beyond = [
        f"{strategy} ({one['sharpe_difference']:+.2f}, adjusted p {_chance(one['sharpe_p_holm'])})"
        for strategy, one in tested
        if one["sharpe_p_holm"] < LEVEL
    ]
    if beyond:
        return [f"The Sharpe ratio on {label} differs from that on {base} beyond chance with {', '.join(beyond)}."]
    if all(one["sharpe_difference"] == 0 for _, one in tested):
        return [f"Every strategy earns the same on {label} and {base}."]
    return [f"No strategy has another Sharpe ratio on {label} than on {base}, beyond chance."]


def _bars(horizons: Sequence[int]) -> str:
    """Write some horizons: ``1, 6 and 12 bars``."""
    *others, last = map(str, horizons)
    told = f"{', '.join(others)} and {last}" if others else last
    return f"{told} bar{'' if told == '1' else 's'}"


def _chance(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "below 0.001"

"""Count how often the evaluation sees what was planted in a market, and something where nothing was.

Every scenario of `qtrade.data.synthetic` is made with many seeds; a ridge model walks forward through each market
(3,000 training origins, a new model every 500 bars, 12,000 bars, the rule changes at bar 8,000), and the gates judge
it. The table shows how often; the command fails where a rate misses what is required of it.

    python benchmarks/caveat_power.py --seeds 100 --out benchmarks/results/caveat_power.json
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from qtrade.calendars import ALWAYS
from qtrade.config import RunConfig, load_config
from qtrade.data.synthetic import SCENARIOS, Synthetic, SyntheticConfig
from qtrade.evaluation.coverage import coverage
from qtrade.evaluation.gates import conclude, plausibility_gate, skill_gate, stability_gate
from qtrade.evaluation.intervals import aci_radius, split_radius
from qtrade.evaluation.skill import skill
from qtrade.evaluation.stability import study
from qtrade.evaluation.verdict import verdict
from qtrade.features.targets import volatility
from qtrade.files import write_json
from qtrade.forecasts import Forecasts
from qtrade.pipeline.evaluate import limits_of, suspects_among
from qtrade.pipeline.fitting import fit_fold
from qtrade.pipeline.market import derive, folds_of
from qtrade.pipeline.measures import expanding_drift
from qtrade.pipeline.transfer import answer, ask_fitted, make_question
from qtrade.progress import Silent
from qtrade.types import BAR_FIELDS, Bars, Float64Array, IntArray
from qtrade.windows import Rows, realised

CHANGE = 8_000
LEVEL = 0.9
FEATURES = Path(__file__).with_name("signal_features.py")
NAMES = tuple(SCENARIOS)


@dataclass(frozen=True)
class Outcome:
    """What the gates said of one market.

    Attributes
    ----------
    skill, stability, plausibility, headline
        Grades of G2, G3, G1, and what they make together.
    staleness, change, recurrence
        p-values of the three tests of G3; that of staleness is 1 where age did no harm.
    break_bar
        Estimated bar of the break.
    suspects
        Features named as possible leaks.
    split, aci
        Share of outcomes 24 bars ahead that fixed and adaptive intervals held, after `CHANGE`.
    """

    scenario: str
    seed: int
    skill: str
    stability: str
    plausibility: str
    headline: str
    staleness: float
    change: float
    recurrence: float
    break_bar: int
    suspects: str
    split: float
    aci: float


def bars_of(symbol: str) -> Bars:
    """Make a synthetic market, as the cache would give it."""
    frame = Synthetic(SyntheticConfig()).fetch(symbol, interval="1d", start=None, end=None).frame
    columns = {name: frame[[name]].set_axis([symbol], axis=1) for name in BAR_FIELDS}
    return Bars(**columns, interval="1d", calendar=ALWAYS, periods_per_year=365.25)


def configured(symbol: str) -> RunConfig:
    """Return the probe's configuration."""
    return load_config(
        None,
        [
            "model=ridge",
            "baselines=[]",
            "data.source=synthetic",
            f"data.symbols=['{symbol}']",
            "features.set=none",
            f"features.module={FEATURES}",
            "window.seq_len=1",
            "window.label_len=0",
            "split.mode=rolling",
            "split.train_size=3000",
            "split.valid_size=500",
            "split.step=500",
            "evaluation.windows=1000000",
        ],
    )


def judge(task: tuple[str, int]) -> Outcome:
    """Walk a ridge model through one market, and open the gates."""
    scenario, seed = task
    symbol = f"{scenario}-{seed}"
    config = configured(symbol)
    market = derive(config, bars_of(symbol))
    folds = folds_of(market, config)
    fitted = [fit_fold(market, config, fold, "ridge", seed=0, progress=Silent())[0] for fold in folds]
    own = [one.paths(market, config, fold.test) for one, fold in zip(fitted, folds, strict=True)]
    origin = np.concatenate([rows.origin for _, rows in own])
    path = np.concatenate([said for said, _ in own])
    index, horizon = market.bars.index, config.window.horizon
    ends = np.repeat([fold.train_end for fold in folds], [len(fold.test) for fold in folds])
    forecasts = Forecasts(
        path=path,
        symbol=np.full(len(path), symbol, dtype=object),
        origin=index[origin],
        fold=np.searchsorted([fold.train_end for fold in folds], origin, side="right") - 1,
        seed=np.full(len(path), -1),
        train_end=index[ends],
    )
    actual = np.concatenate([realised(market.returns, rows, horizon) for _, rows in own])
    drift, scale = expanding_drift(market.returns)[origin, 0], volatility(market.returns)
    horizons = config.evaluation.upto(horizon)
    skills = skill(forecasts, actual, drift, horizons)
    question = make_question(
        [fold.train_end for fold in folds], np.unique(origin), 1, horizons, windows=config.evaluation.windows
    )

    def ask(model: int, origins: IntArray) -> Float64Array:
        return ask_fitted(question, market, config, fitted[model], origins)

    stability = study(answer(question, market, config, path[:, None, :], ask), market.returns, scale, 0)
    judged = verdict(skills)
    aged, change, recurrence = stability.staleness.tested, stability.change, stability.recurrence
    assert aged is not None, "there are eighteen folds"
    assert change is not None, "ridge forecasts vary"
    assert recurrence is not None, "ridge forecasts vary"
    honest = stability.matrix.honest
    named = suspects_among(market, folds)
    opened = [
        plausibility_gate(skills, honest.r2 if honest else None, limits_of(config), named),
        skill_gate(judged),
        stability_gate(stability.staleness, change, recurrence, step_bars=config.split.step),
    ]
    said, valid = fitted[0].paths(market, config, folds[0].valid)
    bank = (realised(market.returns, valid, horizon) - said).sum(axis=1)[:, None]
    split, aci = _coverage(market.returns, path, Rows(origin, np.zeros_like(origin)), bank)
    return Outcome(
        scenario=scenario,
        seed=seed,
        skill=judged.headline,
        stability=opened[2].grade,
        plausibility=opened[0].grade,
        headline=conclude(opened, judged).headline,
        staleness=aged.p if aged.r2_lost > 0 else 1.0,
        change=change.p,
        recurrence=recurrence.p,
        break_bar=change.bar,
        suspects=" ".join(named),
        split=split,
        aci=aci,
    )


def _coverage(returns: Float64Array, path: Float64Array, rows: Rows, bank: Float64Array) -> tuple[float, float]:
    """Share of outcomes over the whole path, from `CHANGE` on, inside fixed and inside adaptive intervals."""
    horizon = path.shape[1]
    error = (realised(returns, rows, horizon) - path).sum(axis=1)[:, None]
    after = rows.origin >= CHANGE
    radii = (
        np.broadcast_to(split_radius(bank, LEVEL), error.shape),
        aci_radius(error, bank, delay=horizon, level=LEVEL),
    )
    split, aci = (coverage("", error[after], one[after], delay=horizon, level=LEVEL).share for one in radii)
    return split, aci


@dataclass(frozen=True)
class Row:
    """A scenario's line of the table: shares of markets."""

    scenario: str
    markets: int
    stability_fail: float
    stability_warn: float
    staleness_fail: float
    change_fail: float
    recurrence_fail: float
    skill_pass: float
    skill_fail: float
    headline_fail: float
    leak_named: float
    break_error_bars: float
    split_coverage: float
    aci_coverage: float


def summarise(outcomes: Sequence[Outcome]) -> Row:
    """Make one line of the outcomes of one scenario."""

    def share(hits: Iterable[bool]) -> float:
        return float(np.mean(list(hits)))

    return Row(
        scenario=outcomes[0].scenario,
        markets=len(outcomes),
        stability_fail=share(one.stability == "FAIL" for one in outcomes),
        stability_warn=share(one.stability == "WARN" for one in outcomes),
        staleness_fail=share(one.staleness < 0.01 for one in outcomes),
        change_fail=share(one.change < 0.01 for one in outcomes),
        recurrence_fail=share(one.recurrence < 0.01 for one in outcomes),
        skill_pass=share(one.skill == "PASS" for one in outcomes),
        skill_fail=share(one.skill == "FAIL" for one in outcomes),
        headline_fail=share(one.headline == "FAIL" for one in outcomes),
        leak_named=share(one.plausibility == "WARN" and "log_volume" in one.suspects for one in outcomes),
        break_error_bars=float(np.median([abs(one.break_bar - CHANGE) for one in outcomes])),
        split_coverage=float(np.mean([one.split for one in outcomes])),
        aci_coverage=float(np.mean([one.aci for one in outcomes])),
    )


def missed(rows: Mapping[str, Row]) -> list[str]:
    """Name every requirement that a table does not meet; scenarios that are not in it are not asked."""
    required = [
        *((name, "stability_fail", "<=", 0.10) for name in ("control", "rw", "nuis")),
        *((name, "stability_fail", ">=", 0.90) for name in ("flip", "drift")),
        ("death", "stability_fail", ">=", 0.85),
        ("vol", "stability_fail", ">", 0.34),
        ("markov", "stability_fail", ">", 0.17),
        ("rw", "skill_pass", "<=", 0.02),
        ("control", "skill_pass", ">=", 0.90),
        ("control", "headline_fail", "<=", 0.10),
        ("flip", "break_error_bars", "<=", 100),
        ("leak", "leak_named", ">=", 1.0),
        *((name, "leak_named", "<=", 0.0) for name in NAMES if name != "leak"),
        ("vol", "split_coverage", "<", 0.75),
        ("vol", "aci_coverage", ">=", LEVEL - 0.02),
        ("vol", "aci_coverage", "<=", LEVEL + 0.02),
    ]
    holds = {"<=": float.__le__, ">=": float.__ge__, "<": float.__lt__, ">": float.__gt__}
    return [
        f"{name}: {what} is {getattr(rows[name], what):.3g}, required is {sign} {bound:g}"
        for name, what, sign, bound in required
        if name in rows and not holds[sign](float(getattr(rows[name], what)), float(bound))
    ]


def run(scenarios: Sequence[str], seeds: Sequence[int], workers: int) -> dict[str, Row]:
    """Judge every market, several at once."""
    tasks = [(scenario, seed) for scenario in scenarios for seed in seeds]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        outcomes = pool.map(judge, tasks, chunksize=10)
    return {name: summarise([one for one in outcomes if one.scenario == name]) for name in scenarios}


def main() -> int:
    """Print the table, and what it misses."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--scenario", choices=NAMES, action="append", help="one of them; repeatable")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, help="JSON file for the table")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # the workers share the cores already
    started = time.perf_counter()
    rows = run(options.scenario or NAMES, range(options.seeds), options.workers)
    seconds = time.perf_counter() - started
    print(f"{options.seeds} markets a scenario; shares in percent; FAIL is p < 0.01, WARN p < 0.05\n")
    print("           stability     by            by     by          skill         head  leak   break  covered 90%")
    print("           FAIL  WARN  staleness  break  recurrence  PASS  FAIL  FAIL  named  error  split   ACI")
    for row in rows.values():
        shares = [row.stability_fail, row.stability_warn, row.staleness_fail, row.change_fail, row.recurrence_fail]
        shares += [row.skill_pass, row.skill_fail, row.headline_fail, row.leak_named]
        widths = (4, 6, 8, 9, 9, 8, 6, 6, 6)
        text = "".join(f"{100 * value:{width}.0f}" for value, width in zip(shares, widths, strict=True))
        coverages = f"{100 * row.split_coverage:7.0f}{100 * row.aci_coverage:7.0f}"
        print(f"{row.scenario:10}{text}{row.break_error_bars:9.0f}{coverages}")
    problems = missed(rows)
    print(f"\n{seconds:.0f} s on {options.workers} processes")
    print("\n".join(problems) if problems else "every requirement is met")
    if options.out:
        told = {"seeds": options.seeds, "rows": [asdict(row) for row in rows.values()], "missed": problems}
        write_json(options.out, told)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

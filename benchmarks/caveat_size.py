"""Count how often every p-value that an evaluation prints rejects a null that is true.

Each p-value, and each 95 % interval that speaks of a known truth, is computed on made markets in which there is
nothing to find: GARCH(0.08, 0.90) returns with Student-t shocks of 6 degrees of freedom, labels of 24 overlapping
bars, forecasts that persist like an AR(0.9). At a nominal 5 % it should reject about 5 % of them. The command fails
where a share lies outside of 3 to 10 % by more than two simulation errors, with 1,000 origins or more. With the fewest
that are judged at all, 480, there are twenty labels that share no bar, and those shares are told and not required.

    python benchmarks/caveat_size.py --out benchmarks/results/caveat_size.json
"""

from __future__ import annotations

import argparse
import functools
import math
import multiprocessing
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy import signal

from qtrade.backtest.metrics import sharpe_ratio
from qtrade.backtest.statistics import circular_shift_null, deflated_sharpe, probabilistic_sharpe
from qtrade.evaluation import optimism
from qtrade.evaluation.breaks import contributions, find_break, find_recurrence
from qtrade.evaluation.by_regime import HorizonForecasts, by_regime
from qtrade.evaluation.coverage import coverage_interval
from qtrade.evaluation.distribution import distribution_skill
from qtrade.evaluation.regimes import grid, trend, volatility_terciles
from qtrade.evaluation.shift import JOINT, combine, feature_shift
from qtrade.evaluation.skill import MIN_LABELS, HorizonSkill, skill
from qtrade.evaluation.staleness import TESTED_AGE, staleness
from qtrade.evaluation.transfer import Transfer, transfer_matrix
from qtrade.evaluation.unit_roots import unit_roots
from qtrade.evaluation.verdict import verdict
from qtrade.features.targets import volatility
from qtrade.files import write_json
from qtrade.forecasts import Forecasts
from qtrade.pipeline.measures import expanding_drift
from qtrade.types import Float64Array

H, HORIZONS = 24, (1, 6, 12, 24)
LEVEL, LEAST, MOST = 0.05, 0.03, 0.10
FEWEST = MIN_LABELS * H
SIZES, REQUIRED = (FEWEST, 1_000, 4_000), 1_000
LONGER = (
    FEWEST,
    1_000,
    1_300,
    4_000,
    9_000,
)  # from 1,260 bars on recurrence is tested; its null is easily lost in many
HISTORY = 500  # bars before the first origin, from which drift, volatility and regimes are known
SIGMA, PHI, BETA = 0.01, 0.9, 0.2
RISE = 4e-4  # mean log return per bar where it does not matter to the null: 58 % of 24-bar returns are then positive
REACH = np.array([(1 - PHI**h) / (1 - PHI) for h in HORIZONS])
BLOCK = 250  # test bars of one model
STRATEGIES = 20
WEIGHTS = 6
NOISE, FEW = ", weights of noise", ", weights of noise, six blocks"
AT_ONCE = 20  # series of a task; fixed, since the random numbers follow from it

Bound = Literal["3-10 %", "to 10 %", "told"]
Decisions = dict[str, list[bool]]
"""Of one series: whether each test rejected, by the name of its p-value."""


# ------------------------------------------------------------------------------------------------ what is made
def garch(generator: np.random.Generator, bars: int, series: int) -> Float64Array:
    """Make (bars, series) returns of mean zero."""
    shocks = generator.standard_t(6, (bars + 200, series)) / math.sqrt(1.5)
    returns, variance = np.empty_like(shocks), np.full(series, SIGMA**2)
    for bar, shock in enumerate(shocks):
        returns[bar] = np.sqrt(variance) * shock
        variance = 0.02 * SIGMA**2 + 0.08 * returns[bar] ** 2 + 0.90 * variance
    return returns[200:]


def persistent(generator: np.random.Generator, *shape: int) -> Float64Array:
    """Make AR(0.9) noise of unit variance along the first axis."""
    shocks = generator.standard_normal((shape[0] + 200, *shape[1:])) * math.sqrt(1 - PHI**2)
    return np.asarray(signal.lfilter([1.0], [1.0, -PHI], shocks, axis=0)[200:], dtype=np.float64)


def windows(returns: Float64Array, origins: int) -> Float64Array:
    """(origins, H) returns of the bars after each origin of one market; the first origin is the bar `HISTORY`."""
    views = np.lib.stride_tricks.sliding_window_view(returns, H)
    return np.asarray(views[HISTORY + 1 : HISTORY + 1 + origins])


def path_of(x: Float64Array) -> Float64Array:
    """(N, H) path that the signal `x` foretells where returns are sigma (beta x + noise)."""
    return BETA * SIGMA * x[:, None] * PHI ** np.arange(H)


def noise_weights(generator: np.random.Generator, models: int) -> Float64Array:
    """(models, WEIGHTS) weights of linear models that learned nothing but noise, of mean square length one."""
    return generator.standard_normal((models, WEIGHTS)) / math.sqrt(WEIGHTS)


def forecasts_of(path: Float64Array, bank: Float64Array | None = None) -> Forecasts:
    """Forecasts of one symbol on consecutive days, by one model."""
    days = pd.date_range("2000-01-01", periods=len(path), tz="UTC")
    zero = np.zeros(len(path), dtype=np.int64)
    return Forecasts(
        path=path,
        symbol=np.full(len(path), "A", dtype=object),
        origin=days,
        fold=zero,
        seed=zero - 1,
        train_end=pd.DatetimeIndex([days[0]] * len(path)),
        residuals={} if bank is None else {(0, -1, "A"): bank},
    )


def excludes(value: float, low: float | None, high: float | None) -> list[bool]:
    """Whether an interval excludes a value; nothing where there is no interval."""
    return [] if low is None or high is None or math.isnan(low) else [not low <= value <= high]


def below(p: float | None) -> list[bool]:
    """Whether a p-value rejects; nothing where there is none."""
    return [] if p is None or math.isnan(p) else [p < LEVEL]


# ------------------------------------------------------------------------------------------------ what is tested
def of_skill(n: int, series: int, generator: np.random.Generator) -> Iterable[Decisions]:
    """Test forecast skill.

    Half of a forecast that comes true pays exactly for the error that it adds: its squared error is that of no change
    (or, with half of the drift on top, that of drift), while the rest of the outcome is as before.
    """
    returns, x = garch(generator, HISTORY + n + H + 1, series), persistent(generator, n, series)
    known = slice(HISTORY, HISTORY + n)
    drifts, units = expanding_drift(returns)[known], volatility(returns)[known]

    def number(one: HorizonSkill, name: str) -> float:
        value = one.to_dict()[name]
        assert isinstance(value, float), f"{name} is known"
        return value

    def family(found: Sequence[HorizonSkill], name: str) -> list[bool]:
        return [any(number(one, name) < LEVEL for one in found)]

    for i in range(series):
        path, happened, drift, unit = path_of(x[:, i]), windows(returns[:, i], n), drifts[:, i], units[:, i]
        forecasts = forecasts_of(path)
        useless = skill(forecasts, happened + RISE, drift + RISE, HORIZONS, scale=unit)
        as_zero = skill(forecasts, happened + path / 2, drift, HORIZONS, scale=unit)
        as_drift = skill(forecasts, happened + (path + drift[:, None]) / 2, drift, HORIZONS, scale=unit)
        assert useless[-1].horizon == H, "there are enough labels"
        one: Decisions = {}
        for found, naive in ((as_zero[-1], "r2_vs_zero"), (as_drift[-1], "r2_vs_drift")):
            for name in (naive, f"scaled_{naive}"):
                one[f"{name}_p"] = below(number(found, f"{name}_p"))
                low, high = number(found, f"{name}_low95"), number(found, f"{name}_high95")
                one[f"{name} interval"] = excludes(0, low, high)
        for name in ("ic_p", "rank_ic_p", "scaled_ic_p", "scaled_rank_ic_p", "direction_p"):
            one[name] = below(number(useless[-1], name))
        for name in ("ic_p_holm", "rank_ic_p_holm", "direction_p_holm"):
            one[name] = family(useless, name)
        one["r2_vs_zero_p_holm"] = family(as_zero, "r2_vs_zero_p_holm")
        one["r2_vs_drift_p_holm"] = family(as_drift, "r2_vs_drift_p_holm")
        one["verdict PASS"] = [verdict(as_zero).headline == "PASS"]
        one["verdict FAIL"] = [verdict(as_zero).headline == "FAIL"]
        yield one


def of_distribution(n: int, series: int, generator: np.random.Generator) -> Iterable[Decisions]:
    """Test CRPS skill; with symmetric noise and spread, half of a forecast come true pays for its error here, too."""
    returns, x = garch(generator, HISTORY + n + H + 1, series), persistent(generator, n, series)
    bank = np.lib.stride_tricks.sliding_window_view(garch(generator, 500, 1)[:, 0], H)[::5]
    for i in range(series):
        path = path_of(x[:, i])
        forecasts = forecasts_of(path, np.concatenate([bank, -bank]))
        (found,) = distribution_skill(forecasts, windows(returns[:, i], n) + path / 2, (H,))
        yield {"crps_skill interval": excludes(0, found.crps_skill_low, found.crps_skill_high)}


def of_transfer(n: int, series: int, generator: np.random.Generator) -> Iterable[Decisions]:
    """Compare models on the same origins: each with useless forecasts of its own, or with weights of noise.

    The `TESTED_AGE` first models are there to be old, so that staleness rests on the last n origins; the matrix is of
    the other models, one for each of twelve test blocks (six, where models have weights of noise and blocks are few).
    """
    returns = garch(generator, HISTORY + 2 * n + H + 1, series)
    for i in range(series):
        one: Decisions = {}
        for kind, blocks in (("", 12), (NOISE, 12), (FEW, 6)):
            models, step = TESTED_AGE + blocks, n // blocks
            count = models * step
            if kind:
                said = persistent(generator, count, WEIGHTS) @ noise_weights(generator, models).T
            else:
                said = persistent(generator, count, models)
            predicted = said.T[:, :, None, None] * (BETA * SIGMA * REACH)
            actual = np.cumsum(windows(returns[:, i], count), axis=1)[:, None, np.array(HORIZONS) - 1]
            fold = np.repeat(np.arange(models), step)
            origin, train_end = HISTORY + np.arange(count), HISTORY + step * np.arange(models)
            aged = staleness(Transfer(HORIZONS, train_end, origin, fold, predicted, actual)).tested
            assert aged is not None, "there are enough models"
            one[f"staleness p{kind}"] = below(aged.p)
            if kind != FEW:
                late = slice(TESTED_AGE * step, None)
                square = transfer_matrix(
                    Transfer(
                        horizons=HORIZONS,
                        train_end=train_end[TESTED_AGE:],
                        origin=origin[late],
                        fold=fold[late] - TESTED_AGE,
                        predicted=predicted[TESTED_AGE:, late],
                        actual=actual[late],
                    )
                )
                one[f"transfer optimism p{kind}"] = below(square.optimism.p if square.optimism else None)
                one[f"transfer decay p{kind}"] = below(square.decay.p if square.decay else None)
        yield one


def of_breaks(n: int, series: int, generator: np.random.Generator) -> Iterable[Decisions]:
    """Look for changes of a link that never changes: none at all, or that of the synthetic market `control`."""
    noise, x = garch(generator, HISTORY + n + 1, series), persistent(generator, HISTORY + n + 1, series)
    linked = noise.copy()
    linked[1:] += BETA * SIGMA * x[:-1]
    units = {"no link": volatility(noise), "a link": volatility(linked)}
    for i in range(series):
        transfer = Transfer(
            horizons=HORIZONS,
            train_end=np.array([HISTORY]),
            origin=HISTORY + np.arange(n),
            fold=np.zeros(n, dtype=np.int64),
            predicted=(x[HISTORY : HISTORY + n, i, None, None] * (BETA * SIGMA * REACH))[None],
            actual=np.zeros((n, 1, len(HORIZONS))),
        )
        one: Decisions = {}
        for name, returns in (("no link", noise), ("a link", linked)):
            found = contributions(transfer, 0, returns[:, [i]], units[name][:, [i]], 0)
            assert found is not None, "the forecasts vary"
            change, recurrence = find_break(found), find_recurrence(found)
            one[f"break p, {name}"] = below(change.p if change else None)
            one[f"recurrence p, {name}"] = below(recurrence.p if recurrence else None)
        yield one


def of_regimes(n: int, series: int, generator: np.random.Generator) -> Iterable[Decisions]:
    """Test skill, coverage and trading by regime: volatility terciles by trend."""
    bars = HISTORY + n + H + 1
    returns, x = garch(generator, bars, series), persistent(generator, bars, series)
    other = garch(generator, bars, series)
    places = np.arange(HISTORY, HISTORY + n)
    units = volatility(returns)
    for i in range(series):
        rising = returns[:, [i]] + RISE
        regimes = grid(volatility_terciles(rising), trend(np.exp(np.cumsum(rising, axis=0))))
        unrelated = volatility_terciles(other[:, [i]]).codes[places, 0]
        predicted, outcome = path_of(x[places, i]).sum(axis=1), windows(returns[:, i], n).sum(axis=1)
        net = np.full(bars, np.nan)
        net[places] = x[places - 1, i] * returns[places, i]

        def measured(
            actual: Float64Array, predicted: Float64Array = predicted, unit: Float64Array = units[places, i]
        ) -> HorizonForecasts:
            zero = np.zeros(n, dtype=np.int64)
            return HorizonForecasts(horizon=H, time=places, symbol=zero, actual=actual, predicted=predicted, scale=unit)

        train = range(HISTORY)
        useless = by_regime(regimes, measured(outcome + H * RISE), train, net=net, periods_per_year=252)
        equal = by_regime(regimes, measured(outcome + predicted / 2), train)
        hits = (np.abs(outcome) <= reach90()[0]).astype(np.float64)
        followed = (np.abs(outcome) <= reach90()[1] * units[places, i]).astype(np.float64)
        yield {
            "regime ic_p": [hit for one in useless for hit in below(one.p)],
            "regime ic_p, enough data": [hit for one in useless if one.enough for hit in below(one.p)],
            "regime alarm": [any(one.negative for one in useless)],
            "regime r2 interval": [hit for one in equal if one.r2 for hit in excludes(0, one.r2.low, one.r2.high)],
            "regime sharpe interval": [
                hit for one in useless if one.sharpe for hit in excludes(0, one.sharpe.low, one.sharpe.high)
            ],
            "coverage interval": excludes(0.9, *coverage_interval(hits[:, None], H)[1:]),
            "coverage interval, wide if wild": excludes(0.9, *coverage_interval(followed[:, None], H)[1:]),
            "regime coverage interval": [
                hit
                for code in range(3)
                for hit in excludes(0.9, *coverage_interval(np.where(unrelated == code, hits, np.nan)[:, None], H)[1:])
            ],
        }


@functools.cache
def reach90() -> tuple[float, float]:
    """Distance within which 90 % of the 24-bar returns lie: in log return, and in units of the volatility known."""
    known = 60
    returns = garch(np.random.default_rng(90), known + 1 + H, 50_000)
    moved = np.abs(returns[known + 1 :].sum(axis=0))
    fixed, following = np.quantile(moved, 0.9), np.quantile(moved / volatility(returns)[known], 0.9)
    return float(fixed), float(following)


def of_optimism(n: int, series: int, generator: np.random.Generator) -> Iterable[Decisions]:
    """Compare ways of fitting that are worth the same.

    Each has useless forecasts of its own; or all are linear models whose weights are noise, drawn anew for every test
    block but for those that are fitted once. Such a model is wrong by more or less for a whole block.
    """
    names: tuple[optimism.RungName, ...] = ("in-sample", "shuffled", "purged CV", "walk-forward", "frozen", "oracle")
    blocks = max(1, n // BLOCK)
    returns = garch(generator, HISTORY + n + H + 1, series)
    block = np.minimum(np.arange(n) // BLOCK, blocks - 1)
    for i in range(series):
        actual = windows(returns[:, i], n).sum(axis=1)[:, None, None]
        x = persistent(generator, n, WEIGHTS)
        noisy = {}
        for name in names:
            weights = noise_weights(generator, blocks)
            if name in ("in-sample", "frozen"):  # one draw that is as good as the others are on average
                weights = np.repeat(weights[:1] / np.linalg.norm(weights[0]), blocks, axis=0)
            noisy[name] = (x * weights[block]).sum(axis=1)
        own = dict(zip(names, persistent(generator, n, len(names)).T, strict=True))
        one: Decisions = {}
        for kind, values in (("", own), (NOISE, noisy)):
            found = optimism.measure(
                optimism.Predictions(
                    origin=np.arange(n),
                    horizons=(H,),
                    actual=actual,
                    rungs={name: said[:, None, None] * BETA * SIGMA * REACH[-1] for name, said in values.items()},
                    fit_rows=dict.fromkeys(names, 1.0),
                    model="useless",
                    blocks=blocks,
                    oracle_blocks=blocks,
                    thinned=False,
                    seed=0,
                )
            )
            for part, scores in (("waterfall", found.waterfall), ("ladder", found.ladder)):
                one[f"{part} p{kind}"] = [step.p < LEVEL for step in scores[-1].steps]
        yield one


def of_shift(n: int, series: int, generator: np.random.Generator) -> Iterable[Decisions]:
    """Look for shifts of six stationary features that move together: n bars of training, a tenth as many of test."""
    test, count = n // 10, 6
    for _ in range(series):
        x = persistent(generator, n + 3 * test, 1, count + 1)
        values = math.sqrt(0.5) * (x[:, :, 1:] + x[:, :, :1])
        names = [f"f{number}" for number in range(count)]
        folds = [
            feature_shift(values, names, range(end), range(end, end + test), gap=H)
            for end in range(n, n + 3 * test, test)
        ]
        judged = [one for one in folds[0] if one.answer != "cannot tell"]
        yield {
            "feature shift p": [bool(one.p[-1] <= LEVEL) for one in judged if one.name != JOINT],
            "joint shift p": [bool(one.p[-1] <= LEVEL) for one in judged if one.name == JOINT],
            "shift of all features p": [combine(folds).answer == "WARN"],
        }


def of_unit_roots(n: int, series: int, generator: np.random.Generator) -> Iterable[Decisions]:
    """Test random walks by ADF, and by KPSS what is stationary: returns over 24 bars that overlap."""
    walks = np.cumsum(garch(generator, n + H, series), axis=0)
    names = [str(number) for number in range(series)]
    with_root = unit_roots(walks[:n, None], names, range(n))
    without = unit_roots((walks[H:] - walks[:-H])[:, None], names, range(n))
    for one, other in zip(with_root, without, strict=True):
        yield {"adf_p": below(one.adf_p), "kpss_p": below(other.kpss_p)}


def of_trading(n: int, series: int, generator: np.random.Generator) -> Iterable[Decisions]:
    """Test backtests of 24 overlapping tranches whose forecasts know nothing."""
    returns = garch(generator, n, series)
    for i in range(series):
        called = np.sign(persistent(generator, n + H, STRATEGIES))
        held = np.lib.stride_tricks.sliding_window_view(called, H, axis=0).mean(axis=2)[:n]
        market = returns[:, [i]]
        net = held * market
        timing = circular_shift_null(held[:, :1], market, 2e-4, min_shift=H, seed=i)
        ratio, error = sharpe_ratio(net[:, 0], 1.0)
        best = int((net.mean(axis=0) / net.std(axis=0)).argmax())
        yield {
            "circular shift p": below(timing.p),
            "1 - PSR": [probabilistic_sharpe(net[:, 0]) > 1 - LEVEL],
            "1 - DSR": [deflated_sharpe(net[:, best], trials=STRATEGIES) > 1 - LEVEL],
            "sharpe interval": excludes(0, ratio - 1.959964 * error, ratio + 1.959964 * error),
        }


# ------------------------------------------------------------------------------------------------ what is promised
@dataclass(frozen=True)
class Promise:
    """What a p-value rejects under: a null, in words, and within which bound; `why` if that is not 3 to 10 %."""

    null: str
    why: str = ""
    bound: Bound = "3-10 %"


@dataclass(frozen=True)
class Study:
    """What simulates some p-values, with how many series by default, what these promise, and how long series are."""

    simulate: Callable[[int, int, np.random.Generator], Iterable[Decisions]]
    series: int
    promises: dict[str, Promise]
    sizes: tuple[int, ...] = SIZES


_LUCK = Promise("useless forecast, rising market")
_ZERO, _DRIFT = Promise("squared error of no change"), Promise("squared error of drift")
_NOISE = Promise("models useless, equally good on average")
_HOLM = "Holm over four horizons that resemble one another; any of them counts"
_FEW_BLOCKS = "deviations from the mean of some twenty blocks lean apart, so that it is cautious"


def _at_most(null: str, why: str) -> Promise:
    return Promise(null, why, "to 10 %")


STUDIES = {
    "skill": Study(
        of_skill,
        500,
        {
            "r2_vs_zero_p": _ZERO,
            "r2_vs_zero interval": _ZERO,
            "scaled_r2_vs_zero_p": _ZERO,
            "scaled_r2_vs_zero interval": _ZERO,
            "r2_vs_drift_p": _DRIFT,
            "r2_vs_drift interval": _DRIFT,
            "scaled_r2_vs_drift_p": _DRIFT,
            "scaled_r2_vs_drift interval": _DRIFT,
            **dict.fromkeys(("ic_p", "rank_ic_p", "scaled_ic_p", "scaled_rank_ic_p", "direction_p"), _LUCK),
            **dict.fromkeys(("ic_p_holm", "rank_ic_p_holm", "direction_p_holm"), _at_most(_LUCK.null, _HOLM)),
            "r2_vs_zero_p_holm": _at_most(_ZERO.null, _HOLM),
            "r2_vs_drift_p_holm": _at_most(_DRIFT.null, _HOLM),
            "verdict PASS": _at_most(_ZERO.null, "must beat both naive forecasts, Holm over horizons, and have an IC"),
            "verdict FAIL": _at_most(_ZERO.null, "one tail of each naive forecast's test, Holm over horizons"),
        },
    ),
    "distribution": Study(of_distribution, 500, {"crps_skill interval": Promise("CRPS of no change")}),
    "transfer": Study(
        of_transfer,
        500,
        {
            f"{test} p{kind}": _NOISE if kind else Promise("models useless, equally good")
            for kind in ("", NOISE)
            for test in ("staleness", "transfer optimism", "transfer decay")
        }
        | {
            f"staleness p{FEW}": Promise(
                _NOISE.null, "the luck of a fit lasts for a sixth of the test, which no test can tell from age", "told"
            )
        },
    ),
    "breaks": Study(
        of_breaks,
        500,
        {
            "break p, no link": Promise("forecasts useless"),
            "break p, a link": Promise("forecasts useful for ever"),
            "recurrence p, no link": _at_most("forecasts useless", _FEW_BLOCKS),
            "recurrence p, a link": _at_most("forecasts useful for ever", _FEW_BLOCKS),
        },
        LONGER,
    ),
    "regimes": Study(
        of_regimes,
        500,
        {
            "regime ic_p": _LUCK,
            "regime ic_p, enough data": _LUCK,
            "regime alarm": _at_most(
                _LUCK.null, "one tail, Holm over the regimes with enough data; with 1,000 origins none has"
            ),
            "regime r2 interval": _ZERO,
            "regime sharpe interval": Promise("useless positions"),
            "coverage interval": Promise("intervals of one width hold 90 %"),
            "coverage interval, wide if wild": Promise("intervals as wide as volatility hold 90 %"),
            "regime coverage interval": Promise("intervals of one width hold 90 %, in each regime"),
        },
    ),
    "optimism": Study(
        of_optimism,
        500,
        {
            "waterfall p": Promise("rungs useless, equally good"),
            f"waterfall p{NOISE}": _NOISE,
            "ladder p": Promise("rungs useless, equally good"),
            f"ladder p{NOISE}": _NOISE,
        },
    ),
    "shift": Study(
        of_shift,
        200,
        {
            "feature shift p": Promise("stationary AR(0.9) features"),
            "joint shift p": Promise("stationary AR(0.9) features"),
            "shift of all features p": _at_most(
                "stationary AR(0.9) features", "counts are few and whole numbers, and the fold's own enters its null"
            ),
        },
    ),
    "unit_roots": Study(
        of_unit_roots, 500, {"adf_p": Promise("random walk"), "kpss_p": Promise("24-bar returns, overlapping")}
    ),
    "trading": Study(
        of_trading,
        500,
        {
            "circular shift p": Promise("useless positions"),
            "1 - PSR": Promise("useless positions"),
            "1 - DSR": _at_most(
                "best of 20 useless strategies", "held against the luckiest of 20 and that one's error on top"
            ),
            "sharpe interval": Promise("useless positions"),
        },
    ),
}


# ------------------------------------------------------------------------------------------------ what is found
@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes
    ----------
    study, p_value, null
        What was simulated.
    n, series
        Origins (of feature shift, training bars), and simulated series.
    decisions
        Tests made; a series holds several regimes, steps or features.
    rejected_share, error
        Share of them with p < 0.05, and its simulation error, which allows for tests of one series moving together.
        None where no series is long enough for the test.
    bound, why
        Share required, and why it is not 3 to 10 % where it is not.
    """

    study: str
    p_value: str
    null: str
    n: int
    series: int
    decisions: int
    rejected_share: float | None
    error: float | None
    bound: Bound
    why: str


@dataclass(frozen=True)
class Task:
    """Some series of one study and length; `number` tells such tasks apart."""

    study: str
    n: int
    series: int
    number: int


def simulate(task: Task) -> list[Decisions]:
    """Make the series of a task and test them; the random numbers follow from the task alone."""
    generator = np.random.default_rng([list(STUDIES).index(task.study), task.n, task.number])
    return list(STUDIES[task.study].simulate(task.n, task.series, generator))


def tasks_of(studies: Sequence[str], most: int | None) -> list[Task]:
    """Cut studies into tasks, the long ones first; of every study at most so many series."""
    found = []
    for study in studies:
        count = min(STUDIES[study].series, most or STUDIES[study].series)
        for n in STUDIES[study].sizes:
            found += [
                Task(study, n, min(AT_ONCE, count - start), number)
                for number, start in enumerate(range(0, count, AT_ONCE))
            ]
    return sorted(found, key=lambda task: -task.n)


def summarise(study: str, p_value: str, n: int, found: Sequence[Decisions]) -> Row:
    """Make a line of the decisions of all series."""
    promise = STUDIES[study].promises[p_value]
    made = np.array([len(one[p_value]) for one in found])
    rejected = np.array([sum(one[p_value]) for one in found])
    decisions = int(made.sum())
    share = error = None
    if decisions:
        share = float(rejected.sum() / decisions)
        # Decisions of one series move together. Where hardly any rejects, that is the error of a share of 3 %.
        least = LEAST * (1 - LEAST) / decisions
        error = math.sqrt(max(float(((rejected - share * made) ** 2).sum()) / decisions**2, least))
    return Row(study, p_value, promise.null, n, len(found), decisions, share, error, promise.bound, promise.why)


def rows_of(tasks: Sequence[Task], found: Sequence[list[Decisions]]) -> list[Row]:
    """Put the results of tasks together."""
    together: dict[tuple[str, int], list[Decisions]] = defaultdict(list)
    for task, decisions in zip(tasks, found, strict=True):
        together[task.study, task.n] += decisions
    return [
        summarise(study, p_value, n, decisions)
        for study in STUDIES
        for p_value in STUDIES[study].promises
        for (told, n), decisions in sorted(together.items())
        if told == study
    ]


def missed(rows: Sequence[Row]) -> list[str]:
    """Name every p-value that misses its bound by more than two simulation errors with `REQUIRED` origins or more."""
    found = []
    for row in rows:
        if row.n < REQUIRED or row.bound == "told" or row.rejected_share is None or row.error is None:
            continue
        often = row.rejected_share - 2 * row.error > MOST
        rarely = row.bound == "3-10 %" and row.rejected_share + 2 * row.error < LEAST
        if often or rarely:
            share = f"{row.rejected_share:.1%} (error {row.error:.1%})"
            found.append(f"{row.p_value}, {row.null}, n = {row.n:,}: rejects {share}, required is {row.bound}")
    held = [row for row in rows if row.n >= REQUIRED]
    for study, p_value in dict.fromkeys((row.study, row.p_value) for row in held):
        if all(row.rejected_share is None for row in held if (row.study, row.p_value) == (study, p_value)):
            found.append(f"{p_value}: no series is long enough to be tested")
    return found


def run(tasks: Sequence[Task], workers: int) -> list[list[Decisions]]:
    """Work off the tasks, several at once."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return pool.map(simulate, tasks, chunksize=1)


def table(rows: Sequence[Row]) -> str:
    """Write the table."""
    lines = [f"{'p-value':43}{'null':50}{'n':>6}{'series':>8}{'tests':>7}{'rejected':>10}{'error':>7}  required"]
    for row in rows:
        share = "-" if row.rejected_share is None else f"{row.rejected_share:.1%}"
        error = "-" if row.error is None else f"{row.error:.1%}"
        required = row.bound if row.n >= REQUIRED else "told"
        numbers = f"{row.n:6,}{row.series:8}{row.decisions:7}{share:>10}{error:>7}"
        note = f": {row.why}" if row.why and row.n >= REQUIRED else ""
        lines.append(f"{row.p_value:43}{row.null:50}{numbers}  {required}{note}")
    return "\n".join(lines)


def main() -> int:
    """Print the table, and what it misses."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--study", choices=tuple(STUDIES), action="append", help="one of them; repeatable")
    parser.add_argument("--series", type=int, help="series of each study at most, instead of the usual number")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, help="JSON file for the table")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # the workers share the cores already
    started = time.perf_counter()
    tasks = tasks_of(options.study or tuple(STUDIES), options.series)
    rows = rows_of(tasks, run(tasks, options.workers))
    seconds = time.perf_counter() - started
    print(table(rows))
    problems = missed(rows)
    print(f"\n{seconds:.0f} s on {options.workers} processes")
    print("\n".join(problems) if problems else "every requirement is met")
    if options.out:
        write_json(options.out, {"level": LEVEL, "rows": [asdict(row) for row in rows], "missed": problems})
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

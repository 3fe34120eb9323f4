"""Markets made by a known rule, to find out whether what measures forecasts measures them right.

With independent standard normal u, the return of a bar is partly foretold by a signal x of the bar before::

    x[t+1] = phi x[t] + sqrt(1 - phi^2) u[t+1]
    r[t+1] = sigma (beta x[t] + s noise[t+1])

The noise is GARCH(0.08, 0.90) of unit variance with Student-t shocks of 6 degrees of freedom. A nuisance n, another
AR(0.9) of unit variance, says nothing about returns. How a bar shows them, on an open of its own:

- The close has moved by r since the close before (by r since 100 on the first bar).
- The open lies a tenth of sigma, times a standard normal number, off the close before.
- The volume is ``1e6 exp(x / 2)``: whatever is computed from volume sees the signal, and nothing else does as clearly.
- High and low lie ``sigma exp(n / 4)`` in all, in logs, outside open and close, shared out at random: the nuisance
  shows in ranges and not in the volume. Mixed into the volume it would hide x, and a shift of it would then change
  what volume says about returns, which is just what the scenario ``nuis`` must not do.

The return of the bar `change` is the first one of the new rule: forecasts from the bar before it meet the new market.

A bar is made of the seed and of random numbers up to its own, so that a longer market begins with the same bars, and
a scenario with a change is ``control`` of the same seed, to the bit, before it. There are two exceptions. The slow
turn of ``drift`` is stretched over all `bars`, and its prices depend on their number from the second bar on. And the
volume of ``leak`` knows the next return on purpose.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from qtrade.calendars import ALWAYS, check_interval, intraday_length, known_stamps
from qtrade.data.raw import RAW_FIELDS, Finding, RawBars, between
from qtrade.errors import DataError, UsageError, nearest
from qtrade.settings import Settings
from qtrade.types import Float64Array, IntArray

FIRST_STAMP = pd.Timestamp("2000-01-03", tz="UTC")
# Stamps end in 2262, and a forecast from the last bar needs some that lie ahead of it.
_LAST_STAMP = pd.Timestamp("2250-01-01", tz="UTC")
_FIRST_PRICE = 100.0
_HIGHEST_LOG_PRICE = 300.0  # Squares of prices are computed too, and exp(709) is the largest float.
_USUAL_VOLUME, _SIGNAL_IN_VOLUME = 1e6, 0.5
_NUISANCE_PHI, _NUISANCE_IN_RANGE = 0.9, 0.25
_GAP = 0.1
_SWITCHING = 1 / 400
_BASE = (1.0, 1.0)


@dataclass(frozen=True)
class Scenario:
    """What a market does.

    Attributes
    ----------
    about
        The same in words.
    rules
        What beta is multiplied by, and s, under each of its rules; a market of two begins with the first.
    """

    about: str
    rules: Mapping[str, tuple[float, float]]

    @property
    def changes(self) -> bool:
        """Whether something is different from the bar `change` on."""
        return "after" in self.rules


SCENARIOS = {
    "control": Scenario("one rule for ever: the volume foretells the next return a little", {"always": _BASE}),
    "rw": Scenario("a random walk: nothing foretells returns", {"always": (0.0, 1.0)}),
    "nuis": Scenario(
        "at the change the nuisance in the high-low range turns into 2 n + 1.5; what foretells returns stays",
        {"before": _BASE, "after": _BASE},
    ),
    "flip": Scenario("at the change beta turns into -beta", {"before": _BASE, "after": (-1.0, 1.0)}),
    "death": Scenario("at the change beta turns into 0", {"before": _BASE, "after": (0.0, 1.0)}),
    "drift": Scenario("beta turns slowly into -beta, as beta cos(pi u) with u from 0 to 1", {"always": _BASE}),
    "vol": Scenario("at the change the noise doubles", {"before": _BASE, "after": (1.0, 2.0)}),
    "markov": Scenario(
        "two states that switch with probability 1/400 per bar: beta with s = 1, and -beta with s = 1.5",
        {"state 0": _BASE, "state 1": (-1.0, 1.5)},
    ),
    "leak": Scenario(
        "A LEAK ON PURPOSE: the volume of every bar contains the return of the next one; no skill beyond the oracle's "
        "is real",
        {"always": _BASE},
    ),
}
"""Every scenario by name."""

_ORACLE = (
    "r2 is the share of the variance of the sum of the next returns that can be foretold by whoever knows the rule, "
    "and ic the correlation of the signal x with that sum, for labels that lie under one rule as a whole"
)
_ORACLE_ALSO = {
    "drift": "beta moves with every bar, so there is no closed form; at bar t it is close to that of a constant "
    "beta cos(pi t / (bars - 1))",
    "markov": "each state has its own, for as long as it lasts; over many switches the correlations cancel out",
    "leak": "this is what x foretells without the leak; more than that is the leak",
}


class SyntheticConfig(Settings):
    """Size and strength of a synthetic market."""

    bars: int = Field(default=12_000, ge=2, le=10_000_000)
    """Bars from 2000-01-03 on."""
    change: int = Field(default=8_000, ge=1)
    """First bar whose return follows the new rule, counted from 0, by default after two thirds of the bars; scenarios
    without a change ignore it."""
    phi: float = Field(default=0.9, ge=0, lt=1)
    """Persistence of the signal: the correlation of its values at neighbouring bars."""
    beta: float = Field(default=0.2, ge=0, le=10)
    """Strength of the signal: how far it moves the next return, in units of sigma."""
    sigma: float = Field(default=0.01, gt=0, le=0.1)
    """Standard deviation of the noise in a bar's log return."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the markets whose symbol names none."""
    horizon: int = Field(default=24, ge=1, le=1_000)
    """The oracle is given for 1 to this many bars ahead."""

    @model_validator(mode="before")
    @classmethod
    def _change_lies_within(cls, tree: Any) -> Any:
        """Without a change, it comes after two thirds of the bars."""
        if isinstance(tree, dict) and isinstance(tree.get("bars"), int) and tree.get("change") is None:
            return {**tree, "change": max(1, tree["bars"] * 2 // 3)}
        return tree

    @model_validator(mode="after")
    def _change_is_a_bar(self) -> Self:
        if self.change >= self.bars:
            raise ValueError(f"change {self.change} is not below bars {self.bars}")
        return self


class Synthetic:
    """Markets of a known rule: ``flip`` is a scenario, ``flip-7`` the same with seed 7."""

    name: ClassVar[str] = "synthetic"

    def __init__(self, config: SyntheticConfig | None = None) -> None:
        self.config = config or SyntheticConfig()

    def fetch(self, symbol: str, *, interval: str, start: pd.Timestamp | None, end: pd.Timestamp | None) -> RawBars:
        """Make the market, then cut it to the dates: what remains does not depend on them.

        Raises
        ------
        UsageError
            If the interval is unknown, or so many bars of it reach too far into the future.
        DataError
            If there is no such scenario, no bar between the dates, or the price leaves the range of numbers.
        """
        scenario, seed = _parse(symbol, self.config)
        stamps = _stamps(check_interval(interval), self.config.bars)
        frame, rule = _market(symbol, scenario, seed, self.config)
        frame = between(frame.set_index(stamps), start, end)
        findings = (_leak(frame),) if scenario == "leak" and len(frame) else ()
        facts = _facts(scenario, seed, self.config, rule, stamps)
        return RawBars(symbol, self.name, interval, ALWAYS, "UTC", frame, findings, facts)


def oracle(phi: float, beta: float, horizon: int, spread: float = 1.0) -> tuple[float, float]:
    """Say how well the sum of the next returns can be foretold at best.

    With a = 1 + phi + ... + phi^(h-1) and S = h + 2 sum over k < h of (h - k) phi^k, the share of variance explained
    is R2 = beta^2 a^2 / (beta^2 S + s^2 h).

    Parameters
    ----------
    horizon
        Bars ahead h.
    spread
        Standard deviation s of the noise in units of sigma.

    Returns
    -------
    tuple of float
        R2, and the information coefficient: the correlation of x with that sum, which has the sign of beta.
    """
    if horizon < 1 or not spread > 0:
        raise ValueError(f"horizon {horizon} and spread {spread} must be positive")
    reach = sum(phi**k for k in range(horizon))
    sums = horizon + 2 * sum((horizon - k) * phi**k for k in range(1, horizon))
    coefficient = beta * reach / math.sqrt(beta**2 * sums + spread**2 * horizon)
    return coefficient**2, coefficient


def _parse(symbol: str, config: SyntheticConfig) -> tuple[str, int]:
    """Split a symbol into scenario and seed."""
    scenario, dash, seed = symbol.partition("-")
    if scenario not in SCENARIOS:
        raise DataError(f"there is no synthetic market '{symbol}'", fix=nearest(scenario, SCENARIOS))
    if not dash:
        return scenario, config.seed
    # One name per market: no leading zeros.
    if not re.fullmatch("0|[1-9][0-9]{0,17}", seed):
        raise DataError(
            f"'{seed}' in the synthetic market '{symbol}' is not a seed",
            why="a seed is a whole number of at most 18 digits without leading zeros",
            fix=f"write {scenario}-7, or {scenario} for the seed of the settings",
        )
    return scenario, int(seed)


def _stamps(interval: str, bars: int) -> pd.DatetimeIndex:
    """Stamps of the bars of a market that never closes."""
    length = intraday_length(interval)
    if length is None:
        stamps = known_stamps(FIRST_STAMP, _LAST_STAMP, interval, ALWAYS)[:bars]
    else:
        most = (_LAST_STAMP - FIRST_STAMP) // length
        stamps = pd.date_range(FIRST_STAMP, periods=min(bars, most), freq=length, unit="ns")
    if len(stamps) < bars:
        raise UsageError(
            f"{bars} bars of {interval} from {FIRST_STAMP.year} on pass the year {_LAST_STAMP.year}",
            why="stamps end in 2262, and forecasts need some beyond the last bar",
            fix=f"set bars to {len(stamps)} or less and change below that, or choose a shorter --interval",
        )
    return stamps


def _market(symbol: str, scenario: str, seed: int, config: SyntheticConfig) -> tuple[pd.DataFrame, IntArray]:
    """Bars with the columns `RAW_FIELDS`, and which of the scenario's rules made each."""
    # Each kind of random number has a generator of its own, so that drawing more of one changes none of the others.
    of_signal, of_nuisance, of_noise, of_gap, of_share, of_switch = np.random.default_rng(seed).spawn(6)
    count = config.bars + 1  # One more than there are bars, since the last one's volume may leak the next return.
    signal = _autoregression(config.phi, of_signal.standard_normal(count + 1))
    nuisance = _autoregression(_NUISANCE_PHI, of_nuisance.standard_normal(count))
    noise = _garch(of_noise.standard_t(6, count) / math.sqrt(6 / 4))
    gap = config.sigma * _GAP * of_gap.standard_normal(count)
    share = of_share.random(count)
    switching = of_switch.random(count) < _SWITCHING
    switching[0] = False

    bar = np.arange(count)
    rule = np.zeros(count, dtype=np.int64)
    if SCENARIOS[scenario].changes:
        rule[config.change :] = 1
    if scenario == "markov":
        rule = np.cumsum(switching) % 2
    factors, spreads = np.array(list(SCENARIOS[scenario].rules.values())).T
    beta = config.beta * factors[rule]
    if scenario == "drift":
        beta *= np.cos(np.pi * bar / (config.bars - 1))
    if scenario == "nuis":
        nuisance = np.where(rule == 1, 2 * nuisance + 1.5, nuisance)
    before, now = signal[:-1], signal[1:]
    returns = beta * before + spreads[rule] * noise
    # A leaking bar shows the signal and, just as loud, what the next bar will do.
    published = now[:-1] + returns[1:] if scenario == "leak" else now[:-1]

    path = math.log(_FIRST_PRICE) + np.cumsum(config.sigma * returns)
    if not np.abs(path).max() < _HIGHEST_LOG_PRICE:
        raise DataError(
            f"{symbol}: the price leaves the range of numbers",
            why=f"its logarithm reaches {path[np.argmax(np.abs(path))]:.0f} within {config.bars} bars",
            fix="set a smaller sigma, beta or phi, or fewer bars",
        )
    opened = np.exp(np.concatenate([[math.log(_FIRST_PRICE)], path[:-1]]) + gap)
    close = np.exp(path)
    outside = config.sigma * np.exp(_NUISANCE_IN_RANGE * nuisance)
    columns = {
        "open": opened,
        "high": np.maximum(opened, close) * np.exp(share * outside),
        "low": np.minimum(opened, close) * np.exp((share - 1) * outside),
        "close": close,
    }
    frame = pd.DataFrame({name: values[:-1] for name, values in columns.items()})
    frame["volume"] = _USUAL_VOLUME * np.exp(_SIGNAL_IN_VOLUME * published)
    return frame.assign(dividends=0.0, splits=0.0)[list(RAW_FIELDS)], rule[:-1]


def _autoregression(phi: float, shocks: Float64Array) -> Float64Array:
    """Stationary AR(1) of unit variance."""
    steps = shocks * math.sqrt(1 - phi**2)
    steps[0] = shocks[0]
    return _series(accumulate(steps.tolist(), lambda value, step: phi * value + step), len(shocks))


def _garch(shocks: Float64Array) -> Float64Array:
    """GARCH(0.08, 0.90) noise of unit variance from shocks of unit variance."""
    reaction, memory = 0.08, 0.90
    floor = 1 - reaction - memory
    growth = reaction * shocks**2 + memory
    variance = accumulate(growth[:-1].tolist(), lambda value, factor: floor + value * factor, initial=1.0)
    return np.sqrt(_series(variance, len(shocks))) * shocks


def _series(values: Iterable[float], count: int) -> Float64Array:
    return np.fromiter(values, dtype=np.float64, count=count)


def _leak(frame: pd.DataFrame) -> Finding:
    """Say of a leaking market that it leaks."""
    return Finding(
        "leak",
        "warning",
        len(frame),
        str(frame.index[0]),
        str(frame.index[-1]),
        f"the volume {frame['volume'].iloc[0]:.0f} contains the return of the next bar, on purpose",
    )


def _facts(
    scenario: str, seed: int, config: SyntheticConfig, rule: IntArray, stamps: pd.DatetimeIndex
) -> dict[str, Any]:
    """Tell the whole truth about a market, in plain values; it does not depend on the dates asked for."""
    changes = SCENARIOS[scenario].changes
    table: list[dict[str, Any]] = []
    for when, (factor, spread) in SCENARIOS[scenario].rules.items():
        for horizon in range(1, config.horizon + 1):
            known = (None, None) if scenario == "drift" else oracle(config.phi, config.beta * factor, horizon, spread)
            table.append({"when": when, "horizon": horizon, "r2": known[0], "ic": known[1]})
    facts: dict[str, Any] = {
        "scenario": scenario,
        "about": SCENARIOS[scenario].about,
        "seed": seed,
        **config.model_dump(include={"bars", "phi", "beta", "sigma"}),
        "change_bar": config.change if changes else None,
        "change_stamp": str(stamps[config.change]) if changes else None,
        "oracle": table,
        "oracle_note": "; ".join(filter(None, (_ORACLE, _ORACLE_ALSO.get(scenario)))),
    }
    if scenario == "markov":
        facts["switch_bars"] = (np.flatnonzero(np.diff(rule)) + 1).tolist()
    return facts

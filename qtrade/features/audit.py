"""The look-ahead audit of features and target: no future, and no made-up one, may move what is known before it.

Each is computed on the bars there are, on bars that end at a cut, and on bars that are made up after it. Whatever the
future was, rows up to the cut must be the same.

Features of `FEATURES` compute each symbol on its own and treat every bar alike, so a stretch of the history and a few
of its symbols show what the whole would, and cost the same however long it is; the tests do this on every commit for
every one of them. A file of the user's may do anything, so it is audited on all the bars.

Two kinds of look-ahead stay unseen: one that moves no row before these cuts, and knowledge from outside the bars, as a
file of prices that the user's code reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtrade.errors import IntegrityError, UsageError
from qtrade.features.build import FeatureConfig, check_cross, cross_returns
from qtrade.features.indicators import FEATURES
from qtrade.features.market import Market
from qtrade.features.own import own_returns, raw_features, raw_target
from qtrade.features.targets import TARGETS, VOLATILITY_BARS, make_target
from qtrade.types import BAR_FIELDS, Bars, Float64Array
from qtrade.user_code import UserFile

Columns = dict[str, Float64Array]

_STRETCH = 200
"""Bars after the warm-up on which features of `FEATURES` are audited."""
_SYMBOLS = 2
_BRIEF = (0, 1)
"""The world of `_worlds` they are compared with at one cut after another: the future removed, and made up."""
_OWN_CUTS = 5
"""Cuts at which a file of the user's is compared with every one of these worlds."""

# Sums of a user's code may be taken in another order when there are more rows, which changes their last bits. This
# share of a column's largest value is far above that, and far below the seven digits that a model reads.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class _Subject:
    """Something to audit.

    Attributes
    ----------
    compute
        From bars to (T, S) columns by name, and the leading rows that may hold anything.
    what
        How a message names a column.
    fix
        What to do about look-ahead in it.
    own
        Whether it is the user's.
    """

    compute: Callable[[Bars], tuple[Columns, int]]
    what: Callable[[str], str]
    fix: str
    own: bool


def audit_features(bars: Bars, config: FeatureConfig, *, seed: int = 0) -> None:
    """Check that nothing a model reads or learns sees past its own bar.

    Raises
    ------
    IntegrityError
        If a value moves when its future is removed or made up, or when it is computed twice; the message names column,
        symbol and bar.
    UsageError
        If a file of the user's fails, or fails without the future.
    """
    check_cross(bars, config.cross)
    generator = np.random.default_rng(seed)
    _audit(_built_in(config), _stretch(bars, config, generator), generator)
    files = {setting: UserFile.read(path) for setting, path in config.files.items()}
    if "features.module" in files:
        _audit(_own_features(files["features.module"]), bars, generator)
    if "features.target" in files:
        _audit(_own_target(files["features.target"]), bars, generator)
        _audit_returns(bars, files["features.target"], generator)


def _built_in(config: FeatureConfig) -> _Subject:
    """Everything that is not the user's: the selected features, other symbols' returns, and the target."""

    def compute(bars: Bars) -> tuple[Columns, int]:
        markets = [Market.of(bars, symbol) for symbol in range(len(bars.symbols))]
        columns: Columns = {
            name: np.stack([FEATURES[name].compute(market).to_numpy(dtype=np.float64) for market in markets], axis=1)
            for name in config.names
        }
        columns |= cross_returns(bars, [symbol for symbol in config.cross if symbol in bars.symbols])
        if config.target in TARGETS:
            target = make_target(bars, config.target)
            columns |= {config.target: target.past}
            columns |= {} if target.unit is None else {"unit of the target": target.unit}
        return columns, _warmup(config)

    fix = "this is a fault of qtrade, please report it; until it is mended, leave the feature out: features.exclude"
    return _Subject(compute, lambda name: f"'{name}'", fix, own=False)


def _own_features(file: UserFile) -> _Subject:
    return _Subject(
        compute=lambda bars: raw_features(bars, file),
        what=lambda name: f"feature '{name}' of {file.path}",
        fix=f"compute row t of {file.path} from rows up to t, and seed anything random",
        own=True,
    )


def _own_target(file: UserFile) -> _Subject:
    def compute(bars: Bars) -> tuple[Columns, int]:
        values, warmup = raw_target(bars, file)
        return {"": values}, warmup

    fix = f"compute row t of {file.path} from rows up to t: labels are cut from later rows by qtrade"
    return _Subject(compute, lambda _: f"the target of {file.path}", fix, own=True)


def _warmup(config: FeatureConfig) -> int:
    """Rows after which every feature of `FEATURES` and every target of `TARGETS` has a value."""
    return max((VOLATILITY_BARS + 1, *(FEATURES[name].warmup for name in config.names)))


def _stretch(bars: Bars, config: FeatureConfig, generator: np.random.Generator) -> Bars:
    """Draw some bars that follow one another, and some symbols, those of `features.cross` first."""
    length = _warmup(config) + _STRETCH
    start = int(generator.integers(max(len(bars) - length, 0) + 1))
    others = [str(symbol) for symbol in generator.permutation(list(bars.symbols)) if symbol not in config.cross]
    return bars.rows(start, start + length).select([*config.cross, *others][:_SYMBOLS])


def _audit(subject: _Subject, bars: Bars, generator: np.random.Generator) -> None:
    """Compare what a subject says of these bars with what it says of others that are the same up to a cut."""
    whole, warmup = subject.compute(bars)
    if subject.own:
        again = subject.compute(bars)[0]
        rows = range(warmup, len(bars))
        _compare(subject, bars, (whole, again), rows, "it is computed twice", "it is not deterministic")
    candidates = np.arange(warmup, len(bars) - 1)
    # One in each stretch of equal length, so that none is left out by chance.
    stretches = np.array_split(candidates, _OWN_CUTS if subject.own else len(_BRIEF))
    cuts = [int(generator.choice(stretch)) for stretch in stretches if len(stretch)]
    for number, cut in enumerate(cuts):
        worlds = _worlds(bars, cut, generator)
        for when, world in worlds if subject.own else islice(worlds, _BRIEF[number], _BRIEF[number] + 1):
            try:
                columns = subject.compute(world)[0]
            except UsageError as error:
                raise UsageError(f"{error.what}, when {when}", why=error.why, fix=error.fix) from error
            _compare(subject, bars, (whole, columns), range(warmup, cut + 1), when, "it looks ahead")


def _worlds(bars: Bars, cut: int, generator: np.random.Generator) -> Iterator[tuple[str, Bars]]:
    """Bars that are the same up to a cut, with what makes them different.

    What is made up is made up again upside down: a sign of a later move, which one future leaves as it was by chance,
    is then sure to turn. And one symbol's future is made up alone, so that it shows in the others if they see it.
    """
    after = f"what comes after {bars.index[cut]} is"
    yield f"{after} removed", bars.rows(0, cut + 1)
    everyone = np.ones(len(bars.symbols), dtype=np.bool_)
    for world in _made_up(bars, cut, everyone, generator):
        yield f"{after} made up", world
    if len(bars.symbols) > 1:
        one = generator.permutation(len(bars.symbols)) == 0
        yield f"{after} made up for {bars.symbols[int(one.argmax())]}", _made_up(bars, cut, one, generator)[0]


def _made_up(bars: Bars, cut: int, chosen: NDArray[np.bool_], generator: np.random.Generator) -> tuple[Bars, Bars]:
    """Replace the bars of some symbols after a cut by others as valid, and by the mirror image of these."""
    shape = (len(bars) - cut - 1, int(chosen.sum()))
    known = np.log(bars.close.to_numpy(dtype=np.float64)[cut, chosen])
    low, first, last, high = np.sort(generator.normal(0.0, 1.0, (4, *shape)), axis=0)
    worlds = (
        {"low": known + low, "open": known + first, "close": known + last, "high": known + high},
        {"low": known - high, "open": known - first, "close": known - last, "high": known - low},
    )
    factor = np.exp(generator.normal(0.0, 1.0, shape))  # a market without volume stays one
    made = []
    for prices in worlds:
        frames: dict[str, Any] = {}
        for name in BAR_FIELDS:
            values = getattr(bars, name).to_numpy(dtype=np.float64, copy=True)
            later = values[cut + 1 :]
            later[:, chosen] = np.exp(prices[name]) if name in prices else later[:, chosen] * factor
            frames[name] = pd.DataFrame(values, index=bars.index, columns=bars.close.columns)
        made.append(replace(bars, **frames))
    return made[0], made[1]


def _compare(subject: _Subject, bars: Bars, pair: tuple[Columns, Columns], rows: range, when: str, why: str) -> None:
    """Raise `IntegrityError` if a column is not the same on these rows."""
    before, after = pair
    if before.keys() != after.keys():
        odd = sorted(before.keys() ^ after.keys())[0]
        raise IntegrityError(
            f"{subject.what(odd)} is there or not when {when}",
            why="which columns there are must not depend on the bars",
            fix=subject.fix,
        )
    part = slice(rows.start, rows.stop)
    for name in before:
        old, new = before[name][part], after[name][part]
        size = np.abs(old, where=np.isfinite(old), out=np.zeros_like(old)).max(initial=0.0)
        rounding = _ROUNDING * size if subject.own else 0.0
        with np.errstate(invalid="ignore"):
            same = (old == new) | (np.isnan(old) & np.isnan(new)) | (np.abs(old - new) <= rounding)
        if not same.all():
            row, column = (int(axis[0]) for axis in np.nonzero(~same))
            raise IntegrityError(
                f"{subject.what(name)}: its value for {bars.symbols[column]} at {bars.index[rows.start + row]} moves "
                f"from {old[row, column]:g} to {new[row, column]:g} when {when}",
                why=f"{why}, so a forecast from it means nothing",
                fix=subject.fix,
            )


def _audit_returns(bars: Bars, file: UserFile, generator: np.random.Generator) -> None:
    """Check that a forecast becomes the same returns whatever other forecasts stand beside it."""
    values, warmup = raw_target(bars, file)
    steps = np.arange(1, 6)
    last = len(bars) - 1 - int(steps[-1])
    if last <= warmup:
        return
    origin = generator.integers(warmup, last, size=20)
    symbol = generator.integers(0, len(bars.symbols), size=20)
    path, known = values[origin[:, None] + steps, symbol[:, None]], values[origin, symbol]
    together = own_returns(file, path, known)
    for row in range(len(path)):
        alone = own_returns(file, path[row : row + 1], known[row : row + 1])[0]
        if not np.allclose(alone, together[row], rtol=1e-9, atol=1e-12):
            raise IntegrityError(
                f"'log_returns' in {file.path} makes other returns of the path of {bars.symbols[int(symbol[row])]} "
                f"from {bars.index[int(origin[row])]} when other paths stand beside it",
                why="those may be of later origins, so a forecast from it means nothing",
                fix="compute row w of the result from row w of path and known",
            )

"""Features and targets from a file of the user's: what it must define, and what it gives, checked."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from qtrade.errors import UsageError
from qtrade.types import Bars, Float64Array, IntArray
from qtrade.user_code import UserFile, check_table

FEATURES_EXAMPLE = '''\
import numpy as np

def features(bars):
    """One (T, S) DataFrame per column, row t from bars up to t."""
    return {"five_bar_move": np.log(bars.close / bars.close.shift(5))}'''

TARGET_EXAMPLE = '''\
import numpy as np

def target(bars):
    """(T, S) DataFrame of what is learned, row t from bars up to t."""
    return np.log(bars.close)

def log_returns(path, known):
    """From (W, H) forecasts and the (W,) last known values to (W, H) log returns."""
    return np.diff(path, axis=1, prepend=known[:, None])'''


def own_features(bars: Bars, file: UserFile) -> tuple[dict[str, Float64Array], int]:
    """Run a file and ask it for its features.

    Returns
    -------
    columns
        (T, S) float64 by name. Rows before the warm-up may hold anything.
    warmup
        What the file declares as ``WARMUP``, or else the longest run of missing values at the start of a column.

    Raises
    ------
    UsageError
        If it fails, or gives something else than finite features.
    """
    columns, warmup, fix = _asked_features(bars, file)
    _check_finite(bars, columns, warmup, file, fix)
    return columns, warmup


def own_target(bars: Bars, file: UserFile) -> tuple[Float64Array, int]:
    """Run a file and ask it for its target; what is returned and raised is as in `own_features`."""
    values, warmup, fix = _asked_target(bars, file)
    _check_finite(bars, {"": values}, warmup, file, fix)
    return values, warmup


def raw_features(bars: Bars, file: UserFile) -> tuple[dict[str, Float64Array], int]:
    """Run a file and ask it for its features and their warm-up, whether or not they are finite."""
    return _asked_features(bars, file)[:2]


def raw_target(bars: Bars, file: UserFile) -> tuple[Float64Array, int]:
    """Run a file and ask it for its target and its warm-up, whether or not it is finite."""
    return _asked_target(bars, file)[:2]


def own_returns(file: UserFile, path: Float64Array, known: Float64Array) -> Float64Array:
    """Run a file and have it turn paths (W, H) of its target, after (W,) known values, into log returns.

    Raises
    ------
    UsageError
        If it fails, or gives something else than (W, H) finite numbers.
    """
    _, (_, function) = file.functions("target", "log_returns", example=TARGET_EXAMPLE)
    what = f"'log_returns' in {file.path}"
    with file.blamed(f"{what} failed"):
        returns = np.asarray(function(path.copy(), known.copy()), dtype=np.float64)
    fix = f"correct {_where(file, function)}"
    if returns.shape != path.shape:
        raise UsageError(f"{what} must return an array of shape {path.shape}, not {returns.shape}", fix=fix)
    bad = ~np.isfinite(returns)
    if bad.any():
        row, step = (int(axis[0]) for axis in np.nonzero(bad))
        raise UsageError(
            f"{what} makes {returns[row, step]} of a forecast of {path[row, step]:g} at step {step + 1}",
            why=f"the last known value is {known[row]:g}; {int(bad.any(axis=1).sum())} of {len(bad)} paths are so",
            fix=fix,
        )
    return returns


def _asked_features(bars: Bars, file: UserFile) -> tuple[dict[str, Float64Array], int, str]:
    """Features of a file, their warm-up, and what to say where they are wrong."""
    module, (function,) = file.functions("features", example=FEATURES_EXAMPLE)
    # Its own copies: a file that writes into its arguments must not change what others read.
    with file.blamed(f"the features of {file.path} failed"):
        given = function(bars.rows(0, len(bars)))
    fix = f"correct {_where(file, function)}"
    if not isinstance(given, Mapping) or not given or not all(isinstance(name, str) and name for name in given):
        names = f" with the keys {list(given)[:3]}" if isinstance(given, Mapping) else ""
        raise UsageError(
            f"'features' in {file.path} must return DataFrames by name, not {type(given).__name__}{names}", fix=fix
        )
    columns = {name: _table(bars, values, f"{_named(name)} of {file.path}", fix) for name, values in given.items()}
    return columns, _warmup(columns, file, module), fix


def _asked_target(bars: Bars, file: UserFile) -> tuple[Float64Array, int, str]:
    """Target of a file, its warm-up, and what to say where it is wrong."""
    module, (function, _) = file.functions("target", "log_returns", example=TARGET_EXAMPLE)
    with file.blamed(f"the target of {file.path} failed"):
        given = function(bars.rows(0, len(bars)))
    fix = f"correct {_where(file, function)}"
    values = _table(bars, given, f"the target of {file.path}", fix)
    return values, _warmup({"": values}, file, module), fix


def _where(file: UserFile, function: Any) -> str:
    """Place of a function in a file."""
    code = getattr(function, "__code__", None)
    return file.place(code.co_firstlineno if code and code.co_filename == str(file.path) else None)


def _table(bars: Bars, given: Any, what: str, fix: str) -> Float64Array:
    """Take (T, S) numbers out of a DataFrame on the index and symbols of the bars."""
    frame = check_table(given, bars, what, fix=fix)
    for symbol, kind in frame.dtypes.items():
        if kind.kind not in "biuf":
            raise UsageError(f"{what} holds {kind} for {symbol}, not numbers", fix=fix)
    return frame.to_numpy(dtype=np.float64, na_value=np.nan)


def _warmup(columns: Mapping[str, Float64Array], file: UserFile, module: ModuleType) -> int:
    """Return the warm-up that a file declares, or else the longest run of missing values at the start of a column."""
    declared = getattr(module, "WARMUP", None)
    if declared is None:
        return max(int(_leading(values).max()) for values in columns.values())
    if not isinstance(declared, int) or isinstance(declared, bool) or declared < 0:
        raise UsageError(f"WARMUP in {file.path} must be a number of bars, not {declared!r}", fix="write WARMUP = 20")
    return declared


def _check_finite(bars: Bars, columns: Mapping[str, Float64Array], warmup: int, file: UserFile, fix: str) -> None:
    """Refuse columns that hold no number after the warm-up, in what a model reads: single precision."""
    for name, values in columns.items():
        empty = _leading(values) == len(bars)
        if empty.any():
            raise UsageError(
                f"{_named(name)} of {file.path} has no value for {bars.symbols[int(empty.argmax())]} "
                f"on any of {len(bars)} bars",
                fix=f"fetch a longer history, or {fix}",
            )
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(values.astype(np.float32))
        bad[:warmup] = False
        if bad.any():
            row, column = (int(axis[0]) for axis in np.nonzero(bad))
            raise UsageError(
                f"{_named(name)} of {file.path} is {values[row, column]} for {bars.symbols[column]} "
                f"at {bars.index[row]}",
                why=f"{int(bad[:, column].sum())} of {len(bars)} bars are missing or too large "
                f"after a warm-up of {warmup}",
                fix=f"{fix}; say what such a bar means, or declare a longer WARMUP",
            )


def _named(name: str) -> str:
    return f"feature '{name}'" if name else "the target"


def _leading(values: Float64Array) -> IntArray:
    """(S,) missing values at the start of each column."""
    missing = np.isnan(values)
    return np.where(missing.all(axis=0), len(values), (~missing).argmax(axis=0)).astype(np.int64)

"""Predicted paths laid out on the bars of a market, and the numbers that a decision can be made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import qtrade.notebook_html as html
from qtrade.errors import DataError, UsageError
from qtrade.types import Float64Array, IntArray

_Asked = ParamSpec("_Asked")
_Answer = TypeVar("_Answer", pd.DataFrame, Float64Array)

# As many as a sweep comes back to; with 5,000 bars of ten symbols these are 50 MB of frames.
_REMEMBERED = 128


def _remembered(
    method: Callable[Concatenate[Paths, _Asked], _Answer],
) -> Callable[Concatenate[Paths, _Asked], _Answer]:
    """Work an answer out once for the same arguments.

    A frame is handed out as a shallow copy: what is written into it reaches no other (copy-on-write).
    """

    @wraps(method)
    def remembered(self: Paths, /, *args: _Asked.args, **kwargs: _Asked.kwargs) -> Any:
        answer = self._worked_out(method, args, *kwargs.items())
        return answer.copy(deep=False) if isinstance(answer, pd.DataFrame) else answer

    return remembered


@dataclass(frozen=True, eq=False)
class Paths:
    """Predicted paths of a market, one per bar and symbol; see `Forecasts.on`.

    Row t is what is known at the close of bar t. A path starts at its origin's close, or `delay` bars later, and all
    returns are logarithmic and cumulative from that start unless a method says otherwise. Frames have the index and
    the symbols of the market, and NaN where there is no forecast. Arrays are read-only.

    Attributes
    ----------
    index, columns
        Axes of the market: T stamps, S symbols.
    returns
        (T, S, H) log returns of the bars t+1+delay .. t+H+delay; NaN without a forecast.
    folds
        (T, S) number of the fold whose model made the forecast; meaningless without one.
    train_ends
        (T, S) position on `index` of the last bar that the model knew; negative where it lies before the first bar.
    banks
        For each (fold, symbol) the (V, H) validation errors of log returns, actual minus predicted.
    delay
        Bars between the origin's close and the close at which the path starts.
    """

    index: pd.DatetimeIndex
    columns: pd.Index
    returns: Float64Array
    folds: IntArray
    train_ends: IntArray
    banks: Mapping[tuple[int, str], Float64Array]
    delay: int = 0

    def __post_init__(self) -> None:
        shape = (len(self.index), len(self.columns))
        if self.returns.ndim != 3 or self.returns.shape[:2] != shape:
            raise ValueError(f"returns must be ({shape[0]}, {shape[1]}, H), got {self.returns.shape}")
        for name in ("folds", "train_ends"):
            if getattr(self, name).shape != shape:
                raise ValueError(f"'{name}' must be {shape}, got {getattr(self, name).shape}")
        for values in (self.returns, self.folds, self.train_ends):
            values.setflags(write=False)

    def __repr__(self) -> str:
        return f"Paths({len(self.index):,} bars, {len(self.columns)} symbols, {self.horizon} steps)"

    def _repr_html_(self) -> str:
        shares = self.has_forecast().mean()
        rows = [(symbol, f"{share:.1%}") for symbol, share in shares.head(html.MOST_ROWS).items()]
        titles = ("symbol", "bars with a forecast")
        return html.piece(html.heading(repr(self)), html.table(titles, rows, of=len(shares)))

    @property
    def horizon(self) -> int:
        """Number of steps H."""
        return int(self.returns.shape[2])

    @cached_property
    def cumulative(self) -> Float64Array:
        """(T, S, H) cumulative log return from the start of the path to each step."""
        return _read_only(np.cumsum(self.returns, axis=2))

    # --- the path itself ---

    @_remembered
    def has_forecast(self) -> pd.DataFrame:
        """(T, S) booleans: whether there is a forecast of this symbol at this bar."""
        return pd.DataFrame(self._known, index=self.index, columns=self.columns)

    @_remembered
    def expected(self, step: int = 0) -> pd.DataFrame:
        """(T, S) cumulative log return expected after `step` bars; 0 is the end of the path.

        Raises
        ------
        UsageError
            If `step` lies outside 0 .. H.
        """
        return self._frame(self.cumulative[:, :, self._position(step)])

    @_remembered
    def peak(self) -> pd.DataFrame:
        """(T, S) highest cumulative log return of the steps 1 .. H; negative where the path only falls."""
        return self._frame(self.cumulative.max(axis=2))

    @_remembered
    def trough(self) -> pd.DataFrame:
        """(T, S) lowest cumulative log return of the steps 1 .. H; positive where the path only rises."""
        return self._frame(self.cumulative.min(axis=2))

    @_remembered
    def peak_step(self) -> pd.DataFrame:
        """(T, S) step 1 .. H, in bars, at which the path is highest; the first of equals."""
        return self._frame(self.cumulative.argmax(axis=2) + 1.0)

    @_remembered
    def trough_step(self) -> pd.DataFrame:
        """(T, S) step 1 .. H, in bars, at which the path is lowest; the first of equals."""
        return self._frame(self.cumulative.argmin(axis=2) + 1.0)

    @_remembered
    def slope(self, first: int = 1, last: int = 0) -> pd.DataFrame:
        """(T, S) log return per bar: slope of the least-squares line through the steps ``first .. last`` of the path.

        The path is cumulative; a `last` of 0 is its end.

        Raises
        ------
        UsageError
            If a step lies outside the path, or there are fewer than two.
        """
        start, stop = self._position(first), self._position(last) + 1
        if stop - start < 2:
            raise UsageError(
                f"there is no slope from step {start + 1} to step {stop}",
                why="a line needs two points",
                fix="choose a 'last' that lies beyond 'first'",
            )
        step = np.arange(stop - start) - (stop - start - 1) / 2
        return self._frame((self.cumulative[:, :, start:stop] * (step / np.sum(step**2))).sum(axis=2))

    @_remembered
    def drawdown(self) -> pd.DataFrame:
        """(T, S) largest predicted fall from a running peak, as a share of the price there: 0 .. 1.

        The start of the path counts as its first peak, so a path that only falls is measured from there.
        """
        peak = np.maximum.accumulate(np.maximum(self.cumulative, 0.0), axis=2)
        return self._frame(-np.expm1(-(peak - self.cumulative).max(axis=2)))

    # --- its spread, from validation errors ---

    @_remembered
    def quantile(self, q: float, step: int = 0) -> pd.DataFrame:
        """(T, S) quantile `q` of the cumulative log return after `step` bars; 0 is the end of the path.

        It is the path plus that quantile of its model's validation errors.

        Raises
        ------
        UsageError
            If `q` lies outside 0 .. 1, or `step` outside 0 .. H.
        DataError
            If a forecast has no validation errors.
        """
        _check_share(q)
        at = self._position(step)
        return self._by_model(lambda path, error: path[:, at] + np.quantile(error[:, at], q))

    @_remembered
    def extreme_quantile(self, q: float, lowest: bool) -> pd.DataFrame:
        """(T, S) how far the price may go against a position, as a cumulative log return: where to put its stop.

        If `lowest`, for a long position, it is the lowest over the steps of the quantile `q`; otherwise, for a short
        one, the highest of the quantile ``1 - q``. Each step is judged by itself, so a path goes beyond this at some
        step with a probability of `q` or more.

        Raises
        ------
        UsageError
            If `q` lies outside 0 .. 1.
        DataError
            If a forecast has no validation errors.
        """
        _check_share(q)
        if lowest:
            return self._by_model(lambda path, error: (path + np.quantile(error, q, axis=0)).min(axis=1))
        return self._by_model(lambda path, error: (path + np.quantile(error, 1 - q, axis=0)).max(axis=1))

    @_remembered
    def probability(self, step: int = 0, above: float = 0.0) -> pd.DataFrame:
        """(T, S) probability, 0 .. 1, that the cumulative log return after `step` bars exceeds `above`.

        It is the share of the model's validation errors that would lift the path, by then, above it. A step of 0 is
        the end of the path.

        Raises
        ------
        UsageError
            If `step` lies outside 0 .. H.
        DataError
            If a forecast has no validation errors.
        """
        at = self._position(step)

        def share(path: Float64Array, error: Float64Array) -> Float64Array:
            below = np.searchsorted(np.sort(error[:, at]), above - path[:, at], side="right")
            return 1 - below / len(error)

        return self._by_model(share)

    def samples(self, n: int, *, seed: int) -> Float64Array:
        """(T, S, n, H) joint sample paths of cumulative returns: the path plus whole validation errors.

        A question about the way there, such as whether a stop is met before a target, needs paths and not quantiles of
        each step. What is drawn for a forecast follows from `seed`, its symbol and its bar alone, and is what
        `Forecasts.sample` draws. They are made anew at every call: T S n H numbers are many.

        Raises
        ------
        DataError
            If a forecast has no validation errors.
        """
        symbol = pd.util.hash_array(np.array(list(map(str, self.columns)), dtype=object), categorize=True)
        stamp = self.index.as_unit("ns").asi8.view(np.uint64)
        cell = pd.util.hash_array((stamp[:, None] ^ symbol).ravel())
        draw = np.random.default_rng(seed).integers(2**64, size=n, dtype=np.uint64)
        random = pd.util.hash_array((cell[:, None] ^ draw).ravel()).reshape(-1, n)
        samples = np.full((self._known.size, n, self.horizon), np.nan)
        paths = self.cumulative.reshape(-1, self.horizon)
        for cells, errors in self._models:
            drawn = random[cells] % np.uint64(len(errors))
            samples[cells] = paths[cells, None, :] + errors[drawn]
        return samples.reshape(*self._known.shape, n, self.horizon)

    # --- the model behind it ---

    @_remembered
    def age(self) -> pd.DataFrame:
        """(T, S) bars from the last one that the model knew to the origin; NaN also where that lies before bar 0."""
        age = np.arange(len(self.index))[:, None] - self.train_ends
        return self._frame(np.where(self.train_ends >= 0, age, np.nan))

    @_remembered
    def fold(self) -> pd.DataFrame:
        """(T, S) number of the fold whose model made the forecast."""
        return self._frame(self.folds.astype(np.float64))

    # --- what earlier forecasts said of the same bars ---

    @_remembered
    def vintages(self, step: int, k: int) -> Float64Array:
        """(T, S, k) log return of the next `step` bars, as each of the last `k` forecasts has it.

        Entry j is of the forecast made at bar t - j, of the bars t+1+delay .. t+step+delay: its steps j+1 .. j+step.
        NaN where there is no such forecast.

        Raises
        ------
        UsageError
            If `step` or `k` is below 1, or the oldest forecast does not reach: ``step + k - 1`` exceeds H.
        """
        if step < 1 or k < 1 or step + k - 1 > self.horizon:
            raise UsageError(
                f"{k} forecasts in a row do not all tell the next {step} bars",
                why=f"these forecasts have {self.horizon} steps, and the oldest needs {step + k - 1}",
                fix=f"choose 'step' and 'k' of at least 1, with a sum of at most {self.horizon + 1}",
            )
        told = np.full((*self._known.shape, k), np.nan)
        start = np.concatenate([np.zeros((*self._known.shape, 1)), self.cumulative], axis=2)
        for age in range(min(k, len(self.index))):
            move = start[:, :, age + step] - start[:, :, age]
            told[age:, :, age] = move[: len(move) - age]
        return _read_only(told)

    @_remembered
    def consensus(self, step: int, k: int) -> pd.DataFrame:
        """(T, S) log return of the next `step` bars: mean of those of the last `k` forecasts that there are.

        Parameters and errors are those of `vintages`.
        """
        return pd.DataFrame(_mean_of_known(self.vintages(step, k)), index=self.index, columns=self.columns)

    @_remembered
    def agreement(self, step: int, k: int) -> pd.DataFrame:
        """(T, S) how far the last `k` forecasts agree on the next `step` bars: mean of their signs, -1 .. 1.

        Parameters and errors are those of `vintages`.
        """
        return pd.DataFrame(_mean_of_known(np.sign(self.vintages(step, k))), index=self.index, columns=self.columns)

    # --- helpers ---

    @cached_property
    def _known(self) -> NDArray[np.bool_]:
        """(T, S) whether there is a forecast."""
        return ~np.isnan(self.returns[:, :, 0])

    @cached_property
    def _worked_out(self) -> Callable[..., Any]:
        """Call a method with positional and named arguments, unless its answer is remembered."""
        return lru_cache(_REMEMBERED)(lambda method, args, *named: method(self, *args, **dict(named)))

    @cached_property
    def _models(self) -> list[tuple[IntArray, Float64Array]]:
        """Cells of the flattened market that share residuals, with those, cumulative: (n,) positions and (V, H)."""
        cells = np.flatnonzero(self._known)
        column = cells % len(self.columns)
        codes, keys = pd.MultiIndex.from_arrays([self.folds.ravel()[cells], column]).factorize()
        models = []
        for number, (fold, at) in enumerate(keys):
            key = (int(fold), str(self.columns[at]))
            if key not in self.banks:
                raise missing_residuals(key)
            models.append((cells[codes == number], np.cumsum(self.banks[key], axis=1)))
        return models

    def _position(self, step: int) -> int:
        """Position of a step on the last axis."""
        if not 0 <= step <= self.horizon:
            raise UsageError(
                f"step {step} lies outside the forecast path",
                why=f"these forecasts have {self.horizon} steps",
                fix=f"choose a step from 1 to {self.horizon}, or 0 for the last",
            )
        return (step or self.horizon) - 1

    def _frame(self, values: Float64Array) -> pd.DataFrame:
        """Lay values out, those without a forecast as NaN."""
        return pd.DataFrame(np.where(self._known, values, np.nan), index=self.index, columns=self.columns)

    def _by_model(self, number: Callable[[Float64Array, Float64Array], Float64Array]) -> pd.DataFrame:
        """Lay out a number of cumulative paths (n, H) and the cumulative validation errors (V, H) of their model."""
        values = np.full(self._known.size, np.nan)
        paths = self.cumulative.reshape(-1, self.horizon)
        for cells, errors in self._models:
            values[cells] = number(paths[cells], errors)
        return self._frame(values.reshape(self._known.shape))


def missing_residuals(key: tuple[int, str] | tuple[int, int, str]) -> DataError:
    """Return the error of a forecast whose model, a (fold, symbol) or (fold, seed, symbol), has no residuals."""
    names = "(fold, symbol)" if len(key) == 2 else "(fold, seed, symbol)"
    return DataError(
        f"there are no validation residuals for {names} {key}",
        why="the spread of a path comes from its fold's validation errors",
        fix="train again, so that residuals.parquet is written",
    )


def _check_share(q: float) -> None:
    if not 0 <= q <= 1:
        raise UsageError(f"there is no quantile {q}", fix="choose one from 0 to 1, such as 0.05")


def _mean_of_known(values: Float64Array) -> Float64Array:
    """(T, S) mean of (T, S, k) over those of the last axis that are there; NaN where none is."""
    known = ~np.isnan(values)
    count = known.sum(axis=2)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=2) / np.maximum(count, 1), np.nan)


def _read_only(values: Float64Array) -> Float64Array:
    values.setflags(write=False)
    return values

"""Unit roots: features that are price levels in disguise, and so never look again as they did in training.

Two tests with opposite null hypotheses must agree before a feature is called a level: ADF cannot reject a unit root,
and KPSS rejects stationarity. Each alone is wrong too often on short or persistent series.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from arch.unitroot import ADF, KPSS
from statsmodels.tools.sm_exceptions import SingularMatrixWarning

from qtrade.types import Float32Array, Float64Array

LEVEL = 0.05
MIN_ROWS = 100


@dataclass(frozen=True)
class UnitRoot:
    """The two tests of one feature, at the symbol that looks most like a level.

    Attributes
    ----------
    name
        Feature name.
    symbol
        Position on the symbol axis of the symbol reported; -1 where none could be tested.
    adf_p
        p-value of the augmented Dickey-Fuller test with a constant; null hypothesis: a unit root. NaN if not
        tested, and where the column predicts itself exactly (a counter, a calendar), so that KPSS alone decides.
    kpss_p
        p-value of the KPSS test around a constant; null hypothesis: stationary. NaN if not tested.
    level
        Whether the feature is a level: ``adf_p > 0.05`` (or not computable) and ``kpss_p < 0.05``.
    reason
        What that means, and what to do about a level.
    """

    name: str
    symbol: int
    adf_p: float
    kpss_p: float
    level: bool
    reason: str

    def to_dict(self) -> dict[str, str | int | float | bool | None]:
        """Return plain values that JSON can hold."""
        return {
            "name": self.name,
            "symbol_position": self.symbol if self.symbol >= 0 else None,
            "adf_p": self.adf_p if np.isfinite(self.adf_p) else None,
            "kpss_p": self.kpss_p if np.isfinite(self.kpss_p) else None,
            "level": self.level,
            "reason": self.reason,
        }


def unit_roots(values: Float32Array | Float64Array, names: Sequence[str], rows: range) -> tuple[UnitRoot, ...]:
    """Test every feature for a unit root, symbol by symbol, and report each feature's worst symbol.

    Parameters
    ----------
    values
        (T, S, F) features. Leading rows that hold a NaN are left out (warm-up); the others must be finite.
    names
        F feature names.
    rows
        Bars to test, a range of step 1: those the model was trained on, so that the answer uses nothing later.

    Returns
    -------
    tuple of UnitRoot
        In the order of `names`. Constant and binary columns (flags, calendar) are not tested, nor is anything with
        fewer than 100 rows.

    Notes
    -----
    ADF (Said & Dickey 1984) and KPSS (Kwiatkowski, Phillips, Schmidt & Shin 1992) with a constant and no trend. Lags
    are fixed, which is fast: ``12 (T / 100)^(1/4)`` for ADF (Schwert 1989), and half as many again for KPSS, whose null
    is otherwise rejected too often where a feature is a sum over 24 bars. Stationary features with more memory than
    the lags span still fail KPSS too often, so that its p alone proves nothing.

    Raises
    ------
    ValueError
        If shapes or rows do not fit, or a value in use is not finite.
    """
    if values.ndim != 3 or values.shape[2] != len(names):
        raise ValueError(f"values {values.shape} must be (T, S, F) with F = {len(names)} names")
    if len(rows) == 0 or rows.step != 1 or rows.start < 0 or rows.stop > len(values):
        raise ValueError(f"rows must be a non-empty range of step 1 within {len(values)} bars, got {rows}")
    used = values[rows.start : rows.stop].astype(np.float64)
    missing = ~np.isfinite(used).all(axis=(1, 2))
    used = used[len(used) if missing.all() else int(np.argmin(missing)) :]
    if not np.isfinite(used).all():
        raise ValueError("features must be finite after the warm-up")
    if len(used) < MIN_ROWS:
        reason = f"not tested: {len(used)} rows are fewer than {MIN_ROWS}"
        return tuple(_untested(name, reason) for name in names)
    return tuple(_feature(name, used[:, :, column]) for column, name in enumerate(names))


def _feature(name: str, values: Float64Array) -> UnitRoot:
    """Test the (rows, S) values of one feature."""
    lags = int(np.ceil(12 * (len(values) / 100) ** 0.25))
    found = []
    for symbol, series in enumerate(values.T):
        if _binary(series):
            continue
        # Units do not matter to either test; of order one they cannot harm the numerics.
        scaled = (series - series.mean()) / series.std()
        adf_p = _adf(scaled, lags)
        kpss_p = float(KPSS(scaled, lags=3 * lags // 2, trend="c").pvalue)
        found.append((adf_p > LEVEL and kpss_p < LEVEL, adf_p, -kpss_p, symbol))
    if not found:
        return _untested(name, "not tested: constant or binary")
    level, adf_p, negative, symbol = max(found)
    return UnitRoot(
        name=name,
        symbol=symbol,
        adf_p=adf_p if adf_p <= 1 else float("nan"),
        kpss_p=-negative,
        level=level,
        reason=(
            f"'{name}' wanders like a price level: make it relative (a return, a ratio, a distance), "
            f"or name it in features.exclude"
            if level
            else "not a level"
        ),
    )


def _adf(series: Float64Array, lags: int) -> float:
    """Return the p-value, or infinity for a series that its own lags predict exactly: no test can reject there."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", SingularMatrixWarning)
        try:
            return float(ADF(series, lags=lags, trend="c").pvalue)
        except SingularMatrixWarning:
            return float("inf")


def _binary(series: Float64Array) -> bool:
    """Whether a series takes at most two values, apart from rounding in float32."""
    low, high = series.min(), series.max()
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        return True
    return bool(((series == low) | (series == high)).all())


def _untested(name: str, reason: str) -> UnitRoot:
    return UnitRoot(name=name, symbol=-1, adf_p=float("nan"), kpss_p=float("nan"), level=False, reason=reason)

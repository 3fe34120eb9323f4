"""Follow another strategy, but stand aside in volatility regimes in which validation forecasts were worse than none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from qtrade.errors import DataError
from qtrade.evaluation.regimes import volatility_terciles
from qtrade.forecasts import Forecasts
from qtrade.strategy_file import Strategy, nested
from qtrade.types import Bars, IntArray


@dataclass(frozen=True)
class RegimeGate:
    """Closes for a fold, a symbol and a regime if there the squared validation errors exceed the squared returns."""

    base: Strategy = nested("forecast_sign")
    """The strategy that is followed or not."""
    step: int = 0
    """Bars ahead at which skill is measured; 0 takes the end of the path."""
    window: int = 20
    """Bars over which volatility is measured."""
    history: int = 252
    """Earlier volatilities that a bar needs before it has a regime: the third of them that its own falls into."""
    minimum: int = 20
    """Validation origins below which a regime is not judged, and trading goes on, as it does without a regime."""

    def __post_init__(self) -> None:
        if self.window < 2 or self.history < 1:
            raise ValueError("window must be at least 2 and history at least 1")

    def weights(self, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
        """Return the weights of `base`, or 0 where the gate is closed."""
        wanted, fold = self.base.weights(bars, forecasts), forecasts.on(bars).fold().to_numpy()
        returns = np.diff(np.log(bars.close.to_numpy()), axis=0, prepend=np.nan)
        codes = volatility_terciles(returns, window=self.window, history=self.history).codes
        closed = np.zeros(fold.shape, dtype=np.bool_)
        for (number, symbol), harmful in self._harmful(bars, forecasts, codes).items():
            column = bars.symbols.index(symbol)
            closed[:, column] |= (fold[:, column] == number) & np.isin(codes[:, column], harmful)
        return wanted.mask(closed, 0.0)

    def _harmful(self, bars: Bars, forecasts: Forecasts, codes: IntArray) -> dict[tuple[int, str], IntArray]:
        """Codes of the regimes to stand aside in, for each fold that forecasts here and each symbol."""
        if len(forecasts) and not forecasts.validated:
            raise DataError(
                "the forecasts do not tell when their validation errors were made",
                why="skill in a regime is measured on validation forecasts",
                fix="train again, so that residuals.parquet has its origins",
            )
        paths, close = forecasts.on(bars), np.log(bars.close.to_numpy())
        paths.expected(self.step)  # refuses a step beyond the path
        step = self.step or paths.horizon
        origins = {(fold, symbol): stamps for (fold, _, symbol), stamps in forecasts.validated.items()}
        found = {}
        for (fold, symbol), errors in paths.banks.items():
            known_until = paths.train_ends[paths.folds == fold]
            if symbol not in bars.symbols or (fold, symbol) not in origins or not len(known_until):
                continue
            column = bars.symbols.index(symbol)
            start = bars.index.get_indexer(origins[fold, symbol])
            # A return counts if it was known when the fold's model was made, at the end of its training.
            known = (start >= 0) & (start + paths.delay + step <= known_until[0])
            start = start[known]
            first = start + paths.delay
            moved, missed = close[first + step, column] - close[first, column], errors[known, :step].sum(axis=1)
            regime = codes[start, column]
            judged = regime >= 0
            gain = np.bincount(regime[judged], weights=(moved**2 - missed**2)[judged], minlength=3)
            count = np.bincount(regime[judged], minlength=3)
            found[fold, symbol] = np.flatnonzero((gain < 0) & (count >= self.minimum))
        return found

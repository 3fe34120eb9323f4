# ---
# A first session with qtrade, as a notebook: open it in VS Code or, with jupytext, in Jupyter.
# It works in the folder it is started in, on bars that come with qtrade, and needs no network.
# ---

# %% [markdown]
# # Can this forecast be traded?
#
# Every stage of the command line is a function of `qtrade.api` with the same name and the same options. Each returns a
# value that a notebook shows as a table; `print` and `repr` work as well.

# %%
from pathlib import Path

import pandas as pd

from qtrade import api as qt

# %% [markdown]
# ## Bars
#
# Two decades of the S&P 500 come with qtrade. `source="yahoo"` would fetch others.

# %%
qt.fetch("^GSPC")
bars = qt.load_bars("^GSPC", start="2013-01-01")
bars

# %% [markdown]
# ## A small model, walk-forward
#
# A minute at most: a network that can hardly learn, trained anew every 400 bars. `qt.train("^GSPC")` takes the
# default size. A finished run is kept: the same call again returns it.

# %%
SMALL = {
    "window": {"seq_len": 24, "label_len": 12, "horizon": 6},
    "split": {"train_size": 400, "valid_size": 100, "step": 400},
    "train": {"epochs": 3},
    "baselines": [],
}
run = qt.train("^GSPC", start="2013-01-01", name="notebook", preset="tiny", settings=SMALL)
run

# %% [markdown]
# ## What it expects next
#
# The verdict of the run stands above every forecast. `latest=True` would start from the newest bars in the cache, and
# refuses here: the sample ends in 2018.

# %%
qt.forecast(run)

# %% [markdown]
# The forecasts that are judged are those of the test periods, each by a model that had not seen them.

# %%
forecasts, actual = run.forecasts("informer")
forecasts

# %% [markdown]
# ## A strategy
#
# A strategy is a file with one frozen dataclass and one method. This one holds the market while the forecast is up.

# %%
Path("strategies").mkdir(exist_ok=True)
Path("strategies/up_only.py").write_text(
    '''"""Hold the market while the forecast is up."""

from dataclasses import dataclass

import pandas as pd

from qtrade.forecasts import Forecasts
from qtrade.types import Bars


@dataclass(frozen=True)
class UpOnly:
    step: int = 6

    def weights(self, bars: Bars, forecasts: Forecasts) -> pd.DataFrame:
        expected = forecasts.on(bars).expected(self.step)
        return (expected > 0) / expected.shape[1]
''',
    encoding="utf-8",
)
tested = qt.backtest(run, ["up_only", "forecast_sign(step=6)"])
tested

# %% [markdown]
# No Sharpe ratio comes without its interval, the buy-and-hold of the same bars, and the trials behind it.
#
# ## The verdict
#
# The worst of nine gates is the headline. `qt.report(run)` writes the whole story as one HTML page.

# %%
evaluation = qt.evaluate(run)
evaluation

# %% [markdown]
# ## Many variants, and what is left of the best

# %%
swept = qt.sweep(run, "forecast_sign", {"step": [1, 2, 3, 4, 5, 6], "threshold": [0.0, 0.001, 0.002]})
swept

# %% [markdown]
# ## Why it loses
#
# First, who took the money: net is gross less cost, and buy-and-hold is what doing nothing would have made.

# %%
told = tested.tested[1].told
numbers, hold = told["metrics"], told["buy_and_hold"]
print(f"gross {numbers['gross_annual_return']:+.1%} a year, cost {numbers['cost_annual']:.1%}")
print(f"net   {numbers['net_annual_return']:+.1%} a year, buy and hold {hold['net_annual_return']:+.1%}")

# %% [markdown]
# Here the market took it, not the costs: the strategy was on the wrong side of it. Any one of its trades can be
# followed from the forecast to the end.

# %%
explained = qt.explain(run, "forecast_sign", trade=10)
explained

# %% [markdown]
# The years say whether one stretch made the whole result, and an interval of a Sharpe ratio how little one year tells.

# %%
years = pd.DataFrame(told["years"]).set_index("year")
years[["bars", "gross_annual_return", "cost_annual", "net_annual_return", "sharpe_low", "sharpe_high", "fills"]]

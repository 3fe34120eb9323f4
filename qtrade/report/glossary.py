"""What the words of a report mean: one line for each column, row, tile and figure, with its unit.

A page asks for each label that it prints (`Glossary.mark`), and gets a button that shows the line on hover, on focus
and on tap. At the end it lists what it asked for, so that a page without scripts, or on paper, explains itself too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from markupsafe import Markup, escape

TERMS: Mapping[str, str] = {
    # What was done.
    "Symbols": "What was traded or forecast, as its source spells it.",
    "Bars": "Spans of time with an open, high, low, close and volume; the unit of all lengths in this report.",
    "Tested on": "First and last bar at which a forecast was made whose outcome counts in this report.",
    "Model": "What made the forecasts, how far ahead, and how large it is.",
    "Strategies": "Rules that turn forecasts into positions, with their parameters.",
    "Costs": "What every fill and every held position was charged, in basis points (bp, hundredths of a percent).",
    "Trials": "Strategies and variants of them tried on this market so far, by the ledger of trials.",
    "Data hash": "SHA-256 of the bars: two runs with the same hash saw the same prices.",
    "Gate": "One question about the run, with a grade of its own; the worst of those that count is the verdict.",
    "What was found": "The finding that decided the gate's grade, first.",
    # Skill.
    "Bars ahead": "How many bars after the forecast its outcome is known; each row or column is one such horizon.",
    "R² vs no change": "Share of squared error saved against forecasting no change, in %; below 0 is worse than that.",
    "R² vs drift": "Share of squared error saved against the mean return so far, in %; below 0 is worse than that.",
    "R² vs no change, scaled": "The same with every return divided by the volatility known at its origin, in %.",
    "R² vs drift, scaled": "The same with every return divided by the volatility known at its origin, in %.",
    "R² vs best naive": "Share of squared error saved, in %, against the better of no change and drift.",
    "R²": "Share of squared error saved against forecasting no change, in %; below 0 is worse than that.",
    "R² out of sample": "Share of squared error saved on bars that the model had not seen; bars are 95% intervals.",
    "Test origins": "Bars at which a forecast was made and its outcome is known: a count, and what it is worth.",
    "MAE": "Mean absolute error of the forecast log return, in %; MASE divides it by that of no change in training.",
    "RMSE": "Root mean squared error of the forecast log return, in %; RMSSE divides it by that of no change in "
    "training.",
    "IC": "Information coefficient: correlation of forecasts with outcomes, from \N{MINUS SIGN}1 to 1; no unit.",
    "Correlation (IC)": "Correlation of forecasts with outcomes, from \N{MINUS SIGN}1 to 1; in liquid markets a "
    "few hundredths are much.",
    "Rank IC": "Correlation of the ranks of forecasts and outcomes, from \N{MINUS SIGN}1 to 1, which no single "
    "outlier decides.",
    "IC, scaled": "Correlation after dividing by the volatility known at the origin, so that calm times count as much.",
    "Smallest visible IC": "The weakest correlation that so much data would reveal in 8 of 10 cases; weaker ones "
    "go unseen.",
    "Right direction": "Share of forecasts with the right sign, in %, beside what luck and always saying up would "
    "reach.",
    "Better than luck by": "Right directions beyond those of calls that say up as often but know nothing, in "
    "points of 1%.",
    "CRPS skill": "Error of the whole distribution saved against no change of the same spread, in %; above 0 is "
    "better.",
    "Pinball loss in %": "Error of single quantiles of the log return, in %; lower is better.",
    "In 80% interval": "Share of outcomes inside the interval that promises to hold 80% of them, in %.",
    # Optimism.
    "Difference": "What one way of testing promised more than another, on the same bars.",
    "leakage": "R² that comes from having seen neighbours of the test bars in training, in points of 1%.",
    "shift": "R² lost because the future is unlike the past, in points of 1%: purged cross-validation minus the "
    "past only.",
    "staleness": "R² lost by never training again, in points of 1%.",
    "overfit": "R² on the very bars that the model was fitted on, beyond that of purged cross-validation, in "
    "points of 1%.",
    "price of not knowing the regime": "R² that a model gains by knowing the bars around the test block, in points "
    "of 1%.",
    "value of updating": "R² gained by training anew as time goes on, in points of 1%.",
    "R² of each way of testing": "Share of squared error saved against no change, in %; lines are 95% intervals.",
    # Transfer, staleness, breaks.
    "Trained until": "Each row is one model, named by the first bar after its training.",
    "Origins": "Bars at which a forecast was made and its outcome is known: a count.",
    "Below: has seen the period": "Average R² of models on periods that they were trained on, in %: memory, not "
    "foresight.",
    "Outlined: walking forward": "Average R² of each model on the period right after its training, in %: what a "
    "trader had.",
    "Above: stale": "Average R² of models on periods later than their own, in %: what is left when nobody retrains.",
    "Optimism: has seen it, minus walking forward": "How much better memory looks than foresight, in points of R².",
    "Decay: walking forward, minus stale": "How much a model loses by growing old, in points of R².",
    "Bars between trainings": "How often the model would be trained anew, in bars.",
    "Loss to a fresh model": "R² lost against a fresh model on the same bars, in points of 1%, by how much older "
    "the model is.",
    "Breaks over time (CUSUM)": "Running sum of the link between forecasts and outcomes: outside the lines, the "
    "link changed; no unit.",
    # Regimes.
    "Regime": "A kind of market, told at each bar from what was known by then.",
    "Fold": "One training and the test period after it, numbered in time.",
    "Share of training": "Share of the bars before the test in this regime, in %.",
    "Share of test": "Share of the test bars in this regime, in %.",
    "Independent forecasts": "How many forecasts that do not overlap would say as much: a count.",
    "share of bars": "Share of bars in the regime, in %: in training, then in the test.",
    # Features.
    "Feature": "An input of the model.",
    "Periods flagged": "In how many test periods the feature looked unlike any stretch of training.",
    "In the last one": "What was found in the last test period, with the p-value of its change.",
    "Largest gap (KS), rank": "Kolmogorov-Smirnov distance to training: the share of training's own stretches that "
    "differ less.",
    "Way to move (Wasserstein), rank": "Wasserstein distance to training: the share of training's own stretches "
    "that differ less.",
    "PSI, rank": "Population stability index: the share of training's own stretches that differ less.",
    "Told apart (AUC), rank": "How well a classifier tells it from training: the share of training's own stretches "
    "told apart less.",
    "Memory, bar to bar": "Correlation of the feature with itself one bar later; near 1 it hardly moves; no unit.",
    "Price level?": "Whether the feature wanders like a price, and so need never look again as it did in training.",
    # Intervals.
    "Held": "Share of outcomes inside the interval, in %, with its 95% interval.",
    "Median width": "Width of the typical interval, in % of log return.",
    "Infinite": "Share of intervals without bounds, in %: too few past errors were known.",
    "Worst stretch": "Lowest share held over any stretch of origins, in %, and when that was.",
    "Share held": "Share of outcomes inside the interval over a moving stretch of origins, in %.",
    "split": "Interval from the first validation errors, for ever.",
    "refit": "Interval from the validation errors of the model in use.",
    "ACI": "Adaptive conformal inference: wider after a miss, narrower after a hit.",
    "NexCP": "Nonexchangeable conformal prediction: recent errors count more.",
    # Return.
    "Gross return per year": "Mean return per bar before all costs, times bars per year, in %; not compounded.",
    "Costs per year": "Fees, slippage, borrowing and funding, in % of the account per year.",
    "Net return per year": "Mean return per bar after all costs, times bars per year, in %; not compounded.",
    "Net return, whole period": "Growth of the account from the first bar to the last, after all costs, in %.",
    "Net growth per year, compounded": "The constant yearly growth that leads to the final account (CAGR), in %.",
    "Sharpe ratio, net": "Mean net return over its standard deviation, per year (no unit); brackets are its 95% "
    "interval.",
    "Sharpe ratio by cost": "What is left of the Sharpe ratio per year if each fill costs so many basis points.",
    "Sharpe ratio by delay": "What is left of the Sharpe ratio per year if each order is filled so many bars later.",
    "Sortino ratio": "As the Sharpe ratio, but only losses count as risk; per year, no unit.",
    "Calmar ratio": "Compounded growth per year over the deepest drawdown; no unit.",
    "Gains of bars over losses": "Sum of all gaining bars over the sum of all losing ones; no unit, 1 is break-even.",
    "Bars that gained, of those that moved": "Share of bars with a net gain among those with any gain or loss, in %.",
    "Years": "Length of the test period in years.",
    # Risk.
    "Volatility per year": "Standard deviation of net returns per bar, scaled to a year, in %.",
    "Deepest drawdown": "Largest fall of the account below an earlier peak, in % of that peak.",
    "Its length, bars": "Bars from the peak of the deepest drawdown until that peak was reached again.",
    "Longest drawdown, bars": "Most bars that the account ever spent below an earlier peak.",
    "Loss that 5% of the bars reach (VaR 5%)": "Value at risk: one bar in twenty loses at least so much, in % of "
    "the account.",
    "Mean loss of those bars (ES 5%)": "Expected shortfall: mean loss of the worst twentieth of the bars, in %.",
    "Worst bar": "Lowest net return of a single bar, in %.",
    "Skew of the bars": "Lopsidedness of net returns: below 0, large losses are commoner than large gains; no unit.",
    "Kurtosis of the bars (normal: 3)": "Weight of extreme bars: above 3, more than a normal distribution has; no "
    "unit.",
    # Trading.
    "Fills": "Orders carried out: a count.",
    "Turnover per year": "Money traded per year, as a multiple of the account.",
    "Average share of equity invested": "Mean share of the account in the market, long plus short, in %.",
    "Exposure": "Mean share of the account in the market, long plus short, in %.",
    "Bars with a position": "Share of bars at whose close anything was held, in %.",
    "Average holding time, bars": "Mean number of bars that a symbol was held on one side.",
    "Fees and slippage per year": "What fills cost, in % of the account per year.",
    "Borrowing and funding per year": "What holding cost, in % of the account per year; below 0 it was paid for.",
    "Cost per fill, money": "Mean fees and slippage of a fill, in the currency of the account.",
    "Cost per fill, bp": "Fees and slippage over the money traded, in basis points.",
    "Cost per fill that would eat the profit, bp": "Cost per fill at which nothing would be left of the gross "
    "gain, in bp.",
    # Against buy and hold.
    "Beta": "Move of the strategy per move of buy and hold; no unit.",
    "Alpha per year": "Return per year that the moves of buy and hold do not explain, in %.",
    "Correlation": "Correlation of the strategy's net returns with those of buy and hold, from \N{MINUS SIGN}1 to 1.",
    "Share taken of its rises": "Mean return in bars in which buy and hold rose, as a share of its own, in %.",
    "Share taken of its falls": "Mean return in bars in which buy and hold fell, as a share of its own, in %.",
    "Volatility of the difference, per year": "Standard deviation of the returns beyond buy and hold's, per year, "
    "in %.",
    "Information ratio": "Mean return beyond buy and hold's over its standard deviation, per year; no unit.",
    "Sharpe ratio over buy and hold's": "Sharpe ratio of the strategy minus that of buy and hold; no unit.",
    # Luck.
    "Its interval by the bootstrap": "95% interval of the Sharpe ratio from redrawn stretches of the net returns.",
    "Tried on this market so far": "Strategies and variants tried on these symbols and years, by the ledger: a count.",
    "Chance that it is above zero (PSR)": "Probabilistic Sharpe ratio: chance that the true one is above zero.",
    "Chance that it beats the luckiest useless trial (DSR)": "Deflated Sharpe ratio: the same against the best of "
    "so many useless trials.",
    "DSR": "Deflated Sharpe ratio: chance in % that the true one beats the luckiest of so many useless trials.",
    "Record that would show a gain at 95% (MinTRL)": "Minimum track record: years of such returns that would be "
    "evidence.",
    "Same positions at other times do as well": "Share of accounts with the same positions at other times that "
    "earn as much.",
    "Cost that eats the gross profit": "Cost per fill at which the gain is gone, as a multiple of the assumed cost.",
    "Sharpe ratio kept one bar later": "Sharpe ratio with fills one bar later, as a multiple of that of the account.",
    "Chance of overfitting (PBO)": "Chance that the best variant in one half of time is below the median in the other.",
    "Years that would show a gain": "Years of such returns that would show a gain at 95%.",
    "Strategy": "A rule that turns forecasts into positions, with its parameters.",
    "Found": "The value of each row; the unit stands beside it or in the row's name.",
    # Stretches.
    "Year": "Calendar year of the account; the first and the last may be cut short.",
    "Whole year": "Net return of the account in the year, its months compounded, in %.",
    "Gross per year": "Mean return per bar before all costs, times bars per year, in %; not compounded.",
    "Net per year": "Mean return per bar after all costs, times bars per year, in %; not compounded.",
    "Volatility": "Standard deviation of net returns per bar, scaled to a year, in %.",
    "Invested": "Mean share of the account in the market, long plus short, in %.",
    "Depth": "Fall from the peak to the lowest point, in % of the peak.",
    "From": "Day of the peak before the fall.",
    "Lowest": "Day of the lowest point.",
    "Recovered": "Day on which the peak was reached again.",
    "Bars down": "Bars from the peak to the lowest point.",
    "Bars up": "Bars from the lowest point until the peak was reached again.",
    "Bars in all": "Bars from the peak until it was reached again.",
    # Figures of accounts.
    "Growth of 1": "What one unit of money became, net of costs, and below it the fall from the last peak in %.",
    "Net return of each month": "Compounded net return of the account in each calendar month, in %.",
    # Positions.
    "Position": "From the fill that opened it to the fill that closed it, on one side.",
    "Positions": "Holdings of one symbol on one side, from opening to closing: a count.",
    "Positions that gained": "Share of closed positions with a gain after fees and slippage, in %.",
    "Typical gain": "Median net gain of a closed position, in % of the most money it held.",
    "Typical holding time": "Median number of bars from opening to closing.",
    "Net gain": "Gain after fees and slippage, without costs of holding, in % of the most money the position held.",
    "Money": "The same gain in the currency of the account.",
    "Opened": "When the fill that opened the position was made.",
    "Closed": "When the fill that closed the position was made.",
    "Held for": "Bars from the fill that opened the position to the fill that closed it.",
    "Closed by": "What ended the position: a new decision, a stop, a target, or nothing yet.",
    # Folds.
    "Trained from": "First bar that the fold's model learned from.",
    "until": "Last bar of the stretch before this column.",
    "Tested from": "First bar of the fold's test period.",
    "Epochs": "Passes over the training data: of the best network, and in all.",
    "Best validation loss": "Lowest mean squared error on the validation part, in units of the scaled target.",
    "Seconds": "Time that the training took.",
    "Constant features": "Inputs that never changed in this fold's training and so were zero.",
}
"""Label, as a page prints it, and the one line that explains it."""

ALIASES: Mapping[str, str] = {
    "Bars ahead, answer": "Bars ahead",
    "Bars ahead, method": "Bars ahead",
    "Sharpe ratio": "Sharpe ratio, net",
    "Turnover per year, times equity": "Turnover per year",
    "Correlation of forecast and outcome (IC)": "Correlation (IC)",
    "Deepest drawdowns": "Deepest drawdown",
    "R² in % against no change": "R²",
    "Share of bars": "share of bars",
}
"""Other spellings of the same."""


@dataclass
class Glossary:
    """The words of one page: each is explained where it stands, and listed once at the end."""

    used: set[str] = field(default_factory=set)

    def mark(self, label: str) -> Markup:
        """Return a label as markup, with its line attached if there is one."""
        term = term_of(label)
        if term is None:
            return escape(label)
        self.used.add(term)
        return Markup(
            '<button type="button" class="tip" popovertarget="{0}" aria-describedby="{0}">{1}</button>'
        ).format(anchor(term), label)

    def listed(self) -> Iterator[tuple[str, str, str]]:
        """Yield anchor, term and line of each word used so far, in alphabetical order."""
        for term in sorted(self.used, key=str.casefold):
            yield anchor(term), term, TERMS[term]


def term_of(label: str) -> str | None:
    """Find the term that a label prints; what follows a comma may say of what, or how far ahead, it is told.

    Returns
    -------
    str or None
        A key of `TERMS`; None for a name from outside, a date or a number.
    """
    if re.fullmatch(r"[\d,]+ bars? ahead", label):
        return "Bars ahead"
    while True:
        known = ALIASES.get(label, label)
        if known in TERMS:
            return known
        label, comma, _ = label.rpartition(", ")
        if not comma:
            return None


def anchor(term: str) -> str:
    """Return the id of a term within a page."""
    return "tip-" + re.sub(r"[^a-z0-9]+", "-", term.replace("²", "2").lower()).strip("-")

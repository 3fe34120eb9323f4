"""Measure a run part by part: skill of every model, regimes, features, intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from qtrade.config import RunConfig
from qtrade.evaluation.by_regime import HorizonForecasts, by_regime, fold_heatmap
from qtrade.evaluation.coverage import Coverage, coverage_interval
from qtrade.evaluation.intervals import online_intervals
from qtrade.evaluation.regimes import drawdown, grid, markov, regime_mix, trend, volatility_terciles
from qtrade.evaluation.result import CoverageByRegime, RegimeStudy, ShiftStudy
from qtrade.evaluation.shift import combine, feature_shift
from qtrade.evaluation.skill import HorizonSkill, naive_errors, skill
from qtrade.evaluation.unit_roots import unit_roots
from qtrade.features.targets import log_returns, volatility
from qtrade.forecasts import Forecasts
from qtrade.pipeline.market import Market
from qtrade.pipeline.replay import Replayed
from qtrade.pipeline.transfer import Question
from qtrade.runs import Run, rows_of
from qtrade.types import Bars, Float64Array, Fold, IntArray

# Symbols whose features are tested for unit roots: what is a level is one in all of them.
_TESTED_SYMBOLS = 3


def model_skills(run: Run, config: RunConfig, bars: Bars, first: Fold) -> dict[str, tuple[HorizonSkill, ...]]:
    """Skill per horizon of every model of a run; that of the random walk is nothing by definition."""
    returns = log_returns(bars)
    drift, scale = expanding_drift(returns), volatility(returns)
    horizons = config.evaluation.upto(config.window.horizon)
    naive = naive_errors(returns[first.fit.start + 1 : first.fit[-1] + first.horizon + first.delay + 1], horizons)
    found: dict[str, tuple[HorizonSkill, ...]] = {}
    for model in config.models:
        forecasts, actual = seed_mean_with_actual(*run.forecasts(model))
        rows = rows_of(forecasts, bars)
        found[model] = skill(
            forecasts,
            actual,
            drift[rows.origin, rows.symbol],
            horizons,
            scale=scale[rows.origin, rows.symbol],
            naive_scale=naive,
        )
    return found


def seed_mean_with_actual(forecasts: Forecasts, actual: Float64Array) -> tuple[Forecasts, Float64Array]:
    """Average forecasts over seeds, and bring what happened into the order of the result."""
    mean = forecasts.seed_mean()
    keys = pd.MultiIndex.from_arrays([forecasts.origin, forecasts.symbol])
    first = ~keys.duplicated()
    wanted = pd.MultiIndex.from_arrays([mean.origin, mean.symbol])
    return mean, actual[first][keys[first].get_indexer(wanted)]


def expanding_drift(returns: Float64Array) -> Float64Array:
    """(T, S) mean log return per bar over all bars up to and including each one."""
    known = np.nan_to_num(returns[1:], nan=0.0)
    mean = np.cumsum(known, axis=0) / np.arange(1, len(returns))[:, None]
    return np.vstack([np.zeros((1, returns.shape[1])), mean])


def regime_studies(
    market: Market,
    config: RunConfig,
    folds: Sequence[Fold],
    forecasts: Forecasts,
    actual: Float64Array,
    chosen: Replayed | None,
    scale: Float64Array,
) -> tuple[RegimeStudy, ...]:
    """Measure forecasts, averaged over seeds, and the main strategy in each regime; the default grid comes first."""
    close = market.bars.close.to_numpy(dtype=np.float64)
    horizon = _regime_horizon(config)
    one = _horizon_forecasts(market, forecasts, actual, horizon, scale)
    if one is None:
        return ()
    measured, fold = one
    train = range(folds[0].fit.start, folds[0].train_end + 1)
    tested = range(folds[0].test.start, folds[-1].test.stop)
    wild = volatility_terciles(market.returns)
    # One chain for the whole market: a state of each symbol alone takes a fit each, and says the same.
    common = markov(np.nan_to_num(market.returns).mean(axis=1, keepdims=True), train)
    common = replace(common, codes=np.repeat(common.codes, close.shape[1], axis=1))
    net, exposure = _on_all_bars(chosen, market.bars)
    studies = []
    for regimes in (grid(wild, trend(close)), drawdown(close), common):
        if (regimes.codes[tested.start : tested.stop] < 0).all():
            continue
        novelty = [
            (regime_mix(regimes, range(each.fit.start, each.train_end + 1), each.test).novelty, len(each.test))
            for each in folds
        ]
        known = [(value, size) for value, size in novelty if np.isfinite(value)]
        studies.append(
            RegimeStudy(
                name=regimes.name,
                horizon=horizon,
                skill=by_regime(
                    regimes,
                    measured,
                    train,
                    net=net,
                    exposure=exposure,
                    periods_per_year=market.bars.periods_per_year,
                ),
                mix=regime_mix(regimes, train, tested),
                novelty=sum(value * size for value, size in known) / sum(size for _, size in known) if known else None,
                heatmap=fold_heatmap(regimes, measured, fold),
                regimes=regimes,
            )
        )
    return tuple(studies)


def _regime_horizon(config: RunConfig) -> int:
    wanted = config.evaluation.regime_horizon
    return min(config.evaluation.upto(config.window.horizon), key=lambda horizon: abs(horizon - wanted))


def _horizon_forecasts(
    market: Market, forecasts: Forecasts, actual: Float64Array, horizon: int, scale: Float64Array
) -> tuple[HorizonForecasts, IntArray] | None:
    """Return the forecasts of one horizon whose outcome is known, and the fold of each."""
    outcome = actual[:, :horizon].sum(axis=1)
    known = np.isfinite(outcome)
    if pd.Index(forecasts.origin[known]).nunique() < 2:
        return None
    rows = rows_of(forecasts, market.bars)
    low, high = (forecasts.quantile(q)[:, horizon - 1] for q in (0.1, 0.9))
    inside = (low <= outcome) & (outcome <= high)
    measured = HorizonForecasts(
        horizon=horizon,
        time=rows.origin[known],
        symbol=rows.symbol[known],
        actual=outcome[known],
        predicted=forecasts.cumulative()[known, horizon - 1],
        scale=scale[rows.origin, rows.symbol][known],
        inside=inside[known],
    )
    return measured, forecasts.fold[known]


def _on_all_bars(chosen: Replayed | None, bars: Bars) -> tuple[Float64Array | None, Float64Array | None]:
    """Lay net returns and exposure of a backtest on the run's bars; NaN where it did not trade."""
    if chosen is None or chosen.result is None:
        return None, None
    net = chosen.result.net.reindex(bars.index).to_numpy(dtype=np.float64)
    exposure = chosen.result.held.abs().sum(axis=1).reindex(bars.index).to_numpy(dtype=np.float64)
    return net, exposure


def shift_study(market: Market, config: RunConfig, folds: Sequence[Fold], question: Question) -> ShiftStudy:
    """Compare the features of each test period with its training, and look for levels among them."""
    values, names = market.features.values[:, question.symbols], market.features.names
    per_fold = tuple(
        feature_shift(values, names, range(fold.fit.start, fold.valid.stop), fold.test, gap=fold.horizon + fold.delay)
        for fold in folds
    )
    return ShiftStudy(
        summary=combine(per_fold),
        per_fold=per_fold,
        unit_roots=unit_roots(values[:, :_TESTED_SYMBOLS], names, range(folds[0].fit.start, folds[0].train_end + 1)),
    )


def interval_studies(
    market: Market,
    config: RunConfig,
    mean: Forecasts,
    actual: Float64Array,
    question: Question,
    regimes: Sequence[RegimeStudy],
) -> tuple[dict[int, dict[str, Coverage]], tuple[CoverageByRegime, ...]]:
    """Online intervals at every horizon, and their coverage in each regime at the regimes' horizon."""
    rows = rows_of(mean, market.bars)
    place = {int(symbol): column for column, symbol in enumerate(question.symbols)}
    first, count = int(question.origin[0]), len(question.origin)
    found: dict[int, dict[str, Coverage]] = {}
    keep = np.isin(rows.symbol, question.symbols)
    column = np.array([place.get(int(symbol), 0) for symbol in rows.symbol])
    folds = sorted({fold for fold, _, _ in mean.residuals})
    for horizon in question.horizons:
        error = np.full((count, len(place)), np.nan)
        gap = actual[:, :horizon].sum(axis=1) - mean.cumulative()[:, horizon - 1]
        error[rows.origin[keep] - first, column[keep]] = gap[keep]
        banks = {}
        for fold in folds:
            parts = [mean.residuals[fold, -1, market.bars.symbols[int(symbol)]] for symbol in question.symbols]
            longest = max(map(len, parts))
            bank = np.full((longest, len(parts)), np.nan)
            for number, part in enumerate(parts):
                bank[longest - len(part) :, number] = part[:, :horizon].sum(axis=1)
            banks[fold] = bank
        found[horizon] = online_intervals(
            error, question.fold, banks, delay=horizon + config.split.delay, level=config.evaluation.level
        )
    if not regimes:
        return found, ()
    study_, told = regimes[0], []
    codes = study_.regimes.codes[np.ix_(question.origin, question.symbols)]
    for method, covered in found[study_.horizon].items():
        for code, one in enumerate(study_.skill):
            hits = np.where(codes == code, covered.hits, np.nan)
            if np.isfinite(hits).any():
                share, low, high = coverage_interval(hits, study_.horizon + config.split.delay)
                told.append(CoverageByRegime(method, one.label, share, low, high, one.enough))
    return found, tuple(told)

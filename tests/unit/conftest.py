"""What several unit tests share: a small evaluation, every part of it measured on synthetic arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

if TYPE_CHECKING:
    from qtrade.evaluation.result import Evaluation
    from qtrade.evaluation.skill import HorizonSkill
    from qtrade.forecasts import Forecasts
    from qtrade.runs import Run
    from qtrade.types import Bars, Float64Array


@pytest.fixture(scope="session")
def forecast_market() -> Callable[..., tuple[Bars, Forecasts, Float64Array]]:
    """Make random walks, random forecasts of them in folds of equal length, and what happened."""
    from qtrade.forecasts import Forecasts
    from qtrade.types import Bars

    def make(
        symbols: tuple[str, ...], delay: int = 0, *, bars: int, before: int, folds: int, horizon: int
    ) -> tuple[Bars, Forecasts, Float64Array]:
        generator = np.random.default_rng(7)
        days = pd.date_range("2012-01-02", periods=before + bars, tz="UTC")
        close = pd.DataFrame(
            100 * np.exp(np.cumsum(0.01 * generator.standard_normal((len(days), len(symbols))), axis=0)),
            index=days,
            columns=list(symbols),
        )
        market = Bars(close, close, close, close, close * 0, interval="1d", calendar="XNYS", periods_per_year=252)
        returns = np.diff(np.log(close.to_numpy()), axis=0, append=np.nan)
        padded = np.concatenate([returns, np.full((horizon + delay, len(symbols)), np.nan)])
        ahead = np.lib.stride_tricks.sliding_window_view(padded, horizon, axis=0)[before + delay :][:bars]
        actual = np.concatenate([ahead[:, position] for position in range(len(symbols))])
        rows = bars * len(symbols)
        fold = np.repeat(np.arange(folds, dtype=np.int64), bars // folds)
        forecasts = Forecasts(
            path=0.003 * generator.standard_normal((rows, horizon)),
            symbol=np.repeat(np.array(symbols, dtype=object), bars),
            origin=pd.DatetimeIndex([*days[before:]] * len(symbols)),
            fold=np.tile(fold, len(symbols)),
            seed=np.full(rows, -1, dtype=np.int64),
            train_end=pd.DatetimeIndex(days[before + np.tile(fold, len(symbols)) * (bars // folds)]),
            residuals={
                (number, -1, symbol): 0.01 * generator.standard_normal((12, horizon))
                for symbol in symbols
                for number in range(folds)
            },
        )
        return market, forecasts, actual

    return make


@pytest.fixture(scope="session")
def evaluated() -> Callable[..., Evaluation]:
    """Evaluate forecasts of one step per bar, in folds of equal length, of the first symbol of some bars."""
    # Imported here: most unit tests need none of it.
    from qtrade.backtest.statistics import circular_shift_null
    from qtrade.evaluation import gates, optimism, trading
    from qtrade.evaluation.by_regime import HorizonForecasts, by_regime, fold_heatmap
    from qtrade.evaluation.coverage import coverage_interval
    from qtrade.evaluation.distribution import distribution_skill
    from qtrade.evaluation.intervals import online_intervals
    from qtrade.evaluation.regimes import Regimes, regime_mix
    from qtrade.evaluation.result import CoverageByRegime, Evaluation, RegimeStudy, ShiftStudy, Trading
    from qtrade.evaluation.shift import combine, feature_shift
    from qtrade.evaluation.stability import study
    from qtrade.evaluation.trading import TradingEvidence
    from qtrade.evaluation.transfer import Transfer
    from qtrade.evaluation.unit_roots import unit_roots
    from qtrade.evaluation.verdict import verdict
    from qtrade.features.targets import log_returns

    def make(
        bars: Bars,
        forecasts: Forecasts,
        actual: Float64Array,
        skills: Mapping[str, tuple[HorizonSkill, ...]],
        *,
        strategy: str = "forecast_sign",
        feature: str = "momentum",
        regime: str = "calm",
        horizon: int = 6,
    ) -> Evaluation:
        generator = np.random.default_rng(3)
        mine = np.asarray(forecasts.symbol == bars.symbols[0])
        fold, size = forecasts.fold[mine], int(mine.sum())
        start = int(bars.index.searchsorted(forecasts.origin[mine][0]))
        count = int(fold.max()) + 1
        ends = (start + np.searchsorted(fold, np.arange(count))).astype(np.int64)
        horizons = (1, horizon)
        at = [one - 1 for one in horizons]
        happened = np.cumsum(actual[mine], axis=1)[:, None, at]
        said = 0.002 * generator.standard_normal((count, size, 1, 2))
        # A model that has seen what it is asked about remembers some of it.
        seen = np.arange(count)[:, None] > fold
        said += np.where(seen[:, :, None, None], 0.4 * np.nan_to_num(happened), 0.0)
        said[fold, np.arange(size), 0] = forecasts.cumulative()[mine][:, at]
        transfer = Transfer(horizons, ends, start + np.arange(size), fold, said, happened)
        returns = np.nan_to_num(log_returns(bars)[:, :1])
        stability = study(transfer, returns, np.full(returns.shape, 0.01), 0)

        codes = (np.arange(len(bars)) // 45 % 2)[:, None].astype(np.int64)
        regimes = Regimes("two spells", (regime, "wild"), codes)
        known = np.isfinite(happened[:, 0, 1])
        measured = HorizonForecasts(
            horizon=horizon,
            time=(start + np.arange(size))[known],
            symbol=np.zeros(int(known.sum()), dtype=np.int64),
            actual=happened[known, 0, 1],
            predicted=forecasts.cumulative()[mine][known, horizon - 1],
            scale=np.ones(int(known.sum())),
        )
        net = np.full(len(bars), np.nan)
        net[start:] = 0.01 * generator.standard_normal(len(bars) - start)
        train, tested = range(0, start), range(start, start + size)
        chosen = RegimeStudy(
            name=regimes.name,
            horizon=horizon,
            skill=by_regime(regimes, measured, train, net=net, exposure=np.abs(net), periods_per_year=252),
            mix=regime_mix(regimes, train, tested),
            novelty=0.125,
            heatmap=fold_heatmap(regimes, measured, fold[known], minimum=10),
            regimes=regimes,
        )

        values = generator.standard_normal((400, 1, 3))
        values[:, 0, 1] = np.cumsum(values[:, 0, 1])  # a level
        names = (feature, "price", "volume_z")
        per_fold = tuple(
            feature_shift(values, names, range(0, 300), range(300 + 20 * place, 340 + 20 * place), gap=6)
            for place in range(3)
        )
        shift = ShiftStudy(combine(per_fold), per_fold, unit_roots(values, names, range(0, 300)))

        error = happened[:, :, 1] - forecasts.cumulative()[mine][:, None, horizon - 1]
        bank = 0.02 * generator.standard_normal((60, 1))
        covered = online_intervals(error, fold, dict.fromkeys(range(count), bank), delay=horizon, stretch=50)
        per_regime = []
        for method, one in covered.items():
            for code, label in enumerate(regimes.labels):
                hits = np.where(codes[start : start + size] == code, one.hits, np.nan)
                per_regime.append(CoverageByRegime(method, label, *coverage_interval(hits, horizon), enough=code == 0))

        labels = 0.01 * generator.standard_normal((500, 1, 1))
        rungs: tuple[optimism.RungName, ...] = (
            "in-sample",
            "shuffled",
            "purged CV",
            "walk-forward",
            "frozen",
            "oracle",
        )
        known_share = (0.9, 0.6, 0.2, 0.1, 0.0, 0.15)
        predictions = optimism.Predictions(
            origin=np.arange(500, dtype=np.int64),
            horizons=(horizon,),
            actual=labels,
            rungs={
                name: share * labels + 0.002 * generator.standard_normal(labels.shape)
                for name, share in zip(rungs, known_share, strict=True)
            },
            fit_rows=dict.fromkeys(rungs, 300.0),
            model="a cheap stand-in",
            blocks=5,
            oracle_blocks=4,
            thinned=False,
            seed=0,
        )
        climbed = optimism.measure(predictions)
        grade, sentence = optimism.gate(climbed)

        held = np.sign(generator.standard_normal((size, 1)))
        evidence = TradingEvidence(
            trades=42,
            years=1.25,
            sharpe=0.4,
            sharpe_low=-0.43,
            sharpe_high=1.23,
            psr=0.71,
            dsr=0.52,
            trials=17,
            min_track_record_years=8.5,
            shift_p=0.234,
            breakeven_over_cost=1.75,
            delay_retention=0.66,
            pbo=None,
            variants=2,
        )
        null = circular_shift_null(held, returns[start : start + size], 2e-4, min_shift=horizon, draws=50, seed=0)
        judged = verdict(skills[next(iter(skills))])
        opened = (
            gates.integrity_gate(()),
            gates.plausibility_gate(skills[next(iter(skills))], None, gates.Limits(), ()),
            gates.skill_gate(judged),
            gates.stability_gate(
                stability.staleness, stability.change, stability.recurrence, when="about then", step_bars=60
            ),
            gates.Gate("G4", grade, (sentence,)),
            gates.regime_gate(chosen.novelty, chosen.skill, skilled=False),
            gates.Gate("G6", "WARN", ("price: a level, which need never come back.",)),
            gates.coverage_gate(0.8, [(regime, 0.6, True)]),
            gates.Gate("G8", *trading.gate(evidence)),
        )
        return Evaluation(
            verdict=gates.conclude(opened, judged),
            gates=opened,
            skill=skills,
            distribution=distribution_skill(forecasts, actual, horizons) if skills[next(iter(skills))] else (),
            stability=stability,
            break_when="about then",
            stride=2,
            symbols=bars.symbols[:1],
            cadence={
                "model": "ridge",
                "origins_before_test": 727,
                "r2_by_retraining_bars": {"21": -0.5216, "63": -0.0327},
                "suggested_retraining_bars": 63,
                "why": "Every 63 bars does about as well.",
            },
            regimes=(chosen,),
            shift=shift,
            intervals={horizon: covered},
            interval_coverage=tuple(per_regime),
            optimism=climbed.to_dict(),
            trading=Trading(strategy, evidence, null),
            index=bars.index,
        )

    return make


@pytest.fixture(scope="session")
def made_run() -> Callable[..., Run]:
    """Make the folder of a trained run by hand, with forecasts that took no training."""
    from qtrade.config import load_config
    from qtrade.features.scaler import Scaler
    from qtrade.features.targets import log_returns
    from qtrade.files import write_parquet
    from qtrade.forecasts import Forecasts
    from qtrade.models.base import Epoch, History, Shape
    from qtrade.models.baselines import Naive
    from qtrade.models.settings import NoSettings
    from qtrade.runs import forecast_frame, residual_frame, save_fold, start_run
    from qtrade.types import Bars
    from qtrade.windows import Rows, WindowConfig, realised

    def make(
        runs: Path,
        *overrides: str,
        luck: int = 0,
        skill: float = 0.0,
        tested: tuple[int, int] = (100, 600),
        symbols: tuple[str, ...] = ("A", "B"),
        market: int = 0,
        facts: Mapping[str, str] | None = None,
    ) -> Run:
        """Make one; `luck` seeds its forecasts, which know a share `skill` of what will happen."""
        config = load_config(None, ["model=ridge", "window.seq_len=8", "window.label_len=4", "window.horizon=6",
                                    "data.symbols=" + str(list(symbols)), *overrides])  # fmt: skip
        days = pd.date_range("2020-01-01", periods=tested[1] + 20, tz="UTC")
        steps = 0.01 * np.random.default_rng([9, market]).standard_normal((len(days), len(symbols)))
        close = pd.DataFrame(100 * np.exp(steps.cumsum(axis=0)), index=days, columns=list(symbols))
        bars = Bars(close, close, close, close, close * 0, interval="1d", calendar="24/7", periods_per_year=365.0)
        horizon, delay = config.window.horizon, config.split.delay
        origins = np.arange(*tested)
        rows = Rows(np.repeat(origins, len(symbols)), np.tile(np.arange(len(symbols)), len(origins)))
        actual = realised(log_returns(bars), rows, horizon, delay)
        noise = 0.002 * np.random.default_rng([1, luck]).standard_normal(actual.shape)
        forecasts = Forecasts(
            path=noise + skill * np.nan_to_num(actual),
            symbol=np.array(symbols, dtype=object)[rows.symbol],
            origin=days[rows.origin],
            fold=np.zeros(len(rows), dtype=np.int64),
            seed=np.zeros(len(rows), dtype=np.int64),
            train_end=days[np.full(len(rows), tested[0])],
        )
        description = {
            "data": {
                "source": "file",
                "symbols": list(symbols),
                "versions": dict.fromkeys(symbols, f"{market}{'0' * 15}"),
                "interval": "1d",
                "calendar": "24/7",
                "periods_per_year": 365.0,
                "bars": len(days),
                "first": str(days[0]),
                "last": str(days[-1]),
            },
            "folds": [{"number": 0, "test": [str(days[tested[0]]), str(days[tested[1] - 1])], "test_origins": 500}],
            "notes": [],
        }
        made_of = {"data": bars.fingerprint(), "device": "cpu", "qtrade": "0", **(facts or {})}
        run = start_run(runs, config, bars, made_of, description)
        table = forecast_frame(forecasts, actual)
        bank = 0.01 * np.random.default_rng(3).standard_normal((40 * len(symbols), horizon))
        spread = residual_frame(0, 0, np.tile(symbols, 40), days[np.repeat(np.arange(40), len(symbols))], bank)
        zero, one = np.zeros(len(symbols)), np.ones(len(symbols))
        scaler = Scaler(symbols, ("x",), zero[:, None], one[:, None], zero, one, (), 1)
        shape = Shape(1, 1, WindowConfig(seq_len=8, label_len=4, horizon=horizon))
        history = History((Epoch(1, 1.0, 2.0, 1e-4, 1.5), Epoch(2, 0.9, 2.5, 5e-5, 2.5)), 1, 2.0)
        save_fold(run.fold_folder("ridge", 0, 0), Naive(shape, NoSettings()), scaler, history, table, spread)
        write_parquet(run.folder / "residuals.parquet", spread)
        write_parquet(run.folder / "forecasts.parquet", table)
        return run

    return make


@pytest.fixture(scope="session")
def made_backtest() -> Callable[..., Path]:
    """Save a backtest in a run's folder by hand: net returns of the tested bars, and nothing that was decided."""
    from qtrade.files import write_json, write_parquet
    from qtrade.pipeline.replay import backtest_name

    def make(run: Run, net: pd.Series, *, strategy: str = "path_momentum", source: str = "0", **account: Any) -> Path:
        described = {**run.config.backtest.model_dump(mode="json"), **account}
        told = {"strategy": strategy, "spec": f"{strategy}()", "params": {}, "source": source, "account": described}
        numbers = {"sharpe": 1.0, "sharpe_low": 0.5, "sharpe_high": 1.5, "net_annual_return": 0.1, "trades": 7.0}
        folder = run.folder / "backtests" / backtest_name(strategy, {}, source, described)
        write_parquet(folder / "equity.parquet", pd.DataFrame({"net": net, "buy_and_hold_net": 0.5 * net}))
        write_json(folder / "metrics.json", {**told, "metrics": numbers, "buy_and_hold": {"sharpe": 0.5}})
        return folder

    return make

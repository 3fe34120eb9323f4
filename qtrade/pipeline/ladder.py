"""Fit one cheap model in every way from dishonest to stale, and predict the run's own test origins with each.

The rungs are those of `qtrade.evaluation.optimism`. They differ in which origins a model is fitted on, and in nothing
else: model, settings, scaling and test origins are the same. An origin t reads bars ``t-L+1 .. t`` and its label ends
at bar ``t+H+d``, so a model fitted on both sides of a test block s .. e may use the origins up to ``s-H-d``, and those
from ``e+H+d+L`` on, whose inputs begin after the last test label (López de Prado 2018, ch. 7: purge and embargo).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from qtrade.config import RunConfig
from qtrade.errors import IntegrityError
from qtrade.evaluation.optimism import Optimism, Predictions, RungName, measure
from qtrade.features.scaler import Scaler
from qtrade.features.targets import Target
from qtrade.models.base import Shape
from qtrade.models.baselines import Ridge
from qtrade.models.settings import RidgeConfig
from qtrade.pipeline.market import Market, scaled
from qtrade.progress import Progress, Silent
from qtrade.types import Float64Array, Fold, IntArray
from qtrade.windows import Rows, Samples, WindowConfig, realised

HORIZONS = (1, 6, 12, 24)
"""Horizons in bars that are scored unless others are asked for."""
MAX_ROWS = 20_000
"""Windows beyond which a fit uses a random part of its origins."""
TREES = 100
"""Trees of a forest."""

Probe = Literal["trees", "ridge"]
PROBES: dict[str, Probe] = {"trees": "trees", "ridge": "ridge"}
"""Cheap models by name."""

_BLOCKS = 5
# An oracle with less than this share of its windows on one side of the block knows only one of its regimes.
_LEAST_SIDE = 0.25
_LEAF = 2
_TRIED = 0.5  # Share of the features that a split chooses from.


def climb(
    market: Market,
    config: RunConfig,
    folds: Sequence[Fold],
    *,
    probe: Probe = "trees",
    horizons: Sequence[int] = HORIZONS,
    seed: int,
    progress: Progress | None = None,
) -> Optimism:
    """Fit a cheap model on every rung, and score all rungs on the run's test origins.

    Parameters
    ----------
    market
        Bars, features and returns of the run.
    config
        Its configuration: window lengths and the ridge's penalties.
    folds
        Its walk-forward folds, in order.
    probe
        ``trees``: extremely randomised trees (Geurts, Ernst & Wehenkel 2006) on the scaled features of the origin's
        own bar, all horizons in one forest. ``ridge``: `Ridge`, its penalty chosen once, by the first fold's
        validation.
    horizons
        Bars ahead to score; those beyond the configured horizon are left out.
    seed
        Seed of the forests, of the shuffled split, and of the part of the windows taken where there are many.
    progress
        Told of every fit.

    Returns
    -------
    Optimism
        Its `model` names what was fitted: it stands in for the run's own model.
    """
    return measure(predict(market, config, folds, probe=probe, horizons=horizons, seed=seed, progress=progress))


def predict(
    market: Market,
    config: RunConfig,
    folds: Sequence[Fold],
    *,
    probe: Probe = "trees",
    horizons: Sequence[int] = HORIZONS,
    seed: int,
    progress: Progress | None = None,
) -> Predictions:
    """Predict the run's test origins with every rung; parameters as in `climb`."""
    chosen = tuple(sorted({horizon for horizon in horizons if 1 <= horizon <= config.window.horizon}))
    if not chosen:
        raise ValueError(f"none of the horizons {tuple(horizons)} lies within 1..{config.window.horizon}")
    test = np.arange(folds[0].test.start, folds[-1].test.stop)
    assert np.array_equal(test, np.concatenate([fold.test for fold in folds])), "test blocks follow one another"
    window = config.window.model_copy(update={"horizon": chosen[-1]})
    fitter = _Fitter(market, window, folds[0].delay, chosen, seed, penalty=None)
    if probe == "ridge":
        fitter = replace(fitter, penalty=_choose_penalty(fitter, folds[0], config.ridge.penalties))
    plan = _plan(folds, test, config.window.seq_len, seed)
    progress = progress or Silent()
    progress.start("optimism", len(plan))
    shape = (len(test), len(market.bars.symbols), len(chosen))
    rungs: dict[RungName, Float64Array] = {}
    rows: dict[RungName, list[int]] = {}
    thinned = False
    for number, job in enumerate(plan):
        use = fitter.thin(job.fit, number)
        thinned |= len(use) < len(job.fit)
        predicted = fitter.run(use, job.test, job.as_of, number)
        rungs.setdefault(job.rung, np.full(shape, np.nan))[job.test - test[0]] = predicted
        rows.setdefault(job.rung, []).append(len(use) * shape[1])
        if job.rung == "frozen":
            # The first fold's model is the same one in both rungs.
            rungs["walk-forward"] = rungs["frozen"].copy()
            rows["walk-forward"] = list(rows["frozen"])
        progress.advance(1, job.rung)
    rungs.setdefault("oracle", np.full(shape, np.nan))
    path = realised(market.returns, _rows(test, shape[1]), chosen[-1], folds[0].delay)
    return Predictions(
        origin=test,
        horizons=chosen,
        actual=_at_horizons(path, chosen).reshape(shape),
        rungs=rungs,
        fit_rows={name: float(np.mean(counts)) for name, counts in rows.items()},
        model=fitter.description,
        blocks=len(folds),
        oracle_blocks=len(rows.get("oracle", [])),
        thinned=thinned,
        seed=seed,
    )


def check_two_sided(fit: IntArray, block: range, *, reach: int, seq_len: int) -> None:
    """Raise `IntegrityError` unless a model fitted on both sides of a test block has seen none of it.

    Parameters
    ----------
    fit
        Origins it is fitted on.
    block
        Test origins.
    reach
        Bars from an origin to the end of its label, H + d.
    seq_len
        Bars that an origin reads, L.
    """
    before, after = fit[fit < block.start], fit[fit >= block.start]
    if len(before) and before.max() + reach > block.start:
        raise IntegrityError(
            f"a label used for fitting ends at bar {before.max() + reach}, after the first test origin {block.start}",
            why="the purge before a test block is too short",
            fix=f"leave {reach - 1} origins before the block",
        )
    if len(after) and after.min() - seq_len + 1 <= block.stop - 1 + reach:
        raise IntegrityError(
            f"an input used for fitting begins at bar {after.min() - seq_len + 1}, "
            f"not after bar {block.stop - 1 + reach}, where the last test label ends",
            why="the embargo after a test block is too short",
            fix=f"leave {reach - 1 + seq_len} origins after the block",
        )


@dataclass(frozen=True, eq=False)
class _Job:
    """One model to fit: on which origins, to predict which, and the last bar it may know, if that is limited."""

    rung: RungName
    fit: IntArray
    test: IntArray
    as_of: int | None = None


def _plan(folds: Sequence[Fold], test: IntArray, seq_len: int, seed: int) -> list[_Job]:
    """List every model to fit. Walk-forward comes first, so that a model's seed depends on no later fold."""
    first = folds[0]
    origins = np.arange(first.fit.start, test[-1] + 1)
    jobs = [_Job("frozen", np.asarray(first.fit), test, first.train_end)]
    jobs += [_Job("walk-forward", np.asarray(fold.fit), np.asarray(fold.test), fold.train_end) for fold in folds[1:]]
    jobs.append(_Job("in-sample", origins, test))
    jobs += _shuffled(origins, test, seed)
    reach = first.horizon + first.delay
    for part in np.array_split(origins, _BLOCKS):
        block = range(int(part[0]), int(part[-1]) + 1)
        if block[-1] >= test[0]:
            fit = np.concatenate(_sides(origins, block, reach, seq_len))
            check_two_sided(fit, block, reach=reach, seq_len=seq_len)
            jobs.append(_Job("purged CV", fit, part[part >= test[0]]))
    for fold in folds:
        before, after = _sides(origins, fold.test, reach, seq_len)
        size = len(fold.fit)
        if min(len(before), len(after)) < _LEAST_SIDE * size or len(before) + len(after) < size:
            continue
        # A side that is too short for its half is made up for by the other, so that sizes stay equal.
        late = min(max(size // 2, size - len(before)), len(after))
        fit = np.concatenate([before[len(before) - (size - late) :], after[:late]])
        check_two_sided(fit, fold.test, reach=reach, seq_len=seq_len)
        jobs.append(_Job("oracle", fit, np.asarray(fold.test)))
    return jobs


def _shuffled(origins: IntArray, test: IntArray, seed: int) -> list[_Job]:
    """Cut origins into random parts, each predicted from all others: NOT EVIDENCE, and nowhere else in qtrade."""
    parts = np.array_split(np.random.default_rng([seed, 0]).permutation(origins), _BLOCKS)
    judged = [np.sort(part[part >= test[0]]) for part in parts]
    return [
        _Job("shuffled", np.setdiff1d(origins, part), asked)
        for part, asked in zip(parts, judged, strict=True)
        if len(asked)
    ]


def _sides(origins: IntArray, block: range, reach: int, seq_len: int) -> tuple[IntArray, IntArray]:
    """Origins before a test block after the purge, and those after it after the embargo."""
    return origins[origins <= block.start - reach], origins[origins >= block.stop - 1 + reach + seq_len]


@dataclass(frozen=True, eq=False)
class _Fitter:
    """Everything that the fits of all rungs have in common.

    `window` ends at the longest horizon scored; the purge knows the run's own.
    """

    market: Market
    window: WindowConfig
    delay: int
    horizons: tuple[int, ...]
    seed: int
    penalty: float | None
    """Of the ridge; None for trees."""

    @property
    def description(self) -> str:
        """What is fitted, in words."""
        if self.penalty is None:
            return f"extra-trees ({TREES} trees, {_LEAF} windows or more a leaf, features of the origin's own bar)"
        return f"ridge (penalty {self.penalty:g}, features of the origin's own bar)"

    def thin(self, origins: IntArray, number: int) -> IntArray:
        """Take a random part of too many origins."""
        most = max(1, MAX_ROWS // len(self.market.bars.symbols))
        if len(origins) <= most:
            return origins
        return np.sort(np.random.default_rng([self.seed, 1, number]).choice(origins, most, replace=False))

    def run(self, fit: IntArray, test: IntArray, as_of: int | None, number: int) -> Float64Array:
        """Fit on some origins, and return the (N, S, K) cumulative log returns predicted at others."""
        symbols = len(self.market.bars.symbols)
        samples, scaler = self.samples(fit)
        # As in training: whatever a model does, it cannot see past its as-of bar.
        known = samples if as_of is None else samples.until(as_of)
        predicting = samples.until(int(test[-1])).without_target()
        learned, asked = _rows(fit, symbols), _rows(test, symbols)
        if self.penalty is None:
            predicted = self._trees(known, learned, predicting, asked, number)
        else:
            model = _ridge(self.market, self.window, (self.penalty,))
            model.fit(known, learned, learned, seed=0, progress=Silent())
            predicted = _at_horizons(model.predict(predicting, asked), self.horizons)
        return (predicted * scaler.target_scale[asked.symbol, None]).reshape(len(test), symbols, len(self.horizons))

    def samples(self, fit: IntArray) -> tuple[Samples, Scaler]:
        """Scale the market by the bars that the windows at these origins read."""
        features, target = self.market.features, Target.plain(self.market.returns)
        edges = np.zeros(len(features.index) + 1, dtype=np.int64)
        edges[fit - self.window.seq_len + 1] += 1
        edges[fit + 1] -= 1
        bars = np.flatnonzero(np.cumsum(edges))
        seen = replace(features, values=features.values[bars], index=features.index[bars], warmup=0)
        scaler = Scaler.fit(seen, target.past[bars], range(len(bars)))
        return scaled(self.market, scaler, target, self.window, self.delay), scaler

    def _trees(self, known: Samples, learned: Rows, predicting: Samples, asked: Rows, number: int) -> Float64Array:
        """Fit a forest on the horizons alike, and predict scaled cumulative returns."""
        # Here, because it takes a second, and most commands fit no trees.
        from sklearn.ensemble import ExtraTreesRegressor

        unit = np.sqrt(np.asarray(self.horizons))
        label = _at_horizons(known.labels(learned).astype(np.float64), self.horizons) / unit
        forest = ExtraTreesRegressor(
            n_estimators=TREES,
            min_samples_leaf=_LEAF,
            max_features=_TRIED,
            n_jobs=1,
            random_state=int(np.random.default_rng([self.seed, 2, number]).integers(2**31)),
        )
        forest.fit(known.values[learned.origin, learned.symbol], label if len(unit) > 1 else label[:, 0])
        answered = forest.predict(predicting.values[asked.origin, asked.symbol])
        predicted: Float64Array = answered.reshape(len(asked), len(unit)) * unit
        return predicted


def _choose_penalty(fitter: _Fitter, first: Fold, candidates: Sequence[float]) -> float:
    """Choose the ridge's penalty by the first fold's validation, for every rung alike."""
    samples, _ = fitter.samples(np.asarray(first.fit))
    known = samples.until(first.train_end)
    losses = {}
    for penalty in candidates:
        history = _ridge(fitter.market, fitter.window, (penalty,)).fit(
            known, known.rows(first.fit), known.rows(first.valid), seed=0, progress=Silent()
        )
        losses[penalty] = history.valid_loss
    return min(losses, key=lambda penalty: losses[penalty])


def _ridge(market: Market, window: WindowConfig, penalties: tuple[float, ...]) -> Ridge:
    shape = Shape(len(market.features.names), market.marks.shape[1], window)
    return Ridge(shape, RidgeConfig(penalties=penalties))


def _rows(origins: IntArray, symbols: int) -> Rows:
    """Windows of every symbol at some origins, ordered by origin, then symbol."""
    return Rows(np.repeat(origins, symbols), np.tile(np.arange(symbols), len(origins)))


def _at_horizons(path: Float64Array, horizons: tuple[int, ...]) -> Float64Array:
    """Cumulate (W, H) steps to (W, K) horizons."""
    cumulative: Float64Array = np.cumsum(path, axis=1)[:, np.asarray(horizons) - 1]
    return cumulative

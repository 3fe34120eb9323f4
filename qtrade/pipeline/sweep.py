"""Many variants of one strategy at once, and what is left of the best when one knows how it was found."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import qtrade.notebook_html as html
from qtrade.backtest.choice import Choices, choose_ahead
from qtrade.backtest.many import Variants, simulate_many
from qtrade.backtest.metrics import FEW, Z95, metrics, sharpe_ratio
from qtrade.backtest.statistics import backtest_overfitting, expected_best_sharpe
from qtrade.config import RunConfig
from qtrade.errors import IntegrityError, UsageError
from qtrade.evaluation.plain import plain
from qtrade.files import write_json, write_parquet, write_text
from qtrade.ledger import Trial, Tried
from qtrade.pipeline.axes import Axis, combinations
from qtrade.pipeline.backtest import digest_of, identity, luck_of, luck_variance
from qtrade.pipeline.lock import keeping
from qtrade.pipeline.venue import Venue, account_text, ledger_of, open_venue, tried_on
from qtrade.progress import Progress
from qtrade.report.account import costs_assumed
from qtrade.runs import Run, check_run
from qtrade.strategy import LoadedStrategy, decide
from qtrade.strategy_spec import ParamValue
from qtrade.types import Float64Array

AUDITED = 5
"""Variants drawn at random that are audited and traded again in vectorbt, beside those that are chosen."""

MOST_RETURNS = 250_000_000
"""Returns that are kept at once: 2 GB."""

# Splits of the bars for the probability of backtest overfitting, as many as thousands of variants leave time for.
_PBO_BLOCKS = 10
# Steps of the progress bar.
_STEPS = 20


@dataclass(frozen=True, eq=False)
class Sweep:
    """A finished sweep.

    Attributes
    ----------
    folder
        Where ``sweep.json``, ``variants.csv``, ``variants.parquet`` and ``sweep.html`` are.
    told
        What ``sweep.json`` says.
    table
        One row per variant.
    """

    folder: Path
    told: Mapping[str, Any]
    table: pd.DataFrame

    def __repr__(self) -> str:
        return f"Sweep({self.told['variants']:,} variants of {self.told['strategy']}, best {self.told['best']['spec']})"

    def _repr_html_(self) -> str:
        best, luck, ahead = self.told["best"], self.told["luck"], self.told["walk_forward"]
        interval = f"{html.ratio(best['sharpe_low'])} to {html.ratio(best['sharpe_high'])}"
        return html.piece(
            html.heading(f"{self.told['variants']:,} variants of {self.told['strategy']}"),
            html.facts(
                {
                    "best variant": best["spec"],
                    "its Sharpe ratio": html.ratio(best["sharpe"]),
                    "95% interval, which does not know that it is the best": interval,
                    "Sharpe ratio of the luckiest of all trials so far, were they useless": html.ratio(
                        luck["expected_best_sharpe"]
                    ),
                    "probability of skill after all trials (DSR)": html.ratio(luck["dsr_probability"]),
                    "probability of backtest overfitting (PBO)": html.ratio(self.told["pbo_share"]),
                    "Sharpe ratio of choosing by the past, block by block": html.ratio(ahead and ahead["sharpe"]),
                    "median Sharpe ratio of the variants": html.ratio(self.told["median_sharpe"]),
                    "Sharpe ratio of buy and hold": html.ratio(self.told["buy_and_hold"]["sharpe"]),
                }
            ),
            html.paragraph(f"Every variant is in {self.folder / 'variants.csv'}, the picture in sweep.html beside it."),
        )


@keeping
def sweep_run(
    run: Run, strategy: LoadedStrategy, axes: Sequence[Axis], *, progress: Progress, config: RunConfig | None = None
) -> Sweep:
    """Trade every combination of some parameters of a strategy on the forecasts of a run.

    Parameters
    ----------
    strategy
        With the parameters that all variants share.
    axes
        The parameters that vary.
    config
        Where the account is taken from, unless the run's own configuration will do.

    Raises
    ------
    UsageError
        If a parameter is unknown, a value does not suit it, or a variant fails.
    IntegrityError
        If an audited variant looks ahead, or is not what vectorbt makes of it.
    """
    from qtrade.report.sweep import write_sweep  # draws figures, which takes an import of seconds

    check_run(run)
    config = config or run.config
    params = combinations(axes)
    variants = [vary(strategy, one) for one in params]
    venue, ledger = open_venue(run, config), ledger_of(run)
    ledger.tried(venue.market)  # one that cannot be used is met before anything is computed
    require_memory(len(variants), len(venue.span))
    with venue.unaltered(strategy.name):
        made, digests = trade_variants(variants, venue, progress)
    periods = venue.span.periods_per_year
    table = _table(params, made, periods)
    ratios = table["sharpe"].to_numpy(dtype=np.float64) / math.sqrt(periods)
    best = best_of(table)
    # Before anybody can read which one is the best, or the audit stops the rest.
    ledger.add(_trials(run, variants, digests, venue, ratios, made))
    traded = bool(np.isfinite(ratios).any())
    choices = choose_ahead(made.net) if traded else None
    drawn = np.random.default_rng(venue.seed).permutation(len(variants))[:AUDITED].tolist()
    audited = list(dict.fromkeys([best, *(choices.chosen.tolist() if choices else []), *drawn]))
    progress.start("sweep: audit", len(audited))
    engine = ""
    for number in audited:
        engine = _audit(variants[number], made.net[:, number], venue)
        progress.advance(1, variants[number].spec)
    tried = tried_on(run, venue.market, venue.account)
    hold = metrics(venue.hold, periods)
    told = {
        "run": run.name,
        "strategy": strategy.name,
        "spec": strategy.spec,
        "axes": [{"name": axis.name, "values": list(axis.values)} for axis in axes],
        "variants": len(variants),
        "bars": len(venue.span),
        "first": str(venue.span.index[0]),
        "last": str(venue.span.index[-1]),
        "engine": engine,
        "forecast_covered_share": venue.covered,
        "audited": len(audited),
        "account": costs_assumed(venue.account),
        "delay": venue.account.delay,
        "best": _best(variants[best], params[best], table.iloc[best], made.net[:, best], venue),
        "buy_and_hold": {"sharpe": plain(hold.sharpe), "net_annual_return": plain(hold.net_annual_return)},
        "median_sharpe": plain(float(table["sharpe"].median())),
        **not_judged(table, best),
        "luck": _luck(made.net[:, best], venue, tried),
        "pbo_share": plain(backtest_overfitting(made.net, _PBO_BLOCKS)) if traded else None,
        "pbo_blocks": _PBO_BLOCKS,
        "walk_forward": _walk_forward(choices, variants, params, venue) if choices else None,
    }
    folder = folder_of(run, strategy, axes, venue)
    # Drawing takes longest, and comes first: where it is interrupted there is no half of a sweep.
    write_sweep(folder / "sweep.html", told, table)
    write_text(folder / "variants.csv", table.to_csv(index=False))
    write_parquet(folder / "variants.parquet", table)
    write_json(folder / "sweep.json", told)
    return Sweep(folder, told, table)


def vary(strategy: LoadedStrategy, params: Mapping[str, ParamValue]) -> LoadedStrategy:
    """Return one variant; a `UsageError` says which it is that cannot be made."""
    try:
        return strategy.varied(params)
    except UsageError as error:
        told = ", ".join(f"{name}={value}" for name, value in params.items())
        raise UsageError(
            error.what, why=f"{error.why}; in the variant {told}".removeprefix("; "), fix=error.fix
        ) from error


def require_memory(variants: int, bars: int) -> None:
    """Raise `UsageError` if the returns of so many variants are too many to be kept at once."""
    if variants * bars > MOST_RETURNS:
        raise UsageError(
            f"{variants:,} variants on {bars:,} bars are too many at once",
            why=f"their returns would take {variants * bars * 8 / 2**30:.0f} GB of memory",
            fix=f"take larger steps: {MOST_RETURNS // bars:,} variants fit",
        )


def trade_variants(variants: Sequence[LoadedStrategy], venue: Venue, progress: Progress) -> tuple[Variants, list[str]]:
    """Decide and simulate every variant on `venue.span`; return the hashes of what they decided, too."""
    digests: list[str] = []
    rows = slice(*venue.bars.index.get_indexer(venue.span.index[[0, -1]]))
    step = -(-len(variants) // _STEPS)
    progress.start("sweep", -(-len(variants) // step))

    def decided(number: int) -> Float64Array:
        try:
            table = decide(variants[number], venue.bars, venue.forecasts, leverage=venue.account.leverage)
        except UsageError as error:
            why = f"{error.why}; this is variant {variants[number].spec}"
            raise UsageError(error.what, why=why.removeprefix("; "), fix=error.fix) from error
        if number % step == 0:
            progress.advance(1, f"{number + 1:,} of {len(variants):,}")
        weights = table.to_numpy(dtype=np.float64)[rows.start : rows.stop + 1]
        digests.append(digest_of(weights))
        return weights

    return simulate_many(venue.span, decided, len(variants), venue.account, venue.exits), digests


def _audit(variant: LoadedStrategy, net: Float64Array, venue: Venue) -> str:
    """Audit one variant for look-ahead, and hold its returns against vectorbt's; return the engine of the latter."""
    result = venue.trade(venue.decide(variant))
    again = result.net.to_numpy(dtype=np.float64)
    if not np.allclose(again, net, rtol=1e-7, atol=1e-9):
        bar = venue.span.index[int(np.argmax(~np.isclose(again, net, rtol=1e-7, atol=1e-9)))]
        raise IntegrityError(
            f"the sweep and vectorbt disagree about {variant.spec} from {bar} on",
            why="the strategy decides otherwise when it is asked again, or one of the two simulations is wrong",
            fix="backtest this variant alone; if that works, please report it with your configuration",
        )
    return result.engine


def _table(params: Sequence[Mapping[str, ParamValue]], made: Variants, periods: float) -> pd.DataFrame:
    """Lay out a row per variant: its parameters, then what it earned; names and units as in `Metrics`.

    `effective_bars` is the number of bars that make up the variance of the net returns.
    """
    still = made.deviation == 0
    return pd.DataFrame(params).assign(
        sharpe=np.where(still, np.nan, made.mean / np.where(still, 1.0, made.deviation)) * math.sqrt(periods),
        gross_annual_return=made.gross * periods,
        cost_annual=made.cost * periods,
        net_annual_return=made.mean * periods,
        annual_volatility=made.deviation * math.sqrt(periods),
        max_drawdown=made.drawdown,
        turnover_per_year=made.turnover * periods,
        exposure=made.exposure,
        effective_bars=made.effective_bars,
        fills=made.fills,
        ruined=made.ruined,
    )


def _best(
    variant: LoadedStrategy, params: Mapping[str, ParamValue], row: pd.Series, net: Float64Array, venue: Venue
) -> dict[str, Any]:
    """Describe the variant with the best Sharpe ratio, with an interval that does not know that it is the best."""
    low, high = _interval(net, venue.span.periods_per_year)
    numbers = row.drop(list(params)).to_dict()
    told = {str(name): bool(value) if name == "ruined" else plain(value) for name, value in numbers.items()}
    return {
        "spec": variant.spec,
        "params": dict(params),
        **told,
        "fills": int(row["fills"]),
        "sharpe_low": plain(low),
        "sharpe_high": plain(high),
    }


def judged(table: pd.DataFrame) -> pd.Series:
    """Whether each variant's Sharpe ratio can be judged: more than `FEW` bars make it, and the account lasted."""
    return ~table["ruined"] & (table["effective_bars"] > FEW)


def best_of(table: pd.DataFrame) -> int:
    """Row with the best Sharpe ratio.

    One that a handful of bars make is the best only where all are like that; and so is a ruined one, whose ratio may
    well be positive: the mean of returns knows no bankruptcy.
    """
    solvent = ~table["ruined"]
    for eligible in (judged(table), solvent, ~solvent):
        known = table["sharpe"].where(eligible)
        if known.notna().any():
            return int(np.nanargmax(known))
    return 0


def not_judged(table: pd.DataFrame, best: int) -> dict[str, Any]:
    """Count the variants that never traded, and those whose ratio cannot be judged; the highest of these as well.

    Where none can be judged the best is one of them, and nothing is hidden.
    """
    never = table["fills"] == 0
    ruined, few = table["ruined"] & ~never, ~judged(table) & ~table["ruined"] & ~never
    passed_over = table["sharpe"].where(ruined | few) if judged(table)[best] else pd.Series(dtype=np.float64)
    return {
        "never_traded": int(never.sum()),
        "too_few_bars": int(few.sum()),
        "ruined": int(ruined.sum()),
        "highest_sharpe_passed_over": plain(float(passed_over.max())),
    }


def _interval(net: Float64Array, periods: float) -> tuple[float, float]:
    """95 % interval of the annualised Sharpe ratio, as in `Metrics`."""
    ratio, error = sharpe_ratio(net, periods)
    return ratio - Z95 * error, ratio + Z95 * error


def _luck(net: Float64Array, venue: Venue, tried: Tried) -> dict[str, Any]:
    """Judge the best by everything that was ever tried on this market, these variants included."""
    periods = venue.span.periods_per_year
    luckiest = expected_best_sharpe(luck_variance(tried, len(net)), max(1, tried.trials))
    judged = luck_of(pd.Series(net), periods, tried)
    return {**judged, "expected_best_sharpe": luckiest * math.sqrt(periods)}


def _walk_forward(
    choices: Choices,
    variants: Sequence[LoadedStrategy],
    params: Sequence[Mapping[str, ParamValue]],
    venue: Venue,
) -> dict[str, Any]:
    """Trade what was chosen before each block in that block: one account, which pays for each change of mind."""
    index, starts = venue.span.index, choices.starts
    weights = pd.DataFrame(0.0, index=index, columns=venue.span.close.columns)
    for number, first, last in zip(choices.chosen.tolist(), starts[1:], starts[2:], strict=False):
        decided = decide(variants[number], venue.bars, venue.forecasts, leverage=venue.account.leverage)
        # The past of a block ends with the close before it, at which the first of these decisions is made.
        weights.iloc[first - 1 : last - 1] = decided.loc[index[first - 1 : last - 1]].to_numpy()
    result = venue.trade(weights)
    net = result.net.to_numpy(dtype=np.float64)[starts[1] :]
    periods = venue.span.periods_per_year
    scale = math.sqrt(periods)
    low, high = _interval(net, periods)
    blocks = zip(
        choices.chosen.tolist(),
        starts[1:],
        starts[2:],
        choices.before * scale,
        choices.inside * scale,
        choices.rank,
        choices.best * scale,
        strict=False,
    )
    return {
        "sharpe": plain(sharpe_ratio(net, periods)[0]),
        "sharpe_low": plain(low),
        "sharpe_high": plain(high),
        "net_annual_return": plain(float(net.mean() * periods)),
        "mean_rank_share": float(choices.rank.mean()),
        "blocks": [
            {
                "first": str(index[first]),
                "last": str(index[last - 1]),
                "chosen": dict(params[number]),
                "sharpe_before": plain(before),
                "sharpe_in": plain(inside),
                "rank_share": float(rank),
                "best_sharpe_in": plain(most),
            }
            for number, first, last, before, inside, rank, most in blocks
        ],
    }


def _trials(
    run: Run,
    variants: Sequence[LoadedStrategy],
    digests: Sequence[str],
    venue: Venue,
    ratios: Float64Array,
    made: Variants,
) -> list[Trial]:
    """Every variant as the ledger records it."""
    market, manifest = venue.market, run.manifest
    account = account_text(venue.account)
    return [
        Trial(
            market=market,
            bars=len(venue.span),
            snapshot=manifest["facts"]["data"],
            run=run.name,
            forecasts=manifest["forecast_hash"],
            kind="sweep",
            strategy=variant.title,
            source=f"{variant.sha256} {digest}",
            account=account,
            sharpe=ratio if math.isfinite(ratio) else None,
            periods_per_year=venue.span.periods_per_year,
            effective_bars=effective,
            ruined=ruined,
        )
        for variant, digest, ratio, effective, ruined in zip(
            variants, digests, ratios.tolist(), made.effective_bars.tolist(), made.ruined.tolist(), strict=True
        )
    ]


def folder_of(run: Run, strategy: LoadedStrategy, axes: Sequence[Axis], venue: Venue) -> Path:
    """Return the folder of a sweep: strategy, what varies, and account tell it apart."""
    described = {**identity(strategy, venue.account), "axes": [[axis.name, list(axis.values)] for axis in axes]}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:8]
    return run.folder / "sweeps" / f"{strategy.name}-{digest}"

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import qtrade
from qtrade.backtest.comparison import compare
from qtrade.backtest.costs import BacktestConfig, CostConfig, ExitConfig
from qtrade.backtest.engine import simulate
from qtrade.errors import DataError
from qtrade.evaluation.result import Evaluation
from qtrade.evaluation.skill import skill
from qtrade.evaluation.verdict import verdict
from qtrade.forecasts import Forecasts
from qtrade.ledger import Tried
from qtrade.pipeline.backtest import describe, luck_of
from qtrade.pipeline.positions import positions_of
from qtrade.pipeline.venue import Venue
from qtrade.report import backtest_figures, backtest_tables
from qtrade.report.account import costs_assumed
from qtrade.report.backtests import DRAWN, StrategyReport, check_told, tiles, trading
from qtrade.report.page import ReportInput, render
from qtrade.report.text import Table, interval, number
from qtrade.strategy import decide, load_strategy
from qtrade.types import Bars, Float64Array

FOLDERS = (Path(qtrade.__file__).parent.parent / "strategies",)
ACCOUNT = BacktestConfig(costs=CostConfig(fees_bps=2, slippage_bps=1, borrow_bps=100))
EVIL = "<script>alert('x')</script>"


@pytest.fixture(name="reports", scope="module")
def two_backtests(forecast_market: Callable[..., tuple[Bars, Forecasts, Float64Array]]) -> list[StrategyReport]:
    """Two strategies as they are saved and read again, and their luck after three trials."""
    bars, forecasts, _ = forecast_market(("^GSPC",), bars=400, before=40, folds=4, horizon=6)
    span = bars.rows(40, len(bars))
    weights = pd.DataFrame(1.0, index=span.index, columns=list(span.symbols))
    names = np.where(np.arange(len(span)) // 50 % 2, "calm", "wild")
    venue = Venue(
        bars=bars,
        forecasts=forecasts,
        span=span,
        account=ACCOUNT,
        exits=None,
        hold=simulate(span, weights, ACCOUNT),
        regimes=pd.Series(names, index=span.index),
        covered=0.482,
        seed=0,
    )
    made = []
    for name, step in (("forecast_sign", 6), ("path_momentum", 2)):
        strategy = load_strategy(name, {"step": step}, FOLDERS)
        decided = decide(strategy, bars, forecasts).loc[span.index]
        result = simulate(span, decided, ACCOUNT)
        told = json.loads(json.dumps(describe(strategy, venue, decided, result), allow_nan=False))
        luck = luck_of(result.net, span.periods_per_year, Tried(3, 0.001))
        held = positions_of(result.trades, span, span.index[-1])
        made.append(StrategyReport(told, luck, result.equity, venue.hold.equity, held))
    return made


@pytest.fixture(name="report", scope="module")
def report_of_both(
    forecast_market: Callable[..., tuple[Bars, Forecasts, Float64Array]],
    evaluated: Callable[..., Evaluation],
    reports: list[StrategyReport],
) -> ReportInput:
    bars, forecasts, actual = forecast_market(("^GSPC",), bars=400, before=40, folds=4, horizon=6)
    found = {"informer": skill(forecasts, actual, np.zeros(len(forecasts)), (1, 6))}
    evaluation = evaluated(bars, forecasts, actual, found)
    starts = bars.index[40::100]
    nets = {one.told["spec"]: returns(one.equity) for one in reports}
    return ReportInput(
        title="A test",
        run_name="run-1",
        generated="2025-01-01 00:00 UTC",
        source="synthetic",
        bars=bars,
        data_hash="ab" * 32,
        model="informer",
        verdict=verdict(()),
        evaluation=evaluation,
        skill={"informer": ()},
        forecasts=replace(forecasts, residuals={}),
        actual=np.full_like(actual, np.nan),
        costs=costs_assumed(ACCOUNT),
        backtests=tuple(reports),
        folds=pd.DataFrame(
            {"number": range(4), "train_start": bars.index[0], "train_end": starts, "test_start": starts,
             "test_end": starts + pd.Timedelta(days=99)}
        ),
        config_toml="",
        commands=(),
        comparison=compare(nets, returns(reports[0].benchmark), 252, draws=100, seed=0).to_dict(),
    )  # fmt: skip


def returns(equity: pd.Series) -> Float64Array:
    return np.asarray(equity.pct_change().fillna(0.0), dtype=np.float64)


@pytest.fixture(name="page", scope="module")
def rendered(report: ReportInput) -> str:
    return render(report)


def words_of(page: str, first: str = "trading") -> str:
    section = page[page.index(f'<h2 id="{first}">') : page.index('<h2 id="shift">')]
    shown = re.sub(r"<svg.*?</svg>", "", section, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", shown).split())


def changed(one: StrategyReport, **told: Any) -> StrategyReport:
    return replace(one, told={**one.told, **told})


def sharpe_bounds(one: StrategyReport) -> str:
    bounds = interval(one.metrics["sharpe_low"], one.metrics["sharpe_high"], "ratio")
    return bounds.replace("\N{NO-BREAK SPACE}", " ")


def cells(table: Table) -> list[list[str]]:
    return [[f"{cell.text} {cell.note}".strip() for cell in row] for row in table.rows]


# --- numbers ---


def test_every_number_of_a_backtest_reaches_the_page(reports: list[StrategyReport], page: str) -> None:
    words = words_of(page)
    for one in reports:
        told, metrics, against = one.told, one.metrics, one.told["against_buy_and_hold"]
        year, fall, month = told["years"][0], told["drawdowns"][0], told["months"][0]
        assert metrics["sharpe"] is not None
        assert metrics["cost_annual"] is not None
        assert metrics["financing_annual"] is not None
        for needed in (
            f"Sortino ratio {number(metrics['sortino'], 'ratio')}",
            f"Kurtosis of the bars (normal: 3) {number(metrics['kurtosis'], 'ratio', 1)}",
            f"(VaR 5%) {number(metrics['value_at_risk_5'], 'percent')}",
            f"Average holding time, bars {number(metrics['average_holding_bars'], 'ratio', 1)}",
            f"Fees and slippage per year {number(metrics['cost_annual'] - metrics['financing_annual'], 'percent')}",
            f"Borrowing and funding per year {number(metrics['financing_annual'], 'percent')}",
            f"Cost per fill, money {number(metrics['cost_per_fill'], 'ratio')}",
            f"Share taken of its rises {number(against['up_capture'], 'percent', 0)}",
            f"Information ratio {number(against['information_ratio'], 'ratio')} [",
            f"{year['year']} {number(year['gross_annual_return'], 'signed_percent', 1)}",
            f"wild {number(told['regimes'][1]['gross_annual_return'], 'signed_percent', 1)}",
            f"{number(fall['depth'], 'percent', 1)} {fall['peak'][:10]} {fall['trough'][:10]}",
            f"{month['year']} {number(100 * month['2'], 'signed', 1)}",
            "step = ",
            f"Simulated by vectorbt ({told['engine']}); forecasts cover 48.2% of the decisions.",
        ):
            assert needed.replace("\N{NO-BREAK SPACE}", " ") in words


def test_a_sharpe_ratio_never_stands_alone(reports: list[StrategyReport], page: str) -> None:
    one = reports[0]
    sharpe, luck = one.metrics["sharpe"], one.luck
    analytic = interval(one.metrics["sharpe_low"], one.metrics["sharpe_high"], "ratio")
    bootstrap = interval(one.told["sharpe_bootstrap_low95"], one.told["sharpe_bootstrap_high95"], "ratio")
    (tile,) = [cell for label, cell in tiles(reports) if label.startswith("Sharpe ratio")]
    assert tile.text == number(sharpe, "ratio")
    for needed in (analytic, "buy and hold ", "3 trials, DSR "):
        assert needed in tile.note
    words = words_of(page)
    assert f"Its interval by the bootstrap {bootstrap}".replace("\N{NO-BREAK SPACE}", " ") in words
    assert "there are 1.6 years" in words
    assert f"(PSR) {number(luck['psr_probability'], 'percent', 1)}" in words
    assert f"(DSR) {number(luck['dsr_probability'], 'percent', 1)}" in words
    assert "Tried on this market so far 3 trials" in words
    section = page[page.index('<h2 id="trading">') :]
    shown = re.findall(rf">\s*{re.escape(number(sharpe, 'ratio'))}(<small>.*?</small>)", section)
    assert len(shown) >= 3  # the comparison, its luck, and the numbers
    assert all(analytic in note for note in shown)


@pytest.mark.parametrize(
    ("years", "sharpe", "trials", "told"),
    [
        (12.34, 0.4, 1, ["1 trial", "80.0%", "\N{EN DASH}", "12.3 years there are 1.6 years"]),
        (None, -0.4, 2, ["2 trials", "80.0%", "\N{EN DASH}", "never there are 1.6 years"]),
        (None, None, 2, ["2 trials", "80.0%", "\N{EN DASH}", "\N{EN DASH} there are 1.6 years"]),
    ],
)
def test_the_record_needed_is_told_beside_the_record_there_is(
    report: ReportInput, years: float | None, sharpe: float | None, trials: int, told: list[str]
) -> None:
    one = report.backtests[0]
    luck = {"trials": trials, "psr_probability": 0.8, "dsr_probability": None, "min_track_record_years": years}
    changed_one = replace(changed(one, metrics={**one.metrics, "sharpe": sharpe}), luck=luck)
    laid = trading((changed_one,), pd.DatetimeIndex([], tz="UTC"), report.evaluation, None)["strategies"][0]
    assert [row[1] for row in cells(laid["luck"])[2:]] == told


@pytest.mark.usefixtures("undrawn_figures")
def test_numbers_that_are_undefined_break_nothing(report: ReportInput) -> None:
    one = report.backtests[0]
    nothing = dict.fromkeys(one.metrics)
    gone = [{name: None if name.startswith(("sharpe", "net")) else value for name, value in point.items()}
            for point in one.told["delay_curve"]]  # fmt: skip
    empty = changed(
        one,
        metrics=nothing,
        buy_and_hold=nothing,
        against_buy_and_hold=dict.fromkeys(one.told["against_buy_and_hold"]),
        sharpe_bootstrap_low95=None,
        sharpe_bootstrap_high95=None,
        forecast_covered_share=None,
        cost_curve=gone[:1],
        delay_curve=gone,
        years=[dict.fromkeys(one.told["years"][0]) | {"year": 2012}],
        months=[dict.fromkeys(one.told["months"][0]) | {"year": 2012}],
        regimes=[],
        drawdowns=[],
    )
    empty = replace(empty, luck=dict.fromkeys(one.luck) | {"trials": 0})
    page = render(replace(report, backtests=(empty,), comparison=None))
    words = words_of(page)
    assert not re.search(r"\bnan\b|None", words)
    assert "Sharpe ratio by" not in words
    assert "0 trials the ledger has none; counted as 1" in words
    assert "Too few bars to tell volatility regimes apart." in words
    assert "It never fell below an earlier peak." in words
    # One strategy is compared with none.
    assert "All strategies over the same bars" not in words
    assert "StepM" not in words


@pytest.mark.usefixtures("undrawn_figures")
def test_positions_are_told_or_that_there_were_none(report: ReportInput, page: str) -> None:
    one = report.backtests[0]
    assert one.positions is not None
    words = words_of(page)
    assert [words.count(f"Positions of {each.name}") for each in report.backtests] == [1, 1]
    assert f"Positions {number(len(one.positions), 'count')} " in words
    best = one.positions.dropna(subset="closed")["net_return"].max()
    assert f"{number(best, 'signed_percent')} " in words
    for held, told in ((one.positions[:0], "It never held anything."), (None, f"When {one.name} earned")):
        drawn = words_of(render(replace(report, backtests=(replace(one, positions=held),), comparison=None)))
        assert told in drawn
        assert "Positions of" not in drawn


def test_costs_and_delay_are_told_of_every_strategy(report: ReportInput, page: str) -> None:
    section = page[page.index('<h2 id="costs">') : page.index('<h2 id="shift">')]
    assert section.count("Net Sharpe ratio by cost per fill") == section.count("Net Sharpe ratio by delay of the") == 2
    words = " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"<svg.*?</svg>", "", section, flags=re.DOTALL)).split())
    for one in report.backtests:
        gross, cost = (one.metrics[name] for name in ("gross_annual_return", "cost_annual"))
        assert f"{number(gross, 'signed_percent', 1)} {number(cost, 'percent', 1)} " in words
    assert "Assumed: 2 bp fees and 1 bp slippage per fill" in words


# --- several strategies ---


def test_strategies_are_compared_before_they_are_told(report: ReportInput, page: str) -> None:
    words = words_of(page)
    first, second = report.backtests
    assert words.index("All strategies over the same bars") < words.index("(StepM)") < words.index("Growth of 1")
    assert report.comparison is not None
    difference = report.comparison["sharpe_difference"]
    for one in (first, second):
        lead = number(difference[one.told["spec"]]["difference"], "signed")
        net = number(one.metrics["net_annual_return"], "signed_percent", 1)
        ratio = f"{number(one.metrics['sharpe'], 'ratio')} {sharpe_bounds(one)}"
        (row,) = re.findall(rf"{one.name} [^[]*? {re.escape(f'{net} {ratio} {lead}')} \[[^]]+\] (.*? trials)", words)
        assert row == f"{number(one.luck['dsr_probability'], 'percent', 1)} of 3 trials"
    assert f"Buy and hold {number(first.benchmark_metrics['net_annual_return'], 'signed_percent', 1)} " in words
    assert len(re.findall(r'<details class="strategy" open>', page)) == 1
    assert len(re.findall(r'<details class="strategy"', page)) == 2


def test_a_comparison_says_who_is_better_or_that_nobody_can_tell(report: ReportInput) -> None:
    starts = pd.DatetimeIndex(report.folds["test_start"])
    assert report.comparison is not None
    spec = report.backtests[1].told["spec"]
    known = {"spa_p": 0.031, "spa_p_lower": 0.02, "spa_p_upper": 0.04, "superior": [spec]}
    said = trading((), starts, report.evaluation, {**report.comparison, **known})["compared"]
    assert "p\N{NO-BREAK SPACE}0.031" in said[0]
    assert said[1].endswith(f"(StepM): {spec}.")
    unknown = dict.fromkeys(known)
    (said,) = trading((), starts, report.evaluation, {**report.comparison, **unknown})["compared"]
    assert "too few bars" in said


# --- the first figure ---


def test_the_first_figure_draws_every_account_and_links_to_its_numbers(report: ReportInput, page: str) -> None:
    section = page[page.index('<h2 id="equity">') : page.index('<h2 id="protocol">')]
    other = report.backtests[1]
    ends = f"Other strategies, in their order: {other.equity.iloc[-1] / other.equity.iloc[0]:.2f}."
    assert section.count(ends) == 2
    assert "var(--account2)" in section
    for place, one in enumerate(report.backtests, start=1):
        assert f'<a href="#strategy-{place}">{one.name}</a>' in section
        assert page.count(f'id="strategy-{place}"') == 1


@pytest.mark.usefixtures("undrawn_figures")
def test_accounts_beyond_a_handful_are_named_and_not_drawn(report: ReportInput) -> None:
    many = tuple(changed(report.backtests[1], strategy=f"rule_{place}") for place in range(DRAWN + 2))
    told = trading(many, pd.DatetimeIndex([]), report.evaluation, None)["strategies"]
    assert [one["colour"] is None for one in told] == [False] * DRAWN + [True] * 2
    words = words_of(render(replace(report, backtests=many, comparison=None)), "equity")
    equity = words[: words.index("How it was tested")]
    assert equity.count("not drawn here") == 2
    assert f"rule_{DRAWN + 1}" in equity


@pytest.mark.usefixtures("undrawn_figures")
def test_more_invested_than_decided_is_explained(report: ReportInput) -> None:
    def trading_of(one: StrategyReport) -> dict[str, Any]:
        (told,) = trading([one], pd.DatetimeIndex([]), report.evaluation, None)["strategies"]
        return dict(told)

    one = report.backtests[0]
    for exposure, swollen in ((1.247, True), (1.0, False), (None, False)):
        metrics = {**one.metrics, "exposure": exposure}
        told = trading_of(changed(one, metrics=metrics))["swollen"]
        assert (told is not None) == swollen
    held = changed(one, metrics={**one.metrics, "exposure": 1.247})
    assert "On average 124.7% of the account was invested" in trading_of(held)["swollen"]
    banded = changed(held, account={**held.told["account"], "band": 0.05})
    assert "leaves the band" in trading_of(banded)["swollen"]
    borrowed = changed(held, account={**held.told["account"], "leverage": 2.0})
    assert trading_of(borrowed)["swollen"] is None


# --- warnings ---


@pytest.mark.usefixtures("undrawn_figures")
def test_a_page_warns_of_what_makes_its_numbers_worth_little(report: ReportInput, page: str) -> None:
    one = report.backtests[0]
    account = {**one.told["account"], "delay": 0}
    bad = changed(one, account=account, ruined="2012-05-04 00:00:00+00:00", forecast_covered_share=0.99)
    words = words_of(render(replace(report, backtests=(bad,), comparison=None)), "equity")
    assert "Nobody can make these trades." in words
    assert "The account was ruined on 2012-05-04." in words
    assert "RUINED" in words
    assert "A strategy that needs one is flat in the rest" not in words
    plain = words_of(page)
    assert "Forecasts cover 48.2% of the decisions. A strategy that needs one is flat in the rest" in plain
    assert "Nobody can make" not in plain
    assert "ruined" not in plain.lower()


@pytest.mark.usefixtures("undrawn_figures")
def test_names_from_outside_are_escaped(report: ReportInput) -> None:
    one = report.backtests[0]
    told = {"strategy": EVIL, "spec": EVIL, "params": {EVIL: EVIL}, "engine": EVIL}
    regimes = [row | {"regime": EVIL} for row in one.told["regimes"]]
    assert one.positions is not None
    held = one.positions.assign(symbol=EVIL, reason=EVIL)
    evil = replace(changed(one, **told, regimes=regimes, cost_curve=[], delay_curve=[]), positions=held)
    assert report.comparison is not None
    lead = next(iter(report.comparison["sharpe_difference"].values()))
    comparison = {**report.comparison, "sharpe_difference": {EVIL: lead}, "superior": [EVIL], "spa_p": 0.01}
    comparison |= {"spa_p_lower": 0.01, "spa_p_upper": 0.01}
    page = render(replace(report, backtests=(evil, evil), comparison=comparison))
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;") > 20


def test_backtests_of_an_older_version_are_refused_by_what_they_lack(reports: list[StrategyReport]) -> None:
    told = dict(reports[0].told)
    check_told(told)
    del told["cost_curve"], told["engine"]
    with pytest.raises(DataError, match="engine, cost_curve"):
        check_told(told)


# --- stretches ---


def test_the_months_of_a_year_compound_to_it() -> None:
    months = dict.fromkeys(map(str, range(1, 13))) | {"3": 0.10, "4": -0.50}
    drawn = backtest_tables.months([{"year": 2020, **months}])
    assert drawn is not None
    name, row = drawn.rows[0]
    assert (name, len(row)) == ("2020", 13)
    assert [cell.text for cell in row] == ["", "", "+10.0", "\N{MINUS SIGN}50.0", *[""] * 8, "\N{MINUS SIGN}45.0"]
    assert [cell.level for cell in row[2:4]] == [1, -4]
    wild = backtest_tables.months([{"year": 2020, **months, "4": 1.5}])
    assert wild is not None
    assert wild.rows[0][1][3].text == "+150"
    assert backtest_tables.months([]) is None


def test_a_drawdown_that_goes_on_has_no_recovery() -> None:
    fall = {"peak": "2020-01-02T00:00:00.000Z", "trough": "2020-01-03T05:00:00.000Z", "recovery": None, "depth": 0.25}
    table = backtest_tables.drawdowns([fall | {"bars_down": 1, "bars_up": 1200, "bars": 1201}])
    assert table is not None
    assert cells(table) == [["25.0%", "2020-01-02", "2020-01-03 05:00", "not yet", "1", "1,200", "1,201"]]


# --- figures ---


def test_a_cost_curve_says_in_words_what_it_draws(reports: list[StrategyReport]) -> None:
    points = reports[0].told["cost_curve"]
    drawn = backtest_figures.cost(points, 3.0, "c")
    assert drawn is not None
    assert f"50 bp {number(points[-1]['sharpe'], 'ratio')}. 3 bp are assumed." in drawn
    # Only a cost that lies on the curve is marked.
    marked = drawn.count("stroke-dasharray")
    beyond = backtest_figures.cost(points, 80.0, "c")
    assert beyond is not None
    assert beyond.count("stroke-dasharray") == marked - 1
    assert backtest_figures.cost(points[:1], 3.0, "c") is None
    assert "nan" not in drawn


def test_a_delay_curve_says_which_delay_cannot_be_traded(reports: list[StrategyReport]) -> None:
    one = reports[0]
    points = one.told["delay_curve"]
    drawn = backtest_figures.delay(points, 1, one.metrics["sharpe"], "d")
    assert drawn is not None
    assert f"0 bars {number(points[0]['sharpe'], 'ratio')}, which cannot be traded; 1 bars" in drawn
    assert "not tradable" in drawn
    assert "nan" not in drawn
    assert backtest_figures.delay(points[1:], 1, None, "d") is not None
    assert backtest_figures.delay(points[:1], 1, None, "d") is None


# --- what was assumed ---


@pytest.mark.parametrize(
    ("account", "said"),
    [
        (
            BacktestConfig(),
            "1 bp fees and 1 bp slippage per fill; decided at a close, filled at the open 1 bar later",
        ),
        (
            BacktestConfig(
                costs=CostConfig(
                    fees_bps=0,
                    slippage_bps=2.5,
                    fixed_fee=1,
                    min_fee=2,
                    borrow_bps=50,
                    margin_bps=300,
                    funding_bps=-0.1,
                ),
                fill="close",
                delay=2,
                leverage=1.5,
                band=0.05,
                exits=ExitConfig(target=True, stop_quantile=0.1),
            ),
            "2.5 bp slippage and a fixed fee of 1 in money and no less than 2 in money of fees per fill; "
            "50 bp per year on what is sold short; 300 bp per year on borrowed money; "
            "funding of -0.1 bp per bar from long to short positions; "
            "decided at a close, filled at the close 2 bars later; at most 1.5 times the account in the market; "
            "traded back to the decided weight when farther off than 5% of the account; "
            "closed within a bar at the best price of the forecast path; "
            "stopped within a bar at the 10% quantile of the forecast path",
        ),
        (
            BacktestConfig(costs=CostConfig(fees_bps=0, slippage_bps=0), fill="close", delay=0),
            "nothing per fill; decided and filled at the same close, which nobody can do",
        ),
    ],
    ids=["default", "all of it", "free and impossible"],
)
def test_costs_are_told_as_far_as_there_are_any(account: BacktestConfig, said: str) -> None:
    assert costs_assumed(account) == said

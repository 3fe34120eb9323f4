"""Commands that try strategies on a run: backtest, sweep, explain."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from qtrade.cli_app import App
from qtrade.cli_options import RUNS, DryRunOption, JsonOption, RunArgument, RunsOption, StrategiesOption, StrategyOption
from qtrade.errors import UsageError
from qtrade.terminal import (
    count,
    make_table,
    note,
    number,
    out,
    print_json,
    print_numbers,
    print_path,
    print_plain,
    progress_bars,
)

if TYPE_CHECKING:
    from qtrade.pipeline.backtest import Backtests

backtest_app = App()

DelayOption = Annotated[
    int | None, typer.Option("--delay", help="Bars from a decision to its fill.", show_default=False)
]
FillOption = Annotated[
    str | None, typer.Option("--fill", help="Price of a bar that fills: open or close.", show_default=False)
]
AccountOption = Annotated[
    list[str] | None,
    typer.Option("--account", help="A setting of the account, as costs.borrow_bps=50. Repeatable.", show_default=False),
]
_HASTY = "Filled at the very close that decides: nobody can do that."
NEARLY_ALL = 0.99
"""Share of decisions with a forecast below which the rest is worth a word."""


@backtest_app.command()
def backtest(
    run_name: RunArgument,
    strategy: StrategiesOption = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter of the strategy, as threshold=0.01. Repeatable.")
    ] = None,
    delay: DelayOption = None,
    fill: FillOption = None,
    account: AccountOption = None,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Backtest strategies on the forecasts of a run.

    They are compared with one another and with buy-and-hold.

    Example: qtrade backtest quick -s path_momentum -s "vol_target(base=tranches, target=0.1)"
    """
    from qtrade.config import parse_assignment
    from qtrade.pipeline.backtest import RuinedError, backtest_run, load_strategies
    from qtrade.runs import open_run, traded_otherwise

    params: dict[str, Any] = dict(parse_assignment(text) for text in settings or [])
    if params and len(strategy or []) != 1:
        raise UsageError("--set needs exactly one --strategy", why="a parameter belongs to one strategy")
    found = open_run(runs, run_name)
    config = traded_otherwise(found, _account(delay, fill, account))
    chosen = load_strategies(dict.fromkeys(strategy, params) if strategy else config.strategies)
    ruined = None
    with progress_bars() as progress:
        try:
            backtests = backtest_run(found, progress=progress, config=config, strategies=chosen)
        except RuinedError as error:
            ruined, backtests = error, error.backtests
        comparison = backtests.compare()
    if as_json:
        tested = [{**one.told, "luck": dict(one.luck), "folder": str(one.folder)} for one in backtests.tested]
        print_json({"backtests": tested, "comparison": comparison.to_dict()})
    else:
        _tell(backtests)
        if comparison.spa_p is not None:
            better = ", ".join(comparison.superior or ()) or "none"
            out.print(
                Text(
                    f"That none of them earns more than buy and hold: p = {comparison.spa_p:.2f} (SPA). "
                    f"Better by more than luck at 5% (StepM): {better}."
                )
            )
        for one in backtests.tested:
            print_path(one.folder)
        if config.backtest != found.config.backtest:
            note("the report leaves these out: it shows backtests with the account of the run", style="yellow")
        else:
            note(f"next: qtrade report {shlex.quote(run_name)} --open, which shows them beside the others")
    if ruined:
        raise ruined


@backtest_app.command()
def sweep(
    run_name: RunArgument,
    strategy: StrategyOption,
    param: Annotated[
        list[str],
        typer.Option("--param", "-p", help="What varies: threshold=0:0.01:0.001 or step=1,6,12. Repeatable."),
    ],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter that all variants share. Repeatable.")
    ] = None,
    delay: DelayOption = None,
    fill: FillOption = None,
    account: AccountOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Try all combinations of some parameters.

    Says what is left of the best once luck is taken away.

    Example: qtrade sweep quick -s forecast_sign -p threshold=0:0.01:0.001 -p long_only=true,false
    """
    from qtrade.config import parse_assignment
    from qtrade.pipeline.axes import parse_axis
    from qtrade.pipeline.sweep import sweep_run
    from qtrade.runs import open_run, traded_otherwise
    from qtrade.strategy import load_strategy, strategy_folders

    params: dict[str, Any] = dict(parse_assignment(text) for text in settings or [])
    axes = [parse_axis(text) for text in param]
    if both := [axis.name for axis in axes if axis.name in params]:
        raise UsageError(f"'{both[0]}' is both set and varied", fix="leave out either its --set or its --param")
    found = open_run(runs, run_name)
    config = traded_otherwise(found, _account(delay, fill, account))
    loaded = load_strategy(strategy, params, strategy_folders())
    if dry_run:
        from qtrade.pipeline.plan_sweep import plan_sweep

        plan = plan_sweep(found, loaded, axes, config=config)
        if as_json:
            print_json(plan.to_dict())
        else:
            print_plain("\n".join(plan.lines()))
        return
    with progress_bars() as progress:
        made = sweep_run(found, loaded, axes, progress=progress, config=config)
    if as_json:
        print_json(made.told)
        return
    _tell_sweep(made.told)
    for name in ("sweep.html", "variants.csv"):
        print_path(made.folder / name)


@backtest_app.command()
def explain(
    run_name: RunArgument,
    strategy: Annotated[str, typer.Option("--strategy", "-s", help="Name or spec of a strategy that was backtested.")],
    trade: Annotated[int, typer.Option("--trade", help="Number of the fill, from 1.")],
    delay: DelayOption = None,
    fill: FillOption = None,
    account: AccountOption = None,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Follow one trade from the forecast to what came of it.

    Example: qtrade explain quick -s forecast_sign --trade 1
    """
    from qtrade.pipeline.explain import explain_trade
    from qtrade.pipeline.saved import find_backtest
    from qtrade.report.explain import draw_trade
    from qtrade.report.explanation_lines import lines
    from qtrade.runs import open_run, traded_otherwise

    found = open_run(runs, run_name)
    config = traded_otherwise(found, _account(delay, fill, account))
    explanation = explain_trade(found, strategy, trade, config=config)
    picture = find_backtest(found, strategy, config).folder / f"trade-{trade}.png"
    draw_trade(explanation, picture)
    if as_json:
        print_json(explanation.to_dict())
    else:
        for line in lines(explanation):
            out.print(Text(line), soft_wrap=True)
        print_path(picture)


def backtest_table(
    backtests: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]], buy_and_hold: Mapping[str, Any] | None
) -> None:
    """Print some backtests and buy-and-hold below one another, with parameters where a name alone is ambiguous.

    Parameters
    ----------
    backtests
        Name, parameters and metrics of each; of the latter `dsr_probability` and `trials` may be there, too.
    """
    tried = next((values["trials"] for _, _, values in backtests if values.get("trials")), 0)
    ratio = "Sharpe ratio\n95% interval" + (f"\nof {count(tried, 'trial')}" if tried else "")
    table = make_table("strategy")
    for title in ("gross\n%/yr", "cost\n%/yr", "net\n%/yr", "total\n%", ratio, "DSR", "fall\n%", "fills"):
        table.add_column(title, justify="right", no_wrap=True)
    seen = Counter(name for name, _, _ in backtests)
    for name, params, values in [*backtests, *([("buy and hold", {}, buy_and_hold)] if buy_and_hold else [])]:
        told = [f"  {key}={value}" for key, value in params.items()] if seen[name] > 1 else []
        table.add_row(
            Text("\n".join([name, *told])),
            number(values["gross_annual_return"], percent=True),
            number(values["cost_annual"], percent=True),
            number(values["net_annual_return"], percent=True),
            f"{100 * values['total_return']:.1f}",
            _with_interval(values["sharpe"], values["sharpe_low"], values["sharpe_high"]),
            number(values.get("dsr_probability")),
            f"{100 * values['max_drawdown']:.1f}",
            f"{values['trades']:,.0f}",
        )
    print_numbers(table)


def _account(delay: int | None, fill: str | None, account: list[str] | None) -> list[str]:
    """Put the options about the account together; the short ones win."""
    given = [one.strip().removeprefix("backtest.") for one in account or []]
    if delay is not None:
        given.append(f"delay={delay}")
    if fill is not None:
        given.append(f"fill={fill}")
    return given


def _tell(backtests: Backtests) -> None:
    """Print backtests as a table, and what a reader must know beside it."""
    first = backtests.tested[0].told
    rows = [
        (
            one.told["strategy"] + (", ruined" if one.told["ruined"] else ""),
            one.told["params"],
            {**one.told["metrics"], **one.luck},
        )
        for one in backtests.tested
    ]
    backtest_table(rows, first["buy_and_hold"])
    for one in backtests.tested:
        if one.told["metrics"]["trades"] == 0:
            out.print(Text(f"{one.told['strategy']} never traded: all its weights are 0, or too small to fill."))
    _tell_gaps(first["forecast_covered_share"])
    if backtests.account.delay == 0:
        out.print(Text(_HASTY))
    out.print(Text(f"Simulated by vectorbt ({first['engine']})."))


def _tell_sweep(told: Mapping[str, Any]) -> None:
    """Print what a sweep found, the best last and with what is left of it."""
    best, luck, ahead = told["best"], told["luck"], told["walk_forward"]
    if best["sharpe"] is None:
        out.print(Text(f"None of the {told['variants']:,} variants of {told['strategy']} ever traded."))
        return
    params = ", ".join(f"{name}={value}" for name, value in best["params"].items())
    lines = [
        f"{told['variants']:,} variants of {told['strategy']} on {told['bars']:,} bars",
        f"best: {params}; Sharpe ratio {_with_interval(best['sharpe'], best['sharpe_low'], best['sharpe_high'])}, "
        f"median {number(told['median_sharpe'])}, buy and hold {number(told['buy_and_hold']['sharpe'])}",
        f"the luckiest of {luck['trials']:,} useless trials would show {number(luck['expected_best_sharpe'])}; "
        f"that the best is better: {number(luck['dsr_probability'])} (DSR)",
    ]
    lines[1:1] = _passed_over(told)
    if told["pbo_share"] is not None:
        lines.append(f"the best is below the median in other bars with probability {told['pbo_share']:.2f} (PBO)")
    if ahead is not None:
        ratio = _with_interval(ahead["sharpe"], ahead["sharpe_low"], ahead["sharpe_high"])
        lines.append(
            f"chosen afresh for each of {len(ahead['blocks'])} blocks from the bars before it: Sharpe ratio {ratio}, "
            f"better than {ahead['mean_rank_share']:.0%} of the variants in its block (50% is blind choice)"
        )
    lines.append(
        f"{told['audited']} variants, the best included, passed the look-ahead audit and came out the same in "
        f"vectorbt ({told['engine']})"
    )
    for line in lines:
        out.print(Text(line), soft_wrap=True)
    _tell_gaps(told["forecast_covered_share"])
    if told["delay"] == 0:
        out.print(Text(_HASTY))


def _passed_over(told: Mapping[str, Any]) -> list[str]:
    """Say how many variants of a sweep cannot be judged, unless all can."""
    from qtrade.backtest.metrics import FEW

    few = f"{'rests' if told['too_few_bars'] == 1 else 'rest'} on {FEW} bars or fewer"
    kinds = {"never_traded": "never traded", "too_few_bars": few, "ruined": "ruined the account"}
    said = ", ".join(f"{told[name]:,} {words}" for name, words in kinds.items() if told[name])
    if not said:
        return []
    highest = told["highest_sharpe_passed_over"]
    if highest is None:
        return [f"of these, {said}"]
    return [f"of these, {said}: too little to be judged, though a Sharpe ratio of {number(highest)} is among them"]


def _tell_gaps(covered: float) -> None:
    """Say how many decisions lack a forecast, unless there are hardly any."""
    if covered < NEARLY_ALL:
        out.print(Text(f"Forecasts cover {covered:.0%} of the decisions; a strategy that needs one is flat elsewhere."))


def _with_interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return number(value) if low is None else f"{number(value)} [{number(low)}, {number(high)}]"

"""What an account was assumed to pay and to be allowed, in words."""

from __future__ import annotations

from qtrade.backtest.costs import BacktestConfig, CostConfig


def costs_assumed(account: BacktestConfig) -> str:
    """Say what trading was assumed to cost and when orders were filled; what the account does not know is left out."""
    return "; ".join((*_charges(account.costs), _filling(account), *_limits(account)))


def _charges(costs: CostConfig) -> list[str]:
    per_fill = [
        (costs.fees_bps, f"{costs.fees_bps:g} bp fees"),
        (costs.slippage_bps, f"{costs.slippage_bps:g} bp slippage"),
        (costs.fixed_fee, f"a fixed fee of {costs.fixed_fee:g} in money"),
        (costs.min_fee, f"no less than {costs.min_fee:g} in money of fees"),
    ]
    charged = " and ".join(text for amount, text in per_fill if amount)
    holding = [
        (costs.borrow_bps, f"{costs.borrow_bps:g} bp per year on what is sold short"),
        (costs.margin_bps, f"{costs.margin_bps:g} bp per year on borrowed money"),
        (costs.funding_bps, f"funding of {costs.funding_bps:g} bp per bar from long to short positions"),
    ]
    return [f"{charged} per fill" if charged else "nothing per fill", *(text for amount, text in holding if amount)]


def _filling(account: BacktestConfig) -> str:
    if account.delay == 0:
        return "decided and filled at the same close, which nobody can do"
    return (
        f"decided at a close, filled at the {account.fill} {account.delay} bar{'s' if account.delay > 1 else ''} later"
    )


def _limits(account: BacktestConfig) -> list[str]:
    said = []
    if account.leverage != 1:
        said.append(f"at most {account.leverage:g} times the account in the market")
    if account.band is not None:
        said.append(f"traded back to the decided weight when farther off than {100 * account.band:g}% of the account")
    if account.exits.target:
        said.append("closed within a bar at the best price of the forecast path")
    if account.exits.stop_quantile is not None:
        said.append(f"stopped within a bar at the {100 * account.exits.stop_quantile:g}% quantile of the forecast path")
    return said

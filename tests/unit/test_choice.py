"""Choosing among variants from the past alone, held against the obvious loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrade.backtest.choice import choose_ahead
from qtrade.backtest.metrics import FEW
from qtrade.types import Float64Array


def returns(seed: int, bars: int, variants: int) -> Float64Array:
    net: Float64Array = np.random.default_rng(seed).normal(0.0003, 0.01, (bars, variants))
    return net


def ratio(net: Float64Array) -> float:
    """Sharpe ratio per bar; 0 for an account that stands still."""
    return float(net.mean() / net.std(ddof=1)) if np.ptp(net) else 0.0


def handful(net: Float64Array) -> bool:
    """Whether so few bars make up the variance that the ratio says nothing."""
    apart = net - net.mean()
    return bool(np.ptp(net)) and (apart**2).sum() ** 2 / (apart**4).sum() <= FEW


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(40, 300), st.integers(2, 12), st.integers(2, 8))
def test_the_choice_is_that_of_a_loop_over_blocks(seed: int, bars: int, variants: int, blocks: int) -> None:
    net = returns(seed, bars, variants)
    net[:, -1] = 0.0  # a variant that never trades
    net[3:, 0] *= 1e-3  # one that three bars make
    found = choose_ahead(net, blocks)
    if bars // blocks < 20:
        assert found is None
        return
    assert found is not None
    starts = [bars * block // blocks for block in range(blocks + 1)]
    assert found.starts.tolist() == starts
    for row, block in enumerate(range(1, blocks)):
        past = [ratio(net[: starts[block], variant]) for variant in range(variants)]
        inside = [ratio(net[starts[block] : starts[block + 1], variant]) for variant in range(variants)]
        chosen = max(range(variants), key=lambda variant: (not handful(net[: starts[block], variant]), past[variant]))
        others = [inside[variant] for variant in range(variants) if variant != chosen]
        assert found.chosen[row] == chosen
        assert found.before[row] == pytest.approx(past[chosen], rel=1e-9)
        assert found.inside[row] == pytest.approx(inside[chosen], rel=1e-9)
        assert found.best[row] == pytest.approx(max(inside), rel=1e-9)
        beaten = sum(1.0 if other < inside[chosen] else 0.5 if other == inside[chosen] else 0.0 for other in others)
        assert found.rank[row] == pytest.approx(beaten / len(others))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 7))
def test_no_later_return_moves_an_earlier_choice(seed: int, block: int) -> None:
    net = returns(seed, 180, 6)
    before = choose_ahead(net)
    assert before is not None
    poisoned = net.copy()
    first = before.starts[block]
    poisoned[first:] = 0.5 * np.random.default_rng(seed).standard_normal((180 - first, 6))
    after = choose_ahead(poisoned)
    assert after is not None
    # Choice number `block - 1` is of the block that begins where the poison does.
    assert after.chosen[:block].tolist() == before.chosen[:block].tolist()
    assert after.before[:block].tolist() == before.before[:block].tolist()
    assert after.inside[: block - 1].tolist() == before.inside[: block - 1].tolist()
    assert after.rank[: block - 1].tolist() == before.rank[: block - 1].tolist()


def test_ranks_by_hand_with_ties_counting_half() -> None:
    up, down, still = np.tile([0.02, 0.0], 10), np.tile([-0.02, 0.0], 10), np.zeros(20)
    # The first variant is best at first; then it ties with the second, and beats one of the other two.
    net = np.column_stack([np.r_[up, up], np.r_[still, up], np.r_[down, 2 * up + 0.01], np.r_[down, down]])
    found = choose_ahead(net, 2)
    assert found is not None
    assert found.chosen.tolist() == [0]
    assert found.rank.tolist() == pytest.approx([(1 + 0.5) / 3])
    assert found.best[0] > found.inside[0]


def test_all_alike_rank_in_the_middle() -> None:
    found = choose_ahead(np.repeat(returns(3, 160, 1), 5, axis=1))
    assert found is not None
    assert found.rank.tolist() == [0.5] * 7


@pytest.mark.parametrize(("bars", "variants", "blocks"), [(159, 4, 8), (39, 4, 2), (1000, 1, 8), (0, 3, 8)])
def test_too_short_or_too_few_give_nothing(bars: int, variants: int, blocks: int) -> None:
    assert choose_ahead(returns(0, bars, variants), blocks) is None
    assert choose_ahead(returns(0, max(bars, 20 * blocks), max(variants, 2)), blocks) is not None


def test_choosing_among_useless_variants_is_blind() -> None:
    generator = np.random.default_rng(11)
    ranks = []
    for _ in range(300):
        found = choose_ahead(generator.standard_normal((160, 20)))
        assert found is not None
        ranks.append(found.rank.mean())
    # A uniform rank deviates by 0.29; seven of them in each of 300 markets leave an error of 0.006.
    assert np.mean(ranks) == pytest.approx(0.5, abs=0.025)


def test_a_variant_that_is_better_throughout_is_found_and_ranks_high() -> None:
    net = returns(5, 800, 20)
    net[:, 7] += 0.004
    found = choose_ahead(net)
    assert found is not None
    assert found.chosen.tolist() == [7] * 7
    assert found.rank.mean() > 0.9


def test_an_account_that_was_ruined_is_not_chosen_however_good_its_mean() -> None:
    net = returns(6, 160, 3)
    # A few great bars, a loss of all there was, and nothing ever after.
    net[:30, 1] = 0.3 + 0.1 * np.random.default_rng(0).standard_normal(30)
    net[30, 1], net[31:, 1] = -1.2, 0.0
    found = choose_ahead(net)
    assert found is not None
    assert found.chosen[0] == 1, "not ruined yet"
    assert 1 not in found.chosen[1:]
    assert net[:140, 1].mean() > net[:140, [0, 2]].mean(axis=0).max()
    # Where all are ruined one is chosen all the same.
    every = choose_ahead(np.repeat(net[:, [1]], 2, axis=1))
    assert every is not None
    assert every.chosen.tolist() == [0] * 7

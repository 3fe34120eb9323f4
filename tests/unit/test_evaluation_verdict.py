from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from qtrade.evaluation.scores import Comparison, Correlation
from qtrade.evaluation.skill import HorizonSkill
from qtrade.evaluation.verdict import verdict

USELESS = Comparison(r2=-0.001, r2_low=-0.01, r2_high=0.008, p=0.6, p_holm=1.0)
BETTER = Comparison(r2=0.021, r2_low=0.01, r2_high=0.03, p=0.002, p_holm=0.004)
WORSE = Comparison(r2=-0.052, r2_low=-0.08, r2_high=-0.03, p=0.001, p_holm=0.002)
POSITIVE = Correlation(ic=0.15, low=0.06, high=0.24, p=0.001, rank=0.14)
AROUND_ZERO = Correlation(ic=0.01, low=-0.05, high=0.07, p=0.7, rank=0.0)


def at(
    horizon: int,
    vs_zero: Comparison = USELESS,
    vs_drift: Comparison | None = None,
    correlation: Correlation | None = AROUND_ZERO,
) -> HorizonSkill:
    return HorizonSkill(
        horizon=horizon,
        origins=1_000,
        n_eff=1_000 / horizon,
        vs_zero=vs_zero,
        vs_drift=vs_drift or replace(vs_zero, r2=vs_zero.r2 + 0.001),
        correlation=correlation,
        right_direction=0.51,
        up_share=0.55,
        mae=0.01,
        rmse=0.013,
        naive_mae=0.01,
        naive_rmse=0.013,
        coverage80=0.79,
        detectable_ic=0.05 * horizon,
    )


def test_beating_both_naive_forecasts_with_a_positive_ic_passes() -> None:
    found = verdict([at(1), at(6, BETTER, correlation=POSITIVE)])
    assert (found.headline, found.horizon) == ("PASS", 6)
    assert "6 bars ahead" in found.line
    assert "2.1% smaller" in found.line


def test_beating_only_the_weaker_naive_forecast_does_not_pass() -> None:
    assert verdict([at(6, BETTER, USELESS, POSITIVE)]).headline == "INCONCLUSIVE"
    assert verdict([at(6, USELESS, BETTER, POSITIVE)]).headline == "INCONCLUSIVE"


def test_a_gain_that_only_one_naive_forecast_concedes_does_not_pass() -> None:
    # The harder of the two by R2 is beaten for certain, the other only in a wide interval.
    wide = replace(BETTER, r2=0.03, r2_low=-0.02, p=0.2, p_holm=0.2)
    assert verdict([at(6, BETTER, wide, POSITIVE)]).headline == "INCONCLUSIVE"
    assert verdict([at(6, wide, BETTER, POSITIVE)]).headline == "INCONCLUSIVE"


def test_the_larger_p_value_of_the_two_is_adjusted_for_the_horizons() -> None:
    # Each comparison alone keeps 0.04 at both horizons; the larger of the two is 0.04 twice, and becomes 0.08.
    sure, unsure = (replace(BETTER, p=p, p_holm=0.04) for p in (0.02, 0.04))
    found = verdict([at(1, sure, unsure, POSITIVE), at(6, unsure, sure, POSITIVE)])
    assert found.headline == "INCONCLUSIVE"
    assert all("better than both with adjusted p 0.080" in reason for reason in found.reasons)


@pytest.mark.parametrize("loses_to", ["no change", "the average drift"])
def test_significantly_worse_than_either_fails_and_names_it(loses_to: str) -> None:
    # The other one has the lower R2, but too wide an interval to count.
    wide = replace(WORSE, r2=-0.2, r2_low=-0.6, r2_high=0.2, p=0.3, p_holm=0.3)
    one = at(6, WORSE, wide) if loses_to == "no change" else at(6, wide, WORSE)
    found = verdict([at(1), one])
    assert (found.headline, found.horizon) == ("FAIL", 6)
    assert f"5.2% larger than when assuming {loses_to}, more" in found.line


def test_losing_to_one_naive_forecast_and_beating_the_other_fails() -> None:
    found = verdict([at(6, BETTER, WORSE, POSITIVE)])
    assert (found.headline, found.horizon) == ("FAIL", 6)
    assert "the average drift" in found.line
    assert "no change" in found.reasons[0]


def test_losing_counts_the_horizons_of_its_own_comparison() -> None:
    nearly = replace(WORSE, p=0.02, p_holm=0.06)
    assert verdict([at(1), at(6, USELESS, nearly), at(24)]).headline == "INCONCLUSIVE"


@pytest.mark.parametrize("harder", ["no change", "the average drift"])
def test_a_pass_names_the_naive_forecast_that_was_harder_to_beat(harder: str) -> None:
    easy = replace(BETTER, r2=0.3)
    one = at(6, BETTER, easy, POSITIVE) if harder == "no change" else at(6, easy, BETTER, POSITIVE)
    assert f"2.1% smaller than when assuming {harder}, more" in verdict([one]).line


def test_a_smaller_error_without_a_positive_ic_does_not_pass() -> None:
    assert verdict([at(6, BETTER, correlation=AROUND_ZERO)]).headline == "INCONCLUSIVE"
    assert verdict([at(6, BETTER, correlation=None)]).headline == "INCONCLUSIVE"


def test_the_number_of_horizons_counts() -> None:
    nearly = replace(BETTER, p=0.02)
    assert verdict([at(6, nearly, correlation=POSITIVE)]).headline == "PASS"
    assert verdict([at(1), at(6, nearly, correlation=POSITIVE), at(24)]).headline == "INCONCLUSIVE"


def test_significantly_worse_fails_and_says_by_how_much() -> None:
    found = verdict([at(1), at(12), at(24, WORSE)])
    assert (found.headline, found.horizon) == ("FAIL", 24)
    assert "worse than a naive one 24 bars ahead" in found.line
    assert "5.2% larger" in found.line
    assert "no change" in found.line


def test_a_pass_admits_the_horizons_at_which_the_model_is_worse() -> None:
    found = verdict([at(1, WORSE), at(6, BETTER, correlation=POSITIVE)])
    assert found.headline == "PASS"
    assert "but 1 bar ahead they are worse" in found.line


def test_inconclusive_names_what_the_data_could_have_shown() -> None:
    found = verdict([at(1), at(6), at(12)])
    assert (found.headline, found.horizon) == ("INCONCLUSIVE", None)
    assert "0.05 at 1 bar, or 0.60 at 12 bars" in found.line


def test_inconclusive_does_not_call_a_clear_correlation_luck() -> None:
    found = verdict([at(1), at(6, correlation=POSITIVE)])
    assert found.headline == "INCONCLUSIVE"
    assert "lean the right way 6 bars ahead" in found.line
    negative = Correlation(ic=-0.15, low=-0.24, high=-0.06, p=0.001, rank=-0.14)
    assert "from luck" in verdict([at(1), at(6, correlation=negative)]).line


def test_forecasts_that_never_vary_have_nothing_to_judge() -> None:
    same = Comparison(r2=0.0, r2_low=0.0, r2_high=0.0, p=1.0, p_holm=1.0)
    found = verdict([at(1, same, correlation=None), at(6, same, correlation=None)])
    assert found.headline == "INCONCLUSIVE"
    assert "never vary" in found.line


def test_too_short_a_test_is_inconclusive() -> None:
    found = verdict([])
    assert found.headline == "INCONCLUSIVE"
    assert "too short" in found.line


@pytest.mark.parametrize("horizons", [(1,), (1, 6, 24)])
def test_there_is_one_reason_per_horizon_and_all_of_it_is_plain(horizons: tuple[int, ...]) -> None:
    found = verdict([at(horizon) for horizon in horizons])
    assert [reason.split(" ahead")[0] for reason in found.reasons] == [
        f"{horizon} {'bar' if horizon == 1 else 'bars'}" for horizon in horizons
    ]
    assert json.loads(json.dumps(asdict(found)))["headline"] == "INCONCLUSIVE"
    assert found.line.endswith(".")
    assert found.line.count(". ") == 0

"""The axes of a sweep: which values a text stands for, and every combination of them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtrade.errors import UsageError
from qtrade.pipeline.axes import MOST, Axis, combinations, parse_axis


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("x=1:4:1", (1, 2, 3, 4)),
        ("x=4:1:-1", (4, 3, 2, 1)),
        ("x=-2:2:2", (-2, 0, 2)),
        ("x=0.1:0.3:0.1", (0.1, 0.2, 0.3)),
        ("x=1:2:0.5", (1.0, 1.5, 2.0)),
        ("x=0.3:0.1:-0.1", (0.3, 0.2, 0.1)),
        ("x=0:10:4", (0, 4, 8)),  # the end is left out where no step meets it
        ("x=7:7:1", (7,)),
        ("x=1e-3:3e-3:1e-3", (0.001, 0.002, 0.003)),
        ("x= 1 : 3 : 1 ", (1, 2, 3)),
        ("x=6,1,24", (6, 1, 24)),
        ("x=5", (5,)),
        ("x=-1,0.5,1e-3", (-1, 0.5, 0.001)),
        ("x=true,False", (True, False)),
        ("x=portfolio, market", ("portfolio", "market")),
        ("x=a:b", ("a:b",)),
    ],
)
def test_a_span_counts_both_ends_and_a_list_is_taken_as_it_stands(text: str, values: tuple[object, ...]) -> None:
    found = parse_axis(text).values
    assert found == values
    assert [type(one) for one in found] == [type(one) for one in values]


def test_a_span_is_counted_in_decimal() -> None:
    assert parse_axis("threshold=0:0.01:0.001").values == (
        0.0, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008, 0.009, 0.01,
    )  # fmt: skip


@given(st.integers(-500, 500), st.integers(1, 60), st.integers(1, 99), st.integers(0, 6), st.booleans())
def test_any_span_is_what_its_decimals_say(first: int, many: int, step: int, places: int, down: bool) -> None:
    def written(number: int) -> str:
        return str(Decimal(number).scaleb(-places))

    step = -step if down else step
    text = ":".join(map(written, (first, first + (many - 1) * step, step)))
    assert [Decimal(str(one)) for one in parse_axis(f"x={text}").values] == [
        Decimal(written(first + k * step)) for k in range(many)
    ]


@pytest.mark.parametrize("name", ["base.step", "of.0.threshold"])
def test_a_name_may_lead_into_a_nested_strategy(name: str) -> None:
    assert parse_axis(f" {name} =1,2") == Axis(name, (1, 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("threshold", "does not name a parameter and its values"),
        ("=1,2", "does not name a parameter and its values"),
        ("x=", "does not name a parameter and its values"),
        ("x=0:a:1", "is not a span of numbers with a step"),
        ("x=0:1:0", "is not a span of numbers with a step"),
        ("x=0:0:0", "is not a span of numbers with a step"),
        ("x=0:inf:1", "is not a span of numbers with a step"),
        ("x=0:nan:1", "is not a span of numbers with a step"),
        ("x=0:1:nan", "is not a span of numbers with a step"),
        ("x=0:1:-0.1", "leads from 0 to 1 in -10 steps of -0.1"),
        ("x=1:0:0.1", "leads from 1 to 0 in -10 steps of 0.1"),
        ("x=0:1:1e-9", "leads from 0 to 1 in 1e+09 steps"),
        ("x=1:24", "is a span without a step"),
        ("x=1,2,1", "has the value 1 more than once"),
        ("x=1,1.0", "has the value 1 more than once"),
        ("x=up,up", "has the value up more than once"),
        (f"x={','.join(['0', *map(str, range(2000))])}", "has the value 0 more than once"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_axis(text)
    assert text.strip() in caught.value.what
    assert message in caught.value.what
    assert caught.value.fix
    assert text.startswith("=") or "threshold" in text or "threshold=" not in caught.value.fix  # an example of yours


def test_a_span_without_a_step_is_told_what_to_write() -> None:
    with pytest.raises(UsageError) as caught:
        parse_axis("rise=0:1")
    assert caught.value.fix == "write rise=0:1:STEP, or rise=1,6,12,24 for a list"


def test_combinations_are_complete_and_the_last_axis_is_fastest() -> None:
    axes = [Axis("base.step", (1, 6)), Axis("long_only", (False, True)), Axis("q", (0.1,))]
    assert combinations(axes) == [
        {"base.step": 1, "long_only": False, "q": 0.1},
        {"base.step": 1, "long_only": True, "q": 0.1},
        {"base.step": 6, "long_only": False, "q": 0.1},
        {"base.step": 6, "long_only": True, "q": 0.1},
    ]


def test_no_axis_and_two_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one --param"):
        combinations([])
    with pytest.raises(UsageError, match="--param step is given twice"):
        combinations([Axis("step", (1, 2)), Axis("q", (0.1,)), Axis("step", (3,))])


def test_more_combinations_than_fit_are_refused_before_any_is_made() -> None:
    many = tuple(range(MOST // 2))
    assert len(combinations([Axis("x", many), Axis("y", (0, 1))])) == MOST
    with pytest.raises(UsageError, match=r"150,000 combinations, more than 100,000") as caught:
        combinations([Axis("x", many), Axis("y", (0, 1, 2))])
    assert "fooled by luck" in caught.value.why
    with pytest.raises(UsageError, match="combinations"):
        combinations([Axis(name, many) for name in "abcdefgh"])

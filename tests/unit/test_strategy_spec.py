"""Reading the line by which a strategy is asked for, and the values of its parameters."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrade.errors import UsageError
from qtrade.strategy_spec import (
    SpecValue,
    StrategySpec,
    as_spec,
    as_specs,
    convert,
    field_docs,
    parse_spec,
    parse_specs,
    spec_text,
)

SIGN = StrategySpec("forecast_sign")


@pytest.mark.parametrize(
    "text",
    ["forecast_sign", "my/file.py", "../a b/my-file.2.py", "/x (copy)/mine.py", "my-strategy", "./mine", "C:\\a\\b.py"],
)
def test_a_name_or_a_path_is_taken_as_it_stands(text: str) -> None:
    assert parse_spec(text) == parse_spec(f"  {text} ") == StrategySpec(text)


@pytest.mark.parametrize(
    ("text", "name", "params"),
    [
        ("forecast_sign()", "forecast_sign", {}),
        ("forecast_sign(step=6, long_only=True)", "forecast_sign", {"step": 6, "long_only": True}),
        ("a(x=-1e-3, y=-2, z=.5,)", "a", {"x": -0.001, "y": -2, "z": 0.5}),
        ("'my/file.py'", "my/file.py", {}),
        ("'my file.py'(step=3)", "my file.py", {"step": 3}),
        ("../my-dir/file-2.py(step=3)", "../my-dir/file-2.py", {"step": 3}),
        ("my-strategy(side='short, or not')", "my-strategy", {"side": "short, or not"}),
        ("a(base=b)", "a", {"base": StrategySpec("b")}),
        ("a(base=/tmp/b.py(x=1))", "a", {"base": StrategySpec("/tmp/b.py", {"x": 1})}),
        ("a(base='my/b.py')", "a", {"base": "my/b.py"}),
        (
            "a(of=[b, 'c.py', d(x=1)])",
            "a",
            {"of": (StrategySpec("b"), StrategySpec("c.py"), StrategySpec("d", {"x": 1}))},
        ),
        ("a(of=(b, c))", "a", {"of": (StrategySpec("b"), StrategySpec("c"))}),
        ("a(of=[])", "a", {"of": ()}),
        ("a(x=1.5.2, y=1+1, z={})", "a", {"x": "1.5.2", "y": "1+1", "z": "{}"}),
        (
            "a(base=b(base=c(x=1)), y=2)",
            "a",
            {"base": StrategySpec("b", {"base": StrategySpec("c", {"x": 1})}), "y": 2},
        ),
    ],
)
def test_parameters_follow_in_brackets(text: str, name: str, params: dict[str, SpecValue]) -> None:
    spec = parse_spec(text)
    assert (spec.name, spec.params) == (name, params)
    for key, value in spec.params.items():
        assert type(value) is type(params[key])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a(step=6", "'(' was never closed"),
        ("a(step=)", "invalid syntax"),
        ("a(3)", "'3' stands in a(...) without the name of a parameter"),
        ("a(step=1, step=2)", "given 'step' twice"),
        ("a(**b)", "without the name of a parameter"),
        ("a(step=None)", "parameter 'step': 'None' is neither a number"),
        ("a(step=-inf)", "'-inf' is neither a number"),
        ("a(of=[1, 2])", "'1' is not the name or the path of a strategy"),
        ("a(x=1)(y=2)", "'a(x=1)' is not the name or the path"),
        ("(1)", "'1' is not the name or the path"),
        ("a(x=" + "(" * 300 + ")" * 300 + ")", "too many nested parentheses"),
    ],
)
def test_what_cannot_be_read_says_why_and_shows_how(text: str, why: str) -> None:
    with pytest.raises(UsageError, match="cannot be read") as caught:
        parse_spec(text)
    assert why in caught.value.why
    assert "forecast_sign(step=6)" in caught.value.fix


def test_nothing_of_a_spec_is_run() -> None:
    with pytest.raises(UsageError):
        parse_spec("print('x')")
    assert parse_spec("a(x=__import__(name='os'))").params == {"x": StrategySpec("__import__", {"name": "os"})}


def test_a_list_of_strategies_or_a_single_one_is_read() -> None:
    assert parse_specs("[forecast_sign, b(x=1)]") == (SIGN, StrategySpec("b", {"x": 1}))
    assert parse_specs("forecast_sign") == parse_specs("(forecast_sign)") == (SIGN,)
    assert parse_specs("[]") == ()


def test_values_become_strategies_where_strategies_are_wanted() -> None:
    assert as_spec("forecast_sign", "x") == as_spec(SIGN, "x") == SIGN
    assert as_specs("[forecast_sign]", "x") == as_specs((SIGN,), "x") == as_specs(SIGN, "x") == (SIGN,)
    for value in (3, (SIGN, SIGN)):
        with pytest.raises(UsageError, match="parameter 'base' must be one strategy"):
            as_spec(value, "parameter 'base'")


def test_a_text_needs_no_quotation_marks() -> None:
    side = Literal["long", "short"]
    spec = parse_spec("a(side=short, quiet=true, label=x)")
    assert convert(spec.params["side"], side, "x") == "short"
    assert convert(spec.params["quiet"], bool, "x") is True
    assert convert(spec.params["label"], str, "x") == "x"


@pytest.mark.parametrize("annotation", [int, float, bool, str, Literal["a"]])
def test_a_strategy_is_no_number_and_no_text(annotation: Any) -> None:
    with pytest.raises(UsageError, match=r"'b\(x=1\)'"):
        convert(StrategySpec("b", {"x": 1}), annotation, "x")


_names = st.one_of(
    st.from_regex(r"[a-z_][a-z0-9_]*", fullmatch=True), st.sampled_from(["my/file.py", "a b.py", "it's"])
)
_plain: st.SearchStrategy[SpecValue] = st.one_of(
    st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)


def _specs(inner: st.SearchStrategy[StrategySpec]) -> st.SearchStrategy[StrategySpec]:
    values = st.one_of(_plain, inner, st.lists(inner, max_size=3).map(tuple))
    keys = st.sampled_from(["step", "base", "of", "target", "x1"])
    return st.builds(StrategySpec, _names, st.dictionaries(keys, values, max_size=3))


@settings(max_examples=150, deadline=None)
@given(spec=st.recursive(st.builds(StrategySpec, _names), _specs, max_leaves=6))
def test_the_text_of_a_spec_is_read_as_that_spec(spec: StrategySpec) -> None:
    assert parse_spec(str(spec)) == spec
    assert parse_specs(spec_text((spec, spec))) == (spec, spec)


def test_texts_below_fields_are_found() -> None:
    source = b'''
class Base:
    far: int = 1
    """Of the
    base."""

class Mine(Base):
    """Not of a field."""
    step: int = 0
    """How far."""
    bare: int = 1
    last: int = 2
    other = 3
    """Of no field."""

class Other:
    step: int = 0
    """Elsewhere."""
'''
    assert field_docs(source, ["Mine", "Base"]) == {"far": "Of the base.", "step": "How far."}


@pytest.mark.parametrize(
    "text", ["a(step=" + "not " * 5000 + "1)", "a(" * 3000 + ")" * 3000, "'a\0.py'(step=1)", "a\0"]
)
def test_texts_made_to_break_the_parser_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_spec(text)

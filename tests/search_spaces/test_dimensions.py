from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Choice, FloatRange, IntRange, SpaceError, parse_dimension
from search_spaces.dimensions import Dimension

finite = st.floats(-1e6, 1e6, allow_nan=False)
scalars = st.one_of(st.integers(-100, 100), finite, st.text(max_size=5), st.booleans(), st.none())


@st.composite
def int_ranges(draw: st.DrawFn) -> IntRange:
    low = draw(st.integers(-50, 50))
    if low >= 1 and draw(st.booleans()):
        return IntRange(low, low + draw(st.integers(0, 100)), log=True)
    step = draw(st.integers(1, 7))
    return IntRange(low, low + step * draw(st.integers(0, 20)), step)


@st.composite
def float_ranges(draw: st.DrawFn) -> FloatRange:
    low, high = sorted((draw(finite), draw(finite)))
    return FloatRange(low, high, log=low > 0 and draw(st.booleans()))


choices = st.lists(scalars, min_size=1, unique=True).map(lambda values: Choice(tuple(values)))
dimensions = st.one_of(choices, int_ranges(), float_ranges())


@given(dimensions)
def test_a_dimension_reads_back_from_its_yaml(dimension: Dimension) -> None:
    assert parse_dimension(dimension.to_yaml(), "x") == dimension


@given(int_ranges())
def test_an_int_range_holds_as_many_values_as_its_size(dimension: IntRange) -> None:
    inside = [v for v in range(dimension.low - 2, dimension.high + 3) if dimension.contains(v)]
    assert len(inside) == dimension.size()
    assert (inside[0], inside[-1]) == (dimension.low, dimension.high)


@given(float_ranges(), finite)
def test_a_float_range_holds_what_lies_between_its_ends(
    dimension: FloatRange, value: float
) -> None:
    assert dimension.contains(value) == (dimension.low <= value <= dimension.high)
    assert dimension.contains(dimension.low)
    assert dimension.contains(dimension.high)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, Choice((3,))),
        ("relu", Choice(("relu",))),
        (None, Choice((None,))),
        ([1, 2], Choice((1, 2))),
        ({"int": [1, 9], "step": 4}, IntRange(1, 9, step=4)),
        ({"int": [1, 9], "log": True}, IntRange(1, 9, log=True)),
        ({"float": [0, 1]}, FloatRange(0.0, 1.0)),
        ({"float": [0.1, 0.3], "step": 0.1}, FloatRange(0.1, 0.3, step=0.1)),
    ],
)
def test_what_a_configuration_may_hold(value: object, expected: Dimension) -> None:
    assert parse_dimension(value, "x") == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "x: got []; a list of choices needs at least one value"),
        ([1, 1], "x: got [1, 1]; 1 stands there twice"),
        ([1, True], "x: got [1, True]; True stands there twice"),
        ([[1]], "x: got [1]; a choice must be a number, text or true/false"),
        (float("nan"), "x: got nan; a choice must be a finite number"),
        ({"int": [1.5, 2]}, "x: got [1.5, 2]; the ends of an int range must be integers"),
        ({"int": [True, 2]}, "x: got [True, 2]; the ends of an int range must be integers"),
        ({"int": [3, 2]}, "x: got [3, 2]; the low end must not be above the high end"),
        ({"int": [1, 4], "step": 2}, "x: got [1, 4]; high - low must be a multiple of step 2: "),
        ({"int": [1, 4], "step": 0}, "x: got step 0; the step must be an integer of at least 1"),
        ({"int": [0, 4], "log": True}, "x: got [0, 4]; with log the low end must be at least 1"),
        ({"int": [1, 5], "log": True, "step": 2}, "x: got log with a step; a range has one"),
        ({"int": [1, 5], "log": 1}, "x: got log 1; log must be true or false"),
        ({"float": ["a", 2]}, "x: got ['a', 2]; the ends of a float range must be finite numbers"),
        ({"float": [0, float("inf")]}, "the ends of a float range must be finite numbers"),
        ({"float": [0, 10**400]}, "the ends of a float range must be finite numbers"),
        ({"float": [0, 1], "log": True}, "x: got [0, 1]; with log the low end must be above 0"),
        ({"float": [0, 1], "step": 0.3}, "x: got [0, 1]; high - low must be a multiple of step"),
        ({"float": [0, 1], "step": -1}, "x: got step -1; the step must be a number above 0"),
        ({"int": [1, 2, 3]}, "x: got int: [1, 2, 3]; a range is {int: [low, high]}"),
        ({"int": 5}, "x: got int: 5; a range is {int: [low, high]}"),
        ({"int": [1, 2], "float": [1, 2]}, "a range is {int: [low, high]} or {float: [low, high]}"),
        ({"lgo": True, "int": [1, 2]}, "x: unknown key 'lgo' in a range; a range is {int"),
        ({"flaot": [1, 2]}, "Did you mean float?"),
        ({}, "x: got {}; a range is"),
    ],
)
def test_what_it_may_not_hold(value: object, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        parse_dimension(value, "x")
    assert message in str(caught.value)


def test_float_steps_are_decimal() -> None:
    dimension = FloatRange(0.1, 0.7, step=0.1)
    assert dimension.size() == 7
    assert dimension.contains(0.1 + 0.1 + 0.1)
    assert not dimension.contains(0.25)


def test_sizes() -> None:
    assert FloatRange(0.0, 1.0).size() is None
    assert FloatRange(1.0, 1.0).size() == 1
    assert Choice((1, 2, 3)).size() == 3
    assert str(IntRange(1, 9, step=4)) == "integer 1 to 9 in steps of 4"
    assert str(FloatRange(0.001, 0.3, log=True)) == "float 0.001 to 0.3 (log)"

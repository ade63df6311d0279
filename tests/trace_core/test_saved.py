"""A damaged state is refused, whatever is wrong with it, and the tracer goes on as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from small_models import mlp, train
from torch import Tensor

from trace_core import Trace, TraceError, Tracer
from trace_core.importance import SynapticIntelligence
from trace_core.storage import to_arrays

SETTINGS: dict[str, dict[str, Any]] = {
    "copies and a path": {"importance": "synaptic_intelligence", "anchors": (0, 4, 10)},
    "sketches": {"exact_directness": False, "anchors": (0, 4), "every": 2, "histogram_every": 2},
}
SAVED, GIVEN, END = 5, 7, 12
"""Steps after which the state is saved, given to the tracer that went on, and compared."""

Path = tuple[Any, ...]


def traced(name: str) -> tuple[Tracer, Callable[[int, int], None]]:
    torch.manual_seed(0)
    model = mlp().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return (
        Tracer(model, optimizer, **SETTINGS[name]),
        lambda start, stop: train(model, optimizer, stop - start, first=start),
    )


@cache
def saved_and_whole(name: str) -> tuple[dict[str, Any], Trace]:
    tracer, go = traced(name)
    go(0, SAVED)
    state = tracer.state_dict()
    go(SAVED, END)
    return state, tracer.trace()


# ---- damages: what is done to which place of a state


def places(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every place in the dicts and lists of a state, and what is there."""
    if path:
        yield path, value
    if (isinstance(value, dict | list) and path[:1] != ("identity",)) or not path:
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))
    elif isinstance(value, dict):
        for key in value:
            yield (*path, key), value[key]


WRONG = (None, "x", 3.5, -1, True, [], {}, {"x": 3}, torch.full((2, 3), 0.5), np.zeros(2))


def wrong_for(value: Any, depth: int) -> Iterator[Any]:
    """What can't stand in a value's place, so many dicts or lists down."""
    for wrong in WRONG:
        if type(wrong) is not type(value) or (isinstance(wrong, dict | list) and wrong != value):
            yield wrong
    if type(value) is int:
        yield from (-value - 1, value + 2)
    if isinstance(value, dict) and depth > 1:
        yield {**value, "unknown": torch.zeros(3)}
        yield {**value, 99: {}}
    if isinstance(value, list):
        yield [*value, value[0] if value else 1]
    if isinstance(value, Tensor):
        yield value[..., None]
        yield value.to(torch.int16 if value.dtype != torch.int16 else torch.int64)
        yield value.to(torch.float64 if value.dtype != torch.float64 else torch.float32)
        if len(value):
            yield value[:-1]


def changed(state: Any, path: Path, value: Any = None, *, remove: bool = False) -> Any:
    """Return a state with another value in one place, or without it."""
    key, *rest = path
    copy = dict(state) if isinstance(state, dict) else list(state)
    if rest:
        copy[key] = changed(state[key], tuple(rest), value, remove=remove)
    elif remove:
        del copy[key]
    else:
        copy[key] = value
    return copy


def damages(state: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path, value in places(state):
        yield path, changed(state, path, remove=True)
        for wrong in wrong_for(value, len(path)):
            yield path, changed(state, path, wrong)


def assert_same(one: Trace, other: Trace) -> None:
    left, right = to_arrays(one), to_arrays(other)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name, strict=True)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_state_itself_is_taken(name):
    state, whole = saved_and_whole(name)
    tracer, go = traced(name)
    go(0, SAVED)
    tracer.load_state_dict(state)
    go(SAVED, END)
    assert_same(tracer.trace(), whole)


@pytest.mark.parametrize(
    "part",
    ["identity", "step", "arrays", "anchors", "source"],
)
@pytest.mark.parametrize("name", SETTINGS)
def test_damage_is_refused_and_changes_nothing(name, part):
    state, whole = saved_and_whole(name)
    tracer, go = traced(name)
    go(0, GIVEN)
    before = tracer.state_dict()
    of_part = [damaged for path, damaged in damages(state) if path[0] == part]
    assert len(of_part) > 5
    for damaged in of_part:
        words = rf"{part}|saved with|not the state of a tracer|state of synaptic intelligence"
        with pytest.raises(TraceError, match=words):
            tracer.load_state_dict(damaged)
        assert_equal(tracer.state_dict(), before)
    go(GIVEN, END)
    assert_same(tracer.trace(), whole)


def assert_equal(one: Any, other: Any) -> None:
    """Compare all of two states, to the bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list):
        for left, right in zip(one, other, strict=True):
            assert_equal(left, right)
    elif isinstance(one, Tensor):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one.numpy(), other.numpy(), strict=True)
    else:
        assert one == other


@pytest.mark.parametrize("given", [None, [], "state", {"step": 3}])
def test_what_is_no_state(given):
    with pytest.raises(TraceError, match=r"not the state of a tracer: .* anchors, arrays"):
        traced("sketches")[0].load_state_dict(given)


def test_the_state_of_a_closed_tracer_lacks_its_copies():
    tracer, go = traced("copies and a path")
    go(0, SAVED)
    tracer.close()
    with pytest.raises(TraceError, match=r"damaged \(anchors: origins lacks 0"):
        traced("copies and a path")[0].load_state_dict(tracer.state_dict())


def test_a_path_stays_as_it_is_when_its_state_is_refused():
    path = SynapticIntelligence()
    path.restart({"weight": torch.ones(3)})
    state = path.state_dict()
    for part in ("omega", "origins"):
        for wrong in (None, {}, {"weight": None}, {"weight": torch.ones(2)}, {3: torch.ones(3)}):
            with pytest.raises(TraceError, match="synaptic intelligence is damaged"):
                path.load_state_dict({**state, part: wrong})
            assert_equal(path.state_dict(), state)

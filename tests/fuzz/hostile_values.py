"""Values that nothing should hold, and changes of what holds good ones."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from datetime import date
from typing import Any

from hypothesis import strategies as st

TEXTS = [
    *("", " ", "\0", "a\0b", "\x1b[2J\x1b[31mred", "a\nb: c", "\r\n", "\t", "\x7f", "\x9b31m"),
    *("\ud800", "a\udcffb", "\u202egnp.exe", "\u2066\u2069", "\ufeff", "\u2028", "é" * 3, "𝕏"),
    *(
        "x" * 100_000,
        "a." * 5000,
        "../" * 40,
        "/etc/passwd",
        "/dev/zero",
        "~",
        ".",
        "..",
        "-",
        "--",
    ),
    *(
        "nan",
        "inf",
        "-inf",
        "1e999",
        "9" * 400,
        "9" * 5000,
        "0x10",
        "1_000",
        "１２",
        "null",
        "None",
    ),
    *("true", "{}", "[]", "%s%n", "{0.__class__}", "${HOME}", "`id`", "$(id)", "';--", "<b>x</b>"),
    *("a:b", ":", "a.b:", "fuzz_parts:", "fuzz_parts:nothing", "fuzz_parts:number", "no.where:x"),
    *("pkg:", "pkg:numpy", "pkg:numpy/../..", "pkg:a/b", "timm:", "scratch:", "scratch:scratch:"),
    *("sqlite:///", "sqlite:///\0", "sqlite:////dev/null", "postgresql://u:p@h/d", "mysql://h/d"),
    *("postgresql://h:99999999/d", "postgresql://[::1", "1h30m", "-1s", "9" * 30 + "h", "1.5TB"),
    *("9" * 400 + "TB", "auto", "std", "metric", "accuracy", "digits", "mlp", "sgd", "grid", "="),
]
NUMBERS = [
    *(0, 1, -1, 2, 7, 8, 1000, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63, -(2**63), 2**64, 10**30),
    *(10**400, -(10**400), 10**5000, True, False, 0.0, -0.0, 0.5, 1.0, 1.5, 1e-320, 5e-324, 1e-300),
    *(1e300, 1.8e308, math.inf, -math.inf, math.nan, 0.1 + 0.2, 1e16, -1e-9),
]
OTHERS = [None, b"bytes", b"\xff\0", (), {1, 2}, frozenset(), date(2020, 1, 1), 1j, object(), ...]
CONTAINERS = [
    *([], {}, [[]], [None], [{}], {"": ""}, {"": None}, [1, 1], [1, 1.0, True], ["a", "a"], {1: 2}),
    *({None: 1}, {(1, 2): 3}, {"int": [1, 2]}, {"int": [2, 1]}, {"float": [0, 1], "log": True}),
    *({"float": [0.0, 1e308], "step": 1e-320}, {"int": [1, 10**400]}, {"float": [math.nan, 1]}),
    *({"int": [1, 9], "step": 0}, {"int": [1, 9], "step": 4, "log": True}, {"int": 3}, {"int": []}),
    *({"float": [0.1, 1], "step": 0.3}, {"float": [0.1, 1.0], "step": 1e-9}, {"int": ["a", {}]}),
    *({"int": [1, 2], "float": [1, 2]}, {"low": 1, "high": 2}, {"float": [-1e308, 1e308]}),
    *(
        [0.1] * 3,
        list(range(3000)),
        {f"k{i}": i for i in range(3000)},
        [f"k{i}" for i in range(3000)],
    ),
    *([{"zz": 1}] * 3000, [[i] for i in range(500)]),
]


def _deep(depth: int, kind: type) -> Any:
    made: Any = 1
    for _ in range(depth):
        made = [made] if kind is list else {"a": made}
    return made


DEEP = [_deep(depth, kind) for depth in (3, 50, 150, 5000) for kind in (list, dict)]


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except RecursionError:
        return value


def picked(among: Sequence[Any]) -> st.SearchStrategy[Any]:
    """One of these; unlike those of ``sampled_from`` nothing is ever written out whole."""
    return st.integers(0, len(among) - 1).map(lambda place: _copied(among[place]))


plain_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
"""What JSON and YAML have."""

_TEXT_KEYED = [value for value in CONTAINERS if value not in ({1: 2}, {None: 1}, {(1, 2): 3})]
json_values = st.one_of(
    picked(TEXTS), picked(NUMBERS), picked(_TEXT_KEYED), picked(DEEP[:6]), plain_values
)
"""Hostile ones of these."""

values = st.one_of(
    picked(TEXTS), picked(NUMBERS), picked(OTHERS), picked(CONTAINERS), picked(DEEP), plain_values
)
"""Hostile ones of Python."""

keys = picked(TEXTS) | st.text(max_size=8)


def places(tree: Any, depth: int = 8) -> list[tuple[Any, ...]]:
    """The paths of what is in a tree of mappings and lists, as deep as good ones are."""
    found: list[tuple[Any, ...]] = []
    if depth and isinstance(tree, dict | list) and len(tree) < 100:
        for key, inner in tree.items() if isinstance(tree, dict) else enumerate(tree):
            found.append((key,))
            found += [(key, *rest) for rest in places(inner, depth - 1)]
    return found


def _misspelt(key: str, at: int, letter: str) -> str:
    at %= len(key) + 1
    return key[:at] + letter + key[at + 1 :]


_WAYS = ("replace", "replace", "replace", "remove", "misspell", "add", "wrap", "swap", "twice")


@st.composite
def mutated(
    draw: st.DrawFn,
    whole: st.SearchStrategy[Any],
    put: st.SearchStrategy[Any] = values,
    most: int = 3,
) -> Any:
    """A tree that was good, changed in up to so many places; about one of six stays as it was."""
    tree = _copied(draw(whole))
    for _ in range(draw(st.sampled_from([0, *[1] * 3, *range(2, most + 1)]))):
        found = places(tree)
        if not found:
            break
        _change(draw, tree, found, put)
    return tree


def _change(
    draw: st.DrawFn, tree: Any, found: Sequence[tuple[Any, ...]], put: st.SearchStrategy[Any]
) -> None:
    *above, last = draw(st.sampled_from(found))
    holder = tree
    for key in above:
        holder = holder[key]
    way = draw(st.sampled_from(_WAYS))
    if way == "replace":
        holder[last] = draw(put)
    elif way == "wrap":
        inner = holder[last]
        holder[last] = draw(st.sampled_from([lambda v: [v], lambda v: {"a": v}, lambda v: [v, v]]))(
            inner
        )
    elif way == "swap":
        other: Any = tree
        for key in draw(st.sampled_from(found)):
            other = other[key]
        holder[last] = _copied(other)
    elif isinstance(holder, list):
        if way == "remove":
            del holder[last]
        else:
            holder.insert(last, holder[last] if way == "twice" else draw(put))
    elif way == "remove":
        del holder[last]
    elif way == "add":
        holder[draw(keys)] = draw(put)
    elif isinstance(last, str):
        letter = draw(st.sampled_from(["", "e", "_", " ", "\x1b", "\n", "A"]))
        holder[_misspelt(last, draw(st.integers(0, 9)), letter)] = holder[last]
        if way == "misspell" and len(holder) > 1:
            del holder[last]

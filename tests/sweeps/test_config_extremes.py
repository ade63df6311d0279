"""Configurations that are too large, too deep, or hold what nothing can write down."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from search_spaces import Choice, FloatRange, IntRange, SpaceError
from sweeps.config import ConfigError, SweepConfig, load_config

GOOD = {
    "name": "base",
    "task": "digits",
    "budget": {"epochs": 2, "batch_size": 64},
    "space": {"architecture": "mlp"},
}
MLP = "space.architecture.mlp"


def message(**changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        SweepConfig.from_dict(GOOD | changes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"trials": 10**5000}, "trials: got a number of about 5000 digits; must be an integer"),
        ({"limits": {"wall_time": 10**400}}, "limits.wall_time: got 1000"),
        ({"limits": {"wall_time": "9" * 400 + "h"}}, "limits.wall_time: got '999"),
        ({"resources": {"memory": "9" * 400 + "TB"}}, "resources.memory: got '999"),
        ({"storage": "sqlite:///a\0b"}, "storage: got 'sqlite:///a\\x00b'; must be"),
        ({"name": "\ud800"}, "name: got '\\ud800'; must be text that UTF-8 can write"),
        ({"warm_start": ["a\udcff"]}, "warm_start.0: got 'a\\udcff'; must be text"),
        ({"space": {"architecture": "mlp", "epochs": {"int": [1, 2**60]}}}, "2 to the 53rd"),
        (
            {
                "space": {
                    "architecture": "mlp",
                    "learning_rate": {"float": [0, 1e308], "step": 1e-9},
                }
            },
            "space.learning_rate: got [0, 1e+308], step 1e-09; must be at most 1,000,000,000 steps",
        ),
        ({"a\x1b[31m\nb": 1}, "a\\x1b[31m b: unknown key"),
        ({"space": {"architecture": {"m\x1b": {}}}}, "space.architecture.m\\x1b: unknown arch"),
        (
            {"x": [[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]},
            "too deeply nested; must be at most 20",
        ),
        ({"x": dict.fromkeys(map(str, range(1001)))}, "x: has 1001 keys; must be at most 1000"),
        ({"first": [{"init": "x" * 300_000}]}, "first: up to here the configuration has more than"),
    ],
)
def test_what_no_configuration_holds(changes: dict[str, Any], expected: str) -> None:
    text = message(**changes)
    assert expected in text
    assert text.replace("\n", "").isprintable()


def test_very_many_problems_are_not_all_told() -> None:
    text = message(**{f"k{number}": 1 for number in range(900)})
    assert text.count("unknown key") == 50
    assert text.endswith("and 850 problems more")


def test_long_lists_take_no_time() -> None:
    before = time.process_time()
    assert "stands there twice" in message(warm_start=[f"r{i}" for i in range(12_000)] + ["r0"])
    values = [float(i + 1) for i in range(15_000)] + [15_000.0]
    assert "15000.0 stands there twice" in message(
        space={"architecture": "mlp", "learning_rate": values}
    )
    assert "unknown architecture" in message(
        space={"architecture": [f"a{i}" for i in range(12_000)]}
    )
    assert time.process_time() - before < 5


def test_files_that_are_too_large_or_never_end(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    for text in ("# " + "x" * 600_000, "a: [" + "1, " * 60_000 + "1]"):
        path.write_text(text)
        with pytest.raises(ConfigError, match="is too large; must be at most"):
            load_config(path)
    with pytest.raises(ConfigError, match="is too large; must be at most 524,288 bytes"):
        load_config(os.devnull.replace("null", "zero"))


def test_merge_keys_that_stand_for_billions_of_values(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    lines = ["x0: &x0 {a0: 1}"]
    lines += [f"x{i + 1}: &x{i + 1} {{!!merge <<: [{f'*x{i},' * 9}]}}" for i in range(30)]
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"could not determine a constructor for the tag .*merge"):
        load_config(path)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Choice((2**63,)), "an integer must fit 64 bits"),
        (lambda: IntRange(0, 10**400), "at most 2 to the 53rd"),
        (lambda: FloatRange(-1e308, 1e308), "high - low must be a finite number"),
        (lambda: FloatRange(0.0, 1e300, step=1e-300), "must be at most 1,000,000,000 steps"),
    ],
)
def test_dimensions_that_no_sampler_could_draw_from(make: Any, expected: str) -> None:
    with pytest.raises(SpaceError, match=expected):
        make()

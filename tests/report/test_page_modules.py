"""The page's modules that need no page, by Node's own test runner; and how they are joined."""

from __future__ import annotations

import subprocess
from typing import Any

import numpy as np
import pytest
from by_node import NODE, ROOT, by_node, needs_node

from sweeps.report import wording
from sweeps.report.bundle import bundled


@needs_node
def test_the_modules_do_what_their_tests_say() -> None:
    tests = sorted(map(str, (ROOT / "tests" / "page").glob("*.test.mjs")))
    done = subprocess.run([str(NODE), "--test", *tests], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "# pass 0" not in done.stdout


def bundle_of(**modules: str) -> str:
    return bundled("main.js", lambda name: modules[name.removesuffix(".js")])


@needs_node
def test_modules_are_joined_in_the_order_of_their_imports_each_with_names_of_its_own() -> None:
    script = bundle_of(
        main='import { two, Three } from "./b.js";\nimport {\n  one,\n} from "./a.js";\n'
        "const hidden = 'main';\nconsole.log(one(), two, new Three().name, hidden);\n",
        a="const hidden = 'a';\nexport function one() {\n  return hidden;\n}\n",
        b='import { one } from "./a.js";\nconst hidden = "b";\nexport const two = one() + hidden;\n'
        "export class Three {\n  name = hidden;\n}\n",
    )
    done = subprocess.run([str(NODE), "-e", script], capture_output=True, text=True, check=True)
    assert done.stdout == "a ab b main\n"
    assert script.count("hidden = 'a'") == 1


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({"main": 'import x from "./a.js";\n', "a": ""}, "main.js: an import or export that can't"),
        ({"main": "export default 3;\n"}, "main.js: an import or export that can't"),
        (
            {"main": 'import { a } from "./a.js";\n', "a": 'import { m } from "./main.js";\n'},
            "imports go round: main.js → a.js → main.js",
        ),
    ],
)
def test_what_can_not_be_joined_is_refused(modules: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bundle_of(**modules)


def figures() -> list[float]:
    """Of every size, ties, and what lies just beside them and beside where the form changes."""
    rng = np.random.default_rng(11)
    spread = np.concatenate([10 ** rng.uniform(-12, 12, 6_000), 10 ** rng.uniform(-3, 3, 3_000)])
    ties = np.concatenate(
        [
            rng.integers(0, 2**16, 4_000) / 2.0 ** rng.integers(1, 17, 4_000),
            (10 * rng.integers(0, 10**4, 2_000) + 5) * 10.0 ** rng.integers(0, 12, 2_000),
        ]
    )
    ends = np.array([10.0**power for power in range(-8, 9)] + [999.5, 9.995, 0.9995, 99.95])
    near = np.concatenate([ties[::4], ends])
    every = [spread, ties, ends, np.nextafter(near, np.inf), np.nextafter(near, 0), [0.0]]
    values = np.concatenate(every)
    return [*values.tolist(), *(-values).tolist()]


@needs_node
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *(("number", [digits]) for digits in (2, 3, 4)),
        *(("significant", [digits, pad]) for digits in (1, 3, 6) for pad in (False, True)),
        ("percent", []),
        ("plain", []),
    ],
)
def test_figures_are_written_letter_for_letter_alike(name: str, arguments: list[Any]) -> None:
    values = figures()
    shown = by_node(f"given[0].map(v => m.{name}(v, ...given[1]))", [values, arguments], "words.js")
    assert len(shown) > 20_000
    written = [getattr(wording, name)(value, *arguments) for value in values]
    differing = [each for each in zip(values, written, shown, strict=True) if each[1] != each[2]]
    assert differing == []


@needs_node
def test_settings_are_written_alike() -> None:
    values = [None, True, False, "a_b", 3, 3.0, 10**16, 2.5e-5, [1, "ä"], {"a": [0.5]}]
    shown = by_node("given.map(m.plain)", values, "words.js")
    assert shown == [wording.plain(value) for value in values]

"""Configurations as files: all that YAML, and bytes that are none, may hold."""

from __future__ import annotations

import json

import sandbox
from configurations import require_sound, valid
from fuzzing import Kind, Outcome, content, require_message
from hostile_values import json_values, mutated
from hypothesis import strategies as st

from sweeps import yaml_text
from sweeps.config import ConfigError, load_config

SCALARS = (
    *("0o17", "010", "0b1", "0x1f", "1:30:00", "190:20:30.15", "1_000", "2020-01-01", "=", "<<"),
    *("2020-01-01T00:00:00Z", ".inf", "-.INF", ".nan", "~", "no", "on", "Yes", "1e3", "1E+3", "+1"),
    *(
        "'",
        '"',
        '"\\x"',
        '"\\uD800"',
        '"\\0"',
        '"\\x1b[31m"',
        "|",
        ">-",
        "? a",
        "- - -",
        "[",
        "{",
        "]",
    ),
    *(
        "!!binary aGk=",
        "!!binary '!'",
        "!!set {a, b}",
        "!!omap [a: 1]",
        "!!pairs [a: 1]",
        "!!int x",
    ),
    *(
        "!!float x",
        "!!bool x",
        "!!null x",
        "!!timestamp x",
        "!!timestamp 2020-01-01",
        "!!str 3",
        "!x y",
    ),
    *(
        "!!python/name:os.system",
        "!!python/object/apply:os.system [exit 3]",
        "!!map [a]",
        "!!seq {a: b}",
    ),
    *(
        "&a [*a]",
        "&a {x: *a}",
        "*a",
        "&b 3",
        "*b",
        "&é x",
        "9" * 5000,
        "x" * 9000,
        "@a",
        "`a",
        "%a",
    ),
    *(
        "{? {a: 1} : 2}",
        "{[a]: 1}",
        "{!!python/tuple [1]: 2}",
        "{~: 1}",
        "{1.5: 2}",
        "{true: 2}",
        "{a, b}",
    ),
)
LINES = (
    *(
        "%YAML 1.2",
        "%YAML 9.9",
        "%TAG ! tag:x,2000:",
        "---",
        "...",
        "--- !!map",
        "# nothing",
        "\t",
        "\tname: a",
    ),
    *(
        "name: again",
        "<<: {trials: 3}",
        "<<: *a",
        "!!merge <<: {trials: 3}",
        "? name\n: a",
        "- a",
        ": b",
    ),
    *(
        "trials: 3\ntrials: 4",
        "name",
        "'name': a",
        "\ufeffname: a",
        "name: a # \x1b",
        "\x00",
        "\x85",
        "\u2028",
    ),
    "\n".join(["x0: &x0 [1]", *(f"x{i + 1}: &x{i + 1} [{f'*x{i},' * 9}]" for i in range(20))]),
    "\n".join(
        ["x0: &x0 {a0: 1}"]
        + [f"x{i + 1}: &x{i + 1} {{!!merge <<: [{f'*x{i},' * 9}], a{i}: 1}}" for i in range(20)]
    ),
    *(
        "[" * 3000,
        "{a: " * 3000,
        "a:\n" + "".join(f"{' ' * i}- \n" for i in range(300)),
        "- " * 3000,
    ),
)
LARGE = (
    *("a: [" + "1, " * 400_000 + "1]", "# " + "x" * 3_000_000, "a: '" + "x" * 2_000_000 + "'"),
    *(
        "\n".join(f"k{i}: 1" for i in range(200_000)),
        " " * 600_000,
        "a: [" + "1, " * 150_000 + "1]",
    ),
    *(
        "first:\n" + "- {a: 1}\n" * 40_000,
        "? " * 100_000,
        "a: &a b\n" + "b: *a\n" * 60_000,
        "[" * 500_000,
    ),
)


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """A configuration's text, changed as text and as bytes."""
    tree = draw(mutated(valid, json_values, 1))
    try:
        lines = yaml_text.write(tree).splitlines()
    except (ValueError, RecursionError):
        lines = json.dumps({"name": "a"}).splitlines()
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(lines)))
        if draw(st.booleans()) and at < len(lines) and ": " in lines[at]:
            key = lines[at].partition(": ")[0]
            lines[at] = f"{key}: {draw(st.sampled_from(SCALARS))}"
        else:
            lines.insert(at, draw(st.sampled_from(LINES)))
    text = "\n".join(lines)
    way = draw(
        st.sampled_from(["as it is"] * 6 + ["cut", "flip", "utf-16", "latin-1", "bom", "large"])
    )
    if way == "large":
        return draw(st.sampled_from(LARGE)).encode()
    data = text.encode(way if way in ("utf-16", "latin-1") else "utf-8", "replace")
    if way == "bom":
        return b"\xef\xbb\xbf" + data
    if way in ("cut", "flip") and data:
        at = draw(st.integers(0, len(data) - 1))
        return data[:at] if way == "cut" else data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :]
    return data


def check(data: bytes) -> Outcome:
    """Of a file."""
    sandbox.data()
    folder = sandbox.scratch("configuration")
    path = folder / "sweep.yaml"
    path.write_bytes(data)
    before = content(folder)
    try:
        config = load_config(path)
    except ConfigError as error:
        require_message(error, lines=True)
        require_message(ValueError(str(error).splitlines()[0]), place=path)
        return "refused"
    finally:
        assert content(folder) == before
    require_sound(config)
    return "accepted"


KINDS = [Kind("configuration files", texts(), check, 0.25, sandbox.data)]

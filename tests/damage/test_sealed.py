"""A seal finds whatever changes what a file says, and nothing else."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from sweeps.sealed import SEAL, SealError, read_sealed, sealed, unsealed, write_sealed

VALUE: dict[str, Any] = {
    "history": [{"epoch": 1, "metric": 0.1 + 0.2, "error": 1e-300}, {"metric": None}],
    "text": 'ü "quoted", \ud800',
    "big": 2**60,
    "sweep": {"name": "z", "a": [1.0, 2, True]},
}


def is_sealed(data: bytes) -> bool:
    return SEAL in json.loads(data)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.json", VALUE)
    assert read_sealed(tmp_path / "a.json") == VALUE
    assert is_sealed((tmp_path / "a.json").read_bytes())


def test_another_layout_is_no_damage() -> None:
    again = json.dumps(json.loads(sealed(VALUE)), indent=4, sort_keys=False)
    assert unsealed(again.encode()) == VALUE


def test_a_file_of_an_earlier_version_is_read_as_it_is() -> None:
    assert unsealed(json.dumps(VALUE).encode()) == VALUE
    assert not is_sealed(json.dumps(VALUE).encode())


def test_keys_that_are_no_text_are_sealed_as_they_will_be_read() -> None:
    assert unsealed(sealed({"by": {10: "a", 9: "b"}})) == {"by": {"10": "a", "9": "b"}}


def test_every_bit_that_flips_is_found_or_changes_nothing() -> None:
    whole = sealed(VALUE)
    changes = [(place, bit) for place in range(len(whole)) for bit in range(8)]
    accepted = 0
    for place, bit in random.Random(0).sample(changes, 2000):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        try:
            found = unsealed(bytes(damaged))
        except ValueError:
            continue
        # White space, or the seal's own name: then it has an unknown key, and all else.
        assert {name: found[name] for name in VALUE} == VALUE
        accepted += 1
    assert accepted < 200


@pytest.mark.parametrize(
    ("old", "new"), [("0.30000000000000004", "0.3"), ("true", "false"), ('"z"', '"y"')]
)
def test_a_figure_that_was_changed_is_named_as_such(old: str, new: str) -> None:
    text = sealed(VALUE).decode()
    assert old in text
    with pytest.raises(SealError, match="checksum"):
        unsealed(text.replace(old, new).encode())


@pytest.mark.parametrize("text", ["[]", "3", "", "{", '{"a": 1'])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        unsealed(text.encode())


def test_a_nan_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Out of range|NaN"):
        write_sealed(tmp_path / "a.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())

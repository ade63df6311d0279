"""A little of every kind of fuzzing; ``python tests/fuzz/fuzz_campaign.py`` tries more.

``TRACERANK_FUZZ=N`` tries N cases of all kinds together instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import kinds
import pytest
import sandbox
from fuzzing import Kind, try_kind

SHARES = sum(kind.share for kind in kinds.KINDS)
EXAMPLES = int(os.environ.get("TRACERANK_FUZZ", "500"))


@pytest.fixture(scope="module", autouse=True)
def _folders() -> Iterator[None]:
    kept, environment = os.getcwd(), dict(os.environ)
    yield
    kinds.end()
    os.chdir(kept)
    os.environ.clear()
    os.environ.update(environment)
    sandbox.clear()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", kinds.KINDS, ids=kinds.NAMES)
def test_whatever_is_given_is_taken_or_refused_in_words(kind: Kind) -> None:
    tally = try_kind(kind, max(40, round(EXAMPLES * kind.share / SHARES)), 0, at_once=True)
    assert tally.refused
    assert tally.accepted

from __future__ import annotations

from collections.abc import Iterator

import pytest
from namespaces import Cluster, unavailable


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skips what asks for it where no namespaces can be made."""
    reason = unavailable()
    if reason:
        pytest.skip(f"no cluster of namespaces: {reason}")


@pytest.fixture(scope="module")
def started(namespaces: None) -> Iterator[Cluster]:
    # For a module, not for a test: its start takes seconds, its end none.
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(started: Cluster) -> Cluster:
    """A head and two workers of two CPUs, all alive, whatever the test before did to them."""
    started.heal()
    return started

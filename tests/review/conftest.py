from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from reviewing import HOSTILE, finished, server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs: two of one space, one of another budget, one with an odd name, one damaged."""
    path = tmp_path_factory.mktemp("runs")
    finished(path / "first")
    finished(path / "second", sampler={"name": "random", "seed": 1}, name="another")
    finished(path / HOSTILE, budget={"epochs": 3, "batch_size": 32}, trials=2)
    damaged = finished(path / "damaged", trials=2)
    damaged.journal.write_text("{}\n" * 3)
    (path / "not a run").mkdir()
    return path


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with server(folder) as found:
        yield found


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as found:
        yield found

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from heads import Head, head


@pytest.fixture(scope="session")
def ray_head() -> Iterator[Head]:
    with head() as one:
        yield one


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of this machine's says where a cluster is; the current folder is empty."""
    for name in (*os.environ,):
        if name.startswith(("RAY_", "TRACERANK_")):
            monkeypatch.delenv(name)
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    return work

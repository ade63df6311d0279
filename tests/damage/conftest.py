from __future__ import annotations

from pathlib import Path

import pytest
from patients import Patient, copy, make_patients

from sweeps.run_directory import RunDirectory


@pytest.fixture(scope="session")
def patients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Patient]:
    """Run directories by their name: finished, interrupted, and stored in a database."""
    return {each.name: each for each in make_patients(tmp_path_factory.mktemp("patients"))}


@pytest.fixture
def finished(patients: dict[str, Patient], tmp_path: Path) -> RunDirectory:
    """A finished run directory, to be damaged."""
    copy(patients["finished"].path, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


@pytest.fixture
def interrupted(patients: dict[str, Patient], tmp_path: Path) -> RunDirectory:
    """One whose driver was killed, to be damaged."""
    copy(patients["interrupted"].path, tmp_path / "run")
    return RunDirectory(tmp_path / "run")

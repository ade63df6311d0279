"""Every kind of file, damaged in every way; `tests/damage/damage_campaign.py` does more of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from damage_campaign import DAMAGES, cases, run_all, table
from patients import Patient

CASES = 100


@pytest.mark.slow
def test_no_damage_goes_unnoticed_and_what_can_be_had_is_had(
    patients: dict[str, Patient], tmp_path: Path
) -> None:
    found = list(run_all(cases(list(patients.values()), CASES, 0), tmp_path))
    assert len({case.kind for case, _ in found}) > 15
    assert {case.damage for case, _ in found} == set(DAMAGES)
    failed = [f"{case}: {failure}" for case, out in found for failure in out.failures]
    assert not failed, "\n".join([*failed, table(found)])
    assert all(out.ended for _, out in found)

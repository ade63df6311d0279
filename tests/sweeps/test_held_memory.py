"""What is held of each trial, by the study and by Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from inprocess import prepared, work_off

from sweeps.selection.place import place_of
from sweeps.selection.storage import reading


def test_the_trials_of_a_journal_share_their_distributions_and_texts(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=6, replicates=1)
    driven = work_off(run, config).study._study.get_trials(deepcopy=False)
    place = place_of(run)
    assert place is not None
    with reading(run, place) as storage:
        (study,) = storage.get_all_studies()
        read = storage.get_all_trials(study._study_id, deepcopy=False)
    for trials in (driven, read):
        every = [one for trial in trials for one in trial.distributions.items()]
        assert len(trials) == 6
        assert len(every) == 6 * len(trials[0].distributions)
        assert len({id(one) for _, one in every}) <= len(trials[0].distributions)
        # Texts that trials have in common are held once, too.
        names = [name for trial in trials for name in trial.params]
        assert len({id(name) for name in names}) == len(set(names))


@pytest.mark.slow
def test_a_ray_of_our_own_keeps_no_list_of_the_calls(tmp_path: Path) -> None:
    program = """
import time
from sweeps.config_sections import ResourceSettings
from sweeps.execution.session import connected
import ray
with connected(None, 1, ResourceSettings()):
    call = ray.remote(num_cpus=0)(lambda: 7)
    assert ray.get([call.remote() for _ in range(3)]) == [7, 7, 7]
    time.sleep(2.5)  # they would be told once a second
    print(len(ray.timeline()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, check=True, text=True
    )
    assert done.stdout.split() == ["0"]

"""What grows in a worker and in the driver over 200 trainings; `make soak` is the long one.

In the last third of each a leak is planted, so that the bounds are seen to find one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import alone, fresh, soak, soak_chart
from benchmarks.processes import processes
from benchmarks.soaking import Look, Soak, settings

COUNT, LEAKS_FROM = 200, 140
BOUND = 40.0
"""KiB that a training or a trial may leave behind; a planted leak leaves 98."""


def grown(looks: list[dict[str, int]], by: str, figure: str, first: int, last: int) -> float:
    """How much more there is of a figure for each training between two of them."""
    within = [look for look in looks if first <= look[by] <= last]
    assert len(within) > 2
    begun, ended = within[0], within[-1]
    return (ended[figure] - begun[figure]) / (ended[by] - begun[by])


@pytest.mark.slow
@pytest.mark.parametrize(("way", "by"), [("actor", "trainings"), ("driver", "trials")])
def test_a_process_of_a_sweep_keeps_its_size(way: str, by: str) -> None:
    looks = fresh.run("benchmarks.alone", way, str(COUNT), str(LEAKS_FROM))
    settled = (COUNT // 4, LEAKS_FROM - 1)
    leaking = (LEAKS_FROM, COUNT)
    assert grown(looks, by, "anonymous", *settled) < BOUND < grown(looks, by, "anonymous", *leaking)
    for figure in ("threads", "descriptors"):
        assert abs(grown(looks, by, figure, *settled)) < 0.05, figure
    assert grown(looks, by, "descriptors", *leaking) > 0.4


def test_a_process_and_what_it_started_are_found_with_what_they_hold() -> None:
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    before = {each.pid for each in processes(os.getpid())}
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child, Path(os.devnull).open():
        found = {each.pid: each for each in processes(os.getpid())}
        assert child.stdin is not None
        child.stdin.close()
    assert found.keys() - before == {child.pid}
    own, started = found[os.getpid()], found[child.pid]
    assert (own.role, started.role) == ("driver", "other")
    assert own.children >= 1
    assert started.children == 0
    assert started.threads == 1
    assert own.descriptors > started.descriptors >= 3
    for each in (own, started):
        assert each.rss >= each.pss >= each.uss > 0
        assert each.rss >= each.anonymous > 0


def planted(trials: int, grows: float) -> Soak:
    """A sweep whose worker grows by so many KiB a trial, whatever else it does."""
    (own,) = (each for each in processes(os.getpid()) if each.pid == os.getpid())
    fields = vars(own)
    looks = [
        Look(
            seconds=trial / 10,
            trials=trial,
            processes=[
                type(own)(**fields),
                type(own)(
                    **fields
                    | {"role": "worker", "pid": own.pid + 1}
                    | {"rss": 500_000 + int(grows * trial) + 400 * (trial % 7)}
                ),
            ],
            store=0,
            disk={"run directory": (1000 * trial, trial)} if trial % 10 == 0 else {},
        )
        for trial in range(trials)
    ]
    return Soak(looks, [(trial, 0.05) for trial in range(trials)])


def test_the_tables_tell_of_what_grows() -> None:
    floors = alone.Floors(
        {}, {"threads": 0.0, "descriptors": 0.0}, 6.0, dict.fromkeys(("rss", "anonymous"), 0.0), ""
    )
    for grows, change in ((0.0, "+0.0%"), (20.0, "+")):
        found = planted(600, grows)
        worker = soak.level(found.looks, 600, soak.of_role("worker", "rss"))
        assert worker.slope == pytest.approx(grows, abs=0.5)
        assert (abs(worker.change) < 0.2) == (grows == 0)
        assert change in soak.aims(found, 600, floors)
        assert "1.00 KB a trial" in soak.on_disk(found, 600)
        assert soak.pace(found, 600).count("100 ms") == 5
        assert "worker" in soak.by_role(found, 600, floors)
        assert len(soak.series(found).splitlines()) == 151
        assert soak_chart.chart(found).count("<polyline") == 2


def test_the_soak_is_of_every_architecture() -> None:
    assert list(settings(10, "tpe", 2)["space"]["architecture"]) == [
        "mlp",
        "cnn",
        "gru",
        "transformer",
    ]

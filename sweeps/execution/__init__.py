"""Ray Tune: every training runs as a Tune trial on a reused actor. All that imports Ray."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeps.conductor import Conductor
    from sweeps.data import Prepared

_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_THRESHOLD_S": "1000000000",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S_AUTOSCALER": "1000000000",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
LOSSES = 3
"""How often a Ray of our own is lost and started anew while not a single training ends."""

# Ray reads some of these while it is imported.
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)


def execute(
    conductor: Conductor,
    data: Mapping[str, Prepared],
    *,
    run: Path,
    workers: int,
    address: str | None,
    import_path: list[str],
) -> None:
    """Make the conductor's trainings, at most ``workers`` at once, on the cluster at ``address`` or
    a Ray on this machine. All of them share ``data``, which Ray keeps once on each node.

    On a Ray that isn't its own the sweep takes its share (see `sharing`).

    Returns when the conductor is exhausted or was told to stop. Raises ConnectionError if the
    cluster can't be reached or has no node with room for a training, and whatever the conductor
    raised.
    """
    from sweeps.execution.loss import RayLostError, present
    from sweeps.execution.session import connected, is_shared
    from sweeps.stopping import stoppable

    needs, shared = conductor.config.resources, is_shared(address)

    def attempt() -> None:
        with (
            stoppable(conductor),
            connected(address, workers, needs) as conductor.workers,
            # Ray's start has put a handler in C++ in the place of ours.
            stoppable(conductor),
            present(address, run) as presence,
        ):
            # Ray gets its processes ready while Tune is imported.
            from sweeps.execution.run import train_all

            if not shared:
                train_all(conductor, data, presence, run=run, import_path=import_path)
                return
            from sweeps.execution.courier import receiving
            from sweeps.execution.sharing import sharing

            with receiving(run) as place, sharing(conductor, workers, run.name) as share:
                train_all(
                    conductor,
                    data,
                    presence,
                    run=run,
                    import_path=import_path,
                    place=place,
                    share=share,
                )

    ended, lost = -1, 0
    while True:
        try:
            attempt()
            return
        except RayLostError as error:
            lost = lost + 1 if conductor.progress.trained == ended else 1
            ended = conductor.progress.trained
            if shared or lost == LOSSES:
                raise
            if conductor.halted:
                # What stops us has taken Ray as well.
                return
            conductor.lost_all(f"{error}: starting it anew")

"""The actor that trains, as a Tune trainable: it is used for one training after another."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from sweeps.execution.courier import Outpost, outpost

if TYPE_CHECKING:
    from sweeps.data import Prepared

SLICE_SECONDS = 1.0
"""How long a training runs between two signs of life to the driver."""

LOOKING_SECONDS = 0.5
"""How often an actor looks whether its raylet is there."""

WAITING_SECONDS = 0.05
"""How often an actor whose training has ended asks whether it may go on to another one."""

LEAVING_SECONDS = 2.0
"""How long an actor that isn't used again may take to leave Ray in order."""

ROOT = Path(__file__).resolve().parents[2]
"""The folder that this package is imported from: on each node of a cluster another one."""


def portable(folder: str) -> str:
    """A folder as other nodes find it: within `ROOT`, which is sent with a job, relative to it."""
    path = Path(folder).resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else folder


def _leave_with(raylet: int) -> None:
    """End this process as soon as the raylet, its parent, is gone, and with it whoever waits for
    us: what we are at goes on elsewhere. Ray itself may be a minute about it.
    """
    while os.getppid() == raylet:
        time.sleep(LOOKING_SECONDS)
    os._exit(1)


class TuneTraining(tune.Trainable):  # type: ignore[misc]
    """The actor: trains what it is given, slice by slice, and writes trace and record itself."""

    def setup(self, config: dict[str, Any], data: Mapping[str, Prepared] | None = None) -> None:
        """Take the first training; the imports cost seconds, once per actor. ``data`` is shared by
        all of them.
        """
        import_path = [str(ROOT / folder) for folder in config["import_path"]]
        for folder in import_path:
            if folder not in sys.path:
                sys.path.insert(0, folder)
        # The project's own modules first: those imported later may be the user's.
        import sweeps.group  # noqa: F401
        from sweeps.data import share
        from sweeps.isolation import Process
        from sweeps.last_words import Witness

        # Before the process is looked at: what there is now is no training's.
        signal.signal(signal.SIGTERM, self._end)
        threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
        share(data or {})
        self._outpost: Outpost | None = None
        self._limits = config["limits"]
        self._witness = Witness(self._limits["memory"])
        self._process = Process(import_path)
        self._outpost = outpost(config["place"])
        self._take(config)

    def _take(self, config: dict[str, Any]) -> None:
        from sweeps.group import Group, files_read
        from sweeps.run_directory import RunDirectory

        run = Path(config["run"])
        if self._outpost is not None:
            self._outpost.fetch(files_read(config["training_ids"]))
            run = self._outpost.path
        self._worker = Group(
            run,
            config["trainings"],
            config["training_ids"],
            config["trial"],
            self.trial_id,
            config["reports"],
            self._process.restore,
            self._limits["time"],
            self._witness,
        )
        self._witness.begin(RunDirectory(run).last_words(self.trial_id))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next training on the same warm actor."""
        if not self._worker.ended:
            self._leave()
        self._take(new_config)
        return True

    def _end(self, number: int, frame: FrameType | None) -> None:
        """Leave at once, on SIGTERM: Ray sends it, to a node that goes or whose driver was killed.
        Ray's own handler raises SystemExit, which would end in the record of what is trained.
        """
        if self._outpost is not None:
            self._outpost.close()
        os._exit(1)

    def _leave(self) -> None:
        """Make the process what it was before the training, or end it: Tune then starts another,
        and the conductor finds the training in its record.
        """
        self._witness.end()
        if self._process.restore():
            if self._outpost is not None:
                self._outpost.close()
            # Python would wait for a thread that was left running, for ever.
            last_resort = threading.Timer(LEAVING_SECONDS, os._exit, (0,))
            last_resort.daemon = True
            last_resort.start()
            ray.actor.exit_actor()

    def cleanup(self) -> None:
        """Leave a checkpoint when the sweep is stopped in the middle of a training, if that can be
        written.
        """
        from sweeps.storing import UnwrittenError

        with contextlib.suppress(UnwrittenError, OSError):
            self._worker.save()
            if self._outpost is not None:
                self._outpost.send_all()
        self._witness.end()
        if self._outpost is not None:
            self._outpost.close()

    def step(self) -> dict[str, Any]:
        """Train for a slice of time; once the training has ended, wait to be let go."""
        from sweeps.storing import UnwrittenError

        ended = self._worker.ended
        if ended:
            time.sleep(WAITING_SECONDS)
        else:
            try:
                ended = self._advance()
            except UnwrittenError as error:
                return {"ended": False, "report": None, "unwritten": str(error)}
            if ended:
                self._leave()
        return {"ended": ended, "report": self._worker.report(), "unwritten": ""}

    def _advance(self) -> bool:
        """Train, and send what was written. Raises UnwrittenError where that can't be kept."""
        from sweeps.storing import storing

        ended = self._worker.advance(SLICE_SECONDS)
        if self._outpost is not None:
            with storing():
                (self._outpost.send_all if ended else self._outpost.send)()
        return ended

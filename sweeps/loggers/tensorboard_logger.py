"""TensorBoard: ``RUN_DIR/tensorboard`` holds a run for each trial, with what was tried and how it
ended (also for the HPARAMS page), and one below it for each training's curves.

Written with TensorBoard's own parts, since torch's writer would load torch into the driver.
"""

from __future__ import annotations

import shutil
import time
from datetime import datetime
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata, summary_v2
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from sweeps.config import SweepConfig
from sweeps.loggers.logged_trial import LoggedTrial, Logger, name_of
from sweeps.run_directory import RunDirectory


class TensorBoardLogger:
    """Writes to a folder of its own for each trial."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def log(self, trial: LoggedTrial) -> None:
        """Write the trial's run and those of its trainings."""
        folder = self._folder / trial.name
        started, ended = _seconds(trial.started), _seconds(trial.ended)
        begin = summary_v2.hparams_pb(
            trial.parameters | trial.facts(), trial_id=trial.name, start_time_secs=started
        )
        status = STATUS_SUCCESS if trial.state == "COMPLETE" else STATUS_FAILURE
        info = SessionEndInfo(status=status, end_time_secs=ended)
        # As TensorBoard's own hparams.session_end_pb, which asks for TensorFlow.
        end = Summary()
        end.value.add(
            tag=metadata.SESSION_END_INFO_TAG,
            metadata=metadata.create_summary_metadata(HParamsPluginData(session_end_info=info)),
        ).tensor.CopyFrom(metadata.NULL_TENSOR)
        _write(folder, {0: [begin, _scalars(trial.values), end]}, ended)
        for curves in trial.curves:
            points = {step: [_scalars(values)] for step, values in curves.points.items()}
            _write(folder / f"seed_{curves.seed}", points, ended)

    def discard(self, number: int) -> None:
        """Remove the trial's folder."""
        shutil.rmtree(self._folder / name_of(number), ignore_errors=True)

    def close(self) -> None:
        """Nothing is open between two trials."""


def open_logger(run: RunDirectory, config: SweepConfig, sweep: str) -> Logger:
    """The logger of a sweep."""
    return TensorBoardLogger(run.path / "tensorboard")


def _seconds(moment: datetime | None) -> float:
    return time.time() if moment is None else moment.timestamp()


def _scalars(values: dict[str, float]) -> Summary:
    return Summary(
        value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
    )


def _write(folder: Path, points: dict[int, list[Summary]], wall_time: float) -> None:
    writer = EventFileWriter(str(folder))
    for step, summaries in points.items():
        for summary in summaries:
            writer.add_event(Event(wall_time=wall_time, step=step, summary=summary))
    writer.close()

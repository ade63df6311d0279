"""MLflow: a run for each trial, with its parameters, values and curves, in the experiment of the
sweep's name.

Where is MLflow's affair: MLFLOW_TRACKING_URI, or what the process has set, or a server's
credentials in MLflow's own variables; ``RUN_DIR/mlruns`` where none is set.
"""

from __future__ import annotations

import os
from datetime import datetime

# MLflow reports its use over the network unless told not to.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient, is_tracking_uri_set

from sweeps.config import SweepConfig
from sweeps.loggers.logged_trial import LoggedTrial, Logger
from sweeps.run_directory import RunDirectory

BATCH = 1000
"""Most metrics that MLflow takes in one request."""

MOST_TEXT = 500
"""Most characters of a parameter or tag: what every version of a server takes."""


class MlflowLogger:
    """Writes to one experiment; ``sweep`` tells its runs from those of other sweeps there."""

    def __init__(self, client: MlflowClient, experiment: str, sweep: str) -> None:
        self._client = client
        self._sweep = sweep
        known = client.get_experiment_by_name(experiment)
        self._experiment: str = (
            client.create_experiment(experiment) if known is None else known.experiment_id
        )

    def log(self, trial: LoggedTrial) -> None:
        """Write the trial's run, and end it."""
        tags = {"sweep": self._sweep, "trial": trial.number, **trial.facts()}
        run = self._client.create_run(
            self._experiment,
            start_time=_milliseconds(trial.started),
            run_name=trial.name,
            tags={f"tracerank.{key}": _text(value) for key, value in tags.items()},
        )
        ended = _milliseconds(trial.ended)
        metrics = [Metric(name, value, ended, 0) for name, value in trial.values.items()]
        metrics += [
            Metric(name, value, ended, step)
            for step, values in trial.by_step().items()
            for name, value in values.items()
        ]
        parameters = [Param(name, _text(value)) for name, value in trial.parameters.items()]
        self._client.log_batch(run.info.run_id, params=parameters)
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(run.info.run_id, metrics=metrics[start : start + BATCH])
        status = "FINISHED" if trial.state == "COMPLETE" else "FAILED"
        self._client.set_terminated(run.info.run_id, status, ended)

    def discard(self, number: int) -> None:
        """Delete the trial's run."""
        condition = (
            f"tags.`tracerank.sweep` = '{self._sweep}' and tags.`tracerank.trial` = '{number}'"
        )
        for run in self._client.search_runs([self._experiment], condition):
            self._client.delete_run(run.info.run_id)

    def close(self) -> None:
        """Every run has ended already."""


def open_logger(run: RunDirectory, config: SweepConfig, sweep: str) -> Logger:
    """The logger of a sweep."""
    if is_tracking_uri_set():
        client = MlflowClient()
    else:
        # MLflow keeps files in maintenance mode, and asks for this word that they are wanted.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        folder = (run.path / "mlruns").resolve()
        # MLflow makes it, but once a process.
        folder.mkdir(exist_ok=True)
        client = MlflowClient(tracking_uri=folder.as_uri())
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or config.name
    return MlflowLogger(client, experiment, sweep)


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def _text(value: object) -> str:
    return str(value)[:MOST_TEXT]

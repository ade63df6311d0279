"""A run directory as an object, for notebooks and scripts: what it holds, read when it is asked
for.
"""

from __future__ import annotations

import html
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from search_spaces.errors import did_you_mean
from sweeps import records
from sweeps.config import SweepConfig
from sweeps.config_messages import ConfigError
from sweeps.run_config import load_run_config
from sweeps.run_directory import RunDirectory, RunDirectoryError
from trace_core import Trace, TraceError

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.results import Results
    from sweeps.selection import StudyTrial

State = Literal["running", "complete", "interrupted"]

SHOWN = 20
"""Most models that a notebook shows of a ranking."""

_COLUMNS = (
    *("rank", "rank_low", "rank_high", "model_id", "architecture", "init"),
    *("traceability", "stability", "explainability", "metric"),
)


class Sweep:
    """A sweep's run directory, finished or not.

    Every property reads what is stored at that moment, so that a sweep which another process runs
    can be watched. Only `report` writes.

    Raises FileNotFoundError if there is nothing at ``path``, RunDirectoryError if it is something
    else. What is read raises RunDirectoryError, ConfigError or TraceError where it is damaged.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._run = RunDirectory.existing(Path(path))
        self._kept: tuple[object, Results] | None = None

    @property
    def path(self) -> Path:
        """The run directory."""
        return self._run.path

    @property
    def config(self) -> SweepConfig:
        """The configuration, every default filled in; read as data: modules that it names are not
        imported.
        """
        return load_run_config(self._run, as_data=True)

    @property
    def state(self) -> State:
        """``running`` while a process drives the sweep, ``complete`` if every trial has ended, else
        ``interrupted``: `sweeps.resume` goes on.
        """
        return self._state(self._done(self._read()), self.config.trials)

    @property
    def complete(self) -> bool:
        """Whether every trial has ended."""
        return self._done(self._read()) >= self.config.trials

    @property
    def trials(self) -> pd.DataFrame:
        """The ledger: a row for each trial, running ones too (as INTERRUPTED), by its number."""
        from sweeps.ledger import ledger_table

        return ledger_table(self._read(), self.config.objective_names())

    @property
    def ranking(self) -> pd.DataFrame:
        """The ranked models in order, at the configured α: the table of ``ranking.parquet``."""
        return self.results().ranking.frame.copy()

    @property
    def excluded(self) -> pd.DataFrame:
        """The models that are not ranked: ``model_id`` and ``reason``."""
        import pandas as pd

        rows = [(each.model_id, each.reason) for each in self.results().ranking.excluded]
        return pd.DataFrame(rows, columns=["model_id", "reason"])

    def results(self, alpha: float | str | None = None) -> Results:
        """The whole ranking with what it was made from, at the configured α or at ``alpha``: a
        number from 0 to 1, ``std``, ``entropy`` or ``cross_validated``.

        Made from the stored traces, and again only when another trial has ended. Raises
        RunDirectoryError while the study holds no trial, ValueError for another α.
        """
        from sweeps.results import rank_run

        key = (alpha, self._study(), self._run.configuration.read_bytes())
        if self._kept is None or self._kept[0] != key:
            self._kept = key, rank_run(self._run, alpha)
        return self._kept[1]

    def report(self, alpha: float | str | None = None) -> Path:
        """Write ``report/`` anew, at the configured α or at ``alpha``; returns its page."""
        from sweeps.results import write_results

        return write_results(self._run, self.results(alpha))

    def trace(self, training_id: str) -> Trace:
        """The trace of one training; `trials` names them. Raises RunDirectoryError for one that has
        none.
        """
        path = self._run.trace(training_id)
        if not path.exists():
            record = records.load(self._run, training_id)
            known = [file.stem for file in path.parent.glob("*.npz")]
            why = f"it failed: {record.reason}" if record else "sweep.trials names the trainings"
            raise RunDirectoryError(
                f"{self.path}: no trace of training {training_id!r}; {why}"
                f"{did_you_mean(training_id, known)}"
            )
        return Trace.load(path)

    def traces(self, model_id: str) -> list[Trace]:
        """The traces of a model's trainings, in order of their seeds.

        Raises RunDirectoryError for a model of which no trial is COMPLETE.
        """
        trainings = {
            trial.details["model"]: trial.details["trainings"]
            for trial in self._read()
            if trial.state == "COMPLETE"
        }
        if model_id not in trainings:
            raise RunDirectoryError(
                f"{self.path}: no complete trial of model {model_id!r}; sweep.trials names the "
                f"models{did_you_mean(model_id, trainings)}"
            )
        return [self.trace(training_id) for training_id in trainings[model_id]]

    def __repr__(self) -> str:
        return f"<Sweep {self._line()}>"

    def _repr_html_(self) -> str:
        return f"<p><b>Sweep</b> {html.escape(self._line())}</p>{self._table()}"

    def _line(self) -> str:
        try:
            done, trials = self._done(self._read()), self.config.trials
            return f"{self.path}: {self._state(done, trials)}, {done} of {trials} trials"
        except (RunDirectoryError, ConfigError, OSError) as error:
            return str(error)

    def _table(self) -> str:
        """The first rows of the ranking and its warnings, as HTML."""
        try:
            ranking = self.results().ranking
        except (RunDirectoryError, ConfigError, TraceError, OSError) as error:
            return f"<p>{html.escape(str(error))}</p>"
        frame = ranking.frame
        if not len(frame):
            return "<p>No model is ranked yet.</p>"
        table = frame.head(SHOWN)[list(_COLUMNS)].rename(columns={"metric": ranking.metric.name})
        shown = table.to_html(index=False, border=0, float_format="{:.4f}".format)
        rest = f", {len(table)} of {len(frame)} models" if len(table) < len(frame) else ""
        notes = "".join(f"<p>note: {html.escape(warning)}</p>" for warning in ranking.warnings)
        return f"<p>at α = {ranking.alpha:.3g}{rest}</p>{shown}{notes}"

    def _read(self) -> list[StudyTrial]:
        from sweeps.selection import read_trials

        return read_trials(self._run)

    def _study(self) -> object:
        """What is another one whenever the study is: of a journal, which takes a while to read, the
        size and the time of its file.
        """
        try:
            journal = self._run.journal.stat()
        except FileNotFoundError:
            return [(trial.number, trial.state) for trial in self._read()]
        return journal.st_size, journal.st_mtime_ns

    def _state(self, done: int, trials: int) -> State:
        if self._run.driven:
            return "running"
        return "complete" if done >= trials else "interrupted"

    @staticmethod
    def _done(trials: list[Any]) -> int:
        return sum(trial.state != "INTERRUPTED" for trial in trials)

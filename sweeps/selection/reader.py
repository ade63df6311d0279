"""A study that is read again and again while another process writes it."""

from __future__ import annotations

import contextlib

import optuna
from optuna.storages import BaseStorage

from sweeps.run_directory import RunDirectory
from sweeps.selection.place import Place, place_of
from sweeps.selection.storage import guarded, reading
from sweeps.selection.study import StudyTrial, study_trial


class StudyReader:
    """The trials of a run directory, of which each reading costs what is new since the last one.

    Holds the storage open until `close`. Not for several threads at once.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._place: Place | None = None
        self._storage: BaseStorage | None = None
        self._study: optuna.Study | None = None
        self._open = contextlib.ExitStack()
        self._ended: dict[int, StudyTrial] = {}

    def trials(self) -> list[StudyTrial]:
        """Every trial in the order of its number; empty while the driver has not made the study.

        Raises RunDirectoryError if the storage is damaged, ConnectionError if it can't be reached.
        """
        if self._storage is None:
            self._place = place_of(self._run)
            if self._place is None:
                return []
            self._storage = self._open.enter_context(reading(self._run, self._place))
        assert self._place is not None
        try:
            with guarded(self._run, self._place):
                if self._study is None:
                    if self._place.study not in optuna.get_all_study_names(self._storage):
                        return []
                    self._study = optuna.load_study(
                        study_name=self._place.study, storage=self._storage
                    )
                frozen = self._study.get_trials(deepcopy=False)
                return [self._ended.get(trial.number) or self._read(trial) for trial in frozen]
        except Exception:
            # What was read in part can't be gone on from.
            self.close()
            raise

    def _read(self, frozen: optuna.trial.FrozenTrial) -> StudyTrial:
        trial = study_trial(frozen)
        if trial.state != "INTERRUPTED":
            self._ended[trial.number] = trial
        return trial

    def close(self) -> None:
        """Let go of the storage; the next reading opens it anew."""
        self._open.close()
        self._place, self._storage, self._study, self._ended = None, None, None, {}

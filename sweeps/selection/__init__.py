"""What is tried next, and the ledger of what was: all that imports Optuna."""

from sweeps.selection.importances import setting_importances
from sweeps.selection.journal import examine_journal
from sweeps.selection.reader import StudyReader
from sweeps.selection.restoring import restore_trials
from sweeps.selection.study import (
    Study,
    StudyTrial,
    changed_keys,
    read_study,
    read_trials,
    studies_in_database,
)

__all__ = [
    "Study",
    "StudyReader",
    "StudyTrial",
    "changed_keys",
    "examine_journal",
    "read_study",
    "read_trials",
    "restore_trials",
    "setting_importances",
    "studies_in_database",
]

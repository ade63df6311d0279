"""What is tried next, and the ledger of what was: all that imports Optuna."""

from sweeps.selection.importances import setting_importances
from sweeps.selection.reader import StudyReader
from sweeps.selection.study import Study, StudyTrial, read_trials

__all__ = ["Study", "StudyReader", "StudyTrial", "read_trials", "setting_importances"]

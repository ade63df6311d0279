"""A journal that lost trials gets them back from the ledger, as they were.

What a sampler noted for itself (the generation of a trial, for nsga2) isn't in the ledger, and is
gone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

import pandas as pd
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import JournalStorage
from optuna.storages.journal._storage import JournalOperation
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search_spaces import Dimension
from sweeps.candidate import Candidate
from sweeps.config import SweepConfig
from sweeps.run_directory import RunDirectory
from sweeps.selection.journal import BatchedJournal
from sweeps.selection.place import IN_JOURNAL
from sweeps.selection.storage import be_quiet
from sweeps.selection.study import CONFIGURATION, DETAILS, FLOOR, decisive
from sweeps.selection.whole_space import distribution

_ENDED = {
    "COMPLETE": TrialState.COMPLETE,
    "PRUNED": TrialState.PRUNED,
    "FAILED": TrialState.FAIL,
}
_WRITER = "tracerank-doctor"

Log = dict[str, Any]


def restore_trials(run: RunDirectory, config: SweepConfig, ledger: pd.DataFrame) -> int:
    """Add to the journal, which is whole but may lack its end or be gone, what the ledger has of
    its trials; gives how many were changed or added.

    Call it as the one driver. Raises LookupError, TypeError or ValueError (SpaceError) where a row
    doesn't fit the configuration; then nothing is written.
    """
    be_quiet()
    journal = BatchedJournal(run.journal)
    storage = JournalStorage(journal)
    known: list[FrozenTrial] = []
    logs: list[Log] = []
    studies = storage.get_all_studies()
    if studies:
        known = storage.get_all_trials(studies[0]._study_id, deepcopy=False)
    else:
        logs.append(_log("CREATE_STUDY", study_name=IN_JOURNAL, directions=_directions(config)))
    if not studies or CONFIGURATION not in studies[0].user_attrs:
        kept = {CONFIGURATION: decisive(config)}
        logs.append(_log("SET_STUDY_USER_ATTR", study_id=0, user_attr=kept))
    count = 0
    rows = cast(dict[Any, dict[str, Any]], ledger.to_dict("index"))
    # A trial's number is its place: behind one that is unknown none can be put.
    for number in range(len(rows)):
        if number not in rows:
            break
        row = rows[number]
        begun = known[number] if number < len(known) else None
        if begun is not None and (begun.state.is_finished() or row["state"] not in _ENDED):
            continue
        logs += _trial(config, number, row, begun)
        count += 1
    journal.append_logs(logs)
    journal.flush()
    return count


def _directions(config: SweepConfig) -> list[int]:
    words = {"minimize": StudyDirection.MINIMIZE, "maximize": StudyDirection.MAXIMIZE}
    return [int(words[each]) for each in config.directions()]


def _log(operation: str, **fields: Any) -> Log:
    return {"op_code": int(JournalOperation[operation]), "worker_id": _WRITER, **fields}


def _trial(
    config: SweepConfig, number: int, row: Mapping[str, Any], begun: FrozenTrial | None
) -> list[Log]:
    """What has to be written of a trial of which nothing, or how it ``begun``, is known."""
    parameters = json.loads(row["parameters"])
    logs = []
    if begun is None:
        logs.append(_log("CREATE_TRIAL", study_id=0, datetime_start=_moment(row["started"])))
    drawn = {} if begun is None else begun.params
    for name, (value, how) in _drawn(config, parameters).items():
        if name not in drawn:
            logs.append(
                _log(
                    "SET_TRIAL_PARAM",
                    trial_id=number,
                    param_name=name,
                    param_value_internal=how.to_internal_repr(value),
                    distribution=distribution_to_json(how),
                )
            )
        elif drawn[name] != value:
            raise ValueError(f"trial {number}: {name} is {drawn[name]} in the journal, not {value}")
    details = _details(config, parameters, row)
    if details:
        logs.append(_log("SET_TRIAL_USER_ATTR", trial_id=number, user_attr={DETAILS: details}))
    if row["state"] not in _ENDED:
        return logs
    floor = row.get("constraint")
    if floor is not None and not pd.isna(floor):
        kept = {f"constraints:{FLOOR}": float(floor)}
        logs.append(_log("SET_TRIAL_SYSTEM_ATTR", trial_id=number, system_attr=kept))
    state = _ENDED[row["state"]]
    values = [float(row[f"value_{name}"]) for name in config.objective_names()]
    logs.append(
        _log(
            "SET_TRIAL_STATE_VALUES",
            trial_id=number,
            state=int(state),
            values=values if state == TrialState.COMPLETE else None,
            datetime_complete=_moment(row["ended"]),
        )
    )
    return logs


def _drawn(
    config: SweepConfig, parameters: Mapping[str, Any]
) -> dict[str, tuple[Any, BaseDistribution]]:
    """The parameters with what Optuna drew them from, in the order in which they are asked for."""
    found: dict[str, tuple[Any, BaseDistribution]] = {}
    if not parameters:
        return found

    def given(name: str, dimension: Dimension) -> Any:
        found[name] = parameters[name], distribution(dimension)
        return parameters[name]

    config.space.draw(given)
    return found


def _details(
    config: SweepConfig, parameters: Mapping[str, Any], row: Mapping[str, Any]
) -> dict[str, Any]:
    """What the sweep noted with the trial."""
    if not row["model_id"]:
        return {}
    candidate, alpha = Candidate.from_parameters(config, parameters)
    noted = {"model": row["model_id"], "candidate": candidate.to_dict(), "alpha": alpha}
    if row["state"] not in _ENDED:
        return noted
    return noted | {
        "trainings": [each for each in row["trainings"].split(",") if each],
        "ray": [each for each in row["ray"].split(",") if each],
        "replayed": bool(row["replayed"]),
        "seconds": float(row["seconds"]),
        "metric": None if pd.isna(row["metric"]) else float(row["metric"]),
        "reason": row["reason"],
    }


def _moment(moment: Any) -> str | None:
    """As Optuna writes it: a local time without saying so."""
    if pd.isna(moment):
        return None
    local: datetime = moment.to_pydatetime().astimezone()
    return local.replace(tzinfo=None).isoformat(timespec="microseconds")

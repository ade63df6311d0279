"""A run directory's results: its ranking and its report, from what is stored; nothing is
retrained.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from sweeps import records
from sweeps.candidate import Candidate
from sweeps.checkpoint_names import short_names
from sweeps.config import SweepConfig
from sweeps.kept_scores import KeptScores, replicate_table
from sweeps.ledger import counts, ledger_table, write_ledger
from sweeps.ranking import MetricInfo, Ranking, rank
from sweeps.records import TrainingRecord
from sweeps.report import WHOLE, Depth, Facts, ModelTraces, build_facts, write_report
from sweeps.run_config import load_run_config
from sweeps.run_directory import (
    CONFIGURATION,
    CONTENT,
    DAMAGE,
    METRIC,
    RunDirectory,
    RunDirectoryError,
    doctor_command,
    resume_command,
)
from sweeps.selection import StudyTrial, read_trials, setting_importances
from sweeps.validity import Assessment, assess_ranking
from trace_core import Trace
from trace_core.durable import write_atomically
from trace_core.statistics import Array

_PRECEDENCE = ("COMPLETE", "PRUNED", "FAILED", "INTERRUPTED")


@dataclass(frozen=True)
class Results:
    """The ranking of a run directory, with what it was made from.

    ``models`` has one row per distinct model, ``replicates`` one per finished training, ``ledger``
    one per trial.
    ``scores`` and ``ended`` (by the training's id) are what these come from. ``content`` is the
    hash of the task's files, if it has any.
    """

    config: SweepConfig
    ranking: Ranking
    models: pd.DataFrame
    replicates: pd.DataFrame
    ledger: pd.DataFrame
    scores: KeptScores
    ended: Mapping[str, TrainingRecord | None]
    content: str = ""

    @cached_property
    def validity(self) -> Assessment:
        """What the ranking tells about performance on held-out data; computed when asked for."""
        seed = self.config.sampler.seed
        return assess_ranking(self.ranking, self.models, self.replicates, seed)


def rank_run(
    run: RunDirectory,
    alpha: float | str | None = None,
    *,
    trials: list[StudyTrial] | None = None,
    scores: KeptScores | None = None,
    config: SweepConfig | None = None,
) -> Results:
    """Rank the models of a run directory at the configured α, or at ``alpha``: of all its trials,
    or of those given, with the scores that are known already, and by its configuration or by the
    one given.

    Raises RunDirectoryError if the study holds no trial, or a file of a complete trial is missing
    or damaged; TraceError if a trace is.
    """
    if config is None:
        config = load_run_config(run, as_data=True)
    if trials is None:
        trials = read_trials(run, config)
        if not trials:
            raise RunDirectoryError(
                f"{run.path}: its study holds no trial; begin it with: {resume_command(run.path)}"
            )
    ledger = ledger_table(trials, config.objective_names())
    try:
        models = _model_table(trials)
    except DAMAGE as error:
        raise RunDirectoryError(
            f"{run.path}: its study holds of a model what no sweep writes ({error}); see "
            f"what can be had with: {doctor_command(run.path)}"
        ) from None
    complete = models[models["state"] == "COMPLETE"]
    trainings: dict[str, list[str]] = dict(
        zip(complete["model_id"], complete["trainings"], strict=True)
    )
    ended = {one: records.load(run, one) for ids in trainings.values() for one in ids}
    scores = KeptScores(run, config.ranking) if scores is None else scores
    replicates = replicate_table(run, scores, trainings, ended, _common_span(ended))
    ranking = rank(
        models,
        replicates,
        metric=_metric(config, ended),
        replicates_expected=config.replicates,
        alpha=config.ranking.alpha if alpha is None else alpha,
        floor=config.ranking.floor,
        seed=config.sampler.seed,
        trials=counts(ledger),
    )
    ranking = replace(ranking, warnings=(*_about_versions(ended), *ranking.warnings))
    content = str(run.read_environment().get(CONTENT, ""))
    return Results(config, ranking, models, replicates, ledger, scores, ended, content)


def _about_versions(ended: Mapping[str, TrainingRecord | None]) -> list[str]:
    """What is to be known of trainings that were made with different versions of what computes."""
    told = Counter(record.made_with for record in ended.values() if record and record.made_with)
    if len(told) < 2:
        return []
    made = "; ".join(f"{count} with {versions}" for versions, count in sorted(told.items()))
    return [
        f"the trainings were not all made with the same versions ({made}): what differs between "
        "them may be the versions' doing"
    ]


def report_run(run: RunDirectory, alpha: float | str | None = None) -> Results:
    """Write ``report/`` and the ledger anew from the study and the traces."""
    results = rank_run(run, alpha)
    write_results(run, results)
    return results


def write_results(run: RunDirectory, results: Results, train_winner: str | None = None) -> Path:
    """Write ``report/`` and the ledger; returns the path of the page. ``train_winner`` as in
    `write_pages`.
    """
    write_ledger(run, results.ledger)
    results.scores.save()
    return write_pages(run, results, run.report, train_winner)


def write_pages(
    run: RunDirectory, results: Results, folder: Path, train_winner: str | None = None
) -> Path:
    """Write the files of ``report/`` into a folder; returns the path of the page.

    ``train_winner`` is the command that they name, by default one for the folder's files.
    """
    commands = {}
    if len(results.ranking.frame):
        winner = results.ranking.frame.iloc[0]["model_id"]
        candidates = results.models.set_index("model_id")["candidate"]
        path = folder / "winner.yaml"
        write_atomically(path, results.config.winner(candidates[winner]).dump().encode())
        commands["train_winner"] = train_winner or f"tracerank run {shlex.quote(str(path))}"
    told = _told(run, results, commands)
    return write_report(folder, **told, validity=results.validity)


def report_facts(run: RunDirectory, results: Results, depth: Depth = WHOLE) -> Facts:
    """What a report of the results says, of which nothing is written."""
    validity = results.validity if depth.searched else None
    return build_facts(**_told(run, results, {}), validity=validity, depth=depth)


def model_traces(run: RunDirectory, config: SweepConfig, trial: StudyTrial) -> ModelTraces:
    """What is stored of the trainings of a COMPLETE trial's model.

    Raises TraceError or RunDirectoryError where it is damaged or gone.
    """
    ended = {one: records.load(run, one) for one in trial.details["trainings"]}
    candidate = Candidate.from_dict(trial.details["candidate"])
    return _stored(run, ended, config.winner(candidate).dump())


def _stored(
    run: RunDirectory, ended: Mapping[str, TrainingRecord | None], configuration: str
) -> ModelTraces:
    return ModelTraces(
        [Trace.load(run.trace(training_id)) for training_id in ended],
        [record.history for record in ended.values() if record is not None],
        configuration,
    )


def _told(run: RunDirectory, results: Results, commands: dict[str, str]) -> dict[str, Any]:
    """What a report is made from."""
    models = results.models
    candidates, trainings = (
        dict(zip(models["model_id"], models[name], strict=True))
        for name in ("candidate", "trainings")
    )

    def traces(model_id: str) -> ModelTraces:
        configuration = results.config.winner(candidates[model_id]).dump()
        ended = {one: results.ended[one] for one in trainings[model_id]}
        return _stored(run, ended, configuration)

    def curves(model_id: str) -> list[Array]:
        return [results.scores.curve(each) for each in trainings[model_id]]

    return {
        "ranking": results.ranking,
        "config": results.config.resolved(),
        "metric": results.ranking.metric,
        "models": models,
        "replicates": results.replicates,
        "traces": traces,
        "curves": curves,
        "failures": _failures(run, results.ledger),
        "environment": _environment(run),
        "commands": commands,
        "importances": setting_importances,
    }


def _environment(run: RunDirectory) -> dict[str, Any]:
    """Versions and machine; the folders of a user's modules are no business of a shared page, which
    has the configuration, and the metric, elsewhere.
    """
    environment = run.read_environment()
    for private in ("import_path", CONFIGURATION, METRIC):
        environment.pop(private, None)
    return environment


def _model_table(trials: list[StudyTrial]) -> pd.DataFrame:
    """One row per distinct model; of its trials' states the one that stands for most counts. Where
    models begin from checkpoints, these stand beside the architecture.
    """
    rows: dict[str, dict[str, Any]] = {}
    for trial in trials:
        if not trial.details:
            # A driver was killed while it drew this trial's parameters: no model is known yet.
            continue
        candidate = Candidate.from_dict(trial.details["candidate"])
        model_id = trial.details["model"]
        row = {
            "model_id": model_id,
            "architecture": candidate.architecture,
            "init": candidate.init,
            "settings": candidate.described(),
            "learning_rate": candidate.learning_rate,
            "weight_decay": candidate.weight_decay,
            "batch_size": candidate.batch_size,
            "epochs": candidate.epochs,
            "steps": candidate.steps,
            "state": trial.state,
            "reason": trial.details.get("reason", ""),
            "trainings": trial.details.get("trainings", []),
            "candidate": candidate,
        }
        known = rows.get(model_id)
        if known is None or _PRECEDENCE.index(trial.state) < _PRECEDENCE.index(known["state"]):
            rows[model_id] = row
    begun_from = {row["settings"].get("checkpoint") for row in rows.values()} - {None}
    names = short_names(begun_from)
    for row in rows.values():
        checkpoint = row["settings"].get("checkpoint")
        if checkpoint is not None:
            row["architecture"] += f" {names[checkpoint]}"
    columns = ["model_id", "architecture", "init", "settings", "state", "reason"]
    columns += ["trainings", "candidate"]
    return pd.DataFrame(list(rows.values()), columns=None if rows else columns)


def _common_span(ended: Mapping[str, TrainingRecord | None]) -> int | None:
    """Examples that every training saw, where they didn't all see the same number."""
    seen = {each.examples for each in ended.values() if each and each.state == "COMPLETE"}
    return min(seen) if len(seen) > 1 else None


def _metric(config: SweepConfig, ended: Mapping[str, TrainingRecord | None]) -> MetricInfo:
    for record in ended.values():
        if record is not None and record.baseline is not None:
            return MetricInfo(record.metric_name, record.direction, record.baseline)
    return MetricInfo(config.metric_name, config.metric_direction, float("nan"))


def _failures(run: RunDirectory, ledger: pd.DataFrame) -> list[dict[str, Any]]:
    failures = []
    for number, row in ledger[ledger["state"] != "COMPLETE"].iterrows():
        tail = ""
        for training_id in filter(None, row["trainings"].split(",")):
            record = records.load(run, training_id)
            if record is not None and record.state == "FAILED":
                tail = record.log_tail
                break
        failures.append(
            {
                "trial": number,
                "model": row["model_id"],
                "state": row["state"],
                "reason": row["reason"],
                "log_tail": tail,
            }
        )
    return failures

"""The audit of what derives from study and traces, by deriving it again: scores and report; and of
the decisions that were made from the report.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from search_spaces import SpaceError
from sweeps import decisions
from sweeps.config_messages import ConfigError
from sweeps.doctor.findings import short
from sweeps.doctor.patient import ENDED, Patient
from sweeps.doctor.trainings import zip_trouble
from sweeps.kept_scores import KeptScores
from sweeps.ranking import fingerprint
from sweeps.results import Results, rank_run, write_pages, write_results
from sweeps.run_directory import DAMAGE, RunDirectoryError
from sweeps.selection import StudyTrial
from trace_core import TraceError

FILES = ("ranking.json", "ranking.csv", "ranking.parquet", "report.md", "index.html", "winner.yaml")
_TRAIN = re.compile(r"^tracerank run .*winner\.yaml'?$", re.MULTILINE)
_TROUBLE = (RunDirectoryError, ConfigError, TraceError, SpaceError, ConnectionError, *DAMAGE)


def examine_derived(patient: Patient) -> None:
    """Look at it. What a running sweep is about to write again is left."""
    if not patient.driven:
        _scores(patient)
        # What was derived from trials that the study lost isn't wrong: they are found again first.
        if not patient.partial:
            _report(patient)
    _decisions(patient)


def _scores(patient: Patient) -> None:
    path = patient.run.scores
    trouble = zip_trouble(path) if path.exists() else ""
    if path.exists():
        patient.audit.count("scores")
    if trouble:
        patient.audit.problem(
            patient.name(path),
            trouble,
            means="the next report reads every trace, which takes longer",
            remains="all that it says, in the traces",
            todo=f"{patient.repair} puts it aside; it is written again with the report",
            cure=lambda: patient.aside(path),
        )


# ---- the report


def _report(patient: Patient) -> None:
    run, audit = patient.run, patient.audit
    there = [name for name in FILES if (run.report / name).exists()]
    if audit.state == "complete" and not there:
        audit.problem(
            patient.name(run.report),
            "isn't there",
            means="the sweep's end was not reported",
            remains="all that it says, in study and traces",
            todo=f"{patient.repair} writes it, and so does resume",
            cure=lambda: _write_report(patient, None),
        )
    if not there or patient.config is None or patient.trials is None:
        return
    audit.count("report files", len(there))
    said = _said(patient)
    alpha = _alpha(said)
    trials = _reported(patient.trials, said)
    try:
        scores = KeptScores(run, patient.config.ranking, anew=True)
        different, results = [], None
        for config in filter(None, (patient.config, patient.former)):
            results = rank_run(run, alpha, trials=trials, scores=scores, config=config)
            different = _different(patient, results)
            if not different:
                break
    except _TROUBLE as error:
        if not patient.unsound:
            audit.problem(
                patient.name(run.report),
                f"can't be compared with the traces ({short(error)})",
                means="whether it tells what they give isn't known",
                todo="mend that, and look again",
            )
        else:
            _unverified(patient)
        return
    assert results is not None
    _compare_scores(patient, scores, results)
    again = f"{patient.repair} writes it again, and so does tracerank report"
    if different:
        audit.problem(
            ", ".join(f"report/{name}" for name in different),
            "isn't what this version writes from the study and the traces",
            means="it was changed or damaged, or written by another version or on another machine",
            remains="all that it says, in study and traces",
            todo=again,
            cure=lambda: _write_report(patient, alpha),
        )
    elif len(trials) < len(patient.trials):
        audit.note(
            patient.name(run.report),
            f"is of the first {len(trials)} trials that ended; the study has {len(patient.trials)}",
            means="it was written before the others ended",
            todo=again,
            cure=lambda: _write_report(patient, alpha),
        )


def _unverified(patient: Patient) -> None:
    """While a training is gone nothing can be compared with all of them; what can't even be read is
    told all the same.
    """
    try:
        decisions.read_ranking(patient.run)
        trouble = ""
    except FileNotFoundError:
        trouble = "is gone"
    except decisions.DamagedError as error:
        trouble = f"is {str(error).split(': ', 1)[-1].split('; write it anew', 1)[0]}"
    if trouble:
        patient.audit.problem(
            "report/ranking.json",
            trouble,
            means="which ranking was reported isn't known",
            remains="all that it says, in study and traces",
            todo=f"{patient.resume}, which writes it again",
        )
    else:
        patient.audit.note(
            patient.name(patient.run.report),
            "can't be compared with the traces while one of them is damaged or gone",
            todo=f"{patient.resume}, then look again",
        )


def _said(patient: Patient) -> dict[str, Any]:
    try:
        said = json.loads((patient.run.report / "ranking.json").read_bytes())
    except DAMAGE:
        return {}
    return said if isinstance(said, dict) else {}


def _alpha(said: dict[str, Any]) -> float | str | None:
    """At which α a ranking was made; None if it doesn't say."""
    source, alpha = said.get("alpha_source"), said.get("alpha")
    if source == "fixed" and isinstance(alpha, float) and 0 <= alpha <= 1:
        return alpha
    named = str(source).split(":", 1)[0]
    return named if named in ("std", "entropy", "cross_validated") else None


def _reported(trials: list[StudyTrial], said: dict[str, Any]) -> list[StudyTrial]:
    """The trials that a report is of: all, or those that ended first, if it was of fewer."""
    try:
        told = {state: int(said["trials"][state]) for state in (*ENDED, "INTERRUPTED")}
    except DAMAGE:
        return trials
    ended = [trial for trial in trials if trial.state in ENDED and trial.ended is not None]
    count = sum(told[state] for state in ENDED)
    if told["INTERRUPTED"] or not 0 < count <= len(ended):
        return trials
    # No two end in the same microsecond of one driver.
    first = sorted(ended, key=lambda trial: (str(trial.ended), trial.number))[:count]
    return sorted(first, key=lambda trial: trial.number)


def _different(patient: Patient, results: Results) -> list[str]:
    """The files of the report that aren't what is written now, in a folder of its own."""
    folder = patient.run.report
    with tempfile.TemporaryDirectory(prefix="tracerank-") as temporary:
        write_pages(patient.run, results, Path(temporary), _command(folder))
        different = []
        for name in FILES:
            now, kept = Path(temporary, name), folder / name
            if _content(now) != _content(kept):
                different.append(name)
    return different


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _command(folder: Path) -> str | None:
    """What the report says is to be typed to train its first model: it has the path under which the
    run directory was known.
    """
    try:
        found = _TRAIN.search((folder / "report.md").read_text())
    except (OSError, UnicodeError):
        return None
    return found[0] if found else None


def _compare_scores(patient: Patient, fresh: KeptScores, results: Results) -> None:
    """Whether the scores that are kept are those of the traces."""
    kept = KeptScores(patient.run, results.config.ranking)
    wrong = kept.unlike(fresh)
    if wrong:
        patient.audit.problem(
            patient.name(patient.run.scores),
            f"has other scores than the traces give, of {len(wrong)} trainings",
            means="a report made from it would be wrong",
            remains="all that it says, in the traces",
            todo=f"{patient.repair} puts it aside; it is written again with the report",
            cure=lambda: patient.aside(patient.run.scores),
        )


def _write_report(patient: Patient, alpha: float | str | None) -> str:
    run = patient.run
    try:
        results = rank_run(run, alpha)
    except _TROUBLE:
        return ""
    command = _command(run.report)
    changed = [run.report / name for name in FILES if (run.report / name).exists()]
    done = patient.aside(*changed) if changed else ""
    write_results(run, results, command)
    return f"{done}; written again from study and traces".removeprefix("; ")


# ---- decisions


def _decisions(patient: Patient) -> None:
    run, audit = patient.run, patient.audit
    where = patient.name(run.decisions)
    try:
        made = decisions.decisions(run)
    except decisions.DamagedError as error:
        read = _readable(run.decisions)
        audit.problem(
            where,
            str(error).split(": ", 1)[-1].split("; see what can be had", 1)[0],
            means="who chose which model, and why, can't be relied on",
            remains=f"what can be read of it: {read}" if read else "nothing of it can be read",
            todo=f"put an undamaged copy in its place; {patient.repair} puts it aside, so that "
            "it can be decided anew",
            cure=lambda: patient.aside(run.decisions),
        )
        return
    if run.decisions.exists():
        audit.count("decisions", len(made))
    elif run.decisions_lock.exists():
        audit.problem(
            where,
            "is gone: decision.lock is there, which the first decision made",
            means="who chose which model, and why, is lost",
            remains="nothing of it",
            todo=f"put a copy in its place; {patient.repair} puts the lock aside, so that it can "
            "be decided anew",
            cure=lambda: patient.aside(run.decisions_lock),
        )
    if not made or patient.driven:
        return
    try:
        stands = made[-1].ranking == fingerprint(decisions.read_ranking(run))
    except (FileNotFoundError, decisions.DamagedError):
        return
    if not stands:
        audit.note(
            where,
            f"the ranking is another one than that from which {made[-1].reviewer} chose "
            f"{made[-1].model_id} ({made[-1].time})",
            means="it was reported anew since, from more trials or at another α",
            todo="look at the report again, and decide anew",
        )


def _readable(path: Path) -> str:
    """What a damaged file still says of who chose what."""
    try:
        text = path.read_bytes().decode(errors="replace")
    except OSError:
        return ""
    found = re.findall(r'"(model_id|reviewer|reason|time)": ("(?:[^"\\]|\\.){0,300}")', text)
    return "; ".join(f"{name} {value}" for name, value in found[:20])

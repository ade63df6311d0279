"""The audit of ``environment.json``, ``sweep.yaml`` and ``earlier.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from search_spaces import SpaceError, architecture_names, source_of, task_names
from sweeps import yaml_text
from sweeps.config import SweepConfig
from sweeps.config_messages import ConfigError
from sweeps.doctor.patient import Patient
from sweeps.run_directory import CONFIGURATION, DAMAGE, RunDirectoryError
from sweeps.sealed import SEAL
from trace_core.durable import write_atomically

_MISSING = "a key that isn't there"


def examine_settings(patient: Patient) -> None:
    """Look at them, and learn the configuration."""
    _environment(patient)
    _configuration(patient)
    _earlier(patient)


def _environment(patient: Patient) -> None:
    run, audit = patient.run, patient.audit
    where = patient.name(run.environment)
    told = {
        "means": "it says what the sweep began with: versions, the folders of the user's modules, "
        "what tells its data and checkpoints",
        "remains": "all results",
    }
    try:
        environment = run.read_environment()
    except RunDirectoryError as error:
        audit.problem(
            where,
            reason_of(error),
            **told,
            todo=f"{patient.repair} puts it aside; the sweep goes on without",
            cure=lambda: patient.aside(run.environment),
        )
        return
    audit.count("settings")
    if not run.environment.exists():
        audit.problem(
            where,
            "is gone",
            **told,
            todo=f"{patient.repair} makes one that holds the configuration, once the study "
            "agrees with sweep.yaml",
            cure=lambda: _new_environment(patient),
        )
    kept = environment.get(CONFIGURATION)
    patient.kept = kept if isinstance(kept, Mapping) else None


def _new_environment(patient: Patient) -> str:
    """Make one from ``sweep.yaml``, which from then on vouches for it: so only where the study was
    read and doesn't say otherwise.
    """
    if patient.config is None or patient.trials is None or patient.partial:
        return ""
    patient.run.keep_configuration(patient.config.resolved())
    return "one with the configuration alone was written"


def _has_seal(path: Path) -> bool:
    try:
        return SEAL in json.loads(path.read_bytes())
    except DAMAGE:
        return False


def _configuration(patient: Patient) -> None:
    run, audit = patient.run, patient.audit
    where = patient.name(run.configuration)
    try:
        raw = yaml_text.read(run.configuration.read_bytes().decode("utf-8-sig"))
        if not isinstance(raw, dict):
            raise ValueError("it holds no mapping")
        trouble = ""
    except FileNotFoundError:
        raw, trouble = None, "is gone"
    except (*DAMAGE, UnicodeError) as error:
        raw, trouble = None, f"is no configuration ({' '.join(str(error).split())})"
    if raw is not None:
        audit.count("settings")
        patient.config, said = loaded(patient, raw)
        patient.vouched = not said and patient.kept is not None and _has_seal(run.environment)
        if said and raw != patient.kept:
            trouble = f"is not valid: {said}"
        elif said:
            audit.note(
                where,
                f"names what isn't here: {said}",
                means="ranking and report can't be compared with the traces here",
                todo="look again where the sweep's modules and data are",
            )
        else:
            _compare(patient)
    if not trouble:
        return
    if patient.kept is None:
        audit.problem(
            where,
            trouble,
            means="what the sweep is isn't known; neither resume nor report can do without",
            remains="study, records and traces, each by itself",
            todo="put a copy of the file in its place",
        )
        return
    patient.config, _ = loaded(patient, patient.kept)
    audit.problem(
        where,
        trouble,
        means="neither resume nor report can do without",
        remains="the configuration, in environment.json",
        todo=f"{patient.repair} writes it again",
        cure=None if patient.config is None else lambda: write_again(patient),
    )


def loaded(patient: Patient, data: Mapping[str, Any]) -> tuple[SweepConfig | None, str]:
    """The configuration, as data, or what is wrong with it."""
    try:
        source = str(patient.run.configuration)
        return SweepConfig.from_dict(data, source, as_data=True), ""
    except ConfigError as error:
        return None, "; ".join(error.problems)


def write_again(patient: Patient) -> str:
    """Write ``sweep.yaml`` from ``environment.json``, unless the study says otherwise; says so."""
    if patient.config is None:
        return ""
    done = ""
    if patient.run.configuration.exists():
        done = f"{patient.aside(patient.run.configuration)}; "
    config, _ = loaded(patient, patient.kept or {})
    assert config is not None
    write_atomically(patient.run.configuration, config.dump().encode())
    return f"{done}written again from environment.json"


def _compare(patient: Patient) -> None:
    """Which keys are others than when the sweep was last driven."""
    if patient.kept is None or patient.config is None:
        return
    changed = list(differences(patient.kept, patient.config.resolved()))
    if changed:
        patient.former, _ = loaded(patient, patient.kept)
        patient.audit.note(
            patient.name(patient.run.configuration),
            f"was changed since the sweep was last driven: {'; '.join(changed[:5])}"
            + (f" and {len(changed) - 5} more" if len(changed) > 5 else ""),
            means="some keys may be changed (docs/configuration.md says which); the next resume "
            "keeps them",
            todo="if nobody did, put them back",
        )


def differences(before: Any, now: Any, key: str = "") -> Iterator[str]:
    """The keys of ``before`` that are others now; what a newer version added is no change."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name, value in before.items():
            yield from differences(value, now.get(name, _MISSING), f"{key}.{name}".lstrip("."))
        if key.startswith("space"):
            yield from (f"{key}.{name} is new" for name in now if name not in before)
    elif isinstance(before, list | tuple) and isinstance(now, list | tuple):
        if list(before) != list(now) and (
            len(before) != len(now)
            or any(True for pair in zip(before, now, strict=True) for _ in differences(*pair, key))
        ):
            yield f"{key} is {list(now)!r}, and was {list(before)!r}"
    elif before != now or isinstance(before, bool) != isinstance(now, bool):
        yield f"{key} is {now!r}, and was {before!r}"


def _earlier(patient: Patient) -> None:
    run = patient.run
    try:
        run.read_points()
        gone = not run.earlier.exists() and patient.config and patient.config.warm_start
        trouble = "is gone" if gone else ""
    except RunDirectoryError as error:
        trouble = reason_of(error)
    if run.earlier.exists():
        patient.audit.count("settings")
    if not trouble:
        return
    again = _can_be_gathered(patient.config)
    patient.audit.problem(
        patient.name(run.earlier),
        trouble,
        means="which points of earlier sweeps are to be tried first isn't known: what is still to "
        "be tried of them would not be",
        remains="all that was tried; the sweeps that warm_start names may still have the points",
        todo=f"{patient.repair} gathers them again, if those sweeps are there; else put an "
        "undamaged copy in its place"
        if again
        else "put an undamaged copy in its place: to gather them again takes the files, "
        "checkpoints or code that sweep.yaml names, at which the doctor doesn't look",
        cure=(lambda: _gather_again(patient)) if again else None,
    )


def _can_be_gathered(config: SweepConfig | None) -> bool:
    """Whether the points can be gathered without anything that the run directory names but the
    earlier sweeps: to tell a model by its content reads files, asks a hub, or finds a module, which
    runs the code of its package.
    """
    if config is None or config.task not in task_names():
        return False
    names = config.space.architectures
    return all(name in architecture_names() and source_of(name) is None for name in names)


def _gather_again(patient: Patient) -> str:
    from sweeps.earlier import gather
    from sweeps.sealed import write_sealed

    config = patient.config
    if config is None or not _can_be_gathered(config):
        return ""
    # One in a database would be asked of whatever address the file has.
    if any(Path(path, patient.run.study.name).exists() for path in config.warm_start):
        return ""
    try:
        points = gather(config).points
    except (ConfigError, RunDirectoryError, SpaceError, ConnectionError, *DAMAGE):
        return ""
    done = patient.aside(patient.run.earlier) if patient.run.earlier.exists() else ""
    write_sealed(patient.run.earlier, {"points": points})
    return f"{done}; gathered again from {len(config.warm_start)} sweeps".removeprefix("; ")


def reason_of(error: RunDirectoryError) -> str:
    """What an error says of a file, without its name and what to do."""
    text = str(error).split(": ", 1)[-1]
    return text.split("; see what can be had", 1)[0]

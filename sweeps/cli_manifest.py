"""``tracerank submit --manifest``: a job written down for Kubernetes, in place of being sent."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sweeps.cli_answers import answer

if TYPE_CHECKING:
    from sweeps.config import SweepConfig

_Command = TypeVar("_Command", bound=Callable[..., Any])

# By the fields of `sweeps.jobs.manifest.ManifestOptions`: what the option takes, a text of which
# this is the name or a number, and None where it takes nothing and the field is False; its help.
_OPTIONS: dict[str, tuple[str | click.IntRange | None, str]] = {
    "image": ("NAME", "Of the pods: holds tracerank, and your modules."),
    "namespace": ("NAME", "Kubernetes' namespace."),
    "pods": (click.IntRange(min=1), "Pods for trainings (default: 2)."),
    "max_pods": (click.IntRange(min=1), "Up to which Ray's autoscaler adds."),
    "per_pod": (click.IntRange(min=1), "Trainings at once in each (default: 1)."),
    "head_memory": ("SIZE", "Of the head's pod (default: 4Gi)."),
    "queue": ("NAME", "Kueue's queue in which the job waits."),
    "secret": ("NAME", "The secret with the storage's credentials."),
    "claim": ("NAME", "The volume claim of a storage that is a folder."),
    "service_account": ("NAME", "Of the pods."),
    "token": (None, "The cluster asks for no token."),
    "ray_version": ("VERSION", "Of the image (default: the one installed here)."),
    "retries": (click.IntRange(min=0), "New clusters for a job that failed."),
    "deadline": (click.IntRange(min=1), "Seconds that the job may take."),
}

_OF_SENDING = {"waits": "--wait", "include": "--include", "exclude": "--exclude"}


def for_a_manifest(command: _Command) -> _Command:
    """Adds ``--manifest`` and the options that belong to it.

    They are handed on as the file, None where no manifest is asked for, and as a mapping.
    """

    @functools.wraps(command)
    def with_manifest(*args: Any, manifest_file: Path | None, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(f"pods_{name}") for name in _OPTIONS}
        said = {name: value for name, value in given.items() if value is not None}
        if manifest_file is None and said:
            flag = _flag(next(iter(said)))
            raise click.UsageError(f"{flag} belongs to --manifest FILE, which isn't given")
        if manifest_file is not None and "image" not in said:
            raise click.UsageError("--manifest needs --image, in which tracerank is installed")
        for name, flag in _OF_SENDING.items():
            if manifest_file is not None and kwargs.get(name):
                raise click.UsageError(f"{flag} has no use with --manifest, which sends nothing")
        return command(*args, manifest_file=manifest_file, manifest_options=said, **kwargs)

    for name in reversed(_OPTIONS):
        with_manifest = _option(name)(with_manifest)
    return click.option(  # type: ignore[return-value]
        "--manifest",
        "manifest_file",
        metavar="FILE",
        type=click.Path(path_type=Path, allow_dash=True),
        help="Send nothing: write a RayJob for Kubernetes there (- for stdout).",
    )(with_manifest)


def _flag(name: str) -> str:
    """That of a field."""
    takes, _ = _OPTIONS[name]
    return f"--{'no-' if takes is None else ''}{name.replace('_', '-')}"


def _option(name: str) -> Callable[[_Command], _Command]:
    """That of a field; None is handed on where it isn't given."""
    takes, words = _OPTIONS[name]
    # A name of its own, apart from those of the command's other options.
    flag, own = _flag(name), f"pods_{name}"
    if takes is None:
        return click.option(flag, own, is_flag=True, flag_value=False, default=None, help=words)
    if isinstance(takes, str):
        return click.option(flag, own, metavar=takes, help=words)
    return click.option(flag, own, type=takes, help=words)


def write_manifest(
    file: Path,
    config: Path,
    options: dict[str, Any],
    as_json: bool,
    *,
    job_id: str | None,
    storage: str | None,
    trials: int | None,
    workers: int | None,
    seed: int | None,
) -> None:
    """Write a job's manifest to ``file``, and answer its id; to stdout alone where that is ``-``.

    Raises ConfigError, SpaceError and JobError, and OSError where it can't be written.
    """
    from sweeps.api import resolve
    from sweeps.jobs.named import named_files
    from sweeps.jobs.submit import new_id
    from trace_core.durable import write_atomically

    if not storage:
        raise click.UsageError("a manifest needs --storage URI, or TRACERANK_STORAGE")
    settings, _ = resolve(config, trials=trials, seed=seed)
    named_files(settings).tell_image(lambda text: click.echo(text, err=True))
    if workers is not None:
        settings = settings.model_copy(update={"workers": workers})
    chosen = job_id or new_id(settings.name)
    text = _manifest(settings, options, chosen, storage)
    if str(file) == "-":
        answer(json.dumps({"id": chosen, "manifest": text}) if as_json else text.rstrip("\n"))
        return
    write_atomically(file, text.encode())
    answer(json.dumps({"id": chosen, "file": str(file)}) if as_json else chosen)
    click.echo(f"Written: {file}. Next:\n  kubectl apply -f {shlex.quote(str(file))}", err=True)


def _manifest(settings: SweepConfig, options: dict[str, Any], job_id: str, storage: str) -> str:
    from sweeps.jobs.job import metadata, submission_id
    from sweeps.jobs.manifest import ManifestOptions, manifest
    from sweeps.jobs.store import checked_uri
    from sweeps.jobs.submit import fingerprint

    place = checked_uri(storage)
    return manifest(
        settings,
        ManifestOptions(**options),
        job_id=job_id,
        attempt=submission_id(job_id, 1),
        storage=place,
        metadata=metadata(job_id, place, settings.name, fingerprint(settings), settings.trials),
    )

"""The ``tracerank`` command.

People's text goes to stderr; stdout carries the run directory alone, or JSON with ``--json``. Exit
codes: 0 done, 1 the sweep failed, 2 bad usage or configuration, 3 stopped, 4 not found, 5
unreachable, 130 interrupted. What is heavy is imported by the command that needs it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from sweeps.config import SweepConfig
    from sweeps.run_directory import RunDirectory

RUNS = Path("runs")
DONE, FAILED, USAGE, STOPPED, NOT_FOUND, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
a_workers = click.option(
    "--workers", type=click.IntRange(min=1), help="Trainings at once (default: the CPUs there are)."
)


class _Alpha(click.ParamType[Any]):
    name = "A|std|entropy|cross_validated"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        schemes = ("std", "entropy", "cross_validated")
        if value in schemes or isinstance(value, float):
            return value
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number <= 1:
            self.fail(f"{value!r} is neither a number from 0 to 1 nor one of {', '.join(schemes)}")
        return number


class _Address(click.ParamType[str]):
    name = "HOST:PORT"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        host, _, port = value.rpartition(":")
        if value != "auto" and not (host and "/" not in host and port.isdecimal()):
            self.fail(f"{value!r} is neither HOST:PORT, where a Ray head listens, nor auto")
        return value


an_address = click.option(
    "--ray-address", type=_Address(), help="Train on the Ray cluster whose head listens there."
)


class _Group(click.Group):
    """Turns the errors that people can mend into one message and the contract's exit code.

    While a command runs, all that is written to stdout, by a user's module or by Ray's processes,
    goes to stderr; what the command answers is written at its end.
    """

    def invoke(self, ctx: click.Context) -> Any:
        ctx.obj = []
        try:
            with _stdout_to_stderr():
                return self._invoke(ctx)
        finally:
            for answer in ctx.obj:
                click.echo(answer)

    def _invoke(self, ctx: click.Context) -> Any:
        from search_spaces import SpaceError
        from sweeps.config_messages import ConfigError
        from sweeps.run_directory import RunDirectoryError
        from trace_core import TraceError

        try:
            return super().invoke(ctx)
        except (ConfigError, RunDirectoryError, SpaceError, TraceError, FileExistsError) as error:
            _stop(str(error), USAGE)
        except FileNotFoundError as error:
            _stop(str(error), NOT_FOUND)
        except PermissionError as error:
            _stop(f"{error.filename}: {error.strerror}", USAGE)
        except ConnectionError as error:
            _stop(str(error), UNREACHABLE)
        except KeyboardInterrupt:
            _stop("interrupted", INTERRUPTED)


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _answer(text: object) -> None:
    """What the command has for stdout."""
    click.get_current_context().obj.append(text)


def _stop(message: str, code: int) -> NoReturn:
    click.echo(f"tracerank: {message}", err=True)
    sys.exit(code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tracerank")
def main() -> None:
    """Sweep models and rank them by how well their learning can be followed."""


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Run directory (default: runs/NAME-TIME)."
)
@click.option("--trials", type=click.IntRange(min=1), help="Instead of the configuration's trials.")
@a_workers
@click.option(
    "--seed", type=click.IntRange(min=0), help="Instead of the configuration's sampler.seed."
)
@an_address
@as_json
def run(
    config: Path,
    out: Path | None,
    trials: int | None,
    workers: int | None,
    seed: int | None,
    ray_address: str | None,
    as_json: bool,
) -> None:
    """Sweep what CONFIG describes, then write the ranking report."""
    import_path = _import_path(config)
    settings = _load(config, trials=trials, seed=seed)
    _reach(ray_address)
    from sweeps.sweep import create

    path = out or _default_out(settings.name)
    try:
        directory = create(settings, path, import_path)
    except FileExistsError:
        raise
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name is not UTF-8"
        raise click.BadParameter(f"{str(path)!r}: {reason}", param_hint="--out") from None
    _drive(directory, settings, workers, ray_address, import_path, as_json)


@main.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--trials", type=click.IntRange(min=1), help="Extend the sweep to this many trials.")
@a_workers
@an_address
@as_json
def resume(
    run_dir: Path, trials: int | None, workers: int | None, ray_address: str | None, as_json: bool
) -> None:
    """Finish an interrupted sweep, or extend a finished one."""
    from sweeps.run_directory import RunDirectory
    from trace_core.durable import write_atomically

    directory = RunDirectory.existing(run_dir)
    _reach(ray_address)
    import_path = _kept_import_path(directory)
    settings = _load(directory.configuration)
    if trials is not None and trials != settings.trials:
        if trials < settings.trials:
            raise click.BadParameter(
                f"{trials} is less than the sweep's {settings.trials}: it can be extended, not cut",
                param_hint="--trials",
            )
        settings = _load(directory.configuration, trials=trials)
        with directory.driving():
            write_atomically(directory.configuration, settings.dump().encode())
    _drive(directory, settings, workers, ray_address, import_path, as_json)


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@a_workers
@as_json
def validate(config: Path, workers: int | None, as_json: bool) -> None:
    """Check CONFIG, show its space, count the trainings and estimate what they cost."""
    _import_path(config)
    settings = _load(config)
    from sweeps.earlier import gather
    from sweeps.estimate import estimate

    earlier = gather(settings)
    try:
        costs = estimate(settings, _workers(workers, settings))
    # A user's model may raise anything.
    except Exception as error:
        _stop(f"{config}: valid, but its models can't be tried: {error}", USAGE)
    if as_json:
        _answer(json.dumps({"config": settings.resolved(), "estimate": costs.to_json()}))
        return
    _answer(f"{config} is valid: task {settings.task}, {settings.trials} trials")
    for row in settings.space.describe():
        _answer(f"  {row.name:24} {row.values:40} {row.when}")
    if settings.warm_start:
        taken = f"{len(earlier.points)} trials and {len(earlier.trainings)} trainings"
        _answer(f"taken over from earlier sweeps: {taken}")
    _answer(costs.words())


@main.command("list")
@click.argument("what", type=click.Choice(["spaces", "tasks", "runs"]))
@as_json
def list_(what: str, as_json: bool) -> None:
    """Show the architectures and initialisations, the tasks, or the run directories there are."""
    from sweeps.listing import listing

    rows = listing(what, RUNS)
    if as_json:
        _answer(json.dumps(rows))
        return
    for row in rows:
        _answer("  ".join("?" if value is None else str(value) for value in row.values()))


@main.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--alpha", type=_Alpha(), help="Rank at this α instead of the configured one.")
@as_json
def report(run_dir: Path, alpha: float | str | None, as_json: bool) -> None:
    """Rebuild the report from the stored traces; nothing is retrained."""
    from sweeps.run_directory import RunDirectory

    directory = RunDirectory.existing(run_dir)
    _kept_import_path(directory)
    _report(directory, alpha, as_json)


def _load(config: Path, trials: int | None = None, seed: int | None = None) -> SweepConfig:
    from sweeps.config import load_config

    overrides: dict[str, Any] = {}
    if trials is not None:
        overrides["trials"] = trials
    if seed is not None:
        overrides["sampler.seed"] = seed
    return load_config(config, overrides)


def _reach(address: str | None) -> None:
    """Whether anything listens at the address; Ray itself would try for minutes."""
    if address is None or address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"no Ray cluster answers at {address}: {error}") from None


def _import_path(config: Path) -> list[str]:
    """Where a user's own modules are looked for: beside the configuration, and here."""
    folders = list(dict.fromkeys((str(config.resolve().parent), str(Path.cwd()))))
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]
    return folders


def _kept_import_path(directory: RunDirectory) -> list[str]:
    """Where the sweep in ``directory`` found its user's modules."""
    kept: list[str] = directory.read_environment().get("import_path", [])
    sys.path[:0] = [folder for folder in kept if folder not in sys.path]
    return kept


def _default_out(name: str) -> Path:
    return RUNS / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def _workers(workers: int | None, settings: SweepConfig) -> int:
    return workers or settings.workers or len(os.sched_getaffinity(0))


def _drive(
    directory: RunDirectory,
    settings: SweepConfig,
    workers: int | None,
    address: str | None,
    import_path: list[str],
    as_json: bool,
) -> None:
    from rich.console import Console

    from sweeps.sweep import drive
    from sweeps.terminal import Display

    console = Console(stderr=True)
    again = f"tracerank resume {directory.path}"
    with Display(console, settings.metric_name) as display:
        result = drive(
            directory,
            settings,
            workers=_workers(workers, settings),
            address=address,
            import_path=import_path,
            on_progress=display.update,
        )
    if not result.complete:
        code = STOPPED if result.terminated else INTERRUPTED
        word = "stopped" if result.terminated else "interrupted"
        done = settings.trials - result.open
        _stop(f"{word} after {done} of {settings.trials} trials. Continue with: {again}", code)
    _report(directory, None, as_json)
    if result.counts["COMPLETE"] == 0:
        _stop(f"every trial failed; the first: {result.first_failure}", FAILED)


def _report(directory: RunDirectory, alpha: float | str | None, as_json: bool) -> None:
    from rich.console import Console

    from sweeps.results import report_run
    from sweeps.terminal import show_ranking

    results = report_run(directory, alpha)
    if as_json:
        _answer(json.dumps(results.ranking.to_json() | {"run": str(directory.path)}))
    else:
        _answer(directory.path)
    console = Console(stderr=True)
    show_ranking(console, results.ranking)
    page = directory.report / "index.html"
    console.print(f"Report: {page}", highlight=False, soft_wrap=True)

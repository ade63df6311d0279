"""The ``tracerank`` command.

People's text goes to stderr; stdout carries the run directory alone, or JSON with ``--json``. Exit
codes: 0 done, 1 the sweep failed, 2 bad usage or configuration, 3 stopped, 4 not found, 5
unreachable, 130 interrupted. What is heavy is imported by the command that needs it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeps.cli_answers import STDOUT, a_seed, answer, answer_now, as_json, other_trials, stop
from sweeps.cli_doctor import doctor
from sweeps.cli_jobs import COMMANDS
from sweeps.cli_score import score
from sweeps.exit_codes import FAILED, INTERRUPTED, NOT_FOUND, STOPPED, UNREACHABLE, USAGE
from sweeps.plain_text import printable

if TYPE_CHECKING:
    from search_spaces import Space
    from sweeps.handle import Sweep

a_workers = click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Trainings at once, at most (default: the CPUs there are, or the cluster's room).",
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
        from trace_core.durable import keep_from_others

        keep_from_others()
        ctx.obj = []
        try:
            with _stdout_to_stderr() as ctx.meta[STDOUT]:
                return self._invoke(ctx)
        finally:
            for text in ctx.obj:
                click.echo(printable(str(text)))

    def _invoke(self, ctx: click.Context) -> Any:
        from search_spaces import SpaceError
        from sweeps.config_messages import ConfigError
        from sweeps.decisions import DecisionError
        from sweeps.jobs.errors import JobError
        from sweeps.review.errors import ReviewError
        from sweeps.run_directory import RunDirectoryError
        from sweeps.storing import UnwrittenError
        from trace_core import TraceError

        told = (ConfigError, DecisionError, JobError, ReviewError, RunDirectoryError, SpaceError)
        try:
            return super().invoke(ctx)
        except (*told, TraceError, FileExistsError) as error:
            stop(str(error), USAGE)
        except UnwrittenError as error:
            stop(str(error), FAILED)
        except FileNotFoundError as error:
            stop(str(error), NOT_FOUND)
        except ConnectionError as error:
            stop(str(error), UNREACHABLE)
        except OSError as error:
            stop(f"{error.filename}: {error.strerror}" if error.filename else str(error), USAGE)
        except KeyboardInterrupt:
            stop("interrupted", INTERRUPTED)


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[int]:
    """Gives the descriptor of the real stdout."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield kept
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tracerank")
def main() -> None:
    """Sweep models and rank them by how well their learning can be followed."""


for _command in (doctor, score, *COMMANDS):
    main.add_command(_command)


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Run directory (default: runs/NAME-TIME)."
)
@other_trials
@a_workers
@a_seed
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
    from sweeps import api

    _sweep(
        lambda: api.run(
            config, out=out, trials=trials, workers=workers, seed=seed, ray_address=ray_address
        ),
        as_json,
    )


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
    from sweeps import api

    _sweep(
        lambda: api.resume(run_dir, trials=trials, workers=workers, ray_address=ray_address),
        as_json,
    )


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@a_workers
@as_json
def validate(config: Path, workers: int | None, as_json: bool) -> None:
    """Check CONFIG, show its space, count the trainings and estimate what they cost."""
    from sweeps.api import resolve, worker_count
    from sweeps.config import require_ready
    from sweeps.earlier import gather
    from sweeps.estimate import estimate

    settings, _ = resolve(config)
    require_ready(settings, str(config))
    earlier = gather(settings)
    try:
        costs = estimate(settings, worker_count(workers, settings))
    # A user's model may raise anything.
    except Exception as error:
        stop(f"{config}: valid, but its models can't be tried: {error}", USAGE)
    if as_json:
        answer(json.dumps({"config": settings.resolved(), "estimate": costs.to_json()}))
        return
    answer(f"{config} is valid: task {settings.task_name}, {settings.trials} trials")
    _show_space(settings.space)
    if settings.warm_start:
        taken = f"{len(earlier.points)} trials and {len(earlier.trainings)} trainings"
        answer(f"taken over from earlier sweeps: {taken}")
    answer(costs.words())


@main.command("list")
@click.argument("what", type=click.Choice(["spaces", "tasks", "runs"]))
@as_json
def list_(what: str, as_json: bool) -> None:
    """Show the architectures and initialisations, the tasks, or the run directories there are."""
    from sweeps.api import RUNS
    from sweeps.listing import listing

    rows = listing(what, RUNS)
    if as_json:
        answer(json.dumps(rows))
        return
    for row in rows:
        shown = ("?" if value is None else str(value) for value in row.values() if value != "")
        answer("  ".join(shown))


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """For what makes very many objects, and hardly any that refer to each other in a circle: to
    look for those again and again takes a fifth of a large report's time, and finds nothing.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@main.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--alpha", type=_Alpha(), help="Rank at this α instead of the configured one.")
@as_json
def report(run_dir: Path, alpha: float | str | None, as_json: bool) -> None:
    """Rebuild the report from the stored traces; nothing is retrained."""
    from sweeps import api

    with _without_collections():
        sweep = api.load(run_dir)
        sweep.report(alpha)
        _show(sweep, alpha, as_json)


@main.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--model", metavar="ID", help="The model that is chosen.")
@click.option("--reviewer", metavar="NAME", help="Who chooses it.")
@click.option("--reason", metavar="TEXT", help="Why.")
@click.option("--check", is_flag=True, help="Fail if the ranking changed since the last decision.")
@as_json
def decide(
    run_dir: Path,
    model: str | None,
    reviewer: str | None,
    reason: str | None,
    check: bool,
    as_json: bool,
) -> None:
    """Record which model was chosen and why, or check that the choice still stands."""
    from dataclasses import asdict

    from sweeps import decisions
    from sweeps.run_directory import RunDirectory

    given = {"--model": model, "--reviewer": reviewer, "--reason": reason}
    missing = [name for name, value in given.items() if value is None]
    if check and len(missing) < len(given):
        raise click.UsageError("--check takes no decision: leave out --model, --reviewer, --reason")
    if not check and missing:
        raise click.UsageError(f"a decision needs {', '.join(missing)} too (or --check)")
    run = RunDirectory.existing(run_dir)
    if check:
        made, holds = decisions.stands(run)
    else:
        made, holds = decisions.decide(run, str(model), str(reviewer), str(reason)), True
    if as_json:
        answer(json.dumps(asdict(made) | {"stands": holds}))
    else:
        answer(made.model_id)
    if not holds:
        stop(
            f"the ranking changed since {made.reviewer} chose {made.model_id} ({made.time}): "
            "look at the report again, and decide anew",
            FAILED,
        )


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path), default="runs")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8631, show_default=True, help="0: any free."
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="A file with the token that must be given; needed where other machines reach the address.",
)
@click.option(
    "--tls",
    nargs=2,
    metavar="CERTIFICATE KEY",
    type=click.Path(path_type=Path),
    help="Answer by HTTPS, with these PEM files.",
)
@as_json
def review(
    folder: Path,
    host: str,
    port: int,
    token_file: Path | None,
    tls: tuple[Path, Path] | None,
    as_json: bool,
) -> None:
    """Serve the runs in DIR (default: runs), finished and running, for review and decision.

    Its address is written to stdout once it answers. Ctrl-C ends it.
    """
    from sweeps.review.server import serve

    def ready(url: str) -> None:
        answer_now(json.dumps({"url": url}) if as_json else url)
        click.echo(f"Reviewing the runs in {folder}; open {url} (Ctrl-C ends it)", err=True)

    def stopped(*_: object) -> None:
        stop("stopped", STOPPED)

    signal.signal(signal.SIGTERM, stopped)
    serve(folder, ready, host=host, port=port, token_file=token_file, certificate=tls)


def _show_space(space: Space) -> None:
    """Its parameters as a table, in which long lists of values are folded."""
    import textwrap

    rows = [
        (row, textwrap.wrap(row.values or "–", 40, break_long_words=False, break_on_hyphens=False))
        for row in space.describe()
    ]
    names = max(len(row.name) for row, _ in rows)
    values = max(len(line) for _, lines in rows for line in lines)
    for row, (first, *others) in rows:
        answer(f"  {row.name:{names}}  {first:{values}}  {row.when}")
        for line in others:
            answer(f"  {'':{names}}  {line}")


def _sweep(make: Callable[[], Sweep], as_json: bool) -> None:
    """Run or resume, and show what came of it."""
    from sweeps.api import SweepInterrupted

    try:
        sweep = make()
    except SweepInterrupted as ended:
        stop(str(ended), STOPPED if ended.terminated else INTERRUPTED)
    _show(sweep, None, as_json)
    trials = sweep.trials
    if not (trials["state"] == "COMPLETE").any():
        first = next(filter(None, trials["reason"]), "")
        stop(f"every trial failed; the first: {first}" if first else "no trial was ended", FAILED)


def _show(sweep: Sweep, alpha: float | str | None, as_json: bool) -> None:
    from rich.console import Console

    from sweeps.terminal import show_ranking

    ranking = sweep.results(alpha).ranking
    if as_json:
        answer(json.dumps(ranking.to_json() | {"run": str(sweep.path)}))
    else:
        answer(sweep.path)
    console = Console(stderr=True)
    show_ranking(console, ranking)
    page = sweep.path / "report" / "index.html"
    console.print(f"Report: {page}", highlight=False, markup=False, soft_wrap=True)

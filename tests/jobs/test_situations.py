"""What people meet with jobs: each has its exit code, and one message that says what to do."""

from __future__ import annotations

import contextlib
import datetime
import json
import secrets
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints
import yaml
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from heads import TOKEN, Head
from inprocess import small
from servers import Answer, Proxy, a_ray, free_port, serving, silence

import sweeps
from sweeps.cli import main
from sweeps.jobs import client, watch
from sweeps.jobs.address import Address
from sweeps.jobs.client import Cluster
from sweeps.jobs.credentials import Token
from sweeps.jobs.errors import JobError, UnreachableError
from sweeps.jobs.job import Job, metadata
from sweeps.jobs.submit import Submitted, submit

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("alone")]

WAIT_SECONDS = 60.0


def write_config(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump(small(**changes)))
    return path


def cluster_of(head: Head) -> Cluster:
    return Cluster(Address(head.address, "a test"), Token(TOKEN, "a test"))


@contextlib.contextmanager
def running(shell: str) -> Iterator[None]:
    """Jobs that are sent run this, not the driver; it may name the attempt and the storage."""

    def entrypoint(job_id: str, attempt: str, storage: str, *others: object) -> str:
        return shell.replace("ATTEMPT", attempt).replace("FOLDER", f"{storage}/{job_id}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweeps.jobs.submit.entrypoint", entrypoint)
        yield


def send(
    head: Head, folder: Path, job_id: str, shell: str, storage: str | None = None, **more: Any
) -> Submitted:
    with running(shell):
        return send_as_it_is(head, folder, job_id, storage, **more)


def send_as_it_is(
    head: Head, folder: Path, job_id: str, storage: str | None = None, **more: Any
) -> Submitted:
    return submit(
        cluster_of(head),
        write_config(folder / "sweep.yaml"),
        job_id=job_id,
        storage=storage or str(folder / "store"),
        **more,
    )


def until(head: Head, job: Job, reached: Callable[[Job], bool]) -> Job:
    cluster, end = cluster_of(head), time.monotonic() + WAIT_SECONDS
    while not reached(job):
        assert time.monotonic() < end, job
        time.sleep(0.2)
        job = cluster.latest(job)
    return job


def wait_for(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.1)


@dataclass
class Known:
    """Jobs of one configuration, one in every state, in one storage."""

    head: Head
    folder: Path


@pytest.fixture(scope="module")
def known(ray_head: Head, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    folder = tmp_path_factory.mktemp("known")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        jobs = {
            "good": "echo one; echo two",
            "bad": "echo no luck; exit 7",
            "halted": "exit 3",
            "killed": "sleep 600",
            "busy": "sleep 600",
        }
        sent = {name: send(ray_head, folder, name, shell).job for name, shell in jobs.items()}
    killed = until(ray_head, sent["killed"], lambda job: job.state == "RUNNING")
    assert cluster_of(ray_head).stop(killed)
    until(ray_head, sent["busy"], lambda job: job.state == "RUNNING")
    for name in ("good", "bad", "halted", "killed"):
        until(ray_head, sent[name], lambda job: job.over)
    yield Known(ray_head, folder)
    cluster_of(ray_head).stop(sent["busy"])


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def assert_told(result: Result, code: int, *words: str) -> None:
    assert not result.exception or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert TOKEN not in result.output
    for word in words:
        assert word in result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("tracerank: ")]
    told = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) + len(told) == (code != 0), result.stderr


@pytest.fixture
def at_head(known: Known, alone: Path, monkeypatch: pytest.MonkeyPatch) -> Known:
    monkeypatch.setenv("TRACERANK_ADDRESS", known.head.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    config = (known.folder / "sweep.yaml").read_text()
    (alone / "sweep.yaml").write_text(config)
    (alone / "full").mkdir()
    (alone / "full" / "file").touch()
    (alone / "empty").touch(0o600)
    write_config(alone / "other.yaml", name="other")
    write_config(alone / "wrong.yaml", task="whine")
    return known


S = "--storage"
SITUATIONS: list[tuple[str, list[str], int, tuple[str, ...]]] = [
    ("wait for a success", ["wait", "good"], 0, ("SUCCEEDED",)),
    ("status of a success", ["status", "good"], 0, ("SUCCEEDED", "6 trials")),
    ("status of a running one", ["status", "busy"], 0, ("RUNNING",)),
    ("wait for a failure", ["wait", "bad"], 1, ("FAILED", "exit code 7", "tracerank logs bad")),
    ("status of a failure", ["status", "bad"], 1, ("FAILED",)),
    ("following a failure", ["logs", "-f", "bad"], 1, ("FAILED",)),
    ("the log of a failure", ["logs", "bad"], 0, ()),
    ("wait for a stopped one", ["wait", "halted"], 3, ("STOPPED", "Stopped in order")),
    ("stopped elsewhere", ["wait", "killed"], 3, ("STOPPED", "--id killed")),
    ("following what was stopped", ["logs", "-f", "killed"], 3, ("STOPPED",)),
    ("status of an unknown id", ["status", "nobody"], 4, ("knows no such job",)),
    ("wait for an unknown id", ["wait", "nobody"], 4, ("knows no such job",)),
    ("logs of an unknown id", ["logs", "-f", "nobody"], 4, ("knows no such job",)),
    ("stop of an unknown id", ["stop", "nobody"], 4, ("knows no such job",)),
    ("fetch of an unknown id", ["fetch", "nobody"], 4, ("knows no such job", S)),
    ("fetch of an id that isn't stored", ["fetch", "nobody", S, "full"], 4, ("no run directory",)),
    ("fetch before there is anything", ["fetch", "busy"], 4, ("no run directory",)),
    ("fetch into a taken place", ["fetch", "good", "--out", "full"], 2, ("not fetched", "--out")),
    ("fetch into a file", ["fetch", "good", "--out", "empty"], 2, ("is a file",)),
    ("a bad id", ["status", "../x"], 2, ("must be 1 to 100 letters",)),
    ("an id like an attempt's", ["submit", "sweep.yaml", "--id", "a--2"], 2, ("two hyphens",)),
    ("submitted twice", ["submit", "sweep.yaml", "--id", "busy"], 0, ("is running already",)),
    ("submitted after it succeeded", ["submit", "sweep.yaml", "--id", "good"], 0, ("--trials N",)),
    ("another configuration", ["submit", "other.yaml", "--id", "busy"], 2, ("another confi",)),
    ("another storage", ["submit", "sweep.yaml", "--id", "bad", S, "x"], 2, ("its storage is",)),
    ("more of what runs", ["submit", "sweep.yaml", "--id=busy", "--trials=9"], 2, ("ended",)),
    ("less than before", ["submit", "sweep.yaml", "--id=good", "--trials=2"], 2, ("not cut",)),
    ("no storage", ["submit", "sweep.yaml"], 2, ("--storage", "TRACERANK_STORAGE")),
    ("a storage of no kind", ["submit", "sweep.yaml", S, "nfs9://host/x"], 2, ("nfs9",)),
    ("a storage with a secret", ["submit", "sweep.yaml", S, "s3://u:hush@b/x"], 2, ("secret",)),
    ("fetch from such a one", ["fetch", "good", S, "s3://b/x?secret_key=hush"], 2, ("secret",)),
    ("a bad configuration", ["submit", "wrong.yaml", S, "x"], 2, ("task:", "wine")),
    ("no configuration", ["submit", "nowhere.yaml", S, "x"], 2, ("there is no such file",)),
    ("wait's time-out", ["wait", "busy", "--timeout", "0.3"], 130, ("the job goes on",)),
    ("a bad time-out", ["wait", "busy", "--timeout", "-1"], 2, ("--timeout",)),
    ("stop of a success", ["stop", "good"], 0, ("has ended already: SUCCEEDED",)),
    ("stop of a failure", ["stop", "bad"], 0, ("has ended already: FAILED",)),
    ("a bad address", ["jobs", "--address", "ray://host:1"], 2, ("Ray Client", "HOST:PORT")),
    ("a token file that is empty", ["jobs", "--token-file", "empty"], 2, ("is empty",)),
    ("a token file that isn't there", ["jobs", "--token-file", "none"], 2, ("can't be read",)),
    ("a wrong token", ["jobs", "--token-file", "TOKEN"], 5, ("refused the token", "RAY_AUTH_TO")),
    ("a dead address", ["jobs", "--address", "DEAD"], 5, ("no cluster answers", "--address")),
    ("submit to one", ["submit", "sweep.yaml", S, "x", "--address", "DEAD"], 5, ("no cluster",)),
    ("fetch from one", ["fetch", "good", "--address", "DEAD"], 5, ("no cluster", S)),
    ("a black hole", ["jobs", "--address", "SILENT"], 5, ("gives no answer within 0.5 s",)),
    ("an odd host", ["jobs", "--address", "a..b:80"], 5, ("a..b",)),
    ("no host", ["jobs", "--address", "nowhere.invalid:80"], 5, ("nowhere.invalid",)),
    ("no TLS there", ["jobs", "--address", "HTTPS-OF-HEAD"], 5, ("write http://",)),
    ("no certificates", ["jobs", "--address", "https://a:1", "--ca", "empty"], 2, ("PEM",)),
    ("no file of them", ["jobs", "--address", "https://a:1", "--ca", "none"], 2, ("No such",)),
    ("a page", ["jobs", "--address", "PAGE"], 5, ("doesn't answer as a Ray", "<!doctype")),
    ("nothing in the answer", ["status", "good", "--address", "EMPTY"], 5, ("gave nothing",)),
    ("sent elsewhere", ["jobs", "--address", "REDIRECT"], 5, ("https://elsewhere.example",)),
    ("nothing there", ["wait", "good", "--address", "MISSING"], 5, ("404",)),
    ("a failing one", ["jobs", "--address", "FAILING"], 5, ("No available agent",)),
    ("an old Ray", ["submit", "sweep.yaml", S, "x", "--address", "OLD"], 5, ("Ray 2.9.3", "2.60")),
    ("a new one", ["submit", "sweep.yaml", S, "x", "--address", "NEW"], 5, ("below 3.0",)),
    ("an old Python", ["submit", "sweep.yaml", S, "x", "--address", "PY"], 5, ("Python 3.9.1",)),
    ("no command", ["submit"], 2, ("Missing argument 'CONFIG'",)),
]


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, str]]:
    """Addresses at which something else answers."""

    def always(status: int, kind: str, body: bytes) -> Callable[[str, str], Answer]:
        return lambda method, path: (status, kind, body)

    answers = {
        "PAGE": always(200, "text/html", b"<!doctype html><title>Hello</title>"),
        "EMPTY": always(200, "application/json", b""),
        "REDIRECT": always(302, "text/plain", b""),
        "MISSING": always(404, "text/html", b"<h1>Not Found</h1>"),
        "FAILING": always(500, "text/plain", b"Traceback\n  x\nValueError: No available agent\n."),
        "OLD": a_ray(ray="2.9.3"),
        "NEW": a_ray(ray="3.1.0"),
        "PY": a_ray(python="3.9.18"),
    }
    with contextlib.ExitStack() as stack:
        found = {name: stack.enter_context(serving(answer)) for name, answer in answers.items()}
        found["SILENT"] = stack.enter_context(silence())
        found["DEAD"] = f"127.0.0.1:{free_port()}"
        yield found


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [case[1:] for case in SITUATIONS],
    ids=[case[0].replace(" ", "-") for case in SITUATIONS],
)
def test_situations(
    arguments: list[str],
    code: int,
    words: tuple[str, ...],
    at_head: Known,
    places: dict[str, str],
    alone: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "READ_SECONDS", 0.5 if "SILENT" in arguments else 30.0)
    monkeypatch.setattr(client, "PAUSES", (0.01,))
    token = alone / "TOKEN"
    token.write_text("wrong")
    token.chmod(0o600)
    secure = at_head.head.address.replace("http:", "https:")
    given = [places.get(word, word).replace("HTTPS-OF-HEAD", secure) for word in arguments]
    result = invoke(*given)
    assert_told(result, code, *words)
    assert "hush" not in result.output


def test_without_a_token(at_head: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    for command in (["jobs"], ["logs", "-f", "good"], ["wait", "good"]):
        assert_told(invoke(*command), 5, "asks for a token", "none was found", "RAY_AUTH_TOKEN")


def test_who_is_asked_is_told(at_head: Known, alone: Path) -> None:
    told = invoke("jobs").stderr
    assert f"Cluster: {at_head.head.address} (from TRACERANK_ADDRESS)" in told
    given = at_head.head.address.removeprefix("http://")
    assert f"{at_head.head.address} (from --address)" in invoke("jobs", "--address", given).stderr


def test_answers_for_programs(at_head: Known) -> None:
    rows = json.loads(invoke("jobs", "--json").stdout)
    states = {row["id"]: row["state"] for row in rows}
    assert (
        states.items()
        >= {
            "good": "SUCCEEDED",
            "bad": "FAILED",
            "halted": "STOPPED",
            "killed": "STOPPED",
            "busy": "RUNNING",
        }.items()
    )
    for command in (["status", "bad"], ["wait", "bad"], ["stop", "bad"]):
        told = json.loads(invoke(*command, "--json").stdout)
        assert (told["state"], told["exit_code"], told["attempt"]) == ("FAILED", 7, 1)
    assert invoke("wait", "bad").stdout == "FAILED\n"
    sent = invoke("submit", "sweep.yaml", "--id", "good")
    assert sent.stdout == "good\n"
    assert (
        json.loads(invoke("submit", "sweep.yaml", "--id", "good", "--json").stdout)["sent"] is False
    )


def test_a_log(at_head: Known, capfd: pytest.CaptureFixture[str]) -> None:
    for command in (["logs", "good"], ["logs", "-f", "good"]):
        assert_told(invoke(*command), 0)
        assert capfd.readouterr().out.count("\none\ntwo\n") == 1
    result = invoke("logs", "-f", "good", "--json")
    assert "\none\ntwo\n" in json.loads(capfd.readouterr().out)["log"]
    assert json.loads(result.stdout)["state"] == "SUCCEEDED"


def test_too_large_a_package(at_head: Known, alone: Path) -> None:
    with (alone / "huge.txt").open("wb") as file:
        file.truncate(101 * 1024 * 1024)
    result = invoke("submit", "sweep.yaml", S, "x")
    assert_told(result, 2, "101.", "huge.txt", "--exclude")


def test_a_proxy_that_takes_little(at_head: Known) -> None:
    ray = a_ray()

    def answer(method: str, path: str) -> Answer:
        return (413, "text/html", b"<html>") if method == "PUT" else ray(method, path)

    with serving(answer) as address:
        result = invoke("submit", "sweep.yaml", S, "x", "--address", address)
        assert_told(result, 5, "at once", "--exclude")


@pytest.mark.parametrize("arrives", [False, True])
def test_an_answer_that_got_lost(
    arrives: bool, at_head: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, tries = cluster_of(at_head.head), []
    send_it = cluster._send

    def cut_once(request: dict[str, Any]) -> tuple[int, bytes]:
        tries.append(request)
        if len(tries) == 1 and not arrives:
            raise UnreachableError("cut")
        answer = send_it(request)
        if len(tries) == 1:
            raise UnreachableError("cut")
        return answer

    monkeypatch.setattr(cluster, "_send", cut_once)
    assert cluster.submit({"entrypoint": "true", "submission_id": f"lost-{arrives}"})
    assert cluster.is_taken(f"lost-{arrives}")
    assert len(tries) == (1 if arrives else 2)


def test_an_id_of_anothers(at_head: Known, alone: Path) -> None:
    cluster = cluster_of(at_head.head)
    assert cluster.submit({"entrypoint": "true", "submission_id": "theirs"})
    result = invoke("submit", "sweep.yaml", "--id", "theirs", S, "x")
    assert_told(result, 2, "is no job of tracerank's")
    assert_told(invoke("status", "theirs"), 4, "knows no such job")
    assert "theirs" not in invoke("jobs").stdout


def test_two_at_once_are_one_job(at_head: Known, alone: Path) -> None:
    with running("sleep 600"), ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: send_as_it_is(at_head.head, alone, "pair"), range(2)))
    assert [one.job.submission_id for one in both] == ["pair", "pair"]
    assert sorted(one.sent for one in both) == [False, True]
    cluster_of(at_head.head).stop(both[0].job)


def test_the_next_attempt_goes_on(at_head: Known, alone: Path) -> None:
    first = until(
        at_head.head, send(at_head.head, alone, "again", "exit 1").job, lambda job: job.over
    )
    with pytest.raises(JobError, match="its storage is"):
        send(at_head.head, alone, "again", "true", storage=str(alone / "elsewhere"))
    second = send(at_head.head, alone, "again", "true", trials=9)
    assert (first.attempt, second.job.attempt, second.sent) == (1, 2, True)
    assert second.job.attempts == ("again", "again--2")
    assert until(at_head.head, second.job, lambda job: job.over).state == "SUCCEEDED"
    assert invoke("status", "again").stdout == "SUCCEEDED\n"
    with pytest.raises(JobError, match="--trials 9"):
        send(at_head.head, alone, "again", "true")
    assert not send(at_head.head, alone, "again", "true", trials=9).sent


BEGUN = "mkdir -p FOLDER; touch FOLDER/driver.json; "
ASKED = f"{BEGUN}until grep -q '\"ATTEMPT\"' FOLDER/stop; do sleep 0.2; done; exit 3"


@pytest.mark.parametrize(
    ("shell", "storage", "grace", "words"),
    [
        (ASKED, None, "60", ("Stopped in order", "asked")),
        (f"{BEGUN}sleep 600", None, "0.5", ("hasn't stopped within",)),
        ("sleep 600", None, "0", ()),
        ("sleep 600", None, "60", ("no driver", "at once")),
        ("sleep 600", "s3://none/x?scheme=http&endpoint_override=127.0.0.1:9", "60", ("can't be",)),
    ],
    ids=["in-order", "too-slow", "at-once", "not-begun", "storage-out-of-reach"],
)
def test_stop(
    shell: str,
    storage: str | None,
    grace: str,
    words: tuple[str, ...],
    at_head: Known,
    alone: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    name = f"stop-{secrets.token_hex(4)}"
    job = send(at_head.head, alone, name, shell, storage).job
    until(at_head.head, job, lambda job: job.state == "RUNNING")
    if BEGUN in shell:
        begun = alone / "store" / name / "driver.json"
        wait_for(begun.exists)
    result = invoke("stop", name, "--grace", grace)
    assert_told(result, 0, *words)
    assert result.stdout == "STOPPED\n"
    assert_told(invoke("wait", name), 3)


LINES = "for i in $(seq 30); do echo line $i of them; sleep 0.1; done; echo done; exit 7"


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_a_log_whose_stream_is_cut(
    secure: bool,
    at_head: Known,
    alone: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"cut-{secure}"
    send(at_head.head, alone, name, LINES)
    monkeypatch.setenv("TRACERANK_CA", str(certificate(alone)))
    tls = server_context(certificate(alone)) if secure else None
    with Proxy(at_head.head.port, tls) as proxy:

        def cut_and_refuse() -> None:
            for _ in range(3):
                time.sleep(1.5)
                proxy.refusing = True
                proxy.cut()
                time.sleep(0.3)
                proxy.refusing = False

        cutting = threading.Thread(target=cut_and_refuse)
        cutting.start()
        result = invoke("logs", "-f", name, "--address", proxy.address)
        cutting.join()
        assert proxy.cuts >= 2
    assert_told(result, 1, "FAILED")
    printed = [line for line in capfd.readouterr().out.splitlines() if line.startswith("line ")]
    assert printed == [f"line {number} of them" for number in range(1, 31)]


def test_waiting_over_a_silence(
    at_head: Known, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAUSES", (0.01,))
    send(at_head.head, alone, "patient", "sleep 3")
    with Proxy(at_head.head.port) as proxy:

        def fall_silent() -> None:
            time.sleep(1.5)
            proxy.refusing = True
            proxy.cut()
            time.sleep(2)
            proxy.refusing = False

        falling = threading.Thread(target=fall_silent)
        falling.start()
        result = invoke("wait", "patient", "--address", proxy.address)
        falling.join()
        assert_told(result, 0, "trying again", "answers again", "SUCCEEDED")
        proxy.refusing = True
        monkeypatch.setattr(watch, "PATIENCE_SECONDS", 0.2)
        assert_told(invoke("wait", "patient", "--address", proxy.address), 5, "was cut")


PROGRAM = [sys.executable, "-c", "from sweeps.cli import main; main()"]


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("command", [["wait", "busy"], ["logs", "-f", "busy"]])
def test_who_leaves_is_told_that_the_job_goes_on(command: list[str], at_head: Known) -> None:
    process = start(*command)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("Cluster: ")
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130, told
    assert "busy goes on" in told
    assert "Traceback" not in told


def test_a_reader_that_has_seen_enough(at_head: Known) -> None:
    process = start("logs", "good")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


@pytest.mark.parametrize("command", [["status", "far"], ["wait", "far", "--timeout", "1"]])
def test_a_storage_out_of_reach_keeps_nobody(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with silence() as hole:
        storage = f"s3://bucket/x?scheme=http&endpoint_override={hole.removeprefix('http://')}"
        row = {
            "submission_id": "far",
            "status": "SUCCEEDED",
            "metadata": metadata("far", storage, "name", "config", 3),
        }

        def answer(method: str, path: str) -> Answer:
            told = [row] if path == "/api/jobs/" else row
            return 200, "application/json", json.dumps(told).encode()

        with serving(answer) as address:
            begun = time.monotonic()
            process = start(*command, "--address", address)
            assert process.communicate(timeout=60)[0] == "SUCCEEDED\n"
            assert process.returncode == 0
            # What PyArrow has asked for already is waited for at the end: 3 s.
            assert time.monotonic() - begun < 20


def test_fetch(at_head: Known, alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a cluster and without; only what is new; nothing that was done here is lost."""
    stored = at_head.folder / "store" / "good"
    for name in ("study.journal", "traces/a.npz", "traces/a.json", "sweep.yaml", "report/r.md"):
        (stored / name).parent.mkdir(parents=True, exist_ok=True)
        (stored / name).write_text(f"{name}\n")
    (stored / "progress.json").write_text('{"state": "running", "attempt": "good"}')
    result = invoke("fetch", "good")
    assert_told(result, 0, "tracerank report runs/good")
    assert result.stdout == "runs/good\n"
    here = alone / "runs" / "good"
    assert (here / "traces" / "a.npz").read_text() == "traces/a.npz\n"
    assert not (here / "progress.json").exists()
    monkeypatch.setenv("TRACERANK_ADDRESS", "127.0.0.1:1")
    (stored / "study.journal").write_text("study.journal\nmore\n")
    again = invoke("fetch", "good", S, str(stored.parent), "--json")
    assert_told(again, 0, "hasn't ended")
    assert json.loads(again.stdout) == {"id": "good", "run": "runs/good"}
    assert (here / "study.journal").read_text() == "study.journal\nmore\n"
    monkeypatch.setenv("TRACERANK_STORAGE", str(stored.parent))
    assert_told(invoke("fetch", "good"), 0, "no cluster answers", "TRACERANK_STORAGE")
    (here / "study.journal").write_text("study.journal\nmine\n")
    assert_told(invoke("fetch", "good", S, str(stored.parent)), 2, "gone on with here", "--out")
    assert_told(invoke("fetch", "good", S, "elsewhere"), 2, "holds job good of")


def certificate(folder: Path) -> Path:
    """A certificate for localhost that signed itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


def server_context(file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def test_tls(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = certificate(alone)
    with serving(a_ray(), server_context(file)) as address:
        port = address.rpartition(":")[2]
        url = f"https://localhost:{port}"
        assert_told(invoke("jobs", "--address", url), 5, "can't be trusted", "self-signed", "--ca")
        assert_told(invoke("jobs", "--address", url, "--ca", str(file)), 0, "knows no jobs")
        monkeypatch.setenv("TRACERANK_CA", str(file))
        assert_told(invoke("jobs", "--address", url), 0, "knows no jobs")
        other = f"https://127.0.0.1:{port}"
        assert_told(invoke("jobs", "--address", other), 5, "can't be trusted", "127.0.0.1")


def test_a_sweep_from_submit_to_its_report(
    at_head: Known, alone: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sent = invoke("submit", "sweep.yaml", S, "store", "--wait")
    assert_told(sent, 0, "is submitted")
    job_id = capfd.readouterr().out.strip()
    assert job_id.startswith("small-")
    assert "6/6 trials" in invoke("status", job_id).stderr
    assert_told(invoke("fetch", job_id, "--out", "here"), 0)
    assert (alone / "here" / "report" / "index.html").is_file()
    assert_told(invoke("report", "here"), 0)


def test_what_the_configuration_names_comes_along(at_head: Known, alone: Path) -> None:
    rows = [f"{word} film,{word}" for word in ("good", "bad") for _ in range(30)]
    rows = [f"{index} {row}" for index, row in enumerate(rows)]
    (alone / "reviews.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    tiny_checkpoints.bert(alone / "models" / "tiny")
    write_config(
        alone / "sweep.yaml",
        task={"text_classification": {"file": "reviews.csv"}},
        budget={"epochs": 4, "batch_size": 8},
        replicates=1,
        trials=1,
        space={"architecture": {"pretrained": {"checkpoint": "models/tiny", "max_length": 16}}},
    )
    sent = invoke("submit", "sweep.yaml", S, "store", "--wait", "--id", "along")
    assert_told(sent, 0, "is submitted")
    assert_told(invoke("fetch", "along", "--out", "here"), 0)
    (alone / "reviews.csv").unlink()
    assert_told(invoke("report", "here"), 0)
    assert sweeps.load(alone / "here").trials["state"].tolist() == ["COMPLETE"]

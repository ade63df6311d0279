"""Secrets of the environment: they stand in nothing that a sweep writes, prints or logs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from inprocess import prepared, small

from sweeps.last_words import LOG_CHARACTERS, Tail
from sweeps.records import TrainingRecord
from sweeps.redaction import without_secrets
from sweeps.selection import read_trials
from sweeps.selection.place import Place

ROOT = Path(__file__).parent.parent.parent

SECRETS = {
    name: f"s3cr3t-{number}-{name.lower()}-7f9c2ba4e88f827d"
    for number, name in enumerate(
        (
            *("WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD"),
            *("HF_TOKEN", "MLFLOW_TRACKING_PASSWORD", "RAY_AUTH_TOKEN", "SOMEBODYS_OWN_SECRET"),
        )
    )
}

MODULE = """
import os

from torch import nn


def fine(shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape.features, shape.outputs))


def careless(shape):
    print("the environment:", dict(os.environ))
    raise RuntimeError(f"login failed with {os.environ['HF_TOKEN']}")
"""


KEY = "-----BEGIN KEY-----\n  MIIEvQIBADANBgkqhkiG9w0B\nZm9v\n--\n"


def found_in(data: bytes) -> list[str]:
    return [name for name, value in SECRETS.items() if value.encode() in data]


def files_with_secrets(folder: Path) -> dict[str, list[str]]:
    """Of a folder, whatever is in it, also compressed: npz members and parquet are read."""
    found: dict[str, list[str]] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            held = found_in(path.read_bytes())
            if held:
                found[str(path.relative_to(folder))] = held
    return found


def process_lines(children_of: int) -> dict[int, bytes]:
    """The command lines of a process and all below it; what others may read of a process."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = (int(status[1]), (folder / "cmdline").read_bytes())
        except OSError:
            continue
    below, grown = {children_of}, True
    while grown:
        more = {pid for pid, (parent, _) in parents.items() if parent in below} - below
        grown, below = bool(more), below | more
    return {pid: parents[pid][1] for pid in below if pid in parents}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[bytes]]:
    """A sweep with secrets in its environment: its folder, what it printed, and the command lines
    of its processes meanwhile.
    """
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "models.py").write_text(MODULE)
    space = small()["space"] | {"architecture": ["models:fine", "models:careless"]}
    config = small(trials=4, replicates=1, space=space, loggers=["tensorboard"], workers=1)
    (folder / "sweep.yaml").write_text(yaml.safe_dump(config))
    environment = {
        **os.environ,
        **SECRETS,
        "PYTHONPATH": f"{ROOT}:{folder}",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder),
        "RAY_TMPDIR": str(folder / "r"),
        "RAY_AUTH_MODE": "token",
    }
    (folder / "home").mkdir()
    command = [sys.executable, "-c", "from sweeps.cli import main; main()", "run", "sweep.yaml"]
    with subprocess.Popen(
        [*command, "--out", "run"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        printed: list[str] = []
        assert process.stdout is not None
        stream = process.stdout
        reader = threading.Thread(target=lambda: printed.append(stream.read()))
        reader.start()
        lines: list[bytes] = []
        while process.poll() is None:
            lines += process_lines(process.pid).values()
            time.sleep(0.2)
        reader.join()
    assert process.returncode == 0, printed[0]
    return folder, printed[0], lines


@pytest.mark.slow
def test_no_secret_is_written_or_printed(swept: tuple[Path, str, list[bytes]]) -> None:
    folder, printed, _ = swept
    ledger = [json.loads(path.read_text()) for path in (folder / "run" / "traces").glob("*.json")]
    failed = [each for each in ledger if each["state"] == "FAILED"]
    assert failed, "the careless model was never tried"
    assert "<HF_TOKEN>" in failed[0]["reason"]
    assert "<WANDB_API_KEY>" in failed[0]["log_tail"]
    assert files_with_secrets(folder / "run") == {}
    assert not found_in(printed.encode())
    assert (folder / "run" / "report" / "index.html").exists()
    assert list((folder / "run").rglob("events.out.tfevents.*"))


@pytest.mark.slow
def test_no_secret_stands_in_a_command_line(swept: tuple[Path, str, list[bytes]]) -> None:
    _, _, lines = swept
    assert any(b"raylet" in line for line in lines)
    assert [found_in(line) for line in lines if found_in(line)] == []


@pytest.mark.slow
def test_what_ray_keeps_holds_no_secret(swept: tuple[Path, str, list[bytes]]) -> None:
    """Nor do its session's logs, where a worker's output would be."""
    folder, _, _ = swept
    sessions = [path for path in folder.rglob("session_*") if path.is_dir()]
    assert sessions
    held = {name for each in sessions for name in files_with_secrets(each)}
    assert held == set()


def test_what_is_kept_of_a_failed_training(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    told = {"reason": f"no access with {SECRETS['HF_TOKEN']}", "log_tail": str(dict(os.environ))}
    record = TrainingRecord("a", "b", 0, "FAILED", 0, "c", 1.0, **told)  # type: ignore[arg-type]
    assert record.reason == "no access with <HF_TOKEN>"
    assert not found_in(record.log_tail.encode())


@pytest.mark.parametrize("before", range(len("is ") + len(SECRETS["HF_TOKEN"])))
def test_the_end_of_what_was_printed_begins_with_no_half_of_a_secret(
    monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    secret = SECRETS["HF_TOKEN"]
    monkeypatch.setenv("HF_TOKEN", secret)
    tail = Tail()
    tail.write(f"is {secret} {'x' * (LOG_CHARACTERS - before)}")
    left = tail.text.partition("x")[0].strip()
    assert left in "is <HF_TOKEN>"


@pytest.mark.parametrize("size", [1, 3, 7, 8, 20])
def test_a_secret_that_is_printed_in_pieces_is_told_whole(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRETS["HF_TOKEN"])
    told: list[str] = []
    tail = Tail(lambda text, tail: told.append(text))
    # Of another one, which the code itself loads, half is printed first.
    monkeypatch.setenv("LATER_TOKEN", "s3cr3t-and-more")
    text = f"s3cr3t-s3cr3t-an s3cr3t-and-more {SECRETS['HF_TOKEN']}s\n"
    for at in range(0, len(text), size):
        tail.write(text[at : at + size])
    assert tail.text == "s3cr3t-s3cr3t-an <LATER_TOKEN> <HF_TOKEN>s\n"
    assert "".join(told) == tail.text


def test_what_a_killed_process_leaves_holds_no_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRETS["HF_TOKEN"])
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from sweeps.last_words import Tail, Witness\n"
        "witness = Witness()\n"
        "witness.begin(Path(sys.argv[1]))\n"
        "print('is', os.environ['HF_TOKEN'], 'x' * 70_000, file=Tail(witness.keep))\n"
        "print('is', os.environ['HF_TOKEN'], file=Tail(witness.keep))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "a.words"
    assert subprocess.run([sys.executable, "-c", code, path]).returncode == -signal.SIGKILL
    left = path.read_bytes()
    assert left.endswith(b"is <HF_TOKEN>\n")
    assert not found_in(left)


class Asking(threading.Thread):
    """A server that speaks PostgreSQL's protocol as far as asking for a password in clear."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.told = b""

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                # Encryption is asked for in a message of 8 bytes, and refused by a letter.
                while len(connection.recv(1000)) == 8:
                    connection.sendall(b"N")
                connection.sendall(b"R" + struct.pack("!ii", 8, 3))
                self.told += connection.recv(1000)


@pytest.mark.parametrize("allowed", [False, True])
def test_the_server_of_a_foreign_study_is_told_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setenv("PGPASSWORD", SECRETS["PGPASSWORD"])
    monkeypatch.delenv("PGREQUIREAUTH", raising=False)
    if allowed:
        monkeypatch.setenv("PGREQUIREAUTH", "password")
    server = Asking()
    server.start()
    run, _ = prepared(tmp_path / "run")
    place = Place(f"postgresql://someone@127.0.0.1:{server.port}/study", "study")
    run.study.write_text(json.dumps(asdict(place)))
    with pytest.raises(ConnectionError, match="cannot be reached") as raised:
        read_trials(run)
    server.socket.close()
    assert bool(found_in(server.told)) == allowed
    assert not found_in(str(raised.value).encode())


@pytest.mark.parametrize(
    ("environment", "text", "expected"),
    [
        ({"MY_TOKEN": "abcdefgh"}, "is abcdefgh!", "is <MY_TOKEN>!"),
        ({"A_SECRET": "abcdefgh", "B_TOKEN": "abcdefghij"}, "abcdefghij", "<B_TOKEN>"),
        ({"A_TOKEN": "short"}, "short", "short"),
        ({"TOKENIZERS_PARALLELISM": "abcdefgh"}, "abcdefgh", "abcdefgh"),
        ({"RAY_AUTH_TOKEN_PATH": __file__}, __file__, __file__),
        ({"A_PASSWORD": "/not/a/path"}, "with /not/a/path", "with <A_PASSWORD>"),
        ({"A_PRIVATE_KEY": KEY}, KEY, "<A_PRIVATE_KEY>"),
        ({"A_PRIVATE_KEY": KEY}, KEY[:-4], "<A_PRIVATE_KEY>\n  <A_PRIVATE_KEY>\nZm9v"),
        ({"A_PRIVATE_KEY": KEY}, repr({"k": KEY}), "{'k': '<A_PRIVATE_KEY>'}"),
        ({"A_PRIVATE_KEY": KEY}, json.dumps([KEY]), '["<A_PRIVATE_KEY>"]'),
        ({"A_PRIVATE_KEY": KEY}, "of MIIEvQIBADANBgkqhkiG9w0B:", "of <A_PRIVATE_KEY>:"),
        ({"A_SECRET": 'a"b\\c\u00e9defgh'}, json.dumps('a"b\\c\u00e9defgh'), '"<A_SECRET>"'),
        ({"DB_PASSWORD_2": "abcdefgh"}, "abcdefgh", "<DB_PASSWORD_2>"),
        ({"A_TOKEN": "abcdefgh"}, "", ""),
    ],
)
def test_what_is_taken_for_a_secret(environment: dict[str, str], text: str, expected: str) -> None:
    assert without_secrets(text, environment) == expected

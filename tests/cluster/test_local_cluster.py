"""``make cluster``: three nodes that ask for a token, and nothing of them after Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from sweeps.jobs.local_cluster import main

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_port_in_use_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usual = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    assert f"port {port} is in use" in capsys.readouterr().err
    assert usual == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def ask(url: str, token: str | None, data: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(url, data=json.dumps(data).encode() if data else None)
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def below(pid: int) -> list[int]:
    """The numbers of all processes below one."""
    pairs = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(file.read_text().rpartition(")")[2].split()[1])
            pairs.append((int(file.parent.name), parent))
    found = [pid]
    for parent in found:
        found += [child for child, its in pairs if its == parent]
    return found[1:]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_it_runs_a_job_and_leaves_nothing(home: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "http_proxy": "http://127.0.0.1:9"}
    before = set(Path("/tmp").glob("tracerank-cluster-*"))
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeps.jobs.local_cluster", "--cpus", "1"],
        env=environment,
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        token = (home / ".ray" / "auth_token").read_text()
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            ask(f"{url}/api/jobs/", None)
        refused.value.close()
        nodes = ask(f"{url}/api/v0/nodes?detail=true", token)["data"]["result"]["result"]
        assert sorted(node["resources_total"].get("CPU", 0) for node in nodes) == [0, 1, 1]
        # One that goes on, and that has left its session.
        entrypoint = "setsid sleep 1000 & echo here; sleep 1000"
        job = ask(f"{url}/api/jobs/", token, {"entrypoint": entrypoint})["submission_id"]
        deadline = time.monotonic() + 90
        while "here" not in ask(f"{url}/api/jobs/{job}/logs", token)["logs"]:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        pids = below(process.pid)
        assert len(pids) > 10
        (folder,) = set(Path("/tmp").glob("tracerank-cluster-*")) - before
    finally:
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 0, said
    assert "tracerank submit examples/digits.yaml" in said
    assert url in said
    assert "Traceback" not in said
    assert token not in said
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not folder.exists()


@pytest.mark.slow
def test_it_can_be_ended_while_it_starts(home: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeps.jobs.local_cluster"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(pids := below(process.pid)) < 3:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 0, said
    assert "submit" not in said
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]

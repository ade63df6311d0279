"""The cluster that the other tests rely on: its machines share nothing, and die when they shall."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from namespaces import Cluster, Node

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

VISITS = """
import json, os, ray, time
ray.init(address="auto", log_to_driver=False)

@ray.remote(num_cpus=2)
def visit(name):
    time.sleep(1)
    for folder in ("/tmp", os.path.expanduser("~"), "/dev/shm"):
        open(os.path.join(folder, name), "w").close()
    own = [key for key in os.environ if key.startswith("AWS_SECRET")]
    return ray.util.get_node_ip_address(), own

print("VISITED", json.dumps(ray.get([visit.remote(f"visit-{i}") for i in range(2)])))
"""


def ended(cluster: Cluster, entrypoint: list[str]) -> tuple[str, str]:
    """A Ray job's last state and its log."""
    body = json.dumps({"entrypoint": shlex.join(entrypoint)}).encode()
    request = urllib.request.Request(f"{cluster.address}/api/jobs/", data=body)
    request.add_header("Authorization", f"Bearer {cluster.token}")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as answer:
        job = json.load(answer)["submission_id"]
    for _ in cluster.patience(f"the job {job} doesn't end"):
        state = cluster.get(f"/api/jobs/{job}")["status"]
        if state not in {"PENDING", "RUNNING"}:
            return state, cluster.get(f"/api/jobs/{job}/logs")["logs"]
    raise AssertionError


def there(node: Node, path: str) -> bool:
    return node.run(["test", "-e", path]).returncode == 0


def test_its_nodes_work_and_share_nothing(cluster: Cluster) -> None:
    addresses = {node.address for node in cluster.nodes}
    assert len(addresses) == 3
    assert cluster.alive() == addresses
    state, log = ended(cluster, [sys.executable, "-c", VISITS])
    assert state == "SUCCEEDED", log
    visited: list[list[Any]] = json.loads(log.partition("VISITED ")[2].splitlines()[0])
    assert {address for address, _ in visited} == {w.address for w in cluster.workers}
    assert not any(own for _, own in visited), "the storage's credentials are the head's alone"
    assert "AWS_SECRET_ACCESS_KEY" in cluster.user.environment()
    for i, (address, _) in enumerate(visited):
        for folder in ("/tmp", "/root", "/dev/shm"):
            path = f"{folder}/visit-{i}"
            seen = {node.address for node in cluster.nodes if there(node, path)}
            assert seen == {address}, path
            assert cluster.user.run(["test", "-e", path]).returncode == 1
            assert not Path(path).exists()
    # Nowhere else can they write: there is no folder where they could meet.
    for node in cluster.nodes:
        tried = (
            "for d in / /opt /var /usr /etc /mnt /work; do touch $d/x 2>/dev/null && echo $d; done"
        )
        assert node.run(["sh", "-c", tried]).stdout == ""
        assert node.run(["stat", "-c", "%a", "/root/.ray/auth_token"]).stdout.strip() == "600"
        assert node.run(["hostname"]).stdout.strip() == node.name


def test_nobody_is_let_in_without_the_token(cluster: Cluster) -> None:
    for path in ("/api/jobs/", "/api/version", "/api/v0/nodes"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{cluster.address}{path}", timeout=10)
        assert refused.value.code in {401, 403}
        refused.value.close()
    # From the user's machine neither.
    asking = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)"
    done = cluster.user.run([sys.executable, "-c", asking, f"{cluster.address}/api/jobs/"])
    assert "HTTP Error 401" in done.stderr


STORES = """
import sys
from pyarrow import fs
where, path = fs.FileSystem.from_uri(sys.argv[1])
with where.open_output_stream(path) as file:
    file.write(b"kept")
print(where.open_input_stream(path).read())
"""


def test_the_storage_is_for_the_user_and_the_head(cluster: Cluster) -> None:
    uri = cluster.s3.under("folder/file")
    done = cluster.user.run([sys.executable, "-c", STORES, uri])
    assert done.stdout == "b'kept'\n", done.stderr
    state, log = ended(cluster, [sys.executable, "-c", STORES, uri])
    assert state == "SUCCEEDED", log
    assert "b'kept'" in log
    reaching = "import socket, sys; socket.create_connection((sys.argv[1], 9000), 5)"
    reach = [sys.executable, "-c", reaching, cluster.s3.address]
    assert "No route to host" in cluster.workers[0].run(reach).stderr
    assert cluster.user.run(reach).returncode == 0
    cluster.s3.cut()
    assert "timed out" in cluster.user.run(reach).stderr
    cluster.s3.join()
    assert cluster.user.run(reach).returncode == 0
    cluster.s3.kill()
    assert "refused" in cluster.user.run(reach).stderr


def test_a_worker_that_is_killed_or_cut_off_is_missed_and_comes_back(cluster: Cluster) -> None:
    first, second = cluster.workers
    began = time.monotonic()
    first.kill()
    assert not first.pids
    assert second.running
    cluster.await_loss(first)
    assert time.monotonic() - began < 30
    assert cluster.alive() == {cluster.head.address, second.address}
    first.start()
    assert first.address in cluster.alive()
    second.cut()
    cluster.await_loss(second)
    second.join()
    second.start()
    assert cluster.alive() == {node.address for node in cluster.nodes}


def test_a_head_that_is_killed_is_missed_and_comes_back(cluster: Cluster) -> None:
    cluster.head.kill()
    assert cluster.alive() == set()
    with pytest.raises(urllib.error.URLError):
        cluster.get("/api/jobs/")
    cluster.head.start()
    # Its nodes were another head's.
    cluster.heal()
    assert cluster.alive() == {node.address for node in cluster.nodes}


MADE_AND_LEFT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from namespaces import Cluster
cluster = Cluster(workers=0)
cluster.head.start(wait=False)
while len(cluster.head.pids) < 3: time.sleep(0.05)
print(cluster.prefix, cluster.folder, *cluster.head.pids, flush=True)
if sys.argv[2] == "killed": time.sleep(1000)
"""


@pytest.mark.parametrize("end", ["killed", "forgotten"])
def test_nothing_is_left(end: str, namespaces: None) -> None:
    here = str(Path(__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", MADE_AND_LEFT, here, end], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        prefix, folder, *pids = process.stdout.readline().split()
        if end == "killed":
            process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(alive(int(pid), prefix) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if end == "killed":
        # What only the kernel keeps, whoever comes next removes.
        Cluster(workers=0).close()
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert prefix not in names
    # The kernel takes its time over the cables of a network that is gone.
    while f"tr{prefix[-6:]}" in links():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not Path(folder).exists()


def links() -> str:
    return subprocess.run(["ip", "-br", "link"], capture_output=True, text=True).stdout


def alive(pid: int, prefix: str) -> bool:
    try:
        os.kill(pid, 0)
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False

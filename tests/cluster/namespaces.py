"""A Ray cluster of several machines on one: each is a set of Linux namespaces.

::

    with Cluster() as cluster:                       # a head and two workers, tokens, an S3 server
        cluster.user.run(["tracerank", "jobs"])      # on the user's machine
        cluster.workers[0].kill()                    # the power fails there
        cluster.workers[0].start()

A node has an address of its own, and nothing that it writes is seen by another machine: ``/tmp``,
``/root`` (its HOME), ``/dev/shm`` and the like are its own, all else it can only read. Its
processes are ended together, by ending the first of its process namespace, so that none survives
and none of anybody else is touched; they end as well when this process does, however it ends.

The user's machine and the S3 server have addresses of their own too, but see this machine's files,
as the tests do. Needs Linux, root, and ``ip`` of iproute2: ``unavailable()`` says what is missing.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PATH = f"{Path(sys.prefix) / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PRIVATE = ("/tmp", "/root", "/home", "/var/tmp", "/dev/shm", "/run")
"""What a node has of its own, in memory, and loses when it is killed."""
RAY_PORT, DASHBOARD_PORT, S3_PORT = 6379, 8265, 9000
BUCKET = "tracerank"
START_SECONDS = 180.0
"""How long a cluster may take to start on a machine that has other work too."""

QUICK_TO_NOTICE = {
    # The head asks each node every half a second, and gives it up after four silent answers.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
    # A node that has lost its head ends after this long, not after a minute.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
}
"""With Ray's own settings, a dead node is noticed after 15 s, and a dead head after 60 s."""

NODE = """
set -eu
keep=/mnt
hostname "$NAME"
mount -t tmpfs none $keep
printf %s "$READ_ONLY" | while read -r folder; do
    mount -o remount,bind,ro "$folder" 2>/dev/null || true
done
i=0
for folder in $KEPT; do
    mkdir $keep/$i
    mount --bind "$folder" $keep/$i
    i=$((i + 1))
done
cat "$TOKEN_FILE" > $keep/token
cat "$HOSTS" > $keep/hosts
for folder in $HIDDEN; do
    mkdir -p "$folder"
    mount -t tmpfs none "$folder"
done
i=0
for folder in $KEPT; do
    mkdir -p "$folder"
    mount -o bind,ro $keep/$i "$folder"
    i=$((i + 1))
done
chmod 1777 /tmp /var/tmp /dev/shm
(umask 077; mkdir /root/.ray; cp $keep/token /root/.ray/auth_token; cp $keep/hosts /root/.hosts)
mount --bind /root/.hosts /etc/hosts
umount -l $keep
mount -o remount,bind,ro /
cd /root
env -i $VARIABLES "$@" </dev/null &
# Its input ends when whoever started it has ended: then this ends, and with it all of the node.
cat >/dev/null
"""


def unavailable() -> str | None:
    """Why there can be no cluster of namespaces on this machine; None if there can."""
    if sys.platform != "linux":
        return "namespaces are Linux's"
    if os.geteuid() != 0:
        return "making namespaces needs root"
    missing = [name for name in ("ip", "unshare", "nsenter", "mount") if not shutil.which(name)]
    if missing:
        return f"{', '.join(missing)} is not here (packages iproute2, util-linux)"
    name = f"tracerank-{os.getpid()}-probe"
    try:
        _ip(f"netns add {name}")
        try:
            _ip("link add tr-probe type bridge", name)
            _ip("link add cable0 type veth peer name cable1", name)
            probe = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--uts", "true"]
            subprocess.run(probe, check=True, capture_output=True, text=True)
        finally:
            _ip(f"netns del {name}")
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        return f"this machine makes no namespaces: {said.strip()}"
    return None


class Machine:
    """A network namespace with one address."""

    def __init__(self, cluster: Cluster, name: str, number: int) -> None:
        self.cluster = cluster
        self.name = name
        self.namespace = f"{cluster.prefix}-{name}"
        self.address = f"{cluster.network}.{number}"
        self._cable = f"p{number}"
        _ip(f"netns add {self.namespace}")
        _ip("link set lo up", self.namespace)
        cluster.plug(self._cable, f"eth0 netns {self.namespace}")
        _ip(f"addr add {self.address}/24 dev eth0", self.namespace)
        _ip("link set eth0 up", self.namespace)

    def cut(self) -> None:
        """Pull its network cable: whoever talks to it waits, and nobody is told."""
        _ip(f"link set {self._cable} down", self.cluster.switch)

    def join(self) -> None:
        """Put the cable back."""
        _ip(f"link set {self._cable} up", self.cluster.switch)

    @property
    def pids(self) -> dict[int, str]:
        """Its processes by their number on this machine, and what they are called."""
        listed = _ip(f"netns pids {self.namespace}").split()
        return {int(pid): title for pid in listed if (title := _title(int(pid))) is not None}

    def __repr__(self) -> str:
        return f"<{self.name} {self.address}>"


class Node(Machine):
    """A machine of the cluster: ``ray start``, and all it starts."""

    def __init__(
        self, cluster: Cluster, name: str, number: int, options: Sequence[str], secrets: bool
    ) -> None:
        super().__init__(cluster, name, number)
        self._options = list(options)
        self._secrets = secrets
        self._process: subprocess.Popen[bytes] | None = None
        self.log = cluster.folder / f"{name}.log"
        """What ``ray start`` printed, of all its starts."""

    def start(self, *, wait: bool = True) -> None:
        """Start it, or start it anew; returns when the cluster counts it among its nodes."""
        self.kill()
        self.join()
        self._begin()
        if wait:
            self.cluster.await_nodes({self.address})

    def _begin(self) -> None:
        program = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        program += ["--disable-usage-stats", "--node-ip-address", self.address, *self._options]
        variables = {
            "PATH": PATH,
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            # This machine's memory is shared with other work, which isn't the cluster's concern.
            "RAY_memory_monitor_refresh_ms": "0",
            **QUICK_TO_NOTICE,
            **(self.cluster.credentials if self._secrets else {}),
        }
        kept, hidden = _kept_and_hidden()
        environment = {
            "PATH": PATH,
            "NAME": self.name,
            "TOKEN_FILE": str(self.cluster.token_file),
            "HOSTS": str(self.cluster.hosts_file),
            "READ_ONLY": "".join(f"{mount}\n" for mount in _disks()),
            "KEPT": " ".join(kept),
            "HIDDEN": " ".join(hidden),
            "VARIABLES": " ".join(f"{name}={value}" for name, value in variables.items()),
        }
        own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *own, "sh", "-c", NODE, "node", *program],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # Ctrl-C at the tests is not for it; nor is it a loss of power.
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether ``ray start`` goes on there; it ends by itself when it lost its head."""
        program = f"{sys.executable} -m ray.scripts"
        return any(title.startswith(program) for title in self.pids.values())

    def kill(self) -> None:
        """SIGKILL to every process of it at once, as when the power fails; what it wrote is lost.

        The kernel still closes its connections; after ``cut`` it can't tell the others.
        """
        process, self._process = self._process, None
        if process is None:
            return
        # The first process of its namespace is tied to this one, and all others to that.
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()
        deadline = time.monotonic() + 30
        while self.pids:
            assert time.monotonic() < deadline, f"{self} doesn't end: {self.pids}"
            time.sleep(0.02)

    def run(self, arguments: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """A command on this node, among its files: its output, as text."""
        first = _first(self.pids)
        enter = ["nsenter", "--target", str(first), "--mount", "--pid", "--net", "--uts", "--wd=/"]
        options = {"capture_output": True, "text": True, "timeout": 60} | options
        return subprocess.run([*enter, *arguments], **options)


class User(Machine):
    """The user's machine: sees this one's files, with a HOME of its own that holds the token."""

    def __init__(self, cluster: Cluster, name: str, number: int) -> None:
        super().__init__(cluster, name, number)
        self.home = cluster.folder / "home"
        (self.home / ".ray").mkdir(parents=True, mode=0o700)
        shutil.copy(cluster.token_file, self.home / ".ray" / "auth_token")
        (self.home / ".ray" / "auth_token").chmod(0o600)

    def environment(self, change: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """The variables its commands get; None in ``change`` leaves one out."""
        usual = {
            "PATH": PATH,
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            **self.cluster.credentials,
        }
        return {k: v for k, v in {**usual, **(change or {})}.items() if v is not None}

    def run(
        self,
        arguments: Sequence[str | Path],
        *,
        env: Mapping[str, str | None] | None = None,
        timeout: float = 120,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """A command on the user's machine, as ended: its streams as text, its exit code.

        ``env`` is changed in the environment; other options are ``subprocess.run``'s.
        """
        options = {"capture_output": True, "text": True, "timeout": timeout} | options
        return subprocess.run(self.command(arguments), env=self.environment(env), **options)

    def popen(
        self,
        arguments: Sequence[str | Path],
        *,
        env: Mapping[str, str | None] | None = None,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """A command on the user's machine that goes on, such as one that follows; it has the pid
        of the command itself. The caller ends it; ``close`` does at the latest.
        """
        options = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "start_new_session": True,
        } | options
        return subprocess.Popen(self.command(arguments), env=self.environment(env), **options)

    def command(self, arguments: Sequence[str | Path]) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *map(str, arguments)]


class S3(Machine):
    """An S3-compatible server (moto's), with one bucket; it forgets everything when killed.

    ``cut`` makes it unreachable, and ``join`` brings it back with what it held.
    """

    def __init__(self, cluster: Cluster, name: str, number: int) -> None:
        super().__init__(cluster, name, number)
        self.endpoint = f"{self.address}:{S3_PORT}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """The bucket, as pyarrow understands it; see ``under`` for a folder of it."""
        return self.under("")

    def under(self, path: str) -> str:
        where = f"{BUCKET}/{path}".rstrip("/")
        return f"s3://{where}?endpoint_override={self.endpoint}&scheme=http&region=us-east-1"

    def start(self) -> None:
        self.kill()
        self.join()
        with (self.cluster.folder / "s3.log").open("ab") as log:
            server = [sys.executable, str(Path(__file__).parent / "s3_server.py")]
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *server, self.address, str(S3_PORT)],
                env={"PATH": PATH, "HOME": str(self.cluster.folder), **self.cluster.credentials},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self._process is not None

    def await_bucket(self) -> None:
        """Return when it answers, with its bucket made."""
        request = urllib.request.Request(f"http://{self.endpoint}/{BUCKET}", method="PUT")
        for _ in self.cluster.patience(f"the S3 server at {self.endpoint} doesn't answer"):
            with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5):
                return

    def pause(self) -> None:
        """It takes connections, and doesn't answer."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Connections are refused from now on; its objects are gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


class Cluster:
    """A head without CPUs for tasks, workers, the user's machine and an S3 server.

    ``cpus`` is of each worker. The nodes don't see this source tree: of tracerank they have what a
    job brings along. The workers have neither the storage's credentials nor a way to it.
    """

    def __init__(
        self,
        *,
        workers: int = 2,
        cpus: int = 2,
        object_store: int = 100_000_000,
    ) -> None:
        _remove_leftovers()
        run = secrets.token_hex(3)
        # The number of this process says to later runs whether anybody still needs it.
        self.prefix = f"tracerank-{os.getpid()}-{run}"
        self.switch = f"{self.prefix}-switch"
        self.network = _free_network()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.prefix}-"))
        self.token = secrets.token_hex(32)
        self.token_file = self.folder / "token"
        self.hosts_file = self.folder / "hosts"
        self.credentials = {
            "AWS_ACCESS_KEY_ID": "AKIA" + secrets.token_hex(8).upper(),
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self._machines: list[Machine] = []
        atexit.register(self.close)
        try:
            self.token_file.touch(mode=0o600)
            self.token_file.write_text(self.token)
            self._wire(run)
            self._add(workers, cpus, object_store)
        except BaseException:
            self.close()
            raise

    def _wire(self, run: str) -> None:
        """A switch, and a cable from it to this machine, so that tests can look at all of it."""
        _ip(f"netns add {self.switch}")
        _ip("link add switch type bridge", self.switch)
        _ip("link set switch up", self.switch)
        self.plug("p1", f"tr{run}")
        # Only now: the other end was made in the namespace of the switch.
        _ip(f"link set tr{run} netns {os.getpid()}", self.switch)
        _ip(f"addr add {self.network}.1/24 dev tr{run}")
        _ip(f"link set tr{run} up")

    def plug(self, cable: str, other_end: str) -> None:
        _ip(f"link add {cable} type veth peer name {other_end}", self.switch)
        _ip(f"link set {cable} master switch", self.switch)
        _ip(f"link set {cable} up", self.switch)

    def _add(self, workers: int, cpus: int, object_store: int) -> None:
        head = f"{self.network}.2"
        common = ["--object-store-memory", str(object_store), "--include-log-monitor", "false"]
        as_head = ["--head", "--port", str(RAY_PORT), "--num-cpus", "0", *common]
        as_head += ["--dashboard-host", head, "--dashboard-port", str(DASHBOARD_PORT)]
        # That is the autoscaler, which no test needs.
        as_head += ["--no-monitor"]
        as_worker = ["--address", f"{head}:{RAY_PORT}", "--num-cpus", str(cpus), *common]
        self.head = Node(self, "head", 2, as_head, secrets=True)
        self.workers = [
            Node(self, f"worker-{i + 1}", 3 + i, as_worker, secrets=False) for i in range(workers)
        ]
        self.user = User(self, "user", 101)
        self.s3 = S3(self, "s3", 102)
        self.nodes = [self.head, *self.workers]
        self._machines = [*self.nodes, self.user, self.s3]
        for worker in self.workers:
            _ip(f"route add unreachable {self.s3.address}/32", worker.namespace)
        lines = ["127.0.0.1 localhost", *(f"{m.address} {m.name}" for m in self._machines)]
        self.hosts_file.write_text("\n".join(lines) + "\n")

    @property
    def address(self) -> str:
        """Of Ray's Jobs API, for ``--address``."""
        return f"http://{self.head.address}:{DASHBOARD_PORT}"

    def start(self) -> Cluster:
        """Start every node and the S3 server; returns when all of them are there."""
        self.s3.start()
        for node in self.nodes:
            # The workers wait for the head by themselves.
            node.start(wait=False)
        self.s3.await_bucket()
        self.await_nodes({node.address for node in self.nodes})
        return self

    def heal(self) -> None:
        """Every node and the S3 server as after ``start``: what is dead or cut off comes back."""
        for machine in self._machines:
            machine.join()
        if not self.s3.running:
            self.s3.start()
        self.s3.resume()
        self.s3.await_bucket()
        for node in self.nodes:
            # A new head knows nothing of nodes that were another's.
            if not self.head.running or not node.running or node.address not in self.alive():
                node.start(wait=node is self.head)
        self.await_nodes({node.address for node in self.nodes})

    def alive(self) -> set[str]:
        """The addresses of the nodes that the head counts as alive; empty if it doesn't answer."""
        try:
            data = self.get("/api/v0/nodes?detail=false&limit=1000")
            rows = data["data"]["result"]["result"]
        except (OSError, ValueError, KeyError, TypeError):
            return set()
        return {row["node_ip"] for row in rows if row["state"] == "ALIVE"}

    def get(self, path: str) -> Any:
        """What the dashboard answers to the path, as JSON; raises ``urllib.error``'s errors."""
        request = urllib.request.Request(f"{self.address}{path}")
        request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def await_nodes(self, wanted: set[str]) -> None:
        """Return when these are alive, and jobs can be submitted; raises with the nodes' logs."""
        for _ in self.patience(f"the nodes {sorted(wanted)} aren't there"):
            if wanted <= self.alive():
                return

    def await_loss(self, *lost: Node) -> None:
        """Return when the head counts these no more among the living."""
        gone = {node.address for node in lost}
        for _ in self.patience(f"the head doesn't notice the loss of {lost}"):
            if (living := self.alive()) and not living & gone:
                return

    def patience(self, complaint: str) -> Iterator[None]:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            yield
            time.sleep(0.1)
        raise TimeoutError(f"{complaint} after {START_SECONDS:.0f} s\n{self.logs()}")

    @property
    def worker_pids(self) -> dict[int, str]:
        """The processes in which tasks and actors run on the workers, by their number here."""
        return {
            pid: title
            for node in self.workers
            for pid, title in node.pids.items()
            if title.startswith("ray::") and title != "ray::IDLE"
        }

    def logs(self) -> str:
        """The last of what each node printed, for messages."""
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text()[-2000:]}" for file in files)

    def close(self) -> None:
        """End every process of it, and leave nothing; a second call does nothing."""
        atexit.unregister(self.close)
        for machine in self._machines:
            if isinstance(machine, (Node, S3)):
                machine.kill()
        for pid in self.user.pids if self._machines else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._machines = []
        _remove_namespaces(self.prefix)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Cluster:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()


def _ip(command: str, namespace: str | None = None) -> str:
    where = ["-netns", namespace] if namespace else []
    done = subprocess.run(
        ["ip", *where, *command.split()], check=True, capture_output=True, text=True
    )
    return done.stdout


def _title(pid: int) -> str | None:
    """A process's command line; None if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _first(pids: Iterable[int]) -> int:
    """The one that is number 1 in its own process namespace."""
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{pid}/status").read_text()
            numbers = re.search(r"^NSpid:\s*(.*)$", status, re.MULTILINE)
            if numbers and numbers[1].split()[1:] == ["1"]:
                return pid
    raise ProcessLookupError("the node isn't running")


def _disks() -> list[str]:
    """Where file systems are mounted that a node must not write to."""
    virtual = {"proc", "sysfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2"}
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    places = [line[1] for line in lines if line[2] not in virtual]
    return [place for place in dict.fromkeys(places) if place != "/"]


def _kept_and_hidden() -> tuple[list[str], list[str]]:
    """Folders that a node must see and may not write, and those it must not see."""
    trees = {ROOT.resolve()}
    # Installed for editing, it may stand elsewhere than what is tested.
    url = metadata.distribution("tracerank").read_text("direct_url.json")
    if url and (place := json.loads(url)["url"]).startswith("file://"):
        trees.add(Path(place.removeprefix("file://")).resolve())
    python = {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)}
    hidden = [*PRIVATE, *map(str, trees)]
    # Outer folders before inner ones, else they would cover them.
    ordered = sorted({folder for folder in python if folder.is_dir()}, key=lambda f: len(f.parts))
    names = [str(folder) for folder in ordered if str(folder) != "/usr"]
    assert not any(re.search(r"\s", name) for name in names + hidden), "a folder with a space"
    return names, [folder for folder in hidden if Path(folder).is_dir()]


def _free_network() -> str:
    """The first three numbers of a network that this machine doesn't know."""
    taken = _ip("-4 route show table all") + _ip("-4 addr show")
    while True:
        network = f"10.{64 + secrets.randbelow(128)}.{secrets.randbelow(256)}"
        if f"{network}." not in taken:
            return network


def _namespaces() -> list[str]:
    found = [line.split()[0] for line in _ip("netns list").splitlines() if line.strip()]
    return [name for name in found if re.fullmatch(r"tracerank-\d+-[\w-]+", name)]


def _remove_namespaces(prefix: str) -> None:
    """End what still runs in them, by number, and delete them, cables and switch included."""
    names = [name for name in _namespaces() if name.startswith(f"{prefix}-")]
    for name in names:
        with contextlib.suppress(subprocess.CalledProcessError):
            for pid in _ip(f"netns pids {name}").split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
    for name in names:
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip(f"netns del {name}")


def _remove_leftovers() -> None:
    """Remove what runs left behind that were killed before they could."""
    for prefix in {name.rsplit("-", 1)[0] for name in _namespaces()}:
        match = re.fullmatch(r"(tracerank-(\d+)-\w+)(?:-worker)?", prefix)
        if match and not Path(f"/proc/{match[2]}").exists():
            _remove_namespaces(match[1])
            for folder in Path(tempfile.gettempdir()).glob(f"{match[1]}-*"):
                shutil.rmtree(folder, ignore_errors=True)

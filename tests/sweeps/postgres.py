"""A PostgreSQL server of one's own, in a temporary folder, that listens on a socket there alone."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

GUARDED = "guarded"
"""A user that needs a password; all others need none."""


def programs() -> Path | None:
    """The folder of initdb and postgres; Debian keeps it off the path."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    return next((path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)


@contextlib.contextmanager
def server(programs: Path, password: str) -> Iterator[Path]:
    """The folder of a running server's socket; ``password`` is that of the user ``guarded``."""
    # Not below pytest's own folder, which the server's user may not enter.
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    user: dict[str, str] = {}
    if os.geteuid() == 0:
        # It refuses to run as root.
        user = {"user": "postgres"}
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    data = folder / "data"
    making = [programs / "initdb", "-D", data, "-A", "trust", "-U", "sweeps", "--no-sync"]
    subprocess.run(making, check=True, capture_output=True, cwd=folder, **user)  # type: ignore[call-overload]
    access = data / "pg_hba.conf"
    access.write_text(f"local all {GUARDED} scram-sha-256\n" + access.read_text())
    options = ["-c", "listen_addresses=", "-c", "fsync=off", "-k", folder]
    process = subprocess.Popen(
        [programs / "postgres", "-D", data, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        **user,  # type: ignore[arg-type]
    )
    try:
        with _connected(folder, process) as connection:
            connection.execute(f"CREATE ROLE {GUARDED} SUPERUSER LOGIN PASSWORD '{password}'")
        yield folder
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(folder)


def _connected(folder: Path, process: subprocess.Popen[bytes]) -> psycopg.Connection:
    deadline = time.monotonic() + 30
    while True:
        try:
            return psycopg.connect(f"host={folder} user=sweeps dbname=postgres", autocommit=True)
        except psycopg.OperationalError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.05)

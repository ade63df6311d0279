"""Ask for known vulnerabilities of what the lock pins: ``make audit``.

By pip-audit, from the vulnerability data of PyPI's, or of OSV where that tells nothing; both need
the network. Ends with 0 if none is known, or each that is is explained here; 1 if one isn't; 5 if a
package could not be asked for.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.lock_file import CUDA, LOCK, Entry, read

SERVICES = ("pypi", "osv")

EXPLAINED: dict[str, str] = {}
"""Vulnerabilities, by an id, that do nothing here, and why: a sentence for who asks."""

NONE, FOUND, UNREACHED = 0, 1, 5


def asked(entries: Sequence[Entry], service: str) -> dict[str, Any]:
    """What pip-audit answers: by package name, its ``vulns``, or a ``skip_reason``. Empty where the
    service can't be reached.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text("".join(f"{each.name}=={each.version}\n" for each in entries))
        words = ["--disable-pip", "--no-deps", "--progress-spinner", "off", "--format", "json"]
        command = [sys.executable, "-m", "pip_audit", *words, "--vulnerability-service", service]
        done = subprocess.run(
            [*command, "--requirement", file], capture_output=True, text=True, check=False
        )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        return {}
    return {each["name"]: each for each in answer["dependencies"]}


def findings(answer: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Each vulnerability in a line, and whether it is explained."""
    for name, each in sorted(answer.items()):
        for found in each.get("vulns", ()):
            names = [found["id"], *found.get("aliases", ())]
            mended = ", ".join(found.get("fix_versions", ())) or "no version yet"
            why = next((EXPLAINED[one] for one in names if one in EXPLAINED), "")
            line = f"{name} {each['version']}: {' '.join(names)}; mended in {mended}"
            yield f"{line}; explained: {why}" if why else line, bool(why)


def main() -> int:
    """Ask, and say what is known; returns the exit code."""
    entries = [*read(LOCK), *read(CUDA)]
    best: dict[str, Any] = {}
    for service in SERVICES:
        left = [each for each in entries if "vulns" not in best.get(each.key, {})]
        if left:
            best |= {name: each for name, each in asked(left, service).items() if "vulns" in each}
    told = list(findings(best))
    for line, _ in told:
        print(line)
    unknown = [each.key for each in entries if each.key not in best]
    print(f"asked for {len(best)} of {len(entries)} packages: {len(told)} known vulnerabilities")
    if not all(explained for _, explained in told):
        print(
            "take a version that mends it (pip install in .venv, then: make lock), or say in "
            "tools/audit.py why it does nothing here",
            file=sys.stderr,
        )
        return FOUND
    if unknown:
        print(
            f"nothing is known of {', '.join(unknown[:5])}{' ...' * (len(unknown) > 5)}: neither "
            "vulnerability service answers for them from here; run make audit where the network "
            "reaches PyPI's or OSV's",
            file=sys.stderr,
        )
        return UNREACHED
    return NONE


if __name__ == "__main__":
    sys.exit(main())

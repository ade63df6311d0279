"""Write the lock anew, from what .venv holds: ``make lock``.

Versions are those that are installed; of each one the hashes of all its files are asked from the
package index, by pip, as it is configured, so that the lock holds on other platforms too. Hashes
that the lock has already of the same version are kept: where PyTorch is from an index of its own,
no other one knows them.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion, Version
from pip._internal.commands import create_command
from pip._internal.exceptions import PipError
from pip._internal.index.collector import parse_links
from pip._internal.network.lazy_wheel import dist_from_wheel_url

from tools.lock_file import CONSTRAINTS, CPU, CUDA, LOCK, ROOT, Entry, canonical, read, text_of

BESIDE = (
    *(ROOT / "examples" / "pretrained" / "models.txt", ROOT / "benchmarks" / "peers.txt"),
    ROOT / "tools" / "audit.txt",
)
"""Files of requirements that people write, whose hashes are written here."""

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
"""Where the lock must be complete: on Linux."""

_PLAIN = re.compile(r"(.+\.whl|.+\.tar\.gz|.+\.zip)$")


class Index:
    """What pip finds of a package in all places where it looks."""

    def __init__(self, arguments: list[str]) -> None:
        self._command = create_command("download")
        self._options, _ = self._command.parse_args(arguments)
        self._links: dict[str, list[Any]] = {}

    def __enter__(self) -> Index:
        self._context = self._command.main_context()
        self._context.__enter__()
        self._session = self._command.get_default_session(self._options)
        finder = self._command._build_package_finder(self._options, self._session)
        self._collector = finder._link_collector
        return self

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(None, None, None)

    def files(self, name: str, version: str | None = None) -> Iterator[tuple[Version, Any]]:
        """The files of a package, or of one version: version and link."""
        if name not in self._links:
            self._links[name] = list(self._ask(name))
        for link in self._links[name]:
            found = _version(name, link.filename)
            if found is not None and (version is None or found == Version(version)):
                yield found, link

    def hashes(self, name: str, version: str) -> dict[str, str]:
        """The hash of each file of a version, by the file's name."""
        found: dict[str, str] = {}
        for _, link in self.files(name, version):
            digest = link.hash if link.hash_name == "sha256" else _hash_of(link.url)
            if found.setdefault(link.filename, digest) != digest:
                raise SystemExit(f"{link.filename}: two indexes have different files of that name")
        return found

    @functools.cache  # noqa: B019  (there is one index)
    def requires(self, name: str, version: str) -> list[Requirement]:
        """What a version's wheel for Linux needs, read from its end; nothing is downloaded."""
        wheels = [
            (found, link.url)
            for found, link in self.files(name, version)
            if link.filename.endswith(("-any.whl", f"{MACHINES[0]}.whl"))
            and "win" not in link.filename.rpartition("-")[2]
            and urlsplit(link.url).scheme != "file"
        ]
        if not wheels:
            raise SystemExit(f"{name}=={version}: no index offers a wheel of it for Linux")
        wheel = dist_from_wheel_url(name, wheels[0][1].partition("#")[0], self._session)
        return [Requirement(each) for each in wheel.metadata.get_all("Requires-Dist") or []]

    def _ask(self, name: str) -> Iterator[Any]:
        found: list[Any] = []

        def read_page(link: Any) -> list[Any]:
            page = self._collector.fetch_response(link)
            found.extend(parse_links(page) if page is not None else [])
            return []

        sources = self._collector.collect_sources(project_name=name, candidates_from_page=read_page)
        for source in (*sources.find_links, *sources.index_urls):
            if source is not None:
                list(source.page_candidates())
                found.extend(source.file_links())
        return iter(found)


def _version(name: str, file: str) -> Version | None:
    """The version of a package's file; None if it is something else."""
    try:
        if file.endswith(".whl"):
            named, version, *_ = parse_wheel_filename(file)
        elif _PLAIN.match(file):
            named, version = parse_sdist_filename(file)
        else:
            return None
    except (ValueError, InvalidVersion):
        return None
    return version if canonical(named) == canonical(name) else None


def _public(version: Version) -> Version:
    return Version(version.public)


def _hash_of(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "file":
        raise SystemExit(f"{url}: its index tells no hash of it")
    return hashlib.sha256(Path(unquote(parts.path)).read_bytes()).hexdigest()


def closure(extras: Iterable[str]) -> set[str]:
    """What the project needs with these extras, of what is installed, on every machine that the
    lock is for.
    """
    found: set[str] = set()
    for python in PYTHONS:
        for machine in MACHINES:
            where = {
                "python_version": python,
                "python_full_version": f"{python}.0",
                "platform_machine": machine,
            }
            found |= _closure("tracerank", frozenset(extras), where)
    return found - {"tracerank"}


def _closure(name: str, extras: frozenset[str], where: Mapping[str, str]) -> set[str]:
    todo, seen = [(name, extra) for extra in ("", *extras)], set()
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            raise SystemExit(
                f"{name} is not installed; install it in .venv, then: make lock"
            ) from None
        for text in needed:
            one = Requirement(text)
            if one.marker is None or one.marker.evaluate({**where, "extra": extra}):
                todo += [(canonical(one.name), each) for each in ("", *one.extras)]
    return {name for name, _ in seen}


def groups() -> dict[str, tuple[str, ...]]:
    """Every package that is needed, and which extras need it; without what PyTorch's build with
    CUDA needs, where that is installed.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    built = {canonical(Requirement(each).name) for each in project["build-system"]["requires"]}
    core = closure(()) | built
    beside = {each.key for each in (*read(CUDA), *read(CPU))} - {"torch"}
    core -= beside
    found = dict.fromkeys(sorted(core), ("core",))
    for extra in project["project"]["optional-dependencies"]:
        for name in sorted(closure((extra,)) - core - beside):
            found[name] = (*found.get(name, ()), extra)
    return found


def installed(needed: Mapping[str, tuple[str, ...]]) -> list[Entry]:
    """The versions that .venv holds."""
    found = []
    for name, extras in needed.items():
        distribution = importlib.metadata.distribution(name)
        version = Version(distribution.version).public
        found.append(Entry(distribution.metadata["Name"], version, (), extras))
    return found


def cpu_of(entries: Mapping[str, Entry]) -> Entry:
    """The build of PyTorch without CUDA."""
    return Entry("torch", f"{entries['torch'].version}+cpu")


def cuda_of(index: Index, entries: Mapping[str, Entry]) -> list[Entry]:
    """What the build of PyTorch with CUDA needs and ``entries`` don't have, on Linux."""
    wanted = Requirement(f"torch=={entries['torch'].version}")
    rules: dict[str, SpecifierSet] = {}
    chosen: dict[str, Version] = {}
    # What is chosen decides what is needed, and that again what may be chosen.
    while True:
        before, chosen = chosen, {}
        todo = [wanted]
        while todo:
            one = todo.pop()
            name = canonical(one.name)
            rules[name] = rules.get(name, SpecifierSet()) & one.specifier
            if name not in chosen:
                chosen[name] = _newest(index, name, rules[name])
            elif not one.extras:
                continue
            todo += [
                other
                for other in index.requires(name, str(chosen[name]))
                if canonical(other.name) not in entries and _wanted(other, one.extras)
            ]
        if chosen == before:
            return [Entry(name, str(v)) for name, v in chosen.items() if name != "torch"]


def _newest(index: Index, name: str, rule: SpecifierSet) -> Version:
    fitting = {
        _public(version) for version, _ in index.files(name) if rule.contains(version.public)
    }
    if not fitting:
        raise SystemExit(f"{name}{rule}: no version fits; PyTorch with CUDA can't be locked")
    return max(fitting)


def _wanted(one: Requirement, extras: Iterable[str]) -> bool:
    where = {"platform_system": "Linux", "sys_platform": "linux", "platform_machine": MACHINES[0]}
    return one.marker is None or any(
        one.marker.evaluate({**where, "extra": extra}) for extra in ("", *extras)
    )


def with_hashes(index: Index, entries: Iterable[Entry], before: Path) -> list[Entry]:
    """The entries with their files' hashes, and those known ``before`` of the same version."""
    known = (
        {(each.key, each.version): each.hashes for each in read(before)} if before.exists() else {}
    )
    found = []
    for each in entries:
        asked = index.hashes(each.key, each.version)
        hashes = {*asked.values(), *known.get((each.key, each.version), ())}
        if not hashes:
            raise SystemExit(f"{each.name}=={each.version}: no index offers it")
        found.append(Entry(each.name, each.version, tuple(sorted(hashes)), each.groups))
    return found


def renew(index: Index, path: Path) -> None:
    """Write the hashes of a file of requirements that people write, and leave the rest of it."""
    text = re.sub(r" \\\n +--hash=\S+", "", path.read_text())
    for each in with_hashes(index, read(path), path):
        lines = each.text().rstrip("\n").partition("==")[2].partition("\n")[2]
        pinned = f"{each.name}=={each.version}"
        text = re.sub(
            rf"^{re.escape(pinned)}(?=\s|$)(?:  #.*)?",
            lambda match, pinned=pinned, lines=lines: f"{pinned} \\\n{lines}",  # type: ignore[misc]
            text,
            flags=re.MULTILINE,
        )
    path.write_text(text)


def main() -> None:
    """Write the constraints, the locks, and the hashes of the files beside them."""
    with Index(sys.argv[1:]) as index:
        entries = with_hashes(index, installed(groups()), LOCK)
        named = {each.key: each for each in entries}
        cuda = with_hashes(index, cuda_of(index, named), CUDA)
        cpu = with_hashes(index, [cpu_of(named)], CPU)
        for path in BESIDE:
            renew(index, path)
    every = sorted([*entries, *cuda], key=lambda each: each.key)
    CONSTRAINTS.write_text(
        "# The versions that make setup installs; their hashes stand in requirements.lock.\n"
        "# Written by: make lock\n" + "".join(f"{each.name}=={each.version}\n" for each in every)
    )
    LOCK.write_text(text_of(entries, "What make setup installs. Written by: make lock"))
    CUDA.write_text(
        text_of(cuda, "What PyTorch's build with CUDA needs beside it. Written by: make lock")
    )
    CPU.write_text(text_of(cpu, "PyTorch's build without CUDA. Written by: make lock"))


if __name__ == "__main__":
    try:
        main()
    except PipError as error:
        raise SystemExit(f"the package index can't be asked: {error}") from None

"""The import directions of the house, read from the source and from a real interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("trace_core", "search_spaces", "sweeps")
OURS_AND_HEAVY = {*PACKAGES, "torch", "ray", "optuna", "pandas", "scipy", "sklearn"}


def modules() -> dict[str, Path]:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for file in files
    }


def imports(file: Path, *, only_at_run_time: bool = False) -> set[str]:
    """Full names of everything a module imports, lazily or not; typing-only imports if asked
    for.
    """
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and only_at_run_time:
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.update({node.module or ""} | {f"{node.module}.{a.name}" for a in node.names})
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(file.read_text()))
    return found


def tops(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def test_modules_of_tests_have_names_of_their_own() -> None:
    # They are imported by their bare names: of two, only one would be found.
    files = [file for file in (ROOT / "tests").rglob("*.py") if file.name != "conftest.py"]
    assert len({file.name for file in files}) == len(files)


def test_packages_import_in_one_direction() -> None:
    for name, file in modules().items():
        top = tops(imports(file)) & OURS_AND_HEAVY
        if name.startswith("trace_core"):
            assert not top & {"search_spaces", "sweeps", "ray", "optuna", "scipy", "sklearn"}, name
        elif name.startswith("search_spaces"):
            assert not top & {"sweeps", "trace_core", "ray", "optuna", "pandas"}, name
        else:
            assert "ray" not in top or name.startswith("sweeps.execution."), name
            assert "optuna" not in top or name.startswith("sweeps.selection."), name


@pytest.mark.parametrize(
    "module",
    ["sweeps.ledger", "sweeps.scoring", "sweeps.ranking", "sweeps.results", "sweeps.report"],
)
def test_a_report_can_be_rebuilt_without_torch_or_ray(module: str) -> None:
    assert not {"torch", "ray"} & loaded(f"import {module}")


def test_training_knows_neither_ray_nor_optuna() -> None:
    assert not {"ray", "optuna"} & loaded("import sweeps.worker")


def test_the_command_line_starts_light() -> None:
    heavy = {"torch", "ray", "optuna", "pandas", "scipy", "sklearn", "pydantic", "rich", "jinja2"}
    assert not heavy & loaded("import sweeps.cli")
    assert not heavy & loaded("import sweeps")


def loaded(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*{{n.split('.')[0] for n in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_no_module_is_in_a_cycle() -> None:
    known = modules()
    graph = {
        name: {other for other in imports(file, only_at_run_time=True) if other in known}
        for name, file in known.items()
    }
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"import cycle: {' -> '.join((*path, name))}"
        if name not in done:
            for other in graph[name]:
                # A package's __init__ gathers its modules; importing a sibling is no cycle.
                if not name.startswith(f"{other}."):
                    walk(other, (*path, name))
            done.add(name)

    for name in known:
        walk(name, ())


def test_every_module_says_what_it_is_for() -> None:
    for name, file in modules().items():
        assert ast.get_docstring(ast.parse(file.read_text())), name

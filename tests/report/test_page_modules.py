"""The page's modules that need no page, by Node's own test runner; and how they are joined."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sweeps.report.bundle import bundled

ROOT = Path(__file__).parent.parent.parent
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="needs Node.js")
def test_the_modules_do_what_their_tests_say() -> None:
    tests = sorted(map(str, (ROOT / "tests" / "page").glob("*.test.mjs")))
    done = subprocess.run([str(NODE), "--test", *tests], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "# pass 0" not in done.stdout


def bundle_of(**modules: str) -> str:
    return bundled("main.js", lambda name: modules[name.removesuffix(".js")])


@pytest.mark.skipif(NODE is None, reason="needs Node.js")
def test_modules_are_joined_in_the_order_of_their_imports_each_with_names_of_its_own() -> None:
    script = bundle_of(
        main='import { two, Three } from "./b.js";\nimport {\n  one,\n} from "./a.js";\n'
        "const hidden = 'main';\nconsole.log(one(), two, new Three().name, hidden);\n",
        a="const hidden = 'a';\nexport function one() {\n  return hidden;\n}\n",
        b='import { one } from "./a.js";\nconst hidden = "b";\nexport const two = one() + hidden;\n'
        "export class Three {\n  name = hidden;\n}\n",
    )
    done = subprocess.run([str(NODE), "-e", script], capture_output=True, text=True, check=True)
    assert done.stdout == "a ab b main\n"
    assert script.count("hidden = 'a'") == 1


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({"main": 'import x from "./a.js";\n', "a": ""}, "main.js: an import or export that can't"),
        ({"main": "export default 3;\n"}, "main.js: an import or export that can't"),
        (
            {"main": 'import { a } from "./a.js";\n', "a": 'import { m } from "./main.js";\n'},
            "imports go round: main.js → a.js → main.js",
        ),
    ],
)
def test_what_can_not_be_joined_is_refused(modules: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bundle_of(**modules)

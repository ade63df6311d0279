"""The page's modules that need no page, asked by way of Node.js."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
MODULES = ROOT / "sweeps" / "report" / "page"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="needs Node.js")


def by_node(expression: str, given: Any, module: str) -> Any:
    """``expression`` of ``m`` (a module's exports) and ``given``, as Node finds it."""
    script = (
        f"import * as m from {json.dumps((MODULES / module).as_uri())};\n"
        'import { readFileSync } from "node:fs";\n'
        "const given = JSON.parse(readFileSync(0));\n"
        f"console.log(JSON.stringify({expression}));\n"
    )
    command = [str(NODE), "--input-type=module", "-e", script]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

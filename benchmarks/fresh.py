"""A measurement in an interpreter of its own, which nothing has warmed up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def run(module: str, *arguments: str, **variables: str) -> Any:
    """Return what ``python -m module arguments`` prints, read as JSON, with these variables added
    to its environment.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout)

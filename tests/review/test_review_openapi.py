"""The interface does as its OpenAPI description says, whatever it is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest


@pytest.mark.slow
def test_schemathesis_finds_nothing(address: str, client: httpx.Client, tmp_path: Path) -> None:
    model = client.get("/api/runs/first/ranking").json()["models"][0]["model_id"]
    settings = tmp_path / "schemathesis.toml"
    # Beside names that are made up, one that is there: else all is answered by 404.
    settings.write_text(
        f'[parameters]\n"path.run" = "first"\n"path.model" = "{model}"\n'
        '"query.a" = "first"\n"query.b" = "second"\n'
    )
    for given in (["--config-file", str(settings)], []):
        command = [str(Path(sys.executable).with_name("schemathesis")), *given, "run"]
        command += [f"{address}/api/openapi.json", "--checks", "all", "--max-examples", "30"]
        done = subprocess.run(
            [*command, "--seed", "1", "--no-color"],
            capture_output=True,
            text=True,
            timeout=400,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        assert "8 selected / 8 total" in done.stdout
    assert client.get("/api/runs/first").status_code == 200

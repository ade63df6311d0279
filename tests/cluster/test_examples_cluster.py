"""The examples for clusters: the Slurm script runs, with Slurm's commands made up on one node."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from inprocess import small

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples" / "cluster"
SCRIPT = EXAMPLES / "slurm.sh"

# One node in namespaces of its own: at its end Ray ends every Ray process that it sees.
ALONE = """
set -e
ip link set lo up
ip link add here type veth peer name there
ip addr add 10.77.0.1/24 dev here
ip link set here up
ip link set there up
exec "$@"
"""
SRUN = """#!/bin/sh
# Options, and then what one of the tasks does.
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""


def text_of(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_slurm_script_is_one() -> None:
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    assert os.access(SCRIPT, os.X_OK)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", SCRIPT], check=True)
    (call,) = re.findall(r"ray symmetric-run (.*?) -- ", SCRIPT.read_text().replace("\\\n", ""))
    from ray.scripts.scripts import start
    from ray.scripts.symmetric_run import symmetric_run

    known = {option for each in (start, symmetric_run) for p in each.params for option in p.opts}
    used = set(re.findall(r"--[a-z-]+", call))
    assert {"--address", "--min-nodes", "--num-cpus"} <= used <= known


@pytest.mark.parametrize("given", [[], ["nowhere.yaml", "a"], ["CONFIG"], ["CONFIG", "a"]])
def test_the_slurm_script_says_how_it_is_used(given: list[str], tmp_path: Path) -> None:
    config = tmp_path / "sweep.yaml"
    config.touch()
    arguments = [str(config) if each == "CONFIG" else each for each in given]
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["bash", SCRIPT, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "usage:" in done.stderr or "nowhere.yaml" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_slurm_script_runs_a_sweep(namespaces: None, tmp_path: Path) -> None:
    config, storage, commands = (tmp_path / name for name in ("sweep.yaml", "stored", "bin"))
    config.write_text(yaml.safe_dump(small() | {"trials": 2, "replicates": 1}))
    commands.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", "#!/bin/sh\necho node1\n")):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    environment = {
        "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "TRACERANK_STORAGE": str(storage),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "node[1]",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": "2",
    }
    alone = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    try:
        done = subprocess.run(
            [*alone, "bash", "-c", ALONE, "alone", "bash", SCRIPT, config, "digits-1"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
    finally:
        shutil.rmtree(f"/tmp/ray-{os.getpid()}", ignore_errors=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (storage / "digits-1" / "report" / "ranking.json").is_file()
    assert len(list((storage / "digits-1" / "traces").glob("*.npz"))) == 2


def test_the_image_is_made_of_what_is_there() -> None:
    lines = (EXAMPLES / "Containerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", lines, re.M) for name in line.split()]
    assert {"constraints.txt", "pyproject.toml", "sweeps"} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)
    # What the package is built from: its folders, and the page that it shows.
    built = re.search(r"include = \[(.*)\]", (ROOT / "pyproject.toml").read_text())
    assert built is not None
    assert {name.strip(' "*') for name in built[1].split(",")} <= set(copied)
    assert "USER ray" in lines

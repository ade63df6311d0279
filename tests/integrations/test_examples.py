"""The examples run as they stand, and leave behind what they say."""

from __future__ import annotations

import runpy
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from trace_core import Trace

LOOPS = Path(__file__).parents[2] / "examples" / "loops"


# As in test_lightning.py; and Trainer pins memory by default, for a GPU that may not be there.
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning")
@pytest.mark.filterwarnings(r"ignore:.isinstance\(treespec, LeafSpec\).:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning")
@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("bare", "runs/bare/trace.npz"),
        ("huggingface_trainer", "runs/huggingface/trace.npz"),
        ("lightning_trainer", "lightning_logs/version_0/trace.npz"),
        ("tensorboard_scalars", "runs/tensorboard/events.*"),
    ],
)
def test_an_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, left: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    runpy.run_path(str(LOOPS / f"{name}.py"), run_name="__main__")
    (found,) = tmp_path.glob(left)
    if found.suffix == ".npz":
        assert 0.5 < Trace.load(found).score() < 1.0


def test_there_is_a_case_for_every_example_and_none_hides_a_package() -> None:
    """A script's folder comes first on the path: one named lightning.py would import itself."""
    cases = {"bare", "huggingface_trainer", "lightning_trainer", "tensorboard_scalars"}
    assert {file.stem for file in LOOPS.glob("*.py")} == cases
    assert not any(find_spec(name) for name in cases)

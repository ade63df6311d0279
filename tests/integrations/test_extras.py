"""What all integrations share: the message where a package is missing, and what they refuse."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("extra", "package", "modules"),
    [
        ("huggingface", "transformers", ["transformers"]),
        ("huggingface", "accelerate", ["accelerate", "accelerate.optimizer"]),
        ("lightning", "lightning", ["lightning", "lightning.pytorch", "pytorch_lightning"]),
        ("tensorboard", "tensorboard", ["tensorboard"]),
    ],
)
def test_a_missing_package_is_named_with_the_extra_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, extra: str, package: str, modules: list[str]
) -> None:
    module = f"trace_core.integrations.{extra}"
    for loaded in (module, "torch.utils.tensorboard"):
        monkeypatch.delitem(sys.modules, loaded, raising=False)
    for hidden in modules:
        monkeypatch.setitem(sys.modules, hidden, None)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'tracerank\[{extra}\]'") as caught:
        importlib.import_module(module)
    assert f"needs the package {package!r}" in str(caught.value)


def test_lightning_is_found_under_its_other_name(monkeypatch: pytest.MonkeyPatch) -> None:
    other = importlib.import_module("pytorch_lightning")
    module = "trace_core.integrations.lightning"
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "lightning", None)
    found = importlib.import_module(module)
    monkeypatch.delitem(sys.modules, module)
    assert issubclass(found.TraceabilityCallback, other.Callback)


# In a process of its own: a process group that a cache of PyTorch's keeps alive makes later forks
# of this one wait for ever.
SHARDED = """
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from trace_core import TraceError
from trace_core.integrations.sharding import require_whole

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
whole = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
require_whole(whole)
require_whole(nn.parallel.DistributedDataParallel(whole))
fully_shard(whole[1], mesh=init_device_mesh("cpu", (1,)))
try:
    require_whole(whole)
except TraceError as error:
    print(error)
dist.destroy_process_group()
"""


def test_sharded_parameters_are_refused_and_whole_ones_are_not() -> None:
    done = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "parameter '1.weight' is sharded" in done.stdout

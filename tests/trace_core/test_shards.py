"""A PyTorch that was built without torch.distributed traces all the same."""

import subprocess
import sys

WITHOUT = """
import sys
import torch
from torch import distributed

distributed.is_available = lambda: False
for name in [name for name in sys.modules if name.startswith("torch.distributed.")]:
    del sys.modules[name]
sys.modules["torch.distributed.tensor"] = None
sys.modules["torch.distributed.fsdp"] = None

from torch import nn
from trace_core import Tracer
from trace_core.integrations.sharding import require_whole

model = nn.Linear(3, 2)
require_whole(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
tracer = Tracer(model, optimizer)
model(torch.ones(4, 3)).square().mean().backward()
optimizer.step()
print(tracer.trace().steps)
"""


def test_without_torch_distributed():
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT], capture_output=True, text=True
    )
    assert run.stdout == "[0]\n", run.stderr

"""One of the processes that test_distributed.py starts: it trains in every way there is, side by
side with the others, and leaves what it traced in a folder.

    python distributed_worker.py RANK PROCESSES FOLDER
"""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
from small_models import INPUTS
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy

from trace_core import Trace, TraceError, Tracer
from trace_core.importance import Probe

STEPS = 8
SETTINGS = {"every": 2, "histogram_every": 2, "anchors": (0, 4)}


class Uneven(nn.Module):
    """Sizes that two processes can't share evenly, one of which leaves the second with nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(INPUTS, 301)
        self.second = nn.Linear(301, 3)
        self.gain = nn.Parameter(torch.ones(1, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x))) * self.gain


def model() -> Uneven:
    """In float64, so that sums in another order make no difference that shows."""
    torch.manual_seed(0)
    return Uneven().double()


def adamw(built: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(built.parameters(), lr=1e-2, foreach=False)


def train(
    built: nn.Module,
    optimizer: torch.optim.Optimizer,
    rank: int = 0,
    processes: int = 1,
    *,
    first: int = 0,
    last: int = STEPS,
    reduce: Callable[[], None] = lambda: None,
) -> None:
    """Train on this process's share of a fixed stream of batches."""
    stream = torch.Generator().manual_seed(7)
    for step in range(last):
        x = torch.randn(16, INPUTS, generator=stream, dtype=torch.float64)
        y = (torch.arange(16) + step) % 3
        if step < first:
            continue
        share = slice(rank * 16 // processes, (rank + 1) * 16 // processes)
        optimizer.zero_grad()
        cross_entropy(built(x[share]), y[share]).backward()
        reduce()
        optimizer.step()


class Scenarios:
    """Each returns a trace, or the text of the error it met."""

    def __init__(self, rank: int, processes: int) -> None:
        self.rank, self.processes = rank, processes

    def _trained(self, built: nn.Module, **settings: object) -> Trace:
        optimizer = adamw(built)
        tracer = Tracer(built, optimizer, **settings)
        train(built, optimizer, self.rank, self.processes)
        return tracer.trace()

    def _sharded(self, **how: object) -> nn.Module:
        built = model()
        fully_shard(built.first, **how)
        fully_shard(built, **how)
        return built

    def ddp(self) -> Trace:
        return self._trained(nn.parallel.DistributedDataParallel(model()))

    def compiled_ddp(self) -> Trace:
        built = nn.parallel.DistributedDataParallel(model())
        return self._trained(torch.compile(built, backend="eager"))

    def fsdp(self) -> Trace:
        return self._trained(self._sharded())

    def fsdp_with_settings(self) -> Trace:
        return self._trained(self._sharded(), importance="gradient", **SETTINGS)

    def fsdp_synaptic_intelligence(self) -> Trace:
        return self._trained(self._sharded(), importance="synaptic_intelligence")

    def fsdp_by_torch(self) -> Trace:
        import trace_core.watched

        compiled, trace_core.watched.library = trace_core.watched.library, lambda: None
        try:
            return self._trained(self._sharded())
        finally:
            trace_core.watched.library = compiled

    def replicas_of_shards(self) -> Trace:
        mesh = init_device_mesh("cpu", (self.processes, 1), mesh_dim_names=("replicas", "shards"))
        return self._trained(self._sharded(mesh=mesh))

    def sharded_in_part(self) -> Trace:
        """One layer is sharded; the other parameters are whole in each process."""
        built = model()
        fully_shard(built.first)
        optimizer = adamw(built)
        tracer = Tracer(built, optimizer)

        def reduce() -> None:
            for tensor in (built.second.weight, built.second.bias, built.gain):
                dist.all_reduce(tensor.grad)
                tensor.grad /= self.processes

        train(built, optimizer, self.rank, self.processes, reduce=reduce)
        return tracer.trace()

    def nothing_here(self) -> Trace:
        """The second process's part of the only parameter is empty."""
        built = nn.Module()
        built.scale = nn.Parameter(torch.full((1, 3), 0.5, dtype=torch.float64))
        built.forward = lambda x: x[:, :3] * built.scale
        fully_shard(built)
        return self._trained(built)

    def resumed(self) -> Trace:
        """Interrupted after five steps; each process keeps the state of its own part."""
        built = self._sharded()
        optimizer = adamw(built)
        tracer = Tracer(built, optimizer, **SETTINGS)
        train(built, optimizer, self.rank, self.processes, last=5)
        file = io.BytesIO()
        torch.save(tracer.state_dict(), file)
        tracer.close()
        file.seek(0)
        again = Tracer(built, optimizer, **SETTINGS)
        again.load_state_dict(torch.load(file, weights_only=True))
        train(built, optimizer, self.rank, self.processes, first=5)
        return again.trace()

    def probed(self) -> str:
        built = self._sharded()
        probe = Probe(torch.zeros(2, INPUTS), lambda outputs, batch: outputs.sum(dim=1))
        return _refusal(lambda: Tracer(built, adamw(built), importance="fisher", probe=probe))

    def on_a_part_of_the_processes(self) -> str:
        alone = [dist.new_group([rank]) for rank in range(self.processes)][self.rank]
        mesh = torch.distributed.DeviceMesh.from_group(alone, "cpu")
        built = self._sharded(mesh=mesh)
        return _refusal(lambda: Tracer(built, adamw(built)))


def _refusal(make: Callable[[], object]) -> str:
    try:
        make()
    except TraceError as error:
        return str(error)
    return "nothing was refused"


def names() -> list[str]:
    return [name for name in vars(Scenarios) if not name.startswith("_")]


def main() -> None:
    rank, processes, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=processes,
        timeout=timedelta(seconds=60),
    )
    scenarios = Scenarios(rank, processes)
    for name in names():
        try:
            found = getattr(scenarios, name)()
        except Exception:
            # The others would wait for this one.
            (folder / f"failure.{rank}.txt").write_text(f"{name}:\n{traceback.format_exc()}")
            raise
        if isinstance(found, Trace):
            found.save(folder / f"{name}.{rank}.npz")
        else:
            (folder / f"{name}.{rank}.txt").write_text(found)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

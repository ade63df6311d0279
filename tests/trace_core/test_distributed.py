"""Two processes see what one does: DDP in each of them, FSDP2 and its like in all together."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import distributed_worker
import numpy as np
import pytest
import small_models
import torch
from distributed_worker import SETTINGS, adamw, model, train
from small_models import mlp
from torch import nn

from trace_core import Trace, TraceError, Tracer
from trace_core.concentration import EXACT_BELOW, FROM_ORDER, FROM_SUMS
from trace_core.distributed import merge
from trace_core.storage import to_arrays

PROCESSES = 2
SHARDED = {
    "fsdp": {},
    "fsdp_by_torch": {},
    "fsdp_with_settings": {"importance": "gradient", **SETTINGS},
    "fsdp_synaptic_intelligence": {"importance": "synaptic_intelligence"},
    "replicas_of_shards": {},
    "sharded_in_part": {},
    "resumed": SETTINGS,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes, connected through the loopback device, left of every scenario."""
    folder = tmp_path_factory.mktemp("distributed")
    here = Path(__file__).parent
    environment = os.environ | {
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": os.pathsep.join([str(here.parent.parent), *sys.path]),
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", distributed_worker.__file__, str(rank), "2", folder],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(PROCESSES)
    ]
    try:
        said = [process.communicate(timeout=180)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    failures = [file.read_text() for file in sorted(folder.glob("failure.*"))]
    if failures or any(process.returncode for process in processes):
        pytest.fail("\n".join([*failures, *said]))
    return folder


def of_ranks(folder: Path, name: str) -> list[Trace]:
    return [Trace.load(folder / f"{name}.{rank}.npz") for rank in range(PROCESSES)]


def alone(**settings) -> Trace:
    """The same training in this process, on all of each batch."""
    built = model()
    optimizer = adamw(built)
    tracer = Tracer(built, optimizer, **settings)
    train(built, optimizer)
    return tracer.trace()


def assert_same(one: Trace, other: Trace):
    left, right = to_arrays(one), to_arrays(other)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name, strict=True)


def assert_of_one_training(found: Trace, wanted: Trace):
    assert (found.tensors, found.layers, found.anchors) == (
        wanted.tensors,
        wanted.layers,
        wanted.anchors,
    )
    for name in ("steps", "sizes", "learning_rates"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    np.testing.assert_allclose(found.statistics, wanted.statistics, rtol=1e-6, atol=1e-15)
    np.testing.assert_array_equal(found.histogram.observations, wanted.histogram.observations)
    pooled, single = found.histogram.pooled(), wanted.histogram.pooled()
    assert pooled.counts.sum() == single.counts.sum()
    # One whose importance differs in its last digits may lie in the next bin.
    for part in ("counts", "sums"):
        ours, theirs = (
            np.bincount(
                np.searchsorted(np.union1d(pooled.lower, single.lower), each.lower),
                getattr(each, part).sum(axis=0),
                minlength=len(np.union1d(pooled.lower, single.lower)),
            )
            for each in (pooled, single)
        )
        assert np.abs(ours - theirs).sum() <= 1e-3 * theirs.sum()
    for kind in FROM_SUMS:
        np.testing.assert_allclose(
            found.explainability(kind), wanted.explainability(kind), rtol=1e-6
        )
    for kind in FROM_ORDER:
        bound = found.explainability_bound(kind) + wanted.explainability_bound(kind)
        assert (np.abs(found.explainability(kind) - wanted.explainability(kind)) <= bound + 1e-6)[
            wanted.histogram.observations
        ].all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp", "compiled_ddp"])
def test_each_process_of_ddp_traces_the_training(folder, name):
    first, second = of_ranks(folder, name)
    assert_same(first, second)
    wanted = alone()
    assert_of_one_training(first, wanted)
    np.testing.assert_allclose(first.exact, wanted.exact, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARDED)
def test_each_process_gets_the_trace_of_the_sharded_model(folder, name):
    first, second = of_ranks(folder, name)
    assert_same(first, second)
    wanted = alone(**SHARDED[name])
    assert_of_one_training(first, wanted)
    for layer, part in first.by_layer().items():
        assert_of_one_training(part, wanted.layer(layer))
    small = [part for part in first.by_layer().values() if part.sizes.sum() < EXACT_BELOW]
    assert small
    assert all((part.explainability_bound("gini")[0] > 0) for part in small)
    assert first.score() == pytest.approx(wanted.score(), abs=1e-3, nan_ok=True)


@pytest.mark.slow
def test_a_process_may_hold_nothing(folder):
    first, second = of_ranks(folder, "nothing_here")
    assert_same(first, second)
    assert first.sizes.tolist() == [3]
    assert (first.active == 3).all()
    assert (first.change_rate() > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("probed", "'fisher' runs the model apart .* those that can be had: uniform, .*taylor"),
        ("on_a_part_of_the_processes", "'gain' is sharded over 1 of 2 processes"),
    ],
)
def test_what_cannot_be_done_is_refused_in_every_process(folder, name, words):
    for rank in range(PROCESSES):
        with pytest.raises(TraceError, match=words):
            raise TraceError((folder / f"{name}.{rank}.txt").read_text())


# ---- merging, without processes


def trace_of(built: nn.Module, **settings) -> Trace:
    optimizer = torch.optim.SGD(built.parameters(), lr=0.1)
    with Tracer(built, optimizer, **settings) as tracer:
        small_models.train(built, optimizer, 3)
    return tracer.trace()


def test_the_order_of_the_parts_does_not_matter():
    one, other = trace_of(mlp()), trace_of(mlp())
    merged, swapped = merge([one, other]), merge([other, one])
    assert_same(merged, swapped)
    np.testing.assert_array_equal(merged.statistics, one.statistics + other.statistics)
    assert merged.histogram.counts.sum() == 2 * one.histogram.counts.sum()
    assert np.isnan(merged.exact).all()


def test_parts_of_different_trainings_are_not_merged():
    one = trace_of(mlp())
    with pytest.raises(TraceError, match=r"part 1 can't be merged .* differ in every, steps"):
        merge([one, trace_of(mlp(), every=2)])
    with pytest.raises(TraceError, match="differ in steps with a histogram"):
        merge([one, trace_of(mlp(), histogram_every=2)])
    with pytest.raises(TraceError, match=r"part 2 .* differ in tensors"):
        merge([one, one, replace(one, tensors=("a", "b", "c", "d"))])

"""Series of saved checkpoints: what they score, what they are read from, and what is refused."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from trace_core import CHANGE_RATES, Trace, Tracer
from trace_core.checkpoints import CheckpointError, measure, measure_series, trace_checkpoints
from trace_core.checkpoints.series import open_series, step_in
from trace_core.concentration import exact

SHAPES = {
    "embeddings.weight": (700, 16),
    "encoder.layer.0.dense.weight": (96, 64),
    "encoder.layer.0.dense.bias": (96,),
    "encoder.layer.1.dense.weight": (3, 5),
    "encoder.layer.1.dense.bias": (3,),
    "scale": (),
}


def made(seed: int, count: int = 4, dtype: torch.dtype = torch.float32) -> list[dict[str, Tensor]]:
    """State dicts of a random walk, in which zeros stand still, start and end."""
    generator = torch.Generator().manual_seed(seed)
    now = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    now["embeddings.weight"][0] = 0.0
    found = []
    for _ in range(count):
        found.append({name: tensor.to(dtype) for name, tensor in now.items()})
        now = {
            name: tensor + 1e-3 * torch.randn(tensor.shape, generator=generator)
            for name, tensor in now.items()
        }
        now["embeddings.weight"][:1, :8] = 0.0
        now["encoder.layer.0.dense.bias"][:4] = 0.0
    return found


def as_files(folder: Path, states: Sequence[Mapping[str, Tensor]]) -> list[Path]:
    paths = [folder / f"step-{10 * k}.safetensors" for k in range(len(states))]
    for path, state in zip(paths, states, strict=True):
        save_file(dict(state), path)
    return paths


def as_pickles(folder: Path, states: Sequence[Mapping[str, Tensor]]) -> list[Path]:
    paths = [folder / f"{10 * k}.pt" for k in range(len(states))]
    for path, state in zip(paths, states, strict=True):
        torch.save({"model_state_dict": dict(state), "epoch": 3, "note": "x"}, path)
    return paths


def as_old_pickles(folder: Path, states: Sequence[Mapping[str, Tensor]]) -> list[Path]:
    paths = [folder / f"epoch{k}.bin" for k in range(len(states))]
    for path, state in zip(paths, states, strict=True):
        torch.save(dict(state), path, _use_new_zipfile_serialization=False)
    return paths


def as_folders(folder: Path, states: Sequence[Mapping[str, Tensor]]) -> list[Path]:
    """As a Trainer leaves them, in two shards each."""
    paths = [folder / f"checkpoint-{500 * (k + 1)}" for k in range(len(states))]
    for path, state in zip(paths, states, strict=True):
        path.mkdir()
        names = list(state)
        shards = {"model-1.safetensors": names[:2], "model-2.safetensors": names[2:]}
        for file, inside in shards.items():
            save_file({name: state[name] for name in inside}, path / file)
        index = {"weight_map": {name: file for file, inside in shards.items() for name in inside}}
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return paths


FORMATS = [as_files, as_pickles, as_old_pickles, as_folders]


def flat(state: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    return torch.cat([state[name].double().reshape(-1) for name in names])


def oracle(before: Tensor, after: Tensor) -> dict[str, float]:
    """Change rates of one tensor or of all as one, in float64."""
    delta, size = (after - before).abs(), before.abs()
    both = size + after.abs()
    kept = size > 0
    return {
        "elementwise": float((delta[kept] / size[kept]).mean()),
        "global_l1": float(delta.sum() / size.sum()),
        "rms": float((delta.square().sum() / size.square().sum()).sqrt()),
        "symmetric": float(torch.where(both > 0, delta / both, 0.0).mean()),
    }


def assert_is(trace: Trace, states: Sequence[Mapping[str, Tensor]], close: float = 1e-9) -> None:
    for interval, (first, second) in enumerate(itertools.pairwise(states)):
        parts = {name: trace.tensor(name) for name in trace.tensors}
        parts |= {f"block {name}": part for name, part in trace.by_block().items()}
        for part in (trace, *parts.values()):
            wanted = oracle(flat(first, part.tensors), flat(second, part.tensors))
            for kind, value in wanted.items():
                assert part.change_rate(kind)[interval] == pytest.approx(value, rel=close), kind
        each = [oracle(first[n].double(), second[n].double())["global_l1"] for n in trace.tensors]
        assert trace.change_rate("tensor_l1")[interval] == pytest.approx(np.mean(each), rel=close)
        for part in (trace, *parts.values()):
            gini, top = exact(flat(first, part.tensors).abs().numpy())
            for kind, value in (("gini", gini), ("top_mass", top)):
                found = part.explainability(kind)[interval]
                bound = part.explainability_bound(kind)[interval]
                assert np.isnan(found) == np.isnan(value)
                assert np.isnan(value) or abs(found - value) <= bound + close
    places = [flat(state, trace.tensors) for state in states]
    path = sum(float((b - a).norm()) for a, b in itertools.pairwise(places))
    wanted = float((places[-1] - places[0]).norm()) / path
    assert trace.stability("directness") == pytest.approx(wanted, rel=close)


@pytest.mark.parametrize("write", FORMATS)
def test_a_series_is_what_float64_makes_of_it(
    write: Callable[[Path, Sequence[Mapping[str, Tensor]]], list[Path]], tmp_path: Path
) -> None:
    states = made(0)
    paths = write(tmp_path, states)
    trace = trace_checkpoints(paths)
    assert set(trace.tensors) == set(SHAPES)
    assert trace.sizes.sum() == sum(tensor.numel() for tensor in states[0].values())
    assert_is(trace, states)
    # So it is if the folder is given alone.
    again = trace_checkpoints([tmp_path])
    np.testing.assert_array_equal(again.statistics, trace.statistics)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(2, 5),
    dtypes=st.lists(
        st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
        min_size=2,
        max_size=5,
    ),
    room=st.sampled_from([4096, 5000, 1 << 16]),
    compiled=st.booleans(),
)
def test_whatever_the_types_the_pieces_and_the_pass(
    seed: int,
    count: int,
    dtypes: list[torch.dtype],
    room: int,
    compiled: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Each checkpoint of a type of its own, read in pieces of any size, by either pass."""
    states = [
        {name: tensor.to(dtypes[k % len(dtypes)]) for name, tensor in state.items()}
        for k, state in enumerate(made(seed, count))
    ]
    paths = as_files(tmp_path_factory.mktemp("series"), states)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "_LEAST", room)
        patch.setattr(measure, "_MOST", room)
        if not compiled:
            patch.setattr(measure, "library", lambda: None)
        trace = trace_checkpoints(paths)
    assert_is(trace, states)


def test_a_checkpoint_after_every_step_gives_the_trace_of_the_training(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(80, 60), nn.Tanh(), nn.Linear(60, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    inputs, targets = torch.randn(64, 80), torch.randint(4, (64,))
    tracer = Tracer(model, optimizer, importance="magnitude")
    paths = []
    for step in range(13):
        paths.append(tmp_path / f"step{step}.pt")
        torch.save(model.state_dict(), paths[-1])
        if step < 12:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
    wanted, trace = tracer.trace(), trace_checkpoints(paths)
    assert trace.steps.tolist() == wanted.steps.tolist()
    for kind in CHANGE_RATES:
        np.testing.assert_allclose(trace.change_rate(kind), wanted.change_rate(kind), rtol=2e-6)
    for kind in ("gini", "hoyer", "entropy", "top_mass"):
        found, known = trace.explainability(kind), wanted.explainability(kind)
        np.testing.assert_allclose(found[~np.isnan(known)], known[~np.isnan(known)], rtol=1e-5)
    for kind in ("steadiness", "steadiness_raw", "magnitude", "directness"):
        assert trace.stability(kind) == pytest.approx(wanted.stability(kind), rel=1e-6)
    assert trace.top_movers(3)[0][0] == wanted.top_movers(3)[0][0]
    trace.save(tmp_path / "kept.npz")
    kept = Trace.load(tmp_path / "kept.npz")
    assert kept.score(0.3, stability="directness") == trace.score(0.3, stability="directness")


def test_types_that_no_pass_reads(tmp_path: Path) -> None:
    states = [
        {"weight": tensor.to(torch.float8_e4m3fn)} for tensor in torch.randn(3, 40, 8).unbind()
    ]
    assert_is(trace_checkpoints(as_files(tmp_path, states)), states)


def test_what_is_no_parameter_is_left_out_and_tied_ones_count_once(tmp_path: Path) -> None:
    paths = []
    for step in (1, 2):
        weight = torch.randn(6, 4)
        state = {
            "_orig_mod.embed.weight": weight,
            "_orig_mod.head.weight": weight,
            "_orig_mod.norm.running_mean": torch.randn(6),
            "_orig_mod.norm.num_batches_tracked": torch.tensor(7),
            "_orig_mod.positions": torch.arange(6),
            "_orig_mod.none": torch.zeros(0),
        }
        paths.append(tmp_path / f"step_{step}.ckpt")
        torch.save({"state_dict": state, "global_step": step}, paths[-1])
    trace = trace_checkpoints(paths)
    assert trace.tensors == ("embed.weight",)
    left = list(open_series(paths).checkpoints[0].left_out)
    assert left == [
        *("norm.running_mean", "norm.num_batches_tracked", "positions", "none"),
        "head.weight",
    ]


def test_views_are_read_as_what_they_show(tmp_path: Path) -> None:
    states = []
    for step in range(3):
        whole, strip = torch.randn(6, 4), torch.randn(20)
        state = {"column": whole[:, 1], "other": whole[:, 2], "every": strip[::2]}
        state |= {"top": whole[:2], "left": whole[:, :2], "turned": torch.randn(5, 7).t()}
        states.append(state)
        torch.save(state, tmp_path / f"step-{step}.pt")
    trace = trace_checkpoints([tmp_path])
    assert set(trace.tensors) == set(states[0])
    assert_is(trace, states)


def test_archives_that_do_not_hold_numbers_as_memory_does(tmp_path: Path) -> None:
    """Compressed, or of the other byte order."""
    states = made(0, 3)
    for name, state in zip(("step-0", "step-1", "step-2"), states, strict=True):
        torch.save(state, tmp_path / f"{name}.pt")
    for name in ("step-0", "step-1"):
        with zipfile.ZipFile(tmp_path / f"{name}.pt") as archive:
            parts = {entry: archive.read(entry) for entry in archive.namelist()}
        how = zipfile.ZIP_DEFLATED if name == "step-0" else zipfile.ZIP_STORED
        if name == "step-1":
            for entry, data in parts.items():
                if "/data/" in entry:
                    parts[entry] = np.frombuffer(data, np.float32).byteswap().tobytes()
                elif entry.endswith("byteorder"):
                    parts[entry] = b"big" if sys.byteorder == "little" else b"little"
        with zipfile.ZipFile(tmp_path / f"{name}.pt", "w", how) as archive:
            for entry, data in parts.items():
                archive.writestr(entry, data)
    assert_is(trace_checkpoints([tmp_path]), states)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "step-1.pt")
    (one,) = as_files(tmp_path, made(0, 1))
    with pytest.raises(CheckpointError, match="neither a file nor a folder"):
        trace_checkpoints([one, tmp_path / "step-1.pt"])


@pytest.mark.parametrize(
    "tensor", [torch.zeros(1).expand(1000), torch.empty(3, device="meta")], ids=["expanded", "meta"]
)
def test_tensors_that_hold_less_than_they_show(tensor: Tensor, tmp_path: Path) -> None:
    for step in range(2):
        torch.save({"w": tensor}, tmp_path / f"step-{step}.pt")
    with pytest.raises(CheckpointError, match="'w' holds less than its shape says"):
        trace_checkpoints([tmp_path])


def nested(layout: torch.layout) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(1, 3)], layout=layout)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (
            torch.zeros(8, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
            "of type float4_e2m1fn_x2",
        ),
        (torch.eye(3).to_sparse(), "a sparse_coo tensor; only dense ones"),
        (nested(torch.strided), "a nested tensor; only dense ones"),
        (nested(torch.jagged), "a nested tensor; only dense ones"),
    ],
    ids=["float4", "sparse", "nested", "jagged"],
)
def test_tensors_that_can_not_be_read_are_named(tensor: Tensor, said: str, tmp_path: Path) -> None:
    for step in range(2):
        torch.save({"good": torch.zeros(2), "w": tensor}, tmp_path / f"step-{step}.pt")
    with pytest.raises(CheckpointError, match=rf"step-0\.pt: 'w' is {said}"):
        trace_checkpoints([tmp_path])


@pytest.mark.parametrize(("kind", "size"), [("F4", 4), ("F6_E2M3", 6)])
def test_numbers_of_a_safetensors_file_that_can_not_be_read(
    kind: str, size: int, tmp_path: Path
) -> None:
    entry = {"dtype": kind, "shape": [8], "data_offsets": [0, size]}
    header = json.dumps({"w": entry}).encode()
    data = len(header).to_bytes(8, "little") + header + bytes(size)
    (tmp_path / "step-1.safetensors").write_bytes(data)
    (good,) = as_files(tmp_path, made(0, 1))
    with pytest.raises(CheckpointError, match=r"step-1\.safetensors: 'w' is of .*save it as bfl"):
        trace_checkpoints([good, tmp_path / "step-1.safetensors"])


# ---- steps, order, learning rates


def test_steps_put_them_into_order(tmp_path: Path) -> None:
    states = made(1, 3)
    paths = [tmp_path / f"checkpoint-{step}.safetensors" for step in (200, 1000, 90)]
    for path, state in zip(paths, states, strict=True):
        save_file(state, path)
    found = open_series(sorted(paths))
    assert found.steps == (90, 200, 1000)
    assert found.reordered
    assert found.labels == [f"checkpoint-{step}.safetensors" for step in (90, 200, 1000)]
    assert found.learning_rates.tolist() == [110, 800]
    assert not open_series([tmp_path]).reordered
    assert_is(trace_checkpoints(paths), [states[2], states[0], states[1]])


def test_names_that_tell_no_step_leave_the_order_as_it_is(tmp_path: Path) -> None:
    states = made(2, 3)
    paths = [tmp_path / name for name in ("resnet50.pt", "resnet101.pt", "a.pt")]
    for path, state in zip(paths, states, strict=True):
        torch.save(state, path)
    found = open_series(paths)
    assert (found.steps, found.steps_known, found.reordered) == ((0, 1, 2), False, False)
    assert_is(trace_checkpoints(paths), states)


def test_a_trainers_log_tells_steps_and_learning_rates(tmp_path: Path) -> None:
    paths = []
    for name, state in zip("abc", made(3, 3), strict=True):
        path = tmp_path / name
        path.mkdir()
        save_file(state, path / "model.safetensors")
        paths.append(path / "model.safetensors")
    log = [{"step": 5 * k, "learning_rate": 0.1 * k, "loss": 1.0} for k in range(1, 7)]
    for step, path in zip((10, 20, 30), paths, strict=True):
        state = {"global_step": step, "log_history": [*log, {"step": 30, "eval_loss": 2.0}]}
        (path.parent / "trainer_state.json").write_text(json.dumps(state))
    found = open_series(paths)
    assert found.steps == (10, 20, 30)
    # From 0.2 at step 10 to 0.4 at step 20.
    np.testing.assert_allclose(found.learning_rates, [10 * 0.3, 10 * 0.5])
    assert found.labels == [f"{name}/model.safetensors" for name in "abc"]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("checkpoint-500", 500),
        ("iteration_20", 20),
        ("epoch=3-step=300", 300),
        ("epoch07", 7),
        ("global_step1000", 1000),
        ("0", 0),
        ("model.step_100", 100),
        ("step-1k", 1000),
        ("step-1M", 10**6),
        ("step_2.5k", 2500),
        ("iter-1.25B", 1_250_000_000),
        ("checkpoint-10k", 10_000),
        ("1.5B-tokens", 1_500_000_000),
        ("olmo-tokens-2T", 2 * 10**12),
        ("step1000-tokens4B", 1000),
        # Not whole, in no unit, a size or a version, too large, or more than one.
        ("step-1.00005k", None),
        ("step-1.5", None),
        ("step-1m", None),
        ("step-1b", None),
        ("checkpoint-7B", None),
        ("llama-1.5B", None),
        ("1M", None),
        ("tokens-9999999T", None),
        ("step-10-of-step-20", None),
        ("resnet50", None),
        ("last", None),
    ],
)
def test_steps_in_names(name: str, step: int | None) -> None:
    assert step_in(name) == step


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("epoch=2", "epoch=10", "last"), "nothing tells the step of 'last.pt'"),
        (("step=2", "epoch=1-step=2"), "are both of step 2"),
        (("model", "optimizer"), "is one checkpoint"),
    ],
)
def test_a_folder_whose_order_is_not_known(
    names: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    for name, state in zip(names, made(0, len(names)), strict=True):
        torch.save(state, tmp_path / f"{name}.pt")
    with pytest.raises(CheckpointError, match=said):
        trace_checkpoints([tmp_path])


@pytest.mark.parametrize(
    ("log", "wanted"),
    [
        # A straight line down to nothing, logged as seldom as it was saved.
        ([(100, 0.3), (200, 0.2), (300, 0.1), (400, 0.0)], [25, 15, 5]),
        # What follows the last entry is as that was.
        ([(50, 0.2), (150, 0.2)], [20, 20, 20]),
        # No learning rate that could be meant.
        ([(100, float("nan"))], [100, 100, 100]),
        ([(100, -1.0)], [100, 100, 100]),
        ([("x", 0.1)], [100, 100, 100]),
        ([(float("inf"), 0.1)], [100, 100, 100]),
        ([], [100, 100, 100]),
    ],
)
def test_learning_rates_between_logged_ones(
    log: list[tuple[Any, float]], wanted: list[float], tmp_path: Path
) -> None:
    for step, state in zip((100, 200, 300, 400), made(0, 4), strict=True):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        save_file(state, folder / "model.safetensors")
        history = [{"step": at, "learning_rate": rate} for at, rate in log]
        told = {"global_step": step, "log_history": history}
        (folder / "trainer_state.json").write_text(json.dumps(told))
    np.testing.assert_allclose(open_series([tmp_path]).learning_rates, wanted)


SHARDED = """
import sys
from pathlib import Path
import torch
import trace_core.checkpoints as checkpoints
from trace_core.checkpoints.opened import Checkpoint
folder = Path(sys.argv[1])
whole = torch.load(folder / "whole.pt")
for _ in range(3):
    opened = Checkpoint(folder / "sharded")
    assert opened.tensors.keys() == whole.keys(), opened.tensors.keys()
    for tensor in opened.tensors.values():
        opened.let_go(tensor)
    for name, tensor in opened.tensors.items():
        assert torch.equal(tensor, whole[name].reshape(-1)), name
"""


@pytest.mark.parametrize("zipped", [True, False])
def test_memory_that_is_not_mapped_is_left_alone(tmp_path: Path, zipped: bool) -> None:
    """Tensors that aren't contiguous are copied, where a file may have been mapped before."""
    torch.manual_seed(0)
    state = {f"conv{i}.weight": torch.randn(64, 64, 8, 8) for i in range(6)}
    brought = {k: v.to(memory_format=torch.channels_last) for k, v in state.items()}
    torch.save(state, tmp_path / "whole.pt")
    folder = tmp_path / "sharded"
    folder.mkdir()
    for i, (name, tensor) in enumerate(brought.items()):
        file = folder / f"pytorch_model-{i}.bin"
        torch.save({name: tensor}, file, _use_new_zipfile_serialization=zipped)
    index = {"weight_map": {name: f"pytorch_model-{i}.bin" for i, name in enumerate(brought)}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    command = [sys.executable, "-c", SHARDED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_large_tensors_in_several_threads(tmp_path: Path) -> None:
    states = [{"weight": t, "bias": t[0]} for t in torch.randn(3, 1100, 1000).unbind()]
    states = [{name: tensor.clone() for name, tensor in state.items()} for state in states]
    assert_is(trace_checkpoints(as_files(tmp_path, states)), states)


def with_state(folder: Path, step: int, state: str) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    save_file({"w": torch.randn(6)}, path / "model.safetensors")
    (path / "trainer_state.json").write_text(state)
    return path


@pytest.mark.parametrize(
    "state",
    [
        f'{{"global_step": {2**63}}}',
        f'{{"global_step": 1{"0" * 400}}}',
        f'{{"global_step": 1{"0" * 5000}}}',
        f'{{"log_history": [{{"step": 1{"0" * 400}, "learning_rate": 0.1}}]}}',
        "[" * 200_000,
    ],
)
def test_a_trainers_state_that_can_not_be_meant(state: str, tmp_path: Path) -> None:
    """The step is then that of the name, and no learning rates are known."""
    for step in (5, 10):
        with_state(tmp_path, step, state)
    found = open_series([tmp_path])
    assert (found.steps, found.learning_rates.tolist()) == ((5, 10), [5])
    assert not found.rates_known
    assert trace_checkpoints(found).steps.tolist() == [5]


def test_the_largest_steps(tmp_path: Path) -> None:
    for name, step in enumerate((2**63 - 2, 2**63 - 1)):
        with_state(tmp_path, name, f'{{"global_step": {step}}}')
    trace = trace_checkpoints([tmp_path])
    assert trace.steps.tolist() == [2**63 - 2]
    assert trace.learning_rate().tolist() == [1.0]


def test_places_without_a_name_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (with_state(tmp_path, step, "{}") for step in (5, 10))
    monkeypatch.chdir(second)
    for paths in ([Path("."), first], [Path("model.safetensors"), Path(f"{first}/")]):
        found = open_series(paths)
        assert (found.steps, found.reordered) == ((5, 10), True)
        assert found.labels[0] == "checkpoint-5"
    assert open_series([Path("."), Path("..", "checkpoint-5", "")]).labels == [
        "checkpoint-5",
        "checkpoint-10",
    ]
    monkeypatch.chdir(tmp_path)
    assert open_series([Path(".")]).labels == ["checkpoint-5", "checkpoint-10"]


def test_tied_tensors_are_called_alike_in_whatever_order_they_are_kept(tmp_path: Path) -> None:
    for step in range(2):
        weight = torch.randn(6, 4)
        state = {"embed.weight": weight, "head.weight": weight, "body.weight": torch.randn(3)}
        order = sorted(state, reverse=bool(step))
        torch.save({name: state[name] for name in order}, tmp_path / f"step-{step}.pt")
    found = open_series([tmp_path])
    for checkpoint in found.checkpoints:
        assert sorted(checkpoint.tensors) == ["body.weight", "embed.weight"]
        assert checkpoint.left_out == {"head.weight": "the same tensor as embed.weight"}
    assert trace_checkpoints(found).sizes.sum() == 27


def test_layer_10_comes_after_layer_2(tmp_path: Path) -> None:
    names = [f"layers.{i}.weight" for i in (1, 2, 10)]
    paths = as_files(tmp_path, [{name: torch.randn(3) for name in names}] * 2)
    assert trace_checkpoints(paths).tensors == tuple(names)


def test_the_last_checkpoint_is_told_too(tmp_path: Path) -> None:
    states = made(5, 3)
    found = open_series(as_files(tmp_path, states))
    measured = measure_series(found)
    trace = trace_checkpoints(found)
    np.testing.assert_array_equal(measured.trace.statistics, trace.statistics)
    assert measured.trace.stability("directness") == trace.stability("directness")
    assert (len(measured.end), measured.end.steps.tolist()) == (1, [20])
    for part in (measured.end, *measured.end.by_layer().values()):
        gini, _ = exact(flat(states[-1], part.tensors).abs().numpy())
        bound = part.explainability_bound("gini")[0]
        assert part.explainability("gini")[0] == pytest.approx(gini, abs=bound + 1e-9, nan_ok=True)


# ---- what is refused


class Bomb:
    """Makes a file when it is loaded without care."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    (good,) = as_files(tmp_path, made(0, 1))
    mark, bad = tmp_path / "was-run", tmp_path / "step-10.pt"
    state = {"weight": torch.zeros(3), "extra": Bomb(mark)}
    torch.save(state, bad, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=r"step-10\.pt: holds .*system.* refused, and nothing"
    ):
        trace_checkpoints([good, bad])
    # The bare pickle of an object likewise.
    bad.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(CheckpointError, match=r"step-10\.pt: "):
        trace_checkpoints([good, bad])
    assert not mark.exists()
    pickle.loads(bad.read_bytes())
    assert mark.exists(), "the bomb was none"


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def test_truncated_files_and_other_bytes_are_refused(tmp_path: Path) -> None:
    for write in FORMATS:
        folder = tmp_path / write.__name__
        folder.mkdir()
        paths = write(folder, made(0, 2))
        file = next(paths[1].glob("*-2.safetensors")) if paths[1].is_dir() else paths[1]
        shortened(file)
        with pytest.raises(CheckpointError, match=rf"{file.name}: is no whole "):
            trace_checkpoints(paths)
        for data in (b"", b"\x80", b"no checkpoint at all", b"PK\x03\x04" + bytes(100)):
            file.write_bytes(data)
            with pytest.raises(CheckpointError, match=re_start(file)):
                trace_checkpoints(paths)


def re_start(path: Path) -> str:
    return rf"^{str(path).replace('.', '[.]')}: "


def renamed(state: Mapping[str, Tensor], change: Callable[[str], str]) -> dict[str, Tensor]:
    return {change(name): tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: renamed(s, "bert.{}".format), "'bert.' more before each"),
        (lambda s: {k: v for k, v in s.items() if k != "scale"}, "it lacks 'scale'$"),
        (lambda s: s | {"new.weight": s["scale"]}, "it has besides 'new.weight'$"),
        (lambda s: renamed(s, str.upper), "it lacks 'embeddings.weight' and 5 more"),
        (
            lambda s: s | {"scale": torch.zeros(2)},
            r"'scale' has shape \(2,\); in .*first.safetensors it has \(\)",
        ),
        (lambda s: {"a": torch.arange(3)}, "holds no floating-point parameters"),
    ],
)
def test_checkpoints_of_different_models(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str, tmp_path: Path
) -> None:
    state = made(0, 1)[0]
    first, other = tmp_path / "first.safetensors", tmp_path / "other.safetensors"
    save_file(state, first)
    save_file({k: v.clone() for k, v in change(state).items()}, other)
    with pytest.raises(CheckpointError, match=message) as caught:
        trace_checkpoints([first, other])
    assert str(caught.value).startswith(f"{other}: ")


def test_places_that_hold_no_series(tmp_path: Path) -> None:
    (one,) = as_files(tmp_path, made(0, 1))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        trace_checkpoints([one, tmp_path / "none.pt"])
    with pytest.raises(CheckpointError, match="a series needs two"):
        trace_checkpoints([one])
    with pytest.raises(CheckpointError, match="a series needs two"):
        trace_checkpoints([])
    with pytest.raises(CheckpointError, match="holds no checkpoints"):
        trace_checkpoints([empty])
    with pytest.raises(CheckpointError, match="holds no checkpoint; expected one of"):
        trace_checkpoints([one, empty])
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CheckpointError, match="no checkpoint that is known"):
        trace_checkpoints([one, tmp_path / "notes.txt"])


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "is no index of shards"),
        ("[]", "is no index of shards"),
        ("[" * 200_000, "is no index of shards"),
        ('{"weight_map": {"a": 3}}', "is no index of shards"),
        ('{"weight_map": {"a": "../outside.safetensors"}}', "is not in its folder"),
        ('{"weight_map": {"a": "none.safetensors"}}', "none.safetensors, which is not beside it"),
        ('{"weight_map": {"zz": "model-1.safetensors"}}', "lacks 'zz', which its index says"),
        ('{"weight_map": {}}', "holds no floating-point parameters"),
    ],
)
def test_an_index_that_misleads(index: str, message: str, tmp_path: Path) -> None:
    paths = as_folders(tmp_path, made(0, 2))
    (paths[1] / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=message):
        trace_checkpoints(paths)


def test_a_diverged_checkpoint_is_named(tmp_path: Path) -> None:
    states = made(0, 3)
    states[2]["scale"] = torch.tensor(float("nan"))
    trace = trace_checkpoints(as_files(tmp_path, states))
    with pytest.raises(ValueError, match="'scale' is not finite at step 10"):
        trace.stability("magnitude")


PEAK = """
import sys
from trace_core.checkpoints import trace_checkpoints
def kib(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
open("/proc/self/clear_refs", "w").write("5")
before = kib("VmHWM")
trace_checkpoints([sys.argv[1]])
print(kib("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
@pytest.mark.parametrize("write", [as_files, as_pickles])
def test_memory_does_not_grow_with_the_files(
    write: Callable[[Path, Sequence[Mapping[str, Tensor]]], list[Path]], tmp_path: Path
) -> None:
    """Eight files of 60 MB: far less than two of them are in memory at a time."""
    state = {f"layers.{i}.weight": torch.randn(2500, 1000) for i in range(6)}
    write(tmp_path, [state] * 8)
    assert peak(tmp_path) < 100


def peak(folder: Path) -> float:
    """MiB that scoring takes, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(folder)], capture_output=True, text=True, check=True
    )
    return int(done.stdout) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_what_is_not_contiguous_is_held_once(tmp_path: Path) -> None:
    """Five files of 40 MB: as copies, without what they were copied from."""
    state = {f"layers.{i}.weight": torch.randn(2500, 1000).t() for i in range(4)}
    as_pickles(tmp_path, [state] * 5)
    assert peak(tmp_path) < 5 * 40 + 60


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_small_tensors_take_kilobytes(tmp_path: Path) -> None:
    state = {f"layers.{i}.weight": torch.randn(20) for i in range(2000)}
    as_files(tmp_path, [state] * 4)
    assert peak(tmp_path) * 1024 / (2000 * 4) < 9


def test_a_message_is_short_whatever_the_file_says(tmp_path):
    for step in range(2):
        torch.save({"a": torch.ones(3)}, tmp_path / f"step-{step}.pt")
    path = tmp_path / "step-1.pt"
    # A call of a long name, as a pickle says it.
    pickled = b"\x80\x02c" + b"a" * 20_000 + b"\nb\n."
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, pickled if name.endswith("data.pkl") else data)
    with pytest.raises(CheckpointError, match=r"step-1\.pt: ") as caught:
        trace_checkpoints([tmp_path])
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize("letter", ["a", "\u00e9"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_name_without_end_is_refused_at_once(tmp_path: Path, zipped: bool, letter: str) -> None:
    good, bad = tmp_path / "step-0.pt", tmp_path / "step-1.pt"
    torch.save({"a": torch.ones(3)}, good)
    pickled = b"\x80\x02c" + letter.encode() * 100_000 + b"\nb\n."
    bad.write_bytes(pickled)
    if zipped:
        with zipfile.ZipFile(good) as archive, zipfile.ZipFile(bad, "w") as changed:
            for name in archive.namelist():
                data = archive.read(name)
                changed.writestr(name, pickled if name.endswith("data.pkl") else data)
    begun = time.process_time()
    with pytest.raises(CheckpointError, match="names an object by more than 1,000 characters"):
        trace_checkpoints([good, bad])
    assert time.process_time() - begun < 1

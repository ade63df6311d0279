"""The compiled pass and PyTorch's operations see the same, and what they see is so."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from observing import (
    PASSES,
    Holder,
    Place,
    assert_alike,
    assert_right,
    observe,
    passes,
)

from trace_core import Tracer, kernel
from trace_core.kernel import plan
from trace_core.kernel.build import FLAGS, BuildKernel
from trace_core.storage import to_arrays

LEVELS = range(kernel.level() + 1)
BITS = {torch.float16: 10, torch.bfloat16: 7, torch.float32: 23, torch.float64: 52}
RTOL = {torch.float64: 1e-12}

pytestmark = [
    pytest.mark.skipif(
        "compiled" not in PASSES, reason="the kernel isn't compiled: pip install -e . compiles it"
    ),
    pytest.mark.filterwarnings("ignore:.*rounded away"),
]


@pytest.fixture(params=LEVELS)
def level(request, monkeypatch):
    """Each instruction set that this processor has."""
    monkeypatch.setattr(plan, "level", lambda: request.param)
    return request.param


def walk(sizes, dtype, steps, seed, spread=2.0):
    """Points and gradients with magnitudes over several orders, zeros, and things that rest."""
    random = torch.Generator().manual_seed(seed)

    def draw(size, scale):
        values = torch.randn(size, generator=random, dtype=torch.float64)
        values *= scale * torch.exp(spread * torch.randn(size, generator=random))
        return values * (torch.rand(size, generator=random) > 0.1)

    points = [[draw(size, 0.1).to(dtype) for size in sizes]]
    for _ in range(steps):
        points.append([(at + draw(at.shape, 0.01)).to(dtype) for at in points[-1]])
    gradients = [[draw(size, 1.0).to(dtype) for size in sizes] for _ in range(steps)]
    return points, gradients


def check(points, gradients, importance="taylor", rtol=1e-6, **settings):
    """Hold both passes to the oracle, and to each other."""
    traces = []
    for name in PASSES:
        with passes(name):
            traces.append(observe(points, gradients, importance=importance, **settings))
        wanted = assert_right(traces[-1], points, gradients, importance, rtol)
    assert_alike(*traces, wanted)


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=5),
    dtype=st.sampled_from(list(BITS)),
    importance=st.sampled_from(list(plan.FACTORS)),
    anchors=st.sets(st.integers(0, 2), max_size=3),
    seed=st.integers(0, 2**32),
)
@pytest.mark.parametrize("level", LEVELS)
def test_any_tensors(level, sizes, dtype, importance, anchors, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "level", lambda: level)
        points, gradients = walk(sizes, dtype, 3, seed)
        check(points, gradients, importance, RTOL.get(dtype, 1e-6), anchors=tuple(anchors))


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 1023, 1024, 1025, 4095, 4096, 4097])
def test_borders_of_tiles(level, size):
    check(*walk([size, 1, size], torch.float32, 2, seed=size))


@pytest.mark.parametrize("size", [plan.CHUNK - 1, plan.CHUNK, plan.CHUNK + 1, 2 * plan.CHUNK + 5])
def test_borders_of_chunks(size):
    check(*walk([size, 7], torch.float32, 1, seed=size))


def test_chunks_of_a_large_model(monkeypatch):
    monkeypatch.setattr(plan, "CHUNKS", 1)
    check(*walk([plan.CHUNK + 1, 7, 5 * plan.CHUNK], torch.float32, 1, seed=0))


# ---- what float32 is too narrow for

LEAST = 2.0**-149  # of float32
EXTREMES = {
    "subnormal parameters": (LEAST * torch.arange(1.0, 3000), 1.5, 1e30),
    "ratios over float32": (torch.full((2000,), 1e-30), 1e12, 1.0),
    "importance under float32": (torch.full((2000,), 1e-25), 1.5, 1e-30),
    "importance nearly under float32": (torch.full((2000,), 3e-20), 1.5, 1e-22),
    "importance over float32": (torch.full((2000,), 1e25), 1.5, 1e25),
    "c ln c over float32": (torch.full((2000,), 1e19), 1.5, 3e18),
    "squares over float32": (torch.full((2000,), 1e25), 1.5, 1e-10),
    "products under float32": (torch.full((2000,), 1e-19), 1.0 + 1e-5, 1.0),
    "change over float32": (torch.full((2000,), 3e38), -1.0, 1.0),
    "sizes over float32": (torch.full((2000,), 3e38), 0.75, 1e-38),
    "everything zero": (torch.zeros(2000), 1.0, 0.0),
    "zero gradients": (torch.linspace(-1, 1, 2000), 1.5, 0.0),
}


@pytest.mark.parametrize("case", EXTREMES)
@pytest.mark.parametrize("importance", plan.FACTORS)
def test_extreme_values(level, case, importance):
    theta, factor, gradient = EXTREMES[case]
    plain = torch.linspace(-1, 1, 2500)
    points = [[theta, plain], [theta * factor, plain * 1.01]]
    check(points, [[torch.full_like(theta, gradient), plain]], importance)


def test_extremes_beside_ordinary_values(level):
    """One tile holds both: what is large is all that can show in its sums."""
    theta = torch.linspace(-1, 1, 1000)
    theta[::7], theta[1::7] = 1e-42, 0.0
    gradient = torch.linspace(1, 2, 1000)
    gradient[3::7] = 0.0
    check([[theta], [theta * 1.5]], [[gradient]])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["before", "after", "gradient"])
def test_what_is_not_finite_shows(level, where, bad):
    theta = torch.linspace(0.5, 1, 1500)
    step = {"before": theta, "after": theta * 1.01, "gradient": theta.clone()}
    step[where] = step[where].clone()
    step[where][1100] = bad
    points = [[step["before"], theta], [step["after"], theta * 1.01]]
    check(points, [[step["gradient"], theta]])
    trace = observe(points, [[step["gradient"], theta]])
    assert not np.isfinite(trace.statistics[0, 0]).all()
    assert np.isfinite(trace.statistics[0, 1]).all()


# ---- types and layouts


@pytest.mark.parametrize("gradient", BITS)
@pytest.mark.parametrize("parameter", BITS)
def test_gradients_of_another_type(level, parameter, gradient):
    points, gradients = walk([700, 4], parameter, 2, seed=5)
    gradients = [[tensor.to(gradient) for tensor in given] for given in gradients]
    check(points, gradients, rtol=RTOL.get(parameter, 1e-6))


def test_a_float64_gradient_keeps_its_range(level):
    theta = torch.linspace(0.5, 1, 1500)
    check([[theta], [theta * 1.01]], [[theta.double() * 1e-200]])
    check([[theta], [theta * 1.01]], [[theta.double() * 1e200]])


def test_types_side_by_side(level):
    parts = [walk([300], dtype, 2, seed=3) for dtype in BITS]
    points, gradients = (
        [[tensor for part in parts for tensor in part[k][row]] for row in range(3 - k)]
        for k in range(2)
    )
    check(points, gradients)


def layouts():
    random = torch.Generator().manual_seed(2)
    images = torch.randn(6, 5, 3, 3, generator=random)
    last = images.to(memory_format=torch.channels_last)
    narrow = torch.randn(4, 5, 1, 1, generator=random)
    matrix = torch.randn(70, 30, generator=random)
    volume = torch.randn(3, 4, 2, 2, 2, generator=random)
    return {
        "channels_last": (last, last),
        "channels_last, gradient not": (last, images),
        "gradient channels_last": (images, last),
        "channels_last of one pixel": (narrow.to(memory_format=torch.channels_last), narrow),
        "volumes": (volume.to(memory_format=torch.channels_last_3d), volume),
        "transposed": (matrix.t(), matrix.t()),
        "gradient transposed": (matrix, torch.randn(30, 70, generator=random).t()),
        "gradient expanded": (matrix, torch.ones(1, 1).expand(70, 30)),
        "gradient sliced": (matrix, torch.randn(140, 60, generator=random)[::2, ::2]),
        "gradient sparse": (matrix, torch.eye(70, 30).to_sparse()),
        "a single number": (torch.tensor(0.5), torch.tensor(2.0)),
    }


@pytest.mark.parametrize("layout", layouts())
def test_layouts(layout):
    theta, gradient = layouts()[layout]
    points = [[theta, theta], [theta * 1.5, theta * 1.25]]
    check(points, [[gradient, gradient]], anchors=(0,))


# ---- how it is run


def test_the_number_of_threads_makes_no_difference():
    points, gradients = walk([plan.THREADED_FROM + 100, 3000, 5], torch.float32, 2, seed=1)
    before = torch.get_num_threads()
    traces = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            traces.append(to_arrays(observe(points, gradients, anchors=(0, 1))))
    finally:
        torch.set_num_threads(before)
    for other in traces[1:]:
        for name, array in traces[0].items():
            np.testing.assert_array_equal(array, other[name], strict=True)


def test_buffers_are_made_anew_when_tensors_join_or_rest():
    points, gradients = walk([40, 50, 60], torch.float32, 4, seed=8)
    model = torch.nn.Sequential(*(Holder(tensor.clone()) for tensor in points[0]))
    first, second, third = model.parameters()
    optimizer = Place([first, second])
    tracer = Tracer(model, optimizer, anchors=(0, 3))
    active = []
    for step, targets in enumerate(points[1:]):
        if step == 2:
            optimizer.param_groups[0]["params"].append(third)
        first.grad, second.grad, third.grad = (
            gradients[step][0],
            None if step == 1 else gradients[step][1],
            gradients[step][2],
        )
        optimizer.targets = targets[: 2 if step < 2 else 3]
        optimizer.step()
        active.append((40, 0 if step == 1 else 50, 60 if step >= 2 else 0))
    trace = tracer.trace()
    np.testing.assert_array_equal(trace.statistics[:, :, 0], active)
    moved = (points[4][2] - points[0][2]).double().square().sum().item()
    assert trace.statistics[3, 2, -2] == pytest.approx(moved, rel=1e-6)


# ---- whether it is there


def test_without_the_library_the_pass_is_torchs(monkeypatch):
    model = torch.nn.Linear(2, 2)
    tracer = Tracer(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert tracer.kernel.startswith("compiled (")
    with passes("torch"):
        assert tracer.kernel == "torch"


def test_the_environment_can_turn_it_off():
    code = (
        "import torch; from trace_core import Tracer; m = torch.nn.Linear(2, 2);"
        "print(Tracer(m, torch.optim.SGD(m.parameters(), lr=0.1)).kernel)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {kernel.VARIABLE: "torch"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "torch"


def test_the_installation_has_built_it():
    assert kernel.library() is not None
    assert kernel.describe().startswith("compiled")


@pytest.mark.parametrize("damage", ["absent", "not a library", "of another version"])
def test_a_library_that_does_not_fit_is_left_alone(damage, tmp_path, monkeypatch):
    place = tmp_path / "compiled.so"
    if damage == "not a library":
        place.write_bytes(b"nothing")
    elif damage == "of another version":
        shutil.copy(kernel.library()._name, place)
        monkeypatch.setattr(kernel, "VERSION", -1)
    monkeypatch.setattr(kernel, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(kernel, "EXTENSION_SUFFIXES", [".so"])
    assert kernel.library.__wrapped__() is None


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="the compiler isn't here: ziglang"
)
def test_the_package_builds_a_library_that_loads(tmp_path, monkeypatch):
    """With the compiler that an installation brings."""
    from setuptools import Distribution, Extension

    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ZIG_LOCAL_CACHE_DIR", str(tmp_path / "cache"))
    source = str(Path(kernel.__file__).with_name("kernel.c"))
    command = BuildKernel(Distribution({"name": "tracerank"}))
    command.build_lib = str(tmp_path)
    command.initialize_options()
    command.build_lib, command.inplace = str(tmp_path), False
    command.build_extension(Extension("compiled", [source]))
    assert_loads(tmp_path, monkeypatch)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
def test_another_compiler_builds_it_too(tmp_path, monkeypatch):
    """GCC, with the same flags but for those that only clang has, and without a warning."""
    source = Path(kernel.__file__).with_name("kernel.c")
    flags = [flag for flag in FLAGS if "sanitize" not in flag]
    strict = ["-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-Wno-unknown-pragmas"]
    place = tmp_path / f"compiled{kernel.EXTENSION_SUFFIXES[0]}"
    subprocess.run(["gcc", *flags, *strict, "-o", place, source, "-lm"], check=True)
    assert_loads(tmp_path, monkeypatch)


def assert_loads(folder, monkeypatch):
    """Hold a library to the oracle."""
    monkeypatch.setattr(kernel, "__file__", str(folder / "__init__.py"))
    built = kernel.library.__wrapped__()
    assert built is not None
    assert Path(built._name).parent == folder
    monkeypatch.setattr("trace_core.watched.library", lambda: built)
    for dtype in BITS:
        points, gradients = walk([3000, 1500], dtype, 2, seed=4)
        trace = observe(points, gradients)
        assert_right(trace, points, gradients, "taylor", RTOL.get(dtype, 1e-6))

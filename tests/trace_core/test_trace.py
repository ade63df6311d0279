"""A stored trace answers every question by itself, without torch, and survives being a file."""

import dataclasses
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from small_models import INPUTS, Conv, mlp, train
from torch import nn

from trace_core import (
    CHANGE_RATES,
    EXPLAINABILITIES,
    STABILITIES,
    Trace,
    TraceError,
    Tracer,
    concentration,
    storage,
)
from trace_core.statistics import DISPLACEMENT, Statistic
from trace_core.storage import to_arrays


def traced(model, steps=70, **settings):
    torch.manual_seed(0)
    built = model()
    optimizer = torch.optim.SGD(built.parameters(), lr=0.05, momentum=0.9)
    with Tracer(built, optimizer, **settings) as tracer:
        train(built, optimizer, steps)
    return tracer.trace()


def wide():
    return nn.Sequential(nn.Linear(INPUTS, 300), nn.ReLU(), nn.Linear(300, 3))


@pytest.fixture(scope="module")
def trace():
    return traced(mlp, histogram_every=4)


@pytest.fixture(scope="module")
def wide_trace():
    return traced(wide, steps=10)


def test_layers_add_up_to_the_model():
    whole = traced(Conv, steps=5)
    layers = whole.by_layer()
    assert list(layers) == ["conv", "norm", "head"]
    parts = sum(part.statistics.sum(axis=1) for part in layers.values())
    np.testing.assert_allclose(parts, whole.statistics.sum(axis=1), rtol=1e-12)
    assert layers["norm"].tensors == ("norm.weight", "norm.bias")
    assert layers["norm"].tensor("norm.bias").sizes.tolist() == [4]
    assert (
        layers["norm"].change_rate("elementwise")[0]
        == whole.tensor("norm.weight").change_rate("elementwise")[0]
    )


def test_small_nodes_are_exact_and_the_large_model_is_bounded(wide_trace):
    assert wide_trace.active[0] == 300 * INPUTS + 300 + 900 + 3
    assert (wide_trace.explainability_bound("gini") > 0).all()
    assert (wide_trace.layer("0").explainability_bound("gini") > 0).all()
    for part in (wide_trace.layer("2"), wide_trace.tensor("2.weight")):
        for kind in EXPLAINABILITIES:
            assert not part.explainability_bound(kind).any()
            assert (part.explainability(kind) <= 1).all()
    alone = wide_trace.layer("2").tensor("2.weight").explainability("gini")
    np.testing.assert_array_equal(alone, wide_trace.tensor("2.weight").explainability("gini"))


def test_exact_values_are_those_of_the_importances():
    torch.manual_seed(0)
    model = wide()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    tracer = Tracer(model, optimizer, importance="magnitude")
    theta = {name: p.detach().double().numpy().ravel() for name, p in model.named_parameters()}
    theta = {name: np.abs(values) for name, values in theta.items()}
    train(model, optimizer, 1)
    trace = tracer.trace()
    layer = concentration.exact(np.concatenate([theta["2.weight"], theta["2.bias"]]))
    assert trace.layer("2").explainability("gini")[0] == pytest.approx(layer[0], rel=1e-12)
    assert trace.layer("2").explainability("top_mass")[0] == pytest.approx(layer[1], rel=1e-12)
    whole = concentration.exact(np.concatenate(list(theta.values())))
    for kind, wanted in zip(("gini", "top_mass"), whole, strict=True):
        bound = trace.explainability_bound(kind)[0]
        assert abs(trace.explainability(kind)[0] - wanted) <= bound < 0.02


def test_score_is_the_blend_of_its_components(trace):
    window = trace.window(10, 60)
    gini = np.nanmean(window.explainability("gini"))
    steady = window.stability("steadiness")
    assert window.score(0.3) == pytest.approx(0.3 * steady + 0.7 * gini)
    assert window.score(1.0, stability="magnitude") == pytest.approx(window.stability("magnitude"))
    hoyer = window.explainability("hoyer").mean()
    assert window.score(0.0, explainability="hoyer") == pytest.approx(hoyer)
    rates, n = window.change_rate("rms"), window.active
    article = window.score(0.3, "article", change_rate="rms")
    assert article == pytest.approx(np.mean(0.3 * rates + 0.7 / n))


def test_scores_take_a_trailing_window_and_the_last_histogram(trace):
    scores, gini = trace.scores(0.4), trace.explainability("gini")
    assert np.isnan(gini[[1, 2, 3, 5]]).all()
    assert np.isnan(scores[:7]).all()
    for last in (7, 30, 66):
        window = trace.window(max(0, last - 49), last + 1)
        wanted = 0.4 * window.stability() + 0.6 * gini[last - last % 4]
        assert scores[last] == pytest.approx(wanted)
    straight = trace.scores(1.0, stability="directness")
    assert straight[49] == pytest.approx(trace.window(0, 50).stability("directness"))
    assert np.isnan(straight[50:]).all()


def test_windows_are_half_open_and_never_empty(trace):
    assert trace.window(3, 9).steps.tolist() == [3, 4, 5, 6, 7, 8]
    assert trace.window(3, 9).histogram.observations.tolist() == [1, 5]
    np.testing.assert_array_equal(
        trace.window(8, 20).explainability("gini"), trace.explainability("gini")[8:20]
    )
    wide_parts = trace.window(5, 30).layer("0").window(9, 12)
    np.testing.assert_array_equal(wide_parts.statistics, trace.statistics[9:12, :2])
    for start, stop in ((5, 5), (9, 3), (70, 80)):
        with pytest.raises(TraceError, match=rf"window\({start}, {stop}\).*steps 0 to 69"):
            trace.window(start, stop)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda t: t.change_rate("rmss"),
            r"change rate 'rmss' \(did you mean 'rms'\?\).*'tensor_l1'",
        ),
        (lambda t: t.explainability("genie"), r"explainability 'genie'.*'gini'.*'hoyer'"),
        (lambda t: t.stability("steady"), r"stability 'steady' \(did you mean 'steadiness"),
        (lambda t: t.score(reading="literal"), r"reading 'literal'.*'calibrated', 'article'"),
        (lambda t: t.layer("1"), r"layer '1'.*'0', '3'"),
        (lambda t: t.tensor("0.wieght"), r"did you mean '0\.weight'"),
        (lambda t: t.left_out("gini"), "unknown change rate 'gini'"),
        (lambda t: t.score(1.5), r"alpha is 1\.5; .* \[0, 1\]"),
        (lambda t: t.score(float("nan")), "alpha is nan"),
        (lambda t: t.window(1, 3).score(), "gini needs a histogram .* hoyer"),
        (lambda t: t.rows(0, 0).score(), "no observations"),
    ],
)
def test_a_bad_question_is_answered_with_the_choices(trace, call, message):
    with pytest.raises(TraceError, match=message):
        call(trace)


def test_too_short_a_window_is_undefined(trace):
    assert np.isnan(trace.window(0, 7).score())
    assert not np.isnan(trace.window(0, 8).score())


def test_a_diverged_training_is_recorded_and_named():
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = []
    tracer = Tracer(model, optimizer, on_observation=seen.append)
    train(model, optimizer, 12)
    with torch.no_grad():
        model[3].weight[0, 0] = torch.inf
    train(model, optimizer, 3, first=12)
    trace = tracer.trace()
    for ask in (trace.score, lambda: trace.score(reading="article"), trace.stability):
        with pytest.raises(TraceError, match=r"of tensor '.*' is not finite at step 12"):
            ask()
    assert np.isfinite(trace.window(0, 12).score())
    assert np.isfinite(trace.scores()[8:12]).all()
    for kind in CHANGE_RATES:
        assert not np.isfinite(trace.change_rate(kind)[12:]).any()
    assert np.isnan(trace.explainability("gini")[12:]).all()
    assert not np.isfinite(seen[-1].score())


def test_a_long_table(trace):
    frame = trace.to_pandas()
    assert len(frame) == 70 * 4
    assert not frame.duplicated(["step", "tensor"]).any()
    row = frame[(frame.step == 8) & (frame.tensor == "3.weight")].iloc[0]
    part = trace.tensor("3.weight")
    assert (row.layer, row["size"]) == ("3", 36)
    assert row.sq_delta == part.statistics[8, 0, Statistic.SQ_DELTA]
    assert row.displacement_from_0 == part.statistics[8, 0, DISPLACEMENT]
    assert row.rms == part.change_rate("rms")[8]
    assert row.gini == part.explainability("gini")[8]


def assert_round_trip(trace, path):
    trace.save(path)
    found = Trace.load(path)
    wanted = storage.to_arrays(trace)
    for name, array in storage.to_arrays(found).items():
        np.testing.assert_array_equal(array, wanted[name], strict=True)
    for name in ("tensors", "layers", "every", "importance", "anchors"):
        assert getattr(found, name) == getattr(trace, name)
    return found


def test_a_saved_trace_is_the_same(trace, wide_trace, tmp_path):
    found = assert_round_trip(trace, tmp_path / "t.npz")
    for kind in STABILITIES:
        assert found.stability(kind) == trace.stability(kind)
    assert found.score() == trace.score()
    for part in (wide_trace, wide_trace.layer("0"), trace.window(1, 3), trace.rows(0, 0)):
        assert_round_trip(part, tmp_path / "t.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["t.npz"]


def test_the_same_trace_is_the_same_file(trace, tmp_path):
    trace.save(tmp_path / "a")
    traced(mlp, histogram_every=4).save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_failed_save_leaves_the_old_file(trace, tmp_path, monkeypatch):
    path = tmp_path / "t.npz"
    trace.save(path)
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr("trace_core.durable.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        trace.rows(0, 1).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_trace_is_refused(trace, tmp_path):
    path = tmp_path / "t.npz"
    path.write_text("step,loss\n")
    with pytest.raises(TraceError, match=r"t\.npz is not a trace"):
        Trace.load(path)
    np.savez(path, x=np.zeros(3))
    with pytest.raises(TraceError, match=r"t\.npz is not a trace: .* without 'tracerank_trace'"):
        Trace.load(path)
    with pytest.raises(FileNotFoundError):
        Trace.load(tmp_path / "none.npz")


def test_a_small_file_that_unpacks_to_very_much_is_refused(trace, tmp_path):
    path = tmp_path / "t.npz"
    trace.save(path)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("more.npy", "w") as member,
    ):
        for _ in range(30):
            member.write(bytes(10**7))
    with pytest.raises(TraceError, match=r"t\.npz .*it unpacks to 300,"):
        Trace.load(path)


def test_a_trace_may_pack_as_well_as_it_can(trace, tmp_path, monkeypatch):
    # As one of frozen tensors does, of which all is zero.
    monkeypatch.setattr("trace_core.storage._SMALL", 2000)
    still = dataclasses.replace(trace, statistics=np.zeros_like(trace.statistics))
    assert still.statistics.nbytes > 2000
    still.save(tmp_path / "t.npz")
    assert np.array_equal(Trace.load(tmp_path / "t.npz").statistics, still.statistics)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.999])
def test_a_truncated_trace_is_refused(trace, tmp_path, share):
    path = tmp_path / "t.npz"
    trace.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(TraceError, match=r"t\.npz is truncated or damaged"):
        Trace.load(path)


def rewrite(path, change):
    """Pass each member of the archive, by name, through ``change``; None leaves it out."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            if (changed := change(name, data)) is not None:
                archive.writestr(name, changed)


def test_a_trace_that_lacks_a_part_is_refused(trace, tmp_path):
    path = tmp_path / "t.npz"
    trace.save(path)
    rewrite(path, lambda name, data: None if name == "statistics.npy" else data)
    with pytest.raises(TraceError, match=r"damaged .*statistics"):
        Trace.load(path)


def test_a_trace_with_a_header_that_is_none_is_refused(trace, tmp_path):
    path = tmp_path / "t.npz"
    trace.save(path)
    none = b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16
    rewrite(path, lambda name, data: none if name == "steps.npy" else data)
    with pytest.raises(TraceError, match=r"t\.npz is truncated or damaged"):
        Trace.load(path)


def test_any_damage_is_refused_or_harmless(trace, tmp_path):
    path = tmp_path / "t.npz"
    trace.rows(0, 2).save(path)
    whole = path.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    random = np.random.default_rng(0)
    places = [*range(60), *range(directory, len(whole)), *random.integers(0, len(whole), 200)]
    refused = 0
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            found = Trace.load(path)
        except TraceError:
            refused += 1
        else:
            for name, array in to_arrays(trace.rows(0, 2)).items():
                np.testing.assert_array_equal(to_arrays(found)[name], array, strict=True)
    assert refused > len(places) / 3


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("steps", lambda a: a[::-1]),
        ("steps", lambda a: a - 1),
        ("steps", lambda a: a.astype(str)),
        ("sizes", lambda a: -a),
        ("statistics", lambda a: -a),
        ("statistics", lambda a: a * 1e6),
        ("statistics", lambda a: a.astype(np.float32)),
        ("learning_rates", lambda a: a.astype(np.int64)),
        ("histogram_observations", lambda a: a + len(a)),
        ("histogram_filled", lambda a: a + 1),
        ("histogram_bins", lambda a: a + np.int16(600)),
        ("histogram_counts", lambda a: -a),
        ("histogram_sums", lambda a: -a - 1),
        ("top_places", lambda a: a + 100),
        ("top_places", lambda a: -a - 1),
    ],
)
def test_values_that_no_trace_has_are_refused(name, change, trace, tmp_path):
    arrays = to_arrays(trace)
    if name == "top_places":
        arrays |= {"top_values": np.ones(1), name: np.zeros((1, 5), np.int64)}
    arrays[name] = np.ascontiguousarray(change(arrays[name]))
    path = tmp_path / "t.npz"
    with mock.patch("trace_core.storage.to_arrays", return_value=arrays):
        trace.save(path)
    with pytest.raises(TraceError, match=rf"t\.npz is truncated or damaged \({name}|histogram"):
        Trace.load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tensors", ["0.weight"] * 4),
        ("tensors", [1, 2, 3, 4]),
        ("every", 0),
        ("every", "1"),
        ("importance", None),
        ("anchors", ["0"]),
        ("anchors", [-1]),
    ],
)
def test_a_header_that_no_trace_has_is_refused(name, value, trace, tmp_path):
    path = tmp_path / "t.npz"
    replace(trace, **{name: value}).save(path)
    with pytest.raises(TraceError, match=rf"t\.npz is truncated or damaged \(.*{name}"):
        Trace.load(path)


@pytest.mark.parametrize("key", ["format", "statistics_version"])
def test_a_newer_version_is_refused(trace, tmp_path, key):
    path = tmp_path / "t.npz"
    trace.save(path)
    with np.load(path) as archive:
        header = json.loads(str(archive["tracerank_trace"]))
        arrays = {name: archive[name] for name in archive.files if name != "tracerank_trace"}
    header[key] += 1
    with open(path, "wb") as file:
        np.savez(file, tracerank_trace=np.array(json.dumps(header)), **arrays)
    with pytest.raises(TraceError, match=rf"t\.npz .* newer version.*{key} is 3.* reads 2"):
        Trace.load(path)


def test_a_saved_trace_is_compact(tmp_path):
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Tracer(model, optimizer, histogram_every=8) as tracer:
        for _ in range(255):
            optimizer.zero_grad()
            model(torch.randn(64, 64)).square().mean().backward()
            optimizer.step()
    tracer.trace().save(tmp_path / "t.npz")
    assert (tmp_path / "t.npz").stat().st_size < 120_000


def test_scoring_needs_neither_torch_nor_pandas(trace, tmp_path):
    trace.save(tmp_path / "t.npz")
    script = f"""
import sys
import trace_core
trace = trace_core.Trace.load({str(tmp_path / "t.npz")!r})
print(trace.score(), trace.scores()[-1], len(trace.by_layer()))
print(sorted({{"torch", "pandas", "ray", "optuna"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[1] == "[]"


def test_what_is_exported_is_there():
    import trace_core

    for name in trace_core.__all__:
        assert getattr(trace_core, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Tracker'"):
        _ = trace_core.Tracker

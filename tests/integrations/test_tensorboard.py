"""TensorBoard's own reader gets back from the event files what the trace says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX import SummaryWriter as OtherWriter
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from trace_core import CHANGE_RATES, EXPLAINABILITIES, Trace, TraceError, Tracer
from trace_core.followed import Followed
from trace_core.integrations.tensorboard import TensorBoardWriter

STEPS = 70


class Scaled(nn.Module):
    """Over 4096 parameters, so that the concentration comes from histograms; one is the model's
    own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(64, 64)
        self.out = nn.Linear(64, 1)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.scale * self.out(self.wide(inputs).tanh())


def train(after: Callable[[Tracer, int], None] = lambda *_: None, **settings: int) -> Tracer:
    torch.manual_seed(0)
    model = Scaled()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97)
    tracer = Tracer(model, optimizer, **settings)
    for step in range(STEPS):
        inputs = torch.randn(16, 64)
        optimizer.zero_grad()
        (model(inputs) - inputs.sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()
        schedule.step()
        after(tracer, step)
    return tracer


def read(folder: Path) -> dict[str, dict[int, float]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    found: dict[str, dict[int, float]] = {}
    for name in events.Tags()["scalars"]:
        scalars = events.Scalars(name)
        found[name] = {event.step: event.value for event in scalars}
        assert len(found[name]) == len(scalars), "a step was written twice"
    return found


def expected(trace: Trace, alpha: float = 0.5) -> dict[str, dict[int, float]]:
    series = {
        "traceability/score": trace.scores(alpha),
        "traceability/steadiness": trace.scores(1.0, explainability="hoyer"),
    }
    for kind in CHANGE_RATES:
        series[f"traceability/change_rate_{kind}"] = trace.change_rate(kind)
    for kind in EXPLAINABILITIES:
        series[f"traceability/explainability_{kind}"] = trace.explainability(kind)
    for name, layer in trace.by_layer().items():
        tag = f"traceability_layers/change_rate_rms/{name or 'the-model'}"
        series[tag] = layer.change_rate("rms")
    return {
        tag: {
            int(step): value
            for step, value in zip(trace.steps, values, strict=True)
            if not np.isnan(value)
        }
        for tag, values in series.items()
    }


def assert_equal(found: dict[str, dict[int, float]], trace: Trace, alpha: float = 0.5) -> None:
    wanted = expected(trace, alpha)
    assert set(found) == set(wanted)
    for tag, values in wanted.items():
        assert list(found[tag]) == list(values), tag
        # Sums over more bins differ in the last bit of a double, so perhaps in that of a float.
        np.testing.assert_allclose(
            list(found[tag].values()), list(values.values()), rtol=2e-7, err_msg=tag
        )


@pytest.mark.parametrize("cadence", [1, 7, STEPS])
@pytest.mark.parametrize("settings", [{}, {"every": 2, "histogram_every": 4}])
def test_what_is_written_live_is_what_the_trace_says(
    tmp_path: Path, cadence: int, settings: dict[str, int]
) -> None:
    writers: list[TensorBoardWriter] = []

    def after(tracer: Tracer, step: int) -> None:
        if not writers:
            writers.append(TensorBoardWriter(tracer, tmp_path, alpha=0.3))
        if step % cadence == cadence - 1:
            writers[0].write()

    tracer = train(after, **settings)
    writers[0].close()
    found = read(tmp_path)
    assert_equal(found, tracer.trace(), 0.3)
    assert "traceability_layers/change_rate_rms/the-model" in found
    assert len(found["traceability/change_rate_rms"]) == len(tracer.trace())


@pytest.mark.parametrize("settings", [{}, {"exact_directness": False}])
def test_writing_reads_no_parameter_and_waits_for_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, bool]
) -> None:
    tracer = train(**settings)

    def refuse(*_: object) -> Tensor:
        raise AssertionError("a parameter was read")

    with TensorBoardWriter(tracer, tmp_path) as writer, monkeypatch.context() as patched:
        for name in ("local", "whole"):
            patched.setattr(Followed, name, refuse)
        writer.write()
        with pytest.raises(AssertionError, match="was read"):
            tracer.trace()
    assert_equal(read(tmp_path), tracer.trace())


@pytest.mark.parametrize("given", ["trace.npz", None])
def test_what_is_no_source_is_named(tmp_path: Path, given: object) -> None:
    with pytest.raises(TraceError, match=r"source is a .*; give the Tracer, or a Trace"):
        TensorBoardWriter(given, tmp_path / "events")
    assert not (tmp_path / "events").exists()


def test_a_finished_trace_is_written_afterwards(tmp_path: Path) -> None:
    trace = train().trace()
    trace.save(tmp_path / "trace.npz")
    with TensorBoardWriter(Trace.load(tmp_path / "trace.npz"), tmp_path / "events"):
        pass
    assert_equal(read(tmp_path / "events"), trace)


@pytest.mark.parametrize("kind", [SummaryWriter, OtherWriter])
def test_a_writer_of_ones_own_stays_open(tmp_path: Path, kind: type[SummaryWriter]) -> None:
    events = kind(str(tmp_path))
    tracer = train()
    with TensorBoardWriter(tracer, events) as writer:
        writer.write()
    assert len(read(tmp_path)["traceability/change_rate_rms"]) == STEPS
    events.add_scalar("loss", 1.0, 0)
    events.close()
    found = read(tmp_path)
    assert found.pop("loss") == {0: 1.0}
    assert_equal(found, tracer.trace())


def test_what_was_seen_before_an_error_is_written(tmp_path: Path) -> None:
    tracer = train()
    with pytest.raises(RuntimeError, match="stopped"), TensorBoardWriter(tracer, tmp_path):
        raise RuntimeError("stopped")
    assert_equal(read(tmp_path), tracer.trace())


def test_a_tracer_without_steps_has_nothing_to_write(tmp_path: Path) -> None:
    model = Scaled()
    tracer = Tracer(model, torch.optim.SGD(model.parameters()))
    TensorBoardWriter(tracer, tmp_path).close()
    assert read(tmp_path) == {}


def test_alpha_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="alpha"):
        TensorBoardWriter(train().trace(), tmp_path / "events", alpha=2.0)
    assert not (tmp_path / "events").exists()

"""Lightning's Trainer, the real one, with a small network with dropout."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning
import torch
from equality import assert_same
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from trace_core import Trace, TraceError
from trace_core.integrations.lightning import TRACE_FILE, TraceabilityCallback

pytestmark = [
    # Lightning 2.6 calls what torch 2.13 deprecates.
    pytest.mark.filterwarnings(r"ignore:.isinstance\(treespec, LeafSpec\).:FutureWarning"),
    # Advice on the speed of a data loader, of which a test needs none.
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
]
EPOCHS, BATCHES = 3, 6


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))


class Automatic(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = build()

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        loss = cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Manual(Automatic):
    """Two steps of the optimiser for each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        optimizer = self.optimizers()
        for _ in range(2):
            optimizer.zero_grad()
            loss = super().training_step(batch, index)
            self.manual_backward(loss)
            optimizer.step()
        return loss


def data() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(BATCHES * 8, 4, generator=generator)
    return DataLoader(TensorDataset(inputs, (inputs.sum(1) > 0).long()), batch_size=8)


def make_trainer(folder: Path, *callbacks: Callback, kind: Any = Trainer, **changed: Any) -> Any:
    seed_everything(0, verbose=False)
    settings = {
        "default_root_dir": folder,
        "max_epochs": EPOCHS,
        "accelerator": "cpu",
        "log_every_n_steps": 4,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return kind(callbacks=list(callbacks), **(settings | changed))


def fit(
    folder: Path,
    *others: Callback,
    module: Any = Automatic,
    tracing: dict[str, Any] | None = None,
    resume: Path | None = None,
    **changed: Any,
) -> tuple[LightningModule, TraceabilityCallback]:
    callback = TraceabilityCallback(**(tracing or {}))
    trainer = make_trainer(folder, callback, *others, **changed)
    model = module()
    trainer.fit(model, data(), ckpt_path=resume)
    return model, callback


def read(folder: Path) -> dict[str, dict[int, float]]:
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in ("step", "epoch")]
    return {
        name: {int(row["step"]): float(row[name]) for row in rows if row[name]} for name in names
    }


@pytest.mark.parametrize("module", [Automatic, Manual])
def test_training_is_bitwise_the_same_with_the_callback(tmp_path: Path, module: Any) -> None:
    trainer = make_trainer(tmp_path / "plain")
    plain = module()
    trainer.fit(plain, data())
    random = torch.get_rng_state()
    watched, callback = fit(tmp_path / "watched", module=module)
    assert torch.equal(torch.get_rng_state(), random)
    assert len(callback.trace) == trainer.global_step
    weights = watched.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in plain.state_dict().items())


class Snapshots(Callback):
    """The parameters between one batch and the next."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def _read(self, module: LightningModule) -> Tensor:
        return torch.cat([p.detach().double().ravel() for p in module.parameters()])

    def on_train_batch_start(self, _: Any, module: LightningModule, *__: Any) -> None:
        self.before = self._read(module)

    def on_train_batch_end(self, _: Any, module: LightningModule, *__: Any) -> None:
        moved = (self._read(module) - self.before).norm() / self.before.norm()
        if moved:
            self.rates.append(float(moved))


# Lightning steps on the last batch of an epoch too, so 6 batches by 4 are 2 steps.
@pytest.mark.parametrize(("accumulate", "steps"), [(1, 18), (2, 9), (4, 6)])
def test_a_step_is_the_optimisers_and_logged_as_lightning_logs(
    tmp_path: Path, accumulate: int, steps: int
) -> None:
    snapshots = Snapshots()
    _, callback = fit(
        tmp_path,
        snapshots,
        tracing={"alpha": 0.3, "histogram_every": 2},
        accumulate_grad_batches=accumulate,
        logger=CSVLogger(tmp_path, "", ""),
    )
    trace = callback.trace
    assert trace.steps.tolist() == list(range(steps))
    np.testing.assert_allclose(trace.change_rate("rms"), snapshots.rates, rtol=1e-6)
    check_log(read(tmp_path), trace, 0.3, range(3, steps, 4))
    assert_same(Trace.load(tmp_path / TRACE_FILE), trace)


def check_log(
    found: dict[str, dict[int, float]], trace: Trace, alpha: float, steps: range, each: int = 1
) -> None:
    """The log has the trace's values at ``steps``, which Lightning counts in batches of ``each``
    steps of the optimiser.
    """
    gini = trace.explainability("gini")
    at = trace.histogram.observations
    carried = gini[at[np.searchsorted(at, np.arange(len(trace)), side="right") - 1]]
    expected = {
        "score": trace.scores(alpha),
        "steadiness": trace.scores(1.0, explainability="hoyer"),
        "change_rate_rms": trace.change_rate("rms"),
        "explainability_gini": carried,
    }
    assert list(found["loss"]) == list(steps)
    for name, values in expected.items():
        logged = found[f"traceability/{name}"]
        assert list(logged) == list(steps)
        wanted = [values[(step + 1) * each - 1] for step in steps]
        np.testing.assert_array_equal(np.float32(list(logged.values())), np.float32(wanted))


def test_manual_optimisation_is_logged_by_the_batch(tmp_path: Path) -> None:
    _, callback = fit(tmp_path, module=Manual, logger=CSVLogger(tmp_path, "", ""))
    assert len(callback.trace) == 2 * EPOCHS * BATCHES
    check_log(read(tmp_path), callback.trace, 0.5, range(3, EPOCHS * BATCHES, 4), each=2)


class Two(Automatic):
    """An optimiser for each layer, both of which step in each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        optimizers = self.optimizers()
        loss = super().training_step(batch, index)
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return loss

    def configure_optimizers(self) -> Any:
        first = torch.optim.Adam(self.net[0].parameters(), lr=1e-2)
        return first, torch.optim.SGD(self.net[3].parameters(), lr=1e-1)


def test_several_optimisers_are_followed_together(tmp_path: Path) -> None:
    snapshots = Snapshots()
    _, callback = fit(tmp_path, snapshots, module=Two, logger=CSVLogger(tmp_path, "", ""))
    trace = callback.trace
    assert trace.steps.tolist() == list(range(EPOCHS * BATCHES))
    np.testing.assert_allclose(trace.change_rate("rms"), snapshots.rates, rtol=1e-6)
    check_log(read(tmp_path), trace, 0.5, range(3, EPOCHS * BATCHES, 4))


def test_the_values_can_be_monitored(tmp_path: Path) -> None:
    stop = EarlyStopping(
        "traceability/explainability_gini", stopping_threshold=0.0, mode="max", patience=1,
        check_on_train_epoch_end=True,
    )  # fmt: skip
    _, callback = fit(tmp_path, stop)
    assert len(callback.trace) == BATCHES


class ByStep(Automatic):
    """Batch and dropout follow from the step: Lightning restores neither a loader's place within
    the epoch nor the generator.
    """

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        torch.manual_seed(self.global_step)
        return super().training_step([torch.randn(8, 4), torch.randint(0, 2, (8,))], index)


# The resumed training saves where the first one did, on purpose.
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty:UserWarning")
# As `ByStep` says, which makes the loader's place in the epoch of no account.
@pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable:UserWarning")
# In the middle of an epoch, and at its end.
@pytest.mark.parametrize("at", [4, 6])
def test_a_resumed_training_has_the_trace_of_an_uninterrupted_one(tmp_path: Path, at: int) -> None:
    def saves() -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=at, save_top_k=-1)

    def run(name: str, **settings: Any) -> tuple[LightningModule, TraceabilityCallback]:
        folder = tmp_path / name
        return fit(folder, saves(), module=ByStep, enable_checkpointing=True, **settings)

    whole, expected = run("whole")
    resumed, found = run("again", resume=tmp_path / f"step={at}.ckpt")
    assert len(expected.trace) == EPOCHS * BATCHES
    assert_same(found.trace, expected.trace)
    assert_same(Trace.load(tmp_path / "again" / TRACE_FILE), expected.trace)
    weights = resumed.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in whole.state_dict().items())
    with pytest.raises(TraceError, match="every"):
        run("other", tracing={"every": 3}, resume=tmp_path / f"step={at}.ckpt")


def test_a_finished_training_can_be_saved_and_gone_on_with(tmp_path: Path) -> None:
    _, expected = fit(tmp_path / "whole", module=ByStep)
    callback = TraceabilityCallback()
    trainer = make_trainer(tmp_path / "first", callback, max_epochs=2)
    trainer.fit(ByStep(), data())
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    _, found = fit(tmp_path / "second", module=ByStep, resume=tmp_path / "two.ckpt")
    assert_same(found.trace, expected.trace)


def test_a_checkpoint_without_a_tracer_is_said_to_be_one(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_epochs=1)
    trainer.fit(Automatic(), data())
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    with pytest.warns(UserWarning, match="resumed at step 6, and its trace begins there"):
        _, callback = fit(tmp_path, resume=tmp_path / "one.ckpt")
    assert len(callback.trace) == 2 * BATCHES


def test_a_test_with_a_checkpoint_leaves_the_trace_and_the_next_fit_alone(tmp_path: Path) -> None:
    class Tested(Automatic):
        def test_step(self, batch: list[Tensor], index: int) -> None:
            self.training_step(batch, index)

    callback = TraceabilityCallback()
    trainer = make_trainer(tmp_path, callback, max_epochs=1)
    trainer.fit(Tested(), data())
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    trainer.test(Tested(), data(), ckpt_path=tmp_path / "one.ckpt", verbose=False)
    assert len(callback.trace) == BATCHES
    trainer.fit_loop.max_epochs = 2
    trainer.fit(Tested(), data())
    assert callback.trace.steps.tolist() == list(range(BATCHES))


class Fails(Callback):
    def on_train_batch_end(self, *_: Any) -> None:
        raise RuntimeError("stopped")


def test_after_an_error_the_trace_so_far_is_there_and_the_optimiser_let_go(tmp_path: Path) -> None:
    callback = TraceabilityCallback()
    trainer = make_trainer(tmp_path, callback, Fails())
    with pytest.raises(RuntimeError, match="stopped"):
        trainer.fit(Automatic(), data())
    trainer.optimizers[0].step()
    assert len(callback.trace) == 1


def test_only_the_main_process_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "is_global_zero", property(lambda self: False))
    _, callback = fit(tmp_path)
    assert not list(tmp_path.rglob(TRACE_FILE))
    assert callback.state_dict() == {}
    with pytest.raises(TraceError, match="main process"):
        _ = callback.trace


def test_a_trial_run_writes_nothing(tmp_path: Path) -> None:
    _, callback = fit(tmp_path, fast_dev_run=True)
    assert len(callback.trace) == 1
    assert not list(tmp_path.iterdir())


def test_it_works_with_pytorch_lightning_too(tmp_path: Path) -> None:
    class Module(pytorch_lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = build()

        training_step = Automatic.training_step
        configure_optimizers = Automatic.configure_optimizers

    logger = pytorch_lightning.loggers.CSVLogger(tmp_path, "", "")
    _, callback = fit(tmp_path, module=Module, kind=pytorch_lightning.Trainer, logger=logger)
    check_log(read(tmp_path), callback.trace, 0.5, range(3, EPOCHS * BATCHES, 4))


def test_what_cannot_be_traced_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="alpha"):
        TraceabilityCallback(alpha=-0.1)
    with pytest.raises(TraceError, match="anchor"):
        fit(tmp_path, tracing={"anchors": [-1]})

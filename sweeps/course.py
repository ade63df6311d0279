"""What the trainings of one candidate have in common, and what each of them notes on its way."""

from __future__ import annotations

import contextlib
import math
import random
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces import (
    Part,
    fresh_parts,
    get_architecture,
    initialise,
    rate_scales,
)
from sweeps.candidate import Candidate
from sweeps.data import prepared_for

EVALUATION_BATCH = 1024
"""Examples that are judged at once, where they are a few numbers each."""
LARGE_BATCH = 64
"""The same of texts and pictures, for which a model needs far more memory than they take."""


class TrainingError(Exception):
    """A training that can't go on: it diverged, or its model doesn't fit the task."""


class CheckpointError(Exception):
    """A checkpoint that can't be read, or is not of this training."""


class Course:
    """The data of a candidate's trainings, their batches and learning rates, how a model is built
    from a seed, and how its outputs are judged.

    Raises whatever a user's task raises.
    """

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.device = torch.device(candidate.device)
        if candidate.device == "cuda" and not torch.cuda.is_available():
            raise TrainingError(
                "resources.gpus asks for a GPU, and PyTorch sees none here: is it built for CUDA?"
            )
        prepared = prepared_for(candidate)
        self.task, data = prepared.task, prepared.splits
        self.baseline = prepared.baseline
        """The metric of the trivial predictor on the validation part."""
        self.mixed = candidate.dtype == "mixed_bfloat16"
        self.dtype: torch.dtype = torch.float32 if self.mixed else getattr(torch, candidate.dtype)
        self._pixels = None if data.pixels is None else self._scaling(*data.pixels)
        self._train = self._tensors(data.train)
        self._parts = {"validation": data.validation, "test": data.test}
        self.size = len(self._train[0])
        self.batches = math.ceil(self.size / candidate.batch_size)
        """Batches, and steps, of an epoch."""
        self.total_steps = candidate.steps or self.batches * candidate.epochs
        self.rounds = {
            self.total_steps * number // candidate.rounds: number
            for number in range(1, candidate.rounds + 1)
        }
        """After which steps the model is judged: at the end of each epoch, or as often as a budget
        in steps says; and the how manieth time that is.
        """
        self.histogram_every = max(
            1, math.ceil(self.total_steps / candidate.every / candidate.histograms)
        )

    @property
    def examples(self) -> int:
        """Training examples seen in the whole budget."""
        epochs, batches = divmod(self.total_steps, self.batches)
        return self.size * epochs + min(self.size, batches * self.candidate.batch_size)

    def build(self, seed: int) -> nn.Module:
        """A new model, a function of the candidate and the seed. Draws from all generators, and
        leaves PyTorch's modes as they are in a new process.
        """
        candidate = self.candidate
        reset_modes()
        torch.set_num_threads(candidate.threads)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  (a user's builder may draw from it)
        model = get_architecture(candidate.architecture).build(
            self.task.shape, **candidate.settings
        )
        reset_modes()
        for part in fresh_parts(model):
            initialise(part, candidate.init)
        return model.to(self.device, self.dtype)

    def optimizer(
        self, model: nn.Module, parameters: Mapping[str, Tensor] | None = None
    ) -> torch.optim.Optimizer:
        """The candidate's optimiser over those of a model's parameters that are trainable, or over
        ``parameters`` of the same names in their place; `set_rates` sets its learning rates.
        """
        candidate, scales = self.candidate, rate_scales(model)
        parameters = dict(model.named_parameters()) if parameters is None else parameters
        groups: dict[float, list[Tensor]] = {}
        for name, parameter in parameters.items():
            if parameter.requires_grad:
                groups.setdefault(scales.get(name, 1.0), []).append(parameter)
        if not groups:
            raise TrainingError(
                "the model has no trainable parameter: nothing of it can be followed"
            )
        rate, decay = candidate.learning_rate, candidate.weight_decay
        trainable = [{"params": each, "lr_scale": scale} for scale, each in groups.items()]
        if candidate.optimizer == "sgd":
            return torch.optim.SGD(
                trainable, lr=rate, momentum=candidate.momentum, weight_decay=decay
            )
        if candidate.optimizer == "adam":
            return torch.optim.Adam(trainable, lr=rate, weight_decay=decay)
        return torch.optim.AdamW(trainable, lr=rate, weight_decay=decay)

    def set_rates(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Set the learning rates of a step."""
        rate = self.learning_rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]

    def casting(self) -> AbstractContextManager[Any]:
        """Within it a model computes in the candidate's precision."""
        if self.mixed:
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The training examples ``index``, of any shape, as a model reads them, and targets."""
        inputs, targets = self._train
        return self._readable(inputs[index]), targets[index]

    def order(self, seed: int, epoch: int) -> Tensor:
        """The order in which the training examples come in an epoch: (size,) int64."""
        order = np.random.default_rng([seed, epoch]).permutation(self.size)
        return torch.from_numpy(order).to(self.device)

    def generators(self) -> list[Tensor]:
        """The states of the generators that a model draws from in training."""
        on_device = [torch.cuda.get_rng_state()] if self.device.type == "cuda" else []
        return [torch.get_rng_state(), *on_device]

    def set_generators(self, states: list[Tensor]) -> None:
        """Go on from what `generators` gave."""
        torch.set_rng_state(states[0].cpu())
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(states[1].cpu())

    def place(self, step: int) -> tuple[int, slice]:
        """The epoch of a step, and which part of its order is the step's batch."""
        epoch, batch = divmod(step, self.batches)
        size = self.candidate.batch_size
        return epoch, slice(batch * size, (batch + 1) * size)

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step."""
        if self.candidate.schedule == "cosine":
            return (
                self.candidate.learning_rate
                * 0.5
                * (1 + math.cos(math.pi * step / self.total_steps))
            )
        return self.candidate.learning_rate

    def outputs(
        self,
        model: nn.Module,
        part: str,
        call: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """A model's outputs for ``validation`` or ``test``, as the task summarises them: (n, k),
        in double precision. ``call`` gives them, of inputs and targets, where it isn't the model
        alone that does: it may add dimensions before these.
        """

        def summarised(inputs: Tensor, targets: Tensor) -> Tensor:
            return self.task.summarise(model(inputs), targets)

        call = call or summarised
        inputs, targets = self._tensors(self._parts[part])
        size = EVALUATION_BATCH if inputs.is_floating_point() else LARGE_BATCH
        order = None
        if self.task.shape.layout == "text":
            # Texts of one length together: a model reads as many tokens as the longest one has.
            order = (inputs >= 0).sum(1).argsort(stable=True)
            inputs, targets = inputs[order], targets[order]
        training = model.training
        model.eval()
        with torch.no_grad(), self.casting():
            chunks = zip(torch.split(inputs, size), torch.split(targets, size), strict=True)
            outputs = torch.cat(
                [call(self._readable(each.clone()), aims).double() for each, aims in chunks],
                dim=-2,
            )
        model.train(training)
        if order is not None:
            outputs = outputs[..., order.argsort(), :]
        return outputs.cpu()

    def judge(self, outputs: Tensor, part: str) -> tuple[float, float]:
        """The metric of a model's outputs on ``validation`` or ``test``, and its standard error."""
        targets = self._parts[part].targets
        expected = (len(targets), self.task.shape.outputs or 1)
        if tuple(outputs.shape) != expected:
            raise TrainingError(
                f"the model does not fit the task {self.task.name}: for {len(targets)} examples "
                f"its outputs have shape {tuple(outputs.shape)}, the task needs {expected}"
            )
        value, error = self.task.evaluate(outputs.numpy(), targets)
        return float(value), float(error)

    def examples_of(self, part: str, count: int | None = None) -> tuple[Tensor, Tensor]:
        """The first ``count`` examples of ``validation`` or ``test`` (default: all), as a model
        reads them, and targets.
        """
        inputs, targets = self._tensors(self._parts[part])
        return self._readable(inputs[:count].clone()), targets[:count]

    def _tensors(self, part: Part) -> tuple[Tensor, Tensor]:
        inputs, targets = (_view(array).to(self.device) for array in (part.inputs, part.targets))
        return (
            inputs.to(self.dtype) if inputs.is_floating_point() else inputs,
            targets.to(self.dtype) if targets.is_floating_point() else targets,
        )

    def _scaling(self, *channels: Any) -> list[Tensor]:
        return [
            torch.tensor(each, dtype=self.dtype, device=self.device).view(-1, 1, 1)
            for each in channels
        ]

    def _readable(self, inputs: Tensor) -> Tensor:
        """Inputs, a copy of the data's, as a model reads them."""
        if inputs.dtype == torch.uint8:
            assert self._pixels is not None, "Splits of uint8 have pixels"
            mean, deviation = self._pixels
            return inputs.to(self.dtype).div_(255).sub_(mean).div_(deviation)
        return inputs if inputs.is_floating_point() else inputs.long()


def _view(array: Any) -> Tensor:
    """An array as a tensor of the same memory, which may be shared and read-only: a model, which
    may change its inputs, gets copies.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


class History:
    """The losses of a training since its last evaluation, and its evaluations (see
    `TrainingRecord.history`).
    """

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self._loss_sum = 0.0
        self._losses = 0

    def add_loss(self, step: int, loss: float) -> None:
        """Note the loss of a step that is about to be taken. Raises TrainingError if it isn't
        finite.
        """
        if not math.isfinite(loss):
            raise TrainingError(f"diverged: the training loss is {loss} at step {step}")
        self._loss_sum += loss
        self._losses += 1

    def add_evaluation(self, step: int, round_: int, metric: float, error: float) -> None:
        """Note an evaluation after ``step`` steps, the how manieth it is. Raises TrainingError if
        it isn't finite.
        """
        for name, value in (("validation metric", metric), ("metric's standard error", error)):
            if not math.isfinite(value):
                raise TrainingError(f"diverged: the {name} is {value} at step {step}")
        self.entries.append(
            {
                "epoch": round_,
                "step": step,
                "train_loss": self._loss_sum / self._losses if step else None,
                "metric": metric,
                "metric_error": error,
            }
        )
        self._loss_sum, self._losses = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on from."""
        return {"entries": self.entries, "loss_sum": self._loss_sum, "losses": self._losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave. Raises KeyError for anything else."""
        self.entries = list(state["entries"])
        self._loss_sum, self._losses = state["loss_sum"], state["losses"]


def reset_modes() -> None:
    """Undo what an earlier training's code, or this model's builder, set for the whole process."""
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.use_deterministic_algorithms(False)
    torch.autograd.set_detect_anomaly(False)
    torch.set_flush_denormal(False)

"""What the trainings of one candidate have in common, and what each of them notes on its way."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces import Part, get_architecture, get_task, initialise
from sweeps.candidate import Candidate

EVALUATION_BATCH = 1024


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
        self.task = get_task(candidate.task)
        data = self.task.data()
        self.dtype: torch.dtype = getattr(torch, candidate.dtype)
        self.train = self._tensors(data.train)
        """Inputs and targets of the training part."""
        self._parts = {"validation": data.validation, "test": data.test}
        self.size = len(self.train[0])
        self.batches = math.ceil(self.size / candidate.batch_size)
        """Batches, and steps, of an epoch."""
        self.total_steps = self.batches * candidate.epochs
        self.histogram_every = max(
            1, math.ceil(self.total_steps / candidate.every / candidate.histograms)
        )

    @property
    def examples(self) -> int:
        """Training examples seen in the whole budget."""
        return self.size * self.candidate.epochs

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
        initialise(model, candidate.init)
        return model.to(self.device, self.dtype)

    def optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """The candidate's optimiser over those of the parameters that are trainable."""
        candidate = self.candidate
        trainable = [parameter for parameter in parameters if parameter.requires_grad]
        if not trainable:
            raise TrainingError(
                "the model has no trainable parameter: nothing of it can be followed"
            )
        rate, decay = candidate.learning_rate, candidate.weight_decay
        if candidate.optimizer == "sgd":
            return torch.optim.SGD(
                trainable, lr=rate, momentum=candidate.momentum, weight_decay=decay
            )
        if candidate.optimizer == "adam":
            return torch.optim.Adam(trainable, lr=rate, weight_decay=decay)
        return torch.optim.AdamW(trainable, lr=rate, weight_decay=decay)

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

    def outputs(self, model: nn.Module, call: Callable[[Tensor], Tensor], part: str) -> Tensor:
        """What ``call`` gives for the inputs of ``validation`` or ``test``, with ``model`` set to
        evaluate: along the dimension before the last, in double precision.
        """
        inputs, _ = self.tensors(part)
        training = model.training
        model.eval()
        with torch.no_grad():
            outputs = torch.cat(
                [call(chunk) for chunk in torch.split(inputs, EVALUATION_BATCH)], dim=-2
            )
        model.train(training)
        return outputs.double().cpu()

    def judge(self, outputs: Tensor, part: str) -> tuple[float, float]:
        """The metric of a model's outputs on ``validation`` or ``test``, and its standard error."""
        targets = self._parts[part].targets
        expected = (len(targets), self.task.shape.outputs)
        if tuple(outputs.shape) != expected:
            raise TrainingError(
                f"the model does not fit the task {self.task.name}: for {len(targets)} examples "
                f"its outputs have shape {tuple(outputs.shape)}, the task needs {expected}"
            )
        value, error = self.task.evaluate(outputs.numpy(), targets)
        return float(value), float(error)

    def tensors(self, part: str) -> tuple[Tensor, Tensor]:
        """Inputs and targets of ``validation`` or ``test``."""
        return self._tensors(self._parts[part])

    def _tensors(self, part: Part) -> tuple[Tensor, Tensor]:
        inputs = torch.from_numpy(part.inputs).to(self.device)
        targets = torch.from_numpy(part.targets).to(self.device)
        return (
            inputs.to(self.dtype) if inputs.is_floating_point() else inputs,
            targets.to(self.dtype) if targets.is_floating_point() else targets,
        )


class History:
    """The losses of a training since its last evaluation, and its evaluations (see
    `TrainingRecord.history`).
    """

    def __init__(self, batches: int) -> None:
        self._batches = batches
        self.entries: list[dict[str, Any]] = []
        self._loss_sum = 0.0

    def add_loss(self, step: int, loss: float) -> None:
        """Note the loss of a step that is about to be taken. Raises TrainingError if it isn't
        finite.
        """
        if not math.isfinite(loss):
            raise TrainingError(f"diverged: the training loss is {loss} at step {step}")
        self._loss_sum += loss

    def add_evaluation(self, step: int, metric: float, error: float) -> None:
        """Note an evaluation after ``step`` steps. Raises TrainingError if it isn't finite."""
        for name, value in (("validation metric", metric), ("metric's standard error", error)):
            if not math.isfinite(value):
                raise TrainingError(f"diverged: the {name} is {value} at step {step}")
        self.entries.append(
            {
                "epoch": step // self._batches,
                "step": step,
                "train_loss": self._loss_sum / self._batches if step else None,
                "metric": metric,
                "metric_error": error,
            }
        )
        self._loss_sum = 0.0

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on from."""
        return {"entries": self.entries, "loss_sum": self._loss_sum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave. Raises KeyError for anything else."""
        self.entries, self._loss_sum = list(state["entries"]), state["loss_sum"]


def reset_modes() -> None:
    """Undo what an earlier training's code, or this model's builder, set for the whole process."""
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.use_deterministic_algorithms(False)
    torch.autograd.set_detect_anomaly(False)
    torch.set_flush_denormal(False)

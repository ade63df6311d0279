"""Real trainings, plain or with one planted change, on which phases are calibrated and judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces import get_architecture, get_task, initialise
from trace_core import Trace, Tracer

PLANTS = {
    "labels": "each class takes the next one's label; a regression's target changes its sign",
    "inputs": "features or pixels change places, all examples alike",
    "classes": "the lower half of the classes before, all after",
    "freeze": "all layers but the last stand still from then on",
    "unfreeze": "all layers but the last stand still until then",
    "input_noise": "Gaussian noise on the inputs, 1.5 of their standard deviation",
    "gradient_noise": "Gaussian noise on each gradient, three times its root mean square",
    "batch": "batches of an eighth",
    "decay": "weight decay: 0.2 (sgd), 0.05 (momentum), 0.1 (adam), 4 (adamw, decoupled)",
}
DECAY = {"sgd": 0.2, "momentum": 0.05, "adam": 0.1, "adamw": 4.0}
FAINT = ("input_noise", "gradient_noise", "decay")
"""Those that have a strength."""
LEARNING_RATES = {
    "sgd": (0.05, 0.3),
    "momentum": (0.01, 0.1),
    "adam": (1e-3, 1e-2),
    "adamw": (1e-3, 1e-2),
}
SCHEDULES = ("constant", "cosine", "warmup_cosine")
STEPS = (300, 500, 1000, 2000)


@dataclass(frozen=True)
class Run:
    """One training; ``plant`` happens at step ``at``, or a tenfold fall of the learning rate if the
    schedule is "step".
    """

    task: str
    architecture: str
    settings: tuple[tuple[str, Any], ...]
    initialisation: str
    optimiser: str
    learning_rate: float
    schedule: str
    batch: int
    steps: int
    every: int
    histogram_every: int
    seed: int
    plant: str
    at: int
    strength: float = 1.0
    """Factor of the noises and the weight decay that are planted."""

    def rate(self, step: int) -> float:
        """The learning rate at a step."""
        if self.schedule in ("constant", "step"):
            return self.learning_rate * (0.1 if self.schedule == "step" and step >= self.at else 1)
        warm = self.steps // 10 if self.schedule == "warmup_cosine" else 0
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        share = (step - warm) / (self.steps - warm)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def draw(
    generator: np.random.Generator,
    architecture: str,
    task: str,
    plants: Sequence[str],
    schedules: Sequence[str] = SCHEDULES,
    steps: Sequence[int] = STEPS,
) -> Run:
    """A run of that architecture and task, the rest at random; changes fall between 25% and 75%."""

    def one_of(*choices: Any) -> Any:
        return choices[int(generator.integers(len(choices)))]

    length = one_of(*steps)
    every = one_of(1, 1, 2) if length >= 500 else 1
    histograms = one_of(32, 100, length)
    optimiser = one_of(*LEARNING_RATES)
    return Run(
        task=task,
        architecture=architecture,
        settings=_settings(architecture, one_of),
        initialisation=one_of("default", "kaiming_normal", "xavier_uniform", "orthogonal"),
        optimiser=optimiser,
        learning_rate=float(np.exp(generator.uniform(*np.log(LEARNING_RATES[optimiser])))),
        schedule=one_of(*schedules),
        batch=one_of(16, 32, 64),
        steps=length,
        every=every,
        histogram_every=math.ceil(length / every / histograms),
        seed=int(generator.integers(2**31)),
        plant=one_of(*plants) if plants else "",
        at=int(generator.uniform(0.25, 0.75) * length),
    )


def _settings(architecture: str, one_of: Callable[..., Any]) -> tuple[tuple[str, Any], ...]:
    choices: dict[str, dict[str, tuple[Any, ...]]] = {
        "mlp": {
            "hidden": (16, 32, 64, 128),
            "depth": (1, 2, 3),
            "activation": ("relu", "tanh", "gelu"),
        },
        "cnn": {"channels": (8, 16), "depth": (1, 2)},
        "gru": {"hidden": (16, 32, 48)},
        "transformer": {"width": (16, 32), "depth": (1, 2)},
    }
    return tuple((name, one_of(*values)) for name, values in choices[architecture].items())


def plants_for(task: str) -> list[str]:
    """The changes that can be planted in trainings of a task."""
    few = get_task(task).shape.outputs < 3
    return [plant for plant in PLANTS if not (few and plant == "classes")]


def train(run: Run) -> Trace:
    """The trace of a run."""
    torch.set_num_threads(1)
    torch.manual_seed(run.seed)
    task = get_task(run.task)
    model = get_architecture(run.architecture).build(task.shape, **dict(run.settings))
    initialise(model, run.initialisation)
    optimiser = _optimiser(run, model)
    tracer = Tracer(model, optimiser, every=run.every, histogram_every=run.histogram_every)
    generator = np.random.default_rng(run.seed)
    order = np.zeros(0, np.int64)
    for step in range(run.steps):
        planted = step >= run.at
        if step in (0, run.at):
            inputs, targets = _data(run, planted)
            _change(run, model, optimiser, planted)
            order = order[:0]
        size = run.batch // 8 if run.plant == "batch" and planted else run.batch
        if len(order) < size:
            order = generator.permutation(len(inputs))
        index, order = torch.from_numpy(order[:size]), order[size:]
        batch = inputs[index]
        if run.plant == "input_noise" and planted:
            batch = batch + 1.5 * run.strength * torch.randn_like(batch)
        for group in optimiser.param_groups:
            group["lr"] = run.rate(step)
        optimiser.zero_grad(set_to_none=True)
        task.loss(model(batch), targets[index]).backward()
        if run.plant == "gradient_noise" and planted:
            _disturb(model, 3 * run.strength)
        optimiser.step()
    return tracer.trace()


def _optimiser(run: Run, model: nn.Module) -> torch.optim.Optimizer:
    parameters, rate = model.parameters(), run.learning_rate
    if run.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=rate)
    if run.optimiser == "adamw":
        return torch.optim.AdamW(parameters, lr=rate)
    return torch.optim.SGD(parameters, lr=rate, momentum=0.9 * (run.optimiser == "momentum"))


def _data(run: Run, planted: bool) -> tuple[Tensor, Tensor]:
    """Training examples before or after the plant."""
    part = get_task(run.task).data().train
    inputs, targets = torch.from_numpy(part.inputs), torch.from_numpy(part.targets)
    classes = get_task(run.task).shape.outputs
    if run.plant == "classes" and not planted:
        kept = targets < classes // 2
        return inputs[kept], targets[kept]
    if run.plant == "labels" and planted:
        regression = get_task(run.task).kind == "regression"
        return inputs, -targets if regression else (targets + 1) % classes
    if run.plant == "inputs" and planted:
        order = torch.from_numpy(np.random.default_rng(5).permutation(inputs[0].numel()))
        return inputs.flatten(1)[:, order].view(inputs.shape), targets
    return inputs, targets


def _change(run: Run, model: nn.Module, optimiser: torch.optim.Optimizer, planted: bool) -> None:
    """What of model and optimiser differs before and after the plant."""
    if run.plant in ("freeze", "unfreeze"):
        # The last layer is a Linear in every architecture: a weight and a bias.
        for tensor in list(model.parameters())[:-2]:
            tensor.requires_grad = planted != (run.plant == "freeze")
    if run.plant == "decay" and planted:
        for group in optimiser.param_groups:
            group["weight_decay"] = run.strength * DECAY[run.optimiser]


def _disturb(model: nn.Module, size: float) -> None:
    for parameter in model.parameters():
        if parameter.grad is not None:
            scale = parameter.grad.square().mean().sqrt()
            parameter.grad += size * scale * torch.randn_like(parameter.grad)

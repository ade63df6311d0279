"""A task: data in three parts, a loss to train by, and a metric to judge by."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import SpaceError
from search_spaces.shape import Kind, TaskShape

if TYPE_CHECKING:
    from torch import Tensor

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Metric:
    """What models of a task are judged by, and which way is better."""

    name: str
    direction: Literal["maximize", "minimize"]


@dataclass(frozen=True, eq=False)
class Part:
    """Examples and their targets.

    ``inputs``: (n, *input_shape), float32, or uint8 for the pixels of images; (n,) objects of type
    str for texts. ``targets``: (n,) int64 class numbers; (n, outputs) float32; for language (n, 0)
    int64, since a text is its own target.
    """

    inputs: Array
    targets: Array

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, eq=False)
class Splits:
    """The three parts of a task's data, without an example in common.

    ``target_scale``: how many original units one unit of a regression's targets is. ``pixels``:
    where inputs are uint8, the mean and deviation of each channel, (channels,) float32 on a scale
    from 0 to 1, by which a model is given them standardised.
    """

    train: Part
    validation: Part
    test: Part
    target_scale: float = 1.0
    pixels: tuple[Array, Array] | None = None


class Task(ABC):
    """Data, loss and metric under one name.

    ``load`` returns the `Splits`; it is called once, at first use. ``train_size``, if known
    beforehand, lets a configuration be checked without loading anything. ``content``: the hash of
    the files that the data comes from, if any: then the data is prepared once and shared by all
    that train on it. ``description``: what the data is, and where it comes from, in a line.
    """

    metric: Metric
    _kind: Kind

    def __init__(
        self,
        name: str,
        shape: TaskShape,
        load: Callable[[], Splits],
        train_size: int | None = None,
        content: str = "",
        description: str = "",
    ) -> None:
        if shape.kind != self._kind:
            raise SpaceError(f"task {name}: got a shape of {shape.kind}; must be {self._kind}")
        self.name = name
        self.shape = shape
        self._load = load
        self._train_size = train_size
        self.content = content
        self.description = description
        self._splits: Splits | None = None

    @property
    def kind(self) -> Kind:
        """What is predicted: a class ("classification"), numbers ("regression") or the next token
        ("language").
        """
        return self._kind

    @property
    def train_size(self) -> int:
        """Examples in the training part; loads the data if that isn't known otherwise."""
        return len(self.data().train) if self._train_size is None else self._train_size

    def data(self) -> Splits:
        """The data, loaded at the first call and the same arrays from then on.

        Raises SpaceError where a part doesn't match the shape.
        """
        if self._splits is None:
            splits = self._load()
            for part in ("train", "validation", "test"):
                self._check(part, getattr(splits, part))
            self._splits = splits
        return self._splits

    def without_data(self) -> Task:
        """The task for a process that has its data from elsewhere."""

        def load() -> Splits:
            raise SpaceError(f"task {self.name}: its data is not here")

        light = copy.copy(self)
        light._load, light._splits = load, None
        return light

    def _check(self, name: str, part: Part) -> None:
        def refuse(what: str, rule: str) -> None:
            raise SpaceError(f"task {self.name}: {name} {what}; must be {rule}")

        inputs, targets = part.inputs, part.targets
        if inputs.shape[1:] != self.shape.input_shape or not len(inputs):
            rule = f"(n, {', '.join(map(str, self.shape.input_shape))}) with n at least 1"
            refuse(f"inputs have shape {inputs.shape}", rule)
        if self.shape.layout == "text":
            if inputs.dtype != object or not all(isinstance(text, str) for text in inputs):
                refuse(f"inputs are {inputs.dtype}", "an array of objects that are str")
        elif inputs.dtype == np.uint8 and self.shape.layout == "image":
            pass
        elif inputs.dtype != np.float32 or not np.isfinite(inputs).all():
            refuse(f"inputs are {inputs.dtype}", "finite float32, or uint8 for pixels of images")
        classes = self.kind == "classification"
        wanted = (len(inputs),) if classes else (len(inputs), self.shape.outputs)
        if targets.shape != wanted:
            refuse(f"targets have shape {targets.shape}", str(wanted))
        if classes:
            if (
                targets.dtype != np.int64
                or targets.min() < 0
                or targets.max() >= self.shape.outputs
            ):
                refuse(f"targets are {targets.dtype}", f"int64 from 0 to {self.shape.outputs - 1}")
        elif self.kind == "language":
            if targets.dtype != np.int64:
                refuse(f"targets are {targets.dtype}", "int64")
        elif targets.dtype != np.float32 or not np.isfinite(targets).all():
            refuse(f"targets are {targets.dtype}", "finite float32")

    def summarise(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What `evaluate` needs of outputs (n, ...), (n, k): the outputs themselves, unless those
        of a whole part would be too many to keep.
        """
        return outputs

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss to minimise, a mean over the batch: outputs (n, outputs) against targets."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The losses (m,) of several models' outputs (m, n, outputs) against targets of their own,
        m times n: the same as one by one, to rounding.
        """
        from torch.func import vmap

        found: Tensor = vmap(self.loss)(outputs, targets)
        return found

    @abstractmethod
    def evaluate(self, outputs: Array, targets: Array) -> tuple[float, float]:
        """The metric of a model's outputs (n, outputs), as `summarise` gives them, against a part's
        targets, and its standard error over the sample of n examples. Both are nan where an output
        isn't finite.
        """

    @abstractmethod
    def baseline(self) -> float:
        """The metric, on the validation part, of the trivial predictor of the training part."""


class ClassificationTask(Task):
    """Cross-entropy to train by, accuracy to judge by. Outputs are logits, one a class.

    ``classes``: what the classes are called, by number, where they have names.
    """

    metric = Metric("accuracy", "maximize")
    _kind = "classification"
    classes: tuple[str, ...] = ()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of logits (n, classes) against class numbers (n,)."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs, targets)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of logits (m, n, classes) against class numbers (m, n)."""
        from torch.nn.functional import cross_entropy

        if type(self).loss is not ClassificationTask.loss:
            return super().losses(outputs, targets)
        # PyTorch batches it by a detour that takes longer than all else of a small model's step.
        each = cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
        return each.view_as(targets).mean(1)

    def evaluate(self, outputs: Array, targets: Array) -> tuple[float, float]:
        """Accuracy, and its binomial standard error √(p(1 − p)/n)."""
        if not np.isfinite(outputs).all():
            return math.nan, math.nan
        accuracy = float(np.mean(outputs.argmax(axis=1) == targets))
        return accuracy, math.sqrt(accuracy * (1 - accuracy) / len(targets))

    def baseline(self) -> float:
        """Validation accuracy of always naming the commonest class of the training part."""
        splits = self.data()
        commonest = np.bincount(splits.train.targets).argmax()
        return float(np.mean(splits.validation.targets == commonest))


class RegressionTask(Task):
    """Mean squared error to train by, root mean squared error in original units to judge by."""

    metric = Metric("rmse", "minimize")
    _kind = "regression"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error of outputs and targets (n, outputs), both standardised."""
        from torch.nn.functional import mse_loss

        return mse_loss(outputs, targets)

    def evaluate(self, outputs: Array, targets: Array) -> tuple[float, float]:
        """RMSE in original units, and its standard error by the delta method.

        With q the mean squared error of an example, rmse = √mean(q), whose standard error is
        sd(q) / (2 rmse √n), to first order; 0 for a perfect fit. Outputs and targets are
        standardised, as in `data`.
        """
        if not np.isfinite(outputs).all():
            return math.nan, math.nan
        squares = np.square(outputs.astype(np.float64) - targets).mean(axis=1)
        rmse = math.sqrt(squares.mean())
        error = float(squares.std()) / (2 * rmse * math.sqrt(len(squares))) if rmse else 0.0
        scale = self.data().target_scale
        return rmse * scale, error * scale

    def baseline(self) -> float:
        """Validation RMSE of always predicting the mean target of the training part."""
        splits = self.data()
        mean = splits.train.targets.mean(axis=0, keepdims=True)
        outputs = np.broadcast_to(mean, splits.validation.targets.shape)
        return self.evaluate(outputs, splits.validation.targets)[0]

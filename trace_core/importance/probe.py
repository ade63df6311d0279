"""Probe: the samples and the loss on which importance is estimated apart from the training.

When to use: for every estimator of `PROBED`. Give samples that training doesn't draw (a part of the
validation set), and the same ones for all models that are compared. Estimates have the noise of a
mean over B samples; their cost grows with B.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from trace_core.errors import TraceError, require_kind

LABELS = ("labels", "label")
"""Keys of a dict batch that aren't passed to the model by default."""


def call_model(model: nn.Module, batch: Any) -> Any:
    """Return ``model(batch)`` for a tensor, ``model(batch[0])`` for a tuple or list, and
    ``model(**batch)`` without the labels for a dict.
    """
    if isinstance(batch, Tensor):
        return model(batch)
    if isinstance(batch, dict):
        return model(**{key: value for key, value in batch.items() if key not in LABELS})
    return model(batch[0])


@dataclass(frozen=True, eq=False)
class Probe:
    """A batch of B samples, and what the model's loss on it is.

    The model is called in evaluation mode. Per-sample estimators call it with batches of one, so a
    sample's loss must not depend on the others (a contrastive loss, or BatchNorm without running
    statistics, has no loss of one sample). Forward hooks run as in any forward pass. Autocast is
    off: for mixed precision enter it inside ``forward``.

    Raises TraceError for a batch without tensors, with something else in it, or whose tensors
    differ in their first dimension, and for a loss or forward that can't be called.
    """

    batch: Any
    """A tensor, or tuples, lists and dicts of tensors, all with B ≥ 1 as first dimension, on the
    model's device.
    """
    loss: Callable[[Any, Any], Tensor]
    """(outputs, batch) → scalar: the mean of the loss over the samples of this batch."""
    forward: Callable[[nn.Module, Any], Any] = call_model
    """(model, batch) → outputs; see `call_model`."""

    def __post_init__(self) -> None:
        for name in ("loss", "forward"):
            if not callable(getattr(self, name)):
                raise TraceError(
                    f"the probe's {name} is {getattr(self, name)!r}; it must be a function"
                )
        leaves = tree_flatten(self.batch)[0]
        for leaf in leaves:
            if not isinstance(leaf, Tensor):
                hint = "; pass dict(batch)" if isinstance(leaf, Mapping) else ""
                raise TraceError(
                    f"the probe's batch holds a {type(leaf).__name__}; it must be a tensor, or a "
                    f"tuple, list or dict of tensors{hint}"
                )
        shapes = [tuple(leaf.shape) for leaf in leaves]
        if not all(shapes) or len({shape[0] for shape in shapes}) != 1 or not shapes[0][0]:
            raise TraceError(
                f"the probe's batch has tensors of shapes {shapes}; there must be at least one, "
                f"and all must have the number of samples, from 1, as first dimension"
            )

    @property
    def size(self) -> int:
        """Number of samples B."""
        return len(tree_flatten(self.batch)[0][0])

    def samples(self, start: int, stop: int) -> Any:
        """Return samples ``start`` to ``stop`` (exclusive) as a batch, copied: a model may write to
        its inputs.
        """
        return tree_map(lambda tensor: tensor[start:stop].detach().clone(), self.batch)

    def scalar_loss(self, outputs: Any, batch: Any) -> Tensor:
        """Return the loss of these outputs. Raises TraceError if it isn't a scalar."""
        loss = self.loss(outputs, batch)
        if not isinstance(loss, Tensor) or loss.dim():
            found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
            raise TraceError(
                f"the probe's loss returned {found}; it must be a scalar tensor, the mean over "
                f"the batch"
            )
        return loss


def require_probe(probe: Probe) -> Probe:
    """Return the probe; raises TraceError for what is none."""
    return require_kind(
        "probe", probe, Probe, "give the samples and their loss: Probe(batch, loss)"
    )


def output_tensor(outputs: Any) -> Tensor:
    """Return the tensor among a model's outputs: themselves, or their ``logits``.

    Raises TraceError if there is neither.
    """
    if isinstance(outputs, Mapping):
        outputs = outputs.get("logits", outputs)
    found = getattr(outputs, "logits", outputs)
    if isinstance(found, Tensor):
        return found
    raise TraceError(
        f"the model returned a {type(outputs).__name__} without logits; give the probe a forward "
        f"that returns the one tensor that counts as its output"
    )


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are estimated, by name: those with ``requires_grad``; tied ones
    once, under their first name.

    Raises TraceError if there are none, and for what is no model.
    """
    require_kind("model", model, nn.Module, "give a torch.nn.Module")
    named: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if not named:
        raise TraceError(
            "the model has no trainable parameters; importance needs one with requires_grad=True"
        )
    return named


def at_least_single(tensor: Tensor) -> torch.dtype:
    """Return the dtype in which a tensor is summed: its own, but float32 for shorter ones."""
    return torch.promote_types(tensor.dtype, torch.float32)

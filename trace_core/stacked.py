"""StackedTracer: one pass over the parameters of several models that train side by side as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor
from torch.optim import Optimizer

from trace_core.anchors import Anchors
from trace_core.errors import TraceError, require_kind, require_known, whole_number
from trace_core.followed import Followed, require_traceable
from trace_core.hooks import StepHooks
from trace_core.importance import IMPORTANCES
from trace_core.observed import Observed
from trace_core.recording import Recording
from trace_core.saved import Saved
from trace_core.snapshots import Snapshots
from trace_core.sources import Source
from trace_core.statistics import FloatArray
from trace_core.trace import Trace
from trace_core.watched import Watched

Value = TypeVar("Value")


class Stack(Followed):
    """The T tensors of each of R models, followed where they are stacked along a leading dimension:
    position r·T + t stands for tensor t of model r.
    """

    def __init__(self, stacked: Mapping[str, Tensor]) -> None:
        self._stacked = tuple(stacked.values())
        self.models = _models(stacked)
        slices = [tensor.detach().unbind() for tensor in self._stacked]
        self.of_model_alone = [
            Followed({name: parts[r] for name, parts in zip(stacked, slices, strict=True)})
            for r in range(self.models)
        ]
        """Each model's tensors by themselves."""
        super().__init__(
            {
                f"{name}[{r}]": tensor
                for r, alone in enumerate(self.of_model_alone)
                for name, tensor in zip(alone.names, alone.tensors, strict=True)
            }
        )
        count = len(self._stacked)
        self.positions_of = {
            id(tensor): range(t, count * self.models, count)
            for t, tensor in enumerate(self._stacked)
        }
        self._place = {id(tensor): divmod(i, count) for i, tensor in enumerate(self.tensors)}

    def may_move(self, position: int) -> bool:
        """Whether an optimiser may move a tensor, and its like in the other models."""
        tensor = self._stacked[position % len(self._stacked)]
        return tensor.requires_grad or tensor.grad is not None

    def gradients(self, tensors: Sequence[Tensor]) -> list[Any]:
        """Return the gradients of some of the slices, None where there is none."""
        nothing = [None] * self.models
        slices = [nothing if t.grad is None else t.grad.unbind() for t in self._stacked]
        return [slices[t][r] for r, t in map(self._place.__getitem__, map(id, tensors))]

    def gradient(self, position: int) -> Tensor | None:
        """Return the gradient of a slice."""
        model, tensor = divmod(position, len(self._stacked))
        gradient = self._stacked[tensor].grad
        return None if gradient is None else gradient[model]


class StackedTracer:
    """Records of each of R models what a `Tracer` on it alone would, while one optimiser steps all
    of them as one.

    stacked: by name, the parameters of R models of one kind, stacked: (R, *shape), contiguous.
    optimizer: what steps these tensors, each element by itself.
    importance: one of `trace_core.importance.IMPORTANCES`.
    every, histogram_every, anchors, exact_directness: as a `Tracer` takes them.

    The tensors must stay where they are: their values may be replaced, not their memory. Nothing is
    written to. Raises TraceError where a `Tracer` would, for tensors that aren't stacked alike, and
    for an importance that isn't of single elements.
    """

    def __init__(
        self,
        stacked: Mapping[str, Tensor],
        optimizer: Optimizer,
        *,
        importance: str = "taylor",
        every: int = 1,
        histogram_every: int | None = None,
        anchors: Sequence[int] = (0,),
        exact_directness: bool | None = None,
    ) -> None:
        require_kind("stacked", stacked, Mapping, "give {name of the parameter: tensor}")
        require_traceable(stacked, stacked)
        self._stack = Stack(stacked)
        self._every = every = whole_number("every", every, 1)
        self._source = Source(
            require_known(importance, IMPORTANCES, "importance of single elements")
        )
        first = self._stack.of_model_alone[0]
        if histogram_every is None:
            histogram_every = self._source.histogram_every(first.elements)
        self._histogram_every = whole_number("histogram_every", histogram_every, 1)
        self._anchors = [
            Anchors(alone, anchors, every, exact_directness) for alone in self._stack.of_model_alone
        ]
        self._recordings = [
            Recording.empty(first.names, first.sizes, every, importance, each.exact)
            for each in self._anchors
        ]
        self._snapshots = Snapshots(self._stack)
        self._count = len(first.names)
        members = [
            [model * self._count + tensor for tensor in node]
            for model, recording in enumerate(self._recordings)
            for node in recording.members
        ]
        self._watched = Watched(optimizer, self._stack, members, self._flush)
        if not self._watched.owns:
            raise TraceError("the optimizer owns none of the stacked tensors; give it those")
        self._step = self._observed = 0
        self._histogram = False
        self._origins: list[dict[int, Tensor]] = []
        self._staged: list[tuple[int, FloatArray, bool, list[dict[int, list[float]]]]] = []
        self._hooks = StepHooks(
            optimizer, lambda *_: self._before_step(), lambda *_: self._after_step()
        )

    # ---- at each step

    def _before_step(self) -> None:
        if self._step % self._every:
            return
        watched = self._watched
        watched.read_groups()
        self._histogram = self._observed % self._histogram_every == 0
        anchor = self._step in self._anchors[0].steps
        if watched.renew(self._snapshots, self._step) or anchor:
            self._reach()

    def _reach(self) -> None:
        before = self._by_model(self._snapshots.before)
        for anchors, own in zip(self._anchors, before, strict=True):
            anchors.reach(self._step, own)
        self._gather_origins()

    def _gather_origins(self) -> None:
        """Note the copies of the anchors reached so far, by position."""
        self._origins = [
            {
                model * self._count + tensor: copy
                for model, origin in enumerate(of_models)
                for tensor, copy in origin.items()
            }
            for of_models in zip(*(anchors.origins for anchors in self._anchors), strict=True)
        ]

    def _by_model(self, positions: Mapping[int, Value]) -> list[dict[int, Value]]:
        """Split what is kept by position into that of each model, by its own positions."""
        found: list[dict[int, Value]] = [{} for _ in self._anchors]
        for position, value in positions.items():
            model, tensor = divmod(position, self._count)
            found[model][tensor] = value
        return found

    def _after_step(self) -> None:
        step, self._step = self._step, self._step + 1
        if step % self._every:
            return
        anchor = step in self._anchors[0].steps
        self._watched.read(
            self._snapshots,
            self._origins,
            self._source,
            step,
            refresh=self._every == 1,
            histogram=self._histogram,
            weigh=self._weigh if anchor else None,
        )
        if anchor:
            for anchors in self._anchors:
                anchors.list_important(step)
        self._observed += 1
        rates = self._watched.learning_rates
        self._staged.append((step, rates, self._histogram, self._unread(step)))
        if self._watched.full:
            self._flush()

    def _weigh(self, position: int, importance: Iterable[Tensor]) -> None:
        model, tensor = divmod(position, self._count)
        self._anchors[model].weigh(tensor, importance)

    def _unread(self, step: int) -> list[dict[int, list[float]]]:
        """Return of each model `Anchors.unread`."""
        read, known = self._watched.read_last, self._snapshots.before
        if len(read) == len(known):
            return [{} for _ in self._anchors]
        parts = zip(self._by_model(known), self._by_model(dict.fromkeys(read)), strict=True)
        return [
            anchors.unread(step, own, [list(seen)])
            for anchors, (own, seen) in zip(self._anchors, parts, strict=True)
        ]

    def _flush(self) -> None:
        """Record what is staged."""
        if not self._staged:
            return
        steps, rates, with_histogram, unread = zip(*self._staged, strict=True)
        self._staged.clear()
        drained = self._watched.drain()
        models = len(self._anchors)
        parts: list[list[Observed]] = [[] for _ in range(models)]
        if drained is not None:
            parts = [[part] for part in drained.of_models(models, self._count)]
        for r, recording in enumerate(self._recordings):
            own = slice(r * self._count, (r + 1) * self._count)
            recording.extend(
                steps,
                [of_all[own] for of_all in rates],
                with_histogram,
                [of_models[r] for of_models in unread],
                parts[r],
            )

    # ---- what was seen

    def traces(self) -> list[Trace]:
        """Return of each model all that was observed so far, as `Tracer.trace` does."""
        self._flush()
        return [
            anchors.complete(recording.trace(), self._step)
            for anchors, recording in zip(self._anchors, self._recordings, strict=True)
        ]

    def close(self) -> None:
        """Stop watching and let go of the copies of parameters; the traces stay."""
        self._hooks.remove()
        self._flush()
        self._watched.forget()
        self._snapshots.clear()
        for anchors in self._anchors:
            anchors.close(self._step)

    # ---- across an interruption

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed training needs to go on with these traces, bitwise: of each
        model what `Tracer.state_dict` would.
        """
        self._flush()
        return {"models": [now.state(self._histogram_every) for now in self._now()]}

    def _now(self) -> list[Saved]:
        return [
            Saved(self._step, recording, anchors, self._source)
            for recording, anchors in zip(self._recordings, self._anchors, strict=True)
        ]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, before the next step.

        Raises TraceError as `Tracer.load_state_dict` does, or if it is of another number of models.
        """
        states = state.get("models") if isinstance(state, dict) else None
        if not isinstance(states, list) or len(states) != len(self._anchors):
            raise TraceError(f"not the state of a tracer of {len(self._anchors)} stacked models")
        saved = [
            now.read(each, self._histogram_every, alone)
            for now, each, alone in zip(
                self._now(), states, self._stack.of_model_alone, strict=True
            )
        ]
        if len({each.step for each in saved}) > 1:
            raise TraceError("the state is damaged (its models are at different steps)")
        self._anchors = [each.anchors for each in saved]
        self._recordings = [each.recording for each in saved]
        self._step = saved[0].step
        self._observed = len(self._recordings[0])
        self._staged.clear()
        self._snapshots.clear()
        self._watched.forget()
        self._gather_origins()


def _models(stacked: Mapping[str, Tensor]) -> int:
    """Return the number of models, the same in all tensors. Raises TraceError otherwise."""
    counts = {tensor.shape[0] if tensor.dim() else 0 for tensor in stacked.values()}
    if len(counts) != 1 or 0 in counts:
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in stacked.items())
        raise TraceError(
            f"stacked has {shapes}; the first dimension of each must be the number of models"
        )
    for name, tensor in stacked.items():
        if not tensor.is_contiguous():
            raise TraceError(f"stacked has {name!r}, which isn't contiguous; make it so")
    return counts.pop()

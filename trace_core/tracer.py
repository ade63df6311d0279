"""Tracer: watches optimisers' steps through their hooks; the training loop is unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from trace_core import kernel
from trace_core.anchors import Anchors
from trace_core.errors import TraceError, whole_number
from trace_core.followed import Followed
from trace_core.hooks import StepHooks, uncompiled
from trace_core.importance import Probe
from trace_core.observation import Observation
from trace_core.recording import Recording
from trace_core.saved import Saved
from trace_core.snapshots import Snapshots
from trace_core.sources import OtherSource, source
from trace_core.statistics import FloatArray, Statistic, first_defined
from trace_core.trace import Trace
from trace_core.watched import Watched

_IMPORTANCE = [Statistic.C, Statistic.SQ_C, Statistic.C_LOG_C]


class Tracer:
    """Records the statistics of ``model``'s parameters at the steps of one or several optimisers.

    importance: name of an estimator in `trace_core.importance.ESTIMATORS`, or of one registered.
    every: steps from one observation to the next; step 0 is observed.
    histogram_every: observations from one histogram of the importance to the next; by default 1,
        from a million elements 8, and 100 for an importance that is estimated on a probe, which is
        estimated as often.
    anchors: observed steps before which the place of the parameters is kept, from where
        displacements are measured; by default step 0.
    exact_directness: whether anchors keep a copy of the parameters; otherwise a sketch of under 1%
        of its size, from which displacements between anchors are known to about 1%. By default
        under a million elements.
    probe: the samples for an importance that is estimated apart from the training.
    masters: by name, the float32 copies that the optimiser steps instead of parameters of 16 bits.
    on_observation: called with an `Observation` after each observed step.

    With several optimisers a step is a round: it ends when each has stepped, or when one of them is
    about to step again. Steps that automatic mixed precision skips don't count.

    Weights, gradients and random generators are never touched: a training is bitwise the same
    without it. The gradient is read after the step, so that a closure's is seen. Beside the trace,
    a copy of the optimisers' parameters is held, what the anchors keep, and tiles of a fixed size
    while a step is read.

    Frozen parameters that aren't of floating point (quantised weights) are left out of the trace.

    Raises TraceError for a model without trainable parameters or with complex ones, an optimiser
    that owns none of them, or a setting out of range; and, in ``optimizer.step()``, for a parameter
    whose shape, dtype or device is not what it was when the tracer was made.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        *,
        importance: str = "taylor",
        every: int = 1,
        histogram_every: int | None = None,
        anchors: Sequence[int] = (0,),
        exact_directness: bool | None = None,
        probe: Probe | None = None,
        masters: Mapping[str, Tensor] | None = None,
        on_observation: Callable[[Observation], None] | None = None,
    ) -> None:
        self._followed = Followed.of_model(model, masters)
        self._every = every = whole_number("every", every, 1)
        self._source = source(importance, model, probe, every, sharded=self._followed.sharded)
        if histogram_every is None:
            histogram_every = self._source.histogram_every(self._followed.elements)
        self._histogram_every = whole_number("histogram_every", histogram_every, 1)
        self._anchors = Anchors(self._followed, anchors, every, exact_directness)
        if on_observation is not None and not callable(on_observation):
            raise TraceError(f"on_observation is {on_observation!r}; give a function, or None")
        self._on_observation = on_observation
        self._recording = Recording.empty(
            self._followed.names, self._followed.sizes, every, importance, self._anchors.exact
        )
        self._snapshots = Snapshots(self._followed)
        optimizers = _optimizers(optimizer)
        self._watched = [
            Watched(each, self._followed, self._recording.members, self._flush)
            for each in optimizers
        ]
        self._require_owned()
        self._step = 0
        self._observed = 0
        self._due = True
        self._opened = self._histogram = self._reporting = self._closed = False
        self._stepped: set[int] = set()
        self._staged: list[tuple[int, FloatArray, bool, dict[int, list[float]]]] = []
        self._hooks = [self._hooked(each, index) for index, each in enumerate(optimizers)]

    def _require_owned(self) -> None:
        owners: dict[int, int] = {}
        for index, watched in enumerate(self._watched):
            if not watched.owns:
                raise TraceError(
                    "the optimizer owns none of the model's parameters; give it those of this "
                    "model, or name the copies that it steps instead: "
                    "Tracer(..., masters={name: tensor})"
                )
            for position in watched.positions:
                if owners.setdefault(position, index) != index:
                    raise TraceError(
                        f"parameter {self._followed.names[position]!r} is owned by two of the "
                        f"optimizers; each parameter must have one"
                    )
        if not self._watched:
            raise TraceError("there is no optimizer to watch; give the one that trains this model")

    # ---- at each step

    def _hooked(self, optimizer: Optimizer, index: int) -> StepHooks:
        before_step = uncompiled(self._before_step)
        after_step = uncompiled(self._after_step)
        alone = len(self._watched) == 1

        # Most steps may not be observed, and hooks that do nothing must cost nothing.
        def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            if self._due or self._stepped:
                before_step(index)

        def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            if self._closed:
                return
            if alone and not self._opened and "found_inf" not in optimizer.__dict__:
                self._step += 1
                self._due = self._step % self._every == 0
            else:
                after_step(index)

        return StepHooks(optimizer, before, after)

    def _before_step(self, index: int) -> None:
        if index in self._stepped:
            self._close_round()
        if not self._due:
            return
        watched = self._watched[index]
        watched.read_groups()
        anchor = self._step in self._anchors.steps
        if watched.renew(self._snapshots, self._step) or anchor:
            self._anchors.reach(self._step, self._snapshots.before)
        if not self._opened:
            self._opened = True
            for each in self._watched:
                each.read_last = []
            self._histogram = self._observed % self._histogram_every == 0
            if isinstance(self._source, OtherSource):
                self._source.begin(self._places(), anchor=anchor, histogram=self._histogram)

    def _places(self) -> dict[str, Tensor]:
        """Return the tensors that have snapshots, as they are: a snapshot may be older than this
        round if its optimiser has yet to step in it.
        """
        followed = self._followed
        return {followed.names[i]: followed.local(i) for i in self._snapshots.before}

    def _after_step(self, index: int) -> None:
        watched = self._watched[index]
        if watched.skipped():
            return
        if self._opened:
            anchor = self._step in self._anchors.steps
            watched.read(
                self._snapshots,
                self._anchors.origins,
                self._source,
                self._step,
                refresh=self._every == 1,
                histogram=self._histogram,
                weigh=self._anchors.weigh if anchor and self._lists_important() else None,
            )
        if len(self._watched) > 1:
            self._stepped.add(index)
            if len(self._stepped) < len(self._watched):
                return
        self._close_round()

    def _close_round(self) -> None:
        """End a step: what was read of it stays staged until enough has come together."""
        if self._opened and self._step in self._anchors.steps:
            self._anchors.list_important(self._step)
        step, self._step = self._step, self._step + 1
        self._due = self._step % self._every == 0
        self._stepped.clear()
        if not self._opened:
            return
        self._opened = False
        self._observed += 1
        rates = first_defined([watched.learning_rates for watched in self._watched])
        read = [watched.read_last for watched in self._watched]
        unread = self._anchors.unread(step, self._snapshots.before, read)
        self._staged.append((step, rates, self._histogram, unread))
        if self._on_observation is not None:
            self._reporting = True
            try:
                self._on_observation(self._observe())
            finally:
                self._reporting = False
        elif len(self._watched) > 1 or self._watched[0].full:
            self._flush()

    def _lists_important(self) -> bool:
        """Whether an anchor here can tell the most important parameters of all."""
        return not self._followed.sharded and self._source.known(histogram=self._histogram)

    def _flush(self) -> None:
        """Record what is staged."""
        if not self._staged:
            return
        steps, learning_rates, with_histogram, displacements = zip(*self._staged, strict=True)
        self._staged.clear()
        parts = [part for watched in self._watched if (part := watched.drain()) is not None]
        if isinstance(self._source, OtherSource):
            for row, histogram in enumerate(with_histogram):
                if not self._source.known(histogram=histogram):
                    for part in parts:
                        part.statistics[row][:, _IMPORTANCE] = np.nan
        self._recording.extend(steps, learning_rates, with_histogram, displacements, parts)

    def _observe(self) -> Observation:
        return Observation.last_of(self.recorded(self._step - self._every))

    # ---- what was seen

    @property
    def kernel(self) -> str:
        """What reads the parameters on the CPU: ``compiled (...)`` or ``torch``."""
        return kernel.describe()

    @property
    def latest(self) -> Observation | None:
        """The last observation, None before the first; its cost doesn't grow with the run. Where
        parameters are sharded, it is of this process's part of them.
        """
        return self._observe() if self._observed else None

    def recorded(self, step: int = 0) -> Trace:
        """Return what was observed from this step on, behind the observations that enter its
        scores: the trailing 50, and those back to the last histogram. No parameter is read, and no
        process waits for another: there are no sketches or lists of single parameters, and where
        parameters are sharded it is of this process's part of them.

        The cost doesn't grow with the run. Raises TraceError if ``step`` is no whole number.
        """
        step = whole_number("step", step)
        self._flush()
        return self._recording.since(step)

    def trace(self) -> Trace:
        """Return all that was observed so far; later steps don't change it.

        It is of whole rounds. Where the parameters are now is read for what follows the last
        anchor, the sketch of the end and the list of those that moved most; in the middle of a
        round of several optimisers, which have moved only some of them, both are left out. Call it
        between steps: a closure sees parameters that its optimiser may be trying out.

        Where parameters are sharded every process must call it, and each gets the whole.
        """
        self._flush()
        whole = self._followed.whole(self._recording.trace())
        return self._anchors.complete(whole, None if self._stepped else self._step)

    def close(self) -> None:
        """Stop watching and let go of the copies of parameters; the trace stays. Closing twice is
        harmless.

        ``on_observation`` may close: the hooks, which PyTorch is calling then, do nothing from
        there on, and the next `close` takes them off.
        """
        if not self._reporting:
            for hooks in self._hooks:
                hooks.remove()
        if self._stepped:
            self._close_round()
        self._closed, self._due = True, False
        self._flush()
        for watched in self._watched:
            watched.forget()
        self._snapshots.clear()
        self._anchors.close(self._step)

    def __enter__(self) -> Tracer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # ---- across an interruption

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed training needs to go on with this trace, bitwise: tensors and
        primitives alone. A round that isn't complete is closed first.
        """
        if self._stepped:
            self._close_round()
        self._flush()
        now = Saved(self._step, self._recording, self._anchors, self._source)
        return now.state(self._histogram_every)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, before the next step.

        Raises TraceError if it was made for other parameters or with other settings than this
        tracer's, or is damaged; the tracer then goes on as if it had never been given.
        """
        # What may refuse the state comes first: a refused one changes nothing.
        now = Saved(self._step, self._recording, self._anchors, self._source)
        saved = now.read(state, self._histogram_every, self._followed)
        self._anchors, self._source = saved.anchors, saved.source
        self._recording = saved.recording
        self._step = saved.step
        self._due = self._step % self._every == 0
        self._observed = len(self._recording)
        self._opened = False
        self._stepped.clear()
        self._staged.clear()
        self._snapshots.clear()
        for watched in self._watched:
            watched.forget()


def _optimizers(given: Optimizer | Sequence[Optimizer]) -> list[Optimizer]:
    found = list(given) if isinstance(given, Iterable) else [given]
    for each in found:
        if not isinstance(each, Optimizer):
            raise TraceError(
                f"optimizer has a {type(each).__name__}; give a torch.optim.Optimizer, or a list "
                "of them"
            )
    return found

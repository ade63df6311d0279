"""A series of saved checkpoints as a trace: how the parameters moved between them, without training
anything and without running any code of the model.

Data flows one way: `series` finds the checkpoints that are meant and their steps, `opened` maps the
tensors of one into memory, `measure` reads all of them once, side by side, and sums up each
interval as an observation of a `trace_core.Trace`. Every score of a trace is then one of the series
too, read like this:

- an observation is an *interval*: θ is a checkpoint, θ' the next. The change rate is of what an
  interval changed in all; what went to and fro inside isn't seen, so that directness is at least
  that of the training, and more so the longer the intervals are;
- the learning rate of an interval is the sum of those of its steps where the series tells them (a
  Trainer's ``trainer_state.json``), else its number of steps, else 1: `steadiness` divides by it;
- the importance is |θ|, as there are no gradients.

The files are mapped and read in pieces, and let go of as soon as these were read: the memory that
is needed depends on the number of checkpoints and tensors, not on their size. Tensors that aren't
contiguous, and files of ``torch.save`` that can't be mapped, are held whole.
"""

from __future__ import annotations

from trace_core.checkpoints.measure import Measured, measure_series, trace_checkpoints
from trace_core.checkpoints.opened import Checkpoint, CheckpointError
from trace_core.checkpoints.series import Series, open_series

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Measured",
    "Series",
    "measure_series",
    "open_series",
    "trace_checkpoints",
]

"""Traceability in Lightning: in its logs, its checkpoints and its log folder."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trace_core.errors import TraceError
from trace_core.integrations.extras import needs
from trace_core.integrations.scalars import checked_alpha, scalars
from trace_core.integrations.sharding import require_whole
from trace_core.trace import Trace
from trace_core.tracer import Tracer

with needs("lightning"):
    if find_spec("lightning") or not find_spec("pytorch_lightning"):
        from lightning.pytorch import Callback, LightningModule, Trainer
    else:
        from pytorch_lightning import Callback, LightningModule, Trainer

TRACE_FILE = "trace.npz"
"""The trace, in the trainer's log folder."""


class TraceabilityCallback(Callback):
    """Traces what a Lightning ``Trainer`` (of ``lightning`` or ``pytorch_lightning``) fits.

    alpha: weight of the stability in the logged score.
    settings: those of `Tracer`, by keyword (importance, every and so on).

    The steps traced are the optimisers', automatic or manual, so gradient accumulation makes one of
    several batches. Whenever Lightning logs a batch, the values of `scalars` go along, NaN where
    undefined. The trace is saved as ``trace.npz`` in ``trainer.log_dir`` when the training ends;
    the tracer's state is part of each checkpoint, and a training that is resumed gives the same
    trace as one that wasn't interrupted. Only the main process traces. Another ``fit`` begins
    another trace.

    Raises TraceError if alpha is outside [0, 1]; and, when the training begins, for sharded
    parameters (FSDP), what `Tracer` refuses, and a checkpoint that was made with other settings.
    """

    def __init__(self, *, alpha: float = 0.5, **settings: Any) -> None:
        self._alpha = checked_alpha(alpha)
        self._settings = settings
        self._tracer: Tracer | None = None
        self._loaded: dict[str, Any] = {}
        self._final: dict[str, Any] = {}

    @property
    def trace(self) -> Trace:
        """All that was observed so far in the last training.

        Raises TraceError before the first, and in a process that isn't the main one.
        """
        if self._tracer is None:
            raise TraceError(
                "there is no trace: Trainer.fit hasn't begun, or this isn't its main process"
            )
        return self._tracer.trace()

    # ---- called by the trainer

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget the state of a checkpoint that was loaded for an earlier fit, or for a test."""
        self._loaded = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach a tracer; the optimisers have their state by now, and the module its weights."""
        self._finish()  # a training that was cut short
        self._tracer, self._final = None, {}
        require_whole(pl_module)
        if not trainer.is_global_zero:
            return
        optimizers = trainer.optimizers
        self._tracer = Tracer(
            pl_module, optimizers[0] if len(optimizers) == 1 else optimizers, **self._settings
        )
        if self._loaded:
            self._tracer.load_state_dict(self._loaded)
        elif trainer.ckpt_path:
            warnings.warn(
                f"the training is resumed at step {trainer.global_step}, and its trace begins "
                f"there: {trainer.ckpt_path} was made without this callback",
                stacklevel=2,
            )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Log the values of the last observation when Lightning is about to log the batch."""
        seen = self._tracer.latest if self._tracer is not None and _logs(trainer) else None
        if seen is not None:
            pl_module.log_dict(scalars(seen, self._alpha), on_step=True, on_epoch=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the trace, and let go of the optimisers."""
        self._finish()
        folder = trainer.log_dir  # asks all processes, so it can't wait for the main one
        if self._tracer is not None and not trainer.fast_dev_run:
            self._tracer.trace().save(Path(folder or trainer.default_root_dir, TRACE_FILE))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, error: Any) -> None:
        """Let go of the optimisers; the trace so far stays."""
        self._finish()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the tracer, for a checkpoint made during the fit or after it."""
        if self._tracer is None:
            return {}
        return self._final or self._tracer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep what `state_dict` returned until the training starts."""
        self._loaded = state_dict

    def _finish(self) -> None:
        self._final = self.state_dict()  # once closed, the tracer has let go of part of it
        if self._tracer is not None:
            self._tracer.close()


def _logs(trainer: Trainer) -> bool:
    """Whether Lightning is about to log the metrics of this batch.

    It counts batches that stepped: optimiser steps in automatic optimisation, of which a batch has
    one, and all batches in manual optimisation, of which a batch may have any number.
    """
    automatic = trainer.lightning_module.automatic_optimization
    count = trainer.global_step if automatic else trainer.fit_loop.total_batch_idx + 1
    every = trainer.log_every_n_steps
    return bool(every) and (count % every == 0 or trainer.should_stop)

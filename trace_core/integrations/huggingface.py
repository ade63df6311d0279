"""Traceability in Hugging Face's Trainer: in its logs, its checkpoints and its output folder."""

from __future__ import annotations

import io
import json
import math
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from trace_core.durable import write_atomically
from trace_core.errors import TraceError
from trace_core.integrations.extras import needs
from trace_core.integrations.scalars import checked_alpha, scalars
from trace_core.integrations.sharding import require_whole
from trace_core.trace import Trace
from trace_core.tracer import Tracer

with needs("huggingface"):
    from accelerate.optimizer import AcceleratedOptimizer
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState
    from transformers import TrainingArguments as Arguments
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

TRACE_FILE = "trace.npz"
"""The trace, in the trainer's output folder."""
STATE_FILE = "tracer.pt"
"""The tracer's state, in each checkpoint."""


class TraceabilityCallback(TrainerCallback):
    """Traces what a `transformers.Trainer` trains: make it from the trainer, which calls it then.

    alpha: weight of the stability in the logged score.
    settings: those of `Tracer`, by keyword (importance, every and so on).

    The steps traced are the optimiser's, so gradient accumulation makes one of several batches.
    Every log entry that has the loss gets the values of `scalars` too, those that are defined, for
    every reporter and ``state.log_history``. The trace is saved as ``trace.npz`` in the output
    folder when the training ends; the tracer's state goes into each checkpoint, and a training
    that is resumed gives the same trace as one that wasn't interrupted. A checkpoint outside the
    output folder is found if ``args.resume_from_checkpoint`` names it; where none is, a warning
    says so, and the trace begins there. Only the main process traces. Another `Trainer.train`
    begins another trace.

    Raises TraceError if alpha is outside [0, 1]; and, when the training begins, for sharded
    parameters (FSDP), an optimiser that isn't torch's (DeepSpeed), what `Tracer` refuses, and a
    checkpoint that was made with other settings.
    """

    def __init__(self, trainer: Trainer, *, alpha: float = 0.5, **settings: Any) -> None:
        self._alpha = checked_alpha(alpha)
        self._settings = settings
        self._tracer: Tracer | None = None
        # A reporter sees what callbacks in front of it added to the logs, and Trainer puts its
        # reporters in front of the callbacks that it is given.
        trainer.callback_handler.callbacks.insert(0, self)

    @property
    def trace(self) -> Trace:
        """All that was observed so far in the last training.

        Raises TraceError before the first, and in a process that isn't the main one.
        """
        if self._tracer is None:
            raise TraceError(
                "there is no trace: Trainer.train hasn't begun, or this isn't its main process"
            )
        return self._tracer.trace()

    # ---- called by the trainer

    def on_train_begin(
        self,
        args: Arguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: nn.Module,
        optimizer: Optimizer,
        **_: Any,
    ) -> None:
        """Attach a tracer; the optimiser has its state by now, and the model its weights."""
        if self._tracer is not None:
            self._tracer.close()  # of a training that an error ended
        self._tracer = None
        require_whole(model)
        stepped = _without_wrapper(optimizer)
        if not state.is_world_process_zero:
            return
        self._tracer = Tracer(model, stepped, **self._settings)
        if state.global_step:
            _resume(self._tracer, args, state)

    def on_log(
        self,
        args: Arguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        logs: dict[str, float],
        **_: Any,
    ) -> None:
        """Add the values of the last observation to a log entry of the training."""
        seen = None if self._tracer is None else self._tracer.latest
        if seen is None or "loss" not in logs:
            return
        values = scalars(seen, self._alpha)
        defined = {name: value for name, value in values.items() if not math.isnan(value)}
        # The history has a copy of the entry already.
        for entry in (logs, *state.log_history[-1:]):
            entry.update(defined)

    def on_save(
        self, args: Arguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Add the tracer's state to a checkpoint, unless it holds the model only."""
        folder = _checkpoint(args, state)
        if self._tracer is None or args.save_only_model or not folder.is_dir():
            return
        file = io.BytesIO()
        torch.save(self._tracer.state_dict(), file)
        write_atomically(folder / STATE_FILE, file.getvalue())

    def on_train_end(
        self, args: Arguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save the trace, and let go of the optimiser."""
        if self._tracer is not None:
            self._tracer.close()
            self._tracer.trace().save(Path(args.output_dir, TRACE_FILE))


def _without_wrapper(optimizer: Optimizer) -> Optimizer:
    """Return the optimiser that accelerate's wrapper steps: the wrapper itself has no hooks."""
    while isinstance(optimizer, AcceleratedOptimizer):
        optimizer = optimizer.optimizer
    if not isinstance(optimizer, Optimizer):
        raise TraceError(
            f"the trainer's optimizer is a {type(optimizer).__name__}, and only a "
            f"torch.optim.Optimizer has the hooks that a tracer needs; train without DeepSpeed"
        )
    return optimizer


def _resume(tracer: Tracer, args: Arguments, state: TrainerState) -> None:
    named = [args.resume_from_checkpoint] if args.resume_from_checkpoint else []
    folders = [*map(Path, named), _checkpoint(args, state)]
    for folder in folders:
        if (folder / STATE_FILE).is_file() and _is_of(folder, state):
            tracer.load_state_dict(
                torch.load(folder / STATE_FILE, map_location="cpu", weights_only=True)
            )
            return
    warnings.warn(
        f"the training is resumed at step {state.global_step}, and its trace begins there: the "
        f"checkpoint's {STATE_FILE} isn't in {' or '.join(map(str, folders))}; if it lies "
        f"elsewhere, name the checkpoint in TrainingArguments(resume_from_checkpoint=...) too",
        stacklevel=2,
    )


def _checkpoint(args: Arguments, state: TrainerState) -> Path:
    return Path(args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")


def _is_of(folder: Path, state: TrainerState) -> bool:
    """Whether the trainer's state was loaded from this checkpoint.

    Trainer doesn't say which one that was, and another training's can have the same number; the
    history of the logs tells them apart.
    """
    stored = TrainerState.load_from_json(str(folder / "trainer_state.json"))
    return json.dumps(stored.log_history) == json.dumps(state.log_history)

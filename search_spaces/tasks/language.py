"""Language modelling: the next token of a text, judged by bits for each byte."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from search_spaces.tasks.task import Array, Metric, Part, Task

if TYPE_CHECKING:
    from torch import Tensor


class LanguageTask(Task):
    """Cross-entropy of the next token to train by, bits per byte to judge by.

    A byte is the same for every tokenizer, so models with different ones can be compared. The
    task's own data are texts; a model's are its tokens: inputs (n, L) and targets (n, 1 + L) int64,
    of which column 0 is how many bytes of text the tokens after the first stand for, and the others
    the tokens, -1 where there is none. Outputs are logits (n, L, vocabulary): those at one position
    tell the token at the next.
    """

    metric = Metric("bits_per_byte", "minimize")
    _kind = "language"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy, in nats, over the tokens that are told: all but each first."""
        from torch.nn.functional import cross_entropy

        told, tokens = outputs[:, :-1], targets[:, 2:]
        return cross_entropy(told.flatten(0, 1), tokens.flatten(), ignore_index=-1)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """`loss` of outputs (m, n, L, vocabulary) against targets (m, n, 1 + L)."""
        if type(self).loss is not LanguageTask.loss:
            return super().losses(outputs, targets)
        # By one call, as that of classes.
        nats = _nats(outputs.flatten(0, 1), targets.flatten(0, 1)).view(len(outputs), -1)
        return nats.sum(1) / (targets[:, :, 2:] != -1).sum((1, 2))

    def summarise(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The nats of each sequence, (n, 1) float64: its tokens' cross-entropies, added up."""
        return _nats(outputs, targets).double().sum(1, keepdim=True)

    def evaluate(self, outputs: Array, targets: Array) -> tuple[float, float]:
        """Bits per byte of nats (n, 1), as `summarise` gives them, and its standard error.

        With b the bits and B the bytes of a sequence it is r = Σb / ΣB, a ratio of two sums, whose
        standard error is √Σ(b − rB)² / ΣB by the delta method, sequences being independent; blocks
        of one long text are less than that.
        """
        bits = outputs.astype(np.float64)[:, 0] / math.log(2)
        size = targets[:, 0].astype(np.float64)
        total = size.sum()
        if not np.isfinite(bits).all() or not total:
            return math.nan, math.nan
        ratio = float(bits.sum() / total)
        return ratio, float(np.sqrt(np.square(bits - ratio * size).sum()) / total)

    def baseline(self) -> float:
        """Validation bits per byte of a predictor that knows how often each byte comes in the
        training texts, and nothing of what precedes it; 1 is added to each of the 256 counts.
        """
        splits = self.data()
        seen = _byte_counts(splits.train) + 1
        there = _byte_counts(splits.validation)
        return float(-(there * np.log2(seen / seen.sum())).sum() / there.sum())


def _nats(outputs: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy of every token told, (n, L - 1); 0 where there is none."""
    from torch.nn.functional import cross_entropy

    told, tokens = outputs[:, :-1], targets[:, 2:]
    nats = cross_entropy(told.flatten(0, 1), tokens.flatten(), ignore_index=-1, reduction="none")
    return nats.view_as(tokens)


def _byte_counts(part: Part) -> Array:
    counts = np.zeros(256, np.int64)
    for text in part.inputs:
        counts += np.bincount(np.frombuffer(text.encode(), np.uint8), minlength=256)
    return counts

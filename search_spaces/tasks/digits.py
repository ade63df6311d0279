"""Digits: 1,797 images of handwritten digits, 8 × 8 grey values, ten classes (scikit-learn)."""

from __future__ import annotations

from search_spaces.shape import TaskShape
from search_spaces.tasks.splits import classification_splits
from search_spaces.tasks.task import ClassificationTask, Splits


def load() -> Splits:
    """The images as (n, 1, 8, 8).

    Standardised by one mean and deviation for all pixels: some at the border hardly vary, and by
    their own deviation a single grey value there would outweigh the rest of the image.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    return classification_splits(data.images[:, None], data.target, axis=None)


DIGITS = ClassificationTask(
    "digits",
    TaskShape((1, 8, 8), 10, "classification"),
    load,
    train_size=1078,
    description="1,797 images of handwritten digits (scikit-learn)",
)

"""Small tables of scikit-learn: two of classes, one of a number."""

from __future__ import annotations

from search_spaces.shape import TaskShape
from search_spaces.tasks.splits import classification_splits, regression_splits
from search_spaces.tasks.task import ClassificationTask, RegressionTask, Splits


def load_breast_cancer() -> Splits:
    """569 tumours, 30 measurements, benign or malignant."""
    from sklearn.datasets import load_breast_cancer as load

    data = load()
    return classification_splits(data.data, data.target)


def load_wine() -> Splits:
    """178 wines, 13 chemical measurements, three cultivars."""
    from sklearn.datasets import load_wine as load

    data = load()
    return classification_splits(data.data, data.target)


def load_diabetes() -> Splits:
    """442 patients, 10 measurements, the progression of the disease a year later (25 to 346)."""
    from sklearn.datasets import load_diabetes as load

    data = load()
    return regression_splits(data.data, data.target)


BREAST_CANCER = ClassificationTask(
    "breast_cancer",
    TaskShape((30,), 2, "classification"),
    load_breast_cancer,
    train_size=341,
    description="569 tumours by 30 measurements (scikit-learn)",
)
WINE = ClassificationTask(
    "wine",
    TaskShape((13,), 3, "classification"),
    load_wine,
    train_size=107,
    description="178 wines by 13 measurements (scikit-learn)",
)
DIABETES = RegressionTask(
    "diabetes",
    TaskShape((10,), 1, "regression"),
    load_diabetes,
    train_size=265,
    description="442 patients by 10 measurements: how the disease went on (scikit-learn)",
)

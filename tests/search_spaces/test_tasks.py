from __future__ import annotations

import math
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch

from search_spaces import (
    ClassificationTask,
    Part,
    RegressionTask,
    SpaceError,
    Splits,
    Task,
    TaskShape,
    get_task,
)
from search_spaces.tasks.splits import regression_splits, standardised, stratified_indices

PARTS = ("train", "validation", "test")
TABLES = ["breast_cancer", "wine", "diabetes"]
CLASSES = ["digits", "breast_cancer", "wine"]


def all_inputs(task: Task) -> np.ndarray:
    return np.concatenate([getattr(task.data(), part).inputs for part in PARTS])


@pytest.mark.parametrize("name", ["digits", *TABLES])
def test_what_is_declared_is_what_is_loaded(name: str) -> None:
    task = get_task(name)
    data = task.data()
    assert task.train_size == len(data.train)
    assert data is task.data()
    sizes = np.array([len(getattr(data, part)) for part in PARTS])
    assert np.abs(sizes / sizes.sum() - [0.6, 0.2, 0.2]).max() < 0.01
    for part in (data.train, data.validation, data.test):
        assert part.inputs.dtype == np.float32
        assert part.inputs.shape[1:] == task.shape.input_shape
        assert part.targets.dtype == (np.int64 if task.kind == "classification" else np.float32)


@pytest.mark.parametrize(
    ("name", "total"), [("digits", 1797), ("breast_cancer", 569), ("wine", 178), ("diabetes", 442)]
)
def test_the_parts_are_disjoint_and_complete(name: str, total: int) -> None:
    task = get_task(name)
    assert len(all_inputs(task)) == total


def test_three_examples_are_in_all_three_parts() -> None:
    parts = stratified_indices(np.array([0, 0, 0, 1, 1, 1]))
    assert [len(part) for part in parts] == [2, 2, 2]


def test_split_indices_partition_the_data() -> None:
    strata = np.random.default_rng(3).integers(0, 4, size=503)
    parts = stratified_indices(strata)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(503))
    again = stratified_indices(strata)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    for stratum in range(4):
        members = (strata == stratum).sum()
        shares = [(strata[part] == stratum).sum() for part in parts]
        assert np.abs(np.array(shares) - members * np.array([0.6, 0.2, 0.2])).max() <= 1


@pytest.mark.parametrize("name", CLASSES)
def test_classes_have_the_same_share_in_every_part(name: str) -> None:
    task = get_task(name)
    data = task.data()
    counts = np.array(
        [np.bincount(getattr(data, p).targets, minlength=task.shape.outputs) for p in PARTS]
    )
    expected = counts.sum(axis=0) * np.array([[0.6], [0.2], [0.2]])
    assert np.abs(counts - expected).max() <= 1


def test_the_parts_of_a_regression_have_like_targets() -> None:
    data = get_task("diabetes").data()
    quartiles = [np.quantile(getattr(data, part).targets, [0.25, 0.5, 0.75]) for part in PARTS]
    assert np.abs(quartiles[0] - quartiles[1]).max() < 0.25
    assert np.abs(quartiles[0] - quartiles[2]).max() < 0.25


@pytest.mark.parametrize(
    ("name", "checksums"),
    [
        ("digits", [1696716148, 1056430463, 1618803882]),
        ("breast_cancer", [1029234052, 749842336, 4253747748]),
        ("wine", [3655544996, 951809460, 716697396]),
    ],
)
def test_the_split_is_the_same_in_every_release(name: str, checksums: list[int]) -> None:
    data = get_task(name).data()
    assert [zlib.crc32(getattr(data, part).targets.tobytes()) for part in PARTS] == checksums


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_standardised_by_the_training_part(name: str) -> None:
    train = get_task(name).data().train.inputs
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(axis=0), 1, rtol=1e-4)


def test_images_are_standardised_as_a_whole() -> None:
    train = get_task("digits").data().train.inputs
    assert abs(train.mean()) < 1e-5
    assert math.isclose(train.std(), 1, rel_tol=1e-4)
    assert np.abs(all_inputs(get_task("digits"))).max() < 3


def test_only_the_training_part_standardises() -> None:
    values = np.arange(20.0).reshape(10, 2)
    train = np.arange(5)
    changed = values.copy()
    changed[5:] += 100
    one, other = (standardised(v, train)[0] for v in (values, changed))
    assert np.array_equal(one[:5], other[:5])


def test_a_constant_column_stays_finite() -> None:
    scaled, scale = standardised(np.ones((4, 1)), np.arange(4))
    assert np.array_equal(scaled, np.zeros((4, 1)))
    assert scale == 1


@pytest.mark.parametrize(
    ("name", "metric", "direction", "baseline"),
    [
        ("digits", "accuracy", "maximize", 0.1),
        ("breast_cancer", "accuracy", "maximize", 0.626),
        ("wine", "accuracy", "maximize", 0.4),
        ("diabetes", "rmse", "minimize", 76.4),
    ],
)
def test_metric_and_baseline(name: str, metric: str, direction: str, baseline: float) -> None:
    task = get_task(name)
    assert (task.metric.name, task.metric.direction) == (metric, direction)
    assert math.isclose(task.baseline(), baseline, rel_tol=0.03)


def test_accuracy_and_its_binomial_error() -> None:
    outputs = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0], [1.0, 0.0, 0.0]])
    value, error = get_task("wine").evaluate(outputs, np.array([0, 1, 2, 2]))
    assert value == 0.75
    assert math.isclose(error, math.sqrt(0.75 * 0.25 / 4))


def test_rmse_is_in_original_units() -> None:
    task = get_task("diabetes")
    from sklearn.datasets import load_diabetes

    train = np.sort(load_diabetes().target)
    assert 70 < task.data().target_scale < 85
    targets = task.data().validation.targets
    value, _ = task.evaluate(targets + 1, targets)
    assert math.isclose(value, task.data().target_scale, rel_tol=1e-6)
    assert train[0] < value < train[-1]
    assert task.evaluate(targets, targets) == (0.0, 0.0)


def test_the_error_of_the_rmse_is_its_deviation_over_samples() -> None:
    task = get_task("diabetes")
    generator = np.random.default_rng(0)
    samples = [
        task.evaluate(generator.normal(size=(200, 1)), np.zeros((200, 1))) for _ in range(400)
    ]
    values, errors = np.array(samples).T
    assert math.isclose(values.std(), errors.mean(), rel_tol=0.1)


@pytest.mark.parametrize("name", ["wine", "diabetes"])
def test_outputs_that_are_not_finite_have_no_metric(name: str) -> None:
    task = get_task(name)
    targets = task.data().validation.targets
    outputs = np.full((len(targets), task.shape.outputs), np.nan)
    assert all(math.isnan(number) for number in task.evaluate(outputs, targets))


def test_losses() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0]])
    expected = -math.log(math.exp(2) / (math.exp(2) + 2))
    assert math.isclose(
        get_task("wine").loss(logits, torch.tensor([0])).item(), expected, rel_tol=1e-6
    )
    loss = get_task("diabetes").loss(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [0.0]]))
    assert loss.item() == 2.5


@pytest.mark.parametrize("name", ["digits", "diabetes"])
def test_losses_of_several_models_are_those_of_each(name: str) -> None:
    task = get_task(name)
    targets = torch.from_numpy(task.data().train.targets[:30])
    targets = torch.stack([targets[:10], targets[10:20], targets[20:]]).double()
    if task.kind == "classification":
        targets = targets.long()
    outputs = torch.randn(3, 10, task.shape.outputs, dtype=torch.float64)
    each = torch.stack([task.loss(*pair) for pair in zip(outputs, targets, strict=True)])
    torch.testing.assert_close(task.losses(outputs, targets), each, rtol=1e-14, atol=0)


def test_a_loss_of_ones_own_is_the_one_that_several_models_get() -> None:
    class Own(ClassificationTask):
        def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return 2 * super().loss(outputs, targets)

    task = Own("own", get_task("digits").shape, get_task("digits").data)
    outputs, targets = torch.randn(2, 5, 10), torch.randint(10, (2, 5))
    each = [task.loss(*pair) for pair in zip(outputs, targets, strict=True)]
    torch.testing.assert_close(task.losses(outputs, targets), torch.stack(each))


def test_an_unknown_task() -> None:
    with pytest.raises(SpaceError, match=r"unknown task 'digit'; valid: digits.*Did you mean dig"):
        get_task("digit")


def splits(change: Callable[[np.ndarray, np.ndarray], Part]) -> Splits:
    inputs, targets = np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1])
    good = Part(inputs, targets)
    return Splits(good, change(inputs, targets), good)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: Part(x[:, :1], y), r"validation inputs have shape \(4, 1\)"),
        (lambda x, y: Part(x[:0], y[:0]), "with n at least 1"),
        (lambda x, y: Part(x.astype(float), y), "must be finite float32"),
        (lambda x, y: Part(x + np.float32(np.inf), y), "must be finite float32"),
        (lambda x, y: Part(x, y[:3]), r"targets have shape \(3,\); must be \(4,\)"),
        (lambda x, y: Part(x, y.astype(np.int32)), "must be int64 from 0 to 1"),
        (lambda x, y: Part(x, y + 1), "must be int64 from 0 to 1"),
    ],
)
def test_data_that_does_not_match_the_shape(
    change: Callable[[np.ndarray, np.ndarray], Part], message: str
) -> None:
    task = ClassificationTask("mine", TaskShape((2,), 2, "classification"), lambda: splits(change))
    with pytest.raises(SpaceError, match=message):
        task.data()


def test_targets_of_a_regression_are_two_dimensional() -> None:
    part = Part(np.zeros((4, 2), np.float32), np.zeros(4, np.float32))
    shape = TaskShape((2,), 1, "regression")
    task = RegressionTask("mine", shape, lambda: Splits(part, part, part))
    with pytest.raises(SpaceError, match=r"must be \(4, 1\)"):
        task.data()


def test_a_task_is_of_its_shape_s_kind() -> None:
    with pytest.raises(SpaceError, match="must be regression"):
        RegressionTask("x", TaskShape((2,), 2, "classification"), lambda: splits(Part))


@pytest.mark.parametrize(
    ("shape", "outputs", "kind", "message"),
    [
        ((1, 2, 3, 4), 2, "classification", "input_shape: got"),
        ((0,), 2, "classification", "input_shape: got"),
        ((2,), 1, "classification", "outputs: got 1; must be at least 2"),
        ((2,), 0, "regression", "outputs: got 0; must be at least 1"),
        ((2,), 2, "ranking", "kind: got 'ranking'"),
    ],
)
def test_bad_shapes(shape: tuple[int, ...], outputs: int, kind: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        TaskShape(shape, outputs, kind)  # type: ignore[arg-type]


def test_regression_splits_of_any_target() -> None:
    generator = np.random.default_rng(0)
    inputs, targets = generator.normal(size=(100, 3)), 50 + 5 * generator.normal(size=100)
    data = regression_splits(inputs, targets)
    assert data.train.targets.shape == (len(data.train), 1)
    assert abs(data.train.targets.mean()) < 1e-5
    assert 4 < data.target_scale < 6

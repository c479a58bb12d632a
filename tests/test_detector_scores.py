"""Average precision and attribute scores, against cases worked out by hand and figures of pycocotools."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from featx_extractors.training.scores import (
    Detections,
    Expected,
    assign,
    attribute_scores,
    average_precision,
    iou,
    mean_average_precision,
)

# Of `crowded()` below, by pycocotools 2.0.11 at IoU 0.5 with recThrs in 100,001 steps, which is the area to 1e-5.
OF_PYCOCOTOOLS = [0.73128, 0.41667, 0.29348, 0.56349]


def detections(boxes: Sequence[Sequence[float]], classes: Sequence[int], scores: Sequence[float]) -> Detections:
    attributes = np.zeros((len(boxes), 0), np.int64)
    return Detections(np.array(boxes, float).reshape(-1, 4), np.array(classes), np.array(scores, float), attributes)


def expected(boxes: Sequence[Sequence[float]], classes: Sequence[int]) -> Expected:
    return Expected(np.array(boxes, float).reshape(-1, 4), np.array(classes, int), [()] * len(boxes))


def test_overlap_of_boxes() -> None:
    found = iou(np.array([[0.0, 0, 10, 10]]), np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10]]))
    np.testing.assert_allclose(found, [[1, 50 / 150, 0]])


def test_average_precision_worked_out_by_hand() -> None:
    # Five detections of a class with four boxes: right, wrong, right, wrong, right.
    # Precision at each: 1, 1/2, 2/3, 1/2, 3/5; made monotonic: 1, 2/3, 2/3, 3/5, 3/5.
    # Recall rises by 1/4 at the first, third and fifth: (1 + 2/3 + 3/5) / 4.
    scores = np.array([0.5, 0.9, 0.8, 0.6, 0.7])
    right = np.array([True, True, False, False, True])
    assert average_precision(scores, right, 4) == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    assert average_precision(np.zeros(0), np.zeros(0, bool), 3) == 0


def test_a_box_is_found_once_and_only_by_its_class() -> None:
    truth = expected([[0, 0, 10, 10], [20, 0, 30, 10]], [1, 0])
    found = detections(
        [[0, 0, 10, 9], [0, 0, 10, 10], [20, 0, 30, 10], [20, 0, 24, 10]], [1, 1, 1, 0], [0.6, 0.9, 0.8, 0.7]
    )
    # The second is the surest of class 1, so the box of the first is taken; the third has the wrong class, and the
    # fourth covers 40 % of its box.
    assert assign(found, truth).tolist() == [-1, 0, -1, -1]


def test_exactly_half_an_overlap_counts() -> None:
    found = detections([[0, 0, 10, 5]], [0], [0.3])
    assert assign(found, expected([[0, 0, 10, 10]], [0])).tolist() == [0]


def test_the_mean_is_over_the_classes_that_occur() -> None:
    truth = [expected([[0, 0, 10, 10], [20, 0, 30, 10]], [0, 2]), expected([], [])]
    found = [detections([[0, 0, 10, 10]], [0], [0.9]), detections([[0, 0, 10, 10]], [1], [0.9])]
    assigned = [assign(f, e) for f, e in zip(found, truth, strict=True)]
    average, each = mean_average_precision(found, truth, assigned, 4)
    assert average == pytest.approx(0.5)  # class 0 is 1, class 2 is 0, classes 1 and 3 have no box
    assert each[0] == 1
    assert each[2] == 0
    assert np.isnan(each[1])
    assert np.isnan(each[3])


def test_attributes_of_found_boxes() -> None:
    truth = Expected(np.array([[0.0, 0, 9, 9]] * 4), np.zeros(4, int), [(3, 1), (2,), (), (1, 2, 0)])
    said = np.array([[3, 1, 0], [2, 0, 1], [0, 1, 2], [0, 1, 3], [3, 1, 2]])
    found = Detections(np.zeros((5, 4)), np.zeros(5, int), np.ones(5), said)
    scores = attribute_scores([found], [truth], [np.array([0, 1, 2, 3, -1])])
    # Box 2 has no attribute and the last detection found nothing: three count. All three begin with a true attribute,
    # two with the first named, and for two the likeliest are exactly those that are named; of the six that are named
    # 2, 1 and 2 are among the likeliest.
    shares = {"attribute_accuracy": 1, "first_attribute": 2 / 3, "each_attribute": 5 / 6, "all_attributes": 2 / 3}
    assert scores == pytest.approx(shares)


def test_a_sort_of_attributes_that_is_never_right_shows() -> None:
    # A colour and a pattern each; the colour is always right and likeliest, the pattern never.
    truth = Expected(np.array([[0.0, 0, 9, 9]] * 4), np.zeros(4, int), [(0, 5)] * 4)
    found = Detections(np.zeros((4, 4)), np.zeros(4, int), np.ones(4), np.array([[0, 6, 5]] * 4))
    scores = attribute_scores([found], [truth], [np.arange(4)])
    assert scores["attribute_accuracy"] == scores["first_attribute"] == 1
    assert scores["each_attribute"] == 0.5


def crowded() -> tuple[list[Expected], list[Detections]]:
    """Six pictures of four classes: shifted copies of most boxes, some of another class, some out of nowhere."""
    rng = np.random.default_rng(20)
    truth, found = [], []
    for _ in range(6):
        corners = rng.uniform(0, 300, (8, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(30, 90, (8, 2))], 1)
        classes = rng.integers(0, 4, 8)
        truth.append(Expected(boxes, classes, [()] * 8))
        moved = np.concatenate([boxes + rng.normal(0, 6, boxes.shape), boxes[:4] + rng.normal(0, 7, (4, 4))])
        said = np.concatenate([np.where(rng.random(8) < 0.8, classes, rng.integers(0, 4, 8)), classes[:4]])
        nowhere = rng.uniform(0, 300, (3, 2))
        moved = np.concatenate([moved, np.concatenate([nowhere, nowhere + 50], 1)])
        said = np.concatenate([said, rng.integers(0, 4, 3)])
        found.append(Detections(moved, said, rng.random(15), np.zeros((15, 0))))
    return truth, found


def test_average_precision_agrees_with_pycocotools() -> None:
    truth, found = crowded()
    assigned = [assign(f, e) for f, e in zip(found, truth, strict=True)]
    average, each = mean_average_precision(found, truth, assigned, 4)
    assert each == pytest.approx(OF_PYCOCOTOOLS, abs=1e-4)
    assert average == pytest.approx(np.mean(OF_PYCOCOTOOLS), abs=1e-4)

"""Results of a fixed length: what takes part is as if the rest were not there, and the number says how far to read."""

from __future__ import annotations

import pytest
import torch

from featx import ops
from featx.errors import UsageError

# Three boxes in a row that overlap by a third, and one elsewhere; the second has the highest score.
BOXES = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [100, 100, 110, 110]])
SCORES = torch.tensor([0.5, 0.9, 0.4, 0.2])


def taking(n: int) -> torch.Tensor:
    return torch.tensor([n])


def test_survivors_come_first_and_zeros_behind_them() -> None:
    rows, count = ops.nms_padded(BOXES, SCORES, taking(4), 0.3, limit=6)
    assert (rows.tolist(), count.tolist()) == ([1, 3, 0, 0, 0, 0], [2])


def test_no_more_survive_than_the_limit() -> None:
    rows, count = ops.nms_padded(BOXES, SCORES, taking(4), 0.3, limit=1)
    assert (rows.tolist(), count.tolist()) == ([1], [1])


def test_boxes_that_take_no_part_suppress_nothing() -> None:
    first = torch.tensor([0.5, 0.4, 0.9, 0.2])  # the best of all is behind those that take part
    rows, count = ops.nms_padded(BOXES, first, taking(2), 0.3, limit=3)
    assert (rows.tolist(), count.tolist()) == ([0, 0, 0], [1])
    rows, count = ops.nms_padded(BOXES, SCORES, taking(0), 0.3, limit=3)
    assert (rows.tolist(), count.tolist()) == ([0, 0, 0], [0])


def test_only_boxes_of_one_class_suppress_each_other() -> None:
    labels = torch.tensor([0, 1, 0, 0])
    rows, count = ops.nms_padded(BOXES, SCORES, taking(3), 0.3, limit=4, classes=labels)
    assert (rows.tolist(), count.tolist()) == ([1, 0, 2, 0], [3])


def test_the_rows_of_a_selection_and_how_many() -> None:
    probs = torch.tensor([[0.5, 0.1, 0.4], [0.8, 0.1, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]])
    rule = {"score_threshold": 0.4, "min_boxes": 1, "max_boxes": 3, "plus_one": False}
    # Row 0 loses its first class to row 1 and keeps 0.1; row 2 is best in its own class.
    rows, scores, count = ops.select_boxes_padded(BOXES, probs, taking(4), **rule)
    assert (rows.tolist(), count.tolist()) == ([1, 2, 0], [2])
    torch.testing.assert_close(scores, torch.tensor([0.8, 0.6, 0.0]))
    rows, scores, count = ops.select_boxes_padded(BOXES, probs, taking(1), **rule)
    assert (rows.tolist(), count.tolist()) == ([0, 0, 0], [1])
    torch.testing.assert_close(scores, torch.tensor([0.5, 0.0, 0.0]))


@pytest.mark.parametrize("number", [torch.tensor(2), torch.tensor([2.0]), torch.tensor([1, 1])])
def test_a_number_that_is_none_is_refused(number: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="taking"):
        ops.nms_padded(BOXES, SCORES, number, 0.3, limit=3)


def test_a_result_without_length_is_refused() -> None:
    with pytest.raises(UsageError, match="limit is 0"):
        ops.nms_padded(BOXES, SCORES, taking(2), 0.3, limit=0)

"""The two rules that turn proposals into the regions of a picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from featx.errors import UsageError
from featx.ops.checks import expect, expect_alike, expect_boxes, expect_length
from featx.ops.library import operator
from featx.ops.nms import expect_count, nms, padded, suppresses


def select_boxes(
    boxes: Tensor,
    probs: Tensor,
    *,
    nms_threshold: float = 0.3,
    score_threshold: float = 0.2,
    min_boxes: int = 36,
    max_boxes: int = 36,
    inclusive: bool = True,
    plus_one: bool = True,
) -> tuple[Tensor, Tensor]:
    """Rows of the kept proposals (int64 [n]) and the scores that kept them (float32 [n]).

    The rule of bottom-up-attention (Anderson et al. 2018, its ``generate_tsv.py``).
    Each class runs its own NMS over all proposals; the score of a proposal is its best probability among the classes
    in which it survives, 0 if there is none. Kept are the proposals with a score >= ``score_threshold``, in row order;
    if they are fewer than ``min_boxes`` (more than ``max_boxes``), the best ``min_boxes`` (``max_boxes``) instead, by
    falling score and rising row. With fewer than ``min_boxes`` proposals, all of them.

    boxes: [P, 4] pixels. probs: [P, C + 1], background last. Raises UsageError.
    """
    boxes, probs = _check(boxes, probs, min_boxes, max_boxes)
    rows, scores = torch.ops.featx.select_boxes(
        boxes, probs, nms_threshold, score_threshold, min_boxes, max_boxes, inclusive, plus_one
    )
    return rows, scores


def select_boxes_padded(
    boxes: Tensor,
    probs: Tensor,
    taking: Tensor,
    *,
    nms_threshold: float = 0.3,
    score_threshold: float = 0.2,
    min_boxes: int = 36,
    max_boxes: int = 36,
    inclusive: bool = True,
    plus_one: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`select_boxes` of the first ``taking`` proposals; nothing is read back from a device.

    taking: int64 [1], from 0 to P, on the device of the boxes. Returns rows int64 and scores float32 [max_boxes], zeros
    behind the kept ones, and their number int64 [1]. Raises UsageError.
    """
    boxes, probs = _check(boxes, probs, min_boxes, max_boxes)
    expect_count("taking", taking, boxes)
    rows, scores, count = torch.ops.featx.select_boxes_padded(
        boxes, probs, taking, nms_threshold, score_threshold, min_boxes, max_boxes, inclusive, plus_one
    )
    return rows, scores, count


def _check(boxes: Tensor, probs: Tensor, min_boxes: int, max_boxes: int) -> tuple[Tensor, Tensor]:
    expect_boxes("boxes", boxes)
    expect("probs", probs, ("P", "C+1"), "one row per box, one column per class, the background last")
    expect_length("probs", probs, len(boxes), "boxes")
    _check_range(min_boxes, max_boxes)
    if not probs.shape[1]:
        raise UsageError("probs has no column, expected C + 1", "the background is the last column")
    boxes, probs = boxes.float(), probs.float()
    expect_alike(boxes=boxes, probs=probs)
    return boxes, probs


def select_maxnms(
    boxes: Tensor,
    scores: Tensor,
    thresholds: Sequence[float],
    *,
    min_boxes: int = 36,
    max_boxes: int = 36,
    inclusive: bool = False,
    plus_one: bool = False,
) -> tuple[Tensor, float]:
    """Rows (int64, by falling score, at most ``max_boxes``) and the IoU threshold that gave them.

    Class-agnostic NMS with each of the rising ``thresholds`` until at least ``min_boxes`` survive. When none is enough,
    the result of the last one, which then has fewer: the caller decides what that means.
    boxes: [P, 4] pixels. scores: [P]. Raises UsageError.
    """
    _check_range(min_boxes, max_boxes)
    if not len(thresholds):
        raise UsageError("thresholds is empty, expected at least one IoU threshold", "for example (0.3, 0.4, 0.5)")
    for threshold in thresholds:
        rows = nms(boxes, scores, threshold, inclusive=inclusive, plus_one=plus_one, limit=max_boxes)
        if len(rows) >= min_boxes:
            break
    return rows, float(threshold)


def _check_range(min_boxes: int, max_boxes: int) -> None:
    if not 0 <= min_boxes <= max_boxes or max_boxes == 0:
        raise UsageError(
            f"min_boxes is {min_boxes} and max_boxes {max_boxes}", "expected 0 <= min_boxes <= max_boxes, max_boxes > 0"
        )


def survivor_scores(boxes: Tensor, probs: Tensor, threshold: float, inclusive: bool, plus_one: bool) -> Tensor:
    """Best probability of each proposal among the classes whose NMS it survives: [P], at least 0.

    One IoU matrix for all classes; the greedy pass advances one rank at a time, in all classes at once.
    A probability that is not a number counts as 0.
    """
    drops = suppresses(boxes, boxes, threshold, inclusive, plus_one)
    ranked, order = probs[:, :-1].t().nan_to_num(0.0, torch.inf).sort(dim=1, descending=True, stable=True)
    dropped = torch.zeros_like(order, dtype=torch.bool)
    best = ranked.new_zeros(len(boxes))
    for rank in range(len(boxes)):
        row = order[:, rank]
        alive = ~dropped.gather(1, row[:, None])
        best.scatter_reduce_(0, row, ranked[:, rank] * alive[:, 0], "amax")
        dropped |= drops[row] & alive
    return best


def _fake_select(boxes: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty(count, dtype=torch.int64), boxes.new_empty(count)


@operator(
    "select_boxes(Tensor boxes, Tensor probs, float nms_threshold, float score_threshold, int min_boxes, int max_boxes,"
    " bool inclusive, bool plus_one) -> (Tensor, Tensor)",
    fake=_fake_select,
)
def select_boxes_reference(
    boxes: Tensor,
    probs: Tensor,
    nms_threshold: float,
    score_threshold: float,
    min_boxes: int,
    max_boxes: int,
    inclusive: bool,
    plus_one: bool,
) -> tuple[Tensor, Tensor]:
    """Oracle and fallback of :func:`select_boxes`."""
    scores = survivor_scores(boxes, probs, nms_threshold, inclusive, plus_one)
    rows = (scores >= score_threshold).nonzero()[:, 0]
    if not min_boxes <= len(rows) <= max_boxes:
        wanted = min_boxes if len(rows) < min_boxes else max_boxes
        rows = scores.argsort(descending=True, stable=True)[:wanted]
    return rows, scores[rows]


def _fake_select_padded(
    boxes: Tensor, probs: Tensor, taking: Tensor, nms: float, score: float, least: int, most: int, *rest: object
) -> tuple[Tensor, Tensor, Tensor]:
    return boxes.new_empty(most, dtype=torch.int64), boxes.new_empty(most), boxes.new_empty(1, dtype=torch.int64)


@operator(
    "select_boxes_padded(Tensor boxes, Tensor probs, Tensor taking, float nms_threshold, float score_threshold,"
    " int min_boxes, int max_boxes, bool inclusive, bool plus_one) -> (Tensor, Tensor, Tensor)",
    fake=_fake_select_padded,
)
def select_boxes_padded_reference(
    boxes: Tensor,
    probs: Tensor,
    taking: Tensor,
    nms_threshold: float,
    score_threshold: float,
    min_boxes: int,
    max_boxes: int,
    inclusive: bool,
    plus_one: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Oracle and fallback of :func:`select_boxes_padded`; it does read the number back."""
    first, how = slice(int(taking)), (nms_threshold, score_threshold, min_boxes, max_boxes, inclusive, plus_one)
    rows, scores = torch.ops.featx.select_boxes(boxes[first], probs[first], *how)
    return padded(rows, max_boxes), padded(scores, max_boxes), rows.new_full((1,), len(rows))

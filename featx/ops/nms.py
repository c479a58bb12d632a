"""Greedy non-maximum suppression, over all boxes or class by class."""

from __future__ import annotations

import torch
from torch import Tensor

from featx.errors import UsageError
from featx.ops.boxes import overlap
from featx.ops.checks import expect, expect_alike, expect_boxes, expect_dtype, expect_length
from featx.ops.library import operator


def nms(
    boxes: Tensor,
    scores: Tensor,
    threshold: float,
    *,
    inclusive: bool = False,
    plus_one: bool = False,
    limit: int = 0,
) -> Tensor:
    """Indices (int64) of the boxes that survive, by falling score; equal scores keep the order of the input.

    A box is dropped when its IoU with a kept box of higher score is above ``threshold``, or at it when ``inclusive``.
    The IoU is float32, compared as float64; an IoU of 0/0 drops nothing. ``limit`` > 0 stops after so many kept.

    boxes: [N, 4] pixels. scores: [N]. ``plus_one``: widths are x1 - x0 + 1 (py-faster-rcnn). Raises UsageError.
    """
    boxes, scores = _check(boxes, scores)
    if limit < 0:
        raise UsageError(f"limit is {limit}, expected 0 (no limit) or more")
    kept: Tensor = torch.ops.featx.nms(boxes, scores, None, threshold, inclusive, plus_one, limit)
    return kept


def batched_nms(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    threshold: float,
    *,
    inclusive: bool = False,
    plus_one: bool = False,
) -> Tensor:
    """As :func:`nms`, but only boxes of one class suppress each other; survivors of all classes by falling score.

    classes: int64 [N], any values. Exact: classes are compared, boxes are not moved apart in float32.
    """
    boxes, scores = _check(boxes, scores)
    _check_classes(classes, boxes)
    kept: Tensor = torch.ops.featx.nms(boxes, scores, classes, threshold, inclusive, plus_one, 0)
    return kept


def nms_padded(
    boxes: Tensor,
    scores: Tensor,
    taking: Tensor,
    threshold: float,
    *,
    limit: int,
    classes: Tensor | None = None,
    inclusive: bool = False,
    plus_one: bool = False,
) -> tuple[Tensor, Tensor]:
    """As :func:`nms` (or :func:`batched_nms`) of the first ``taking`` boxes; nothing is read back from a device.

    taking: int64 [1], from 0 to N, on the device of the boxes. Returns the indices int64 [limit], zeros behind the
    survivors, and their number int64 [1], at most ``limit`` > 0. Raises UsageError.
    """
    boxes, scores = _check(boxes, scores)
    expect_count("taking", taking, boxes)
    if limit < 1:
        raise UsageError(f"limit is {limit}, expected 1 or more", "the result has that length")
    if classes is not None:
        _check_classes(classes, boxes)
    rows, count = torch.ops.featx.nms_padded(boxes, scores, classes, taking, threshold, inclusive, plus_one, limit)
    return rows, count


def expect_count(name: str, count: Tensor, boxes: Tensor) -> None:
    """Check for a number of boxes that lies where they do: int64 [1]."""
    expect(name, count, (1,), "a number of boxes")
    expect_dtype(name, count, torch.int64)
    expect_alike(boxes=boxes, **{name: count})


def _check_classes(classes: Tensor, boxes: Tensor) -> None:
    expect("classes", classes, ("N",))
    expect_dtype("classes", classes, torch.int64)
    expect_length("classes", classes, len(boxes), "boxes")
    expect_alike(boxes=boxes, classes=classes)


def _check(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    expect_boxes("boxes", boxes)
    expect("scores", scores, ("N",), "one score per box")
    expect_length("scores", scores, len(boxes), "boxes")
    boxes, scores = boxes.float(), scores.float()
    expect_alike(boxes=boxes, scores=scores)
    return boxes, scores


def suppresses(a: Tensor, b: Tensor, threshold: float, inclusive: bool, plus_one: bool) -> Tensor:
    """Whether each box of ``a`` [N, 4], once kept, drops each box of ``b`` [M, 4]: bool [N, M]."""
    intersection, union = overlap(a, b, plus_one)
    iou = (intersection / union).double()
    return iou >= threshold if inclusive else iou > threshold


def _fake_nms(boxes: Tensor, *rest: object) -> Tensor:
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


@operator(
    "nms(Tensor boxes, Tensor scores, Tensor? classes, float threshold, bool inclusive, bool plus_one, int limit)"
    " -> Tensor",
    fake=_fake_nms,
)
def nms_reference(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor | None,
    threshold: float,
    inclusive: bool,
    plus_one: bool,
    limit: int,
) -> Tensor:
    """Oracle and fallback of :func:`nms` and :func:`batched_nms`."""
    waiting = scores.argsort(descending=True, stable=True)
    kept: list[Tensor] = []
    while len(waiting) and len(kept) != (limit or -1):
        best, waiting = waiting[:1], waiting[1:]
        kept.append(best)
        dropped = suppresses(boxes[best], boxes[waiting], threshold, inclusive, plus_one)[0]
        if classes is not None:
            dropped &= classes[waiting] == classes[best]
        waiting = waiting[~dropped]
    return torch.cat(kept) if kept else waiting


def padded(values: Tensor, length: int) -> Tensor:
    """``values`` [n] with zeros behind them, [length]; what is beyond ``length`` falls away."""
    values = values[:length]
    return torch.cat([values, values.new_zeros(length - len(values))])


def _fake_nms_padded(boxes: Tensor, scores: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
    return boxes.new_empty(rest[-1], dtype=torch.int64), boxes.new_empty(1, dtype=torch.int64)  # type: ignore[call-overload]


@operator(
    "nms_padded(Tensor boxes, Tensor scores, Tensor? classes, Tensor taking, float threshold, bool inclusive,"
    " bool plus_one, int limit) -> (Tensor, Tensor)",
    fake=_fake_nms_padded,
)
def nms_padded_reference(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor | None,
    taking: Tensor,
    threshold: float,
    inclusive: bool,
    plus_one: bool,
    limit: int,
) -> tuple[Tensor, Tensor]:
    """Oracle and fallback of :func:`nms_padded`; it does read the number back."""
    first = slice(int(taking))
    some = None if classes is None else classes[first]
    kept = torch.ops.featx.nms(boxes[first], scores[first], some, threshold, inclusive, plus_one, limit)
    return padded(kept, limit), kept.new_full((1,), len(kept))

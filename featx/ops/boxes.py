"""Box arithmetic: normalisation and geometry, regression deltas, clipping, overlap.

Boxes are rows ``x0 y0 x1 y1`` in pixels, x to the right, y down, float32 or float64 (results have the dtype of the
boxes). Width is ``x1 - x0``, or ``x1 - x0 + 1`` with ``plus_one``, the inclusive convention of py-faster-rcnn.
No gradient flows through these operators. Every function raises UsageError for a wrong shape, dtype or device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from featx.errors import UsageError
from featx.ops.checks import BOXES, expect, expect_alike, expect_boxes, expect_dtype, expect_length
from featx.ops.library import operator

GEOMETRIES = {"geom4": 4, "geom5": 5, "geom6": 6, "geom7": 7}
Weights = tuple[float, float, float, float]


def normalize_boxes(boxes: Tensor, sizes: Tensor, counts: Tensor | None = None) -> Tensor:
    """Pixels to [0, 1]: x / W and y / H, each box by the size of its own picture.

    boxes: [B, N, 4], or ragged [T, 4] with ``counts`` int64 [B] (rows per picture, sum T).
    sizes: [B, 2], (height, width) in pixels. Returns the shape of ``boxes``.
    """
    return box_geometry(boxes, sizes, "geom4", counts)


def denormalize_boxes(boxes: Tensor, sizes: Tensor, counts: Tensor | None = None) -> Tensor:
    """[0, 1] to pixels: the inverse of :func:`normalize_boxes`, same arguments."""
    rows, sizes = _rows_and_sizes(boxes, sizes, counts)
    result: Tensor = torch.ops.featx.denormalize_boxes(rows, sizes, counts)
    return result.view(boxes.shape)


def box_geometry(boxes: Tensor, sizes: Tensor, kind: str, counts: Tensor | None = None) -> Tensor:
    """Position features of boxes, in one of the layouts that models declare.

    geom4 (LXMERT): x0/W, y0/H, x1/W, y1/H. geom5 (ViLBERT): geom4, area / (W H).
    geom6 (Oscar, hdf5 stores): geom4, w/W, h/H. geom7 (UNITER): geom6, (w/W) (h/H).
    Arguments as in :func:`normalize_boxes`. Returns [B, N, k] or [T, k].
    """
    if kind not in GEOMETRIES:
        raise UsageError(f"geometry {kind!r} is unknown", f"choose one of {', '.join(GEOMETRIES)}")
    rows, sizes = _rows_and_sizes(boxes, sizes, counts)
    result: Tensor = torch.ops.featx.box_geometry(rows, sizes, counts, GEOMETRIES[kind])
    return result.view(*boxes.shape[:-1], GEOMETRIES[kind])


def encode_deltas(
    boxes: Tensor, targets: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0), plus_one: bool = False
) -> Tensor:
    """Deltas that move ``boxes`` [R, 4] onto ``targets`` [R, 4]: R-CNN (Girshick et al. 2014), appendix C.

    dx = wx (cx' - cx) / w, dy likewise, dw = ww log(w' / w), dh likewise. Returns [R, 4].
    """
    expect_boxes("boxes", boxes)
    expect_boxes("targets", targets)
    expect_length("targets", targets, len(boxes), "boxes")
    expect_alike(boxes=boxes, targets=targets)
    result: Tensor = torch.ops.featx.encode_deltas(boxes, targets, _four(weights), plus_one)
    return result


def decode_deltas(
    deltas: Tensor,
    boxes: Tensor,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    clamp: float | None = math.log(1000 / 16),
    plus_one: bool = False,
) -> Tensor:
    """Boxes [R, 4K] that ``deltas`` [R, 4K] (K classes) make of ``boxes`` [R, 4]; inverts :func:`encode_deltas`.

    ``clamp`` bounds dw and dh from above before the exponential (None: no bound). With ``plus_one`` the widths of
    ``boxes`` count one pixel more and the result is *not* reduced by one, as in py-faster-rcnn.
    """
    expect_boxes("boxes", boxes)
    expect("deltas", deltas, ("R", "4K"), "one row per box, four columns per class")
    expect_length("deltas", deltas, len(boxes), "boxes")
    expect_alike(boxes=boxes, deltas=deltas)
    if deltas.shape[1] % 4:
        raise UsageError(f"deltas has {deltas.shape[1]} columns, expected a multiple of 4", "four columns per class")
    bound = math.inf if clamp is None else clamp
    result: Tensor = torch.ops.featx.decode_deltas(deltas, boxes, _four(weights), bound, plus_one)
    return result


def clip_boxes(boxes: Tensor, size: tuple[float, float], inclusive: bool = False) -> Tensor:
    """Clip [..., 4] to a picture of ``size`` (height, width): x to [0, W], or [0, W - 1] when ``inclusive``."""
    expect("boxes", boxes, (*("..." for _ in boxes.shape[:-1]), 4), BOXES)
    expect_dtype("boxes", boxes, torch.float32, torch.float64)
    height, width = (float(side) - inclusive for side in size)
    result: Tensor = torch.ops.featx.clip_boxes(boxes.reshape(-1, 4), height, width)
    return result.view(boxes.shape)


def box_iou(a: Tensor, b: Tensor, plus_one: bool = False) -> Tensor:
    """Intersection over union of every pair of ``a`` [N, 4] and ``b`` [M, 4]: [N, M], 0 where they do not overlap."""
    expect_boxes("a", a)
    expect_boxes("b", b)
    expect_alike(a=a, b=b)
    result: Tensor = torch.ops.featx.box_iou(a, b, plus_one)
    return result


def _rows_and_sizes(boxes: Tensor, sizes: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Check the arguments of the per-picture functions; boxes as rows [T, 4], sizes in the dtype of the boxes."""
    expect("boxes", boxes, ("B", "N", 4) if counts is None else ("T", 4), f"{BOXES}; ragged rows [T, 4] need counts")
    expect("sizes", sizes, ("B", 2), "one (height, width) per picture")
    expect_dtype("boxes", boxes, torch.float32, torch.float64)
    sizes = sizes.to(boxes.dtype)
    expect_alike(boxes=boxes, sizes=sizes)
    if counts is None:
        expect_length("sizes", sizes, len(boxes), "boxes")
    else:
        expect("counts", counts, ("B",), "the number of boxes of each picture")
        expect_dtype("counts", counts, torch.int64)
        expect_length("counts", counts, len(sizes), "sizes")
        expect_alike(boxes=boxes, counts=counts)
        _check_counts(counts, len(boxes))
    return boxes.reshape(-1, 4), sizes


def _check_counts(counts: Tensor, rows: int) -> None:
    """Only on the CPU: reading the values would stall a GPU stream (its kernel stays inside the arrays)."""
    if counts.is_cpu and (int(counts.sum()) != rows or bool((counts < 0).any())):
        raise UsageError(
            f"counts are {counts.tolist()}, boxes has {rows} rows",
            "counts are not negative and sum to the rows of boxes",
        )


def _four(weights: Sequence[float]) -> list[float]:
    if len(weights) != 4:
        raise UsageError(f"{len(weights)} weights were given, expected 4", "the weights of dx, dy, dw, dh")
    return [float(weight) for weight in weights]


def _size_of_each_row(sizes: Tensor, counts: Tensor | None, rows: int) -> tuple[Tensor, Tensor]:
    """Height and width [T] of the picture each row belongs to."""
    repeats = rows // max(len(sizes), 1) if counts is None else counts
    height, width = sizes.repeat_interleave(repeats, 0, output_size=rows).unbind(1)
    return height, width


def _fake_geometry(boxes: Tensor, sizes: Tensor, counts: Tensor | None, columns: int) -> Tensor:
    return boxes.new_empty((boxes.shape[0], columns))


@operator(
    "box_geometry(Tensor boxes, Tensor sizes, Tensor? counts, int columns) -> Tensor",
    fake=_fake_geometry,
)
def box_geometry_reference(boxes: Tensor, sizes: Tensor, counts: Tensor | None, columns: int) -> Tensor:
    """Oracle and fallback of :func:`box_geometry` on rows [T, 4]."""
    height, width = _size_of_each_row(sizes, counts, len(boxes))
    x0, y0, x1, y1 = boxes.unbind(1)
    w, h = x1 - x0, y1 - y0
    result = [x0 / width, y0 / height, x1 / width, y1 / height]
    if columns == 5:
        result += [w * h / (width * height)]
    if columns >= 6:
        result += [w / width, h / height]
    if columns == 7:
        result += [result[4] * result[5]]
    return torch.stack(result, 1)


@operator(
    "denormalize_boxes(Tensor boxes, Tensor sizes, Tensor? counts) -> Tensor",
    fake=lambda boxes, sizes, counts: boxes.new_empty(boxes.shape),
)
def denormalize_boxes_reference(boxes: Tensor, sizes: Tensor, counts: Tensor | None) -> Tensor:
    """Oracle and fallback of :func:`denormalize_boxes` on rows [T, 4]."""
    height, width = _size_of_each_row(sizes, counts, len(boxes))
    return boxes * torch.stack([width, height, width, height], 1)


def _centre_and_size(boxes: Tensor, plus_one: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x0, y0, x1, y1 = boxes.unbind(1)
    w, h = x1 - x0 + float(plus_one), y1 - y0 + float(plus_one)
    return x0 + 0.5 * w, y0 + 0.5 * h, w, h


@operator(
    "encode_deltas(Tensor boxes, Tensor targets, float[] weights, bool plus_one) -> Tensor",
    fake=lambda boxes, targets, weights, plus_one: boxes.new_empty(boxes.shape),
)
def encode_deltas_reference(boxes: Tensor, targets: Tensor, weights: list[float], plus_one: bool) -> Tensor:
    """Oracle and fallback of :func:`encode_deltas`."""
    x, y, w, h = _centre_and_size(boxes, plus_one)
    to_x, to_y, to_w, to_h = _centre_and_size(targets, plus_one)
    deltas = ((to_x - x) / w, (to_y - y) / h, torch.log(to_w / w), torch.log(to_h / h))
    return torch.stack([weight * delta for weight, delta in zip(weights, deltas, strict=True)], 1)


@operator(
    "decode_deltas(Tensor deltas, Tensor boxes, float[] weights, float clamp, bool plus_one) -> Tensor",
    fake=lambda deltas, boxes, weights, clamp, plus_one: deltas.new_empty(deltas.shape),
)
def decode_deltas_reference(
    deltas: Tensor, boxes: Tensor, weights: list[float], clamp: float, plus_one: bool
) -> Tensor:
    """Oracle and fallback of :func:`decode_deltas`."""
    x, y, w, h = (value[:, None] for value in _centre_and_size(boxes, plus_one))
    dx, dy, dw, dh = (deltas[:, i::4] / weight for i, weight in enumerate(weights))
    x, y = dx * w + x, dy * h + y
    w, h = torch.exp(dw.clamp(max=clamp)) * w, torch.exp(dh.clamp(max=clamp)) * h
    return torch.stack([x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h], 2).view(deltas.shape)


@operator(
    "clip_boxes(Tensor boxes, float height, float width) -> Tensor",
    fake=lambda boxes, height, width: boxes.new_empty(boxes.shape),
)
def clip_boxes_reference(boxes: Tensor, height: float, width: float) -> Tensor:
    """Oracle and fallback of :func:`clip_boxes` on rows [T, 4]."""
    return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))


def overlap(a: Tensor, b: Tensor, plus_one: bool) -> tuple[Tensor, Tensor]:
    """Area of the intersection and of the union of every pair, both [N, M]."""
    extra = float(plus_one)
    area_a, area_b = ((box[:, 2:] - box[:, :2] + extra).prod(1) for box in (a, b))
    corner = torch.minimum(a[:, None, 2:], b[:, 2:]) - torch.maximum(a[:, None, :2], b[:, :2]) + extra
    intersection = corner.clamp(min=0).prod(2)
    return intersection, area_a[:, None] + area_b - intersection


@operator(
    "box_iou(Tensor a, Tensor b, bool plus_one) -> Tensor",
    fake=lambda a, b, plus_one: a.new_empty((a.shape[0], b.shape[0])),
)
def box_iou_reference(a: Tensor, b: Tensor, plus_one: bool) -> Tensor:
    """Oracle and fallback of :func:`box_iou`."""
    intersection, union = overlap(a, b, plus_one)
    return torch.where(intersection > 0, intersection / union, 0.0)

"""Anchor boxes: the two published generators, and the grid that repeats them over a feature map.

A *cell* is the ``[A, 4]`` set of anchors of one map position, x0 y0 x1 y1 in input pixels. Caffe and detectron2
disagree in values, centre and order, so weights carry their cell explicitly; these generators say which one it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from featx.schema import Array

Generator = Literal["caffe", "detectron2"]
RATIOS = (0.5, 1.0, 2.0)  # height / width


def caffe_anchors(scales: Sequence[float] = (4, 8, 16, 32), ratios: Sequence[float] = RATIOS, base: int = 16) -> Array:
    """Cell ``[len(ratios) * len(scales), 4]`` float32 of py-faster-rcnn (``generate_anchors``), ratio outermost.

    Sides are whole pixels counted inclusively (x1 = x0 + w - 1) around ``(base - 1) / 2``; every value is exact.
    """
    centre = (base - 1) / 2
    rows = []
    for ratio in ratios:
        width = np.round(np.sqrt(base * base / ratio))
        height = np.round(width * ratio)
        for scale in scales:
            x, y = (width * scale - 1) / 2, (height * scale - 1) / 2
            rows.append([centre - x, centre - y, centre + x, centre + y])
    return np.array(rows, np.float32)


def detectron2_anchors(sizes: Sequence[float], ratios: Sequence[float] = RATIOS) -> Array:
    """Cell ``[len(sizes) * len(ratios), 4]`` float32 of detectron2 (``DefaultAnchorGenerator``), size outermost.

    Area size**2, height = ratio * width, centred on 0; computed in float64.
    """
    rows = []
    for size in sizes:
        for ratio in ratios:
            width = np.sqrt(size * size / ratio)
            height = ratio * width
            rows.append([-width / 2, -height / 2, width / 2, height / 2])
    return np.array(rows, np.float32)


def standard_anchors(generator: Generator, count: int) -> Array | None:
    """The usual cell of ``count`` anchors: three ratios, and sizes that double up to 512 (scale 32).

    12 is the Visual Genome set (64 to 512), 15 is detectron2's default (32 to 512), 9 that of py-faster-rcnn.
    None when no such set has ``count`` anchors.
    """
    levels, rest = divmod(count, len(RATIOS))
    if rest or not 1 <= levels <= 6:
        return None
    scales = [2.0**k for k in range(6 - levels, 6)]
    return caffe_anchors(scales) if generator == "caffe" else detectron2_anchors([16 * s for s in scales])


def family(cell: Array) -> Generator | Literal["other"]:
    """Which generator a cell ``[A, 4]`` comes from, whatever the order of its rows."""
    generators: tuple[Generator, ...] = ("caffe", "detectron2")
    for generator in generators:
        standard = standard_anchors(generator, len(cell))
        if standard is not None and np.allclose(_ordered(cell), _ordered(standard), rtol=0, atol=1e-3):
            return generator
    return "other"


def grid(cell: Array, height: int, width: int, stride: int, offset: float = 0.0) -> Array:
    """Anchors ``[height * width * A, 4]`` float32 of a feature map, rows in (y, x, anchor) order.

    Position (y, x) moves the cell by ``stride * (x + offset), stride * (y + offset)``. Whole numbers stay exact.
    """
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    shifts = (np.stack([x, y, x, y], -1).reshape(-1, 1, 4) + offset) * stride
    boxes: Array = (shifts.astype(np.float32) + cell.astype(np.float32)).reshape(-1, 4)
    return boxes


def _ordered(cell: Array) -> Array:
    rows: Array = cell[np.lexsort(np.round(cell, 2).T)]
    return rows

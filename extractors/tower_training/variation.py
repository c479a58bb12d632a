"""How a picture is varied from one epoch to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from featx.schema import Array
from featx_extractors.tower_training.options import DataOptions
from featx_extractors.training.batches import brightened, flipped


@dataclass(frozen=True, eq=False)
class Varied:
    """pixels ``[h, w, 3]`` uint8, boxes ``[G, 4]`` in them, and whether left and right are exchanged."""

    pixels: Array
    boxes: Array
    mirrored: bool = False


def varied(pixels: Array, boxes: Array, options: DataOptions, rng: np.random.Generator) -> Varied:
    """A picture as chance would have it."""
    mirrored = bool(rng.random() < options.flip)
    if mirrored:
        pixels, boxes = flipped(pixels, boxes)
    if options.crop < 1:
        pixels, boxes = cropped(pixels, boxes, options.crop, rng)
    if options.brightness:
        pixels = brightened(pixels, 1 + options.brightness * rng.uniform(-1, 1))
    return Varied(pixels, boxes, mirrored)


def cropped(pixels: Array, boxes: Array, least: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """A window at a random place, whose sides are the same random share, at least ``least``, of the picture's.

    It is larger where that is needed to hold all boxes whole, so a text about the picture is about the window, too.
    """
    share, windows = rng.uniform(least, 1), []
    for axis, side in ((1, pixels.shape[1]), (0, pixels.shape[0])):  # across, down
        low, high = (side, 0) if not len(boxes) else _extent(boxes, axis, side)
        length = max(math.ceil(share * side), high - low)
        start = int(rng.integers(max(0, high - length), min(low, side - length) + 1))
        windows.append((start, start + length))
    (left, right), (top, bottom) = windows
    window = np.ascontiguousarray(pixels[top:bottom, left:right])
    return window, boxes - np.array([left, top, left, top], boxes.dtype)


def _extent(boxes: Array, axis: int, side: int) -> tuple[int, int]:
    """First and last border of all boxes across (1) or down (0), in whole pixels of the picture."""
    first = math.floor(boxes[:, 1 - axis].min())
    last = math.ceil(boxes[:, 3 - axis].max())
    return max(first, 0), min(last, side)

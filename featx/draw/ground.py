"""What a text is about: the cells of a grid that show it keep their light, the rest of the picture is darkened."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featx.decode import opencv
from featx.draw.answer import GROUND, LEAST_HEIGHT, LEAST_WIDTH, caption, letter_size
from featx.draw.letters import Pixels
from featx.draw.sheet import Sheet
from featx.errors import UsageError

_FLOOR, _DARKEST = 2 / 5, 0.7  # of iflytek/VLE: where its light begins between least and most, and how much is taken


def darkened(pixels: Pixels, boxes: Pixels, shares: Sequence[float] | Pixels) -> Pixels:
    """The picture, uint8 RGB ``[H, W, 3]``, darkened where a text is not about it (the picture of iflytek/VLE's PBC).

    boxes: cells ``[P, 4]`` in pixels of the picture. shares: of each cell, float ``[P]``, a softmax over the cells. The
    weight w of a cell is 0 up to two fifths of the way from the least share to the greatest, which has 1; a grey of
    255 w lies over the cell with an opacity of 0.7 (1 - w). A pixel is of the cell that its centre lies in; what lies
    in none, because the network never saw it, is darkened most.
    """
    if len(boxes) != len(shares):
        raise UsageError(f"there are {len(boxes)} cells and {len(shares)} shares", "give one share for each cell")
    weights = np.zeros(pixels.shape[:2], np.float64)
    for box, weight in zip(np.asarray(boxes, np.float64), _weights(np.asarray(shares, np.float64)), strict=True):
        x0, y0, x1, y1 = np.ceil(box - 0.5).astype(int).clip(0)
        weights[y0:y1, x0:x1] = weight
    opacity = (_DARKEST * (1 - weights))[..., None]
    return np.asarray(np.rint((1 - opacity) * pixels + opacity * 255 * weights[..., None]).astype(np.uint8))


def draw_ground(
    pixels: Pixels, boxes: Pixels, shares: Sequence[float] | Pixels, text: str, *, footer: Sequence[str] = ()
) -> Pixels:
    """:func:`darkened`, enlarged if it is small, with the text and the facts of ``footer`` below: uint8 RGB."""
    sheet = Sheet.of(darkened(pixels, boxes, shares))
    sheet.widen(LEAST_WIDTH, LEAST_HEIGHT, GROUND)
    below = caption(sheet.width, text, [], footer, letter_size(sheet))
    return np.asarray(opencv().vconcat([sheet.canvas, below]))


def _weights(shares: Pixels) -> Pixels:
    if not len(shares):
        return shares
    most, least = shares.max(), shares.min()
    if most - least <= 0:
        return np.ones(len(shares))
    floor = least + _FLOOR * (most - least)
    return np.asarray(np.clip((shares - floor) / (most - floor), 0, 1))

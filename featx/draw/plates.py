"""Where the label of each box goes, so that labels cover neither each other nor the small boxes.

All arrays are float ``[.., 4]`` boxes ``x0, y0, x1, y1`` in pixels of the canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Boxes = np.ndarray[Any, np.dtype[Any]]

_STEPS = np.linspace(0.0, 1.0, 5)  # along an edge
_RINGS = np.arange(1, 9)  # plate heights away from the box, where nothing nearer is free
_DIRECTIONS = np.linspace(0.0, 2 * np.pi, 16, endpoint=False)
_NEAR_COST, _RING_COST = 0.02, 0.15  # of each later candidate, and of each ring
_HIDE_COST = 1.0  # of hiding a whole small box
_CENTRE_COST = 2.0  # of covering the middle of another box: more than of going to the farthest ring
_CLASH_COST = 20.0  # of covering a whole label, besides 1 for touching it at all
_TOUCHING = 4.0  # pixels
_SMALL = 6.0  # a box of fewer plate areas than this should stay visible


def place(boxes: Boxes, sizes: Sequence[tuple[int, int]], canvas: tuple[int, int]) -> Boxes:
    """A plate ``[N, 4]`` for each box ``[N, 4]``, inside the canvas.

    sizes: (width, height) of each plate; canvas: (width, height). Greedy: small boxes choose first, since
    few places are near them. A place costs by the labels, the small boxes and the middles of boxes it covers, and by
    its distance; where the picture is full, labels overlap as little as they can.
    """
    plates = np.zeros((len(boxes), 4))
    placed: list[int] = []
    for i in np.argsort(area(boxes), kind="stable"):
        size = float(sizes[i][0] * sizes[i][1])
        small = area(boxes) < _SMALL * size
        candidates, cost = _candidates(boxes[i], sizes[i], canvas, inside=not small[i])
        clash = _overlap(candidates, plates[placed])
        cost = cost + (clash > 0).sum(1) + _CLASH_COST * clash.sum(1) / size
        hidden = _overlap(candidates, boxes[small]) / np.maximum(area(boxes[small]), 1.0)
        covered = _holds(candidates, np.delete(boxes, i, axis=0)).sum(1)
        plates[i] = candidates[np.argmin(cost + _HIDE_COST * hidden.sum(1) + _CENTRE_COST * covered)]
        placed.append(int(i))
    return plates


def leader(plate: Boxes, box: Boxes) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The ends of a line from a box to its plate, None when they touch or nearly so."""
    gap = np.maximum(plate[:2] - box[2:], box[:2] - plate[2:]).max()
    if gap <= _TOUCHING:
        return None
    start = np.clip((plate[:2] + plate[2:]) / 2, box[:2], box[2:])
    end = np.clip(start, plate[:2], plate[2:])
    return (int(start[0]), int(start[1])), (int(end[0]), int(end[1]))


def area(boxes: Boxes) -> Boxes:
    """Area ``[N]`` of boxes ``[N, 4]``."""
    return np.asarray(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1))


def _overlap(a: Boxes, b: Boxes) -> Boxes:
    """Area ``[A, B]`` common to each pair."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.asarray(np.prod(np.maximum(high - low, 0), axis=2))


def _holds(plates: Boxes, boxes: Boxes) -> Boxes:
    """Whether each plate lies over the middle of each box, ``[P, N]``."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = (plates[:, None, :2] < middle) & (middle < plates[:, None, 2:])
    return np.asarray(inside.all(axis=2))


def _candidates(box: Boxes, size: tuple[int, int], canvas: tuple[int, int], *, inside: bool) -> tuple[Boxes, Boxes]:
    """Places for a plate, best first, and what each costs by itself: along the top of the box, along its bottom,
    beside it, and then on rings around it. ``inside`` says which side of an edge is better."""
    (x0, y0, x1, y1), (width, height) = box, size
    along = x0 + _STEPS * (x1 - width - x0)
    down = y0 + _STEPS * (y1 - height - y0)
    turned = -1 if inside else 1
    rows = [(along, y) for y in (*(y0 - height, y0)[::turned], *(y1, y1 - height)[::turned])]
    sides = [(x, down) for x in (x1, x0 - width, x0, x1 - width)]
    near = [np.stack(np.broadcast_arrays(x, y), 1) for x, y in (*rows, *sides)]
    turn = np.stack([np.cos(_DIRECTIONS) * width / 2, np.sin(_DIRECTIONS) * height], 1)
    far = [np.array([x0, y0 - height]) + turn * ring for ring in _RINGS]
    corners = np.concatenate([*near, *far])
    cost = np.concatenate(
        [np.repeat(np.arange(len(near)) * _NEAR_COST, len(_STEPS)), np.repeat(_RINGS * _RING_COST, len(turn)) + 0.2]
    )
    corners = np.clip(corners, 0, np.maximum(np.array(canvas) - size, 0))
    return np.concatenate([corners, corners + size], 1), cost

"""Which cells of a grid lie in a box. Boxes are x0, y0, x1, y1 in pixels of the upright original."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from featx.draw.views import are_cells
from featx.vle.losses import IGNORED

Box = Sequence[float]


def covered(cells: torch.Tensor, boxes: Sequence[Box]) -> torch.Tensor:
    """Of each cell ``[N, 4]``, the largest share of its area that lies in one of the boxes: ``[N]``, 0 to 1."""
    if not boxes:
        return torch.zeros(len(cells))
    wanted = torch.tensor([list(box) for box in boxes], dtype=cells.dtype)
    low = torch.maximum(cells[:, None, :2], wanted[None, :, :2])
    high = torch.minimum(cells[:, None, 2:], wanted[None, :, 2:])
    area = (cells[:, 2:] - cells[:, :2]).clamp(min=0).prod(dim=1)
    shared = (high - low).clamp(min=0).prod(dim=2).amax(dim=1)
    return torch.where(area > 0, shared / area.clamp(min=1e-12), 0.0)


def patch_labels(
    cells: torch.Tensor, real: torch.Tensor, boxes: Sequence[Sequence[Box]], share: float = 0.0
) -> torch.Tensor:
    """Labels int64 ``[B, N]`` of the rows of B pictures: 1 for a cell of which more than ``share`` lies in one of the
    picture's boxes, 0 for another; -100 for padding and for a class token, whose box is the whole view.

    A picture with a single row has no cells: that is the whole view, too.

    cells: ``[B, N, 4]`` as records have them, so that resizing and cropping are undone already; real: bool ``[B, N]``.
    With ``share`` 0 a cell is about the text when it overlaps a box at all.
    """
    labels = torch.full(real.shape, IGNORED, dtype=torch.int64)
    for row, (own, wanted) in enumerate(zip(cells, boxes, strict=True)):
        labels[row] = torch.where(_cells(own, real[row]), (covered(own, wanted) > share).long(), IGNORED)
    return labels


def _cells(boxes: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """bool ``[N]``: which of the rows of a picture are cells of it."""
    found = torch.zeros_like(real)
    if real.sum() > 1:
        found[real] = torch.from_numpy(are_cells(boxes[real].float().numpy()))
    return found


def patches_of(box: Box, width: float, height: float, image_size: int, patch_size: int) -> list[int]:
    """Numbers of the patches that a box touches, row by row from 0, on a picture that is *stretched* to a square.

    So the original finds the patches of an object, although its own preprocessing crops: for a model that was trained
    with that. Both ends of the box count, and it is cut off at the picture's edge.
    """
    side = image_size // patch_size
    (x0, x1), (y0, y1) = _span(box[0], box[2], width / side, side), _span(box[1], box[3], height / side, side)
    return [y * side + x for y in range(y0, y1 + 1) for x in range(x0, x1 + 1)]


def _span(low: float, high: float, step: float, side: int) -> tuple[int, int]:
    """The first and the last cell of an axis that lie between two coordinates."""
    first, last = (min(max(int(value // step), 0), side - 1) for value in (low, high))
    return first, last

"""What each cell of the grid is to say: which thing is there, what it is like, and where its box ends.

A cell belongs to the thing in whose box its centre lies most centrally, the box being widened by half a cell and then
narrowed to 85 %; to none, if it lies in no such box. One cell sees little of a thing and says its name all the same, so
a row of the grid knows more than its own pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional

from featx.schema import Array
from featx_extractors.tower_training.options import LossOptions
from featx_extractors.training.coco import Names

CENTRAL = 0.85
EDGES = 4


class Cells:
    """A grid of ``rows`` times ``columns`` over a picture, and the names of what may be in it."""

    def __init__(self, rows: int, columns: int, names: Names) -> None:
        self.rows, self.columns, self.names = rows, columns, names

    def __len__(self) -> int:
        """How many there are."""
        return self.rows * self.columns

    @property
    def outputs(self) -> int:
        """Numbers a cell says: a logit for each class and for nothing, one for each attribute, and four edges."""
        return len(self.names.objects) + 1 + len(self.names.attributes) + EDGES

    def targets(
        self, boxes: Array, classes: Array, attributes: Sequence[Sequence[int]], size: tuple[int, int]
    ) -> dict[str, Array]:
        """What is wanted of the cells of a picture of ``size`` (height, width), boxes ``[G, 4]`` in its pixels.

        classes ``[N]`` int64, the number of classes where there is nothing; attributes ``[N, A]`` float32; edges
        ``[N, 4]`` float32: x0 y0 x1 y1 of the box from the centre of the cell, in cells.
        """
        height, width = size
        unit = np.array([self.columns / width, self.rows / height] * 2)
        scaled = boxes.astype(np.float64) * unit  # in cells
        x, y = (axis.ravel() + 0.5 for axis in np.meshgrid(np.arange(self.columns), np.arange(self.rows)))
        owner = _owners(scaled, x, y)
        there = owner >= 0
        kinds = np.full(len(self), len(self.names.objects), np.int64)
        kinds[there] = classes[owner[there]]
        named = np.zeros((len(boxes), len(self.names.attributes)), np.float32)
        for row, ids in zip(named, attributes, strict=True):
            row[list(ids)] = 1
        like, edges = np.zeros((len(self), named.shape[1]), np.float32), np.zeros((len(self), EDGES), np.float32)
        like[there] = named[owner[there]]
        edges[there] = scaled[owner[there]] - np.stack([x, y, x, y], 1)[there]
        return {"classes": kinds, "attributes": like, "edges": edges}

    def losses(self, said: torch.Tensor, batch: Mapping[str, torch.Tensor], weights: LossOptions) -> torch.Tensor:
        """Scalar: the weighted sum over what ``said [B, N, outputs]`` is wrong about.

        Cross entropy of the classes over all cells; over cells with a thing, binary cross entropy summed over the
        attributes, and smooth L1 of the edges.
        """
        kinds, like, edges = self.split(said.float())
        there = batch["classes"] < len(self.names.objects)
        total = weights.classes * functional.cross_entropy(kinds.flatten(0, 1), batch["classes"].flatten())
        if there.any():
            if self.names.attributes:
                wrong = functional.binary_cross_entropy_with_logits(like[there], batch["attributes"][there])
                total = total + weights.attributes * wrong * len(self.names.attributes)
            total = total + weights.boxes * functional.smooth_l1_loss(edges[there], batch["edges"][there])
        return total

    def split(self, said: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Classes ``[..., C + 1]``, attributes ``[..., A]``, edges ``[..., 4]``."""
        parts = [len(self.names.objects) + 1, len(self.names.attributes), EDGES]
        return tuple(torch.split(said, parts, dim=-1))


def _owners(boxes: Array, x: Array, y: Array) -> Array:
    """int64 ``[N]``: the box of each cell, -1 for none; boxes ``[G, 4]`` and centres in cells."""
    if not len(boxes):
        return np.full(len(x), -1, np.int64)
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 + 0.5
    centres = np.stack([x, y], 1)
    away = (np.abs(centres[:, None] - middle) / half).max(axis=2)  # [N, G], 1 at the border
    nearest = away.argmin(axis=1)
    return np.where(away[np.arange(len(x)), nearest] < CENTRAL, nearest, -1)

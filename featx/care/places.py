"""Where on the picture boxes lie: how many of them cover each cell of a grid."""

from __future__ import annotations

import numpy as np

from featx.schema import Array

CELLS = 48


class Places:
    """Counts on a grid of 48 x 48 cells laid over every picture."""

    def __init__(self) -> None:
        self._steps = np.zeros((CELLS + 1, CELLS + 1), np.int64)
        self.boxes = 0

    def add(self, boxes: Array) -> None:
        """Take up boxes ``[N, 4]`` in units of the picture; what lies outside is cut."""
        cells = np.clip(boxes, 0, 1) * CELLS
        x0, y0 = np.floor(cells[:, :2]).astype(np.int64).T
        x1, y1 = np.ceil(cells[:, 2:]).astype(np.int64).T
        for x, y, sign in ((x0, y0, 1), (x1, y1, 1), (x0, y1, -1), (x1, y0, -1)):
            np.add.at(self._steps, (np.clip(y, 0, CELLS), np.clip(x, 0, CELLS)), sign)
        self.boxes += len(boxes)

    def grid(self) -> Array:
        """Share of all boxes that cover each cell, float64 ``[48, 48]``, the first row on top."""
        covered = np.cumsum(np.cumsum(self._steps, axis=0), axis=1)[:CELLS, :CELLS]
        return np.asarray(covered / max(self.boxes, 1))

"""Where what a tower saw lies in the original: cells of its patches, and the view they make up together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.schema import Array


@dataclass(frozen=True)
class Frame:
    """How a network's input relates to the original; every pair is (height, width) or (top, left).

    original: of the picture. resized: of the whole picture after resizing. offset: of the input's corner in the resized
    picture, negative where the input is larger and padded. size: of the input. patch: side of a patch, pixels.
    """

    original: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int]
    size: tuple[int, int]
    patch: int

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches; what is left over at the lower and right border no patch covers."""
        return self.size[0] // self.patch, self.size[1] // self.patch

    def edges(self, axis: int) -> Array:
        """Borders of the patches along an axis (0 down, 1 across) in pixels of the original, float64 ``[n + 1]``."""
        places = np.arange(self.grid[axis] + 1, dtype=np.float64) * self.patch + self.offset[axis]
        inside = places * (self.original[axis] / self.resized[axis])
        return np.clip(inside, 0.0, float(self.original[axis]))

    def cells(self) -> Array:
        """Boxes of the patches, row by row: float32 ``[rows * columns, 4]``, x0 y0 x1 y1, pixels of the original."""
        down, across = self.edges(0), self.edges(1)
        rows, columns = np.indices(self.grid).reshape(2, -1)
        return np.stack([across[columns], down[rows], across[columns + 1], down[rows + 1]], axis=1).astype(np.float32)

    def view(self) -> Array:
        """The box of all patches together, float32 ``[1, 4]``."""
        down, across = self.edges(0), self.edges(1)
        return np.array([[across[0], down[0], across[-1], down[-1]]], np.float32)

    def boxes(self, cls: bool) -> Array:
        """The cells, behind the view if there is a class token."""
        return np.concatenate([self.view(), self.cells()]) if cls else self.cells()


def turned(boxes: Array, quarters: int, size: tuple[int, int]) -> Array:
    """Boxes of a picture that was turned counter-clockwise by ``quarters`` of a circle -> boxes of the upright one.

    size: (height, width) of the upright one, pixels.
    """
    x0, y0, x1, y1 = boxes.T
    height, width = (np.float32(side) for side in size)
    upright = {
        0: (x0, y0, x1, y1),
        1: (width - y1, x0, width - y0, x1),
        2: (width - x1, height - y1, width - x0, height - y0),
        3: (y0, height - x1, y1, height - x0),
    }
    return np.stack(upright[quarters % 4], axis=1).astype(np.float32)

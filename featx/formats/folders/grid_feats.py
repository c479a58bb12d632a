"""The folder of torch files of facebookresearch/grid-feats-vqa (``extract_grid_feature.py``), one per picture.

``NUMBER.pth``: one float32 tensor [1, C, H, W], whose number is that of the picture in COCO. Here each of the H x W
places is a region, row by row from the top left, whose box is its share of the picture: the places tile it evenly. So
the size of the picture must be told. What a place really sees is more, and its stride is not in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from featx.errors import UsageError
from featx.formats.base import FLOAT32
from featx.formats.folders.pictures import PictureFolder, content
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.values.torch_tensor import dump_tensor, load_tensor
from featx.record import Record
from featx.schema import Array

_APART = 0.01  # pixels that a box may be away from its tile


class GridFeats(PictureFolder):
    """grid-feats-vqa."""

    name = "grid-feats-pth"
    title = "torch files of grid-feats-vqa"
    source = "facebookresearch/grid-feats-vqa, extract_grid_feature.py"
    losses = (
        "pictures have numbers for names, and the order of these as text; --ids says how a key becomes one",
        "boxes are even tiles of the picture, whose size is not in the files",
        "only features are in the files",
        FLOAT32,
    )
    boxes = "grid"
    takes = frozenset({"key", "sizes"})
    gives = frozenset({"ids"})
    ending = ".pth"
    sized = True

    def fits(self, place: Path) -> bool:
        return len(_grid(load_tensor(content(place)))) > 0

    def load(self, root: Path, name: str, size: tuple[int, int] | None, options: Options) -> Record:
        assert size is not None
        [place] = self.places(root, name)
        channels, rows, columns = (grid := _grid(load_tensor(content(place)))).shape
        features = np.ascontiguousarray(grid.reshape(channels, rows * columns).T)
        return Record(features, tiles(rows, columns, size), size)

    def check(self, records: Records) -> None:
        records.check_numbers()

    def name_of(self, key: str, records: Records) -> str:
        return super().name_of(str(records.number(key)), records)

    def files(self, key: str, record: Record) -> Iterator[tuple[str, bytes]]:
        rows, columns = _shape(key, record)
        grid = record.features.astype("<f4").T.reshape(1, -1, rows, columns)
        yield key + self.ending, dump_tensor(grid)


def tiles(rows: int, columns: int, size: tuple[int, int]) -> Array:
    """Boxes float32 [rows * columns, 4], pixels, that tile a picture of ``size`` (height, width) evenly, row by row."""
    height, width = size
    y, x = np.arange(rows + 1) * (height / rows), np.arange(columns + 1) * (width / columns)
    left, top = (corner.ravel() for corner in np.meshgrid(x[:-1], y[:-1]))
    right, bottom = (corner.ravel() for corner in np.meshgrid(x[1:], y[1:]))
    return np.stack([left, top, right, bottom], 1).astype("<f4")


def _grid(tensor: Array) -> Array:
    """[C, H, W] of a tensor. Raises ValueError for another shape, also for one whose channels come last."""
    if tensor.ndim != 4 or len(tensor) != 1 or not tensor.size:
        raise ValueError(f"its tensor is {list(tensor.shape)}, expected [1, C, H, W]")
    if tensor.shape[3] > tensor.shape[1]:
        raise ValueError(f"its tensor is {list(tensor.shape)}: the channels seem to come last, expected [1, C, H, W]")
    grid: Array = tensor[0]
    return grid


def _shape(key: str, record: Record) -> tuple[int, int]:
    """Rows and columns of the grid that the boxes of a record are. Raises UsageError when they are none."""
    starts = record.boxes[:, 1] <= _APART  # the boxes of the first row of tiles
    columns = int(starts.sum())
    if columns and len(record) % columns == 0:
        rows = len(record) // columns
        if np.abs(record.boxes - tiles(rows, columns, record.size)).max() <= _APART:
            return rows, columns
    raise UsageError(
        f"the {len(record)} boxes of picture {key!r} do not tile it as a grid", "export another format, for regions"
    )

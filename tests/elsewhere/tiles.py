"""An extractor: the mean colour of the four quarters of a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featx.extractor import Extractor, Picture
from featx.record import Record
from featx.schema import Field, Schema


class Tiles(Extractor):
    """``scale``: what a full channel becomes."""

    name = "elsewhere-tiles"
    schema = Schema((Field("features", "float32", (3,)), Field("boxes", "float32", (4,))), "grid", "grid", 4)

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Tiles:
        own = dict(options)
        own |= {name: value for name, value in (own.pop("profile", None) or {}).items() if name == "scale"}
        return cls(**{name: value for name, value in own.items() if name == "scale" and value is not None})

    def provenance(self) -> dict[str, Any]:
        return {"extractor": self.name, "profile": {"hash": f"tiles-{self.scale}", "scale": self.scale}}

    def prepare(self, picture: Picture) -> Picture:
        return picture

    def __call__(self, batch: Sequence[Picture]) -> list[Record]:
        return [self._record(picture) for picture in batch]

    def _record(self, picture: Picture) -> Record:
        height, width = picture.size
        x, y = width // 2, height // 2
        boxes = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
        means = [picture.pixels[y0:y1, x0:x1].mean(axis=(0, 1)) for x0, y0, x1, y1 in boxes]
        return Record(
            (np.array(means) / 255 * self.scale).astype(np.float32), np.array(boxes, np.float32), picture.size
        )

"""An extractor without a network: records recomputable from the pixels, so that any wrong byte shows."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featx.errors import PictureRefused
from featx.extractor import Extractor, Picture
from featx.record import Record
from featx.schema import region_schema


def expected(pixels: np.ndarray[Any, Any]) -> Record:
    """The record of a picture: 4 regions, 16-d, everything drawn from a generator seeded by the pixels."""
    seed = int.from_bytes(hashlib.sha256(pixels.tobytes()).digest()[:8], "little")
    random, (height, width) = np.random.default_rng(seed), pixels.shape[:2]
    corners = np.sort(random.random((4, 2, 2), np.float32), axis=1).reshape(4, 4) * [width, height, width, height]
    extra = {
        "object_ids": random.integers(0, 9, 4, np.int32),
        "object_confs": random.random(4, np.float32),
    }
    return Record(random.random((4, 16), np.float32).astype(np.float16), corners.astype(np.float32),
                  (height, width), 4, extra)  # fmt: skip


class Fake(Extractor):
    """Counts its calls; may be slow, run out of memory above a batch size, or refuse dark pictures."""

    name = "fake"

    def __init__(self, slow: float = 0.0, memory: int = 100, dark: bool = False, groups: bool = False) -> None:
        self.schema = region_schema(16, "float16", attributes=False, rows=4)
        self.slow, self.memory, self.dark, self.groups = slow, memory, dark, groups
        self.seen: list[str] = []
        self.batches: list[int] = []

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Fake:
        return cls(**options)

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        return {"objects": [f"thing {i}" for i in range(9)]}

    def provenance(self) -> dict[str, Any]:
        return {"extractor": self.name, "version": 1}

    def prepare(self, picture: Picture) -> Picture:
        if self.dark and not picture.pixels.any():
            raise PictureRefused("dark", "the picture is black", "switch on the light")
        return picture

    def group(self, prepared: Picture) -> Any:
        return prepared.size if self.groups else None

    def __call__(self, batch: Sequence[Picture]) -> list[Record]:
        if len(batch) > self.memory:
            raise MemoryError
        time.sleep(self.slow)
        self.seen += [picture.key for picture in batch]
        self.batches.append(len(batch))
        return [expected(picture.pixels) for picture in batch]

"""What a scene is: things with a kind and three attributes, on a picture of a certain size.

Everything about picture ``index`` of a split is a pure function of (seed, split, index): each purpose has its own
stream of random numbers, so that neither the number of processes nor another purpose's appetite changes a picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

KINDS = (
    "apple", "balloon", "boat", "book", "butterfly", "car", "cat", "cup",
    "duck", "fish", "flower", "hat", "house", "star", "tree", "umbrella",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "black", "white")
PATTERNS = ("plain", "striped", "dotted")
SIZES = ("small", "large")
ATTRIBUTES = COLOURS + PATTERNS + SIZES

Split: TypeAlias = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")
FIRST_ID = {"train": 1, "val": 100_001}  # of the pictures; ids are unique over both splits
Purpose: TypeAlias = Literal["layout", "paint", "questions", "annotators", "captions", "references", "snapshot"]
_PURPOSES: tuple[Purpose, ...] = ("layout", "paint", "questions", "annotators", "captions", "references", "snapshot")


class Box(NamedTuple):
    """Whole pixels of the picture; x1 and y1 are behind the last one."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y)"""
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def iou(self, other: Box) -> float:
        """Intersection over union."""
        wide = min(self.x1, other.x1) - max(self.x0, other.x0)
        high = min(self.y1, other.y1) - max(self.y0, other.y0)
        shared = max(wide, 0) * max(high, 0)
        return shared / (self.area + other.area - shared)

    @property
    def area(self) -> int:
        """Pixels inside."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)


NOWHERE = Box(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing as it is in the picture.

    extent: longest side of its full silhouette in pixels, which decides ``size``; turn: degrees clockwise; flip: left
    and right exchanged; stretch: width over height, relative to the drawing. left, top: where its patch of the
    picture begins. box, area: of the silhouette that is left when nearer things have covered it.
    """

    kind: str
    colour: str
    pattern: str
    size: str
    extent: float
    turn: float
    flip: bool
    stretch: float
    left: int = 0
    top: int = 0
    box: Box = NOWHERE
    area: int = 0


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture's content. things: from the farthest to the nearest, the order in which they are painted."""

    seed: int
    split: Split
    index: int
    width: int
    height: int
    things: tuple[Thing, ...]

    @property
    def id(self) -> int:
        """The number of the picture in every file."""
        return FIRST_ID[self.split] + self.index

    @property
    def key(self) -> str:
        """Stem of the file name and key in a store."""
        return f"scene_{self.id:012d}"


def stream(seed: int, split: Split, index: int, purpose: Purpose) -> np.random.Generator:
    """The random numbers of one picture for one purpose."""
    entropy = np.random.SeedSequence([seed, SPLITS.index(split), index, _PURPOSES.index(purpose)])
    return np.random.Generator(np.random.Philox(entropy))

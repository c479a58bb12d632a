"""Which things a scene has and where they stand.

Repetition is planned, or there would be little to count and to compare: scenes often hold a family of one kind or a
group of one colour. Nothing is hidden by more than a third, and what is left of a thing never looks like another size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from featx.scenes.figure import Figure
from featx.scenes.world import COLOURS, KINDS, PATTERNS, SIZES, Box, Scene, Split, Thing, stream

FEWEST, MOST = 3, 8
EXTENT = {"small": (34.0, 48.0), "large": (72.0, 104.0)}  # pixels of the longest side
HIDDEN = {"small": 0.18, "large": 0.32}  # share of a silhouette, at most
KEPT = 0.86  # of the longest side of its box, at least
SAME_KIND_IOU = 0.15  # of the boxes, at most

_SHAPES = ((320, 240), (320, 240), (320, 240), (320, 240), (240, 320), (288, 288), (352, 256), (256, 256))
_HOW_MANY = (0.10, 0.16, 0.20, 0.20, 0.18, 0.16)  # 3, 4, ... 8 things
_TRIES = 60  # places tried for a thing before the scene does without it
_CLOSE = 0.3  # share of things that are put next to, and perhaps over, another one
_EDGE = 1  # pixels between a thing's patch and the border of the picture


@dataclass(frozen=True, slots=True)
class Placed:
    """A thing with its silhouette, bool [height, width] of its patch, and the box of that in the patch."""

    thing: Thing
    mask: NDArray[np.bool_]

    @property
    def foot(self) -> int:
        """Where it stands; what stands lower is nearer."""
        return self.thing.top + int(self.mask.shape[0])


def lay_out(seed: int, split: Split, index: int) -> Scene:
    """Content of one picture; a pure function of its arguments."""
    rng = stream(seed, split, index, "layout")
    width, height = _SHAPES[rng.integers(len(_SHAPES))]
    while True:
        placed: list[Placed] = []
        for thing in _company(rng):
            _place(thing, placed, width, height, rng)
        if len(placed) >= FEWEST:
            break
    placed.sort(key=lambda p: p.foot)
    things = [
        replace(p.thing, box=_box(mask), area=int(mask.sum()))
        for p, mask in zip(placed, visible(placed, width, height), strict=True)
    ]
    return Scene(seed, split, index, width, height, tuple(things))


def visible(placed: list[Placed], width: int, height: int) -> list[NDArray[np.bool_]]:
    """What can be seen of each, bool [height, width] of the picture; later ones cover earlier ones."""
    free = np.ones((height, width), bool)
    masks = []
    for p in reversed(placed):
        mask = np.zeros((height, width), bool)
        where = _window(p)
        mask[where] = p.mask & free[where]
        free[where] &= ~p.mask
        masks.append(mask)
    return masks[::-1]


def _company(rng: np.random.Generator) -> list[Thing]:
    """The things of one scene, large ones first because they need room."""
    count = int(rng.choice(np.arange(FEWEST, MOST + 1), p=_HOW_MANY))
    kinds = _with_repeats(KINDS, count, 0.45, rng)
    colours = _with_repeats(COLOURS, count, 0.45, rng)
    patterns = [str(rng.choice(PATTERNS)) for _ in range(count)]
    sizes = [str(rng.choice(SIZES)) for _ in range(count)]
    things = [
        Thing(
            kind, colour, pattern, size,
            extent=float(rng.uniform(*EXTENT[size])), turn=float(rng.uniform(-12, 12)),
            flip=bool(rng.integers(2)), stretch=float(rng.uniform(0.93, 1.07)),
        )
        for kind, colour, pattern, size in zip(kinds, colours, patterns, sizes, strict=True)
    ]  # fmt: skip
    return sorted(things, key=lambda t: t.size == "small")


def _with_repeats(names: tuple[str, ...], count: int, share: float, rng: np.random.Generator) -> list[str]:
    """``count`` names; with probability ``share`` two to five of them are the same one."""
    chosen = [str(name) for name in rng.choice(names, count)]
    if rng.random() < share:
        group = min(count, int(rng.integers(2, 6)))
        chosen[:group] = [chosen[0]] * group
    return [chosen[k] for k in rng.permutation(count)]


def _place(thing: Thing, placed: list[Placed], width: int, height: int, rng: np.random.Generator) -> None:
    """Put one more thing into the scene, if a place is found for it."""
    mask = Figure(thing).silhouette()
    high, wide = mask.shape
    for _ in range(_TRIES):
        left, top = (int(rng.integers(_EDGE, side - _EDGE + 1)) for side in (width - wide, height - high))
        if placed and rng.random() < _CLOSE:
            left, top = _beside(placed[rng.integers(len(placed))], wide, high, rng)
            left = int(np.clip(left, _EDGE, width - wide - _EDGE))
            top = int(np.clip(top, _EDGE, height - high - _EDGE))
        candidate = Placed(replace(thing, left=left, top=top), mask)
        if _fits(candidate, placed, width, height):
            placed.append(candidate)
            return


def _beside(other: Placed, wide: int, high: int, rng: np.random.Generator) -> tuple[int, int]:
    """Left and top that make a patch of this size touch or overlap the other one."""
    angle, gap = rng.uniform(0, 2 * np.pi), rng.uniform(0.65, 1.1)
    x, y = (other.thing.left + other.mask.shape[1] / 2, other.thing.top + other.mask.shape[0] / 2)
    x += gap * np.cos(angle) * (wide + other.mask.shape[1]) / 2
    y += gap * np.sin(angle) * (high + other.mask.shape[0]) / 2
    return round(x - wide / 2), round(y - high / 2)


def _fits(candidate: Placed, placed: list[Placed], width: int, height: int) -> bool:
    """Whether everything stays recognisable with the candidate in the scene."""
    patch = _patch(candidate)
    if not any(patch.iou(_patch(p)) for p in placed):
        return True
    everyone = sorted([*placed, candidate], key=lambda p: p.foot)
    boxes = []
    for p, seen in zip(everyone, visible(everyone, width, height), strict=True):
        if seen.sum() < (1 - HIDDEN[p.thing.size]) * p.mask.sum():
            return False
        boxes.append(_box(seen))
        if _longest(boxes[-1]) < KEPT * _longest(_box(p.mask)):
            return False
    kinds = [p.thing.kind for p in everyone]
    return not any(
        kinds[i] == kinds[j] and boxes[i].iou(boxes[j]) > SAME_KIND_IOU for i in range(len(kinds)) for j in range(i)
    )


def _window(p: Placed) -> tuple[slice, slice]:
    high, wide = p.mask.shape
    return slice(p.thing.top, p.thing.top + high), slice(p.thing.left, p.thing.left + wide)


def _patch(p: Placed) -> Box:
    high, wide = p.mask.shape
    return Box(p.thing.left, p.thing.top, p.thing.left + wide, p.thing.top + high)


def _box(mask: NDArray[np.bool_]) -> Box:
    """The tight box around what is set; something must be."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _longest(box: Box) -> int:
    return max(box.x1 - box.x0, box.y1 - box.y0)

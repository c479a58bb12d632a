"""The figure of a thing: its drawing in pixels, and the silhouette that it leaves on the picture."""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from featx.scenes import living, made
from featx.scenes.curves import Curve, Drawing, Part
from featx.scenes.world import Thing

FINE = 4  # a pixel is drawn as FINE x FINE finer ones and averaged
_MARGIN = 3  # pixels of a patch around its figure
_SUBPIXEL_BITS = 4

Mask: TypeAlias = NDArray[np.uint8]

DRAWINGS: dict[str, Drawing] = {
    "apple": living.apple, "balloon": made.balloon, "boat": made.boat, "book": made.book,
    "butterfly": living.butterfly, "car": made.car, "cat": living.cat, "cup": made.cup,
    "duck": living.duck, "fish": living.fish, "flower": living.flower, "hat": made.hat,
    "house": made.house, "star": made.star, "tree": living.tree, "umbrella": made.umbrella,
}  # fmt: skip


class Figure:
    """A thing's parts as polygons in the fine pixels of its own patch.

    parts: (corners float64 [K, 2] in fine pixels, part); width, height: of the patch in pixels of the picture.
    """

    def __init__(self, thing: Thing) -> None:
        drawn = [(_moved(part.curve, thing), part) for part in drawing(thing.kind)]
        corners = np.concatenate([curve for curve, _ in drawn])
        low, high = corners.min(0), corners.max(0)
        scale = thing.extent / (high - low).max()
        self.width, self.height = (int(np.ceil(side * scale)) + 2 * _MARGIN for side in high - low)
        centre = np.array([self.width, self.height]) / 2
        middle = (low + high) / 2
        self.parts = [(((curve - middle) * scale + centre) * FINE, part) for curve, part in drawn]
        self._line = max(1.0, 0.02 * thing.extent) * FINE

    def fill(self, canvas: NDArray[np.uint8], curve: Curve, value: float | tuple[float, ...]) -> None:
        """Fill one curve, in place."""
        cv2.fillPoly(canvas, [_fixed_point(curve)], value, cv2.LINE_8, _SUBPIXEL_BITS)

    def line(self, canvas: NDArray[np.uint8], curve: Curve, part: Part, value: float | tuple[float, ...]) -> None:
        """The line around one part, in place; nothing for a part without."""
        if part.line:
            width = max(1, round(self._line * part.line))
            cv2.polylines(canvas, [_fixed_point(curve)], True, value, width, cv2.LINE_8, _SUBPIXEL_BITS)

    def fine_mask(self) -> Mask:
        """Where the figure is: 255 or 0, [height * FINE, width * FINE]."""
        mask = np.zeros((self.height * FINE, self.width * FINE), np.uint8)
        for curve, part in self.parts:
            self.fill(mask, curve, 255)
            self.line(mask, curve, part, 255)
        return mask

    def coverage(self) -> Mask:
        """Share of each pixel that the figure covers, 0 to 255, [height, width]."""
        return coarse(self.fine_mask())

    def silhouette(self) -> NDArray[np.bool_]:
        """The pixels that count as the thing's: at least half covered, [height, width]."""
        return self.coverage() >= 128


def coarse(fine: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fine pixels averaged to pixels."""
    high, wide = fine.shape[:2]
    return np.asarray(cv2.resize(fine, (wide // FINE, high // FINE), interpolation=cv2.INTER_AREA), np.uint8)


@cache
def drawing(kind: str) -> tuple[Part, ...]:
    """The parts of a kind in the unit frame, from back to front."""
    return tuple(DRAWINGS[kind]())


def _moved(curve: Curve, thing: Thing) -> Curve:
    """Stretched, flipped and turned, still in the unit frame."""
    wide = curve * (-thing.stretch if thing.flip else thing.stretch, 1.0)
    c, s = np.cos(np.deg2rad(thing.turn)), np.sin(np.deg2rad(thing.turn))
    moved: Curve = wide @ np.array([[c, s], [-s, c]])
    return moved


def _fixed_point(curve: Curve) -> NDArray[np.int32]:
    """OpenCV's coordinates: whole numbers are the middles of pixels."""
    return np.round((curve - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)

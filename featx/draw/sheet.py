"""A sheet to draw on: the picture, large enough for text, with outlines of regions and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featx.decode import opencv
from featx.draw import letters
from featx.draw.letters import Colour, Pixels
from featx.draw.plates import area, leader, place

_LONG_SIDE, _MOST_ZOOM = 1280, 8  # small photos are enlarged up to this, so that text has room
_BLACK: Colour = (0, 0, 0)
_WHITE: Colour = (255, 255, 255)


@dataclass
class Sheet:
    """canvas: uint8 RGB, a copy. zoom: pixels of it for one of the picture. left: where on it the picture begins."""

    canvas: Pixels
    zoom: float
    left: int = 0

    @classmethod
    def of(cls, pixels: Pixels) -> Sheet:
        """The picture, uint8 RGB ``[H, W, 3]``, enlarged if it is small."""
        cv2 = opencv()
        zoom = min(max(1.0, _LONG_SIDE / max(pixels.shape[:2])), _MOST_ZOOM)
        size = [max(1, round(side * zoom)) for side in pixels.shape[1::-1]]
        return cls(pixels.copy() if zoom == 1.0 else cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC), zoom)

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.canvas.shape[1])

    def widen(self, width: int, height: int, colour: Colour) -> None:
        """Give a narrow or flat picture margins, for its labels and the text below."""
        cv2 = opencv()
        below, spare = (max(0, least - side) for least, side in zip((height, width), self.canvas.shape, strict=False))
        sides = (spare // 2, spare - spare // 2)
        self.canvas = cv2.copyMakeBorder(self.canvas, 0, below, *sides, cv2.BORDER_CONSTANT, value=colour)
        self.left += sides[0]

    def places(self, boxes: Pixels) -> Pixels:
        """Boxes ``[N, 4]`` in pixels of the picture -> float64 pixels of the canvas."""
        return np.asarray(boxes.astype(np.float64) * self.zoom + (self.left, 0, self.left, 0))

    def outline(self, box: Pixels, colour: Colour, thick: int, opacity: float = 1.0) -> None:
        """A line around a box ``[4]`` of the canvas, with a dark rim so that it is seen on any ground."""
        cv2 = opencv()
        x0, y0, x1, y1 = corners(box, self.canvas)
        layer = self.canvas.copy() if opacity < 1 else self.canvas
        cv2.rectangle(layer, (x0, y0), (x1, y1), _BLACK, thick + 2)
        cv2.rectangle(layer, (x0, y0), (x1, y1), colour, thick)
        if opacity < 1:
            self.canvas[:] = cv2.addWeighted(layer, opacity, self.canvas, 1 - opacity, 0)

    def label(self, boxes: Pixels, texts: Sequence[str], colours: Sequence[Colour], size: int) -> None:
        """A plate with its text for each box ``[N, 4]`` of the canvas; a line leads to one that stands apart."""
        cv2, pad = opencv(), round(size * 0.35)
        room = self.width - 2 * pad
        shown = [letters.shortened(text, size, room) for text in texts]
        sizes = [(letters.measure(text, size) + 2 * pad, size + 2 * pad) for text in shown]
        plates = place(boxes, sizes, (self.width, len(self.canvas)))
        order = np.argsort(-area(boxes), kind="stable")  # small boxes over large ones
        for i in order:
            ends = leader(plates[i], boxes[i])
            if ends:
                cv2.line(self.canvas, *ends, _BLACK, 4, cv2.LINE_AA)
                cv2.line(self.canvas, *ends, colours[i], 2, cv2.LINE_AA)
        for i in order:
            x0, y0, x1, y1 = (int(v) for v in plates[i])
            cv2.rectangle(self.canvas, (x0, y0), (x1 - 1, y1 - 1), colours[i], cv2.FILLED)
            cv2.rectangle(self.canvas, (x0, y0), (x1 - 1, y1 - 1), _BLACK, 1)
            letters.write(self.canvas, shown[i], (x0 + pad, letters.base(y0, y1, size)), size, ink(colours[i]))


def corners(box: Pixels, canvas: Pixels) -> tuple[int, int, int, int]:
    """Whole pixels ``x0, y0, x1, y1`` of a box ``[4]``, on the canvas."""
    limit = np.array(canvas.shape[1::-1] * 2) - 1
    x0, y0, x1, y1 = (int(v) for v in np.clip(np.rint(box), 0, limit))
    return x0, y0, x1, y1


def ink(plate: Colour) -> Colour:
    """Black or white, whichever stands out more: 4.5 to 1 at least, by the contrast ratio of WCAG 2."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in plate)]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return _BLACK if (luminance + 0.05) ** 2 > 1.05 * 0.05 else _WHITE

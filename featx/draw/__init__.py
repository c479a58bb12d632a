"""A record drawn on its picture: boxes, names, confidences, legible on any photo."""

from __future__ import annotations

import colorsys
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from featx.decode import opencv
from featx.draw.plates import area, leader, place
from featx.errors import UsageError
from featx.labels import region_name
from featx.record import Record
from featx.schema import Schema

__all__ = ["draw", "encode_png", "save_png"]

Pixels = np.ndarray[Any, np.dtype[Any]]
Labels = Mapping[str, Sequence[str]]
Colour = tuple[int, int, int]

_LONG_SIDE, _MOST_ZOOM = 1280, 8  # small photos are enlarged up to this, so that text has room
_LEAST_TEXT = 16  # pixels
_BLACK: Colour = (0, 0, 0)
_WHITE: Colour = (255, 255, 255)
_MARGIN: Colour = (60, 60, 60)
_AMBER: Colour = (255, 200, 80)


def draw(
    pixels: Pixels,
    record: Record,
    labels: Labels | None,
    *,
    top: int = 36,
    min_conf: float = 0.0,
    which: str = "boxes",
    note: str = "",
    key: str = "",
    schema: Schema | None = None,
) -> Pixels:
    """The picture with its regions: uint8 RGB, enlarged if it is small, with a footer.

    pixels: uint8 ``[H, W, 3]`` RGB, the upright original of the record. labels: names by ``objects`` and
    ``attributes``, or None: then ids are shown. Drawn are the ``top`` surest regions of at least
    ``min_conf``; small boxes lie over large ones. which: ``boxes`` (those the record calls so),
    ``proposal``, ``regressed``, or ``pooled`` (those the features were taken from; needs ``schema``).
    The footer names ``key``, how many boxes, which ones, and ``note``.

    Raises UsageError when the picture is not the record's or the record has no such boxes.
    """
    size = f"{record.size[1]} x {record.size[0]}"
    if pixels.shape != (*record.size, 3):
        raise UsageError(
            f"the picture is {pixels.shape[1]} x {pixels.shape[0]}, the record was made from one of {size}",
            "draw on the picture the record was extracted from, upright",
        )
    boxes, kind = _boxes(record, which, schema)
    rows = _rows(record, top, min_conf)
    sheet = _Sheet.of(pixels)
    sheet.regions(boxes[rows].astype(np.float64), [_label(record, row, labels) for row in rows])
    facts = [key, f"{len(rows)} of {len(record)} boxes", kind, f"{size} pixels"]
    return sheet.with_footer("  |  ".join(filter(None, facts)), note)


def encode_png(pixels: Pixels) -> bytes:
    """uint8 ``[H, W, 3]`` RGB as the bytes of a PNG."""
    cv2 = opencv()
    _, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return bytes(data.tobytes())


def save_png(path: str | os.PathLike[str], pixels: Pixels) -> None:
    """Write uint8 RGB as a PNG that appears whole or not at all. Raises UsageError when it cannot be written."""
    target = Path(path)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        draft.write_bytes(encode_png(pixels))
        draft.replace(target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise UsageError(f"{target} cannot be written: {error.strerror}", "choose another file with -o") from None


def _boxes(record: Record, which: str, schema: Schema | None) -> tuple[Pixels, str]:
    """The boxes asked for, and a word for what they are (empty when nobody says)."""
    other = next((kind for kind in ("proposal", "regressed") if f"{kind}_boxes" in record.extra), "")
    main = schema.boxes if schema else {"proposal": "regressed", "regressed": "proposal"}.get(other, "")
    kind = {"boxes": main, "pooled": schema.pooled if schema else ""}.get(which, which)
    pooled = schema is not None and kind == schema.pooled
    word = f"{kind} boxes" + ", pooled" * pooled if kind else ""
    if which == "boxes" or (kind and kind == main):
        return record.boxes, word
    if kind and kind == other:
        return record.array(f"{other}_boxes"), word
    held = " and ".join(filter(None, (main, other))) or "unnamed"
    raise UsageError(f"the record has no boxes that are known as {which}, only {held} ones", "choose --which boxes")


def _rows(record: Record, top: int, min_conf: float) -> list[int]:
    """Rows to draw, the surest first; all in order where there are no confidences."""
    confs = record.extra.get("object_confs")
    if confs is None:
        return list(range(len(record)))[:top]
    order = np.argsort(-confs[: len(record)], kind="stable")
    return [int(row) for row in order if confs[row] >= min_conf][:top]


def _label(record: Record, row: int, labels: Labels | None) -> str:
    confs = record.extra.get("object_confs")
    name = region_name(record, row, labels)
    return name if confs is None else f"{name} {confs[row]:.2f}"


def _colour(i: int) -> Colour:
    """Colours as different as can be, however many: hues a golden section apart, in four strengths."""
    strength = ((0.75, 1.0), (0.95, 0.85), (0.45, 1.0), (0.8, 0.65))[i % 4]
    return cast(Colour, tuple(round(255 * c) for c in colorsys.hsv_to_rgb(i * 0.618034 % 1.0, *strength)))


def _ink(plate: Colour) -> Colour:
    """Black or white, whichever stands out more: 4.5 to 1 at least, by the contrast ratio of WCAG 2."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in plate)]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return _BLACK if (luminance + 0.05) ** 2 > 1.05 * 0.05 else _WHITE


@dataclass
class _Sheet:
    """A canvas to draw on: the picture, enlarged by ``zoom``, and the height of its text in pixels."""

    canvas: Pixels
    zoom: float
    text: float

    @classmethod
    def of(cls, pixels: Pixels) -> _Sheet:
        cv2 = opencv()
        zoom = min(max(1.0, _LONG_SIDE / max(pixels.shape[:2])), _MOST_ZOOM)
        size = [max(1, round(side * zoom)) for side in pixels.shape[1::-1]]
        canvas = pixels if zoom == 1.0 else cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)
        text = max(_LEAST_TEXT, min(max(size) / 80, min(size) / 12))
        # A narrow or flat picture gets a margin, for its labels and the footer.
        right, below = (max(0, round(least * text) - side) for least, side in zip((20, 6), size, strict=True))
        canvas = cv2.copyMakeBorder(canvas, 0, below, 0, right, cv2.BORDER_CONSTANT, value=_MARGIN)
        return cls(canvas, zoom, text)

    def regions(self, boxes: Pixels, texts: Sequence[str]) -> None:
        """Draw boxes ``[N, 4]``, in pixels of the original, with their labels."""
        boxes = boxes * self.zoom
        pad = round(self.text / 4)
        sizes = [(width + 2 * pad, height + 2 * pad) for width, height in map(self._measure, texts)]
        plates = place(boxes, sizes, (self.canvas.shape[1], self.canvas.shape[0]))
        order = np.argsort(-area(boxes), kind="stable")
        for i in order:
            self._outline(boxes[i], _colour(i))
        for i in order:
            self._leader(plates[i], boxes[i], _colour(i))
        for i in order:
            self._plate(plates[i], texts[i], pad, _colour(i))

    def with_footer(self, facts: str, note: str) -> Pixels:
        """The canvas with a strip of text below."""
        cv2 = opencv()
        lines = [(line, _WHITE) for line in self._wrap(facts)] + [(line, _AMBER) for line in self._wrap(note)]
        step = round(self.text * 1.5)
        strip = np.full((step * len(lines) + step // 2, self.canvas.shape[1], 3), _BLACK, np.uint8)
        for i, (line, colour) in enumerate(lines):
            self._write(strip, line, round(self.text / 2), step * (i + 1), colour)
        return np.asarray(cv2.vconcat([self.canvas, strip]))

    def _outline(self, box: Pixels, colour: Colour) -> None:
        cv2 = opencv()
        thick = max(2, round(self.text / 8))
        limit = np.array(self.canvas.shape[1::-1] * 2) - 1
        x0, y0, x1, y1 = (int(v) for v in np.clip(np.rint(box), 0, limit))
        cv2.rectangle(self.canvas, (x0, y0), (x1, y1), _BLACK, thick + 2)
        cv2.rectangle(self.canvas, (x0, y0), (x1, y1), colour, thick)

    def _leader(self, plate: Pixels, box: Pixels, colour: Colour) -> None:
        """A line from a plate to its box, where they are apart."""
        cv2 = opencv()
        ends = leader(plate, box)
        if ends:
            cv2.line(self.canvas, *ends, _BLACK, 4, cv2.LINE_AA)
            cv2.line(self.canvas, *ends, colour, 2, cv2.LINE_AA)

    def _plate(self, plate: Pixels, text: str, pad: int, colour: Colour) -> None:
        cv2 = opencv()
        x0, y0, x1, y1 = (int(v) for v in plate)
        cv2.rectangle(self.canvas, (x0, y0), (x1 - 1, y1 - 1), colour, cv2.FILLED)
        cv2.rectangle(self.canvas, (x0, y0), (x1 - 1, y1 - 1), _BLACK, 1)
        self._write(self.canvas, text, x0 + pad, y1 - pad - round(self.text / 5), _ink(colour))

    def _measure(self, text: str) -> tuple[int, int]:
        cv2 = opencv()
        (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, self._scale, self._weight)
        return int(width), round(self.text)

    def _write(self, canvas: Pixels, text: str, x: int, base: int, colour: Colour) -> None:
        cv2 = opencv()
        cv2.putText(canvas, text, (x, base), cv2.FONT_HERSHEY_SIMPLEX, self._scale, colour, self._weight, cv2.LINE_AA)

    @property
    def _scale(self) -> float:
        return self.text / 28  # Hershey letters are about 28 pixels high, with their descenders, at scale 1

    @property
    def _weight(self) -> int:
        return max(1, round(self.text / 14))

    def _wrap(self, text: str) -> list[str]:
        lines: list[str] = []
        for word in text.split():
            joined = f"{lines[-1]} {word}" if lines else word
            if lines and self._measure(joined)[0] + self.text < self.canvas.shape[1]:
                lines[-1] = joined
            else:
                lines.append(word)
        return lines

"""An answer and what it looked at: regions in the light of their attention, question and answers below the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featx.decode import opencv
from featx.draw.letters import Colour, Pixels, measure, wrap, write
from featx.draw.plates import area, leader, place
from featx.errors import UsageError
from featx.labels import region_name
from featx.record import Record

_LONG_SIDE, _MOST_ZOOM = 1280, 8  # small photos are enlarged up to this, so that text has room
_LEAST_WIDTH = 560  # of the canvas: room for a question
_DARK = 0.5  # brightness where nobody looked
_OUTLINED, _NAMED, _MOST_NAMES = 0.12, 0.3, 5  # shares of the strongest attention
_LEAST_SCORE = 0.005  # of a second answer that is shown: less is 0 %
_GROUND: Colour = (24, 26, 31)
_RULE: Colour = (58, 62, 70)
_WHITE: Colour = (244, 245, 247)
_GREY: Colour = (154, 160, 170)
_GLOW: Colour = (255, 196, 61)
_INK: Colour = (32, 24, 4)


@dataclass(frozen=True)
class Said:
    """What one model said: its answers with their scores, the surest first; ``name`` when there are several models."""

    answers: Sequence[tuple[str, float]]
    name: str = ""


def draw_answer(
    pixels: Pixels,
    record: Record,
    weights: Sequence[float],
    question: str,
    said: Sequence[Said],
    labels: Mapping[str, Any] | None = None,
    *,
    footer: str = "",
) -> Pixels:
    """The picture with question and answers: uint8 RGB.

    pixels: the upright original of the record. weights: attention of each region; only their proportions matter. Where
    it is strongest the picture keeps its light, elsewhere it is dimmed; regions with a fair share are outlined, the
    strongest are named. Below stand the question and what each model said. Raises UsageError when the picture is not
    the record's, or there is not one weight for each region.
    """
    if pixels.shape != (*record.size, 3) or len(weights) != len(record):
        raise UsageError(
            f"the picture is {pixels.shape[1]} x {pixels.shape[0]} with {len(weights)} weights, the record was made "
            f"from {record.size[1]} x {record.size[0]} and has {len(record)} regions",
            "draw on the picture the record was extracted from, upright, with one weight for each region",
        )
    cv2 = opencv()
    zoom = min(max(1.0, _LONG_SIDE / max(pixels.shape[:2])), _MOST_ZOOM)
    size = [max(1, round(side * zoom)) for side in pixels.shape[1::-1]]
    canvas = pixels.copy() if zoom == 1.0 else cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)
    text = max(16, round(max(size) / 64))
    boxes = record.boxes[: len(record)].astype(np.float64) * zoom
    shares = np.asarray(weights, np.float64)
    shares = shares / shares.max() if len(shares) and shares.max() > 0 else shares
    canvas = _lit(canvas, boxes, shares)
    order = [int(i) for i in np.argsort(shares, kind="stable") if shares[i] >= _OUTLINED]
    for i in order:
        _outline(canvas, boxes[i], float(shares[i]), text)
    named = [i for i in reversed(order) if shares[i] >= _NAMED][:_MOST_NAMES]
    whole = max(float(np.sum(weights)), 1e-12)
    names = [f"{region_name(record, i, labels)}  {100 * weights[i] / whole:.0f} %" for i in named]
    _plates(canvas, boxes[named], names, text)
    return _framed(canvas, _caption(canvas.shape[1], question, said, footer, text))


def _lit(canvas: Pixels, boxes: Pixels, shares: Pixels) -> Pixels:
    """The picture, dimmed by how little attention each pixel got; edges are soft."""
    cv2 = opencv()
    height, width = canvas.shape[:2]
    light = np.zeros((height, width), np.float32)
    for i in np.argsort(shares, kind="stable"):
        x0, y0, x1, y1 = _corners(boxes[i], width, height)
        inside = light[y0 : y1 + 1, x0 : x1 + 1]
        np.maximum(inside, np.float32(shares[i]), out=inside)
    blur = max(3, round(max(width, height) / 110)) | 1
    light = cv2.GaussianBlur(light, (0, 0), blur / 2)[..., None]
    grey = canvas.mean(axis=2, keepdims=True)
    faded = 0.55 * grey + 0.45 * canvas  # where nobody looked colours fade, too
    out = light * canvas + (1 - light) * _DARK * faded
    return np.asarray(np.clip(np.rint(out), 0, 255).astype(np.uint8))


def _outline(canvas: Pixels, box: Pixels, share: float, text: int) -> None:
    """Stronger attention, thicker and more opaque lines."""
    cv2 = opencv()
    x0, y0, x1, y1 = _corners(box, canvas.shape[1], canvas.shape[0])
    thick = max(2, round(text / 5 * share))
    layer = canvas.copy()
    cv2.rectangle(layer, (x0, y0), (x1, y1), (0, 0, 0), thick + 2, cv2.LINE_AA)
    cv2.rectangle(layer, (x0, y0), (x1, y1), _GLOW, thick, cv2.LINE_AA)
    opacity = 0.25 + 0.75 * share
    canvas[:] = cv2.addWeighted(layer, opacity, canvas, 1 - opacity, 0)


def _corners(box: Pixels, width: int, height: int) -> tuple[int, int, int, int]:
    limit = np.array([width, height, width, height]) - 1
    x0, y0, x1, y1 = (int(v) for v in np.clip(np.rint(box), 0, limit))
    return x0, y0, x1, y1


def _plates(canvas: Pixels, boxes: Pixels, names: Sequence[str], text: int) -> None:
    """A name for each box, where it hides neither another name nor a small box."""
    cv2, pad = opencv(), round(text * 0.4)
    sizes = [(measure(name, text) + 2 * pad, text + 2 * pad) for name in names]
    plates = place(boxes, sizes, (canvas.shape[1], canvas.shape[0]))
    for i in np.argsort(-area(boxes), kind="stable"):
        ends = leader(plates[i], boxes[i])
        if ends:
            cv2.line(canvas, *ends, _GLOW, 2, cv2.LINE_AA)
        x0, y0, x1, y1 = (int(v) for v in plates[i])
        cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), _GLOW, cv2.FILLED)
        write(canvas, names[i], (x0 + pad, y1 - pad - round(text * 0.12)), text, _INK)


def _framed(canvas: Pixels, caption: Pixels) -> Pixels:
    """The caption below the picture; a narrow picture stands in the middle."""
    cv2 = opencv()
    spare = caption.shape[1] - canvas.shape[1]
    if spare > 0:
        sides = (spare // 2, spare - spare // 2)
        canvas = cv2.copyMakeBorder(canvas, 0, 0, *sides, cv2.BORDER_CONSTANT, value=_GROUND)
    return np.asarray(cv2.vconcat([canvas, caption]))


def _caption(width: int, question: str, said: Sequence[Said], footer: str, text: int) -> Pixels:
    """Question, a line for each model with its answers, and a footer, on a dark ground as wide as the picture."""
    width = max(width, _LEAST_WIDTH)
    margin, large = round(text * 1.4), round(text * 1.5)
    lines = wrap(question, large, width - 2 * margin, bold=True)
    small = wrap(footer, round(text * 0.8), width - 2 * margin)
    row = round(text * 2.6)
    height = round(large * 1.45) * len(lines) + row * len(said) + round(text * 1.3) * len(small) + 2 * margin
    band = np.full((height, width, 3), _GROUND, np.uint8)
    band[: max(2, text // 8)] = _GLOW
    y = margin
    for line in lines:
        y += round(large * 1.45)
        write(band, line, (margin, y - round(large * 0.45)), large, _WHITE, bold=True)
    indent = max((measure(one.name, text) for one in said if one.name), default=-text) + text
    for one in said:
        y += row
        _answers(band, one, (margin, y - round(text * 0.7)), indent, text)
    for line in small:
        y += round(text * 1.3)
        write(band, line, (margin, y), round(text * 0.8), _GREY)
    return band


def _answers(band: Pixels, said: Said, at: tuple[int, int], indent: int, text: int) -> None:
    """One model's line: its name, the best answer large with a bar for its score, the others behind it, small."""
    cv2 = opencv()
    (x, base), large = at, round(text * 1.5)
    write(band, said.name, (x, base), text, _GREY)
    x += indent
    for rank, (answer, score) in enumerate(said.answers):
        size, colour = (large, _GLOW) if rank == 0 else (text, _GREY)
        if rank and score < _LEAST_SCORE:
            break
        shown, value = answer or "(nothing)", f"{100 * score:.0f} %"
        width = measure(shown, size, bold=rank == 0) + text // 2 + measure(value, text)
        if rank and x + width > band.shape[1] - text:
            break
        write(band, shown, (x, base), size, colour, bold=rank == 0)
        write(band, value, (x + width - measure(value, text), base), text, _WHITE if rank == 0 else _GREY)
        if rank == 0:
            y = base + round(text * 0.5)
            cv2.rectangle(band, (x, y), (x + width, y + max(2, text // 6)), _RULE, cv2.FILLED)
            cv2.rectangle(band, (x, y), (x + round(width * min(1.0, max(0.0, score))), y + max(2, text // 6)), _GLOW,
                          cv2.FILLED)  # fmt: skip
        x += width + round(text * 1.6)

"""An answer and what it looked at: regions in the light of their attention, question and answers below the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from featx.decode import opencv
from featx.draw import letters
from featx.draw.letters import Colour, Pixels
from featx.draw.sheet import Sheet, corners
from featx.draw.views import are_cells
from featx.errors import UsageError
from featx.labels import region_name
from featx.record import Record

LEAST_WIDTH, LEAST_HEIGHT = 560, 160  # of the picture: room for a question and for names
_DARK, _FADED = (0.46, 0.48, 0.54), 0.45  # brightness (a little blue), and share of colour lost, where nobody looked
_NAMED, _MOST_NAMES = 1.3, 3  # even shares of the attention that give a region a name
_LEAST_SCORE = 0.005  # of a second answer that is shown: less is 0 %
GROUND: Colour = (24, 26, 31)
_RULE: Colour = (58, 62, 70)
_WHITE: Colour = (244, 245, 247)
_GREY: Colour = (154, 160, 170)
_GLOW: Colour = (255, 196, 61)


@dataclass(frozen=True)
class Said:
    """What one model said: its answers with their scores, the surest first; ``name`` when there are several models."""

    answers: Sequence[tuple[str, float]]
    name: str = ""


def draw_answer(
    pixels: Pixels,
    record: Record,
    weights: Sequence[float] | None,
    question: str,
    said: Sequence[Said],
    labels: Mapping[str, Any] | None = None,
    *,
    footer: Sequence[str] = (),
) -> Pixels:
    """The picture with question and answers: uint8 RGB.

    pixels: the upright original of the record. weights: attention of each region; only their proportions matter; None:
    nobody says, and the picture stays as it is. A region with more than an even share (1 / N) keeps its light and has
    an outline, the strongest have names, unless they are the cells of a grid; the rest of the picture is dimmed. Below
    stand the question, what each model said, and the facts of ``footer``, shortened in the middle if they are long.
    Raises UsageError when the picture is not the record's, or there is not one weight for each region.
    """
    count = len(record) if weights is None else len(weights)
    if pixels.shape != (*record.size, 3) or count != len(record):
        raise UsageError(
            f"the picture is {pixels.shape[1]} x {pixels.shape[0]} with {count} weights, the record was made "
            f"from {record.size[1]} x {record.size[0]} and has {len(record)} regions",
            "draw on the picture the record was extracted from, upright, with one weight for each region",
        )
    sheet = Sheet.of(pixels)
    shares = _shares(record, weights)
    light = _light(shares)
    if weights is not None:
        sheet.canvas = _lit(sheet.canvas, sheet.places(record.boxes[: len(record)]), light)
    sheet.widen(LEAST_WIDTH, LEAST_HEIGHT, GROUND)
    text = letter_size(sheet)
    if weights is not None and "object_ids" in record.extra:
        _point(sheet, record, shares, light, labels, text)
    return np.asarray(opencv().vconcat([sheet.canvas, caption(sheet.width, question, said, footer, text)]))


def _shares(record: Record, weights: Sequence[float] | None) -> Pixels:
    """What each region has of the attention, float64 ``[N]`` that sum to 1; of a grid, what each cell has."""
    shares = np.zeros(len(record)) if weights is None else np.asarray(weights, np.float64)
    if "object_ids" not in record.extra:
        shares = np.where(are_cells(record.boxes[: len(record)]), shares, 0)
    return cast(Pixels, shares / max(float(shares.sum()), 1e-12))


def _point(
    sheet: Sheet, record: Record, shares: Pixels, light: Pixels, labels: Mapping[str, Any] | None, text: int
) -> None:
    """Outlines of the regions in the light, and names of the strongest."""
    boxes = sheet.places(record.boxes[: len(record)])
    order = [int(i) for i in np.argsort(shares, kind="stable") if light[i] > 0]
    for i in order:  # the strongest last, over the others
        strength = float(light[i]) ** 2  # lines catch the eye more than light does
        sheet.outline(boxes[i], _GLOW, max(2, round(text / 5 * strength)), 0.3 + 0.7 * strength)
    named = [i for i in reversed(order) if i == order[-1] or shares[i] * len(shares) >= _NAMED][:_MOST_NAMES]
    names = [f"{region_name(record, i, labels)}  {100 * shares[i]:.0f} %" for i in named]
    sheet.label(boxes[named], names, [_between(GROUND, _GLOW, light[i]) for i in named], text)


def letter_size(sheet: Sheet) -> int:
    """The height of letters that suits a picture, pixels."""
    return int(max(16, round(min(max(sheet.canvas.shape), 1.5 * sheet.width) / 56)))


def _light(shares: Pixels) -> Pixels:
    """How brightly each region is shown, 0..1: not at all up to an even share, wholly at the strongest."""
    if not len(shares) or shares.max() <= 0:
        return np.zeros(len(shares))
    even = 1 / len(shares)
    if shares.max() - even < 1e-9:  # all alike
        return np.ones(len(shares))
    return cast(Pixels, np.sqrt(np.clip((shares - even) / (shares.max() - even), 0, 1)))


def _lit(canvas: Pixels, boxes: Pixels, light: Pixels) -> Pixels:
    """The picture, dimmed where there is no light; edges are soft."""
    cv2 = opencv()
    shown = np.zeros(canvas.shape[:2], np.float32)
    for box, strength in zip(boxes, light, strict=True):
        x0, y0, x1, y1 = corners(box, canvas)
        inside = shown[y0 : y1 + 1, x0 : x1 + 1]
        np.maximum(inside, np.float32(strength), out=inside)
    shown = cv2.GaussianBlur(shown, (0, 0), max(1.5, max(canvas.shape) / 220))[..., None]
    grey = canvas.mean(axis=2, keepdims=True)
    faded = _FADED * grey + (1 - _FADED) * canvas
    out = shown * canvas + (1 - shown) * np.array(_DARK) * faded
    return np.asarray(np.clip(np.rint(out), 0, 255).astype(np.uint8))


def _between(first: Colour, second: Colour, share: float) -> Colour:
    return cast(Colour, tuple(round((1 - share) * a + share * b) for a, b in zip(first, second, strict=True)))


def caption(width: int, question: str, said: Sequence[Said], footer: Sequence[str], text: int) -> Pixels:
    """Question, a line for each model with its answers, and a footer, on a dark ground as wide as the picture.

    width and text, the height of letters, in pixels.
    """
    margin, large, small = round(text * 1.4), round(text * 1.5), round(text * 0.8)
    room = width - 2 * margin
    lines = letters.wrap(question, large, room, bold=True)
    facts = [letters.shortened(fact, small, room // 2) for fact in footer]
    notes = letters.wrap(" | ".join(facts), small, room)
    row, step = round(text * 2.8), round(large * 1.4)
    height = 2 * margin + step * len(lines) + row * len(said) + text // 2 + round(small * 1.6) * len(notes)
    band = np.full((height, width, 3), GROUND, np.uint8)
    band[: max(2, text // 8)] = _GLOW
    y = margin
    for line in lines:
        letters.write(band, line, (margin, letters.base(y, y + step, large)), large, _WHITE, bold=True)
        y += step
    names = [letters.shortened(one.name, text, room // 3) for one in said]
    indent = max((letters.measure(name, text) + text for name in names if name), default=0)
    for name, one in zip(names, said, strict=True):
        at = letters.base(y, y + row, large)
        letters.write(band, name, (margin, at), text, _GREY)
        _answers(band, one.answers, margin + indent, at, text)
        y += row
    y += text // 2
    for line in notes:
        y += round(small * 1.6)
        letters.write(band, line, (margin, y), small, _GREY)
    return band


def _answers(band: Pixels, answers: Sequence[tuple[str, float]], x: int, base: int, text: int) -> None:
    """One model's line from ``x`` on: the best answer large over a bar for its score, the others behind it, small."""
    cv2, end = opencv(), band.shape[1] - round(text * 1.4)
    for rank, (answer, score) in enumerate(answers):
        best, value = rank == 0, f"{100 * score:.0f} %"
        after = letters.measure(value, text) + text // 2
        room = end - x - after
        size = letters.fitting(answer, round(text * 1.6), text, room, bold=True) if best else text
        shown = letters.shortened(answer or "(nothing)", size, room, bold=best)
        width = letters.measure(shown, size, bold=best) + after
        if rank and (score < _LEAST_SCORE or shown != (answer or "(nothing)")):
            break
        letters.write(band, shown, (x, base), size, _GLOW if best else _GREY, bold=best)
        letters.write(band, value, (x + width - after + text // 2, base), text, _WHITE if best else _GREY)
        if best:
            top, bottom = base + round(text * 0.55), base + round(text * 0.55) + max(2, text // 6)
            cv2.rectangle(band, (x, top), (x + width, bottom), _RULE, cv2.FILLED)
            cv2.rectangle(band, (x, top), (x + round(width * min(1.0, max(0.0, score))), bottom), _GLOW, cv2.FILLED)
        x += width + round(text * 1.6)

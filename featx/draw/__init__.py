"""A record drawn on its picture: boxes, names, confidences, legible on any photo."""

from __future__ import annotations

import colorsys
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from featx.decode import opencv
from featx.draw import letters
from featx.draw.lattice import draw_grid
from featx.draw.letters import Colour, Pixels
from featx.draw.plates import area
from featx.draw.sheet import Sheet
from featx.errors import UsageError
from featx.labels import region_name
from featx.record import Record
from featx.schema import Schema

__all__ = ["draw", "encode_png", "save_png"]

Labels = Mapping[str, Sequence[str]]

_TOP = 36  # regions
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
    top: int | None = None,
    min_conf: float = 0.0,
    which: str = "boxes",
    note: str = "",
    key: str = "",
    schema: Schema | None = None,
) -> Pixels:
    """The picture with its regions: uint8 RGB, enlarged if it is small, with a footer.

    pixels: uint8 ``[H, W, 3]`` RGB, the upright original of the record. labels: names by ``objects`` and
    ``attributes``, or None: then ids are shown. Drawn are the ``top`` surest regions (36, or all cells of a
    grid) of at least ``min_conf``; small boxes lie over large ones. which: ``boxes`` (those the record calls so),
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
    grid = schema is not None and schema.boxes == "grid" and which in ("boxes", "pooled")
    rows = _rows(record, top or (len(record) if grid else _TOP), min_conf)
    sheet = Sheet.of(pixels)
    text = round(max(_LEAST_TEXT, max(sheet.canvas.shape) / 80))
    sheet.widen(20 * text, 6 * text, _MARGIN)
    drawn, colours = sheet.places(boxes[rows]), [_colour(i) for i in range(len(rows))]
    if grid:
        draw_grid(sheet, drawn, rows, text)
    else:
        for i in np.argsort(-area(drawn), kind="stable"):  # small boxes over large ones
            sheet.outline(drawn[i], colours[i], max(2, round(text / 8)))
        sheet.label(drawn, [_label(record, row, labels) for row in rows], colours, text)
    name = letters.shortened(key, text, sheet.width - text)
    facts = [name, f"{len(rows)} of {len(record)} boxes", kind, f"{size} pixels"]
    return _footer(sheet, " | ".join(filter(None, facts)), note, text)


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


def _footer(sheet: Sheet, facts: str, note: str, size: int) -> Pixels:
    """The canvas with a strip of text below."""
    cv2 = opencv()
    room, step = sheet.width - size, round(size * 1.5)
    lines = [(line, _WHITE) for line in letters.wrap(facts, size, room)]
    lines += [(line, _AMBER) for line in letters.wrap(note, size, room)]
    strip = np.full((step * len(lines) + step // 2, sheet.width, 3), _BLACK, np.uint8)
    for i, (line, colour) in enumerate(lines):
        letters.write(strip, line, (size // 2, step * (i + 1)), size, colour)
    return np.asarray(cv2.vconcat([sheet.canvas, strip]))

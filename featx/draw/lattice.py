"""A grid on a picture: lines of one colour around its cells, and the number of a row where it has room."""

from __future__ import annotations

from collections.abc import Sequence

from featx.decode import opencv
from featx.draw import letters
from featx.draw.letters import Colour, Pixels
from featx.draw.sheet import Sheet, corners
from featx.draw.views import are_cells

_LINE: Colour = (90, 230, 255)
_INK: Colour = (255, 255, 255)
_SHADE: Colour = (0, 0, 0)


def draw_grid(sheet: Sheet, boxes: Pixels, rows: Sequence[int], size: int) -> None:
    """Outline boxes ``[N, 4]`` of the canvas and write the number of each row into it; size: of letters, pixels.

    The box of a class token is the view, around all others; its number, and those of cells too small, are left out.
    """
    cv2 = opencv()
    fine = len(boxes) and (boxes[:, 2:] - boxes[:, :2]).min() < 3 * size  # a rim would hide the picture
    for colour, thick in ((_LINE, 1),) if fine else ((_SHADE, 3), (_LINE, 1)):
        for box in boxes:
            x0, y0, x1, y1 = corners(box, sheet.canvas)
            cv2.rectangle(sheet.canvas, (x0, y0), (x1, y1), colour, thick)
    pad = size // 3
    for row, box, is_cell in zip(rows, boxes, are_cells(boxes), strict=True):
        width, height = box[2] - box[0], box[3] - box[1]
        if is_cell and letters.measure(str(row), size) + 2 * pad < width and size + 2 * pad < height:
            line = letters.base(int(box[1]), int(box[1]) + size + 2 * pad, size)
            _write(sheet, str(row), (int(box[0]) + pad, line), size)


def _write(sheet: Sheet, text: str, place: tuple[int, int], size: int) -> None:
    """White letters with a dark shade behind them."""
    for dx, dy in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
        letters.write(sheet.canvas, text, (place[0] + dx, place[1] + dy), size, _SHADE)
    letters.write(sheet.canvas, text, place, size, _INK)

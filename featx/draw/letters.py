"""Text on a canvas, in any language: the outline fonts of OpenCV 5, the plain strokes of OpenCV 4 without accents."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np

from featx.decode import opencv

Pixels = np.ndarray[Any, np.dtype[Any]]
Colour = tuple[int, int, int]

_REGULAR, _BOLD = 400, 620  # weights of a font
_STROKES = 30  # Hershey letters are about 30 pixels high at scale 1
_CAPITALS = 0.73  # height of capitals and digits, for a size of 1


def measure(text: str, size: int, *, bold: bool = False) -> int:
    """Width of ``text`` in pixels; ``size`` is the height of its letters with what hangs below the line."""
    cv2 = opencv()
    if hasattr(cv2, "FontFace"):
        box = cv2.getTextSize((0, 0), text, (0, 0), cv2.FontFace("sans"), size, _BOLD if bold else _REGULAR)
        return int(box[2])
    (width, _), _ = cv2.getTextSize(_plain(text), cv2.FONT_HERSHEY_SIMPLEX, size / _STROKES, _thick(size, bold))
    return int(width)


def write(canvas: Pixels, text: str, at: tuple[int, int], size: int, colour: Colour, *, bold: bool = False) -> None:
    """Write ``text`` on uint8 RGB, its first letter standing on the point ``at`` (x, y)."""
    cv2 = opencv()
    if hasattr(cv2, "FontFace"):
        cv2.putText(canvas, text, at, colour, cv2.FontFace("sans"), size, _BOLD if bold else _REGULAR)
        return
    scale, thick = size / _STROKES, _thick(size, bold)
    cv2.putText(canvas, _plain(text), at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thick, cv2.LINE_AA)


def base(top: int, bottom: int, size: int) -> int:
    """The line on which letters stand that are centred between two heights of a canvas."""
    return round((top + bottom) / 2 + _CAPITALS * size / 2)


def wrap(text: str, size: int, width: int, *, bold: bool = False) -> list[str]:
    """Lines of at most ``width`` pixels, broken between words; inside one that is wider, as in languages without
    spaces, between letters."""
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if measure(joined, size, bold=bold) <= width:
            lines[max(0, len(lines) - 1) :] = [joined]
        else:
            lines += _broken(word, size, width, bold)
    return lines


def shortened(text: str, size: int, width: int, *, bold: bool = False) -> str:
    """``text``, without so much of its middle that it is at most ``width`` pixels wide: ``photos/...0042.jpg``."""
    parts, kept = _clusters(text), text
    for left in range(len(parts) - 1, -1, -1):
        if measure(kept, size, bold=bold) <= width:
            break
        head = left // 2
        kept = "".join(parts[:head]) + "..." + "".join(parts[len(parts) - (left - head) :])
    return kept


def fitting(text: str, size: int, least: int, width: int, *, bold: bool = False) -> int:
    """The largest size from ``least`` to ``size`` at which a text is at most ``width`` pixels wide, else ``least``."""
    sizes = (s for s in range(size, least, -1) if measure(text, s, bold=bold) <= width)
    return next(sizes, least)


def _broken(word: str, size: int, width: int, bold: bool) -> list[str]:
    lines = [""]
    for cluster in _clusters(word):
        if lines[-1] and measure(lines[-1] + cluster, size, bold=bold) > width:
            lines.append("")
        lines[-1] += cluster
    return lines


def _clusters(text: str) -> list[str]:
    """Letters with their accents."""
    found: list[str] = []
    for letter in text:
        if found and unicodedata.combining(letter):
            found[-1] += letter
        else:
            found.append(letter)
    return found


def _thick(size: int, bold: bool) -> int:
    return max(1, round(size / 16)) + bold


def _plain(text: str) -> str:
    """What the strokes can show: letters without accents, and a question mark for the rest."""
    parts = (unicodedata.normalize("NFKD", c) for c in unicodedata.normalize("NFC", text).replace("ß", "ss"))
    return "".join("".join(c for c in part if c.isascii()) or "?" for part in parts)

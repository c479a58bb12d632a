"""From whatever a decoder returns to uint8 RGB: depth, transparency, orientation."""

from __future__ import annotations

from typing import Any

import numpy as np

from featx.decode.tiff import Alpha

Pixels = np.ndarray[Any, np.dtype[Any]]

_ROWS = 256  # worked on at once, so that the wide intermediate types stay small
# round(v / 257): 257 = 65535 / 255 maps 0..65535 onto 0..255; it is odd, so no value lies halfway.
_EIGHT_BITS = ((np.arange(65536) + 128) // 257).astype(np.uint8)


def to_rgb(decoded: Pixels, alpha: Alpha = "straight", grey_key: int | None = None) -> Pixels:
    """uint8 ``[H, W, 3]`` RGB of a decoded picture.

    decoded: uint8 or uint16, ``[H, W]`` grey, ``[H, W, 3]`` BGR or ``[H, W, 4]`` BGRA. ``alpha`` says whether
    colours are already multiplied by their alpha. Pixels equal to ``grey_key`` become white.

    Transparent pixels are laid over white: ``c a + 1 - a``, rounded at the depth of the file. 16 bits become
    8 by ``round(v / 257)``.
    """
    out = np.empty((*decoded.shape[:2], 3), np.uint8)
    for top in range(0, len(out), _ROWS):
        rows = decoded[top : top + _ROWS]
        if rows.ndim == 2:
            if grey_key is not None:
                rows = np.where(rows == grey_key, np.iinfo(rows.dtype).max, rows)
            rows = rows[..., None]
        elif rows.shape[2] == 4:
            rows = _over_white(rows, alpha)
        if rows.dtype == np.uint16:
            rows = _EIGHT_BITS[rows]
        out[top : top + _ROWS] = rows[..., ::-1]
    return out


def _over_white(bgra: Pixels, alpha: Alpha) -> Pixels:
    top = np.iinfo(bgra.dtype).max
    wide = bgra.astype(np.uint32)  # 65535 squared plus half of 65535 just fits
    colour, cover = wide[..., :3], wide[..., 3:]
    if alpha == "premultiplied":
        mixed = np.minimum(colour + (top - cover), top)
    else:
        mixed = (colour * cover + top * (top - cover) + top // 2) // top
    return np.asarray(mixed, bgra.dtype)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """The picture turned as EXIF ``orientation`` (1 to 8) asks (CIPA DC-008, tag 0x0112)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)

"""Picture -> network input, to the bit as transformers' Pillow backend makes it."""

from __future__ import annotations

import numpy as np
import torch

from featx.schema import Array
from featx_extractors.towers.geometry import Frame
from featx_extractors.towers.resizing import FILTERS, Resizing


def to_input(pixels: Array, frame: Frame, how: Resizing) -> torch.Tensor:
    """uint8 ``[H, W, 3]`` RGB -> float32 ``[3, h, w]``."""
    grey = window(resized(pixels, frame, how), frame)
    scaled = (grey.astype(np.float64) * how.scale).astype(np.float32)
    normal = (scaled - np.array(how.mean, np.float32)) / np.array(how.std, np.float32)
    return torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1)))


def resized(pixels: Array, frame: Frame, how: Resizing) -> Array:
    """The whole picture in its new size, uint8 ``[h, w, 3]``."""
    if how.resample == "pil":
        from PIL import Image

        width_height = frame.resized[::-1]
        return np.asarray(Image.fromarray(pixels).resize(width_height, Image.Resampling(FILTERS.index(how.filter))))
    values = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].float()
    antialias = how.resample == "tensor-antialias"
    values = torch.nn.functional.interpolate(
        values, size=frame.resized, mode=how.filter, align_corners=False, antialias=antialias
    )
    return values.clamp(0, 255).round().to(torch.uint8)[0].permute(1, 2, 0).numpy()


def window(picture: Array, frame: Frame) -> Array:
    """What the frame's cut leaves of a resized picture; black where it reaches beyond."""
    (top, left), (height, width) = frame.offset, frame.size
    if (top, left) == (0, 0) and picture.shape[:2] == frame.size:
        return picture
    cut = picture[max(top, 0) : top + height, max(left, 0) : left + width]
    out = np.zeros((height, width, 3), picture.dtype)
    y, x = max(-top, 0), max(-left, 0)
    out[y : y + cut.shape[0], x : x + cut.shape[1]] = cut
    return out

"""Picture -> network input, and boxes between the two frames.

Three resizing rules are in use and each changes the features a little: Caffe subtracts the mean in float and lets
OpenCV scale both axes by one factor; detectron2 lets Pillow resize the 8-bit picture with antialiasing; the Hugging
Face demo interpolates in float without antialiasing.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from featx.schema import Array
from featx_extractors.copies import sent
from featx_extractors.profiles import Profile


@dataclass(frozen=True)
class Frame:
    """How the network's input relates to the original.

    size: (height, width) of the input; original: of the original; scale: (x, y), input pixels per original pixel.
    """

    size: tuple[int, int]
    original: tuple[int, int]
    scale: tuple[float, float]

    def _factors(self, boxes: torch.Tensor) -> torch.Tensor:
        return sent(torch.tensor([*self.scale, *self.scale], dtype=torch.float64), boxes.device)

    def to_original(self, boxes: torch.Tensor) -> torch.Tensor:
        """Boxes ``[..., 4]`` from input pixels to pixels of the original, float32."""
        return (boxes.double() / self._factors(boxes)).float()

    def to_input(self, boxes: torch.Tensor) -> torch.Tensor:
        """Boxes ``[..., 4]`` from pixels of the original to input pixels, float32.

        RoIPool rounds coordinates, and the clipping border is a whole number that may lie exactly on a rounding
        point. A result within float32 rounding of a whole number is therefore taken as that number, so that a
        border box survives the way to the original and back.
        """
        scaled = boxes.double() * self._factors(boxes)
        whole = scaled.round()
        return torch.where((scaled - whole).abs() <= scaled.abs() * 2.0**-23, whole, scaled).float()


def frame_for(height: int, width: int, profile: Profile) -> Frame:
    """The input frame of a picture: short side to ``short_side`` unless the long side would pass ``long_side``.

    A strip so thin that a side would vanish keeps one pixel there (the peers crash on it).
    """
    return (_isotropic if profile.size_rule == "isotropic" else _per_axis)(height, width, profile)


def _isotropic(height: int, width: int, profile: Profile) -> Frame:
    """Caffe: one factor for both axes; sizes round half to even, as OpenCV does when given fx and fy."""
    scale = profile.short_side / min(height, width)
    # The *rounded* long side is tested, so one of 1000.4 passes.
    if round(scale * max(height, width)) > profile.long_side:
        scale = profile.long_side / max(height, width)
    return Frame(_size(round(height * scale), round(width * scale)), (height, width), (scale, scale))


def _per_axis(height: int, width: int, profile: Profile) -> Frame:
    """detectron2 and the Hugging Face demo: sides are int(side * s + 0.5), and each axis has its own factor."""
    scale = profile.short_side / min(height, width)
    short = float(profile.short_side)
    new_h, new_w = (short, scale * width) if height < width else (scale * height, short)
    if max(new_h, new_w) > profile.long_side:
        shrink = profile.long_side / max(new_h, new_w)
        new_h, new_w = new_h * shrink, new_w * shrink
    size = _size(int(new_h + 0.5), int(new_w + 0.5))
    return Frame(size, (height, width), (size[1] / width, size[0] / height))


def _size(height: int, width: int) -> tuple[int, int]:
    return max(height, 1), max(width, 1)


def to_input(pixels: Array, frame: Frame, profile: Profile) -> torch.Tensor:
    """The network's input ``[3, H, W]`` float32 from an RGB uint8 picture ``[h, w, 3]``."""
    received = pixels if profile.channels == "rgb" else pixels[:, :, ::-1]
    mean = np.array(profile.pixel_mean, np.float32)
    std = np.array(profile.pixel_std, np.float32)
    height, width = frame.size
    if profile.resize == "cv2":
        centred = received.astype(np.float32) - mean
        out = _cv2_resize(centred, frame)
        chw = torch.from_numpy(np.ascontiguousarray(out)).permute(2, 0, 1)
        return chw / torch.from_numpy(std)[:, None, None] if (std != 1).any() else chw
    if profile.resize == "pil":
        chw = torch.from_numpy(_pil_resize(received, height, width)).permute(2, 0, 1).float()
    else:
        whole = torch.from_numpy(np.ascontiguousarray(received)).float().permute(2, 0, 1)[None]
        chw = torch.nn.functional.interpolate(whole, (height, width), mode="bilinear", align_corners=False)[0]
    return (chw - torch.from_numpy(mean)[:, None, None]) / torch.from_numpy(std)[:, None, None]


def _cv2_resize(centred: Array, frame: Frame) -> Array:
    if min(frame.original) * frame.scale[0] <= 0.5:  # OpenCV refuses to round a side to nothing
        return cv2.resize(centred, frame.size[::-1], interpolation=cv2.INTER_LINEAR)
    # With dsize unset, OpenCV samples at exactly 1 / scale rather than at the ratio of the rounded sizes.
    return cv2.resize(centred, None, fx=frame.scale[0], fy=frame.scale[1], interpolation=cv2.INTER_LINEAR)


def _pil_resize(pixels: Array, height: int, width: int) -> Array:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)).copy()

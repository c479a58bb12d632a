"""From a scene to the file a camera would have made of it: light, lens, sensor, JPEG."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from featx.scenes.backdrop import Picture, backdrop
from featx.scenes.paint import Light, paint
from featx.scenes.world import Scene, stream

_DARKER = (0.42, 0.40, 0.34)  # what a shadow takes from red, green and blue: it is a little blue


def photograph(scene: Scene) -> bytes:
    """The JPEG of a scene; the same bytes every time."""
    rng = stream(scene.seed, scene.split, scene.index, "paint")
    pixels = _exposed(_painted(scene, rng), rng)
    quality = int(rng.integers(55, 96))
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def _painted(scene: Scene, rng: np.random.Generator) -> Picture:
    """Background, then each thing over its shadow; RGB 0 to 255 float32 [height, width, 3]."""
    picture = backdrop(scene.width, scene.height, rng)
    angle = np.deg2rad(rng.uniform(-150, -30))  # from above, more or less
    light = Light(float(np.cos(angle)), float(np.sin(angle)))
    for thing in scene.things:
        pixels, cover = paint(thing, light, rng)
        high, wide = cover.shape[:2]
        _cast_shadow(picture, cover[..., 0], thing.left, thing.top, light, 0.045 * thing.extent + 1.5)
        where = slice(thing.top, thing.top + high), slice(thing.left, thing.left + wide)
        picture[where] = picture[where] * (1 - cover) + pixels * cover
    return picture


def _cast_shadow(picture: Picture, cover: Picture, left: int, top: int, light: Light, far: float) -> None:
    """Darken the picture, in place, where the thing keeps the light away; ``far`` pixels from it."""
    pad = int(np.ceil(4 * far))
    shadow = cv2.copyMakeBorder(cover, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    shift = np.array([[1, 0, -light.x * far], [0, 1, -light.y * far]], np.float32)
    shadow = cv2.warpAffine(shadow, shift, shadow.shape[::-1])
    shadow = cv2.GaussianBlur(shadow, (0, 0), 0.7 * far)
    high, wide = picture.shape[:2]
    x0, y0 = max(left - pad, 0), max(top - pad, 0)
    x1, y1 = min(left - pad + shadow.shape[1], wide), min(top - pad + shadow.shape[0], high)
    part = shadow[y0 - top + pad : y1 - top + pad, x0 - left + pad : x1 - left + pad, None]
    picture[y0:y1, x0:x1] *= 1 - part * np.array(_DARKER, np.float32)


def _exposed(picture: Picture, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Uneven light of some tint, an imperfect lens, sensor noise; uint8 [height, width, 3]."""
    high, wide = picture.shape[:2]
    angle, slant = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.16)
    y, x = np.mgrid[-1 : 1 : high * 1j, -1 : 1 : wide * 1j].astype(np.float32)
    field = rng.uniform(0.86, 1.14) * (1 + slant * (x * np.cos(angle) + y * np.sin(angle)))
    field *= 1 - rng.uniform(0, 0.1) * (x * x + y * y)
    picture = picture * field[..., None] * rng.uniform(0.95, 1.05, 3).astype(np.float32)
    if rng.random() < 0.3:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 0.9)), np.float32)
    noise = rng.standard_normal(picture.shape, np.float32) * np.float32(rng.uniform(0.5, 6.0))
    return np.clip(np.round(picture + noise), 0, 255).astype(np.uint8)
